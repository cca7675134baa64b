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
use serde_json::json;
use shared::clock::{Clock, System};

const PROJECT: &str = "emulated";
/// The datasets of an environment.
const DATASETS: [&str; 4] = ["raw", "silver", "gold", "ops"];

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

async fn make_bucket(project: &str, name: &str) {
    let emulator = emulators().storage.unwrap().http;
    let buckets = format!("{}/storage/v1/b?project={project}", emulator.as_str());
    make(reqwest::Client::new().post(buckets), &json!({ "name": name })).await;
}

async fn make_datasets(project: &str, datasets: &[&str]) {
    let emulator = emulators().bigquery;
    assert!(emulator.is_some(), "the emulator of BigQuery is started by tests/emulators/run");
    let address = format!("{}/bigquery/v2/projects/{project}/datasets", emulator.unwrap().as_str());
    for dataset in datasets {
        let reference = json!({ "projectId": project, "datasetId": dataset });
        let body = json!({ "datasetReference": reference, "location": "US" });
        make(reqwest::Client::new().post(&address), &body).await;
    }
}

/// Makes a topic by its full name.
async fn make_topic(path: &str) {
    let emulator = emulators().pubsub.unwrap();
    make(reqwest::Client::new().put(format!("{}/v1/{path}", emulator.as_str())), &json!({})).await;
}
