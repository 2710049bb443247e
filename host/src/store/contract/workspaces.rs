//! What every log promises of the state of tools.

use super::*;
use crate::domain::{STATE_KEY_BYTES_MAX, StateOp, StateQuota, StateReply, StateScope, StateSpace};

const QUOTA: StateQuota = StateQuota { keys_max: 3, bytes_max: 100, value_bytes_max: 60 };

pub(super) async fn check<L: EventLog + 'static>(make: &impl AsyncFn() -> L) {
    a_value_comes_back_until_it_is_deleted(&make().await).await;
    nothing_of_one_space_is_seen_from_another(&make().await).await;
    keys_are_listed_in_order_and_in_pages(&make().await).await;
    a_quota_is_exact(&make().await).await;
    a_key_is_a_name(&make().await).await;
    changes_at_once_cannot_pass_a_quota_together(Arc::new(make().await)).await;
}

async fn a_value_comes_back_until_it_is_deleted(log: &dyn EventLog) {
    let space = user_space("a");
    let ask = async |op| log.state(&space, op, &QUOTA).await.unwrap();
    assert_eq!(ask(get("k")).await, StateReply::Value(None));
    assert_eq!(ask(delete("k")).await, StateReply::Done { was_there: false });
    for (value, was_there) in [("one", false), ("", true), ("two", true)] {
        assert_eq!(ask(set("k", value)).await, StateReply::Done { was_there });
        assert_eq!(ask(get("k")).await, StateReply::Value(Some(value.as_bytes().to_vec())));
    }
    assert_eq!(log.stored().await.unwrap().state_bytes, 4);
    assert_eq!(ask(delete("k")).await, StateReply::Done { was_there: true });
    assert_eq!(ask(get("k")).await, StateReply::Value(None));
    assert_eq!(log.stored().await.unwrap().state_bytes, 0);
}

async fn nothing_of_one_space_is_seen_from_another(log: &dyn EventLog) {
    let base = user_space("a");
    let session = |session: &str| StateSpace {
        scope: StateScope::Session,
        principal: Principal { session: session.into(), ..Principal::default() },
        ..base.clone()
    };
    let workflow = |n| StateSpace { scope: StateScope::Workflow, run: run(n), ..base.clone() };
    let other = |tenant: &str, user: &str| StateSpace {
        principal: Principal { tenant: tenant.into(), user: user.into(), ..Principal::default() },
        ..base.clone()
    };
    let spaces = [
        base.clone(),
        session("one"),
        session("two"),
        workflow(1),
        workflow(2),
        other("local", "you"),
        other("you", "local"),
        user_space("b"),
    ];
    for (n, space) in spaces.iter().enumerate() {
        assert_eq!(log.state(space, get("k"), &QUOTA).await, Ok(StateReply::Value(None)), "space {n}");
        log.state(space, set("k", &n.to_string()), &QUOTA).await.unwrap();
    }
    for (n, space) in spaces.iter().enumerate() {
        let value = StateReply::Value(Some(n.to_string().into_bytes()));
        assert_eq!(log.state(space, get("k"), &QUOTA).await, Ok(value));
    }
    // The state of a user is the same in every session and every run.
    let elsewhere = StateSpace { run: run(9), principal: session("two").principal, ..base };
    assert_eq!(log.state(&elsewhere, get("k"), &QUOTA).await, Ok(StateReply::Value(Some(b"0".to_vec()))));
}

async fn keys_are_listed_in_order_and_in_pages(log: &dyn EventLog) {
    let space = user_space("a");
    let quota = StateQuota { keys_max: 9, ..QUOTA };
    for key in ["b/2", "a", "b/10", "c", "b/1", "b"] {
        log.state(&space, set(key, ""), &quota).await.unwrap();
    }
    let list = async |prefix: &str, after: Option<&str>, keys_max| {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        match log.state(&space, StateOp::Keys { prefix, after, keys_max }, &quota).await.unwrap() {
            StateReply::Keys(keys) => keys.join(" "),
            reply => panic!("{reply:?}"),
        }
    };
    assert_eq!(list("", None, 9).await, "a b b/1 b/10 b/2 c");
    assert_eq!(list("b/", None, 9).await, "b/1 b/10 b/2");
    assert_eq!(list("b/", Some("b/1"), 1).await, "b/10");
    assert_eq!(list("b/", Some("a"), 2).await, "b/1 b/10");
    assert_eq!(list("b/", Some("c"), 9).await, "");
    assert_eq!(list("x", None, 9).await, "");
    assert_eq!(log.state(&user_space("b"), keys(), &quota).await, Ok(StateReply::Keys(vec![])));
}

async fn a_quota_is_exact(log: &dyn EventLog) {
    let space = user_space("a");
    let change = async |op| log.state(&space, op, &QUOTA).await;
    assert!(change(set("k", &"x".repeat(60))).await.is_ok());
    assert_eq!(kind_of(change(set("k", &"x".repeat(61))).await), Kind::DataConflict);
    assert!(change(set("l", &"x".repeat(38))).await.is_ok(), "61 and 39 are 100 bytes");
    assert_eq!(kind_of(change(set("m", "")).await), Kind::DataConflict);
    assert_eq!(kind_of(change(set("l", &"x".repeat(39))).await), Kind::DataConflict);
    assert_eq!(change(get("l")).await, Ok(StateReply::Value(Some(vec![b'x'; 38]))), "a refusal changes nothing");
    assert!(change(set("k", "")).await.is_ok());
    assert!(change(set("m", "")).await.is_ok());
    assert_eq!(kind_of(change(set("n", "")).await), Kind::DataConflict, "three keys");
    assert!(change(delete("k")).await.is_ok());
    assert!(change(set("n", "")).await.is_ok());
    assert_eq!(log.stored().await.unwrap().state_bytes, 41);
}

async fn a_key_is_a_name(log: &dyn EventLog) {
    let longest = "é".repeat(STATE_KEY_BYTES_MAX / 2);
    let quota = StateQuota { bytes_max: 1_000, ..QUOTA };
    assert!(log.state(&user_space("a"), set(&longest, ""), &quota).await.is_ok());
    for key in [String::new(), format!("{longest}x")] {
        for op in [get(&key), set(&key, ""), delete(&key)] {
            assert_eq!(kind_of(log.state(&user_space("a"), op, &quota).await), Kind::DataInput);
        }
    }
}

async fn changes_at_once_cannot_pass_a_quota_together(log: Arc<dyn EventLog>) {
    let mut setting = JoinSet::new();
    for n in 0..20 {
        let log = Arc::clone(&log);
        setting.spawn(async move { log.state(&user_space("a"), set(&format!("key {n}"), "x"), &QUOTA).await });
    }
    let set = setting.join_all().await;
    assert_eq!(set.iter().filter(|reply| reply.is_ok()).count(), 3);
}

pub(super) fn user_space(component: &str) -> StateSpace {
    let (principal, component) = (Principal::default(), component.to_owned());
    StateSpace { scope: StateScope::User, principal, run: run(1), component }
}

fn get(key: &str) -> StateOp {
    StateOp::Get { key: key.to_owned() }
}

pub(super) fn set(key: &str, value: &str) -> StateOp {
    StateOp::Set { key: key.to_owned(), value: value.as_bytes().to_vec() }
}

fn delete(key: &str) -> StateOp {
    StateOp::Delete { key: key.to_owned() }
}

pub(super) fn keys() -> StateOp {
    StateOp::Keys { prefix: String::new(), after: None, keys_max: 9 }
}
