//! The envelope that a message is pushed in.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use super::Received;
use crate::clock::{Clock, Timestamp};
use crate::message::{FORM, FORM_VERSION, Message, Parcel};
use crate::trace::{TRACEPARENT, Trace};

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

/// Reads a push body, or says in one sentence what is wrong with it.
pub(super) fn open<M: Message>(body: &[u8], clock: &dyn Clock) -> Result<Received<M>, String> {
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
