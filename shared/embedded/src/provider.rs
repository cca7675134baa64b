//! A table of one manifest as DataFusion scans it.
//!
//! Invariant: a scan reads the files that the manifest names, in its order, and never looks at what lies beside them.
//! A file is left out only when the manifest proves that no row of it can pass the filters.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{Column, DFSchema, ScalarValue, Statistics};
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::{TableProvider, TableType};
use datafusion::error::Result;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;

use crate::manifest::{File, Manifest};
use crate::reader::{Readers, Source};

/// DataFusion finds a store by address before it opens a file. Ours are opened by [`Readers`], so nothing is there.
pub(crate) const ADDRESS: &str = "strata://lake/";
/// How long an `IN` list may be and still leave out files.
const LONGEST_LIST: usize = 10_000;

impl From<&File> for Source {
    fn from(file: &File) -> Self {
        Self { object: file.object.clone(), bytes: file.bytes, hash: Some(file.hash.clone()) }
    }
}

/// The table.
#[derive(Debug)]
pub(crate) struct Provider {
    schema: SchemaRef,
    partition_column: Option<usize>,
    files: Vec<File>,
    readers: Readers,
}

impl Provider {
    pub(crate) fn new(manifest: &Manifest, readers: Readers) -> Self {
        let schema = manifest.schema();
        let by = manifest.layout.partition_by.as_ref();
        let partition_column = by.and_then(|by| schema.index_of(&by.field).ok());
        Self { schema, partition_column, files: manifest.files.clone(), readers }
    }

    fn keep(&self, predicate: Option<&Arc<dyn PhysicalExpr>>) -> Result<Vec<&File>> {
        let all = || self.files.iter().collect();
        let (Some(predicate), Some(column)) = (predicate, self.partition_column) else {
            return Ok(all());
        };
        let pruning = PruningPredicateBuilder::new()
            .with_file_schema(Arc::clone(&self.schema))
            .with_max_in_list_size(LONGEST_LIST)
            .build(Arc::clone(predicate));
        let Some(pruning) = pruning else {
            return Ok(all());
        };
        let field = self.schema.field(column);
        let kept = pruning.prune(&Ranges { files: &self.files, column: field.name(), data_type: field.data_type() })?;
        Ok(self.files.iter().zip(kept).filter(|(_, keep)| *keep).map(|(file, _)| file).collect())
    }
}

/// A plan that reads whole files, each row of all columns or of those projected.
pub(crate) fn scan_files(
    schema: &SchemaRef,
    files: impl IntoIterator<Item = Source>,
    readers: &Readers,
    projection: Option<&Vec<usize>>,
    predicate: Option<Arc<dyn PhysicalExpr>>,
    rows: Option<usize>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let files: Vec<_> = files.into_iter().map(Source::partitioned).collect();
    let mut source = ParquetSource::new(Arc::clone(schema)).with_parquet_file_reader_factory(Arc::new(readers.clone()));
    if let Some(predicate) = predicate {
        source = source.with_predicate(predicate);
    }
    let mut statistics = Statistics::new_unknown(schema);
    if let Some(rows) = rows {
        statistics.num_rows = Precision::Exact(rows);
    }
    let config = FileScanConfigBuilder::new(ObjectStoreUrl::parse(ADDRESS)?, Arc::new(source))
        .with_file_group(FileGroup::new(files))
        .with_statistics(statistics)
        .with_preserve_order(true)
        .with_projection_indices(projection.cloned())?
        .build();
    Ok(DataSourceExec::from_data_source(config))
}

#[async_trait]
impl TableProvider for Provider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let predicate = match conjunction(filters.iter().cloned()) {
            Some(filter) => {
                let schema = DFSchema::try_from(Arc::clone(&self.schema))?;
                Some(state.create_physical_expr(filter, &schema)?)
            }
            None => None,
        };
        let kept = self.keep(predicate.as_ref())?;
        let rows = kept.iter().map(|file| file.rows).sum::<u64>();
        let sources = kept.into_iter().map(Source::from);
        scan_files(&self.schema, sources, &self.readers, projection, predicate, usize::try_from(rows).ok())
    }
}

/// What the manifest knows of its files' partition column.
struct Ranges<'a> {
    files: &'a [File],
    column: &'a str,
    data_type: &'a DataType,
}

impl Ranges<'_> {
    fn array(&self, column: &Column, value: impl Fn((i64, i64)) -> i64) -> Option<ArrayRef> {
        if column.name != self.column {
            return None;
        }
        let values = self.files.iter().map(|file| file.range.map(&value));
        match self.data_type {
            // Days are stored in 32 bits.
            DataType::Date32 => {
                let days = values.map(|value| value.and_then(|value| i32::try_from(value).ok()));
                Some(Arc::new(days.collect::<arrow::array::Date32Array>()))
            }
            other => cast(&values.collect::<arrow::array::Int64Array>(), other).ok(),
        }
    }
}

impl PruningStatistics for Ranges<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.array(column, |(min, _)| min)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.array(column, |(_, max)| max)
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, _column: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        None
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
