//! The ports on Google Cloud: the lake in Cloud Storage, the bus on Pub/Sub, the warehouse in BigQuery; and what a
//! service needs to run there.
//!
//! Each port stands for one resource that Terraform makes, and makes none itself. What it is asked is tried a limited
//! number of times, [`RETRIES`], and never waited for longer than [`PATIENCE`]; then the error says whether it may
//! succeed later.
//!
//! # What was tested
//! The suites of the ports run on emulators, see `tests/emulators`: Google's own for Pub/Sub, community ones for Cloud
//! Storage and BigQuery, with what they lack added there. So these are not shown before a first real deploy:
//! - credentials, TLS and IAM: emulators ask for none of them;
//! - what Cloud Storage answers when a precondition fails in a resumable upload, when a deleted object is deleted under
//!   a precondition, when a session has expired, and when an object is written more than once a second (429);
//! - the texts by which a bucket that does not exist is told from an object that does not, and those of BigQuery's errors;
//! - how BigQuery prunes partitions, and what it allows to happen to a table at once;
//! - the attempt count in pushes, ordering of retries and dead letters;
//! - whether Cloud Run leaves the signature on the tokens of pushes: where it does not, [`token`] refuses them all.

pub mod bigquery;
pub mod bucket;
pub mod config;
mod crypto;
pub mod logs;
pub mod pubsub;
mod refusal;
mod seek;
pub mod service;
pub mod token;
mod upload;

use std::time::Duration;

use google_cloud_gax::exponential_backoff::{ExponentialBackoff, ExponentialBackoffBuilder};
use shared::retry::Backoff;

pub use bigquery::BigQuery;
pub use bucket::Bucket;
pub use pubsub::PubSub;
pub use seek::{SeekError, seek};

/// How often a request to Google is made before its failure is told.
pub const RETRIES: Backoff =
    Backoff { first: Duration::from_millis(500), longest: Duration::from_secs(16), attempts: 6 };

/// The longest that one step (to open, to send or receive a chunk, to finish) may take with all its attempts. It is
/// well below the 600 s after which a push is delivered again.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A client of Google's could not be made.
#[derive(Debug, thiserror::Error)]
#[error("no client for {service}: {reason}")]
pub struct ConnectError {
    /// `cloud storage`, `pub/sub` or `bigquery`.
    pub service: &'static str,
    /// What is wrong: most often the credentials.
    pub reason: String,
}

fn backoff(policy: Backoff) -> ExponentialBackoff {
    ExponentialBackoffBuilder::new().with_initial_delay(policy.first).with_maximum_delay(policy.longest).clamp()
}

/// Google's clients leave the choice of cryptography to the program.
fn choose_cryptography() {
    // Where another was chosen before, it stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
