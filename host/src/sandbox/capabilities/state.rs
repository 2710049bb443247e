//! What a tool keeps between calls: three interfaces over one store, which is whoever drives the call.
//!
//! Promises: a call reaches only the state that it was granted; keys and values are held to their bounds before anybody else
//! sees them; no secret of the call is in them; a change is announced before it is made. Leaves to others: whose state it is,
//! where it lies, and how much of it there may be (`CallLink::state`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;

use crate::domain::{
    Digest, Failure, Json, Kind, Recorded, RecordedValue, STATE_KEY_BYTES_MAX, StateOp, StateReply, StateScope,
};
use crate::sandbox::Begin;
use crate::sandbox::capabilities::bindings::cofferdam::tool::state_types::{Error, Host as Types};
use crate::sandbox::capabilities::bindings::cofferdam::tool::{state_session, state_user, state_workflow};
use crate::sandbox::state::GuestState;
use crate::sandbox::trap::Ended;

/// Keys that one question brings; a guest asks again for those after the last.
const STATE_KEYS_MAX: u32 = 1_000;

impl Types for GuestState {}

macro_rules! host {
    ($($module:ident: $scope:ident;)*) => {$(
        impl $module::Host for GuestState {
            async fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<Vec<u8>>, Error>> {
                self.got(StateScope::$scope, key).await
            }

            async fn set(&mut self, key: String, value: Vec<u8>) -> wasmtime::Result<Result<(), Error>> {
                let changed = self.changed(StateScope::$scope, StateOp::Set { key, value }).await?;
                Ok(changed.map(|_| ()))
            }

            async fn delete(&mut self, key: String) -> wasmtime::Result<Result<bool, Error>> {
                self.changed(StateScope::$scope, StateOp::Delete { key }).await
            }

            async fn keys(
                &mut self,
                prefix: String,
                after: Option<String>,
                max: u32,
            ) -> wasmtime::Result<Result<Vec<String>, Error>> {
                let op = StateOp::Keys { prefix, after, keys_max: max.min(STATE_KEYS_MAX) };
                self.listed(StateScope::$scope, op).await
            }
        }
    )*};
}

host! {
    state_session: Session;
    state_user: User;
    state_workflow: Workflow;
}

impl GuestState {
    async fn got(&mut self, scope: StateScope, key: String) -> wasmtime::Result<Result<Option<Vec<u8>>, Error>> {
        let reply = self.asked(scope, StateOp::Get { key }).await?;
        Ok(reply.and_then(|reply| match reply {
            StateReply::Value(value) => Ok(value),
            StateReply::Done { .. } | StateReply::Keys(_) => Err(Error::Unavailable),
        }))
    }

    async fn changed(&mut self, scope: StateScope, op: StateOp) -> wasmtime::Result<Result<bool, Error>> {
        let reply = self.asked(scope, op).await?;
        Ok(reply.and_then(|reply| match reply {
            StateReply::Done { was_there } => Ok(was_there),
            StateReply::Value(_) | StateReply::Keys(_) => Err(Error::Unavailable),
        }))
    }

    async fn listed(&mut self, scope: StateScope, op: StateOp) -> wasmtime::Result<Result<Vec<String>, Error>> {
        let reply = self.asked(scope, op).await?;
        Ok(reply.and_then(|reply| match reply {
            StateReply::Keys(keys) => Ok(keys),
            StateReply::Value(_) | StateReply::Done { .. } => Err(Error::Unavailable),
        }))
    }

    /// Asks whoever drives the call, or takes the answer of before. Failures of the store are the guest's to handle; those of
    /// the log end the call.
    async fn asked(&mut self, scope: StateScope, op: StateOp) -> wasmtime::Result<Result<StateReply, Error>> {
        let op = self.without_secrets(op);
        if let Err(error) = self.admitted(scope, &op)? {
            self.deny("limit.state", &format!("state {scope}: {}", about(&op)));
            return Ok(Err(error));
        }
        if op.is_write() {
            self.report_files().await.map_err(Ended)?;
        }
        let (host_call, begin) = self.begin(name(&op), digest(scope, &op), op.is_write()).await.map_err(Ended)?;
        match begin {
            // What was kept may have changed since: such a result is always recorded whole.
            Begin::Proceed | Begin::Repeat { .. } => {}
            Begin::Answer(Recorded { value: RecordedValue::Whole { value }, .. }) => {
                return Ok(read(&value).ok_or_else(|| Ended(strange(name(&op))))?);
            }
            Begin::Answer(_) => return Err(Ended(strange(name(&op))).into()),
            Begin::Refuse(failure) => return Ok(Err(self.refused(scope, &failure))),
        }
        let link = self.journal.link().clone();
        let reply = match link.state(scope, op).await {
            Ok(reply) => Ok(reply),
            Err(failure) => Err(self.refused(scope, &failure)),
        };
        self.done(&host_call, written(&reply)).await.map_err(Ended)?;
        Ok(reply)
    }

    /// What leaves a call holds none of its secrets; what a tool keeps is read by later calls, which may have other rights.
    fn without_secrets(&self, op: StateOp) -> StateOp {
        if self.secrets.is_empty() {
            return op;
        }
        let text = |text: String| self.secrets.text(&text);
        match op {
            StateOp::Get { key } => StateOp::Get { key: text(key) },
            StateOp::Set { key, value } => {
                StateOp::Set { key: text(key), value: self.secrets.scrubber().whole(&value) }
            }
            StateOp::Delete { key } => StateOp::Delete { key: text(key) },
            StateOp::Keys { .. } => op,
        }
    }

    /// Whether it may be asked at all, and is within its bounds.
    fn admitted(&mut self, scope: StateScope, op: &StateOp) -> wasmtime::Result<Result<(), Error>> {
        let Some(quota) = self.call.grant().state.get(&scope) else {
            return Err(self.not_asked(&format!("state.{scope}")));
        };
        let is_key = |key: &str| (1..=STATE_KEY_BYTES_MAX).contains(&key.len());
        let flaw = match op {
            StateOp::Get { key } | StateOp::Delete { key } => (!is_key(key)).then_some(Error::Key),
            StateOp::Set { key, value } => {
                let is_large = value.len() as u64 > quota.value_bytes_max;
                (!is_key(key)).then_some(Error::Key).or(is_large.then_some(Error::TooLarge))
            }
            StateOp::Keys { prefix, after, .. } => {
                let lengths = [prefix.len(), after.as_ref().map_or(0, String::len)];
                lengths.iter().any(|length| *length > STATE_KEY_BYTES_MAX).then_some(Error::Key)
            }
        };
        if let Some(flaw) = flaw {
            return Ok(Err(flaw));
        }
        Ok(if op.is_write() && !self.count_state_write() { Err(Error::Full) } else { Ok(()) })
    }

    /// Counts one change of state; false where it is one too many.
    fn count_state_write(&mut self) -> bool {
        self.state_writes = self.state_writes.saturating_add(1);
        self.state_writes <= self.call.grant().limits.state_writes_max
    }

    /// What the guest is told of a failure of the store.
    fn refused(&mut self, scope: StateScope, failure: &Failure) -> Error {
        self.deny("denied.state", &format!("state {scope}: {}", failure.message));
        match failure.kind {
            Kind::DataConflict => Error::Full,
            Kind::DataInput => Error::Key,
            _ => Error::Unavailable,
        }
    }
}

fn name(op: &StateOp) -> &'static str {
    match op {
        StateOp::Get { .. } => "state.get",
        StateOp::Set { .. } => "state.set",
        StateOp::Delete { .. } => "state.delete",
        StateOp::Keys { .. } => "state.keys",
    }
}

/// What an operation is about, for people. A key may be long and is the guest's own text: the list of denials cuts and
/// escapes it.
fn about(op: &StateOp) -> String {
    match op {
        StateOp::Get { key } | StateOp::Delete { key } => format!("{} {key}", name(op)),
        StateOp::Set { key, value } => format!("{} of {} bytes {key}", name(op), value.len()),
        StateOp::Keys { prefix, .. } => format!("{} {prefix}", name(op)),
    }
}

fn digest(scope: StateScope, op: &StateOp) -> Digest {
    let (scope, none) = (scope.to_string(), &b""[..]);
    let parts: [&[u8]; 4] = match op {
        StateOp::Get { key } | StateOp::Delete { key } => [scope.as_bytes(), key.as_bytes(), none, none],
        StateOp::Set { key, value } => [scope.as_bytes(), key.as_bytes(), value, none],
        StateOp::Keys { prefix, after, keys_max } => {
            let after = after.as_deref().unwrap_or_default();
            [scope.as_bytes(), prefix.as_bytes(), after.as_bytes(), &keys_max.to_le_bytes()]
        }
    };
    Digest::of_parts(&parts)
}

/// The reply as it is recorded. [`read`] reads it.
fn written(reply: &Result<StateReply, Error>) -> Json {
    match reply {
        Ok(StateReply::Value(value)) => json!({ "value": value.as_ref().map(|value| BASE64.encode(value)) }),
        Ok(StateReply::Done { was_there }) => json!({ "was_there": was_there }),
        Ok(StateReply::Keys(keys)) => json!({ "keys": keys }),
        Err(error) => json!({ "error": word(*error) }),
    }
}

fn read(json: &Json) -> Option<Result<StateReply, Error>> {
    if let Some(value) = json.get("value") {
        let bytes = value.as_str().map(|text| BASE64.decode(text)).transpose().ok()?;
        return Some(Ok(StateReply::Value(bytes)));
    }
    if let Some(was_there) = json.get("was_there") {
        return Some(Ok(StateReply::Done { was_there: was_there.as_bool()? }));
    }
    if let Some(keys) = json.get("keys") {
        let keys = keys.as_array()?.iter().map(|key| Some(key.as_str()?.to_owned())).collect::<Option<_>>()?;
        return Some(Ok(StateReply::Keys(keys)));
    }
    let told = json.get("error")?.as_str()?;
    let errors = [Error::Key, Error::TooLarge, Error::Full, Error::Unavailable];
    errors.into_iter().find(|error| word(*error) == told).map(Err)
}

fn word(error: Error) -> &'static str {
    match error {
        Error::Key => "key",
        Error::TooLarge => "too_large",
        Error::Full => "full",
        Error::Unavailable => "unavailable",
    }
}

fn strange(what: &str) -> Failure {
    Failure::new(Kind::HostBug, format!("answer `{what}` from its record: the record is of another form"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_as_it_was() {
        for reply in [
            Ok(StateReply::Value(None)),
            Ok(StateReply::Value(Some(vec![0, 255, 7]))),
            Ok(StateReply::Done { was_there: true }),
            Ok(StateReply::Keys(vec!["a".into(), String::new()])),
            Err(Error::Key),
            Err(Error::TooLarge),
            Err(Error::Full),
            Err(Error::Unavailable),
        ] {
            let json = written(&reply);
            assert_eq!(format!("{:?}", read(&json)), format!("{:?}", Some(reply)), "{json}");
        }
        assert!(read(&json!({"value": "no base64!"})).is_none() && read(&json!(null)).is_none());
    }

    #[test]
    fn another_operation_has_another_digest() {
        let set = |key: &str, value: &[u8]| StateOp::Set { key: key.into(), value: value.to_vec() };
        let of = |op: &StateOp| digest(StateScope::User, op);
        assert_ne!(of(&set("ab", b"c")), of(&set("a", b"bc")));
        assert_ne!(of(&set("a", b"b")), digest(StateScope::Session, &set("a", b"b")));
        let keys = |after: Option<&str>, keys_max| StateOp::Keys {
            prefix: "a".into(),
            after: after.map(str::to_owned),
            keys_max,
        };
        assert_ne!(of(&keys(None, 1)), of(&keys(None, 2)));
        assert_ne!(of(&keys(Some("b"), 1)), of(&keys(None, 1)));
    }
}
