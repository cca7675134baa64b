//! The services as processes: each delivery is one of its own, which may die at any call.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use chrono::DateTime;
use embedded::Embedded;
use fetch::{Client, Fetch};
use land::Land;
use shared::bus::Bus;
use shared::clock::{Clock, SharedClock, Timestamp};
use shared::dataset::Registry;
use shared::function::router;
use shared::message::Topic;
use shared::store::Store;
use shared::warehouse::Warehouse;
use tokio::task::JoinHandle;
use tower::ServiceExt;
use transform::Transform;
use transform::run::Runner;
use usgs_simulator::{Catalogue, Running, Simulator};

use super::chance::Chance;
use super::light::{Called, Light};
use super::ports::Ports;
use super::post::MOST_ATTEMPTS;
use super::turns::Seat;
use super::world::{DATASET, Models, World};

/// So many deliveries may be under way at once.
pub(crate) const MOST_AT_ONCE: usize = 5;
/// More steps than any schedule that comes to rest.
const MOST_STEPS: usize = 50_000;
/// A delivery that neither stops nor ends within this real time hangs.
const HANG: Duration = Duration::from_secs(60);

/// A machine's clock: minutes off, with randomness of its own.
pub(crate) struct Skewed {
    pub(crate) now: Arc<AtomicI64>,
    pub(crate) off: i64,
    pub(crate) random: Mutex<Chance>,
}

impl Clock for Skewed {
    fn now(&self) -> Timestamp {
        DateTime::from_timestamp_millis(self.now.load(Ordering::Relaxed) + self.off).unwrap()
    }

    fn random(&self) -> u128 {
        self.random.lock().unwrap().bits()
    }
}

/// A message that is being handled.
pub(crate) struct Delivery {
    letter: usize,
    /// Which of the bench's clients is its own.
    client: usize,
    task: JoinHandle<(StatusCode, String)>,
}

/// What schedules share one after another because it takes long to set up: a source, and its clients, of which each
/// delivery has one to itself.
pub(crate) struct Bench {
    pub(crate) source: Running,
    clients: Vec<Client>,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let source = Simulator::builder(Catalogue::empty()).build().serve().await.unwrap();
        let settings = fetch::Settings {
            addresses: [(DATASET.to_owned(), source.base_url())].into(),
            spacing: Some(Duration::ZERO),
            failure_cache: Some(Duration::ZERO),
            patience: None,
            contact: None,
        };
        let clients = (0..MOST_AT_ONCE).map(|_| Client::new(settings.clone()).unwrap()).collect();
        Self { source, clients }
    }
}

impl World<'_> {
    /// The same message once more, although an earlier delivery of it is under way: its deadline has passed.
    pub(crate) fn redeliver(&mut self) {
        let under_way: Vec<usize> = self.deliveries.values().map(|delivery| delivery.letter).collect();
        let letter = self.chance.pick(&under_way);
        self.faults -= 1;
        self.note(format!("m{letter} is late and due again"));
        self.post.letters()[letter].due = true;
    }

    pub(crate) fn deliver(&mut self, due: &[usize]) {
        let letter = self.chance.pick(due);
        let (topic, envelope) = self.post.open(letter);
        let number = self.started;
        self.started += 1;
        self.now.fetch_add(50, Ordering::Relaxed);
        let content = String::from_utf8_lossy(&self.post.letters()[letter].parcel.data).into_owned();
        self.note(format!("#{number} handles m{letter} of {topic}: {content}"));
        let taken: Vec<usize> = self.deliveries.values().map(|delivery| delivery.client).collect();
        let client = (0..MOST_AT_ONCE).find(|client| !taken.contains(client)).unwrap();
        let service = self.service(topic, number, client);
        let turns = Arc::clone(&self.turns);
        let task = tokio::spawn(async move {
            let mut handling = pin!(async move {
                let answer = service.oneshot(Request::post("/").body(Body::from(envelope)).unwrap()).await.unwrap();
                let status = answer.status();
                let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
                (status, String::from_utf8_lossy(&body).into_owned())
            });
            let ended = poll_fn(|context| {
                turns.polled();
                handling.as_mut().poll(context)
            });
            let ended = ended.await;
            turns.stopped();
            ended
        });
        self.deliveries.insert(number, Delivery { letter, client, task });
    }

    /// A process of its own, with a clock of its own.
    fn service(&mut self, topic: Topic, number: usize, client: usize) -> Router {
        let seat = Seat::new(&self.turns, number);
        let ports = Ports::new(seat.clone(), self.store.clone(), Arc::clone(&self.post), self.setup.sabotage);
        let off = match self.setup.models {
            Models::Light => self.chance.between(-600_000, 600_000),
            // This warehouse runs on one machine.
            Models::Embedded(_) => 0,
        };
        let random = Mutex::new(self.chance.fork());
        let clock: SharedClock = Arc::new(Skewed { now: Arc::clone(&self.now), off, random });
        let (store, bus): (Arc<dyn Store>, Arc<dyn Bus>) = (Arc::new(ports.clone()), Arc::new(ports.clone()));
        let warehouse: Arc<dyn Warehouse> = match self.setup.models {
            Models::Light => Arc::new(Light { seat, tables: self.tables.clone(), store: self.store.clone() }),
            Models::Embedded(_) => {
                let inner = Embedded::new(Arc::clone(&store), Arc::clone(&clock));
                Arc::new(Called { seat, inner })
            }
        };
        let datasets = Registry::new([Arc::clone(&self.dataset)]);
        match topic {
            Topic::FetchRequests => {
                let client = self.bench.clients[client].clone();
                router(Fetch::new(datasets, client, store, bus, Arc::clone(&clock)), clock)
            }
            Topic::Captures => router(Land::new(datasets, store, warehouse, bus, Arc::clone(&clock)), clock),
            Topic::Partitions | Topic::Publications => {
                let runner = Runner::new(Arc::clone(&self.runner), warehouse);
                router(Transform::new(runner, store, bus, Arc::clone(&clock)), clock)
            }
        }
    }

    pub(crate) async fn crash(&mut self, number: usize) {
        let Some(delivery) = self.deliveries.remove(&number) else { return };
        delivery.task.abort();
        // It is gone when this returns.
        let _ = delivery.task.await;
        self.turns.forget(number);
        self.post.letters()[delivery.letter].due = true;
    }

    /// Waits until every delivery waits for its turn, is dead or has ended, and sees to those that have.
    pub(crate) async fn settle(&mut self) -> Result<(), String> {
        self.quiet().await?;
        for dead in self.turns.take_dead() {
            self.note(format!("#{dead} has died"));
            self.crash(dead).await;
        }
        let ended: Vec<usize> =
            self.deliveries.iter().filter(|(_, delivery)| delivery.task.is_finished()).map(|(at, _)| *at).collect();
        for number in ended {
            let delivery = self.deliveries.remove(&number).unwrap();
            let (status, body) = delivery.task.await.map_err(|error| format!("#{number} {error}"))?;
            self.ended(number, delivery.letter, status, &body)?;
        }
        if self.trace.len() > MOST_STEPS { Err("it does not come to rest".to_owned()) } else { Ok(()) }
    }

    fn ended(&mut self, number: usize, at: usize, status: StatusCode, body: &str) -> Result<(), String> {
        let lost = self.faults > 0 && self.chance.one_in(20);
        let mut letters = self.post.letters();
        let letter = &mut letters[at];
        let ending = match status {
            _ if status.is_success() && lost => {
                letter.due = true;
                "done, and its acknowledgement is lost"
            }
            _ if status.is_success() => {
                letter.acknowledged = true;
                letter.due = false;
                "done"
            }
            _ if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                letter.due |= !letter.acknowledged;
                body.clone_into(&mut letter.error);
                "to be sent again"
            }
            _ => {
                letter.acknowledged = true;
                letter.due = false;
                letter.dead = Some(body.to_owned());
                "given up"
            }
        };
        let (poison, dead, tried) = (letter.poison, letter.dead.is_some(), letter.attempts);
        drop(letters);
        self.faults -= usize::from(lost && status.is_success());
        self.note(format!("#{number} m{at} {ending} {status} {body}"));
        if dead && !poison {
            return Err(format!("message m{at} was given up: {body}"));
        }
        if tried > MOST_ATTEMPTS { Err(format!("message m{at} fails again and again: {body}")) } else { Ok(()) }
    }

    /// Waits until nothing moves any more.
    pub(crate) async fn quiet(&self) -> Result<(), String> {
        loop {
            let (mut calm, mut polls) = (0, self.turns.polls());
            while calm < 3 {
                tokio::task::yield_now().await;
                let now = self.turns.polls();
                calm = if now == polls { calm + 1 } else { 0 };
                polls = now;
            }
            let dead = self.turns.dead();
            let moves = |(number, delivery): (&usize, &Delivery)| {
                !delivery.task.is_finished() && !self.turns.has(*number) && !dead.contains(number)
            };
            let Some(moving) = self.deliveries.iter().find(|entry| moves((entry.0, entry.1))) else { return Ok(()) };
            // It talks to the source, or computes.
            if tokio::time::timeout(HANG, self.turns.stop()).await.is_err() {
                return Err(format!("#{} neither stops nor ends", moving.0));
            }
        }
    }
}
