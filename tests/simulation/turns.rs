//! Whose turn it is. Every call of a port stops here until the schedule lets it go on, and is told what becomes of it;
//! so the order of all effects, and every fault, is the schedule's decision.

use std::fmt;
use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{Notify, oneshot};

/// What a call would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It changes nothing.
    Read,
    /// It changes something, whatever is there.
    Write,
    /// It changes something if its precondition holds.
    Conditional,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It does what it should.
    Go,
    /// It fails and does nothing.
    FailBefore,
    /// It does what it should, and its answer is lost.
    FailAfter,
    /// It does nothing and says that its precondition did not hold.
    Phantom,
    /// It does what it should and says that its precondition did not hold: the answer to a repeated request.
    Echo,
    /// It does what it should, and its process dies before it hears of it.
    DieAfter,
}

/// A call that waits.
pub(crate) struct Waiting {
    pub(crate) delivery: usize,
    pub(crate) kind: Kind,
    pub(crate) what: String,
    reply: oneshot::Sender<Verdict>,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} {}", self.delivery, self.what)
    }
}

/// The calls of all ports.
#[derive(Default)]
pub(crate) struct Turns {
    waiting: Mutex<Vec<Waiting>>,
    dead: Mutex<Vec<usize>>,
    notes: Mutex<Vec<String>>,
    /// Grows whenever a delivery has run a step.
    polls: AtomicU64,
    changed: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

impl Turns {
    /// How many calls wait.
    pub(crate) fn len(&self) -> usize {
        lock(&self.waiting).len()
    }

    /// Whether a delivery has a call that waits.
    pub(crate) fn has(&self, delivery: usize) -> bool {
        lock(&self.waiting).iter().any(|waiting| waiting.delivery == delivery)
    }

    /// Whose calls wait, in the order in which they came.
    pub(crate) fn waiting(&self) -> Vec<usize> {
        lock(&self.waiting).iter().map(|waiting| waiting.delivery).collect()
    }

    /// Takes a call out, to be answered.
    pub(crate) fn take(&self, at: usize) -> Waiting {
        lock(&self.waiting).remove(at)
    }

    /// Forgets the calls of a delivery that is no more.
    pub(crate) fn forget(&self, delivery: usize) {
        lock(&self.waiting).retain(|waiting| waiting.delivery != delivery);
    }

    /// The deliveries whose processes have died since the last question.
    pub(crate) fn take_dead(&self) -> Vec<usize> {
        std::mem::take(&mut *lock(&self.dead))
    }

    /// The deliveries whose processes have died and that are still to be buried.
    pub(crate) fn dead(&self) -> Vec<usize> {
        lock(&self.dead).clone()
    }

    /// What the ports have to say since the last question.
    pub(crate) fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.notes))
    }

    pub(crate) fn polled(&self) {
        self.polls.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn polls(&self) -> u64 {
        self.polls.load(Ordering::Relaxed)
    }

    /// Says that a delivery has come to a stop.
    pub(crate) fn stopped(&self) {
        self.changed.notify_one();
    }

    /// Waits until a delivery comes to a stop.
    pub(crate) async fn stop(&self) {
        self.changed.notified().await;
    }
}

impl Waiting {
    pub(crate) fn answer(self, verdict: Verdict) {
        // A delivery that was dropped meanwhile needs no answer.
        let _ = self.reply.send(verdict);
    }
}

/// One delivery's place among them.
#[derive(Clone)]
pub(crate) struct Seat {
    turns: Arc<Turns>,
    pub(crate) delivery: usize,
}

impl Seat {
    pub(crate) fn new(turns: &Arc<Turns>, delivery: usize) -> Self {
        Self { turns: Arc::clone(turns), delivery }
    }

    /// Waits for its turn.
    pub(crate) async fn turn(&self, kind: Kind, what: String) -> Verdict {
        let (reply, verdict) = oneshot::channel();
        lock(&self.turns.waiting).push(Waiting { delivery: self.delivery, kind, what, reply });
        self.turns.stopped();
        match verdict.await {
            Ok(verdict) => verdict,
            Err(_) => pending().await,
        }
    }

    /// Says something for the trace.
    pub(crate) fn note(&self, what: &str) {
        lock(&self.turns.notes).push(format!("#{} {what}", self.delivery));
    }

    /// The process dies here.
    pub(crate) async fn die<T>(&self) -> T {
        lock(&self.turns.dead).push(self.delivery);
        self.turns.stopped();
        pending().await
    }

    /// Waits for its turn, then does what the verdict says. `lost` is the error of an answer that did not come, and
    /// `conflict` that of a precondition that did not hold.
    pub(crate) async fn around<T, E>(
        &self,
        kind: Kind,
        what: String,
        call: impl Future<Output = Result<T, E>>,
        lost: impl FnOnce() -> E,
        conflict: impl FnOnce() -> E,
    ) -> Result<T, E> {
        match self.turn(kind, what).await {
            Verdict::Go => call.await,
            Verdict::FailBefore => Err(lost()),
            Verdict::FailAfter => {
                let _unheard = call.await;
                Err(lost())
            }
            Verdict::Phantom => Err(conflict()),
            Verdict::Echo => {
                call.await?;
                Err(conflict())
            }
            Verdict::DieAfter => {
                let _unheard = call.await;
                self.die().await
            }
        }
    }
}
