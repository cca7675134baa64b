//! A deployment of its own in the emulators: what Terraform makes in the cloud, and the services' programs.
//!
//! Every message that is published here is known, and so is when all of them are handled: each topic has a second
//! subscription, which is pulled, and whatever a service publishes is there before its push is answered.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use cloud::config::Environment;
use cloud::{BigQuery, Bucket, PubSub, RETRIES};
use serde_json::{Value, json};
use shared::bus::{Bus, publish};
use shared::clock::{System, Timestamp};
use shared::message::{Message, Parcel, Topic};
use shared::store::Store;
use shared::trace::Trace;
use shared::warehouse::Warehouse;

use super::gate::{ACCOUNT, Answer, Gate};
use super::program::{Program, Service};
use crate::emulators::{DATASETS, emulators, make, make_bucket, make_datasets, make_topic, own};

/// Longer than a run of everything takes.
const PATIENCE: Duration = Duration::from_secs(240);
/// The fewest that Pub/Sub takes.
const ATTEMPTS: u32 = 5;
/// The name of the topic of dead letters, and of its subscription.
const DEAD_LETTERS: &str = "dead-letters";

/// A message that is known, and how often a service must have taken it before all is done.
struct Known {
    topic: Topic,
    service: Option<Service>,
    published: Timestamp,
    due: usize,
}

/// An environment in the emulators.
pub(super) struct Deployment {
    pub(super) environment: Environment,
    pub(super) store: Arc<dyn Store>,
    pub(super) warehouse: Arc<dyn Warehouse>,
    pub(super) gate: Gate,
    bus: PubSub,
    client: reqwest::Client,
    source: String,
    programs: BTreeMap<Service, Program>,
    /// What programs logged that have ended.
    past: Vec<(Service, Vec<Value>)>,
    known: Mutex<BTreeMap<String, Known>>,
}

impl Deployment {
    /// An environment of its own in which nothing is made. `source` stands for the USGS service.
    pub(super) async fn new(source: &str) -> Self {
        let emulators = emulators();
        let all = emulators.storage.is_some() && emulators.pubsub.is_some() && emulators.bigquery.is_some();
        assert!(all, "the emulators are started by tests/emulators/run");
        let environment = Environment::new(&own("emulated"), "test", emulators).unwrap();
        let store = Bucket::connect(environment.bucket.clone(), &environment.emulators, RETRIES).await.unwrap();
        let store: Arc<dyn Store> = Arc::new(store);
        let bus = PubSub::connect(environment.topics.clone(), &environment.emulators, RETRIES).await.unwrap();
        let warehouse = BigQuery::connect(&environment, Arc::clone(&store), Arc::new(System), RETRIES).await.unwrap();
        Self {
            store,
            warehouse: Arc::new(warehouse),
            gate: Gate::new().await,
            bus,
            client: reqwest::Client::new(),
            source: source.to_owned(),
            programs: BTreeMap::new(),
            past: Vec::new(),
            known: Mutex::default(),
            environment,
        }
    }

    /// A whole environment with its three services.
    pub(super) async fn start(source: &str) -> Self {
        let mut this = Self::new(source).await;
        this.make_bucket().await;
        this.make_datasets().await;
        this.make_topics().await;
        this.make_subscriptions().await;
        for service in Service::ALL {
            this.run(service).await;
        }
        this
    }

    pub(super) async fn make_bucket(&self) {
        let Environment { project, bucket, .. } = &self.environment;
        make_bucket(project, &bucket.to_string()).await;
    }

    pub(super) async fn make_datasets(&self) {
        make_datasets(&self.environment.project, &DATASETS).await;
    }

    pub(super) async fn make_topics(&self) {
        for topic in Topic::ALL {
            make_topic(&self.environment.topics.path(topic)).await;
        }
        make_topic(&self.dead_letters()).await;
    }

    async fn make_subscriptions(&self) {
        for topic in Topic::ALL {
            let watched = json!({ "topic": self.environment.topics.path(topic), "ackDeadlineSeconds": 600 });
            make(self.client.put(self.subscription(&watch_of(topic))), &watched).await;
        }
        let dead = json!({ "topic": self.dead_letters(), "ackDeadlineSeconds": 600 });
        make(self.client.put(self.subscription(DEAD_LETTERS)), &dead).await;
        for service in Service::ALL {
            let pushed = json!({
                "topic": self.environment.topics.path(service.topic()),
                "pushConfig": { "pushEndpoint": format!("http://{}/{}", self.gate.address, service.name()) },
                "ackDeadlineSeconds": 600,
                "retainAckedMessages": true,
                "messageRetentionDuration": "604800s",
                // With a retry policy beside it, the emulator loses dead letters.
                "deadLetterPolicy": { "deadLetterTopic": self.dead_letters(), "maxDeliveryAttempts": ATTEMPTS },
            });
            make(self.client.put(self.subscription(service.name())), &pushed).await;
        }
    }

    fn dead_letters(&self) -> String {
        format!("projects/{}/topics/strata-{}-{DEAD_LETTERS}", self.environment.project, self.environment.name)
    }

    fn pubsub(&self, resource: &str) -> String {
        format!("{}/v1/{resource}", self.environment.emulators.pubsub.as_ref().unwrap().as_str())
    }

    fn subscription(&self, name: &str) -> String {
        self.pubsub(&self.environment.subscription(name))
    }

    /// Starts a service; what is pushed goes to it.
    pub(super) async fn run(&mut self, service: Service) {
        let variables = [
            ("STRATA_PROJECT", self.environment.project.clone()),
            ("STRATA_ENV", self.environment.name.clone()),
            ("STRATA_PUSH_AUDIENCE", service.audience()),
            ("STRATA_PUSH_ACCOUNT", ACCOUNT.to_owned()),
            ("STRATA_PUSH_JWKS", format!("http://{}/keys", self.gate.address)),
            ("STRATA_USGS_URL", self.source.clone()),
        ];
        let emulators =
            ["STORAGE_EMULATOR_HOST", "STORAGE_EMULATOR_GRPC_HOST", "PUBSUB_EMULATOR_HOST", "BIGQUERY_EMULATOR_HOST"];
        let emulators = emulators.map(|name| (name, std::env::var(name).unwrap()));
        let program = Program::start(service, &[&variables[..], &emulators[..]].concat()).await;
        self.gate.open(service, Some(program.port));
        self.programs.insert(service, program);
    }

    /// The service's process.
    pub(super) fn program(&self, service: Service) -> &Program {
        &self.programs[&service]
    }

    /// Kills a service. What is pushed from now on waits for the next.
    pub(super) async fn kill(&mut self, service: Service) {
        self.gate.open(service, None);
        let log = self.programs.remove(&service).unwrap().kill().await;
        self.past.push((service, log));
    }

    /// Tells a service to end, and sees that it does as Cloud Run wants it.
    pub(super) async fn end(&mut self, service: Service) {
        self.gate.open(service, None);
        let (status, took, log) = self.programs.remove(&service).unwrap().end().await;
        self.past.push((service, log));
        assert_eq!(status.code(), Some(0));
        assert!(took < Duration::from_secs(10), "Cloud Run would have killed it after 10 s: {took:?}");
    }

    /// Publishes a message. Returns its id.
    pub(super) async fn send<M: Message>(&self, message: &M) -> String {
        publish(&self.bus, message, Trace::start(&System)).await.unwrap()
    }

    /// Publishes what may be no message of ours.
    pub(super) async fn send_raw(&self, topic: Topic, data: &str, attributes: &[(&str, &str)]) -> String {
        let attributes = attributes.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        self.bus.send(topic, Parcel { data: data.to_owned().into(), attributes }).await.unwrap()
    }

    /// Pushes a message to a service with no Pub/Sub between. Returns the status and what was answered.
    pub(super) async fn push<M: Message>(&self, service: Service, message: &M) -> (u16, Value) {
        let parcel = Parcel::pack(message, Trace::start(&System)).unwrap();
        let name = self.environment.subscription(service.name());
        let now = shared::clock::Clock::now(&System);
        let envelope = shared::function::Envelope::new(&name, own("message"), now, 1, &parcel);
        let request = self.client.post(format!("http://127.0.0.1:{}/", self.program(service).port));
        let request = request.header("authorization", self.gate.authorization(service));
        let response = request.body(serde_json::to_string(&envelope).unwrap()).send().await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or(Value::Null))
    }

    /// Takes what lies in a subscription, at once or as soon as there is something.
    async fn pull(&self, name: &str, at_once: bool) -> Vec<Value> {
        let ask = async |verb: &str, body: Value| -> Value {
            let request = self.client.post(format!("{}:{verb}", self.subscription(name)));
            let response =
                request.header("content-type", "application/json").body(body.to_string()).send().await.unwrap();
            let (status, text) = (response.status(), response.text().await.unwrap());
            assert!(status.is_success(), "{status} {text}");
            serde_json::from_str(&text).unwrap()
        };
        let mut pulled = ask("pull", json!({ "returnImmediately": at_once, "maxMessages": 1000 })).await;
        let Some(received) = pulled["receivedMessages"].as_array_mut() else { return Vec::new() };
        let acks: Vec<_> = received.iter().map(|one| one["ackId"].clone()).collect();
        ask("acknowledge", json!({ "ackIds": acks })).await;
        received.iter_mut().map(|one| one["message"].take()).collect()
    }

    /// Gets to know what was published. Returns whether there was anything.
    async fn watch(&self) -> bool {
        let mut any = false;
        for topic in Topic::ALL {
            for message in self.pull(&watch_of(topic), true).await {
                any = true;
                let service = Service::ALL.into_iter().find(|service| service.topic() == topic);
                let published = message["publishTime"].as_str().unwrap().parse().unwrap();
                let id = message["messageId"].as_str().unwrap().to_owned();
                self.known.lock().unwrap().entry(id).or_insert(Known { topic, service, published, due: 1 });
            }
        }
        any
    }

    /// How often each message was taken by its service.
    fn taken(&self) -> BTreeMap<String, usize> {
        let mut taken = BTreeMap::new();
        for push in Service::ALL.into_iter().flat_map(|service| self.gate.pushes(service)) {
            if matches!(push.answer, Answer::Is(status) if status.is_success()) {
                *taken.entry(push.message).or_default() += 1;
            }
        }
        taken
    }

    /// What is not done.
    fn open(&self) -> Vec<String> {
        let busy = Service::ALL.into_iter().filter(|&service| self.gate.is_busy(service));
        let mut open: Vec<String> = busy.map(|service| format!("{} is at work", service.name())).collect();
        let taken = self.taken();
        for (id, known) in &*self.known.lock().unwrap() {
            let taken = taken.get(id).copied().unwrap_or(0);
            if let Some(service) = known.service
                && taken < known.due
            {
                open.push(format!("{} took {id} {taken} times of {}", service.name(), known.due));
            }
        }
        open
    }

    /// Waits until every message that was published is handled, and all that follows from it.
    pub(super) async fn settle(&self) {
        let mut news = self.gate.news();
        let settled = tokio::time::timeout(PATIENCE, async {
            loop {
                news.mark_unchanged();
                let done = self.open().is_empty();
                if self.watch().await {
                    continue;
                }
                if done {
                    return;
                }
                news.changed().await.unwrap();
            }
        });
        assert!(settled.await.is_ok(), "not done: {:#?}", self.open());
    }

    /// How many messages of a topic are known.
    pub(super) fn published(&self, topic: Topic) -> usize {
        self.known.lock().unwrap().values().filter(|known| known.topic == topic).count()
    }

    /// Has a service's subscription deliver everything again that was published since then. Returns how much that is.
    pub(super) async fn seek(&self, service: Service, time: Timestamp) -> usize {
        let mut count = 0;
        let taken = self.taken();
        for (id, known) in &mut *self.known.lock().unwrap() {
            if known.service == Some(service) && known.published >= time {
                known.due = taken[id] + 1;
                count += 1;
            }
        }
        let seek = format!("{}:seek", self.subscription(service.name()));
        make(self.client.post(seek), &json!({ "time": time.to_rfc3339() })).await;
        count
    }

    /// Waits until these messages are dead letters, by id and content. Nobody waits for them any more.
    pub(super) async fn dead(&self, messages: &[(String, &str)]) {
        let mut left: BTreeSet<String> = messages.iter().map(|(_, data)| BASE64.encode(data)).collect();
        let found = tokio::time::timeout(PATIENCE, async {
            while !left.is_empty() {
                for letter in self.pull(DEAD_LETTERS, false).await {
                    assert!(left.remove(letter["data"].as_str().unwrap()), "another dead letter: {letter}");
                }
            }
        });
        assert!(found.await.is_ok(), "no dead letters: {left:?}");
        while self.watch().await {}
        for (id, _) in messages {
            self.known.lock().unwrap().get_mut(id).unwrap().due = 0;
        }
    }

    /// How many operations of each class there were on objects.
    pub(super) async fn object_operations(&self) -> Value {
        let emulator = self.environment.emulators.storage.as_ref().unwrap().http.as_str();
        let counted = self.client.get(format!("{emulator}/operations?bucket={}", self.environment.bucket));
        serde_json::from_str(&counted.send().await.unwrap().text().await.unwrap()).unwrap()
    }

    /// Waits until there is an object in the lake whose content is such.
    pub(super) async fn object(&self, prefix: &str, wanted: impl Fn(&[u8]) -> bool) {
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                for object in self.store.list(prefix).await.unwrap() {
                    if self.store.get(&object.name).await.unwrap().is_some_and(|object| wanted(&object.bytes)) {
                        return;
                    }
                }
            }
        });
        assert!(found.await.is_ok(), "no such object: {prefix}");
    }
}

/// The subscription by which the test knows what is published.
fn watch_of(topic: Topic) -> String {
    format!("watch-{topic}")
}

impl Drop for Deployment {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let running = self.programs.iter().map(|(&service, program)| (service, program.log()));
            let mut text = String::new();
            for (service, log) in self.past.drain(..).chain(running) {
                let _ = writeln!(text, "== {}", service.name());
                for line in log.iter().skip(log.len().saturating_sub(30)) {
                    let _ = writeln!(text, "{line}");
                }
            }
            // The failure is told already; a second one here would hide it.
            let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
        }
    }
}
