//! Bronze objects: Parquet files whose bytes depend on their rows alone, with a checksum of themselves inside.
//!
//! Invariant: an object that [`read`] accepts is the one that was written, byte for byte. The checksum stands in front
//! of the footer, where no reader of Parquet looks, so that it is known before anything in the file is believed.

use std::io;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use serde::{Deserialize, Serialize};
use shared::capture::Checksum;
use shared::dataset::Dataset;
use shared::message::LandedPartition;
use shared::partition::Partition;
use shared::store::Generation;
use shared::table::ROW_HASH;

const CREATED_BY: &str = "strata";
/// Between the last row group and the footer: this, and the XXH3-64 of all other bytes in 16 hexadecimal digits.
const MARK: &[u8] = b"strata checksum ";
const SEAL: usize = MARK.len() + 16;
/// After the footer: its length in four bytes, and the magic number.
const TAIL: usize = 8;

/// A bronze object: one partition's rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) object: String,
    pub(crate) generation: Generation,
    pub(crate) rows: u64,
}

impl Part {
    pub(crate) fn landed(&self, partition: Partition) -> LandedPartition {
        LandedPartition { partition, generation: self.generation, rows: self.rows }
    }
}

/// The object that holds a partition of a table that is a union.
pub(crate) fn object_of(dataset: &dyn Dataset, partition: Partition) -> String {
    format!("bronze/{}/{}/{}.parquet", dataset.name(), partition.folder(), dataset.table().rows_are)
}

/// Why an object is not what was written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Damage {
    #[error("{0}")]
    Parquet(#[from] ParquetError),
    #[error("its end is missing")]
    Seal,
    #[error("it does not match its checksum")]
    Checksum,
    #[error("its columns are not those of the dataset")]
    Columns,
}

/// A set of rows as an object.
pub(crate) fn write(rows: &RecordBatch) -> Result<Bytes, ParquetError> {
    let mut writer = Writer::new(rows.schema())?;
    let mut bytes = writer.append(rows)?;
    bytes.append(&mut writer.finish()?);
    Ok(bytes.into())
}

/// The rows of an object.
pub(crate) fn read(bytes: Bytes, schema: &SchemaRef) -> Result<RecordBatch, Damage> {
    check_seal(&bytes)?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
    if reader.schema().fields() != schema.fields() {
        return Err(Damage::Columns);
    }
    let batches = reader.build()?.collect::<Result<Vec<_>, _>>().map_err(ParquetError::from)?;
    Ok(concat_batches(schema, &batches).map_err(ParquetError::from)?)
}

fn check_seal(bytes: &[u8]) -> Result<(), Damage> {
    let (footer, tail) = bytes.len().checked_sub(TAIL).map(|at| bytes.split_at(at)).ok_or(Damage::Seal)?;
    let length = tail.first_chunk().map_or(0, |length| u32::from_le_bytes(*length) as usize);
    let seal =
        footer.len().checked_sub(length).and_then(|end| Some(end.checked_sub(SEAL)?..end)).ok_or(Damage::Seal)?;
    let checksum = bytes[seal.clone()].strip_prefix(MARK).ok_or(Damage::Seal)?;
    let mut found = Checksum::default();
    found.update(&bytes[..seal.start]);
    found.update(&bytes[seal.end..]);
    if found.hex().as_bytes() == checksum { Ok(()) } else { Err(Damage::Checksum) }
}

/// Writes an object row group by row group.
pub(crate) struct Writer {
    parquet: ArrowWriter<Sink>,
}

#[derive(Default)]
struct Sink {
    bytes: Vec<u8>,
    checksum: Checksum,
}

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        self.checksum.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Writer {
    pub(crate) fn new(schema: SchemaRef) -> Result<Self, ParquetError> {
        let properties = WriterProperties::builder()
            .set_created_by(CREATED_BY.to_owned())
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true)
            // Hashes do not repeat.
            .set_column_dictionary_enabled(ColumnPath::from(ROW_HASH), false)
            .build();
        Ok(Self { parquet: ArrowWriter::try_new(Sink::default(), schema, Some(properties))? })
    }

    /// Adds rows as a row group. Returns the object's next bytes.
    pub(crate) fn append(&mut self, rows: &RecordBatch) -> Result<Vec<u8>, ParquetError> {
        self.parquet.write(rows)?;
        self.parquet.flush()?;
        self.parquet.sync()?;
        Ok(std::mem::take(&mut self.parquet.inner_mut().bytes))
    }

    /// Ends the object. Returns its last bytes.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>, ParquetError> {
        self.parquet.sync()?;
        let mut bytes = std::mem::take(&mut self.parquet.inner_mut().bytes);
        let Sink { bytes: footer, checksum } = self.parquet.into_inner()?;
        bytes.extend_from_slice(MARK);
        bytes.extend_from_slice(checksum.hex().as_bytes());
        bytes.extend_from_slice(&footer);
        Ok(bytes)
    }
}
