//! The push envelope, and what the services do first with a message.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use axum::body::{Body, to_bytes};
use http::{HeaderMap, Request, StatusCode};
use shared::clock::{System, Timestamp};
use shared::dataset::{Ask, Cursor, Plan, Refusal, Refused};
use shared::datasets::shipped;
use shared::function::{Envelope, Failure, Function, Problem, Received, router};
use shared::message::{FetchRequest, GoldPublished, Message, Parcel, PartitionsLanded, ToLand};
use shared::partition::Partition;
use tower::ServiceExt;

use crate::wait;

pub(crate) const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\\u0000",
    "\\ud800",
    "null",
    "true",
    "{\"message\":",
    "\"data\":",
    "\"attributes\":",
    "\"form\":\"1\"",
    "\"form\":\"99999999999\"",
    "\"traceparent\":\"00-00000000000000000000000000000001-0000000000000002-01\"",
    "\"messageId\":\"m\"",
    "\"publishTime\":\"2025-07-23T15:12:00Z\"",
    "\"publishTime\":\"+262142-12-31T23:59:60Z\"",
    "\"deliveryAttempt\":4294967295",
    "\"dataset\":\"earthquakes\"",
    "\"ask\":{\"kind\":\"tick\",\"days\":4294967295}",
    "\"kind\":\"range\"",
    "\"kind\":\"updates\"",
    "\"since\":\"-262143-01-01T00:00:00Z\"",
    "\"start\":\"1600-01-01T00:00:00Z\"",
    "\"end\":\"+262142-12-31T23:59:59Z\"",
    "\"capture\":\"20250723T151200Z-0123456789abcdef\"",
    "\u{a0}",
    "\u{3000}",
    "2025-07-24",
    "+10000-01-01",
    "e30=",
];

/// The router takes a body as a message or answers 400; what it took it takes again in its own words; and what follows
/// from the message alone (names of objects, a plan) can be worked out.
///
/// The bytes are a whole push body, and the content of an otherwise good one.
pub fn envelope(data: &[u8]) {
    let parcel = Parcel { data: data.to_vec().into(), attributes: [].into() };
    let good = Envelope::new("s", "m".to_owned(), Timestamp::default(), 1, &parcel);
    let Ok(good) = serde_json::to_vec(&good) else { panic!("an envelope can be written") };
    for body in [data, &good] {
        pushed::<FetchRequest>(body, |request| plan(&request.ask));
        pushed::<ToLand>(body, |message| match message {
            ToLand::Capture(stored) => {
                let (id, dataset) = (&stored.capture, &stored.dataset);
                assert_eq!(id.to_string().parse().as_ref(), Ok(id));
                assert!(id.manifest(dataset).starts_with(&id.folder(dataset)));
                assert!(id.quarantine(dataset).contains(&id.to_string()));
            }
            ToLand::Again(again) => again.partitions.iter().for_each(named),
        });
        pushed::<PartitionsLanded>(body, |landed| landed.partitions.iter().for_each(|part| named(&part.partition)));
        pushed::<GoldPublished>(body, |_| ());
    }
}

/// A service that keeps what it was sent.
struct Keep<M>(Arc<Mutex<Option<Received<M>>>>);

#[async_trait]
impl<M: Message> Function for Keep<M> {
    type Input = M;
    const NAME: &'static str = "keep";

    async fn handle(&self, message: Received<M>) -> Result<(), Failure> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(message);
        Ok(())
    }
}

fn push<M: Message>(body: Vec<u8>) -> Option<Received<M>> {
    let kept = Arc::new(Mutex::new(None));
    let router = router(Keep(Arc::clone(&kept)), Arc::new(System));
    let (status, body) = wait(async {
        let Ok(request) = Request::post("/").body(Body::from(body)) else { panic!("a request can be made") };
        let Ok(response) = router.oneshot(request).await;
        let status = response.status();
        (status, to_bytes(response.into_body(), 1 << 20).await)
    });
    let kept = kept.lock().unwrap_or_else(PoisonError::into_inner).take();
    assert_eq!(kept.is_some(), status == StatusCode::NO_CONTENT);
    if kept.is_none() && status != StatusCode::PAYLOAD_TOO_LARGE {
        assert_eq!(status, StatusCode::BAD_REQUEST);
        let problem: Option<Problem> = body.ok().and_then(|body| serde_json::from_slice(&body).ok());
        assert!(problem.is_some_and(|problem| !problem.error.is_empty()), "a refusal says why");
    }
    kept
}

fn pushed<M: Message + PartialEq + std::fmt::Debug>(body: &[u8], follow: impl Fn(&M)) {
    let Some(taken) = push::<M>(body.to_vec()) else { return };
    follow(&taken.body);
    let Ok(parcel) = Parcel::pack(&taken.body, taken.trace) else { panic!("a message can be written") };
    let again = Envelope::new("s", taken.id.clone(), taken.published_at, taken.attempt, &parcel);
    let Ok(again) = serde_json::to_vec(&again) else { panic!("an envelope can be written") };
    let Some(again) = push::<M>(again) else { panic!("our own words for {:?} are refused", taken.body) };
    assert_eq!((again.body, again.id, again.published_at), (taken.body, taken.id, taken.published_at));
    assert_eq!((again.attempt, again.trace.id), (taken.attempt, taken.trace.id));
}

fn named(partition: &Partition) {
    assert_eq!(partition.to_string().parse().as_ref(), Ok(partition));
    assert!(partition.folder().contains(&partition.to_string()));
    assert!(!partition.bucket().is_empty());
}

/// Every source can plan any ask, and knows what to do when it is refused, in a bounded number of parts.
fn plan(ask: &Ask) {
    const MOST: usize = 100_000;
    let now = Timestamp::default() + chrono::TimeDelta::days(20_000);
    for dataset in shipped().iter() {
        let source = dataset.source();
        let cursors = [None, Some(Cursor { watermark: now, seen: Vec::new() })];
        for cursor in cursors.iter().map(Option::as_ref) {
            for now in [None, Some(now)] {
                if let Plan::Split(parts, _) = source.plan(ask, cursor, now) {
                    assert!((2..MOST).contains(&parts.len()), "{ask:?} is split into {}", parts.len());
                }
            }
            let body = "119000 matching events exceeds search limit of 20000.";
            let huge = "18446744073709551615 matching events exceeds search limit of 18446744073709551615.";
            for (status, body) in [(400, body), (400, huge), (503, ""), (504, "")] {
                let Ok(status) = StatusCode::from_u16(status) else { continue };
                let refused = Refused { status, headers: &HeaderMap::new(), body };
                if let Refusal::Split(parts) = source.refused(ask, cursor, 2, &refused) {
                    assert!((2..MOST).contains(&parts.len()), "{ask:?} is split into {}", parts.len());
                }
            }
        }
    }
}
