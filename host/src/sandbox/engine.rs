//! The wasmtime engines: what they accept, how much they reserve, and the clock that interrupts guests.
//!
//! The one that runs guests cannot compile. The one that compiles lives in a child process, and runs nothing.

use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::time::Duration;

use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::domain::{Digest, Failure, Kind};
use crate::sandbox::{CompileLimits, Helper, NetworkOptions};

/// Bounds that hold for all calls together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Calls that hold an instance at one time: each reserves memory slots. A call past it waits, its deadline running.
    pub calls_in_flight_max: u32,
    /// Of these, calls of one component: a tool that sleeps leaves places to others.
    pub calls_per_component_max: u32,
    /// Guests that use a processor at one time; 0 means as many as there are.
    pub guests_running_max: usize,
    /// The most memory that any rule may grant to one call, in bytes.
    pub memory_bytes_ceiling: usize,
    /// The program that compiles components. What it writes is run as machine code. Without one, only what is in the cache
    /// loads; a host that is built with [`Host::builder`](crate::host::Host::builder) looks for one then, see
    /// [`HostBuilder::helper`](crate::host::HostBuilder::helper).
    pub helper: Option<Helper>,
    /// The directory that keeps compiled components, for this user alone. Without one, each process compiles anew.
    pub cache_dir: Option<PathBuf>,
    /// The directory of the key that seals them, for this user alone. Without one, the key lies in `cache_dir`: whoever
    /// takes `cache_dir` from a file of somebody else chooses this one himself.
    pub cache_key_dir: Option<PathBuf>,
    /// What one compilation may use.
    pub compile: CompileLimits,
    /// How requests leave this machine.
    pub network: NetworkOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            calls_in_flight_max: 64,
            calls_per_component_max: 48,
            guests_running_max: 0,
            memory_bytes_ceiling: 1 << 30,
            helper: None,
            cache_dir: None,
            cache_key_dir: None,
            compile: CompileLimits::default(),
            network: NetworkOptions::default(),
        }
    }
}

/// Period of the interrupts: a spinning guest gives way this often, so a deadline is met within it.
const TICK: Duration = Duration::from_millis(10);

/// Wasm stack of a guest, in bytes: deep recursion of honest programs fits, and ends well before the host's own stack.
const WASM_STACK_BYTES_MAX: usize = 512 << 10;

/// Stack of a fiber, in bytes: the guest's and that of the host functions it calls.
const FIBER_STACK_BYTES: usize = 2 << 20;

/// Core instances of one component: a plain Rust guest has three and QuickJS eight; CPython has 38, as each of its
/// libraries is one.
pub(super) const CORE_INSTANCES_PER_COMPONENT_MAX: u32 = 64;

/// Memories of one component: its own, and one for an adapter.
const MEMORIES_PER_COMPONENT_MAX: u32 = 2;

/// Tables of one component.
const TABLES_PER_COMPONENT_MAX: u32 = 8;

/// Elements that a table slot reserves; a call's own limit is lower by default.
const TABLE_ELEMENTS_CEILING: usize = 1_000_000;

/// Bytes of each memory slot kept warm between calls: saves page faults for small tools.
const MEMORY_BYTES_KEPT: usize = 1 << 20;

/// Stands for how components are compiled here. Raised when that changes in a way that wasmtime's own settings do not
/// show, so that what was compiled before is compiled again.
const COMPILED_AS: u32 = 1;

/// Makes the engine of guests and starts its ticker. It cannot compile.
///
/// # Errors
/// `host.bug` where this machine cannot hold what `options` reserve.
pub(super) fn engine(options: &Options) -> Result<Engine, Failure> {
    let engine = made(config(options).enable_compiler(false))?;
    tick(&engine).map_err(|e| Failure::new(Kind::HostBug, "start the sandbox's ticker").detail(e))?;
    Ok(engine)
}

/// Returns wasmtime's configuration of guests, with a compiler; benches measure their raw floor with it.
pub fn config(options: &Options) -> Config {
    let mut config = guests();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(options)));
    config
}

/// Makes the engine that compiles. It has no pool: the child has no address space for one.
///
/// # Errors
/// `host.bug`.
pub(super) fn compiling() -> Result<Engine, Failure> {
    made(&guests())
}

/// Makes an engine that can neither compile nor run many: it only tells which [`identity`] this program's engines have.
///
/// # Errors
/// `host.bug`.
pub(super) fn unpooled() -> Result<Engine, Failure> {
    made(guests().enable_compiler(false))
}

/// Returns what code must be compiled for to run in `engine`: its settings, the version of wasmtime and the machine. That
/// it suits the very processor is checked when it is loaded.
pub(super) fn identity(engine: &Engine) -> Digest {
    let mut settings = Settings(Vec::new());
    engine.precompile_compatibility_hash().hash(&mut settings);
    let machine = [std::env::consts::ARCH, std::env::consts::OS].join("-");
    Digest::of_parts(&[&COMPILED_AS.to_le_bytes(), machine.as_bytes(), &settings.0])
}

/// Gathers what is hashed, for a digest that processes can share.
struct Settings(Vec<u8>);

impl Hasher for Settings {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        // Nobody asks: the digest is made of the bytes.
        0
    }
}

fn made(config: &Config) -> Result<Engine, Failure> {
    Engine::new(config).map_err(|e| Failure::new(Kind::HostBug, "make the sandbox's engine").detail(format!("{e:#}")))
}

/// What decides how code is compiled, and is the same for every engine.
fn guests() -> Config {
    let mut config = Config::new();
    config.consume_fuel(true).epoch_interruption(true);
    config.max_wasm_stack(WASM_STACK_BYTES_MAX).async_stack_size(FIBER_STACK_BYTES);
    // What no component here needs is off: less to get wrong.
    config.wasm_memory64(false);
    config.wasm_relaxed_simd(false).wasm_custom_page_sizes(false).wasm_wide_arithmetic(false);
    config.concurrency_support(false);
    // No guest may use it, which `registry` sees to; wasmtime itself does, to carry values between composed components.
    config.wasm_multi_memory(true);
    config.memory_init_cow(true);
    config
}

fn pool(options: &Options) -> PoolingAllocationConfig {
    let calls = options.calls_in_flight_max;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(calls)
        .total_core_instances(calls.saturating_mul(CORE_INSTANCES_PER_COMPONENT_MAX))
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT_MAX)
        .total_memories(calls.saturating_mul(MEMORIES_PER_COMPONENT_MAX))
        .max_memories_per_component(MEMORIES_PER_COMPONENT_MAX)
        .max_memory_size(options.memory_bytes_ceiling)
        .total_tables(calls.saturating_mul(TABLES_PER_COMPONENT_MAX))
        .max_tables_per_component(TABLES_PER_COMPONENT_MAX)
        .max_tables_per_module(TABLES_PER_COMPONENT_MAX)
        .table_elements(TABLE_ELEMENTS_CEILING)
        .total_stacks(calls)
        .linear_memory_keep_resident(MEMORY_BYTES_KEPT);
    pool
}

/// Moves the epoch on from a thread of its own, until the engine is gone.
fn tick(engine: &Engine) -> std::io::Result<()> {
    let engine = engine.weak();
    std::thread::Builder::new()
        .name("cofferdam-tick".into())
        .spawn(move || {
            while let Some(engine) = engine.upgrade() {
                engine.increment_epoch();
                drop(engine);
                std::thread::sleep(TICK);
            }
        })
        .map(drop)
}

#[cfg(test)]
mod tests {
    use wasmtime::component::Component;

    use super::*;

    #[test]
    fn the_engine_that_runs_guests_cannot_compile() {
        let component = wat::parse_str("(component (core module (func)))").unwrap();
        let engine = engine(&Options { calls_in_flight_max: 1, ..Options::default() }).unwrap();
        assert!(Component::new(&engine, &component).is_err() && engine.precompile_component(&component).is_err());
        assert!(Component::new(&compiling().unwrap(), &component).is_ok(), "it is the engine, not the component");
    }

    #[test]
    fn an_engine_is_told_from_others_by_what_it_compiles_for() {
        let options = Options { calls_in_flight_max: 1, ..Options::default() };
        assert_eq!(identity(&engine(&options).unwrap()), identity(&unpooled().unwrap()));
        let other = made(guests().enable_compiler(false).consume_fuel(false)).unwrap();
        assert_ne!(identity(&other), identity(&unpooled().unwrap()));
    }
}
