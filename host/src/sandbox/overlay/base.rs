//! A mounted directory on this machine, reached without following a link.
//!
//! Promises: every name of a path is opened below the directory before it, and links are never followed, so another
//! process that swaps a directory for a link while we walk leads nobody out. There is no `..` here: whoever asks has
//! resolved it. Leaves to others: which names a guest may use, and what stands in for what it changed.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};
use rustix::io::Errno;

/// How directories are opened on the way. Where there is `O_PATH` they need not be readable.
#[cfg(target_os = "linux")]
const WALK: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::PATH);
#[cfg(not(target_os = "linux"))]
const WALK: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How directories are opened to be listed or synced.
pub(super) const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How files are opened: what is no regular file must not make us wait.
const FILE: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// A directory that was mounted.
pub(super) struct Base {
    root: OwnedFd,
    device: u64,
}

impl Base {
    /// Opens `dir`, an operator's path: links in it are followed.
    pub(super) fn open(dir: &Path) -> Result<Self, Errno> {
        let root = rustix::fs::open(dir, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let device = device(&fstat(&root)?);
        Ok(Self { root, device })
    }

    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// Opens the directory at `place`, to reach what is in it.
    pub(super) fn dir(&self, place: &[String]) -> Result<OwnedFd, Errno> {
        let mut dir = openat(&self.root, ".", WALK, Mode::empty())?;
        for name in place {
            dir = openat(&dir, name.as_str(), WALK, Mode::empty())?;
        }
        Ok(dir)
    }

    /// Opens the directory at `place` in which something is to be changed: it is on the mount's own file system, as a
    /// rename reaches no other.
    pub(super) fn changeable(&self, place: &[String]) -> Result<OwnedFd, Errno> {
        let dir = self.dir(place)?;
        if device(&fstat(&dir)?) == self.device { Ok(dir) } else { Err(Errno::XDEV) }
    }

    /// What stands at `place`, a link itself and not its target; `None` where nothing does.
    pub(super) fn stat(&self, place: &[String]) -> Result<Option<Stat>, Errno> {
        let Some((name, parent)) = place.split_last() else { return fstat(&self.root).map(Some) };
        let found = self.dir(parent).and_then(|dir| statat(&dir, name.as_str(), AtFlags::SYMLINK_NOFOLLOW));
        match found {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens the regular file at `place`, for writing too where `is_write` is set: that it may be written is so known
    /// before anything is staged in its place.
    pub(super) fn file(&self, place: &[String], is_write: bool) -> Result<File, Errno> {
        let (name, parent) = place.split_last().ok_or(Errno::ISDIR)?;
        let access = if is_write { OFlags::RDWR } else { OFlags::RDONLY };
        let file = openat(self.dir(parent)?, name.as_str(), FILE | access, Mode::empty())?;
        if kind(&fstat(&file)?) == FileType::RegularFile && !is_of_kernel(&file) {
            return Ok(file.into());
        }
        Err(Errno::PERM)
    }

    pub(super) fn link(&self, place: &[String]) -> Result<String, Errno> {
        let (name, parent) = place.split_last().ok_or(Errno::INVAL)?;
        let target = readlinkat(self.dir(parent)?, name.as_str(), Vec::new())?;
        target.into_string().map_err(|_| Errno::ILSEQ)
    }
}

pub(super) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// The device that holds a file. Systems differ in its type.
#[cfg(target_os = "linux")]
pub(super) fn device(stat: &Stat) -> u64 {
    stat.st_dev
}

#[cfg(not(target_os = "linux"))]
pub(super) fn device(stat: &Stat) -> u64 {
    u64::try_from(stat.st_dev).unwrap_or(u64::MAX)
}

/// Whether a file is none of a disk but a view into the kernel, such as `/proc/self/environ`: it would show the host.
#[cfg(target_os = "linux")]
pub(in crate::sandbox) fn is_of_kernel(file: impl std::os::fd::AsFd) -> bool {
    /// Magic numbers of proc, sysfs, debugfs, tracefs, securityfs and the two of cgroup.
    const KERNEL: [i64; 7] = [0x9fa0, 0x6265_6572, 0x6462_6720, 0x7472_6163, 0x7363_6673, 0x0027_e0eb, 0x6367_7270];
    rustix::fs::fstatfs(file).is_ok_and(|fs| KERNEL.contains(&fs.f_type))
}

#[cfg(not(target_os = "linux"))]
pub(in crate::sandbox) fn is_of_kernel(_: impl std::os::fd::AsFd) -> bool {
    false
}
