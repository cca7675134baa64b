//! The cursor of a dataset: how far its source has been read, as an object of the lake.
//!
//! Invariant: the watermark only grows.

use shared::clock::Timestamp;
use shared::dataset::{Cursor, Fingerprint};
use shared::function::Failure;
use shared::store::{Generation, Precondition, Store, StoreError, read_json, write_json};

/// A cursor as it was read, to be advanced from there.
pub(crate) struct CursorObject {
    name: String,
    generation: Option<Generation>,
    /// `None` before the first run.
    pub(crate) value: Option<Cursor>,
}

impl CursorObject {
    pub(crate) async fn read(store: &dyn Store, dataset: &str) -> Result<Self, Failure> {
        let name = format!("state/{dataset}/cursor.json");
        let found = read_json(store, &name).await.map_err(|error| match error {
            StoreError::Permanent { .. } => {
                Failure::Poison(format!("{error}: remove it, and the next tick begins as a first run does"))
            }
            error => error.into(),
        })?;
        Ok(Self { name, generation: found.generation, value: found.value })
    }

    /// Advances to `watermark`. A cursor that somebody else moved as far meanwhile is left alone.
    pub(crate) async fn advance(
        &self,
        store: &dyn Store,
        watermark: Timestamp,
        seen: Vec<Fingerprint>,
    ) -> Result<(), Failure> {
        if self.value.as_ref().is_some_and(|cursor| cursor.watermark > watermark) {
            return Ok(());
        }
        let cursor = Cursor { watermark, seen };
        match write_json(store, &self.name, &cursor, Precondition::unchanged(self.generation)).await {
            Err(StoreError::Conflict { .. }) => {
                // The echo of our own write, or another tick that ran beside this one.
                let found = read_json::<Cursor>(store, &self.name).await?;
                match found.value {
                    Some(found) if found.watermark >= watermark => Ok(()),
                    _ => Err(Failure::Transient(format!("{} was moved by another tick", self.name))),
                }
            }
            written => Ok(written.map(|_| ())?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::store::Memory;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(seconds, 0).unwrap()
    }

    async fn watermark(store: &Memory) -> Option<Timestamp> {
        CursorObject::read(store, "d").await.unwrap().value.map(|cursor| cursor.watermark)
    }

    #[tokio::test]
    async fn the_watermark_only_grows() {
        let store = Memory::default();
        let first = CursorObject::read(&store, "d").await.unwrap();
        first.advance(&store, at(10), Vec::new()).await.unwrap();
        CursorObject::read(&store, "d").await.unwrap().advance(&store, at(5), Vec::new()).await.unwrap();
        assert_eq!(watermark(&store).await, Some(at(10)));
        // `first` was read before there was a cursor.
        first.advance(&store, at(7), Vec::new()).await.unwrap();
        assert!(matches!(first.advance(&store, at(20), Vec::new()).await, Err(Failure::Transient(_))));
        assert_eq!(watermark(&store).await, Some(at(10)));
    }

    #[tokio::test]
    async fn a_damaged_cursor_is_named_with_its_remedy() {
        let store = Memory::default();
        store.put("state/d/cursor.json", "{".into(), Precondition::None).await.unwrap();
        let Err(Failure::Poison(reason)) = CursorObject::read(&store, "d").await.map(|_| ()) else { panic!() };
        assert!(reason.contains("state/d/cursor.json") && reason.contains("remove it"), "{reason}");
    }
}
