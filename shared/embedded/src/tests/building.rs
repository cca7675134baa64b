use shared::warehouse::{Extent, Materialization, ModelRun, Warehouse};

use super::{FIRST, Lake, by_id, name};

const BASE: &[super::Event] = &[("a", "2025-01-10", 0.1), ("b", "2025-02-10", 0.2), ("c", "2025-02-11", 0.3)];

async fn view(lake: &Lake, table: &str, sql: &str) -> ModelRun {
    let mut model = lake.model(Materialization::View).await;
    model.table = name(table);
    model.expected = lake.warehouse.state(&model.table).await.unwrap().map(|state| state.version);
    model.layout = Default::default();
    model.sql = sql.to_owned();
    model
}

#[tokio::test]
async fn the_first_build_of_an_increment_is_a_whole_one() {
    let lake = Lake::memory();
    lake.seed(BASE).await;

    let built = lake.build(lake.model(by_id()).await).await;

    assert_eq!((built.extent, built.rows, built.state.version), (Extent::Whole, 3, FIRST));
}

#[tokio::test]
async fn a_rebuild_replaces_every_row() {
    let lake = Lake::memory();
    lake.table(BASE).await;

    let built = lake.table(&BASE[..1]).await;

    assert_eq!((built.extent, built.state.rows, built.state.version), (Extent::Whole, Some(1), FIRST + 1));
    assert_eq!(lake.events().await, ["a 2025-01-10 0.1"]);
}

#[tokio::test]
async fn a_table_of_no_rows_has_its_columns() {
    let lake = Lake::memory();

    lake.table(&[]).await;

    assert_eq!(lake.events().await, Vec::<String>::new());
    assert_eq!(lake.rows("select count(*) from silver.events").await, ["0"]);
}

#[tokio::test]
async fn a_row_without_a_partition_is_refused() {
    let lake = Lake::memory();
    lake.seed(&[("a", "", 1.0)]).await;

    let refusal = lake.refused(lake.model(Materialization::Table).await).await;

    assert_eq!(refusal, "silver.events: column 'day', which says the partition, is null in 1 rows");
}

#[tokio::test]
async fn a_layout_must_fit_the_columns() {
    let lake = Lake::memory();
    lake.seed(BASE).await;
    let mut field = lake.model(Materialization::Table).await;
    field.layout.partition_by.as_mut().unwrap().field = "value".into();
    let mut cluster = lake.model(Materialization::Table).await;
    cluster.layout.cluster_by = vec!["place".into()];

    assert!(lake.refused(field).await.contains("a partition by day needs a DATE or TIMESTAMP column"));
    assert!(lake.refused(cluster).await.contains("there is no column 'place' to cluster by"));
}

#[tokio::test]
async fn views_follow_the_tables_below_them_through_other_views() {
    let lake = Lake::memory();
    lake.table(BASE).await;
    lake.build(view(&lake, "silver.late", "select id, value from silver.events where day > date '2025-02-01'").await)
        .await;
    let built = lake.build(view(&lake, "gold.latest", "select max(id) as id from silver.late").await).await;
    assert_eq!((built.state.rows, built.rows), (None, 0));
    assert_eq!(lake.rows("select id from gold.latest").await, ["c"]);

    lake.merge(&[("z", "2025-07-01", 1.0)]).await;

    assert_eq!(lake.rows("select id from gold.latest").await, ["z"]);
}

#[tokio::test]
async fn a_view_that_is_as_before_commits_nothing() {
    let lake = Lake::memory();
    lake.table(BASE).await;
    let sql = "select id from silver.events";
    lake.build(view(&lake, "gold.ids", sql).await).await;

    let same = lake.build(view(&lake, "gold.ids", sql).await).await;
    let other = lake.build(view(&lake, "gold.ids", "select id, day from silver.events").await).await;

    assert_eq!((same.state.version, same.extent.is_nothing()), (FIRST, true));
    assert_eq!((other.state.version, other.extent), (FIRST + 1, Extent::Whole));
}

#[tokio::test]
async fn a_view_that_reads_itself_is_an_error() {
    let lake = Lake::memory();
    lake.table(BASE).await;
    lake.build(view(&lake, "gold.ids", "select id from silver.events").await).await;
    lake.build(view(&lake, "gold.more", "select id from gold.ids").await).await;
    let circle = view(&lake, "gold.ids", "select id from gold.more").await;
    lake.build(circle).await;

    let error = lake.try_rows("select * from gold.ids").await.unwrap_err();

    assert!(error.to_string().contains("more than 32 views stand on each other"), "{error}");
}

#[tokio::test]
async fn a_bare_name_is_looked_for_in_every_schema() {
    let lake = Lake::memory();
    lake.table(BASE).await;
    lake.build(view(&lake, "gold.ids", "select id from silver.events").await).await;

    assert_eq!(lake.rows("select count(*) from ids").await, ["3"]);
    let several = lake.try_rows("select 1 from events").await.unwrap_err().to_string();
    let none = lake.try_rows("select 1\nfrom   nothing").await.unwrap_err().to_string();
    let wrong = lake.try_rows("select 1 from gold.events").await.unwrap_err().to_string();

    assert_eq!(several, "query:1:15: there are several tables 'events': seeds.events, silver.events");
    assert_eq!(none, "query:2:8: there is no table 'nothing'; there are: gold.ids, seeds.events, silver.events");
    assert!(wrong.starts_with("query:1:20: there is no table 'gold.events'; there are: gold.ids"), "{wrong}");
    assert_eq!(lake.warehouse.tables().await.unwrap(), ["gold.ids", "seeds.events", "silver.events"].map(name));
}

#[tokio::test]
async fn an_error_of_the_sql_names_its_place() {
    let lake = Lake::memory();
    lake.table(BASE).await;
    let mut model = lake.model(Materialization::Table).await;
    model.origin.first_line = 10;
    model.sql = "select id,\n  no_such_column\nfrom seeds.events".into();
    let mut fails = lake.model(Materialization::Table).await;
    fails.sql = "select cast(id as int64) as id, day from seeds.events".into();

    let refusal = lake.refused(model).await;
    let failure = lake.refused(fails).await;

    assert!(refusal.starts_with("models/events.sql:11:3: "), "{refusal}");
    assert!(failure.starts_with("models/events.sql:1:1: "), "{failure}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_parts_of_a_union_come_in_turn() {
    let lake = Lake::memory();
    lake.seed(&[("a", "2025-01-10", 1e16), ("b", "2025-01-10", -1e16), ("c", "2025-01-10", 1.0)]).await;
    let mut model = lake.model(Materialization::Table).await;
    // The first part takes longest. Were its row added last, the 1 would be lost.
    model.sql = "select day, sum(value) as id from (
        select day, max(value) as value from seeds.events cross join unnest(generate_array(1, 100000)) as n group by day
        union all select day, value from seeds.events where id = 'b'
        union all select day, value from seeds.events where id = 'c') group by day"
        .into();

    for version in [None, Some(FIRST), Some(FIRST + 1)] {
        model.expected = version;
        lake.build(model.clone()).await;
        assert_eq!(lake.rows("select id from silver.events").await, ["1.0"]);
    }
}
