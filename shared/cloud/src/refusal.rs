//! What an error of Google's clients means: one table for HTTP and gRPC.

use google_cloud_auth::errors::CredentialsError;
use google_cloud_gax::error::Error;
use google_cloud_gax::error::rpc::Code;
use std::error::Error as _;

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// What was asked for does not exist.
    Missing,
    /// A precondition did not hold.
    Conflict,
    /// A range beyond the end.
    Beyond,
    /// It may succeed later.
    Transient,
    /// It may succeed once somebody has given leave.
    Forbidden,
    /// It cannot succeed as asked.
    Permanent,
}

impl Refusal {
    /// Reads the error. The HTTP status comes first: a failed precondition has no gRPC code there.
    pub(crate) fn of(error: &Error) -> Self {
        if let Some(status) = error.http_status_code().filter(|&status| status >= 400) {
            return match status {
                401 | 403 => Self::Forbidden,
                404 => Self::Missing,
                409 | 412 => Self::Conflict,
                416 => Self::Beyond,
                // 410: a resumable upload's session has ended.
                408 | 410 | 429 | 500.. => Self::Transient,
                _ => Self::Permanent,
            };
        }
        if let Some(status) = error.status() {
            return match status.code {
                Code::PermissionDenied | Code::Unauthenticated => Self::Forbidden,
                Code::NotFound => Self::Missing,
                Code::FailedPrecondition | Code::Aborted => Self::Conflict,
                Code::OutOfRange => Self::Beyond,
                Code::Cancelled
                | Code::DeadlineExceeded
                | Code::Internal
                | Code::ResourceExhausted
                | Code::Unavailable
                | Code::Unknown => Self::Transient,
                _ => Self::Permanent,
            };
        }
        if error.is_authentication() {
            let cause = error.source().and_then(|source| source.downcast_ref::<CredentialsError>());
            return if cause.is_some_and(CredentialsError::is_transient) { Self::Transient } else { Self::Forbidden };
        }
        // The request could not be put into words, or the answer was cut, garbled or had a wrong checksum.
        if error.is_binding() { Self::Permanent } else { Self::Transient }
    }
}

/// The error and its causes in one line.
pub(crate) fn sentence(error: &dyn std::error::Error) -> String {
    let mut sentence = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !sentence.contains(&text) {
            sentence = format!("{sentence}: {text}");
        }
        cause = error.source();
    }
    one_line(&sentence)
}

/// A text without its line breaks.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
