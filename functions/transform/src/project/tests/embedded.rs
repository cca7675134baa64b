use std::collections::BTreeMap;

use serde_json::json;

use crate::project::{Materialized, Model, Node, Project, RenderContext, Severity, Strategy};

fn embedded() -> Project {
    match Project::embedded() {
        Ok(project) => project,
        Err(error) => panic!("{error}"),
    }
}

fn changed(model: &Model, days: serde_json::Value) -> String {
    let vars = BTreeMap::from([("changed_partitions".to_owned(), days)]);
    let context = RenderContext { incremental: true, vars, ..RenderContext::default() };
    model.render(&context).expect("it renders").sql
}

#[test]
fn the_embedded_project_is_the_folder() {
    let folder = Project::from_dir(env!("CARGO_MANIFEST_DIR")).expect("the folder loads");
    let hashes =
        |project: &Project| project.nodes().map(|node| (node.name().to_owned(), node.hash())).collect::<Vec<_>>();
    assert_eq!(hashes(&embedded()), hashes(&folder));
}

#[test]
fn earthquakes_are_built_from_the_source_up() {
    let project = embedded();
    let built: Vec<&str> = project.descendants(["raw.earthquakes"]).into_iter().map(Node::name).collect();
    let models = [
        "stg_earthquakes",
        "dim_magnitude_type",
        "dim_network",
        "stg_event_ids",
        "superseded_events",
        "fct_earthquakes",
        "mart_daily_seismicity",
    ];
    assert_eq!(built, models);
    let staging = project.model("stg_earthquakes").expect("the model is there");
    assert!(
        matches!(&staging.materialized, Materialized::Incremental(Strategy::Merge { unique_key }) if unique_key == &["event_id"])
    );
}

#[test]
fn a_full_run_reads_everything_and_an_incremental_one_the_changed_days() {
    let project = embedded();
    for (name, range) in [
        (
            "stg_earthquakes",
            "(time >= timestamp '2025-07-23 00:00:00+00' and time < timestamp '2025-07-24 00:00:00+00')",
        ),
        ("fct_earthquakes", "(event_date >= date '2025-07-23' and event_date < date '2025-07-24')"),
        ("mart_daily_seismicity", "(event_date >= date '2025-07-23' and event_date < date '2025-07-24')"),
    ] {
        let model = project.model(name).expect("the model is there");
        assert!(
            changed(model, json!(["2025-07-23"])).contains(&format!("where ({range})")),
            "{}",
            changed(model, json!(["2025-07-23"]))
        );
        let full = model.render(&RenderContext::default()).expect("it renders").sql;
        assert!(!full.contains("2025") && !full.contains("where true"), "{full}");
    }
}

#[test]
fn neighbouring_days_become_one_range() {
    let project = embedded();
    let fct = project.model("fct_earthquakes").expect("the model is there");
    let ranges = |days: serde_json::Value| {
        let sql = changed(fct, days);
        let line = sql.lines().find(|line| line.trim_start().starts_with("where ") && !line.contains("coalesce"));
        line.expect("there is a condition").trim().replace("event_date", "d")
    };
    let range = |first: &str, end: &str| format!("(d >= date '{first}' and d < date '{end}')");
    assert_eq!(ranges(json!([])), "where false");
    assert_eq!(ranges(json!(null)), "where true");
    assert_eq!(
        ranges(json!(["2025-07-25", "2025-07-23", "2025-07-24", "2025-07-23"])),
        format!("where ({})", range("2025-07-23", "2025-07-26"))
    );
    assert_eq!(
        ranges(json!(["2024-02-28", "2024-02-29", "2023-02-28", "2024-12-31", "2025-01-01", "1900-02-28"])),
        format!(
            "where ({} or {} or {} or {})",
            range("1900-02-28", "1900-03-01"),
            range("2023-02-28", "2023-03-01"),
            range("2024-02-28", "2024-03-01"),
            range("2024-12-31", "2025-01-02"),
        )
    );
}

#[test]
fn a_century_of_days_renders() {
    let mut day = chrono::NaiveDate::from_ymd_opt(1926, 1, 1).expect("a day");
    let mut days = Vec::new();
    for _ in 0..36_525 {
        days.push(day.to_string());
        day = day.succ_opt().expect("a next day");
    }
    let project = embedded();
    let sql = changed(project.model("fct_earthquakes").expect("the model is there"), json!(days));
    let range = format!("where ((event_date >= date '1926-01-01' and event_date < date '{day}'))");
    assert!(sql.contains(&range), "{}", &sql[..1000]);
}

#[test]
fn the_classes_of_the_macro_are_those_of_the_seed() {
    let project = embedded();
    let fct = project.model("fct_earthquakes").expect("the model is there");
    let sql = fct.render(&RenderContext::default()).expect("it renders").sql;
    let Some(Node::Seed(classes)) = project.node("magnitude_classes") else { panic!("the seed is there") };
    let mut lower = None;
    for row in &classes.rows {
        let name = row[0].as_deref().expect("a class has a name");
        assert_eq!(row[2], lower, "{name} begins where the one below ends");
        lower.clone_from(&row[3]);
        match &row[3] {
            Some(upper) => assert!(sql.contains(&format!("when magnitude < {upper} then '{name}'")), "{name}"),
            None => assert!(sql.contains(&format!("else '{name}'")), "{name}"),
        }
    }
    assert_eq!(lower, None, "the last class is open");
    assert_eq!(sql.matches(" then '").count() + 1, classes.rows.len());
}

#[test]
fn every_column_that_a_model_selects_is_described_in_its_order() {
    let project = embedded();
    let names = |name: &str| {
        let model = project.model(name).expect("the model is there");
        model.columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>()
    };
    let relied_on = [
        "event_id",
        "event_time",
        "event_date",
        "updated_at",
        "latitude",
        "longitude",
        "depth_km",
        "magnitude",
        "magnitude_type",
        "network",
        "place",
        "event_type",
        "review_status",
    ];
    assert_eq!(names("stg_earthquakes")[..13], relied_on);
    assert_eq!(names("fct_earthquakes")[..13], relied_on);
    assert!(project.models().all(|model| !model.description.is_empty() && !model.columns.is_empty()));
    assert!(
        project
            .models()
            .flat_map(|model| &model.columns)
            .all(|column| !column.description.is_empty() && column.data_type.is_some())
    );
}

#[test]
fn keys_are_tested_and_a_word_of_the_source_only_warns() {
    let project = embedded();
    for model in project.models() {
        let tests = project.tests_of(&model.name);
        for kind in ["not_null", "unique"] {
            assert!(
                tests.iter().any(|test| test.name.starts_with(kind) && test.severity == Severity::Error),
                "{kind} {}",
                model.name
            );
        }
    }
    assert!(
        project
            .tests()
            .iter()
            .filter(|test| test.column == "review_status")
            .all(|test| test.severity == Severity::Warn)
    );
}

#[test]
fn every_plain_line_of_sql_leads_back_to_itself() {
    for model in embedded().models() {
        // A bracket alone may be a macro's as well as the file's.
        let says = |text: &str| text.contains(char::is_alphanumeric);
        let file: Vec<&str> = model.text.lines().collect();
        for sql in [false, true].map(|incremental| RenderContext { incremental, ..RenderContext::default() }) {
            let rendered = model.render(&sql).expect("it renders");
            for (line, text) in rendered.sql.lines().enumerate().filter(|(_, text)| says(text) && file.contains(text)) {
                assert_eq!(file[rendered.source_line(line + 1) - 1], text, "{}", model.path);
            }
        }
    }
}
