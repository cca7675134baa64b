//! The fuzz targets over the saved inputs and a bounded number of mutations of them.
//!
//! See `README.md` beside this file for longer runs, and for what to do when one fails.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use any_input::corpus::saved;
use any_input::grammar::{query, templates};
use any_input::mutate::mutated;
use any_input::{TARGETS, Target};
use embedded::Embedded;
use shared::clock::System;
use shared::store::Memory;
use shared::warehouse::{Origin, Warehouse};

/// No input takes so long, on however busy a machine: it hangs.
const HANGS: Duration = Duration::from_secs(120);

/// What is known of an input before it is run, so that it can be named when the run does not come back.
struct Begun {
    name: String,
    input: Vec<u8>,
}

/// Runs the saved inputs of a target and `cases` more, which are those of `STRATA_FUZZ_SEED` on.
fn run(name: &str, cases: u64) {
    let target = target(name);
    let variable = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let (first, cases) = (variable("STRATA_FUZZ_SEED").unwrap_or(0), variable("STRATA_FUZZ_CASES").unwrap_or(cases));
    let saved = saved(target.name).unwrap();
    assert!(!saved.is_empty());
    each(name, saved.clone());
    watched(
        name,
        (first..first + cases).map(move |seed| {
            let input = mutated(&saved, target.words, seed);
            Begun { name: format!("seed {seed}"), input }
        }),
    );
}

/// Runs inputs by their names.
fn each(name: &str, inputs: Vec<(String, Vec<u8>)>) {
    watched(name, inputs.into_iter().map(|(name, input)| Begun { name, input }));
}

/// Runs inputs one after another, and names the one that fails or does not come back.
fn watched(name: &str, inputs: impl Iterator<Item = Begun> + Send + 'static) {
    let target = target(name);
    let (begun, runs) = channel();
    // A thread of the usual size: what recurses too deeply for it is a fault.
    let worker = std::thread::spawn(move || {
        for next in inputs {
            let input = next.input.clone();
            begun.send(next).unwrap();
            (target.run)(&input);
        }
    });
    let mut last = None;
    loop {
        match runs.recv_timeout(HANGS) {
            Ok(next) => last = Some(next),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => panic!("{name} hangs on {}", shown(last.as_ref())),
        }
    }
    if worker.join().is_err() {
        panic!("{name} fails on {}", shown(last.as_ref()));
    }
}

fn target(name: &str) -> Target {
    *TARGETS.iter().find(|target| target.name == name).unwrap()
}

fn shown(begun: Option<&Begun>) -> String {
    begun.map_or_else(String::new, |begun| {
        let text = String::from_utf8_lossy(&begun.input[..begun.input.len().min(4096)]);
        format!("{}, {} bytes: {text:?}", begun.name, begun.input.len())
    })
}

#[test]
fn any_csv_is_records_or_a_refusal() {
    run("csv", 2_000);
}

#[test]
fn any_geojson_is_features_or_a_refusal() {
    run("geojson", 1_500);
}

#[test]
fn any_push_is_a_message_or_a_refusal() {
    run("envelope", 1_500);
}

#[test]
fn any_template_is_a_project_or_an_error_at_a_line() {
    run("template", 300);
}

#[test]
fn any_sql_is_a_plan_or_an_error_at_a_line() {
    run("sql", 300);
}

#[test]
fn any_expression_is_a_value_or_an_error() {
    run("expression", 400);
}

/// What is small to write and could be large to hold, deep to walk or long to work out.
#[test]
fn long_and_deep_sql_is_planned_or_refused() {
    let many = 10_000;
    let list = |item: fn(usize) -> String, count: usize| (0..count).map(item).collect::<Vec<_>>().join(", ");
    let texts = [
        format!("SELECT {}1{}", "(".repeat(many), ")".repeat(many)),
        format!("SELECT {}1{} AS x", "(".repeat(47), ")".repeat(47)),
        format!("SELECT id FROM readings WHERE id IN ({})", list(|n| n.to_string(), many)),
        format!("SELECT id FROM readings WHERE place IN ({})", list(|n| format!("'{n}'"), many)),
        format!("SELECT ARRAY_LENGTH([{}]) AS x", list(|n| n.to_string(), many)),
        format!("SELECT {}", list(|n| format!("id AS c{n}"), 1_000)),
        format!("SELECT CASE {}END AS x FROM readings", "WHEN id = 1 THEN 2 ".repeat(1_000)),
        format!("SELECT CONCAT({}) AS x", list(|_| "place".to_owned(), 1_000)),
        format!("WITH {} SELECT * FROM t9", list(|n| format!("t{n} AS (SELECT * FROM readings)"), 500)),
        format!("SELECT '{}' AS x", "'||'".repeat(many)),
        format!("SELECT '{}' AS x", "é\\u00e9".repeat(many)),
        format!("SELECT 1 /*{}", "/*".repeat(many)),
        format!("SELECT {}", "STRUCT<a ".repeat(many)),
        format!("SELECT {}", "EXISTS(SELECT ".repeat(many)),
        format!("SELECT 1 FROM readings{}", ", readings".repeat(many)),
        format!("SELECT 1{}", " BETWEEN 1".repeat(many)),
        format!("SELECT DATE_ADD({}", "INTERVAL ".repeat(many)),
        format!("SELECT {}1", "@".repeat(many)),
    ];
    each("sql", texts.map(|text| (text.chars().take(40).collect(), text.into_bytes())).into());
}

#[test]
fn an_endless_record_is_refused_however_it_arrives() {
    let long = shared::csv::LONGEST_RECORD + 2;
    for byte in [b'x', b',', b'\"', b'\n'] {
        let text = [&b"time,\""[..], &vec![byte; long]].concat();
        let mut splitter = shared::csv::Splitter::new();
        let mut fed = 0;
        let refused = text.chunks(4_096).find_map(|chunk| {
            fed += chunk.len();
            splitter.feed(chunk, |_| std::ops::ControlFlow::<()>::Continue(())).err()
        });
        assert!(refused.is_some() && fed >= shared::csv::LONGEST_RECORD, "{byte}");
    }
}

#[test]
fn every_supported_function_is_tried_with_constants() {
    let begins = |text: &str, at: usize| !text[..at].ends_with(|c: char| c == '_' || c.is_alphanumeric());
    for name in embedded::sql::functions() {
        let call = format!("{}(", name.to_uppercase());
        let tried = templates().any(|text| text.match_indices(&call).any(|(at, _)| begins(text, at)));
        assert!(tried, "no template of tests/any-input/src/grammar.rs calls {name}");
    }
}

/// Expressions that the planner refuses would try nothing.
#[tokio::test]
async fn most_expressions_have_a_value() {
    let warehouse = Embedded::new(Arc::new(Memory::default()), Arc::new(System));
    let saved = saved("expression").expect("the saved inputs are there");
    let mut values = 0;
    for seed in 0..100 {
        let sql = query(&mutated(&saved, &[], seed));
        values += usize::from(warehouse.query(&sql, &Origin::new("query")).await.is_ok());
    }
    assert!(values > 50, "{values} of 100");
}

#[test]
fn every_target_is_run_here_and_by_the_fuzzer() {
    for target in TARGETS {
        let wrapper = format!("{}/fuzz/fuzz_targets/{}.rs", env!("CARGO_MANIFEST_DIR"), target.name);
        let text = std::fs::read_to_string(&wrapper).expect("there is a wrapper for the fuzzer");
        assert!(text.contains(&format!("any_input::{}(data)", target.name)), "{wrapper}");
        assert!(include_str!("mod.rs").contains(&format!("run(\"{}\", ", target.name)), "{}", target.name);
    }
}
