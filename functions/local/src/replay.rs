//! `strata replay`: sends again what is stored of a day. What is there already does not change by it.

use std::collections::BTreeSet;

use chrono::NaiveDate;
use shared::capture::{CaptureId, Manifest};
use shared::dataset::{Dataset, Registry};
use shared::ledger::{self, Outcome};
use shared::message::{CaptureStored, LandAgain};
use shared::partition::Partition;
use shared::store::{Precondition, Store, StoreError, read_each_json};
use shared::table::{Growth, TableName};
use shared::trace::Trace;
use shared::warehouse::WarehouseError;

use crate::pipeline::Pipeline;
use crate::problem::Problem;
use crate::session::Session;

/// Lands the captures again that hold rows of the day. A damaged partition is set aside first, so that it is made anew.
///
/// # Errors
/// [`Problem::Failed`] when nothing is stored of that day.
pub async fn from_raw(session: &Session, dataset: &dyn Dataset, day: NaiveDate) -> Result<Vec<Trace>, Problem> {
    let store = &*session.pipeline.data.store;
    let mut traces = Vec::new();
    for message in captures_to_land(store, dataset, day).await? {
        traces.push(session.pipeline.send(&message).await?);
    }
    // What bronze holds already is not loaded by that, and the tables may be what is damaged.
    session.pipeline.bus.idle().await;
    if bronze_has(store, dataset, day).await? {
        traces.extend(from_bronze(session, dataset, day).await?);
    }
    Ok(traces)
}

/// What lands the captures of a day again, of which there is at least one. A damaged partition is set aside first.
pub(crate) async fn captures_to_land(
    store: &dyn Store,
    dataset: &dyn Dataset,
    day: NaiveDate,
) -> Result<Vec<CaptureStored>, Problem> {
    let (name, partition) = (dataset.name(), partition(dataset, day));
    let captures = captures_of(store, dataset, partition).await?;
    if captures.is_empty() {
        return Err(Problem::Failed(format!(
            "no capture of {name} holds rows of {partition}: ask the source for them \
             with `strata replay {name} --day {day} --from source`"
        )));
    }
    set_aside_if_damaged(store, dataset, partition).await?;
    let message = |capture| CaptureStored { dataset: name.to_owned(), capture };
    Ok(captures.into_iter().map(message).collect())
}

/// Loads the day's partition again and runs the models on it.
///
/// # Errors
/// [`Problem::Failed`] when bronze has no such partition.
pub async fn from_bronze(session: &Session, dataset: &dyn Dataset, day: NaiveDate) -> Result<Vec<Trace>, Problem> {
    let message = partition_to_load(&*session.pipeline.data.store, dataset, day).await?;
    Ok(vec![session.pipeline.send(&message).await?])
}

/// Whether bronze has the day's partition.
pub(crate) async fn bronze_has(store: &dyn Store, dataset: &dyn Dataset, day: NaiveDate) -> Result<bool, Problem> {
    Ok(land::partitions(store, dataset).await?.contains(&partition(dataset, day)))
}

/// What loads the day's partition again, which must be there.
pub(crate) async fn partition_to_load(
    store: &dyn Store,
    dataset: &dyn Dataset,
    day: NaiveDate,
) -> Result<LandAgain, Problem> {
    let (name, partition) = (dataset.name(), partition(dataset, day));
    if !bronze_has(store, dataset, day).await? {
        return Err(Problem::Failed(format!(
            "bronze holds no partition {partition} of {name}: ask the source for it \
             with `strata replay {name} --day {day} --from source`"
        )));
    }
    Ok(LandAgain { dataset: name.to_owned(), partitions: vec![partition] })
}

/// Loads the raw tables that are lost or damaged again, from bronze, and runs the models on them.
///
/// # Errors
/// When the lake cannot be read.
pub async fn recover(pipeline: &Pipeline, datasets: &Registry) -> Result<(), Problem> {
    for dataset in datasets.iter() {
        let raw = TableName::raw(dataset.name());
        let lost = matches!(pipeline.data.warehouse.state(&raw).await, Ok(None) | Err(WarehouseError::Damaged { .. }));
        if lost && !land::partitions(&*pipeline.data.store, &**dataset).await?.is_empty() {
            tracing::warn!(table = %raw, "the table is lost or damaged, and is made again from bronze");
            let message = LandAgain { dataset: dataset.name().to_owned(), partitions: Vec::new() };
            pipeline.send(&message).await?;
            pipeline.bus.idle().await;
        }
    }
    Ok(())
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
    for manifest in manifests(store, name).await? {
        if all || here.contains(&manifest.capture) || !elsewhere.contains(&manifest.capture) {
            captures.insert(manifest.capture);
        }
    }
    Ok(captures.into_iter().collect())
}

/// What is known of the captures of a dataset that are stored.
///
/// # Errors
/// Those of the store.
pub(crate) async fn manifests(store: &dyn Store, dataset: &str) -> Result<Vec<Manifest>, StoreError> {
    let found = read_each_json(store, &format!("raw/{dataset}/"), |name| name.ends_with("/manifest.json")).await?;
    Ok(found.into_iter().map(|(_, manifest)| manifest).collect())
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
