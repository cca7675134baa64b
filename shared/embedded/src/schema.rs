//! A table's columns as BigQuery knows them, and record batches brought into that shape.
//!
//! Invariant: every stored batch has exactly the Arrow types that [`arrow_schema`] gives for the manifest's columns,
//! all of them nullable, so that two plans of one model never disagree about what they wrote.

use std::sync::Arc;

use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use serde::{Deserialize, Serialize};

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Column {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: ColumnType,
}

/// BigQuery's types.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum ColumnType {
    Int64,
    Float64,
    Bool,
    String,
    Bytes,
    Date,
    Timestamp,
    Datetime,
    Time,
    Numeric,
    Array(Box<ColumnType>),
    Struct(Vec<Column>),
}

impl ColumnType {
    fn arrow(&self) -> DataType {
        match self {
            Self::Int64 => DataType::Int64,
            Self::Float64 => DataType::Float64,
            Self::Bool => DataType::Boolean,
            Self::String => DataType::Utf8,
            Self::Bytes => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Datetime => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Numeric => DataType::Decimal128(38, 9),
            Self::Array(element) => DataType::List(Arc::new(Field::new("item", element.arrow(), true))),
            Self::Struct(columns) => DataType::Struct(columns.iter().map(Column::field).collect()),
        }
    }

    /// The type that holds an Arrow type's values, if BigQuery has one.
    fn of(data_type: &DataType) -> Option<Self> {
        use DataType::{Binary, Boolean, Date32, Decimal128, Float64, Int64, List, Struct, Time64, Timestamp, Utf8};
        // The SQL module knows which of BigQuery's types stands for which of Arrow's.
        Some(match crate::sql::bigquery_type(data_type)? {
            Int64 => Self::Int64,
            Float64 => Self::Float64,
            Boolean => Self::Bool,
            Utf8 => Self::String,
            Binary => Self::Bytes,
            Date32 => Self::Date,
            Timestamp(_, Some(_)) => Self::Timestamp,
            Timestamp(_, None) => Self::Datetime,
            Time64(_) => Self::Time,
            Decimal128(..) => Self::Numeric,
            List(element) => Self::Array(Box::new(Self::of(element.data_type())?)),
            Struct(fields) => Self::Struct(
                fields
                    .iter()
                    .map(|field| Some(Column { name: field.name().clone(), kind: Self::of(field.data_type())? }))
                    .collect::<Option<_>>()?,
            ),
            _ => return None,
        })
    }
}

impl Column {
    fn field(&self) -> Field {
        Field::new(&self.name, self.kind.arrow(), true)
    }
}

/// The columns of what a plan or a file gives.
///
/// # Errors
/// A column's name, when BigQuery's tables have no type for it.
pub(crate) fn columns_of(schema: &Schema) -> Result<Vec<Column>, String> {
    let column = |field: &Arc<Field>| match ColumnType::of(field.data_type()) {
        Some(kind) => Ok(Column { name: field.name().clone(), kind }),
        None => Err(format!("column '{}' is of type {}, which tables do not have", field.name(), field.data_type())),
    };
    schema.fields().iter().map(column).collect()
}

/// The Arrow schema of stored columns.
pub(crate) fn arrow_schema(columns: &[Column]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(Column::field).collect::<Vec<_>>()))
}

/// A batch with the same columns, in order, cast to the types of `schema` where they differ.
pub(crate) fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    if batch.num_columns() != schema.fields().len() {
        return Err(ArrowError::SchemaError(format!(
            "{} columns where the table has {}",
            batch.num_columns(),
            schema.fields().len()
        )));
    }
    let column = |(array, field): (&arrow::array::ArrayRef, &Arc<Field>)| {
        if array.data_type() == field.data_type() { Ok(Arc::clone(array)) } else { cast(array, field.data_type()) }
    };
    let columns = batch.columns().iter().zip(schema.fields()).map(column).collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_read_back_exactly_from_the_manifest() {
        let columns = vec![
            Column { name: "id".into(), kind: ColumnType::Int64 },
            Column { name: "at".into(), kind: ColumnType::Timestamp },
            Column {
                name: "places".into(),
                kind: ColumnType::Array(Box::new(ColumnType::Struct(vec![Column {
                    name: "km".into(),
                    kind: ColumnType::Float64,
                }]))),
            },
        ];
        let text = serde_json::to_string(&columns).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Column>>(&text).unwrap(), columns);
        assert_eq!(columns_of(&arrow_schema(&columns)).unwrap(), columns);
    }
}
