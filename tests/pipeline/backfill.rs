//! A range of the past: in parts, by message, and again from wherever it was left.

use shared::bus::Event;
use shared::dataset::Ask;
use shared::message::FetchRequest;
use shared::window;
use strata::folder::{Folder, World as Kind};
use strata::operate;
use strata::session::Session;
use tests::{Result, parts, query};
use usgs_simulator::{Catalogue, Running, Simulator};

use super::incremental::{at, event};

const BEGIN: &str = "1600-01-01T00:00:00Z";
const END: &str = "1961-01-01T00:00:00Z";
/// Of events, one or two in a century, and the last one a second before the end.
const TIMES: [&str; 7] = [
    "1600-02-19T05:00:00Z",
    "1601-01-01T00:00:00Z",
    "1755-11-01T09:40:00Z",
    "1811-12-16T08:15:00Z",
    "1906-04-18T13:12:21Z",
    "1960-05-22T19:11:14Z",
    "1960-12-31T23:59:59Z",
];

/// In how many parts the range is asked for: of 366 days, the latest of 31.
const PARTS: usize = 363;

struct Past {
    source: Running,
    temp: tempfile::TempDir,
}

impl Past {
    async fn new() -> Result<Self> {
        let mut catalogue = Catalogue::empty();
        for (number, time) in TIMES.iter().enumerate() {
            let event = event(&format!("ev{number}"), time, 7.0).updated(at("2025-06-30T00:00:00Z"));
            catalogue.add(event, at(time))?;
        }
        let source = Simulator::builder(catalogue).build().serve().await?;
        source.handle().set_now(at("2025-07-01T00:00:00Z"));
        Ok(Self { source, temp: tempfile::tempdir()? })
    }

    async fn session(&self) -> Result<Session> {
        let folder = Folder::open_or_create(self.temp.path(), Kind::Live)?;
        Ok(Session::start(folder, &parts(&self.source.base_url())?).await?)
    }

    /// How many requests a backfill of everything sends, and how many windows it leaves.
    async fn backfill(&self, session: &Session, gaps: bool) -> Result<(usize, usize)> {
        let before = self.source.handle().requests().len();
        operate::backfill(session, "earthquakes", (at(BEGIN), at(END)), gaps).await?;
        session.pipeline.bus.idle().await;
        let open = window::all(&session.folder.store, "earthquakes").await?.len();
        Ok((self.source.handle().requests().len() - before, open))
    }
}

async fn found(session: &Session) -> Result<Vec<String>> {
    query(&session.pipeline, "select event_id from fct_earthquakes order by event_time").await
}

fn all() -> Vec<String> {
    (0..TIMES.len()).map(|number| format!("ev{number}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_centuries_are_read_once_and_a_gap_alone_again() {
    let past = Past::new().await.unwrap();
    let session = past.session().await.unwrap();
    let (requests, open) = past.backfill(&session, false).await.unwrap();
    // Each in three ways, after a tick that asks for the time first: it marks from when on revisions will come.
    assert_eq!(requests, 4 + PARTS * 3);
    assert_eq!((open, found(&session).await.unwrap()), (0, all()));
    assert_eq!(past.backfill(&session, true).await.unwrap(), (0, 0), "there is no gap");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_left_is_known_and_goes_on() {
    let past = Past::new().await.unwrap();
    let session = past.session().await.unwrap();
    let mut events = session.pipeline.bus.events();
    let ask = Ask::Range { start: at(BEGIN), end: at(END) };
    session.pipeline.send(&FetchRequest { dataset: "earthquakes".to_owned(), ask }).await.unwrap();
    let mut fetched = 0;
    while fetched < 20 {
        fetched += usize::from(matches!(events.recv().await, Ok(Event::Delivered { subscription: "fetch", .. })));
    }
    let store = session.folder.store.clone();
    session.stop().await.unwrap();
    let open = window::all(&store, "earthquakes").await.unwrap().len();
    assert!((PARTS - 30..PARTS - 15).contains(&open), "{open}");
    let session = past.session().await.unwrap();
    session.pipeline.bus.idle().await;
    assert_eq!(window::all(&store, "earthquakes").await.unwrap(), []);
    assert_eq!(found(&session).await.unwrap(), all());
    assert_eq!(past.source.handle().requests().len(), PARTS * 3, "what had been done was not done again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_revised_after_a_backfill_comes_with_the_ticks() {
    let past = Past::new().await.unwrap();
    let session = past.session().await.unwrap();
    let range = (at("1960-01-01T00:00:00Z"), at("1960-12-01T00:00:00Z"));
    operate::backfill(&session, "earthquakes", range, false).await.unwrap();
    let handle = past.source.handle();
    let revised = at("2025-07-02T00:00:00Z");
    let better = event("ev5", "1960-05-22T19:11:14Z", 9.5).updated(revised);
    handle.edit(|catalogue| catalogue.add(better, revised)).unwrap();
    handle.set_now(at("2025-07-21T00:00:00Z"));
    operate::tick(&session, "earthquakes", false).await.unwrap();
    assert_eq!(query(&session.pipeline, "select magnitude from fct_earthquakes").await.unwrap(), ["9.5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_still_to_come_is_a_gap() {
    let past = Past::new().await.unwrap();
    let session = past.session().await.unwrap();
    let range = (at("2025-06-25T00:00:00Z"), at("2025-07-10T00:00:00Z"));
    operate::backfill(&session, "earthquakes", range, false).await.unwrap();
    let handle = past.source.handle();
    let before = handle.requests().len();
    operate::backfill(&session, "earthquakes", range, true).await.unwrap();
    let again: Vec<_> = handle.requests().into_iter().skip(before).collect();
    assert_eq!(again.len(), 3, "{again:?}");
    assert_eq!(again[0].parameter("starttime").as_deref(), Some("2025-07-01T00:00:00"));
}
