//! The jobs of BigQuery, by its HTTP interface: started once, waited for, and their errors told apart in one place.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gcp_bigquery_client::Client;
use gcp_bigquery_client::auth::Authenticator;
use gcp_bigquery_client::client_builder::ClientBuilder;
use gcp_bigquery_client::error::BQError;
use gcp_bigquery_client::model;
use gcp_bigquery_client::model::get_query_results_parameters::GetQueryResultsParameters;
use gcp_bigquery_client::model::job_configuration::JobConfiguration;
use gcp_bigquery_client::model::job_configuration_load::JobConfigurationLoad;
use gcp_bigquery_client::model::job_configuration_query::JobConfigurationQuery;
use gcp_bigquery_client::model::job_reference::JobReference;
use gcp_bigquery_client::model::table_cell::TableCell;
use gcp_bigquery_client::model::table_reference::TableReference;
use gcp_bigquery_client::model::table_row::TableRow;
use gcp_bigquery_client::tabledata::ListQueryParameters;
use google_cloud_auth::credentials::{AccessTokenCredentials, Builder as Credentials};
use shared::clock::SharedClock;
use shared::partition::Partition;
use shared::retry::Backoff;
use shared::table::TableName;
use shared::warehouse::{Answer, Cost, WarehouseError};

use super::columns::{arrow_schema, batch, table_schema};
use super::job::{Ended, Job, Jobs, Statement, Work};
use super::refusal::{Refusal, trouble};
use crate::config::Environment;
use crate::refusal::sentence;
use crate::{ConnectError, choose_cryptography};

/// The longest that a job is waited for. A push has 600 s; a job that takes longer goes on, and the next delivery of the
/// message waits for its end.
const PATIENCE: Duration = Duration::from_secs(480);
/// The longest that one request may take.
const REQUEST: Duration = Duration::from_secs(60);
/// How soon a job is looked at again: at first, and at most.
const LOOK: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));
/// The rows of a page of an answer.
const PAGE: i32 = 10_000;
/// Where bare table names are looked for.
const DEFAULT_DATASET: &str = "gold";

/// BigQuery's interface, of one project.
#[derive(Clone)]
pub(crate) struct BigQueryClient {
    client: Client,
    environment: Arc<Environment>,
    clock: SharedClock,
    retries: Backoff,
}

/// Google's credentials, as the client wants them. Tokens are kept until they are about to expire.
#[derive(Clone)]
enum Access {
    Emulator,
    Google(AccessTokenCredentials),
}

#[async_trait]
impl Authenticator for Access {
    async fn access_token(&self) -> Result<String, BQError> {
        match self {
            Self::Emulator => Ok("emulator".to_owned()),
            Self::Google(credentials) => {
                let token = credentials.access_token().await;
                token.map(|token| token.token).map_err(|error| {
                    let kind = if error.is_transient() {
                        std::io::ErrorKind::Other
                    } else {
                        std::io::ErrorKind::PermissionDenied
                    };
                    BQError::InvalidServiceAccountAuthenticator(std::io::Error::new(kind, sentence(&error)))
                })
            }
        }
    }
}

/// What is asked of BigQuery, for errors: a table, or `query`.
fn reference(environment: &Environment, table: &TableName, decorator: &str) -> TableReference {
    TableReference::new(&environment.project, &table.schema, &format!("{}{decorator}", table.table))
}

impl BigQueryClient {
    pub(crate) async fn connect(
        environment: &Environment,
        clock: SharedClock,
        retries: Backoff,
    ) -> Result<Self, ConnectError> {
        choose_cryptography();
        let failed = |error: &dyn std::error::Error| ConnectError { service: "bigquery", reason: sentence(error) };
        let mut builder = ClientBuilder::new();
        let access = match &environment.emulators.bigquery {
            Some(emulator) => {
                builder.with_v2_base_url(format!("{}/bigquery/v2", emulator.as_str()));
                Access::Emulator
            }
            None => Access::Google(
                Credentials::default()
                    .with_scopes(["https://www.googleapis.com/auth/bigquery"])
                    .build_access_token_credentials()
                    .map_err(|error| failed(&error))?,
            ),
        };
        let client = builder.build_from_authenticator(Arc::new(access)).await.map_err(|error| failed(&error))?;
        Ok(Self { client, environment: Arc::new(environment.clone()), clock, retries })
    }

    /// Makes a request, and makes it again while its failure may pass.
    async fn call<T, F>(&self, request: impl Fn() -> F) -> Result<T, Refusal>
    where
        F: Future<Output = Result<T, BQError>>,
    {
        let mut failed = 0;
        loop {
            let answer = match tokio::time::timeout(REQUEST, request()).await {
                Ok(answer) => answer.map_err(|error| Refusal::of(&error)),
                Err(_) => Err(Refusal::Transient(format!("bigquery gave no answer within {} s", REQUEST.as_secs()))),
            };
            match answer {
                Err(Refusal::Transient(reason)) => {
                    failed += 1;
                    if failed >= self.retries.attempts {
                        return Err(Refusal::Transient(reason));
                    }
                    tracing::warn!(reason, attempt = failed, "bigquery is asked again");
                    tokio::time::sleep(self.retries.delay(failed, &*self.clock)).await;
                }
                answer => return answer,
            }
        }
    }

    fn project(&self) -> &str {
        &self.environment.project
    }

    fn location(&self) -> Option<&str> {
        Some(self.environment.location.as_str())
    }

    fn labels(&self, table: &TableName) -> HashMap<String, String> {
        // Labels take small letters, digits, '-' and '_'.
        let label = |text: &str| -> String {
            let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "-_".contains(letter);
            text.to_lowercase().chars().filter(|&letter| plain(letter)).take(63).collect()
        };
        [("strata_env", self.environment.name.as_str()), ("dataset", &table.schema), ("table", &table.table)]
            .map(|(key, value)| (key.to_owned(), label(value)))
            .into()
    }

    fn statement(&self, sql: &str) -> JobConfigurationQuery {
        JobConfigurationQuery {
            query: sql.to_owned(),
            use_legacy_sql: Some(false),
            maximum_bytes_billed: Some(self.environment.max_bytes_billed.to_string()),
            default_dataset: Some(model::dataset_reference::DatasetReference {
                dataset_id: DEFAULT_DATASET.to_owned(),
                project_id: self.project().to_owned(),
            }),
            ..JobConfigurationQuery::default()
        }
    }

    fn configuration(&self, table: &TableName, work: &Work) -> JobConfiguration {
        let mut configuration = JobConfiguration { labels: Some(self.labels(table)), ..JobConfiguration::default() };
        match work {
            Work::Load { object, partition, columns, .. } => {
                let decorator = match partition {
                    None => String::new(),
                    Some(Partition::Day(day)) => day.format("$%Y%m%d").to_string(),
                    Some(Partition::Year(year)) => format!("${year}"),
                };
                configuration.load = Some(JobConfigurationLoad {
                    source_uris: Some(vec![format!("gs://{}/{object}", self.environment.bucket)]),
                    source_format: Some("PARQUET".to_owned()),
                    destination_table: Some(reference(&self.environment, table, &decorator)),
                    write_disposition: Some("WRITE_TRUNCATE".to_owned()),
                    // A whole table is made by its load; a partition is one of a table that is there.
                    create_disposition: Some(
                        if partition.is_some() { "CREATE_NEVER" } else { "CREATE_IF_NEEDED" }.to_owned(),
                    ),
                    schema: Some(table_schema(columns)),
                    ..JobConfigurationLoad::default()
                });
            }
            Work::Statement(statement) => configuration.query = Some(self.statement(&statement.sql)),
        }
        configuration
    }

    /// Starts a job unless its id was used before, and waits until it has ended.
    pub(crate) async fn end(&self, table: &TableName, job: &Job) -> Result<model::job::Job, Refusal> {
        let started = model::job::Job {
            configuration: Some(self.configuration(table, &job.work)),
            job_reference: Some(JobReference {
                job_id: Some(job.id.clone()),
                location: self.location().map(str::to_owned),
                project_id: Some(self.project().to_owned()),
            }),
            ..model::job::Job::default()
        };
        let mut seen = match self.call(|| self.client.job().insert(self.project(), started.clone())).await {
            Ok(job) => job,
            // It was started before, by us or by somebody who found it.
            Err(Refusal::Duplicate) => self.look(&job.id).await?,
            Err(refusal) => return Err(refusal),
        };
        let mut pause = LOOK.0;
        let waited = tokio::time::timeout(PATIENCE, async {
            while seen.status.as_ref().and_then(|status| status.state.as_deref()) != Some("DONE") {
                tokio::time::sleep(pause).await;
                pause = pause.mul_f32(1.5).min(LOOK.1);
                seen = self.look(&job.id).await?;
            }
            Ok(seen)
        });
        match waited.await {
            Ok(ended) => ended,
            Err(_) => {
                let reason = format!("job {} has not ended within {} s", job.id, PATIENCE.as_secs());
                Err(Refusal::Transient(reason))
            }
        }
    }

    async fn look(&self, id: &str) -> Result<model::job::Job, Refusal> {
        self.call(|| self.client.job().get_job(self.project(), id, self.location())).await
    }

    /// What is known of a table, or `None`.
    pub(crate) async fn table(&self, table: &TableName) -> Result<Option<model::table::Table>, Refusal> {
        let found = self.call(|| self.client.table().get(self.project(), &table.schema, &table.table, None)).await;
        match found {
            Ok(found) => Ok(Some(found)),
            Err(Refusal::Missing(reason)) if reason.contains("Not found: Table") => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// The names of a table's columns, in order, or `None`.
    pub(crate) async fn columns(&self, table: &TableName) -> Result<Option<Vec<String>>, Refusal> {
        let fields = self.table(table).await?.map(|table| table.schema.fields.unwrap_or_default());
        Ok(fields.map(|fields| fields.into_iter().map(|field| field.name).collect()))
    }

    /// The texts of some columns of all rows of a table. It is not billed.
    pub(crate) async fn list(&self, table: &TableName, columns: &[&str]) -> Result<Vec<Vec<Option<String>>>, Refusal> {
        let mut rows = Vec::new();
        let mut page_token = None;
        loop {
            let parameters = || ListQueryParameters {
                start_index: None,
                max_results: Some(PAGE.unsigned_abs()),
                page_token: page_token.clone(),
                selected_fields: Some(columns.join(",")),
                format_options: None,
            };
            let page = self.call(|| {
                let tables = self.client.tabledata();
                tables.list(self.project(), &table.schema, &table.table, parameters())
            });
            let page = page.await?;
            let text = |cell: TableCell| cell.value.and_then(|value| value.as_str().map(str::to_owned));
            let row = |row: TableRow| row.columns.into_iter().flatten().map(text).collect();
            rows.extend(page.rows.into_iter().flatten().map(row));
            page_token = page.page_token.filter(|token| !token.is_empty());
            if page_token.is_none() {
                return Ok(rows);
            }
        }
    }

    /// Refuses what is not one query, such as a script or a statement that changes something. It is not billed.
    async fn only_asks(&self, table: &TableName, statement: &Statement) -> Result<(), WarehouseError> {
        let dry = model::job::Job {
            configuration: Some(JobConfiguration {
                dry_run: Some(true),
                query: Some(self.statement(&statement.sql)),
                ..JobConfiguration::default()
            }),
            job_reference: Some(JobReference {
                location: self.location().map(str::to_owned),
                ..JobReference::default()
            }),
            ..model::job::Job::default()
        };
        let planned = self.call(|| self.client.job().insert(self.project(), dry.clone())).await;
        let planned = planned.map_err(|refusal| refusal.of_sql(table, statement))?;
        let query = planned.statistics.and_then(|statistics| statistics.query);
        match query.and_then(|query| query.statement_type) {
            Some(kind) if kind != "SELECT" => {
                Err(statement.error(None, format!("only queries are answered, and this is a {kind}")).into())
            }
            _ => Ok(()),
        }
    }

    /// Runs a query that answers.
    pub(crate) async fn answer(
        &self,
        table: &TableName,
        id: String,
        statement: Statement,
    ) -> Result<Answer, WarehouseError> {
        self.only_asks(table, &statement).await?;
        let job = Job { id, work: Work::Statement(statement) };
        let ended = self.end(table, &job).await.map_err(|refusal| refusal.into_error(table))?;
        if let Some(trouble) = trouble(&ended, table, &job.work) {
            return Err(trouble.of(table));
        }
        let cost = cost(&ended);
        let mut batches = Vec::new();
        let mut page_token = None;
        let mut schema = None;
        loop {
            let parameters = || GetQueryResultsParameters {
                location: self.location().map(str::to_owned),
                max_results: Some(PAGE),
                page_token: page_token.clone(),
                ..GetQueryResultsParameters::default()
            };
            let page = self.call(|| self.client.job().get_query_results(self.project(), &job.id, parameters())).await;
            let page = page.map_err(|refusal| refusal.into_error(table))?;
            let schema = schema.get_or_insert_with(|| arrow_schema(&page.schema.unwrap_or_default()));
            let rows = page.rows.unwrap_or_default();
            if !rows.is_empty() {
                batches.push(batch(schema, &rows).map_err(WarehouseError::Transient)?);
            }
            page_token = page.page_token.filter(|token| !token.is_empty());
            if page_token.is_none() {
                return Ok(Answer { schema: Arc::clone(schema), batches, cost });
            }
        }
    }
}

/// What a job cost.
fn cost(job: &model::job::Job) -> Cost {
    let number = |text: Option<&String>| text.and_then(|text| text.parse().ok()).unwrap_or(0);
    let statistics = job.statistics.as_ref();
    let query = statistics.and_then(|statistics| statistics.query.as_ref());
    let slot_ms = query.and_then(|query| query.total_slot_ms.as_ref());
    Cost {
        bytes_billed: number(query.and_then(|query| query.total_bytes_billed.as_ref())),
        slot_ms: number(slot_ms.or_else(|| statistics.and_then(|statistics| statistics.total_slot_ms.as_ref()))),
    }
}

#[async_trait]
impl Jobs for BigQueryClient {
    async fn run(&self, table: &TableName, job: &Job) -> Result<Ended, WarehouseError> {
        match self.end(table, job).await {
            Ok(ended) => Ok(match trouble(&ended, table, &job.work) {
                Some(trouble) => Ended::Failed(trouble),
                None => {
                    let query = ended.statistics.as_ref().and_then(|statistics| statistics.query.as_ref());
                    let affected = query.and_then(|query| query.num_dml_affected_rows.as_ref());
                    let affected = affected.and_then(|rows| rows.parse().ok()).unwrap_or(0);
                    Ended::Done { cost: cost(&ended), affected }
                }
            }),
            // The job was not taken, and never will be: its id is not used, and nothing of it ran.
            Err(refusal) => refusal.ended(table),
        }
    }

    async fn rows(&self, table: &TableName) -> Result<Option<u64>, WarehouseError> {
        let found = self.table(table).await.map_err(|refusal| refusal.into_error(table))?;
        Ok(found.and_then(|table| table.num_rows).and_then(|rows| rows.parse().ok()))
    }
}
