//! The simulated clock: fixed until it is set, or running from an instant.

use std::time::{Duration, Instant};

use chrono::{DateTime, DurationRound, TimeDelta, Utc};

/// Where the simulated time begins and whether it runs.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    base: DateTime<Utc>,
    /// When it began to run.
    since: Option<Instant>,
}

impl Clock {
    /// A clock that stands still until it is set.
    pub fn fixed(now: DateTime<Utc>) -> Self {
        Self { base: now, since: None }
    }

    /// A clock that runs in real time from `start`.
    pub fn running_from(start: DateTime<Utc>) -> Self {
        Self { base: start, since: Some(Instant::now()) }
    }

    /// The simulated time.
    pub fn now(&self) -> DateTime<Utc> {
        self.base + self.since.map(|since| since.elapsed()).unwrap_or_default()
    }

    /// Sets the time; a running clock runs on from it.
    pub(crate) fn set(&mut self, now: DateTime<Utc>) {
        *self = if self.since.is_some() { Self::running_from(now) } else { Self::fixed(now) };
    }

    pub(crate) fn advance(&mut self, by: Duration) {
        self.base += by;
    }
}

/// The next whole minute, or the time itself when it is one.
pub(crate) fn minute_after(time: DateTime<Utc>) -> DateTime<Utc> {
    let minute = time.duration_trunc(TimeDelta::minutes(1)).unwrap_or(time);
    if minute < time { minute + TimeDelta::minutes(1) } else { minute }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_round_up() {
        let minute: DateTime<Utc> = "2025-07-23T15:13:00Z".parse().unwrap();
        assert_eq!(minute_after("2025-07-23T15:12:39.172Z".parse().unwrap()), minute);
        assert_eq!(minute_after(minute), minute);
    }

    #[test]
    fn a_fixed_clock_stands_and_a_running_one_does_not() {
        let start = "2025-07-23T15:13:00Z".parse().unwrap();
        let mut fixed = Clock::fixed(start);
        fixed.advance(Duration::from_secs(60));
        assert_eq!(fixed.now(), fixed.now());
        assert_eq!(fixed.now() - start, TimeDelta::minutes(1));
        let running = Clock::running_from(start);
        let first = running.now();
        while running.now() == first {}
        assert!(running.now() > first);
    }
}
