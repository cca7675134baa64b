//! What BigQuery is asked to do, as jobs that run once.
//!
//! Invariant: a job's id says what it does, and an id is never used for anything else. Whoever finds a job may start it:
//! if it was started before, it is waited for instead.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use shared::partition::Partition;
use shared::store::Generation;
use shared::table::TableName;
use shared::warehouse::{Cost, Origin, SqlError, WarehouseError};

use super::columns::Column;

/// One job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Unique in the project, for ever.
    pub id: String,
    /// What it does.
    pub work: Work,
}

/// What a job does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Replaces a partition, or the whole table, by an object of the lake. What is loaded is the object as it is when the
    /// job runs: that of the generation, or a newer one.
    Load {
        /// The object.
        object: String,
        /// Its generation when the load was decided.
        generation: Generation,
        /// What is replaced; everything, if not said.
        partition: Option<Partition>,
        /// The columns of the table.
        columns: Vec<Column>,
    },
    /// Runs an SQL statement.
    Statement(Statement),
}

/// An SQL statement, and where its text came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// BigQuery SQL.
    pub sql: String,
    /// The file of the SQL in it that is not ours.
    pub file: String,
    /// The line of that file on which that SQL begins, from 1.
    pub first_line: u32,
    /// How many lines of ours come before it.
    pub ours: u32,
}

impl Statement {
    /// A statement of ours.
    pub fn ours(sql: String) -> Self {
        Self { sql, file: "the warehouse".to_owned(), first_line: 1, ours: 0 }
    }

    /// The SQL of `origin`, alone.
    pub fn of(sql: &str, origin: &Origin) -> Self {
        Self { sql: sql.to_owned(), file: origin.file.clone(), first_line: origin.first_line, ours: 0 }
    }

    /// The SQL of `origin` between lines of ours.
    pub fn around(before: &str, sql: &str, after: &str, origin: &Origin) -> Self {
        let ours = u32::try_from(before.lines().count()).unwrap_or(0);
        let sql = format!("{before}\n{sql}\n{after}");
        Self { sql, file: origin.file.clone(), first_line: origin.first_line, ours }
    }

    /// The error at a line and column of the statement, both from 1; where no place is known, at the SQL's begin.
    pub(crate) fn error(&self, place: Option<(u32, u32)>, message: String) -> SqlError {
        let (line, column) = place.unwrap_or((self.ours + 1, 1));
        let line = self.first_line + line.saturating_sub(self.ours + 1);
        SqlError { file: self.file.clone(), line, column, message }
    }
}

/// How a job ended. It is not asked again: a job ends once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// It did what it was to do.
    Done {
        /// What it cost.
        cost: Cost,
        /// The rows that a statement inserted, changed and removed.
        affected: u64,
    },
    /// It did nothing.
    Failed(Trouble),
}

/// Why a job did nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// Another job like it may do better.
    Transient(String),
    /// Another may, once somebody has given leave, made what is missing or raised a limit.
    Blocked(String),
    /// The table itself is not there, or is another than it was made: it is to be made anew.
    Gone(String),
    /// The rows cannot become the table.
    Rows(String),
    /// The SQL is wrong.
    Sql {
        /// The file.
        file: String,
        /// The line, from 1.
        line: u32,
        /// The column, from 1.
        column: u32,
        /// What is wrong.
        message: String,
    },
}

impl Trouble {
    /// As the port says it of a table.
    pub(crate) fn of(self, table: &TableName) -> WarehouseError {
        match self {
            Self::Transient(reason) => WarehouseError::Transient(reason),
            Self::Blocked(reason) => WarehouseError::Blocked(reason),
            Self::Gone(reason) => {
                WarehouseError::Damaged { table: table.clone(), object: format!("the table {table} itself"), reason }
            }
            Self::Rows(reason) => WarehouseError::Rows { table: table.clone(), reason },
            Self::Sql { file, line, column, message } => SqlError { file, line, column, message }.into(),
        }
    }
}

/// Runs jobs.
#[async_trait]
pub trait Jobs: Send + Sync + 'static {
    /// Starts a job on a table, unless a job of its id was started before, and waits until that one has ended.
    ///
    /// # Errors
    /// When that cannot be known now; the job may be running.
    async fn run(&self, table: &TableName, job: &Job) -> Result<Ended, WarehouseError>;

    /// How many rows a table holds; `None` where there is none.
    ///
    /// # Errors
    /// When that cannot be known now.
    async fn rows(&self, table: &TableName) -> Result<Option<u64>, WarehouseError>;
}
