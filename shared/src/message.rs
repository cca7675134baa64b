//! The messages between the services. They name datasets, captures and partitions, and hold no rows.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::capture::CaptureId;
use crate::dataset::Ask;
use crate::partition::Partition;
use crate::store::Generation;
use crate::table::TableName;
use crate::trace::{TRACEPARENT, Trace};

/// The attribute that says which version of the message's form this is.
pub const FORM: &str = "form";
/// The version that this program writes, and the latest that it reads.
pub const FORM_VERSION: u32 = 1;

/// Where a message is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// What to ask a source.
    FetchRequests,
    /// What was stored of its answers.
    Captures,
    /// Which partitions of bronze changed.
    Partitions,
    /// Which tables changed.
    Publications,
}

impl Topic {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::FetchRequests, Self::Captures, Self::Partitions, Self::Publications];

    /// Its name in Pub/Sub, without an environment's prefix.
    pub fn name(self) -> &'static str {
        match self {
            Self::FetchRequests => "fetch-requests",
            Self::Captures => "captures",
            Self::Partitions => "partitions",
            Self::Publications => "publications",
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A message's content.
pub trait Message: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Where it is published.
    const TOPIC: Topic;

    /// The dataset that it speaks of.
    fn dataset(&self) -> &str;
}

/// Asks fetch to ask a source. Idempotency: asking twice stores two captures, whose union is the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchRequest {
    /// Whose source.
    pub dataset: String,
    /// For what.
    pub ask: Ask,
}

impl Message for FetchRequest {
    const TOPIC: Topic = Topic::FetchRequests;

    fn dataset(&self) -> &str {
        &self.dataset
    }
}

/// Says that a capture is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureStored {
    /// Of which dataset.
    pub dataset: String,
    /// Which capture.
    pub capture: CaptureId,
}

impl Message for CaptureStored {
    const TOPIC: Topic = Topic::Captures;

    fn dataset(&self) -> &str {
        &self.dataset
    }
}

/// Asks land to load partitions of bronze again, and whatever else of the raw table turns out to be lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LandAgain {
    /// Of which dataset.
    pub dataset: String,
    /// Which partitions.
    pub partitions: Vec<Partition>,
}

impl Message for LandAgain {
    const TOPIC: Topic = Topic::Captures;

    fn dataset(&self) -> &str {
        &self.dataset
    }
}

/// What land takes from its topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ToLand {
    /// A capture.
    Capture(CaptureStored),
    /// Partitions of bronze.
    Again(LandAgain),
}

impl Message for ToLand {
    const TOPIC: Topic = Topic::Captures;

    fn dataset(&self) -> &str {
        match self {
            Self::Capture(message) => message.dataset(),
            Self::Again(message) => message.dataset(),
        }
    }
}

/// Says which partitions of bronze changed. A hint: transform finds what to do in the tables' own versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionsLanded {
    /// Of which dataset.
    pub dataset: String,
    /// The partitions, none twice.
    pub partitions: Vec<LandedPartition>,
    /// What is to be built.
    #[serde(default)]
    pub mode: Mode,
}

/// What transform builds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// What is out of date, by the tables' own versions.
    #[default]
    Changed,
    /// The message's partitions too, although nothing says that they changed.
    Again,
    /// Everything, from nothing.
    FullRefresh,
}

/// A partition of bronze as it is after landing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LandedPartition {
    /// Which one.
    pub partition: Partition,
    /// The generation of its object.
    pub generation: Generation,
    /// How many row versions it holds.
    pub rows: u64,
}

impl Message for PartitionsLanded {
    const TOPIC: Topic = Topic::Partitions;

    fn dataset(&self) -> &str {
        &self.dataset
    }
}

/// Says which tables have new content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoldPublished {
    /// Of which dataset.
    pub dataset: String,
    /// The tables and the versions they reached.
    pub tables: BTreeMap<TableName, u64>,
}

impl Message for GoldPublished {
    const TOPIC: Topic = Topic::Publications;

    fn dataset(&self) -> &str {
        &self.dataset
    }
}

/// A message as a bus carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// The content, JSON.
    pub data: Bytes,
    /// `form`, `dataset` and `traceparent`.
    pub attributes: BTreeMap<String, String>,
}

impl Parcel {
    /// Packs a message.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn pack<M: Message>(message: &M, trace: Trace) -> Result<Self, serde_json::Error> {
        let attributes = [
            (FORM.to_owned(), FORM_VERSION.to_string()),
            ("dataset".to_owned(), message.dataset().to_owned()),
            (TRACEPARENT.to_owned(), trace.to_string()),
        ];
        Ok(Self { data: serde_json::to_vec(message)?.into(), attributes: attributes.into() })
    }
}
