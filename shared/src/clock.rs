//! Time and identity come in as arguments, so that a test can say what they are.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};

/// An instant, UTC.
pub type Timestamp = DateTime<Utc>;

/// Where the time and fresh identifiers come from.
pub trait Clock: Send + Sync + 'static {
    /// Now, as this machine has it. Never compared with a source's time.
    fn now(&self) -> Timestamp;

    /// 128 fresh random bits.
    fn random(&self) -> u128;
}

/// The machine's own clock and randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Clock for System {
    fn now(&self) -> Timestamp {
        Utc::now()
    }

    fn random(&self) -> u128 {
        rand::random()
    }
}

/// A shared clock.
pub type SharedClock = Arc<dyn Clock>;

impl fmt::Debug for dyn Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
