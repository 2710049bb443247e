//! How much of each kind of state a rule lets a tool keep.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::{STATE_KEY_BYTES_MAX, StateQuota, StateScope};

/// What a tool may keep of one kind of state where the rule gives no numbers: notes to itself, not a database.
pub const STATE_QUOTA_DEFAULT: StateQuota =
    StateQuota { keys_max: 1_000, bytes_max: 1 << 20, value_bytes_max: 64 << 10 };

/// The most that a rule may give: the host keeps it in one file with its log, sealed, a value at a time in memory.
pub const STATE_QUOTA_CEILING: StateQuota =
    StateQuota { keys_max: 100_000, bytes_max: 64 << 20, value_bytes_max: 1 << 20 };

/// What a tool may keep of one kind of state; what is absent is as by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateRule {
    #[serde(default)]
    pub keys_max: Option<u64>,
    /// Keys and values together.
    #[serde(default)]
    pub bytes_max: Option<u64>,
    #[serde(default)]
    pub value_bytes_max: Option<u64>,
}

impl StateRule {
    pub(super) fn apply(&self, quota: &mut StateQuota) {
        let StateQuota { keys_max, bytes_max, value_bytes_max } = *quota;
        *quota = StateQuota {
            keys_max: self.keys_max.unwrap_or(keys_max),
            bytes_max: self.bytes_max.unwrap_or(bytes_max),
            value_bytes_max: self.value_bytes_max.unwrap_or(value_bytes_max),
        };
    }

    fn flaw(self) -> Option<String> {
        let StateQuota { keys_max, bytes_max, value_bytes_max } = STATE_QUOTA_CEILING;
        let numbers = [
            ("keys_max", self.keys_max, keys_max),
            ("bytes_max", self.bytes_max, bytes_max),
            ("value_bytes_max", self.value_bytes_max, value_bytes_max),
        ];
        let wrong = numbers.into_iter().find(|(_, given, most)| given.is_some_and(|n| n == 0 || n > *most));
        wrong.map(|(name, _, most)| format!("`{name}` is from 1 to {most}"))
    }
}

/// Returns what is wrong with the quotas of a rule.
pub(super) fn quotas_flaw(state: &BTreeMap<StateScope, StateRule>) -> Option<String> {
    state.iter().find_map(|(scope, rule)| rule.flaw().map(|flaw| format!("state `{scope}`: {flaw}")))
}

const _: () = assert!(STATE_QUOTA_DEFAULT.value_bytes_max as usize > STATE_KEY_BYTES_MAX);
