//! Merging rows into a table by a key, rewriting no more files than hold what changes.
//!
//! Invariants. Afterwards each key of the delta is in the table once, with the delta's row. A row that was there
//! already, equal in every column, is no change: a merge that brings nothing new rewrites nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Date32Type, Int64Type, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::error::{DataFusionError, Result};
use parquet::bloom_filter::Sbbf;

use crate::failure::BadRows;
use crate::files::Shape;
use crate::split::Ordinal;

/// What is to be merged: rows in memory, found by their key.
pub(crate) struct Delta {
    pub(crate) rows: RecordBatch,
    key: Vec<usize>,
    keys: RowConverter,
    by_key: HashMap<Box<[u8]>, usize>,
    whole: RowConverter,
    encoded: Rows,
    fates: Vec<Fate>,
}

/// What the table has under the key of a row of the delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Absent,
    Equal,
    Different,
}

/// What a file of the table has to do with the delta.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    /// Rows of the delta whose key the file holds.
    rows: BTreeSet<usize>,
    /// The partitions of each of these in the file.
    partitions: BTreeMap<usize, BTreeSet<Ordinal>>,
}

fn converter(rows: &RecordBatch, columns: &[usize]) -> Result<RowConverter, ArrowError> {
    let fields = columns.iter().map(|column| SortField::new(rows.column(*column).data_type().clone()));
    RowConverter::new(fields.collect())
}

fn project(rows: &RecordBatch, columns: &[usize]) -> Vec<ArrayRef> {
    columns.iter().map(|column| Arc::clone(rows.column(*column))).collect()
}

impl Delta {
    /// # Errors
    /// [`BadRows`] when a key is null or there twice.
    pub(crate) fn new(rows: RecordBatch, unique_key: &[String]) -> Result<Self> {
        let schema = rows.schema();
        let column = |name: &String| {
            schema.index_of(name).map_err(|_| BadRows(format!("there is no column '{name}' of its key")))
        };
        let key = unique_key.iter().map(column).collect::<Result<Vec<_>, _>>()?;
        if key.is_empty() {
            return Err(BadRows("a merge needs a key".to_owned()).into());
        }
        for column in &key {
            let nulls = rows.column(*column).null_count();
            if nulls > 0 {
                let name = schema.field(*column).name();
                return Err(BadRows(format!("column '{name}' of its key is null in {nulls} rows")).into());
            }
        }
        let keys = converter(&rows, &key)?;
        let mut by_key = HashMap::with_capacity(rows.num_rows());
        for (index, row) in keys.convert_columns(&project(&rows, &key))?.iter().enumerate() {
            if by_key.insert(row.as_ref().into(), index).is_some() {
                let said = key.iter().map(|column| {
                    let value = arrow::util::display::array_value_to_string(rows.column(*column), index)?;
                    Ok(format!("{} = {value}", schema.field(*column).name()))
                });
                let said = said.collect::<Result<Vec<_>, ArrowError>>()?.join(", ");
                return Err(BadRows(format!("its key is there more than once: {said}")).into());
            }
        }
        let all: Vec<usize> = (0..rows.num_columns()).collect();
        let whole = converter(&rows, &all)?;
        let encoded = whole.convert_columns(rows.columns())?;
        let fates = vec![Fate::Absent; rows.num_rows()];
        Ok(Self { rows, key, keys, by_key, whole, encoded, fates })
    }

    /// Whether a file with these Bloom filters may hold a key of the delta.
    pub(crate) fn may_be_in(&self, filters: &[Sbbf]) -> bool {
        let column = self.rows.column(self.key[0]);
        let any = |check: &dyn Fn(usize, &Sbbf) -> bool| {
            (0..column.len()).any(|row| filters.iter().any(|filter| check(row, filter)))
        };
        match column.data_type() {
            DataType::Utf8 => {
                let values = column.as_string::<i32>();
                any(&|row, filter| filter.check(values.value(row)))
            }
            DataType::Int64 => {
                let values = column.as_primitive::<Int64Type>().values();
                any(&|row, filter| filter.check(&values[row]))
            }
            DataType::Date32 => {
                let values = column.as_primitive::<Date32Type>().values();
                any(&|row, filter| filter.check(&values[row]))
            }
            DataType::Timestamp(..) => {
                let values = column.as_primitive::<TimestampMicrosecondType>().values();
                any(&|row, filter| filter.check(&values[row]))
            }
            _ => true,
        }
    }

    /// For each row of a batch, the row of the delta with its key.
    fn matches(&self, batch: &RecordBatch) -> Result<Vec<Option<usize>>> {
        let keys = self.keys.convert_columns(&project(batch, &self.key))?;
        Ok(keys.iter().map(|key| self.by_key.get(key.as_ref()).copied()).collect())
    }

    /// Takes note of what a batch of the table has under the delta's keys.
    pub(crate) fn compare(&mut self, batch: &RecordBatch, shape: &Shape, touched: &mut Touched) -> Result<()> {
        let matches = self.matches(batch)?;
        let mask: BooleanArray = matches.iter().map(|found| Some(found.is_some())).collect();
        if mask.true_count() == 0 {
            return Ok(());
        }
        let hits = filter_record_batch(batch, &mask)?;
        let ordinals = match &shape.splitter {
            Some(splitter) => splitter.ordinals(&hits).map_err(BadRows)?,
            None => Vec::new(),
        };
        let encoded = self.whole.convert_columns(hits.columns())?;
        for (hit, row) in matches.into_iter().flatten().enumerate() {
            let equal = encoded.row(hit) == self.encoded.row(row);
            // A key that the table holds twice is put right.
            self.fates[row] = if equal && self.fates[row] == Fate::Absent { Fate::Equal } else { Fate::Different };
            touched.rows.insert(row);
            if let Some(ordinal) = ordinals.get(hit) {
                touched.partitions.entry(row).or_default().insert(*ordinal);
            }
        }
        Ok(())
    }

    fn changes(&self, row: usize) -> bool {
        self.fates[row] != Fate::Equal
    }

    /// Whether a file holds rows that the delta replaces.
    pub(crate) fn rewrites(&self, touched: &Touched) -> bool {
        touched.rows.iter().any(|row| self.changes(*row))
    }

    /// The partitions that a file's replaced rows are in.
    pub(crate) fn left<'a>(&'a self, touched: &'a Touched) -> impl Iterator<Item = Ordinal> + 'a {
        let changed = touched.partitions.iter().filter(|(row, _)| self.changes(**row));
        changed.flat_map(|(_, partitions)| partitions.iter().copied())
    }

    /// The rows that the table does not have yet as they are.
    pub(crate) fn changed(&self) -> Result<RecordBatch> {
        let mask: BooleanArray = (0..self.rows.num_rows()).map(|row| Some(self.changes(row))).collect();
        Ok(filter_record_batch(&self.rows, &mask)?)
    }

    /// The rows of a batch of the table that stay.
    pub(crate) fn stay(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let matches = self.matches(batch)?;
        let mask: BooleanArray =
            matches.into_iter().map(|found| Some(found.is_none_or(|row| !self.changes(row)))).collect();
        filter_record_batch(batch, &mask).map_err(DataFusionError::from)
    }
}
