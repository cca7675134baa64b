//! The program `fetch` as Cloud Run starts and ends it, with nothing behind it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

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
    fn start() -> Self {
        let mut child = program(&SETTINGS).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let listening = lines.by_ref().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
        let mut listening = listening.filter(|line| line["message"] == "listening");
        let port = listening.next().expect("it ended before it listened")["port"].as_u64().unwrap();
        Self { child, lines, port }
    }

    /// The status line, and the rest of the answer.
    fn ask(&self, request: &str) -> (String, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", u16::try_from(self.port).unwrap())).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (status, rest) = answer.split_once("\r\n").unwrap();
        (status.to_owned(), rest.to_owned())
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

#[test]
fn it_answers_refuses_strangers_and_ends_when_told() {
    let mut running = Running::start();
    let (status, rest) = running.ask("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(status.ends_with("200 OK") && rest.ends_with("ok"), "{status} {rest}");

    let head = "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n";
    let (status, rest) = running.ask(&format!("{head}\r\n{{}}"));
    assert!(status.ends_with("401 Unauthorized"), "{status} {rest}");
    let (status, rest) = running.ask(&format!("{head}Authorization: Bearer top-secret\r\n\r\n{{}}"));
    assert!(status.ends_with("401 Unauthorized"), "{status} {rest}");

    // A connection that says nothing does not keep it.
    let _silent = TcpStream::connect(("127.0.0.1", u16::try_from(running.port).unwrap())).unwrap();
    let told = Instant::now();
    running.signal("TERM");
    let status = running.child.wait().unwrap();
    assert!(told.elapsed() < Duration::from_secs(10), "Cloud Run would have killed it");
    assert_eq!(status.code(), Some(0));
    let lines: Vec<String> = running.lines.by_ref().map(Result::unwrap).collect();
    assert!(lines.iter().all(|line| !line.contains("top-secret")), "{lines:?}");
    let last: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    assert_eq!(last["message"], "stopped", "{lines:?}");
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
