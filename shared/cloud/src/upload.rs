//! An object that is written to a bucket chunk by chunk.
//!
//! Invariant: the service is told that the content is complete only by [`Upload::finish`]. An upload that is dropped
//! before leaves a session that the service forgets, and no object. Whether the precondition holds is said by
//! [`Upload::finish`] alone, also when the service says it earlier: that is where writers read back.

use std::convert::Infallible;
use std::{mem, vec};

use async_trait::async_trait;
use bytes::Bytes;
use google_cloud_gax::error::Error;
use google_cloud_storage::model::Object;
use google_cloud_storage::streaming_source::{Payload, SizeHint, StreamingSource};
use shared::store::{Generation, Precondition, StoreError, Upload};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::bucket::{Bucket, patiently};

/// What is sent at once, in bytes, and held in memory until it is confirmed. An object that is smaller is written with
/// one request. A multiple of 256 KiB, as the protocol wants.
pub(crate) const PART: usize = 4 << 20;

/// Content that is in memory.
pub(crate) struct Held {
    chunks: vec::IntoIter<Bytes>,
    size: u64,
}

impl Held {
    pub(crate) fn new(chunks: Vec<Bytes>) -> Self {
        let size = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        Self { chunks: chunks.into_iter(), size }
    }
}

impl StreamingSource for Held {
    type Error = Infallible;

    async fn next(&mut self) -> Option<Result<Bytes, Infallible>> {
        self.chunks.next().map(Ok)
    }

    async fn size_hint(&self) -> Result<SizeHint, Infallible> {
        Ok(SizeHint::with_exact(self.size))
    }
}

/// What a writer hands to the task that sends it.
enum Piece {
    Chunk(Bytes),
    End,
}

#[derive(Debug, thiserror::Error)]
#[error("it was given up")]
struct GivenUp;

/// The content as the client asks for it.
struct Pieces {
    receiver: mpsc::Receiver<Piece>,
    ended: bool,
}

impl StreamingSource for Pieces {
    type Error = GivenUp;

    async fn next(&mut self) -> Option<Result<Bytes, GivenUp>> {
        if self.ended {
            return None;
        }
        match self.receiver.recv().await {
            Some(Piece::Chunk(chunk)) => Some(Ok(chunk)),
            Some(Piece::End) => {
                self.ended = true;
                None
            }
            // Without its end the content is not complete, and must not be taken for it.
            None => Some(Err(GivenUp)),
        }
    }
}

enum State {
    /// It may yet be small enough for one request.
    Held { chunks: Vec<Bytes>, size: usize },
    /// It is sent while it is written.
    Sent(Sending),
    /// The service already said that somebody wrote first. The rest of the content is let go.
    Late,
    /// A step failed, or was not waited for.
    Failed,
}

struct Sending {
    pieces: mpsc::Sender<Piece>,
    task: AbortOnDropHandle<Result<Object, Error>>,
}

/// See [`Upload`].
pub(crate) struct BucketUpload {
    bucket: Bucket,
    name: String,
    precondition: Precondition,
    state: State,
}

impl BucketUpload {
    pub(crate) fn new(bucket: Bucket, name: &str, precondition: Precondition) -> Self {
        let state = State::Held { chunks: Vec::new(), size: 0 };
        Self { bucket, name: name.to_owned(), precondition, state }
    }

    fn start(&self) -> Sending {
        let (pieces, receiver) = mpsc::channel(1);
        let payload = Payload::from_stream(Pieces { receiver, ended: false });
        let write = self.bucket.write(&self.name, self.precondition, payload);
        Sending { pieces, task: AbortOnDropHandle::new(tokio::spawn(write.send_buffered())) }
    }

    /// Hands a piece over, or says why nobody takes it.
    async fn hand_over(&self, sending: Sending, piece: Piece) -> Result<Sending, StoreError> {
        match patiently("write", &self.name, sending.pieces.send(piece)).await? {
            Ok(()) => Ok(sending),
            Err(_) => match self.settled(sending.task).await {
                Err(error) => Err(error),
                Ok(_) => Err(self.failed("it ended before its content did")),
            },
        }
    }

    async fn hand_over_all(&self, mut sending: Sending, chunks: Vec<Bytes>) -> Result<Sending, StoreError> {
        for chunk in chunks {
            sending = self.hand_over(sending, Piece::Chunk(chunk)).await?;
        }
        Ok(sending)
    }

    async fn settled(&self, task: AbortOnDropHandle<Result<Object, Error>>) -> Result<Generation, StoreError> {
        match patiently("write", &self.name, task).await? {
            Ok(Ok(object)) => Ok(Generation(object.generation)),
            Ok(Err(error)) => Err(self.bucket.not_written(&self.name, self.precondition, &error)),
            Err(error) => Err(self.failed(&error.to_string())),
        }
    }

    fn failed(&self, reason: &str) -> StoreError {
        StoreError::Transient { action: "write", name: self.name.clone(), reason: reason.to_owned() }
    }

    fn failed_before(&self) -> StoreError {
        StoreError::Permanent {
            action: "write",
            name: self.name.clone(),
            reason: "an earlier write of it failed".to_owned(),
        }
    }
}

#[async_trait]
impl Upload for BucketUpload {
    async fn write(&mut self, chunk: Bytes) -> Result<(), StoreError> {
        let (sending, chunks) = match mem::replace(&mut self.state, State::Failed) {
            State::Held { mut chunks, size } => {
                let size = size + chunk.len();
                chunks.push(chunk);
                if size < PART {
                    self.state = State::Held { chunks, size };
                    return Ok(());
                }
                (self.start(), chunks)
            }
            State::Sent(sending) => (sending, vec![chunk]),
            State::Late => {
                self.state = State::Late;
                return Ok(());
            }
            State::Failed => return Err(self.failed_before()),
        };
        self.state = match self.hand_over_all(sending, chunks).await {
            Ok(sending) => State::Sent(sending),
            Err(StoreError::Conflict { .. }) => State::Late,
            Err(error) => return Err(error),
        };
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<Generation, StoreError> {
        match mem::replace(&mut self.state, State::Failed) {
            State::Held { chunks, .. } => self.bucket.write_whole(&self.name, self.precondition, chunks).await,
            State::Sent(sending) => {
                let sending = self.hand_over(sending, Piece::End).await?;
                self.settled(sending.task).await
            }
            State::Late => Err(StoreError::Conflict { name: self.name.clone() }),
            State::Failed => Err(self.failed_before()),
        }
    }
}
