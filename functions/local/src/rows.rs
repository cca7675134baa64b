//! The answer of a query as a table, CSV or JSON.

use std::io::{self, Write};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow::util::pretty::pretty_format_batches_with_options;
use clap::ValueEnum;
use serde_json::Value;
use shared::warehouse::Answer;

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// With a header line; null is empty.
    Csv,
    /// An array of objects.
    Json,
}

/// Prints an answer.
///
/// # Errors
/// Those of the writer, and of values that cannot be shown.
pub fn print(answer: &Answer, format: Format, out: &mut impl Write) -> io::Result<()> {
    match format {
        Format::Table => table(answer, out),
        Format::Csv => csv(answer, out),
        Format::Json => json(answer, out),
    }
}

fn options() -> FormatOptions<'static> {
    FormatOptions::new().with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.f+00"))
}

fn other(error: ArrowError) -> io::Error {
    io::Error::other(error)
}

/// The I/O error that the CSV writer wraps, as it came from below.
fn unwrapped(error: csv::Error) -> io::Error {
    let said = error.to_string();
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        _ => io::Error::other(said),
    }
}

fn table(answer: &Answer, out: &mut impl Write) -> io::Result<()> {
    let empty = [RecordBatch::new_empty(answer.schema.clone())];
    let batches = if answer.batches.is_empty() { &empty } else { answer.batches.as_slice() };
    let options = options().with_null("NULL");
    writeln!(out, "{}", pretty_format_batches_with_options(batches, &options).map_err(other)?)
}

fn csv(answer: &Answer, out: &mut impl Write) -> io::Result<()> {
    let options = options();
    let mut writer = csv::Writer::from_writer(out);
    writer.write_record(answer.schema.fields().iter().map(|field| field.name())).map_err(unwrapped)?;
    for batch in &answer.batches {
        let columns = formatters(batch, &options)?;
        for row in 0..batch.num_rows() {
            for column in &columns {
                let text = column.value(row).try_to_string().map_err(other)?;
                writer.write_field(text).map_err(unwrapped)?;
            }
            writer.write_record(None::<&[u8]>).map_err(unwrapped)?;
        }
    }
    writer.flush()
}

fn json(answer: &Answer, out: &mut impl Write) -> io::Result<()> {
    let options = options();
    let mut first = true;
    write!(out, "[")?;
    for batch in &answer.batches {
        let columns = formatters(batch, &options)?;
        for row in 0..batch.num_rows() {
            write!(out, "{}\n {{", if first { "" } else { "," })?;
            first = false;
            // Written field by field, in the order of the columns.
            for (index, ((field, column), text)) in
                answer.schema.fields().iter().zip(batch.columns()).zip(&columns).enumerate()
            {
                let comma = if index == 0 { "" } else { ", " };
                write!(out, "{comma}{}: {}", Value::from(field.name().as_str()), value(column, row, text)?)?;
            }
            write!(out, "}}")?;
        }
    }
    writeln!(out, "\n]")
}

fn formatters<'a>(batch: &'a RecordBatch, options: &'a FormatOptions<'a>) -> io::Result<Vec<ArrayFormatter<'a>>> {
    batch.columns().iter().map(|column| ArrayFormatter::try_new(column, options).map_err(other)).collect()
}

/// A value as JSON has it: numbers and truths as such, everything else as text.
fn value(column: &dyn Array, row: usize, text: &ArrayFormatter<'_>) -> io::Result<Value> {
    if column.is_null(row) {
        return Ok(Value::Null);
    }
    Ok(match column.data_type() {
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).into(),
        DataType::Boolean => column.as_boolean().value(row).into(),
        _ => Value::String(text.value(row).try_to_string().map_err(other)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int64Array, StringArray};
    use shared::warehouse::Cost;
    use std::sync::Arc;

    fn printed(format: Format) -> String {
        let batch = RecordBatch::try_from_iter([
            ("id", Arc::new(StringArray::from(vec![Some("a\"b"), None])) as _),
            ("n", Arc::new(Int64Array::from(vec![1, 2])) as _),
            ("mag", Arc::new(Float64Array::from(vec![Some(1.5), None])) as _),
        ])
        .unwrap();
        let answer = Answer { schema: batch.schema(), batches: vec![batch], cost: Cost::default() };
        let mut out = Vec::new();
        print(&answer, format, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_formats_are_what_programs_expect() {
        assert_eq!(printed(Format::Csv), "id,n,mag\n\"a\"\"b\",1,1.5\n,2,\n");
        let json: Value = serde_json::from_str(&printed(Format::Json)).unwrap();
        let expected = serde_json::json!([{"id": "a\"b", "n": 1, "mag": 1.5}, {"id": null, "n": 2, "mag": null}]);
        assert_eq!(json, expected);
        assert!(printed(Format::Table).contains("| NULL | 2 | NULL |"));
    }
}
