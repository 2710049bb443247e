//! The state that tools keep.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use async_trait::async_trait;

use crate::domain::{Failure, StateOp, StateQuota, StateReply, StateSpace};
use crate::store::{
    Workspaces,
    memory::{MemoryLog, User, user},
    space::{self, Held},
};

/// All spaces.
pub(super) type Spaces = HashMap<SpaceName, Space>;

/// What tells one space from another.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct SpaceName {
    pub(super) user: User,
    pub(super) scope: &'static str,
    pub(super) session: String,
    pub(super) run: String,
    component: String,
}

/// What one space holds.
#[derive(Default)]
pub(super) struct Space {
    values: BTreeMap<String, Vec<u8>>,
    pub(super) held: Held,
}

impl SpaceName {
    fn of(space: &StateSpace) -> Self {
        let (scope, session, run) = space::place(space);
        let (session, run, component) = (session.to_owned(), run.to_owned(), space.component.clone());
        Self { user: user(&space.principal), scope, session, run, component }
    }
}

impl Space {
    fn bytes(&self, key: &str) -> Option<u64> {
        self.values.get(key).map(|value| space::bytes_of(key, value.len()))
    }

    fn set(&mut self, key: String, value: Vec<u8>, quota: &StateQuota) -> Result<StateReply, Failure> {
        self.held = self.held.after_set(quota, &key, value.len(), self.bytes(&key))?;
        Ok(StateReply::Done { was_there: self.values.insert(key, value).is_some() })
    }

    fn delete(&mut self, key: &str) -> StateReply {
        if let Some(bytes) = self.bytes(key) {
            self.held = self.held.without(bytes);
        }
        StateReply::Done { was_there: self.values.remove(key).is_some() }
    }

    fn keys(&self, prefix: &str, after: Option<&str>, keys_max: u32) -> StateReply {
        let start = after.filter(|after| *after >= prefix).map_or(Bound::Included(prefix), Bound::Excluded);
        let keys = self.values.range::<str, _>((start, Bound::Unbounded)).map(|(key, _)| key);
        StateReply::Keys(keys.take_while(|key| key.starts_with(prefix)).take(keys_max as usize).cloned().collect())
    }
}

#[async_trait]
impl Workspaces for MemoryLog {
    async fn state(&self, space: &StateSpace, op: StateOp, quota: &StateQuota) -> Result<StateReply, Failure> {
        if let StateOp::Get { key } | StateOp::Set { key, .. } | StateOp::Delete { key } = &op {
            space::check_key(key)?;
        }
        let mut state = self.state();
        let held = state.spaces.entry(SpaceName::of(space)).or_default();
        match op {
            StateOp::Get { key } => Ok(StateReply::Value(held.values.get(&key).cloned())),
            StateOp::Set { key, value } => held.set(key, value, quota),
            StateOp::Delete { key } => Ok(held.delete(&key)),
            StateOp::Keys { prefix, after, keys_max } => Ok(held.keys(&prefix, after.as_deref(), keys_max)),
        }
    }
}
