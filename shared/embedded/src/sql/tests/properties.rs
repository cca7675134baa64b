//! No text panics, hangs or exhausts the stack.

use proptest::prelude::*;

use super::super::parse::parse;
use super::super::refuse::refuse;
use super::super::rewrite::rewrite;
use shared::warehouse::Origin;

use super::super::{plan, tables};

/// Words that make texts which get far.
const WORDS: &[&str] = &[
    "SELECT",
    "FROM",
    "WHERE",
    "WITH",
    "AS",
    "(",
    ")",
    "[",
    "]",
    ",",
    ".",
    "*",
    "+",
    "-",
    "/",
    "=",
    "<",
    ">",
    "|>",
    "a",
    "t",
    "1",
    "2.5",
    "'x'",
    "\"y\"",
    "`p.d.t`",
    "CASE",
    "WHEN",
    "THEN",
    "END",
    "UNNEST",
    "STRUCT",
    "ARRAY",
    "INTERVAL",
    "DAY",
    "DATE",
    "TIMESTAMP",
    "EXTRACT",
    "CAST",
    "SAFE_CAST",
    "INT64",
    "OVER",
    "PARTITION",
    "BY",
    "ORDER",
    "GROUP",
    "QUALIFY",
    "IN",
    "NOT",
    "IS",
    "NULL",
    "EXISTS",
    "UNION",
    "ALL",
    "DATE_TRUNC",
    "ARRAY_AGG",
    "OFFSET",
    "LIMIT",
    ";",
    "PIVOT",
    "FOR",
    "IF",
    "\n",
    "r'\\d'",
    "b'z'",
    "@",
    "%",
    "{{",
    "--",
    "/*",
];

fn reach(text: &str) {
    if let Ok((mut query, _)) = parse(text)
        && refuse(&query).is_ok()
    {
        let _ = rewrite(&mut query);
    }
    let _ = tables(text, &Origin::new("query"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_does_not_panic(text in "\\PC{0,200}") {
        reach(&text);
    }

    #[test]
    fn arbitrary_words_do_not_panic(words in prop::collection::vec(prop::sample::select(WORDS), 0..40)) {
        reach(&words.join(" "));
        reach(&format!("SELECT {}", words.join(" ")));
    }
}

#[tokio::test]
async fn a_bomb_of_nesting_is_an_error() {
    let context = super::context();
    let many = 10_000;
    let bombs = [
        format!("SELECT {}1{}", "(".repeat(many), ")".repeat(many)),
        format!("SELECT {}", "(".repeat(many)),
        format!("SELECT * FROM {}", "(".repeat(many)),
        format!("SELECT {}1", "- ".repeat(many)),
        format!("SELECT {}1", "NOT ".repeat(many)),
        format!("SELECT 1{}", " + 1".repeat(many)),
        format!("SELECT 1{}", " AND 1 IS NULL".repeat(many)),
        format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(many)),
        format!("SELECT {}", "CASE WHEN ".repeat(many)),
        format!("SELECT {}", "[".repeat(many)),
        format!("SELECT a{}", "[0]".repeat(many)),
        format!("SELECT a{}", ".a".repeat(many)),
        format!("SELECT CAST(1 AS {}", "ARRAY<".repeat(many)),
        format!("SELECT CAST(1 AS {}", "STRUCT<a ".repeat(many)),
        "SELECT * FROM (".repeat(many),
        "WITH a AS (".repeat(many),
        format!("SELECT * FROM t {}", "JOIN t ".repeat(many)),
        format!("SELECT {}1{}", "(SELECT ".repeat(11), ")".repeat(11)),
        format!("SELECT {}1{}", "GREATEST(2, ".repeat(many), ")".repeat(many)),
    ];
    for bomb in bombs {
        let start: String = bomb.chars().take(30).collect();
        assert!(plan(&context, &bomb, &Origin::new("query")).await.is_err(), "{start}");
    }
}

#[tokio::test]
async fn a_chain_as_long_as_allowed_runs() {
    let context = super::context();
    let sum = format!("SELECT id{} FROM readings WHERE id = 1", " + 1".repeat(65));
    assert_eq!(super::rows(&context, &sum).await, "66");
    let either = format!("SELECT id FROM readings WHERE id = 1{}", " OR id = 7".repeat(99));
    assert_eq!(super::rows(&context, &either).await, "1");
    let nested = format!("SELECT {}1{} AS x", "(".repeat(40), ")".repeat(40));
    assert_eq!(super::rows(&context, &nested).await, "1");
    let calls = format!("SELECT {}-7{} AS x", "ABS(".repeat(40), ")".repeat(40));
    assert_eq!(super::rows(&context, &calls).await, "7");
    let greatest = format!("SELECT {}1{}", "GREATEST(2, ".repeat(40), ")".repeat(40));
    assert_eq!(super::rows(&context, &greatest).await, "2");
    let queries = format!("SELECT x FROM {}(SELECT 1 AS x){}", "(SELECT x FROM ".repeat(8), ")".repeat(8));
    assert_eq!(super::rows(&context, &queries).await, "1");
    let steps = (1..40).map(|step| format!(", t{step} AS (SELECT x + 1 AS x FROM t{})", step - 1));
    let chain = format!("WITH t0 AS (SELECT 1 AS x){} SELECT x FROM t39", steps.collect::<String>());
    assert_eq!(super::rows(&context, &chain).await, "40");
}
