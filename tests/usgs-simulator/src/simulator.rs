//! The simulator as a server: it takes requests, keeps their record, applies faults and the cache, and answers.
//!
//! Invariant: whatever was changed through the handle before a request arrives is true for that request.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use axum::{Router, body::Body, extract::State, http::Response};
use chrono::{DateTime, Utc};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use crate::{
    answer::{Answer, Request, Settings},
    catalogue::Catalogue,
    clock::{Clock, minute_after},
    delivery,
    fault::{Delivery, Rule, Script},
    requests::{Log, Recorded},
};

/// How long an answer is kept by the caches before the service, in simulated milliseconds.
const MAX_AGE: i64 = 60_000;
const LIMIT: usize = 20_000;
const VERSION: &str = "2.7.0";
/// How long `shutdown` waits for clients that neither read nor leave.
const PATIENCE: Duration = Duration::from_secs(2);

struct Shared {
    catalogue: RwLock<Catalogue>,
    clock: Mutex<Clock>,
    script: Mutex<Script>,
    log: Arc<Log>,
    settings: Settings,
    /// By path and query; none when answers are not cached.
    cache: Option<Mutex<HashMap<String, Cached>>>,
    closing: watch::Sender<bool>,
}

struct Cached {
    stored: i64,
    answer: Answer,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Settings of a simulator; see [`Simulator::builder`].
pub struct Builder {
    catalogue: Catalogue,
    clock: Option<Clock>,
    settings: Settings,
    cached: bool,
}

impl Builder {
    /// The clock; by default it stands at the newest time of the catalogue, rounded up to the next minute (at the real
    /// time for an empty catalogue).
    #[must_use]
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// Lets the clock run from where it stands.
    #[must_use]
    pub fn running(self) -> Self {
        let start = self.clock.map_or_else(|| self.standing(), |clock| clock.now());
        self.clock(Clock::running_from(start))
    }

    fn standing(&self) -> DateTime<Utc> {
        minute_after(self.catalogue.newest().unwrap_or_else(Utc::now))
    }

    /// Most events that a query may match, 20,000 by default.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.settings.limit = limit;
        self
    }

    /// The version that the service says it is, 2.7.0 by default.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        version.clone_into(&mut self.settings.version);
        self
    }

    /// The longest span of origin times for `includedeleted=true`; more is a 504. One day by default, none for no such
    /// limit.
    #[must_use]
    pub fn deleted_span(mut self, longest: Option<Duration>) -> Self {
        self.settings.deleted_span = longest;
        self
    }

    /// Whether a repeated address gets the same answer, errors too, for 60 s of simulated time. Off by default.
    #[must_use]
    pub fn cached(self, cached: bool) -> Self {
        Self { cached, ..self }
    }

    /// The simulator.
    pub fn build(mut self) -> Simulator {
        self.catalogue.arrange();
        let clock = self.clock.unwrap_or_else(|| Clock::fixed(self.standing()));
        Simulator {
            shared: Arc::new(Shared {
                catalogue: RwLock::new(self.catalogue),
                clock: Mutex::new(clock),
                script: Mutex::default(),
                log: Log::new(),
                settings: self.settings,
                cache: self.cached.then(Mutex::default),
                closing: watch::Sender::new(false),
            }),
        }
    }
}

/// A simulated event service.
pub struct Simulator {
    shared: Arc<Shared>,
}

impl Simulator {
    /// Begins a simulator of this catalogue.
    pub fn builder(catalogue: Catalogue) -> Builder {
        let settings =
            Settings { limit: LIMIT, version: VERSION.to_owned(), deleted_span: Some(Duration::from_secs(86_400)) };
        Builder { catalogue, clock: None, settings, cached: false }
    }

    /// The service's paths, to be served by someone else.
    pub fn router(&self) -> Router {
        Router::new().fallback(take).with_state(Arc::clone(&self.shared))
    }

    /// A handle to steer the simulator.
    pub fn handle(&self) -> Handle {
        Handle { shared: Arc::clone(&self.shared) }
    }

    /// Serves on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn serve(&self) -> io::Result<Running> {
        self.serve_at((Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// Serves on this address. A simulator is served once: its shutdown ends all of its bodies.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn serve_at(&self, address: SocketAddr) -> io::Result<Running> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let mut closing = self.shared.closing.subscribe();
        let closed = async move {
            // An error means that the simulator is gone, which closes it too.
            let _ = closing.wait_for(|&closing| closing).await;
        };
        let server = axum::serve(listener, self.router()).with_graceful_shutdown(closed);
        let task = tokio::spawn(server.into_future());
        Ok(Running { address, handle: self.handle(), task: Some(task) })
    }
}

/// A simulator that is being served; dropping it closes it.
pub struct Running {
    address: SocketAddr,
    handle: Handle,
    task: Option<JoinHandle<io::Result<()>>>,
}

impl Running {
    /// Where it listens, without a slash at the end.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A handle to steer the simulator.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Stops listening and ends what is under way, stalled requests too.
    ///
    /// # Errors
    /// When the server had failed.
    pub async fn shutdown(mut self) -> io::Result<()> {
        self.handle.shared.closing.send_replace(true);
        let Some(task) = self.task.take() else {
            return Ok(());
        };
        match tokio::time::timeout(PATIENCE, task).await {
            Ok(ended) => ended.map_err(io::Error::other)?,
            Err(_) => {
                tracing::warn!("a client neither reads nor leaves: it is left behind");
                Ok(())
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.shared.closing.send_replace(true);
    }
}

/// Steers a simulator while it runs. Clones steer the same one.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    /// The simulated time.
    pub fn now(&self) -> DateTime<Utc> {
        lock(&self.shared.clock).now()
    }

    /// Sets the simulated time.
    pub fn set_now(&self, now: DateTime<Utc>) {
        lock(&self.shared.clock).set(now);
    }

    /// Moves the simulated time on.
    pub fn advance(&self, by: Duration) {
        lock(&self.shared.clock).advance(by);
    }

    /// Adds a fault to the script: a [`crate::Fault`] for the next request, or a [`Rule`].
    pub fn fault(&self, rule: impl Into<Rule>) {
        lock(&self.shared.script).push(rule.into());
    }

    /// Forgets the faults that have not happened yet.
    pub fn clear_faults(&self) {
        lock(&self.shared.script).clear();
    }

    /// Number of faults that have not happened yet.
    pub fn faults_waiting(&self) -> usize {
        lock(&self.shared.script).waiting()
    }

    /// All requests since the start, in the order of their arrival.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.log.all()
    }

    /// Waits until so many requests have arrived since the start.
    pub async fn requested(&self, count: usize) {
        self.shared.log.reached(count).await;
    }

    /// The greatest number of requests that were in flight at once.
    pub fn peak_in_flight(&self) -> usize {
        self.shared.log.peak()
    }

    /// Number of requests in flight now.
    pub fn in_flight(&self) -> usize {
        self.shared.log.in_flight()
    }

    /// Changes the catalogue. Cached answers stay as they are, as those of the real service do.
    pub fn edit<T>(&self, change: impl FnOnce(&mut Catalogue) -> T) -> T {
        let mut catalogue = self.shared.catalogue.write().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut catalogue);
        catalogue.arrange();
        result
    }
}

impl Shared {
    fn answer(&self, target: &str, now: i64) -> Answer {
        let catalogue = self.catalogue.read().unwrap_or_else(PoisonError::into_inner);
        Request { catalogue: &catalogue, settings: &self.settings, target, now }.answer()
    }

    fn cached(&self, target: &str, now: i64) -> Option<Answer> {
        let cache = lock(self.cache.as_ref()?);
        let kept = cache.get(target).filter(|kept| kept.stored <= now && now < kept.stored + MAX_AGE)?;
        Some(kept.answer.clone())
    }

    /// Answers that come whole are kept, errors too, but for refusals to serve (429), which no cache keeps.
    fn keep(&self, target: &str, now: i64, answer: &Answer, delivery: &Delivery) {
        let Some(cache) = &self.cache else { return };
        if *delivery == Delivery::Whole && answer.status != 429 {
            lock(cache).insert(target.to_owned(), Cached { stored: now, answer: answer.clone() });
        }
    }

    /// The answer to a recorded request, and how it goes out.
    fn respond(&self, request: &Recorded) -> (Answer, Delivery) {
        let (target, now) = (request.target.as_str(), request.simulated.timestamp_millis());
        if request.method != "GET" {
            let refused = Request { catalogue: &Catalogue::empty(), settings: &self.settings, target, now };
            return (refused.refuse(405, "Only GET is supported."), Delivery::Whole);
        }
        if let Some(answer) = self.cached(target, now) {
            return (answer, Delivery::Whole);
        }
        let fault = lock(&self.script).take(request);
        let answer = self.answer(target, now);
        let (answer, delivery) = match fault {
            Some(fault) => fault.spoil(answer, target, &self.settings.version),
            None => (answer, Delivery::Whole),
        };
        self.keep(target, now, &answer, &delivery);
        (answer, delivery)
    }
}

/// Takes one request.
async fn take(State(shared): State<Arc<Shared>>, request: axum::extract::Request) -> Response<Body> {
    let now = lock(&shared.clock).now();
    let recorded = Recorded::new(request.method().as_str(), request.uri(), request.headers(), now);
    let in_flight = shared.log.arrive(recorded.clone());
    let gzip = delivery::accepts_gzip(recorded.accept_encoding.as_deref());
    let closing = shared.closing.subscribe();
    // A large answer takes a while to write and compress: not on the threads that serve others.
    let (target, mut stalled) = (recorded.target.clone(), closing.clone());
    let working = tokio::task::spawn_blocking(move || {
        let (answer, delivery) = shared.respond(&recorded);
        if delivery != Delivery::Never {
            in_flight.answered(answer.status);
        }
        let never = delivery == Delivery::Never;
        (never, answer.status, delivery::response(&answer, delivery, gzip, now, in_flight, closing))
    });
    match working.await {
        Ok((true, ..)) => {
            // Held until the client leaves or the simulator closes.
            let _ = stalled.wait_for(|&closing| closing).await;
            failed("closed while stalled")
        }
        Ok((false, status, Ok(response))) => {
            tracing::info!(status, asked = %target, "answered");
            response
        }
        Ok((false, _, Err(error))) => failed(&error.to_string()),
        Err(error) => failed(&error.to_string()),
    }
}

fn failed(reason: &str) -> Response<Body> {
    tracing::error!(reason, "the simulator failed to answer");
    let mut response = Response::new(Body::from(reason.to_owned()));
    *response.status_mut() = axum::http::StatusCode::INTERNAL_SERVER_ERROR;
    response
}
