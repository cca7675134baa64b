//! The lake: a [`Store`] in a bucket of Cloud Storage.
//!
//! Content is read and written by HTTP, with the CRC32C checksums of the client: a whole read and every write is
//! verified; Cloud Storage has no checksum for a range. Listings, metadata and deletes go by gRPC. A read stays with the
//! generation that it opened; where that is replaced while a broken connection is resumed, the read fails and may be
//! made again.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use google_cloud_auth::credentials::anonymous;
use google_cloud_gax::error::Error;
use google_cloud_gax::options::RequestOptionsBuilder;
use google_cloud_gax::paginator::ItemPaginator;
use google_cloud_gax::retry_policy::RetryPolicyExt;
use google_cloud_storage::builder::storage::WriteObject;
use google_cloud_storage::client::{Storage, StorageControl};
use google_cloud_storage::model_ext::ReadRange;
use google_cloud_storage::read_resume_policy::{ReadResumePolicyExt, Recommended};
use google_cloud_storage::retry_policy::RetryableErrors;
use google_cloud_storage::streaming_source::Payload;
use shared::retry::Backoff;
use shared::store::{Generation, Metadata, Precondition, Reading, Store, StoreError, Upload, is_plain};

use crate::config::{BucketName, Emulators};
use crate::refusal::{Refusal, sentence};
use crate::upload::{BucketUpload, Held, PART};
use crate::{ConnectError, PATIENCE, backoff, choose_cryptography};

/// A bucket; clones share its connections.
#[derive(Clone)]
pub struct Bucket {
    inner: Arc<Inner>,
}

struct Inner {
    name: BucketName,
    path: String,
    content: Storage,
    control: StorageControl,
}

impl Bucket {
    /// Makes the clients; no request is made yet.
    ///
    /// # Errors
    /// When there are no credentials.
    pub async fn connect(name: BucketName, emulators: &Emulators, retries: Backoff) -> Result<Self, ConnectError> {
        choose_cryptography();
        let failed = |error: &dyn std::error::Error| ConnectError { service: "cloud storage", reason: sentence(error) };
        let policy = || RetryableErrors.with_attempt_limit(retries.attempts);
        let mut content = Storage::builder()
            .with_retry_policy(policy())
            .with_backoff_policy(backoff(retries))
            .with_read_resume_policy(Recommended.with_attempt_limit(retries.attempts))
            .with_resumable_upload_threshold(PART)
            .with_resumable_upload_buffer_size(PART);
        let mut control = StorageControl::builder().with_retry_policy(policy()).with_backoff_policy(backoff(retries));
        if let Some(emulator) = &emulators.storage {
            let anonymous = anonymous::Builder::new().build();
            content = content.with_endpoint(emulator.http.as_str()).with_credentials(anonymous.clone());
            control = control.with_endpoint(emulator.grpc.as_str()).with_credentials(anonymous);
        }
        let content = content.build().await.map_err(|error| failed(&error))?;
        let control = control.build().await.map_err(|error| failed(&error))?;
        let path = name.path();
        Ok(Self { inner: Arc::new(Inner { name, path, content, control }) })
    }

    /// A request to write an object. Trying it again is safe: with a precondition it has its effect once, and without
    /// one nobody relies on what was there.
    pub(crate) fn write<P>(&self, name: &str, precondition: Precondition, payload: Payload<P>) -> WriteObject<P> {
        let write: WriteObject<P> =
            self.inner.content.write_object(&self.inner.path, name, payload).with_idempotency(true);
        match precondition {
            Precondition::None => write,
            Precondition::Absent => write.set_if_generation_match(0_i64),
            Precondition::Is(generation) => write.set_if_generation_match(generation.0),
        }
    }

    /// Writes an object that is in memory.
    pub(crate) async fn write_whole(
        &self,
        name: &str,
        precondition: Precondition,
        chunks: Vec<Bytes>,
    ) -> Result<Generation, StoreError> {
        let write = self.write(name, precondition, Payload::from_stream(Held::new(chunks)));
        let written = patiently("write", name, write.send_buffered()).await?;
        let written = written.map_err(|error| self.not_written(name, precondition, &error))?;
        Ok(Generation(written.generation))
    }

    /// What an error of a write means. Leave to delete is asked of whoever would replace an object: without it, a name
    /// that must be free is not.
    pub(crate) fn not_written(&self, name: &str, precondition: Precondition, error: &Error) -> StoreError {
        match self.refused("write", name, error) {
            StoreError::Blocked { name, reason, .. }
                if precondition == Precondition::Absent && reason.contains("storage.objects.delete") =>
            {
                StoreError::Conflict { name }
            }
            refused => refused,
        }
    }

    /// Waits for an answer, but not for ever.
    async fn answer<T>(
        &self,
        action: &'static str,
        name: &str,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, StoreError> {
        patiently(action, name, request).await?.map_err(|error| self.refused(action, name, &error))
    }

    /// The one place that turns an error of the clients into one of the port.
    fn refused(&self, action: &'static str, name: &str, error: &Error) -> StoreError {
        let (object, reason) = (name.to_owned(), sentence(error));
        let no_bucket = || StoreError::Blocked {
            action,
            name: name.to_owned(),
            reason: format!("there is no bucket {} (terraform makes it: google_storage_bucket)", self.inner.name),
        };
        match Refusal::of(error) {
            Refusal::Conflict => StoreError::Conflict { name: object },
            Refusal::Missing if reason.contains("bucket does not exist") => no_bucket(),
            Refusal::Missing => match action {
                "read" | "delete" => StoreError::NotFound { name: object },
                "list" => no_bucket(),
                // The session of an upload is gone.
                _ => StoreError::Transient { action, name: object, reason },
            },
            Refusal::Beyond => StoreError::Permanent { action, name: object, reason: beyond(None) },
            Refusal::Transient => StoreError::Transient { action, name: object, reason },
            Refusal::Forbidden => StoreError::Blocked { action, name: object, reason },
            Refusal::Permanent => StoreError::Permanent { action, name: object, reason },
        }
    }
}

fn beyond(size: Option<u64>) -> String {
    match size {
        Some(size) => format!("the bytes are beyond its end at {size}"),
        None => "the bytes are beyond its end".to_owned(),
    }
}

/// Waits for a step, but no longer than [`PATIENCE`].
pub(crate) async fn patiently<T>(
    action: &'static str,
    name: &str,
    step: impl Future<Output = T>,
) -> Result<T, StoreError> {
    tokio::time::timeout(PATIENCE, step).await.map_err(|_| StoreError::Transient {
        action,
        name: name.to_owned(),
        reason: format!("no answer within {} s", PATIENCE.as_secs()),
    })
}

fn checked(action: &'static str, name: &str) -> Result<(), StoreError> {
    if is_plain(name) {
        Ok(())
    } else {
        Err(StoreError::Permanent { action, name: name.to_owned(), reason: "it is not a plain name".to_owned() })
    }
}

/// Sizes and generations are never negative; the protocol has no type that says so.
fn metadata(name: String, generation: i64, size: i64) -> Metadata {
    Metadata { name, generation: Generation(generation), size: size.unsigned_abs() }
}

#[async_trait]
impl Store for Bucket {
    async fn read(&self, name: &str, range: Option<Range<u64>>) -> Result<Reading, StoreError> {
        checked("read", name)?;
        let too_far =
            |size: Option<u64>| StoreError::Permanent { action: "read", name: name.to_owned(), reason: beyond(size) };
        let mut request = self.inner.content.read_object(&self.inner.path, name);
        if let Some(range) = &range {
            // HTTP has no words for a range without bytes.
            if range.is_empty() {
                let head = self.head(name).await?;
                let metadata = head.ok_or_else(|| StoreError::NotFound { name: name.to_owned() })?;
                if range.start > range.end || range.end > metadata.size {
                    return Err(too_far(Some(metadata.size)));
                }
                return Ok(Reading { metadata, chunks: stream::empty().boxed() });
            }
            request = request.set_read_range(ReadRange::segment(range.start, range.end - range.start));
        }
        let response = self.answer("read", name, request.send()).await?;
        let found = response.object();
        let metadata = metadata(name.to_owned(), found.generation, found.size);
        // Cloud Storage answers with what there is of a range.
        if range.is_some_and(|range| range.end > metadata.size) {
            return Err(too_far(Some(metadata.size)));
        }
        let state = (self.clone(), response, name.to_owned());
        let chunks = stream::try_unfold(state, |(bucket, mut response, name)| async move {
            match patiently("read", &name, response.next()).await? {
                None => Ok(None),
                Some(Ok(chunk)) => Ok(Some((chunk, (bucket, response, name)))),
                Some(Err(error)) => Err(match bucket.refused("read", &name, &error) {
                    StoreError::NotFound { name } => StoreError::Transient {
                        action: "read",
                        name,
                        reason: "it was replaced while it was read".to_owned(),
                    },
                    error => error,
                }),
            }
        });
        Ok(Reading { metadata, chunks: chunks.boxed() })
    }

    async fn head(&self, name: &str) -> Result<Option<Metadata>, StoreError> {
        checked("read", name)?;
        let request = self.inner.control.get_object().set_bucket(&self.inner.path).set_object(name);
        match self.answer("read", name, request.send()).await {
            Ok(found) => Ok(Some(metadata(found.name, found.generation, found.size))),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn upload(&self, name: &str, precondition: Precondition) -> Result<Box<dyn Upload>, StoreError> {
        checked("write", name)?;
        Ok(Box::new(BucketUpload::new(self.clone(), name, precondition)))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Metadata>, StoreError> {
        let mut items = self.inner.control.list_objects().set_parent(&self.inner.path).set_prefix(prefix).by_item();
        let mut found = Vec::new();
        while let Some(item) = patiently("list", prefix, items.next()).await? {
            let item = item.map_err(|error| self.refused("list", prefix, &error))?;
            found.push(metadata(item.name, item.generation, item.size));
        }
        Ok(found)
    }

    async fn delete(&self, name: &str, precondition: Precondition) -> Result<(), StoreError> {
        checked("delete", name)?;
        let conflict = || StoreError::Conflict { name: name.to_owned() };
        let request = self.inner.control.delete_object().set_bucket(&self.inner.path).set_object(name);
        let request = match precondition {
            Precondition::None => request,
            Precondition::Is(generation) => request.set_if_generation_match(generation.0),
            Precondition::Absent => return if self.head(name).await?.is_none() { Ok(()) } else { Err(conflict()) },
        };
        match self.answer("delete", name, request.with_idempotency(true).send()).await {
            Err(StoreError::NotFound { .. }) => match precondition {
                Precondition::Is(_) => Err(conflict()),
                Precondition::None | Precondition::Absent => Ok(()),
            },
            result => result,
        }
    }

    async fn put(&self, name: &str, bytes: Bytes, precondition: Precondition) -> Result<Generation, StoreError> {
        checked("write", name)?;
        self.write_whole(name, precondition, vec![bytes]).await
    }
}
