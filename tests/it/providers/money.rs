//! Money: whatever a provider counts within what it was asked for, no run costs more than it may.

use std::collections::BTreeMap;

use cofferdam::domain::{Budget, Fact, RunId};
use cofferdam::host::{RunState, WorkflowPlanner};
use cofferdam::planner::workflow::Format;
use cofferdam::store::memory::MemoryLog;

use super::stand_ins::pointer;
use super::*;
use crate::sim::fuse::Rng;

/// Cases that are looked at; the seed is printed.
const CASES: u64 = 1_000;

/// Cases that share a host: prices are those of a host, and making one takes time.
const CASES_OF_HOST: usize = 25;

/// Cases that run at one time.
const SIDE_BY_SIDE: usize = 13;

const PICOS_PER_MICRO: u128 = 1_000_000;

/// Words by which a server counts, and the goals that are told to it.
const COUNTING: [&str; 3] = ["echo", "echo_written", "none"];

/// A server that brings a goal of `n` turns to its end, for each way to count; it finds both in the words of the goal.
fn bank() -> FakeLlm {
    let mut lines = Vec::new();
    for provider in &PROVIDERS[..4] {
        for usage in COUNTING {
            for turns in 2..=3_u32 {
                for turn in 1..=turns {
                    let mut reply = if turn == turns { answer("t1.s0") } else { plan(&["1 + 1"]) };
                    reply["usage"] = json!(usage);
                    let goal = format!("goal {usage} of {turns} ");
                    let about = [json!({"contains": goal}), json!({"contains": format!("This is turn {turn}.")})];
                    let step = json!({"standing": true, "protocol": format!("{:?}", provider.speaks).to_lowercase(),
                        "expect": { (pointer(*provider)): about }, "reply": reply});
                    lines.push(step.to_string());
                }
            }
        }
    }
    FakeLlm::start(&lines.join("\n")).expect("the script reads")
}

/// Prices in picodollars a token.
#[derive(Clone, Copy, Debug)]
struct Prices {
    input: u64,
    cached: u64,
    cache_write_5m: u64,
    cache_write_1h: u64,
    reply: u64,
}

impl Prices {
    /// Some are free, and some are dearer than any model is.
    fn draw(luck: &Rng) -> Self {
        let less = [1, 4, 16, 64][usize::try_from(luck.below(4)).unwrap_or(0)];
        let of = |most: u64| if luck.once_in(6) { 0 } else { luck.below(most / less) };
        let input = of(40_000_000);
        Self {
            input,
            cached: luck.below(input.max(1)),
            cache_write_5m: of(60_000_000),
            cache_write_1h: of(80_000_000),
            reply: of(120_000_000),
        }
    }

    fn written(self) -> String {
        let dollars = |picos: u64| format!("'{}.{:06}'", picos / 1_000_000, picos % 1_000_000);
        let Self { input, cached, cache_write_5m, cache_write_1h, reply } = self;
        let [input, cached, w5, w1, reply] = [input, cached, cache_write_5m, cache_write_1h, reply].map(dollars);
        format!(
            "price = {{ input = {input}, cached = {cached}, cache_write_5m = {w5}, cache_write_1h = {w1}, reply = {reply} }}"
        )
    }

    fn dearest(self) -> u64 {
        self.input.max(self.cached).max(self.cache_write_5m).max(self.cache_write_1h)
    }

    /// What the server bills for a request that it saw: a token for each byte, at the price of what it says became of them,
    /// and all that the reply may have; the most that it can be where it counts nothing.
    fn bill(self, request: &fake_llm::Recorded) -> u128 {
        let text = request.body.to_string();
        let a_byte = match request.protocol {
            _ if text.contains("goal none of") => self.dearest(),
            _ if text.contains("goal echo of") => self.input,
            Some(fake_llm::Protocol::Messages) => self.cache_write_1h,
            // It tells nothing of what it writes to a cache.
            Some(fake_llm::Protocol::Gemini) => self.input,
            _ => self.cache_write_5m,
        };
        let longest =
            ["/max_completion_tokens", "/max_output_tokens", "/max_tokens", "/generationConfig/maxOutputTokens"];
        let reply = longest.iter().find_map(|pointer| request.body.pointer(pointer)?.as_u64()).expect("it is bounded");
        u128::from(a_byte) * request.bytes.len() as u128 + u128::from(self.reply) * u128::from(reply)
    }
}

/// A goal in words that the server understands. `id` tells its requests from those of others.
fn goal(id: u64, luck: &Rng) -> String {
    let usage = COUNTING[usize::try_from(luck.below(3)).unwrap_or(0)];
    format!("case {id}: goal {usage} of {} turns", if luck.once_in(4) { 3 } else { 2 })
}

/// One goal, or a workflow of some that run side by side, each within what it may spend; all of them within `cap`.
fn case(id: u64, cap: u64, luck: &Rng) -> Goal {
    let mut all = if !luck.once_in(3) {
        json!({"goal": goal(id, luck)})
    } else {
        let count = 2 + luck.below(2);
        let step = |n| {
            let mut run = json!({"goal": goal(id, luck)});
            if luck.once_in(3) {
                // Now and then more than there is for all of them.
                let share = if luck.once_in(8) { cap } else { cap / count };
                run["budget"] = json!({"usd_micros_max": luck.below(share.max(1))});
            }
            json!({"id": format!("g{n}"), "run": run, "on_failure": "skip"})
        };
        let steps: Vec<Json> = (0..count).map(step).collect();
        json!({"workflow": {"workflow": "side-by-side", "goal": "All of them.", "steps": steps}})
    };
    all["budget"] = json!({"usd_micros_max": cap});
    let flow =
        json!({"workflow": "case", "goal": "A case.", "steps": [{"id": "all", "run": all, "on_failure": "skip"}]});
    Goal::Workflow(WorkflowPlanner::parse(&flow.to_string(), Format::Json).expect("the workflow reads"))
}

/// What the logs of a run and of those within it say.
#[derive(Debug, Default)]
struct Ledger {
    /// Requests that were sent, and for which money was held.
    sent: usize,
    /// Requests for which nothing was left.
    unsent: usize,
    charged_micros: u128,
    /// What was counted, at its price; where nobody counted, what was held.
    picos: u128,
    uncounted: usize,
}

/// Adds up a run and those within it, and holds each of them to its own cap.
async fn ledger(host: &Host, run: &RunId, sum: &mut Ledger) {
    let mut open = None;
    let (mut cap, mut spent) = (u64::MAX, 0_u64);
    let (mut within, before) = (Vec::new(), sum.charged_micros);
    for event in host.events(run).await.expect("the log is read") {
        match event.fact {
            Fact::RunCreated { budget, .. } => cap = budget.usd_micros_max.expect("money is bounded"),
            Fact::PlanRequested { asked: Some(_), reserved, .. } => open = Some(reserved),
            Fact::PlanReplied { cost, usd_picos, .. } => {
                let held = open.take().expect("it was asked");
                assert!(cost.usd_micros <= held.usd_micros, "{run}: charged {cost:?}, held {held:?}");
                assert!(spent + held.usd_micros <= cap, "{run}: {spent} and {held:?} of {cap}");
                spent += cost.usd_micros;
                let exact = usd_picos.map_or(u128::from(cost.usd_micros) * PICOS_PER_MICRO, u128::from);
                assert!(exact <= u128::from(cost.usd_micros) * PICOS_PER_MICRO);
                sum.sent += 1;
                sum.picos += exact;
                sum.uncounted += usize::from(usd_picos.is_none());
                sum.charged_micros += u128::from(cost.usd_micros);
            }
            Fact::PlanFailed { kind, .. } => {
                assert_eq!(kind.code(), "policy.budget", "{run}");
                // Where it was not asked, a workflow's plan is more than it may spend.
                sum.unsent += usize::from(open.take().is_some());
            }
            Fact::StepStarted { run: Some(inner), .. } => within.push(inner),
            _ => {}
        }
    }
    for inner in within {
        Box::pin(ledger(host, &inner, sum)).await;
    }
    let all = sum.charged_micros - before;
    assert!(all <= u128::from(cap), "{run}: {all} of {cap}");
}

/// Returns the number of the case that a request is about.
fn case_of(request: &fake_llm::Recorded) -> u64 {
    let text = request.body.to_string();
    let number = text.split_once("case ").and_then(|(_, after)| after.split_once(':'));
    number.and_then(|(number, _)| number.parse().ok()).expect("a request is about a case")
}

/// How a case went.
struct Told {
    id: u64,
    cap: u64,
    prices: Prices,
    ledger: Ledger,
}

/// Runs a case, and holds its ledger to its cap.
async fn run(host: Host, id: u64, cap: u64, prices: Prices, goal: Goal) -> Told {
    let report = ended(&host, goal).await;
    let mut ledger = Ledger::default();
    self::ledger(&host, &report.run, &mut ledger).await;
    assert!(ledger.charged_micros <= u128::from(cap), "{} of {cap}: {report:#?}", ledger.charged_micros);
    Told { id, cap, prices, ledger }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_random_ledgers_stay_within_their_caps() {
    let seed = std::hash::BuildHasher::hash_one(&std::collections::hash_map::RandomState::new(), CASES);
    println!("seed {seed}");
    let (luck, server, world) = (Rng::new(seed), bank(), World::new());
    let mut told: Vec<Told> = Vec::new();
    for first in (0..CASES).step_by(CASES_OF_HOST) {
        let prices = Prices::draw(&luck);
        let provider = PROVIDERS[usize::try_from(luck.below(4)).unwrap_or(0)];
        let text = provider.model("bank", &server, &prices.written());
        let all = if luck.once_in(10) { luck.below(1_000_000) } else { 8_000_000 };
        let budget = Budget { usd_micros_max: Some(all), planner_turns_max: 100, ..Budget::default() };
        let builder = world.builder(&["math"], &text).event_log(Arc::new(MemoryLog::default())).budget(budget);
        let host = builder.build().expect("the host is made");
        for some in (first..first + CASES_OF_HOST as u64).collect::<Vec<_>>().chunks(SIDE_BY_SIDE) {
            let begun: Vec<_> = some
                .iter()
                .map(|id| {
                    let cap = luck.below(if luck.once_in(4) { 4_000_000 } else { 300_000 });
                    tokio::spawn(run(host.clone(), *id, cap, prices, case(*id, cap, &luck)))
                })
                .collect();
            for task in begun {
                told.push(task.await.unwrap_or_else(|e| panic!("a case of {some:?} of seed {seed}: {e}")));
            }
        }
    }
    assert_eq!(server.faults(), Vec::<String>::new(), "seed {seed}");
    let requests = server.requests();
    let mut of_case: BTreeMap<u64, Vec<&fake_llm::Recorded>> = BTreeMap::new();
    for request in &requests {
        of_case.entry(case_of(request)).or_default().push(request);
    }
    for Told { id, cap, prices, ledger } in &told {
        let seen = of_case.remove(id).unwrap_or_default();
        assert_eq!(seen.len(), ledger.sent, "case {id} of seed {seed}: each request was held for: {ledger:?}");
        let bill: u128 = seen.iter().map(|request| prices.bill(request)).sum();
        let is_same = bill == ledger.picos || ledger.uncounted > 0 && bill <= ledger.picos;
        assert!(is_same, "case {id} of seed {seed}: a bill of {bill}, with {prices:?}: {ledger:?}");
        assert!(bill <= u128::from(*cap) * PICOS_PER_MICRO, "case {id} of seed {seed}: a bill of {bill}: {ledger:?}");
    }
    let (sent, unsent): (usize, usize) =
        told.iter().fold((0, 0), |(sent, unsent), one| (sent + one.ledger.sent, unsent + one.ledger.unsent));
    let met = told.iter().filter(|one| one.ledger.charged_micros * 2 > u128::from(one.cap)).count();
    println!("{} cases: {sent} requests, {unsent} not sent, {met} spent more than half", told.len());
    assert!(sent > 500 && unsent > 100 && met > 50, "the cases are of all kinds");
}

#[tokio::test]
async fn a_price_that_nobody_knows_sends_nothing_under_a_cap() {
    for provider in PROVIDERS {
        let world = World::new();
        let server = serves(&[]);
        let text = provider.model("odd-one", &server, "") + "[budget]\nusd_micros_max = 1000000\n";
        let host = world.host(&["math"], &text);
        let report = ended(&host, Goal::text("Add.")).await;
        assert_eq!((report.state, server.requests().len()), (RunState::BudgetExhausted, 0), "{}", provider.name);
        let failed = events(&host, &report).await.into_iter().find_map(|event| match event.fact {
            Fact::PlanFailed { kind, .. } => Some(kind.code()),
            _ => None,
        });
        assert_eq!((failed, server.finish()), (Some("policy.budget"), Ok(())));
    }
}

#[tokio::test]
async fn a_server_that_counts_more_than_was_held_ends_the_run_before_its_plan() {
    for provider in &PROVIDERS[..4] {
        let world = World::new();
        let mut greedy = plan(&["20 + 22"]);
        greedy["usage"] = json!({"prompt": 100, "reply": 9_000_000});
        let server = serves(&[greedy]);
        let host =
            world.host(&["math"], &(provider.model("m", &server, PRICE) + "[budget]\nusd_micros_max = 1000000\n"));
        let report = ended(&host, Goal::text("Add.")).await;
        let told = (report.state, world.runner.guests(), server.finish());
        assert_eq!(told, (RunState::BudgetExhausted, 0, Ok(())), "{}: {:?}", provider.name, report.failure);
    }
}

#[tokio::test]
async fn two_models_of_a_tier_charge_one_budget_each_at_its_own_price() {
    let world = World::new();
    let mut adds = plan(&["20 + 22"]);
    adds["usage"] = json!({"prompt": 1000, "reply": 100});
    let mut tells = answer("t1.s0");
    tells["usage"] = json!({"prompt": 2000, "reply": 10});
    // The second turn is stood in for.
    let (cheap, dear) = (serves(&[adds, json!({"status": 500, "raw": "{}"})]), serves(&[tells]));
    let text = PROVIDERS[1].model("cheap", &cheap, "price = { input = '1', reply = '2' }")
        + &PROVIDERS[2].model("dear", &dear, "price = { input = '10', reply = '20' }")
        + "[[tiers]]\nname = 'only'\nmodels = ['cheap', 'dear']\neffects = 'once'\n[budget]\nusd_micros_max = 10000000\n";
    let host = world.host(&["math"], &text);
    let report = ended(&host, Goal::text("Add.")).await;
    assert_eq!(report.state, RunState::Succeeded, "{:?}", report.failure);
    let views = host.routes(&report.run).await.expect("they are told");
    let charged: Vec<_> = views
        .iter()
        .map(|view| view.replied.as_ref().map(|replied| (replied.usd_picos, replied.cost.usd_micros)))
        .collect();
    // A server that failed may have asked its model: all that was held is gone.
    let held = views[1].reserved.usd_micros;
    let expected = [Some((Some(1_200_000_000), 1_200)), Some((None, held)), Some((Some(20_200_000_000), 20_200))];
    assert_eq!((charged.as_slice(), held > 0), (&expected[..], true));
    assert_eq!((cheap.finish(), dear.finish()), (Ok(()), Ok(())));
}
