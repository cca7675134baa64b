//! The union of sets of row versions: a pure function, commutative, associative and idempotent.
//!
//! A row version is a key and the hash of the row's fields. Of several observations of one, the latest is kept, and of
//! several at the same time that of the smallest capture; should they still differ, the least by their columns. When
//! it was first observed, and by which capture, is kept beside that. Both are a minimum over a total order, which is
//! why neither order nor grouping of merges matters.

use arrow::array::{DynComparator, RecordBatch, UInt32Array, make_comparator};
use arrow::compute::{SortOptions, concat_batches, take};
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
    let (observed_at, capture, hash, first) = (own, own + 1, own + 2, own + 3);
    let version = Comparison::of(&all, &[spec.key, hash], SortOptions::default())?;
    let latest = Comparison::of(&all, &[observed_at], SortOptions { descending: true, nulls_first: false })?;
    let least = Comparison::of(&all, &[capture], SortOptions::default())?;
    let rest = Comparison::of(&all, &(0..own).collect::<Vec<_>>(), SortOptions::default())?;
    let earliest = Comparison::of(&all, &[first, first + 1], SortOptions::default())?;
    let place = Comparison::of(&all, &[spec.partition_column, spec.key, hash], SortOptions::default())?;

    let count = u32::try_from(all.num_rows())
        .map_err(|_| ArrowError::ComputeError(format!("{} rows are too many for one partition", all.num_rows())))?;
    let mut order: Vec<u32> = (0..count).collect();
    order.sort_unstable_by(|&one, &other| {
        let observation = || latest.compare(one, other).then_with(|| least.compare(one, other));
        version.compare(one, other).then_with(observation).then_with(|| rest.compare(one, other))
    });
    let first_of = |same: &[u32]| same.iter().copied().min_by(|&one, &other| earliest.compare(one, other));
    let versions = order.chunk_by(|&one, &other| version.compare(one, other).is_eq());
    let mut kept: Vec<_> = versions.filter_map(|same| Some((same[0], first_of(same)?))).collect();
    kept.sort_unstable_by(|(one, _), (other, _)| place.compare(*one, *other));
    let (latest, first_of): (Vec<_>, Vec<_>) = kept.into_iter().unzip();
    let (latest, first_of) = (UInt32Array::from(latest), UInt32Array::from(first_of));
    let columns = all.columns().iter().enumerate();
    let columns = columns.map(|(at, column)| take(column, if at < first { &latest } else { &first_of }, None));
    RecordBatch::try_new(spec.schema(), columns.collect::<Result<_, _>>()?)
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
