//! A run that takes back another one: what it took back follows from the log of that one, and a log that says something else is
//! found out.

use std::collections::BTreeMap;

use cofferdam::domain::{Effect, Fact, PlannedStep, StepId, TakesBack, UndoReason};
use cofferdam::host::{ReplayReport, ReplayVerdict};
use cofferdam_kit::Bookings;
use serde_json::{Value, json};

use super::decided::{forged, forged_digest, found, id, same};
use super::{Recorded, host_under, lines, played, recorded};
use crate::guest::Rule;

/// A flight and a hotel that a run within the run books, and a car that is not to be had.
fn trip() -> Value {
    let book = |kind: &str, needs: &[&str]| json!({"id": kind, "tool": "bookings.book", "args": {"kind": kind, "what": "Oslo"}, "needs": needs});
    let within = json!({"workflow": "within", "goal": "Book two.", "steps": [
        book("flight", &[]), book("hotel", &["flight"]),
    ]});
    let mut car = book("car", &["trip"]);
    car["on_failure"] = json!("undo");
    json!({"workflow": "around", "goal": "Book three, or none.", "steps": [
        {"id": "trip", "run": {"workflow": within}, "args": {}}, car,
    ]})
}

async fn taken_back() -> (Recorded, Rule) {
    let service = Bookings::start();
    service.fail("car", 422, 1);
    let url = service.url();
    let terms = "methods = ['GET', 'POST', 'DELETE'], addresses = ['127.0.0.1/32'], keyed = true";
    let rule = Rule::default().sends(&format!("{url}/*"), terms);
    let rule = rule.more(format!("env = {{ BOOKINGS_URL = '{url}' }}"));
    let recorded = recorded(trip(), &rule).await;
    assert_eq!(service.cancelled(), ["hotel-2", "flight-1"]);
    (recorded, rule)
}

/// Plays it back under the policy that it ran under.
async fn played_under(recorded: &Recorded, rule: &Rule) -> ReplayReport {
    let host = host_under(recorded.dir.path(), rule.policy());
    host.replay(&recorded.run, &BTreeMap::new()).await.expect("the run can be played back")
}

/// What the run that takes back begins with, as `forge` has it.
fn begun(fact: &Fact, forge: impl Fn(&mut Vec<PlannedStep>, &mut Vec<StepId>)) -> Option<Fact> {
    let mut fact = fact.clone();
    match &mut fact {
        Fact::UndoBegun { why: UndoReason::Outer, steps, left } => forge(steps, left),
        _ => return None,
    }
    Some(fact)
}

const BEGUN: &str = "t1.trip~undo/what is taken back";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_takes_back_is_told_of_the_run_that_it_takes_back() {
    let (recorded, rule) = taken_back().await;
    let report = played_under(&recorded, &rule).await;
    same(&report);
    for part in [BEGUN, "t1.trip~undo/t1.hotel~undo (its arguments)", "t1.trip~undo/the log", "t1.trip~undo"] {
        let line = format!("{part} same");
        assert!(lines(&report).contains(&line), "{line}: {:#?}", lines(&report));
    }
    let report = played(&recorded, &[]).await;
    let untold = format!("{BEGUN} untold: the policy has changed since, and what it said is not kept");
    assert!(report.is_same() && lines(&report).contains(&untold), "{:#?}", lines(&report));
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_that_are_taken_back_otherwise_than_their_run_wants_are_found() {
    let (recorded, rule) = taken_back().await;
    let it = &recorded;
    found(it, BEGUN, "which steps", &|fact| {
        begun(fact, |steps, _| {
            let ids: Vec<_> = steps.iter().map(|step| step.after.clone()).collect();
            steps.reverse();
            steps.iter_mut().zip(ids).for_each(|(step, after)| step.after = after);
            steps[1].after = vec![steps[0].id.clone()];
        })
    })
    .await;
    found(it, BEGUN, "which steps", &|fact| begun(fact, |steps, _| drop(steps.pop()))).await;
    found(it, BEGUN, "what is left", &|fact| begun(fact, |_, left| left.push(id("t1.hotel")))).await;
    let call = "t1.trip~undo/t1.hotel~undo";
    let tool = || "bookings.find".parse().expect("a tool's name");
    found(it, call, "which call it is", &|fact| begun(fact, |steps, _| steps[0].tool = tool())).await;
    let second = "t1.trip~undo/t1.flight~undo";
    found(it, second, "which call it is", &|fact| begun(fact, |steps, _| steps[1].after.clear())).await;

    // How far a call reaches is told while the policy is kept.
    let reaching = forged(it, &|fact| begun(fact, |steps, _| steps[0].effect = Effect::Once)).await;
    let report = played_under(&reaching, &rule).await;
    assert_eq!(report.diverged.as_deref(), Some(call), "{:#?}", lines(&report));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_takes_back_has_the_arguments_and_the_key_of_the_step_that_it_takes_back() {
    let it = &taken_back().await.0;
    let part = "t1.trip~undo/t1.hotel~undo (its arguments)";
    let ready = |fact: &Fact, is_key: bool| {
        let mut fact = fact.clone();
        match &mut fact {
            Fact::StepReady { step, args, key, .. } if *step == id("t1.hotel~undo") => {
                *(if is_key { key } else { args }) = forged_digest();
            }
            _ => return None,
        }
        Some(fact)
    };
    found(it, part, "its arguments", &|fact| ready(fact, false)).await;
    found(it, part, "its key", &|fact| ready(fact, true)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_takes_back_another_one_than_its_step_says_is_found() {
    let it = &taken_back().await.0;
    let taking = |fact: &Fact, forge: &dyn Fn(&mut TakesBack)| {
        let mut fact = fact.clone();
        match &mut fact {
            Fact::RunCreated { parent: Some(parent), .. } => forge(parent.takes_back.as_mut()?),
            _ => return None,
        }
        Some(fact)
    };
    found(it, "t1.trip~undo", "whose run it is", &|fact| {
        taking(fact, &|takes_back| takes_back.after = Some(takes_back.run.clone()))
    })
    .await;
    found(it, BEGUN, "which steps", &|fact| taking(fact, &|takes_back| takes_back.run = it.run.clone())).await;
    let missing = "r-01arz3ndektsv4rrffq69g5fav".parse().expect("an id");
    let forgery = forged(it, &|fact| taking(fact, &|takes_back| takes_back.run.clone_from(&missing))).await;
    let report = played(&forgery, &[]).await;
    let untold = report.parts.iter().find(|part| part.part == BEGUN).map(|part| &part.result);
    assert!(matches!(untold, Some(ReplayVerdict::Untold { .. })), "{:#?}", lines(&report));
    assert_eq!(report.diverged.as_deref(), Some("t1.trip~undo"), "{:#?}", lines(&report));
}
