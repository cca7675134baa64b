//! Reading catalogues: CSV, plain or gzip, in the feed's 22 columns or with two leading columns that say when each
//! version was first and last seen.
//!
//! Invariant: a row that cannot be read ends the loading; nothing is left out.

use std::{fs::File, io::Read, path::Path, sync::Arc};

use crate::{
    catalogue::{Catalogue, Text, Version},
    row::{Column, Fields, HEADER, RowError, parse_seen},
};

/// Leading columns of the format that says when a version was seen.
const SEEN_HEADER: &str = "first_seen_utc,last_seen_utc,";
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Why a catalogue cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The file cannot be read or unpacked.
    #[error("the catalogue cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// The bytes are no UTF-8.
    #[error("the catalogue is not UTF-8: {0}")]
    NotUtf8(#[from] std::string::FromUtf8Error),
    /// The first line is neither of the two known headers.
    #[error("the catalogue does not begin with the header of the feed: {0:?}")]
    Header(String),
    /// A change of a journal cannot be made.
    #[error("line {line}: {reason}")]
    Change {
        /// Line in the file, the header being 1.
        line: usize,
        /// What is wrong.
        reason: crate::history::EditError,
    },
    /// A row cannot be read.
    #[error("line {line}: {reason}")]
    Row {
        /// Line in the file, the header being 1.
        line: usize,
        /// What is wrong.
        reason: RowError,
    },
}

impl Catalogue {
    /// Loads a file.
    ///
    /// # Errors
    /// When it cannot be read, unpacked or understood.
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self, CatalogueError> {
        Self::from_reader(File::open(path)?)
    }

    /// Loads what a reader holds.
    ///
    /// # Errors
    /// When it cannot be read, unpacked or understood.
    pub fn from_reader(mut reader: impl Read) -> Result<Self, CatalogueError> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        Self::from_bytes(bytes)
    }

    /// Loads a file's content.
    ///
    /// # Errors
    /// When it cannot be unpacked or understood.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Result<Self, CatalogueError> {
        Self::from_text(&unpacked(bytes.into())?.into())
    }

    fn from_text(buffer: &Arc<str>) -> Result<Self, CatalogueError> {
        let (header, _) = line_at(buffer, 0);
        let seen = match header {
            HEADER => false,
            _ if header.strip_prefix(SEEN_HEADER) == Some(HEADER) => true,
            _ => return Err(CatalogueError::Header(header.chars().take(300).collect())),
        };
        let mut catalogue = Self::empty();
        let (mut number, mut start) = (1, line_at(buffer, 0).1);
        while start < buffer.len() {
            number += 1;
            let (line, next) = line_at(buffer, start);
            let read =
                if seen { catalogue.read_seen(buffer, start, line) } else { catalogue.read_row(buffer, start, line) };
            read.map_err(|reason| CatalogueError::Row { line: number, reason })?;
            start = next;
        }
        for event in 0..catalogue.events.len() {
            catalogue.settle(event);
        }
        Ok(catalogue)
    }

    fn read_row(&mut self, buffer: &Arc<str>, start: usize, row: &str) -> Result<(), RowError> {
        let mut version = read(buffer, start, row)?;
        version.1.of_feed = true;
        self.saw(version.1.updated);
        let event = self.know(version.0);
        self.push(event, version.1);
        Ok(())
    }

    fn read_seen(&mut self, buffer: &Arc<str>, start: usize, line: &str) -> Result<(), RowError> {
        let mut parts = line.splitn(3, ',');
        let (first, last) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let row = parts.next().unwrap_or_default();
        let seen =
            |column, text: &str| parse_seen(text).ok_or_else(|| RowError::Time { column, text: text.to_owned() });
        let (first, last) = (seen("first_seen_utc", first)?, seen("last_seen_utc", last)?);
        let (id, version) = read(buffer, start + line.len() - row.len(), row)?;
        self.saw(first.max(last));
        let event = self.know(id);
        self.push(event, Version { from: first, ..version });
        Ok(())
    }
}

/// The text of a file's content, plain or gzip.
pub(crate) fn unpacked(mut bytes: Vec<u8>) -> Result<String, CatalogueError> {
    if bytes.starts_with(&GZIP_MAGIC) {
        let mut plain = Vec::with_capacity(bytes.len() * 4);
        flate2::read::MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut plain)?;
        bytes = plain;
    }
    Ok(String::from_utf8(bytes)?)
}

fn read<'a>(buffer: &Arc<str>, start: usize, row: &'a str) -> Result<(&'a str, Version), RowError> {
    let fields = Fields::of(row)?;
    let id = fields.raw(Column::Id);
    if id.is_empty() {
        return Err(RowError::BlankId);
    }
    Ok((id, Version::read(Text::new(buffer, start..start + row.len()), &fields)?))
}

/// The line that starts at `start`, without its end, and where the next one starts.
fn line_at(buffer: &str, start: usize) -> (&str, usize) {
    let rest = &buffer[start..];
    let (line, next) = match rest.find('\n') {
        Some(end) => (&rest[..end], start + end + 1),
        None => (rest, buffer.len()),
    };
    (line.strip_suffix('\r').unwrap_or(line), next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Visibility;

    const ROWS: &str = "2025-07-01T00:00:00.000Z,1,2,3,1.5,ml,,,,,us,us1,2025-07-01T01:00:00.000Z,\"A\",earthquake,,,,,automatic,us,us\n\
                        2025-07-01T00:00:01.000Z,1,2,3,1.6,ml,,,,,us,us1,2025-07-01T02:00:00.000Z,\"A\",earthquake,,,,,reviewed,us,us\n";

    fn visible(catalogue: &Catalogue, now: &str) -> Option<String> {
        let now = crate::row::parse_time(now).unwrap();
        catalogue.visible(0, now).map(|version| version.field(Column::Mag).to_owned())
    }

    #[test]
    fn rows_of_the_feed_are_always_there_or_from_their_update_on() {
        let catalogue = Catalogue::from_bytes(format!("{HEADER}\n{ROWS}")).unwrap();
        assert_eq!(visible(&catalogue, "1999-01-01").as_deref(), Some("1.6"));
        assert_eq!(catalogue.newest(), Some("2025-07-01T02:00:00Z".parse().unwrap()));
        let catalogue = catalogue.with_visibility(Visibility::FromUpdated);
        assert_eq!(visible(&catalogue, "2025-07-01T00:59:59.999Z"), None);
        assert_eq!(visible(&catalogue, "2025-07-01T01:00:00Z").as_deref(), Some("1.5"));
        assert_eq!(visible(&catalogue, "2025-07-01T02:00:00Z").as_deref(), Some("1.6"));
    }

    #[test]
    fn seen_versions_follow_one_another() {
        let mut text = format!("{SEEN_HEADER}{HEADER}\r\n");
        for (seen, row) in ["2025-07-01T011518Z,2025-07-01T013000Z,", "2025-07-01T020000Z,2025-07-02T000001Z,"]
            .iter()
            .zip(ROWS.lines())
        {
            text = format!("{text}{seen}{row}\r\n");
        }
        let catalogue = Catalogue::from_bytes(text).unwrap();
        assert_eq!(visible(&catalogue, "2025-07-01T01:15:17Z"), None);
        assert_eq!(visible(&catalogue, "2025-07-01T01:45:00Z").as_deref(), Some("1.5"), "stays until the next");
        assert_eq!(visible(&catalogue, "2026-07-01").as_deref(), Some("1.6"));
        assert_eq!(catalogue.newest(), Some("2025-07-02T00:00:01Z".parse().unwrap()));
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_line() {
        let refused = |text: String| Catalogue::from_bytes(text).err().unwrap().to_string();
        assert!(refused("<html>".into()).contains("<html>"));
        assert_eq!(refused(format!("{HEADER}\n{ROWS}a,b\n")), "line 4: 2 fields where 22 are expected");
        assert_eq!(refused(format!("{HEADER}\n{}", ROWS.replacen(",us1,", ",,", 1))), "line 2: the id is blank");
        assert!(Catalogue::from_bytes([0x1f, 0x8b, 0, 0]).is_err());
    }
}
