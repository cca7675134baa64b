//! The bus: a [`Bus`] on topics of Pub/Sub.
//!
//! Invariant: a message is durable when [`Bus::send`] returns its id. Delivery is Pub/Sub's: by push subscriptions, to
//! the routers of the services.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use google_cloud_auth::credentials::anonymous;
use google_cloud_gax::retry_policy::RetryPolicyExt;
use google_cloud_pubsub::client::{BasePublisher, Publisher};
use google_cloud_pubsub::error::PublishError;
use google_cloud_pubsub::model::Message;
use google_cloud_pubsub::retry_policy::RetryableErrors;
use shared::bus::{Bus, BusError};
use shared::message::{Parcel, Topic};
use shared::retry::Backoff;

use crate::config::{Emulators, Topics};
use crate::refusal::{Refusal, sentence};
use crate::{ConnectError, PATIENCE, backoff, choose_cryptography};

/// How long a message waits for others to be published with.
const GATHER: Duration = Duration::from_millis(2);

/// The topics of an environment.
pub struct PubSub {
    topics: Topics,
    publishers: BTreeMap<Topic, Publisher>,
}

impl PubSub {
    /// Makes the client; no request is made yet.
    ///
    /// # Errors
    /// When there are no credentials.
    pub async fn connect(topics: Topics, emulators: &Emulators, retries: Backoff) -> Result<Self, ConnectError> {
        choose_cryptography();
        let policy = RetryableErrors.with_attempt_limit(retries.attempts).with_time_limit(PATIENCE);
        let mut client = BasePublisher::builder().with_retry_policy(policy).with_backoff_policy(backoff(retries));
        if let Some(emulator) = &emulators.pubsub {
            let anonymous = anonymous::Builder::new().build();
            client = client.with_endpoint(emulator.as_str()).with_credentials(anonymous);
        }
        let failed = |error: &dyn std::error::Error| ConnectError { service: "pub/sub", reason: sentence(error) };
        let client = client.build().await.map_err(|error| failed(&error))?;
        let publisher = |topic| client.publisher(topics.path(topic)).set_delay_threshold(GATHER).build();
        let publishers = Topic::ALL.into_iter().map(|topic| (topic, publisher(topic))).collect();
        Ok(Self { topics, publishers })
    }

    fn why(&self, topic: Topic, error: &PublishError) -> String {
        match error {
            PublishError::Rpc(error) if Refusal::of(error) == Refusal::Missing => {
                format!("there is no {} (terraform makes it: google_pubsub_topic)", self.topics.path(topic))
            }
            error => sentence(error),
        }
    }
}

#[async_trait]
impl Bus for PubSub {
    async fn send(&self, topic: Topic, parcel: Parcel) -> Result<String, BusError> {
        let failed = |reason: String| BusError { topic, reason, blocked: false };
        let publisher = self.publishers.get(&topic).ok_or_else(|| failed("it has no publisher".to_owned()))?;
        let message = Message::new().set_data(parcel.data).set_attributes(parcel.attributes);
        match tokio::time::timeout(PATIENCE, publisher.publish(message)).await {
            Ok(published) => published.map_err(|error| BusError {
                topic,
                reason: self.why(topic, &error),
                blocked: must_be_mended(&error),
            }),
            Err(_) => Err(failed(format!("no answer within {} s", PATIENCE.as_secs()))),
        }
    }
}

/// Whether there is no topic, or no leave to publish to it.
fn must_be_mended(error: &PublishError) -> bool {
    matches!(error, PublishError::Rpc(error) if matches!(Refusal::of(error), Refusal::Missing | Refusal::Forbidden))
}
