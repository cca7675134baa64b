//! Fetch asks a source what is new and stores its answer untouched, then says that it did.
//!
//! Invariant: the cursor never passes what is durable, or has a [`window`] of its own. It moves only after the capture's manifest is stored and its
//! message is published, so a crash in between repeats work and changes nothing.

mod answer;
mod capture;
mod client;
mod cursor;
mod reading;
mod settings;

use std::sync::Arc;

use async_trait::async_trait;
use shared::bus::{Bus, publish};
use shared::capture::Manifest;
use shared::clock::{SharedClock, Timestamp};
use shared::dataset::{Ask, Cursor, Dataset, Plan, Query, Question, Refusal, Refused, Registry};
use shared::form::Form;
use shared::function::{Failure, Function, Received};
use shared::ledger::{Outcome, Output, Record};
use shared::message::{CaptureStored, FetchRequest};
use shared::metrics::{PARTS, ROWS};
use shared::store::Store;
use shared::trace::Trace;
use shared::warehouse::Cost;
use shared::window;

use crate::answer::{Broken, RefusedAnswer};
use crate::capture::{Capture, Captured};
use crate::cursor::CursorObject;

pub use client::Client;
pub use settings::{CONTACT, NoAddress, Settings};

/// An answer that seems to be cut off, and is the same in so many attempts, is what the source has.
const CUT_OFF_TRIES: u32 = 3;

/// The service.
pub struct Fetch {
    datasets: Registry,
    client: Client,
    store: Arc<dyn Store>,
    bus: Arc<dyn Bus>,
    clock: SharedClock,
}

/// What became of a request, for the ledger.
struct Done {
    inputs: Vec<String>,
    stored: Option<Manifest>,
    outcome: Outcome,
}

impl Fetch {
    /// A service that asks with `client` and stores into `store`.
    pub fn new(
        datasets: Registry,
        client: Client,
        store: Arc<dyn Store>,
        bus: Arc<dyn Bus>,
        clock: SharedClock,
    ) -> Self {
        Self { datasets, client, store, bus, clock }
    }

    async fn plan(&self, dataset: &dyn Dataset, ask: &Ask, cursor: Option<&Cursor>) -> Result<Plan, Failure> {
        match dataset.source().plan(ask, cursor, None) {
            Plan::NeedsClock => {
                let now = self.client.now(dataset, self.clock.now()).await?;
                Ok(dataset.source().plan(ask, cursor, Some(now)))
            }
            plan => Ok(plan),
        }
    }

    /// Publishes the parts of a request that is too large for one answer. Each has a window until it is stored, so the
    /// cursor may pass them.
    async fn split(&self, dataset: &dyn Dataset, parts: Vec<Ask>, trace: Trace) -> Result<(), Failure> {
        tracing::info!({ PARTS } = parts.len(), "the request is split");
        for ask in &parts {
            window::open(&*self.store, dataset.name(), ask, self.clock.now()).await?;
        }
        for ask in parts {
            let request = FetchRequest { dataset: dataset.name().to_owned(), ask };
            publish(&*self.bus, &request, trace).await?;
        }
        Ok(())
    }

    /// Asks again for the parts of earlier requests whose messages must have been lost or given up.
    async fn ask_again(&self, dataset: &dyn Dataset, trace: Trace) -> Result<(), Failure> {
        let now = self.clock.now();
        let open = window::all(&*self.store, dataset.name()).await?;
        let overdue: Vec<_> = open.into_iter().filter(|it| it.is_overdue(now)).map(|it| it.ask).collect();
        if overdue.is_empty() { Ok(()) } else { self.split(dataset, overdue, trace).await }
    }

    /// Asks, and stores the answers.
    async fn ask(
        &self,
        dataset: &dyn Dataset,
        message: &Received<FetchRequest>,
        questions: &[Question],
        again: &Ask,
        cursor: Option<&CursorObject>,
    ) -> Result<Done, Failure> {
        let known = cursor.and_then(|cursor| cursor.value.as_ref());
        let mut capture = Capture::new(dataset, &*self.store, &*self.clock, known);
        let mut inputs = Vec::new();
        for Question { query, form } in questions {
            let url = self.client.url(dataset, query)?.to_string();
            match self.read(dataset, query, form, &mut capture).await {
                Ok(None) => inputs.push(url),
                Ok(Some((refused, at))) => {
                    return self.refused(dataset, message, query, again, cursor, refused, at).await;
                }
                Err(Broken::TimedOut) => {
                    let refused = RefusedAnswer::timed_out(url);
                    return self.refused(dataset, message, query, again, cursor, refused, None).await;
                }
                Err(Broken::Failure(failure)) => {
                    if matches!(failure, Failure::Transient(_)) {
                        self.client.failed(&url).await;
                    }
                    return Err(failure);
                }
            }
        }
        if capture.may_be_cut_off() && message.attempt < CUT_OFF_TRIES {
            let reason = format!("fewer rows than details came from {}", inputs.join(", "));
            return Err(Failure::Transient(reason));
        }
        let Captured { stored, observed_at, seen } = capture.finish(again.clone()).await?;
        if let Some(stored) = &stored {
            let said = CaptureStored { dataset: dataset.name().to_owned(), capture: stored.capture.clone() };
            publish(&*self.bus, &said, message.trace).await?;
        }
        if let (Some(cursor), Some(observed_at)) = (cursor, observed_at) {
            cursor.advance(&*self.store, observed_at, seen).await?;
        }
        let outcome = if stored.is_some() { Outcome::Done } else { Outcome::Nothing };
        Ok(Done { inputs, stored, outcome })
    }

    /// Adds the answer to one question to a capture, or returns the refusal and when it was made.
    async fn read(
        &self,
        dataset: &dyn Dataset,
        query: &Query,
        form: &'static Form,
        capture: &mut Capture<'_>,
    ) -> Result<Option<(RefusedAnswer, Option<Timestamp>)>, Broken> {
        let answer = self.client.ask(dataset, query).await?;
        let observed_at = answer.observed_at(dataset);
        if !answer.is_success() {
            return Ok(Some((answer.refusal().await, observed_at.ok())));
        }
        capture.add(answer, form, observed_at?).await?;
        Ok(None)
    }

    /// Does what the source's answer calls for: smaller requests, or the same one later.
    #[expect(clippy::too_many_arguments, reason = "all that is known of one refusal")]
    async fn refused(
        &self,
        dataset: &dyn Dataset,
        message: &Received<FetchRequest>,
        query: &Query,
        again: &Ask,
        cursor: Option<&CursorObject>,
        refused: RefusedAnswer,
        observed_at: Option<Timestamp>,
    ) -> Result<Done, Failure> {
        let reason = refused.sentence(query);
        let known = cursor.and_then(|cursor| cursor.value.as_ref());
        let seen = Refused { status: refused.status, headers: &refused.headers, body: &refused.body };
        match dataset.source().refused(again, known, message.attempt, &seen) {
            Refusal::Split(parts) => {
                self.split(dataset, parts, message.trace).await?;
                if let (Some(cursor), Some(observed_at)) = (cursor, observed_at) {
                    // The parts are durable as messages, so whatever was published by now will come.
                    cursor.advance(&*self.store, observed_at, Vec::new()).await?;
                }
                Ok(Done { inputs: vec![refused.url], stored: None, outcome: Outcome::Nothing })
            }
            Refusal::Later(after) => {
                let after = self.client.pause_of(&refused, after);
                self.client.pause(&refused.url, refused.status, after).await;
                Err(Failure::Later { reason, after })
            }
            Refusal::Never => Err(Failure::Poison(reason)),
        }
    }

    async fn record(
        &self,
        dataset: &dyn Dataset,
        message: &Received<FetchRequest>,
        started_at: Timestamp,
        done: Done,
    ) -> Result<(), Failure> {
        let duration = self.clock.now() - started_at;
        let rows = done.stored.as_ref().map_or(0, |stored| stored.rows(dataset));
        let answers = done.stored.iter().flat_map(|stored| &stored.answers);
        let outputs = answers.map(|it| Output { name: it.object.clone(), rows: it.records }).collect();
        tracing::info!({ ROWS } = rows, inputs = ?done.inputs, "fetched");
        let record = Record {
            stage: Self::NAME.to_owned(),
            dataset: message.body.dataset.clone(),
            run: message.trace.run(),
            message: message.id.clone(),
            capture: done.stored.as_ref().map(|stored| stored.capture.clone()),
            started_at,
            duration_ms: u64::try_from(duration.num_milliseconds()).unwrap_or(0),
            inputs: done.inputs,
            rows_in: rows,
            rows_kept: rows,
            rows_quarantined: 0,
            outputs,
            cost: Cost::default(),
            outcome: done.outcome,
        };
        Ok(record.write(&*self.store, message.published_at).await?)
    }
}

#[async_trait]
impl Function for Fetch {
    type Input = FetchRequest;
    const NAME: &'static str = "fetch";

    async fn handle(&self, message: Received<FetchRequest>) -> Result<(), Failure> {
        let started_at = self.clock.now();
        let dataset = self.datasets.get(&message.body.dataset).map_err(|error| Failure::Poison(error.to_string()))?;
        let dataset = &**dataset;
        let ask = &message.body.ask;
        let cursor = match ask {
            Ask::Tick { .. } => Some(CursorObject::read(&*self.store, dataset.name()).await?),
            Ask::Range { .. } | Ask::Updates { .. } | Ask::Recent => None,
        };
        let known = cursor.as_ref().and_then(|cursor| cursor.value.as_ref());
        let done = match self.plan(dataset, ask, known).await? {
            Plan::Query { questions, again } => {
                self.ask(dataset, &message, &questions, &again, cursor.as_ref()).await?
            }
            Plan::Split(parts, reached) => {
                self.split(dataset, parts, message.trace).await?;
                if let (Some(cursor), Some(reached)) = (&cursor, reached) {
                    cursor.advance(&*self.store, reached, Vec::new()).await?;
                }
                Done { inputs: Vec::new(), stored: None, outcome: Outcome::Nothing }
            }
            Plan::NeedsClock => {
                return Err(Failure::Poison(format!("{}: no plan even with the source's time", dataset.name())));
            }
        };
        match ask {
            Ask::Tick { .. } => self.ask_again(dataset, message.trace).await?,
            ask => window::close(&*self.store, dataset.name(), ask).await?,
        }
        self.record(dataset, &message, started_at, done).await
    }
}
