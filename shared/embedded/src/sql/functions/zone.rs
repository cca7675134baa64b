//! Time zones: UTC, offsets such as `+05:30`, and the names of the tz database.

use arrow::array::timezone::Tz;
use chrono::{DateTime, LocalResult, Offset, TimeZone};

use super::calendar::in_range;

/// A zone, UTC set apart because almost every instant is read there.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Zone {
    Utc,
    Other(Tz),
}

impl Zone {
    /// BigQuery's spelling: a name, or an offset `(+|-)H[H][:M[M]]`.
    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        let plain = name.trim();
        if plain.eq_ignore_ascii_case("UTC") || plain == "Z" || plain == "z" {
            return Ok(Zone::Utc);
        }
        let invalid = || format!("invalid time zone '{name}'");
        let spelled = match plain.strip_prefix("UTC").unwrap_or(plain) {
            offset if offset.starts_with(['+', '-']) => {
                let (sign, rest) = offset.split_at(1);
                let (hours, minutes) = rest.split_once(':').unwrap_or((rest, "0"));
                let hours: u8 = hours.parse().map_err(|_| invalid())?;
                let minutes: u8 = minutes.parse().map_err(|_| invalid())?;
                if hours > 14 || minutes > 59 {
                    return Err(invalid());
                }
                format!("{sign}{hours:02}:{minutes:02}")
            }
            name => name.to_owned(),
        };
        spelled.parse().map(Zone::Other).map_err(|_| invalid())
    }

    /// The clock on the wall there at an instant.
    pub(crate) fn to_civil(self, micros: i64) -> Result<i64, String> {
        match self {
            Zone::Utc => Ok(micros),
            Zone::Other(zone) => {
                let utc = naive(micros)?;
                let offset = zone.offset_from_utc_datetime(&utc).fix().local_minus_utc();
                in_range(Some(micros + i64::from(offset) * 1_000_000))
            }
        }
    }

    /// The instant at which the clock on the wall shows this. Of two, the earlier; in a gap, the
    /// first instant after it, both as BigQuery does.
    pub(crate) fn to_instant(self, civil: i64) -> Result<i64, String> {
        match self {
            Zone::Utc => Ok(civil),
            Zone::Other(zone) => match zone.offset_from_local_datetime(&naive(civil)?) {
                LocalResult::Single(offset) | LocalResult::Ambiguous(offset, _) => {
                    in_range(Some(civil - i64::from(offset.fix().local_minus_utc()) * 1_000_000))
                }
                LocalResult::None => {
                    // A gap lasts at most a day; the offset before it puts the clock past it.
                    let before = zone.offset_from_utc_datetime(&naive(civil - 86_400_000_000)?);
                    Ok(civil - i64::from(before.fix().local_minus_utc()) * 1_000_000)
                }
            },
        }
    }

    /// Seconds east of Greenwich at an instant.
    pub(crate) fn offset(self, micros: i64) -> Result<i64, String> {
        Ok((self.to_civil(micros)? - micros) / 1_000_000)
    }
}

fn naive(micros: i64) -> Result<chrono::NaiveDateTime, String> {
    DateTime::from_timestamp_micros(micros)
        .map(|instant| instant.naive_utc())
        .ok_or_else(|| "a timestamp is out of range".to_owned())
}
