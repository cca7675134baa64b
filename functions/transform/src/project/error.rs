//! What can be wrong with a dbt project, each with the file and line to look at.

use std::fmt;
use std::path::PathBuf;

/// A line of a file of the project.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Path from the project's root.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
}

impl Place {
    pub(crate) fn new(file: &str, line: usize) -> Self {
        Self { file: file.to_owned(), line }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Why a project cannot be read, or a model not be rendered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectError {
    /// A file or folder of the project cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file of the project is not UTF-8.
    #[error("{file} is not UTF-8 text")]
    NotText {
        /// The file.
        file: String,
    },
    /// There is no `dbt_project.yml`.
    #[error("there is no dbt_project.yml, so this is no dbt project")]
    NoProject,
    /// A yml file that does not parse, or says something of the wrong shape.
    #[error("{place}: {message}")]
    Yaml {
        /// Where.
        place: Place,
        /// What.
        message: String,
    },
    /// A template that does not parse or fails when it runs.
    #[error("{place}: {message}")]
    Jinja {
        /// Where.
        place: Place,
        /// What.
        message: String,
    },
    /// A seed that is not a table.
    #[error("{place}: {message}")]
    Csv {
        /// Where.
        place: Place,
        /// What.
        message: String,
    },
    /// A setting that makes no sense.
    #[error("{place}: {message}")]
    Config {
        /// Where.
        place: Place,
        /// What.
        message: String,
    },
    /// A model or seed whose file has no place in a dataset's folder, or whose name is no name for a table.
    #[error("{file}: {message}")]
    Misplaced {
        /// The file.
        file: String,
        /// What is wrong with it.
        message: String,
    },
    /// `ref()` of something that is neither a model nor a seed.
    #[error("{place}: there is no model or seed named '{name}'{}", suggestion(close))]
    MissingRef {
        /// Where it is named.
        place: Place,
        /// The name.
        name: String,
        /// Names that look like it.
        close: Vec<String>,
    },
    /// `source()` of something that no yml declares.
    #[error("{place}: there is no source '{name}'{}", suggestion(close))]
    MissingSource {
        /// Where it is named.
        place: Place,
        /// Source and table, joined by a dot.
        name: String,
        /// Names that look like it.
        close: Vec<String>,
    },
    /// Models that need each other.
    #[error("the models need each other in a circle: {}", path.join(" -> "))]
    Cycle {
        /// The circle; its first name comes again at its end.
        path: Vec<String>,
    },
    /// Two files with the same name, or a name that is declared twice.
    #[error("'{name}' is there twice: {first} and {second}")]
    Duplicate {
        /// The name.
        name: String,
        /// The first.
        first: Place,
        /// The second.
        second: Place,
    },
    /// A materialization that is not view, table or incremental.
    #[error("{place}: unknown materialization '{name}'; known are view, table and incremental")]
    UnknownMaterialization {
        /// Where it is set.
        place: Place,
        /// The name.
        name: String,
    },
    /// An incremental model that does not say what its rows replace.
    #[error(
        "{place}: the incremental model '{model}' needs a unique_key, or incremental_strategy insert_overwrite with a partition_by"
    )]
    IncrementalWithoutKey {
        /// Where it is made incremental.
        place: Place,
        /// The model.
        model: String,
    },
    /// A data test that is none of those we know.
    #[error("{place}: unknown test '{name}'; known are not_null, unique, accepted_values and relationships")]
    UnknownTest {
        /// Where.
        place: Place,
        /// The name.
        name: String,
    },
    /// Properties of a model or seed that does not exist.
    #[error("{place}: properties for '{name}', which is no {kind}{}", suggestion(close))]
    UnknownNode {
        /// Where.
        place: Place,
        /// The name.
        name: String,
        /// `model` or `seed`.
        kind: &'static str,
        /// Names that look like it.
        close: Vec<String>,
    },
}

fn suggestion(close: &[String]) -> String {
    if close.is_empty() { String::new() } else { format!("; did you mean {}?", close.join(" or ")) }
}

/// The candidates that are a typing mistake away, nearest first, at most three.
pub(crate) fn close_to<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Vec<String> {
    let allowed = (name.chars().count() / 3).max(2);
    let mut near: Vec<(usize, &str)> = candidates
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .collect();
    near.sort_unstable();
    near.into_iter().take(3).map(|(_, candidate)| candidate.to_owned()).collect()
}

/// Levenshtein's distance in characters. Long names are no typing mistakes of one another.
fn distance(one: &str, two: &str) -> usize {
    let two: Vec<char> = two.chars().take(128).collect();
    let mut row: Vec<usize> = (0..=two.len()).collect();
    for (i, a) in one.chars().take(128).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in two.iter().enumerate() {
            let substituted = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[two.len()]
}
