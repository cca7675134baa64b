//! Who may push: asked before anything of a request but its head is read.

use async_trait::async_trait;
use axum::http::HeaderMap;

/// Decides from its head whether a request may be handled.
///
/// Invariant: of a request that is not admitted, the body is not read and nothing is done.
#[async_trait]
pub trait Admission: Send + Sync + 'static {
    /// Admits a request with these headers.
    ///
    /// # Errors
    /// [`NotAdmitted`] when it is not, in words that hold nothing secret.
    async fn admit(&self, headers: &HeaderMap) -> Result<(), NotAdmitted>;
}

/// Why a request is not admitted. What it says is logged and not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// It does not prove that it comes from who may push: 401.
    #[error("{0}")]
    Unverified(String),
    /// Its proof cannot be checked now: 503.
    #[error("{0}")]
    Unchecked(String),
}
