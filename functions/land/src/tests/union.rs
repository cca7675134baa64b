//! Captures of a union: what bronze, quarantine, the raw table, messages and the ledger hold after them.

use std::sync::Arc;

use shared::capture::Encoding;
use shared::function::Failure;
use shared::ledger::Outcome;
use shared::message::{LandedPartition, PartitionsLanded};
use shared::store::{Directory, Precondition};

use super::world::{World, answer, gzip};

const A: &str = "a,2025-07-24T00:00:01.000Z,2025-07-24T01:00:00.000Z,1.5";
const A_REVISED: &str = "a,2025-07-24T00:00:01.000Z,2025-07-24T02:00:00.000Z,1.6";
const B: &str = "b,2025-07-25T00:00:01.000Z,,2.5";
const C: &str = "c,2025-07-24T00:00:00.500Z,,";

async fn three_captures(world: &World) {
    world.land("events", 0, &answer(&[A, B])).await;
    world.land("events", 60, &answer(&[A_REVISED, C])).await;
    world.land("events", 120, &answer(&[B])).await;
}

#[tokio::test]
async fn bronze_is_the_set_of_row_versions_each_with_its_latest_observation() {
    let folder = tempfile::tempdir().unwrap();
    for world in [World::new(), World::on(Arc::new(Directory::open(folder.path()).unwrap()))] {
        three_captures(&world).await;

        let bronze = world.bronze().await;
        let day = [
            "c|1753315200500|-|-|1753315260000|20250724T000100Z-000000000000003d",
            "a|1753315201000|1753318800000|1.5|1753315200000|20250724T000000Z-0000000000000001",
            "a|1753315201000|1753322400000|1.6|1753315260000|20250724T000100Z-000000000000003d",
        ];
        let mut found = bronze["date=2025-07-24"].clone();
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!(found[0], day[0], "by time, then by key and row hash");
        found[1..].sort();
        assert_eq!(found[1..], day[1..]);
        let next = ["b|1753401601000|-|2.5|1753315320000|20250724T000200Z-0000000000000079"];
        assert_eq!(bronze["date=2025-07-25"], next);
        assert_eq!(world.raw("events"), bronze);
        assert!(world.names("quarantine/").await.is_empty());
    }
}

#[tokio::test]
async fn what_changed_is_published_with_its_generation_and_recorded() {
    let world = World::new();
    three_captures(&world).await;

    let sent = world.sent::<PartitionsLanded>();
    let shown: Vec<Vec<_>> = sent.iter().map(|message| message.partitions.iter().map(show).collect()).collect();
    assert_eq!(shown, [vec!["2025-07-24 1", "2025-07-25 1"], vec!["2025-07-24 3"], vec!["2025-07-25 1"]]);
    let object = "bronze/events/date=2025-07-24/events.parquet";
    let generation = world.store.head(object).await.unwrap().unwrap().generation;
    assert_eq!(sent[1].partitions[0].generation, generation);
    let ledger = world.ledger("events").await;
    let counts: Vec<_> = ledger.iter().map(|record| (record.rows_in, record.rows_kept, &record.outcome)).collect();
    assert_eq!(counts, [(2, 2, &Outcome::Done), (2, 2, &Outcome::Done), (1, 1, &Outcome::Done)]);
    assert_eq!((ledger[1].outputs[0].name.as_str(), ledger[1].outputs[0].rows), (object, 3));
    assert_eq!((ledger[1].run.as_str(), ledger[1].stage.as_str()), ("00000000000000000000000000000003", "land"));
    assert!(ledger[1].inputs[0].starts_with("raw/events/2025/07/24/20250724T000100Z-"));
}

fn show(landed: &LandedPartition) -> String {
    format!("{} {}", landed.partition, landed.rows)
}

#[tokio::test]
async fn an_observation_between_the_first_and_the_latest_changes_nothing() {
    let world = World::new();
    world.land("events", 60, &answer(&[A, B])).await;
    world.land("events", 0, &answer(&[B, A])).await;
    let before = world.store.list("bronze/").await.unwrap();

    world.land("events", 30, &answer(&[B, A])).await;

    assert_eq!(world.store.list("bronze/").await.unwrap(), before, "no object was written");
    assert_eq!(*world.warehouse.loads.lock().unwrap(), [2, 2]);
    assert_eq!(world.sent::<PartitionsLanded>().len(), 2);
    let ledger = world.ledger("events").await;
    let quiet = ledger.iter().find(|record| record.outcome == Outcome::Nothing).unwrap();
    assert_eq!((quiet.rows_in, quiet.rows_kept, quiet.outputs.len()), (2, 2, 2));
}

#[tokio::test]
async fn order_does_not_matter_to_a_byte() {
    let answers = [(0, answer(&[A, B])), (60, answer(&[A_REVISED, C, A])), (120, answer(&[B, C]))];
    let mut ends = Vec::new();
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [1, 0, 2]] {
        let world = World::new();
        for at in order {
            world.land("events", answers[at].0, &answers[at].1).await;
        }
        let mut objects = Vec::new();
        for name in world.names("bronze/").await {
            objects.push((name.clone(), world.store.get(&name).await.unwrap().unwrap().bytes));
        }
        ends.push(objects);
    }
    assert!(ends.iter().all(|end| *end == ends[0]));
}

#[tokio::test]
async fn a_redelivery_leaves_everything_as_it_was() {
    let world = World::new();
    let capture = world.land("events", 0, &answer(&[A, "x", B])).await;
    let objects = world.store.list("bronze/").await.unwrap();
    let (record, quarantined) = (world.ledger("events").await, world.text(&capture.quarantine("events")).await);

    world.deliver("events", &capture).await.unwrap();

    assert_eq!(world.store.list("bronze/").await.unwrap(), objects);
    assert_eq!(world.ledger("events").await, record);
    assert_eq!(world.text(&capture.quarantine("events")).await, quarantined);
    assert_eq!(world.warehouse.loads.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn gzip_in_several_members_lands_like_plain_text() {
    let text = answer(&[A, B]);
    let (head, tail) = text.as_bytes().split_at(40);
    let packed = [gzip(head), gzip(tail)].concat();
    let world = World::new();

    let manifest = world.manifest("events", 0, &packed, Encoding::Gzip, 2).await;
    world.deliver("events", &manifest.capture).await.unwrap();

    let plain = World::new();
    plain.land("events", 0, &text).await;
    assert_eq!(world.bronze().await, plain.bronze().await);
}

#[tokio::test]
async fn rows_that_cannot_be_read_are_set_aside_with_reason_and_origin() {
    let world = World::new();
    let mut text = answer(&[
        A,
        "b,2025-07-25T00:00:01.000Z,",
        "c,yesterday,,2.5",
        "d,2025-07-25T00:00:01.000Z,,NaN",
        ",2025-07-25T00:00:01.000Z,,1",
    ])
    .into_bytes();
    text.extend_from_slice(b"\xff,2025-07-25T00:00:01.000Z,,1\n");
    text.extend_from_slice(A_REVISED.as_bytes());
    text.push(b'\n');

    let manifest = world.manifest("events", 0, &text, Encoding::Identity, 7).await;
    world.deliver("events", &manifest.capture).await.unwrap();

    let lines = world.text(&manifest.capture.quarantine("events")).await;
    let found: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let place = |line: u64, column: Option<&str>, reason: &str, raw: &str| {
        serde_json::json!({
            "dataset": "events", "capture": manifest.capture, "object": manifest.answers[0].object, "line": line,
            "column": column, "reason": reason, "raw": raw,
        })
    };
    let mut not_text = place(7, Some("id"), "it is not UTF-8", "\u{fffd},2025-07-25T00:00:01.000Z,,1");
    not_text["raw_base64"] = "/ywyMDI1LTA3LTI1VDAwOjAwOjAxLjAwMFosLDE=".into();
    let expected = [
        place(3, None, "it has 3 fields instead of 4", "b,2025-07-25T00:00:01.000Z,"),
        place(4, Some("time"), "'yesterday' is not a time (2024-03-13T15:13:23.771Z)", "c,yesterday,,2.5"),
        place(5, Some("magnitude"), "'NaN' is not a number", "d,2025-07-25T00:00:01.000Z,,NaN"),
        place(6, Some("id"), "it is blank", ",2025-07-25T00:00:01.000Z,,1"),
        not_text,
    ];
    assert_eq!(found, expected);
    assert_eq!(world.bronze().await["date=2025-07-24"].len(), 2);
    let record = &world.ledger("events").await[0];
    assert_eq!((record.rows_in, record.rows_kept, record.rows_quarantined), (7, 2, 5));
}

#[tokio::test]
async fn an_answer_without_rows_does_nothing_but_say_so() {
    let world = World::new();
    world.land("events", 0, &answer(&[])).await;
    assert!(world.names("bronze/").await.is_empty());
    assert!(world.sent::<PartitionsLanded>().is_empty());
    assert_eq!(world.ledger("events").await[0].outcome, Outcome::Nothing);
}

#[tokio::test]
async fn a_damaged_bronze_object_is_poison_that_names_the_remedy() {
    let object = "bronze/events/date=2025-07-24/events.parquet";
    let damages: [fn(&mut Vec<u8>); 4] = [
        |bytes| bytes.truncate(bytes.len() / 2),
        |bytes| bytes.clear(),
        |bytes| bytes[40] ^= 1,
        |bytes| *bytes = b"not parquet at all".to_vec(),
    ];
    for damage in damages {
        let world = World::new();
        world.land("events", 0, &answer(&[A])).await;
        let mut bytes = world.store.get(object).await.unwrap().unwrap().bytes.to_vec();
        damage(&mut bytes);
        world.store.put(object, bytes.into(), Precondition::None).await.unwrap();
        let before = world.store.list("bronze/").await.unwrap();

        let capture = world.capture("events", 60, &answer(&[C])).await;
        let failure = world.deliver("events", &capture).await.unwrap_err();

        let Failure::Poison(text) = &failure else { panic!("{failure:?}") };
        assert!(text.starts_with(&format!("{object} is damaged (")), "{text}");
        assert!(text.ends_with("): `strata replay events --day 2025-07-24` rebuilds it from raw"), "{text}");
        assert_eq!(world.store.list("bronze/").await.unwrap(), before, "nothing was overwritten");
    }
}
