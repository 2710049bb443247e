//! Open files: of the mount until they are written, then of the staging area.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::{FileType, Timespec, Timestamps, futimens};
use rustix::io::Errno;
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi::p2::bindings::filesystem::types::{DescriptorStat, DescriptorType, ErrorCode, NewTimestamp};

use crate::sandbox::overlay::copy::{copied, copied_by_looks, handed_on};
use crate::sandbox::overlay::path::{Resolved, Use};
use crate::sandbox::overlay::view::{Attributes, BaseFile};
use crate::sandbox::overlay::{DirId, FileId, Now, Overlay, Place, Seen, code, io_code};

/// A file that is open, or staged.
pub(super) struct OpenFile {
    pub(super) content: Content,
    /// Open while somebody uses it.
    handle: Option<Handle>,
    /// Whether it was opened for writing, so that it is known that it may be written.
    is_writable: bool,
    uses: u32,
    /// `None` once it was removed; who has it open may go on with it.
    pub(super) place: Option<Place>,
}

/// What an open file is read from.
enum Handle {
    Base(BaseFile),
    Staged(File),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// As the mount has it.
    Base,
    /// The file of this number in the staging area, and its length.
    Staged { number: u64, bytes: u64 },
}

/// How a guest opens something.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they are the flags of `open-at`")]
pub(in crate::sandbox) struct How {
    pub(in crate::sandbox) follow: bool,
    pub(in crate::sandbox) create: bool,
    pub(in crate::sandbox) exclusive: bool,
    pub(in crate::sandbox) truncate: bool,
    pub(in crate::sandbox) directory: bool,
    pub(in crate::sandbox) write: bool,
}

/// What was opened. Each is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sandbox) enum Opened {
    File(FileId),
    Dir(DirId),
}

impl Overlay {
    /// Opens what is at `path`; a file that is not there is made where `how` says so.
    ///
    /// # Errors
    /// As `open-at` of `wasi:filesystem`; `not-permitted` for what is neither file nor directory, or is to be changed
    /// through a link; `quota`.
    pub(in crate::sandbox) fn open(&mut self, dir: DirId, path: &str, how: How) -> Result<Opened, ErrorCode> {
        if how.directory && (how.create || how.exclusive || how.truncate) {
            return Err(ErrorCode::Invalid);
        }
        let is_change = how.create || how.truncate || how.write;
        let usage = if is_change { Use::Change } else { Use::Look { follow: how.follow } };
        let Resolved { place, is_dir } = self.resolve(dir, path, usage)?;
        match self.look(&place)? {
            Seen::Nothing if how.create && !is_dir && !place.is_empty() => self.make_file(&place).map(Opened::File),
            Seen::Nothing => Err(ErrorCode::NoEntry),
            _ if how.create && how.exclusive => Err(ErrorCode::Exist),
            Seen::Made => self.open_dir(place, is_change),
            Seen::Staged(_) if how.directory || is_dir => Err(ErrorCode::NotDirectory),
            Seen::Staged(id) => self.open_staged(id, how.truncate),
            Seen::Base(found) => match found.kind() {
                FileType::Directory => self.open_dir(place, is_change),
                FileType::RegularFile if how.directory || is_dir => Err(ErrorCode::NotDirectory),
                FileType::RegularFile => self.open_base(&place, how),
                FileType::Symlink if how.directory => Err(ErrorCode::NotDirectory),
                FileType::Symlink if !is_change => Err(ErrorCode::Loop),
                // A link that would be written through, a FIFO, a device, a socket.
                _ => Err(ErrorCode::NotPermitted),
            },
        }
    }

    /// Opens the mount itself.
    pub(in crate::sandbox) fn open_root(&mut self) -> DirId {
        let id = DirId(self.id());
        self.dirs.insert(id, Some(Place::new()));
        id
    }

    fn open_dir(&mut self, place: Place, is_change: bool) -> Result<Opened, ErrorCode> {
        if is_change {
            return Err(ErrorCode::IsDirectory);
        }
        let id = DirId(self.id());
        self.dirs.insert(id, Some(place));
        Ok(Opened::Dir(id))
    }

    fn make_file(&mut self, place: &[String]) -> Result<FileId, ErrorCode> {
        self.reach(place)?;
        let (number, handle) = self.area()?.create().map_err(code)?;
        let id = FileId(self.id());
        if let Err(error) = self.set(place, Now::File(id)) {
            self.area()?.remove(number);
            return Err(error);
        }
        let content = Content::Staged { number, bytes: 0 };
        self.files.insert(
            id,
            OpenFile {
                content,
                handle: Some(Handle::Staged(handle)),
                is_writable: true,
                uses: 1,
                place: Some(place.to_vec()),
            },
        );
        Ok(id)
    }

    fn open_staged(&mut self, id: FileId, truncate: bool) -> Result<Opened, ErrorCode> {
        self.retain(id)?;
        if truncate {
            self.resize(id, 0).inspect_err(|_| self.release(id))?;
        }
        Ok(Opened::File(id))
    }

    fn open_base(&mut self, place: &[String], how: How) -> Result<Opened, ErrorCode> {
        let is_change = how.create || how.truncate || how.write;
        if is_change {
            self.reach(place)?;
        }
        let id = self.use_base(place, is_change)?;
        if how.truncate {
            self.stage(id, 0).inspect_err(|_| self.release(id))?;
        }
        Ok(Opened::File(id))
    }

    /// Opens a file of the mount, or uses it once more.
    pub(super) fn use_base(&mut self, place: &[String], is_write: bool) -> Result<FileId, ErrorCode> {
        let handle = Handle::Base(self.view.open(place, is_write).map_err(code)?);
        if let Some(id) = self.opened.get(place).copied()
            && let Some(file) = self.files.get_mut(&id)
        {
            file.uses += 1;
            // It may be open for reading only.
            file.handle = Some(handle);
            file.is_writable |= is_write;
            return Ok(id);
        }
        let id = FileId(self.id());
        let file = OpenFile {
            content: Content::Base,
            handle: Some(handle),
            is_writable: is_write,
            uses: 1,
            place: Some(place.to_vec()),
        };
        self.files.insert(id, file);
        self.opened.insert(place.to_vec(), id);
        Ok(id)
    }

    /// Checks that a change at `place` could be renamed into the mount.
    pub(super) fn reach(&self, place: &[String]) -> Result<(), ErrorCode> {
        let Some((_, parent)) = place.split_last() else { return Err(ErrorCode::NotPermitted) };
        if self.changes.contains_key(parent) || self.is_covered(parent) {
            return Ok(());
        }
        self.view.changeable(parent).map_err(code)
    }

    /// Uses an open or staged file once more.
    pub(in crate::sandbox) fn retain(&mut self, id: FileId) -> Result<(), ErrorCode> {
        let file = self.files.get_mut(&id).ok_or(ErrorCode::BadDescriptor)?;
        if let (None, Content::Staged { number, .. }, Some(area)) = (&file.handle, file.content, &self.area) {
            file.handle = Some(Handle::Staged(area.open(number).map_err(code)?));
        }
        file.uses += 1;
        Ok(())
    }

    /// Ends one use of a file; with the last one it is closed.
    pub(in crate::sandbox) fn release(&mut self, id: FileId) {
        let Some(file) = self.files.get_mut(&id) else { return };
        file.uses = file.uses.saturating_sub(1);
        if file.uses > 0 {
            return;
        }
        file.handle = None;
        match (&file.place, file.content) {
            (Some(_), Content::Staged { .. }) => {}
            (Some(place), Content::Base) => {
                self.opened.remove(place);
                self.files.remove(&id);
            }
            (None, _) => self.forget(id),
        }
    }

    /// Takes a file from its place. Who has it open may go on with it.
    pub(super) fn detach(&mut self, id: FileId) {
        let Some(file) = self.files.get_mut(&id) else { return };
        file.place = None;
        if file.uses == 0 {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: FileId) {
        if let (Some(OpenFile { content: Content::Staged { number, bytes }, .. }), Some(area)) =
            (self.files.remove(&id), &self.area)
        {
            area.remove(number);
            self.quota.give_bytes(bytes);
        }
    }

    pub(in crate::sandbox) fn close_dir(&mut self, id: DirId) {
        self.dirs.remove(&id);
    }

    fn handle(&self, id: FileId) -> Result<&Handle, ErrorCode> {
        self.files.get(&id).and_then(|file| file.handle.as_ref()).ok_or(ErrorCode::BadDescriptor)
    }

    /// A staged file that is open, and its length.
    fn staged_file(&self, id: FileId) -> Result<(&File, u64), ErrorCode> {
        match (self.handle(id)?, self.files.get(&id).map(|file| file.content)) {
            (Handle::Staged(file), Some(Content::Staged { bytes, .. })) => Ok((file, bytes)),
            _ => Err(ErrorCode::BadDescriptor),
        }
    }

    /// Reads up to `bytes_max` bytes from `offset`; none at the end of the file.
    pub(in crate::sandbox) fn read(&self, id: FileId, bytes_max: usize, offset: u64) -> Result<Vec<u8>, ErrorCode> {
        match self.handle(id)? {
            Handle::Base(file) => self.view.read(file, bytes_max, offset).map_err(code),
            Handle::Staged(file) => {
                let mut buffer = vec![0; bytes_max];
                let read = file.read_at(&mut buffer, offset).map_err(|e| io_code(&e))?;
                buffer.truncate(read);
                Ok(buffer)
            }
        }
    }

    /// Writes all of `bytes` at `offset`, or at the end where there is none. Returns where they end.
    ///
    /// # Errors
    /// `quota` where the file would grow past it; nothing is written then.
    pub(in crate::sandbox) fn write(
        &mut self,
        id: FileId,
        bytes: &[u8],
        offset: Option<u64>,
    ) -> Result<u64, ErrorCode> {
        if bytes.is_empty() {
            return Ok(offset.unwrap_or_default());
        }
        self.stage(id, u64::MAX)?;
        let (_, size) = self.staged_file(id)?;
        let start = offset.unwrap_or(size);
        let end = start.checked_add(units(bytes.len())).ok_or(ErrorCode::FileTooLarge)?;
        let grown = end.saturating_sub(size);
        self.quota.take_bytes(grown)?;
        let written =
            self.staged_file(id).and_then(|(file, _)| file.write_all_at(bytes, start).map_err(|e| io_code(&e)));
        // A write that failed may have made the file longer.
        let now =
            if written.is_ok() { size.max(end) } else { self.staged_file(id)?.0.metadata().map_or(end, |m| m.len()) };
        self.quota.give_bytes(size.max(end).saturating_sub(now.max(size)));
        self.sized(id, now.max(size));
        written.map(|()| end)
    }

    /// Sets the length of a file.
    pub(in crate::sandbox) fn resize(&mut self, id: FileId, size: u64) -> Result<(), ErrorCode> {
        self.stage(id, size)?;
        let (file, bytes) = self.staged_file(id)?;
        self.quota.take_bytes(size.saturating_sub(bytes))?;
        if let Err(error) = file.set_len(size) {
            self.quota.give_bytes(size.saturating_sub(bytes));
            return Err(io_code(&error));
        }
        self.quota.give_bytes(bytes.saturating_sub(size));
        self.sized(id, size);
        Ok(())
    }

    fn sized(&mut self, id: FileId, size: u64) {
        if let Some(OpenFile { content: Content::Staged { bytes, .. }, .. }) = self.files.get_mut(&id) {
            *bytes = size;
        }
    }

    /// Copies a file of the mount to the staging area, at most its first `bytes_max` bytes; all who have it open use the
    /// copy from then on.
    pub(super) fn stage(&mut self, id: FileId, bytes_max: u64) -> Result<(), ErrorCode> {
        let Handle::Base(_) = self.handle(id)? else { return Ok(()) };
        if self.files.get(&id).is_some_and(|file| file.place.is_some()) {
            // Or a guest could have us copy again and again what it then has no room for.
            self.quota.check_one_more()?;
        }
        self.check_writable(id)?;
        let Handle::Base(source) = self.handle(id)? else { return Ok(()) };
        let found = self.view.stat_file(source).map_err(code)?;
        let bytes = found.bytes.min(bytes_max);
        self.quota.take_bytes(bytes)?;
        let staged = self.area().and_then(|area| area.create().map_err(code)).and_then(|(number, mut copy)| {
            let copied = self.copied(id, &mut copy, bytes).and_then(|()| handed_on(&copy, &found));
            copied.and_then(|()| self.staged_at(id)).inspect_err(|_| self.discard(number)).map(|()| (number, copy))
        });
        let (number, copy) = staged.inspect_err(|_| self.quota.give_bytes(bytes))?;
        if let Some(file) = self.files.get_mut(&id) {
            file.content = Content::Staged { number, bytes };
            file.handle = Some(Handle::Staged(copy));
        }
        Ok(())
    }

    /// Copies the first `bytes` of a file of the mount, as long as the call has time.
    fn copied(&self, id: FileId, copy: &mut File, bytes: u64) -> Result<(), ErrorCode> {
        let Handle::Base(source) = self.handle(id)? else { return Err(ErrorCode::BadDescriptor) };
        if self.view.is_watched() {
            return copied_by_looks((&self.view, source), copy, bytes, &self.quota);
        }
        copied(self.view.file(source).map_err(code)?, copy, bytes, &self.quota)
    }

    /// Checks that a file which was opened for reading may be written: a commit that finds out is too late.
    fn check_writable(&self, id: FileId) -> Result<(), ErrorCode> {
        let Some(OpenFile { is_writable: false, place: Some(place), .. }) = self.files.get(&id) else { return Ok(()) };
        self.reach(place)?;
        match self.view.open(place, true) {
            // Somebody else removed it: it is made again.
            Ok(_) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(code(error)),
        }
    }

    /// Notes that a file stands changed at its place, if it still has one.
    fn staged_at(&mut self, id: FileId) -> Result<(), ErrorCode> {
        let Some(place) = self.files.get(&id).and_then(|file| file.place.clone()) else { return Ok(()) };
        self.set(&place, Now::File(id))?;
        self.opened.remove(&place);
        Ok(())
    }

    fn discard(&mut self, number: u64) {
        if let Some(area) = &self.area {
            area.remove(number);
        }
    }

    /// Sets the times of a file.
    pub(in crate::sandbox) fn set_times(
        &mut self,
        id: FileId,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> Result<(), ErrorCode> {
        self.stage(id, u64::MAX)?;
        let times = Timestamps { last_access: timespec(accessed)?, last_modification: timespec(modified)? };
        futimens(self.staged_file(id)?.0, &times).map_err(code)
    }

    /// Sets the times of what is at `path`: a file, and no other thing.
    pub(in crate::sandbox) fn set_times_at(
        &mut self,
        dir: DirId,
        path: &str,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> Result<(), ErrorCode> {
        match self.open(dir, path, How { write: true, ..How::default() }) {
            Ok(Opened::File(id)) => {
                let set = self.set_times(id, accessed, modified);
                self.release(id);
                set
            }
            Ok(Opened::Dir(id)) => {
                self.close_dir(id);
                Err(ErrorCode::Unsupported)
            }
            // Times of directories are the mount's own.
            Err(ErrorCode::IsDirectory) => Err(ErrorCode::Unsupported),
            Err(error) => Err(error),
        }
    }

    /// Returns what is known of an open file, and what tells it from others.
    pub(in crate::sandbox) fn stat(&self, id: FileId) -> Result<(DescriptorStat, Identity), ErrorCode> {
        match self.handle(id)? {
            Handle::Base(file) => {
                let found = self.view.stat_file(file).map_err(code)?;
                Ok((told(&found), identity(&found)))
            }
            Handle::Staged(file) => self.stat_staged(id, file),
        }
    }

    fn stat_staged(&self, id: FileId, file: &File) -> Result<(DescriptorStat, Identity), ErrorCode> {
        let place = self.files.get(&id).and_then(|file| file.place.as_deref()).unwrap_or_default();
        let found = self.view.stat_staged(place, file).map_err(code)?;
        Ok((told(&found), Identity::Staged(id)))
    }

    pub(in crate::sandbox) fn stat_dir(&self, id: DirId) -> Result<(DescriptorStat, Identity), ErrorCode> {
        let place = self.place_of(id)?;
        self.stat_place(place)
    }

    /// Returns what is known of what is at `path`.
    pub(in crate::sandbox) fn stat_at(
        &self,
        dir: DirId,
        path: &str,
        follow: bool,
    ) -> Result<(DescriptorStat, Identity), ErrorCode> {
        let Resolved { place, is_dir } = self.resolve(dir, path, Use::Look { follow })?;
        let (stat, identity) = self.stat_place(&place)?;
        if is_dir && stat.type_ != DescriptorType::Directory {
            return Err(ErrorCode::NotDirectory);
        }
        Ok((stat, identity))
    }

    fn stat_place(&self, place: &[String]) -> Result<(DescriptorStat, Identity), ErrorCode> {
        match self.look(place)? {
            Seen::Nothing => Err(ErrorCode::NoEntry),
            Seen::Base(found) => Ok((told(&found), identity(&found))),
            Seen::Staged(id) => match (self.stat(id), self.files.get(&id).map(|file| file.content), &self.area) {
                // Not open at present.
                (Err(_), Some(Content::Staged { number, .. }), Some(area)) => {
                    self.stat_staged(id, &area.open(number).map_err(code)?)
                }
                (stat, ..) => stat,
            },
            Seen::Made => Ok((made(), Identity::Made(place.to_vec()))),
        }
    }

    /// Returns the target of the link at `path`.
    pub(in crate::sandbox) fn read_link(&self, dir: DirId, path: &str) -> Result<String, ErrorCode> {
        let Resolved { place, .. } = self.resolve(dir, path, Use::Look { follow: false })?;
        let target = match self.look(&place)? {
            Seen::Nothing => return Err(ErrorCode::NoEntry),
            Seen::Base(found) if found.kind() == FileType::Symlink => self.view.link(&place).map_err(code)?,
            _ => return Err(ErrorCode::Invalid),
        };
        // It would name a directory of this machine.
        if target.starts_with('/') { Err(ErrorCode::NotPermitted) } else { Ok(target) }
    }
}

/// What tells one file from others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::sandbox) enum Identity {
    /// Device and inode.
    Inode(u64, u64),
    /// The call's own: the copy of a file, when the call runs again, is another file of this machine.
    Staged(FileId),
    Made(Vec<String>),
}

fn identity(found: &Attributes) -> Identity {
    Identity::Inode(found.device, found.inode)
}

/// A directory that the call made has no times yet.
fn made() -> DescriptorStat {
    DescriptorStat {
        type_: DescriptorType::Directory,
        link_count: 1,
        size: 0,
        data_access_timestamp: None,
        data_modification_timestamp: None,
        status_change_timestamp: None,
    }
}

fn told(found: &Attributes) -> DescriptorStat {
    DescriptorStat {
        type_: descriptor_type(found.kind()),
        link_count: found.links,
        size: found.bytes,
        data_access_timestamp: datetime(found.accessed()),
        data_modification_timestamp: datetime(found.modified()),
        status_change_timestamp: None,
    }
}

pub(super) fn descriptor_type(kind: FileType) -> DescriptorType {
    match kind {
        FileType::Directory => DescriptorType::Directory,
        FileType::RegularFile => DescriptorType::RegularFile,
        FileType::Symlink => DescriptorType::SymbolicLink,
        FileType::BlockDevice => DescriptorType::BlockDevice,
        FileType::CharacterDevice => DescriptorType::CharacterDevice,
        FileType::Fifo => DescriptorType::Fifo,
        FileType::Socket => DescriptorType::Socket,
        FileType::Unknown => DescriptorType::Unknown,
    }
}

fn datetime(time: Timespec) -> Option<Datetime> {
    Some(Datetime { seconds: u64::try_from(time.tv_sec).ok()?, nanoseconds: u32::try_from(time.tv_nsec).ok()? })
}

fn timespec(time: NewTimestamp) -> Result<Timespec, ErrorCode> {
    Ok(match time {
        NewTimestamp::NoChange => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        NewTimestamp::Now => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
        NewTimestamp::Timestamp(at) if at.nanoseconds < 1_000_000_000 => Timespec {
            tv_sec: i64::try_from(at.seconds).map_err(|_| ErrorCode::Overflow)?,
            tv_nsec: i64::from(at.nanoseconds),
        },
        NewTimestamp::Timestamp(_) => return Err(ErrorCode::Invalid),
    })
}

pub(super) fn units(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
