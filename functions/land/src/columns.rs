//! Typed rows of one partition, column by column, until they become an Arrow batch.
//!
//! Invariant: all columns have the same number of values, whatever was pushed.

use std::iter::repeat_n;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Builder, Int64Builder, RecordBatch, StringArray, StringBuilder, TimestampMillisecondBuilder,
};
use arrow::error::ArrowError;
use shared::capture::Manifest;
use shared::clock::Timestamp;
use shared::table::{Column, ColumnType, TableSpec, Value};

/// What a partition costs in memory per column before its first row.
const COLUMN_OVERHEAD: usize = 512;

enum Builder {
    Text(StringBuilder),
    Integer(Int64Builder),
    Float(Float64Builder),
    Timestamp(TimestampMillisecondBuilder),
}

impl Builder {
    /// Starts empty: most partitions of an answer get few rows.
    fn new(data_type: ColumnType) -> Self {
        match data_type {
            ColumnType::Text => Self::Text(StringBuilder::with_capacity(0, 0)),
            ColumnType::Integer => Self::Integer(Int64Builder::with_capacity(0)),
            ColumnType::Float => Self::Float(Float64Builder::with_capacity(0)),
            ColumnType::Timestamp => {
                Self::Timestamp(TimestampMillisecondBuilder::with_capacity(0).with_timezone("UTC"))
            }
        }
    }

    /// A value of another type, which [`unfit`] finds first, is null here.
    fn push(&mut self, value: &Value) {
        match (self, value) {
            (Self::Text(column), Value::Text(text)) => column.append_value(text),
            (Self::Integer(column), Value::Integer(number)) => column.append_value(*number),
            (Self::Float(column), Value::Float(number)) => column.append_value(*number),
            (Self::Timestamp(column), Value::Timestamp(at)) => column.append_value(at.timestamp_millis()),
            (Self::Text(column), _) => column.append_null(),
            (Self::Integer(column), _) => column.append_null(),
            (Self::Float(column), _) => column.append_null(),
            (Self::Timestamp(column), _) => column.append_null(),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Text(column) => Arc::new(column.finish()),
            Self::Integer(column) => Arc::new(column.finish()),
            Self::Float(column) => Arc::new(column.finish()),
            Self::Timestamp(column) => Arc::new(column.finish()),
        }
    }
}

/// Why a value cannot stand in a column, or `None` when it can.
pub(crate) fn unfit(column: &Column, value: &Value) -> Option<&'static str> {
    match (column.data_type, value) {
        (_, Value::Null) => column.required.then_some("it is blank"),
        (ColumnType::Text, Value::Text(_))
        | (ColumnType::Integer, Value::Integer(_))
        | (ColumnType::Timestamp, Value::Timestamp(_)) => None,
        (ColumnType::Float, Value::Float(number)) => (!number.is_finite()).then_some("it is not a number"),
        _ => Some("the dataset reads it as another type than the column has"),
    }
}

/// The rows of a partition that wait to be written.
pub(crate) struct Columns {
    builders: Vec<Builder>,
    observed_at: TimestampMillisecondBuilder,
    hashes: Int64Builder,
    rows: usize,
    bytes: usize,
}

impl Columns {
    pub(crate) fn new(spec: &TableSpec) -> Self {
        Self {
            builders: spec.columns.iter().map(|column| Builder::new(column.data_type)).collect(),
            observed_at: TimestampMillisecondBuilder::with_capacity(0).with_timezone("UTC"),
            hashes: Int64Builder::with_capacity(0),
            rows: 0,
            bytes: (spec.columns.len() + 2) * COLUMN_OVERHEAD,
        }
    }

    /// Adds a row whose values fit. `length` is that of its text. Returns by how much the memory has grown.
    pub(crate) fn push(&mut self, values: &[Value], observed_at: Timestamp, hash: i64, length: usize) -> usize {
        for (builder, value) in self.builders.iter_mut().zip(values) {
            builder.push(value);
        }
        self.observed_at.append_value(observed_at.timestamp_millis());
        self.hashes.append_value(hash);
        let bytes = length + (self.builders.len() + 2) * size_of::<i64>();
        self.rows += 1;
        self.bytes += bytes;
        bytes
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// About how much memory they take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The rows as [`TableSpec::schema`] has them, all of this capture.
    pub(crate) fn finish(mut self, spec: &TableSpec, manifest: &Manifest) -> Result<RecordBatch, ArrowError> {
        let capture = StringArray::from_iter_values(repeat_n(manifest.capture.to_string(), self.rows));
        let mut columns: Vec<ArrayRef> = self.builders.iter_mut().map(Builder::finish).collect();
        let observation: [ArrayRef; 2] = [Arc::new(self.observed_at.finish()), Arc::new(capture)];
        columns.extend(observation.clone());
        columns.push(Arc::new(self.hashes.finish()));
        columns.extend(observation);
        RecordBatch::try_new(spec.schema(), columns)
    }
}
