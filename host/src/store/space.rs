//! What a space of state holds, and whether more fits.
//!
//! Pure. A log calls this within the transaction that changes the space, so that two changes cannot pass a quota together.

use crate::domain::{Failure, Kind, STATE_KEY_BYTES_MAX, StateQuota, StateScope, StateSpace};

/// What one space holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub keys: u64,
    /// Keys and values together.
    pub bytes: u64,
}

impl Held {
    /// Returns what is held once `key` has a value of `value_bytes`; `before` is what key and value took until now.
    pub(super) fn after_set(
        self,
        quota: &StateQuota,
        key: &str,
        value_bytes: usize,
        before: Option<u64>,
    ) -> Result<Self, Failure> {
        if value_bytes as u64 > quota.value_bytes_max {
            return Err(full(format!("keep a value of {value_bytes} bytes: {} may be kept", quota.value_bytes_max)));
        }
        let left = before.map_or(self, |bytes| self.without(bytes));
        let next = Self { keys: left.keys + 1, bytes: left.bytes + bytes_of(key, value_bytes) };
        if next.keys > quota.keys_max {
            return Err(full(format!("keep another key: {} are kept, and no more may be", quota.keys_max)));
        }
        if next.bytes > quota.bytes_max {
            return Err(full(format!("keep {} bytes in all: {} may be kept", next.bytes, quota.bytes_max)));
        }
        Ok(next)
    }

    /// Returns what is held without one key that took `bytes` with its value.
    pub(super) fn without(self, bytes: u64) -> Self {
        Self { keys: self.keys.saturating_sub(1), bytes: self.bytes.saturating_sub(bytes) }
    }
}

/// Returns what a key and its value take.
pub(super) fn bytes_of(key: &str, value_bytes: usize) -> u64 {
    (key.len() + value_bytes) as u64
}

/// Refuses a key that is no name.
pub(super) fn check_key(key: &str) -> Result<(), Failure> {
    let why = match key.len() {
        0 => "it is empty",
        1..=STATE_KEY_BYTES_MAX => return Ok(()),
        _ => "it is too long",
    };
    Err(Failure::new(Kind::DataInput, format!("use a key of the state: {why}"))
        .hint(format!("choose 1 to {STATE_KEY_BYTES_MAX} bytes")))
}

/// Returns what tells one space from another, as text: scope, session and run, where the scope has them.
pub(super) fn place(space: &StateSpace) -> (&'static str, &str, &str) {
    match space.scope {
        StateScope::Session => ("session", space.principal.session.as_str(), ""),
        StateScope::User => ("user", "", ""),
        StateScope::Workflow => ("workflow", "", space.run.as_str()),
    }
}

fn full(message: String) -> Failure {
    Failure::new(Kind::DataConflict, message).hint("delete what is no longer needed")
}
