//! One call, from JSON to JSON: load once, link once per grant, instantiate afresh, run, read the result.

use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use wasmtime::component::{Component, ComponentExportIndex, Func, InstancePre, ResourceTable, Val};
use wasmtime::{CallHook, Engine, Store};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder};

use crate::clock::Clock;
use crate::domain::{
    Access, Denial, Digest, FailedUpstream, Failure, Grant, Json, Kind, Limits, LogLine, Mount, Outcome, Returns,
    ToolContract, Usage, bytes_within, canonical, head, json_name,
};
use crate::policy::Call;
use crate::registry::VerifiedTool;
use crate::sandbox::capabilities::clock::{self, Seed};
use crate::sandbox::capabilities::context;
use crate::sandbox::capabilities::files::{denial, lock};
use crate::sandbox::capabilities::http::{Clients, Http};
use crate::sandbox::capabilities::print::Print;
use crate::sandbox::compile::{Compiler, Loading};
use crate::sandbox::denials::Denials;
use crate::sandbox::engine::{Options, engine};
use crate::sandbox::flags::deceptive;
use crate::sandbox::journal::Journal;
use crate::sandbox::limits::{HOST_CALL_FUEL, Meter, Pace};
use crate::sandbox::linker::{Linked, linker};
use crate::sandbox::looks::Looks;
use crate::sandbox::open_files::{OpenFiles, raise_process_limit};
use crate::sandbox::overlay::{self, Deadline};
use crate::sandbox::secrets::{Granted, Secrets};
use crate::sandbox::seen::Seen;
use crate::sandbox::state::{GuestState, LogSink, Printed};
use crate::sandbox::trap;
use crate::sandbox::values::{to_json, to_wit};
use crate::sandbox::{CallLink, Runner};

/// How long a thread that waited for a file is kept for the next one: a host at rest gives its threads back.
const FILE_THREAD_KEPT: Duration = Duration::from_secs(1);

/// Runs calls in wasmtime, on threads of its own: a busy guest never stops the host.
pub struct WasmRunner {
    shared: Arc<Shared>,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

struct Shared {
    engine: Engine,
    compiler: Compiler,
    clients: Arc<Clients>,
    clock: Arc<dyn Clock>,
    secrets: Secrets,
    in_flight: Semaphore,
    calls_per_component_max: usize,
    /// Compiled components by digest, or why there is none; each compiled once, however many calls wait for it.
    compiled: Mutex<HashMap<Digest, Arc<Loading<Arc<Compiled>>>>>,
}

/// A component as machine code, and what it was linked to so far.
struct Compiled {
    component: Component,
    in_flight: Arc<Semaphore>,
    linked: Mutex<HashMap<Linked, InstancePre<GuestState>>>,
}

/// A call that may be instantiated: it holds its places until it is dropped.
struct Ready<'a> {
    places: (OwnedSemaphorePermit, SemaphorePermit<'a>),
    pre: InstancePre<GuestState>,
    secrets: Granted,
}

/// What belongs to one call before it has a store.
struct Own {
    journal: Arc<Journal>,
    secrets: Granted,
    seed: Seed,
    start_ms: u64,
}

impl WasmRunner {
    /// Makes a runner that has no secrets. The process may then open as many files as its hard limit lets it.
    ///
    /// # Errors
    /// `host.bug` where the machine cannot hold what `options` reserve; `data.config` for a `ca_file` that does not read,
    /// or where this program is to be its own helper and never called [`helper_main`](crate::helper_main).
    pub fn new(options: &Options, clock: Arc<dyn Clock>) -> Result<Self, Failure> {
        Self::with_secrets(options, Secrets::default(), clock)
    }

    /// Makes a runner that gives `secrets` to the calls whose grants name them.
    ///
    /// # Errors
    /// As [`WasmRunner::new`].
    pub fn with_secrets(options: &Options, secrets: Secrets, clock: Arc<dyn Clock>) -> Result<Self, Failure> {
        raise_process_limit();
        let mut builder = Builder::new_multi_thread();
        if options.guests_running_max > 0 {
            builder.worker_threads(options.guests_running_max);
        }
        let runtime = builder.thread_name("cofferdam-guest").thread_keep_alive(FILE_THREAD_KEPT).enable_all().build();
        let runtime = runtime.map_err(|e| Failure::new(Kind::HostBug, "start the guests' threads").detail(e))?;
        let engine = engine(options)?;
        let shared = Shared {
            compiler: Compiler::new(options, &engine, clock.clone())?,
            engine,
            clients: Arc::new(Clients::new(&options.network, clock.clone())?),
            clock,
            secrets,
            in_flight: Semaphore::new(places(options.calls_in_flight_max)),
            calls_per_component_max: places(options.calls_per_component_max),
            compiled: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared), runtime: Some(runtime) })
    }

    /// Runs `work` on the guests' threads; dropping the returned future stops it.
    async fn on_guest_threads<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Failure> {
        let bug = || Failure::new(Kind::HostBug, "run on the guests' threads");
        let runtime = self.runtime.as_ref().ok_or_else(bug)?;
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn_on(work, runtime.handle());
        match tasks.join_next().await {
            Some(Ok(done)) => Ok(done),
            Some(Err(error)) => Err(bug().detail(error)),
            None => Err(bug()),
        }
    }
}

impl Drop for WasmRunner {
    fn drop(&mut self) {
        // Waiting for guests here could block the caller's own runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[async_trait]
impl Runner for WasmRunner {
    async fn prepare(&self, tool: &VerifiedTool) -> Result<(), Failure> {
        // At once, without another thread: each call asks.
        if let Some(known) = self.shared.loading(tool).known() {
            return known.map(drop);
        }
        let (shared, tool) = (self.shared.clone(), tool.clone());
        self.on_guest_threads(async move { shared.compiled(&tool).await.map(drop) }).await?
    }

    async fn run(&self, call: Call, link: Arc<dyn CallLink>) -> Outcome {
        let shared = self.shared.clone();
        let input_bytes = u64::try_from(canonical(call.input()).len()).unwrap_or(u64::MAX);
        let ended = self.on_guest_threads(async move { shared.run(Arc::new(call), link, input_bytes).await }).await;
        ended.unwrap_or_else(|failure| Outcome::never_ran(failure, Usage { input_bytes, ..Usage::default() }))
    }
}

fn places(calls: u32) -> usize {
    usize::try_from(calls).unwrap_or(usize::MAX).clamp(1, Semaphore::MAX_PERMITS)
}

impl Shared {
    /// Runs one call within its deadline, which counts from here: waiting for a place is part of it.
    async fn run(self: &Arc<Self>, call: Arc<Call>, link: Arc<dyn CallLink>, input_bytes: u64) -> Outcome {
        let start_ms = self.clock.monotonic_ms();
        let limits = &call.grant().limits;
        let usage = Usage { input_bytes, ..Usage::default() };
        if input_bytes > limits.input_bytes_max {
            return Outcome::never_ran(input_size(&call, input_bytes), usage);
        }
        if call.is_recorded() && !link.is_replay() {
            let failure = Failure::new(Kind::HostBug, "run a recorded call: nobody allowed it, it is only played back");
            return Outcome::never_ran(failure, usage);
        }
        let wall = Duration::from_millis(limits.wall_ms_max);
        let ready = async {
            let Ready { places, pre, secrets } = self.ready(&call, link.is_replay()).await?;
            let store = self.stored(&call, link, secrets, start_ms).await?;
            Ok((places, pre, store))
        };
        let mut outcome = match tokio::time::timeout(wall, ready).await {
            Err(_) => Outcome::never_ran(trap::deadline(call.tool().name(), limits), usage),
            Ok(Err(failure)) => Outcome::never_ran(failure, usage),
            Ok(Ok((_places, pre, store))) => {
                Instance { store, call: call.clone(), usage }.run(&pre, wall, start_ms, &self.clock).await
            }
        };
        outcome.usage.wall_ms = self.clock.monotonic_ms().saturating_sub(start_ms);
        outcome
    }

    /// Waits for the compiled and linked component and for a place, first among the calls of its component: whoever
    /// waits there holds up no other.
    async fn ready(self: &Arc<Self>, call: &Call, is_replay: bool) -> Result<Ready<'_>, Failure> {
        let bug = |e| Failure::new(Kind::HostBug, "wait for a place").detail(e);
        let compiled = self.compiled(call.tool()).await?;
        let pre = compiled.linked(&self.engine, call)?;
        // Before there is a place: a person may have to unlock where they are kept.
        let secrets = if is_replay {
            Granted::stand_ins(&call.grant().secrets)
        } else {
            self.secrets.granted(&call.grant().secrets).await?
        };
        let of_component = compiled.in_flight.clone().acquire_owned().await.map_err(bug)?;
        let of_all = self.in_flight.acquire().await.map_err(bug)?;
        Ok(Ready { places: (of_component, of_all), pre, secrets })
    }

    fn loading(&self, tool: &VerifiedTool) -> Arc<Loading<Arc<Compiled>>> {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner).entry(*tool.digest()).or_default().clone()
    }

    async fn compiled(self: &Arc<Self>, tool: &VerifiedTool) -> Result<Arc<Compiled>, Failure> {
        let loading = self.loading(tool);
        let (shared, tool) = (self.clone(), tool.clone());
        let load = move |wanted| async move {
            let component = shared.compiler.component(&tool, &wanted).await?;
            let in_flight = Arc::new(Semaphore::new(shared.calls_per_component_max));
            Ok(Arc::new(Compiled { component, in_flight, linked: Mutex::default() }))
        };
        loading.get(self.clock.clone(), load).await
    }

    /// Makes the store, away from the guests' threads where there are directories to open: a disk may not answer.
    async fn stored(
        self: &Arc<Self>,
        call: &Arc<Call>,
        link: Arc<dyn CallLink>,
        secrets: Granted,
        start_ms: u64,
    ) -> Result<Store<GuestState>, Failure> {
        let journal = Arc::new(Journal::new(link, self.clock.clone(), &call.grant().limits));
        context::grant(call, &journal).await?;
        let seed = clock::begin(call, &journal, &*self.clock).await?;
        let own = Own { journal, secrets, seed, start_ms };
        if call.grant().mounts.is_empty() {
            return self.store(call, own);
        }
        let (shared, call) = (self.clone(), call.clone());
        let opening = tokio::task::spawn_blocking(move || shared.store(&call, own));
        opening.await.map_err(|e| Failure::new(Kind::HostBug, "open the directories of a call").detail(e))?
    }

    fn store(&self, call: &Arc<Call>, own: Own) -> Result<Store<GuestState>, Failure> {
        let Own { journal, secrets, seed, start_ms } = own;
        let limits = &call.grant().limits;
        let deadline_ms = start_ms.saturating_add(limits.wall_ms_max);
        let log = LogSink::new(limits, &secrets);
        let wasi = self.wasi(call, (&secrets, &log), (&journal, &seed))?;
        let denials = Denials::new(secrets.clone());
        let looks = Looks::new(&journal, &secrets);
        let mut table = ResourceTable::new();
        table.set_max_capacity(usize::try_from(limits.handles_max).unwrap_or(usize::MAX));
        let state = GuestState {
            wasi,
            table,
            meter: Meter::new(limits),
            call: call.clone(),
            log,
            files: self.overlays(call, deadline_ms, &looks)?,
            open_files: OpenFiles::new(limits),
            http: Http::new(call.clone(), self.clients.clone(), (denials.clone(), secrets.clone()), journal.clone()),
            seen: Seen::new(&journal),
            looks,
            journal,
            secrets,
            denials,
            clock: self.clock.clone(),
            deadline_ms,
            progress: Pace::new(limits, start_ms),
            state_writes: 0,
            is_host_call: false,
            host_depth: 0,
        };
        limited(Store::new(&self.engine, state), limits, lifted_bytes_max(call.tool().tool(), limits))
    }

    fn wasi(
        &self,
        call: &Call,
        (secrets, log): (&Granted, &LogSink),
        (journal, seed): (&Arc<Journal>, &Seed),
    ) -> Result<WasiCtx, Failure> {
        let mut builder = WasiCtxBuilder::new();
        builder.stdout(Print { sink: log.clone(), stream: Printed::Stdout });
        builder.stderr(Print { sink: log.clone(), stream: Printed::Stderr });
        clock::set(&mut builder, call, journal, seed);
        for (name, value) in &call.grant().env {
            builder.env(name, value);
        }
        for (name, value) in secrets.variables() {
            builder.env(name, value);
        }
        for mount in call.grant().mounts.iter().filter(|mount| mount.access == Access::Read) {
            builder
                .preopened_dir(&mount.host, &mount.guest, FsPerms::ReadOnly)
                .map_err(|e| no_directory(call.grant(), &mount.host, &e))?;
        }
        Ok(builder.build())
    }

    /// The mounts that the call may write.
    fn overlays(&self, call: &Call, at_ms: u64, looks: &Looks) -> Result<Vec<overlay::Shared>, Failure> {
        let mounts: Vec<&Mount> =
            call.grant().mounts.iter().filter(|mount| mount.access == Access::ReadWrite).collect();
        if mounts.is_empty() {
            return Ok(Vec::new());
        }
        let mut name = [0; 16];
        self.clock.random(&mut name).map_err(|e| Failure::new(Kind::HostBug, e))?;
        let paths = mounts.iter().map(|mount| (mount.guest.as_str(), mount.host.as_path()));
        let deadline = Deadline { clock: self.clock.clone(), at_ms };
        overlay::open(paths, &hex::encode(name), &call.grant().limits, (deadline, looks.clone()))
            .map_err(|(n, error)| no_directory(call.grant(), &mounts[n].host, &error.into()))
    }
}

fn no_directory(grant: &Grant, host: &Path, error: &wasmtime::Error) -> Failure {
    let message = format!("open a directory that rule {} grants: {}", grant.rules.join(", "), error.root_cause());
    Failure::new(Kind::DataConfig, message)
        .hint("create the directory, or correct `path` in policy.toml")
        .detail(host.display())
}

fn input_size(call: &Call, bytes: u64) -> Failure {
    let limit = call.grant().limits.input_bytes_max;
    Failure::new(
        Kind::DataInputSize,
        format!("call `{}` with {bytes} bytes of arguments: at most {limit}", call.tool().name()),
    )
    .hint("pass large data as a file, or raise `input_bytes_max`")
}

/// Bytes that reading a list may take for each byte of its JSON: no item is shorter there than one byte (a `list<u8>` of
/// zeros), and each takes one [`Val`] here beside its own bytes.
const OUTPUT_VALUE_BYTES: u64 = size_of::<Val>() as u64 + 1;

/// Bytes that the fixed parts of a result may take.
const OUTPUT_FIXED_BYTES: u64 = 64 << 10;

/// Returns how many bytes may be read of a result before its text is measured. Text is no shorter as JSON.
fn lifted_bytes_max(tool: &ToolContract, limits: &Limits) -> u64 {
    let has_list = match &tool.returns {
        Returns::Nothing => false,
        Returns::Value(ty) => ty.has_list(),
        Returns::Fallible { ok, err } => [ok, err].into_iter().flatten().any(|ty| ty.has_list()),
    };
    let for_each = if has_list { OUTPUT_VALUE_BYTES } else { 1 };
    limits.output_bytes_max.saturating_mul(for_each).saturating_add(OUTPUT_FIXED_BYTES)
}

/// Sets every limit before the first instruction of the guest: start functions run at instantiation.
fn limited(mut store: Store<GuestState>, limits: &Limits, output_bytes_max: u64) -> Result<Store<GuestState>, Failure> {
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

impl Compiled {
    /// Returns the component linked as the call's grant says.
    fn linked(&self, engine: &Engine, call: &Call) -> Result<InstancePre<GuestState>, Failure> {
        let key = Linked::of(call);
        let mut linked = self.linked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pre) = linked.get(&key) {
            return Ok(pre.clone());
        }
        let linker = linker(engine, key)
            .map_err(|e| Failure::new(Kind::HostBug, "link the host's functions").detail(format!("{e:#}")))?;
        let pre = linker.instantiate_pre(&self.component).map_err(|e| not_linked(call, &e))?;
        linked.insert(key, pre.clone());
        Ok(pre)
    }
}

/// An import that is not there: a capability that was not granted.
fn not_linked(call: &Call, error: &wasmtime::Error) -> Failure {
    let tool = call.tool().name();
    Failure::new(Kind::PolicyDenied, format!("start `{tool}`: it imports what is not granted: {error}"))
        .hint(format!(
            "give `{tool}` the capability in a rule of policy.toml (`capabilities = [\"log\", \"progress\"]`, `http = [{{ url = .. }}]`)"
        ))
        .detail(format!("{error:#}"))
}

/// A call with its store.
struct Instance {
    store: Store<GuestState>,
    call: Arc<Call>,
    usage: Usage,
}

impl Instance {
    async fn run(
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
