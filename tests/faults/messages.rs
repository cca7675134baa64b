//! Messages that can never succeed become dead letters, and the others go on.

use std::collections::BTreeMap;

use shared::bus::Bus;
use shared::dataset::Ask;
use shared::message::{CaptureStored, FetchRequest, Parcel, Topic};
use tests::World;

#[tokio::test(flavor = "multi_thread")]
async fn poison_is_set_aside_with_its_reason() {
    let world = World::month().await.unwrap();
    let nonsense = Parcel { data: "{\"dataset\": 7}".into(), attributes: BTreeMap::new() };
    for topic in [Topic::FetchRequests, Topic::Captures, Topic::Partitions] {
        world.pipeline.bus.send(topic, nonsense.clone()).await.unwrap();
    }
    let ask = Ask::Tick { days: 30, sweep: false };
    world.send(&FetchRequest { dataset: "volcanoes".to_owned(), ask }).await.unwrap();
    let capture = "20250723T151200Z-0123456789abcdef".parse().unwrap();
    world.send(&CaptureStored { dataset: "earthquakes".to_owned(), capture }).await.unwrap();
    let errors: Vec<_> = world.dead().await.unwrap().into_iter().map(|letter| letter.error).collect();
    assert_eq!(errors.len(), 5, "{errors:?}");
    for wanted in ["fetch-requests", "captures", "partitions", "unknown dataset 'volcanoes'", "manifest.json"] {
        assert!(errors.iter().any(|error| error.contains(wanted)), "{wanted}: {errors:?}");
    }
    world.tick().await.unwrap();
    assert_eq!(world.query("select count(*) from fct_earthquakes").await.unwrap(), ["11146"]);
}
