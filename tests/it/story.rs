//! The story of a run, through the real program: runs that were left in the log by hand, and what is told of them.

use std::sync::Arc;

use cofferdam::clock::SystemClock;
use cofferdam::domain::{
    Caveat, CaveatKind, Cost, Digest, Direction, Effect, Fact, GENESIS, Items, Kind, Parent, PlannedStep, Principal,
    Role, RunEnd, RunId, StepEnd, StepId, Suspension, Timestamp, UndoReason, Usage, idempotency_key,
};
use cofferdam::store::sqlite::{SqliteLog, SqliteOptions};
use cofferdam::store::{Batch, Durability, EventLog, Payload};
use serde_json::{Value, json};

use crate::cli::Shop;

pub const RUN: &str = "r-01arz3ndektsv4rrffq69g5fav";
const WITHIN: &str = "r-01arz3ndektsv4rrffq69g5fb0";

/// A run that is put together fact by fact.
pub struct Canned {
    run: RunId,
    facts: Vec<Fact>,
    payloads: Vec<Payload>,
}

impl Canned {
    pub fn new(run: &str, parent: Option<Parent>) -> Self {
        let mut canned = Self { run: run.parse().expect("an id"), facts: vec![], payloads: vec![] };
        let goal = canned.keep(&json!({ "text": "Book the trip", "workflow": null }));
        let (policy, toolset) = (Digest::of(b"policy"), Digest::of(b"tools"));
        let (principal, planner) = (Principal::default(), "workflow".to_owned());
        let budget = cofferdam::domain::Budget::default();
        canned.fact(Fact::RunCreated {
            principal,
            goal,
            planner,
            policy,
            toolset,
            budget,
            is_single_plan: true,
            has_assertions: false,
            parent,
            trace: None,
        })
    }

    pub fn keep(&mut self, value: &Value) -> Digest {
        let payload = Payload::of(value).expect("it is JSON");
        self.payloads.push(payload.clone());
        payload.digest()
    }

    pub fn fact(mut self, fact: Fact) -> Self {
        self.facts.push(fact);
        self
    }

    pub fn plan(mut self, steps: Vec<PlannedStep>) -> Self {
        let (pack, reply, plan) =
            (self.keep(&json!("pack")), self.keep(&json!("reply")), self.keep(&json!({ "steps": steps })));
        let (turn, has_answer, has_assertions) = (1, false, false);
        self.fact(Fact::PlanRequested { turn, pack, asked: None, reserved: Cost::default() }).fact(Fact::PlanAccepted {
            turn,
            reply,
            plan,
            steps,
            has_answer,
            has_assertions,
            checked_by: 2,
        })
    }

    fn ready(mut self, step: &str, key_of: (&str, Direction), tool: &str, args: &Value) -> Self {
        let tool = tool.parse().expect("a name");
        let key = idempotency_key(&self.run, &id(key_of.0), key_of.1, &tool, args);
        let args = self.keep(args);
        self.fact(Fact::StepReady { step: id(step), args, key, duplicate_of: None })
    }

    fn started(self, step: &str, attempt: u32, run: Option<RunId>) -> Self {
        self.fact(Fact::StepStarted {
            step: id(step),
            attempt,
            component: Digest::of(b"component"),
            effect: Effect::Once,
            rules: vec!["bookings".into()],
            reserved: Cost::default(),
            run,
        })
    }

    fn ended(self, step: &str, attempt: u32, end: StepEnd, retry: Option<Timestamp>) -> Self {
        let usage = Usage { wall_ms: 12, fuel: 34, host_calls: 5, ..Usage::default() };
        let (step, cost, log, denials, host_calls, has_written) = (id(step), Cost::default(), None, None, None, false);
        self.fact(Fact::StepEnded {
            step,
            attempt,
            end,
            usage,
            cost,
            log,
            denials,
            has_written,
            has_open_write: false,
            host_calls,
            retry,
            has_caveats: false,
            within: None,
        })
    }

    fn brought(mut self, step: &str, attempt: u32, output: &Value) -> Self {
        let output = self.keep(output);
        self.ended(step, attempt, StepEnd::Succeeded { output }, None)
    }

    /// Writes the run to the log of the shop, and leaves it.
    pub fn left(self, shop: &Shop) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let clock = Arc::new(SystemClock::default());
            let log = SqliteLog::open(&shop.path(".cofferdam"), SqliteOptions::default(), clock).expect("it opens");
            let at = |n: u64| Timestamp(1_700_000_000_000 + n * 1_000);
            let owner = log.create(&self.run, &Principal::default(), "a test", at(0)).await.expect("it is made");
            let facts = (1..).zip(self.facts).map(|(n, fact)| (at(n), fact)).collect();
            let batch = Batch { after: (0, GENESIS), facts, payloads: self.payloads };
            log.append(&*owner, batch, Durability::Synced).await.expect("it is written");
        });
    }
}

pub fn id(step: &str) -> StepId {
    step.parse().expect("a step")
}

pub fn call(step: &str, tool: &str) -> PlannedStep {
    PlannedStep::call(id(step), tool.parse().expect("a name"), vec![], Effect::Once)
}

/// A flight is booked at the second attempt, a car is not, and the flight is given back.
fn trip() -> Canned {
    let mut trip = Canned::new(RUN, None);
    let failure = |kind, message: &str| json!({ "kind": kind, "message": message });
    let slow = trip.keep(&failure("network.timeout", "reach the airline"));
    let none = trip.keep(&failure("tool.declared", "find a car"));
    let (args, booked) = (json!({ "to": "Oslo" }), json!({ "id": 7 }));
    let back = PlannedStep { role: Role::Undo { of: id("t1.flight") }, ..call("t1.back", "bookings.cancel") };
    let timeout = StepEnd::Failed { kind: Kind::NetworkTimeout, failure: slow };
    let ran_out = StepEnd::Failed { kind: Kind::ToolDeclared, failure: none };
    trip.plan(vec![call("t1.flight", "bookings.book"), call("t1.car", "bookings.book")])
        .ready("t1.flight", ("t1.flight", Direction::Do), "bookings.book", &args)
        .started("t1.flight", 1, None)
        .ended("t1.flight", 1, timeout, Some(Timestamp(1_700_000_009_000)))
        .fact(Fact::RunSuspended { why: Suspension::Timer })
        .started("t1.flight", 2, None)
        .brought("t1.flight", 2, &booked)
        .started("t1.car", 1, None)
        .ended("t1.car", 1, ran_out, None)
        .fact(Fact::UndoBegun {
            why: UndoReason::StepFailed { step: id("t1.car") },
            steps: vec![back],
            left: Vec::new(),
        })
        .ready("t1.back", ("t1.flight", Direction::Undo), "bookings.cancel", &booked)
        .started("t1.back", 1, None)
        .brought("t1.back", 1, &json!(null))
        .fact(Fact::RunEnded {
            end: RunEnd::Failed { kind: Kind::ToolDeclared, failure: none },
            caveats: vec![
                Caveat { step: id("t1.flight"), what: CaveatKind::Undone },
                Caveat { step: id("t1.car"), what: CaveatKind::Failed },
            ],
        })
}

#[test]
fn a_run_that_took_back_what_it_did_is_told_from_its_log() {
    let shop = Shop::new();
    trip().left(&shop);
    let told = shop.run(&["watch", "last"]).ends(1);
    for line in [
        "    6  2023-11-14T22:13:26.000Z  t1.flight bookings.book: failed: network.timeout in 12 ms; again in 3.0 s\n",
        "suspended: the next attempt comes later\n",
        "t1.flight bookings.book: started (attempt 2)\n",
        "taking back 1 step: t1.car failed\n",
        "t1.back bookings.cancel (takes back t1.flight): succeeded in 12 ms\n",
        "failed: tool.declared, with 2 caveats\n",
    ] {
        assert!(told.out.contains(line), "{line}: {}", told.out);
    }
    for line in ["caveats:\n  t1.flight: it was taken back\n  t1.car: it failed\n", "failed to find a car"] {
        assert!(told.err.contains(line), "{line}: {}", told.err);
    }
    let shown = shop.run(&["show", "last"]).ends(0).out;
    for part in ["undone, 2 attempts", "succeeded, takes back t1.flight", "t1.flight: it was taken back"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let report = shop.run(&["show", "last", "--json"]).ends(0).json();
    assert_eq!(report["caveats"][0], json!({ "step": "t1.flight", "what": "undone" }));
    assert_eq!(report["undo"], json!({ "as": "step_failed", "step": "t1.car" }));
}

#[test]
fn an_undo_explains_itself_through_the_step_that_it_takes_back() {
    let shop = Shop::new();
    trip().left(&shop);
    let told = shop.run(&["explain", "last", "back"]).ends(0).out;
    for part in [
        "local/local asks; workflow plans",
        "│ Book the trip",
        "turn 1: the plan is checked; it has 2 steps",
        "t1.flight has its arguments",
        "attempt 1 begins: component ",
        "allowed by rule `bookings` (the policy has changed since)",
        "attempt 1 fails: network.timeout: 12 ms, 34 fuel, 5 host calls; tried again at 2023-11-14T22:13:29.000Z",
        "│ reach the airline",
        "attempt 2 succeeds",
        "as t1.car failed, these are taken back: t1.flight by t1.back",
        "│ {\"id\":7}",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("find a car"), "another step's failure is none of its chain: {told}");
    let chain = shop.run(&["explain", "last", "t1.back", "--json"]).ends(0).json();
    assert_eq!(chain["is_whole"], true, "{chain}");
    let facts: Vec<_> = chain["links"].as_array().expect("links").iter().map(|link| link["fact"].clone()).collect();
    let first = ["run_created", "plan_requested", "plan_accepted", "step_ready", "step_started", "step_ended"];
    assert_eq!(facts[..6], first.map(|fact| json!(fact)));
    let digests = chain["links"].as_array().expect("links").iter().flat_map(|link| {
        link["digests"].as_array().into_iter().flatten().map(|checked| checked["state"].clone()).collect::<Vec<_>>()
    });
    assert!(digests.clone().count() > 8 && digests.into_iter().all(|state| state == "fits"), "{chain}");
    shop.run(&["explain", "last", "hotel"]).ends(2);
}

#[test]
fn a_digest_that_nothing_fits_is_marked() {
    let shop = Shop::new();
    let lost = Digest::of(b"nobody kept this");
    let step = || id("t1.flight");
    let canned = Canned::new(RUN, None).plan(vec![call("t1.flight", "bookings.book")]);
    let canned = canned.ready("t1.flight", ("t1.other", Direction::Do), "bookings.book", &json!({ "to": "Oslo" }));
    canned.fact(Fact::StepRejected { step: step(), kind: Kind::PolicyDenied, failure: lost }).left(&shop);
    let told = shop.run(&["explain", "last", "flight"]).ends(70);
    assert!(told.out.contains(&format!("failure {lost}  is NOT THERE")), "{}", told.out);
    assert!(told.out.lines().any(|line| line.contains("  key ") && line.ends_with("DIFFERS from what is kept")));
    assert!(told.err.contains("a digest differs from what is kept"), "{}", told.err);
}

#[test]
fn a_step_of_a_run_within_a_run_explains_itself_from_the_outer_goal() {
    let shop = Shop::new();
    let within: RunId = WITHIN.parse().expect("an id");
    let each = PlannedStep { items: Some(Items { items_max: 5, parallel_max: 1 }), ..call("t1.each", "math.eval") };
    let mut outer = Canned::new(RUN, None).plan(vec![call("t1.inner", "cofferdam.run"), each]);
    let list = outer.keep(&json!([1, 2]));
    outer
        .ready("t1.inner", ("t1.inner", Direction::Do), "cofferdam.run", &json!({}))
        .started("t1.inner", 1, Some(within))
        .fact(Fact::StepExpanded { step: id("t1.each"), items: 2, list })
        .ready("t1.each[1]", ("t1.each[1]", Direction::Do), "math.eval", &json!({ "expression": "2" }))
        .brought("t1.each[1]", 1, &json!("2"))
        .left(&shop);
    let parent = Parent {
        run: RUN.parse().expect("an id"),
        step: id("t1.inner"),
        depth: 1,
        calls_left: Default::default(),
        takes_back: None,
    };
    let inner = Canned::new(WITHIN, Some(parent)).plan(vec![call("t1.deep", "math.eval")]);
    inner.ready("t1.deep", ("t1.deep", Direction::Do), "math.eval", &json!({ "expression": "1" })).left(&shop);

    let told = shop.run(&["explain", WITHIN, "deep"]).ends(0).out;
    let begun = told.find(&format!("attempt 1 begins, as run {WITHIN}")).expect("the outer step is told");
    let asked = told.find(&format!("for step t1.inner of run {RUN}")).expect("the inner run is told");
    assert!(begun < asked && told.contains("t1.deep has its arguments"), "{told}");
    let item = shop.run(&["explain", RUN, "each[1]"]).ends(0).out;
    assert!(item.contains("t1.each is done for 2 items") && item.contains("│ {\"expression\":\"2\"}"), "{item}");
    let shown = shop.run(&["show", WITHIN]).ends(0).out;
    assert!(shown.contains(&format!("part of  step t1.inner of run {RUN}")), "{shown}");
    let step = shop.run(&["show", RUN, "--step", "inner"]).ends(0).out;
    assert!(step.contains(&format!("run      {WITHIN}\n")), "{step}");
}

#[test]
fn all_that_waits_is_listed_each_with_the_command_that_is_about_it_alone() {
    let shop = Shop::new();
    let asked = |step: &str, binding: &[u8]| Fact::ApprovalRequested {
        step: id(step),
        binding: Digest::of(binding),
        effect: Effect::Once,
        rule: "write-notes".into(),
        expires: Timestamp(1_900_000_000_000),
    };
    let args = |line: &str| json!({ "path": "/notes/sums.md", "line": line });
    let steps = ["t1.a", "t1.b", "t1.lost"].map(|step| call(step, "notes.append"));
    Canned::new(RUN, None)
        .plan(steps.to_vec())
        .ready("t1.a", ("t1.a", Direction::Do), "notes.append", &args("first"))
        .ready("t1.b", ("t1.b", Direction::Do), "notes.append", &args("second"))
        .fact(asked("t1.a", b"a"))
        .fact(asked("t1.b", b"b"))
        .started("t1.lost", 1, None)
        .fact(Fact::StepUnknown { step: id("t1.lost"), attempt: 1 })
        .fact(Fact::RunSuspended { why: Suspension::Approval })
        .left(&shop);
    let back = PlannedStep { role: Role::Undo { of: id("t1.a") }, ..call("t1.back", "notes.read") };
    let mut stuck = Canned::new(WITHIN, None).plan(vec![call("t1.a", "notes.append")]);
    let failure = stuck.keep(&json!({ "kind": "tool.declared", "message": "read it" }));
    stuck
        .fact(Fact::UndoBegun { why: UndoReason::Cancelled { by: "ann".into() }, steps: vec![back], left: Vec::new() })
        .ended("t1.back", 1, StepEnd::Failed { kind: Kind::ToolDeclared, failure }, None)
        .fact(Fact::RunSuspended { why: Suspension::Stuck })
        .left(&shop);

    let listed = shop.run(&["approvals"]).ends(0).out;
    let short = |binding: &[u8]| Digest::of(binding).short().to_string();
    for part in [
        "Book the trip (nobody works on it)",
        "approve  t1.a notes.append (once), rule write-notes, until 2030-03-17T17:46:40.000Z",
        &format!("cofferdam approve {RUN} t1.b --binding {}", short(b"b")),
        &format!("cofferdam resume {RUN} --settle t1.lost=retry"),
        "stuck    t1.back: it was to take something back, and could not",
        &format!("cofferdam resume {WITHIN} --settle t1.back=failed"),
    ] {
        assert!(listed.contains(part), "{part}: {listed}");
    }
    let waiting = shop.run(&["approvals", "--json"]).ends(0).json();
    let what: Vec<_> = waiting["waiting"].as_array().expect("a list").iter().map(|matter| &matter["what"]).collect();
    assert_eq!(what, ["stuck", "approval", "approval", "reconcile"]);
    assert_eq!(shop.run(&["watch", WITHIN]).code, 10);

    // The binding of one call decides about no other.
    let binding = &short(b"a");
    shop.run(&["approve", RUN, "b", "--binding", binding]).ends(2);
    shop.run(&["reject", RUN, "a", "--binding", binding, "--reason", "no", "--json"]).ends(0);
}

#[test]
fn other_arguments_are_shown_as_what_differs_and_checked_before_they_are_sent() {
    let shop = Shop::new();
    shop.run(&["run", "flow.toml"]).ends(5);
    let other = r#"{"path": "/notes/sums.md", "line": "another sum"}"#;
    for wrong in ["{", "[]", r#"{"path": "/notes/sums.md"}"#, r#"{"path": "/notes/sums.md", "line": 7}"#] {
        shop.run(&["approve", "last", "write", "--args", wrong]).ends(2);
    }
    let same = shop.run(&["approve", "last", "write", "--args", r#"{"path": "/notes/sums.md", "line": "a sum"}"#]);
    assert!(same.ends(2).err.contains("they are the same"));
    shop.write("other.json", other);
    let told = shop.run(&["approve", "last", "write", "--args", "@other.json"]).ends(0).err;
    assert!(told.contains("  │ - /line: \"a sum\"\n  │ + /line: \"another sum\"\n"), "{told}");
    assert!(told.contains("approved with other arguments: t1.write"), "{told}");
    shop.run(&["resume", "last"]).ends(0);
    let chain = shop.run(&["explain", "last", "write"]).ends(0).out;
    for part in
        ["approves with other arguments", "│ proposed: {\"line\":\"a sum\",", "│ approved: {\"line\":\"another sum\","]
    {
        assert!(chain.contains(part), "{part}: {chain}");
    }
}

#[test]
fn a_chain_tells_what_arguments_are_of_why_a_step_was_skipped_and_who_brought_a_cached_outcome() {
    let shop = Shop::new();
    let flow = r#"
workflow = "sums"
goal = "Sum twice"

[[steps]]
id = "sum"
tool = "math.eval"
args = { expression = "1 + 2" }

[[steps]]
id = "double"
tool = "math.eval"
args = { expression = { "$from" = "sum" } }

[[steps]]
id = "long"
tool = "math.eval"
args = { expression = "9" }
when = "steps.sum == '9'"
"#;
    shop.write("sums.toml", flow);
    shop.run(&["run", "sums.toml"]).ends(0);
    let double = shop.run(&["explain", "last", "double"]).ends(0).out;
    assert!(double.contains("t1.double has its arguments, of t1.sum"), "{double}");
    let long = shop.run(&["explain", "last", "long"]).ends(0).out;
    assert!(long.contains("t1.long is skipped, as its condition does not hold"), "{long}");
    assert!(long.lines().any(|line| line.contains("│ ") && line.contains("t1.sum") && line.contains("9")), "{long}");
    let first = shop.run(&["show", "last", "--json"]).ends(0).json()["run"].as_str().expect("an id").to_owned();
    shop.run(&["run", "sums.toml"]).ends(0);
    let cached = shop.run(&["explain", "last", "sum"]).ends(0).out;
    let taken = cached.find(&format!("the outcome is taken from run {first}")).expect("it is told");
    let brought = cached.find("attempt 1 succeeds").expect("the call of then is told");
    assert!(taken < brought && cached.contains(&format!("run {first}\n")), "{cached}");
}

#[test]
fn a_success_with_caveats_is_none_where_it_is_taken_strictly() {
    let shop = Shop::new();
    let flow = r#"
workflow = "half"
goal = "Sum what can be summed"
answer = { "$from" = "sum" }

[[steps]]
id = "sum"
tool = "math.eval"
args = { expression = "1 + 1" }

[[steps]]
id = "broken"
tool = "math.eval"
args = { expression = "1 /" }
on_failure = "skip"
"#;
    shop.write("half.toml", flow);
    let done = shop.run(&["run", "half.toml"]).ends(0);
    assert!(done.out == "2\n" && done.err.contains("caveats:\n  t1.broken: it failed\n"), "{}", done.err);
    let strict = shop.run(&["run", "half.toml", "--strict"]).ends(9);
    assert!(strict.err.contains("caveats:\n  t1.broken: it failed\n"), "{}", strict.err);
}
