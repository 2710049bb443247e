//! Puts a host together from its parts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::clock::{Clock, SystemClock};
use crate::config::{self, Settings, ToolSource};
use crate::domain::{Budget, Digest, Failure, Kind, PlanLimits, Principal, Secret};
use crate::host::{Host, Inner, Pinned, contracts, goal, models::model_planner, notify::Teller, session::Session};
use crate::orchestrator::{Notifier, Parts};
use crate::planner::{PackOptions, Planner};
use crate::policy::Policy;
use crate::registry::{self, Candidate, Catalog, Lock, Origin, Trust, VerifiedComponent, verify};
use crate::sandbox::{self, Helper, Runner, Secrets, WasmRunner};
use crate::store::EventLog;
use crate::store::memory::MemoryLog;
use crate::store::sqlite::{SqliteLog, SqliteOptions};

/// Puts a host together. What is not set is the default: no tools, a policy that allows nothing, a log in memory.
#[derive(Default)]
pub struct HostBuilder {
    tools: Vec<Source>,
    policy: Option<Policy>,
    policy_file: Option<PathBuf>,
    lock: Option<Lock>,
    lock_file: Option<PathBuf>,
    state: Option<PathBuf>,
    registry: registry::Options,
    sandbox: sandbox::Options,
    helper: Option<Helper>,
    cache_dir: Option<PathBuf>,
    store: SqliteOptions,
    budget: Budget,
    plan_limits: PlanLimits,
    pack: PackOptions,
    principal: Principal,
    planner: Option<Arc<dyn Planner>>,
    clock: Option<Arc<dyn Clock>>,
    runner: Option<Arc<dyn Runner>>,
    log: Option<Arc<dyn EventLog>>,
    owner: Option<String>,
    secrets: Secrets,
    notifier: Option<Arc<dyn Notifier>>,
}

/// A component that is to be read, and whence it comes.
struct Source {
    candidate: Candidate,
    trust: Trust,
    origin: Origin,
}

impl HostBuilder {
    /// Adds a component. `name` stands for it where it does not name itself.
    #[must_use]
    pub fn tool(self, name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        self.source(name, path, Trust::default(), Origin::File)
    }

    /// Adds a component that was built here from source: a lock pins its contract, and not its bytes.
    #[must_use]
    pub fn built_tool(self, name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        self.source(name, path, Trust::default(), Origin::Crate)
    }

    /// Adds a component that is taken only if its digest is this one.
    #[must_use]
    pub fn pinned_tool(self, name: impl Into<String>, path: impl Into<PathBuf>, digest: Digest) -> Self {
        self.source(name, path, Trust { digest: Some(digest) }, Origin::File)
    }

    /// Sets what is allowed.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Sets the file that says what is allowed. Without it nothing is.
    #[must_use]
    pub fn policy_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.policy_file = Some(path.into());
        self
    }

    /// Sets the file that pins the tools, which must be there. The tools of a component that differs from its pin, or has
    /// none, are withheld: they are listed, but neither called nor offered to a planner. Without a lock every tool is taken as
    /// it is.
    #[must_use]
    pub fn lock_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.lock_file = Some(path.into());
        self
    }

    /// Sets the directory that keeps the log. Without it the log is in memory, and gone with the process.
    #[must_use]
    pub fn state(mut self, directory: impl Into<PathBuf>) -> Self {
        self.state = Some(directory.into());
        self
    }

    /// Gives the secret that rules of the policy call `name`. What it goes into is for them to say.
    #[must_use]
    pub fn secret(mut self, name: impl Into<String>, secret: Secret) -> Self {
        self.secrets = self.secrets.with(name, move || Ok(secret.clone()));
        self
    }

    /// Sets for whom runs and calls act.
    #[must_use]
    pub fn principal(mut self, principal: Principal) -> Self {
        self.principal = principal;
        self
    }

    /// Sets what a run may cost.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// Sets the bounds that hold for all calls together.
    #[must_use]
    pub fn sandbox(mut self, options: sandbox::Options) -> Self {
        self.sandbox = options;
        self
    }

    /// Sets the program that compiles components. Otherwise it is this one, where its `main` begins with
    /// [`helper_main`](crate::helper_main), else the `cofferdam` beside it or on the search path. What it writes is run as
    /// machine code, so one that is looked for counts only where it and its directory belong to this user or root and
    /// nobody else may write to them; one that is set here is believed. Without any, only components that are in the cache
    /// can be called.
    #[must_use]
    pub fn helper(mut self, helper: Helper) -> Self {
        self.helper = Some(helper);
        self
    }

    /// Sets the directory that keeps compiled components from one process to the next. It must be this user's alone, and
    /// is made if it is not there. Without it, each process compiles anew. The key of its seals lies in it too, unless
    /// `cache_key_dir` of the sandbox's options names another place: so it is no directory that a stranger may name.
    #[must_use]
    pub fn cache_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.cache_dir = Some(directory.into());
        self
    }

    /// Sets who plans goals in plain words.
    #[must_use]
    pub fn planner(mut self, planner: Arc<dyn Planner>) -> Self {
        self.planner = Some(planner);
        self
    }

    /// Sets what planners get to see.
    #[must_use]
    pub fn pack(mut self, pack: PackOptions) -> Self {
        self.pack = pack;
        self
    }

    /// Sets the source of time, ids and randomness.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Sets what runs calls, in place of the sandbox.
    #[must_use]
    pub fn runner(mut self, runner: Arc<dyn Runner>) -> Self {
        self.runner = Some(runner);
        self
    }

    /// Sets the log, in place of the one that [`HostBuilder::state`] names.
    #[must_use]
    pub fn event_log(mut self, log: Arc<dyn EventLog>) -> Self {
        self.log = Some(log);
        self
    }

    /// Sets who is told that a run waits for a person.
    #[must_use]
    pub fn notifier(mut self, notifier: Arc<dyn Notifier>) -> Self {
        self.notifier = Some(notifier);
        self
    }

    fn source(mut self, name: impl Into<String>, path: impl Into<PathBuf>, trust: Trust, origin: Origin) -> Self {
        let candidate = Candidate { name: name.into(), path: path.into() };
        self.tools.push(Source { candidate, trust, origin });
        self
    }

    /// Takes what a `cofferdam.toml` says. What is set after it goes before it.
    ///
    /// # Errors
    /// `data.config`, naming the file or the model that is wrong, or a key that is not where it should be.
    pub fn from_settings(settings: Settings) -> Result<Self, Failure> {
        let mut builder = Self {
            policy_file: settings.policy.clone(),
            lock: contracts::read_lock(&settings.lock)?,
            state: Some(settings.state.clone()),
            registry: settings.registry.clone(),
            sandbox: settings.sandbox.clone(),
            store: settings.store.clone(),
            budget: settings.budget.clone(),
            plan_limits: settings.plan.clone(),
            pack: settings.pack,
            principal: settings.principal.clone(),
            ..Self::default()
        };
        if builder.sandbox.cache_key_dir.is_none() {
            // The file may have come with code, and with a key that fits.
            builder.sandbox.cache_dir = None;
        }
        if let Some(models) = &settings.model {
            builder.planner = Some(model_planner(models)?);
        }
        if let Some(notify) = settings.notify {
            builder.notifier = Some(Arc::new(Teller::new(notify, settings.sandbox.network.ca_file.clone())));
        }
        for (name, source) in settings.secrets {
            let what = format!("secret `{name}`");
            builder.secrets = builder.secrets.with(name, move || source.read(&what));
        }
        for (name, source) in settings.tools {
            builder = match source {
                ToolSource::File { file, digest: None } => builder.tool(name, file),
                ToolSource::File { file, digest: Some(digest) } => builder.pinned_tool(name, file, digest),
                ToolSource::Built { file } => builder.built_tool(name, file),
                ToolSource::Crate { krate } => return Err(contracts::not_built(&name, &krate)),
            };
        }
        Ok(builder)
    }

    /// Makes the host: reads and verifies every component, opens the log. Compiles nothing yet.
    ///
    /// # Errors
    /// `load.*`, naming the component; `data.config`, naming the file, a secret that a rule names and nobody gives, or where
    /// this program is to be its own helper and cannot be; `host.storage`.
    pub fn build(self) -> Result<Host, Failure> {
        let clock = self.clock.clone().unwrap_or_else(|| Arc::new(SystemClock::default()));
        let policy = self.allowed()?;
        check_secrets(&policy, &self.secrets)?;
        let sandbox = self.sandboxed();
        let (catalog, pinned) = self.catalog()?;
        let log = match (self.log, &self.state) {
            (Some(log), _) => log,
            (None, Some(directory)) => Arc::new(SqliteLog::open(directory, self.store, clock.clone())?),
            (None, None) => Arc::new(MemoryLog::default()),
        };
        let runner = match self.runner {
            Some(runner) => runner,
            None => Arc::new(WasmRunner::with_secrets(&sandbox, self.secrets, clock.clone())?),
        };
        let owner = self.owner.unwrap_or_else(|| format!("process {}", std::process::id()));
        let parts = Parts {
            log,
            runner,
            catalog: Arc::new(catalog),
            policy: Arc::new(policy),
            clock,
            plan_limits: self.plan_limits,
            pack: self.pack,
            notifier: self.notifier,
            owner,
            upstreams: Arc::default(),
            planner_of: goal::planners(self.planner.clone()),
        };
        let inner = Inner {
            parts,
            principal: self.principal,
            budget: self.budget,
            model: self.planner,
            pinned,
            session: Session::default(),
        };
        Ok(Host(Arc::new(inner)))
    }

    /// The sandbox's options, with what has a place of its own here.
    fn sandboxed(&self) -> sandbox::Options {
        let mut options = self.sandbox.clone();
        options.helper = self.helper.clone().or(options.helper).or_else(config::helper);
        options.cache_dir = self.cache_dir.clone().or(options.cache_dir);
        options
    }

    /// Reads every component, and withholds those that are not what the lock pins.
    fn catalog(&self) -> Result<(Catalog, Pinned), Failure> {
        let read = |source: &Source| verify(source.candidate.clone(), &source.trust, &self.registry);
        let components = self.tools.iter().map(read).collect::<Result<Vec<Arc<VerifiedComponent>>, _>>()?;
        let mut catalog = Catalog::new(components.clone())?;
        let Some(lock) = self.pins()? else { return Ok((catalog, Pinned::default())) };
        let mut pinned = Pinned::default();
        for (source, component) in self.tools.iter().zip(&components) {
            let contract = component.contract();
            let state = lock.state(contract, source.origin);
            if let Some(why) = state.refusal(&contract.component) {
                catalog = catalog.withholding(&contract.component, &why);
            }
            pinned.insert(contract.component.clone(), state);
        }
        Ok((catalog, pinned))
    }

    fn pins(&self) -> Result<Option<Lock>, Failure> {
        let Some(path) = &self.lock_file else { return Ok(self.lock.clone()) };
        let absent = || {
            Failure::new(Kind::DataConfig, format!("read lock file {}: it is not there", path.display()))
                .hint("write one with `cofferdam lock`, or leave the lock out: tools are not pinned then")
        };
        contracts::read_lock(path)?.ok_or_else(absent).map(Some)
    }

    fn allowed(&self) -> Result<Policy, Failure> {
        match (&self.policy, &self.policy_file) {
            (Some(policy), _) => Ok(policy.clone()),
            (None, Some(path)) => read_policy(path),
            (None, None) => Ok(Policy::default()),
        }
    }
}

/// Every secret that a rule names has a place where it is found.
fn check_secrets(policy: &Policy, secrets: &Secrets) -> Result<(), Failure> {
    let mut named = policy.rules.iter().flat_map(|rule| rule.secrets.iter().map(move |secret| (rule, secret)));
    let Some((rule, secret)) = named.find(|(_, secret)| !secrets.has(&secret.name)) else { return Ok(()) };
    let message = format!("find secret `{}`, which rule `{}` of the policy names", secret.name, rule.name);
    Err(Failure::new(Kind::DataConfig, message)
        .hint(format!("write `{} = \"env:NAME\"` under `[secrets]` of cofferdam.toml", secret.name)))
}

/// Reads the policy file. Relative paths in it are taken from its own directory.
///
/// # Errors
/// `data.config`, naming the file and the place in it.
pub fn read_policy(path: &Path) -> Result<Policy, Failure> {
    let at = |failure: Failure| Failure { message: format!("{} (in {})", failure.message, path.display()), ..failure };
    let text = std::fs::read_to_string(path).map_err(|e| {
        Failure::new(Kind::DataConfig, format!("read policy file {}: {e}", path.display()))
            .hint("without one, leave `policy` out: nothing is allowed then")
    })?;
    let base = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let base = std::path::absolute(base).unwrap_or_else(|_| base.to_owned());
    Policy::parse(&text, &base).map_err(at)
}
