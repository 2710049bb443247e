//! A guest's path becomes a place in the mount.

use std::collections::VecDeque;

use rustix::fs::FileType;
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;

use crate::sandbox::overlay::{DirId, Overlay, Place, Seen, code, is_reserved};

/// Bytes of a path: `PATH_MAX` of Linux.
pub(in crate::sandbox) const PATH_BYTES_MAX: usize = 4_096;

/// Bytes of one name: `NAME_MAX` of Linux.
const NAME_BYTES_MAX: usize = 255;

/// Directories in directories: trees of people and build tools end far above.
const DEPTH_MAX: usize = 128;

/// Links that one path may lead through, as in Linux.
const LINKS_MAX: usize = 40;

/// What a path is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// To look: links are followed, at the end only where `follow` says so.
    Look { follow: bool },
    /// To change something: links are not followed anywhere.
    Change,
}

/// Where a path leads.
pub(super) struct Resolved {
    pub(super) place: Place,
    /// Whether the path says that it is a directory: it ends in `/` or `.`.
    pub(super) is_dir: bool,
}

/// Checks the form of a path that a guest gave.
///
/// # Errors
/// `illegal-byte-sequence` for a NUL, `name-too-long` for a name or path that is.
pub(in crate::sandbox) fn check(path: &str) -> Result<(), ErrorCode> {
    if path.contains('\0') {
        return Err(ErrorCode::IllegalByteSequence);
    }
    if path.len() > PATH_BYTES_MAX || path.split('/').any(|name| name.len() > NAME_BYTES_MAX) {
        return Err(ErrorCode::NameTooLong);
    }
    Ok(())
}

impl Overlay {
    /// Follows `path` from `dir`.
    pub(super) fn resolve(&self, dir: DirId, path: &str, usage: Use) -> Result<Resolved, ErrorCode> {
        check(path)?;
        if path.is_empty() {
            return Err(ErrorCode::NoEntry);
        }
        let mut place = self.place_of(dir)?.clone();
        let mut names = VecDeque::new();
        let mut is_dir = queue(&mut names, path)?;
        let mut links = 0;
        while let Some(name) = names.pop_front() {
            if name == ".." {
                // Above the mount is nothing that a guest may see.
                place.pop().ok_or(ErrorCode::NotPermitted)?;
                continue;
            }
            self.enter(&mut place, name, usage)?;
            let is_last = names.is_empty();
            if let Some(target) = self.followed(&place, is_last && !is_dir, usage)? {
                links += 1;
                if links > LINKS_MAX {
                    return Err(ErrorCode::Loop);
                }
                place.pop();
                is_dir |= queue(&mut names, &target)? && is_last;
            } else if !is_last && !self.is_dir(&place)? {
                let is_there = !matches!(self.look(&place)?, Seen::Nothing);
                return Err(if is_there { ErrorCode::NotDirectory } else { ErrorCode::NoEntry });
            }
        }
        Ok(Resolved { place, is_dir })
    }

    fn enter(&self, place: &mut Place, name: String, usage: Use) -> Result<(), ErrorCode> {
        if is_reserved(&name) {
            return Err(if usage == Use::Change { ErrorCode::NotPermitted } else { ErrorCode::NoEntry });
        }
        place.push(name);
        if fits(place) { Ok(()) } else { Err(ErrorCode::NameTooLong) }
    }

    /// The target of the link at `place`, where it is one and is to be followed.
    fn followed(&self, place: &Place, is_end: bool, usage: Use) -> Result<Option<String>, ErrorCode> {
        if is_end && usage != (Use::Look { follow: true }) {
            return Ok(None);
        }
        let Seen::Base(found) = self.look(place)? else { return Ok(None) };
        if found.kind() != FileType::Symlink {
            return Ok(None);
        }
        // Whoever made the link would choose what is changed.
        if usage == Use::Change {
            return Err(ErrorCode::NotPermitted);
        }
        self.view.link(place).map(Some).map_err(code)
    }

    /// The place of an open directory.
    pub(super) fn place_of(&self, dir: DirId) -> Result<&Place, ErrorCode> {
        self.dirs.get(&dir).ok_or(ErrorCode::BadDescriptor)?.as_ref().ok_or(ErrorCode::NoEntry)
    }
}

/// Whether a place is no deeper and no longer than a path may be: from directory to directory a guest gets further down.
pub(super) fn fits(place: &[String]) -> bool {
    place.len() <= DEPTH_MAX && place.iter().map(|name| name.len() + 1).sum::<usize>() <= PATH_BYTES_MAX
}

/// Puts the names of `path` before those that are left; returns whether it says that it is a directory.
fn queue(names: &mut VecDeque<String>, path: &str) -> Result<bool, ErrorCode> {
    if path.starts_with('/') {
        return Err(ErrorCode::NotPermitted);
    }
    let parts: Vec<&str> = path.split('/').collect();
    for name in parts.iter().rev().filter(|name| !matches!(**name, "" | ".")) {
        names.push_front((*name).to_owned());
    }
    Ok(matches!(parts.last(), Some(&("" | "." | ".."))))
}
