//! The store and the bus as one delivery has them: each call waits for its turn, and may fail as the ports' contracts
//! allow. [`Sabotage`] takes a safeguard away, to show that the invariants miss it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use shared::bus::{Bus, BusError};
use shared::message::{Parcel, Topic};
use shared::store::{Generation, Memory, Metadata, Object, Precondition, Reading, Store, StoreError, Upload};

use super::loads::at_rest;
use super::post::Post;
use super::turns::{Kind, Seat};

/// A safeguard that is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// The store writes whatever the precondition says.
    NoPreconditions,
    /// A conflict is taken for the echo of one's own write, without reading back.
    NoReadBack,
    /// Reading back after a conflict does not show what the write did.
    BlindReadBack,
    /// A capture's message is published after the cursor has moved.
    CursorBeforeMessage,
    /// A capture's manifest is written after the cursor has moved.
    CursorBeforeManifest,
    /// What is at work on a table is not waited for.
    Unwaited,
    /// The ids of jobs come without the number of the attempt.
    Numberless,
}

/// How the names of the records of tables end.
const RECORD: &str = "/record.json";

/// What one delivery holds back, and what it would see on reading back.
#[derive(Default)]
struct Held {
    messages: Vec<(Topic, Parcel)>,
    manifests: Vec<(String, Bytes)>,
    before: BTreeMap<String, Option<Object>>,
}

/// Store and bus of one delivery.
#[derive(Clone)]
pub(crate) struct Ports {
    pub(crate) seat: Seat,
    pub(crate) store: Memory,
    pub(crate) post: Arc<Post>,
    pub(crate) sabotage: Option<Sabotage>,
    held: Arc<Mutex<Held>>,
}

impl Ports {
    pub(crate) fn new(seat: Seat, store: Memory, post: Arc<Post>, sabotage: Option<Sabotage>) -> Self {
        Self { seat, store, post, sabotage, held: Arc::default() }
    }

    /// The warehouse's own files are settled by its manifests; their order is not the schedule's.
    fn passes(name: &str) -> bool {
        name.starts_with("warehouse/") && !name.ends_with("/manifest.json") && !name.ends_with(RECORD)
    }

    async fn around<T>(
        &self,
        kind: Kind,
        action: &'static str,
        name: &str,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        if Self::passes(name) {
            return call.await;
        }
        let lost = || StoreError::Transient { action, name: name.to_owned(), reason: "simulated".to_owned() };
        let conflict = || StoreError::Conflict { name: name.to_owned() };
        self.seat.around(kind, format!("{action} {name}"), call, lost, conflict).await
    }

    /// Lets go of what was held back, at the last write of a delivery.
    async fn release(&self) -> Result<(), StoreError> {
        let (manifests, messages) = {
            let mut held = self.held.lock().unwrap();
            (std::mem::take(&mut held.manifests), std::mem::take(&mut held.messages))
        };
        for (name, bytes) in manifests {
            self.around(Kind::Write, "write", &name, self.store.put(&name, bytes, Precondition::None)).await?;
        }
        for (topic, parcel) in messages {
            self.deliver(topic, parcel).await.map_err(|error| StoreError::Transient {
                action: "write",
                name: topic.to_string(),
                reason: error.to_string(),
            })?;
        }
        Ok(())
    }

    async fn deliver(&self, topic: Topic, parcel: Parcel) -> Result<String, BusError> {
        let lost = || BusError { topic, reason: "simulated".to_owned(), blocked: false };
        let what = format!("publish to {topic} {}", String::from_utf8_lossy(&parcel.data));
        let call = async { Ok(self.post.publish(topic, parcel)) };
        self.seat.around(Kind::Write, what, call, lost, lost).await
    }
}

#[async_trait]
impl Bus for Ports {
    async fn send(&self, topic: Topic, parcel: Parcel) -> Result<String, BusError> {
        if self.sabotage == Some(Sabotage::CursorBeforeMessage) && topic == Topic::Captures {
            self.held.lock().unwrap().messages.push((topic, parcel));
            return Ok("held".to_owned());
        }
        self.deliver(topic, parcel).await
    }
}

#[async_trait]
impl Store for Ports {
    async fn read(&self, name: &str, range: Option<Range<u64>>) -> Result<Reading, StoreError> {
        let before = self.held.lock().unwrap().before.remove(name);
        match before {
            Some(Some(Object { bytes, generation })) => {
                let metadata = Metadata { name: name.to_owned(), generation, size: bytes.len() as u64 };
                Ok(Reading { metadata, chunks: stream::iter([Ok(bytes)]).boxed() })
            }
            Some(None) => Err(StoreError::NotFound { name: name.to_owned() }),
            None => {
                let found = self.around(Kind::Read, "read", name, self.store.read(name, range)).await?;
                if self.sabotage != Some(Sabotage::Unwaited) || !name.ends_with(RECORD) {
                    return Ok(found);
                }
                let metadata = found.metadata.clone();
                let bytes = at_rest(&found.collect().await?);
                Ok(Reading { metadata, chunks: stream::iter([Ok(bytes)]).boxed() })
            }
        }
    }

    async fn head(&self, name: &str) -> Result<Option<Metadata>, StoreError> {
        self.around(Kind::Read, "look at", name, self.store.head(name)).await
    }

    async fn upload(&self, name: &str, precondition: Precondition) -> Result<Box<dyn Upload>, StoreError> {
        // Between the answers of one capture the source may change.
        if name.starts_with("raw/") {
            let begun = async { Ok(()) };
            self.around(Kind::Read, "begin", name, begun).await?;
        }
        Ok(Box::new(PortsUpload { ports: self.clone(), name: name.to_owned(), precondition, bytes: Vec::new() }))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Metadata>, StoreError> {
        self.around(Kind::Read, "list", prefix, self.store.list(prefix)).await
    }

    async fn delete(&self, name: &str, precondition: Precondition) -> Result<(), StoreError> {
        let kind = if precondition == Precondition::None { Kind::Write } else { Kind::Conditional };
        self.around(kind, "delete", name, self.store.delete(name, precondition)).await
    }
}

/// Chunks have no turn of their own: how many an answer comes in is the network's doing, and nobody sees them before
/// the end.
struct PortsUpload {
    ports: Ports,
    name: String,
    precondition: Precondition,
    bytes: Vec<u8>,
}

#[async_trait]
impl Upload for PortsUpload {
    async fn write(&mut self, chunk: Bytes) -> Result<(), StoreError> {
        self.bytes.extend_from_slice(&chunk);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<Generation, StoreError> {
        let Self { ports, name, precondition, bytes } = *self;
        let bytes = Bytes::from(bytes);
        if name.starts_with("ledger/") {
            ports.release().await?;
        }
        if ports.sabotage == Some(Sabotage::CursorBeforeManifest) && name.starts_with("raw/") && name.ends_with(".json")
        {
            ports.held.lock().unwrap().manifests.push((name, bytes));
            return Ok(Generation(0));
        }
        let kind = if precondition == Precondition::None { Kind::Write } else { Kind::Conditional };
        let checked = if ports.sabotage == Some(Sabotage::NoPreconditions) { Precondition::None } else { precondition };
        let call = async {
            if ports.sabotage == Some(Sabotage::BlindReadBack) {
                let before = ports.store.get(&name).await?;
                ports.held.lock().unwrap().before.insert(name.clone(), before);
            }
            let written = ports.store.put(&name, bytes, checked).await;
            if written.is_err() {
                ports.seat.note(&format!("comes second to {name}"));
            }
            written
        };
        let done = ports.around(kind, "write", &name, call).await;
        match done {
            Err(StoreError::Conflict { .. }) if ports.sabotage == Some(Sabotage::NoReadBack) => {
                Ok(ports.store.head(&name).await?.map_or(Generation(0), |found| found.generation))
            }
            Err(error @ StoreError::Conflict { .. }) => Err(error),
            other => {
                ports.held.lock().unwrap().before.remove(&name);
                other
            }
        }
    }
}
