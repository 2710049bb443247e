//! From a component's bytes to machine code that runs: out of the cache, or made by a child process.
//!
//! Promises: a component is never compiled in this process, whose engine cannot; what compiles it is a child with bounds
//! of its own, which may die without harm; what is loaded came from that child or bears the seal of this host's cache.
//! Leaves to others: which components have been loaded (`run`), and what may be compiled at all (`registry`).

mod artefact;
mod cache;
mod child;
mod frame;
mod helper;
mod limits;
mod loading;

use std::path::PathBuf;
use std::sync::Arc;

use rustix::io::Errno;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::Component;
use wasmtime::{Engine, OutOfMemory};

use crate::clock::Clock;
use crate::domain::{Digest, Failure, Kind};
use crate::registry::VerifiedTool;
use crate::sandbox::engine::{Options, identity};

use artefact::Artefact;
use cache::Cache;

pub use child::helper_main;
pub use helper::Helper;
pub use limits::CompileLimits;
pub(super) use loading::Loading;
use loading::Wanted;

/// Children that compile at one time, for each host: a bomb that uses up its bounds leaves a place to others, and two
/// times the memory of one is what a small machine can lend.
const COMPILES_AT_ONCE_MAX: usize = 2;

/// Files of the cache that are read at one time, for each host: each is in memory twice, as its bytes and as code.
const READS_AT_ONCE_MAX: usize = 2;

/// Why there is no machine code.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) failure: Failure,
    pub(super) lasts: Lasts,
}

/// How long a failure is believed without another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lasts {
    /// It lies in the component: another attempt would end as this one did.
    Always,
    /// It may lie in the machine, and it took all that an attempt may take to learn it.
    AWhile,
    /// It lies in the machine, or in how this host was set up.
    Not,
}

impl Refusal {
    fn lasting(failure: Failure) -> Self {
        Self { failure, lasts: Lasts::Always }
    }

    fn dear(failure: Failure) -> Self {
        Self { failure, lasts: Lasts::AWhile }
    }

    fn passing(failure: Failure) -> Self {
        Self { failure, lasts: Lasts::Not }
    }

    /// Nobody reads it: whoever asked is gone.
    fn unwanted() -> Self {
        Self::passing(Failure::new(Kind::HostCancelled, "load a component: nobody waits for it"))
    }
}

/// Turns components into code.
pub(super) struct Compiler {
    engine: Engine,
    identity: Digest,
    /// The program that compiles; without one only what is in the cache loads.
    program: Option<PathBuf>,
    limits: CompileLimits,
    cache: Option<Arc<Cache>>,
    compiles: Arc<Semaphore>,
    reads: Arc<Semaphore>,
}

impl Compiler {
    /// Makes one for `engine`. A cache that cannot be trusted is left alone, with a warning.
    ///
    /// # Errors
    /// `data.config` where the helper is this program and it never called [`helper_main`].
    pub(super) fn new(options: &Options, engine: &Engine, clock: Arc<dyn Clock>) -> Result<Self, Failure> {
        let program = options.helper.as_ref().map(Helper::program).transpose()?;
        let key_dir = options.cache_key_dir.as_deref();
        let open = |directory: &PathBuf| match Cache::open(directory, key_dir, clock.clone()) {
            Ok(cache) => Some(Arc::new(cache)),
            Err(why) => {
                tracing::warn!(directory = %directory.display(), why, "compiled components are not kept");
                None
            }
        };
        Ok(Self {
            engine: engine.clone(),
            identity: identity(engine),
            program,
            limits: options.compile.clone(),
            cache: options.cache_dir.as_ref().and_then(open),
            compiles: Arc::new(Semaphore::new(COMPILES_AT_ONCE_MAX)),
            reads: Arc::new(Semaphore::new(READS_AT_ONCE_MAX)),
        })
    }

    /// Returns the code of `tool`'s component, unless it is no longer `wanted` when its turn comes. Dropping the future
    /// ends the child.
    pub(super) async fn component(&self, tool: &VerifiedTool, wanted: &Wanted) -> Result<Component, Refusal> {
        // Whatever this process holds in memory is what was hashed, is compiled, and runs: no file is read twice.
        let key = Digest::of_parts(&[tool.digest().as_bytes(), self.identity.as_bytes()]);
        if let Some(component) = self.cached(key, wanted).await? {
            return Ok(component);
        }
        let place = turn(&self.compiles, wanted).await?;
        let artefact = self.compiled(tool).await?;
        let (engine, cache) = (self.engine.clone(), self.cache.clone());
        let name = tool.contract().component.clone();
        blocking(move || {
            // Its own until the code is kept and its bytes are gone, even where nobody waits any more.
            let _place = place;
            let component = artefact.load(&engine).map_err(|e| not_loaded(&name, &e))?;
            if let Some(cache) = cache {
                cache.put(&key, &artefact);
            }
            Ok(component)
        })
        .await
    }

    /// Loads what is kept under `key`. What is damaged, foreign or of another engine counts as absent.
    async fn cached(&self, key: Digest, wanted: &Wanted) -> Result<Option<Component>, Refusal> {
        let Some(cache) = self.cache.clone() else { return Ok(None) };
        let place = turn(&self.reads, wanted).await?;
        let engine = self.engine.clone();
        blocking(move || {
            let _place = place;
            let Some(artefact) = cache.get(&key) else { return Ok(None) };
            let loaded = artefact.load(&engine);
            if let Err(error) = &loaded {
                tracing::warn!(why = %error, "a compiled component does not fit this engine, and is compiled again");
            }
            Ok(loaded.ok())
        })
        .await
    }

    async fn compiled(&self, tool: &VerifiedTool) -> Result<Artefact, Refusal> {
        let name = &tool.contract().component;
        let program = self.program.as_deref().ok_or_else(|| Refusal::passing(no_helper(name)))?;
        helper::compile(program, name, self.identity, tool.bytes(), &self.limits).await
    }
}

/// What a child makes of bytes that nobody measured: the size of the machine code. For tests of the child's bounds, as
/// `registry` refuses most of what would meet them; what comes out is never loaded.
///
/// # Errors
/// As compiling a tool does: `load.limit` naming the bound, `load.invalid`, `data.config`.
pub async fn raw_compile(options: &Options, component: &[u8]) -> Result<usize, Failure> {
    let program = options.helper.as_ref().ok_or_else(|| no_helper("raw"))?.program()?;
    let identity = identity(&crate::sandbox::engine::unpooled()?);
    let artefact = helper::compile(&program, "raw", identity, component, &options.compile).await;
    artefact.map(|artefact| artefact.bytes().len()).map_err(|refusal| refusal.failure)
}

/// Waits for a place. Whoever has waited for nobody gives it back.
async fn turn(places: &Arc<Semaphore>, wanted: &Wanted) -> Result<OwnedSemaphorePermit, Refusal> {
    let place = places.clone().acquire_owned().await;
    let place = place.map_err(|e| Refusal::passing(bug("wait to load a component").detail(e)))?;
    if wanted.is_wanted() { Ok(place) } else { Err(Refusal::unwanted()) }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Refusal> + Send + 'static) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(Refusal::passing(bug("load a compiled component").detail(e))))
}

fn bug(what: &str) -> Failure {
    Failure::new(Kind::HostBug, what)
}

fn no_helper(component: &str) -> Failure {
    Failure::new(
        Kind::DataConfig,
        format!("compile `{component}`: it is not in the cache, and there is no helper to compile it"),
    )
    .hint(format!("{}, or choose one with `Host::builder().helper(…)`", helper::LINE))
}

/// What the pool reserves for one component is checked when it is loaded. What the machine lacked is not the component's.
fn not_loaded(component: &str, error: &wasmtime::Error) -> Refusal {
    let (cause, all) = (error.root_cause(), format!("{error:#}"));
    // It has no type in wasmtime 48; tests hold the text.
    let kind = if all.contains("pooling allocator") { Kind::LoadLimit } else { Kind::LoadInvalid };
    let failure = Failure::new(kind, format!("load the compiled `{component}`: {cause}"))
        .hint("build it with current tools")
        .detail(all);
    if is_of_machine(error) { Refusal::passing(failure) } else { Refusal::lasting(failure) }
}

/// Whether something ran out, or the system refused it: memory to map the code into, most likely.
fn is_of_machine(error: &wasmtime::Error) -> bool {
    error.chain().any(|cause| cause.is::<OutOfMemory>() || cause.is::<std::io::Error>() || cause.is::<Errno>())
}

#[cfg(test)]
mod tests {
    use wasmtime::Config;

    use crate::clock::SystemClock;
    use crate::sandbox::engine::{compiling, unpooled};

    use super::*;

    /// Code of a small component for an engine with `config`.
    fn code(engine: &Engine) -> Artefact {
        let component = wat::parse_str("(component (core module (func)))").unwrap();
        Artefact::of_child(engine.precompile_component(&component).unwrap())
    }

    #[tokio::test]
    async fn code_of_another_engine_is_ignored_though_it_bears_our_seal() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { cache_dir: Some(folder.path().join("cache")), ..Options::default() };
        let compiler = Compiler::new(&options, &unpooled().unwrap(), Arc::new(SystemClock::default())).unwrap();
        let cache = compiler.cache.clone().unwrap();
        let key = Digest::of(b"a component");
        let (_waits, wanted) = Wanted::new();
        let foreign = Engine::new(Config::new().epoch_interruption(true)).unwrap();
        cache.put(&key, &code(&foreign));
        assert!(compiler.cached(key, &wanted).await.unwrap().is_none());
        cache.put(&key, &code(&compiling().unwrap()));
        assert!(compiler.cached(key, &wanted).await.unwrap().is_some(), "it was the engine");
    }

    #[test]
    fn what_the_machine_lacked_is_not_held_against_the_component() {
        let io = wasmtime::Error::from(std::io::Error::from(std::io::ErrorKind::OutOfMemory)).context("map the code");
        let errno = wasmtime::Error::from(Errno::NOMEM).context("protect the code");
        for (error, expected) in
            [(io, Lasts::Not), (errno, Lasts::Not), (wasmtime::Error::msg("damaged"), Lasts::Always)]
        {
            assert_eq!(not_loaded("x", &error).lasts, expected, "{error:#}");
        }
    }

    #[tokio::test]
    async fn a_place_that_nobody_waits_for_goes_to_the_next() {
        let places = Arc::new(Semaphore::new(1));
        let (waits, wanted) = Wanted::new();
        drop(waits);
        assert!(turn(&places, &wanted).await.is_err_and(|refusal| refusal.lasts == Lasts::Not));
        assert_eq!(places.available_permits(), 1);
    }
}
