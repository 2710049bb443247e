//! What went wrong, whose move it is, and whether to try again.
//!
//! The kinds are closed: there is no "other". The table below is the only place that says what a kind means, HTTP status
//! included; exit codes are given to kinds by `cli`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Whose move it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Who asked gave something wrong.
    Caller,
    /// The planner proposed something wrong.
    Planner,
    /// The tool misbehaved, or says that it cannot.
    Tool,
    /// The operator's rules forbid it.
    Policy,
    /// Something outside did not answer as it should.
    Upstream,
    /// Cofferdam, or the machine it runs on.
    Host,
}

/// Whether the same thing may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// It would fail again.
    Never,
    /// It may pass later, unchanged.
    Later,
    /// It may pass when what was asked is changed.
    Changed,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident $code:literal $short:literal $http:literal $fault:ident $retry:ident;)*) => {
        /// What went wrong. Written by its code, `class.what`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Kind { $($(#[$doc])* #[serde(rename = $code)] $variant,)* }

        impl Kind {
            /// Every kind, in the order of the table.
            pub const ALL: &'static [Kind] = &[$(Kind::$variant,)*];

            /// Returns the stable code: `class.what`.
            pub const fn code(self) -> &'static str { match self { $(Kind::$variant => $code,)* } }

            /// Returns the short code that security reports and the hostile-guest suite use.
            pub const fn short(self) -> &'static str { match self { $(Kind::$variant => $short,)* } }

            /// Returns the HTTP status of an answer that ends with this failure. What a tool, a model or another
            /// server did wrong is 502: this host stands between them and its caller.
            pub const fn http_status(self) -> u16 { match self { $(Kind::$variant => $http,)* } }

            /// Returns whose move it is.
            pub const fn fault(self) -> Fault { match self { $(Kind::$variant => Fault::$fault,)* } }

            /// Returns whether to try again.
            pub const fn retry(self) -> Retry { match self { $(Kind::$variant => Retry::$retry,)* } }
        }
    };
}

kinds! {
    /// The model refused to answer.
    ModelRefusal "model.refusal" "model" 502 Planner Never;
    /// The reply is not JSON.
    ModelInvalidJson "model.invalid_json" "model" 502 Planner Changed;
    /// The reply is JSON of another shape than was asked for, or a plan that does not check.
    ModelSchema "model.schema" "model" 502 Planner Changed;
    /// The model claims a result, and no step brought one.
    ModelNoAction "model.no_action" "model" 502 Planner Changed;
    /// The reply was cut off by its length limit.
    ModelTruncated "model.truncated" "model" 502 Planner Changed;
    /// The request is longer than the model can read.
    ModelContextOverflow "model.context_overflow" "model" 502 Planner Changed;
    /// The model goes round in circles, or used up its turns.
    ModelLoop "model.loop" "model" 502 Planner Never;
    /// The tool returned what its contract does not allow.
    ToolContract "tool.contract" "invalid.output" 502 Tool Never;
    /// The tool trapped: a panic, an unreachable, a bad memory access.
    ToolTrap "tool.trap" "trap" 502 Tool Never;
    /// The tool ended the program instead of returning.
    ToolExit "tool.exit" "trap" 502 Tool Never;
    /// The tool used all its fuel.
    ToolFuel "tool.fuel" "fuel" 502 Tool Never;
    /// The tool did not end before its deadline.
    ToolDeadline "tool.deadline" "deadline" 504 Tool Later;
    /// The tool asked for more memory than it may have.
    ToolMemory "tool.memory" "memory" 502 Tool Never;
    /// The tool's call stack ran out.
    ToolStack "tool.stack" "stack" 502 Tool Never;
    /// The tool grew a table past its limit.
    ToolTable "tool.table" "limit.table" 502 Tool Never;
    /// The tool held more handles than it may.
    ToolHandles "tool.handles" "limit.handles" 502 Tool Never;
    /// The tool made more host calls than it may.
    ToolHostCalls "tool.host_calls" "limit.hostcalls" 502 Tool Never;
    /// The tool passed more bytes to one host call than it may.
    ToolHostCallBytes "tool.host_call_bytes" "limit.hostcall" 502 Tool Never;
    /// The tool returned more bytes than it may.
    ToolOutput "tool.output" "limit.output" 502 Tool Never;
    /// The tool says so itself: an error that its contract declares.
    ToolDeclared "tool.declared" "declared" 422 Tool Changed;
    /// The name did not resolve.
    NetworkDns "network.dns" "network" 502 Upstream Later;
    /// No connection came about.
    NetworkConnect "network.connect" "network" 502 Upstream Later;
    /// The other side could not prove who it is, or no protected connection came about.
    NetworkTls "network.tls" "network" 502 Upstream Never;
    /// The other side did not answer in time.
    NetworkTimeout "network.timeout" "network" 504 Upstream Later;
    /// The other side answered 429.
    NetworkRateLimited "network.http_429" "network" 503 Upstream Later;
    /// The other side refused the request (4xx).
    NetworkHttp4xx "network.http_4xx" "network" 502 Upstream Changed;
    /// The other side failed (5xx).
    NetworkHttp5xx "network.http_5xx" "network" 502 Upstream Later;
    /// The answer stopped before its end.
    NetworkCut "network.cut_stream" "network" 502 Upstream Later;
    /// The other side has failed too often of late: nothing is sent to it for a while.
    NetworkCircuitOpen "network.circuit_open" "network" 503 Upstream Later;
    /// No rule allows it, or a rule forbids it.
    PolicyDenied "policy.denied" "denied" 403 Policy Changed;
    /// A person said no.
    PolicyRejected "policy.approval_rejected" "denied.approval" 403 Policy Changed;
    /// Nobody answered in time.
    PolicyExpired "policy.approval_expired" "denied.approval" 403 Policy Later;
    /// The budget is used up.
    PolicyBudget "policy.budget" "limit.budget" 429 Policy Never;
    /// The arguments do not fit the tool's schema.
    DataInput "data.input_invalid" "invalid.input" 422 Planner Changed;
    /// The arguments are larger than they may be.
    DataInputSize "data.input_size" "limit.input" 413 Planner Changed;
    /// The plan is not one that can run.
    DataPlan "data.plan_invalid" "invalid.plan" 422 Planner Changed;
    /// A reference points at nothing.
    DataReference "data.reference" "invalid.reference" 422 Planner Changed;
    /// A condition of a plan cannot be told, or one that decides about success does not hold.
    DataCondition "data.condition" "invalid.condition" 422 Planner Changed;
    /// What was asked for is not there.
    DataNotFound "data.not_found" "invalid" 404 Caller Changed;
    /// It collides with what is there already.
    DataConflict "data.conflict" "invalid" 409 Caller Changed;
    /// A file that people write (settings, policy, workflow) is wrong.
    DataConfig "data.config" "invalid" 500 Caller Changed;
    /// The file is not a component.
    LoadInvalid "load.invalid" "load.invalid" 422 Tool Never;
    /// The component is larger or more tangled than the host takes.
    LoadLimit "load.limit" "load.limit" 413 Tool Never;
    /// The component speaks another interface than the host.
    LoadAbi "load.abi" "load.abi" 422 Tool Never;
    /// The component imports what no host here gives.
    LoadDenied "load.denied" "load.denied" 403 Policy Changed;
    /// The component is not the one that the lock pins.
    LoadPinned "load.pinned" "load.denied" 403 Policy Changed;
    /// The log, or what a tool wrote, could not be written or read.
    HostStorage "host.storage" "host" 500 Host Later;
    /// The disk is nearly full: nothing new is begun.
    HostFull "host.full" "host" 507 Host Later;
    /// Run again, the call did not do what it had done: what came of it is not known.
    HostDiverged "host.diverged" "host" 500 Host Never;
    /// Another process owns the run.
    HostOwned "host.owned" "host" 409 Host Later;
    /// The host is at its bound of work.
    HostBusy "host.busy" "host" 503 Host Later;
    /// The run was stopped by a person.
    HostCancelled "host.cancelled" "host" 409 Caller Never;
    /// The host stopped while this was under way, and it may or may not have happened.
    HostInterrupted "host.interrupted" "host" 500 Host Changed;
    /// A mistake in Cofferdam.
    HostBug "host.bug" "host" 500 Host Never;
}

impl Kind {
    /// Returns whether a tool that had begun to change something told itself how that ended: it declared an error, and none
    /// of its requests was cut off before the server had answered. One that was stopped did not tell, nor one whose server
    /// did not: what it changed is unknown.
    pub fn is_told(self) -> bool {
        let is_of_network = self == Self::ToolDeclared || self.code().starts_with("network.");
        is_of_network && !matches!(self, Self::NetworkCut | Self::NetworkTimeout)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// Longest message or hint kept, in characters: text of a guest or of a server may be in it.
pub const MESSAGE_CHARS_MAX: usize = 4_096;

/// A failure: what happened, for the caller (`message`) and for the operator (`detail`), and what to do next (`hint`).
///
/// A message is a lowercase fragment that fits after "failed to".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{kind}: failed to {message}")]
pub struct Failure {
    pub kind: Kind,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// For the operator only: never shown to a model, a guest or a remote caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The tool's own word, where the kind is `tool.declared`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared: Option<String>,
}

impl Failure {
    /// Makes a failure of `kind`; `message` fits after "failed to".
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: bounded(message.into()), hint: None, detail: None, declared: None }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(bounded(hint.into()));
        self
    }

    /// Adds what only the operator may see.
    #[must_use]
    pub fn detail(mut self, detail: impl fmt::Display) -> Self {
        self.detail = Some(bounded(detail.to_string()));
        self
    }

    /// Returns whose move it is.
    pub fn fault(&self) -> Fault {
        self.kind.fault()
    }

    /// Returns whether to try again.
    pub fn retry(&self) -> Retry {
        self.kind.retry()
    }
}

/// Cuts `text` and escapes what could drive a terminal: control characters, and marks that reorder text.
fn bounded(text: String) -> String {
    match text.char_indices().nth(MESSAGE_CHARS_MAX) {
        None if !text.chars().any(is_deceptive) => text,
        None => escaped(&text),
        Some((end, _)) => escaped(&text[..end]) + "…",
    }
}

/// Returns `text` in full, with everything escaped that could drive a terminal or reorder a line.
pub fn escaped(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if is_deceptive(c) { clean.extend(c.escape_default()) } else { clean.push(c) }
    }
    clean
}

/// Returns whether `c` can drive a terminal, reorder a line or hide in it: control characters other than line end and
/// tab, marks of direction, characters without width, and the tags that spell ASCII unseen.
pub fn is_deceptive(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2064}')
        || matches!(c, '\u{2066}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Returns `text`, cut to [`MESSAGE_CHARS_MAX`], with everything escaped that could drive a terminal or reorder a line.
/// Newlines and tabs stay.
pub fn printable(text: &str) -> String {
    bounded(text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_carry_a_known_class() {
        let codes: HashSet<_> = Kind::ALL.iter().map(|k| k.code()).collect();
        assert_eq!(codes.len(), Kind::ALL.len());
        for code in codes {
            let class = code.split('.').next().unwrap_or_default();
            assert!(["model", "tool", "network", "policy", "data", "load", "host"].contains(&class), "{code}");
        }
    }

    #[test]
    fn a_status_says_whose_mistake_it_was() {
        for kind in Kind::ALL {
            let status = kind.http_status();
            assert!((400..600).contains(&status), "{kind}: {status}");
            if matches!(kind.fault(), Fault::Caller | Fault::Policy) && *kind != Kind::DataConfig {
                assert!(status < 500, "{kind}: {status} blames the host");
            }
            if matches!(kind.fault(), Fault::Upstream) {
                assert!(matches!(status, 502..=504), "{kind}: {status}");
            }
        }
    }

    #[test]
    fn a_message_cannot_drive_a_terminal_or_fill_the_log() {
        let failure = Failure::new(Kind::ToolTrap, format!("\u{1b}]52;c;x\u{7}{}", "a".repeat(10_000)));
        assert!(!failure.message.contains('\u{1b}'));
        assert!(failure.message.chars().count() <= MESSAGE_CHARS_MAX + 64);
    }

    #[test]
    fn a_failure_reads_back_what_it_writes() {
        let failure = Failure::new(Kind::ToolMemory, "grow memory").hint("raise it").detail("x");
        let text = serde_json::to_string(&failure).unwrap();
        assert!(text.contains("tool.memory"));
        assert_eq!(serde_json::from_str::<Failure>(&text).unwrap(), failure);
    }
}
