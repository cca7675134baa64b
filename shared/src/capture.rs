//! Captures: what a source answered to one ask, stored untouched.
//!
//! Invariant: a capture exists when its manifest does. The manifest is written last, once, and neither it nor an
//! answer is ever changed.

use std::fmt;
use std::hash::Hasher;
use std::str::FromStr;

use bytes::Bytes;
use chrono::{DateTime, NaiveDateTime, SubsecRound};
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use crate::clock::{Clock, Timestamp};
use crate::dataset::{Ask, Dataset};
use crate::form::Form;
use crate::store::{Precondition, Store, StoreError, Upload, read_json, write_json};

const FORM: &str = "%Y%m%dT%H%M%SZ";

/// A capture's name within its dataset: the source's time and random digits, so that names sort by observation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct CaptureId(String);

/// The text is no capture id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no capture id (20250724T153000Z-0123456789abcdef)")]
pub struct NotACapture(String);

impl CaptureId {
    /// A fresh name for an answer that the source made at `observed_at`.
    pub fn fresh(observed_at: Timestamp, clock: &dyn Clock) -> Self {
        Self(format!("{}-{:016x}", observed_at.format(FORM), clock.random() >> 64))
    }

    /// When the source made the answer, which the name begins with; whole seconds.
    pub fn observed_at(&self) -> Timestamp {
        // Checked when it became a name.
        NaiveDateTime::parse_from_str(&self.0[..16], FORM).unwrap_or_default().and_utc()
    }

    /// The folder of the capture of `dataset` in the lake.
    pub fn folder(&self, dataset: &str) -> String {
        let (year, month, day) = (&self.0[..4], &self.0[4..6], &self.0[6..8]);
        format!("raw/{dataset}/{year}/{month}/{day}/{self}")
    }

    /// The name of its manifest.
    pub fn manifest(&self, dataset: &str) -> String {
        format!("{}/manifest.json", self.folder(dataset))
    }

    /// Where the rows of it go that cannot be read.
    pub fn quarantine(&self, dataset: &str) -> String {
        format!("quarantine/{dataset}/{self}.jsonl")
    }
}

impl fmt::Display for CaptureId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for CaptureId {
    type Err = NotACapture;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = text.split_once('-').is_some_and(|(time, digits)| {
            // The parser also takes signs, fewer digits and blanks of any alphabet between the numbers.
            time.len() == 16
                && time.bytes().enumerate().all(|(at, byte)| matches!(at, 8 | 15) || byte.is_ascii_digit())
                && NaiveDateTime::parse_from_str(time, FORM).is_ok()
                && digits.len() == 16
                && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
        });
        if valid { Ok(Self(text.to_owned())) } else { Err(NotACapture(text.chars().take(80).collect())) }
    }
}

impl From<CaptureId> for String {
    fn from(id: CaptureId) -> Self {
        id.0
    }
}

impl TryFrom<String> for CaptureId {
    type Error = NotACapture;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// How an answer's bytes are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// As they are.
    Identity,
    /// As gzip, which is how the server sent them.
    Gzip,
}

/// XXH3-64 of bytes as they stream by.
pub struct Checksum(XxHash3_64);

impl Default for Checksum {
    fn default() -> Self {
        Self(XxHash3_64::new())
    }
}

impl Checksum {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    /// The checksum of all bytes so far, 16 hexadecimal digits.
    pub fn hex(&self) -> String {
        format!("{:016x}", self.0.finish())
    }
}

/// What is known of a capture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Its name.
    pub capture: CaptureId,
    /// Of which dataset.
    pub dataset: String,
    /// What was asked for; `None` for a file that a person brought.
    pub ask: Option<Ask>,
    /// When the source made the earliest of the answers, by its own clock; whole seconds.
    pub observed_at: Timestamp,
    /// When it was stored, by ours.
    pub stored_at: Timestamp,
    /// The answers, in the order in which they were asked for.
    pub answers: Vec<StoredAnswer>,
}

/// One answer of a capture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAnswer {
    /// The name of its [`Form`].
    pub form: String,
    /// The address that answered, or the file's name.
    pub origin: String,
    /// When the source made it, by its own clock; whole seconds.
    pub observed_at: Timestamp,
    /// Its object.
    pub object: String,
    /// How its bytes are packed.
    pub encoding: Encoding,
    /// Its size as stored.
    pub bytes: u64,
    /// XXH3-64 of the stored bytes, 16 hexadecimal digits.
    pub checksum: String,
    /// How many records it holds.
    pub records: u64,
}

impl Manifest {
    /// How many rows of `dataset` it holds.
    pub fn rows(&self, dataset: &dyn Dataset) -> u64 {
        let rows = self.answers.iter().filter(|answer| dataset.form(&answer.form).is_some_and(Form::has_rows));
        rows.map(|answer| answer.records).sum()
    }

    /// Commits the capture. One that is there already with the same content is the echo of our own write.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when another manifest has the name.
    pub async fn commit(&self, store: &dyn Store) -> Result<(), StoreError> {
        let name = self.capture.manifest(&self.dataset);
        match write_json(store, &name, self, Precondition::Absent).await {
            Err(StoreError::Conflict { name }) => {
                let found = read_json::<Self>(store, &name).await?;
                if found.value.as_ref() == Some(self) { Ok(()) } else { Err(StoreError::Conflict { name }) }
            }
            written => written.map(|_| ()),
        }
    }
}

/// A capture that is being written. Nothing of it is stored unless it is committed.
pub struct CaptureWriter<'a> {
    store: &'a dyn Store,
    capture: CaptureId,
    dataset: &'a str,
    answers: Vec<(StoredAnswer, Box<dyn Upload>)>,
}

impl<'a> CaptureWriter<'a> {
    /// Starts a capture of `dataset` whose first answer the source made at `observed_at`.
    pub fn begin(store: &'a dyn Store, clock: &dyn Clock, dataset: &'a str, observed_at: Timestamp) -> Self {
        let capture = CaptureId::fresh(whole_seconds(observed_at), clock);
        Self { store, capture, dataset, answers: Vec::new() }
    }

    /// Starts an answer of this form; [`CaptureWriter::add`] ends it.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn answer(&mut self, form: &Form, encoding: Encoding) -> Result<AnswerWriter, StoreError> {
        let packed = if encoding == Encoding::Gzip { ".gz" } else { "" };
        let object = format!("{}/{}.{}{packed}", self.capture.folder(self.dataset), form.name, form.extension());
        let upload = self.store.upload(&object, Precondition::Absent).await?;
        Ok(AnswerWriter { form: form.name, encoding, object, upload, checksum: Checksum::default(), bytes: 0 })
    }

    /// Adds a whole answer with `records` records, which `origin` made at `observed_at`.
    pub fn add(&mut self, answer: AnswerWriter, origin: &str, observed_at: Timestamp, records: u64) {
        let stored = StoredAnswer {
            form: answer.form.to_owned(),
            origin: origin.to_owned(),
            observed_at: whole_seconds(observed_at),
            object: answer.object,
            encoding: answer.encoding,
            bytes: answer.bytes,
            checksum: answer.checksum.hex(),
            records,
        };
        self.answers.push((stored, answer.upload));
    }

    /// Stores the answers, then the manifest.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn commit(self, clock: &dyn Clock, ask: Option<Ask>) -> Result<Manifest, StoreError> {
        let mut answers = Vec::with_capacity(self.answers.len());
        for (stored, upload) in self.answers {
            upload.finish().await?;
            answers.push(stored);
        }
        let stored_at = clock.now();
        let observed_at = answers.iter().map(|answer| answer.observed_at).min().unwrap_or(stored_at);
        let dataset = self.dataset.to_owned();
        let manifest = Manifest { capture: self.capture, dataset, ask, observed_at, stored_at, answers };
        manifest.commit(self.store).await?;
        Ok(manifest)
    }
}

/// An answer that is being written.
pub struct AnswerWriter {
    form: &'static str,
    encoding: Encoding,
    object: String,
    upload: Box<dyn Upload>,
    checksum: Checksum,
    bytes: u64,
}

impl AnswerWriter {
    /// Appends bytes as they came.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn write(&mut self, chunk: Bytes) -> Result<(), StoreError> {
        self.checksum.update(&chunk);
        self.bytes += chunk.len() as u64;
        self.upload.write(chunk).await
    }
}

/// A source's time in the whole seconds that its headers have.
pub fn whole_seconds(at: Timestamp) -> Timestamp {
    DateTime::from_timestamp(at.trunc_subsecs(0).timestamp(), 0).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::System;

    #[test]
    fn a_capture_id_reads_back_and_names_its_place() {
        let at = DateTime::from_timestamp(1_753_283_520, 0).unwrap();
        let id = CaptureId::fresh(at, &System);
        assert_eq!(id.to_string().parse(), Ok(id.clone()));
        assert!(id.manifest("earthquakes").starts_with("raw/earthquakes/2025/07/23/20250723T151200Z-"));
        for text in [
            "",
            "x",
            "../../etc",
            "20250723T151200Z-",
            "20259923T151200Z-0123456789abcdef",
            "202\u{a0}0723T15120Z-0123456789abcdef",
        ] {
            assert!(text.parse::<CaptureId>().is_err(), "{text}");
        }
    }
}
