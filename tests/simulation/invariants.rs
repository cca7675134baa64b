//! What must hold: of the cursor at every step, of everything once all messages are delivered.

use std::collections::{BTreeMap, BTreeSet};

use shared::capture::Checksum;
use shared::clock::SharedClock;
use shared::dataset::Ask;
use shared::ledger::{self, Record};
use shared::message::{FetchRequest, Topic};
use shared::partition::Partition;
use shared::store::{Generation, Store};
use shared::table::TableName;
use shared::warehouse::{Origin, Warehouse};
use shared::window;
use strata::rows::{Format, print};
use usgs_simulator::Column;

use super::rows::{Row, newest, union};
use super::story::{UNREADABLE, Version};
use super::world::{CURSOR, DATASET, Models, World};

/// A table as lines, in order.
type Lines = Vec<String>;

/// Bronze: each partition's generation and rows.
type Bronze = BTreeMap<Partition, (Generation, Vec<Row>)>;

fn check(holds: bool, violation: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(violation()) }
}

/// Says where two tables differ.
fn same(what: &str, found: &Lines, expected: &Lines) -> Result<(), String> {
    let (one, other): (BTreeSet<_>, BTreeSet<_>) = (found.iter().collect(), expected.iter().collect());
    let extra: Vec<_> = one.difference(&other).collect();
    let missing: Vec<_> = other.difference(&one).collect();
    check(found == expected, || {
        format!("{what}: {extra:?} should not be there, {missing:?} should, {} rows of {}", found.len(), expected.len())
    })
}

fn line(row: &Row) -> String {
    format!("{},{},{},{},{}", row.id, row.time, row.updated, row.place, row.observed)
}

fn full_line(row: &Row) -> String {
    format!("{},{},{},{},{}", line(row), row.hash, row.capture, row.first.0, row.first.1)
}

fn lines<'a>(rows: impl IntoIterator<Item = &'a Row>, line: fn(&Row) -> String) -> Lines {
    let mut lines: Lines = rows.into_iter().map(line).collect();
    lines.sort();
    lines
}

const RAW: &str = "select concat(id, ',', unix_millis(time), ',', unix_millis(updated), ',', place, ',', \
                   unix_millis(_observed_at), ',', _row_hash, ',', _capture, ',', unix_millis(_first_observed_at), \
                   ',', _first_capture) as line from raw.earthquakes";

const FACTS: &str = "select concat(event_id, ',', unix_millis(event_time), ',', unix_millis(updated_at), ',', place, \
                     ',', unix_millis(observed_at)) as line from ";

impl World<'_> {
    pub(crate) async fn bronze_days(&self) -> Vec<Partition> {
        let objects = self.store.list("bronze/").await.unwrap();
        objects.iter().map(|object| day_of(&object.name)).collect()
    }

    /// The cursor is not ahead of what is durable: every row that the source showed at its watermark is in a capture
    /// that is stored and said to be, or a smaller request that will bring it is on its way.
    pub(crate) async fn cursor_is_behind(&mut self) -> Result<(), String> {
        let Some(object) = self.store.get(CURSOR).await.unwrap() else { return Ok(()) };
        let watermark = self.witness.moved(object.bytes);
        let before = self.watermark.replace(watermark);
        check(before <= Some(watermark), || format!("the cursor goes back from {before:?} to {watermark}"))?;
        let coming = self.post.letters().iter().any(|letter| {
            let request = serde_json::from_slice::<FetchRequest>(&letter.parcel.data);
            let part = request.is_ok_and(|request| !matches!(request.ask, Ask::Tick { .. }));
            letter.topic == Topic::FetchRequests && letter.of_service && !letter.acknowledged && part
        });
        if coming {
            return Ok(());
        }
        let said = self.witness.seen.iter().filter(|(capture, _)| self.post.said(Topic::Captures, capture));
        let (mut durable, mut deleted, mut merged) = (BTreeSet::<i64>::new(), BTreeSet::new(), BTreeSet::new());
        for content in said.map(|(_, seen)| &seen.content) {
            durable.extend(&content.hashes);
            deleted.extend(content.rows.iter().filter(|row| row.deleted).map(|row| row.id.as_str()));
            merged.extend(content.aliases.iter().map(String::as_str));
        }
        // The watermark has whole seconds: what changes within that one may be in the answer or not, and comes next time.
        let then = self.story.at(watermark + 999);
        let settled = self.story.at(watermark).into_iter().filter(|(_, version)| version.gone || !version.silent);
        for (id, version) in settled.filter(|(id, version)| then.get(id).is_some_and(|it| it.from == version.from)) {
            // The answers of one capture are made one after another, so a later one may have the version after it.
            let stored = |version: &Version| match (version.gone, version.silent) {
                (false, _) => durable.contains(&version.hash),
                (true, false) => deleted.contains(id),
                // It has no tombstone: what it became a part of names it, or is there as it became while the details
                // of that capture are older.
                (true, true) => {
                    let mut changed = self.story.versions.iter().filter(|it| it.from == version.from);
                    let beyond = version.from > watermark && changed.any(|it| durable.contains(&it.hash));
                    merged.contains(id) || beyond
                }
            };
            let there = self.story.since(version).any(stored);
            let row = || version.event.to_row();
            check(there, || format!("the cursor is at {watermark}, and no capture has what {id} was then: {}", row()))?;
        }
        Ok(())
    }

    async fn bronze(&self) -> Result<Bronze, String> {
        let mut bronze = BTreeMap::new();
        for object in self.store.list("bronze/").await.unwrap() {
            let bytes = self.store.get(&object.name).await.unwrap().unwrap().bytes;
            let (day, rows) = (day_of(&object.name), self.tables.bronze(&object.name, object.generation, bytes));
            check(rows.iter().all(|row| row.day() == day), || format!("{} has rows of other days", object.name))?;
            let versions: BTreeSet<_> = rows.iter().map(Row::version).collect();
            check(versions.len() == rows.len(), || format!("{} has a row version twice", object.name))?;
            bronze.insert(day, (object.generation, rows));
        }
        Ok(bronze)
    }

    /// Each stage holds what the one before it gave.
    pub(crate) async fn consistent(&mut self) -> Result<(), String> {
        let bronze = self.bronze().await?;
        let rows: Vec<Row> = bronze.values().flat_map(|(_, rows)| rows.clone()).collect();
        self.captures_are_whole().await?;
        self.bronze_is_the_union(&rows)?;
        self.ledger_adds_up().await?;
        if rows.is_empty() {
            return Ok(());
        }
        let current: Vec<Row> = newest(&rows).into_values().collect();
        let kept: Vec<Row> = current.iter().filter(|row| !row.deleted).cloned().collect();
        let (silver, gold) = (TableName::new("silver", "stg_earthquakes"), TableName::new("gold", "fct_earthquakes"));
        match self.setup.models {
            Models::Light => {
                let raw = TableName::raw(DATASET);
                let generations = bronze.iter().map(|(day, (generation, _))| (*day, *generation)).collect();
                let loaded = self.tables.generations(&raw);
                check(loaded == generations, || format!("raw holds {loaded:?}, and bronze {generations:?}"))?;
                same("raw", &lines(&self.tables.rows(&raw), full_line), &lines(&rows, full_line))?;
                for (table, expected) in [(silver, &current), (gold, &kept)] {
                    same(&table.table, &lines(&self.tables.rows(&table), line), &lines(expected, line))?;
                }
            }
            Models::Embedded(_) => {
                same("raw", &self.answer_of(RAW).await?, &lines(&rows, full_line))?;
                let superseded = self.answer_of("select event_id from silver.superseded_events").await?;
                self.trace.extend(superseded.first().map(|id| format!("{id} is superseded")));
                let kept: Vec<Row> = kept.into_iter().filter(|row| !superseded.contains(&row.id)).collect();
                for (table, expected) in [(silver, &current), (gold, &kept)] {
                    let sql = format!("{FACTS} {table}");
                    same(&table.table, &self.answer_of(&sql).await?, &lines(expected, line))?;
                }
            }
        }
        Ok(())
    }

    /// Every manifest speaks of an object that is there as it says.
    async fn captures_are_whole(&self) -> Result<(), String> {
        for (capture, seen) in self.witness.seen.iter().filter(|(_, seen)| !seen.damaged) {
            for answer in &seen.manifest.answers {
                let object = self.store.get(&answer.object).await.unwrap();
                let whole = object.is_some_and(|object| {
                    let mut checksum = Checksum::default();
                    checksum.update(&object.bytes);
                    checksum.hex() == answer.checksum && object.bytes.len() as u64 == answer.bytes
                });
                check(whole, || format!("{} of {capture} is not what the manifest says", answer.object))?;
            }
        }
        Ok(())
    }

    /// Bronze is the set of the row versions of all captures that were said to be stored, and of no other.
    fn bronze_is_the_union(&self, rows: &[Row]) -> Result<(), String> {
        let found = union(rows);
        check(found.len() == rows.len(), || "bronze has a row version on two days".to_owned())?;
        let said = || self.witness.seen.iter().filter(|(capture, _)| self.post.said(Topic::Captures, capture));
        if said().all(|(_, seen)| !seen.damaged) {
            let expected = union(said().flat_map(|(_, seen)| &seen.content.rows));
            return same("bronze", &lines(found.values(), full_line), &lines(expected.values(), full_line));
        }
        let whole = union(said().filter(|(_, seen)| !seen.damaged).flat_map(|(_, seen)| &seen.content.rows));
        let lost = whole.keys().find(|version| !found.contains_key(*version));
        check(lost.is_none(), || format!("bronze has lost {lost:?}"))?;
        let any = union(said().flat_map(|(_, seen)| &seen.content.rows));
        let invented = found.keys().find(|version| !any.contains_key(*version));
        check(invented.is_none(), || format!("bronze has {invented:?}, which no capture has"))
    }

    /// Rows in = rows kept + rows quarantined, everywhere, and every capture is accounted for.
    async fn ledger_adds_up(&self) -> Result<(), String> {
        let records = ledger::read(&self.store, DATASET, None).await.map_err(|error| error.to_string())?;
        let wrong = records.iter().find(|record| !record.reconciles());
        check(wrong.is_none(), || format!("{wrong:?} does not add up"))?;
        for (capture, seen) in self.witness.seen.iter().filter(|(_, seen)| !seen.damaged) {
            let said = self.post.said(Topic::Captures, capture);
            let of_capture = |record: &&Record| {
                record.stage == "land" && record.capture.as_ref().is_some_and(|named| named == &seen.manifest.capture)
            };
            let records: Vec<_> = records.iter().filter(of_capture).collect();
            check(!said || !records.is_empty(), || format!("the ledger does not know that {capture} has landed"))?;
            let counts = (seen.manifest.rows(&*self.dataset), seen.content.unreadable);
            let right = |record: &&&Record| (record.rows_in, record.rows_quarantined) == counts;
            let wrong = records.iter().find(|record| !right(record));
            check(wrong.is_none(), || format!("the ledger is wrong about {capture}: {wrong:?}"))?;
        }
        Ok(())
    }

    /// The pipeline shows what the source shows; before a sweep, apart from what was changed without a word.
    pub(crate) async fn complete(&mut self, swept: bool) -> Result<(), String> {
        let bronze = self.bronze().await?;
        let current = newest(bronze.values().flat_map(|(_, rows)| rows));
        let gold = self.gold_events().await?;
        let shown = self.story.shown(self.story.end.timestamp_millis());
        let gone = gold.iter().find(|id| !shown.contains_key(id.as_str()));
        check(gone.is_none(), || format!("gold shows {gone:?}, which the source does not"))?;
        for (id, version) in shown {
            if version.event.get(Column::Nst) == UNREADABLE || version.silent && !swept {
                continue;
            }
            let found = current.get(id);
            let right = found.is_some_and(|row| version.is(row)) && gold.contains(id);
            check(right, || format!("the source shows {}, and the pipeline {found:?}", version.event.to_row()))?;
        }
        Ok(())
    }

    /// No part of a request is forgotten.
    pub(crate) async fn windows_are_closed(&self) -> Result<(), String> {
        let open = window::all(&self.store, DATASET).await.map_err(|error| error.to_string())?;
        check(open.is_empty(), || format!("these windows stay open: {open:?}"))
    }

    /// The events that people see.
    async fn gold_events(&self) -> Result<BTreeSet<String>, String> {
        if !self.raw_is_there().await {
            return Ok(BTreeSet::new());
        }
        Ok(match self.setup.models {
            Models::Light => {
                let rows = self.tables.rows(&TableName::new("gold", "fct_earthquakes"));
                rows.into_iter().map(|row| row.id).collect()
            }
            Models::Embedded(_) => {
                self.answer_of("select event_id from gold.fct_earthquakes").await?.into_iter().collect()
            }
        })
    }

    /// The tables are what a rebuild from nothing gives.
    pub(crate) async fn rebuilt(&mut self) -> Result<(), String> {
        if !self.raw_is_there().await {
            return Ok(());
        }
        let before = self.all_tables().await?;
        self.rebuild();
        self.drain().await?;
        for ((name, incremental), (_, rebuilt)) in before.iter().zip(&self.all_tables().await?) {
            same(&format!("{name} before and after a rebuild"), incremental, rebuilt)?;
        }
        Ok(())
    }

    pub(crate) async fn raw_is_there(&self) -> bool {
        match self.setup.models {
            Models::Light => !self.tables.rows(&TableName::raw(DATASET)).is_empty(),
            Models::Embedded(_) => self.store.head("warehouse/raw/earthquakes/manifest.json").await.unwrap().is_some(),
        }
    }

    async fn all_tables(&self) -> Result<BTreeMap<String, Lines>, String> {
        let mut all = BTreeMap::new();
        match self.setup.models {
            Models::Light => {
                for (schema, table) in [("silver", "stg_earthquakes"), ("gold", "fct_earthquakes")] {
                    let rows = self.tables.rows(&TableName::new(schema, table));
                    all.insert(table.to_owned(), lines(&rows, line));
                }
            }
            Models::Embedded(_) => {
                for table in self.embedded().tables().await.map_err(|error| error.to_string())? {
                    all.insert(table.to_string(), self.answer_of(&format!("select * from {table}")).await?);
                }
            }
        }
        Ok(all)
    }

    fn embedded(&self) -> embedded::Embedded {
        let clock: SharedClock = std::sync::Arc::new(shared::clock::System);
        embedded::Embedded::new(std::sync::Arc::new(self.store.clone()), clock)
    }

    async fn answer_of(&self, sql: &str) -> Result<Lines, String> {
        let answer = self.embedded().query(sql, &Origin::new("simulation")).await.map_err(|error| error.to_string())?;
        let mut text = Vec::new();
        print(&answer, Format::Csv, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let mut lines: Lines = text.lines().skip(1).map(|line| line.trim_matches('"').to_owned()).collect();
        lines.sort();
        Ok(lines)
    }
}

/// `bronze/earthquakes/date=2025-07-20/events.parquet`
fn day_of(object: &str) -> Partition {
    object.split('/').find_map(|part| part.strip_prefix("date=")).unwrap().parse().unwrap()
}
