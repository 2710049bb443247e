//! What one call may write, in all of its mounts together, and until when.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;

use crate::clock::Clock;
use crate::domain::Limits;

/// When a call ends. What the host does for a guest in one go must look at it: nothing interrupts a host call.
#[derive(Clone)]
pub(in crate::sandbox) struct Deadline {
    pub(in crate::sandbox) clock: Arc<dyn Clock>,
    /// Monotonic milliseconds.
    pub(in crate::sandbox) at_ms: u64,
}

/// Counts what a call has staged. A call does one thing at a time, so plain loads and stores are enough.
pub(super) struct Quota {
    bytes: AtomicU64,
    bytes_max: u64,
    entries: AtomicU64,
    entries_max: u64,
    deadline: Deadline,
}

impl Quota {
    pub(super) fn new(limits: &Limits, deadline: Deadline) -> Self {
        let (bytes, entries) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { bytes, bytes_max: limits.file_bytes_max, entries, entries_max: limits.file_entries_max, deadline }
    }

    /// Whether the call still has time.
    pub(super) fn check_time(&self) -> Result<(), ErrorCode> {
        let Deadline { clock, at_ms } = &self.deadline;
        if clock.monotonic_ms() < *at_ms { Ok(()) } else { Err(ErrorCode::Interrupted) }
    }

    /// Counts bytes of a staged file, by its length: a hole counts as much as data.
    pub(super) fn take_bytes(&self, bytes: u64) -> Result<(), ErrorCode> {
        take(&self.bytes, bytes, self.bytes_max)
    }

    pub(super) fn give_bytes(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Counts files and directories that are made, changed or removed.
    pub(super) fn take_entries(&self, entries: u64) -> Result<(), ErrorCode> {
        take(&self.entries, entries, self.entries_max)
    }

    /// Whether one more entry may be changed.
    pub(super) fn check_one_more(&self) -> Result<(), ErrorCode> {
        if self.entries.load(Ordering::Relaxed) < self.entries_max { Ok(()) } else { Err(ErrorCode::Quota) }
    }

    /// Whether so many entries could be changed at all.
    pub(super) fn check_entries(&self, entries: usize) -> Result<(), ErrorCode> {
        let is_within = u64::try_from(entries).is_ok_and(|entries| entries <= self.entries_max);
        if is_within { Ok(()) } else { Err(ErrorCode::Quota) }
    }

    pub(super) fn give_entries(&self, entries: u64) {
        self.entries.fetch_sub(entries, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> (u64, u64) {
        (self.bytes.load(Ordering::Relaxed), self.entries.load(Ordering::Relaxed))
    }
}

fn take(used: &AtomicU64, more: u64, max: u64) -> Result<(), ErrorCode> {
    let total = used.load(Ordering::Relaxed).checked_add(more).filter(|total| *total <= max);
    used.store(total.ok_or(ErrorCode::Quota)?, Ordering::Relaxed);
    Ok(())
}
