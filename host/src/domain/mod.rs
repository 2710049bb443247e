//! The words of Cofferdam as plain values: no I/O, no async, no runtime.
//!
//! Every other module speaks in these types. A value here says what it is, never how it came about.

mod budget;
mod contract;
mod digest;
mod doubt;
mod effect;
mod event;
mod failure;
mod grant;
mod id;
mod journal;
mod json;
mod manifest;
mod money;
mod name;
mod outcome;
mod plan;
mod principal;
mod reconciled;
mod retry_after;
mod risk;
mod secret;
mod state;
mod step;
mod template;
mod time;
mod tokens;
mod trace;
mod web;
mod wit_type;

pub use budget::{Budget, BudgetPatch, Cost};
pub use contract::{Contract, Export, Param, Returns, ToolContract};
pub use digest::Digest;
pub use doubt::{Doubt, leaves_open};
pub use effect::Effect;
pub use event::{
    AskedModel, BY_BUDGET, BY_HOST, BY_RECONCILE, CHECK_VERSION, Caveat, CaveatKind, Decision, Epoch, Event, Fact,
    GENESIS, Items, Parent, PlannedStep, Role, RunEnd, SCHEMA_VERSION, Seq, Settlement, SkipReason, StepEnd,
    Suspension, TakesBack, UndoReason, Within,
};
pub use failure::{Failure, Fault, Kind, MESSAGE_CHARS_MAX, Retry, escaped, is_deceptive, printable};
pub use grant::{Access, Grant, HttpGrant, Limits, LimitsPatch, Mount, SecretGrant};
pub use id::{RunId, StepId};
pub use journal::{ASKED_FOR, HostCallRecord, JournalEntry, Recorded, RecordedValue, UpstreamEnd};
pub use json::{Json, bytes_within, canonical, excerpt, head};
pub use manifest::{Ask, Manifest, ToolManifest, TypeManifest};
pub use money::{USD_PICOS, usd, usd_micros, usd_per_million, usd_picos};
pub use name::{ToolName, ToolPattern, json_name};
pub use outcome::{Denial, FailedUpstream, LogLine, Outcome, Usage};
pub use plan::{
    CallTemplate, ForEach, OnFailure, Plan, PlanLimits, PlanStep, Reference, RetryRule, SubRun, literal, reference,
    references, resolved,
};
pub use principal::Principal;
pub use reconciled::Reconciled;
pub use retry_after::{RETRY_AFTER_MS_MAX, retry_after_ms};
pub use risk::{FLAG_CHARS_MAX, FLAGS_MAX, HostRisk, PlannerRisk, Risk};
pub use secret::{
    SECRET_BYTES_MAX, SECRET_PLACEHOLDER, Secret, is_secret_name, is_secret_name_byte, secret_placeholder,
};
pub use state::{STATE_KEY_BYTES_MAX, StateOp, StateQuota, StateReply, StateScope, StateSpace};
pub use step::{Direction, ReadyStep, idempotency_key};
pub use template::{TEMPLATE_BYTES_MAX, TemplateUse};
pub use time::Timestamp;
pub use tokens::{Price, PriceBand, Tokens};
pub use trace::{SpanId, Subject, TraceId, Traceparent};
pub use web::{Method, URL_BYTES_MAX, WebHost, WebPattern, WebScheme, WebUrl};
pub use wit_type::{Case, Field, WitType};
