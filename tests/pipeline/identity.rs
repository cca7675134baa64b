//! Which events there are: what the source deletes, merges, splits or changes without a word.

use std::time::Duration;

use chrono::{DateTime, Utc};
use shared::dataset::Ask;
use tests::{Result, World};
use usgs_simulator::{Catalogue, EditError, Extras, Tombstone};

use super::incremental::{EVENTS, at, equals_a_rebuild, event, three_events};

const HALF_AN_HOUR: Duration = Duration::from_secs(1800);

/// Changes the catalogue half an hour later, and ticks another quarter of an hour after that.
async fn change(
    world: &World,
    edit: impl FnOnce(&mut Catalogue, DateTime<Utc>) -> std::result::Result<(), EditError>,
) -> Result<()> {
    world.handle().advance(HALF_AN_HOUR);
    let now = world.handle().now();
    world.handle().edit(|catalogue| edit(catalogue, now))?;
    world.handle().advance(HALF_AN_HOUR / 2);
    world.tick().await
}

async fn sweep(world: &World) -> Result<()> {
    world.handle().advance(HALF_AN_HOUR);
    world.ask(Ask::Tick { days: 30, sweep: true }).await
}

async fn ids(world: &World) -> Vec<String> {
    world.query("select event_id from fct_earthquakes order by event_id").await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_event_leaves_gold_stays_in_bronze_and_may_come_back() {
    let world = three_events().await.unwrap();
    change(&world, |catalogue, now| catalogue.delete("ak1", now, Tombstone::WithId)).await.unwrap();
    assert_eq!(ids(&world).await, ["ak2", "ak3"]);
    let versions = "select status from raw.earthquakes where id = 'ak1' order by status";
    assert_eq!(world.query(versions).await.unwrap(), ["automatic", "deleted"]);
    let days = "select event_date from mart_daily_seismicity order by event_date";
    assert_eq!(world.query(days).await.unwrap(), ["2025-07-22", "2025-07-23"]);
    equals_a_rebuild(&world).await;
    // It comes back as it was, old times and all, so that only a sweep can see it.
    let before = event("ak1", "2025-07-21T10:00:00Z", 1.0).updated(at("2025-07-21T10:00:00Z"));
    change(&world, |catalogue, now| catalogue.add(before, now)).await.unwrap();
    assert_eq!(ids(&world).await, ["ak2", "ak3"]);
    sweep(&world).await.unwrap();
    assert_eq!(ids(&world).await, ["ak1", "ak2", "ak3"]);
    equals_a_rebuild(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tombstone_without_an_id_is_set_aside_and_guessed_at_by_nobody() {
    let world = three_events().await.unwrap();
    change(&world, |catalogue, now| catalogue.delete("ak1", now, Tombstone::BlankId)).await.unwrap();
    assert_eq!(ids(&world).await, ["ak1", "ak2", "ak3"]);
    let set_aside = world.objects("quarantine/earthquakes/").await.unwrap();
    assert_eq!(set_aside.len(), 1);
    let land = world.ledger("earthquakes").await.unwrap().into_iter().rfind(|it| it.stage == "land").unwrap();
    assert_eq!((land.rows_in, land.rows_kept, land.rows_quarantined), (1, 0, 1));
    equals_a_rebuild(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absorbed_event_is_superseded_until_it_is_split_off_again() {
    let world = three_events().await.unwrap();
    change(&world, |catalogue, now| catalogue.merge("ak2", "ak3", now)).await.unwrap();
    assert_eq!(ids(&world).await, ["ak1", "ak3"], "no earthquake stands twice");
    let alias = "select event_id, survivor_event_id from superseded_events";
    assert_eq!(world.query(alias).await.unwrap(), ["ak2,ak3"]);
    equals_a_rebuild(&world).await;
    // The survivor is deleted: what it absorbed does not rise from that.
    change(&world, |catalogue, now| catalogue.delete("ak3", now, Tombstone::WithId)).await.unwrap();
    assert_eq!(ids(&world).await, ["ak1"]);
    equals_a_rebuild(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_split_off_stands_on_its_own_again() {
    let world = three_events().await.unwrap();
    change(&world, |catalogue, now| catalogue.merge("ak2", "ak3", now)).await.unwrap();
    // The service gives it its old times, so that a tick, which asks for updates, does not see it.
    let child = event("ak2", "2025-07-22T23:59:59Z", 1.0).updated(at("2025-07-22T23:59:59Z"));
    change(&world, |catalogue, now| catalogue.split("ak3", child, now)).await.unwrap();
    sweep(&world).await.unwrap();
    assert_eq!(ids(&world).await, ["ak1", "ak2", "ak3"]);
    assert_eq!(world.query("select count(*) from superseded_events").await.unwrap(), ["0"]);
    equals_a_rebuild(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_of_an_event_may_change_and_change_back() {
    let world = three_events().await.unwrap();
    let other = event("us9", "2025-07-21T10:00:01Z", 1.2);
    change(&world, |catalogue, now| {
        catalogue.add(other.updated(now), now)?;
        catalogue.merge("ak1", "us9", now)
    })
    .await
    .unwrap();
    assert_eq!(ids(&world).await, ["ak2", "ak3", "us9"]);
    let first = event("ak1", "2025-07-21T10:00:00Z", 1.1);
    change(&world, |catalogue, now| {
        catalogue.add(first.updated(now), now)?;
        catalogue.merge("us9", "ak1", now)
    })
    .await
    .unwrap();
    assert_eq!(ids(&world).await, ["ak1", "ak2", "ak3"]);
    equals_a_rebuild(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_changed_without_an_update_time_is_found_by_the_sweep() {
    let world = three_events().await.unwrap();
    let silent = event("ak1", "2025-07-21T10:00:00Z", 4.0).updated(at("2025-07-21T10:00:00Z"));
    change(&world, |catalogue, now| catalogue.add(silent, now)).await.unwrap();
    assert_eq!(world.query(EVENTS).await.unwrap()[0], "ak1,2025-07-21,1.0");
    sweep(&world).await.unwrap();
    assert_eq!(world.query(EVENTS).await.unwrap()[0], "ak1,2025-07-21,4.0");
    equals_a_rebuild(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn details_of_the_features_are_columns_and_change_with_them() {
    let world = three_events().await.unwrap();
    let felt = "select felt_reports, has_tsunami_message, event_url from fct_earthquakes where event_id = 'ak1'";
    let url = "https://earthquake.usgs.gov/earthquakes/eventpage/ak1";
    assert_eq!(world.query(felt).await.unwrap(), [format!(",false,{url}")]);
    let extras = Extras { felt: Some(12), tsunami: true, ..Extras::default() };
    let noticed = event("ak1", "2025-07-21T10:00:00Z", 1.0).extras(extras);
    change(&world, |catalogue, now| catalogue.add(noticed.updated(now), now)).await.unwrap();
    assert_eq!(world.query(felt).await.unwrap(), [format!("12,true,{url}")]);
    equals_a_rebuild(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ticks_that_were_missed_heal_by_themselves() {
    let world = three_events().await.unwrap();
    for (id, time) in [("ak4", "2025-07-23T13:00:00Z"), ("ak5", "2025-07-20T13:00:00Z")] {
        world.handle().advance(10 * HALF_AN_HOUR);
        let now = world.handle().now();
        world.handle().edit(|catalogue| catalogue.add(event(id, time, 1.0).updated(now), now)).unwrap();
    }
    world.handle().advance(100 * HALF_AN_HOUR);
    world.tick().await.unwrap();
    assert_eq!(ids(&world).await, ["ak1", "ak2", "ak3", "ak4", "ak5"]);
    let captures = world.objects("raw/").await.unwrap().len();
    world.tick().await.unwrap();
    assert_eq!(world.objects("raw/").await.unwrap().len(), captures, "a tick that brings nothing stores nothing");
    equals_a_rebuild(&world).await;
}
