//! Simulated runs: the real driver, machine and store under a simulated clock and a scripted world, with crashes at every
//! point. A seed tells all that happens; it stands in every message, and brings the same again.
//!
//! `SEEDS=10000 cargo test sim -- --ignored --nocapture` takes many; `SEED=7 cargo test sim_one -- --ignored` one.

use cofferdam::domain::Budget;
use serde_json::json;

mod clock;
mod disk;
mod fuse;
mod laws;
mod person;
mod plans;
mod process;
mod wanted;
mod world;

use fuse::Blow;
use plans::Alike;
use process::{Case, Crashes, Simulated, simulate};

/// Seeds of an ordinary test: some twenty seconds.
const SEEDS: u64 = 200;

/// Runs something in simulated time, in one thread.
fn simulated<T>(it: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("the runtime is made").block_on(it)
}

/// Six steps of every kind: one that looks, one that computes, and writes with and without keys, lookups and undo.
fn fixed() -> Case {
    let workflow = json!({
        "workflow": "fixed",
        "goal": "Do six things.",
        "answer": {"id": {"$from": "hotel", "path": "/id"}, "words": {"$from": "count", "path": "/words"}},
        "steps": [
            {"id": "look", "tool": "fetch.get", "args": {"url": "https://f.test/look-f1"}},
            {"id": "count", "tool": "text.stats", "args": {"text": "one two three"}},
            {"id": "flight", "tool": "bookings.book", "needs": ["look"],
                "args": {"kind": "flight", "what": "flight-w2-l1"}},
            {"id": "hotel", "tool": "journeys.book", "args": {"kind": "hotel", "what": "hotel-w2-f1"}},
            {"id": "note", "tool": "notes.append", "needs": ["count"],
                "args": {"path": "/notes/a", "line": "note"}},
            {"id": "send", "tool": "fetch.send", "needs": ["flight"],
                "args": {"method": "POST", "url": "https://f.test/send-w3-f1-l1"}},
        ],
    });
    Case { seed: 1, workflow, budget: Budget::default(), asks: false, rejects: false, cancelling: None }
}

/// A simulation that was held to all laws.
struct Held {
    simulated: Simulated,
    end: laws::Final,
    lines: String,
    is_reconciled: bool,
    is_over_budget: bool,
}

async fn held(case: &Case, crashes: Crashes) -> Held {
    let seed = format!("seed {} with {crashes:?}", case.seed);
    let simulated = simulate(case, crashes).await;
    let told = laws::told(&simulated).await;
    laws::hold(&simulated, &told, &seed).await;
    for told in &told {
        wanted::hold(&simulated.disk.log(), &told.events, &seed).await;
    }
    let (is_reconciled, is_keyed) = laws::reconciled(&told);
    let is_over_budget = laws::is_over_budget(&told);
    assert!(
        !is_keyed || is_over_budget,
        "{}\n{seed}: a person was asked about a call whose service honours keys",
        laws::lines(&told)
    );
    Held {
        end: laws::end_of(&told, &simulated.run),
        lines: laws::lines(&told),
        simulated,
        is_reconciled,
        is_over_budget,
    }
}

#[test]
fn sim_a_crash_at_every_point_of_a_workflow_changes_nothing() {
    let case = fixed();
    let whole = simulated(held(&case, Crashes::Never));
    let points = whole.simulated.points;
    assert!(whole.end.end.starts_with("succeeded"), "{:?}", whole.end);
    let (mut runs, mut crashes, mut suspended) = (0_u32, 0, 0_u32);
    for at in 1..=points {
        for how in [Blow::Dies, Blow::DiskFull] {
            let held = simulated(held(&case, Crashes::Once(at, how)));
            (runs, crashes) = (runs + 1, crashes + held.simulated.crashes);
            suspended += u32::from(held.is_reconciled);
            if !held.is_reconciled {
                assert_eq!(held.end, whole.end, "crash at point {at}, {how:?}:\n{}", held.lines);
            }
        }
    }
    println!(
        "{points} points, {runs} runs, {crashes} crashes, {suspended} waited for a person to say what became of a step"
    );
}

/// What many seeds came to.
#[derive(Debug, Default)]
struct Tally {
    seeds: u32,
    crashes: u32,
    refused: u32,
    compared: u32,
    suspended: u32,
    over_budget: u32,
    failed: Vec<u64>,
}

/// Simulates a seed without crashes and with some, and compares.
fn seed(seed: u64, tally: &mut Tally) {
    let (case, alike) = plans::made_up(seed);
    let whole = simulated(held(&case, Crashes::Never));
    let held = simulated(held(&case, Crashes::Random(6)));
    tally.seeds += 1;
    tally.crashes += held.simulated.crashes;
    tally.refused += held.simulated.refused;
    // Without a crash a person is asked only where the answer to a write was lost.
    tally.suspended += u32::from(held.is_reconciled);
    tally.over_budget += u32::from(held.is_over_budget);
    if held.is_reconciled || whole.is_reconciled || held.is_over_budget {
        return;
    }
    tally.compared += u32::from(alike > Alike::Nothing);
    let word = |end: &laws::Final| end.end.split(' ').next().map(str::to_owned);
    match alike {
        Alike::Nothing => {}
        Alike::Word => assert_eq!(word(&held.end), word(&whole.end), "seed {seed}:\n{}", held.lines),
        Alike::End => assert_eq!(held.end.end, whole.end.end, "seed {seed}:\n{}", held.lines),
        Alike::Whole => assert_eq!(held.end, whole.end, "seed {seed}:\n{}", held.lines),
    }
}

/// Simulates all seeds, and tells every one that broke a law.
fn seeds(seeds: impl Iterator<Item = u64>) {
    let mut tally = Tally::default();
    for n in seeds {
        let held = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| seed(n, &mut tally)));
        if held.is_err() {
            tally.failed.push(n);
        }
    }
    let Tally { seeds, crashes, refused, compared, suspended, over_budget, failed } = tally;
    println!(
        "{seeds} seeds: {crashes} crashes, {refused} processes refused, {compared} ends compared, {over_budget} met a bound of their budget, in {suspended} a person said what became of a step"
    );
    assert!(failed.is_empty(), "these seeds break a law: {failed:?}");
}

/// Crashes and full disks at random points, several in one run, and processes that want the same run.
#[test]
fn sim_hundreds_of_workflows_survive_crashes_anywhere() {
    seeds(0..SEEDS);
}

/// Many seeds: `SEEDS=10000 cargo test sim -- --ignored --nocapture`; those from `SEED` on, where that is set.
#[test]
#[ignore = "as long as it is told: ten thousand seeds take a quarter of an hour"]
#[expect(clippy::disallowed_methods, reason = "what a person asks of one run of the test")]
fn sim_as_many_workflows_as_asked_survive_crashes_anywhere() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("SEED").unwrap_or(0);
    let count = number("SEEDS").unwrap_or(if number("SEED").is_some() { 1 } else { 1_000 });
    seeds(first..first.saturating_add(count));
}

/// A seed tells all: the same events with the same hashes, crashes and all.
#[test]
fn sim_a_seed_replays() {
    for seed in 0..10 {
        let (case, _) = plans::made_up(seed);
        let [one, other] = [(); 2].map(|()| simulated(held(&case, Crashes::Random(6))).lines);
        assert_eq!(one, other, "seed {seed}");
    }
}
