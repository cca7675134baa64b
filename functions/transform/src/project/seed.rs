//! A CSV file of the project as a table, with types found as dbt finds them.
//!
//! Invariant: every cell of a typed column reads as that type, or is null.

use chrono::{DateTime, NaiveDate, NaiveDateTime};

use super::error::{Place, ProjectError};
use super::node::Column;

/// The type of a seed's column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeedType {
    /// INT64.
    Int64,
    /// FLOAT64.
    Float64,
    /// BOOL, written `true` and `false`.
    Bool,
    /// DATE, written `2025-07-23`.
    Date,
    /// DATETIME, written `2025-07-23 01:02:03`, or with a `T`.
    DateTime,
    /// TIMESTAMP, written like a DATETIME, with `Z` or an offset; UTC without one. Never found, only declared.
    Timestamp,
    /// STRING.
    String,
}

impl SeedType {
    /// BigQuery's name of the type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int64 => "int64",
            Self::Float64 => "float64",
            Self::Bool => "bool",
            Self::Date => "date",
            Self::DateTime => "datetime",
            Self::Timestamp => "timestamp",
            Self::String => "string",
        }
    }

    fn named(name: &str) -> Option<Self> {
        match name.to_lowercase().as_str() {
            "int64" | "integer" | "int" | "bigint" => Some(Self::Int64),
            "float64" | "float" => Some(Self::Float64),
            "bool" | "boolean" => Some(Self::Bool),
            "date" => Some(Self::Date),
            "datetime" => Some(Self::DateTime),
            "timestamp" => Some(Self::Timestamp),
            "string" | "text" => Some(Self::String),
            _ => None,
        }
    }

    /// The order in which dbt tries types on a column.
    const TRIED: [Self; 5] = [Self::Int64, Self::Float64, Self::Date, Self::DateTime, Self::Bool];

    fn reads(self, cell: &str) -> bool {
        match self {
            Self::Int64 => cell.parse::<i64>().is_ok(),
            // `nan` and `inf` are words in a table, not numbers.
            Self::Float64 => cell.parse::<f64>().is_ok_and(f64::is_finite),
            Self::Bool => cell.eq_ignore_ascii_case("true") || cell.eq_ignore_ascii_case("false"),
            Self::Date => cell.len() == 10 && NaiveDate::parse_from_str(cell, "%Y-%m-%d").is_ok(),
            Self::DateTime => is_datetime(cell),
            Self::Timestamp => is_datetime(cell) || DateTime::parse_from_rfc3339(cell).is_ok(),
            Self::String => true,
        }
    }
}

fn is_datetime(cell: &str) -> bool {
    ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"]
        .iter()
        .any(|format| NaiveDateTime::parse_from_str(cell, format).is_ok())
}

/// A CSV file of the project as a table.
#[derive(Debug, Clone)]
pub struct Seed {
    /// The file's name without `.csv`, which `ref()` takes.
    pub name: String,
    /// The first folder below `seeds/`, or [`super::SHARED`].
    pub dataset: String,
    /// The layer it is in.
    pub schema: String,
    /// The table's name: the seed's, unless it has an alias.
    pub table: String,
    /// The file, from the project's root.
    pub path: String,
    /// What it is.
    pub description: String,
    /// Its columns as the yml describes them.
    pub described: Vec<Column>,
    /// Its columns, in the order of the file.
    pub columns: Vec<(String, SeedType)>,
    /// A cell for each column; `None` is null. Cells of a type other than string are trimmed.
    pub rows: Vec<Vec<Option<String>>>,
    /// Changes with the file's text, its types and its table.
    pub hash: u64,
}

/// What a CSV file holds.
pub(crate) struct Table {
    pub(crate) columns: Vec<(String, SeedType)>,
    pub(crate) rows: Vec<Vec<Option<String>>>,
}

/// Reads a CSV file with a header. `types` are those that the project declares, by column, each with its place.
pub(crate) fn read(file: &str, text: &str, types: &[(String, String, Place)]) -> Result<Table, ProjectError> {
    let at = |line: u64, message: String| ProjectError::Csv {
        place: Place::new(file, usize::try_from(line).unwrap_or(usize::MAX)),
        message,
    };
    let mut reader = csv::ReaderBuilder::new().from_reader(text.trim_start_matches('\u{feff}').as_bytes());
    let broken = |error: csv::Error| {
        let line = error.position().map_or(1, csv::Position::line);
        match error.kind() {
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                at(line, format!("the row has {len} cells, and the header {expected_len}"))
            }
            _ => at(line, error.to_string()),
        }
    };

    let header: Vec<String> = reader.headers().map_err(broken)?.iter().map(|name| name.trim().to_owned()).collect();
    for (position, name) in header.iter().enumerate() {
        if !super::config::is_identifier(name) {
            return Err(at(1, format!("'{name}' is no name for a column")));
        }
        if header[..position].iter().any(|other| other.eq_ignore_ascii_case(name)) {
            return Err(at(1, format!("the column '{name}' is there twice")));
        }
    }
    if header.is_empty() {
        return Err(at(1, "there is no header".to_owned()));
    }

    let mut declared = vec![None; header.len()];
    for (column, name, place) in types {
        let unknown = |message| ProjectError::Config { place: place.clone(), message };
        let position = header.iter().position(|other| other.eq_ignore_ascii_case(column));
        let Some(slot) = position.and_then(|position| declared.get_mut(position)) else {
            return Err(unknown(format!("column_types names '{column}', which {file} does not have")));
        };
        let Some(kind) = SeedType::named(name) else {
            return Err(unknown(format!("'{name}' is no type for the column '{column}' of a seed")));
        };
        *slot = Some(kind);
    }

    let mut lines = Vec::new();
    let mut rows: Vec<Vec<Option<String>>> = Vec::new();
    for record in reader.records() {
        let record = record.map_err(broken)?;
        lines.push(record.position().map_or(1, csv::Position::line));
        rows.push(record.iter().map(cell).collect());
    }

    let mut columns = Vec::with_capacity(header.len());
    for (position, name) in header.into_iter().enumerate() {
        let cells = || rows.iter().map(|row| row.get(position).and_then(Option::as_deref));
        let kind = match declared[position] {
            Some(kind) => {
                if let Some(row) = cells().position(|cell| cell.is_some_and(|cell| !kind.reads(cell.trim()))) {
                    let cell = rows[row][position].as_deref().unwrap_or_default();
                    return Err(at(lines[row], format!("'{cell}' in the column '{name}' is no {}", kind.name())));
                }
                kind
            }
            None => SeedType::TRIED
                .into_iter()
                .find(|kind| cells().flatten().all(|cell| kind.reads(cell.trim())))
                .unwrap_or(SeedType::String),
        };
        columns.push((name, kind));
    }
    for row in &mut rows {
        for (cell, (_, kind)) in row.iter_mut().zip(&columns) {
            if let Some(text) = cell.as_mut().filter(|_| *kind != SeedType::String) {
                *text = text.trim().to_owned();
            }
        }
    }
    Ok(Table { columns, rows })
}

/// As in dbt, an empty cell is null, and so is the word.
fn cell(text: &str) -> Option<String> {
    let trimmed = text.trim();
    if trimmed.is_empty() || trimmed.eq_ignore_ascii_case("null") { None } else { Some(text.to_owned()) }
}
