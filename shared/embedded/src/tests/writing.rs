use std::sync::Arc;

use arrow::array::{Float64Array, Int64Array};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use futures::TryStreamExt;
use shared::store::Store;

use super::{Lake, name};
use crate::commit::Tables;
use crate::engine::{Engine, given};
use crate::files::{Shape, Writer};
use crate::reader::Source;
use crate::split::{StoredLayout, StoredPartitionBy, Unit};

fn shape(unique_key: &[&str]) -> Shape {
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("year", DataType::Int64, true),
        Field::new("value", DataType::Float64, true),
    ]);
    let layout = StoredLayout {
        partition_by: Some(StoredPartitionBy { field: "year".into(), unit: Unit::Year }),
        cluster_by: Vec::new(),
        unique_key: unique_key.iter().map(|name| (*name).to_owned()).collect(),
    };
    Shape::new(name("silver.numbers"), Arc::new(schema), layout).unwrap()
}

fn rows(shape: &Shape, ids: impl Iterator<Item = i64> + Clone) -> RecordBatch {
    let columns: Vec<Arc<dyn arrow::array::Array>> = vec![
        Arc::new(ids.clone().map(Some).collect::<Int64Array>()),
        Arc::new(ids.clone().map(|id| Some(2000 + id % 3)).collect::<Int64Array>()),
        Arc::new(ids.map(|id| Some(id as f64 / 7.0)).collect::<Float64Array>()),
    ];
    RecordBatch::try_new(Arc::clone(&shape.schema), columns).unwrap()
}

fn tables(lake: &Lake) -> Tables {
    Tables { store: lake.store.clone(), clock: lake.clock.clone() }
}

#[tokio::test]
async fn a_file_does_not_depend_on_the_order_of_its_rows() {
    for shape in [shape(&["id"]), shape(&[])] {
        let lake = Lake::memory();
        let writer = Writer::new(tables(&lake)).unwrap();
        let forward = given(&shape, [rows(&shape, 0..3000)]);
        let backward = given(&shape, [rows(&shape, (1500..3000).rev()), rows(&shape, (0..1500).rev())]);

        let one = writer.write(&shape, forward, |_| true).await.unwrap();
        let other = writer.write(&shape, backward, |_| true).await.unwrap();

        let hashes = |files: &[crate::manifest::File]| files.iter().map(|file| file.hash.clone()).collect::<Vec<_>>();
        assert_eq!(hashes(&one), hashes(&other));
        assert_eq!(
            one.iter().map(|file| (file.bucket.as_str(), file.rows, file.range)).collect::<Vec<_>>(),
            [
                ("2000", 1000, Some((2000, 2000))),
                ("2001", 1000, Some((2001, 2001))),
                ("2002", 1000, Some((2002, 2002))),
            ]
        );
    }
}

#[tokio::test]
async fn more_rows_than_memory_are_sorted_on_disk() {
    let lake = Lake::memory();
    let shape = shape(&["id"]);
    let writer = Writer::with_memory(tables(&lake), 16 << 20).unwrap();
    // 24 MB of rows.
    let batches = (0..120).map(|part| rows(&shape, (0..8192).map(move |row| row * 120 + part)));

    let files = writer.write(&shape, given(&shape, batches), |_| true).await.unwrap();

    assert_eq!(files.iter().map(|file| file.rows).sum::<u64>(), 120 * 8192);
    let engine = Engine::new(lake.store.clone(), lake.clock.clone()).unwrap();
    let mut last = -1;
    let mut first = engine.scan(&shape.schema, [Source::from(&files[0])]).unwrap();
    while let Some(batch) = first.try_next().await.unwrap() {
        let ids = batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
        for id in ids.values() {
            assert_eq!(*id, last.max(-3) + if last < 0 { 1 } else { 3 });
            last = *id;
        }
    }
}

#[tokio::test]
async fn a_write_that_fails_leaves_nothing() {
    let lake = Lake::memory();
    let shape = shape(&["id"]);
    let writer = Writer::new(tables(&lake)).unwrap();
    let mut bad = rows(&shape, 0..10).columns().to_vec();
    bad[1] = Arc::new(Int64Array::from(vec![123_456; 10]));
    let bad = RecordBatch::try_new(Arc::clone(&shape.schema), bad).unwrap();

    let refused = writer.write(&shape, given(&shape, [rows(&shape, 0..10), bad]), |_| true).await.unwrap_err();

    assert!(refused.to_string().contains("column 'year' holds 123456, which is no partition"), "{refused}");
    assert!(lake.store.list("warehouse/").await.unwrap().is_empty());
}
