//! What runs may cost, and how much servers that are down are asked.

use std::collections::HashMap;

use cofferdam::domain::{Cost, Event, Fact, Role, StepId, Timestamp};
use cofferdam::orchestrator::breaker::{BREAKER_FAILURES_MAX, BREAKER_OPEN_MS};
use cofferdam::orchestrator::retry::{RETRY_MILLITOKENS_PER_CALL, RETRY_TOKENS_MAX};

use super::super::process::Simulated;
use super::super::world::{Request, Sent};
use super::{Saw, Told, Whole};

pub(super) fn hold(whole: &Whole<'_>, saw: &mut Saw) {
    let Whole { simulated, told, seed } = whole;
    calls(simulated, told, seed, saw);
    let is_cleaning = told.iter().any(|told| told.run.in_order().any(|step| is_own(&step.planned.role)));
    for told in *told {
        if !is_cleaning {
            costs(told, seed, saw);
        }
        within_reserve(told, whole.told, is_cleaning, seed, saw);
    }
    if let Some(root) = told.iter().find(|told| told.run.id == simulated.run) {
        per_tool(root, told, seed, saw);
        // Of a process that died nothing is under way, though the logs say so until they are taken over.
        if simulated.crashes == 0 && !simulated.has_jumps {
            at_once(root, told, seed, saw);
        }
    }
    if !simulated.has_jumps {
        left_alone(&simulated.world.requests(), seed, saw);
    }
    retries(simulated, told, seed, saw);
}

/// What takes back, or asks, is bounded by what was done and not by the budget.
fn is_own(role: &Role) -> bool {
    matches!(role, Role::Undo { .. } | Role::Reconcile { .. })
}

/// Calls of all runs together, those within the run included, are no more than the first one may make.
fn calls(simulated: &Simulated, told: &[Told], seed: &str, saw: &mut Saw) {
    // One whose process died is the same call when it goes on.
    let is_again = |event: &&Event| matches!(event.fact, Fact::StepInterrupted { .. });
    let calls = told.iter().map(|told| {
        let again = told.events.iter().filter(is_again).count();
        simulated.world.calls(&told.run.id).saturating_sub(again)
    });
    let calls: usize = calls.sum();
    let calls_max = told.iter().find(|told| told.run.id == simulated.run).map_or(0, |told| told.run.budget.calls_max);
    let is_within = u32::try_from(calls).is_ok_and(|calls| calls <= calls_max);
    saw.note_if(calls * 2 > calls_max as usize, "calls are within the budget");
    assert!(is_within, "{seed}: {calls} calls, {calls_max} allowed");
}

/// Money, fuel and bytes spent are no more than there were.
fn costs(told: &Told, seed: &str, saw: &mut Saw) {
    let (budget, Cost { calls, fuel, bytes, usd_micros, tokens, .. }) = (&told.run.budget, told.run.spent);
    let usd_micros_max = budget.usd_micros_max.unwrap_or(u64::MAX);
    let tokens_max = budget.tokens_max.unwrap_or(u64::MAX);
    let is_within = calls <= budget.calls_max
        && fuel <= budget.fuel_max
        && bytes <= budget.bytes_max
        && usd_micros <= usd_micros_max
        && tokens <= tokens_max;
    assert!(is_within, "{seed}: {} spent {:?} of {budget:?}", told.run.id, told.run.spent);
    saw.note("what is spent is within the budget");
    saw.note_if(usd_micros_max < u64::MAX && usd_micros > 0, "money is within the budget");
    saw.note_if(tokens_max < u64::MAX && tokens > 0, "tokens are within the budget");
    saw.note_if(budget.fuel_max < 1_000_000_000_000 && fuel > budget.fuel_max / 2, "fuel is near the cap");
}

/// Calls of one tool that plans made, of all runs together, are no more than the first one may make. One whose process died
/// is the same call when it goes on.
fn per_tool(root: &Told, told: &[Told], seed: &str, saw: &mut Saw) {
    let mut calls: HashMap<_, u32> = HashMap::new();
    for Told { run, events, .. } in told {
        for event in events {
            let (step, is_begun) = match &event.fact {
                Fact::StepStarted { step, run: None, .. } => (step, true),
                Fact::StepInterrupted { step, .. } => (step, false),
                _ => continue,
            };
            let Some(step) = run.step(step).filter(|step| !is_own(&step.planned.role)) else { continue };
            if step.run.is_some() {
                continue;
            }
            let count = calls.entry(&step.planned.tool).or_default();
            *count = if is_begun { *count + 1 } else { *count - 1 };
        }
    }
    let calls_max = root.run.budget.calls_per_tool_max;
    for (tool, calls) in calls {
        assert!(calls <= calls_max, "{seed}: {calls} calls of {tool}, {calls_max} allowed:\n{}", super::lines(told));
        saw.note_if(calls == calls_max, "a tool is called as often as it may be");
    }
}

/// No more calls are under way at one time, in all runs together, than the first one may have. At equal times those that
/// ended count first.
fn at_once(root: &Told, told: &[Told], seed: &str, saw: &mut Saw) {
    let mut moves = Vec::new();
    for Told { run, events, .. } in told {
        let is_call = |step: &StepId| run.step(step).is_some_and(|step| step.run.is_none());
        for event in events {
            match &event.fact {
                Fact::StepStarted { step, run: None, .. } if is_call(step) => moves.push((event.at, 1)),
                Fact::StepEnded { step, .. } | Fact::StepInterrupted { step, .. } if is_call(step) => {
                    moves.push((event.at, -1));
                }
                _ => {}
            }
        }
    }
    moves.sort_unstable();
    let under_way = moves.into_iter().scan(0_i64, |now, (_, change)| {
        *now += change;
        Some(*now)
    });
    let (most, may) = (under_way.max().unwrap_or(0), i64::from(root.run.budget.parallel_max.max(1)));
    assert!(most <= may, "{seed}: {most} calls under way at one time, {may} allowed:\n{}", super::lines(told));
    saw.note_if(most == may && told.len() > 1, "as much goes on at once in all runs as may");
}

/// A run within the run has what was reserved for it, and takes no more.
fn within_reserve(child: &Told, all: &[Told], is_cleaning: bool, seed: &str, saw: &mut Saw) {
    let Some(parent) = child.run.parent.as_ref().filter(|_| child.run.takes_back().is_none()) else { return };
    let above = all.iter().find(|told| told.run.id == parent.run).expect("the run above is there");
    let reserved = above.events.iter().rev().find_map(|event| match &event.fact {
        Fact::StepStarted { step, reserved, run: Some(run), .. } if *step == parent.step && *run == child.run.id => {
            Some(*reserved)
        }
        _ => None,
    });
    let reserved = reserved.unwrap_or_else(|| panic!("{seed}: nobody began {}", child.run.id));
    let budget = &child.run.budget;
    let has_it = budget.calls_max <= reserved.calls
        && budget.fuel_max <= reserved.fuel
        && budget.planner_turns_max <= reserved.turns
        && budget.usd_micros_max.is_none_or(|most| most <= reserved.usd_micros)
        && budget.tokens_max.is_none_or(|most| most <= reserved.tokens);
    assert!(has_it, "{seed}: {} may spend {budget:?} of {reserved:?}", child.run.id);
    let spent = child.run.spent;
    let is_bounded = spent.calls <= reserved.calls && spent.fuel <= reserved.fuel && spent.bytes <= reserved.bytes;
    let is_paid = budget.usd_micros_max.is_none() || spent.usd_micros <= reserved.usd_micros;
    let is_within = is_bounded && is_paid && (budget.tokens_max.is_none() || spent.tokens <= reserved.tokens);
    assert!(is_cleaning || is_within, "{seed}: {} spent {spent:?} of {reserved:?}", child.run.id);
    saw.note("a run within the run takes no more than was reserved for it");
}

/// What is known of a server by whoever counts along.
#[derive(Default)]
struct Server {
    failures: u32,
    open_until: Option<Timestamp>,
    probe: Option<usize>,
}

/// A server that failed so often is left alone for a while, and then asked once.
fn left_alone(requests: &[Request], seed: &str, saw: &mut Saw) {
    let mut servers: HashMap<(u32, &str, &str), Server> = HashMap::new();
    for request in requests {
        let server = servers.entry((request.process, &request.tool, &request.server)).or_default();
        match (request.what, server.open_until) {
            (Sent::Begun(n), Some(until)) => {
                let what = format!("{seed}: `{}` asks {} at {:?}", request.tool, request.server, request.at);
                assert!(request.at >= until, "{what}, which is to be left alone until {until:?}");
                assert!(server.probe.is_none(), "{what}, and somebody asks already whether it is there again");
                server.probe = Some(n);
                saw.note("a server that was left alone is asked once");
            }
            (Sent::Begun(_), None) => {}
            (Sent::Ended { is_down: false, .. }, _) => *server = Server::default(),
            // One that had begun before tells nothing new.
            (Sent::Ended { n, .. }, Some(_)) if server.probe != Some(n) => {}
            (Sent::Ended { .. }, _) => {
                server.failures += 1;
                server.probe = None;
                if server.failures >= BREAKER_FAILURES_MAX {
                    server.open_until = Some(request.at.plus_ms(BREAKER_OPEN_MS));
                    saw.note("a server that failed too often is left alone");
                }
            }
        }
    }
}

/// Each process gives a server few more requests than there were calls.
fn retries(simulated: &Simulated, told: &[Told], seed: &str, saw: &mut Saw) {
    if !simulated.is_shared {
        return;
    }
    let mut counts: HashMap<_, (u32, u32)> = HashMap::new();
    for Told { run, events, .. } in told {
        for event in events {
            let tool = event.fact.step().and_then(|step| run.step(step)).map(|step| step.planned.tool.clone());
            let Some(tool) = tool.filter(|_| run.parent.is_none()) else { continue };
            let (firsts, again) = counts.entry((event.epoch, tool)).or_default();
            match &event.fact {
                Fact::StepStarted { attempt: 1, .. } => *firsts += 1,
                Fact::StepEnded { retry: Some(_), .. } => *again += 1,
                _ => {}
            }
        }
    }
    for ((epoch, tool), (firsts, again)) in counts {
        let again_max = RETRY_TOKENS_MAX + firsts * RETRY_MILLITOKENS_PER_CALL / 1_000;
        assert!(again <= again_max, "{seed}: {tool} was tried again {again} times by process {epoch}");
        saw.note_if(again > RETRY_TOKENS_MAX / 3, "a server is given few more requests than there were calls");
    }
}
