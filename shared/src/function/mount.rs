//! Mounts a service: what happens to a push from its head to the answer.
//!
//! Invariant: nothing is read of a request that is not admitted, at most [`LARGEST_BODY`] of one that is, and of at
//! most [`Terms::at_once`] requests at a time; each ends before its deadline, or when the process must end.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::StreamExt;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::envelope::open;
use super::{Admission, Failure, FailureKind, Function, NotAdmitted, Problem, Received};
use crate::clock::{SharedClock, Timestamp};
use crate::metrics::{ATTEMPT, DEAD_LETTER, DURATION_MS, LATENESS_S, OUTCOME};

/// A push body larger than this is refused; Pub/Sub's own limit for a message is 10 MB, in base64 here.
pub const LARGEST_BODY: usize = 14 << 20;

/// Under what terms a service takes requests. The default is for those from its own process: everything at once, for as
/// long as it takes.
#[derive(Clone)]
pub struct Terms {
    /// Who may push; everybody if not said.
    pub admission: Option<Arc<dyn Admission>>,
    /// A request that takes longer is ended, and answered 503.
    pub deadline: Option<Duration>,
    /// So many requests are read and handled at once; the others wait with their bodies unread.
    pub at_once: usize,
    /// When it is cancelled, all requests are ended, and answered 503.
    pub hand_back: CancellationToken,
}

impl Default for Terms {
    fn default() -> Self {
        let at_once = Semaphore::MAX_PERMITS;
        Self { admission: None, deadline: None, at_once, hand_back: CancellationToken::new() }
    }
}

impl Terms {
    /// Waits until a request that begins now must end, and says why.
    async fn end(&self) -> Failure {
        let deadline = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.hand_back.cancelled() => Failure::Transient("the service ends and hands the message back".into()),
            () = deadline => {
                let seconds = self.deadline.unwrap_or_default().as_secs_f64();
                Failure::Transient(format!("it was not done within {seconds} s"))
            }
        }
    }
}

struct Mounted<F> {
    function: F,
    clock: SharedClock,
    terms: Terms,
    permits: Semaphore,
}

/// The service's HTTP interface: `POST /` takes a push, `GET /healthz` says that it runs. For requests from the same
/// process.
pub fn router<F: Function>(function: F, clock: SharedClock) -> Router {
    router_with(function, clock, Terms::default())
}

/// The same under these terms.
pub fn router_with<F: Function>(function: F, clock: SharedClock, terms: Terms) -> Router {
    let permits = Semaphore::new(terms.at_once);
    Router::new()
        .route("/", post(receive::<F>))
        .route("/healthz", get(|| async { "ok" }))
        .with_state(Arc::new(Mounted { function, clock, terms, permits }))
}

async fn receive<F: Function>(State(mounted): State<Arc<Mounted<F>>>, request: Request) -> Response {
    mounted.receive(request).await
}

impl<F: Function> Mounted<F> {
    async fn receive(&self, request: Request) -> Response {
        let started_at = self.clock.now();
        let mut end = std::pin::pin!(self.terms.end());
        let read = tokio::select! {
            biased;
            read = self.read(request) => read,
            failure = &mut end => {
                tracing::warn!(service = F::NAME, error = %failure, "a request ended before it was read");
                Err(failed(&failure))
            }
        };
        let (received, _permit) = match read {
            Ok(read) => read,
            Err(answer) => return answer,
        };
        let (attempt, published_at) = (received.attempt, received.published_at);
        let span = tracing::info_span!(
            "handle",
            service = F::NAME,
            dataset = crate::message::Message::dataset(&received.body),
            trace = received.trace.run(),
            span_id = format!("{:016x}", received.trace.span),
            message_id = received.id
        );
        let handled = async {
            tokio::select! {
                biased;
                handled = self.function.handle(received) => handled,
                failure = &mut end => Err(failure),
            }
        };
        let handled = handled.instrument(span.clone()).await;
        span.in_scope(|| tell(&handled, attempt, started_at, published_at, self.clock.now()));
        match handled {
            Ok(()) => StatusCode::NO_CONTENT.into_response(),
            Err(failure) => failed(&failure),
        }
    }

    /// Reads a request that is admitted, when its turn has come; or says what to answer.
    async fn read(&self, request: Request) -> Result<(Received<F::Input>, Option<SemaphorePermit<'_>>), Response> {
        if let Some(admission) = &self.terms.admission {
            admission.admit(request.headers()).await.map_err(|reason| not_admitted::<F>(&reason))?;
        }
        // It is never closed.
        let permit = self.permits.acquire().await.ok();
        let body = read(request).await.map_err(|unread| unread.answer::<F>())?;
        let received = open::<F::Input>(&body, &*self.clock).map_err(|reason| {
            tracing::error!(service = F::NAME, { DEAD_LETTER } = true, %reason, "a push is not a message of ours");
            answer(StatusCode::BAD_REQUEST, &Problem { kind: FailureKind::Poison, error: reason }, None)
        })?;
        Ok((received, permit))
    }
}

/// Logs what became of a message, once for each delivery.
fn tell(handled: &Result<(), Failure>, attempt: u32, started_at: Timestamp, published_at: Timestamp, now: Timestamp) {
    let duration = (now - started_at).num_milliseconds();
    let lateness = (now - published_at).num_seconds();
    macro_rules! tell {
        ($level:ident, $outcome:expr, $($rest:tt)+) => {
            tracing::$level!(
                { OUTCOME } = $outcome,
                { ATTEMPT } = attempt,
                { DURATION_MS } = duration,
                { LATENESS_S } = lateness,
                $($rest)+
            )
        };
    }
    let Err(failure) = handled else { return tell!(info, "done", "handled") };
    let outcome = failure.kind().as_str();
    match failure {
        Failure::Poison(_) => {
            tell!(error, outcome, { DEAD_LETTER } = true, error = %failure, "the message can never succeed");
        }
        Failure::Blocked(_) => {
            tell!(error, outcome, { DEAD_LETTER } = true, error = %failure, "the message cannot succeed as things are");
        }
        Failure::Transient(_) | Failure::Later { .. } | Failure::Unreachable(_) => {
            tell!(warn, outcome, error = %failure, "the message will be sent again");
        }
    }
}

/// Why a body was not read.
enum Unread {
    TooLarge(Option<u64>),
    Broken(axum::Error),
}

impl Unread {
    fn answer<F: Function>(self) -> Response {
        match self {
            Self::TooLarge(said) => {
                let error = format!("the push is larger than {LARGEST_BODY} bytes, which no message is");
                tracing::error!(
                    service = F::NAME,
                    { DEAD_LETTER } = true,
                    content_length = said,
                    error,
                    "a push is refused unread"
                );
                answer(StatusCode::PAYLOAD_TOO_LARGE, &Problem { kind: FailureKind::Poison, error }, None)
            }
            Self::Broken(error) => {
                tracing::warn!(service = F::NAME, %error, "a push could not be read to its end");
                failed(&Failure::Transient(format!("the push could not be read to its end: {error}")))
            }
        }
    }
}

/// Reads the body, if it is not too large; of one that is, no more than shows it.
async fn read(request: Request<Body>) -> Result<Vec<u8>, Unread> {
    let said = request.headers().get(header::CONTENT_LENGTH);
    let said = said.and_then(|said| said.to_str().ok()?.parse::<u64>().ok());
    if said.is_some_and(|said| said > LARGEST_BODY as u64) {
        return Err(Unread::TooLarge(said));
    }
    let mut body = Vec::new();
    let mut pieces = request.into_body().into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(Unread::Broken)?;
        if piece.len() > LARGEST_BODY - body.len() {
            return Err(Unread::TooLarge(None));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// Says no more than that: whoever asks may be anybody.
fn not_admitted<F: Function>(reason: &NotAdmitted) -> Response {
    match reason {
        NotAdmitted::Unverified(reason) => {
            tracing::warn!(service = F::NAME, reason, "a request is not admitted");
            let problem = Problem { kind: FailureKind::Blocked, error: "the request is not admitted".to_owned() };
            let mut response = answer(StatusCode::UNAUTHORIZED, &problem, None);
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            response
        }
        NotAdmitted::Unchecked(reason) => {
            tracing::error!(service = F::NAME, reason, "it cannot be checked whether a request may be admitted");
            failed(&Failure::Transient("it cannot be checked now whether the request may be admitted".to_owned()))
        }
    }
}

fn failed(failure: &Failure) -> Response {
    let after = if let Failure::Later { after, .. } = failure { Some(*after) } else { None };
    answer(failure.status(), &Problem { kind: failure.kind(), error: failure.to_string() }, after)
}

fn answer(status: StatusCode, problem: &Problem, after: Option<Duration>) -> Response {
    let mut response = (status, axum::Json(problem)).into_response();
    if let Some(after) = after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    response
}

#[cfg(test)]
mod tests;
