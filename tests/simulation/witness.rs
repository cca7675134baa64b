//! What was seen at the moment when it was stored, so that later damage cannot hide it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use shared::capture::{Encoding, Manifest};
use shared::csv::Check;
use shared::dataset::{Cursor, Dataset};
use shared::store::{Memory, Store, read_json};

use super::chance::Chance;
use super::rows::{Row, of_answer};

/// A capture as it was stored.
pub(crate) struct Seen {
    pub(crate) manifest: Manifest,
    pub(crate) rows: Vec<Row>,
    pub(crate) unreadable: u64,
    /// Of all its rows, the unreadable ones too.
    pub(crate) hashes: BTreeSet<i64>,
    pub(crate) damaged: bool,
}

/// All captures, and all that the cursor ever said.
pub(crate) struct Witness {
    dataset: Arc<dyn Dataset>,
    pub(crate) seen: BTreeMap<String, Seen>,
    cursors: Vec<Bytes>,
}

impl Witness {
    pub(crate) fn new(dataset: Arc<dyn Dataset>) -> Self {
        Self { dataset, seen: BTreeMap::new(), cursors: Vec::new() }
    }

    /// Looks at a capture whose manifest may have been written just now.
    pub(crate) async fn stored(&mut self, store: &Memory, name: &str) {
        let Some(manifest) = read_json::<Manifest>(store, name).await.unwrap().value else { return };
        let capture = manifest.capture.to_string();
        if self.seen.contains_key(&capture) {
            return;
        }
        let stored = store.get(&manifest.object).await.unwrap().unwrap().bytes;
        let mut text = Vec::new();
        match manifest.encoding {
            Encoding::Identity => text.extend_from_slice(&stored),
            Encoding::Gzip => {
                MultiGzDecoder::new(&stored[..]).read_to_end(&mut text).unwrap();
            }
        }
        let observed = manifest.observed_at.timestamp_millis();
        let (rows, unreadable) = of_answer(&*self.dataset, &text, observed, &capture);
        let hashes = hashes(&*self.dataset, &text);
        self.seen.insert(capture, Seen { manifest, rows, unreadable, hashes, damaged: false });
    }

    pub(crate) fn captures(&self) -> Vec<String> {
        self.seen.keys().cloned().collect()
    }

    /// Notes that a capture's answer is no longer what it was. Returns the answer's object.
    pub(crate) fn damage(&mut self, capture: &str) -> String {
        let seen = self.seen.get_mut(capture).unwrap();
        seen.damaged = true;
        seen.manifest.object.clone()
    }

    /// Looks at what the cursor says now: its watermark, in milliseconds since 1970.
    pub(crate) fn moved(&mut self, content: Bytes) -> i64 {
        let cursor: Cursor = serde_json::from_slice(&content).unwrap();
        self.cursors.push(content);
        cursor.watermark.timestamp_millis()
    }

    /// Something that the cursor once said.
    pub(crate) fn cursor(&self, chance: &mut Chance) -> Option<Bytes> {
        (!self.cursors.is_empty()).then(|| chance.pick(&self.cursors))
    }
}

/// The hashes of an answer's rows.
pub(crate) fn hashes(dataset: &dyn Dataset, text: &[u8]) -> BTreeSet<i64> {
    let mut hashes = BTreeSet::new();
    let mut check = Check::new(dataset.header());
    check.feed(text, |record| _ = hashes.insert(record.hash())).unwrap();
    check.finish(|record| _ = hashes.insert(record.hash())).unwrap();
    hashes
}
