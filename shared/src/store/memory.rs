//! A store in memory, for tests.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};

use super::{Generation, Metadata, Precondition, Reading, Store, StoreError, Upload};

#[derive(Default)]
struct Objects {
    last: i64,
    by_name: BTreeMap<String, (Bytes, Generation)>,
}

impl Objects {
    fn check(&self, name: &str, precondition: Precondition) -> Result<(), StoreError> {
        let current = self.by_name.get(name).map(|(_, generation)| *generation);
        if precondition.holds(current) { Ok(()) } else { Err(StoreError::Conflict { name: name.to_owned() }) }
    }
}

/// Objects in memory; clones share them.
#[derive(Clone, Default)]
pub struct Memory {
    objects: Arc<Mutex<Objects>>,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn metadata(name: &str, bytes: &Bytes, generation: Generation) -> Metadata {
    Metadata { name: name.to_owned(), generation, size: bytes.len() as u64 }
}

#[async_trait]
impl Store for Memory {
    async fn read(&self, name: &str, range: Option<Range<u64>>) -> Result<Reading, StoreError> {
        let (bytes, generation) =
            self.lock().by_name.get(name).cloned().ok_or_else(|| StoreError::NotFound { name: name.to_owned() })?;
        let metadata = metadata(name, &bytes, generation);
        let part = match range {
            None => bytes,
            Some(range) if range.start <= range.end && range.end <= metadata.size => {
                bytes.slice(range.start as usize..range.end as usize)
            }
            Some(range) => {
                return Err(StoreError::Permanent {
                    action: "read",
                    name: name.to_owned(),
                    reason: format!("bytes {range:?} are beyond its end at {}", metadata.size),
                });
            }
        };
        Ok(Reading { metadata, chunks: stream::iter([Ok(part)]).boxed() })
    }

    async fn head(&self, name: &str) -> Result<Option<Metadata>, StoreError> {
        Ok(self.lock().by_name.get(name).map(|(bytes, generation)| metadata(name, bytes, *generation)))
    }

    async fn upload(&self, name: &str, precondition: Precondition) -> Result<Box<dyn Upload>, StoreError> {
        Ok(Box::new(MemoryUpload { store: self.clone(), name: name.to_owned(), precondition, bytes: BytesMut::new() }))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Metadata>, StoreError> {
        let objects = self.lock();
        let from_prefix = objects.by_name.range(prefix.to_owned()..).take_while(|(name, _)| name.starts_with(prefix));
        Ok(from_prefix.map(|(name, (bytes, generation))| metadata(name, bytes, *generation)).collect())
    }

    async fn delete(&self, name: &str, precondition: Precondition) -> Result<(), StoreError> {
        let mut objects = self.lock();
        objects.check(name, precondition)?;
        objects.by_name.remove(name);
        Ok(())
    }
}

struct MemoryUpload {
    store: Memory,
    name: String,
    precondition: Precondition,
    bytes: BytesMut,
}

#[async_trait]
impl Upload for MemoryUpload {
    async fn write(&mut self, chunk: Bytes) -> Result<(), StoreError> {
        self.bytes.extend_from_slice(&chunk);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<Generation, StoreError> {
        let mut objects = self.store.lock();
        objects.check(&self.name, self.precondition)?;
        objects.last += 1;
        let generation = Generation(objects.last);
        objects.by_name.insert(self.name, (self.bytes.freeze(), generation));
        Ok(generation)
    }
}
