//! Partitions: the parts of a table that are stored, loaded and rebuilt on their own.

use std::fmt;
use std::str::FromStr;

use chrono::{Datelike, NaiveDate};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::clock::Timestamp;

/// One part of a table: a UTC day or a calendar year. Written `2025-07-24` or `2018`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Partition {
    /// All rows of one UTC day.
    Day(NaiveDate),
    /// All rows of one year.
    Year(i32),
}

impl Partition {
    /// The UTC day of an instant.
    pub fn day(at: Timestamp) -> Self {
        Self::Day(at.date_naive())
    }

    /// The folder of this partition in the lake: `date=2025-07-24` or `year=2018`.
    pub fn folder(self) -> String {
        match self {
            Self::Day(_) => format!("date={self}"),
            Self::Year(_) => format!("year={self}"),
        }
    }

    /// The coarser part in which a warehouse table keeps this partition's rows: the month of a day, the year itself.
    pub fn bucket(self) -> String {
        match self {
            Self::Day(day) => format!("{:04}-{:02}", day.year(), day.month()),
            Self::Year(_) => self.to_string(),
        }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Day(day) => write!(f, "{}", day.format("%Y-%m-%d")),
            Self::Year(year) => write!(f, "{year:04}"),
        }
    }
}

/// The text names no partition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is neither a day (2025-07-24) nor a year (2018)")]
pub struct NotAPartition(String);

impl FromStr for Partition {
    type Err = NotAPartition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() == 4 && text.bytes().all(|digit| digit.is_ascii_digit()) {
            return text.parse().map(Self::Year).map_err(|_| NotAPartition(text.to_owned()));
        }
        NaiveDate::parse_from_str(text, "%Y-%m-%d").map(Self::Day).map_err(|_| NotAPartition(text.to_owned()))
    }
}

impl Serialize for Partition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Partition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_reads_back_what_it_writes() {
        for text in ["2025-07-24", "1798", "1600-01-01"] {
            assert_eq!(text.parse::<Partition>().unwrap().to_string(), text);
        }
        for text in ["", "2025", "2025-7-4x", "2025-02-30", "24", "date=2025-07-24"] {
            assert_eq!(text.parse::<Partition>().is_ok(), text == "2025", "{text}");
        }
    }
}
