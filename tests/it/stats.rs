//! What runs add up to, through the real program: ten goals with known usage, and sums that were made by hand.

use std::sync::Arc;

use cofferdam::clock::SystemClock;
use cofferdam::domain::{
    AskedModel, Budget, Cost, Digest, Effect, Fact, GENESIS, Kind, Parent, PlannedStep, Price, Principal, Role, RunEnd,
    RunId, StepEnd, StepId, Timestamp, Tokens, UndoReason, Usage,
};
use cofferdam::planner::prices::price_at;
use cofferdam::store::sqlite::{SqliteLog, SqliteOptions};
use cofferdam::store::{Batch, Durability, EventLog, Payload};
use expect_test::expect;
use serde_json::{Value, json};

use crate::cli::Shop;

/// 2026-11-23T00:00:00Z.
const DAY: u64 = 1_795_392_000_000;
const HOUR: u64 = 3_600_000;

/// A goal that is written down fact by fact, an hour after the one before it.
struct Script {
    number: u64,
    facts: Vec<Fact>,
    payload: Payload,
}

fn run(number: u64) -> RunId {
    format!("r-01arz3ndektsv4rrffq69g5f{number:02}").parse().expect("an id")
}

/// The price of a model in the vendored data, whatever the settings call it.
fn price(model: &str) -> Price {
    let (url, name) = match model {
        "cheap" => ("https://api.openai.com/v1", "gpt-4o-mini"),
        _ => ("https://api.anthropic.com/v1", "claude-haiku-5-5"),
    };
    price_at(url, name, Timestamp(DAY)).expect("the data has it")
}

fn step(name: &str) -> StepId {
    StepId::new(1, name).expect("a step")
}

impl Script {
    fn new(number: u64) -> Self {
        Self::of(number, "model:tiers", None)
    }

    fn of(number: u64, planner: &str, parent: Option<Parent>) -> Self {
        let payload = Payload::of(&json!({ "text": "Reach it", "workflow": null })).expect("JSON");
        let created = Fact::RunCreated {
            principal: Principal::default(),
            goal: payload.digest(),
            planner: planner.into(),
            policy: GENESIS,
            toolset: Digest::of(b"tools"),
            budget: Budget::default(),
            is_single_plan: false,
            has_assertions: false,
            parent,
            trace: None,
        };
        Self { number, facts: vec![created], payload }
    }

    fn fact(mut self, fact: Fact) -> Self {
        self.facts.push(fact);
        self
    }

    /// A request that is about to be sent.
    fn asked(self, model: &str, usd_micros: u64) -> Self {
        let asked = AskedModel {
            model: model.into(),
            tier: format!("tier {model}"),
            effect_max: Effect::Once,
            route: GENESIS,
            price: Some(price(model).source),
            reply_tokens_max: 1_000,
        };
        let reserved = Cost { usd_micros, ..Cost::default() };
        self.fact(Fact::PlanRequested { turn: 1, pack: GENESIS, asked: Some(asked), reserved })
    }

    /// A request and what its reply took.
    fn told(self, model: &str, tokens: Tokens, wall_ms: u64) -> Self {
        let picos = u64::try_from(price(model).usd_picos(&tokens)).expect("it is not dear");
        let cost = Cost { usd_micros: picos.div_ceil(1_000_000), tokens: tokens.total(), ..Cost::default() };
        self.asked(model, 0).replied(Some(tokens), Some(picos), cost, wall_ms)
    }

    fn replied(self, tokens: Option<Tokens>, usd_picos: Option<u64>, cost: Cost, wall_ms: u64) -> Self {
        let first_token_ms = tokens.map(|_| wall_ms / 2);
        let (model, reasoning) = (None, None);
        self.fact(Fact::PlanReplied { turn: 1, model, tokens, cost, usd_picos, reasoning, first_token_ms, wall_ms })
    }

    fn failed(self, kind: Kind) -> Self {
        self.fact(Fact::PlanFailed { turn: 1, kind, failure: GENESIS, retry: None })
    }

    fn accepted(self, steps: &[(&str, &str)]) -> Self {
        let plan = |(name, tool): &(&str, &str)| {
            PlannedStep::call(step(name), tool.parse().expect("a tool"), vec![], Effect::Once)
        };
        let (reply, plan, steps) = (GENESIS, GENESIS, steps.iter().map(plan).collect());
        self.fact(Fact::PlanAccepted {
            turn: 1,
            reply,
            plan,
            steps,
            has_answer: true,
            has_assertions: true,
            checked_by: 2,
        })
    }

    fn began(self, name: &str, usd_micros: u64, within: Option<RunId>) -> Self {
        self.fact(Fact::StepStarted {
            step: step(name),
            attempt: 1,
            component: GENESIS,
            effect: Effect::Once,
            rules: vec![],
            reserved: Cost { usd_micros, ..Cost::default() },
            run: within,
        })
    }

    fn ended(self, name: &str, usd_micros: u64, wall_ms: u64, failure: Option<Kind>) -> Self {
        let end = match failure {
            None => StepEnd::Succeeded { output: GENESIS },
            Some(kind) => StepEnd::Failed { kind, failure: GENESIS },
        };
        self.fact(Fact::StepEnded {
            step: step(name),
            attempt: 1,
            end,
            usage: Usage { wall_ms, ..Usage::default() },
            cost: Cost { usd_micros, ..Cost::default() },
            log: None,
            denials: None,
            has_written: false,
            has_open_write: false,
            host_calls: None,
            retry: None,
            has_caveats: false,
            within: None,
        })
    }

    fn called(self, name: &str, usd_micros: u64, wall_ms: u64) -> Self {
        self.began(name, usd_micros, None).ended(name, usd_micros, wall_ms, None)
    }

    fn end(self, end: RunEnd) -> Self {
        self.fact(Fact::RunEnded { end, caveats: vec![] })
    }

    fn succeeded(self) -> Self {
        self.end(RunEnd::Succeeded { answer: None })
    }

    /// Writes it down; the last event comes ten seconds after the first for each goal before it, and for it.
    async fn left(self, log: &SqliteLog) {
        let created = Timestamp(DAY + self.number * HOUR);
        let owner = log.create(&run(self.number), &Principal::default(), "a test", created).await.expect("it is made");
        let last = self.facts.len() - 1;
        let at = |n: usize| if n == last { created.plus_ms(self.number * 10_000) } else { created };
        let facts = self.facts.into_iter().enumerate().map(|(n, fact)| (at(n), fact)).collect();
        let batch = Batch { after: (0, GENESIS), facts, payloads: vec![self.payload] };
        log.append(&*owner, batch, Durability::Synced).await.expect("it is written");
    }
}

/// Tokens of a request and its reply.
fn tokens(prompt: u64, reply: u64) -> Tokens {
    Tokens { prompt, reply, ..Tokens::default() }
}

/// Six goals that succeed, two whose conditions do not hold, one that met its budget and one that was taken back. In millionths
/// of a dollar, by hand:
///
/// 1. 1,000 × 0.15 + 200 × 0.6 = 270
/// 2. 500 × 0.15 + 1,500 × 0.075 + 100 × 0.6 = 247.5
/// 3. (1,000 × 0.15 + 50 × 0.6) + (1,200 × 0.15 + 60 × 0.6) = 396
/// 4. 50,000 × 0.1 + 10,000 × 0.01 + 40,000 × 0.125 + 1,000 × 0.5 = 10,600
/// 5. one token more than 100,000, all at the dearer price: 100,000 × 0.5 + 1 × 1 + 10 × 2.5 = 50,026
/// 6. 1,000 × 0.1 + 100 × 0.5 = 150, and a call for 1,500
/// 7. 4,000 × 0.15 + 400 × 0.6 = 840
/// 8. 1,000 × 0.15 + 100 × 0.6 = 210, and within it 500 × 0.1 + 20 × 0.5 = 60 and a call for 250
/// 9. nobody counted: the 999 that were held
/// 10. 210, a call for 1,500 and 1,500 more to take it back
///
/// Together 68,758.5, of which calls took 4,750; by six goals that succeeded, 11,459.75 for each.
fn ten() -> Vec<Script> {
    let condition = || RunEnd::Failed { kind: Kind::DataCondition, failure: GENESIS };
    let within =
        Parent { run: run(8), step: step("within"), depth: 1, calls_left: Default::default(), takes_back: None };
    let back = PlannedStep {
        role: Role::Undo { of: step("book") },
        ..PlannedStep::call(step("back"), "trips.cancel".parse().expect("a tool"), vec![], Effect::Once)
    };
    let undo = Fact::UndoBegun { why: UndoReason::StepFailed { step: step("pay") }, steps: vec![back], left: vec![] };
    let rejected = Fact::PlanRejected { turn: 1, reply: GENESIS, failures: GENESIS, is_escalated: false };
    vec![
        Script::new(1)
            .told("cheap", tokens(1_000, 200), 100)
            .accepted(&[("add", "math.eval")])
            .called("add", 0, 5)
            .succeeded(),
        Script::new(2).told("cheap", Tokens { cached: 1_500, ..tokens(2_000, 100) }, 200).accepted(&[]).succeeded(),
        Script::new(3)
            .told("cheap", tokens(1_000, 50), 300)
            .fact(rejected)
            .told("cheap", tokens(1_200, 60), 400)
            .accepted(&[])
            .succeeded(),
        Script::new(4)
            .told("strong", Tokens { cached: 10_000, cache_write_5m: 40_000, ..tokens(100_000, 1_000) }, 5_000)
            .accepted(&[])
            .succeeded(),
        Script::new(5)
            .told("strong", Tokens { cache_write_1h: 1, reasoning: 4, ..tokens(100_001, 10) }, 6_000)
            .accepted(&[])
            .succeeded(),
        Script::new(6)
            .asked("cheap", 0)
            .replied(None, None, Cost::default(), 50)
            .failed(Kind::NetworkRateLimited)
            .told("strong", tokens(1_000, 100), 7_000)
            .accepted(&[("book", "trips.book")])
            .called("book", 1_500, 70)
            .succeeded(),
        Script::new(7).told("cheap", tokens(4_000, 400), 500).accepted(&[]).end(condition()),
        Script::new(8)
            .told("cheap", tokens(1_000, 100), 600)
            .accepted(&[("within", "cofferdam.run")])
            .began("within", 310, Some(run(11)))
            .ended("within", 310, 1, None)
            .end(condition()),
        Script::of(11, "model:tiers", Some(within))
            .told("strong", tokens(500, 20), 8_000)
            .accepted(&[("find", "trips.find")])
            .called("find", 250, 30)
            .succeeded(),
        Script::new(9)
            .asked("cheap", 999)
            .replied(None, None, Cost { usd_micros: 999, ..Cost::default() }, 700)
            .failed(Kind::NetworkCut)
            .end(RunEnd::BudgetExhausted { failure: GENESIS }),
        Script::of(10, "model:other", None)
            .told("cheap", tokens(1_000, 100), 800)
            .accepted(&[("book", "trips.book"), ("pay", "trips.pay")])
            .called("book", 1_500, 90)
            .began("pay", 0, None)
            .ended("pay", 0, 10, Some(Kind::ToolDeclared))
            .fact(undo)
            .called("back", 1_500, 20)
            .end(RunEnd::Failed { kind: Kind::ToolDeclared, failure: GENESIS }),
    ]
}

/// A shop whose log has these goals.
fn shop(scripts: Vec<Script>) -> Shop {
    let shop = Shop::new();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let clock = Arc::new(SystemClock::default());
        let log = SqliteLog::open(&shop.path(".cofferdam"), SqliteOptions::default(), clock).expect("it opens");
        for script in scripts {
            script.left(&log).await;
        }
    });
    shop
}

fn stats(shop: &Shop, more: &[&str]) -> Value {
    shop.run(&[&["stats", "--json"], more].concat()).ends(0).json()
}

#[test]
fn what_a_successful_goal_costs_is_all_that_was_spent_by_those_that_succeeded() {
    let shop = shop(ten());
    let told = stats(&shop, &[]);
    let row = &told["rows"][0];
    assert_eq!(row["goals"], 10, "what is within another counts to that: {told}");
    assert_eq!(row["ends"], json!({ "succeeded": 6, "failed": 3, "budget_exhausted": 1 }));
    assert_eq!(row["success_permille"], 600);
    assert_eq!(
        (&row["usd"], &row["usd_models"], &row["usd_tools"]),
        (&json!("0.0687585"), &json!("0.0640085"), &json!("0.00475"))
    );
    assert_eq!(row["usd_per_success"], "0.01145975");
    assert_eq!(row["requests_unpriced"], 0, "a request that was refused as it came costs nothing");
    assert_eq!(row["wall_ms"], json!({ "count": 10, "p50": 50_000, "p95": 100_000, "max": 100_000 }));
    assert_eq!(
        row["tokens"],
        json!({ "prompt": 212_701, "cached": 11_500, "cache_write_5m": 40_000, "cache_write_1h": 1, "reply": 2_140, "reasoning": 4 })
    );
    let request = |n: usize| &row["requests"][n];
    assert_eq!(
        (&request(0)["model"], &request(0)["requests"], &request(0)["failed"]),
        (&json!("cheap"), &json!(9), &json!(2))
    );
    assert_eq!((&request(0)["rejected"], &request(0)["usd"]), (&json!(1), &json!("0.0031725")));
    // 50, 100, 200, 300, 400, 500, 600, 700, 800.
    assert_eq!(request(0)["wall_ms"], json!({ "count": 9, "p50": 400, "p95": 800, "max": 800 }));
    assert_eq!((&request(1)["model"], &request(1)["usd"]), (&json!("strong"), &json!("0.060836")));
    assert_eq!(request(1)["first_token_ms"], json!({ "count": 4, "p50": 3_000, "p95": 4_000, "max": 4_000 }));
    assert_eq!(
        row["failures"],
        json!([
            { "kind": "data.condition", "goals": 2, "calls": 0, "requests": 0 },
            { "kind": "network.cut_stream", "goals": 0, "calls": 0, "requests": 1 },
            { "kind": "network.http_429", "goals": 0, "calls": 0, "requests": 1 },
            { "kind": "policy.budget", "goals": 1, "calls": 0, "requests": 0 },
            { "kind": "tool.declared", "goals": 1, "calls": 1, "requests": 0 },
        ])
    );
    assert_eq!((&told["unreadable"], &told["orphaned"], &told["is_cut"]), (&json!([]), &json!([]), &json!(false)));
}

#[test]
fn goals_are_told_apart_by_planner_models_toolset_tools_and_kinds() {
    let shop = shop(ten());
    let rows = |by: &str| stats(&shop, &["--by", by])["rows"].as_array().expect("rows").clone();
    let told = |rows: &[Value]| -> Vec<String> {
        let text = |value: &Value| value.as_str().map_or("none".to_owned(), str::to_owned);
        rows.iter()
            .map(|row| format!("{} {} {}", text(&row["key"]), row["goals"], text(&row["usd_per_success"])))
            .collect()
    };
    // 270 + 247.5 + 396 + 840 + 999 + 3,210 by three; 60,626 by two; 1,650 + 520 by one.
    let models = ["cheap 6 0.0019875", "cheap + strong 2 0.00217", "strong 2 0.030313"];
    assert_eq!(told(&rows("model")), models);
    let tiers = models.map(|row| row.replace("cheap", "tier cheap").replace("strong", "tier strong"));
    assert_eq!(told(&rows("tier")), tiers);
    assert_eq!(told(&rows("planner")), ["model:tiers 9 0.01092475", "model:other 1 none"]);
    let toolset = Digest::of(b"tools").to_string();
    assert_eq!(told(&rows("toolset")), [format!("{toolset} 10 0.01145975")]);
    let tools: Vec<_> = rows("tool")
        .iter()
        .map(|row| json!([row["tool"], row["calls"], row["failed"], row["usd"], row["wall_ms"]["p50"]]))
        .collect();
    assert_eq!(
        json!(tools),
        json!([
            ["math.eval", 1, 0, "0", 5],
            ["trips.book", 2, 0, "0.003", 70],
            ["trips.cancel", 1, 0, "0.0015", 20],
            ["trips.find", 1, 0, "0.00025", 30],
            ["trips.pay", 1, 1, "0", 10],
        ])
    );
    let kinds: Vec<_> = rows("kind").iter().map(|row| row["kind"].clone()).collect();
    assert_eq!(
        json!(kinds),
        json!(["data.condition", "network.cut_stream", "network.http_429", "policy.budget", "tool.declared"])
    );
}

#[test]
fn a_window_holds_goals_by_when_they_were_created_with_all_that_is_within_them() {
    let shop = shop(ten());
    // The run within the eighth goal was created after the window.
    let eighth = stats(&shop, &["--since", "2026-11-23T08:00:00Z", "--until", "2026-11-23T09:00:00Z"]);
    let row = &eighth["rows"][0];
    assert_eq!((&row["goals"], &row["usd"], &row["usd_per_success"]), (&json!(1), &json!("0.00052"), &Value::Null));
    assert_eq!(eighth["since"], DAY + 8 * HOUR);
    assert_eq!(stats(&shop, &["--until", "2026-11-23"])["rows"], json!([]));
    let all = stats(&shop, &["--since", "99999d"]);
    assert_eq!(all["rows"][0]["goals"], 10);
    shop.run(&["stats", "--since", "yesterday"]).ends(2);
}

#[test]
fn without_a_success_there_is_no_cost_of_one_and_a_request_that_died_costs_what_was_held() {
    let lost = Script::new(1).asked("cheap", 700).end(RunEnd::Cancelled { by: "ann".into() });
    let unsent = Script::new(2).asked("cheap", 0).failed(Kind::PolicyBudget);
    let unseen = Script::new(3).accepted(&[("pay", "trips.pay")]).began("pay", 40, None);
    let unseen = unseen.fact(Fact::StepUnknown { step: step("pay"), attempt: 1 });
    let cut = Script::new(4).asked("cheap", 0).replied(None, None, Cost::default(), 9).failed(Kind::NetworkCut);
    let shop = shop(vec![lost, unsent, unseen, cut]);
    let told = stats(&shop, &[]);
    let row = &told["rows"][0];
    assert_eq!(row["ends"], json!({ "cancelled": 1, "open": 3 }));
    assert_eq!((&row["success_permille"], &row["usd_per_success"]), (&json!(0), &Value::Null));
    assert_eq!((&row["usd_models"], &row["usd_tools"]), (&json!("0.0007"), &json!("0.00004")));
    assert_eq!((&row["requests"][0]["requests"], &row["requests"][0]["failed"]), (&json!(2), &json!(2)));
    assert_eq!(row["requests_unpriced"], 1, "nobody knows what an answer that broke off cost");
    assert_eq!(row["failures"][2], json!({ "kind": "policy.budget", "goals": 0, "calls": 0, "requests": 1 }));
    let text = shop.run(&["stats"]).ends(0).out;
    assert!(text.contains("none") && text.contains("≥ 0.00074"), "{text}");
}

#[test]
fn a_run_that_cannot_be_read_counts_nowhere_and_is_named() {
    let shop = shop(ten());
    let file = shop.path(".cofferdam/log.db");
    let mut bytes = std::fs::read(&file).expect("the log is one file when nobody has it");
    let at = bytes.windows(11).position(|part| part == b"model:other").expect("the tenth goal is in it");
    bytes[at + 6] = b'0';
    std::fs::write(&file, bytes).expect("it is written");
    let told = shop.run(&["stats", "--json"]).ends(0);
    assert_eq!(told.json()["unreadable"], json!([run(10)]));
    assert_eq!((&told.json()["rows"][0]["goals"], &told.json()["rows"][0]["usd"]), (&json!(9), &json!("0.0655485")));
    assert!(told.err.contains("cannot be read") && told.err.contains(run(10).as_str()), "{}", told.err);
}

#[test]
fn sums_are_told_in_tables_for_a_person() {
    let shop = shop(ten());
    expect![[r#"
                        goals  succeeded        p50         p95   tokens        USD  USD per success
        cheap               6     50.0 %  30,000 ms  100,000 ms   11,110  0.0059625        0.0019875
        cheap + strong      2     50.0 %  60,000 ms   80,000 ms    2,720    0.00217          0.00217
        strong              2    100.0 %  40,000 ms   50,000 ms  201,011   0.060626         0.030313

        cheap: 1 budget exhausted, 2 failed, 3 succeeded; models 0.0029625 USD, tools 0.003 USD
        model  requests  failed  rejected     p50     p95   first  tokens                                  USD
        cheap         7       1         1  400 ms  800 ms  150 ms  10,200 in, 1,500 cached, 910 out  0.0029625
        failure             goals  calls  requests
        data.condition          1      0         0
        network.cut_stream      0      0         1
        policy.budget           1      0         0
        tool.declared           1      1         0

        cheap + strong: 1 failed, 1 succeeded; models 0.00042 USD, tools 0.00175 USD
        model   requests  failed  rejected       p50       p95     first  tokens                 USD
        cheap          2       1         0     50 ms    600 ms    300 ms  1,000 in, 100 out  0.00021
        strong         2       0         0  7,000 ms  8,000 ms  3,500 ms  1,500 in, 120 out  0.00021
        failure           goals  calls  requests
        data.condition        1      0         0
        network.http_429      0      0         1

        strong: 2 succeeded; models 0.060626 USD, tools 0 USD
        model   requests  failed  rejected       p50       p95     first  tokens                                                                        USD
        strong         2       0         0  5,000 ms  6,000 ms  2,500 ms  200,001 in, 10,000 cached, 40,001 cache-written, 1,010 out, 4 reasoning  0.060626
    "#]].assert_eq(&shop.run(&["stats", "--by", "model"]).ends(0).out);
    expect![[r#"
        tool          calls  failed    p50    p95      USD  failures
        math.eval         1       0   5 ms   5 ms        0
        trips.book        2       0  70 ms  90 ms    0.003
        trips.cancel      1       0  20 ms  20 ms   0.0015
        trips.find        1       0  30 ms  30 ms  0.00025
        trips.pay         1       1  10 ms  10 ms        0  1 tool.declared
    "#]]
    .assert_eq(&shop.run(&["stats", "--by", "tool"]).ends(0).out);
}

#[test]
fn lone_calls_are_calls_and_no_goals_and_an_empty_log_is_told_as_such() {
    let shop = Shop::new();
    assert!(shop.run(&["stats"]).ends(0).out.contains("no goals"));
    shop.run(&["call", "math.eval", "--args", r#"{"expression": "1 + 1"}"#]).ends(0);
    shop.run(&["call", "math.eval", "--args", r#"{"expression": "1 +"}"#]).ends(1);
    assert_eq!(stats(&shop, &[])["rows"], json!([]));
    let tools = stats(&shop, &["--by", "tool"]);
    let row = &tools["rows"][0];
    assert_eq!((&row["tool"], &row["calls"], &row["failed"]), (&json!("math.eval"), &json!(2), &json!(1)));
    assert_eq!(row["failures"], json!({ "tool.declared": 1 }));
    assert!(shop.run(&["stats", "--by", "tool"]).ends(0).out.contains("math.eval"));
    // One whose outer run is gone counts nowhere, and is told.
    let parent = Parent { run: run(1), step: step("a"), depth: 1, calls_left: Default::default(), takes_back: None };
    let orphan = self::shop(vec![Script::of(2, "workflow", Some(parent)).succeeded()]);
    let told = orphan.run(&["stats"]).ends(0);
    assert!(told.err.contains("not counted") && told.err.contains(run(2).as_str()), "{}", told.err);
}
