//! Columns and values as BigQuery has them, and as Arrow has them.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, ListArray, StringArray, StructArray, TimestampMicrosecondArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use gcp_bigquery_client::model::field_type::FieldType;
use gcp_bigquery_client::model::table_field_schema::TableFieldSchema;
use gcp_bigquery_client::model::table_row::TableRow;
use gcp_bigquery_client::model::table_schema::TableSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A column of a table that is loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// As the source writes it; SQL does not tell capital letters.
    pub name: String,
    /// `STRING`, `INT64` and so on.
    #[serde(rename = "type")]
    pub kind: String,
}

/// The columns that hold what Arrow's hold.
///
/// # Errors
/// Names a column whose type tables do not have.
pub(crate) fn columns(schema: &Schema) -> Result<Vec<Column>, String> {
    let column = |field: &Arc<Field>| {
        let kind = match field.data_type() {
            DataType::Utf8 => "STRING",
            DataType::Int64 => "INT64",
            DataType::Float64 => "FLOAT64",
            DataType::Boolean => "BOOL",
            DataType::Date32 => "DATE",
            DataType::Timestamp(_, Some(_)) => "TIMESTAMP",
            other => return Err(format!("column '{}' is of type {other}, which tables do not have", field.name())),
        };
        Ok(Column { name: field.name().clone(), kind: kind.to_owned() })
    };
    schema.fields().iter().map(column).collect()
}

/// For a load.
pub(crate) fn table_schema(columns: &[Column]) -> TableSchema {
    let field = |column: &Column| {
        let kind = match column.kind.as_str() {
            "INT64" => FieldType::Integer,
            "FLOAT64" => FieldType::Float,
            "BOOL" => FieldType::Boolean,
            "DATE" => FieldType::Date,
            "TIMESTAMP" => FieldType::Timestamp,
            _ => FieldType::String,
        };
        TableFieldSchema::new(&column.name, kind)
    };
    TableSchema::new(columns.iter().map(field).collect())
}

fn field(schema: &TableFieldSchema) -> Field {
    let kind = match schema.r#type {
        FieldType::Integer | FieldType::Int64 => DataType::Int64,
        FieldType::Float | FieldType::Float64 => DataType::Float64,
        FieldType::Boolean | FieldType::Bool => DataType::Boolean,
        FieldType::Bytes => DataType::Binary,
        FieldType::Date => DataType::Date32,
        FieldType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        FieldType::Datetime => DataType::Timestamp(TimeUnit::Microsecond, None),
        FieldType::Time => DataType::Time64(TimeUnit::Microsecond),
        FieldType::Numeric => DataType::Decimal128(38, 9),
        FieldType::Record | FieldType::Struct => {
            DataType::Struct(schema.fields.iter().flatten().map(field).collect::<Fields>())
        }
        // Their text is all that people want of them.
        FieldType::String | FieldType::Bignumeric | FieldType::Geography | FieldType::Json | FieldType::Interval => {
            DataType::Utf8
        }
    };
    let repeated = schema.mode.as_deref() == Some("REPEATED");
    let kind = if repeated { DataType::List(Arc::new(Field::new("item", kind, true))) } else { kind };
    Field::new(&schema.name, kind, true)
}

/// The Arrow schema of an answer.
pub(crate) fn arrow_schema(schema: &TableSchema) -> SchemaRef {
    Arc::new(Schema::new(schema.fields.iter().flatten().map(field).collect::<Vec<_>>()))
}

/// The rows of an answer.
///
/// # Errors
/// Says which column holds something else than its type.
pub(crate) fn batch(schema: &SchemaRef, rows: &[TableRow]) -> Result<RecordBatch, String> {
    let column = |(at, field): (usize, &Arc<Field>)| {
        let cell = |row: &TableRow| row.columns.as_ref().and_then(|cells| cells.get(at)?.value.clone());
        let values: Vec<Value> = rows.iter().map(|row| cell(row).unwrap_or(Value::Null)).collect();
        array(field.data_type(), &values).map_err(|error| format!("column {}: {error}", field.name()))
    };
    let columns = schema.fields().iter().enumerate().map(column).collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(|error| error.to_string())
}

/// Values as the service writes them: scalars as text, arrays as `[{"v": …}]`, structs as `{"f": [{"v": …}]}`.
fn array(kind: &DataType, values: &[Value]) -> Result<ArrayRef, String> {
    let error = |error: arrow::error::ArrowError| error.to_string();
    let texts = || -> StringArray { values.iter().map(Value::as_str).collect() };
    Ok(match kind {
        DataType::Utf8 => Arc::new(texts()),
        DataType::Binary => {
            let decode = |text: &str| BASE64.decode(text).map_err(|error| error.to_string());
            let bytes = values.iter().map(|value| value.as_str().map(decode).transpose());
            let bytes = bytes.collect::<Result<Vec<_>, _>>()?;
            Arc::new(bytes.iter().map(Option::as_deref).collect::<BinaryArray>())
        }
        // Seconds as a decimal number, with an exponent.
        DataType::Timestamp(_, Some(zone)) => {
            let micros = |text: &str| seconds(text).ok_or_else(|| format!("'{text}' is no time"));
            let micros = values.iter().map(|value| value.as_str().map(micros).transpose());
            let micros = micros.collect::<Result<TimestampMicrosecondArray, _>>()?;
            Arc::new(micros.with_timezone(Arc::clone(zone)))
        }
        DataType::List(item) => {
            let lists: Vec<&[Value]> =
                values.iter().map(|value| value.as_array().map_or(&[][..], Vec::as_slice)).collect();
            let items: Vec<Value> = lists.iter().copied().flatten().map(|item| item["v"].clone()).collect();
            let offsets = OffsetBuffer::from_lengths(lists.iter().map(|list| list.len()));
            let items = array(item.data_type(), &items)?;
            Arc::new(ListArray::try_new(Arc::clone(item), offsets, items, None).map_err(error)?)
        }
        DataType::Struct(fields) => {
            let part = |(at, field): (usize, &Arc<Field>)| {
                let values: Vec<Value> = values.iter().map(|value| value["f"][at]["v"].clone()).collect();
                array(field.data_type(), &values)
            };
            let parts = fields.iter().enumerate().map(part).collect::<Result<Vec<_>, _>>()?;
            let there = NullBuffer::from_iter(values.iter().map(Value::is_object));
            Arc::new(StructArray::try_new(fields.clone(), parts, Some(there)).map_err(error)?)
        }
        kind => {
            let options = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(&texts(), kind, &options).map_err(error)?
        }
    })
}

/// Seconds since 1970 in microseconds; exact, for a double holds 15 digits.
#[expect(clippy::cast_possible_truncation, reason = "BigQuery's times are of the years 1 to 9999")]
fn seconds(text: &str) -> Option<i64> {
    text.parse::<f64>().ok().filter(|seconds| seconds.is_finite()).map(|seconds| (seconds * 1e6).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::util::display::{ArrayFormatter, FormatOptions};
    use serde_json::json;

    #[test]
    fn every_type_is_read_as_the_service_writes_it() {
        let schema: TableSchema = serde_json::from_value(json!({"fields": [
            {"name": "i", "type": "INTEGER"}, {"name": "f", "type": "FLOAT"}, {"name": "b", "type": "BOOLEAN"},
            {"name": "s", "type": "STRING"}, {"name": "x", "type": "BYTES"}, {"name": "d", "type": "DATE"},
            {"name": "t", "type": "TIMESTAMP"}, {"name": "dt", "type": "DATETIME"}, {"name": "n", "type": "NUMERIC"},
            {"name": "l", "type": "INTEGER", "mode": "REPEATED"},
            {"name": "r", "type": "RECORD", "fields": [{"name": "a", "type": "STRING"}]},
        ]}))
        .unwrap();
        let row = json!({"f": [
            {"v": "-7"}, {"v": "1.5E-3"}, {"v": "true"}, {"v": "a,b"}, {"v": "AQI="}, {"v": "2025-07-24"},
            {"v": "1.753149482123456E9"}, {"v": "2025-07-24T01:02:03"}, {"v": "1.25"},
            {"v": [{"v": "1"}, {"v": "2"}]}, {"v": {"f": [{"v": "in"}]}},
        ]});
        let nulls = json!({"f": [
            {"v": null}, {"v": null}, {"v": null}, {"v": null}, {"v": null}, {"v": null}, {"v": null}, {"v": null},
            {"v": null}, {"v": []}, {"v": null},
        ]});
        let rows: Vec<TableRow> = [row, nulls].map(|row| serde_json::from_value(row).unwrap()).into();
        let schema = arrow_schema(&schema);
        let batch = batch(&schema, &rows).unwrap();
        let shown = |row: usize| -> Vec<String> {
            let options = FormatOptions::new().with_null("-");
            let show = |column: &ArrayRef| ArrayFormatter::try_new(column, &options).unwrap().value(row).to_string();
            batch.columns().iter().map(show).collect()
        };
        let expected = [
            "-7",
            "0.0015",
            "true",
            "a,b",
            "0102",
            "2025-07-24",
            "2025-07-22T01:58:02.123456Z",
            "2025-07-24T01:02:03",
            "1.250000000",
            "[1, 2]",
            "{a: in}",
        ];
        assert_eq!(shown(0), expected);
        assert_eq!(shown(1), ["-", "-", "-", "-", "-", "-", "-", "-", "-", "[]", "-"]);
    }

    #[test]
    fn a_value_of_another_type_names_its_column() {
        let schema = TableSchema::new(vec![TableFieldSchema::integer("n")]);
        let row: TableRow = serde_json::from_value(json!({"f": [{"v": "many"}]})).unwrap();
        let error = batch(&arrow_schema(&schema), &[row]).unwrap_err();
        assert!(error.starts_with("column n: ") && error.contains("many"), "{error}");
    }
}
