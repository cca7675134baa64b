//! The recorded month of real data through every stage.

use shared::ledger::Outcome;
use tests::World;

#[tokio::test(flavor = "multi_thread")]
async fn every_event_of_the_recorded_month_is_in_gold_once() {
    let world = World::month().await.unwrap();
    world.tick().await.unwrap();
    assert_eq!(world.dead().await.unwrap().len(), 0);
    let counts = "select count(*), count(distinct event_id) from fct_earthquakes";
    assert_eq!(world.query(counts).await.unwrap(), ["11146,11146"]);
    // Counted in the file itself with Python's csv module.
    let by_network = "select network, count(*) as events from gold.fct_earthquakes group by network \
                      order by events desc, network limit 3";
    assert_eq!(world.query(by_network).await.unwrap(), ["nc,1840", "ak,1789", "ci,1711"]);
    let largest = "select event_id, magnitude from fct_earthquakes order by magnitude desc, event_id limit 1";
    assert_eq!(world.query(largest).await.unwrap(), ["us7000qdyl,7.4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_accounts_for_every_row_under_one_trace() {
    let world = World::month().await.unwrap();
    world.tick().await.unwrap();
    let ledger = world.ledger("earthquakes").await.unwrap();
    let runs: Vec<_> = ledger.iter().map(|record| &record.run).collect();
    assert!(runs.iter().all(|run| *run == runs[0]), "one trace from tick to gold: {runs:?}");
    let stages: Vec<_> = ledger.iter().map(|record| (record.stage.as_str(), &record.outcome)).collect();
    let done = &Outcome::Done;
    assert_eq!(stages, [("fetch", done), ("land", done), ("transform", done)]);
    for record in &ledger {
        assert!(record.reconciles(), "{record:?}");
    }
    let rows = |stage: &str| ledger.iter().filter(|it| it.stage == stage).map(|it| it.rows_in).sum::<u64>();
    assert_eq!((rows("fetch"), rows("land")), (11_146, 11_146));
    let raw = world.query("select count(*), count(distinct id) from raw.earthquakes").await.unwrap();
    assert_eq!(raw, ["11146,11146"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tick_that_brings_nothing_sends_no_message_after_fetch_and_changes_no_table() {
    let world = World::month().await.unwrap();
    world.tick().await.unwrap();
    let before = world.tables().await.unwrap();
    // The first tick after the month re-reads its last two hours and finds the rows that are there already.
    world.tick().await.unwrap();
    let captures = world.objects("raw/").await.unwrap();
    let manifests = world.objects("warehouse/").await.unwrap();
    let records = world.ledger("earthquakes").await.unwrap().len();
    world.tick().await.unwrap();
    assert_eq!(world.objects("raw/").await.unwrap(), captures, "no capture");
    assert_eq!(world.objects("warehouse/").await.unwrap(), manifests, "no table is written");
    let ledger = world.ledger("earthquakes").await.unwrap();
    assert_eq!(ledger.len(), records + 1, "fetch alone did anything");
    assert_eq!(ledger.last().unwrap().outcome, Outcome::Nothing);
    assert_eq!(world.tables().await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_is_asked_politely() {
    let world = World::month().await.unwrap();
    world.tick().await.unwrap();
    world.tick().await.unwrap();
    let requests = world.handle().requests();
    assert_eq!(requests.len(), 7, "its clock, three about the month, three of the tick: {requests:?}");
    for request in &requests {
        assert!(request.user_agent.as_deref().is_some_and(|agent| agent.starts_with("strata/")), "{request:?}");
        assert_eq!(request.accept_encoding.as_deref(), Some("gzip"));
        assert_eq!(request.parameter("limit"), None);
    }
    assert_eq!(world.handle().peak_in_flight(), 1);
}
