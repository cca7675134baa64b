//! The bus: what is confirmed is delivered whole, to its topic alone, and again until it is acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use shared::bus::{Bus, Local, Subscription, publish};
use shared::clock::System;
use shared::dataset::Ask;
use shared::function::{Failure, Function, Received, router};
use shared::message::{FetchRequest, LandAgain, ToLand, Topic};
use shared::store::{Directory, Memory, Store};
use shared::trace::Trace;
use tests::QUICK;
use tokio::sync::watch;
use tokio::time::timeout;

/// Longer than any bus takes to push.
const PATIENCE: Duration = Duration::from_secs(60);

/// A bus that pushes fetch requests to one router and captures to another.
#[async_trait]
pub(crate) trait Mount {
    /// What it promises beyond the port.
    fn promises(&self) -> Promises;

    async fn mount(&self, requests: Router, captures: Router) -> Arc<dyn Bus>;
}

/// What only some buses promise.
pub(crate) struct Promises {
    /// Each push says which delivery it is.
    pub(crate) counts_deliveries: bool,
    /// What is acknowledged is not delivered again.
    pub(crate) delivers_once: bool,
}

/// A service that notes what it gets, and refuses the first delivery of some messages.
struct Inbox<M> {
    received: watch::Sender<Vec<Received<M>>>,
    refuses: fn(&M) -> bool,
}

#[async_trait]
impl Function for Inbox<FetchRequest> {
    type Input = FetchRequest;
    const NAME: &'static str = "requests";

    async fn handle(&self, message: Received<FetchRequest>) -> Result<(), Failure> {
        self.take(message)
    }
}

#[async_trait]
impl Function for Inbox<ToLand> {
    type Input = ToLand;
    const NAME: &'static str = "captures";

    async fn handle(&self, message: Received<ToLand>) -> Result<(), Failure> {
        self.take(message)
    }
}

impl<M> Inbox<M> {
    fn take(&self, message: Received<M>) -> Result<(), Failure> {
        let mut refused = false;
        self.received.send_modify(|all| {
            refused = (self.refuses)(&message.body) && all.iter().all(|it| it.id != message.id);
            all.push(message);
        });
        if refused { Err(Failure::Transient("not yet".to_owned())) } else { Ok(()) }
    }
}

/// Waits until what was delivered is `enough`.
async fn arrived<M: Clone>(
    inbox: &watch::Sender<Vec<Received<M>>>,
    enough: impl Fn(&[Received<M>]) -> bool,
) -> Vec<Received<M>> {
    let mut inbox = inbox.subscribe();
    let waited = timeout(PATIENCE, inbox.wait_for(|all| enough(all))).await;
    waited.unwrap_or_else(|_| panic!("too few deliveries")).unwrap().clone()
}

fn ids<M>(all: &[Received<M>]) -> BTreeSet<String> {
    all.iter().map(|it| it.id.clone()).collect()
}

fn request(days: u32) -> FetchRequest {
    FetchRequest { dataset: "quakes".to_owned(), ask: Ask::Tick { days, sweep: false } }
}

/// What every bus does.
pub(crate) async fn conforms(mount: impl Mount) {
    let promises = mount.promises();
    let clock = Arc::new(System);
    let (requests, captures) = (watch::Sender::default(), watch::Sender::default());
    let refuses = |message: &FetchRequest| *message == request(1);
    let to_requests = router(Inbox { received: requests.clone(), refuses }, clock.clone());
    let to_captures = router(Inbox::<ToLand> { received: captures.clone(), refuses: |_| false }, clock.clone());
    let bus = mount.mount(to_requests, to_captures).await;

    // Whole: content, id and run.
    let trace = Trace::start(&*clock);
    let first = publish(&*bus, &request(30), trace).await.unwrap();
    let all = arrived(&requests, |all| !all.is_empty()).await;
    assert_eq!((&all[0].body, &all[0].id, all[0].trace.run()), (&request(30), &first, trace.run()));

    // Again until it is acknowledged: the same message, one delivery later.
    let refused = publish(&*bus, &request(1), trace).await.unwrap();
    let of_refused = |all: &[Received<FetchRequest>]| -> Vec<Received<FetchRequest>> {
        all.iter().filter(|it| it.id == refused).cloned().collect()
    };
    let deliveries = of_refused(&arrived(&requests, |all| of_refused(all).len() >= 2).await);
    for (before, delivery) in deliveries.iter().enumerate() {
        assert_eq!((&delivery.body, delivery.published_at), (&request(1), deliveries[0].published_at));
        if promises.counts_deliveries {
            assert_eq!(delivery.attempt as usize, before + 1);
        }
    }

    // Many at once: none is lost, and no two are one.
    let publishes = (100..200).map(|days| {
        let bus = Arc::clone(&bus);
        tokio::spawn(async move { (publish(&*bus, &request(days), trace).await.unwrap(), request(days)) })
    });
    let mut sent: BTreeMap<_, _> = futures::future::try_join_all(publishes).await.unwrap().into_iter().collect();
    assert_eq!(sent.len(), 100);
    sent.extend([(first, request(30)), (refused.clone(), request(1))]);
    let all = arrived(&requests, |all| ids(all).len() >= sent.len()).await;
    assert!(all.iter().all(|it| sent.get(&it.id) == Some(&it.body)), "each is one that was sent");

    // To its topic alone.
    let again = ToLand::Again(LandAgain { dataset: "quakes".to_owned(), partitions: Vec::new() });
    let id = publish(&*bus, &again, trace).await.unwrap();
    let landed = arrived(&captures, |all| !all.is_empty()).await;
    assert_eq!((&landed[0].body, ids(&landed)), (&again, BTreeSet::from([id])));
    assert_eq!(ids(&requests.borrow()), sent.into_keys().collect());
    if promises.delivers_once {
        assert_eq!((landed.len(), requests.borrow().len()), (1, 103), "one message was refused once");
    }
}

/// The bus of one process, over a store.
struct InProcess(Arc<dyn Store>);

#[async_trait]
impl Mount for InProcess {
    fn promises(&self) -> Promises {
        Promises { counts_deliveries: true, delivers_once: true }
    }

    async fn mount(&self, requests: Router, captures: Router) -> Arc<dyn Bus> {
        let bus = Local::new(Arc::clone(&self.0), Arc::new(System), "test");
        let subscriptions = [("requests", Topic::FetchRequests, requests), ("captures", Topic::Captures, captures)];
        for (name, topic, router) in subscriptions {
            bus.subscribe(Subscription { name, topic, router, backoff: QUICK, concurrency: 4 });
        }
        Arc::new(bus)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_process_over_memory() {
    conforms(InProcess(Arc::new(Memory::default()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_process_over_a_directory() {
    let temp = tempfile::tempdir().unwrap();
    conforms(InProcess(Arc::new(Directory::open(temp.path()).unwrap()))).await;
}
