//! The service `fetch` on Google Cloud.

use std::process::ExitCode;

use cloud::service::{ServiceError, run, variable};
use fetch::{Client, Fetch, Settings};

fn main() -> ExitCode {
    run(async |ports| {
        let datasets = shared::datasets::shipped();
        let settings = Settings::from_variables(&datasets, variable).map_err(ServiceError::setting)?;
        let client = Client::new(settings).map_err(ServiceError::part)?;
        Ok(Fetch::new(datasets, client, ports.store, ports.bus, ports.clock))
    })
}
