//! A service's own program as a process, as Cloud Run starts and ends it.
//!
//! Invariant: it ends with the test, and what it logged can be read to its last line.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use shared::message::Topic;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Service {
    Fetch,
    Land,
    Transform,
}

impl Service {
    pub(super) const ALL: [Self; 3] = [Self::Fetch, Self::Land, Self::Transform];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Land => "land",
            Self::Transform => "transform",
        }
    }

    /// Where its messages come from.
    pub(super) fn topic(self) -> Topic {
        match self {
            Self::Fetch => Topic::FetchRequests,
            Self::Land => Topic::Captures,
            Self::Transform => Topic::Partitions,
        }
    }

    /// What its push tokens are for.
    pub(super) fn audience(self) -> String {
        format!("https://{}.example", self.name())
    }
}

/// The program, which stands beside the folder of this test's own.
fn program(service: Service) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let program = own.parent().unwrap().parent().unwrap().join(service.name());
    assert!(program.is_file(), "there is no {}: cargo build --workspace --bins", program.display());
    program
}

/// A process.
pub(super) struct Program {
    service: Service,
    child: Child,
    lines: watch::Receiver<Vec<Value>>,
    reader: JoinHandle<()>,
    pub(super) port: u16,
}

impl Program {
    /// Starts it with these variables and no others, and sees it listen and be well.
    pub(super) async fn start(service: Service, variables: &[(&str, String)]) -> Self {
        let mut command = Command::new(program(service));
        command.env_clear().env("PORT", "0").envs(variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, lines) = watch::channel(Vec::new());
        let reader = tokio::spawn(async move {
            while let Some(line) = told.next_line().await.unwrap() {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                sender.send_modify(|lines| lines.push(line));
            }
        });
        let mut this = Self { service, child, lines, reader, port: 0 };
        let listening = this.says(|line| line["message"] == "listening").await;
        this.port = u16::try_from(listening["port"].as_u64().unwrap()).unwrap();
        let healthy = reqwest::get(format!("http://127.0.0.1:{}/healthz", this.port)).await.unwrap();
        assert_eq!(healthy.text().await.unwrap(), "ok");
        this
    }

    /// What it has logged.
    pub(super) fn log(&self) -> Vec<Value> {
        self.lines.borrow().clone()
    }

    /// Waits for a line of its log.
    pub(super) async fn says(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut lines = self.lines.clone();
        let found = tokio::time::timeout(PATIENCE, lines.wait_for(|lines| lines.iter().any(&wanted))).await;
        match found {
            Ok(Ok(lines)) => lines.iter().find(|line| wanted(line)).unwrap().clone(),
            Ok(Err(_)) => panic!("{} ended: {:#?}", self.service.name(), self.log()),
            Err(_) => panic!("{} did not say it: {:#?}", self.service.name(), self.log()),
        }
    }

    /// Ends it at once: SIGKILL. Returns what it logged.
    pub(super) async fn kill(mut self) -> Vec<Value> {
        self.child.kill().await.unwrap();
        self.reader.await.unwrap();
        self.lines.borrow().clone()
    }

    /// Tells it to end, as Cloud Run does before it stops an instance. Returns how it ended, after how long, and what it
    /// logged.
    pub(super) async fn end(mut self) -> (ExitStatus, Duration, Vec<Value>) {
        let told = Instant::now();
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-s", "TERM", &id]).status().await.unwrap().success());
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap();
        let took = told.elapsed();
        self.reader.await.unwrap();
        let lines = self.lines.borrow().clone();
        (status, took, lines)
    }
}
