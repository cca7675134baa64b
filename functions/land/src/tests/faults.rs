//! A failure or a death at every single call of a port, conflicts, echoes and rivals: the end is always the same.

use std::collections::BTreeMap;

use bytes::Bytes;
use shared::capture::CaptureId;
use shared::function::Failure;
use shared::ledger;
use shared::message::FetchRequest;

use super::ports::Fault;
use super::world::{World, answer, events, version};
use crate::bronze;
use crate::merge::merge;
use shared::dataset::Dataset;

/// What must be the same in the end, whatever happened on the way.
#[derive(Debug, PartialEq)]
struct End {
    bronze: BTreeMap<String, Bytes>,
    quarantine: BTreeMap<String, Bytes>,
    raw: BTreeMap<String, Vec<String>>,
    ledger: Vec<ledger::Record>,
}

async fn objects(world: &World, prefix: &str) -> BTreeMap<String, Bytes> {
    let mut found = BTreeMap::new();
    for name in world.names(prefix).await {
        // Generations differ from run to run, and these say them.
        if !name.ends_with(".json") {
            found.insert(name.clone(), world.store.get(&name).await.unwrap().unwrap().bytes);
        }
    }
    found
}

async fn end(world: &World, dataset: &str) -> End {
    // Whatever was changed in the raw table was published, also if the attempt that changed it died.
    assert!(world.published().is_superset(&world.warehouse.ever_changed.lock().unwrap()));
    End {
        bronze: objects(world, "bronze/").await,
        quarantine: objects(world, "quarantine/").await,
        raw: world.raw(dataset),
        ledger: world.ledger(dataset).await,
    }
}

struct Story {
    dataset: &'static str,
    before: String,
    after: String,
}

fn stories() -> [Story; 3] {
    let row = |id: &str, day: u32, magnitude: &str| format!("{id},2025-07-{day}T00:00:01.000Z,,{magnitude}");
    let rows = |rows: &[String]| answer(&rows.iter().map(String::as_str).collect::<Vec<_>>());
    let before = rows(&[row("a", 24, "1"), row("b", 25, "1"), row("c", 25, "2")]);
    let later: Vec<_> = (24..29).flat_map(|day| [row("b", day, "1"), row("d", day, "3")]).collect();
    let later = rows(&[&later[..], &["broken".to_owned(), row("e", 24, "1")]].concat());
    let versions = version(&["2018,ann,50", "broken", "2019,bob,50", "2018,eve,50", "2019,kim,50", "2020,eve,50"]);
    [
        Story { dataset: "events", before: before.clone(), after: later },
        Story { dataset: "events", before, after: "nonsense\n".to_owned() },
        Story { dataset: "results", before: version(&["2017,zoe,50", "2018,ann,50"]), after: versions },
    ]
}

/// The world before the capture of which we speak. The bound makes several flushes of it.
async fn begin(story: &Story) -> (World, CaptureId) {
    let world = World::new().bounded(4);
    world.land(story.dataset, 0, &story.before).await;
    let capture = world.capture(story.dataset, 60, &story.after).await;
    (world, capture)
}

#[tokio::test]
async fn whichever_call_fails_or_is_the_last_before_death_a_redelivery_ends_the_same() {
    for story in stories() {
        let (world, capture) = begin(&story).await;
        world.faults.plan(usize::MAX, Fault::Before);
        world.deliver(story.dataset, &capture).await.unwrap();
        let calls = world.faults.calls();
        let expected = end(&world, story.dataset).await;
        assert!(calls > 5, "{calls}");
        for fault in [Fault::Before, Fault::After] {
            for at in 0..calls {
                let (world, capture) = begin(&story).await;
                world.faults.plan(at, fault);
                let failure = world.deliver(story.dataset, &capture).await.expect_err("the call failed");
                assert!(matches!(failure, Failure::Transient(_)), "{fault:?} {at}: {failure:?}");
                world.faults.clear();
                world.deliver(story.dataset, &capture).await.unwrap();
                assert_eq!(end(&world, story.dataset).await, expected, "{} {fault:?} {at}", story.dataset);
                let requests = world.sent::<FetchRequest>().len();
                assert!(if story.after == "nonsense\n" { requests > 0 } else { requests == 0 });
            }
        }
    }
}

#[tokio::test]
async fn the_echo_of_our_own_write_is_no_conflict() {
    for story in stories() {
        let (world, capture) = begin(&story).await;
        world.faults.plan(usize::MAX, Fault::Phantom);
        world.deliver(story.dataset, &capture).await.unwrap();
        let calls = world.faults.calls();
        let expected = end(&world, story.dataset).await;
        for at in 0..calls {
            let (world, capture) = begin(&story).await;
            world.faults.plan(at, Fault::Phantom);
            world.deliver(story.dataset, &capture).await.unwrap();
            assert_eq!(end(&world, story.dataset).await, expected, "{} {at}", story.dataset);
        }
    }
}

#[tokio::test]
async fn a_partition_that_another_wrote_meanwhile_is_merged_again() {
    let [one, two] = ["a,2025-07-24T00:00:01.000Z,,1", "b,2025-07-24T00:00:01.000Z,,2"];
    let name = "bronze/events/date=2025-07-24/events.parquet";
    let rival = World::new();
    rival.land("events", 0, &answer(&[one])).await;
    let bytes = rival.store.get(name).await.unwrap().unwrap().bytes;

    let world = World::new();
    *world.faults.rival.lock().unwrap() = Some(bytes.clone());
    world.land("events", 60, &answer(&[two])).await;

    let both = World::new();
    both.land("events", 60, &answer(&[two])).await;
    let other = both.store.get(name).await.unwrap().unwrap().bytes;
    let (dataset, schema) = (events(), events().table().schema());
    let sets = [bytes, other].map(|bytes| bronze::read(bytes, &schema).unwrap());
    let union = bronze::write(&merge(dataset.table(), &sets).unwrap()).unwrap();
    assert_eq!(world.store.get(name).await.unwrap().unwrap().bytes, union);
    assert_eq!(world.raw("events")["date=2025-07-24"].len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_landings_of_overlapping_captures_lose_nothing() {
    let row = |id: usize| format!("e{id},2025-07-{}T00:00:01.000Z,,{id}", 20 + id % 7);
    let text = |ids: std::ops::Range<usize>| {
        let rows: Vec<_> = ids.map(row).collect();
        answer(&rows.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let answers = [text(0..30), text(20..50), text(10..40)];
    let apart = World::new();
    for (at, text) in (0..).zip(&answers) {
        apart.land("events", at, text).await;
    }
    for _ in 0..10 {
        let world = std::sync::Arc::new(World::new().bounded(16));
        let mut landings = Vec::new();
        for (at, text) in (0..).zip(&answers) {
            let capture = world.capture("events", at, text).await;
            let world = std::sync::Arc::clone(&world);
            landings.push(tokio::spawn(async move {
                // Pub/Sub sends again what lost too many races.
                while let Err(failure) = world.deliver("events", &capture).await {
                    assert!(matches!(failure, Failure::Transient(_)), "{failure:?}");
                }
            }));
        }
        for landing in landings {
            landing.await.unwrap();
        }
        assert_eq!(objects(&world, "bronze/").await, objects(&apart, "bronze/").await);
        assert_eq!(world.raw("events"), world.bronze().await);
        assert!(world.published().is_superset(&world.warehouse.ever_changed.lock().unwrap()));
    }
}
