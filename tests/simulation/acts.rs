//! What the schedule does to the pipeline and its source, and what an operator may do.

use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::TimeDelta;
use shared::dataset::Ask;
use shared::message::{CaptureStored, FetchRequest, LandAgain, Mode, PartitionsLanded, Topic};
use shared::partition::Partition;
use shared::store::{Precondition, Store};

use super::story::Act;
use super::world::{CURSOR, DATASET, World};

impl World<'_> {
    /// Sends a message as an operator does.
    pub(crate) fn rebuild(&mut self) {
        let run = self.chance.bits();
        let message = PartitionsLanded { dataset: DATASET.to_owned(), partitions: Vec::new(), mode: Mode::FullRefresh };
        self.post.send(&message, run);
    }

    pub(crate) fn ask(&mut self, ask: Ask) {
        let run = self.chance.bits();
        self.post.send(&FetchRequest { dataset: DATASET.to_owned(), ask }, run);
    }

    pub(crate) async fn act(&mut self, act: Act) {
        self.note(format!("act: {act:?}"));
        match act {
            Act::Tick(after) | Act::TwoTicks(after) => {
                self.source().advance(Duration::from_millis(u64::try_from(after).unwrap()));
                self.now.fetch_add(after, Ordering::Relaxed);
                let times = if matches!(act, Act::TwoTicks(_)) { 2 } else { 1 };
                for _ in 0..times {
                    self.ask(Ask::Tick { days: 30, sweep: false });
                }
            }
            Act::Sweep => self.ask(Ask::Tick { days: 30, sweep: true }),
            Act::Backfill(back, hours) => {
                let start = self.source().now() - TimeDelta::hours(back);
                self.ask(Ask::Range { start, end: start + TimeDelta::hours(hours) });
            }
            Act::ReplayRaw => {
                let captures = self.witness.captures();
                if !captures.is_empty() {
                    let capture = self.chance.pick(&captures).parse().unwrap();
                    let run = self.chance.bits();
                    self.post.send(&CaptureStored { dataset: DATASET.to_owned(), capture }, run);
                }
            }
            Act::ReplayBronze => {
                let days: Vec<Partition> = self.bronze_days().await;
                if !days.is_empty() {
                    let partitions = vec![self.chance.pick(&days)];
                    let run = self.chance.bits();
                    self.post.send(&LandAgain { dataset: DATASET.to_owned(), partitions }, run);
                }
            }
            Act::Rebuild => {
                if self.raw_is_there().await {
                    self.rebuild();
                }
            }
            Act::RollBackCursor => {
                if let Some(content) = self.witness.cursor(&mut self.chance) {
                    self.store.put(CURSOR, content, Precondition::None).await.unwrap();
                    self.watermark = None;
                }
            }
            Act::LoseCursor => {
                self.store.delete(CURSOR, Precondition::None).await.unwrap();
                self.watermark = None;
            }
            Act::Damage => {
                let captures = self.witness.captures();
                if !captures.is_empty() {
                    let capture = self.chance.pick(&captures);
                    let object = self.witness.damage(&capture, &mut self.chance);
                    let whole = self.store.get(&object).await.unwrap().unwrap().bytes;
                    let torn = whole.slice(..self.chance.below(whole.len().max(1)));
                    self.store.put(&object, torn, Precondition::None).await.unwrap();
                }
            }
            Act::Rest => (),
            Act::Refuse(fault, times) => self.source().fault(fault.times(times)),
            Act::Poison => {
                let topic = self.chance.pick(&[Topic::FetchRequests, Topic::Captures, Topic::Partitions]);
                let data = self.chance.pick(&[
                    "",
                    "{\"dataset\": 7}",
                    "{\"dataset\": \"volcanoes\", \"capture\": \"20250723T151200Z-0123456789abcdef\", \
                     \"ask\": {\"kind\": \"tick\", \"days\": 30}, \"partitions\": []}",
                ]);
                self.post.poison(topic, data);
            }
        }
    }
}
