//! Row-by-row functions over typed arrays.
//!
//! Invariant: a NULL argument gives NULL, and a row that fails fails the query, unless the call is
//! a safe one, where it gives NULL.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayAccessor, ArrayRef, BinaryArray, BooleanArray, Date32Array, Float64Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{DataFusionError, Result, exec_err};

use super::signature::Call;

/// What a row gives: a value, NULL, or a sentence about why there is none.
pub(crate) type Row<T> = Result<Option<T>, String>;

fn settle<T>(row: Row<T>, safe: bool) -> Result<Option<T>> {
    match row {
        Ok(value) => Ok(value),
        Err(_) if safe => Ok(None),
        Err(message) => Err(DataFusionError::Execution(message)),
    }
}

/// The longest text that a function makes, in bytes.
const LONGEST: usize = 16 << 20;
/// The most bytes of texts that one call makes of one batch of rows. An array cannot hold twice as much.
const MOST: usize = 1 << 30;

/// Whether a text of so many bytes is made at all.
pub(crate) fn within_longest(bytes: usize) -> Result<(), String> {
    if bytes > LONGEST { Err(format!("a text of more than {LONGEST} bytes is not supported")) } else { Ok(()) }
}

/// A value of an array.
pub(crate) trait Cell {
    /// The bytes that it takes beside its place in the array.
    fn bytes(&self) -> usize {
        0
    }
}

impl Cell for bool {}
impl Cell for i32 {}
impl Cell for i64 {}
impl Cell for i128 {}
impl Cell for f64 {}

impl Cell for String {
    fn bytes(&self) -> usize {
        self.len()
    }
}

impl Cell for Vec<u8> {
    fn bytes(&self) -> usize {
        self.len()
    }
}

fn finish<T: Cell, C>(rows: impl Iterator<Item = Result<Option<T>>>) -> Result<ArrayRef>
where
    C: FromIterator<Option<T>> + Array + 'static,
{
    let mut bytes = 0;
    let bounded = rows.map(|row| {
        let row = row?;
        bytes += row.as_ref().map_or(0, Cell::bytes);
        if bytes > MOST {
            return exec_err!("the texts of one column of a batch of rows are longer than {MOST} bytes");
        }
        Ok(row)
    });
    let array: C = bounded.collect::<Result<_>>()?;
    Ok(Arc::new(array))
}

/// One value from one, row by row.
pub(crate) fn map1<A, T: Cell, C>(call: &Call<'_>, a: A, f: impl Fn(A::Item) -> Row<T>) -> Result<ArrayRef>
where
    A: ArrayAccessor,
    C: FromIterator<Option<T>> + Array + 'static,
{
    finish::<T, C>((0..a.len()).map(|row| {
        if a.is_null(row) {
            return Ok(None);
        }
        settle(f(a.value(row)), call.safe)
    }))
}

/// One value from two, row by row.
pub(crate) fn map2<A, B, T: Cell, C>(
    call: &Call<'_>,
    a: A,
    b: B,
    mut f: impl FnMut(A::Item, B::Item) -> Row<T>,
) -> Result<ArrayRef>
where
    A: ArrayAccessor,
    B: ArrayAccessor,
    C: FromIterator<Option<T>> + Array + 'static,
{
    finish::<T, C>((0..a.len()).map(|row| {
        if a.is_null(row) || b.is_null(row) {
            return Ok(None);
        }
        settle(f(a.value(row), b.value(row)), call.safe)
    }))
}

/// One value from three, row by row.
pub(crate) fn map3<A, B, D, T: Cell, C>(
    call: &Call<'_>,
    a: A,
    b: B,
    d: D,
    mut f: impl FnMut(A::Item, B::Item, D::Item) -> Row<T>,
) -> Result<ArrayRef>
where
    A: ArrayAccessor,
    B: ArrayAccessor,
    D: ArrayAccessor,
    C: FromIterator<Option<T>> + Array + 'static,
{
    finish::<T, C>((0..a.len()).map(|row| {
        if a.is_null(row) || b.is_null(row) || d.is_null(row) {
            return Ok(None);
        }
        settle(f(a.value(row), b.value(row), d.value(row)), call.safe)
    }))
}

/// Row by row with whatever access `f` needs; it sees to NULLs itself.
pub(crate) fn each<T: Cell, C>(call: &Call<'_>, mut f: impl FnMut(usize) -> Row<T>) -> Result<ArrayRef>
where
    C: FromIterator<Option<T>> + Array + 'static,
{
    finish::<T, C>((0..call.rows).map(|row| settle(f(row), call.safe)))
}

/// Gives an array of microseconds its zone, if it is of TIMESTAMPs.
pub(crate) fn zoned(array: ArrayRef, returns: &DataType) -> Result<ArrayRef> {
    match returns {
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let micros = column::<TimestampMicrosecondArray>(&array)?.clone();
            Ok(Arc::new(micros.with_timezone_opt(zone.clone())))
        }
        _ => Ok(array),
    }
}

fn column<T: Array + 'static>(array: &ArrayRef) -> Result<&T> {
    match array.as_any().downcast_ref::<T>() {
        Some(array) => Ok(array),
        None => exec_err!("an argument of type {} came where another was planned", array.data_type()),
    }
}

impl<'a> Call<'a> {
    fn arg<T: Array + 'static>(&self, place: usize) -> Result<&'a T> {
        match self.args.get(place) {
            Some(array) => column(array),
            None => exec_err!("argument {} is missing", place + 1),
        }
    }

    /// Whether argument `place` was given.
    pub(crate) fn has(&self, place: usize) -> bool {
        place < self.args.len()
    }

    pub(crate) fn ints(&self, place: usize) -> Result<&'a Int64Array> {
        self.arg(place)
    }
    pub(crate) fn floats(&self, place: usize) -> Result<&'a Float64Array> {
        self.arg(place)
    }
    pub(crate) fn texts(&self, place: usize) -> Result<&'a StringArray> {
        self.arg(place)
    }
    pub(crate) fn bytes(&self, place: usize) -> Result<&'a BinaryArray> {
        self.arg(place)
    }
    pub(crate) fn bools(&self, place: usize) -> Result<&'a BooleanArray> {
        self.arg(place)
    }
    pub(crate) fn dates(&self, place: usize) -> Result<&'a Date32Array> {
        self.arg(place)
    }
    pub(crate) fn micros(&self, place: usize) -> Result<&'a TimestampMicrosecondArray> {
        self.arg(place)
    }

    /// Text argument `place`, or `default` in every row if it was not given.
    pub(crate) fn texts_or(&self, place: usize, default: &str) -> Result<StringArray> {
        if self.has(place) {
            return self.texts(place).cloned();
        }
        Ok(StringArray::from(vec![default; self.rows]))
    }
}
