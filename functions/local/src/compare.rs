//! Whether tables hold the same rows as before, in whatever order: incremental tables must equal rebuilt ones.

use std::collections::BTreeMap;

use shared::csv::hash;
use shared::table::TableName;
use shared::warehouse::{Origin, Warehouse};

use crate::problem::Problem;
use crate::rows::{Format, print};

/// What a table holds: how many rows, and the sum of their hashes, which no order changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    rows: u64,
    sum: i64,
}

/// What the tables that models build hold now.
///
/// # Errors
/// When one cannot be read.
pub async fn contents(warehouse: &dyn Warehouse) -> Result<BTreeMap<TableName, Content>, Problem> {
    let mut contents = BTreeMap::new();
    for table in warehouse.tables().await? {
        if table.schema == "raw" {
            continue;
        }
        let sql = format!("select * from `{}`.`{}`", table.schema, table.table);
        let answer = warehouse.query(&sql, &Origin::new("query")).await?;
        let mut text = Vec::new();
        print(&answer, Format::Json, &mut text)?;
        let mut content = Content { rows: 0, sum: 0 };
        for row in text.split(|&byte| byte == b'\n').filter(|line| line.starts_with(b" {")) {
            // The last row has no comma, whichever it is.
            let row = row.strip_suffix(b",").unwrap_or(row);
            content.rows += 1;
            content.sum = content.sum.wrapping_add(hash(std::iter::once(row)));
        }
        contents.insert(table, content);
    }
    Ok(contents)
}

/// Fails when a table holds other rows than it did.
///
/// # Errors
/// [`Problem::Failed`] names each such table.
pub fn same(before: &BTreeMap<TableName, Content>, after: &BTreeMap<TableName, Content>) -> Result<(), Problem> {
    let rows = |content: Option<&Content>| content.map_or(0, |content| content.rows);
    let tables: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let differ = tables.into_iter().filter(|table| before.get(table) != after.get(table));
    let differ: Vec<_> = differ
        .map(|table| format!("{table} had {} rows and has {}", rows(before.get(table)), rows(after.get(table))))
        .collect();
    if differ.is_empty() {
        return Ok(());
    }
    Err(Problem::Failed(format!("the rebuilt tables hold other rows: {}", differ.join("; "))))
}
