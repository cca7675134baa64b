//! The `strata` program: the services in one process, and the operator's commands.

pub mod ask;
pub mod census;
pub mod cli;
pub mod compare;
pub mod docs;
pub mod folder;
pub mod gcp;
pub mod lateness;
pub mod operate;
pub mod pipeline;
pub mod problem;
mod progress;
pub mod replay;
pub mod report;
pub mod rows;
pub mod sample;
pub mod session;
pub mod status;
pub mod up;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shared::warehouse::Origin;
use tokio::sync::watch;

use crate::cli::{Cli, Command, From, Place, Target};
use crate::folder::{Folder, sample_of};
use crate::pipeline::{Data, Parts};
use crate::problem::Problem;
use crate::session::{Session, with_source};
use crate::status::Counting;

const DATA_DIR: &str = "strata-data";

/// Does what the command line says, with results to `out`, until it is done or `stop` says so.
///
/// # Errors
/// [`Problem`] says why it could not, and with what exit code.
pub async fn run(cli: Cli, mut stop: watch::Receiver<bool>, out: &mut impl Write) -> Result<(), Problem> {
    cli.place.check()?;
    let mut parts = Parts::shipped()?;
    parts.client = fetch::Settings::from_variables(&parts.datasets, |name| std::env::var(name).ok())
        .map_err(|error| Problem::Usage(error.to_string()))?;
    let data_dir = cli.place.data_dir.as_deref();
    match cli.command {
        Command::Up(options) if cli.place.target == Target::Local => {
            let place = up::Place::new(data_dir, Path::new(DATA_DIR));
            up::up(&options, &place, &parts, stop, out).await
        }
        command => tokio::select! {
            done = once(command, &cli.place, &parts, out) => done,
            () = up::stopped(&mut stop) => {
                Err(Problem::Failed("interrupted: what was not finished goes on with the next run".to_owned()))
            }
        },
    }
}

/// A command that ends by itself.
async fn once(command: Command, place: &Place, parts: &Parts, out: &mut impl Write) -> Result<(), Problem> {
    match place.target {
        Target::Local => local(command, place.data_dir.as_deref(), parts, out).await,
        Target::Gcp => gcp::run(command, place, parts, out).await,
    }
}

/// The same in a folder.
async fn local(command: Command, data_dir: Option<&Path>, parts: &Parts, out: &mut impl Write) -> Result<(), Problem> {
    let folder = || Folder::open(&existing(data_dir));
    // These bring data themselves, so they may be the first.
    let fresh = || Folder::open_or_begin(&existing(data_dir));
    match command {
        Command::Up(_) => Err(Problem::Failed("this command does not end by itself".to_owned())),
        Command::Tick { dataset, sweep } => {
            let dataset = parts.datasets.get(&dataset)?.name();
            let session = Session::start(fresh()?, parts).await?;
            operate::run(session, &[dataset.to_owned()], out, async |session| {
                operate::tick(session, dataset, sweep).await
            })
            .await
        }
        Command::Backfill { dataset, start, end, gaps } => {
            let dataset = parts.datasets.get(&dataset)?.name();
            operate::check_range(start, end)?;
            let session = Session::start(fresh()?, parts).await?;
            let work = async |session: &Session| operate::backfill(session, dataset, (start, end), gaps).await;
            operate::run(session, &[dataset.to_owned()], out, work).await
        }
        Command::Replay { seek: Some(_), .. } => Err(Problem::Usage(
            "--seek is Pub/Sub's, with --target gcp: `--from raw` and `--from bronze` do the same here".to_owned(),
        )),
        Command::Replay { dataset, day, from, seek: None } => {
            let dataset = &**parts.datasets.get(&dataset)?;
            let session = Session::start(folder()?, parts).await?;
            let work = async |session: &Session| match from {
                From::Source => operate::replay_source(session, dataset.name(), day).await,
                From::Raw => replay::from_raw(session, dataset, day).await,
                From::Bronze => replay::from_bronze(session, dataset, day).await,
            };
            operate::run(session, &[dataset.name().to_owned()], out, work).await
        }
        Command::Ingest { file, dataset, observed_at } => {
            let dataset = &**parts.datasets.get(&dataset)?;
            let session = Session::start(fresh()?, parts).await?;
            let work = async |session: &Session| operate::ingest(session, dataset, &file, observed_at, parts).await;
            operate::run(session, &[dataset.name().to_owned()], out, work).await
        }
        Command::Build { dataset, full_refresh, compare } => {
            let datasets = operate::chosen(&parts.datasets, dataset.as_deref())?;
            let session = Session::start(folder()?, parts).await?;
            let warehouse = Arc::clone(&session.pipeline.data.warehouse);
            let before = if compare { Some(compare::contents(&*warehouse).await?) } else { None };
            let work = async |session: &Session| operate::build(session, &datasets, full_refresh).await;
            operate::run(session, &datasets, out, work).await?;
            if let Some(before) = before {
                compare::same(&before, &compare::contents(&*warehouse).await?)?;
                writeln!(out, "compared     {} tables, each row for row as it was", before.len())?;
            }
            Ok(())
        }
        Command::Test { dataset } => {
            let datasets = operate::chosen(&parts.datasets, dataset.as_deref())?;
            let (errors, _) = operate::test(&data(&folder()?, parts).runner, &datasets, out).await?;
            operate::passed(errors)
        }
        Command::Query { sql, format } => {
            let origin = Origin::new("query");
            let answer = data(&folder()?, parts).warehouse.query(&sql, &origin).await?;
            Ok(rows::print(&answer, format, out)?)
        }
        Command::Status { completeness, format } => {
            let folder = folder()?;
            let data_dir = std::path::absolute(&folder.path)?.display().to_string();
            let place = status::Place::Folder { data_dir, world: folder.world };
            let data = data(&folder, parts);
            let Some(days) = completeness else {
                return status::print(place, &data, &parts.datasets, None, format, out).await;
            };
            let (parts, simulator) = with_source(folder.world, parts).await?;
            let client = fetch::Client::new(parts.client).map_err(Problem::Failed)?;
            let counting = Counting { days, client };
            status::print(place, &data, &parts.datasets, Some(&counting), format, out).await?;
            match simulator {
                Some(simulator) => Ok(simulator.shutdown().await?),
                None => Ok(()),
            }
        }
        Command::Docs { out: pages } => {
            let data = Folder::find(&existing(data_dir))?.map(|folder| data(&folder, parts));
            docs::write(&parts.project, data.as_ref().map(|data| &*data.warehouse), &pages, out).await
        }
    }
}

fn data(folder: &Folder, parts: &Parts) -> Data {
    Data::new(Arc::new(folder.store.clone()), parts)
}

/// The folder to work on when no run makes it: the one that was named, else the one that is there.
fn existing(data_dir: Option<&Path>) -> PathBuf {
    let live = PathBuf::from(DATA_DIR);
    match data_dir {
        Some(path) => path.to_owned(),
        // A run that found no source has made the folder, and nothing in it.
        None if !live.join("raw").exists() && sample_of(&live).exists() => {
            let sample = sample_of(&live);
            tracing::warn!("there are no live data: this is the recorded month in {}", sample.display());
            sample
        }
        None => live,
    }
}
