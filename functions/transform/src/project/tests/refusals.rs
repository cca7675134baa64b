use super::{PROJECT, project, wrong};
use crate::project::{Project, ProjectError};

#[test]
fn a_missing_ref_names_its_line_and_what_was_meant() {
    let error =
        wrong(&[("models/d/stg_quakes.sql", "select 1"), ("models/d/a.sql", "select *\nfrom {{ ref('stg_quake') }}")]);
    assert!(matches!(error, ProjectError::MissingRef { .. }));
    let said = "models/d/a.sql:2: there is no model or seed named 'stg_quake'; did you mean stg_quakes?";
    assert_eq!(error.to_string(), said);
}

#[test]
fn a_missing_ref_of_the_incremental_run_alone_is_found() {
    let error = wrong(&[("models/d/a.sql", "select 1\n{% if is_incremental() %}\n{{ ref('zzzzzzzz') }}\n{% endif %}")]);
    assert_eq!(error.to_string(), "models/d/a.sql:3: there is no model or seed named 'zzzzzzzz'");
}

#[test]
fn a_missing_source_names_its_line_and_what_was_meant() {
    let error = wrong(&[("models/d/a.sql", "\n\n{{ source('raw', 'quake') }}")]);
    assert!(matches!(error, ProjectError::MissingSource { .. }));
    assert_eq!(error.to_string(), "models/d/a.sql:3: there is no source 'raw.quake'; did you mean raw.quakes?");
}

#[test]
fn two_models_of_one_name_are_refused_with_both_files() {
    let error = wrong(&[("models/d/a.sql", "select 1"), ("models/e/a.sql", "select 1")]);
    assert_eq!(error.to_string(), "'a' is there twice: models/d/a.sql:1 and models/e/a.sql:1");
}

#[test]
fn two_nodes_of_one_table_are_refused() {
    let error = wrong(&[("models/d/a.sql", "{{ config(alias='B') }}"), ("models/d/b.sql", "select 1")]);
    assert!(error.to_string().contains("models/d/a.sql:1 and models/d/b.sql:1"), "{error}");
}

#[test]
fn a_model_outside_of_a_datasets_folder_is_refused() {
    let error = wrong(&[("models/a.sql", "select 1")]);
    assert_eq!(error.to_string(), "models/a.sql: a model lies in the folder of its dataset");
}

#[test]
fn an_unknown_materialization_names_the_line_that_set_it() {
    let error = wrong(&[("models/d/a.sql", "{{ config(\n    materialized='ephemeral') }}\nselect 1")]);
    let said = "models/d/a.sql:2: unknown materialization 'ephemeral'; known are view, table and incremental";
    assert_eq!(error.to_string(), said);
    let dbt = "name: small\nmodels:\n  +schema: silver\n  small:\n    d:\n      +materialized: cube\n";
    let error = wrong(&[("dbt_project.yml", dbt), ("models/d/a.sql", "select 1")]);
    assert!(error.to_string().starts_with("dbt_project.yml:6: unknown materialization 'cube'"), "{error}");
    let yml = "models:\n  - name: a\n    config:\n      tags: x\n      materialized: cube\n";
    let error = wrong(&[("models/d/a.yml", yml), ("models/d/a.sql", "select 1")]);
    assert!(error.to_string().starts_with("models/d/a.yml:5: unknown materialization 'cube'"), "{error}");
}

#[test]
fn an_incremental_model_says_what_it_replaces() {
    for config in ["", ", incremental_strategy='insert_overwrite'", ", incremental_strategy='merge'"] {
        let error = wrong(&[("models/d/a.sql", &format!("\n{{{{ config(materialized='incremental'{config}) }}}}"))]);
        assert!(matches!(error, ProjectError::IncrementalWithoutKey { .. }), "{error}");
        assert!(error.to_string().starts_with("models/d/a.sql:2: the incremental model 'a' needs"), "{error}");
    }
}

#[test]
fn an_unknown_strategy_is_refused() {
    let error = wrong(&[("models/d/a.sql", "{{ config(materialized='incremental', incremental_strategy='append') }}")]);
    assert_eq!(
        error.to_string(),
        "models/d/a.sql:1: incremental_strategy should be merge or insert_overwrite, not append"
    );
}

#[test]
fn a_model_without_a_schema_is_refused() {
    let error = wrong(&[("dbt_project.yml", "name: small"), ("models/d/a.sql", "select 1")]);
    assert_eq!(error.to_string(), "models/d/a.sql:1: 'a' has no schema: set +schema in dbt_project.yml");
}

#[test]
fn jinja_that_does_not_parse_names_its_line() {
    let error = wrong(&[("models/d/a.sql", "select\n1\n{% if %}")]);
    assert!(error.to_string().starts_with("models/d/a.sql:3: syntax error"), "{error}");
    let error = wrong(&[("macros/m.sql", "\n{% macro m( %}"), ("models/d/a.sql", "select 1")]);
    assert!(error.to_string().starts_with("macros/m.sql:2: syntax error"), "{error}");
}

#[test]
fn an_undefined_name_names_its_line() {
    let error = wrong(&[("models/d/a.sql", "select\n{{ adapter }}")]);
    assert!(error.to_string().starts_with("models/d/a.sql:2: undefined value"), "{error}");
}

#[test]
fn a_template_that_does_not_end_is_stopped() {
    let loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% if b %}{% endif %}{% endfor %}{% endfor %}";
    let error = wrong(&[("models/d/a.sql", loops)]);
    assert!(matches!(error, ProjectError::Jinja { .. }), "{error}");
}

#[test]
fn two_macros_of_one_name_are_refused() {
    let text = "\n{% macro m() %}{% endmacro %}";
    let error = wrong(&[("macros/a.sql", text), ("macros/b.sql", text)]);
    assert_eq!(error.to_string(), "'m' is there twice: macros/a.sql:2 and macros/b.sql:2");
}

#[test]
fn a_yml_that_does_not_parse_names_its_line() {
    let error = wrong(&[("models/d/a.yml", "models:\n  - name: a\n   bad: [\n")]);
    assert!(
        matches!(&error, ProjectError::Yaml { place, .. } if place.file == "models/d/a.yml" && place.line >= 3),
        "{error}"
    );
    let error = wrong(&[("models/d/a.yml", "models: 3\n")]);
    assert_eq!(error.to_string(), "models/d/a.yml:1: models should be a list");
    let error =
        wrong(&[("models/d/a.sql", "select 1"), ("models/d/a.yml", "models:\n  - name: a\n    columns:\n      - x\n")]);
    assert_eq!(error.to_string(), "models/d/a.yml:3: each of columns should be a mapping with a name");
}

#[test]
fn properties_of_what_is_not_there_are_refused() {
    let yml = "version: 2\nmodels:\n  - name: quake\n";
    let error = wrong(&[("models/d/quakes.sql", "select 1"), ("models/d/a.yml", yml)]);
    assert_eq!(error.to_string(), "models/d/a.yml:3: properties for 'quake', which is no model; did you mean quakes?");
}

#[test]
fn properties_said_twice_are_refused() {
    let yml = "models:\n  - name: a\n";
    let error = wrong(&[("models/d/a.sql", "select 1"), ("models/d/a.yml", yml), ("models/d/b.yml", yml)]);
    assert_eq!(error.to_string(), "'a' is there twice: models/d/a.yml:2 and models/d/b.yml:2");
}

#[test]
fn a_folder_without_a_project_is_none() {
    let error = Project::load([("models/d/a.sql", "select 1")]).expect_err("there is no dbt_project.yml");
    assert!(matches!(error, ProjectError::NoProject), "{error}");
}

#[test]
fn bytes_that_are_no_text_name_their_file() {
    let error =
        Project::load([("dbt_project.yml", PROJECT.as_bytes()), ("models/d/a.sql", &[0xff])]).expect_err("not UTF-8");
    assert_eq!(error.to_string(), "models/d/a.sql is not UTF-8 text");
}

#[test]
fn a_folder_is_read_like_files_and_a_missing_one_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    };
    write("dbt_project.yml", PROJECT);
    write("models/d/gold/a.sql", "select 1");
    write("target/compiled/models/d/a.sql", "{{ broken");
    write("README.md", "no part of it");
    let read = Project::from_dir(folder.path()).expect("it loads");
    assert_eq!(
        read.model("a").map(|model| model.hash),
        project(&[("models/d/gold/a.sql", "select 1")]).model("a").map(|model| model.hash)
    );
    let error = Project::from_dir(folder.path().join("nowhere")).expect_err("there is no such folder");
    assert!(matches!(error, ProjectError::Read { .. }), "{error}");
}
