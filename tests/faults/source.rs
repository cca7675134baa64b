//! A source that refuses, breaks off, lies about success, or never ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::TimeDelta;
use shared::clock::{Clock, SharedClock, System, Timestamp};
use shared::dataset::Ask;
use tests::World;
use usgs_simulator::{Catalogue, Column, Event, Fault, HeaderFault, Recorded};

use crate::pipeline::incremental::equals_a_rebuild;

fn query(request: &Recorded) -> bool {
    request.path().ends_with("/query")
}

/// Events half an hour apart, over a month.
fn events(count: i32) -> Catalogue {
    let mut catalogue = Catalogue::empty();
    for number in 0..count {
        let time = "2025-06-25T00:00:00Z".parse::<Timestamp>().unwrap() + TimeDelta::minutes(28) * number;
        let event = Event::new(&format!("ak{number}"), time).magnitude(1.0, "ml").located(60.0, -150.0, 10.0);
        catalogue.add(event.updated(time), time).unwrap();
    }
    catalogue
}

fn csv(request: &Recorded) -> bool {
    query(request) && request.target.contains("format=csv")
}

/// With this fault on the first requests, which are for details, all events arrive all the same.
async fn heals(fault: Fault, times: usize) {
    heals_on(query, fault, times).await;
}

async fn heals_on(which: fn(&Recorded) -> bool, fault: Fault, times: usize) {
    let name = format!("{fault:?}");
    let world = World::new(events(1500)).await.unwrap();
    world.handle().fault(fault.when(which).times(times));
    world.tick().await.unwrap();
    assert_eq!(world.handle().faults_waiting(), 0, "{name} happened");
    assert_eq!(world.dead().await.unwrap().len(), 0, "{name}");
    let counts = "select count(*), count(distinct event_id) from fct_earthquakes";
    assert_eq!(world.query(counts).await.unwrap(), ["1500,1500"], "{name}");
    let ledger = world.ledger("earthquakes").await.unwrap();
    let refused = ledger.iter().map(|record| record.rows_quarantined).sum::<u64>();
    assert_eq!(refused, 0, "{name}: nothing of a refused answer is landed");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_pass() {
    heals(Fault::too_many_requests(None), 1).await;
    heals(Fault::status(503), 1).await;
    heals(Fault::status(503), 2).await;
    heals(Fault::status(504), 2).await;
    heals(Fault::status(500), 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_not_whole_are_fetched_again() {
    heals_on(csv, Fault::HtmlWith200, 2).await;
    heals_on(csv, Fault::Truncated { bytes: 100_000 }, 2).await;
    heals_on(csv, Fault::Truncated { bytes: 0 }, 1).await;
    heals_on(csv, Fault::ErrorTextAppended, 2).await;
    heals_on(csv, Fault::WrongHeader(Column::Depth, HeaderFault::Missing), 1).await;
    heals_on(csv, Fault::WrongHeader(Column::Depth, HeaderFault::Renamed("deep".to_owned())), 1).await;
    heals_on(csv, Fault::ConnectionReset { after: 5_000 }, 2).await;
    heals_on(csv, Fault::EndlessBody, 1).await;
    heals(Fault::Truncated { bytes: 100_000 }, 2).await;
    heals(Fault::ErrorTextAppended, 1).await;
    heals(Fault::EndlessBody, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_take_too_long_are_asked_for_in_smaller_parts() {
    for fault in [Fault::Stall, Fault::SlowBody { chunk: 100, delay: Duration::from_millis(50) }] {
        // The whole of it is answered in a small part of that, or never.
        let patience = Some(Duration::from_secs(5));
        let world = World::with(events(300), |parts| parts.client.patience = patience).await.unwrap();
        world.handle().fault(fault.when(query));
        world.tick().await.unwrap();
        assert_eq!(world.dead().await.unwrap().len(), 0);
        let asked: Vec<_> = world.handle().requests().into_iter().filter(query).collect();
        assert_eq!(asked.len(), 7, "a question about the month, then three about each half of it");
        assert_eq!(asked[1].parameter("endtime"), asked[4].parameter("starttime"));
        let counts = "select count(*), count(distinct event_id) from fct_earthquakes";
        assert_eq!(world.query(counts).await.unwrap(), ["300,300"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_events_for_one_answer_are_fetched_in_parts() {
    let catalogue = Catalogue::from_path(tests::MONTH).unwrap();
    let source = usgs_simulator::Simulator::builder(catalogue).limit(3000).build().serve().await.unwrap();
    let parts = tests::parts(&source.base_url()).unwrap();
    let store = shared::store::Memory::default();
    let pipeline = strata::pipeline::Pipeline::new(std::sync::Arc::new(store.clone()), &parts, "test").unwrap();
    let ask = Ask::Tick { days: 30, sweep: false };
    let request = shared::message::FetchRequest { dataset: "earthquakes".to_owned(), ask };
    pipeline.send(&request).await.unwrap();
    pipeline.bus.idle().await;
    assert_eq!(pipeline.bus.dead(), [] as [String; 0]);
    let counts = "select count(*), count(distinct event_id) from fct_earthquakes";
    assert_eq!(tests::query(&pipeline, counts).await.unwrap(), ["11146,11146"]);
    let asked = source.handle().requests().len();
    assert!((5..30).contains(&asked), "{asked} requests for four answers' worth of events");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_keeps_refusing_leaves_a_dead_letter_and_the_next_tick_heals() {
    let world = World::month().await.unwrap();
    world.tick().await.unwrap();
    world.handle().advance(Duration::from_secs(1800));
    world.handle().fault(Fault::status(500).times(usize::MAX));
    world.tick().await.unwrap();
    let dead = world.dead().await.unwrap();
    assert_eq!(dead.len(), 1);
    assert!(dead[0].error.contains("500"), "{}", dead[0].error);
    world.handle().clear_faults();
    world.tick().await.unwrap();
    assert_eq!(world.dead().await.unwrap().len(), 1);
    assert_eq!(world.query("select count(*) from fct_earthquakes").await.unwrap(), ["11146"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_spaced() {
    let spacing = Duration::from_millis(40);
    let world = World::with(Catalogue::empty(), |parts| parts.client.spacing = Some(spacing)).await.unwrap();
    let began = std::time::Instant::now();
    world.tick().await.unwrap();
    world.tick().await.unwrap();
    let asked: Vec<_> = world.handle().requests().into_iter().map(|request| request.at).collect();
    // Each arrives some time after it was sent, so the first one is counted from before it was.
    assert!(asked[asked.len() - 1] - began >= spacing * (asked.len() as u32 - 1), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_the_source_asks_for_is_given() {
    let world = World::new(Catalogue::empty()).await.unwrap();
    world.handle().fault(Fault::too_many_requests(Some("1")).when(query));
    world.tick().await.unwrap();
    assert_eq!(world.dead().await.unwrap().len(), 0);
    let asked: Vec<_> = world.handle().requests().into_iter().map(|request| request.at).collect();
    assert_eq!(asked.len(), 6, "its clock, the refusal, its clock again, the three answers");
    assert!(asked[2] - asked[1] >= Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_failed_is_not_asked_again_while_the_failure_is_cached() {
    let cached = Duration::from_secs(1);
    let change = |parts: &mut strata::pipeline::Parts| parts.client.failure_cache = Some(cached);
    let world = World::with(Catalogue::empty(), change).await.unwrap();
    world.handle().fault(Fault::HtmlWith200.when(query));
    let (start, end) = ("2025-07-01T00:00:00Z".parse().unwrap(), "2025-07-02T00:00:00Z".parse().unwrap());
    world.ask(Ask::Range { start, end }).await.unwrap();
    assert_eq!(world.dead().await.unwrap().len(), 0);
    let asked: Vec<_> = world.handle().requests().into_iter().map(|request| request.at).collect();
    assert_eq!(asked.len(), 4, "the message came again at once, the request did not; then the three answers");
    assert!(asked[1] - asked[0] >= cached);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_cut_off_between_two_rows_is_asked_for_again() {
    let mut catalogue = Catalogue::empty();
    for id in ["ak1", "ak2", "ak3"] {
        let time = "2025-07-20T00:00:00Z".parse().unwrap();
        catalogue
            .add(Event::new(id, time).magnitude(1.0, "ml").located(60.0, -150.0, 10.0).updated(time), time)
            .unwrap();
    }
    let first_row = Event::new("ak1", "2025-07-20T00:00:00Z".parse().unwrap()).to_row();
    let world = World::new(catalogue).await.unwrap();
    let cut = format!("{}\n{first_row}\n", usgs_simulator::HEADER);
    world.handle().fault(Fault::RawBody(cut.into()).when(|it| it.target.contains("format=csv")).times(2));
    world.tick().await.unwrap();
    assert_eq!((world.handle().faults_waiting(), world.dead().await.unwrap().len()), (0, 0));
    assert_eq!(world.query("select count(*) from fct_earthquakes").await.unwrap(), ["3"]);
    equals_a_rebuild(&world).await;
}

/// A clock of ours that can be put forward.
#[derive(Default)]
struct Ahead(AtomicI64);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        System.now() + TimeDelta::hours(self.0.load(Ordering::SeqCst))
    }

    fn random(&self) -> u128 {
        System.random()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_whose_message_is_given_up_is_asked_for_again_hours_later() {
    let clock = Arc::new(Ahead::default());
    let mut catalogue = Catalogue::empty();
    for (id, time) in [("ak1", "2025-05-10T00:00:00Z"), ("ak2", "2025-07-20T00:00:00Z")] {
        let time = time.parse().unwrap();
        catalogue
            .add(Event::new(id, time).magnitude(1.0, "ml").located(60.0, -150.0, 10.0).updated(time), time)
            .unwrap();
    }
    let world = World::with(catalogue, |parts| parts.clock = Arc::clone(&clock) as SharedClock).await.unwrap();
    let open = async || shared::window::all(&world.store, "earthquakes").await.unwrap().len();
    // A first run of 90 days is three parts, of which the one with the first event fails for good.
    world.handle().fault(Fault::status(500).when(|it| it.target.contains("endtime=2025-05")).times(usize::MAX));
    world.ask(Ask::Tick { days: 90, sweep: false }).await.unwrap();
    assert_eq!((world.dead().await.unwrap().len(), open().await), (1, 1));
    let events = "select event_id from fct_earthquakes order by event_id";
    assert_eq!(world.query(events).await.unwrap(), ["ak2"]);
    world.handle().clear_faults();
    world.tick().await.unwrap();
    assert_eq!(world.query(events).await.unwrap(), ["ak2"], "its message may still be on its way");
    clock.0.store(7, Ordering::SeqCst);
    world.tick().await.unwrap();
    assert_eq!(world.query(events).await.unwrap(), ["ak1", "ak2"]);
    assert_eq!(open().await, 0);
}
