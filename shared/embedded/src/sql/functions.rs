//! Our own functions: BigQuery's scalar functions where DataFusion has none, or one of another
//! meaning.
//!
//! Invariant: a function's name here is `bq_` and BigQuery's own in lower case, so no text can
//! reach one except through the list in [`super::supported`]; and each has a twin named
//! `bq_safe_…` that gives NULL where it would fail (BigQuery's `SAFE.` and SAFE_CAST).

mod arrays;
mod calendar;
mod casts;
mod checksums;
mod dates;
mod fingerprint;
mod float_text;
mod format_time;
mod geography;
mod json;
mod math;
mod parse_time;
mod printf;
mod quantiles;
mod regex;
mod rows;
mod signature;
mod strings;
mod time_text;
mod zone;

use datafusion::logical_expr::{AggregateUDF, ScalarUDF};

use quantiles::{Quantile, Quantiles};
pub(crate) use signature::{Function, Spec};

/// The prefix of the names under which our functions are registered.
pub(crate) const PREFIX: &str = "bq_";
/// The prefix of the twins that give NULL instead of an error.
pub(crate) const SAFE_PREFIX: &str = "bq_safe_";

fn specs() -> impl Iterator<Item = &'static Spec> {
    [
        arrays::SPECS,
        casts::SPECS,
        checksums::SPECS,
        dates::SPECS,
        dates::CONVERSIONS,
        geography::SPECS,
        json::SPECS,
        math::SPECS,
        printf::SPECS,
        regex::SPECS,
        strings::SPECS,
    ]
    .into_iter()
    .flatten()
}

/// Every scalar function of ours, and its safe twin.
pub(crate) fn scalars() -> impl Iterator<Item = ScalarUDF> {
    specs().flat_map(|spec| [ScalarUDF::from(Function::new(spec, false)), ScalarUDF::from(Function::new(spec, true))])
}

/// Our aggregates.
pub(crate) fn aggregates() -> Vec<AggregateUDF> {
    [Quantile::Approximate, Quantile::Discrete, Quantile::Continuous]
        .map(|kind| AggregateUDF::from(Quantiles::new(kind)))
        .into()
}

/// One function of ours by its BigQuery name, for rules that build expressions.
pub(crate) fn scalar(name: &str) -> Option<ScalarUDF> {
    specs().find(|spec| spec.name == name).map(|spec| ScalarUDF::from(Function::new(spec, false)))
}

/// Whether a word names a part of a date or time.
pub(crate) fn is_part(word: &str) -> bool {
    calendar::Part::parse(word).is_ok()
}

/// What is wrong with a format of dates, if something is.
pub(crate) fn refused_format(format: &str, parsing: bool) -> Option<String> {
    let elements = if parsing { parse_time::ELEMENTS } else { format_time::ELEMENTS };
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter == '%' {
            match letters.next() {
                Some(element) if elements.contains(element) => {}
                Some(element) => return Some(format!("the format element %{element} is not supported")),
                None => return Some("a format ends in a single %".to_owned()),
            }
        }
    }
    None
}

/// A constant of a date or time that does not read as one, in a sentence.
pub(crate) fn refused_constant(kind: &str, value: &str) -> Option<String> {
    match kind {
        "date" => time_text::parse_date(value).err(),
        "datetime" => time_text::parse_datetime(value).err(),
        "timestamp" => time_text::parse_timestamp(value, zone::Zone::Utc).err(),
        _ => None,
    }
}
