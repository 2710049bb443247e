//! What every log refuses, in the same words.

use crate::domain::{Digest, Failure, Kind, RunId, Seq};
use crate::store::INBOX_MESSAGES_MAX;

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

/// The failure of a payload that no event of the run brought.
pub(super) fn no_payload(run: &RunId, digest: &Digest) -> Failure {
    Failure::new(Kind::DataNotFound, format!("find payload {digest} of run {run}"))
}

/// The failure of a name that is taken.
pub(super) fn run_exists(run: &RunId) -> Failure {
    Failure::new(Kind::DataConflict, format!("create run {run}: it exists"))
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

/// The failure of a payload whose bytes are others than its name says.
pub(super) fn unfit_payload(run: &RunId, digest: &Digest) -> Failure {
    Failure::new(Kind::HostStorage, format!("read payload {digest} of run {run}: the bytes do not fit the digest"))
        .hint("the log was changed after it was written: restore it from a backup")
}
