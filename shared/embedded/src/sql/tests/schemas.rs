//! Results have BigQuery's types and names.

use shared::warehouse::Origin;

use super::super::{normalize, plan};

async fn columns(sql: &str) -> Vec<String> {
    let planned = plan(&super::context(), sql, &Origin::new("query")).await.unwrap();
    let normal = normalize(planned).unwrap();
    normal.schema().fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect()
}

#[tokio::test]
async fn columns_have_bigquery_s_types() {
    let given = columns(
        "SELECT ROW_NUMBER() OVER () AS a, LENGTH('x') AS b, CURRENT_TIMESTAMP() AS c, APPROX_COUNT_DISTINCT(id) AS d,
           CAST('1' AS NUMERIC) * 2 AS e, NULL AS f, CURRENT_DATETIME() AS g, b'x' AS h, [1, 2] AS i,
           STRUCT(1 AS x, 'y' AS y) AS j, COUNT(*) AS k, MD5('x') AS l
         FROM readings GROUP BY id",
    )
    .await;
    let wanted = [
        "a Int64",
        "b Int64",
        "c Timestamp(µs, \"UTC\")",
        "d Int64",
        "e Decimal128(38, 9)",
        "f Int64",
        "g Timestamp(µs)",
        "h Binary",
        "i List(Int64)",
        "j Struct(\"x\": Int64, \"y\": Utf8)",
        "k Int64",
        "l Binary",
    ];
    let plain = |text: &str| text.replace("non-null ", "");
    assert_eq!(given.iter().map(|column| plain(column)).collect::<Vec<_>>(), wanted);
}

#[tokio::test]
async fn a_column_without_a_name_gets_bigquery_s() {
    let given = columns("SELECT 1, 2 AS b, id + 1, r.Place, r.id FROM readings r").await;
    let names: Vec<_> = given.iter().map(|column| column.split(' ').next().unwrap()).collect();
    assert_eq!(names, ["f0_", "b", "f1_", "place", "id"]);
}

#[tokio::test]
async fn two_columns_of_one_name_are_an_error() {
    let sql = "SELECT a.id, b.id FROM readings a CROSS JOIN readings b";
    let planned = plan(&super::context(), sql, &Origin::new("query")).await.unwrap();
    assert!(normalize(planned).unwrap_err().to_string().contains("duplicate column name 'id'"));
}
