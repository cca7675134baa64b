//! Reads GeoJSON as it arrives: features with their line number and raw text, in bounded memory.
//!
//! Invariant: an answer that is cut off anywhere, or does not hold as many features as it says, is refused whole.

use serde_json::Value;

use crate::csv::{LONGEST_RECORD, Record, Refused, Whole};

/// An answer that nests deeper is none of ours.
const DEEPEST: usize = 64;
/// A name at the top level that is longer is none that matters.
const LONGEST_NAME: usize = 64;
/// So much of another document is shown.
const SHOWN: usize = 60;

/// Checks a FeatureCollection as it streams by: that it closes, that each feature is JSON, and that there are as many
/// as `metadata.count` says, where it does.
///
/// A feature is shown as a [`Record`] of the fields that the check was made with: text as it is, numbers and truth
/// values as JSON writes them, null and what is not there as empty.
pub struct Check {
    fields: &'static [&'static str],
    /// The brackets that are open, outermost first.
    open: Vec<u8>,
    text: Text,
    /// The latest name at the top level.
    name: Vec<u8>,
    piece: Piece,
    raw: Vec<u8>,
    first_line: u64,
    line: u64,
    state: State,
    rows: u64,
    count: Option<u64>,
    /// The first characters, to say what came instead.
    start: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Text {
    Outside,
    Inside,
    Escaped,
}

/// What is being kept of the answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Piece {
    Nothing,
    Metadata,
    Feature,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    BeforeFeatures,
    InFeatures,
    AfterFeatures,
    Closed,
}

impl Check {
    /// A check of an answer whose features are shown with these fields: `id`, `longitude`, `latitude` and `depth` of
    /// the geometry, and else the properties of that name.
    pub fn new(fields: &'static [&'static str]) -> Self {
        Self {
            fields,
            open: Vec::new(),
            text: Text::Outside,
            name: Vec::new(),
            piece: Piece::Nothing,
            raw: Vec::new(),
            first_line: 1,
            line: 1,
            state: State::BeforeFeatures,
            rows: 0,
            count: None,
            start: Vec::new(),
        }
    }

    /// Takes the next chunk; each feature that it completes is shown to `row`.
    ///
    /// # Errors
    /// [`Refused`] as soon as the answer cannot be whole.
    pub fn feed(&mut self, chunk: &[u8], mut row: impl FnMut(&Record<'_>)) -> Result<(), Refused> {
        for &byte in chunk {
            self.step(byte, &mut row)?;
        }
        Ok(())
    }

    /// Ends the answer.
    ///
    /// # Errors
    /// [`Refused`] when it is empty, torn, or another document.
    pub fn finish(self) -> Result<Whole, Refused> {
        if self.start.is_empty() {
            return Err(Refused::Empty);
        }
        if self.state != State::Closed {
            return Err(Refused::Torn(format!("it ends within line {}", self.line)));
        }
        match self.count {
            Some(count) if count != self.rows => {
                Err(Refused::Torn(format!("it says that it has {count} features, and has {}", self.rows)))
            }
            _ => Ok(Whole { rows: self.rows }),
        }
    }

    fn step(&mut self, byte: u8, row: &mut impl FnMut(&Record<'_>)) -> Result<(), Refused> {
        if self.start.len() < SHOWN {
            self.start.push(byte);
        }
        if self.piece != Piece::Nothing {
            self.raw.push(byte);
            if self.raw.len() > LONGEST_RECORD {
                let reason = format!("the feature on line {} is longer than {LONGEST_RECORD} bytes", self.first_line);
                return Err(Refused::Torn(reason));
            }
        }
        if byte == b'\n' {
            self.line += 1;
        }
        match self.text {
            Text::Escaped => self.text = Text::Inside,
            Text::Inside => match byte {
                b'\\' => self.text = Text::Escaped,
                b'"' => self.text = Text::Outside,
                _ if self.open.len() == 1 && self.name.len() < LONGEST_NAME => self.name.push(byte),
                _ => (),
            },
            Text::Outside => return self.outside(byte, row),
        }
        Ok(())
    }

    fn outside(&mut self, byte: u8, row: &mut impl FnMut(&Record<'_>)) -> Result<(), Refused> {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ if self.state == State::Closed => return Err(Refused::Torn("text follows its end".to_owned())),
            b'{' | b'[' => self.opened(byte)?,
            _ if self.open.is_empty() => return Err(self.not_geojson()),
            b'}' | b']' => return self.closed(byte, row),
            b'"' => {
                self.text = Text::Inside;
                if self.open.len() == 1 {
                    self.name.clear();
                }
            }
            _ => (),
        }
        Ok(())
    }

    fn opened(&mut self, byte: u8) -> Result<(), Refused> {
        if self.open.is_empty() && byte != b'{' {
            return Err(self.not_geojson());
        }
        if self.open.len() == DEEPEST {
            return Err(Refused::Torn(format!("line {} nests deeper than {DEEPEST} levels", self.line)));
        }
        self.open.push(byte);
        let begins = match (self.open.as_slice(), self.state) {
            (b"{[", State::BeforeFeatures) if self.name == b"features" => {
                self.state = State::InFeatures;
                Piece::Nothing
            }
            (b"{{", _) if self.name == b"metadata" => Piece::Metadata,
            (b"{[{", State::InFeatures) => Piece::Feature,
            _ => Piece::Nothing,
        };
        if begins != Piece::Nothing {
            self.piece = begins;
            self.first_line = self.line;
            self.raw.clear();
            self.raw.push(byte);
        }
        Ok(())
    }

    fn closed(&mut self, byte: u8, row: &mut impl FnMut(&Record<'_>)) -> Result<(), Refused> {
        let opening = if byte == b'}' { b'{' } else { b'[' };
        if self.open.pop() != Some(opening) {
            return Err(Refused::Torn(format!("line {} closes what was not opened", self.line)));
        }
        match (self.piece, self.open.as_slice()) {
            (Piece::Feature, b"{[") => self.give(row)?,
            (Piece::Metadata, b"{") => {
                self.count = self.parsed()?.get("count").and_then(Value::as_u64);
                self.piece = Piece::Nothing;
            }
            (_, b"{") if self.state == State::InFeatures => self.state = State::AfterFeatures,
            (_, b"") if self.state == State::AfterFeatures => self.state = State::Closed,
            (_, b"") => return Err(self.not_geojson()),
            _ => (),
        }
        Ok(())
    }

    fn parsed(&self) -> Result<Value, Refused> {
        serde_json::from_slice(&self.raw)
            .map_err(|error| Refused::Torn(format!("line {} is not JSON: {error}", self.first_line)))
    }

    fn give(&mut self, row: &mut impl FnMut(&Record<'_>)) -> Result<(), Refused> {
        let feature = self.parsed()?;
        let mut fields = Vec::with_capacity(256);
        let mut ends = Vec::with_capacity(self.fields.len());
        for field in self.fields {
            put(&mut fields, find(&feature, field));
            ends.push(fields.len());
        }
        self.rows += 1;
        row(&Record { line: self.first_line, raw: &self.raw, fields: &fields, ends: &ends });
        self.piece = Piece::Nothing;
        Ok(())
    }

    fn not_geojson(&self) -> Refused {
        Refused::NotGeoJson { found: String::from_utf8_lossy(&self.start).into_owned() }
    }
}

fn find<'a>(feature: &'a Value, field: &str) -> &'a Value {
    let coordinate = |at: usize| &feature["geometry"]["coordinates"][at];
    match field {
        "id" => &feature["id"],
        "longitude" => coordinate(0),
        "latitude" => coordinate(1),
        "depth" => coordinate(2),
        property => &feature["properties"][property],
    }
}

fn put(fields: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => (),
        Value::String(text) => fields.extend_from_slice(text.as_bytes()),
        other => fields.extend_from_slice(other.to_string().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: &[&str] = &["id", "mag", "ids", "depth", "tsunami"];
    const WHOLE: &str = r#"{"type":"FeatureCollection","metadata":{"count":2,"title":"\"features\":[{"},"features":[{"type":"Feature","properties":{"mag":1.5,"ids":",a,b,","tsunami":0,"place":"\"}] \\"},"geometry":{"coordinates":[-1,2,3.5]},"id":"a"},
{"type":"Feature","properties":{"mag":null,"ids":null},"geometry":null,"id":null}],"bbox":[1,2]}
"#;

    fn read(text: &str, chunk: usize) -> Result<Vec<(u64, String)>, Refused> {
        let mut check = Check::new(FIELDS);
        let mut rows = Vec::new();
        for chunk in text.as_bytes().chunks(chunk) {
            check.feed(chunk, |record| {
                let fields: Vec<_> =
                    (0..record.len()).map(|at| String::from_utf8_lossy(record.bytes(at)).into_owned()).collect();
                rows.push((record.line, fields.join("|")));
            })?;
        }
        let whole = check.finish()?;
        assert_eq!(whole.rows, rows.len() as u64);
        Ok(rows)
    }

    #[test]
    fn features_become_records_whatever_the_chunks() {
        for chunk in 1..WHOLE.len() {
            let rows = read(WHOLE, chunk).unwrap();
            assert_eq!(rows, [(1, "a|1.5|,a,b,|3.5|0".to_owned()), (2, "||||".to_owned())], "in chunks of {chunk}");
        }
        let none = r#"{"type":"FeatureCollection","metadata":{"count":0},"features":[]}"#;
        assert_eq!(read(none, 7).unwrap(), []);
    }

    #[test]
    fn an_answer_that_is_cut_off_anywhere_is_refused() {
        for end in 1..WHOLE.trim_end().len() {
            assert!(matches!(read(&WHOLE[..end], 11), Err(Refused::Torn(_))), "{}", &WHOLE[..end]);
        }
        assert_eq!(read("", 1), Err(Refused::Empty));
    }

    #[test]
    fn another_document_is_refused() {
        for text in ["<html></html>", "[1]", "null", "{\"features\":3}", "{}", "Error"] {
            assert!(matches!(read(text, 3), Err(Refused::NotGeoJson { .. })), "{text}");
        }
        let wrong_count = WHOLE.replace("\"count\":2", "\"count\":3");
        let appended = format!("{WHOLE}Error 500");
        let crossed = WHOLE.replace("[-1,2,3.5]", "[-1,2,3.5}");
        let not_json = WHOLE.replace("1.5", "1.5.5");
        let deep = format!("{{\"features\":[{}", "[".repeat(1000));
        for text in [wrong_count, appended, crossed, not_json, deep] {
            assert!(matches!(read(&text, 3), Err(Refused::Torn(_))), "{text}");
        }
        let endless = format!("{{\"features\":[{{\"id\":\"{}", "x".repeat(LONGEST_RECORD));
        assert!(matches!(read(&endless, 4096), Err(Refused::Torn(_))));
    }
}
