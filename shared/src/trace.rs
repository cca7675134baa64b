//! One trace id from tick to gold, carried by messages as a W3C `traceparent`.

use std::fmt;
use std::str::FromStr;

use crate::clock::Clock;

/// The attribute that carries the trace.
pub const TRACEPARENT: &str = "traceparent";

/// A trace and the span in it that caused what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// The same from the tick to gold. Also the run's id in the ledger.
    pub id: u128,
    /// Of the sender.
    pub span: u64,
}

impl Trace {
    /// A new trace.
    pub fn start(clock: &dyn Clock) -> Self {
        Self { id: clock.random().max(1), span: low(clock.random()) }
    }

    /// The same trace with a span of its own.
    #[must_use]
    pub fn child(self, clock: &dyn Clock) -> Self {
        Self { id: self.id, span: low(clock.random()) }
    }

    /// The run's id: the trace id in 32 hexadecimal digits.
    pub fn run(self) -> String {
        format!("{:032x}", self.id)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "half of the random bits are enough for a span")]
fn low(random: u128) -> u64 {
    (random as u64).max(1)
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-01", self.id, self.span)
    }
}

/// The text is no `traceparent`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no traceparent")]
pub struct NotATrace(String);

impl FromStr for Trace {
    type Err = NotATrace;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hex = |part: Option<&str>, digits: usize| {
            part.filter(|part| part.len() == digits && part.bytes().all(|digit| digit.is_ascii_hexdigit()))
                .and_then(|part| u128::from_str_radix(part, 16).ok())
                .filter(|&number| number != 0)
        };
        let mut parts = text.split('-');
        let version = parts.next();
        let (id, span) = (hex(parts.next(), 32), hex(parts.next(), 16));
        match (version, id, span.and_then(|span| u64::try_from(span).ok())) {
            (Some("00"), Some(id), Some(span)) => Ok(Self { id, span }),
            _ => Err(NotATrace(text.chars().take(80).collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_survives_the_way_through_a_message() {
        let trace = Trace { id: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, span: 0xb7ad_6b71_6920_3331 };
        assert_eq!(trace.to_string(), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        assert_eq!(trace.to_string().parse(), Ok(trace));
        for text in ["", "00-0-0-0", "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"] {
            assert!(text.parse::<Trace>().is_err(), "{text}");
        }
    }
}
