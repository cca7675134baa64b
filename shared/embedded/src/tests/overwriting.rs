use shared::warehouse::Materialization;

use super::{Event, FIRST, Lake, extent, partitions};

const BASE: &[Event] = &[
    ("a", "2025-01-10", 1.0),
    ("b", "2025-01-11", 2.0),
    ("c", "2025-02-10", 3.0),
    ("c", "2025-02-10", 3.0),
    ("d", "2025-03-10", 4.0),
];

#[tokio::test]
async fn an_overwrite_replaces_partitions_and_keeps_the_others_of_their_file() {
    for lake in Lake::both() {
        lake.table(BASE).await;
        let before = lake.files().await;

        let built = lake.overwrite(&[("x", "2025-01-10", 9.0)], &["2025-01-10"]).await;

        assert_eq!(built.extent, extent(&["2025-01-10"]));
        assert_eq!(built.rows, 1);
        let after = lake.files().await;
        assert_ne!(before["2025-01"], after["2025-01"]);
        assert_eq!((&before["2025-02"], &before["2025-03"]), (&after["2025-02"], &after["2025-03"]));
        let rows = lake.rows("select id from silver.events order by id").await;
        assert_eq!(rows, ["b", "c", "c", "d", "x"]);
    }
}

#[tokio::test]
async fn the_extent_names_the_partitions_that_really_changed() {
    let lake = Lake::memory();
    lake.table(BASE).await;
    let before = lake.files().await;

    // The same rows in another order, one row fewer, and a partition that was never there.
    let rows = &[("b", "2025-01-11", 2.0), ("a", "2025-01-10", 1.0), ("c", "2025-02-10", 3.0)];
    let built = lake.overwrite(rows, &["2025-01-10", "2025-01-11", "2025-02-10", "2025-06-01"]).await;

    assert_eq!(built.extent, extent(&["2025-02-10"]));
    let after = lake.files().await;
    assert_eq!(before["2025-01"], after["2025-01"]);
    assert_ne!(before["2025-02"], after["2025-02"]);
    assert_eq!(lake.events().await.len(), 4);
}

#[tokio::test]
async fn an_overwrite_that_changes_nothing_commits_nothing() {
    let lake = Lake::memory();
    lake.table(BASE).await;
    let objects = lake.store.parquet_objects().await.len();

    let built = lake.overwrite(&[("d", "2025-03-10", 4.0)], &["2025-03-10"]).await;

    assert_eq!((built.extent.is_nothing(), built.state.version), (true, FIRST));
    assert_eq!(lake.store.parquet_objects().await.len(), objects + 1, "only the seed was written");
}

#[tokio::test]
async fn a_partition_without_rows_is_emptied() {
    let lake = Lake::memory();
    lake.table(BASE).await;

    let built = lake.overwrite(&[], &["2025-02-10"]).await;

    assert_eq!((built.extent, built.state.rows), (extent(&["2025-02-10"]), Some(3)));
    assert!(!lake.files().await.contains_key("2025-02"));
}

#[tokio::test]
async fn a_row_of_another_partition_is_refused() {
    let lake = Lake::memory();
    lake.table(BASE).await;
    lake.seed(&[("a", "2025-01-12", 1.0)]).await;

    let model = lake.model(Materialization::Overwrite { partitions: partitions(&["2025-01-10"]) }).await;
    let refusal = lake.refused(model).await;
    let model = lake.model(Materialization::Overwrite { partitions: partitions(&["2025"]) }).await;
    let year = lake.refused(model).await;

    assert_eq!(refusal, "silver.events: it holds rows of partition 2025-01-12, which is not overwritten");
    assert_eq!(year, "silver.events: 2025 cannot be one of its partitions");
    assert_eq!(lake.events().await.len(), 5);
}
