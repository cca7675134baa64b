//! The warehouse: a [`Warehouse`] in BigQuery, with a record of each table in the lake.
//!
//! Datasets `raw`, `silver`, `gold` and `ops` are made by Terraform, the tables in them here. BigQuery changes a table in
//! one job at once; what it does not know is which bronze objects a table holds, and which versions of its inputs. That
//! is in the [`record`].

mod build;
mod client;
mod columns;
pub mod job;
pub mod load;
pub mod record;
mod refusal;
pub mod settle;
pub mod sql;

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use shared::clock::SharedClock;
use shared::partition::Partition;
use shared::retry::Backoff;
use shared::store::Store;
use shared::table::TableName;
use shared::warehouse::{
    Answer, Built, Load, Loaded, ModelRun, Origin, SeedRun, TableState, Warehouse, WarehouseError,
};

pub use columns::Column;

use self::client::{BigQueryClient, DEFAULT_DATASET};
use self::job::Statement;
use self::load::Loader;
use self::settle::Tables;
use crate::ConnectError;
use crate::config::Environment;

/// How often a seed is loaded again because somebody else loaded it meanwhile.
const TRIES: usize = 8;

/// BigQuery, of one environment.
pub struct BigQuery {
    client: BigQueryClient,
    store: Arc<dyn Store>,
    tables: Tables,
    loader: Loader,
    clock: SharedClock,
    /// What the ids of jobs begin with.
    prefix: String,
}

impl BigQuery {
    /// Makes the client; no request is made yet. `store` is the lake, with bronze and the records of tables.
    ///
    /// # Errors
    /// When there are no credentials.
    pub async fn connect(
        environment: &Environment,
        store: Arc<dyn Store>,
        clock: SharedClock,
        retries: Backoff,
    ) -> Result<Self, ConnectError> {
        let client = BigQueryClient::connect(environment, Arc::clone(&clock), retries).await?;
        let tables = Tables::new(Arc::clone(&store), Arc::new(client.clone()), Arc::clone(&clock));
        let prefix = format!("strata-{}", environment.name);
        let loader = Loader::new(tables.clone(), Arc::clone(&clock), prefix.clone());
        Ok(Self { client, store, tables, loader, clock, prefix })
    }

    /// The bytes that a query would read, which are not billed for asking.
    ///
    /// # Errors
    /// As those of the query, where they show before it is run.
    pub async fn estimate(&self, sql: &str, origin: &Origin) -> Result<u64, WarehouseError> {
        self.client.only_asks(&asked(), &Statement::of(sql, origin)).await
    }
}

/// No table: what a query reads is its own affair.
fn asked() -> TableName {
    TableName::new(DEFAULT_DATASET, "query")
}

#[async_trait]
impl Warehouse for BigQuery {
    async fn loaded(&self, table: &TableName, cause: &str) -> Result<Loaded, WarehouseError> {
        self.loader.loaded(table, cause).await
    }

    async fn load(&self, load: Load<'_>) -> Result<BTreeSet<Partition>, WarehouseError> {
        self.loader.load(&load).await
    }

    async fn state(&self, table: &TableName) -> Result<Option<TableState>, WarehouseError> {
        let found = self.tables.read(table).await?;
        Ok(found.readable(table)?.state.clone())
    }

    async fn build(&self, model: ModelRun) -> Result<Built, WarehouseError> {
        self.build_model(&model).await
    }

    async fn seed(&self, seed: SeedRun) -> Result<Built, WarehouseError> {
        self.build_seed(&seed).await
    }

    async fn query(&self, sql: &str, origin: &Origin) -> Result<Answer, WarehouseError> {
        let statement = Statement::of(sql, origin);
        let id = format!("{}-query-{:032x}", self.prefix, self.clock.random());
        self.client.answer(&asked(), id, statement).await
    }

    async fn tables(&self) -> Result<Vec<TableName>, WarehouseError> {
        self.tables.names().await
    }
}
