//! What a call's host calls brought: enough to run the call again without making them again.

use serde::{Deserialize, Serialize};

use crate::domain::{Digest, Json, Kind};

/// One host call, as its record tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostCallRecord {
    /// Number within the call, from 1, in the order in which the guest made them.
    pub n: u32,
    /// What was called: `http.send`, `files.read`.
    pub what: String,
    /// Digest of its arguments.
    pub args: Digest,
    /// Whether it changes something.
    pub is_write: bool,
    /// What it brought; `None` where nobody saw it end.
    pub done: Option<Recorded>,
}

/// Under which the record of a request tells what was asked for: method and place.
pub const ASKED_FOR: &str = "for";

impl HostCallRecord {
    /// Returns what was asked for, where the record tells it.
    pub fn about(&self) -> Option<&str> {
        match &self.done.as_ref()?.value {
            RecordedValue::Whole { value } => value.get(ASKED_FOR)?.as_str(),
            RecordedValue::Digest { .. } | RecordedValue::Refused { .. } => None,
        }
    }

    /// Answers whether it was refused, and so never made.
    pub fn is_refused(&self) -> bool {
        matches!(&self.done, Some(Recorded { value: RecordedValue::Refused { .. }, .. }))
    }
}

/// What a host call brought, and how long it took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    pub value: RecordedValue,
    /// Milliseconds that passed, by which the guest's clock moved on.
    pub ms: u64,
}

/// The result of a host call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "as", rename_all = "snake_case", deny_unknown_fields)]
pub enum RecordedValue {
    Whole {
        value: Json,
    },
    /// Too large to keep: made again, it must bring the same.
    Digest {
        digest: Digest,
        bytes: u64,
    },
    /// It was not made: whoever drove the call refused it, as its server was known to be down. The guest heard of no
    /// connection, and hears the same again, whatever is known of the server then.
    Refused {
        kind: Kind,
        message: String,
    },
}

/// One line of the journal of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum JournalEntry {
    Begun { n: u32, what: String, args: Digest, is_write: bool },
    Done { n: u32, recorded: Recorded },
}

/// What came of a request to a server, for breakers and retries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamEnd {
    /// `network.*` where it failed; `None` where the server answered as it should.
    pub failure: Option<Kind>,
    /// What the server asks for in `Retry-After`, in milliseconds.
    pub retry_after_ms: Option<u64>,
}
