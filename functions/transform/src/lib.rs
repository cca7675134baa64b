//! Transform reads the dbt project of SQL models and runs those that depend on what changed.
//!
//! Invariant: what it builds follows from the versions of the tables alone, see [`run`]; so a message may be lost,
//! doubled or late, and the next one brings the tables to the same state.

mod plan;
pub mod project;
pub mod run;
mod seeds;

use std::sync::Arc;

use async_trait::async_trait;
use shared::bus::{Bus, publish};
use shared::clock::SharedClock;
use shared::function::{Failure, Function, Received};
use shared::ledger::{Outcome, Output, Record};
use shared::message::{GoldPublished, Mode, PartitionsLanded};
use shared::metrics::{BYTES_BILLED, ROWS_FAILING, SLOT_MS};
use shared::store::Store;
use shared::table::TableName;
use shared::warehouse::Cost;

use crate::run::{Report, Runner, TestResult, What};

/// The service.
pub struct Transform {
    runner: Runner,
    store: Arc<dyn Store>,
    bus: Arc<dyn Bus>,
    clock: SharedClock,
}

impl Transform {
    /// A service that runs models with `runner`.
    pub fn new(runner: Runner, store: Arc<dyn Store>, bus: Arc<dyn Bus>, clock: SharedClock) -> Self {
        Self { runner, store, bus, clock }
    }
}

#[async_trait]
impl Function for Transform {
    type Input = PartitionsLanded;
    const NAME: &'static str = "transform";

    async fn handle(&self, message: Received<PartitionsLanded>) -> Result<(), Failure> {
        let started_at = self.clock.now();
        let dataset = &message.body.dataset;
        let partitions = &message.body.partitions;
        let what = match message.body.mode {
            Mode::Changed => What::Changed,
            Mode::Again => What::Again(partitions.iter().map(|landed| landed.partition).collect()),
            Mode::FullRefresh => What::Everything,
        };
        let report = self.runner.build(dataset, &message.trace.run(), &what).await?;
        let tests = self.runner.test_changed(&report).await?;
        if !tests.cost.is_nothing() {
            let Cost { bytes_billed, slot_ms } = tests.cost;
            tracing::info!(
                tests = tests.results.len(),
                { BYTES_BILLED } = bytes_billed,
                { SLOT_MS } = slot_ms,
                "tested"
            );
        }
        let failed: Vec<String> = tests.results.iter().filter(|test| test.is_error()).map(sentence).collect();
        for test in tests.results.iter().filter(|test| test.failures > 0) {
            tracing::warn!(test = test.test, { ROWS_FAILING } = test.failures, "a data test fails");
        }
        if !report.changed.is_empty() && failed.is_empty() {
            let tables = report.changed.iter().map(|changed| (changed.table.clone(), changed.version)).collect();
            let published = GoldPublished { dataset: dataset.clone(), tables };
            publish(&*self.bus, &published, message.trace).await?;
        }
        let mut cost = report.cost();
        cost += tests.cost;
        let rows = partitions.iter().map(|landed| landed.rows).sum();
        let duration = self.clock.now() - started_at;
        let record = Record {
            stage: Self::NAME.to_owned(),
            dataset: dataset.clone(),
            run: message.trace.run(),
            message: message.id.clone(),
            capture: None,
            started_at,
            duration_ms: u64::try_from(duration.num_milliseconds()).unwrap_or(0),
            inputs: vec![TableName::raw(dataset).to_string()],
            rows_in: rows,
            rows_kept: rows,
            rows_quarantined: 0,
            outputs: outputs(&report),
            cost,
            outcome: match (failed.is_empty(), report.built.is_empty()) {
                (false, _) => Outcome::TestsFailed { tests: failed },
                (true, true) => Outcome::Nothing,
                (true, false) => Outcome::Done,
            },
        };
        Ok(record.write(&*self.store, message.published_at).await?)
    }
}

fn sentence(test: &TestResult) -> String {
    format!("{} fails for {} rows", test.test, test.failures)
}

fn outputs(report: &Report) -> Vec<Output> {
    let changed = report.built.iter().filter(|table| !table.built.extent.is_nothing());
    changed.map(|table| Output { name: table.table.to_string(), rows: table.built.rows }).collect()
}
