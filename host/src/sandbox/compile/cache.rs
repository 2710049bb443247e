//! Compiled components on disk, between one process and the next.
//!
//! Promises: nothing is taken from here that was not put here by a holder of this host's key, for exactly this component
//! and engine; whatever else lies in the directory counts as absent, is told in a warning, and is replaced. A cache fails
//! by being slow: no call ends because of it. Leaves to others: that code fits the engine (`artefact`).
//!
//! The directory belongs to this user alone, and so does each file. It is opened once and all is done relative to it, so
//! that nobody can put another in its place. The key lies beside what it seals, or in a directory of its own where the
//! cache's was chosen by a file that came with a project: code and key that were brought together prove nothing. Who can
//! read this user's private files could change them, and this program too. The seal is for what the permissions cannot
//! see: files brought from elsewhere, a disk that forgets, a directory that others could once write to.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use crate::clock::Clock;
use crate::domain::Digest;

use super::artefact::{Artefact, Key, SEAL_BYTES};
use super::limits::artefact_bytes_max;

/// Bytes of all files together: thirty interpreters with their libraries, or three thousand small tools. What was used
/// least recently goes first.
const CACHE_BYTES_MAX: u64 = 1 << 30;

/// Bytes of one file: the code of the largest component that is read.
const FILE_BYTES_MAX: u64 = artefact_bytes_max(64 << 20) + SEAL_BYTES as u64;

/// The file of the key.
const KEY_FILE: &str = "key";

/// Ending of the files of code.
const CODE_ENDING: &str = ".code";

/// What group and others may not do: anything.
const OTHERS: u32 = 0o077;

/// Compiled components that can be trusted.
pub(super) struct Cache {
    folder: Folder,
    key: Key,
    bytes_max: u64,
}

/// A directory of this user alone.
struct Folder {
    directory: OwnedFd,
    clock: Arc<dyn Clock>,
}

impl Cache {
    /// Opens the cache in `directory`, with the key that lies in `key_dir`, or there too, and makes them where they lack.
    ///
    /// # Errors
    /// Says why it cannot be trusted or used.
    pub(super) fn open(directory: &Path, key_dir: Option<&Path>, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let folder = Folder::open(directory, clock.clone())?;
        let key = match key_dir {
            Some(key_dir) => Folder::open(key_dir, clock).and_then(|folder| folder.find_key()),
            None => folder.find_key(),
        };
        Ok(Self { folder, key: key.map_err(|why| format!("its key: {why}"))?, bytes_max: CACHE_BYTES_MAX })
    }

    /// Returns what is kept under `name`, if it is whole and ours.
    pub(super) fn get(&self, name: &Digest) -> Option<Artefact> {
        let file = file_name(name);
        let taken = self.folder.read(&file, FILE_BYTES_MAX).and_then(|contents| match contents {
            None => Ok(None),
            Some(contents) => match Artefact::of_cache(contents, &self.key, name) {
                None => Err("it does not bear this host's seal".to_owned()),
                some => Ok(some),
            },
        });
        taken.unwrap_or_else(|why| {
            tracing::warn!(file, why, "a compiled component is not taken from the cache, and is compiled again");
            None
        })
    }

    /// Keeps `artefact` under `name`, and makes room where that is too much.
    pub(super) fn put(&self, name: &Digest, artefact: &Artefact) {
        let kept = fits(artefact).and_then(|()| {
            let seal = artefact.seal(&self.key, name);
            self.folder.write(&file_name(name), &[&seal, artefact.bytes()])?;
            self.make_room()
        });
        if let Err(why) = kept {
            tracing::warn!(why, "a compiled component is not kept");
        }
    }

    /// Removes files until what is left fits, those first that were not used for longest. What was left over from a
    /// write that was cut off grows old as the others do.
    fn make_room(&self) -> Result<(), String> {
        let mut files = self.folder.files().map_err(|e| format!("the others cannot be listed: {e}"))?;
        let mut bytes: u64 = files.iter().map(|file| file.bytes).sum();
        files.sort_unstable_by_key(|file| file.used);
        for file in files {
            if bytes <= self.bytes_max {
                break;
            }
            self.folder.remove(&file.name);
            bytes = bytes.saturating_sub(file.bytes);
        }
        Ok(())
    }
}

impl Folder {
    /// Opens a directory, and makes it where it lacks.
    fn open(directory: &Path, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|e| format!("it cannot be made: {e}"))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::open(directory, flags, Mode::empty()).map_err(|e| match e {
            Errno::LOOP | Errno::NOTDIR => "it is no directory, or a link to one".to_owned(),
            other => format!("it cannot be opened: {other}"),
        })?;
        private(&rustix::fs::fstat(&directory).map_err(|e| e.to_string())?)?;
        Ok(Self { directory, clock })
    }

    /// Returns the key. It is made once, whole or not at all: whoever comes second takes the first one's.
    fn find_key(&self) -> Result<Key, String> {
        if let Some(key) = self.read_key()? {
            return Ok(key);
        }
        let mut key: Key = [0; 32];
        self.clock.random(&mut key)?;
        let temporary = self.write_temporary(&[&key])?;
        let linked = rustix::fs::linkat(&self.directory, &temporary, &self.directory, KEY_FILE, AtFlags::empty());
        self.remove(&temporary);
        match linked {
            Ok(()) | Err(Errno::EXIST) => self.read_key()?.ok_or_else(|| "it is gone".to_owned()),
            Err(e) => Err(format!("it cannot be made: {e}")),
        }
    }

    fn read_key(&self) -> Result<Option<Key>, String> {
        let Some(contents) = self.read(KEY_FILE, size_of::<Key>() as u64)? else { return Ok(None) };
        contents.try_into().map(Some).map_err(|contents: Vec<u8>| format!("it has {} bytes", contents.len()))
    }

    /// Reads a file of this user, once, into memory of our own. `None` where there is none.
    fn read(&self, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, String> {
        // Without waiting: a FIFO would hold the host until someone writes to it.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.directory, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err("it is a link".into()),
            Err(e) => return Err(format!("it cannot be opened: {e}")),
        };
        let stat = rustix::fs::fstat(&file).map_err(|e| e.to_string())?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err("it is no regular file".into());
        }
        private(&stat)?;
        let length = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
        if length > bytes_max {
            return Err(format!("it has {length} bytes"));
        }
        let mut contents = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        // What was used last goes last when room is made. Where the time cannot be set, another goes.
        let _ = rustix::fs::futimens(&file, &Timestamps { last_access: now, last_modification: now });
        // It may grow while it is read; what is too long bears no seal.
        File::from(file).take(length).read_to_end(&mut contents).map_err(|e| format!("it cannot be read: {e}"))?;
        Ok(Some(contents))
    }

    /// Writes a file under another name and gives it its own when it is whole, so that nobody sees a part.
    fn write(&self, name: &str, parts: &[&[u8]]) -> Result<(), String> {
        let temporary = self.write_temporary(parts)?;
        rustix::fs::renameat(&self.directory, &temporary, &self.directory, name).map_err(|e| {
            self.remove(&temporary);
            format!("it cannot get its name: {e}")
        })
    }

    fn write_temporary(&self, parts: &[&[u8]]) -> Result<String, String> {
        let mut random = [0; 16];
        self.clock.random(&mut random)?;
        let name = format!("new-{}", hex::encode(random));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.directory, &name, flags, Mode::RUSR | Mode::WUSR);
        let mut file = File::from(file.map_err(|e| format!("it cannot be made: {e}"))?);
        let written = parts.iter().try_for_each(|part| file.write_all(part));
        written.map(|()| name.clone()).map_err(|e| {
            self.remove(&name);
            format!("it cannot be written: {e}")
        })
    }

    fn files(&self) -> rustix::io::Result<Vec<Kept>> {
        let mut files = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.directory)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            let is_ours = name.ends_with(CODE_ENDING) || name.starts_with("new-");
            // Another process may have removed it meanwhile.
            let stat = rustix::fs::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW);
            if let (true, Ok(stat)) = (is_ours, stat) {
                // The types differ between systems.
                let used = i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
                files.push(Kept {
                    name: name.to_owned(),
                    bytes: u64::try_from(stat.st_size).unwrap_or_default(),
                    used,
                });
            }
        }
        Ok(files)
    }

    fn remove(&self, name: &str) {
        // What cannot be removed is seen again when room is made the next time.
        let _ = rustix::fs::unlinkat(&self.directory, name, AtFlags::empty());
    }
}

/// A file that takes room.
struct Kept {
    name: String,
    bytes: u64,
    /// When it was used last, in nanoseconds.
    used: i128,
}

/// What could not be read again is not written.
fn fits(artefact: &Artefact) -> Result<(), String> {
    let bytes = artefact.bytes().len() as u64;
    if bytes.saturating_add(SEAL_BYTES as u64) > FILE_BYTES_MAX {
        return Err(format!("it has {bytes} bytes"));
    }
    Ok(())
}

fn file_name(name: &Digest) -> String {
    hex::encode(name.as_bytes()) + CODE_ENDING
}

/// Checks that something belongs to this user, and to nobody else in any way.
fn private(stat: &Stat) -> Result<(), String> {
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(format!("it belongs to user {}", stat.st_uid));
    }
    let others = stat.st_mode & OTHERS;
    if others != 0 {
        return Err(format!("others may use it: its mode is {:03o}", stat.st_mode & 0o777));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;
    use crate::clock::SystemClock;

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self) -> PathBuf {
            self.0.path().join("cache")
        }

        fn open(&self) -> Result<Cache, String> {
            Cache::open(&self.path(), None, Arc::new(SystemClock::default()))
        }

        fn set_mode(&self, name: &str, mode: u32) {
            std::fs::set_permissions(self.path().join(name), std::fs::Permissions::from_mode(mode)).unwrap();
        }
    }

    fn name() -> Digest {
        Digest::of(b"component and engine")
    }

    fn kept(cache: &Cache, name: &Digest) -> Option<Vec<u8>> {
        cache.get(name).map(|artefact| artefact.bytes().to_vec())
    }

    #[test]
    fn what_is_put_is_there_for_the_next_process() {
        let folder = Place::new();
        assert_eq!(kept(&folder.open().unwrap(), &name()), None);
        folder.open().unwrap().put(&name(), &Artefact::of_child(b"code".to_vec()));
        assert_eq!(kept(&folder.open().unwrap(), &name()).as_deref(), Some(&b"code"[..]));
        assert_eq!(kept(&folder.open().unwrap(), &Digest::of(b"other")), None);
        let mode = |name: &str| folder.path().join(name).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(""), mode(KEY_FILE), mode(&file_name(&name()))), (0o700, 0o600, 0o600));
        let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(names.len(), 2, "nothing is left over: {names:?}");
    }

    #[test]
    fn an_entry_that_others_could_have_made_is_absent_and_is_replaced() {
        let folder = Place::new();
        let cache = folder.open().unwrap();
        let artefact = || Artefact::of_child(b"code".to_vec());
        cache.put(&name(), &artefact());
        let file = folder.path().join(file_name(&name()));
        let good = std::fs::read(&file).unwrap();
        let absent = |what: &str| {
            assert_eq!(kept(&cache, &name()), None, "{what}");
            cache.put(&name(), &artefact());
            assert_eq!(kept(&cache, &name()).as_deref(), Some(&b"code"[..]), "after {what}");
        };
        folder.set_mode(&file_name(&name()), 0o620);
        absent("a file that a group may write to");
        std::fs::write(&file, [&good[..35], b"X"].concat()).unwrap();
        absent("a changed byte");
        std::fs::write(&file, &good[..20]).unwrap();
        absent("a cut file");
        let elsewhere = folder.0.path().join("elsewhere");
        std::fs::write(&elsewhere, &good).unwrap();
        folder.set_mode("../elsewhere", 0o600);
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
        absent("a link to a good file");
        assert!(elsewhere.exists(), "the link's target is left alone");
        std::fs::remove_file(&file).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &file, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        absent("a FIFO");
    }

    #[test]
    fn what_could_not_be_read_again_is_not_written() {
        let folder = Place::new();
        let cache = folder.open().unwrap();
        // Zeros that nobody touches take no memory.
        let code = |bytes: u64| Artefact::of_child(vec![0; usize::try_from(bytes).unwrap()]);
        assert_eq!(fits(&code(FILE_BYTES_MAX - SEAL_BYTES as u64)), Ok(()));
        cache.put(&name(), &code(FILE_BYTES_MAX - SEAL_BYTES as u64 + 1));
        assert_eq!(kept(&cache, &name()), None);
        let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(names.len(), 1, "the key alone: {names:?}");
    }

    #[test]
    fn a_directory_that_others_may_use_is_refused() {
        let folder = Place::new();
        drop(folder.open().unwrap());
        for mode in [0o777, 0o701, 0o720] {
            folder.set_mode("", mode);
            assert!(folder.open().is_err_and(|why| why.contains("others may use it")), "{mode:o}");
        }
        folder.set_mode("", 0o700);
        assert!(folder.open().is_ok());
        let link = folder.0.path().join("link");
        std::os::unix::fs::symlink(folder.path(), &link).unwrap();
        assert!(Cache::open(&link, None, Arc::new(SystemClock::default())).is_err());
    }

    #[test]
    fn a_key_that_others_could_know_is_refused() {
        let folder = Place::new();
        drop(folder.open().unwrap());
        folder.set_mode(KEY_FILE, 0o604);
        assert!(folder.open().is_err_and(|why| why.starts_with("its key: others may use it")));
        folder.set_mode(KEY_FILE, 0o600);
        std::fs::write(folder.path().join(KEY_FILE), b"short").unwrap();
        assert!(folder.open().is_err_and(|why| why == "its key: it has 5 bytes"));
    }

    #[test]
    fn code_that_came_with_its_key_is_foreign_where_the_key_has_a_place_of_its_own() {
        let folder = Place::new();
        // Somebody else's cache, whole, with the key that sealed it.
        folder.open().unwrap().put(&name(), &Artefact::of_child(b"code".to_vec()));
        assert!(folder.path().join(KEY_FILE).exists());
        let key_dir = folder.0.path().join("state/key");
        let open = || Cache::open(&folder.path(), Some(&key_dir), Arc::new(SystemClock::default()));
        let cache = open().unwrap();
        assert_eq!(kept(&cache, &name()), None);
        cache.put(&name(), &Artefact::of_child(b"ours".to_vec()));
        assert_eq!(kept(&open().unwrap(), &name()).as_deref(), Some(&b"ours"[..]), "the key is there the next time");
        std::fs::set_permissions(&key_dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(open().is_err_and(|why| why.starts_with("its key: others may use it")));
    }

    #[test]
    fn all_who_open_at_once_agree_on_the_key() {
        let folder = Place::new();
        let keys: Vec<Key> = std::thread::scope(|scope| {
            let opening: Vec<_> = (0..8).map(|_| scope.spawn(|| folder.open().unwrap().key)).collect();
            opening.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0] && *key != [0; 32]));
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let folder = Place::new();
        let cache = Cache { bytes_max: 250, ..folder.open().unwrap() };
        let names: Vec<_> = (0..3_u8).map(|n| Digest::of(&[n])).collect();
        let code = || Artefact::of_child(vec![0; 68]);
        let set_used = |name: &Digest, second: i64| {
            let file = File::open(folder.path().join(file_name(name))).unwrap();
            let time = Timespec { tv_sec: second, tv_nsec: 0 };
            rustix::fs::futimens(&file, &Timestamps { last_access: time, last_modification: time }).unwrap();
        };
        for (n, name) in names.iter().take(2).enumerate() {
            cache.put(name, &code());
            set_used(name, 1_000 + i64::try_from(n).unwrap());
        }
        assert!(cache.get(&names[0]).is_some(), "it is the one used last now");
        cache.put(&names[2], &code());
        let left: Vec<_> = names.iter().map(|name| cache.get(name).is_some()).collect();
        assert_eq!(left, [true, false, true]);
    }
}
