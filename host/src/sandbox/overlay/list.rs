//! What is in a directory, page by page: a listing takes no more memory for a large directory than for a small one.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Dir, FileType, Mode, openat, statat};
use wasmtime_wasi::p2::bindings::filesystem::types::{DescriptorType, DirectoryEntry, ErrorCode};

use crate::sandbox::overlay::base::{DIRECTORY, kind};
use crate::sandbox::overlay::files::descriptor_type;
use crate::sandbox::overlay::{DirId, Now, Overlay, Place, code, is_reserved};

/// One name, or why it cannot be told.
pub(in crate::sandbox) type Entry = Result<DirectoryEntry, ErrorCode>;

/// A directory that is being listed: what is on this machine, then what the call made of it before the listing began.
pub(in crate::sandbox) struct Listing {
    dir: Option<Dir>,
    /// What the call changed in this directory: what each name is now.
    changed: BTreeMap<String, Option<DescriptorType>>,
}

impl Listing {
    /// Lists an open directory as it is on this machine.
    pub(in crate::sandbox) fn of(dir: impl AsFd) -> Result<Self, ErrorCode> {
        Ok(Self { dir: Some(Dir::read_from(dir).map_err(code)?), changed: BTreeMap::new() })
    }

    /// Returns the next entries, at most `entries_max`; none at the end.
    pub(in crate::sandbox) fn page(&mut self, entries_max: usize) -> Result<Vec<Entry>, ErrorCode> {
        let mut page = Vec::new();
        while page.len() < entries_max {
            match self.next() {
                Some(entry) => page.push(entry),
                None => break,
            }
        }
        Ok(page)
    }

    fn next(&mut self) -> Option<Entry> {
        while let Some(dir) = &mut self.dir {
            match dir.read() {
                None => self.dir = None,
                Some(Err(error)) => return Some(Err(code(error))),
                Some(Ok(entry)) => {
                    let Ok(name) = entry.file_name().to_str() else { return Some(Err(ErrorCode::IllegalByteSequence)) };
                    let is_hidden = matches!(name, "." | "..") || is_reserved(name) || self.changed.contains_key(name);
                    if !is_hidden {
                        let type_ = descriptor_type(type_of(dir, name, entry.file_type()));
                        return Some(Ok(DirectoryEntry { type_, name: name.to_owned() }));
                    }
                }
            }
        }
        loop {
            let (name, type_) = self.changed.pop_first()?;
            if let Some(type_) = type_ {
                return Some(Ok(DirectoryEntry { type_, name }));
            }
        }
    }
}

/// Some file systems do not tell it with the name.
fn type_of(dir: &Dir, name: &str, told: FileType) -> FileType {
    if told != FileType::Unknown {
        return told;
    }
    let stat = dir.fd().and_then(|fd| statat(fd, name, AtFlags::SYMLINK_NOFOLLOW));
    stat.map_or(FileType::Unknown, |stat| kind(&stat))
}

impl Overlay {
    /// Begins to list an open directory.
    pub(in crate::sandbox) fn list(&self, dir: DirId) -> Result<Listing, ErrorCode> {
        self.list_place(self.place_of(dir)?)
    }

    pub(super) fn list_place(&self, place: &Place) -> Result<Listing, ErrorCode> {
        let changed = self.below(place).filter(|(at, _)| at.len() == place.len() + 1);
        let changed = changed.filter_map(|(at, change)| {
            let type_ = match change.now {
                Now::Gone => None,
                Now::File(_) => Some(DescriptorType::RegularFile),
                Now::Dir => Some(DescriptorType::Directory),
            };
            Some((at.last()?.clone(), type_))
        });
        let changed = changed.collect();
        let is_made = self.changes.contains_key(place) || self.is_covered(place);
        if is_made {
            return Ok(Listing { dir: None, changed });
        }
        let dir = self.base.dir(place).map_err(code)?;
        let dir = openat(&dir, ".", DIRECTORY, Mode::empty()).map_err(code)?;
        Ok(Listing { dir: Some(Dir::new(dir).map_err(code)?), changed })
    }
}
