//! The record of what was asked, so that tests can tell how politely a client asks.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use axum::{
    extract::Query,
    http::{HeaderMap, Uri, header},
};
use chrono::{DateTime, Utc};
use tokio::sync::watch;

/// One request.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// HTTP method.
    pub method: String,
    /// Path and query, as sent.
    pub target: String,
    /// Simulated time of its arrival.
    pub simulated: DateTime<Utc>,
    /// Real time of its arrival.
    pub at: Instant,
    /// Status of the answer; none before it is made, and never for a stalled request.
    pub status: Option<u16>,
    /// The User-Agent header.
    pub user_agent: Option<String>,
    /// The Accept-Encoding header.
    pub accept_encoding: Option<String>,
}

impl Recorded {
    pub(crate) fn new(method: &str, uri: &Uri, headers: &HeaderMap, simulated: DateTime<Utc>) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Self {
            method: method.to_owned(),
            target: uri.path_and_query().map_or_else(|| uri.path().to_owned(), ToString::to_string),
            simulated,
            at: Instant::now(),
            status: None,
            user_agent: text(header::USER_AGENT),
            accept_encoding: text(header::ACCEPT_ENCODING),
        }
    }

    /// The address without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The decoded value of a parameter.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let uri = self.target.parse::<Uri>().ok()?;
        let Query(parameters) = Query::<Vec<(String, String)>>::try_from_uri(&uri).ok()?;
        parameters.into_iter().rev().find(|(known, _)| known == name).map(|(_, value)| value)
    }
}

#[derive(Default)]
struct State {
    recorded: Vec<Recorded>,
    in_flight: usize,
    peak: usize,
}

/// All requests since the start.
pub(crate) struct Log {
    state: Mutex<State>,
    arrived: watch::Sender<usize>,
}

impl Log {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), arrived: watch::Sender::new(0) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records an arrival. The request is in flight until what this returns is dropped.
    pub(crate) fn arrive(self: &Arc<Self>, request: Recorded) -> InFlight {
        let mut state = self.lock();
        state.recorded.push(request);
        state.in_flight += 1;
        state.peak = state.peak.max(state.in_flight);
        let number = state.recorded.len();
        drop(state);
        self.arrived.send_replace(number);
        InFlight { log: Arc::clone(self), number }
    }

    pub(crate) fn all(&self) -> Vec<Recorded> {
        self.lock().recorded.clone()
    }

    pub(crate) fn peak(&self) -> usize {
        self.lock().peak
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.lock().in_flight
    }

    /// Waits until so many requests have arrived since the start.
    pub(crate) async fn reached(&self, count: usize) {
        let mut arrived = self.arrived.subscribe();
        // The sender lives as long as the log, so this ends only when the count is reached.
        let _ = arrived.wait_for(|&number| number >= count).await;
    }
}

/// A request that is being answered.
pub(crate) struct InFlight {
    log: Arc<Log>,
    number: usize,
}

impl InFlight {
    pub(crate) fn answered(&self, status: u16) {
        if let Some(request) = self.log.lock().recorded.get_mut(self.number - 1) {
            request.status = Some(status);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.log.lock().in_flight -= 1;
    }
}
