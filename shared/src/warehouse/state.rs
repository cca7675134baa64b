//! What is known of a table without reading its rows: its version, and what its latest commits touched.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::partition::Partition;
use crate::table::TableName;

/// How many commits a table remembers.
pub const CHANGES: usize = 256;

/// What part of a table a commit touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// Perhaps every row: a rebuild, or a table without partitions.
    Whole,
    /// These partitions and no other, an empty set when nothing was touched.
    Partitions(BTreeSet<Partition>),
}

impl Extent {
    /// Nothing.
    pub fn nothing() -> Self {
        Self::Partitions(BTreeSet::new())
    }

    /// Whether nothing was touched.
    pub fn is_nothing(&self) -> bool {
        matches!(self, Self::Partitions(partitions) if partitions.is_empty())
    }

    /// Both together.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        match (self, other) {
            (Self::Partitions(mut one), Self::Partitions(mut two)) => {
                one.append(&mut two);
                Self::Partitions(one)
            }
            _ => Self::Whole,
        }
    }
}

/// One commit of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The version that the commit made.
    pub version: u64,
    /// What it touched.
    pub extent: Extent,
    /// Who caused it: a capture for a load, a run for a model.
    pub cause: String,
}

/// What is known of a table without reading its rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableState {
    /// Grows by one with every commit that touches anything. The first is the time in milliseconds since 1970, so that
    /// a table which was lost and is built again is not taken for the one before.
    pub version: u64,
    /// Hash of the model, seed or schema that the table was built from.
    pub definition: String,
    /// For each table that the model reads, the version up to which it has been consumed.
    pub inputs: BTreeMap<TableName, u64>,
    /// The latest commits, oldest first. Bounded: an older change is unknown.
    pub changes: Vec<Change>,
    /// How many rows it holds; `None` for a view.
    pub rows: Option<u64>,
}

impl TableState {
    /// What the table's commits after `version` touched. [`Extent::Whole`] when that is no longer known.
    pub fn changed_since(&self, version: u64) -> Extent {
        if version >= self.version {
            // A version that the table does not have: it was built from nothing since.
            return if version == self.version { Extent::nothing() } else { Extent::Whole };
        }
        let later = self.changes.iter().filter(|change| change.version > version);
        if later.clone().count() as u64 != self.version - version {
            return Extent::Whole;
        }
        later.fold(Extent::nothing(), |all, change| all.union(change.extent.clone()))
    }

    /// The state after a commit that follows `before`, yet with the rows of `before`. A commit that touches nothing is
    /// no version.
    #[must_use]
    pub fn after(before: Option<&Self>, commit: Commit<'_>, now: Timestamp) -> Self {
        let touched = !commit.extent.is_nothing();
        let (version, mut changes) = match before {
            Some(before) => (before.version + u64::from(touched), before.changes.clone()),
            // There may have been a table that was lost. Whoever consumed it must not take a version of this one for it.
            None => (u64::try_from(now.timestamp_millis()).unwrap_or(1), Vec::new()),
        };
        if touched {
            changes.push(Change { version, extent: commit.extent, cause: commit.cause.to_owned() });
        }
        let known = changes.len().saturating_sub(CHANGES);
        changes.drain(..known);
        let rows = before.and_then(|before| before.rows);
        Self { version, definition: commit.definition, inputs: commit.inputs, changes, rows }
    }
}

/// What a commit says of itself.
#[derive(Debug, Clone)]
pub struct Commit<'a> {
    /// Hash of the model, seed or schema.
    pub definition: String,
    /// The versions of its inputs that it consumed.
    pub inputs: BTreeMap<TableName, u64>,
    /// What it touches.
    pub extent: Extent,
    /// Who caused it.
    pub cause: &'a str,
}
