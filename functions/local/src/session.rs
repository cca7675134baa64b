//! A pipeline at work in a data folder, together with the source that its world has.

use shared::dataset::Dataset;
use usgs_simulator::Running;

use crate::folder::{Folder, World};
use crate::pipeline::{Parts, Pipeline};
use crate::problem::Problem;
use crate::replay::recover;
use crate::sample;

/// A pipeline at work.
pub struct Session {
    /// The data folder.
    pub folder: Folder,
    /// The services.
    pub pipeline: Pipeline,
    /// The source of the recorded month, in its world.
    simulator: Option<Running>,
}

impl Session {
    /// Starts the pipeline of a folder, and the simulator if its world is the recorded month.
    ///
    /// # Errors
    /// When one of them cannot start.
    pub async fn start(folder: Folder, parts: &Parts) -> Result<Self, Problem> {
        let (parts, simulator) = with_source(folder.world, parts).await?;
        let pipeline = Pipeline::start(&folder, &parts).await?;
        recover(&pipeline, &parts.datasets).await?;
        Ok(Self { folder, pipeline, simulator })
    }

    /// Ends the work under way, and all of it.
    ///
    /// # Errors
    /// When the folder cannot be left in order.
    pub async fn stop(self) -> Result<(), Problem> {
        self.pipeline.stop().await?;
        match self.simulator {
            Some(simulator) => Ok(simulator.shutdown().await?),
            None => Ok(()),
        }
    }
}

/// The parts as they are in a world, and the source that must run for them there.
///
/// # Errors
/// When the simulator cannot start.
pub async fn with_source(world: World, parts: &Parts) -> Result<(Parts, Option<Running>), Problem> {
    let mut parts = parts.clone();
    if world == World::Live {
        return Ok((parts, None));
    }
    let simulator = sample::start().await?;
    parts.client.addresses.insert(sample::DATASET.to_owned(), simulator.base_url());
    Ok((parts, Some(simulator)))
}

/// Whether the source of a dataset answers at all.
///
/// # Errors
/// [`Problem::Unreachable`] says why it does not.
pub async fn reach(parts: &Parts, dataset: &dyn Dataset) -> Result<(), Problem> {
    let client = fetch::Client::new(parts.client.clone()).map_err(Problem::Failed)?;
    match client.now(dataset, parts.clock.now()).await {
        Err(shared::function::Failure::Unreachable(reason)) => Err(Problem::Unreachable(reason)),
        // Whatever it says, it is there; the run deals with it.
        _ => Ok(()),
    }
}
