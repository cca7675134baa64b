//! Events as tests script them, and what only the GeoJSON answers tell of an event.

use chrono::{DateTime, Utc};

use crate::row::{self, COLUMNS, Column, Fields, RowError};

/// What the GeoJSON answers hold beyond the 22 columns. `None` stands for what the service says of most events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extras {
    /// Number of felt reports; null by default.
    pub felt: Option<u32>,
    /// Greatest reported intensity; null by default.
    pub cdi: Option<f64>,
    /// Greatest instrumental intensity; null by default.
    pub mmi: Option<f64>,
    /// PAGER level (`green`, `yellow`, `orange`, `red`); null by default.
    pub alert: Option<String>,
    /// Whether the event is flagged for a tsunami.
    pub tsunami: bool,
    /// Significance; computed from the magnitude by default.
    pub sig: Option<i64>,
    /// Ids of the event in all networks, without commas at the ends; its own and the absorbed ones by default.
    pub ids: Option<Vec<String>>,
    /// Networks of the ids; taken from the ids by default.
    pub sources: Option<Vec<String>>,
    /// Types of the event's products; `origin` and `phase-data` by default.
    pub types: Option<Vec<String>>,
}

/// One state of an event: the 22 fields and what GeoJSON adds.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    fields: [String; COLUMNS],
    pub(crate) extras: Extras,
}

impl Event {
    /// An automatic earthquake of magnitude ml 1 at 0, 0 and 10 km depth, published when it happened. The network is
    /// the first two letters of the id.
    pub fn new(id: &str, time: DateTime<Utc>) -> Self {
        let net: String = id.chars().take(2).collect();
        let time = row::format_time(time);
        let mut fields = [const { String::new() }; COLUMNS];
        for (column, text) in [
            (Column::Time, time.as_str()),
            (Column::Latitude, "0"),
            (Column::Longitude, "0"),
            (Column::Depth, "10"),
            (Column::Mag, "1"),
            (Column::MagType, "ml"),
            (Column::Net, net.as_str()),
            (Column::Id, id),
            (Column::Updated, time.as_str()),
            (Column::Place, "1 km N of Nowhere"),
            (Column::Type, "earthquake"),
            (Column::Status, "automatic"),
            (Column::LocationSource, net.as_str()),
            (Column::MagSource, net.as_str()),
        ] {
            fields[column as usize] = text.to_owned();
        }
        Self { fields, extras: Extras::default() }
    }

    /// The event of a CSV row (without its newline).
    ///
    /// # Errors
    /// When the row has not 22 fields or its quotes do not match.
    pub fn from_row(row: &str) -> Result<Self, RowError> {
        Ok(Self::from_fields(&Fields::of(row)?))
    }

    pub(crate) fn from_fields(fields: &Fields<'_>) -> Self {
        Self { fields: Column::ALL.map(|column| fields.value(column).into_owned()), extras: Extras::default() }
    }

    /// The same event with another text in one column; an empty text is null.
    #[must_use]
    pub fn with(mut self, column: Column, text: impl Into<String>) -> Self {
        self.fields[column as usize] = text.into();
        self
    }

    /// The same event, last changed at `time`.
    #[must_use]
    pub fn updated(self, time: DateTime<Utc>) -> Self {
        self.with(Column::Updated, row::format_time(time))
    }

    /// The same event with another origin time.
    #[must_use]
    pub fn happened(self, time: DateTime<Utc>) -> Self {
        self.with(Column::Time, row::format_time(time))
    }

    /// The same event with another magnitude and magnitude type.
    #[must_use]
    pub fn magnitude(self, magnitude: f64, magnitude_type: &str) -> Self {
        self.with(Column::Mag, magnitude.to_string()).with(Column::MagType, magnitude_type)
    }

    /// The same event at another place: degrees and kilometres.
    #[must_use]
    pub fn located(self, latitude: f64, longitude: f64, depth: f64) -> Self {
        self.with(Column::Latitude, latitude.to_string())
            .with(Column::Longitude, longitude.to_string())
            .with(Column::Depth, depth.to_string())
    }

    /// The same event with what GeoJSON adds.
    #[must_use]
    pub fn extras(mut self, extras: Extras) -> Self {
        self.extras = extras;
        self
    }

    /// The text of a column, without quotes.
    pub fn get(&self, column: Column) -> &str {
        &self.fields[column as usize]
    }

    /// The event's id.
    pub fn id(&self) -> &str {
        self.get(Column::Id)
    }

    /// The row as the service writes it, without a newline.
    pub fn to_row(&self) -> String {
        row::join(self.fields.iter().map(String::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_survives_being_an_event() {
        let row = "2025-07-23T14:52:39.220Z,33.5746667,-116.7175,3.09,0.5,ml,26,63,0.01894,0.16,ci,ci41029815,\
                   2025-07-23T14:56:10.069Z,\"5 km WNW of \"\"Anza\"\", CA\",earthquake,0.21,0.38,0.17,11,automatic,ci,ci";
        assert_eq!(Event::from_row(row).unwrap().to_row(), row);
    }
}
