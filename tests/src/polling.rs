//! The recorded days of July 2025, played against the pipeline and, beside it, against the ways in which such a service
//! is commonly polled: the same source, the same half hours.
//!
//! Invariant: every way is measured against what the source itself lists at the end, in ids and in every column.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{DateTime, DurationRound, NaiveDateTime, TimeDelta, Utc};
use serde_json::Value;
use shared::dataset::Ask;
use shared::warehouse::Origin;
use strata::rows::{Format, print};
use usgs_simulator::{Catalogue, Column, Event};

use crate::{MONTH, Result, World};

/// What changed in the four days after [`MONTH`].
pub const CHANGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/usgs/changes_2025-07-23_27.csv.gz");

/// Between two ticks.
const HALF_AN_HOUR: TimeDelta = TimeDelta::minutes(30);
/// So far back does the first tick reach: over the whole month, wherever it begins.
const DAYS: u32 = 40;

/// A value as a table has it.
#[derive(Clone, Debug, PartialEq)]
pub enum Typed {
    /// None.
    Null,
    /// A whole number or a fraction.
    Number(f64),
    /// A text.
    Text(String),
    /// An instant.
    Time(DateTime<Utc>),
    /// Yes or no.
    Truth(bool),
}

/// An event by the columns of `fct_earthquakes`.
pub type Row = BTreeMap<&'static str, Typed>;

/// Events by id.
pub type Rows = BTreeMap<String, Row>;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Number,
    Text,
    Time,
    Truth,
}

/// Where the 22 columns of a row are in gold.
const COLUMNS: [(Column, &str, Kind); 22] = [
    (Column::Time, "event_time", Kind::Time),
    (Column::Latitude, "latitude", Kind::Number),
    (Column::Longitude, "longitude", Kind::Number),
    (Column::Depth, "depth_km", Kind::Number),
    (Column::Mag, "magnitude", Kind::Number),
    (Column::MagType, "magnitude_type", Kind::Text),
    (Column::Nst, "station_count", Kind::Number),
    (Column::Gap, "azimuthal_gap_deg", Kind::Number),
    (Column::Dmin, "nearest_station_deg", Kind::Number),
    (Column::Rms, "rms_s", Kind::Number),
    (Column::Net, "network", Kind::Text),
    (Column::Id, "event_id", Kind::Text),
    (Column::Updated, "updated_at", Kind::Time),
    (Column::Place, "place", Kind::Text),
    (Column::Type, "event_type", Kind::Text),
    (Column::HorizontalError, "horizontal_error_km", Kind::Number),
    (Column::DepthError, "depth_error_km", Kind::Number),
    (Column::MagError, "magnitude_error", Kind::Number),
    (Column::MagNst, "magnitude_station_count", Kind::Number),
    (Column::Status, "review_status", Kind::Text),
    (Column::LocationSource, "location_network", Kind::Text),
    (Column::MagSource, "magnitude_network", Kind::Text),
];

/// Where in gold is what only a feature has.
const PROPERTIES: [(&str, &str, Kind); 7] = [
    ("felt", "felt_reports", Kind::Number),
    ("cdi", "community_intensity", Kind::Number),
    ("mmi", "instrumental_intensity", Kind::Number),
    ("alert", "pager_alert", Kind::Text),
    ("sig", "significance", Kind::Number),
    ("tsunami", "has_tsunami_message", Kind::Truth),
    ("url", "event_url", Kind::Text),
];

/// A way of polling: asks for the events that happened in the last while, keyed by id; the newest row wins.
pub struct Common {
    /// How far back it asks.
    pub reach: TimeDelta,
    rows: BTreeMap<String, Event>,
}

/// The days, played.
pub struct Played {
    /// Pipeline and source, as they are at the end.
    pub world: World,
    /// The other ways.
    pub common: Vec<Common>,
    /// The first tick.
    pub first: DateTime<Utc>,
    /// What the source lists at the end.
    pub last: Rows,
    /// What gold has at the end.
    pub gold: Rows,
}

/// How a way of polling did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Score {
    /// Requests that it made.
    pub requests: usize,
    /// Events it has, of those that happened since the first tick.
    pub found: usize,
    /// Events it has that the source no longer lists.
    pub gone: usize,
    /// Events found of which a column is not what the source says at the end.
    pub stale: usize,
}

impl Played {
    /// Plays the days from `first` on, a whole half hour: a tick every half hour, with a sweep in the first of each day
    /// as `strata up` has it, until the first sweep after the last change.
    ///
    /// # Errors
    /// When a request or a tick fails.
    pub async fn new(first: DateTime<Utc>) -> Result<Self> {
        let mut catalogue = Catalogue::from_path(MONTH)?;
        catalogue.follow(CHANGES)?;
        let end = catalogue.newest().ok_or("nothing changes")?;
        let world = World::new(catalogue).await?;
        let client = reqwest::Client::new();
        let reaches = [HALF_AN_HOUR, TimeDelta::days(1)];
        let mut common = reaches.map(|reach| Common { reach, rows: BTreeMap::new() });
        let mut now = first;
        loop {
            world.handle().set_now(now);
            for way in &mut common {
                let since = (now - way.reach).format("%Y-%m-%dT%H:%M:%S");
                let asked = format!("format=csv&starttime={since}");
                let events = events(&ask(&client, &world, &asked).await?)?;
                way.rows.extend(events.into_iter().map(|event| (event.id().to_owned(), event)));
            }
            world.ask(Ask::Tick { days: DAYS, sweep: false }).await?;
            if now > first && now == now.duration_trunc(TimeDelta::days(1))? {
                world.ask(Ask::Tick { days: DAYS, sweep: true }).await?;
                if now > end {
                    break;
                }
            }
            now += HALF_AN_HOUR;
        }
        let last = listed(&client, &world).await?;
        let gold = gold(&world).await?;
        Ok(Self { world, common: common.into(), first, last, gold })
    }

    fn happened(&self, row: &Row) -> bool {
        matches!(row["event_time"], Typed::Time(time) if time >= self.first)
    }

    /// How many events that happened since the first tick the source lists at the end.
    pub fn events(&self) -> usize {
        self.last.values().filter(|row| self.happened(row)).count()
    }

    fn requests(&self, own: impl Fn(&usgs_simulator::Recorded) -> bool) -> usize {
        self.world.handle().requests().iter().filter(|request| own(request)).count()
    }

    fn score(&self, requests: usize, rows: &Rows) -> Score {
        let happened: Vec<_> = rows.iter().filter(|(_, row)| self.happened(row)).collect();
        let listed = || happened.iter().filter_map(|(id, row)| Some((*row, self.last.get(*id)?)));
        // A way that never asks for the details is not held to them.
        let stale = listed().filter(|(row, last)| row.iter().any(|(column, value)| last[column] != *value));
        let found = listed().filter(|(_, last)| self.happened(last)).count();
        let gone = happened.iter().filter(|(id, _)| !self.last.contains_key(*id)).count();
        Score { requests, found, gone, stale: stale.count() }
    }

    /// How the pipeline did.
    pub fn ours(&self) -> Score {
        let own = |agent: &String| agent.starts_with("strata/");
        self.score(self.requests(|request| request.user_agent.as_ref().is_some_and(own)), &self.gold)
    }

    /// How another way did.
    ///
    /// # Errors
    /// When a row of it cannot be read.
    pub fn theirs(&self, way: &Common) -> Result<Score> {
        let rows = way.rows.iter().map(|(id, event)| Ok((id.clone(), typed(event)?))).collect::<Result<_>>()?;
        // Each asked once a tick, and then everything was asked for twice to measure.
        let asked = self.requests(|request| request.user_agent.is_none()) - 2;
        Ok(self.score(asked / self.common.len(), &rows))
    }

    /// A table for the README.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn table(&self) -> Result<String> {
        let mut table = format!(
            "| every 30 minutes | requests | events found of {} | with a stale column | shown though gone |\n|---|---|---|---|---|\n",
            self.events()
        );
        let names = ["the last 30 minutes of origin time", "the last 24 hours of origin time"];
        let mut lines = Vec::new();
        for (name, way) in names.iter().zip(&self.common) {
            lines.push((*name, self.theirs(way)?));
        }
        lines.push(("Strata: what changed, and a sweep a day", self.ours()));
        for (name, Score { requests, found, gone, stale }) in lines {
            writeln!(table, "| {name} | {requests} | {found} | {stale} | {gone} |")?;
        }
        Ok(table)
    }
}

async fn ask(client: &reqwest::Client, world: &World, query: &str) -> Result<String> {
    let address = format!("{}/fdsnws/event/1/query?{query}", world.source.base_url());
    Ok(client.get(address).send().await?.error_for_status()?.text().await?)
}

fn events(csv: &str) -> Result<Vec<Event>> {
    Ok(csv.lines().skip(1).map(Event::from_row).collect::<std::result::Result<_, _>>()?)
}

/// All that the source lists, read by the simulator's own reader of rows and by serde, not by the pipeline's.
async fn listed(client: &reqwest::Client, world: &World) -> Result<Rows> {
    let all = "starttime=1600-01-01T00:00:00";
    let events = events(&ask(client, world, &format!("format=csv&{all}")).await?)?;
    let mut rows = Rows::new();
    for event in &events {
        rows.insert(event.id().to_owned(), typed(event)?);
    }
    let features: Value = serde_json::from_str(&ask(client, world, &format!("format=geojson&{all}")).await?)?;
    for feature in features["features"].as_array().ok_or("no features")? {
        let row = feature["id"].as_str().and_then(|id| rows.get_mut(id)).ok_or("a feature without a row")?;
        for (property, column, kind) in PROPERTIES {
            let value = &feature["properties"][property];
            row.insert(column, if kind == Kind::Truth { Typed::Truth(value == 1) } else { of_json(value, kind)? });
        }
    }
    Ok(rows)
}

fn typed(event: &Event) -> Result<Row> {
    let mut row = Row::new();
    for (column, name, kind) in COLUMNS {
        let text = event.get(column);
        row.insert(
            name,
            match kind {
                _ if text.is_empty() => Typed::Null,
                Kind::Number => Typed::Number(text.parse()?),
                Kind::Time => Typed::Time(text.parse()?),
                Kind::Text | Kind::Truth => Typed::Text(text.to_owned()),
            },
        );
    }
    Ok(row)
}

fn of_json(value: &Value, kind: Kind) -> Result<Typed> {
    Ok(match (value, kind) {
        (Value::Null, _) => Typed::Null,
        (Value::Bool(truth), Kind::Truth) => Typed::Truth(*truth),
        (Value::Number(number), Kind::Number) => Typed::Number(number.as_f64().ok_or("no number")?),
        (Value::String(text), Kind::Text) => Typed::Text(text.clone()),
        (Value::String(text), Kind::Time) => {
            Typed::Time(NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f+00")?.and_utc())
        }
        _ => return Err(format!("unexpected value {value}").into()),
    })
}

async fn gold(world: &World) -> Result<Rows> {
    let columns = COLUMNS.map(|(_, name, kind)| (name, kind)).into_iter();
    let columns: Vec<_> = columns.chain(PROPERTIES.map(|(_, name, kind)| (name, kind))).collect();
    let names: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
    let sql = format!("select {} from fct_earthquakes", names.join(", "));
    let answer = world.pipeline.data.warehouse.query(&sql, &Origin::new("test")).await?;
    let mut text = Vec::new();
    print(&answer, Format::Json, &mut text)?;
    let listed: Vec<BTreeMap<String, Value>> = serde_json::from_slice(&text)?;
    let mut rows = Rows::new();
    for values in &listed {
        let mut row = Row::new();
        for (name, kind) in &columns {
            row.insert(*name, of_json(&values[*name], *kind)?);
        }
        let Typed::Text(id) = &row["event_id"] else { return Err("an event without an id".into()) };
        if rows.insert(id.clone(), row.clone()).is_some() {
            return Err(format!("{id} stands twice").into());
        }
    }
    Ok(rows)
}
