//! The `Bus` port: publish, at least once, in no order; and the delivery of real push envelopes to the services.

mod local;

use async_trait::async_trait;

use crate::message::{Message, Parcel, Topic};
use crate::trace::Trace;

pub use local::{DeadLetter, Event, Local, Subscription};

/// A publish that was not confirmed: the message may or may not be delivered, so the work that it ends is repeated.
#[derive(Debug, thiserror::Error)]
#[error("a message for {topic} could not be published: {reason}")]
pub struct BusError {
    /// Where it was to go.
    pub topic: Topic,
    /// What the bus said.
    pub reason: String,
    /// Whether somebody must first give leave, or make what is missing.
    pub blocked: bool,
}

/// Publishes messages.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Publishes a parcel; when it returns, the message is durable. Returns its id.
    async fn send(&self, topic: Topic, parcel: Parcel) -> Result<String, BusError>;
}

/// Publishes a message of the run that `trace` names.
///
/// # Errors
/// [`BusError`] when it was not confirmed.
pub async fn publish<M: Message>(bus: &dyn Bus, message: &M, trace: Trace) -> Result<String, BusError> {
    let parcel = Parcel::pack(message, trace).map_err(|error| BusError {
        topic: M::TOPIC,
        reason: error.to_string(),
        blocked: false,
    })?;
    bus.send(M::TOPIC, parcel).await
}
