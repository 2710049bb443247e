//! Which steps may start, and in which order.

use super::*;

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
