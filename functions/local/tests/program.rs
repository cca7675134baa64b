//! The program as a person runs it: results, exit codes, signals, and what is left in the folder.

#![allow(clippy::unwrap_used, reason = "these are parts of tests")]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc;

use serde_json::json;

/// Nobody listens on this port.
const NOWHERE: &str = "http://127.0.0.1:1";

fn strata(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strata"));
    command.args(arguments).arg("--data-dir").arg(folder).env("STRATA_USGS_URL", NOWHERE).env_remove("STRATA_LOG");
    command
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    strata(folder, arguments).output().unwrap()
}

#[track_caller]
fn succeed(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The last line on standard error, which says in one sentence what went wrong.
#[track_caller]
fn fail(folder: &Path, arguments: &[&str], code: i32) -> String {
    let output = run(folder, arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
    let sentence = errors.lines().rfind(|line| line.starts_with("strata: ")).unwrap_or_default();
    assert!(!errors.contains("panicked") && !sentence.is_empty(), "{errors}");
    sentence.to_owned()
}

/// All rows of the tables that people query.
fn tables(folder: &Path) -> Vec<String> {
    let queries = [
        // Which of two captures of one second a row is credited to is settled by their random names.
        "select * except (_capture, _first_capture) from raw.earthquakes order by id, _row_hash",
        "select * from silver.stg_earthquakes order by event_id",
        "select * from gold.fct_earthquakes order by event_id",
        "select * from gold.mart_daily_seismicity order by event_date",
    ];
    queries.map(|sql| succeed(folder, &["query", sql, "--format", "csv"])).to_vec()
}

#[test]
fn the_sample_runs_is_queryable_adds_up_and_does_not_change_when_it_runs_again() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("data");
    let output = run(&folder, &["up", "--sample", "--once"]);
    assert_eq!(output.status.code(), Some(0));
    let report = String::from_utf8(output.stdout).unwrap();
    for line in ["rows in      11,146", "kept         11,146", "quarantined  0", "gold.fct_earthquakes", "elapsed"] {
        assert!(report.contains(line), "{line}: {report}");
    }
    let mut traces = std::collections::BTreeSet::new();
    for line in String::from_utf8(output.stderr).unwrap().lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("a JSON object a line");
        if line["span"]["trace"].is_string() {
            traces.insert(line["span"]["trace"].to_string());
        }
    }
    assert_eq!(traces.len(), 1, "one trace from tick to gold");

    let count = ["query", "select count(*) as events from fct_earthquakes", "--format", "json"];
    assert_eq!(succeed(&folder, &count).replace(char::is_whitespace, ""), r#"[{"events":11146}]"#);
    let status = succeed(&folder, &["status", "--format", "json", "--completeness", "30"]);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let dataset = &status["datasets"][0];
    let days = dataset["completeness"].as_array().unwrap();
    assert!(days.len() == 30 && days.iter().all(|day| day["ours"] == day["source"] && day["ours"] != 0), "{days:?}");
    assert_eq!((&dataset["rows_in"], &dataset["rows_kept"]), (&11_146.into(), &11_146.into()));
    assert_eq!((&dataset["reconciles"], &status["messages_waiting"]), (&true.into(), &0.into()));
    assert!(!succeed(&folder, &["test"]).contains("FAILS"));
    let pages = temp.path().join("docs");
    succeed(&folder, &["docs", "--out", pages.to_str().unwrap()]);
    assert!(std::fs::read_to_string(pages.join("README.md")).unwrap().contains("11,146 rows, version "));

    let before = tables(&folder);
    succeed(&folder, &["up", "--sample", "--once"]);
    succeed(&folder, &["replay", "earthquakes", "--day", "2025-07-20"]);
    succeed(&folder, &["replay", "earthquakes", "--day", "2025-06-24", "--from", "bronze"]);
    succeed(&folder, &["replay", "earthquakes", "--day", "2025-07-01", "--from", "source"]);
    assert!(succeed(&folder, &["build", "--full-refresh", "--compare"]).contains("each row for row as it was"));
    let month = ["backfill", "earthquakes", "--start", "2025-06-24", "--end", "2025-07-23", "--gaps"];
    assert!(succeed(&folder, &month).contains("captures     0"), "the first run has fetched all of it");
    assert_eq!(tables(&folder), before);
}

#[test]
fn wrong_usage_and_failures_say_so_in_one_sentence_with_their_exit_code() {
    let temp = tempfile::tempdir().unwrap();
    let none = temp.path().join("none");
    let foreign = temp.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("thesis.txt"), "x").unwrap();
    let file = foreign.join("thesis.txt");
    let backfill = |start, end| vec!["backfill", "earthquakes", "--start", start, "--end", end];

    assert!(fail(&none, &["tick", "volcanoes"], 2).contains("unknown dataset 'volcanoes'"));
    assert!(fail(&none, &backfill("2025-02-01", "2025-01-01"), 2).contains("is not before the end"));
    assert!(fail(&none, &["query", "select 1"], 1).contains("`strata up` fetches them"));
    assert!(fail(&foreign, &["up", "--once"], 2).contains("not Strata's"));
    assert!(fail(&foreign, &["status"], 2).contains("not Strata's"));
    assert!(fail(&file, &["up", "--once"], 1).contains("thesis.txt"));
    for usage in [vec!["tick"], vec!["dance"], backfill("2025-02-31", "2025-03-01"), vec!["up", "--days", "0"]] {
        assert_eq!(run(&none, &usage).status.code(), Some(2), "{usage:?}");
    }
    assert!(!none.exists(), "a command that fails before it works leaves nothing behind");
    assert_eq!(std::fs::read_dir(&foreign).unwrap().count(), 1);
}

/// Leaves of Google's services at most BigQuery, at this address.
fn out_of_reach<'a>(command: &'a mut Command, bigquery: &str) -> &'a mut Command {
    for emulator in ["STORAGE_EMULATOR_HOST", "STORAGE_EMULATOR_GRPC_HOST", "PUBSUB_EMULATOR_HOST"] {
        command.env(emulator, NOWHERE);
    }
    command.env("BIGQUERY_EMULATOR_HOST", bigquery)
}

#[test]
fn the_cloud_refuses_what_it_cannot_do_or_nobody_agreed_to_before_it_is_asked() {
    let sentence = |line: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strata"));
        for variable in ["STRATA_PROJECT", "STRATA_ENV", "STRATA_DATA_DIR", "STRATA_LOG"] {
            command.env_remove(variable);
        }
        // Whoever asked these would not end with 2.
        let output = out_of_reach(&mut command, NOWHERE).args(line.split(' ')).stdin(Stdio::null()).output();
        let output = output.unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{line}: {errors}");
        errors
    };
    for (line, said) in [
        ("status --target gcp", "--project"),
        ("up --target gcp", "terraform apply"),
        ("ingest x.csv --dataset earthquakes --target gcp", "strata backfill"),
        ("build --full-refresh --compare --target gcp --project p", "--compare"),
        ("status --target gcp --project p --data-dir x", "--data-dir"),
        ("status --project p", "--target gcp"),
        ("status --target gcp --project P", "project 'P'"),
        ("status --target gcp --project p --env Dev", "STRATA_ENV 'Dev'"),
        ("tick volcanoes --target gcp --project p", "unknown dataset 'volcanoes'"),
        ("replay earthquakes --day 2025-07-24 --seek land", "--target gcp"),
        ("replay earthquakes --day 2025-07-24 --seek fetch --target gcp --project p", "--from source"),
        ("replay earthquakes --day 2025-07-24 --seek land --from raw --target gcp --project p", "--from"),
        ("replay earthquakes --day 2999-01-01 --seek land --target gcp --project p --yes", "has not begun"),
        ("replay earthquakes --day 2025-07-24 --seek land --target gcp --project p", "strata-dev-land"),
        ("backfill earthquakes --start 2024-01-01 --end 2025-01-01 --target gcp --project p", "366 days"),
        ("replay earthquakes --day 2025-07-24 --target gcp --project p", "loads 2025-07-24 of earthquakes again"),
        ("backfill earthquakes --start 2025-01-02 --end 2025-01-01 --target gcp --project p", "is not before the end"),
        ("build --full-refresh --target gcp --project p", "10,737,418,240 bytes"),
    ] {
        assert!(sentence(line).contains(said), "{line}: {}", sentence(line));
    }
    for line in ["build --full-refresh", "build", "test", "replay earthquakes --day 2025-07-24 --seek land"] {
        assert!(sentence(&format!("{line} --target gcp --project p")).contains("--yes"), "{line}");
    }
}

#[tokio::test]
async fn a_query_that_reads_much_is_asked_about_and_not_run() {
    let (asked, mut dry) = tokio::sync::mpsc::unbounded_channel();
    let bigquery = axum::Router::new().fallback(move |request: axum::extract::Request| async move {
        let dataset = request.uri().path().contains("/datasets/");
        let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
        if dataset {
            let reference = json!({ "projectId": "project", "datasetId": "gold" });
            return axum::Json(json!({ "datasetReference": reference, "location": "EU" }));
        }
        let job: serde_json::Value = serde_json::from_slice(&body).unwrap();
        asked.send(job["configuration"]["dryRun"] == true).unwrap();
        let bytes = json!({ "statementType": "SELECT", "totalBytesProcessed": "1073741825" });
        axum::Json(json!({ "configuration": {}, "status": { "state": "DONE" }, "statistics": { "query": bytes } }))
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, bigquery).await.unwrap() });

    let mut command = Command::new(env!("CARGO_BIN_EXE_strata"));
    command.args(["query", "select * from gold.fct_earthquakes", "--target", "gcp", "--project", "project"]);
    out_of_reach(&mut command, &address).env_remove("STRATA_DATA_DIR").stdin(Stdio::null());
    let output = tokio::process::Command::from(command).output().await.unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{errors}");
    assert!(errors.contains("reads 1,073,741,825 bytes") && errors.contains("--yes"), "{errors}");
    assert_eq!((dry.recv().await, dry.len()), (Some(true), 0), "one free question, and nothing after it");
}

#[test]
fn without_a_network_the_recorded_month_runs_loudly_in_a_folder_of_its_own() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("data");
    let output = run(&folder, &["up", "--once"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stderr).contains("THE SOURCE IS NOT REACHABLE"));
    let sample = temp.path().join("data-sample");
    let count = ["query", "select count(*) from fct_earthquakes", "--format", "csv"];
    assert!(succeed(&sample, &count).ends_with("11146\n"));
    assert!(fail(&folder, &count, 1).contains("there is no table"));
    let sentence = fail(&folder, &["tick", "earthquakes"], 3);
    assert!(sentence.contains("127.0.0.1:1 is not reachable"), "{sentence}");
    assert!(fail(&sample, &["up", "--once"], 2).contains("holds the recorded month"));
}

#[test]
fn sql_that_cannot_run_is_placed() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("data");
    succeed(&folder, &["up", "--sample", "--once"]);
    let wrong = fail(&folder, &["query", "select magnitud from fct_earthquakes"], 1);
    assert!(wrong.contains("query:1:8: ") && wrong.contains("magnitud"), "{wrong}");
    assert!(fail(&folder, &["query", "select * from nothing"], 1).contains("query:1:15: there is no table 'nothing'"));
    assert!(fail(&folder, &["query", "delete from fct_earthquakes where true"], 1).contains("query:1:1"));
}

/// An `up` that runs until it is told to stop.
struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        Self::of(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Starts it, with the lines that it says on standard error.
    fn start_heard(mut command: Command) -> (Self, mpsc::Receiver<String>) {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let errors = BufReader::new(child.stderr.take().unwrap());
        let (said, heard) = mpsc::channel();
        // Read to its end whether or not anybody listens, or the program would wait for the pipe.
        std::thread::spawn(move || errors.lines().map_while(Result::ok).for_each(|line| drop(said.send(line))));
        (Self::of(child), heard)
    }

    fn of(mut child: Child) -> Self {
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Reads until a line starts so.
    fn until(&mut self, start: &str) -> String {
        let mut line = String::new();
        while !line.starts_with(start) {
            line.clear();
            assert_ne!(self.lines.read_line(&mut line).unwrap(), 0, "it ended before it said '{start}'");
        }
        line
    }

    fn signal(&mut self, signal: &str) -> (Option<i32>, String) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

#[test]
fn only_one_up_works_in_a_folder_and_a_signal_ends_it_cleanly() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("data");
    let mut first = Running::start(strata(&folder, &["up", "--sample"]));
    first.until("data");
    let sentence = fail(&folder, &["up", "--sample", "--once"], 1);
    assert!(sentence.contains(&format!("another `strata up` (process {})", first.child.id())), "{sentence}");
    succeed(&folder, &["tick", "earthquakes"]);
    let (code, rest) = first.signal("-INT");
    assert_eq!(code, Some(0));
    assert!(rest.contains("Stopped"), "{rest}");
    succeed(&folder, &["up", "--sample", "--once"]);
}

#[test]
fn a_killed_run_is_finished_by_the_next() {
    let temp = tempfile::tempdir().unwrap();
    let undisturbed = temp.path().join("undisturbed");
    succeed(&undisturbed, &["up", "--sample", "--once"]);
    let killed = temp.path().join("killed");
    let mut first = Running::start(strata(&killed, &["up", "--sample"]));
    // As soon as there is a partition of bronze: land is at work.
    while !killed.join("bronze").exists() {
        std::thread::yield_now();
    }
    assert_eq!(first.signal("-KILL").0, None);
    succeed(&killed, &["up", "--sample", "--once"]);
    let status: serde_json::Value = serde_json::from_str(&succeed(&killed, &["status", "--format", "json"])).unwrap();
    assert_eq!(status["messages_waiting"], 0);
    assert_eq!(tables(&killed), tables(&undisturbed));
}

#[test]
fn when_the_source_answers_again_live_data_take_over() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("data");
    // A port that nobody listens on, until the simulator does.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = strata(&folder, &["up", "--every", "1"]);
    command.env("STRATA_USGS_URL", format!("http://127.0.0.1:{port}"));
    let mut up = Running::start(command);
    let sample = up.until("data");
    assert!(sample.trim_end().ends_with("data-sample"), "{sample}");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let source = runtime.block_on(async {
        let month = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/usgs/all_month_2025-07-23T1512Z.csv.gz");
        let catalogue = usgs_simulator::Catalogue::from_path(month).unwrap();
        let simulator = usgs_simulator::Simulator::builder(catalogue).build();
        simulator.serve_at(([127, 0, 0, 1], port).into()).await.unwrap()
    });
    up.until("The source answers");
    let live = up.until("data");
    assert!(live.trim_end().ends_with("data"), "{live}");
    assert_eq!(up.signal("-TERM").0, Some(0));
    let count = ["query", "select count(*) from fct_earthquakes", "--format", "csv"];
    assert!(succeed(&folder, &count).ends_with("11146\n"));
    runtime.block_on(source.shutdown()).unwrap();
}

#[cfg(unix)]
#[test]
fn a_full_disk_is_said_and_nothing_stored_is_lost() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("data");
    // No file may grow over 100 KiB, which the answer does.
    let script = format!("trap '' XFSZ; ulimit -f 200; exec {} \"$@\"", env!("CARGO_BIN_EXE_strata"));
    let data_dir = folder.display().to_string();
    let arguments = ["-c", &script, "strata", "up", "--sample", "--once", "--data-dir", &data_dir];
    let output = Command::new("sh").args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    let sentence = errors.lines().last().unwrap();
    assert!(sentence.starts_with("strata: fetch gave a message up: write of object raw/"), "{sentence}");
    succeed(&folder, &["up", "--sample", "--once"]);
    let count = ["query", "select count(*) from fct_earthquakes", "--format", "csv"];
    assert!(succeed(&folder, &count).ends_with("11146\n"));
}

#[test]
fn a_file_is_landed_and_its_unreadable_rows_are_set_aside() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("data");
    succeed(&folder, &["up", "--sample", "--once"]);
    let glitch = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/usgs/glitch_2024-10-07");
    let ingest = |file: &str| {
        let path = format!("{glitch}/{file}");
        succeed(&folder, &["ingest", &path, "--dataset", "earthquakes", "--observed-at", "2024-10-08T18:00:00Z"])
    };
    assert!(ingest("all_day_2024-10-08T175112Z_hous.csv").contains("kept         250"));
    let report = ingest("all_day_2024-10-08T174136Z_alph.csv");
    assert!(report.contains("rows in      250") && report.contains("quarantined  250"), "{report}");
    let torn = temp.path().join("torn.csv");
    std::fs::write(&torn, "time,latitude\n").unwrap();
    let sentence = fail(&folder, &["ingest", torn.to_str().unwrap(), "--dataset", "earthquakes"], 1);
    assert!(sentence.contains("torn.csv: the file does not start with the expected header"), "{sentence}");
}

#[test]
fn a_file_of_what_is_known_in_more_detail_changes_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("data");
    succeed(&folder, &["up", "--sample", "--once"]);
    let gold = ["query", "select * from fct_earthquakes order by event_id", "--format", "csv"];
    let before = succeed(&folder, &gold);
    let month = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/usgs/all_month_2025-07-23T1512Z.csv.gz");
    assert!(succeed(&folder, &["ingest", month, "--dataset", "earthquakes"]).contains("kept         11,146"));
    assert!(succeed(&folder, &gold) == before, "gold has changed");
}

#[test]
fn the_first_run_of_a_day_sweeps_whichever_process_it_is() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("data");
    let sweeps = || {
        let output = run(&folder, &["up", "--sample", "--once"]);
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8_lossy(&output.stderr).contains("all_month")
    };
    assert!(!sweeps(), "the first run reads everything");
    assert!(!sweeps());
    std::fs::write(folder.join("state/round.json"), "\"2025-07-23\"").unwrap();
    assert!(sweeps());
    assert!(!sweeps());
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("data");
    succeed(&folder, &["up", "--sample", "--once"]);
    for format in ["table", "csv", "json"] {
        // More than a pipe holds.
        let mut query = strata(&folder, &["query", "select * from fct_earthquakes", "--format", format]);
        let mut child = query.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(!line.is_empty());
        assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""), "{format}");
    }
}

#[test]
fn a_round_that_fails_is_said_and_the_next_goes_on() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("data");
    succeed(&folder, &["up", "--sample", "--once"]);
    let file = folder.join("state/round.json");
    std::fs::write(&file, "{").unwrap();
    let sentence = fail(&folder, &["up", "--sample", "--once"], 1);
    assert!(sentence.contains("state/round.json") && sentence.contains("damaged"), "{sentence}");
    let (mut up, errors) = Running::start_heard(strata(&folder, &["up", "--sample", "--every", "1"]));
    let said = errors.iter().find(|line| line.contains("the round failed")).expect("it ended instead");
    assert!(said.contains("state/round.json"), "{said}");
    std::fs::remove_file(file).unwrap();
    up.until("data");
    assert_eq!(up.signal("-INT").0, Some(0));
}

#[test]
fn a_damaged_record_is_named_and_hides_no_other() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("data");
    succeed(&folder, &["up", "--sample", "--once"]);
    let torn = folder.join("ledger/earthquakes/9999-12-31/land-1.json");
    std::fs::create_dir_all(torn.parent().unwrap()).unwrap();
    std::fs::write(&torn, "{").unwrap();
    let output = run(&folder, &["status"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.contains("9999-12-31/land-1.json"), "{errors}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("11,146 in = 11,146 kept"));
    succeed(&folder, &["up", "--sample", "--once"]);
}

#[test]
fn days_that_come_too_late_are_said_to() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("data");
    let said = |arguments: &[&str]| {
        let output = run(&folder, arguments);
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stderr).unwrap().matches("--days only counts for the first run").count()
    };
    assert_eq!(said(&["up", "--sample", "--once", "--days", "7"]), 0, "it is the first");
    assert_eq!(said(&["up", "--sample", "--once", "--days", "14"]), 1);
    assert_eq!(said(&["up", "--sample", "--once"]), 0, "nobody asked for days");
}
