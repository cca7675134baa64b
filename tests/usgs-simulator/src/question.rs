//! Reading the parameters of `/query` and `/count`, and refusing them as the service does.
//!
//! Invariant: a parameter is honoured, refused as unknown, or refused as not simulated; never ignored (but for
//! those that the service itself ignores). The rules and messages are those of the service's published source, v1.10.3.

use std::time::Duration;

use crate::row::parse_time;

const DAY: i64 = 86_400_000;
/// How far back the service looks when no `starttime` is given, in milliseconds.
const DEFAULT_AGE: i64 = 30 * DAY;
const VALUES_OF_FORMAT: [&str; 8] = ["quakeml", "geojson", "csv", "kml", "kmlraw", "xml", "text", "cap"];

/// Parameters that the service knows and the simulator does not.
const NOT_SIMULATED: [&str; 24] = [
    "minradiuskm",
    "maxradiuskm",
    "includeallorigins",
    "includeallmagnitudes",
    "includearrivals",
    "contributor",
    "callback",
    "minmmi",
    "maxmmi",
    "mincdi",
    "maxcdi",
    "minfelt",
    "alertlevel",
    "mingap",
    "maxgap",
    "minsig",
    "maxsig",
    "producttype",
    "productcode",
    "kmlcolorby",
    "kmlanimated",
    "includesuperseded",
    "jsonerror",
    "nodata",
];

/// A question that is answered with an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    fn bad(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Csv,
    GeoJson,
    Text,
    QuakeMl,
    Xml,
    Kml,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Time,
    TimeAscending,
    Magnitude,
    MagnitudeAscending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deleted {
    No,
    Included,
    Only,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Bounds {
    pub(crate) min: Option<f64>,
    pub(crate) max: Option<f64>,
}

impl Bounds {
    /// As in SQL, a missing value is within no bounds.
    pub(crate) fn hold(&self, value: f64) -> bool {
        self.min.is_none_or(|min| value >= min) && self.max.is_none_or(|max| value <= max)
    }
}

/// What is asked. Times are milliseconds since 1970, of whole seconds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Question {
    pub(crate) start: i64,
    pub(crate) end: Option<i64>,
    pub(crate) updated_after: Option<i64>,
    pub(crate) latitude: Bounds,
    pub(crate) longitude: Bounds,
    pub(crate) depth: Bounds,
    pub(crate) magnitude: Bounds,
    /// Latitude, longitude and the bounds of the distance, in degrees.
    pub(crate) circle: Option<(f64, f64, Bounds)>,
    pub(crate) magnitude_type: Option<String>,
    pub(crate) event_types: Vec<String>,
    pub(crate) review: Option<String>,
    pub(crate) catalog: Option<String>,
    pub(crate) event_id: Option<String>,
    pub(crate) limit: Option<usize>,
    pub(crate) offset: usize,
    pub(crate) order: Order,
    pub(crate) deleted: Deleted,
    pub(crate) format: Format,
}

impl Question {
    /// All events since `start`, newest first.
    pub(crate) fn since(start: i64, format: Format) -> Self {
        Self {
            start,
            end: None,
            updated_after: None,
            latitude: Bounds::default(),
            longitude: Bounds::default(),
            depth: Bounds::default(),
            magnitude: Bounds::default(),
            circle: None,
            magnitude_type: None,
            event_types: Vec::new(),
            review: None,
            catalog: None,
            event_id: None,
            limit: None,
            offset: 1,
            order: Order::Time,
            deleted: Deleted::No,
            format,
        }
    }

    /// Reads decoded parameters. `now` is in milliseconds; `max` is the search limit.
    pub(crate) fn parse(parameters: &[(String, String)], now: i64, max: usize) -> Result<Self, Refusal> {
        let mut asked = Self::since(whole_second(now) - DEFAULT_AGE, Format::QuakeMl);
        let (mut latitude, mut longitude, mut radius) = (None, None, Bounds::default());
        for (name, value) in parameters {
            // The service skips empty values before it looks at the name.
            if value.is_empty() {
                continue;
            }
            let float = |min: f64, max: f64| number(name, value, min, max).map(Some);
            match name.as_str() {
                "starttime" | "start" => asked.start = time(name, value)?,
                "endtime" | "end" => asked.end = Some(time(name, value)?),
                "updatedafter" => asked.updated_after = Some(time(name, value)?),
                "minlatitude" | "minlat" => asked.latitude.min = float(-90.0, 90.0)?,
                "maxlatitude" | "maxlat" => asked.latitude.max = float(-90.0, 90.0)?,
                "minlongitude" | "minlon" => asked.longitude.min = float(-360.0, 360.0)?,
                "maxlongitude" | "maxlon" => asked.longitude.max = float(-360.0, 360.0)?,
                "latitude" | "lat" => latitude = float(-90.0, 90.0)?,
                "longitude" | "lon" => longitude = float(-180.0, 180.0)?,
                "minradius" => radius.min = float(0.0, 180.0)?,
                "maxradius" => radius.max = float(0.0, 180.0)?,
                "mindepth" => asked.depth.min = float(f64::NEG_INFINITY, f64::INFINITY)?,
                "maxdepth" => asked.depth.max = float(f64::NEG_INFINITY, f64::INFINITY)?,
                "minmagnitude" | "minmag" => asked.magnitude.min = float(f64::NEG_INFINITY, f64::INFINITY)?,
                "maxmagnitude" | "maxmag" => asked.magnitude.max = float(f64::NEG_INFINITY, f64::INFINITY)?,
                "magnitudetype" | "magtype" => asked.magnitude_type = Some(value.clone()),
                "eventtype" => asked.event_types = value.split(',').map(str::to_lowercase).collect(),
                "reviewstatus" => asked.review = Some(one_of(name, value, &["automatic", "reviewed"])?),
                "catalog" => asked.catalog = Some(value.clone()),
                "eventid" => asked.event_id = Some(value.clone()),
                "limit" => asked.limit = Some(integer(name, value, 0, Some(max))?),
                "offset" => asked.offset = integer(name, value, 1, None)?,
                "orderby" => asked.order = order(name, value)?,
                "includedeleted" => asked.deleted = deleted(name, value)?,
                "format" => asked.format = format(name, value)?,
                other if NOT_SIMULATED.contains(&other) => {
                    return Err(Refusal::bad(format!("parameter \"{name}\" is not simulated")));
                }
                _ => return Err(Refusal::bad(format!("Unknown parameter \"{name}\"."))),
            }
        }
        asked.circle = circle(latitude, longitude, radius)?;
        asked.check()?;
        Ok(asked)
    }

    /// Combinations that the service refuses.
    fn check(&mut self) -> Result<(), Refusal> {
        if let (Some(min), Some(max)) = (self.latitude.min, self.latitude.max)
            && min > max
        {
            return Err(Refusal::bad("minlatitude must be less than maxlatitude"));
        }
        let Bounds { min, max } = self.longitude;
        if let (Some(min), Some(max)) = (min, max) {
            if min > max {
                return Err(Refusal::bad("minlongitude must be less than maxlongitude"));
            }
            if max - min > 360.0 {
                return Err(Refusal::bad("Searches cannot span more than 360 degrees of longitude."));
            }
            if max - min == 360.0 {
                self.longitude = Bounds::default();
            } else if max < -180.0 {
                self.longitude = Bounds { min: Some(min + 360.0), max: Some(max + 360.0) };
            } else if min > 180.0 {
                self.longitude = Bounds { min: Some(min - 360.0), max: Some(max - 360.0) };
            }
        } else if min.is_some_and(|min| min < -180.0) || max.is_some_and(|max| max > 180.0) {
            return Err(Refusal::bad("Searches that cross dateline require both minlongitude and maxlongitude."));
        }
        if self.deleted != Deleted::No {
            if !matches!(self.format, Format::GeoJson | Format::Csv) {
                return Err(Refusal::bad("Cannot use includedeleted parameter unless format is geojson or csv."));
            }
            if !self.event_types.is_empty() {
                return Err(Refusal::new(503, "database error logged on server"));
            }
        }
        Ok(())
    }

    /// Whether asking for live and deleted events together spans so long that the service runs out of time.
    pub(crate) fn times_out(&self, now: i64, longest: Option<Duration>) -> bool {
        let longest = longest.and_then(|longest| i64::try_from(longest.as_millis()).ok());
        let span = self.end.unwrap_or(now).saturating_sub(self.start);
        self.deleted == Deleted::Included && self.event_id.is_none() && longest.is_some_and(|longest| span > longest)
    }

    /// Whether this longitude is within the bounds, which can cross the date line.
    pub(crate) fn holds_longitude(&self, longitude: f64) -> bool {
        match self.longitude {
            Bounds { min: Some(min), max: Some(max) } if min < -180.0 => longitude >= min + 360.0 || longitude <= max,
            Bounds { min: Some(min), max: Some(max) } if max > 180.0 => longitude >= min || longitude <= max - 360.0,
            bounds => bounds.hold(longitude),
        }
    }
}

/// Fractions of a second are cut off.
pub(crate) fn whole_second(millis: i64) -> i64 {
    millis.div_euclid(1000) * 1000
}

fn time(name: &str, value: &str) -> Result<i64, Refusal> {
    parse_time(value)
        .map(whole_second)
        .ok_or_else(|| Refusal::bad(format!("Bad {name} value \"{value}\". Valid values are ISO-8601 timestamps.")))
}

fn range(name: &str, min: Option<String>, max: Option<String>, any: &str) -> String {
    match (min, max) {
        (None, None) => any.to_owned(),
        (min, max) => {
            let min = min.map(|min| format!("{min} <= ")).unwrap_or_default();
            let max = max.map(|max| format!(" <= {max}")).unwrap_or_default();
            format!("{min}{name}{max}")
        }
    }
}

fn number(name: &str, value: &str, min: f64, max: f64) -> Result<f64, Refusal> {
    match value.trim().parse::<f64>() {
        Ok(number) if number.is_finite() && number >= min && number <= max => Ok(number),
        _ => {
            let bound = |bound: f64| bound.is_finite().then(|| bound.to_string());
            let valid = range(name, bound(min), bound(max), "numeric");
            Err(Refusal::bad(format!("Bad {name} value \"{value}\". Valid values are {valid}")))
        }
    }
}

fn integer(name: &str, value: &str, min: usize, max: Option<usize>) -> Result<usize, Refusal> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    match value.parse::<usize>() {
        Ok(number) if digits && number >= min && max.is_none_or(|max| number <= max) => Ok(number),
        _ => {
            let valid = range(name, Some(min.to_string()), max.map(|max| max.to_string()), "integers");
            Err(Refusal::bad(format!("Bad {name} value \"{value}\". Valid values are {valid}")))
        }
    }
}

fn one_of(name: &str, value: &str, valid: &[&str]) -> Result<String, Refusal> {
    if valid.contains(&value) {
        return Ok(value.to_owned());
    }
    let valid = valid.join("\", \"");
    Err(Refusal::bad(format!("Bad {name} value \"{value}\". Valid values are: \"{valid}\".")))
}

fn order(name: &str, value: &str) -> Result<Order, Refusal> {
    Ok(match one_of(name, value, &["time", "time-asc", "magnitude", "magnitude-asc"])?.as_str() {
        "time-asc" => Order::TimeAscending,
        "magnitude" => Order::Magnitude,
        "magnitude-asc" => Order::MagnitudeAscending,
        _ => Order::Time,
    })
}

fn deleted(name: &str, value: &str) -> Result<Deleted, Refusal> {
    match value.to_lowercase().as_str() {
        _ if value == "only" => Ok(Deleted::Only),
        "true" => Ok(Deleted::Included),
        "false" => Ok(Deleted::No),
        _ => Err(Refusal::bad(format!(
            "Bad {name} value \"{value}\". Valid values are (case insensitive): \"TRUE\", \"FALSE\"."
        ))),
    }
}

fn format(name: &str, value: &str) -> Result<Format, Refusal> {
    match one_of(name, value, &VALUES_OF_FORMAT)?.as_str() {
        "csv" => Ok(Format::Csv),
        "geojson" => Ok(Format::GeoJson),
        "text" => Ok(Format::Text),
        "quakeml" => Ok(Format::QuakeMl),
        "xml" => Ok(Format::Xml),
        "kml" | "kmlraw" => Ok(Format::Kml),
        other => Err(Refusal::bad(format!("format \"{other}\" is not simulated"))),
    }
}

fn circle(
    latitude: Option<f64>,
    longitude: Option<f64>,
    radius: Bounds,
) -> Result<Option<(f64, f64, Bounds)>, Refusal> {
    match (latitude, longitude, radius.max) {
        (None, None, None) => Ok(None),
        (Some(latitude), Some(longitude), Some(_)) => Ok(Some((latitude, longitude, radius))),
        _ => Err(Refusal::bad(
            "Invalid area-circle parameter combination.\n\
             latitude, longitude, and maxradius must all be specified for area-circle.",
        )),
    }
}

#[cfg(test)]
mod tests;
