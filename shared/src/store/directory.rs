//! A store in a folder, safe for several processes at once.
//!
//! An object is a file. Its generation is its modification time in microseconds, set by us and always growing: a lock
//! file serialises the instant in which a write checks its precondition and is renamed into place, and holds the last
//! generation given. A reader keeps the file that it opened, so it sees one generation whole.
//!
//! A file that is being written is locked from before its first byte until it is in place or removed. So one that can
//! be locked was left by a process that died, and whoever opens the folder next removes it.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};

use super::{Generation, Metadata, Precondition, Reading, Store, StoreError, Upload, is_plain};
use crate::clock::{Clock, System};

const LOCK: &str = ".lock";
const UNFINISHED: &str = ".unfinished";
const CHUNK: usize = 256 * 1024;

/// Objects as files below a folder; clones share it.
#[derive(Clone)]
pub struct Directory {
    inner: Arc<Inner>,
}

struct Inner {
    root: PathBuf,
}

impl Directory {
    /// Opens `root`, which is made if it does not exist.
    ///
    /// # Errors
    /// [`StoreError::Permanent`] when the folder cannot be written, or its file system keeps no modification times in
    /// microseconds.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let inner = Inner { root: root.to_owned() };
        let name = root.display().to_string();
        let failed = |error: &io::Error| StoreError::Permanent {
            action: "write",
            name: name.clone(),
            reason: error.to_string(),
        };
        fs::create_dir_all(root.join(UNFINISHED)).map_err(|error| failed(&error))?;
        inner.with_lock(|_| Ok(())).map_err(|error| failed(&error))?;
        inner.probe_times().map_err(|error| failed(&error))?;
        inner.sweep().map_err(|error| failed(&error))?;
        Ok(Self { inner: Arc::new(inner) })
    }
}

impl Inner {
    fn path(&self, action: &'static str, name: &str) -> Result<PathBuf, StoreError> {
        if is_plain(name) {
            Ok(self.root.join(name))
        } else {
            Err(StoreError::Permanent { action, name: name.to_owned(), reason: "it is not a plain name".to_owned() })
        }
    }

    /// Runs `commit` while no other process commits. It is given the next generation.
    fn with_lock<T>(&self, commit: impl FnOnce(Generation) -> io::Result<T>) -> io::Result<T> {
        let mut lock =
            File::options().create(true).truncate(false).read(true).write(true).open(self.root.join(LOCK))?;
        lock.lock()?;
        let mut last = [0; 8];
        let last = match lock.read_exact(&mut last) {
            Ok(()) => i64::from_le_bytes(last),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            Err(error) => return Err(error),
        };
        let next = micros(SystemTime::now()).max(last + 1);
        lock.seek(SeekFrom::Start(0))?;
        lock.write_all(&next.to_le_bytes())?;
        commit(Generation(next))
    }

    fn probe_times(&self) -> io::Result<()> {
        let wanted = Generation(1_234_567_890_123_457);
        let probe = self.begin()?;
        stamp(&probe.file, wanted)?;
        if micros(fs::metadata(&probe.path)?.modified()?) == wanted.0 {
            Ok(())
        } else {
            Err(io::Error::other("its file system keeps no modification times in microseconds"))
        }
    }

    /// A new file to write, locked. Its name is random: process ids come again, and in other containers too.
    fn begin(&self) -> io::Result<Unfinished> {
        loop {
            let path = self.root.join(UNFINISHED).join(format!("{:032x}", System.random()));
            let file = match File::options().write(true).create_new(true).open(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                opened => opened?,
            };
            file.lock()?;
            let unfinished = Unfinished { path, file };
            // A sweep may have found it before it was locked.
            if unfinished.path.try_exists()? {
                return Ok(unfinished);
            }
        }
    }

    /// Removes what processes that died were writing: all that nobody holds a lock on.
    fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.root.join(UNFINISHED))? {
            let path = entry?.path();
            let file = match File::open(&path) {
                // Its writer is done with it.
                Err(error) if absent(&error) => continue,
                opened => opened?,
            };
            match file.try_lock() {
                // Removed under the lock, so that a writer who gets it later sees that its file is gone.
                Ok(()) => match fs::remove_file(&path) {
                    Err(error) if !absent(&error) => return Err(error),
                    _ => tracing::debug!(file = %path.display(), "what a process that died was writing is removed"),
                },
                Err(TryLockError::WouldBlock) => (),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok(())
    }

    fn current(&self, path: &Path) -> io::Result<Option<Generation>> {
        match fs::metadata(path) {
            Ok(found) if found.is_file() => Ok(Some(Generation(micros(found.modified()?)))),
            Ok(_) => Ok(None),
            Err(error) if absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Moves a finished file into place under the lock; `Ok(None)` is a conflict.
    fn commit(&self, from: &Unfinished, to: &Path, precondition: Precondition) -> io::Result<Option<Generation>> {
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        self.with_lock(|generation| {
            if !precondition.holds(self.current(to)?) {
                return Ok(None);
            }
            stamp(&from.file, generation)?;
            fs::rename(&from.path, to)?;
            Ok(Some(generation))
        })
    }
}

fn micros(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

fn stamp(file: &File, generation: Generation) -> io::Result<()> {
    let since = Duration::from_micros(u64::try_from(generation.0).unwrap_or(0));
    file.set_times(fs::FileTimes::new().set_modified(UNIX_EPOCH + since))
}

fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn failed(action: &'static str, name: &str, error: &io::Error) -> StoreError {
    let name = name.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => StoreError::NotFound { name },
        // A disk that is full does not empty itself while somebody waits.
        io::ErrorKind::StorageFull
        | io::ErrorKind::QuotaExceeded
        | io::ErrorKind::FileTooLarge
        | io::ErrorKind::PermissionDenied
        | io::ErrorKind::ReadOnlyFilesystem => StoreError::Blocked { action, name, reason: error.to_string() },
        io::ErrorKind::InvalidInput => StoreError::Permanent { action, name, reason: error.to_string() },
        _ => StoreError::Transient { action, name, reason: error.to_string() },
    }
}

/// Runs blocking work on the threads that are meant for it.
async fn blocking<T: Send + 'static>(
    action: &'static str,
    name: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| failed(action, name, &error)),
        Err(error) => Err(StoreError::Transient { action, name: name.to_owned(), reason: error.to_string() }),
    }
}

#[async_trait]
impl Store for Directory {
    async fn read(&self, name: &str, range: Option<Range<u64>>) -> Result<Reading, StoreError> {
        let path = self.inner.path("read", name)?;
        let (mut file, generation, size) = blocking("read", name, move || {
            let file = File::open(path)?;
            let found = file.metadata()?;
            if !found.is_file() {
                return Err(io::ErrorKind::NotFound.into());
            }
            Ok((file, Generation(micros(found.modified()?)), found.len()))
        })
        .await?;
        let range = range.unwrap_or(0..size);
        if range.start > range.end || range.end > size {
            return Err(StoreError::Permanent {
                action: "read",
                name: name.to_owned(),
                reason: format!("bytes {range:?} are beyond its end at {size}"),
            });
        }
        let metadata = Metadata { name: name.to_owned(), generation, size };
        file.seek(SeekFrom::Start(range.start)).map_err(|error| failed("read", name, &error))?;
        let left = range.end - range.start;
        let name = name.to_owned();
        let chunks = stream::try_unfold((file, left, name), |(mut file, left, name)| async move {
            if left == 0 {
                return Ok(None);
            }
            let (file, chunk) = blocking("read", &name, move || {
                let mut chunk = vec![0; usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK))];
                file.read_exact(&mut chunk)?;
                Ok((file, chunk))
            })
            .await?;
            let left = left - chunk.len() as u64;
            Ok(Some((Bytes::from(chunk), (file, left, name))))
        });
        Ok(Reading { metadata, chunks: chunks.boxed() })
    }

    async fn head(&self, name: &str) -> Result<Option<Metadata>, StoreError> {
        let path = self.inner.path("read", name)?;
        let found = blocking("read", name, move || match fs::metadata(&path) {
            Ok(found) if found.is_file() => Ok(Some((Generation(micros(found.modified()?)), found.len()))),
            Ok(_) => Ok(None),
            Err(error) if absent(&error) => Ok(None),
            Err(error) => Err(error),
        })
        .await?;
        Ok(found.map(|(generation, size)| Metadata { name: name.to_owned(), generation, size }))
    }

    async fn upload(&self, name: &str, precondition: Precondition) -> Result<Box<dyn Upload>, StoreError> {
        let to = self.inner.path("write", name)?;
        let inner = Arc::clone(&self.inner);
        let unfinished = Some(blocking("write", name, move || inner.begin()).await?);
        let inner = Arc::clone(&self.inner);
        Ok(Box::new(DirectoryUpload { inner, name: name.to_owned(), to, precondition, unfinished }))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Metadata>, StoreError> {
        let root = self.inner.root.clone();
        let wanted = prefix.to_owned();
        blocking("list", prefix, move || {
            let folder = wanted.rsplit_once('/').map_or("", |(folder, _)| folder);
            let mut found = Vec::new();
            walk(&root, folder, &wanted, &mut found)?;
            found.sort_by(|one: &Metadata, other| one.name.cmp(&other.name));
            Ok(found)
        })
        .await
    }

    async fn delete(&self, name: &str, precondition: Precondition) -> Result<(), StoreError> {
        let path = self.inner.path("delete", name)?;
        let inner = Arc::clone(&self.inner);
        let deleted = blocking("delete", name, move || {
            inner.with_lock(|_| {
                if !precondition.holds(inner.current(&path)?) {
                    return Ok(false);
                }
                match fs::remove_file(&path) {
                    Err(error) if !absent(&error) => Err(error),
                    _ => Ok(true),
                }
            })
        })
        .await?;
        if deleted { Ok(()) } else { Err(StoreError::Conflict { name: name.to_owned() }) }
    }
}

/// Adds the objects below `folder` whose names start with `prefix`; a file that vanishes meanwhile is left out.
fn walk(root: &Path, folder: &str, prefix: &str, found: &mut Vec<Metadata>) -> io::Result<()> {
    let entries = match fs::read_dir(root.join(folder)) {
        Ok(entries) => entries,
        Err(error) if absent(&error) => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let Ok(part) = entry.file_name().into_string() else { continue };
        if part.starts_with('.') {
            continue;
        }
        let name = if folder.is_empty() { part } else { format!("{folder}/{part}") };
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            Err(error) if absent(&error) => continue,
            Err(error) => return Err(error),
        };
        if metadata.is_dir() {
            if name.starts_with(prefix) || prefix.starts_with(&name) {
                walk(root, &name, prefix, found)?;
            }
        } else if name.starts_with(prefix) {
            let generation = Generation(micros(metadata.modified()?));
            found.push(Metadata { name, generation, size: metadata.len() });
        }
    }
    Ok(())
}

/// A locked file that is removed unless it was moved into place.
struct Unfinished {
    path: PathBuf,
    file: File,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path)
            && !absent(&error)
        {
            tracing::warn!(file = %self.path.display(), %error, "an unfinished file could not be removed");
        }
    }
}

struct DirectoryUpload {
    inner: Arc<Inner>,
    name: String,
    to: PathBuf,
    precondition: Precondition,
    unfinished: Option<Unfinished>,
}

impl DirectoryUpload {
    fn unfinished(&mut self) -> Result<Unfinished, StoreError> {
        self.unfinished.take().ok_or_else(|| StoreError::Permanent {
            action: "write",
            name: self.name.clone(),
            reason: "an earlier write of it failed".to_owned(),
        })
    }
}

#[async_trait]
impl Upload for DirectoryUpload {
    async fn write(&mut self, chunk: Bytes) -> Result<(), StoreError> {
        let mut unfinished = self.unfinished()?;
        self.unfinished = Some(
            blocking("write", &self.name, move || {
                unfinished.file.write_all(&chunk)?;
                Ok(unfinished)
            })
            .await?,
        );
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<Generation, StoreError> {
        let unfinished = self.unfinished()?;
        let (inner, to) = (Arc::clone(&self.inner), self.to.clone());
        let precondition = self.precondition;
        let committed = blocking("write", &self.name, move || {
            // A name must never come to stand for content that a power cut could still take away.
            unfinished.file.sync_data()?;
            inner.commit(&unfinished, &to, precondition)
        })
        .await?;
        committed.ok_or_else(|| StoreError::Conflict { name: self.name.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unfinished(root: &Path) -> usize {
        fs::read_dir(root.join(UNFINISHED)).unwrap().count()
    }

    async fn begin(store: &Directory, name: &str, content: &'static str) -> Box<dyn Upload> {
        let mut upload = store.upload(name, Precondition::None).await.unwrap();
        upload.write(content.into()).await.unwrap();
        upload
    }

    #[test]
    fn a_full_disk_is_no_fault_of_what_was_to_be_written() {
        use crate::function::Failure;
        let kind = |kind: io::ErrorKind| Failure::from(failed("write", "a", &kind.into()));
        for full in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded, io::ErrorKind::ReadOnlyFilesystem] {
            assert!(matches!(kind(full), Failure::Blocked(_)), "{full}");
        }
        assert!(matches!(kind(io::ErrorKind::Interrupted), Failure::Transient(_)));
        assert!(matches!(kind(io::ErrorKind::InvalidInput), Failure::Poison(_)));
    }

    #[tokio::test]
    async fn writers_that_know_nothing_of_each_other_do_not_meet() {
        let temp = tempfile::tempdir().unwrap();
        let (one, other) = (Directory::open(temp.path()).unwrap(), Directory::open(temp.path()).unwrap());
        let (first, second) = (begin(&one, "a", "first").await, begin(&other, "b", "second").await);
        first.finish().await.unwrap();
        second.finish().await.unwrap();
        assert_eq!(one.get("a").await.unwrap().unwrap().bytes, "first");
        assert_eq!(one.get("b").await.unwrap().unwrap().bytes, "second");
        drop(begin(&one, "c", "given up").await);
        assert_eq!(unfinished(temp.path()), 0);
    }

    #[tokio::test]
    async fn what_the_dead_were_writing_is_removed_and_what_the_living_write_is_not() {
        let temp = tempfile::tempdir().unwrap();
        let store = Directory::open(temp.path()).unwrap();
        fs::write(temp.path().join(UNFINISHED).join("of-a-dead-process"), "half").unwrap();
        let alive = begin(&store, "a", "whole").await;
        Directory::open(temp.path()).unwrap();
        assert_eq!(unfinished(temp.path()), 1, "that of the living");
        alive.finish().await.unwrap();
        assert_eq!(store.get("a").await.unwrap().unwrap().bytes, "whole");
    }

    /// A file that is opened just when it is made is not lost, nor does it stay.
    #[test]
    fn a_sweep_beside_writers_takes_nothing_from_them() {
        let temp = tempfile::tempdir().unwrap();
        let store = Directory::open(temp.path()).unwrap();
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4)
                .map(|writer| {
                    let inner = &store.inner;
                    scope.spawn(move || {
                        for write in 0..100 {
                            let unfinished = inner.begin().unwrap();
                            let to = inner.root.join(format!("{writer}-{write}"));
                            inner.commit(&unfinished, &to, Precondition::Absent).unwrap().unwrap();
                        }
                    })
                })
                .collect();
            while !writers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                store.inner.sweep().unwrap();
            }
        });
        assert_eq!(unfinished(temp.path()), 0);
    }
}
