//! What a bucket makes of what Cloud Storage may answer: what is tried again and how often, what is an error and of
//! which kind, and that damaged content is not taken for content.

#![allow(clippy::unwrap_used, reason = "these are parts of tests")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cloud::config::{BucketName, Emulators, Topics};
use cloud::{Bucket, PubSub};
use futures::{StreamExt, TryStreamExt, stream};
use shared::bus::Bus;
use shared::message::{Parcel, Topic};
use shared::retry::Backoff;
use shared::store::{Generation, Precondition, Store, StoreError};
use tokio::sync::Notify;

const QUICK: Backoff = Backoff { first: Duration::from_millis(1), longest: Duration::from_millis(2), attempts: 3 };
const CONTENT: &str = "hello";
const CHECKSUM: &str = "mnG7TA==";
const ANOTHER_CHECKSUM: &str = "AAAAAA==";

/// A request as the service saw it: query and headers.
type Seen = Arc<Mutex<Vec<(String, HeaderMap)>>>;

/// A service that answers the n-th request, from 0, as it is told.
async fn service<F>(answer: F) -> (Bucket, Seen)
where
    F: Fn(usize, &HeaderMap) -> Response + Clone + Send + Sync + 'static,
{
    let seen = Seen::default();
    let notes = Arc::clone(&seen);
    let router = Router::new().fallback(move |request: Request| async move {
        let (parts, body) = request.into_parts();
        axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let number = {
            let mut notes = notes.lock().unwrap();
            notes.push((parts.uri.query().unwrap_or_default().to_owned(), parts.headers.clone()));
            notes.len() - 1
        };
        answer(number, &parts.headers)
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (bucket(&address).await, seen)
}

async fn bucket(address: &str) -> Bucket {
    let emulators = Emulators::from_variables(|name| name.starts_with("STORAGE").then(|| address.to_owned())).unwrap();
    Bucket::connect(BucketName::new("lake").unwrap(), &emulators, QUICK).await.unwrap()
}

fn content(checksum: &str, content: impl Into<Body>) -> Response {
    let headers = [
        ("x-goog-generation", "7"),
        ("x-goog-stored-content-length", "5"),
        ("x-goog-hash", &format!("crc32c={checksum}")),
    ];
    (headers, content.into()).into_response()
}

fn partial(text: &'static str, range: &'static str) -> Response {
    let mut response = content(CHECKSUM, text);
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    response.headers_mut().insert(header::CONTENT_RANGE, range.parse().unwrap());
    response
}

async fn read(bucket: &Bucket) -> Result<Bytes, StoreError> {
    let reading = bucket.read("a", None).await?;
    assert_eq!((reading.metadata.generation, reading.metadata.size), (Generation(7), 5));
    reading.collect().await
}

async fn put(bucket: &Bucket, precondition: Precondition) -> Result<Generation, StoreError> {
    bucket.put("a", CONTENT.into(), precondition).await
}

fn written(checksum: &str) -> Response {
    let object = format!(
        r#"{{"name": "a", "bucket": "lake", "generation": "7", "size": "5", "crc32c": "{checksum}", "metageneration": "1"}}"#
    );
    ([(header::CONTENT_TYPE, "application/json")], object).into_response()
}

fn kind(error: &StoreError) -> &'static str {
    match error {
        StoreError::NotFound { .. } => "not found",
        StoreError::Conflict { .. } => "conflict",
        StoreError::Transient { .. } => "transient",
        StoreError::Blocked { .. } => "blocked",
        StoreError::Permanent { .. } => "permanent",
    }
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    let statuses = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS];
    let (bucket, seen) = service(move |number, _| match statuses.get(number) {
        Some(status) => status.into_response(),
        None => content(CHECKSUM, CONTENT),
    })
    .await;
    assert_eq!(read(&bucket).await.unwrap(), CONTENT);
    assert_eq!(seen.lock().unwrap().len(), 3);
    for precondition in [Precondition::None, Precondition::Is(Generation(3))] {
        let (bucket, seen) = service(move |number, _| match statuses.get(number) {
            Some(status) => status.into_response(),
            None => written(CHECKSUM),
        })
        .await;
        assert_eq!(put(&bucket, precondition).await.unwrap(), Generation(7));
        assert_eq!(seen.lock().unwrap().len(), 3, "{precondition:?}");
    }
}

#[tokio::test]
async fn each_refusal_has_its_kind_and_its_number_of_attempts() {
    let no_bucket = "The specified bucket does not exist.";
    let table = [
        (StatusCode::SERVICE_UNAVAILABLE, "", "transient", "transient", 3),
        (StatusCode::TOO_MANY_REQUESTS, "", "transient", "transient", 3),
        (StatusCode::UNAUTHORIZED, "", "blocked", "blocked", 1),
        (StatusCode::FORBIDDEN, "", "blocked", "blocked", 1),
        (StatusCode::BAD_REQUEST, "", "permanent", "permanent", 1),
        (StatusCode::PRECONDITION_FAILED, "", "conflict", "conflict", 1),
        (StatusCode::NOT_FOUND, "No such object: lake/a", "not found", "transient", 1),
        (StatusCode::NOT_FOUND, no_bucket, "blocked", "blocked", 1),
    ];
    for (status, text, of_read, of_write, attempts) in table {
        let (bucket, seen) = service(move |_, _| (status, text).into_response()).await;
        let error = read(&bucket).await.unwrap_err();
        assert_eq!((kind(&error), seen.lock().unwrap().len()), (of_read, attempts), "read: {status} {text}: {error}");
        let error = put(&bucket, Precondition::Absent).await.unwrap_err();
        assert_eq!((kind(&error), seen.lock().unwrap().len()), (of_write, 2 * attempts), "write: {status}: {error}");
        assert_eq!(error.to_string().contains("no bucket lake"), text == no_bucket, "{error}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}

#[tokio::test]
async fn an_upload_that_is_refused_at_its_start_says_so_at_its_end() {
    let table = [(StatusCode::PRECONDITION_FAILED, "conflict", true), (StatusCode::FORBIDDEN, "blocked", false)];
    for (status, of_upload, to_the_end) in table {
        let (bucket, seen) = service(move |_, _| status.into_response()).await;
        let mut upload = bucket.upload("a", Precondition::Absent).await.unwrap();
        let mut written = Ok(());
        // Each is more than is held back, so that the answer to the first is known before the last.
        for _ in 0..4 {
            if written.is_ok() {
                written = upload.write(vec![b'x'; 5 << 20].into()).await;
            }
        }
        assert_eq!(written.is_ok(), to_the_end, "{status}: {written:?}");
        let error = match written {
            Ok(()) => upload.finish().await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(kind(&error), of_upload, "{error}");
        assert_eq!(seen.lock().unwrap().len(), 1);
    }
}

/// Cloud Storage asks for leave to delete before it looks at the precondition, so that who may only create hears 403 of
/// the echo of its own write.
#[tokio::test]
async fn leave_to_delete_is_asked_for_where_a_name_is_taken() {
    let taken = "fetch@p.iam.gserviceaccount.com does not have storage.objects.delete access to the object.";
    for text in [taken, "fetch@p.iam.gserviceaccount.com does not have storage.objects.create access to the object."] {
        let (bucket, _) = service(move |_, _| (StatusCode::FORBIDDEN, text).into_response()).await;
        for (precondition, to_be_free) in [(Precondition::Absent, true), (Precondition::Is(Generation(3)), false)] {
            let expected = if to_be_free && text == taken { "conflict" } else { "blocked" };
            let error = put(&bucket, precondition).await.unwrap_err();
            assert_eq!(kind(&error), expected, "{precondition:?}: {error}");
            let mut upload = bucket.upload("a", precondition).await.unwrap();
            let error = match upload.write(vec![b'x'; 5 << 20].into()).await {
                Ok(()) => upload.finish().await.unwrap_err(),
                Err(error) => error,
            };
            assert_eq!(kind(&error), expected, "{precondition:?}: {error}");
        }
    }
}

#[tokio::test]
async fn a_service_that_is_not_there_is_transient() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let bucket = bucket(&address).await;
    let errors = [
        read(&bucket).await.err(),
        put(&bucket, Precondition::None).await.err(),
        bucket.head("a").await.err(),
        bucket.list("a").await.err(),
        bucket.delete("a", Precondition::None).await.err(),
    ];
    for error in errors {
        let error = error.unwrap();
        assert_eq!(kind(&error), "transient", "{error}");
    }
}

#[tokio::test]
async fn damaged_content_is_an_error() {
    let (bucket, _) = service(|_, _| content(ANOTHER_CHECKSUM, CONTENT)).await;
    let error = read(&bucket).await.unwrap_err();
    assert!(error.to_string().contains("checksum"), "{error}");
    assert_eq!(kind(&error), "transient", "{error}");
    let (bucket, _) = service(|_, _| written(ANOTHER_CHECKSUM)).await;
    let error = put(&bucket, Precondition::Absent).await.unwrap_err();
    assert!(error.to_string().contains("checksum"), "{error}");
    assert_eq!(kind(&error), "transient", "{error}");
}

#[tokio::test]
async fn a_read_that_breaks_off_goes_on_in_its_generation() {
    let read_so_far = Arc::new(Notify::new());
    let cut = Arc::clone(&read_so_far);
    let (bucket, seen) = service(move |number, headers| {
        if number == 0 {
            let cut = Arc::clone(&cut);
            let cut = async move {
                cut.notified().await;
                Err(std::io::Error::other("cut"))
            };
            let broken = stream::once(async { Ok("hel") }).chain(stream::once(cut));
            let mut response = content(CHECKSUM, Body::from_stream(broken));
            response.headers_mut().insert(header::CONTENT_LENGTH, 5.into());
            return response;
        }
        assert_eq!(headers[header::RANGE], "bytes=3-4");
        partial("lo", "bytes 3-4/5")
    })
    .await;
    let mut chunks = bucket.read("a", None).await.unwrap().chunks;
    assert_eq!(chunks.try_next().await.unwrap().unwrap(), "hel");
    read_so_far.notify_one();
    assert_eq!(chunks.try_next().await.unwrap().unwrap(), "lo");
    assert_eq!(chunks.try_next().await.unwrap(), None);
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    assert!(seen[1].0.contains("generation=7"), "{}", seen[1].0);
}

#[tokio::test]
async fn a_range_beyond_the_end_is_refused() {
    let (bucket, _) = service(|_, _| partial("lo", "bytes 3-4/5")).await;
    let error = bucket.read("a", Some(3..6)).await.err().unwrap();
    assert_eq!(error.to_string(), "read of object a is not possible: the bytes are beyond its end at 5");
    let (bucket, _) = service(|_, _| StatusCode::RANGE_NOT_SATISFIABLE.into_response()).await;
    let error = bucket.read("a", Some(5..6)).await.err().unwrap();
    assert_eq!(kind(&error), "permanent", "{error}");
}

#[tokio::test]
async fn clients_for_google_itself_can_be_made() {
    let name = BucketName::new("lake").unwrap();
    Bucket::connect(name, &Emulators::default(), QUICK).await.unwrap();
    PubSub::connect(Topics::new("project", "").unwrap(), &Emulators::default(), QUICK).await.unwrap();
}

#[tokio::test]
async fn a_publish_that_nobody_confirms_is_an_error() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let emulators = Emulators::from_variables(|name| name.starts_with("PUBSUB").then(|| address.clone())).unwrap();
    let bus = PubSub::connect(Topics::new("project", "").unwrap(), &emulators, QUICK).await.unwrap();
    let parcel = Parcel { data: "{}".into(), attributes: [].into() };
    let error = bus.send(Topic::Captures, parcel).await.unwrap_err();
    assert_eq!(error.topic, Topic::Captures);
    assert!(error.reason.contains("connect"), "{error}");
}
