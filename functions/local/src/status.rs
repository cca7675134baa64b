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
use crate::folder::{Folder, World};
use crate::lateness::{Lateness, Percentiles};
use crate::pipeline::{Data, Parts};
use crate::problem::Problem;
use crate::report::{Sums, TableRows, dead_letters, tables, thousands};

/// All of it.
#[derive(Debug, Serialize)]
struct Status {
    data_dir: String,
    world: World,
    datasets: Vec<DatasetStatus>,
    tables: Vec<TableRows>,
    messages_waiting: usize,
    dead_letters: Vec<Letter>,
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
    folder: &Folder,
    data: &Data,
    parts: &Parts,
    completeness: Option<u32>,
    format: StatusFormat,
    out: &mut impl Write,
) -> Result<(), Problem> {
    let mut status = read(folder, data, &parts.datasets).await?;
    if let Some(days) = completeness {
        for (dataset, found) in parts.datasets.iter().zip(&mut status.datasets) {
            found.completeness = census::take(folder, data, parts, &**dataset, days).await?;
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

async fn read(folder: &Folder, data: &Data, datasets: &Registry) -> Result<Status, Problem> {
    let mut found = Vec::new();
    for dataset in datasets.iter() {
        found.push(dataset_status(data, &**dataset).await?);
    }
    let letters = dead_letters(&*data.store).await?.into_iter().map(|letter| Letter {
        subscription: letter.envelope.subscription,
        message: letter.envelope.message.message_id,
        at: letter.at,
        error: letter.error,
    });
    Ok(Status {
        data_dir: std::path::absolute(&folder.path)?.display().to_string(),
        world: folder.world,
        datasets: found,
        tables: tables(data).await?,
        messages_waiting: data.store.list("bus/").await?.len(),
        dead_letters: letters.collect(),
    })
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
    let world = if status.world == World::Sample { " (the recorded month, not live)" } else { "" };
    writeln!(out, "data          {}{world}", status.data_dir)?;
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
    if status.messages_waiting > 0 {
        writeln!(out, "\n{} messages wait to be delivered", status.messages_waiting)?;
    }
    for letter in &status.dead_letters {
        writeln!(out, "\ndead letter {} of {}: {}", letter.message, letter.subscription, letter.error)?;
    }
    Ok(())
}
