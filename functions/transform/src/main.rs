//! The service `transform` on Google Cloud.

use std::process::ExitCode;
use std::sync::Arc;

use cloud::service::{ServiceError, run};
use transform::Transform;
use transform::project::Project;
use transform::run::Runner;

fn main() -> ExitCode {
    run(async |ports| {
        let project = Project::embedded().map_err(ServiceError::part)?;
        let runner = Runner::new(Arc::new(project), ports.warehouse().await?);
        Ok(Transform::new(runner, ports.store, ports.bus, ports.clock))
    })
}
