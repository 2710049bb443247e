//! A run within the run is that of its step, and leaves what the step says: anything else in the log of the run around it is
//! found out.

use cofferdam::domain::{Fact, Parent, RunId, StepId, Within};
use cofferdam::store::EventLog;
use serde_json::json;

use super::decided::{found, id, same};
use super::{Recorded, log, one, played, recorded, workflow};
use crate::guest::Rule;

/// Two runs within the run that are for the very same, and a call.
async fn twins() -> Recorded {
    let inner = json!({"workflow": "inner", "goal": "Add.", "steps": [
        {"id": "sum", "tool": "math.eval", "args": {"expression": "2 + 2"}},
    ], "answer": {"$from": "sum"}});
    let trip = |id: &str, needs: &[&str]| json!({"id": id, "run": {"workflow": inner}, "args": {}, "needs": needs});
    let call = one("call", "math.eval", json!({"expression": "3"}));
    recorded(workflow(vec![trip("one", &[]), trip("two", &["one"]), call]), &Rule::default()).await
}

async fn run_of(recorded: &Recorded, of: &StepId) -> RunId {
    let events = log(recorded.dir.path()).read(&recorded.run, 0).await.expect("the log is read");
    let of = |fact| match fact {
        Fact::StepStarted { step, run, .. } if step == *of => run,
        _ => None,
    };
    events.into_iter().find_map(|event| of(event.fact)).expect("a run carries it out")
}

/// The beginning of `of`, with this run.
fn begun_by(fact: &Fact, of: &StepId, by: &RunId) -> Option<Fact> {
    let mut fact = fact.clone();
    match &mut fact {
        Fact::StepStarted { step, run, .. } if step == of => *run = Some(by.clone()),
        _ => return None,
    }
    Some(fact)
}

/// The end of `t1.one`, as `forge` has it.
fn ended(fact: &Fact, forge: impl Fn(&mut u32, &mut Option<Within>)) -> Option<Fact> {
    let mut fact = fact.clone();
    match &mut fact {
        Fact::StepEnded { step, cost, within, .. } if *step == id("t1.one") => forge(&mut cost.calls, within),
        _ => return None,
    }
    Some(fact)
}

/// The creation of the run that carries out `t1.one`, with another parent.
fn created(fact: &Fact, forge: impl Fn(&mut Parent)) -> Option<Fact> {
    let mut fact = fact.clone();
    match &mut fact {
        Fact::RunCreated { parent: Some(parent), .. } if parent.step == id("t1.one") => forge(parent),
        _ => return None,
    }
    Some(fact)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_tells_of_another_run_is_found_though_that_is_for_the_same() {
    let it = &twins().await;
    same(&played(it, &[]).await);
    let (one, two) = (run_of(it, &id("t1.one")).await, run_of(it, &id("t1.two")).await);
    found(it, "t1.two", "whose run it is", &|fact| begun_by(fact, &id("t1.two"), &one)).await;
    found(it, "t1.call", "whether a run carries it out", &|fact| begun_by(fact, &id("t1.call"), &two)).await;
    found(it, "t1.one", "whose run it is", &|fact| created(fact, |parent| parent.step = id("t1.two"))).await;
    found(it, "t1.one", "whose run it is", &|fact| created(fact, |parent| parent.depth = 0)).await;
    found(it, "t1.one", "whose run it is", &|fact| {
        let mut fact = fact.clone();
        match &mut fact {
            Fact::RunCreated { principal, parent: Some(parent), .. } if parent.step == id("t1.one") => {
                principal.user = "mallory".into();
            }
            _ => return None,
        }
        Some(fact)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_within_cost_and_left_is_held_against_its_log() {
    let it = &twins().await;
    found(it, "t1.one", "what its run left", &|fact| ended(fact, |calls, _| *calls += 1)).await;
    found(it, "t1.one", "what its run left", &|fact| ended(fact, |_, within| *within = None)).await;
    let done = |within: &mut Option<Within>| within.iter_mut().for_each(|within| within.has_done = true);
    found(it, "t1.one", "what its run left", &|fact| ended(fact, |_, within| done(within))).await;
    found(it, "t1.one", "what its run left", &|fact| {
        ended(fact, |_, within| within.iter_mut().for_each(|within| within.calls.clear()))
    })
    .await;
}
