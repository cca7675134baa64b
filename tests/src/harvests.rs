//! A second dataset, small and unlike the first: one CSV file, partitioned by year, replaced as a whole. It goes through
//! the same services and shows that none of them knows a dataset by name.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::HeaderMap;
use shared::clock::Timestamp;
use shared::csv::{Record, Unreadable};
use shared::dataset::{Ask, Cursor, Dataset, Plan, Query, Question, Refusal, Refused, Source};
use shared::form::{Form, Role, Syntax};
use shared::table::ColumnType::{Float, Integer, Text};
use shared::table::{Column, Growth, Partitioning, TableSpec, Value};

const HEADER: &[&str] = &["field", "year", "crop", "tonnes"];

static FORMS: [Form; 1] = [Form { name: "harvests", syntax: Syntax::Csv(HEADER), role: Role::Rows }];

static TABLE: LazyLock<TableSpec> = LazyLock::new(|| TableSpec {
    columns: vec![
        Column::required("field", Text),
        Column::required("year", Integer),
        Column::new("crop", Text),
        Column::new("tonnes", Float),
    ],
    key: 0,
    partition_column: 1,
    partitioning: Partitioning::Year,
    clustering: vec!["crop"],
    rows_are: "harvests",
    growth: Growth::Snapshot,
});

/// The dataset `harvests`.
#[derive(Debug, Default)]
pub struct Harvests;

impl Dataset for Harvests {
    fn name(&self) -> &'static str {
        "harvests"
    }

    fn table(&self) -> &TableSpec {
        &TABLE
    }

    fn forms(&self) -> &'static [Form] {
        &FORMS
    }

    fn source(&self) -> &dyn Source {
        self
    }

    fn read(&self, _: &Form, record: &Record<'_>, values: &mut Vec<Value>) -> Result<(), Unreadable> {
        for (index, column) in TABLE.columns.iter().enumerate() {
            values.push(record.value(index, column)?);
        }
        Ok(())
    }

    fn changed_at(&self, _: &Form, _: &Record<'_>) -> Option<Timestamp> {
        None
    }
}

impl Source for Harvests {
    fn default_address(&self) -> &str {
        "http://harvests.invalid"
    }

    fn address_variable(&self) -> &str {
        "STRATA_HARVESTS_URL"
    }

    fn spacing(&self) -> Duration {
        Duration::ZERO
    }

    fn largest_answer(&self) -> u64 {
        1 << 20
    }

    fn clock(&self, _: Timestamp) -> Query {
        query()
    }

    fn plan(&self, ask: &Ask, _: Option<&Cursor>, _: Option<Timestamp>) -> Plan {
        Plan::Query { questions: vec![Question { query: query(), form: &FORMS[0] }], again: ask.clone() }
    }

    fn refused(&self, _: &Ask, _: Option<&Cursor>, _: u32, _: &Refused<'_>) -> Refusal {
        Refusal::Later(Duration::ZERO)
    }

    fn observed_at(&self, headers: &HeaderMap) -> Option<Timestamp> {
        let text = headers.get(header::LAST_MODIFIED)?.to_str().ok()?;
        chrono::DateTime::parse_from_rfc2822(text).ok().map(|at| at.to_utc())
    }

    fn overlap(&self) -> Duration {
        Duration::ZERO
    }
}

fn query() -> Query {
    Query { path: "/harvests.csv".to_owned(), parameters: Vec::new() }
}

/// The file that the source serves now: its time and its text.
#[derive(Clone, Default)]
pub struct File(Arc<Mutex<(String, String)>>);

impl File {
    /// Replaces the file. `modified` is as HTTP writes times.
    pub fn replace(&self, modified: &str, text: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (modified.to_owned(), text.to_owned());
    }

    /// Serves it on a free port; returns the address.
    pub async fn serve(&self) -> std::io::Result<String> {
        let router = Router::new().route("/harvests.csv", get(answer)).with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("http://{}", listener.local_addr()?);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(address)
    }
}

async fn answer(State(file): State<File>) -> Response {
    let (modified, text) = file.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    ([(header::LAST_MODIFIED, modified)], text).into_response()
}
