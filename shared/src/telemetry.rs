//! Logs: one JSON object a line for machines, a short line for people on a terminal.

use std::io::{self, IsTerminal};

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

/// What is logged: what `STRATA_LOG` says, or `default`.
///
/// # Errors
/// When the filter cannot be read.
pub fn filter(default: &str) -> Result<EnvFilter, String> {
    match std::env::var("STRATA_LOG") {
        Ok(filter) => EnvFilter::try_new(&filter).map_err(|error| format!("STRATA_LOG '{filter}': {error}")),
        Err(_) => Ok(EnvFilter::new(default)),
    }
}

/// Starts logging to standard error. `STRATA_LOG` sets the filter (`info` if not said, or `default`).
///
/// # Errors
/// When the filter cannot be read, or logging was started before.
pub fn start(default: &str) -> Result<(), String> {
    let registry = tracing_subscriber::registry().with(filter(default)?);
    let started = if io::stderr().is_terminal() {
        registry.with(fmt::layer().with_writer(io::stderr).with_target(false).compact()).try_init()
    } else {
        registry.with(fmt::layer().json().flatten_event(true).with_span_list(false).with_writer(io::stderr)).try_init()
    };
    started.map_err(|error| error.to_string())
}
