//! How DataFusion reads the Parquet objects of a [`Store`].
//!
//! Invariants. An object is read as the generation that its name stands for: files of tables never change, so their
//! footers are kept in memory. Nothing of such a file is believed before its bytes were checked against its hash. Every
//! error names the object.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::{OBJECT_STORE_COALESCE_DEFAULT, coalesce_ranges};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use parquet::bloom_filter::Sbbf;
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use shared::store::{Store, StoreError};
use twox_hash::XxHash3_64;

/// Below this size, in bytes, an object is read at once and checked against its hash.
const SMALL: u64 = 256 * 1024;
/// How much of a larger object's end is read at first, in bytes.
const FOOTER: usize = 64 * 1024;
/// How many footers and filters are kept.
const KEPT: usize = 1024;

/// An object that is there but is not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("{object} is damaged: {reason}")]
pub(crate) struct Broken {
    pub(crate) object: String,
    pub(crate) reason: String,
}

/// An object to read, as DataFusion carries it through a plan.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) object: String,
    pub(crate) bytes: u64,
    /// XXH3-64 of its bytes in hexadecimal, for a table's own file; bronze objects have none and may be replaced.
    pub(crate) hash: Option<String>,
}

impl Source {
    pub(crate) fn partitioned(self) -> PartitionedFile {
        PartitionedFile::new(self.object.clone(), self.bytes).with_extension(self)
    }
}

/// The footers and Bloom filters that were read.
#[derive(Default)]
struct Memory {
    footers: HashMap<String, Arc<ParquetMetaData>>,
    filters: HashMap<String, Arc<Vec<Sbbf>>>,
}

/// Opens objects of a store; clones share what they remember.
#[derive(Clone)]
pub(crate) struct Readers {
    store: Arc<dyn Store>,
    memory: Arc<Mutex<Memory>>,
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Readers")
    }
}

impl Readers {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, memory: Arc::default() }
    }

    fn open(&self, source: Source) -> Reader {
        Reader { readers: self.clone(), source, whole: None }
    }

    fn remember<T>(map: &mut HashMap<String, Arc<T>>, object: &str, value: &Arc<T>) {
        if map.len() >= KEPT {
            map.clear();
        }
        map.insert(object.to_owned(), Arc::clone(value));
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The Bloom filters of a column, one to each row group; none where the file has none for it.
    pub(crate) async fn filters(&self, source: &Source, column: &str) -> Result<Arc<Vec<Sbbf>>, ParquetError> {
        if let Some(known) = self.memory().filters.get(&source.object) {
            return Ok(Arc::clone(known));
        }
        let mut reader = self.open(source.clone());
        let footer = reader.get_metadata(None).await?;
        let columns = footer.file_metadata().schema_descr();
        let position = columns.columns().iter().position(|found| found.path().string() == column);
        let row_groups = footer.num_row_groups();
        let arrow = ArrowReaderMetadata::try_new(footer, ArrowReaderOptions::new())?;
        let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, arrow);
        let mut filters = Vec::new();
        if let Some(position) = position {
            for row_group in 0..row_groups {
                filters.extend(builder.get_row_group_column_bloom_filter(row_group, position).await?);
            }
        }
        if filters.len() != row_groups {
            filters.clear();
        }
        let filters = Arc::new(filters);
        Self::remember(&mut self.memory().filters, &source.object, &filters);
        Ok(filters)
    }

    /// Reads a file of a table through and says what is wrong with it.
    pub(crate) async fn examine(&self, source: &Source) -> Result<Option<String>, StoreError> {
        let mut reading = match self.store.read(&source.object, None).await {
            Ok(reading) => reading,
            Err(StoreError::NotFound { .. }) => return Ok(Some("it is missing".to_owned())),
            Err(error) => return Err(error),
        };
        let mut hasher = XxHash3_64::new();
        let mut bytes = 0;
        while let Some(chunk) = futures::TryStreamExt::try_next(&mut reading.chunks).await? {
            bytes += chunk.len() as u64;
            hasher.write_bytes(&chunk);
        }
        if bytes != source.bytes {
            return Ok(Some(format!("it has {bytes} bytes where {} were written", source.bytes)));
        }
        let hash = hexadecimal(&hasher);
        Ok((source.hash.as_ref() != Some(&hash)).then(|| "its bytes are not those that were written".to_owned()))
    }
}

/// A hash as manifests hold it.
pub(crate) fn hexadecimal(hasher: &XxHash3_64) -> String {
    format!("{:016x}", std::hash::Hasher::finish(hasher))
}

trait WriteBytes {
    fn write_bytes(&mut self, bytes: &[u8]);
}

impl WriteBytes for XxHash3_64 {
    fn write_bytes(&mut self, bytes: &[u8]) {
        std::hash::Hasher::write(self, bytes);
    }
}

impl ParquetFileReaderFactory for Readers {
    fn create_reader(
        &self,
        _partition_index: usize,
        file: PartitionedFile,
        _metadata_size_hint: Option<usize>,
        _metrics: &ExecutionPlanMetricsSet,
    ) -> datafusion::error::Result<Box<dyn AsyncFileReader + Send>> {
        let source = file.extension::<Source>().cloned();
        let source =
            source.ok_or_else(|| datafusion::error::DataFusionError::Internal("a file of no table".to_owned()))?;
        Ok(Box::new(self.open(source)))
    }
}

/// Reads one object.
struct Reader {
    readers: Readers,
    source: Source,
    whole: Option<Bytes>,
}

fn external(error: impl std::error::Error + Send + Sync + 'static) -> ParquetError {
    ParquetError::External(Box::new(error))
}

impl Reader {
    fn broken(&self, reason: impl Into<String>) -> ParquetError {
        external(Broken { object: self.source.object.clone(), reason: reason.into() })
    }

    /// A small object whole, which saves opening it for each of its parts.
    async fn whole(&mut self) -> Result<Option<&Bytes>, ParquetError> {
        if self.source.bytes > SMALL {
            return Ok(None);
        }
        if self.whole.is_none() {
            let Source { object, bytes, hash } = &self.source;
            let read =
                self.readers.store.read(object, None).await.map_err(external)?.collect().await.map_err(external)?;
            if read.len() as u64 != *bytes {
                return Err(self.broken(format!("it has {} bytes where {bytes} were written", read.len())));
            }
            if let Some(hash) = hash
                && *hash != format!("{:016x}", XxHash3_64::oneshot(&read))
            {
                return Err(self.broken("its bytes are not those that were written"));
            }
            self.whole = Some(read);
        }
        Ok(self.whole.as_ref())
    }

    async fn read(&mut self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, ParquetError> {
        let end = self.source.bytes;
        if ranges.iter().any(|range| range.start > range.end || range.end > end) {
            return Err(self.broken(format!("it speaks of bytes beyond its end at {end}")));
        }
        if let Some(whole) = self.whole().await? {
            let part = |range: &Range<u64>| whole.slice(range.start as usize..range.end as usize);
            return Ok(ranges.iter().map(part).collect());
        }
        let (store, object) = (&self.readers.store, &self.source.object);
        let fetch = |range: Range<u64>| async move {
            store.read(object, Some(range)).await.map_err(external)?.collect().await.map_err(external)
        };
        coalesce_ranges(ranges, fetch, OBJECT_STORE_COALESCE_DEFAULT).await
    }
}

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move { Ok(self.read(&[range]).await?.pop().unwrap_or_default()) }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move { self.read(&ranges).await }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        async move {
            let lasting = self.source.hash.is_some();
            if lasting && let Some(known) = self.readers.memory().footers.get(&self.source.object) {
                return Ok(Arc::clone(known));
            }
            let bytes = self.source.bytes;
            if lasting && bytes > SMALL {
                // Once for each file and process: damage that still decodes would be read as other values.
                if let Some(reason) = self.readers.examine(&self.source).await.map_err(external)? {
                    return Err(self.broken(reason));
                }
            }
            let parser = ParquetMetaDataReader::new()
                .with_page_index_policy(PageIndexPolicy::Optional)
                .with_prefetch_hint(Some(FOOTER));
            let footer = match parser.load_and_finish(&mut *self, bytes).await {
                Ok(footer) => Arc::new(footer),
                Err(error @ ParquetError::External(_)) => return Err(error),
                Err(error) => return Err(self.broken(error.to_string())),
            };
            if lasting {
                Readers::remember(&mut self.readers.memory().footers, &self.source.object, &footer);
            }
            Ok(footer)
        }
        .boxed()
    }
}
