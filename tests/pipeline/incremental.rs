//! What changes at the source: incremental tables equal rebuilt ones, and cost follows the change.

use chrono::{DateTime, TimeDelta, Utc};
use shared::message::{Mode, PartitionsLanded};
use shared::store::{Precondition, Store};
use strata::compare;
use tests::{Result, World};
use transform::run::What;
use usgs_simulator::{Catalogue, Column, Event, Visibility};

pub(super) fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

pub(super) fn event(id: &str, time: &str, magnitude: f64) -> Event {
    Event::new(id, at(time)).magnitude(magnitude, "ml").located(60.0, -150.0, 10.0)
}

/// Three events of the days before 2025-07-23 12:00, which the pipeline has seen.
pub(super) async fn three_events() -> Result<World> {
    let mut catalogue = Catalogue::empty().with_visibility(Visibility::FromUpdated);
    for (id, time) in
        [("ak1", "2025-07-21T10:00:00Z"), ("ak2", "2025-07-22T23:59:59Z"), ("ak3", "2025-07-23T01:00:00Z")]
    {
        catalogue.add(event(id, time, 1.0).updated(at(time)), at(time))?;
    }
    let world = World::new(catalogue).await?;
    world.handle().set_now(at("2025-07-23T12:00:00Z"));
    world.tick().await?;
    Ok(world)
}

/// Publishes an event's next version half an hour later, and ticks.
pub(super) async fn revise(world: &World, event: Event) -> Result<()> {
    world.handle().advance(std::time::Duration::from_secs(1800));
    let now = world.handle().now();
    world.handle().edit(|catalogue| catalogue.add(event.updated(now - TimeDelta::minutes(1)), now))?;
    world.tick().await
}

/// The incremental tables must be what a rebuild from bronze gives.
pub(crate) async fn equals_a_rebuild(world: &World) {
    let incremental = world.tables().await.unwrap();
    let message =
        PartitionsLanded { dataset: "earthquakes".to_owned(), partitions: Vec::new(), mode: Mode::FullRefresh };
    world.send(&message).await.unwrap();
    assert_eq!(world.tables().await.unwrap(), incremental);
    let dead: Vec<_> = world.dead().await.unwrap().into_iter().map(|letter| letter.error).collect();
    assert_eq!(dead, [] as [String; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sums_do_not_depend_on_the_order_in_which_rows_came() {
    let world = three_events().await.unwrap();
    for number in 0..36 {
        let id = format!("ak{}", 9000 - number * 37 % 36);
        let other = event(&id, "2025-07-22T10:00:00Z", 0.1 + f64::from(number * 17 % 36) / 7.0);
        let other = other.located(60.0, -150.0, 0.1 + f64::from(number) / 3.0);
        world.handle().advance(std::time::Duration::from_secs(60));
        let now = world.handle().now();
        world.handle().edit(|catalogue| catalogue.add(other.updated(now), now)).unwrap();
        if number % 6 == 5 {
            world.tick().await.unwrap();
        }
    }
    equals_a_rebuild(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_comparison_sees_other_rows_and_nothing_else() {
    let world = three_events().await.unwrap();
    let contents = async || compare::contents(&*world.pipeline.data.warehouse).await.unwrap();
    let before = contents().await;
    let rebuild =
        PartitionsLanded { dataset: "earthquakes".to_owned(), partitions: Vec::new(), mode: Mode::FullRefresh };
    world.send(&rebuild).await.unwrap();
    compare::same(&before, &contents().await).unwrap();
    revise(&world, event("ak1", "2025-07-21T10:00:00Z", 1.1)).await.unwrap();
    let differ = compare::same(&before, &contents().await).unwrap_err().to_string();
    assert!(differ.contains("gold.fct_earthquakes had 3 rows and has 3"), "{differ}");
    assert!(!differ.contains("dim_magnitude_class"), "{differ}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_died_before_its_tests_is_tested_when_it_is_delivered_again() {
    let world = three_events().await.unwrap();
    for object in world.objects("warehouse/gold/").await.unwrap() {
        world.store.delete(&object, Precondition::None).await.unwrap();
    }
    let runner = &world.pipeline.data.runner;
    let first = runner.build("earthquakes", "run", &What::Changed).await.unwrap();
    assert!(!first.built.is_empty());
    // It died here. The next delivery finds nothing left to build.
    let again = runner.build("earthquakes", "run", &What::Changed).await.unwrap();
    assert!(again.built.is_empty());
    let tested = runner.test_changed(&again).await.unwrap();
    assert_eq!(tested, runner.test_changed(&first).await.unwrap());
    assert!(tested.results.iter().any(|test| test.test.contains("fct_earthquakes")), "{tested:?}");
}

pub(super) const EVENTS: &str = "select event_id, event_date, magnitude from fct_earthquakes order by event_id";

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_replaces_the_row_and_the_old_version_stays_in_bronze() {
    let world = three_events().await.unwrap();
    revise(&world, event("ak1", "2025-07-21T10:00:00Z", 2.5)).await.unwrap();
    let expected = ["ak1,2025-07-21,2.5", "ak2,2025-07-22,1.0", "ak3,2025-07-23,1.0"];
    assert_eq!(world.query(EVENTS).await.unwrap(), expected);
    assert_eq!(world.query("select count(*) from raw.earthquakes where id = 'ak1'").await.unwrap(), ["2"]);
    equals_a_rebuild(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_moves_over_midnight_is_on_its_new_day_only() {
    let world = three_events().await.unwrap();
    revise(&world, event("ak2", "2025-07-23T00:00:01Z", 1.0)).await.unwrap();
    let expected = ["ak1,2025-07-21,1.0", "ak2,2025-07-23,1.0", "ak3,2025-07-23,1.0"];
    assert_eq!(world.query(EVENTS).await.unwrap(), expected);
    let days = "select event_date, events from mart_daily_seismicity order by event_date";
    assert_eq!(world.query(days).await.unwrap(), ["2025-07-21,1", "2025-07-23,2"]);
    equals_a_rebuild(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_observation_wins_even_when_the_source_moves_its_update_time_back() {
    let world = three_events().await.unwrap();
    world.handle().advance(std::time::Duration::from_secs(1800));
    let now = world.handle().now();
    // Changed again an hour after it was first said, but with an older update time than the version before.
    let back = event("ak3", "2025-07-23T01:00:00Z", 3.0).updated(at("2025-07-23T11:00:00Z"));
    let later = event("ak3", "2025-07-23T01:00:00Z", 2.0).updated(at("2025-07-23T12:20:00Z"));
    world.handle().edit(|catalogue| catalogue.add(later, now)).unwrap();
    world.tick().await.unwrap();
    world.handle().advance(std::time::Duration::from_secs(600));
    let now = world.handle().now();
    world.handle().edit(|catalogue| catalogue.add(back, now)).unwrap();
    world.tick().await.unwrap();
    assert_eq!(world.query(EVENTS).await.unwrap()[2], "ak3,2025-07-23,3.0");
    equals_a_rebuild(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_comes_back_is_current_again() {
    let world = three_events().await.unwrap();
    let first = event("ak1", "2025-07-21T10:00:00Z", 1.0).with(Column::Place, "first");
    let other = event("ak1", "2025-07-21T10:00:00Z", 1.0).with(Column::Place, "other");
    let fixed = at("2025-07-23T12:30:00Z");
    for place in [&first, &other, &first] {
        world.handle().advance(std::time::Duration::from_secs(600));
        let now = world.handle().now();
        let version = place.clone().updated(fixed);
        world.handle().edit(|catalogue| catalogue.add(version, now)).unwrap();
        world.tick().await.unwrap();
    }
    let place = "select place from fct_earthquakes where event_id = 'ak1'";
    assert_eq!(world.query(place).await.unwrap(), ["first"]);
    equals_a_rebuild(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_change_rewrites_only_the_files_that_it_touches() {
    let world = World::month().await.unwrap();
    world.tick().await.unwrap();
    // So long after, a tick does not repeat what the month already brought.
    world.handle().advance(std::time::Duration::from_secs(3 * 3600));
    world.tick().await.unwrap();
    let files = async |table: &str| world.objects(&format!("warehouse/{table}/2025-06")).await.unwrap();
    let tables = ["raw/earthquakes", "silver/stg_earthquakes", "gold/fct_earthquakes", "gold/mart_daily_seismicity"];
    let mut before = Vec::new();
    for table in tables {
        before.push(files(table).await);
        assert!(!before[before.len() - 1].is_empty(), "{table} has a file for June");
    }
    revise(&world, event("ak0259dmm3e0", "2025-07-23T15:08:36.882Z", 1.9)).await.unwrap();
    let changed = "select magnitude from fct_earthquakes where event_id = 'ak0259dmm3e0'";
    assert_eq!(world.query(changed).await.unwrap(), ["1.9"]);
    for (table, before) in tables.iter().zip(before) {
        assert_eq!(files(table).await, before, "{table}: June is not touched by a change of July");
    }
    equals_a_rebuild(&world).await;
}
