//! What ends a command, and the exit code that says so.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};
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
    /// Nobody reads its results any more, as after `| head -1`: exit code 0.
    ReaderGone,
}

impl Problem {
    /// The exit code.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable(_) => 3,
            Self::ReaderGone => 0,
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(reason) | Self::Usage(reason) | Self::Unreachable(reason) => f.write_str(reason),
            Self::ReaderGone => Gone.fmt(f),
        }
    }
}

impl Error for Problem {}

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

failed!(StoreError, WarehouseError, ProjectError, shared::bus::BusError, cloud::ConnectError, cloud::SeekError);

impl From<cloud::config::ConfigError> for Problem {
    fn from(error: cloud::config::ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}

/// Where results go. A pipe that nobody reads any more is told from every other broken pipe by the error that this
/// writer gives: see [`Problem::ReaderGone`].
pub struct Results<W>(pub W);

impl<W: Write> Write for Results<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(gone)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(gone)
    }
}

/// What [`Results`] makes of a broken pipe.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("nobody reads the results any more")]
struct Gone;

fn gone(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => io::Error::new(io::ErrorKind::BrokenPipe, Gone),
        _ => error,
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        if error.get_ref().is_some_and(|inner| inner.is::<Gone>()) {
            return Self::ReaderGone;
        }
        Self::Failed(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{self, Format};
    use arrow::array::{Int64Array, RecordBatch};
    use shared::warehouse::{Answer, Cost};
    use std::sync::Arc;

    /// Fails as it is told.
    struct Fails(io::ErrorKind);

    impl Write for Fails {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn only_a_broken_pipe_of_the_results_is_no_failure() {
        let batch = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![1; 10_000])) as _)]).unwrap();
        let answer = Answer { schema: batch.schema(), batches: vec![batch], cost: Cost::default() };
        for format in [Format::Table, Format::Csv, Format::Json] {
            let print = |kind| rows::print(&answer, format, &mut Results(Fails(kind))).unwrap_err().into();
            assert_eq!(print(io::ErrorKind::BrokenPipe), Problem::ReaderGone, "{format:?}");
            assert!(matches!(print(io::ErrorKind::StorageFull), Problem::Failed(_)), "{format:?}");
        }
        let flushed = Results(Fails(io::ErrorKind::BrokenPipe)).flush().unwrap_err();
        assert_eq!(Problem::from(flushed), Problem::ReaderGone);
        // What another pipe or connection of ours says.
        let elsewhere = [io::ErrorKind::BrokenPipe.into(), io::Error::other("Broken pipe (os error 32)")];
        for error in elsewhere {
            assert!(matches!(Problem::from(error), Problem::Failed(_)));
        }
    }
}
