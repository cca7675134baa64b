//! `strata status`: what there is, how fresh it is, and what went wrong.

use std::io::Write;

use serde::Serialize;
use shared::clock::Timestamp;
use shared::dataset::{Cursor, Dataset, Registry};
use shared::ledger::{self, Outcome};
use shared::store::read_json;
use shared::window::{self, Window};

use crate::census::{self, Counted};
use crate::cli::StatusFormat;
use crate::folder::World;
use crate::lateness::{Lateness, Percentiles};
use crate::pipeline::Data;
use crate::problem::Problem;
use crate::report::{Sums, TableRows, charge, dead_letters, tables, thousands};

/// All of it.
#[derive(Debug, Serialize)]
struct Status {
    #[serde(flatten)]
    place: Place,
    datasets: Vec<DatasetStatus>,
    tables: Vec<TableRows>,
    /// `None` where only the bus knows.
    messages_waiting: Option<usize>,
    /// `None` where only the bus knows.
    dead_letters: Option<Vec<Letter>>,
}

/// Where the data are.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Place {
    /// In a folder, with the messages on their way.
    Folder {
        /// Its path.
        data_dir: String,
        /// What its data are of.
        world: World,
    },
    /// In an environment of a project; its messages are Pub/Sub's.
    Cloud {
        /// The project.
        project: String,
        /// The environment.
        environment: String,
        /// The bucket of the lake.
        bucket: String,
        /// The subscription that keeps the messages that were given up.
        dead_letter_subscription: String,
    },
}

/// How the days of a source are counted.
pub struct Counting {
    /// How many of the last days.
    pub days: u32,
    /// Asks the source.
    pub client: fetch::Client,
}

#[derive(Debug, Serialize)]
struct DatasetStatus {
    dataset: String,
    /// How far the source has been read, by its own clock.
    watermark: Option<Timestamp>,
    /// When a stage last did something, by ours.
    last_run_at: Option<Timestamp>,
    last_outcome: Option<Outcome>,
    /// The parts of backfills, and of ticks that were too large, that are still to be fetched.
    open_windows: Vec<Window>,
    /// What the source counts and what gold holds, when that was asked for.
    completeness: Vec<Counted>,
    /// How late the source published, and gold had it; `None` before anything was published since the first run.
    lateness: Option<Lateness>,
    #[serde(flatten)]
    sums: Sums,
    /// Whether of every capture that landed all rows that were fetched were kept or set aside.
    reconciles: bool,
}

#[derive(Debug, Serialize)]
struct Letter {
    subscription: String,
    message: String,
    at: Timestamp,
    error: String,
}

/// Prints the status.
///
/// # Errors
/// When the lake cannot be read.
pub async fn print(
    place: Place,
    data: &Data,
    datasets: &Registry,
    counting: Option<&Counting>,
    format: StatusFormat,
    out: &mut impl Write,
) -> Result<(), Problem> {
    let mut status = read(place, data, datasets).await?;
    if let Some(Counting { days, client }) = counting {
        for (dataset, found) in datasets.iter().zip(&mut status.datasets) {
            found.completeness = census::take(data, client, &**dataset, *days).await?;
        }
    }
    match format {
        StatusFormat::Json => {
            let text = serde_json::to_string_pretty(&status).map_err(|error| Problem::Failed(error.to_string()))?;
            writeln!(out, "{text}")?;
        }
        StatusFormat::Table => table(&status, out)?,
    }
    Ok(())
}

async fn read(place: Place, data: &Data, datasets: &Registry) -> Result<Status, Problem> {
    let mut found = Vec::new();
    for dataset in datasets.iter() {
        found.push(dataset_status(data, &**dataset).await?);
    }
    let (messages_waiting, dead_letters) = match &place {
        Place::Folder { .. } => (Some(data.store.list("bus/").await?.len()), Some(letters(data).await?)),
        Place::Cloud { .. } => (None, None),
    };
    Ok(Status { place, datasets: found, tables: tables(data).await?, messages_waiting, dead_letters })
}

async fn letters(data: &Data) -> Result<Vec<Letter>, Problem> {
    let letters = dead_letters(&*data.store).await?.into_iter().map(|letter| Letter {
        subscription: letter.envelope.subscription,
        message: letter.envelope.message.message_id,
        at: letter.at,
        error: letter.error,
    });
    Ok(letters.collect())
}

async fn dataset_status(data: &Data, dataset: &dyn Dataset) -> Result<DatasetStatus, Problem> {
    let (store, name) = (&*data.store, dataset.name());
    let cursor = read_json::<Cursor>(store, &format!("state/{name}/cursor.json")).await?.value;
    let records = ledger::read(store, name, None).await?;
    let sums = Sums::of(&records);
    // A table that cannot be read is named among the tables.
    let lateness = Lateness::read(&*data.warehouse, dataset, &records).await.unwrap_or_else(|error| {
        tracing::warn!(dataset = name, %error, "how late things are is not known");
        None
    });
    let last = records.last();
    Ok(DatasetStatus {
        dataset: name.to_owned(),
        watermark: cursor.map(|cursor| cursor.watermark),
        last_run_at: last.map(|record| record.started_at),
        last_outcome: last.map(|record| record.outcome.clone()),
        open_windows: window::all(store, name).await?,
        completeness: Vec::new(),
        lateness,
        reconciles: sums.unaccounted.is_empty(),
        sums,
    })
}

fn table(status: &Status, out: &mut impl Write) -> std::io::Result<()> {
    match &status.place {
        Place::Folder { data_dir, world } => {
            let world = if *world == World::Sample { " (the recorded month, not live)" } else { "" };
            writeln!(out, "data          {data_dir}{world}")?;
        }
        Place::Cloud { project, environment, bucket, .. } => {
            writeln!(out, "data          gs://{bucket} and BigQuery (project {project}, environment {environment})")?;
        }
    }
    for dataset in &status.datasets {
        let sums = &dataset.sums;
        let time = |at: Option<Timestamp>| {
            at.map_or_else(|| "never".to_owned(), |at| at.format("%Y-%m-%d %H:%M:%S UTC").to_string())
        };
        writeln!(out, "\n{}", dataset.dataset)?;
        writeln!(out, "  read up to  {}", time(dataset.watermark))?;
        writeln!(out, "  last run    {}", time(dataset.last_run_at))?;
        writeln!(out, "  captures    {}", thousands(sums.captures))?;
        let rows = [sums.rows_in, sums.rows_kept, sums.rows_quarantined].map(thousands);
        let adds_up = if dataset.reconciles { "" } else { "  THIS DOES NOT ADD UP" };
        writeln!(out, "  rows        {} in = {} kept + {} quarantined{adds_up}", rows[0], rows[1], rows[2])?;
        if let Some(oldest) = dataset.open_windows.iter().map(|window| window.asked_at).min() {
            let windows = thousands(dataset.open_windows.len() as u64);
            writeln!(out, "  to fetch    {windows} windows, the first asked for at {}", time(Some(oldest)))?;
        }
        if sums.waiting > 0 {
            writeln!(out, "  waiting     {} captures have not landed yet", thousands(sums.waiting))?;
        }
        for capture in &sums.unaccounted {
            writeln!(out, "  capture     {capture} was not read as it was fetched")?;
        }
        if sums.refused > 0 {
            writeln!(out, "  refused     {} answers, fetched again", sums.refused)?;
        }
        for test in &sums.failed_tests {
            writeln!(out, "  test        {test}")?;
        }
        if !sums.cost.is_nothing() {
            writeln!(out, "  billed      {} for models and tests", charge(sums.cost))?;
        }
        if let Some(lateness) = &dataset.lateness {
            let line = |of: &Percentiles| format!("{of}, of {} in {} days", thousands(of.count), lateness.days);
            writeln!(out, "  published   {} after they happened", line(&lateness.to_published))?;
            if let Some(to_gold) = &lateness.to_gold {
                writeln!(out, "  in gold     {} after they were published", line(to_gold))?;
            }
        }
        for day in &dataset.completeness {
            let (end, ours, source) = (time(Some(day.end)), thousands(day.ours), thousands(day.source));
            writeln!(out, "  complete    {ours:>9} of {source:>9} of the source, in the 24 h to {end}")?;
        }
    }
    writeln!(out)?;
    for table in &status.tables {
        let rows = match (&table.rows, &table.damage) {
            (_, Some(damage)) => format!("damaged: {damage}"),
            (Some(rows), _) => thousands(*rows),
            (None, _) => "view".to_owned(),
        };
        writeln!(out, "{:<34} {rows:>12}", table.table.to_string())?;
    }
    if let Place::Cloud { dead_letter_subscription, .. } = &status.place {
        writeln!(out, "\nmessages that were given up, if any, are in {dead_letter_subscription}")?;
    }
    if let Some(waiting) = status.messages_waiting.filter(|&waiting| waiting > 0) {
        writeln!(out, "\n{waiting} messages wait to be delivered")?;
    }
    for letter in status.dead_letters.iter().flatten() {
        writeln!(out, "\ndead letter {} of {}: {}", letter.message, letter.subscription, letter.error)?;
    }
    Ok(())
}
