//! Loading bronze objects into raw tables, a job for each partition.
//!
//! Invariant: a partition of a raw table never goes back to an older generation of its bronze object, in whatever order
//! and however often loads come, and whoever dies in between. The partitions of one load are replaced one by one; who
//! reads the raw table meanwhile sees some of them before and some after, and each of them whole.

use std::collections::{BTreeMap, BTreeSet};

use shared::clock::SharedClock;
use shared::partition::Partition;
use shared::table::{Growth, Partitioning, TableName, TableSpec};
use shared::warehouse::{
    Extent, Layout, Load, LoadMode, LoadPartition, Loaded, PartitionBy, PartitionColumn, Replacement, WarehouseError,
};

use super::columns::{Column, columns};
use super::job::{Job, Statement, Trouble, Work};
use super::record::{Effect, Record};
use super::settle::Tables;
use super::sql;

/// How often a load is decided again because somebody else loaded meanwhile.
const TRIES: usize = 32;
/// The years that have a partition of their own: BigQuery has 10,000 at most.
const YEARS: (i64, i64) = (1600, 2400);

/// Loads into raw tables.
#[derive(Clone)]
pub struct Loader {
    tables: Tables,
    clock: SharedClock,
    /// What the ids of jobs begin with.
    prefix: String,
}

impl Loader {
    /// Loads into `tables`, with jobs whose ids begin with `prefix`.
    pub fn new(tables: Tables, clock: SharedClock, prefix: String) -> Self {
        Self { tables, clock, prefix }
    }

    /// See [`shared::warehouse::Warehouse::loaded`].
    ///
    /// # Errors
    /// When the record cannot be read, or what it names cannot be finished.
    pub async fn loaded(&self, table: &TableName, cause: &str) -> Result<Loaded, WarehouseError> {
        let found = self.tables.find(table).await?;
        let record = found.readable(table)?;
        let changes = record.state.as_ref().map_or(&[][..], |state| &state.changes);
        let mut loaded = Loaded::new(&record.loaded, changes, cause);
        if !record.owed.is_empty() {
            // As of a table that is new: then everything is named, and what is there is not loaded again.
            loaded.generations.clear();
        }
        Ok(loaded)
    }

    /// See [`shared::warehouse::Warehouse::load`].
    ///
    /// # Errors
    /// What went wrong with a job; [`WarehouseError::Conflict`] when others loaded again and again meanwhile.
    pub async fn load(&self, load: &Load<'_>) -> Result<BTreeSet<Partition>, WarehouseError> {
        let refuse = |reason| WarehouseError::Rows { table: load.table.clone(), reason };
        let columns = columns(&load.spec.schema()).map_err(refuse)?;
        let mut tries = 0;
        loop {
            match self.try_load(load, &columns).await {
                Err(WarehouseError::Conflict(_)) if tries < TRIES => tries += 1,
                outcome => return outcome,
            }
        }
    }

    async fn try_load(&self, load: &Load<'_>, columns: &[Column]) -> Result<BTreeSet<Partition>, WarehouseError> {
        let table = &load.table;
        let mut found = self.tables.find(table).await?;
        let afresh = load.mode == LoadMode::Afresh;
        // Which partitions a table holds whose record is damaged is not known, and a part must not pass for the whole.
        let record = if afresh { &found.record } else { found.readable(table)? };
        let nothing = BTreeMap::new();
        let mut decided = Replacement::new(load, if afresh { &nothing } else { &record.loaded });
        if load.spec.growth == Growth::Union {
            // A partition has one object for life, so what is loaded is at least what was: a load that was asked for
            // before does not turn the record back.
            for part in &mut decided.replaced {
                let there = record.loaded.get(&part.partition).map(|there| there.generation);
                let known = there.max(record.owed.get(&part.partition).copied());
                part.generation = known.map_or(part.generation, |known| known.max(part.generation));
            }
        }
        let touched = decided.touched();
        if touched.is_empty() && record.state.is_some() {
            return Ok(touched);
        }
        if !afresh && record.state.is_some() && record.columns != columns {
            let reason = "its columns are others than those of bronze".to_owned();
            return Err(Trouble::Gone(reason).of(table));
        }
        let attempt = record.next_attempt(self.clock.now());
        let steps = self.steps(load, record, columns, &decided, attempt);
        let extent = if afresh { Extent::Whole } else { Extent::Partitions(touched.clone()) };
        let effect = Effect {
            definition: definition(columns),
            inputs: BTreeMap::new(),
            extent,
            cause: load.cause.clone(),
            afresh,
            layout: Some(sql::layout(&layout(load.spec))),
            columns: columns.to_vec(),
            dropped: decided.dropped,
        };
        if load.spec.growth == Growth::Union && (afresh || record.state.is_none()) {
            let asked = decided.replaced.iter().map(|part| (part.partition, part.generation));
            let there = record.loaded.iter().map(|(partition, loading)| (*partition, loading.generation));
            for (partition, generation) in asked.chain(there).collect::<Vec<_>>() {
                let owed = found.record.owed.entry(partition).or_insert(generation);
                *owed = generation.max(*owed);
            }
        }
        self.tables.commit(table, found, attempt, steps, effect).await?;
        Ok(touched)
    }

    fn steps(
        &self,
        load: &Load<'_>,
        record: &Record,
        columns: &[Column],
        decided: &Replacement,
        attempt: u64,
    ) -> Vec<Vec<Job>> {
        let table = &load.table;
        let by = layout(load.spec);
        let named = |what: &str| format!("{}-{}-{}-{what}-{attempt}", self.prefix, table.schema, table.table);
        let statement = |what: &str, sql: String| Job { id: named(what), work: Work::Statement(Statement::ours(sql)) };
        let afresh = load.mode == LoadMode::Afresh;
        let mut steps = Vec::new();
        // A table that holds nothing may have been removed to be made anew, which then failed.
        if afresh || record.state.is_none() || record.loaded.is_empty() {
            if afresh && record.state.is_some() && record.layout != Some(sql::layout(&by)) {
                steps.push(vec![statement("drop", sql::drop(table, record.layout.as_deref()))]);
            }
            steps.push(vec![statement("create", sql::create(table, columns, &by, afresh))]);
        }
        let replace = |LoadPartition { partition, object, generation }: &LoadPartition| Job {
            id: named(&format!("{partition}-{generation}")),
            work: Work::Load {
                object: object.clone(),
                generation: *generation,
                partition: Some(*partition),
                columns: columns.to_vec(),
            },
        };
        if let Some(by) = by.partition_by.as_ref().filter(|_| !decided.dropped.is_empty()) {
            // A step of its own: BigQuery refuses a statement that changes a table while a part of that is replaced.
            let gone = sql::in_partitions(by, "", &decided.dropped);
            steps.push(vec![statement("delete", format!("delete from {} where {gone}", sql::name(table)))]);
        }
        steps.push(decided.replaced.iter().map(replace).collect());
        steps
    }
}

/// How a raw table is laid out.
fn layout(spec: &TableSpec) -> Layout {
    let column = match spec.partitioning {
        Partitioning::Day => PartitionColumn::Timestamp,
        Partitioning::Year => PartitionColumn::Year { start: YEARS.0, end: YEARS.1 },
    };
    Layout {
        partition_by: Some(PartitionBy { field: spec.partition_name().to_owned(), column }),
        cluster_by: spec.clustering.iter().map(|&name| name.to_owned()).collect(),
        unique_key: Vec::new(),
    }
}

/// Names the columns of a raw table.
fn definition(columns: &[Column]) -> String {
    let said: Vec<String> = columns.iter().map(|column| format!("{} {}", column.name, column.kind)).collect();
    format!("{:016x}", twox_hash::XxHash3_64::oneshot(said.join(", ").as_bytes()))
}
