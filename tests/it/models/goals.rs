//! Whole goals, with real tools: what a model proposes is admitted or not, whichever provider it is asked of.

use std::collections::BTreeMap;
use std::sync::Arc;

use cofferdam::domain::{Budget, Event, Fact};
use cofferdam::host::{Goal, Host, ReplayVerdict, RunState, StartOptions};
use cofferdam::policy::Policy;

use super::*;
use crate::guest::{Folders, cache_dir, helper};

const POLICY: &str = r#"
version = 0
[[rule]]
name = "compute"
why = "It touches nothing."
allow = ["math.*"]
"#;

struct Told {
    state: RunState,
    answer: Option<Json>,
    failure: Option<Failure>,
    events: Vec<Event>,
    /// What came of each turn when the run was played back.
    turns: Vec<ReplayVerdict>,
    /// All that is on disk.
    kept: Vec<u8>,
}

impl Told {
    fn names(&self) -> Vec<&'static str> {
        self.events.iter().map(|event| event.fact.name()).collect()
    }

    fn is_started(&self) -> bool {
        self.events.iter().any(|event| matches!(event.fact, Fact::StepStarted { .. }))
    }
}

async fn told(protocol: (Protocol, fake_llm::Protocol), replies: &[Json]) -> Told {
    let script: Vec<String> = replies.iter().map(|reply| json!({ "reply": reply }).to_string()).collect();
    let (server, options) = served(protocol, &script.join("\n"));
    let options = ModelOptions { price: free(), ..options };
    let (folders, state) = (Folders::new(), tempfile::tempdir().expect("a directory"));
    let host = Host::builder()
        .helper(helper())
        .cache_dir(cache_dir())
        .state(state.path())
        .tool("math", cofferdam_guests::component("math"))
        .policy(Policy::parse(POLICY, folders.outer()).expect("the policy reads"))
        .planner(Arc::new(ModelPlanner::single(options).expect("it is set up")))
        .budget(Budget { usd_micros_max: Some(1_000_000), ..Budget::default() })
        .build()
        .expect("the host is made");
    let handle = host.start(Goal::text("Add."), StartOptions::default()).await.expect("it starts");
    let report = handle.finished().await.expect("it is driven");
    let events = host.events(&report.run).await.expect("the log is read");
    assert_eq!(server.finish(), Ok(()), "{:?}: {report:#?}", protocol.0);
    let (answer, failure) = (report.answer.clone(), report.failure.clone());
    let replayed = host.replay(&report.run, &BTreeMap::new()).await.expect("it is played back");
    assert_eq!(replayed.diverged, None, "{:?}: {replayed:#?}", protocol.0);
    let turns =
        replayed.parts.into_iter().filter(|part| part.part.starts_with("turn ")).map(|part| part.result).collect();
    drop(host);
    let files = fs::read_dir(state.path()).expect("it lists").map(|entry| entry.expect("it reads").path());
    let kept = files.filter(|path| path.is_file()).flat_map(|path| fs::read(path).unwrap_or_default()).collect();
    Told { state: report.state, answer, failure, events, turns, kept }
}

fn adds() -> Json {
    let step = |id: &str, text: &str| json!({"id": id, "tool": "math.eval", "args": {"expression": text}});
    json!({"json": {"steps": [step("a", "20 + 22"), step("b", "1 + 1")]},
        "usage": {"prompt": 500, "cached": 100, "reply": 60}})
}

#[tokio::test]
async fn a_goal_of_two_turns_with_parallel_calls_is_reached_with_each_provider_alike() {
    let mut stories = Vec::new();
    for protocol in PROTOCOLS {
        let answers = json!({"json": {"answer": [{"$from": "t1.a", "path": ""}, {"$from": "t1.b", "path": ""}]}});
        let told = told(protocol, &[adds(), answers]).await;
        assert_eq!(told.state, RunState::Succeeded, "{:?}: {:?}", protocol.0, told.failure);
        assert_eq!(told.answer, Some(json!(["42", "2"])), "{:?}", protocol.0);
        assert!(!told.kept.windows(KEY.len()).any(|bytes| bytes == KEY.as_bytes()), "the key is on disk");
        let mut names = told.names();
        // Two calls at one time end in any order.
        names.sort_unstable();
        stories.push(names);
    }
    assert!(stories.iter().all(|story| story == &stories[0]), "{stories:#?}");
}

#[tokio::test]
async fn native_calls_reach_the_goal_as_steps() {
    let calls = json!({"tool_calls": [{"name": "math.eval", "arguments": {"expression": "20 + 22"}},
        {"name": "math.eval", "arguments": {"expression": "1 + 1"}}]});
    for protocol in PROTOCOLS {
        let answers = json!({"json": {"answer": {"$from": "t1.call1", "path": ""}}});
        let told = told(protocol, &[calls.clone(), answers]).await;
        assert_eq!((told.state, told.answer), (RunState::Succeeded, Some(json!("42"))), "{:?}", protocol.0);
        assert!(matches!(told.turns.as_slice(), [ReplayVerdict::Same, ..]), "{:?}: {:?}", protocol.0, told.turns);
    }
}

#[tokio::test]
async fn no_guest_starts_for_a_call_that_is_not_in_order() {
    let wrong = json!({"json": {"steps": [{"id": "a", "tool": "math.eval", "args": {"expression": 7}}]}});
    for protocol in PROTOCOLS {
        let told = told(protocol, &[wrong.clone(), wrong.clone()]).await;
        assert!(!told.is_started(), "{:?}: {:?}", protocol.0, told.names());
        let failure = told.failure.expect("the run failed");
        let is_told = failure.message.contains("/steps/0/args/expression") && failure.message.contains("its schema is");
        assert!(is_told, "{:?}: {failure:?}", protocol.0);
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_admits_nothing_and_is_asked_again() {
    for protocol in PROTOCOLS {
        let mut cut = adds();
        cut["cut_after_events"] = json!(8);
        let answers = json!({"json": {"answer": {"$from": "t1.a", "path": ""}}});
        let told = told(protocol, &[cut, adds(), answers]).await;
        assert_eq!(told.state, RunState::Succeeded, "{:?}: {:?}", protocol.0, told.failure);
        let names = told.names();
        let (failed, started) = (
            names.iter().position(|name| *name == "plan_failed"),
            names.iter().position(|name| *name == "step_started"),
        );
        assert!(failed.is_some() && failed < started, "{:?}: {names:?}", protocol.0);
    }
}
