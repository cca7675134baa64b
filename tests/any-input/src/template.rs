//! The reader of the dbt project and its templates.

use std::collections::BTreeMap;

use serde_json::json;
use transform::project::{Naming, Project, ProjectError, RenderContext, combined_sql};

pub(crate) const WORDS: &[&str] = &[
    "{{ ",
    " }}",
    "{% ",
    " %}",
    "{#",
    "#}",
    "{%- ",
    " -%}",
    "{% if x %}",
    "{% else %}",
    "{% endif %}",
    "{% for x in range(100) %}",
    "{% for x in var('changed_partitions') %}",
    "{% endfor %}",
    "{% break %}",
    "{% set x = ",
    "{% set n = namespace(x='a') %}",
    "{% set n.x = n.x ~ x %}",
    "{% macro m(a) %}",
    "{% endmacro %}",
    "{% call m(1) %}",
    "{% endcall %}",
    "{% filter upper %}",
    "{% include 'a' %}",
    "{% extends 'a' %}",
    "{{ m(m) }}",
    "{{ ref('a') }}",
    "{{ source('raw', 'quakes') }}",
    "{{ config(materialized='incremental', unique_key='a') }}",
    "{{ var('x', 1) }}",
    "{{ this }}",
    "is_incremental()",
    "caller()",
    "loop.index",
    "range(100000)",
    "'a' * 100000",
    "|join(',')",
    "|sort",
    "|batch(3)",
    "|replace('a','b')",
    "|tojson",
    "|indent(1000)",
    "|format(1)",
    "(",
    "[",
    "not ",
    "- ",
    "\n--- models/d/a.sql\n",
    "\n--- models/d/a.yml\n",
    "\n--- macros/m.sql\n",
    "\n--- seeds/d/s.csv\n",
    "\n--- dbt_project.yml\n",
    "models:\n  - name: a\n",
    "    columns:\n      - name: b\n",
    "        tests: [unique, not_null]\n",
    "    config: {enabled: false}\n",
    "        data_tests:\n          - accepted_values: {values: [1]}\n",
    "          - relationships: {to: ref('b'), field: c}\n",
    "sources:\n  - name: raw\n    tables:\n      - name: quakes\n",
    "&a ",
    "*a",
    "<<: *a",
    "!!binary ",
    "|\n",
    ">-\n",
    "? ",
    "\t",
    "é",
];

/// A rendered model is no longer than this, in bytes, for a template of a few thousand.
const LONGEST: usize = 256 << 20;

const PROJECT: &str = "name: small\nmodels:\n  +schema: silver\nseeds:\n  +schema: silver\n";
const SOURCES: &str = "sources:\n  - name: raw\n    tables:\n      - name: quakes\n";
const OTHER: &str = "select * from {{ source('raw', 'quakes') }}";

/// A project is refused at a place that its files have, or loads; then every model renders, or says where it fails.
///
/// The bytes are files one after another, each behind a line `--- path`; the first may do without and is a model.
pub fn template(data: &[u8]) {
    let mut files: BTreeMap<String, Vec<u8>> =
        [("dbt_project.yml", PROJECT), ("models/small/sources.yml", SOURCES), ("models/small/other.sql", OTHER)]
            .map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec()))
            .into();
    let mut path = "models/d/a.sql".to_owned();
    for line in data.split_inclusive(|&byte| byte == b'\n') {
        match line.strip_prefix(b"--- ").map(<[u8]>::trim_ascii).and_then(|path| std::str::from_utf8(path).ok()) {
            Some(next) => {
                path = next.to_owned();
                files.insert(path.clone(), Vec::new());
            }
            None => files.entry(path.clone()).or_default().extend_from_slice(line),
        }
    }
    let project = match Project::load(files.clone()) {
        Ok(project) => project,
        Err(error) => return placed(&error, &files),
    };
    let days = json!(["2025-07-24", "2025-07-23", "2024-02-29"]);
    let vars = BTreeMap::from([("changed_partitions".to_owned(), days)]);
    for model in project.models() {
        for (incremental, vars) in [(false, BTreeMap::new()), (true, vars.clone())] {
            match model.render(&RenderContext { incremental, vars, ..RenderContext::default() }) {
                Ok(rendered) => {
                    assert!(rendered.sql.len() <= LONGEST, "{} is {} bytes long", model.path, rendered.sql.len());
                    let lines = files[&model.path].split(|&byte| byte == b'\n').count();
                    for line in 0..rendered.sql.lines().count().min(100) + 2 {
                        assert!((1..=lines).contains(&rendered.source_line(line)), "line {line} of {}", model.path);
                    }
                }
                Err(error) => placed(&error, &files),
            }
        }
    }
    let names: Vec<&str> = project.nodes().map(|node| node.name()).collect();
    for name in &names {
        assert!(!project.descendants([*name]).iter().any(|node| node.name() == *name), "{name} is built from itself");
    }
    assert_eq!(combined_sql(project.tests(), &Naming::default(), None).is_some(), !project.tests().is_empty());
}

/// An error names a file of the project and, where it names a line, one of that file.
fn placed(error: &ProjectError, files: &BTreeMap<String, Vec<u8>>) {
    let text = error.to_string();
    assert!(!text.is_empty());
    // A place is `file:line:` at the start; errors of the whole project have none.
    let Some((file, line)) = text.split_once(':').and_then(|(file, rest)| {
        let (line, _) = rest.split_once(':')?;
        Some((file, line.parse::<usize>().ok()?))
    }) else {
        return;
    };
    if files.keys().any(|path| path.contains(':')) {
        return;
    }
    let Some(content) = files.get(file) else { panic!("there is no file {file}: {text}") };
    let lines = content.split(|&byte| byte == b'\n').count();
    assert!((1..=lines + 1).contains(&line), "{file} has {lines} lines: {text}");
}
