//! How late events are published, and how late gold has them.

use std::time::Duration;

use shared::datasets::Earthquakes;
use strata::lateness::{Lateness, Percentiles};
use tests::World;

use super::incremental::{at, equals_a_rebuild, event, revise, three_events};

async fn lateness(world: &World) -> Option<Lateness> {
    let records = world.ledger("earthquakes").await.unwrap();
    Lateness::read(&*world.pipeline.data.warehouse, &Earthquakes::default(), &records).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn lateness_is_of_the_first_version_of_what_happened_since_the_first_run() {
    let world = three_events().await.unwrap();
    assert_eq!(lateness(&world).await, None, "what is older was not waited for");
    // Published five and six minutes after they happened, 30 and 29 before the tick.
    for (id, happened, published, tick) in [
        ("ak4", "2025-07-23T12:50:00Z", "2025-07-23T12:55:00Z", "2025-07-23T13:25:00Z"),
        ("ak5", "2025-07-23T13:20:00Z", "2025-07-23T13:26:00Z", "2025-07-23T13:55:00Z"),
    ] {
        let new = event(id, happened, 1.0).updated(at(published));
        world.handle().edit(|catalogue| catalogue.add(new, at(published))).unwrap();
        world.handle().set_now(at(tick));
        world.tick().await.unwrap();
    }
    revise(&world, event("ak4", "2025-07-23T12:50:00Z", 2.0)).await.unwrap();
    world.handle().advance(Duration::from_secs(1800));
    world.tick().await.unwrap();
    equals_a_rebuild(&world).await;
    let found = lateness(&world).await.unwrap();
    assert_eq!(found.to_published, Percentiles { count: 2, p50: 300, p90: 360, p99: 360, max: 360 });
    // And what our own work took, which is less than a minute.
    let to_gold = found.to_gold.unwrap();
    assert_eq!(to_gold.count, 2);
    assert!((1740..1800).contains(&to_gold.p50) && (1800..1860).contains(&to_gold.max), "{to_gold:?}");
}
