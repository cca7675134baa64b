//! Landing into a table that is the union of all captures: each partition is one object, merged and replaced.
//!
//! Invariant: an object is replaced only by the union of what it held and what a capture brings.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::RecordBatch;
use futures::stream::{self, StreamExt, TryStreamExt};
use shared::capture::Manifest;
use shared::dataset::Dataset;
use shared::function::Failure;
use shared::ledger::Output;
use shared::partition::Partition;
use shared::store::{Precondition, StoreError};
use shared::table::TableName;
use shared::warehouse::{Load, LoadMode, LoadPartition};

use crate::bronze::{self, Part, object_of};
use crate::merge::merge;
use crate::rows::Rows;
use crate::{Land, Landed, PARALLEL, TRIES, again};

impl Land {
    pub(crate) async fn land_union(&self, dataset: &dyn Dataset, manifest: &Manifest) -> Result<Landed, Failure> {
        let mut rows = Rows::open(&*self.store, dataset, manifest, self.bound).await?;
        let mut touched = BTreeMap::new();
        while let Some(batches) = rows.next().await? {
            let mut merges = Vec::with_capacity(batches.len());
            for (partition, batch) in batches {
                merges.push(self.merge_into(dataset, partition, batch));
            }
            let merged: Vec<_> = stream::iter(merges).buffer_unordered(PARALLEL).try_collect().await?;
            touched.extend(merged);
        }
        let counts = rows.finish().await?;
        let loaded = self.load_union(dataset, manifest, &touched).await?;
        // Every partition that holds rows of the capture, changed or not: a replay finds its captures by this.
        let outputs = touched.values().map(|part| Output { name: part.object.clone(), rows: part.rows }).collect();
        let changed = touched.iter().filter(|(partition, _)| loaded.contains(partition));
        let changed = changed.map(|(partition, part)| part.landed(*partition)).collect();
        Ok(Landed { counts, changed, outputs })
    }

    /// Adds rows to a partition's object, again from the start whenever somebody else wrote it meanwhile.
    async fn merge_into(
        &self,
        dataset: &dyn Dataset,
        partition: Partition,
        new: RecordBatch,
    ) -> Result<(Partition, Part), Failure> {
        let spec = dataset.table();
        let object = object_of(dataset, partition);
        let unwritable =
            |error: &dyn std::fmt::Display| Failure::Poison(format!("{object} cannot be written: {error}"));
        for _ in 0..TRIES {
            let (existing, generation) = match self.store.get(&object).await? {
                Some(found) => {
                    let rows = bronze::read(found.bytes, &new.schema()).map_err(|damage| {
                        let replay = format!("strata replay {} --day {partition}", dataset.name());
                        Failure::Poison(format!("{object} is damaged ({damage}): `{replay}` rebuilds it from raw"))
                    })?;
                    (Some(rows), Some(found.generation))
                }
                None => (None, None),
            };
            let sets: Vec<_> = existing.iter().cloned().chain([new.clone()]).collect();
            let merged = merge(spec, &sets).map_err(|error| unwritable(&error))?;
            let rows = merged.num_rows() as u64;
            // Also after a conflict that was the echo of our own write.
            if let Some(generation) = generation.filter(|_| existing.as_ref() == Some(&merged)) {
                return Ok((partition, Part { object, generation, rows }));
            }
            let bytes = bronze::write(&merged).map_err(|error| unwritable(&error))?;
            match self.store.put(&object, bytes, Precondition::unchanged(generation)).await {
                Ok(generation) => return Ok((partition, Part { object, generation, rows })),
                Err(StoreError::Conflict { .. }) => tracing::debug!(object, "written by another, merging again"),
                Err(error) => return Err(error.into()),
            }
        }
        Err(Failure::Transient(format!("{object} was changed by others {TRIES} times while it was merged")))
    }

    /// Loads what the raw table does not hold yet. Returns what this capture changed there, now or in an attempt that
    /// may have died before it could say so.
    async fn load_union(
        &self,
        dataset: &dyn Dataset,
        manifest: &Manifest,
        touched: &BTreeMap<Partition, Part>,
    ) -> Result<BTreeSet<Partition>, Failure> {
        if touched.is_empty() {
            return Ok(BTreeSet::new());
        }
        let table = TableName::raw(dataset.name());
        let cause = manifest.capture.to_string();
        let loaded = self.warehouse.loaded(&table, &cause).await?;
        let mut partitions = Vec::new();
        if loaded.generations.is_empty() {
            // A table that is new, or was lost: then these partitions alone would pass for all there is.
            partitions.extend(again::all(&*self.store, dataset).await?.into_values());
        } else {
            let newer = touched.iter().filter(|(key, part)| loaded.generations.get(key) < Some(&part.generation));
            partitions.extend(newer.map(|(partition, part)| part.to_load(*partition)));
        }
        let mut changed = loaded.by_cause;
        if !partitions.is_empty() {
            let load = Load { table, spec: dataset.table(), partitions, mode: LoadMode::Newer, cause };
            changed.extend(self.warehouse.load(load).await?);
        }
        Ok(changed)
    }
}

impl Part {
    pub(crate) fn to_load(&self, partition: Partition) -> LoadPartition {
        LoadPartition { partition, object: self.object.clone(), generation: self.generation }
    }
}
