//! A store that counts what is read of it, and fails where it is told to.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use shared::store::{Generation, Metadata, Precondition, Reading, Store, StoreError, Upload};

pub(super) struct Spy {
    inner: Arc<dyn Store>,
    read: Mutex<BTreeSet<String>>,
    /// Writes of manifests fail before they happen.
    pub(super) crash: Arc<AtomicBool>,
    /// Writes of manifests happen, and their answers are lost.
    pub(super) echo: Arc<AtomicBool>,
}

impl Spy {
    pub(super) fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, read: Mutex::default(), crash: Arc::default(), echo: Arc::default() }
    }

    /// The Parquet objects that were read since this was last asked.
    pub(super) fn files_read(&self) -> BTreeSet<String> {
        let mut read = std::mem::take(&mut *self.read.lock().unwrap());
        read.retain(|name| name.ends_with(".parquet"));
        read
    }

    pub(super) async fn parquet_objects(&self) -> Vec<String> {
        let objects = self.inner.list("warehouse/").await.unwrap().into_iter().map(|object| object.name);
        objects.filter(|name| name.ends_with(".parquet")).collect()
    }
}

struct SpiedUpload {
    inner: Box<dyn Upload>,
    name: String,
    crash: Arc<AtomicBool>,
    echo: Arc<AtomicBool>,
}

#[async_trait]
impl Upload for SpiedUpload {
    async fn write(&mut self, chunk: Bytes) -> Result<(), StoreError> {
        self.inner.write(chunk).await
    }

    async fn finish(self: Box<Self>) -> Result<Generation, StoreError> {
        let manifest = self.name.ends_with("manifest.json");
        if manifest && self.crash.load(Ordering::Relaxed) {
            return Err(StoreError::Transient { action: "write", name: self.name, reason: "power cut".into() });
        }
        let generation = self.inner.finish().await?;
        if manifest && self.echo.load(Ordering::Relaxed) {
            return Err(StoreError::Conflict { name: self.name });
        }
        Ok(generation)
    }
}

#[async_trait]
impl Store for Spy {
    async fn read(&self, name: &str, range: Option<Range<u64>>) -> Result<Reading, StoreError> {
        self.read.lock().unwrap().insert(name.to_owned());
        self.inner.read(name, range).await
    }

    async fn head(&self, name: &str) -> Result<Option<Metadata>, StoreError> {
        self.inner.head(name).await
    }

    async fn upload(&self, name: &str, precondition: Precondition) -> Result<Box<dyn Upload>, StoreError> {
        let inner = self.inner.upload(name, precondition).await?;
        let (crash, echo) = (Arc::clone(&self.crash), Arc::clone(&self.echo));
        Ok(Box::new(SpiedUpload { inner, name: name.to_owned(), crash, echo }))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Metadata>, StoreError> {
        self.inner.list(prefix).await
    }

    async fn delete(&self, name: &str, precondition: Precondition) -> Result<(), StoreError> {
        self.inner.delete(name, precondition).await
    }
}
