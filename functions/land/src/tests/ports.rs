//! Ports for tests: a warehouse that reads what it is told to load, a bus that remembers, and a plan of faults that
//! all of them follow.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;
use shared::bus::{Bus, BusError};
use shared::message::{Parcel, Topic};
use shared::partition::Partition;
use shared::store::{Generation, Metadata, Precondition, Reading, Store, StoreError, Upload};
use shared::table::TableName;
use shared::warehouse::{
    Answer, Built, Load, LoadMode, Loaded, ModelRun, Origin, SeedRun, TableState, Warehouse, WarehouseError,
};
use tokio::sync::oneshot;

/// What happens to the n-th call of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It fails and does nothing.
    Before,
    /// It does what it should, and nobody hears of it.
    After,
    /// A conditional write succeeds and says that it lost.
    Phantom,
}

/// Counts the calls of all ports, and makes one of them fail.
#[derive(Default)]
pub(super) struct Faults {
    calls: AtomicUsize,
    plan: Mutex<Option<(usize, Fault)>>,
    /// Bytes that somebody else writes under the name of the next bronze object just before it is written.
    pub(super) rival: Mutex<Option<Bytes>>,
}

impl Faults {
    pub(super) fn plan(&self, at: usize, fault: Fault) {
        self.calls.store(0, Ordering::SeqCst);
        *self.plan.lock().unwrap() = Some((at, fault));
    }

    pub(super) fn clear(&self) {
        *self.plan.lock().unwrap() = None;
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    async fn step(&self) -> Option<Fault> {
        tokio::task::yield_now().await;
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        self.plan.lock().unwrap().filter(|(at, _)| *at == call).map(|(_, fault)| fault)
    }

    /// Around one call.
    async fn around<T>(&self, call: impl Future<Output = Result<T, StoreError>>, name: &str) -> Result<T, StoreError> {
        let lost = || StoreError::Transient { action: "write", name: name.to_owned(), reason: "lost".to_owned() };
        match self.step().await {
            None | Some(Fault::Phantom) => call.await,
            Some(Fault::Before) => Err(lost()),
            Some(Fault::After) => {
                let _unheard = call.await;
                Err(lost())
            }
        }
    }
}

/// A store whose calls may fail.
pub(super) struct Shaky {
    pub(super) inner: Arc<dyn Store>,
    pub(super) faults: Arc<Faults>,
}

#[async_trait]
impl Store for Shaky {
    async fn read(&self, name: &str, range: Option<Range<u64>>) -> Result<Reading, StoreError> {
        self.faults.around(self.inner.read(name, range), name).await
    }

    async fn head(&self, name: &str) -> Result<Option<Metadata>, StoreError> {
        self.faults.around(self.inner.head(name), name).await
    }

    async fn upload(&self, name: &str, precondition: Precondition) -> Result<Box<dyn Upload>, StoreError> {
        let upload = self.faults.around(self.inner.upload(name, precondition), name).await?;
        let (inner, faults, name) = (Arc::clone(&self.inner), Arc::clone(&self.faults), name.to_owned());
        Ok(Box::new(ShakyUpload { upload, inner, faults, name, precondition }))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Metadata>, StoreError> {
        self.faults.around(self.inner.list(prefix), prefix).await
    }

    async fn delete(&self, name: &str, precondition: Precondition) -> Result<(), StoreError> {
        self.faults.around(self.inner.delete(name, precondition), name).await
    }
}

struct ShakyUpload {
    upload: Box<dyn Upload>,
    inner: Arc<dyn Store>,
    faults: Arc<Faults>,
    name: String,
    precondition: Precondition,
}

#[async_trait]
impl Upload for ShakyUpload {
    async fn write(&mut self, chunk: Bytes) -> Result<(), StoreError> {
        self.faults.around(self.upload.write(chunk), &self.name).await
    }

    async fn finish(self: Box<Self>) -> Result<Generation, StoreError> {
        let Self { upload, inner, faults, name, precondition } = *self;
        let rival = if name.starts_with("bronze/") { faults.rival.lock().unwrap().take() } else { None };
        if let Some(bytes) = rival {
            inner.put(&name, bytes, Precondition::None).await?;
        }
        let lost = |name| Err(StoreError::Transient { action: "write", name, reason: "lost".to_owned() });
        match faults.step().await {
            Some(Fault::Before) => lost(name),
            Some(Fault::After) => {
                upload.finish().await?;
                lost(name)
            }
            Some(Fault::Phantom) if precondition != Precondition::None => {
                upload.finish().await?;
                Err(StoreError::Conflict { name })
            }
            None | Some(Fault::Phantom) => upload.finish().await,
        }
    }
}

/// A bus that remembers what was published.
pub(super) struct Recorder {
    pub(super) faults: Arc<Faults>,
    pub(super) sent: Mutex<Vec<(Topic, Parcel)>>,
}

#[async_trait]
impl Bus for Recorder {
    async fn send(&self, topic: Topic, parcel: Parcel) -> Result<String, BusError> {
        let lost = || BusError { topic, reason: "lost".to_owned(), blocked: false };
        let fault = self.faults.step().await;
        if fault == Some(Fault::Before) {
            return Err(lost());
        }
        self.sent.lock().unwrap().push((topic, parcel));
        if fault == Some(Fault::After) { Err(lost()) } else { Ok("id".to_owned()) }
    }
}

/// One partition of a raw table.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) generation: Generation,
    pub(super) cause: String,
    pub(super) rows: RecordBatch,
}

/// Raw tables, loaded from the store itself.
pub(super) struct Tables {
    /// Without faults of its own.
    pub(super) store: Arc<dyn Store>,
    pub(super) faults: Arc<Faults>,
    pub(super) tables: Mutex<BTreeMap<TableName, BTreeMap<Partition, Held>>>,
    /// Every partition that any load replaced or dropped.
    pub(super) ever_changed: Mutex<BTreeSet<Partition>>,
    /// For each load, how many partitions it was asked for.
    pub(super) loads: Mutex<Vec<usize>>,
    /// Where the next load stops.
    pub(super) gate: Mutex<Option<Gate>>,
}

/// Says that somebody has come, and holds them until they may go on.
pub(super) struct Gate {
    pub(super) arrived: oneshot::Sender<()>,
    pub(super) open: oneshot::Receiver<()>,
}

fn broken() -> WarehouseError {
    WarehouseError::Transient("lost".to_owned())
}

#[async_trait]
impl Warehouse for Tables {
    async fn loaded(&self, table: &TableName, cause: &str) -> Result<Loaded, WarehouseError> {
        if self.faults.step().await.is_some_and(|fault| fault != Fault::Phantom) {
            return Err(broken());
        }
        let tables = self.tables.lock().unwrap();
        let held = tables.get(table).cloned().unwrap_or_default();
        Ok(Loaded {
            generations: held.iter().map(|(partition, held)| (*partition, held.generation)).collect(),
            by_cause: held.iter().filter(|(_, held)| held.cause == cause).map(|(partition, _)| *partition).collect(),
        })
    }

    async fn load(&self, load: Load<'_>) -> Result<BTreeSet<Partition>, WarehouseError> {
        let fault = self.faults.step().await;
        if fault == Some(Fault::Before) {
            return Err(broken());
        }
        let gate = self.gate.lock().unwrap().take();
        if let Some(gate) = gate {
            gate.arrived.send(()).unwrap();
            gate.open.await.unwrap();
        }
        self.loads.lock().unwrap().push(load.partitions.len());
        let mut read = Vec::new();
        for wanted in &load.partitions {
            let object = self.store.get(&wanted.object).await?.expect("a load names an object that is there");
            assert!(object.generation >= wanted.generation, "{wanted:?}");
            let rows = crate::bronze::read(object.bytes, &load.spec.schema()).unwrap();
            read.push((wanted.partition, object.generation, rows));
        }
        let mut tables = self.tables.lock().unwrap();
        let table = tables.entry(load.table).or_default();
        let mut changed = BTreeSet::new();
        if load.mode == LoadMode::Snapshot {
            let named: BTreeSet<_> = load.partitions.iter().map(|wanted| wanted.partition).collect();
            changed.extend(table.keys().filter(|partition| !named.contains(partition)));
            table.retain(|partition, _| named.contains(partition));
        }
        for (partition, generation, rows) in read {
            let held = table.get(&partition).map(|held| held.generation);
            let due = match load.mode {
                LoadMode::Newer => held < Some(generation),
                LoadMode::Snapshot => held != Some(generation),
                LoadMode::Again | LoadMode::Afresh => true,
            };
            if due {
                table.insert(partition, Held { generation, cause: load.cause.clone(), rows });
                changed.insert(partition);
            }
        }
        self.ever_changed.lock().unwrap().extend(&changed);
        if fault == Some(Fault::After) { Err(broken()) } else { Ok(changed) }
    }

    async fn state(&self, _: &TableName) -> Result<Option<TableState>, WarehouseError> {
        unreachable!("land does not ask for this")
    }

    async fn build(&self, _: ModelRun) -> Result<Built, WarehouseError> {
        unreachable!("land builds no model")
    }

    async fn seed(&self, _: SeedRun) -> Result<Built, WarehouseError> {
        unreachable!("land builds no seed")
    }

    async fn query(&self, _: &str, _: &Origin) -> Result<Answer, WarehouseError> {
        unreachable!("land asks nothing")
    }

    async fn tables(&self) -> Result<Vec<TableName>, WarehouseError> {
        unreachable!("land lists nothing")
    }
}
