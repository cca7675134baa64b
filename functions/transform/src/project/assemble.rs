//! Nodes and tests from their drafts, once every name is known.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher as _;
use std::sync::Arc;

use serde_json::Value;
use twox_hash::XxHash3_64;

use super::config::{ModelConfig, Settings};
use super::data_test::{Check, DataTest, Declared, DeclaredCheck};
use super::draft::Draft;
use super::error::{Place, ProjectError};
use super::jinja::{Scope, Seen};
use super::node::{Model, Node};
use super::properties::{self, Kind, NodeProperties, Properties};
use super::seed::{self, Seed};

pub(crate) fn node(
    draft: &Draft<'_>,
    settings: &Settings,
    said: Option<&NodeProperties>,
    seen: Seen,
    scope: &Arc<Scope>,
) -> Result<Node, ProjectError> {
    let (schema, table) = scope.nodes[draft.name].clone();
    let (name, path) = (draft.name.to_owned(), draft.file.to_owned());
    let dataset = draft.dataset.to_owned();
    let description = said.map(|said| said.description.clone()).unwrap_or_default();
    let columns = said.map(|said| said.columns.clone()).unwrap_or_default();
    let config = settings.values();
    let mut hash = Fingerprint::default();
    hash.add(&schema).add(&table).add(draft.text);

    match draft.kind {
        Kind::Model => {
            let checked = ModelConfig::read(settings, &name, &Place::new(draft.file, 1))?;
            hash.add(scope.macros.text()).add_values(&config).add_values(&scope.vars);
            let nodes = seen.refs.iter().filter_map(|name| scope.nodes.get(name));
            let sources = seen.sources.iter().filter_map(|key| scope.sources.get(key));
            for (schema, table) in nodes.chain(sources) {
                hash.add(schema).add(table);
            }
            Ok(Node::Model(Model {
                name,
                dataset,
                schema,
                table,
                path,
                materialized: checked.materialized,
                partition_by: checked.partition_by,
                cluster_by: checked.cluster_by,
                neighbour_days: checked.neighbour_days,
                description,
                columns,
                refs: seen.refs.into_iter().collect(),
                sources: seen.sources.into_iter().collect(),
                config,
                hash: hash.finish(),
                text: draft.text.to_owned(),
                scope: Arc::clone(scope),
            }))
        }
        Kind::Seed => {
            let read = seed::read(draft.file, draft.text, &settings.column_types()?)?;
            for (column, kind) in &read.columns {
                hash.add(column).add(kind.name());
            }
            Ok(Node::Seed(Seed {
                name,
                dataset,
                schema,
                table,
                path,
                description,
                described: columns,
                columns: read.columns,
                rows: read.rows,
                hash: hash.finish(),
            }))
        }
    }
}

/// XXH3 over texts, each with its length, so that no two lists of texts run into one.
#[derive(Default)]
struct Fingerprint(XxHash3_64);

impl Fingerprint {
    fn add(&mut self, text: &str) -> &mut Self {
        self.0.write(&(text.len() as u64).to_le_bytes());
        self.0.write(text.as_bytes());
        self
    }

    fn add_values(&mut self, values: &BTreeMap<String, Value>) -> &mut Self {
        for (name, value) in values {
            self.add(name).add(&value.to_string());
        }
        self
    }

    fn finish(&self) -> u64 {
        self.0.finish()
    }
}

/// The tests with the tables they speak of.
pub(crate) fn tests(
    said: &Properties,
    scope: &Scope,
    disabled: &BTreeSet<&str>,
) -> Result<Vec<DataTest>, ProjectError> {
    let mut found = Vec::new();
    for node in said.nodes.iter().filter(|node| !disabled.contains(node.name.as_str())) {
        for test in &node.tests {
            found.push(data_test(test, node.name.clone(), &scope.nodes[&node.name], scope)?);
        }
    }
    for SourceTests { name, relation, tests } in said.sources.iter().map(SourceTests::of) {
        for test in tests {
            found.push(data_test(test, name.clone(), &relation, scope)?);
        }
    }
    let mut places: BTreeMap<&str, &Place> = BTreeMap::new();
    for test in &found {
        if let Some(first) = places.insert(&test.name, &test.place) {
            let (name, second) = (test.name.clone(), test.place.clone());
            return Err(ProjectError::Duplicate { name, first: first.clone(), second });
        }
    }
    Ok(found)
}

struct SourceTests<'p> {
    name: String,
    relation: (String, String),
    tests: &'p [Declared],
}

impl<'p> SourceTests<'p> {
    fn of(said: &'p properties::SourceProperties) -> Self {
        let source = &said.source;
        Self {
            name: format!("{}.{}", source.source, source.table),
            relation: (source.schema.clone(), source.identifier.clone()),
            tests: &said.tests,
        }
    }
}

fn data_test(
    test: &Declared,
    on: String,
    (schema, table): &(String, String),
    scope: &Scope,
) -> Result<DataTest, ProjectError> {
    let check = match &test.check {
        DeclaredCheck::Own(check) => check.clone(),
        DeclaredCheck::Relationships(to, field) => {
            let seen = scope.reference(to, &test.place)?;
            let node = seen.refs.first().and_then(|name| scope.nodes.get(name));
            let source = seen.sources.first().and_then(|key| scope.sources.get(key));
            let Some((schema, table)) = node.or(source) else {
                let message = "relationships: to should be ref('...') or source('...', '...')".to_owned();
                return Err(ProjectError::Yaml { place: test.place.clone(), message });
            };
            Check::Relationships { schema: schema.clone(), table: table.clone(), field: field.clone() }
        }
    };
    Ok(DataTest {
        name: test.name.clone(),
        on,
        column: test.column.clone(),
        check,
        condition: test.condition.clone(),
        severity: test.severity,
        place: test.place.clone(),
        schema: schema.clone(),
        table: table.clone(),
    })
}
