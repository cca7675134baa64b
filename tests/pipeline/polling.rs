//! Recorded days, played half hour by half hour: what the pipeline finds and keeps, and what the ways find in which
//! such a service is commonly polled.

use shared::datasets::Earthquakes;
use strata::lateness::Lateness;
use tests::polling::{Played, Rows, Score};

use super::incremental::{at, equals_a_rebuild};

/// Plays from `first` on. Gold must be what the source lists at the end, and the common ways must have found so many.
/// These numbers were counted by another program, from the recorded files alone.
#[allow(clippy::print_stdout, reason = "the table is for the README: tests/bench/polling")]
async fn nothing_is_lost(first: &str, events: usize, commonly_found: [usize; 2]) {
    let played = Played::new(at(first)).await.unwrap();
    println!("{}", played.table().unwrap());
    let records = played.world.ledger("earthquakes").await.unwrap();
    let warehouse = &*played.world.pipeline.data.warehouse;
    let late = Lateness::read(warehouse, &Earthquakes::default(), &records).await.unwrap().unwrap();
    println!("Published {} after they happened; in gold {} after that.\n", late.to_published, late.to_gold.unwrap());
    let missing = |rows: &Rows, others: &Rows| rows.keys().filter(|id| !others.contains_key(*id)).cloned().collect();
    let (lost, invented): (Vec<_>, Vec<_>) = (missing(&played.last, &played.gold), missing(&played.gold, &played.last));
    assert_eq!((lost, invented), (Vec::<String>::new(), Vec::<String>::new()));
    for (id, row) in &played.gold {
        assert_eq!(row, &played.last[id]);
    }
    let ours = played.ours();
    assert_eq!(ours, Score { found: events, gone: 0, stale: 0, ..ours });
    assert_eq!(played.events(), events);
    for (way, found) in played.common.iter().zip(commonly_found) {
        assert_eq!(played.theirs(way).unwrap().found, found, "{}", way.reach);
    }
    equals_a_rebuild(&played.world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_in_the_last_recorded_hours() {
    nothing_is_lost("2025-07-26T21:00:00Z", 52, [44, 52]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes some minutes; tests/bench/polling runs it"]
async fn nothing_is_lost_in_four_recorded_days() {
    nothing_is_lost("2025-07-23T15:30:00Z", 958, [497, 922]).await;
}
