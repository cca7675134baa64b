//! How long to wait between attempts: one policy, said once.

use std::time::Duration;

use crate::clock::Clock;

/// Exponential backoff with jitter and a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Before the second attempt.
    pub first: Duration,
    /// Never longer than this.
    pub longest: Duration,
    /// After so many attempts a message is given up.
    pub attempts: u32,
}

impl Backoff {
    /// Before the attempt that follows the `failed`-th failure (from 1): the first delay doubled each time, and up to
    /// a tenth of it more at random, so that many do not come back at once.
    pub fn delay(&self, failed: u32, clock: &dyn Clock) -> Duration {
        let doubled = self.first.saturating_mul(1_u32.checked_shl(failed.saturating_sub(1)).unwrap_or(u32::MAX));
        let base = doubled.min(self.longest);
        let jitter = u32::try_from(clock.random() % 1000).unwrap_or(0);
        base + base.mul_f64(f64::from(jitter) / 10_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::System;

    #[test]
    fn the_delay_doubles_up_to_its_limit() {
        let policy = Backoff { first: Duration::from_secs(10), longest: Duration::from_secs(60), attempts: 5 };
        for (failed, base) in [(1, 10), (2, 20), (3, 40), (4, 60), (200, 60)] {
            let delay = policy.delay(failed, &System).as_secs_f64();
            assert!(delay >= f64::from(base) && delay <= f64::from(base) * 1.1, "{failed}: {delay}");
        }
    }
}
