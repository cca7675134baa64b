//! Decides what to do with a model: nothing, a part of it, or all of it.
//!
//! Pure. What to do follows from the versions of tables alone, never from the message that woke us: the table says up to
//! which version it has consumed each input, and each input says what its later commits touched. So a run after any
//! crash, duplicate or reordering catches up, and an incremental table equals a rebuilt one.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use shared::partition::Partition;
use shared::table::{Partitioning, TableName};
use shared::warehouse::{Extent, Materialization, PartitionBy, PartitionColumn, TableState};

use crate::project::{Granularity, Materialized, Model, PartitionKind, Strategy};

/// Changes that are scattered over more ranges of neighbouring partitions are not worth a condition of their own, and
/// the warehouse refuses conditions that are too long.
const MOST_RANGES: usize = 16;

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
    let column = match by.by {
        PartitionKind::Date(Granularity::Day) => PartitionColumn::Date,
        PartitionKind::Timestamp(Granularity::Day) => PartitionColumn::Timestamp,
        PartitionKind::DateTime(Granularity::Day) => PartitionColumn::Datetime,
        PartitionKind::Int64 { start, end, interval: 1 } => PartitionColumn::Year { start, end },
        _ => return None,
    };
    Some(PartitionBy { field: by.field.clone(), column })
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
    let changed = with_neighbours(changed, model.neighbour_days);
    let changed = match changed {
        changed if changed.is_nothing() => return Step::Nothing,
        Extent::Partitions(changed) if ranges(&changed).len() > MOST_RANGES => match model.materialized {
            Materialized::View => return Step::Nothing,
            _ => return whole,
        },
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
            Some(by) if changed.iter().all(|partition| unit(*partition) == by.unit()) => {
                Step::Build { how: Materialization::Overwrite { partitions: changed.clone() }, changed: Some(changed) }
            }
            _ => whole,
        },
    }
}

/// The days that may change because these did.
fn with_neighbours(changed: Extent, days: u32) -> Extent {
    let Extent::Partitions(partitions) = changed else { return Extent::Whole };
    let near = |partition| match partition {
        Partition::Day(day) => {
            let reach = i64::from(days);
            let shifted = (-reach..=reach).filter_map(|by| day.checked_add_signed(TimeDelta::days(by)));
            shifted.map(Partition::Day).collect()
        }
        Partition::Year(_) => vec![partition],
    };
    Extent::Partitions(partitions.into_iter().flat_map(near).collect())
}

fn unit(partition: Partition) -> Partitioning {
    match partition {
        Partition::Day(_) => Partitioning::Day,
        Partition::Year(_) => Partitioning::Year,
    }
}

/// The partitions as ranges of neighbours, first and last.
fn ranges(partitions: &BTreeSet<Partition>) -> Vec<(Partition, Partition)> {
    let mut ranges: Vec<(Partition, Partition)> = Vec::new();
    for &partition in partitions {
        match ranges.last_mut() {
            Some((_, last)) if next(*last) == Some(partition) => *last = partition,
            _ => ranges.push((partition, partition)),
        }
    }
    ranges
}

fn next(partition: Partition) -> Option<Partition> {
    match partition {
        Partition::Day(day) => day.succ_opt().map(Partition::Day),
        Partition::Year(year) => Some(Partition::Year(year + 1)),
    }
}

/// A condition that holds for the rows of these partitions, in literals that the warehouse can prune by. `None` when
/// they are so scattered that all rows are read as well.
pub(crate) fn in_partitions(by: &crate::project::PartitionBy, partitions: &BTreeSet<Partition>) -> Option<String> {
    let (prefix, suffix) = match by.by {
        PartitionKind::Date(_) => ("date '", "'"),
        PartitionKind::DateTime(_) => ("datetime '", " 00:00:00'"),
        PartitionKind::Timestamp(_) => ("timestamp '", " 00:00:00+00'"),
        PartitionKind::Int64 { .. } => ("", ""),
    };
    let field = &by.field;
    let ranges = ranges(partitions);
    if ranges.len() > MOST_RANGES {
        return None;
    }
    let conditions: Vec<String> = ranges
        .into_iter()
        .map(|(first, last)| {
            let end = next(last).unwrap_or(last);
            format!("{field} >= {prefix}{first}{suffix} and {field} < {prefix}{end}{suffix}")
        })
        .collect();
    Some(if conditions.is_empty() { "false".to_owned() } else { conditions.join(" or ") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::Project;
    use shared::warehouse::Change;

    const PROJECT: [(&str, &str); 6] = [
        ("dbt_project.yml", "name: p\nconfig-version: 2\nprofile: p\nmodels: {p: {d: {+schema: silver}}}\n"),
        ("models/d/sources.yml", "sources: [{name: raw, tables: [{name: d}]}]\n"),
        ("models/d/seen.sql", "select * from {{ source('raw', 'd') }}\n"),
        ("models/d/all.sql", "{{ config(materialized='table') }} select * from {{ source('raw', 'd') }}\n"),
        (
            "models/d/merged.sql",
            "{{ config(materialized='incremental', unique_key='id') }} select * from {{ source('raw', 'd') }}\n",
        ),
        (
            "models/d/days.sql",
            "{{ config(materialized='incremental', incremental_strategy='insert_overwrite',
                partition_by={'field': 'day', 'data_type': 'date'}) }} select * from {{ source('raw', 'd') }}\n",
        ),
    ];

    fn partitions(names: &[&str]) -> BTreeSet<Partition> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    /// `raw.d` after these commits, the first of which is version 1.
    fn raw(commits: &[&[&str]]) -> BTreeMap<TableName, TableState> {
        let change = |(index, touched): (usize, &&[&str])| Change {
            version: index as u64 + 1,
            extent: Extent::Partitions(partitions(touched)),
            cause: String::new(),
        };
        let state = TableState {
            version: commits.len() as u64,
            definition: String::new(),
            inputs: BTreeMap::new(),
            changes: commits.iter().enumerate().map(change).collect(),
            rows: None,
        };
        [(TableName::raw("d"), state)].into()
    }

    /// A table that was built when `raw.d` had this version.
    fn built(consumed: u64) -> TableState {
        TableState {
            version: 1,
            definition: "same".into(),
            inputs: [(TableName::raw("d"), consumed)].into(),
            changes: Vec::new(),
            rows: Some(0),
        }
    }

    fn step(model: &str, definition: &str, state: Option<&TableState>, commits: &[&[&str]], again: &[&str]) -> Step {
        let project = Project::load(PROJECT).unwrap();
        let again = (!again.is_empty()).then(|| partitions(again));
        decide(project.model(model).unwrap(), definition, state, &raw(commits), again.as_ref())
    }

    fn whole() -> Step {
        Step::Build { how: Materialization::Table, changed: None }
    }

    const COMMITS: [&[&str]; 3] = [&["2025-07-01"], &["2025-07-02"], &["2025-07-02", "2025-07-03"]];

    #[test]
    fn nothing_is_done_when_all_changes_are_consumed() {
        for model in ["seen", "all", "merged", "days"] {
            assert_eq!(step(model, "same", Some(&built(3)), &COMMITS, &[]), Step::Nothing, "{model}");
        }
    }

    #[test]
    fn an_incremental_model_catches_up_from_the_version_that_it_consumed() {
        let changed = partitions(&["2025-07-02", "2025-07-03"]);
        let merge = Materialization::Merge { unique_key: vec!["id".into()] };
        let expected = Step::Build { how: merge, changed: Some(changed.clone()) };
        assert_eq!(step("merged", "same", Some(&built(1)), &COMMITS, &[]), expected);
        let overwrite = Materialization::Overwrite { partitions: changed.clone() };
        let expected = Step::Build { how: overwrite, changed: Some(changed) };
        assert_eq!(step("days", "same", Some(&built(1)), &COMMITS, &[]), expected);
        assert_eq!(step("all", "same", Some(&built(1)), &COMMITS, &[]), whole());
        assert_eq!(
            step("seen", "same", Some(&built(1)), &COMMITS, &[]),
            Step::Nothing,
            "a view has nothing to catch up"
        );
    }

    #[test]
    fn a_change_whose_extent_is_not_known_rebuilds_in_full() {
        for model in ["merged", "days"] {
            assert_eq!(step(model, "same", None, &COMMITS, &[]), whole(), "no table yet");
            assert_eq!(step(model, "other", Some(&built(3)), &COMMITS, &[]), whole(), "another model");
            assert_eq!(step(model, "same", Some(&built(9)), &COMMITS, &[]), whole(), "another table of that name");
            let mut never_read = built(3);
            never_read.inputs.clear();
            assert_eq!(step(model, "same", Some(&never_read), &COMMITS, &[]), whole(), "an input that is new");
        }
        assert_eq!(step("days", "same", Some(&built(0)), &[&["2025"]], &[]), whole(), "years are not its partitions");
        let scattered: Vec<String> =
            (1..=28).step_by(2).flat_map(|day| [7, 8].map(|month| format!("2025-{month:02}-{day:02}"))).collect();
        let scattered: Vec<&str> = scattered.iter().map(String::as_str).collect();
        assert_eq!(step("days", "same", Some(&built(0)), &[&scattered], &[]), whole(), "a condition would be too long");
    }

    #[test]
    fn what_is_asked_for_again_counts_as_changed() {
        let changed = partitions(&["2025-07-01"]);
        let how = Materialization::Overwrite { partitions: changed.clone() };
        let expected = Step::Build { how, changed: Some(changed) };
        assert_eq!(step("days", "same", Some(&built(3)), &COMMITS, &["2025-07-01"]), expected);
    }

    #[test]
    fn conditions_are_literals_of_the_columns_type() {
        let by = |by| crate::project::PartitionBy { field: "at".into(), by };
        let days = partitions(&["2025-12-31"]);
        let date = in_partitions(&by(PartitionKind::Date(Granularity::Day)), &days);
        assert_eq!(date.unwrap(), "at >= date '2025-12-31' and at < date '2026-01-01'");
        let timestamp = in_partitions(&by(PartitionKind::Timestamp(Granularity::Day)), &days);
        let expected = "at >= timestamp '2025-12-31 00:00:00+00' and at < timestamp '2026-01-01 00:00:00+00'";
        assert_eq!(timestamp.unwrap(), expected);
        let years = partitions(&["2018", "2019"]);
        let range = PartitionKind::Int64 { start: 0, end: 3000, interval: 1 };
        assert_eq!(in_partitions(&by(range), &years).unwrap(), "at >= 2018 and at < 2020");
        assert_eq!(in_partitions(&by(range), &BTreeSet::new()).unwrap(), "false");
        let scattered = (0..100).map(|year| Partition::Year(1800 + 2 * year)).collect();
        assert_eq!(in_partitions(&by(range), &scattered), None);
    }
}
