//! The dbt project: models, seeds, sources and data tests, read from their files without dbt.
//!
//! A [`Project`] is immutable and complete: every reference leads somewhere, no models need each other in a circle, every
//! setting makes sense. What is wrong is said at load, with its file and line. `dbt parse` accepts the same folder; what
//! is read of it is the part that the models use, and anything else is refused rather than taken differently.

mod assemble;
mod config;
mod data_test;
mod draft;
mod error;
mod files;
mod graph;
mod jinja;
mod lines;
mod load;
mod macros;
mod node;
mod properties;
mod seed;
mod yaml;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use include_dir::{Dir, include_dir};

pub use config::{Granularity, Materialized, PartitionBy, PartitionKind, Strategy};
pub use data_test::{Check, DataTest, Severity, combined_sql};
pub use error::{Place, ProjectError};
pub use jinja::{Naming, RenderContext};
pub use node::{Column, Model, Node, Rendered, SHARED, Source};
pub use seed::{Seed, SeedType};

static MODELS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/models");
static SEEDS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/seeds");
static MACROS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/macros");
static PROJECT: &str = include_str!("../dbt_project.yml");

/// A dbt project.
#[derive(Debug, Clone)]
pub struct Project {
    name: String,
    nodes: BTreeMap<String, Node>,
    sources: BTreeMap<(String, String), Source>,
    tests: Vec<DataTest>,
    parents: graph::Parents,
    order: Vec<String>,
    scope: Arc<jinja::Scope>,
}

impl Project {
    /// Reads a project from its files: path from the root, with `/`, and content. Files that are no part of a project
    /// are passed over; of a path that comes twice, the last content counts.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn load<P, T>(files: impl IntoIterator<Item = (P, T)>) -> Result<Self, ProjectError>
    where
        P: Into<String>,
        T: Into<Vec<u8>>,
    {
        load::load(files.into_iter().map(|(path, text)| (path.into(), text.into())).collect())
    }

    /// Reads a project from a folder.
    ///
    /// # Errors
    /// When the folder cannot be read, or the first thing that is wrong with the project.
    pub fn from_dir(path: impl AsRef<Path>) -> Result<Self, ProjectError> {
        Self::load(files::files_of(path.as_ref())?)
    }

    /// The project that is part of the program.
    ///
    /// # Errors
    /// As [`Project::load`]; a test loads it, so a released program has none.
    pub fn embedded() -> Result<Self, ProjectError> {
        let mut files = vec![("dbt_project.yml".to_owned(), PROJECT.as_bytes().to_vec())];
        for (folder, dir) in [("models", &MODELS), ("seeds", &SEEDS), ("macros", &MACROS)] {
            files::embedded_files(folder, dir, &mut files);
        }
        Self::load(files)
    }

    /// The project's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All models and seeds, parents first.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.order.iter().filter_map(|name| self.nodes.get(name))
    }

    /// All models, parents first.
    pub fn models(&self) -> impl Iterator<Item = &Model> {
        self.nodes().filter_map(|node| match node {
            Node::Model(model) => Some(model),
            Node::Seed(_) => None,
        })
    }

    /// All seeds, by name.
    pub fn seeds(&self) -> impl Iterator<Item = &Seed> {
        self.nodes.values().filter_map(|node| match node {
            Node::Seed(seed) => Some(seed),
            Node::Model(_) => None,
        })
    }

    /// All tables that come from outside, by source and table.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.sources.values()
    }

    /// A model or seed by the name that `ref()` takes.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// A model by its name.
    pub fn model(&self, name: &str) -> Option<&Model> {
        self.models().find(|model| model.name == name)
    }

    /// A source's table.
    pub fn source(&self, source: &str, table: &str) -> Option<&Source> {
        self.sources.get(&(source.to_owned(), table.to_owned()))
    }

    /// The datasets that have nodes, without [`SHARED`].
    pub fn datasets(&self) -> BTreeSet<&str> {
        self.nodes.values().map(Node::dataset).filter(|dataset| *dataset != SHARED).collect()
    }

    /// The nodes of a dataset with those that every dataset shares, parents first, by name where that leaves a choice.
    pub fn topological(&self, dataset: &str) -> Vec<&Node> {
        self.nodes().filter(|node| node.dataset() == dataset || node.dataset() == SHARED).collect()
    }

    /// What is built from the named models, seeds and sources (`source.table`), directly or not: parents first, and
    /// without the named ones.
    pub fn descendants<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Vec<&Node> {
        let found = graph::descendants(&self.parents, &names.into_iter().collect());
        self.nodes().filter(|node| found.contains(node.name())).collect()
    }

    /// All data tests, in the order of their files.
    pub fn tests(&self) -> &[DataTest] {
        &self.tests
    }

    /// The data tests of a model, a seed or a source (`source.table`). See [`combined_sql`].
    pub fn tests_of(&self, name: &str) -> Vec<&DataTest> {
        self.tests.iter().filter(|test| test.on == name).collect()
    }

    /// A var of the project.
    pub fn var(&self, name: &str) -> Option<&serde_json::Value> {
        self.scope.vars.get(name)
    }
}
