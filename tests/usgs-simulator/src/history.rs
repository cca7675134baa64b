//! Scripting a history: new versions, deletions, merges and splits, as the service does them.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::{
    catalogue::{Absorption, Catalogue, Kind, Text, Version, index},
    event::Event,
    row::{Column, Fields, RowError},
};

/// What the row of a deleted event tells of its id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tombstone {
    /// The id stays.
    #[default]
    WithId,
    /// The id is blank, and so is the network that it is made of.
    BlankId,
}

/// Why a history cannot be told so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// No event of this id was ever there.
    #[error("no event {0:?} in the catalogue")]
    Unknown(String),
    /// The event is not there at that time.
    #[error("event {id:?} is not there at {at}")]
    NotThere {
        /// The event.
        id: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// The change is none of the known ones.
    #[error("no such change: {0:?}")]
    Unheard(String),
    /// The event's row is not one the service could write.
    #[error(transparent)]
    Row(#[from] RowError),
}

impl Catalogue {
    /// Publishes a version of an event at `at`: the first or a later one. Its `updated` may say anything.
    ///
    /// # Errors
    /// When its id is blank or a time or number cannot be read.
    pub fn add(&mut self, event: Event, at: DateTime<Utc>) -> Result<(), EditError> {
        if event.id().is_empty() {
            return Err(RowError::BlankId.into());
        }
        let version = written(&event, at, Kind::Live)?;
        let id = event.id().to_owned();
        self.publish(&id, version, at);
        Ok(())
    }

    /// Deletes an event at `at`: a tombstone takes its place, with the last known values, no type, the status
    /// `deleted` and the time of deletion as `updated`. Later versions of it are dropped.
    ///
    /// # Errors
    /// When the event is not there at that time.
    pub fn delete(&mut self, id: &str, at: DateTime<Utc>, tombstone: Tombstone) -> Result<(), EditError> {
        let event = self.there(id, at)?.to_event();
        let mut event = event.updated(at).with(Column::Type, "").with(Column::Status, "deleted");
        if tombstone == Tombstone::BlankId {
            event = event.with(Column::Id, "").with(Column::Net, "");
        }
        let version = written(&event, at, Kind::Deleted)?;
        self.forget_after(id, at);
        self.publish(id, version, at);
        Ok(())
    }

    /// Takes an event away at `at` without a tombstone. Later versions of it are dropped.
    ///
    /// # Errors
    /// When the event is not there at that time.
    pub fn vanish(&mut self, id: &str, at: DateTime<Utc>) -> Result<(), EditError> {
        let gone = Version { kind: Kind::Gone, from: at.timestamp_millis(), ..self.there(id, at)?.clone() };
        self.forget_after(id, at);
        self.publish(id, gone, at);
        Ok(())
    }

    /// Merges `child` into `survivor` at `at`: the child's row vanishes without a tombstone, the survivor is changed
    /// (`updated` is `at`), and its `ids` name both from then on.
    ///
    /// # Errors
    /// When one of the two is not there at that time.
    pub fn merge(&mut self, child: &str, survivor: &str, at: DateTime<Utc>) -> Result<(), EditError> {
        self.absorb(child, survivor, at)?;
        let kept = self.there(survivor, at)?.to_event();
        self.add(kept.updated(at), at)
    }

    /// The same, while the survivor's row stays as it is.
    pub(crate) fn absorb(&mut self, child: &str, survivor: &str, at: DateTime<Utc>) -> Result<(), EditError> {
        self.there(survivor, at)?;
        self.vanish(child, at)?;
        let child = index(self.know(child));
        let keeper = self.know(survivor);
        self.events[keeper].absorbed.push(Absorption { child, from: at.timestamp_millis(), until: i64::MAX });
        Ok(())
    }

    /// Splits `child` off `survivor` at `at`: the child appears with the timestamps it carries (old ones, in the real
    /// service), the survivor is changed, and its `ids` no longer name the child.
    ///
    /// # Errors
    /// When the survivor is not there at that time, or the child's row cannot be read.
    pub fn split(&mut self, survivor: &str, child: Event, at: DateTime<Utc>) -> Result<(), EditError> {
        let kept = self.there(survivor, at)?.to_event();
        self.add(child, at)?;
        self.add(kept.updated(at), at)
    }

    fn there(&self, id: &str, at: DateTime<Utc>) -> Result<&Version, EditError> {
        let event = self.find(id).ok_or_else(|| EditError::Unknown(id.to_owned()))?;
        let visible = self.visible(event, at.timestamp_millis()).filter(|version| version.kind == Kind::Live);
        visible.ok_or_else(|| EditError::NotThere { id: id.to_owned(), at })
    }

    fn publish(&mut self, id: &str, version: Version, at: DateTime<Utc>) {
        let event = self.know(id);
        let last = self.events[event].versions.last().map(|&last| self.versions[last as usize].kind);
        if last == Some(Kind::Gone) {
            self.release(index(event), at.timestamp_millis());
        }
        self.push(event, version);
        self.settle(event);
        self.saw(at.timestamp_millis());
    }

    /// An event that is published again is no longer a part of another.
    fn release(&mut self, event: u32, at: i64) {
        for part in self.events.iter_mut().flat_map(|known| &mut known.absorbed) {
            if part.child == event {
                part.until = part.until.min(at);
            }
        }
    }

    /// Later versions are never published.
    fn forget_after(&mut self, id: &str, at: DateTime<Utc>) {
        let event = self.know(id);
        let versions = &mut self.versions;
        self.events[event].versions.retain(|&index| {
            let version = &mut versions[index as usize];
            let kept = version.from <= at.timestamp_millis();
            if !kept {
                version.kind = Kind::Gone;
            }
            kept
        });
        self.settle(event);
    }
}

fn written(event: &Event, at: DateTime<Utc>, kind: Kind) -> Result<Version, RowError> {
    let row: Arc<str> = event.to_row().into();
    let text = Text::new(&row, 0..row.len());
    let version = Version::read(text, &Fields::of(&row)?)?;
    let extras = (event.extras != crate::Extras::default()).then(|| Box::new(event.extras.clone()));
    Ok(Version { kind, from: at.timestamp_millis(), extras, ..version })
}

#[cfg(test)]
mod tests;
