//! Writing a stream of rows as the files of a table.
//!
//! Invariant: a file's content depends on the set of its rows and not on the order in which they came, as far as the
//! layout's columns, or else all of them, order the rows; so sums over it are the same to the bit after any history.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{AsArray, Int32Array};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};
use futures::future::BoxFuture;
use futures::{FutureExt, TryStreamExt, stream};
use parquet::arrow::AsyncArrowWriter;
use parquet::arrow::async_writer::AsyncFileWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use shared::store::{Precondition, Upload};
use shared::table::TableName;
use tokio::task::JoinSet;
use twox_hash::XxHash3_64;

use crate::commit::Tables;
use crate::failure::BadRows;
use crate::manifest::File;
use crate::reader::hexadecimal;
use crate::schema::conform;
use crate::split::{ALL, Ordinal, Splitter, StoredLayout};

/// What sorting may hold before it goes to disk, in bytes, over all builds of this process.
const SORTING: usize = 256 << 20;
/// Rows to a row group and to a page: what a reader can leave out.
const ROW_GROUP: usize = 128 * 1024;
const PAGE: usize = 8 * 1024;
/// The share of files that a Bloom filter names in vain.
const FALSE_POSITIVES: f64 = 0.01;

/// How a table's rows are written.
#[derive(Clone)]
pub(crate) struct Shape {
    pub(crate) table: TableName,
    pub(crate) schema: SchemaRef,
    pub(crate) layout: StoredLayout,
    pub(crate) splitter: Option<Splitter>,
}

impl Shape {
    /// The shape of a table with this schema.
    ///
    /// # Errors
    /// Why the layout does not fit the columns.
    pub(crate) fn new(table: TableName, schema: SchemaRef, layout: StoredLayout) -> Result<Self, BadRows> {
        let splitter =
            layout.partition_by.as_ref().map(|by| Splitter::new(&schema, by)).transpose().map_err(BadRows)?;
        let ordering = [("cluster by", &layout.cluster_by), ("use as its key", &layout.unique_key)];
        for (purpose, columns) in ordering {
            if let Some(missing) = columns.iter().find(|column| schema.index_of(column).is_err()) {
                return Err(BadRows(format!("there is no column '{missing}' to {purpose}")));
            }
        }
        Ok(Self { table, schema, layout, splitter })
    }

    /// The bucket of each row; `None` for a table that is one bucket.
    pub(crate) fn buckets(&self, batch: &RecordBatch) -> Result<Option<Vec<i32>>, BadRows> {
        let Some(splitter) = &self.splitter else { return Ok(None) };
        Ok(Some(splitter.buckets(&splitter.ordinals(batch).map_err(BadRows)?)))
    }

    /// The columns that order the rows of a file, by position.
    fn ordering(&self) -> Vec<usize> {
        let named = self.layout.cluster_by.iter().chain(&self.layout.unique_key);
        let mut columns: Vec<usize> = named.filter_map(|name| self.schema.index_of(name).ok()).collect();
        if self.layout.unique_key.is_empty() {
            let plain = |field: &Field| !field.data_type().is_nested();
            columns.extend((0..self.schema.fields().len()).filter(|index| plain(self.schema.field(*index))));
        }
        let mut seen = BTreeSet::new();
        columns.retain(|column| seen.insert(*column));
        columns
    }

    fn properties(&self) -> Result<WriterProperties> {
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
            .set_max_row_group_row_count(Some(ROW_GROUP))
            .set_data_page_row_count_limit(PAGE);
        if let Some(key) = self.filter() {
            let path = ColumnPath::from(key);
            properties = properties
                .set_column_bloom_filter_fpp(path.clone(), FALSE_POSITIVES)
                .set_column_bloom_filter_max_ndv(path, ROW_GROUP as u64);
        }
        Ok(properties.build())
    }

    /// The column that files can be searched by: the first of the key, if its type allows.
    pub(crate) fn filter(&self) -> Option<&str> {
        let key = self.layout.unique_key.first()?;
        let searchable = |data_type: &DataType| {
            matches!(data_type, DataType::Utf8 | DataType::Int64 | DataType::Date32 | DataType::Timestamp(..))
        };
        searchable(self.schema.field_with_name(key).ok()?.data_type()).then_some(key)
    }
}

/// Writes files; clones share the memory that sorting may use.
#[derive(Clone)]
pub(crate) struct Writer {
    tables: Tables,
    sorting: Arc<TaskContext>,
}

impl Writer {
    pub(crate) fn new(tables: Tables) -> Result<Self> {
        Self::with_memory(tables, SORTING)
    }

    pub(crate) fn with_memory(tables: Tables, bytes: usize) -> Result<Self> {
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(FairSpillPool::new(bytes))).build_arc()?;
        Ok(Self { tables, sorting: Arc::new(TaskContext::default().with_runtime(runtime)) })
    }

    /// Writes rows as one file to a bucket. `wanted` is asked for each bucket, after the last row has come in; rows of
    /// others are dropped. Nothing is left behind on an error.
    pub(crate) async fn write(
        &self,
        shape: &Shape,
        rows: SendableRecordBatchStream,
        mut wanted: impl FnMut(i32) -> bool + Send,
    ) -> Result<Vec<File>> {
        let mut sorted = self.sort(shape, rows)?;
        let mut finishing = JoinSet::new();
        let mut begun = Vec::new();
        let outcome = async {
            let mut open: Option<(i32, OpenFile)> = None;
            while let Some(batch) = sorted.try_next().await? {
                for (bucket, part) in runs(shape, &batch)? {
                    if open.as_ref().is_none_or(|(current, _)| *current != bucket) {
                        if let Some((_, done)) = open.take() {
                            finishing.spawn(done.finish());
                        }
                        if !wanted(bucket) {
                            continue;
                        }
                        let file = OpenFile::create(&self.tables, shape, bucket, &part).await?;
                        begun.push(file.file.object.clone());
                        open = Some((bucket, file));
                    }
                    if let Some((_, file)) = &mut open {
                        file.append(shape, &part).await?;
                    }
                }
            }
            if let Some((_, last)) = open {
                finishing.spawn(last.finish());
            }
            let mut files = Vec::new();
            while let Some(finished) = finishing.join_next().await {
                files.push(finished.map_err(|error| DataFusionError::External(Box::new(error)))??);
            }
            files.sort_by(|one: &File, other| one.bucket.cmp(&other.bucket));
            Ok(files)
        }
        .await;
        if outcome.is_err() {
            finishing.shutdown().await;
            self.tables.remove(begun).await;
        }
        outcome
    }

    /// Rows in the order of their buckets and of the layout, each with the number of its bucket as its last column.
    fn sort(&self, shape: &Shape, rows: SendableRecordBatchStream) -> Result<SendableRecordBatchStream> {
        let mut fields = shape.schema.fields().to_vec();
        let last = fields.len();
        fields.push(Arc::new(Field::new("bucket of the row", DataType::Int32, false)));
        let schema = Arc::new(Schema::new(fields));
        let (to, shape_of) = (Arc::clone(&schema), shape.clone());
        let numbered = rows.and_then(move |batch| {
            let numbered = number(&shape_of, &to, &batch);
            async move { numbered }
        });
        let numbered = RecordBatchStreamAdapter::new(Arc::clone(&schema), numbered);
        let input = Once { schema: Arc::clone(&schema), rows: Mutex::new(Some(Box::pin(numbered))) };
        let input = StreamingTableExec::try_new(Arc::clone(&schema), vec![Arc::new(input)], None, [], false, None)?;
        let options = SortOptions { descending: false, nulls_first: true };
        let columns = std::iter::once(last).chain(shape.ordering());
        let ordering = columns
            .map(|index| PhysicalSortExpr { expr: Arc::new(Column::new(schema.field(index).name(), index)), options });
        let ordering = LexOrdering::new(ordering).ok_or_else(|| DataFusionError::Internal("no ordering".to_owned()))?;
        SortExec::new(ordering, Arc::new(input)).execute(0, Arc::clone(&self.sorting))
    }
}

/// Rows as the table has them, and the number of each row's bucket.
fn number(shape: &Shape, schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch> {
    let batch = conform(batch, &shape.schema)?;
    let buckets = shape.buckets(&batch)?.unwrap_or_else(|| vec![0; batch.num_rows()]);
    let mut columns = batch.columns().to_vec();
    columns.push(Arc::new(Int32Array::from(buckets)));
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

/// The parts of a sorted batch that are of one bucket, without the bucket's column.
fn runs(shape: &Shape, batch: &RecordBatch) -> Result<Vec<(i32, RecordBatch)>> {
    let last = batch.num_columns() - 1;
    let buckets = batch.column(last).as_primitive::<Int32Type>().values();
    let rows = RecordBatch::try_new(Arc::clone(&shape.schema), batch.columns()[..last].to_vec())?;
    let mut runs = Vec::new();
    let mut start = 0;
    for run in buckets.chunk_by(|one, other| one == other) {
        runs.push((run[0], rows.slice(start, run.len())));
        start += run.len();
    }
    Ok(runs)
}

/// A stream as the one partition of a plan.
struct Once {
    schema: SchemaRef,
    rows: Mutex<Option<SendableRecordBatchStream>>,
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Once")
    }
}

impl PartitionStream for Once {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner).take();
        rows.unwrap_or_else(|| {
            let error = DataFusionError::Internal("the rows were read already".to_owned());
            Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), stream::iter([Err(error)])))
        })
    }
}

/// A file that is being written.
struct OpenFile {
    writer: AsyncArrowWriter<Sink>,
    file: File,
    last: Option<Ordinal>,
}

impl OpenFile {
    async fn create(tables: &Tables, shape: &Shape, bucket: i32, first: &RecordBatch) -> Result<Self> {
        let bucket = bucket_name(shape, bucket, first)?;
        let object = tables.file_name(&shape.table, &bucket);
        let upload = tables.store.upload(&object, Precondition::Absent).await.map_err(external)?;
        let sink = Sink { upload, hasher: XxHash3_64::new(), bytes: 0 };
        let writer = AsyncArrowWriter::try_new(sink, Arc::clone(&shape.schema), Some(shape.properties()?))?;
        let file = File {
            object,
            bucket,
            rows: 0,
            bytes: 0,
            hash: String::new(),
            filter: shape.filter().map(str::to_owned),
            range: None,
            partitions: BTreeSet::new(),
        };
        Ok(Self { writer, file, last: None })
    }

    async fn append(&mut self, shape: &Shape, rows: &RecordBatch) -> Result<()> {
        if let Some(splitter) = &shape.splitter {
            let values = splitter.values(rows).map_err(BadRows)?;
            for value in values {
                let (min, max) = self.file.range.unwrap_or((value, value));
                self.file.range = Some((min.min(value), max.max(value)));
            }
            for ordinal in splitter.ordinals(rows).map_err(BadRows)? {
                if self.last != Some(ordinal) {
                    self.last = Some(ordinal);
                    self.file.partitions.extend(ordinal.partition(splitter.unit()));
                }
            }
        }
        self.file.rows += rows.num_rows() as u64;
        Ok(self.writer.write(rows).await?)
    }

    async fn finish(mut self) -> Result<File> {
        self.writer.finish().await?;
        let Sink { upload, hasher, bytes } = self.writer.into_inner();
        upload.finish().await.map_err(external)?;
        self.file.bytes = bytes;
        self.file.hash = hexadecimal(&hasher);
        Ok(self.file)
    }
}

/// The name of a bucket, from one of its rows.
fn bucket_name(shape: &Shape, bucket: i32, rows: &RecordBatch) -> Result<String> {
    let Some(splitter) = &shape.splitter else { return Ok(ALL.to_owned()) };
    let ordinal = splitter.ordinals(&rows.slice(0, 1)).map_err(BadRows)?.pop();
    let partition = ordinal.and_then(|ordinal| ordinal.partition(splitter.unit()));
    let partition = partition.ok_or_else(|| DataFusionError::Internal(format!("bucket {bucket} has no row")))?;
    Ok(partition.bucket())
}

fn external(error: impl std::error::Error + Send + Sync + 'static) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// An upload as the Parquet writer wants it.
struct Sink {
    upload: Box<dyn Upload>,
    hasher: XxHash3_64,
    bytes: u64,
}

impl AsyncFileWriter for Sink {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), ParquetError>> {
        std::hash::Hasher::write(&mut self.hasher, &bytes);
        self.bytes += bytes.len() as u64;
        async move { self.upload.write(bytes).await.map_err(|error| ParquetError::External(Box::new(error))) }.boxed()
    }

    fn complete(&mut self) -> BoxFuture<'_, Result<(), ParquetError>> {
        async { Ok(()) }.boxed()
    }
}
