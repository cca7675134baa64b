//! `strata up`: the services in this process, a tick every half hour, until it is told to stop.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use shared::dataset::Ask;
use shared::message::FetchRequest;
use tokio::sync::watch;

use crate::cli::Up;
use crate::folder::{Folder, World, sample_of};
use crate::pipeline::Parts;
use crate::problem::Problem;
use crate::progress::Progress;
use crate::report::Report;
use crate::session::{Session, reach};

/// Runs until the first run is complete (`--once`) or `stop` says so.
///
/// # Errors
/// [`Problem::Failed`] when the folder cannot be used, or with `--once` when the run left something undone.
pub async fn up(
    options: &Up,
    place: &Place,
    parts: &Parts,
    stop: watch::Receiver<bool>,
    out: &mut impl Write,
) -> Result<(), Problem> {
    let mut run = Run { options, place, parts, stop };
    let mut session = run.open().await?;
    let _locked = session.folder.lock_up()?;
    // Held until the end: a later session of this process is in another folder.
    let mut also_locked = None;
    let mut outcome = run.round(&mut session, out).await;
    while !options.once && !run.stopped() && outcome.is_ok() {
        run.wait().await;
        if run.stopped() {
            break;
        }
        if session.folder.world == World::Sample && !options.sample && run.source_answers().await {
            writeln!(out, "\nThe source answers: on with live data.\n")?;
            session.stop().await?;
            session = Session::start(Folder::open_or_create(&place.live, World::Live)?, parts).await?;
            also_locked = Some(session.folder.lock_up()?);
        }
        outcome = run.round(&mut session, out).await;
    }
    session.stop().await?;
    drop(also_locked);
    if run.stopped() {
        writeln!(out, "Stopped. What was not finished goes on with the next `strata up`.")?;
        return Ok(());
    }
    outcome
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

    /// The session to begin with: live where a source answers, else the recorded month.
    async fn open(&self) -> Result<Session, Problem> {
        if self.options.sample {
            let folder = Folder::open_or_create(&self.place.sample, World::Sample)?;
            return Session::start(folder, self.parts).await;
        }
        // A folder that cannot be used is said before the source is asked.
        let folder = Folder::open_or_create(&self.place.live, World::Live)?;
        if self.source_answers().await {
            return Session::start(folder, self.parts).await;
        }
        let folder = Folder::open_or_create(&sample_of(&self.place.live), World::Sample)?;
        notice(&folder);
        Session::start(folder, self.parts).await
    }

    /// One tick of every dataset, and what it did.
    async fn round(&mut self, session: &mut Session, out: &mut impl Write) -> Result<(), Problem> {
        let began = Instant::now();
        let progress = Progress::start(&session.pipeline.bus);
        session.pipeline.revive().await?;
        let mut runs = BTreeSet::new();
        let mut datasets = Vec::new();
        for dataset in self.parts.datasets.iter() {
            let name = dataset.name().to_owned();
            let ask = Ask::Tick { days: self.options.days, sweep: false };
            let request = FetchRequest { dataset: name.clone(), ask };
            runs.insert(session.pipeline.send(&request).await?.run());
            datasets.push(name);
        }
        tokio::select! {
            () = session.pipeline.bus.idle() => (),
            () = stopped(&mut self.stop) => {
                progress.finish();
                return Ok(());
            }
        }
        progress.finish();
        let report = Report::read(&session.pipeline.data, &datasets, &runs).await?;
        let path = std::path::absolute(&session.folder.path)?;
        writeln!(out, "{}", report.text(&path.display().to_string(), began.elapsed()))?;
        if self.options.once { session.pipeline.complete(&report.sums.failed_tests) } else { Ok(()) }
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
