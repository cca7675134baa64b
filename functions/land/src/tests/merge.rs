//! The laws of the union.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray, new_empty_array,
};
use arrow::datatypes::{Int64Type, TimestampMillisecondType};
use proptest::prelude::*;
use shared::dataset::Dataset;

use super::world::{events, lines};
use crate::merge::merge;

/// id, day, magnitude (with the hash of the row), observation, capture.
type Row = (u8, u8, i8, u8, u8);

fn batch(rows: &[Row]) -> RecordBatch {
    let times = |of: fn(&Row) -> i64| -> ArrayRef {
        Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(of)).with_timezone("UTC"))
    };
    let texts = |of: fn(&Row) -> String| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.iter().map(of))) };
    let columns = vec![
        texts(|row| format!("e{}", row.0)),
        times(|row| i64::from(row.1)),
        Arc::new(TimestampMillisecondArray::new_null(rows.len()).with_timezone("UTC")) as ArrayRef,
        Arc::new(rows.iter().map(|row| (row.2 > 0).then_some(f64::from(row.2))).collect::<Float64Array>()),
        times(|row| i64::from(row.3)),
        texts(|row| format!("c{}", row.4)),
        // Few hashes, so that different rows sometimes have the same.
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| i64::from(row.2 / 2)))),
        times(|row| i64::from(row.3)),
        texts(|row| format!("c{}", row.4)),
    ];
    RecordBatch::try_new(events().table().schema(), columns).unwrap()
}

fn union(sets: &[&RecordBatch]) -> RecordBatch {
    merge(events().table(), &sets.iter().map(|&set| set.clone()).collect::<Vec<_>>()).unwrap()
}

/// When and by which capture each row was first observed.
fn firsts(rows: &RecordBatch) -> Vec<(i64, String)> {
    let own = events().table().columns.len();
    let at = rows.column(own + 3).as_primitive::<TimestampMillisecondType>();
    let captures = rows.column(own + 4).as_string::<i32>();
    (0..rows.num_rows()).map(|row| (at.value(row), captures.value(row).to_owned())).collect()
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    prop::collection::vec((0_u8..4, 0_u8..2, -3_i8..6, 0_u8..3, 0_u8..3), 0..25)
}

proptest! {
    #[test]
    fn neither_order_nor_grouping_nor_repetition_matters(one in rows(), two in rows(), three in rows()) {
        let (one, two, three) = (batch(&one), batch(&two), batch(&three));
        let all = union(&[&one, &two, &three]);
        prop_assert_eq!(&union(&[&union(&[&one, &two]), &three]), &all);
        prop_assert_eq!(&union(&[&one, &union(&[&two, &three])]), &all);
        prop_assert_eq!(&union(&[&three, &one, &two]), &all);
        prop_assert_eq!(&union(&[&all, &two]), &all);
        prop_assert_eq!(&union(&[&all]), &all);
    }

    #[test]
    fn a_batch_may_be_split_anywhere(rows in rows(), at in 0_usize..25) {
        let (head, tail) = rows.split_at(at.min(rows.len()));
        prop_assert_eq!(union(&[&batch(head), &batch(tail)]), union(&[&batch(&rows)]));
    }

    #[test]
    fn each_version_keeps_its_first_observation(rows in rows()) {
        let merged = union(&[&batch(&rows)]);
        let own = events().table().columns.len();
        let (keys, hashes) = (merged.column(0).as_string::<i32>(), merged.column(own + 2).as_primitive::<Int64Type>());
        for (at, first) in firsts(&merged).into_iter().enumerate() {
            let same = |row: &&Row| {
                format!("e{}", row.0) == keys.value(at) && i64::from(row.2 / 2) == hashes.value(at)
            };
            let earliest = rows.iter().filter(same).map(|row| (i64::from(row.3), format!("c{}", row.4))).min();
            prop_assert_eq!(Some(first), earliest);
        }
    }

    #[test]
    fn each_version_is_there_once_with_its_latest_observation(rows in rows()) {
        let merged = union(&[&batch(&rows)]);
        let mut versions: Vec<_> = rows.iter().map(|row| (row.0, row.2 / 2)).collect();
        versions.sort_unstable();
        versions.dedup();
        prop_assert_eq!(merged.num_rows(), versions.len());
        for line in lines(&merged) {
            let fields: Vec<_> = line.split('|').collect();
            let (observed, capture): (u8, u8) = (fields[4].parse().unwrap(), fields[5][1..].parse().unwrap());
            let same = |row: &&Row| format!("e{}", row.0) == fields[0];
            // Which version it is cannot be read off a line whose magnitude is null; the key's latest bounds it.
            let latest = rows.iter().filter(same).map(|row| row.3).max().unwrap();
            prop_assert!(observed <= latest);
            let source = |row: &&Row| same(row) && (row.3, row.4) == (observed, capture);
            prop_assert!(rows.iter().any(|row| source(&row)));
        }
    }
}

#[test]
fn the_latest_and_the_first_observation_stay_and_of_equal_ones_the_smallest_capture() {
    let merged = union(&[&batch(&[(1, 0, 2, 5, 1), (1, 0, 2, 7, 2), (1, 0, 2, 7, 1), (1, 0, 4, 6, 0)])]);
    assert_eq!(lines(&merged), ["e1|0|-|2.0|7|c1", "e1|0|-|4.0|6|c0"]);
    assert_eq!(firsts(&merged), [(5, "c1".to_owned()), (6, "c0".to_owned())]);
}

#[test]
fn the_union_of_nothing_is_empty() {
    let schema = events().table().schema();
    let columns = schema.fields().iter().map(|field| new_empty_array(field.data_type())).collect();
    let empty = RecordBatch::try_new(schema, columns).unwrap();
    assert_eq!(union(&[]), empty);
    assert_eq!(union(&[&empty, &empty]), empty);
}
