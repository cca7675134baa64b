//! Commits of tables, one after another: what a record names is brought to its end by whoever finds it.
//!
//! A commit writes the record with the jobs that it wants, runs them, and writes how they ended; each write under the
//! precondition that the record is as it was read. Who dies in between leaves the record, and the next finishes the work
//! with the same jobs: their ids make sure that each runs once.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use shared::clock::SharedClock;
use shared::store::{Generation, Precondition, Store, StoreError};
use shared::table::TableName;
use shared::warehouse::{Extent, WarehouseError};

use super::job::{Ended, Job, Jobs};
use super::record::{Effect, FOLDER, Record, Running, Settled, object, table_of};

/// How many jobs of a step run at once. BigQuery takes 50 changes of partitions of a table in 10 seconds.
const AT_ONCE: usize = 8;

/// The tables of a warehouse, by their records.
#[derive(Clone)]
pub struct Tables {
    store: Arc<dyn Store>,
    jobs: Arc<dyn Jobs>,
    clock: SharedClock,
}

/// A record as it was found.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// What it says; as of a table that never was, where there is none.
    pub record: Record,
    generation: Option<Generation>,
    damage: Option<String>,
}

impl Found {
    /// What it says.
    ///
    /// # Errors
    /// When it is damaged: nobody knows then what the table is.
    pub fn readable(&self, table: &TableName) -> Result<&Record, WarehouseError> {
        match &self.damage {
            None => Ok(&self.record),
            Some(reason) => {
                Err(WarehouseError::Damaged { table: table.clone(), object: object(table), reason: reason.clone() })
            }
        }
    }
}

impl Tables {
    /// The tables whose records are in `store`, changed by `jobs`.
    pub fn new(store: Arc<dyn Store>, jobs: Arc<dyn Jobs>, clock: SharedClock) -> Self {
        Self { store, jobs, clock }
    }

    /// What there is, with nothing at work.
    ///
    /// # Errors
    /// When a job's end cannot be known now, or the record cannot be read or written.
    pub async fn find(&self, table: &TableName) -> Result<Found, WarehouseError> {
        loop {
            let found = self.read(table).await?;
            match &found.record.running {
                None => return Ok(found),
                Some(running) => {
                    tracing::info!(%table, commit = running.commit, "what is at work on the table is finished first");
                    self.finish(table, found).await?;
                }
            }
        }
    }

    /// Brings `steps` to their end, if the table is still as it was found.
    ///
    /// # Errors
    /// [`WarehouseError::Conflict`] when it is not; what went wrong with a job; and those of [`Tables::find`].
    pub async fn commit(
        &self,
        table: &TableName,
        found: Found,
        attempt: u64,
        steps: Vec<Vec<Job>>,
        effect: Effect,
    ) -> Result<(Settled, Record), WarehouseError> {
        let commit = format!("{:032x}", self.clock.random());
        let running = Running { commit: commit.clone(), steps, effect };
        let Some(begun) = self.write(table, found.record.begin(running, attempt), found.generation).await? else {
            return Err(WarehouseError::Conflict(table.clone()));
        };
        let mut found = begun;
        loop {
            if let Some(settled) = found.record.how_ended(&commit) {
                let settled = settled.clone();
                return match settled.trouble.clone() {
                    None => Ok((settled, found.record)),
                    Some(trouble) => Err(trouble.of(table)),
                };
            }
            // It has ended, and so many others since that nobody knows how.
            if found.record.running.as_ref().is_none_or(|running| running.commit != commit) {
                return Err(WarehouseError::Conflict(table.clone()));
            }
            found = self.finish(table, found).await?;
        }
    }

    /// Runs the jobs of a record to their end and writes how they ended, unless somebody else has. Returns what is there
    /// then.
    async fn finish(&self, table: &TableName, found: Found) -> Result<Found, WarehouseError> {
        let Some(running) = &found.record.running else { return Ok(found) };
        let mut outcomes: Vec<(Job, Ended)> = Vec::new();
        for step in &running.steps {
            let run = step
                .iter()
                .map(|job| async move { Ok::<_, WarehouseError>((job.clone(), self.jobs.run(table, job).await?)) });
            // Collected first: a stream over borrowing closures cannot be sent between threads.
            let run: Vec<_> = run.collect();
            let ended: Vec<_> = stream::iter(run).buffered(AT_ONCE).try_collect().await?;
            let well = ended.iter().all(|(_, ended)| matches!(ended, Ended::Done { .. }));
            outcomes.extend(ended);
            if !well {
                break;
            }
        }
        let rows = if running.effect.layout.is_some() { self.jobs.rows(table).await? } else { None };
        let generation = found.generation;
        match self.write(table, found.record.settle(&outcomes, rows, self.clock.now()), generation).await? {
            Some(settled) => Ok(settled),
            None => self.read(table).await,
        }
    }

    /// Writes a record over the one that was found. `None` when that has changed meanwhile.
    async fn write(
        &self,
        table: &TableName,
        record: Record,
        over: Option<Generation>,
    ) -> Result<Option<Found>, WarehouseError> {
        let bytes = serde_json::to_vec(&record).map_err(|error| WarehouseError::Transient(error.to_string()))?;
        let generation = match self.store.put(&object(table), bytes.into(), Precondition::unchanged(over)).await {
            Ok(generation) => generation,
            // It may be the echo of our own write.
            Err(StoreError::Conflict { .. }) => match self.read(table).await? {
                Found { record: there, generation: Some(generation), damage: None } if there == record => generation,
                _ => return Ok(None),
            },
            Err(error) => return Err(error.into()),
        };
        Ok(Some(Found { record, generation: Some(generation), damage: None }))
    }

    /// Writes what needs no job: that a table has consumed its inputs, which changed nothing in it.
    ///
    /// # Errors
    /// [`WarehouseError::Conflict`] when it is not as it was found.
    pub async fn note(&self, table: &TableName, found: Found, effect: Effect) -> Result<Record, WarehouseError> {
        debug_assert!(effect.extent == Extent::nothing());
        let commit = format!("{:032x}", self.clock.random());
        let rows = found.record.state.as_ref().and_then(|state| state.rows);
        let attempt = found.record.attempt;
        let begun = found.record.begin(Running { commit, steps: Vec::new(), effect }, attempt);
        let settled = begun.settle(&[], rows, self.clock.now());
        match self.write(table, settled, found.generation).await? {
            Some(found) => Ok(found.record),
            None => Err(WarehouseError::Conflict(table.clone())),
        }
    }

    /// All tables that have a record, in the order of their names.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn names(&self) -> Result<Vec<TableName>, WarehouseError> {
        let objects = self.store.list(FOLDER).await?;
        Ok(objects.iter().filter_map(|object| table_of(&object.name)).collect())
    }

    /// What there is, as of the latest commit that has ended. What is at work is left alone: who reads may not change
    /// the table, and is told of the commit when it has ended, as of a later version than the one read here.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub async fn read(&self, table: &TableName) -> Result<Found, WarehouseError> {
        let Some(object) = self.store.get(&object(table)).await? else { return Ok(Found::default()) };
        let generation = Some(object.generation);
        Ok(match serde_json::from_slice(&object.bytes) {
            Ok(record) => Found { record, generation, damage: None },
            Err(error) => Found { record: Record::default(), generation, damage: Some(error.to_string()) },
        })
    }
}
