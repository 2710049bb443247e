//! More hostile guests, of the same catalogue and under the same harness as those of `hostile.rs`: what they pass to host
//! functions, what they return, say and leave behind, and handles that are not theirs.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cofferdam::clock::{SimClock, SystemClock};
use cofferdam::domain::{Failure, Kind, Outcome, Timestamp};
use cofferdam::host::Host;
use cofferdam::registry::{Options as Reading, read};
use cofferdam::sandbox::{Begin, CallLink, HostCall, NoLink, Options, Runner, WasmRunner};
use serde_json::json;

use crate::alone::cases;
use crate::guest::{
    Recorder, Rule, assembled, cache_dir, call, helper, kind, options, pause, run, runner, tool, tool_of,
};
use crate::hostile::{
    Case, LOOP, Mutation, guest, logging, neighbour, neighbour_on, prepared, refused, returning, stopped, tells_nothing,
};

cases![
    a3_loops_that_wait_to_be_asked_what_the_tool_is,
    a9_arguments_that_swell,
    a14_the_caller_leaves,
    a18_leaves_the_program_in_place_of_returning,
    b7_frames_too_large_for_any_stack,
    b8_resources_without_end,
    b18_handles_that_are_not_its_own,
    b15_places_that_are_none,
    b17_randomness_without_end,
    d1_lines_are_as_long_as_the_rule_says,
    d2_floods_what_it_prints,
    d4_text_that_drives_a_terminal,
    d5_results_that_are_not_what_was_promised,
    d6_errors_without_end_and_in_the_hosts_voice,
    g8_memory_that_was_written_before,
    g11_a_clock_too_coarse_to_time_a_cache,
    g11_each_call_counts_time_from_its_own_beginning,
    h2_arguments_that_do_not_fit,
];

/// A case whose mutation is the same guest without its attack.
fn attack(wat: &str, ends: Kind, harmless: &str) -> Case {
    Case::new(wat, ends, Mutation::Attack(tool_of(harmless, "run")))
}

/// Runs `run` of a component without a deadline of the test's own.
async fn outcome_of(wat: &str, rule: &Rule) -> Outcome {
    runner().run(call(&tool_of(wat, "run"), &json!({}), rule), Arc::new(NoLink)).await
}

async fn a3_loops_that_wait_to_be_asked_what_the_tool_is() {
    let core = "(func $spin (loop br 0)) (func (export \"spin\") (loop br 0)) (func (export \"run\"))";
    let exports: String = ["describe", "schema", "list", "name", "signature"]
        .iter()
        .map(|name| format!("(func (export \"{name}\") (canon lift (core func $i \"spin\")))"))
        .collect();
    let component = |core: &str| {
        format!(
            "(component (core module $m {core}) (core instance $i (instantiate $m)) {exports}
               (func (export \"run\") (canon lift (core func $i \"run\"))))"
        )
    };
    for wat in [component(core), component(&format!("{core} (start $spin)"))] {
        let bytes = assembled(&wat);
        // On a thread that may block: were the guest run, this would never end.
        let reading = tokio::task::spawn_blocking(move || read(&bytes, Some("guest"), &Reading::default()));
        let contract = tokio::time::timeout(Duration::from_secs(5), reading).await.expect("reading runs nothing");
        assert_eq!(contract.expect("no panic").expect("the component loads").tools.len(), 6);
    }
    assert_eq!(kind(&outcome_of(&component(core), &Rule::default()).await), None);
    let asked = Case {
        tool: tool_of(&component(core), "describe"),
        ..attack(&guest(LOOP), Kind::ToolDeadline, &component(core))
    };
    stopped(asked).await;
}

async fn a9_arguments_that_swell() {
    let case = Case::new(&guest(LOOP), Kind::DataInputSize, Mutation::Limit("input_bytes_max"));
    let args = json!({"text": "x".repeat(300_000)});
    let outcome = stopped(Case { tool: tool("text.stats"), args, ..case }).await;
    assert_eq!(outcome.usage.fuel, 0, "the guest never started");
}

async fn a14_the_caller_leaves() {
    let options = Options { calls_in_flight_max: 1, ..options() };
    let runner = WasmRunner::new(&options, Arc::new(SystemClock::default())).expect("the machine can run guests");
    let spin = tool_of(&guest(LOOP), "run");
    for tool in [&spin, &tool("text.stats")] {
        runner.prepare(tool).await.expect("it compiles");
    }
    let running = |ms| {
        let rule = Rule::default().limit("wall_ms_max", 60_000);
        tokio::time::timeout(Duration::from_millis(ms), runner.run(call(&spin, &json!({}), &rule), Arc::new(NoLink)))
    };
    assert!(running(50).await.is_err());
    // It would wait for the one place until its own deadline.
    neighbour_on(&runner).await;
    let rule = Rule::default().limit("wall_ms_max", 200);
    let waits = runner.run(call(&tool("text.stats"), &json!({"text": ""}), &rule), Arc::new(NoLink));
    let (still_there, waited) = tokio::join!(running(1_000), waits);
    assert!(still_there.is_err() && kind(&waited) == Some(Kind::ToolDeadline), "a caller who stays keeps the place");
}

async fn a18_leaves_the_program_in_place_of_returning() {
    let leaving = |status: &str| {
        format!(
            r#"(component
              (import "wasi:cli/exit@0.2.0" (instance $exit (export "exit" (func (param "status" (result))))))
              (core func $exit (canon lower (func $exit "exit")))
              (core module $m
                (import "h" "exit" (func $exit (param i32)))
                (func (export "run") {status}))
              (core instance $h (export "exit" (func $exit)))
              (core instance $i (instantiate $m (with "h" (instance $h))))
              (func (export "run") (canon lift (core func $i "run"))))"#
        )
    };
    for (status, code) in [(0, 0), (1, 1)] {
        let leaves = leaving(&format!("(call $exit (i32.const {status}))"));
        let outcome = stopped(attack(&leaves, Kind::ToolExit, &leaving(""))).await;
        assert!(outcome.result.expect_err("it left").message.contains(&format!("code {code}")));
    }
    stopped(attack(&leaving("unreachable"), Kind::ToolTrap, &leaving(""))).await;
}

async fn b7_frames_too_large_for_any_stack() {
    let frames = |locals: usize, depth: u32| {
        let (named, types) = ("(param i32)", "i64 ".repeat(locals));
        // Each is set and read, so that none is left out of the frame.
        let used: String =
            (1..=locals.min(400)).map(|n| format!("(local.set {n} (i64.extend_i32_u (local.get 0)))")).collect();
        let kept: String =
            (1..=locals.min(400)).map(|n| format!("(drop (i64.div_u (i64.const 9) (local.get {n})))")).collect();
        guest(&format!(
            "(func $f {named} (local {types}) {used}
               (if (i32.gt_u (local.get 0) (i32.const 1)) (then (call $f (i32.sub (local.get 0) (i32.const 1))))) {kept})
             (func (export \"run\") (call $f (i32.const {depth})))"
        ))
    };
    refused(&assembled(&frames(40_000, 9)), &[Kind::LoadLimit], &assembled(&frames(1_000, 9))).await;
    stopped(attack(&frames(1_900, u32::MAX), Kind::ToolStack, &frames(1_900, 20))).await;
}

/// A component with resources of its own, whose `run` has this body.
fn resources(body: &str) -> String {
    format!(
        r#"(component
          (type $a (resource (rep i32)))
          (type $b (resource (rep i32)))
          (core func $new (canon resource.new $a))
          (core func $rep (canon resource.rep $a))
          (core func $drop (canon resource.drop $a))
          (core func $drop-b (canon resource.drop $b))
          (core module $m
            (import "h" "new" (func $new (param i32) (result i32)))
            (import "h" "rep" (func $rep (param i32) (result i32)))
            (import "h" "drop" (func $drop (param i32)))
            (import "h" "drop-b" (func $drop-b (param i32)))
            (func (export "run") (local $n i32) {body}))
          (core instance $h
            (export "new" (func $new)) (export "rep" (func $rep)) (export "drop" (func $drop)) (export "drop-b" (func $drop-b)))
          (core instance $i (instantiate $m (with "h" (instance $h))))
          (func (export "run") (canon lift (core func $i "run"))))"#
    )
}

async fn b8_resources_without_end() {
    let body = "(loop
        (drop (call $new (i32.const 7)))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if 0 (i32.lt_u (local.get $n) (i32.const 5000))))";
    stopped(Case::new(&resources(body), Kind::ToolHandles, Mutation::Limit("handles_max"))).await;
}

async fn b18_handles_that_are_not_its_own() {
    let new = "(local.set $n (call $new (i32.const 7)))";
    let harmless = resources(&format!("{new} (drop (call $rep (local.get $n))) (call $drop (local.get $n))"));
    for wrong in [
        "(call $drop (local.get $n)) (call $drop (local.get $n))",
        "(call $drop (local.get $n)) (drop (call $rep (local.get $n)))",
        "(call $drop (i32.const 77))",
        "(drop (call $rep (i32.const -1)))",
        "(call $drop-b (local.get $n))",
    ] {
        let wat = resources(&format!("{new} {wrong}"));
        let outcome = stopped(attack(&wat, Kind::ToolTrap, &harmless)).await;
        let message = outcome.result.expect_err("it trapped").message;
        assert!(message.contains("handle"), "{wrong}: {message}");
    }
}

async fn b15_places_that_are_none() {
    let placing = |place: &str| {
        format!(
            r#"(component
              (core module $m
                (memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) {place})
                (func (export "run") (param i32 i32 i32 i32)))
              (core instance $i (instantiate $m))
              (func (export "run") (param "a" (list u32)) (param "b" (list u32))
                (canon lift (core func $i "run") (memory $i "memory") (realloc (func $i "realloc")))))"#
        )
    };
    let args = json!({"a": [1, 2, 3], "b": [4, 5, 6]});
    let harmless = placing("(i32.const 64)");
    for place in ["(i32.const 65)", "(i32.const 65536)", "(i32.const 65532)", "(i32.const -4)", "unreachable"] {
        let case = attack(&placing(place), Kind::ToolTrap, &harmless);
        stopped(Case { args: args.clone(), ..case }).await;
    }
    // One place for two lists, and the place 0: its memory is the guest's own, to spoil as it likes.
    for place in ["(i32.const 64)", "(i32.const 0)"] {
        let spoiled = tool_of(&placing(place), "run");
        let outcome = runner().run(call(&spoiled, &args, &Rule::default()), Arc::new(NoLink)).await;
        assert_eq!(kind(&outcome), None, "{outcome:?}");
    }
}

async fn b17_randomness_without_end() {
    let random = |function: &str, bytes: u64| {
        let interface = if function.contains("insecure") { "insecure" } else { "random" };
        format!(
            r#"(component
              (import "wasi:random/{interface}@0.2.0" (instance $random
                (export "{function}" (func (param "len" u64) (result (list u8))))))
              (core module $libc
                (memory (export "memory") 2)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 64)))
              (core instance $libc (instantiate $libc))
              (core func $get (canon lower (func $random "{function}") (memory $libc "memory") (realloc (func $libc "realloc"))))
              (core module $m
                (import "h" "get" (func $get (param i64 i32)))
                (func (export "run") (call $get (i64.const {bytes}) (i32.const 0))))
              (core instance $h (export "get" (func $get)))
              (core instance $i (instantiate $m (with "h" (instance $h))))
              (func (export "run") (canon lift (core func $i "run"))))"#
        )
    };
    for function in ["get-random-bytes", "get-insecure-random-bytes"] {
        let harmless = random(function, 64 << 10);
        for bytes in [1 << 32, (64 << 10) + 1] {
            let outcome = stopped(attack(&random(function, bytes), Kind::ToolHostCallBytes, &harmless)).await;
            let message = outcome.result.expect_err("it is stopped").message;
            assert!(message.contains("more than 65536 random bytes"), "{message}");
        }
    }
}

async fn d1_lines_are_as_long_as_the_rule_says() {
    let long = tool_of(&logging(1, 50_000), "run");
    for (line_bytes_max, kept) in [(100, 100), (30_000, 30_000)] {
        let rule = Rule::default().gives("log").limit("log_line_bytes_max", line_bytes_max);
        let outcome = runner().run(call(&long, &json!({}), &rule), Arc::new(NoLink)).await;
        // A NUL is escaped: six characters for a byte.
        assert_eq!(outcome.log[0].text.matches("\\u{0}").count(), kept, "{:?}", outcome.usage);
        assert_eq!(outcome.usage.log_bytes_dropped, 50_000 - kept as u64);
    }
}

async fn d2_floods_what_it_prints() {
    // A hundred megabytes, on each of two streams.
    let args = json!({"lines": 100_000});
    let (flood, rule) = (tool("probe.flood"), Rule::default().limit("wall_ms_max", 60_000));
    prepared(&[&flood]).await;
    let (outcome, ()) = tokio::join!(runner().run(call(&flood, &args, &rule), Arc::new(NoLink)), neighbour());
    assert_eq!(kind(&outcome), None, "{:?}", outcome.result);
    let kept: usize = outcome.log.iter().map(|line| line.text.len()).sum();
    assert!(kept <= 64 << 10, "{kept}");
    assert_eq!(outcome.usage.log_bytes_dropped + kept as u64, 2 * 100_000 * 1_023);
    let unlimited = Rule::default().unlimited("log_bytes_max").unlimited("log_lines_max");
    let outcome = run("probe.flood", json!({"lines": 500}), &unlimited).await;
    assert_eq!((outcome.log.len(), outcome.usage.log_bytes_dropped), (1_000, 0));
}

/// Text that drives a terminal, reads a clipboard, turns a line round, hides, and ends a C string.
const NASTY: &str = "\u{1b}[2J\u{1b}]52;c;eA==\u{7}\u{202e}evil\u{200b}\u{0}\u{9b}\u{e0041}";

#[track_caller]
fn is_plain(text: &str) {
    let nasty = ['\u{1b}', '\u{7}', '\u{202e}', '\u{200b}', '\u{0}', '\u{9b}', '\u{e0041}'];
    assert!(!text.contains(nasty) && text.contains("evil"), "{text:?}");
}

async fn d4_text_that_drives_a_terminal() {
    let link = Arc::new(Recorder::default());
    let rule = Rule::default().gives("log").gives("progress");
    let outcome = runner().run(call(&tool("probe.say"), &json!({"text": NASTY}), &rule), link.clone()).await;
    is_plain(&outcome.log[0].text);
    is_plain(&link.seen()[0]);
    let outcome = run("probe.print", json!({"text": NASTY}), &Rule::default()).await;
    outcome.log.iter().for_each(|line| is_plain(&line.text));
    let outcome = run("probe.refuse", json!({"text": NASTY}), &Rule::default()).await;
    is_plain(&outcome.result.expect_err("it refuses").message);

    // A result is data: it stays as it is, and is flagged.
    let variables = |text: &str| json!([{"name": "t", "value": {"text": text}}]);
    let render = |text: &str| {
        let args = json!({"template": "<{{ t }}>", "variables": variables(text), "format": "text"});
        async move { run("template.render", args, &Rule::default()).await }
    };
    let outcome = render(NASTY).await;
    assert_eq!(outcome.result.ok(), Some(json!(format!("<{NASTY}>"))));
    let flags: Vec<_> = outcome.denials.iter().map(|flag| (flag.code.as_str(), flag.what.as_str())).collect();
    assert_eq!(flags, [("flag.text", "the result holds U+001B at ``")]);
    assert_eq!(render("plain\r\n\ttext").await.denials, []);
}

async fn d5_results_that_are_not_what_was_promised() {
    let float = |value: &str| {
        let core = format!("(memory (export \"memory\") 1) (func (export \"run\") (result f64) {value})");
        returning("(result f64)", &core)
    };
    let harmless = float("(f64.const 1)");
    for value in ["(f64.const nan)", "(f64.div (f64.const 1) (f64.const 0))", "(f64.const -inf)"] {
        let outcome = stopped(attack(&float(value), Kind::ToolContract, &harmless)).await;
        assert_eq!(outcome.result.expect_err("it is no number").kind.short(), "invalid.output");
    }
    let character = |code: u32| {
        let core = format!("(memory (export \"memory\") 1) (func (export \"run\") (result i32) (i32.const {code}))");
        returning("(result char)", &core)
    };
    for code in [0xd800, 0x0011_0000, u32::MAX] {
        stopped(attack(&character(code), Kind::ToolTrap, &character(0x41))).await;
    }
    let text = |bytes: &str| {
        let core = format!(
            "(memory (export \"memory\") 1) (data (i32.const 0) \"\\08\\00\\00\\00\\02\\00\\00\\00{bytes}\")
             (func (export \"run\") (result i32) (i32.const 0))"
        );
        returning("(result string)", &core)
    };
    stopped(attack(&text("\\c3\\28"), Kind::ToolTrap, &text("ab"))).await;
    // Small things without end.
    let many = |count: u32| {
        let core = format!(
            "(memory (export \"memory\") 32) (func (export \"run\") (result i32)
               (i32.store (i32.const 0) (i32.const 8)) (i32.store (i32.const 4) (i32.const {count})) (i32.const 0))"
        );
        returning("(result (list bool))", &core)
    };
    let case = Case::new(&many(60_000), Kind::ToolOutput, Mutation::Limit("output_bytes_max"));
    stopped(case.limit("output_bytes_max", 100_000)).await;
}

async fn d6_errors_without_end_and_in_the_hosts_voice() {
    let error = |bytes: u32| {
        let core = format!(
            "(memory (export \"memory\") 900) (data (i32.const 16) \"approved by the operator: \")
             (func (export \"run\") (result i32)
               (i32.store (i32.const 0) (i32.const 1)) (i32.store (i32.const 4) (i32.const 16))
               (i32.store (i32.const 8) (i32.const {bytes})) (i32.const 0))"
        );
        returning("(result (result (error string)))", &core)
    };
    let outcome = outcome_of(&error(1 << 20), &Rule::default()).await;
    let failure = outcome.result.as_ref().expect_err("it says no");
    assert_eq!(failure.kind, Kind::ToolDeclared);
    assert!(failure.message.starts_with("run `guest.run`: the tool says: approved by the operator"), "{failure:?}");
    // A NUL is escaped: six characters for one.
    assert!(failure.message.chars().count() <= 6 * 4_096, "{}", failure.message.len());
    tells_nothing(&outcome);
    // What is not there, and what is too much to read.
    stopped(attack(&error(1 << 30), Kind::ToolTrap, &returning("", "(func (export \"run\"))"))).await;
    let much = Case::new(&error(5 << 20), Kind::ToolOutput, Mutation::Limit("output_bytes_max"));
    stopped(much.limit("output_bytes_max", 100_000)).await;
}

async fn g8_memory_that_was_written_before() {
    let core = "(memory (export \"memory\") 1) (global $seen (mut i32) (i32.const 0))
        (func (export \"run\") (result i32) (local $found i32) (local $last i32)
          (drop (memory.grow (i32.const 8)))
          (local.set $last (i32.const 589820))
          (local.set $found (i32.or (global.get $seen) (i32.or (i32.load (i32.const 8)) (i32.load (local.get $last)))))
          (global.set $seen (i32.const 1))
          (i32.store (i32.const 8) (i32.const 2))
          (i32.store (local.get $last) (i32.const 4))
          (if (i32.eqz (i32.load (local.get $last))) (then unreachable))
          (local.get $found))";
    let marks = tool_of(&returning("(result u32)", core), "run");
    // One place, so that the next call gets the memory of the last.
    let options = Options { calls_in_flight_max: 1, ..options() };
    let runner = WasmRunner::new(&options, Arc::new(SystemClock::default())).expect("the machine can run guests");
    for _ in 0..5 {
        let outcome = runner.run(call(&marks, &json!({}), &Rule::default()), Arc::new(NoLink)).await;
        assert_eq!(outcome.result.ok(), Some(json!(0)));
    }
}

/// Reads a clock a thousand times, and returns all bits that were ever set below a millisecond, and the first reading.
const TIMING: &str = r#"(component
    (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
      (export "now" (func (result u64))) (export "resolution" (func (result u64)))))
    (core func $now (canon lower (func $clock "now")))
    (core func $resolution (canon lower (func $clock "resolution")))
    (core module $m
      (import "h" "now" (func $now (result i64)))
      (import "h" "resolution" (func $resolution (result i64)))
      (memory (export "memory") 1)
      (func (export "run") (result i32) (local $n i32) (local $bits i64)
        (i64.store (i32.const 8) (call $now))
        (i64.store (i32.const 16) (call $resolution))
        (loop
          (local.set $bits (i64.or (local.get $bits) (i64.rem_u (call $now) (i64.const 1000000))))
          (local.set $n (i32.add (local.get $n) (i32.const 1)))
          (br_if 0 (i32.lt_u (local.get $n) (i32.const 1000))))
        (i64.store (i32.const 0) (local.get $bits))
        (i32.const 0)))
    (core instance $h (export "now" (func $now)) (export "resolution" (func $resolution)))
    (core instance $i (instantiate $m (with "h" (instance $h))))
    (func (export "run") (result (tuple u64 u64 u64)) (canon lift (core func $i "run") (memory $i "memory"))))"#;

async fn g11_a_clock_too_coarse_to_time_a_cache() {
    // Time that others have spent is not told: each call counts from its own beginning.
    pause(30).await;
    let outcome = outcome_of(TIMING, &Rule::default().gives("clock")).await;
    let readings: Vec<u64> = serde_json::from_value(outcome.result.expect("it reads")).expect("they are numbers");
    assert_eq!((readings[0], readings[2]), (0, 1_000_000));
    assert!(readings[1] < 10_000_000_000, "{readings:?}");
    let outcome = outcome_of(TIMING, &Rule::default()).await;
    assert_eq!(outcome.result.ok(), Some(json!([0, 0, 1_000_000])), "without a grant time stands");
}

async fn g11_each_call_counts_time_from_its_own_beginning() {
    let clock = Arc::new(SimClock::at(Timestamp(7_000_000)));
    let runner = WasmRunner::new(&options(), clock.clone()).expect("the machine can run guests");
    for _ in 0..2 {
        clock.advance_ms(50_000);
        let call = call(&tool_of(TIMING, "run"), &json!({}), &Rule::default().gives("clock"));
        let outcome = runner.run(call, Arc::new(NoLink)).await;
        assert_eq!(outcome.result.ok(), Some(json!([0, 0, 1_000_000])));
    }
}

async fn h2_arguments_that_do_not_fit() {
    let policy = Rule::default().policy();
    let text = cofferdam_guests::component("text");
    let host = Host::builder()
        .helper(helper())
        .cache_dir(cache_dir())
        .tool("text", text)
        .policy(policy)
        .build()
        .expect("the host is made");
    let deep = (0..100).fold(json!("x"), |inner, _| json!([inner]));
    let wrong = [
        json!({}),
        json!({"text": 7}),
        json!({"text": "x", "more": 1}),
        json!({"text": deep}),
        json!({"text": null}),
        json!([]),
        json!("x"),
        json!(null),
    ];
    for args in wrong {
        let failure = host.call("text.stats", args.clone()).await.expect_err("it never starts");
        assert_eq!((failure.kind, failure.kind.short()), (Kind::DataInput, "invalid.input"), "{args}");
    }
    let large = host.call("text.stats", json!({"text": "x".repeat(10 << 20)})).await;
    let kind = large.map_or_else(|failure| failure.kind, |report| kind(&report.outcome).expect("it fails"));
    assert_eq!(kind.short(), "limit.input");
    // The sandbox is the last gate, should nobody have looked before.
    for args in [json!({}), json!({"text": 7}), json!(null)] {
        let outcome = run("text.stats", args.clone(), &Rule::default()).await;
        assert_eq!(crate::guest::kind(&outcome), Some(Kind::DataInput), "{args}");
        assert_eq!(outcome.usage.fuel, 0, "the guest never started");
    }
    host.call("text.stats", json!({"text": "x"})).await.expect("it fits").outcome.result.expect("it counts");
}

/// A link by which each progress report takes `ms` of simulated time.
struct Passing {
    clock: Arc<SimClock>,
    ms: u64,
    reports: std::sync::atomic::AtomicU64,
}

#[async_trait]
impl CallLink for Passing {
    async fn begin(&self, _: &HostCall) -> Result<Begin, Failure> {
        Ok(Begin::Proceed)
    }

    fn progress(&self, _: Option<f64>, _: &str) {
        self.reports.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        self.clock.advance_ms(self.ms);
    }

    async fn cancelled(&self) {
        std::future::pending().await
    }
}

#[tokio::test]
async fn progress_is_passed_on_at_the_pace_of_an_eye() {
    let wat = r#"(component
        (import "cofferdam:tool/progress@0.1.0" (instance $progress
          (export "report" (func (param "fraction" (option f64)) (param "message" string)))))
        (core module $libc (memory (export "memory") 1))
        (core instance $libc (instantiate $libc))
        (core func $report (canon lower (func $progress "report") (memory $libc "memory")))
        (core module $m
          (import "h" "report" (func $report (param i32 f64 i32 i32)))
          (func (export "run") (local $n i32)
            (loop
              (call $report (i32.const 0) (f64.const 0) (i32.const 0) (i32.const 3))
              (local.set $n (i32.add (local.get $n) (i32.const 1)))
              (br_if 0 (i32.lt_u (local.get $n) (i32.const 1500))))))
        (core instance $h (export "report" (func $report)))
        (core instance $i (instantiate $m (with "h" (instance $h))))
        (func (export "run") (canon lift (core func $i "run"))))"#;
    let reporting = tool_of(wat, "run");
    let passed = async |ms, rule: &Rule| {
        let clock = Arc::new(SimClock::at(Timestamp(1_000)));
        let runner = WasmRunner::new(&options(), clock.clone()).expect("the machine can run guests");
        let link = Arc::new(Passing { clock, ms, reports: Default::default() });
        let outcome = runner.run(call(&reporting, &json!({}), rule), link.clone()).await;
        assert_eq!(kind(&outcome), None, "{:?}", outcome.result);
        link.reports.load(std::sync::atomic::Ordering::SeqCst)
    };
    let rule = Rule::default().gives("progress");
    assert_eq!(passed(0, &rule).await, 20, "in one moment");
    assert_eq!(passed(50, &rule).await, 1_000, "twenty in each second, and a thousand in all");
    assert_eq!(passed(0, &rule.clone().limit("progress_per_second_max", 300)).await, 300);
    assert_eq!(passed(0, &rule.clone().unlimited("progress_per_second_max")).await, 1_000);
    assert_eq!(passed(50, &rule.unlimited("progress_reports_max")).await, 1_500);
}
