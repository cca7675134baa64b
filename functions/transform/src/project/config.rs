//! A node's settings: merged from `dbt_project.yml`, the properties yml and the file's own `config()`, in that order of
//! growing weight, and checked.
//!
//! Invariant: a [`ModelConfig`] describes something that can be built; what cannot is an error that names its line.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::error::{Place, ProjectError};
use super::yaml::shown;

/// How a model becomes something to read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Materialized {
    /// A view.
    View,
    /// A table, built whole each time.
    Table,
    /// A table of which a run replaces a part.
    Incremental(Strategy),
}

/// What a run of an incremental model replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Strategy {
    /// The rows with the keys of the new rows.
    Merge {
        /// The columns that make a row's key; at least one.
        unique_key: Vec<String>,
    },
    /// The partitions that were run. The model has a [`PartitionBy`].
    InsertOverwrite,
}

/// The column whose value says which partition a row is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionBy {
    /// The column.
    pub field: String,
    /// How its values make partitions.
    pub by: PartitionKind,
}

/// How a column's values make partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionKind {
    /// A DATE column.
    Date(Granularity),
    /// A TIMESTAMP column, in UTC.
    Timestamp(Granularity),
    /// A DATETIME column.
    DateTime(Granularity),
    /// An INT64 column: `start + n * interval`, up to and without `end`.
    Int64 {
        /// The first value.
        start: i64,
        /// The value after the last.
        end: i64,
        /// Values in a partition, at least 1.
        interval: i64,
    },
}

/// How much time a partition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granularity {
    /// A day.
    Day,
    /// A calendar month.
    Month,
    /// A calendar year.
    Year,
}

/// Settings by name, each with the line that set it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings(BTreeMap<String, (Value, Place)>);

impl Settings {
    /// Lays one setting over what is there. As in dbt, tags and hooks add up, `meta` and `column_types` are merged by
    /// key, and anything else replaces.
    pub(crate) fn set(&mut self, name: &str, value: Value, place: Place) {
        let name = name.replace('-', "_");
        let Some((current, at)) = self.0.get_mut(&name) else {
            let value = if adds_up(&name) { Value::Array(as_list(value)) } else { value };
            self.0.insert(name, (value, place));
            return;
        };
        *at = place;
        match (name.as_str(), current, value) {
            (name, Value::Array(list), value) if adds_up(name) => list.extend(as_list(value)),
            ("meta" | "column_types", Value::Object(map), Value::Object(more)) => map.extend(more),
            (_, current, value) => *current = value,
        }
    }

    /// Where a setting was set last.
    fn place(&self, name: &str, otherwise: &Place) -> Place {
        self.0.get(name).map_or_else(|| otherwise.clone(), |(_, place)| place.clone())
    }

    /// All values, by name.
    pub(crate) fn values(&self) -> BTreeMap<String, Value> {
        self.0.iter().map(|(name, (value, _))| (name.clone(), value.clone())).collect()
    }

    /// The setting as text.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, ProjectError> {
        match self.0.get(name) {
            None | Some((Value::Null, _)) => Ok(None),
            Some((Value::String(text), _)) if !text.contains("{{") => Ok(Some(text)),
            Some((value, place)) => Err(wrong(place, name, "a text without Jinja", value)),
        }
    }

    /// The setting as a list of texts; one text is a list of one.
    fn texts(&self, name: &str) -> Result<Vec<String>, ProjectError> {
        let Some((value, place)) = self.0.get(name) else {
            return Ok(Vec::new());
        };
        as_list(value.clone())
            .into_iter()
            .map(|item| match item {
                Value::String(text) if !text.is_empty() => Ok(text),
                _ => Err(wrong(place, name, "a name or a list of names", value)),
            })
            .collect()
    }

    /// Whether the node exists at all: `enabled`.
    pub(crate) fn enabled(&self) -> Result<bool, ProjectError> {
        match self.0.get("enabled") {
            None | Some((Value::Null, _)) => Ok(true),
            Some((Value::Bool(enabled), _)) => Ok(*enabled),
            Some((value, place)) => Err(wrong(place, "enabled", "true or false", value)),
        }
    }

    /// Schema and table of a node: `schema`, and `alias` or the node's name.
    pub(crate) fn relation(&self, name: &str, file: &Place) -> Result<(String, String), ProjectError> {
        let Some(schema) = self.text("schema")? else {
            return Err(ProjectError::Config {
                place: file.clone(),
                message: format!("'{name}' has no schema: set +schema in dbt_project.yml"),
            });
        };
        let alias = self.text("alias")?.unwrap_or(name);
        for (setting, value) in [("schema", schema), ("alias", alias)] {
            if !is_identifier(value) {
                return Err(wrong(&self.place(setting, file), setting, "letters, digits and _", &value.into()));
            }
        }
        Ok((schema.to_owned(), alias.to_owned()))
    }

    /// `meta.neighbour_days`: a setting of ours, so it stands where dbt lets everything stand.
    fn neighbour_days(&self) -> Result<u32, ProjectError> {
        let Some((Value::Object(meta), place)) = self.0.get("meta") else { return Ok(0) };
        let Some(value) = meta.get("neighbour_days") else { return Ok(0) };
        let days = value.as_u64().filter(|days| *days <= 31).and_then(|days| u32::try_from(days).ok());
        days.ok_or_else(|| wrong(place, "meta.neighbour_days", "a number of days from 0 to 31", value))
    }

    /// `column_types`, by column.
    pub(crate) fn column_types(&self) -> Result<Vec<(String, String, Place)>, ProjectError> {
        match self.0.get("column_types") {
            None | Some((Value::Null, _)) => Ok(Vec::new()),
            Some((Value::Object(types), place)) => types
                .iter()
                .map(|(column, value)| match value.as_str() {
                    Some(name) => Ok((column.clone(), name.to_owned(), place.clone())),
                    None => Err(wrong(place, column, "the name of a type", value)),
                })
                .collect(),
            Some((value, place)) => Err(wrong(place, "column_types", "types by column", value)),
        }
    }
}

/// The checked settings of a model.
#[derive(Debug, Clone)]
pub(crate) struct ModelConfig {
    pub(crate) materialized: Materialized,
    pub(crate) partition_by: Option<PartitionBy>,
    pub(crate) cluster_by: Vec<String>,
    pub(crate) neighbour_days: u32,
}

impl ModelConfig {
    /// Checks the settings of a model whose file begins at `file`.
    pub(crate) fn read(settings: &Settings, model: &str, file: &Place) -> Result<Self, ProjectError> {
        let partition_by = match settings.0.get("partition_by") {
            None | Some((Value::Null, _)) => None,
            Some((Value::Object(map), place)) => Some(partition_by(map, place)?),
            Some((value, place)) => {
                return Err(wrong(place, "partition_by", "a mapping with field and data_type", value));
            }
        };
        let cluster_by = settings.texts("cluster_by")?;
        if cluster_by.len() > 4 {
            return Err(ProjectError::Config {
                place: settings.place("cluster_by", file),
                message: format!("cluster_by has {} columns, and BigQuery takes 4", cluster_by.len()),
            });
        }
        let materialized = match settings.text("materialized")? {
            None | Some("view") => Materialized::View,
            Some("table") => Materialized::Table,
            Some("incremental") => Materialized::Incremental(strategy(settings, model, file, partition_by.is_some())?),
            Some(other) => {
                let place = settings.place("materialized", file);
                return Err(ProjectError::UnknownMaterialization { place, name: other.to_owned() });
            }
        };
        let neighbour_days = settings.neighbour_days()?;
        Ok(Self { materialized, partition_by, cluster_by, neighbour_days })
    }
}

fn strategy(settings: &Settings, model: &str, file: &Place, partitioned: bool) -> Result<Strategy, ProjectError> {
    let without_key =
        || ProjectError::IncrementalWithoutKey { place: settings.place("materialized", file), model: model.to_owned() };
    match settings.text("incremental_strategy")? {
        None | Some("merge") => {
            let unique_key = settings.texts("unique_key")?;
            if unique_key.is_empty() { Err(without_key()) } else { Ok(Strategy::Merge { unique_key }) }
        }
        Some("insert_overwrite") if partitioned => Ok(Strategy::InsertOverwrite),
        Some("insert_overwrite") => Err(without_key()),
        Some(other) => Err(wrong(
            &settings.place("incremental_strategy", file),
            "incremental_strategy",
            "merge or insert_overwrite",
            &other.into(),
        )),
    }
}

fn partition_by(map: &Map<String, Value>, place: &Place) -> Result<PartitionBy, ProjectError> {
    let Some(field) = map.get("field").and_then(Value::as_str).filter(|field| is_identifier(field)) else {
        return Err(wrong(
            place,
            "partition_by.field",
            "the name of a column",
            map.get("field").unwrap_or(&Value::Null),
        ));
    };
    let data_type = map.get("data_type").map_or_else(|| "date".to_owned(), |value| shown(value).to_lowercase());
    let by = match data_type.as_str() {
        "date" => PartitionKind::Date(granularity(map, place)?),
        "timestamp" => PartitionKind::Timestamp(granularity(map, place)?),
        "datetime" => PartitionKind::DateTime(granularity(map, place)?),
        "int64" => {
            let number = |key: &str| map.get("range").and_then(|range| range.get(key)).and_then(Value::as_i64);
            match (number("start"), number("end"), number("interval")) {
                (Some(start), Some(end), Some(interval)) if start < end && interval > 0 => {
                    PartitionKind::Int64 { start, end, interval }
                }
                _ => {
                    let range = map.get("range").unwrap_or(&Value::Null);
                    return Err(wrong(place, "partition_by.range", "start, a larger end and an interval", range));
                }
            }
        }
        _ => {
            return Err(wrong(
                place,
                "partition_by.data_type",
                "date, timestamp, datetime or int64",
                &data_type.into(),
            ));
        }
    };
    Ok(PartitionBy { field: field.to_owned(), by })
}

fn granularity(map: &Map<String, Value>, place: &Place) -> Result<Granularity, ProjectError> {
    let name = map.get("granularity").map_or_else(|| "day".to_owned(), |value| shown(value).to_lowercase());
    match name.as_str() {
        "day" => Ok(Granularity::Day),
        "month" => Ok(Granularity::Month),
        "year" => Ok(Granularity::Year),
        _ => Err(wrong(place, "partition_by.granularity", "day, month or year", &name.into())),
    }
}

/// The settings that `dbt_project.yml` has for a node, outermost first: `fqn` is the project, the folders and the name.
/// As in dbt, a key with a plus is a setting, and so is one without whose value is no mapping.
pub(crate) fn project_levels<'v>(root: &'v Map<String, Value>, fqn: &[&str]) -> Vec<(usize, &'v str, &'v Value)> {
    let mut found = Vec::new();
    let mut level = Some(root);
    for depth in 0..=fqn.len() {
        let Some(map) = level else { break };
        for (key, value) in map {
            if let Some(name) = key.strip_prefix('+') {
                found.push((depth, name.trim(), value));
            } else if !value.is_object() {
                found.push((depth, key.as_str(), value));
            }
        }
        level = fqn.get(depth).and_then(|part| map.get(*part)).and_then(Value::as_object);
    }
    found
}

fn wrong(place: &Place, name: &str, wanted: &str, value: &Value) -> ProjectError {
    ProjectError::Config { place: place.clone(), message: format!("{name} should be {wanted}, not {}", shown(value)) }
}

fn adds_up(name: &str) -> bool {
    matches!(name, "tags" | "pre_hook" | "post_hook")
}

fn as_list(value: Value) -> Vec<Value> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(list) => list,
        one => vec![one],
    }
}

/// Whether a name can stand between backticks in any place of a query.
pub(crate) fn is_identifier(name: &str) -> bool {
    !name.is_empty() && name.len() <= 300 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
