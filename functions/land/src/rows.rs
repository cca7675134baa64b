//! The second pass over an answer: typed rows by partition, in batches, and the rest to quarantine.
//!
//! Invariants. Every row goes to exactly one of the two. The rows in memory are bounded whatever the answer's size,
//! and which rows make a batch depends on the answer alone, not on the chunks in which it arrives.

use std::collections::{BTreeMap, VecDeque};

use arrow::array::RecordBatch;
use shared::capture::Manifest;
use shared::csv::{Check, Record};
use shared::dataset::Dataset;
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

/// An answer's rows as they are being read.
pub(crate) struct Rows<'a> {
    manifest: &'a Manifest,
    answer: Answer,
    check: Option<Check>,
    sorter: Sorter<'a>,
}

impl<'a> Rows<'a> {
    pub(crate) async fn open(
        store: &'a dyn Store,
        dataset: &'a dyn Dataset,
        manifest: &'a Manifest,
        bound: Bound,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            manifest,
            answer: Answer::open(store, manifest).await?,
            check: Some(Check::new(dataset.header())),
            sorter: Sorter {
                dataset,
                spec: dataset.table(),
                bound,
                quarantine: Quarantine::new(store, manifest),
                values: Vec::new(),
                buffers: Buffers::default(),
                ready: VecDeque::new(),
                rows: 0,
                most_at_once: 0,
                failed: None,
            },
        })
    }

    /// The next rows to write, or `None` when all were given.
    pub(crate) async fn next(&mut self) -> Result<Option<Batches>, Failure> {
        while self.sorter.ready.is_empty() && self.check.is_some() {
            self.read().await?;
        }
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
        if let Some(difference) = self.answer.difference(self.manifest) {
            return Err(Failure::Transient(format!("{} has changed: {difference}", self.manifest.object)));
        }
        let quarantined = quarantine.finish().await?;
        Ok(Counts { rows, quarantined, most_at_once })
    }

    async fn read(&mut self) -> Result<(), Failure> {
        let Some(check) = &mut self.check else { return Ok(()) };
        let sorter = &mut self.sorter;
        let fed = match self.answer.next().await? {
            Some(piece) => check.feed(piece, |record| sorter.take(record)),
            None => {
                let fed =
                    self.check.take().map_or(Ok(()), |check| check.finish(|record| sorter.take(record)).map(drop));
                sorter.set_ready(0);
                fed
            }
        };
        // It was whole a moment ago.
        fed.map_err(|refused| Failure::Transient(format!("{} has changed: {refused}", self.manifest.object)))?;
        if let Some(failure) = sorter.failed.take() {
            return Err(failure);
        }
        Ok(sorter.quarantine.flush().await?)
    }
}

/// Reads rows and puts each where it belongs.
struct Sorter<'a> {
    dataset: &'a dyn Dataset,
    spec: &'a TableSpec,
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
                self.buffers.push(self.spec, partition, &self.values, record);
                self.most_at_once = self.most_at_once.max(self.buffers.rows + self.ready_rows());
                if self.buffers.rows >= self.bound.rows || self.buffers.bytes >= self.bound.bytes {
                    // Half of it stays, so that what goes is the large partitions and the small ones go once.
                    self.set_ready(2);
                }
            }
            Err(reason) => {
                if let Err(error) = self.quarantine.add(record, &reason) {
                    let text = format!("line {} cannot be written to quarantine: {error}", record.line);
                    self.failed.get_or_insert(Failure::Poison(text));
                }
            }
        }
    }

    /// Reads a row into `values`; its partition, or why it cannot be kept.
    fn partition(&mut self, record: &Record<'_>) -> Result<Partition, Reason> {
        let expected = self.dataset.header().len();
        if record.len() != expected {
            return Err(Reason::row(format!("it has {} fields instead of {expected}", record.len())));
        }
        self.values.clear();
        let read = self.dataset.read(record, &mut self.values);
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
    fn push(&mut self, spec: &TableSpec, partition: Partition, values: &[Value], record: &Record<'_>) {
        let columns = self.by_partition.entry(partition).or_insert_with(|| {
            let columns = Columns::new(spec);
            self.bytes += columns.bytes();
            columns
        });
        self.bytes += columns.push(values, record.hash(), record.raw.len());
        self.rows += 1;
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
