//! The reader of CSV, and what a dataset makes of a record.

use std::ops::ControlFlow;

use shared::csv::{LONGEST_RECORD, Record, Refused, Splitter, Whole};
use shared::dataset::Dataset;
use shared::datasets::Earthquakes;
use shared::form::Form;

use crate::choices::Seeded;

pub(crate) const WORDS: &[&str] = &[
    ",",
    "\"",
    "\"\"",
    "\n",
    "\r\n",
    "\r",
    "\n\n",
    "\u{feff}",
    "\0",
    "\u{ff}",
    "2024-03-13T15:13:23.771Z",
    "+12024-01-01T00:00:00Z",
    "0000-01-01T00:00:00Z",
    "2016-12-31T23:59:60.999Z",
    "1970-01-01T00:00:02.-2147483648Z",
    "time,latitude",
    "automatic",
    "Error 500: timeout",
];

/// A record as it was given: its line, its text, its fields.
type Seen = (u64, Vec<u8>, Vec<Vec<u8>>);

/// The same records, lines and refusals however the bytes arrive; the fields that the `csv` crate finds; every byte in
/// a record or between two; no more held than the longest record.
pub fn csv(data: &[u8]) {
    let (records, refused) = split(data, usize::MAX);
    let form = &Earthquakes::default().forms()[0];
    let (whole, values) = check(form, data, usize::MAX);
    let varied = data.iter().fold(0, |sum: u64, &byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    for largest in [1, 2, 3, 7, 2 + usize::try_from(varied % 61).unwrap_or(0)] {
        assert_eq!(split(data, largest), (records.clone(), refused.clone()), "in chunks of at most {largest}");
        assert_eq!(check(form, data, largest), (whole.clone(), values.clone()), "in chunks of at most {largest}");
    }
    in_place(data, &records, refused.is_some());
    if refused.is_none() {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(data);
        let other: Vec<Vec<Vec<u8>>> = reader
            .byte_records()
            .filter_map(|record| record.ok().map(|record| record.iter().map(<[u8]>::to_vec).collect()))
            .collect();
        let ours: Vec<_> = records.into_iter().map(|(_, _, fields)| fields).collect();
        assert_eq!(ours, other, "the csv crate reads the same fields");
    }
}

/// Chunks of up to `largest` bytes, of which some are empty.
pub(crate) fn chunks(data: &[u8], largest: usize) -> impl Iterator<Item = &[u8]> {
    let mut random = Seeded(data.len() as u64);
    let mut rest = data;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let length = if largest == usize::MAX { rest.len() } else { random.below(largest + 1).min(rest.len()) };
        let (chunk, after) = rest.split_at(length);
        rest = after;
        Some(chunk)
    })
}

fn fields(record: &Record<'_>) -> Vec<Vec<u8>> {
    (0..record.len()).map(|at| record.bytes(at).to_vec()).collect()
}

fn split(data: &[u8], largest: usize) -> (Vec<Seen>, Option<Refused>) {
    let mut splitter = Splitter::new();
    let mut records: Vec<Seen> = Vec::new();
    let mut keep = |record: Record<'_>| {
        assert!(!record.is_empty() && record.raw.len() <= LONGEST_RECORD);
        assert!(record.bytes(record.len()).is_empty(), "there is nothing after the last field");
        records.push((record.line, record.raw.to_vec(), fields(&record)));
        ControlFlow::<()>::Continue(())
    };
    let fed = chunks(data, largest).try_for_each(|chunk| splitter.feed(chunk, &mut keep).map(|_| ()));
    let refused = fed.and_then(|()| splitter.finish(&mut keep).map(|_| ())).err();
    (records, refused)
}

/// What a dataset makes of a row, as text: `Debug` tells NaN and -0 apart as well.
fn read(dataset: &dyn Dataset, form: &Form, record: &Record<'_>) -> String {
    let spec = dataset.table();
    let mut values = Vec::new();
    if !form.has_rows() {
        return format!("{:?}", dataset.details(form, record));
    }
    match dataset.read(form, record, &mut values) {
        Ok(()) => {
            assert_eq!(values.len(), spec.columns.len());
            let partition = spec.partition_of(&values[spec.partition_column]);
            assert!(partition.is_some(), "a row that is read has a partition: {values:?}");
            format!("{} {values:?} {partition:?} {:?}", record.hash(), dataset.changed_at(form, record))
        }
        Err(unreadable) => unreadable.to_string(),
    }
}

/// What an answer of this form turns out to be, and what the dataset makes of its records.
pub(crate) fn check(form: &Form, data: &[u8], largest: usize) -> (Result<Whole, Refused>, Vec<String>) {
    let dataset = Earthquakes::default();
    let mut check = form.check();
    let mut rows = Vec::new();
    let mut keep = |record: &Record<'_>| rows.push(read(&dataset, form, record));
    let fed = chunks(data, largest).try_for_each(|chunk| check.feed(chunk, &mut keep));
    let whole = fed.and_then(|()| check.finish(&mut keep));
    if let Ok(whole) = &whole {
        assert_eq!(whole.rows, rows.len() as u64);
    }
    (whole, rows)
}

/// Each record stands where its line says, and between two there are only line endings.
fn in_place(data: &[u8], records: &[Seen], refused: bool) {
    let data = data.strip_prefix("\u{feff}".as_bytes()).unwrap_or(data);
    let mut at = 0;
    let ending = |at: &mut usize| {
        while data.get(*at).is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
            *at += 1;
        }
    };
    for (line, raw, _) in records {
        ending(&mut at);
        assert!(data[at..].starts_with(raw), "the record on line {line} is the text at byte {at}");
        assert_eq!(*line, 1 + data[..at].iter().filter(|&&byte| byte == b'\n').count() as u64, "line of byte {at}");
        at += raw.len();
    }
    ending(&mut at);
    assert!(refused || at == data.len(), "all of {} bytes are read, not {at}", data.len());
}
