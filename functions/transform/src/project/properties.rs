//! What the yml files beside the models say: descriptions, columns, settings, tests, and the sources.
//!
//! Keys that are not ours are passed over, as dbt passes over what it does not need.

use serde_json::{Map, Value};

use super::data_test::{Declared, declared};
use super::error::{Place, ProjectError};
use super::node::{Column, Source};
use super::yaml::{Word, Yaml, list, text};

/// Whether properties belong to a model or a seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Model,
    Seed,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Seed => "seed",
        }
    }

    fn section(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Seed => "seeds",
        }
    }
}

/// What a yml says of a model or seed.
#[derive(Debug, Clone)]
pub(crate) struct NodeProperties {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) description: String,
    pub(crate) columns: Vec<Column>,
    pub(crate) settings: Vec<(String, Value, Place)>,
    pub(crate) tests: Vec<Declared>,
}

/// What a yml says of a source's table.
#[derive(Debug, Clone)]
pub(crate) struct SourceProperties {
    pub(crate) source: Source,
    pub(crate) place: Place,
    pub(crate) tests: Vec<Declared>,
}

/// Everything that one yml says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Properties {
    pub(crate) nodes: Vec<NodeProperties>,
    pub(crate) sources: Vec<SourceProperties>,
}

/// Reads one yml file.
pub(crate) fn read(file: &str, text: &str) -> Result<Properties, ProjectError> {
    let yaml = Yaml::parse(file, text)?;
    let mut properties = Properties::default();
    for kind in [Kind::Model, Kind::Seed] {
        for (name, map) in entries(&yaml, &yaml.root, kind.section(), &[])? {
            properties.nodes.push(node(&yaml, kind, name, map)?);
        }
    }
    for (name, map) in entries(&yaml, &yaml.root, "sources", &[])? {
        for (table, inner) in entries(&yaml, map, "tables", &[Word::Name(name)])? {
            properties.sources.push(source(&yaml, name, map, table, inner)?);
        }
    }
    Ok(properties)
}

fn node(yaml: &Yaml<'_>, kind: Kind, name: &str, map: &Map<String, Value>) -> Result<NodeProperties, ProjectError> {
    let path = [Word::Key(kind.section()), Word::Name(name)];
    let mut settings = Vec::new();
    match map.get("config") {
        None | Some(Value::Null) => {}
        Some(Value::Object(config)) => {
            for (setting, value) in config {
                let place = yaml.place(&[path[0], path[1], Word::Key("config"), Word::Key(setting)]);
                settings.push((setting.clone(), value.clone(), place));
            }
        }
        Some(_) => {
            return Err(yaml.error(&[path[0], path[1], Word::Key("config")], "config should be a mapping"));
        }
    }
    let (columns, tests) = columns(yaml, map, name, &path)?;
    Ok(NodeProperties {
        kind,
        name: name.to_owned(),
        place: yaml.place(&path),
        description: description(map),
        columns,
        settings,
        tests,
    })
}

fn source(
    yaml: &Yaml<'_>,
    source: &str,
    outer: &Map<String, Value>,
    table: &str,
    map: &Map<String, Value>,
) -> Result<SourceProperties, ProjectError> {
    let path = [Word::Name(source), Word::Name(table)];
    let (columns, tests) = columns(yaml, map, &format!("{source}.{table}"), &path)?;
    let schema = text(outer, "schema").unwrap_or(source);
    let identifier = text(map, "identifier").unwrap_or(table);
    for name in [schema, identifier] {
        if !super::config::is_identifier(name) {
            return Err(yaml.error(&path, format!("'{name}' is no name for a schema or table")));
        }
    }
    Ok(SourceProperties {
        source: Source {
            source: source.to_owned(),
            table: table.to_owned(),
            schema: schema.to_owned(),
            identifier: identifier.to_owned(),
            description: description(map),
            columns,
        },
        place: yaml.place(&path),
        tests,
    })
}

/// The columns of a table with the tests of all of them, and those of the table itself.
fn columns(
    yaml: &Yaml<'_>,
    map: &Map<String, Value>,
    on: &str,
    path: &[Word<'_>],
) -> Result<(Vec<Column>, Vec<Declared>), ProjectError> {
    let mut columns = Vec::new();
    let mut tests = declared(yaml, map, on, None, path)?;
    for (name, column) in entries(yaml, map, "columns", path)? {
        let path: Vec<Word<'_>> = path.iter().copied().chain([Word::Name(name)]).collect();
        tests.extend(declared(yaml, column, on, Some(name), &path)?);
        columns.push(Column {
            name: name.to_owned(),
            description: description(column),
            data_type: text(column, "data_type").map(str::to_owned),
        });
    }
    Ok((columns, tests))
}

/// A mapping of a list, with its name.
type Entry<'v> = (&'v str, &'v Map<String, Value>);

/// The mappings of a list, each with its name.
fn entries<'v>(
    yaml: &Yaml<'_>,
    map: &'v Map<String, Value>,
    key: &str,
    path: &[Word<'_>],
) -> Result<Vec<Entry<'v>>, ProjectError> {
    let path: Vec<Word<'_>> = path.iter().copied().chain([Word::Key(key)]).collect();
    let items = list(map, key).ok_or_else(|| yaml.error(&path, format!("{key} should be a list")))?;
    items
        .iter()
        .map(|item| {
            let named = item.as_object().and_then(|map| text(map, "name").map(|name| (name, map)));
            named.ok_or_else(|| yaml.error(&path, format!("each of {key} should be a mapping with a name")))
        })
        .collect()
}

fn description(map: &Map<String, Value>) -> String {
    text(map, "description").unwrap_or_default().trim().to_owned()
}
