//! Faults on demand: what the real service or the way to it has done wrong, scripted for the next requests.

use std::{str::FromStr, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    answer::{Answer, CSV, GATEWAY_TIMEOUT, HTML, PLAIN, error_text},
    requests::Recorded,
    row::{Column, Fields, HEADER},
};

const DATABASE_ERROR: &str = "SQLSTATE[08004] [1040] Too many connections";
const MAINTENANCE: &str = "<!DOCTYPE html>\n<html>\n<head><title>Maintenance</title></head>\n\
                           <body><h1>This page is temporarily unavailable</h1></body>\n</html>\n";

/// One thing that goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// An error: 503 with database text, 504 as HTML, 429 with or without Retry-After, any other in the layout of the
    /// service's errors.
    Status {
        /// HTTP status.
        status: u16,
        /// Value of the Retry-After header.
        retry_after: Option<String>,
    },
    /// A web page with status 200.
    HtmlWith200,
    /// The body ends after so many bytes, mid-row or not, and the connection closes as if it were whole.
    Truncated {
        /// Bytes (before compression) that are sent.
        bytes: usize,
    },
    /// The first half of the rows with status 200, then the text of an error.
    ErrorTextAppended,
    /// A CSV answer whose columns are not the agreed ones. Other answers stay as they are.
    WrongHeader(Column, HeaderFault),
    /// Rows (or features) without end, until the client leaves.
    EndlessBody,
    /// The body trickles.
    SlowBody {
        /// Bytes at a time.
        chunk: usize,
        /// Pause before each.
        delay: Duration,
    },
    /// The connection breaks within the body.
    ConnectionReset {
        /// Bytes that are sent before.
        after: usize,
    },
    /// These bytes with status 200 as `text/csv`.
    RawBody(Bytes),
    /// The request is taken and never answered.
    Stall,
}

/// What has happened to a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderFault {
    /// It is gone, from the header and from all rows.
    Missing,
    /// It has another name.
    Renamed(String),
}

impl Fault {
    /// An error status without a Retry-After.
    pub fn status(status: u16) -> Self {
        Self::Status { status, retry_after: None }
    }

    /// A 429, with a Retry-After (seconds or a date) if one is given.
    pub fn too_many_requests(retry_after: Option<&str>) -> Self {
        Self::Status { status: 429, retry_after: retry_after.map(str::to_owned) }
    }

    /// The same fault for `times` requests instead of one.
    pub fn times(self, times: usize) -> Rule {
        Rule { times, ..self.into() }
    }

    /// The same fault for the next request that matches.
    pub fn when(self, matching: impl Fn(&Recorded) -> bool + Send + Sync + 'static) -> Rule {
        Rule::from(self).when(matching)
    }
}

/// A predicate over requests.
type Matching = Arc<dyn Fn(&Recorded) -> bool + Send + Sync>;

/// A fault, for how many requests, and for which.
#[derive(Clone)]
pub struct Rule {
    fault: Fault,
    times: usize,
    matching: Option<Matching>,
}

impl From<Fault> for Rule {
    fn from(fault: Fault) -> Self {
        Self { fault, times: 1, matching: None }
    }
}

impl Rule {
    /// Only for requests that match.
    #[must_use]
    pub fn when(self, matching: impl Fn(&Recorded) -> bool + Send + Sync + 'static) -> Self {
        Self { matching: Some(Arc::new(matching)), ..self }
    }

    /// For this many requests.
    #[must_use]
    pub fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }
}

/// `NAME` or `NAME*TIMES`, where the name is a status (`503`) or one of `html`, `truncated`, `appended`, `endless`,
/// `slow`, `reset`, `stall`.
impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, times) = text.split_once('*').unwrap_or((text, "1"));
        let times = times.parse().map_err(|_| format!("{times:?} is not a number of times"))?;
        let fault = match name {
            "html" => Fault::HtmlWith200,
            "truncated" => Fault::Truncated { bytes: 1000 },
            "appended" => Fault::ErrorTextAppended,
            "endless" => Fault::EndlessBody,
            "slow" => Fault::SlowBody { chunk: 100, delay: Duration::from_secs(1) },
            "reset" => Fault::ConnectionReset { after: 1000 },
            "stall" => Fault::Stall,
            status => match status.parse() {
                Ok(status @ 400..=599) => Fault::status(status),
                _ => {
                    return Err(format!("{name:?} is neither an error status nor a known fault"));
                }
            },
        };
        Ok(fault.times(times))
    }
}

/// The faults that wait for their requests; the first that matches applies.
#[derive(Default)]
pub(crate) struct Script(Vec<Rule>);

impl Script {
    pub(crate) fn push(&mut self, rule: Rule) {
        self.0.push(rule);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Faults still to come.
    pub(crate) fn waiting(&self) -> usize {
        self.0.iter().map(|rule| rule.times).fold(0, usize::saturating_add)
    }

    pub(crate) fn take(&mut self, request: &Recorded) -> Option<Fault> {
        let applies = |rule: &Rule| rule.times > 0 && rule.matching.as_ref().is_none_or(|matching| matching(request));
        let at = self.0.iter().position(applies)?;
        let fault = self.0[at].fault.clone();
        self.0[at].times -= 1;
        self.0.retain(|rule| rule.times > 0);
        Some(fault)
    }
}

/// How an answer's body goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    Whole,
    Endless,
    Slow { chunk: usize, delay: Duration },
    Broken { after: usize },
    Never,
}

impl Fault {
    /// Spoils an answer. `target` is the address asked for.
    pub(crate) fn spoil(self, answer: Answer, target: &str, version: &str) -> (Answer, Delivery) {
        let replaced = |status, content_type, body: Bytes| Answer { status, content_type, body, ..answer.clone() };
        let error = |status: u16, message: &str| error_text(status, message, target, version, answer.made);
        let spoiled = match self {
            Self::EndlessBody => {
                return (replaced(200, answer.content_type, answer.body.clone()), Delivery::Endless);
            }
            Self::SlowBody { chunk, delay } => {
                return (answer, Delivery::Slow { chunk: chunk.max(1), delay });
            }
            Self::ConnectionReset { after } => return (answer, Delivery::Broken { after }),
            Self::Stall => return (answer, Delivery::Never),
            Self::Status { status: 504, .. } => replaced(504, HTML, GATEWAY_TIMEOUT.into()),
            Self::Status { status, retry_after } => {
                let message = match status {
                    503 => DATABASE_ERROR,
                    429 => "Too many requests",
                    _ => "Internal error",
                };
                Answer { retry_after, ..replaced(status, PLAIN, error(status, message).into()) }
            }
            Self::HtmlWith200 => replaced(200, HTML, MAINTENANCE.into()),
            Self::Truncated { bytes } => Answer { body: answer.body.slice(..bytes.min(answer.body.len())), ..answer },
            Self::ErrorTextAppended => {
                let half = &answer.body[..answer.body.len() / 2];
                let rows = half.iter().rposition(|&byte| byte == b'\n').map_or(answer.body.len(), |end| end + 1);
                let body = [&answer.body[..rows], error(503, DATABASE_ERROR).as_bytes()].concat();
                Answer { body: body.into(), ..answer }
            }
            Self::WrongHeader(column, fault) if answer.content_type == CSV => {
                Answer { body: fault.spoil(column, &answer.body), ..answer }
            }
            Self::WrongHeader(..) => answer,
            Self::RawBody(body) => replaced(200, CSV, body),
        };
        (spoiled, Delivery::Whole)
    }
}

impl HeaderFault {
    fn spoil(self, column: Column, body: &Bytes) -> Bytes {
        let text = String::from_utf8_lossy(body);
        match self {
            Self::Renamed(name) => {
                let names = Column::ALL.map(|known| if known == column { name.as_str() } else { known.name() });
                text.replacen(HEADER, &names.join(","), 1).into()
            }
            Self::Missing => {
                let kept = Column::ALL.into_iter().filter(|&known| known != column).collect::<Vec<_>>();
                let mut spoiled = String::with_capacity(text.len());
                for row in text.lines() {
                    // A CSV answer is made of rows that were split when they were read.
                    let fields = Fields::of(row).unwrap_or_default();
                    spoiled.push_str(&kept.iter().map(|&known| fields.raw(known)).collect::<Vec<_>>().join(","));
                    spoiled.push('\n');
                }
                spoiled.into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_from_the_command_line() {
        let rule: Rule = "503*2".parse().unwrap();
        assert!(matches!((rule.fault, rule.times), (Fault::Status { status: 503, .. }, 2)));
        assert!(matches!("stall".parse::<Rule>().unwrap(), Rule { fault: Fault::Stall, times: 1, .. }));
        for wrong in ["200", "flood", "503*x", ""] {
            assert!(wrong.parse::<Rule>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_missing_column_is_missing_everywhere() {
        let row = "t,1,2,3,4,ml,,,,,us,us1,u,\"a, b\",earthquake,,,,,automatic,us,us";
        let body = Bytes::from(format!("{HEADER}\n{row}\n"));
        let spoiled = HeaderFault::Missing.spoil(Column::Place, &body);
        let expected = format!("{}\n{}\n", HEADER.replace(",place", ""), row.replace(",\"a, b\"", ""));
        assert_eq!(spoiled, expected);
        let spoiled = HeaderFault::Renamed("magnitude".into()).spoil(Column::Mag, &body);
        assert_eq!(spoiled, format!("{}\n{row}\n", HEADER.replace(",mag,", ",magnitude,")));
    }
}
