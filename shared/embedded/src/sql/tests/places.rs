//! Where an error points.

use shared::warehouse::Origin;

use super::super::{Reference, plan, tables};

async fn error(sql: &str) -> String {
    let origin = Origin { file: "models/x.sql".into(), first_line: 10 };
    plan(&super::context(), sql, &origin).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_place_counts_from_the_file_s_own_first_line() {
    assert_eq!(error("SELECT id\nFROM readings\nWHERE ILIKE").await.split(": ").next(), Some("models/x.sql:12:7"));
    assert!(error("SELECT id,\n  magnitud\nFROM readings").await.starts_with("models/x.sql:11:3: "));
}

#[tokio::test]
async fn a_parser_s_error_keeps_its_place() {
    let given = error("SELECT id\nFROM readings\nWHERE id = = 2").await;
    assert!(given.starts_with("models/x.sql:12:12: expected: an expression, found: ="), "{given}");
    let given = error("SELECT 'open").await;
    assert!(given.starts_with("models/x.sql:10:9: unterminated string literal"), "{given}");
}

#[tokio::test]
async fn an_unknown_name_is_pointed_at() {
    let given = error("SELECT id\nFROM readings\nWHERE idd = 2").await;
    assert_eq!(given, "models/x.sql:12:7: no column named idd, did you mean readings.id?");
    let given = error("SELECT zzzzzzzz\nFROM readings").await;
    let columns = "readings.id, readings.place, readings.magnitude, readings.seen";
    assert_eq!(given, format!("models/x.sql:10:8: no column named zzzzzzzz: there are {columns}"));
    let given = error("SELECT id\nFROM\n  lab.missing").await;
    assert!(given.starts_with("models/x.sql:12:3: ") && given.contains("missing"), "{given}");
    let given = error("SELECT\n  UPPERR(place) FROM readings").await;
    assert_eq!(
        given,
        "models/x.sql:11:3: UPPERR is not a BigQuery function that this warehouse supports, did you mean UPPER?"
    );
}

#[tokio::test]
async fn an_argument_of_another_type_is_named() {
    let given = error("SELECT\n  DATE_TRUNC(place, MONTH) FROM readings").await;
    assert_eq!(given, "models/x.sql:11:3: argument 1 of DATE_TRUNC is STRING, which DATE_TRUNC does not take");
}

#[test]
fn tables_are_found_wherever_they_are_read() {
    let sql = "WITH a AS (SELECT * FROM a), B AS (SELECT 1 FROM `p.d.x`, a)
        SELECT (SELECT MAX(y) FROM d.y) FROM b JOIN `p-1`.d.X ON TRUE
        WHERE id IN (SELECT id FROM plain) UNION ALL SELECT 1 FROM A";
    let found = tables(sql, &Origin::new("query")).unwrap();
    let name = |schema: Option<&str>, table: &str| Reference { schema: schema.map(str::to_owned), table: table.into() };
    let wanted =
        vec![name(None, "a"), name(None, "plain"), name(Some("d"), "X"), name(Some("d"), "x"), name(Some("d"), "y")];
    assert_eq!(found, wanted);
}

#[test]
fn tables_of_a_text_that_is_refused_are_an_error() {
    assert_eq!(tables("SELECT 1; SELECT 2", &Origin::new("query")).unwrap_err().column, 11);
}
