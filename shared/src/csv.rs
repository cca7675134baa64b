//! Reads CSV as it arrives: records with their line number and raw text, in bounded memory.
//!
//! Invariant: every byte of the input belongs to exactly one record or blank line, whatever the chunks were, and the
//! end of the input tells whether the last record was whole.

use std::hash::Hasher;
use std::ops::ControlFlow;

use chrono::{DateTime, Datelike, NaiveDateTime, Utc};
use csv_core::{ReadRecordResult, Reader};
use twox_hash::XxHash3_64;

use crate::clock::Timestamp;
use crate::table::{Column, ColumnType, Value};

/// What some programs put before the first record; it is no part of it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A record longer than this is an open quote that swallows the file.
pub const LONGEST_RECORD: usize = 1 << 20;

/// One record of a file.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// The line on which it starts, from 1: the header is line 1.
    pub line: u64,
    /// Its text as it came, without the line ending.
    pub raw: &'a [u8],
    pub(crate) fields: &'a [u8],
    pub(crate) ends: &'a [usize],
}

impl<'a> Record<'a> {
    /// How many fields it has.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it has no field, which no record of a file does.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// A field without its quotes; empty when there is none.
    pub fn bytes(&self, index: usize) -> &'a [u8] {
        let start = if index == 0 { Some(0) } else { self.ends.get(index - 1).copied() };
        start.zip(self.ends.get(index)).map_or(&[], |(start, &end)| &self.fields[start..end])
    }

    /// A field as text, or `None` when it is empty.
    ///
    /// # Errors
    /// [`Unreadable`] when it is not UTF-8.
    pub fn text(&self, index: usize, column: &'static str) -> Result<Option<&'a str>, Unreadable> {
        match std::str::from_utf8(self.bytes(index)) {
            Ok("") => Ok(None),
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(Unreadable::new(column, "it is not UTF-8")),
        }
    }

    /// XXH3-64 of the fields, each followed by the unit separator; quoting and line endings do not matter.
    pub fn hash(&self) -> i64 {
        hash((0..self.len()).map(|index| self.bytes(index)))
    }

    /// Reads a field as its column says.
    ///
    /// # Errors
    /// [`Unreadable`] when it is missing though required, or not of the column's type.
    pub fn value(&self, index: usize, column: &Column) -> Result<Value, Unreadable> {
        let Some(text) = self.text(index, column.name)? else {
            return if column.required { Err(Unreadable::new(column.name, "it is blank")) } else { Ok(Value::Null) };
        };
        let value = match column.data_type {
            ColumnType::Text => Some(Value::Text(text.to_owned())),
            ColumnType::Integer => text.parse().ok().map(Value::Integer),
            ColumnType::Float => text.parse().ok().filter(|number: &f64| number.is_finite()).map(Value::Float),
            ColumnType::Timestamp => timestamp(text).map(Value::Timestamp),
        };
        let wanted = match column.data_type {
            ColumnType::Text => "text",
            ColumnType::Integer => "a whole number",
            ColumnType::Float => "a number",
            ColumnType::Timestamp => "a time (2024-03-13T15:13:23.771Z)",
        };
        value.ok_or_else(|| Unreadable::new(column.name, format!("'{text}' is not {wanted}")))
    }
}

/// XXH3-64 of fields, each followed by the unit separator.
pub fn hash<'a>(fields: impl Iterator<Item = &'a [u8]>) -> i64 {
    let mut hasher = XxHash3_64::new();
    for field in fields {
        hasher.write(field);
        hasher.write(b"\x1f");
    }
    hasher.finish().cast_signed()
}

/// Reads a UTC time such as `2024-03-13T15:13:23.771Z`, in milliseconds. The years are those of BigQuery, 1 to 9999.
pub fn timestamp(text: &str) -> Option<Timestamp> {
    let at = NaiveDateTime::parse_from_str(text.strip_suffix('Z')?, "%Y-%m-%dT%H:%M:%S%.f").ok()?.and_utc();
    if !(1..=9999).contains(&at.year()) {
        return None;
    }
    DateTime::<Utc>::from_timestamp_millis(at.timestamp_millis())
}

/// Why a row cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{column}: {reason}")]
pub struct Unreadable {
    /// The column, or what stands for it.
    pub column: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

impl Unreadable {
    /// A column and what is wrong with it.
    pub fn new(column: &'static str, reason: impl Into<String>) -> Self {
        Self { column, reason: reason.into() }
    }
}

/// Why a whole file is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is not even a header.
    #[error("the answer is empty")]
    Empty,
    /// The first line is not the header that the dataset has.
    #[error("the answer does not start with the expected header of {expected} columns but with '{found}'")]
    Header {
        /// How many columns there should be.
        expected: usize,
        /// The start of the first line.
        found: String,
    },
    /// It is not a FeatureCollection.
    #[error("the answer is no GeoJSON: it begins with '{found}'")]
    NotGeoJson {
        /// The start of it.
        found: String,
    },
    /// It ends within a row, or in something that is no row.
    #[error("the answer is torn: {0}")]
    Torn(String),
}

/// Splits a file that arrives in chunks into records.
pub struct Splitter {
    reader: Reader,
    raw: Vec<u8>,
    fields: Vec<u8>,
    field_bytes: usize,
    ends: Vec<usize>,
    field_count: usize,
    line: u64,
    last_byte: Option<u8>,
    /// How much of a byte order mark the file has begun with; `None` once that is settled.
    mark: Option<usize>,
    /// Whether anything was read.
    begun: bool,
}

impl Default for Splitter {
    fn default() -> Self {
        Self::new()
    }
}

impl Splitter {
    /// At the start of a file.
    pub fn new() -> Self {
        Self {
            reader: Reader::new(),
            raw: Vec::new(),
            fields: vec![0; 1024],
            field_bytes: 0,
            ends: vec![0; 64],
            field_count: 0,
            line: 1,
            last_byte: None,
            mark: Some(0),
            begun: false,
        }
    }

    /// Takes the next chunk and gives each record that it completes to `each`, until that breaks.
    ///
    /// # Errors
    /// [`Refused::Torn`] when a record is longer than [`LONGEST_RECORD`].
    pub fn feed<B>(
        &mut self,
        mut chunk: &[u8],
        mut each: impl FnMut(Record<'_>) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, Refused> {
        if let Some(&last) = chunk.last() {
            self.last_byte = Some(last);
        }
        chunk = self.after_mark(chunk)?;
        while !chunk.is_empty() {
            // The reader looks for a mark of its own in its first bytes, but not in one byte alone.
            let piece = if self.begun { chunk } else { &chunk[..1] };
            let (used, done) = self.step(piece)?;
            chunk = &chunk[used..];
            if done && let ControlFlow::Break(value) = self.give(&mut each) {
                return Ok(ControlFlow::Break(value));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Ends the file and gives the last record, if the file did not end in a newline.
    ///
    /// # Errors
    /// [`Refused::Torn`] when the last record is longer than [`LONGEST_RECORD`].
    pub fn finish<B>(&mut self, mut each: impl FnMut(Record<'_>) -> ControlFlow<B>) -> Result<ControlFlow<B>, Refused> {
        self.no_mark()?;
        let (_, done) = self.step(&[])?;
        Ok(if done { self.give(&mut each) } else { ControlFlow::Continue(()) })
    }

    /// Whether what was fed so far ends in a newline outside any record.
    pub fn ends_whole(&self) -> bool {
        self.last_byte == Some(b'\n') && self.raw.iter().all(|byte| matches!(byte, b'\r' | b'\n'))
    }

    /// The chunk without the byte order mark, or the part of one, at the start of the file. The reader below would miss
    /// one that arrives in parts.
    fn after_mark<'c>(&mut self, mut chunk: &'c [u8]) -> Result<&'c [u8], Refused> {
        while let Some(seen) = self.mark
            && let Some((first, rest)) = chunk.split_first()
        {
            if *first != BYTE_ORDER_MARK[seen] {
                self.no_mark()?;
            } else if seen + 1 == BYTE_ORDER_MARK.len() {
                self.mark = None;
                chunk = rest;
            } else {
                self.mark = Some(seen + 1);
                chunk = rest;
            }
        }
        Ok(chunk)
    }

    /// Reads the start of a file that looked like a byte order mark and was none.
    fn no_mark(&mut self) -> Result<(), Refused> {
        if let Some(seen) = self.mark.take().filter(|seen| *seen > 0) {
            self.step(&BYTE_ORDER_MARK[..seen])?;
        }
        Ok(())
    }

    fn step(&mut self, chunk: &[u8]) -> Result<(usize, bool), Refused> {
        let mut used = 0;
        self.begun = true;
        loop {
            let (result, read, bytes, fields) = self.reader.read_record(
                &chunk[used..],
                &mut self.fields[self.field_bytes..],
                &mut self.ends[self.field_count..],
            );
            self.raw.extend_from_slice(&chunk[used..used + read]);
            used += read;
            self.field_bytes += bytes;
            self.field_count += fields;
            if self.raw.len() > LONGEST_RECORD {
                let reason = format!("the record on line {} is longer than {LONGEST_RECORD} bytes", self.line);
                return Err(Refused::Torn(reason));
            }
            match result {
                ReadRecordResult::OutputFull => self.fields.resize(self.fields.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::InputEmpty | ReadRecordResult::End => return Ok((used, false)),
                ReadRecordResult::Record => return Ok((used, true)),
            }
        }
    }

    fn give<B>(&mut self, each: &mut impl FnMut(Record<'_>) -> ControlFlow<B>) -> ControlFlow<B> {
        // The rest of the line ending before, and blank lines, came in front of the record.
        let blank = self.raw.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let newlines = |bytes: &[u8]| bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
        let first_line = self.line + newlines(&self.raw[..blank]);
        let text = &self.raw[blank..];
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let record = Record {
            line: first_line,
            raw: text,
            fields: &self.fields[..self.field_bytes],
            ends: &self.ends[..self.field_count],
        };
        let flow = each(record);
        self.line += newlines(&self.raw);
        self.raw.clear();
        self.field_bytes = 0;
        self.field_count = 0;
        flow
    }
}

/// What a whole answer turned out to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    /// How many rows follow the header.
    pub rows: u64,
}

/// Checks an answer as it streams by: the header, that it ends whole, that its last row is a row.
///
/// A row with another number of fields in the midst is not refused here: land sets it aside. At the end it is the
/// text of a failure that the server appended, and what it cut off would be lost without a trace.
pub struct Check {
    header: &'static [&'static str],
    splitter: Splitter,
    state: CheckState,
}

#[derive(Default)]
struct CheckState {
    rows: u64,
    header_seen: bool,
    last_fields: usize,
    last_line: u64,
}

impl Check {
    /// A check of an answer that must have this header.
    pub fn new(header: &'static [&'static str]) -> Self {
        Self { header, splitter: Splitter::new(), state: CheckState::default() }
    }

    /// Takes the next chunk; each row is also shown to `row`.
    ///
    /// # Errors
    /// [`Refused`] as soon as the answer cannot be whole.
    pub fn feed(&mut self, chunk: &[u8], mut row: impl FnMut(&Record<'_>)) -> Result<(), Refused> {
        let (header, state) = (self.header, &mut self.state);
        let flow = self.splitter.feed(chunk, |record| state.take(header, &record, &mut row))?;
        refusal(flow)
    }

    /// Ends the answer.
    ///
    /// # Errors
    /// [`Refused`] when it is empty, torn or has the wrong header.
    pub fn finish(mut self, mut row: impl FnMut(&Record<'_>)) -> Result<Whole, Refused> {
        let whole = self.splitter.ends_whole();
        let (header, state) = (self.header, &mut self.state);
        refusal(self.splitter.finish(|record| state.take(header, &record, &mut row))?)?;
        if !self.state.header_seen {
            return Err(Refused::Empty);
        }
        if !whole {
            return Err(Refused::Torn(format!("it ends within line {}", self.state.last_line)));
        }
        if self.state.last_fields != header.len() {
            return Err(Refused::Torn(format!(
                "its last line, {}, has {} of {} fields",
                self.state.last_line,
                self.state.last_fields,
                header.len()
            )));
        }
        Ok(Whole { rows: self.state.rows })
    }
}

fn refusal(flow: ControlFlow<Refused>) -> Result<(), Refused> {
    match flow {
        ControlFlow::Break(refused) => Err(refused),
        ControlFlow::Continue(()) => Ok(()),
    }
}

impl CheckState {
    fn take(
        &mut self,
        header: &[&str],
        record: &Record<'_>,
        row: &mut impl FnMut(&Record<'_>),
    ) -> ControlFlow<Refused> {
        self.last_fields = record.len();
        self.last_line = record.line;
        if self.header_seen {
            self.rows += 1;
            row(record);
            return ControlFlow::Continue(());
        }
        self.header_seen = true;
        if record.len() == header.len() && (0..header.len()).all(|at| record.bytes(at) == header[at].as_bytes()) {
            return ControlFlow::Continue(());
        }
        let found = String::from_utf8_lossy(record.raw).chars().take(60).collect();
        ControlFlow::Break(Refused::Header { expected: header.len(), found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADER: &[&str] = &["id", "place"];

    fn check(text: &[u8], chunk: usize) -> Result<(Whole, Vec<(u64, String)>), Refused> {
        let mut check = Check::new(HEADER);
        let mut rows = Vec::new();
        let mut keep = |record: &Record<'_>| {
            rows.push((record.line, String::from_utf8_lossy(record.raw).into_owned()));
        };
        for chunk in text.chunks(chunk) {
            check.feed(chunk, &mut keep)?;
        }
        let whole = check.finish(&mut keep)?;
        Ok((whole, rows))
    }

    #[test]
    fn records_keep_their_line_and_raw_text_across_chunks_and_line_endings() {
        let text = b"id,place\r\na,\"x, \"\"y\"\"\"\r\n\r\nb,\"two\nlines\"\r\nc,\r\n";
        for chunk in 1..text.len() {
            let (whole, rows) = check(text, chunk).unwrap();
            assert_eq!(whole.rows, 3);
            let expected = [(2, "a,\"x, \"\"y\"\"\""), (4, "b,\"two\nlines\""), (6, "c,")];
            assert_eq!(rows, expected.map(|(line, raw)| (line, raw.to_owned())), "in chunks of {chunk}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_passed_over_in_any_chunks() {
        let text = "\u{feff}id,place\na,b\n".as_bytes();
        for chunk in 1..text.len() {
            assert_eq!(check(text, chunk).unwrap().1, [(2, "a,b".to_owned())], "in chunks of {chunk}");
            let twice = ["\u{feff}".as_bytes(), text].concat();
            assert!(matches!(check(&twice, chunk), Err(Refused::Header { .. })), "in chunks of {chunk}");
            assert!(matches!(check(&text[1..], chunk), Err(Refused::Header { .. })), "in chunks of {chunk}");
        }
    }

    #[test]
    fn an_answer_that_does_not_end_whole_is_refused() {
        for text in ["id,place\na,b", "id,place\na,b\nc", "id,place\na,\"b\n", "id,place\na,b\nError 500: timeout\n"] {
            assert!(matches!(check(text.as_bytes(), 7), Err(Refused::Torn(_))), "{text}");
        }
        assert_eq!(check(b"", 1).unwrap_err(), Refused::Empty);
        assert!(matches!(check(b"<html>\n", 3), Err(Refused::Header { .. })));
        assert_eq!(check(b"id,place\n", 3).unwrap().0, Whole { rows: 0 });
    }

    #[test]
    fn an_open_quote_does_not_swallow_memory() {
        let mut check = Check::new(HEADER);
        check.feed(b"id,place\na,\"", |_| ()).unwrap();
        let refused = (0..200).find_map(|_| check.feed(&[b'x'; 16 * 1024], |_| ()).err());
        assert!(matches!(refused, Some(Refused::Torn(_))));
    }

    #[test]
    fn a_time_is_utc_in_milliseconds() {
        assert_eq!(timestamp("2024-03-13T15:13:23.771Z").unwrap().timestamp_millis(), 1_710_342_803_771);
        for text in [
            "1970-01-01T00:00:02.-2147483648Z",
            "2024-03-13",
            "2024-03-13T15:13:23.771",
            "2024-02-30T00:00:00Z",
            "0000-01-01T00:00:00Z",
            "+12024-01-01T00:00:00Z",
        ] {
            assert_eq!(timestamp(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(text in "[ab,\"\r\n]{0,60}", chunk in 1_usize..10) {
            let text = format!("id,place\n{text}");
            prop_assert_eq!(check(text.as_bytes(), chunk), check(text.as_bytes(), usize::MAX));
        }
    }
}
