//! The data folder: whose it is, what world its data are of, and who is working in it.
//!
//! Invariants: a folder holds data of one world only, so the recorded month never mixes with the live catalogue; and
//! only one `strata up` works in it. Other commands may work beside it, because every write to the lake is conditional.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shared::clock::Clock;
use shared::store::Directory;

use crate::problem::Problem;

const MARKER: &str = "strata.json";
const LAYOUT: u32 = 3;
const UP_LOCK: &str = ".up.lock";
const HOLDERS: &str = ".holders";

/// Where data come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum World {
    /// The sources themselves.
    Live,
    /// The recorded month, served by the simulator.
    Sample,
}

#[derive(Serialize, Deserialize)]
struct Marker {
    layout: u32,
    world: World,
}

/// A folder of Strata's.
#[derive(Clone)]
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
    /// What its data are of.
    pub world: World,
    /// The lake in it.
    pub store: Directory,
}

/// The folder of the recorded month that belongs to a folder of live data.
pub fn sample_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-sample");
    name.into()
}

impl Folder {
    /// Opens a folder that a run has made.
    ///
    /// # Errors
    /// When there is none, or it is not one of ours.
    pub fn open(path: &Path) -> Result<Self, Problem> {
        Self::find(path)?.ok_or_else(|| {
            Problem::Failed(format!("there are no data in {} yet: `strata up` fetches them", path.display()))
        })
    }

    /// Opens a folder, if a run has made one.
    ///
    /// # Errors
    /// When it is not one of ours.
    pub fn find(path: &Path) -> Result<Option<Self>, Problem> {
        match marker(path)? {
            Some(marker) => Self::of(path, marker).map(Some),
            None if is_empty(path)? => Ok(None),
            None => Err(foreign(path)),
        }
    }

    /// Opens a folder whatever its data are of; if there is none, one for live data is made.
    ///
    /// # Errors
    /// When it cannot be written, or is not one of ours.
    pub fn open_or_begin(path: &Path) -> Result<Self, Problem> {
        let world = marker(path)?.map_or(World::Live, |marker| marker.world);
        Self::open_or_create(path, world)
    }

    /// Opens a folder for data of `world`, which is made if there is none.
    ///
    /// # Errors
    /// When it cannot be written, holds other files than ours, or data of the other world.
    pub fn open_or_create(path: &Path, world: World) -> Result<Self, Problem> {
        let found = match marker(path)? {
            Some(marker) => marker,
            None if is_empty(path)? => {
                let marker = Marker { layout: LAYOUT, world };
                write_marker(path, &marker).map_err(|error| unwritable(path, &error))?;
                marker
            }
            None => return Err(foreign(path)),
        };
        if found.world != world {
            let (held, wanted) = match found.world {
                World::Live => ("live data", "the recorded month"),
                World::Sample => ("the recorded month", "live data"),
            };
            let path = path.display();
            return Err(Problem::Usage(format!(
                "{path} holds {held} and cannot take {wanted}: name another folder with --data-dir"
            )));
        }
        Self::of(path, found)
    }

    fn of(path: &Path, marker: Marker) -> Result<Self, Problem> {
        if marker.layout != LAYOUT {
            return Err(Problem::Failed(format!(
                "{} has layout {}, and this program reads layout {LAYOUT}",
                path.display(),
                marker.layout
            )));
        }
        let store = Directory::open(path).map_err(|error| Problem::Failed(error.to_string()))?;
        Ok(Self { path: path.to_owned(), world: marker.world, store })
    }

    /// Makes this process the one `strata up` of the folder, until the lock is dropped.
    ///
    /// # Errors
    /// When another process is that; it is named.
    pub fn lock_up(&self) -> Result<File, Problem> {
        let path = self.path.join(UP_LOCK);
        let open = || File::options().create(true).truncate(false).read(true).write(true).open(&path);
        let mut file = open().map_err(|error| unwritable(&self.path, &error))?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)?;
                write!(file, "{}", std::process::id())?;
                Ok(file)
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder)?;
                Err(Problem::Failed(format!(
                    "another `strata up` (process {holder}) is working in {}",
                    self.path.display()
                )))
            }
            Err(TryLockError::Error(error)) => Err(unwritable(&self.path, &error)),
        }
    }

    /// A name for the messages of this process, and the names of processes that died and left theirs.
    ///
    /// A holder's file is locked before it has its name, and for as long as its process lives. So a name whose file can
    /// be locked belongs to the dead, and to whoever locks it first.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn hold(&self, clock: &dyn Clock) -> Result<(Holder, Vec<Holder>), Problem> {
        let folder = self.path.join(HOLDERS);
        let hold = || {
            fs::create_dir_all(&folder)?;
            let dead = claim_all(&folder)?;
            Ok((Holder::new(&folder, clock)?, dead))
        };
        hold().map_err(|error: io::Error| unwritable(&self.path, &error))
    }
}

/// A process's right to a spool of messages.
pub struct Holder {
    /// The spool's name.
    pub name: String,
    path: PathBuf,
    _lock: File,
}

impl Holder {
    fn new(folder: &Path, clock: &dyn Clock) -> io::Result<Self> {
        loop {
            let name = format!("{:032x}", clock.random());
            let unnamed = folder.join(format!(".{name}"));
            let lock = File::options().write(true).create_new(true).open(&unnamed)?;
            lock.lock()?;
            let path = folder.join(&name);
            match fs::rename(&unnamed, &path) {
                Ok(()) => return Ok(Self { name, path, _lock: lock }),
                // Another process found it before it was locked, and removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => (),
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives the name up; nothing is left under it.
    ///
    /// # Errors
    /// When its file cannot be removed.
    pub fn release(self) -> io::Result<()> {
        remove(&self.path)
    }
}

/// Takes the names that nobody holds, and removes what crashed before it had one.
fn claim_all(folder: &Path) -> io::Result<Vec<Holder>> {
    let mut claimed = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let file = match File::open(&path) {
            // Its process ended, and removed it, meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?,
        };
        let Some(lock) = claim(&path, file)? else { continue };
        if name.starts_with('.') {
            remove(&path)?;
        } else {
            claimed.push(Holder { name: name.to_owned(), path: path.clone(), _lock: lock });
        }
    }
    Ok(claimed)
}

/// The lock on a file that was opened at `path`, or `None` when somebody holds it or has released it meanwhile.
fn claim(path: &Path, file: File) -> io::Result<Option<File>> {
    match file.try_lock() {
        // Only who holds the lock removes the file, so one that is there now stays.
        Ok(()) => Ok(path.try_exists()?.then_some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Removes a file; one that is gone already is no error.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn marker(path: &Path) -> Result<Option<Marker>, Problem> {
    match fs::read(path.join(MARKER)) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| Problem::Failed(format!("{} is damaged: {error}", path.join(MARKER).display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Problem::Failed(format!("{} cannot be read: {error}", path.display()))),
    }
}

fn write_marker(path: &Path, marker: &Marker) -> io::Result<()> {
    fs::create_dir_all(path)?;
    // Moved into place whole, so that a crash leaves an empty folder or one of ours.
    let unfinished = path.join(".strata.json");
    fs::write(&unfinished, serde_json::to_vec_pretty(marker)?)?;
    fs::rename(unfinished, path.join(MARKER))
}

/// Whether there is nothing at `path`, or nothing that a person would miss.
fn is_empty(path: &Path) -> Result<bool, Problem> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == ".strata.json"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(Problem::Failed(format!("{} cannot be read: {error}", path.display()))),
    }
}

fn foreign(path: &Path) -> Problem {
    let path = path.display();
    Problem::Usage(format!("{path} holds files that are not Strata's: name another folder with --data-dir"))
}

fn unwritable(path: &Path, error: &io::Error) -> Problem {
    Problem::Failed(format!("{} cannot be written: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::clock::System;
    use std::collections::BTreeSet;

    #[test]
    fn a_folder_of_other_files_or_of_the_other_world_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let foreign = temp.path().join("foreign");
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join("thesis.txt"), "x").unwrap();
        assert!(matches!(Folder::open_or_create(&foreign, World::Live), Err(Problem::Usage(_))));
        assert!(matches!(Folder::open(&foreign), Err(Problem::Usage(_))));
        assert_eq!(fs::read_dir(&foreign).unwrap().count(), 1, "nothing is added to it");
        let ours = temp.path().join("deep/ours");
        assert!(matches!(Folder::open(&ours), Err(Problem::Failed(_))));
        Folder::open_or_create(&ours, World::Sample).unwrap();
        assert_eq!(Folder::open(&ours).unwrap().world, World::Sample);
        assert!(matches!(Folder::open_or_create(&ours, World::Live), Err(Problem::Usage(_))));
    }

    #[test]
    fn only_one_up_works_in_a_folder_and_the_dead_are_found() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::open_or_create(temp.path(), World::Live).unwrap();
        let first = folder.lock_up().unwrap();
        let Err(Problem::Failed(reason)) = folder.lock_up() else { panic!() };
        assert!(reason.contains(&format!("process {}", std::process::id())), "{reason}");
        drop(first);
        folder.lock_up().unwrap();
        let (alive, dead) = folder.hold(&System).unwrap();
        assert!(dead.is_empty());
        let (second, dead) = folder.hold(&System).unwrap();
        assert!(dead.is_empty(), "the first still lives");
        let name = alive.name.clone();
        drop(alive);
        let (_, dead) = folder.hold(&System).unwrap();
        assert_eq!(dead.iter().map(|holder| &holder.name).collect::<Vec<_>>(), [&name]);
        second.release().unwrap();
    }

    #[test]
    fn the_living_are_never_taken_for_dead_and_the_dead_go_to_one() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::open_or_create(temp.path(), World::Live).unwrap();
        fs::create_dir(temp.path().join(HOLDERS)).unwrap();
        let left: BTreeSet<_> = (0..50).map(|number| format!("dead-{number}")).collect();
        for name in &left {
            fs::write(temp.path().join(HOLDERS).join(name), "").unwrap();
        }
        let all = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| (0..40).map(|_| folder.hold(&System).unwrap()).collect::<Vec<_>>()))
                .collect();
            starts.into_iter().flat_map(|start| start.join().unwrap()).collect::<Vec<_>>()
        });
        let claimed: Vec<_> = all.iter().flat_map(|(_, dead)| dead).map(|holder| holder.name.clone()).collect();
        assert_eq!(claimed.len(), left.len(), "each once: {claimed:?}");
        assert_eq!(claimed.into_iter().collect::<BTreeSet<_>>(), left);
        let names: BTreeSet<_> = all.iter().map(|(own, _)| &own.name).collect();
        assert_eq!(names.len(), 8 * 40);
        assert!(names.iter().all(|name| temp.path().join(HOLDERS).join(name).exists()));
    }

    #[test]
    fn a_name_that_was_released_meanwhile_is_nobodys() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::open_or_create(temp.path(), World::Live).unwrap();
        let (holder, _) = folder.hold(&System).unwrap();
        let path = holder.path.clone();
        let found = File::open(&path).unwrap();
        holder.release().unwrap();
        assert!(claim(&path, found).unwrap().is_none());
        let (holder, _) = folder.hold(&System).unwrap();
        fs::remove_file(&holder.path).unwrap();
        holder.release().unwrap();
    }

    #[test]
    fn what_crashed_before_it_had_a_name_is_removed_and_what_is_about_to_have_one_is_not() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::open_or_create(temp.path(), World::Live).unwrap();
        let holders = temp.path().join(HOLDERS);
        fs::create_dir(&holders).unwrap();
        fs::write(holders.join(".crashed"), "").unwrap();
        let starting = File::create(holders.join(".starting")).unwrap();
        starting.lock().unwrap();
        let (own, dead) = folder.hold(&System).unwrap();
        assert!(dead.is_empty());
        let mut left: Vec<_> = fs::read_dir(&holders).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".starting", own.name.as_str()]);
    }
}
