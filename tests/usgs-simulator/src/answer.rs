//! Answering a request: a pure function of the catalogue, the settings, the address asked for and the simulated now.
//!
//! Invariant: an answer holds nothing that is not visible now, and its times are simulated ones.

use std::time::Duration;

use axum::{extract::Query, http::Uri};
use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::{
    catalogue::{Catalogue, Kind, Version},
    feed,
    geojson::{self, Links, Metadata},
    question::{Deleted, Format, Question, Refusal, whole_second},
    row::{Column, HEADER},
};

/// Where the real service lives: its answers name it.
pub(crate) const HOST: &str = "https://earthquake.usgs.gov";
pub(crate) const SERVICE: &str = "/fdsnws/event/1";

const DELETED: &str = "The requested event has been deleted. To see information for deleted events, perform a search \
                       and use the \"includedeleted\" option.";
const TEXT_HEADER: &str = "#EventID|Time|Latitude|Longitude|Depth/km|Author|Catalog|Contributor|ContributorID|MagType|\
                           Magnitude|MagAuthor|EventLocationName\n";

/// What stays the same from answer to answer.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Most events of one answer.
    pub(crate) limit: usize,
    /// The version that the service says it is.
    pub(crate) version: String,
    /// Longest span of `includedeleted=true` that does not time out.
    pub(crate) deleted_span: Option<Duration>,
}

/// A complete answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) body: Bytes,
    pub(crate) retry_after: Option<String>,
    /// When it was made, in simulated milliseconds of a whole second.
    pub(crate) made: i64,
}

pub(crate) const CSV: &str = "text/csv;charset=utf-8";
pub(crate) const JSON: &str = "application/json;charset=utf-8";
pub(crate) const PLAIN: &str = "text/plain";
pub(crate) const HTML: &str = "text/html";
const XML: &str = "application/xml";

impl Answer {
    pub(crate) fn new(status: u16, content_type: &'static str, body: impl Into<Bytes>, now: i64) -> Self {
        Self { status, content_type, body: body.into(), retry_after: None, made: whole_second(now) }
    }
}

/// One request for an answer.
pub(crate) struct Request<'a> {
    pub(crate) catalogue: &'a Catalogue,
    pub(crate) settings: &'a Settings,
    /// Path and query, as sent.
    pub(crate) target: &'a str,
    /// Simulated milliseconds since 1970.
    pub(crate) now: i64,
}

impl Request<'_> {
    pub(crate) fn answer(&self) -> Answer {
        let path = self.target.split('?').next().unwrap_or_default();
        if let Some(feed) = path.strip_prefix(feed::PATH) {
            return feed::answer(self, feed);
        }
        let answered = match path.strip_prefix(SERVICE) {
            Some("/query") => self.question().and_then(|asked| self.query(&asked)),
            Some("/count") => self.question().and_then(|asked| self.count(&asked)),
            Some("/version") => Ok(self.say(200, PLAIN, self.settings.version.clone())),
            _ => Err(Refusal { status: 404, message: "Not Found".into() }),
        };
        answered.unwrap_or_else(|refusal| self.refuse(refusal.status, &refusal.message))
    }

    pub(crate) fn say(&self, status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
        Answer::new(status, content_type, body, self.now)
    }

    /// An error in the service's layout; a time-out is told by the server before it, in HTML.
    pub(crate) fn refuse(&self, status: u16, message: &str) -> Answer {
        if status == 504 {
            return self.say(status, HTML, GATEWAY_TIMEOUT);
        }
        self.say(status, PLAIN, error_text(status, message, self.target, &self.settings.version, self.now))
    }

    fn question(&self) -> Result<Question, Refusal> {
        let bad = |_| Refusal { status: 400, message: "the query string cannot be read".into() };
        let uri = self.target.parse::<Uri>().map_err(|_| Refusal { status: 400, message: "bad address".into() })?;
        let Query(parameters) = Query::<Vec<(String, String)>>::try_from_uri(&uri).map_err(bad)?;
        let asked = Question::parse(&parameters, self.now, self.settings.limit)?;
        if asked.times_out(self.now, self.settings.deleted_span) {
            return Err(Refusal { status: 504, message: String::new() });
        }
        Ok(asked)
    }

    fn query(&self, asked: &Question) -> Result<Answer, Refusal> {
        let found = self.catalogue.select(asked, self.now);
        if found.is_empty()
            && let Some(id) = &asked.event_id
        {
            let known = self.catalogue.known_as(id, self.now);
            if asked.deleted == Deleted::No && known.is_some_and(|version| version.kind == Kind::Deleted) {
                return Err(Refusal { status: 409, message: DELETED.into() });
            }
            if matches!(asked.format, Format::GeoJson | Format::Kml) {
                return Err(Refusal { status: 404, message: "Not Found".into() });
            }
        }
        if found.len() > self.settings.limit {
            return Err(Refusal { status: 400, message: too_many(found.len(), self.settings.limit) });
        }
        match asked.format {
            Format::QuakeMl | Format::Xml if found.is_empty() => Ok(self.say(204, PLAIN, "")),
            Format::QuakeMl | Format::Xml | Format::Kml => {
                Err(Refusal { status: 400, message: "only the formats csv, geojson and text are simulated".into() })
            }
            Format::GeoJson if asked.event_id.is_some() => Ok(self.detail(&found)),
            _ => Ok(self.summary(asked, &found, "USGS Earthquakes", Links::Service)),
        }
    }

    /// The versions in the format asked for.
    pub(crate) fn summary(&self, asked: &Question, found: &[&Version], title: &str, links: Links) -> Answer {
        match asked.format {
            Format::Csv => self.say(200, CSV, csv(found)),
            Format::Text => self.say(200, PLAIN, text(found)),
            _ => {
                let metadata = Metadata {
                    generated: whole_second(self.now),
                    target: self.target,
                    title,
                    version: &self.settings.version,
                    page: asked.limit.map(|limit| (limit, asked.offset)),
                };
                self.say(200, JSON, geojson::collection(self.catalogue, found, &metadata, links, self.now))
            }
        }
    }

    fn detail(&self, found: &[&Version]) -> Answer {
        let mut body = String::new();
        for version in found {
            geojson::feature(&mut body, self.catalogue, version, Links::Detail, self.now);
        }
        self.say(200, JSON, body)
    }

    fn count(&self, asked: &Question) -> Result<Answer, Refusal> {
        let (count, limit) = (self.catalogue.select(asked, self.now).len(), self.settings.limit);
        let error = (count > limit).then(|| {
            format!(
                "{count} matching events exceeds search limit of {limit}. A query using these search parameters would \
                 fail. Modify the search to match fewer events."
            )
        });
        Ok(match asked.format {
            Format::GeoJson => {
                let error = error.map(|error| format!(",\"error\":\"{error}\"")).unwrap_or_default();
                self.say(200, JSON, format!("{{\"count\":{count},\"maxAllowed\":{limit}{error}}}"))
            }
            Format::Xml => {
                let error = error.map(|error| format!("<error>{error}</error>")).unwrap_or_default();
                let body = format!("<query><count>{count}</count><maxAllowed>{limit}</maxAllowed>{error}</query>");
                self.say(200, XML, body)
            }
            _ => self.say(200, PLAIN, count.to_string()),
        })
    }
}

pub(crate) fn too_many(count: usize, limit: usize) -> String {
    format!("{count} matching events exceeds search limit of {limit}. Modify the search to match fewer events.")
}

/// Body of a 504: the server before the service has waited long enough.
pub(crate) const GATEWAY_TIMEOUT: &str = "<html>\r\n<head><title>504 Gateway Time-out</title></head>\r\n<body>\r\n\
                                          <center><h1>504 Gateway Time-out</h1></center>\r\n</body>\r\n</html>\r\n";

/// The layout of the service's errors; it ends without a newline.
pub(crate) fn error_text(status: u16, message: &str, target: &str, version: &str, now: i64) -> String {
    let reason = match status {
        204 => "No Data",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        429 => "Too Many Requests",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    };
    let submitted = DateTime::<Utc>::from_timestamp_millis(whole_second(now)).unwrap_or_default();
    format!(
        "Error {status}: {reason}\n\n{message}\n\nUsage details are available from {HOST}{SERVICE}\n\nRequest:\n\
         {target}\n\nRequest Submitted:\n{}\n\nService version:\n{version}",
        submitted.format("%Y-%m-%dT%H:%M:%S+00:00")
    )
}

fn csv(found: &[&Version]) -> String {
    let size: usize = found.iter().map(|version| version.text.as_str().len() + 1).sum();
    let mut body = String::with_capacity(HEADER.len() + 1 + size);
    body.push_str(HEADER);
    body.push('\n');
    for version in found {
        body.push_str(version.text.as_str());
        body.push('\n');
    }
    body
}

fn text(found: &[&Version]) -> String {
    let mut body = TEXT_HEADER.to_owned();
    for version in found {
        let fields = version.fields();
        let value = |column| fields.value(column);
        let line = [
            value(Column::Id),
            value(Column::Time).trim_end_matches('Z').to_owned().into(),
            value(Column::Latitude),
            value(Column::Longitude),
            value(Column::Depth),
            value(Column::LocationSource),
            value(Column::Net),
            value(Column::Net),
            value(Column::Id),
            value(Column::MagType),
            value(Column::Mag),
            value(Column::MagSource),
            value(Column::Place),
        ];
        body.push_str(&line.join("|"));
        body.push('\n');
    }
    body
}
