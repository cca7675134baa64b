//! Rows of bronze, and what follows from them: the reference that the warehouse's tables are compared with.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int64Type, TimestampMillisecondType};
use bytes::Bytes;
use chrono::DateTime;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use shared::csv::{Record, hash};
use shared::dataset::Dataset;
use shared::form::{Form, Role};
use shared::partition::Partition;
use shared::table::{CAPTURE, FIRST_CAPTURE, FIRST_OBSERVED_AT, OBSERVED_AT, ROW_HASH, Value};

/// The status of what the source has deleted.
const DELETED: &str = "deleted";

/// A version of an event, as far as the simulation looks at it. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) hash: i64,
    pub(crate) time: i64,
    pub(crate) updated: i64,
    pub(crate) place: String,
    /// Whether it is a tombstone.
    pub(crate) deleted: bool,
    pub(crate) observed: i64,
    pub(crate) capture: String,
    /// When it was first observed, and by which capture.
    pub(crate) first: (i64, String),
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
        let (id, place, status, capture) = (text("id"), text("place"), text("status"), text(CAPTURE));
        let (time, updated, observed) = (millis("time"), millis("updated"), millis(OBSERVED_AT));
        let hash = column(ROW_HASH).as_primitive::<Int64Type>();
        let (first_observed, first_capture) = (millis(FIRST_OBSERVED_AT), text(FIRST_CAPTURE));
        for row in 0..batch.num_rows() {
            rows.push(Row {
                id: id.value(row).to_owned(),
                hash: hash.value(row),
                time: time.value(row),
                updated: updated.value(row),
                place: if place.is_null(row) { String::new() } else { place.value(row).to_owned() },
                deleted: !status.is_null(row) && status.value(row) == DELETED,
                observed: observed.value(row),
                capture: capture.value(row).to_owned(),
                first: (first_observed.value(row), first_capture.value(row).to_owned()),
            });
        }
    }
    rows
}

/// An answer of a capture, unpacked.
pub(crate) struct Answer {
    pub(crate) form: &'static Form,
    pub(crate) observed: i64,
    pub(crate) text: Vec<u8>,
}

/// What the answers of a capture hold.
#[derive(Default)]
pub(crate) struct Content {
    /// The rows that can be read.
    pub(crate) rows: Vec<Row>,
    /// How many cannot.
    pub(crate) unreadable: u64,
    /// The hashes of all of them as they came, without their details.
    pub(crate) hashes: BTreeSet<i64>,
    /// What others of them are also called.
    pub(crate) aliases: BTreeSet<String>,
}

impl Content {
    fn names(&mut self, id: &str, ids: &Value) {
        let Value::Text(ids) = ids else { return };
        self.aliases.extend(ids.split(',').filter(|name| !name.is_empty() && *name != id).map(str::to_owned));
    }
}

/// Shows the records of an answer.
pub(crate) fn each_record(form: &Form, text: &[u8], mut take: impl FnMut(&Record<'_>)) {
    let mut check = form.check();
    check.feed(text, &mut take).unwrap();
    check.finish(&mut take).unwrap();
}

/// Reads the answers of a capture: details first, then the rows that they belong to.
pub(crate) fn of_answers(dataset: &dyn Dataset, answers: &[Answer], capture: &str) -> Content {
    let at = |name: &str| dataset.table().columns.iter().position(|column| column.name == name).unwrap();
    let (id, time, updated, place, status) = (at("id"), at("time"), at("updated"), at("place"), at("status"));
    let ids = at("ids");
    let (mut content, mut details) = (Content::default(), BTreeMap::new());
    for answer in answers {
        let Role::Details(columns) = &answer.form.role else { continue };
        each_record(answer.form, &answer.text, |record| {
            let read = dataset.details(answer.form, record).unwrap();
            content.names(&read.key, &read.values[ids - columns.start]);
            details.insert(read.key, read.hash);
        });
    }
    for answer in answers.iter().filter(|answer| answer.form.has_rows()) {
        each_record(answer.form, &answer.text, |record| {
            content.hashes.insert(record.hash());
            let mut values = Vec::new();
            if dataset.read(answer.form, record, &mut values).is_err() {
                content.unreadable += 1;
                return;
            }
            let text = |at: usize| if let Value::Text(text) = &values[at] { text.clone() } else { String::new() };
            let millis = |at: usize| if let Value::Timestamp(time) = values[at] { time.timestamp_millis() } else { 0 };
            let both = |details: &i64| {
                let both = [record.hash(), *details].map(i64::to_le_bytes);
                hash(both.iter().map(<[u8; 8]>::as_slice))
            };
            content.names(&text(id), &values[ids]);
            content.rows.push(Row {
                id: text(id),
                hash: details.get(&text(id)).map_or_else(|| record.hash(), both),
                time: millis(time),
                updated: millis(updated),
                place: text(place),
                deleted: text(status) == DELETED,
                observed: answer.observed,
                capture: capture.to_owned(),
                first: (answer.observed, capture.to_owned()),
            });
        });
    }
    content
}

/// The set union: each row version once, with its latest and its first observation, and of several then the smallest
/// capture.
pub(crate) fn union<'a>(rows: impl IntoIterator<Item = &'a Row>) -> BTreeMap<(String, i64), Row> {
    let mut all: BTreeMap<_, Row> = BTreeMap::new();
    for row in rows {
        let known = all.entry(row.version()).or_insert_with(|| row.clone());
        let first = row.first.clone().min(known.first.clone());
        if (row.observed, &known.capture) > (known.observed, &row.capture) {
            *known = row.clone();
        }
        known.first = first;
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
