//! Streams over files. Those of an overlay see what is written meanwhile, and count what they write; all hold their file open.

use bytes::Bytes;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use crate::sandbox::capabilities::files::{READ_BYTES_MAX, lock};
use crate::sandbox::open_files::Hold;
use crate::sandbox::overlay::{FileId, Shared};
use crate::sandbox::seen::Seen;

/// Bytes that one write may bring: larger ones come in parts.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// A stream with the place that its file takes among what a call holds open.
pub(super) struct Held<S: ?Sized> {
    _hold: Option<Hold>,
    /// Watches what a file that may only be read brings.
    seen: Seen,
    stream: Box<S>,
}

impl<S: ?Sized> Held<S> {
    pub(super) fn new(stream: Box<S>, hold: Option<Hold>) -> Self {
        Self { _hold: hold, seen: Seen::default(), stream }
    }

    pub(super) fn watched(self, seen: Seen) -> Self {
        Self { seen, ..self }
    }
}

impl<S: ?Sized> Held<S> {
    fn saw(&self, read: &StreamResult<Bytes>) {
        match read {
            // Nothing yet: what comes is noted when it does.
            Ok(bytes) if bytes.is_empty() => {}
            Ok(bytes) => self.seen.note("read", b"", bytes),
            Err(StreamError::Closed) => self.seen.note("read", b"", b"end"),
            Err(_) => self.seen.note("read", b"", b"error"),
        }
    }
}

#[async_trait]
impl<S: Pollable + ?Sized> Pollable for Held<S> {
    async fn ready(&mut self) {
        self.stream.ready().await;
    }
}

#[async_trait]
impl<S: InputStream + ?Sized> InputStream for Held<S> {
    fn read(&mut self, bytes_max: usize) -> StreamResult<Bytes> {
        let read = self.stream.read(bytes_max);
        self.saw(&read);
        read
    }

    async fn blocking_read(&mut self, bytes_max: usize) -> StreamResult<Bytes> {
        let read = self.stream.blocking_read(bytes_max).await;
        self.saw(&read);
        read
    }

    async fn cancel(&mut self) {
        self.stream.cancel().await;
    }
}

#[async_trait]
impl<S: OutputStream + ?Sized> OutputStream for Held<S> {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.stream.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.stream.check_write()
    }
}

/// One more use of an open file.
struct Using {
    overlay: Shared,
    file: FileId,
}

impl Using {
    fn new(overlay: Shared, file: FileId) -> Result<Self, ErrorCode> {
        lock(&overlay).retain(file)?;
        Ok(Self { overlay, file })
    }
}

impl Drop for Using {
    fn drop(&mut self) {
        lock(&self.overlay).release(self.file);
    }
}

/// Reads a file from some position on.
pub(super) struct Reader {
    using: Using,
    position: u64,
}

impl Reader {
    pub(super) fn new(overlay: Shared, file: FileId, position: u64) -> Result<Self, ErrorCode> {
        Ok(Self { using: Using::new(overlay, file)?, position })
    }
}

#[async_trait]
impl Pollable for Reader {
    // A disk answers when it is asked.
    async fn ready(&mut self) {}
}

impl InputStream for Reader {
    fn read(&mut self, bytes_max: usize) -> StreamResult<Bytes> {
        if bytes_max == 0 {
            return Ok(Bytes::new());
        }
        let bytes_max = bytes_max.min(READ_BYTES_MAX);
        let read =
            tokio::task::block_in_place(|| lock(&self.using.overlay).read(self.using.file, bytes_max, self.position));
        let bytes = read.map_err(|code| StreamError::LastOperationFailed(code.into()))?;
        if bytes.is_empty() {
            return Err(StreamError::Closed);
        }
        self.position = self.position.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(bytes.into())
    }
}

/// Writes a file from some position on, or at its end.
pub(super) struct Writer {
    using: Using,
    /// `None` writes at the end.
    position: Option<u64>,
    /// A write has failed: what comes after it must not stand where that should be.
    has_failed: bool,
}

impl Writer {
    pub(super) fn new(overlay: Shared, file: FileId, position: Option<u64>) -> Result<Self, ErrorCode> {
        Ok(Self { using: Using::new(overlay, file)?, position, has_failed: false })
    }
}

#[async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {}
}

impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.check_write()?;
        let written = tokio::task::block_in_place(|| {
            let mut overlay = lock(&self.using.overlay);
            let written = overlay.write(self.using.file, &bytes, self.position);
            written.inspect_err(|code| overlay.note_refusal(*code))
        });
        match written {
            Ok(end) => {
                self.position = self.position.map(|_| end);
                Ok(())
            }
            Err(code) => {
                self.has_failed = true;
                Err(StreamError::LastOperationFailed(code.into()))
            }
        }
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.check_write().map(drop)
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        if self.has_failed { Err(StreamError::Closed) } else { Ok(WRITE_BYTES_MAX) }
    }
}
