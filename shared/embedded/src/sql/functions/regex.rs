//! The functions of regular expressions. BigQuery's and ours are both of RE2's kind.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, ListBuilder, StringArray, StringBuilder};
use datafusion::common::{DataFusionError, Result};
use regex::{Captures, Regex};

use super::rows::{each, map2, map3, within_longest};
use super::signature::{Call, Kind, Spec, boolean, text, texts};

use Kind::{Int, Text};

pub(crate) static SPECS: &[Spec] = &[
    Spec::new("regexp_contains", &[Text, Text], boolean, |call| {
        let mut patterns = Patterns::default();
        map2::<_, _, _, BooleanArray>(call, call.texts(0)?, call.texts(1)?, |text, pattern| {
            Ok(Some(patterns.get(pattern)?.is_match(text)))
        })
    }),
    Spec::new("regexp_replace", &[Text, Text, Text], text, |call| {
        let mut patterns = Patterns::default();
        map3::<_, _, _, _, StringArray>(call, call.texts(0)?, call.texts(1)?, call.texts(2)?, |text, pattern, with| {
            let with = replacement(with)?;
            let mut made = text.len();
            let replaced = patterns.get(pattern)?.replace_all(text, |found: &Captures<'_>| {
                let mut part = String::new();
                // Past the bound nothing more is made; the text is refused below.
                if within_longest(made).is_ok() {
                    found.expand(&with, &mut part);
                    made += part.len();
                }
                part
            });
            within_longest(made)?;
            Ok(Some(replaced.into_owned()))
        })
    }),
    Spec::new("regexp_extract", &[Text, Text, Int, Int], text, extract).needs(2),
    Spec::new("regexp_extract_all", &[Text, Text], texts, extract_all),
];

/// The last pattern compiled: almost every call has one for all of its rows.
#[derive(Default)]
struct Patterns(Option<(String, Regex)>);

impl Patterns {
    fn get(&mut self, pattern: &str) -> Result<&Regex, String> {
        if self.0.as_ref().is_none_or(|(known, _)| known != pattern) {
            let regex = Regex::new(pattern).map_err(|_| format!("cannot parse the regular expression '{pattern}'"))?;
            self.0 = Some((pattern.to_owned(), regex));
        }
        match &self.0 {
            Some((_, regex)) => Ok(regex),
            None => Err("there is no regular expression".into()),
        }
    }

    /// The pattern of an extraction, which has at most one group.
    fn single(&mut self, pattern: &str) -> Result<&Regex, String> {
        let regex = self.get(pattern)?;
        if regex.captures_len() > 2 {
            return Err(format!("the regular expression '{pattern}' has more than one capturing group"));
        }
        Ok(regex)
    }
}

/// BigQuery's `\1` as `${1}`; a `$` is a `$`.
fn replacement(with: &str) -> Result<String, String> {
    let mut out = String::with_capacity(with.len());
    let mut letters = with.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '$' => out.push_str("$$"),
            '\\' => match letters.next() {
                Some(digit) if digit.is_ascii_digit() => {
                    out.push_str("${");
                    out.push(digit);
                    out.push('}');
                }
                Some('\\') => out.push('\\'),
                _ => return Err("a backslash in REGEXP_REPLACE must precede a digit or a backslash".into()),
            },
            other => out.push(other),
        }
    }
    Ok(out)
}

/// The group, or the whole match where the pattern has none.
fn groups<'t>(regex: &Regex, text: &'t str) -> impl Iterator<Item = Option<&'t str>> {
    let group = regex.captures_len() - 1;
    regex
        .captures_iter(text)
        .map(move |found| found.get(group).map(|part| part.as_str()))
        .collect::<Vec<_>>()
        .into_iter()
}

fn extract(call: &Call<'_>) -> Result<ArrayRef> {
    let ones = Int64Array::from(vec![1; call.rows]);
    let position = if call.has(2) { call.ints(2)? } else { &ones };
    let occurrence = if call.has(3) { call.ints(3)? } else { &ones };
    let (values, texts) = (call.texts(0)?, call.texts(1)?);
    let mut patterns = Patterns::default();
    each::<_, StringArray>(call, |row| {
        if values.is_null(row) || texts.is_null(row) || position.is_null(row) || occurrence.is_null(row) {
            return Ok(None);
        }
        let regex = patterns.single(texts.value(row))?;
        let (Ok(skip @ 1..), Ok(nth @ 1..)) =
            (usize::try_from(position.value(row)), usize::try_from(occurrence.value(row)))
        else {
            return Err("REGEXP_EXTRACT takes no position or occurrence below 1".into());
        };
        let value = values.value(row);
        let start = if skip == 1 { Some(0) } else { value.char_indices().nth(skip - 1).map(|(start, _)| start) };
        let Some(start) = start else { return Ok(None) };
        Ok(groups(regex, &value[start..]).nth(nth - 1).flatten().map(str::to_owned))
    })
}

fn extract_all(call: &Call<'_>) -> Result<ArrayRef> {
    let (values, texts) = (call.texts(0)?, call.texts(1)?);
    let mut patterns = Patterns::default();
    let mut lists = ListBuilder::new(StringBuilder::new());
    for row in 0..call.rows {
        if values.is_null(row) || texts.is_null(row) {
            lists.append_null();
            continue;
        }
        match patterns.single(texts.value(row)) {
            Ok(regex) => {
                for part in groups(regex, values.value(row)) {
                    lists.values().append_value(part.unwrap_or_default());
                }
                lists.append(true);
            }
            Err(_) if call.safe => lists.append_null(),
            Err(message) => return Err(DataFusionError::Execution(message)),
        }
    }
    Ok(Arc::new(lists.finish()))
}
