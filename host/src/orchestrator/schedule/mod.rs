//! What a run wants done next: a pure function of the run and the time.
//!
//! Steps run as soon as what they need is there, in parallel; two that may change the same thing keep the order of the
//! plan, so that what they do to the world does not depend on luck. A failure spreads along data edges only: what only
//! looks goes on beside it, and what is under way ends; but nothing new that changes anything starts in a run that is
//! going to fail.

use crate::domain::{Cost, Kind, OnFailure, Role, Suspension, Timestamp, UndoReason};
use crate::orchestrator::budget::{Pending, Room, is_run, places_of, room, share};
use crate::orchestrator::compensate::to_undo;
use crate::orchestrator::machine::{Command, Ending, Run, RunStatus, Step, StepStatus};

mod end;
mod items;
mod need;

pub(super) use end::caveats;
use end::{done, end, failed, succeed};
use items::Items;
use need::{Need, is_blocked, need};

/// A wait that is longer than this is a suspension: a list of runs tells that nothing happens for a while.
const TIMER_SUSPENDS_MS: u64 = 10_000;

pub(super) fn next(run: &Run, now: Timestamp) -> Vec<Command> {
    match &run.status {
        RunStatus::Ended(_) => Vec::new(),
        _ if run.cancelled.is_some() => stop(run, now),
        _ if run.undo.is_none() && run.over.is_some() => out_of(run, now, run.over.unwrap_or_default()),
        RunStatus::Suspended(_) => due(run, now),
        RunStatus::Undoing => undo(run, now),
        _ if is_out_of_time(run, now) => out_of(run, now, "wall_ms_max"),
        RunStatus::Planning => plan(run, now),
        RunStatus::Executing => execute(run, now),
    }
}

/// The next time at which something is due though nothing has happened.
pub(super) fn wakes_at(run: &Run) -> Option<Timestamp> {
    let planner = run.planning.retry_at.filter(|_| run.status == RunStatus::Planning);
    wakes_within(run, waiting_scope(run)).into_iter().chain(planner).min()
}

/// What may go on by itself while the run waits.
fn waiting_scope(run: &Run) -> Scope {
    match run.undo {
        Some(_) => Scope::Undo,
        None if run.cancelled.is_some() => Scope::Asking,
        None => Scope::All,
    }
}

fn wakes_within(run: &Run, scope: Scope) -> Option<Timestamp> {
    let of_step = |step: &Step| match step.status {
        StepStatus::RetryWait { due } => Some(due),
        StepStatus::AwaitingApproval { expires, .. } => Some(expires),
        _ => None,
    };
    run.steps.values().filter(|step| scope.holds(step)).filter_map(of_step).min()
}

/// The first step whose failure is the run's: where its plan is all there is, and nothing stands in for the step.
pub(super) fn lost(run: &Run) -> Option<&Step> {
    let is_needed = |step: &Step| matches!(step.planned.on_failure, OnFailure::Fail | OnFailure::Undo);
    let is_lost = |step: &&Step| step.status.is_failed() && step.planned.role == Role::Do && is_needed(step);
    run.in_order().filter(|_| run.is_single_plan).find(is_lost)
}

fn is_out_of_time(run: &Run, now: Timestamp) -> bool {
    now.ms_since(run.since) >= run.budget.wall_ms_max
}

/// Lets what runs be stopped, takes back what was done where that is wanted, then ends.
fn stop(run: &Run, now: Timestamp) -> Vec<Command> {
    let Some(cancel) = &run.cancelled else { return Vec::new() };
    if (run.undo.is_some() || run.takes_back().is_some()) && cancel.undo {
        let is_suspended = matches!(run.status, RunStatus::Suspended(_));
        return if is_suspended { due(run, now) } else { undo(run, now) };
    }
    let why = UndoReason::Cancelled { by: cancel.by.clone() };
    wind_up(run, now, cancel.undo.then_some(why), Ending::Cancelled { by: cancel.by.clone() })
}

fn out_of(run: &Run, now: Timestamp, what: &str) -> Vec<Command> {
    let is_saga = run.steps.values().any(|step| step.planned.on_failure == OnFailure::Undo);
    let why = UndoReason::Budget { what: what.to_owned() };
    wind_up(run, now, is_saga.then_some(why), Ending::Budget { what: what.to_owned() })
}

/// Ends a run in the middle of its work. What became of its calls is asked of their tools first, once: that only looks, and
/// whoever ends a run wants to know. What is to be taken back, and cannot be without knowing more, waits for a person.
fn wind_up(run: &Run, now: Timestamp, why: Option<UndoReason>, ending: Ending) -> Vec<Command> {
    if run.steps.values().any(|step| step.status.is_running() && !is_asking(step)) {
        return vec![Command::StopCalls];
    }
    let leave: Vec<_> = run.in_order().filter(|step| is_half_done(step)).map(leave).collect();
    if !leave.is_empty() {
        return leave;
    }
    let asking = steps(run, now, Scope::Asking);
    if !asking.is_empty() || is_running(run) {
        return asking;
    }
    let why = why.filter(|_| run.undo.is_none());
    if why.is_some()
        && let Some(wait) = wait_for_word(run, now)
    {
        return wait;
    }
    match (why, to_undo(run)) {
        (Some(why), steps) if !steps.is_empty() => vec![Command::Undo { why, steps }],
        _ => vec![end(run, ending)],
    }
}

/// What is to be waited for before what was done is taken back: a tool that is asked again a little later, or a person.
fn wait_for_word(run: &Run, now: Timestamp) -> Option<Vec<Command>> {
    let waits = waits_for(run, now, Scope::Asking);
    match waits.filter(|why| *why != Suspension::Timer) {
        Some(why) if run.status == RunStatus::Suspended(why) => Some(Vec::new()),
        Some(why) => Some(vec![Command::Suspend { why }]),
        None => is_waiting_for_time(run, Scope::Asking).then(Vec::new),
    }
}

fn leave(step: &Step) -> Command {
    Command::Leave { step: step.id().clone() }
}

/// It has changed something, and was going to go on.
fn is_half_done(step: &Step) -> bool {
    step.doubt.has_written()
        && matches!(step.status, StepStatus::Ready | StepStatus::RetryWait { .. } | StepStatus::AwaitingApproval { .. })
}

/// While a person is waited for, time goes on.
fn due(run: &Run, now: Timestamp) -> Vec<Command> {
    let scope = waiting_scope(run);
    let mut round = Round::new(run, scope);
    let in_scope = run.in_order().filter(|step| scope.holds(step));
    let commands: Vec<_> = in_scope.filter_map(|step| timed(run, step, now, &mut round)).collect();
    match round.over {
        Some(what) if commands.is_empty() && !is_running(run) => out_of(run, now, what),
        _ => commands,
    }
}

fn timed(run: &Run, step: &Step, now: Timestamp, round: &mut Round) -> Option<Command> {
    match step.status {
        StepStatus::AwaitingApproval { binding, expires } if now >= expires => {
            Some(Command::Expire { step: step.id().clone(), binding })
        }
        StepStatus::RetryWait { due } if now >= due => start(run, step, round),
        _ => None,
    }
}

fn plan(run: &Run, now: Timestamp) -> Vec<Command> {
    let planning = &run.planning;
    if planning.retry_at.is_some_and(|due| now < due) {
        return Vec::new();
    }
    if let Some((Kind::PolicyBudget, failure)) = planning.failed {
        return wind_up(run, now, None, Ending::Unaffordable { failure });
    }
    if let Some((kind, failure)) = planning.failed {
        return vec![end(run, Ending::PlannerFailed { kind, failure })];
    }
    if run.is_refused_for_good() {
        let failures = planning.refused.map_or(run.goal, |(_, failures)| failures);
        return vec![end(run, Ending::PlansRefused { failures })];
    }
    if let Some(ending) = looped(run) {
        return vec![end(run, ending)];
    }
    // A request that was begun is made again after a crash: its turn is counted.
    let is_over = planning.requests.saturating_add(run.spent.turns) >= run.budget.planner_turns_max;
    if is_over && !planning.is_asked {
        return out_of(run, now, "planner_turns_max");
    }
    let turn = if planning.is_asked { planning.turn } else { planning.turn + 1 };
    vec![Command::Plan { turn }]
}

/// The same call that failed in the same way so often that another time would tell nothing new.
fn looped(run: &Run) -> Option<Ending> {
    let times_max = run.budget.same_failures_max.max(1);
    let ((tool, args, kind), times) = run.failures_of.iter().find(|(_, times)| **times >= times_max)?;
    let is_it = |step: &&Step| {
        step.planned.tool == *tool
            && step.ready.is_some_and(|(ready, _)| ready == *args)
            && step.failure.is_some_and(|(failed, _)| failed == *kind)
    };
    let last = run.in_order().filter(is_it).last()?;
    Some(Ending::Loop { step: last.id().clone(), times: *times })
}

fn execute(run: &Run, now: Timestamp) -> Vec<Command> {
    if let Some(answer) = run.answer {
        return succeed(run, Some(answer));
    }
    let lost = lost(run);
    let scope = match lost.map(|step| &step.planned.on_failure) {
        None => Scope::All,
        Some(OnFailure::Undo) => Scope::UnderWay,
        Some(_) => Scope::Looks,
    };
    let commands = steps(run, now, scope);
    if !commands.is_empty() || is_running(run) {
        return commands;
    }
    if let Some(why) = waits_for(run, now, scope) {
        return vec![Command::Suspend { why }];
    }
    if is_waiting_for_time(run, scope) {
        return Vec::new();
    }
    match (lost, scope) {
        (Some(step), Scope::UnderWay) => begin_undo(run, step),
        (Some(step), _) => vec![failed(run, step)],
        (None, _) => done(run, now),
    }
}

fn begin_undo(run: &Run, step: &Step) -> Vec<Command> {
    let steps = to_undo(run);
    if steps.is_empty() {
        return vec![failed(run, step)];
    }
    vec![Command::Undo { why: UndoReason::StepFailed { step: step.id().clone() }, steps }]
}

/// Drives what takes back. All of it is tried; what could not be taken back then waits for a person.
fn undo(run: &Run, now: Timestamp) -> Vec<Command> {
    if let Some(taken) = run.takes_back().filter(|_| run.undo.is_none()) {
        return vec![Command::TakeBack { run: taken.run.clone() }];
    }
    let commands = steps(run, now, Scope::Undo);
    if !commands.is_empty() || is_running(run) {
        return commands;
    }
    if let Some(why) = waits_for(run, now, Scope::Undo) {
        return vec![Command::Suspend { why }];
    }
    if is_waiting_for_time(run, Scope::Undo) {
        return Vec::new();
    }
    if run.steps.values().any(is_stuck) {
        return vec![Command::Suspend { why: Suspension::Stuck }];
    }
    let ending = match &run.undo {
        Some(UndoReason::Cancelled { by }) => Ending::Cancelled { by: by.clone() },
        Some(UndoReason::Budget { what }) => Ending::Budget { what: what.clone() },
        Some(UndoReason::StepFailed { step }) => match run.step(step) {
            Some(step) => return vec![failed(run, step)],
            None => Ending::Stalled,
        },
        Some(UndoReason::Outer) => match run.in_order().find(|step| step.is_given_up) {
            Some(step) => return vec![failed(run, step)],
            None => Ending::Succeeded { answer: None },
        },
        None => Ending::Stalled,
    };
    vec![end(run, ending)]
}

fn is_running(run: &Run) -> bool {
    run.steps.values().any(|step| step.status.is_running())
}

fn is_waiting_for_time(run: &Run, scope: Scope) -> bool {
    run.steps.values().any(|step| scope.holds(step) && matches!(step.status, StepStatus::RetryWait { .. }))
}

/// Which steps may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    All,
    /// The run is lost: what is under way, and what only looks.
    Looks,
    /// The run is lost, and is going to be taken back: what is under way.
    UnderWay,
    /// What takes back.
    Undo,
    /// The run is at its end: what asks what became of a step.
    Asking,
}

impl Scope {
    fn holds(self, step: &Step) -> bool {
        let is_of_undo = matches!(step.planned.role, Role::Undo { .. });
        let is_asking = is_asking(step);
        let is_under_way = is_asking || is_half_done(step) || is_begun(&step.status);
        match self {
            Self::All => true,
            Self::Looks => is_under_way || !step.is_write(),
            Self::UnderWay => is_under_way,
            Self::Undo => is_of_undo || is_asking,
            Self::Asking => is_asking || step.status == StepStatus::Unknown,
        }
    }
}

fn is_asking(step: &Step) -> bool {
    matches!(step.planned.role, Role::Reconcile { .. })
}

/// A call of it runs, or is tried again, or nobody knows what became of it.
fn is_begun(status: &StepStatus) -> bool {
    matches!(
        status,
        StepStatus::Running { .. } | StepStatus::RetryWait { .. } | StepStatus::Unknown | StepStatus::Expanded
    )
}

/// What is left for one round of decisions.
struct Round {
    /// Calls that may begin.
    places: u32,
    /// Runs within the run that could begin.
    runs: u32,
    /// Whether the run has calls of its own to come.
    has_calls: bool,
    pending: Pending,
    /// The bound of the budget that kept a call from beginning.
    over: Option<&'static str>,
    items: Items,
}

impl Round {
    fn new(run: &Run, scope: Scope) -> Self {
        let running = run.steps.values().filter(|step| step.status.is_running()).map(places_of);
        // None at a time would be none at all: 0 counts as 1.
        let places = run.budget.parallel_max.max(1).saturating_sub(running.fold(0, u32::saturating_add));
        let in_scope = || run.steps.values().filter(|step| scope.holds(step));
        let could_begin = |step: &&Step| step.status == StepStatus::Ready && is_run(&step.planned);
        let runs = in_scope().filter(could_begin).filter(|step| !is_blocked(run, step)).count();
        let is_to_come = |step: &Step| !step.status.is_terminal() && !is_run(&step.planned);
        Self {
            places,
            runs: u32::try_from(runs).unwrap_or(u32::MAX),
            has_calls: in_scope().any(is_to_come),
            pending: Pending::default(),
            over: None,
            items: Items::default(),
        }
    }

    /// Takes the places that a step needs which begins now, and returns how many of them its run takes.
    fn take(&mut self, step: &Step) -> u32 {
        let is_run = is_run(&step.planned);
        let taken = if is_run { share(&step.planned, self.places, self.runs, self.has_calls) } else { 1 };
        self.places = self.places.saturating_sub(taken);
        self.runs = self.runs.saturating_sub(u32::from(is_run));
        if is_run { taken } else { 0 }
    }

    /// Whether one more call of the step's tool may be under way.
    fn has_place(&self, run: &Run, step: &Step) -> bool {
        let Some(calls_max) = step.planned.calls_parallel_max else { return true };
        let tool = &step.planned.tool;
        let is_kin = |other: &&Step| other.status.is_running() && other.planned.tool == *tool;
        let under_way = run.steps.values().filter(is_kin).count() + self.pending.calls_of(tool);
        under_way < usize::try_from(calls_max.max(1)).unwrap_or(usize::MAX)
    }
}

/// Starts what can start. Calls within the budget go on when it is used up; the run ends once they have.
fn steps(run: &Run, now: Timestamp, scope: Scope) -> Vec<Command> {
    let mut round = Round::new(run, scope);
    let in_scope = run.in_order().filter(|step| scope.holds(step));
    let commands: Vec<_> = in_scope.filter_map(|step| step_command(run, step, now, &mut round)).collect();
    match round.over {
        Some(what) if commands.is_empty() && !is_running(run) => out_of(run, now, what),
        _ => commands,
    }
}

fn step_command(run: &Run, step: &Step, now: Timestamp, round: &mut Round) -> Option<Command> {
    let id = || step.id().clone();
    match &step.status {
        StepStatus::Proposed => match need(run, step, &mut round.items) {
            Need::Waiting => None,
            Need::Lost(why) => Some(Command::Skip { step: id(), why }),
            Need::Met => round.items.take_place(run, step).then(|| Command::Prepare { step: id() }),
        },
        StepStatus::Ready if is_blocked(run, step) => None,
        StepStatus::Ready => start(run, step, round),
        StepStatus::RetryWait { .. } | StepStatus::AwaitingApproval { .. } => timed(run, step, now, round),
        StepStatus::Expanded => {
            let is_done = run.items(step.id()).all(|item| item.status.is_terminal());
            is_done.then(|| Command::Gather { step: id() })
        }
        StepStatus::Running { .. } => step.run.clone().map(|child| Command::Child { step: id(), run: child }),
        StepStatus::Unknown => settle(run, step),
        _ => None,
    }
}

fn start(run: &Run, step: &Step, round: &mut Round) -> Option<Command> {
    if round.places == 0 || !round.has_place(run, step) {
        return None;
    }
    match room(run, step, &round.pending) {
        Room::Yes(reserve) => {
            let reserve = Cost { parallel: round.take(step), ..reserve };
            round.pending.add(step, reserve);
            Some(Command::Start { step: step.id().clone(), reserve })
        }
        Room::Later => None,
        Room::Never(what) => {
            round.over = round.over.or(Some(what));
            None
        }
    }
}

/// Has a tool asked what became of an unknown step, and notes what it told: once for each attempt at the step.
fn settle(run: &Run, step: &Step) -> Option<Command> {
    if !step.planned.has_reconcile {
        return None;
    }
    let asked = run.step(&step.id().reconcile(step.reconciles));
    // One that was stopped with the run's calls told nothing.
    let is_stopped = asked.is_some_and(|asked| matches!(asked.status, StepStatus::Cancelled { .. }));
    if step.asked_about < step.attempts || is_stopped {
        return Some(Command::Reconcile { step: step.id().clone() });
    }
    let asked = asked?;
    let is_told = matches!(asked.status, StepStatus::Succeeded { .. }) && !step.is_reconciled;
    is_told.then(|| Command::Settle { step: step.id().clone(), by: asked.id().clone() })
}

/// Whom the run waits for, when nothing else can go on.
fn waits_for(run: &Run, now: Timestamp, scope: Scope) -> Option<Suspension> {
    let any = |is: &dyn Fn(&Step) -> bool| run.steps.values().filter(|step| scope.holds(step)).any(is);
    if any(&|step| step.status == StepStatus::Unknown && !is_left_to_undo(step, scope)) {
        return Some(Suspension::Reconcile);
    }
    if any(&|step| matches!(step.status, StepStatus::AwaitingApproval { .. })) {
        return Some(Suspension::Approval);
    }
    (wakes_within(run, scope)?.ms_since(now) > TIMER_SUSPENDS_MS).then_some(Suspension::Timer)
}

/// Nobody need tell what became of a step that is going to be taken back either way, or cannot be.
fn is_left_to_undo(step: &Step, scope: Scope) -> bool {
    let is_known_how = step.planned.has_undo && !(step.planned.undo_takes_output && step.output.is_none());
    match scope {
        Scope::UnderWay => is_known_how,
        Scope::Asking => is_known_how || !step.planned.has_undo,
        Scope::All | Scope::Looks | Scope::Undo => false,
    }
}

/// Answers whether a person, or a run within the run, is waited for at this step, for this reason.
pub(super) fn is_waiting(step: &Step, why: Suspension) -> bool {
    if step.status.is_running() && step.run.is_some() {
        return true;
    }
    match why {
        Suspension::Approval => matches!(step.status, StepStatus::AwaitingApproval { .. }),
        Suspension::Reconcile => step.status == StepStatus::Unknown,
        Suspension::Stuck => is_stuck(step),
        Suspension::Question | Suspension::Timer => false,
    }
}

/// Whether a person must say what becomes of a call that was to take a step back, and could not.
pub(super) fn is_stuck(step: &Step) -> bool {
    matches!(step.planned.role, Role::Undo { .. }) && step.status.is_failed() && !step.is_given_up
}
