//! Seeks a subscription back in time, so that Pub/Sub delivers again what was published since.
//!
//! Pub/Sub takes all messages before the time for acknowledged and all after it for not, as far back as the subscription
//! retains acknowledged messages (`retain_acked_messages`). Delivered again, a message changes nothing that it has done.

use std::time::SystemTime;

use google_cloud_auth::credentials::anonymous;
use google_cloud_gax::options::RequestOptionsBuilder;
use google_cloud_gax::retry_policy::RetryPolicyExt;
use google_cloud_pubsub::client::SubscriptionAdmin;
use google_cloud_pubsub::model::seek_request::Target;
use google_cloud_pubsub::retry_policy::RetryableErrors;
use shared::clock::Timestamp;
use shared::retry::Backoff;

use crate::config::Environment;
use crate::refusal::{Refusal, sentence};
use crate::{ConnectError, PATIENCE, backoff, choose_cryptography};

/// Why a subscription was not sought.
#[derive(Debug, thiserror::Error)]
pub enum SeekError {
    /// There is no client for it.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Terraform has not made it.
    #[error("there is no {0} (terraform makes it: google_pubsub_subscription)")]
    Missing(String),
    /// Pub/Sub did not do it.
    #[error("{subscription} could not be sought: {reason}")]
    Failed {
        /// The subscription.
        subscription: String,
        /// What Pub/Sub said.
        reason: String,
    },
}

/// Seeks the environment's subscription of a service, such as `land`, to a time of publication. Seeking twice is seeking
/// once.
///
/// # Errors
/// When there is no such subscription, or Pub/Sub refuses.
pub async fn seek(environment: &Environment, service: &str, to: Timestamp, retries: Backoff) -> Result<(), SeekError> {
    choose_cryptography();
    let policy = RetryableErrors.with_attempt_limit(retries.attempts).with_time_limit(PATIENCE);
    let mut client = SubscriptionAdmin::builder().with_retry_policy(policy).with_backoff_policy(backoff(retries));
    if let Some(emulator) = &environment.emulators.pubsub {
        client = client.with_endpoint(emulator.as_str()).with_credentials(anonymous::Builder::new().build());
    }
    let client = client.build().await;
    let client = client.map_err(|error| ConnectError { service: "pub/sub", reason: sentence(&error) })?;
    let subscription = environment.subscription(service);
    let failed = |reason| SeekError::Failed { subscription: subscription.clone(), reason };
    let time = SystemTime::from(to).try_into().map_err(|error| failed(sentence(&error)))?;
    let request = client.seek().set_subscription(&subscription).set_target(Target::Time(Box::new(time)));
    match request.with_idempotency(true).send().await {
        Ok(_) => Ok(()),
        Err(error) if Refusal::of(&error) == Refusal::Missing => Err(SeekError::Missing(subscription)),
        Err(error) => Err(failed(sentence(&error))),
    }
}
