//! `strata up`: the services in this process, a tick every half hour, until it is told to stop.
//!
//! Invariant: nothing of a folder is touched before it is locked, so an `up` that is refused changes nothing.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::NaiveDate;
use shared::dataset::Ask;
use shared::message::FetchRequest;
use shared::store::{Precondition, Store, read_json, write_json};
use tokio::sync::watch;

use crate::cli::Up;
use crate::folder::{Folder, World, sample_of};
use crate::pipeline::Parts;
use crate::problem::Problem;
use crate::progress::Progress;
use crate::report::Report;
use crate::session::{Session, reach};

/// How many days of history the first run takes if nobody says.
const DAYS: u32 = 30;

/// The UTC day of the latest round.
const LATEST_ROUND: &str = "state/round.json";

/// Runs until the first run is complete (`--once`) or `stop` says so.
///
/// # Errors
/// [`Problem::Failed`] when the folder cannot be used, nothing can be written to `out`, or with `--once` when the run
/// left something undone.
pub async fn up(
    options: &Up,
    place: &Place,
    parts: &Parts,
    stop: watch::Receiver<bool>,
    out: &mut impl Write,
) -> Result<(), Problem> {
    let mut run = Run { options, place, parts, stop, said_days: false };
    let (mut session, _locks) = run.open().await?;
    let done = run.rounds(&mut session, out).await;
    let ended = session.stop().await;
    if let (Err(_), Err(problem)) = (&done, &ended) {
        tracing::error!(%problem, "the folder could not be left in order");
    }
    done.and(ended)?;
    if run.stopped() {
        writeln!(out, "Stopped. What was not finished goes on with the next `strata up`.")?;
    }
    Ok(())
}

/// The folders that `up` may work in.
#[derive(Debug, Clone)]
pub struct Place {
    /// For live data.
    pub live: PathBuf,
    /// For the recorded month, when it was asked for.
    pub sample: PathBuf,
}

impl Place {
    /// From `--data-dir`, if it was given.
    pub fn new(data_dir: Option<&Path>, default: &Path) -> Self {
        let live = data_dir.unwrap_or(default).to_owned();
        let sample = data_dir.map_or_else(|| sample_of(default), Path::to_owned);
        Self { live, sample }
    }
}

struct Run<'a> {
    options: &'a Up,
    place: &'a Place,
    parts: &'a Parts,
    stop: watch::Receiver<bool>,
    /// Whether it was said that `--days` changes nothing.
    said_days: bool,
}

/// A round that is complete.
struct Done {
    text: String,
    failed_tests: Vec<String>,
}

impl Run<'_> {
    fn stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits until the next tick, or until it is told to stop.
    async fn wait(&mut self) {
        let next = Duration::from_secs(self.options.every);
        tokio::select! {
            () = tokio::time::sleep(next) => (),
            () = stopped(&mut self.stop) => (),
        }
    }

    /// Whether the source of any dataset can be reached.
    async fn source_answers(&self) -> bool {
        for dataset in self.parts.datasets.iter() {
            if reach(self.parts, &**dataset).await.is_ok() {
                return true;
            }
        }
        false
    }

    /// The session to begin with, and the locks on the folders of this `up`: live where a source answers, else the
    /// recorded month, with the folder of live data locked for when the source answers.
    async fn open(&mut self) -> Result<(Session, Vec<File>), Problem> {
        if self.options.sample {
            let folder = Folder::open_or_create(&self.place.sample, World::Sample)?;
            let locks = vec![folder.lock_up()?];
            return Ok((self.start(folder).await?, locks));
        }
        // A folder that cannot be used is said before the source is asked.
        let live = Folder::open_or_create(&self.place.live, World::Live)?;
        let mut locks = vec![live.lock_up()?];
        if self.source_answers().await {
            return Ok((self.start(live).await?, locks));
        }
        let sample = Folder::open_or_create(&sample_of(&self.place.live), World::Sample)?;
        locks.push(sample.lock_up()?);
        notice(&sample);
        Ok((self.start(sample).await?, locks))
    }

    /// Starts a session in a folder that is locked.
    async fn start(&mut self, folder: Folder) -> Result<Session, Problem> {
        if self.options.days.is_some() && !self.said_days {
            let mut over = Vec::new();
            for dataset in self.parts.datasets.iter() {
                if folder.store.head(&format!("state/{}/cursor.json", dataset.name())).await?.is_some() {
                    over.push(dataset.name());
                }
            }
            if !over.is_empty() {
                let over = over.join(", ");
                tracing::warn!(
                    "--days only counts for the first run, and that of {over} is over: `strata backfill` fetches history"
                );
                self.said_days = true;
            }
        }
        Session::start(folder, self.parts).await
    }

    /// Leaves the recorded month for live data.
    async fn go_live(&mut self, session: &mut Session) -> Result<(), Problem> {
        let live = self.start(Folder::open_or_create(&self.place.live, World::Live)?).await?;
        if let Err(problem) = std::mem::replace(session, live).stop().await {
            tracing::error!(%problem, "the folder of the recorded month could not be left in order");
        }
        Ok(())
    }

    /// A round at every tick. One that fails is said and left to the next, except with `--once`.
    async fn rounds(&mut self, session: &mut Session, out: &mut impl Write) -> Result<(), Problem> {
        loop {
            match self.round(session).await {
                Ok(Some(done)) => {
                    writeln!(out, "{}", done.text)?;
                    if self.options.once {
                        return session.pipeline.complete(&done.failed_tests);
                    }
                }
                Ok(None) => return Ok(()),
                Err(problem) if self.options.once => return Err(problem),
                Err(problem) => tracing::error!(%problem, "the round failed: the next tick tries again"),
            }
            self.wait().await;
            if self.stopped() {
                return Ok(());
            }
            if session.folder.world == World::Sample && !self.options.sample && self.source_answers().await {
                match self.go_live(session).await {
                    Ok(()) => writeln!(out, "\nThe source answers: on with live data.\n")?,
                    Err(problem) => {
                        tracing::error!(%problem, "the source answers, but live data cannot begin: the next tick tries again");
                    }
                }
            }
        }
    }

    /// One tick of every dataset, or `None` when it is told to stop meanwhile.
    async fn round(&mut self, session: &Session) -> Result<Option<Done>, Problem> {
        let progress = Progress::start(&session.pipeline.bus);
        let done = self.tick(session).await;
        progress.finish();
        done
    }

    async fn tick(&mut self, session: &Session) -> Result<Option<Done>, Problem> {
        let began = Instant::now();
        session.pipeline.revive().await?;
        // Every message of the round is published later, so none of its records is filed under an earlier day.
        let since = self.parts.clock.now().date_naive();
        let store = &*session.pipeline.data.store;
        // The first round of each further day sweeps, whichever process it is in.
        let before = read_json::<NaiveDate>(store, LATEST_ROUND).await?.value;
        let sweep = before.is_some_and(|day| day != since);
        let mut runs = BTreeSet::new();
        let mut datasets = Vec::new();
        for dataset in self.parts.datasets.iter() {
            let name = dataset.name().to_owned();
            let days = self.options.days.unwrap_or(DAYS);
            for sweep in [Some(false), sweep.then_some(true)].into_iter().flatten() {
                let request = FetchRequest { dataset: name.clone(), ask: Ask::Tick { days, sweep } };
                runs.insert(session.pipeline.send(&request).await?.run());
            }
            datasets.push(name);
        }
        write_json(store, LATEST_ROUND, &since, Precondition::None).await?;
        tokio::select! {
            () = session.pipeline.bus.idle() => (),
            () = stopped(&mut self.stop) => return Ok(None),
        }
        let report = Report::read(&session.pipeline.data, &datasets, &runs, Some(since)).await?;
        let path = std::path::absolute(&session.folder.path)?;
        let text = report.text(&path.display().to_string(), began.elapsed());
        Ok(Some(Done { text, failed_tests: report.sums.failed_tests }))
    }
}

/// Waits until it is told to stop; a sender that is gone never says so.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|&stopped| stopped).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn notice(folder: &Folder) {
    let path = folder.path.display();
    let text = format!(
        "THE SOURCE IS NOT REACHABLE. What follows is the recorded month of July 2025, in {path}, not live data. \
         Each tick tries the source again."
    );
    tracing::error!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Data;
    use shared::clock::Timestamp;
    use shared::ledger::{Outcome, Record};
    use shared::store::{Memory, Precondition};
    use shared::warehouse::Cost;
    use std::sync::Arc;

    /// The sentence of an `up` that is refused.
    async fn refused(sample: bool, place: &Place) -> String {
        let mut parts = Parts::shipped().unwrap();
        // Nobody listens there.
        parts.client.addresses.insert("earthquakes".to_owned(), "http://127.0.0.1:1".to_owned());
        let options = Up { days: None, once: true, sample, every: 1 };
        let (_stop, stopped) = watch::channel(false);
        match up(&options, place, &parts, stopped, &mut Vec::new()).await {
            Err(Problem::Failed(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    fn names(folder: &Path) -> BTreeSet<PathBuf> {
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[tokio::test]
    async fn an_up_that_is_refused_takes_nothing_over() {
        let temp = tempfile::tempdir().unwrap();
        for (world, sample) in [(World::Sample, true), (World::Live, false)] {
            let path = temp.path().join(format!("{world:?}"));
            let folder = Folder::open_or_create(&path, world).unwrap();
            let _lock = folder.lock_up().unwrap();
            // What a dead process left.
            std::fs::create_dir(path.join(".holders")).unwrap();
            std::fs::write(path.join(".holders/dead"), "").unwrap();
            folder.store.put("bus/dead/fetch-1.json", "{".into(), Precondition::Absent).await.unwrap();
            let sentence = refused(sample, &Place::new(Some(&path), Path::new("."))).await;
            assert!(sentence.contains("another `strata up`"), "{sentence}");
            assert_eq!(names(&path.join(".holders")), BTreeSet::from([path.join(".holders/dead")]));
            assert!(folder.store.head("bus/dead/fetch-1.json").await.unwrap().is_some());
        }
        // Nor does it begin with the recorded month beside the one that waits for the source.
        assert_eq!(names(temp.path()).len(), 2);
    }

    #[tokio::test]
    async fn a_round_reads_what_it_did_on_both_sides_of_midnight_and_nothing_older() {
        let store = Memory::default();
        let begin: Timestamp = "2025-07-23T23:59:50Z".parse().unwrap();
        for (message, after, rows) in [
            ("20250722T235900Z-000000000000000c", -86_400, 7),
            ("20250723T235900Z-000000000000000b", 0, 5),
            ("20250724T000000Z-000000000000000a", 20, 5),
        ] {
            let record = Record {
                stage: "land".to_owned(),
                dataset: "earthquakes".to_owned(),
                run: "run".to_owned(),
                message: message.to_owned(),
                capture: Some(message.parse().unwrap()),
                started_at: begin,
                duration_ms: 0,
                inputs: Vec::new(),
                rows_in: rows,
                rows_kept: rows,
                rows_quarantined: 0,
                outputs: Vec::new(),
                cost: Cost::default(),
                outcome: Outcome::Done,
            };
            record.write(&store, begin + chrono::TimeDelta::seconds(after)).await.unwrap();
        }
        // One that cannot be read does not hide the others.
        store.put("ledger/earthquakes/2025-07-23/land-torn.json", "{".into(), Precondition::Absent).await.unwrap();
        let data = Data::new(Arc::new(store), &Parts::shipped().unwrap());
        let (datasets, runs) = (["earthquakes".to_owned()], BTreeSet::from(["run".to_owned()]));
        let report = Report::read(&data, &datasets, &runs, Some(begin.date_naive())).await.unwrap();
        assert_eq!(report.sums.rows_in, 10);
        assert_eq!(Report::read(&data, &datasets, &runs, None).await.unwrap().sums.rows_in, 17);
    }
}
