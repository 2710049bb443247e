//! Runs a call in a fresh instance under its grant, and says how it ended.
//!
//! Promises: [`Runner::run`] always returns an [`Outcome`], within the call's deadline, whatever the guest does; what is
//! not granted is not linked; nothing leaks from call to call; what a guest prints never reaches the host's own output;
//! no secret of a call is in what leaves it; components are compiled in a child process, never here. Only this module
//! knows wasmtime. Leaves to others: what is granted (`policy`), retries and the log (`orchestrator`).

use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::{
    Digest, Failure, HostCallRecord, Kind, Outcome, Recorded, RecordedValue, StateOp, StateReply, StateScope,
    Traceparent, UpstreamEnd,
};
use crate::policy::Call;
use crate::registry::VerifiedTool;

mod capabilities;
mod commit;
mod compile;
mod denials;
mod engine;
mod flags;
mod instance;
mod journal;
mod limits;
mod linker;
mod looks;
mod open_files;
mod overlay;
mod run;
mod secrets;
mod seen;
mod state;
mod trap;
mod values;
mod version;

pub use capabilities::http::NetworkOptions;
pub use compile::{CompileLimits, Helper, helper_main, raw_compile};
pub use engine::{Options, config as raw_config};
pub use run::WasmRunner;
pub use secrets::Secrets;
pub use version::{Runtime, runtime};

/// Beginning of the `tracing` targets that write, below `warn`, all that a guest passes to the host: which may be a secret
/// that a rule reveals to it. A program that logs should not keep them.
pub const GUEST_TRACE_TARGET: &str = "wasmtime_wasi";

/// The host call under which a call's journal keeps what the call was given, as JSON of a [`Grant`](crate::domain::Grant).
pub const CALL_GRANT: &str = "call.grant";

/// How the message of a failure ends where something of which there is only a digest is not what it was.
pub const CHANGED_SINCE: &str = "brings something else than before";

/// Runs calls. Two things stand behind it: [`WasmRunner`], and the scripted one of the tests.
#[async_trait]
pub trait Runner: Send + Sync {
    /// Makes the tool ready to run: compiles it, once for all calls. Whoever starts a call asks for this before, as it has
    /// bounds of its own; a call that comes without pays for it with its own time.
    ///
    /// # Errors
    /// `load.*` where it cannot be compiled; `data.config` where nothing is there to compile it.
    async fn prepare(&self, tool: &VerifiedTool) -> Result<(), Failure>;

    /// Runs the call to its end. Dropping the future stops the guest.
    async fn run(&self, call: Call, link: Arc<dyn CallLink>) -> Outcome;
}

/// One host call whose result depends on the world, or that changes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostCall {
    /// Number within the call, from 1, in the order in which the guest made them.
    pub n: u32,
    /// What was called: `files.write`, `context.remaining-ms`.
    pub what: &'static str,
    pub args: Digest,
    /// Whether it changes something.
    pub is_write: bool,
    /// The server that it goes to, as `scheme://host:port`.
    pub upstream: Option<String>,
    /// What it is, for people, where its name tells little: method and place of a request.
    pub about: Option<String>,
}

/// What to do with a host call that is about to be made.
#[derive(Clone, Debug, PartialEq)]
pub enum Begin {
    /// Make it.
    Proceed,
    /// Do not make it: this is what it brought before.
    Answer(Recorded),
    /// Make it, and hold what it brings against this: it was too large to keep, and must be the same.
    Repeat { digest: Digest, ms: u64 },
    /// Do not make it: the guest hears that it failed like this. So do servers that are known to be down.
    Refuse(Failure),
}

/// What a host call brought.
#[derive(Clone, Debug, PartialEq)]
pub struct HostCallEnd {
    /// What the guest was given, secrets taken out; or a digest of it, where it is too large to be kept.
    pub value: RecordedValue,
    /// Milliseconds by which the guest's clock moves on, or which a request took; for a host call that was repeated, those of
    /// the first time.
    pub ms: u64,
    /// What came of the request, where it was one.
    pub upstream: Option<UpstreamEnd>,
}

/// How a running call speaks with whoever drives it, without knowing who that is: a live run, a replay, or nobody. What a
/// link does not say is what [`NoLink`] does.
#[async_trait]
pub trait CallLink: Send + Sync {
    /// Returns whether host calls are recorded, or answered from records. Where they are not, only writes are announced, and
    /// a call pays nothing for the rest.
    fn records(&self) -> bool {
        false
    }

    /// Returns whether the call is only played back: what is not answered ends it. It then gets stand-ins for secrets, as no
    /// request leaves that would carry them.
    fn is_replay(&self) -> bool {
        false
    }

    /// Returns the record of the host call of this number, where the call was made before: what it saw of files is answered
    /// look by look, before all that it saw is announced.
    fn peek(&self, _n: u32) -> Option<HostCallRecord> {
        None
    }

    /// Announces a host call. A write is durable in the log before this returns. Requests that are under way at one time may
    /// be announced in another order than that of their numbers, which is always the guest's.
    ///
    /// # Errors
    /// Ends the call with this failure: the log could not be written, or the call does not do what it did before.
    async fn begin(&self, _call: &HostCall) -> Result<Begin, Failure> {
        Ok(Begin::Proceed)
    }

    /// Reports what the host call brought, before the guest learns it. That of a write is durable before this returns.
    ///
    /// # Errors
    /// As for [`CallLink::begin`].
    async fn done(&self, _call: &HostCall, _end: HostCallEnd) -> Result<(), Failure> {
        Ok(())
    }

    /// Says whether a request may go to `upstream`, of a call that is not recorded.
    ///
    /// # Errors
    /// The guest hears that it failed like this: a server that is known to be down.
    fn admits(&self, _upstream: &str) -> Result<(), Failure> {
        Ok(())
    }

    /// Reports what came of a request to `upstream`, of a call that is not recorded.
    fn answered(&self, _upstream: &str, _end: &UpstreamEnd) {}

    /// Reads or changes what the tool keeps between calls.
    ///
    /// # Errors
    /// `data.conflict` where the quota is used up; `host.storage`; the guest hears of both.
    async fn state(&self, _scope: StateScope, _op: StateOp) -> Result<StateReply, Failure> {
        Err(Failure::new(Kind::PolicyDenied, "reach the state of a tool: this call has none"))
    }

    /// Returns the span of the call, which its requests carry to whom they go; `None` where nobody follows it.
    fn traceparent(&self) -> Option<Traceparent> {
        None
    }

    /// Passes on a progress report: `fraction` of the work done, 0 to 1.
    fn progress(&self, _fraction: Option<f64>, _message: &str) {}

    /// Returns when the call is to be stopped; never, if it is not.
    async fn cancelled(&self) {
        std::future::pending().await
    }
}

/// A link to nobody: host calls proceed, progress is dropped, nothing cancels.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLink;

impl CallLink for NoLink {}
