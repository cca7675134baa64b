//! An answer of a capture as a stream of plain bytes in small pieces, unpacked and summed on the way.
//!
//! Invariant: at no time is more in memory than one chunk of the store and one piece.

use std::io::{self, Write};

use bytes::{Buf, Bytes};
use flate2::write::MultiGzDecoder;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use shared::capture::{Checksum, Encoding, StoredAnswer};
use shared::function::Failure;
use shared::store::{Store, StoreError};

/// A plain piece is at most about this long; what gzip gives for one write is bounded by its own 32 KiB buffer.
const PIECE: usize = 32 * 1024;

/// Why an answer could not be read on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("its gzip is damaged ({0})")]
    Packing(io::Error),
}

impl From<AnswerError> for Failure {
    fn from(error: AnswerError) -> Self {
        match error {
            AnswerError::Store(error) => error.into(),
            AnswerError::Packing(_) => Self::Transient(error.to_string()),
        }
    }
}

/// An answer that is being read.
pub(crate) struct Answer {
    chunks: BoxStream<'static, Result<Bytes, StoreError>>,
    chunk: Bytes,
    gzip: Option<MultiGzDecoder<Vec<u8>>>,
    piece: Bytes,
    plain: Vec<u8>,
    checksum: Checksum,
    bytes: u64,
}

impl Answer {
    pub(crate) async fn open(store: &dyn Store, stored: &StoredAnswer) -> Result<Self, StoreError> {
        Ok(Self {
            chunks: store.read(&stored.object, None).await?.chunks,
            chunk: Bytes::new(),
            gzip: match stored.encoding {
                Encoding::Identity => None,
                Encoding::Gzip => Some(MultiGzDecoder::new(Vec::new())),
            },
            piece: Bytes::new(),
            plain: Vec::new(),
            checksum: Checksum::default(),
            bytes: 0,
        })
    }

    /// The next plain bytes, or `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<&[u8]>, AnswerError> {
        loop {
            if self.chunk.is_empty() && !self.fetch().await? {
                // Only the end of gzip tells whether all of it was there.
                let Some(decoder) = self.gzip.take() else { return Ok(None) };
                self.plain = decoder.finish().map_err(AnswerError::Packing)?;
                return Ok(Some(&self.plain).filter(|plain| !plain.is_empty()).map(Vec::as_slice));
            }
            let Some(decoder) = &mut self.gzip else {
                self.piece = self.chunk.split_to(self.chunk.len().min(PIECE));
                // Reading and unpacking take the processor; others get their turn between the pieces.
                tokio::task::yield_now().await;
                return Ok(Some(&self.piece));
            };
            let used = decoder.write(&self.chunk).map_err(AnswerError::Packing)?;
            if used == 0 {
                return Err(AnswerError::Packing(io::ErrorKind::WriteZero.into()));
            }
            self.chunk.advance(used);
            self.plain.clear();
            std::mem::swap(&mut self.plain, decoder.get_mut());
            if !self.plain.is_empty() {
                tokio::task::yield_now().await;
                return Ok(Some(&self.plain));
            }
        }
    }

    /// Reads what is left without unpacking it, for the sum.
    pub(crate) async fn skip(&mut self) -> Result<(), StoreError> {
        while self.fetch().await? {}
        Ok(())
    }

    /// What differs between the bytes that were read and those that the manifest speaks of.
    pub(crate) fn difference(&self, stored: &StoredAnswer) -> Option<String> {
        let checksum = self.checksum.hex();
        if self.bytes != stored.bytes {
            Some(format!("it has {} bytes, and {} were stored", self.bytes, stored.bytes))
        } else if checksum != stored.checksum {
            Some(format!("its checksum is {checksum}, and {} was stored", stored.checksum))
        } else {
            None
        }
    }

    async fn fetch(&mut self) -> Result<bool, StoreError> {
        let Some(chunk) = self.chunks.try_next().await? else { return Ok(false) };
        self.checksum.update(&chunk);
        self.bytes += chunk.len() as u64;
        self.chunk = chunk;
        Ok(true)
    }
}
