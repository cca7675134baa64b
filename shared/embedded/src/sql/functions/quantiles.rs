//! APPROX_QUANTILES, PERCENTILE_DISC and PERCENTILE_CONT, all of them exact.
//!
//! Invariant: the answer depends on the multiset of values alone, not on the order or the
//! partitions in which they came, so that an incremental table equals its rebuild.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{SortOptions, cast, concat, filter, is_not_null, sort};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature, Volatility};

use super::super::normalize::bigquery_type;
use super::signature::type_name;

/// Which of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Quantile {
    /// `APPROX_QUANTILES(x, n)`: the n + 1 bounds of n parts of one size.
    Approximate,
    /// `PERCENTILE_DISC(x, p)`: the first value whose cumulative share is at least p.
    Discrete,
    /// `PERCENTILE_CONT(x, p)`: between two values, by linear interpolation.
    Continuous,
}

/// An aggregate over the sorted values of a group.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Quantiles {
    kind: Quantile,
    signature: Signature,
}

impl Quantiles {
    pub(crate) fn new(kind: Quantile) -> Self {
        Self { kind, signature: Signature::user_defined(Volatility::Immutable) }
    }

    /// The type in which values are kept.
    fn kept(&self, given: &DataType) -> DataType {
        match self.kind {
            Quantile::Continuous => DataType::Float64,
            _ => bigquery_type(given).unwrap_or(DataType::Int64),
        }
    }
}

impl AggregateUDFImpl for Quantiles {
    fn name(&self) -> &str {
        match self.kind {
            Quantile::Approximate => "bq_approx_quantiles",
            Quantile::Discrete => "bq_percentile_disc",
            Quantile::Continuous => "bq_percentile_cont",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.name().trim_start_matches(super::PREFIX).to_uppercase();
        let [value, share] = given else {
            return plan_err!("{name} takes 2 arguments, not {}", given.len());
        };
        let numeric = value.is_numeric() || value.is_null();
        let orderable = bigquery_type(value).is_some_and(|kept| !kept.is_nested());
        if !orderable || (self.kind == Quantile::Continuous && !numeric) {
            return plan_err!("argument 1 of {name} is {}, which {name} does not take", type_name(value));
        }
        if !share.is_numeric() {
            return plan_err!("argument 2 of {name} is {}, which {name} does not take", type_name(share));
        }
        let share = if self.kind == Quantile::Approximate { DataType::Int64 } else { DataType::Float64 };
        Ok(vec![self.kept(value), share])
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        let kept = self.kept(&given[0]);
        Ok(if self.kind == Quantile::Approximate { DataType::new_list(kept, true) } else { kept })
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let kept = self.kept(args.input_fields[0].data_type());
        Ok(vec![
            Arc::new(Field::new(format!("{}_values", args.name), DataType::new_list(kept, true), true)),
            Arc::new(Field::new(format!("{}_share", args.name), DataType::Float64, true)),
        ])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let kept = self.kept(args.expr_fields[0].data_type());
        Ok(Box::new(Values { kind: self.kind, distinct: args.is_distinct, kept, chunks: Vec::new(), share: None }))
    }
}

/// The values seen, NULLs left out.
#[derive(Debug)]
struct Values {
    kind: Quantile,
    distinct: bool,
    kept: DataType,
    chunks: Vec<ArrayRef>,
    share: Option<f64>,
}

impl Values {
    fn take_share(&mut self, shares: &ArrayRef) -> Result<()> {
        let shares = cast(shares, &DataType::Float64)?;
        let shares = shares.as_primitive::<Float64Type>();
        if let Some(share) = shares.iter().flatten().next() {
            if self.share.is_some_and(|known| known != share) {
                return exec_err!("the share of a quantile must be one constant");
            }
            self.share = Some(share);
        }
        Ok(())
    }

    fn keep(&mut self, values: &ArrayRef) -> Result<()> {
        let values = if values.data_type() == &self.kept { Arc::clone(values) } else { cast(values, &self.kept)? };
        let values = if values.null_count() > 0 { filter(&values, &is_not_null(&values)?)? } else { values };
        if !values.is_empty() {
            self.chunks.push(values);
        }
        Ok(())
    }

    fn all(&self) -> Result<ArrayRef> {
        let parts: Vec<&dyn Array> = self.chunks.iter().map(AsRef::as_ref).collect();
        Ok(if parts.is_empty() { arrow::array::new_empty_array(&self.kept) } else { concat(&parts)? })
    }

    fn sorted(&self) -> Result<ArrayRef> {
        let sorted = sort(&self.all()?, Some(SortOptions { descending: false, nulls_first: true }))?;
        if !self.distinct || sorted.is_empty() {
            return Ok(sorted);
        }
        let runs = arrow::compute::partition(&[Arc::clone(&sorted)])?;
        let firsts: arrow::array::UInt64Array = runs.ranges().iter().map(|run| run.start as u64).collect();
        Ok(arrow::compute::take(&sorted, &firsts, None)?)
    }
}

/// The place, counted from zero, of the first of `count` values whose cumulative share is `share`.
fn place(share: f64, count: usize) -> usize {
    let rank = (share * count as f64).ceil();
    // The smallest value covers every share up to its own.
    (rank.max(1.0) as usize).min(count) - 1
}

impl Accumulator for Values {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.take_share(&values[1])?;
        self.keep(&values[0])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.take_share(&states[1])?;
        let lists = states[0].as_list::<i32>();
        for row in 0..lists.len() {
            if lists.is_valid(row) {
                self.keep(&lists.value(row))?;
            }
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values = self.all()?;
        let field = Arc::new(Field::new_list_field(self.kept.clone(), true));
        let list = ListArray::try_new(field, OffsetBuffer::from_lengths([values.len()]), values, None)?;
        Ok(vec![ScalarValue::List(Arc::new(list)), ScalarValue::Float64(self.share)])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sorted = self.sorted()?;
        let count = sorted.len();
        let Some(share) = self.share.filter(|_| count > 0) else {
            return match self.kind {
                Quantile::Approximate => ScalarValue::try_from(&DataType::new_list(self.kept.clone(), true)),
                _ => ScalarValue::try_from(&self.kept),
            };
        };
        if self.kind == Quantile::Approximate {
            if !(1.0..=100_000.0).contains(&share) {
                return exec_err!("APPROX_QUANTILES takes a number of parts from 1 to 100000");
            }
            let parts = share as usize;
            let values = (0..=parts)
                .map(|part| ScalarValue::try_from_array(&sorted, place(part as f64 / share, count)))
                .collect::<Result<Vec<_>>>()?;
            return Ok(ScalarValue::List(ScalarValue::new_list(&values, &self.kept, true)));
        }
        if !(0.0..=1.0).contains(&share) {
            return exec_err!("a percentile must be between 0 and 1");
        }
        if self.kind == Quantile::Discrete {
            return ScalarValue::try_from_array(&sorted, place(share, count));
        }
        let values = sorted.as_primitive::<Float64Type>();
        let rank = share * (count - 1) as f64;
        let (below, above) = (rank.floor() as usize, rank.ceil() as usize);
        let (low, high) = (values.value(below), values.value(above));
        let between = rank - rank.floor();
        Ok(ScalarValue::Float64(Some(if between == 0.0 { low } else { low * (1.0 - between) + high * between })))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.chunks.iter().map(|chunk| chunk.get_array_memory_size()).sum::<usize>()
    }
}
