//! The part of dbt's Jinja that models use: `ref`, `source`, `config`, `var`, `this`, `is_incremental`, `target` and the
//! project's macros.
//!
//! Invariants: a template that does not end is stopped, and an error names the file and line of the template or macro it
//! is in. Nothing a template does reaches outside of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::{Kwargs, Object, ObjectRepr, Rest, Serde, Value as Jinja};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior};
use serde_json::{Map, Value};

use super::error::{Place, ProjectError, close_to};
use super::macros::{MACROS, Macros};

/// Instructions that one render may take: enough for a list of the days of a century, and seconds at most.
const FUEL: u64 = 10_000_000;

/// How the names of tables are written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Naming {
    /// The cloud project that the tables are in; none when there is one catalogue only.
    pub project: Option<String>,
    /// What stands before a schema in the name of its dataset, such as `dev_`.
    pub dataset_prefix: String,
}

impl Naming {
    /// A table's full name between backticks, as BigQuery and the laptop's engine both read it.
    pub fn table(&self, schema: &str, table: &str) -> String {
        let prefix = &self.dataset_prefix;
        match &self.project {
            Some(project) => format!("`{project}`.`{prefix}{schema}`.`{table}`"),
            None => format!("`{prefix}{schema}`.`{table}`"),
        }
    }
}

/// What a model is rendered for.
#[derive(Debug, Clone, Default)]
pub struct RenderContext {
    /// Whether `is_incremental()` holds. Only an incremental model can be told so.
    pub incremental: bool,
    /// Values for `var()`, before those of the project.
    pub vars: BTreeMap<String, Value>,
    /// How tables are named.
    pub naming: Naming,
}

/// What every template of a project can see.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    pub(crate) project: String,
    pub(crate) vars: BTreeMap<String, Value>,
    pub(crate) macros: Macros,
    /// Schema and table of each model and seed.
    pub(crate) nodes: BTreeMap<String, (String, String)>,
    /// Schema and table of each source's table.
    pub(crate) sources: BTreeMap<(String, String), (String, String)>,
}

/// What a template asked for while it ran.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) refs: BTreeSet<String>,
    pub(crate) sources: BTreeSet<(String, String)>,
    pub(crate) config: Map<String, Value>,
}

/// A template and the table it is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Template<'a> {
    pub(crate) file: &'a str,
    pub(crate) text: &'a str,
    pub(crate) schema: &'a str,
    pub(crate) table: &'a str,
}

impl Scope {
    /// Runs a template. `config()` answers what the model was found to be, or nothing while that is being found out.
    pub(crate) fn render(
        &self,
        template: Template<'_>,
        context: &RenderContext,
        config: &BTreeMap<String, Value>,
    ) -> Result<(String, Seen), ProjectError> {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let whole = self.macros.import() + template.text;
        let mut env = environment();
        self.add_functions(&mut env, template, context, config, &seen);

        let sql = env
            .add_template(MACROS, self.macros.text())
            .and_then(|()| env.add_template(template.file, &whole))
            .and_then(|()| env.get_template(template.file)?.render(()))
            .map_err(|error| failure(&error, template.file, &self.macros))?;
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok((sql, seen))
    }

    /// Evaluates `ref('x')` or `source('a', 'b')` as it stands in a yml, to what it names.
    pub(crate) fn reference(&self, expression: &str, place: &Place) -> Result<Seen, ProjectError> {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let expression = expression.trim();
        let expression = expression.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")).unwrap_or(expression);
        let template = Template { file: &place.file, text: "", schema: "", table: "" };
        let mut env = environment();
        self.add_functions(&mut env, template, &RenderContext::default(), &BTreeMap::new(), &seen);
        env.compile_expression(expression).and_then(|compiled| compiled.eval(()).map(drop)).map_err(|error| {
            match failure(&error, &place.file, &Macros::default()) {
                ProjectError::MissingRef { name, close, .. } => {
                    ProjectError::MissingRef { place: place.clone(), name, close }
                }
                ProjectError::MissingSource { name, close, .. } => {
                    ProjectError::MissingSource { place: place.clone(), name, close }
                }
                _ => ProjectError::Jinja { place: place.clone(), message: what(&error) },
            }
        })?;
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(seen)
    }

    fn add_functions(
        &self,
        env: &mut Environment<'_>,
        template: Template<'_>,
        context: &RenderContext,
        config: &BTreeMap<String, Value>,
        seen: &Arc<Mutex<Seen>>,
    ) {
        let naming = &context.naming;
        let relation = |schema: &str, table: &str| Relation {
            text: naming.table(schema, table),
            database: naming.project.clone(),
            schema: format!("{}{schema}", naming.dataset_prefix),
            identifier: table.to_owned(),
        };
        let relations = |named: (&String, &String)| relation(named.0, named.1);

        let nodes: BTreeMap<String, Relation> =
            self.nodes.iter().map(|(name, (schema, table))| (name.clone(), relations((schema, table)))).collect();
        let (project, found) = (self.project.clone(), Arc::clone(seen));
        env.add_function("ref", move |one: String, two: Option<String>, named: Kwargs| -> Result<Jinja, Error> {
            named.assert_all_used()?;
            let name = match two {
                Some(name) if one == project => name,
                Some(_) => {
                    return Err(refused(format!("there is no package '{one}', only '{project}'")));
                }
                None => one,
            };
            let Some(relation) = nodes.get(&name) else {
                let close = close_to(&name, nodes.keys().map(String::as_str));
                return Err(missing(Missing::Ref { name, close }));
            };
            found.lock().unwrap_or_else(PoisonError::into_inner).refs.insert(name);
            Ok(Jinja::from_object(relation.clone()))
        });

        let sources: BTreeMap<(String, String), Relation> =
            self.sources.iter().map(|(key, (schema, table))| (key.clone(), relations((schema, table)))).collect();
        let found = Arc::clone(seen);
        env.add_function("source", move |source: String, table: String| -> Result<Jinja, Error> {
            let key = (source, table);
            let Some(relation) = sources.get(&key) else {
                let names: Vec<String> = sources.keys().map(|(source, table)| format!("{source}.{table}")).collect();
                let name = format!("{}.{}", key.0, key.1);
                let close = close_to(&name, names.iter().map(String::as_str));
                return Err(missing(Missing::Source { name, close }));
            };
            found.lock().unwrap_or_else(PoisonError::into_inner).sources.insert(key);
            Ok(Jinja::from_object(relation.clone()))
        });

        let vars: BTreeMap<String, Value> =
            self.vars.iter().chain(&context.vars).map(|(name, value)| (name.clone(), value.clone())).collect();
        env.add_function("var", move |name: String, rest: Rest<Jinja>, named: Kwargs| -> Result<Jinja, Error> {
            // Not an `Option`, which would take a default of none for no default.
            let default = match rest.first() {
                Some(default) => default.clone(),
                None if named.has("default") => named.get("default")?,
                None => Jinja::UNDEFINED,
            };
            named.assert_all_used()?;
            match vars.get(&name) {
                Some(value) => Ok(Jinja::from(Serde(value))),
                None if default.is_undefined() => {
                    Err(refused(format!("there is no var '{name}', and no default for it")))
                }
                None => Ok(default),
            }
        });

        let incremental = context.incremental;
        env.add_function("is_incremental", move || incremental);
        env.add_global("this", Jinja::from_object(relation(template.schema, template.table)));
        env.add_global("execute", true);
        let dataset = Some(naming.dataset_prefix.clone());
        let target = [
            ("name", Some(self.project.clone())),
            ("type", Some("bigquery".to_owned())),
            ("project", naming.project.clone()),
            ("database", naming.project.clone()),
            ("schema", dataset.clone()),
            ("dataset", dataset),
        ];
        env.add_global("target", Jinja::from_pairs(target));
        env.add_global("config", Jinja::from_object(Config { values: config.clone(), seen: Arc::clone(seen) }));
    }
}

pub(super) fn environment<'source>() -> Environment<'source> {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_fuel(Some(FUEL));
    env
}

/// A table as a template sees it.
#[derive(Debug, Clone)]
struct Relation {
    text: String,
    database: Option<String>,
    schema: String,
    identifier: String,
}

impl Object for Relation {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Jinja) -> Option<Jinja> {
        match key.as_str()? {
            "database" | "project" => Some(self.database.clone().into()),
            "schema" | "dataset" => Some(self.schema.clone().into()),
            "identifier" | "name" | "table" => Some(self.identifier.clone().into()),
            _ => None,
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `config(...)` sets, `config.get('x')` reads.
#[derive(Debug)]
struct Config {
    values: BTreeMap<String, Value>,
    seen: Arc<Mutex<Seen>>,
}

impl Object for Config {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, args: &[Jinja]) -> Result<Jinja, Error> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for settings in args {
            match serde_json::to_value(settings) {
                Ok(Value::Object(settings)) => seen.config.extend(settings),
                Ok(_) => return Err(refused("config() takes settings by name".to_owned())),
                Err(error) => return Err(refused(format!("config() takes plain values: {error}"))),
            }
        }
        Ok(Jinja::from(""))
    }

    fn call_method(self: &Arc<Self>, _: &mut State<'_, '_>, method: &str, args: &[Jinja]) -> Result<Jinja, Error> {
        if method != "get" {
            return Err(Error::new(ErrorKind::UnknownMethod, format!("config has no method {method}")));
        }
        let (name, default, named): (String, Option<Jinja>, Kwargs) = minijinja::value::from_args(args)?;
        let default = match default {
            Some(default) => default,
            None => named.get::<Option<Jinja>>("default")?.unwrap_or(Jinja::from(())),
        };
        named.assert_all_used()?;
        Ok(self.values.get(&name).map_or(default, |value| Jinja::from(Serde(value))))
    }
}

/// A name that a template asked for in vain; it travels through Jinja's error to [`failure`].
#[derive(Debug, Clone, thiserror::Error)]
enum Missing {
    #[error("there is no model or seed named '{name}'")]
    Ref { name: String, close: Vec<String> },
    #[error("there is no source '{name}'")]
    Source { name: String, close: Vec<String> },
}

fn missing(missing: Missing) -> Error {
    Error::new(ErrorKind::InvalidOperation, missing.to_string()).with_source(missing)
}

fn refused(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// Our error for Jinja's, at the innermost place it knows.
pub(super) fn failure(error: &Error, file: &str, macros: &Macros) -> ProjectError {
    let mut place = Place::new(file, error.line().unwrap_or(1));
    let mut message = what(error);
    let mut absent = None;
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(inner) = error.downcast_ref::<Error>() {
            if let (Some(name), Some(line)) = (inner.name(), inner.line()) {
                place = if name == MACROS { macros.place(line) } else { Place::new(name, line) };
            }
            message = what(inner);
        }
        absent = error.downcast_ref::<Missing>().or(absent);
        cause = error.source();
    }
    match absent.cloned() {
        Some(Missing::Ref { name, close }) => ProjectError::MissingRef { place, name, close },
        Some(Missing::Source { name, close }) => ProjectError::MissingSource { place, name, close },
        None => ProjectError::Jinja { place, message },
    }
}

fn what(error: &Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), |detail| format!("{}: {detail}", error.kind()))
}
