//! The staging area of one call in a mount: where files are written before they are renamed into place.
//!
//! It is inside the mount, as a rename works only there: `.cofferdam-staging/<random>/0`, `1`, …, for its owner alone.
//! Whoever uses it holds a lock that the kernel takes back when the process dies; so what is not locked is a leftover.
//! Leftovers are removed before an area is made, and only what is ours: owned by this user, and named as we name.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, Dir, FlockOperation, Mode, OFlags, flock, fstat, mkdirat, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;

use crate::sandbox::overlay::base::{Base, DIRECTORY};

/// The directory of all staging areas of a mount. Guests never see it.
const AREAS: &str = ".cofferdam-staging";

/// Digits of the random part of an area's name.
const RANDOM_DIGITS: usize = 32;

/// Tries to make an area while others remove what is empty or not locked yet.
const ATTEMPTS_MAX: u32 = 16;

/// Whether `name` is ours alone; also on file systems that do not tell cases apart.
pub(in crate::sandbox) fn is_reserved(name: &str) -> bool {
    name.eq_ignore_ascii_case(AREAS)
}

/// A staging area, locked until it is dropped, and then removed.
pub(super) struct Area {
    root: OwnedFd,
    areas: OwnedFd,
    name: String,
    /// Holds the lock.
    dir: OwnedFd,
    next: u64,
}

impl Area {
    /// Makes an area under a name that nobody else uses.
    ///
    /// # Errors
    /// `ENOLCK` where the file system locks no directories, as some that are not local; what the system says.
    pub(super) fn make(base: &Base, name: &str) -> Result<Self, Errno> {
        clean(base);
        for attempt in 0..ATTEMPTS_MAX {
            let name = format!("{name}-{attempt}");
            if let Some((areas, dir)) = made(base.root(), &name)? {
                return Ok(Self { root: cloned(base.root())?, areas, name, dir, next: 0 });
            }
        }
        Err(Errno::BUSY)
    }

    /// Makes an empty file and returns its number.
    pub(super) fn create(&mut self) -> Result<(u64, File), Errno> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // What the process's umask leaves of it, as for any file that a program makes.
        let file = openat(&self.dir, self.next.to_string(), flags, Mode::from_raw_mode(0o666))?;
        self.next += 1;
        Ok((self.next - 1, file.into()))
    }

    pub(super) fn open(&self, number: u64) -> Result<File, Errno> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&self.dir, number.to_string(), flags, Mode::empty()).map(File::from)
    }

    /// Removes a file. Where that fails, the end of the area removes it.
    pub(super) fn remove(&self, number: u64) {
        let _ = unlinkat(&self.dir, number.to_string(), AtFlags::empty());
    }

    /// Moves a file to `name` in `dir`, in place of what was there.
    pub(super) fn place(&self, number: u64, dir: &OwnedFd, name: &str) -> Result<(), Errno> {
        renameat(&self.dir, number.to_string(), dir, name)
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // What stays is a leftover, which the next call removes.
        empty(&self.dir);
        let _ = unlinkat(&self.areas, self.name.as_str(), AtFlags::REMOVEDIR);
        let _ = unlinkat(&self.root, AREAS, AtFlags::REMOVEDIR);
    }
}

/// Removes the areas of processes that died.
fn clean(base: &Base) {
    let Ok(areas) = openat(base.root(), AREAS, DIRECTORY, Mode::empty()) else { return };
    if !is_own(&areas) {
        return;
    }
    let Ok(entries) = Dir::read_from(&areas) else { return };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().to_str() else { continue };
        if !is_area_name(name) {
            continue;
        }
        // Locked until it is gone: who made it just now must not lock it in between.
        if let Some(dir) = is_leftover(&areas, name)
            && empty(&dir)
        {
            let _ = unlinkat(&areas, name, AtFlags::REMOVEDIR);
        }
    }
    let _ = unlinkat(base.root(), AREAS, AtFlags::REMOVEDIR);
}

/// Returns an area that nobody holds, locked.
fn is_leftover(areas: &OwnedFd, name: &str) -> Option<OwnedFd> {
    let dir = openat(areas, name, DIRECTORY, Mode::empty()).ok()?;
    flock(&dir, FlockOperation::NonBlockingLockExclusive).ok()?;
    (is_own(&dir) && is_there(areas, name, &dir)).then_some(dir)
}

/// Whether a directory in `.cofferdam-staging` is named as areas are: 32 hexadecimal digits, the number of the mount and
/// that of the attempt.
fn is_area_name(name: &str) -> bool {
    let mut parts = name.split('-');
    let (random, mount, attempt) = (parts.next(), parts.next(), parts.next());
    let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    random.is_some_and(|random| random.len() == RANDOM_DIGITS && is_hex(random))
        && mount.is_some_and(is_number)
        && attempt.is_some_and(is_number)
        && parts.next().is_none()
}

fn is_number(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_own(dir: &OwnedFd) -> bool {
    fstat(dir).is_ok_and(|stat| stat.st_uid == rustix::process::geteuid().as_raw())
}

/// Removes the files of an area; false where one stays, as does what is not named as ours.
fn empty(dir: &OwnedFd) -> bool {
    let Ok(entries) = Dir::read_from(dir) else { return false };
    let mut is_empty = true;
    for entry in entries.flatten() {
        match entry.file_name().to_str() {
            Ok("." | "..") => {}
            Ok(name) if is_number(name) => is_empty &= unlinkat(dir, name, AtFlags::empty()).is_ok(),
            _ => is_empty = false,
        }
    }
    is_empty
}

/// Makes and locks one area; `None` where somebody who cleans was faster.
fn made(root: &OwnedFd, name: &str) -> Result<Option<(OwnedFd, OwnedFd)>, Errno> {
    made_dir(root, AREAS)?;
    let areas = match openat(root, AREAS, DIRECTORY, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        areas => areas?,
    };
    if !is_own(&areas) {
        // Somebody else's directory under our name.
        return Err(Errno::PERM);
    }
    match mkdirat(&areas, name, Mode::RWXU) {
        Err(Errno::NOENT | Errno::EXIST) => return Ok(None),
        made => made?,
    }
    let dir = match openat(&areas, name, DIRECTORY, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        dir => dir?,
    };
    match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Ok(None),
        // So say file systems over a network of a directory that is open for reading.
        Err(Errno::BADF | Errno::NOLCK | Errno::NOTSUP) => {
            let _ = unlinkat(&areas, name, AtFlags::REMOVEDIR);
            return Err(Errno::NOLCK);
        }
        locked => locked?,
    }
    Ok(is_there(&areas, name, &dir).then_some((areas, dir)))
}

fn made_dir(at: &OwnedFd, name: &str) -> Result<(), Errno> {
    match mkdirat(at, name, Mode::RWXU) {
        Err(Errno::EXIST) => Ok(()),
        made => made,
    }
}

/// Whether `name` still leads to `dir`: between opening and locking it may have been removed.
fn is_there(areas: &OwnedFd, name: &str, dir: &OwnedFd) -> bool {
    let (Ok(named), Ok(held)) = (statat(areas, name, AtFlags::SYMLINK_NOFOLLOW), fstat(dir)) else { return false };
    (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)
}

fn cloned(fd: &OwnedFd) -> Result<OwnedFd, Errno> {
    rustix::io::fcntl_dupfd_cloexec(fd, 0)
}
