//! What a planner says, and what becomes of it.

use super::*;
use crate::domain::AskedModel;

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

/// A request of one turn to a model.
fn requested(turn: u32, model: &str, reserved: Cost) -> Fact {
    let asked = AskedModel {
        model: model.into(),
        tier: "only".into(),
        effect_max: Effect::Once,
        route: digest(7),
        price: None,
        reply_tokens_max: 100,
    };
    Fact::PlanRequested { turn, pack: digest(0), asked: Some(asked), reserved }
}

fn replied(turn: u32, cost: Cost) -> Fact {
    let (model, tokens, usd_picos, reasoning, first_token_ms) = (None, None, None, None, None);
    Fact::PlanReplied { turn, model, tokens, cost, usd_picos, reasoning, first_token_ms, wall_ms: 1 }
}

fn rejected(turn: u32, failures: Digest) -> Fact {
    Fact::PlanRejected { turn, reply: digest(1), failures, is_escalated: false }
}

fn usd(usd_micros: u64) -> Cost {
    Cost { usd_micros, ..Cost::default() }
}

/// A run of a planner that asks models, for ten millionths of a dollar.
fn bounded() -> Hand {
    let budget = Budget { usd_micros_max: Some(10), wall_ms_max: 100_000, ..Budget::default() };
    Hand::with(false, budget, vec![])
}

#[test]
fn replies_that_are_refused_for_other_reasons_each_time_end_the_run_after_the_last_repair() {
    let mut hand = Hand::new(false, vec![]);
    hand.0.budget.planner_turns_max = 9;
    for turn in 1..=3 {
        assert_eq!(hand.next(), [Command::Plan { turn }]);
        hand.take(requested(turn, "m", Cost::default()));
        hand.take(rejected(turn, digest(turn as u8)));
    }
    assert_eq!(hand.next(), end(Ending::PlansRefused { failures: digest(3) }, &[]));
}

#[test]
fn the_same_failure_twice_is_the_last() {
    let mut hand = Hand::new(false, vec![]);
    for turn in 1..=2 {
        assert_eq!(hand.next(), [Command::Plan { turn }]);
        hand.take(requested(turn, "m", Cost::default()));
        hand.take(rejected(turn, digest(2)));
    }
    assert_eq!(hand.next(), end(Ending::PlansRefused { failures: digest(2) }, &[]));
}

#[test]
fn another_tier_begins_anew() {
    let mut hand = Hand::new(false, vec![]);
    hand.0.budget.planner_turns_max = 9;
    hand.take(requested(1, "small", Cost::default()));
    hand.take(rejected(1, digest(2)));
    hand.take(requested(2, "small", Cost::default()));
    hand.take(Fact::PlanRejected { turn: 2, reply: digest(1), failures: digest(2), is_escalated: true });
    assert_eq!(hand.next(), [Command::Plan { turn: 3 }]);
    assert_eq!((hand.0.planning.escalations, hand.0.planning.refusals), (1, 0));
    hand.take(requested(3, "large", Cost::default()));
    hand.take(rejected(3, digest(2)));
    assert_eq!(hand.next(), [Command::Plan { turn: 4 }], "it may make it good once");
}

#[test]
fn what_a_request_may_cost_is_held_until_it_is_known() {
    let mut hand = bounded();
    hand.take(requested(1, "m", usd(4)));
    assert_eq!((hand.0.reserved, hand.0.spent), (usd(4), usd(0)));
    hand.take(replied(1, usd(3)));
    assert_eq!((hand.0.reserved, hand.0.spent), (usd(0), usd(3)));
    hand.refuses(replied(1, usd(3)));
    hand.take(rejected(1, digest(2)));
    assert_eq!((hand.0.reserved, hand.0.spent), (usd(0), usd(3)));
}

#[test]
fn a_request_whose_process_died_cost_all_that_was_held_and_is_made_again() {
    let mut hand = bounded();
    hand.take(requested(1, "m", usd(4)));
    hand.take(Fact::RunClaimed { owner: "another".into(), policy: digest(0) });
    assert_eq!(hand.next(), [Command::Plan { turn: 1 }]);
    hand.take(requested(1, "m", usd(5)));
    assert_eq!((hand.0.reserved, hand.0.spent, hand.0.planning.requests), (usd(5), usd(4), 1));
    // So is one that is stopped.
    hand.take(Fact::CancelRequested { by: "ann".into(), undo: false });
    hand.take(Fact::RunEnded { end: RunEnd::Cancelled { by: "ann".into() }, caveats: vec![] });
    assert_eq!((hand.0.reserved, hand.0.spent), (usd(0), usd(9)));
}

#[test]
fn a_reply_that_took_more_than_was_held_ends_the_run() {
    let mut hand = bounded();
    hand.take(requested(1, "m", usd(4)));
    hand.take(replied(1, usd(5)));
    hand.take(accepted(vec![planned("a", &[], Effect::Pure)]));
    assert_eq!(hand.next(), end(out("usd_micros_max"), &[("a", CaveatKind::Unfinished)]));
    // Where nothing is bounded nothing is held, and nothing is over.
    let mut hand = Hand::new(false, vec![]);
    hand.take(requested(1, "m", Cost::default()));
    hand.take(replied(1, usd(5)));
    hand.take(accepted(vec![planned("a", &[], Effect::Pure)]));
    assert_eq!(hand.next(), [Command::Prepare { step: id("a") }]);
}

#[test]
fn a_request_that_failed_is_made_again_when_it_is_due() {
    let failed = |retry| Fact::PlanFailed { turn: 1, kind: Kind::NetworkRateLimited, failure: digest(5), retry };
    let mut hand = bounded();
    hand.take(requested(1, "a", usd(4)));
    hand.take(failed(Some(Timestamp(2_000))));
    assert_eq!((hand.0.next(Timestamp(1_999)), hand.0.wakes_at()), (vec![], Some(Timestamp(2_000))));
    assert_eq!(hand.0.next(Timestamp(2_000)), [Command::Plan { turn: 1 }]);
    hand.refuses(accepted(vec![]));
    hand.take(requested(1, "b", usd(4)));
    assert_eq!((hand.0.planning.requests, &hand.0.planning.down[..]), (1, &["a".to_owned()][..]));
    hand.take(failed(None));
    let ending = Ending::PlannerFailed { kind: Kind::NetworkRateLimited, failure: digest(5) };
    assert_eq!(hand.next(), end(ending, &[]));
}

#[test]
fn a_request_that_the_budget_does_not_allow_ends_the_run() {
    let mut hand = bounded();
    hand.take(requested(1, "a", Cost::default()));
    hand.take(Fact::PlanFailed { turn: 1, kind: Kind::PolicyBudget, failure: digest(5), retry: None });
    assert_eq!(hand.next(), end(Ending::Unaffordable { failure: digest(5) }, &[]));
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
