//! Attempts at a step: tried again when that is safe, and never guessed.

use super::*;

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
fn a_tool_is_asked_once_though_earlier_attempts_were_clear() {
    let asking = PlannedStep { has_reconcile: true, ..planned("a", &[], Effect::Once) };
    let mut hand = Hand::new(true, vec![asking]);
    hand.ready("a");
    hand.start("a");
    hand.end_retrying("a", failing(Kind::NetworkHttp5xx), Some(Timestamp(0)));
    hand.start("a");
    hand.write("a");
    hand.end("a", failing(Kind::NetworkCut));
    assert_eq!(hand.next(), [Command::Reconcile { step: id("a") }]);
    let role = Role::Reconcile { of: id("a") };
    let ask = PlannedStep { role, ..planned("a~reconcile1", &[], Effect::Read) };
    hand.take(Fact::ReconcileBegun { of: id("a"), step: ask });
    assert_eq!(hand.next(), [prepare("a~reconcile1")]);
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
