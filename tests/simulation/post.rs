//! The bus: every message that was published, how often it was delivered, and what became of it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use chrono::DateTime;
use shared::clock::Timestamp;
use shared::function::Envelope;
use shared::message::{Message, Parcel, Topic};
use shared::trace::Trace;

/// After so many deliveries without a fault of ours, a message that still fails will always do.
pub(crate) const MOST_ATTEMPTS: u32 = 40;

/// A message.
pub(crate) struct Letter {
    pub(crate) topic: Topic,
    pub(crate) parcel: Parcel,
    published_at: Timestamp,
    /// Whether a delivery of it is due.
    pub(crate) due: bool,
    pub(crate) acknowledged: bool,
    pub(crate) attempts: u32,
    /// Whether a service published it, and not the schedule.
    pub(crate) of_service: bool,
    /// Whether the schedule knows that it can never succeed.
    pub(crate) poison: bool,
    /// Why it was given up.
    pub(crate) dead: Option<String>,
    /// Of its last failure.
    pub(crate) error: String,
}

/// All messages, in the order in which they were published.
#[derive(Default)]
pub(crate) struct Post {
    letters: Mutex<Vec<Letter>>,
    /// The bus's own time, in milliseconds since 1970.
    now: Arc<AtomicI64>,
}

impl Post {
    pub(crate) fn new(now: Arc<AtomicI64>) -> Self {
        Self { letters: Mutex::default(), now }
    }

    pub(crate) fn letters(&self) -> MutexGuard<'_, Vec<Letter>> {
        self.letters.lock().unwrap()
    }

    pub(crate) fn publish(&self, topic: Topic, parcel: Parcel) -> String {
        let published_at = DateTime::from_timestamp_millis(self.now.load(Ordering::Relaxed)).unwrap();
        let mut letters = self.letters();
        letters.push(Letter {
            topic,
            parcel,
            published_at,
            // Nobody subscribes to what was published.
            due: topic != Topic::Publications,
            acknowledged: topic == Topic::Publications,
            attempts: 0,
            of_service: true,
            poison: false,
            dead: None,
            error: String::new(),
        });
        format!("m{}", letters.len() - 1)
    }

    /// Publishes a message of a run of its own.
    pub(crate) fn send<M: Message>(&self, message: &M, run: u128) {
        self.publish(M::TOPIC, Parcel::pack(message, Trace { id: run.max(1), span: 1 }).unwrap());
        self.letters().last_mut().unwrap().of_service = false;
    }

    /// Publishes what can never succeed.
    pub(crate) fn poison(&self, topic: Topic, data: &str) {
        self.publish(topic, Parcel { data: data.to_owned().into(), attributes: Default::default() });
        self.letters().last_mut().unwrap().poison = true;
    }

    /// The messages that a delivery is due for.
    pub(crate) fn due(&self) -> Vec<usize> {
        self.letters().iter().enumerate().filter(|(_, letter)| letter.due).map(|(at, _)| at).collect()
    }

    /// Takes a message to deliver it.
    pub(crate) fn open(&self, at: usize) -> (Topic, Vec<u8>) {
        let mut letters = self.letters();
        let letter = &mut letters[at];
        letter.due = false;
        letter.attempts += 1;
        let subscription = format!("projects/simulation/subscriptions/{}", letter.topic);
        let id = format!("m{at}");
        let envelope = Envelope::new(&subscription, id, letter.published_at, letter.attempts, &letter.parcel);
        (letter.topic, serde_json::to_vec(&envelope).unwrap())
    }

    /// Whether a message of this topic that says all of this was ever published.
    pub(crate) fn said(&self, topic: Topic, words: &str) -> bool {
        let letters = self.letters();
        letters
            .iter()
            .any(|letter| letter.topic == topic && String::from_utf8_lossy(&letter.parcel.data).contains(words))
    }
}
