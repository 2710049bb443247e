//! The changes of a call become the mount's.
//!
//! Promises: each file is either the old one or the new one, whole and on disk; nothing is removed before what was made is
//! in place, but for what stands in its way; what was put in place is not removed under another spelling of its name, as on file
//! systems that do not tell cases apart; what cannot be done is found before anything is, as far as nobody changes the
//! mount in between.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use rustix::fs::{
    Access, AtFlags, Dir, FileType, Mode, Stat, accessat, fstat, fsync, mkdirat, openat, statat, unlinkat,
};
use rustix::io::Errno;

use crate::sandbox::overlay::base::{DIRECTORY, device, kind};
use crate::sandbox::overlay::files::Content;
use crate::sandbox::overlay::{Change, FileId, Hidden, Now, Overlay, Place};

/// One change of the mount. Each is one system call, and whole.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    MakeDir(Place),
    Put(Place, FileId),
    Unlink(Place),
    RemoveDir(Place),
}

impl Step {
    fn place(&self) -> &Place {
        match self {
            Self::MakeDir(place) | Self::Put(place, _) | Self::Unlink(place) | Self::RemoveDir(place) => place,
        }
    }

    fn verb(&self) -> &'static str {
        match self {
            Self::MakeDir(_) => "make",
            Self::Put(..) => "write",
            Self::Unlink(_) | Self::RemoveDir(_) => "remove",
        }
    }
}

/// What a commit has put in place so far: devices and inodes.
type Placed = BTreeSet<(u64, u64)>;

/// How far a commit came.
#[derive(Debug, Default)]
pub(in crate::sandbox) struct Applied {
    /// What was done, by the guest's paths: `write /notes/today.md`.
    pub(in crate::sandbox) done: Vec<String>,
    /// What was not, and why.
    pub(in crate::sandbox) refused: Option<Refused>,
}

/// A change that could not be made.
#[derive(Debug)]
pub(in crate::sandbox) struct Refused {
    /// `write /notes/today.md`.
    pub(in crate::sandbox) what: String,
    pub(in crate::sandbox) why: std::io::Error,
    /// Whether somebody else put there what is in the way.
    pub(in crate::sandbox) is_conflict: bool,
}

impl Overlay {
    /// The staged files, which [`Overlay::sync`] brings to disk one by one.
    pub(in crate::sandbox) fn staged_files(&self) -> Vec<FileId> {
        let files = self.changes.values().filter_map(|change| match change.now {
            Now::File(id) => Some(id),
            Now::Gone | Now::Dir => None,
        });
        files.collect()
    }

    /// Brings a staged file to disk.
    ///
    /// # Errors
    /// What the operating system says.
    pub(in crate::sandbox) fn sync(&self, id: FileId) -> std::io::Result<()> {
        let content = self.files.get(&id).map(|file| file.content);
        if let (Some(Content::Staged { number, .. }), Some(area)) = (content, &self.area) {
            fsync(area.open(number)?)?;
        }
        Ok(())
    }

    /// Whether a commit would change the mount.
    pub(in crate::sandbox) fn has_changed(&self) -> bool {
        self.changes.values().any(|change| (change.now, change.hides) != (Now::Dir, Some(Hidden::Dir)))
    }

    /// Returns what a commit would do, by the guest's paths and in order.
    pub(in crate::sandbox) fn planned(&self) -> Vec<String> {
        self.steps().iter().map(|step| self.told(step)).collect()
    }

    /// Checks that every change can be made.
    ///
    /// # Errors
    /// The first that cannot.
    pub(in crate::sandbox) fn check_commit(&self) -> Result<(), Refused> {
        self.steps().iter().try_for_each(|step| self.check_step(step).map_err(|why| self.refused(step, why)))
    }

    /// Makes the changes, and brings the directories that they are in to disk. Stops at the first that cannot be made.
    pub(in crate::sandbox) fn apply(&mut self) -> Applied {
        let (mut applied, mut placed) = (Applied::default(), Placed::new());
        let steps = self.steps();
        for step in &steps {
            match self.take(step, &mut placed) {
                Ok(()) => applied.done.push(self.told(step)),
                Err(why) => {
                    applied.refused = Some(self.refused(step, why));
                    break;
                }
            }
        }
        let parents: BTreeSet<&[String]> =
            steps.iter().filter_map(|step| step.place().split_last()).map(|p| p.1).collect();
        for parent in parents {
            if let (Err(why), None) = (self.sync_dir(parent), &applied.refused) {
                let what = format!("keep {}", self.shown(parent));
                applied.refused = Some(Refused { what, why: why.into(), is_conflict: false });
            }
        }
        applied
    }

    /// What is to be done, in an order that loses nothing.
    fn steps(&self) -> Vec<Step> {
        let (after, first): (Vec<_>, Vec<_>) = self.changes.iter().partition(|(at, _)| self.is_blocked(at));
        let made = |(at, change): (&Place, &Change)| match (change.now, change.hides) {
            (Now::Dir, Some(Hidden::Dir)) | (Now::Gone, _) => None,
            (Now::Dir, _) => Some(Step::MakeDir(at.clone())),
            (Now::File(id), _) => Some(Step::Put(at.clone(), id)),
        };
        let (first_gone, after_gone) = (first.iter().rev().copied(), after.iter().rev().copied());
        let put_first = first.iter().copied().filter_map(made);
        let in_the_way = after_gone.filter(|(_, c)| c.now == Now::Gone || is_other_kind(c)).filter_map(removal);
        let put_after = after.iter().copied().filter_map(made);
        let gone = first_gone.filter(|(_, c)| c.now == Now::Gone).filter_map(removal);
        put_first.chain(in_the_way).chain(put_after).chain(gone).collect()
    }

    /// Whether something must go before the place, or one above it, can be what it becomes.
    fn is_blocked(&self, at: &[String]) -> bool {
        (1..=at.len()).any(|n| self.changes.get(&at[..n]).is_some_and(is_other_kind))
    }

    fn check_step(&self, step: &Step) -> Result<(), Errno> {
        let Some((_, parent)) = step.place().split_last() else { return Err(Errno::BUSY) };
        if !self.changes.contains_key(parent) {
            let dir = self.view.base.changeable(parent)?;
            accessat(&dir, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)?;
            self.check_sticky(&fstat(&dir)?, step)?;
        }
        if let Step::RemoveDir(place) = step {
            self.check_emptied(place)?;
        }
        let hides = self.changes.get(step.place()).and_then(|change| change.hides);
        let found = self.view.base.stat(step.place())?.map(|stat| kind(&stat));
        match (step, found) {
            (Step::MakeDir(_), Some(found)) if found != FileType::Directory && hides.is_none() => Err(Errno::EXIST),
            (Step::Put(..), Some(FileType::Directory)) if hides != Some(Hidden::Dir) => Err(Errno::ISDIR),
            (Step::Unlink(_), Some(FileType::Directory)) => Err(Errno::ISDIR),
            (Step::RemoveDir(_), Some(found)) if found != FileType::Directory => Err(Errno::NOTDIR),
            _ => Ok(()),
        }
    }

    /// Checks that what stands at the place of `step` is ours to replace or remove, where only owners may.
    fn check_sticky(&self, dir: &Stat, step: &Step) -> Result<(), Errno> {
        if Mode::from_raw_mode(dir.st_mode).contains(Mode::SVTX)
            && let Some(found) = self.view.base.stat(step.place())?
            && !is_ours(dir, &found, rustix::process::geteuid().as_raw())
        {
            return Err(Errno::PERM);
        }
        Ok(())
    }

    /// Checks that nothing stays in a directory which is to be removed: not what the guest never saw either.
    fn check_emptied(&self, place: &Place) -> Result<(), Errno> {
        let dir = match self.view.base.dir(place) {
            // It is gone, or no directory any more.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            dir => openat(dir?, ".", DIRECTORY, Mode::empty())?,
        };
        for entry in Dir::new(dir)? {
            let entry = entry?;
            let name = entry.file_name().to_str().map_err(|_| Errno::NOTEMPTY)?;
            if !matches!(name, "." | "..") && !self.is_gone(&[place.as_slice(), &[name.to_owned()]].concat()) {
                return Err(Errno::NOTEMPTY);
            }
        }
        Ok(())
    }

    fn is_gone(&self, place: &[String]) -> bool {
        self.changes.get(place).is_some_and(|change| change.now == Now::Gone)
    }

    fn take(&self, step: &Step, placed: &mut Placed) -> Result<(), Errno> {
        let Some((name, parent)) = step.place().split_last() else { return Err(Errno::BUSY) };
        let dir = self.view.base.changeable(parent)?;
        let name = name.as_str();
        match step {
            Step::MakeDir(_) => made_dir(&dir, name)?,
            Step::Put(_, id) => self.put(*id, &dir, name)?,
            Step::Unlink(_) => return removed(&dir, name, AtFlags::empty(), placed),
            Step::RemoveDir(_) => return removed(&dir, name, AtFlags::REMOVEDIR, placed),
        }
        placed.extend(identity(&dir, name));
        Ok(())
    }

    fn put(&self, id: FileId, dir: &OwnedFd, name: &str) -> Result<(), Errno> {
        let content = self.files.get(&id).map(|file| file.content);
        match (content, &self.area) {
            (Some(Content::Staged { number, .. }), Some(area)) => area.place(number, dir, name),
            _ => Err(Errno::BADF),
        }
    }

    fn sync_dir(&self, place: &[String]) -> Result<(), Errno> {
        let dir = match self.view.base.dir(place) {
            // It was removed in the same commit, or by somebody else: its own parent tells.
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            dir => dir?,
        };
        fsync(openat(&dir, ".", DIRECTORY, Mode::empty())?)
    }

    fn refused(&self, step: &Step, why: Errno) -> Refused {
        let is_conflict = matches!(
            why,
            Errno::EXIST | Errno::ISDIR | Errno::NOTDIR | Errno::NOTEMPTY | Errno::NOENT | Errno::LOOP | Errno::XDEV
        );
        Refused { what: self.told(step), why: why.into(), is_conflict }
    }

    fn told(&self, step: &Step) -> String {
        format!("{} {}", step.verb(), self.shown(step.place()))
    }

    fn shown(&self, place: &[String]) -> String {
        format!("{}/{}", self.view.guest.trim_end_matches('/'), place.join("/"))
    }
}

/// Whether a change makes a directory of a file or a file of a directory.
fn is_other_kind(change: &Change) -> bool {
    matches!((change.hides, change.now), (Some(Hidden::Leaf), Now::Dir) | (Some(Hidden::Dir), Now::File(_)))
}

fn removal((at, change): (&Place, &Change)) -> Option<Step> {
    Some(match change.hides? {
        Hidden::Dir => Step::RemoveDir(at.clone()),
        Hidden::Leaf => Step::Unlink(at.clone()),
    })
}

/// A directory that somebody else made meanwhile is as good.
fn made_dir(dir: &OwnedFd, name: &str) -> Result<(), Errno> {
    match mkdirat(dir, name, Mode::from_raw_mode(0o777)) {
        Err(Errno::EXIST) => openat(dir, name, DIRECTORY, Mode::empty()).map(drop),
        made => made,
    }
}

/// Removes what stands at `name`, but for what this commit put there: on a file system that does not tell cases apart,
/// the old name leads to it too. What somebody else removed meanwhile is gone, as it should be.
fn removed(dir: &OwnedFd, name: &str, flags: AtFlags, placed: &Placed) -> Result<(), Errno> {
    if identity(dir, name).is_some_and(|found| placed.contains(&found)) {
        return Ok(());
    }
    match unlinkat(dir, name, flags) {
        Err(Errno::NOENT) => Ok(()),
        removed => removed,
    }
}

fn identity(dir: &OwnedFd, name: &str) -> Option<(u64, u64)> {
    statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).ok().map(|stat| (device(&stat), stat.st_ino))
}

/// Whether user `me` may rename over or remove `found` in a sticky directory.
fn is_ours(dir: &Stat, found: &Stat, me: u32) -> bool {
    me == 0 || found.st_uid == me || dir.st_uid == me
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_place_is_not_removed_by_another_name() {
        let dir = tempfile::tempdir().unwrap();
        let at = rustix::fs::open(dir.path(), DIRECTORY, Mode::empty()).unwrap();
        std::fs::write(dir.path().join("a"), "put").unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        let placed: Placed = ["a", "d"].into_iter().filter_map(|name| identity(&at, name)).collect();
        // As a name in other letters leads to the same file.
        std::fs::hard_link(dir.path().join("a"), dir.path().join("A")).unwrap();
        removed(&at, "A", AtFlags::empty(), &placed).unwrap();
        removed(&at, "d", AtFlags::REMOVEDIR, &placed).unwrap();
        assert!(dir.path().join("A").exists() && dir.path().join("d").exists());
        removed(&at, "A", AtFlags::empty(), &Placed::new()).unwrap();
        removed(&at, "d", AtFlags::REMOVEDIR, &Placed::new()).unwrap();
        assert!(!dir.path().join("A").exists() && !dir.path().join("d").exists());
        removed(&at, "A", AtFlags::empty(), &placed).unwrap();
    }

    #[test]
    fn in_a_sticky_directory_only_owners_replace_files() {
        let dir = tempfile::tempdir().unwrap();
        let of = |uid| {
            let mut stat = rustix::fs::stat(dir.path()).unwrap();
            stat.st_uid = uid;
            stat
        };
        for (dir, file, me, expected) in [(1, 2, 2, true), (2, 1, 2, true), (1, 1, 2, false), (1, 1, 0, true)] {
            assert_eq!(is_ours(&of(dir), &of(file), me), expected, "{me} in a directory of {dir}, a file of {file}");
        }
    }
}
