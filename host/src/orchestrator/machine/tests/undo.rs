//! What was done is taken back, the last first.

use super::*;

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
