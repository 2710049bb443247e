//! What many runs add up to: how often they succeed, how long they take, what they cost. A pure fold over the events of the
//! log, so that any time that has passed can be reckoned again, by anybody who has the log.
//!
//! A goal is a run that is within no other: what happened in runs within it, and in those that take it back, is its own.
//! It has succeeded where the machine says so: its steps are done, and its conditions hold. What it cost is all that its
//! requests to models and its calls cost, whatever became of it; and what a *successful* goal costs is all that all goals
//! cost, divided by those that succeeded. What nobody knows is counted and told, and never taken for nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::domain::{Event, RunId, Timestamp};

mod facts;
mod rows;
mod spread;

use super::requests::RequestFact;
use facts::{LoneFact, RunFacts};
use rows::Sums;

pub use rows::{GoalRow, KindRow, RequestRow, ToolRow};
pub use spread::Spread;

/// Runs around a run that are gone through: more than a budget allows of depth.
const DEPTH_MAX: usize = 64;

/// What rows stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// One row for all goals.
    #[default]
    All,
    Planner,
    /// The models that were asked for a goal: all of them, as none has brought it about alone.
    Model,
    /// The tiers of these models.
    Tier,
    Toolset,
    Tool,
    /// Kinds of failures.
    Kind,
}

/// The goals that count: created at `since` or later, and before `until`. Lone calls count by when they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Window {
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

/// What was found, row by row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stats {
    pub by: By,
    #[serde(flatten)]
    pub window: Window,
    pub rows: Rows,
    /// Runs that count nowhere, as their events cannot be read.
    pub unreadable: Vec<RunId>,
    /// Runs within others that are gone or cannot be read: they count nowhere either.
    pub orphaned: Vec<RunId>,
    /// Older runs that were not looked at.
    pub is_cut: bool,
}

/// Sorted by their key; goals first of those that are most.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Rows {
    Goals(Vec<GoalRow>),
    Tools(Vec<ToolRow>),
    Kinds(Vec<KindRow>),
}

/// What is known of many runs. Filled log by log, in any order.
#[derive(Default)]
pub struct Fold {
    runs: BTreeMap<RunId, RunFacts>,
    lone: Vec<LoneFact>,
    unreadable: Vec<RunId>,
    is_cut: bool,
}

impl Fold {
    /// Takes all events of a run, or of a session of lone calls.
    pub fn take(&mut self, run: &RunId, events: &[Event]) {
        match RunFacts::of(events) {
            Some(facts) => drop(self.runs.insert(run.clone(), facts)),
            None => self.lone.extend(facts::lone(events)),
        }
    }

    /// Notes a run whose events cannot be read.
    pub fn unreadable(&mut self, run: &RunId) {
        self.unreadable.push(run.clone());
    }

    /// Notes that there are older runs, which are not looked at.
    pub fn cut(&mut self) {
        self.is_cut = true;
    }

    /// Reckons the rows.
    pub fn stats(&self, by: By, window: Window) -> Stats {
        let mut groups: BTreeMap<String, Sums> = BTreeMap::new();
        let mut orphaned = Vec::new();
        let families = self.families(&mut orphaned);
        for (root, within) in &families {
            let Some(facts) = self.runs.get(*root).filter(|facts| window.holds(facts.created)) else { continue };
            let members = || within.iter().filter_map(|run| self.runs.get(*run));
            let sums = groups.entry(key(by, facts, members())).or_default();
            sums.goal(facts);
            members().for_each(|run| sums.run(run));
        }
        if matches!(by, By::Tool | By::Kind) {
            let lone = self.lone.iter().filter(|lone| window.holds(lone.at));
            lone.for_each(|lone| groups.entry(String::new()).or_default().lone(lone));
        }
        let rows = rows::of(by, groups);
        Stats { by, window, rows, unreadable: self.unreadable.clone(), orphaned, is_cut: self.is_cut }
    }

    /// Returns, by the run that is within no other, all runs of its goal, itself included.
    fn families<'a>(&'a self, orphaned: &mut Vec<RunId>) -> BTreeMap<&'a RunId, Vec<&'a RunId>> {
        let mut families: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for run in self.runs.keys() {
            match self.root(run) {
                Some(root) => families.entry(root).or_default().push(run),
                None => orphaned.push(run.clone()),
            }
        }
        families
    }

    fn root<'a>(&'a self, run: &'a RunId) -> Option<&'a RunId> {
        let mut at = run;
        for _ in 0..DEPTH_MAX {
            match &self.runs.get(at)?.parent {
                None => return Some(at),
                Some(parent) => at = parent,
            }
        }
        None
    }
}

impl Window {
    fn holds(&self, at: Timestamp) -> bool {
        self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at < until)
    }
}

/// The row to which a goal belongs.
fn key<'a>(by: By, goal: &RunFacts, members: impl Iterator<Item = &'a RunFacts>) -> String {
    match by {
        By::All | By::Tool | By::Kind => String::new(),
        By::Planner => goal.planner.clone(),
        By::Toolset => goal.toolset.to_string(),
        By::Model => together(members, |request| &request.model),
        By::Tier => together(members, |request| &request.tier),
    }
}

/// All that was asked for a goal, each once.
fn together<'a>(members: impl Iterator<Item = &'a RunFacts>, of: impl Fn(&RequestFact) -> &str) -> String {
    let names: BTreeSet<&str> = members.flat_map(|run| run.requests.sent.iter().map(&of)).collect();
    names.into_iter().collect::<Vec<_>>().join(" + ")
}
