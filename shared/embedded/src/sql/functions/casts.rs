//! CAST and SAFE_CAST: one function for each type to cast to.
//!
//! Invariant: a cast does what BigQuery's table of conversions says; a pair of types that the table
//! does not have is an error when the query is planned or first run, never a guess.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array,
    StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Decimal128Type};
use datafusion::common::{Result, exec_err};

use super::calendar::{midnight, split};
use super::float_text;
use super::rows::{Row, each, map1, zoned};
use super::signature::{Call, Kind, Spec, boolean, bytes, civil, date, decimal, float, instant, int, text, type_name};
use super::time_text;
use super::zone::Zone;

pub(crate) static SPECS: &[Spec] = &[
    Spec::new("cast_int64", &[Kind::Any], int, to_int),
    Spec::new("cast_float64", &[Kind::Any], float, to_float),
    Spec::new("cast_numeric", &[Kind::Any], decimal, to_numeric),
    Spec::new("cast_bool", &[Kind::Any], boolean, to_bool),
    Spec::new("cast_string", &[Kind::Any], text, to_text),
    Spec::new("cast_bytes", &[Kind::Any], bytes, to_bytes),
    Spec::new("cast_date", &[Kind::Any], date, to_date),
    Spec::new("cast_datetime", &[Kind::Any], civil, to_datetime),
    Spec::new("cast_timestamp", &[Kind::Any], instant, to_timestamp),
];

const NUMERIC_UNIT: i128 = 1_000_000_000;

fn from(call: &Call<'_>) -> Result<ArrayRef> {
    match call.args.first() {
        Some(array) => Ok(Arc::clone(array)),
        None => exec_err!("CAST takes one argument"),
    }
}

fn no_cast(call: &Call<'_>) -> Result<ArrayRef> {
    let array = from(call)?;
    if array.null_count() == array.len() {
        return Ok(arrow::array::new_null_array(call.returns, array.len()));
    }
    exec_err!("casting {} to {} is not supported", type_name(array.data_type()), type_name(call.returns))
}

/// Half away from zero, as BigQuery rounds a number to an INT64.
pub(crate) fn round_to_int(value: f64) -> Result<i64, String> {
    let rounded = value.round();
    // The bounds are exact as floats; the upper one itself is already too large.
    if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&rounded) {
        Ok(rounded as i64)
    } else {
        Err(format!("bad int64 value: {}", float_text::float(value)))
    }
}

pub(crate) fn parse_int(text: &str) -> Result<i64, String> {
    let plain = text.trim();
    let (negative, digits) = match plain.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, plain.strip_prefix('+').unwrap_or(plain)),
    };
    let magnitude = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) if hex.bytes().all(|digit| digit.is_ascii_hexdigit()) => i128::from_str_radix(hex, 16).ok(),
        None if digits.bytes().all(|digit| digit.is_ascii_digit()) => digits.parse::<i128>().ok(),
        _ => None,
    };
    magnitude
        .map(|magnitude| if negative { -magnitude } else { magnitude })
        .and_then(|value| i64::try_from(value).ok())
        .ok_or_else(|| format!("bad int64 value: {text}"))
}

pub(crate) fn parse_float(text: &str) -> Result<f64, String> {
    let bad = || format!("bad double value: {text}");
    let plain = text.trim();
    let value: f64 = plain.parse().map_err(|_| bad())?;
    // A number too large for a FLOAT64 is an error unless the text says infinity.
    if value.is_infinite() && plain.bytes().any(|byte| byte.is_ascii_digit()) {
        return Err(bad());
    }
    Ok(value)
}

fn to_int(call: &Call<'_>) -> Result<ArrayRef> {
    let array = from(call)?;
    match array.data_type() {
        DataType::Int64 => Ok(array),
        DataType::Float64 => map1::<_, _, Int64Array>(call, call.floats(0)?, |value| round_to_int(value).map(Some)),
        DataType::Utf8 => map1::<_, _, Int64Array>(call, call.texts(0)?, |value| parse_int(value).map(Some)),
        DataType::Boolean => map1::<_, _, Int64Array>(call, call.bools(0)?, |value| Ok(Some(i64::from(value)))),
        DataType::Decimal128(..) => map1::<_, _, Int64Array>(call, array.as_primitive::<Decimal128Type>(), |units| {
            let rounded = round_units(units, 0) / NUMERIC_UNIT;
            i64::try_from(rounded).map(Some).map_err(|_| format!("bad int64 value: {}", float_text::numeric(units)))
        }),
        _ => no_cast(call),
    }
}

fn to_float(call: &Call<'_>) -> Result<ArrayRef> {
    let array = from(call)?;
    match array.data_type() {
        DataType::Float64 => Ok(array),
        DataType::Int64 => map1::<_, _, Float64Array>(call, call.ints(0)?, |value| Ok(Some(value as f64))),
        DataType::Utf8 => map1::<_, _, Float64Array>(call, call.texts(0)?, |value| parse_float(value).map(Some)),
        DataType::Decimal128(..) => map1::<_, _, Float64Array>(call, array.as_primitive::<Decimal128Type>(), |units| {
            parse_float(&float_text::numeric(units)).map(Some)
        }),
        _ => no_cast(call),
    }
}

/// A NUMERIC's units rounded half away from zero to `digits` after the point.
pub(crate) fn round_units(units: i128, digits: i64) -> i128 {
    let step = step_of(digits);
    let half = if units < 0 { -(step / 2) } else { step / 2 };
    (units + half) / step * step
}

/// The units of the last digit kept.
pub(crate) fn step_of(digits: i64) -> i128 {
    10_i128.pow(u32::try_from((9 - digits).clamp(0, 37)).unwrap_or(0))
}

fn parse_numeric(text: &str) -> Result<i128, String> {
    let bad = || format!("invalid NUMERIC value: {text}");
    let plain = text.trim();
    let (plain, exponent) = match plain.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().map_err(|_| bad())?),
        None => (plain, 0),
    };
    let (sign, digits) = match plain.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, plain.strip_prefix('+').unwrap_or(plain)),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.len() + part.len() == 0 || !whole.bytes().chain(part.bytes()).all(|digit| digit.is_ascii_digit()) {
        return Err(bad());
    }
    let point = i32::try_from(whole.len()).map_err(|_| bad())?.saturating_add(exponent).saturating_add(9);
    let mut units = 0_i128;
    let mut round = false;
    for (place, digit) in whole.bytes().chain(part.bytes()).enumerate() {
        let place = i32::try_from(place).map_err(|_| bad())?;
        if place < point {
            units =
                units.checked_mul(10).and_then(|units| units.checked_add(i128::from(digit - b'0'))).ok_or_else(bad)?;
        } else if place == point {
            round = digit >= b'5';
        }
    }
    let missing = point.saturating_sub(i32::try_from(whole.len() + part.len()).map_err(|_| bad())?);
    if units != 0 && missing > 0 {
        let scale = u32::try_from(missing).ok().and_then(|missing| 10_i128.checked_pow(missing)).ok_or_else(bad)?;
        units = units.checked_mul(scale).ok_or_else(bad)?;
    }
    within_numeric(sign * (units + i128::from(round))).ok_or_else(bad)
}

/// The units, if they have no more than NUMERIC's 38 digits.
pub(crate) fn within_numeric(units: i128) -> Option<i128> {
    (units.unsigned_abs() < 10_u128.pow(38)).then_some(units)
}

fn numeric_array(array: ArrayRef) -> Result<ArrayRef> {
    let decimals: Decimal128Array = array.as_primitive::<Decimal128Type>().clone();
    Ok(Arc::new(decimals.with_precision_and_scale(38, 9)?))
}

fn to_numeric(call: &Call<'_>) -> Result<ArrayRef> {
    let array = from(call)?;
    numeric_array(match array.data_type() {
        DataType::Decimal128(..) => return Ok(array),
        DataType::Int64 => {
            map1::<_, _, Decimal128Array>(call, call.ints(0)?, |value| Ok(Some(i128::from(value) * NUMERIC_UNIT)))?
        }
        DataType::Float64 => map1::<_, _, Decimal128Array>(call, call.floats(0)?, |value| {
            // Of the digits that the value has, and not of the shortest text that reads as it.
            let digits = format!("{value:.30}");
            parse_numeric(&digits).map(Some).map_err(|_| format!("invalid NUMERIC value: {value:e}"))
        })?,
        DataType::Utf8 => map1::<_, _, Decimal128Array>(call, call.texts(0)?, |value| parse_numeric(value).map(Some))?,
        _ => return no_cast(call),
    })
}

fn to_bool(call: &Call<'_>) -> Result<ArrayRef> {
    let array = from(call)?;
    match array.data_type() {
        DataType::Boolean => Ok(array),
        DataType::Int64 => map1::<_, _, BooleanArray>(call, call.ints(0)?, |value| Ok(Some(value != 0))),
        DataType::Utf8 => {
            map1::<_, _, BooleanArray>(call, call.texts(0)?, |value| match value.to_ascii_lowercase().as_str() {
                "true" => Ok(Some(true)),
                "false" => Ok(Some(false)),
                _ => Err(format!("bad bool value: {value}")),
            })
        }
        _ => no_cast(call),
    }
}

/// One cell as CAST(… AS STRING) gives it; `None` for a type that has no such text.
pub(crate) fn cell_text(array: &dyn Array, row: usize) -> Option<Row<String>> {
    if array.is_null(row) {
        return Some(Ok(None));
    }
    Some(match array.data_type() {
        DataType::Utf8 => Ok(Some(array.as_string::<i32>().value(row).to_owned())),
        DataType::Int64 => Ok(Some(array.as_primitive::<arrow::datatypes::Int64Type>().value(row).to_string())),
        DataType::Float64 => {
            Ok(Some(float_text::float(array.as_primitive::<arrow::datatypes::Float64Type>().value(row))))
        }
        DataType::Decimal128(..) => Ok(Some(float_text::numeric(array.as_primitive::<Decimal128Type>().value(row)))),
        DataType::Boolean => Ok(Some(array.as_boolean().value(row).to_string())),
        DataType::Binary => match std::str::from_utf8(array.as_binary::<i32>().value(row)) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(_) => Err("invalid UTF-8 in a cast of BYTES to STRING".to_owned()),
        },
        DataType::Date32 => time_text::date(array.as_primitive::<arrow::datatypes::Date32Type>().value(row)).map(Some),
        DataType::Timestamp(_, zone) => {
            let micros = array.as_primitive::<arrow::datatypes::TimestampMicrosecondType>().value(row);
            match zone {
                Some(_) => time_text::timestamp(micros, Zone::Utc).map(Some),
                None => time_text::datetime(micros, ' ').map(Some),
            }
        }
        _ => return None,
    })
}

fn to_text(call: &Call<'_>) -> Result<ArrayRef> {
    let array = from(call)?;
    match array.data_type() {
        DataType::Utf8 => Ok(array),
        DataType::List(_) | DataType::Struct(_) => no_cast(call),
        other => each::<_, StringArray>(call, |row| {
            cell_text(&array, row)
                .unwrap_or_else(|| Err(format!("casting {} to STRING is not supported", type_name(other))))
        }),
    }
}

fn to_bytes(call: &Call<'_>) -> Result<ArrayRef> {
    let array = from(call)?;
    match array.data_type() {
        DataType::Binary => Ok(array),
        DataType::Utf8 => map1::<_, _, BinaryArray>(call, call.texts(0)?, |value| Ok(Some(value.as_bytes().to_vec()))),
        _ => no_cast(call),
    }
}

fn to_date(call: &Call<'_>) -> Result<ArrayRef> {
    let array = from(call)?;
    match array.data_type() {
        DataType::Date32 => Ok(array),
        DataType::Utf8 => {
            map1::<_, _, Date32Array>(call, call.texts(0)?, |value| time_text::parse_date(value).map(Some))
        }
        DataType::Timestamp(..) => {
            map1::<_, _, Date32Array>(call, call.micros(0)?, |micros| split(micros).map(|(day, _)| Some(day)))
        }
        _ => no_cast(call),
    }
}

fn to_datetime(call: &Call<'_>) -> Result<ArrayRef> {
    to_micros(call, time_text::parse_datetime)
}

fn to_timestamp(call: &Call<'_>) -> Result<ArrayRef> {
    to_micros(call, |text| time_text::parse_timestamp(text, Zone::Utc))
}

fn to_micros(call: &Call<'_>, parse: impl Fn(&str) -> Result<i64, String>) -> Result<ArrayRef> {
    let array = from(call)?;
    let micros = match array.data_type() {
        same if same == call.returns => return Ok(array),
        DataType::Utf8 => {
            map1::<_, _, TimestampMicrosecondArray>(call, call.texts(0)?, |value| parse(value).map(Some))?
        }
        DataType::Date32 => {
            map1::<_, _, TimestampMicrosecondArray>(call, call.dates(0)?, |day| Ok(Some(midnight(day))))?
        }
        // The civil clock of UTC either way.
        DataType::Timestamp(..) => array,
        _ => return no_cast(call),
    };
    zoned(micros, call.returns)
}
