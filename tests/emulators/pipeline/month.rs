//! A month of earthquakes, through what happens to services in the cloud, ends in the tables of the laptop.

use std::collections::BTreeMap;
use std::time::Instant;

use axum::http::StatusCode;
use serde_json::Value;
use shared::clock::{Clock, System};
use shared::ledger;
use shared::message::{CaptureStored, FORM, LandAgain, Topic};
use shared::metrics::DEAD_LETTER;
use tests::{World, query_in, tables_in};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use usgs_simulator::Fault;

use super::deployment::Deployment;
use super::gate::{Answer, Push};
use super::program::Service;
use super::{DATASET, tick};

const DAY: &str = "2025-07-20";

type Tables = BTreeMap<String, Vec<String>>;

/// The pushes that had this answer.
fn answered(pushes: &[Push], answer: Answer) -> usize {
    pushes.iter().filter(|push| push.answer == answer).count()
}

/// Says how long a step took, for whoever runs the suite by hand.
fn done(step: &str, since: &mut Instant) {
    let text = format!("{:>6.1} s  {step}\n", since.elapsed().as_secs_f32());
    std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes()).unwrap();
    *since = Instant::now();
}

async fn same(cloud: &Deployment, expected: &Tables) {
    let found = tables_in(&*cloud.warehouse).await.unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (table, expected) in expected {
        let found = &found[table];
        let differ = found.iter().zip(expected).find(|(found, expected)| found != expected);
        assert!(differ.is_none(), "{table}, here and on the laptop: {differ:?}");
        assert_eq!(found.len(), expected.len(), "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/emulators/run starts what it needs"]
async fn a_month_ends_in_the_tables_of_the_laptop_whatever_happens() {
    let mut since = Instant::now();
    let laptop = World::month().await.unwrap();
    laptop.tick().await.unwrap();
    let expected = laptop.tables().await.unwrap();
    done("the laptop's tables", &mut since);
    let mut cloud = Deployment::start(&laptop.source.base_url()).await;
    done("the deployment", &mut since);

    let begun = System.now();
    fetch_hands_back_what_it_cannot_finish(&mut cloud, &laptop).await;
    done("fetch ends when told, and its message comes again", &mut since);
    services_are_killed(&mut cloud).await;
    cloud.settle().await;
    done("land and transform are killed, and their messages come again", &mut since);
    let count = query_in(&*cloud.warehouse, "select count(*) from fct_earthquakes").await.unwrap();
    assert_eq!(count, ["11146"]);
    same(&cloud, &expected).await;
    done("the tables are equal", &mut since);

    replay_by_message(&cloud).await;
    same(&cloud, &expected).await;
    done("a day again, by message", &mut since);
    for service in [Service::Land, Service::Transform] {
        let before = cloud.gate.pushes(service).len();
        let again = cloud.seek(service, begun).await;
        cloud.settle().await;
        assert!(again > 0 && cloud.gate.pushes(service).len() >= before + again);
    }
    same(&cloud, &expected).await;
    done("all again, by seek", &mut since);

    poison(&cloud).await;
    same(&cloud, &expected).await;
    done("poison", &mut since);
    for record in ledger::read(&*cloud.store, DATASET, None).await.unwrap() {
        assert!(record.reconciles(), "{record:?}");
    }
}

/// The source keeps fetch waiting when it is told to end: it gives its message back, and the next instance has it.
async fn fetch_hands_back_what_it_cannot_finish(cloud: &mut Deployment, laptop: &World) {
    let source = laptop.handle();
    source.fault(Fault::Stall);
    let asked = source.requests().len();
    cloud.send(&tick()).await;
    source.requested(asked + 1).await;
    cloud.end(Service::Fetch).await;
    let unavailable = Answer::Is(StatusCode::SERVICE_UNAVAILABLE);
    cloud.gate.until(Service::Fetch, |pushes| answered(pushes, unavailable) == 1).await;
    assert_eq!(cloud.gate.pushes(Service::Fetch).len(), 1);
    cloud.run(Service::Fetch).await;
}

/// Land is killed while it writes bronze and again while it loads it, transform while it builds the fact table; what
/// transform then takes is delivered to it a second time.
async fn services_are_killed(cloud: &mut Deployment) {
    let at_work = |record: &[u8]| serde_json::from_slice::<Value>(record).unwrap()["running"].is_object();
    cloud.object("bronze/", |_| true).await;
    cloud.kill(Service::Land).await;
    cloud.run(Service::Land).await;
    cloud.object("warehouse/raw/earthquakes/", at_work).await;
    cloud.kill(Service::Land).await;
    let broken = |pushes: &[Push]| answered(pushes, Answer::Broken);
    cloud.gate.until(Service::Land, |pushes| broken(pushes) == 2).await;
    cloud.run(Service::Land).await;
    cloud.gate.twice(Service::Transform);
    cloud.object("warehouse/gold/fct_earthquakes/", at_work).await;
    cloud.kill(Service::Transform).await;
    cloud.gate.until(Service::Transform, |pushes| broken(pushes) == 1).await;
    cloud.run(Service::Transform).await;
    for service in [Service::Land, Service::Transform] {
        let finished = "what is at work on the table is finished first";
        cloud.program(service).says(|line| line["message"] == finished).await;
    }
}

/// What `strata replay` sends for a day.
async fn replay_by_message(cloud: &Deployment) {
    let folder = format!("/date={DAY}/");
    let records = ledger::read(&*cloud.store, DATASET, None).await.unwrap();
    let landed = records.into_iter().filter(|record| record.stage == "land");
    let here = landed.filter(|record| record.outputs.iter().any(|output| output.name.contains(&folder)));
    let captures: Vec<_> = here.filter_map(|record| record.capture).collect();
    assert!(!captures.is_empty(), "no capture holds rows of {DAY}");
    for capture in captures {
        cloud.send(&CaptureStored { dataset: DATASET.to_owned(), capture }).await;
    }
    cloud.settle().await;
    let published = cloud.published(Topic::Publications);
    cloud.send(&LandAgain { dataset: DATASET.to_owned(), partitions: vec![DAY.parse().unwrap()] }).await;
    cloud.settle().await;
    assert!(cloud.published(Topic::Publications) > published, "the models ran on the day again");
}

/// Messages that can never be handled become dead letters, and everything else goes on.
async fn poison(cloud: &Deployment) {
    let table = [
        ("{\"neither\":\"nor\"}", "1", "is no message for captures"),
        ("{\"dataset\":\"volcanoes\",\"partitions\":[]}", "1", "volcanoes"),
        ("{\"dataset\":\"earthquakes\",\"partitions\":[]}", "99", "has the form '99'"),
    ];
    let mut letters = Vec::new();
    for (data, form, _) in table {
        letters.push((cloud.send_raw(Topic::Captures, data, &[(FORM, form)]).await, data));
    }
    cloud.send(&tick()).await;
    cloud.dead(&letters).await;
    cloud.settle().await;
    for (_, _, named) in table {
        let says =
            |line: &Value| line[DEAD_LETTER] == true && line["severity"] == "ERROR" && line.to_string().contains(named);
        cloud.program(Service::Land).says(says).await;
    }
    for (id, data) in &letters {
        let pushes = cloud.gate.pushes(Service::Land).into_iter().filter(|push| push.message == *id);
        assert!(
            pushes.map(|push| push.answer).all(|it| !matches!(it, Answer::Is(status) if status.is_success())),
            "{data}"
        );
    }
    too_large(cloud).await;
}

/// A push of 60 MB is refused before it is read.
async fn too_large(cloud: &Deployment) {
    let port = cloud.program(Service::Land).port;
    let mut service = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let authorization = cloud.gate.authorization(Service::Land);
    let head = format!(
        "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {authorization}\r\nContent-Length: {}\r\n\r\n",
        60_000_000
    );
    service.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    service.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    cloud.program(Service::Land).says(|line| line["message"] == "a push is refused unread").await;
}
