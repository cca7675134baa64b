//! Versions of a table that comes whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use shared::ledger::Outcome;
use shared::message::PartitionsLanded;
use shared::partition::Partition;
use shared::store::{Directory, Precondition, read_json};
use tokio::sync::oneshot;

use super::ports::Gate;
use super::world::{World, version};
use crate::snapshot::Version;

async fn current(world: &World) -> Version {
    read_json::<Version>(&*world.store, "bronze/results/current.json").await.unwrap().value.unwrap()
}

fn athletes(world: &World) -> BTreeMap<String, Vec<String>> {
    let name = |row: &String| row.split('|').nth(1).unwrap().to_owned();
    world.raw("results").into_iter().map(|(key, rows)| (key, rows.iter().map(name).collect())).collect()
}

fn table(rows: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
    let owned = |names: &&[&str]| names.iter().map(|&name| name.to_owned()).collect();
    rows.iter().map(|(year, names)| (format!("year={year}"), owned(names))).collect()
}

#[tokio::test]
async fn a_newer_version_replaces_the_whole_table() {
    let folder = tempfile::tempdir().unwrap();
    for world in [World::new(), World::on(Arc::new(Directory::open(folder.path()).unwrap()))] {
        let world = world.bounded(2);
        let first = world.land("results", 0, &version(&["2017,zoe,50", "2018,ann,50", "2017,bob,6h"])).await;
        assert_eq!(athletes(&world), table(&[("2017", &["zoe"]), ("2018", &["ann"])]));

        let rows = ["2018,ann,50", "2018,eve,100", "2019,ann,50", "2018,ann,50", "2018,kim,42"];
        let second = world.land("results", 60, &version(&rows)).await;

        assert_eq!(athletes(&world), table(&[("2018", &["ann", "eve", "ann", "kim"]), ("2019", &["ann"])]));
        let now = current(&world).await;
        assert_eq!(now.capture, second);
        let part = &now.partitions[&Partition::Year(2018)];
        assert_eq!(part.object, format!("bronze/results/version={second}/year=2018/results.parquet"));
        assert_eq!(part.rows, 4);
        assert!(world.names(&format!("bronze/results/version={first}/")).await.len() == 3, "history stays");
        let sent = world.sent::<PartitionsLanded>();
        let shown: Vec<_> = sent[1].partitions.iter().map(|at| (at.partition.to_string(), at.rows)).collect();
        assert_eq!(shown, [("2017".to_owned(), 0), ("2018".to_owned(), 4), ("2019".to_owned(), 1)]);
        let ledger = world.ledger("results").await;
        assert_eq!((ledger[0].rows_in, ledger[0].rows_kept, ledger[0].rows_quarantined), (3, 2, 1));
        assert_eq!((ledger[1].rows_in, ledger[1].rows_kept, ledger[1].outcome.clone()), (5, 5, Outcome::Done));
    }
}

#[tokio::test]
async fn an_older_version_that_comes_late_is_stored_and_not_shown() {
    let world = World::new();
    world.land("results", 60, &version(&["2018,new,50"])).await;
    let late = world.land("results", 0, &version(&["2018,old,50"])).await;

    assert_eq!(athletes(&world), table(&[("2018", &["new"])]));
    assert_ne!(current(&world).await.capture, late);
    assert_eq!(world.names(&format!("bronze/results/version={late}/")).await.len(), 2);
    assert_eq!(world.sent::<PartitionsLanded>().len(), 1);
    assert_eq!(world.warehouse.loads.lock().unwrap().len(), 1);
    let record = world.ledger("results").await.into_iter().find(|record| record.capture == Some(late.clone())).unwrap();
    assert_eq!((record.rows_kept, record.outcome), (1, Outcome::Nothing));
}

#[tokio::test]
async fn landing_the_same_capture_again_writes_nothing_new() {
    let world = World::new();
    let capture = world.land("results", 0, &version(&["2018,ann,50", "2019,bob,x"])).await;
    let (objects, record) = (world.store.list("bronze/").await.unwrap(), world.ledger("results").await);

    world.deliver("results", &capture).await.unwrap();

    assert_eq!(world.store.list("bronze/").await.unwrap(), objects);
    assert_eq!(world.ledger("results").await, record);
    assert_eq!(world.warehouse.loads.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_object_that_was_moved_aside_is_written_again() {
    let world = World::new();
    let capture = world.land("results", 0, &version(&["2018,ann,50", "2019,bob,50"])).await;
    let lost = format!("bronze/results/version={capture}/year=2018/results.parquet");
    world.store.delete(&lost, Precondition::None).await.unwrap();

    world.deliver("results", &capture).await.unwrap();

    let generation = world.store.head(&lost).await.unwrap().unwrap().generation;
    assert_eq!(current(&world).await.partitions[&Partition::Year(2018)].generation, generation);
    assert_eq!(athletes(&world), table(&[("2018", &["ann"]), ("2019", &["bob"])]));
}

#[tokio::test]
async fn however_two_landings_interleave_the_newer_version_is_the_one_that_is_loaded() {
    for late in 0..60 {
        let world = World::new();
        let one = world.capture("results", 0, &version(&["2017,old,50", "2018,old,50"])).await;
        let two = world.capture("results", 60, &version(&["2018,new,50", "2019,new,50"])).await;
        let second = async {
            for _ in 0..late {
                tokio::task::yield_now().await;
            }
            world.deliver("results", &two).await
        };
        let (first, second) = tokio::join!(world.deliver("results", &one), second);
        first.and(second).unwrap();
        let years: Vec<_> = athletes(&world).into_keys().collect();
        assert_eq!(years, ["year=2018", "year=2019"], "the second began {late} calls later");
        assert!(world.published().is_superset(&world.warehouse.ever_changed.lock().unwrap()));
    }
}

#[tokio::test]
async fn a_load_that_was_overtaken_by_a_newer_version_is_put_right_by_whoever_did_it() {
    let world = World::new();
    let one = world.capture("results", 0, &version(&["2017,old,50", "2018,old,50"])).await;
    let two = world.capture("results", 60, &version(&["2018,new,50", "2019,new,50"])).await;
    let ((arrived, at_load), (go, open)) = (oneshot::channel(), oneshot::channel());
    *world.warehouse.gate.lock().unwrap() = Some(Gate { arrived, open });
    let overtaking = async {
        at_load.await.unwrap();
        world.deliver("results", &two).await.unwrap();
        go.send(()).unwrap();
    };

    let (first, ()) = tokio::join!(world.deliver("results", &one), overtaking);

    first.unwrap();
    assert_eq!(athletes(&world), table(&[("2018", &["new"]), ("2019", &["new"])]));
    assert!(world.published().is_superset(&world.warehouse.ever_changed.lock().unwrap()));
}
