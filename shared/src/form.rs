//! The forms of a source's answers: the syntax that their records have, and what the records are.

use std::ops::Range;

use crate::csv::{self, Record, Refused, Whole};
use crate::geojson;

/// How answers of one kind are written, and what they hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// What an answer of this form is called in a capture: lower-case letters.
    pub name: &'static str,
    /// How its records are written.
    pub syntax: Syntax,
    /// What they are.
    pub role: Role,
}

/// How the records of an answer are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// CSV with this header line.
    Csv(&'static [&'static str]),
    /// A FeatureCollection, of whose features these fields are read.
    GeoJson(&'static [&'static str]),
}

/// What the records of an answer are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Each is a row of the table.
    Rows,
    /// Each fills these columns of the row of the same key in the capture's other answers.
    Details(Range<usize>),
}

impl Form {
    /// The ending of a file of this form.
    pub fn extension(&self) -> &'static str {
        match self.syntax {
            Syntax::Csv(_) => "csv",
            Syntax::GeoJson(_) => "geojson",
        }
    }

    /// Whether its records are rows.
    pub fn has_rows(&self) -> bool {
        self.role == Role::Rows
    }

    /// How many fields each record must have.
    pub fn width(&self) -> usize {
        match self.syntax {
            Syntax::Csv(fields) | Syntax::GeoJson(fields) => fields.len(),
        }
    }

    /// A check of an answer of this form.
    pub fn check(&self) -> Check {
        match self.syntax {
            Syntax::Csv(header) => Check::Csv(Box::new(csv::Check::new(header))),
            Syntax::GeoJson(fields) => Check::GeoJson(Box::new(geojson::Check::new(fields))),
        }
    }
}

/// Checks an answer as it streams by, and shows its records.
pub enum Check {
    /// Of CSV.
    Csv(Box<csv::Check>),
    /// Of GeoJSON.
    GeoJson(Box<geojson::Check>),
}

impl Check {
    /// Takes the next chunk; each record that it completes is shown to `row`.
    ///
    /// # Errors
    /// [`Refused`] as soon as the answer cannot be whole.
    pub fn feed(&mut self, chunk: &[u8], row: impl FnMut(&Record<'_>)) -> Result<(), Refused> {
        match self {
            Self::Csv(check) => check.feed(chunk, row),
            Self::GeoJson(check) => check.feed(chunk, row),
        }
    }

    /// Ends the answer.
    ///
    /// # Errors
    /// [`Refused`] when it is empty, torn, or another document.
    pub fn finish(self, row: impl FnMut(&Record<'_>)) -> Result<Whole, Refused> {
        match self {
            Self::Csv(check) => check.finish(row),
            Self::GeoJson(check) => check.finish(),
        }
    }
}
