//! What is in a directory, page by page: a listing takes no more memory for a large directory than for a small one.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use rustix::fs::Dir;
use wasmtime_wasi::p2::bindings::filesystem::types::{DescriptorType, DirectoryEntry, ErrorCode};

use crate::sandbox::overlay::files::descriptor_type;
use crate::sandbox::overlay::view::{BaseDir, Named, next_named};
use crate::sandbox::overlay::{DirId, Now, Overlay, Place, code};

/// One name, or why it cannot be told.
pub(in crate::sandbox) type Entry = Result<DirectoryEntry, ErrorCode>;

/// What a listing reads.
enum Source {
    /// A directory as it is on this machine.
    Plain(Dir),
    /// A directory of a mount that may be written.
    Viewed(BaseDir),
}

impl Source {
    fn next(&mut self) -> Option<Named> {
        match self {
            Self::Plain(dir) => next_named(dir),
            Self::Viewed(dir) => dir.next(),
        }
    }
}

/// A directory that is being listed: what is on this machine, then what the call made of it before the listing began.
pub(in crate::sandbox) struct Listing {
    source: Option<Source>,
    /// What the call changed in this directory: what each name is now.
    changed: BTreeMap<String, Option<DescriptorType>>,
}

impl Listing {
    /// Lists an open directory as it is on this machine.
    pub(in crate::sandbox) fn of(dir: impl AsFd) -> Result<Self, ErrorCode> {
        Ok(Self { source: Some(Source::Plain(Dir::read_from(dir).map_err(code)?)), changed: BTreeMap::new() })
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
        while let Some(source) = &mut self.source {
            match source.next() {
                None => self.source = None,
                Some(Err(error)) => return Some(Err(code(error))),
                Some(Ok((name, _))) if self.changed.contains_key(&name) => {}
                Some(Ok((name, kind))) => return Some(Ok(DirectoryEntry { type_: descriptor_type(kind), name })),
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
            return Ok(Listing { source: None, changed });
        }
        let source = self.view.list(place).map_err(code)?;
        Ok(Listing { source: Some(Source::Viewed(source)), changed })
    }
}
