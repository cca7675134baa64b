//! The recorded month: a simulator of the source, in this process, asked over HTTP like the source itself.

use usgs_simulator::{Catalogue, Running, Simulator};

use crate::problem::Problem;

/// The feed `all_month` of 2025-07-23 15:12 UTC, 11,146 events.
const RECORDED_MONTH: &[u8] = include_bytes!("../../../tests/fixtures/usgs/all_month_2025-07-23T1512Z.csv.gz");

/// The dataset that the month is of.
pub const DATASET: &str = "earthquakes";

/// Starts the simulator on a free port of this machine.
///
/// # Errors
/// When no port can be had.
pub async fn start() -> Result<Running, Problem> {
    let catalogue = Catalogue::from_bytes(RECORDED_MONTH)
        .map_err(|error| Problem::Failed(format!("the recorded month cannot be read: {error}")))?;
    let simulator = Simulator::builder(catalogue).build();
    simulator.serve().await.map_err(|error| Problem::Failed(format!("the simulator cannot start: {error}")))
}
