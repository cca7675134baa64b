//! A warehouse in memory that keeps the port's contract with little work: versions, change logs, conflicts, loads that
//! read first and commit later. It knows one project of models, [`project`], whose SQL is a word and a list of days.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use shared::partition::Partition;
use shared::store::{Generation, Memory, Store};
use shared::table::TableName;
use shared::warehouse::{
    Answer, Built, Change, Cost, Extent, Load, LoadMode, Loaded, Materialization, ModelRun, Origin, SeedRun,
    TableState, Warehouse, WarehouseError,
};
use transform::project::Project;

use super::rows::{Row, newest, of_parquet};
use super::turns::{Kind, Seat};

/// Older changes are forgotten, so that catching up from a long way back is tried too.
const CHANGES: usize = 6;

/// Its models: the current version of each event, by key, and by day those that the source has not deleted.
pub(crate) fn project() -> Project {
    let days = "{% if is_incremental() %}days {{ var('changed_partitions', []) | join(' ') }}{% endif %}";
    let partition_by = "partition_by={'field': 'event_date', 'data_type': 'date', 'granularity': 'day'}";
    let stg = format!(
        "{{{{ config(materialized='incremental', incremental_strategy='merge', unique_key='event_id', \
         {partition_by}) }}}} current {{{{ source('raw', 'earthquakes') }}}} {days}\n"
    );
    let fct = format!(
        "{{{{ config(materialized='incremental', incremental_strategy='insert_overwrite', {partition_by}) }}}} \
         kept {{{{ ref('stg_earthquakes') }}}} {days}\n"
    );
    let settings = "name: light\nconfig-version: 2\nprofile: light\nmodels: {light: {earthquakes: \
                    {silver: {+schema: silver}, gold: {+schema: gold}}}}\n";
    Project::load([
        ("dbt_project.yml", settings.to_owned()),
        ("models/earthquakes/sources.yml", "sources: [{name: raw, tables: [{name: earthquakes}]}]\n".to_owned()),
        ("models/earthquakes/silver/stg_earthquakes.sql", stg),
        ("models/earthquakes/gold/fct_earthquakes.sql", fct),
    ])
    .unwrap()
}

#[derive(Clone, Default)]
struct Table {
    state: Option<TableState>,
    rows: Vec<Row>,
    loaded: BTreeMap<Partition, (Generation, String)>,
}

impl Table {
    fn version(&self) -> Option<u64> {
        self.state.as_ref().map(|state| state.version)
    }

    fn commit(&mut self, extent: Extent, definition: String, inputs: BTreeMap<TableName, u64>, cause: &str) {
        let (version, mut changes) = match self.state.take() {
            Some(state) => (state.version + u64::from(!extent.is_nothing()), state.changes),
            None => (1_000, Vec::new()),
        };
        if !extent.is_nothing() {
            changes.push(Change { version, extent, cause: cause.to_owned() });
        }
        changes.drain(..changes.len().saturating_sub(CHANGES));
        let rows = Some(self.rows.len() as u64);
        self.state = Some(TableState { version, definition, inputs, changes, rows });
    }
}

/// Rows by object and generation.
type Read = BTreeMap<(String, i64), Vec<Row>>;

/// The tables; clones share them.
#[derive(Clone, Default)]
pub(crate) struct Tables {
    by_name: Arc<Mutex<BTreeMap<TableName, Table>>>,
    /// The rows of bronze objects, each of which is read once.
    read: Arc<Mutex<Read>>,
}

impl Tables {
    fn get(&self, table: &TableName) -> Table {
        self.by_name.lock().unwrap().get(table).cloned().unwrap_or_default()
    }

    /// Puts a table in the place of the one that was found, unless it has changed.
    fn replace(&self, name: &TableName, found: Option<u64>, next: Table) -> Result<(), WarehouseError> {
        let mut tables = self.by_name.lock().unwrap();
        let table = tables.entry(name.clone()).or_default();
        if table.version() != found {
            return Err(WarehouseError::Conflict(name.clone()));
        }
        *table = next;
        Ok(())
    }

    /// The rows of a bronze object.
    pub(crate) fn bronze(&self, name: &str, generation: Generation, bytes: Bytes) -> Vec<Row> {
        let mut read = self.read.lock().unwrap();
        read.entry((name.to_owned(), generation.0)).or_insert_with(|| of_parquet(bytes)).clone()
    }

    pub(crate) fn rows(&self, table: &TableName) -> Vec<Row> {
        self.get(table).rows
    }

    pub(crate) fn generations(&self, table: &TableName) -> BTreeMap<Partition, Generation> {
        self.get(table).loaded.into_iter().map(|(partition, (generation, _))| (partition, generation)).collect()
    }
}

/// The warehouse as one delivery has it.
pub(crate) struct Light {
    pub(crate) seat: Seat,
    pub(crate) tables: Tables,
    pub(crate) store: Memory,
}

impl Light {
    async fn turn<T>(
        &self,
        kind: Kind,
        what: String,
        call: impl Future<Output = Result<T, WarehouseError>>,
    ) -> Result<T, WarehouseError> {
        let lost = || WarehouseError::Transient("simulated".to_owned());
        self.seat.around(kind, what, call, lost, lost).await
    }

    async fn read(&self, what: String) -> Result<(), WarehouseError> {
        self.turn(Kind::Read, what, async { Ok(()) }).await
    }

    async fn try_load(&self, load: &Load<'_>) -> Result<BTreeSet<Partition>, WarehouseError> {
        self.read(format!("begin to load {} {:?}", load.table, load.mode)).await?;
        let mut table = self.tables.get(&load.table);
        let found = table.version();
        let due = |held: Option<Generation>, generation| match load.mode {
            LoadMode::Newer => held < Some(generation),
            LoadMode::Snapshot => held != Some(generation),
            LoadMode::Again | LoadMode::Afresh => true,
        };
        if load.mode == LoadMode::Afresh {
            (table.rows, table.loaded) = Default::default();
        }
        let mut changed = BTreeSet::new();
        for wanted in &load.partitions {
            let held = table.loaded.get(&wanted.partition).map(|(generation, _)| *generation);
            if !due(held, wanted.generation) {
                continue;
            }
            let object = self.store.get(&wanted.object).await?.unwrap();
            table.rows.retain(|row| row.day() != wanted.partition);
            table.rows.extend(self.tables.bronze(&wanted.object, object.generation, object.bytes));
            table.loaded.insert(wanted.partition, (object.generation, load.cause.clone()));
            changed.insert(wanted.partition);
        }
        if changed.is_empty() && found.is_some() {
            return Ok(changed);
        }
        let extent = if load.mode == LoadMode::Afresh { Extent::Whole } else { Extent::Partitions(changed.clone()) };
        table.commit(extent, "raw".to_owned(), BTreeMap::new(), &load.cause);
        let what = format!("commit {} for {}", load.table, load.cause);
        self.turn(Kind::Write, what, async { self.tables.replace(&load.table, found, table) }).await?;
        Ok(changed)
    }
}

/// The days that a rendered model speaks of; `None` for all.
fn days(sql: &str) -> Option<BTreeSet<Partition>> {
    let (_, days) = sql.split_once("days")?;
    Some(days.split_whitespace().map(|day| day.parse().unwrap()).collect())
}

#[async_trait]
impl Warehouse for Light {
    async fn loaded(&self, table: &TableName, cause: &str) -> Result<Loaded, WarehouseError> {
        self.read(format!("ask what {table} holds")).await?;
        let held = self.tables.get(table).loaded;
        Ok(Loaded {
            generations: held.iter().map(|(partition, (generation, _))| (*partition, *generation)).collect(),
            by_cause: held.iter().filter(|(_, (_, by))| by == cause).map(|(partition, _)| *partition).collect(),
        })
    }

    async fn load(&self, load: Load<'_>) -> Result<BTreeSet<Partition>, WarehouseError> {
        loop {
            match self.try_load(&load).await {
                Err(WarehouseError::Conflict(_)) => (),
                loaded => return loaded,
            }
        }
    }

    async fn state(&self, table: &TableName) -> Result<Option<TableState>, WarehouseError> {
        self.read(format!("ask for the state of {table}")).await?;
        Ok(self.tables.get(table).state)
    }

    async fn build(&self, model: ModelRun) -> Result<Built, WarehouseError> {
        self.read(format!("begin to build {}", model.table)).await?;
        let mut table = self.tables.get(&model.table);
        let found = table.version();
        if found != model.expected {
            return Err(WarehouseError::Conflict(model.table));
        }
        let asked = days(&model.sql);
        let input = TableName::new(
            if model.sql.contains("current") { "raw" } else { "silver" },
            if model.sql.contains("current") { "earthquakes" } else { "stg_earthquakes" },
        );
        let mut rows = self.tables.rows(&input);
        rows.retain(|row| asked.as_ref().is_none_or(|days| days.contains(&row.day())));
        if model.sql.contains("current") {
            rows = newest(&rows).into_values().collect();
        } else {
            rows.retain(|row| !row.deleted);
        }
        let count = rows.len() as u64;
        let extent = match &model.materialization {
            Materialization::Merge { .. } => {
                let known = newest(&table.rows);
                rows.retain(|row| known.get(&row.id).is_none_or(|known| row.rank() > known.rank()));
                let moved = rows.iter().filter_map(|row| known.get(&row.id)).map(Row::day);
                let touched = rows.iter().map(Row::day).chain(moved).collect();
                let replaced: BTreeSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
                table.rows.retain(|row| !replaced.contains(row.id.as_str()));
                table.rows.extend(rows.iter().cloned());
                Extent::Partitions(touched)
            }
            Materialization::Overwrite { partitions } => {
                table.rows.retain(|row| !partitions.contains(&row.day()));
                assert!(rows.iter().all(|row| partitions.contains(&row.day())), "rows of other days");
                table.rows.extend(rows);
                Extent::Partitions(partitions.clone())
            }
            Materialization::Table => {
                table.rows = rows;
                Extent::Whole
            }
            Materialization::View => unreachable!("the project has no view"),
        };
        table.commit(extent.clone(), model.definition, model.inputs, &model.cause);
        let state = table.state.clone().unwrap();
        let what = format!("commit {} at {}", model.table, state.version);
        self.turn(Kind::Write, what, async { self.tables.replace(&model.table, found, table) }).await?;
        Ok(Built { rows: count, state, extent, cost: Cost::default() })
    }

    async fn seed(&self, _: SeedRun) -> Result<Built, WarehouseError> {
        unreachable!("the project has no seed")
    }

    async fn query(&self, _: &str, _: &Origin) -> Result<Answer, WarehouseError> {
        unreachable!("the project has no test")
    }

    async fn tables(&self) -> Result<Vec<TableName>, WarehouseError> {
        unreachable!("no service lists tables")
    }
}

/// A warehouse whose calls wait for their turn and may be lost; what is below it settles the rest by itself.
pub(crate) struct Called<W> {
    pub(crate) seat: Seat,
    pub(crate) inner: W,
}

impl<W: Warehouse> Called<W> {
    async fn turn<T>(
        &self,
        kind: Kind,
        what: String,
        call: impl Future<Output = Result<T, WarehouseError>>,
    ) -> Result<T, WarehouseError> {
        let lost = || WarehouseError::Transient("simulated".to_owned());
        self.seat.around(kind, what, call, lost, lost).await
    }
}

#[async_trait]
impl<W: Warehouse> Warehouse for Called<W> {
    async fn loaded(&self, table: &TableName, cause: &str) -> Result<Loaded, WarehouseError> {
        self.turn(Kind::Read, format!("ask what {table} holds"), self.inner.loaded(table, cause)).await
    }

    async fn load(&self, load: Load<'_>) -> Result<BTreeSet<Partition>, WarehouseError> {
        let what = format!("load {} {:?} for {}", load.table, load.mode, load.cause);
        self.turn(Kind::Write, what, self.inner.load(load)).await
    }

    async fn state(&self, table: &TableName) -> Result<Option<TableState>, WarehouseError> {
        self.turn(Kind::Read, format!("ask for the state of {table}"), self.inner.state(table)).await
    }

    async fn build(&self, model: ModelRun) -> Result<Built, WarehouseError> {
        self.turn(Kind::Write, format!("build {}", model.table), self.inner.build(model)).await
    }

    async fn seed(&self, seed: SeedRun) -> Result<Built, WarehouseError> {
        self.turn(Kind::Write, format!("fill {}", seed.table), self.inner.seed(seed)).await
    }

    async fn query(&self, sql: &str, origin: &Origin) -> Result<Answer, WarehouseError> {
        self.turn(Kind::Read, format!("query for {}", origin.file), self.inner.query(sql, origin)).await
    }

    async fn tables(&self) -> Result<Vec<TableName>, WarehouseError> {
        self.inner.tables().await
    }
}
