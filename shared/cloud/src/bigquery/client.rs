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
use shared::metrics::RETRY;
use shared::partition::Partition;
use shared::retry::Backoff;
use shared::table::TableName;
use shared::warehouse::{Answer, Cost, WarehouseError};
use tokio::sync::OnceCell;

use super::columns::{arrow_schema, batch, table_schema};
use super::job::{Ended, Job, Jobs, Statement, Trouble, Work};
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
pub(crate) const DEFAULT_DATASET: &str = "gold";
/// The label of a job that does nothing but use up an id.
const VOID: &str = "strata_void";

/// BigQuery's interface, of one project.
#[derive(Clone)]
pub(crate) struct BigQueryClient {
    client: Client,
    environment: Arc<Environment>,
    clock: SharedClock,
    retries: Backoff,
    /// Where the datasets are. BigQuery looks for a job in one place only.
    location: Arc<OnceCell<Option<String>>>,
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
                    .with_scopes(["https://www.googleapis.com/auth/cloud-platform"])
                    .build_access_token_credentials()
                    .map_err(|error| failed(&error))?,
            ),
        };
        let client = builder.build_from_authenticator(Arc::new(access)).await.map_err(|error| failed(&error))?;
        Ok(Self { client, environment: Arc::new(environment.clone()), clock, retries, location: Arc::default() })
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
                    tracing::warn!(reason, { RETRY } = failed, "bigquery is asked again");
                    tokio::time::sleep(self.retries.delay(failed, &*self.clock)).await;
                }
                answer => return answer,
            }
        }
    }

    fn project(&self) -> &str {
        &self.environment.project
    }

    /// Where a dataset is, asked for once: all of an environment are in one place.
    async fn location(&self, dataset: &str) -> Result<Option<&str>, Refusal> {
        let ask = || async { Ok(self.call(|| self.client.dataset().get(self.project(), dataset)).await?.location) };
        Ok(self.location.get_or_try_init(ask).await?.as_deref())
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
                    destination_table: Some(TableReference::new(
                        self.project(),
                        &table.schema,
                        &format!("{}{decorator}", table.table),
                    )),
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
        let location = self.location(&table.schema).await?;
        let started = self.job(Some(&job.id), location, self.configuration(table, &job.work));
        let mut seen = match self.call(|| self.client.job().insert(self.project(), started.clone())).await {
            Ok(job) => job,
            // It was started before, by us or by somebody who found it.
            Err(Refusal::Duplicate) => self.look(&job.id, location).await?,
            Err(refusal) => return Err(refusal),
        };
        let mut pause = LOOK.0;
        let waited = tokio::time::timeout(PATIENCE, async {
            while seen.status.as_ref().and_then(|status| status.state.as_deref()) != Some("DONE") {
                tokio::time::sleep(pause).await;
                pause = pause.mul_f32(1.5).min(LOOK.1);
                seen = self.look(&job.id, location).await?;
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

    async fn look(&self, id: &str, location: Option<&str>) -> Result<model::job::Job, Refusal> {
        self.call(|| self.client.job().get_job(self.project(), id, location)).await
    }

    /// A job as it is asked for. One that is never looked at again needs no id.
    fn job(&self, id: Option<&str>, location: Option<&str>, configuration: JobConfiguration) -> model::job::Job {
        model::job::Job {
            configuration: Some(configuration),
            job_reference: Some(JobReference {
                job_id: id.map(str::to_owned),
                location: location.map(str::to_owned),
                project_id: Some(self.project().to_owned()),
            }),
            ..model::job::Job::default()
        }
    }

    /// Uses up the id of a job that BigQuery did not take, so that it is never taken later, from whoever was slow: what
    /// was refused may have become possible since. Says whether the id was free.
    async fn void(&self, table: &TableName, job: &Job) -> Result<bool, Refusal> {
        let location = self.location(&table.schema).await?;
        let labels = HashMap::from([(VOID.to_owned(), "true".to_owned())]);
        let query = Some(self.statement("select 1"));
        let configuration = JobConfiguration { labels: Some(labels), query, ..JobConfiguration::default() };
        let nothing = self.job(Some(&job.id), location, configuration);
        match self.call(|| self.client.job().insert(self.project(), nothing.clone())).await {
            Ok(_) => Ok(true),
            Err(Refusal::Duplicate) => Ok(false),
            Err(refusal) => Err(refusal),
        }
    }

    /// How a job ended.
    fn ended(table: &TableName, work: &Work, job: &model::job::Job) -> Ended {
        if let Some(trouble) = trouble(job, table, work) {
            return Ended::Failed(trouble);
        }
        let labels = job.configuration.as_ref().and_then(|configuration| configuration.labels.as_ref());
        if labels.is_some_and(|labels| labels.contains_key(VOID)) {
            return Ended::Failed(Trouble::Transient(
                "bigquery refused to take the job, when somebody else asked".to_owned(),
            ));
        }
        let query = job.statistics.as_ref().and_then(|statistics| statistics.query.as_ref());
        let affected = query.and_then(|query| query.num_dml_affected_rows.as_ref());
        let affected = affected.and_then(|rows| rows.parse().ok()).unwrap_or(0);
        Ended::Done { cost: cost(job), affected }
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

    /// Hands on the texts of some columns of each row of a table, and holds a page of them. It is not billed.
    pub(crate) async fn list(
        &self,
        table: &TableName,
        columns: &[&str],
        mut each: impl FnMut(Vec<Option<String>>) + Send,
    ) -> Result<(), Refusal> {
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
            page.rows.into_iter().flatten().map(row).for_each(&mut each);
            page_token = page.page_token.filter(|token| !token.is_empty());
            if page_token.is_none() {
                return Ok(());
            }
        }
    }

    /// The bytes that a query would read. Refuses what is not one query, such as a script or a statement that changes
    /// something. It is not billed.
    pub(crate) async fn only_asks(&self, table: &TableName, statement: &Statement) -> Result<u64, WarehouseError> {
        let location = self.location(&table.schema).await.map_err(|refusal| refusal.into_error(table))?;
        let query = Some(self.statement(&statement.sql));
        let configuration = JobConfiguration { dry_run: Some(true), query, ..JobConfiguration::default() };
        let dry = self.job(None, location, configuration);
        let planned = self.call(|| self.client.job().insert(self.project(), dry.clone())).await;
        let planned = planned.map_err(|refusal| refusal.of_sql(table, statement))?;
        let query = planned.statistics.and_then(|statistics| statistics.query);
        match query.as_ref().and_then(|query| query.statement_type.as_deref()) {
            Some(kind) if kind != "SELECT" => {
                Err(statement.error(None, format!("only queries are answered, and this is a {kind}")).into())
            }
            _ => Ok(number(query.and_then(|query| query.total_bytes_processed).as_ref())),
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
        let location = self.location(&table.schema).await.map_err(|refusal| refusal.into_error(table))?;
        let mut batches = Vec::new();
        let mut page_token = None;
        let mut schema = None;
        loop {
            let parameters = || GetQueryResultsParameters {
                location: location.map(str::to_owned),
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

fn number(text: Option<&String>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// What a job cost.
fn cost(job: &model::job::Job) -> Cost {
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
        let told = |refusal: Refusal| refusal.into_error(table);
        match self.end(table, job).await {
            Ok(ended) => Ok(Self::ended(table, &job.work, &ended)),
            Err(refusal @ (Refusal::Missing(_) | Refusal::Permanent(_))) => match self.void(table, job).await {
                Ok(true) => Ok(Ended::Failed(refusal.trouble(table, &job.work))),
                // It was taken from somebody else.
                Ok(false) => {
                    let taken = self.end(table, job).await.map_err(told)?;
                    Ok(Self::ended(table, &job.work, &taken))
                }
                Err(_) => Err(told(refusal)),
            },
            // It depends on who asks, or may pass.
            Err(refusal) => Err(told(refusal)),
        }
    }

    async fn rows(&self, table: &TableName) -> Result<Option<u64>, WarehouseError> {
        let found = self.table(table).await.map_err(|refusal| refusal.into_error(table))?;
        Ok(found.and_then(|table| table.num_rows).and_then(|rows| rows.parse().ok()))
    }
}
