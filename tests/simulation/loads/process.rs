//! What a process does with a message: it writes bronze and loads it, as land does, or asks for a table's state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use cloud::bigquery::load::Loader;
use cloud::bigquery::settle::Tables;
use serde_json::Value;
use shared::partition::Partition;
use shared::store::{Generation, Precondition, Store, StoreError};
use shared::table::{Growth, TableName, TableSpec};
use shared::warehouse::{Load, LoadMode, LoadPartition, WarehouseError};

use super::super::ports::Ports;
use super::super::turns::Kind;
use super::bigquery::BigQuery;

/// Names the version of a snapshot that is current.
const POINTER: &str = "current.json";
/// How often a write is tried again because somebody else wrote.
const TRIES: usize = 16;

/// What is asked of a process.
#[derive(Debug, Clone)]
pub(crate) enum Work {
    /// Makes a capture part of bronze and loads what is newer.
    Capture { number: u64, touches: BTreeSet<Partition> },
    /// Loads what was newest when some capture had been written.
    Late(LoadMode, Vec<LoadPartition>),
    /// Loads a partition that bronze has, whatever the table holds.
    Again,
    /// Loads all that bronze has.
    Afresh,
    /// Reads the table's state, and then the table.
    Read,
}

/// Somebody has read a table's state, and then the table.
pub(crate) struct Reader {
    pub(crate) version: u64,
    /// How often content had changed when it was read.
    pub(crate) changes: usize,
}

/// What processes leave for the schedule.
#[derive(Default)]
pub(crate) struct Left {
    /// Loads that were due once.
    pub(crate) loads: Vec<Vec<LoadPartition>>,
    pub(crate) readers: Vec<Reader>,
}

pub(crate) struct Process {
    pub(crate) ports: Ports,
    pub(crate) tables: Tables,
    pub(crate) loader: Loader,
    pub(crate) bigquery: Arc<Mutex<BigQuery>>,
    pub(crate) left: Arc<Mutex<Left>>,
    pub(crate) spec: Arc<TableSpec>,
}

/// An object holds the numbers of the captures that are in it, a row for each.
fn numbers(bytes: &[u8]) -> BTreeSet<u64> {
    serde_json::from_slice(bytes).unwrap()
}

fn written(numbers: &BTreeSet<u64>) -> Bytes {
    serde_json::to_vec(numbers).unwrap().into()
}

/// How many rows an object has.
pub(crate) fn rows_of(bytes: &[u8]) -> u64 {
    numbers(bytes).len() as u64
}

pub(crate) fn table() -> TableName {
    TableName::raw("quakes")
}

/// What bronze has now.
pub(crate) async fn bronze(
    store: &dyn Store,
    spec: &TableSpec,
) -> Result<BTreeMap<Partition, LoadPartition>, StoreError> {
    if spec.growth == Growth::Snapshot {
        return Ok(current(store).await?.map_or_else(BTreeMap::new, |(_, _, parts)| parts));
    }
    let part = |name: &str| name.strip_prefix("bronze/").and_then(|name| name.parse().ok());
    let objects = store.list("bronze/").await?.into_iter();
    let parts = objects.filter_map(|found| part(&found.name).map(|partition| (partition, found)));
    let load = |(partition, found): (Partition, shared::store::Metadata)| {
        (partition, LoadPartition { partition, object: found.name, generation: found.generation })
    };
    Ok(parts.map(load).collect())
}

type Version = (u64, Generation, BTreeMap<Partition, LoadPartition>);

/// The current version of a snapshot: its number, the pointer's generation, its partitions.
async fn current(store: &dyn Store) -> Result<Option<Version>, StoreError> {
    let Some(found) = store.get(POINTER).await? else { return Ok(None) };
    let (number, parts): (u64, BTreeMap<Partition, (String, Generation)>) =
        serde_json::from_slice(&found.bytes).unwrap();
    let load = |(partition, (object, generation))| (partition, LoadPartition { partition, object, generation });
    Ok(Some((number, found.generation, parts.into_iter().map(load).collect())))
}

impl Process {
    pub(crate) async fn handle(self, work: Work) -> Result<(), WarehouseError> {
        match work {
            Work::Capture { number, touches } if self.spec.growth == Growth::Snapshot => {
                self.snapshot(number, touches).await?;
                self.current_is_loaded(number).await
            }
            Work::Capture { number, touches } => self.union(number, touches).await,
            Work::Late(mode, parts) => self.load(mode, parts, "late").await,
            Work::Again => {
                let parts = bronze(&self.ports, &self.spec).await?.into_values().take(1).collect();
                self.load(LoadMode::Again, parts, "again").await
            }
            Work::Afresh => {
                let parts = bronze(&self.ports, &self.spec).await?.into_values().collect();
                self.load(LoadMode::Afresh, parts, "afresh").await
            }
            Work::Read => self.read().await,
        }
    }

    async fn read(&self) -> Result<(), WarehouseError> {
        let found = self.tables.find(&table()).await?;
        let Some(state) = &found.readable(&table())?.state else { return Ok(()) };
        let lost = || WarehouseError::Transient("simulated".to_owned());
        let content = async { Ok(self.bigquery.lock().unwrap().changes.len()) };
        let changes = self.ports.seat.around(Kind::Read, "read the table".to_owned(), content, lost, lost).await?;
        self.left.lock().unwrap().readers.push(Reader { version: state.version, changes });
        Ok(())
    }

    async fn load(&self, mode: LoadMode, parts: Vec<LoadPartition>, cause: &str) -> Result<(), WarehouseError> {
        let load = Load { table: table(), spec: &self.spec, partitions: parts, mode, cause: cause.to_owned() };
        self.loader.load(&load).await?;
        // What is current may have been overwritten.
        if self.spec.growth == Growth::Snapshot { self.current_is_loaded(0).await } else { Ok(()) }
    }

    async fn union(&self, number: u64, touches: BTreeSet<Partition>) -> Result<(), WarehouseError> {
        let mut touched = Vec::new();
        for partition in touches {
            let object = format!("bronze/{partition}");
            let generation = self.merge(&object, number).await?;
            touched.push(LoadPartition { partition, object, generation });
        }
        self.left.lock().unwrap().loads.push(touched.clone());
        let loaded = self.loader.loaded(&table(), &number.to_string()).await?;
        let parts: Vec<_> = if loaded.generations.is_empty() {
            bronze(&self.ports, &self.spec).await?.into_values().collect()
        } else {
            let older = |part: &LoadPartition| loaded.generations.get(&part.partition) < Some(&part.generation);
            touched.into_iter().filter(older).collect()
        };
        if parts.is_empty() { Ok(()) } else { self.load(LoadMode::Newer, parts, &number.to_string()).await }
    }

    /// Makes a capture part of an object.
    async fn merge(&self, object: &str, number: u64) -> Result<Generation, WarehouseError> {
        for _ in 0..TRIES {
            let found = self.ports.get(object).await?;
            let mut captures = found.as_ref().map_or_else(BTreeSet::new, |found| numbers(&found.bytes));
            let generation = found.map(|found| found.generation);
            if let Some(generation) = generation.filter(|_| captures.contains(&number)) {
                return Ok(generation);
            }
            captures.insert(number);
            match self.ports.put(object, written(&captures), Precondition::unchanged(generation)).await {
                Ok(generation) => return Ok(generation),
                Err(StoreError::Conflict { .. }) => (),
                Err(error) => return Err(error.into()),
            }
        }
        Err(WarehouseError::Transient(format!("{object} is written by others again and again")))
    }

    /// Writes a version and makes it the current one, unless a newer one is.
    async fn snapshot(&self, number: u64, touches: BTreeSet<Partition>) -> Result<(), WarehouseError> {
        let mut parts = BTreeMap::new();
        for partition in touches {
            let object = format!("bronze/{number}/{partition}");
            let rows: BTreeSet<u64> = (0..=number).collect();
            let generation = match self.ports.put(&object, written(&rows), Precondition::Absent).await {
                Err(StoreError::Conflict { .. }) => match self.ports.head(&object).await? {
                    Some(found) => found.generation,
                    None => return Err(WarehouseError::Transient(format!("{object} is not there yet"))),
                },
                written => written?,
            };
            parts.insert(partition, (object, generation));
        }
        let loads = parts.iter().map(|(&partition, (object, generation))| LoadPartition {
            partition,
            object: object.clone(),
            generation: *generation,
        });
        self.left.lock().unwrap().loads.push(loads.collect());
        let bytes = Bytes::from(serde_json::to_vec(&(number, parts)).unwrap());
        for _ in 0..TRIES {
            let found = current(&self.ports).await?;
            if found.as_ref().is_some_and(|(current, ..)| *current >= number) {
                return Ok(());
            }
            let over = found.map(|(_, generation, _)| generation);
            match self.ports.put(POINTER, bytes.clone(), Precondition::unchanged(over)).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Conflict { .. }) => (),
                Err(error) => return Err(error.into()),
            }
        }
        Err(WarehouseError::Transient(format!("{POINTER} is written by others again and again")))
    }

    /// Loads the current version, until it still is the current one afterwards.
    async fn current_is_loaded(&self, number: u64) -> Result<(), WarehouseError> {
        let cause = number.to_string();
        for _ in 0..TRIES {
            let parts = bronze(&self.ports, &self.spec).await?;
            let loaded = self.loader.loaded(&table(), &cause).await?.generations;
            if parts.values().map(|part| (part.partition, part.generation)).eq(loaded) {
                return Ok(());
            }
            let partitions = parts.into_values().collect();
            let mode = LoadMode::Snapshot;
            self.loader
                .load(&Load { table: table(), spec: &self.spec, partitions, mode, cause: cause.clone() })
                .await?;
        }
        Err(WarehouseError::Transient("the current version changes again and again".to_owned()))
    }
}

/// As JSON has it, without what is at work.
pub(crate) fn at_rest(record: &[u8]) -> Bytes {
    let mut record: Value = serde_json::from_slice(record).unwrap();
    record["running"] = Value::Null;
    serde_json::to_vec(&record).unwrap().into()
}
