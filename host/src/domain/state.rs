//! What tools keep between calls: three stores with owners and lifetimes of their own.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::domain::{Principal, RunId};

/// Bytes of a key: a name, not a document.
pub const STATE_KEY_BYTES_MAX: usize = 256;

/// Whose state it is, and how long it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateScope {
    /// Of one session of one user; gone when the session is pruned.
    Session,
    /// Of one user, until the user is erased.
    User,
    /// Of one run; gone when the run is pruned.
    Workflow,
}

impl fmt::Display for StateScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Session => "session",
            Self::User => "user",
            Self::Workflow => "workflow",
        })
    }
}

/// Where a tool's state lies: nothing of one space is seen from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StateSpace {
    pub scope: StateScope,
    pub principal: Principal,
    /// The run, for [`StateScope::Workflow`].
    pub run: RunId,
    /// The component whose state it is.
    pub component: String,
}

/// What may be kept in one space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateQuota {
    pub keys_max: u64,
    /// Keys and values together.
    pub bytes_max: u64,
    pub value_bytes_max: u64,
}

/// What is asked of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateOp {
    Get {
        key: String,
    },
    Set {
        key: String,
        value: Vec<u8>,
    },
    Delete {
        key: String,
    },
    /// Keys that begin with `prefix` and come after `after`, in order.
    Keys {
        prefix: String,
        after: Option<String>,
        keys_max: u32,
    },
}

impl StateOp {
    /// Answers whether it changes something.
    pub fn is_write(&self) -> bool {
        matches!(self, Self::Set { .. } | Self::Delete { .. })
    }
}

/// What a store answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateReply {
    Value(Option<Vec<u8>>),
    /// Whether there was a value before.
    Done {
        was_there: bool,
    },
    Keys(Vec<String>),
}
