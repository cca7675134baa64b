//! DataFusion's errors as the port's.
//!
//! Invariant: an error about a stored object names the object and its table, an error about SQL names the SQL's file.

use std::error::Error;

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use parquet::errors::ParquetError;
use shared::store::StoreError;
use shared::table::TableName;
use shared::warehouse::{Origin, SqlError, WarehouseError};

use crate::manifest::owner;
use crate::reader::{Broken, Readers, Source};

/// Rows that cannot become the table, said from inside a stream.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadRows(pub(crate) String);

impl From<BadRows> for DataFusionError {
    fn from(bad: BadRows) -> Self {
        Self::External(Box::new(bad))
    }
}

/// What was being done when an error came.
pub(crate) struct Context<'a> {
    /// The table that is built; for a query, that of a damaged object whose name does not tell.
    pub(crate) table: Option<&'a TableName>,
    /// The SQL that ran, if any.
    pub(crate) origin: Option<&'a Origin>,
    /// The objects that could be read.
    pub(crate) sources: Vec<Source>,
    pub(crate) readers: &'a Readers,
}

impl Context<'_> {
    /// The error as the port has it. May read objects, to find the one that is damaged.
    pub(crate) async fn explain(&self, error: DataFusionError) -> WarehouseError {
        if let Some(bad) = find::<BadRows>(&error)
            && let Some(table) = self.table
        {
            return WarehouseError::Rows { table: table.clone(), reason: bad.0.clone() };
        }
        if let Some(broken) = find::<Broken>(&error) {
            return self.damaged(&broken.object, broken.reason.clone());
        }
        if let Some(store) = find::<StoreError>(&error) {
            return self.stored(store);
        }
        if !speaks_of_parquet(&error) {
            return self.other(&error);
        }
        for source in &self.sources {
            match self.readers.examine(source).await {
                Ok(None) => {}
                Ok(Some(reason)) => return self.damaged(&source.object, reason),
                Err(error) => return self.stored(&error),
            }
        }
        match self.sources.as_slice() {
            [only] => self.damaged(&only.object, first_line(&error)),
            _ => self.other(&error),
        }
    }

    fn damaged(&self, object: &str, reason: String) -> WarehouseError {
        let table = owner(object).map(|(table, _)| table).or_else(|| self.table.cloned());
        let table = table.unwrap_or_else(|| TableName::new("", ""));
        WarehouseError::Damaged { table, object: object.to_owned(), reason }
    }

    fn stored(&self, error: &StoreError) -> WarehouseError {
        match error {
            StoreError::NotFound { name } => self.damaged(name, "it is missing".to_owned()),
            // A read that can never succeed, of an object that a table needs.
            StoreError::Permanent { action: "read", name, reason } => self.damaged(name, reason.clone()),
            StoreError::Permanent { action, name, reason } => {
                StoreError::Permanent { action, name: name.clone(), reason: reason.clone() }.into()
            }
            StoreError::Blocked { action, name, reason } => {
                StoreError::Blocked { action, name: name.clone(), reason: reason.clone() }.into()
            }
            StoreError::Transient { action, name, reason } => {
                StoreError::Transient { action, name: name.clone(), reason: reason.clone() }.into()
            }
            StoreError::Conflict { name } => StoreError::Conflict { name: name.clone() }.into(),
        }
    }

    fn other(&self, error: &DataFusionError) -> WarehouseError {
        let root = error.find_root();
        match (root, self.origin) {
            (
                DataFusionError::ResourcesExhausted(_)
                | DataFusionError::IoError(_)
                | DataFusionError::Internal(_)
                | DataFusionError::ExecutionJoin(_),
                _,
            )
            | (_, None) => WarehouseError::Transient(first_line(error)),
            (_, Some(origin)) => at_start(origin, first_line(error)),
        }
    }
}

/// An error of SQL that is known to be somewhere in the text: at its first line.
pub(crate) fn at_start(origin: &Origin, message: String) -> WarehouseError {
    SqlError { file: origin.file.clone(), line: origin.first_line, column: 1, message }.into()
}

fn first_line(error: &DataFusionError) -> String {
    let text = error.find_root().to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

fn speaks_of_parquet(error: &DataFusionError) -> bool {
    matches!(
        error.find_root(),
        DataFusionError::ParquetError(_) | DataFusionError::ArrowError(..) | DataFusionError::External(_)
    ) && (find::<ParquetError>(error).is_some()
        || find::<ArrowError>(error).is_some_and(|error| matches!(error, ArrowError::ParquetError(_))))
}

/// The cause of this type, however deep DataFusion has wrapped it.
fn find<T: Error + 'static>(error: &DataFusionError) -> Option<&T> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = match error.downcast_ref::<DataFusionError>() {
            // These carry their cause without naming it as the source.
            Some(DataFusionError::Shared(inner)) => Some(inner.as_ref()),
            Some(DataFusionError::External(inner)) => Some(inner.as_ref()),
            Some(DataFusionError::ParquetError(inner)) => Some(inner.as_ref()),
            Some(DataFusionError::ArrowError(inner, _)) => Some(inner.as_ref()),
            Some(DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner)) => Some(inner.as_ref()),
            _ => match (error.downcast_ref::<ParquetError>(), error.downcast_ref::<ArrowError>()) {
                (Some(ParquetError::External(inner)), _) => Some(inner.as_ref()),
                (_, Some(ArrowError::ExternalError(inner))) => Some(inner.as_ref()),
                _ => error.source(),
            },
        };
    }
    None
}
