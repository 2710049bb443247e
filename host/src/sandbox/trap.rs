//! What wasmtime says when a guest ends badly → a failure.

use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::FieldMapError;

use crate::domain::{Failure, Kind, Limits, ToolName};
use crate::sandbox::capabilities::clock::RANDOM_BYTES_MAX;

/// A failure of the host that travels through wasmtime as an error, to end the call with it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Ended(pub(super) Failure);

/// Returns why the call ended. `hit` is the limit that last refused something.
pub(super) fn failure(error: &wasmtime::Error, hit: Option<Kind>, tool: &ToolName, limits: &Limits) -> Failure {
    if let Some(Ended(failure)) = error.downcast_ref::<Ended>() {
        return failure.clone();
    }
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return Failure::new(
            Kind::ToolExit,
            format!("run `{tool}`: it ended the program with code {} instead of returning", exit.0),
        );
    }
    if is_random_size(error) {
        let message = format!("run `{tool}`: it asked for more than {RANDOM_BYTES_MAX} random bytes in one host call");
        return Failure::new(Kind::ToolHostCallBytes, message).hint("report this to the tool's author");
    }
    if error.downcast_ref::<FieldMapError>().is_some() {
        return headers(tool, limits).detail(format!("{error:?}"));
    }
    let kind = kind(error, hit);
    let failure = match limited(kind, limits) {
        Some((what, limit)) => Failure::new(kind, format!("run `{tool}`: {what}"))
            .hint(format!("raise `{limit}` in a rule of policy.toml for `{tool}`, if the tool is right to need it")),
        None => Failure::new(kind, format!("run `{tool}`: {}", cause(error))).hint("report this to the tool's author"),
    };
    // The backtrace names functions of the guest; for the operator.
    failure.detail(format!("{error:?}"))
}

/// Headers that the host would hold for the guest: this bound is met when they are made, before a request is.
fn headers(tool: &ToolName, limits: &Limits) -> Failure {
    let message = format!("run `{tool}`: it made more than {} bytes of headers", limits.header_bytes_max);
    Failure::new(Kind::ToolHostCallBytes, message).hint(format!(
        "raise `header_bytes_max` in a rule of policy.toml for `{tool}`, if the tool is right to need it"
    ))
}

fn kind(error: &wasmtime::Error, hit: Option<Kind>) -> Kind {
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => return Kind::ToolFuel,
        Some(Trap::StackOverflow) => return Kind::ToolStack,
        _ => {}
    }
    if let Some(kind) = hit {
        return kind;
    }
    // These have no public type in wasmtime 48; a test holds each text.
    let text = error.root_cause().to_string();
    if text.contains("fuel allocated for hostcalls has been exhausted") {
        // Within a host call there are frames of the guest; once its function has returned there are none.
        return if error.downcast_ref::<WasmBacktrace>().is_some() {
            Kind::ToolHostCallBytes
        } else {
            Kind::ToolOutput
        };
    }
    if text.contains("resource table has no free keys") || text.contains("store handle limit exceeded") {
        return Kind::ToolHandles;
    }
    Kind::ToolTrap
}

/// It has no public type in wasmtime 48; a test holds the text.
fn is_random_size(error: &wasmtime::Error) -> bool {
    let text = error.root_cause().to_string();
    text.starts_with("requested len ") && text.ends_with(&format!(" exceeds limit {RANDOM_BYTES_MAX}"))
}

/// Says what was used up, and the limit that decides.
fn limited(kind: Kind, limits: &Limits) -> Option<(String, &'static str)> {
    Some(match kind {
        Kind::ToolFuel => (format!("it used all of its fuel ({})", limits.fuel), "fuel"),
        Kind::ToolMemory => {
            (format!("it asked for more than {} bytes of memory", limits.memory_bytes_max), "memory_bytes_max")
        }
        Kind::ToolTable => {
            (format!("it asked for more than {} table elements", limits.table_elements_max), "table_elements_max")
        }
        Kind::ToolHandles => (format!("it held more than {} handles", limits.handles_max), "handles_max"),
        Kind::ToolHostCalls => (format!("it made more than {} host calls", limits.host_calls_max), "host_calls_max"),
        Kind::ToolHostCallBytes => (
            format!("it passed more than {} bytes to one host call", limits.host_call_bytes_max),
            "host_call_bytes_max",
        ),
        Kind::ToolOutput => (format!("it returned more than {} bytes", limits.output_bytes_max), "output_bytes_max"),
        _ => return None,
    })
}

/// The innermost cause, in one line.
fn cause(error: &wasmtime::Error) -> String {
    error.root_cause().to_string().lines().next().unwrap_or_default().to_owned()
}

/// Returns the failure of a call whose deadline passed.
pub(super) fn deadline(tool: &ToolName, limits: &Limits) -> Failure {
    Failure::new(Kind::ToolDeadline, format!("run `{tool}`: it did not end within {} ms", limits.wall_ms_max))
        .hint(format!("raise `wall_ms_max` in a rule of policy.toml for `{tool}`, or the step's `timeout_ms`"))
}
