//! Which partition and which file each row of a batch belongs to.
//!
//! Invariant: a row's partition is a function of its partition column alone, and a bucket holds whole partitions.

use std::collections::BTreeSet;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Date32Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use chrono::{Datelike, NaiveDate};
use serde::{Deserialize, Serialize};
use shared::partition::Partition;
use shared::table::Partitioning;
use shared::warehouse::{Layout, PartitionBy};

/// The bucket of a table that has no partitions.
pub(crate) const ALL: &str = "all";
const DAY: i64 = 24 * 60 * 60 * 1_000_000;
const EPOCH_DAYS_FROM_CE: i32 = 719_163;

/// How a table is split and ordered, as its manifest holds it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredLayout {
    pub(crate) partition_by: Option<StoredPartitionBy>,
    pub(crate) cluster_by: Vec<String>,
    pub(crate) unique_key: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredPartitionBy {
    pub(crate) field: String,
    pub(crate) unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    Day,
    Year,
}

impl From<Partitioning> for Unit {
    fn from(partitioning: Partitioning) -> Self {
        match partitioning {
            Partitioning::Day => Self::Day,
            Partitioning::Year => Self::Year,
        }
    }
}

impl From<&Layout> for StoredLayout {
    fn from(layout: &Layout) -> Self {
        let by = |by: &PartitionBy| StoredPartitionBy { field: by.field.clone(), unit: by.unit().into() };
        Self {
            partition_by: layout.partition_by.as_ref().map(by),
            cluster_by: layout.cluster_by.clone(),
            unique_key: layout.unique_key.clone(),
        }
    }
}

/// A partition as a number: the days since 1970, or the year.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ordinal(pub(crate) i32);

impl Ordinal {
    /// The number of a partition of this unit; `None` for one of another unit.
    pub(crate) fn of(partition: Partition, unit: Unit) -> Option<Self> {
        match (partition, unit) {
            (Partition::Day(day), Unit::Day) => Some(Self(day.num_days_from_ce() - EPOCH_DAYS_FROM_CE)),
            (Partition::Year(year), Unit::Year) => Some(Self(year)),
            _ => None,
        }
    }

    pub(crate) fn partition(self, unit: Unit) -> Option<Partition> {
        match unit {
            Unit::Day => self
                .0
                .checked_add(EPOCH_DAYS_FROM_CE)
                .and_then(NaiveDate::from_num_days_from_ce_opt)
                .map(Partition::Day),
            Unit::Year => (0..=9999).contains(&self.0).then_some(Partition::Year(self.0)),
        }
    }
}

/// Splits the rows of one table.
#[derive(Debug, Clone)]
pub(crate) struct Splitter {
    column: usize,
    field: String,
    unit: Unit,
}

impl Splitter {
    /// For a column of a schema, by its position.
    ///
    /// # Errors
    /// Why rows cannot be split by it.
    pub(crate) fn new(schema: &arrow::datatypes::Schema, by: &StoredPartitionBy) -> Result<Self, String> {
        let field = &by.field;
        let (column, found) =
            schema.column_with_name(field).ok_or_else(|| format!("there is no column '{field}' to partition by"))?;
        let possible = match by.unit {
            Unit::Day => matches!(found.data_type(), DataType::Date32 | DataType::Timestamp(TimeUnit::Microsecond, _)),
            Unit::Year => found.data_type() == &DataType::Int64,
        };
        if !possible {
            let wanted = match by.unit {
                Unit::Day => "by day needs a DATE or TIMESTAMP",
                Unit::Year => "by year needs an INT64",
            };
            return Err(format!("column '{field}' is of type {}: a partition {wanted} column", found.data_type()));
        }
        Ok(Self { column, field: field.clone(), unit: by.unit })
    }

    pub(crate) fn unit(&self) -> Unit {
        self.unit
    }

    /// The values of the partition column as integers: days, microseconds or years.
    ///
    /// # Errors
    /// A row without a value.
    pub(crate) fn values(&self, batch: &RecordBatch) -> Result<Vec<i64>, String> {
        let array = batch.column(self.column);
        if array.null_count() > 0 {
            return Err(format!(
                "column '{}', which says the partition, is null in {} rows",
                self.field,
                array.null_count()
            ));
        }
        Ok(match array.data_type() {
            DataType::Date32 => array.as_primitive::<Date32Type>().values().iter().map(|day| i64::from(*day)).collect(),
            DataType::Int64 => array.as_primitive::<Int64Type>().values().to_vec(),
            _ => array.as_primitive::<TimestampMicrosecondType>().values().to_vec(),
        })
    }

    /// The partition of each row.
    ///
    /// # Errors
    /// A row without a partition.
    pub(crate) fn ordinals(&self, batch: &RecordBatch) -> Result<Vec<Ordinal>, String> {
        let micros = matches!(batch.column(self.column).data_type(), DataType::Timestamp(..));
        let mut last = None;
        self.values(batch)?
            .into_iter()
            .map(|value| {
                let number = if micros { value.div_euclid(DAY) } else { value };
                if let Some((seen, ordinal)) = last
                    && seen == number
                {
                    return Ok(ordinal);
                }
                let ordinal =
                    i32::try_from(number).ok().map(Ordinal).filter(|ordinal| ordinal.partition(self.unit).is_some());
                let ordinal =
                    ordinal.ok_or_else(|| format!("column '{}' holds {value}, which is no partition", self.field))?;
                last = Some((number, ordinal));
                Ok(ordinal)
            })
            .collect()
    }

    /// The number of the bucket that a partition lies in, in the order of time.
    pub(crate) fn bucket(&self, ordinal: Ordinal) -> i32 {
        match ordinal.partition(self.unit) {
            Some(Partition::Day(day)) => day.year() * 12 + day.month0() as i32,
            _ => ordinal.0,
        }
    }

    /// The bucket of each row, by number.
    pub(crate) fn buckets(&self, ordinals: &[Ordinal]) -> Vec<i32> {
        let mut last = None;
        ordinals
            .iter()
            .map(|ordinal| match last {
                Some((seen, bucket)) if seen == *ordinal => bucket,
                _ => {
                    let bucket = self.bucket(*ordinal);
                    last = Some((*ordinal, bucket));
                    bucket
                }
            })
            .collect()
    }

    /// Partitions by their numbers, which came from [`Splitter::ordinals`].
    pub(crate) fn partitions(&self, ordinals: impl IntoIterator<Item = Ordinal>) -> BTreeSet<Partition> {
        ordinals.into_iter().filter_map(|ordinal| ordinal.partition(self.unit)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_and_its_number_are_one() {
        for (text, unit, number, bucket) in [
            ("1970-01-01", Unit::Day, 0, 1970 * 12),
            ("1969-12-31", Unit::Day, -1, 1969 * 12 + 11),
            ("2025-07-24", Unit::Day, 20_293, 2025 * 12 + 6),
            ("1798", Unit::Year, 1798, 1798),
        ] {
            let partition: Partition = text.parse().unwrap();
            let ordinal = Ordinal::of(partition, unit).unwrap();
            assert_eq!(ordinal, Ordinal(number), "{text}");
            assert_eq!(ordinal.partition(unit), Some(partition));
            let splitter = Splitter { column: 0, field: "at".into(), unit };
            assert_eq!(splitter.bucket(ordinal), bucket, "{text}");
        }
        assert_eq!(Ordinal::of(Partition::Year(2018), Unit::Day), None);
    }
}
