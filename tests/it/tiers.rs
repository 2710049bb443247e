//! Models in tiers: which of them is asked, what becomes of a reply that is not good enough, and what a request may cost. The
//! models here are a script; what they are asked, and under which allowance, is what the tests look at.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use cofferdam::domain::{
    Budget, Effect, Event, Fact, Failure, Json, Kind, Plan, Price, PriceBand, RunEnd, Suspension, Tokens,
};
use cofferdam::host::{Goal, Host, Recording, RunReport, RunState, StartOptions};
use cofferdam::planner::route::{Routes, Thresholds, Tier};
use cofferdam::planner::workflow::{Format, WorkflowPlanner};
use cofferdam::planner::{Allowance, ContextPack, Planned, Planner, Proposal, Quote};
use cofferdam::policy::Policy;
use serde_json::json;

use crate::guest::{Folders, cache_dir, helper};

/// Bytes that every request of the script has, for its bound.
const PROMPT_TOKENS: u64 = 1_000;

/// What the script's models charge: a millionth of a dollar a token.
const MICRO: u64 = 1_000_000;

/// Models that say what the script says, in order, whichever of them is asked.
pub struct Script {
    pub routes: Routes,
    price: Option<Price>,
    replies: Mutex<VecDeque<Planned>>,
    asked: Mutex<Vec<(String, u32, ContextPack)>>,
}

#[async_trait]
impl Planner for Script {
    fn name(&self) -> String {
        "model:script".into()
    }

    fn is_single_plan(&self) -> bool {
        false
    }

    fn routes(&self) -> Option<&Routes> {
        Some(&self.routes)
    }

    fn quote(&self, _: &ContextPack, model: &str) -> Option<Quote> {
        let server = format!("https://{model}.example:443");
        let (prompt_tokens_max, reply_tokens_max, price) = (PROMPT_TOKENS, 5_000, self.price.clone());
        Some(Quote { prompt_tokens_max, reply_tokens_max, price, server })
    }

    async fn plan(&self, pack: &ContextPack, allowance: &Allowance) -> Planned {
        let model = allowance.model.clone().expect("a model is named");
        self.asked.lock().unwrap().push((model, allowance.reply_tokens_max, pack.clone()));
        self.replies.lock().unwrap().pop_front().expect("the script goes on")
    }
}

impl Script {
    pub fn new(replies: Vec<Planned>) -> Self {
        let tier = |name: &str, models: &[&str], effect_max| Tier {
            name: name.into(),
            models: models.iter().map(|&model| model.to_owned()).collect(),
            effect_max,
        };
        let tiers = vec![
            tier("small", &["s1", "s2"], Effect::Read),
            tier("medium", &["m1"], Effect::Read),
            tier("large", &["l1"], Effect::Once),
        ];
        let band = PriceBand { input: MICRO, reply: MICRO, ..PriceBand::default() };
        Self {
            routes: Routes { tiers, thresholds: Thresholds::default() },
            price: Some(Price { source: "script".into(), bands: vec![band] }),
            replies: Mutex::new(replies.into()),
            asked: Mutex::default(),
        }
    }

    /// Which models were asked, in order.
    fn models(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|(model, ..)| model.clone()).collect()
    }

    fn reply_bounds(&self) -> Vec<u32> {
        self.asked.lock().unwrap().iter().map(|(_, bound, _)| *bound).collect()
    }

    fn packs(&self) -> Vec<ContextPack> {
        self.asked.lock().unwrap().iter().map(|(.., pack)| pack.clone()).collect()
    }
}

fn said(proposal: Proposal) -> Planned {
    let tokens = Some(Tokens { prompt: 100, reply: 10, ..Tokens::default() });
    Planned { tokens, ..Planned::free(Ok(proposal), b"said".to_vec()) }
}

pub fn plan(steps: Json) -> Planned {
    let raw = json!({"steps": steps}).to_string().into_bytes();
    let steps = serde_json::from_value(steps).expect("steps");
    Planned { raw, ..said(Proposal::Plan(Plan { steps, ..Plan::default() })) }
}

pub fn adds() -> Planned {
    plan(json!([{"id": "sum", "tool": "math.eval", "args": {"expression": "20 + 22"}}]))
}

fn writes(id: &str) -> Planned {
    plan(json!([{"id": id, "tool": "notes.write", "args": {"path": "/notes/a.md", "text": "x"}}]))
}

pub fn answers() -> Planned {
    Planned { raw: br#"{"answer":"42"}"#.to_vec(), ..said(Proposal::Answer(json!("42"))) }
}

pub fn fails(kind: Kind) -> Planned {
    Planned::free(Err(Failure::new(kind, "ask model `x`: it did not work")), b"said".to_vec())
}

pub fn wrong(text: &str) -> Planned {
    Planned::free(Err(Failure::new(Kind::ModelSchema, text)), b"said".to_vec())
}

pub const POLICY: &str = r#"
version = 0
[[rule]]
name = "compute"
why = "It touches nothing."
allow = ["math.*"]
[[rule]]
name = "notes"
why = "The notes of the test."
allow = ["notes.*"]
files = [{ mount = "/notes", path = "data", access = "read_write" }]
approval = "none"
"#;

struct Told {
    host: Host,
    report: RunReport,
    script: Arc<Script>,
    folders: Folders,
}

impl Told {
    async fn events(&self) -> Vec<Event> {
        self.host.events(&self.report.run).await.expect("the log is read")
    }

    fn failure(&self) -> &Failure {
        self.report.failure.as_ref().expect("it failed")
    }
}

/// Runs a goal with the script, and with `math` alone where it `has_notes` not.
async fn told(script: Script, budget: Budget, policy: &str, has_notes: bool, goal: Goal) -> Told {
    let (folders, script) = (Folders::new(), Arc::new(script));
    let builder = Host::builder().helper(helper()).cache_dir(cache_dir());
    let builder = builder.tool("math", cofferdam_guests::component("math"));
    let builder = if has_notes { builder.tool("notes", cofferdam_guests::component("notes")) } else { builder };
    let policy = Policy::parse(policy, folders.outer()).expect("the policy reads");
    let builder = builder.policy(policy).planner(script.clone()).budget(budget);
    let host = builder.build().expect("the host is made");
    let handle = host.start(goal, StartOptions::default()).await.expect("it starts");
    let report = handle.finished().await.expect("it is driven");
    assert!(
        host.routes(&report.run).await.unwrap().iter().all(|view| view.is_same()),
        "each choice can be reckoned again"
    );
    Told { host, report, script, folders }
}

async fn computed(replies: Vec<Planned>) -> Told {
    told(Script::new(replies), Budget::default(), POLICY, false, Goal::text("Add.")).await
}

async fn noted(replies: Vec<Planned>, policy: &str) -> Told {
    told(Script::new(replies), Budget::default(), policy, true, Goal::text("Note it.")).await
}

pub fn capped(usd_micros: u64) -> Budget {
    Budget { usd_micros_max: Some(usd_micros), ..Budget::default() }
}

#[tokio::test]
async fn the_cheapest_that_is_up_to_it_is_asked() {
    let told = computed(vec![adds(), answers()]).await;
    assert_eq!((told.report.state, told.script.models()), (RunState::Succeeded, vec!["s1".into(), "s1".into()]));
    let critical = Goal::text("Add.").critical();
    let told = self::told(Script::new(vec![adds(), answers()]), Budget::default(), POLICY, false, critical).await;
    assert_eq!(told.script.models(), ["l1", "l1"]);
}

#[tokio::test]
async fn where_a_tool_near_to_the_goal_stays_only_a_tier_that_may_is_asked() {
    let told = noted(vec![writes("a"), answers()], POLICY).await;
    assert_eq!((told.report.state, told.script.models()), (RunState::Succeeded, vec!["l1".into(), "l1".into()]));
    assert_eq!(told.folders.text("data/a.md").as_deref(), Some("x"));
}

#[tokio::test]
async fn two_replies_that_do_not_fit_escalate_once() {
    let told = computed(vec![wrong("read the reply: one"), wrong("read the reply: two"), adds(), answers()]).await;
    assert_eq!(told.report.state, RunState::Succeeded, "{:?}", told.report.failure);
    assert_eq!(told.script.models(), ["s1", "s1", "m1", "m1"]);
    let repair = told.script.packs()[1].repair.clone().expect("it is told what was wrong");
    assert_eq!((repair.reply.as_str(), repair.failures.len()), ("said", 1));
}

/// What became of each turn, as far as it does not tell of the model that was asked.
fn turned_out(events: &[Event]) -> Vec<Fact> {
    let facts = events.iter().map(|event| event.fact.clone());
    let is_told = |fact: &Fact| {
        let is_end = matches!(fact, Fact::PlanFailed { retry: None, .. });
        is_end || matches!(fact, Fact::PlanRejected { .. } | Fact::PlanAccepted { .. } | Fact::Answered { .. })
    };
    facts.filter(is_told).collect()
}

/// Plays the recording of a run, and expects that each turn turns out as it did.
async fn same_again(told: &Told) {
    let recording = told.host.recording(&told.report.run).await.expect("it is a run");
    let recording = Recording::parse(&recording.to_lines()).expect("it reads as it was written");
    let handle = told.host.start(Goal::recording(recording, false), StartOptions::default()).await.expect("it starts");
    let report = handle.finished().await.expect("it is driven");
    let again = told.host.events(&report.run).await.expect("the log is read");
    assert_eq!(turned_out(&again), turned_out(&told.events().await));
    assert_eq!((report.state, &report.answer), (told.report.state, &told.report.answer), "{:?}", report.failure);
    let played = told.host.replay(&report.run, &BTreeMap::new()).await.expect("it is played back");
    assert!(played.is_same(), "{played:#?}");
}

#[tokio::test]
async fn a_recording_of_a_run_that_was_escalated_is_escalated_again() {
    let told = computed(vec![wrong("read the reply: one"), wrong("read the reply: two"), adds(), answers()]).await;
    let is_escalated = |fact: &Fact| matches!(fact, Fact::PlanRejected { is_escalated: true, .. });
    assert!(turned_out(&told.events().await).iter().any(is_escalated));
    same_again(&told).await;
    // One that ended by it ends by it again: nobody is asked once more.
    let abstains = || said(Proposal::Abstention("too hard".into()));
    let told = computed(vec![abstains(), abstains(), abstains()]).await;
    assert_eq!(told.report.state, RunState::Failed);
    same_again(&told).await;
}

#[tokio::test]
async fn a_recording_of_a_plan_that_went_beyond_its_tier_does_not_run_it() {
    let goal = Goal::text("Evaluate the arithmetic expression 20 + 22.");
    let script = Script::new(vec![writes("a"), adds(), answers()]);
    let told = self::told(script, Budget::default(), POLICY, true, goal).await;
    assert_eq!(told.report.state, RunState::Succeeded, "{:?}", told.report.failure);
    assert_eq!(told.script.models(), ["s1", "m1", "m1"], "the first proposed what it may not");
    let recording = told.host.recording(&told.report.run).await.expect("it is a run");
    let refused = recording.turns[0].refused.as_ref().expect("it was refused");
    assert_eq!((refused.failures[0].kind, refused.is_escalated), (Kind::PolicyDenied, true));
    same_again(&told).await;
    assert_eq!(told.folders.text("data/a.md"), None, "what was refused has not run");
}

#[tokio::test]
async fn one_that_says_that_it_is_not_up_to_it_gives_way() {
    let abstains = || said(Proposal::Abstention("too hard".into()));
    let told = computed(vec![abstains(), adds(), answers()]).await;
    assert_eq!((told.report.state, told.script.models().join(" ").as_str()), (RunState::Succeeded, "s1 m1 m1"));
    let told = computed(vec![abstains(), abstains(), abstains()]).await;
    assert_eq!((told.report.state, told.failure().kind), (RunState::Failed, Kind::ModelNoAction));
    assert_eq!(told.script.models(), ["s1", "m1", "l1"]);
}

#[tokio::test]
async fn a_model_that_does_not_answer_is_stood_in_for_at_once() {
    let told = computed(vec![fails(Kind::NetworkHttp5xx), adds(), answers()]).await;
    assert_eq!(told.report.state, RunState::Succeeded, "{:?}", told.report.failure);
    assert_eq!(told.script.models(), ["s1", "s2", "s1"], "the next turn begins with the first again");
    let views = told.host.routes(&told.report.run).await.unwrap();
    assert_eq!(views[1].routed.as_ref().unwrap().choice.why, ["`s1` is down"]);
    assert_eq!(views[0].outcome.as_deref(), Some("plan_failed"));
}

#[tokio::test]
async fn the_last_one_is_asked_again_not_before_its_server_wants_it() {
    let mut script =
        Script::new(vec![Planned { retry_after_ms: Some(120), ..fails(Kind::NetworkRateLimited) }, adds(), answers()]);
    script.routes = Routes::single("s1");
    let told = told(script, Budget::default(), POLICY, false, Goal::text("Add.")).await;
    assert_eq!((told.report.state, told.script.models().len()), (RunState::Succeeded, 3));
    let events = told.events().await;
    let at = |name: &str, nth: usize| events.iter().filter(|event| event.fact.name() == name).nth(nth).unwrap().at.0;
    let (failed, again) = (at("plan_failed", 0), at("plan_requested", 1));
    assert!(again >= failed + 120, "{failed} {again}");
}

#[tokio::test]
async fn a_refusal_is_taken_for_one() {
    let told = computed(vec![fails(Kind::ModelRefusal)]).await;
    assert_eq!((told.report.state, told.failure().kind), (RunState::Failed, Kind::ModelRefusal));
    assert_eq!(told.script.models(), ["s1"], "nobody else is asked to do what one refused");
}

#[tokio::test]
async fn what_is_left_of_the_money_bounds_the_reply_and_nothing_passes_the_cap() {
    let told = told(Script::new(vec![adds(), answers()]), capped(3_000), POLICY, false, Goal::text("Add.")).await;
    assert_eq!(told.report.state, RunState::Succeeded, "{:?}", told.report.failure);
    // A request may take 1,000 tokens at 1 µ$; then 110 tokens of it were used.
    assert_eq!(told.script.reply_bounds(), [2_000, 1_890]);
    let events = told.events().await;
    let spent: u64 = events
        .iter()
        .filter_map(|event| match &event.fact {
            Fact::PlanReplied { cost, usd_picos, .. } => {
                assert_eq!(*usd_picos, Some(cost.usd_micros * MICRO));
                Some(cost.usd_micros)
            }
            _ => None,
        })
        .sum();
    assert_eq!(spent, 220);
}

#[tokio::test]
async fn too_little_money_and_an_unknown_price_send_nothing() {
    for (budget, price, part) in [(capped(1_100), true, "left"), (capped(1_000_000), false, "price is not known")] {
        let mut script = Script::new(vec![]);
        script.price = script.price.filter(|_| price);
        let told = told(script, budget, POLICY, false, Goal::text("Add.")).await;
        assert_eq!((told.report.state, told.script.models().len()), (RunState::BudgetExhausted, 0));
        let events = told.events().await;
        let failed = events.iter().find_map(|event| match &event.fact {
            Fact::PlanFailed { kind, .. } => Some(*kind),
            _ => None,
        });
        assert_eq!(failed, Some(Kind::PolicyBudget));
        let failure = told.failure();
        assert!(failure.message.contains(part) && failure.hint.is_some(), "{failure:?}");
        assert!(matches!(events.last().unwrap().fact, Fact::RunEnded { end: RunEnd::BudgetExhausted { .. }, .. }));
    }
}

#[tokio::test]
async fn a_reply_that_took_more_than_was_held_stops_the_run() {
    let greedy = Planned { tokens: Some(Tokens { prompt: 100, reply: 9_000, ..Tokens::default() }), ..adds() };
    let told = told(Script::new(vec![greedy]), capped(3_000), POLICY, false, Goal::text("Add.")).await;
    assert_eq!(told.report.state, RunState::BudgetExhausted);
    assert!(told.report.steps.iter().all(|step| step.attempts == 0), "nothing of it was done");
}

#[tokio::test]
async fn tokens_that_nobody_counted_cost_all_that_was_held() {
    let silent = Planned { tokens: None, ..adds() };
    let told = told(Script::new(vec![silent, answers()]), capped(9_000), POLICY, false, Goal::text("Add.")).await;
    assert_eq!(told.script.reply_bounds(), [5_000, 2_000]);
}

#[tokio::test]
async fn an_answer_that_is_not_what_was_asked_for_is_told_to_the_planner() {
    let goal = || Goal::text("Add.").asserting(vec!["answer == \"42\"".into()]).unwrap();
    let no = || said(Proposal::Answer(json!("41")));
    let told = self::told(Script::new(vec![adds(), no(), answers()]), Budget::default(), POLICY, false, goal()).await;
    assert_eq!((told.report.state, told.report.is_verified), (RunState::Succeeded, Some(true)));
    let failures = told.script.packs()[2].repair.clone().expect("it is told").failures;
    assert!(failures[0].contains("answer == "), "{failures:?}");
    let never = vec![adds(), no(), no(), no(), no(), no(), no()];
    let told = self::told(Script::new(never), Budget::default(), POLICY, false, goal()).await;
    assert_eq!((told.report.state, told.failure().kind), (RunState::Failed, Kind::DataCondition));
    assert_eq!(told.script.models(), ["s1", "s1", "s1", "m1", "m1", "l1", "l1"]);
}

#[tokio::test]
async fn what_changes_something_needs_a_person_once_the_planner_has_read_what_tools_brought() {
    let told = noted(vec![adds(), writes("late")], POLICY).await;
    assert_eq!(told.report.state, RunState::Suspended(Suspension::Approval), "{:#?}", told.report.failure);
    assert!(told.report.approvals[0].rule.contains("had read what tools brought"), "{:?}", told.report.approvals);
    assert_eq!(told.folders.text("data/a.md"), None);
    // One plan that was made before may pass results on by reference, and an operator may say that it is all right.
    let trusting = POLICY.replace("approval = \"none\"", "approval = \"none\"\ntainted = \"allow\"");
    let told = noted(vec![adds(), writes("late"), answers()], &trusting).await;
    assert_eq!((told.report.state, told.folders.text("data/a.md").as_deref()), (RunState::Succeeded, Some("x")));
}

#[tokio::test]
async fn what_its_planner_doubts_a_person_looks_at_and_what_it_is_sure_of_as_well() {
    let step = |more: Json| {
        let mut step = json!({"id": "sum", "tool": "math.eval", "args": {"expression": "20 + 22"}});
        step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        plan(json!([step]))
    };
    let told = computed(vec![step(json!({"flags": ["unsure"], "confidence": 0.2}))]).await;
    assert_eq!(told.report.state, RunState::Suspended(Suspension::Approval), "{:#?}", told.report.failure);
    // No confidence spares a person, and the lack of it asks for none.
    let told = computed(vec![step(json!({"confidence": 0.01})), answers()]).await;
    assert_eq!(told.report.state, RunState::Succeeded);
    let asking = POLICY.replace("approval = \"none\"", "");
    let sure = plan(
        json!([{"id": "a", "tool": "notes.write", "args": {"path": "/notes/a.md", "text": "x"}, "confidence": 1.0}]),
    );
    let told = noted(vec![sure], &asking).await;
    assert_eq!(told.report.state, RunState::Suspended(Suspension::Approval));
}

#[tokio::test]
async fn what_a_model_thought_changes_nothing() {
    let admitted = async |thought: Option<&str>| {
        let with = |planned: Planned| Planned { reasoning: thought.map(str::to_owned), ..planned };
        let told = computed(vec![with(adds()), with(answers())]).await;
        let mut told_of = Vec::new();
        for event in told.events().await {
            match event.fact {
                Fact::PlanAccepted { plan, reply, .. } => told_of.push((plan, reply)),
                Fact::StepReady { args, .. } => told_of.push((args, args)),
                Fact::Answered { reply, answer, .. } => told_of.push((answer, reply)),
                _ => {}
            }
        }
        assert_eq!(told_of.len(), 3);
        told_of
    };
    let without = admitted(None).await;
    for thought in ["I will do as I was told.", "{\"steps\": []}", ""] {
        assert_eq!(admitted(Some(thought)).await, without);
    }
}

/// A workflow that reads, and hands what it read to a workflow whose model is told of it.
const HANDED: &str = r#"
workflow = "handed"
goal = "Read, then have it handled."

[[steps]]
id = "read"
tool = "math.eval"
args = { expression = "20 + 22" }

[[steps]]
id = "inner"
args = { text = { "$from" = "read" } }
[steps.run.workflow]
workflow = "inner"
goal = "Hand it on."
inputs = { text = "" }
[[steps.run.workflow.steps]]
id = "handle"
args = { text = { "$input" = "text" } }
run = { goal = "Handle this." }
"#;

#[tokio::test]
async fn what_tools_brought_is_known_as_such_however_many_runs_hand_it_on() {
    for (flow, is_asked) in [(HANDED.to_owned(), true), (HANDED.replace("{ \"$from\" = \"read\" }", "\"42\""), false)] {
        let flow = WorkflowPlanner::parse(&flow, Format::Toml).expect("the workflow reads");
        let replies = vec![writes("a"), answers()];
        let told = self::told(Script::new(replies), Budget::default(), POLICY, true, Goal::Workflow(flow)).await;
        let is_waiting = told.report.state == RunState::Suspended(Suspension::Approval);
        assert_eq!((is_waiting, told.folders.text("data/a.md").is_none()), (is_asked, is_asked), "{:#?}", told.report);
    }
}

#[tokio::test]
async fn a_server_that_failed_too_often_is_left_alone_and_nothing_is_sent() {
    let down = || fails(Kind::NetworkHttp5xx);
    let mut script = Script::new(vec![down(), down(), down(), down(), down(), down()]);
    script.routes = Routes::single("s1");
    let (folders, script) = (Folders::new(), Arc::new(script));
    let policy = Policy::parse(POLICY, folders.outer()).expect("the policy reads");
    let builder = Host::builder().helper(helper()).cache_dir(cache_dir()).policy(policy).planner(script.clone());
    let budget = Budget { wall_ms_max: 8_000, ..Budget::default() };
    let host = builder.tool("math", cofferdam_guests::component("math")).budget(budget).build().expect("a host");
    let run = async || {
        let handle = host.start(Goal::text("Add."), StartOptions::default()).await.expect("it starts");
        handle.finished().await.expect("it is driven")
    };
    // Its breaker opens with the fifth: the first run asks as often as it may, the second once.
    let first = run().await;
    assert_eq!(first.failure.as_ref().map(|failure| failure.kind), Some(Kind::NetworkHttp5xx));
    let asked = script.models().len();
    assert_eq!(asked, 5, "four may fail before the last one does");
    let second = run().await;
    assert_eq!((second.state, script.models().len()), (RunState::BudgetExhausted, asked), "{:?}", second.failure);
    let events = host.events(&second.run).await.unwrap();
    let open = events.iter().find_map(|event| match &event.fact {
        Fact::PlanFailed { kind: Kind::NetworkCircuitOpen, retry, .. } => {
            Some((event.at, retry.expect("it is tried again")))
        }
        _ => None,
    });
    let (at, due) = open.expect("it is told that the server is left alone");
    assert!((5_000..=10_000).contains(&due.ms_since(at)), "{at} {due}");
}

#[tokio::test]
async fn a_run_within_that_took_more_than_was_held_stops_the_run_around_it() {
    let flow = |on_failure: &str| {
        let text = format!(
            "workflow = \"w\"\ngoal = \"Add.\"\n[[steps]]\nid = \"inner\"\non_failure = \"{on_failure}\"\nargs = {{}}\nrun = {{ goal = \"Add.\" }}\n"
        );
        Goal::Workflow(WorkflowPlanner::parse(&text, Format::Toml).expect("the workflow reads"))
    };
    let greedy = Planned { tokens: Some(Tokens { prompt: 100, reply: 9_000, ..Tokens::default() }), ..adds() };
    let told = self::told(Script::new(vec![greedy]), capped(3_000), POLICY, false, flow("skip")).await;
    assert_eq!(told.report.state, RunState::BudgetExhausted, "{:#?}", told.report);
    let told = self::told(Script::new(vec![adds(), answers()]), capped(3_000), POLICY, false, flow("skip")).await;
    assert_eq!(told.report.state, RunState::Succeeded, "{:#?}", told.report);
}
