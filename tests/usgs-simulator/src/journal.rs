//! The history that a sequence of snapshots of the feeds tells: what was published, deleted and merged, and when.
//!
//! A snapshot is dated by the newest `updated` in it. A row that changed was published at its `updated` when that lies
//! between two snapshots, otherwise with the later one: the service changes rows silently, too. An event that is missing
//! from a snapshot although an older one is listed has left. Snapshots do not say how: it was merged into an event
//! within 20 seconds and 150 km when there is one, and otherwise deleted.
//!
//! Invariant: a catalogue that follows the journal shows, at the date of each snapshot, the rows of that snapshot.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use chrono::{DateTime, Utc};

use crate::{
    catalogue::{Catalogue, Version},
    event::Event,
    history::{EditError, Tombstone},
    load::{CatalogueError, unpacked},
    row::{HEADER, RowError, format_time, parse_time},
    select::degrees_between,
};

/// Leading columns of a journal.
const JOURNAL_HEADER: &str = "published_utc,change,";
const PUBLISHED: &str = "published";
const DELETED: &str = "deleted";
const MERGED: &str = "merged into ";

/// How near in time, in milliseconds, and in space, in degrees of 111.195 km, an event is that replaced another.
const NEAR_IN_TIME: i64 = 20_000;
const NEAR_IN_SPACE: f64 = 150.0 / 111.195;

struct Change {
    /// Milliseconds since 1970.
    at: i64,
    change: String,
    row: String,
}

/// What changed from snapshot to snapshot.
pub struct Journal {
    /// The date of the last snapshot.
    newest: i64,
    /// The events that are there, by id.
    known: BTreeMap<String, Version>,
    changes: Vec<Change>,
}

impl Journal {
    /// The changes that `snapshots`, in any order, tell of since the snapshot `first`; those before it are left out.
    pub fn between(first: &Catalogue, mut snapshots: Vec<Catalogue>) -> Self {
        let newest = first.newest.unwrap_or(i64::MIN);
        let known = rows(first).map(|(id, version)| (id.to_owned(), version.clone())).collect();
        let mut journal = Self { newest, known, changes: Vec::new() };
        snapshots.sort_by_key(|snapshot| snapshot.newest);
        for snapshot in &snapshots {
            journal.observe(snapshot);
        }
        // A row is dated before its snapshot, but never before an earlier one.
        journal.changes.sort_by_key(|change| change.at);
        journal
    }

    fn observe(&mut self, snapshot: &Catalogue) {
        let Some(newest) = snapshot.newest.filter(|&newest| newest >= self.newest) else { return };
        for (id, version) in rows(snapshot) {
            if self.known.get(id).is_none_or(|known| known.text.as_str() != version.text.as_str()) {
                let said = self.newest < version.updated && version.updated <= newest;
                let at = if said { version.updated } else { newest };
                self.changes.push(Change { at, change: PUBLISHED.to_owned(), row: version.text.as_str().to_owned() });
                self.known.insert(id.to_owned(), version.clone());
            }
        }
        let oldest = rows(snapshot).map(|(_, version)| version.time).min().unwrap_or(i64::MAX);
        let changes = &mut self.changes;
        self.known.retain(|id, version| {
            let there = version.time <= oldest || snapshot.find(id).is_some();
            if !there {
                let change = match rows(snapshot).find(|(_, other)| near(version, other)) {
                    Some((survivor, _)) => format!("{MERGED}{survivor}"),
                    None => DELETED.to_owned(),
                };
                changes.push(Change { at: newest, change, row: version.text.as_str().to_owned() });
            }
            there
        });
        self.newest = newest;
    }

    /// Writes the journal as CSV: the time, the change, and the 22 columns of the row that it is about.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{JOURNAL_HEADER}{HEADER}")?;
        for Change { at, change, row } in &self.changes {
            let at = DateTime::from_timestamp_millis(*at).unwrap_or_default();
            writeln!(out, "{},{change},{row}", format_time(at))?;
        }
        Ok(())
    }
}

/// The rows of a snapshot, which has one of each event.
fn rows(snapshot: &Catalogue) -> impl Iterator<Item = (&str, &Version)> {
    let newest = |known: &crate::catalogue::Known| known.versions.last().map(|&last| last as usize);
    snapshot.events.iter().filter_map(move |known| Some((&*known.id, &snapshot.versions[newest(known)?])))
}

fn near(version: &Version, other: &Version) -> bool {
    (version.time - other.time).abs() <= NEAR_IN_TIME
        && degrees_between(version.latitude, version.longitude, other.latitude, other.longitude) <= NEAR_IN_SPACE
}

impl Catalogue {
    /// Adds the history of a journal, a file plain or gzip.
    ///
    /// # Errors
    /// When it cannot be read or unpacked, or does not follow from what is there.
    pub fn follow(&mut self, path: impl AsRef<Path>) -> Result<(), CatalogueError> {
        let mut bytes = Vec::new();
        File::open(path)?.read_to_end(&mut bytes)?;
        let text = unpacked(bytes)?;
        let mut lines = text.lines();
        let header = lines.next().unwrap_or_default();
        if header.strip_prefix(JOURNAL_HEADER) != Some(HEADER) {
            return Err(CatalogueError::Header(header.chars().take(300).collect()));
        }
        for (line, number) in lines.zip(2..) {
            self.change(line).map_err(|reason| CatalogueError::Change { line: number, reason })?;
        }
        Ok(())
    }

    fn change(&mut self, line: &str) -> Result<(), EditError> {
        let mut parts = line.splitn(3, ',');
        let (at, change) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let time = parse_time(at).and_then(DateTime::<Utc>::from_timestamp_millis);
        let at = time.ok_or_else(|| RowError::Time { column: "published_utc", text: at.to_owned() })?;
        let event = Event::from_row(parts.next().unwrap_or_default())?;
        match (change, change.strip_prefix(MERGED)) {
            (PUBLISHED, _) => self.add(event, at),
            (DELETED, _) => self.delete(event.id(), at, Tombstone::WithId),
            (_, Some(survivor)) => self.absorb(event.id(), survivor, at),
            (_, None) => Err(EditError::Unheard(change.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Column;

    fn row(id: &str, minute: u32, updated: &str, place: &str) -> String {
        let time: DateTime<Utc> = format!("2025-07-01T00:{minute:02}:00Z").parse().unwrap();
        let updated = format!("2025-07-01T{updated}Z").parse().unwrap();
        Event::new(id, time).updated(updated).with(Column::Place, place).to_row()
    }

    fn snapshot(rows: &[String]) -> Catalogue {
        Catalogue::from_bytes(format!("{HEADER}\n{}\n", rows.join("\n"))).unwrap()
    }

    #[test]
    fn what_snapshots_tell_is_followed() {
        let first = [row("us1", 1, "01:00:00", "a"), row("us2", 2, "01:00:00", "b"), row("us3", 3, "01:00:00", "c")];
        // In time, silent, and older than what the feed still lists.
        let second =
            [row("us2", 2, "01:00:00", "silent"), row("us3", 3, "01:59:00", "c"), row("ak4", 4, "02:00:00", "d")];
        // us3 has become ak9, ak4 is no more.
        let third =
            [row("us2", 2, "01:00:00", "silent"), row("ak9", 3, "03:00:00", "c"), row("us5", 9, "02:59:00", "e")];
        let snapshots = vec![snapshot(&third), snapshot(&second), snapshot(&[row("us0", 0, "00:30:00", "before")])];
        let journal = Journal::between(&snapshot(&first), snapshots);
        let file = std::env::temp_dir().join(format!("journal-{}.csv", std::process::id()));
        journal.write(&mut File::create(&file).unwrap()).unwrap();
        let mut catalogue = snapshot(&first);
        catalogue.follow(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        let there = |at: &str| {
            let events = catalogue.live(format!("2025-07-01T{at}Z").parse().unwrap());
            let mut rows: Vec<_> = events.iter().map(Event::to_row).collect();
            rows.sort();
            rows
        };
        let sorted = |rows: &[&String]| {
            let mut rows: Vec<_> = rows.iter().map(|&row| row.clone()).collect();
            rows.sort();
            rows
        };
        assert_eq!(there("01:58:59"), sorted(&[&first[0], &first[1], &first[2]]));
        assert_eq!(there("01:59:00"), sorted(&[&first[0], &first[1], &second[1]]));
        assert_eq!(there("02:00:00"), sorted(&[&first[0], &second[0], &second[1], &second[2]]));
        assert_eq!(there("03:00:00"), sorted(&[&first[0], &third[0], &third[1], &third[2]]));
        let now = parse_time("2025-07-01T03:00:00Z").unwrap();
        let survivor = catalogue.find("ak9").unwrap();
        assert_eq!(catalogue.ids(survivor, now).iter().map(|id| &**id).collect::<Vec<_>>(), ["us3", "ak9"]);
    }

    #[test]
    fn a_journal_that_does_not_follow_is_refused_with_its_line() {
        let file = std::env::temp_dir().join(format!("journal-refused-{}.csv", std::process::id()));
        let refused = |line: &str| {
            std::fs::write(&file, format!("{JOURNAL_HEADER}{HEADER}\n{line}\n")).unwrap();
            Catalogue::empty().follow(&file).unwrap_err().to_string()
        };
        let row = row("us1", 1, "01:00:00", "a");
        assert_eq!(
            refused(&format!("2025-07-01T02:00:00Z,deleted,{row}")),
            "line 2: no event \"us1\" in the catalogue"
        );
        assert_eq!(refused(&format!("2025-07-01T02:00:00Z,eaten,{row}")), "line 2: no such change: \"eaten\"");
        assert_eq!(refused(&format!("noon,published,{row}")), "line 2: published_utc \"noon\" is not a time");
        std::fs::remove_file(&file).unwrap();
    }
}
