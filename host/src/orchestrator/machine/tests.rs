//! The machine, driven by hand: each fact becomes the next event.

use super::*;
use crate::domain::Decision;
use crate::domain::{
    Budget, Caveat, CaveatKind, Cost, Effect, Items, OnFailure, RetryRule, SCHEMA_VERSION, Settlement, SkipReason,
    StepEnd, Usage,
};

mod model;
mod word;

/// A run that is driven by hand.
pub(in crate::orchestrator) struct Hand(pub(in crate::orchestrator) Run);

pub(in crate::orchestrator) fn digest(n: u8) -> Digest {
    Digest::from_bytes([n; 32])
}

pub(in crate::orchestrator) fn id(name: &str) -> StepId {
    match name.split_once(['[', '~']) {
        None => StepId::new(1, name).unwrap(),
        Some(_) => format!("t1.{name}").parse().unwrap(),
    }
}

pub(in crate::orchestrator) fn planned(name: &str, needs: &[&str], effect: Effect) -> PlannedStep {
    let needs = needs.iter().map(|need| id(need)).collect();
    PlannedStep::call(id(name), ToolName::new("x", "y").unwrap(), needs, effect)
}

fn event(run: &Run, at: Timestamp, fact: Fact) -> Event {
    Event {
        v: SCHEMA_VERSION,
        run: run.id.clone(),
        seq: run.last.0 + 1,
        epoch: 1,
        at,
        prev: run.last.1,
        fact,
        stored: None,
    }
}

impl Hand {
    pub(in crate::orchestrator) fn new(is_single_plan: bool, steps: Vec<PlannedStep>) -> Self {
        let budget =
            Budget { calls_max: 5, parallel_max: 2, planner_turns_max: 3, wall_ms_max: 1_000, ..Budget::default() };
        Self::with(is_single_plan, budget, steps)
    }

    pub(in crate::orchestrator) fn with(is_single_plan: bool, budget: Budget, steps: Vec<PlannedStep>) -> Self {
        Self::within(is_single_plan, budget, None, steps)
    }

    /// A run within another one.
    pub(in crate::orchestrator) fn within(
        is_single_plan: bool,
        budget: Budget,
        parent: Option<Parent>,
        steps: Vec<PlannedStep>,
    ) -> Self {
        let fact = Fact::RunCreated {
            principal: Principal::default(),
            goal: digest(0),
            planner: "hand".into(),
            policy: digest(0),
            toolset: digest(0),
            budget,
            is_single_plan,
            has_assertions: false,
            parent,
        };
        let run: RunId = "r-01arz3ndektsv4rrffq69g5fav".parse().unwrap();
        let first =
            Event { v: SCHEMA_VERSION, run, seq: 1, epoch: 1, at: Timestamp(0), prev: GENESIS, fact, stored: None };
        let mut hand = Self(Run::created(&first).unwrap());
        if !steps.is_empty() {
            hand.take(Fact::PlanRequested { turn: 1, pack: digest(0) });
            hand.take(accepted(steps));
        }
        hand
    }

    #[track_caller]
    pub(in crate::orchestrator) fn take(&mut self, fact: Fact) {
        self.take_at(Timestamp(0), fact);
    }

    #[track_caller]
    pub(in crate::orchestrator) fn take_at(&mut self, at: Timestamp, fact: Fact) {
        let event = event(&self.0, at, fact);
        self.0.apply(&event).unwrap();
    }

    #[track_caller]
    fn refuses(&self, fact: Fact) {
        let mut run = self.0.clone();
        assert!(run.apply(&event(&self.0, Timestamp(0), fact)).is_err());
    }

    fn next(&self) -> Vec<Command> {
        self.0.next(Timestamp(0))
    }

    fn ready(&mut self, name: &str) {
        self.take(Fact::StepReady { step: id(name), args: digest(1), key: digest(2) });
    }

    fn start(&mut self, name: &str) {
        let attempt = self.step(name).attempts + 1;
        self.take(started(name, attempt));
    }

    fn write(&mut self, name: &str) {
        let attempt = self.step(name).attempts;
        self.take(Fact::WriteBegun { step: id(name), attempt });
    }

    fn end(&mut self, name: &str, end: StepEnd) {
        self.end_retrying(name, end, None);
    }

    fn end_retrying(&mut self, name: &str, end: StepEnd, retry: Option<Timestamp>) {
        let attempt = self.step(name).attempts;
        self.take(ended(name, attempt, end, retry));
    }

    /// Has the step done in one go.
    fn does(&mut self, name: &str, end: StepEnd) {
        self.ready(name);
        self.start(name);
        self.end(name, end);
    }

    fn step(&self, name: &str) -> &Step {
        self.0.step(&id(name)).unwrap()
    }

    fn stage(&self, name: &str) -> Stage {
        self.step(name).status.stage()
    }
}

fn accepted(steps: Vec<PlannedStep>) -> Fact {
    Fact::PlanAccepted { turn: 1, reply: digest(0), plan: digest(0), steps, has_answer: false, has_assertions: false }
}

fn started(name: &str, attempt: u32) -> Fact {
    Fact::StepStarted {
        step: id(name),
        attempt,
        component: digest(0),
        effect: Effect::Pure,
        rules: vec![],
        reserved: one(),
        run: None,
    }
}

fn ended(name: &str, attempt: u32, end: StepEnd, retry: Option<Timestamp>) -> Fact {
    Fact::StepEnded {
        step: id(name),
        attempt,
        end,
        usage: Usage::default(),
        cost: one(),
        log: None,
        denials: None,
        has_written: false,
        host_calls: None,
        retry,
        has_caveats: false,
        within: None,
    }
}

fn one() -> Cost {
    Cost { calls: 1, ..Cost::default() }
}

fn start(name: &str) -> Command {
    Command::Start { step: id(name), reserve: one() }
}

fn prepare(name: &str) -> Command {
    Command::Prepare { step: id(name) }
}

fn skip(name: &str, needs: &str) -> Command {
    Command::Skip { step: id(name), why: SkipReason::Needs { step: id(needs) } }
}

fn caveats(of: &[(&str, CaveatKind)]) -> Vec<Caveat> {
    of.iter().map(|(name, what)| Caveat { step: id(name), what: *what }).collect()
}

fn end(ending: Ending, of: &[(&str, CaveatKind)]) -> Vec<Command> {
    vec![Command::End { ending, caveats: caveats(of) }]
}

fn out(what: &str) -> Ending {
    Ending::Budget { what: what.into() }
}

fn success() -> Ending {
    Ending::Succeeded { answer: None }
}

fn step_failed(name: &str) -> Ending {
    Ending::StepFailed { step: id(name), kind: Kind::ToolTrap, failure: digest(4) }
}

fn succeeded() -> StepEnd {
    StepEnd::Succeeded { output: digest(3) }
}

fn failed() -> StepEnd {
    StepEnd::Failed { kind: Kind::ToolTrap, failure: digest(4) }
}

fn failing(kind: Kind) -> StepEnd {
    StepEnd::Failed { kind, failure: digest(4) }
}

fn settled(name: &str, settlement: Settlement) -> Fact {
    Fact::StepSettled { step: id(name), settlement, by: "ann".into() }
}

#[test]
fn steps_start_when_what_they_need_is_there_and_no_more_than_fit() {
    let pure = Effect::Pure;
    let steps =
        vec![planned("a", &[], pure), planned("b", &[], pure), planned("c", &[], pure), planned("d", &["a"], pure)];
    let mut hand = Hand::new(true, steps);
    assert_eq!(hand.next(), [prepare("a"), prepare("b"), prepare("c")]);
    ["a", "b", "c"].into_iter().for_each(|name| hand.ready(name));
    assert_eq!(hand.next(), [start("a"), start("b")], "two fit");
    hand.start("a");
    hand.start("b");
    assert_eq!(hand.next(), []);
    hand.end("a", succeeded());
    assert_eq!(hand.next(), [start("c"), prepare("d")]);
}

#[test]
fn steps_that_may_change_the_same_keep_the_order_of_the_plan() {
    let touching = |name, what: &[&str]| PlannedStep {
        touches: what.iter().map(|what| (*what).to_owned()).collect(),
        ..planned(name, &[], Effect::Once)
    };
    let orders = [
        (touching("a", &[]), touching("b", &["files:/x"]), false),
        (touching("a", &["files:/x"]), touching("b", &["files:/x", "files:/y"]), false),
        (touching("a", &["files:/x"]), touching("b", &["files:/y"]), true),
        (touching("a", &["files:/x"]), planned("b", &[], Effect::Read), true),
    ];
    for (a, b, is_free) in orders {
        let told = format!("{:?} {:?}", a.touches, b.touches);
        let mut hand = Hand::new(true, vec![a, b]);
        ["a", "b"].into_iter().for_each(|name| hand.ready(name));
        let both = vec![start("a"), start("b")];
        assert_eq!(hand.next(), if is_free { both } else { vec![start("a")] }, "{told}");
        hand.start("a");
        assert_eq!(hand.next(), if is_free { vec![start("b")] } else { vec![] }, "{told}");
        hand.end("a", succeeded());
        assert_eq!(hand.next(), [start("b")]);
    }
}

#[test]
fn after_a_failure_what_only_looks_goes_on_and_nothing_that_changes_anything_starts() {
    let steps = vec![
        planned("a", &[], Effect::Pure),
        planned("look", &[], Effect::Read),
        planned("more", &["look"], Effect::Read),
        planned("write", &[], Effect::Once),
        planned("after-a", &["a"], Effect::Pure),
    ];
    let mut hand = Hand::new(true, steps);
    ["a", "look"].into_iter().for_each(|name| hand.ready(name));
    ["a", "look"].into_iter().for_each(|name| hand.start(name));
    hand.end("a", failed());
    assert_eq!(hand.next(), [skip("after-a", "a")], "the write does not begin, look may end");
    hand.take(Fact::StepSkipped { step: id("after-a"), why: SkipReason::Needs { step: id("a") } });
    hand.end("look", succeeded());
    assert_eq!(hand.next(), [prepare("more")]);
    hand.does("more", succeeded());
    let left = [("a", CaveatKind::Failed), ("write", CaveatKind::Unfinished), ("after-a", CaveatKind::Skipped)];
    assert_eq!(hand.next(), end(step_failed("a"), &left));
}

#[test]
fn a_failure_that_may_be_passed_over_is_a_caveat_of_a_success() {
    let tolerant = PlannedStep { on_failure: OnFailure::Skip, ..planned("a", &[], Effect::Pure) };
    let mut hand = Hand::new(true, vec![tolerant, planned("b", &["a"], Effect::Pure), planned("c", &[], Effect::Once)]);
    hand.does("a", failed());
    assert_eq!(hand.next(), [skip("b", "a"), prepare("c")]);
    hand.take(Fact::StepSkipped { step: id("b"), why: SkipReason::Needs { step: id("a") } });
    hand.does("c", succeeded());
    assert_eq!(hand.next(), end(success(), &[("a", CaveatKind::Failed), ("b", CaveatKind::Skipped)]));
}

#[test]
fn a_fallback_runs_only_when_it_is_needed_and_then_counts_as_what_it_stands_for() {
    let steps = || {
        let primary = PlannedStep { on_failure: OnFailure::Fallback("t1.b".into()), ..planned("a", &[], Effect::Read) };
        vec![primary, planned("b", &[], Effect::Read), planned("c", &["a"], Effect::Pure)]
    };
    let mut hand = Hand::new(true, steps());
    assert_eq!(hand.next(), [prepare("a")], "b waits for what becomes of a");
    let mut needed = Hand(hand.0.clone());
    hand.does("a", succeeded());
    let not_needed = Command::Skip { step: id("b"), why: SkipReason::NotNeeded };
    assert_eq!(hand.next(), [not_needed, prepare("c")]);
    hand.take(Fact::StepSkipped { step: id("b"), why: SkipReason::NotNeeded });
    hand.does("c", succeeded());
    assert_eq!(hand.next(), end(success(), &[]), "it is no caveat that it was not needed");

    needed.does("a", failed());
    assert_eq!(needed.next(), [prepare("b")]);
    let mut lost = Hand(needed.0.clone());
    needed.does("b", succeeded());
    assert_eq!(needed.next(), [prepare("c")]);
    assert_eq!(needed.0.stand_in(&id("a")).unwrap().id(), &id("b"));
    needed.does("c", succeeded());
    assert_eq!(needed.next(), end(success(), &[("a", CaveatKind::Degraded)]));

    lost.does("b", failed());
    lost.take(Fact::StepSkipped { step: id("c"), why: SkipReason::Needs { step: id("a") } });
    let all = [("a", CaveatKind::Failed), ("b", CaveatKind::Failed), ("c", CaveatKind::Skipped)];
    assert_eq!(lost.next(), end(step_failed("b"), &all));
}

#[test]
fn a_step_that_comes_after_another_one_waits_for_its_end_however_it_ends() {
    let tolerant = PlannedStep { on_failure: OnFailure::Skip, ..planned("a", &[], Effect::Read) };
    let tidy = PlannedStep { after: vec![id("a")], ..planned("tidy", &[], Effect::Read) };
    let mut hand = Hand::new(true, vec![tolerant, tidy]);
    assert_eq!(hand.next(), [prepare("a")]);
    hand.does("a", failed());
    assert_eq!(hand.next(), [prepare("tidy")]);
}

#[test]
fn items_run_within_their_bound_and_their_step_ends_with_them() {
    let each =
        PlannedStep { items: Some(Items { items_max: 3, parallel_max: 1 }), ..planned("each", &[], Effect::Read) };
    let mut hand = Hand::new(true, vec![each, planned("next", &["each"], Effect::Pure)]);
    let expanded = |items| Fact::StepExpanded { step: id("each"), items, list: digest(6) };
    hand.refuses(expanded(4));
    hand.take(expanded(2));
    assert_eq!(hand.next(), [prepare("each[0]")], "one at a time");
    hand.ready("each[0]");
    assert_eq!(hand.next(), [start("each[0]")]);
    hand.start("each[0]");
    assert_eq!(hand.next(), []);
    let mut broken = Hand(hand.0.clone());
    hand.end("each[0]", succeeded());
    assert_eq!(hand.next(), [prepare("each[1]")]);
    hand.does("each[1]", succeeded());
    assert_eq!(hand.next(), [Command::Gather { step: id("each") }]);
    hand.take(Fact::StepGathered { step: id("each"), end: succeeded() });
    assert_eq!(hand.next(), [prepare("next")]);

    broken.end("each[0]", failed());
    assert_eq!(broken.next(), [skip("each[1]", "each[0]")], "the others do not begin");
    broken.take(Fact::StepSkipped { step: id("each[1]"), why: SkipReason::Needs { step: id("each[0]") } });
    broken.take(Fact::StepGathered { step: id("each"), end: failed() });
    assert_eq!(broken.next(), [skip("next", "each")]);
}

#[test]
fn an_empty_list_is_done_at_once() {
    let each =
        PlannedStep { items: Some(Items { items_max: 3, parallel_max: 1 }), ..planned("each", &[], Effect::Once) };
    let mut hand = Hand::new(true, vec![each]);
    hand.take(Fact::StepExpanded { step: id("each"), items: 0, list: digest(6) });
    assert_eq!(hand.next(), [Command::Gather { step: id("each") }]);
}

#[test]
fn a_planner_that_goes_on_sees_the_failure_and_is_asked_again() {
    let mut hand = Hand::new(false, vec![planned("a", &[], Effect::Pure), planned("b", &["a"], Effect::Pure)]);
    hand.does("a", failed());
    assert_eq!(hand.next(), [skip("b", "a")]);
    hand.take(Fact::StepSkipped { step: id("b"), why: SkipReason::Needs { step: id("a") } });
    assert_eq!(hand.next(), [Command::Plan { turn: 2 }]);
}

#[test]
fn the_same_call_that_fails_in_the_same_way_too_often_ends_the_run() {
    let mut hand = Hand::new(false, vec![planned("a", &[], Effect::Pure), planned("b", &[], Effect::Pure)]);
    hand.0.budget.same_failures_max = 2;
    hand.does("a", failed());
    hand.does("b", failed());
    let ending = Ending::Loop { step: id("b"), times: 2 };
    assert_eq!(hand.next(), end(ending, &[("a", CaveatKind::Failed), ("b", CaveatKind::Failed)]));
}

#[test]
fn one_repair_and_then_the_run_fails() {
    let mut hand = Hand::new(false, vec![]);
    for turn in 1..=2 {
        assert_eq!(hand.next(), [Command::Plan { turn }]);
        hand.take(Fact::PlanRequested { turn, pack: digest(0) });
        hand.take(Fact::PlanRejected { turn, reply: digest(1), failures: digest(2) });
    }
    assert_eq!(hand.next(), end(Ending::PlansRefused { failures: digest(2) }, &[]));
}

#[test]
fn a_failed_call_is_tried_again_when_its_time_has_come() {
    let mut hand = Hand::new(true, vec![planned("a", &[], Effect::Read)]);
    hand.ready("a");
    hand.start("a");
    hand.end_retrying("a", failing(Kind::NetworkHttp5xx), Some(Timestamp(50)));
    assert_eq!((hand.next(), hand.0.wakes_at()), (vec![], Some(Timestamp(50))));
    assert_eq!(hand.0.next(Timestamp(50)), [start("a")]);
    hand.refuses(started("a", 1));
    hand.start("a");
    hand.end("a", succeeded());
    assert_eq!(hand.next(), end(success(), &[]));
    assert_eq!(hand.0.spent.calls, 2, "attempts count");
}

#[test]
fn a_wait_that_is_long_is_a_suspension_that_ends_by_itself() {
    let mut hand = Hand::new(true, vec![planned("a", &[], Effect::Read)]);
    hand.ready("a");
    hand.start("a");
    let due = Timestamp(60_000);
    hand.end_retrying("a", failing(Kind::NetworkRateLimited), Some(due));
    assert_eq!(hand.next(), [Command::Suspend { why: Suspension::Timer }]);
    hand.take(Fact::RunSuspended { why: Suspension::Timer });
    assert_eq!(hand.next(), []);
    assert_eq!(hand.0.next(due), [start("a")]);
    hand.take_at(due, started("a", 2));
    assert_eq!(hand.0.status, RunStatus::Executing);
    assert_eq!(hand.0.next(due), [], "waiting was not the run's time");
}

#[test]
fn a_call_that_may_have_changed_something_for_good_is_never_tried_again() {
    let mut hand = Hand::new(true, vec![planned("a", &[], Effect::Once)]);
    hand.ready("a");
    hand.start("a");
    hand.write("a");
    hand.refuses(ended("a", 1, failing(Kind::NetworkTimeout), Some(Timestamp(5))));
    let mut keyed = Hand::new(true, vec![planned("a", &[], Effect::Idempotent)]);
    keyed.ready("a");
    keyed.start("a");
    keyed.write("a");
    keyed.end_retrying("a", failing(Kind::NetworkTimeout), Some(Timestamp(5)));
    assert_eq!(keyed.0.next(Timestamp(5)), [start("a")]);
}

#[test]
fn an_interrupted_call_runs_again_and_one_that_wrote_is_never_guessed() {
    let mut hand = Hand::new(true, vec![planned("a", &[], Effect::Once)]);
    hand.ready("a");
    hand.start("a");
    let interrupted = Fact::StepInterrupted { step: id("a"), attempt: 1 };
    let mut again = Hand(hand.0.clone());
    again.take(interrupted);
    assert_eq!(again.next(), [start("a")]);
    assert_eq!(again.step("a").interrupted, [1], "its host calls are answered from their records");
    again.refuses(started("a", 1));
    again.take(started("a", 2));

    hand.write("a");
    hand.take(Fact::StepUnknown { step: id("a"), attempt: 1 });
    assert_eq!(hand.next(), [Command::Suspend { why: Suspension::Reconcile }]);
    hand.take(Fact::RunSuspended { why: Suspension::Reconcile });
    assert_eq!(hand.next(), []);
    hand.take(settled("a", Settlement::Done { output: digest(5) }));
    assert_eq!(hand.next(), end(success(), &[]));
}

#[test]
fn a_process_that_died_before_it_kept_what_it_began_repeats_that_under_a_key_alone() {
    for (effect, is_safe) in [(Effect::Idempotent, true), (Effect::Once, false)] {
        let mut hand = Hand::new(true, vec![planned("a", &[], effect)]);
        hand.ready("a");
        hand.start("a");
        hand.write("a");
        let facts = crate::orchestrator::recover::recover(&hand.0, &std::collections::HashMap::new());
        let (step, attempt) = (id("a"), 1);
        let expected =
            if is_safe { Fact::StepInterrupted { step, attempt } } else { Fact::StepUnknown { step, attempt } };
        assert_eq!(facts, [expected], "{effect}");
    }
}

#[test]
fn a_tool_is_asked_once_for_each_attempt_what_became_of_it() {
    let asking = PlannedStep { has_reconcile: true, ..planned("a", &[], Effect::Once) };
    let mut hand = Hand::new(true, vec![asking]);
    hand.ready("a");
    hand.start("a");
    hand.write("a");
    hand.end("a", failing(Kind::NetworkCut));
    assert_eq!(hand.stage("a"), Stage::Unknown);
    assert_eq!(hand.next(), [Command::Reconcile { step: id("a") }]);
    let ask = |n: u32| PlannedStep {
        role: Role::Reconcile { of: id("a") },
        ..planned(&format!("a~reconcile{n}"), &[], Effect::Read)
    };
    let begun = |step| Fact::ReconcileBegun { of: id("a"), step };
    hand.refuses(begun(PlannedStep { effect: Effect::Once, ..ask(1) }));
    hand.take(begun(ask(1)));
    assert_eq!(hand.next(), [prepare("a~reconcile1")]);
    let mut mute = Hand(hand.0.clone());
    mute.does("a~reconcile1", failed());
    assert_eq!(mute.next(), [Command::Suspend { why: Suspension::Reconcile }], "a person must say");

    hand.does("a~reconcile1", succeeded());
    assert_eq!(hand.next(), [Command::Settle { step: id("a"), by: id("a~reconcile1") }]);
    let mut unsure = Hand(hand.0.clone());
    unsure.take(settled("a", Settlement::Unknown));
    assert_eq!(unsure.next(), [Command::Suspend { why: Suspension::Reconcile }]);

    hand.take(settled("a", Settlement::Retry));
    assert_eq!(hand.next(), [start("a")]);
    hand.start("a");
    hand.write("a");
    hand.end("a", failing(Kind::NetworkCut));
    assert_eq!(hand.next(), [Command::Reconcile { step: id("a") }], "another attempt, another question");
}

#[test]
fn an_approval_counts_for_exactly_what_was_asked() {
    let mut hand = Hand::new(true, vec![planned("a", &[], Effect::Once)]);
    hand.ready("a");
    let asked = Fact::ApprovalRequested {
        step: id("a"),
        binding: digest(7),
        effect: Effect::Once,
        rule: "r".into(),
        expires: Timestamp(500),
    };
    hand.take(asked);
    assert_eq!(hand.next(), [Command::Suspend { why: Suspension::Approval }]);
    let decided =
        |binding, decision| Fact::ApprovalDecided { step: id("a"), binding, decision, by: "ann".into(), reason: None };
    hand.refuses(decided(digest(8), Decision::Approve));
    hand.refuses(started("a", 1));
    let mut late = Hand(hand.0.clone());
    let mut other = Hand(hand.0.clone());
    hand.take(decided(digest(7), Decision::Approve));
    hand.refuses(decided(digest(7), Decision::Approve));
    assert_eq!(hand.next(), [start("a")]);

    late.take(Fact::RunSuspended { why: Suspension::Approval });
    assert_eq!(late.0.next(Timestamp(499)), []);
    assert_eq!(late.0.next(Timestamp(500)), [Command::Expire { step: id("a"), binding: digest(7) }]);
    late.take(Fact::ApprovalExpired { step: id("a"), binding: digest(7), failure: digest(4) });
    let expired = Ending::StepFailed { step: id("a"), kind: Kind::PolicyExpired, failure: digest(4) };
    assert_eq!(late.next(), end(expired, &[("a", CaveatKind::Rejected)]));

    let modified = Decision::Modify { args: digest(11), key: digest(12), binding: digest(13) };
    other.take(decided(digest(7), modified));
    let step = other.step("a");
    assert_eq!(step.ready, Some((digest(11), digest(12))));
    assert_eq!(step.approved, Some((digest(13), "ann".into())));
}

#[test]
fn a_begun_write_that_was_stopped_is_unknown_and_one_that_tells_is_not() {
    for (kind, stage) in [
        (Kind::ToolDeclared, Stage::Failed),
        (Kind::NetworkHttp5xx, Stage::Failed),
        (Kind::NetworkConnect, Stage::Failed),
        (Kind::NetworkCut, Stage::Unknown),
        (Kind::NetworkTimeout, Stage::Unknown),
        (Kind::ToolDeadline, Stage::Unknown),
        (Kind::ToolTrap, Stage::Unknown),
        (Kind::HostCancelled, Stage::Unknown),
    ] {
        let mut hand = Hand::new(true, vec![planned("a", &[], Effect::Once)]);
        hand.ready("a");
        hand.start("a");
        let mut untouched = Hand(hand.0.clone());
        hand.write("a");
        hand.end("a", failing(kind));
        assert_eq!(hand.stage("a"), stage, "{kind}");
        untouched.end("a", failing(kind));
        assert!(untouched.step("a").status.is_failed(), "{kind}");
    }
}

/// Two bookings done, a third failed, all to be taken back.
fn saga() -> Hand {
    let booked = |name: &str, needs: &[&str]| PlannedStep {
        has_undo: true,
        on_failure: OnFailure::Undo,
        ..planned(name, needs, Effect::Once)
    };
    let mut hand =
        Hand::new(true, vec![booked("flight", &[]), booked("hotel", &["flight"]), booked("car", &["hotel"])]);
    hand.0.budget.calls_max = 3;
    hand.does("flight", succeeded());
    hand.does("hotel", succeeded());
    hand.does("car", failed());
    hand
}

fn undo_of(name: &str, after: &[&str]) -> PlannedStep {
    PlannedStep {
        role: Role::Undo { of: id(name) },
        after: after.iter().map(|name| id(name)).collect(),
        ..planned(&format!("{name}~undo"), &[], Effect::Once)
    }
}

fn undo_begun(why: UndoReason) -> Fact {
    Fact::UndoBegun { why, steps: vec![undo_of("hotel", &[]), undo_of("flight", &["hotel~undo"])], left: Vec::new() }
}

#[test]
fn what_was_done_is_taken_back_the_last_first() {
    let mut hand = saga();
    let why = UndoReason::StepFailed { step: id("car") };
    assert_eq!(hand.next(), [Command::Undo { why: why.clone(), steps: vec![id("hotel"), id("flight")] }]);
    hand.take(undo_begun(why));
    assert_eq!((hand.stage("hotel"), &hand.0.status), (Stage::Undoing, &RunStatus::Undoing));
    assert_eq!(hand.next(), [prepare("hotel~undo")], "the flight waits");
    hand.ready("hotel~undo");
    assert_eq!(hand.next(), [start("hotel~undo")], "the budget is used up, and this goes on");
    hand.start("hotel~undo");
    hand.end("hotel~undo", succeeded());
    assert_eq!(hand.stage("hotel"), Stage::Undone);
    assert_eq!(hand.next(), [prepare("flight~undo")]);
    hand.does("flight~undo", succeeded());
    let undone = [("flight", CaveatKind::Undone), ("hotel", CaveatKind::Undone), ("car", CaveatKind::Failed)];
    assert_eq!(hand.next(), end(step_failed("car"), &undone));
    hand.refuses(Fact::RunEnded { end: RunEnd::Succeeded { answer: None }, caveats: vec![] });
}

#[test]
fn what_cannot_be_taken_back_leaves_the_run_stuck_until_a_person_settles_it() {
    let mut hand = saga();
    hand.take(undo_begun(UndoReason::StepFailed { step: id("car") }));
    hand.does("hotel~undo", failed());
    assert_eq!(hand.stage("hotel"), Stage::UndoFailed);
    assert_eq!(hand.next(), [prepare("flight~undo")], "the rest is taken back all the same");
    hand.does("flight~undo", succeeded());
    assert_eq!(hand.next(), [Command::Suspend { why: Suspension::Stuck }]);
    hand.take(Fact::RunSuspended { why: Suspension::Stuck });
    assert_eq!(hand.next(), []);
    let (mut retried, mut done) = (Hand(hand.0.clone()), Hand(hand.0.clone()));
    hand.refuses(settled("hotel", Settlement::Retry));

    retried.take(settled("hotel~undo", Settlement::Retry));
    assert_eq!((retried.stage("hotel"), retried.next()), (Stage::Undoing, vec![start("hotel~undo")]));
    retried.start("hotel~undo");
    retried.end("hotel~undo", succeeded());
    assert_eq!(retried.stage("hotel"), Stage::Undone);

    done.take(settled("hotel~undo", Settlement::Done { output: digest(9) }));
    assert_eq!(done.stage("hotel"), Stage::Undone);

    hand.take(settled("hotel~undo", Settlement::Failed { failure: digest(4) }));
    let stays = [("flight", CaveatKind::Undone), ("hotel", CaveatKind::UndoFailed), ("car", CaveatKind::Failed)];
    assert_eq!(hand.next(), end(step_failed("car"), &stays));
}

#[test]
fn a_cancelled_run_takes_back_what_it_did_where_that_is_wanted() {
    for undo in [false, true] {
        let booked = PlannedStep { has_undo: true, ..planned("hotel", &[], Effect::Once) };
        let mut hand = Hand::new(true, vec![booked, planned("b", &["hotel"], Effect::Once)]);
        hand.does("hotel", succeeded());
        hand.ready("b");
        hand.start("b");
        hand.take(Fact::CancelRequested { by: "ann".into(), undo });
        assert_eq!(hand.next(), [Command::StopCalls]);
        hand.end("b", failing(Kind::HostCancelled));
        let ending = Ending::Cancelled { by: "ann".into() };
        if !undo {
            assert_eq!(hand.next(), end(ending, &[("b", CaveatKind::Unfinished)]));
            continue;
        }
        let why = UndoReason::Cancelled { by: "ann".into() };
        assert_eq!(hand.next(), [Command::Undo { why: why.clone(), steps: vec![id("hotel")] }]);
        hand.take(Fact::UndoBegun { why, steps: vec![undo_of("hotel", &[])], left: Vec::new() });
        assert_eq!(hand.next(), [prepare("hotel~undo")]);
        hand.does("hotel~undo", succeeded());
        assert_eq!(hand.next(), end(ending, &[("hotel", CaveatKind::Undone), ("b", CaveatKind::Unfinished)]));
    }
}

#[test]
fn a_run_that_ends_says_of_what_was_under_way_that_nobody_knows() {
    let mut hand = Hand::new(true, vec![planned("a", &[], Effect::Idempotent)]);
    hand.ready("a");
    hand.start("a");
    hand.write("a");
    hand.end_retrying("a", failing(Kind::NetworkTimeout), Some(Timestamp(900)));
    hand.take(Fact::CancelRequested { by: "ann".into(), undo: false });
    assert_eq!(hand.next(), [Command::Leave { step: id("a") }]);
    hand.take(Fact::StepUnknown { step: id("a"), attempt: 1 });
    assert_eq!(hand.next(), end(Ending::Cancelled { by: "ann".into() }, &[("a", CaveatKind::Unknown)]));
}

#[test]
fn a_question_stays_open_until_it_is_answered_and_waiting_is_not_the_runs_time() {
    let mut hand = Hand::new(false, vec![]);
    hand.take(Fact::PlanRequested { turn: 1, pack: digest(0) });
    hand.take(Fact::Asked { turn: 1, reply: digest(0), question: digest(1) });
    hand.take(Fact::RunClaimed { owner: "another".into(), policy: digest(0) });
    assert_eq!(hand.0.status, RunStatus::Suspended(Suspension::Question));
    hand.take_at(Timestamp(9_000), Fact::QuestionAnswered { turn: 1, text: digest(2), by: "ann".into() });
    assert_eq!(hand.0.next(Timestamp(9_500)), [Command::Plan { turn: 2 }]);
    assert_eq!(hand.0.next(Timestamp(10_000)), end(out("wall_ms_max"), &[]));
}

#[test]
fn calls_within_the_budget_go_on_when_it_is_used_up() {
    let steps = ["a", "b", "c"].map(|name| planned(name, &[], Effect::Pure)).to_vec();
    let mut hand = Hand::new(true, steps);
    hand.0.budget.calls_max = 1;
    ["a", "b", "c"].into_iter().for_each(|name| hand.ready(name));
    assert_eq!(hand.next(), [start("a")]);
    hand.start("a");
    assert_eq!(hand.next(), [], "a may end");
    hand.end("a", succeeded());
    let left = [("b", CaveatKind::Unfinished), ("c", CaveatKind::Unfinished)];
    assert_eq!(hand.next(), end(out("calls_max"), &left));
}

#[test]
fn calls_side_by_side_cannot_pass_a_cap_together() {
    let costly =
        |name| PlannedStep { cost: Cost { calls: 1, fuel: 60, ..Cost::default() }, ..planned(name, &[], Effect::Pure) };
    let mut hand = Hand::new(true, vec![costly("a"), costly("b")]);
    hand.0.budget.fuel_max = 100;
    ["a", "b"].into_iter().for_each(|name| hand.ready(name));
    let reserve = |name, fuel| Command::Start { step: id(name), reserve: Cost { calls: 1, fuel, ..Cost::default() } };
    assert_eq!(hand.next(), [reserve("a", 60)], "what is left is not enough for both");
    let Fact::StepStarted { step, attempt, component, effect, rules, run, .. } = started("a", 1) else { panic!() };
    let reserved = Cost { calls: 1, fuel: 60, ..Cost::default() };
    hand.take(Fact::StepStarted { step, attempt, component, effect, rules, run, reserved });
    assert_eq!(hand.next(), [], "b waits for what a leaves");
    let mut frugal = Hand(hand.0.clone());
    let cost = |fuel| Cost { calls: 1, fuel, ..Cost::default() };
    let end_with = |fuel| match ended("a", 1, succeeded(), None) {
        Fact::StepEnded { step, attempt, end, usage, log, denials, has_written, host_calls, retry, .. } => {
            let cost = cost(fuel);
            Fact::StepEnded {
                step,
                attempt,
                end,
                usage,
                cost,
                log,
                denials,
                has_written,
                host_calls,
                retry,
                has_caveats: false,
                within: None,
            }
        }
        other => other,
    };
    hand.take(end_with(55));
    assert_eq!(hand.next(), [reserve("b", 45)], "alone it gets what is left");
    frugal.take(end_with(10));
    assert_eq!(frugal.next(), [reserve("b", 60)]);
}

#[test]
fn each_tool_has_a_cap_of_its_own() {
    let mut hand = Hand::new(true, vec![planned("a", &[], Effect::Pure), planned("b", &[], Effect::Pure)]);
    hand.0.budget.calls_per_tool_max = 1;
    ["a", "b"].into_iter().for_each(|name| hand.ready(name));
    assert_eq!(hand.next(), [start("a")]);
    hand.start("a");
    hand.end("a", succeeded());
    assert_eq!(hand.next(), end(out("calls_per_tool_max"), &[("b", CaveatKind::Unfinished)]));
}

#[test]
fn success_is_told_by_its_conditions() {
    let mut hand = Hand::new(true, vec![]);
    hand.take(Fact::PlanRequested { turn: 1, pack: digest(0) });
    let Fact::PlanAccepted { turn, reply, plan, steps, has_answer, .. } =
        accepted(vec![planned("a", &[], Effect::Pure)])
    else {
        panic!()
    };
    hand.take(Fact::PlanAccepted { turn, reply, plan, steps, has_answer, has_assertions: true });
    hand.does("a", succeeded());
    hand.refuses(Fact::RunEnded { end: RunEnd::Succeeded { answer: None }, caveats: vec![] });
    assert_eq!(hand.next(), [Command::Verify { turn: 1 }]);
    let mut broken = Hand(hand.0.clone());
    hand.take(Fact::Verified { turn: 1, failure: None });
    assert_eq!(hand.next(), end(success(), &[]));
    broken.take(Fact::Verified { turn: 1, failure: Some((Kind::DataCondition, digest(4))) });
    let ending = Ending::NotVerified { kind: Kind::DataCondition, failure: digest(4) };
    assert_eq!(broken.next(), end(ending, &[]));
    broken.refuses(Fact::RunEnded { end: RunEnd::Succeeded { answer: None }, caveats: vec![] });
}

#[test]
fn a_run_in_which_nothing_can_start_is_never_called_a_success() {
    // A plan that `check` would have ordered: the first write needs the second.
    let mut hand = Hand::new(true, vec![planned("a", &["b"], Effect::Once), planned("b", &[], Effect::Once)]);
    hand.ready("b");
    let left = [("a", CaveatKind::Unfinished), ("b", CaveatKind::Unfinished)];
    assert_eq!(hand.next(), end(Ending::Stalled, &left));
}

#[test]
fn budgets_end_a_run_and_an_ended_run_takes_nothing_more() {
    let mut hand = Hand::new(true, vec![planned("a", &[], Effect::Pure)]);
    hand.ready("a");
    assert_eq!(hand.0.next(Timestamp(1_000)), end(out("wall_ms_max"), &[("a", CaveatKind::Unfinished)]));
    hand.0.spent.calls = 5;
    assert_eq!(hand.next(), end(out("calls_max"), &[("a", CaveatKind::Unfinished)]));
    hand.take(Fact::RunEnded { end: RunEnd::Cancelled { by: "ann".into() }, caveats: vec![] });
    assert_eq!(hand.next(), []);
    hand.refuses(started("a", 1));
    hand.refuses(Fact::RunSuspended { why: Suspension::Approval });
}

#[test]
fn an_event_out_of_its_place_is_refused() {
    let hand = Hand::new(true, vec![planned("a", &[], Effect::Pure)]);
    let ready = || Fact::StepReady { step: id("a"), args: digest(1), key: digest(2) };
    for change in [|e: &mut Event| e.seq += 1, |e: &mut Event| e.prev = GENESIS, |e: &mut Event| e.epoch = 0] {
        let mut event = event(&hand.0, Timestamp(0), ready());
        change(&mut event);
        assert!(hand.0.clone().apply(&event).is_err());
    }
    hand.refuses(Fact::StepReady { step: id("none"), args: digest(1), key: digest(2) });
    hand.refuses(Fact::PlanRequested { turn: 1, pack: digest(0) });
    hand.refuses(accepted(vec![planned("b", &[], Effect::Pure)]));
}

#[test]
fn a_plan_cannot_name_what_only_the_host_makes() {
    let mut hand = Hand::new(true, vec![]);
    hand.take(Fact::PlanRequested { turn: 1, pack: digest(0) });
    hand.refuses(accepted(vec![undo_of("a", &[])]));
    hand.refuses(accepted(vec![planned("a", &[], Effect::Pure), planned("a", &[], Effect::Pure)]));
    let retry = RetryRule { attempts_max: 1, ..RetryRule::default() };
    hand.take(accepted(vec![PlannedStep { retry, ..planned("a", &[], Effect::Pure) }]));
}
