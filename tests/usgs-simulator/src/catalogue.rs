//! The catalogue: every version of every event, and which of them the service shows at an instant.
//!
//! Invariant: at any instant at most one version of an event is visible, the last that was published by then; versions
//! are never changed, only followed by others.

use std::{collections::HashMap, ops::Range, sync::Arc};

use chrono::{DateTime, Utc};

use crate::{
    event::{Event, Extras},
    row::{Column, Fields, RowError},
};

/// When the rows of a catalogue in the feed's format are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Visibility {
    /// Always, whatever the clock says: the state that was recorded.
    #[default]
    Always,
    /// From the row's `updated` on.
    FromUpdated,
}

/// A text within a shared buffer: a large catalogue is read once and never copied.
#[derive(Clone)]
pub(crate) struct Text {
    buffer: Arc<str>,
    at: Range<usize>,
}

impl Text {
    pub(crate) fn new(buffer: &Arc<str>, at: Range<usize>) -> Self {
        Self { buffer: Arc::clone(buffer), at }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.buffer[self.at.clone()]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Live,
    /// A tombstone.
    Deleted,
    /// No row: the event has left without a tombstone.
    Gone,
}

/// One state of one event. Times are milliseconds since 1970; a missing number is NaN, which no filter matches.
#[derive(Clone)]
pub(crate) struct Version {
    pub(crate) event: u32,
    pub(crate) kind: Kind,
    pub(crate) from: i64,
    /// Exclusive.
    pub(crate) until: i64,
    pub(crate) time: i64,
    pub(crate) updated: i64,
    pub(crate) latitude: f64,
    pub(crate) longitude: f64,
    pub(crate) depth: f64,
    pub(crate) magnitude: f64,
    pub(crate) text: Text,
    pub(crate) extras: Option<Box<Extras>>,
    /// Whether [`Visibility`] decides when it is there.
    pub(crate) of_feed: bool,
}

impl Version {
    /// Reads what is asked for often. `event` and the visibility are the catalogue's to set.
    pub(crate) fn read(text: Text, fields: &Fields<'_>) -> Result<Self, RowError> {
        let number = |column| fields.number(column).map(|number| number.unwrap_or(f64::NAN));
        Ok(Self {
            event: 0,
            kind: Kind::Live,
            from: i64::MIN,
            until: i64::MAX,
            time: fields.time(Column::Time)?,
            updated: fields.time(Column::Updated)?,
            latitude: number(Column::Latitude)?,
            longitude: number(Column::Longitude)?,
            depth: number(Column::Depth)?,
            magnitude: number(Column::Mag)?,
            text,
            extras: None,
            of_feed: false,
        })
    }

    pub(crate) fn visible(&self, now: i64) -> bool {
        self.from <= now && now < self.until && self.kind != Kind::Gone
    }

    /// The fields of the row: it was split once when it was read, so it can be split again.
    pub(crate) fn fields(&self) -> Fields<'_> {
        let fields = Fields::of(self.text.as_str());
        debug_assert!(fields.is_ok(), "a version was read from its row");
        fields.unwrap_or_default()
    }

    /// The raw field of a column.
    pub(crate) fn field(&self, column: Column) -> &str {
        self.fields().raw(column)
    }

    pub(crate) fn to_event(&self) -> Event {
        Event::from_fields(&self.fields()).extras(self.extras.as_deref().cloned().unwrap_or_default())
    }
}

/// An event's id within another, for a while.
pub(crate) struct Absorption {
    pub(crate) child: u32,
    pub(crate) from: i64,
    pub(crate) until: i64,
}

impl Absorption {
    fn holds(&self, now: i64) -> bool {
        self.from <= now && now < self.until
    }
}

pub(crate) struct Known {
    pub(crate) id: Arc<str>,
    /// Indexes of the versions, in the order of publication.
    pub(crate) versions: Vec<u32>,
    pub(crate) absorbed: Vec<Absorption>,
}

impl Known {
    fn has_absorbed(&self, event: usize, now: i64) -> bool {
        self.absorbed.iter().any(|part| part.child as usize == event && part.holds(now))
    }
}

/// Every version of every event. Load one with `from_path`, `from_reader` or `from_bytes`, or start from `empty`.
#[derive(Default)]
pub struct Catalogue {
    pub(crate) versions: Vec<Version>,
    pub(crate) events: Vec<Known>,
    by_id: HashMap<Arc<str>, u32>,
    /// Versions by ascending origin time, ties in reverse order of insertion: read backwards, it is the order of the
    /// recorded files.
    by_time: Vec<u32>,
    pub(crate) newest: Option<i64>,
}

impl Catalogue {
    /// A catalogue without events.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Decides when rows of the feed's format are there. Says nothing about versions with times of their own.
    #[must_use]
    pub fn with_visibility(mut self, visibility: Visibility) -> Self {
        for version in &mut self.versions {
            if version.of_feed {
                version.from = if visibility == Visibility::Always { i64::MIN } else { version.updated };
            }
        }
        for event in 0..self.events.len() {
            self.settle(event);
        }
        self
    }

    /// Number of versions, tombstones included.
    pub fn len(&self) -> usize {
        self.versions.iter().filter(|version| version.kind != Kind::Gone).count()
    }

    /// Whether there is no version at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The newest time that the catalogue knows of: of an `updated`, of a sighting or of an edit.
    pub fn newest(&self) -> Option<DateTime<Utc>> {
        self.newest.and_then(DateTime::from_timestamp_millis)
    }

    /// The last live version of an event, whenever it is visible.
    pub fn latest(&self, id: &str) -> Option<Event> {
        let known = &self.events[self.find(id)?];
        let last = known.versions.iter().rev().map(|&index| &self.versions[index as usize]);
        last.into_iter().find(|version| version.kind == Kind::Live).map(Version::to_event)
    }

    /// The events that the service lists at an instant, in no order.
    pub fn live(&self, at: DateTime<Utc>) -> Vec<Event> {
        self.all(Kind::Live, at)
    }

    /// The tombstones of an instant, in no order.
    pub fn deleted(&self, at: DateTime<Utc>) -> Vec<Event> {
        self.all(Kind::Deleted, at)
    }

    fn all(&self, kind: Kind, at: DateTime<Utc>) -> Vec<Event> {
        let visible = (0..self.events.len()).filter_map(|event| self.visible(event, at.timestamp_millis()));
        visible.filter(|version| version.kind == kind).map(Version::to_event).collect()
    }

    pub(crate) fn find(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).map(|&event| event as usize)
    }

    /// The event of this id, made known if it is new.
    pub(crate) fn know(&mut self, id: &str) -> usize {
        if let Some(event) = self.find(id) {
            return event;
        }
        let event = self.events.len();
        let id: Arc<str> = id.into();
        self.by_id.insert(Arc::clone(&id), index(event));
        self.events.push(Known { id, versions: Vec::new(), absorbed: Vec::new() });
        event
    }

    /// Adds a version; its event must be settled afterwards.
    pub(crate) fn push(&mut self, event: usize, mut version: Version) {
        version.event = index(event);
        self.events[event].versions.push(index(self.versions.len()));
        self.versions.push(version);
    }

    /// Puts an event's versions in the order of publication and ends each where the next begins.
    pub(crate) fn settle(&mut self, event: usize) {
        let versions = &mut self.versions;
        let own = &mut self.events[event].versions;
        if own.len() > 1 {
            own.sort_by_key(|&index| {
                let version = &versions[index as usize];
                // Rows that are all always there have only `updated` to tell the newest.
                (version.from, if version.from == i64::MIN { version.updated } else { 0 }, index)
            });
            for pair in 1..own.len() {
                versions[own[pair - 1] as usize].until = versions[own[pair] as usize].from;
            }
        }
        if let Some(&last) = own.last() {
            versions[last as usize].until = i64::MAX;
        }
    }

    /// Brings the order of time up to date. To be called after every change, before the next selection.
    pub(crate) fn arrange(&mut self) {
        let known = self.by_time.len();
        if known == self.versions.len() {
            return;
        }
        // Recorded files are newest first, so this is nearly in order already.
        let new: Vec<u32> = (index(known)..index(self.versions.len())).rev().collect();
        self.by_time = [new, std::mem::take(&mut self.by_time)].concat();
        let versions = &self.versions;
        self.by_time.sort_by_key(|&index| (versions[index as usize].time, std::cmp::Reverse(index)));
    }

    /// Versions whose origin time lies between the two, both included, oldest first, whether visible or not.
    pub(crate) fn between(&self, start: i64, end: i64) -> impl DoubleEndedIterator<Item = &Version> {
        debug_assert_eq!(self.by_time.len(), self.versions.len(), "arrange after a change");
        let time = |&index: &u32| self.versions[index as usize].time;
        let from = self.by_time.partition_point(|index| time(index) < start);
        let to = self.by_time.partition_point(|index| time(index) <= end).max(from);
        self.by_time[from..to].iter().map(|&index| &self.versions[index as usize])
    }

    /// The visible version of the event that goes by this id now, under its own name or a survivor's.
    pub(crate) fn known_as(&self, id: &str, now: i64) -> Option<&Version> {
        let mut event = self.find(id)?;
        // Each event once, should a script have merged in a circle.
        let mut passed = Vec::new();
        while !passed.contains(&event) {
            if let Some(version) = self.visible(event, now) {
                return Some(version);
            }
            passed.push(event);
            event = self.events.iter().position(|known| known.has_absorbed(event, now))?;
        }
        None
    }

    /// The version of an event that is visible now.
    pub(crate) fn visible(&self, event: usize, now: i64) -> Option<&Version> {
        let mut versions = self.events[event].versions.iter().map(|&index| &self.versions[index as usize]);
        versions.find(|version| version.visible(now))
    }

    /// All ids of an event now: those it absorbed, then its own.
    pub(crate) fn ids(&self, event: usize, now: i64) -> Vec<Arc<str>> {
        let mut events = vec![event];
        let mut next = 0;
        while let Some(&known) = events.get(next) {
            for part in &self.events[known].absorbed {
                let child = part.child as usize;
                if part.holds(now) && !events.contains(&child) {
                    events.push(child);
                }
            }
            next += 1;
        }
        events.iter().rev().map(|&event| Arc::clone(&self.events[event].id)).collect()
    }

    /// The network of an event, by its newest row.
    pub(crate) fn net(&self, id: &str) -> &str {
        let rows = self.find(id).map(|event| self.events[event].versions.iter().rev());
        let rows = rows.into_iter().flatten().map(|&index| &self.versions[index as usize]);
        let nets = rows.filter(|version| version.kind != Kind::Gone).map(|version| version.field(Column::Net));
        nets.into_iter().find(|net| !net.is_empty()).unwrap_or_default()
    }

    pub(crate) fn saw(&mut self, millis: i64) {
        self.newest = self.newest.max(Some(millis));
    }
}

/// Indexes are kept short: a catalogue of four thousand million versions is not meant.
pub(crate) fn index(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}
