//! What stands in the cloud between Pub/Sub and a service: it signs each push, and keeps it until an instance runs.
//!
//! Google's emulator of Pub/Sub sends no token, so this makes it. It knows every push and its answer, and can send one
//! twice.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use push_tokens::{Signer, claims, header};
use serde_json::Value;
use shared::clock::{Clock, System};
use tokio::sync::watch;

use super::program::Service;

/// The service account whose pushes the services take.
pub(super) const ACCOUNT: &str = "push@emulated.iam.gserviceaccount.com";

/// Longer than any push takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It waits for its answer.
    UnderWay,
    /// The connection broke before there was one.
    Broken,
    /// The service's.
    Is(StatusCode),
}

/// A push of a message, once for each delivery.
#[derive(Debug, Clone)]
pub(super) struct Push {
    pub(super) message: String,
    pub(super) answer: Answer,
}

#[derive(Default)]
struct Door {
    instance: watch::Sender<Option<u16>>,
    pushes: watch::Sender<Vec<Push>>,
    twice: Mutex<bool>,
}

struct Doors {
    signer: Signer,
    client: reqwest::Client,
    doors: BTreeMap<Service, Door>,
    /// Told of every change.
    news: watch::Sender<()>,
}

/// The gate before the services of a deployment.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) address: SocketAddr,
    doors: Arc<Doors>,
}

impl Gate {
    /// Listens, before services that do not run yet.
    pub(super) async fn new() -> Self {
        let doors = Arc::new(Doors {
            signer: Signer::default(),
            client: reqwest::Client::new(),
            doors: Service::ALL.into_iter().map(|service| (service, Door::default())).collect(),
            news: watch::Sender::default(),
        });
        let keys = doors.signer.keys();
        let mut router = Router::new().route("/keys", get(move || async move { axum::Json(keys) }));
        for service in Service::ALL {
            let pushed =
                move |State(doors): State<Arc<Doors>>, body: Bytes| async move { doors.push(service, body).await };
            router = router.route(&format!("/{}", service.name()), post(pushed));
        }
        let router = router.layer(DefaultBodyLimit::disable()).with_state(Arc::clone(&doors));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, doors }
    }

    /// From now on pushes go to this port; to none, they are kept.
    pub(super) fn open(&self, service: Service, port: Option<u16>) {
        self.doors.doors[&service].instance.send_replace(port);
    }

    /// The next push that a service takes is sent to it again before Pub/Sub has the answer.
    pub(super) fn twice(&self, service: Service) {
        *self.doors.doors[&service].twice.lock().unwrap() = true;
    }

    /// All pushes to a service so far.
    pub(super) fn pushes(&self, service: Service) -> Vec<Push> {
        self.doors.doors[&service].pushes.borrow().clone()
    }

    /// Waits until the pushes to a service are such.
    pub(super) async fn until(&self, service: Service, wanted: impl Fn(&[Push]) -> bool) {
        let mut pushes = self.doors.doors[&service].pushes.subscribe();
        let found = tokio::time::timeout(PATIENCE, pushes.wait_for(|pushes| wanted(pushes))).await;
        assert!(found.is_ok(), "pushes to {}: {:#?}", service.name(), self.pushes(service));
    }

    /// Whether a push is under way.
    pub(super) fn is_busy(&self, service: Service) -> bool {
        self.pushes(service).iter().any(|push| push.answer == Answer::UnderWay)
    }

    /// Changes with every push and every answer.
    pub(super) fn news(&self) -> watch::Receiver<()> {
        self.doors.news.subscribe()
    }

    /// The Authorization header of pushes to a service.
    pub(super) fn authorization(&self, service: Service) -> String {
        self.doors.authorization(service)
    }
}

/// Notes a push that Pub/Sub no longer waits for.
struct Noted<'a> {
    doors: &'a Doors,
    door: &'a Door,
    at: usize,
}

impl Noted<'_> {
    fn answer(&self, answer: Answer) {
        self.door.pushes.send_modify(|pushes| pushes[self.at].answer = answer);
        self.doors.news.send_replace(());
    }
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        if self.door.pushes.borrow()[self.at].answer == Answer::UnderWay {
            self.answer(Answer::Broken);
        }
    }
}

impl Doors {
    fn authorization(&self, service: Service) -> String {
        let claims = claims(&service.audience(), ACCOUNT, System.now().timestamp());
        format!("Bearer {}", self.signer.sign(&header(), &claims))
    }

    async fn push(&self, service: Service, body: Bytes) -> Response {
        let door = &self.doors[&service];
        let mut instance = door.instance.subscribe();
        let port = instance.wait_for(Option::is_some).await.unwrap().unwrap();
        let envelope: Value = serde_json::from_slice(&body).unwrap();
        let message = envelope["message"]["messageId"].as_str().unwrap().to_owned();
        loop {
            let (status, answer) = self.deliver(door, service, port, message.clone(), &body).await;
            let again = status.is_success() && std::mem::take(&mut *door.twice.lock().unwrap());
            if !again {
                return (status, answer).into_response();
            }
        }
    }

    async fn deliver(
        &self,
        door: &Door,
        service: Service,
        port: u16,
        message: String,
        body: &Bytes,
    ) -> (StatusCode, Bytes) {
        let mut at = 0;
        door.pushes.send_modify(|pushes| {
            at = pushes.len();
            pushes.push(Push { message, answer: Answer::UnderWay });
        });
        let noted = Noted { doors: self, door, at };
        self.news.send_replace(());
        let request = self.client.post(format!("http://127.0.0.1:{port}/")).body(body.clone());
        let request =
            request.header("content-type", "application/json").header("authorization", self.authorization(service));
        let answered = async {
            let response = request.send().await?;
            Ok::<_, reqwest::Error>((response.status(), response.bytes().await?))
        };
        let Ok((status, answer)) = answered.await else {
            noted.answer(Answer::Broken);
            return (StatusCode::BAD_GATEWAY, Bytes::new());
        };
        noted.answer(Answer::Is(status));
        (status, answer)
    }
}
