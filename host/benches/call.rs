//! What a call costs, beside the raw floor, in one run.
//!
//! `call`: arguments validated, a fresh instance, run, result validated, the call in the log (SQLite, WAL, FULL).
//! `raw`: the same component and engine configuration in wasmtime alone, with WASI, limiter, fuel and epochs, a typed
//! call, from before its store is made until after it is dropped.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use cofferdam::clock::SystemClock;
use cofferdam::host::{Helper, Host};
use cofferdam::policy::Policy;
use cofferdam::sandbox::{Options, raw_config};
use cofferdam::store::sqlite::{SqliteLog, SqliteOptions};
use criterion::Criterion;
use serde_json::json;
use tokio::runtime::Runtime;
use wasmtime::component::{Component, ComponentType, InstancePre, Lift, Linker, ResourceTable};
use wasmtime::{Engine, Store, StoreLimits, StoreLimitsBuilder};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

/// The most that a call may cost, as a multiple of the floor: what was measured on two idle cores, and a little room.
const RATIO_MAX: f64 = 6.0;

const TEXT: &str = "The sea is calm to-night. The tide is full, the moon lies fair.";

const POLICY: &str = "version = 0\n[[rule]]\nname = 'compute'\nwhy = 'It touches nothing.'\nallow = ['text.*']\n";

fn main() {
    let folder = tempfile::tempdir().expect("a directory for the bench");
    let mut criterion = Criterion::default().output_directory(folder.path()).configure_from_args();
    let runtime = Runtime::new().expect("a runtime");
    call(&mut criterion, &runtime, folder.path());
    raw(&mut criterion, &runtime);
    criterion.final_summary();
    summarise(folder.path());
}

fn call(criterion: &mut Criterion, runtime: &Runtime, folder: &Path) {
    let clock = Arc::new(SystemClock::default());
    let log = SqliteLog::open(&folder.join("state"), SqliteOptions::default(), clock).expect("the log opens");
    let policy = Policy::parse(POLICY, folder).expect("the policy reads");
    let host =
        Host::builder().event_log(Arc::new(log)).policy(policy).tool("text", cofferdam_guests::component("text"));
    let helper = Helper::Path(env!("CARGO_BIN_EXE_cofferdam").into());
    let host = host.helper(helper).build().expect("the host is made");
    criterion.bench_function("call", |bench| {
        bench.to_async(runtime).iter(|| async {
            let report = host.call("text.stats", json!({ "text": TEXT })).await.expect("the call starts");
            black_box(report.outcome.result.expect("the call succeeds"))
        });
    });
    runtime.block_on(host.close()).expect("the log is written");
}

#[derive(ComponentType, Lift)]
#[component(record)]
#[expect(dead_code, reason = "lifted, as a typed host would")]
struct Stats {
    words: u64,
    lines: u64,
    sentences: u64,
    characters: u64,
    bytes: u64,
}

struct State {
    wasi: WasiCtx,
    table: ResourceTable,
    limits: StoreLimits,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

fn raw(criterion: &mut Criterion, runtime: &Runtime) {
    let engine = Engine::new(&raw_config(&Options::default())).expect("the engine is made");
    let component = Component::from_file(&engine, cofferdam_guests::component("text")).expect("the component compiles");
    let mut linker = Linker::new(&engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).expect("wasi links");
    let pre = linker.instantiate_pre(&component).expect("the component links");
    criterion.bench_function("raw", |bench| {
        bench
            .to_async(runtime)
            .iter(|| async { black_box(one(&engine, &component, &pre).await.expect("the call succeeds")) });
    });
}

async fn one(engine: &Engine, component: &Component, pre: &InstancePre<State>) -> wasmtime::Result<Stats> {
    let limits = StoreLimitsBuilder::new().memory_size(64 << 20).build();
    let state = State { wasi: WasiCtx::builder().build(), table: ResourceTable::new(), limits };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.limits);
    store.set_fuel(20_000_000_000)?;
    store.set_epoch_deadline(1);
    store.epoch_deadline_async_yield_and_update(1);
    let instance = pre.instantiate_async(&mut store).await?;
    let interface = component.get_export_index(None, "tools:text/text@0.1.0").expect("the interface is exported");
    let stats = component.get_export_index(Some(&interface), "stats").expect("the function is exported");
    let stats = instance.get_typed_func::<(&str,), (Stats,)>(&mut store, stats)?;
    Ok(stats.call_async(&mut store, (TEXT,)).await?.0)
}

/// Prints what was measured, one line a quantity. Under `cargo test` each ran once, and there is nothing to print.
fn summarise(folder: &Path) {
    let median_us = |name: &str| {
        let text = fs::read_to_string(folder.join(name).join("new/estimates.json")).ok()?;
        let estimates: serde_json::Value = serde_json::from_str(&text).ok()?;
        Some(estimates["median"]["point_estimate"].as_f64()? / 1_000.0)
    };
    let (Some(call), Some(raw)) = (median_us("call"), median_us("raw")) else { return };
    println!("raw = {raw:.1} us (bound none)");
    println!("call = {call:.1} us (bound none)");
    println!("call_over_raw = {:.2} times (bound {RATIO_MAX})", call / raw);
}
