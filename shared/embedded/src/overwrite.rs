//! Overwriting whole partitions, and knowing which of them really changed.
//!
//! Invariant: two sets of rows have the same tally if they are equal, and, but for a chance of one in 2^64,
//! only then, in whatever order they come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use datafusion::error::Result;
use shared::partition::Partition;
use twox_hash::XxHash3_64;

use crate::failure::BadRows;
use crate::split::{Ordinal, Splitter};

/// The sum of the hashes of a set of rows, and their number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    rows: u64,
    sum: u128,
}

#[derive(Default)]
struct Tallies {
    old: BTreeMap<Ordinal, Tally>,
    new: BTreeMap<Ordinal, Tally>,
}

/// The partitions that are overwritten; clones count together.
#[derive(Clone)]
pub(crate) struct Replaced {
    partitions: Arc<BTreeSet<Ordinal>>,
    splitter: Splitter,
    converter: Arc<RowConverter>,
    tallies: Arc<Mutex<Tallies>>,
}

impl Replaced {
    /// # Errors
    /// A partition that is none of this table's.
    pub(crate) fn new(partitions: &BTreeSet<Partition>, splitter: &Splitter, schema: &SchemaRef) -> Result<Self> {
        let ordinal = |partition: &Partition| {
            Ordinal::of(*partition, splitter.unit())
                .ok_or_else(|| BadRows(format!("{partition} cannot be one of its partitions")))
        };
        let partitions = partitions.iter().map(ordinal).collect::<Result<_, _>>()?;
        let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone()));
        Ok(Self {
            partitions: Arc::new(partitions),
            splitter: splitter.clone(),
            converter: Arc::new(RowConverter::new(fields.collect())?),
            tallies: Arc::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Tallies> {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, batch: &RecordBatch, ordinals: &[Ordinal], new: bool) -> Result<()> {
        let encoded = self.converter.convert_columns(batch.columns())?;
        let mut tallies = self.lock();
        let tallies = if new { &mut tallies.new } else { &mut tallies.old };
        for (row, ordinal) in encoded.iter().zip(ordinals) {
            let tally = tallies.entry(*ordinal).or_default();
            tally.rows += 1;
            tally.sum = tally.sum.wrapping_add(u128::from(XxHash3_64::oneshot(row.as_ref())));
        }
        Ok(())
    }

    /// Counts rows that come in.
    ///
    /// # Errors
    /// A row of a partition that is not overwritten.
    pub(crate) fn bring(&self, batch: &RecordBatch) -> Result<()> {
        let ordinals = self.splitter.ordinals(batch).map_err(BadRows)?;
        if let Some(stray) = ordinals.iter().find(|ordinal| !self.partitions.contains(ordinal)) {
            let stray = stray.partition(self.splitter.unit()).map(|partition| partition.to_string());
            let stray = stray.unwrap_or_default();
            return Err(BadRows(format!("it holds rows of partition {stray}, which is not overwritten")).into());
        }
        self.count(batch, &ordinals, true)
    }

    /// Counts rows of the table that go, and returns those that stay.
    pub(crate) fn stay(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let ordinals = self.splitter.ordinals(batch).map_err(BadRows)?;
        let goes = |ordinal: &Ordinal| self.partitions.contains(ordinal);
        let going: BooleanArray = ordinals.iter().map(|ordinal| Some(goes(ordinal))).collect();
        let gone: Vec<_> = ordinals.iter().copied().filter(goes).collect();
        self.count(&filter_record_batch(batch, &going)?, &gone, false)?;
        let staying: BooleanArray = ordinals.iter().map(|ordinal| Some(!goes(ordinal))).collect();
        Ok(filter_record_batch(batch, &staying)?)
    }

    /// How many rows have come in.
    pub(crate) fn rows(&self) -> u64 {
        self.lock().new.values().map(|tally| tally.rows).sum()
    }

    fn differs(&self, tallies: &Tallies, ordinal: Ordinal) -> bool {
        tallies.old.get(&ordinal) != tallies.new.get(&ordinal)
    }

    /// The partitions whose rows are others than before, once all rows were counted.
    pub(crate) fn changed(&self) -> BTreeSet<Ordinal> {
        let tallies = self.lock();
        self.partitions.iter().copied().filter(|ordinal| self.differs(&tallies, *ordinal)).collect()
    }

    /// Whether a bucket holds a changed partition, once all rows were counted.
    pub(crate) fn changes(&self, bucket: i32) -> bool {
        let tallies = self.lock();
        let within = |ordinal: &&Ordinal| self.splitter.bucket(**ordinal) == bucket;
        self.partitions.iter().filter(within).any(|ordinal| self.differs(&tallies, *ordinal))
    }
}
