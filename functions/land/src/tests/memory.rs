//! Memory is bounded by the bound, not by the answer.

use std::fmt::Write;

use shared::capture::Encoding;
use shared::dataset::Dataset;

use super::world::{World, events, gzip, results};
use crate::answer::Answer;

const ROWS: u64 = 200_000;
/// More rows than one piece of plain text may hold.
const PIECE_ROWS: usize = 1024;

/// In the order of time, but for a day here and there, as a source gives them.
fn many_events() -> String {
    let mut text = "id,time,updated,magnitude\n".to_owned();
    for id in 0..ROWS {
        let (day, second) = (1 + (id * 31 / ROWS + id % 50 / 49) % 31, id % 60);
        writeln!(text, "e{id},2025-07-{day:02}T00:00:{second:02}.000Z,2025-08-01T00:00:00.000Z,1.5").unwrap();
    }
    text
}

#[tokio::test]
async fn a_large_answer_goes_through_in_bounded_batches() {
    let world = World::new().bounded(20_000);
    let manifest = world.manifest("events", 0, &gzip(many_events().as_bytes()), Encoding::Gzip, ROWS).await;

    let landed = world.land.land_union(&events(), &manifest).await.unwrap();

    assert_eq!((landed.counts.rows, landed.counts.quarantined), (ROWS, 0));
    assert!(landed.counts.most_at_once < 20_000 + PIECE_ROWS, "{:?}", landed.counts);
    assert_eq!(landed.changed.iter().map(|landed| landed.rows).sum::<u64>(), ROWS);
    assert_eq!(landed.changed.len(), 31);
}

#[tokio::test]
async fn a_large_version_goes_through_in_bounded_row_groups() {
    let mut text = "year,athlete,km\n".to_owned();
    for id in 0..ROWS {
        writeln!(text, "{},runner {id},50", 1900 + id * 7919 % 100).unwrap();
    }
    let world = World::new().bounded(20_000);
    let manifest = world.manifest("results", 0, text.as_bytes(), Encoding::Identity, ROWS).await;

    let landed = world.land.land_snapshot(&results(), &manifest).await.unwrap();

    assert!(landed.counts.most_at_once < 20_000 + 2 * PIECE_ROWS, "{:?}", landed.counts);
    assert_eq!(landed.outputs.iter().map(|output| output.rows).sum::<u64>(), ROWS);
}

#[tokio::test]
async fn rows_of_ever_new_partitions_count_for_what_they_cost() {
    let mut text = "id,time,updated,magnitude\n".to_owned();
    for day in 0..20_000 {
        let day = chrono::NaiveDate::from_ymd_opt(1950, 1, 1).unwrap() + chrono::Days::new(day);
        writeln!(text, "e,{day}T00:00:00.000Z,,1").unwrap();
    }
    let mut world = World::new();
    world.land.bound.bytes = 1 << 20;
    let manifest = world.manifest("results", 0, text.as_bytes(), Encoding::Identity, 20_000).await;
    let dataset = events();
    let mut rows = crate::rows::Rows::open(&*world.store, &dataset, &manifest, world.land.bound).await.unwrap();
    let mut given = 0;
    while let Some(batches) = rows.next().await.unwrap() {
        given += batches.len();
    }
    assert_eq!(given, 20_000);
    assert!(rows.finish().await.unwrap().most_at_once < 1000 + PIECE_ROWS);
}

#[tokio::test]
async fn a_little_gzip_that_becomes_much_text_comes_in_small_pieces() {
    let world = World::new();
    let packed = gzip(&vec![b'x'; 8 << 20]);
    let manifest = world.manifest(events().name(), 0, &packed, Encoding::Gzip, 0).await;
    let mut answer = Answer::open(&*world.store, &manifest.answers[0]).await.unwrap();
    let (mut length, mut longest) = (0, 0);
    while let Some(piece) = answer.next().await.unwrap() {
        length += piece.len();
        longest = longest.max(piece.len());
    }
    assert_eq!(length, 8 << 20);
    assert!(longest <= 64 * 1024, "{longest}");
}
