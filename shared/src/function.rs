//! The runtime around a service: one typed handler, and everything that a push delivery needs before and after it.
//!
//! A service implements [`Function`] and is mounted with [`router`]. The runtime reads the push envelope, carries the
//! trace on, and turns what the handler says into an HTTP status in one place, [`Failure::status`]: any 2xx
//! acknowledges, 503 and 429 are sent again with backoff, other 4xx can never succeed and end as dead letters.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use tracing::Instrument;

use crate::bus::BusError;
use crate::clock::{SharedClock, Timestamp};
use crate::message::{FORM, FORM_VERSION, Message, Parcel};
use crate::store::StoreError;
use crate::trace::{TRACEPARENT, Trace};
use crate::warehouse::WarehouseError;

/// A push body larger than this is refused; Pub/Sub's own limit for a message is 10 MB, in base64 here.
const LARGEST_BODY: usize = 14 << 20;

/// What Pub/Sub pushes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Envelope {
    /// The full name of the subscription.
    pub subscription: String,
    /// The message.
    pub message: PushedMessage,
    /// Which delivery this is, from 1; only where dead-lettering is on.
    #[serde(rename = "deliveryAttempt", default, skip_serializing_if = "Option::is_none")]
    pub delivery_attempt: Option<u32>,
}

/// The message in an [`Envelope`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PushedMessage {
    /// Base64.
    #[serde(default)]
    pub data: String,
    /// Set by the publisher.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// Unique in the topic.
    #[serde(rename = "messageId")]
    pub message_id: String,
    /// When it was published.
    #[serde(rename = "publishTime")]
    pub publish_time: Timestamp,
}

impl Envelope {
    /// Puts a parcel into an envelope.
    pub fn new(subscription: &str, message_id: String, publish_time: Timestamp, attempt: u32, parcel: &Parcel) -> Self {
        Self {
            subscription: subscription.to_owned(),
            message: PushedMessage {
                data: BASE64.encode(&parcel.data),
                attributes: parcel.attributes.clone(),
                message_id,
                publish_time,
            },
            delivery_attempt: Some(attempt),
        }
    }
}

/// A message as a handler gets it.
#[derive(Debug, Clone)]
pub struct Received<M> {
    /// Its content.
    pub body: M,
    /// Unique in the topic; the same in every delivery.
    pub id: String,
    /// When it was published; the same in every delivery.
    pub published_at: Timestamp,
    /// Which delivery this is, from 1; 1 where nobody counts.
    pub attempt: u32,
    /// The run that it belongs to, with a span of this handling.
    pub trace: Trace,
}

/// Why a handler did not finish.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It may succeed when it is sent again.
    #[error("{0}")]
    Transient(String),
    /// It may succeed when it is sent again, but not before this long.
    #[error("{reason}")]
    Later {
        /// What happened.
        reason: String,
        /// Not before.
        after: Duration,
    },
    /// The source cannot be reached at all; it may be later.
    #[error("{0}")]
    Unreachable(String),
    /// It may succeed once somebody has made room or given leave.
    #[error("{0}")]
    Blocked(String),
    /// It can never succeed.
    #[error("{0}")]
    Poison(String),
}

impl Failure {
    /// The one table that turns a failure into an answer to the push.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Transient(_) | Self::Later { .. } | Self::Unreachable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Blocked(_) => StatusCode::INSUFFICIENT_STORAGE,
            Self::Poison(_) => StatusCode::UNPROCESSABLE_ENTITY,
        }
    }

    fn kind(&self) -> FailureKind {
        match self {
            Self::Transient(_) | Self::Later { .. } => FailureKind::Transient,
            Self::Unreachable(_) => FailureKind::Unreachable,
            Self::Blocked(_) => FailureKind::Blocked,
            Self::Poison(_) => FailureKind::Poison,
        }
    }
}

/// The kind of a failure, as the answer to a push says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// Sent again with backoff.
    Transient,
    /// Sent again with backoff; the source is out of reach.
    Unreachable,
    /// A dead letter, until somebody has made room or given leave.
    Blocked,
    /// A dead letter.
    Poison,
}

/// The body of an answer that is not 2xx.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What kind.
    pub kind: FailureKind,
    /// One sentence.
    pub error: String,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            // A conflict that reaches this far was lost to another writer: plan again from what is there now.
            StoreError::Transient { .. } | StoreError::Conflict { .. } | StoreError::NotFound { .. } => {
                Self::Transient(error.to_string())
            }
            StoreError::Blocked { .. } => Self::Blocked(error.to_string()),
            StoreError::Permanent { .. } => Self::Poison(error.to_string()),
        }
    }
}

impl From<BusError> for Failure {
    fn from(error: BusError) -> Self {
        Self::Transient(error.to_string())
    }
}

impl From<WarehouseError> for Failure {
    fn from(error: WarehouseError) -> Self {
        match error {
            WarehouseError::Store(error) => error.into(),
            WarehouseError::Conflict(_) | WarehouseError::Transient(_) => Self::Transient(error.to_string()),
            WarehouseError::Blocked(_) => Self::Blocked(error.to_string()),
            WarehouseError::Sql(_) | WarehouseError::Rows { .. } | WarehouseError::Damaged { .. } => {
                Self::Poison(error.to_string())
            }
        }
    }
}

/// One service: what it does with a message.
#[async_trait]
pub trait Function: Send + Sync + 'static {
    /// The message that it takes.
    type Input: Message;

    /// `fetch`, `land` or `transform`.
    const NAME: &'static str;

    /// Does the work. Whatever it returns, it must be safe to call again with the same message.
    async fn handle(&self, message: Received<Self::Input>) -> Result<(), Failure>;
}

struct Mounted<F> {
    function: F,
    clock: SharedClock,
}

/// The service's HTTP interface: `POST /` takes a push, `GET /healthz` says that it runs.
pub fn router<F: Function>(function: F, clock: SharedClock) -> Router {
    Router::new()
        .route("/", post(receive::<F>))
        .route("/healthz", get(|| async { "ok" }))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .with_state(Arc::new(Mounted { function, clock }))
}

async fn receive<F: Function>(State(mounted): State<Arc<Mounted<F>>>, body: Bytes) -> Response {
    let received = match open::<F::Input>(&body, &*mounted.clock) {
        Ok(received) => received,
        Err(reason) => {
            tracing::warn!(service = F::NAME, %reason, "a push is not a message of ours");
            return answer(StatusCode::BAD_REQUEST, &Problem { kind: FailureKind::Poison, error: reason }, None);
        }
    };
    let span = tracing::info_span!(
        "handle",
        service = F::NAME,
        dataset = received.body.dataset(),
        trace = received.trace.run(),
        message = received.id
    );
    let result = mounted.function.handle(received).instrument(span.clone()).await;
    let _inside = span.entered();
    match result {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(failure) => {
            let after = if let Failure::Later { after, .. } = &failure { Some(*after) } else { None };
            match failure {
                Failure::Poison(_) => tracing::error!(error = %failure, "the message can never succeed"),
                Failure::Blocked(_) => tracing::error!(error = %failure, "the message cannot succeed as things are"),
                _ => tracing::warn!(error = %failure, "the message will be sent again"),
            }
            answer(failure.status(), &Problem { kind: failure.kind(), error: failure.to_string() }, after)
        }
    }
}

fn answer(status: StatusCode, problem: &Problem, after: Option<Duration>) -> Response {
    let mut response = (status, axum::Json(problem)).into_response();
    if let Some(after) = after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    response
}

/// Reads a push body, or says in one sentence what is wrong with it.
fn open<M: Message>(body: &[u8], clock: &dyn crate::clock::Clock) -> Result<Received<M>, String> {
    let envelope: Envelope =
        serde_json::from_slice(body).map_err(|error| format!("the body is no push envelope: {error}"))?;
    let message = envelope.message;
    let id = message.message_id;
    let data = BASE64.decode(&message.data).map_err(|error| format!("message {id} is not base64: {error}"))?;
    if let Some(form) = message.attributes.get(FORM)
        && form.parse::<u32>().map_or(true, |form| form > FORM_VERSION)
    {
        return Err(format!("message {id} has the form '{form}', and this program reads forms up to {FORM_VERSION}"));
    }
    let body = serde_json::from_slice(&data)
        .map_err(|error| format!("message {id} is no message for {}: {error}", M::TOPIC))?;
    let trace = message.attributes.get(TRACEPARENT).and_then(|text| text.parse::<Trace>().ok());
    let trace = trace.unwrap_or_else(|| Trace::start(clock)).child(clock);
    let attempt = envelope.delivery_attempt.unwrap_or(1);
    Ok(Received { body, id, published_at: message.publish_time, attempt, trace })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::System;
    use crate::dataset::Ask;
    use crate::message::FetchRequest;
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    struct Echo(Result<(), Failure>);

    #[async_trait]
    impl Function for Echo {
        type Input = FetchRequest;
        const NAME: &'static str = "echo";

        async fn handle(&self, _: Received<FetchRequest>) -> Result<(), Failure> {
            self.0.clone()
        }
    }

    async fn push(body: impl Into<Body>, result: Result<(), Failure>) -> (StatusCode, String) {
        let router = router(Echo(result), Arc::new(System));
        let response = router.oneshot(Request::post("/").body(body.into()).unwrap()).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn envelope() -> Envelope {
        let request = FetchRequest { dataset: "d".into(), ask: Ask::Tick { days: 30, sweep: false } };
        let parcel = Parcel::pack(&request, Trace { id: 1, span: 2 }).unwrap();
        Envelope::new("s", "m1".into(), Timestamp::default(), 1, &parcel)
    }

    #[tokio::test]
    async fn what_the_handler_says_becomes_a_status() {
        let body = serde_json::to_string(&envelope()).unwrap();
        let table = [
            (Ok(()), StatusCode::NO_CONTENT),
            (Err(Failure::Transient("x".into())), StatusCode::SERVICE_UNAVAILABLE),
            (Err(Failure::Unreachable("x".into())), StatusCode::SERVICE_UNAVAILABLE),
            (Err(Failure::Poison("x".into())), StatusCode::UNPROCESSABLE_ENTITY),
        ];
        for (result, status) in table {
            assert_eq!(push(body.clone(), result.clone()).await.0, status, "{result:?}");
        }
    }

    #[tokio::test]
    async fn a_malformed_push_is_400_with_one_sentence() {
        let mut not_base64 = envelope();
        not_base64.message.data = "%".into();
        let mut not_ours = envelope();
        not_ours.message.data = BASE64.encode("{\"dataset\":1}");
        let mut from_the_future = envelope();
        from_the_future.message.attributes.insert(FORM.into(), "2".into());
        let bodies = [
            String::new(),
            "[]".into(),
            "{\"message\":{}}".into(),
            "\u{0}".into(),
            serde_json::to_string(&not_base64).unwrap(),
            serde_json::to_string(&not_ours).unwrap(),
            serde_json::to_string(&from_the_future).unwrap(),
        ];
        for body in bodies {
            let (status, answer) = push(body.clone(), Ok(())).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
            let problem: Problem = serde_json::from_str(&answer).unwrap();
            assert!(!problem.error.contains('\n') && problem.error.len() < 300, "{answer}");
        }
        let huge = vec![b'x'; LARGEST_BODY + 1];
        assert_eq!(push(huge, Ok(())).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    }
}
