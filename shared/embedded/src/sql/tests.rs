//! The supported subset against BigQuery's documented results.

mod expressions;
mod places;
mod properties;
mod queries;
mod refusals;
mod schemas;

use std::sync::Arc;

use arrow::array::{Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::catalog::MemTable;
use datafusion::prelude::SessionContext;
use shared::warehouse::Origin;

use super::{normalize, plan, session};

/// A session with a small table `readings` of four rows, and the same as `Lab.Readings`.
fn context() -> SessionContext {
    let context = session();
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("place", DataType::Utf8, true),
        Field::new("magnitude", DataType::Float64, true),
        Field::new("seen", super::normalize::timestamp(), true),
    ]));
    let hour = 3_600_000_000;
    let batch = RecordBatch::try_new(
        Arc::clone(&schema),
        vec![
            Arc::new(Int64Array::from(vec![1, 2, 3, 4])),
            Arc::new(StringArray::from(vec![Some("a"), Some("a"), Some("b"), None])),
            Arc::new(Float64Array::from(vec![Some(4.5), Some(2.5), None, Some(1.0)])),
            Arc::new(TimestampMicrosecondArray::from(vec![0, hour, 24 * hour, 25 * hour]).with_timezone("UTC")),
        ],
    )
    .unwrap();
    let table = Arc::new(MemTable::try_new(Arc::clone(&schema), vec![vec![batch]]).unwrap());
    context.register_table("readings", Arc::clone(&table) as _).unwrap();
    let lab = datafusion::catalog::MemorySchemaProvider::new();
    datafusion::catalog::SchemaProvider::register_table(&lab, "Readings".into(), table).unwrap();
    context.catalog("datafusion").unwrap().register_schema("Lab", Arc::new(lab)).unwrap();
    context
}

/// The rows of a query: cells between `|`, rows between `;`. An error is its sentence after `error:`.
async fn rows(context: &SessionContext, sql: &str) -> String {
    match run(context, sql).await {
        Ok(batches) => {
            let options = FormatOptions::default().with_null("NULL");
            let mut lines = Vec::new();
            for batch in &batches {
                for row in 0..batch.num_rows() {
                    let cells = batch.columns().iter().map(|column| {
                        ArrayFormatter::try_new(column.as_ref(), &options).unwrap().value(row).to_string()
                    });
                    lines.push(cells.collect::<Vec<_>>().join("|"));
                }
            }
            lines.join("; ")
        }
        Err(message) => format!("error: {message}"),
    }
}

async fn run(context: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>, String> {
    let planned = plan(context, sql, &Origin::new("query")).await.map_err(|error| error.message)?;
    let planned = normalize(planned).map_err(|error| error.to_string())?;
    let frame = context.execute_logical_plan(planned).await.map_err(|error| error.to_string())?;
    frame.collect().await.map_err(|error| error.to_string())
}

/// Checks a table of texts and expected rows, and tells of all that differ.
async fn check(cases: impl Iterator<Item = (String, &str)>) {
    let context = context();
    let mut wrong = Vec::new();
    for (sql, expected) in cases {
        let given = rows(&context, &sql).await;
        let fits = match expected.strip_prefix("error:") {
            Some(part) => given.starts_with("error:") && given.contains(part.trim()),
            None => given == expected,
        };
        if !fits {
            wrong.push(format!("{sql}\n    wanted {expected}\n    gave   {given}"));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
