//! From files to a project.
//!
//! Every model is rendered twice, as a full and as an incremental run, and needs what either asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::Project;
use super::assemble::{node, tests};
use super::config::is_identifier;
use super::draft::{Draft, add_draft, discover, draft};
use super::error::{Place, ProjectError, close_to};
use super::files::is_ours;
use super::graph;
use super::jinja::Scope;
use super::macros::Macros;
use super::node::Source;
use super::properties::{self, Kind, NodeProperties, Properties};
use super::yaml::{Word, Yaml, text};

/// Reads a project.
pub(crate) fn load(files: BTreeMap<String, Vec<u8>>) -> Result<Project, ProjectError> {
    let mut texts: BTreeMap<&str, &str> = BTreeMap::new();
    for (path, content) in files.iter().filter(|(path, _)| is_ours(path)) {
        let text = std::str::from_utf8(content).map_err(|_| ProjectError::NotText { file: path.clone() })?;
        texts.insert(path, text);
    }
    let (file, text_of_project) =
        texts.get_key_value("dbt_project.yml").ok_or(ProjectError::NoProject).map(|(file, text)| (*file, *text))?;
    let project = Yaml::parse(file, text_of_project)?;
    let name = text(&project.root, "name").filter(|name| is_identifier(name));
    let name = name.ok_or_else(|| project.error(&[], "the project needs a name"))?;

    let mut macros = Vec::new();
    let mut drafts: BTreeMap<&str, Draft<'_>> = BTreeMap::new();
    let mut said = Properties::default();
    let (models, seeds) = (folders(&project, "model-paths", "models")?, folders(&project, "seed-paths", "seeds")?);
    let macro_folders = folders(&project, "macro-paths", "macros")?;
    for (file, text) in texts {
        let in_models = models.iter().find_map(|folder| below(file, folder));
        let in_seeds = seeds.iter().find_map(|folder| below(file, folder));
        if macro_folders.iter().any(|folder| below(file, folder).is_some()) {
            if file.ends_with(".sql") {
                macros.push((file, text));
            }
        } else if let Some(rest) = in_models.filter(|rest| rest.ends_with(".sql")) {
            add_draft(&mut drafts, draft(Kind::Model, name, rest, file, text)?)?;
        } else if let Some(rest) = in_seeds.filter(|rest| rest.ends_with(".csv")) {
            add_draft(&mut drafts, draft(Kind::Seed, name, rest, file, text)?)?;
        } else if (in_models.is_some() || in_seeds.is_some()) && (file.ends_with(".yml") || file.ends_with(".yaml")) {
            let more = properties::read(file, text)?;
            said.nodes.extend(more.nodes);
            said.sources.extend(more.sources);
        }
    }

    let nodes_said = nodes_said(&said, &drafts)?;
    let sources = sources_said(&said)?;
    let mut scope = Scope {
        project: name.to_owned(),
        vars: vars(&project, name)?,
        macros: Macros::read(&macros)?,
        nodes: drafts.keys().map(|name| ((*name).to_owned(), (String::new(), String::new()))).collect(),
        sources: sources
            .iter()
            .map(|(key, source)| (key.clone(), (source.schema.clone(), source.identifier.clone())))
            .collect(),
    };

    // What is disabled is known only when all has been rendered once, and then nothing may refer to it.
    let (mut seen, mut settings) = discover(&drafts, &scope, &project, &nodes_said)?;
    let disabled: BTreeSet<&str> = settings
        .iter()
        .filter_map(|(name, settings)| settings.enabled().map(|on| (!on).then_some(*name)).transpose())
        .collect::<Result<_, _>>()?;
    if !disabled.is_empty() {
        drafts.retain(|name, _| !disabled.contains(name));
        scope.nodes.retain(|name, _| !disabled.contains(name.as_str()));
        (seen, settings) = discover(&drafts, &scope, &project, &nodes_said)?;
    }
    for (name, settings) in &settings {
        let place = Place::new(drafts[name].file, 1);
        scope.nodes.insert((*name).to_owned(), settings.relation(name, &place)?);
    }
    distinct_tables(&scope, &drafts)?;

    let scope = Arc::new(scope);
    let mut nodes = BTreeMap::new();
    let mut parents = graph::Parents::new();
    for (name, draft) in &drafts {
        let seen = seen.remove(name).unwrap_or_default();
        let sources = seen.sources.iter().map(|(source, table)| format!("{source}.{table}"));
        parents.insert((*name).to_owned(), seen.refs.iter().cloned().chain(sources).collect());
        let said = nodes_said.get(name).copied();
        nodes.insert((*name).to_owned(), node(draft, &settings[name], said, seen, &scope)?);
    }
    let order = graph::order(&parents)?;
    let tests = tests(&said, &scope, &disabled)?;
    Ok(Project { name: name.to_owned(), nodes, sources, tests, parents, order, scope })
}

/// The folders of one kind of file, or the one that dbt takes when none is named.
fn folders(project: &Yaml<'_>, key: &str, otherwise: &str) -> Result<Vec<String>, ProjectError> {
    match project.root.get(key) {
        None | Some(Value::Null) => Ok(vec![otherwise.to_owned()]),
        Some(Value::Array(paths)) if paths.iter().all(Value::is_string) => {
            Ok(paths.iter().filter_map(Value::as_str).map(|path| path.trim_matches('/').to_owned()).collect())
        }
        Some(_) => Err(project.error(&[Word::Key(key)], format!("{key} should be a list of folders"))),
    }
}

fn below<'a>(file: &'a str, folder: &str) -> Option<&'a str> {
    file.strip_prefix(folder)?.strip_prefix('/')
}

fn nodes_said<'p>(
    said: &'p Properties,
    drafts: &BTreeMap<&str, Draft<'_>>,
) -> Result<BTreeMap<&'p str, &'p NodeProperties>, ProjectError> {
    let mut found: BTreeMap<&str, &NodeProperties> = BTreeMap::new();
    for node in &said.nodes {
        let (name, place) = (node.name.clone(), node.place.clone());
        if drafts.get(name.as_str()).is_none_or(|draft| draft.kind != node.kind) {
            let of_kind = drafts.values().filter(|draft| draft.kind == node.kind).map(|draft| draft.name);
            let close = close_to(&name, of_kind);
            return Err(ProjectError::UnknownNode { place, name, kind: node.kind.name(), close });
        }
        if let Some(first) = found.insert(&node.name, node) {
            return Err(ProjectError::Duplicate { name, first: first.place.clone(), second: place });
        }
    }
    Ok(found)
}

fn sources_said(said: &Properties) -> Result<BTreeMap<(String, String), Source>, ProjectError> {
    let mut found = BTreeMap::new();
    let mut places: BTreeMap<(&str, &str), &Place> = BTreeMap::new();
    for table in &said.sources {
        let source = &table.source;
        if let Some(first) = places.insert((&source.source, &source.table), &table.place) {
            return Err(ProjectError::Duplicate {
                name: format!("{}.{}", source.source, source.table),
                first: first.clone(),
                second: table.place.clone(),
            });
        }
        found.insert((source.source.clone(), source.table.clone()), source.clone());
    }
    Ok(found)
}

/// The vars of the project: those for everyone, then those under its own name.
fn vars(project: &Yaml<'_>, name: &str) -> Result<BTreeMap<String, Value>, ProjectError> {
    let all = match project.root.get("vars") {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Object(all)) => all,
        Some(_) => return Err(project.error(&[Word::Key("vars")], "vars should be a mapping")),
    };
    let own = all.get(name).and_then(Value::as_object);
    let general = all.iter().filter(|(key, value)| !(key.as_str() == name && value.is_object()));
    Ok(general.chain(own.into_iter().flatten()).map(|(key, value)| (key.clone(), value.clone())).collect())
}

/// Two nodes cannot be the same table; names of tables differ by more than case.
fn distinct_tables(scope: &Scope, drafts: &BTreeMap<&str, Draft<'_>>) -> Result<(), ProjectError> {
    let mut tables: BTreeMap<(String, String), &str> = BTreeMap::new();
    for (name, (schema, table)) in &scope.nodes {
        if let Some(first) = tables.insert((schema.to_lowercase(), table.to_lowercase()), name) {
            return Err(ProjectError::Duplicate {
                name: format!("{schema}.{table}"),
                first: Place::new(drafts[first].file, 1),
                second: Place::new(drafts[name.as_str()].file, 1),
            });
        }
    }
    Ok(())
}
