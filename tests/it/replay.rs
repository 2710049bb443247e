//! Runs played back from their logs: with servers gone, rules changed, components exchanged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cofferdam::clock::{Clock, SystemClock};
use cofferdam::domain::{
    Budget, Cost, Digest, Fact, GENESIS, HostCallRecord, JournalEntry, Json, Principal, RunId, StepEnd, StepId,
};
use cofferdam::host::{Host, ReplayReport, ReplayVerdict};
use cofferdam::orchestrator::{Goal, Known, check, journal_digest, record_digest};
use cofferdam::planner::workflow::{Format, WorkflowPlanner};
use cofferdam::planner::{Allowance, ContextPack, Planner, Proposal};
use cofferdam::policy::{Call, Policy, about};
use cofferdam::registry::{Candidate, Catalog, Options as Reading, Trust, verify};
use cofferdam::sandbox::{CallLink, Runner};
use cofferdam::store::sqlite::{SqliteLog, SqliteOptions};
use cofferdam::store::{Batch, Durability, EventLog, HostCalls, Ownership, Payload};
use cofferdam_kit::WebServer;
use cofferdam_kit::web::Reply;
use serde_json::json;
use tempfile::TempDir;

use crate::cli::Shop;
use crate::guest::{Rule, cache_dir, call, helper, runner, step, tool};
use crate::journal::Tape;

/// A log with one run in it, whose calls were made here one after the other.
struct Recorded {
    dir: TempDir,
    run: RunId,
}

const COMPONENTS: [&str; 5] = ["fetch", "math", "notes", "probe", "text"];

fn log(dir: &Path) -> Arc<SqliteLog> {
    let clock = Arc::new(SystemClock::default());
    Arc::new(SqliteLog::open(&dir.join("state"), SqliteOptions::default(), clock).expect("the log opens"))
}

/// A host over the log, with a policy that denies everything.
fn host(dir: &Path) -> Host {
    let policy = Policy::parse("version = 0", Path::new("/")).expect("the policy reads");
    let builder = Host::builder().event_log(log(dir)).helper(helper()).cache_dir(cache_dir()).policy(policy);
    let tools = COMPONENTS.iter().fold(builder, |builder, name| builder.tool(*name, cofferdam_guests::component(name)));
    tools.build().expect("the host is made")
}

/// Appends to one run.
struct Writer {
    log: Arc<SqliteLog>,
    owner: Box<dyn Ownership>,
    after: (u64, Digest),
}

impl Writer {
    async fn record(&mut self, facts: Vec<Fact>, payloads: Vec<Payload>) {
        let now = SystemClock::default().now();
        let facts = facts.into_iter().map(|fact| (now, fact)).collect();
        let batch = Batch { after: self.after, facts, payloads };
        let events = self.log.append(&*self.owner, batch, Durability::Synced).await.expect("the log takes it");
        let last = events.last().expect("there are events");
        self.after = (last.seq, last.hash().expect("it has a hash"));
    }

    async fn journal(&self, step: &StepId, records: &[HostCallRecord]) {
        let entries = records.iter().flat_map(|record| {
            let HostCallRecord { n, what, args, is_write, done } = record.clone();
            let begun = JournalEntry::Begun { n, what, args, is_write };
            [Some(begun), done.map(|recorded| JournalEntry::Done { n, recorded })].into_iter().flatten()
        });
        let written = self.log.write_journal(&*self.owner, step, 1, entries.collect(), Durability::Synced).await;
        written.expect("the log takes it");
    }
}

/// Plans and makes the calls of a workflow, as a driver would, and writes them down.
async fn recorded(workflow: Json, rule: &Rule) -> Recorded {
    let dir = TempDir::new().expect("there is room for a folder");
    let log = log(dir.path());
    let run = SystemClock::default().run_id().expect("there is randomness");
    let principal = Principal::default();
    let owner = log.create(&run, &principal, "test", SystemClock::default().now()).await.expect("the run is made");
    let mut writer = Writer { log: log.clone(), owner, after: (0, GENESIS) };
    let goal = Goal { text: "test".into(), workflow: Some(workflow.clone()), assert: vec![] };
    let pack = ContextPack {
        goal: "test".into(),
        turn: 1,
        tools: vec![],
        observations: vec![],
        repair: None,
        answers: vec![],
    };
    let planner = WorkflowPlanner::parse(&workflow.to_string(), Format::Json).expect("the workflow reads");
    let planned = planner.plan(&pack, &Allowance { wall_ms_max: 0, reply_tokens_max: 0 }).await;
    let Ok(Proposal::Plan(plan)) = planned.reply else { panic!("{:?}", planned.reply) };
    let verified = COMPONENTS.iter().map(|name| {
        let candidate = Candidate { name: (*name).into(), path: cofferdam_guests::component(name) };
        verify(candidate, &Trust::default(), &Reading::default()).expect("the component is good")
    });
    let catalog = Catalog::new(verified.collect()).expect("the components have different names");
    let (policy, budget, earlier) = (rule.policy(), Budget::default(), BTreeMap::new());
    let known = Known {
        catalog: &catalog,
        earlier: &earlier,
        about: &|tool| about(&policy, tool),
        limits: &cofferdam::domain::PlanLimits::default(),
        budget: &budget,
    };
    let checked = check(&plan, 1, &known).expect("the plan can run");
    let [goal, pack, reply, stored] = [
        Payload::of(&goal).unwrap(),
        Payload::of(&pack).unwrap(),
        Payload::new(planned.raw),
        Payload::of(&checked).unwrap(),
    ];
    let created = Fact::RunCreated {
        principal,
        goal: goal.digest(),
        planner: "workflow".into(),
        policy: policy.digest(),
        toolset: catalog.digest(),
        budget: budget.clone(),
        is_single_plan: true,
        has_assertions: false,
        parent: None,
    };
    let accepted = Fact::PlanAccepted {
        turn: 1,
        reply: reply.digest(),
        plan: stored.digest(),
        steps: checked.steps.iter().map(|step| step.planned.clone()).collect(),
        has_answer: false,
        has_assertions: false,
    };
    let facts = vec![created, Fact::PlanRequested { turn: 1, pack: pack.digest() }, accepted];
    writer.record(facts, vec![goal, pack, reply, stored]).await;
    let mut outputs: BTreeMap<String, Json> = BTreeMap::new();
    for planned in &checked.steps {
        let args = cofferdam::domain::resolved(&planned.args, &|reference| {
            outputs[reference.step].pointer(reference.path).cloned().ok_or_else(|| "nothing".to_owned())
        });
        let (id, tool) = (&planned.planned.id, tool(&planned.planned.tool.to_string()));
        let call = call(&tool, &args.expect("the references lead somewhere"), rule);
        let output = made(&mut writer, id, call).await;
        outputs.extend(output.map(|output| (id.to_string(), output)));
    }
    Recorded { dir, run }
}

/// Makes one call and writes it down. Returns what it brought.
async fn made(writer: &mut Writer, id: &StepId, call: Call) -> Option<Json> {
    let (args, key, component, effect) =
        (Payload::of(call.input()).unwrap(), call.key(), *call.tool().digest(), call.effect());
    let tape = Arc::new(Tape::default());
    let outcome = runner().run(call, tape.clone() as Arc<dyn CallLink>).await;
    let records = tape.records();
    writer.journal(id, &records).await;
    let (end, stored) = match &outcome.result {
        Ok(output) => {
            let stored = Payload::of(output).unwrap();
            (StepEnd::Succeeded { output: stored.digest() }, stored)
        }
        Err(failure) => {
            let stored = Payload::of(failure).unwrap();
            (StepEnd::Failed { kind: failure.kind, failure: stored.digest() }, stored)
        }
    };
    let started = Fact::StepStarted {
        step: id.clone(),
        attempt: 1,
        component,
        effect,
        rules: vec!["test".into()],
        reserved: Cost::default(),
        run: None,
    };
    let ended = Fact::StepEnded {
        step: id.clone(),
        attempt: 1,
        end,
        usage: outcome.usage,
        cost: Cost::default(),
        log: None,
        denials: None,
        has_written: outcome.has_written,
        host_calls: journal_digest(&records.iter().map(|record| (record.n, record_digest(record))).collect()),
        retry: None,
        has_caveats: false,
        within: None,
    };
    let ready = Fact::StepReady { step: id.clone(), args: args.digest(), key };
    writer.record(vec![ready, started, ended], vec![args, stored]).await;
    outcome.result.ok()
}

async fn played(recorded: &Recorded, with: &[(&str, PathBuf)]) -> ReplayReport {
    let with = with.iter().map(|(name, path)| ((*name).to_owned(), path.clone())).collect();
    host(recorded.dir.path()).replay(&recorded.run, &with).await.expect("the run can be played back")
}

/// What was played back, one line each.
fn lines(report: &ReplayReport) -> Vec<String> {
    let line = |part: &cofferdam::host::Replayed| match &part.result {
        ReplayVerdict::Same => format!("{} same", part.part),
        ReplayVerdict::Differs { what, then, now } => format!("{} differs: {what}: {then} → {now}", part.part),
        ReplayVerdict::Untold { why } => format!("{} untold: {why}", part.part),
    };
    report.parts.iter().map(line).collect()
}

fn one(id: &str, tool: &str, args: Json) -> Json {
    json!({"id": id, "tool": tool, "args": args})
}

fn workflow(steps: Vec<Json>) -> Json {
    json!({"workflow": "test", "goal": "test", "steps": steps})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_played_back_with_its_servers_gone_and_its_rules_changed() {
    let web = WebServer::start();
    web.on("/page", Reply::text("the tide comes"));
    web.on("/items", Reply::Echo);
    let url = |path: &str| format!("http://{}{path}", web.at("127.0.0.1"));
    let folders = crate::guest::Folders::new();
    let rule = Rule::default()
        .sends(&url("/*"), "methods = ['GET', 'POST'], addresses = ['127.0.0.0/8']")
        .writes("/data", &folders.data())
        .gives("clock")
        .gives("random")
        .gives("log");
    let steps = vec![
        one("page", "fetch.get", json!({"url": url("/page")})),
        one("now", "probe.now", json!({})),
        one("slept", "probe.slept", json!({"ms": 200})),
        one("random", "probe.random", json!({"salt": 1})),
        one("count", "text.stats", json!({"text": {"$from": "page", "path": "/text"}})),
        one("post", "fetch.send", json!({"method": "POST", "url": url("/items"), "body": "{}"})),
        one("write", "notes.write", json!({"path": "/data/new.md", "text": {"$from": "page", "path": "/text"}})),
        one("missing", "fetch.get", json!({"url": "http://127.0.0.1:9/"})),
    ];
    let recorded = recorded(workflow(steps), &rule).await;
    assert_eq!(folders.text("data/new.md").as_deref(), Some("the tide comes"));
    std::fs::write(folders.data().join("new.md"), "changed since").expect("a file is written");
    let seen = web.seen().len();
    drop(web);
    let report = played(&recorded, &[]).await;
    let expected = [
        "turn 1 same",
        "t1.count (its references) same",
        "t1.write (its references) same",
        "t1.page same",
        "t1.now same",
        "t1.slept same",
        "t1.random same",
        "t1.count same",
        "t1.post same",
        "t1.write same",
        "t1.missing same",
    ];
    assert_eq!(sorted(lines(&report)), sorted(expected.map(str::to_owned).to_vec()));
    assert_eq!((seen, report.is_same()), (2, true));
    assert_eq!(folders.text("data/new.md").as_deref(), Some("changed since"), "nothing is written again");
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn another_component_is_named_with_its_first_step_that_differs() {
    let steps = vec![
        one("add", "math.eval", json!({"expression": "1 + 2"})),
        one("count", "text.stats", json!({"text": "one two"})),
    ];
    let recorded = recorded(workflow(steps), &Rule::default()).await;
    // A component with the same function, which answers everything with an empty text.
    let other = recorded.dir.path().join("other.wasm");
    std::fs::write(&other, other_math()).expect("a file is written");
    let report = played(&recorded, &[("math", other)]).await;
    assert_eq!(report.diverged.as_deref(), Some("t1.add"));
    let add = report.parts.iter().find(|part| part.part == "t1.add").expect("it was played back");
    assert!(add.is_other_component);
    let ReplayVerdict::Differs { then, now, .. } = &add.result else { panic!("{add:?}") };
    assert_eq!((then.as_str(), now.as_str()), ("\"3\"", "\"\""));
    assert!(lines(&report).contains(&"t1.count same".to_owned()));
    assert!(played(&recorded, &[]).await.is_same());
}

/// A `math` that answers everything with an empty text: the place where its result lies is all zeros.
fn other_math() -> Vec<u8> {
    crate::guest::assembled(
        r#"(component
            (core module $m
                (memory (export "memory") 1)
                (func (export "eval") (param i32 i32) (result i32) (i32.const 16))
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
            (core instance $i (instantiate $m))
            (func (export "eval") (param "expression" string) (result string)
                (canon lift (core func $i "eval") (memory $i "memory") (realloc (func $i "realloc")))))"#,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_is_gone_is_untold_and_a_run_that_is_none_is_refused() {
    let recorded = recorded(workflow(vec![one("now", "probe.now", json!({}))]), &Rule::default().gives("clock")).await;
    let bare = Host::builder().event_log(log(recorded.dir.path())).helper(helper()).build().expect("the host is made");
    let report = bare.replay(&recorded.run, &BTreeMap::new()).await.expect("the run can be played back");
    assert!(lines(&report).iter().any(|line| line.starts_with("t1.now untold")), "{report:?}");
    let unknown: RunId = "r-01arz3ndektsv4rrffq69g5fav".parse().unwrap();
    assert!(bare.replay(&unknown, &BTreeMap::new()).await.is_err());
}

/// What may come from the world, in calls made up by a seed: each plays back as it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_calls_made_up_play_back_as_they_were() {
    let seed = 20_261_122_u64;
    println!("seed {seed}");
    let web = WebServer::start();
    web.on("/page", Reply::text("the tide comes"));
    web.on("/busy", Reply::page(503, "retry-after", "1", "later"));
    web.on("/cut", Reply::octets("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nbrok"));
    let url = |path: &str| format!("http://{}{path}", web.at("127.0.0.1"));
    let rule = Rule::default()
        .sends(&url("/*"), "methods = ['GET', 'POST'], addresses = ['127.0.0.0/8']")
        .gives("clock")
        .gives("random");
    let mut state = seed;
    let mut drawn = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut calls = Vec::new();
    for _ in 0..100 {
        let path = ["/page", "/busy", "/cut", "/none"][usize::try_from(drawn(4)).unwrap_or(0)];
        let (name, args) = match drawn(6) {
            0 => ("fetch.get", json!({"url": url(path)})),
            1 => ("fetch.send", json!({"method": "POST", "url": url(path), "body": "x".repeat(drawn(9_000) as usize)})),
            2 => ("probe.random", json!({"salt": drawn(1_000)})),
            3 => ("probe.now", json!({})),
            4 => ("probe.slept", json!({"ms": drawn(9)})),
            _ => ("web.flood", json!({"authority": web.at("127.0.0.1"), "path": path, "count": drawn(6)})),
        };
        let call = || call(&tool(name), &args, &rule);
        let tape = Arc::new(Tape::default());
        let live = runner().run(call(), tape.clone() as Arc<dyn CallLink>).await;
        calls.push((name, step(&tool(name), &args), call(), tape.records(), live));
    }
    drop(web);
    for (name, step, call, records, live) in calls {
        let replayed = runner().run(call, Arc::new(Tape::closed(records)) as Arc<dyn CallLink>).await;
        assert_eq!(replayed.result, live.result, "{name} {:?}", step.args);
        assert_eq!(replayed.usage.fuel, live.usage.fuel, "{name} {:?}", step.args);
    }
}

#[test]
fn the_command_names_what_differs_and_ends_with_one() {
    let shop = Shop::new();
    shop.write(
        "sums.toml",
        "workflow = 'sums'\ngoal = 'Add'\n[[steps]]\nid = 'sum'\ntool = 'math.eval'\nargs = { expression = '1 + 2' }\n\
         [[steps]]\nid = 'count'\ntool = 'text.stats'\nargs = { text = { '$from' = 'sum' } }\n",
    );
    shop.run(&["run", "sums.toml"]).ends(0);
    let same = shop.run(&["replay", "last"]).ends(0);
    assert!(
        same.out.contains("t1.sum") && same.out.contains("all that can be played back is as it was"),
        "{}",
        same.out
    );
    std::fs::write(shop.path("other.wasm"), other_math()).expect("a file is written");
    let other = shop.run(&["replay", "last", "--with", "math=other.wasm"]).ends(1);
    assert!(other.out.contains("math.eval (another component)"), "{}", other.out);
    assert!(other.out.contains("t1.sum differs first: what it brings"), "{}", other.out);
    let told = shop.run(&["--json", "replay", "last", "--with", "math=other.wasm"]).ends(1);
    let report: Json = serde_json::from_str(&told.out).expect("it is JSON");
    assert_eq!(report["diverged"], json!("t1.sum"));
    shop.run(&["replay", "last", "--with", "math"]).ends(2);
}
