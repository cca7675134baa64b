//! `strata docs`: the tables as the dbt project describes them, as pages of Markdown that link to each other.
//!
//! Invariant: every source, seed and model has one page, and every link leads to one of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;

use shared::table::TableName;
use shared::warehouse::Warehouse;
use transform::project::{Check, DataTest, Materialized, Model, Node, Project, Severity};

use crate::problem::Problem;
use crate::report::thousands;

/// The page that names all others.
const INDEX: &str = "README.md";

/// A table's page.
struct Page {
    table: TableName,
    /// What the tests and the graph call it.
    name: String,
    kind: String,
    /// Where it is written; a source is written nowhere.
    path: Option<String>,
    description: String,
    columns: Vec<Described>,
    reads: Vec<TableName>,
    /// What the warehouse knows of it.
    holds: Option<String>,
}

/// A column: its name, its type where one is said, and what it holds.
struct Described {
    name: String,
    data_type: String,
    description: String,
}

/// Writes the pages into a folder, with what the tables hold where there is a warehouse.
///
/// # Errors
/// When the folder cannot be written.
pub async fn write(
    project: &Project,
    warehouse: Option<&dyn Warehouse>,
    folder: &Path,
    out: &mut impl Write,
) -> Result<(), Problem> {
    let mut pages = pages(project);
    if let Some(warehouse) = warehouse {
        for page in &mut pages {
            page.holds = holds(warehouse, &page.table).await;
        }
    }
    let unwritable = |error| Problem::Failed(format!("{} cannot be written: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(unwritable)?;
    std::fs::write(folder.join(INDEX), index(&pages)).map_err(unwritable)?;
    for page in &pages {
        let readers = pages.iter().filter(|other| other.reads.contains(&page.table)).map(|other| &other.table);
        let text = text(page, &readers.collect::<Vec<_>>(), &project.tests_of(&page.name));
        std::fs::write(folder.join(file(&page.table)), text).map_err(unwritable)?;
    }
    Ok(writeln!(out, "{} tables are described in {}", pages.len(), folder.join(INDEX).display())?)
}

/// A page for everything in the project: sources, then seeds and models, parents first.
fn pages(project: &Project) -> Vec<Page> {
    let mut pages = Vec::new();
    for source in project.sources() {
        let column = |column: &transform::project::Column| described(&column.name, None, &column.description);
        pages.push(Page {
            table: TableName::new(&source.schema, &source.identifier),
            name: format!("{}.{}", source.source, source.table),
            kind: "what land loads, every version of every row".to_owned(),
            path: None,
            description: source.description.clone(),
            columns: source.columns.iter().map(column).collect(),
            reads: Vec::new(),
            holds: None,
        });
    }
    for node in project.nodes() {
        let (schema, table) = node.relation();
        let table = TableName::new(schema, table);
        pages.push(match node {
            Node::Seed(seed) => {
                let said: BTreeMap<_, _> =
                    seed.described.iter().map(|it| (&it.name, it.description.as_str())).collect();
                let column = |(name, data_type): &(String, transform::project::SeedType)| {
                    described(name, Some(data_type.name()), said.get(name).copied().unwrap_or_default())
                };
                Page {
                    table,
                    name: seed.name.clone(),
                    kind: "a file of the project".to_owned(),
                    path: Some(seed.path.clone()),
                    description: seed.description.clone(),
                    columns: seed.columns.iter().map(column).collect(),
                    reads: Vec::new(),
                    holds: None,
                }
            }
            Node::Model(model) => Page {
                table,
                name: model.name.clone(),
                kind: kind(model),
                path: Some(model.path.clone()),
                description: model.description.clone(),
                columns: model
                    .columns
                    .iter()
                    .map(|column| described(&column.name, column.data_type.as_deref(), &column.description))
                    .collect(),
                reads: reads(project, model),
                holds: None,
            },
        });
    }
    pages
}

fn described(name: &str, data_type: Option<&str>, description: &str) -> Described {
    let data_type = data_type.unwrap_or_default().to_ascii_lowercase();
    Described { name: name.to_owned(), data_type, description: description.to_owned() }
}

fn kind(model: &Model) -> String {
    let mut kind = match &model.materialized {
        Materialized::View => "a view".to_owned(),
        Materialized::Table => "a table, built whole".to_owned(),
        Materialized::Incremental(_) => "a table, built by what changed".to_owned(),
    };
    if let Some(by) = &model.partition_by {
        kind.push_str(&format!(", partitioned by `{}`", by.field));
    }
    if !model.cluster_by.is_empty() {
        kind.push_str(&format!(", clustered by `{}`", model.cluster_by.join("`, `")));
    }
    kind
}

fn reads(project: &Project, model: &Model) -> Vec<TableName> {
    let sources = model.sources.iter().filter_map(|(source, table)| project.source(source, table));
    let sources = sources.map(|source| TableName::new(&source.schema, &source.identifier));
    let nodes = model.refs.iter().filter_map(|name| project.node(name)).map(|node| {
        let (schema, table) = node.relation();
        TableName::new(schema, table)
    });
    sources.chain(nodes).collect()
}

/// What a table holds; a damaged one is said to be and hides no other.
async fn holds(warehouse: &dyn Warehouse, table: &TableName) -> Option<String> {
    match warehouse.state(table).await {
        Ok(state) => state.map(|state| match state.rows {
            Some(rows) => format!("{} rows, version {}", thousands(rows), state.version),
            None => format!("version {}", state.version),
        }),
        Err(error) => Some(error.to_string()),
    }
}

fn file(table: &TableName) -> String {
    format!("{table}.md")
}

fn link(table: &TableName) -> String {
    format!("[{table}]({})", file(table))
}

fn links<'a>(tables: impl IntoIterator<Item = &'a TableName>) -> String {
    tables.into_iter().map(link).collect::<Vec<_>>().join(", ")
}

/// A text as a cell of a table has it.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn index(pages: &[Page]) -> String {
    let mut text = "# Tables\n\n| table | what it holds | now |\n|---|---|---|\n".to_owned();
    for page in pages {
        let now = page.holds.as_deref().map(cell).unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {} | {} | {now} |", link(&page.table), cell(&page.description));
    }
    text
}

fn text(page: &Page, readers: &[&TableName], tests: &[&DataTest]) -> String {
    let mut text = format!("# {}\n\n{}\n\n", page.table, page.description.trim());
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "- {name}: {value}");
        }
    };
    line("kind", &page.kind);
    line("file", &page.path.as_deref().map(|path| format!("`{path}`")).unwrap_or_default());
    line("reads", &links(&page.reads));
    line("read by", &links(readers.iter().copied()));
    line("now", page.holds.as_deref().unwrap_or_default());
    text.push_str("\n| column | type | what it holds | tests |\n|---|---|---|---|\n");
    for Described { name, data_type, description } in &page.columns {
        let asked: Vec<String> = tests.iter().filter(|test| test.column == *name).map(|test| asked(test)).collect();
        let _ = writeln!(text, "| `{name}` | {data_type} | {} | {} |", cell(description), cell(&asked.join("; ")));
    }
    let named = |test: &&&DataTest| page.columns.iter().any(|column| column.name == test.column);
    for test in tests.iter().filter(|test| !named(test)) {
        let _ = writeln!(text, "\n`{}`: {}", test.column, asked(test));
    }
    let _ = writeln!(text, "\n[All tables]({INDEX})");
    text
}

/// What a test asks, in words.
fn asked(test: &DataTest) -> String {
    let mut asked = match &test.check {
        Check::NotNull => "not null".to_owned(),
        Check::Unique => "unique".to_owned(),
        Check::AcceptedValues(values) => format!("one of {}", values.join(", ")),
        Check::Relationships { schema, table, field } => format!("is in {schema}.{table}.{field}"),
    };
    if let Some(condition) = &test.condition {
        asked.push_str(&format!(" where {condition}"));
    }
    if test.severity == Severity::Warn {
        asked.push_str(" (warns)");
    }
    asked
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[tokio::test]
    async fn every_table_has_a_page_and_every_link_leads_to_one() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("docs");
        let project = Project::embedded().unwrap();
        write(&project, None, &folder, &mut Vec::new()).await.unwrap();
        let names =
            || std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let found: BTreeSet<String> = names().collect();
        assert_eq!(found.len(), project.nodes().count() + project.sources().count() + 1);
        for name in names() {
            let text = std::fs::read_to_string(folder.join(&name)).unwrap();
            for target in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
                assert!(found.contains(target), "{name} links to {target}");
            }
        }
        let fact = std::fs::read_to_string(folder.join("gold.fct_earthquakes.md")).unwrap();
        for said in ["- kind: a table, built by what changed, partitioned by `event_date`", "- read by: ", "unique"] {
            assert!(fact.contains(said), "{said}: {fact}");
        }
        // A model that nobody described would have no columns here.
        for page in pages(&project) {
            assert!(!page.description.is_empty() && !page.columns.is_empty(), "{}", page.table);
        }
    }
}
