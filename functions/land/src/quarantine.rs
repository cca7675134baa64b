//! Rows that cannot be read: one JSON line each, with the row as it came, where it stood and what is wrong with it.
//!
//! Invariant: the object of a capture depends on the capture alone, so landing again writes the same; there is none
//! when there is nothing in it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use shared::capture::Manifest;
use shared::csv::Record;
use shared::store::{Precondition, Store, StoreError, Upload};

#[derive(Serialize)]
struct Line<'a> {
    dataset: &'a str,
    capture: String,
    object: &'a str,
    line: u64,
    column: Option<&'a str>,
    reason: &'a str,
    raw: &'a str,
    /// Only when `raw` had to be altered to be text.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_base64: Option<String>,
}

/// Why a row is set aside.
pub(crate) struct Reason {
    /// The column, unless it is the whole row.
    pub(crate) column: Option<&'static str>,
    pub(crate) reason: String,
}

impl Reason {
    pub(crate) fn row(reason: String) -> Self {
        Self { column: None, reason }
    }

    pub(crate) fn column(column: &'static str, reason: impl Into<String>) -> Self {
        Self { column: Some(column), reason: reason.into() }
    }
}

/// The quarantine of one capture, as it is being written.
pub(crate) struct Quarantine<'a> {
    store: &'a dyn Store,
    manifest: &'a Manifest,
    upload: Option<Box<dyn Upload>>,
    pending: Vec<u8>,
    rows: u64,
}

impl<'a> Quarantine<'a> {
    pub(crate) fn new(store: &'a dyn Store, manifest: &'a Manifest) -> Self {
        Self { store, manifest, upload: None, pending: Vec::new(), rows: 0 }
    }

    /// Sets a row of the answer `object` aside; [`Quarantine::flush`] writes it.
    pub(crate) fn add(&mut self, object: &str, record: &Record<'_>, reason: &Reason) -> Result<(), serde_json::Error> {
        let raw = String::from_utf8_lossy(record.raw);
        let altered = matches!(raw, std::borrow::Cow::Owned(_));
        let line = Line {
            dataset: &self.manifest.dataset,
            capture: self.manifest.capture.to_string(),
            object,
            line: record.line,
            column: reason.column,
            reason: &reason.reason,
            raw: &raw,
            raw_base64: altered.then(|| BASE64.encode(record.raw)),
        };
        serde_json::to_writer(&mut self.pending, &line)?;
        self.pending.push(b'\n');
        self.rows += 1;
        Ok(())
    }

    /// Writes what is pending.
    pub(crate) async fn flush(&mut self) -> Result<(), StoreError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let upload = match &mut self.upload {
            Some(upload) => upload,
            none => {
                let name = self.manifest.capture.quarantine(&self.manifest.dataset);
                none.insert(self.store.upload(&name, Precondition::None).await?)
            }
        };
        upload.write(std::mem::take(&mut self.pending).into()).await
    }

    /// Makes the object visible. Returns how many rows it holds.
    pub(crate) async fn finish(mut self) -> Result<u64, StoreError> {
        self.flush().await?;
        if let Some(upload) = self.upload {
            upload.finish().await?;
        }
        Ok(self.rows)
    }
}
