//! What every log refuses, in the same words.

use crate::domain::{Digest, Failure, Kind, RunId, Seq, StepId};
use crate::store::{Bounds, INBOX_MESSAGES_MAX, Payload};

/// The failure of a caller that knows another end of the run than the log does.
pub(super) fn conflict(run: &RunId, after: Seq, last: Seq) -> Failure {
    Failure::new(Kind::DataConflict, format!("append to run {run} after event {after}: its last event is {last}"))
        .hint("read the run again")
}

/// The failure of an owner whom another process has followed.
pub(super) fn superseded(run: &RunId) -> Failure {
    Failure::new(Kind::HostOwned, format!("write to run {run}: another process has taken it"))
        .hint("stop working on the run, or take it again once that process has left it")
}

/// The failure of a run that is not in the log.
pub(super) fn no_run(run: &RunId) -> Failure {
    Failure::new(Kind::DataNotFound, format!("find run {run}")).hint("`cofferdam runs` lists the runs of this log")
}

/// Refuses a payload that is larger than the log keeps.
pub(super) fn check_payload(payload: &Payload, bounds: &Bounds) -> Result<(), Failure> {
    let (bytes, bytes_max) = (payload.bytes.len() as u64, bounds.payload_bytes_max);
    if bytes <= bytes_max {
        return Ok(());
    }
    let message = format!("keep a payload of {bytes} bytes: a payload may have {bytes_max}");
    Err(Failure::new(Kind::HostStorage, message).hint("raise `payload_bytes_max`, or let the tool return less"))
}

/// The failure of a journal that has no room left.
pub(super) fn journal_full(run: &RunId, step: &StepId, bytes_max: u64) -> Failure {
    let message = format!("keep the journal of step {step} of run {run}: it would be larger than {bytes_max} bytes");
    Failure::new(Kind::HostStorage, message).hint("raise `journal_bytes_max`, or let the tool make fewer host calls")
}

/// The failure of a journal whose records are not what was written.
pub(super) fn unfit_journal(run: &RunId, step: &StepId, n: u32) -> Failure {
    Failure::new(Kind::HostStorage, format!("read host call {n} of step {step} of run {run}: its record was changed"))
        .hint("restore the log from a backup")
}

/// The failure of a key that nobody took.
pub(super) fn no_key() -> Failure {
    Failure::new(Kind::DataNotFound, "settle an idempotency key: nobody took it, or it was pruned")
}

/// The failure of a payload that no event of the run brought.
pub(super) fn no_payload(run: &RunId, digest: &Digest) -> Failure {
    Failure::new(Kind::DataNotFound, format!("find payload {digest} of run {run}"))
}

/// The failure of a name that is taken.
pub(super) fn run_exists(run: &RunId) -> Failure {
    Failure::new(Kind::DataConflict, format!("create run {run}: it exists"))
}

/// The failure of an append where an event stands already that the run does not know of.
pub(super) fn not_the_end(run: &RunId, seq: Seq) -> Failure {
    Failure::new(Kind::HostStorage, format!("append event {seq} of run {run}: one is there already"))
        .hint("the log was changed after it was written: restore it from a backup")
}

/// The failure of a run that would begin with nothing.
pub(super) fn no_beginning(run: &RunId) -> Failure {
    Failure::new(Kind::HostBug, format!("begin run {run}: its first append names no fact"))
}

/// The failure of a run that a living process owns.
pub(super) fn owned(run: &RunId, owner: &str) -> Failure {
    Failure::new(Kind::HostOwned, format!("take run {run}: it is owned by {owner}"))
        .hint("wait for that process to end, or stop it")
}

/// The failure of an inbox that is full.
pub(super) fn inbox_full(run: &RunId) -> Failure {
    Failure::new(Kind::HostBusy, format!("send to run {run}: {INBOX_MESSAGES_MAX} messages wait already"))
        .hint(format!("`cofferdam resume {run}` lets the run read them"))
}

/// The failure of a payload that `verify` finds touched; `seq` is past all events where none names it.
pub(super) fn touched_payload(run: &RunId, seq: Seq, digest: &Digest) -> Failure {
    let event = if seq == Seq::MAX { "no event".to_owned() } else { format!("event {seq}") };
    Failure::new(Kind::HostStorage, format!("verify {event} of run {run}: its payload {digest} was changed"))
        .hint("the log was changed after it was written: restore it and its `key` file from the same backup")
}

/// The failure of a payload whose bytes are others than its name says.
pub(super) fn unfit_payload(run: &RunId, digest: &Digest) -> Failure {
    Failure::new(Kind::HostStorage, format!("read payload {digest} of run {run}: the bytes do not fit the digest"))
        .hint("the log was changed after it was written: restore it from a backup")
}
