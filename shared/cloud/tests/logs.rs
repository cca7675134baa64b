//! The lines that Cloud Logging gets, as they come out.

#![allow(clippy::unwrap_used, reason = "these are parts of tests")]

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::body::Body;
use axum::http::{HeaderMap, Request, header};
use serde_json::{Value, json};
use shared::clock::System;
use shared::dataset::Ask;
use shared::function::{Admission, Envelope, Failure, Function, NotAdmitted, Received, Terms, router_with};
use shared::message::{FetchRequest, Parcel};
use shared::metrics::{self, BYTES_BILLED, ROWS_QUARANTINED};
use shared::trace::Trace;
use tower::ServiceExt;
use tracing_subscriber::layer::SubscriberExt;

const TRACE: &str = "logging.googleapis.com/trace";
const SPAN: &str = "logging.googleapis.com/spanId";
const LABELS: &str = "logging.googleapis.com/labels";

/// Keeps what is written.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(piece)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Kept {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn lines(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Logs a line and ends as it is told.
struct Says(Result<(), Failure>);

#[async_trait]
impl Function for Says {
    type Input = FetchRequest;
    const NAME: &'static str = "says";

    async fn handle(&self, _: Received<FetchRequest>) -> Result<(), Failure> {
        let inner = tracing::info_span!("inner", step = 1);
        inner.in_scope(|| tracing::info!({ ROWS_QUARANTINED } = 3, { BYTES_BILLED } = 10_485_760_u64, "a query"));
        self.0.clone()
    }
}

struct Nobody;

#[async_trait]
impl Admission for Nobody {
    async fn admit(&self, _: &HeaderMap) -> Result<(), NotAdmitted> {
        Err(NotAdmitted::Unverified("the token has expired".into()))
    }
}

const TRACE_ID: u128 = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;

/// The lines of one delivery.
async fn lines_of(body: String, result: Result<(), Failure>, terms: Terms) -> Kept {
    let kept = Kept::default();
    let writer = kept.clone();
    let subscriber = tracing_subscriber::registry().with(cloud::logs::layer("strata-public", move || writer.clone()));
    let _logging = tracing::subscriber::set_default(subscriber);
    let router = router_with(Says(result), Arc::new(System), terms);
    let request = Request::post("/").header(header::AUTHORIZATION, "Bearer top-secret").body(Body::from(body));
    router.oneshot(request.unwrap()).await.unwrap();
    kept
}

fn push() -> String {
    let message = FetchRequest { dataset: "earthquakes".into(), ask: Ask::Recent };
    let parcel = Parcel::pack(&message, Trace { id: TRACE_ID, span: 2 }).unwrap();
    let published_at = chrono::Utc::now() - chrono::Duration::seconds(90);
    serde_json::to_string(&Envelope::new("s", "m1".into(), published_at, 3, &parcel)).unwrap()
}

/// What every line of a message has.
fn belongs_to_the_message(line: &Value) {
    assert_eq!(line[TRACE], "projects/strata-public/traces/0af7651916cd43dd8448eb211c80319c", "{line}");
    let span = line[SPAN].as_str().unwrap();
    assert!(span.len() == 16 && span.bytes().all(|digit| digit.is_ascii_hexdigit()), "{span}");
    assert_ne!(span, "0000000000000002", "it is a span of its own, not the sender's");
    assert_eq!(line[LABELS], json!({ "service": "says", "dataset": "earthquakes", "message_id": "m1" }));
    let time = line["time"].as_str().unwrap();
    assert!(chrono::DateTime::parse_from_rfc3339(time).is_ok(), "{time}");
}

#[tokio::test]
async fn a_line_of_a_handler_has_severity_trace_labels_and_metrics_by_their_names() {
    let kept = lines_of(push(), Ok(()), Terms::default()).await;
    let [query, handled] = &kept.lines()[..] else { panic!("{}", kept.text()) };
    belongs_to_the_message(query);
    assert_eq!((&query["severity"], &query["message"]), (&json!("INFO"), &json!("a query")));
    assert_eq!((&query["rows_quarantined"], &query["bytes_billed"]), (&json!(3), &json!(10_485_760)));

    belongs_to_the_message(handled);
    assert_eq!((&handled["severity"], &handled["message"]), (&json!("INFO"), &json!("handled")));
    assert_eq!((&handled["outcome"], &handled["attempt"]), (&json!("done"), &json!(3)));
    assert!(handled["duration_ms"].as_i64().is_some_and(|duration| duration >= 0), "{handled}");
    assert!(handled["lateness_s"].as_i64().is_some_and(|lateness| (90..150).contains(&lateness)), "{handled}");
    assert_eq!(handled[SPAN], query[SPAN]);
}

#[test]
fn every_metric_keeps_its_name() {
    let kept = Kept::default();
    let writer = kept.clone();
    let subscriber = tracing_subscriber::registry().with(cloud::logs::layer("strata-public", move || writer.clone()));
    tracing::subscriber::with_default(subscriber, || {
        tracing::info!(
            { metrics::ROWS } = 1,
            { metrics::ROWS_QUARANTINED } = 1,
            { metrics::ROWS_AT_ONCE } = 1,
            { metrics::PARTITIONS_CHANGED } = 1,
            { metrics::ROWS_FAILING } = 1,
            { metrics::PARTS } = 1,
            { metrics::LATENESS_S } = 1,
            { metrics::DURATION_MS } = 1,
            { metrics::ATTEMPT } = 1,
            { metrics::RETRY } = 1,
            { metrics::OUTCOME } = 1,
            { metrics::DEAD_LETTER } = 1,
            { metrics::BYTES_BILLED } = 1,
            { metrics::SLOT_MS } = 1,
            "all"
        );
    });
    let line = kept.lines().pop().unwrap();
    for name in metrics::ALL {
        assert_eq!(line[name], json!(1), "{name} in {line}");
    }
}

#[tokio::test]
async fn a_failure_has_the_severity_that_it_deserves() {
    let table = [
        (Failure::Transient("later".into()), "WARNING", "transient", Value::Null),
        (Failure::Unreachable("away".into()), "WARNING", "unreachable", Value::Null),
        (Failure::Blocked("full".into()), "ERROR", "blocked", json!(true)),
        (Failure::Poison("never".into()), "ERROR", "poison", json!(true)),
    ];
    for (failure, severity, outcome, dead_letter) in table {
        let kept = lines_of(push(), Err(failure.clone()), Terms::default()).await;
        let told = kept.lines().pop().unwrap();
        belongs_to_the_message(&told);
        assert_eq!((&told["severity"], &told["outcome"]), (&json!(severity), &json!(outcome)), "{told}");
        assert_eq!((&told["dead_letter"], &told["error"]), (&dead_letter, &json!(failure.to_string())), "{told}");
    }
}

#[tokio::test]
async fn what_is_no_message_is_told_once_and_has_no_trace() {
    let kept = lines_of("[]".into(), Ok(()), Terms::default()).await;
    let [line] = &kept.lines()[..] else { panic!("{}", kept.text()) };
    assert_eq!((&line["severity"], &line["dead_letter"]), (&json!("ERROR"), &json!(true)), "{line}");
    assert!(line["reason"].as_str().unwrap().starts_with("the body is no push envelope"), "{line}");
    assert!(line.get(TRACE).is_none());
}

#[tokio::test]
async fn a_refused_request_is_told_with_its_reason_and_without_its_token() {
    let terms = Terms { admission: Some(Arc::new(Nobody)), ..Terms::default() };
    let kept = lines_of(push(), Ok(()), terms).await;
    let [line] = &kept.lines()[..] else { panic!("{}", kept.text()) };
    assert_eq!((&line["severity"], &line["reason"]), (&json!("WARNING"), &json!("the token has expired")));
    assert!(!kept.text().contains("top-secret"), "{}", kept.text());
}
