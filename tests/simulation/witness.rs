//! What was seen at the moment when it was stored, so that later damage cannot hide it.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use shared::capture::{Encoding, Manifest};
use shared::dataset::{Cursor, Dataset};
use shared::store::{Memory, Store, read_json};

use super::chance::Chance;
use super::rows::{Answer, Content, of_answers};

/// A capture as it was stored.
pub(crate) struct Seen {
    pub(crate) manifest: Manifest,
    pub(crate) content: Content,
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

    /// Looks at a capture whose manifest may have been written just now, and says what is remarkable about it.
    pub(crate) async fn stored(&mut self, store: &Memory, name: &str) -> Vec<&'static str> {
        let Some(manifest) = read_json::<Manifest>(store, name).await.unwrap().value else { return Vec::new() };
        let capture = manifest.capture.to_string();
        if self.seen.contains_key(&capture) {
            return Vec::new();
        }
        let mut answers = Vec::new();
        for answer in &manifest.answers {
            let stored = store.get(&answer.object).await.unwrap().unwrap().bytes;
            let mut text = Vec::new();
            match answer.encoding {
                Encoding::Identity => text.extend_from_slice(&stored),
                Encoding::Gzip => {
                    MultiGzDecoder::new(&stored[..]).read_to_end(&mut text).unwrap();
                }
            }
            let form = self.dataset.form(&answer.form).unwrap();
            answers.push(Answer { form, observed: answer.observed_at.timestamp_millis(), text });
        }
        let content = of_answers(&*self.dataset, &answers, &capture);
        let tombstone = content.rows.iter().any(|row| row.deleted);
        let times = answers.windows(2).any(|pair| pair[0].observed != pair[1].observed);
        let remarks = [(tombstone, "brings a tombstone"), (times, "is made of answers of different times")];
        self.seen.insert(capture, Seen { manifest, content, damaged: false });
        remarks.into_iter().filter(|(holds, _)| *holds).map(|(_, remark)| remark).collect()
    }

    pub(crate) fn captures(&self) -> Vec<String> {
        self.seen.keys().cloned().collect()
    }

    /// Notes that an answer of a capture is no longer what it was. Returns the answer's object.
    pub(crate) fn damage(&mut self, capture: &str, chance: &mut Chance) -> String {
        let seen = self.seen.get_mut(capture).unwrap();
        seen.damaged = true;
        chance.pick(&seen.manifest.answers).object
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
