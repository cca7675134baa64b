//! JSON_VALUE of a STRING that holds JSON.

use arrow::array::StringArray;
use datafusion::common::Result;
use serde_json::Value;

use super::rows::map2;
use super::signature::{Call, Kind, Spec, text};

use Kind::Text;

pub(crate) static SPECS: &[Spec] = &[
    Spec::new("json_value", &[Text, Text], text, json_value).needs(1),
    Spec::new("json_extract_scalar", &[Text, Text], text, json_value).needs(1),
];

/// One step of a path.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Element(usize),
}

fn json_value(call: &Call<'_>) -> Result<arrow::array::ArrayRef> {
    let paths = call.texts_or(1, "$")?;
    let mut last: Option<(String, Vec<Step>)> = None;
    map2::<_, _, _, StringArray>(call, call.texts(0)?, &paths, |json, path| {
        if last.as_ref().is_none_or(|(known, _)| known != path) {
            last = Some((path.to_owned(), parse(path)?));
        }
        let steps = last.as_ref().map_or(&[][..], |(_, steps)| steps);
        // BigQuery gives NULL, not an error, for a text that is not JSON.
        let Ok(mut value) = serde_json::from_str::<Value>(json) else { return Ok(None) };
        for step in steps {
            let inner = match step {
                Step::Field(name) => value.get_mut(name.as_str()),
                Step::Element(place) => value.get_mut(place),
            };
            match inner {
                Some(inner) => value = inner.take(),
                None => return Ok(None),
            }
        }
        Ok(match value {
            Value::String(text) => Some(text),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(value) => Some(value.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        })
    })
}

/// `$`, then any of `.name`, `."name"`, `['name']`, `[0]`.
fn parse(path: &str) -> Result<Vec<Step>, String> {
    let invalid = || format!("invalid JSON path '{path}'");
    let mut rest = path.trim().strip_prefix('$').ok_or_else(invalid)?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('[') {
            let (inside, after) = match after.strip_prefix(['\'', '"']) {
                Some(quoted) => {
                    let (name, after) = quoted.split_once(['\'', '"']).ok_or_else(invalid)?;
                    (Step::Field(name.to_owned()), after.strip_prefix(']').ok_or_else(invalid)?)
                }
                None => {
                    let (digits, after) = after.split_once(']').ok_or_else(invalid)?;
                    (Step::Element(digits.trim().parse().map_err(|_| invalid())?), after)
                }
            };
            steps.push(inside);
            rest = after;
            continue;
        }
        let after = rest.strip_prefix('.').ok_or_else(invalid)?;
        if let Some(quoted) = after.strip_prefix('"') {
            let (name, after) = quoted.split_once('"').ok_or_else(invalid)?;
            steps.push(Step::Field(name.to_owned()));
            rest = after;
            continue;
        }
        let length = after.find(['.', '[']).unwrap_or(after.len());
        let (name, after) = after.split_at(length);
        if name.is_empty() || name.contains(['*', '?', '@']) {
            return Err(invalid());
        }
        steps.push(Step::Field(name.to_owned()));
        rest = after;
    }
    Ok(steps)
}
