//! The bus of one process: push envelopes to axum routers, with retries, backoff and dead letters.
//!
//! Invariant: a message is an object in the store from before its publish is confirmed until it is acknowledged or is a
//! dead letter. So a process that dies in between leaves its messages to the next one, see [`Local::adopt`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, broadcast, watch};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{Bus, BusError};
use crate::clock::{SharedClock, Timestamp};
use crate::function::{Envelope, FailureKind, Problem};
use crate::message::{Parcel, Topic};
use crate::retry::Backoff;
use crate::store::{Precondition, Store, StoreError, read_each_json, write_json};

/// Pub/Sub's longest acknowledgement deadline: a push that takes longer is delivered again.
const DEADLINE: Duration = Duration::from_secs(600);
const LARGEST_ANSWER: usize = 64 * 1024;

/// Who gets the messages of a topic.
#[derive(Clone)]
pub struct Subscription {
    /// Its name: what is in dead letters and logs.
    pub name: &'static str,
    /// Of what.
    pub topic: Topic,
    /// Where messages are pushed, by `POST /`.
    pub router: Router,
    /// How often and when they are pushed again.
    pub backoff: Backoff,
    /// How many at once.
    pub concurrency: usize,
}

/// What the bus did, for whoever shows progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A message was acknowledged.
    Delivered {
        /// The subscription.
        subscription: &'static str,
        /// The message.
        message: String,
    },
    /// A delivery failed and is repeated.
    Retrying {
        /// The subscription.
        subscription: &'static str,
        /// The message.
        message: String,
        /// What the service said.
        problem: Problem,
        /// When it is repeated.
        after: Duration,
    },
    /// A message was given up.
    Dead {
        /// The subscription.
        subscription: &'static str,
        /// The message.
        message: String,
        /// What the service said last.
        problem: Problem,
    },
}

/// A message that was given up, and why.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeadLetter {
    /// As it was pushed last.
    pub envelope: Envelope,
    /// What the service said.
    pub error: String,
    /// Whether it may succeed another day.
    pub kind: FailureKind,
    /// When it was given up.
    pub at: Timestamp,
}

/// The bus of one process; clones share it.
#[derive(Clone)]
pub struct Local {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    clock: SharedClock,
    spool: String,
    subscriptions: Mutex<Vec<(Subscription, Arc<Semaphore>)>>,
    pending: watch::Sender<usize>,
    dead: Mutex<Vec<String>>,
    stop: CancellationToken,
    events: broadcast::Sender<Event>,
}

/// A message on its way to one subscription.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Spooled {
    subscription: String,
    envelope: Envelope,
}

impl Local {
    /// A bus that keeps its messages under `bus/<holder>/` until they are acknowledged.
    pub fn new(store: Arc<dyn Store>, clock: SharedClock, holder: &str) -> Self {
        let inner = Inner {
            store,
            clock,
            spool: format!("bus/{holder}"),
            subscriptions: Mutex::default(),
            pending: watch::Sender::new(0),
            dead: Mutex::default(),
            stop: CancellationToken::new(),
            events: broadcast::Sender::new(1024),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Adds a subscription; messages published before are not for it.
    pub fn subscribe(&self, subscription: Subscription) {
        let permits = Arc::new(Semaphore::new(subscription.concurrency));
        self.inner.subscriptions().push((subscription, permits));
    }

    /// Takes over the messages that another holder, which is no more, left behind. Returns how many.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn adopt(&self, holder: &str) -> Result<usize, StoreError> {
        let mut adopted = 0;
        let left = read_each_json::<Spooled>(&*self.inner.store, &format!("bus/{holder}/"), |_| true).await?;
        for (object, spooled) in left {
            let subscription = self.inner.subscription(|it| it.name == spooled.subscription);
            let Some((subscription, permits)) = subscription else { continue };
            let delivery = Delivery { object, subscription, permits, envelope: spooled.envelope };
            self.start(delivery);
            adopted += 1;
        }
        Ok(adopted)
    }

    /// Delivers a subscription's dead letters again, but for those that can never succeed. Returns how many.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn revive(&self, name: &str) -> Result<usize, StoreError> {
        let inner = &self.inner;
        let Some((subscription, permits)) = inner.subscription(|it| it.name == name) else { return Ok(0) };
        let mut revived = 0;
        let letters = read_each_json::<DeadLetter>(&*inner.store, &format!("dead-letters/{name}/"), |_| true).await?;
        for (found, letter) in letters.into_iter().filter(|(_, letter)| letter.kind != FailureKind::Poison) {
            let envelope = letter.envelope;
            let object = format!("{}/{name}-{}.json", inner.spool, envelope.message.message_id);
            let spooled = Spooled { subscription: name.to_owned(), envelope };
            // Another process may be at it: whoever removes the letter delivers it, at worst both.
            write_json(&*inner.store, &object, &spooled, Precondition::None).await?;
            inner.store.delete(&found, Precondition::None).await?;
            let envelope = spooled.envelope;
            self.start(Delivery {
                object,
                subscription: subscription.clone(),
                permits: Arc::clone(&permits),
                envelope,
            });
            revived += 1;
        }
        Ok(revived)
    }

    /// Waits until every message is acknowledged or a dead letter.
    pub async fn idle(&self) {
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self.inner.pending.subscribe().wait_for(|&pending| pending == 0).await;
    }

    /// Starts no more deliveries, and waits for those under way. What is left stays in the store.
    pub async fn stop(&self) {
        self.inner.stop.cancel();
        self.idle().await;
    }

    /// The messages that this process gave up: a sentence each.
    pub fn dead(&self) -> Vec<String> {
        self.inner.dead.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the bus does from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.inner.events.subscribe()
    }

    fn start(&self, delivery: Delivery) {
        let inner = Arc::clone(&self.inner);
        inner.pending.send_modify(|pending| *pending += 1);
        let pending = Pending(Arc::clone(&inner));
        tokio::spawn(async move {
            delivery.run(&inner).await;
            drop(pending);
        });
    }
}

/// Counts a delivery as under way for as long as it lives, also when its task panics.
struct Pending(Arc<Inner>);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.pending.send_modify(|pending| *pending -= 1);
    }
}

impl Inner {
    fn subscriptions(&self) -> std::sync::MutexGuard<'_, Vec<(Subscription, Arc<Semaphore>)>> {
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn subscription(&self, wanted: impl Fn(&Subscription) -> bool) -> Option<(Subscription, Arc<Semaphore>)> {
        self.subscriptions().iter().find(|(subscription, _)| wanted(subscription)).cloned()
    }

    fn tell(&self, event: Event) {
        // Nobody may be listening.
        let _ = self.events.send(event);
    }
}

#[async_trait]
impl Bus for Local {
    async fn send(&self, topic: Topic, parcel: Parcel) -> Result<String, BusError> {
        let inner = &self.inner;
        let id = format!("{:032x}", inner.clock.random());
        let subscribed: Vec<_> =
            inner.subscriptions().iter().filter(|(subscription, _)| subscription.topic == topic).cloned().collect();
        let mut deliveries = Vec::new();
        for (subscription, permits) in subscribed {
            let envelope = Envelope::new(subscription.name, id.clone(), inner.clock.now(), 1, &parcel);
            let object = format!("{}/{}-{id}.json", inner.spool, subscription.name);
            let spooled = Spooled { subscription: subscription.name.to_owned(), envelope };
            write_json(&*inner.store, &object, &spooled, Precondition::Absent).await.map_err(|error| BusError {
                topic,
                reason: error.to_string(),
                blocked: false,
            })?;
            deliveries.push(Delivery { object, subscription, permits, envelope: spooled.envelope });
        }
        for delivery in deliveries {
            self.start(delivery);
        }
        Ok(id)
    }
}

struct Delivery {
    object: String,
    subscription: Subscription,
    permits: Arc<Semaphore>,
    envelope: Envelope,
}

impl Delivery {
    async fn run(mut self, inner: &Inner) {
        let permits = Arc::clone(&self.permits);
        for attempt in 1.. {
            let Some(permit) = until(&inner.stop, permits.acquire()).await else { return };
            self.envelope.delivery_attempt = Some(attempt);
            let refused = match self.push().await {
                Ok(()) => return self.acknowledged(inner).await,
                Err(refused) => refused,
            };
            drop(permit);
            if !refused.again || attempt >= self.subscription.backoff.attempts {
                return self.given_up(inner, refused.problem).await;
            }
            let backoff = self.subscription.backoff.delay(attempt, &*inner.clock);
            let after = backoff.max(refused.retry_after.unwrap_or_default());
            inner.tell(Event::Retrying {
                subscription: self.subscription.name,
                message: self.envelope.message.message_id.clone(),
                problem: refused.problem,
                after,
            });
            if until(&inner.stop, tokio::time::sleep(after)).await.is_none() {
                return;
            }
        }
    }

    /// Pushes the envelope once.
    async fn push(&self) -> Result<(), Refused> {
        let transient = |error: String| Refused {
            again: true,
            retry_after: None,
            problem: Problem { kind: FailureKind::Transient, error },
        };
        let body = serde_json::to_vec(&self.envelope).map_err(|error| transient(error.to_string()))?;
        let request = Request::post("/")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body))
            .map_err(|error| transient(error.to_string()))?;
        // A task of its own: a handler that panics fails this delivery, not the bus.
        let handled = tokio::spawn(self.subscription.router.clone().oneshot(request));
        let response = match tokio::time::timeout(DEADLINE, handled).await {
            Ok(Ok(Ok(response))) => response,
            Ok(Ok(Err(never))) => match never {},
            Ok(Err(panic)) => return Err(transient(format!("the service failed: {panic}"))),
            Err(_) => return Err(transient(format!("no answer within {} s", DEADLINE.as_secs()))),
        };
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|value| value.parse().ok()).map(Duration::from_secs);
        let again =
            status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
        let kind = match status {
            StatusCode::INSUFFICIENT_STORAGE => FailureKind::Blocked,
            _ if again => FailureKind::Transient,
            _ => FailureKind::Poison,
        };
        let body = to_bytes(response.into_body(), LARGEST_ANSWER).await.unwrap_or_default();
        let problem = serde_json::from_slice(&body)
            .unwrap_or_else(|_| Problem { kind, error: format!("the service answered {status}") });
        // A disk that is full does not empty itself while somebody waits.
        let again = again && problem.kind != FailureKind::Blocked;
        Err(Refused { again, retry_after, problem })
    }

    async fn acknowledged(self, inner: &Inner) {
        self.forget(inner).await;
        inner
            .tell(Event::Delivered { subscription: self.subscription.name, message: self.envelope.message.message_id });
    }

    async fn given_up(self, inner: &Inner, problem: Problem) {
        let message = self.envelope.message.message_id.clone();
        let (envelope, error) = (self.envelope.clone(), problem.error.clone());
        let letter = DeadLetter { envelope, error, kind: problem.kind, at: inner.clock.now() };
        let name = format!("dead-letters/{}/{message}.json", self.subscription.name);
        match write_json(&*inner.store, &name, &letter, Precondition::None).await {
            Ok(_) => self.forget(inner).await,
            // The message stays where it is, for the next process to try.
            Err(error) => tracing::error!(id = %message, %error, "a dead letter could not be stored"),
        }
        let sentence = format!("{} gave a message up: {}", self.subscription.name, problem.error);
        inner.dead.lock().unwrap_or_else(PoisonError::into_inner).push(sentence);
        inner.tell(Event::Dead { subscription: self.subscription.name, message, problem });
    }

    async fn forget(&self, inner: &Inner) {
        if let Err(error) = inner.store.delete(&self.object, Precondition::None).await {
            tracing::warn!(object = self.object, %error, "an acknowledged message could not be removed");
        }
    }
}

struct Refused {
    again: bool,
    retry_after: Option<Duration>,
    problem: Problem,
}

/// What `work` gives, or `None` when the bus stops first.
async fn until<T>(stop: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        done = work => Some(done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::System;
    use crate::store::Memory;
    use axum::routing::post;
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn parcel() -> Parcel {
        Parcel { data: "{}".into(), attributes: BTreeMap::new() }
    }

    const QUICK: Duration = Duration::from_millis(20);

    fn bus_of(store: &Memory, holder: &str, first: Duration, statuses: Vec<StatusCode>) -> (Local, Arc<AtomicU32>) {
        let bus = Local::new(Arc::new(store.clone()), Arc::new(System), holder);
        let calls = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&calls);
        let answer = move || {
            let call = counter.fetch_add(1, Ordering::SeqCst) as usize;
            let status = statuses.get(call).or(statuses.last()).copied().unwrap_or(StatusCode::OK);
            async move { status }
        };
        bus.subscribe(Subscription {
            name: "land",
            topic: Topic::Captures,
            router: Router::new().route("/", post(answer)),
            backoff: Backoff { first, longest: first * 10, attempts: 5 },
            concurrency: 1,
        });
        (bus, calls)
    }

    async fn names(store: &Memory) -> Vec<String> {
        store.list("").await.unwrap().into_iter().map(|object| object.name).collect()
    }

    #[tokio::test]
    async fn a_message_is_sent_again_until_it_is_acknowledged() {
        let store = Memory::default();
        let (bus, calls) =
            bus_of(&store, "a", QUICK, [[StatusCode::SERVICE_UNAVAILABLE; 2].as_slice(), &[StatusCode::OK]].concat());
        let began = tokio::time::Instant::now();
        bus.send(Topic::Captures, parcel()).await.unwrap();
        assert_eq!(names(&store).await.len(), 1, "durable before it is acknowledged");
        bus.idle().await;
        assert_eq!(calls.load(Ordering::SeqCst), 3);
        assert!(began.elapsed() >= QUICK * 3, "the second wait is twice the first");
        assert_eq!(names(&store).await, Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_message_that_cannot_succeed_is_a_dead_letter() {
        for (status, expected) in [
            (StatusCode::BAD_REQUEST, 1),
            (StatusCode::SERVICE_UNAVAILABLE, 5),
            // It may another day, and not sooner by being sent again.
            (StatusCode::INSUFFICIENT_STORAGE, 1),
        ] {
            let store = Memory::default();
            let (bus, calls) = bus_of(&store, "a", QUICK, vec![status]);
            let id = bus.send(Topic::Captures, parcel()).await.unwrap();
            bus.idle().await;
            assert_eq!(calls.load(Ordering::SeqCst), expected);
            assert_eq!(names(&store).await, [format!("dead-letters/land/{id}.json")]);
            let (later, _) = bus_of(&store, "b", QUICK, vec![StatusCode::OK]);
            let revived = later.revive("land").await.unwrap();
            later.idle().await;
            let poison = status == StatusCode::BAD_REQUEST;
            assert_eq!((revived, names(&store).await.len()), if poison { (0, 1) } else { (1, 0) });
        }
    }

    #[tokio::test]
    async fn what_a_process_left_behind_is_delivered_by_the_next() {
        let store = Memory::default();
        let (first, _) = bus_of(&store, "a", Duration::from_secs(60), vec![StatusCode::SERVICE_UNAVAILABLE]);
        first.send(Topic::Captures, parcel()).await.unwrap();
        first.stop().await;
        assert_eq!(names(&store).await.len(), 1);
        let (second, calls) = bus_of(&store, "b", QUICK, vec![StatusCode::OK]);
        assert_eq!(second.adopt("a").await.unwrap(), 1);
        second.idle().await;
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        assert_eq!(names(&store).await, Vec::<String>::new());
    }
}
