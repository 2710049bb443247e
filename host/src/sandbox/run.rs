//! One call, from JSON to JSON: load once, link once per grant, wait for a place, then run afresh (`instance.rs`).

use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use wasmtime::component::{Component, InstancePre, ResourceTable};
use wasmtime::{Engine, Store};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder};

use crate::clock::Clock;
use crate::domain::{Access, Digest, Failure, Grant, Kind, Mount, Outcome, Usage, canonical};
use crate::policy::Call;
use crate::registry::VerifiedTool;
use crate::sandbox::capabilities::clock::{self, Seed};
use crate::sandbox::capabilities::context;
use crate::sandbox::capabilities::http::{Clients, Http};
use crate::sandbox::capabilities::print::Print;
use crate::sandbox::compile::{Compiler, Loading};
use crate::sandbox::denials::Denials;
use crate::sandbox::engine::{Options, engine};
use crate::sandbox::instance::{Instance, lifted_bytes_max, limited};
use crate::sandbox::journal::Journal;
use crate::sandbox::limits::{Meter, Pace};
use crate::sandbox::linker::{Linked, linker};
use crate::sandbox::looks::Looks;
use crate::sandbox::open_files::{OpenFiles, raise_process_limit};
use crate::sandbox::overlay::{self, Deadline};
use crate::sandbox::secrets::{Granted, Secrets};
use crate::sandbox::seen::Seen;
use crate::sandbox::state::{GuestState, LogSink, Printed};
use crate::sandbox::trap;
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
