//! Models that cannot run: refused with file and line, and what was there before stays.

use std::sync::Arc;

use shared::dataset::{Ask, Registry};
use shared::message::FetchRequest;
use shared::store::Memory;
use strata::pipeline::Pipeline;
use strata::report::dead_letters;
use tests::harvests::{File, Harvests};
use tests::{HARVESTS, Result, parts};
use transform::project::Project;

const HARVEST: &str = "field,year,crop,tonnes\nhill,2018,rye,3.5\n";

/// Runs the harvests' models together with one more, and returns why its run was given up.
async fn refused(model: &str) -> Result<String> {
    let mut files = Vec::new();
    let mut folders = vec![std::path::PathBuf::from(HARVESTS)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(HARVESTS)?.to_string_lossy().replace('\\', "/");
                files.push((name, std::fs::read(&path)?));
            }
        }
    }
    files.push(("models/harvests/gold/wrong.sql".to_owned(), model.as_bytes().to_vec()));
    let store = Memory::default();
    let file = File::default();
    file.replace("Wed, 23 Jul 2025 12:00:00 GMT", HARVEST);
    let mut parts = parts("http://unused.invalid")?;
    parts.datasets = Registry::new([Arc::new(Harvests) as _]);
    parts.project = Arc::new(Project::load(files)?);
    parts.client.addresses.insert("harvests".to_owned(), file.serve().await?);
    let pipeline = Pipeline::new(Arc::new(store.clone()), &parts, "test")?;
    let ask = Ask::Tick { days: 1, sweep: false };
    pipeline.send(&FetchRequest { dataset: "harvests".to_owned(), ask }).await?;
    pipeline.bus.idle().await;
    let letters = dead_letters(&store).await?;
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(tests::query(&pipeline, "select crop from gold.fct_harvests").await?, ["rye"], "the others are built");
    Ok(letters[0].error.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_outside_the_subset_is_refused_with_the_models_file_and_line() {
    let pivot = "{{\n    config(\n        materialized='table'\n    )\n}}\n\nselect *\nfrom {{ ref('stg_harvests') }}\n    \
                 pivot(sum(tonnes) for crop in ('rye'))\n";
    let error = refused(pivot).await.unwrap();
    assert!(error.starts_with("models/harvests/gold/wrong.sql:8:6: ") && error.contains("PIVOT"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_is_not_there_is_named_with_the_models_file_and_line() {
    let misspelt = "select\n    crop,\n    tons\nfrom {{ ref('stg_harvests') }}\n";
    let error = refused(misspelt).await.unwrap();
    assert!(error.starts_with("models/harvests/gold/wrong.sql:3:5: ") && error.contains("tons"), "{error}");
}
