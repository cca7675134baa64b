//! What a dataset's table looks like: names, types and units of its columns, its key, its partitions.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use chrono::{Datelike, NaiveDate};
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::partition::Partition;

/// When the source's server said that it made the answer that held the row (UTC, milliseconds).
pub const OBSERVED_AT: &str = "_observed_at";
/// The capture that the row was read from; of several with the same observation time, the smallest.
pub const CAPTURE: &str = "_capture";
/// XXH3-64 of the row's fields as they came.
pub const ROW_HASH: &str = "_row_hash";
/// When the source's server first showed the row, as [`OBSERVED_AT`] is when it last did.
pub const FIRST_OBSERVED_AT: &str = "_first_observed_at";
/// The capture that it was first read from; of several with the same observation time, the smallest.
pub const FIRST_CAPTURE: &str = "_first_capture";

/// A table of the warehouse: `raw.earthquakes`, `silver.stg_earthquakes`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct TableName {
    /// `raw`, `silver`, `gold`: a BigQuery dataset.
    pub schema: String,
    /// The table in it.
    pub table: String,
}

impl TableName {
    /// `schema.table`.
    pub fn new(schema: impl Into<String>, table: impl Into<String>) -> Self {
        Self { schema: schema.into(), table: table.into() }
    }

    /// The table that a dataset's bronze partitions are loaded into.
    pub fn raw(dataset: &str) -> Self {
        Self::new("raw", dataset)
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

impl From<TableName> for String {
    fn from(name: TableName) -> Self {
        name.to_string()
    }
}

impl TryFrom<String> for TableName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.split_once('.') {
            Some((schema, table)) if !schema.is_empty() && !table.is_empty() => Ok(Self::new(schema, table)),
            _ => Err(format!("'{text}' is not schema.table")),
        }
    }
}

/// The type of a column of a source's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// UTF-8 text (STRING).
    Text,
    /// 64-bit integer (INT64).
    Integer,
    /// 64-bit float (FLOAT64); never NaN or infinite.
    Float,
    /// Milliseconds since 1970, UTC (TIMESTAMP).
    Timestamp,
}

impl ColumnType {
    /// As Arrow and Parquet have it.
    pub fn arrow(self) -> DataType {
        match self {
            Self::Text => DataType::Utf8,
            Self::Integer => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
        }
    }
}

/// One typed value of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing was given.
    Null,
    /// Of a text column.
    Text(String),
    /// Of an integer column.
    Integer(i64),
    /// Of a float column.
    Float(f64),
    /// Of a timestamp column.
    Timestamp(Timestamp),
}

/// A column.
#[derive(Debug, Clone)]
pub struct Column {
    /// As the source writes it.
    pub name: &'static str,
    /// Its type.
    pub data_type: ColumnType,
    /// Whether a row without it cannot be read.
    pub required: bool,
}

impl Column {
    /// A column that may be null.
    pub const fn new(name: &'static str, data_type: ColumnType) -> Self {
        Self { name, data_type, required: false }
    }

    /// A column that every row must have.
    pub const fn required(name: &'static str, data_type: ColumnType) -> Self {
        Self { name, data_type, required: true }
    }
}

/// How the rows are split into partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partitioning {
    /// By the UTC day of a timestamp column.
    Day,
    /// By an integer column that holds a year.
    Year,
}

impl Partitioning {
    /// The partition that a day is in.
    pub fn partition_of_day(self, day: NaiveDate) -> Partition {
        match self {
            Self::Day => Partition::Day(day),
            Self::Year => Partition::Year(day.year()),
        }
    }
}

/// How a dataset's captures add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Growth {
    /// Each capture holds some row versions; the table is the set union of all.
    Union,
    /// Each capture is the whole table; readers follow the newest complete one.
    Snapshot,
}

/// The table that a dataset's captures become.
#[derive(Debug, Clone)]
pub struct TableSpec {
    /// The dataset's own columns, in order; ours follow them, as in [`TableSpec::schema`].
    pub columns: Vec<Column>,
    /// Index of the column that names the thing that a row is a version of.
    pub key: usize,
    /// Index of the column that says the partition.
    pub partition_column: usize,
    /// How it says so.
    pub partitioning: Partitioning,
    /// Names of the columns that rows are clustered by in the warehouse.
    pub clustering: Vec<&'static str>,
    /// What the rows of one partition are called in the lake: `events` for `events.parquet`.
    pub rows_are: &'static str,
    /// How captures add up.
    pub growth: Growth,
}

impl TableSpec {
    /// The schema of bronze and of the raw table: the columns, then our own five, which are never null.
    pub fn schema(&self) -> SchemaRef {
        let own = self.columns.iter().map(|column| Field::new(column.name, column.data_type.arrow(), !column.required));
        let ours = [
            Field::new(OBSERVED_AT, ColumnType::Timestamp.arrow(), false),
            Field::new(CAPTURE, DataType::Utf8, false),
            Field::new(ROW_HASH, DataType::Int64, false),
            Field::new(FIRST_OBSERVED_AT, ColumnType::Timestamp.arrow(), false),
            Field::new(FIRST_CAPTURE, DataType::Utf8, false),
        ];
        Arc::new(Schema::new(own.chain(ours).collect::<Vec<_>>()))
    }

    /// The name of the column that says the partition.
    pub fn partition_name(&self) -> &'static str {
        self.columns[self.partition_column].name
    }

    /// The partition of a row, or `None` when the value is of the wrong kind or out of range.
    pub fn partition_of(&self, value: &Value) -> Option<Partition> {
        match (self.partitioning, value) {
            (Partitioning::Day, Value::Timestamp(at)) => Some(Partition::day(*at)),
            (Partitioning::Year, Value::Integer(year)) => {
                i32::try_from(*year).ok().filter(|year| (0..=9999).contains(year)).map(Partition::Year)
            }
            _ => None,
        }
    }
}
