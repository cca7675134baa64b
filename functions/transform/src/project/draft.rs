//! The files of models and seeds before they are nodes: which dataset they belong to, what they ask for, and what is set
//! for them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::config::{Settings, is_identifier, project_levels};
use super::error::{Place, ProjectError};
use super::jinja::{RenderContext, Scope, Seen, Template};
use super::properties::{Kind, NodeProperties};
use super::yaml::{Word, Yaml};

/// A file of a model or seed, before its settings are known.
pub(crate) struct Draft<'a> {
    pub(crate) kind: Kind,
    pub(crate) name: &'a str,
    pub(crate) dataset: &'a str,
    /// The project, the folders and the name: the way to its settings in `dbt_project.yml`.
    pub(crate) fqn: Vec<&'a str>,
    pub(crate) file: &'a str,
    pub(crate) text: &'a str,
}

pub(crate) fn draft<'a>(
    kind: Kind,
    project: &'a str,
    rest: &'a str,
    file: &'a str,
    text: &'a str,
) -> Result<Draft<'a>, ProjectError> {
    let misplaced = |message: String| ProjectError::Misplaced { file: file.to_owned(), message };
    let (path, _) = rest.rsplit_once('.').unwrap_or((rest, ""));
    let fqn: Vec<&str> = std::iter::once(project).chain(path.split('/')).collect();
    let [_, dataset, .., name] = fqn.as_slice() else {
        return Err(misplaced(format!("a {} lies in the folder of its dataset", kind.name())));
    };
    let (dataset, name) = (*dataset, *name);
    if !is_identifier(name) || !is_identifier(dataset) {
        return Err(misplaced("the names of datasets and tables are letters, digits and _".to_owned()));
    }
    Ok(Draft { kind, name, dataset, fqn, file, text })
}

pub(crate) fn add_draft<'a>(drafts: &mut BTreeMap<&'a str, Draft<'a>>, draft: Draft<'a>) -> Result<(), ProjectError> {
    let (name, second) = (draft.name, Place::new(draft.file, 1));
    match drafts.insert(name, draft) {
        None => Ok(()),
        Some(first) => Err(ProjectError::Duplicate { name: name.to_owned(), first: Place::new(first.file, 1), second }),
    }
}

/// What every model asks for, and the settings of every node.
pub(crate) type Discovered<'a> = (BTreeMap<&'a str, Seen>, BTreeMap<&'a str, Settings>);

/// Renders every model both ways and merges every node's settings.
pub(crate) fn discover<'a>(
    drafts: &BTreeMap<&'a str, Draft<'_>>,
    scope: &Scope,
    project: &Yaml<'_>,
    said: &BTreeMap<&str, &NodeProperties>,
) -> Result<Discovered<'a>, ProjectError> {
    let (mut all_seen, mut all_settings) = (BTreeMap::new(), BTreeMap::new());
    for (name, draft) in drafts {
        let mut seen = Seen::default();
        if draft.kind == Kind::Model {
            let template = Template { file: draft.file, text: draft.text, schema: "", table: name };
            let run = |incremental| {
                let context = RenderContext { incremental, ..RenderContext::default() };
                scope.render(template, &context, &BTreeMap::new()).map(|(_, seen)| seen)
            };
            // dbt takes the settings of a full run, too.
            seen = run(false)?;
            let incremental = run(true)?;
            seen.refs.extend(incremental.refs);
            seen.sources.extend(incremental.sources);
        }
        all_settings.insert(*name, settings(draft, project, said.get(name).copied(), &seen.config)?);
        all_seen.insert(*name, seen);
    }
    Ok((all_seen, all_settings))
}

fn settings(
    draft: &Draft<'_>,
    project: &Yaml<'_>,
    said: Option<&NodeProperties>,
    own: &Map<String, Value>,
) -> Result<Settings, ProjectError> {
    let mut settings = Settings::default();
    let section = if draft.kind == Kind::Model { "models" } else { "seeds" };
    match project.root.get(section) {
        None | Some(Value::Null) => {}
        Some(Value::Object(root)) => {
            for (depth, name, value) in project_levels(root, &draft.fqn) {
                let way = draft.fqn.iter().take(depth).map(|part| Word::Key(part));
                let words: Vec<Word<'_>> =
                    std::iter::once(Word::Key(section)).chain(way).chain([Word::Key(name)]).collect();
                settings.set(name, value.clone(), project.place(&words));
            }
        }
        Some(_) => {
            return Err(project.error(&[Word::Key(section)], format!("{section} should be a mapping")));
        }
    }
    for (name, value, place) in said.iter().flat_map(|said| &said.settings) {
        settings.set(name, value.clone(), place.clone());
    }
    for (name, value) in own {
        let from = draft.text.lines().position(|line| line.contains("config")).unwrap_or(0);
        let line = draft.text.lines().skip(from).position(|line| line.contains(name.as_str())).unwrap_or(0);
        settings.set(name, value.clone(), Place::new(draft.file, from + line + 1));
    }
    Ok(settings)
}
