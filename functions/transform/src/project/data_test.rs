//! Tests of data, declared in yml: `not_null`, `unique`, `accepted_values` and `relationships`.
//!
//! A test is a count of rows that should not be there. All tests of a table can be asked in one query, which reads each
//! column once: warehouses charge by the query and by the column.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::error::{Place, ProjectError};
use super::jinja::Naming;
use super::yaml::{Word, Yaml, list, shown, text};

/// How bad a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The data is wrong.
    Error,
    /// Someone should look.
    Warn,
}

/// What a test asks of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// No value is null.
    NotNull,
    /// No value comes twice. Nulls are not counted.
    Unique,
    /// Every value is one of these, or null. They are SQL literals.
    AcceptedValues(Vec<String>),
    /// Every value is in another table's column, or null.
    Relationships {
        /// The other table's schema.
        schema: String,
        /// The other table.
        table: String,
        /// Its column.
        field: String,
    },
}

/// A test of a table's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataTest {
    /// Unique in the project, and made as dbt makes it: `not_null_fct_earthquakes_event_id`.
    pub name: String,
    /// The model or seed, or a source as `source.table`.
    pub on: String,
    /// The column, or an expression.
    pub column: String,
    /// What is asked.
    pub check: Check,
    /// Only rows for which this holds are tested.
    pub condition: Option<String>,
    /// How bad a failure is.
    pub severity: Severity,
    /// Where it is declared.
    pub place: Place,
    pub(crate) schema: String,
    pub(crate) table: String,
}

impl DataTest {
    /// A query of one row and one column, `failures`: how many rows fail. For `unique`, how many there are too many.
    pub fn sql(&self, naming: &Naming) -> String {
        match self.aggregate() {
            Some(count) => format!("select {count} as failures from {}", self.tested(naming, None)),
            None => format!("select count(*) as failures from {}", self.orphans(naming, None)),
        }
    }

    /// The count over the tested rows, for a check that needs no other table.
    fn aggregate(&self) -> Option<String> {
        let column = &self.column;
        match &self.check {
            Check::NotNull => Some(format!("countif({column} is null)")),
            Check::Unique => Some(format!("count({column}) - count(distinct {column})")),
            Check::AcceptedValues(values) => Some(format!("countif({column} not in ({}))", values.join(", "))),
            Check::Relationships { .. } => None,
        }
    }

    fn tested(&self, naming: &Naming, filter: Option<&str>) -> String {
        let conditions: Vec<String> =
            self.condition.as_deref().into_iter().chain(filter).map(|condition| format!("({condition})")).collect();
        let table = naming.table(&self.schema, &self.table);
        if conditions.is_empty() { table } else { format!("{table} where {}", conditions.join(" and ")) }
    }

    /// The rows whose value is not in the other table, after `from`.
    fn orphans(&self, naming: &Naming, filter: Option<&str>) -> String {
        let Check::Relationships { schema, table, field } = &self.check else {
            return self.tested(naming, filter);
        };
        format!(
            "(select {} as child_key from {}) as children left join (select {field} as parent_key from {}) as parents \
             on children.child_key = parents.parent_key \
             where children.child_key is not null and parents.parent_key is null",
            self.column,
            self.tested(naming, filter),
            naming.table(schema, table),
        )
    }
}

/// One query for many tests: a row for each with its name, `test`, and its count of `failures`. `None` without tests.
///
/// `filter` is laid over every test's own condition, such as the partitions that a run touched: then `unique` speaks of
/// these rows alone.
pub fn combined_sql<'t>(
    tests: impl IntoIterator<Item = &'t DataTest>,
    naming: &Naming,
    filter: Option<&str>,
) -> Option<String> {
    let mut scans: BTreeMap<String, Vec<(&str, String)>> = BTreeMap::new();
    let mut selects = Vec::new();
    for test in tests {
        let name = literal(&test.name);
        match test.aggregate() {
            Some(count) => scans.entry(test.tested(naming, filter)).or_default().push((&test.name, count)),
            None => selects
                .push(format!("select {name} as test, count(*) as failures from {}", test.orphans(naming, filter))),
        }
    }
    let scans = scans.iter().map(|(tested, counts)| one_scan(tested, counts));
    let all: Vec<String> = scans.chain(selects).collect();
    if all.is_empty() { None } else { Some(all.join("\nunion all\n")) }
}

/// Counts side by side in one scan, then turned into rows: a union of counts would read the table once for each.
fn one_scan(tested: &str, counts: &[(&str, String)]) -> String {
    let (mut names, mut values, mut columns, mut numbers) =
        (String::new(), String::new(), String::new(), String::new());
    for (number, (name, count)) in counts.iter().enumerate() {
        let comma = if number == 0 { "" } else { ", " };
        let union = if number == 0 { "" } else { " union all " };
        // Writing to a string cannot fail.
        let _ = write!(names, " when {number} then {}", literal(name));
        let _ = write!(values, " when {number} then failures_{number}");
        let _ = write!(columns, "{comma}{count} as failures_{number}");
        let _ = write!(numbers, "{union}select {number} as test_number");
    }
    format!(
        "select case numbers.test_number{names} end as test, case numbers.test_number{values} end as failures\n\
         from (select {columns} from {tested}) as counts\ncross join ({numbers}) as numbers"
    )
}

/// A text as a literal of BigQuery's SQL.
fn literal(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('\'');
    for c in text.chars() {
        match c {
            '\'' | '\\' => literal.extend(['\\', c]),
            '\n' => literal.push_str("\\n"),
            '\r' => literal.push_str("\\r"),
            _ => literal.push(c),
        }
    }
    literal.push('\'');
    literal
}

/// A test as a yml declares it, before it is known which tables it speaks of.
#[derive(Debug, Clone)]
pub(crate) struct Declared {
    pub(crate) name: String,
    pub(crate) column: String,
    pub(crate) check: DeclaredCheck,
    pub(crate) condition: Option<String>,
    pub(crate) severity: Severity,
    pub(crate) place: Place,
}

#[derive(Debug, Clone)]
pub(crate) enum DeclaredCheck {
    Own(Check),
    /// `to` and `field`.
    Relationships(String, String),
}

/// Reads the tests of a table or of one of its columns. `path` leads to the mapping that has them.
pub(crate) fn declared(
    yaml: &Yaml<'_>,
    map: &Map<String, Value>,
    on: &str,
    column: Option<&str>,
    path: &[Word<'_>],
) -> Result<Vec<Declared>, ProjectError> {
    let mut found = Vec::new();
    for key in ["tests", "data_tests"] {
        let entries =
            list(map, key).ok_or_else(|| yaml.error(&with(path, Word::Key(key)), format!("{key} should be a list")))?;
        for entry in entries {
            found.push(one(yaml, entry, on, column, path)?);
        }
    }
    Ok(found)
}

fn with<'w>(path: &[Word<'w>], word: Word<'w>) -> Vec<Word<'w>> {
    path.iter().copied().chain([word]).collect()
}

fn one(
    yaml: &Yaml<'_>,
    entry: &Value,
    on: &str,
    column: Option<&str>,
    path: &[Word<'_>],
) -> Result<Declared, ProjectError> {
    let empty = Map::new();
    let (kind, body) = match entry {
        Value::String(kind) => (kind.as_str(), &empty),
        Value::Object(map) => match (text(map, "test_name"), map.iter().next()) {
            (Some(kind), _) => (kind, map),
            (None, Some((kind, Value::Object(body)))) if map.len() == 1 => (kind.as_str(), body),
            (None, Some((kind, Value::Null))) if map.len() == 1 => (kind.as_str(), &empty),
            _ => {
                return Err(yaml.error(path, "a test should be a name, or one name with its arguments"));
            }
        },
        _ => {
            return Err(yaml.error(path, "a test should be a name, or one name with its arguments"));
        }
    };
    let words = with(path, Word::Key(kind));
    let wrong = |message: String| yaml.error(&words, format!("{kind}: {message}"));

    // Since dbt 1.10 arguments have a mapping of their own; before, they stood beside `config`.
    let arguments = body.get("arguments").and_then(Value::as_object).unwrap_or(&empty);
    let argument = |name: &str| arguments.get(name).or_else(|| body.get(name)).filter(|value| !value.is_null());
    let config = body.get("config").and_then(Value::as_object).unwrap_or(&empty);
    let setting = |name: &str| config.get(name).or_else(|| body.get(name)).filter(|value| !value.is_null());

    let column = match (argument("column_name"), column) {
        (Some(column), _) => shown(column),
        (None, Some(column)) => column.to_owned(),
        (None, None) => {
            return Err(wrong("a test of a whole table needs a column_name".to_owned()));
        }
    };
    let mut label = format!("{kind}_{}_{column}", on.replace('.', "_"));
    let check = match kind {
        "not_null" => DeclaredCheck::Own(Check::NotNull),
        "unique" => DeclaredCheck::Own(Check::Unique),
        "accepted_values" => {
            let values = argument("values").and_then(Value::as_array).filter(|values| !values.is_empty());
            let values = values.ok_or_else(|| wrong("values should be a list with something in it".to_owned()))?;
            let quote = argument("quote").and_then(Value::as_bool).unwrap_or(true);
            let mut literals = Vec::with_capacity(values.len());
            for value in values {
                if value.is_null() || value.is_array() || value.is_object() {
                    return Err(wrong("values should be texts, numbers or booleans".to_owned()));
                }
                let value = shown(value);
                label.push_str("__");
                label.push_str(&value);
                literals.push(if quote { literal(&value) } else { value });
            }
            DeclaredCheck::Own(Check::AcceptedValues(literals))
        }
        "relationships" => {
            let text = |name: &str| argument(name).and_then(Value::as_str);
            let to = text("to").ok_or_else(|| wrong("to should be ref('...') or source('...', '...')".to_owned()))?;
            let field = text("field").ok_or_else(|| wrong("field should be the name of a column".to_owned()))?;
            label = format!("{label}__{field}__{to}");
            DeclaredCheck::Relationships(to.to_owned(), field.to_owned())
        }
        _ => {
            return Err(ProjectError::UnknownTest { place: yaml.place(&words), name: kind.to_owned() });
        }
    };
    let severity = match setting("severity").map(|value| shown(value).to_lowercase()).as_deref() {
        None | Some("error") => Severity::Error,
        Some("warn") => Severity::Warn,
        Some(other) => {
            return Err(wrong(format!("severity should be error or warn, not {other}")));
        }
    };
    let condition = setting("where").map(shown);
    if condition.as_deref().is_some_and(|condition| condition.contains("{{") || condition.contains("{%")) {
        return Err(wrong("where cannot hold Jinja".to_owned()));
    }
    let name = text(body, "name").map_or_else(|| name_of(&label), str::to_owned);
    Ok(Declared { name, column, check, condition, severity, place: yaml.place(&words) })
}

/// A name of letters, digits and underscores, as dbt makes it.
fn name_of(label: &str) -> String {
    let mut name = String::with_capacity(label.len());
    for c in label.chars() {
        let c = if c.is_alphanumeric() { c } else { '_' };
        name.push(c);
    }
    name.trim_end_matches('_').to_owned()
}
