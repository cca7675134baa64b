//! A day again, from wherever: the tables are the same row for row.

use chrono::NaiveDate;
use shared::store::{Precondition, Store};
use strata::folder::{Folder, World as Kind};
use strata::replay;
use strata::session::Session;
use tests::{Result, parts, query, tables};
use usgs_simulator::{Catalogue, Running, Simulator};

struct Replayed {
    session: Session,
    dataset: std::sync::Arc<dyn shared::dataset::Dataset>,
    _source: Running,
    _temp: tempfile::TempDir,
}

const DAY: &str = "2025-07-20";

impl Replayed {
    /// The recorded month, landed into a folder.
    async fn new() -> Result<Self> {
        let temp = tempfile::tempdir()?;
        let source = Simulator::builder(Catalogue::from_path(tests::MONTH)?).build().serve().await?;
        let parts = parts(&source.base_url())?;
        let folder = Folder::open_or_create(temp.path(), Kind::Live)?;
        let session = Session::start(folder, &parts).await?;
        strata::operate::tick(&session, "earthquakes", false).await?;
        let dataset = std::sync::Arc::clone(parts.datasets.get("earthquakes")?);
        Ok(Self { session, dataset, _source: source, _temp: temp })
    }

    async fn replay(&self, from: strata::cli::From) -> Result<()> {
        let day: NaiveDate = DAY.parse()?;
        match from {
            strata::cli::From::Source => strata::operate::replay_source(&self.session, "earthquakes", day).await?,
            strata::cli::From::Raw => replay::from_raw(&self.session, &*self.dataset, day).await?,
            strata::cli::From::Bronze => replay::from_bronze(&self.session, &*self.dataset, day).await?,
        };
        self.session.pipeline.bus.idle().await;
        assert_eq!(self.session.pipeline.bus.dead(), [] as [String; 0]);
        Ok(())
    }

    async fn overwrite(&self, name: &str) -> Result<()> {
        let store = &self.session.folder.store;
        assert!(store.head(name).await?.is_some(), "{name}");
        store.put(name, "damage".into(), Precondition::None).await?;
        Ok(())
    }

    async fn first_object(&self, prefix: &str, ending: &str) -> Result<String> {
        let objects = self.session.folder.store.list(prefix).await?;
        let found = objects.into_iter().find(|object| object.name.ends_with(ending));
        Ok(found.ok_or("no such object")?.name)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_changes_no_table_from_wherever_it_is() {
    let world = Replayed::new().await.unwrap();
    let before = tables(&world.session.pipeline).await.unwrap();
    assert!(before["gold.fct_earthquakes"].len() == 11_146);
    for from in [strata::cli::From::Raw, strata::cli::From::Bronze, strata::cli::From::Source] {
        world.replay(from).await.unwrap();
        assert_eq!(tables(&world.session.pipeline).await.unwrap(), before, "{from:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_bronze_partition_is_named_and_rebuilt_from_raw() {
    let world = Replayed::new().await.unwrap();
    let before = tables(&world.session.pipeline).await.unwrap();
    let name = format!("bronze/earthquakes/date={DAY}/events.parquet");
    let intact = world.session.folder.store.get(&name).await.unwrap().unwrap().bytes;
    world.overwrite(&name).await.unwrap();
    world.replay(strata::cli::From::Raw).await.unwrap();
    assert_eq!(world.session.folder.store.get(&name).await.unwrap().unwrap().bytes, intact, "byte for byte");
    assert_eq!(tables(&world.session.pipeline).await.unwrap(), before);
    let aside = world.session.folder.store.list("quarantine/earthquakes/damaged/").await.unwrap();
    assert_eq!(aside.len(), 1, "what was damaged is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuilt_partition_has_the_rows_of_every_capture_also_of_those_that_changed_nothing() {
    let world = Replayed::new().await.unwrap();
    let ask = |start: &str, end: &str| (start.parse().unwrap(), end.parse().unwrap());
    // Two captures overlap in the day, and the second brings nothing that the first has not.
    for (start, end) in
        [ask("2025-07-19T00:00:00Z", "2025-07-20T12:00:00Z"), ask("2025-07-20T06:00:00Z", "2025-07-21T00:00:00Z")]
    {
        strata::operate::backfill(&world.session, "earthquakes", (start, end), false).await.unwrap();
    }
    let before = tables(&world.session.pipeline).await.unwrap();
    // The first capture is lost: the two others still hold the day.
    let first = world.first_object("raw/earthquakes/", "manifest.json").await.unwrap();
    world.session.folder.store.delete(&first, Precondition::None).await.unwrap();
    world.overwrite(&format!("bronze/earthquakes/date={DAY}/events.parquet")).await.unwrap();
    world.replay(strata::cli::From::Raw).await.unwrap();
    let day = |tables: &std::collections::BTreeMap<String, Vec<String>>| {
        let rows = tables["gold.fct_earthquakes"].iter();
        rows.filter(|row| row.contains(DAY)).cloned().collect::<Vec<_>>()
    };
    assert!(day(&before).len() > 100);
    assert_eq!(day(&tables(&world.session.pipeline).await.unwrap()), day(&before));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_of_a_table_is_named_and_rebuilt() {
    for table in ["raw/earthquakes", "silver/stg_earthquakes", "gold/fct_earthquakes"] {
        let world = Replayed::new().await.unwrap();
        let before = tables(&world.session.pipeline).await.unwrap();
        // The file of July, which holds the day.
        let prefix = format!("warehouse/{table}/2025-07");
        let file = world.first_object(&prefix, ".parquet").await.unwrap();
        world.overwrite(&file).await.unwrap();
        let sql = format!("select * from {}", table.replace('/', "."));
        let error = query(&world.session.pipeline, &sql).await.unwrap_err().to_string();
        assert!(error.contains(&file), "{error}");
        let from = if table.starts_with("gold") { strata::cli::From::Raw } else { strata::cli::From::Bronze };
        world.replay(from).await.unwrap();
        assert_eq!(tables(&world.session.pipeline).await.unwrap(), before, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_manifest_of_a_table_is_named_and_rebuilt() {
    for table in ["raw/earthquakes", "silver/stg_earthquakes", "gold/fct_earthquakes"] {
        let world = Replayed::new().await.unwrap();
        let before = tables(&world.session.pipeline).await.unwrap();
        let file = format!("warehouse/{table}/manifest.json");
        world.overwrite(&file).await.unwrap();
        let sql = format!("select * from {}", table.replace('/', "."));
        let error = query(&world.session.pipeline, &sql).await.unwrap_err().to_string();
        assert!(error.contains(&file), "{error}");
        world.replay(strata::cli::From::Bronze).await.unwrap();
        assert_eq!(tables(&world.session.pipeline).await.unwrap(), before, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_warehouse_comes_back_whole_with_the_replay_of_one_day() {
    let world = Replayed::new().await.unwrap();
    let before = tables(&world.session.pipeline).await.unwrap();
    std::fs::remove_dir_all(world.session.folder.path.join("warehouse")).unwrap();
    world.replay(strata::cli::From::Bronze).await.unwrap();
    assert_eq!(tables(&world.session.pipeline).await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_warehouse_is_made_again_by_whatever_runs_next() {
    let world = Replayed::new().await.unwrap();
    let before = tables(&world.session.pipeline).await.unwrap();
    std::fs::remove_dir_all(world.session.folder.path.join("warehouse")).unwrap();
    strata::replay::recover(&world.session.pipeline, &tests::parts("http://unused.invalid").unwrap().datasets)
        .await
        .unwrap();
    assert_eq!(tables(&world.session.pipeline).await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_damaged_does_not_keep_the_others_from_being_read() {
    let world = Replayed::new().await.unwrap();
    let before = tables(&world.session.pipeline).await.unwrap();
    let day = "2025-07-20T00:00:00Z".parse().unwrap();
    let range = (day, day + chrono::TimeDelta::days(1));
    strata::operate::backfill(&world.session, "earthquakes", range, false).await.unwrap();
    for (prefix, ending) in [("raw/earthquakes/", "manifest.json"), ("ledger/earthquakes/", ".json")] {
        let name = world.first_object(prefix, ending).await.unwrap();
        world.overwrite(&name).await.unwrap();
    }
    world.replay(strata::cli::From::Raw).await.unwrap();
    assert_eq!(tables(&world.session.pipeline).await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_answer_is_refused_whole_and_fetched_again() {
    let world = Replayed::new().await.unwrap();
    let before = tables(&world.session.pipeline).await.unwrap();
    let answer = world.first_object("raw/earthquakes/", "events.csv.gz").await.unwrap();
    world.overwrite(&answer).await.unwrap();
    world.replay(strata::cli::From::Raw).await.unwrap();
    assert_eq!(tables(&world.session.pipeline).await.unwrap(), before);
    let captures = world.session.folder.store.list("raw/earthquakes/").await.unwrap();
    assert_eq!(captures.iter().filter(|it| it.name.ends_with("manifest.json")).count(), 2);
}
