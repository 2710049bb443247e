//! What a run's events tell of its calls: which were made, with what, and how they ended.

use std::collections::BTreeMap;

use crate::domain::{
    Budget, Decision, Digest, Effect, Event, Fact, Failure, Kind, PlannedStep, Principal, RunId, Seq, Settlement,
    StepEnd, StepId, ToolName,
};
use crate::host::replay::base;
use crate::orchestrator::Told;

/// A call that was made and ended.
pub(super) struct Made {
    pub(super) step: StepId,
    pub(super) tool: ToolName,
    /// The attempts of one call: more than one where a process died, and another went on.
    pub(super) attempts: Vec<u32>,
    pub(super) args: Digest,
    pub(super) key: Digest,
    pub(super) component: Digest,
    pub(super) end: StepEnd,
    pub(super) host_calls: Option<Digest>,
    /// The run that carried it out, where it is one.
    pub(super) run: Option<Carrier>,
    /// What its end tells of that run.
    pub(super) left: Told,
    /// The worst that it could do.
    pub(super) effect: Effect,
    /// The event that tells how it ended.
    pub(super) seq: Seq,
}

/// A run within the run, as the run around it tells.
#[derive(Clone)]
pub(super) struct Carrier {
    pub(super) run: RunId,
    /// The run that was to carry the same step out before.
    pub(super) before: Option<RunId>,
}

/// A plan that was accepted.
pub(super) struct Turn {
    pub(super) turn: u32,
    /// The event that tells of it.
    pub(super) seq: Seq,
    pub(super) reply: Digest,
    pub(super) plan: Digest,
    /// By which rules it was checked.
    pub(super) checked_by: u16,
    /// What the planner was shown.
    pub(super) pack: Option<Digest>,
    /// Steps of earlier turns that had succeeded, and whether they were done for each item of a list.
    pub(super) earlier: BTreeMap<StepId, (ToolName, bool)>,
}

/// What a run did, as far as it can be played back.
pub(super) struct Story {
    pub(super) principal: Principal,
    pub(super) goal: Digest,
    pub(super) budget: Budget,
    /// Whether its planner reads what steps brought, and goes on.
    pub(super) reads: bool,
    pub(super) turns: Vec<Turn>,
    pub(super) made: Vec<Made>,
}

/// A call under way.
#[derive(Clone)]
struct Open {
    attempts: Vec<u32>,
    component: Digest,
    effect: Effect,
    run: Option<Carrier>,
}

#[derive(Default)]
struct Reader {
    planned: BTreeMap<StepId, PlannedStep>,
    ready: BTreeMap<StepId, (Digest, Digest)>,
    open: BTreeMap<StepId, Open>,
    /// The runs that were to carry steps out last.
    runs: BTreeMap<StepId, RunId>,
    packs: BTreeMap<u32, Digest>,
    turns: Vec<Turn>,
    made: Vec<Made>,
    outputs: BTreeMap<StepId, Digest>,
}

impl Story {
    /// Reads the events of a run.
    ///
    /// # Errors
    /// `data.conflict` where it is no run.
    pub(super) fn of(events: &[Event], run: &RunId) -> Result<Self, Failure> {
        let created = events.iter().find_map(|event| match &event.fact {
            Fact::RunCreated { principal, goal, budget, is_single_plan, .. } => {
                Some((principal.clone(), *goal, budget.clone(), !is_single_plan))
            }
            _ => None,
        });
        let no_run = || Failure::new(Kind::DataConflict, format!("play `{run}` back: it is not a run"));
        let (principal, goal, budget, reads) = created.ok_or_else(|| no_run().hint("list runs with `runs`"))?;
        let mut reader = Reader::default();
        for event in events {
            reader.read(event.seq, &event.fact);
        }
        let Reader { turns, made, .. } = reader;
        Ok(Self { principal, goal, budget, reads, turns, made })
    }
}

impl Reader {
    fn read(&mut self, seq: Seq, fact: &Fact) {
        match fact {
            Fact::PlanRequested { turn, pack, .. } => drop(self.packs.insert(*turn, *pack)),
            Fact::PlanAccepted { turn, reply, plan, steps, checked_by, .. } => {
                let earlier = self.outputs.keys().filter_map(|id| Some((id.clone(), self.planned.get(id)?)));
                let earlier = earlier.map(|(id, step)| (id, (step.tool.clone(), step.items.is_some()))).collect();
                let pack = self.packs.get(turn).copied();
                let (turn, reply, plan, checked_by) = (*turn, *reply, *plan, *checked_by);
                self.turns.push(Turn { turn, seq, reply, plan, checked_by, pack, earlier });
                self.plan(steps);
            }
            Fact::UndoBegun { steps, .. } => self.plan(steps),
            Fact::ReconcileBegun { step, .. } => self.plan(std::slice::from_ref(step)),
            Fact::StepReady { step, args, key, .. }
            | Fact::ApprovalDecided { step, decision: Decision::Modify { args, key, .. }, .. } => {
                self.ready.insert(step.clone(), (*args, *key));
            }
            Fact::StepStarted { step, attempt, component, effect, run, .. } => {
                let run = run.clone().map(|run| {
                    let before = self.runs.insert(step.clone(), run.clone());
                    Carrier { run, before }
                });
                let (component, effect) = (*component, *effect);
                let begun = || Open { attempts: Vec::new(), component, effect, run };
                let open = self.open.entry(step.clone()).or_insert_with(begun);
                open.attempts.push(*attempt);
            }
            Fact::StepEnded {
                step, end, host_calls, cost, within, has_written, has_open_write, has_caveats, ..
            } => {
                let left = Told {
                    cost: *cost,
                    has_caveats: *has_caveats,
                    has_written: *has_written,
                    has_open_write: *has_open_write,
                    within: within.clone(),
                };
                self.ended(seq, (step, end), *host_calls, left);
            }
            // Nobody saw the call end, and none goes on with it: what starts after that is another call.
            Fact::StepUnknown { step, .. } | Fact::StepRejected { step, .. } | Fact::ApprovalExpired { step, .. } => {
                self.open.remove(step);
            }
            Fact::StepGathered { step, end: StepEnd::Succeeded { output } } | Fact::StepCached { step, output, .. } => {
                self.outputs.insert(step.clone(), *output);
            }
            Fact::StepSettled { step, settlement, .. } => {
                self.open.remove(step);
                if let Settlement::Done { output } = settlement {
                    self.outputs.insert(step.clone(), *output);
                }
            }
            _ => {}
        }
    }

    fn plan(&mut self, steps: &[PlannedStep]) {
        self.planned.extend(steps.iter().map(|step| (step.id.clone(), step.clone())));
    }

    fn ended(&mut self, seq: Seq, (step, end): (&StepId, &StepEnd), host_calls: Option<Digest>, left: Told) {
        if let StepEnd::Succeeded { output } = end {
            self.outputs.insert(step.clone(), *output);
        }
        let planned = self.planned.get(step).or_else(|| self.planned.get(&base(step)?));
        let (Some(planned), Some((args, key)), Some(open)) = (planned, self.ready.get(step), self.open.remove(step))
        else {
            return;
        };
        let Open { attempts, component, effect, run } = open;
        self.made.push(Made {
            step: step.clone(),
            tool: planned.tool.clone(),
            attempts,
            args: *args,
            key: *key,
            component,
            end: end.clone(),
            host_calls,
            run,
            left,
            effect,
            seq,
        });
    }
}
