//! What a run wants done next: a pure function of the run and the time.
//!
//! Steps run as soon as what they need is there, in parallel; two that change something keep the order of the plan, so
//! that what they do to the world does not depend on luck. A failure spreads along data edges only.

use crate::domain::{Caveat, CaveatKind, StepId, Suspension, Timestamp};
use crate::orchestrator::machine::{Command, Ending, Run, RunStatus, Step, StepStatus, fails_run};

pub(super) fn next(run: &Run, now: Timestamp) -> Vec<Command> {
    match &run.status {
        RunStatus::Ended(_) => Vec::new(),
        _ if run.cancelled_by.is_some() => stop(run),
        RunStatus::Suspended(_) => Vec::new(),
        _ if is_out_of_time(run, now) => out_of(run, "wall_ms_max"),
        RunStatus::Planning => plan(run),
        RunStatus::Executing => execute(run),
    }
}

fn is_out_of_time(run: &Run, now: Timestamp) -> bool {
    now.ms_since(run.since) >= run.budget.wall_ms_max
}

/// Lets what runs be stopped, then ends.
fn stop(run: &Run) -> Vec<Command> {
    if is_running(run) {
        return vec![Command::StopCalls];
    }
    let by = run.cancelled_by.clone().unwrap_or_default();
    vec![end(run, Ending::Cancelled { by })]
}

fn out_of(run: &Run, what: &'static str) -> Vec<Command> {
    if is_running(run) { vec![Command::StopCalls] } else { vec![end(run, Ending::Budget { what })] }
}

fn plan(run: &Run) -> Vec<Command> {
    let planning = &run.planning;
    if let Some((kind, failure)) = planning.failed {
        return vec![end(run, Ending::PlannerFailed { kind, failure })];
    }
    if run.is_refused_for_good() {
        let failures = planning.refused.map_or(run.goal, |(_, failures)| failures);
        return vec![end(run, Ending::PlansRefused { failures })];
    }
    if planning.requests >= run.budget.planner_turns_max {
        return vec![end(run, Ending::Budget { what: "planner_turns_max" })];
    }
    let turn = if planning.is_asked { planning.turn } else { planning.turn + 1 };
    vec![Command::Plan { turn }]
}

fn execute(run: &Run) -> Vec<Command> {
    if let Some(answer) = run.answer {
        return vec![end(run, Ending::Succeeded { answer: Some(answer) })];
    }
    if let Some(step) = lost(run) {
        // What runs may end; nothing new starts.
        return if is_running(run) { Vec::new() } else { fail(run, step) };
    }
    let commands = steps(run);
    if !commands.is_empty() || is_running(run) {
        return commands;
    }
    if let Some(why) = waits_for(run) {
        return vec![Command::Suspend { why }];
    }
    done(run)
}

/// The first step whose failure is the run's.
pub(super) fn lost(run: &Run) -> Option<&Step> {
    run.in_order().find(|step| is_failed(step) && fails_run(run, step))
}

fn is_failed(step: &Step) -> bool {
    matches!(step.status, StepStatus::Failed { .. } | StepStatus::Rejected { .. })
}

fn fail(run: &Run, step: &Step) -> Vec<Command> {
    match step.status {
        StepStatus::Failed { kind, failure } | StepStatus::Rejected { kind, failure } => {
            vec![end(run, Ending::StepFailed { step: step.planned.id.clone(), kind, failure })]
        }
        _ => Vec::new(),
    }
}

fn is_running(run: &Run) -> bool {
    run.steps.values().any(|step| matches!(step.status, StepStatus::Running { .. }))
}

/// Starts what can start. Calls within the budget go on when it is used up; the run ends once they have.
fn steps(run: &Run) -> Vec<Command> {
    let running = run.steps.values().filter(|step| matches!(step.status, StepStatus::Running { .. })).count();
    // None at a time would be none at all: 0 counts as 1.
    let parallel_max = usize::try_from(run.budget.parallel_max.max(1)).unwrap_or(usize::MAX);
    let mut places = parallel_max.saturating_sub(running);
    let mut calls_left = run.budget.calls_max.saturating_sub(run.calls);
    let mut is_over_budget = false;
    let mut commands = Vec::new();
    for command in run.in_order().filter_map(|step| step_command(run, step)) {
        if let Command::Start { .. } = command {
            is_over_budget |= calls_left == 0;
            if places == 0 || calls_left == 0 {
                continue;
            }
            places -= 1;
            calls_left -= 1;
        }
        commands.push(command);
    }
    if is_over_budget && commands.is_empty() && running == 0 {
        return vec![end(run, Ending::Budget { what: "calls_max" })];
    }
    commands
}

fn step_command(run: &Run, step: &Step) -> Option<Command> {
    let id = || step.planned.id.clone();
    match &step.status {
        StepStatus::Proposed => match need(run, step) {
            Need::Met => Some(Command::Prepare { step: id() }),
            Need::Waiting => None,
            Need::Lost(because) => Some(Command::Skip { step: id(), because }),
        },
        StepStatus::Ready if is_blocked(run, step) => None,
        StepStatus::Ready => Some(Command::Start { step: id() }),
        _ => None,
    }
}

/// What became of the steps that one needs.
enum Need {
    Met,
    Waiting,
    /// This one will never bring what is needed.
    Lost(StepId),
}

fn need(run: &Run, step: &Step) -> Need {
    let needed = |id: &StepId| run.step(id).map(|step| &step.status);
    let lost = step
        .planned
        .needs
        .iter()
        .find(|id| needed(id).is_none_or(|s| s.is_terminal() && !matches!(s, StepStatus::Succeeded { .. })));
    match lost {
        Some(because) => Need::Lost(because.clone()),
        None if step.planned.needs.iter().all(|id| matches!(needed(id), Some(StepStatus::Succeeded { .. }))) => {
            Need::Met
        }
        None => Need::Waiting,
    }
}

/// A step that changes something waits for every earlier one that does.
fn is_blocked(run: &Run, step: &Step) -> bool {
    step.planned.effect.is_write()
        && run
            .in_order()
            .take_while(|earlier| earlier.planned.id != step.planned.id)
            .any(|earlier| earlier.planned.effect.is_write() && !earlier.status.is_terminal())
}

/// Whom the run waits for, when nothing else can go on.
fn waits_for(run: &Run) -> Option<Suspension> {
    let any = |is: fn(&StepStatus) -> bool| run.steps.values().any(|step| is(&step.status));
    if any(|status| matches!(status, StepStatus::Unknown)) {
        return Some(Suspension::Reconcile);
    }
    any(|status| matches!(status, StepStatus::AwaitingApproval { .. })).then_some(Suspension::Approval)
}

/// All steps are done: the run is, or the planner sees what they brought.
fn done(run: &Run) -> Vec<Command> {
    if !run.steps.values().all(|step| step.status.is_terminal()) {
        return vec![end(run, Ending::Stalled)];
    }
    if !run.is_single_plan {
        return plan(run);
    }
    match run.planning.has_answer {
        true => vec![Command::Answer { turn: run.planning.turn }],
        false => vec![end(run, Ending::Succeeded { answer: None })],
    }
}

/// Ends, and lists what is not as it should be: failed, skipped or rejected steps, and those that never ended.
fn end(run: &Run, ending: Ending) -> Command {
    let caveat = |step: &Step| {
        let what = match step.status {
            StepStatus::Succeeded { .. } => return None,
            StepStatus::Failed { .. } => CaveatKind::Failed,
            StepStatus::Rejected { .. } => CaveatKind::Rejected,
            StepStatus::Skipped { .. } => CaveatKind::Skipped,
            StepStatus::Unknown => CaveatKind::Unknown,
            _ => CaveatKind::Unfinished,
        };
        Some(Caveat { step: step.planned.id.clone(), what })
    };
    Command::End { ending, caveats: run.in_order().filter_map(caveat).collect() }
}
