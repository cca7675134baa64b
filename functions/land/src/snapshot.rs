//! Landing a table that comes whole: every capture is a version of its own, and one pointer says which is current.
//!
//! Invariants. A version's objects are never changed; it is complete when its `version.json` is there. The pointer
//! only moves to a newer version. Whoever loads a version looks at the pointer once more afterwards, so that the
//! version that is loaded last is the current one.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use shared::capture::{CaptureId, Manifest};
use shared::clock::Timestamp;
use shared::dataset::Dataset;
use shared::function::Failure;
use shared::ledger::Output;
use shared::message::LandedPartition;
use shared::partition::Partition;
use shared::store::{Generation, Precondition, Store, StoreError, Upload, read_json, write_json};
use shared::table::TableName;
use shared::warehouse::{Load, LoadMode, Loaded};

use crate::bronze::{Part, Writer};
use crate::rows::{Counts, Rows};
use crate::{Land, Landed, PARALLEL, TRIES};

/// A version of a table: which objects hold it. What `current.json` and each `version.json` say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Version {
    pub(crate) capture: CaptureId,
    pub(crate) observed_at: Timestamp,
    pub(crate) partitions: BTreeMap<Partition, Part>,
}

impl Version {
    fn folder(manifest: &Manifest) -> String {
        format!("bronze/{}/version={}", manifest.dataset, manifest.capture)
    }

    fn age(&self) -> (Timestamp, &CaptureId) {
        (self.observed_at, &self.capture)
    }

    fn rows(&self) -> u64 {
        self.partitions.values().map(|part| part.rows).sum()
    }

    fn is_loaded(&self, loaded: &Loaded) -> bool {
        loaded.generations.len() == self.partitions.len()
            && self.partitions.iter().all(|(key, part)| loaded.generations.get(key) == Some(&part.generation))
    }
}

impl Land {
    pub(crate) async fn land_snapshot(&self, dataset: &dyn Dataset, manifest: &Manifest) -> Result<Landed, Failure> {
        let (version, counts) = self.version(dataset, manifest).await?;
        self.advance(manifest, &version).await?;
        let changed = self.settle(dataset, manifest).await?;
        let parts = version.partitions.into_values();
        let outputs = parts.map(|part| Output { name: part.object, rows: part.rows }).collect();
        Ok(Landed { counts, changed, outputs })
    }

    /// The version that the capture is; written now unless all of it is there.
    async fn version(&self, dataset: &dyn Dataset, manifest: &Manifest) -> Result<(Version, Counts), Failure> {
        let folder = Version::folder(manifest);
        let name = format!("{folder}/version.json");
        let found = read_json::<Version>(&*self.store, &name).await?;
        if let Some(version) = found.value
            && self.holds(&folder, &version).await?
        {
            let counts = Counts {
                rows: manifest.rows,
                quarantined: manifest.rows.saturating_sub(version.rows()),
                most_at_once: 0,
            };
            return Ok((version, counts));
        }
        let (partitions, counts) = self.write_parts(dataset, manifest, &folder).await?;
        let version = Version { capture: manifest.capture.clone(), observed_at: manifest.observed_at, partitions };
        match write_json(&*self.store, &name, &version, Precondition::unchanged(found.generation)).await {
            Ok(_) => {}
            Err(StoreError::Conflict { .. }) => {
                // Another delivery of the same message, or our own echo: both found the same objects.
                let found = read_json::<Version>(&*self.store, &name).await?;
                if found.value.as_ref() != Some(&version) {
                    return Err(Failure::Transient(format!("{name} was changed while it was written")));
                }
            }
            Err(error) => return Err(error.into()),
        }
        Ok((version, counts))
    }

    async fn holds(&self, folder: &str, version: &Version) -> Result<bool, StoreError> {
        let listed = self.store.list(&format!("{folder}/")).await?;
        let there: BTreeMap<_, _> = listed.iter().map(|object| (object.name.as_str(), object.generation)).collect();
        Ok(version.partitions.values().all(|part| there.get(part.object.as_str()) == Some(&part.generation)))
    }

    async fn write_parts(
        &self,
        dataset: &dyn Dataset,
        manifest: &Manifest,
        folder: &str,
    ) -> Result<(BTreeMap<Partition, Part>, Counts), Failure> {
        let spec = dataset.table();
        let mut rows = Rows::open(&*self.store, dataset, manifest, self.bound).await?;
        let mut open: BTreeMap<Partition, PartWriter> = BTreeMap::new();
        while let Some(batches) = rows.next().await? {
            for (partition, batch) in batches {
                let mut writer = match open.remove(&partition) {
                    Some(writer) => writer,
                    None => {
                        let object = format!("{folder}/{}/{}.parquet", partition.folder(), spec.rows_are);
                        PartWriter::open(&*self.store, object, Writer::new(spec.schema())).await?
                    }
                };
                let bytes = writer.parquet.append(&batch);
                writer.write(bytes).await?;
                writer.rows += batch.num_rows() as u64;
                open.insert(partition, writer);
            }
        }
        // An object that is visible may be taken over by a later attempt, so the answer must have been right until here.
        let counts = rows.finish().await?;
        let mut endings = Vec::with_capacity(open.len());
        for (partition, writer) in open {
            endings.push(writer.finish(&*self.store, partition));
        }
        let parts = stream::iter(endings).buffer_unordered(PARALLEL).try_collect().await?;
        Ok((parts, counts))
    }

    /// Moves the pointer to the version, unless it is at a newer one.
    async fn advance(&self, manifest: &Manifest, version: &Version) -> Result<(), Failure> {
        let name = pointer(&manifest.dataset);
        for _ in 0..TRIES {
            let found = read_json::<Version>(&*self.store, &name).await?;
            if found.value.is_some_and(|current| current == *version || current.age() > version.age()) {
                return Ok(());
            }
            match write_json(&*self.store, &name, version, Precondition::unchanged(found.generation)).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Conflict { .. }) => tracing::debug!(name, "written by another, looking again"),
                Err(error) => return Err(error.into()),
            }
        }
        Err(Failure::Transient(format!("{name} was changed by others {TRIES} times")))
    }

    /// Loads the current version, whichever it is, until it still is the current one afterwards. Returns what this
    /// capture's handling changed in the raw table, now or in an attempt that may have died before it could say so.
    pub(crate) async fn settle(
        &self,
        dataset: &dyn Dataset,
        manifest: &Manifest,
    ) -> Result<Vec<LandedPartition>, Failure> {
        let name = pointer(&manifest.dataset);
        let table = TableName::raw(dataset.name());
        let cause = manifest.capture.to_string();
        let mut changed = BTreeSet::new();
        for _ in 0..TRIES {
            let current = read_json::<Version>(&*self.store, &name).await?.value;
            let Some(current) = current else { break };
            let loaded = self.warehouse.loaded(&table, &cause).await?;
            if current.is_loaded(&loaded) {
                changed.extend(loaded.by_cause);
                let part = |partition| current.partitions.get(&partition).map(|part| part.landed(partition));
                // A partition that the version no longer has is published too: without rows.
                let gone = |partition| LandedPartition { partition, generation: Generation(0), rows: 0 };
                return Ok(changed.into_iter().map(|at| part(at).unwrap_or_else(|| gone(at))).collect());
            }
            let partitions = current.partitions.iter().map(|(partition, part)| part.to_load(*partition)).collect();
            let (table, cause) = (table.clone(), cause.clone());
            let load = Load { table, spec: dataset.table(), partitions, mode: LoadMode::Snapshot, cause };
            changed.extend(self.warehouse.load(load).await?);
        }
        Err(Failure::Transient(format!("{table} does not hold what {name} names yet")))
    }
}

/// The object that names the current version.
pub(crate) fn pointer(dataset: &str) -> String {
    format!("bronze/{dataset}/current.json")
}

type Parquet<T> = Result<T, parquet::errors::ParquetError>;

/// An object of a version that is being written.
struct PartWriter {
    object: String,
    upload: Box<dyn Upload>,
    parquet: Writer,
    rows: u64,
}

impl PartWriter {
    async fn open(store: &dyn Store, object: String, parquet: Parquet<Writer>) -> Result<Self, Failure> {
        let parquet = parquet.map_err(|error| Failure::Poison(format!("{object} cannot be written: {error}")))?;
        Ok(Self { upload: store.upload(&object, Precondition::Absent).await?, object, parquet, rows: 0 })
    }

    async fn write(&mut self, bytes: Parquet<Vec<u8>>) -> Result<(), Failure> {
        let bytes = bytes.map_err(|error| Failure::Poison(format!("{} cannot be written: {error}", self.object)))?;
        Ok(self.upload.write(Bytes::from(bytes)).await?)
    }

    async fn finish(self, store: &dyn Store, partition: Partition) -> Result<(Partition, Part), Failure> {
        let Self { object, mut upload, parquet, rows } = self;
        let end = parquet.finish().map_err(|error| Failure::Poison(format!("{object} cannot be written: {error}")))?;
        upload.write(end.into()).await?;
        let generation = match upload.finish().await {
            // An earlier attempt wrote it, from the same answer.
            Err(StoreError::Conflict { .. }) => match store.head(&object).await? {
                Some(found) => found.generation,
                None => return Err(Failure::Transient(format!("{object} vanished while it was written"))),
            },
            finished => finished?,
        };
        Ok((partition, Part { object, generation, rows }))
    }
}
