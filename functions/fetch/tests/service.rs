//! The program `fetch` as Cloud Run starts and ends it, with nothing behind it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are parts of tests")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::{Duration, Instant};

use push_tokens::{Signer, claims, header};
use serde_json::Value;
use shared::clock::{Clock, System};
use shared::dataset::Ask;
use shared::function::Envelope;
use shared::message::{FetchRequest, Parcel};
use shared::trace::Trace;

/// Nobody listens there.
const NOWHERE: &str = "127.0.0.1:9";

const SETTINGS: [(&str, &str); 9] = [
    ("PORT", "0"),
    ("STRATA_PROJECT", "strata-public"),
    ("STRATA_ENV", "dev"),
    ("STRATA_PUSH_AUDIENCE", "https://fetch.example"),
    ("STRATA_PUSH_ACCOUNT", "push@strata-public.iam.gserviceaccount.com"),
    ("STRATA_PUSH_JWKS", "http://127.0.0.1:9/keys"),
    ("STORAGE_EMULATOR_HOST", NOWHERE),
    ("STORAGE_EMULATOR_GRPC_HOST", NOWHERE),
    ("PUBSUB_EMULATOR_HOST", NOWHERE),
];

/// The program with these settings and nothing else in its environment.
fn program(settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fetch"));
    command.env_clear().envs(settings.iter().copied()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn said(output: &Output) -> (Option<i32>, Value) {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    let [line] = text.lines().collect::<Vec<_>>()[..] else { panic!("not one line: {text}") };
    (output.status.code(), serde_json::from_str(line).unwrap())
}

/// A program that runs; killed if the test fails before it ends.
struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStderr>>,
    port: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended if all is well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn start(other: &[(&str, &str)]) -> Self {
        let mut child = program(&SETTINGS).envs(other.iter().copied()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let listening = lines.by_ref().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
        let mut listening = listening.filter(|line| line["message"] == "listening");
        let port = listening.next().expect("it ended before it listened")["port"].as_u64().unwrap();
        Self { child, lines, port }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", u16::try_from(self.port).unwrap())).unwrap()
    }

    /// The status line, and the rest of the answer.
    fn ask(&self, request: &str) -> (String, String) {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (status, rest) = answer.split_once("\r\n").unwrap();
        (status.to_owned(), rest.to_owned())
    }

    /// Tells it to stop as Cloud Run does, and sees it end in time. Returns what it logged.
    fn end(&mut self) -> Vec<String> {
        let told = Instant::now();
        let sent = Command::new("kill").args(["-s", "TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let lines: Vec<String> = self.lines.by_ref().map(Result::unwrap).collect();
        let status = self.child.wait().unwrap();
        assert!(told.elapsed() < Duration::from_secs(10), "Cloud Run would have killed it: {lines:?}");
        assert_eq!(status.code(), Some(0), "{lines:?}");
        let last: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
        assert_eq!(last["message"], "stopped", "{lines:?}");
        lines
    }
}

#[test]
fn it_answers_refuses_strangers_and_ends_when_told() {
    let mut running = Running::start(&[]);
    let (status, rest) = running.ask("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(status.ends_with("200 OK") && rest.ends_with("ok"), "{status} {rest}");

    let head = "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n";
    let (status, rest) = running.ask(&format!("{head}\r\n{{}}"));
    assert!(status.ends_with("401 Unauthorized"), "{status} {rest}");
    let (status, rest) = running.ask(&format!("{head}Authorization: Bearer top-secret\r\n\r\n{{}}"));
    assert!(status.ends_with("401 Unauthorized"), "{status} {rest}");

    // A connection that says nothing does not keep it.
    let _silent = running.connect();
    let lines = running.end();
    assert!(lines.iter().all(|line| !line.contains("top-secret")), "{lines:?}");
}

/// A token as Pub/Sub's, and the keys that it is checked with.
fn token() -> (String, Value) {
    let signer = Signer::default();
    let now = System.now().timestamp();
    let claims = claims("https://fetch.example", "push@strata-public.iam.gserviceaccount.com", now);
    (signer.sign(&header(), &claims), signer.keys())
}

#[test]
fn a_message_that_it_cannot_finish_is_handed_back_in_time() {
    let (token, keys) = token();
    let jwks = TcpListener::bind("127.0.0.1:0").unwrap();
    let keys_address = format!("http://{}/keys", jwks.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = jwks.accept().unwrap();
        let request = BufReader::new(stream.try_clone().unwrap());
        assert!(request.lines().any(|line| line.unwrap().is_empty()), "the request has an end");
        let keys = keys.to_string();
        let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", keys.len());
        stream.write_all(format!("{head}{keys}").as_bytes()).unwrap();
    });
    // It takes requests and never answers them.
    let storage = TcpListener::bind("127.0.0.1:0").unwrap();
    let storage_address = storage.local_addr().unwrap().to_string();
    let mut running =
        Running::start(&[("STRATA_PUSH_JWKS", &keys_address), ("STORAGE_EMULATOR_HOST", &storage_address)]);

    let message = FetchRequest { dataset: "earthquakes".into(), ask: Ask::Tick { days: 30, sweep: false } };
    let parcel = Parcel::pack(&message, Trace { id: 1, span: 2 }).unwrap();
    let envelope = Envelope::new("s", "m1".into(), System.now(), 1, &parcel);
    let body = serde_json::to_string(&envelope).unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nContent-Length: {}",
        body.len()
    );
    let mut push = running.connect();
    push.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
    let _asked = storage.accept().unwrap();

    let lines = running.end();
    let mut answer = String::new();
    push.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("hands the message back"), "{answer}");
    let told: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told = told.iter().find(|line| line["message"] == "the message will be sent again").expect("it is logged");
    let trace = "projects/strata-public/traces/00000000000000000000000000000001";
    assert_eq!((&told["outcome"], &told["logging.googleapis.com/trace"]), (&"transient".into(), &trace.into()));
    assert!(lines.iter().all(|line| !line.contains(&token)), "{lines:?}");
}

#[test]
fn a_missing_setting_ends_it_with_its_name() {
    let without = |names: &[&str]| {
        let left: Vec<_> = SETTINGS.into_iter().filter(|(name, _)| !names.contains(name)).collect();
        said(&program(&left).output().unwrap())
    };
    let (code, line) = without(&["STRATA_PUSH_AUDIENCE"]);
    assert_eq!((code, &line["severity"]), (Some(2), &"ERROR".into()));
    assert_eq!(line["message"], "fetch: STRATA_PUSH_AUDIENCE is not set");
    let (code, line) = without(&["STRATA_PROJECT", "STRATA_PUSH_ACCOUNT"]);
    assert_eq!(code, Some(2));
    assert_eq!(line["message"], "fetch: STRATA_PROJECT is not set; STRATA_PUSH_ACCOUNT is not set");
}

#[test]
fn a_setting_that_cannot_be_used_ends_it_with_its_name() {
    for (name, value) in [("STRATA_USGS_URL", "usgs"), ("STRATA_LOG", "a=b=c"), ("STRATA_DEADLINE", "601")] {
        let output = program(&SETTINGS).env(name, value).output().unwrap();
        let text = String::from_utf8(output.stderr.clone()).unwrap();
        let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(last["message"].as_str().unwrap().contains(name), "{text}");
    }
}

#[test]
fn credentials_that_cannot_be_read_end_it_with_their_file() {
    let real: Vec<_> = SETTINGS.into_iter().filter(|(name, _)| !name.ends_with("_HOST")).collect();
    let output = program(&real).env("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json").output().unwrap();
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(last["message"].as_str().unwrap().contains("/nowhere/key.json"), "{text}");
}
