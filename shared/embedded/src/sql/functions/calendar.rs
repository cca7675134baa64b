//! The civil calendar as BigQuery counts it: parts of a date, boundaries between them.
//!
//! Invariant: days are counted from 1970-01-01 and instants in microseconds from its midnight, and
//! every value that leaves here is between the years 1 and 9999, as BigQuery's are.

use chrono::{Datelike, Days, Months, NaiveDate, Weekday};

pub(crate) const DAY: i64 = 86_400_000_000;
const EPOCH_FROM_CE: i32 = 719_163;

/// A part of a date or time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Microsecond,
    Millisecond,
    Second,
    Minute,
    Hour,
    Day,
    DayOfWeek,
    DayOfYear,
    /// A week that begins on this day.
    Week(Weekday),
    IsoWeek,
    Month,
    Quarter,
    Year,
    IsoYear,
}

impl Part {
    /// The part that BigQuery's keyword names, in either case.
    pub(crate) fn parse(word: &str) -> Result<Self, String> {
        let upper = word.trim().to_ascii_uppercase();
        if let Some(day) = upper.strip_prefix("WEEK(").and_then(|rest| rest.strip_suffix(')')) {
            let day = day.trim();
            return match day.parse::<Weekday>() {
                Ok(weekday) if day.ends_with("DAY") => Ok(Part::Week(weekday)),
                _ => Err(format!("{word} is not a date part")),
            };
        }
        Ok(match upper.as_str() {
            "MICROSECOND" => Part::Microsecond,
            "MILLISECOND" => Part::Millisecond,
            "SECOND" => Part::Second,
            "MINUTE" => Part::Minute,
            "HOUR" => Part::Hour,
            "DAY" => Part::Day,
            "DAYOFWEEK" => Part::DayOfWeek,
            "DAYOFYEAR" => Part::DayOfYear,
            "WEEK" => Part::Week(Weekday::Sun),
            "ISOWEEK" => Part::IsoWeek,
            "MONTH" => Part::Month,
            "QUARTER" => Part::Quarter,
            "YEAR" => Part::Year,
            "ISOYEAR" => Part::IsoYear,
            _ => return Err(format!("{word} is not a date part")),
        })
    }

    /// The length of a part that always has the same one, up to the hour.
    pub(crate) fn micros(self) -> Option<i64> {
        Some(match self {
            Part::Microsecond => 1,
            Part::Millisecond => 1_000,
            Part::Second => 1_000_000,
            Part::Minute => 60_000_000,
            Part::Hour => 3_600_000_000,
            _ => return None,
        })
    }
}

fn unfit(part: Part, what: &str) -> String {
    let part = match part {
        Part::Week(Weekday::Sun) => "WEEK".to_owned(),
        Part::Week(day) => format!("WEEK({day})"),
        other => format!("{other:?}").to_uppercase(),
    };
    format!("{part} is not a part of a {what}")
}

/// The date that is `days` after 1970-01-01.
pub(crate) fn civil(days: i32) -> Result<NaiveDate, String> {
    days.checked_add(EPOCH_FROM_CE)
        .and_then(NaiveDate::from_num_days_from_ce_opt)
        .filter(|date| (1..=9999).contains(&date.year()))
        .ok_or_else(far)
}

fn far() -> String {
    "a date is outside the years 1 to 9999".to_owned()
}

/// The days from 1970-01-01 to `date`.
pub(crate) fn days(date: NaiveDate) -> Result<i32, String> {
    if (1..=9999).contains(&date.year()) { Ok(date.num_days_from_ce() - EPOCH_FROM_CE) } else { Err(far()) }
}

/// The day and the microseconds within it.
pub(crate) fn split(micros: i64) -> Result<(i32, i64), String> {
    let day = i32::try_from(micros.div_euclid(DAY)).map_err(|_| "a timestamp is out of range".to_owned())?;
    Ok((day, micros.rem_euclid(DAY)))
}

/// The instant at midnight of a day.
pub(crate) fn midnight(day: i32) -> i64 {
    i64::from(day) * DAY
}

/// Days since the last `start` of the week.
fn into_week(day: i32, start: Weekday) -> i32 {
    // 1970-01-01 was a Thursday, the third day after a Monday.
    (day + 3 - start.num_days_from_monday() as i32).rem_euclid(7)
}

fn first_of(year: i32, month: u32) -> Result<i32, String> {
    let date = NaiveDate::from_ymd_opt(year, month, 1).ok_or_else(far)?;
    days(date)
}

/// The first day of the part that `day` is in.
pub(crate) fn truncate_day(day: i32, part: Part) -> Result<i32, String> {
    let date = civil(day)?;
    let start = match part {
        Part::Day => day,
        Part::Week(start) => day - into_week(day, start),
        Part::IsoWeek => day - into_week(day, Weekday::Mon),
        Part::Month => first_of(date.year(), date.month())?,
        Part::Quarter => first_of(date.year(), (date.month0() / 3) * 3 + 1)?,
        Part::Year => first_of(date.year(), 1)?,
        Part::IsoYear => {
            // The fourth of January is always in the first week of its ISO year.
            let fourth = first_of(date.iso_week().year(), 1)? + 3;
            fourth - into_week(fourth, Weekday::Mon)
        }
        other => return Err(unfit(other, "date")),
    };
    civil(start).map(|_| start)
}

/// The start of the part that a civil instant is in.
pub(crate) fn truncate(micros: i64, part: Part) -> Result<i64, String> {
    if let Some(unit) = part.micros() {
        return Ok(micros.div_euclid(unit) * unit);
    }
    Ok(midnight(truncate_day(split(micros)?.0, part)?))
}

/// How many starts of `part` lie after `from` and not after `to`.
pub(crate) fn boundaries_days(to: i32, from: i32, part: Part) -> Result<i64, String> {
    let (a, b) = (civil(to)?, civil(from)?);
    let months = |date: NaiveDate| i64::from(date.year()) * 12 + i64::from(date.month0());
    let weeks = |start: Weekday| {
        let week = |day: i32| i64::from(day - into_week(day, start));
        (week(to) - week(from)) / 7
    };
    Ok(match part {
        Part::Day => i64::from(to) - i64::from(from),
        Part::Week(start) => weeks(start),
        Part::IsoWeek => weeks(Weekday::Mon),
        Part::Month => months(a) - months(b),
        Part::Quarter => months(a).div_euclid(3) - months(b).div_euclid(3),
        Part::Year => i64::from(a.year()) - i64::from(b.year()),
        Part::IsoYear => i64::from(a.iso_week().year()) - i64::from(b.iso_week().year()),
        other => return Err(unfit(other, "date")),
    })
}

/// How many starts of `part` lie after one civil instant and not after another.
pub(crate) fn boundaries(to: i64, from: i64, part: Part) -> Result<i64, String> {
    match part.micros() {
        Some(unit) => Ok(to.div_euclid(unit) - from.div_euclid(unit)),
        None => boundaries_days(split(to)?.0, split(from)?.0, part),
    }
}

/// How many whole parts lie between two instants, toward zero: TIMESTAMP_DIFF.
pub(crate) fn elapsed(to: i64, from: i64, part: Part) -> Result<i64, String> {
    let unit = match part {
        Part::Day => DAY,
        other => other.micros().ok_or_else(|| unfit(other, "timestamp's difference"))?,
    };
    to.checked_sub(from).map(|micros| micros / unit).ok_or_else(|| "a timestamp is out of range".to_owned())
}

/// `day` moved by `count` parts; a month that is too short ends on its last day.
pub(crate) fn add_days(day: i32, count: i64, part: Part) -> Result<i32, String> {
    let date = civil(day)?;
    let by_days = |scale: i64| {
        let count = count.checked_mul(scale).ok_or_else(far)?;
        let magnitude = Days::new(count.unsigned_abs());
        let moved = if count < 0 { date.checked_sub_days(magnitude) } else { date.checked_add_days(magnitude) };
        moved.ok_or_else(far)
    };
    let by_months = |scale: i64| {
        let count = count.checked_mul(scale).ok_or_else(far)?;
        let magnitude = Months::new(u32::try_from(count.unsigned_abs()).map_err(|_| far())?);
        let moved = if count < 0 { date.checked_sub_months(magnitude) } else { date.checked_add_months(magnitude) };
        moved.ok_or_else(far)
    };
    days(match part {
        Part::Day => by_days(1)?,
        Part::Week(Weekday::Sun) => by_days(7)?,
        Part::Month => by_months(1)?,
        Part::Quarter => by_months(3)?,
        Part::Year => by_months(12)?,
        other => return Err(unfit(other, "date's interval")),
    })
}

/// A civil instant moved by `count` parts.
pub(crate) fn add(micros: i64, count: i64, part: Part) -> Result<i64, String> {
    match part.micros() {
        Some(unit) => in_range(count.checked_mul(unit).and_then(|span| micros.checked_add(span))),
        None => {
            let (day, time) = split(micros)?;
            Ok(midnight(add_days(day, count, part)?) + time)
        }
    }
}

/// A timestamp moved by `count` parts, of which the longest is a day of 24 hours.
pub(crate) fn add_exact(micros: i64, count: i64, part: Part) -> Result<i64, String> {
    let unit = match part {
        Part::Day => DAY,
        other => other.micros().ok_or_else(|| unfit(other, "timestamp's interval"))?,
    };
    in_range(count.checked_mul(unit).and_then(|span| micros.checked_add(span)))
}

/// An instant, if it is between the years 1 and 9999.
pub(crate) fn in_range(micros: Option<i64>) -> Result<i64, String> {
    let micros = micros.ok_or("a timestamp is out of range")?;
    civil(split(micros)?.0).map(|_| micros)
}

/// The number of the week in its year: days before the first `start` are in week 0.
pub(crate) fn week_of(date: NaiveDate, start: Weekday) -> i64 {
    let since = (7 + date.weekday().num_days_from_monday() - start.num_days_from_monday()) % 7;
    i64::from((date.ordinal0() + 7 - since) / 7)
}

/// EXTRACT of a civil instant.
pub(crate) fn extract(micros: i64, part: Part) -> Result<i64, String> {
    let (day, time) = split(micros)?;
    let date = civil(day)?;
    Ok(match part {
        Part::Microsecond => time % 1_000_000,
        Part::Millisecond => time % 1_000_000 / 1_000,
        Part::Second => time / 1_000_000 % 60,
        Part::Minute => time / 60_000_000 % 60,
        Part::Hour => time / 3_600_000_000,
        Part::Day => i64::from(date.day()),
        Part::DayOfWeek => i64::from(date.weekday().number_from_sunday()),
        Part::DayOfYear => i64::from(date.ordinal()),
        Part::Week(start) => week_of(date, start),
        Part::IsoWeek => i64::from(date.iso_week().week()),
        Part::Month => i64::from(date.month()),
        Part::Quarter => i64::from(date.month0() / 3 + 1),
        Part::Year => i64::from(date.year()),
        Part::IsoYear => i64::from(date.iso_week().year()),
    })
}

/// The last day of the part that `day` is in.
pub(crate) fn last_day(day: i32, part: Part) -> Result<i32, String> {
    let start = truncate_day(day, part)?;
    // The day after the last may lie in the year 10000.
    let months = |count| civil(start)?.checked_add_months(Months::new(count)).ok_or_else(far);
    let before = |next: NaiveDate| next.num_days_from_ce() - EPOCH_FROM_CE - 1;
    let last = match part {
        Part::Week(_) | Part::IsoWeek => start + 6,
        Part::Month => before(months(1)?),
        Part::Quarter => before(months(3)?),
        Part::Year => before(months(12)?),
        Part::IsoYear => {
            let fourth = NaiveDate::from_ymd_opt(civil(start + 6)?.year() + 1, 1, 4).ok_or_else(far)?;
            before(fourth - Days::new(fourth.weekday().num_days_from_monday().into()))
        }
        other => return Err(unfit(other, "date that LAST_DAY knows")),
    };
    civil(last).map(|_| last)
}
