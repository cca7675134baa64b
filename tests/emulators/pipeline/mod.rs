//! The whole pipeline as it is deployed: the services' own programs, Pub/Sub's pushes over HTTP, the lake in Cloud
//! Storage and the warehouse in BigQuery.

mod deployment;
mod gate;
mod missing;
mod month;
mod price;
mod program;

use shared::dataset::Ask;
use shared::message::FetchRequest;

const DATASET: &str = "earthquakes";

fn tick() -> FetchRequest {
    FetchRequest { dataset: DATASET.to_owned(), ask: Ask::Tick { days: 30, sweep: false } }
}
