//! The program, as it is run by hand.

mod common;

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_usgs-simulator"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[tokio::test]
async fn it_says_where_it_listens_answers_and_ends_cleanly() {
    let mut child = program()
        .arg("--catalogue")
        .arg(common::month_path())
        .args(["--port", "0", "--now", "2025-07-10T00:00:00Z", "--fault", "503*2"])
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let base = line.strip_prefix("listening on ").unwrap().trim_end().to_owned();
    let ask = async |target: &str| common::client().get(format!("{base}{target}")).send().await.unwrap();
    let query = "/fdsnws/event/1/query?format=csv&limit=1";
    assert_eq!(ask(query).await.status(), 503);
    assert_eq!(ask(query).await.status(), 503);
    let answer = ask(query).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(common::header(&answer, "last-modified"), Some("Thu, 10 Jul 2025 00:00:00 GMT"));
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn failures_are_one_line_and_wrong_usage_is_two() {
    let run = |arguments: &[&str]| program().args(arguments).output().unwrap();
    let output = run(&["--catalogue", "/no/such/file", "--port", "0"]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.starts_with("error: /no/such/file: ") && error.lines().count() == 1, "{error}");
    assert_eq!(run(&["--port", "0"]).status.code(), Some(2));
    let output = run(&["--catalogue", "x", "--now", "yesterday"]);
    assert_eq!(output.status.code(), Some(2));
}
