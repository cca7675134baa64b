//! What ends a command, and the exit code that says so.

use std::fmt;
use std::process::ExitCode;

use shared::dataset::UnknownDataset;
use shared::function::Failure;
use shared::store::StoreError;
use shared::warehouse::WarehouseError;
use transform::project::ProjectError;
use transform::run::RunError;

/// Why a command did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// It failed: exit code 1.
    Failed(String),
    /// It was asked wrongly: exit code 2.
    Usage(String),
    /// The source is not reachable: exit code 3.
    Unreachable(String),
}

impl Problem {
    /// The exit code.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable(_) => 3,
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(reason) | Self::Usage(reason) | Self::Unreachable(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Problem {}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unreachable(reason) => Self::Unreachable(reason),
            failure => Self::Failed(failure.to_string()),
        }
    }
}

impl From<UnknownDataset> for Problem {
    fn from(error: UnknownDataset) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<RunError> for Problem {
    fn from(error: RunError) -> Self {
        match error {
            RunError::NoModels(_) => Self::Usage(error.to_string()),
            error => Self::Failed(error.to_string()),
        }
    }
}

macro_rules! failed {
    ($($error:ty),*) => {
        $(impl From<$error> for Problem {
            fn from(error: $error) -> Self {
                Self::Failed(error.to_string())
            }
        })*
    };
}

failed!(StoreError, WarehouseError, ProjectError, shared::bus::BusError, std::io::Error);
