//! What is outside the subset is refused on its line and by its name.

use shared::warehouse::Origin;

use super::super::plan;

#[rustfmt::skip]
const REFUSED: &[(&str, u32, &str)] = &[
    ("SELECT x\nFROM readings, UNNEST(readings.xs) AS x", 2, "correlated UNNEST is not supported"),
    ("SELECT x FROM readings AS r\n, r.xs", 2, "correlated UNNEST is not supported"),
    ("SELECT x FROM\nUNNEST([1]) AS x WITH OFFSET", 2, "UNNEST WITH OFFSET is not supported"),
    ("SELECT *\nFROM readings PIVOT(SUM(id) FOR place IN ('a', 'b'))", 2, "PIVOT is not supported"),
    ("SELECT *\nFROM readings UNPIVOT(v FOR n IN (id, magnitude))", 2, "UNPIVOT is not supported"),
    ("SELECT 1,\n(SELECT AS STRUCT 1 AS a)", 2, "SELECT AS STRUCT is not supported"),
    ("SELECT AS VALUE 1", 1, "SELECT AS VALUE is not supported"),
    ("SELECT\n  ARRAY(SELECT id FROM readings) AS a", 2, "ARRAY(subquery) is not supported"),
    ("FROM readings\n|> WHERE id = 1", 1, "pipe syntax"),
    ("SELECT * FROM readings\n|> WHERE id = 1", 1, "pipe syntax is not supported"),
    ("SELECT\nANY_VALUE(id HAVING MAX magnitude) FROM readings", 2, "HAVING MAX and HAVING MIN are not supported"),
    ("SELECT\nEXISTS(SELECT 1) AS e", 2, "EXISTS in the select list is not supported"),
    ("SELECT\nFORMAT_TIMESTAMP('%E4Y', seen) FROM readings", 2, "the format element %E is not supported"),
    ("SELECT id\nFROM readings TABLESAMPLE SYSTEM (10 PERCENT)", 2, "TABLESAMPLE is not supported"),
    ("SELECT id\nFROM readings FOR SYSTEM_TIME AS OF CURRENT_TIMESTAMP()", 2, "FOR SYSTEM_TIME AS OF is not supported"),
    ("SELECT\n\n  date_bin(id, 1) FROM readings", 3, "DATE_BIN is not a BigQuery function that this warehouse supports"),
    ("SELECT list_sum([1])", 1, "LIST_SUM is not a BigQuery function that this warehouse supports"),
    ("SELECT array_has([1], 1)", 1, "ARRAY_HAS is not a BigQuery function that this warehouse supports"),
    ("SELECT bq_divide(1, 2)", 1, "BQ_DIVIDE is not a BigQuery function that this warehouse supports"),
    ("SELECT NET.HOST('x')", 1, "NET.HOST is not a BigQuery function that this warehouse supports"),
    ("SELECT DATE_TRUNCC(seen, DAY) FROM readings", 1, "did you mean DATE_TRUNC?"),
    ("SELECT SAFE.SUM(id) FROM readings", 1, "SAFE. goes with scalar functions only"),
    ("SELECT id\n::STRING FROM readings", 1, "`::` is not BigQuery's"),
    ("SELECT TRY_CAST('1' AS INT64)", 1, "TRY_CAST is not BigQuery's"),
    ("SELECT 1 FROM readings WHERE\nplace ILIKE 'a'", 2, "ILIKE is not BigQuery's"),
    ("SELECT 1 FROM readings WHERE\nplace LIKE ANY ('a')", 2, "LIKE ANY, SOME and ALL are not supported"),
    ("SELECT id\n% 2 FROM readings", 1, "% is not BigQuery's"),
    ("SELECT\n2 IN (SELECT id FROM readings) AS found", 2, "IN a subquery in the select list is not supported"),
    ("SELECT id FROM readings ORDER BY\nid IN (SELECT 2)", 2, "a subquery in this place is not supported"),
    ("SELECT id FROM readings a\nFULL JOIN readings b USING (id)", 2, "RIGHT and FULL JOIN with USING are not supported"),
    ("SELECT id FROM readings a\nNATURAL JOIN readings b", 2, "NATURAL JOIN is not BigQuery's"),
    ("SELECT 1\nUNION\nSELECT 2", 1, "UNION alone is not BigQuery's"),
    ("SELECT DISTINCT ON (id) id FROM readings", 1, "DISTINCT ON is not BigQuery's"),
    ("SELECT * FROM (VALUES (1))", 1, "VALUES as a query is not BigQuery's"),
    ("SELECT 1 AS a,\n1 AS at", 2, "AT is a reserved word of BigQuery's"),
    ("SELECT rows\nFROM readings", 1, "ROWS is a reserved word of BigQuery's"),
    ("SELECT 1 FROM readings\nAS hash", 2, "HASH is a reserved word of BigQuery's"),
    ("SELECT\n@p", 2, "query parameters"),
    ("SELECT ROW_NUMBER() FROM readings", 1, "ROW_NUMBER needs an OVER clause"),
    ("SELECT LOWER('a') OVER ()", 1, "LOWER does not take an OVER clause"),
    ("SELECT CAST(1 AS BIGNUMERIC)", 1, "CAST to BIGNUMERIC is not supported"),
    ("SELECT CAST(1 AS VARCHAR)", 1, "CAST to VARCHAR is not supported"),
    ("SELECT CAST(seen AS STRING FORMAT 'YYYY') FROM readings", 1, "CAST with FORMAT is not supported"),
    ("SELECT\nDATE '2024-02-30'", 2, "invalid date '2024-02-30'"),
    ("SELECT DATE_TRUNC(DATE '2024-01-01', FORTNIGHT)", 1, "FORTNIGHT is not a date part that DATE_TRUNC takes"),
    ("SELECT DATE_ADD(DATE '2024-01-01', 1)", 1, "DATE_ADD takes an INTERVAL as argument 2"),
    ("SELECT INTERVAL 1 DAY", 1, "INTERVAL is supported only where"),
    ("SELECT 99999999999999999999", 1, "does not fit an INT64"),
    ("SELECT (1, 2)", 1, "a tuple is not supported"),
    ("SELECT STRING_AGG(place LIMIT 1) FROM readings", 1, "STRING_AGG with LIMIT is not supported"),
    ("SELECT PERCENTILE_CONT(id, 0.5 RESPECT NULLS) OVER () FROM readings", 1, "with RESPECT NULLS is not supported"),
    ("SELECT LENGTH(DISTINCT place) FROM readings", 1, "LENGTH takes plain arguments only"),
    ("SELECT id, (SELECT b.place FROM readings b WHERE b.id < readings.id LIMIT 1) FROM readings", 1, "orrelated"),
    ("INSERT INTO t VALUES (1)", 1, "INSERT is not supported: only one query (SELECT or WITH) is"),
    ("CREATE TABLE t (x INT64)", 1, "CREATE is not supported"),
    ("DROP TABLE readings", 1, "DROP is not supported"),
    ("EXPLAIN SELECT 1", 1, "EXPLAIN is not supported"),
    ("SELECT 1;\nSELECT 2", 2, "more than one statement is not supported"),
    ("SELECT 1;\nDROP TABLE readings", 2, "more than one statement is not supported"),
    ("  \n -- nothing\n", 1, "the text holds no query"),
    ("SELECT a.b.c.d.* FROM a.b.c.d", 1, "is not a table's name"),
];

#[tokio::test]
async fn what_is_outside_the_subset_is_refused_on_its_line() {
    let context = super::context();
    let mut wrong = Vec::new();
    for (sql, line, part) in REFUSED {
        match plan(&context, sql, &Origin::new("query")).await {
            Err(error) if error.line == *line && error.message.contains(part) => {}
            Err(error) => wrong.push(format!("{sql:?}: wanted {line}: {part}\n    gave {error}")),
            Ok(_) => wrong.push(format!("{sql:?}: planned, wanted {part}")),
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
