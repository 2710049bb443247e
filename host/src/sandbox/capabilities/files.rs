//! Files: the host's side of `wasi:filesystem`.
//!
//! Mounts that may only be read go to wasmtime-wasi, which keeps a guest inside them and from writing. Mounts that may be
//! written are overlays (`sandbox/overlay/`): what a call writes there is its own until it has succeeded. Here both become
//! one: a descriptor is either wasmtime-wasi's or a [`Handle`], and the table of the call tells which. Added to both: what
//! was refused is noted; only regular files and directories open, so that no FIFO or device can hang or flood a call; and
//! directories are listed page by page.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, MutexGuard, PoisonError};

use wasmtime::component::{HasData, Resource};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtxView, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::filesystem::preopens;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, DirectoryEntryStream, ErrorCode, Filesize,
    Host, HostDescriptor, HostDirectoryEntryStream, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{FsError, FsResult};
use wasmtime_wasi_io::streams::{DynInputStream, DynOutputStream};

use crate::sandbox::capabilities::file_streams::{Held, Reader, Writer};
use crate::sandbox::open_files::Hold;
use crate::sandbox::overlay::{self, DirId, Entry, FileId, How, Identity, Listing, Opened, Overlay, Shared};
use crate::sandbox::seen::Seen;
use crate::sandbox::state::GuestState;

/// Bytes that one read returns at most: more takes more reads.
pub(in crate::sandbox) const READ_BYTES_MAX: usize = 64 << 10;

/// Entries of a directory that are read at a time.
const PAGE_ENTRIES: usize = 256;

/// Binds the wrapper to the guest's state.
pub(in crate::sandbox) struct HasFiles;

impl HasData for HasFiles {
    type Data<'a> = Files<'a>;
}

/// The files of one guest.
pub(in crate::sandbox) struct Files<'a>(pub(in crate::sandbox) &'a mut GuestState);

/// A descriptor of an overlay. It stands in the table where wasmtime-wasi's would: what is not ours finds no descriptor
/// there, and ends the call.
#[derive(Clone)]
struct Handle {
    overlay: Shared,
    opened: Opened,
    flags: DescriptorFlags,
    /// `None` for a mount itself.
    hold: Option<Hold>,
}

impl Handle {
    fn dir(&self) -> Result<DirId, ErrorCode> {
        match self.opened {
            Opened::Dir(dir) => Ok(dir),
            Opened::File(_) => Err(ErrorCode::NotDirectory),
        }
    }

    fn file(&self) -> Result<FileId, ErrorCode> {
        match self.opened {
            Opened::File(file) => Ok(file),
            Opened::Dir(_) => Err(ErrorCode::BadDescriptor),
        }
    }

    fn writable(&self) -> Result<FileId, ErrorCode> {
        let file = self.file()?;
        if self.flags.contains(DescriptorFlags::WRITE) { Ok(file) } else { Err(ErrorCode::BadDescriptor) }
    }

    fn readable(&self) -> Result<FileId, ErrorCode> {
        if matches!(self.opened, Opened::Dir(_)) {
            return Err(ErrorCode::IsDirectory);
        }
        if self.flags.contains(DescriptorFlags::READ) { self.file() } else { Err(ErrorCode::BadDescriptor) }
    }

    /// Does `work` on the overlay, which may wait for the disk: other guests go on.
    fn with<T>(&self, work: impl FnOnce(&mut Overlay) -> Result<T, ErrorCode>) -> FsResult<T> {
        Ok(tokio::task::block_in_place(|| work(&mut lock(&self.overlay)))?)
    }
}

/// Nobody holds it across a wait, and one call does one thing at a time.
pub(in crate::sandbox) fn lock(overlay: &Shared) -> MutexGuard<'_, Overlay> {
    overlay.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A directory that a guest lists.
struct Pages {
    listing: Listing,
    page: VecDeque<Entry>,
    /// Watches where the directory may only be read.
    seen: Seen,
    _hold: Hold,
}

impl Pages {
    fn next(&mut self) -> Result<Option<DirectoryEntry>, ErrorCode> {
        if self.page.is_empty() {
            self.page = tokio::task::block_in_place(|| self.listing.page(PAGE_ENTRIES))?.into();
            let entries = self.page.iter().flatten().map(|entry| format!("{:?} {}", entry.type_, entry.name));
            if self.seen.is_watching() {
                self.seen.note("list", b"", entries.collect::<Vec<_>>().join("\n").as_bytes());
            }
        }
        self.page.pop_front().transpose()
    }
}

/// What an operation at a path does where the descriptor is wasmtime-wasi's.
macro_rules! or_wasi {
    ($self:ident, $fd:ident, |$handle:ident| $ours:expr, |$wasi:ident| $theirs:expr) => {
        match $self.handle(&$fd) {
            Some($handle) => $ours,
            None => {
                #[allow(unused_mut, reason = "some calls borrow it mutably")]
                let mut $wasi = $self.wasi();
                $theirs
            }
        }
    };
}

impl Files<'_> {
    fn wasi(&mut self) -> WasiFilesystemCtxView<'_> {
        self.0.filesystem()
    }

    /// The descriptor, where it is one of an overlay.
    fn handle(&self, fd: &Resource<Descriptor>) -> Option<Handle> {
        self.0.table.get(&Resource::<Handle>::new_borrow(fd.rep())).ok().cloned()
    }

    fn push(&mut self, handle: Handle) -> FsResult<Resource<Descriptor>> {
        match self.0.table.push(handle.clone()) {
            Ok(handle) => Ok(Resource::new_own(handle.rep())),
            Err(full) => {
                close(&handle);
                Err(full.into())
            }
        }
    }

    /// Notes a refusal in the receipt.
    fn noted<T>(&mut self, what: &str, path: &str, result: FsResult<T>) -> FsResult<T> {
        let Err(error) = result else { return result };
        if let Some(code) = error.downcast_ref().and_then(|code| denial(*code)) {
            self.0.deny(code, &format!("{what} {path}"));
        }
        Err(error)
    }

    /// A place for one more open file or listing.
    fn hold(&mut self, what: &str, taken: Option<Hold>) -> FsResult<Hold> {
        taken.ok_or_else(|| {
            self.0.deny("limit.handles", what);
            ErrorCode::Quota.into()
        })
    }

    /// Whether what stands at `path` may be opened: absent, a regular file or a directory. Anything else could hang.
    async fn check_kind(&mut self, dir: &Resource<Descriptor>, flags: PathFlags, path: &str) -> FsResult<()> {
        let stat = self.wasi().stat_at(Resource::new_borrow(dir.rep()), flags, path.to_owned()).await;
        match stat.map(|stat| stat.type_) {
            Err(_) | Ok(DescriptorType::RegularFile | DescriptorType::Directory | DescriptorType::SymbolicLink) => {
                Ok(())
            }
            Ok(_) => Err(ErrorCode::NotPermitted.into()),
        }
    }

    async fn open(
        &mut self,
        dir: Resource<Descriptor>,
        at: PathFlags,
        path: String,
        how: OpenFlags,
        flags: DescriptorFlags,
        hold: Hold,
    ) -> FsResult<Resource<Descriptor>> {
        // What is opened below a directory takes a place of its own.
        match self.handle(&dir) {
            Some(handle) => self.open_staged(&Handle { hold: Some(hold), ..handle }, at, &path, how, flags),
            None => {
                let opened = self.open_read(dir, at, path.clone(), how, flags).await;
                let brought = opened.as_ref().map_or_else(|error| told(error.downcast_ref()), |_| "ok".to_owned());
                self.0.seen.note("open", path.as_bytes(), brought.as_bytes());
                let fd = opened?;
                self.0.open_files.opened(fd.rep(), hold);
                Ok(fd)
            }
        }
    }

    fn open_staged(
        &mut self,
        dir: &Handle,
        at: PathFlags,
        path: &str,
        how: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let sync = DescriptorFlags::FILE_INTEGRITY_SYNC
            | DescriptorFlags::DATA_INTEGRITY_SYNC
            | DescriptorFlags::REQUESTED_WRITE_SYNC;
        if flags.intersects(sync) {
            return Err(ErrorCode::Unsupported.into());
        }
        let how = How {
            follow: at.contains(PathFlags::SYMLINK_FOLLOW),
            create: how.contains(OpenFlags::CREATE),
            exclusive: how.contains(OpenFlags::EXCLUSIVE),
            truncate: how.contains(OpenFlags::TRUNCATE),
            directory: how.contains(OpenFlags::DIRECTORY),
            write: flags.contains(DescriptorFlags::WRITE),
        };
        let id = dir.dir()?;
        let opened = dir.with(|overlay| overlay.open(id, path, how))?;
        let flags = match opened {
            Opened::Dir(_) => DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY,
            Opened::File(_) => flags & (DescriptorFlags::READ | DescriptorFlags::WRITE),
        };
        self.push(Handle { opened, flags, ..dir.clone() })
    }

    /// Opens something in a mount that may only be read.
    async fn open_read(
        &mut self,
        dir: Resource<Descriptor>,
        at: PathFlags,
        path: String,
        how: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        readable(&path)?;
        self.check_kind(&dir, at, &path).await?;
        let fd = self.wasi().open_at(dir, at, path, how, flags).await?;
        let is_of_kernel = match self.0.table.get(&fd)? {
            Descriptor::File(file) => overlay::is_of_kernel(&file.file),
            Descriptor::Dir(_) => false,
        };
        if is_of_kernel {
            self.0.table.delete(fd)?;
            return Err(ErrorCode::NotPermitted.into());
        }
        Ok(fd)
    }

    /// Notes what a file that may only be read looks like. Times of access change by looking.
    fn saw_stat(&self, about: &str, result: &FsResult<DescriptorStat>) {
        if self.0.seen.is_watching() {
            let brought = match result {
                Ok(stat) => format!("{:?} {} {:?}", stat.type_, stat.size, stat.data_modification_timestamp),
                Err(error) => told(error.downcast_ref()),
            };
            self.0.seen.note("stat", about.as_bytes(), brought.as_bytes());
        }
    }

    fn push_listing(&mut self, listing: Listing, hold: Hold, seen: Seen) -> FsResult<Resource<DirectoryEntryStream>> {
        let pages = self.0.table.push(Pages { listing, page: VecDeque::new(), seen, _hold: hold })?;
        Ok(Resource::new_own(pages.rep()))
    }
}

/// An error as it is watched.
fn told(code: Option<&ErrorCode>) -> String {
    format!("{code:?}")
}

/// The short code under which a refusal stands in the receipt.
pub(in crate::sandbox) fn denial(code: ErrorCode) -> Option<&'static str> {
    match code {
        ErrorCode::NotPermitted | ErrorCode::ReadOnly | ErrorCode::Access => Some("denied.fs"),
        ErrorCode::Quota | ErrorCode::InsufficientSpace => Some("limit.fs"),
        ErrorCode::NameTooLong | ErrorCode::IllegalByteSequence => Some("invalid.path"),
        _ => None,
    }
}

/// Checks a path for a mount that may only be read: our own directory in it is not there.
fn readable(path: &str) -> Result<(), ErrorCode> {
    overlay::check(path)?;
    if path.split('/').any(overlay::is_reserved) { Err(ErrorCode::NoEntry) } else { Ok(()) }
}

fn close(handle: &Handle) {
    match handle.opened {
        Opened::File(file) => lock(&handle.overlay).release(file),
        Opened::Dir(dir) => lock(&handle.overlay).close_dir(dir),
    }
}

fn hash(identity: &Identity) -> MetadataHashValue {
    let hashed = |half: u8| {
        let mut hasher = DefaultHasher::new();
        (half, identity).hash(&mut hasher);
        hasher.finish()
    };
    MetadataHashValue { lower: hashed(0), upper: hashed(1) }
}

impl preopens::Host for Files<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let mut directories = preopens::Host::get_directories(&mut self.wasi())?;
        for overlay in self.0.files.clone() {
            let (dir, guest) = {
                let mut overlay = lock(&overlay);
                (overlay.open_root(), overlay.guest().to_owned())
            };
            let flags = DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY;
            let handle = self.0.table.push(Handle { overlay, opened: Opened::Dir(dir), flags, hold: None })?;
            directories.push((Resource::new_own(handle.rep()), guest));
        }
        Ok(directories)
    }
}

impl Host for Files<'_> {
    fn convert_error_code(&mut self, err: FsError) -> wasmtime::Result<ErrorCode> {
        self.wasi().convert_error_code(err)
    }

    fn filesystem_error_code(&mut self, err: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        match self.0.table.get(&err)?.downcast_ref::<ErrorCode>() {
            Some(code) => Ok(Some(*code)),
            None => self.wasi().filesystem_error_code(err),
        }
    }
}

impl HostDescriptor for Files<'_> {
    async fn open_at(
        &mut self,
        fd: Resource<Descriptor>,
        at: PathFlags,
        path: String,
        how: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let hold = self.hold(&format!("open {path}"), self.0.open_files.file())?;
        let result = self.open(fd, at, path.clone(), how, flags, hold).await;
        self.noted("open", &path, result)
    }

    async fn create_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        let result =
            or_wasi!(self, fd, |handle| handle.with(|overlay| overlay.make_dir(handle.dir()?, &path)), |wasi| wasi
                .create_directory_at(fd, path.clone())
                .await);
        self.noted("create directory", &path, result)
    }

    async fn remove_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        let result =
            or_wasi!(self, fd, |handle| handle.with(|overlay| overlay.remove_dir(handle.dir()?, &path)), |wasi| wasi
                .remove_directory_at(fd, path.clone())
                .await);
        self.noted("remove directory", &path, result)
    }

    async fn unlink_file_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        let result =
            or_wasi!(self, fd, |handle| handle.with(|overlay| overlay.unlink(handle.dir()?, &path)), |wasi| wasi
                .unlink_file_at(fd, path.clone())
                .await);
        self.noted("remove", &path, result)
    }

    async fn rename_at(
        &mut self,
        fd: Resource<Descriptor>,
        old: String,
        new_fd: Resource<Descriptor>,
        new: String,
    ) -> FsResult<()> {
        let result = match (self.handle(&fd), self.handle(&new_fd)) {
            (Some(from), Some(to)) if Arc::ptr_eq(&from.overlay, &to.overlay) => {
                from.with(|overlay| overlay.rename(from.dir()?, &old, to.dir()?, &new))
            }
            // Two mounts are two file systems.
            (Some(_), Some(_)) => Err(ErrorCode::CrossDevice.into()),
            (None, None) => self.wasi().rename_at(fd, old.clone(), new_fd, new).await,
            _ => Err(ErrorCode::NotPermitted.into()),
        };
        self.noted("rename", &old, result)
    }

    async fn link_at(
        &mut self,
        _: Resource<Descriptor>,
        _: PathFlags,
        old: String,
        _: Resource<Descriptor>,
        _: String,
    ) -> FsResult<()> {
        // A second name for a file could outlive the grant: never given.
        self.noted("link", &old, Err(ErrorCode::NotPermitted.into()))
    }

    async fn symlink_at(&mut self, _: Resource<Descriptor>, _: String, new: String) -> FsResult<()> {
        // A link that the next tool follows would speak for its maker: never given.
        self.noted("make symbolic link", &new, Err(ErrorCode::NotPermitted.into()))
    }

    async fn set_times_at(
        &mut self,
        fd: Resource<Descriptor>,
        at: PathFlags,
        path: String,
        atim: NewTimestamp,
        mtim: NewTimestamp,
    ) -> FsResult<()> {
        let result = or_wasi!(
            self,
            fd,
            |handle| handle.with(|overlay| overlay.set_times_at(handle.dir()?, &path, atim, mtim)),
            |wasi| wasi.set_times_at(fd, at, path.clone(), atim, mtim).await
        );
        self.noted("set times", &path, result)
    }

    async fn stat_at(&mut self, fd: Resource<Descriptor>, at: PathFlags, path: String) -> FsResult<DescriptorStat> {
        let follow = at.contains(PathFlags::SYMLINK_FOLLOW);
        let result = or_wasi!(
            self,
            fd,
            |handle| handle.with(|overlay| overlay.stat_at(handle.dir()?, &path, follow).map(|(stat, _)| stat)),
            |wasi| {
                let result = match readable(&path) {
                    Ok(()) => wasi.stat_at(fd, at, path.clone()).await,
                    Err(code) => Err(code.into()),
                };
                self.saw_stat(&path, &result);
                result
            }
        );
        self.noted("look at", &path, result)
    }

    async fn readlink_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<String> {
        let result =
            or_wasi!(self, fd, |handle| handle.with(|overlay| overlay.read_link(handle.dir()?, &path)), |wasi| wasi
                .readlink_at(fd, path.clone())
                .await);
        self.noted("read link", &path, result)
    }

    async fn metadata_hash_at(
        &mut self,
        fd: Resource<Descriptor>,
        at: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        let follow = at.contains(PathFlags::SYMLINK_FOLLOW);
        let result = or_wasi!(
            self,
            fd,
            |handle| handle.with(|overlay| Ok(hash(&overlay.stat_at(handle.dir()?, &path, follow)?.1))),
            |wasi| match readable(&path) {
                Ok(()) => wasi.metadata_hash_at(fd, at, path.clone()).await,
                Err(code) => Err(code.into()),
            }
        );
        self.noted("look at", &path, result)
    }

    async fn set_size(&mut self, fd: Resource<Descriptor>, size: Filesize) -> FsResult<()> {
        let result =
            or_wasi!(self, fd, |handle| handle.with(|overlay| overlay.resize(handle.writable()?, size)), |wasi| wasi
                .set_size(fd, size)
                .await);
        self.noted("set size", "an open file", result)
    }

    async fn set_times(&mut self, fd: Resource<Descriptor>, atim: NewTimestamp, mtim: NewTimestamp) -> FsResult<()> {
        let result = or_wasi!(
            self,
            fd,
            |handle| match handle.opened {
                Opened::File(file) => handle.with(|overlay| overlay.set_times(file, atim, mtim)),
                // Times of directories are the mount's own.
                Opened::Dir(_) => Err(ErrorCode::Unsupported.into()),
            },
            |wasi| wasi.set_times(fd, atim, mtim).await
        );
        self.noted("set times", "an open file", result)
    }

    async fn write(&mut self, fd: Resource<Descriptor>, buffer: Vec<u8>, offset: Filesize) -> FsResult<Filesize> {
        let bytes = Filesize::try_from(buffer.len()).unwrap_or(Filesize::MAX);
        let result = or_wasi!(
            self,
            fd,
            |handle| handle.with(|overlay| overlay.write(handle.writable()?, &buffer, Some(offset)).map(|_| bytes)),
            |wasi| wasi.write(fd, buffer, offset).await
        );
        self.noted("write", "an open file", result)
    }

    async fn read(&mut self, fd: Resource<Descriptor>, len: Filesize, offset: Filesize) -> FsResult<(Vec<u8>, bool)> {
        or_wasi!(
            self,
            fd,
            |handle| {
                let bytes_max = usize::try_from(len).unwrap_or(usize::MAX).min(READ_BYTES_MAX);
                let bytes = handle.with(|overlay| overlay.read(handle.readable()?, bytes_max, offset))?;
                let is_end = bytes.is_empty();
                Ok((bytes, is_end))
            },
            |wasi| {
                let result = wasi.read(fd, len, offset).await;
                match &result {
                    Ok((bytes, _)) => self.0.seen.note("read", &offset.to_le_bytes(), bytes),
                    Err(error) => self.0.seen.note("read", b"", told(error.downcast_ref()).as_bytes()),
                }
                result
            }
        )
    }

    async fn advise(
        &mut self,
        fd: Resource<Descriptor>,
        offset: Filesize,
        len: Filesize,
        advice: Advice,
    ) -> FsResult<()> {
        or_wasi!(self, fd, |handle| Ok(handle.file().map(drop)?), |wasi| wasi.advise(fd, offset, len, advice).await)
    }

    async fn sync_data(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        // What is staged comes to disk when it is committed: a crash before that is to leave nothing.
        or_wasi!(self, fd, |_handle| Ok(()), |wasi| wasi.sync_data(fd).await)
    }

    async fn sync(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        or_wasi!(self, fd, |_handle| Ok(()), |wasi| wasi.sync(fd).await)
    }

    async fn get_flags(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorFlags> {
        or_wasi!(self, fd, |handle| Ok(handle.flags), |wasi| wasi.get_flags(fd).await)
    }

    async fn get_type(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorType> {
        or_wasi!(
            self,
            fd,
            |handle| Ok(match handle.opened {
                Opened::File(_) => DescriptorType::RegularFile,
                Opened::Dir(_) => DescriptorType::Directory,
            }),
            |wasi| wasi.get_type(fd).await
        )
    }

    async fn read_directory(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<DirectoryEntryStream>> {
        let hold = self.hold("list an open directory", self.0.open_files.listing())?;
        let handle = self.handle(&fd);
        let seen = if handle.is_some() { Seen::default() } else { self.0.seen.clone() };
        let listing = match handle {
            Some(handle) => handle.with(|overlay| overlay.list(handle.dir()?))?,
            None => match self.0.table.get(&fd)? {
                Descriptor::Dir(dir) => tokio::task::block_in_place(|| Listing::of(&dir.dir))?,
                Descriptor::File(_) => return Err(ErrorCode::NotDirectory.into()),
            },
        };
        self.push_listing(listing, hold, seen)
    }

    async fn stat(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorStat> {
        or_wasi!(self, fd, |handle| handle.with(|overlay| stat(overlay, handle.opened).map(|(stat, _)| stat)), |wasi| {
            let result = wasi.stat(fd).await;
            self.saw_stat("", &result);
            result
        })
    }

    async fn is_same_object(&mut self, a: Resource<Descriptor>, b: Resource<Descriptor>) -> wasmtime::Result<bool> {
        match (self.handle(&a), self.handle(&b)) {
            (Some(a), Some(b)) => {
                let [a, b] =
                    [a, b].map(|handle| stat(&lock(&handle.overlay), handle.opened).map(|(_, identity)| identity));
                Ok(a.is_ok_and(|a| b.is_ok_and(|b| a == b)))
            }
            (None, None) => self.wasi().is_same_object(a, b).await,
            _ => Ok(false),
        }
    }

    async fn metadata_hash(&mut self, fd: Resource<Descriptor>) -> FsResult<MetadataHashValue> {
        or_wasi!(self, fd, |handle| handle.with(|overlay| Ok(hash(&stat(overlay, handle.opened)?.1))), |wasi| wasi
            .metadata_hash(fd)
            .await)
    }

    fn read_via_stream(&mut self, fd: Resource<Descriptor>, offset: Filesize) -> FsResult<Resource<DynInputStream>> {
        let Some(handle) = self.handle(&fd) else { return self.read_stream(&fd, offset) };
        let file = handle.readable()?;
        let reader: DynInputStream =
            Box::new(Held::new(Box::new(Reader::new(handle.overlay, file, offset)?), handle.hold));
        Ok(self.0.table.push(reader)?)
    }

    fn write_via_stream(&mut self, fd: Resource<Descriptor>, offset: Filesize) -> FsResult<Resource<DynOutputStream>> {
        let Some(handle) = self.handle(&fd) else { return self.wasi().write_via_stream(fd, offset) };
        self.push_writer(&handle, Some(offset))
    }

    fn append_via_stream(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<DynOutputStream>> {
        let Some(handle) = self.handle(&fd) else { return self.wasi().append_via_stream(fd) };
        self.push_writer(&handle, None)
    }

    fn drop(&mut self, fd: Resource<Descriptor>) -> wasmtime::Result<()> {
        if self.handle(&fd).is_none() {
            self.0.open_files.closed(fd.rep());
            return HostDescriptor::drop(&mut self.wasi(), fd);
        }
        let handle = self.0.table.delete(Resource::<Handle>::new_own(fd.rep()))?;
        close(&handle);
        Ok(())
    }
}

impl Files<'_> {
    fn push_writer(&mut self, handle: &Handle, position: Option<u64>) -> FsResult<Resource<DynOutputStream>> {
        let writer = Writer::new(handle.overlay.clone(), handle.writable()?, position)?;
        let writer: DynOutputStream = Box::new(Held::new(Box::new(writer), handle.hold.clone()));
        Ok(self.0.table.push(writer)?)
    }

    /// A stream over a file that may only be read: it holds the file open as long as it lasts.
    fn read_stream(&mut self, fd: &Resource<Descriptor>, offset: Filesize) -> FsResult<Resource<DynInputStream>> {
        let stream = self.wasi().read_via_stream(Resource::new_borrow(fd.rep()), offset)?;
        let reader = self.0.table.delete(stream)?;
        let held = Held::new(reader, self.0.open_files.of(fd.rep())).watched(self.0.seen.clone());
        let reader: DynInputStream = Box::new(held);
        Ok(self.0.table.push(reader)?)
    }
}

fn stat(overlay: &Overlay, opened: Opened) -> Result<(DescriptorStat, Identity), ErrorCode> {
    match opened {
        Opened::File(file) => overlay.stat(file),
        Opened::Dir(dir) => overlay.stat_dir(dir),
    }
}

impl HostDirectoryEntryStream for Files<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        Ok(self.0.table.get_mut(&Resource::<Pages>::new_borrow(stream.rep()))?.next()?)
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        self.0.table.delete(Resource::<Pages>::new_own(stream.rep()))?;
        Ok(())
    }
}
