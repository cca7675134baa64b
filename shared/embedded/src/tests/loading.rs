use std::sync::Arc;

use arrow::array::{Array, Float64Array, Int64Array, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, TimeUnit};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use parquet::arrow::ArrowWriter;
use shared::partition::Partition;
use shared::store::{Precondition, Store};
use shared::table::{Column, ColumnType, Growth, Partitioning, TableSpec};
use shared::warehouse::{Extent, Load, LoadMode, LoadPartition, Warehouse, WarehouseError};

use super::{FIRST, Lake, extent, name, partitions};

fn spec(columns: Vec<Column>) -> TableSpec {
    TableSpec {
        columns,
        key: 0,
        partition_column: 1,
        partitioning: Partitioning::Day,
        clustering: vec!["magType"],
        rows_are: "events",
        growth: Growth::Union,
    }
}

fn quakes() -> TableSpec {
    spec(vec![
        Column::required("id", ColumnType::Text),
        Column::required("time", ColumnType::Timestamp),
        Column::new("magType", ColumnType::Text),
        Column::new("mag", ColumnType::Float),
    ])
}

fn bronze(rows: &[(&str, &str, f64)]) -> Bytes {
    let millis = |text: &str| text.parse::<DateTime<Utc>>().unwrap().timestamp_millis();
    let utc = |array: TimestampMillisecondArray| Arc::new(array.with_timezone("UTC")) as Arc<dyn Array>;
    let batch = RecordBatch::try_new(
        quakes().schema(),
        vec![
            Arc::new(rows.iter().map(|row| Some(row.0)).collect::<StringArray>()),
            utc(rows.iter().map(|row| Some(millis(row.1))).collect()),
            Arc::new(rows.iter().map(|_| Some("ml")).collect::<StringArray>()),
            Arc::new(rows.iter().map(|row| Some(row.2)).collect::<Float64Array>()),
            utc(rows.iter().map(|_| Some(0)).collect()),
            Arc::new(rows.iter().map(|_| Some("capture")).collect::<StringArray>()),
            Arc::new((0..rows.len() as i64).map(Some).collect::<Int64Array>()),
            utc(rows.iter().map(|_| Some(0)).collect()),
            Arc::new(rows.iter().map(|_| Some("capture")).collect::<StringArray>()),
        ],
    )
    .unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap().into()
}

impl Lake {
    /// Writes the bronze object of a day, and says how to load it.
    async fn day(&self, day: &str, rows: &[(&str, &str, f64)]) -> LoadPartition {
        let object = format!("bronze/quakes/date={day}/events.parquet");
        let generation = self.store.put(&object, bronze(rows), Precondition::None).await.unwrap();
        LoadPartition { partition: day.parse().unwrap(), object, generation }
    }

    async fn load(&self, days: &[&LoadPartition], replaces_all: bool, cause: &str) -> Vec<String> {
        self.try_load(days, replaces_all, cause).await.unwrap()
    }

    async fn try_load(&self, days: &[&LoadPartition], all: bool, cause: &str) -> Result<Vec<String>, WarehouseError> {
        let load = Load {
            table: name("raw.quakes"),
            spec: &quakes(),
            partitions: days.iter().map(|day| (*day).clone()).collect(),
            mode: if all { LoadMode::Snapshot } else { LoadMode::Newer },
            cause: cause.into(),
        };
        Ok(self.warehouse.load(load).await?.iter().map(Partition::to_string).collect())
    }

    async fn quakes(&self) -> Vec<String> {
        self.rows("select id, mag from raw.quakes order by id, mag").await
    }
}

#[tokio::test]
async fn columns_are_in_lower_case_and_times_in_microseconds() {
    for lake in Lake::both() {
        let day = lake.day("2025-07-24", &[("a", "2025-07-24T12:30:00.250Z", 4.5)]).await;

        assert_eq!(lake.load(&[&day], false, "one").await, ["2025-07-24"]);

        let schema = lake.manifest("raw.quakes").await.schema();
        assert_eq!(schema.field(2).name(), "magtype");
        assert_eq!(schema.field(1).data_type(), &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
        let rows = lake.rows("select time, magType from raw.quakes").await;
        assert_eq!(rows, ["2025-07-24T12:30:00.250Z ml"]);
    }
}

#[tokio::test]
async fn a_load_again_or_of_an_older_generation_changes_nothing() {
    for lake in Lake::both() {
        let old = lake.day("2025-07-24", &[("a", "2025-07-24T01:00:00Z", 1.0)]).await;
        let new = lake.day("2025-07-24", &[("a", "2025-07-24T01:00:00Z", 2.0)]).await;
        lake.load(&[&new], false, "new").await;
        let before = lake.manifest("raw.quakes").await.commit;

        assert!(lake.load(&[&new], false, "again").await.is_empty());
        assert!(lake.load(&[&old], false, "late").await.is_empty());

        assert_eq!(lake.manifest("raw.quakes").await.commit, before);
        assert_eq!(lake.quakes().await, ["a 2.0"]);
        let loaded = lake.warehouse.loaded(&name("raw.quakes"), "new").await.unwrap();
        assert_eq!(loaded.generations[&new.partition], new.generation);
        assert_eq!(loaded.by_cause, partitions(&["2025-07-24"]));
        assert!(lake.warehouse.loaded(&name("raw.quakes"), "late").await.unwrap().by_cause.is_empty());
    }
}

#[tokio::test]
async fn a_load_replaces_its_days_and_keeps_the_others_of_the_month() {
    let lake = Lake::memory();
    let first = lake.day("2025-07-01", &[("a", "2025-07-01T01:00:00Z", 1.0)]).await;
    let second = lake.day("2025-07-02", &[("b", "2025-07-02T01:00:00Z", 2.0)]).await;
    let august = lake.day("2025-08-01", &[("c", "2025-08-01T01:00:00Z", 3.0)]).await;
    lake.load(&[&first, &second, &august], false, "one").await;
    let before = lake.manifest("raw.quakes").await;

    let again = lake.day("2025-07-02", &[("b", "2025-07-02T01:00:00Z", 2.5), ("d", "2025-07-02T02:00:00Z", 4.0)]).await;
    lake.load(&[&first, &again], false, "two").await;

    assert_eq!(lake.quakes().await, ["a 1.0", "b 2.5", "c 3.0", "d 4.0"]);
    let after = lake.manifest("raw.quakes").await;
    assert_eq!(after.state.changed_since(FIRST), extent(&["2025-07-02"]));
    assert_eq!(after.state.changes[1].cause, "two");
    assert_eq!(before.file("2025-08"), after.file("2025-08"));
    assert_ne!(before.file("2025-07"), after.file("2025-07"));
    assert_eq!(after.state.rows, Some(4));
}

#[tokio::test]
async fn a_snapshot_drops_what_it_does_not_name() {
    let lake = Lake::memory();
    let first = lake.day("2025-07-01", &[("a", "2025-07-01T01:00:00Z", 1.0)]).await;
    let second = lake.day("2025-08-02", &[("b", "2025-08-02T01:00:00Z", 2.0)]).await;
    lake.load(&[&first, &second], true, "one").await;
    let third = lake.day("2025-09-03", &[("c", "2025-09-03T01:00:00Z", 3.0)]).await;

    let touched = lake.load(&[&second, &third], true, "two").await;

    assert_eq!(touched, ["2025-07-01", "2025-09-03"]);
    assert_eq!(lake.quakes().await, ["b 2.0", "c 3.0"]);
    let loaded = lake.warehouse.loaded(&name("raw.quakes"), "two").await.unwrap();
    assert_eq!(loaded.by_cause, partitions(&["2025-07-01", "2025-09-03"]), "a drop is caused too");
    assert_eq!(loaded.generations.len(), 2);
    assert_eq!(lake.warehouse.loaded(&name("raw.quakes"), "one").await.unwrap().by_cause, partitions(&["2025-08-02"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loads_at_once_all_come_in() {
    for lake in Lake::both() {
        let lake = Arc::new(lake);
        let mut loads = tokio::task::JoinSet::new();
        for day in 1..=6 {
            let lake = Arc::clone(&lake);
            loads.spawn(async move {
                let day = format!("2025-07-{day:02}");
                let load = lake.day(&day, &[("a", &format!("{day}T01:00:00Z"), 1.0)]).await;
                lake.load(&[&load], false, &day).await
            });
        }
        while let Some(loaded) = loads.join_next().await {
            assert_eq!(loaded.unwrap().len(), 1);
        }
        let manifest = lake.manifest("raw.quakes").await;
        assert_eq!((manifest.state.version, manifest.state.rows), (FIRST + 5, Some(6)));
    }
}

#[tokio::test]
async fn a_bad_bronze_object_is_named() {
    for lake in Lake::both() {
        let good = lake.day("2025-07-01", &[("a", "2025-07-01T01:00:00Z", 1.0)]).await;
        lake.load(&[&good], false, "one").await;
        let mut bad = good.clone();
        bad.partition = "2025-07-02".parse().unwrap();
        bad.object = "bronze/quakes/date=2025-07-02/events.parquet".into();
        let before = lake.store.parquet_objects().await;

        let missing = lake.try_load(&[&bad], false, "two").await.unwrap_err();
        bad.generation = lake.store.put(&bad.object, Bytes::from_static(b"no"), Precondition::None).await.unwrap();
        let short = lake.try_load(&[&bad], false, "two").await.unwrap_err();
        bad.generation = lake.store.put(&bad.object, vec![7; 999].into(), Precondition::None).await.unwrap();
        let corrupt = lake.try_load(&[&bad], false, "two").await.unwrap_err();
        for error in [missing, short, corrupt] {
            let WarehouseError::Damaged { table, object, .. } = &error else { panic!("{error:?}") };
            assert_eq!((table.to_string().as_str(), object), ("raw.quakes", &bad.object), "{error}");
        }
        let stray = bronze(&[("a", "2025-07-03T01:00:00Z", 1.0)]);
        bad.generation = lake.store.put(&bad.object, stray, Precondition::None).await.unwrap();
        let stray = lake.try_load(&[&bad], false, "two").await.unwrap_err().to_string();

        assert!(stray.contains("holds rows of other partitions than 2025-07-02"), "{stray}");
        assert_eq!(lake.quakes().await, ["a 1.0"]);
        assert_eq!(lake.store.parquet_objects().await, before);
    }
}

#[tokio::test]
async fn a_new_column_is_null_in_the_rows_of_before() {
    let lake = Lake::memory();
    let first = lake.day("2025-07-01", &[("a", "2025-07-01T01:00:00Z", 1.0)]).await;
    lake.load(&[&first], false, "one").await;
    let mut wider = quakes().columns;
    wider.push(Column::new("net", ColumnType::Text));
    let load = Load {
        table: name("raw.quakes"),
        spec: &spec(wider),
        partitions: vec![lake.day("2025-08-01", &[("b", "2025-08-01T01:00:00Z", 2.0)]).await],
        mode: LoadMode::Newer,
        cause: "two".into(),
    };

    lake.warehouse.load(load).await.unwrap();

    assert_eq!(lake.rows("select id, net from raw.quakes order by id").await, ["a ", "b "]);
    assert_eq!(lake.manifest("raw.quakes").await.state.changed_since(1), Extent::Whole);
}

#[tokio::test]
async fn months_that_the_time_rules_out_are_not_read() {
    for lake in Lake::both() {
        let mut days = Vec::new();
        for day in ["2025-06-30", "2025-07-15", "2025-08-01"] {
            days.push(lake.day(day, &[(day, &format!("{day}T23:59:59.999Z"), 1.0)]).await);
        }
        lake.load(&days.iter().collect::<Vec<_>>(), false, "one").await;
        let file = lake.manifest("raw.quakes").await.file("2025-07").unwrap().object.clone();
        lake.store.files_read();

        let filter = "time >= timestamp '2025-07-01 00:00:00+00' and time < timestamp '2025-08-01 00:00:00+00'";
        let rows =
            lake.rows(&format!("select id from raw.quakes where ({filter}) or time > timestamp '2026-01-01'")).await;

        assert_eq!(rows, ["2025-07-15"]);
        assert_eq!(lake.store.files_read(), [file].into());
    }
}
