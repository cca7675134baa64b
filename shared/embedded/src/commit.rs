//! Reading and committing manifests: the only place where a table changes.
//!
//! Invariant: a commit happens whole or not at all, because it is one write of one object under the precondition that
//! nobody wrote it since it was read. Files are written before and removed long after.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::TimeDelta;
use shared::clock::{SharedClock, Timestamp};
use shared::store::{Generation, Precondition, Store, StoreError};
use shared::table::TableName;
use shared::warehouse::WarehouseError;

use crate::manifest::{Manifest, Retired, folder, manifest_object, owner, table_of_manifest};

/// How long the files of an earlier version stay for those who are reading them.
pub(crate) const GRACE: TimeDelta = TimeDelta::minutes(10);
/// How old a file that no manifest names must be to be taken for the remains of a crash and not for a build under way.
const ABANDONED: TimeDelta = TimeDelta::hours(24);

/// The manifests of a lake.
#[derive(Clone)]
pub(crate) struct Tables {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: SharedClock,
}

/// A table as it was found.
pub(crate) struct Found {
    table: TableName,
    generation: Option<Generation>,
    pub(crate) content: Content,
}

pub(crate) enum Content {
    Nothing,
    /// Why the manifest cannot be read.
    Damaged(String),
    Table(Box<Manifest>),
}

impl Found {
    /// The manifest, or `None` where there is no table.
    pub(crate) fn manifest(self) -> Result<Option<Manifest>, WarehouseError> {
        match self.content {
            Content::Nothing => Ok(None),
            Content::Damaged(reason) => Err(damaged(self.table, reason)),
            Content::Table(manifest) => Ok(Some(*manifest)),
        }
    }

    /// What is wrong with the manifest, if it cannot be read.
    pub(crate) fn damage(&self) -> Option<WarehouseError> {
        match &self.content {
            Content::Damaged(reason) => Some(damaged(self.table.clone(), reason.clone())),
            _ => None,
        }
    }

    /// The manifest, if there is a readable one.
    pub(crate) fn readable(&self) -> Option<&Manifest> {
        match &self.content {
            Content::Table(manifest) => Some(manifest),
            _ => None,
        }
    }
}

fn damaged(table: TableName, reason: String) -> WarehouseError {
    WarehouseError::Damaged { object: manifest_object(&table), table, reason }
}

impl Tables {
    /// Reads a table's manifest, once.
    pub(crate) async fn find(&self, table: &TableName) -> Result<Found, WarehouseError> {
        let object = manifest_object(table);
        let Some(read) = self.store.get(&object).await? else {
            return Ok(Found { table: table.clone(), generation: None, content: Content::Nothing });
        };
        let content = match serde_json::from_slice::<Manifest>(&read.bytes) {
            Ok(manifest) => Content::Table(Box::new(manifest)),
            Err(error) => Content::Damaged(error.to_string()),
        };
        Ok(Found { table: table.clone(), generation: Some(read.generation), content })
    }

    /// Makes `next` the table, if it still is as it was found.
    ///
    /// # Errors
    /// [`WarehouseError::Conflict`] when somebody else committed meanwhile.
    pub(crate) async fn commit(
        &self,
        table: &TableName,
        found: &Found,
        mut next: Manifest,
    ) -> Result<Manifest, WarehouseError> {
        let now = self.clock.now();
        let expired = retire(found.readable(), &mut next, now);
        next.commit = format!("{:032x}", self.clock.random());
        let object = manifest_object(table);
        let mut bytes = serde_json::to_vec(&next).map_err(|error| WarehouseError::Transient(error.to_string()))?;
        bytes.push(b'\n');
        match self.store.put(&object, bytes.into(), Precondition::unchanged(found.generation)).await {
            Ok(_) => {}
            Err(StoreError::Conflict { .. }) => {
                // It may be the echo of our own write.
                let ours = self.find(table).await?.readable().is_some_and(|there| there.commit == next.commit);
                if !ours {
                    return Err(WarehouseError::Conflict(table.clone()));
                }
            }
            Err(error) => return Err(error.into()),
        }
        self.remove(expired).await;
        Ok(next)
    }

    /// Removes objects that nobody needs. What fails is left for [`Tables::vacuum`].
    pub(crate) async fn remove(&self, objects: impl IntoIterator<Item = String>) {
        for object in objects {
            if let Err(error) = self.store.delete(&object, Precondition::None).await {
                tracing::warn!(object, %error, "a file that no table needs could not be removed");
            }
        }
    }

    /// A fresh name for a file. It says when it was given, for [`Tables::vacuum`].
    pub(crate) fn file_name(&self, table: &TableName, bucket: &str) -> String {
        let millis = self.clock.now().timestamp_millis();
        format!("{}{bucket}-{millis:012x}{:020x}.parquet", folder(table), self.clock.random() & ((1 << 80) - 1))
    }

    /// All tables, in the order of their names.
    pub(crate) async fn names(&self) -> Result<Vec<TableName>, WarehouseError> {
        let objects = self.store.list(crate::manifest::FOLDER).await?;
        let names: BTreeSet<_> = objects.iter().filter_map(|object| table_of_manifest(&object.name)).collect();
        Ok(names.into_iter().collect())
    }

    /// Removes what crashes have left: files of a day ago that no manifest names. Returns how many.
    ///
    /// # Errors
    /// The store's. A table whose manifest is damaged is left as it is.
    pub(crate) async fn vacuum(&self) -> Result<usize, WarehouseError> {
        let now = self.clock.now();
        let mut tables: BTreeMap<TableName, Vec<String>> = BTreeMap::new();
        for object in self.store.list(crate::manifest::FOLDER).await? {
            if let Some((table, name)) = owner(&object.name)
                && written_at(name).is_some_and(|at| now - at >= ABANDONED)
            {
                tables.entry(table).or_default().push(object.name);
            }
        }
        let mut removed = 0;
        for (table, objects) in tables {
            // Read after the listing: what was committed in between is named by it.
            let named: BTreeSet<String> = match self.find(&table).await?.content {
                Content::Damaged(reason) => {
                    tracing::warn!(%table, reason, "its manifest is damaged, and its files are left alone");
                    continue;
                }
                Content::Nothing => BTreeSet::new(),
                Content::Table(manifest) => {
                    let retired = manifest.retired.into_iter().map(|retired| retired.object);
                    manifest.files.into_iter().map(|file| file.object).chain(retired).collect()
                }
            };
            for object in objects.into_iter().filter(|object| !named.contains(object)) {
                self.store.delete(&object, Precondition::None).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// Notes the files that `next` does without, and takes out those whose grace is over, which are returned.
fn retire(before: Option<&Manifest>, next: &mut Manifest, now: Timestamp) -> Vec<String> {
    let Some(before) = before else {
        return Vec::new();
    };
    let kept: BTreeSet<&str> = next.files.iter().map(|file| file.object.as_str()).collect();
    let fresh = before.files.iter().filter(|file| !kept.contains(file.object.as_str()));
    let fresh = fresh.map(|file| Retired { object: file.object.clone(), at: now });
    let (expired, waiting): (Vec<_>, Vec<_>) =
        before.retired.iter().cloned().partition(|retired| now - retired.at >= GRACE);
    next.retired = waiting.into_iter().chain(fresh).collect();
    expired.into_iter().map(|retired| retired.object).collect()
}

/// When the name of a file was given.
fn written_at(name: &str) -> Option<Timestamp> {
    let (_, unique) = name.strip_suffix(".parquet")?.rsplit_once('-')?;
    let millis = i64::from_str_radix(unique.get(..12)?, 16).ok()?;
    Timestamp::from_timestamp_millis(millis)
}
