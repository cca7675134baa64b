//! The functions of arrays.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray, StringArray, UInt32Array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::take;
use arrow::datatypes::{DataType, Date32Type, Field, Float64Type, Int64Type, TimestampMicrosecondType};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_err};

use super::calendar::{self, Part, midnight, split};
use super::casts::cell_text;
use super::rows::{each, within_longest};
use super::signature::{Call, Kind, Spec, int, text, type_name};

use Kind::{Any, Date, Int, Number, Text, Timestamp};

/// The longest array that a GENERATE function makes, as in BigQuery.
const LONGEST: usize = 1_048_575;

pub(crate) static SPECS: &[Spec] = &[
    Spec::new("array_at", &[Kind::Array, Int, Text], element, at),
    Spec::new("array_length", &[Kind::Array], int, |call| {
        let lists = call.args[0].as_list::<i32>();
        each::<_, Int64Array>(call, |row| Ok((!lists.is_null(row)).then(|| i64::from(lists.value_length(row)))))
    }),
    Spec::new("array_to_string", &[Kind::Array, Text, Text], text, to_text).needs(2),
    Spec::new("generate_array", &[Number, Number, Number], list_of_widest, generate).needs(2),
    Spec::new("generate_date_array", &[Date, Date, Int, Text], list_of_first, generate_moments),
    Spec::new("generate_timestamp_array", &[Timestamp, Timestamp, Int, Text], list_of_first, generate_moments),
    Spec::new("array_concat", &[Kind::Array], super::signature::first, concat).repeats(),
    Spec::new("array_reverse", &[Kind::Array], super::signature::first, reverse),
    Spec::new("in_array", &[Any, Kind::Array], super::signature::boolean, contains),
];

fn element(types: &[DataType]) -> DataType {
    match types.first() {
        Some(DataType::List(field)) => field.data_type().clone(),
        _ => DataType::Int64,
    }
}

fn list_of_first(types: &[DataType]) -> DataType {
    DataType::new_list(super::signature::first(types), true)
}

fn list_of_widest(types: &[DataType]) -> DataType {
    let widest = if types.iter().all(|given| given == &DataType::Int64) { DataType::Int64 } else { DataType::Float64 };
    DataType::new_list(widest, true)
}

/// The rows of a list's values that the given row covers.
fn span(lists: &ListArray, row: usize) -> (usize, usize) {
    let offsets = lists.value_offsets();
    let edge = |place: usize| usize::try_from(offsets[place]).unwrap_or(0);
    (edge(row), edge(row + 1))
}

/// `array[OFFSET(i)]` and its three kin.
fn at(call: &Call<'_>) -> Result<ArrayRef> {
    let lists = call.args[0].as_list::<i32>();
    let (places, modes) = (call.ints(1)?, call.texts(2)?);
    let mut picks: Vec<Option<u32>> = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        if lists.is_null(row) || places.is_null(row) || modes.is_null(row) {
            picks.push(None);
            continue;
        }
        let mode = modes.value(row);
        let place = places.value(row);
        let offset = if mode.ends_with("ORDINAL") { place.saturating_sub(1) } else { place };
        let (start, end) = span(lists, row);
        match usize::try_from(offset) {
            Ok(offset) if offset < end - start => picks.push(u32::try_from(start + offset).ok()),
            _ if call.safe || mode.starts_with("SAFE") => picks.push(None),
            _ => return exec_err!("array index {place} is out of bounds"),
        }
    }
    Ok(take(lists.values(), &UInt32Array::from(picks), None)?)
}

fn to_text(call: &Call<'_>) -> Result<ArrayRef> {
    let lists = call.args[0].as_list::<i32>();
    let between = call.texts(1)?;
    let nulls = if call.has(2) { Some(call.texts(2)?) } else { None };
    each::<_, StringArray>(call, |row| {
        if lists.is_null(row) || between.is_null(row) || nulls.is_some_and(|nulls| nulls.is_null(row)) {
            return Ok(None);
        }
        let (start, end) = span(lists, row);
        let mut parts = Vec::with_capacity(end - start);
        for place in start..end {
            match cell_text(lists.values(), place) {
                Some(part) => match (part?, nulls) {
                    (Some(part), _) => parts.push(part),
                    (None, Some(nulls)) => parts.push(nulls.value(row).to_owned()),
                    (None, None) => {}
                },
                None => return Err(format!("ARRAY_TO_STRING does not take {}", type_name(lists.data_type()))),
            }
        }
        let between = between.value(row);
        let texts: usize = parts.iter().map(String::len).sum();
        within_longest(texts.saturating_add(between.len().saturating_mul(parts.len().saturating_sub(1))))?;
        Ok(Some(parts.join(between)))
    })
}

/// A list array of the given runs of `values`.
fn lists(values: ArrayRef, lengths: Vec<Option<usize>>, returns: &DataType) -> Result<ArrayRef> {
    let field = match returns {
        DataType::List(field) => Arc::clone(field),
        other => Arc::new(Field::new_list_field(other.clone(), true)),
    };
    let nulls: NullBuffer = lengths.iter().map(Option::is_some).collect();
    let offsets = OffsetBuffer::from_lengths(lengths.into_iter().map(|length| length.unwrap_or(0)));
    let values = if values.data_type() == field.data_type() {
        values
    } else {
        arrow::compute::cast(&values, field.data_type())?
    };
    Ok(Arc::new(ListArray::try_new(field, offsets, values, Some(nulls))?))
}

fn too_long() -> DataFusionError {
    DataFusionError::Execution(format!("an array of more than {LONGEST} elements cannot be generated"))
}

fn generate(call: &Call<'_>) -> Result<ArrayRef> {
    let float = matches!(call.returns, DataType::List(field) if field.data_type() == &DataType::Float64);
    let wanted = if float { DataType::Float64 } else { DataType::Int64 };
    let args = call.args.iter().map(|array| Ok(arrow::compute::cast(array, &wanted)?)).collect::<Result<Vec<_>>>()?;
    let mut lengths = Vec::with_capacity(call.rows);
    let (mut ints, mut floats): (Vec<i64>, Vec<f64>) = (Vec::new(), Vec::new());
    for row in 0..call.rows {
        if args.iter().any(|array| array.is_null(row)) {
            lengths.push(None);
            continue;
        }
        let mut length = 0;
        if float {
            let value = |place: usize| args[place].as_primitive::<Float64Type>().value(row);
            let (start, end, step) = (value(0), value(1), if args.len() > 2 { value(2) } else { 1.0 });
            if step == 0.0 || !(start.is_finite() && end.is_finite() && step.is_finite()) {
                return exec_err!("GENERATE_ARRAY takes no step of zero and no infinity");
            }
            let mut next = start;
            while if step > 0.0 { next <= end } else { next >= end } {
                floats.push(next);
                length += 1;
                if length > LONGEST {
                    return Err(too_long());
                }
                next = start + step * length as f64;
            }
        } else {
            let value = |place: usize| args[place].as_primitive::<Int64Type>().value(row);
            let (start, end, step) = (value(0), value(1), if args.len() > 2 { value(2) } else { 1 });
            if step == 0 {
                return exec_err!("GENERATE_ARRAY takes no step of zero");
            }
            let mut next = Some(start);
            while let Some(value) = next.filter(|value| if step > 0 { *value <= end } else { *value >= end }) {
                ints.push(value);
                length += 1;
                if length > LONGEST {
                    return Err(too_long());
                }
                next = value.checked_add(step);
            }
        }
        lengths.push(Some(length));
    }
    let values: ArrayRef =
        if float { Arc::new(arrow::array::Float64Array::from(floats)) } else { Arc::new(Int64Array::from(ints)) };
    lists(values, lengths, call.returns)
}

/// GENERATE_DATE_ARRAY and GENERATE_TIMESTAMP_ARRAY, each element counted from the first one, so
/// that months do not shorten for good after a February.
fn generate_moments(call: &Call<'_>) -> Result<ArrayRef> {
    let dates = call.args[0].data_type() == &DataType::Date32;
    let (steps, parts) = (call.ints(2)?, call.texts(3)?);
    let mut values = Vec::new();
    let mut lengths = Vec::with_capacity(call.rows);
    let fail = DataFusionError::Execution;
    for row in 0..call.rows {
        if call.args.iter().any(|array| array.is_null(row)) {
            lengths.push(None);
            continue;
        }
        let moment = |place: usize| {
            if dates {
                midnight(call.args[place].as_primitive::<Date32Type>().value(row))
            } else {
                call.args[place].as_primitive::<TimestampMicrosecondType>().value(row)
            }
        };
        let (start, end, step) = (moment(0), moment(1), steps.value(row));
        let part = Part::parse(parts.value(row)).map_err(fail)?;
        if step == 0 {
            return exec_err!("an array cannot be generated with a step of zero");
        }
        let mut length: usize = 0;
        let mut next = start;
        while if step > 0 { next <= end } else { next >= end } {
            values.push(next);
            length += 1;
            if length > LONGEST {
                return Err(too_long());
            }
            let count = i64::try_from(length).unwrap_or(i64::MAX).saturating_mul(step);
            let moved = if dates {
                split(start).and_then(|(day, _)| calendar::add_days(day, count, part)).map(midnight)
            } else {
                calendar::add_exact(start, count, part)
            };
            match moved {
                Ok(moved) => next = moved,
                // The calendar's own end is an end too, but a wrong part is an error.
                Err(_) if length > 1 => break,
                Err(message) => return Err(fail(message)),
            }
        }
        lengths.push(Some(length));
    }
    let values: ArrayRef = if dates {
        let days = values.iter().map(|micros| split(*micros).map(|(day, _)| day)).collect::<Result<Vec<_>, _>>();
        Arc::new(arrow::array::Date32Array::from(days.map_err(fail)?))
    } else {
        Arc::new(arrow::array::TimestampMicrosecondArray::from(values).with_timezone("UTC"))
    };
    lists(values, lengths, call.returns)
}

fn concat(call: &Call<'_>) -> Result<ArrayRef> {
    let mut runs: Vec<ArrayRef> = Vec::new();
    let mut lengths = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        if call.args.iter().any(|array| array.is_null(row)) {
            lengths.push(None);
            continue;
        }
        let mut length = 0;
        for array in call.args {
            let run = array.as_list::<i32>().value(row);
            length += run.len();
            runs.push(run);
        }
        lengths.push(Some(length));
    }
    gather(&runs, lengths, call.returns)
}

fn reverse(call: &Call<'_>) -> Result<ArrayRef> {
    let array = call.args[0].as_list::<i32>();
    let mut runs: Vec<ArrayRef> = Vec::new();
    let mut lengths = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        if array.is_null(row) {
            lengths.push(None);
            continue;
        }
        let run = array.value(row);
        let order: UInt32Array = (0..u32::try_from(run.len()).unwrap_or(u32::MAX)).rev().collect();
        lengths.push(Some(run.len()));
        runs.push(take(&run, &order, None)?);
    }
    gather(&runs, lengths, call.returns)
}

fn gather(runs: &[ArrayRef], lengths: Vec<Option<usize>>, returns: &DataType) -> Result<ArrayRef> {
    let parts: Vec<&dyn Array> = runs.iter().map(AsRef::as_ref).collect();
    let values = if parts.is_empty() {
        arrow::array::new_empty_array(&element(std::slice::from_ref(returns)))
    } else {
        arrow::compute::concat(&parts)?
    };
    lists(values, lengths, returns)
}

/// `x IN UNNEST(array)`: NULL where it is not found and something there is NULL.
fn contains(call: &Call<'_>) -> Result<ArrayRef> {
    let values = &call.args[0];
    let array = call.args[1].as_list::<i32>();
    each::<_, arrow::array::BooleanArray>(call, |row| {
        if array.is_null(row) || array.value_length(row) == 0 {
            return Ok(Some(false));
        }
        if values.is_null(row) {
            return Ok(None);
        }
        let cell = |array: &ArrayRef, place: usize| {
            ScalarValue::try_from_array(array, place).map_err(|error| error.to_string())
        };
        let mut wanted = cell(values, row)?;
        if &wanted.data_type() != array.values().data_type() {
            wanted = wanted.cast_to(array.values().data_type()).map_err(|error| error.to_string())?;
        }
        let (start, end) = span(array, row);
        let mut unknown = false;
        for place in start..end {
            if array.values().is_null(place) {
                unknown = true;
            } else if cell(array.values(), place)? == wanted {
                return Ok(Some(true));
            }
        }
        Ok((!unknown).then_some(false))
    })
}

/// RANGE_BUCKET: how many of the sorted bounds are not above the point.
pub(crate) fn range_bucket(call: &Call<'_>) -> Result<ArrayRef> {
    let points = &call.args[0];
    let array = call.args[1].as_list::<i32>();
    let bounds = if array.values().data_type() == points.data_type() {
        Arc::clone(array.values())
    } else {
        arrow::compute::cast(array.values(), points.data_type())?
    };
    each::<_, Int64Array>(call, |row| {
        if array.is_null(row) || points.is_null(row) {
            return Ok(None);
        }
        let cell = |array: &ArrayRef, place: usize| {
            ScalarValue::try_from_array(array, place).map_err(|error| error.to_string())
        };
        let point = cell(points, row)?;
        let (start, end) = span(array, row);
        let mut below = 0;
        for place in start..end {
            if bounds.is_null(place) {
                return Err("RANGE_BUCKET takes no NULL among its bounds".into());
            }
            if cell(&bounds, place)? <= point {
                below += 1;
            }
        }
        Ok(Some(below))
    })
}
