//! What a planner says, and what becomes of it.

use super::*;

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
        hand.take(Fact::PlanRequested { turn, pack: digest(0), asked: None, reserved: Cost::default() });
        hand.take(Fact::PlanRejected { turn, reply: digest(1), failures: digest(2), is_escalated: false });
    }
    assert_eq!(hand.next(), end(Ending::PlansRefused { failures: digest(2) }, &[]));
}

#[test]
fn a_question_stays_open_until_it_is_answered_and_waiting_is_not_the_runs_time() {
    let mut hand = Hand::new(false, vec![]);
    hand.take(Fact::PlanRequested { turn: 1, pack: digest(0), asked: None, reserved: Cost::default() });
    hand.take(Fact::Asked { turn: 1, reply: digest(0), question: digest(1) });
    hand.take(Fact::RunClaimed { owner: "another".into(), policy: digest(0) });
    assert_eq!(hand.0.status, RunStatus::Suspended(Suspension::Question));
    hand.take_at(Timestamp(9_000), Fact::QuestionAnswered { turn: 1, text: digest(2), by: "ann".into() });
    assert_eq!(hand.0.next(Timestamp(9_500)), [Command::Plan { turn: 2 }]);
    assert_eq!(hand.0.next(Timestamp(10_000)), end(out("wall_ms_max"), &[]));
}

#[test]
fn a_plan_cannot_name_what_only_the_host_makes() {
    let mut hand = Hand::new(true, vec![]);
    hand.take(Fact::PlanRequested { turn: 1, pack: digest(0), asked: None, reserved: Cost::default() });
    hand.refuses(accepted(vec![undo_of("a", &[])]));
    hand.refuses(accepted(vec![planned("a", &[], Effect::Pure), planned("a", &[], Effect::Pure)]));
    let retry = RetryRule { attempts_max: 1, ..RetryRule::default() };
    hand.take(accepted(vec![PlannedStep { retry, ..planned("a", &[], Effect::Pure) }]));
}
