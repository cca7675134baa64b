//! What Terraform makes and is not there: each service names it, and keeps its message.

use serde_json::Value;
use shared::dataset::Ask;
use shared::message::{CaptureStored, FetchRequest, Mode, PartitionsLanded};
use usgs_simulator::{Catalogue, Simulator};

use super::deployment::Deployment;
use super::program::Service;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/emulators/run starts what it needs"]
async fn what_terraform_has_not_made_is_named() {
    let source = Simulator::builder(Catalogue::from_path(tests::MONTH).unwrap()).build().serve().await.unwrap();
    let mut cloud = Deployment::new(&source.base_url()).await;
    for service in Service::ALL {
        cloud.run(service).await;
    }
    let dataset = "earthquakes".to_owned();
    let tick = FetchRequest { dataset: dataset.clone(), ask: Ask::Tick { days: 1, sweep: false } };
    let bucket = format!("there is no bucket {} (terraform makes it: google_storage_bucket)", cloud.environment.bucket);
    let (status, answer) = cloud.push(Service::Fetch, &tick).await;
    refused(&cloud, Service::Fetch, status, &answer, &bucket).await;

    cloud.make_bucket().await;
    let (status, answer) = cloud.push(Service::Fetch, &tick).await;
    refused(&cloud, Service::Fetch, status, &answer, "-captures (terraform makes it: google_pubsub_topic)").await;

    // The capture is stored before its message is published.
    let manifests = cloud.store.list("raw/earthquakes/").await.unwrap();
    let manifest = manifests.iter().find(|object| object.name.ends_with("/manifest.json")).unwrap();
    let manifest = cloud.store.get(&manifest.name).await.unwrap().unwrap();
    let manifest: shared::capture::Manifest = serde_json::from_slice(&manifest.bytes).unwrap();
    let stored = CaptureStored { dataset: dataset.clone(), capture: manifest.capture };
    let (status, answer) = cloud.push(Service::Land, &stored).await;
    refused(&cloud, Service::Land, status, &answer, ":raw (terraform makes it: google_bigquery_dataset)").await;
    let landed = PartitionsLanded { dataset, partitions: Vec::new(), mode: Mode::Changed };
    let (status, answer) = cloud.push(Service::Transform, &landed).await;
    refused(&cloud, Service::Transform, status, &answer, ":silver (terraform makes it: google_bigquery_dataset)").await;

    // What is made later is enough: the message comes again.
    cloud.make_topics().await;
    cloud.make_datasets().await;
    assert_eq!(cloud.push(Service::Land, &stored).await, (204, Value::Null));
    assert_eq!(cloud.push(Service::Transform, &landed).await, (204, Value::Null));
}

async fn refused(cloud: &Deployment, service: Service, status: u16, answer: &Value, named: &str) {
    assert_eq!(status, 507, "{answer}");
    assert!(answer["error"].as_str().unwrap().contains(named), "{named}: {answer}");
    cloud.program(service).says(|line| line.to_string().contains(named)).await;
}
