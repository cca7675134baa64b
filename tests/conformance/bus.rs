//! The bus: what is confirmed is delivered whole, to its topic alone, and again until it is acknowledged.

use std::collections::BTreeSet;
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
trait Mount {
    async fn mount(&self, requests: Router, captures: Router) -> Arc<dyn Bus>;
}

/// A service that notes what it gets, and refuses the first delivery of what asks for one day.
struct Inbox<M> {
    received: watch::Sender<Vec<Received<M>>>,
    refuses: fn(&Received<M>) -> bool,
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
        let refused = (self.refuses)(&message);
        self.received.send_modify(|all| all.push(message));
        if refused { Err(Failure::Transient("not yet".to_owned())) } else { Ok(()) }
    }
}

fn request(days: u32) -> FetchRequest {
    FetchRequest { dataset: "quakes".to_owned(), ask: Ask::Tick { days, sweep: false } }
}

async fn conforms(mount: impl Mount) {
    let clock = Arc::new(System);
    let (requests, captures) = (watch::Sender::default(), watch::Sender::default());
    let refuses = |message: &Received<FetchRequest>| message.body == request(1) && message.attempt == 1;
    let to_requests = router(Inbox { received: requests.clone(), refuses }, clock.clone());
    let to_captures = router(Inbox::<ToLand> { received: captures.clone(), refuses: |_| false }, clock.clone());
    let bus = mount.mount(to_requests, to_captures).await;
    let arrived = async |count: usize| -> Vec<Received<FetchRequest>> {
        let mut inbox = requests.subscribe();
        let waited = timeout(PATIENCE, inbox.wait_for(|all| all.len() >= count)).await;
        waited.unwrap_or_else(|_| panic!("fewer than {count} deliveries")).unwrap().clone()
    };

    // Whole: content, id and run.
    let trace = Trace::start(&*clock);
    let id = publish(&*bus, &request(30), trace).await.unwrap();
    let all = arrived(1).await;
    assert_eq!((&all[0].body, &all[0].id, all[0].trace.run()), (&request(30), &id, trace.run()));

    // Again until it is acknowledged: the same message, one delivery later.
    let id = publish(&*bus, &request(1), trace).await.unwrap();
    let all = arrived(3).await;
    let deliveries: Vec<_> = all[1..].iter().map(|it| (it.id.clone(), it.attempt, it.published_at)).collect();
    assert_eq!(deliveries, [(id.clone(), 1, all[1].published_at), (id, 2, all[1].published_at)]);

    // Many at once: none is lost, and no two are one.
    let publishes = (100..200).map(|days| {
        let bus = Arc::clone(&bus);
        tokio::spawn(async move { publish(&*bus, &request(days), trace).await.unwrap() })
    });
    let ids: BTreeSet<_> = futures::future::try_join_all(publishes).await.unwrap().into_iter().collect();
    assert_eq!(ids.len(), 100);
    let all = arrived(103).await;
    assert_eq!(all[3..].iter().map(|it| it.id.clone()).collect::<BTreeSet<_>>(), ids);

    // To its topic alone.
    let again = ToLand::Again(LandAgain { dataset: "quakes".to_owned(), partitions: Vec::new() });
    publish(&*bus, &again, trace).await.unwrap();
    let mut inbox = captures.subscribe();
    let landed = timeout(PATIENCE, inbox.wait_for(|all| !all.is_empty())).await.unwrap().unwrap().len();
    assert_eq!((landed, requests.borrow().len()), (1, 103));
}

/// The bus of one process, over a store.
struct InProcess(Arc<dyn Store>);

#[async_trait]
impl Mount for InProcess {
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
