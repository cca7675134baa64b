//! What a month of ticks costs, from the operations that recorded ticks make in a deployment.
//!
//! Prices are Google's for us-central1, as of November 2026. Left out, for they are below a cent: storage, logs, images.

use chrono::{DateTime, TimeDelta, Utc};
use shared::dataset::Ask;
use shared::ledger;
use shared::message::{FetchRequest, Topic};
use tests::polling::CHANGES;
use tests::{MONTH, World};
use usgs_simulator::Catalogue;

use super::deployment::Deployment;
use super::program::Service;
use super::{DATASET, tick};

/// Ticks in a month, one every 30 minutes.
const TICKS: f64 = 1461.0;
/// Sweeps in a month, one a day.
const SWEEPS: f64 = 30.4;

const GIB: f64 = 1_073_741_824.0;
/// BigQuery bills so much of a table that a query names, at least.
const LEAST: u64 = 10 << 20;

/// What is paid for.
struct Item {
    name: &'static str,
    /// Dollars for one.
    price: f64,
    /// So many are free each month.
    free: f64,
    count: fn(&Operations) -> f64,
}

const ITEMS: [Item; 6] = [
    Item {
        name: "BigQuery: GiB that queries read",
        price: 6.25 / 1024.0,
        free: 1024.0,
        count: |it| it.bytes_billed as f64 / GIB,
    },
    Item {
        name: "Cloud Run: seconds of a vCPU with half a GiB, as on the emulators",
        price: 0.000_024 + 0.5 * 0.000_002_5,
        free: 180_000.0,
        count: |it| it.busy_ms as f64 / 1000.0,
    },
    Item { name: "Cloud Run: requests", price: 0.4e-6, free: 2e6, count: |it| it.pushes as f64 },
    Item { name: "Cloud Storage: writes and listings", price: 5e-6, free: 5000.0, count: |it| it.class_a },
    Item { name: "Cloud Storage: reads", price: 0.4e-6, free: 50_000.0, count: |it| it.class_b },
    // A kB each at least to publish and to deliver, and ours are smaller.
    Item {
        name: "Pub/Sub: messages",
        price: 2000.0 * 40.0 / (1024.0 * GIB),
        free: 10.0 * GIB / 2000.0,
        count: |it| it.messages as f64,
    },
];
/// Dollars a month for a schedule: one for ticks and one for sweeps. Three are free.
const SCHEDULE: f64 = 0.10;

/// What a request made the services do.
#[derive(Debug, Clone, Copy)]
struct Operations {
    class_a: f64,
    class_b: f64,
    bytes_billed: u64,
    messages: usize,
    pushes: usize,
    busy_ms: u64,
}

/// The bytes billed and the milliseconds at work of all runs so far.
async fn worked(cloud: &Deployment) -> (u64, u64) {
    let records = ledger::read(&*cloud.store, DATASET, None).await.unwrap();
    let bytes = records.iter().map(|record| record.cost.bytes_billed).sum();
    (bytes, records.iter().map(|record| record.duration_ms).sum())
}

/// The messages and pushes so far.
fn delivered(cloud: &Deployment) -> (usize, usize) {
    let messages = Topic::ALL.into_iter().map(|topic| cloud.published(topic)).sum();
    (messages, Service::ALL.into_iter().map(|service| cloud.gate.pushes(service).len()).sum())
}

/// Publishes a request, waits for all that follows, and counts it. The objects come last before it and first after it:
/// to read the ledger is not the services' work.
async fn counted(cloud: &Deployment, request: &FetchRequest) -> Operations {
    let (bytes, busy) = worked(cloud).await;
    let (messages, pushes) = delivered(cloud);
    let before = cloud.object_operations().await;
    cloud.send(request).await;
    cloud.settle().await;
    let after = cloud.object_operations().await;
    let (all_messages, all_pushes) = delivered(cloud);
    let (all_bytes, all_busy) = worked(cloud).await;
    let objects = |class: &str| after[class].as_f64().unwrap() - before[class].as_f64().unwrap();
    Operations {
        class_a: objects("A"),
        class_b: objects("B"),
        bytes_billed: all_bytes - bytes,
        messages: all_messages - messages,
        pushes: all_pushes - pushes,
        busy_ms: all_busy - busy,
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/emulators/run starts what it needs"]
async fn a_tick_costs_what_changed_and_nothing_when_nothing_did() {
    let mut catalogue = Catalogue::from_path(MONTH).unwrap();
    catalogue.follow(CHANGES).unwrap();
    let world = World::new(catalogue).await.unwrap();
    let mut now: DateTime<Utc> = "2025-07-26T21:00:00Z".parse().unwrap();
    world.handle().set_now(now);
    let cloud = Deployment::start(&world.source.base_url()).await;
    let first = FetchRequest { dataset: DATASET.to_owned(), ask: Ask::Tick { days: 40, sweep: false } };
    counted(&cloud, &first).await;

    let mut ticks = Vec::new();
    for _ in 0..6 {
        now += TimeDelta::minutes(30);
        world.handle().set_now(now);
        ticks.push(counted(&cloud, &tick()).await);
    }
    let sweep = FetchRequest { dataset: DATASET.to_owned(), ask: Ask::Tick { days: 30, sweep: true } };
    let sweep = counted(&cloud, &sweep).await;
    let quiet = counted(&cloud, &tick()).await;
    print(&ticks, sweep);

    assert_eq!((quiet.messages, quiet.pushes, quiet.bytes_billed), (1, 1, 0), "{quiet:?}");
    assert!(ticks.iter().any(|tick| tick.bytes_billed > 0));
    for tick in ticks {
        assert!(tick.bytes_billed <= 30 * LEAST, "another table is named in a statement: {tick:?}");
    }
}

/// The bill.
#[allow(clippy::print_stdout, reason = "the table is for docs/google-cloud.md: tests/bench/price")]
fn print(ticks: &[Operations], sweep: Operations) {
    println!("| {} recorded ticks and a sweep, as a month | count | list price | with what is free |", ticks.len());
    println!("|---|---|---|---|");
    let (mut list, mut bill) = (2.0 * SCHEDULE, 0.0);
    for Item { name, price, free, count } in ITEMS {
        let tick = ticks.iter().map(count).sum::<f64>() / ticks.len() as f64;
        let month = tick * TICKS + count(&sweep) * SWEEPS;
        let (listed, left) = (month * price, (month - free).max(0.0) * price);
        println!("| {name} | {month:.0} | ${listed:.2} | ${left:.2} |");
        list += listed;
        bill += left;
    }
    println!("| Cloud Scheduler: schedules | 2 | ${:.2} | $0.00 |", 2.0 * SCHEDULE);
    println!("| all | | ${list:.2} | ${bill:.2} |");
}
