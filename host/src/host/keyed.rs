//! Requests under a key that the caller gave: a repeat is answered, and not done again.
//!
//! Promises: one key stands for one request of one user; another request under it conflicts, and so does a repeat while the
//! first is under way. Leaves to others: a call whose process died (`abandoned.rs`).

use serde::{Deserialize, Serialize};

use crate::domain::{
    Denial, Digest, Effect, Failure, Json, Kind, LogLine, Outcome, Principal, Retry, RunId, ToolName, Usage, canonical,
};
use crate::host::CallReport;
use crate::orchestrator::{Goal as StoredGoal, Parts};
use crate::store::Claim;

/// Bytes of a key: a name of the caller's, such as a UUID or an order's number.
const KEY_BYTES_MAX: usize = 200;

/// What stands under a key.
pub(super) enum Held {
    /// It is this caller's now: go on, then settle.
    Mine,
    /// The same request was made before.
    Before { run: RunId, outcome: Option<Vec<u8>> },
}

/// Takes a key for a request.
///
/// # Errors
/// `data.input_invalid` for a key that is none; `data.conflict` where it stands for another request; `host.storage`.
pub(super) async fn claim(
    parts: &Parts,
    principal: &Principal,
    key: &str,
    request: &Digest,
    run: &RunId,
) -> Result<Held, Failure> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX || key.chars().any(char::is_control) {
        return Err(Failure::new(
            Kind::DataInput,
            format!("take the key: it has 1 to {KEY_BYTES_MAX} printable bytes"),
        ));
    }
    match parts.log.claim_key(principal, key, request, run, parts.clock.now()).await? {
        Claim::Claimed => Ok(Held::Mine),
        Claim::Taken { run, outcome } => Ok(Held::Before { run, outcome }),
        Claim::Other => Err(Failure::new(Kind::DataConflict, "take the key: it was given with another request")
            .hint("use a key of its own for each request")),
    }
}

/// The digest of a call that is asked for.
pub(super) fn call_request(tool: &ToolName, args: &Json) -> Digest {
    Digest::of_parts(&[b"call", tool.to_string().as_bytes(), canonical(args).as_bytes()])
}

/// The digest under which events know a key.
pub(super) fn digest(principal: &Principal, key: &str) -> Digest {
    Digest::of_parts(&[b"key", principal.tenant.as_bytes(), principal.user.as_bytes(), key.as_bytes()])
}

/// The digest of a run that is asked for.
pub(super) fn run_request(goal: &StoredGoal, planner: &str) -> Digest {
    let workflow = goal.workflow.as_ref().map(canonical).unwrap_or_default();
    let assert = canonical(&Json::from(goal.assert.clone()));
    Digest::of_parts(&[b"run", goal.text.as_bytes(), workflow.as_bytes(), planner.as_bytes(), assert.as_bytes()])
}

/// The outcome of a call, as it is kept for repeats.
#[derive(Serialize, Deserialize)]
struct Kept {
    tool: ToolName,
    effect: Effect,
    output: Option<Json>,
    failure: Option<Failure>,
    usage: Usage,
    log: Vec<LogLine>,
    denials: Vec<Denial>,
    has_written: bool,
    #[serde(default)]
    has_open_write: bool,
}

/// Returns the bytes that are kept of a call's outcome; `None` where it may be tried again as it is, and changed nothing.
///
/// # Errors
/// `host.bug` where they cannot be written, which no outcome reaches.
pub(super) fn kept(report: &CallReport) -> Result<Option<Vec<u8>>, Failure> {
    match &report.outcome.result {
        Err(failure) if failure.retry() == Retry::Later && !report.outcome.has_written => Ok(None),
        _ => written(report).map(Some),
    }
}

/// Returns the bytes that are kept of a call's outcome, whatever it is.
///
/// # Errors
/// `host.bug` where they cannot be written, which no outcome reaches.
pub(super) fn written(report: &CallReport) -> Result<Vec<u8>, Failure> {
    let outcome = report.outcome.clone();
    let (output, failure) = match outcome.result {
        Ok(output) => (Some(output), None),
        Err(failure) => (None, Some(failure)),
    };
    let kept = Kept {
        tool: report.tool.clone(),
        effect: report.effect,
        output,
        failure,
        usage: outcome.usage,
        log: outcome.log,
        denials: outcome.denials,
        has_written: outcome.has_written,
        has_open_write: outcome.has_open_write,
    };
    serde_json::to_vec(&kept).map_err(|e| Failure::new(Kind::HostBug, "write an outcome").detail(e))
}

/// Returns the report of a call that was made before.
///
/// # Errors
/// `host.storage` where what is kept is none.
pub(super) fn repeated(run: RunId, outcome: &[u8]) -> Result<CallReport, Failure> {
    let kept: Kept = serde_json::from_slice(outcome)
        .map_err(|e| Failure::new(Kind::HostStorage, "read the outcome that is kept under the key").detail(e))?;
    let result = match (kept.output, kept.failure) {
        (Some(output), _) => Ok(output),
        (None, Some(failure)) => Err(failure),
        (None, None) => Ok(Json::Null),
    };
    let Kept { tool, effect, usage, log, denials, has_written, has_open_write, .. } = kept;
    let outcome = Outcome { result, usage, log, denials, has_written, has_open_write, upstream: None };
    Ok(CallReport { tool, effect, outcome, repeats: Some(run) })
}

/// The first call under a key is running.
pub(super) fn under_way(run: &RunId) -> Failure {
    Failure::new(Kind::DataConflict, "call under this key: the first call has not been seen to end")
        .hint(format!("it is under way in a living process: look at `show {run}`"))
}

/// A word about a call of which is known what became of it.
pub(super) fn has_ended(run: &RunId) -> Failure {
    Failure::new(Kind::DataConflict, "settle the call under this key: what became of it is known")
        .hint(format!("leave out `--settle` to be told its outcome, or look at `show {run}`"))
}

/// A word about a call that nobody made.
pub(super) fn nothing_to_settle() -> Failure {
    Failure::new(Kind::DataNotFound, "settle the call under this key: there is none")
        .hint("leave out `--settle` to make the call")
}
