//! Loading bronze again: for a replay, and for a raw table that was lost or damaged.
//!
//! Invariant: a raw table holds every partition that bronze holds. One that was lost is never filled with a part of them.

use std::collections::{BTreeMap, BTreeSet};

use shared::capture::Manifest;
use shared::dataset::Dataset;
use shared::function::{Failure, Received};
use shared::ledger::{Outcome, Output, Record};
use shared::message::{LandAgain, LandedPartition, Mode, PartitionsLanded, ToLand};
use shared::partition::Partition;
use shared::store::{Store, StoreError, read_json};
use shared::table::{Growth, TableName};
use shared::warehouse::{Load, LoadMode, LoadPartition, WarehouseError};

use crate::bronze::{self, object_of};
use crate::snapshot::{Version, pointer};
use crate::{Land, record};

/// A bronze object that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// Its name.
    pub object: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Whether a partition's bronze object is damaged; a missing one is not.
///
/// # Errors
/// Those of the store.
pub async fn damaged(
    store: &dyn Store,
    dataset: &dyn Dataset,
    partition: Partition,
) -> Result<Option<Damaged>, StoreError> {
    let Some(found) = all(store, dataset).await?.remove(&partition) else { return Ok(None) };
    let Some(object) = store.get(&found.object).await? else { return Ok(None) };
    let read = bronze::read(object.bytes, &dataset.table().schema());
    Ok(read.err().map(|damage| Damaged { object: found.object, reason: damage.to_string() }))
}

/// The partitions that bronze holds.
///
/// # Errors
/// Those of the store.
pub async fn partitions(store: &dyn Store, dataset: &dyn Dataset) -> Result<BTreeSet<Partition>, StoreError> {
    Ok(all(store, dataset).await?.into_keys().collect())
}

/// All partitions of bronze, as they are to be loaded.
pub(crate) async fn all(
    store: &dyn Store,
    dataset: &dyn Dataset,
) -> Result<BTreeMap<Partition, LoadPartition>, StoreError> {
    let name = dataset.name();
    let parts: Vec<LoadPartition> = match dataset.table().growth {
        Growth::Snapshot => {
            let current = read_json::<Version>(store, &pointer(name)).await?.value;
            let parts = current.into_iter().flat_map(|version| version.partitions);
            parts.map(|(partition, part)| part.to_load(partition)).collect()
        }
        Growth::Union => {
            let objects = store.list(&format!("bronze/{name}/")).await?.into_iter();
            objects
                .filter_map(|found| {
                    let folder = found.name.split('/').nth(2)?;
                    let partition: Partition = folder.split_once('=')?.1.parse().ok()?;
                    let object = object_of(dataset, partition);
                    (object == found.name).then_some(LoadPartition { partition, object, generation: found.generation })
                })
                .collect()
        }
    };
    Ok(parts.into_iter().map(|part| (part.partition, part)).collect())
}

impl Land {
    pub(crate) async fn land_again(&self, message: &Received<ToLand>, again: &LandAgain) -> Result<Record, Failure> {
        let dataset = self.datasets.get(&again.dataset).map_err(|error| Failure::Poison(error.to_string()))?;
        let dataset = &**dataset;
        let all = all(&*self.store, dataset).await?;
        let mut landed = Vec::new();
        let mut named = Vec::new();
        for partition in &again.partitions {
            let Some(part) = all.get(partition) else {
                return Err(Failure::Poison(format!("bronze holds no partition {partition} of {}", again.dataset)));
            };
            let rows = self.rows_of(dataset, part).await?;
            landed.push(LandedPartition { partition: *partition, generation: part.generation, rows });
            named.push(part.clone());
        }
        let table = TableName::raw(dataset.name());
        let load = |mode, partitions| {
            let (table, spec, cause) = (table.clone(), dataset.table(), message.trace.run());
            self.warehouse.load(Load { table, spec, partitions, mode, cause })
        };
        let whole = match self.warehouse.loaded(&table, "").await {
            Ok(loaded) if loaded.generations.is_empty() => true,
            Ok(_) => match load(LoadMode::Again, named).await {
                Err(WarehouseError::Damaged { table: damaged, .. }) if damaged == table => true,
                loaded => loaded.map(|_| false)?,
            },
            Err(WarehouseError::Damaged { .. }) => true,
            Err(error) => return Err(error.into()),
        };
        if whole {
            tracing::warn!(%table, partitions = all.len(), "the table is lost or damaged, and is loaded whole from bronze");
            load(LoadMode::Afresh, all.into_values().collect()).await?;
        }
        if dataset.table().growth == Growth::Snapshot {
            // A newer version may have become current meanwhile, and its partitions were just overwritten.
            self.settle(dataset, &message.trace.run()).await?;
        }
        let rows = landed.iter().map(|part| part.rows).sum();
        let outputs = vec![Output { name: table.to_string(), rows }];
        let inputs = landed.iter().map(|part| object_of(dataset, part.partition)).collect();
        let landed = PartitionsLanded { dataset: again.dataset.clone(), partitions: landed, mode: Mode::Again };
        shared::bus::publish(&*self.bus, &landed, message.trace).await?;
        Ok(Record { inputs, rows_in: rows, rows_kept: rows, outputs, outcome: Outcome::Done, ..record(message) })
    }

    /// Does what an attempt to land a capture may have left undone when it died: loads what bronze has and the raw table
    /// has not. Returns what the capture has changed there.
    pub(crate) async fn catch_up(
        &self,
        dataset: &dyn Dataset,
        manifest: &Manifest,
    ) -> Result<Vec<LandedPartition>, Failure> {
        let all = all(&*self.store, dataset).await?;
        if all.is_empty() {
            return Ok(Vec::new());
        }
        if dataset.table().growth == Growth::Snapshot {
            return self.settle(dataset, &manifest.capture.to_string()).await;
        }
        let (table, cause) = (TableName::raw(dataset.name()), manifest.capture.to_string());
        let loaded = self.warehouse.loaded(&table, &cause).await?;
        let newer = |part: &&LoadPartition| loaded.generations.get(&part.partition) < Some(&part.generation);
        let partitions: Vec<_> = all.values().filter(newer).cloned().collect();
        let mut changed = loaded.by_cause;
        if !partitions.is_empty() {
            let load = Load { table, spec: dataset.table(), partitions, mode: LoadMode::Newer, cause };
            changed.extend(self.warehouse.load(load).await?);
        }
        let mut landed = Vec::new();
        for part in changed.iter().filter_map(|partition| all.get(partition)) {
            let rows = self.rows_of(dataset, part).await?;
            landed.push(LandedPartition { partition: part.partition, generation: part.generation, rows });
        }
        Ok(landed)
    }

    async fn rows_of(&self, dataset: &dyn Dataset, part: &LoadPartition) -> Result<u64, Failure> {
        let day = part.partition;
        let damaged = |reason: String| {
            let replay = format!("strata replay {} --day {day} --from raw", dataset.name());
            Failure::Poison(format!("{} is damaged ({reason}): `{replay}` rebuilds it", part.object))
        };
        let object = self.store.get(&part.object).await?.ok_or_else(|| damaged("it is missing".to_owned()))?;
        let rows = bronze::read(object.bytes, &dataset.table().schema()).map_err(|it| damaged(it.to_string()))?;
        Ok(rows.num_rows() as u64)
    }
}
