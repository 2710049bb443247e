//! How a call ended, and what it used.

use serde::{Deserialize, Serialize};

use crate::domain::{Failure, Json, Kind};

/// How a call ended: an honest value, never an `Err` of the function that ran it.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub result: Result<Json, Failure>,
    pub usage: Usage,
    /// What the guest logged and printed, capped.
    pub log: Vec<LogLine>,
    /// What the guest tried and was refused, and what a reader should be warned of. The call itself ended as the guest
    /// decided.
    pub denials: Vec<Denial>,
    /// Whether a write was begun: a fact that the host saw, not a claim.
    pub has_written: bool,
    /// Whether one of its writes was not answered, or in a way that does not tell what became of it.
    pub has_open_write: bool,
    /// The server of a write that is open, or else of the call's last request where that failed.
    pub upstream: Option<FailedUpstream>,
}

/// A server that failed a request of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedUpstream {
    /// `scheme://host:port`.
    pub upstream: String,
    pub kind: Kind,
    pub retry_after_ms: Option<u64>,
}

impl Outcome {
    /// Makes the outcome of a call whose guest never ran.
    pub fn never_ran(failure: Failure, usage: Usage) -> Self {
        Self {
            result: Err(failure),
            usage,
            log: Vec::new(),
            denials: Vec::new(),
            has_written: false,
            has_open_write: false,
            upstream: None,
        }
    }
}

/// What a call used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// From the moment the call was queued.
    pub wall_ms: u64,
    pub fuel: u64,
    /// The most that memories and tables held together.
    pub memory_bytes_peak: u64,
    pub host_calls: u64,
    pub input_bytes: u64,
    pub output_bytes: u64,
    /// Bytes and lines of log that were dropped.
    #[serde(default)]
    pub log_bytes_dropped: u64,
    /// Requests sent, redirects included.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub requests: u64,
    /// Bytes of those requests, heads included.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub egress_bytes: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// One line that the guest logged or printed. `text` is escaped and cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// `trace`…`error`, `stdout` or `stderr`.
    pub source: String,
    pub text: String,
}

/// Something that the guest tried and was refused, or, where the code begins with `flag.`, did and should be known of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// The short code: `denied.fs`, `denied.secret`, `flag.text`.
    pub code: String,
    /// What was tried, as the guest named it, escaped and cut.
    pub what: String,
}
