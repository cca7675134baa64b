//! From the errors of the parser, of DataFusion and of our own refusals to the one error that this module returns.
//!
//! Invariant: every error names a file, a line and a column of the text that its author can open,
//! and one sentence about what is wrong.

use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::tokenizer::{Location, Span};
use shared::warehouse::{Origin, SqlError};

/// A refusal inside the text, before it is known which file the text is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) at: Location,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(span: Span, message: impl Into<String>) -> Box<Self> {
        Box::new(Self { at: span.start, message: message.into() })
    }

    pub(crate) fn locate(self, origin: &Origin) -> SqlError {
        let line = u32::try_from(self.at.line.max(1)).unwrap_or(u32::MAX);
        SqlError {
            file: origin.file.clone(),
            line: origin.first_line.max(1).saturating_add(line - 1),
            column: u32::try_from(self.at.column.max(1)).unwrap_or(u32::MAX),
            message: self.message,
        }
    }
}

/// The parser's message, its place taken out of the text that sqlparser puts it in.
pub(crate) fn from_parser(message: &str) -> Refusal {
    let (text, at) = match message.rsplit_once(" at Line: ") {
        Some((text, place)) => {
            let mut numbers = place.split(", Column: ").map(|part| {
                let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
                digits.parse::<u64>().unwrap_or(1)
            });
            (text, Location::new(numbers.next().unwrap_or(1), numbers.next().unwrap_or(1)))
        }
        None => (message, Location::new(1, 1)),
    };
    Refusal { at, message: sentence(text) }
}

/// The planner's error as a refusal. Places come from DataFusion's diagnostic where it has one,
/// otherwise `find` looks for the names that the message quotes.
pub(crate) fn from_planner(error: &DataFusionError, find: impl Fn(&str) -> Option<Location>) -> Refusal {
    let root = error.find_root();
    let (text, message) = match root {
        DataFusionError::SchemaError(schema, _) => {
            let text = schema.to_string();
            let message = unknown_column(&text).unwrap_or_else(|| sentence(&text));
            (text, message)
        }
        other => match other.message().to_string() {
            text if text.contains("subquery can only be used in") => {
                ("'in' 'exists'".to_owned(), "a subquery in this place is not supported: write a join".to_owned())
            }
            text => {
                let message = sentence(&text);
                (text, message)
            }
        },
    };
    let diagnosed = error
        .diagnostic()
        .and_then(|diagnostic| diagnostic.span)
        .map(|span| Location::new(span.start.line, span.start.column))
        .filter(|at| at.line > 0);
    let at = diagnosed
        .or_else(|| quoted(&text.replace("bq_", "")).into_iter().find_map(&find))
        .unwrap_or_else(|| Location::new(1, 1));
    Refusal { at, message }
}

/// The names that a message quotes, innermost part last: `'a.b'` gives `b`.
fn quoted(message: &str) -> Vec<&str> {
    message
        .split(['\'', '`', '"'])
        .skip(1)
        .step_by(2)
        .map(|name| name.rsplit('.').next().unwrap_or(name).trim())
        .filter(|name| !name.is_empty())
        .collect()
}

/// DataFusion's three lines about a column that is not there, as one sentence.
fn unknown_column(text: &str) -> Option<String> {
    let rest = text.strip_prefix("No field named ")?;
    let (name, rest) = rest.split_once(". Did you mean ").map_or_else(
        || rest.split_once('.').map(|(name, rest)| (name, Err(rest))),
        |(name, rest)| Some((name, Ok(rest))),
    )?;
    let name = name.trim_matches('"');
    Some(match rest {
        Ok(hint) => format!("no column named {name}, did you mean {}?", hint.split('?').next()?.trim_matches('\'')),
        Err(rest) => match rest.split_once("Valid fields are ") {
            Some((_, fields)) => format!("no column named {name}: there are {}", fields.trim_end_matches('.')),
            None => format!("no column named {name}"),
        },
    })
}

/// One lower-case sentence without a full stop and without the names of our own functions' prefix.
fn sentence(text: &str) -> String {
    let text = text.split("\n\nbacktrace").next().unwrap_or_default();
    // Our own functions' complaints come wrapped in DataFusion's.
    let text = text.rsplit("coercion failed with: ").next().unwrap_or(text);
    let text = text.split(" No function matches the given name").next().unwrap_or(text);
    let text = text.trim().trim_end_matches('.').replace("bq_", "");
    let text = text
        .strip_prefix("Error during planning: ")
        .or_else(|| text.strip_prefix("Schema error: "))
        .or_else(|| text.strip_prefix("This feature is not implemented: "))
        .map_or(text.clone(), str::to_owned);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut letters = text.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if first.is_uppercase() && !second.is_uppercase() => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text,
    }
}
