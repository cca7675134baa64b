//! The `Warehouse` port: tables that models build and people query, in BigQuery's SQL.
//!
//! Invariants. A reader sees a table as one commit left it, never a mixture. Every commit raises the table's version
//! and says which partitions it touched, so that whoever builds on the table can catch up from the version it last
//! consumed, whatever crashed in between.

mod load;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::partition::Partition;
use crate::store::StoreError;
use crate::table::{Partitioning, TableName};

pub use load::{Load, LoadMode, LoadPartition, Loaded, Loading, Replacement};
pub use state::{CHANGES, Change, Commit, Extent, TableState};

/// How a model's rows become its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Materialization {
    /// The SQL itself, run by whoever reads it.
    View,
    /// All rows, replacing what was there.
    Table,
    /// Rows replace those with the same key; others are added. The result must not hold a key twice.
    Merge {
        /// The columns of the key.
        unique_key: Vec<String>,
    },
    /// The rows of these partitions replace theirs. The result must not hold rows of other partitions.
    Overwrite {
        /// What is replaced, also where the result has no row for it.
        partitions: BTreeSet<Partition>,
    },
}

/// How a model's table is split and ordered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// The column that says the partition: a DATE or TIMESTAMP column by day, or an integer year.
    pub partition_by: Option<PartitionBy>,
    /// Columns by which rows are ordered within a partition.
    pub cluster_by: Vec<String>,
    /// Columns that name a row, if the model says so, whichever way it is built: a later merge finds rows by them.
    pub unique_key: Vec<String>,
}

/// The partition column of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionBy {
    /// The column.
    pub field: String,
    /// What it holds.
    pub column: PartitionColumn,
}

/// What a partition column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionColumn {
    /// A day.
    Date,
    /// An instant, partitioned by its UTC day.
    Timestamp,
    /// A civil time, partitioned by its day.
    Datetime,
    /// An integer year, from `start` up to but not including `end`.
    Year {
        /// The first year that has a partition of its own.
        start: i64,
        /// The year after the last.
        end: i64,
    },
}

impl PartitionBy {
    /// Whether its partitions are days or years.
    pub fn unit(&self) -> Partitioning {
        match self.column {
            PartitionColumn::Date | PartitionColumn::Timestamp | PartitionColumn::Datetime => Partitioning::Day,
            PartitionColumn::Year { .. } => Partitioning::Year,
        }
    }
}

/// Where SQL came from, for errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The model's file, or `query`.
    pub file: String,
    /// The line of the file on which the SQL starts, from 1.
    pub first_line: u32,
}

impl Origin {
    /// A text that begins on the first line of `file`.
    pub fn new(file: impl Into<String>) -> Self {
        Self { file: file.into(), first_line: 1 }
    }
}

/// One model to build.
#[derive(Debug, Clone)]
pub struct ModelRun {
    /// What is built.
    pub table: TableName,
    /// How.
    pub materialization: Materialization,
    /// Where its rows lie.
    pub layout: Layout,
    /// BigQuery SQL.
    pub sql: String,
    /// Where that stands.
    pub origin: Origin,
    /// Hash of the model.
    pub definition: String,
    /// The versions of its inputs that the commit records as consumed.
    pub inputs: BTreeMap<TableName, u64>,
    /// The version of the table that the plan was made against; another one there is a conflict. `None`: no table yet.
    pub expected: Option<u64>,
    /// The run, for the change log.
    pub cause: String,
}

/// Rows of a seed.
#[derive(Debug, Clone)]
pub struct SeedRun {
    /// What is built.
    pub table: TableName,
    /// Its rows.
    pub rows: RecordBatch,
    /// Hash of the seed.
    pub definition: String,
    /// The run, for the change log.
    pub cause: String,
}

/// What a commit did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// Rows that the model's query gave.
    pub rows: u64,
    /// The table after it.
    pub state: TableState,
    /// What it touched.
    pub extent: Extent,
    /// What it cost.
    pub cost: Cost,
}

/// What work in the warehouse cost; nothing on a laptop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Bytes that are on the bill.
    pub bytes_billed: u64,
    /// Time of slots, in milliseconds.
    pub slot_ms: u64,
}

impl Cost {
    /// Whether it cost nothing.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.bytes_billed += other.bytes_billed;
        self.slot_ms += other.slot_ms;
    }
}

/// The answer of a query.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its columns.
    pub schema: SchemaRef,
    /// Its rows.
    pub batches: Vec<RecordBatch>,
    /// What it cost.
    pub cost: Cost,
}

/// What is wrong with an SQL text, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}")]
pub struct SqlError {
    /// The file of its [`Origin`].
    pub file: String,
    /// The line, counted from [`Origin::first_line`].
    pub line: u32,
    /// The column in that line, from 1.
    pub column: u32,
    /// One sentence.
    pub message: String,
}

/// Why the warehouse did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum WarehouseError {
    /// The SQL is wrong or outside the supported subset.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// The rows cannot become the table: a key twice, a row of a partition that is not replaced.
    #[error("{table}: {reason}")]
    Rows {
        /// The table.
        table: TableName,
        /// What is wrong.
        reason: String,
    },
    /// Somebody committed the table meanwhile: plan again.
    #[error("table {0} has changed since it was read")]
    Conflict(TableName),
    /// A file of a table is missing or damaged.
    #[error("{object}, a file of table {table}, is damaged ({reason}): {} rebuilds it", remedy(.table))]
    Damaged {
        /// The table.
        table: TableName,
        /// The object.
        object: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The store below.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It may succeed once somebody has given leave, made what is missing or raised a limit.
    #[error("the warehouse refuses: {0}")]
    Blocked(String),
    /// Anything else that may pass.
    #[error("the warehouse failed: {0}")]
    Transient(String),
}

/// The command that makes a damaged table whole.
fn remedy(table: &TableName) -> String {
    match table.schema.as_str() {
        "raw" => format!("`strata replay {} --day DAY --from bronze`", table.table),
        _ => "`strata build --full-refresh`".to_owned(),
    }
}

/// Tables that models build and people query.
#[async_trait]
pub trait Warehouse: Send + Sync + 'static {
    /// What a raw table holds, and what of it `cause` brought last.
    async fn loaded(&self, table: &TableName, cause: &str) -> Result<Loaded, WarehouseError>;

    /// Replaces partitions of a raw table by bronze objects, in one commit, as the load's mode says. Returns the
    /// partitions that were replaced or dropped.
    async fn load(&self, load: Load<'_>) -> Result<BTreeSet<Partition>, WarehouseError>;

    /// The state of a table, or `None` when there is none.
    async fn state(&self, table: &TableName) -> Result<Option<TableState>, WarehouseError>;

    /// Builds a model in one commit.
    async fn build(&self, model: ModelRun) -> Result<Built, WarehouseError>;

    /// Replaces a seed's table in one commit.
    async fn seed(&self, seed: SeedRun) -> Result<Built, WarehouseError>;

    /// Answers a query. A bare table name is looked for in every schema.
    async fn query(&self, sql: &str, origin: &Origin) -> Result<Answer, WarehouseError>;

    /// All tables, in the order of their names.
    async fn tables(&self) -> Result<Vec<TableName>, WarehouseError>;
}
