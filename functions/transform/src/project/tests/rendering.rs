use std::collections::BTreeMap;

use serde_json::json;

use super::{model, project, sql, wrong};
use crate::project::{Naming, ProjectError, RenderContext};

const INCREMENTAL: &str = "{{ config(materialized='incremental', unique_key='id') }}\n";

#[test]
fn names_are_qualified_and_quoted() {
    let project = project(&[
        ("models/d/a.sql", "select * from {{ source('raw', 'quakes') }}"),
        (
            "models/d/b.sql",
            "select * from {{ ref('a') }} -- {{ this }} {{ this.schema }} {{ ref('small', 'a').identifier }}",
        ),
    ]);
    assert_eq!(sql(model(&project, "a"), false), "select * from `raw`.`quakes`");
    assert_eq!(sql(model(&project, "b"), false), "select * from `silver`.`a` -- `silver`.`b` silver a");
    let naming = Naming { project: Some("p-1".to_owned()), dataset_prefix: "dev_".to_owned() };
    let context = RenderContext { naming, ..RenderContext::default() };
    let rendered = model(&project, "a").render(&context).expect("it renders");
    assert_eq!(rendered.sql, "select * from `p-1`.`dev_raw`.`quakes`");
}

#[test]
fn is_incremental_holds_in_an_incremental_run_of_an_incremental_model() {
    let text = "select {{ 1 if is_incremental() else 0 }}";
    let project = project(&[("models/d/a.sql", &format!("{INCREMENTAL}{text}")), ("models/d/b.sql", text)]);
    assert_eq!(sql(model(&project, "a"), true).trim(), "select 1");
    assert_eq!(sql(model(&project, "a"), false).trim(), "select 0");
    assert_eq!(sql(model(&project, "b"), true), "select 0");
}

#[test]
fn a_reference_of_either_run_is_a_parent() {
    let project = project(&[
        ("models/d/full.sql", "select 1"),
        ("models/d/part.sql", "select 1"),
        (
            "models/d/a.sql",
            &format!(
                "{INCREMENTAL}select * from {{% if is_incremental() %}}{{{{ ref('part') }}}}{{% else %}}{{{{ ref('full') }}}}{{% endif %}}"
            ),
        ),
    ]);
    assert_eq!(model(&project, "a").refs, ["full", "part"]);
}

#[test]
fn a_var_is_the_runs_then_the_projects_then_the_default() {
    let dbt = "name: small\nmodels: {+schema: silver}\nvars:\n  general: 1\n  shadowed: 1\n  small:\n    shadowed: 2\n";
    let project = project(&[
        ("dbt_project.yml", dbt),
        (
            "models/d/a.sql",
            "{{ var('general') }} {{ var('shadowed') }} {{ var('none', default=3) }} {{ var('list', []) | length }}",
        ),
    ]);
    assert_eq!(sql(model(&project, "a"), false), "1 2 3 0");
    let vars = BTreeMap::from([("general".to_owned(), json!("x")), ("list".to_owned(), json!(["a", "b"]))]);
    let rendered =
        model(&project, "a").render(&RenderContext { vars, ..RenderContext::default() }).expect("it renders");
    assert_eq!(rendered.sql, "x 2 3 2");
}

#[test]
fn a_var_that_nobody_set_is_an_error() {
    let error = wrong(&[("models/d/a.sql", "select\n{{ var('nope') }}")]);
    assert!(matches!(error, ProjectError::Jinja { .. }), "{error}");
    assert_eq!(error.to_string(), "models/d/a.sql:2: invalid operation: there is no var 'nope', and no default for it");
}

#[test]
fn macros_are_called_by_bare_name_and_call_each_other_across_files() {
    let project = project(&[
        ("macros/a.sql", "{% macro outer(x) %}<{{ inner(x, y=2) }}>{% endmacro %}"),
        ("macros/b.sql", "{% macro inner(x, y=1) %}{{ x }}{{ y }}{{ this }}{{ is_incremental() }}{% endmacro %}"),
        ("models/d/a.sql", "{{ outer('q') }}"),
    ]);
    assert_eq!(sql(model(&project, "a"), false), "<q2`silver`.`a`False>");
}

#[test]
fn config_is_read_back() {
    let project = project(&[("models/d/a.sql", "{{ config(tags=['x']) }}{{ config.get('tags', ['none'])[0] }}")]);
    assert_eq!(sql(model(&project, "a"), false), "x");
}

#[test]
fn an_error_in_a_macro_names_the_macros_file_and_line() {
    let error = wrong(&[
        ("macros/a.sql", "{% macro fine() %}\n\n{% endmacro %}\n"),
        ("macros/b.sql", "\n{% macro broken() %}\n{{ nothing.here }}\n{% endmacro %}"),
        ("models/d/a.sql", "{{ broken() }}"),
    ]);
    assert!(error.to_string().starts_with("macros/b.sql:3: undefined value"), "{error}");
}

#[test]
fn the_hash_follows_text_settings_macros_and_vars() {
    let dbt = "name: small\nmodels: {+schema: silver}\n";
    let base =
        [("dbt_project.yml", dbt), ("macros/m.sql", "{% macro m() %}1{% endmacro %}"), ("models/d/a.sql", "select 1")];
    let hash = |files: &[(&str, &str)]| model(&project(files), "a").hash;
    let first = hash(&base);
    assert_eq!(first, hash(&base));
    for (at, changed) in [
        (0, "name: small\nmodels: {+schema: silver, +materialized: table}\n"),
        (0, "name: small\nmodels: {+schema: silver}\nvars: {x: 1}\n"),
        (1, "{% macro m() %}2{% endmacro %}"),
        (2, "select 2"),
    ] {
        let mut files = base;
        files[at].1 = changed;
        assert_ne!(first, hash(&files), "{changed}");
    }
}

#[test]
fn the_hash_follows_the_tables_that_are_read() {
    let hash = |schema: &str| {
        let parent = format!("{{{{ config(schema='{schema}') }}}}select 1");
        let project = project(&[("models/d/a.sql", "select * from {{ ref('b') }}"), ("models/d/b.sql", &parent)]);
        model(&project, "a").hash
    };
    assert_ne!(hash("silver"), hash("gold"));
}
