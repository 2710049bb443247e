//! Locks of the operating system, one file for each run: freed by the kernel however the process ends.
//!
//! The owner's name stands in the file, so that a refused process can tell it. A lock file is deleted with its run only, and
//! whoever takes a lock looks whether the file is still the one of that name: of two who lock two files of one name, the
//! one whose file was deleted tries again.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::domain::{Failure, Kind, RunId, printable};
use crate::store::{refusal, sqlite::schema::file_failed};

/// Times that a taken lock is tried: listing runs holds a lock for some microseconds, and that is no owner.
const TRIES_MAX: u32 = 4;

/// Milliseconds between two tries.
const TRY_WAIT_MS: u64 = 5;

/// Times that opening a log waits [`TRY_WAIT_MS`] for another process that is just doing so: ten seconds.
const OPENING_TRIES_MAX: u32 = 2_000;

/// Longest owner's name that is read, in bytes: the file may hold anything.
const OWNER_BYTES_MAX: u64 = 400;

/// A directory of lock files.
#[derive(Clone)]
pub(super) struct Locks {
    dir: PathBuf,
}

/// A lock that this process holds, until it is dropped.
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

impl Locks {
    /// Makes the directory where there is none.
    pub(super) fn open(dir: PathBuf) -> Result<Self, Failure> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(file_failed("make the directory of locks", &dir))?;
        Ok(Self { dir })
    }

    /// Takes the lock of `run` for `owner`.
    pub(super) fn take(&self, run: &RunId, owner: &str) -> Result<Lock, Failure> {
        let path = self.path(run);
        match acquire(&path, TRIES_MAX)? {
            Some(file) => {
                let failed = file_failed("write the owner of a run", &path);
                Lock { file, path: path.clone() }.named(owner).map_err(failed)
            }
            None => Err(refusal::owned(run, &name_in(&path).unwrap_or_else(|| "another process".into()))),
        }
    }

    /// Takes the lock under which a log is opened, so that its files are made by one process.
    pub(super) fn opening(&self) -> Result<Lock, Failure> {
        let path = self.dir.join("open.lock");
        let file = acquire(&path, OPENING_TRIES_MAX)?.ok_or_else(|| {
            Failure::new(Kind::HostBusy, "open the log: another process has been opening it for long")
                .hint("look for a process of cofferdam that hangs")
        })?;
        Ok(Lock { file, path })
    }

    /// Returns the name of the living owner of `run`.
    pub(super) fn owner(&self, run: &RunId) -> Option<String> {
        let path = self.path(run);
        // An owner that left has wiped its name; only one that died leaves a name and no lock.
        let name = name_in(&path)?;
        let file = File::open(&path).ok()?;
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)).then_some(name)
    }

    fn path(&self, run: &RunId) -> PathBuf {
        // A RunId is letters and digits: never a path.
        self.dir.join(format!("{run}.lock"))
    }
}

impl Lock {
    /// Deletes the file of a run that is gone, and frees the lock.
    pub(super) fn remove(self) -> Result<(), Failure> {
        std::fs::remove_file(&self.path).map_err(file_failed("remove the lock of a run", &self.path))
    }

    fn named(mut self, owner: &str) -> std::io::Result<Self> {
        let process = std::process::id();
        self.file.set_len(0)?;
        self.file.rewind()?;
        write!(self.file, "{} (process {process})", printable(owner))?;
        Ok(self)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The name is for people only, and closing the file frees the lock too.
        drop(self.file.set_len(0));
        drop(self.file.unlock());
    }
}

/// Returns the locked file, `None` where another holds it after so many tries.
fn acquire(path: &Path, tries_max: u32) -> Result<Option<File>, Failure> {
    let failed = file_failed("lock a file", path);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    for n in 0..tries_max {
        if n > 0 {
            std::thread::sleep(Duration::from_millis(TRY_WAIT_MS));
        }
        let file = options.open(path).map_err(&failed)?;
        match file.try_lock() {
            Ok(()) if is_at(&file, path).map_err(&failed)? => return Ok(Some(file)),
            Ok(()) | Err(TryLockError::WouldBlock) => (),
            Err(TryLockError::Error(e)) => return Err(failed(e)),
        }
    }
    Ok(None)
}

/// Returns whether the file of that name is still this one.
fn is_at(file: &File, path: &Path) -> std::io::Result<bool> {
    let this = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(there) => Ok((this.dev(), this.ino()) == (there.dev(), there.ino())),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Returns what stands in the file, `None` where there is nothing.
fn name_in(path: &Path) -> Option<String> {
    let mut name = Vec::new();
    match File::open(path).and_then(|file| file.take(OWNER_BYTES_MAX).read_to_end(&mut name)) {
        Ok(0) => None,
        Err(e) if e.kind() == ErrorKind::NotFound => None,
        Ok(_) => Some(printable(&String::from_utf8_lossy(&name))),
        Err(e) => Some(format!("a process whose name cannot be read ({})", e.kind())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> RunId {
        RunId::from_ulid("01arz3ndektsv4rrffq69g5fav")
    }

    #[test]
    fn a_lock_is_held_by_one_and_tells_by_whom() {
        let dir = tempfile::tempdir().unwrap();
        let locks = Locks::open(dir.path().join("locks")).unwrap();
        assert_eq!(locks.owner(&run()), None);

        let lock = locks.take(&run(), "serve").unwrap();
        let name = format!("serve (process {})", std::process::id());
        let refused = locks.take(&run(), "resume").map(|_| ()).unwrap_err();
        assert_eq!(refused.kind, Kind::HostOwned);
        assert!(refused.message.ends_with(&name), "{refused}");
        assert_eq!(locks.owner(&run()), Some(name));

        drop(lock);
        assert_eq!(locks.owner(&run()), None);
        assert!(locks.take(&run(), "resume").is_ok());
    }

    #[test]
    fn a_lock_file_that_was_removed_makes_nobody_an_owner() {
        let dir = tempfile::tempdir().unwrap();
        let locks = Locks::open(dir.path().to_owned()).unwrap();
        let path = locks.path(&run());
        let first = locks.take(&run(), "first").unwrap();
        // Somebody opens the file just before it is removed, and locks it just after.
        let opened = File::open(&path).unwrap();
        first.remove().unwrap();
        assert!(!path.exists());
        opened.try_lock().unwrap();
        assert!(!is_at(&opened, &path).unwrap(), "it is told from the file of that name");
        let second = locks.take(&run(), "second").unwrap();
        assert!(!is_at(&opened, &path).unwrap());
        assert!(locks.take(&run(), "third").is_err());
        drop(second);
    }

    #[test]
    fn a_name_without_a_lock_is_that_of_a_dead_owner() {
        let dir = tempfile::tempdir().unwrap();
        let locks = Locks::open(dir.path().to_owned()).unwrap();
        std::fs::write(locks.path(&run()), "serve (process 1)").unwrap();
        assert_eq!(locks.owner(&run()), None);
        let lock = locks.take(&run(), "me").unwrap();
        assert!(locks.owner(&run()).unwrap().starts_with("me (process"));
        drop(lock);
    }
}
