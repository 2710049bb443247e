//! Budgets against chance: random trees of runs, with calls that fail, are tried again, and whose processes die. At no time
//! do all runs together pass a bound of the first one.

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::test_runner::Config;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::*;
use crate::domain::{
    AskedModel, Effect, Fact, Kind, Parent, Price, PriceBand, RunEnd, StepEnd, StepId, Timestamp, Tokens, Usage,
};
use crate::orchestrator::ask::{charge, reserve};
use crate::orchestrator::machine::tests::{Hand, digest, planned};
use crate::orchestrator::machine::{Command, Ending, StepStatus};
use crate::planner::Quote;

/// Runs around the innermost one.
const DEPTH_MAX: u32 = 2;

/// Moves of the longest play: one that takes longer goes round in circles.
const MOVES_MAX: usize = 5_000;

/// A run, and those within it that are under way.
struct Node {
    hand: Hand,
    within: HashMap<StepId, Node>,
}

/// What all runs together took.
#[derive(Default)]
struct Taken {
    calls: BTreeMap<ToolName, u32>,
    cost: Cost,
}

struct Play {
    rng: ChaCha8Rng,
    now: Timestamp,
    taken: Taken,
}

impl Play {
    fn below(&mut self, n: u64) -> u32 {
        u32::try_from(self.rng.next_u64() % n).unwrap()
    }

    fn node(&mut self, depth: u32, budget: Budget, parent: Option<Parent>) -> Node {
        let steps = (0..=self.below(4)).map(|n| self.step(n, depth)).collect();
        self.taken.cost.turns += 1;
        Node { hand: Hand::within(true, budget, parent, steps), within: HashMap::new() }
    }

    fn step(&mut self, n: u32, depth: u32) -> PlannedStep {
        let step = planned(&format!("s{n}"), &[], Effect::Read);
        if depth >= DEPTH_MAX || self.below(2) == 0 {
            let tool = ToolName::new("x", ["a", "b"][self.below(2) as usize]).unwrap();
            let cost = Cost { calls: 1, fuel: 10, bytes: 10, usd_micros: 10, ..Cost::default() };
            return PlannedStep { tool, cost, on_failure: crate::domain::OnFailure::Skip, ..step };
        }
        // One of two says what it needs; what the other one says of nothing is all that there is.
        let calls = self.below(2) * (1 + self.below(6));
        let parallel = self.below(3);
        let all = u64::from(calls) * 10;
        let cost =
            Cost { calls, turns: calls.min(3), fuel: all, bytes: all, usd_micros: all, parallel, ..Cost::default() };
        let tool = ToolName::new(RUN_TOOL.0, RUN_TOOL.1).unwrap();
        PlannedStep { tool, cost, on_failure: crate::domain::OnFailure::Skip, ..step }
    }

    /// Makes one move somewhere in the tree; false where nothing can move.
    fn moves(&mut self, node: &mut Node, depth: u32) -> bool {
        let ids: Vec<StepId> = node.within.keys().cloned().collect();
        if !ids.is_empty() && self.below(3) > 0 {
            let id = ids[self.below(ids.len() as u64) as usize].clone();
            let child = node.within.get_mut(&id).unwrap();
            if child.hand.0.is_ended() {
                self.child_ended(node, &id);
                return true;
            }
            if self.moves(child, depth + 1) {
                return true;
            }
        }
        let running: Vec<StepId> = node
            .hand
            .0
            .in_order()
            .filter(|step| step.status.is_running() && step.run.is_none())
            .map(|step| step.id().clone())
            .collect();
        if !running.is_empty() && self.below(2) == 0 {
            let id = running[self.below(running.len() as u64) as usize].clone();
            self.call_moves(node, id);
            return true;
        }
        let commands = node.hand.0.next(self.now);
        let commands: Vec<Command> = commands
            .into_iter()
            .filter(|command| !matches!(command, Command::Child { step, .. } if node.within.contains_key(step)))
            .collect();
        match commands.into_iter().next() {
            Some(Command::StopCalls) => self.stop(node, running),
            Some(command) => {
                self.perform(node, command, depth);
                true
            }
            None => false,
        }
    }

    fn stop(&mut self, node: &mut Node, running: Vec<StepId>) -> bool {
        for child in node.within.values_mut().filter(|child| child.hand.0.cancelled.is_none()) {
            if !child.hand.0.is_ended() {
                child
                    .hand
                    .take_at(self.now, Fact::CancelRequested { by: crate::domain::BY_BUDGET.into(), undo: false });
            }
        }
        let is_any = !running.is_empty();
        running.into_iter().for_each(|id| self.ends(node, id, Some(Kind::HostCancelled), false));
        is_any
    }

    fn perform(&mut self, node: &mut Node, command: Command, depth: u32) {
        let fact = match command {
            Command::Prepare { step } => Fact::StepReady { step, args: digest(1), key: digest(2), duplicate_of: None },
            Command::Skip { step, why } => Fact::StepSkipped { step, why },
            Command::Start { step, reserve } => return self.starts(node, step, reserve),
            Command::Child { step, .. } => {
                let reserved = node.hand.0.step(&step).unwrap().reserved;
                let budget = of_child(&node.hand.0, reserved, u64::MAX, &BudgetPatch::default());
                let calls_left = calls_left(&node.hand.0, node.hand.0.step(&step).unwrap());
                let run = node.hand.0.id.clone();
                let parent = Parent { run, step: step.clone(), depth: depth + 1, calls_left, takes_back: None };
                // Its one turn is taken before it has one: what has none left ends at once.
                if budget.planner_turns_max == 0 {
                    return self.child_failed(node, step);
                }
                let child = self.node(depth + 1, budget, Some(parent));
                node.within.insert(step, child);
                return;
            }
            Command::End { ending, caveats } => {
                let end = match ending {
                    Ending::Succeeded { answer } => RunEnd::Succeeded { answer },
                    Ending::Cancelled { by } => RunEnd::Cancelled { by },
                    Ending::Budget { .. } => RunEnd::BudgetExhausted { failure: digest(4) },
                    other => panic!("no run ends like this: {other:?}"),
                };
                Fact::RunEnded { end, caveats }
            }
            other => panic!("no run wants {other:?}"),
        };
        node.hand.take_at(self.now, fact);
    }

    fn starts(&mut self, node: &mut Node, step: StepId, reserved: Cost) {
        let found = node.hand.0.step(&step).unwrap();
        let (attempt, is_again, is_run) = (found.attempts + 1, found.is_interrupted(), is_run(&found.planned));
        if !is_run && !is_again {
            *self.taken.calls.entry(found.planned.tool.clone()).or_default() += 1;
            self.taken.cost.calls += 1;
        }
        let run = is_run.then(|| node.hand.0.id.clone());
        let (component, effect, rules) = (digest(0), Effect::Read, vec![]);
        let started = Fact::StepStarted { step, attempt, component, effect, rules, reserved, run };
        node.hand.take_at(self.now, started);
    }

    /// A call ends, or its process dies.
    fn call_moves(&mut self, node: &mut Node, id: StepId) {
        match self.below(4) {
            0 => {
                let attempt = node.hand.0.step(&id).unwrap().attempts;
                node.hand.take_at(self.now, Fact::StepInterrupted { step: id, attempt });
            }
            1 => self.ends(node, id, Some(Kind::NetworkTimeout), true),
            2 => self.ends(node, id, Some(Kind::ToolDeclared), false),
            _ => self.ends(node, id, None, false),
        }
    }

    fn ends(&mut self, node: &mut Node, id: StepId, kind: Option<Kind>, may_retry: bool) {
        let step = node.hand.0.step(&id).unwrap();
        let most = step.reserved;
        let cost = Cost {
            fuel: u64::from(self.below(most.fuel + 1)),
            bytes: u64::from(self.below(most.bytes + 1)),
            calls: 1,
            usd_micros: most.usd_micros,
            ..Cost::default()
        };
        self.taken.cost = self.taken.cost.plus(Cost { calls: 0, ..cost });
        let retry = (may_retry && step.attempts_counted() < 3).then_some(self.now);
        let end = match kind {
            Some(kind) => StepEnd::Failed { kind, failure: digest(4) },
            None => StepEnd::Succeeded { output: digest(3) },
        };
        node.hand.take_at(self.now, ended(id, step.attempts, end, cost, retry, None));
    }

    fn child_ended(&mut self, node: &mut Node, id: &StepId) {
        let child = node.within.remove(id).unwrap().hand.0;
        let turns = child.planning.requests + child.spent.turns;
        let attempt = node.hand.0.step(id).unwrap().attempts;
        let end = StepEnd::Succeeded { output: digest(3) };
        let cost = Cost { turns, ..child.spent };
        node.hand.take_at(self.now, ended(id.clone(), attempt, end, cost, None, Some(child.within())));
    }

    fn child_failed(&mut self, node: &mut Node, id: StepId) {
        let attempt = node.hand.0.step(&id).unwrap().attempts;
        let end = StepEnd::Failed { kind: Kind::PolicyBudget, failure: digest(4) };
        node.hand.take_at(self.now, ended(id, attempt, end, Cost::default(), None, None));
    }

    fn check(&self, root: &Node) {
        let budget = &root.hand.0.budget;
        assert!(under_way(root) <= budget.parallel_max, "calls at one time");
        for (tool, calls) in &self.taken.calls {
            assert!(*calls <= budget.calls_per_tool_max, "{calls} calls of {tool}");
        }
        let Cost { calls, turns, fuel, bytes, usd_micros, .. } = self.taken.cost;
        assert!(calls <= budget.calls_max && turns <= budget.planner_turns_max, "{:?}", self.taken.cost);
        assert!(fuel <= budget.fuel_max && bytes <= budget.bytes_max, "{:?}", self.taken.cost);
        assert!(usd_micros <= budget.usd_micros_max.unwrap(), "{:?}", self.taken.cost);
    }
}

fn ended(
    step: StepId,
    attempt: u32,
    end: StepEnd,
    cost: Cost,
    retry: Option<Timestamp>,
    within: Option<crate::domain::Within>,
) -> Fact {
    Fact::StepEnded {
        step,
        attempt,
        end,
        usage: Usage::default(),
        cost,
        log: None,
        denials: None,
        has_written: false,
        has_open_write: false,
        host_calls: None,
        retry,
        has_caveats: false,
        within,
    }
}

/// Calls of the tree that run now.
fn under_way(node: &Node) -> u32 {
    let own = node.hand.0.in_order().filter(|step| step.status.is_running() && step.run.is_none()).count();
    u32::try_from(own).unwrap() + node.within.values().map(under_way).sum::<u32>()
}

fn play(seed: u64) -> Cost {
    let mut play = Play { rng: ChaCha8Rng::seed_from_u64(seed), now: Timestamp(0), taken: Taken::default() };
    let budget = Budget {
        calls_max: 1 + play.below(20),
        calls_per_tool_max: 1 + play.below(8),
        parallel_max: 1 + play.below(5),
        planner_turns_max: 1 + play.below(6),
        fuel_max: 10 + u64::from(play.below(200)),
        bytes_max: 10 + u64::from(play.below(200)),
        usd_micros_max: Some(10 + u64::from(play.below(200))),
        wall_ms_max: u64::MAX,
        same_failures_max: u32::MAX,
        ..Budget::default()
    };
    let mut root = play.node(0, budget, None);
    for _ in 0..MOVES_MAX {
        if root.hand.0.is_ended() {
            return play.taken.cost;
        }
        play.moves(&mut root, 0);
        play.check(&root);
    }
    let open: Vec<_> = root.hand.0.in_order().filter(|step| !step.status.is_terminal()).collect();
    panic!("it goes on for ever: {open:#?} {:?}", root.hand.0.next(play.now));
}

proptest! {
    #![proptest_config(Config { cases: 1_500, failure_persistence: None, ..Config::default() })]

    #[test]
    fn runs_within_runs_never_pass_a_bound_together(seed in any::<u64>()) {
        play(seed);
    }
}

#[test]
fn places_are_shared_among_the_runs_that_could_begin() {
    let run = |calls, parallel| {
        let cost = Cost { calls, parallel, ..Cost::default() };
        PlannedStep { cost, ..planned("a", &[], Effect::Read) }
    };
    for (calls, parallel, free, runs, has_calls, expected) in [
        (0, 0, 8, 1, false, 8),
        (0, 0, 8, 1, true, 7),
        (0, 0, 8, 2, false, 4),
        (0, 0, 8, 3, true, 2),
        (0, 3, 8, 1, false, 3),
        (2, 3, 8, 1, false, 2),
        (0, 0, 1, 1, true, 1),
        (0, 0, 2, 5, true, 1),
    ] {
        assert_eq!(share(&run(calls, parallel), free, runs, has_calls), expected, "{free} for {runs}");
    }
}

#[test]
fn a_call_whose_process_died_is_counted_once() {
    let step = PlannedStep { cost: Cost { calls: 1, fuel: 60, ..Cost::default() }, ..planned("a", &[], Effect::Read) };
    let id = step.id.clone();
    let budget = Budget { calls_max: 1, calls_per_tool_max: 1, fuel_max: 60, ..Budget::default() };
    let mut node = Node { hand: Hand::with(true, budget, vec![step]), within: HashMap::new() };
    let mut play = Play { rng: ChaCha8Rng::seed_from_u64(0), now: Timestamp(0), taken: Taken::default() };
    node.hand.take(Fact::StepReady { step: id.clone(), args: digest(1), key: digest(2), duplicate_of: None });
    for attempt in 1..5 {
        let [Command::Start { step, reserve }] = &node.hand.0.next(play.now)[..] else { panic!("it does not start") };
        let (step, reserve) = (step.clone(), *reserve);
        play.starts(&mut node, step, reserve);
        node.hand.take(Fact::StepInterrupted { step: id.clone(), attempt });
        assert_eq!(node.hand.0.spent, Cost::default());
    }
    // It is left for good: it was one call.
    node.hand.take(Fact::StepUnknown { step: id.clone(), attempt: 4 });
    assert_eq!((node.hand.0.spent.calls, node.hand.0.spent.fuel, node.hand.0.reserved), (1, 0, Cost::default()));
    assert_eq!(node.hand.0.step(&id).unwrap().status, StepStatus::Unknown);
}

/// What of a bound that models meet is held for a run within the run: what it says it needs; all that there is, where a model
/// plans it and nobody says how much; nothing, where nothing is bounded.
#[test]
fn a_run_that_a_model_plans_holds_money_and_tokens() {
    let tool = ToolName::new(RUN_TOOL.0, RUN_TOOL.1).unwrap();
    let step = |asks_model, tokens, usd_micros| {
        let cost = Cost { calls: 1, turns: 1, tokens, usd_micros, ..Cost::default() };
        PlannedStep { tool: tool.clone(), cost, asks_model, ..planned("a", &[], Effect::Read) }
    };
    let bounded = Budget { usd_micros_max: Some(50), tokens_max: Some(90), ..Budget::default() };
    for (budget, step, expected) in [
        (Budget::default(), step(true, 0, 0), (0, 0)),
        (bounded.clone(), step(true, 0, 0), (50, 90)),
        (bounded.clone(), step(false, 0, 0), (0, 0)),
        // Its step may be tried three times.
        (bounded.clone(), step(true, 20, 10), (30, 60)),
        // Alone it gets what there is, where it wants more.
        (bounded, step(true, 900, 10), (30, 90)),
    ] {
        let hand = Hand::with(true, budget, vec![step]);
        let step = hand.0.in_order().next().unwrap();
        let Room::Yes(cost) = room(&hand.0, step, &Pending::default()) else { panic!("there is room") };
        assert_eq!((cost.usd_micros, cost.tokens), expected, "{:?}", hand.0.budget);
        let child = of_child(&hand.0, cost, 1_000, &BudgetPatch::default());
        let most = |bound: Option<u64>, held: u64| bound.map(|_| held);
        assert_eq!(child.usd_micros_max, most(hand.0.budget.usd_micros_max, cost.usd_micros));
        assert_eq!(child.tokens_max, most(hand.0.budget.tokens_max, cost.tokens));
    }
}

/// A price, and the most that a request has: what a play reserves by.
fn quote_of(play: &mut Play) -> Quote {
    let (input, reply) = (u64::from(play.below(3_000_000)), u64::from(play.below(9_000_000)));
    let band = PriceBand { input, cached: input / 10, reply, ..PriceBand::default() };
    let price = Some(Price { source: "play".into(), bands: vec![band] });
    let prompt_tokens_max = 1 + u64::from(play.below(300));
    Quote { prompt_tokens_max, reply_tokens_max: 1 + play.below(400), price, server: String::new() }
}

/// A run whose planner asks models: requests, replies that stay within what was held, or of which nobody counted the tokens,
/// processes that die, and calls that cost money. The ledger has what was really used; what the run says that it spent and
/// holds is never less than that, and never more than there is.
fn asks(seed: u64) -> (u64, u64) {
    let mut play = Play { rng: ChaCha8Rng::seed_from_u64(seed), now: Timestamp(0), taken: Taken::default() };
    let (usd_cap, tokens_cap) = (100 + u64::from(play.below(5_000)), 500 + u64::from(play.below(6_000)));
    let budget = Budget {
        usd_micros_max: Some(usd_cap),
        tokens_max: Some(tokens_cap),
        planner_turns_max: 40,
        calls_max: 40,
        wall_ms_max: u64::MAX,
        repairs_max: u32::MAX,
        ..Budget::default()
    };
    let mut hand = Hand::with(false, budget, vec![]);
    let (mut ledger, mut turn, mut requests) = (Cost::default(), 0, 0);
    let check = |hand: &Hand, ledger: Cost| {
        let taken = hand.0.spent.plus(hand.0.reserved);
        assert!(ledger.usd_micros <= taken.usd_micros && ledger.tokens <= taken.tokens, "{ledger:?} of {taken:?}");
        assert!(taken.usd_micros <= usd_cap && taken.tokens <= tokens_cap, "{taken:?} of {usd_cap}, {tokens_cap}");
        assert!(hand.0.over.is_none());
    };
    while turn < 30 {
        let quote = quote_of(&mut play);
        let Ok(held) = reserve(&hand.0, "m", &quote) else { break };
        turn += u32::from(!hand.0.planning.is_asked);
        requests += 1;
        let asked = AskedModel {
            model: "m".into(),
            tier: "only".into(),
            effect_max: Effect::Once,
            route: digest(7),
            price: None,
            reply_tokens_max: held.reply_tokens_max,
        };
        hand.take(Fact::PlanRequested { turn, pack: digest(0), asked: Some(asked), reserved: held.cost });
        check(&hand, ledger);
        // What the provider really counts is within what it was asked for.
        let prompt = u64::from(play.below(quote.prompt_tokens_max + 1));
        let (cached, reply) =
            (u64::from(play.below(prompt + 1)), u64::from(play.below(u64::from(held.reply_tokens_max) + 1)));
        let tokens = Tokens { prompt, cached, reply, ..Tokens::default() };
        let (cost, _) = charge(Some(&quote), held.cost, Some(tokens));
        ledger = ledger.plus(cost);
        if play.below(4) == 0 {
            // The process dies before the reply is in; the next one asks the same again.
            hand.take(Fact::RunClaimed { owner: "another".into(), policy: digest(0) });
            check(&hand, ledger);
            continue;
        }
        let tokens = (play.below(4) > 0).then_some(tokens);
        let (cost, usd_picos) = charge(Some(&quote), held.cost, tokens);
        let (model, reasoning, first_token_ms, wall_ms) = (None, None, None, 1);
        hand.take(Fact::PlanReplied { turn, model, tokens, cost, usd_picos, reasoning, first_token_ms, wall_ms });
        check(&hand, ledger);
        if play.below(2) == 0 {
            let (reply, failures) = (digest(1), digest(u8::try_from(turn).unwrap()));
            hand.take(Fact::PlanRejected { turn, reply, failures, is_escalated: true });
        } else {
            calls_once(&mut play, &mut hand, (turn, &mut ledger));
        }
        check(&hand, ledger);
    }
    (requests, ledger.usd_micros)
}

/// Takes a plan of one call, and makes that where there is money for it.
fn calls_once(play: &mut Play, hand: &mut Hand, (turn, ledger): (u32, &mut Cost)) {
    let step = StepId::new(turn, "a").unwrap();
    let cost = Cost { calls: 1, usd_micros: u64::from(play.below(200)), ..Cost::default() };
    let plan = PlannedStep {
        id: step.clone(),
        cost,
        on_failure: crate::domain::OnFailure::Skip,
        ..planned("a", &[], Effect::Read)
    };
    let (reply, plan_digest) = (digest(1), digest(2));
    hand.take(Fact::PlanAccepted {
        turn,
        reply,
        plan: plan_digest,
        steps: vec![plan],
        has_answer: false,
        has_assertions: false,
        checked_by: crate::domain::CHECK_VERSION,
    });
    let Room::Yes(reserved) = room(&hand.0, hand.0.step(&step).unwrap(), &Pending::default()) else {
        return hand.take(Fact::StepRejected { step, kind: Kind::PolicyBudget, failure: digest(4) });
    };
    hand.take(Fact::StepReady { step: step.clone(), args: digest(1), key: digest(2), duplicate_of: None });
    let (component, effect, rules) = (digest(0), Effect::Read, vec![]);
    hand.take(Fact::StepStarted { step: step.clone(), attempt: 1, component, effect, rules, reserved, run: None });
    let cost = Cost { calls: 1, usd_micros: u64::from(play.below(reserved.usd_micros + 1)), ..Cost::default() };
    *ledger = ledger.plus(Cost { usd_micros: cost.usd_micros, ..Cost::default() });
    hand.take(ended(step, 1, StepEnd::Succeeded { output: digest(3) }, cost, None, None));
}

proptest! {
    #![proptest_config(Config { cases: 1_500, failure_persistence: None, ..Config::default() })]

    #[test]
    fn requests_and_calls_never_pass_the_cap_together(seed in any::<u64>()) {
        asks(seed);
    }
}

#[test]
fn requests_are_made_until_the_money_is_spent() {
    let played: Vec<(u64, u64)> = (0..50).map(asks).collect();
    assert!(played.iter().any(|(requests, _)| *requests > 3), "{played:?}");
    assert!(played.iter().any(|(_, spent)| *spent > 100), "{played:?}");
}
