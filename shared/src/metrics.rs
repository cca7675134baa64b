//! The names of what is measured in logs: a log-based metric or a query of the logs finds a number by them.
//!
//! Invariant: a name says its unit where it is not a count of what it names, is the same wherever it is logged, and is
//! none of the [`RESERVED`] names, which the formats of log lines write themselves.

/// Rows read from a source, landed from a capture, or written to a table.
pub const ROWS: &str = "rows";
/// Rows set aside because they cannot be read.
pub const ROWS_QUARANTINED: &str = "rows_quarantined";
/// Rows that were in memory at once, at most.
pub const ROWS_AT_ONCE: &str = "rows_at_once";
/// Partitions whose content changed.
pub const PARTITIONS_CHANGED: &str = "partitions_changed";
/// Rows for which a data test fails.
pub const ROWS_FAILING: &str = "rows_failing";
/// Smaller requests that a request was split into.
pub const PARTS: &str = "parts";
/// Seconds from the publication of a message until it was handled, with all its attempts and pauses.
pub const LATENESS_S: &str = "lateness_s";
/// Milliseconds that a message was in the service.
pub const DURATION_MS: &str = "duration_ms";
/// Which delivery of a message this was, from 1; more than 1 is a retry.
pub const ATTEMPT: &str = "attempt";
/// What became of a message: `done`, `transient`, `unreachable`, `blocked` or `poison`.
pub const OUTCOME: &str = "outcome";
/// Which try of one request to a service of Google's failed, from 1, and is made again.
pub const RETRY: &str = "retry";
/// `true` when a message cannot succeed as it is, and so will be a dead letter. It is said at each of its deliveries, so
/// count messages, not lines; what stays transient until it is given up never says it.
pub const DEAD_LETTER: &str = "dead_letter";
/// Bytes that BigQuery bills for a query.
pub const BYTES_BILLED: &str = "bytes_billed";
/// Milliseconds of a BigQuery slot that a job took.
pub const SLOT_MS: &str = "slot_ms";

/// All names of this module.
pub const ALL: [&str; 14] = [
    ROWS,
    ROWS_QUARANTINED,
    ROWS_AT_ONCE,
    PARTITIONS_CHANGED,
    ROWS_FAILING,
    PARTS,
    LATENESS_S,
    DURATION_MS,
    ATTEMPT,
    RETRY,
    OUTCOME,
    DEAD_LETTER,
    BYTES_BILLED,
    SLOT_MS,
];

/// What the formats of log lines write at the top of a line; a field of the same name would be lost or doubled.
pub const RESERVED: [&str; 9] =
    ["message", "severity", "level", "time", "timestamp", "target", "span", "spans", "httpRequest"];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_name_is_taken_twice_or_by_the_format() {
        let names: BTreeSet<_> = ALL.into_iter().collect();
        assert_eq!(names.len(), ALL.len());
        for name in names {
            assert!(!RESERVED.contains(&name), "{name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        }
    }
}
