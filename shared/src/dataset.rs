//! The plug-in that a dataset is: what to ask its source, how to read the answer, and what its table looks like.
//!
//! A dataset is a value of this trait in one file of [`crate::datasets`], and a folder of models. Everything here is
//! pure: it plans and judges, and the services do the asking, storing and writing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::csv::{Record, Unreadable};
use crate::form::Form;
use crate::table::{TableSpec, Value};

/// What a source is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Ask {
    /// What is new since the cursor; without a cursor, the last `days` days.
    Tick {
        /// How many days of history a first run takes.
        days: u32,
        /// The daily re-read instead of the usual tick.
        #[serde(default)]
        sweep: bool,
    },
    /// All rows whose own time (an event's origin time) lies in the range.
    Range {
        /// Inclusive.
        start: Timestamp,
        /// Inclusive, in whole seconds: neighbouring ranges share their boundary second.
        end: Timestamp,
    },
    /// All rows that the source changed since a time and whose own time lies in the range: a part of a tick.
    Updates {
        /// Inclusive.
        since: Timestamp,
        /// Inclusive.
        start: Timestamp,
        /// Inclusive; `None` is without end.
        end: Option<Timestamp>,
    },
    /// What the source itself lists as recent: a part of a sweep.
    Recent,
}

/// How far a source has been read. Times are the source's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Everything that the source had published by then is durable with us.
    pub watermark: Timestamp,
    /// The rows of the last answer that the next one is expected to repeat.
    #[serde(default)]
    pub seen: Vec<Fingerprint>,
}

/// A row of an answer, as far as telling whether it was seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fingerprint {
    /// When the source last changed it; `None` when the row does not say.
    pub changed_at: Option<Timestamp>,
    /// XXH3-64 of its fields.
    pub hash: i64,
}

/// One request to a source, relative to its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Starts with `/`.
    pub path: String,
    /// In the order in which they are sent.
    pub parameters: Vec<(String, String)>,
}

/// One request of several that belong together, and the form that its answer has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The request.
    pub query: Query,
    /// Its answer's form.
    pub form: &'static Form,
}

/// What an ask turns into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// The source's time is needed first: send [`Source::clock`] and plan again with the time of its answer.
    NeedsClock,
    /// Send these asks as messages of their own, then, with a time, commit it as the cursor.
    Split(Vec<Ask>, Option<Timestamp>),
    /// Send these requests, one after another; their answers are one capture, or none.
    Query {
        /// The requests.
        questions: Vec<Question>,
        /// What asks for the same again, whatever the cursor is by then.
        again: Ask,
    },
}

/// What to make of an answer that is not 200.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Ask for these smaller parts instead.
    Split(Vec<Ask>),
    /// Ask again after at least this long.
    Later(Duration),
    /// Asking again cannot help.
    Never,
}

/// An answer that is not 200.
#[derive(Debug, Clone, Copy)]
pub struct Refused<'a> {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// The start of its body.
    pub body: &'a str,
}

/// How to ask a source. All of it is pure.
pub trait Source: Send + Sync {
    /// The address, without a closing `/`, unless `environment` names another.
    fn default_address(&self) -> &str;

    /// The environment variable that may name another address.
    fn address_variable(&self) -> &str;

    /// At least this long between two requests.
    fn spacing(&self) -> Duration;

    /// An answer of more bytes than this, unpacked, has no end that is worth waiting for.
    fn largest_answer(&self) -> u64;

    /// The cheapest request whose answer tells the source's time. `ours` is this machine's time.
    fn clock(&self, ours: Timestamp) -> Query;

    /// What to do for an ask. `now` is the source's time when it is known.
    fn plan(&self, ask: &Ask, cursor: Option<&Cursor>, now: Option<Timestamp>) -> Plan;

    /// What to do after an answer that is not 200; a time-out counts as 504. `cursor` is what the ask was planned with,
    /// and `attempt` counts the deliveries of the message, from 1.
    fn refused(&self, ask: &Ask, cursor: Option<&Cursor>, attempt: u32, answer: &Refused<'_>) -> Refusal;

    /// When the source made this answer, by its own clock.
    fn observed_at(&self, headers: &HeaderMap) -> Option<Timestamp>;

    /// How far back of a cursor's watermark the next answer reaches, so which rows it may repeat.
    fn overlap(&self) -> Duration;
}

/// Two ways to the same number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Census {
    /// Asks the source; its answer is JSON with a `count`.
    pub query: Query,
    /// Asks the warehouse, in BigQuery SQL; its answer is one whole number.
    pub sql: String,
}

/// What an answer of details adds to a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Details {
    /// The row's key.
    pub key: String,
    /// The values of the columns that [`Role::Details`](crate::form::Role) names.
    pub values: Vec<Value>,
    /// XXH3-64 of these as they came.
    pub hash: i64,
}

/// A dataset.
pub trait Dataset: Send + Sync {
    /// Lower-case letters, digits and `_`.
    fn name(&self) -> &'static str;

    /// What its captures become.
    fn table(&self) -> &TableSpec;

    /// The forms of its source's answers. The first is that of a file that a person may bring.
    fn forms(&self) -> &'static [Form];

    /// The form of that name.
    fn form(&self, name: &str) -> Option<&'static Form> {
        self.forms().iter().find(|form| form.name == name)
    }

    /// How to ask its source.
    fn source(&self) -> &dyn Source;

    /// Reads one record of an answer of rows into the values of [`TableSpec::columns`], pushed onto `values`, which is
    /// empty. Columns that only details have are null.
    ///
    /// # Errors
    /// [`Unreadable`] says which column and why; the row then goes to quarantine.
    fn read(&self, form: &Form, record: &Record<'_>, values: &mut Vec<Value>) -> Result<(), Unreadable>;

    /// Reads one record of an answer of details.
    ///
    /// # Errors
    /// [`Unreadable`] says which column and why; the row then stands without its details.
    fn details(&self, form: &Form, _: &Record<'_>) -> Result<Details, Unreadable> {
        Err(Unreadable::new(form.name, "the dataset does not read it"))
    }

    /// How to compare what the source counts in a range of its rows' own time with what gold holds; both ends count.
    fn census(&self, _start: Timestamp, _end: Timestamp) -> Option<Census> {
        None
    }

    /// How to find out when the source published what, of rows whose own time is `since` or later: in BigQuery SQL, with
    /// a row for each thing, and its own time, when the source published the first version of it that was seen, when
    /// that was first observed, and by which capture.
    fn publications(&self, _since: Timestamp) -> Option<String> {
        None
    }

    /// When the source last changed what this record is of, where it says so.
    fn changed_at(&self, form: &Form, record: &Record<'_>) -> Option<Timestamp>;
}

/// A dataset by its name is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown dataset '{name}': there {}", match known.as_slice() {
    [one] => format!("is only {one}"),
    many => format!("are {}", many.join(", ")),
})]
pub struct UnknownDataset {
    /// What was asked for.
    pub name: String,
    /// What there is.
    pub known: Vec<String>,
}

/// The datasets of a program.
#[derive(Clone, Default)]
pub struct Registry {
    by_name: BTreeMap<&'static str, Arc<dyn Dataset>>,
}

impl Registry {
    /// A registry of these.
    pub fn new(datasets: impl IntoIterator<Item = Arc<dyn Dataset>>) -> Self {
        Self { by_name: datasets.into_iter().map(|dataset| (dataset.name(), dataset)).collect() }
    }

    /// The dataset of that name.
    pub fn get(&self, name: &str) -> Result<&Arc<dyn Dataset>, UnknownDataset> {
        self.by_name.get(name).ok_or_else(|| UnknownDataset {
            name: name.to_owned(),
            known: self.by_name.keys().map(|&name| name.to_owned()).collect(),
        })
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Dataset>> {
        self.by_name.values()
    }
}
