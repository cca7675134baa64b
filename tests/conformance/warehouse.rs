//! The warehouse: loads never go back, a commit is whole or not there, and every commit says what it touched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use chrono::{DateTime, Utc};
use embedded::Embedded;
use parquet::arrow::ArrowWriter;
use shared::clock::System;
use shared::dataset::Dataset;
use shared::partition::Partition;
use shared::store::{Directory, Memory, Precondition, Store};
use shared::table::{Column, ColumnType, Growth, Partitioning, TableName, TableSpec};
use shared::warehouse::{
    Extent, Layout, Load, LoadMode, LoadPartition, Materialization, ModelRun, Origin, PartitionBy, PartitionColumn,
    SeedRun, Warehouse, WarehouseError,
};
use strata::rows::{Format, print};
use tests::harvests::Harvests;

const FIRST_DAY: &str = "2025-07-24";
const SECOND_DAY: &str = "2025-08-02";

/// A warehouse, and the store that its bronze objects are in.
pub(crate) struct Bench {
    pub(crate) warehouse: Arc<dyn Warehouse>,
    store: Arc<dyn Store>,
    spec: TableSpec,
}

fn days(days: &[&str]) -> BTreeSet<Partition> {
    days.iter().map(|day| day.parse().unwrap()).collect()
}

fn times(time: DateTime<Utc>, rows: usize) -> ArrayRef {
    let times = TimestampMillisecondArray::from_value(time.timestamp_millis(), rows);
    Arc::new(times.with_timezone("UTC"))
}

fn table(name: &str) -> TableName {
    name.to_owned().try_into().unwrap()
}

impl Bench {
    pub(crate) fn new(warehouse: Arc<dyn Warehouse>, store: Arc<dyn Store>) -> Self {
        let spec = TableSpec {
            columns: vec![
                Column::required("id", ColumnType::Text),
                Column::required("time", ColumnType::Timestamp),
                Column::new("mag", ColumnType::Float),
            ],
            key: 0,
            partition_column: 1,
            partitioning: Partitioning::Day,
            clustering: vec!["id"],
            rows_are: "quakes",
            growth: Growth::Union,
        };
        Self { warehouse, store, spec }
    }

    /// Writes the bronze object of a day.
    pub(crate) async fn bronze(&self, day: &str, rows: &[(&str, f64)]) -> LoadPartition {
        let noon: DateTime<Utc> = format!("{day}T12:00:00Z").parse().unwrap();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.0))),
            times(noon, rows.len()),
            Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.1))),
        ];
        self.write(&self.spec, "quakes", day, columns).await
    }

    /// Writes a bronze object of these columns and those that say where a row came from.
    async fn write(&self, spec: &TableSpec, name: &str, partition: &str, mut columns: Vec<ArrayRef>) -> LoadPartition {
        let rows = columns[0].len();
        let captures = || -> ArrayRef { Arc::new(StringArray::from_iter_values((0..rows).map(|_| "capture"))) };
        let hashes: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows as i64));
        let observed = || times(DateTime::UNIX_EPOCH, rows);
        columns.extend([observed(), captures(), hashes, observed(), captures()]);
        let batch = RecordBatch::try_new(spec.schema(), columns).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        let object = format!("bronze/{name}/{partition}/{name}.parquet");
        let bytes = writer.into_inner().unwrap().into();
        let generation = self.store.put(&object, bytes, Precondition::None).await.unwrap();
        LoadPartition { partition: partition.parse().unwrap(), object, generation }
    }

    async fn loads(
        &self,
        partitions: &[&LoadPartition],
        mode: LoadMode,
        cause: &str,
    ) -> Result<BTreeSet<Partition>, WarehouseError> {
        let partitions = partitions.iter().map(|&it| it.clone()).collect();
        let load = Load { table: table("raw.quakes"), spec: &self.spec, partitions, mode, cause: cause.to_owned() };
        self.warehouse.load(load).await
    }

    /// Loads what is newer, which may fail.
    pub(crate) async fn try_load(&self, partitions: &[&LoadPartition]) -> Result<BTreeSet<Partition>, WarehouseError> {
        self.loads(partitions, LoadMode::Newer, "test").await
    }

    pub(crate) async fn load(&self, partitions: &[&LoadPartition], mode: LoadMode, cause: &str) -> BTreeSet<Partition> {
        self.loads(partitions, mode, cause).await.unwrap()
    }

    async fn version(&self, name: &str) -> u64 {
        self.warehouse.state(&table(name)).await.unwrap().unwrap().version
    }

    async fn changed_since(&self, name: &str, version: u64) -> Extent {
        self.warehouse.state(&table(name)).await.unwrap().unwrap().changed_since(version)
    }

    async fn rows(&self, sql: &str) -> Vec<String> {
        let answer = self.warehouse.query(sql, &Origin::new("test")).await.unwrap();
        let mut text = Vec::new();
        print(&answer, Format::Csv, &mut text).unwrap();
        String::from_utf8(text).unwrap().lines().skip(1).map(str::to_owned).collect()
    }

    pub(crate) async fn quakes(&self) -> Vec<String> {
        self.rows("select id, mag from raw.quakes order by id, mag").await
    }

    async fn facts(&self) -> Vec<String> {
        self.rows("select id, mag from gold.facts order by id, mag").await
    }

    /// A model of what is loaded, to be built over the table as it is.
    async fn model(&self, name: &str, sql: &str, materialization: Materialization) -> ModelRun {
        let partition_by = Some(PartitionBy { field: "day".to_owned(), column: PartitionColumn::Date });
        let layout = Layout { partition_by, cluster_by: vec!["id".to_owned()], unique_key: vec!["id".to_owned()] };
        let table = table(name);
        ModelRun {
            layout: if materialization == Materialization::View { Layout::default() } else { layout },
            materialization,
            sql: sql.to_owned(),
            origin: Origin::new("models/facts.sql"),
            definition: "first".to_owned(),
            inputs: BTreeMap::from([(TableName::raw("quakes"), self.version("raw.quakes").await)]),
            expected: self.warehouse.state(&table).await.unwrap().map(|state| state.version),
            cause: "run".to_owned(),
            table,
        }
    }
}

async fn loads_never_go_back(bench: &Bench) {
    let raw = TableName::raw("quakes");
    assert_eq!(bench.warehouse.state(&raw).await.unwrap(), None);
    assert_eq!(bench.warehouse.loaded(&raw, "one").await.unwrap(), shared::warehouse::Loaded::default());
    let old = bench.bronze(FIRST_DAY, &[("a", 1.0)]).await;
    let new = bench.bronze(FIRST_DAY, &[("a", 2.0), ("b", 0.5)]).await;
    assert_eq!(bench.load(&[&new], LoadMode::Newer, "one").await, days(&[FIRST_DAY]));
    let version = bench.version("raw.quakes").await;
    for (late, cause) in [(&new, "echo"), (&old, "late")] {
        assert_eq!(bench.load(&[late], LoadMode::Newer, cause).await, days(&[]));
    }
    assert_eq!(bench.version("raw.quakes").await, version, "what changes nothing is no commit");
    assert_eq!(bench.quakes().await, ["a,2.0", "b,0.5"]);
    let loaded = bench.warehouse.loaded(&raw, "one").await.unwrap();
    assert_eq!(loaded.generations, BTreeMap::from([(new.partition, new.generation)]));
    assert_eq!(loaded.by_cause, days(&[FIRST_DAY]));
    assert_eq!(bench.warehouse.loaded(&raw, "late").await.unwrap().by_cause, days(&[]));

    let other = bench.bronze(SECOND_DAY, &[("c", 3.0)]).await;
    assert_eq!(bench.load(&[&new, &other], LoadMode::Newer, "two").await, days(&[SECOND_DAY]));
    assert_eq!(bench.changed_since("raw.quakes", version).await, Extent::Partitions(days(&[SECOND_DAY])));
    assert_eq!(bench.load(&[&new], LoadMode::Again, "again").await, days(&[FIRST_DAY]));
    assert_eq!(bench.quakes().await, ["a,2.0", "b,0.5", "c,3.0"]);
    assert_eq!(bench.load(&[&other], LoadMode::Snapshot, "snapshot").await, days(&[FIRST_DAY]), "a drop is a change");
    assert_eq!(bench.quakes().await, ["c,3.0"]);
    bench.load(&[&new, &other], LoadMode::Afresh, "afresh").await;
    assert_eq!(bench.changed_since("raw.quakes", version).await, Extent::Whole);
    assert_eq!(bench.quakes().await, ["a,2.0", "b,0.5", "c,3.0"]);

    // Made anew by somebody who did not know of the first day, which then comes from who asked long before.
    bench.load(&[&other], LoadMode::Afresh, "unknowing").await;
    assert_eq!(bench.load(&[&old], LoadMode::Newer, "late").await, days(&[FIRST_DAY]));
    assert_eq!(bench.quakes().await, ["a,2.0", "b,0.5", "c,3.0"]);
    let loaded = bench.warehouse.loaded(&raw, "late").await.unwrap();
    assert_eq!(loaded.generations[&new.partition], new.generation);
}

const FACTS: &str = "select id, date(time) as day, mag from raw.quakes";

async fn a_model_becomes_its_table(bench: &Bench) {
    let merge = || Materialization::Merge { unique_key: vec!["id".to_owned()] };
    let whole = bench.model("gold.facts", FACTS, Materialization::Table).await;
    let inputs = whole.inputs.clone();
    let built = bench.warehouse.build(whole.clone()).await.unwrap();
    assert_eq!((built.rows, &built.extent, built.state.rows), (3, &Extent::Whole, Some(3)));
    let state = bench.warehouse.state(&table("gold.facts")).await.unwrap().unwrap();
    assert_eq!((&state, &state.inputs, state.definition.as_str()), (&built.state, &inputs, "first"));

    // A plan for another version of the table.
    let stale = bench.warehouse.build(whole).await;
    assert!(matches!(stale, Err(WarehouseError::Conflict(_))), "{stale:?}");

    // By key: one row changes and one comes, and only their days are touched.
    let merged = format!("{FACTS} where id = 'c' union all select 'd', date '{SECOND_DAY}', 9.0");
    let merged = merged.replace("mag from", "mag + 1 as mag from");
    let built = bench.warehouse.build(bench.model("gold.facts", &merged, merge()).await).await.unwrap();
    assert_eq!((built.rows, built.extent), (2, Extent::Partitions(days(&[SECOND_DAY]))));
    assert_eq!(bench.facts().await, ["a,2.0", "b,0.5", "c,4.0", "d,9.0"]);
    assert_eq!(bench.changed_since("gold.facts", state.version).await, Extent::Partitions(days(&[SECOND_DAY])));

    // By day: what is not given is gone, and other days stay.
    let overwrite = Materialization::Overwrite { partitions: days(&[SECOND_DAY]) };
    let only = format!("select 'e' as id, date '{SECOND_DAY}' as day, 5.0 as mag");
    bench.warehouse.build(bench.model("gold.facts", &only, overwrite.clone()).await).await.unwrap();
    assert_eq!(bench.facts().await, ["a,2.0", "b,0.5", "e,5.0"]);

    // What cannot become the table leaves it as it was.
    let twice = format!("{FACTS} union all {FACTS}");
    for (sql, materialization) in [(twice.as_str(), merge()), (FACTS, overwrite)] {
        let refused = bench.warehouse.build(bench.model("gold.facts", sql, materialization).await).await;
        assert!(matches!(refused, Err(WarehouseError::Rows { .. })), "{refused:?}");
    }
    assert_eq!(bench.facts().await, ["a,2.0", "b,0.5", "e,5.0"]);

    let view = "select id from gold.facts where mag > 1";
    bench.warehouse.build(bench.model("gold.large", view, Materialization::View).await).await.unwrap();
    assert_eq!(bench.rows("select id from large order by id").await, ["a", "e"]);
}

async fn a_seed_is_a_table(bench: &Bench) {
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(["ml", "mw"]));
    let rows = RecordBatch::try_from_iter([("name", names)]).unwrap();
    let seed = SeedRun { table: table("gold.names"), rows, definition: "names".to_owned(), cause: "run".to_owned() };
    assert_eq!(bench.warehouse.seed(seed).await.unwrap().rows, 2);
    assert_eq!(bench.rows("select name from gold.names order by name").await, ["ml", "mw"]);
    let tables: Vec<_> = bench.warehouse.tables().await.unwrap().iter().map(TableName::to_string).collect();
    assert_eq!(tables, ["gold.facts", "gold.large", "gold.names", "raw.quakes"]);
}

async fn wrong_sql_is_an_error_at_its_place(bench: &Bench, places: Places) {
    let of_a_name = if places == Places::Every { 3 } else { 1 };
    let wrong_name = "select id\nfrom gold.facts\nwhere magnitude > 1";
    for (sql, line) in [("select id\nfrom gold.facts where )", 2), (wrong_name, of_a_name)] {
        let error = bench.warehouse.query(sql, &Origin::new("query")).await.unwrap_err();
        assert!(matches!(&error, WarehouseError::Sql(at) if at.file == "query" && at.line == line), "{error}");
    }
    let error = bench.warehouse.query("select * from gold.nothing", &Origin::new("query")).await.unwrap_err();
    assert!(error.to_string().contains("gold.nothing"), "{error}");
}

/// Each build gives all rows the same number, so a mixture would show.
async fn a_reader_sees_one_commit(bench: &Arc<Bench>) {
    let build = async |number: u32| {
        let sql = format!("select id, day, {number} as mag from gold.facts");
        bench.warehouse.build(bench.model("gold.facts", &sql, Materialization::Table).await).await.unwrap();
    };
    build(0).await;
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let bench = Arc::clone(bench);
            tokio::spawn(async move {
                let mut seen = BTreeSet::new();
                while !seen.contains("12") {
                    let numbers = bench.rows("select mag from gold.facts").await;
                    assert_eq!((numbers.len(), numbers.iter().collect::<BTreeSet<_>>().len()), (3, 1), "{numbers:?}");
                    seen.extend(numbers);
                }
            })
        })
        .collect();
    for number in 1..=12 {
        build(number).await;
    }
    for reader in readers {
        reader.await.unwrap();
    }
}

/// A snapshot by year: its next version lacks a year, has another for one, and one more.
async fn years_are_replaced_and_dropped(bench: &Bench) {
    let spec = Harvests.table();
    let harvest = async |year: i64, crop: &str| {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(["north"])),
            Arc::new(Int64Array::from_iter_values([year])),
            Arc::new(StringArray::from_iter_values([crop])),
            Arc::new(Float64Array::from_iter_values([1.5])),
        ];
        bench.write(spec, "harvests", &year.to_string(), columns).await
    };
    let load = async |partitions: Vec<LoadPartition>| {
        let (table, cause) = (TableName::raw("harvests"), "test".to_owned());
        bench.warehouse.load(Load { table, spec, partitions, mode: LoadMode::Snapshot, cause }).await.unwrap()
    };
    let first = vec![harvest(2017, "rye").await, harvest(2018, "oats").await];
    assert_eq!(load(first).await, days(&["2017", "2018"]));
    let version = bench.version("raw.harvests").await;
    let second = vec![harvest(2018, "wheat").await, harvest(2019, "barley").await];
    assert_eq!(load(second).await, days(&["2017", "2018", "2019"]));
    assert_eq!(bench.rows("select crop, year from raw.harvests order by year").await, ["wheat,2018", "barley,2019"]);
    let changed = Extent::Partitions(days(&["2017", "2018", "2019"]));
    assert_eq!(bench.changed_since("raw.harvests", version).await, changed);

    let column = PartitionColumn::Year { start: 2000, end: 2100 };
    let partition_by = Some(PartitionBy { field: "year".to_owned(), column });
    let model = async |materialization, sql: &str| ModelRun {
        layout: Layout { partition_by: partition_by.clone(), ..Layout::default() },
        ..bench.model("gold.harvests", sql, materialization).await
    };
    let all = "select crop, year from raw.harvests";
    bench.warehouse.build(model(Materialization::Table, all).await).await.unwrap();
    let merge = Materialization::Merge { unique_key: vec!["crop".to_owned()] };
    let moved = model(merge, "select 'wheat' as crop, 2020 as year").await;
    let built = bench.warehouse.build(moved).await.unwrap();
    assert_eq!(built.extent, Extent::Partitions(days(&["2018", "2020"])));
    assert_eq!(bench.rows("select crop, year from gold.harvests order by year").await, ["barley,2019", "wheat,2020"]);
}

/// Of which errors in SQL a warehouse says where they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Places {
    /// Of all.
    Every,
    /// Of wrong syntax; of wrong names it says where the SQL begins.
    Syntax,
}

/// Checks a warehouse that is empty, over a store that holds its bronze objects.
pub(crate) async fn conforms(store: Arc<dyn Store>, warehouse: Arc<dyn Warehouse>, places: Places) {
    let bench = Arc::new(Bench::new(warehouse, store));
    loads_never_go_back(&bench).await;
    a_model_becomes_its_table(&bench).await;
    a_seed_is_a_table(&bench).await;
    wrong_sql_is_an_error_at_its_place(&bench, places).await;
    a_reader_sees_one_commit(&bench).await;
    years_are_replaced_and_dropped(&bench).await;
}

async fn embedded_conforms(store: Arc<dyn Store>) {
    let warehouse = Embedded::new(Arc::clone(&store), Arc::new(System));
    conforms(store, Arc::new(warehouse), Places::Every).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn embedded_in_memory() {
    embedded_conforms(Arc::new(Memory::default())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn embedded_in_a_directory() {
    let temp = tempfile::tempdir().unwrap();
    embedded_conforms(Arc::new(Directory::open(temp.path()).unwrap())).await;
}
