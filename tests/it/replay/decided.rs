//! What a run decided, decided again: all of it is told, and a log that says something else is found out.

use std::collections::BTreeMap;

use cofferdam::clock::{Clock, SystemClock};
use cofferdam::domain::{
    Decision, Digest, Event, Fact, Failure, GENESIS, HostCallRecord, JournalEntry, Json, Kind, Principal, RunEnd,
    RunId, SkipReason, StepEnd, StepId,
};
use cofferdam::host::{Approve, Choice, Goal, Message, ReplayReport, ReplayVerdict, StartOptions, Wait};
use cofferdam::planner::workflow::{Format, WorkflowPlanner};
use cofferdam::store::{Batch, Durability, EventLog, Ownership, Payload};
use cofferdam_kit::WebServer;
use cofferdam_kit::web::Reply;
use serde_json::json;
use tempfile::TempDir;

use super::{Recorded, host_under, lines, log, one, played, ran, recorded, workflow};
use crate::guest::Rule;

pub(super) fn id(step: &str) -> StepId {
    step.parse().expect("a step's id")
}

/// Of each kind of decision one: a condition that does not hold, a list, a step that stands in for another, one that waits for the
/// end of another, conditions of success, an answer, and a run within the run.
fn whole() -> Json {
    let inner = json!({"workflow": "inner", "goal": "Count.", "inputs": {"text": "x"}, "steps": [
        {"id": "words", "tool": "text.stats", "args": {"text": {"$input": "text"}}},
    ], "answer": {"$from": "words", "path": "/words"}});
    json!({
        "workflow": "whole",
        "goal": "Decide.",
        "steps": [
            {"id": "count", "tool": "text.stats", "args": {"text": "one two"}},
            {"id": "sum", "tool": "math.eval", "args": {"expression": "1 + 1"}},
            {"id": "double", "tool": "math.eval", "args": {"expression": {"$from": "sum"}}},
            {"id": "long", "tool": "text.stats", "args": {"text": "long"}, "when": "steps.count.words > 5"},
            {"id": "each", "tool": "text.stats", "args": {"text": {"$item": ""}},
                "for_each": {"in": ["a", "b c"], "items_max": 5}},
            {"id": "bad", "tool": "math.eval", "args": {"expression": "1 /"}, "on_failure": "fallback:good",
                "retry": {"attempts_max": 1}},
            {"id": "good", "tool": "math.eval", "args": {"expression": "4"}},
            {"id": "values", "tool": "math.eval", "args": {"expression": {"$item": ""}},
                "for_each": {"in": ["6", "7"], "items_max": 5}},
            {"id": "unfit", "tool": "text.stats", "args": {"text": {"$from": "values", "path": "/7"}},
                "on_failure": "skip"},
            {"id": "late", "tool": "math.eval", "args": {"expression": "5"}, "after": ["unfit"]},
            {"id": "trip", "run": {"workflow": inner}, "args": {"text": "in a run"}},
        ],
        "answer": {"sum": {"$from": "double"}, "each": {"$from": "each", "path": "/1/words"}},
        "assert": ["steps.count.words == 2"],
    })
}

pub(super) async fn whole_run() -> Recorded {
    recorded(whole(), &Rule::default()).await
}

#[track_caller]
pub(super) fn same(report: &ReplayReport) {
    assert!(report.is_same(), "{:#?}", lines(report));
    let untold = report.parts.iter().find(|part| matches!(part.result, ReplayVerdict::Untold { .. }));
    assert!(untold.is_none(), "{untold:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_decision_is_made_again_and_those_of_runs_within_bear_their_path() {
    let recorded = whole_run().await;
    let report = played(&recorded, &[]).await;
    same(&report);
    let lines = lines(&report);
    for line in [
        "t1.double (its arguments) same",
        "t1.long (its condition) same",
        "t1.each (its items) same",
        "t1.each[1] (its arguments) same",
        "t1.each[1] same",
        "t1.each (what its items brought) same",
        "t1.unfit (why it is rejected) same",
        "t1.trip/turn 1 same",
        "t1.trip/t1.words same",
        "t1.trip/the log same",
        "t1.trip same",
        "the run's conditions same",
        "the answer same",
        "the log same",
    ] {
        assert!(lines.contains(&line.to_owned()), "{line}: {lines:#?}");
    }
    let place = |line: &str| lines.iter().position(|told| told == line);
    assert!(place("t1.trip/t1.words same") < place("t1.trip same"), "what is within stands before");
}

/// The log again, under the same name, in which each fact is what `forge` makes of it. Its chain is whole.
pub(super) async fn forged(recorded: &Recorded, forge: &dyn Fn(&Fact) -> Option<Fact>) -> Recorded {
    forged_with(recorded, forge, &[]).await
}

/// The same, with payloads that the forged facts name.
pub(super) async fn forged_with(
    recorded: &Recorded,
    forge: &dyn Fn(&Fact) -> Option<Fact>,
    more: &[Payload],
) -> Recorded {
    let (from, dir) = (log(recorded.dir.path()), TempDir::new().expect("there is room for a folder"));
    let to = log(dir.path());
    let mut runs = vec![recorded.run.clone()];
    let mut is_forged = false;
    while let Some(run) = runs.pop() {
        let events = from.read(&run, 0).await.expect("the log is read");
        runs.extend(events.iter().filter_map(|event| match &event.fact {
            Fact::StepStarted { run, .. } => run.clone(),
            _ => None,
        }));
        let principal = Principal::default();
        let owner = to.create(&run, &principal, "test", SystemClock::default().now()).await.expect("the run is made");
        let mut after = (0, GENESIS);
        for event in &events {
            let fact = forge(&event.fact);
            is_forged |= fact.is_some();
            copy_journal(&*from, &*to, (&*owner, &run), &event.fact).await;
            let payloads = [payloads(&*from, &run, event).await, other(), more.to_vec()].concat();
            let batch = Batch { after, facts: vec![(event.at, fact.unwrap_or_else(|| event.fact.clone()))], payloads };
            let appended = to.append(&*owner, batch, Durability::Synced).await.expect("the log takes it");
            let last = appended.last().expect("there is an event");
            after = (last.seq, last.hash().expect("it has a hash"));
        }
        to.verify(&run).await.expect("its chain is whole");
    }
    assert!(is_forged, "there was nothing to forge");
    Recorded { dir, run: recorded.run.clone() }
}

/// What a forger puts in the place of something.
fn forgery() -> Json {
    json!({"text": "forged"})
}

fn ready(step: &StepId, args: Digest, key: Digest) -> Fact {
    Fact::StepReady { step: step.clone(), args, key, duplicate_of: None }
}

fn other() -> Vec<Payload> {
    vec![Payload::of(&forgery()).expect("it is JSON"), Payload::of(&failure()).expect("it is JSON")]
}

fn failure() -> Failure {
    Failure::new(Kind::DataCondition, "hold what nobody asked for")
}

pub(super) fn forged_digest() -> Digest {
    Digest::of_json(&forgery())
}

/// All payloads that an event names.
async fn payloads(log: &dyn EventLog, run: &RunId, event: &Event) -> Vec<Payload> {
    let text = serde_json::to_string(&event.fact).expect("it is JSON");
    let mut found = Vec::new();
    for word in text.split('"') {
        if let Ok(digest) = word.parse::<Digest>()
            && let Ok(Some(bytes)) = log.payload(run, &digest).await
        {
            found.push(Payload::new(bytes));
        }
    }
    found
}

async fn copy_journal(from: &dyn EventLog, to: &dyn EventLog, (owner, run): (&dyn Ownership, &RunId), fact: &Fact) {
    let Fact::StepStarted { step, attempt, .. } = fact else { return };
    let records = from.journal(run, step, *attempt).await.expect("the journal is read");
    let entries = records.into_iter().flat_map(|record| {
        let HostCallRecord { n, what, args, is_write, done } = record;
        let begun = JournalEntry::Begun { n, what, args, is_write };
        [Some(begun), done.map(|recorded| JournalEntry::Done { n, recorded })].into_iter().flatten()
    });
    to.write_journal(owner, step, *attempt, entries.collect(), Durability::Synced).await.expect("the log takes it");
}

/// Forges one decision, and expects that playing the run back names it first.
pub(super) async fn found(recorded: &Recorded, part: &str, what: &str, forge: &dyn Fn(&Fact) -> Option<Fact>) {
    named(&forged(recorded, forge).await, part, what).await;
}

/// Expects that playing a forged run back names what is wrong with it first.
pub(super) async fn named(forged: &Recorded, part: &str, what: &str) {
    let report = played(forged, &[]).await;
    let first = report.parts.iter().find(|part| matches!(part.result, ReplayVerdict::Differs { .. }));
    let first = first.unwrap_or_else(|| panic!("{part}: nothing differs: {:#?}", lines(&report)));
    let ReplayVerdict::Differs { what: told, .. } = &first.result else { panic!("{first:?}") };
    assert!(first.part == part && told.contains(what), "{part}, {what}: {:#?}", lines(&report));
    assert_eq!(report.diverged.as_deref(), Some(part));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_that_somebody_forged_is_found_and_named() {
    let recorded = whole_run().await;
    let it = &recorded;
    found(it, "t1.double (its arguments)", "its arguments", &|fact| match fact {
        Fact::StepReady { step, key, .. } if *step == id("t1.double") => Some(ready(step, forged_digest(), *key)),
        _ => None,
    })
    .await;
    found(it, "t1.count (its arguments)", "its key", &|fact| match fact {
        Fact::StepReady { step, args, .. } if *step == id("t1.count") => Some(ready(step, *args, forged_digest())),
        _ => None,
    })
    .await;
    found(it, "the log", "step_skipped", &|fact| match fact {
        Fact::StepSkipped { step, why: SkipReason::Condition } => {
            Some(Fact::StepSkipped { step: step.clone(), why: SkipReason::NotNeeded })
        }
        _ => None,
    })
    .await;
    found(it, "t1.each (its items)", "its list", &|fact| match fact {
        Fact::StepExpanded { step, items, .. } if *step == id("t1.each") => {
            Some(Fact::StepExpanded { step: step.clone(), items: *items, list: forged_digest() })
        }
        _ => None,
    })
    .await;
    found(it, "t1.each (what its items brought)", "what they come to", &|fact| match fact {
        Fact::StepGathered { step, .. } if *step == id("t1.each") => {
            Some(Fact::StepGathered { step: step.clone(), end: StepEnd::Succeeded { output: forged_digest() } })
        }
        _ => None,
    })
    .await;
    found(it, "the run's conditions", "whether they hold", &|fact| match fact {
        Fact::Verified { turn, .. } => Some(Fact::Verified {
            turn: *turn,
            failure: Some((Kind::DataCondition, Payload::of(&failure()).expect("it is JSON").digest())),
        }),
        _ => None,
    })
    .await;
    found(it, "t1.trip/the answer", "what it is", &|fact| match fact {
        Fact::Answered { turn, reply, .. } => {
            Some(Fact::Answered { turn: *turn, reply: *reply, answer: forged_digest() })
        }
        _ => None,
    })
    .await;
    found(it, "the log", "run_ended", &|fact| match fact {
        Fact::RunEnded { end: end @ RunEnd::Succeeded { answer: Some(_) }, caveats } if caveats.len() > 1 => {
            Some(Fact::RunEnded { end: end.clone(), caveats: Vec::new() })
        }
        _ => None,
    })
    .await;
    found(it, "the log", "step_started", &|fact| match fact {
        Fact::StepStarted { step, attempt, component, effect, rules, reserved, run } if *step == id("t1.sum") => {
            let reserved = cofferdam::domain::Cost { calls: reserved.calls + 1, ..*reserved };
            let (step, rules, run) = (step.clone(), rules.clone(), run.clone());
            Some(Fact::StepStarted {
                step,
                attempt: *attempt,
                component: *component,
                effect: *effect,
                rules,
                reserved,
                run,
            })
        }
        _ => None,
    })
    .await;
    // What a run within the run brought, forged in the run around it.
    found(it, "t1.trip", "what its run brought", &|fact| match fact {
        Fact::StepEnded { step, .. } if *step == id("t1.trip") => {
            let mut fact = fact.clone();
            if let Fact::StepEnded { end, .. } = &mut fact {
                *end = StepEnd::Succeeded { output: forged_digest() };
            }
            Some(fact)
        }
        _ => None,
    })
    .await;
    // And a decision within it.
    found(it, "t1.trip/t1.words (its arguments)", "its arguments", &|fact| match fact {
        Fact::StepReady { step, key, .. } if *step == id("t1.words") => Some(ready(step, forged_digest(), *key)),
        _ => None,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_was_taken_is_held_against_the_run_that_brought_it() {
    let (dir, rule) = (TempDir::new().expect("there is room for a folder"), Rule::default());
    let flow = workflow(vec![one("count", "text.stats", json!({"text": "one two"}))]);
    let host = host_under(dir.path(), rule.policy());
    let first = ran(&host, &flow).await;
    let run = ran(&host, &flow).await;
    drop(host);
    let recorded = Recorded { dir, run };
    let report = played(&recorded, &[]).await;
    same(&report);
    assert!(lines(&report).contains(&"t1.count (its cached outcome) same".to_owned()), "{report:?}");
    found(&recorded, "t1.count (its cached outcome)", "where it is from", &|fact| match fact {
        Fact::StepCached { step, output, age_ms, .. } => {
            let from = recorded.run.clone();
            Some(Fact::StepCached { step: step.clone(), output: *output, from, age_ms: *age_ms })
        }
        _ => None,
    })
    .await;
    // The other run is not in a log that has only this one.
    let alone = forged(&recorded, &|fact| matches!(fact, Fact::StepCached { .. }).then(|| fact.clone())).await;
    let report = played(&alone, &[]).await;
    let untold = format!("t1.count (its cached outcome) untold: run {first}, which brought it, is not kept any more");
    assert!(report.is_same() && lines(&report).contains(&untold), "{:#?}", lines(&report));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_was_asked_and_put_in_its_place_is_told_while_the_policy_is_kept() {
    let (dir, rule) = (TempDir::new().expect("there is room for a folder"), Rule::default());
    let mut step = one("sum", "math.eval", json!({"expression": "1 + 1"}));
    step["approval"] = json!(true);
    let planner = WorkflowPlanner::parse(&workflow(vec![step]).to_string(), Format::Json).expect("the workflow reads");
    let host = host_under(dir.path(), rule.policy());
    let asking = || StartOptions { wait: Wait::Never, approve: Approve::Ask, ..StartOptions::default() };
    let begun = host.start(Goal::Workflow(planner), asking()).await.expect("the run begins");
    let run = begun.finished().await.expect("it waits").run;
    let events = host.events(&run).await.expect("the log is read");
    let binding = events.iter().find_map(|event| match event.fact {
        Fact::ApprovalRequested { binding, .. } => Some(binding),
        _ => None,
    });
    let choice = Choice::Modify { args: r#"{"expression": "2 + 2"}"#.into() };
    let (step, binding) = (id("t1.sum"), binding.expect("somebody is asked"));
    let decide = Message::Decide { step, binding, choice, by: "ann".into(), reason: None };
    host.send(&run, decide).await.expect("it is told");
    host.resume(&run, asking()).await.expect("it goes on").finished().await.expect("it is driven");
    let report = host.replay(&run, &BTreeMap::new()).await.expect("the run can be played back");
    same(&report);
    for line in ["t1.sum (what a person is asked) same", "t1.sum (what a person put in its place) same", "t1.sum same"]
    {
        assert!(lines(&report).contains(&line.to_owned()), "{line}: {:#?}", lines(&report));
    }
    drop(host);
    let recorded = Recorded { dir, run };
    let report = played(&recorded, &[]).await;
    let untold = "t1.sum (what a person is asked) untold: the policy has changed since, and what it said is not kept";
    assert!(report.is_same() && lines(&report).contains(&untold.to_owned()), "{:#?}", lines(&report));
    found(&recorded, "t1.sum (what a person put in its place)", "its key", &|fact| match fact {
        Fact::ApprovalDecided { step, binding, decision: Decision::Modify { args, binding: to, .. }, by, .. } => {
            let decision = Decision::Modify { args: *args, key: forged_digest(), binding: *to };
            let (step, by) = (step.clone(), by.clone());
            Some(Fact::ApprovalDecided { step, binding: *binding, decision, by, reason: None })
        }
        _ => None,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_a_breaker_refused_is_refused_when_it_is_played_back() {
    let web = WebServer::start();
    web.on("/busy", Reply::page(503, "x", "y", "later"));
    let url = format!("http://{}/busy", web.at("127.0.0.1"));
    let rule = Rule::default().sends(&url, "methods = ['GET'], addresses = ['127.0.0.0/8']");
    let get = |n: u32| {
        let needs: Vec<String> = (n > 1).then(|| format!("get{}", n - 1)).into_iter().collect();
        json!({"id": format!("get{n}"), "tool": "fetch.get", "args": {"url": url}, "after": needs,
            "on_failure": "skip", "retry": {"attempts_max": 1}})
    };
    let recorded = recorded(workflow((1..=6).map(get).collect()), &rule).await;
    assert_eq!(web.seen().len(), 5, "the sixth was refused");
    drop(web);
    let report = played(&recorded, &[]).await;
    same(&report);
    let sixth = report.parts.iter().find(|part| part.part == "t1.get6").expect("it was played back");
    assert!(sixth.host_calls > 1, "what it was refused is on record");
}
