//! Decides what to do with a model: nothing, a part of it, or all of it.
//!
//! Pure. What to do follows from the versions of tables alone, never from the message that woke us: the table says up to
//! which version it has consumed each input, and each input says what its later commits touched. So a run after any
//! crash, duplicate or reordering catches up, and an incremental table equals a rebuilt one.

use std::collections::{BTreeMap, BTreeSet};

use shared::partition::Partition;
use shared::table::{Partitioning, TableName};
use shared::warehouse::{Extent, Materialization, PartitionBy, TableState};

use crate::project::{Granularity, Materialized, Model, PartitionKind, Strategy};

/// What to do with a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Its inputs have not changed since it was built.
    Nothing,
    /// Build it, rendered incrementally for these partitions of its inputs, or whole.
    Build { how: Materialization, changed: Option<BTreeSet<Partition>> },
}

/// The partition column of a model, where its partitions are those that we know.
pub(crate) fn partition_by(model: &Model) -> Option<PartitionBy> {
    let by = model.partition_by.as_ref()?;
    let unit = match by.by {
        PartitionKind::Date(Granularity::Day)
        | PartitionKind::Timestamp(Granularity::Day)
        | PartitionKind::DateTime(Granularity::Day) => Partitioning::Day,
        PartitionKind::Int64 { interval: 1, .. } => Partitioning::Year,
        _ => return None,
    };
    Some(PartitionBy { field: by.field.clone(), unit })
}

/// Decides. `inputs` are the present states of all tables that the model reads, and `again` partitions that count as
/// changed whatever those say.
pub(crate) fn decide(
    model: &Model,
    definition: &str,
    state: Option<&TableState>,
    inputs: &BTreeMap<TableName, TableState>,
    again: Option<&BTreeSet<Partition>>,
) -> Step {
    let whole = Step::Build {
        how: if model.materialized == Materialized::View { Materialization::View } else { Materialization::Table },
        changed: None,
    };
    let Some(state) = state.filter(|state| state.definition == definition) else { return whole };
    let again = Extent::Partitions(again.cloned().unwrap_or_default());
    let changed = inputs.iter().fold(again, |all, (table, input)| {
        all.union(state.inputs.get(table).map_or(Extent::Whole, |&consumed| input.changed_since(consumed)))
    });
    let changed = match changed {
        changed if changed.is_nothing() => return Step::Nothing,
        Extent::Partitions(changed) => changed,
        Extent::Whole if model.materialized == Materialized::View => return Step::Nothing,
        Extent::Whole => return whole,
    };
    match &model.materialized {
        Materialized::View => Step::Nothing,
        Materialized::Table => whole,
        Materialized::Incremental(Strategy::Merge { unique_key }) => {
            Step::Build { how: Materialization::Merge { unique_key: unique_key.clone() }, changed: Some(changed) }
        }
        Materialized::Incremental(Strategy::InsertOverwrite) => match partition_by(model) {
            // Its partitions can be replaced one for one only where they are those of its inputs.
            Some(by) if changed.iter().all(|partition| unit(*partition) == by.unit) => {
                Step::Build { how: Materialization::Overwrite { partitions: changed.clone() }, changed: Some(changed) }
            }
            _ => whole,
        },
    }
}

fn unit(partition: Partition) -> Partitioning {
    match partition {
        Partition::Day(_) => Partitioning::Day,
        Partition::Year(_) => Partitioning::Year,
    }
}

/// A condition that holds for the rows of these partitions, in literals that the warehouse can prune by.
pub(crate) fn in_partitions(by: &crate::project::PartitionBy, partitions: &BTreeSet<Partition>) -> String {
    let (prefix, suffix) = match by.by {
        PartitionKind::Date(_) => ("date '", "'"),
        PartitionKind::DateTime(_) => ("datetime '", " 00:00:00'"),
        PartitionKind::Timestamp(_) => ("timestamp '", " 00:00:00+00'"),
        PartitionKind::Int64 { .. } => ("", ""),
    };
    let field = &by.field;
    let ranges: Vec<String> = partitions
        .iter()
        .map(|partition| match partition {
            Partition::Day(day) => {
                let next = day.succ_opt().unwrap_or(*day);
                format!("{field} >= {prefix}{day}{suffix} and {field} < {prefix}{next}{suffix}")
            }
            Partition::Year(year) => format!("{field} = {year}"),
        })
        .collect();
    if ranges.is_empty() { "false".to_owned() } else { ranges.join(" or ") }
}
