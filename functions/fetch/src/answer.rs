//! A source's answer as it arrives.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use shared::capture::Encoding;
use shared::clock::Timestamp;
use shared::dataset::{Dataset, Query};
use shared::function::Failure;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::Instant;

use crate::reading::unpack_start;

const LONGEST_REFUSAL: usize = 16 * 1024;

/// Whose turn it is to use the one connection, and when the last request was sent.
#[derive(Clone, Default)]
pub(crate) struct Turn(Arc<Mutex<Option<Instant>>>);

impl Turn {
    /// Waits for the connection, and until `spacing` has passed since the last request.
    pub(crate) async fn take(&self, spacing: Duration) -> OwnedMutexGuard<Option<Instant>> {
        let mut last = Arc::clone(&self.0).lock_owned().await;
        if let Some(last) = *last {
            tokio::time::sleep_until(last + spacing).await;
        }
        *last = Some(Instant::now());
        last
    }
}

/// The head of an answer; its body is still to be read. Holds the turn until it is dropped.
pub(crate) struct Answer {
    url: String,
    status: StatusCode,
    headers: HeaderMap,
    body: reqwest::Response,
    _turn: OwnedMutexGuard<Option<Instant>>,
}

/// Why an answer was not read to its end.
#[derive(Debug)]
pub(crate) enum Broken {
    /// It took too long: smaller questions may do better.
    TimedOut,
    Failure(Failure),
}

impl<F: Into<Failure>> From<F> for Broken {
    fn from(failure: F) -> Self {
        Self::Failure(failure.into())
    }
}

/// An answer that is not 200.
pub(crate) struct RefusedAnswer {
    pub(crate) url: String,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl RefusedAnswer {
    /// What a gateway would say of an answer that takes too long.
    pub(crate) fn timed_out(url: String) -> Self {
        let body = "no whole answer came in time".to_owned();
        Self { url, status: StatusCode::GATEWAY_TIMEOUT, headers: HeaderMap::new(), body }
    }

    /// What the source said, in one sentence.
    pub(crate) fn sentence(&self, query: &Query) -> String {
        let first = self
            .body
            .lines()
            .map(str::trim)
            .find(|line| !line.is_empty() && !line.starts_with(['<', '{']) && !line.starts_with("Error "));
        let said = first.map(|line| format!(": {}", line.chars().take(160).collect::<String>())).unwrap_or_default();
        format!("the source answered {} to {}{said}", self.status, query.path)
    }
}

impl Answer {
    pub(crate) fn new(url: String, response: reqwest::Response, turn: OwnedMutexGuard<Option<Instant>>) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        Self { url, status, headers, body: response, _turn: turn }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn is_success(&self) -> bool {
        self.status == StatusCode::OK
    }

    /// When the source made the answer.
    pub(crate) fn observed_at(&self, dataset: &dyn Dataset) -> Result<Timestamp, Failure> {
        let said = dataset.source().observed_at(&self.headers).map(shared::capture::whole_seconds);
        said.ok_or_else(|| Failure::Transient(format!("the answer of {} does not say when it was made", self.url)))
    }

    pub(crate) fn encoding(&self) -> Result<Encoding, Failure> {
        match self.headers.get(header::CONTENT_ENCODING).map(http::HeaderValue::as_bytes) {
            None | Some(b"identity") => Ok(Encoding::Identity),
            Some(b"gzip") => Ok(Encoding::Gzip),
            Some(other) => {
                let other = String::from_utf8_lossy(other);
                Err(Failure::Transient(format!("the answer of {} is packed as '{other}'", self.url)))
            }
        }
    }

    /// The next piece of the body as it came, or `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Broken> {
        let url = &self.url;
        self.body.chunk().await.map_err(|error| match error.is_timeout() {
            true => Broken::TimedOut,
            false => Failure::Transient(format!("the answer of {url} broke off: {}", innermost(&error))).into(),
        })
    }

    /// Reads the start of a refusal's body. What cannot be read of it does not matter.
    pub(crate) async fn refusal(mut self) -> RefusedAnswer {
        let encoding = self.encoding().unwrap_or(Encoding::Identity);
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = self.chunk().await {
            body.extend_from_slice(&chunk);
            if body.len() >= LONGEST_REFUSAL {
                break;
            }
        }
        body.truncate(LONGEST_REFUSAL);
        let body = String::from_utf8_lossy(&unpack_start(encoding, &body, LONGEST_REFUSAL)).into_owned();
        RefusedAnswer { url: self.url, status: self.status, headers: self.headers, body }
    }
}

/// The cause at the bottom: "connection refused" rather than "error sending request".
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
