//! How late things are: from when they happened until the source published them, and from there until gold had them.
//!
//! The first span is by the source's clock alone. The second is the sum of two, of one clock each: until the answer that
//! first showed it, by the source's, and from that request until transform was done, by ours. So no difference between
//! the two clocks shows in them.

use std::collections::HashMap;
use std::fmt;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::TimestampMillisecondType;
use arrow::error::ArrowError;
use chrono::TimeDelta;
use serde::Serialize;
use shared::capture::CaptureId;
use shared::clock::Timestamp;
use shared::dataset::Dataset;
use shared::ledger::Record;
use shared::table::ColumnType;
use shared::warehouse::{Origin, Warehouse};

use crate::problem::Problem;

/// What is looked at: the days before the newest answer.
const DAYS: i64 = 7;

/// How late the things are that happened since the first run, and in the last days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lateness {
    /// How many days are looked at.
    pub days: i64,
    /// From when they happened until the source published the first version that was seen.
    pub to_published: Percentiles,
    /// From there until gold had it; `None` when none of them are in gold.
    pub to_gold: Option<Percentiles>,
}

/// Percentiles by nearest rank: the smallest of the spans that so many in a hundred do not exceed. In seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    /// Of how many.
    pub count: u64,
    /// The median.
    pub p50: i64,
    /// Nine of ten.
    pub p90: i64,
    /// 99 of a hundred.
    pub p99: i64,
    /// All.
    pub max: i64,
}

impl Percentiles {
    /// Of seconds; `None` of none.
    pub fn of(mut seconds: Vec<i64>) -> Option<Self> {
        seconds.sort_unstable();
        let max = *seconds.last()?;
        let rank = |percent: usize| seconds[(seconds.len() * percent).div_ceil(100) - 1];
        Some(Self { count: seconds.len() as u64, p50: rank(50), p90: rank(90), p99: rank(99), max })
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p90, p99, max] = [self.p50, self.p90, self.p99, self.max].map(span);
        write!(f, "{p50} (p50), {p90} (p90), {p99} (p99), {max} at most")
    }
}

/// Seconds as a person reads them.
fn span(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// One thing, and when it became known.
struct Publication {
    happened: Timestamp,
    published: Timestamp,
    observed: Timestamp,
    capture: String,
}

impl Lateness {
    /// Measures a dataset, by its raw table and its ledger in the order of time. `None` when nothing has happened since
    /// its first run, or the dataset does not say when.
    ///
    /// # Errors
    /// When the warehouse cannot be asked.
    pub async fn read(
        warehouse: &dyn Warehouse,
        dataset: &dyn Dataset,
        records: &[Record],
    ) -> Result<Option<Self>, Problem> {
        let landed = records.iter().filter(|record| record.stage == "land");
        let observed = landed.filter_map(|record| record.capture.as_ref()).map(CaptureId::observed_at);
        let (Some(first), Some(last)) = (observed.clone().min(), observed.max()) else { return Ok(None) };
        // What happened before the first run was not waited for.
        let since = first.max(last - TimeDelta::days(DAYS));
        let Some(sql) = dataset.publications(since) else { return Ok(None) };
        let answer = warehouse.query(&sql, &Origin::new("the lateness")).await?;
        let mut found = Vec::new();
        for batch in &answer.batches {
            found.extend(publications(batch).map_err(|error| Problem::Failed(format!("'{sql}': {error}")))?);
        }
        let seconds = |it: &Publication| (it.published - it.happened).num_seconds();
        let Some(to_published) = Percentiles::of(found.iter().map(seconds).collect()) else { return Ok(None) };
        let spans = request_to_gold(records);
        let to_gold = found.iter().filter_map(|it| {
            let ours = spans.get(it.capture.as_str())?;
            Some((it.observed - it.published + *ours).num_seconds())
        });
        Ok(Some(Self { days: DAYS, to_published, to_gold: Percentiles::of(to_gold.collect()) }))
    }
}

fn publications(batch: &RecordBatch) -> Result<Vec<Publication>, ArrowError> {
    let times = |at: usize| cast(batch.column(at), &ColumnType::Timestamp.arrow());
    let (happened, published, observed) = (times(0)?, times(1)?, times(2)?);
    let captures = cast(batch.column(3), &ColumnType::Text.arrow())?;
    let mut found = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        let time = |column: &dyn Array| {
            let column = column.as_primitive::<TimestampMillisecondType>();
            column.is_valid(row).then(|| Timestamp::from_timestamp_millis(column.value(row))).flatten()
        };
        if let (Some(happened), Some(published), Some(observed)) = (time(&happened), time(&published), time(&observed))
        {
            let capture = captures.as_string::<i32>().value(row).to_owned();
            found.push(Publication { happened, published, observed, capture });
        }
    }
    Ok(found)
}

/// For each capture, how long it took from the request until transform was done with what it brought.
fn request_to_gold(records: &[Record]) -> HashMap<String, TimeDelta> {
    let end = |record: &Record| {
        record.started_at + TimeDelta::milliseconds(i64::try_from(record.duration_ms).unwrap_or(i64::MAX))
    };
    let mut gold = HashMap::new();
    for record in records.iter().filter(|record| record.stage == "transform") {
        gold.entry(record.run.as_str()).or_insert_with(|| end(record));
    }
    let mut spans = HashMap::new();
    for record in records.iter().filter(|record| record.stage == "fetch") {
        if let (Some(capture), Some(done)) = (&record.capture, gold.get(record.run.as_str())) {
            spans.entry(capture.to_string()).or_insert_with(|| *done - record.started_at);
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        assert_eq!(Percentiles::of(Vec::new()), None);
        let of_one = Percentiles { count: 1, p50: 7, p90: 7, p99: 7, max: 7 };
        assert_eq!(Percentiles::of(vec![7]), Some(of_one));
        let of_ten = Percentiles { count: 10, p50: 5, p90: 9, p99: 10, max: 10 };
        assert_eq!(Percentiles::of((1..=10).rev().collect()), Some(of_ten));
    }

    #[test]
    fn a_span_is_told_in_the_unit_that_fits() {
        for (seconds, text) in [(119, "119 s"), (120, "2 min"), (7_199, "119 min"), (7_200, "2 h"), (200_000, "2 days")]
        {
            assert_eq!(span(seconds), text);
        }
    }
}
