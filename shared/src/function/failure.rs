//! Why a message was not handled, and the one table that turns that into an answer to the push.

use std::time::Duration;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::bus::BusError;
use crate::store::StoreError;
use crate::warehouse::WarehouseError;

/// Why a handler did not finish.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It may succeed when it is sent again.
    #[error("{0}")]
    Transient(String),
    /// It may succeed when it is sent again, but not before this long.
    #[error("{reason}")]
    Later {
        /// What happened.
        reason: String,
        /// Not before.
        after: Duration,
    },
    /// The source cannot be reached at all; it may be later.
    #[error("{0}")]
    Unreachable(String),
    /// It may succeed once somebody has made room or given leave.
    #[error("{0}")]
    Blocked(String),
    /// It can never succeed.
    #[error("{0}")]
    Poison(String),
}

impl Failure {
    /// The one table that turns a failure into an answer to the push.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Transient(_) | Self::Later { .. } | Self::Unreachable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Blocked(_) => StatusCode::INSUFFICIENT_STORAGE,
            Self::Poison(_) => StatusCode::UNPROCESSABLE_ENTITY,
        }
    }

    pub(super) fn kind(&self) -> FailureKind {
        match self {
            Self::Transient(_) | Self::Later { .. } => FailureKind::Transient,
            Self::Unreachable(_) => FailureKind::Unreachable,
            Self::Blocked(_) => FailureKind::Blocked,
            Self::Poison(_) => FailureKind::Poison,
        }
    }
}

/// The kind of a failure, as the answer to a push says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// Sent again with backoff.
    Transient,
    /// Sent again with backoff; the source is out of reach.
    Unreachable,
    /// A dead letter, until somebody has made room or given leave.
    Blocked,
    /// A dead letter.
    Poison,
}

impl FailureKind {
    /// As it is written.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Unreachable => "unreachable",
            Self::Blocked => "blocked",
            Self::Poison => "poison",
        }
    }
}

/// The body of an answer that is not 2xx.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What kind.
    pub kind: FailureKind,
    /// One sentence.
    pub error: String,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            // A conflict that reaches this far was lost to another writer: plan again from what is there now.
            StoreError::Transient { .. } | StoreError::Conflict { .. } | StoreError::NotFound { .. } => {
                Self::Transient(error.to_string())
            }
            StoreError::Blocked { .. } => Self::Blocked(error.to_string()),
            StoreError::Permanent { .. } => Self::Poison(error.to_string()),
        }
    }
}

impl From<BusError> for Failure {
    fn from(error: BusError) -> Self {
        if error.blocked { Self::Blocked(error.to_string()) } else { Self::Transient(error.to_string()) }
    }
}

impl From<WarehouseError> for Failure {
    fn from(error: WarehouseError) -> Self {
        match error {
            WarehouseError::Store(error) => error.into(),
            WarehouseError::Conflict(_) | WarehouseError::Transient(_) => Self::Transient(error.to_string()),
            WarehouseError::Blocked(_) => Self::Blocked(error.to_string()),
            WarehouseError::Sql(_) | WarehouseError::Rows { .. } | WarehouseError::Damaged { .. } => {
                Self::Poison(error.to_string())
            }
        }
    }
}
