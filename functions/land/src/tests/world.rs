//! Two small datasets and everything around a landing.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use chrono::DateTime;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderMap;
use shared::capture::{CaptureId, Checksum, Encoding, Manifest, StoredAnswer};
use shared::clock::{Clock, Timestamp};
use shared::csv::{Record, Unreadable};
use shared::dataset::{Ask, Cursor, Dataset, Plan, Query, Refusal, Refused, Registry, Source};
use shared::form::{Form, Role, Syntax};
use shared::function::{Failure, Function, Received};
use shared::ledger;
use shared::message::{CaptureStored, Message, PartitionsLanded, ToLand};
use shared::partition::Partition;
use shared::store::{Memory, Precondition, Store};
use shared::table::{Column, ColumnType, Growth, Partitioning, TableName, TableSpec, Value};
use shared::trace::Trace;

use super::ports::{Faults, Recorder, Shaky, Tables};
use crate::Land;
use crate::rows::Bound;

/// A dataset that reads each field as its column says.
pub(super) struct Plain {
    name: &'static str,
    forms: &'static [Form],
    spec: TableSpec,
}

const EVENTS: &[Form] =
    &[Form { name: "answer", syntax: Syntax::Csv(&["id", "time", "updated", "magnitude"]), role: Role::Rows }];
const RESULTS: &[Form] = &[Form { name: "answer", syntax: Syntax::Csv(&["year", "athlete", "km"]), role: Role::Rows }];

/// Day partitions, union.
pub(super) fn events() -> Plain {
    let columns = vec![
        Column::new("id", ColumnType::Text),
        Column::required("time", ColumnType::Timestamp),
        Column::new("updated", ColumnType::Timestamp),
        Column::new("magnitude", ColumnType::Float),
    ];
    Plain {
        name: "events",
        forms: EVENTS,
        spec: TableSpec {
            columns,
            key: 0,
            partition_column: 1,
            partitioning: Partitioning::Day,
            clustering: vec!["id"],
            rows_are: "events",
            growth: Growth::Union,
        },
    }
}

/// Year partitions, snapshot.
pub(super) fn results() -> Plain {
    Plain {
        name: "results",
        forms: RESULTS,
        spec: TableSpec {
            columns: vec![
                Column::new("year", ColumnType::Integer),
                Column::new("athlete", ColumnType::Text),
                Column::new("km", ColumnType::Float),
            ],
            key: 1,
            partition_column: 0,
            partitioning: Partitioning::Year,
            clustering: vec![],
            rows_are: "results",
            growth: Growth::Snapshot,
        },
    }
}

impl Dataset for Plain {
    fn name(&self) -> &'static str {
        self.name
    }

    fn table(&self) -> &TableSpec {
        &self.spec
    }

    fn forms(&self) -> &'static [Form] {
        self.forms
    }

    fn source(&self) -> &dyn Source {
        &Silent
    }

    fn read(&self, _: &Form, record: &Record<'_>, values: &mut Vec<Value>) -> Result<(), Unreadable> {
        for (at, column) in self.spec.columns.iter().enumerate() {
            values.push(record.value(at, column)?);
        }
        Ok(())
    }

    fn changed_at(&self, _: &Form, _: &Record<'_>) -> Option<Timestamp> {
        None
    }
}

/// Land never asks a source.
struct Silent;

impl Source for Silent {
    fn default_address(&self) -> &str {
        unreachable!()
    }

    fn address_variable(&self) -> &str {
        unreachable!()
    }

    fn spacing(&self) -> Duration {
        unreachable!()
    }

    fn clock(&self, _: Timestamp) -> Query {
        unreachable!()
    }

    fn plan(&self, _: &Ask, _: Option<&Cursor>, _: Option<Timestamp>) -> Plan {
        unreachable!()
    }

    fn refused(&self, _: &Ask, _: Option<&Cursor>, _: u32, _: &Refused<'_>) -> Refusal {
        unreachable!()
    }

    fn observed_at(&self, _: &HeaderMap) -> Option<Timestamp> {
        unreachable!()
    }

    fn overlap(&self) -> Duration {
        unreachable!()
    }

    fn largest_answer(&self) -> u64 {
        unreachable!()
    }
}

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        seconds(0)
    }

    fn random(&self) -> u128 {
        7
    }
}

/// So many seconds after the first capture could have been made.
pub(super) fn seconds(after: i64) -> Timestamp {
    DateTime::from_timestamp(1_753_315_200 + after, 0).unwrap()
}

pub(super) const ASK: Ask = Ask::Tick { days: 30, sweep: false };

pub(super) fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// A service and its ports.
pub(super) struct World {
    /// The store as a test sees it: nothing fails.
    pub(super) store: Arc<dyn Store>,
    pub(super) faults: Arc<Faults>,
    pub(super) warehouse: Arc<Tables>,
    pub(super) bus: Arc<Recorder>,
    pub(super) land: Land,
}

impl World {
    pub(super) fn new() -> Self {
        Self::on(Arc::new(Memory::default()))
    }

    pub(super) fn on(store: Arc<dyn Store>) -> Self {
        let faults = Arc::new(Faults::default());
        let warehouse = Arc::new(Tables {
            store: Arc::clone(&store),
            faults: Arc::clone(&faults),
            tables: Mutex::default(),
            ever_changed: Mutex::default(),
            loads: Mutex::default(),
            gate: Mutex::default(),
        });
        let bus = Arc::new(Recorder { faults: Arc::clone(&faults), sent: Mutex::default() });
        let datasets: [Arc<dyn Dataset>; 2] = [Arc::new(events()), Arc::new(results())];
        let shaky = Arc::new(Shaky { inner: Arc::clone(&store), faults: Arc::clone(&faults) });
        let land = Land::new(Registry::new(datasets), shaky, warehouse.clone(), bus.clone(), Arc::new(Still));
        Self { store, faults, warehouse, bus, land }
    }

    pub(super) fn bounded(mut self, rows: usize) -> Self {
        self.land.bound = Bound { rows, ..Bound::default() };
        self
    }

    /// Stores an answer that was observed so many seconds after the start.
    pub(super) async fn capture(&self, dataset: &str, at: i64, text: &str) -> CaptureId {
        let rows = (text.lines().count() as u64).saturating_sub(1);
        self.manifest(dataset, at, text.as_bytes(), Encoding::Identity, rows).await.capture
    }

    pub(super) async fn manifest(
        &self,
        dataset: &str,
        at: i64,
        bytes: &[u8],
        encoding: Encoding,
        rows: u64,
    ) -> Manifest {
        let observed_at = seconds(at);
        let id: CaptureId = format!("{}-{:016x}", observed_at.format("%Y%m%dT%H%M%SZ"), at + 1).parse().unwrap();
        let mut checksum = Checksum::default();
        checksum.update(bytes);
        let stored = StoredAnswer {
            form: "answer".to_owned(),
            origin: "http://source".to_owned(),
            observed_at,
            object: format!("{}/answer.csv", id.folder(dataset)),
            encoding,
            bytes: bytes.len() as u64,
            checksum: checksum.hex(),
            records: rows,
        };
        let manifest = Manifest {
            capture: id,
            dataset: dataset.to_owned(),
            ask: Some(ASK),
            observed_at,
            stored_at: observed_at,
            answers: vec![stored],
        };
        self.store.put(&manifest.answers[0].object, bytes.to_vec().into(), Precondition::None).await.unwrap();
        manifest.commit(&*self.store).await.unwrap();
        manifest
    }

    pub(super) async fn deliver(&self, dataset: &str, capture: &CaptureId) -> Result<(), Failure> {
        let body = CaptureStored { dataset: dataset.to_owned(), capture: capture.clone() };
        let id = format!("message-{capture}");
        let trace = Trace { id: 3, span: 4 };
        self.land
            .handle(Received { body: ToLand::Capture(body), id, published_at: seconds(5), attempt: 1, trace })
            .await
    }

    /// Stores and delivers.
    pub(super) async fn land(&self, dataset: &str, at: i64, text: &str) -> CaptureId {
        let capture = self.capture(dataset, at, text).await;
        self.deliver(dataset, &capture).await.unwrap();
        capture
    }

    pub(super) async fn names(&self, prefix: &str) -> Vec<String> {
        self.store.list(prefix).await.unwrap().into_iter().map(|object| object.name).collect()
    }

    pub(super) async fn text(&self, name: &str) -> String {
        let object = self.store.get(name).await.unwrap().unwrap_or_else(|| panic!("no object {name}"));
        String::from_utf8(object.bytes.to_vec()).unwrap()
    }

    /// The rows of all bronze objects of events, by partition.
    pub(super) async fn bronze(&self) -> BTreeMap<String, Vec<String>> {
        let mut found = BTreeMap::new();
        for name in self.names("bronze/events/").await {
            let bytes = self.store.get(&name).await.unwrap().unwrap().bytes;
            let rows = crate::bronze::read(bytes, &events().spec.schema()).unwrap();
            found.insert(name.split('/').nth(2).unwrap().to_owned(), lines(&rows));
        }
        found
    }

    /// The rows of a raw table, by partition.
    pub(super) fn raw(&self, dataset: &str) -> BTreeMap<String, Vec<String>> {
        let tables = self.warehouse.tables.lock().unwrap();
        let held = tables.get(&TableName::raw(dataset)).into_iter().flatten();
        held.map(|(partition, held)| (partition.folder(), lines(&held.rows))).collect()
    }

    pub(super) fn sent<M: Message>(&self) -> Vec<M> {
        let sent = self.bus.sent.lock().unwrap();
        let of_topic = sent.iter().filter(|(topic, _)| *topic == M::TOPIC);
        of_topic.map(|(_, parcel)| serde_json::from_slice(&parcel.data).unwrap()).collect()
    }

    /// All partitions that were ever published.
    pub(super) fn published(&self) -> BTreeSet<Partition> {
        let landed = self.sent::<PartitionsLanded>();
        landed.iter().flat_map(|landed| &landed.partitions).map(|landed| landed.partition).collect()
    }

    pub(super) async fn ledger(&self, dataset: &str) -> Vec<ledger::Record> {
        let records = ledger::read(&*self.store, dataset, None).await.unwrap();
        assert!(records.iter().all(ledger::Record::reconciles), "{records:?}");
        records
    }
}

/// Each row as `field|field|...`, times in milliseconds, with when and by which capture each was last observed.
pub(super) fn lines(rows: &RecordBatch) -> Vec<String> {
    let mut lines = vec![String::new(); rows.num_rows()];
    for column in &rows.columns()[..rows.num_columns() - 3] {
        let column = match column.data_type() {
            DataType::Timestamp(..) => cast(column, &DataType::Int64).unwrap(),
            _ => Arc::clone(column),
        };
        let text = cast(&column, &DataType::Utf8).unwrap();
        let text = text.as_any().downcast_ref::<StringArray>().unwrap();
        for (at, line) in lines.iter_mut().enumerate() {
            if !line.is_empty() {
                line.push('|');
            }
            line.push_str(if text.is_null(at) { "-" } else { text.value(at) });
        }
    }
    lines
}

/// An answer of events.
pub(super) fn answer(rows: &[&str]) -> String {
    let mut text = "id,time,updated,magnitude\n".to_owned();
    for row in rows {
        text.push_str(row);
        text.push('\n');
    }
    text
}

/// An answer of results.
pub(super) fn version(rows: &[&str]) -> String {
    answer(rows).replacen("id,time,updated,magnitude", "year,athlete,km", 1)
}
