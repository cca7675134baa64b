//! A month of earthquakes, through everything that may happen to it, and the tables of the laptop.

use std::time::Instant;

use shared::dataset::Ask;
use shared::message::FetchRequest;
use tests::{World, query_in, tables_in};

use super::deployment::Deployment;

fn tick() -> FetchRequest {
    FetchRequest { dataset: "earthquakes".to_owned(), ask: Ask::Tick { days: 30, sweep: false } }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/emulators/run starts what it needs"]
async fn a_month_ends_in_the_tables_of_the_laptop() {
    let t = Instant::now();
    let laptop = World::month().await.unwrap();
    laptop.tick().await.unwrap();
    let expected = laptop.tables().await.unwrap();
    eprintln!("laptop {:?}", t.elapsed());
    let cloud = Deployment::start(&laptop.source.base_url()).await;
    eprintln!("started {:?}", t.elapsed());
    cloud.send(&tick()).await;
    cloud.settle().await;
    eprintln!("settled {:?}", t.elapsed());
    let count = query_in(&*cloud.warehouse, "select count(*) from fct_earthquakes").await.unwrap();
    assert_eq!(count, ["11146"]);
    let found = tables_in(&*cloud.warehouse).await.unwrap();
    eprintln!("tables {:?}", t.elapsed());
    let names = |tables: &std::collections::BTreeMap<String, Vec<String>>| tables.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(&expected));
    for (name, rows) in &expected {
        let differ: Vec<_> = rows.iter().zip(&found[name]).filter(|(a, b)| a != b).collect();
        eprintln!("{name}: {} {} differ {} {:?}", rows.len(), found[name].len(), differ.len(), &differ[..differ.len().min(3)]);
    }
    assert!(found == expected);
}
