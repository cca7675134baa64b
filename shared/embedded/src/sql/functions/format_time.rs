//! FORMAT_DATE, FORMAT_DATETIME and FORMAT_TIMESTAMP: the elements of `strftime` that BigQuery has.

use std::fmt::Write;

use chrono::{Datelike, NaiveDate, Weekday};

use super::calendar::{civil, split, week_of};
use super::time_text;
use super::zone::Zone;

pub(crate) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
pub(crate) const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// The elements that [`format`] knows, after the `%`.
pub(crate) const ELEMENTS: &str = "AaBbhCcDdeFGgHIjklMmnPpQRSsTtUuVWwXxYyZz%";

/// An instant, on the clock of `zone`, in the words of `format`.
pub(crate) fn format(format: &str, micros: i64, zone: Zone) -> Result<String, String> {
    let clock = zone.to_civil(micros)?;
    let (day, time) = split(clock)?;
    let date = civil(day)?;
    let second = time / 1_000_000;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    let half = if hour % 12 == 0 { 12 } else { hour % 12 };
    let mut out = String::with_capacity(format.len() * 2);
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        let element = letters.next().ok_or("a format ends in a single %")?;
        let month = || MONTHS[date.month0() as usize];
        let weekday = || WEEKDAYS[date.weekday().num_days_from_sunday() as usize];
        let year = date.year();
        let done = match element {
            'A' => write!(out, "{}", weekday()),
            'a' => write!(out, "{}", &weekday()[..3]),
            'B' => write!(out, "{}", month()),
            'b' | 'h' => write!(out, "{}", &month()[..3]),
            'C' => write!(out, "{:02}", year / 100),
            'c' => write!(
                out,
                "{} {} {:>2} {hour:02}:{minute:02}:{second:02} {year}",
                &weekday()[..3],
                &month()[..3],
                date.day()
            ),
            'D' | 'x' => write!(out, "{:02}/{:02}/{:02}", date.month(), date.day(), year % 100),
            'd' => write!(out, "{:02}", date.day()),
            'e' => write!(out, "{:>2}", date.day()),
            'F' => write!(out, "{}", time_text::date(day)?),
            'G' => write!(out, "{:04}", date.iso_week().year()),
            'g' => write!(out, "{:02}", date.iso_week().year() % 100),
            'H' => write!(out, "{hour:02}"),
            'I' => write!(out, "{half:02}"),
            'j' => write!(out, "{:03}", date.ordinal()),
            'k' => write!(out, "{hour:>2}"),
            'l' => write!(out, "{half:>2}"),
            'M' => write!(out, "{minute:02}"),
            'm' => write!(out, "{:02}", date.month()),
            'n' => writeln!(out),
            'P' => write!(out, "{}", if hour < 12 { "am" } else { "pm" }),
            'p' => write!(out, "{}", if hour < 12 { "AM" } else { "PM" }),
            'Q' => write!(out, "{}", date.month0() / 3 + 1),
            'R' => write!(out, "{hour:02}:{minute:02}"),
            'S' => write!(out, "{second:02}"),
            's' => write!(out, "{}", micros.div_euclid(1_000_000)),
            'T' | 'X' => write!(out, "{hour:02}:{minute:02}:{second:02}"),
            't' => write!(out, "\t"),
            'U' => write!(out, "{:02}", week_of(date, Weekday::Sun)),
            'u' => write!(out, "{}", date.weekday().number_from_monday()),
            'V' => write!(out, "{:02}", date.iso_week().week()),
            'W' => write!(out, "{:02}", week_of(date, Weekday::Mon)),
            'w' => write!(out, "{}", date.weekday().num_days_from_sunday()),
            'Y' => write!(out, "{year}"),
            'y' => write!(out, "{:02}", year % 100),
            'Z' => write!(out, "{}", zone_name(zone, micros)?),
            'z' => write!(out, "{}", offset(zone, micros)?),
            '%' => write!(out, "%"),
            other => return Err(format!("the format element %{other} is not supported")),
        };
        done.map_err(|error| error.to_string())?;
    }
    Ok(out)
}

fn offset(zone: Zone, micros: i64) -> Result<String, String> {
    let offset = zone.offset(micros)?;
    let sign = if offset < 0 { '-' } else { '+' };
    Ok(format!("{sign}{:02}{:02}", offset.abs() / 3_600, offset.abs() / 60 % 60))
}

/// `UTC`, or `UTC-8` and the like, as BigQuery names every other zone.
fn zone_name(zone: Zone, micros: i64) -> Result<String, String> {
    let offset = zone.offset(micros)?;
    if offset == 0 {
        return Ok("UTC".into());
    }
    let sign = if offset < 0 { '-' } else { '+' };
    let (hours, minutes) = (offset.abs() / 3_600, offset.abs() / 60 % 60);
    let minutes = if minutes == 0 { String::new() } else { format!("{minutes:02}") };
    Ok(format!("UTC{sign}{hours}{minutes}"))
}

/// The date of the given year's week, for the parser.
pub(crate) fn date_of(year: i32, month: u32, day: u32) -> Result<NaiveDate, String> {
    NaiveDate::from_ymd_opt(year, month, day).ok_or_else(|| format!("{year}-{month}-{day} is not a date"))
}
