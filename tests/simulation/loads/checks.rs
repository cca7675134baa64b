//! What must hold whenever the table's record is at rest, and at the end.

use std::collections::{BTreeMap, BTreeSet};

use futures::FutureExt;
use shared::partition::Partition;
use shared::store::Store;
use shared::table::Growth;
use shared::warehouse::{Extent, TableState};

use super::{RECORD, World, bronze};

impl World {
    /// What must hold whenever nothing is at work: whoever has consumed the version before is told of all that has
    /// changed since, and the record says of each partition that there is, and of none that it holds more than it does.
    pub(super) fn rests(&mut self) -> Result<(), String> {
        let now = self.store.head(RECORD).now_or_never().unwrap().unwrap().map(|found| found.generation);
        if let Some((seen, rested)) = self.rest.seen
            && Some(seen) == now
        {
            let changed = self.bigquery().changes.len() > self.rest.changes;
            return if rested && changed { Err("it changes while nothing is at work".to_owned()) } else { Ok(()) };
        }
        let Some((record, generation)) = self.record() else { return Ok(()) };
        self.rest.seen = Some((generation, record.running.is_none()));
        if let (Some(before), Some(state)) = (&self.rest.state, &record.state)
            && state.version < before.version
        {
            return Err(format!("version {} comes after {}", state.version, before.version));
        }
        if record.running.is_some() {
            return Ok(());
        }
        let (changes, table, rows) = {
            let there = self.bigquery();
            let table = there.table.clone().unwrap_or_default();
            let rows: u64 = table.values().map(|content| content.rows).sum();
            (there.changes.clone(), table, rows)
        };
        if let Some(before) = &self.rest.state {
            told(record.state.as_ref(), before.version, &changes[self.rest.changes..])?;
        }
        for (partition, loading) in &record.loaded {
            let holds = table.get(partition).map(|content| content.generation);
            let enough = match self.spec.growth {
                Growth::Union => holds >= Some(loading.generation),
                Growth::Snapshot => holds == Some(loading.generation),
            };
            if !enough {
                return Err(format!("{partition} holds {holds:?}, and its record says {}", loading.generation));
            }
        }
        if let Some(partition) = table.keys().find(|partition| !record.loaded.contains_key(partition)) {
            return Err(format!("{partition} is in the table, and its record says nothing of it"));
        }
        if let Some(state) = &record.state
            && state.rows != Some(rows)
        {
            return Err(format!("the table has {rows} rows, and its record says {:?}", state.rows));
        }
        self.rest.state = record.state;
        self.rest.changes = changes.len();
        Ok(())
    }

    /// What must hold at the end.
    pub(super) fn complete(&self) -> Result<(), String> {
        let (record, _) = self.record().ok_or("there is no record")?;
        let newest: BTreeMap<_, _> = bronze(&self.store, &self.spec).now_or_never().unwrap().unwrap();
        let newest: BTreeMap<_, _> = newest.into_values().map(|part| (part.partition, part.generation)).collect();
        let there = self.bigquery();
        let table: BTreeMap<_, _> =
            there.table.iter().flatten().map(|(partition, content)| (*partition, content.generation)).collect();
        if table != newest {
            return Err(format!("bronze has {newest:?}, and the table holds {table:?}"));
        }
        let said: BTreeMap<_, _> = record.loaded.iter().map(|(partition, it)| (*partition, it.generation)).collect();
        if said != newest {
            return Err(format!("bronze has {newest:?}, and the record says {said:?}"));
        }
        if record.running.is_some() {
            return Err("a commit is still under way".to_owned());
        }
        for reader in &self.left.lock().unwrap().readers {
            told(record.state.as_ref(), reader.version, &there.changes[reader.changes..])?;
        }
        let versions: Vec<u64> = record.state.iter().flat_map(|state| &state.changes).map(|it| it.version).collect();
        if versions.windows(2).any(|two| two[1] != two[0] + 1) {
            return Err(format!("versions are left out: {versions:?}"));
        }
        Ok(())
    }
}

/// Whether whoever has consumed a version is told of these changes.
fn told(state: Option<&TableState>, version: u64, changed: &[Partition]) -> Result<(), String> {
    let Some(state) = state else { return Err("the table has lost its state".to_owned()) };
    let changed: BTreeSet<Partition> = changed.iter().copied().collect();
    match state.changed_since(version) {
        Extent::Partitions(named) if !changed.is_subset(&named) => {
            Err(format!("{changed:?} changed, and whoever consumed version {version} is told {named:?}"))
        }
        _ => Ok(()),
    }
}
