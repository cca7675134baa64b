//! The warehouse's own functions at the ends of their ranges.

use std::cell::OnceCell;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Date32Type, TimestampMicrosecondType};
use embedded::Embedded;
use shared::clock::System;
use shared::store::Memory;
use shared::warehouse::{Answer, Origin, Warehouse, WarehouseError};

use crate::grammar::query;
use crate::wait;

/// Days of 0001-01-01 and 9999-12-31, from 1970-01-01.
const DAYS: std::ops::RangeInclusive<i64> = -719_162..=2_932_896;
const DAY: i64 = 86_400_000_000;

thread_local! {
    static WAREHOUSE: OnceCell<Embedded> = const { OnceCell::new() };
}

/// A call on constants has a value or an error, and a date or time that it gives lies in the years 1 to 9999.
///
/// The bytes are the choices of which function and which constants.
pub fn expression(data: &[u8]) {
    let sql = query(data);
    match answer(&sql) {
        Ok(answer) => in_range(&answer, &sql),
        // The store is in memory and holds nothing: whatever goes wrong is the text's fault, and will not pass.
        Err(WarehouseError::Sql(error)) => assert!(!error.message.trim().is_empty(), "{sql}"),
        Err(error) => panic!("{sql}: {error}"),
    }
}

fn answer(sql: &str) -> Result<Answer, WarehouseError> {
    let warehouse = WAREHOUSE
        .with(|cell| cell.get_or_init(|| Embedded::new(Arc::new(Memory::default()), Arc::new(System))).clone());
    wait(warehouse.query(sql, &Origin::new("query")))
}

fn in_range(answer: &Answer, sql: &str) {
    assert_eq!(answer.batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 1, "{sql}");
    for column in answer.batches.iter().flat_map(|batch| batch.columns()).filter(|column| column.null_count() == 0) {
        let day = match column.data_type() {
            DataType::Date32 => i64::from(column.as_primitive::<Date32Type>().value(0)),
            DataType::Timestamp(..) => column.as_primitive::<TimestampMicrosecondType>().value(0).div_euclid(DAY),
            _ => continue,
        };
        assert!(DAYS.contains(&day), "{sql} gives day {day}");
    }
}
