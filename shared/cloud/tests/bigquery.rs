//! What the warehouse makes of what BigQuery may answer: what is tried again and how often, that a job whose id is taken
//! is waited for and not started again, and which errors end an attempt at once.

#![allow(clippy::unwrap_used, reason = "these are parts of tests")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cloud::BigQuery;
use cloud::config::{Emulators, Environment};
use serde_json::{Value, json};
use shared::clock::System;
use shared::retry::Backoff;
use shared::store::{Memory, Store, read_json};
use shared::table::TableName;
use shared::warehouse::{
    Built, Extent, Layout, Materialization, ModelRun, Origin, PartitionBy, PartitionColumn, Warehouse, WarehouseError,
};

const QUICK: Backoff = Backoff { first: Duration::from_millis(1), longest: Duration::from_millis(2), attempts: 3 };

/// The jobs that were inserted, by their ids, each time; and the ids that were looked at.
#[derive(Default)]
struct Seen {
    inserted: Vec<String>,
    looked_at: usize,
    configurations: Vec<Value>,
    locations: Vec<String>,
    projects: Vec<String>,
}

type Answer = Arc<dyn Fn(usize) -> (StatusCode, Value) + Send + Sync>;

/// A warehouse on a service that answers the n-th insertion of a job and the n-th look at one as it is told, each from
/// 0, and says of any table that it has two rows.
async fn service(
    store: &Memory,
    insertion: impl Fn(usize) -> (StatusCode, Value) + Send + Sync + 'static,
    look: impl Fn(usize) -> (StatusCode, Value) + Send + Sync + 'static,
) -> (BigQuery, Arc<Mutex<Seen>>) {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let (insertion, look): (Answer, Answer) = (Arc::new(insertion), Arc::new(look));
    let notes = Arc::clone(&seen);
    let router = Router::new().fallback(move |request: Request| async move {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let mut notes = notes.lock().unwrap();
        let (status, answer) = if parts.uri.path().ends_with("/data") {
            (StatusCode::OK, rows())
        } else if parts.uri.path().contains("/tables/") {
            (StatusCode::OK, table())
        } else if parts.uri.path().contains("/datasets/") {
            let reference = json!({ "projectId": "public", "datasetId": "gold" });
            (StatusCode::OK, json!({ "datasetReference": reference, "location": "europe-west1" }))
        } else if parts.method == Method::POST {
            let job: Value = serde_json::from_slice(&body).unwrap();
            notes.inserted.push(job["jobReference"]["jobId"].as_str().unwrap_or_default().to_owned());
            notes.configurations.push(job["configuration"].clone());
            notes.locations.push(job["jobReference"]["location"].as_str().unwrap_or_default().to_owned());
            notes.projects.push(job["jobReference"]["projectId"].as_str().unwrap_or_default().to_owned());
            insertion(notes.inserted.len() - 1)
        } else {
            notes.looked_at += 1;
            look(notes.looked_at - 1)
        };
        answered(status, &answer)
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (connect(&address, store).await, seen)
}

fn answered(status: StatusCode, answer: &Value) -> Response {
    // What stands before BigQuery does not speak JSON.
    let text = answer.as_str().map_or_else(|| answer.to_string(), str::to_owned);
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}

async fn connect(address: &str, store: &Memory) -> BigQuery {
    let emulators = Emulators::from_variables(|name| name.starts_with("BIGQUERY").then(|| address.to_owned())).unwrap();
    let environment = Environment::new("public", "dev", emulators).unwrap();
    let lake: Arc<dyn Store> = Arc::new(store.clone());
    BigQuery::connect(&environment, lake, Arc::new(System), QUICK).await.unwrap()
}

fn table() -> Value {
    let reference = json!({ "projectId": "public", "datasetId": "gold", "tableId": "facts" });
    json!({ "tableReference": reference, "schema": { "fields": [] }, "numRows": "2" })
}

/// What a merge touches: a row of one day that takes the place of one of another day.
fn rows() -> Value {
    let cells = ["a", "2025-07-24", "2025-07-23", "true"].map(|text| json!({ "v": text }));
    json!({ "totalRows": "1", "rows": [{ "f": cells }] })
}

fn job(state: &str) -> (StatusCode, Value) {
    let query = json!({ "totalBytesBilled": "10485760", "totalSlotMs": "7" });
    (StatusCode::OK, json!({ "status": { "state": state }, "statistics": { "query": query } }))
}

fn refused(code: u16, reason: &str) -> (StatusCode, Value) {
    let message = format!("{reason}: says the service");
    let error = json!({ "code": code, "message": message, "errors": [{ "reason": reason, "message": message }] });
    (StatusCode::from_u16(code).unwrap(), json!({ "error": error }))
}

async fn build(warehouse: &BigQuery) -> Result<Built, WarehouseError> {
    warehouse.build(model()).await
}

fn model() -> ModelRun {
    ModelRun {
        table: TableName::new("gold", "facts"),
        materialization: Materialization::Table,
        layout: Layout::default(),
        sql: "select 1 as n".to_owned(),
        origin: Origin::new("models/facts.sql"),
        definition: "first".to_owned(),
        inputs: BTreeMap::new(),
        expected: None,
        cause: "run".to_owned(),
    }
}

/// Whether the table's record names jobs at work.
async fn at_work(store: &Memory) -> bool {
    let record: Value = read_json(store, "warehouse/gold/facts/record.json").await.unwrap().value.unwrap();
    !record["running"].is_null()
}

#[tokio::test]
async fn what_may_pass_is_tried_again_with_the_same_job() {
    let answers = [refused(503, "backendError"), refused(403, "rateLimitExceeded"), job("DONE")];
    let store = Memory::default();
    let (warehouse, seen) = service(&store, move |n| answers[n].clone(), |_| unreachable!()).await;
    let built = build(&warehouse).await.unwrap();
    assert_eq!((built.rows, built.cost.bytes_billed, built.cost.slot_ms), (2, 10_485_760, 7));
    assert!(!at_work(&store).await);
    let seen = seen.lock().unwrap();
    assert_eq!(seen.inserted.len(), 3);
    assert!(seen.inserted.iter().all(|id| *id == seen.inserted[0]), "{:?}", seen.inserted);
    assert!(seen.inserted[0].starts_with("strata-dev-gold-facts-run-"), "{:?}", seen.inserted);
    assert_eq!(seen.locations, ["europe-west1"; 3], "where the dataset is");
    let configuration = &seen.configurations[0];
    assert_eq!(configuration["labels"], json!({ "strata_env": "dev", "dataset": "gold", "table": "facts" }));
    assert_eq!(configuration["query"]["maximumBytesBilled"], json!((10_u64 << 30).to_string()));
    assert_eq!(configuration["query"]["query"], json!("create or replace table `gold`.`facts` as\nselect 1 as n\n"));
}

#[tokio::test]
async fn a_job_that_was_started_before_is_waited_for() {
    let looks = [refused(503, "backendError"), job("PENDING"), job("RUNNING"), job("DONE")];
    let (warehouse, seen) = service(&Memory::default(), |_| refused(409, "duplicate"), move |n| looks[n].clone()).await;
    assert_eq!(build(&warehouse).await.unwrap().rows, 2);
    let seen = seen.lock().unwrap();
    assert_eq!((seen.inserted.len(), seen.looked_at), (1, 4));
}

#[tokio::test]
async fn a_job_whose_end_is_not_known_is_finished_by_the_next_who_comes() {
    let fails = |_| refused(503, "backendError");
    let store = Memory::default();
    let (warehouse, seen) = service(&store, |_| job("RUNNING"), fails).await;
    let error = build(&warehouse).await.unwrap_err();
    assert!(matches!(error, WarehouseError::Transient(_)), "{error:?}");
    assert!(at_work(&store).await);
    assert_eq!(seen.lock().unwrap().looked_at, 3);

    // Another process, to which the service speaks again.
    let (other, later) = service(&store, |_| refused(409, "duplicate"), |_| job("DONE")).await;
    let facts = TableName::new("gold", "facts");
    assert_eq!(other.state(&facts).await.unwrap(), None, "who only reads changes nothing");
    assert!(matches!(build(&other).await, Err(WarehouseError::Conflict(_))), "there is a table now");
    assert_eq!(other.state(&facts).await.unwrap().unwrap().rows, Some(2));
    assert!(!at_work(&store).await);
    assert_eq!(later.lock().unwrap().inserted, seen.lock().unwrap().inserted, "the same job");
}

#[tokio::test]
async fn each_refusal_ends_an_attempt_in_its_way() {
    let table = [
        (refused(500, "internalError"), "transient", 3),
        (refused(429, ""), "transient", 3),
        ((StatusCode::BAD_GATEWAY, json!("<html>")), "transient", 3),
        (refused(401, "authError"), "blocked", 1),
        (refused(403, "accessDenied"), "blocked", 1),
        (refused(403, "quotaExceeded"), "blocked", 1),
    ];
    for (answer, kind, attempts) in table {
        let said = answer.1.to_string();
        let store = Memory::default();
        let (warehouse, seen) = service(&store, move |_| answer.clone(), |_| unreachable!()).await;
        let error = build(&warehouse).await.unwrap_err();
        let found = match &error {
            WarehouseError::Transient(_) => "transient",
            WarehouseError::Blocked(_) => "blocked",
            _ => "another",
        };
        assert_eq!((found, seen.lock().unwrap().inserted.len()), (kind, attempts), "{said}: {error}");
        assert!(!error.to_string().contains('\n'), "{error}");
        assert!(at_work(&store).await, "the job is asked for again, with its id");
    }
}

#[tokio::test]
async fn a_job_that_is_not_taken_is_given_up_with_its_id() {
    let table = [
        (refused(404, "notFound"), "blocked"),
        (refused(400, "invalidQuery"), "sql"),
        (not_found("Table public:gold.facts"), "gone"),
        (not_found("Table public:gold.nothing"), "sql"),
    ];
    for (answer, kind) in table {
        let said = answer.1.to_string();
        let store = Memory::default();
        let answers = [answer, job("DONE")];
        let (warehouse, seen) = service(&store, move |n| answers[n].clone(), |_| unreachable!()).await;
        let error = build(&warehouse).await.unwrap_err();
        let found = match &error {
            WarehouseError::Blocked(_) => "blocked",
            WarehouseError::Damaged { .. } => "gone",
            WarehouseError::Sql(error) if error.file == "models/facts.sql" && error.line == 1 => "sql",
            _ => "another",
        };
        assert_eq!(found, kind, "{said}: {error}");
        assert!(!at_work(&store).await, "{said}: the next commit may begin");
        let mut void = job("DONE");
        {
            let seen = seen.lock().unwrap();
            assert_eq!((seen.inserted.len(), &seen.inserted[0]), (2, &seen.inserted[1]));
            assert_eq!(seen.configurations[1]["query"]["query"], json!("select 1"));
            void.1["configuration"] = seen.configurations[1].clone();
        }

        // Who comes late with the same id finds that it did nothing.
        let (late, _) = service(&Memory::default(), |_| refused(409, "duplicate"), move |_| void.clone()).await;
        let error = build(&late).await.unwrap_err();
        assert!(matches!(error, WarehouseError::Transient(_)), "{error:?}");
    }
}

#[tokio::test]
async fn a_job_that_is_not_taken_from_one_and_was_from_another_did_what_it_did() {
    let answers = [refused(400, "invalidQuery"), refused(409, "duplicate"), refused(409, "duplicate")];
    let (warehouse, seen) = service(&Memory::default(), move |n| answers[n].clone(), |_| job("DONE")).await;
    assert_eq!(build(&warehouse).await.unwrap().rows, 2);
    assert_eq!(seen.lock().unwrap().inserted.len(), 3);
}

#[tokio::test]
async fn a_merge_names_the_partitions_that_it_touches() {
    let store = Memory::default();
    let (warehouse, seen) = service(&store, |_| job("DONE"), |_| unreachable!()).await;
    let day = PartitionBy { field: "day".to_owned(), column: PartitionColumn::Date };
    let layout = Layout { partition_by: Some(day), ..Layout::default() };
    let whole = ModelRun { layout, ..model() };
    let built = warehouse.build(whole.clone()).await.unwrap();
    let unique_key = vec!["id".to_owned()];
    let materialization = Materialization::Merge { unique_key };
    let merged = ModelRun { materialization, expected: Some(built.state.version), ..whole };
    let built = warehouse.build(merged).await.unwrap();
    let days = ["2025-07-23", "2025-07-24"].map(|day| day.parse().unwrap());
    assert_eq!(built.extent, Extent::Partitions(days.into()));
    let seen = seen.lock().unwrap();
    let merges = seen.configurations.iter().filter_map(|it| it["query"]["query"].as_str());
    let merges: Vec<_> = merges.filter(|sql| sql.starts_with("merge ")).collect();
    let [merge] = merges.as_slice() else { panic!("{merges:?}") };
    assert!(merge.contains(" and strata_there.`day` in (date '2025-07-23', date '2025-07-24')\n"), "{merge}");
}

#[tokio::test]
async fn a_query_is_planned_for_nothing_before_it_is_run() {
    let planned = json!({ "query": { "statementType": "SELECT", "totalBytesProcessed": "42" } });
    let planned = (StatusCode::OK, json!({ "status": { "state": "DONE" }, "statistics": planned }));
    let answers = [planned.clone(), planned, job("DONE")];
    let empty = (StatusCode::OK, json!({ "jobComplete": true, "totalRows": "0", "schema": { "fields": [] } }));
    let (warehouse, seen) = service(&Memory::default(), move |n| answers[n].clone(), move |_| empty.clone()).await;
    let origin = Origin::new("query");
    assert_eq!(warehouse.estimate("select 1", &origin).await.unwrap(), 42);
    assert_eq!(warehouse.query("select 1", &origin).await.unwrap().cost.bytes_billed, 10_485_760);
    let seen = seen.lock().unwrap();
    let dry: Vec<_> = seen.configurations.iter().map(|it| it["dryRun"] == true).collect();
    assert_eq!(dry, [true, true, false]);
    assert_eq!(seen.projects, ["public"; 3]);
    assert_eq!(seen.locations, ["europe-west1"; 3]);
}

fn not_found(what: &str) -> (StatusCode, Value) {
    let (status, mut answer) = refused(404, "notFound");
    answer["error"]["message"] = json!(format!("Not found: {what} was not found in location EU"));
    (status, answer)
}

#[tokio::test]
async fn a_service_that_is_not_there_is_transient() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let warehouse = connect(&address, &Memory::default()).await;
    let error = build(&warehouse).await.unwrap_err();
    assert!(matches!(error, WarehouseError::Transient(_)), "{error:?}");
}
