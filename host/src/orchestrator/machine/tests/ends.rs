//! How a run ends, and what does not follow.

use super::*;

#[test]
fn success_is_told_by_its_conditions() {
    let mut hand = Hand::new(true, vec![]);
    hand.take(Fact::PlanRequested { turn: 1, pack: digest(0), asked: None, reserved: Cost::default() });
    let Fact::PlanAccepted { turn, reply, plan, steps, has_answer, .. } =
        accepted(vec![planned("a", &[], Effect::Pure)])
    else {
        panic!()
    };
    hand.take(Fact::PlanAccepted {
        turn,
        reply,
        plan,
        steps,
        has_answer,
        has_assertions: true,
        checked_by: crate::domain::CHECK_VERSION,
    });
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
fn an_event_out_of_its_place_is_refused() {
    let hand = Hand::new(true, vec![planned("a", &[], Effect::Pure)]);
    let ready = || Fact::StepReady { step: id("a"), args: digest(1), key: digest(2), duplicate_of: None };
    for change in [|e: &mut Event| e.seq += 1, |e: &mut Event| e.prev = GENESIS, |e: &mut Event| e.epoch = 0] {
        let mut event = event(&hand.0, Timestamp(0), ready());
        change(&mut event);
        assert!(hand.0.clone().apply(&event).is_err());
    }
    hand.refuses(Fact::StepReady { step: id("none"), args: digest(1), key: digest(2), duplicate_of: None });
    hand.refuses(Fact::PlanRequested { turn: 1, pack: digest(0), asked: None, reserved: Cost::default() });
    hand.refuses(accepted(vec![planned("b", &[], Effect::Pure)]));
}
