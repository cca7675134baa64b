//! The summary feeds: fixed questions, answered anew every minute.

use crate::{
    answer::{Answer, HTML, PLAIN, Request, too_many},
    catalogue::Version,
    geojson::{Links, significance},
    question::{Format, Question},
};

pub(crate) const PATH: &str = "/earthquakes/feed/v1.0/summary/";
/// The feeds have a higher limit than the service.
const LIMIT: usize = 30_000;
const MINUTE: i64 = 60_000;
/// From this significance on an event is in the `significant` feeds.
const SIGNIFICANT: i64 = 600;

/// Answers the feed of a name such as `all_month.csv`.
pub(crate) fn answer(request: &Request<'_>, name: &str) -> Answer {
    if request.target.contains('?') {
        return request.say(
            403,
            HTML,
            "<html><head><title>403 Forbidden</title></head><body>Forbidden</body></html>\n",
        );
    }
    let Some((asked, size, title)) = parse(name, request.now) else {
        return request.say(404, PLAIN, "404 File Not Found");
    };
    // Feeds are files: they tell of the minute in which they were written.
    let built = Request { now: minute(request.now), ..*request };
    let mut found = built.catalogue.select(&asked, built.now);
    if size == "significant" {
        found.retain(|version: &&Version| significance(version).is_some_and(|value| value >= SIGNIFICANT));
    }
    if found.len() > LIMIT {
        return built.refuse(400, &too_many(found.len(), LIMIT));
    }
    built.summary(&asked, &found, &title, Links::Feed)
}

fn minute(now: i64) -> i64 {
    now.div_euclid(MINUTE) * MINUTE
}

fn parse(name: &str, now: i64) -> Option<(Question, &str, String)> {
    let (name, format) = name.rsplit_once('.')?;
    let format = match format {
        "csv" => Format::Csv,
        "geojson" => Format::GeoJson,
        _ => return None,
    };
    let (size, age) = name.split_once('_')?;
    let (seconds, past) = match age {
        "hour" => (3_600, "Hour"),
        "day" => (86_400, "Day"),
        "week" => (604_800, "Week"),
        "month" => (2_592_000, "Month"),
        _ => return None,
    };
    let (magnitude, kind) = match size {
        "all" => (None, "All".to_owned()),
        "significant" => (None, "Significant".to_owned()),
        // Magnitudes are shown with one decimal, so the feeds begin where the rounding does.
        "1.0" => (Some(0.95), "Magnitude 1.0+".to_owned()),
        "2.5" => (Some(2.45), "Magnitude 2.5+".to_owned()),
        "4.5" => (Some(4.45), "Magnitude 4.5+".to_owned()),
        _ => return None,
    };
    let mut asked = Question::since(minute(now) - seconds * 1000, format);
    asked.magnitude.min = magnitude;
    Some((asked, size, format!("USGS {kind} Earthquakes, Past {past}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_feeds_are_read_or_refused() {
        let (asked, _, title) = parse("2.5_week.geojson", 1_753_283_599_999).unwrap();
        assert_eq!(title, "USGS Magnitude 2.5+ Earthquakes, Past Week");
        assert_eq!(asked.start, 1_753_283_580_000 - 604_800_000);
        assert_eq!(asked.magnitude.min, Some(2.45));
        assert_eq!(parse("all_hour.csv", 0).unwrap().2, "USGS All Earthquakes, Past Hour");
        for name in ["all_year.csv", "3.5_day.csv", "all_day.kml", "all.csv", ""] {
            assert!(parse(name, 0).is_none(), "{name}");
        }
    }
}
