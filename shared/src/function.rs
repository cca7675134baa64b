//! The runtime around a service: one typed handler, and everything that a push delivery needs before and after it.
//!
//! A service implements [`Function`] and is mounted with [`router`], or with [`router_with`] where others can reach it.
//! The runtime admits the request, reads the push envelope, carries the trace on, ends the work in time, and turns what
//! the handler says into an HTTP status in one place, [`Failure::status`]: any 2xx acknowledges, 503 and 429 are sent
//! again with backoff, other 4xx can never succeed and end as dead letters.

mod admission;
mod envelope;
mod failure;
mod mount;
mod serve;

use async_trait::async_trait;

pub use admission::{Admission, NotAdmitted};
pub use envelope::{Envelope, PushedMessage};
pub use failure::{Failure, FailureKind, Problem};
pub use mount::{LARGEST_BODY, Terms, router, router_with};
pub use serve::{Grace, serve};

use crate::clock::Timestamp;
use crate::message::Message;
use crate::trace::Trace;

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
