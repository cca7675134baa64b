//! The ledger: what every stage did with every message, under a name made of the message's id and the capture's.
//!
//! Invariant: `rows_in = rows_kept + rows_quarantined`, in every record. A message that is delivered again writes the
//! same record again, so sums over the ledger count nothing twice.

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use crate::capture::CaptureId;
use crate::clock::Timestamp;
use crate::store::{Precondition, Store, StoreError, read_each_json, write_json};
use crate::warehouse::Cost;

/// How a stage ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Outcome {
    /// It did what the message said.
    Done,
    /// There was nothing to do.
    Nothing,
    /// The input was refused whole; nothing of it was kept.
    Refused {
        /// Why.
        reason: String,
    },
    /// The data were built, but tests of them fail.
    TestsFailed {
        /// Which, and how many rows each.
        tests: Vec<String>,
    },
}

/// What one stage did with one message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// `fetch`, `land` or `transform`.
    pub stage: String,
    /// The dataset.
    pub dataset: String,
    /// The run: the same from the tick to gold.
    pub run: String,
    /// The message that was handled.
    pub message: String,
    /// The capture that was stored or read, where there is one.
    pub capture: Option<CaptureId>,
    /// When the handling began.
    pub started_at: Timestamp,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// What was read.
    pub inputs: Vec<String>,
    /// Rows that came in.
    pub rows_in: u64,
    /// Rows that went on.
    pub rows_kept: u64,
    /// Rows that were set aside.
    pub rows_quarantined: u64,
    /// What was written, with its rows.
    pub outputs: Vec<Output>,
    /// What the warehouse charged for the delivery that wrote this record; failed ones before it are not in it.
    #[serde(default, skip_serializing_if = "Cost::is_nothing")]
    pub cost: Cost,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Something that a stage wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// An object or a table.
    pub name: String,
    /// How many rows it holds, or for a table how many the run gave.
    pub rows: u64,
}

impl Record {
    fn name(&self, day: NaiveDate) -> String {
        let capture = self.capture.as_ref().map(|capture| format!("-{capture}")).unwrap_or_default();
        format!("ledger/{}/{day}/{}-{}{capture}.json", self.dataset, self.stage, self.message)
    }

    /// Whether the rows add up.
    pub fn reconciles(&self) -> bool {
        self.rows_in == self.rows_kept + self.rows_quarantined
    }

    /// Writes the record. `published_at` is the message's own time, so that a later delivery finds the same name.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn write(&self, store: &dyn Store, published_at: Timestamp) -> Result<(), StoreError> {
        debug_assert!(self.reconciles(), "{self:?}");
        write_json(store, &self.name(published_at.date_naive()), self, Precondition::None).await.map(|_| ())
    }
}

/// Reads the records of a dataset since a day, in the order in which they began.
///
/// # Errors
/// Those of the store. A damaged record is left out with a word in the log.
pub async fn read(store: &dyn Store, dataset: &str, since: Option<NaiveDate>) -> Result<Vec<Record>, StoreError> {
    let prefix = format!("ledger/{dataset}/");
    let wanted = |name: &str| {
        let day = name[prefix.len()..].split('/').next().and_then(|day| day.parse::<NaiveDate>().ok());
        since.is_none() || day >= since
    };
    let found = read_each_json(store, &prefix, wanted).await?;
    let mut records: Vec<Record> = found.into_iter().map(|(_, record)| record).collect();
    records.sort_by(|one, other| (one.started_at, &one.message).cmp(&(other.started_at, &other.message)));
    Ok(records)
}
