//! Google's own analyzer on the SQL of the models: what it refuses, BigQuery refuses.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use arrow::datatypes::DataType;
use cloud::bigquery::sql;
use serde_json::{Value, json};
use shared::datasets::shipped;
use shared::table::TableName;
use transform::project::{Materialized, Model, Naming, Node, Project, RenderContext, Strategy, combined_sql};
use transform::run;

/// What the analyzer has against a document, a line each.
fn errors(document: &Value) -> Vec<String> {
    let python = std::env::var("EMULATORS_PYTHON");
    assert!(python.is_ok(), "a Python that has the analyzer is prepared by tests/emulators/run");
    let mut analyzer = Command::new(python.unwrap())
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/emulators/services/analyzer.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    analyzer.stdin.take().unwrap().write_all(document.to_string().as_bytes()).unwrap();
    let output = analyzer.wait_with_output().unwrap();
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let errors: Vec<String> = said.lines().map(str::to_owned).collect();
    let expected = if errors.is_empty() { Some(0) } else { Some(1) };
    assert_eq!(output.status.code(), expected, "the analyzer failed:\n{said}{complained}");
    errors
}

fn bigquery_type(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Utf8 => "STRING",
        DataType::Int64 => "INT64",
        DataType::Float64 => "FLOAT64",
        DataType::Timestamp(..) => "TIMESTAMP",
        other => panic!("no table of a source has {other}"),
    }
}

/// The raw tables of all datasets, and the seeds.
fn given(project: &Project) -> Value {
    let mut tables = BTreeMap::new();
    for dataset in shipped().iter() {
        let schema = dataset.table().schema();
        let columns = schema.fields().iter().map(|field| (field.name().clone(), bigquery_type(field.data_type())));
        tables.insert(TableName::raw(dataset.name()).to_string(), columns.collect::<BTreeMap<_, _>>());
    }
    for seed in project.seeds() {
        let columns = seed.columns.iter().map(|(name, data_type)| (name.clone(), data_type.name()));
        tables.insert(format!("{}.{}", seed.schema, seed.table), columns.collect());
    }
    json!(tables)
}

fn rendered(model: &Model, context: &RenderContext) -> String {
    model.render(context).unwrap().sql
}

/// The columns that a model's yml describes, by their types.
fn described(model: &Model) -> Value {
    model.columns.iter().map(|column| json!([column.name, column.data_type])).collect()
}

/// What the warehouse runs for a model: a new table, a merge in two statements, an overwrite of partitions.
fn around(model: &Model) -> Vec<Value> {
    let table = TableName::new(&model.schema, &model.table);
    let of = run::layout(model);
    let columns: Vec<String> = model.columns.iter().map(|column| column.name.clone()).collect();
    let days = ["2025-07-23", "2025-07-24"];
    let vars = BTreeMap::from([("changed_partitions".to_owned(), json!(days))]);
    let context = RenderContext { incremental: model.is_incremental(), vars, ..RenderContext::default() };
    let partitions = days.iter().map(|day| day.parse().unwrap()).collect();
    let model_sql = rendered(model, &context);
    let script = match (&model.materialized, &of.partition_by) {
        (Materialized::Incremental(Strategy::Merge { unique_key }), by) => {
            let through = TableName::new(&model.schema, format!("{}__delta_1", model.table));
            let (before, after) = sql::delta(&through, &table, by.as_ref(), unique_key);
            let pruned = by.as_ref().map(|by| sql::in_partitions(by, "strata_there.", &partitions));
            let merge = sql::merge(&table, &through, &columns, unique_key, pruned.as_deref());
            format!("{before}\n{model_sql}\n{after};\n{merge}")
        }
        (Materialized::Incremental(Strategy::InsertOverwrite), Some(by)) => {
            let (before, after) = sql::overwrite(&table, &columns, by, &partitions);
            format!("{before}\n{model_sql}\n{after}")
        }
        _ => format!("create or replace table {}{} as\n{model_sql}", sql::name(&table), sql::layout(&of)),
    };
    let whole = rendered(model, &RenderContext::default());
    let whole = format!("create or replace table {}{} as\n{whole}", sql::name(&table), sql::layout(&of));
    let named = |what: &str, sql: String| json!({ "name": format!("{} of {table}", what), "sql": sql });
    vec![named("a new table", whole), named("an increment", script)]
}

/// A model from nothing; and, if it is incremental, for all days, for none and for some.
fn forms(model: &Model) -> Vec<Value> {
    let creates = format!("{}.{}", model.schema, model.table);
    let full = rendered(model, &RenderContext::default());
    let mut forms = vec![json!({ "name": model.path, "sql": full, "creates": creates, "columns": described(model) })];
    for days in [json!(null), json!([]), json!(["2025-07-23", "2025-07-24", "2025-08-02"])] {
        let name = format!("{} for {days}", model.path);
        let vars = BTreeMap::from([("changed_partitions".to_owned(), days)]);
        let context = RenderContext { incremental: true, vars, ..RenderContext::default() };
        if model.is_incremental() {
            forms.push(json!({ "name": name, "sql": rendered(model, &context), "columns": described(model) }));
        }
    }
    forms
}

#[test]
#[ignore = "tests/emulators/run starts what it needs"]
fn bigquery_reads_every_model_as_it_is_described_and_its_tests() {
    let project = Project::embedded().unwrap();
    let mut statements: Vec<Value> = project.models().flat_map(forms).collect();
    let of_sources = project.sources().map(|source| format!("{}.{}", source.source, source.table));
    for name in project.nodes().map(Node::name).map(str::to_owned).chain(of_sources) {
        if let Some(sql) = combined_sql(project.tests_of(&name), &Naming::default(), None) {
            statements.push(json!({ "name": format!("tests of {name}"), "sql": sql }));
        }
    }
    statements.extend(project.models().flat_map(around));
    let errors = errors(&json!({ "tables": given(&project), "statements": statements }));
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

#[test]
#[ignore = "tests/emulators/run starts what it needs"]
fn a_statement_that_bigquery_would_not_take_is_named() {
    let tables = json!({ "raw.quakes": { "id": "STRING", "time": "TIMESTAMP" } });
    let made = "create or replace table silver.days partition by day as select date(time) as day from `raw`.`quakes`; \
                delete from silver.days where day in (date '2025-07-23')";
    let statements = json!([
        { "name": "a script", "sql": made },
        { "name": "a query", "sql": "select day from silver.days", "creates": "gold.days", "columns": [["day", "date"]] },
        { "name": "no column", "sql": "select\n  nights from gold.days" },
        { "name": "no type", "sql": "select cast(id as double) from raw.quakes" },
        { "name": "no table", "sql": "select 1 from gold.nights" },
        { "name": "no comparison", "sql": "select id > 5 from raw.quakes" },
        { "name": "no date", "sql": "select time as day from raw.quakes", "columns": [["day", "date"]] },
    ]);
    let errors = errors(&json!({ "tables": tables, "statements": statements }));
    let names: Vec<&str> = errors.iter().filter_map(|error| Some(error.split_once(": ")?.0)).collect();
    assert_eq!(names, ["no column", "no type", "no table", "no comparison", "no date"], "{errors:?}");
    assert!(errors[0].ends_with("Unrecognized name: nights [at 2:3]"), "{errors:?}");
}
