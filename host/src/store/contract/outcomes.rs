//! What every log promises of outcomes by key and by content.

use super::*;
use crate::store::{CachedOutcome, Claim};

pub(super) async fn check<L: EventLog + 'static>(make: &impl AsyncFn() -> L, few: &impl AsyncFn() -> L) {
    a_key_is_taken_once_and_answers_repeats(&make().await).await;
    keys_are_of_one_user(&make().await).await;
    of_many_who_want_a_key_one_gets_it(Arc::new(make().await)).await;
    a_cached_outcome_comes_back_to_its_user_only(&make().await).await;
    the_least_used_outcomes_go_first(&few().await).await;
    an_outcome_too_large_is_not_kept(&few().await).await;
}

async fn a_key_is_taken_once_and_answers_repeats(log: &dyn EventLog) {
    let (me, request) = (Principal::default(), Digest::of(b"request"));
    let claim = async |request: &Digest, n| log.claim_key(&me, "k", request, &run(n), Timestamp(n)).await.unwrap();
    assert_eq!(claim(&request, 1).await, Claim::Claimed);
    assert_eq!(claim(&request, 2).await, Claim::Taken { run: run(1), outcome: None });
    assert_eq!(claim(&Digest::of(b"other"), 2).await, Claim::Other);
    log.settle_key(&me, "k", Some(b"done".to_vec())).await.unwrap();
    assert_eq!(claim(&request, 2).await, Claim::Taken { run: run(1), outcome: Some(b"done".to_vec()) });
    log.settle_key(&me, "k", None).await.unwrap();
    assert_eq!(claim(&Digest::of(b"other"), 2).await, Claim::Claimed, "a key that was given back is free");
    assert_eq!(kind_of(log.settle_key(&me, "never", None).await), Kind::DataNotFound);
    assert_eq!(kind_of(log.settle_key(&me, "never", Some(vec![])).await), Kind::DataNotFound);
}

async fn keys_are_of_one_user(log: &dyn EventLog) {
    for who in [user("a", "x"), user("a", "y"), user("b", "x")] {
        assert_eq!(log.claim_key(&who, "k", &GENESIS, &run(1), Timestamp(1)).await, Ok(Claim::Claimed));
    }
    let elsewhere = Principal { session: "other".into(), ..user("a", "x") };
    let claim = log.claim_key(&elsewhere, "k", &GENESIS, &run(2), Timestamp(1)).await.unwrap();
    assert_eq!(claim, Claim::Taken { run: run(1), outcome: None }, "a key holds in all sessions of its user");
}

async fn of_many_who_want_a_key_one_gets_it(log: Arc<dyn EventLog>) {
    let mut claiming = JoinSet::new();
    for n in 0..40 {
        let log = Arc::clone(&log);
        claiming.spawn(async move {
            log.claim_key(&Principal::default(), "k", &GENESIS, &run(n), Timestamp(n)).await.unwrap()
        });
    }
    let claims = claiming.join_all().await;
    assert_eq!(claims.iter().filter(|claim| **claim == Claim::Claimed).count(), 1);
}

async fn a_cached_outcome_comes_back_to_its_user_only(log: &dyn EventLog) {
    let (me, key) = (user("a", "x"), Digest::of(b"call"));
    assert_eq!(log.cached(&me, &key).await, Ok(None));
    for output in ["first", "second"] {
        log.keep_cached(&me, &key, outcome(output)).await.unwrap();
        assert_eq!(log.cached(&me, &key).await, Ok(Some(outcome(output))));
    }
    for (who, key) in [(user("a", "y"), key), (user("b", "x"), key), (me, Digest::of(b"other"))] {
        assert_eq!(log.cached(&who, &key).await, Ok(None));
    }
    assert_eq!(log.stored().await.unwrap().cache_bytes, 6);
}

async fn the_least_used_outcomes_go_first(log: &dyn EventLog) {
    let (me, key) = (Principal::default(), |n: u8| Digest::of(&[n]));
    let text = "x".repeat(300);
    for n in 1..=3 {
        log.keep_cached(&me, &key(n), outcome(&text)).await.unwrap();
    }
    assert!(log.cached(&me, &key(1)).await.unwrap().is_some());
    log.keep_cached(&me, &key(4), outcome(&text)).await.unwrap();
    let mut kept = Vec::new();
    for n in 1..=4 {
        kept.push(log.cached(&me, &key(n)).await.unwrap().is_some());
    }
    assert_eq!(kept, [true, false, true, true]);
    assert_eq!(log.stored().await.unwrap().cache_bytes, 900);
}

async fn an_outcome_too_large_is_not_kept(log: &dyn EventLog) {
    let me = Principal::default();
    log.keep_cached(&me, &GENESIS, outcome(&"x".repeat(401))).await.unwrap();
    assert_eq!(log.cached(&me, &GENESIS).await, Ok(None));
    log.keep_cached(&me, &GENESIS, outcome(&"x".repeat(400))).await.unwrap();
    assert!(log.cached(&me, &GENESIS).await.unwrap().is_some());
}

pub(super) fn outcome(output: &str) -> CachedOutcome {
    CachedOutcome { output: output.as_bytes().to_vec(), run: run(1), at: Timestamp(9) }
}

pub(super) fn user(tenant: &str, user: &str) -> Principal {
    Principal { tenant: tenant.into(), user: user.into(), session: "s".into() }
}
