//! The union of sets of row versions: a pure function, commutative, associative and idempotent.
//!
//! A row version is a key and the hash of the row's fields. Of several observations of one, the latest is kept, and of
//! several at the same time that of the smallest capture; should they still differ, the least by their columns. That
//! is a minimum over a total order, which is why neither order nor grouping of merges matters.

use arrow::array::{DynComparator, RecordBatch, UInt32Array, make_comparator};
use arrow::compute::{SortOptions, concat_batches, take_record_batch};
use arrow::error::ArrowError;
use shared::table::TableSpec;
use std::cmp::Ordering;

/// The union, in the order of partition column, key and row hash.
///
/// # Errors
/// When a batch does not have [`TableSpec::schema`].
pub(crate) fn merge(spec: &TableSpec, sets: &[RecordBatch]) -> Result<RecordBatch, ArrowError> {
    let all = concat_batches(&spec.schema(), sets)?;
    let own = spec.columns.len();
    let (observed_at, capture, hash) = (own, own + 1, own + 2);
    let version = Comparison::of(&all, &[spec.key, hash], SortOptions::default())?;
    let latest = Comparison::of(&all, &[observed_at], SortOptions { descending: true, nulls_first: false })?;
    let least = Comparison::of(&all, &[capture], SortOptions::default())?;
    let rest = Comparison::of(&all, &(0..own).collect::<Vec<_>>(), SortOptions::default())?;
    let place = Comparison::of(&all, &[spec.partition_column, spec.key, hash], SortOptions::default())?;

    let count = u32::try_from(all.num_rows())
        .map_err(|_| ArrowError::ComputeError(format!("{} rows are too many for one partition", all.num_rows())))?;
    let mut order: Vec<u32> = (0..count).collect();
    order.sort_unstable_by(|&one, &other| {
        let observation = || latest.compare(one, other).then_with(|| least.compare(one, other));
        version.compare(one, other).then_with(observation).then_with(|| rest.compare(one, other))
    });
    order.dedup_by(|later, first| version.compare(*later, *first).is_eq());
    order.sort_unstable_by(|&one, &other| place.compare(one, other));
    take_record_batch(&all, &UInt32Array::from(order))
}

/// Compares rows by some of their columns, one after another.
struct Comparison(Vec<DynComparator>);

impl Comparison {
    fn of(rows: &RecordBatch, columns: &[usize], options: SortOptions) -> Result<Self, ArrowError> {
        let by = |&at: &usize| make_comparator(rows.column(at), rows.column(at), options);
        columns.iter().map(by).collect::<Result<_, _>>().map(Self)
    }

    fn compare(&self, one: u32, other: u32) -> Ordering {
        let (one, other) = (one as usize, other as usize);
        self.0.iter().map(|column| column(one, other)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    }
}
