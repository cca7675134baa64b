//! The 22-column rows of the service: their columns, their quoting, their times and numbers.
//!
//! Invariant: a row's text is never rewritten; fields are slices of it.

use std::borrow::Cow;

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, Utc};

/// A column of the service's CSV answers, in the order of the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// Origin time, UTC.
    Time,
    /// Degrees, north positive.
    Latitude,
    /// Degrees, east positive.
    Longitude,
    /// Kilometres below the surface; can be negative.
    Depth,
    /// Magnitude.
    Mag,
    /// Magnitude type, such as `ml` or `mww`.
    MagType,
    /// Number of stations.
    Nst,
    /// Azimuthal gap in degrees.
    Gap,
    /// Distance to the nearest station in degrees.
    Dmin,
    /// Root mean square of the travel time residuals in seconds.
    Rms,
    /// Contributing network.
    Net,
    /// Event id: the network and the network's code.
    Id,
    /// Time of the last change, UTC.
    Updated,
    /// Description of the place.
    Place,
    /// Type of event, such as `earthquake` or `quarry blast`.
    Type,
    /// Kilometres.
    HorizontalError,
    /// Kilometres.
    DepthError,
    /// Uncertainty of the magnitude.
    MagError,
    /// Number of stations of the magnitude.
    MagNst,
    /// `automatic`, `reviewed` or `deleted`.
    Status,
    /// Network of the location.
    LocationSource,
    /// Network of the magnitude.
    MagSource,
}

/// Number of columns of a row.
pub(crate) const COLUMNS: usize = 22;

/// The header line, without its newline.
pub const HEADER: &str = "time,latitude,longitude,depth,mag,magType,nst,gap,dmin,rms,net,id,updated,place,type,\
                          horizontalError,depthError,magError,magNst,status,locationSource,magSource";

/// Why a row cannot be part of a catalogue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// The row has not 22 fields.
    #[error("{0} fields where 22 are expected")]
    Fields(usize),
    /// A quote is opened and not closed, or stands within an unquoted field.
    #[error("unbalanced quotes")]
    Quotes,
    /// The id is blank; deletions are told to the catalogue, not read from rows.
    #[error("the id is blank")]
    BlankId,
    /// A time that is no ISO 8601 time.
    #[error("{column} {text:?} is not a time")]
    Time {
        /// Name of the column.
        column: &'static str,
        /// What it holds.
        text: String,
    },
    /// A number that is none.
    #[error("{column} {text:?} is not a number")]
    Number {
        /// Name of the column.
        column: &'static str,
        /// What it holds.
        text: String,
    },
}

/// The raw fields of a row (quotes included).
#[derive(Clone, Copy, Default)]
pub(crate) struct Fields<'a> {
    row: &'a str,
    /// Where each field ends.
    ends: [usize; COLUMNS],
}

impl<'a> Fields<'a> {
    /// Splits a row without its newline. By bytes, for this is where loading a large catalogue spends its time.
    pub(crate) fn of(row: &'a str) -> Result<Self, RowError> {
        let bytes = row.as_bytes();
        let mut ends = [0; COLUMNS];
        let (mut found, mut start, mut at) = (0, 0, 0);
        loop {
            if at == bytes.len() || bytes[at] == b',' {
                if found < COLUMNS {
                    ends[found] = at;
                }
                found += 1;
                if at == bytes.len() {
                    break;
                }
                at += 1;
                start = at;
            } else if bytes[at] != b'"' {
                at += 1;
            } else if at == start {
                at = end_of_quotes(bytes, at)?;
            } else {
                return Err(RowError::Quotes);
            }
        }
        if found == COLUMNS { Ok(Self { row, ends }) } else { Err(RowError::Fields(found)) }
    }

    /// The field as it stands in the row.
    pub(crate) fn raw(&self, column: Column) -> &'a str {
        let column = column as usize;
        let start = if column == 0 { 0 } else { self.ends[column - 1] + 1 };
        self.row.get(start..self.ends[column]).unwrap_or_default()
    }

    /// The field's value, without quotes.
    pub(crate) fn value(&self, column: Column) -> Cow<'a, str> {
        unquoted(self.raw(column))
    }

    pub(crate) fn time(&self, column: Column) -> Result<i64, RowError> {
        let text = self.raw(column);
        parse_time(text).ok_or_else(|| RowError::Time { column: column.name(), text: text.to_owned() })
    }

    /// The number, `None` when the field is empty (null).
    pub(crate) fn number(&self, column: Column) -> Result<Option<f64>, RowError> {
        let text = self.raw(column);
        if text.is_empty() {
            return Ok(None);
        }
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Some(number)),
            _ => Err(RowError::Number { column: column.name(), text: text.to_owned() }),
        }
    }
}

/// Where the quoted field that begins at `start` ends: at a comma or at the end of the row.
fn end_of_quotes(bytes: &[u8], start: usize) -> Result<usize, RowError> {
    let mut at = start + 1;
    while at < bytes.len() {
        if bytes[at] == b'"' {
            match bytes.get(at + 1) {
                Some(b'"') => at += 1,
                Some(b',') | None => return Ok(at + 1),
                Some(_) => return Err(RowError::Quotes),
            }
        }
        at += 1;
    }
    Err(RowError::Quotes)
}

pub(crate) fn unquoted(raw: &str) -> Cow<'_, str> {
    match raw.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')) {
        Some(inner) if inner.contains('"') => Cow::Owned(inner.replace("\"\"", "\"")),
        Some(inner) => Cow::Borrowed(inner),
        None => Cow::Borrowed(raw),
    }
}

/// A row of the given values: the place is always quoted, other fields when they must be, as the service does.
pub(crate) fn join<'a>(values: impl Iterator<Item = &'a str>) -> String {
    let mut row = String::new();
    for (index, value) in values.enumerate() {
        if index > 0 {
            row.push(',');
        }
        if index == Column::Place as usize || value.contains([',', '"']) {
            row.push('"');
            row.push_str(&value.replace('"', "\"\""));
            row.push('"');
        } else {
            row.push_str(value);
        }
    }
    row
}

impl Column {
    /// All columns in their order.
    pub const ALL: [Self; COLUMNS] = [
        Self::Time,
        Self::Latitude,
        Self::Longitude,
        Self::Depth,
        Self::Mag,
        Self::MagType,
        Self::Nst,
        Self::Gap,
        Self::Dmin,
        Self::Rms,
        Self::Net,
        Self::Id,
        Self::Updated,
        Self::Place,
        Self::Type,
        Self::HorizontalError,
        Self::DepthError,
        Self::MagError,
        Self::MagNst,
        Self::Status,
        Self::LocationSource,
        Self::MagSource,
    ];

    /// The name in the header line.
    pub fn name(self) -> &'static str {
        HEADER.split(',').nth(self as usize).unwrap_or_default()
    }
}

/// Milliseconds since 1970 of a time as the service and its users write it: a date, or a date and a time with or
/// without fractions and offset. UTC when no offset is given.
pub(crate) fn parse_time(text: &str) -> Option<i64> {
    if let Some(millis) = parse_exact(text.as_bytes()) {
        return Some(millis);
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_millis());
    }
    let local = text.strip_suffix('Z').unwrap_or(text);
    for form in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(local, form) {
            return Some(time.and_utc().timestamp_millis());
        }
    }
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(day.and_hms_opt(0, 0, 0)?.and_utc().timestamp_millis())
}

/// The form of the catalogue, `2025-07-23T15:08:36.882Z`: a large catalogue holds millions of these, so it has its own
/// path.
fn parse_exact(text: &[u8]) -> Option<i64> {
    if text.len() != 24 || text[4] != b'-' || text[7] != b'-' || text[10] != b'T' || text[13] != b':' {
        return None;
    }
    if text[16] != b':' || text[19] != b'.' || text[23] != b'Z' {
        return None;
    }
    let number = |from: usize, to: usize| -> Option<u32> {
        let mut value = 0;
        let mut at = from;
        while at < to {
            let digit = text[at].wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            value = value * 10 + u32::from(digit);
            at += 1;
        }
        Some(value)
    };
    let day = NaiveDate::from_ymd_opt(i32::try_from(number(0, 4)?).ok()?, number(5, 7)?, number(8, 10)?)?;
    let time = day.and_hms_milli_opt(number(11, 13)?, number(14, 16)?, number(17, 19)?, number(20, 23)?)?;
    Some(time.and_utc().timestamp_millis())
}

/// `2025-06-01T011518Z`, the form of the columns that say when a version was seen.
pub(crate) fn parse_seen(text: &str) -> Option<i64> {
    let time = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H%M%SZ").ok()?;
    Some(time.and_utc().timestamp_millis())
}

/// The form of the catalogue's times.
pub(crate) fn format_time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &str = "2025-07-23T15:08:36.882Z,65.4368,-148.2203,9.2,1.7,ml,,,,0.54,ak,ak0259dmm3e0,\
                       2025-07-23T15:10:22.557Z,\"17 km \"\"E\"\", Alaska\",earthquake,,0.2,,,automatic,ak,ak";

    #[test]
    fn a_row_splits_into_its_fields_and_joins_to_the_same_text() {
        let fields = Fields::of(ROW).unwrap();
        assert_eq!(fields.value(Column::Place), "17 km \"E\", Alaska");
        assert_eq!(fields.value(Column::MagSource), "ak");
        assert_eq!(fields.number(Column::Nst), Ok(None));
        let values: Vec<_> = Column::ALL.iter().map(|&column| fields.value(column).into_owned()).collect();
        assert_eq!(join(values.iter().map(String::as_str)), ROW);
    }

    #[test]
    fn a_row_with_the_wrong_number_of_fields_or_open_quotes_is_refused() {
        assert_eq!(Fields::of("a,b,c").err(), Some(RowError::Fields(3)));
        assert_eq!(Fields::of(&format!("{ROW},")).err(), Some(RowError::Fields(23)));
        assert_eq!(Fields::of("a,\"b,c").err(), Some(RowError::Quotes));
        assert_eq!(Fields::of("a,b\"c\",d").err(), Some(RowError::Quotes));
    }

    #[test]
    fn times_are_read_in_every_form_of_the_service() {
        let expected = Some(1_753_283_316_000);
        for text in [
            "2025-07-23T15:08:36.000Z",
            "2025-07-23T15:08:36",
            "2025-07-23T15:08:36Z",
            "2025-07-23 15:08:36",
            "2025-07-23T15:08:36+00:00",
            "2025-07-23T17:08:36+02:00",
        ] {
            assert_eq!(parse_time(text), expected, "{text}");
        }
        assert_eq!(parse_time("2025-07-23T15:08:36.882"), Some(1_753_283_316_882));
        assert_eq!(parse_time("1600-01-01"), Some(-11_676_096_000_000));
        assert_eq!(parse_seen("2025-06-01T011518Z"), parse_time("2025-06-01T01:15:18Z"));
        for text in ["", "yesterday", "2025-13-01", "1970-01-01T00:00:02.-2147483648Z", "2025-02-30T00:00:00.000Z"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn the_names_of_the_columns_are_the_header() {
        let names: Vec<_> = Column::ALL.iter().map(|column| column.name()).collect();
        assert_eq!(names.join(","), HEADER);
    }
}
