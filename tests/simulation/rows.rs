//! Rows of bronze, and what follows from them: the reference that the warehouse's tables are compared with.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int64Type, TimestampMillisecondType};
use bytes::Bytes;
use chrono::DateTime;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use shared::csv::Check;
use shared::dataset::Dataset;
use shared::partition::Partition;
use shared::table::{CAPTURE, OBSERVED_AT, ROW_HASH, Value};

/// A version of an event, as far as the simulation looks at it. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) hash: i64,
    pub(crate) time: i64,
    pub(crate) updated: i64,
    pub(crate) place: String,
    pub(crate) observed: i64,
    pub(crate) capture: String,
}

impl Row {
    pub(crate) fn day(&self) -> Partition {
        Partition::day(DateTime::from_timestamp_millis(self.time).unwrap())
    }

    /// Of two versions of an event, the current one has the greater.
    pub(crate) fn rank(&self) -> (i64, i64, i64) {
        (self.observed, self.updated, self.hash)
    }

    /// What names a row version.
    pub(crate) fn version(&self) -> (String, i64) {
        (self.id.clone(), self.hash)
    }
}

/// The rows of a bronze object.
pub(crate) fn of_parquet(bytes: Bytes) -> Vec<Row> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
    let mut rows = Vec::new();
    for batch in reader {
        let batch = batch.unwrap();
        let column = |name: &str| batch.column_by_name(name).unwrap();
        let text = |name: &str| column(name).as_string::<i32>().clone();
        let millis = |name: &str| column(name).as_primitive::<TimestampMillisecondType>().clone();
        let (id, place, capture) = (text("id"), text("place"), text(CAPTURE));
        let (time, updated, observed) = (millis("time"), millis("updated"), millis(OBSERVED_AT));
        let hash = column(ROW_HASH).as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            rows.push(Row {
                id: id.value(row).to_owned(),
                hash: hash.value(row),
                time: time.value(row),
                updated: updated.value(row),
                place: if place.is_null(row) { String::new() } else { place.value(row).to_owned() },
                observed: observed.value(row),
                capture: capture.value(row).to_owned(),
            });
        }
    }
    rows
}

/// What an answer of the source holds: its readable rows, and how many cannot be read.
pub(crate) fn of_answer(dataset: &dyn Dataset, text: &[u8], observed: i64, capture: &str) -> (Vec<Row>, u64) {
    let (mut rows, mut unreadable) = (Vec::new(), 0);
    let mut take = |record: &shared::csv::Record<'_>| {
        let mut values = Vec::new();
        if dataset.read(record, &mut values).is_err() {
            unreadable += 1;
            return;
        }
        let text = |at: usize| if let Value::Text(text) = &values[at] { text.clone() } else { String::new() };
        let millis = |at: usize| if let Value::Timestamp(time) = values[at] { time.timestamp_millis() } else { 0 };
        let at = |name: &str| dataset.header().iter().position(|column| *column == name).unwrap();
        rows.push(Row {
            id: text(at("id")),
            hash: record.hash(),
            time: millis(at("time")),
            updated: millis(at("updated")),
            place: text(at("place")),
            observed,
            capture: capture.to_owned(),
        });
    };
    let mut check = Check::new(dataset.header());
    check.feed(text, &mut take).unwrap();
    check.finish(&mut take).unwrap();
    (rows, unreadable)
}

/// The set union: each row version once, with its latest observation, and of several then the smallest capture.
pub(crate) fn union<'a>(rows: impl IntoIterator<Item = &'a Row>) -> BTreeMap<(String, i64), Row> {
    let mut all: BTreeMap<_, Row> = BTreeMap::new();
    for row in rows {
        let known = all.entry(row.version()).or_insert_with(|| row.clone());
        if (row.observed, &known.capture) > (known.observed, &row.capture) {
            *known = row.clone();
        }
    }
    all
}

/// The current version of each event.
pub(crate) fn newest<'a>(rows: impl IntoIterator<Item = &'a Row>) -> BTreeMap<String, Row> {
    let mut all: BTreeMap<String, Row> = BTreeMap::new();
    for row in rows {
        let known = all.entry(row.id.clone()).or_insert_with(|| row.clone());
        if row.rank() > known.rank() {
            *known = row.clone();
        }
    }
    all
}
