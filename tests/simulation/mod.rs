//! The whole pipeline under thousands of schedules: the real services on ports whose every call waits for its turn, a
//! simulated source, and faults. A schedule is a pure function of its seed: which message is delivered next, twice or
//! late, whose call goes on, what is lost, who dies. After each, what must hold is checked; a failure prints the seed
//! and the steps.
//!
//! `STRATA_SEED=17 cargo test --workspace --test suite simulation` runs one schedule again;
//! `STRATA_SCHEDULES=100000 cargo test --workspace --test suite simulation` runs many.

mod acts;
mod chance;
mod invariants;
mod light;
mod loads;
mod ports;
mod post;
mod processes;
mod proofs;
mod rows;
mod story;
mod turns;
mod witness;
mod world;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;

use tokio::runtime::Runtime;
use transform::project::Project;

use processes::Bench;
use world::{Models, Outcome, Setup, run};

/// How many schedules run unless `STRATA_SCHEDULES` says otherwise.
const SCHEDULES: u64 = 2000;
/// The source remembers all requests, so it is replaced after so many schedules.
const PER_TABLE: u32 = 500;
/// One in so many runs the shipped models on the laptop's warehouse, which takes seconds in place of milliseconds.
const SHIPPED_EVERY: u64 = 200;

fn shipped() -> Models {
    static PROJECT: OnceLock<Arc<Project>> = OnceLock::new();
    Models::Embedded(Arc::clone(PROJECT.get_or_init(|| Arc::new(Project::embedded().unwrap()))))
}

fn setup(seed: u64) -> Setup {
    Setup::whole(if seed % SHIPPED_EVERY == SHIPPED_EVERY - 1 { shipped() } else { Models::Light })
}

/// Where schedules are run, one after another.
struct Table {
    runtime: Runtime,
    bench: Bench,
    left: u32,
}

impl Table {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let bench = runtime.block_on(Bench::new());
        Self { runtime, bench, left: PER_TABLE }
    }

    /// Runs a schedule to its end.
    fn play(&mut self, seed: u64, setup: &Setup) -> Outcome {
        if self.left == 0 {
            *self = Self::new();
        }
        self.left -= 1;
        self.runtime.block_on(run(seed, setup, &self.bench))
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number")))
}

/// The seeds to run: one, or so many, or the usual number.
fn seeds(usual: u64) -> Range<u64> {
    match number("STRATA_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("STRATA_SCHEDULES").unwrap_or(usual),
    }
}

fn report(seed: u64, violation: &str, trace: &[String]) -> String {
    let steps: Vec<_> = trace.iter().map(|step| step.chars().take(300).collect::<String>()).collect();
    format!("seed {seed}: {violation}\nrun it again with STRATA_SEED={seed}; its steps:\n{}", steps.join("\n"))
}

/// Words of the trace for what must happen in many schedules, lest they show nothing.
const HAPPENS: [&str; 24] = [
    "-> DieBefore",
    "-> Verdict(FailBefore)",
    "-> Verdict(FailAfter)",
    "-> Verdict(Phantom)",
    "-> Verdict(Echo)",
    "-> Verdict(DieAfter)",
    "comes second to bronze/",
    "comes second to state/",
    "is late and due again",
    "its acknowledgement is lost",
    "given up",
    "to be sent again",
    "\"kind\":\"updates\"",
    "write quarantine/",
    "act: Damage",
    "act: RollBackCursor",
    "act: LoseCursor",
    "act: ReplayBronze",
    "act: Sweep",
    "\"kind\":\"recent\"",
    "write state/earthquakes/windows/",
    "brings a tombstone",
    "is made of answers of different times",
    "is superseded",
];

/// How often each of these happened.
type Tally = [u64; HAPPENS.len()];

fn count(tally: &mut Tally, trace: &[String]) {
    for (count, words) in tally.iter_mut().zip(HAPPENS) {
        *count += trace.iter().filter(|step| step.contains(words)).count() as u64;
    }
}

/// The first of these seeds with which something is found, and what. On all cores, each with what `begin` gives it.
fn first_found<S, T: Send>(
    seeds: Range<u64>,
    begin: impl Fn() -> S + Sync,
    play: impl Fn(&mut S, u64) -> Option<T> + Sync,
) -> Option<(u64, T)> {
    let (next, found) = (AtomicU64::new(seeds.start), Mutex::new(None::<(u64, T)>));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let mut state = begin();
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let Some(it) = play(&mut state, seed) else { continue };
                    let mut found = found.lock().unwrap();
                    if found.as_ref().is_none_or(|(first, _)| seed < *first) {
                        stop.store(true, Ordering::Relaxed);
                        *found = Some((seed, it));
                    }
                }
            });
        }
    });
    found.into_inner().unwrap()
}

/// What is wrong, and the steps that led to it.
type Violation = (String, Vec<String>);

/// The first of these schedules that ends in a violation.
fn first_violation(seeds: Range<u64>, setup: impl Fn(u64) -> Setup + Sync) -> (Option<(u64, Violation)>, Tally) {
    let tally = Mutex::new(Tally::default());
    let found = first_found(seeds, Table::new, |table, seed| {
        let Outcome { violation, trace, .. } = table.play(seed, &setup(seed));
        count(&mut tally.lock().unwrap(), &trace);
        Some((violation?, trace))
    });
    (found, tally.into_inner().unwrap())
}

#[test]
fn schedules_end_as_the_source_has_it() {
    let seeds = seeds(SCHEDULES);
    let many = seeds.end - seeds.start >= SCHEDULES;
    let (violation, tally) = first_violation(seeds, setup);
    if let Some((seed, (violation, trace))) = violation {
        panic!("{}", report(seed, &violation, &trace));
    }
    let never: Vec<_> = HAPPENS.iter().zip(tally).filter(|(_, count)| *count == 0).collect();
    assert!(!many || never.is_empty(), "this never happened: {never:?}");
}

#[test]
fn a_schedule_is_a_function_of_its_seed() {
    let mut table = Table::new();
    for seed in 0..10 {
        let setup = Setup::whole(Models::Light);
        let [first, again] = [table.play(seed, &setup), table.play(seed, &setup)];
        assert!(first.trace == again.trace, "seed {seed}: {:#?}\nand then\n{:#?}", first.trace, again.trace);
    }
}
