use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use chrono::TimeDelta;
use shared::store::{Precondition, Store};
use shared::warehouse::{CHANGES, Commit, Extent, Materialization, Warehouse, WarehouseError};

use super::{FIRST, Lake, by_id, name};
use crate::manifest::{Kind, Manifest};

const BASE: &[super::Event] = &[("a", "2025-01-10", 1.0), ("b", "2025-02-10", 2.0)];

#[tokio::test]
async fn a_plan_against_another_version_is_a_conflict() {
    for lake in Lake::both() {
        lake.table(BASE).await;
        for expected in [None, Some(0), Some(2)] {
            let mut model = lake.model(by_id()).await;
            model.expected = expected;
            let refused = lake.warehouse.build(model).await.unwrap_err();
            assert!(matches!(refused, WarehouseError::Conflict(_)), "{expected:?}: {refused}");
        }
        let mut nothing = lake.model(Materialization::Table).await;
        nothing.table = name("silver.other");
        nothing.expected = Some(1);
        assert!(matches!(lake.warehouse.build(nothing).await, Err(WarehouseError::Conflict(_))));
    }
}

#[tokio::test]
async fn of_two_builds_of_one_version_one_wins_and_the_other_leaves_nothing() {
    for lake in Lake::both() {
        lake.table(BASE).await;
        lake.seed(&[("a", "2025-01-10", 5.0)]).await;
        let before = lake.store.parquet_objects().await.len();
        let model = lake.model(by_id()).await;

        let (one, other) = tokio::join!(lake.warehouse.build(model.clone()), lake.warehouse.build(model));

        assert_eq!([one, other].iter().filter(|built| built.is_ok()).count(), 1);
        assert_eq!(lake.store.parquet_objects().await.len(), before + 1);
        assert_eq!(lake.events().await[0], "a 2025-01-10 5.0");
    }
}

#[tokio::test]
async fn a_crash_before_the_commit_leaves_the_old_table() {
    for lake in Lake::both() {
        lake.table(BASE).await;
        let before = lake.events().await;
        lake.seed(&[("a", "2025-01-10", 5.0)]).await;
        let model = lake.model(by_id()).await;

        lake.store.crash.store(true, Ordering::Relaxed);
        assert!(matches!(lake.warehouse.build(model.clone()).await, Err(WarehouseError::Store(_))));
        lake.store.crash.store(false, Ordering::Relaxed);

        assert_eq!(lake.events().await, before);
        let objects = lake.store.parquet_objects().await.len();
        assert_eq!(lake.warehouse.vacuum().await.unwrap(), 0, "a fresh file may be a build's under way");
        lake.pass(TimeDelta::hours(25));
        assert_eq!(lake.warehouse.vacuum().await.unwrap(), 1);
        assert_eq!(lake.store.parquet_objects().await.len(), objects - 1);
        lake.build(model).await;
        assert_eq!(lake.events().await[0], "a 2025-01-10 5.0");
    }
}

#[tokio::test]
async fn a_lost_answer_to_our_own_commit_is_no_conflict() {
    let lake = Lake::memory();
    lake.seed(BASE).await;
    let model = lake.model(Materialization::Table).await;
    lake.store.echo.store(true, Ordering::Relaxed);

    let built = lake.build(model).await;

    assert_eq!(built.state.version, FIRST);
    assert_eq!(lake.events().await.len(), 2);
}

#[tokio::test]
async fn replaced_files_stay_for_their_readers_and_then_go() {
    let lake = Lake::memory();
    lake.table(BASE).await;
    let old = lake.files().await["2025-01"].clone();

    lake.merge(&[("a", "2025-01-10", 5.0)]).await;
    lake.pass(TimeDelta::minutes(9));
    lake.merge(&[("a", "2025-01-10", 6.0)]).await;
    assert!(lake.store.head(&old).await.unwrap().is_some());
    lake.pass(TimeDelta::minutes(1));
    lake.merge(&[("a", "2025-01-10", 7.0)]).await;

    assert!(lake.store.head(&old).await.unwrap().is_none());
    assert_eq!(lake.manifest("silver.events").await.retired.len(), 2);
    assert_eq!(lake.events().await[0], "a 2025-01-10 7.0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_sees_one_commit_whole() {
    for lake in Lake::both() {
        // Whatever the commit, the values of all rows are 100 together.
        lake.table(&[("a", "2025-01-10", 100.0), ("b", "2025-02-10", 0.0)]).await;
        let lake = Arc::new(lake);
        let writer = {
            let lake = Arc::clone(&lake);
            tokio::spawn(async move {
                for step in 1..=30 {
                    let part = f64::from(step);
                    lake.merge(&[("a", "2025-01-10", 100.0 - part), ("b", "2025-02-10", part)]).await;
                }
            })
        };
        let mut sums = 0;
        while !writer.is_finished() {
            let sql = "select sum(value) from (select value from silver.events where id = 'a' union all \
                       select value from silver.events where id = 'b')";
            assert_eq!(lake.rows(sql).await, ["100.0"]);
            sums += 1;
        }
        writer.await.unwrap();
        assert!(sums > 0);
        assert_eq!(lake.events().await, ["a 2025-01-10 70.0", "b 2025-02-10 30.0"]);
    }
}

#[tokio::test]
async fn changes_that_are_no_longer_known_are_the_whole() {
    let lake = Lake::memory();
    lake.table(BASE).await;
    let mut manifest = lake.manifest("silver.events").await;
    let day = || Extent::Partitions(["2025-01-10".parse().unwrap()].into());
    for _ in 0..CHANGES {
        let (definition, inputs) = (String::new(), std::collections::BTreeMap::new());
        let commit = Commit { definition, inputs, extent: day(), cause: "c" };
        let (columns, layout) = (manifest.columns.clone(), manifest.layout.clone());
        manifest = Manifest::after(
            Some(&manifest),
            shared::clock::Clock::now(&*lake.clock),
            Kind::Table,
            columns,
            layout,
            commit,
        );
    }

    let state = manifest.state;

    assert_eq!((state.version, state.changes.len()), (FIRST + CHANGES as u64, CHANGES));
    assert_eq!(state.changed_since(FIRST), day());
    assert_eq!(state.changed_since(FIRST - 1), Extent::Whole);
    assert_eq!(state.changed_since(state.version + 1), Extent::Whole, "a version of a table that was lost");
}

#[tokio::test]
async fn a_damaged_manifest_is_named_and_healed_by_a_rebuild() {
    for lake in Lake::both() {
        lake.table(BASE).await;
        let object = "warehouse/silver/events/manifest.json";
        lake.store.put(object, Bytes::from_static(b"{\"state\":"), Precondition::None).await.unwrap();
        let mut merge = lake.model_of(by_id(), None);
        merge.expected = None;

        let state = lake.warehouse.state(&name("silver.events")).await.unwrap_err().to_string();
        let query = lake.try_rows("select * from silver.events").await.unwrap_err().to_string();
        let merged = lake.refused(merge).await;
        for error in [&state, &query, &merged] {
            assert!(error.starts_with(&format!("{object}, a file of table silver.events, is damaged")), "{error}");
        }

        let built = lake.build(lake.model_of(Materialization::Table, None)).await;
        assert_eq!(lake.events().await.len(), 2);
        assert_eq!(built.state.changed_since(1), Extent::Whole, "versions that were lost are not given again");
    }
}
