//! Sums of runs, and the rows that they make.

use std::collections::BTreeMap;

use serde::Serialize;

use super::facts::{CallFact, LoneFact, RunFacts};
use super::spread::Spread;
use super::{By, Rows};
use crate::domain::{Kind, Tokens, usd};
use crate::telemetry::requests::RequestFact;

/// What goals of one sort add up to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GoalRow {
    /// What they have in common: a planner, models, tiers, a toolset. Empty where all are one, or no model was asked.
    pub key: String,
    pub goals: u64,
    /// How they ended; `open` has not yet.
    pub ends: BTreeMap<&'static str, u64>,
    /// Of those that ended, in thousandths; `None` where none has.
    pub success_permille: Option<u64>,
    /// From creation to end, with all waiting, in milliseconds.
    pub wall_ms: Option<Spread>,
    pub tokens: Tokens,
    /// US dollars, as decimal text: all that is known to be spent.
    pub usd: String,
    /// Of that, what models took.
    pub usd_models: String,
    /// And what tools took.
    pub usd_tools: String,
    /// All that was spent, divided by the goals that succeeded; `None` where none did.
    pub usd_per_success: Option<String>,
    /// Requests of which nobody knows what they cost: the money is more by that.
    pub requests_unpriced: u64,
    pub requests: Vec<RequestRow>,
    pub tools: Vec<ToolRow>,
    pub failures: Vec<KindRow>,
}

/// What requests to one model add up to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RequestRow {
    pub model: String,
    pub requests: u64,
    /// Those that brought no reply.
    pub failed: u64,
    /// Those whose reply was no plan that can run.
    pub rejected: u64,
    pub unpriced: u64,
    pub tokens: Tokens,
    pub usd: String,
    pub wall_ms: Option<Spread>,
    pub first_token_ms: Option<Spread>,
}

/// What calls of one tool add up to. Each attempt is one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ToolRow {
    pub tool: String,
    pub calls: u64,
    pub failed: u64,
    pub usd: String,
    pub wall_ms: Option<Spread>,
    /// How often each kind of failure ended one.
    pub failures: BTreeMap<&'static str, u64>,
}

/// How often something failed in one way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KindRow {
    pub kind: &'static str,
    /// Goals that ended so.
    pub goals: u64,
    /// Attempts of steps, steps that were not let begin, and lone calls.
    pub calls: u64,
    /// Requests to models, those included that were not sent.
    pub requests: u64,
}

/// Sums on their way to a row.
#[derive(Default)]
pub(super) struct Sums {
    goals: u64,
    ends: BTreeMap<&'static str, u64>,
    succeeded: u64,
    wall_ms: Vec<u64>,
    requests: BTreeMap<String, RequestSums>,
    tools: BTreeMap<String, ToolSums>,
    kinds: BTreeMap<&'static str, [u64; 3]>,
}

#[derive(Default)]
struct RequestSums {
    requests: u64,
    failed: u64,
    rejected: u64,
    unpriced: u64,
    tokens: Tokens,
    picos: u128,
    wall_ms: Vec<u64>,
    first_token_ms: Vec<u64>,
}

#[derive(Default)]
struct ToolSums {
    calls: u64,
    failed: u64,
    picos: u128,
    wall_ms: Vec<u64>,
    failures: BTreeMap<&'static str, u64>,
}

/// Where a kind of failure was met.
const GOAL: usize = 0;
const CALL: usize = 1;
const REQUEST: usize = 2;

impl Sums {
    /// Counts a goal by its outermost run.
    pub(super) fn goal(&mut self, goal: &RunFacts) {
        self.goals += 1;
        *self.ends.entry(goal.end.as_ref().map_or("open", |end| end.name)).or_default() += 1;
        let Some(end) = &goal.end else { return };
        self.succeeded += u64::from(end.is_success());
        self.wall_ms.push(end.wall_ms);
        if let Some(kind) = end.kind {
            self.met(kind, GOAL);
        }
    }

    /// Counts what a run of a goal did.
    pub(super) fn run(&mut self, run: &RunFacts) {
        run.requests.sent.iter().for_each(|request| self.request(request));
        run.requests.unsent.iter().for_each(|kind| self.met(*kind, REQUEST));
        run.calls.iter().for_each(|call| self.call(call));
        run.rejected.iter().for_each(|kind| self.met(*kind, CALL));
    }

    /// Counts a call that belongs to no run.
    pub(super) fn lone(&mut self, lone: &LoneFact) {
        self.call(&lone.call);
    }

    fn request(&mut self, request: &RequestFact) {
        let sums = self.requests.entry(request.model.clone()).or_default();
        sums.requests += 1;
        sums.failed += u64::from(request.failure.is_some());
        sums.rejected += u64::from(request.is_rejected);
        sums.unpriced += u64::from(request.picos.is_none());
        sums.tokens = sums.tokens.plus(request.tokens.unwrap_or_default());
        sums.picos = sums.picos.saturating_add(request.picos.unwrap_or_default());
        sums.wall_ms.extend(request.wall_ms);
        sums.first_token_ms.extend(request.first_token_ms);
        if let Some(kind) = request.failure {
            self.met(kind, REQUEST);
        }
    }

    fn call(&mut self, call: &CallFact) {
        let sums = self.tools.entry(call.tool.to_string()).or_default();
        sums.calls += 1;
        sums.picos = sums.picos.saturating_add(call.picos);
        sums.wall_ms.extend(call.wall_ms);
        if let Some(kind) = call.failure {
            sums.failed += 1;
            *sums.failures.entry(kind.code()).or_default() += 1;
            self.met(kind, CALL);
        }
    }

    fn met(&mut self, kind: Kind, at: usize) {
        if let Some(count) = self.kinds.entry(kind.code()).or_default().get_mut(at) {
            *count += 1;
        }
    }

    fn row(self, key: String) -> GoalRow {
        let models = self.requests.values().fold(0, |sum: u128, of| sum.saturating_add(of.picos));
        let tools = self.tools.values().fold(0, |sum: u128, of| sum.saturating_add(of.picos));
        let all = models.saturating_add(tools);
        let ended: u64 = self.ends.iter().filter(|(end, _)| **end != "open").map(|(_, count)| count).sum();
        GoalRow {
            key,
            goals: self.goals,
            success_permille: (self.succeeded * 1_000).checked_div(ended),
            wall_ms: Spread::of(self.wall_ms),
            tokens: self.requests.values().fold(Tokens::default(), |sum, of| sum.plus(of.tokens)),
            usd: usd(all),
            usd_models: usd(models),
            usd_tools: usd(tools),
            // To the nearest picodollar.
            usd_per_success: all
                .saturating_add(u128::from(self.succeeded / 2))
                .checked_div(u128::from(self.succeeded))
                .map(usd),
            requests_unpriced: self.requests.values().map(|of| of.unpriced).sum(),
            ends: self.ends,
            requests: self.requests.into_iter().map(|(model, sums)| sums.row(model)).collect(),
            tools: self.tools.into_iter().map(|(tool, sums)| sums.row(tool)).collect(),
            failures: kinds(self.kinds),
        }
    }
}

impl RequestSums {
    fn row(self, model: String) -> RequestRow {
        let Self { requests, failed, rejected, unpriced, tokens, picos, wall_ms, first_token_ms } = self;
        let (usd, wall_ms, first_token_ms) = (usd(picos), Spread::of(wall_ms), Spread::of(first_token_ms));
        RequestRow { model, requests, failed, rejected, unpriced, tokens, usd, wall_ms, first_token_ms }
    }
}

impl ToolSums {
    fn row(self, tool: String) -> ToolRow {
        let Self { calls, failed, picos, wall_ms, failures } = self;
        ToolRow { tool, calls, failed, usd: usd(picos), wall_ms: Spread::of(wall_ms), failures }
    }
}

fn kinds(kinds: BTreeMap<&'static str, [u64; 3]>) -> Vec<KindRow> {
    let row = |(kind, [goals, calls, requests]): (_, [u64; 3])| KindRow { kind, goals, calls, requests };
    kinds.into_iter().map(row).collect()
}

/// Makes the rows. Goals first of which there are most.
pub(super) fn of(by: By, groups: BTreeMap<String, Sums>) -> Rows {
    let all = |groups: BTreeMap<String, Sums>| groups.into_values().next().unwrap_or_default();
    match by {
        By::Tool => Rows::Tools(all(groups).tools.into_iter().map(|(tool, sums)| sums.row(tool)).collect()),
        By::Kind => Rows::Kinds(kinds(all(groups).kinds)),
        By::All | By::Planner | By::Model | By::Tier | By::Toolset => {
            let mut rows: Vec<_> = groups.into_iter().map(|(key, sums)| sums.row(key)).collect();
            rows.sort_by(|a, b| b.goals.cmp(&a.goals).then_with(|| a.key.cmp(&b.key)));
            Rows::Goals(rows)
        }
    }
}
