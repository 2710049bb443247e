//! What tools keep between calls: what is not given cannot be linked, what is given is bounded, and each kind is its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use cofferdam::clock::SystemClock;
use cofferdam::domain::{
    Failure, Json, Kind, Outcome, Recorded, RecordedValue, STATE_KEY_BYTES_MAX, Secret, StateOp, StateReply, StateScope,
};
use cofferdam::policy::STATE_QUOTA_DEFAULT;
use cofferdam::sandbox::{Begin, CallLink, HostCall, HostCallEnd, NoLink, Runner, Secrets, WasmRunner};
use serde_json::json;

use crate::guest::{Rule, call, kind, options, runner, tool, tool_of};

/// A store of one principal, as a driver would connect it: a map for each kind, and what it was asked.
#[derive(Default)]
struct Shelf {
    kept: Mutex<BTreeMap<(StateScope, String), Vec<u8>>>,
    asked: Mutex<Vec<String>>,
    /// Answers every host call with this.
    answer: Option<Json>,
    keys_max: Option<usize>,
    is_down: bool,
    refuses_writes: bool,
}

impl Shelf {
    fn kept(&self) -> BTreeMap<(StateScope, String), Vec<u8>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, text: String) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }
}

#[async_trait]
impl CallLink for Shelf {
    async fn begin(&self, call: &HostCall) -> Result<Begin, Failure> {
        if !call.what.starts_with("state.") {
            return Ok(Begin::Proceed);
        }
        self.note(format!("begin {}{}", call.what, if call.is_write { "!" } else { "" }));
        if self.refuses_writes && call.is_write {
            return Err(Failure::new(Kind::HostStorage, "write the log: the disk is full"));
        }
        let recorded = |value| Recorded { value: RecordedValue::Whole { value }, ms: 0 };
        Ok(self.answer.clone().map_or(Begin::Proceed, |value| Begin::Answer(recorded(value))))
    }

    async fn done(&self, call: &HostCall, end: HostCallEnd) -> Result<(), Failure> {
        if call.what.starts_with("state.") {
            self.note(format!("done {:?}", end.value));
        }
        Ok(())
    }

    async fn state(&self, scope: StateScope, op: StateOp) -> Result<StateReply, Failure> {
        if self.is_down {
            return Err(Failure::new(Kind::HostStorage, "read state: the disk is gone"));
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(match op {
            StateOp::Get { key } => StateReply::Value(kept.get(&(scope, key)).cloned()),
            StateOp::Set { key, value } => {
                let is_full = self.keys_max.is_some_and(|keys_max| kept.len() >= keys_max);
                if is_full && !kept.contains_key(&(scope, key.clone())) {
                    return Err(Failure::new(Kind::DataConflict, "keep it: the quota is used up"));
                }
                StateReply::Done { was_there: kept.insert((scope, key), value).is_some() }
            }
            StateOp::Delete { key } => StateReply::Done { was_there: kept.remove(&(scope, key)).is_some() },
            StateOp::Keys { prefix, after, keys_max } => {
                let is_meant =
                    |key: &&String| key.starts_with(&prefix) && after.as_ref().is_none_or(|after| *key > after);
                let of_scope = kept.keys().filter(|(of, _)| *of == scope).map(|(_, key)| key);
                StateReply::Keys(of_scope.filter(is_meant).take(keys_max as usize).cloned().collect())
            }
        })
    }
}

const ALL: &str = "state = { session = {}, user = {}, workflow = {} }";

fn step(verb: &str, key: &str, value: &str) -> Json {
    json!({ "verb": verb, "key": key, "value": value })
}

/// Runs a function of `keeper`, linked to `shelf`.
async fn run(shelf: &Arc<Shelf>, function: &str, args: Json, rule: &Rule) -> Outcome {
    runner().run(call(&tool(&format!("keeper.{function}")), &args, rule), shelf.clone()).await
}

async fn told(shelf: &Arc<Shelf>, function: &str, steps: &[Json]) -> Vec<String> {
    let outcome = run(shelf, function, json!({ "steps": steps }), &Rule::default().more(ALL)).await;
    serde_json::from_value(outcome.result.expect("the call goes well")).expect("it returns lines")
}

#[tokio::test]
async fn what_is_kept_is_there_in_the_next_call() {
    let shelf = Arc::new(Shelf::default());
    let first = [step("get", "a", ""), step("set", "a", "one"), step("set", "b/2", "x"), step("set", "b/1", "y")];
    assert_eq!(told(&shelf, "in-user", &first).await, ["nothing", "kept", "kept", "kept"]);
    let second = [step("get", "a", ""), step("keys", "b/", ""), step("delete", "a", ""), step("delete", "a", "")];
    assert_eq!(told(&shelf, "in-user", &second).await, ["one", "2 b/1,b/2", "true", "false"]);
    assert_eq!(shelf.kept().len(), 2);
}

#[tokio::test]
async fn each_kind_of_state_is_its_own() {
    let shelf = Arc::new(Shelf::default());
    for function in ["in-session", "in-user", "in-workflow"] {
        assert_eq!(
            told(&shelf, function, &[step("get", "a", ""), step("set", "a", function)]).await,
            ["nothing", "kept"]
        );
    }
    for function in ["in-session", "in-user", "in-workflow"] {
        assert_eq!(told(&shelf, function, &[step("get", "a", "")]).await, [function]);
    }
}

#[tokio::test]
async fn more_keys_than_a_page_are_listed() {
    let shelf = Arc::new(Shelf::default());
    for n in 0..2_500 {
        shelf.kept.lock().unwrap().insert((StateScope::User, format!("k{n:04}")), b"null".to_vec());
    }
    let listed = told(&shelf, "in-user", &[step("keys", "k", "")]).await;
    assert!(listed[0].starts_with("2500 k0000,k0001,"), "{}", &listed[0][..40]);
    assert_eq!(shelf.asked().iter().filter(|asked| *asked == "begin state.keys").count(), 3);
}

#[tokio::test]
async fn g9_state_that_no_rule_gives_is_not_linked() {
    let shelf = Arc::new(Shelf::default());
    let only_session = Rule::default().more("state = { session = {} }");
    let outcome = run(&shelf, "in-user", json!({ "steps": [] }), &only_session).await;
    let failure = outcome.result.expect_err("it cannot be linked");
    assert_eq!(failure.kind, Kind::PolicyDenied, "{failure}");
    assert!(failure.message.contains("cofferdam:tool/state-user@0.1.0"), "{failure}");
    // What another function of the component asks for is linked, and refused to this one.
    let outcome = run(&shelf, "reach", json!({}), &only_session).await;
    let failure = outcome.result.expect_err("it reaches too far");
    assert_eq!(failure.kind, Kind::PolicyDenied);
    assert!(failure.message.contains("`state.user`"), "{failure}");
    assert!(shelf.asked().is_empty(), "nothing was asked");
    // A component without a manifest asks for what it imports, and gets no more than it imports.
    let bare = tool_of(
        r#"(component
          (import "cofferdam:tool/state-session@0.1.0" (instance $state
            (type $e' (enum "key" "too-large" "full" "unavailable"))
            (export "error" (type $e (eq $e')))
            (export "delete" (func (param "key" string) (result (result bool (error $e)))))))
          (core module $m (func (export "run")))
          (core instance $i (instantiate $m))
          (func (export "run") (canon lift (core func $i "run"))))"#,
        "run",
    );
    let asks: Vec<String> = bare.tool().asks.iter().map(ToString::to_string).collect();
    assert_eq!(asks, ["state.session"]);
    let with = |rule: &str| call(&bare, &json!({}), &Rule::default().more(rule));
    assert_eq!(kind(&runner().run(with("state = { session = {} }"), Arc::new(NoLink)).await), None);
    assert_eq!(kind(&runner().run(with("state = { user = {} }"), Arc::new(NoLink)).await), Some(Kind::PolicyDenied));
}

#[tokio::test]
async fn g9_keys_and_values_are_held_to_their_bounds() {
    let shelf = Arc::new(Shelf::default());
    let (longest, longer) = ("k".repeat(STATE_KEY_BYTES_MAX), "k".repeat(STATE_KEY_BYTES_MAX + 1));
    // As JSON a text has two bytes more.
    let room = usize::try_from(STATE_QUOTA_DEFAULT.value_bytes_max).unwrap() - 2;
    let steps = [
        step("set", &longest, "x"),
        step("set", &longer, "x"),
        step("get", &longer, ""),
        step("delete", "", ""),
        step("keys", &longer, ""),
        step("set", "../other\0", "x"),
        step("set", "full", &"x".repeat(room)),
        step("set", "fuller", &"x".repeat(room + 1)),
    ];
    let expected = ["kept", "state.key", "state.key", "state.key", "state.key", "kept", "kept", "state.too_large"];
    assert_eq!(told(&shelf, "in-user", &steps).await, expected);
    assert_eq!(shelf.kept().len(), 3, "nothing else came to the store");
    let small = Rule::default().more("state = { user = { value_bytes_max = 3 } }");
    let args = json!({ "steps": [step("set", "a", "x"), step("set", "a", "xy")] });
    let outcome = run(&shelf, "in-user", args, &small).await;
    assert_eq!(outcome.result, Ok(json!(["kept", "state.too_large"])));
    assert_eq!(outcome.denials.len(), 1);
    assert_eq!(outcome.denials[0].code, "limit.state");
}

#[tokio::test]
async fn g9_a_flood_of_changes_has_an_end() {
    let shelf = Arc::new(Shelf::default());
    let rule = Rule::default().more(ALL).limit("state_writes_max", 100);
    let flood = |times: &str| json!({ "steps": [step("flood", "k", times)] });
    let outcome = run(&shelf, "in-user", flood("5000"), &rule).await;
    assert_eq!(outcome.result, Ok(json!(["4900 refused"])));
    assert_eq!(shelf.kept().len(), 100);
    assert!(outcome.has_written);
    // A store that is full says so, and what is there may still be changed.
    let full = Arc::new(Shelf { keys_max: Some(3), ..Shelf::default() });
    assert_eq!(told(&full, "in-user", &[step("flood", "k", "5"), step("set", "k0", "x")]).await, ["2 refused", "kept"]);
}

#[tokio::test]
async fn g9_a_store_that_is_down_is_told_to_the_guest_and_a_log_that_is_ends_the_call() {
    let down = Arc::new(Shelf { is_down: true, ..Shelf::default() });
    let told = told(&down, "in-user", &[step("get", "a", ""), step("set", "a", "x"), step("keys", "", "")]).await;
    assert_eq!(told, ["state.unavailable"; 3]);
    let full = Arc::new(Shelf { refuses_writes: true, ..Shelf::default() });
    let args = json!({ "steps": [step("get", "a", ""), step("set", "a", "x")] });
    let outcome = run(&full, "in-user", args.clone(), &Rule::default().more(ALL)).await;
    assert_eq!(kind(&outcome), Some(Kind::HostStorage));
    assert!(full.kept().is_empty());
    // A lone call without a store.
    let alone = call(&tool("keeper.in-user"), &args, &Rule::default().more(ALL));
    let outcome = runner().run(alone, Arc::new(NoLink)).await;
    assert_eq!(outcome.result, Ok(json!(["state.unavailable", "state.unavailable"])));
    assert!(outcome.denials.iter().all(|denial| denial.code == "denied.state"), "{:?}", outcome.denials);
}

#[tokio::test]
async fn a_change_is_announced_before_and_a_record_is_not_done_again() {
    let shelf = Arc::new(Shelf::default());
    told(&shelf, "in-user", &[step("get", "a", ""), step("set", "a", "x"), step("delete", "a", "")]).await;
    let begun: Vec<String> = shelf.asked().into_iter().filter(|asked| asked.starts_with("begin")).collect();
    assert_eq!(begun, ["begin state.get", "begin state.set!", "begin state.delete!"]);
    let answering = |answer: Json| Arc::new(Shelf { answer: Some(answer), ..Shelf::default() });
    let of_set = answering(json!({ "was_there": false }));
    assert_eq!(told(&of_set, "in-user", &[step("set", "a", "x")]).await, ["kept"]);
    assert!(of_set.kept().is_empty(), "it was done before");
    let of_get = answering(json!({ "value": "Im9uZSI=" }));
    assert_eq!(told(&of_get, "in-user", &[step("get", "a", "")]).await, ["one"]);
    assert_eq!(told(&answering(json!({ "error": "full" })), "in-user", &[step("set", "a", "x")]).await, ["state.full"]);
    let (odd, args) = (answering(json!(7)), json!({ "steps": [step("get", "a", "")] }));
    let strange = run(&odd, "in-user", args, &Rule::default().more(ALL)).await;
    assert_eq!(kind(&strange), Some(Kind::HostBug));
}

#[tokio::test]
async fn g9_no_secret_of_a_call_is_kept() {
    const VALUE: &str = "ghp-9c1fA7/x+hunter2";
    let secrets = Secrets::default().with("github", || Ok(Secret::new(VALUE).expect("it is a secret")));
    let runner =
        WasmRunner::with_secrets(&options(), secrets, Arc::new(SystemClock::default())).expect("it runs guests");
    let shelf = Arc::new(Shelf::default());
    let rule = Rule::default().more(ALL).more("secrets = [{ name = 'github', env = 'TOKEN', reveal = true }]");
    let hides = call(&tool("keeper.hide"), &json!({ "variable": "TOKEN" }), &rule);
    assert_eq!(runner.run(hides, shelf.clone()).await.result, Ok(json!(["kept"])));
    let kept = shelf.kept()[&(StateScope::User, "hidden".to_owned())].clone();
    assert_eq!(String::from_utf8_lossy(&kept), "\"[secret:github]\"");
}
