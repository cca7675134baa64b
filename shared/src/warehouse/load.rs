//! Loads of bronze objects into raw tables: what is asked, and what of it is due.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::state::{Change, Extent};
use crate::partition::Partition;
use crate::store::Generation;
use crate::table::{TableName, TableSpec};

/// A bronze object to load as one partition of a raw table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadPartition {
    /// Which part of the table it replaces.
    pub partition: Partition,
    /// The bronze object.
    pub object: String,
    /// Its generation; what is loaded is exactly this, or a newer one.
    pub generation: Generation,
}

/// What a load replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadMode {
    /// The named partitions that hold an older generation.
    Newer,
    /// The named partitions that hold another generation; those that are not named are dropped. For a snapshot.
    Snapshot,
    /// The named partitions, whatever they hold.
    Again,
    /// The whole table, whatever is there, damaged or not.
    Afresh,
}

/// A load into a raw table.
#[derive(Debug, Clone)]
pub struct Load<'a> {
    /// The raw table.
    pub table: TableName,
    /// Its columns and partitions.
    pub spec: &'a TableSpec,
    /// What to load.
    pub partitions: Vec<LoadPartition>,
    /// What it replaces.
    pub mode: LoadMode,
    /// The capture that caused it.
    pub cause: String,
}

/// What a raw table holds of its bronze partitions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The generation of the bronze object that each partition was last loaded from.
    pub generations: BTreeMap<Partition, Generation>,
    /// The partitions whose latest loads were caused by the capture that was asked about.
    pub by_cause: BTreeSet<Partition>,
}

/// Where a partition of a raw table came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loading {
    /// Of the bronze object.
    pub generation: Generation,
    /// The capture that caused it.
    pub cause: String,
}

impl Loaded {
    /// What a table holds, by its partitions and its latest commits, oldest first.
    pub fn new(loaded: &BTreeMap<Partition, Loading>, changes: &[Change], cause: &str) -> Self {
        let caused = loaded.iter().filter(|(_, loading)| loading.cause == cause);
        let mut by_cause: BTreeSet<Partition> = caused.map(|(partition, _)| *partition).collect();
        // A partition that was dropped is only in the log.
        let mut known = BTreeSet::new();
        for change in changes.iter().rev() {
            if let Extent::Partitions(partitions) = &change.extent {
                let latest = partitions.iter().filter(|partition| known.insert(**partition));
                let dropped = latest.filter(|partition| !loaded.contains_key(partition));
                by_cause.extend(dropped.filter(|_| change.cause == cause));
            }
        }
        let generations = loaded.iter().map(|(partition, loading)| (*partition, loading.generation));
        Self { generations: generations.collect(), by_cause }
    }
}

/// What a load does to a table as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    /// The partitions that are loaded, each from its newest object.
    pub replaced: Vec<LoadPartition>,
    /// The partitions that go.
    pub dropped: BTreeSet<Partition>,
}

impl Replacement {
    /// Decides what of `load` is due for a table that holds `loaded`.
    pub fn new(load: &Load<'_>, loaded: &BTreeMap<Partition, Loading>) -> Self {
        let due = |partition: &&LoadPartition| {
            let there = loaded.get(&partition.partition).map(|there| there.generation);
            match load.mode {
                LoadMode::Newer => there < Some(partition.generation),
                LoadMode::Snapshot => there != Some(partition.generation),
                LoadMode::Again | LoadMode::Afresh => true,
            }
        };
        // A partition that is named twice is loaded from its newest object.
        let mut newest: BTreeMap<Partition, &LoadPartition> = BTreeMap::new();
        for partition in &load.partitions {
            let known = newest.entry(partition.partition).or_insert(partition);
            if known.generation < partition.generation {
                *known = partition;
            }
        }
        let there = loaded.keys().copied();
        let dropped =
            there.filter(|partition| load.mode == LoadMode::Snapshot && !newest.contains_key(partition)).collect();
        Self { replaced: newest.into_values().filter(due).cloned().collect(), dropped }
    }

    /// All partitions that it touches.
    pub fn touched(&self) -> BTreeSet<Partition> {
        self.replaced.iter().map(|load| load.partition).chain(self.dropped.iter().copied()).collect()
    }
}
