//! The bus on Pub/Sub: its suite, delivered by real pushes over HTTP.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use cloud::config::Topics;
use cloud::{PubSub, RETRIES};
use serde_json::json;
use shared::bus::{Bus, publish};
use shared::clock::System;
use shared::dataset::Ask;
use shared::message::{FetchRequest, Topic};
use shared::trace::Trace;

use super::{PROJECT, emulators, make, make_topic, own};
use crate::conformance::bus::{Mount, Promises, conforms};

async fn connect(topics: &Topics) -> PubSub {
    let emulators = emulators();
    assert!(emulators.pubsub.is_some(), "the emulator of Pub/Sub is started by tests/emulators/run");
    PubSub::connect(topics.clone(), &emulators, RETRIES).await.unwrap()
}

/// Topics of one test, each pushed to a server on loopback.
struct Pushed;

#[async_trait]
impl Mount for Pushed {
    fn promises(&self) -> Promises {
        // The emulator's pushes have no `deliveryAttempt`, and Pub/Sub delivers at least once.
        Promises { counts_deliveries: false, delivers_once: false }
    }

    async fn mount(&self, requests: Router, captures: Router) -> Arc<dyn Bus> {
        let prefix = own("suite") + "-";
        let topics = Topics::new(PROJECT, &prefix).unwrap();
        let bus = connect(&topics).await;
        let (client, emulator) = (reqwest::Client::new(), emulators().pubsub.unwrap());
        for (topic, router) in [(Topic::FetchRequests, requests), (Topic::Captures, captures)] {
            let path = topics.path(topic);
            make_topic(&path).await;
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
            let subscription = format!("{}/v1/projects/{PROJECT}/subscriptions/{prefix}{topic}", emulator.as_str());
            let pushed = json!({
                "topic": path,
                "pushConfig": { "pushEndpoint": format!("http://{address}/") },
                "ackDeadlineSeconds": 10,
            });
            make(client.put(subscription), &pushed).await;
        }
        Arc::new(bus)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "tests/emulators/run starts what it needs"]
async fn pubsub() {
    conforms(Pushed).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/emulators/run starts what it needs"]
async fn a_topic_that_does_not_exist_is_named() {
    let topics = Topics::new(PROJECT, &(own("missing") + "-")).unwrap();
    let bus = connect(&topics).await;
    let request = FetchRequest { dataset: "quakes".to_owned(), ask: Ask::Tick { days: 1, sweep: false } };
    let error = publish(&bus, &request, Trace::start(&System)).await.unwrap_err();
    assert_eq!(error.topic, Topic::FetchRequests);
    let named = format!("there is no {} ", topics.path(Topic::FetchRequests));
    assert!(error.reason.starts_with(&named), "{error}");
}
