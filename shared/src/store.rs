//! The `Store` port: named immutable values with generations, as Cloud Storage has them.
//!
//! Invariant: every successful write of a name gets a generation that is larger than all earlier ones of that name,
//! and a write with a [`Precondition`] happens only if the precondition holds at that instant.

mod directory;
mod memory;

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use futures::stream::BoxStream;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use directory::Directory;
pub use memory::Memory;

/// Which write of a name this is; larger is later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub i64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What must hold for a write or a delete to happen (`ifGenerationMatch`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precondition {
    /// Write whatever is there.
    None,
    /// Nothing has this name.
    Absent,
    /// The name holds exactly this generation.
    Is(Generation),
}

impl Precondition {
    /// The precondition "as I found it": the generation that was read, or absent.
    pub fn unchanged(found: Option<Generation>) -> Self {
        found.map_or(Self::Absent, Self::Is)
    }

    /// Whether it holds for a name that now has `current`.
    pub fn holds(self, current: Option<Generation>) -> bool {
        match self {
            Self::None => true,
            Self::Absent => current.is_none(),
            Self::Is(wanted) => current == Some(wanted),
        }
    }
}

/// An object's name, generation and size in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Full name, `/` between its parts.
    pub name: String,
    /// Of the content that the size speaks of.
    pub generation: Generation,
    /// In bytes.
    pub size: u64,
}

/// A whole object in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// The content.
    pub bytes: Bytes,
    /// Of that content.
    pub generation: Generation,
}

/// An object's content as it is read, chunk by chunk, all of one generation.
pub struct Reading {
    /// Of the content.
    pub metadata: Metadata,
    /// The chunks, in order.
    pub chunks: BoxStream<'static, Result<Bytes, StoreError>>,
}

impl Reading {
    /// Reads the rest into memory.
    pub async fn collect(self) -> Result<Bytes, StoreError> {
        let mut whole = BytesMut::new();
        let mut chunks = self.chunks;
        while let Some(chunk) = chunks.try_next().await? {
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }
}

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing has this name.
    #[error("no object {name}")]
    NotFound {
        /// The object.
        name: String,
    },
    /// The precondition did not hold: somebody wrote first, or the echo of our own write came late. Read back.
    #[error("object {name} has changed since it was read")]
    Conflict {
        /// The object.
        name: String,
    },
    /// It may succeed later.
    #[error("{action} of object {name} failed: {reason}")]
    Transient {
        /// `read`, `write`, `list` or `delete`.
        action: &'static str,
        /// The object, or the prefix of a listing.
        name: String,
        /// What the store said.
        reason: String,
    },
    /// It may succeed once somebody has made room or given leave; until then trying again is idle.
    #[error("{action} of object {name} is not possible: {reason}")]
    Blocked {
        /// `read`, `write`, `list` or `delete`.
        action: &'static str,
        /// The object, or the prefix of a listing.
        name: String,
        /// What the store said.
        reason: String,
    },
    /// It cannot succeed as asked.
    #[error("{action} of object {name} is not possible: {reason}")]
    Permanent {
        /// `read`, `write`, `list` or `delete`.
        action: &'static str,
        /// The object, or the prefix of a listing.
        name: String,
        /// What the store said.
        reason: String,
    },
}

/// An object that is being written. Dropping it before [`Upload::finish`] leaves nothing behind under its name.
#[async_trait]
pub trait Upload: Send {
    /// Appends a chunk.
    async fn write(&mut self, chunk: Bytes) -> Result<(), StoreError>;

    /// Makes the object visible, whole, if the precondition holds now.
    async fn finish(self: Box<Self>) -> Result<Generation, StoreError>;
}

/// Whether a name can be an object's in every store: no part of it is empty or starts with a dot, so that it also names
/// a file in a folder, and none leads out of it.
pub fn is_plain(name: &str) -> bool {
    let plain = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['\\', '\0', ':']);
    name.split('/').all(plain)
}

/// Named objects with generations.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Opens an object for streaming, or a range of its bytes.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is none; a range beyond the end is [`StoreError::Permanent`].
    async fn read(&self, name: &str, range: Option<Range<u64>>) -> Result<Reading, StoreError>;

    /// The object's metadata, or `None`.
    async fn head(&self, name: &str) -> Result<Option<Metadata>, StoreError>;

    /// Starts to write an object in chunks.
    async fn upload(&self, name: &str, precondition: Precondition) -> Result<Box<dyn Upload>, StoreError>;

    /// All objects whose names start with `prefix`, in the order of their names.
    async fn list(&self, prefix: &str) -> Result<Vec<Metadata>, StoreError>;

    /// Removes an object; one that is not there is no error unless the precondition names a generation.
    async fn delete(&self, name: &str, precondition: Precondition) -> Result<(), StoreError>;

    /// The whole object, or `None`.
    async fn get(&self, name: &str) -> Result<Option<Object>, StoreError> {
        match self.read(name, None).await {
            Ok(reading) => {
                let generation = reading.metadata.generation;
                Ok(Some(Object { bytes: reading.collect().await?, generation }))
            }
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a whole object.
    async fn put(&self, name: &str, bytes: Bytes, precondition: Precondition) -> Result<Generation, StoreError> {
        let mut upload = self.upload(name, precondition).await?;
        upload.write(bytes).await?;
        upload.finish().await
    }
}

/// A JSON object of the lake that was read, and the generation to write against.
pub struct Document<T> {
    /// What it says, or `None` when there is no such object.
    pub value: Option<T>,
    /// Of what was read.
    pub generation: Option<Generation>,
}

/// Reads a JSON object.
///
/// # Errors
/// [`StoreError::Permanent`] naming the object when it is not the JSON that is expected.
pub async fn read_json<T: DeserializeOwned>(store: &dyn Store, name: &str) -> Result<Document<T>, StoreError> {
    let Some(object) = store.get(name).await? else {
        return Ok(Document { value: None, generation: None });
    };
    let value = serde_json::from_slice(&object.bytes).map_err(|error| StoreError::Permanent {
        action: "read",
        name: name.to_owned(),
        reason: format!("it is damaged ({error})"),
    })?;
    Ok(Document { value: Some(value), generation: Some(object.generation) })
}

/// Reads the JSON objects below a prefix that are `wanted`, in the order of their names. One that is damaged is named in
/// the log and left out, so that it does not keep the others from being read.
///
/// # Errors
/// Those of the store.
pub async fn read_each_json<T: DeserializeOwned>(
    store: &dyn Store,
    prefix: &str,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<(String, T)>, StoreError> {
    let mut found = Vec::new();
    for object in store.list(prefix).await?.into_iter().filter(|object| wanted(&object.name)) {
        match read_json(store, &object.name).await {
            Ok(Document { value: Some(value), .. }) => found.push((object.name, value)),
            Ok(Document { value: None, .. }) => (),
            Err(error @ StoreError::Permanent { .. }) => tracing::error!(%error, "an object is left out"),
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Writes a JSON object.
pub async fn write_json<T: Serialize + Sync>(
    store: &dyn Store,
    name: &str,
    value: &T,
    precondition: Precondition,
) -> Result<Generation, StoreError> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|error| StoreError::Permanent {
        action: "write",
        name: name.to_owned(),
        reason: error.to_string(),
    })?;
    bytes.push(b'\n');
    store.put(name, bytes.into(), precondition).await
}
