//! Changes of names: directories made and removed, files removed, both renamed.

use rustix::fs::FileType;
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;

use crate::sandbox::overlay::path::{Resolved, Use, fits};
use crate::sandbox::overlay::{Change, DirId, FileId, Hidden, Now, Overlay, Place, Seen, code};

impl Overlay {
    /// Makes a directory.
    pub(in crate::sandbox) fn make_dir(&mut self, dir: DirId, path: &str) -> Result<(), ErrorCode> {
        let Resolved { place, .. } = self.resolve(dir, path, Use::Change)?;
        if !matches!(self.look(&place)?, Seen::Nothing) {
            return Err(ErrorCode::Exist);
        }
        self.reach(&place)?;
        self.set(&place, Now::Dir)
    }

    /// Removes an empty directory.
    pub(in crate::sandbox) fn remove_dir(&mut self, dir: DirId, path: &str) -> Result<(), ErrorCode> {
        let Resolved { place, .. } = self.resolve(dir, path, Use::Change)?;
        self.reach(&place)?;
        self.check_empty_dir(&place)?;
        self.clear(&place)?;
        for open in self.dirs.values_mut().filter(|open| open.as_ref() == Some(&place)) {
            *open = None;
        }
        Ok(())
    }

    /// Removes a file or a link.
    pub(in crate::sandbox) fn unlink(&mut self, dir: DirId, path: &str) -> Result<(), ErrorCode> {
        let Resolved { place, is_dir } = self.resolve(dir, path, Use::Change)?;
        if self.is_dir(&place)? {
            return Err(ErrorCode::IsDirectory);
        }
        self.reach(&place)?;
        match self.look(&place)? {
            Seen::Nothing => return Err(ErrorCode::NoEntry),
            _ if is_dir => return Err(ErrorCode::NotDirectory),
            Seen::Base(found) if !matches!(found.kind(), FileType::RegularFile | FileType::Symlink) => {
                return Err(ErrorCode::NotPermitted);
            }
            _ => {}
        }
        self.vacate(&place)
    }

    /// Renames a file or directory within the mount.
    pub(in crate::sandbox) fn rename(
        &mut self,
        dir: DirId,
        path: &str,
        new_dir: DirId,
        new_path: &str,
    ) -> Result<(), ErrorCode> {
        let old = self.resolve(dir, path, Use::Change)?;
        let new = self.resolve(new_dir, new_path, Use::Change)?;
        self.reach(&old.place)?;
        self.reach(&new.place)?;
        if self.is_dir(&old.place)? {
            return self.rename_dir(&old.place, &new.place);
        }
        match self.look(&old.place)? {
            Seen::Nothing => return Err(ErrorCode::NoEntry),
            // A link would be read from another place then; a FIFO or device is nothing that a guest handles.
            Seen::Base(found) if found.kind() != FileType::RegularFile => return Err(ErrorCode::NotPermitted),
            _ if old.is_dir || new.is_dir => return Err(ErrorCode::NotDirectory),
            _ => {}
        }
        self.rename_file(&old.place, &new.place)
    }

    fn rename_file(&mut self, old: &Place, new: &Place) -> Result<(), ErrorCode> {
        if self.is_dir(new)? {
            return Err(ErrorCode::IsDirectory);
        }
        self.check_leaf(new)?;
        if old == new {
            return Ok(());
        }
        let id = self.staged(old)?;
        let replaced = self.at(new);
        self.set(new, Now::File(id))?;
        // It is a change already: that it goes cannot fail for want of room.
        self.clear(old)?;
        if let Some(replaced) = replaced {
            self.opened.remove(new);
            self.detach(replaced);
        }
        self.moved(id, new);
        Ok(())
    }

    fn rename_dir(&mut self, old: &Place, new: &Place) -> Result<(), ErrorCode> {
        if old == new {
            return Ok(());
        }
        if new.starts_with(old) {
            return Err(ErrorCode::Invalid);
        }
        match self.look(new)? {
            Seen::Nothing => {}
            _ => self.check_empty_dir(new)?,
        }
        self.stage_tree(old)?;
        self.move_tree(old, new)
    }

    /// Moves the changes of a tree that is staged as a whole.
    fn move_tree(&mut self, old: &Place, new: &Place) -> Result<(), ErrorCode> {
        let moving: Vec<(Place, Now)> =
            self.below(old).filter(|(_, c)| c.now != Now::Gone).map(|(at, c)| (at.clone(), c.now)).collect();
        let target = |at: &Place| [new.as_slice(), &at[old.len()..]].concat();
        if moving.iter().any(|(at, _)| !fits(&target(at))) {
            return Err(ErrorCode::NameTooLong);
        }
        // What may fail comes first.
        let hidden = moving.iter().map(|(at, _)| self.hidden_by_dir(new, &target(at)));
        let hidden = hidden.collect::<Result<Vec<_>, _>>()?;
        let added = moving.iter().filter(|(at, _)| !self.changes.contains_key(&target(at))).count();
        self.quota.take_entries(u64::try_from(added).unwrap_or(u64::MAX))?;
        for ((at, now), hides) in moving.iter().zip(hidden) {
            let target = target(at);
            self.changes.insert(target.clone(), Change { hides, now: *now });
            if let Now::File(id) = now {
                self.moved(*id, &target);
            }
        }
        for (at, _) in moving.iter().rev() {
            self.clear(at)?;
        }
        for open in self.dirs.values_mut().flatten().filter(|open| open.starts_with(old)) {
            *open = target(open);
        }
        Ok(())
    }

    /// What a change at `place` hides once there is a made directory at `top`.
    fn hidden_by_dir(&self, top: &Place, place: &Place) -> Result<Option<Hidden>, ErrorCode> {
        if place == top || self.changes.contains_key(place) { self.hidden(place) } else { Ok(None) }
    }

    /// Copies the directory at `place` to the staging area with all that is in it, where it stands.
    fn stage_tree(&mut self, place: &Place) -> Result<(), ErrorCode> {
        if !matches!(self.look(place)?, Seen::Base(_)) {
            return Ok(());
        }
        for name in self.base_names(place)? {
            self.quota.check_time()?;
            let inner = [place.as_slice(), &[name]].concat();
            if !fits(&inner) {
                return Err(ErrorCode::NameTooLong);
            }
            match self.look(&inner)? {
                Seen::Base(found) => match found.kind() {
                    FileType::Directory => self.stage_tree(&inner)?,
                    FileType::RegularFile => self.staged(&inner).map(drop)?,
                    _ => return Err(ErrorCode::NotPermitted),
                },
                Seen::Nothing | Seen::Staged(_) | Seen::Made => {}
            }
        }
        // Last: from here on the mount does not show through.
        self.set(place, Now::Dir)
    }

    /// The names that the mount has in a directory: at most as many as a call may change.
    fn base_names(&self, place: &Place) -> Result<Vec<String>, ErrorCode> {
        self.view.changeable(place).map_err(code)?;
        let mut dir = self.view.list(place).map_err(code)?;
        let mut names = Vec::new();
        while let Some(named) = dir.next() {
            let (name, _) = named.map_err(code)?;
            self.quota.check_entries(names.len())?;
            names.push(name);
        }
        Ok(names)
    }

    /// The file at `place`, staged.
    fn staged(&mut self, place: &Place) -> Result<FileId, ErrorCode> {
        match self.look(place)? {
            Seen::Staged(id) => Ok(id),
            _ => {
                let id = self.use_base(place, true)?;
                let staged = self.stage(id, u64::MAX);
                self.release(id);
                staged.map(|()| id)
            }
        }
    }

    /// Takes away the file or link at `place`.
    fn vacate(&mut self, place: &Place) -> Result<(), ErrorCode> {
        let removed = self.at(place);
        self.clear(place)?;
        if let Some(removed) = removed {
            self.opened.remove(place);
            self.detach(removed);
        }
        Ok(())
    }

    /// The file that is open or staged at `place`.
    fn at(&self, place: &Place) -> Option<FileId> {
        match self.changes.get(place).map(|change| change.now) {
            Some(Now::File(id)) => Some(id),
            _ => self.opened.get(place).copied(),
        }
    }

    fn moved(&mut self, id: FileId, place: &Place) {
        if let Some(file) = self.files.get_mut(&id) {
            file.place = Some(place.clone());
        }
    }

    /// Refuses to replace what is neither file nor link.
    fn check_leaf(&self, place: &Place) -> Result<(), ErrorCode> {
        match self.look(place)? {
            Seen::Base(found) if !matches!(found.kind(), FileType::RegularFile | FileType::Symlink) => {
                Err(ErrorCode::NotPermitted)
            }
            _ => Ok(()),
        }
    }

    fn check_empty_dir(&self, place: &Place) -> Result<(), ErrorCode> {
        if matches!(self.look(place)?, Seen::Nothing) {
            return Err(ErrorCode::NoEntry);
        }
        if !self.is_dir(place)? {
            return Err(ErrorCode::NotDirectory);
        }
        if self.list_place(place)?.page(1)?.is_empty() { Ok(()) } else { Err(ErrorCode::NotEmpty) }
    }
}
