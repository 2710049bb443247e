//! Requests to models, held against what the log tells of them: a log that says something else is found out.

use std::path::Path;
use std::sync::Arc;

use cofferdam::domain::{AskedModel, Budget, Cost, Effect, Fact, Kind};
use cofferdam::host::{Goal, Host, StartOptions};
use cofferdam::planner::route::{Choice, Features, Routed, Routes};
use cofferdam::policy::Policy;
use cofferdam::sandbox::Runner;
use cofferdam::store::Payload;
use tempfile::TempDir;

use super::decided::{forged, forged_digest, forged_with, found, named, same};
use super::{RUNNER, Recorded, lines, log, played};
use crate::tiers::{POLICY, Script, adds, answers, capped, fails, wrong};

const MODEL: &str = "turn 1 (the model that is asked)";
const TOOK: &str = "turn 1 (what its reply took)";

async fn planned(script: Script, budget: Budget) -> Recorded {
    let dir = TempDir::new().expect("there is room for a folder");
    let policy = Policy::parse(POLICY, Path::new("/tmp")).expect("the policy reads");
    let runner: Arc<dyn Runner> = RUNNER.clone();
    let builder = Host::builder().event_log(log(dir.path())).runner(runner).policy(policy).budget(budget);
    let builder = builder.tool("math", cofferdam_guests::component("math")).planner(Arc::new(script));
    let host = builder.build().expect("the host is made");
    let handle = host.start(Goal::text("Add."), StartOptions::default()).await.expect("it starts");
    let report = handle.finished().await.expect("it is driven");
    assert!(report.failure.is_none(), "{:?}", report.failure);
    let run = report.run;
    assert!(host.routes(&run).await.expect("the log is read").iter().all(|view| view.is_same()));
    drop(host);
    Recorded { dir, run }
}

/// A first request that is not answered, one that is, and another turn; within bounds of money and tokens.
async fn bounded() -> Recorded {
    let budget = Budget { tokens_max: Some(100_000), ..capped(20_000) };
    planned(Script::new(vec![fails(Kind::NetworkHttp5xx), adds(), answers()]), budget).await
}

/// Forges what is asked in requests of which it is one that `is_it` holds.
fn asked(fact: &Fact, forge: impl Fn(&mut AskedModel, &mut Cost)) -> Option<Fact> {
    let mut fact = fact.clone();
    let Fact::PlanRequested { asked: Some(asked), reserved, .. } = &mut fact else { return None };
    forge(asked, reserved);
    Some(fact)
}

fn replied(fact: &Fact, forge: impl Fn(&mut Cost, &mut Option<u64>, &mut u64)) -> Option<Fact> {
    let mut fact = fact.clone();
    let Fact::PlanReplied { cost, usd_picos, tokens: Some(tokens), .. } = &mut fact else { return None };
    forge(cost, usd_picos, &mut tokens.reply);
    Some(fact)
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_reckoned_again_and_forged_ones_are_named() {
    let recorded = bounded().await;
    let it = &recorded;
    let report = played(it, &[]).await;
    same(&report);
    let lines = lines(&report);
    for line in [MODEL, TOOK, "turn 2 (the model that is asked)", "turn 2 (what its reply took)"] {
        assert!(lines.contains(&format!("{line} same")), "{line}: {lines:#?}");
    }
    assert_eq!(lines.iter().filter(|line| line.starts_with(MODEL)).count(), 2, "one was not answered: {lines:#?}");
    found(it, MODEL, "which model is asked", &|fact| asked(fact, |asked, _| asked.model = "m1".into())).await;
    found(it, MODEL, "which model is asked", &|fact| asked(fact, |asked, _| asked.tier = "large".into())).await;
    found(it, MODEL, "what its tier may propose", &|fact| asked(fact, |asked, _| asked.effect_max = Effect::Once))
        .await;
    found(it, MODEL, "why it is asked", &|fact| asked(fact, |asked, _| asked.route = forged_digest())).await;
    let more = |_: &mut AskedModel, reserved: &mut Cost| reserved.usd_micros += 20_000;
    found(it, MODEL, "what is held for it", &|fact| asked(fact, more)).await;
    let calls = |_: &mut AskedModel, reserved: &mut Cost| reserved.calls = 1;
    found(it, MODEL, "what is held for it", &|fact| asked(fact, calls)).await;
    found(it, MODEL, "what is held for it", &|fact| asked(fact, |asked, _| asked.price = None)).await;
    found(it, MODEL, "how long its reply may be", &|fact| asked(fact, |asked, _| asked.reply_tokens_max = 9_999)).await;
    found(it, TOOK, "what it cost", &|fact| replied(fact, |cost, _, _| cost.usd_micros += 1)).await;
    found(it, TOOK, "what it cost", &|fact| replied(fact, |cost, _, _| cost.tokens += 1)).await;
    found(it, TOOK, "what it cost", &|fact| replied(fact, |_, picos, _| *picos = Some(1))).await;
    found(it, TOOK, "what it cost", &|fact| replied(fact, |_, _, reply| *reply = 0)).await;
    // More than was held, consistently told: then the run must have ended by its budget.
    let over = |cost: &mut Cost, picos: &mut Option<u64>, reply: &mut u64| {
        // The one that was not answered took nothing.
        if *reply == 0 {
            return;
        }
        *reply = 15_000;
        (cost.tokens, cost.usd_micros, *picos) = (15_100, 15_100, Some(15_100_000_000));
    };
    found(it, "the log", "step_", &|fact| replied(fact, over)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_of_a_request_and_cannot_have_is_named() {
    let it = &bounded().await;
    found(it, "turn 1 (when it is asked again)", "when it is asked again", &|fact| match fact {
        Fact::PlanFailed { turn, kind, failure, retry: Some(due) } => {
            let retry = Some(due.plus_ms(61_000));
            Some(Fact::PlanFailed { turn: *turn, kind: *kind, failure: *failure, retry })
        }
        _ => None,
    })
    .await;
    found(it, "turn 1 (what its tier may propose)", "beyond its tier", &|fact| {
        let mut fact = fact.clone();
        let Fact::PlanAccepted { steps, .. } = &mut fact else { return None };
        steps[0].effect = Effect::Once;
        Some(fact)
    })
    .await;
    let mut script = Script::new(vec![wrong("read the reply: one"), adds(), answers()]);
    script.routes = Routes::single("s1");
    let alone = planned(script, Budget::default()).await;
    same(&played(&alone, &[]).await);
    found(&alone, "turn 1 (why it is refused)", "whether a dearer model is asked next", &|fact| match fact {
        Fact::PlanRejected { turn, reply, failures, is_escalated: false } => {
            Some(Fact::PlanRejected { turn: *turn, reply: *reply, failures: *failures, is_escalated: true })
        }
        _ => None,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_choice_that_was_never_made_is_named() {
    let it = &bounded().await;
    let views = super::host(it.dir.path()).routes(&it.run).await.expect("the log is read");
    let true_one = views[0].routed.clone().expect("it is kept");
    let choice = Choice { tier: "medium".into(), model: "m1".into(), why: Vec::new() };
    let features = Features { failed_steps: 9, ..true_one.features.clone() };
    for (routed, what) in [
        (Routed { features, ..true_one.clone() }, "what was counted for the choice"),
        (Routed { choice, ..true_one }, "which model is chosen"),
    ] {
        let payload = Payload::of(&routed).expect("it is JSON");
        let to_it = |asked: &mut AskedModel, _: &mut Cost| asked.route = payload.digest();
        let log = forged_with(it, &|fact| asked(fact, to_it), std::slice::from_ref(&payload)).await;
        named(&log, MODEL, what).await;
        let views = super::host(log.dir.path()).routes(&log.run).await.expect("the log is read");
        assert!(what.starts_with("what") || !views[0].is_same(), "{views:?}");
    }
    let other = forged(it, &|fact| asked(fact, |asked, _| asked.model = "m1".into())).await;
    let views = super::host(other.dir.path()).routes(&other.run).await.expect("the log is read");
    assert!(!views[0].is_same(), "another was asked than was chosen: {views:?}");
}
