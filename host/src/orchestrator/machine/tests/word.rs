//! What is asked, and who is told, before a run goes on that cannot know by itself.

use super::*;

/// A run whose one step was cut short by somebody who cancelled, and whose tool was asked.
fn cut_short(undo: bool) -> Hand {
    let planned = planned("a", &[], Effect::Once);
    let step = PlannedStep { has_reconcile: true, has_undo: true, undo_takes_output: true, ..planned };
    let mut hand = Hand::new(true, vec![step]);
    hand.ready("a");
    hand.start("a");
    hand.write("a");
    hand.take(Fact::CancelRequested { by: "ann".into(), undo });
    assert_eq!(hand.next(), [Command::StopCalls]);
    hand.end("a", failing(Kind::HostCancelled));
    assert_eq!(hand.next(), [Command::Reconcile { step: id("a") }], "that only looks");
    let role = Role::Reconcile { of: id("a") };
    let ask = PlannedStep { role, ..super::planned("a~reconcile1", &[], Effect::Read) };
    hand.take(Fact::ReconcileBegun { of: id("a"), step: ask });
    hand.ready("a~reconcile1");
    hand.start("a~reconcile1");
    assert!(hand.next().is_empty(), "it is not stopped");
    hand.end("a~reconcile1", succeeded());
    assert_eq!(hand.next(), [Command::Settle { step: id("a"), by: id("a~reconcile1") }]);
    hand
}

#[test]
fn whoever_cancels_learns_what_became_of_calls_where_a_tool_can_tell() {
    let ending = || Ending::Cancelled { by: "ann".into() };
    let mut unsure = cut_short(false);
    unsure.take(settled("a", Settlement::Unknown));
    assert_eq!(unsure.next(), end(ending(), &[("a", CaveatKind::Unknown)]), "a cancel ends soon");
    let mut done = cut_short(false);
    done.take(settled("a", Settlement::Done { output: digest(5) }));
    assert_eq!(done.next(), end(ending(), &[]));
}

#[test]
fn what_cannot_be_taken_back_without_its_output_waits_for_a_person() {
    let why = UndoReason::Cancelled { by: "ann".into() };
    let undo = [Command::Undo { why, steps: vec![id("a")] }];
    let mut known = cut_short(true);
    known.take(settled("a", Settlement::Done { output: digest(5) }));
    assert_eq!(known.next(), undo);
    let mut unsure = cut_short(true);
    unsure.take(settled("a", Settlement::Unknown));
    assert_eq!(unsure.next(), [Command::Suspend { why: Suspension::Reconcile }]);
    unsure.take(Fact::RunSuspended { why: Suspension::Reconcile });
    assert!(unsure.next().is_empty());
    unsure.take(settled("a", Settlement::Done { output: digest(5) }));
    assert_eq!(unsure.next(), undo);
}

#[test]
fn what_somebody_was_told_of_is_told_again_only_once_it_has_changed() {
    let mut hand = Hand::new(true, vec![planned("a", &[], Effect::Once)]);
    hand.ready("a");
    let asked = |binding: u8| Fact::ApprovalRequested {
        step: id("a"),
        binding: digest(binding),
        effect: Effect::Once,
        rule: "r".into(),
        expires: Timestamp(500),
    };
    let waits = Suspension::Approval;
    let told = |hand: &Hand| hand.0.notified.contains(&(waits, Some(id("a"))));
    hand.take(asked(7));
    hand.take(Fact::RunSuspended { why: waits });
    hand.take(Fact::Notified { why: waits, steps: vec![id("a")] });
    hand.take(Fact::RunClaimed { owner: "another".into(), policy: digest(0) });
    assert!(told(&hand), "whoever takes the run over does not tell it again");
    hand.take(asked(7));
    assert!(told(&hand), "the same question is the same matter");
    hand.take(asked(8));
    assert!(!told(&hand), "another call waits");
    hand.take(Fact::Notified { why: waits, steps: vec![id("a")] });
    let decided = Fact::ApprovalDecided {
        step: id("a"),
        binding: digest(8),
        decision: Decision::Approve,
        by: "ann".into(),
        reason: None,
    };
    hand.take(decided);
    assert!(hand.0.notified.is_empty());
    hand.take(Fact::Notified { why: waits, steps: vec![id("a")] });
    assert!(hand.0.notified.is_empty(), "what moved before somebody was told does not wait");
}

#[test]
fn a_run_that_takes_back_another_one_succeeds_when_all_of_it_is_undone() {
    let taken: RunId = "r-01arz3ndektsv4rrffq69g5faa".parse().unwrap();
    let takes_back = Some(crate::domain::TakesBack { run: taken.clone(), after: None });
    let parent = Parent {
        run: "r-01arz3ndektsv4rrffq69g5fab".parse().unwrap(),
        step: id("inner~undo"),
        depth: 1,
        calls_left: BTreeMap::new(),
        takes_back,
    };
    let budget = Budget { calls_max: 0, ..Budget::default() };
    let mut hand = Hand::within(true, budget, Some(parent), vec![]);
    assert_eq!(hand.next(), [Command::TakeBack { run: taken }]);
    let (why, steps) = (UndoReason::Outer, vec![undo_of("hotel", &[])]);
    hand.take(Fact::UndoBegun { why, steps, left: vec![id("mail")] });
    hand.ready("hotel~undo");
    let reserve = Cost { calls: 1, ..Cost::default() };
    assert_eq!(hand.next(), [Command::Start { step: id("hotel~undo"), reserve }], "whatever the budget says");
    hand.start("hotel~undo");
    let mut stuck = Hand(hand.0.clone());
    stuck.end("hotel~undo", failed());
    assert_eq!(stuck.next(), [Command::Suspend { why: Suspension::Stuck }]);
    stuck.take(Fact::RunSuspended { why: Suspension::Stuck });
    stuck.take(settled("hotel~undo", Settlement::Failed { failure: digest(4) }));
    let failed = Ending::StepFailed { step: id("hotel~undo"), kind: Kind::HostInterrupted, failure: digest(4) };
    let caveats = [("hotel~undo", CaveatKind::UndoFailed), ("mail", CaveatKind::NotUndone)];
    assert_eq!(stuck.next(), end(failed, &caveats));
    hand.end("hotel~undo", succeeded());
    assert_eq!(hand.next(), end(Ending::Succeeded { answer: None }, &[("mail", CaveatKind::NotUndone)]));
    hand.take(Fact::RunEnded { end: RunEnd::Succeeded { answer: None }, caveats: vec![] });
}
