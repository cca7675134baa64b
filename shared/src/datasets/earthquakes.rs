//! The earthquake catalogue of the U.S. Geological Survey, by its FDSN event service.
//!
//! The service rewrites rows for weeks after an event, so a tick asks for what changed since the cursor, however old the
//! event is, and reaches two hours back because the service publishes late. No request names a limit: with one, the
//! service cuts the answer off without a word.

use std::ops::Range;
use std::sync::LazyLock;
use std::time::Duration;

use chrono::{DateTime, Datelike, TimeDelta};
use http::{HeaderMap, StatusCode, header};

use crate::clock::Timestamp;
use crate::csv::{Record, Unreadable, hash, timestamp};
use crate::dataset::{Ask, Census, Cursor, Dataset, Details, Plan, Query, Question, Refusal, Refused, Source};
use crate::form::{Form, Role, Syntax};
use crate::table::ColumnType::{Float, Integer, Text, Timestamp as Time};
use crate::table::{Column, Growth, Partitioning, TableSpec, Value};

const HEADER: &[&str] = &[
    "time",
    "latitude",
    "longitude",
    "depth",
    "mag",
    "magType",
    "nst",
    "gap",
    "dmin",
    "rms",
    "net",
    "id",
    "updated",
    "place",
    "type",
    "horizontalError",
    "depthError",
    "magError",
    "magNst",
    "status",
    "locationSource",
    "magSource",
];
const MAG: usize = 4;
const ID: usize = 11;
const UPDATED: usize = 12;
const MAG_CLUSTER: usize = 22;

/// The columns that only GeoJSON has.
const DETAILS: Range<usize> = 23..31;

/// What of a feature is read for [`DETAILS`], after its id and its time of change.
const FEATURE_DETAILS: &[&str] = &["id", "updated", "ids", "url", "alert", "felt", "cdi", "mmi", "sig", "tsunami"];
const FEATURE_UPDATED: usize = 1;
const FEATURE_FIRST_DETAIL: usize = 2;

/// What of a feature is read where there is nothing but the feature.
const FEATURE: &[&str] = &[
    "id",
    "updated",
    "ids",
    "url",
    "alert",
    "felt",
    "cdi",
    "mmi",
    "sig",
    "tsunami",
    "time",
    "latitude",
    "longitude",
    "depth",
    "mag",
    "magType",
    "nst",
    "gap",
    "dmin",
    "rms",
    "net",
    "place",
    "type",
    "status",
];

static FORMS: [Form; 3] = [
    Form { name: "events", syntax: Syntax::Csv(HEADER), role: Role::Rows },
    Form { name: "details", syntax: Syntax::GeoJson(FEATURE_DETAILS), role: Role::Details(DETAILS) },
    Form { name: "deleted", syntax: Syntax::GeoJson(FEATURE), role: Role::Rows },
];
static EVENTS_FORM: &Form = &FORMS[0];
static DETAILS_FORM: &Form = &FORMS[1];
static DELETED_FORM: &Form = &FORMS[2];

/// Columns as the service writes them. Depth, depth and horizontal errors in km; latitude, longitude, `gap` and `dmin`
/// in degrees; `rms` in seconds. `mag_cluster` is ours, see [`mag_cluster`].
static TABLE: LazyLock<TableSpec> = LazyLock::new(|| TableSpec {
    columns: vec![
        Column::required("time", Time),
        Column::new("latitude", Float),
        Column::new("longitude", Float),
        Column::new("depth", Float),
        Column::new("mag", Float),
        Column::new("magType", Text),
        Column::new("nst", Integer),
        Column::new("gap", Float),
        Column::new("dmin", Float),
        Column::new("rms", Float),
        Column::new("net", Text),
        Column::required("id", Text),
        Column::required("updated", Time),
        Column::new("place", Text),
        Column::new("type", Text),
        Column::new("horizontalError", Float),
        Column::new("depthError", Float),
        Column::new("magError", Float),
        Column::new("magNst", Integer),
        Column::new("status", Text),
        Column::new("locationSource", Text),
        Column::new("magSource", Text),
        Column::new("mag_cluster", Text),
        Column::new("ids", Text),
        Column::new("url", Text),
        Column::new("alert", Text),
        Column::new("felt", Integer),
        Column::new("cdi", Float),
        Column::new("mmi", Float),
        Column::new("sig", Integer),
        Column::new("tsunami", Integer),
    ],
    key: ID,
    partition_column: 0,
    partitioning: Partitioning::Day,
    clustering: vec!["mag_cluster", "locationSource", "net"],
    rows_are: "events",
    growth: Growth::Union,
});

/// The dataset `earthquakes`.
#[derive(Debug, Default)]
pub struct Earthquakes {
    source: Usgs,
}

impl Dataset for Earthquakes {
    fn name(&self) -> &'static str {
        "earthquakes"
    }

    fn table(&self) -> &TableSpec {
        &TABLE
    }

    fn forms(&self) -> &'static [Form] {
        &FORMS
    }

    fn source(&self) -> &dyn Source {
        &self.source
    }

    fn read(&self, form: &Form, record: &Record<'_>, values: &mut Vec<Value>) -> Result<(), Unreadable> {
        match form.syntax {
            Syntax::Csv(_) => {
                for (index, column) in TABLE.columns.iter().enumerate() {
                    let read = index < HEADER.len();
                    values.push(if read { record.value(index, column)? } else { Value::Null });
                }
            }
            Syntax::GeoJson(fields) => {
                for column in &TABLE.columns {
                    values.push(match fields.iter().position(|field| *field == column.name) {
                        Some(field) if column.data_type == Time => milliseconds(record, field, column)?,
                        Some(field) => record.value(field, column)?,
                        None => Value::Null,
                    });
                }
            }
        }
        if let Value::Float(mag) = values[MAG] {
            values[MAG_CLUSTER] = Value::Text(mag_cluster(mag));
        }
        Ok(())
    }

    fn details(&self, _: &Form, record: &Record<'_>) -> Result<Details, Unreadable> {
        let key = record.text(0, "id")?.unwrap_or_default().to_owned();
        let fields = FEATURE_FIRST_DETAIL..record.len();
        let columns = fields.clone().zip(&TABLE.columns[DETAILS]);
        let values = columns.map(|(field, column)| record.value(field, column)).collect::<Result<_, _>>()?;
        Ok(Details { key, values, hash: hash(fields.map(|field| record.bytes(field))) })
    }

    fn census(&self, start: Timestamp, end: Timestamp) -> Option<Census> {
        let parameter = |name: &str, value: String| (name.to_owned(), value);
        let parameters = vec![
            parameter("format", "geojson".to_owned()),
            parameter("starttime", seconds(start)),
            parameter("endtime", seconds(end)),
        ];
        let sql = format!(
            "select count(*) from gold.fct_earthquakes where event_time between timestamp '{0} UTC' and timestamp '{1} UTC'",
            start.format("%Y-%m-%d %H:%M:%S"),
            end.format("%Y-%m-%d %H:%M:%S")
        );
        Some(Census { query: Query { path: COUNT.to_owned(), parameters }, sql })
    }

    fn publications(&self, since: Timestamp) -> Option<String> {
        let since = since.format("%Y-%m-%d %H:%M:%S");
        Some(format!(
            "select time, updated, _first_observed_at, _first_capture from raw.earthquakes \
             where time >= timestamp '{since} UTC' \
             qualify row_number() over (partition by id order by _first_observed_at, updated, _row_hash) = 1"
        ))
    }

    fn changed_at(&self, form: &Form, record: &Record<'_>) -> Option<Timestamp> {
        let field = if form.syntax == Syntax::Csv(HEADER) { UPDATED } else { FEATURE_UPDATED };
        let text = std::str::from_utf8(record.bytes(field)).ok()?;
        timestamp(text).or_else(|| DateTime::from_timestamp_millis(text.parse().ok()?))
    }
}

/// Reads a time as GeoJSON has it: milliseconds since 1970, UTC.
fn milliseconds(record: &Record<'_>, field: usize, column: &Column) -> Result<Value, Unreadable> {
    match record.value(field, &Column { data_type: Integer, ..column.clone() })? {
        Value::Integer(number) => DateTime::from_timestamp_millis(number)
            .filter(|at| (1..=9999).contains(&at.year()))
            .map(Value::Timestamp)
            .ok_or_else(|| Unreadable::new(column.name, format!("{number} is no time"))),
        other => Ok(other),
    }
}

/// The band of a magnitude, `0-1` to `9-10`. The lower edge belongs to the band, so 1.0 is in `1-2`; 10 itself belongs
/// to `9-10`. Below and above are `below 0` and `above 10`; a missing magnitude has no band.
fn mag_cluster(mag: f64) -> String {
    match mag {
        _ if mag < 0.0 => "below 0".to_owned(),
        _ if mag > 10.0 => "above 10".to_owned(),
        _ => {
            // Adding zero makes 0 of -0.
            let lower = mag.floor().min(9.0) + 0.0;
            format!("{lower}-{}", lower + 1.0)
        }
    }
}

const QUERY: &str = "/fdsnws/event/1/query";
const COUNT: &str = "/fdsnws/event/1/count";
/// Before the first event of the catalogue.
const BEGINNING: &str = "1600-01-01T00:00:00Z";
/// After the last event that a table can hold.
const END: &str = "9999-12-31T23:59:59Z";
/// A longer range is split before it is asked for. A month holds at most some 15,000 events, unless there is a swarm;
/// before this year, a year holds fewer.
const LONGEST_RANGE: TimeDelta = TimeDelta::days(31);
const LONGEST_OLD_RANGE: TimeDelta = TimeDelta::days(366);
const OLD: i32 = 1960;
/// A range this short is not split any more because of a time-out.
const SHORTEST_RANGE: TimeDelta = TimeDelta::days(1);
const OVERLAP: TimeDelta = TimeDelta::hours(2);
/// A sweep reads the updates of so long again.
const SWEEP: TimeDelta = TimeDelta::days(7);
const RECENT: &str = "/earthquakes/feed/v1.0/summary/all_month";
/// The service caches its errors for so long.
const ERROR_CACHE: Duration = Duration::from_secs(60);
/// A refusal is not believed to ask for more parts; they split again.
const MOST_PARTS: u64 = 4096;
/// When the answer to a refusal does not state the limit.
const MOST_EVENTS: u64 = 20_000;

#[derive(Debug, Default)]
struct Usgs;

impl Source for Usgs {
    fn default_address(&self) -> &str {
        "https://earthquake.usgs.gov"
    }

    fn address_variable(&self) -> &str {
        "STRATA_USGS_URL"
    }

    fn spacing(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn largest_answer(&self) -> u64 {
        // 20,000 rows of at most 400 bytes, eight times over.
        64 << 20
    }

    fn clock(&self, ours: Timestamp) -> Query {
        let start = seconds(ours - TimeDelta::hours(1));
        let parameters = vec![("format".to_owned(), "geojson".to_owned()), ("starttime".to_owned(), start)];
        Query { path: COUNT.to_owned(), parameters }
    }

    fn plan(&self, ask: &Ask, cursor: Option<&Cursor>, now: Option<Timestamp>) -> Plan {
        match (ask, cursor, now) {
            (Ask::Range { start, end }, ..) if *end - *start > longest(*start) => {
                // There is nothing outside, and a message may name the year 262142.
                let (start, end) = ((*start).clamp(beginning(), ending()), (*end).clamp(beginning(), ending()));
                match ranges(start, end, longest) {
                    parts if parts.len() > 1 => Plan::Split(parts, None),
                    _ => Plan::Query { questions: questions(start, Some(end), None), again: Ask::Range { start, end } },
                }
            }
            (Ask::Range { start, end }, ..) => {
                Plan::Query { questions: questions(*start, Some(*end), None), again: ask.clone() }
            }
            (Ask::Updates { since, start, end }, ..) => {
                Plan::Query { questions: questions(*start, *end, Some(*since)), again: ask.clone() }
            }
            (Ask::Recent, ..) => Plan::Query { questions: recent(), again: ask.clone() },
            (Ask::Tick { sweep: true, .. }, Some(cursor), _) => {
                let since = cursor.watermark - SWEEP;
                Plan::Split(vec![Ask::Updates { since, start: beginning(), end: None }, Ask::Recent], None)
            }
            (Ask::Tick { .. }, Some(cursor), _) => {
                let (since, start) = (since(cursor), beginning());
                let again = Ask::Updates { since, start, end: None };
                Plan::Query { questions: questions(start, None, Some(since)), again }
            }
            (Ask::Tick { .. }, None, None) => Plan::NeedsClock,
            (Ask::Tick { days, .. }, None, Some(now)) => {
                let start = before(now, TimeDelta::days(i64::from(*days))).max(beginning());
                match ranges(start, now, longest) {
                    // In one answer the cursor need not move before the rows are there.
                    parts if parts.len() > 1 => Plan::Split(parts, Some(now)),
                    _ => {
                        let again = Ask::Range { start, end: now };
                        Plan::Query { questions: questions(start, Some(now), None), again }
                    }
                }
            }
        }
    }

    fn refused(&self, ask: &Ask, cursor: Option<&Cursor>, attempt: u32, answer: &Refused<'_>) -> Refusal {
        let later = Refusal::Later(ERROR_CACHE);
        match answer.status {
            StatusCode::BAD_REQUEST => match too_many(answer.body) {
                Some((matching, limit)) => {
                    split(ask, cursor, parts(matching, limit)).map_or(Refusal::Never, Refusal::Split)
                }
                None => Refusal::Never,
            },
            // An overload may pass by itself; when it does not, smaller questions are easier to answer.
            StatusCode::SERVICE_UNAVAILABLE if attempt < 2 => later,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT if length(ask) > SHORTEST_RANGE => {
                split(ask, cursor, 2).map_or(later, Refusal::Split)
            }
            StatusCode::TOO_MANY_REQUESTS => {
                let asked = answer.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
                let asked = asked.and_then(|seconds| seconds.trim().parse().ok()).map(Duration::from_secs);
                let doubled = ERROR_CACHE.saturating_mul(1 << attempt.saturating_sub(1).min(6));
                Refusal::Later(asked.unwrap_or(doubled))
            }
            status if status.is_server_error() => later,
            _ => Refusal::Never,
        }
    }

    fn observed_at(&self, headers: &HeaderMap) -> Option<Timestamp> {
        let time = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let text = time(header::LAST_MODIFIED).or_else(|| time(header::DATE))?;
        DateTime::parse_from_rfc2822(text).ok().map(|at| at.to_utc())
    }

    fn overlap(&self) -> Duration {
        OVERLAP.to_std().unwrap_or_default()
    }
}

fn beginning() -> Timestamp {
    timestamp(BEGINNING).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn ending() -> Timestamp {
    timestamp(END).unwrap_or(Timestamp::MAX_UTC)
}

fn since(cursor: &Cursor) -> Timestamp {
    before(cursor.watermark, OVERLAP)
}

/// The earlier time, or the first there is. A message may name any.
fn before(at: Timestamp, span: TimeDelta) -> Timestamp {
    at.checked_sub_signed(span).unwrap_or(Timestamp::MIN_UTC)
}

/// The later time, or the last there is.
fn after(at: Timestamp, span: TimeDelta) -> Timestamp {
    at.checked_add_signed(span).unwrap_or(Timestamp::MAX_UTC)
}

/// As the service takes times: whole seconds, UTC.
fn seconds(at: Timestamp) -> String {
    at.format("%Y-%m-%dT%H:%M:%S").to_string()
}

/// All that the service knows of a window. In this order, what is in the details and not in the younger events is gone,
/// and what was deleted after it was listed is found among the deleted.
fn questions(start: Timestamp, end: Option<Timestamp>, since: Option<Timestamp>) -> Vec<Question> {
    let question = |form: &'static Form| {
        let mut parameters =
            vec![("format".to_owned(), form.extension().to_owned()), ("starttime".to_owned(), seconds(start))];
        parameters.extend(end.map(|end| ("endtime".to_owned(), seconds(end))));
        parameters.extend(since.map(|since| ("updatedafter".to_owned(), seconds(since))));
        parameters.push(("orderby".to_owned(), "time-asc".to_owned()));
        if form.name == DELETED_FORM.name {
            parameters.push(("includedeleted".to_owned(), "only".to_owned()));
        }
        Question { query: Query { path: QUERY.to_owned(), parameters }, form }
    };
    [DETAILS_FORM, EVENTS_FORM, DELETED_FORM].map(question).into()
}

/// The lists of the last 30 days, which the service makes anew every minute.
fn recent() -> Vec<Question> {
    let question = |form: &'static Form| {
        let path = format!("{RECENT}.{}", form.extension());
        Question { query: Query { path, parameters: Vec::new() }, form }
    };
    [DETAILS_FORM, EVENTS_FORM].map(question).into()
}

/// How long a range that begins here may be.
fn longest(start: Timestamp) -> TimeDelta {
    if start.year() < OLD { LONGEST_OLD_RANGE } else { LONGEST_RANGE }
}

/// Splits a range into parts that are as long as `longest` allows and share their boundary second.
fn ranges(start: Timestamp, end: Timestamp, longest: impl Fn(Timestamp) -> TimeDelta) -> Vec<Ask> {
    let mut parts = Vec::new();
    let mut from = start;
    while end - from > longest(from) {
        let to = from + longest(from);
        parts.push(Ask::Range { start: from, end: to });
        from = to;
    }
    parts.push(Ask::Range { start: from, end });
    parts
}

/// How long the range of origin times of an ask is.
fn length(ask: &Ask) -> TimeDelta {
    match ask {
        Ask::Range { start, end } | Ask::Updates { start, end: Some(end), .. } => *end - *start,
        Ask::Updates { end: None, .. } | Ask::Tick { .. } => TimeDelta::MAX,
        Ask::Recent => TimeDelta::zero(),
    }
}

/// Splits an ask into about `parts` smaller ones by origin time, or `None` when it is too short for that.
fn split(ask: &Ask, cursor: Option<&Cursor>, parts: u64) -> Option<Vec<Ask>> {
    let even = |start: Timestamp, end: Timestamp| {
        let step = TimeDelta::seconds((end - start).num_seconds().div_euclid(i64::try_from(parts).ok()?) + 1);
        (end - start > TimeDelta::seconds(1)).then(|| ranges(start, end, |_| step))
    };
    match ask {
        Ask::Range { start, end } => even(*start, *end),
        Ask::Updates { since, start, end: Some(end) } => {
            let narrow = |part| match part {
                Ask::Range { start, end } => Ask::Updates { since: *since, start, end: Some(end) },
                other => other,
            };
            even(*start, *end).map(|parts| parts.into_iter().map(narrow).collect())
        }
        // Most changes are of the last weeks, so that is where an endless range is cut.
        Ask::Updates { since, start, end: None } => {
            let (since, start) = (*since, *start);
            let recent = before(since, TimeDelta::days(30)).max(after(start, TimeDelta::days(30)));
            let older = Ask::Updates { since, start, end: Some(recent) };
            let younger = Ask::Updates { since, start: recent, end: None };
            (recent < after(since, TimeDelta::days(30))).then(|| vec![older, younger])
        }
        Ask::Recent => None,
        Ask::Tick { .. } => split(&Ask::Updates { since: since(cursor?), start: beginning(), end: None }, None, parts),
    }
}

/// How many parts bring `matching` events below `limit` each: a quarter more than an even spread needs, since events
/// come in swarms.
fn parts(matching: u64, limit: u64) -> u64 {
    matching.saturating_mul(5).div_ceil(limit.max(1).saturating_mul(4)).clamp(2, MOST_PARTS)
}

/// Reads how many events match, and how many an answer may hold, from the text of a refusal.
fn too_many(body: &str) -> Option<(u64, u64)> {
    let line = body.lines().find(|line| line.contains("exceeds search limit of"))?;
    let mut numbers = line.split_whitespace().filter_map(|word| word.trim_end_matches('.').parse().ok());
    Some((numbers.next()?, numbers.next().unwrap_or(MOST_EVENTS)))
}
#[cfg(test)]
mod tests;
