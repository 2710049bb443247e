//! What a call may do to the world, from nothing to something that cannot be taken back.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The effect of a call. Ordered: a later one is worse. Decides retry, caching, parallel order and approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Depends on its arguments alone.
    Pure,
    /// Looks at the world and leaves it as it is.
    Read,
    /// May be done again under the same key without a second effect.
    Idempotent,
    /// Can be taken back.
    Reversible,
    /// Happens, and stays.
    Once,
}

impl Effect {
    /// Answers whether the world is changed: such a call's start is durable before it begins.
    pub fn is_write(self) -> bool {
        self > Self::Read
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pure => "pure",
            Self::Read => "read",
            Self::Idempotent => "idempotent",
            Self::Reversible => "reversible",
            Self::Once => "once",
        })
    }
}
