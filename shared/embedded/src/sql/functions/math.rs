//! The mathematical functions.

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray, BooleanArray, Datum, Decimal128Array, Float64Array, Int64Array};
use arrow::compute::kernels::cmp::{gt, lt};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{is_null, nullif};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type};
use arrow::error::ArrowError;
use datafusion::common::Result;

use super::super::normalize::numeric;
use super::casts::{round_units, step_of, within_numeric};
use super::rows::{Row, map1, map2};
use super::signature::{Call, Kind, Spec, boolean, first, float, int, type_name};

use Kind::{Any, Array, Float, Fractional, Int, Number};

/// A FLOAT64 function of one argument, with the values it has no answer for.
macro_rules! real {
    ($name:literal, $f:expr) => {
        Spec::new($name, &[Float], float, |call| {
            map1::<_, _, Float64Array>(call, call.floats(0)?, |value: f64| {
                let f: fn(f64) -> Result<f64, &'static str> = $f;
                f(value)
                    .and_then(|result| finite(result, value))
                    .map(Some)
                    .map_err(|why| format!("{} in {}", why, $name.to_uppercase()))
            })
        })
    };
}

/// An infinite result of a finite argument is an overflow in BigQuery.
fn finite(result: f64, value: f64) -> Result<f64, &'static str> {
    if result.is_infinite() && value.is_finite() { Err("floating point overflow") } else { Ok(result) }
}

fn positive(value: f64, f: fn(f64) -> f64) -> Result<f64, &'static str> {
    if value <= 0.0 { Err("an argument that is not positive") } else { Ok(f(value)) }
}

fn within_one(value: f64, f: fn(f64) -> f64) -> Result<f64, &'static str> {
    if value.abs() > 1.0 { Err("an argument outside -1 to 1") } else { Ok(f(value)) }
}

pub(crate) static SPECS: &[Spec] = &[
    real!("sqrt", |x| if x < 0.0 { Err("a negative argument") } else { Ok(x.sqrt()) }),
    real!("cbrt", |x| Ok(x.cbrt())),
    real!("exp", |x| Ok(x.exp())),
    real!("ln", |x| positive(x, f64::ln)),
    real!("log10", |x| positive(x, f64::log10)),
    real!("sin", |x| Ok(x.sin())),
    real!("cos", |x| Ok(x.cos())),
    real!("tan", |x| Ok(x.tan())),
    real!("asin", |x| within_one(x, f64::asin)),
    real!("acos", |x| within_one(x, f64::acos)),
    real!("atan", |x| Ok(x.atan())),
    real!("sinh", |x| Ok(x.sinh())),
    real!("cosh", |x| Ok(x.cosh())),
    real!("tanh", |x| Ok(x.tanh())),
    Spec::new("atan2", &[Float, Float], float, |call| binary(call, |y, x| Ok(y.atan2(x)))),
    Spec::new("pow", &[Float, Float], float, |call| binary(call, power)),
    Spec::new("log", &[Float, Float], float, log).needs(1),
    Spec::new("divide", &[Fractional, Fractional], quotient_type, divide),
    Spec::new("safe_divide", &[Fractional, Fractional], quotient_type, |call| divide(&Call { safe: true, ..*call })),
    Spec::new("ieee_divide", &[Float, Float], float, |call| binary(call, |a, b| Ok(a / b))),
    Spec::new("div", &[Int, Int], int, |call| {
        integers(call, |a, b| match b {
            0 => Err(format!("division by zero: DIV({a}, 0)")),
            _ => a.checked_div(b).ok_or_else(|| overflow(a, "DIV", b)),
        })
    }),
    Spec::new("mod", &[Number, Number], widest, remainder),
    Spec::new("add", &[Int, Int], int, |call| {
        integers(call, |a, b| a.checked_add(b).ok_or_else(|| overflow(a, "+", b)))
    }),
    Spec::new("subtract", &[Int, Int], int, |call| {
        integers(call, |a, b| a.checked_sub(b).ok_or_else(|| overflow(a, "-", b)))
    }),
    Spec::new("multiply", &[Int, Int], int, |call| {
        integers(call, |a, b| a.checked_mul(b).ok_or_else(|| overflow(a, "*", b)))
    }),
    Spec::new("negate", &[Int], int, |call| {
        map1::<_, _, Int64Array>(call, call.ints(0)?, |a| a.checked_neg().map(Some).ok_or_else(|| overflow(0, "-", a)))
    }),
    Spec::new("abs", &[Number], first, |call| {
        same(call, |a| a.checked_abs().ok_or_else(|| format!("int64 overflow: ABS({a})")), f64::abs, i128::abs)
    }),
    Spec::new("sign", &[Number], first, |call| {
        let units = |units: i128| units.signum() * 1_000_000_000;
        same(call, |a| Ok(a.signum()), |x| if x == 0.0 || x.is_nan() { x } else { x.signum() }, units)
    }),
    Spec::new("ceil", &[Fractional], first, |call| {
        whole(call, f64::ceil, |units| units.div_euclid(ONE) + i128::from(units.rem_euclid(ONE) != 0))
    }),
    Spec::new("floor", &[Fractional], first, |call| whole(call, f64::floor, |units| units.div_euclid(ONE))),
    Spec::new("round", &[Fractional, Int], first, |call| digits(call, f64::round, round_units)).needs(1),
    Spec::new("trunc", &[Fractional, Int], first, |call| {
        digits(call, f64::trunc, |units, digits| units / step_of(digits) * step_of(digits))
    })
    .needs(1),
    Spec::new("is_nan", &[Float], boolean, |call| {
        map1::<_, _, BooleanArray>(call, call.floats(0)?, |x: f64| Ok(Some(x.is_nan())))
    }),
    Spec::new("is_inf", &[Float], boolean, |call| {
        map1::<_, _, BooleanArray>(call, call.floats(0)?, |x: f64| Ok(Some(x.is_infinite())))
    }),
    Spec::new("greatest", &[Any], comparable, |call| extreme(call, gt)).repeats(),
    Spec::new("least", &[Any], comparable, |call| extreme(call, lt)).repeats(),
    Spec::new("range_bucket", &[Any, Array], int, super::arrays::range_bucket),
];

const ONE: i128 = 1_000_000_000;

/// The type of the widest of the arguments, of which integers may stand beside floats.
fn comparable(types: &[DataType]) -> DataType {
    if types.contains(&DataType::Float64) { DataType::Float64 } else { widest(types) }
}

/// GREATEST and LEAST: NULL where any argument is NULL, NaN where any is NaN.
fn extreme(
    call: &Call<'_>,
    better: fn(&dyn Datum, &dyn Datum) -> Result<BooleanArray, ArrowError>,
) -> Result<ArrayRef> {
    let mut best: Option<ArrayRef> = None;
    for array in call.args {
        let array = if array.data_type() == call.returns {
            Arc::clone(array)
        } else if array.data_type().is_numeric() && call.returns.is_numeric() || array.null_count() == array.len() {
            arrow::compute::cast(array, call.returns)?
        } else {
            let (a, b) = (type_name(array.data_type()), type_name(call.returns));
            return datafusion::common::exec_err!("GREATEST and LEAST do not compare {a} and {b}");
        };
        best = Some(match best {
            None => array,
            Some(best) => {
                let mut wins = better(&array, &best)?;
                if let (Some(a), Some(b)) =
                    (array.as_primitive_opt::<Float64Type>(), best.as_primitive_opt::<Float64Type>())
                {
                    wins = wins
                        .iter()
                        .enumerate()
                        .map(|(row, wins)| wins.map(|wins| a.value(row).is_nan() || (wins && !b.value(row).is_nan())))
                        .collect();
                }
                let unknown = is_null(&wins)?;
                nullif(&zip(&wins, &array, &best)?, &unknown)?
            }
        });
    }
    match best {
        Some(best) => Ok(best),
        None => datafusion::common::exec_err!("GREATEST and LEAST take at least 1 argument"),
    }
}

fn overflow(a: i64, operator: &str, b: i64) -> String {
    format!("int64 overflow: {a} {operator} {b}")
}

fn integers(call: &Call<'_>, f: impl Fn(i64, i64) -> Result<i64, String>) -> Result<ArrayRef> {
    map2::<_, _, _, Int64Array>(call, call.ints(0)?, call.ints(1)?, |a, b| f(a, b).map(Some))
}

fn binary(call: &Call<'_>, f: impl Fn(f64, f64) -> Result<f64, String>) -> Result<ArrayRef> {
    map2::<_, _, _, Float64Array>(call, call.floats(0)?, call.floats(1)?, |a, b| f(a, b).map(Some))
}

fn power(base: f64, exponent: f64) -> Result<f64, String> {
    let result = base.powf(exponent);
    if base == 0.0 && exponent < 0.0 {
        return Err(format!("POW({base}, {exponent}) has no value"));
    }
    if !result.is_finite() && base.is_finite() && exponent.is_finite() {
        return Err(format!("floating point overflow: POW({base}, {exponent})"));
    }
    Ok(result)
}

/// LOG(x) is natural; LOG(x, base) has the base second.
fn log(call: &Call<'_>) -> Result<ArrayRef> {
    if !call.has(1) {
        return map1::<_, _, Float64Array>(call, call.floats(0)?, |x: f64| {
            positive(x, f64::ln).map(Some).map_err(|why| format!("{why} in LOG"))
        });
    }
    binary(call, |x, base| {
        if x <= 0.0 || base <= 0.0 || base == 1.0 {
            return Err(format!("LOG({x}, {base}) has no value"));
        }
        // Powers of two and ten are exact this way.
        Ok(match base {
            2.0 => x.log2(),
            10.0 => x.log10(),
            _ => x.ln() / base.ln(),
        })
    })
}

fn quotient_type(types: &[DataType]) -> DataType {
    if types.iter().all(|given| matches!(given, DataType::Decimal128(..))) { numeric() } else { DataType::Float64 }
}

/// FLOAT64 arrays of both arguments, whatever they are.
fn as_floats(call: &Call<'_>) -> Result<Vec<ArrayRef>> {
    call.args.iter().map(|array| Ok(arrow::compute::cast(array, &DataType::Float64)?)).collect()
}

fn decimals(array: Decimal128Array) -> Result<ArrayRef> {
    Ok(Arc::new(array.with_precision_and_scale(38, 9)?))
}

/// The `/` of BigQuery: never an integer, and an error where the divisor is zero.
fn divide(call: &Call<'_>) -> Result<ArrayRef> {
    if matches!(call.returns, DataType::Decimal128(..)) {
        let (a, b) = (call.args[0].as_primitive::<Decimal128Type>(), call.args[1].as_primitive::<Decimal128Type>());
        let array = map_units(call, a, b, |a, b| {
            // One digit more than is kept, to round half away from zero.
            let scaled = a.checked_mul(ONE * 10)?.checked_div(b)?;
            Some((scaled + 5 * scaled.signum()) / 10)
        })?;
        return Ok(array);
    }
    let floats = as_floats(call)?;
    let call = Call { args: &floats, ..*call };
    binary(&call, |a, b| {
        if b == 0.0 {
            return Err(format!("division by zero: {a} / {b}"));
        }
        let result = a / b;
        if result.is_infinite() && a.is_finite() {
            return Err(format!("floating point overflow: {a} / {b}"));
        }
        Ok(result)
    })
}

fn map_units(
    call: &Call<'_>,
    a: &Decimal128Array,
    b: &Decimal128Array,
    f: impl Fn(i128, i128) -> Option<i128>,
) -> Result<ArrayRef> {
    let array = map2::<_, _, _, Decimal128Array>(call, a, b, |a, b| {
        if b == 0 {
            return Err("division by zero".into());
        }
        f(a, b).and_then(within_numeric).map(Some).ok_or_else(|| "numeric overflow".into())
    })?;
    decimals(array.as_primitive::<Decimal128Type>().clone())
}

fn widest(types: &[DataType]) -> DataType {
    if types.iter().any(|given| given == &DataType::Float64) {
        // MOD takes no FLOAT64; `remainder` says so.
        return DataType::Float64;
    }
    // Integers, of which an untyped NULL is one too, give way to anything.
    types.iter().find(|given| **given != DataType::Int64).cloned().unwrap_or(DataType::Int64)
}

fn remainder(call: &Call<'_>) -> Result<ArrayRef> {
    match call.returns {
        DataType::Int64 => integers(call, |a, b| match b {
            0 => Err(format!("division by zero: MOD({a}, 0)")),
            // The smallest integer modulo -1 overflows in the machine and is zero in mathematics.
            _ => Ok(a.checked_rem(b).unwrap_or(0)),
        }),
        DataType::Decimal128(..) => {
            let args = call
                .args
                .iter()
                .map(|array| Ok(arrow::compute::cast(array, &numeric())?))
                .collect::<Result<Vec<_>>>()?;
            let (a, b) = (args[0].as_primitive::<Decimal128Type>(), args[1].as_primitive::<Decimal128Type>());
            map_units(call, a, b, |a, b| a.checked_rem(b))
        }
        _ => datafusion::common::exec_err!("MOD does not take FLOAT64"),
    }
}

/// A function that keeps its argument's type.
fn same(
    call: &Call<'_>,
    int: impl Fn(i64) -> Result<i64, String>,
    float: impl Fn(f64) -> f64,
    units: impl Fn(i128) -> i128,
) -> Result<ArrayRef> {
    match call.args[0].data_type() {
        DataType::Int64 => map1::<_, _, Int64Array>(call, call.ints(0)?, |a| int(a).map(Some)),
        DataType::Float64 => map1::<_, _, Float64Array>(call, call.floats(0)?, |x| Ok(Some(float(x)))),
        _ => units_of(call, |value| Ok(Some(units(value)))),
    }
}

fn units_of(call: &Call<'_>, f: impl Fn(i128) -> Row<i128>) -> Result<ArrayRef> {
    let array = map1::<_, _, Decimal128Array>(call, call.args[0].as_primitive::<Decimal128Type>(), f)?;
    decimals(array.as_primitive::<Decimal128Type>().clone())
}

fn whole(call: &Call<'_>, float: fn(f64) -> f64, units: fn(i128) -> i128) -> Result<ArrayRef> {
    match call.args[0].data_type() {
        DataType::Float64 => map1::<_, _, Float64Array>(call, call.floats(0)?, |x| Ok(Some(float(x)))),
        _ => units_of(call, |value| Ok(Some(units(value) * ONE))),
    }
}

/// ROUND and TRUNC with the number of digits to keep after the point.
fn digits(call: &Call<'_>, float: fn(f64) -> f64, units: fn(i128, i64) -> i128) -> Result<ArrayRef> {
    let zeros = Int64Array::from(vec![0; if call.has(1) { 0 } else { call.rows }]);
    let places = if call.has(1) { call.ints(1)? } else { &zeros };
    match call.args[0].data_type() {
        DataType::Float64 => map2::<_, _, _, Float64Array>(call, call.floats(0)?, places, |x, places| {
            Ok(Some(at_digit(x, places, float)))
        }),
        _ => {
            let values = call.args[0].as_primitive::<Decimal128Type>();
            let array = map2::<_, _, _, Decimal128Array>(call, values, places, |value, places| {
                Ok(Some(if places >= 9 { value } else { units(value, places) }))
            })?;
            decimals(array.as_primitive::<Decimal128Type>().clone())
        }
    }
}

/// `f` at a digit other than that of the units.
fn at_digit(x: f64, places: i64, f: fn(f64) -> f64) -> f64 {
    let Ok(places) = i32::try_from(places.clamp(-400, 400)) else { return x };
    if places == 0 || !x.is_finite() {
        return f(x);
    }
    if places > 0 {
        let scale = 10_f64.powi(places);
        let scaled = x * scale;
        // A FLOAT64 this large has no digits there to lose.
        if !scaled.is_finite() || scaled.abs() >= 9_007_199_254_740_992.0 {
            return x;
        }
        // The product is a neighbour of the true one: 1.005 * 100 is 100.49999999999999.
        return f(scaled) / scale;
    }
    let scale = 10_f64.powi(-places);
    if scale.is_infinite() { 0.0 } else { f(x / scale) * scale }
}
