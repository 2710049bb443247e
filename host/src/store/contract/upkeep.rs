//! What every log promises of its care.

use super::*;
use crate::domain::{Budget, Parent, RunEnd, StateQuota, StateReply, StateScope, StateSpace, Suspension};
use crate::store::contract::{
    journals::{begun, step, word},
    outcomes::{outcome, user},
    workspaces::{keys, set, user_space},
};
use crate::store::{Claim, Pruned};

const QUOTA: StateQuota = StateQuota { keys_max: 9, bytes_max: 1_000, value_bytes_max: 1_000 };

pub(super) async fn check<L: EventLog>(make: &impl AsyncFn() -> L, few: &impl AsyncFn() -> L) {
    what_ended_long_ago_is_removed_and_nothing_else(&make().await).await;
    a_run_goes_with_the_runs_within_it(&make().await).await;
    what_only_removed_runs_used_goes_too(&make().await).await;
    an_erased_user_is_forgotten_and_the_chain_holds(&make().await).await;
    a_user_with_a_run_under_way_is_not_erased(&make().await).await;
    what_is_stored_is_counted(&make().await).await;
    a_payload_is_bounded(&few().await).await;
}

async fn what_ended_long_ago_is_removed_and_nothing_else(log: &dyn EventLog) {
    let ended = written(log, 1, &[created(None), end_of_run()]).await;
    let waiting = written(log, 2, &[created(None), Fact::RunSuspended { why: Suspension::Approval }]).await;
    let abandoned = written(log, 3, &[created(None)]).await;
    let session = written(log, 4, &[Fact::SessionStarted { principal: Principal::default() }]).await;
    let owned = written(log, 5, &[created(None), end_of_run()]).await;
    drop((ended, waiting, abandoned, session));
    assert_eq!(log.prune(Timestamp(6)).await.unwrap(), Pruned::default(), "nothing is that old");

    let pruned = log.prune(Timestamp(1_000)).await.unwrap();
    assert_eq!((pruned.runs, pruned.events), (2, 3));
    assert!(pruned.bytes > 0);
    assert_eq!(runs_left(log).await, [run(2), run(3), run(5)]);
    for n in [1, 4] {
        assert_eq!(kind_of(log.read(&run(n), 0).await), Kind::DataNotFound);
        assert_eq!(kind_of(log.own(&run(n), "late").await), Kind::DataNotFound);
    }
    for n in [2, 3, 5] {
        log.verify(&run(n)).await.unwrap();
    }
    drop(owned);
    assert_eq!(log.prune(Timestamp(1_000)).await.unwrap().runs, 1);
    assert_eq!(runs_left(log).await, [run(2), run(3)]);
}

async fn a_run_goes_with_the_runs_within_it(log: &dyn EventLog) {
    drop(written(log, 1, &[created(None)]).await);
    drop(written(log, 2, &[created(Some(1)), end_of_run()]).await);
    drop(written(log, 3, &[created(None), end_of_run()]).await);
    drop(written(log, 4, &[created(Some(3)), end_of_run()]).await);
    assert_eq!(log.prune(Timestamp(1_000)).await.unwrap().runs, 2);
    assert_eq!(runs_left(log).await, [run(1), run(2)], "what a run that has not ended is made of stays");
}

async fn what_only_removed_runs_used_goes_too(log: &dyn EventLog) {
    let me = Principal::default();
    drop(written(log, 1, &[created(None), end_of_run()]).await);
    drop(written(log, 2, &[created(None)]).await);
    log.state(&workflow_space(1), set("k", "v"), &QUOTA).await.unwrap();
    log.state(&workflow_space(2), set("k", "v"), &QUOTA).await.unwrap();
    log.state(&user_space("a"), set("k", "v"), &QUOTA).await.unwrap();
    for (key, n, at, is_settled) in
        [("old", 1, 9, true), ("lost", 1, 9, false), ("open", 2, 9, false), ("new", 1, 2_000, true)]
    {
        log.claim_key(&me, key, &GENESIS, &run(n), Timestamp(at)).await.unwrap();
        if is_settled {
            log.settle_key(&me, key, Some(vec![1])).await.unwrap();
        }
    }
    log.keep_cached(&me, &GENESIS, outcome("old")).await.unwrap();
    log.prune(Timestamp(1_000)).await.unwrap();

    assert_eq!(log.state(&workflow_space(1), keys(), &QUOTA).await, Ok(StateReply::Keys(vec![])));
    for space in [workflow_space(2), user_space("a")] {
        assert_eq!(log.state(&space, keys(), &QUOTA).await, Ok(StateReply::Keys(vec!["k".into()])));
    }
    for (key, is_free) in [("old", true), ("lost", true), ("open", false), ("new", false)] {
        let claim = log.claim_key(&me, key, &GENESIS, &run(3), Timestamp(3_000)).await.unwrap();
        assert_eq!(claim == Claim::Claimed, is_free, "key {key}");
    }
    assert_eq!(log.cached(&me, &GENESIS).await, Ok(None));
}

async fn an_erased_user_is_forgotten_and_the_chain_holds(log: &dyn EventLog) {
    let (me, you) = (user("a", "x"), user("a", "y"));
    for (n, who) in [(1, &me), (2, &you)] {
        drop(filled(log, n, who).await);
    }
    let before = log.read(&run(1), 0).await.unwrap();
    let erased = log.erase(&me).await.unwrap();
    assert_eq!((erased.runs, erased.events), (1, 0));
    assert!(erased.bytes > 0);

    assert_eq!(log.read(&run(1), 0).await.unwrap(), before);
    log.verify(&run(1)).await.unwrap();
    assert_eq!(has_anything(log, 1, &me).await, [false; 7]);
    assert_eq!(has_anything(log, 2, &you).await, [true; 7]);
    assert_eq!(log.erase(&me).await.unwrap().bytes, 0, "erasing again finds nothing");
    drop(filled(log, 3, &me).await);
    assert_eq!(has_anything(log, 3, &me).await, [true; 7], "a user may come back");
}

async fn a_user_with_a_run_under_way_is_not_erased(log: &dyn EventLog) {
    let (me, you) = (user("a", "x"), user("a", "y"));
    let mine = filled(log, 1, &me).await;
    let _yours = filled(log, 2, &you).await;
    assert_eq!(kind_of(log.erase(&me).await), Kind::HostOwned);
    assert_eq!(has_anything(log, 1, &me).await, [true; 7], "a refusal erases nothing");
    drop(mine);
    log.erase(&me).await.unwrap();
    assert_eq!(has_anything(log, 1, &me).await, [false; 7]);
}

async fn what_is_stored_is_counted(log: &dyn EventLog) {
    let before = log.stored().await.unwrap();
    let _owner = filled(log, 1, &user("a", "x")).await;
    let stored = log.stored().await.unwrap();
    assert_eq!((before.runs, before.events, before.payload_bytes), (0, 0, 0));
    assert_eq!((stored.runs, stored.events, stored.cache_bytes, stored.state_bytes), (1, 1, 4, 5));
    assert!(stored.payload_bytes >= 4);
    assert_eq!(stored.free_bytes.is_some(), stored.disk_bytes > 0, "where there is a disk, both are known");
}

async fn a_payload_is_bounded(log: &dyn EventLog) {
    let owner = log.create(&run(1), &Principal::default(), "test", Timestamp(7)).await.unwrap();
    let of = |size| Batch { payloads: vec![Payload::new(vec![7; size])], ..batch(START, 1) };
    for durability in [Durability::Queued, Durability::Synced] {
        let refused = log.append(&*owner, of(1_001), durability).await.unwrap_err();
        assert!(refused.kind == Kind::HostStorage && refused.hint.is_some(), "{refused:?}");
    }
    assert_eq!(
        log.append(&*owner, of(1_000), Durability::Synced).await.unwrap().len(),
        1,
        "it does not stop the owner"
    );
}

/// Makes a run of `who` with something of every kind.
async fn filled(log: &dyn EventLog, n: u64, who: &Principal) -> Box<dyn Ownership> {
    let owner = log.create(&run(n), who, "test", Timestamp(7)).await.unwrap();
    let with_payload = Batch { payloads: vec![Payload::new(b"mine".to_vec())], ..batch(START, 1) };
    log.append(&*owner, with_payload, Durability::Synced).await.unwrap();
    log.write_journal(&*owner, &step("a"), 1, vec![begun(1)], Durability::Synced).await.unwrap();
    log.note_progress(&*owner, word("a", 1));
    log.send(&run(n), &Message::Answer { turn: 1, text: "mine".into(), by: "me".into() }).await.unwrap();
    log.claim_key(who, "k", &GENESIS, &run(n), Timestamp(7)).await.unwrap();
    log.settle_key(who, "k", Some(b"mine".to_vec())).await.unwrap();
    log.keep_cached(who, &GENESIS, outcome("mine")).await.unwrap();
    log.state(&space_of(who), set("k", "mine"), &QUOTA).await.unwrap();
    owner
}

/// Returns which of the seven kinds of things are there.
async fn has_anything(log: &dyn EventLog, n: u64, who: &Principal) -> [bool; 7] {
    let claim = log.claim_key(who, "k", &GENESIS, &run(99), Timestamp(7)).await.unwrap();
    if claim == Claim::Claimed {
        log.settle_key(who, "k", None).await.unwrap();
    }
    [
        log.payload(&run(n), &Digest::of(b"mine")).await.unwrap().is_some(),
        !log.journal(&run(n), &step("a"), 1).await.unwrap().is_empty(),
        !log.progress(&run(n)).await.unwrap().is_empty(),
        !log.inbox(&run(n)).await.unwrap().is_empty(),
        claim != Claim::Claimed,
        log.cached(who, &GENESIS).await.unwrap().is_some(),
        log.state(&space_of(who), keys(), &QUOTA).await.unwrap() != StateReply::Keys(vec![]),
    ]
}

async fn written(log: &dyn EventLog, n: u64, facts: &[Fact]) -> Box<dyn Ownership> {
    let owner = log.create(&run(n), &Principal::default(), "test", Timestamp(n)).await.unwrap();
    let facts = facts.iter().map(|fact| (Timestamp(100 + n), fact.clone())).collect();
    let payloads = vec![Payload::new(b"goal".to_vec())];
    log.append(&*owner, Batch { after: START, facts, payloads }, Durability::Synced).await.unwrap();
    owner
}

async fn runs_left(log: &dyn EventLog) -> Vec<RunId> {
    let mut runs: Vec<_> = log.runs(99).await.unwrap().into_iter().map(|entry| entry.run).collect();
    runs.sort();
    runs
}

fn space_of(who: &Principal) -> StateSpace {
    StateSpace { principal: who.clone(), ..user_space("a") }
}

fn workflow_space(n: u64) -> StateSpace {
    StateSpace { scope: StateScope::Workflow, run: run(n), ..user_space("a") }
}

pub(in crate::store) fn created(parent: Option<u64>) -> Fact {
    Fact::RunCreated {
        principal: Principal::default(),
        goal: Digest::of(b"goal"),
        planner: "workflow".into(),
        policy: GENESIS,
        toolset: GENESIS,
        budget: Budget::default(),
        is_single_plan: true,
        has_assertions: false,
        parent: parent.map(|n| Parent {
            run: run(n),
            step: step("a"),
            depth: 1,
            calls_left: Default::default(),
            takes_back: None,
        }),
        trace: None,
    }
}

pub(in crate::store) fn end_of_run() -> Fact {
    Fact::RunEnded { end: RunEnd::Succeeded { answer: None }, caveats: vec![] }
}
