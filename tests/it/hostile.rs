//! Hostile guests: nothing gets out, nothing hangs, and each is stopped by the limit that is there for it.
//!
//! Tests bear the identifiers of the catalogue in `docs/numbers.md`. One harness runs them all, each in a process of its
//! own (`alone`). While the guest runs, a well-behaved call runs beside it and the host's memory is watched; after it
//! another one does. Then the mutation: the one setting that stopped the guest is taken away, and the end must change, or
//! the guest must go on for five times its deadline. A limit that nothing depends on is not a limit.

use std::sync::Arc;
use std::time::Duration;

use cofferdam::clock::{Clock, SystemClock};
use cofferdam::domain::{Json, Kind, Outcome};
use cofferdam::policy::{Decision, RunGrant, authorize};
use cofferdam::registry::{Options as Reading, VerifiedTool, read};
use cofferdam::sandbox::{NoLink, Runner, WasmRunner};
use serde_json::json;

use crate::alone::{Held, Watch, canary_port, cases, take_reached};
use crate::guest::{CANARY, Rule, assembled, call, kind, new_runner, pause, runner, step, tool, tool_of};

/// The deadline of hostile guests.
pub const DEADLINE_MS: u64 = 400;

/// How late a call may end after its deadline: a tick of the epoch, and a loaded machine.
const LATE_MS: u64 = 250;

/// The deadline of the well-behaved neighbour.
pub const NEIGHBOUR_MS: u64 = 2_000;

/// What reading a file may take, whatever stands in it: the file itself, decoded.
const READING_BYTES: u64 = 64 << 20;

cases![
    a1_loop_in_call,
    a2_loop_in_start,
    a4_sleep_for_an_hour,
    a5_as_many_sleepers_as_there_are_places,
    a6_polls_nothing,
    a7_host_calls_in_a_loop,
    a8_fills_memory_in_a_loop,
    a17_traps,
    b1_memory_grows_to_its_end,
    b2_memory_starts_too_large,
    b3_many_memories,
    b4_tables_grow_to_their_end,
    b5_instances_without_end,
    b6_recursion_without_end,
    b9_holds_handles_without_end,
    b10_passes_too_much_to_the_host,
    b12_returns_too_much,
    b13_returns_text_outside_its_memory,
    c1_damaged_files,
    c2_other_kinds_of_webassembly,
    c8_imports_that_nobody_gives,
    c15_cannot_tell_one_call_from_the_next,
    d1_a_million_log_lines,
    f4_the_listener_on_loopback_is_reached_by_a_grant_alone,
    d1_one_giant_log_line,
];

/// A guest and what should stop it.
pub struct Case {
    pub tool: VerifiedTool,
    pub args: Json,
    pub rule: Rule,
    pub ends: Kind,
    pub mutation: Mutation,
}

/// What is taken away, so that the end must change.
pub enum Mutation {
    /// A limit that the policy sets.
    Limit(&'static str),
    /// The attack: nothing that an operator could set stops it, so the same guest without it must pass.
    Attack(VerifiedTool),
}

impl Case {
    /// A component whose function `run` does it.
    pub fn new(wat: &str, ends: Kind, mutation: Mutation) -> Self {
        Self {
            tool: tool_of(wat, "run"),
            args: json!({}),
            rule: Rule::default().limit("wall_ms_max", DEADLINE_MS),
            ends,
            mutation,
        }
    }

    pub fn limit(self, name: &'static str, value: u64) -> Self {
        Self { rule: self.rule.limit(name, value), ..self }
    }

    pub fn gives(self, capability: &'static str) -> Self {
        Self { rule: self.rule.gives(capability), ..self }
    }
}

/// Runs a case, its neighbours and its mutation.
pub async fn stopped(case: Case) -> Outcome {
    prepared(&[&case.tool]).await;
    let before = Held::now();
    let watch = Watch::start();
    let (outcome, ()) = tokio::join!(kept(&case.tool, &case.args, &case.rule), neighbour());
    watch.within(case.rule.memory_bytes_max());
    before.comes_back().await;
    assert!(outcome.usage.input_bytes > 0, "there is a receipt: {:?}", outcome.usage);
    let failure = outcome.result.as_ref().expect_err("the guest is stopped");
    assert_eq!((failure.kind, failure.kind.short()), (case.ends, case.ends.short()), "{failure:?}");
    tells_nothing(&outcome);
    neighbour().await;
    let mutated = match &case.mutation {
        Mutation::Limit(name) => bounded(&case.tool, &case.args, &case.rule.clone().unlimited(name)).await,
        Mutation::Attack(harmless) => bounded(harmless, &case.args, &case.rule).await,
    };
    let ends = mutated.as_ref().map(kind);
    assert_ne!(ends, Some(Some(case.ends)), "without its limit the guest ends as with it");
    assert!(
        !matches!(case.mutation, Mutation::Attack(_)) || ends == Some(None),
        "without the attack it passes: {mutated:?}"
    );
    neighbour().await;
    outcome
}

pub async fn prepared(tools: &[&VerifiedTool]) {
    for tool in tools.iter().copied().chain([&tool("text.stats")]) {
        runner().prepare(tool).await.expect("it compiles");
    }
}

/// Runs a call that keeps its deadline and its memory.
pub async fn kept(tool: &VerifiedTool, args: &Json, rule: &Rule) -> Outcome {
    let clock = SystemClock::default();
    let call = call(tool, args, rule);
    let limits = call.grant().limits.clone();
    let outcome = runner().run(call, Arc::new(NoLink)).await;
    let took = clock.monotonic_ms();
    assert!(took <= limits.wall_ms_max.saturating_add(LATE_MS), "it took {took} ms");
    assert!(outcome.usage.memory_bytes_peak <= limits.memory_bytes_max, "{:?}", outcome.usage);
    outcome
}

/// Runs a call for five times the deadline, and stops it then.
pub async fn bounded(tool: &VerifiedTool, args: &Json, rule: &Rule) -> Option<Outcome> {
    let running = runner().run(call(tool, args, rule), Arc::new(NoLink));
    tokio::time::timeout(Duration::from_millis(5 * DEADLINE_MS), running).await.ok()
}

/// A good call: it ends well, and in its own time.
pub async fn neighbour() {
    neighbour_on(runner()).await;
}

pub async fn neighbour_on(runner: &WasmRunner) {
    let rule = Rule::default().limit("wall_ms_max", NEIGHBOUR_MS);
    let outcome = runner.run(call(&tool("text.stats"), &json!({"text": "still here"}), &rule), Arc::new(NoLink)).await;
    assert_eq!(kind(&outcome), None, "{outcome:?}");
    assert_eq!(outcome.result.expect("it went well")["words"], json!(2));
}

/// What a caller sees names nothing of this machine, and holds no secret.
#[track_caller]
pub fn tells_nothing(outcome: &Outcome) {
    let failure = outcome.result.as_ref().err().map(|f| format!("{} {:?}", f.message, f.hint));
    let seen = format!("{failure:?} {:?} {:?}", outcome.log, outcome.denials);
    let (home, temporary) = (env!("CARGO_MANIFEST_DIR"), std::env::temp_dir());
    for secret in [CANARY, home, &temporary.display().to_string(), ".cargo", "src/"] {
        assert!(!seen.contains(secret), "`{secret}` in {seen}");
    }
}

/// A component with one core module, which exports the function `run`.
pub fn guest(core: &str) -> String {
    returning("", core)
}

/// The same with a result. The module's memory is exported as `memory`.
pub fn returning(result: &str, core: &str) -> String {
    let memory = if result.is_empty() { "" } else { "(memory $i \"memory\")" };
    format!(
        "(component (core module $m {core}) (core instance $i (instantiate $m))
           (func (export \"run\") {result} (canon lift (core func $i \"run\") {memory})))"
    )
}

pub const LOOP: &str = "(func (export \"run\") (loop br 0))";

async fn a1_loop_in_call() {
    stopped(Case::new(&guest(LOOP), Kind::ToolDeadline, Mutation::Limit("wall_ms_max"))).await;
    let outcome =
        stopped(Case::new(&guest(LOOP), Kind::ToolFuel, Mutation::Limit("fuel")).limit("fuel", 1_000_000)).await;
    assert_eq!(outcome.usage.fuel, 1_000_000);
}

async fn a2_loop_in_start() {
    let core = "(func $spin (loop br 0)) (start $spin) (func (export \"run\"))";
    stopped(Case::new(&guest(core), Kind::ToolDeadline, Mutation::Limit("wall_ms_max"))).await;
    stopped(Case::new(&guest(core), Kind::ToolFuel, Mutation::Limit("fuel")).limit("fuel", 1_000_000)).await;
}

async fn a4_sleep_for_an_hour() {
    let case = Case::new(&guest(LOOP), Kind::ToolDeadline, Mutation::Limit("wall_ms_max"));
    let outcome = stopped(Case { tool: tool("probe.sleep"), args: json!({"ms": 3_600_000}), ..case }).await;
    assert!(outcome.usage.wall_ms >= DEADLINE_MS, "{:?}", outcome.usage);
}

async fn a5_as_many_sleepers_as_there_are_places() {
    let runner = Arc::new(new_runner());
    runner.prepare(&tool("text.stats")).await.expect("it compiles");
    let mut sleepers = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let sleep = call(
            &tool("probe.sleep"),
            &json!({"ms": 3_600_000}),
            &Rule::default().limit("wall_ms_max", NEIGHBOUR_MS + 500),
        );
        let runner = runner.clone();
        sleepers.spawn(async move { runner.run(sleep, Arc::new(NoLink)).await });
    }
    pause(300).await;
    for _ in 0..10 {
        neighbour_on(&runner).await;
    }
    while let Some(ended) = sleepers.join_next().await {
        assert_eq!(kind(&ended.expect("it ends")), Some(Kind::ToolDeadline));
    }
}

async fn a6_polls_nothing() {
    let poll = |count: u32| {
        format!(
            r#"(component
              (import "wasi:io/poll@0.2.0" (instance $poll
                (export "pollable" (type $pollable (sub resource)))
                (type $list (list (borrow $pollable)))
                (export "poll" (func (param "in" $list) (result (list u32))))))
              (core module $libc
                (memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 64)))
              (core instance $libc (instantiate $libc))
              (core func $poll (canon lower (func $poll "poll") (memory $libc "memory") (realloc (func $libc "realloc"))))
              (core module $m
                (import "h" "poll" (func $poll (param i32 i32 i32)))
                (func (export "run")
                  (if (i32.const {count}) (then (call $poll (i32.const 0) (i32.const 0) (i32.const 32))))))
              (core instance $h (export "poll" (func $poll)))
              (core instance $i (instantiate $m (with "h" (instance $h))))
              (func (export "run") (canon lift (core func $i "run"))))"#
        )
    };
    let harmless = Mutation::Attack(tool_of(&poll(0), "run"));
    stopped(Case::new(&poll(1), Kind::ToolTrap, harmless)).await;
}

async fn a7_host_calls_in_a_loop() {
    let case = Case::new(&logging(2_000, 1), Kind::ToolHostCalls, Mutation::Limit("host_calls_max"));
    let outcome = stopped(case.gives("log").limit("host_calls_max", 1_000)).await;
    assert_eq!(outcome.usage.host_calls, 1_001);
}

async fn a8_fills_memory_in_a_loop() {
    let core = "(memory 512) (func (export \"run\") (loop (memory.fill (i32.const 0) (i32.const 1) (i32.const 33554432)) br 0))";
    stopped(Case::new(&guest(core), Kind::ToolFuel, Mutation::Limit("fuel")).limit("fuel", 100_000_000)).await;
}

async fn a17_traps() {
    let faults = [
        ("(func (export \"run\") (drop (i32.div_s (i32.const 1) (i32.const 0))))", "divide by zero"),
        ("(func (export \"run\") unreachable)", "unreachable"),
        ("(memory 1) (func (export \"run\") (drop (i32.load (i32.const 65536))))", "out of bounds memory access"),
        (
            "(table 1 funcref) (elem (i32.const 0) $f) (func $f (param i32)) (func (export \"run\") (call_indirect (i32.const 0)))",
            "indirect call type mismatch",
        ),
    ];
    for (core, cause) in faults {
        let harmless = core.replace("unreachable)", ")").replace("const 0))))", "const 1))))").replace("65536", "0");
        let harmless = harmless.replace("(param i32)", "");
        let harmless = Mutation::Attack(tool_of(&guest(&harmless), "run"));
        let outcome = stopped(Case::new(&guest(core), Kind::ToolTrap, harmless)).await;
        let message = outcome.result.expect_err("it trapped").message;
        assert!(message.contains(cause), "{message}");
    }
}

async fn b1_memory_grows_to_its_end() {
    let core = "(memory 1) (func (export \"run\") (loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable)";
    let case = Case::new(&guest(core), Kind::ToolMemory, Mutation::Limit("memory_bytes_max"))
        .limit("memory_bytes_max", 32 << 20);
    let outcome = stopped(case).await;
    assert!(
        outcome.usage.memory_bytes_peak > 30 << 20 && outcome.usage.memory_bytes_peak <= 32 << 20,
        "{:?}",
        outcome.usage
    );
}

async fn b2_memory_starts_too_large() {
    let large = |pages: u32| guest(&format!("(memory {pages}) (func (export \"run\"))"));
    refused(&assembled(&large(65_536)), &[Kind::LoadLimit], &assembled(&large(16))).await;
    let case = Case::new(&large(512), Kind::ToolMemory, Mutation::Limit("memory_bytes_max"));
    stopped(case.limit("memory_bytes_max", 16 << 20)).await;
}

async fn b3_many_memories() {
    let memories = |count: usize| guest(&format!("{} (func (export \"run\"))", "(memory 1)".repeat(count)));
    refused(&assembled(&memories(60)), &[Kind::LoadAbi], &assembled(&memories(1))).await;
    // In modules of their own they are allowed, and draw on one budget.
    let modules = |pages: u32| {
        format!(
            "(component (core module $n (memory {pages})) (core instance (instantiate $n))
               (core module $m (memory {pages}) (func (export \"run\"))) (core instance $i (instantiate $m))
               (func (export \"run\") (canon lift (core func $i \"run\"))))"
        )
    };
    let case = Case::new(&modules(160), Kind::ToolMemory, Mutation::Limit("memory_bytes_max"));
    stopped(case.limit("memory_bytes_max", 16 << 20)).await;
}

async fn b4_tables_grow_to_their_end() {
    let core = "(table 1 funcref) (func (export \"run\") (loop (br_if 0 (i32.ne (table.grow (ref.null func) (i32.const 1000)) (i32.const -1)))) unreachable)";
    stopped(Case::new(&guest(core), Kind::ToolTable, Mutation::Limit("table_elements_max"))).await;
    let large = |elements: u32| guest(&format!("(table {elements} funcref) (func (export \"run\"))"));
    stopped(Case::new(&large(900_000), Kind::ToolTable, Mutation::Limit("table_elements_max"))).await;
    refused(&assembled(&large(30_000_000)), &[Kind::LoadLimit], &assembled(&large(1_000))).await;
}

async fn b5_instances_without_end() {
    let instances = |count: usize| {
        let more: String = (0..count).map(|_| "(core instance (instantiate $n))").collect();
        format!(
            "(component (core module $n) {more} (core module $m (func (export \"run\")))
               (core instance $i (instantiate $m)) (func (export \"run\") (canon lift (core func $i \"run\"))))"
        )
    };
    refused(&assembled(&instances(10_000)), &[Kind::LoadLimit], &assembled(&instances(10))).await;
    // Few enough to be read, too many to be run.
    let failure = runner().prepare(&tool_of(&instances(100), "run")).await.expect_err("it is too much");
    assert_eq!(failure.kind, Kind::LoadLimit, "{failure:?}");
    runner().prepare(&tool_of(&instances(10), "run")).await.expect("it compiles");
}

async fn b6_recursion_without_end() {
    let recursion = |depth: u32| {
        guest(&format!(
            "(func $f (param i32) (if (local.get 0) (then (call $f (i32.sub (local.get 0) (i32.const 1))))))
             (func (export \"run\") (call $f (i32.const {depth})))"
        ))
    };
    let shallow = Mutation::Attack(tool_of(&recursion(1_000), "run"));
    stopped(Case::new(&recursion(u32::MAX), Kind::ToolStack, shallow)).await;
}

/// Makes two thousand pollables, and lets go of none.
pub const HOLDING: &str = r#"(component
        (import "wasi:io/poll@0.2.0" (instance $poll (export "pollable" (type (sub resource)))))
        (alias export $poll "pollable" (type $pollable))
        (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
          (alias outer 1 $pollable (type $p))
          (export "pollable" (type $pollable (eq $p)))
          (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
        (core func $subscribe (canon lower (func $clock "subscribe-duration")))
        (core module $m
          (import "h" "subscribe" (func $subscribe (param i64) (result i32)))
          (func (export "run") (local $n i32)
            (loop
              (drop (call $subscribe (i64.const 1)))
              (local.set $n (i32.add (local.get $n) (i32.const 1)))
              (br_if 0 (i32.lt_u (local.get $n) (i32.const 2000))))))
        (core instance $h (export "subscribe" (func $subscribe)))
        (core instance $i (instantiate $m (with "h" (instance $h))))
        (func (export "run") (canon lift (core func $i "run"))))"#;

async fn b9_holds_handles_without_end() {
    let outcome = stopped(Case::new(HOLDING, Kind::ToolHandles, Mutation::Limit("handles_max"))).await;
    // A pollable of a clock takes two places of the host's table.
    assert!((512..=1_024).contains(&outcome.usage.host_calls), "{:?}", outcome.usage);
}

async fn b10_passes_too_much_to_the_host() {
    let case = Case::new(&logging(1, 5 << 20), Kind::ToolHostCallBytes, Mutation::Limit("host_call_bytes_max"));
    stopped(case.gives("log")).await;
}

async fn b12_returns_too_much() {
    let text = |bytes: u32| {
        returning(
            "(result string)",
            &format!(
                "(memory (export \"memory\") 900) (data (i32.const 0) \"\\08\\00\\00\\00\")
             (func (export \"run\") (result i32) (i32.store (i32.const 4) (i32.const {bytes})) (i32.const 0))"
            ),
        )
    };
    // Just too much, as much as its memory holds, and in between.
    for bytes in [2 << 20, 30 << 20, 50 << 20] {
        stopped(Case::new(&text(bytes), Kind::ToolOutput, Mutation::Limit("output_bytes_max"))).await;
    }
    // One text of 64 KiB, a thousand times.
    let amplified = returning(
        "(result (list string))",
        "(memory (export \"memory\") 3)
         (func (export \"run\") (result i32) (local $n i32)
           (i32.store (i32.const 131072) (i32.const 131080)) (i32.store (i32.const 131076) (i32.const 1000))
           (loop
             (i32.store (i32.add (i32.const 131084) (i32.mul (local.get $n) (i32.const 8))) (i32.const 65536))
             (local.set $n (i32.add (local.get $n) (i32.const 1)))
             (br_if 0 (i32.lt_u (local.get $n) (i32.const 1000))))
           (i32.const 131072))",
    );
    stopped(Case::new(&amplified, Kind::ToolOutput, Mutation::Limit("output_bytes_max"))).await;
}

async fn b13_returns_text_outside_its_memory() {
    let text = |length: u32| {
        returning(
            "(result string)",
            &format!(
                "(memory (export \"memory\") 1)
             (func (export \"run\") (result i32) (i32.store (i32.const 4) (i32.const {length})) (i32.const 0))"
            ),
        )
    };
    let inside = Mutation::Attack(tool_of(&text(8), "run"));
    stopped(Case::new(&text(0x4000_0000), Kind::ToolTrap, inside)).await;
}

/// Expects that a file is refused while a neighbour runs, and that its unbroken form loads.
pub async fn refused(bytes: &[u8], kinds: &[Kind], unbroken: &[u8]) {
    let reading = |bytes: &[u8]| read(bytes, Some("guest"), &Reading::default());
    let broken = bytes.to_vec();
    let before = Held::now();
    let watch = Watch::start();
    let (contract, ()) = tokio::join!(
        tokio::task::spawn_blocking(move || read(&broken, Some("guest"), &Reading::default())),
        neighbour()
    );
    let failure = contract.expect("reading does not panic").expect_err("the file is refused");
    watch.within(READING_BYTES);
    before.comes_back().await;
    assert!(kinds.contains(&failure.kind), "{failure:?}");
    assert!(!failure.message.contains(env!("CARGO_MANIFEST_DIR")), "{failure:?}");
    reading(unbroken).expect("the unbroken file loads");
}

async fn c1_damaged_files() {
    let whole = std::fs::read(cofferdam_guests::component("text")).expect("the component reads");
    for bytes in [&b""[..], b"\0asm", &[0x5a; 4_096]] {
        refused(bytes, &[Kind::LoadInvalid], &whole).await;
    }
    for n in 0..64 {
        let cut = &whole[..whole.len() * n / 64];
        refused(cut, &[Kind::LoadInvalid], &whole).await;
    }
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for at in (8..whole.len()).step_by(whole.len() / 64) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let mut bytes = whole.clone();
        bytes[at..].iter_mut().take(16).for_each(|byte| *byte ^= random.to_le_bytes()[usize::from(*byte) % 8]);
        // Damaged constants and names can still make a component: it must be read or refused, without a panic.
        let kind = tokio::task::spawn_blocking(move || read(&bytes, Some("guest"), &Reading::default())).await;
        drop(kind.expect("reading does not panic"));
    }
}

/// A component that imports a function `f` of `interface`.
fn importing(interface: &str) -> Vec<u8> {
    assembled(&format!(
        "(component (import \"{interface}\" (instance (export \"f\" (func))))
           (core module $m (func (export \"run\"))) (core instance $i (instantiate $m))
           (func (export \"run\") (canon lift (core func $i \"run\"))))"
    ))
}

async fn c2_other_kinds_of_webassembly() {
    let unbroken = assembled(&guest("(func (export \"run\"))"));
    let command =
        "(module (import \"wasi_snapshot_preview1\" \"proc_exit\" (func (param i32))) (func (export \"_start\")))";
    for other in [assembled("(module (func (export \"run\")))"), assembled(command), importing("wasi:cli/stdin@0.3.0")]
    {
        refused(&other, &[Kind::LoadAbi], &unbroken).await;
    }
    refused(&assembled("(component)"), &[Kind::LoadInvalid], &unbroken).await;
}

async fn c8_imports_that_nobody_gives() {
    let unbroken = assembled(&guest("(func (export \"run\"))"));
    for interface in ["wasi:sockets/tcp@0.2.0", "evil:host/exec@1.0.0"] {
        refused(&importing(interface), &[Kind::LoadDenied], &unbroken).await;
    }
}

async fn c15_cannot_tell_one_call_from_the_next() {
    let probe = tool("probe.surroundings");
    let attempt = async |run_id: &str, attempt: u32| {
        let mut step = step(&probe, &json!({}));
        (step.run, step.attempt) = (run_id.parse().expect("it is a run's id"), attempt);
        let allowed = authorize(&Rule::default().policy(), &RunGrant::default(), &step, &probe, None);
        let Decision::Allow(call) = allowed else { panic!("the rule allows it") };
        runner().run(*call, Arc::new(NoLink)).await
    };
    let first = attempt("r-01arz3ndektsv4rrffq69g5fav", 1).await;
    let other = attempt("r-01bx5zzkbkactav9wevgemmvrz", 7).await;
    assert!(first.result.is_ok(), "{first:?}");
    assert_eq!(first.result, other.result);
    assert_eq!(first.usage.fuel, other.usage.fuel, "it did the same, instruction for instruction");
}

/// Writes `lines` lines of `bytes` bytes to the log.
pub fn logging(lines: u32, bytes: u32) -> String {
    let pages = bytes / 65_536 + 1;
    format!(
        r#"(component
          (import "cofferdam:tool/log@0.1.0" (instance $log
            (type $names (enum "trace" "debug" "info" "warn" "error"))
            (export "level" (type $level (eq $names)))
            (export "write" (func (param "level" $level) (param "message" string)))))
          (core module $libc (memory (export "memory") {pages}))
          (core instance $libc (instantiate $libc))
          (core func $write (canon lower (func $log "write") (memory $libc "memory")))
          (core module $m
            (import "h" "write" (func $write (param i32 i32 i32)))
            (func (export "run") (local $n i32)
              (loop
                (call $write (i32.const 2) (i32.const 0) (i32.const {bytes}))
                (local.set $n (i32.add (local.get $n) (i32.const 1)))
                (br_if 0 (i32.lt_u (local.get $n) (i32.const {lines}))))))
          (core instance $h (export "write" (func $write)))
          (core instance $i (instantiate $m (with "h" (instance $h))))
          (func (export "run") (canon lift (core func $i "run"))))"#
    )
}

/// A flood ends well, and most of it is dropped and counted; with the limit taken away more of it is kept.
async fn flooded(lines: u32, bytes: u32, limit: &'static str) {
    let tool = tool_of(&logging(lines, bytes), "run");
    let rule = Rule::default().gives("log").limit("host_calls_max", u64::from(lines));
    prepared(&[&tool]).await;
    let (outcome, ()) = tokio::join!(runner().run(call(&tool, &json!({}), &rule), Arc::new(NoLink)), neighbour());
    assert_eq!(kind(&outcome), None, "{:?}", outcome.result);
    let kept = |outcome: &Outcome| outcome.log.iter().map(|line| line.text.len() as u64).sum::<u64>();
    // A NUL is one byte in, and more when it is escaped.
    assert!(
        outcome.log.len() <= 256 && kept(&outcome) <= 6 * (64 << 10),
        "{} lines, {} bytes",
        outcome.log.len(),
        kept(&outcome)
    );
    assert!(outcome.usage.log_bytes_dropped * 100 > u64::from(lines) * u64::from(bytes) * 98, "{:?}", outcome.usage);
    let rule = rule.limit("host_calls_max", 1_000).unlimited(limit).limit("wall_ms_max", 5 * DEADLINE_MS);
    let mutated = runner().run(call(&tool, &json!({}), &rule), Arc::new(NoLink)).await;
    assert!(kept(&mutated) > kept(&outcome), "without its limit as much is kept as with it");
}

async fn d1_a_million_log_lines() {
    flooded(1_000_000, 1, "log_lines_max").await;
    flooded(1_000, 4_000, "log_bytes_max").await;
}

async fn f4_the_listener_on_loopback_is_reached_by_a_grant_alone() {
    let (port, fetch) = (canary_port(), tool("fetch.get"));
    let url = format!("http://127.0.0.1:{port}/");
    let get = async |rule: &Rule, host: &str| {
        let args = json!({"url": url.replace("127.0.0.1", host)});
        let rule = rule.clone().limit("wall_ms_max", NEIGHBOUR_MS);
        runner().run(call(&fetch, &args, &rule), Arc::new(NoLink)).await
    };
    let elsewhere = Rule::default().sends("http://127.0.0.1:1/*", "");
    for host in ["127.0.0.1", "127.1", "[::ffff:127.0.0.1]", "0.0.0.0", "localhost"] {
        let outcome = get(&elsewhere, host).await;
        assert!(outcome.denials.iter().any(|denial| denial.code == "denied.net"), "{host}: {outcome:?}");
    }
    // A name that leads there is not the address.
    let named = Rule::default().sends(&format!("http://localhost:{port}/*"), "");
    assert!(get(&named, "localhost").await.result.is_err());
    assert_eq!(take_reached(), 0);
    let granted = Rule::default().sends(&url, "");
    assert!(get(&granted, "127.0.0.1").await.result.is_err(), "it never answers");
    assert_eq!(take_reached(), 1, "the check sees who gets there");
}

async fn d1_one_giant_log_line() {
    let tool = tool_of(&logging(1, 3 << 20), "run");
    let outcome = runner().run(call(&tool, &json!({}), &Rule::default().gives("log")), Arc::new(NoLink)).await;
    assert_eq!((kind(&outcome), outcome.log.len()), (None, 1));
    assert_eq!(outcome.usage.log_bytes_dropped, (3 << 20) - 2_048);
    let tool = tool_of(&logging(1, 1_000), "run");
    let outcome = runner().run(call(&tool, &json!({}), &Rule::default().gives("log")), Arc::new(NoLink)).await;
    assert_eq!(outcome.usage.log_bytes_dropped, 0);
}
