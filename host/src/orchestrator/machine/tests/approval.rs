//! A person decides about one exact call.

use super::*;

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
