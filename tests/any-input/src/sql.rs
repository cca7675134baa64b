//! The rewriter of BigQuery's SQL.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use embedded::sql::{normalize, plan, session, tables};
use shared::warehouse::{Origin, SqlError};

use crate::wait;

pub(crate) const WORDS: &[&str] = &[
    "SELECT ",
    "FROM ",
    "WHERE ",
    "WITH a AS (",
    "GROUP BY ",
    "ORDER BY ",
    "HAVING ",
    "QUALIFY ",
    "LIMIT 1",
    "UNION ALL ",
    "EXCEPT DISTINCT ",
    " JOIN t USING (id)",
    "LEFT JOIN ",
    "CROSS JOIN UNNEST(",
    "PIVOT(SUM(id) FOR place IN ('a'))",
    "TABLESAMPLE SYSTEM (1 PERCENT)",
    "OVER (PARTITION BY id ORDER BY seen)",
    "ROWS BETWEEN 1 PRECEDING AND CURRENT ROW",
    "RANGE BETWEEN INTERVAL 1 DAY PRECEDING AND CURRENT ROW",
    "WINDOW w AS (",
    "CASE WHEN ",
    " THEN ",
    " ELSE ",
    " END",
    "CAST(",
    " AS INT64)",
    " AS ARRAY<STRUCT<a INT64, b STRING>>)",
    "SAFE_CAST(",
    "SAFE.",
    "EXTRACT(DAY FROM ",
    "DATE_TRUNC(",
    "DATE_ADD(seen, INTERVAL ",
    "INTERVAL 1 DAY",
    "INTERVAL '1-2' YEAR TO MONTH",
    "STRUCT(",
    "STRUCT<a INT64>(",
    "ARRAY<INT64>[",
    "ARRAY(SELECT ",
    "ARRAY_AGG(",
    "STRING_AGG(",
    "UNNEST(",
    " WITH OFFSET",
    "[OFFSET(",
    "[SAFE_ORDINAL(",
    "IN UNNEST(",
    " IN (1,2,3)",
    " BETWEEN ",
    " LIKE 'a%'",
    " IS NOT DISTINCT FROM ",
    " NOT ",
    " AND ",
    " OR ",
    "EXISTS(SELECT 1)",
    "* EXCEPT (id)",
    "* REPLACE (1 AS id)",
    "t.*",
    "readings",
    "`p.Lab.readings`",
    "`a``b`",
    "DATE '9999-12-31'",
    "TIMESTAMP '0001-01-01 00:00:00+14'",
    "DATETIME '2016-12-31 23:59:60'",
    "NUMERIC '99999999999999999999999999999.999999999'",
    "b'\\xff'",
    "r'\\d+'",
    "'''",
    "\"\"\"",
    "'\\u00e9'",
    "'\\U0010FFFF'",
    "'\\'",
    "'é",
    "@parameter",
    "@@system",
    "?",
    "|> ",
    "=> ",
    "<<",
    "||",
    "--",
    "#",
    "/*",
    "*/",
    ";",
    "(",
    ")",
    "[",
    "]",
    ",",
    "- ",
    "\n",
    "\t",
    "\u{feff}",
];

/// A text is refused in one sentence at a place of it, or becomes a plan of columns that BigQuery has; then its tables
/// are known.
pub fn sql(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let origin = Origin { file: "a.sql".to_owned(), first_line: 7 };
    let named = tables(&text, &origin);
    // A session for each text, so that what one leaves behind is nothing to the next.
    let context = session();
    let seen = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let columns =
        [("id", DataType::Int64), ("place", DataType::Utf8), ("magnitude", DataType::Float64), ("seen", seen)];
    let fields: Vec<_> = columns.into_iter().map(|(name, data_type)| Field::new(name, data_type, true)).collect();
    for table in ["readings", "t"] {
        let rows = RecordBatch::new_empty(Arc::new(Schema::new(fields.clone())));
        assert!(context.register_batch(table, rows).is_ok());
    }
    match wait(plan(&context, &text, &origin)) {
        Ok(planned) => {
            assert!(named.is_ok(), "{text}");
            // A column of a type that no table has is refused here, and nothing else can go wrong.
            if let Err(error) = normalize(planned) {
                assert!(!error.find_root().message().is_empty());
            }
        }
        Err(error) => placed(&error, &text),
    }
    if let Err(error) = named {
        placed(&error, &text);
    }
}

/// An error stands on a line of the text and is one sentence.
fn placed(error: &SqlError, text: &str) {
    let lines = u32::try_from(text.split('\n').count()).unwrap_or(u32::MAX);
    assert_eq!(error.file, "a.sql");
    assert!((7..=7 + lines).contains(&error.line), "{error}: the text has {lines} lines");
    assert!(error.column >= 1);
    assert!(!error.message.trim().is_empty(), "a refusal says why: {text}");
}
