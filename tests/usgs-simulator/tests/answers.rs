//! What the service answers, through real HTTP, held against recorded answers where there are some.

mod common;

use std::io::Read;

use common::{at, five, get, header, ids, month, month_text, text};
use usgs_simulator::{Catalogue, Clock, Column, Event, Extras, HEADER, Simulator, Tombstone};

const QUERY: &str = "/fdsnws/event/1/query";

#[tokio::test]
async fn the_recorded_month_comes_back_byte_for_byte() {
    let running = Simulator::builder(month()).build().serve().await.unwrap();
    let recorded = month_text();
    for target in [
        "/earthquakes/feed/v1.0/summary/all_month.csv".to_owned(),
        format!("{QUERY}?format=csv"),
        format!("{QUERY}?format=csv&starttime=1600-01-01T00:00:00&updatedafter=2025-06-01T00:00:00"),
    ] {
        let (status, body) = text(&running, &target).await;
        assert_eq!(status, 200);
        assert!(body == recorded, "{target} differs from the recorded file");
    }
    running.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_real_query_is_answered_with_the_real_bytes() {
    let mut catalogue = Catalogue::empty();
    for event in real_events() {
        catalogue.add(event, at("2025-02-24T00:00:00Z")).unwrap();
    }
    catalogue
        .add(Event::new("us0", at("2025-01-15T00:00:00Z")).magnitude(6.0, "mb"), at("2025-02-24T00:00:00Z"))
        .unwrap();
    let clock = Clock::fixed(at("2025-02-24T23:58:45.300Z"));
    let running = Simulator::builder(catalogue).clock(clock).version("1.14.1").build().serve().await.unwrap();
    let query =
        "format=geojson&starttime=2025-01-01&endtime=2025-02-19&latitude=36.6&longitude=-121.9&maxradius=10&minmag=4.5";
    let (status, body) = text(&running, &format!("{QUERY}?{query}")).await;
    assert_eq!((status, body.as_str()), (200, include_str!("../fixtures/fdsn_query_2025-02-24.json").trim_end()));
}

/// The two events of the recorded query.
fn real_events() -> [Event; 2] {
    let list = |text: &str| Some(text.split(',').map(str::to_owned).collect());
    let bandon = Event::new("us6000pm9b", at("2025-01-25T05:36:41.391Z"))
        .updated(at("2025-02-22T05:46:48.052Z"))
        .magnitude(4.7, "mb")
        .located(43.3198, -126.786, 10.0)
        .with(Column::Place, "194 km W of Bandon, Oregon")
        .with(Column::Status, "reviewed")
        .with(Column::Nst, "161")
        .with(Column::Dmin, "1.553")
        .with(Column::Rms, "0.67")
        .with(Column::Gap, "183")
        .extras(Extras {
            felt: Some(19),
            cdi: Some(3.1),
            sig: Some(346),
            types: list("dyfi,oaf,origin,phase-data"),
            ..Extras::default()
        });
    let cobb = Event::new("nc75111126", at("2025-01-02T02:34:04.660Z"))
        .updated(at("2025-02-20T02:44:09.993Z"))
        .magnitude(4.65, "mw")
        .located(38.8455, -122.756333333333, 1.42)
        .with(Column::Place, "4 km NW of Cobb, CA")
        .with(Column::Status, "reviewed")
        .with(Column::Nst, "115")
        .with(Column::Dmin, "0.009316")
        .with(Column::Rms, "0.08")
        .with(Column::Gap, "44")
        .extras(Extras {
            felt: Some(704),
            cdi: Some(6.0),
            mmi: Some(6.915),
            alert: Some("green".into()),
            tsunami: true,
            sig: Some(755),
            ids: list("ew1735785240,us6000pgzl,nc75111126,at00spfwgt"),
            types: list(
                "dyfi,focal-mechanism,ground-failure,impact-link,losspager,moment-tensor,nearby-cities,oaf,origin,\
                 phase-data,scitech-link,shake-alert,shakemap",
            ),
            ..Extras::default()
        });
    [bandon, cobb]
}

#[tokio::test]
async fn too_many_matches_are_refused_in_the_services_words() {
    let clock = Clock::fixed(at("2019-08-11T17:50:26Z"));
    let running = five().limit(3).version("1.8.1").clock(clock).build().serve().await.unwrap();
    running.handle().set_now(at("2025-07-20T14:00:00Z"));
    let query = "format=csv&starttime=2025-07-20T12:10:00";
    let expected = include_str!("../fixtures/fdsn_error_400_limit.txt")
        .replace("286412", "4")
        .replace("20000", "3")
        .replace("<query string>", query)
        .replace("2019-08-11T17:50:26", "2025-07-20T14:00:00");
    let (status, body) = text(&running, &format!("{QUERY}?{query}")).await;
    assert_eq!((status, body.as_str()), (400, expected.trim_end()));
    assert_eq!(ids(&running, "limit=3").await, ["us4", "us3", "us2"], "no check when a limit is sent");
    let (status, body) = text(&running, "/fdsnws/event/1/count?format=geojson").await;
    assert_eq!(status, 200);
    assert!(body.starts_with("{\"count\":5,\"maxAllowed\":3,\"error\":\"5 matching events exceeds"), "{body}");
}

#[tokio::test]
async fn filters_are_inclusive_and_in_whole_seconds() {
    let running = five().build().serve().await.unwrap();
    // Events happen half a second after the minute.
    assert_eq!(ids(&running, "starttime=2025-07-20T12:30:00.900Z").await, ["us4", "us3"]);
    assert_eq!(ids(&running, "endtime=2025-07-20T12:10:00.900&orderby=time-asc").await, ["us0"]);
    assert_eq!(ids(&running, "updatedafter=2025-07-20T12:45:00%2B00:00").await, ["us4"]);
    assert_eq!(ids(&running, "minmagnitude=2&maxmagnitude=3&orderby=magnitude-asc").await, ["us1", "us2"]);
    assert_eq!(ids(&running, "minlongitude=21&maxlongitude=22&minlatitude=10&maxlatitude=10").await, ["us2", "us1"]);
    assert_eq!(ids(&running, "limit=2&offset=2").await, ["us3", "us2"]);
    assert_eq!(ids(&running, "offset=4").await.len(), 5, "offset is ignored without limit");
    assert_eq!(ids(&running, "eventtype=quarry%20blast").await, [""; 0]);
}

#[tokio::test]
async fn the_answer_is_as_of_the_simulated_now() {
    let running = five().build().serve().await.unwrap();
    let handle = running.handle();
    handle.set_now(at("2025-07-20T12:15:00.499Z"));
    assert_eq!(ids(&running, "").await, ["us0"]);
    handle.advance(std::time::Duration::from_millis(1));
    let response = get(&running, "/fdsnws/event/1/query?format=geojson").await;
    assert_eq!(header(&response, "last-modified"), Some("Sun, 20 Jul 2025 12:15:00 GMT"));
    let body = response.text().await.unwrap();
    assert!(body.contains("\"generated\":1753013700000,"), "{body}");
    assert!(body.contains("\"count\":2}"), "{body}");
    handle.set_now(at("2025-08-19T12:00:00Z"));
    assert_eq!(ids(&running, "").await.len(), 5, "thirty days");
    handle.set_now(at("2025-08-19T12:10:01Z"));
    assert_eq!(ids(&running, "").await.len(), 3, "two are older than thirty days");
}

#[tokio::test]
async fn the_clock_begins_at_the_newest_minute_and_can_run() {
    let newest = at("2025-07-23T15:13:00Z");
    assert_eq!(Simulator::builder(month()).build().handle().now(), newest);
    let handle = Simulator::builder(month()).running().build().handle();
    let first = handle.now();
    assert!(first >= newest && first < newest + chrono::TimeDelta::minutes(1));
    while handle.now() == first {
        tokio::task::yield_now().await;
    }
    assert!(handle.now() > first);
}

#[tokio::test]
async fn headers_are_those_of_the_service_on_errors_too() {
    let running = five().build().serve().await.unwrap();
    for (target, status, content_type) in [
        ("/fdsnws/event/1/query?format=csv", 200, "text/csv;charset=utf-8"),
        ("/fdsnws/event/1/query?format=geojson", 200, "application/json;charset=utf-8"),
        ("/fdsnws/event/1/version", 200, "text/plain"),
        ("/fdsnws/event/1/query?format=csv&Format=csv", 400, "text/plain"),
        ("/earthquakes/feed/v1.0/summary/all_day.csv?x=1", 403, "text/html"),
        ("/nowhere", 404, "text/plain"),
    ] {
        let response = get(&running, target).await;
        assert_eq!(response.status(), status, "{target}");
        assert_eq!(header(&response, "content-type"), Some(content_type), "{target}");
        assert_eq!(header(&response, "cache-control"), Some("public, max-age=60"));
        assert_eq!(header(&response, "last-modified"), Some("Sun, 20 Jul 2025 14:00:00 GMT"));
        assert_eq!(header(&response, "date"), Some("Sun, 20 Jul 2025 14:00:00 GMT"));
        assert_eq!(header(&response, "etag"), None);
    }
    let post = common::client().post(format!("{}{QUERY}", running.base_url())).send().await.unwrap();
    assert_eq!(post.status(), 405);
}

#[tokio::test]
async fn gzip_comes_on_request_and_unpacks_to_the_same_answer() {
    let running = five().build().serve().await.unwrap();
    let plain = text(&running, &format!("{QUERY}?format=csv")).await.1;
    let request = common::client().get(format!("{}{QUERY}?format=csv", running.base_url()));
    let response = request.header("accept-encoding", "gzip").header("user-agent", "test/1").send().await.unwrap();
    assert_eq!(header(&response, "content-encoding"), Some("gzip"));
    let mut unpacked = String::new();
    flate2::read::GzDecoder::new(&*response.bytes().await.unwrap()).read_to_string(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain);
    let requests = running.handle().requests();
    assert_eq!(requests[0].accept_encoding, None);
    assert_eq!(requests[1].accept_encoding.as_deref(), Some("gzip"));
    assert_eq!(requests[1].user_agent.as_deref(), Some("test/1"));
    assert_eq!((requests[1].path(), requests[1].parameter("format").as_deref()), (QUERY, Some("csv")));
    assert_eq!((requests[1].status, requests[1].simulated), (Some(200), at("2025-07-20T14:00:00Z")));
}

#[tokio::test]
async fn deleted_events_are_told_only_to_those_who_ask() {
    let running = five().build().serve().await.unwrap();
    running.handle().edit(|catalogue| {
        catalogue.delete("us1", at("2025-07-20T13:00:00Z"), Tombstone::WithId).unwrap();
        catalogue.delete("us2", at("2025-07-20T13:30:00Z"), Tombstone::BlankId).unwrap();
    });
    assert_eq!(ids(&running, "").await, ["us4", "us3", "us0"]);
    assert_eq!(ids(&running, "includedeleted=only").await, ["", "us1"]);
    assert_eq!(ids(&running, "includedeleted=only&updatedafter=2025-07-20T13:30:00").await, [""]);
    assert_eq!(ids(&running, "includedeleted=true&starttime=2025-07-20").await, ["us4", "us3", "", "us1", "us0"]);
    let (status, body) = text(&running, &format!("{QUERY}?format=csv&includedeleted=true")).await;
    assert_eq!((status, &body[..6]), (504, "<html>"));
    let (_, body) = text(&running, &format!("{QUERY}?format=geojson&includedeleted=only")).await;
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["features"][0]["id"], "");
    assert_eq!(body["features"][1]["properties"]["status"], "deleted");
    assert_eq!(body["features"][1]["properties"]["updated"], 1_753_016_400_000_i64);
}

#[tokio::test]
async fn one_event_by_id_is_found_missing_or_gone() {
    let running = five().build().serve().await.unwrap();
    running.handle().edit(|catalogue| {
        catalogue.delete("us1", at("2025-07-20T13:00:00Z"), Tombstone::WithId).unwrap();
        catalogue.merge("us3", "us4", at("2025-07-20T13:00:00Z")).unwrap();
    });
    let status = async |query: &str| text(&running, &format!("{QUERY}?{query}")).await.0;
    assert_eq!(status("format=csv&eventid=us1").await, 409);
    assert_eq!(status("format=geojson&eventid=us1").await, 409);
    assert_eq!(status("format=geojson&eventid=us1&includedeleted=true").await, 200);
    assert_eq!(status("format=geojson&eventid=nope").await, 404);
    assert_eq!(text(&running, &format!("{QUERY}?format=csv&eventid=nope")).await, (200, format!("{HEADER}\n")));
    assert_eq!(ids(&running, "eventid=us3").await, ["us4"], "under its survivor's name");
    let (_, body) = text(&running, &format!("{QUERY}?format=geojson&eventid=us4")).await;
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["properties"]["ids"], ",us3,us4,");
    assert_eq!(body["properties"]["sources"], ",us,us,");
    assert!(body["properties"]["products"].is_object());
}

#[tokio::test]
async fn nothing_found_is_an_answer() {
    let running = five().build().serve().await.unwrap();
    let nothing = "starttime=2030-01-01";
    assert_eq!(text(&running, &format!("{QUERY}?format=csv&{nothing}")).await, (200, format!("{HEADER}\n")));
    let (status, body) = text(&running, &format!("{QUERY}?format=geojson&{nothing}")).await;
    assert_eq!(status, 200);
    assert!(body.ends_with("\"count\":0},\"features\":[]}"), "{body}");
    assert_eq!(text(&running, &format!("{QUERY}?{nothing}")).await, (204, String::new()));
    assert_eq!(text(&running, QUERY).await.0, 400, "quakeml is not simulated");
    assert_eq!(text(&running, "/fdsnws/event/1/count").await, (200, "5".into()));
    let (_, body) = text(&running, &format!("{QUERY}?format=text&limit=1")).await;
    assert!(body.ends_with("us4|2025-07-20T12:40:00.500|10|24|5|us|us|us|us4|mb|5|us|1 km N of Nowhere\n"), "{body}");
}

#[tokio::test]
async fn feeds_are_of_the_last_whole_minute() {
    let running = five().build().serve().await.unwrap();
    running.handle().set_now(at("2025-07-20T12:25:59Z"));
    let feed = async |name: &str| text(&running, &format!("/earthquakes/feed/v1.0/summary/{name}")).await;
    // us2 is published half a second after 12:25:00.
    let (_, body) = feed("all_hour.csv").await;
    assert_eq!(body.lines().count(), 3, "{body}");
    running.handle().set_now(at("2025-07-20T12:26:00Z"));
    let (_, body) = feed("2.5_hour.geojson").await;
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["metadata"]["title"], "USGS Magnitude 2.5+ Earthquakes, Past Hour");
    assert_eq!(body["metadata"]["count"], 1);
    assert_eq!(
        body["features"][0]["properties"]["detail"],
        "https://earthquake.usgs.gov/earthquakes/feed/v1.0/detail/us2.geojson"
    );
    assert_eq!(feed("all_year.csv").await.0, 404);
}

#[tokio::test]
async fn a_repeated_address_is_answered_from_the_cache_for_a_minute() {
    let running = five().cached(true).build().serve().await.unwrap();
    let handle = running.handle();
    let target = format!("{QUERY}?format=csv");
    let first = text(&running, &target).await;
    handle.edit(|catalogue| catalogue.vanish("us0", at("2025-07-20T13:00:00Z"))).unwrap();
    handle.advance(std::time::Duration::from_secs(59));
    let response = get(&running, &target).await;
    assert_eq!(header(&response, "last-modified"), Some("Sun, 20 Jul 2025 14:00:00 GMT"));
    assert_eq!(response.text().await.unwrap(), first.1);
    assert_eq!(ids(&running, "orderby=time").await.len(), 4, "another address is asked anew");
    handle.advance(std::time::Duration::from_secs(1));
    assert_ne!(text(&running, &target).await, first);
}
