//! The statements that are laid around the SQL of models. Conditions on partitions are literals: BigQuery prunes by
//! nothing else.

use std::collections::BTreeSet;

use shared::partition::Partition;
use shared::table::TableName;
use shared::warehouse::{Layout, PartitionBy, PartitionColumn};

use super::columns::Column;

/// A table's name in SQL.
pub fn name(table: &TableName) -> String {
    format!("`{}`.`{}`", table.schema, table.table)
}

/// A column's name in SQL.
pub(crate) fn quoted(column: &str) -> String {
    format!("`{column}`")
}

/// Names with something before each, separated by commas.
pub(crate) fn list(columns: &[String], before: &str) -> String {
    let quoted: Vec<String> = columns.iter().map(|column| format!("{before}{}", quoted(column))).collect();
    quoted.join(", ")
}

/// `partition by` and `cluster by`, where the layout has them.
pub fn layout(layout: &Layout) -> String {
    let partition = layout.partition_by.as_ref().map(|by| {
        let field = quoted(&by.field);
        let by = match by.column {
            PartitionColumn::Date => field,
            PartitionColumn::Timestamp => format!("timestamp_trunc({field}, day)"),
            PartitionColumn::Datetime => format!("datetime_trunc({field}, day)"),
            PartitionColumn::Year { start, end } => format!("range_bucket({field}, generate_array({start}, {end}, 1))"),
        };
        format!("\npartition by {by}")
    });
    // BigQuery clusters by four columns at most; a model that names more is refused when it is read.
    let cluster = (!layout.cluster_by.is_empty()).then(|| format!("\ncluster by {}", list(&layout.cluster_by, "")));
    format!("{}{}", partition.unwrap_or_default(), cluster.unwrap_or_default())
}

/// A table of these columns, without rows. One that is there stays, unless it is made `afresh`.
pub fn create(table: &TableName, columns: &[Column], by: &Layout, afresh: bool) -> String {
    let columns: Vec<String> =
        columns.iter().map(|column| format!("  {} {}", quoted(&column.name), column.kind.to_lowercase())).collect();
    let (create, exists) = if afresh { ("create or replace table", "") } else { ("create table", "if not exists ") };
    format!("{create} {exists}{} (\n{}\n){}", name(table), columns.join(",\n"), layout(by))
}

/// Removes a table of this layout, or a view, which has none.
pub(crate) fn drop(table: &TableName, layout: Option<&str>) -> String {
    let what = if layout.is_some() { "table" } else { "view" };
    format!("drop {what} if exists {}", name(table))
}

/// The value of a partition column in each row of a partition, as the condition compares it.
fn literal(by: &PartitionBy, partition: Partition) -> String {
    match by.column {
        PartitionColumn::Year { .. } => partition.to_string(),
        _ => format!("date '{partition}'"),
    }
}

/// What a condition compares.
fn compared(by: &PartitionBy, of: &str) -> String {
    let field = format!("{of}{}", quoted(&by.field));
    match by.column {
        PartitionColumn::Date | PartitionColumn::Year { .. } => field,
        PartitionColumn::Timestamp | PartitionColumn::Datetime => format!("date({field})"),
    }
}

/// That a row, named `of`, is of one of these partitions.
pub fn in_partitions(by: &PartitionBy, of: &str, partitions: &BTreeSet<Partition>) -> String {
    let literals: Vec<String> = partitions.iter().map(|&partition| literal(by, partition)).collect();
    if literals.is_empty() { "false".to_owned() } else { format!("{} in ({})", compared(by, of), literals.join(", ")) }
}

/// The partition of a row, named `of`, as a text.
pub(crate) fn partition(by: &PartitionBy, of: &str) -> String {
    format!("cast({} as string)", compared(by, of))
}

/// What stands before and after a model's SQL so that its rows, each with the partition that its key is in now, become
/// a table of their own for a day.
pub fn delta(delta: &TableName, of: &TableName, by: Option<&PartitionBy>, key: &[String]) -> (String, String) {
    let before = format!(
        "create or replace table {}\n\
         options (expiration_timestamp = timestamp_add(current_timestamp(), interval 1 day))\n\
         as with strata_delta as (",
        name(delta)
    );
    let now = by.map_or("cast(null as string)".to_owned(), |by| partition(by, "there."));
    let comes = by.map_or("cast(null as string)".to_owned(), |by| partition(by, "strata_delta."));
    let same: Vec<String> =
        key.iter().map(|column| format!("strata_delta.{0} = strata_there.{0}", quoted(column))).collect();
    let after = format!(
        ")\n\
         select strata_delta.*, {comes} as {TO}, strata_there.{FROM}, strata_there.{THERE} is not null as {THERE}\n\
         from strata_delta\n\
         left join (select {}, {now} as {FROM}, true as {THERE} from {} as there) as strata_there\n\
         on {}",
        list(key, ""),
        name(of),
        same.join(" and ")
    );
    (before, after)
}

/// What the name of a delta has after that of its table.
pub(crate) const DELTA: &str = "__delta_";
/// The column of a delta that says the partition that a row goes to.
pub(crate) const TO: &str = "strata_to_partition";
/// The column of a delta that says the partition that the row's key is in now.
pub(crate) const FROM: &str = "strata_from_partition";
/// The column of a delta that says whether the row's key is there now.
pub(crate) const THERE: &str = "strata_is_there";

/// Puts the rows of a delta into a table, in place of those with their keys, which are in `partitions`.
pub fn merge(table: &TableName, delta: &TableName, columns: &[String], key: &[String], pruned: Option<&str>) -> String {
    let same = key.iter().map(|column| format!("strata_there.{0} = strata_delta.{0}", quoted(column)));
    let on: Vec<String> = same.chain(pruned.map(str::to_owned)).collect();
    let set: Vec<String> = columns.iter().map(|column| format!("{0} = strata_delta.{0}", quoted(column))).collect();
    format!(
        "merge {} as strata_there\nusing {} as strata_delta\non {}\n\
         when matched then update set {}\n\
         when not matched then insert ({}) values ({})",
        name(table),
        name(delta),
        on.join(" and "),
        set.join(", "),
        list(columns, ""),
        list(columns, "strata_delta."),
    )
}

/// What an SQL error says when a model gives a row of a partition that it does not replace.
pub(crate) const STRAY: &str = "a row of a partition that is not replaced";

/// What stands before and after a model's SQL so that its rows replace those of `partitions`.
pub fn overwrite(
    table: &TableName,
    columns: &[String],
    by: &PartitionBy,
    partitions: &BTreeSet<Partition>,
) -> (String, String) {
    let field = quoted(&by.field);
    let before = format!(
        "merge {} as strata_there\n\
         using (select * replace (if({}, {field}, error('{STRAY}')) as {field}) from (",
        name(table),
        in_partitions(by, "", partitions),
    );
    let after = format!(
        ")) as strata_delta\non false\n\
         when not matched by source and {} then delete\n\
         when not matched by target then insert ({}) values ({})",
        in_partitions(by, "strata_there.", partitions),
        list(columns, ""),
        list(columns, "strata_delta."),
    );
    (before, after)
}
