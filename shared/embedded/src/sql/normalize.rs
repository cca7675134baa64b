//! A plan's columns as BigQuery's types.
//!
//! Invariant: what leaves here has only INT64, FLOAT64, BOOL, STRING, BYTES, DATE, TIMESTAMP,
//! DATETIME, TIME and NUMERIC columns, arrays and structs of these, each with a name of its own.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::{Column, DataFusionError, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast};

/// TIMESTAMP: microseconds, UTC.
pub(crate) fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// DATETIME: microseconds without a zone.
pub(crate) fn datetime() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

/// NUMERIC.
pub(crate) fn numeric() -> DataType {
    DataType::Decimal128(38, 9)
}

/// The Arrow type of the BigQuery type that holds `data_type`'s values, if there is one.
pub fn bigquery_type(data_type: &DataType) -> Option<DataType> {
    use DataType::{
        Binary, BinaryView, Boolean, Date32, Date64, Decimal32, Decimal64, Decimal128, Decimal256, Dictionary,
        FixedSizeBinary, FixedSizeList, Float16, Float32, Float64, Int8, Int16, Int32, Int64, LargeBinary, LargeList,
        LargeListView, LargeUtf8, List, ListView, Null, RunEndEncoded, Struct, Time32, Time64, Timestamp, UInt8,
        UInt16, UInt32, UInt64, Utf8, Utf8View,
    };
    let element = |field: &FieldRef| -> Option<FieldRef> {
        let inner = bigquery_type(field.data_type())?;
        Some(Arc::new(Field::new(field.name(), inner, field.is_nullable())))
    };
    Some(match data_type {
        // An untyped NULL is an INT64 in BigQuery.
        Null | Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64 => Int64,
        Float16 | Float32 | Float64 => Float64,
        Boolean => Boolean,
        Utf8 | LargeUtf8 | Utf8View => Utf8,
        Binary | LargeBinary | BinaryView | FixedSizeBinary(_) => Binary,
        Date32 | Date64 => Date32,
        Time32(_) | Time64(_) => Time64(TimeUnit::Microsecond),
        Timestamp(_, Some(_)) => timestamp(),
        Timestamp(_, None) => datetime(),
        Decimal32(..) | Decimal64(..) | Decimal128(..) | Decimal256(..) => numeric(),
        Dictionary(_, values) => bigquery_type(values)?,
        RunEndEncoded(_, values) => bigquery_type(values.data_type())?,
        List(field) | LargeList(field) | ListView(field) | LargeListView(field) | FixedSizeList(field, _) => {
            List(element(field)?)
        }
        Struct(fields) => Struct(fields.iter().map(element).collect::<Option<Vec<_>>>()?.into()),
        _ => return None,
    })
}

/// `plan` with each column cast to BigQuery's type and under its bare name.
///
/// # Errors
/// A column whose type BigQuery's tables do not have (an interval), or two columns of one name.
pub fn normalize(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut names = HashSet::new();
    let mut columns = Vec::with_capacity(plan.schema().fields().len());
    let mut same = true;
    for (qualifier, field) in plan.schema().iter() {
        let name = field.name();
        if !names.insert(name.clone()) {
            let message = format!("duplicate column name '{name}' in the result");
            return Err(DataFusionError::Plan(message));
        }
        let Some(target) = bigquery_type(field.data_type()) else {
            let message =
                format!("column '{name}' is of type {}, which is not supported in a result", field.data_type());
            return Err(DataFusionError::Plan(message));
        };
        let column = Expr::Column(Column::new(qualifier.cloned(), name));
        if &target == field.data_type() {
            same &= qualifier.is_none();
            columns.push(if qualifier.is_none() { column } else { column.alias(name) });
        } else {
            same = false;
            columns.push(cast(column, target).alias(name));
        }
    }
    if same {
        return Ok(plan);
    }
    LogicalPlanBuilder::from(plan).project(columns)?.build()
}
