//! The store in a bucket: its suite, and objects that are larger than what is sent at once.

use std::sync::Arc;

use bytes::Bytes;
use cloud::config::BucketName;
use cloud::{Bucket, RETRIES};
use shared::store::{Precondition, Store, StoreError, Upload};

use super::{PROJECT, emulators, make_bucket, own};
use crate::conformance::store::conforms;

/// More than two parts of an upload, and no whole number of anything.
const LARGE: usize = (9 << 20) + 123;

async fn connect(name: &str) -> Bucket {
    let emulators = emulators();
    assert!(emulators.storage.is_some(), "the emulator of Cloud Storage is started by tests/emulators/run");
    Bucket::connect(BucketName::new(name).unwrap(), &emulators, RETRIES).await.unwrap()
}

/// An empty bucket.
async fn bucket() -> Bucket {
    let name = own("lake");
    let bucket = connect(&name).await;
    make_bucket(PROJECT, &name).await;
    bucket
}

fn large() -> Bytes {
    (0..LARGE).map(|at| (at % 251) as u8).collect()
}

async fn upload(bucket: &Bucket, name: &str) -> Box<dyn Upload> {
    let mut upload = bucket.upload(name, Precondition::Absent).await.unwrap();
    let content = large();
    for start in (0..LARGE).step_by(1_000_003) {
        upload.write(content.slice(start..LARGE.min(start + 1_000_003))).await.unwrap();
    }
    upload
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "tests/emulators/run starts what it needs"]
async fn cloud_storage() {
    conforms(Arc::new(bucket().await)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/emulators/run starts what it needs"]
async fn a_large_object_is_sent_in_parts_and_comes_back_whole() {
    let bucket = bucket().await;
    let generation = upload(&bucket, "large").await.finish().await.unwrap();
    let reading = bucket.read("large", None).await.unwrap();
    assert_eq!((reading.metadata.generation, reading.metadata.size), (generation, LARGE as u64));
    assert!(reading.collect().await.unwrap() == large());
    let seam = (4 << 20) - 1..(8 << 20) + 1;
    let part = bucket.read("large", Some(seam.start as u64..seam.end as u64)).await.unwrap();
    assert!(part.collect().await.unwrap() == large().slice(seam));
    let at_once = bucket.put("at-once", large(), Precondition::Absent).await.unwrap();
    let object = bucket.get("at-once").await.unwrap().unwrap();
    assert!(object.generation == at_once && object.bytes == large());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/emulators/run starts what it needs"]
async fn a_large_upload_that_is_dropped_leaves_nothing() {
    let bucket = bucket().await;
    drop(upload(&bucket, "large").await);
    // The next upload of the name is answered after whatever the dropped one still sent.
    upload(&bucket, "large").await.finish().await.unwrap();
    let listed = bucket.list("").await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].size, LARGE as u64);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/emulators/run starts what it needs"]
async fn a_large_upload_that_comes_late_is_a_conflict() {
    let bucket = bucket().await;
    let late = upload(&bucket, "large").await;
    bucket.put("large", "first".into(), Precondition::Absent).await.unwrap();
    assert!(matches!(late.finish().await, Err(StoreError::Conflict { .. })));
    assert_eq!(&bucket.get("large").await.unwrap().unwrap().bytes[..], b"first");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/emulators/run starts what it needs"]
async fn a_bucket_that_does_not_exist_is_named() {
    let name = own("missing");
    let bucket = connect(&name).await;
    let mut upload = bucket.upload("a", Precondition::None).await.unwrap();
    // The refusal of the upload's begin may be known while it is still written.
    let uploaded = match upload.write(large()).await {
        Ok(()) => upload.finish().await.err(),
        error => error.err(),
    };
    let answers = [
        bucket.put("a", "x".into(), Precondition::None).await.err(),
        uploaded,
        bucket.get("a").await.err(),
        bucket.head("a").await.err(),
        bucket.list("a").await.err(),
        bucket.delete("a", Precondition::None).await.err(),
    ];
    for answer in answers {
        let Some(StoreError::Blocked { reason, .. }) = &answer else { panic!("{answer:?}") };
        assert!(reason.contains(&format!("no bucket {name} ")), "{reason}");
    }
}
