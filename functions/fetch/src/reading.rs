//! Reads an answer while it streams by: unpacks it, checks that it is whole, and tells whether it brings anything new.

use std::io::{Read, Write};

use flate2::read::MultiGzDecoder;
use flate2::write::MultiGzDecoder as Unpacker;
use shared::capture::Encoding;
use shared::clock::Timestamp;
use shared::csv::{Record, Refused};
use shared::dataset::{Cursor, Dataset, Fingerprint};
use shared::form::{Check, Form};
use shared::table::Growth;

/// What an answer turned out to hold.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) rows: u64,
    /// Whether it has a row that the last answer did not have.
    pub(crate) news: bool,
    /// The rows that the next answer is expected to repeat.
    pub(crate) seen: Vec<Fingerprint>,
}

/// An answer on its way.
pub(crate) struct Reading<'a> {
    unpacker: Option<Unpacker<Vec<u8>>>,
    check: Check,
    rows: Rows<'a>,
    left: u64,
}

struct Rows<'a> {
    dataset: &'a dyn Dataset,
    form: &'static Form,
    /// `None` for a snapshot, whose rows need not be told apart: a later one is new.
    known: Option<&'a [Fingerprint]>,
    /// Rows that changed before this are not in the next answer.
    repeated_from: Timestamp,
    news: bool,
    seen: Vec<Fingerprint>,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(
        dataset: &'a dyn Dataset,
        form: &'static Form,
        encoding: Encoding,
        observed_at: Timestamp,
        cursor: Option<&'a Cursor>,
    ) -> Self {
        let snapshot = dataset.table().growth == Growth::Snapshot;
        let known: &[_] = cursor.map_or(&[], |cursor| &cursor.seen);
        let rows = Rows {
            dataset,
            form,
            known: (!snapshot).then_some(known),
            repeated_from: observed_at - dataset.source().overlap(),
            news: snapshot && cursor.is_none_or(|cursor| observed_at > cursor.watermark),
            seen: Vec::new(),
        };
        let unpacker = (encoding == Encoding::Gzip).then(|| Unpacker::new(Vec::new()));
        Self { unpacker, check: form.check(), rows, left: dataset.source().largest_answer() }
    }

    /// Takes the next bytes as they came.
    pub(crate) fn feed(&mut self, chunk: &[u8]) -> Result<(), Refused> {
        let Some(unpacker) = &mut self.unpacker else { return self.rows.feed(&mut self.check, &mut self.left, chunk) };
        // A piece at a time, so that a small chunk cannot unpack into all memory at once.
        for piece in chunk.chunks(4096) {
            unpacker.write_all(piece).map_err(|error| Refused::Torn(format!("it does not unpack ({error})")))?;
            let plain = std::mem::take(unpacker.get_mut());
            self.rows.feed(&mut self.check, &mut self.left, &plain)?;
        }
        Ok(())
    }

    /// Ends the answer.
    pub(crate) fn finish(mut self) -> Result<Content, Refused> {
        if let Some(unpacker) = &mut self.unpacker {
            unpacker.try_finish().map_err(|error| Refused::Torn(format!("it does not unpack ({error})")))?;
            let plain = std::mem::take(unpacker.get_mut());
            self.rows.feed(&mut self.check, &mut self.left, &plain)?;
        }
        let rows = &mut self.rows;
        let whole = self.check.finish(|record| rows.take(record))?;
        Ok(Content { rows: whole.rows, news: rows.news, seen: std::mem::take(&mut rows.seen) })
    }
}

impl Rows<'_> {
    fn feed(&mut self, check: &mut Check, left: &mut u64, plain: &[u8]) -> Result<(), Refused> {
        *left = left
            .checked_sub(plain.len() as u64)
            .ok_or_else(|| Refused::Torn("it has more bytes than an answer may have".to_owned()))?;
        check.feed(plain, |record| self.take(record))
    }

    fn take(&mut self, record: &Record<'_>) {
        let Some(known) = self.known else { return };
        let fingerprint = Fingerprint { changed_at: self.dataset.changed_at(self.form, record), hash: record.hash() };
        self.news |= known.binary_search(&fingerprint).is_err();
        if fingerprint.changed_at.is_none_or(|at| at >= self.repeated_from) {
            self.seen.push(fingerprint);
        }
    }
}

/// The start of a packed text, as far as it unpacks.
pub(crate) fn unpack_start(encoding: Encoding, bytes: &[u8], longest: usize) -> Vec<u8> {
    match encoding {
        Encoding::Identity => bytes.to_vec(),
        Encoding::Gzip => {
            let mut plain = Vec::new();
            // It may be cut off; what came before the cut is what is wanted.
            let _ = MultiGzDecoder::new(bytes).take(longest as u64).read_to_end(&mut plain);
            plain
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use shared::csv::timestamp;
    use shared::datasets::Earthquakes;

    const HEADER: &str = "time,latitude,longitude,depth,mag,magType,nst,gap,dmin,rms,net,id,updated,place,type,\
        horizontalError,depthError,magError,magNst,status,locationSource,magSource\n";

    fn row(id: &str, updated: &str) -> String {
        format!("2025-07-23T10:00:00.000Z,1,2,3,4,ml,,,,,ak,{id},{updated},x,earthquake,,,,,automatic,ak,ak\n")
    }

    fn read(text: &[u8], encoding: Encoding, cursor: Option<&Cursor>) -> Result<Content, Refused> {
        let dataset = Earthquakes::default();
        let now = timestamp("2025-07-23T12:00:00Z").unwrap();
        let mut reading = Reading::new(&dataset, &dataset.forms()[0], encoding, now, cursor);
        for chunk in text.chunks(50) {
            reading.feed(chunk)?;
        }
        reading.finish()
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn an_answer_that_only_repeats_the_last_one_brings_no_news() {
        let (old, new) = (row("old", "2025-07-23T09:30:00.000Z"), row("new", "2025-07-23T11:30:00.000Z"));
        let first = read(format!("{HEADER}{old}{new}").as_bytes(), Encoding::Identity, None).unwrap();
        assert_eq!((first.rows, first.news, first.seen.len()), (2, true, 1));
        let cursor = Cursor { watermark: timestamp("2025-07-23T12:00:00Z").unwrap(), seen: first.seen };
        let again = read(format!("{HEADER}{new}").as_bytes(), Encoding::Identity, Some(&cursor)).unwrap();
        assert!(!again.news);
        let revised = format!("{HEADER}{}", new.replace("ml", "mw"));
        assert!(read(revised.as_bytes(), Encoding::Identity, Some(&cursor)).unwrap().news);
    }

    #[test]
    fn a_packed_answer_is_the_same_answer_and_a_torn_one_is_refused() {
        let text = format!("{HEADER}{}", row("a", "2025-07-23T11:30:00.000Z"));
        let packed = gzip(text.as_bytes());
        assert_eq!(read(&packed, Encoding::Gzip, None), read(text.as_bytes(), Encoding::Identity, None));
        for torn in [&packed[..packed.len() - 4], &packed[..packed.len() / 2], b"plain".as_slice()] {
            assert!(matches!(read(torn, Encoding::Gzip, None), Err(Refused::Torn(_) | Refused::Empty)));
        }
    }

    #[test]
    fn an_answer_without_end_is_given_up() {
        let row = row("a", "2025-07-23T11:30:00.000Z").repeat(100);
        let dataset = Earthquakes::default();
        let mut reading = Reading::new(&dataset, &dataset.forms()[0], Encoding::Identity, Timestamp::default(), None);
        reading.left = 100_000;
        reading.feed(HEADER.as_bytes()).unwrap();
        let refused = (0..100).find_map(|_| reading.feed(row.as_bytes()).err());
        assert!(matches!(refused, Some(Refused::Torn(_))), "{refused:?}");
    }
}
