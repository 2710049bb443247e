//! The wasmtime engine: what it accepts, how much it reserves, and the clock that interrupts guests.

use std::time::Duration;

use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::domain::{Failure, Kind};
use crate::sandbox::NetworkOptions;

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

/// Core instances of one component: a plain Rust guest has three, and shims around them.
const CORE_INSTANCES_PER_COMPONENT_MAX: u32 = 20;

/// Memories of one component: its own, and one for an adapter.
const MEMORIES_PER_COMPONENT_MAX: u32 = 2;

/// Tables of one component.
const TABLES_PER_COMPONENT_MAX: u32 = 8;

/// Elements that a table slot reserves; a call's own limit is lower by default.
const TABLE_ELEMENTS_CEILING: usize = 1_000_000;

/// Bytes of each memory slot kept warm between calls: saves page faults for small tools.
const MEMORY_BYTES_KEPT: usize = 1 << 20;

/// Makes the engine and starts its ticker.
///
/// # Errors
/// `host.bug` where this machine cannot hold what `options` reserve.
pub(super) fn engine(options: &Options) -> Result<Engine, Failure> {
    let cannot = |e: wasmtime::Error| Failure::new(Kind::HostBug, "make the sandbox's engine").detail(format!("{e:#}"));
    let engine = Engine::new(&config(options)).map_err(cannot)?;
    tick(&engine).map_err(|e| Failure::new(Kind::HostBug, "start the sandbox's ticker").detail(e))?;
    Ok(engine)
}

/// Returns wasmtime's configuration of guests; benches measure their raw floor with the same.
pub fn config(options: &Options) -> Config {
    let mut config = Config::new();
    config.consume_fuel(true).epoch_interruption(true);
    config.max_wasm_stack(WASM_STACK_BYTES_MAX).async_stack_size(FIBER_STACK_BYTES);
    // What no component here needs is off: less to get wrong.
    config.wasm_memory64(false).wasm_multi_memory(false);
    config.wasm_relaxed_simd(false).wasm_custom_page_sizes(false).wasm_wide_arithmetic(false);
    config.concurrency_support(false);
    config.memory_init_cow(true);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(options)));
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
