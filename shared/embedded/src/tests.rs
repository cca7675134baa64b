//! What the warehouse promises, on a store in memory and on one in a folder.

mod building;
mod committing;
mod loading;
mod merging;
mod overwriting;
mod reading;
mod spy;
mod writing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::{Date32Array, Float64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use arrow::util::display::array_value_to_string;
use chrono::{NaiveDate, TimeDelta};
use shared::clock::{Clock, Timestamp};
use shared::partition::Partition;
use shared::store::{Directory, Memory, Store};
use shared::table::TableName;
use shared::warehouse::{
    Built, Extent, Layout, Materialization, ModelRun, Origin, PartitionBy, PartitionColumn, SeedRun, Warehouse,
    WarehouseError,
};

use crate::Embedded;
use crate::manifest::Manifest;
use spy::Spy;

/// When the clock of a lake stands still, in milliseconds: 2025-08-01. So also the first version of a table.
const FIRST: u64 = 1_754_006_400_000;

/// A clock that stands still until it is moved.
struct TestClock {
    now: Mutex<Timestamp>,
    given: AtomicU64,
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.now.lock().unwrap()
    }

    fn random(&self) -> u128 {
        u128::from(self.given.fetch_add(1, Ordering::Relaxed)) << 20 | 0xabc
    }
}

/// A warehouse, and the means to look behind it.
struct Lake {
    warehouse: Embedded,
    store: Arc<Spy>,
    clock: Arc<TestClock>,
    _folder: Option<tempfile::TempDir>,
}

impl Lake {
    fn over(store: Arc<dyn Store>, folder: Option<tempfile::TempDir>) -> Self {
        let store = Arc::new(Spy::new(store));
        let start = Timestamp::from_timestamp_millis(FIRST.cast_signed()).unwrap();
        let clock = Arc::new(TestClock { now: Mutex::new(start), given: AtomicU64::new(1) });
        let warehouse = Embedded::new(store.clone(), clock.clone());
        Self { warehouse, store, clock, _folder: folder }
    }

    fn memory() -> Self {
        Self::over(Arc::new(Memory::default()), None)
    }

    fn directory() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::over(Arc::new(Directory::open(folder.path()).unwrap()), Some(folder))
    }

    fn both() -> [Self; 2] {
        [Self::memory(), Self::directory()]
    }

    fn pass(&self, time: TimeDelta) {
        *self.clock.now.lock().unwrap() += time;
    }

    async fn seed(&self, rows: &[Event]) {
        let seed =
            SeedRun { table: name("seeds.events"), rows: batch(rows), definition: "d".into(), cause: "s".into() };
        self.warehouse.seed(seed).await.unwrap();
    }

    async fn build(&self, model: ModelRun) -> Built {
        self.warehouse.build(model).await.unwrap()
    }

    async fn refused(&self, model: ModelRun) -> String {
        self.warehouse.build(model).await.unwrap_err().to_string()
    }

    /// The next version of `silver.events` from the seed.
    async fn model(&self, materialization: Materialization) -> ModelRun {
        let state = self.warehouse.state(&name("silver.events")).await.unwrap();
        self.model_of(materialization, state.map(|state| state.version))
    }

    async fn warehouse_build(&self, materialization: Materialization) -> Result<Built, WarehouseError> {
        self.warehouse.build(self.model(materialization).await).await
    }

    fn model_of(&self, materialization: Materialization, expected: Option<u64>) -> ModelRun {
        ModelRun {
            table: name("silver.events"),
            materialization,
            layout: Layout {
                partition_by: Some(PartitionBy { field: "day".into(), column: PartitionColumn::Date }),
                cluster_by: vec!["day".into()],
                unique_key: vec!["id".into()],
            },
            sql: "select id, day, value from seeds.events".into(),
            origin: Origin { file: "models/events.sql".into(), first_line: 1 },
            definition: "one".into(),
            inputs: BTreeMap::new(),
            expected,
            cause: "run".into(),
        }
    }

    /// Builds `silver.events` whole from these rows.
    async fn table(&self, rows: &[Event]) -> Built {
        self.seed(rows).await;
        self.build(self.model(Materialization::Table).await).await
    }

    async fn merge(&self, rows: &[Event]) -> Built {
        self.seed(rows).await;
        self.build(self.model(by_id()).await).await
    }

    async fn overwrite(&self, rows: &[Event], days: &[&str]) -> Built {
        self.seed(rows).await;
        self.build(self.model(Materialization::Overwrite { partitions: partitions(days) }).await).await
    }

    async fn try_rows(&self, sql: &str) -> Result<Vec<String>, WarehouseError> {
        let origin = Origin { file: "query".into(), first_line: 1 };
        let answer = self.warehouse.query(sql, &origin).await?;
        let mut rows = Vec::new();
        for batch in &answer.batches {
            for row in 0..batch.num_rows() {
                let values = batch.columns().iter().map(|column| array_value_to_string(column, row).unwrap());
                rows.push(values.collect::<Vec<_>>().join(" "));
            }
        }
        Ok(rows)
    }

    async fn rows(&self, sql: &str) -> Vec<String> {
        self.try_rows(sql).await.unwrap()
    }

    async fn events(&self) -> Vec<String> {
        self.rows("select id, day, value from silver.events order by id, day").await
    }

    async fn manifest(&self, table: &str) -> Manifest {
        let object = self.store.get(&crate::manifest::manifest_object(&name(table))).await.unwrap().unwrap();
        serde_json::from_slice(&object.bytes).unwrap()
    }

    /// The object of each bucket of `silver.events`.
    async fn files(&self) -> BTreeMap<String, String> {
        let files = self.manifest("silver.events").await.files;
        files.into_iter().map(|file| (file.bucket, file.object)).collect()
    }
}

type Event = (&'static str, &'static str, f64);

fn batch(rows: &[Event]) -> RecordBatch {
    let day =
        |text: &str| text.parse::<NaiveDate>().unwrap().signed_duration_since(NaiveDate::default()).num_days() as i32;
    let schema = Schema::new(vec![
        Field::new("id", DataType::Utf8, true),
        Field::new("day", DataType::Date32, true),
        Field::new("value", DataType::Float64, true),
    ]);
    let text = |text: &'static str| (!text.is_empty()).then_some(text);
    RecordBatch::try_new(
        Arc::new(schema),
        vec![
            Arc::new(rows.iter().map(|row| text(row.0)).collect::<StringArray>()),
            Arc::new(rows.iter().map(|row| text(row.1).map(day)).collect::<Date32Array>()),
            Arc::new(rows.iter().map(|row| row.2).collect::<Float64Array>()),
        ],
    )
    .unwrap()
}

fn name(text: &str) -> TableName {
    TableName::try_from(text.to_owned()).unwrap()
}

fn by_id() -> Materialization {
    Materialization::Merge { unique_key: vec!["id".into()] }
}

fn partitions(days: &[&str]) -> BTreeSet<Partition> {
    days.iter().map(|day| day.parse().unwrap()).collect()
}

fn extent(days: &[&str]) -> Extent {
    Extent::Partitions(partitions(days))
}
