//! The graph of a checked plan: every edge along which something may ever happen.
//!
//! Promises: what a run of the plan does, it does along these edges. What happens is a path, and this is the map.

use serde::Serialize;

use crate::domain::{Effect, Json, OnFailure, StepId, literal, reference};
use crate::orchestrator::check::{CheckedPlan, CheckedStep, RUN_TOOL};
use crate::orchestrator::condition::Condition;

/// The steps of a plan and what leads from one to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Graph {
    pub nodes: Vec<Node>,
    pub edges: Vec<Edge>,
}

/// A step, or something that a step may lead to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// The step's full id, and behind a `:` what becomes of it: `t1.pay`, `t1.pay:undo`.
    pub id: String,
    pub kind: NodeKind,
    /// The tool, `component.function`; empty for a person.
    pub tool: String,
    pub effect: Option<Effect>,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    Step,
    /// Each item of a list for which a step is done.
    Item,
    /// A person who approves.
    Approval,
    /// The call that takes a step back.
    Undo,
    /// The call that tells what became of a step.
    Reconcile,
    /// A run within the run.
    Run,
}

/// What leads from one node to another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Edge {
    pub from: String,
    pub to: String,
    pub kind: EdgeKind,
}

/// Why one node comes behind another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgeKind {
    /// The output of one is part of the other's arguments.
    Data,
    /// It must succeed first.
    Needs,
    /// It must have ended first.
    After,
    /// A condition looks at it.
    When,
    /// One stands in for the other where it fails.
    Fallback,
    /// A list's step leads to each of its items.
    Item,
    /// A person is asked before it runs.
    Approval,
    /// It may be taken back.
    Undo,
    /// It may be asked what became of it.
    Reconcile,
    /// The step is a run within the run.
    Run,
}

/// Returns the graph of a checked plan.
pub fn graph(plan: &CheckedPlan) -> Graph {
    let mut graph = Graph { nodes: Vec::new(), edges: Vec::new() };
    for step in &plan.steps {
        graph.step(step);
    }
    graph.stand_in();
    graph.edges.sort();
    graph.edges.dedup();
    graph
}

impl Graph {
    fn node(&mut self, id: String, kind: NodeKind, tool: &str, effect: Option<Effect>) {
        self.nodes.push(Node { id, kind, tool: tool.to_owned(), effect });
    }

    fn edge(&mut self, from: &str, to: &str, kind: EdgeKind) {
        self.edges.push(Edge { from: from.to_owned(), to: to.to_owned(), kind });
    }

    /// Who waits for a step waits for the one that takes its place, and has its output.
    fn stand_in(&mut self) {
        let stands_in = |edge: &&Edge| edge.kind == EdgeKind::Fallback;
        let fallbacks: Vec<Edge> = self.edges.iter().filter(stands_in).cloned().collect();
        let leads_on = |kind| matches!(kind, EdgeKind::Data | EdgeKind::Needs | EdgeKind::After | EdgeKind::When);
        // A chain of them is followed to its end: each is one of the steps, and there is no circle.
        for _ in 0..fallbacks.len() {
            let mut more = Vec::new();
            for fallback in &fallbacks {
                let onward = self.edges.iter().filter(|edge| edge.from == fallback.from && leads_on(edge.kind));
                more.extend(onward.map(|edge| Edge { from: fallback.to.clone(), ..edge.clone() }));
            }
            more.retain(|edge| edge.from != edge.to && !self.edges.contains(edge));
            if more.is_empty() {
                break;
            }
            self.edges.extend(more);
        }
    }

    fn step(&mut self, step: &CheckedStep) {
        let (planned, id) = (&step.planned, step.planned.id.as_str());
        let tool = planned.tool.to_string();
        self.node(id.to_owned(), NodeKind::Step, &tool, Some(planned.effect));
        self.waits(step);
        if let OnFailure::Fallback(fallback) = &planned.on_failure {
            self.edge(id, fallback, EdgeKind::Fallback);
        }
        // What a step that repeats does is done by its items.
        let doer = match planned.items {
            None => id.to_owned(),
            Some(_) => {
                let item = format!("{id}:item");
                self.node(item.clone(), NodeKind::Item, &tool, Some(planned.effect));
                self.edge(id, &item, EdgeKind::Item);
                item
            }
        };
        if step.approval || step.asks.is_some() {
            self.asked(&doer);
        }
        if let Some(undo) = &step.undo {
            let undo = self.beside(&doer, "undo", NodeKind::Undo, &undo.tool, EdgeKind::Undo);
            self.asked(&undo);
        }
        if let Some(reconcile) = &step.reconcile {
            let reconcile = self.beside(&doer, "reconcile", NodeKind::Reconcile, &reconcile.tool, EdgeKind::Reconcile);
            self.asked(&reconcile);
        }
        if step.run.is_some() {
            self.beside(&doer, "run", NodeKind::Run, &format!("{}.{}", RUN_TOOL.0, RUN_TOOL.1), EdgeKind::Run);
        }
    }

    fn beside(&mut self, id: &str, what: &str, kind: NodeKind, tool: &str, edge: EdgeKind) -> String {
        let other = format!("{id}:{what}");
        self.node(other.clone(), kind, tool, None);
        self.edge(id, &other, edge);
        other
    }

    /// Policy may ask about the calls that are made of a step's too.
    fn asked(&mut self, id: &str) {
        self.beside(id, "approval", NodeKind::Approval, "", EdgeKind::Approval);
    }

    fn waits(&mut self, step: &CheckedStep) {
        let id = step.planned.id.as_str();
        let mut data = Vec::new();
        [&step.args].into_iter().chain(step.for_each.iter().map(|each| &each.list)).for_each(|value| {
            referred(value, &mut data);
        });
        for from in &data {
            self.edge(from, id, EdgeKind::Data);
        }
        let condition = step.when.as_deref().and_then(|text| Condition::parse(text).ok());
        let looked_at: Vec<String> = condition.iter().flat_map(|condition| condition.steps().clone()).collect();
        for from in &looked_at {
            self.edge(from, id, EdgeKind::When);
        }
        let is_data = |from: &&StepId| data.iter().any(|told| told == from.as_str());
        let is_looked_at = |from: &&StepId| looked_at.iter().any(|told| told == from.as_str());
        let needs: Vec<_> = step.planned.needs.iter().filter(|from| !is_data(from)).collect();
        let after: Vec<_> = step.planned.after.iter().filter(|from| !is_data(from) && !is_looked_at(from)).collect();
        for (from, kind) in needs
            .into_iter()
            .map(|from| (from, EdgeKind::Needs))
            .chain(after.into_iter().map(|from| (from, EdgeKind::After)))
        {
            self.edge(from.as_str(), id, kind);
        }
    }
}

/// The steps whose output is part of a value.
fn referred(value: &Json, found: &mut Vec<String>) {
    if literal(value).is_some() {
        return;
    }
    if let Ok(Some(reference)) = reference(value) {
        return found.push(reference.step.to_owned());
    }
    match value {
        Json::Array(items) => items.iter().for_each(|item| referred(item, found)),
        Json::Object(fields) => fields.values().for_each(|field| referred(field, found)),
        _ => {}
    }
}
