//! Answers that are refused whole, and messages that can never succeed.

use shared::capture::{CaptureId, Encoding};
use shared::function::Failure;
use shared::ledger::Outcome;
use shared::message::{FetchRequest, Topic};
use shared::store::Precondition;
use shared::trace::TRACEPARENT;

use super::ports::Fault;
use super::world::{ASK, World, answer, gzip, version};

const ROW: &str = "a,2025-07-24T00:00:01.000Z,,1.5";

/// Delivers an answer that must be refused; returns the recorded reason.
async fn refusal(world: &World, capture: &CaptureId) -> String {
    world.deliver("events", capture).await.unwrap();
    assert!(world.names("bronze/").await.is_empty() && world.names("quarantine/").await.is_empty());
    assert!(world.raw("events").is_empty());
    let request = FetchRequest { dataset: "events".into(), ask: ASK };
    assert_eq!(world.sent::<FetchRequest>(), [request], "it is fetched again");
    let record = world.ledger("events").await.remove(0);
    assert_eq!((record.rows_in, record.rows_kept, record.outputs.len()), (0, 0, 0));
    let Outcome::Refused { reason } = record.outcome else { panic!("{:?}", record.outcome) };
    assert!(!reason.contains('\n'), "{reason}");
    reason
}

async fn refused(bytes: &[u8], encoding: Encoding, rows: u64) -> String {
    let world = World::new();
    let manifest = world.manifest("events", 0, bytes, encoding, rows).await;
    refusal(&world, &manifest.capture).await
}

#[tokio::test]
async fn an_answer_that_is_not_the_table_is_refused() {
    let whole = answer(&[ROW, ROW]);
    let reason = refused(&whole.as_bytes()[..whole.len() - 3], Encoding::Identity, 2).await;
    assert!(reason.starts_with("the answer is torn: it ends within line 3"), "{reason}");
    let reason = refused(whole.replacen("updated", "changed", 1).as_bytes(), Encoding::Identity, 2).await;
    assert!(reason.contains("expected header of 4 columns but with 'id,time,changed,magnitude'"), "{reason}");
    assert_eq!(refused(b"", Encoding::Identity, 0).await, "the answer is empty");
    let reason = refused(whole.as_bytes(), Encoding::Identity, 3).await;
    assert!(reason.ends_with("has 2 rows, and 3 were stored"), "{reason}");
    let reason = refused(whole.as_bytes(), Encoding::Gzip, 2).await;
    assert!(reason.starts_with("the answer is torn: its gzip is damaged"), "{reason}");
}

#[tokio::test]
async fn gzip_that_ends_anywhere_but_at_its_end_is_refused() {
    let packed = gzip(answer(&[ROW]).as_bytes());
    for length in 0..packed.len() {
        refused(&packed[..length], Encoding::Gzip, 1).await;
    }
}

#[tokio::test]
async fn an_answer_that_has_changed_since_it_was_stored_is_refused() {
    let text = answer(&[ROW]);
    for (bytes, expected) in [
        (text.replace("1.5", "9.5"), "its checksum is "),
        (text.replace("1.5", "11.5"), "it has 59 bytes, and 58 were stored"),
        (text.replace("id,time", "time,id"), "its checksum is "),
    ] {
        let world = World::new();
        let capture = world.capture("events", 0, &text).await;
        let object = format!("{}/answer.csv", capture.folder("events"));
        world.store.put(&object, bytes.into(), Precondition::None).await.unwrap();
        let reason = refusal(&world, &capture).await;
        assert!(reason.contains(&format!("the answer {object} is damaged: {expected}")), "{reason}");
    }
    let world = World::new();
    let capture = world.capture("events", 0, &text).await;
    let object = format!("{}/answer.csv", capture.folder("events"));
    world.store.delete(&object, Precondition::None).await.unwrap();
    assert_eq!(refusal(&world, &capture).await, format!("the answer {object} is missing"));
}

/// Whatever an attempt got done before it died, it is in the raw table and published in the end, also when the answer is
/// damaged before the message comes again.
#[tokio::test]
async fn damage_between_two_attempts_hides_no_change() {
    for (dataset, text) in [("events", answer(&[ROW])), ("results", version(&["2018,ann,50", "2019,bob,50"]))] {
        let counted = World::new();
        counted.land(dataset, 0, &text).await;
        for at in 0..counted.faults.calls() {
            let world = World::new();
            let capture = world.capture(dataset, 0, &text).await;
            world.faults.plan(at, Fault::Before);
            if world.deliver(dataset, &capture).await.is_ok() {
                continue;
            }
            world.faults.clear();
            let object = format!("{}/answer.csv", capture.folder(dataset));
            world.store.put(&object, "torn".into(), Precondition::None).await.unwrap();
            world.deliver(dataset, &capture).await.unwrap();
            let written = world.names(&format!("bronze/{dataset}/")).await;
            assert_eq!(
                written.iter().any(|name| complete(name)),
                !world.raw(dataset).is_empty(),
                "call {at}: {written:?}"
            );
            let changed = world.warehouse.ever_changed.lock().unwrap().clone();
            assert!(world.published().is_superset(&changed), "call {at}");
        }
    }
}

/// Whether readers of bronze look at it, or follow it.
fn complete(name: &str) -> bool {
    name.ends_with("/events.parquet") || name.ends_with("/current.json")
}

#[tokio::test]
async fn a_request_for_a_refused_answer_belongs_to_the_same_run() {
    let world = World::new();
    world.land("events", 0, "nonsense\n").await;
    let sent = world.bus.sent.lock().unwrap();
    assert_eq!(sent[0].0, Topic::FetchRequests);
    assert!(sent[0].1.attributes[TRACEPARENT].starts_with("00-00000000000000000000000000000003-"));
}

#[tokio::test]
async fn a_refused_file_that_a_person_brought_is_not_fetched() {
    let world = World::new();
    let mut manifest = world.manifest("results", 0, version(&["x"]).as_bytes(), Encoding::Identity, 1).await;
    manifest.ask = None;
    let name = manifest.capture.manifest("results");
    world.store.put(&name, serde_json::to_vec(&manifest).unwrap().into(), Precondition::None).await.unwrap();
    world.deliver("results", &manifest.capture).await.unwrap();
    assert!(world.bus.sent.lock().unwrap().is_empty());
    assert!(matches!(world.ledger("results").await[0].outcome, Outcome::Refused { .. }));
}

#[tokio::test]
async fn a_message_that_can_never_succeed_is_poison_and_says_what_is_wrong() {
    let world = World::new();
    let capture = world.capture("events", 0, &answer(&[ROW])).await;
    let name = capture.manifest("events");
    let poison = async |dataset: &str| match world.deliver(dataset, &capture).await {
        Err(Failure::Poison(text)) => text,
        other => panic!("{other:?}"),
    };

    assert_eq!(poison("tides").await, "unknown dataset 'tides': there are events, results");
    let missing = format!("there is no capture {capture}: {} is missing", capture.manifest("results"));
    assert_eq!(poison("results").await, missing);
    world.store.put(&name, "{".into(), Precondition::None).await.unwrap();
    let text = poison("events").await;
    assert!(text.contains(&name) && text.contains("damaged"), "{text}");
    let other = world.manifest("events", 60, b"", Encoding::Identity, 0).await;
    world.store.put(&name, serde_json::to_vec(&other).unwrap().into(), Precondition::None).await.unwrap();
    assert_eq!(poison("events").await, format!("{name} is damaged: it speaks of {} of events", other.capture));
    assert!(world.bus.sent.lock().unwrap().is_empty() && world.names("bronze/").await.is_empty());
}
