//! Faults on demand, through real HTTP.

mod common;

use std::time::Duration;

use common::{five, get, header, text};
use usgs_simulator::{Column, Fault, HEADER, HeaderFault, Rule};

const CSV: &str = "/fdsnws/event/1/query?format=csv";

#[tokio::test]
async fn statuses_come_as_often_as_asked_and_then_no_more() {
    let running = five().build().serve().await.unwrap();
    let handle = running.handle();
    handle.fault(Fault::status(503).times(2));
    handle.fault(Fault::status(504));
    handle.fault(Fault::too_many_requests(Some("7")));
    let (status, body) = text(&running, CSV).await;
    assert_eq!(status, 503);
    assert!(body.starts_with("Error 503: Service Unavailable\n\nSQLSTATE"), "{body}");
    assert_eq!(text(&running, CSV).await.0, 503);
    let response = get(&running, CSV).await;
    assert_eq!((response.status().as_u16(), header(&response, "content-type")), (504, Some("text/html")));
    let response = get(&running, CSV).await;
    assert_eq!((response.status().as_u16(), header(&response, "retry-after")), (429, Some("7")));
    assert_eq!(handle.faults_waiting(), 0);
    assert_eq!(text(&running, CSV).await.0, 200);
    let statuses: Vec<_> = handle.requests().iter().map(|request| request.status).collect();
    assert_eq!(statuses, [503, 503, 504, 429, 200].map(Some));
}

#[tokio::test]
async fn a_fault_waits_for_the_request_it_is_meant_for() {
    let running = five().build().serve().await.unwrap();
    running.handle().fault(
        Rule::from(Fault::HtmlWith200).when(|request| request.parameter("format").as_deref() == Some("geojson")),
    );
    assert!(text(&running, CSV).await.1.starts_with(HEADER));
    let response = get(&running, "/fdsnws/event/1/query?format=geojson").await;
    assert_eq!((response.status().as_u16(), header(&response, "content-type")), (200, Some("text/html")));
}

#[tokio::test]
async fn errors_are_cached_but_for_429() {
    let running = five().cached(true).build().serve().await.unwrap();
    let handle = running.handle();
    handle.fault(Fault::status(503));
    assert_eq!(text(&running, CSV).await.0, 503);
    assert_eq!(text(&running, CSV).await.0, 503, "the same address within a minute");
    handle.advance(Duration::from_secs(60));
    assert_eq!(text(&running, CSV).await.0, 200);
    handle.advance(Duration::from_secs(60));
    handle.fault(Fault::too_many_requests(None));
    assert_eq!(text(&running, CSV).await.0, 429);
    assert_eq!(text(&running, CSV).await.0, 200);
}

#[tokio::test]
async fn bodies_are_spoiled_as_asked() {
    let running = five().build().serve().await.unwrap();
    let handle = running.handle();
    let whole = text(&running, CSV).await.1;

    handle.fault(Fault::Truncated { bytes: 400 });
    assert_eq!(text(&running, CSV).await, (200, whole[..400].to_owned()));

    handle.fault(Fault::ErrorTextAppended);
    let (status, body) = text(&running, CSV).await;
    let error = body.find("Error 503").unwrap();
    assert_eq!(status, 200);
    assert!(whole.starts_with(&body[..error]) && body[..error].ends_with('\n') && error < whole.len(), "{body}");

    handle.fault(Fault::WrongHeader(Column::Updated, HeaderFault::Missing));
    let (_, body) = text(&running, CSV).await;
    assert!(body.lines().all(|row| row.split(',').count() == 21), "{body}");

    handle.fault(Fault::WrongHeader(Column::Mag, HeaderFault::Renamed("magnitude".into())));
    assert_eq!(text(&running, CSV).await.1, whole.replacen(",mag,", ",magnitude,", 1));

    let glitch =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/usgs/glitch_2024-10-07/all_day_2024-10-07T132724Z_alph.csv");
    let glitch = std::fs::read(glitch).unwrap();
    handle.fault(Fault::RawBody(glitch.clone().into()));
    let response = get(&running, CSV).await;
    assert_eq!(header(&response, "content-type"), Some("text/csv;charset=utf-8"));
    assert_eq!(response.bytes().await.unwrap(), glitch);
}

#[tokio::test]
async fn an_endless_body_goes_on_until_the_client_leaves() {
    let running = five().build().serve().await.unwrap();
    for target in [CSV, "/fdsnws/event/1/query?format=geojson"] {
        running.handle().fault(Fault::EndlessBody);
        let mut response = get(&running, target).await;
        let (mut length, mut head) = (0, Vec::new());
        while length < 2_000_000 {
            let chunk = response.chunk().await.unwrap().expect("it does not end");
            length += chunk.len();
            if head.len() < 1000 {
                head.extend_from_slice(&chunk);
            }
        }
        let head = String::from_utf8_lossy(&head);
        assert!(head.starts_with(HEADER) || head.starts_with("{\"type\":\"FeatureCollection\""), "{head}");
    }
    running.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_slow_body_trickles_to_its_end() {
    let running = five().build().serve().await.unwrap();
    let whole = text(&running, CSV).await.1;
    running.handle().fault(Fault::SlowBody { chunk: 200, delay: Duration::from_millis(5) });
    let mut response = get(&running, CSV).await;
    assert_eq!(response.chunk().await.unwrap().unwrap(), whole[..200]);
    assert_eq!(running.handle().in_flight(), 1, "under way until its last bytes");
    assert_eq!(response.text().await.unwrap(), whole[200..]);
}

#[tokio::test]
async fn a_broken_connection_is_an_error_within_the_body() {
    let running = five().build().serve().await.unwrap();
    running.handle().fault(Fault::ConnectionReset { after: 300 });
    let mut response = get(&running, CSV).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.chunk().await.unwrap().unwrap().len(), 300);
    assert!(response.chunk().await.is_err());
    assert_eq!(text(&running, CSV).await.0, 200);
}

#[tokio::test]
async fn a_stalled_request_is_held_until_the_client_leaves() {
    let running = five().build().serve().await.unwrap();
    let handle = running.handle();
    handle.fault(Fault::Stall);
    let base = running.base_url();
    let stalled = tokio::spawn(async move { common::client().get(base + CSV).send().await });
    handle.requested(1).await;
    assert_eq!(text(&running, CSV).await.0, 200, "others are answered");
    assert!(!stalled.is_finished());
    assert_eq!(handle.requests()[0].status, None);
    stalled.abort();
    assert!(stalled.await.unwrap_err().is_cancelled());
    running.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_shutdown_ends_what_is_stalled() {
    let running = five().build().serve().await.unwrap();
    let handle = running.handle();
    handle.fault(Fault::Stall);
    let base = running.base_url();
    let stalled = tokio::spawn(async move { common::client().get(base + CSV).send().await });
    handle.requested(1).await;
    running.shutdown().await.unwrap();
    let ended = stalled.await.unwrap();
    assert!(!ended.is_ok_and(|response| response.status().is_success()));
}

#[tokio::test]
async fn requests_at_once_are_counted() {
    let running = five().build().serve().await.unwrap();
    let handle = running.handle();
    for _ in 0..3 {
        text(&running, CSV).await;
    }
    assert_eq!((handle.peak_in_flight(), handle.in_flight()), (1, 0));
    handle.fault(Fault::Stall.times(2));
    let base = running.base_url();
    let held = tokio::spawn(async move {
        let ask = || common::client().get(format!("{base}{CSV}")).send();
        tokio::join!(ask(), ask())
    });
    handle.requested(5).await;
    assert_eq!((handle.peak_in_flight(), handle.in_flight()), (2, 2));
    held.abort();
}
