//! Pushes with tokens of all kinds, as a service meets them: keys on loopback, signatures made here.

#![allow(clippy::unwrap_used, reason = "these are parts of tests")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use cloud::service::settings::Push;
use cloud::token::PushTokens;
use push_tokens::{Signer, header};
use serde_json::{Value, json};
use shared::clock::{Clock, System};
use shared::dataset::Ask;
use shared::function::{Admission, Envelope, Failure, Function, Received, Terms, router_with};
use shared::message::{FetchRequest, Parcel};
use shared::trace::Trace;
use tower::ServiceExt;

const AUDIENCE: &str = "https://fetch.example";
const ACCOUNT: &str = "push@p.iam.gserviceaccount.com";

/// Claims as Pub/Sub's tokens have them, with one of them different or, when it is null, not there.
fn claims(name: &str, value: Value) -> Value {
    let mut claims = push_tokens::claims(AUDIENCE, ACCOUNT, System.now().timestamp());
    let all = claims.as_object_mut().unwrap();
    if value.is_null() {
        all.remove(name)
    } else {
        all.insert(name.to_owned(), value)
    };
    claims
}

fn right() -> Value {
    claims("x", Value::Null)
}

/// Counts what it is given to do.
#[derive(Clone, Default)]
struct Counts(Arc<AtomicUsize>);

#[async_trait]
impl Function for Counts {
    type Input = FetchRequest;
    const NAME: &'static str = "counts";

    async fn handle(&self, _: Received<FetchRequest>) -> Result<(), Failure> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

async fn listen(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

/// A service that checks tokens with these keys.
struct Service {
    admission: Arc<PushTokens>,
    handled: Counts,
    router: Router,
}

impl Service {
    fn new(keys: String) -> Self {
        let push = Push { audience: AUDIENCE.into(), account: ACCOUNT.into(), keys: Some(keys) };
        let clock = Arc::new(System);
        let admission = Arc::new(PushTokens::new(push, clock.clone()));
        let handled = Counts::default();
        let terms = Terms { admission: Some(admission.clone()), ..Terms::default() };
        Self { router: router_with(handled.clone(), clock, terms), admission, handled }
    }

    async fn with_key(signer: &Signer) -> Self {
        let keys = signer.keys();
        let address = listen(Router::new().route("/keys", get(move || async move { Json(keys) }))).await;
        Self::new(format!("http://{address}/keys"))
    }

    /// Pushes with these Authorization headers. Returns the status, the answer, and how much was handled by it.
    async fn push(&self, authorization: &[&str]) -> (StatusCode, String, usize) {
        let before = self.handled.0.load(Ordering::SeqCst);
        let message = FetchRequest { dataset: "d".into(), ask: Ask::Recent };
        let parcel = Parcel::pack(&message, Trace { id: 1, span: 2 }).unwrap();
        let envelope = Envelope::new("s", "m1".into(), System.now(), 1, &parcel);
        let mut request = Request::post("/");
        for said in authorization {
            request = request.header(header::AUTHORIZATION, *said);
        }
        let request = request.body(Body::from(serde_json::to_vec(&envelope).unwrap())).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let handled = self.handled.0.load(Ordering::SeqCst) - before;
        (status, String::from_utf8(body.to_vec()).unwrap(), handled)
    }

    async fn refuses(&self, what: &str, authorization: &[&str]) {
        let (status, answer, handled) = self.push(authorization).await;
        assert_eq!((status, handled), (StatusCode::UNAUTHORIZED, 0), "{what}: {answer}");
        assert_eq!(answer, r#"{"kind":"blocked","error":"the request is not admitted"}"#, "{what}");
        let mut headers = HeaderMap::new();
        for said in authorization {
            headers.append(header::AUTHORIZATION, said.parse().unwrap());
        }
        let logged = self.admission.admit(&headers).await.unwrap_err().to_string();
        for piece in authorization.iter().flat_map(|said| said.split([' ', '.'])).filter(|piece| piece.len() > 8) {
            assert!(!logged.contains(piece), "{what}: what is logged holds a piece of the token: {logged}");
        }
    }
}

#[tokio::test]
async fn a_right_token_is_admitted() {
    let signer = Signer::default();
    let service = Service::with_key(&signer).await;
    for token in [
        signer.sign(&header(), &right()),
        signer.sign(&header(), &claims("iss", json!("accounts.google.com"))),
        signer.sign(&header(), &claims("nbf", json!(System.now().timestamp()))),
    ] {
        let (status, answer, handled) = service.push(&[&format!("Bearer {token}")]).await;
        assert_eq!((status, handled), (StatusCode::NO_CONTENT, 1), "{answer}");
    }
}

#[tokio::test]
async fn a_token_with_one_wrong_or_missing_claim_is_refused() {
    let signer = Signer::default();
    let service = Service::with_key(&signer).await;
    let now = System.now().timestamp();
    let table = [
        ("aud", json!("https://land.example")),
        ("aud", json!([AUDIENCE, "https://land.example"])),
        ("aud", Value::Null),
        ("iss", json!("https://accounts.example")),
        ("iss", Value::Null),
        ("email", json!("other@p.iam.gserviceaccount.com")),
        ("email", Value::Null),
        ("email_verified", json!(false)),
        ("email_verified", json!("true")),
        ("email_verified", Value::Null),
        ("exp", json!(now - 60)),
        ("exp", Value::Null),
        ("nbf", json!(now + 60)),
        ("iat", json!(now + 60)),
        ("iat", Value::Null),
    ];
    for (name, value) in table {
        let token = signer.sign(&header(), &claims(name, value.clone()));
        service.refuses(&format!("{name} {value}"), &[&format!("Bearer {token}")]).await;
    }
}

#[tokio::test]
async fn what_is_not_signed_by_a_known_key_is_refused() {
    let signer = Signer::default();
    let service = Service::with_key(&signer).await;
    let token = signer.sign(&header(), &right());
    let (said, signature) = token.rsplit_once('.').unwrap();
    let unsigned =
        |header: Value| format!("{}.{}.", BASE64URL.encode(header.to_string()), said.split_once('.').unwrap().1);
    let hmac = signer.sign(&json!({ "alg": "HS256", "kid": "k1" }), &right());
    let rsa = signer.sign(&json!({ "alg": "RS256", "kid": "k1" }), &right());
    let table = [
        ("another signer", Signer::default().sign(&header(), &right())),
        ("an unknown key", signer.sign(&json!({ "alg": "ES256", "kid": "k2" }), &right())),
        ("no key named", signer.sign(&json!({ "alg": "ES256" }), &right())),
        ("alg none", unsigned(json!({ "alg": "none", "kid": "k1" }))),
        ("no signature", unsigned(header())),
        ("alg HS256", hmac),
        ("alg RS256 with a key for ES256", rsa),
        ("the signature of other claims", {
            let other = signer.sign(&header(), &claims("sub", json!("1")));
            format!("{said}.{}", other.rsplit_once('.').unwrap().1)
        }),
        ("half a signature", format!("{said}.{}", &signature[..signature.len() / 2])),
        ("a signature that Cloud Run took off", format!("{said}.SIGNATURE_REMOVED_BY_GOOGLE")),
        ("garbage", "garbage".to_owned()),
        ("garbage in three parts", "a.b.c".to_owned()),
        ("nothing", String::new()),
    ];
    for (what, token) in table {
        service.refuses(what, &[&format!("Bearer {token}")]).await;
    }
}

#[tokio::test]
async fn without_exactly_one_bearer_token_a_push_is_refused() {
    let signer = Signer::default();
    let service = Service::with_key(&signer).await;
    let token = signer.sign(&header(), &right());
    let bearer = format!("Bearer {token}");
    service.refuses("no header", &[]).await;
    service.refuses("two headers", &[&bearer, &bearer]).await;
    service.refuses("Basic", &[&format!("Basic {token}")]).await;
    service.refuses("no scheme", &[&token]).await;
    service.refuses("an empty header", &[""]).await;
}

#[tokio::test]
async fn without_keys_a_push_may_come_again() {
    let signer = Signer::default();
    let bearer = format!("Bearer {}", signer.sign(&header(), &right()));
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let broken = Router::new()
        .route("/500", get(|| async { StatusCode::INTERNAL_SERVER_ERROR }))
        .route("/404", get(|| async { StatusCode::NOT_FOUND }))
        .route("/html", get(|| async { "<html>" }));
    let broken = listen(broken).await;
    for keys in [
        format!("http://{closed}/keys"),
        format!("http://{broken}/500"),
        format!("http://{broken}/404"),
        format!("http://{broken}/html"),
    ] {
        let service = Service::new(keys.clone());
        let (status, answer, handled) = service.push(&[&bearer]).await;
        assert_eq!((status, handled), (StatusCode::SERVICE_UNAVAILABLE, 0), "{keys}: {answer}");
    }
}

/// The verifier alone fails when two need its keys at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pushes_at_the_same_time_are_all_admitted() {
    let signer = Signer::default();
    let service = Arc::new(Service::with_key(&signer).await);
    let bearer = format!("Bearer {}", signer.sign(&header(), &right()));
    let pushes: Vec<_> = (0..16)
        .map(|_| {
            let (service, bearer) = (Arc::clone(&service), bearer.clone());
            tokio::spawn(async move { service.push(&[&bearer]).await.0 })
        })
        .collect();
    for push in pushes {
        assert_eq!(push.await.unwrap(), StatusCode::NO_CONTENT);
    }
}
