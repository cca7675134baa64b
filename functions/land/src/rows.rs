//! The second pass over a capture: typed rows by partition, in batches, and the rest to quarantine.
//!
//! Invariants. Every row goes to exactly one of the two. The rows in memory are bounded whatever the capture's size,
//! and which rows make a batch depends on its answers alone, not on the chunks in which they arrive. Details are kept
//! until the end: a source that has them bounds its answers.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Display;
use std::ops::Range;

use arrow::array::RecordBatch;
use shared::capture::{Manifest, StoredAnswer};
use shared::clock::Timestamp;
use shared::csv::{Record, hash};
use shared::dataset::{Dataset, Details};
use shared::form::{Check, Form, Role};
use shared::function::Failure;
use shared::partition::Partition;
use shared::store::{Store, StoreError};
use shared::table::{Growth, TableSpec, Value};

use crate::answer::Answer;
use crate::columns::{Columns, unfit};
use crate::quarantine::{Quarantine, Reason};

/// How much may wait in memory until it is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    pub(crate) rows: usize,
    /// About.
    pub(crate) bytes: usize,
}

impl Default for Bound {
    fn default() -> Self {
        Self { rows: 64 * 1024, bytes: 32 << 20 }
    }
}

/// Where the rows of an answer went.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) rows: u64,
    pub(crate) quarantined: u64,
    /// How many rows were in memory at the worst moment.
    pub(crate) most_at_once: usize,
}

/// Batches of different partitions, none twice.
pub(crate) type Batches = Vec<(Partition, RecordBatch)>;

/// The details of a capture, by the key of the row that they belong to, and the columns that they fill.
#[derive(Default)]
struct AllDetails {
    columns: Range<usize>,
    by_key: HashMap<String, Details>,
}

/// A capture's rows as they are being read.
pub(crate) struct Rows<'a> {
    store: &'a dyn Store,
    manifest: &'a Manifest,
    /// The answers of rows that have not been begun.
    left: VecDeque<(&'a StoredAnswer, &'static Form)>,
    current: Option<Reading<'a>>,
    sorter: Sorter<'a>,
}

/// An answer that is being read.
struct Reading<'a> {
    stored: &'a StoredAnswer,
    answer: Answer,
    check: Check,
}

impl<'a> Reading<'a> {
    async fn open(store: &dyn Store, stored: &'a StoredAnswer, form: &'static Form) -> Result<Self, StoreError> {
        Ok(Self { stored, answer: Answer::open(store, stored).await?, check: form.check() })
    }

    /// Shows the next records to `take`; when all were shown, says that it is over.
    async fn read(mut self, mut take: impl FnMut(&Record<'_>)) -> Result<Option<Self>, Failure> {
        // It was whole a moment ago.
        let stored = self.stored;
        let changed = |what: &dyn Display| Failure::Transient(format!("{} has changed: {what}", stored.object));
        if let Some(piece) = self.answer.next().await? {
            self.check.feed(piece, &mut take).map_err(|refused| changed(&refused))?;
            return Ok(Some(self));
        }
        self.check.finish(&mut take).map_err(|refused| changed(&refused))?;
        match self.answer.difference(stored) {
            Some(difference) => Err(changed(&difference)),
            None => Ok(None),
        }
    }
}

impl<'a> Rows<'a> {
    pub(crate) async fn open(
        store: &'a dyn Store,
        dataset: &'a dyn Dataset,
        manifest: &'a Manifest,
        bound: Bound,
    ) -> Result<Self, Failure> {
        let mut left = VecDeque::new();
        let mut details = AllDetails::default();
        for stored in &manifest.answers {
            let Some(form) = dataset.form(&stored.form) else { continue };
            match &form.role {
                Role::Rows => left.push_back((stored, form)),
                Role::Details(columns) => {
                    details.columns = columns.clone();
                    let mut reading = Reading::open(store, stored, form).await?;
                    while let Some(on) = reading.read(|record| details.take(dataset, form, record)).await? {
                        reading = on;
                    }
                }
            }
        }
        let sorter = Sorter {
            dataset,
            spec: dataset.table(),
            form: &dataset.forms()[0],
            observed_at: manifest.observed_at,
            details,
            bound,
            quarantine: Quarantine::new(store, manifest),
            object: "",
            values: Vec::new(),
            buffers: Buffers::default(),
            ready: VecDeque::new(),
            rows: 0,
            most_at_once: 0,
            failed: None,
        };
        Ok(Self { store, manifest, left, current: None, sorter })
    }

    /// The next rows to write, or `None` when all were given.
    pub(crate) async fn next(&mut self) -> Result<Option<Batches>, Failure> {
        while self.sorter.ready.is_empty() && self.read().await? {}
        let Some(group) = self.sorter.ready.pop_front() else { return Ok(None) };
        let mut batches = Vec::with_capacity(group.len());
        for (partition, columns) in group {
            let batch = columns.finish(self.sorter.spec, self.manifest).map_err(|error| {
                Failure::Poison(format!("rows of {} do not fit the table: {error}", self.manifest.capture))
            })?;
            batches.push((partition, batch));
        }
        Ok(Some(batches))
    }

    /// Ends the pass, after the last batch was written.
    pub(crate) async fn finish(self) -> Result<Counts, Failure> {
        let Sorter { quarantine, rows, most_at_once, .. } = self.sorter;
        let quarantined = quarantine.finish().await?;
        Ok(Counts { rows, quarantined, most_at_once })
    }

    /// Reads on. Returns whether anything may be ready by it.
    async fn read(&mut self) -> Result<bool, Failure> {
        let sorter = &mut self.sorter;
        let reading = match self.current.take() {
            Some(reading) => reading,
            None => {
                let Some((stored, form)) = self.left.pop_front() else {
                    sorter.set_ready(0);
                    return Ok(!sorter.ready.is_empty());
                };
                sorter.form = form;
                sorter.observed_at = stored.observed_at;
                sorter.object = &stored.object;
                Reading::open(self.store, stored, form).await?
            }
        };
        self.current = reading.read(|record| sorter.take(record)).await?;
        if let Some(failure) = sorter.failed.take() {
            return Err(failure);
        }
        sorter.quarantine.flush().await?;
        Ok(true)
    }
}

impl AllDetails {
    fn take(&mut self, dataset: &dyn Dataset, form: &Form, record: &Record<'_>) {
        match dataset.details(form, record) {
            Ok(details) => drop(self.by_key.insert(details.key.clone(), details)),
            // The row stands without them, and the answer is kept as it came.
            Err(error) => tracing::warn!(line = record.line, %error, "details of a row cannot be read"),
        }
    }

    /// Fills the columns of a row. Returns the hash of what was filled in.
    fn fill(&self, key: &Value, values: &mut [Value]) -> Option<i64> {
        let Value::Text(key) = key else { return None };
        let details = self.by_key.get(key)?;
        values[self.columns.clone()].clone_from_slice(&details.values);
        Some(details.hash)
    }
}

/// Reads rows and puts each where it belongs.
struct Sorter<'a> {
    dataset: &'a dyn Dataset,
    spec: &'a TableSpec,
    /// Of the answer that is being read, as are the next two.
    form: &'static Form,
    observed_at: Timestamp,
    object: &'a str,
    details: AllDetails,
    bound: Bound,
    quarantine: Quarantine<'a>,
    values: Vec<Value>,
    buffers: Buffers,
    ready: VecDeque<Vec<(Partition, Columns)>>,
    rows: u64,
    most_at_once: usize,
    failed: Option<Failure>,
}

impl Sorter<'_> {
    fn take(&mut self, record: &Record<'_>) {
        self.rows += 1;
        match self.partition(record) {
            Ok(partition) => {
                let hash = match self.fill() {
                    // The row's own hash and that of its details, as fields of one hash.
                    Some(details) => {
                        hash([record.hash(), details].map(i64::to_le_bytes).iter().map(<[u8; 8]>::as_slice))
                    }
                    None => record.hash(),
                };
                let columns = self.buffers.columns(self.spec, partition);
                let grown = columns.push(&self.values, self.observed_at, hash, record.raw.len());
                self.buffers.rows += 1;
                self.buffers.bytes += grown;
                self.most_at_once = self.most_at_once.max(self.buffers.rows + self.ready_rows());
                if self.buffers.rows >= self.bound.rows || self.buffers.bytes >= self.bound.bytes {
                    // Half of it stays, so that what goes is the large partitions and the small ones go once.
                    self.set_ready(2);
                }
            }
            Err(reason) => {
                if let Err(error) = self.quarantine.add(self.object, record, &reason) {
                    let text = format!("line {} cannot be written to quarantine: {error}", record.line);
                    self.failed.get_or_insert(Failure::Poison(text));
                }
            }
        }
    }

    /// Reads a row into `values`; its partition, or why it cannot be kept.
    fn partition(&mut self, record: &Record<'_>) -> Result<Partition, Reason> {
        let expected = self.form.width();
        if record.len() != expected {
            return Err(Reason::row(format!("it has {} fields instead of {expected}", record.len())));
        }
        self.values.clear();
        let read = self.dataset.read(self.form, record, &mut self.values);
        read.map_err(|unreadable| Reason::column(unreadable.column, unreadable.reason))?;
        let columns = &self.spec.columns;
        if self.values.len() != columns.len() {
            let (found, expected) = (self.values.len(), columns.len());
            return Err(Reason::row(format!("the dataset reads it into {found} values instead of {expected}")));
        }
        for (column, value) in columns.iter().zip(&self.values) {
            if let Some(reason) = unfit(column, value) {
                return Err(Reason::column(column.name, reason));
            }
        }
        if self.spec.growth == Growth::Union && is_blank(&self.values[self.spec.key]) {
            return Err(Reason::column(columns[self.spec.key].name, "it is blank"));
        }
        let partition = self.spec.partition_of(&self.values[self.spec.partition_column]);
        partition.ok_or_else(|| Reason::column(self.spec.partition_name(), "it names no partition"))
    }

    /// Adds its details to the row in `values`.
    fn fill(&mut self) -> Option<i64> {
        let key = self.values[self.spec.key].clone();
        self.details.fill(&key, &mut self.values)
    }

    /// Makes the largest partitions ready, until one `share`-th of the bound is left; everything for 0.
    fn set_ready(&mut self, share: usize) {
        let left = |whole: usize| whole.checked_div(share).unwrap_or(0);
        let group = self.buffers.evict(left(self.bound.rows), left(self.bound.bytes));
        if !group.is_empty() {
            self.ready.push_back(group);
        }
    }

    fn ready_rows(&self) -> usize {
        self.ready.iter().flatten().map(|(_, columns)| columns.rows()).sum()
    }
}

fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Text(text) => text.is_empty(),
        _ => false,
    }
}

/// The rows that wait, by partition.
#[derive(Default)]
struct Buffers {
    by_partition: BTreeMap<Partition, Columns>,
    rows: usize,
    bytes: usize,
}

impl Buffers {
    fn columns(&mut self, spec: &TableSpec, partition: Partition) -> &mut Columns {
        self.by_partition.entry(partition).or_insert_with(|| {
            let columns = Columns::new(spec);
            self.bytes += columns.bytes();
            columns
        })
    }

    fn evict(&mut self, rows: usize, bytes: usize) -> Vec<(Partition, Columns)> {
        let mut largest: Vec<_> = self.by_partition.iter().map(|(key, columns)| (columns.bytes(), *key)).collect();
        largest.sort_unstable_by(|one, other| other.cmp(one));
        let mut evicted = Vec::new();
        for (_, partition) in largest {
            if self.rows <= rows && self.bytes <= bytes {
                break;
            }
            if let Some(columns) = self.by_partition.remove(&partition) {
                self.rows -= columns.rows();
                self.bytes -= columns.bytes();
                evicted.push((partition, columns));
            }
        }
        evicted
    }
}
