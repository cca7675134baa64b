//! The operator's commands that change something: each publishes messages and waits until what follows is done.

use std::io::{Read, Write};
use std::path::Path;
use std::time::Instant;

use chrono::{DateTime, NaiveTime, TimeDelta};
use flate2::read::MultiGzDecoder;
use shared::capture::{CaptureWriter, Encoding};
use shared::clock::Timestamp;
use shared::csv::{Record, Refused};
use shared::dataset::{Ask, Dataset, Registry};
use shared::message::{CaptureStored, FetchRequest, Mode, PartitionsLanded};
use shared::store::Store;
use shared::trace::Trace;
use shared::warehouse::Cost;
use transform::run::Runner;

use crate::pipeline::Parts;
use crate::problem::Problem;
use crate::progress::Progress;
use crate::replay::manifests;
use crate::report::Report;
use crate::session::Session;

const PIECE: usize = 256 * 1024;

/// Runs `work` in a session, prints what its run did, and fails when messages were given up or data tests fail.
///
/// # Errors
/// Those of the work, and what it left undone.
pub async fn run<W: Write>(
    session: Session,
    datasets: &[String],
    out: &mut W,
    work: impl AsyncFnOnce(&Session) -> Result<Vec<Trace>, Problem>,
) -> Result<(), Problem> {
    let began = Instant::now();
    let progress = Progress::start(&session.pipeline.bus);
    let done = work(&session).await;
    if done.is_ok() {
        session.pipeline.bus.idle().await;
    }
    progress.finish();
    let finished = match done {
        Ok(traces) => report(&session, datasets, &traces, began, out).await,
        Err(problem) => Err(problem),
    };
    session.stop().await?;
    finished
}

async fn report<W: Write>(
    session: &Session,
    datasets: &[String],
    traces: &[Trace],
    began: Instant,
    out: &mut W,
) -> Result<(), Problem> {
    let runs = traces.iter().map(|trace| trace.run()).collect();
    let report = Report::read(&session.pipeline.data, datasets, &runs, None).await?;
    let path = std::path::absolute(&session.folder.path)?;
    let written = writeln!(out, "{}", report.text(&path.display().to_string(), began.elapsed()));
    // That nobody reads the report is no success.
    session.pipeline.complete(&report.sums.failed_tests)?;
    Ok(written?)
}

/// One scheduled run.
///
/// # Errors
/// [`Problem::Unreachable`] when the source is out of reach.
pub async fn tick(session: &Session, dataset: &str, sweep: bool) -> Result<Vec<Trace>, Problem> {
    fetch(session, &tick_request(dataset, sweep)).await
}

/// What asks for a scheduled run.
pub(crate) fn tick_request(dataset: &str, sweep: bool) -> FetchRequest {
    FetchRequest { dataset: dataset.to_owned(), ask: Ask::Tick { days: 30, sweep } }
}

/// A range of the past; with `gaps`, only what of it was never asked for.
///
/// # Errors
/// [`Problem::Unreachable`] when the source is out of reach.
pub async fn backfill(
    session: &Session,
    dataset: &str,
    (start, end): (Timestamp, Timestamp),
    gaps: bool,
) -> Result<Vec<Trace>, Problem> {
    let store = &*session.pipeline.data.store;
    let mut traces = Vec::new();
    if let Some(first) = first_tick(store, dataset).await? {
        traces.extend(fetch(session, &first).await?);
    }
    for request in range_requests(store, dataset, (start, end), gaps).await? {
        traces.extend(fetch(session, &request).await?);
    }
    Ok(traces)
}

/// The tick that goes before the first backfill: what is revised from now on comes with the ticks, which begin where
/// the cursor is.
pub(crate) async fn first_tick(store: &dyn Store, dataset: &str) -> Result<Option<FetchRequest>, Problem> {
    let cursor = store.head(&format!("state/{dataset}/cursor.json")).await?;
    Ok(cursor.is_none().then(|| tick_request(dataset, false)))
}

/// What asks for a range of the past; with `gaps`, only for what of it was never asked for.
pub(crate) async fn range_requests(
    store: &dyn Store,
    dataset: &str,
    range: (Timestamp, Timestamp),
    gaps: bool,
) -> Result<Vec<FetchRequest>, Problem> {
    let ranges = if gaps { uncovered(range, stored_ranges(store, dataset).await?) } else { vec![range] };
    let request = |(start, end)| FetchRequest { dataset: dataset.to_owned(), ask: Ask::Range { start, end } };
    Ok(ranges.into_iter().map(request).collect())
}

/// The ranges that captures answer for.
async fn stored_ranges(store: &dyn Store, dataset: &str) -> Result<Vec<(Timestamp, Timestamp)>, Problem> {
    let mut ranges = Vec::new();
    for manifest in manifests(store, dataset).await? {
        if let Some(Ask::Range { start, end }) = manifest.ask {
            // Of what was still to come it says nothing.
            ranges.push((start, end.min(manifest.observed_at)));
        }
    }
    Ok(ranges)
}

/// What of a range none of the others covers. Ends are inclusive, so a gap shares its boundary seconds.
fn uncovered(
    (start, end): (Timestamp, Timestamp),
    mut covered: Vec<(Timestamp, Timestamp)>,
) -> Vec<(Timestamp, Timestamp)> {
    covered.sort_unstable();
    let mut gaps = Vec::new();
    let mut from = start;
    for (first, last) in covered {
        if first >= end {
            break;
        }
        if first > from {
            gaps.push((from, first));
        }
        from = from.max(last);
    }
    if from < end {
        gaps.push((from, end));
    }
    gaps
}

async fn fetch(session: &Session, request: &FetchRequest) -> Result<Vec<Trace>, Problem> {
    Ok(vec![session.pipeline.fetch(request).await?])
}

/// Checks what a person gave for a backfill.
///
/// # Errors
/// [`Problem::Usage`] when the range is empty.
pub fn check_range(start: Timestamp, end: Timestamp) -> Result<(), Problem> {
    if start < end {
        return Ok(());
    }
    let form = "%Y-%m-%dT%H:%M:%SZ";
    Err(Problem::Usage(format!("the start {} is not before the end {}", start.format(form), end.format(form))))
}

/// Asks the source for a day again.
///
/// # Errors
/// [`Problem::Unreachable`] when the source is out of reach.
pub async fn replay_source(session: &Session, dataset: &str, day: chrono::NaiveDate) -> Result<Vec<Trace>, Problem> {
    fetch(session, &day_request(dataset, day)).await
}

/// What asks for a day: from its first second to the first of the next, which the two days share.
pub(crate) fn day_request(dataset: &str, day: chrono::NaiveDate) -> FetchRequest {
    let start = day.and_time(NaiveTime::MIN).and_utc();
    FetchRequest { dataset: dataset.to_owned(), ask: Ask::Range { start, end: start + TimeDelta::days(1) } }
}

/// Builds what is out of date, or everything.
///
/// # Errors
/// When a message cannot be stored.
pub async fn build(session: &Session, datasets: &[String], full_refresh: bool) -> Result<Vec<Trace>, Problem> {
    let removed = session.pipeline.embedded.vacuum().await?;
    if removed > 0 {
        tracing::info!(removed, "files that crashed builds had left were removed");
    }
    let mode = if full_refresh { Mode::FullRefresh } else { Mode::Changed };
    let mut traces = Vec::new();
    for dataset in datasets {
        let message = PartitionsLanded { dataset: dataset.clone(), partitions: Vec::new(), mode };
        traces.push(session.pipeline.send(&message).await?);
    }
    Ok(traces)
}

/// Runs data tests and prints what they find. Returns how many say that the data are wrong, and what all of them cost.
///
/// # Errors
/// When one cannot be run.
pub async fn test(runner: &Runner, datasets: &[String], out: &mut impl Write) -> Result<(usize, Cost), Problem> {
    let mut errors = 0;
    let mut cost = Cost::default();
    for dataset in datasets {
        let tested = runner.test(dataset).await?;
        cost += tested.cost;
        for result in tested.results {
            let verdict = match (result.failures, result.is_error()) {
                (0, _) => "ok".to_owned(),
                (failures, true) => format!("FAILS for {failures} rows"),
                (failures, false) => format!("warns for {failures} rows"),
            };
            errors += usize::from(result.is_error());
            writeln!(out, "{:<64} {verdict}", result.test)?;
        }
    }
    Ok((errors, cost))
}

/// Whether data tests passed.
///
/// # Errors
/// [`Problem::Failed`] when some did not.
pub fn passed(errors: usize) -> Result<(), Problem> {
    if errors == 0 { Ok(()) } else { Err(Problem::Failed(format!("{errors} data tests fail"))) }
}

/// Stores a file as a capture and lands it.
///
/// # Errors
/// When the file cannot be read, or is refused whole.
pub async fn ingest(
    session: &Session,
    dataset: &dyn Dataset,
    file: &Path,
    observed_at: Option<Timestamp>,
    parts: &Parts,
) -> Result<Vec<Trace>, Problem> {
    let unreadable = |error: std::io::Error| Problem::Failed(format!("{} cannot be read: {error}", file.display()));
    let encoding = encoding(file).map_err(unreadable)?;
    let (rows, newest) = check(dataset, file, encoding)?;
    let observed_at = match observed_at.or(newest) {
        Some(observed_at) => observed_at,
        None => DateTime::from(std::fs::metadata(file).and_then(|found| found.modified()).map_err(unreadable)?),
    };
    let store = &*session.pipeline.data.store;
    let clock = &*parts.clock;
    let mut capture = CaptureWriter::begin(store, clock, dataset.name(), observed_at);
    let mut writer = capture.answer(&dataset.forms()[0], encoding).await?;
    let mut input = std::fs::File::open(file).map_err(unreadable)?;
    loop {
        let mut piece = vec![0; PIECE];
        let read = input.read(&mut piece).map_err(unreadable)?;
        if read == 0 {
            break;
        }
        piece.truncate(read);
        writer.write(piece.into()).await?;
    }
    let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
    capture.add(writer, &name, observed_at, rows);
    let manifest = capture.commit(clock, None).await?;
    let message = CaptureStored { dataset: manifest.dataset, capture: manifest.capture };
    Ok(vec![session.pipeline.send(&message).await?])
}

fn encoding(file: &Path) -> std::io::Result<Encoding> {
    let mut magic = Vec::new();
    std::fs::File::open(file)?.take(2).read_to_end(&mut magic)?;
    Ok(if magic == [0x1f, 0x8b] { Encoding::Gzip } else { Encoding::Identity })
}

/// Counts the rows of a file that land will take, and finds when the source last changed any of them.
fn check(dataset: &dyn Dataset, file: &Path, encoding: Encoding) -> Result<(u64, Option<Timestamp>), Problem> {
    let failed = |reason: String| Problem::Failed(format!("{}: {reason}", file.display()));
    let refused = |refused: Refused| failed(refused.to_string().replace("the answer", "the file"));
    let opened = std::fs::File::open(file).map_err(|error| failed(error.to_string()))?;
    let mut input: Box<dyn Read> = match encoding {
        Encoding::Identity => Box::new(opened),
        Encoding::Gzip => Box::new(MultiGzDecoder::new(opened)),
    };
    let form = &dataset.forms()[0];
    let mut check = form.check();
    let mut newest = None;
    let mut piece = vec![0; PIECE];
    loop {
        let mut take = |record: &Record<'_>| newest = newest.max(dataset.changed_at(form, record));
        match input.read(&mut piece).map_err(|error| failed(error.to_string()))? {
            0 => return Ok((check.finish(&mut take).map_err(refused)?.rows, newest)),
            read => check.feed(&piece[..read], &mut take).map_err(refused)?,
        }
    }
}

/// The datasets that a command speaks of: one, or all.
///
/// # Errors
/// [`Problem::Usage`] when there is none of that name.
pub fn chosen(datasets: &Registry, one: Option<&str>) -> Result<Vec<String>, Problem> {
    match one {
        Some(name) => Ok(vec![datasets.get(name)?.name().to_owned()]),
        None => Ok(datasets.iter().map(|dataset| dataset.name().to_owned()).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(ranges: &[(u32, u32)]) -> Vec<(Timestamp, Timestamp)> {
        let at = |hour: u32| DateTime::UNIX_EPOCH + TimeDelta::hours(i64::from(hour));
        ranges.iter().map(|&(start, end)| (at(start), at(end))).collect()
    }

    #[test]
    fn a_gap_is_what_no_capture_answers_for() {
        let whole = hours(&[(10, 20)])[0];
        let cases: [(&[_], &[_]); 6] = [
            (&[], &[(10, 20)]),
            (&[(0, 30)], &[]),
            (&[(12, 14), (13, 15), (18, 25)], &[(10, 12), (15, 18)]),
            (&[(5, 11), (11, 12)], &[(12, 20)]),
            (&[(1, 2), (25, 30)], &[(10, 20)]),
            (&[(10, 20)], &[]),
        ];
        for (covered, gaps) in cases {
            assert_eq!(uncovered(whole, hours(covered)), hours(gaps), "{covered:?}");
        }
    }
}
