use bytes::Bytes;
use shared::store::{Precondition, Store};
use shared::warehouse::WarehouseError;

use super::{Lake, by_id};

const BASE: &[super::Event] =
    &[("a", "2025-01-10", 1.0), ("b", "2025-02-10", 2.0), ("c", "2025-03-10", 3.0), ("d", "2025-04-10", 4.0)];

#[tokio::test]
async fn files_that_the_partition_column_rules_out_are_not_read() {
    for lake in Lake::both() {
        lake.table(BASE).await;
        let files = lake.files().await;
        let cases: [(&str, &[&str], &str); 5] = [
            ("day = date '2025-02-10'", &["2025-02"], "b"),
            ("day >= date '2025-03-01' and day < date '2025-04-01'", &["2025-03"], "c"),
            ("day < date '2025-01-31' or day > date '2025-04-01'", &["2025-01", "2025-04"], "a,d"),
            ("day in (date '2025-01-10', date '2025-02-10') and value > 0", &["2025-01", "2025-02"], "a,b"),
            ("value + 1 = 5", &["2025-01", "2025-02", "2025-03", "2025-04"], "d"),
        ];
        for (filter, buckets, ids) in cases {
            lake.store.files_read();
            let rows = lake.rows(&format!("select id from silver.events where {filter} order by id")).await;
            assert_eq!(rows.join(","), ids, "{filter}");
            let wanted = buckets.iter().map(|bucket| files[*bucket].clone()).collect();
            assert_eq!(lake.store.files_read(), wanted, "{filter}");
        }
    }
}

#[tokio::test]
async fn a_count_is_known_without_reading() {
    let lake = Lake::memory();
    lake.table(BASE).await;
    lake.store.files_read();

    assert_eq!(lake.rows("select count(*) from silver.events").await, ["4"]);

    assert!(lake.store.files_read().is_empty());
}

#[tokio::test]
async fn a_damaged_file_is_named() {
    for lake in Lake::both() {
        for kind in ["missing", "empty", "truncated", "other bytes", "one byte"] {
            lake.seed(BASE).await;
            lake.build(lake.model(super::Materialization::Table).await).await;
            let object = lake.files().await["2025-02"].clone();
            let whole = lake.store.get(&object).await.unwrap().unwrap().bytes;
            let mut flipped = whole.to_vec();
            flipped[10] ^= 1;
            let damage = match kind {
                "empty" => Some(Bytes::new()),
                "truncated" => Some(whole.slice(..whole.len() / 2)),
                "other bytes" => Some(Bytes::from(vec![7; whole.len()])),
                "one byte" => Some(flipped.into()),
                _ => None,
            };
            match damage {
                Some(bytes) => drop(lake.store.put(&object, bytes, Precondition::None).await.unwrap()),
                None => lake.store.delete(&object, Precondition::None).await.unwrap(),
            }

            let query = lake.try_rows("select sum(value) from silver.events").await.unwrap_err();
            lake.seed(&[("b", "2025-02-10", 9.0)]).await;
            let merge = lake.warehouse_build(by_id()).await.unwrap_err();

            for error in [query, merge] {
                let WarehouseError::Damaged { table, object: named, .. } = &error else { panic!("{kind}: {error:?}") };
                assert_eq!((table.to_string(), named), ("silver.events".to_owned(), &object), "{kind}: {error}");
            }
            // A rebuild heals it.
            lake.table(BASE).await;
            assert_eq!(lake.rows("select sum(value) from silver.events").await, ["10.0"], "{kind}");
        }
    }
}

#[tokio::test]
async fn the_damage_of_a_large_file_is_found_by_its_hash() {
    let lake = Lake::memory();
    lake.seed(BASE).await;
    let mut model = lake.model(super::Materialization::Table).await;
    model.sql = "select concat(cast(a as string), to_hex(sha256(cast(a * 7919 + b as string)))) as id, \
                 date '2025-02-10' as day, 1.0 as value \
                 from unnest(generate_array(1, 150)) as a cross join unnest(generate_array(1, 150)) as b"
        .into();
    lake.build(model).await;
    let object = lake.files().await["2025-02"].clone();
    let mut bytes = lake.store.get(&object).await.unwrap().unwrap().bytes.to_vec();
    assert!(bytes.len() > 300 * 1024, "{}", bytes.len());
    let middle = bytes.len() / 2;
    // One bit may still decode, as another value.
    bytes[middle] ^= 1;
    lake.store.put(&object, bytes.into(), Precondition::None).await.unwrap();

    let error = lake.try_rows("select max(id), max(value) from silver.events").await.unwrap_err().to_string();

    assert!(error.starts_with(&object), "{error}");
}
