use serde_json::json;

use super::{model, project, sql, wrong};
use crate::project::{Granularity, Materialized, PartitionBy, PartitionKind, ProjectError, Strategy};

#[test]
fn the_file_beats_the_yml_beats_the_project_and_folders_beat_their_parents() {
    let dbt = "name: small\nmodels:\n  +schema: silver\n  +tags: all\n  small:\n    +materialized: table\n    d:\n      gold:\n        +schema: gold\n        materialized: view\n";
    let yml = "models:\n  - name: by_yml\n    config: {materialized: table, tags: [yml]}\n  - name: by_file\n    config: {materialized: table, tags: [yml]}\n";
    let project = project(&[
        ("dbt_project.yml", dbt),
        ("models/d/m.yml", yml),
        ("models/d/plain.sql", "select 1"),
        ("models/d/gold/by_folder.sql", "select 1"),
        ("models/d/gold/by_yml.sql", "select 1"),
        ("models/d/gold/by_file.sql", "{{ config(materialized='view', tags='file', schema='raw') }}select 1"),
    ]);
    let found = |name: &str| {
        let model = model(&project, name);
        (model.schema.as_str(), model.materialized.clone(), model.config["tags"].clone())
    };
    assert_eq!(found("plain"), ("silver", Materialized::Table, json!(["all"])));
    assert_eq!(found("by_folder"), ("gold", Materialized::View, json!(["all"])));
    assert_eq!(found("by_yml"), ("gold", Materialized::Table, json!(["all", "yml"])));
    assert_eq!(found("by_file"), ("raw", Materialized::View, json!(["all", "yml", "file"])));
}

#[test]
fn a_model_is_a_view_unless_it_says_otherwise() {
    let project = project(&[("models/d/a.sql", "select 1")]);
    assert_eq!(model(&project, "a").materialized, Materialized::View);
}

#[test]
fn an_alias_is_the_tables_name_and_not_the_models() {
    let project =
        project(&[("models/d/a.sql", "{{ config(alias='b') }}select 1"), ("models/d/c.sql", "{{ ref('a') }}")]);
    assert_eq!(sql(model(&project, "c"), false), "`silver`.`b`");
}

#[test]
fn incremental_strategies_and_partitions_are_read() {
    let text = |config: &str| format!("{{{{ config(materialized='incremental', {config}) }}}}select 1");
    let project = project(&[
        ("models/d/merge.sql", &text("unique_key=['a', 'b'], cluster_by='a'")),
        (
            "models/d/overwrite.sql",
            &text(
                "incremental_strategy='insert_overwrite', partition_by={'field': 'at', 'data_type': 'timestamp', 'granularity': 'month'}",
            ),
        ),
        (
            "models/d/years.sql",
            &text(
                "incremental_strategy='insert_overwrite', partition_by={'field': 'y', 'data_type': 'int64', 'range': {'start': 1798, 'end': 2100, 'interval': 1}}",
            ),
        ),
    ]);
    let merge = model(&project, "merge");
    let unique_key = vec!["a".to_owned(), "b".to_owned()];
    assert_eq!(merge.materialized, Materialized::Incremental(Strategy::Merge { unique_key }));
    assert_eq!(merge.cluster_by, ["a"]);
    assert_eq!(merge.partition_by, None);
    let overwrite = model(&project, "overwrite");
    assert_eq!(overwrite.materialized, Materialized::Incremental(Strategy::InsertOverwrite));
    let by = PartitionKind::Timestamp(Granularity::Month);
    assert_eq!(overwrite.partition_by, Some(PartitionBy { field: "at".to_owned(), by }));
    let by = PartitionKind::Int64 { start: 1798, end: 2100, interval: 1 };
    assert_eq!(model(&project, "years").partition_by, Some(PartitionBy { field: "y".to_owned(), by }));
}

#[test]
fn a_partition_of_a_kind_we_do_not_have_is_refused() {
    let error =
        wrong(&[("models/d/a.sql", "select 1\n{{ config(\n  partition_by={'field': 'at', 'granularity': 'hour'}) }}")]);
    let said = "models/d/a.sql:3: partition_by.granularity should be day, month or year, not hour";
    assert_eq!(error.to_string(), said);
}

#[test]
fn a_disabled_model_is_not_there() {
    let off = "{{ config(enabled=false) }}select 1";
    let project = project(&[("models/d/a.sql", off), ("models/d/b.sql", "select 1")]);
    assert!(project.model("a").is_none());
    let error = wrong(&[("models/d/a.sql", off), ("models/d/b.sql", "{{ ref('a') }}")]);
    assert!(matches!(error, ProjectError::MissingRef { .. }), "{error}");
}

#[test]
fn columns_and_descriptions_come_from_the_yml_and_unknown_keys_are_passed_over() {
    let yml = "models:\n  - name: a\n    description: >\n      Words.\n    surprise: 1\n    columns:\n      - name: x\n        description: An x\n        data_type: int64\n        other: 2\n      - name: y\n";
    let project = project(&[("models/d/a.sql", "select 1"), ("models/d/a.yml", yml)]);
    let model = model(&project, "a");
    assert_eq!(model.description, "Words.");
    let columns: Vec<_> =
        model.columns.iter().map(|c| (c.name.as_str(), c.description.as_str(), c.data_type.as_deref())).collect();
    assert_eq!(columns, [("x", "An x", Some("int64")), ("y", "", None)]);
}

#[test]
fn folders_of_files_can_have_other_names() {
    let dbt = "name: small\nmodel-paths: [queries]\nmodels: {+schema: silver}\n";
    let project = project(&[("dbt_project.yml", dbt), ("queries/d/a.sql", "select 1"), ("models/d/b.sql", "select 1")]);
    assert_eq!(project.models().map(|model| model.path.as_str()).collect::<Vec<_>>(), ["queries/d/a.sql"]);
}
