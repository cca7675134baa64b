//! Constants: BigQuery's spellings of numbers, strings, bytes, dates and times.

use datafusion::sql::sqlparser::ast::{Expr, Ident, Value};

use super::super::error::Refusal;
use super::super::functions::refused_constant;
use super::build::{call, text};
use super::syntax::cast_name;

type Done = Result<(), Box<Refusal>>;

pub(crate) fn value(expr: &mut Expr) -> Done {
    let Expr::Value(literal) = expr else { return Ok(()) };
    let span = literal.span;
    let plain = match std::mem::replace(&mut literal.value, Value::Null) {
        Value::DoubleQuotedString(text)
        | Value::TripleSingleQuotedString(text)
        | Value::TripleDoubleQuotedString(text)
        | Value::SingleQuotedRawStringLiteral(text)
        | Value::DoubleQuotedRawStringLiteral(text)
        | Value::TripleSingleQuotedRawStringLiteral(text)
        | Value::TripleDoubleQuotedRawStringLiteral(text) => Value::SingleQuotedString(text),
        Value::SingleQuotedByteStringLiteral(bytes)
        | Value::DoubleQuotedByteStringLiteral(bytes)
        | Value::TripleSingleQuotedByteStringLiteral(bytes)
        | Value::TripleDoubleQuotedByteStringLiteral(bytes) => {
            *expr = call("bq_cast_bytes", vec![text(bytes)]);
            return Ok(());
        }
        Value::HexStringLiteral(digits) => match i64::from_str_radix(&digits, 16) {
            Ok(number) => Value::Number(number.to_string(), false),
            Err(_) => return Err(Refusal::new(span, format!("0x{digits} does not fit an INT64"))),
        },
        Value::Number(digits, long) => {
            let whole = digits.bytes().all(|digit| digit.is_ascii_digit());
            if long || (whole && digits.parse::<i64>().is_err()) {
                return Err(Refusal::new(span, format!("{digits} does not fit an INT64")));
            }
            Value::Number(digits, false)
        }
        other => other,
    };
    literal.value = plain;
    Ok(())
}

/// `DATE '2024-01-01'` and its kin.
pub(crate) fn typed(expr: &mut Expr) -> Done {
    let Expr::TypedString(typed) = expr else { return Ok(()) };
    let span = typed.value.span;
    let name = cast_name(&typed.data_type)
        .ok_or_else(|| Refusal::new(span, format!("a constant of type {} is not supported", typed.data_type)))?;
    if !matches!(name, "date" | "datetime" | "timestamp" | "numeric") {
        return Err(Refusal::new(span, format!("a constant of type {} is not BigQuery's", typed.data_type)));
    }
    let Some(value) = typed.value.clone().into_string() else {
        return Err(Refusal::new(span, "a constant of a type takes a string"));
    };
    if let Some(what) = refused_constant(name, &value) {
        return Err(Refusal::new(span, what));
    }
    *expr = call(&format!("bq_cast_{name}"), vec![text(value)]);
    Ok(())
}

/// BigQuery compares the names of columns without case; ours are kept in lower case.
pub(crate) fn lower(name: &mut Ident) {
    name.value = name.value.to_lowercase();
}

/// The names in an expression that is one.
pub(crate) fn names(expr: &mut Expr) {
    match expr {
        Expr::Identifier(name) => lower(name),
        Expr::CompoundIdentifier(path) => path.iter_mut().for_each(lower),
        _ => {}
    }
}
