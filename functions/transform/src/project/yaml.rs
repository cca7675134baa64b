//! Reading yml as values, and finding again the line that a value came from.
//!
//! The parser forgets positions, so a line is found by looking for the words that lead to the value, in order. That is
//! exact for files laid out as dbt's are, one key a line, and near otherwise.

use serde_json::{Map, Value};

use super::error::{Place, ProjectError};

/// A yml file: its text and what it says.
pub(crate) struct Yaml<'a> {
    pub(crate) file: &'a str,
    text: &'a str,
    pub(crate) root: Map<String, Value>,
}

impl<'a> Yaml<'a> {
    /// Parses a file whose root is a mapping; an empty file is an empty mapping.
    pub(crate) fn parse(file: &'a str, text: &'a str) -> Result<Self, ProjectError> {
        let root = match serde_norway::from_str::<Value>(text) {
            Ok(Value::Object(root)) => root,
            Ok(Value::Null) => Map::new(),
            Ok(_) => {
                return Err(ProjectError::Yaml {
                    place: Place::new(file, 1),
                    message: "the file is not a mapping of keys to values".to_owned(),
                });
            }
            Err(error) => {
                let line = error.location().map_or(1, |location| location.line());
                return Err(ProjectError::Yaml { place: Place::new(file, line), message: error.to_string() });
            }
        };
        Ok(Self { file, text, root })
    }

    /// The line that the words lead to: each is looked for from where the one before was found.
    pub(crate) fn place(&self, words: &[Word<'_>]) -> Place {
        let lines: Vec<&str> = self.text.lines().collect();
        let mut found = 0;
        let mut from = 0;
        for word in words {
            if let Some(line) = (from..lines.len()).find(|&line| word.is_in(lines[line])) {
                found = line;
                // A name and what it names may share a line: `- unique: {...}` does not, `- name: x` is followed by more.
                from = if matches!(word, Word::Name(_)) { line + 1 } else { line };
            }
        }
        Place::new(self.file, found + 1)
    }

    /// An error of shape at the words.
    pub(crate) fn error(&self, words: &[Word<'_>], message: impl Into<String>) -> ProjectError {
        ProjectError::Yaml { place: self.place(words), message: message.into() }
    }
}

/// What a line is known by.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Word<'a> {
    /// `name: x`.
    Name(&'a str),
    /// The word itself, not as a part of another.
    Key(&'a str),
}

impl Word<'_> {
    fn is_in(self, line: &str) -> bool {
        let line = line.split(" #").next().unwrap_or_default();
        match self {
            Self::Name(name) => line.match_indices("name:").any(|(at, key)| {
                if line[..at].ends_with(is_word) {
                    return false;
                }
                let value = line[at + key.len()..].trim_start().trim_start_matches(['"', '\'']);
                value.strip_prefix(name).is_some_and(|rest| !rest.starts_with(is_word))
            }),
            Self::Key(key) => line
                .match_indices(key)
                .any(|(at, _)| !line[..at].ends_with(is_word) && !line[at + key.len()..].starts_with(is_word)),
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The list at a key; nothing there is an empty list, and `None` is something else than a list.
pub(crate) fn list<'v>(map: &'v Map<String, Value>, key: &str) -> Option<&'v [Value]> {
    match map.get(key) {
        None | Some(Value::Null) => Some(&[]),
        Some(Value::Array(items)) => Some(items),
        Some(_) => None,
    }
}

/// The text at a key, if it is one.
pub(crate) fn text<'v>(map: &'v Map<String, Value>, key: &str) -> Option<&'v str> {
    map.get(key).and_then(Value::as_str)
}

/// A value as one writes it: text without quotes.
pub(crate) fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
