//! A run that one process drives, followed by another.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::Arc;

use cofferdam::clock::SystemClock;
use cofferdam::domain::{Fact, GENESIS, RunEnd, Timestamp};
use cofferdam::store::sqlite::{SqliteLog, SqliteOptions};
use cofferdam::store::{Batch, Durability, EventLog, LiveProgress, StepProgress};
use serde_json::Value;

use crate::cli::Shop;
use crate::story::{Canned, RUN, call, id};

fn watch(shop: &Shop, args: &[&str]) -> Child {
    let mut command = shop.command(&[&["watch"], args].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
}

fn numbers(lines: &str) -> Vec<u64> {
    let event = |line: &str| serde_json::from_str::<Value>(line).expect("a line is JSON")["event"]["seq"].as_u64();
    lines.lines().filter_map(event).collect()
}

#[test]
fn a_reader_sees_each_event_of_another_process_once_to_the_end() {
    let shop = Shop::new();
    let left = shop.run(&["run", "flow.toml"]).ends(5);
    assert!(left.err.contains("suspended"), "{}", left.err);
    let seen = shop.run(&["watch", "last", "--json"]).ends(5).out;
    let count = numbers(&seen).len() as u64;
    assert_eq!(numbers(&seen), (1..=count).collect::<Vec<_>>());

    let following = watch(&shop, &["last", "--follow", "--json"]);
    let later = watch(&shop, &["last", "--follow", "--from", &(count + 1).to_string(), "--json"]);
    // Nobody reads it: the run does not mind.
    let mut gone = watch(&shop, &["last", "--follow"]);
    drop(gone.stdout.take());
    shop.run(&["approve", "last", "write"]).ends(0);
    shop.run(&["resume", "last"]).ends(0);
    let text = |child: Child| String::from_utf8(child.wait_with_output().expect("it ends").stdout).expect("text");
    let all = numbers(&text(following));
    let end = *all.last().expect("events");
    assert!(end > count);
    assert_eq!(all, (1..=end).collect::<Vec<_>>());
    assert_eq!(numbers(&text(later)), (count + 1..=end).collect::<Vec<_>>());
    assert!(gone.wait().expect("it ends").success());
    shop.run(&["watch", "last"]).ends(0);
    shop.run(&["watch", "r-01arz3ndektsv4rrffq69g5fzz"]).ends(2);
}

#[test]
fn what_a_tool_says_in_one_process_is_seen_in_another() {
    let shop = Shop::new();
    let step = call("t1.slow", "math.eval");
    let started = Fact::StepStarted {
        step: id("t1.slow"),
        attempt: 1,
        component: GENESIS,
        effect: cofferdam::domain::Effect::Pure,
        rules: vec![],
        reserved: cofferdam::domain::Cost::default(),
        run: None,
    };
    Canned::new(RUN, None).plan(vec![step]).fact(started).left(&shop);

    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let clock = Arc::new(SystemClock::default());
    let log = SqliteLog::open(&shop.path(".cofferdam"), SqliteOptions::default(), clock).expect("it opens");
    let run = RUN.parse().expect("an id");
    let owner = runtime.block_on(log.own(&run, "a test")).expect("nobody has it");
    let mut watching = watch(&shop, &[RUN]);
    let mut lines = BufReader::new(watching.stdout.take().expect("a pipe")).lines();
    for _ in 0..4 {
        let line = lines.next().expect("a line").expect("text");
        assert!(!line.contains("the tool says"), "{line}");
    }
    let at = Timestamp(1_700_000_100_000);
    let (fraction, message) = (Some(0.42), "42 of 100\u{1b}[2J".to_owned());
    log.note_progress(&*owner, StepProgress { step: id("t1.slow"), fraction, message, at });
    let said = lines.next().expect("a line").expect("text");
    assert!(said.contains("t1.slow 42 % · the tool says: 42 of 100") && !said.contains('\u{1b}'), "{said}");

    let events = runtime.block_on(log.read(&run, 0)).expect("it reads");
    let last = events.last().map(|event| (event.seq, event.hash().expect("it hashes"))).expect("events");
    let end = Fact::RunEnded { end: RunEnd::Cancelled { by: "ann".into() }, caveats: vec![] };
    let batch = Batch { after: last, facts: vec![(at, end)], payloads: vec![] };
    runtime.block_on(log.append(&*owner, batch, Durability::Synced)).expect("it is written");
    let rest: Vec<_> = lines.map(|line| line.expect("text")).collect();
    assert!(matches!(rest.as_slice(), [line] if line.ends_with("cancelled by ann")), "{rest:?}");
    assert_eq!(watching.wait().expect("it ends").code(), Some(6));
}

#[test]
fn a_run_that_was_left_ends_the_watch_with_what_to_do() {
    let shop = Shop::new();
    Canned::new(RUN, None).plan(vec![call("t1.a", "math.eval")]).left(&shop);
    let left = shop.run(&["watch", "last"]).ends(5);
    assert!(left.err.contains("nobody works on it") && left.err.contains("cofferdam resume r-"), "{}", left.err);
}
