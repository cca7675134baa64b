//! How complete the data are: what the source counts, day by day, beside what gold holds.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use chrono::TimeDelta;
use serde::Serialize;
use shared::clock::Timestamp;
use shared::dataset::{Cursor, Dataset};
use shared::store::read_json;
use shared::warehouse::{Origin, Warehouse};

use crate::pipeline::Data;
use crate::problem::Problem;

/// A window of the rows' own time, and how many rows it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// Inclusive.
    pub start: Timestamp,
    /// Inclusive.
    pub end: Timestamp,
    /// By the source.
    pub source: u64,
    /// In gold.
    pub ours: u64,
}

/// Counts the last `days` days before a dataset's watermark, oldest first. Nothing for a dataset that cannot be
/// counted, or has not been read yet.
///
/// # Errors
/// [`Problem::Unreachable`] when the source does not answer.
pub async fn take(
    data: &Data,
    client: &fetch::Client,
    dataset: &dyn Dataset,
    days: u32,
) -> Result<Vec<Counted>, Problem> {
    let cursor = read_json::<Cursor>(&*data.store, &format!("state/{}/cursor.json", dataset.name())).await?.value;
    let Some(Cursor { watermark, .. }) = cursor else { return Ok(Vec::new()) };
    let mut counted = Vec::new();
    for day in (0..days).rev() {
        let end = watermark - TimeDelta::days(i64::from(day));
        let start = end - TimeDelta::days(1);
        let Some(census) = dataset.census(start, end) else { break };
        let source = client.count(dataset, &census.query).await?;
        let ours = number(&data.warehouse, &census.sql).await?;
        counted.push(Counted { start, end, source, ours });
    }
    Ok(counted)
}

async fn number(warehouse: &Arc<dyn Warehouse>, sql: &str) -> Result<u64, Problem> {
    let answer = warehouse.query(sql, &Origin::new("the census")).await?;
    let first = answer.batches.iter().find(|batch| batch.num_rows() > 0);
    let number = first.and_then(|batch| batch.column(0).as_primitive_opt::<Int64Type>()).map(|column| column.value(0));
    number
        .and_then(|number| u64::try_from(number).ok())
        .ok_or_else(|| Problem::Failed(format!("'{sql}' gives no number")))
}
