//! One schedule: the services on simulated ports, a source, a story, and the choices between what could happen next.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use shared::dataset::{Ask, Dataset};
use shared::datasets::Earthquakes;
use shared::store::Memory;
use transform::project::Project;
use usgs_simulator::Handle;

use super::chance::Chance;
use super::light::{self, Tables};
use super::ports::Sabotage;
use super::post::Post;
use super::processes::{Bench, Delivery, MOST_AT_ONCE};
use super::story::{Act, Story};
use super::turns::{Kind, Turns, Verdict};
use super::witness::Witness;

pub(crate) const DATASET: &str = "earthquakes";
pub(crate) const CURSOR: &str = "state/earthquakes/cursor.json";
/// A window that is open for so many milliseconds is overdue by every machine's clock.
const LONGEST_WINDOW: i64 = 7 * 3_600_000;

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

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strike {
    None,
    /// The process dies before the call does anything.
    DieBefore,
    Verdict(Verdict),
}

/// The world of one schedule.
pub(crate) struct World<'a> {
    pub(crate) bench: &'a Bench,
    pub(crate) chance: Chance,
    pub(crate) story: Story,
    pub(crate) setup: Setup,
    pub(crate) dataset: Arc<dyn Dataset>,
    pub(crate) store: Memory,
    pub(crate) tables: Tables,
    pub(crate) post: Arc<Post>,
    pub(crate) witness: Witness,
    /// The cursor's, milliseconds since 1970, unless it was tampered with since.
    pub(crate) watermark: Option<i64>,
    pub(crate) runner: Arc<Project>,
    pub(crate) turns: Arc<Turns>,
    pub(crate) now: Arc<AtomicI64>,
    pub(crate) deliveries: BTreeMap<usize, Delivery>,
    pub(crate) started: usize,
    pub(crate) most_at_once: usize,
    /// How many faults are still to come.
    pub(crate) faults: usize,
    pub(crate) trace: Vec<String>,
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
        // The project of two models does not know what is superseded.
        let merges = matches!(setup.models, Models::Embedded(_));
        let mut story = Story::new(&mut chance.fork(), setup.ties, merges);
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
            watermark: None,
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

    pub(crate) fn note(&mut self, step: impl Into<String>) {
        self.trace.push(step.into());
    }

    pub(crate) fn source(&self) -> Handle {
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
        self.complete(false).await?;
        self.note("the sweep, when windows that are still open are overdue");
        self.now.fetch_add(LONGEST_WINDOW, Ordering::Relaxed);
        self.ask(Ask::Tick { days: 30, sweep: true });
        self.drain().await?;
        self.consistent().await?;
        self.complete(true).await?;
        self.windows_are_closed().await?;
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
        self.trace.extend(self.turns.take_notes());
        let Some(name) = what.strip_prefix("write ") else { return Ok(()) };
        if name.starts_with("raw/") && name.ends_with("/manifest.json") {
            let said = self.witness.stored(&self.store, name).await;
            self.trace.extend(said.into_iter().map(|said| format!("{name} {said}")));
        } else if name == CURSOR {
            self.cursor_is_behind().await?;
        }
        Ok(())
    }
}
