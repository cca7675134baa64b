//! Loading bronze objects into raw tables, a partition each.
//!
//! Invariant: a partition of a raw table never goes back to an older generation of its bronze object, in whatever
//! order and however often loads come, unless an operator loads it again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::error::Result as DataFusionResult;
use shared::partition::Partition;
use shared::store::Generation;
use shared::table::{ROW_HASH, TableName, TableSpec};
use shared::warehouse::{Commit, Extent, Load, LoadMode, LoadPartition, Loaded, Loading, Replacement, WarehouseError};

use crate::engine::{Engine, chain, each};
use crate::failure::BadRows;
use crate::files::Shape;
use crate::manifest::{File, Kind, Manifest};
use crate::reader::Source;
use crate::schema::{arrow_schema, columns_of, conform};
use crate::split::{StoredLayout, StoredPartitionBy};

/// How often a commit is tried against others.
pub(crate) const ATTEMPTS: usize = 32;

/// What a load has written.
#[derive(Default)]
struct Written {
    files: Vec<File>,
    /// Of the objects as they were read: those that were asked for, or newer ones.
    generations: BTreeMap<Partition, Generation>,
}

impl Engine {
    pub(crate) async fn loaded(&self, table: &TableName, cause: &str) -> Result<Loaded, WarehouseError> {
        let Some(manifest) = self.tables.find(table).await?.manifest()? else {
            return Ok(Loaded::default());
        };
        Ok(Loaded::new(&manifest.loaded, &manifest.state.changes, cause))
    }

    pub(crate) async fn load(&self, load: &Load<'_>) -> Result<BTreeSet<Partition>, WarehouseError> {
        let mut attempts = 0;
        loop {
            match self.try_load(load).await {
                Err(WarehouseError::Conflict(_)) if attempts < ATTEMPTS => attempts += 1,
                outcome => return outcome,
            }
        }
    }

    async fn try_load(&self, load: &Load<'_>) -> Result<BTreeSet<Partition>, WarehouseError> {
        let table = &load.table;
        let refuse = |reason| WarehouseError::Rows { table: table.clone(), reason };
        let found = self.tables.find(table).await?;
        let base = match found.damage() {
            _ if load.mode == LoadMode::Afresh => None,
            // Which partitions it held is not known, and a part of a table must not pass for it.
            Some(damage) => return Err(damage),
            None => found.readable(),
        };
        let nothing = BTreeMap::new();
        let decision = Replacement::new(load, base.map_or(&nothing, |base| &base.loaded));
        let touched = decision.touched();
        let columns = columns_of(&lower(&load.spec.schema())).map_err(refuse)?;
        if touched.is_empty() && base.is_some() {
            return Ok(touched);
        }
        let shape =
            Shape::new(table.clone(), arrow_schema(&columns), layout(load.spec)).map_err(|bad| refuse(bad.0))?;
        if base.is_some_and(|base| base.kind != Kind::Table || base.layout.partition_by != shape.layout.partition_by) {
            return Err(refuse("it is there already, with other partitions".to_owned()));
        }
        let Written { files: written, generations } = self.load_files(load, &shape, base, &decision).await?;
        let fresh: Vec<_> = written.iter().map(|file| file.object.clone()).collect();
        let rewritten: BTreeSet<String> = touched.iter().map(|partition| partition.bucket()).collect();
        let kept = base.into_iter().flat_map(|base| &base.files).filter(|file| !rewritten.contains(&file.bucket));
        let files = kept.cloned().chain(written).collect();
        // Rows of other columns are others everywhere.
        let same = load.mode != LoadMode::Afresh && base.is_none_or(|base| base.columns == columns);
        let extent = if same { Extent::Partitions(touched.clone()) } else { Extent::Whole };
        let definition = definition(&columns, &shape.layout);
        let commit = Commit { definition, inputs: BTreeMap::new(), extent, cause: &load.cause };
        let mut next = Manifest::after(
            found.readable(),
            self.tables.clock.now(),
            Kind::Table,
            columns,
            shape.layout.clone(),
            commit,
        )
        .with_files(files);
        next.loaded = base.map(|base| base.loaded.clone()).unwrap_or_default();
        next.loaded.retain(|partition, _| !decision.dropped.contains(partition));
        let loading = |(partition, generation)| (partition, Loading { generation, cause: load.cause.clone() });
        next.loaded.extend(generations.into_iter().map(loading));
        match self.tables.commit(table, &found, next).await {
            Ok(_) => Ok(touched),
            Err(error) => {
                if matches!(error, WarehouseError::Conflict(_)) {
                    self.tables.remove(fresh).await;
                }
                Err(error)
            }
        }
    }

    /// Writes the buckets that a load touches, one after another, so that memory is bound by one of them.
    async fn load_files(
        &self,
        load: &Load<'_>,
        shape: &Shape,
        base: Option<&Manifest>,
        decision: &Replacement,
    ) -> Result<Written, WarehouseError> {
        let gone = decision.touched();
        let buckets: BTreeSet<String> = gone.iter().map(|partition| partition.bucket()).collect();
        let mut written = Written::default();
        for bucket in &buckets {
            let there = base.and_then(|base| base.file(bucket));
            let coming: Vec<_> = decision.replaced.iter().filter(|load| load.partition.bucket() == *bucket).collect();
            match self.load_bucket(load.spec, shape, there, &coming, &gone).await {
                Ok(bucket) => {
                    written.files.extend(bucket.files);
                    written.generations.extend(bucket.generations);
                }
                Err(error) => {
                    self.tables.remove(written.files.into_iter().map(|file| file.object)).await;
                    return Err(error);
                }
            }
        }
        Ok(written)
    }

    async fn load_bucket(
        &self,
        spec: &TableSpec,
        shape: &Shape,
        there: Option<&File>,
        coming: &[&LoadPartition],
        gone: &BTreeSet<Partition>,
    ) -> Result<Written, WarehouseError> {
        let mut sources: Vec<Source> = there.iter().map(|file| Source::from(*file)).collect();
        let mut bronze = Vec::new();
        let mut generations = Vec::new();
        for load in coming {
            let Some(metadata) = self.tables.store.head(&load.object).await? else {
                let reason = "it is missing".to_owned();
                return Err(WarehouseError::Damaged {
                    table: shape.table.clone(),
                    object: load.object.clone(),
                    reason,
                });
            };
            let source = Source { object: load.object.clone(), bytes: metadata.size, hash: None };
            sources.push(source.clone());
            bronze.push((load.partition, source));
            generations.push((load, metadata.generation));
        }
        let written = self.write_bucket(spec, shape, there, bronze, gone).await;
        for (load, before) in &generations {
            if self.tables.store.head(&load.object).await?.map(|now| now.generation) != Some(*before) {
                // It was replaced while it was read, perhaps one part before and one after: read it again.
                let files = written.into_iter().flatten().map(|file| file.object);
                self.tables.remove(files).await;
                return Err(WarehouseError::Conflict(shape.table.clone()));
            }
        }
        match written {
            Ok(files) => {
                let generations = generations.into_iter().map(|(load, generation)| (load.partition, generation));
                Ok(Written { files, generations: generations.collect() })
            }
            Err(error) => Err(self.context(Some(&shape.table), None, sources).explain(error).await),
        }
    }

    async fn write_bucket(
        &self,
        spec: &TableSpec,
        shape: &Shape,
        there: Option<&File>,
        bronze: Vec<(Partition, Source)>,
        gone: &BTreeSet<Partition>,
    ) -> DataFusionResult<Vec<File>> {
        let mut streams = Vec::new();
        if let Some(file) = there
            && let Some(splitter) = shape.splitter.clone()
            && !file.partitions.is_subset(gone)
        {
            let gone = gone.clone();
            streams.push(each(shape, self.scan(&shape.schema, [Source::from(file)])?, move |batch| {
                let ordinals = splitter.ordinals(&batch).map_err(BadRows)?;
                let stays = |partition: Option<Partition>| partition.is_some_and(|there| !gone.contains(&there));
                let mask: BooleanArray =
                    ordinals.iter().map(|ordinal| Some(stays(ordinal.partition(splitter.unit())))).collect();
                Ok(filter_record_batch(&batch, &mask)?)
            }));
        }
        let schema = spec.schema();
        for (partition, source) in bronze {
            let (splitter, to) = (shape.splitter.clone(), Arc::clone(&shape.schema));
            let object = source.object.clone();
            streams.push(each(shape, self.scan(&schema, [source])?, move |batch| {
                let batch = conform(&batch, &to)?;
                if let Some(splitter) = &splitter {
                    for ordinal in splitter.ordinals(&batch).map_err(BadRows)? {
                        if ordinal.partition(splitter.unit()) != Some(partition) {
                            return Err(
                                BadRows(format!("{object} holds rows of other partitions than {partition}")).into()
                            );
                        }
                    }
                }
                Ok(batch)
            }));
        }
        self.writer.write(shape, chain(shape, streams), |_| true).await
    }
}

/// A schema with its names as SQL says them, and timestamps as BigQuery keeps them.
fn lower(schema: &SchemaRef) -> Schema {
    let field = |field: &Arc<Field>| {
        let data_type = match field.data_type() {
            DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
            other => other.clone(),
        };
        Field::new(field.name().to_lowercase(), data_type, true)
    };
    Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>())
}

fn layout(spec: &TableSpec) -> StoredLayout {
    let key = spec.columns.get(spec.key).map(|column| column.name.to_lowercase());
    StoredLayout {
        partition_by: Some(StoredPartitionBy {
            field: spec.partition_name().to_lowercase(),
            unit: spec.partitioning.into(),
        }),
        cluster_by: spec.clustering.iter().map(|name| name.to_lowercase()).collect(),
        // A row version is named by the thing it is a version of and its hash.
        unique_key: key.into_iter().chain([ROW_HASH.to_owned()]).collect(),
    }
}

/// Names the columns and the layout of a raw table.
fn definition(columns: &[crate::schema::Column], layout: &StoredLayout) -> String {
    let said = format!("{columns:?} {layout:?}");
    format!("{:016x}", twox_hash::XxHash3_64::oneshot(said.as_bytes()))
}
