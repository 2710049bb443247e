//! Files: the host's side of `wasi:filesystem`, around wasmtime-wasi's own.
//!
//! wasmtime-wasi keeps a guest inside its mounts and to its access. This wrapper adds three things: the first write of a
//! call is announced before it begins; what was refused is noted; only regular files and directories open, so that no
//! FIFO or device can hang or flood a call.

use wasmtime::component::{HasData, Resource};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtxView, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, DirectoryEntryStream, ErrorCode, Filesize,
    Host, HostDescriptor, HostDirectoryEntryStream, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{FsError, FsResult};
use wasmtime_wasi_io::streams::{DynInputStream, DynOutputStream};

use crate::domain::{Access, Digest, Failure, Kind};
use crate::sandbox::Begin;
use crate::sandbox::state::GuestState;
use crate::sandbox::trap::Ended;

/// Binds the wrapper to the guest's state.
pub(in crate::sandbox) struct HasFiles;

impl HasData for HasFiles {
    type Data<'a> = Files<'a>;
}

/// The files of one guest.
pub(in crate::sandbox) struct Files<'a>(pub(in crate::sandbox) &'a mut GuestState);

impl Files<'_> {
    fn wasi(&mut self) -> WasiFilesystemCtxView<'_> {
        self.0.filesystem()
    }

    /// Announces a write, once per call: after it the call may have changed something.
    async fn before_write(&mut self, path: &str) -> FsResult<()> {
        if self.0.has_written {
            return Ok(());
        }
        let begun = self.0.begin("files.write", Digest::of(path.as_bytes()), true).await;
        match begun {
            Ok((_, Begin::Proceed)) => Ok(()),
            Ok((_, Begin::Answer(_))) => Err(FsError::trap(Ended(Failure::new(
                Kind::HostBug,
                "replay a file write: files are written, not answered",
            )))),
            Err(failure) => Err(FsError::trap(Ended(failure))),
        }
    }

    /// Announces a change through a descriptor: it may have been opened for reading only.
    async fn before_change(&mut self) -> FsResult<()> {
        if self.may_write() { self.before_write("").await } else { Ok(()) }
    }

    /// Notes a refusal in the receipt.
    fn noted<T>(&mut self, what: &str, path: &str, result: FsResult<T>) -> FsResult<T> {
        let Err(error) = result else { return result };
        if matches!(error.downcast_ref(), Some(ErrorCode::NotPermitted | ErrorCode::ReadOnly | ErrorCode::Access)) {
            self.0.deny("denied.fs", &format!("{what} {path}"));
        }
        Err(error)
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
    ) -> FsResult<Resource<Descriptor>> {
        self.check_kind(&dir, at, &path).await?;
        let is_write = flags.intersects(DescriptorFlags::WRITE | DescriptorFlags::MUTATE_DIRECTORY)
            || how.intersects(OpenFlags::CREATE | OpenFlags::TRUNCATE);
        if is_write && self.may_write() {
            self.before_write(&path).await?;
        }
        self.wasi().open_at(dir, at, path, how, flags).await
    }

    /// Whether any mount of this call may be written: where none may, nothing begins.
    fn may_write(&self) -> bool {
        self.0.call.grant().mounts.iter().any(|mount| mount.access == Access::ReadWrite)
    }
}

/// A change at a path: announced, done, and noted where it was refused.
macro_rules! change {
    ($self:ident, $what:literal, $path:expr, |$wasi:ident| $body:expr) => {{
        let path: String = $path.clone();
        if $self.may_write() {
            $self.before_write(&path).await?;
        }
        let result = {
            #[allow(unused_mut, reason = "some calls borrow it mutably")]
            let mut $wasi = $self.wasi();
            $body.await
        };
        $self.noted($what, &path, result)
    }};
}

impl Host for Files<'_> {
    fn convert_error_code(&mut self, err: FsError) -> wasmtime::Result<ErrorCode> {
        self.wasi().convert_error_code(err)
    }

    fn filesystem_error_code(&mut self, err: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        self.wasi().filesystem_error_code(err)
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
        let result = self.open(fd, at, path.clone(), how, flags).await;
        self.noted("open", &path, result)
    }

    async fn create_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        change!(self, "create directory", path, |wasi| wasi.create_directory_at(fd, path))
    }

    async fn remove_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        change!(self, "remove directory", path, |wasi| wasi.remove_directory_at(fd, path))
    }

    async fn unlink_file_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        change!(self, "remove", path, |wasi| wasi.unlink_file_at(fd, path))
    }

    async fn rename_at(
        &mut self,
        fd: Resource<Descriptor>,
        old: String,
        new_fd: Resource<Descriptor>,
        new: String,
    ) -> FsResult<()> {
        change!(self, "rename", old, |wasi| wasi.rename_at(fd, old, new_fd, new))
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
        change!(self, "set times", path, |wasi| wasi.set_times_at(fd, at, path, atim, mtim))
    }

    async fn stat_at(&mut self, fd: Resource<Descriptor>, at: PathFlags, path: String) -> FsResult<DescriptorStat> {
        let result = self.wasi().stat_at(fd, at, path.clone()).await;
        self.noted("look at", &path, result)
    }

    async fn readlink_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<String> {
        let result = self.wasi().readlink_at(fd, path.clone()).await;
        self.noted("read link", &path, result)
    }

    async fn metadata_hash_at(
        &mut self,
        fd: Resource<Descriptor>,
        at: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        let result = self.wasi().metadata_hash_at(fd, at, path.clone()).await;
        self.noted("look at", &path, result)
    }

    async fn set_size(&mut self, fd: Resource<Descriptor>, size: Filesize) -> FsResult<()> {
        self.before_change().await?;
        let result = self.wasi().set_size(fd, size).await;
        self.noted("set size", "an open file", result)
    }

    async fn set_times(&mut self, fd: Resource<Descriptor>, atim: NewTimestamp, mtim: NewTimestamp) -> FsResult<()> {
        self.before_change().await?;
        let result = self.wasi().set_times(fd, atim, mtim).await;
        self.noted("set times", "an open file", result)
    }

    async fn write(&mut self, fd: Resource<Descriptor>, buffer: Vec<u8>, offset: Filesize) -> FsResult<Filesize> {
        self.before_change().await?;
        let result = self.wasi().write(fd, buffer, offset).await;
        self.noted("write", "an open file", result)
    }

    async fn read(&mut self, fd: Resource<Descriptor>, len: Filesize, offset: Filesize) -> FsResult<(Vec<u8>, bool)> {
        self.wasi().read(fd, len, offset).await
    }

    async fn advise(
        &mut self,
        fd: Resource<Descriptor>,
        offset: Filesize,
        len: Filesize,
        advice: Advice,
    ) -> FsResult<()> {
        self.wasi().advise(fd, offset, len, advice).await
    }

    async fn sync_data(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        self.wasi().sync_data(fd).await
    }

    async fn sync(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        self.wasi().sync(fd).await
    }

    async fn get_flags(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorFlags> {
        self.wasi().get_flags(fd).await
    }

    async fn get_type(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorType> {
        self.wasi().get_type(fd).await
    }

    async fn read_directory(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<DirectoryEntryStream>> {
        self.wasi().read_directory(fd).await
    }

    async fn stat(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorStat> {
        self.wasi().stat(fd).await
    }

    async fn is_same_object(&mut self, a: Resource<Descriptor>, b: Resource<Descriptor>) -> wasmtime::Result<bool> {
        self.wasi().is_same_object(a, b).await
    }

    async fn metadata_hash(&mut self, fd: Resource<Descriptor>) -> FsResult<MetadataHashValue> {
        self.wasi().metadata_hash(fd).await
    }

    fn read_via_stream(&mut self, fd: Resource<Descriptor>, offset: Filesize) -> FsResult<Resource<DynInputStream>> {
        self.wasi().read_via_stream(fd, offset)
    }

    fn write_via_stream(&mut self, fd: Resource<Descriptor>, offset: Filesize) -> FsResult<Resource<DynOutputStream>> {
        self.wasi().write_via_stream(fd, offset)
    }

    fn append_via_stream(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<DynOutputStream>> {
        self.wasi().append_via_stream(fd)
    }

    fn drop(&mut self, fd: Resource<Descriptor>) -> wasmtime::Result<()> {
        HostDescriptor::drop(&mut self.wasi(), fd)
    }
}

impl HostDirectoryEntryStream for Files<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        self.wasi().read_directory_entry(stream).await
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        HostDirectoryEntryStream::drop(&mut self.wasi(), stream)
    }
}
