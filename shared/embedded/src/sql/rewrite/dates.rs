//! Date parts and intervals, which are keywords in BigQuery and texts and numbers to our functions.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Interval, Spanned, Value,
};

use super::super::error::Refusal;
use super::super::functions::{is_part, refused_format};
use super::super::supported::{Rule, rule};
use super::build::{arg, call, number, take, text};

type Done = Result<(), Box<Refusal>>;

/// The arguments of a call, if they are a list.
fn args(function: &mut Function) -> Option<&mut Vec<FunctionArg>> {
    match &mut function.args {
        FunctionArguments::List(list) => Some(&mut list.args),
        _ => None,
    }
}

fn expr(args: &mut [FunctionArg], place: usize) -> Option<&mut Expr> {
    match args.get_mut(place) {
        Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))) => Some(expr),
        _ => None,
    }
}

/// Puts texts and numbers in the place of keywords in a call of the author's.
pub(crate) fn down(function: &mut Function, called: &str) -> Done {
    let name = called.to_uppercase();
    let span = function.name.span();
    let Some(list) = args(function) else { return Ok(()) };
    if matches!(
        called,
        "format_date" | "format_datetime" | "format_timestamp" | "parse_date" | "parse_datetime" | "parse_timestamp"
    ) && let Some(Expr::Value(value)) = expr(list, 0)
        && let Value::SingleQuotedString(format) | Value::DoubleQuotedString(format) = &value.value
        && let Some(what) = refused_format(format, called.starts_with("parse"))
    {
        return Err(Refusal::new(value.span, what));
    }
    match rule(called) {
        Some(Rule::Dated(place)) => {
            if let Some(part) = expr(list, place) {
                *part = part_of(part, &name)?;
            }
        }
        Some(Rule::Interval(place, default)) => match expr(list, place) {
            Some(Expr::Interval(interval)) => {
                let (count, part) = parts_of(interval)?;
                list.splice(place..=place, [arg(count), arg(text(part))]);
            }
            Some(other) => {
                let span = other.span();
                return Err(Refusal::new(span, format!("{name} takes an INTERVAL as argument {}", place + 1)));
            }
            None => match default {
                Some((count, part)) if list.len() == place => list.extend([arg(number(count)), arg(text(part))]),
                _ => return Err(Refusal::new(span, format!("{name} takes an INTERVAL as argument {}", place + 1))),
            },
        },
        _ => {}
    }
    Ok(())
}

/// A date part, such as `MONTH` or `WEEK(MONDAY)`, as text.
fn part_of(part: &Expr, name: &str) -> Result<Expr, Box<Refusal>> {
    let word = match part {
        Expr::Identifier(word) => word.value.clone(),
        Expr::Function(_) => part.to_string().replace(' ', ""),
        _ => String::new(),
    };
    if is_part(&word) {
        return Ok(text(word.to_uppercase()));
    }
    Err(Refusal::new(part.span(), format!("{part} is not a date part that {name} takes")))
}

/// The count and the part of an interval.
fn parts_of(interval: &mut Interval) -> Result<(Expr, String), Box<Refusal>> {
    let span = interval.value.span();
    let part = match (&interval.leading_field, &interval.last_field) {
        (Some(part), None) => part.to_string(),
        _ => return Err(Refusal::new(span, "an INTERVAL of more than one part is not supported")),
    };
    if !is_part(&part) {
        return Err(Refusal::new(span, format!("{part} is not a date part")));
    }
    Ok((take(&mut interval.value), part.to_uppercase()))
}

/// `moment + INTERVAL n PART` and `moment - INTERVAL n PART` as calls.
pub(crate) fn interval_arithmetic(whole: &mut Expr) -> Done {
    let Expr::BinaryOp { left, op, right } = whole else { return Ok(()) };
    let (moment, interval, called) = match (left.as_mut(), &op, right.as_mut()) {
        (moment, BinaryOperator::Plus, Expr::Interval(interval)) => (moment, interval, "bq_interval_add"),
        (moment, BinaryOperator::Minus, Expr::Interval(interval)) => (moment, interval, "bq_interval_sub"),
        (Expr::Interval(interval), BinaryOperator::Plus, moment) => (moment, interval, "bq_interval_add"),
        _ => return Ok(()),
    };
    let (count, part) = parts_of(interval)?;
    let moment = take(moment);
    *whole = call(called, vec![moment, count, text(part)]);
    Ok(())
}

/// EXTRACT, with or without a zone.
pub(crate) fn extract(whole: &mut Expr) -> Done {
    let span = whole.span();
    let Expr::Extract { field, expr, .. } = whole else { return Ok(()) };
    let part = field.to_string().replace(' ', "").to_uppercase();
    let mut moment = vec![take(expr)];
    if let Expr::AtTimeZone { timestamp, time_zone } = &mut moment[0] {
        let (timestamp, zone) = (take(timestamp), take(time_zone));
        moment = vec![timestamp, zone];
    }
    *whole = match part.as_str() {
        "DATE" => call("bq_date", moment),
        "DATETIME" => call("bq_datetime", moment),
        _ if is_part(&part) => {
            moment.insert(0, text(part));
            call("bq_extract", moment)
        }
        _ => return Err(Refusal::new(span, format!("EXTRACT({part} FROM ...) is not supported"))),
    };
    Ok(())
}
