//! DATE, DATETIME and TIMESTAMP as BigQuery's canonical text, and back.

use chrono::{Datelike, NaiveDate};

use super::calendar::{civil, days, in_range, midnight, split};
use super::zone::Zone;

/// `2024-01-02`.
pub(crate) fn date(day: i32) -> Result<String, String> {
    let date = civil(day)?;
    Ok(format!("{:04}-{:02}-{:02}", date.year(), date.month(), date.day()))
}

/// `2024-01-02 03:04:05.678`, with `between` the date and the time, and no, three or six digits.
pub(crate) fn datetime(micros: i64, between: char) -> Result<String, String> {
    let (day, time) = split(micros)?;
    let second = time / 1_000_000;
    let fraction = match time % 1_000_000 {
        0 => String::new(),
        part if part % 1_000 == 0 => format!(".{:03}", part / 1_000),
        part => format!(".{part:06}"),
    };
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    Ok(format!("{}{between}{hour:02}:{minute:02}:{second:02}{fraction}", date(day)?))
}

/// `2024-01-02 03:04:05+00`, the offset's minutes only where it has some.
pub(crate) fn timestamp(micros: i64, zone: Zone) -> Result<String, String> {
    let offset = zone.offset(micros)?;
    let sign = if offset < 0 { '-' } else { '+' };
    let (hours, minutes) = (offset.abs() / 3_600, offset.abs() / 60 % 60);
    let minutes = if minutes == 0 { String::new() } else { format!(":{minutes:02}") };
    Ok(format!("{}{sign}{hours:02}{minutes}", datetime(zone.to_civil(micros)?, ' ')?))
}

/// Reads digits off the front of `text`.
fn number(text: &mut &str, most: usize) -> Option<u32> {
    let length = text.bytes().take(most).take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at(length);
    *text = rest;
    digits.parse().ok()
}

fn sign(text: &mut &str, sign: char) -> Option<()> {
    *text = text.strip_prefix(sign)?;
    Some(())
}

fn read_date(text: &mut &str) -> Option<NaiveDate> {
    let year = number(text, 4)?;
    sign(text, '-')?;
    let month = number(text, 2)?;
    sign(text, '-')?;
    NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, number(text, 2)?)
}

fn read_time(text: &mut &str) -> Option<i64> {
    let hour = number(text, 2)?;
    sign(text, ':')?;
    let minute = number(text, 2)?;
    sign(text, ':')?;
    let second = number(text, 2)?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut micros = i64::from(hour * 3_600 + minute * 60 + second) * 1_000_000;
    if let Some(rest) = text.strip_prefix('.') {
        let length = rest.bytes().take_while(u8::is_ascii_digit).count();
        if length > 6 {
            return None;
        }
        micros += format!("{:0<6}", &rest[..length]).parse::<i64>().ok()?;
        *text = &rest[length..];
    }
    Some(micros)
}

/// `[Y]YYY-[M]M-[D]D`.
pub(crate) fn parse_date(text: &str) -> Result<i32, String> {
    let mut rest = text.trim();
    match read_date(&mut rest) {
        Some(date) if rest.is_empty() => days(date),
        _ => Err(format!("invalid date '{text}'")),
    }
}

/// The date and time at the front of a text, and what follows them.
fn read_datetime(text: &str) -> Option<(i64, &str)> {
    let mut rest = text;
    let date = days(read_date(&mut rest)?).ok()?;
    let mut time = 0;
    if let Some(after) = rest.strip_prefix(['T', 't', ' ']) {
        let mut clock = after;
        // What follows a date and a space may be a zone's name instead.
        if after.starts_with(|letter: char| letter.is_ascii_digit()) {
            time = read_time(&mut clock)?;
            rest = clock;
        }
    }
    Some((midnight(date) + time, rest))
}

/// `YYYY-[M]M-[D]D[( |T)[H]H:[M]M:[S]S[.F]]`.
pub(crate) fn parse_datetime(text: &str) -> Result<i64, String> {
    match read_datetime(text.trim()) {
        Some((micros, "")) => in_range(Some(micros)),
        _ => Err(format!("invalid datetime '{text}'")),
    }
}

/// The same with an offset or a zone's name after it; `zone` where there is none.
pub(crate) fn parse_timestamp(text: &str, zone: Zone) -> Result<i64, String> {
    let invalid = || format!("invalid timestamp '{text}'");
    let (civil, rest) = read_datetime(text.trim()).ok_or_else(invalid)?;
    let zone = match rest.trim_start() {
        "" => zone,
        name => Zone::parse(name).map_err(|_| invalid())?,
    };
    in_range(Some(zone.to_instant(civil)?))
}
