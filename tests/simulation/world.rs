//! One schedule: the services on simulated ports, a source, a story, and the choices between what could happen next.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use chrono::{DateTime, TimeDelta};
use embedded::Embedded;
use fetch::{Client, Fetch};
use land::Land;
use shared::bus::Bus;
use shared::clock::{Clock, SharedClock, Timestamp};
use shared::dataset::{Ask, Dataset, Registry};
use shared::datasets::Earthquakes;
use shared::function::router;
use shared::message::{CaptureStored, FetchRequest, LandAgain, Mode, PartitionsLanded, Topic};
use shared::partition::Partition;
use shared::store::{Memory, Precondition, Store};
use shared::warehouse::Warehouse;
use tokio::task::JoinHandle;
use tower::ServiceExt;
use transform::Transform;
use transform::project::Project;
use transform::run::Runner;
use usgs_simulator::{Catalogue, Handle, Running, Simulator};

use super::chance::Chance;
use super::light::{self, Called, Light, Tables};
use super::ports::{Ports, Sabotage};
use super::post::{MOST_ATTEMPTS, Post};
use super::story::{Act, Story};
use super::turns::{Kind, Seat, Turns, Verdict};
use super::witness::Witness;

pub(crate) const DATASET: &str = "earthquakes";
pub(crate) const CURSOR: &str = "state/earthquakes/cursor.json";
/// So many deliveries may be under way at once.
const MOST_AT_ONCE: usize = 5;
/// More steps than any schedule that comes to rest.
const MOST_STEPS: usize = 50_000;
/// A delivery that neither stops nor ends within this real time hangs.
const HANG: Duration = Duration::from_secs(60);

/// What runs the models.
#[derive(Clone)]
pub(crate) enum Models {
    /// In memory, a project of two.
    Light,
    /// DataFusion, with this project.
    Embedded(Arc<Project>),
}

/// What a schedule is run with, apart from its seed.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) models: Models,
    pub(crate) sabotage: Option<Sabotage>,
    /// Whether answers of the same second are frequent.
    pub(crate) ties: bool,
    /// The only fault that strikes calls, and more often; `None` for any.
    pub(crate) only: Option<Verdict>,
}

impl Setup {
    /// All safeguards are there.
    pub(crate) fn whole(models: Models) -> Self {
        Self { models, sabotage: None, ties: false, only: None }
    }
}

/// How a schedule ended.
pub(crate) struct Outcome {
    /// What was violated, in one sentence.
    pub(crate) violation: Option<String>,
    /// What happened, step by step.
    pub(crate) trace: Vec<String>,
}

/// A machine's clock: minutes off, with randomness of its own.
struct Skewed {
    now: Arc<AtomicI64>,
    off: i64,
    random: Mutex<Chance>,
}

impl Clock for Skewed {
    fn now(&self) -> Timestamp {
        DateTime::from_timestamp_millis(self.now.load(Ordering::Relaxed) + self.off).unwrap()
    }

    fn random(&self) -> u128 {
        self.random.lock().unwrap().bits()
    }
}

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strike {
    None,
    /// The process dies before the call does anything.
    DieBefore,
    Verdict(Verdict),
}

struct Delivery {
    letter: usize,
    /// Which of the bench's clients is its own.
    client: usize,
    task: JoinHandle<(StatusCode, String)>,
}

/// What schedules share one after another because it takes long to set up: a source, and its clients, of which each
/// delivery has one to itself.
pub(crate) struct Bench {
    source: Running,
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

/// The world of one schedule.
pub(crate) struct World<'a> {
    bench: &'a Bench,
    chance: Chance,
    pub(crate) story: Story,
    pub(crate) setup: Setup,
    pub(crate) dataset: Arc<dyn Dataset>,
    pub(crate) store: Memory,
    pub(crate) tables: Tables,
    pub(crate) post: Arc<Post>,
    pub(crate) witness: Witness,
    runner: Arc<Project>,
    turns: Arc<Turns>,
    now: Arc<AtomicI64>,
    deliveries: BTreeMap<usize, Delivery>,
    started: usize,
    most_at_once: usize,
    /// How many faults are still to come.
    faults: usize,
    trace: Vec<String>,
}

fn light_project() -> Arc<Project> {
    static PROJECT: OnceLock<Arc<Project>> = OnceLock::new();
    Arc::clone(PROJECT.get_or_init(|| Arc::new(light::project())))
}

/// Runs the schedule of a seed.
pub(crate) async fn run(seed: u64, setup: &Setup, bench: &Bench) -> Outcome {
    let mut world = World::new(seed, setup, bench);
    let violation = world.play().await.err();
    Outcome { violation, trace: world.trace }
}

impl<'a> World<'a> {
    fn new(seed: u64, setup: &Setup, bench: &'a Bench) -> Self {
        let mut chance = Chance::new(seed);
        let mut story = Story::new(&mut chance.fork(), setup.ties);
        let source = bench.source.handle();
        source.edit(|catalogue| *catalogue = story.take_catalogue());
        source.clear_faults();
        source.set_now(story.start);
        let now = Arc::new(AtomicI64::new(story.start.timestamp_millis()));
        let dataset: Arc<dyn Dataset> = Arc::new(Earthquakes::default());
        Self {
            bench,
            story,
            setup: setup.clone(),
            witness: Witness::new(Arc::clone(&dataset)),
            dataset,
            store: Memory::default(),
            tables: Tables::default(),
            post: Arc::new(Post::new(Arc::clone(&now))),
            runner: match &setup.models {
                Models::Light => light_project(),
                Models::Embedded(project) => Arc::clone(project),
            },
            turns: Arc::default(),
            now,
            deliveries: BTreeMap::new(),
            started: 0,
            most_at_once: chance.below(MOST_AT_ONCE) + 1,
            faults: chance.pick(&[0, 2, 5, 10, 20]),
            trace: Vec::new(),
            chance,
        }
    }

    fn note(&mut self, step: impl Into<String>) {
        self.trace.push(step.into());
    }

    fn source(&self) -> Handle {
        self.bench.source.handle()
    }

    async fn play(&mut self) -> Result<(), String> {
        let mut acts = self.story.acts.clone().into_iter();
        loop {
            // A choice between all that could happen next.
            let (calls, due) = (self.turns.len(), self.post.due());
            let room = self.deliveries.len() < self.most_at_once && !due.is_empty();
            let choices = [
                (12 * usize::from(calls > 0), 0),
                (5 * usize::from(room), 1),
                (usize::from(acts.len() > 0), 2),
                (usize::from(self.faults > 0 && !self.deliveries.is_empty()), 3),
            ];
            if choices.iter().all(|(weight, _)| *weight == 0) {
                break;
            }
            match self.chance.weighted(&choices) {
                0 => self.answer(true).await?,
                1 => self.deliver(&due),
                2 => match acts.next().unwrap() {
                    Act::Rest => self.drain().await?,
                    act => self.act(act).await,
                },
                _ => self.redeliver(),
            }
            self.settle().await?;
        }
        self.faults = 0;
        self.source().clear_faults();
        self.drain().await?;
        self.note("everything is delivered");
        self.consistent().await?;
        self.note("the last tick");
        self.source().set_now(self.story.end);
        self.ask(Ask::Tick { days: 30, sweep: false });
        self.drain().await?;
        self.consistent().await?;
        self.complete().await?;
        self.rebuilt().await
    }

    /// Delivers what is due, without faults, until nothing is.
    pub(crate) async fn drain(&mut self) -> Result<(), String> {
        loop {
            self.settle().await?;
            let due = self.post.due();
            let room = self.deliveries.len() < self.most_at_once && !due.is_empty();
            let calls = self.turns.len();
            match self.chance.weighted(&[(1, 2), (12 * usize::from(calls > 0), 0), (5 * usize::from(room), 1)]) {
                0 => self.answer(false).await?,
                1 => self.deliver(&due),
                _ if calls == 0 && !room => return Ok(()),
                _ => (),
            }
        }
    }

    /// Sends a message as an operator does.
    pub(crate) fn rebuild(&mut self) {
        let run = self.chance.bits();
        let message = PartitionsLanded { dataset: DATASET.to_owned(), partitions: Vec::new(), mode: Mode::FullRefresh };
        self.post.send(&message, run);
    }

    fn ask(&mut self, ask: Ask) {
        let run = self.chance.bits();
        self.post.send(&FetchRequest { dataset: DATASET.to_owned(), ask }, run);
    }

    async fn act(&mut self, act: Act) {
        self.note(format!("act: {act:?}"));
        match act {
            Act::Tick(after) | Act::TwoTicks(after) => {
                self.source().advance(Duration::from_millis(u64::try_from(after).unwrap()));
                self.now.fetch_add(after, Ordering::Relaxed);
                let times = if matches!(act, Act::TwoTicks(_)) { 2 } else { 1 };
                for _ in 0..times {
                    self.ask(Ask::Tick { days: 30, sweep: false });
                }
            }
            Act::Backfill(back, hours) => {
                let start = self.source().now() - TimeDelta::hours(back);
                self.ask(Ask::Range { start, end: start + TimeDelta::hours(hours) });
            }
            Act::ReplayRaw => {
                let captures = self.witness.captures();
                if !captures.is_empty() {
                    let capture = self.chance.pick(&captures).parse().unwrap();
                    let run = self.chance.bits();
                    self.post.send(&CaptureStored { dataset: DATASET.to_owned(), capture }, run);
                }
            }
            Act::ReplayBronze => {
                let days: Vec<Partition> = self.bronze_days().await;
                if !days.is_empty() {
                    let partitions = vec![self.chance.pick(&days)];
                    let run = self.chance.bits();
                    self.post.send(&LandAgain { dataset: DATASET.to_owned(), partitions }, run);
                }
            }
            Act::Rebuild => {
                if self.raw_is_there().await {
                    self.rebuild();
                }
            }
            Act::RollBackCursor => {
                if let Some(content) = self.witness.cursor(&mut self.chance) {
                    self.store.put(CURSOR, content, Precondition::None).await.unwrap();
                }
            }
            Act::LoseCursor => self.store.delete(CURSOR, Precondition::None).await.unwrap(),
            Act::Damage => {
                let captures = self.witness.captures();
                if !captures.is_empty() {
                    let capture = self.chance.pick(&captures);
                    let object = self.witness.damage(&capture);
                    let whole = self.store.get(&object).await.unwrap().unwrap().bytes;
                    let torn = whole.slice(..self.chance.below(whole.len().max(1)));
                    self.store.put(&object, torn, Precondition::None).await.unwrap();
                }
            }
            Act::Rest => (),
            Act::Refuse(fault, times) => self.source().fault(fault.times(times)),
            Act::Poison => {
                let topic = self.chance.pick(&[Topic::FetchRequests, Topic::Captures, Topic::Partitions]);
                let data = self.chance.pick(&[
                    "",
                    "{\"dataset\": 7}",
                    "{\"dataset\": \"volcanoes\", \"capture\": \"20250723T151200Z-0123456789abcdef\", \
                     \"ask\": {\"kind\": \"tick\", \"days\": 30}, \"partitions\": []}",
                ]);
                self.post.poison(topic, data);
            }
        }
    }

    /// The same message once more, although an earlier delivery of it is under way: its deadline has passed.
    fn redeliver(&mut self) {
        let under_way: Vec<usize> = self.deliveries.values().map(|delivery| delivery.letter).collect();
        let letter = self.chance.pick(&under_way);
        self.faults -= 1;
        self.note(format!("m{letter} is late and due again"));
        self.post.letters()[letter].due = true;
    }

    fn deliver(&mut self, due: &[usize]) {
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

    /// Lets one of the calls that wait go on.
    async fn answer(&mut self, faults: bool) -> Result<(), String> {
        let at = self.chance.below(self.turns.len());
        let call = self.turns.take(at);
        self.now.fetch_add(20, Ordering::Relaxed);
        let verdict = if faults && self.faults > 0 { self.strike(call.kind) } else { Strike::None };
        let (what, delivery) = (call.what.clone(), call.delivery);
        self.faults -= usize::from(verdict != Strike::None);
        match verdict {
            Strike::None => self.trace.push(call.to_string()),
            struck => self.trace.push(format!("{call} -> {struck:?}")),
        }
        match verdict {
            Strike::DieBefore => {
                drop(call);
                self.crash(delivery).await;
                return Ok(());
            }
            Strike::None => call.answer(Verdict::Go),
            Strike::Verdict(verdict) => call.answer(verdict),
        }
        self.after(&what).await
    }

    /// Decides what goes wrong with a call.
    fn strike(&mut self, kind: Kind) -> Strike {
        let possible: &[_] = match kind {
            Kind::Read => &[Strike::DieBefore, Strike::Verdict(Verdict::FailBefore)],
            Kind::Write => &[
                Strike::DieBefore,
                Strike::Verdict(Verdict::FailBefore),
                Strike::Verdict(Verdict::FailAfter),
                Strike::Verdict(Verdict::DieAfter),
            ],
            Kind::Conditional => &[
                Strike::DieBefore,
                Strike::Verdict(Verdict::FailBefore),
                Strike::Verdict(Verdict::FailAfter),
                Strike::Verdict(Verdict::DieAfter),
                Strike::Verdict(Verdict::Phantom),
                Strike::Verdict(Verdict::Echo),
            ],
        };
        match self.setup.only.map(Strike::Verdict) {
            Some(only) if possible.contains(&only) && self.chance.one_in(3) => only,
            None if self.chance.one_in(8) => self.chance.pick(possible),
            _ => Strike::None,
        }
    }

    /// Looks at what an effect has left.
    async fn after(&mut self, what: &str) -> Result<(), String> {
        self.quiet().await?;
        let Some(name) = what.strip_prefix("write ") else { return Ok(()) };
        if name.starts_with("raw/") && name.ends_with("/manifest.json") {
            self.witness.stored(&self.store, name).await;
        } else if name == CURSOR {
            self.cursor_is_behind().await?;
        }
        Ok(())
    }

    async fn crash(&mut self, number: usize) {
        let Some(delivery) = self.deliveries.remove(&number) else { return };
        delivery.task.abort();
        // It is gone when this returns.
        let _ = delivery.task.await;
        self.turns.forget(number);
        self.post.letters()[delivery.letter].due = true;
    }

    /// Waits until every delivery waits for its turn, is dead or has ended, and sees to those that have.
    async fn settle(&mut self) -> Result<(), String> {
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
    async fn quiet(&self) -> Result<(), String> {
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
