//! What tests that cross crates share: a pipeline in memory against a simulated source, and its tables as text.

pub mod harvests;
pub mod polling;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use shared::bus::DeadLetter;
use shared::dataset::{Ask, Registry};
use shared::ledger::{self, Record};
use shared::message::{FetchRequest, Message};
use shared::retry::Backoff;
use shared::store::{Memory, Store};
use shared::warehouse::{Origin, Warehouse};
use strata::pipeline::{Parts, Pipeline};
use strata::report::dead_letters;
use strata::rows::{Format, print};
use transform::project::Project;
use usgs_simulator::{Catalogue, Handle, Running, Simulator};

/// The recorded month of real data.
pub const MONTH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/usgs/all_month_2025-07-23T1512Z.csv.gz");

/// The folder with the files of the hours in which the service wrote no times.
pub const GLITCH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/usgs/glitch_2024-10-07");

/// The dbt project of the second dataset.
pub const HARVESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/harvests");

/// Errors in tests are told, not handled.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Retries that do not keep a test waiting.
pub const QUICK: Backoff = Backoff { first: Duration::from_millis(1), longest: Duration::from_millis(2), attempts: 5 };

/// A pipeline that has the shipped datasets and models, is quick to try again, and asks `address`.
pub fn parts(address: &str) -> Result<Parts> {
    let mut parts = Parts::shipped()?;
    parts.fetch_backoff = QUICK;
    parts.backoff = QUICK;
    parts.client.spacing = Some(Duration::ZERO);
    parts.client.failure_cache = Some(Duration::ZERO);
    parts.client.addresses.insert("earthquakes".to_owned(), address.to_owned());
    Ok(parts)
}

/// A pipeline in memory and the source that it asks.
pub struct World {
    /// The source.
    pub source: Running,
    /// The services.
    pub pipeline: Pipeline,
    /// Lake and warehouse.
    pub store: Memory,
    /// What the pipeline is made of.
    pub parts: Parts,
}

impl World {
    /// A source with this catalogue, as of its newest change, and an empty pipeline.
    pub async fn new(catalogue: Catalogue) -> Result<Self> {
        Self::with(catalogue, |_| ()).await
    }

    /// The same, with other settings.
    pub async fn with(catalogue: Catalogue, change: impl FnOnce(&mut Parts)) -> Result<Self> {
        let source = Simulator::builder(catalogue).build().serve().await?;
        let mut parts = parts(&source.base_url())?;
        change(&mut parts);
        let store = Memory::default();
        let pipeline = Pipeline::new(Arc::new(store.clone()), &parts, "test")?;
        Ok(Self { source, pipeline, store, parts })
    }

    /// The recorded month.
    pub async fn month() -> Result<Self> {
        Self::new(Catalogue::from_path(MONTH)?).await
    }

    /// The source's handle.
    pub fn handle(&self) -> Handle {
        self.source.handle()
    }

    /// A scheduled run, and all that follows.
    pub async fn tick(&self) -> Result<()> {
        self.ask(Ask::Tick { days: 30, sweep: false }).await
    }

    /// Any request for earthquakes, and all that follows.
    pub async fn ask(&self, ask: Ask) -> Result<()> {
        self.send(&FetchRequest { dataset: "earthquakes".to_owned(), ask }).await
    }

    /// Any message, and all that follows.
    pub async fn send<M: Message>(&self, message: &M) -> Result<()> {
        self.pipeline.send(message).await?;
        self.pipeline.bus.idle().await;
        Ok(())
    }

    /// The answer of a query, as CSV without its header.
    pub async fn query(&self, sql: &str) -> Result<Vec<String>> {
        query(&self.pipeline, sql).await
    }

    /// The ledger's records of a dataset.
    pub async fn ledger(&self, dataset: &str) -> Result<Vec<Record>> {
        Ok(ledger::read(&self.store, dataset, None).await?)
    }

    /// The messages that were given up.
    pub async fn dead(&self) -> Result<Vec<DeadLetter>> {
        Ok(dead_letters(&self.store).await?)
    }

    /// All rows of all tables, sorted: what must not change when nothing did.
    pub async fn tables(&self) -> Result<BTreeMap<String, Vec<String>>> {
        tables(&self.pipeline).await
    }

    /// The names of all objects below a prefix.
    pub async fn objects(&self, prefix: &str) -> Result<Vec<String>> {
        Ok(self.store.list(prefix).await?.into_iter().map(|object| object.name).collect())
    }
}

/// The answer of a query, as CSV without its header.
pub async fn query(pipeline: &Pipeline, sql: &str) -> Result<Vec<String>> {
    query_in(&*pipeline.data.warehouse, sql).await
}

/// The same of any warehouse.
pub async fn query_in(warehouse: &dyn Warehouse, sql: &str) -> Result<Vec<String>> {
    let origin = Origin::new("test");
    let answer = warehouse.query(sql, &origin).await?;
    let mut text = Vec::new();
    print(&answer, Format::Csv, &mut text)?;
    Ok(String::from_utf8(text)?.lines().skip(1).map(str::to_owned).collect())
}

/// All rows of all tables, sorted.
pub async fn tables(pipeline: &Pipeline) -> Result<BTreeMap<String, Vec<String>>> {
    tables_in(&*pipeline.data.warehouse).await
}

/// The same of any warehouse.
pub async fn tables_in(warehouse: &dyn Warehouse) -> Result<BTreeMap<String, Vec<String>>> {
    let mut tables = BTreeMap::new();
    for table in warehouse.tables().await? {
        // Which of two captures of one second a row is credited to is settled by their random names.
        let columns = if table.schema == "raw" && table.table == "earthquakes" {
            "* except (_capture, _first_capture)"
        } else {
            "*"
        };
        let sql = format!("select {columns} from `{}`.`{}`", table.schema, table.table);
        let mut rows = query_in(warehouse, &sql).await?;
        rows.sort();
        tables.insert(table.to_string(), rows);
    }
    Ok(tables)
}

/// A pipeline with the dataset [`harvests::Harvests`] and its own models, and the file that it reads.
pub async fn harvests_pipeline(store: &Memory) -> Result<(Pipeline, harvests::File)> {
    let file = harvests::File::default();
    let mut parts = parts("http://unused.invalid")?;
    parts.datasets = Registry::new([Arc::new(harvests::Harvests) as _]);
    parts.project = Arc::new(Project::from_dir(HARVESTS)?);
    parts.client.addresses.insert("harvests".to_owned(), file.serve().await?);
    let pipeline = Pipeline::new(Arc::new(store.clone()), &parts, "test")?;
    Ok((pipeline, file))
}
