//! Copies of files of a mount, which a call changes in their place.

use std::fs::File;
use std::io::{Read, Seek, Write};

use rustix::fs::{Timestamps, fchmod, futimens};
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;

use crate::sandbox::overlay::files::units;
use crate::sandbox::overlay::quota::Quota;
use crate::sandbox::overlay::view::{Attributes, BaseFile, View};
use crate::sandbox::overlay::{code, io_code};

/// Bytes that are copied before the clock is looked at: some milliseconds of a slow disk.
const COPY_BYTES_MAX: u64 = 1 << 20;

/// Bytes of a copied file that are one look, where looks are recorded: as many as a guest reads at a time.
const COPY_LOOK_BYTES_MAX: usize = 64 << 10;

/// Copies the first `bytes` of a file, as long as the call has time.
pub(super) fn copied(mut source: &File, copy: &mut File, bytes: u64, quota: &Quota) -> Result<(), ErrorCode> {
    source.rewind().map_err(|e| io_code(&e))?;
    let mut left = bytes;
    while left > 0 {
        quota.check_time()?;
        let wanted = left.min(COPY_BYTES_MAX);
        let copied = std::io::copy(&mut source.take(wanted), copy).map_err(|e| io_code(&e))?;
        left -= copied;
        if copied < wanted {
            // It was cut by somebody else meanwhile: its length stays what was counted.
            return copy.set_len(bytes).map_err(|e| io_code(&e));
        }
    }
    Ok(())
}

/// Copies the first `bytes` of a file of the mount, look by look.
pub(super) fn copied_by_looks(
    (view, source): (&View, &BaseFile),
    copy: &mut File,
    bytes: u64,
    quota: &Quota,
) -> Result<(), ErrorCode> {
    let mut done = 0;
    while done < bytes {
        quota.check_time()?;
        let wanted = usize::try_from(bytes - done).unwrap_or(usize::MAX).min(COPY_LOOK_BYTES_MAX);
        let piece = view.read(source, wanted, done).map_err(code)?;
        if piece.is_empty() {
            // It was cut by somebody else meanwhile: its length stays what was counted.
            return copy.set_len(bytes).map_err(|e| io_code(&e));
        }
        copy.write_all(&piece).map_err(|e| io_code(&e))?;
        done = done.saturating_add(units(piece.len()));
    }
    Ok(())
}

/// Gives a copy what a replaced file hands on beside its bytes: permissions and times.
pub(super) fn handed_on(copy: &File, found: &Attributes) -> Result<(), ErrorCode> {
    fchmod(copy, found.permissions()).map_err(code)?;
    let times = Timestamps { last_access: found.accessed(), last_modification: found.modified() };
    futimens(copy, &times).map_err(code)
}
