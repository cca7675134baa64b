//! What a project is made of: models, seeds and sources.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::config::{Materialized, PartitionBy};
use super::error::ProjectError;
use super::jinja::{Naming, RenderContext, Scope, Template};
use super::lines::map_lines;
use super::seed::Seed;

/// The folder of what every dataset shares.
pub const SHARED: &str = "shared";

/// A column as its yml describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What it holds; empty when nobody said.
    pub description: String,
    /// BigQuery's name of its type, when the yml says it.
    pub data_type: Option<String>,
}

/// A table that comes from outside of the project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The source's name, the first argument of `source()`.
    pub source: String,
    /// The table's name, the second.
    pub table: String,
    /// Where it is.
    pub schema: String,
    /// What the table is called there.
    pub identifier: String,
    /// What it holds.
    pub description: String,
    /// Its columns, as far as the yml names them.
    pub columns: Vec<Column>,
}

/// A node of the graph.
#[derive(Debug, Clone)]
pub enum Node {
    /// A query whose rows we keep.
    Model(Model),
    /// A CSV file of the project as a table.
    Seed(Seed),
}

impl Node {
    /// The name that `ref()` takes.
    pub fn name(&self) -> &str {
        match self {
            Self::Model(model) => &model.name,
            Self::Seed(seed) => &seed.name,
        }
    }

    /// The dataset it belongs to, or [`SHARED`].
    pub fn dataset(&self) -> &str {
        match self {
            Self::Model(model) => &model.dataset,
            Self::Seed(seed) => &seed.dataset,
        }
    }

    /// Schema and table.
    pub fn relation(&self) -> (&str, &str) {
        match self {
            Self::Model(model) => (&model.schema, &model.table),
            Self::Seed(seed) => (&seed.schema, &seed.table),
        }
    }

    /// Changes whenever what the node would build might.
    pub fn hash(&self) -> u64 {
        match self {
            Self::Model(model) => model.hash,
            Self::Seed(seed) => seed.hash,
        }
    }
}

/// A query whose rows we keep.
#[derive(Debug, Clone)]
pub struct Model {
    /// The file's name without `.sql`, which `ref()` takes.
    pub name: String,
    /// The first folder below `models/`.
    pub dataset: String,
    /// The layer: raw, silver or gold.
    pub schema: String,
    /// The table's name: the model's, unless it has an alias.
    pub table: String,
    /// The file, from the project's root.
    pub path: String,
    /// How it is kept.
    pub materialized: Materialized,
    /// How its table is split.
    pub partition_by: Option<PartitionBy>,
    /// How its table is ordered within a partition; at most four columns.
    pub cluster_by: Vec<String>,
    /// Rows of a day depend on rows of so many days before and after it: `meta.neighbour_days`.
    pub neighbour_days: u32,
    /// What it is.
    pub description: String,
    /// Its columns, in the order of the yml.
    pub columns: Vec<Column>,
    /// The models and seeds it reads, sorted.
    pub refs: Vec<String>,
    /// The sources it reads, as source and table, sorted.
    pub sources: Vec<(String, String)>,
    /// All settings, also those that have no field here, such as `tags`.
    pub config: BTreeMap<String, Value>,
    /// Stable between runs and machines; changes with the model's text, its settings, the names of the tables it reads,
    /// any macro and any var of the project.
    pub hash: u64,
    pub(crate) text: String,
    pub(crate) scope: Arc<Scope>,
}

impl Model {
    /// Whether a run can replace a part of it.
    pub fn is_incremental(&self) -> bool {
        matches!(self.materialized, Materialized::Incremental(_))
    }

    /// The table's full name.
    pub fn relation(&self, naming: &Naming) -> String {
        naming.table(&self.schema, &self.table)
    }

    /// The model's SQL. As in dbt, `is_incremental()` is false in a model that is not incremental.
    ///
    /// # Errors
    /// When the template fails with these vars; the error names its line.
    pub fn render(&self, context: &RenderContext) -> Result<Rendered, ProjectError> {
        let template = Template { file: &self.path, text: &self.text, schema: &self.schema, table: &self.table };
        let context = RenderContext { incremental: context.incremental && self.is_incremental(), ..context.clone() };
        let (sql, _) = self.scope.render(template, &context, &self.config)?;
        let lines = map_lines(&self.text, &sql);
        Ok(Rendered { sql, lines })
    }

    /// Names of the sources it reads, as `source.table`.
    pub fn source_names(&self) -> BTreeSet<String> {
        self.sources.iter().map(|(source, table)| format!("{source}.{table}")).collect()
    }
}

/// A model as SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The query.
    pub sql: String,
    lines: Vec<usize>,
}

impl Rendered {
    /// The line of the model's file that a line of the SQL came from, both counted from 1. Exact for lines that the file
    /// holds as they are; for a line that Jinja made, the line of the expression or one beside it.
    pub fn source_line(&self, line: usize) -> usize {
        let index = line.saturating_sub(1);
        self.lines.get(index).or(self.lines.last()).copied().unwrap_or(1)
    }
}
