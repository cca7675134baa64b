//! The warehouse in BigQuery: its suite, and what only BigQuery refuses.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloud::config::Environment;
use cloud::{BigQuery, Bucket, RETRIES};
use serde_json::json;
use shared::clock::System;
use shared::store::Store;
use shared::table::TableName;
use shared::warehouse::{Layout, Materialization, ModelRun, Origin, Warehouse, WarehouseError};

use super::{emulators, make, own};
use crate::conformance::warehouse::conforms;

/// A project of its own, with a bucket and these datasets.
async fn project(datasets: &[&str]) -> Environment {
    let environment = Environment::new(&own("emulated"), "test", emulators()).unwrap();
    // The first client chooses the cryptography that all need.
    connect(&environment).await;
    let client = reqwest::Client::new();
    let storage = environment.emulators.storage.clone().unwrap().http;
    let buckets = format!("{}/storage/v1/b?project={}", storage.as_str(), environment.project);
    make(client.post(buckets), &json!({ "name": environment.bucket.to_string() })).await;
    let bigquery = environment.emulators.bigquery.clone();
    let bigquery = bigquery.expect("the emulator of BigQuery is started by tests/emulators/run");
    for dataset in datasets {
        let address = format!("{}/bigquery/v2/projects/{}/datasets", bigquery.as_str(), environment.project);
        let reference = json!({ "datasetId": dataset, "projectId": environment.project });
        make(client.post(address), &json!({ "datasetReference": reference })).await;
    }
    environment
}

async fn connect(environment: &Environment) -> (Arc<dyn Store>, BigQuery) {
    let bucket = Bucket::connect(environment.bucket.clone(), &environment.emulators, RETRIES).await.unwrap();
    let store: Arc<dyn Store> = Arc::new(bucket);
    let warehouse = BigQuery::connect(environment, Arc::clone(&store), Arc::new(System), RETRIES).await.unwrap();
    (store, warehouse)
}

fn model(name: &str, sql: &str) -> ModelRun {
    ModelRun {
        table: TableName::new("gold", name),
        materialization: Materialization::Table,
        layout: Layout::default(),
        sql: sql.to_owned(),
        origin: Origin::new(format!("models/{name}.sql")),
        definition: "first".to_owned(),
        inputs: BTreeMap::new(),
        expected: None,
        cause: "run".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "tests/emulators/run starts what it needs"]
async fn bigquery() {
    let (store, warehouse) = connect(&project(&["raw", "silver", "gold"]).await).await;
    conforms(store, Arc::new(warehouse)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/emulators/run starts what it needs"]
async fn a_dataset_that_does_not_exist_is_named() {
    let (_, warehouse) = connect(&project(&[]).await).await;
    let error = warehouse.build(model("facts", "select 1 as n")).await.unwrap_err();
    assert!(matches!(error, WarehouseError::Blocked(_)), "{error:?}");
    let error = error.to_string();
    assert!(error.contains(":gold") && error.contains("google_bigquery_dataset"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/emulators/run starts what it needs"]
async fn a_query_over_its_limit_of_bytes_is_refused_and_the_next_is_not() {
    let mut environment = project(&["gold"]).await;
    let (_, generous) = connect(&environment).await;
    generous.build(model("facts", "select n from unnest([1, 2, 3]) as n")).await.unwrap();
    environment.max_bytes_billed = 1;
    let (_, warehouse) = connect(&environment).await;
    let error = warehouse.query("select n from gold.facts", &Origin::new("query")).await.unwrap_err();
    assert!(matches!(&error, WarehouseError::Blocked(reason) if reason.contains("bytes billed")), "{error:?}");
    let error = warehouse.build(model("copy", "select n from gold.facts")).await.unwrap_err();
    assert!(matches!(error, WarehouseError::Blocked(_)), "{error:?}");
    let answer = generous.query("select n from gold.facts", &Origin::new("query")).await.unwrap();
    assert!(answer.cost.bytes_billed > 1);
    let built = generous.build(model("copy", "select n from gold.facts")).await.unwrap();
    assert_eq!((built.rows, built.cost.bytes_billed > 1), (3, true));
}
