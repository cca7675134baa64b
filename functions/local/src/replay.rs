//! `strata replay`: sends again what is stored of a day. What is there already does not change by it.

use std::collections::BTreeSet;

use chrono::NaiveDate;
use shared::capture::{CaptureId, Manifest};
use shared::dataset::Dataset;
use shared::ledger::{self, Outcome};
use shared::message::{CaptureStored, LandAgain};
use shared::partition::Partition;
use shared::store::{Precondition, Store, read_json};
use shared::table::Growth;
use shared::trace::Trace;

use crate::problem::Problem;
use crate::session::Session;

/// Lands the captures again that hold rows of the day. A damaged partition is set aside first, so that it is made anew.
///
/// # Errors
/// [`Problem::Failed`] when nothing is stored of that day.
pub async fn from_raw(session: &Session, dataset: &dyn Dataset, day: NaiveDate) -> Result<Vec<Trace>, Problem> {
    let store = &*session.pipeline.data.store;
    let partition = partition(dataset, day);
    let name = dataset.name();
    let captures = captures_of(store, dataset, partition).await?;
    if captures.is_empty() {
        return Err(Problem::Failed(format!(
            "no capture of {name} holds rows of {partition}: ask the source for them \
             with `strata replay {name} --day {day} --from source`"
        )));
    }
    set_aside_if_damaged(store, dataset, partition).await?;
    let mut traces = Vec::new();
    for capture in captures {
        let message = CaptureStored { dataset: name.to_owned(), capture };
        traces.push(session.pipeline.send(&message).await?);
    }
    Ok(traces)
}

/// Loads the day's partition again and runs the models on it.
///
/// # Errors
/// [`Problem::Failed`] when bronze has no such partition.
pub async fn from_bronze(session: &Session, dataset: &dyn Dataset, day: NaiveDate) -> Result<Vec<Trace>, Problem> {
    let message = LandAgain { dataset: dataset.name().to_owned(), partitions: vec![partition(dataset, day)] };
    Ok(vec![session.pipeline.send(&message).await?])
}

fn partition(dataset: &dyn Dataset, day: NaiveDate) -> Partition {
    dataset.table().partitioning.partition_of_day(day)
}

/// The captures that hold rows of a partition, oldest first: those that landed into it, those that never landed, and
/// for a snapshot dataset all.
async fn captures_of(
    store: &dyn Store,
    dataset: &dyn Dataset,
    partition: Partition,
) -> Result<Vec<CaptureId>, Problem> {
    let name = dataset.name();
    let landed = ledger::read(store, name, None).await?.into_iter().filter(|record| record.stage == "land");
    let folder = format!("/{}/", partition.folder());
    let mut elsewhere = BTreeSet::new();
    let mut here = BTreeSet::new();
    for record in landed {
        let Some(capture) = record.capture.filter(|_| !matches!(record.outcome, Outcome::Refused { .. })) else {
            continue;
        };
        if record.outputs.iter().any(|output| output.name.contains(&folder)) {
            here.insert(capture);
        } else {
            elsewhere.insert(capture);
        }
    }
    let all = dataset.table().growth == Growth::Snapshot;
    let mut captures = BTreeSet::new();
    for object in store.list(&format!("raw/{name}/")).await? {
        if !object.name.ends_with("/manifest.json") {
            continue;
        }
        let Some(manifest) = read_json::<Manifest>(store, &object.name).await?.value else { continue };
        if all || here.contains(&manifest.capture) || !elsewhere.contains(&manifest.capture) {
            captures.insert(manifest.capture);
        }
    }
    Ok(captures.into_iter().collect())
}

/// Moves a partition that cannot be read out of the way; it is kept beside the quarantined rows.
async fn set_aside_if_damaged(store: &dyn Store, dataset: &dyn Dataset, partition: Partition) -> Result<(), Problem> {
    let Some(damaged) = land::damaged(store, dataset, partition).await? else { return Ok(()) };
    let Some(object) = store.get(&damaged.object).await? else { return Ok(()) };
    let aside = format!("quarantine/{}/damaged/{}-{}", dataset.name(), partition.folder(), object.generation);
    store.put(&aside, object.bytes, Precondition::None).await?;
    store.delete(&damaged.object, Precondition::Is(object.generation)).await?;
    tracing::warn!(object = damaged.object, reason = damaged.reason, aside, "a damaged partition is set aside");
    Ok(())
}
