//! The operator's commands in an environment on emulators, as a person gives them.

use std::sync::Arc;

use chrono::{NaiveDate, TimeDelta, Utc};
use cloud::config::{Emulators, Environment};
use cloud::{BigQuery, Bucket, PubSub, RETRIES};
use land::Land;
use reqwest::Client;
use serde_json::{Value, json};
use shared::clock::{SharedClock, System};
use shared::dataset::Ask;
use shared::function::{Envelope, Function, Received};
use shared::message::{FetchRequest, LandAgain, Message, Parcel, ToLand, Topic};
use shared::store::{Precondition, Store};
use shared::trace::Trace;
use strata::cli::Cli;
use strata::problem::Problem;
use tests::World;
use tokio::sync::watch;
use usgs_simulator::{Catalogue, Event};

use super::{DATASETS, emulators, make, make_bucket, make_datasets, make_topic, own};

/// An environment as Terraform makes it, with nothing in it. Datasets have no environment in their names, so each test
/// has a project of its own.
struct Deployed {
    environment: Environment,
    client: Client,
}

impl Deployed {
    async fn new() -> Self {
        let environment = Environment::new(&own("operate"), "test", emulators()).unwrap();
        let Emulators { storage, pubsub, bigquery } = &environment.emulators;
        let all = storage.is_some() && pubsub.is_some() && bigquery.is_some();
        assert!(all, "the emulators are started by tests/emulators/run");
        // A client of Google's chooses the cryptography for all clients of this process.
        PubSub::connect(environment.topics.clone(), &environment.emulators, RETRIES).await.unwrap();
        let here = Self { environment, client: Client::new() };
        let Environment { project, bucket, topics, .. } = &here.environment;
        make_bucket(project, &bucket.to_string()).await;
        for topic in Topic::ALL {
            make_topic(&topics.path(topic)).await;
        }
        make_datasets(project, &DATASETS).await;
        here
    }

    fn pubsub(&self, path: &str) -> String {
        let emulator = self.environment.emulators.pubsub.as_ref().unwrap();
        format!("{}/v1/{path}", emulator.as_str())
    }

    /// A command in this environment: what it prints.
    async fn strata(&self, line: &[&str]) -> Result<String, Problem> {
        let place = ["--target", "gcp", "--project", &self.environment.project, "--env", "test"];
        let cli = Cli::read([&["strata"], line, &place].concat()).unwrap();
        let (_running, stop) = watch::channel(false);
        let mut out = Vec::new();
        strata::run(cli, stop, &mut out).await?;
        Ok(String::from_utf8(out).unwrap())
    }

    /// A subscription that keeps what is acknowledged.
    async fn subscribe(&self, name: &str, topic: Topic) -> String {
        let path = self.environment.subscription(name);
        let keeps = json!({
            "topic": self.environment.topics.path(topic),
            "retainAckedMessages": true,
            "messageRetentionDuration": "604800s",
        });
        make(self.client.put(self.pubsub(&path)), &keeps).await;
        path
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let request = self.client.post(self.pubsub(path)).header("content-type", "application/json");
        let response = request.body(body.to_string()).send().await.unwrap();
        let (status, text) = (response.status(), response.text().await.unwrap());
        assert!(status.is_success(), "{status}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Takes messages until there are so many, and acknowledges them.
    async fn take(&self, subscription: &str, count: usize) -> Vec<Value> {
        let mut taken = Vec::new();
        while taken.len() < count {
            // It answers when there is a message, or after a while.
            let pulled = self.post(&format!("{subscription}:pull"), &json!({ "maxMessages": count })).await;
            let Some(received) = pulled["receivedMessages"].as_array() else { continue };
            let acknowledged: Vec<&Value> = received.iter().map(|it| &it["ackId"]).collect();
            self.post(&format!("{subscription}:acknowledge"), &json!({ "ackIds": acknowledged })).await;
            taken.extend(received.iter().map(|it| it["message"].clone()));
        }
        taken.sort_by_key(|message| message["messageId"].to_string());
        taken
    }

    async fn bus(&self) -> PubSub {
        PubSub::connect(self.environment.topics.clone(), &self.environment.emulators, RETRIES).await.unwrap()
    }

    async fn store(&self) -> Arc<dyn Store> {
        let Environment { bucket, emulators, .. } = &self.environment;
        Arc::new(Bucket::connect(bucket.clone(), emulators, RETRIES).await.unwrap())
    }

    /// The lake of a pipeline that ran on a laptop, in the bucket, and its bronze in the raw table.
    async fn move_in(&self, world: &World) {
        let (store, clock): (_, SharedClock) = (self.store().await, Arc::new(System));
        for prefix in ["raw/", "bronze/", "ledger/", "state/"] {
            for object in world.objects(prefix).await.unwrap() {
                let bytes = world.store.get(&object).await.unwrap().unwrap().bytes;
                store.put(&object, bytes, Precondition::Absent).await.unwrap();
            }
        }
        let warehouse = BigQuery::connect(&self.environment, Arc::clone(&store), Arc::clone(&clock), RETRIES);
        let warehouse = Arc::new(warehouse.await.unwrap());
        let datasets = shared::datasets::shipped();
        let land = Land::new(datasets, store, warehouse, Arc::new(self.bus().await), Arc::clone(&clock));
        let again = LandAgain { dataset: "earthquakes".to_owned(), partitions: Vec::new() };
        let trace = Trace::start(&System);
        let message = Received {
            body: ToLand::Again(again),
            id: "moved".to_owned(),
            published_at: clock.now(),
            attempt: 1,
            trace,
        };
        land.handle(message).await.unwrap();
    }
}

/// What a message is in a push or an answer, in base64.
fn data(message: &impl Message) -> String {
    let parcel = Parcel::pack(message, Trace::start(&System)).unwrap();
    Envelope::new("", String::new(), Utc::now(), 1, &parcel).message.data
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/emulators/run starts what it needs"]
async fn a_tick_and_a_backfill_ask_fetch_and_print_what_finds_the_run() {
    let deployed = Deployed::new().await;
    let fetch = deployed.subscribe("fetch", Topic::FetchRequests).await;
    let said = deployed.strata(&["tick", "earthquakes"]).await.unwrap();
    let tick = FetchRequest { dataset: "earthquakes".to_owned(), ask: Ask::Tick { days: 30, sweep: false } };
    let [message] = deployed.take(&fetch, 1).await.try_into().unwrap();
    assert_eq!(message["data"], data(&tick));
    let trace: Trace = message["attributes"]["traceparent"].as_str().unwrap().parse().unwrap();
    let id = message["messageId"].as_str().unwrap();
    assert!(said.contains(&format!("message {id} run {}", trace.run())), "{said}");

    let backfill = ["backfill", "earthquakes", "--start", "2025-07-01", "--end", "2025-07-02", "--yes"];
    deployed.strata(&backfill).await.unwrap();
    let (start, end) = ("2025-07-01T00:00:00Z".parse().unwrap(), "2025-07-02T00:00:00Z".parse().unwrap());
    let range = FetchRequest { dataset: "earthquakes".to_owned(), ask: Ask::Range { start, end } };
    // Nothing was read yet, so a tick goes before it.
    let mut asked: Vec<_> = deployed.take(&fetch, 2).await.iter().map(|it| it["data"].to_string()).collect();
    asked.sort();
    let mut expected = [data(&tick), data(&range)].map(|data| json!(data).to_string());
    expected.sort();
    assert_eq!(asked, expected);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/emulators/run starts what it needs"]
async fn a_seek_delivers_again_what_was_acknowledged_and_names_a_subscription_that_is_not_there() {
    let deployed = Deployed::new().await;
    let land = deployed.subscribe("land", Topic::Captures).await;
    let today = Utc::now().date_naive().to_string();
    let bus = deployed.bus().await;
    for day in ["2025-07-23", "2025-07-24"] {
        let partitions = vec![day.parse().unwrap()];
        let message = LandAgain { dataset: "earthquakes".to_owned(), partitions };
        shared::bus::publish(&bus, &message, Trace::start(&System)).await.unwrap();
    }
    let first = deployed.take(&land, 2).await;
    let left = json!({ "maxMessages": 10, "returnImmediately": true });
    assert_eq!(deployed.post(&format!("{land}:pull"), &left).await["receivedMessages"], Value::Null);

    let said = deployed.strata(&["replay", "earthquakes", "--day", &today, "--seek", "land", "--yes"]).await.unwrap();
    assert!(said.contains(&format!("{land} to {today}T00:00:00Z")), "{said}");
    let ids = |messages: &[Value]| messages.iter().map(|it| it["messageId"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&deployed.take(&land, 2).await), ids(&first));

    let missing = ["replay", "earthquakes", "--day", &today, "--seek", "transform", "--yes"];
    let problem = deployed.strata(&missing).await.unwrap_err();
    let transform = deployed.environment.subscription("transform");
    let sentence = format!("there is no {transform} (terraform makes it: google_pubsub_subscription)");
    assert_eq!(problem, Problem::Failed(sentence));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/emulators/run starts what it needs"]
async fn models_are_built_tested_asked_and_replayed_from_here() {
    let deployed = Deployed::new().await;
    let now = "2025-07-23T12:00:00Z".parse().unwrap();
    let mut catalogue = Catalogue::empty();
    for (id, hours) in [("ak1", 40), ("ak2", 20), ("ak3", 1)] {
        let time = now - TimeDelta::hours(hours);
        let event = Event::new(id, time).magnitude(1.5, "ml").located(60.0, -150.0, 10.0);
        catalogue.add(event.updated(time), time).unwrap();
    }
    let world = World::new(catalogue).await.unwrap();
    world.handle().set_now(now);
    world.tick().await.unwrap();
    deployed.move_in(&world).await;

    let built = deployed.strata(&["build", "--yes"]).await.unwrap();
    assert!(built.contains("gold.fct_earthquakes") && built.contains("billed "), "{built}");
    let events = "select event_id, magnitude from gold.fct_earthquakes order by event_id";
    let answer = deployed.strata(&["query", events, "--format", "csv"]).await.unwrap();
    assert_eq!(answer, "event_id,magnitude\nak1,1.5\nak2,1.5\nak3,1.5\n");
    let removed = deployed.strata(&["query", "delete from gold.fct_earthquakes where true"]).await.unwrap_err();
    assert!(
        matches!(removed, Problem::Failed(_)) && removed.to_string().contains("only queries are answered"),
        "{removed}"
    );
    let tested = deployed.strata(&["test", "--yes"]).await.unwrap();
    assert!(tested.contains("fct_earthquakes") && !tested.contains("FAILS"), "{tested}");

    let status = deployed.strata(&["status", "--format", "json"]).await.unwrap();
    let status: Value = serde_json::from_str(&status).unwrap();
    let dataset = &status["datasets"][0];
    assert_eq!((&dataset["rows_in"], &dataset["reconciles"]), (&json!(3), &json!(true)), "{status}");
    assert_ne!(dataset["cost"]["bytes_billed"], Value::Null, "{status}");
    assert_eq!((&status["dead_letters"], &status["environment"]), (&Value::Null, &json!("test")));
    let rows = |name: &str| status["tables"].as_array().unwrap().iter().find(|it| it["table"] == name).unwrap();
    assert_eq!(rows("gold.fct_earthquakes")["rows"], 3);

    let land = deployed.subscribe("land", Topic::Captures).await;
    let day: NaiveDate = "2025-07-22".parse().unwrap();
    let said = deployed.strata(&["replay", "earthquakes", "--day", &day.to_string(), "--yes"]).await.unwrap();
    assert_eq!(said.lines().count(), 2, "the capture, and the partition: {said}");
    let again = LandAgain { dataset: "earthquakes".to_owned(), partitions: vec![day.to_string().parse().unwrap()] };
    let messages = deployed.take(&land, 2).await;
    assert!(messages.iter().any(|message| message["data"] == data(&again)), "{messages:?}");
}
