//! What a run did, from its records in the ledger and the tables as they stand.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

use chrono::NaiveDate;
use serde::Serialize;
use shared::bus::DeadLetter;
use shared::capture::CaptureId;
use shared::ledger::{self, Outcome, Record};
use shared::store::{Store, read_each_json};
use shared::table::TableName;
use shared::warehouse::Cost;

use crate::pipeline::Data;
use crate::problem::Problem;

/// A table and how many rows it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableRows {
    /// Which.
    pub table: TableName,
    /// `None` for a view, or a table that cannot be read.
    pub rows: Option<u64>,
    /// Why it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
}

/// Sums over ledger records.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Sums {
    /// Captures that were stored.
    pub captures: u64,
    /// Rows in them, by fetch's count.
    pub rows_fetched: u64,
    /// Rows that land read of them; each capture once, however often it was landed.
    pub rows_in: u64,
    /// Rows that it kept.
    pub rows_kept: u64,
    /// Rows that it set aside.
    pub rows_quarantined: u64,
    /// Captures that land refused whole.
    pub refused: u64,
    /// Captures that were stored and have not landed yet.
    pub waiting: u64,
    /// Captures of which land read other rows than fetch counted, or kept and set aside others than it read.
    pub unaccounted: Vec<CaptureId>,
    /// Data tests that failed in the latest run of transform.
    pub failed_tests: Vec<String>,
    /// What the warehouse charged transform.
    #[serde(skip_serializing_if = "Cost::is_nothing")]
    pub cost: Cost,
}

impl Sums {
    /// Adds records up, in the order of their time.
    pub fn of<'a>(records: impl IntoIterator<Item = &'a Record>) -> Self {
        let mut sums = Self::default();
        let mut fetched = BTreeMap::new();
        let mut landed = BTreeSet::new();
        for record in records {
            sums.cost += record.cost;
            match (record.stage.as_str(), &record.capture, &record.outcome) {
                ("fetch", Some(capture), _) => {
                    sums.captures += 1;
                    sums.rows_fetched += record.rows_in;
                    fetched.insert(capture, record.rows_in);
                }
                ("land", Some(capture), Outcome::Refused { .. }) => {
                    sums.refused += 1;
                    landed.insert(capture);
                }
                // A replay from bronze reads no capture.
                ("land", Some(capture), _) => {
                    // A file that was ingested was never fetched.
                    let differs = fetched.get(capture).is_some_and(|&rows| rows != record.rows_in);
                    if differs || !record.reconciles() {
                        sums.unaccounted.push(capture.clone());
                    }
                    if landed.insert(capture) {
                        sums.rows_in += record.rows_in;
                        sums.rows_kept += record.rows_kept;
                        sums.rows_quarantined += record.rows_quarantined;
                    }
                }
                ("transform", _, Outcome::TestsFailed { tests }) => sums.failed_tests.clone_from(tests),
                ("transform", _, Outcome::Done) => sums.failed_tests.clear(),
                _ => (),
            }
        }
        sums.waiting = fetched.keys().filter(|capture| !landed.contains(*capture)).count() as u64;
        sums
    }
}

/// What a run did.
#[derive(Debug, Clone)]
pub struct Report {
    /// Sums over its records.
    pub sums: Sums,
    /// All tables after it.
    pub tables: Vec<TableRows>,
    /// Messages that were given up, ever.
    pub dead_letters: usize,
}

impl Report {
    /// Reads what the runs did, from the records since a day. A record is filed under the day of its message.
    ///
    /// # Errors
    /// When the lake cannot be read.
    pub async fn read(
        data: &Data,
        datasets: &[String],
        runs: &BTreeSet<String>,
        since: Option<NaiveDate>,
    ) -> Result<Self, Problem> {
        let mut records = Vec::new();
        for dataset in datasets {
            records.extend(ledger::read(&*data.store, dataset, since).await?);
        }
        let sums = Sums::of(records.iter().filter(|record| runs.contains(&record.run)));
        Ok(Self { sums, tables: tables(data).await?, dead_letters: dead_letters(&*data.store).await?.len() })
    }

    /// As a person reads it.
    pub fn text(&self, place: &str, elapsed: Duration) -> String {
        let sums = &self.sums;
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<12} {value}");
        };
        line("captures", thousands(sums.captures));
        line("rows in", thousands(sums.rows_in));
        line("kept", thousands(sums.rows_kept));
        line("quarantined", thousands(sums.rows_quarantined));
        if sums.refused > 0 {
            line("refused", format!("{} answers, fetched again", sums.refused));
        }
        for table in &self.tables {
            let rows = match (&table.rows, &table.damage) {
                (_, Some(damage)) => format!("damaged: {damage}"),
                (Some(rows), _) => format!("{} rows", thousands(*rows)),
                (None, _) => "view".to_owned(),
            };
            line("table", format!("{:<32} {rows:>14}", table.table.to_string()));
        }
        for test in &sums.failed_tests {
            line("test", test.clone());
        }
        if !sums.cost.is_nothing() {
            line("billed", charge(sums.cost));
        }
        if self.dead_letters > 0 {
            line("dead letters", thousands(self.dead_letters as u64));
        }
        line("elapsed", format!("{:.2} s", elapsed.as_secs_f64()));
        line("data", place.to_owned());
        text
    }
}

/// All tables with their rows; a damaged one is named and does not hide the others.
///
/// # Errors
/// When the lake cannot be listed.
pub async fn tables(data: &Data) -> Result<Vec<TableRows>, Problem> {
    let mut tables = Vec::new();
    for table in data.warehouse.tables().await? {
        let (rows, damage) = match data.warehouse.state(&table).await {
            Ok(state) => (state.and_then(|state| state.rows), None),
            Err(error) => (None, Some(error.to_string())),
        };
        tables.push(TableRows { table, rows, damage });
    }
    Ok(tables)
}

/// The messages that were given up.
///
/// # Errors
/// When the lake cannot be read.
pub async fn dead_letters(store: &dyn Store) -> Result<Vec<DeadLetter>, Problem> {
    let letters = read_each_json(store, "dead-letters/", |_| true).await?;
    Ok(letters.into_iter().map(|(_, letter)| letter).collect())
}

/// What the warehouse charged, as a person reads it.
pub fn charge(cost: Cost) -> String {
    format!("{} bytes, {} ms of slots", thousands(cost.bytes_billed), thousands(cost.slot_ms))
}

/// A number with its thousands apart.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    fn record(stage: &str, capture: Option<u8>, rows_in: u64, rows_quarantined: u64) -> Record {
        Record {
            stage: stage.to_owned(),
            dataset: "d".to_owned(),
            run: "r".to_owned(),
            message: "m".to_owned(),
            capture: capture.map(|it| format!("20250724T00000{it}Z-0000000000000000").parse().unwrap()),
            started_at: DateTime::UNIX_EPOCH,
            duration_ms: 0,
            inputs: Vec::new(),
            rows_in,
            rows_kept: rows_in - rows_quarantined,
            rows_quarantined,
            outputs: Vec::new(),
            cost: Cost { bytes_billed: u64::from(stage == "transform"), slot_ms: 0 },
            outcome: Outcome::Done,
        }
    }

    #[test]
    fn a_capture_counts_once_and_what_land_did_not_read_of_it_is_told() {
        let (first, again) = (record("land", Some(1), 5, 1), record("land", Some(1), 5, 1));
        let bronze = record("land", None, 70, 0);
        let mut ledger = vec![record("fetch", Some(1), 5, 0), first, again, bronze, record("fetch", Some(2), 3, 0)];
        let sums = Sums::of(&ledger);
        assert_eq!((sums.captures, sums.rows_fetched, sums.waiting), (2, 8, 1));
        assert_eq!((sums.rows_in, sums.rows_kept, sums.rows_quarantined), (5, 4, 1));
        assert_eq!(sums.unaccounted, []);
        ledger.push(record("land", Some(2), 2, 0));
        ledger.extend([record("transform", None, 0, 0), record("transform", None, 0, 0)]);
        let sums = Sums::of(&ledger);
        assert_eq!(sums.cost, Cost { bytes_billed: 2, slot_ms: 0 });
        assert_eq!((sums.waiting, sums.unaccounted), (0, vec![ledger[4].capture.clone().unwrap()]));
    }

    #[test]
    fn thousands_are_set_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (7_461_195, "7,461,195")] {
            assert_eq!(thousands(number), text);
        }
    }
}
