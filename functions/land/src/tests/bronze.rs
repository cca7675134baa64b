//! Bronze objects are read as they were written, or not at all.

use bytes::Bytes;
use shared::dataset::Dataset;

use super::world::{World, answer, events, lines, results};
use crate::bronze::{Damage, read, write};

async fn object() -> Bytes {
    let world = World::new();
    let rows: Vec<_> = (0..50).map(|id| format!("e{id},2025-07-24T00:00:{id:02}.000Z,,{id}.5")).collect();
    world.land("events", 0, &answer(&rows.iter().map(String::as_str).collect::<Vec<_>>())).await;
    world.store.get("bronze/events/date=2025-07-24/events.parquet").await.unwrap().unwrap().bytes
}

#[tokio::test]
async fn an_object_depends_on_its_rows_alone() {
    let bytes = object().await;
    let rows = read(bytes.clone(), &events().table().schema()).unwrap();
    assert_eq!(lines(&rows).len(), 50);
    assert_eq!(write(&rows).unwrap(), bytes);
}

#[tokio::test]
async fn no_damaged_byte_and_no_missing_end_goes_unnoticed() {
    let bytes = object().await;
    let schema = events().table().schema();
    for at in 0..bytes.len() {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 1 << (at % 8);
        assert!(read(damaged.into(), &schema).is_err(), "byte {at}");
        assert!(read(bytes.slice(..at), &schema).is_err(), "{at} bytes");
    }
}

#[tokio::test]
async fn an_object_of_other_columns_is_not_mistaken() {
    let damage = read(object().await, &results().table().schema()).unwrap_err();
    assert!(matches!(damage, Damage::Columns), "{damage}");
}
