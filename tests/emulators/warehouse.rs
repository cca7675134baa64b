//! The warehouse in BigQuery: its suite, and what only BigQuery refuses.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloud::config::Environment;
use cloud::{BigQuery, Bucket, RETRIES};
use serde_json::json;
use shared::clock::System;
use shared::store::{Precondition, Store};
use shared::table::TableName;
use shared::warehouse::{Layout, LoadMode, Materialization, ModelRun, Origin, Warehouse, WarehouseError};

use super::{emulators, make, make_bucket, make_datasets, own};
use crate::conformance::warehouse::{Bench, Places, conforms};

/// A project of its own, with a bucket and these datasets.
async fn project(datasets: &[&str]) -> Environment {
    let environment = Environment::new(&own("emulated"), "test", emulators()).unwrap();
    // The first client chooses the cryptography that all need.
    connect(&environment).await;
    make_bucket(&environment.project, &environment.bucket.to_string()).await;
    make_datasets(&environment.project, datasets).await;
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
    // The emulator is DuckDB below, which does not say where a name is wrong.
    conforms(store, Arc::new(warehouse), Places::Syntax).await;
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

/// Changes a table behind the warehouse's back.
async fn run(environment: &Environment, sql: &str) {
    let bigquery = environment.emulators.bigquery.clone().unwrap();
    let address = format!("{}/bigquery/v2/projects/{}/queries", bigquery.as_str(), environment.project);
    make(reqwest::Client::new().post(address), &json!({ "query": sql, "useLegacySql": false })).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/emulators/run starts what it needs"]
async fn a_load_that_fails_half_way_keeps_what_was_loaded_and_goes_on() {
    let (store, warehouse) = connect(&project(&["raw"]).await).await;
    let bench = Bench::new(Arc::new(warehouse), Arc::clone(&store));
    let good = bench.bronze("2025-07-24", &[("a", 1.0)]).await;
    let damaged = bench.bronze("2025-08-02", &[("b", 2.0)]).await;
    store.put(&damaged.object, "no Parquet".into(), Precondition::None).await.unwrap();
    let error = bench.try_load(&[&good, &damaged]).await.unwrap_err();
    assert!(matches!(error, WarehouseError::Rows { .. }), "{error:?}");
    assert_eq!(bench.quakes().await, ["a,1.0"]);
    let loaded = bench.warehouse.loaded(&TableName::raw("quakes"), "test").await.unwrap();
    assert_eq!(loaded.by_cause.iter().copied().collect::<Vec<_>>(), [good.partition]);

    let mended = bench.bronze("2025-08-02", &[("b", 2.0)]).await;
    assert_eq!(bench.try_load(&[&good, &mended]).await.unwrap(), [mended.partition].into());
    assert_eq!(bench.quakes().await, ["a,1.0", "b,2.0"]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/emulators/run starts what it needs"]
async fn a_table_that_was_changed_or_removed_by_others_is_named_and_loaded_afresh() {
    let environment = project(&["raw"]).await;
    let (store, warehouse) = connect(&environment).await;
    let bench = Bench::new(Arc::new(warehouse), store);
    let first = bench.bronze("2025-07-24", &[("a", 1.0)]).await;
    bench.try_load(&[&first]).await.unwrap();

    run(&environment, "alter table raw.quakes drop column mag").await;
    let second = bench.bronze("2025-07-24", &[("a", 2.0)]).await;
    let drifted = bench.try_load(&[&second]).await.unwrap_err();
    assert!(matches!(&drifted, WarehouseError::Damaged { .. }), "{drifted:?}");
    assert!(drifted.to_string().contains("strata replay quakes"), "{drifted}");
    bench.load(&[&second], LoadMode::Afresh, "afresh").await;
    assert_eq!(bench.quakes().await, ["a,2.0"]);

    run(&environment, "drop table raw.quakes").await;
    let third = bench.bronze("2025-07-24", &[("a", 3.0)]).await;
    let gone = bench.try_load(&[&third]).await.unwrap_err();
    assert!(matches!(&gone, WarehouseError::Damaged { .. }), "{gone:?}");
    assert!(gone.to_string().contains("strata replay quakes"), "{gone}");

    bench.load(&[&third], LoadMode::Afresh, "again").await;
    assert_eq!(bench.quakes().await, ["a,3.0"]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/emulators/run starts what it needs"]
async fn a_question_changes_nothing() {
    let (_, warehouse) = connect(&project(&["gold"]).await).await;
    warehouse.build(model("facts", "select 1 as n")).await.unwrap();
    for sql in ["drop table gold.facts", "select 1; drop table gold.facts", "delete from gold.facts where true"] {
        let error = warehouse.query(sql, &Origin::new("query")).await.unwrap_err();
        assert!(matches!(error, WarehouseError::Sql(_)), "{sql}: {error:?}");
    }
    let answer = warehouse.query("select n from facts", &Origin::new("query")).await.unwrap();
    assert_eq!(answer.batches[0].num_rows(), 1);
}
