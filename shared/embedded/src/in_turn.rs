//! A step of DataFusion's physical planning that makes a query's rows come in the same order every time.
//!
//! Invariant: with one target partition, no plan that passed here reads two inputs at once into one output: the parts
//! of a UNION ALL come one after another. So the sum of a group's floats does not depend on what ran first.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
    SendableRecordBatchStream,
};
use futures::{StreamExt, TryStreamExt, stream};

/// The rule.
#[derive(Debug)]
pub(crate) struct InTurn;

impl PhysicalOptimizerRule for InTurn {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        if config.execution.target_partitions != 1 {
            return Ok(plan);
        }
        plan.transform_up(|node| {
            if let Some(coalesce) = node.downcast_ref::<CoalescePartitionsExec>() {
                let joined = OneByOne::over(Arc::clone(coalesce.input()));
                return Ok(Transformed::yes(match coalesce.fetch() {
                    Some(rows) => Arc::new(GlobalLimitExec::new(joined, 0, Some(rows))),
                    None => joined,
                }));
            }
            match node.downcast_ref::<RepartitionExec>() {
                Some(repartition) if repartition.partitioning().partition_count() == 1 => {
                    Ok(Transformed::yes(OneByOne::over(Arc::clone(repartition.input()))))
                }
                _ => Ok(Transformed::no(node)),
            }
        })
        .data()
        .map(OneByOne::over)
    }

    fn name(&self) -> &str {
        "in_turn"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The partitions of its input as one, one after another.
#[derive(Debug)]
struct OneByOne {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl OneByOne {
    fn over(input: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        if input.output_partitioning().partition_count() == 1 {
            return input;
        }
        let mut equivalences = input.equivalence_properties().clone();
        equivalences.clear_orderings();
        let properties = PlanProperties::new(
            equivalences,
            Partitioning::UnknownPartitioning(1),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        Arc::new(Self { input, properties: Arc::new(properties) })
    }
}

impl DisplayAs for OneByOne {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OneByOne")
    }
}

impl ExecutionPlan for OneByOne {
    fn name(&self) -> &str {
        "OneByOne"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(match children.pop() {
            Some(input) => Self::over(input),
            None => self,
        })
    }

    fn execute(&self, _partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let schema: SchemaRef = self.input.schema();
        let input = Arc::clone(&self.input);
        let partitions = 0..input.output_partitioning().partition_count();
        let parts = stream::iter(partitions).map(move |partition| input.execute(partition, Arc::clone(&context)));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, parts.try_flatten())))
    }
}
