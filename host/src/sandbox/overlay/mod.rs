//! What a call sees of a mount that it may write: the directory on this machine with the call's own changes over it.
//!
//! Promises: the mount itself is as it was until [`Overlay::apply`]; the call sees its changes at once; bytes and entries
//! stay within the call's quota; no path leads out of the mount, whatever another process does to it meanwhile; links are
//! read through inside the mount, and never written through. Dropping an overlay forgets its changes.
//!
//! A change is kept by its place: a staged file, a made directory, or a hole. What is no change shows through. A file is
//! copied to the staging area when it is first written, and so is a file or directory that is renamed: both count. Other
//! calls see nothing of it; two mounts are two file systems, also where one directory holds the other.
//!
//! Leaves to others: the guest's handles (`capabilities/files.rs`), and when a commit is announced.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustix::fs::FileType;
use rustix::io::Errno;
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;

use crate::domain::Limits;
use crate::sandbox::looks::Looks;

mod area;
mod base;
mod commit;
mod copy;
mod files;
mod list;
mod path;
mod quota;
mod tree;
mod view;

#[cfg(test)]
mod tests;

pub(in crate::sandbox) use area::is_reserved;
pub(in crate::sandbox) use base::is_of_kernel;
pub(in crate::sandbox) use commit::{Applied, Refused};
pub(in crate::sandbox) use files::{How, Identity, Opened};
pub(in crate::sandbox) use list::{Entry, Listing};
pub(in crate::sandbox) use path::check;
pub(in crate::sandbox) use quota::Deadline;

use area::Area;
use base::Base;
use files::OpenFile;
use quota::Quota;
use view::{Attributes, View};

/// Where something is within a mount: one name for each directory on the way, none for the mount itself.
type Place = Vec<String>;

/// Refusals of streams kept: as many as denials of a call.
const REFUSALS_MAX: usize = 100;

/// An open file of an overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::sandbox) struct FileId(u64);

/// An open directory of an overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::sandbox) struct DirId(u64);

/// An overlay as the guest's handles and streams share it.
pub(in crate::sandbox) type Shared = Arc<Mutex<Overlay>>;

/// A mount with the changes of one call.
pub(in crate::sandbox) struct Overlay {
    view: Arc<View>,
    /// The name that the staging area gets: random, so that no two are equal.
    name: String,
    area: Option<Area>,
    /// Invariant: what is above a change, if it is a change too, is a made directory, or else what is below is a hole.
    changes: BTreeMap<Place, Change>,
    files: HashMap<FileId, OpenFile>,
    /// Files of the mount that are open and not changed yet.
    opened: BTreeMap<Place, FileId>,
    /// Open directories; `None` for one that was removed.
    dirs: HashMap<DirId, Option<Place>>,
    next: u64,
    quota: Arc<Quota>,
    /// What streams were refused and nobody has noted yet.
    refusals: Vec<ErrorCode>,
}

/// What a call made of one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Change {
    /// What the mount has there.
    hides: Option<Hidden>,
    now: Now,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hidden {
    Dir,
    /// A file or a link.
    Leaf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Now {
    /// A hole: what the mount has there is hidden.
    Gone,
    File(FileId),
    /// A directory that the call made. Nothing of the mount shows through it.
    Dir,
}

/// What a guest finds at a place.
enum Seen {
    Nothing,
    Staged(FileId),
    Made,
    Base(Attributes),
}

/// Opens the mounts of a call that it may write. With the first write to one goes what calls of a dead process left there.
///
/// `name` is random: 32 hexadecimal digits.
///
/// # Errors
/// The number of the mount that does not open, and why.
pub(in crate::sandbox) fn open<'a>(
    mounts: impl Iterator<Item = (&'a str, &'a Path)>,
    name: &str,
    limits: &Limits,
    (deadline, looks): (Deadline, Looks),
) -> Result<Vec<Shared>, (usize, std::io::Error)> {
    let quota = Arc::new(Quota::new(limits, deadline));
    let opened = mounts.enumerate().map(|(n, (guest, host))| {
        let overlay = Overlay::new((guest, host), &format!("{name}-{n}"), quota.clone(), looks.clone());
        overlay.map(|overlay| Arc::new(Mutex::new(overlay))).map_err(|error| (n, error.into()))
    });
    opened.collect()
}

impl Overlay {
    fn new((guest, host): (&str, &Path), name: &str, quota: Arc<Quota>, looks: Looks) -> Result<Self, Errno> {
        let view = Arc::new(View::new(Base::open(host)?, guest, looks));
        Ok(Self {
            view,
            name: name.to_owned(),
            area: None,
            changes: BTreeMap::new(),
            files: HashMap::new(),
            opened: BTreeMap::new(),
            dirs: HashMap::new(),
            next: 0,
            quota,
            refusals: Vec::new(),
        })
    }

    /// Returns the path by which the guest knows the mount.
    pub(in crate::sandbox) fn guest(&self) -> &str {
        &self.view.guest
    }

    /// Keeps what a stream was refused, for the receipt.
    pub(in crate::sandbox) fn note_refusal(&mut self, code: ErrorCode) {
        if self.refusals.len() < REFUSALS_MAX {
            self.refusals.push(code);
        }
    }

    /// Returns what streams were refused.
    pub(in crate::sandbox) fn take_refusals(&mut self) -> Vec<ErrorCode> {
        std::mem::take(&mut self.refusals)
    }

    fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// What the guest finds at `place`. The directories above it are looked at as well: nothing is in what is not there.
    fn look(&self, place: &[String]) -> Result<Seen, ErrorCode> {
        match self.changes.get(place).map(|change| change.now) {
            Some(Now::Gone) => return Ok(Seen::Nothing),
            Some(Now::File(id)) => return Ok(Seen::Staged(id)),
            Some(Now::Dir) => return Ok(Seen::Made),
            None if self.is_covered(place) => return Ok(Seen::Nothing),
            None => {}
        }
        Ok(self.view.stat(place).map_err(code)?.map_or(Seen::Nothing, Seen::Base))
    }

    /// Whether something above `place` was changed, so that the mount does not show through.
    fn is_covered(&self, place: &[String]) -> bool {
        (1..place.len()).any(|n| self.changes.contains_key(&place[..n]))
    }

    fn is_dir(&self, place: &[String]) -> Result<bool, ErrorCode> {
        Ok(match self.look(place)? {
            Seen::Made => true,
            Seen::Base(found) => found.kind() == FileType::Directory,
            Seen::Nothing | Seen::Staged(_) => false,
        })
    }

    /// What the mount has at `place` that a change there would hide.
    fn hidden(&self, place: &[String]) -> Result<Option<Hidden>, ErrorCode> {
        if let Some(change) = self.changes.get(place) {
            return Ok(change.hides);
        }
        if self.is_covered(place) {
            return Ok(None);
        }
        let found = self.view.stat(place).map_err(code)?;
        Ok(found.map(|found| if found.kind() == FileType::Directory { Hidden::Dir } else { Hidden::Leaf }))
    }

    /// Puts something at `place`, in place of what was there.
    fn set(&mut self, place: &[String], now: Now) -> Result<(), ErrorCode> {
        let hides = self.hidden(place)?;
        if !self.changes.contains_key(place) {
            self.quota.take_entries(1)?;
        }
        self.changes.insert(place.to_vec(), Change { hides, now });
        Ok(())
    }

    /// Takes away what the guest sees at `place`.
    fn clear(&mut self, place: &[String]) -> Result<(), ErrorCode> {
        if self.hidden(place)?.is_some() {
            return self.set(place, Now::Gone);
        }
        if self.changes.remove(place).is_some() {
            self.quota.give_entries(1);
        }
        Ok(())
    }

    /// The changes at `place` and below.
    fn below(&self, place: &[String]) -> impl DoubleEndedIterator<Item = (&Place, &Change)> {
        let end = place.to_vec();
        self.changes
            .range(place.to_vec()..)
            .take_while(move |(at, _)| at.starts_with(&end))
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// The staging area, made when it is first needed.
    fn area(&mut self) -> Result<&mut Area, ErrorCode> {
        match &mut self.area {
            Some(area) => Ok(area),
            none => Ok(none.insert(Area::make(&self.view.base, &self.name).map_err(code)?)),
        }
    }
}

/// The code of an error of the operating system.
fn code(error: Errno) -> ErrorCode {
    match error {
        Errno::XDEV => ErrorCode::CrossDevice,
        Errno::DQUOT => ErrorCode::Quota,
        Errno::NOLCK => ErrorCode::NoLock,
        Errno::ROFS => ErrorCode::ReadOnly,
        other => std::io::Error::from(other).into(),
    }
}

fn io_code(error: &std::io::Error) -> ErrorCode {
    error.raw_os_error().map_or(ErrorCode::Io, |raw| code(Errno::from_raw_os_error(raw)))
}
