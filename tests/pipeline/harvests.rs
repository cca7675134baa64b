//! A second dataset, replaced as a whole, through the same services.

use shared::dataset::Ask;
use shared::message::FetchRequest;
use shared::store::Memory;
use strata::pipeline::Pipeline;
use tests::{Result, harvests_pipeline, query};

const FIRST: &str =
    "field,year,crop,tonnes\nhill,2018,rye,3.5\nhill,2019,rye,4\nlake,2019,oats,1.5\nlake,not a year,oats,1\n";
const SECOND: &str = "field,year,crop,tonnes\nhill,2019,rye,4.5\nlake,2020,oats,2\n";

async fn tick(pipeline: &Pipeline) -> Result<()> {
    let ask = Ask::Tick { days: 1, sweep: false };
    pipeline.send(&FetchRequest { dataset: "harvests".to_owned(), ask }).await?;
    pipeline.bus.idle().await;
    assert_eq!(pipeline.bus.dead(), [] as [String; 0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_replaces_the_one_before_and_an_older_one_changes_nothing() {
    let store = Memory::default();
    let (pipeline, file) = harvests_pipeline(&store).await.unwrap();
    let harvests = "select * from gold.fct_harvests order by harvest_year, crop";
    file.replace("Wed, 23 Jul 2025 12:00:00 GMT", FIRST);
    tick(&pipeline).await.unwrap();
    assert_eq!(query(&pipeline, harvests).await.unwrap(), ["2018,rye,3.5", "2019,oats,1.5", "2019,rye,4.0"]);
    file.replace("Thu, 24 Jul 2025 12:00:00 GMT", SECOND);
    tick(&pipeline).await.unwrap();
    let second = ["2019,rye,4.5", "2020,oats,2.0"];
    assert_eq!(query(&pipeline, harvests).await.unwrap(), second, "2018 is gone with its snapshot");
    file.replace("Wed, 23 Jul 2025 12:00:00 GMT", FIRST);
    tick(&pipeline).await.unwrap();
    assert_eq!(query(&pipeline, harvests).await.unwrap(), second, "an older snapshot is not followed");
    let quarantined = shared::ledger::read(&store, "harvests", None).await.unwrap();
    let first = quarantined.iter().find(|it| it.stage == "land").unwrap();
    assert_eq!((first.rows_in, first.rows_kept, first.rows_quarantined), (4, 3, 1));
}
