//! How much a log keeps.

/// Bounds of what a log keeps. A log that is at one of them says so; it never drops an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of one payload.
    pub payload_bytes_max: u64,
    /// Bytes of the journal of one call.
    pub journal_bytes_max: u64,
    /// Bytes of all cached outcomes.
    pub cache_bytes_max: u64,
    /// Bytes of one cached outcome: a larger one is not kept.
    pub cached_bytes_max: u64,
    /// Bytes of the whole log, above which no new run is begun.
    pub log_bytes_max: u64,
    /// Bytes that the disk must have left for a new run to begin.
    pub disk_free_bytes_min: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            payload_bytes_max: 64 << 20,
            journal_bytes_max: 64 << 20,
            cache_bytes_max: 256 << 20,
            cached_bytes_max: 4 << 20,
            log_bytes_max: 64 << 30,
            disk_free_bytes_min: 64 << 20,
        }
    }
}
