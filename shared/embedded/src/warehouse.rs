//! The `Warehouse` port on DataFusion.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures::TryStreamExt;
use shared::clock::SharedClock;
use shared::partition::Partition;
use shared::store::Store;
use shared::table::TableName;
use shared::warehouse::{
    Answer, Built, Cost, Load, Loaded, ModelRun, Origin, SeedRun, TableState, Warehouse, WarehouseError,
};

use crate::engine::Engine;

/// A warehouse whose tables are Parquet objects and a manifest each, in a store; clones share it.
///
/// Any number of processes may read and write one store: what they do is settled by the manifests' generations.
#[derive(Clone)]
pub struct Embedded {
    engine: Result<Engine, String>,
}

impl Embedded {
    /// Over the objects below `warehouse/` of a store, and the bronze objects of the same store.
    pub fn new(store: Arc<dyn Store>, clock: SharedClock) -> Self {
        Self { engine: Engine::new(store, clock).map_err(|error| error.to_string()) }
    }

    fn engine(&self) -> Result<&Engine, WarehouseError> {
        self.engine.as_ref().map_err(|error| WarehouseError::Transient(error.clone()))
    }

    /// Removes what crashed builds have left behind: files that no table names and that are a day old. Returns how
    /// many.
    ///
    /// # Errors
    /// The store's.
    pub async fn vacuum(&self) -> Result<usize, WarehouseError> {
        self.engine()?.tables.vacuum().await
    }
}

#[async_trait]
impl Warehouse for Embedded {
    async fn loaded(&self, table: &TableName, cause: &str) -> Result<Loaded, WarehouseError> {
        self.engine()?.loaded(table, cause).await
    }

    async fn load(&self, load: Load<'_>) -> Result<BTreeSet<Partition>, WarehouseError> {
        self.engine()?.load(&load).await
    }

    async fn state(&self, table: &TableName) -> Result<Option<TableState>, WarehouseError> {
        let manifest = self.engine()?.tables.find(table).await?.manifest()?;
        Ok(manifest.map(|manifest| manifest.state))
    }

    async fn build(&self, model: ModelRun) -> Result<Built, WarehouseError> {
        self.engine()?.build(&model).await
    }

    async fn seed(&self, seed: SeedRun) -> Result<Built, WarehouseError> {
        self.engine()?.seed(&seed).await
    }

    async fn query(&self, sql: &str, origin: &Origin) -> Result<Answer, WarehouseError> {
        let engine = self.engine()?;
        let planned = engine.plan(sql, origin).await?;
        let schema = Arc::clone(planned.plan.schema().inner());
        let answered = async { engine.answer(&planned).await?.try_collect::<Vec<_>>().await }.await;
        match answered {
            Ok(batches) => {
                let schema = batches.first().map_or(schema, arrow::record_batch::RecordBatch::schema);
                Ok(Answer { schema, batches, cost: Cost::default() })
            }
            Err(error) => Err(engine.context(None, Some(origin), planned.sources).explain(error).await),
        }
    }

    async fn tables(&self) -> Result<Vec<TableName>, WarehouseError> {
        self.engine()?.tables.names().await
    }
}
