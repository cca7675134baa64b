//! The service `land` on Google Cloud.

use std::process::ExitCode;

use cloud::service::run;
use land::Land;

fn main() -> ExitCode {
    run(async |ports| {
        let warehouse = ports.warehouse().await?;
        Ok(Land::new(shared::datasets::shipped(), ports.store, warehouse, ports.bus, ports.clock))
    })
}
