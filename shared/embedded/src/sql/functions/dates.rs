//! The functions of dates and times.

use arrow::array::{Array, ArrayRef, AsArray, Date32Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Date32Type, TimestampMicrosecondType};
use chrono::NaiveDate;
use datafusion::common::Result;

use super::super::normalize::datetime;
use super::calendar::{self, Part, midnight, split};
use super::rows::{Row, each, map1, map2, map3, zoned};
use super::signature::{Call, Kind, Spec, civil, date, first, instant, int, text};
use super::zone::Zone;
use super::{format_time, parse_time, time_text};

use Kind::{Any, Date, Datetime, Int, Moment, Text, Timestamp};

pub(crate) static SPECS: &[Spec] = &[
    Spec::new("date_trunc", &[Moment, Text], first, truncate),
    Spec::new("datetime_trunc", &[Moment, Text], first, truncate),
    Spec::new("timestamp_trunc", &[Moment, Text, Text], first, truncate).needs(2),
    Spec::new("date_diff", &[Date, Date, Text], int, |call| {
        diff(call, |a, b, part| calendar::boundaries(midnight(a), midnight(b), part))
    }),
    Spec::new("datetime_diff", &[Datetime, Datetime, Text], int, |call| micros_diff(call, calendar::boundaries)),
    Spec::new("timestamp_diff", &[Timestamp, Timestamp, Text], int, |call| micros_diff(call, calendar::elapsed)),
    Spec::new("date_add", &[Date, Int, Text], first, |call| shift(call, 1)),
    Spec::new("date_sub", &[Date, Int, Text], first, |call| shift(call, -1)),
    Spec::new("datetime_add", &[Datetime, Int, Text], first, |call| shift(call, 1)),
    Spec::new("datetime_sub", &[Datetime, Int, Text], first, |call| shift(call, -1)),
    Spec::new("timestamp_add", &[Timestamp, Int, Text], first, |call| shift(call, 1)),
    Spec::new("timestamp_sub", &[Timestamp, Int, Text], first, |call| shift(call, -1)),
    Spec::new("interval_add", &[Moment, Int, Text], interval_type, |call| interval(call, 1)),
    Spec::new("interval_sub", &[Moment, Int, Text], interval_type, |call| interval(call, -1)),
    Spec::new("extract", &[Text, Moment, Text], int, extract).needs(2),
    Spec::new("last_day", &[Moment, Text], date, last_day).needs(1),
];

pub(crate) static CONVERSIONS: &[Spec] = &[
    Spec::new("date", &[Any, Any, Int], date, to_date).needs(1),
    Spec::new("datetime", &[Any, Any, Int, Int, Int, Int], civil, to_datetime).needs(1),
    Spec::new("timestamp", &[Any, Text], instant, to_timestamp).needs(1),
    Spec::new("string", &[Any, Text], text, to_text).needs(1),
    Spec::new("unix_seconds", &[Timestamp], int, |call| unix(call, 1_000_000)),
    Spec::new("unix_millis", &[Timestamp], int, |call| unix(call, 1_000)),
    Spec::new("unix_micros", &[Timestamp], int, |call| unix(call, 1)),
    Spec::new("unix_date", &[Date], int, |call| {
        map1::<_, _, Int64Array>(call, call.dates(0)?, |day| Ok(Some(i64::from(day))))
    }),
    Spec::new("timestamp_seconds", &[Int], instant, |call| from_unix(call, 1_000_000)),
    Spec::new("timestamp_millis", &[Int], instant, |call| from_unix(call, 1_000)),
    Spec::new("timestamp_micros", &[Int], instant, |call| from_unix(call, 1)),
    Spec::new("date_from_unix_date", &[Int], date, |call| {
        map1::<_, _, Date32Array>(call, call.ints(0)?, |day| {
            let day = i32::try_from(day).map_err(|_| "a date is out of range".to_owned())?;
            calendar::civil(day).map(|_| Some(day))
        })
    }),
    Spec::new("format_timestamp", &[Text, Moment, Text], text, format).needs(2),
    Spec::new("format_date", &[Text, Moment], text, format),
    Spec::new("format_datetime", &[Text, Datetime], text, format),
    Spec::new("parse_timestamp", &[Text, Text, Text], instant, |call| {
        let zone = call.texts_or(2, "UTC")?;
        let parsed = map3::<_, _, _, _, TimestampMicrosecondArray>(
            call,
            call.texts(0)?,
            call.texts(1)?,
            &zone,
            |format, text, zone| parse_time::parse(format, text, Zone::parse(zone)?).map(Some),
        )?;
        zoned(parsed, call.returns)
    })
    .needs(2),
    Spec::new("parse_datetime", &[Text, Text], civil, |call| {
        map2::<_, _, _, TimestampMicrosecondArray>(call, call.texts(0)?, call.texts(1)?, |format, text| {
            parse_time::parse(format, text, Zone::Utc).map(Some)
        })
    }),
    Spec::new("parse_date", &[Text, Text], date, |call| {
        map2::<_, _, _, Date32Array>(call, call.texts(0)?, call.texts(1)?, |format, text| {
            split(parse_time::parse(format, text, Zone::Utc)?).map(|(day, _)| Some(day))
        })
    }),
];

/// A DATE, DATETIME or TIMESTAMP as microseconds of its own clock.
fn moment(array: &ArrayRef, row: usize) -> Option<i64> {
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Date32 => midnight(array.as_primitive::<Date32Type>().value(row)),
        _ => array.as_primitive::<TimestampMicrosecondType>().value(row),
    })
}

fn is_timestamp(array: &ArrayRef) -> bool {
    matches!(array.data_type(), DataType::Timestamp(_, Some(_)))
}

/// The part in a row. Almost always the same one, so the last is kept.
fn parts(texts: &StringArray) -> impl FnMut(usize) -> Result<Option<Part>, String> + '_ {
    let mut last: Option<(&str, Part)> = None;
    move |row| {
        if texts.is_null(row) {
            return Ok(None);
        }
        let word = texts.value(row);
        match last {
            Some((known, part)) if known == word => Ok(Some(part)),
            _ => {
                let part = Part::parse(word)?;
                last = Some((word, part));
                Ok(Some(part))
            }
        }
    }
}

/// The zone in a row of an optional argument; UTC where it is not given.
fn zones(texts: &StringArray) -> impl FnMut(usize) -> Result<Option<Zone>, String> + '_ {
    let mut last: Option<(&str, Zone)> = None;
    move |row| {
        if texts.is_null(row) {
            return Ok(None);
        }
        let name = texts.value(row);
        match last {
            Some((known, zone)) if known == name => Ok(Some(zone)),
            _ => {
                let zone = Zone::parse(name)?;
                last = Some((name, zone));
                Ok(Some(zone))
            }
        }
    }
}

/// Microseconds of the argument's own clock back as the type to give.
fn give(call: &Call<'_>, f: impl FnMut(usize) -> Row<i64>) -> Result<ArrayRef> {
    if call.returns == &DataType::Date32 {
        let mut f = f;
        return each::<_, Date32Array>(call, |row| f(row)?.map(|micros| split(micros).map(|(day, _)| day)).transpose());
    }
    zoned(each::<_, TimestampMicrosecondArray>(call, f)?, call.returns)
}

fn truncate(call: &Call<'_>) -> Result<ArrayRef> {
    let values = &call.args[0];
    let zone = call.texts_or(2, "UTC")?;
    let (mut part, mut zone) = (parts(call.texts(1)?), zones(&zone));
    give(call, |row| {
        let (Some(value), Some(part), Some(zone)) = (moment(values, row), part(row)?, zone(row)?) else {
            return Ok(None);
        };
        if values.data_type() == &DataType::Date32 {
            return Ok(Some(midnight(calendar::truncate_day(split(value)?.0, part)?)));
        }
        zone.to_instant(calendar::truncate(zone.to_civil(value)?, part)?).map(Some)
    })
}

fn diff(call: &Call<'_>, f: impl Fn(i32, i32, Part) -> Result<i64, String>) -> Result<ArrayRef> {
    let mut part = parts(call.texts(2)?);
    let (to, from) = (call.dates(0)?, call.dates(1)?);
    each::<_, Int64Array>(call, |row| match part(row)? {
        Some(Part::Microsecond | Part::Millisecond | Part::Second | Part::Minute | Part::Hour) => {
            Err("DATE_DIFF takes no part shorter than a day".into())
        }
        Some(part) if to.is_valid(row) && from.is_valid(row) => f(to.value(row), from.value(row), part).map(Some),
        _ => Ok(None),
    })
}

fn micros_diff(call: &Call<'_>, f: impl Fn(i64, i64, Part) -> Result<i64, String>) -> Result<ArrayRef> {
    let mut part = parts(call.texts(2)?);
    let (to, from) = (call.micros(0)?, call.micros(1)?);
    each::<_, Int64Array>(call, |row| match part(row)? {
        Some(part) if to.is_valid(row) && from.is_valid(row) => f(to.value(row), from.value(row), part).map(Some),
        _ => Ok(None),
    })
}

fn moved(values: &ArrayRef, value: i64, count: i64, part: Part) -> Result<i64, String> {
    match values.data_type() {
        DataType::Date32 => Ok(midnight(calendar::add_days(split(value)?.0, count, part)?)),
        _ if is_timestamp(values) => calendar::add_exact(value, count, part),
        _ => calendar::add(value, count, part),
    }
}

fn shift(call: &Call<'_>, sign: i64) -> Result<ArrayRef> {
    let values = &call.args[0];
    let counts = call.ints(1)?;
    let mut part = parts(call.texts(2)?);
    give(call, |row| {
        let (Some(value), Some(part), true) = (moment(values, row), part(row)?, counts.is_valid(row)) else {
            return Ok(None);
        };
        let count = counts.value(row).checked_mul(sign).ok_or("an interval is out of range")?;
        moved(values, value, count, part).map(Some)
    })
}

/// A DATE and an interval make a DATETIME.
fn interval_type(types: &[DataType]) -> DataType {
    match first(types) {
        DataType::Date32 => datetime(),
        other => other,
    }
}

fn interval(call: &Call<'_>, sign: i64) -> Result<ArrayRef> {
    let values = &call.args[0];
    let exact = is_timestamp(values);
    let counts = call.ints(1)?;
    let mut part = parts(call.texts(2)?);
    give(call, |row| {
        let (Some(value), Some(part), true) = (moment(values, row), part(row)?, counts.is_valid(row)) else {
            return Ok(None);
        };
        let count = counts.value(row).checked_mul(sign).ok_or("an interval is out of range")?;
        let moved = if exact { calendar::add_exact(value, count, part) } else { calendar::add(value, count, part) };
        moved.map(Some)
    })
}

fn extract(call: &Call<'_>) -> Result<ArrayRef> {
    let values = &call.args[1];
    let is_date = values.data_type() == &DataType::Date32;
    let zone = call.texts_or(2, "UTC")?;
    let (mut part, mut zone) = (parts(call.texts(0)?), zones(&zone));
    each::<_, Int64Array>(call, |row| {
        let (Some(value), Some(part), Some(zone)) = (moment(values, row), part(row)?, zone(row)?) else {
            return Ok(None);
        };
        if is_date && part.micros().is_some() {
            return Err("a DATE has no part shorter than a day to EXTRACT".into());
        }
        calendar::extract(zone.to_civil(value)?, part).map(Some)
    })
}

fn last_day(call: &Call<'_>) -> Result<ArrayRef> {
    let values = &call.args[0];
    let texts = call.texts_or(1, "MONTH")?;
    let mut part = parts(&texts);
    each::<_, Date32Array>(call, |row| match (moment(values, row), part(row)?) {
        (Some(value), Some(part)) => calendar::last_day(split(value)?.0, part).map(Some),
        _ => Ok(None),
    })
}

/// DATE(year, month, day), DATE(timestamp[, zone]), DATE(datetime), DATE(date).
fn to_date(call: &Call<'_>) -> Result<ArrayRef> {
    if call.has(2) {
        let (years, months, days) = (call.ints(0)?, call.ints(1)?, call.ints(2)?);
        return map3::<_, _, _, _, Date32Array>(call, years, months, days, |year, month, day| {
            ymd(year, month, day).map(Some)
        });
    }
    let values = &call.args[0];
    match values.data_type() {
        DataType::Utf8 => map1::<_, _, Date32Array>(call, call.texts(0)?, |text| time_text::parse_date(text).map(Some)),
        DataType::Date32 | DataType::Timestamp(..) => {
            let names = call.texts_or(1, "UTC")?;
            let mut zone = zones(&names);
            each::<_, Date32Array>(call, |row| match (moment(values, row), zone(row)?) {
                (Some(value), Some(zone)) => split(zone.to_civil(value)?).map(|(day, _)| Some(day)),
                _ => Ok(None),
            })
        }
        other => unfit("DATE", other),
    }
}

fn unfit(name: &str, given: &DataType) -> Result<ArrayRef> {
    datafusion::common::exec_err!("{name} does not take {}", super::signature::type_name(given))
}

fn ymd(year: i64, month: i64, day: i64) -> Result<i32, String> {
    let date = || {
        let (year, month, day) = (i32::try_from(year).ok()?, u32::try_from(month).ok()?, u32::try_from(day).ok()?);
        NaiveDate::from_ymd_opt(year, month, day)
    };
    calendar::days(date().ok_or_else(|| format!("{year}, {month}, {day} is not a date"))?)
}

/// DATETIME(timestamp[, zone]), DATETIME(date), DATETIME(text) and six numbers.
fn to_datetime(call: &Call<'_>) -> Result<ArrayRef> {
    if call.has(5) {
        let fields = (0..6).map(|place| call.ints(place)).collect::<Result<Vec<_>>>()?;
        return give(call, |row| {
            if fields.iter().any(|field| field.is_null(row)) {
                return Ok(None);
            }
            let field = |place: usize| fields[place].value(row);
            let (hour, minute, second) = (field(3), field(4), field(5));
            if !(0..24).contains(&hour) || !(0..60).contains(&minute) || !(0..60).contains(&second) {
                return Err(format!("{hour}:{minute}:{second} is not a time"));
            }
            let day = ymd(field(0), field(1), field(2))?;
            Ok(Some(midnight(day) + (hour * 3_600 + minute * 60 + second) * 1_000_000))
        });
    }
    let values = &call.args[0];
    match values.data_type() {
        DataType::Utf8 => give(call, |row| match call.texts(0).map_err(|error| error.to_string())? {
            texts if texts.is_valid(row) => time_text::parse_datetime(texts.value(row)).map(Some),
            _ => Ok(None),
        }),
        DataType::Date32 | DataType::Timestamp(..) => {
            let names = call.texts_or(1, "UTC")?;
            let mut zone = zones(&names);
            give(call, |row| match (moment(values, row), zone(row)?) {
                (Some(value), Some(zone)) => zone.to_civil(value).map(Some),
                _ => Ok(None),
            })
        }
        other => unfit("DATETIME", other),
    }
}

/// TIMESTAMP(text[, zone]), TIMESTAMP(date[, zone]), TIMESTAMP(datetime[, zone]).
fn to_timestamp(call: &Call<'_>) -> Result<ArrayRef> {
    let values = &call.args[0];
    let names = call.texts_or(1, "UTC")?;
    let mut zone = zones(&names);
    match values.data_type() {
        DataType::Utf8 => {
            let texts = call.texts(0)?;
            give(call, |row| match zone(row)? {
                Some(zone) if texts.is_valid(row) => time_text::parse_timestamp(texts.value(row), zone).map(Some),
                _ => Ok(None),
            })
        }
        DataType::Date32 | DataType::Timestamp(..) => {
            let already = is_timestamp(values);
            give(call, |row| match (moment(values, row), zone(row)?) {
                (Some(value), Some(_)) if already => Ok(Some(value)),
                (Some(value), Some(zone)) => zone.to_instant(value).map(Some),
                _ => Ok(None),
            })
        }
        other => unfit("TIMESTAMP", other),
    }
}

/// STRING(timestamp[, zone]), STRING(date), STRING(datetime).
fn to_text(call: &Call<'_>) -> Result<ArrayRef> {
    let values = &call.args[0];
    let names = call.texts_or(1, "UTC")?;
    let mut zone = zones(&names);
    let is_date = match values.data_type() {
        DataType::Date32 => true,
        DataType::Timestamp(..) => false,
        other => return unfit("STRING", other),
    };
    let timestamp = is_timestamp(values);
    each::<_, StringArray>(call, |row| match (moment(values, row), zone(row)?) {
        (Some(value), Some(_)) if is_date => time_text::date(split(value)?.0).map(Some),
        (Some(value), Some(zone)) if timestamp => time_text::timestamp(value, zone).map(Some),
        (Some(value), Some(_)) => time_text::datetime(value, ' ').map(Some),
        _ => Ok(None),
    })
}

fn unix(call: &Call<'_>, unit: i64) -> Result<ArrayRef> {
    map1::<_, _, Int64Array>(call, call.micros(0)?, |micros| Ok(Some(micros.div_euclid(unit))))
}

fn from_unix(call: &Call<'_>, unit: i64) -> Result<ArrayRef> {
    let micros = map1::<_, _, TimestampMicrosecondArray>(call, call.ints(0)?, |count| {
        calendar::in_range(count.checked_mul(unit)).map(Some)
    })?;
    zoned(micros, call.returns)
}

fn format(call: &Call<'_>) -> Result<ArrayRef> {
    let formats = call.texts(0)?;
    let values = &call.args[1];
    let names = call.texts_or(2, "UTC")?;
    let mut zone = zones(&names);
    each::<_, StringArray>(call, |row| match (moment(values, row), zone(row)?) {
        (Some(value), Some(zone)) if formats.is_valid(row) => {
            format_time::format(formats.value(row), value, zone).map(Some)
        }
        _ => Ok(None),
    })
}
