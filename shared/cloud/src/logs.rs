//! Logs as Cloud Logging reads them: one JSON object a line, with severity, trace, span and labels.
//!
//! `tracing-stackdriver` writes the lines. It spells names in camel case and knows no trace but OpenTelemetry's, so
//! each line is put right before it is written: the names of fields are as [`shared::metrics`] writes them, and what
//! the span of a message says becomes `logging.googleapis.com/trace`, `spanId` and `labels`.
//! See <https://cloud.google.com/logging/docs/structured-logging>.

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::Arc;

use serde_json::{Map, Value, json};
use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

const TRACE: &str = "logging.googleapis.com/trace";
const SPAN: &str = "logging.googleapis.com/spanId";
const LABELS: &str = "logging.googleapis.com/labels";
/// Fields of a message's span that its lines can be found by.
const LABELLED: [&str; 3] = ["service", "dataset", "message_id"];

/// Starts logging to standard error, for a service in `project`. `STRATA_LOG` sets the filter, `info` if not said.
///
/// # Errors
/// When the filter cannot be read, or logging was started before.
pub(crate) fn start(project: &str) -> Result<(), String> {
    let registry = tracing_subscriber::registry().with(shared::telemetry::filter("info")?);
    registry.with(layer(project, io::stderr)).try_init().map_err(|error| error.to_string())?;
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "the program has panicked")));
    Ok(())
}

/// Says why the program ends, also where logging was not started.
pub(crate) fn last_words(service: &str, error: &dyn Display) {
    let labels = json!({ "service": service });
    let line = json!({ "severity": "ERROR", "message": format!("{service}: {error}"), LABELS: labels });
    // There is nowhere left to say that standard error is closed.
    let _ = writeln!(io::stderr(), "{line}");
}

/// Writes events as lines for Cloud Logging.
pub fn layer<S, W>(project: &str, writer: W) -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    tracing_stackdriver::layer().with_writer(Lines { project: project.into(), inner: writer })
}

struct Lines<W> {
    project: Arc<str>,
    inner: W,
}

impl<'writer, W: MakeWriter<'writer>> MakeWriter<'writer> for Lines<W> {
    type Writer = Line<W::Writer>;

    fn make_writer(&'writer self) -> Self::Writer {
        Line { project: Arc::clone(&self.project), inner: self.inner.make_writer() }
    }
}

struct Line<W> {
    project: Arc<str>,
    inner: W,
}

impl<W: Write> Write for Line<W> {
    /// Gets a whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match serde_json::from_slice::<Map<String, Value>>(line) {
            Ok(entry) => {
                let mut right = serde_json::to_vec(&put_right(entry, &self.project))?;
                right.push(b'\n');
                self.inner.write_all(&right)?;
            }
            // What is no entry is still worth to be read.
            Err(_) => self.inner.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn put_right(entry: Map<String, Value>, project: &str) -> Map<String, Value> {
    let mut right: Map<String, Value> = entry.into_iter().map(|(name, value)| (own_spelling(name), value)).collect();
    let spans = right.get("spans").and_then(Value::as_array);
    let handling = spans.and_then(|spans| spans.iter().rev().find(|span| span["trace"].is_string())).cloned();
    let Some(handling) = handling else { return right };
    let text = |name: &str| handling[name].as_str();
    if let Some(trace) = text("trace") {
        right.insert(TRACE.into(), format!("projects/{project}/traces/{trace}").into());
    }
    if let Some(span) = text("span_id") {
        right.insert(SPAN.into(), span.into());
    }
    let labels: Map<_, _> = LABELLED.into_iter().filter_map(|it| Some((it.into(), text(it)?.into()))).collect();
    right.insert(LABELS.into(), labels.into());
    right
}

/// `bytesBilled` as `bytes_billed`; but not the names that are Google's.
fn own_spelling(name: String) -> String {
    if name == "httpRequest" || name.contains(['.', '/']) || !name.contains(|it: char| it.is_ascii_uppercase()) {
        return name;
    }
    let mut own = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            own.push('_');
        }
        own.push(letter.to_ascii_lowercase());
    }
    own
}
