//! Windows: the parts of a request that was too large for one answer, from before they are asked for until they are
//! stored.
//!
//! Invariant: a part is an object in the lake before anything else counts on it, and until its capture is durable. So a
//! message that is lost or given up loses no data: a later tick finds the window still open and asks again.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::csv::hash;
use crate::dataset::Ask;
use crate::store::{Precondition, Store, StoreError, read_each_json, write_json};

/// A window that is open for so long is asked for again: longer than a large backfill waits for its turn.
const PATIENCE: TimeDelta = TimeDelta::hours(6);

/// A part of a request that is not stored yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// What is asked for.
    pub ask: Ask,
    /// When its message was last published, by our clock.
    pub asked_at: Timestamp,
}

impl Window {
    /// Whether its message may be taken for lost.
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        now - self.asked_at > PATIENCE
    }
}

fn folder(dataset: &str) -> String {
    format!("state/{dataset}/windows/")
}

/// The same ask has the same name, however often it is made.
fn name(dataset: &str, ask: &Ask) -> Result<String, StoreError> {
    let folder = folder(dataset);
    let text = serde_json::to_vec(ask).map_err(|error| StoreError::Permanent {
        action: "write",
        name: folder.clone(),
        reason: error.to_string(),
    })?;
    Ok(format!("{folder}{:016x}.json", hash(std::iter::once(text.as_slice()))))
}

/// Opens a window, or notes that it is asked for again.
///
/// # Errors
/// Those of the store.
pub async fn open(store: &dyn Store, dataset: &str, ask: &Ask, asked_at: Timestamp) -> Result<(), StoreError> {
    let window = Window { ask: ask.clone(), asked_at };
    write_json(store, &name(dataset, ask)?, &window, Precondition::None).await.map(drop)
}

/// Closes the window of an ask, if it has one.
///
/// # Errors
/// Those of the store.
pub async fn close(store: &dyn Store, dataset: &str, ask: &Ask) -> Result<(), StoreError> {
    store.delete(&name(dataset, ask)?, Precondition::None).await
}

/// The windows of a dataset that are open.
///
/// # Errors
/// Those of the store. A damaged window is left out with a word in the log.
pub async fn all(store: &dyn Store, dataset: &str) -> Result<Vec<Window>, StoreError> {
    let found = read_each_json(store, &folder(dataset), |_| true).await?;
    Ok(found.into_iter().map(|(_, window)| window).collect())
}
