//! The three services in one process: here implementations are chosen, and nowhere else.

use std::sync::Arc;
use std::time::Duration;

use embedded::Embedded;
use fetch::{Client, Fetch};
use land::Land;
use shared::bus::{Bus, Event, Local, Subscription, publish};
use shared::clock::SharedClock;
use shared::dataset::Registry;
use shared::function::{FailureKind, router};
use shared::message::{FetchRequest, Message, Topic};
use shared::retry::Backoff;
use shared::store::Store;
use shared::trace::Trace;
use shared::warehouse::Warehouse;
use tokio::sync::broadcast::error::RecvError;
use transform::Transform;
use transform::project::Project;
use transform::run::Runner;

use crate::folder::{Folder, Holder};
use crate::problem::Problem;

/// So long may deliveries under way take when the process ends.
const LAST_DELIVERIES: Duration = Duration::from_secs(10);

/// What a pipeline is made of, apart from its data folder.
#[derive(Clone)]
pub struct Parts {
    /// The datasets.
    pub datasets: Registry,
    /// Their models.
    pub project: Arc<Project>,
    /// How sources are asked.
    pub client: fetch::Settings,
    /// Time and identity.
    pub clock: SharedClock,
    /// When a request to a source is sent again.
    pub fetch_backoff: Backoff,
    /// When anything else is.
    pub backoff: Backoff,
}

impl Parts {
    /// What the program ships with.
    ///
    /// # Errors
    /// When the project of models that is built into the program cannot be read.
    pub fn shipped() -> Result<Self, Problem> {
        Ok(Self {
            datasets: shared::datasets::shipped(),
            project: Arc::new(Project::embedded()?),
            client: fetch::Settings::default(),
            clock: Arc::new(shared::clock::System),
            // A source may cache its errors for a minute.
            fetch_backoff: Backoff { first: Duration::from_secs(60), longest: Duration::from_secs(600), attempts: 5 },
            backoff: Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60), attempts: 5 },
        })
    }
}

/// A lake and a warehouse, and what reads them.
#[derive(Clone)]
pub struct Data {
    /// The lake.
    pub store: Arc<dyn Store>,
    /// The warehouse.
    pub warehouse: Arc<dyn Warehouse>,
    /// Runs models.
    pub runner: Runner,
}

impl Data {
    /// The lake and the warehouse in a store.
    pub fn new(store: Arc<dyn Store>, parts: &Parts) -> Self {
        let embedded = Embedded::new(Arc::clone(&store), Arc::clone(&parts.clock));
        Self::of(store, Arc::new(embedded), parts)
    }

    /// A lake, and a warehouse wherever it is.
    pub fn of(store: Arc<dyn Store>, warehouse: Arc<dyn Warehouse>, parts: &Parts) -> Self {
        let runner = Runner::new(Arc::clone(&parts.project), Arc::clone(&warehouse));
        Self { store, warehouse, runner }
    }
}

/// The services, mounted on a bus.
pub struct Pipeline {
    /// Lake and warehouse.
    pub data: Data,
    /// The warehouse as what it is, for what only it can do.
    pub embedded: Embedded,
    /// The bus between the services.
    pub bus: Local,
    clock: SharedClock,
    /// The names under which messages of this process lie: its own, and those of dead processes.
    holders: Vec<Holder>,
}

impl Pipeline {
    /// Mounts the services on a store, with messages under the name `holder`.
    ///
    /// # Errors
    /// When the client for the sources cannot be set up.
    pub fn new(store: Arc<dyn Store>, parts: &Parts, holder: &str) -> Result<Self, Problem> {
        let clock = Arc::clone(&parts.clock);
        let embedded = Embedded::new(Arc::clone(&store), Arc::clone(&clock));
        let data = Data::of(Arc::clone(&store), Arc::new(embedded.clone()), parts);
        let bus = Local::new(Arc::clone(&store), Arc::clone(&clock), holder);
        let port: Arc<dyn Bus> = Arc::new(bus.clone());
        let client = Client::new(parts.client.clone()).map_err(Problem::Failed)?;
        let datasets = parts.datasets.clone();
        let fetch = Fetch::new(datasets.clone(), client, Arc::clone(&store), Arc::clone(&port), Arc::clone(&clock));
        let warehouse = Arc::clone(&data.warehouse);
        let land = Land::new(datasets, Arc::clone(&store), warehouse, Arc::clone(&port), Arc::clone(&clock));
        let transform = Transform::new(data.runner.clone(), store, port, Arc::clone(&clock));
        let subscriptions = [
            ("fetch", Topic::FetchRequests, router(fetch, Arc::clone(&clock)), parts.fetch_backoff, 1),
            ("land", Topic::Captures, router(land, Arc::clone(&clock)), parts.backoff, 2),
            ("transform", Topic::Partitions, router(transform, Arc::clone(&clock)), parts.backoff, 1),
        ];
        for (name, topic, router, backoff, concurrency) in subscriptions {
            bus.subscribe(Subscription { name, topic, router, backoff, concurrency });
        }
        Ok(Self { data, embedded, bus, clock, holders: Vec::new() })
    }

    /// Mounts the services on a data folder, and takes over the messages of processes that died in it.
    ///
    /// # Errors
    /// When the folder cannot be written, or a message in it cannot be read.
    pub async fn start(folder: &Folder, parts: &Parts) -> Result<Self, Problem> {
        let (holder, dead) = folder.hold(&*parts.clock)?;
        let mut pipeline = Self::new(Arc::new(folder.store.clone()), parts, &holder.name)?;
        pipeline.holders.push(holder);
        for other in dead {
            let messages = pipeline.bus.adopt(&other.name).await?;
            if messages > 0 {
                tracing::info!(messages, "messages that another process left behind are delivered");
            }
            pipeline.holders.push(other);
        }
        pipeline.revive().await?;
        Ok(pipeline)
    }

    /// Delivers again what was given up for a reason that may have passed, such as a full disk. Not what asks a source:
    /// the next tick asks for the same and more.
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub async fn revive(&self) -> Result<(), Problem> {
        for subscription in ["land", "transform"] {
            let messages = self.bus.revive(subscription).await?;
            if messages > 0 {
                tracing::info!(subscription, messages, "messages that had been given up are delivered again");
            }
        }
        Ok(())
    }

    /// Publishes a message as the begin of a run. Returns the run.
    ///
    /// # Errors
    /// When the message cannot be stored.
    pub async fn send<M: Message>(&self, message: &M) -> Result<Trace, Problem> {
        let trace = Trace::start(&*self.clock);
        publish(&self.bus, message, trace).await?;
        Ok(trace)
    }

    /// Publishes a request to a source and waits until all that follows from it is done.
    ///
    /// # Errors
    /// [`Problem::Unreachable`] when the source does not answer at all, or no more after all attempts.
    pub async fn fetch(&self, request: &FetchRequest) -> Result<Trace, Problem> {
        let mut events = self.bus.events();
        let trace = self.send(request).await?;
        let given_up = async {
            let unreachable = |problem: &shared::function::Problem| problem.kind == FailureKind::Unreachable;
            let mut answered = false;
            loop {
                match events.recv().await {
                    // Once it has answered, a failure may be a moment's, and is tried again.
                    Ok(Event::Delivered { subscription: "fetch", .. }) => answered = true,
                    Ok(Event::Retrying { problem, .. }) if !answered && unreachable(&problem) => {
                        return Problem::Unreachable(problem.error);
                    }
                    Ok(Event::Dead { problem, .. }) if unreachable(&problem) => {
                        return Problem::Unreachable(problem.error);
                    }
                    Ok(_) | Err(RecvError::Lagged(_)) => (),
                    Err(RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        tokio::select! {
            problem = given_up => Err(problem),
            () = self.bus.idle() => Ok(trace),
        }
    }

    /// Fails when this process gave messages up, or data tests failed.
    ///
    /// # Errors
    /// [`Problem::Failed`] says what.
    pub fn complete(&self, failed_tests: &[String]) -> Result<(), Problem> {
        let dead = self.bus.dead();
        if !dead.is_empty() {
            return Err(Problem::Failed(dead.join("; ")));
        }
        if !failed_tests.is_empty() {
            return Err(Problem::Failed(format!("data tests fail: {}", failed_tests.join("; "))));
        }
        Ok(())
    }

    /// Ends the deliveries under way and starts no more.
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub async fn stop(self) -> Result<(), Problem> {
        if tokio::time::timeout(LAST_DELIVERIES, self.bus.stop()).await.is_err() {
            tracing::warn!("deliveries that take longer are left to the next process");
        }
        for holder in self.holders {
            // With messages left, the name stays for the next process to find.
            if self.data.store.list(&format!("bus/{}/", holder.name)).await?.is_empty() {
                holder.release()?;
            }
        }
        Ok(())
    }
}
