//! What a run may cost.

use super::*;

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
    let end_with = |fuel| {
        let mut fact = ended("a", 1, succeeded(), None);
        if let Fact::StepEnded { cost: of, .. } = &mut fact {
            *of = cost(fuel);
        }
        fact
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
