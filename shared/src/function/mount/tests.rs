//! What is read, done and answered, under which terms.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use axum::body::{Bytes, to_bytes};
use axum::http::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::stream;
use tokio::sync::Notify;
use tower::ServiceExt;

use super::*;
use crate::clock::System;
use crate::dataset::Ask;
use crate::function::{Envelope, Grace, serve};
use crate::message::{FORM, FetchRequest, Parcel};
use crate::trace::Trace;

struct Echo(Result<(), Failure>);

#[async_trait]
impl Function for Echo {
    type Input = FetchRequest;
    const NAME: &'static str = "echo";

    async fn handle(&self, _: Received<FetchRequest>) -> Result<(), Failure> {
        self.0.clone()
    }
}

async fn send(router: Router, request: Request<Body>) -> (StatusCode, String) {
    let response = router.oneshot(request).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn push(body: impl Into<Body>, result: Result<(), Failure>) -> (StatusCode, String) {
    send(router(Echo(result), Arc::new(System)), Request::post("/").body(body.into()).unwrap()).await
}

fn envelope() -> Envelope {
    let request = FetchRequest { dataset: "d".into(), ask: Ask::Tick { days: 30, sweep: false } };
    let parcel = Parcel::pack(&request, Trace { id: 1, span: 2 }).unwrap();
    Envelope::new("s", "m1".into(), Timestamp::default(), 1, &parcel)
}

fn good() -> String {
    serde_json::to_string(&envelope()).unwrap()
}

#[tokio::test]
async fn what_the_handler_says_becomes_a_status() {
    let table = [
        (Ok(()), StatusCode::NO_CONTENT),
        (Err(Failure::Transient("x".into())), StatusCode::SERVICE_UNAVAILABLE),
        (Err(Failure::Unreachable("x".into())), StatusCode::SERVICE_UNAVAILABLE),
        (Err(Failure::Blocked("x".into())), StatusCode::INSUFFICIENT_STORAGE),
        (Err(Failure::Poison("x".into())), StatusCode::UNPROCESSABLE_ENTITY),
    ];
    for (result, status) in table {
        assert_eq!(push(good(), result.clone()).await.0, status, "{result:?}");
    }
}

#[tokio::test]
async fn a_malformed_push_is_400_with_one_sentence() {
    let mut not_base64 = envelope();
    not_base64.message.data = "%".into();
    let mut not_ours = envelope();
    not_ours.message.data = BASE64.encode("{\"dataset\":1}");
    let mut from_the_future = envelope();
    from_the_future.message.attributes.insert(FORM.into(), "2".into());
    let bodies = [
        String::new(),
        "[]".into(),
        "{\"message\":{}}".into(),
        "\u{0}".into(),
        serde_json::to_string(&not_base64).unwrap(),
        serde_json::to_string(&not_ours).unwrap(),
        serde_json::to_string(&from_the_future).unwrap(),
    ];
    for body in bodies {
        let (status, answer) = push(body.clone(), Ok(())).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        let problem: Problem = serde_json::from_str(&answer).unwrap();
        assert_eq!(problem.kind, FailureKind::Poison);
        assert!(!problem.error.contains('\n') && problem.error.len() < 300, "{answer}");
    }
}

/// A body of so many MiB that counts what is taken of it.
fn counted(mebibytes: usize) -> (Body, Arc<AtomicUsize>) {
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&taken);
    let pieces = stream::iter(0..mebibytes).map(move |_| {
        counter.fetch_add(1 << 20, Ordering::SeqCst);
        Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 1 << 20]))
    });
    (Body::from_stream(pieces), taken)
}

#[tokio::test]
async fn sixty_megabytes_are_refused_without_being_read() {
    let (body, taken) = counted(60);
    let request = Request::post("/").header(header::CONTENT_LENGTH, 60 << 20).body(body).unwrap();
    let (status, answer) = send(router(Echo(Ok(())), Arc::new(System)), request).await;
    assert_eq!((status, taken.load(Ordering::SeqCst)), (StatusCode::PAYLOAD_TOO_LARGE, 0));
    let problem: Problem = serde_json::from_str(&answer).unwrap();
    assert_eq!(problem.kind, FailureKind::Poison);

    let (body, taken) = counted(60);
    assert_eq!(push(body, Ok(())).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    let taken = taken.load(Ordering::SeqCst);
    assert!(taken <= LARGEST_BODY + (1 << 20), "{taken} bytes were read of a body that does not say how long it is");
}

#[tokio::test]
async fn a_body_that_breaks_off_may_come_again() {
    let pieces = [Ok(Bytes::from("{")), Err(std::io::Error::other("reset"))];
    assert_eq!(push(Body::from_stream(stream::iter(pieces)), Ok(())).await.0, StatusCode::SERVICE_UNAVAILABLE);
}

/// Says when it begins, waits until it is let go, and notes whether it was cut off.
#[derive(Clone, Default)]
struct Slow {
    begun: Arc<Notify>,
    go: Arc<Notify>,
    running: Arc<AtomicUsize>,
    calls: Arc<AtomicUsize>,
}

struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Function for Slow {
    type Input = FetchRequest;
    const NAME: &'static str = "slow";

    async fn handle(&self, _: Received<FetchRequest>) -> Result<(), Failure> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.running.fetch_add(1, Ordering::SeqCst);
        let _running = Running(Arc::clone(&self.running));
        self.begun.notify_one();
        self.go.notified().await;
        Ok(())
    }
}

struct Says(Result<(), NotAdmitted>);

#[async_trait]
impl Admission for Says {
    async fn admit(&self, _: &HeaderMap) -> Result<(), NotAdmitted> {
        self.0.clone()
    }
}

#[tokio::test]
async fn who_is_not_admitted_is_not_read_and_learns_nothing() {
    let table = [
        (NotAdmitted::Unverified("the inner reason".into()), StatusCode::UNAUTHORIZED),
        (NotAdmitted::Unchecked("the inner reason".into()), StatusCode::SERVICE_UNAVAILABLE),
    ];
    for (refusal, expected) in table {
        let slow = Slow::default();
        let terms = Terms { admission: Some(Arc::new(Says(Err(refusal)))), ..Terms::default() };
        let router = router_with(slow.clone(), Arc::new(System), terms);
        let (body, taken) = counted(1);
        let (status, answer) = send(router.clone(), Request::post("/").body(body).unwrap()).await;
        assert_eq!((status, taken.load(Ordering::SeqCst)), (expected, 0));
        assert!(!answer.contains("inner reason"), "{answer}");
        assert_eq!(slow.calls.load(Ordering::SeqCst), 0);
        let health = send(router, Request::get("/healthz").body(Body::empty()).unwrap()).await;
        assert_eq!(health, (StatusCode::OK, "ok".to_owned()), "who asks for health proves nothing");
    }
    let terms = Terms { admission: Some(Arc::new(Says(Ok(())))), ..Terms::default() };
    let router = router_with(Echo(Ok(())), Arc::new(System), terms);
    assert_eq!(send(router, Request::post("/").body(good().into()).unwrap()).await.0, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn what_passes_its_deadline_is_ended_and_may_come_again() {
    let slow = Slow::default();
    let terms = Terms { deadline: Some(Duration::from_millis(20)), ..Terms::default() };
    let router = router_with(slow.clone(), Arc::new(System), terms);
    let (status, answer) = send(router, Request::post("/").body(good().into()).unwrap()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.contains("0.02 s") && answer.contains("transient"), "{answer}");
    assert_eq!((slow.calls.load(Ordering::SeqCst), slow.running.load(Ordering::SeqCst)), (1, 0));
}

#[tokio::test]
async fn beyond_the_limit_requests_wait_unread() {
    let slow = Slow::default();
    let router = router_with(slow.clone(), Arc::new(System), Terms { at_once: 1, ..Terms::default() });
    let first = tokio::spawn(send(router.clone(), Request::post("/").body(good().into()).unwrap()));
    slow.begun.notified().await;

    let read = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&read);
    let body = stream::once(async move {
        seen.store(true, Ordering::SeqCst);
        Ok::<_, std::io::Error>(Bytes::from(good()))
    });
    let mut second = std::pin::pin!(send(router, Request::post("/").body(Body::from_stream(body)).unwrap()));
    assert!(futures::poll!(&mut second).is_pending());
    assert!(!read.load(Ordering::SeqCst), "its turn has not come");

    slow.go.notify_one();
    assert_eq!(first.await.unwrap().0, StatusCode::NO_CONTENT);
    slow.go.notify_one();
    assert_eq!(second.await.0, StatusCode::NO_CONTENT);
    assert!(read.load(Ordering::SeqCst));
}

/// A service behind a real socket.
struct Served {
    slow: Slow,
    address: std::net::SocketAddr,
    stop: CancellationToken,
    ended: tokio::task::JoinHandle<std::io::Result<()>>,
}

async fn served(work: Duration) -> Served {
    let slow = Slow::default();
    let hand_back = CancellationToken::new();
    let terms = Terms { hand_back: hand_back.clone(), ..Terms::default() };
    let router = router_with(slow.clone(), Arc::new(System), terms);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let grace = Grace { work, answers: Duration::from_secs(5) };
    let ended = tokio::spawn(serve(listener, router, stop.clone().cancelled_owned(), hand_back, grace));
    Served { slow, address, stop, ended }
}

/// The first line and the rest of an answer.
async fn post_to(address: std::net::SocketAddr) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let body = good();
    let head = format!("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn when_it_must_end_work_under_way_is_finished_and_nothing_new_begins() {
    let served = served(Duration::from_secs(60)).await;
    let under_way = tokio::spawn(post_to(served.address));
    served.slow.begun.notified().await;
    served.stop.cancel();
    // The listener is closed before the work is done.
    while tokio::net::TcpStream::connect(served.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!served.ended.is_finished());
    served.slow.go.notify_one();
    let answer = under_way.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    served.ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn work_that_takes_longer_than_the_grace_is_handed_back() {
    let served = served(Duration::from_millis(20)).await;
    let under_way = tokio::spawn(post_to(served.address));
    served.slow.begun.notified().await;
    served.stop.cancel();
    let answer = under_way.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("hands the message back"), "{answer}");
    served.ended.await.unwrap().unwrap();
    assert_eq!(served.slow.running.load(Ordering::SeqCst), 0, "the work was cut off");
}
