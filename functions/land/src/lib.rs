//! Land turns captures into typed Parquet partitions of bronze, loads the changed ones into the warehouse, and says
//! which they are.
//!
//! Invariant: whatever is delivered, in whatever order and how often, and wherever an attempt dies, bronze ends as the
//! set of all row versions of all captures; every row of a capture is there or in quarantine; and every change of the
//! raw table is published.

mod again;
mod answer;
mod bronze;
mod columns;
mod merge;
mod quarantine;
mod rows;
mod snapshot;
mod union;
mod verify;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use shared::bus::{Bus, publish};
use shared::capture::Manifest;
use shared::clock::{SharedClock, Timestamp};
use shared::dataset::{Dataset, Registry};
use shared::function::{Failure, Function, Received};
use shared::ledger::{Outcome, Output, Record};
use shared::message::{CaptureStored, FetchRequest, LandedPartition, Message, Mode, PartitionsLanded, ToLand};
use shared::metrics::{PARTITIONS_CHANGED, ROWS, ROWS_AT_ONCE, ROWS_QUARANTINED};
use shared::store::{Store, read_json};
use shared::table::Growth;
use shared::warehouse::{Cost, Warehouse};

pub use again::{Damaged, damaged, partitions};

use crate::rows::{Bound, Counts};
use crate::verify::{Verdict, verify};

/// So many partitions are written at once.
const PARALLEL: usize = 4;
/// After so many lost races for one object the message is sent again instead.
const TRIES: usize = 8;

/// The service.
pub struct Land {
    datasets: Registry,
    store: Arc<dyn Store>,
    warehouse: Arc<dyn Warehouse>,
    bus: Arc<dyn Bus>,
    clock: SharedClock,
    bound: Bound,
}

/// What became of a capture.
struct Landed {
    counts: Counts,
    /// What is to be published.
    changed: Vec<LandedPartition>,
    outputs: Vec<Output>,
}

impl Land {
    /// The service on these ports.
    pub fn new(
        datasets: Registry,
        store: Arc<dyn Store>,
        warehouse: Arc<dyn Warehouse>,
        bus: Arc<dyn Bus>,
        clock: SharedClock,
    ) -> Self {
        Self { datasets, store, warehouse, bus, clock, bound: Bound::default() }
    }

    async fn parse(&self, message: &CaptureStored) -> Result<(&Arc<dyn Dataset>, Manifest), Failure> {
        let dataset = self.datasets.get(&message.dataset).map_err(|error| Failure::Poison(error.to_string()))?;
        let name = message.capture.manifest(&message.dataset);
        let Some(manifest) = read_json::<Manifest>(&*self.store, &name).await?.value else {
            return Err(Failure::Poison(format!("there is no capture {}: {name} is missing", message.capture)));
        };
        if (&manifest.dataset, &manifest.capture) != (&message.dataset, &message.capture) {
            let (dataset, capture) = (manifest.dataset, manifest.capture);
            return Err(Failure::Poison(format!("{name} is damaged: it speaks of {capture} of {dataset}")));
        }
        Ok((dataset, manifest))
    }

    /// Asks the source again for what a damaged answer should have held. An attempt before the damage may have
    /// written bronze, or the raw table too, and died before it could say so: that is made up for here.
    async fn refuse(
        &self,
        message: &Received<ToLand>,
        dataset: &dyn Dataset,
        manifest: &Manifest,
        reason: String,
    ) -> Result<Record, Failure> {
        tracing::warn!(capture = %manifest.capture, %reason, "an answer is refused whole");
        let changed = self.catch_up(dataset, manifest).await?;
        if !changed.is_empty() {
            self.publish(message, changed).await?;
        }
        if let Some(ask) = &manifest.ask {
            let again = FetchRequest { dataset: manifest.dataset.clone(), ask: ask.clone() };
            publish(&*self.bus, &again, message.trace).await?;
        }
        Ok(captured(message, manifest, &Counts::default(), Vec::new(), Outcome::Refused { reason }))
    }

    async fn announce(
        &self,
        message: &Received<ToLand>,
        manifest: &Manifest,
        landed: Landed,
    ) -> Result<Record, Failure> {
        let Landed { counts, changed, outputs } = landed;
        tracing::info!(
            capture = %manifest.capture,
            { ROWS } = counts.rows,
            { ROWS_QUARANTINED } = counts.quarantined,
            { ROWS_AT_ONCE } = counts.most_at_once,
            { PARTITIONS_CHANGED } = changed.len(),
            "a capture has landed"
        );
        let outcome = if changed.is_empty() { Outcome::Nothing } else { Outcome::Done };
        if !changed.is_empty() {
            self.publish(message, changed).await?;
        }
        Ok(captured(message, manifest, &counts, outputs, outcome))
    }

    async fn publish(&self, message: &Received<ToLand>, partitions: Vec<LandedPartition>) -> Result<(), Failure> {
        let dataset = message.body.dataset().to_owned();
        let landed = PartitionsLanded { dataset, partitions, mode: Mode::Changed };
        publish(&*self.bus, &landed, message.trace).await?;
        Ok(())
    }

    async fn land(&self, message: &Received<ToLand>, stored: &CaptureStored) -> Result<Record, Failure> {
        let (dataset, manifest) = self.parse(stored).await?;
        match verify(&*self.store, &**dataset, &manifest).await? {
            Verdict::Refused(reason) => self.refuse(message, &**dataset, &manifest, reason).await,
            Verdict::Whole => {
                let landed = match dataset.table().growth {
                    Growth::Union => self.land_union(&**dataset, &manifest).await?,
                    Growth::Snapshot => self.land_snapshot(&**dataset, &manifest).await?,
                };
                self.announce(message, &manifest, landed).await
            }
        }
    }

    async fn write(&self, mut record: Record, started_at: Timestamp, published_at: Timestamp) -> Result<(), Failure> {
        record.started_at = started_at;
        record.duration_ms = u64::try_from((self.clock.now() - started_at).num_milliseconds()).unwrap_or(0);
        Ok(record.write(&*self.store, published_at).await?)
    }
}

#[async_trait]
impl Function for Land {
    type Input = ToLand;

    const NAME: &'static str = "land";

    async fn handle(&self, message: Received<ToLand>) -> Result<(), Failure> {
        let started_at = self.clock.now();
        let record = match &message.body {
            ToLand::Capture(stored) => self.land(&message, stored).await?,
            ToLand::Again(again) => self.land_again(&message, again).await?,
        };
        self.write(record, started_at, message.published_at).await
    }
}

/// The record of a message, yet without what became of it.
fn record(message: &Received<ToLand>) -> Record {
    Record {
        stage: Land::NAME.to_owned(),
        dataset: message.body.dataset().to_owned(),
        run: message.trace.run(),
        message: message.id.clone(),
        capture: None,
        started_at: Timestamp::default(),
        duration_ms: 0,
        inputs: Vec::new(),
        rows_in: 0,
        rows_kept: 0,
        rows_quarantined: 0,
        outputs: Vec::new(),
        cost: Cost::default(),
        outcome: Outcome::Nothing,
    }
}

fn captured(
    message: &Received<ToLand>,
    manifest: &Manifest,
    counts: &Counts,
    outputs: Vec<Output>,
    outcome: Outcome,
) -> Record {
    Record {
        capture: Some(manifest.capture.clone()),
        inputs: manifest.answers.iter().map(|answer| answer.object.clone()).collect(),
        rows_in: counts.rows,
        rows_kept: counts.rows - counts.quarantined,
        rows_quarantined: counts.quarantined,
        outputs,
        outcome,
        ..record(message)
    }
}
