//! Hostile guests: nothing gets out, nothing hangs, and each is stopped by the limit that is there for it.
//!
//! Tests bear the identifiers of the catalogue in the threat model. One harness runs them all. While the guest runs, a
//! well-behaved call runs beside it; after it another one does. Then the mutation: the one setting that stopped the
//! guest is taken away, and the end must change, or the guest must go on for five times its deadline. A limit that
//! nothing depends on is not a limit.

use std::sync::Arc;
use std::time::Duration;

use cofferdam::clock::{Clock, SystemClock};
use cofferdam::domain::{Json, Kind, Outcome};
use cofferdam::registry::{Options as Reading, VerifiedTool, read};
use cofferdam::sandbox::{NoLink, Runner, WasmRunner};
use serde_json::json;
use tokio::sync::Mutex;

use crate::guest::{CANARY, Rule, assembled, call, kind, new_runner, pause, runner, tool, tool_of};

/// The deadline of hostile guests.
const DEADLINE_MS: u64 = 400;

/// How late a call may end after its deadline: a tick of the epoch, and a loaded machine.
const LATE_MS: u64 = 250;

/// The deadline of the well-behaved neighbour.
const NEIGHBOUR_MS: u64 = 2_000;

/// One at a time: they measure time.
static ALONE: Mutex<()> = Mutex::const_new(());

/// A guest and what should stop it.
struct Case {
    tool: VerifiedTool,
    args: Json,
    rule: Rule,
    ends: Kind,
    mutation: Mutation,
}

/// What is taken away, so that the end must change.
enum Mutation {
    /// A limit that the policy sets.
    Limit(&'static str),
    /// The attack: nothing that an operator could set stops it, so the same guest without it must pass.
    Attack(VerifiedTool),
}

impl Case {
    /// A component whose function `run` does it.
    fn new(wat: &str, ends: Kind, mutation: Mutation) -> Self {
        Self {
            tool: tool_of(wat, "run"),
            args: json!({}),
            rule: Rule::default().limit("wall_ms_max", DEADLINE_MS),
            ends,
            mutation,
        }
    }

    fn limit(self, name: &'static str, value: u64) -> Self {
        Self { rule: self.rule.limit(name, value), ..self }
    }

    fn gives(self, capability: &'static str) -> Self {
        Self { rule: self.rule.gives(capability), ..self }
    }
}

/// Runs a case, its neighbours and its mutation.
async fn stopped(case: Case) -> Outcome {
    let _alone = ALONE.lock().await;
    prepared(&[&case.tool]).await;
    let (outcome, ()) = tokio::join!(bounded(&case.tool, &case.args, &case.rule), neighbour(runner()));
    let outcome = outcome.expect("the call ends");
    let failure = outcome.result.as_ref().expect_err("the guest is stopped");
    assert_eq!((failure.kind, failure.kind.short()), (case.ends, case.ends.short()), "{failure:?}");
    tells_nothing(&outcome);
    neighbour(runner()).await;
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
    neighbour(runner()).await;
    outcome
}

async fn prepared(tools: &[&VerifiedTool]) {
    for tool in tools.iter().copied().chain([&tool("text.stats")]) {
        runner().prepare(tool).await.expect("it compiles");
    }
}

/// Runs a call, for five times the deadline at most. Where it has a deadline of its own, it must keep it.
async fn bounded(tool: &VerifiedTool, args: &Json, rule: &Rule) -> Option<Outcome> {
    let clock = SystemClock::default();
    let call = call(tool, args, rule);
    let (wall_ms_max, memory_bytes_max) = (call.grant().limits.wall_ms_max, call.grant().limits.memory_bytes_max);
    let running = runner().run(call, Arc::new(NoLink));
    let outcome = tokio::time::timeout(Duration::from_millis(5 * DEADLINE_MS), running).await.ok()?;
    let took = clock.monotonic_ms();
    assert!(took <= wall_ms_max.saturating_add(LATE_MS), "it took {took} ms");
    assert!(outcome.usage.memory_bytes_peak <= memory_bytes_max, "{:?}", outcome.usage);
    Some(outcome)
}

/// A good call: it ends well, and in its own time.
async fn neighbour(runner: &WasmRunner) {
    let rule = Rule::default().limit("wall_ms_max", NEIGHBOUR_MS);
    let outcome = runner.run(call(&tool("text.stats"), &json!({"text": "still here"}), &rule), Arc::new(NoLink)).await;
    assert_eq!(kind(&outcome), None, "{outcome:?}");
    assert_eq!(outcome.result.expect("it went well")["words"], json!(2));
}

/// What a caller sees names nothing of this machine, and holds no secret.
#[track_caller]
fn tells_nothing(outcome: &Outcome) {
    let failure = outcome.result.as_ref().err().map(|f| format!("{} {:?}", f.message, f.hint));
    let seen = format!("{failure:?} {:?} {:?}", outcome.log, outcome.denials);
    let (home, temporary) = (env!("CARGO_MANIFEST_DIR"), std::env::temp_dir());
    for secret in [CANARY, home, &temporary.display().to_string(), ".cargo", "src/"] {
        assert!(!seen.contains(secret), "`{secret}` in {seen}");
    }
}

/// A component with one core module, which exports the function `run`.
fn guest(core: &str) -> String {
    returning("", core)
}

/// The same with a result. The module's memory is exported as `memory`.
fn returning(result: &str, core: &str) -> String {
    let memory = if result.is_empty() { "" } else { "(memory $i \"memory\")" };
    format!(
        "(component (core module $m {core}) (core instance $i (instantiate $m))
           (func (export \"run\") {result} (canon lift (core func $i \"run\") {memory})))"
    )
}

const LOOP: &str = "(func (export \"run\") (loop br 0))";

#[tokio::test]
async fn a1_loop_in_call() {
    stopped(Case::new(&guest(LOOP), Kind::ToolDeadline, Mutation::Limit("wall_ms_max"))).await;
    let outcome =
        stopped(Case::new(&guest(LOOP), Kind::ToolFuel, Mutation::Limit("fuel")).limit("fuel", 1_000_000)).await;
    assert_eq!(outcome.usage.fuel, 1_000_000);
}

#[tokio::test]
async fn a2_loop_in_start() {
    let core = "(func $spin (loop br 0)) (start $spin) (func (export \"run\"))";
    stopped(Case::new(&guest(core), Kind::ToolDeadline, Mutation::Limit("wall_ms_max"))).await;
    stopped(Case::new(&guest(core), Kind::ToolFuel, Mutation::Limit("fuel")).limit("fuel", 1_000_000)).await;
}

#[tokio::test]
async fn a4_sleep_for_an_hour() {
    let case = Case::new(&guest(LOOP), Kind::ToolDeadline, Mutation::Limit("wall_ms_max"));
    let outcome = stopped(Case { tool: tool("probe.sleep"), args: json!({"ms": 3_600_000}), ..case }).await;
    assert!(outcome.usage.wall_ms >= DEADLINE_MS, "{:?}", outcome.usage);
}

#[tokio::test]
async fn a5_as_many_sleepers_as_there_are_places() {
    let _alone = ALONE.lock().await;
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
        neighbour(&runner).await;
    }
    while let Some(ended) = sleepers.join_next().await {
        assert_eq!(kind(&ended.expect("it ends")), Some(Kind::ToolDeadline));
    }
}

#[tokio::test]
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

#[tokio::test]
async fn a7_host_calls_in_a_loop() {
    let case = Case::new(&logging(2_000, 1), Kind::ToolHostCalls, Mutation::Limit("host_calls_max"));
    let outcome = stopped(case.gives("log").limit("host_calls_max", 1_000)).await;
    assert_eq!(outcome.usage.host_calls, 1_001);
}

#[tokio::test]
async fn a8_fills_memory_in_a_loop() {
    let core = "(memory 512) (func (export \"run\") (loop (memory.fill (i32.const 0) (i32.const 1) (i32.const 33554432)) br 0))";
    stopped(Case::new(&guest(core), Kind::ToolFuel, Mutation::Limit("fuel")).limit("fuel", 100_000_000)).await;
}

#[tokio::test]
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

#[tokio::test]
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

#[tokio::test]
async fn b2_memory_starts_too_large() {
    let large = |pages: u32| guest(&format!("(memory {pages}) (func (export \"run\"))"));
    refused(&assembled(&large(65_536)), &[Kind::LoadLimit], &assembled(&large(16))).await;
    let case = Case::new(&large(512), Kind::ToolMemory, Mutation::Limit("memory_bytes_max"));
    stopped(case.limit("memory_bytes_max", 16 << 20)).await;
}

#[tokio::test]
async fn b4_tables_grow_to_their_end() {
    let core = "(table 1 funcref) (func (export \"run\") (loop (br_if 0 (i32.ne (table.grow (ref.null func) (i32.const 1000)) (i32.const -1)))) unreachable)";
    stopped(Case::new(&guest(core), Kind::ToolTable, Mutation::Limit("table_elements_max"))).await;
    let large = |elements: u32| guest(&format!("(table {elements} funcref) (func (export \"run\"))"));
    stopped(Case::new(&large(900_000), Kind::ToolTable, Mutation::Limit("table_elements_max"))).await;
    refused(&assembled(&large(30_000_000)), &[Kind::LoadLimit], &assembled(&large(1_000))).await;
}

#[tokio::test]
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
    let failure = runner().prepare(&tool_of(&instances(30), "run")).await.expect_err("it is too much");
    assert_eq!(failure.kind, Kind::LoadLimit, "{failure:?}");
    runner().prepare(&tool_of(&instances(10), "run")).await.expect("it compiles");
}

#[tokio::test]
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

#[tokio::test]
async fn b9_holds_handles_without_end() {
    let wat = r#"(component
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
    let outcome = stopped(Case::new(wat, Kind::ToolHandles, Mutation::Limit("handles_max"))).await;
    // A pollable of a clock takes two places of the host's table.
    assert!((512..=1_024).contains(&outcome.usage.host_calls), "{:?}", outcome.usage);
}

#[tokio::test]
async fn b10_passes_too_much_to_the_host() {
    let case = Case::new(&logging(1, 5 << 20), Kind::ToolHostCallBytes, Mutation::Limit("host_call_bytes_max"));
    stopped(case.gives("log")).await;
}

#[tokio::test]
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
    for bytes in [2 << 20, 50 << 20] {
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

#[tokio::test]
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
async fn refused(bytes: &[u8], kinds: &[Kind], unbroken: &[u8]) {
    let reading = |bytes: &[u8]| read(bytes, Some("guest"), &Reading::default());
    let broken = bytes.to_vec();
    let (contract, ()) = tokio::join!(
        tokio::task::spawn_blocking(move || read(&broken, Some("guest"), &Reading::default())),
        neighbour(runner())
    );
    let failure = contract.expect("reading does not panic").expect_err("the file is refused");
    assert!(kinds.contains(&failure.kind), "{failure:?}");
    assert!(!failure.message.contains(env!("CARGO_MANIFEST_DIR")), "{failure:?}");
    reading(unbroken).expect("the unbroken file loads");
}

#[tokio::test]
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

#[tokio::test]
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

#[tokio::test]
async fn c8_imports_that_nobody_gives() {
    let unbroken = assembled(&guest("(func (export \"run\"))"));
    for interface in ["wasi:sockets/tcp@0.2.0", "evil:host/exec@1.0.0"] {
        refused(&importing(interface), &[Kind::LoadDenied], &unbroken).await;
    }
}

/// Writes `lines` lines of `bytes` bytes to the log.
fn logging(lines: u32, bytes: u32) -> String {
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
    let _alone = ALONE.lock().await;
    let tool = tool_of(&logging(lines, bytes), "run");
    let rule = Rule::default().gives("log").limit("host_calls_max", u64::from(lines));
    prepared(&[&tool]).await;
    let (outcome, ()) =
        tokio::join!(runner().run(call(&tool, &json!({}), &rule), Arc::new(NoLink)), neighbour(runner()));
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

#[tokio::test]
async fn d1_a_million_log_lines() {
    flooded(1_000_000, 1, "log_lines_max").await;
    flooded(1_000, 4_000, "log_bytes_max").await;
}

#[tokio::test]
async fn d1_one_giant_log_line() {
    let tool = tool_of(&logging(1, 3 << 20), "run");
    let outcome = runner().run(call(&tool, &json!({}), &Rule::default().gives("log")), Arc::new(NoLink)).await;
    assert_eq!((kind(&outcome), outcome.log.len()), (None, 1));
    assert_eq!(outcome.usage.log_bytes_dropped, (3 << 20) - 2_048);
    let tool = tool_of(&logging(1, 1_000), "run");
    let outcome = runner().run(call(&tool, &json!({}), &Rule::default().gives("log")), Arc::new(NoLink)).await;
    assert_eq!(outcome.usage.log_bytes_dropped, 0);
}
