//! The one mutable object of a table: what it is, which files hold its rows, and what its commits touched.
//!
//! Invariants. A table is what its manifest says and nothing else; a file that no manifest names does not exist for a
//! reader. Files are never changed. There is at most one file to a bucket, and the files are in the order of their
//! buckets.

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};
use shared::clock::Timestamp;
use shared::partition::Partition;
use shared::table::TableName;
use shared::warehouse::{Commit, Loading, TableState};

use crate::schema::{Column, arrow_schema};
use crate::split::StoredLayout;

/// Where the tables lie in the lake.
pub(crate) const FOLDER: &str = "warehouse/";
const MANIFEST: &str = "manifest.json";

/// The object that holds a table's manifest.
pub(crate) fn manifest_object(table: &TableName) -> String {
    format!("{}{MANIFEST}", folder(table))
}

/// The folder of a table, with the `/` at its end.
pub(crate) fn folder(table: &TableName) -> String {
    format!("{FOLDER}{}/{}/", table.schema, table.table)
}

/// The table that an object belongs to, and the object's name in its folder.
pub(crate) fn owner(object: &str) -> Option<(TableName, &str)> {
    let mut parts = object.strip_prefix(FOLDER)?.splitn(3, '/');
    let (schema, table, name) = (parts.next()?, parts.next()?, parts.next()?);
    Some((TableName::new(schema, table), name))
}

/// The table whose manifest an object is.
pub(crate) fn table_of_manifest(object: &str) -> Option<TableName> {
    owner(object).filter(|(_, name)| *name == MANIFEST).map(|(table, _)| table)
}

/// What a table is made of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) state: TableState,
    pub(crate) kind: Kind,
    pub(crate) columns: Vec<Column>,
    #[serde(default)]
    pub(crate) layout: StoredLayout,
    #[serde(default)]
    pub(crate) files: Vec<File>,
    /// For a raw table, what each partition was loaded from.
    #[serde(default)]
    pub(crate) loaded: BTreeMap<Partition, Loading>,
    /// Files of earlier versions, which a reader may still hold.
    #[serde(default)]
    pub(crate) retired: Vec<Retired>,
    /// Random: tells our own write, whose answer was lost, from somebody else's.
    pub(crate) commit: String,
}

/// What a table is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Table,
    View { sql: String, file: String, first_line: u32 },
}

/// An immutable Parquet object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct File {
    pub(crate) object: String,
    pub(crate) bucket: String,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    /// XXH3-64 of the object's bytes, in hexadecimal.
    pub(crate) hash: String,
    /// The column by which the file's Bloom filter finds rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) filter: Option<String>,
    /// The smallest and the largest value of the partition column: days, microseconds or years.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) range: Option<(i64, i64)>,
    #[serde(default)]
    pub(crate) partitions: BTreeSet<Partition>,
}

/// A file that the table no longer needs, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Retired {
    pub(crate) object: String,
    pub(crate) at: Timestamp,
}

impl Manifest {
    pub(crate) fn schema(&self) -> SchemaRef {
        arrow_schema(&self.columns)
    }

    /// A manifest of the version after `before`, where there is a readable one, yet without files.
    pub(crate) fn after(
        before: Option<&Self>,
        now: Timestamp,
        kind: Kind,
        columns: Vec<Column>,
        layout: StoredLayout,
        commit: Commit<'_>,
    ) -> Self {
        let state = TableState::after(before.map(|before| &before.state), commit, now);
        let state = TableState { rows: (kind == Kind::Table).then_some(0), ..state };
        Self {
            state,
            kind,
            columns,
            layout,
            files: Vec::new(),
            loaded: BTreeMap::new(),
            retired: Vec::new(),
            commit: String::new(),
        }
    }

    /// The same table with these files.
    #[must_use]
    pub(crate) fn with_files(mut self, mut files: Vec<File>) -> Self {
        files.sort_by(|one, other| one.bucket.cmp(&other.bucket));
        if self.kind == Kind::Table {
            self.state.rows = Some(files.iter().map(|file| file.rows).sum());
        }
        self.files = files;
        self
    }

    /// The file of a bucket.
    pub(crate) fn file(&self, bucket: &str) -> Option<&File> {
        self.files.iter().find(|file| file.bucket == bucket)
    }
}
