//! The one client that sources are asked with, and its manners: one request at a time, spaced; a source that asks for a
//! pause gets it; an address that failed is not asked again while the failure is cached.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::header;
use serde::Deserialize;
use shared::clock::Timestamp;
use shared::dataset::{Dataset, Query};
use shared::function::Failure;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::answer::{Answer, Broken, RefusedAnswer, Turn, innermost};
use crate::reading::unpack_start;
use crate::settings::Settings;

const CONNECT: Duration = Duration::from_secs(10);
/// Between two pieces of an answer.
const SILENCE: Duration = Duration::from_secs(60);
/// For a whole answer.
const ANSWER: Duration = Duration::from_secs(120);
/// A count is a short text.
const LONGEST_COUNT: usize = 4096;
/// A failure of an address is not asked for again within this time.
const FAILURE_CACHE: Duration = Duration::from_secs(60);

/// A source that asks for more is asked again all the same.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3600);

/// Asks sources. Clones share the one connection and what is remembered.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    settings: Settings,
    /// Locked for as long as an answer is being read: that is the one connection.
    turn: Turn,
    memory: Arc<Mutex<Memory>>,
}

/// What the client remembers of its failures.
#[derive(Default)]
struct Memory {
    /// By full address.
    failed: HashMap<String, Instant>,
    /// By the source that an address is of, see [`source_of`].
    paused_until: HashMap<String, Instant>,
}

impl Client {
    /// A client with these settings.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(settings: Settings) -> Result<Self, String> {
        // Another part of the program may have installed it already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let contact = settings.contact.as_deref().unwrap_or("set STRATA_CONTACT to name one");
        let agent = format!("strata/{} (contact: {contact})", env!("CARGO_PKG_VERSION"));
        let http = reqwest::Client::builder()
            .user_agent(agent)
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .timeout(settings.patience.unwrap_or(ANSWER))
            .pool_max_idle_per_host(1)
            .redirect(reqwest::redirect::Policy::limited(3))
            .build()
            .map_err(|error| format!("the HTTP client cannot start: {error}"))?;
        Ok(Self { http, settings, turn: Turn::default(), memory: Arc::default() })
    }

    /// The time of a dataset's source, from its cheapest answer.
    ///
    /// # Errors
    /// [`Failure::Unreachable`] when there is no answer.
    pub async fn now(&self, dataset: &dyn Dataset, ours: Timestamp) -> Result<Timestamp, Failure> {
        match self.ask(dataset, &dataset.source().clock(ours)).await {
            // A refusal tells the time as well.
            Ok(answer) => answer.observed_at(dataset),
            Err(Broken::TimedOut) => Err(Failure::Unreachable(format!("{} does not answer", self.address(dataset)))),
            Err(Broken::Failure(failure)) => Err(failure),
        }
    }

    /// How many rows the source counts.
    ///
    /// # Errors
    /// [`Failure::Unreachable`] when there is no answer, [`Failure::Transient`] when it holds no count.
    pub async fn count(&self, dataset: &dyn Dataset, query: &Query) -> Result<u64, Failure> {
        #[derive(Deserialize)]
        struct Counted {
            count: u64,
        }
        let unanswered = || Failure::Unreachable(format!("{} does not answer", self.address(dataset)));
        let failure = |broken| match broken {
            Broken::TimedOut => unanswered(),
            Broken::Failure(failure) => failure,
        };
        let mut answer = self.ask(dataset, query).await.map_err(failure)?;
        if !answer.is_success() {
            return Err(Failure::Transient(answer.refusal().await.sentence(query)));
        }
        let encoding = answer.encoding()?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failure)? {
            body.extend_from_slice(&chunk);
            if body.len() > LONGEST_COUNT {
                break;
            }
        }
        let counted = serde_json::from_slice::<Counted>(&unpack_start(encoding, &body, LONGEST_COUNT));
        let no_count = |error| Failure::Transient(format!("{} gives no count: {error}", answer.url()));
        Ok(counted.map_err(no_count)?.count)
    }

    /// The address of a query.
    pub(crate) fn url(&self, dataset: &dyn Dataset, query: &Query) -> Result<reqwest::Url, Failure> {
        let address = self.address(dataset);
        let mut url = reqwest::Url::parse(&format!("{address}{}", query.path))
            .map_err(|error| Failure::Poison(format!("'{address}' is no address of a source: {error}")))?;
        // Even an empty question mark is one that some addresses refuse.
        if !query.parameters.is_empty() {
            url.query_pairs_mut().extend_pairs(&query.parameters);
        }
        Ok(url)
    }

    fn address(&self, dataset: &dyn Dataset) -> String {
        let own = dataset.source().default_address();
        self.settings.addresses.get(dataset.name()).map_or(own, String::as_str).trim_end_matches('/').to_owned()
    }

    /// Sends a request and waits for the head of the answer.
    pub(crate) async fn ask(&self, dataset: &dyn Dataset, query: &Query) -> Result<Answer, Broken> {
        let address = self.address(dataset);
        let url = self.url(dataset, query)?;
        self.check(&address, &url).await?;
        // Nobody is crowded by requests to ourselves: a simulator's.
        let polite = || if is_own(&url) { Duration::ZERO } else { dataset.source().spacing() };
        let spacing = self.settings.spacing.unwrap_or_else(polite);
        let turn = self.turn.take(spacing).await;
        let sent = self.http.get(url.clone()).header(header::ACCEPT_ENCODING, "gzip").send().await;
        match sent {
            Ok(response) => Ok(Answer::new(url.into(), response, turn)),
            Err(error) if error.is_timeout() && !error.is_connect() => Err(Broken::TimedOut),
            Err(error) => {
                Err(Failure::Unreachable(format!("{address} is not reachable: {}", innermost(&error))).into())
            }
        }
    }

    async fn check(&self, address: &str, url: &reqwest::Url) -> Result<(), Failure> {
        let now = Instant::now();
        let cached = self.settings.failure_cache.unwrap_or(FAILURE_CACHE);
        let mut memory = self.memory.lock().await;
        memory.failed.retain(|_, at| now.duration_since(*at) < cached);
        memory.paused_until.retain(|_, until| *until > now);
        let failed = memory.failed.get(url.as_str()).map(|at| cached.saturating_sub(now.duration_since(*at)));
        let paused = memory.paused_until.get(&source_of(url)).map(|until| until.duration_since(now));
        match failed.into_iter().chain(paused).max() {
            Some(after) if paused.is_some() => {
                Err(Failure::Later { reason: format!("{address} asked for a pause"), after })
            }
            Some(after) => Err(Failure::Later { reason: format!("{url} failed a moment ago"), after }),
            None => Ok(()),
        }
    }

    /// How long to leave a source alone: what it asks for itself, else at most as long as failures are cached.
    pub(crate) fn pause_of(&self, refused: &RefusedAnswer, after: Duration) -> Duration {
        match self.settings.failure_cache {
            Some(cached) if !refused.headers.contains_key(header::RETRY_AFTER) => after.min(cached),
            _ => after.min(LONGEST_PAUSE),
        }
    }

    /// Remembers that an address failed.
    pub(crate) async fn failed(&self, url: &str) {
        self.memory.lock().await.failed.insert(url.to_owned(), Instant::now());
    }

    /// Remembers a refusal: of everything at that source when it asks for fewer requests, else of that one address.
    pub(crate) async fn pause(&self, url: &str, status: http::StatusCode, after: Duration) {
        match reqwest::Url::parse(url) {
            Ok(url) if status == http::StatusCode::TOO_MANY_REQUESTS => {
                self.memory.lock().await.paused_until.insert(source_of(&url), Instant::now() + after);
            }
            _ => self.failed(url).await,
        }
    }
}

/// Who answers at an address: its scheme, host and port, in one spelling.
fn source_of(url: &reqwest::Url) -> String {
    url.origin().ascii_serialization()
}

/// Whether an address is of this machine, by its number.
fn is_own(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn only_this_machine_is_asked_without_a_pause() {
        let own = |address: &str| is_own(&address.parse().unwrap());
        assert!(own("http://127.0.0.1:8090/mirror") && own("http://[::1]/"));
        assert!(!own("https://earthquake.usgs.gov") && !own("http://127.0.0.1.example.org") && !own("http://10.0.0.1"));
    }

    #[tokio::test]
    async fn a_pause_holds_for_every_query_of_the_source_however_its_address_is_written() {
        let datasets = shared::datasets::shipped();
        let dataset = &**datasets.get("earthquakes").unwrap();
        let query = |path: &str| Query { path: path.to_owned(), parameters: Vec::new() };
        // Nobody listens there: a request that is sent is told from one that is held back.
        for address in ["http://127.0.0.1:1", "http://127.0.0.1:1/mirror/usgs/", "HTTP://LOCALHOST:1/mirror"] {
            let addresses = BTreeMap::from([("earthquakes".to_owned(), address.to_owned())]);
            let spacing = Some(Duration::ZERO);
            let client = Client::new(Settings { addresses, spacing, ..Settings::default() }).unwrap();
            let sent = client.ask(dataset, &query("/first")).await.err();
            assert!(matches!(sent, Some(Broken::Failure(Failure::Unreachable(_)))), "{address}: {sent:?}");
            let refused = client.url(dataset, &query("/first")).unwrap();
            client.pause(refused.as_str(), http::StatusCode::TOO_MANY_REQUESTS, Duration::from_secs(60)).await;
            let held = client.ask(dataset, &query("/second")).await.err();
            let Some(Broken::Failure(Failure::Later { after, .. })) = held else { panic!("{address}: {held:?}") };
            assert!(after > Duration::from_secs(50), "{address}: {after:?}");
        }
    }
}
