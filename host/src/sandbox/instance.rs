//! One call in its store: from arguments to a result, within its limits.
//!
//! Promises: every limit is set before the guest's first instruction; what the call wrote is kept only where its result is in
//! order; no secret is in what it returns. Leaves to others: when there is a place for it, and what it is linked to (`run.rs`).

use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::{Component, ComponentExportIndex, Func, InstancePre, ResourceTable, Val};
use wasmtime::{CallHook, Store};

use crate::clock::Clock;
use crate::domain::{
    Denial, FailedUpstream, Failure, Json, Kind, Limits, LogLine, Outcome, Returns, ToolContract, Usage, bytes_within,
    head, json_name,
};
use crate::policy::Call;
use crate::sandbox::capabilities::files::{denial, lock};
use crate::sandbox::flags::deceptive;
use crate::sandbox::limits::HOST_CALL_FUEL;
use crate::sandbox::secrets::Granted;
use crate::sandbox::state::GuestState;
use crate::sandbox::trap;
use crate::sandbox::values::{to_json, to_wit};

/// A call with its store.
pub(super) struct Instance {
    pub(super) store: Store<GuestState>,
    pub(super) call: Arc<Call>,
    pub(super) usage: Usage,
}

impl Instance {
    /// Runs the call to its end, within what is left of `wall` since `start_ms`.
    pub(super) async fn run(
        mut self,
        pre: &InstancePre<GuestState>,
        wall: Duration,
        start_ms: u64,
        clock: &Arc<dyn Clock>,
    ) -> Outcome {
        let left = wall.saturating_sub(Duration::from_millis(clock.monotonic_ms().saturating_sub(start_ms)));
        let link = self.store.data().journal.link().clone();
        let result = {
            let call = tokio::time::timeout(left, self.call(pre));
            tokio::select! {
                ended = call => ended.ok(),
                () = link.cancelled() => Some(Err(Failure::new(Kind::HostCancelled, "finish the call: it was cancelled"))),
            }
        };
        let result = match result {
            Some(Ok(output)) => self.commit(output).await,
            Some(Err(failure)) => Err(failure),
            None => Err(self.deadline()),
        };
        self.outcome(result)
    }

    fn deadline(&self) -> Failure {
        trap::deadline(self.call.tool().name(), &self.call.grant().limits)
    }

    /// Instantiates, calls, reads the result, and makes what the call wrote ready to be kept.
    async fn call(&mut self, pre: &InstancePre<GuestState>) -> Result<Json, Failure> {
        let call = self.call.clone();
        let tool = call.tool().tool();
        let args = arguments(tool, call.input())?;
        let instance = pre.instantiate_async(&mut self.store).await.map_err(|e| self.failure(&e))?;
        let index = export(pre.component(), tool)
            .ok_or_else(|| Failure::new(Kind::HostBug, format!("find the export of `{}`", tool.name)))?;
        let func = instance.get_func(&mut self.store, index);
        let func = func.ok_or_else(|| Failure::new(Kind::HostBug, format!("find the function of `{}`", tool.name)))?;
        let results = self.invoke(&func, &args).await;
        self.store.data().journal.check()?;
        self.store.data_mut().report_files().await?;
        let results = results?;
        let output = self.read(tool, &results)?;
        if self.store.data().has_staged() {
            self.call.tool().check_output(&output)?;
            self.store.data_mut().ready_commit().await?;
        }
        Ok(output)
    }

    /// Keeps what the call wrote, as its result is in order. Neither the deadline nor a cancellation reaches in here: what
    /// was announced is done, or nobody would know whether it was.
    async fn commit(&mut self, output: Json) -> Result<Json, Failure> {
        if self.store.data().has_staged() {
            if self.store.data().left_ms() == 0 {
                return Err(self.deadline());
            }
            self.store.data_mut().commit().await?;
        }
        Ok(output)
    }

    async fn invoke(&mut self, func: &Func, args: &[Val]) -> Result<Vec<Val>, Failure> {
        let mut results = vec![Val::Bool(false); func.ty(&self.store).results().len()];
        func.call_async(&mut self.store, args, &mut results).await.map_err(|e| self.failure(&e))?;
        Ok(results)
    }

    /// The result as JSON, or the failure that the tool declares.
    fn read(&mut self, tool: &ToolContract, results: &[Val]) -> Result<Json, Failure> {
        let contract = |e: String| Failure::new(Kind::ToolContract, format!("read the result of `{}`: {e}", tool.name));
        let json = |ty: Option<&_>, val: Option<&Val>| match (ty, val) {
            (Some(ty), Some(val)) => to_json(ty, val).map_err(contract),
            _ => Ok(Json::Null),
        };
        let value = match (&tool.returns, results.first()) {
            (Returns::Nothing, _) => Json::Null,
            (Returns::Value(ty), val) => json(Some(ty), val)?,
            (Returns::Fallible { ok, .. }, Some(Val::Result(Ok(val)))) => json(ok.as_ref(), val.as_deref())?,
            (Returns::Fallible { err, .. }, Some(Val::Result(Err(val)))) => {
                return Err(declared(tool, &json(err.as_ref(), val.as_deref())?, &self.store.data().secrets));
            }
            (Returns::Fallible { .. }, _) => return Err(contract("it is not a result".into())),
        };
        // First of all: what follows reads all of it, and some of it copies.
        self.bounded(tool, &value)?;
        let value = self.store.data().secrets.json(value);
        if let Some(what) = deceptive(&value) {
            self.store.data_mut().deny("flag.text", &what);
        }
        Ok(value)
    }

    fn bounded(&mut self, tool: &ToolContract, value: &Json) -> Result<(), Failure> {
        let limit = self.call.grant().limits.output_bytes_max;
        let Some(bytes) = bytes_within(value, limit) else {
            let message = format!("run `{}`: it returned more than {limit} bytes", tool.name);
            return Err(Failure::new(Kind::ToolOutput, message)
                .hint(format!("raise `output_bytes_max` for `{}`, or write a file", tool.name)));
        };
        self.usage.output_bytes = bytes;
        Ok(())
    }

    fn failure(&self, error: &wasmtime::Error) -> Failure {
        trap::failure(error, self.store.data().meter.hit, self.call.tool().name(), &self.call.grant().limits)
    }

    fn outcome(mut self, result: Result<Json, Failure>) -> Outcome {
        // Requests under way end with their handles: nothing is counted or noted after it was read.
        self.store.data_mut().table = ResourceTable::new();
        let (log, log_bytes_dropped): (Vec<LogLine>, u64) = self.store.data().log.take();
        self.note_refusals();
        let denials: Vec<Denial> = self.store.data().denials.take();
        let state = self.store.data();
        // What ended the call beside the guest is why, whatever the guest made of it.
        let result = state.journal.check().and(result).map_err(|failure| state.secrets.failure(failure));
        let upstream = state.http.failed();
        let result = result.map_err(|failure| told_truly(failure, upstream.as_ref()));
        let fuel_left = self.store.get_fuel().unwrap_or_default();
        let usage = Usage {
            fuel: self.call.grant().limits.fuel.saturating_sub(fuel_left),
            memory_bytes_peak: state.meter.memory_bytes_peak,
            host_calls: state.meter.host_calls,
            log_bytes_dropped,
            requests: state.http.requests(),
            egress_bytes: state.http.egress_bytes(),
            ..self.usage
        };
        let (has_written, has_open_write) = (state.journal.has_written(), state.http.has_open_write());
        Outcome { result, usage, log, denials, has_written, has_open_write, upstream }
    }
}

/// The kind of what the network did, where the tool gives up because of it: that tells whether to try again. What the tool
/// says stays.
fn told_truly(failure: Failure, upstream: Option<&FailedUpstream>) -> Failure {
    match upstream {
        Some(failed) if failure.kind == Kind::ToolDeclared => Failure { kind: failed.kind, ..failure },
        _ => failure,
    }
}

impl Instance {
    /// Notes what streams of files were refused.
    fn note_refusals(&mut self) {
        let state = self.store.data_mut();
        let refusals: Vec<_> = state.files.iter().flat_map(|mount| lock(mount).take_refusals()).collect();
        for code in refusals.into_iter().filter_map(denial) {
            state.deny(code, "write an open file");
        }
    }
}

/// Finds the function among the component's exports.
fn export(component: &Component, tool: &ToolContract) -> Option<ComponentExportIndex> {
    let interface = match &tool.export.interface {
        Some(interface) => Some(component.get_export_index(None, interface)?),
        None => None,
    };
    component.get_export_index(interface.as_ref(), &tool.export.function)
}

/// The arguments in the order of the parameters.
fn arguments(tool: &ToolContract, input: &Json) -> Result<Vec<Val>, Failure> {
    let wrong = |name: &str, e: String| Failure::new(Kind::DataInput, format!("call `{}`: {name}: {e}", tool.name));
    let lowered = tool.params.iter().map(|param| {
        let key = json_name(&param.name);
        match input.get(&key) {
            Some(json) => to_wit(&param.ty, json).map_err(|e| wrong(&key, e)),
            None if param.ty.is_option() => Ok(Val::Option(None)),
            None => Err(wrong(&key, "it is missing".into())),
        }
    });
    lowered.collect()
}

/// Characters kept of a tool's own error text.
const DECLARED_CHARS_MAX: usize = 4_096;

/// Characters kept of the tool's own code for an error.
const DECLARED_CODE_CHARS_MAX: usize = 100;

/// An error that the tool declares: with `code` and `message` where its type has them, else as JSON. Secrets are looked
/// for before it is cut, as half of one would be found no more.
fn declared(tool: &ToolContract, error: &Json, secrets: &Granted) -> Failure {
    let field = |name| error.get(name).and_then(Json::as_str);
    let text = match (field("message"), error) {
        (Some(message), _) => secrets.head(message, DECLARED_CHARS_MAX),
        (None, Json::String(text)) => secrets.head(text, DECLARED_CHARS_MAX),
        (None, other) => secrets.head(&head(other, secrets.head_bytes(DECLARED_CHARS_MAX)), DECLARED_CHARS_MAX),
    };
    let mut failure = Failure::new(Kind::ToolDeclared, format!("run `{}`: the tool says: {text}", tool.name));
    failure.declared = Some(secrets.head(field("code").unwrap_or("error"), DECLARED_CODE_CHARS_MAX));
    failure
}

/// Bytes that reading a list may take for each byte of its JSON: no item is shorter there than one byte (a `list<u8>` of
/// zeros), and each takes one [`Val`] here beside its own bytes.
const OUTPUT_VALUE_BYTES: u64 = size_of::<Val>() as u64 + 1;

/// Bytes that the fixed parts of a result may take.
const OUTPUT_FIXED_BYTES: u64 = 64 << 10;

/// Returns how many bytes may be read of a result before its text is measured. Text is no shorter as JSON.
pub(super) fn lifted_bytes_max(tool: &ToolContract, limits: &Limits) -> u64 {
    let has_list = match &tool.returns {
        Returns::Nothing => false,
        Returns::Value(ty) => ty.has_list(),
        Returns::Fallible { ok, err } => [ok, err].into_iter().flatten().any(|ty| ty.has_list()),
    };
    let for_each = if has_list { OUTPUT_VALUE_BYTES } else { 1 };
    limits.output_bytes_max.saturating_mul(for_each).saturating_add(OUTPUT_FIXED_BYTES)
}

/// Sets every limit before the first instruction of the guest: start functions run at instantiation.
pub(super) fn limited(
    mut store: Store<GuestState>,
    limits: &Limits,
    output_bytes_max: u64,
) -> Result<Store<GuestState>, Failure> {
    let bug = |e: wasmtime::Error| Failure::new(Kind::HostBug, "set a guest's limits").detail(format!("{e:#}"));
    store.set_fuel(limits.fuel).map_err(bug)?;
    store.limiter(|state| &mut state.meter);
    store.set_max_component_handles(usize::try_from(limits.handles_max).unwrap_or(usize::MAX));
    store.set_epoch_deadline(1);
    store.epoch_deadline_async_yield_and_update(1);
    let [host_call_bytes_max, output_bytes_max] =
        [limits.host_call_bytes_max, output_bytes_max].map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    store.call_hook(move |mut store, hook| {
        match hook {
            CallHook::CallingHost => {
                store.data_mut().host_depth += 1;
                store.set_hostcall_fuel(host_call_bytes_max);
            }
            // Interrupts and the growing of memory cross here too. Interrupts come with time: to charge for them would
            // make fuel depend on it.
            CallHook::ReturningFromHost => {
                let state = store.data_mut();
                state.host_depth = state.host_depth.saturating_sub(1);
                // One that comes while the guest makes room for a result is not the end of the host call, and the guest's
                // code would put its own count of fuel over what is charged then.
                if state.host_depth == 0 && std::mem::take(&mut state.is_host_call) {
                    charge(&mut store)?;
                }
            }
            // What the host reads next, without a host call in between, is the result.
            CallHook::ReturningFromWasm => store.set_hostcall_fuel(output_bytes_max),
            CallHook::CallingWasm => {}
        }
        Ok(())
    });
    Ok(store)
}

/// Counts a host call and charges its fuel.
fn charge(store: &mut wasmtime::StoreContextMut<'_, GuestState>) -> wasmtime::Result<()> {
    if !store.data_mut().meter.count_host_call() {
        return Err(wasmtime::Error::msg("too many host calls"));
    }
    let fuel = store.get_fuel()?;
    store.set_fuel(fuel.saturating_sub(HOST_CALL_FUEL))
}
