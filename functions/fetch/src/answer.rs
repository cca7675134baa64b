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

use crate::client::innermost;
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
    body: Option<reqwest::Response>,
    _turn: OwnedMutexGuard<Option<Instant>>,
}

/// An answer that is not 200.
pub(crate) struct RefusedAnswer {
    pub(crate) url: String,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl RefusedAnswer {
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
        Self { url, status, headers, body: Some(response), _turn: turn }
    }

    /// No head within the time: what a gateway would call 504.
    pub(crate) fn timed_out(url: String, turn: OwnedMutexGuard<Option<Instant>>) -> Self {
        Self { url, status: StatusCode::GATEWAY_TIMEOUT, headers: HeaderMap::new(), body: None, _turn: turn }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn is_success(&self) -> bool {
        self.status == StatusCode::OK
    }

    /// When the source made the answer; a time-out has no such time and needs none.
    pub(crate) fn observed_at(&self, dataset: &dyn Dataset) -> Result<Timestamp, Failure> {
        match dataset.source().observed_at(&self.headers) {
            Some(at) => Ok(shared::capture::whole_seconds(at)),
            None if self.body.is_none() => Ok(Timestamp::UNIX_EPOCH),
            None => Err(Failure::Transient(format!("the answer of {} does not say when it was made", self.url))),
        }
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
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        let Some(body) = &mut self.body else { return Ok(None) };
        body.chunk().await.map_err(|error| {
            let why = if error.is_timeout() { "it took too long".to_owned() } else { innermost(&error) };
            Failure::Transient(format!("the answer of {} broke off: {why}", self.url))
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
