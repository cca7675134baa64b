//! The suites of the ports on Google Cloud's clients, against emulators. `tests/emulators/run` starts those and runs
//! these tests, which are ignored elsewhere.
//!
//! What the emulators do not show is said in the crate `cloud`.

mod bus;
mod operate;
mod pipeline;
mod sql;
mod store;
mod warehouse;

use cloud::config::Emulators;
use shared::clock::{Clock, System};

const PROJECT: &str = "emulated";

/// The emulators that `run` has started.
fn emulators() -> Emulators {
    Emulators::from_variables(|name| std::env::var(name).ok()).unwrap()
}

/// A name that no other test has.
fn own(name: &str) -> String {
    format!("{name}-{:08x}", System.random() as u32)
}

/// Makes a resource that Terraform makes in the cloud.
async fn make(request: reqwest::RequestBuilder, body: &serde_json::Value) {
    let request = request.header("content-type", "application/json").body(body.to_string());
    let response = request.send().await.unwrap();
    let status = response.status();
    assert!(status.is_success(), "{status}: {} for {body}", response.text().await.unwrap());
}
