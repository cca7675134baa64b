//! Seeds as rows: the cells of a CSV file in the types that the project gives them.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Date32Type, Field, Schema};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use chrono::{DateTime, NaiveDate, NaiveDateTime};

use crate::project::{Seed, SeedType};

/// A seed's cells do not read as the types of their columns.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// One cell does not.
    #[error("{file}, row {row}, column {column}: '{cell}' is not {wanted}")]
    Cell {
        /// The seed's file.
        file: String,
        /// From 1, the header not counted.
        row: usize,
        /// The column.
        column: String,
        /// What it holds.
        cell: String,
        /// The type's name.
        wanted: &'static str,
    },
    /// The columns do not make rows.
    #[error("{file}: {error}")]
    Rows {
        /// The seed's file.
        file: String,
        /// What Arrow says.
        error: ArrowError,
    },
}

/// The seed's rows.
pub(crate) fn rows(seed: &Seed) -> Result<RecordBatch, SeedError> {
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for (index, (name, data_type)) in seed.columns.iter().enumerate() {
        let cells = Cells { seed, index, wanted: data_type.name() };
        let column: ArrayRef = match data_type {
            SeedType::Int64 => Arc::new(cells.read(|cell| cell.parse().ok())?.collect::<Int64Array>()),
            SeedType::Float64 => Arc::new(cells.read(|cell| cell.parse().ok())?.collect::<Float64Array>()),
            SeedType::Bool => {
                let read = cells.read(|cell| cell.to_ascii_lowercase().parse().ok())?;
                Arc::new(read.collect::<BooleanArray>())
            }
            SeedType::Date => {
                let read = cells.read(|cell| NaiveDate::parse_from_str(cell, "%Y-%m-%d").ok())?;
                Arc::new(read.map(|day| day.map(Date32Type::from_naive_date)).collect::<Date32Array>())
            }
            SeedType::DateTime => Arc::new(cells.read(datetime)?.collect::<TimestampMicrosecondArray>()),
            SeedType::Timestamp => {
                let instant = |cell: &str| {
                    let zoned = DateTime::parse_from_rfc3339(cell).ok().map(|at| at.timestamp_micros());
                    zoned.or_else(|| datetime(cell))
                };
                let column = cells.read(instant)?.collect::<TimestampMicrosecondArray>();
                Arc::new(column.with_timezone("UTC"))
            }
            SeedType::String => Arc::new(cells.read(|cell| Some(cell.to_owned()))?.collect::<StringArray>()),
        };
        fields.push(Field::new(name, column.data_type().clone(), true));
        columns.push(column);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .map_err(|error| SeedError::Rows { file: seed.path.clone(), error })
}

struct Cells<'a> {
    seed: &'a Seed,
    index: usize,
    wanted: &'static str,
}

impl Cells<'_> {
    fn read<T>(&self, read: impl Fn(&str) -> Option<T>) -> Result<std::vec::IntoIter<Option<T>>, SeedError> {
        let mut values = Vec::with_capacity(self.seed.rows.len());
        for (row, cells) in self.seed.rows.iter().enumerate() {
            values.push(match &cells[self.index] {
                None => None,
                Some(cell) => Some(read(cell).ok_or_else(|| SeedError::Cell {
                    file: self.seed.path.clone(),
                    row: row + 1,
                    column: self.seed.columns[self.index].0.clone(),
                    cell: cell.clone(),
                    wanted: self.wanted,
                })?),
            });
        }
        Ok(values.into_iter())
    }
}

/// Microseconds since 1970 of a date and time, taken as UTC.
fn datetime(cell: &str) -> Option<i64> {
    ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(cell, format).ok())
        .map(|at| at.and_utc().timestamp_micros())
}
