use shared::warehouse::{Extent, Materialization};

use super::{FIRST, Lake, by_id, extent};

const BASE: &[super::Event] = &[
    ("a", "2025-01-10", 1.0),
    ("b", "2025-02-10", 2.0),
    ("c", "2025-02-11", 3.0),
    ("d", "2025-03-10", 4.0),
    ("e", "2025-04-10", 5.0),
];

#[tokio::test]
async fn a_merge_rewrites_the_files_of_touched_rows_and_no_other() {
    for lake in Lake::both() {
        lake.table(BASE).await;
        let before = lake.files().await;

        let built = lake.merge(&[("b", "2025-02-10", 20.0), ("f", "2025-03-20", 6.0)]).await;

        assert_eq!(built.rows, 2);
        assert_eq!(built.extent, extent(&["2025-02-10", "2025-03-20"]));
        assert_eq!(built.state.rows, Some(6));
        let after = lake.files().await;
        let same = |bucket: &str| before[bucket] == after[bucket];
        assert_eq!(["2025-01", "2025-02", "2025-03", "2025-04"].map(same), [true, false, false, true]);
        let wanted = [
            "a 2025-01-10 1.0",
            "b 2025-02-10 20.0",
            "c 2025-02-11 3.0",
            "d 2025-03-10 4.0",
            "e 2025-04-10 5.0",
            "f 2025-03-20 6.0",
        ];
        assert_eq!(lake.events().await, wanted);
    }
}

#[tokio::test]
async fn a_key_that_moves_to_another_partition_is_only_there() {
    for lake in Lake::both() {
        lake.table(BASE).await;

        let built = lake.merge(&[("a", "2025-05-01", 1.5)]).await;

        assert_eq!(built.extent, extent(&["2025-01-10", "2025-05-01"]));
        assert_eq!(lake.rows("select day from silver.events where id = 'a'").await, ["2025-05-01"]);
        assert!(!lake.files().await.contains_key("2025-01"), "a bucket without rows has no file");
    }
}

#[tokio::test]
async fn rows_that_are_there_already_change_nothing() {
    let lake = Lake::memory();
    lake.table(BASE).await;
    let before = lake.files().await;

    let built = lake.merge(&[("a", "2025-01-10", 1.0), ("c", "2025-02-11", 3.0)]).await;

    assert!(built.extent.is_nothing());
    assert_eq!((built.rows, built.state.version), (2, FIRST));
    assert_eq!(lake.files().await, before);
}

#[tokio::test]
async fn an_empty_delta_commits_only_that_its_inputs_were_consumed() {
    let lake = Lake::memory();
    lake.table(BASE).await;
    let before = lake.files().await;
    let mut model = lake.model(by_id()).await;
    model.sql += " where id = 'nobody'";

    let same = lake.build(model.clone()).await;
    model.inputs.insert(super::name("seeds.events"), 7);
    let consumed = lake.build(model).await;

    assert_eq!(same.state.version, FIRST);
    assert_eq!((consumed.state.version, consumed.extent.is_nothing()), (FIRST, true));
    assert_eq!(consumed.state.inputs[&super::name("seeds.events")], 7);
    assert_eq!(lake.files().await, before);
}

#[tokio::test]
async fn a_key_twice_or_null_is_refused_and_nothing_is_left_behind() {
    let lake = Lake::memory();
    lake.table(BASE).await;
    let before = (lake.events().await, lake.store.parquet_objects().await.len());

    lake.seed(&[("x", "2025-01-10", 1.0), ("x", "2025-01-11", 2.0)]).await;
    let twice = lake.refused(lake.model(by_id()).await).await;
    lake.seed(&[("", "2025-01-10", 1.0)]).await;
    let null = lake.refused(lake.model(by_id()).await).await;

    assert_eq!(twice, "silver.events: its key is there more than once: id = x");
    assert_eq!(null, "silver.events: column 'id' of its key is null in 1 rows");
    // Each seed has left its earlier file to those who may be reading it.
    assert_eq!((lake.events().await, lake.store.parquet_objects().await.len() - 2), before);
}

#[tokio::test]
async fn later_merges_read_only_the_files_that_hold_their_keys() {
    let lake = Lake::memory();
    lake.table(BASE).await;
    lake.merge(&[("b", "2025-02-10", 20.0)]).await;
    lake.seed(&[("c", "2025-02-11", 30.0)]).await;
    let files = lake.files().await;
    let model = lake.model(by_id()).await;
    lake.store.files_read();

    lake.build(model).await;

    // The filter of a file that was written since must be read, the others are known.
    let read = lake.store.files_read();
    let of_table: Vec<_> = read.iter().filter(|object| object.contains("silver")).collect();
    assert_eq!(of_table, [&files["2025-02"]]);
}

#[tokio::test]
async fn a_table_without_a_filter_is_searched_too() {
    let lake = Lake::memory();
    lake.seed(BASE).await;
    let mut whole = lake.model(Materialization::Table).await;
    whole.layout.unique_key.clear();
    lake.build(whole).await;

    lake.merge(&[("e", "2025-01-01", 50.0)]).await;

    assert_eq!(lake.rows("select day, value from silver.events where id = 'e'").await, ["2025-01-01 50.0"]);
}

#[tokio::test]
async fn a_merge_without_partitions_touches_the_whole_table() {
    let lake = Lake::memory();
    lake.seed(BASE).await;
    let mut model = lake.model(Materialization::Table).await;
    model.layout.partition_by = None;
    lake.build(model).await;
    lake.seed(&[("a", "2025-01-10", 10.0), ("z", "2025-01-11", 26.0)]).await;
    let mut model = lake.model(by_id()).await;
    model.layout.partition_by = None;

    let built = lake.build(model).await;

    assert_eq!((built.extent, built.state.rows), (Extent::Whole, Some(6)));
    assert_eq!(lake.rows("select sum(value) from silver.events").await, ["50.0"]);
}

#[tokio::test]
async fn another_definition_is_built_whole_and_other_columns_are_refused() {
    let lake = Lake::memory();
    lake.table(BASE).await;
    let mut columns = lake.model(by_id()).await;
    columns.sql = "select id, day, value, 1 as one from seeds.events".into();
    let mut layout = lake.model(by_id()).await;
    layout.layout.partition_by = None;
    let mut definition = lake.model(by_id()).await;
    definition.definition = "two".into();
    definition.sql += " where id < 'c'";

    assert!(lake.refused(columns).await.contains("build it in full"));
    assert!(lake.refused(layout).await.contains("build it in full"));
    assert_eq!(lake.build(definition).await.extent, Extent::Whole);
    assert_eq!(lake.events().await.len(), 2);
}

#[tokio::test]
async fn any_sequence_of_merges_ends_in_the_files_of_a_full_build() {
    let leak = |text: String| -> &'static str { text.leak() };
    let mut random = 42_u64;
    let mut draw = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let lake = Lake::memory();
    lake.table(&[]).await;
    let mut wanted = std::collections::BTreeMap::new();
    for _ in 0..25 {
        let mut delta = std::collections::BTreeMap::new();
        for _ in 0..draw(12) {
            let id = leak(format!("id{}", draw(40)));
            let day = leak(format!("2025-{:02}-{:02}", 1 + draw(4), 1 + draw(28)));
            delta.insert(id, (id, day, draw(1000) as f64 / 7.0));
        }
        let old: std::collections::BTreeSet<_> =
            delta.keys().filter_map(|id| wanted.get(id)).copied().map(day).collect();
        lake.merge(&delta.values().copied().collect::<Vec<_>>()).await;
        wanted.extend(delta.clone());
        let state = lake.manifest("silver.events").await.state;
        if let Some(last) = state.changes.last().filter(|change| change.version > FIRST) {
            let Extent::Partitions(named) = &last.extent else { panic!("{last:?}") };
            let days: std::collections::BTreeSet<_> = delta.values().copied().map(day).collect();
            assert!(delta.is_empty() || old.union(&days).all(|day| named.contains(&day.parse().unwrap())));
        }
    }
    let merged = lake.manifest("silver.events").await;

    lake.table(&wanted.values().copied().collect::<Vec<_>>()).await;

    let hashes = |manifest: &crate::manifest::Manifest| {
        let of = |file: &crate::manifest::File| (file.bucket.clone(), file.hash.clone());
        manifest.files.iter().map(of).collect::<Vec<_>>()
    };
    assert!(merged.state.version > FIRST + 20 && merged.files.len() == 4);
    assert_eq!(hashes(&merged), hashes(&lake.manifest("silver.events").await));
}

fn day(event: super::Event) -> &'static str {
    event.1
}
