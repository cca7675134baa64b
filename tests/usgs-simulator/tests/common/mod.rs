//! What the tests share: a client, the recorded month, a small scripted catalogue.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "these are parts of tests")]

use std::{path::PathBuf, sync::Once};

use chrono::{DateTime, Utc};
use reqwest::{Client, Response};
use usgs_simulator::{Builder, Catalogue, Event, Running, Simulator};

pub(crate) fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

pub(crate) fn client() -> Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| rustls::crypto::ring::default_provider().install_default().unwrap());
    Client::new()
}

pub(crate) fn month_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fixtures/usgs/all_month_2025-07-23T1512Z.csv.gz")
}

pub(crate) fn month() -> Catalogue {
    Catalogue::from_path(month_path()).unwrap()
}

/// The recorded month as it was recorded.
pub(crate) fn month_text() -> String {
    let mut text = String::new();
    let file = std::fs::File::open(month_path()).unwrap();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(file), &mut text).unwrap();
    text
}

/// Five events, one every ten minutes from 12:00 on, published five minutes later; magnitudes 1 to 5.
pub(crate) fn five() -> Builder {
    let mut catalogue = Catalogue::empty();
    for number in 0..5 {
        let time = at("2025-07-20T12:00:00.500Z") + chrono::TimeDelta::minutes(10 * number);
        let seen = time + chrono::TimeDelta::minutes(5);
        let event = Event::new(&format!("us{number}"), time)
            .magnitude(f64::from(u8::try_from(number).unwrap()) + 1.0, "mb")
            .located(10.0, 20.0 + f64::from(u8::try_from(number).unwrap()), 5.0)
            .updated(seen);
        catalogue.add(event, seen).unwrap();
    }
    Simulator::builder(catalogue).clock(usgs_simulator::Clock::fixed(at("2025-07-20T14:00:00Z")))
}

pub(crate) async fn get(running: &Running, target: &str) -> Response {
    client().get(format!("{}{target}", running.base_url())).send().await.unwrap()
}

pub(crate) async fn text(running: &Running, target: &str) -> (u16, String) {
    let response = get(running, target).await;
    (response.status().as_u16(), response.text().await.unwrap())
}

/// The ids of a CSV query, in its order.
pub(crate) async fn ids(running: &Running, query: &str) -> Vec<String> {
    let (status, body) = text(running, &format!("/fdsnws/event/1/query?format=csv&{query}")).await;
    assert_eq!(status, 200, "{body}");
    body.lines().skip(1).map(|row| row.split(',').nth(11).unwrap().to_owned()).collect()
}

pub(crate) fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}
