//! What every operation of the warehouse works with: the manifests, the sessions, the reading and writing of files.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::execution::{SessionStateBuilder, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlanProperties, SendableRecordBatchStream, execute_stream};
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::memory::InMemory;
use shared::clock::SharedClock;
use shared::store::Store;
use shared::table::TableName;
use shared::warehouse::{Origin, WarehouseError};

use crate::commit::Tables;
use crate::failure::{Context, at_start};
use crate::files::{Shape, Writer};
use crate::in_turn::InTurn;
use crate::provider::{ADDRESS, scan_files};
use crate::reader::{Readers, Source};
use crate::snapshot::Snapshot;
use crate::sql;

/// Up to how many bytes of files a query is run by one thread alone, which is quicker and needs no exchange.
const ALONE: u64 = 16 << 20;

/// The parts of the warehouse; clones share them.
#[derive(Clone)]
pub(crate) struct Engine {
    pub(crate) tables: Tables,
    pub(crate) readers: Readers,
    pub(crate) writer: Writer,
    session: SessionContext,
    task: Arc<TaskContext>,
}

/// A query that is planned, and the files that it may read.
pub(crate) struct Planned {
    pub(crate) plan: LogicalPlan,
    pub(crate) sources: Vec<Source>,
    bytes: u64,
}

impl Engine {
    pub(crate) fn new(store: Arc<dyn Store>, clock: SharedClock) -> datafusion::error::Result<Self> {
        let tables = Tables { store: Arc::clone(&store), clock };
        // One partition: rows then come in one order, and sums of floats are the same to the bit in every build.
        let session = sql::session_with(SessionConfig::new().with_target_partitions(1));
        let state = SessionStateBuilder::new_from_existing(session.state());
        let state = state.with_physical_optimizer_rule(Arc::new(InTurn)).build();
        let session = SessionContext::new_with_state(state);
        let address = url(ADDRESS)?;
        session.runtime_env().register_object_store(address.as_ref(), Arc::new(InMemory::new()));
        let task = session.task_ctx();
        Ok(Self { writer: Writer::new(tables.clone())?, readers: Readers::new(store), tables, session, task })
    }

    /// An error that came while the SQL of `origin` ran, for the table that is built.
    pub(crate) fn context<'a>(
        &'a self,
        table: Option<&'a TableName>,
        origin: Option<&'a Origin>,
        sources: Vec<Source>,
    ) -> Context<'a> {
        Context { table, origin, sources, readers: &self.readers }
    }

    /// Plans SQL with its columns as BigQuery's types.
    pub(crate) async fn plan(&self, text: &str, origin: &Origin) -> Result<Planned, WarehouseError> {
        let mut snapshot = Snapshot::new(&self.tables, &self.readers, &self.session);
        let plan = snapshot.plan(text, origin).await?;
        let located =
            |error: datafusion::error::DataFusionError| at_start(origin, error.find_root().message().to_string());
        let plan = sql::normalize(plan).map_err(located)?;
        Ok(Planned { plan, sources: snapshot.sources(), bytes: snapshot.bytes() })
    }

    /// Runs a planned query: its rows in one stream, always in the same order.
    pub(crate) async fn run(&self, planned: &Planned) -> datafusion::error::Result<SendableRecordBatchStream> {
        let plan = self.session.state().create_physical_plan(&planned.plan).await?;
        execute_stream(plan, self.session.task_ctx())
    }

    /// Runs a planned query as fast as it goes, its rows in the order that the query asks for.
    pub(crate) async fn answer(&self, planned: &Planned) -> datafusion::error::Result<SendableRecordBatchStream> {
        if planned.bytes <= ALONE {
            return self.run(planned).await;
        }
        let mut state = self.session.state();
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        state.config_mut().options_mut().execution.target_partitions = threads;
        let plan = state.create_physical_plan(&planned.plan).await?;
        execute_stream(plan, state.task_ctx())
    }

    /// The rows of files, all columns.
    pub(crate) fn scan(
        &self,
        schema: &SchemaRef,
        sources: impl IntoIterator<Item = Source>,
    ) -> datafusion::error::Result<SendableRecordBatchStream> {
        let plan = scan_files(schema, sources, &self.readers, None, None, None)?;
        debug_assert_eq!(plan.output_partitioning().partition_count(), 1);
        plan.execute(0, Arc::clone(&self.task))
    }
}

fn url(address: &str) -> datafusion::error::Result<datafusion::execution::object_store::ObjectStoreUrl> {
    datafusion::execution::object_store::ObjectStoreUrl::parse(address)
}

/// Streams of one table's rows, one after another.
pub(crate) fn chain(shape: &Shape, parts: Vec<SendableRecordBatchStream>) -> SendableRecordBatchStream {
    let rows = stream::iter(parts).flatten();
    Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&shape.schema), rows))
}

/// A stream with a change or a check to each batch.
pub(crate) fn each(
    shape: &Shape,
    rows: SendableRecordBatchStream,
    mut change: impl FnMut(arrow::record_batch::RecordBatch) -> datafusion::error::Result<arrow::record_batch::RecordBatch>
    + Send
    + 'static,
) -> SendableRecordBatchStream {
    let rows = rows.and_then(move |batch| std::future::ready(change(batch)));
    Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&shape.schema), rows))
}

/// Batches as a stream.
pub(crate) fn given(
    shape: &Shape,
    batches: impl IntoIterator<Item = arrow::record_batch::RecordBatch>,
) -> SendableRecordBatchStream {
    let batches: Vec<_> = batches.into_iter().map(Ok).collect();
    Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&shape.schema), stream::iter(batches)))
}
