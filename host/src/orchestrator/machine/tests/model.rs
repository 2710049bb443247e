//! The machine against chance: random plans, random outcomes, crashes, people. Whatever happens, every run ends, every
//! step is in one place at the end, and what ended is the truth.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;
use proptest::test_runner::Config;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::*;
use crate::domain::{BY_RECONCILE, HostCallRecord, Within};
use crate::orchestrator::budget::is_run;
use crate::orchestrator::check::RUN_TOOL;
use crate::orchestrator::recover;

/// Steps of the longest random plan.
const PLAN_STEPS_MAX: u64 = 6;

/// Plays after which a transition that was never seen is one that cannot be.
const SEEDS_MAX: u64 = 30_000;

/// Decisions of the longest play: one that takes longer goes round in circles.
const ROUNDS_MAX: usize = 2_000;

/// A run that is played by chance.
struct Play {
    hand: Hand,
    now: Timestamp,
    rng: ChaCha8Rng,
    seen: BTreeSet<(Stage, &'static str, Stage)>,
    writes: HashMap<StepId, bool>,
}

fn name(n: u64) -> String {
    format!("s{n}")
}

impl Play {
    fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let count = 1 + rng.next_u64() % PLAN_STEPS_MAX;
        let steps: Vec<_> = (0..count).map(|n| random_step(&mut rng, n, count)).collect();
        let steps = without_shared_fallbacks(steps);
        let budget = Budget { calls_max: 60, parallel_max: 3, wall_ms_max: u64::MAX, ..Budget::default() };
        Self {
            hand: Hand::with(true, budget, steps),
            now: Timestamp(0),
            rng,
            seen: BTreeSet::new(),
            writes: HashMap::new(),
        }
    }

    fn chance(&mut self, of: u64) -> bool {
        self.rng.next_u64().is_multiple_of(of)
    }

    fn take(&mut self, fact: Fact) {
        let before: Vec<_> = self.hand.0.steps.values().map(|step| (step.id().clone(), step.status.stage())).collect();
        let by = fact.name();
        self.hand.take_at(self.now, fact);
        for (id, from) in before {
            let to = self.hand.0.step(&id).unwrap().status.stage();
            if from != to {
                self.seen.insert((from, by, to));
            }
        }
    }

    /// Plays until the run ends, and returns it.
    fn play(mut self) -> Self {
        for _ in 0..ROUNDS_MAX {
            if self.hand.0.is_ended() {
                return self;
            }
            let has_crashed = self.chance(20);
            if has_crashed {
                self.crash();
            }
            // Whoever finds a run that was left behind often wants no more of it.
            if self.chance(if has_crashed { 8 } else { 80 }) && self.hand.0.cancelled.is_none() {
                let undo = self.chance(2);
                self.take(Fact::CancelRequested { by: "ann".into(), undo });
            }
            let commands = self.hand.0.next(self.now);
            match commands.into_iter().next() {
                Some(Command::StopCalls) => self.end_one(true),
                Some(_) if self.is_busy() && self.chance(3) => self.end_one(false),
                Some(Command::Child { .. }) => self.end_one(false),
                Some(command) => self.perform(command),
                None if self.is_busy() => self.end_one(false),
                None => self.wait(),
            }
        }
        panic!("it goes on for ever: {:#?}", self.hand.0);
    }

    fn is_busy(&self) -> bool {
        self.hand.0.steps.values().any(|step| step.status.is_running())
    }

    /// Nothing runs and nothing is to be done: a person acts, or time passes.
    fn wait(&mut self) {
        let waiting: Vec<_> = self.hand.0.in_order().map(|step| (step.id().clone(), step.status.clone())).collect();
        let is_patient = self.chance(4);
        for (id, status) in waiting {
            match status {
                StepStatus::AwaitingApproval { binding, .. } if !is_patient => {
                    self.decide(&id, binding);
                    return;
                }
                StepStatus::Unknown => {
                    self.settle(&id);
                    return;
                }
                _ if self.hand.0.step(&id).is_some_and(crate::orchestrator::schedule::is_stuck) => {
                    self.settle(&id);
                    return;
                }
                _ => {}
            }
        }
        let wakes = self.hand.0.wakes_at();
        self.now = wakes.unwrap_or_else(|| panic!("it waits for nothing: {:#?}", self.hand.0)).max(self.now);
    }

    fn decide(&mut self, id: &StepId, binding: Digest) {
        let decided =
            |decision| Fact::ApprovalDecided { step: id.clone(), binding, decision, by: "ann".into(), reason: None };
        match self.rng.next_u64() % 3 {
            0 => self.take(decided(Decision::Approve)),
            1 => self.take(decided(Decision::Modify { args: digest(1), key: digest(2), binding: digest(3) })),
            _ => {
                self.take(decided(Decision::Reject));
                self.take(rejected(id, Kind::PolicyRejected));
            }
        }
    }

    fn settle(&mut self, id: &StepId) {
        let settlement = match self.rng.next_u64() % 3 {
            0 => Settlement::Done { output: digest(5) },
            1 => Settlement::Retry,
            _ => Settlement::Failed { failure: digest(4) },
        };
        self.take(Fact::StepSettled { step: id.clone(), settlement, by: "ann".into() });
    }

    fn perform(&mut self, command: Command) {
        match command {
            Command::Prepare { step } => self.prepare(step),
            Command::Start { step, reserve } => self.start(step, reserve),
            Command::Gather { step } => {
                let is_failed = self.hand.0.items(&step).any(|item| item.status.is_failed());
                let is_tolerant = self.hand.0.step(&step).unwrap().planned.on_failure == OnFailure::Skip;
                let end = if is_failed && !is_tolerant { failed() } else { succeeded() };
                self.take(Fact::StepGathered { step, end });
            }
            Command::Skip { step, why } => self.take(Fact::StepSkipped { step, why }),
            Command::Expire { step, binding } => {
                self.take(Fact::ApprovalExpired { step, binding, failure: digest(4) });
            }
            Command::Reconcile { step } => {
                let times = self.hand.0.step(&step).unwrap().reconciles + 1;
                let asking = PlannedStep {
                    role: Role::Reconcile { of: step.clone() },
                    ..PlannedStep::call(step.reconcile(times), ToolName::new("x", "z").unwrap(), vec![], Effect::Read)
                };
                self.take(Fact::ReconcileBegun { of: step, step: asking });
            }
            Command::Settle { step, .. } => {
                let settlement = match self.rng.next_u64() % 3 {
                    0 => Settlement::Done { output: digest(5) },
                    1 => Settlement::Retry,
                    _ => Settlement::Unknown,
                };
                self.take(Fact::StepSettled { step, settlement, by: BY_RECONCILE.into() });
            }
            Command::Leave { step } => {
                let attempt = self.hand.0.step(&step).unwrap().attempts;
                self.take(Fact::StepUnknown { step, attempt });
            }
            Command::Undo { why, steps } => self.undo(why, &steps),
            Command::Suspend { why } => self.take(Fact::RunSuspended { why }),
            Command::End { ending, caveats } => self.end(ending, caveats),
            other => panic!("a plan of its own wants {other:?}"),
        }
    }

    fn prepare(&mut self, step: StepId) {
        let planned = self.hand.0.step(&step).unwrap().planned.clone();
        if let Some(items) = planned.items {
            let items = u32::try_from(self.rng.next_u64() % u64::from(items.items_max + 1)).unwrap();
            self.take(Fact::StepExpanded { step, items, list: digest(6) });
        } else if self.chance(15) && planned.role == Role::Do {
            self.take(Fact::StepSkipped { step, why: SkipReason::Condition });
        } else if self.chance(15) {
            self.take(rejected(&step, Kind::DataReference));
        } else {
            self.take(Fact::StepReady { step, args: digest(1), key: digest(2), duplicate_of: None });
        }
    }

    fn start(&mut self, step: StepId, reserved: Cost) {
        if self.chance(20) {
            self.take(rejected(&step, Kind::PolicyDenied));
            return;
        }
        let found = self.hand.0.step(&step).unwrap();
        let (effect, attempt) = (found.planned.effect, found.attempts + 1);
        if effect == Effect::Once && found.approved.is_none() && self.chance(2) {
            let expires = self.now.plus_ms(100);
            let (binding, rule) = (digest(7), "r".to_owned());
            self.take(Fact::ApprovalRequested { step, binding, effect, rule, expires });
            return;
        }
        if effect == Effect::Pure && attempt == 1 && self.chance(4) {
            let from = self.hand.0.id.clone();
            self.take(Fact::StepCached { step, output: digest(3), from, age_ms: 1 });
            return;
        }
        let (component, rules) = (digest(0), vec![]);
        let run = is_run(&self.hand.0.step(&step).unwrap().planned).then(|| self.hand.0.id.clone());
        self.take(Fact::StepStarted { step, attempt, component, effect, rules, reserved, run });
    }

    /// Ends one of the calls that run, or lets it begin to write.
    fn end_one(&mut self, is_stopped: bool) {
        let running: Vec<_> =
            self.hand.0.in_order().filter(|step| step.status.is_running()).map(|step| step.id().clone()).collect();
        let step = running[usize::try_from(self.rng.next_u64()).unwrap_or(usize::MAX) % running.len()].clone();
        let found = self.hand.0.step(&step).unwrap().clone();
        let (attempt, effect) = (found.attempts, found.planned.effect);
        let has_written = found.status == StepStatus::Running { has_written: true };
        let may_go_on = attempt < found.planned.retry.attempts_max && found.run.is_none();
        if effect.is_write() && !has_written && !is_stopped && found.run.is_none() && !self.chance(3) {
            self.take(Fact::WriteBegun { step, attempt });
            return;
        }
        let is_harmless = !found.doubt.has_written() || effect <= Effect::Idempotent;
        // A call is stopped with its run, or because its write came too late.
        let late = if has_written { Kind::ToolTrap } else { Kind::HostCancelled };
        let kinds = [Kind::ToolDeclared, Kind::NetworkTimeout, Kind::NetworkHttp5xx, late];
        let kind = if is_stopped { Kind::HostCancelled } else { kinds[(self.rng.next_u64() % 4) as usize] };
        let has_failed = is_stopped || self.chance(3);
        let has_open_write = has_written && self.chance(3);
        let retry = has_failed && kind != Kind::HostCancelled && may_go_on && is_harmless && self.chance(2);
        let retry = retry.then(|| self.now.plus_ms(self.rng.next_u64() % 20_000));
        let end = if has_failed { failing(kind) } else { succeeded() };
        let has_done = effect.is_write() && self.chance(2);
        let has_undo = has_done && !self.chance(3);
        let mut fact = attempt_ended(step, attempt, end, retry, has_written);
        if let Fact::StepEnded { has_open_write: open, within, .. } = &mut fact {
            *open = has_open_write;
            *within = found.run.map(|_| Within { calls: BTreeMap::new(), has_done, has_undo });
        }
        self.take(fact);
    }

    /// The process dies, and another one takes the run.
    fn crash(&mut self) {
        for step in self.hand.0.in_order() {
            self.writes.insert(step.id().clone(), self.rng.next_u64().is_multiple_of(2));
        }
        let journal = |id: &StepId| {
            let is_done = self.writes.get(id).copied().unwrap_or_default();
            let value = crate::domain::RecordedValue::Whole { value: crate::domain::Json::Null };
            let done = is_done.then_some(crate::domain::Recorded { value, ms: 1 });
            let write = HostCallRecord { n: 1, what: "http.send".into(), args: digest(0), is_write: true, done };
            (id.clone(), vec![write])
        };
        let journals = self.hand.0.steps.keys().map(journal).collect();
        let facts = recover(&self.hand.0, &journals);
        self.take(Fact::RunClaimed { owner: "another".into(), policy: digest(0) });
        facts.into_iter().for_each(|fact| self.take(fact));
    }

    fn undo(&mut self, why: UndoReason, steps: &[StepId]) {
        let mut planned: Vec<PlannedStep> = Vec::new();
        for of in steps {
            let after = planned.last().map(|before| before.id.clone()).into_iter().collect();
            let role = Role::Undo { of: of.clone() };
            let call = PlannedStep::call(of.undo(), ToolName::new("x", "undo").unwrap(), vec![], Effect::Idempotent);
            planned.push(PlannedStep { after, role, ..call });
        }
        self.take(Fact::UndoBegun { why, steps: planned, left: Vec::new() });
    }

    fn end(&mut self, ending: Ending, caveats: Vec<Caveat>) {
        let end = match ending {
            Ending::Succeeded { answer } => RunEnd::Succeeded { answer },
            Ending::StepFailed { kind, failure, .. } => RunEnd::Failed { kind, failure },
            Ending::Cancelled { by } => RunEnd::Cancelled { by },
            Ending::Budget { .. } => RunEnd::BudgetExhausted { failure: digest(4) },
            other => panic!("a plan that checks does not end like this: {other:?}\n{:#?}", self.hand.0),
        };
        check_end(&self.hand.0, &end, &caveats);
        self.take(Fact::RunEnded { end, caveats });
        assert_eq!(self.hand.0.reserved, Cost::default(), "what was reserved was settled");
    }
}

/// What ended is the truth.
fn check_end(run: &Run, end: &RunEnd, caveats: &[Caveat]) {
    let has = |step: &Step, what| caveats.iter().any(|caveat| caveat.step == *step.id() && caveat.what == what);
    for step in run.in_order().filter(|step| matches!(step.planned.role, Role::Do | Role::Item { .. })) {
        match step.status.stage() {
            Stage::Succeeded => {}
            Stage::Unknown => assert!(has(step, CaveatKind::Unknown), "{step:#?}"),
            Stage::Undone => assert!(has(step, CaveatKind::Undone), "{step:#?}"),
            Stage::UndoFailed => assert!(has(step, CaveatKind::UndoFailed), "{step:#?}"),
            Stage::Failed => {
                let is_told = |what| has(step, what);
                let is_kept = step.has_done_within() && is_told(CaveatKind::NotUndone);
                assert!(is_kept || is_told(CaveatKind::Failed) || is_told(CaveatKind::Degraded), "{step:#?}");
            }
            Stage::Skipped => {}
            _ => assert!(caveats.iter().any(|caveat| caveat.step == *step.id()), "{step:#?}"),
        }
        let is_open = matches!(step.status.stage(), Stage::Ready | Stage::RetryWait | Stage::AwaitingApproval);
        let is_half_done = step.doubt.has_written() && is_open;
        assert!(!is_half_done, "nobody says what became of {step:#?}");
    }
    if matches!(end, RunEnd::Succeeded { .. }) {
        let is_bad = |step: &Step| {
            step.status.is_failed() && matches!(step.planned.on_failure, OnFailure::Fail | OnFailure::Undo)
        };
        let of_plan = || run.in_order().filter(|step| step.planned.role == Role::Do);
        assert!(!of_plan().any(is_bad), "{run:#?}");
        assert!(of_plan().all(|step| step.status.is_terminal()), "{run:#?}");
    }
    assert!(run.spent.calls + run.reserved.calls <= run.budget.calls_max + own_calls(run), "{run:#?}");
}

/// Calls that take back or ask are not bounded by the budget.
fn own_calls(run: &Run) -> u32 {
    let own = run.in_order().filter(|step| matches!(step.planned.role, Role::Undo { .. } | Role::Reconcile { .. }));
    own.map(|step| step.attempts).sum()
}

fn rejected(step: &StepId, kind: Kind) -> Fact {
    Fact::StepRejected { step: step.clone(), kind, failure: digest(4) }
}

fn random_step(rng: &mut ChaCha8Rng, n: u64, count: u64) -> PlannedStep {
    let mut below = |max: u64| rng.next_u64() % max;
    let is_run = below(5) == 0;
    let earlier = |is: bool, of: u64| if is && n > 0 { vec![id(&name(of % n.max(1)))] } else { vec![] };
    // What stays is where most can go wrong.
    let stays = Effect::Once;
    let effects = [Effect::Pure, Effect::Read, Effect::Idempotent, Effect::Reversible, stays, stays, stays];
    let effect = effects[below(7) as usize];
    let on_failure = match below(5) {
        0 => OnFailure::Skip,
        1 if effect.is_write() => OnFailure::Undo,
        2 if n + 1 < count => OnFailure::Fallback(id(&name(n + 1)).to_string()),
        _ => OnFailure::Fail,
    };
    let needs = earlier(below(2) == 0, below(100));
    let after = earlier(below(3) == 0, below(100));
    let call = planned(&name(n), &[], effect);
    let run = ToolName::new(RUN_TOOL.0, RUN_TOOL.1).unwrap();
    PlannedStep {
        after,
        on_failure,
        tool: if is_run { run } else { call.tool.clone() },
        items: (below(4) == 0).then_some(Items { items_max: 3, parallel_max: 2 }),
        has_undo: effect.is_write() && below(3) > 0,
        undo_takes_output: below(2) == 0,
        has_reconcile: effect.is_write() && !is_run && below(3) == 0,
        touches: if below(2) == 0 { vec![format!("https://{}.example:443", below(2))] } else { vec![] },
        needs,
        ..call
    }
}

/// A step that stands in for another one is waited for through that one only, and waits for nothing itself.
fn without_shared_fallbacks(mut steps: Vec<PlannedStep>) -> Vec<PlannedStep> {
    let fallbacks: Vec<_> = steps
        .iter()
        .filter_map(|step| match &step.on_failure {
            OnFailure::Fallback(step) => step.parse::<StepId>().ok(),
            _ => None,
        })
        .collect();
    for step in &mut steps {
        step.needs.retain(|need| !fallbacks.contains(need));
        step.after.retain(|need| !fallbacks.contains(need));
        if fallbacks.contains(&step.id) {
            step.needs.clear();
            step.after.clear();
        }
    }
    steps
}

proptest! {
    #![proptest_config(Config { cases: 600, failure_persistence: None, ..Config::default() })]

    #[test]
    fn every_run_ends_and_its_end_is_the_truth(seed in any::<u64>()) {
        Play::new(seed).play();
    }
}

/// Of every transition that the table declares, chance sees all.
#[test]
fn chance_sees_the_whole_table() {
    let mut missing: Vec<&StepRow> = STEPS.iter().filter(|row| row.from != row.to).collect();
    for seed in 0..SEEDS_MAX {
        let seen = Play::new(seed).play().seen;
        missing.retain(|row| !is_seen(row, &seen));
        if missing.is_empty() {
            break;
        }
    }
    println!("{} of {} transitions were seen", STEPS.len() - missing.len(), STEPS.len());
    for row in &missing {
        println!("not seen: {} --{}--> {}", row.from.name(), row.by, row.to.name());
    }
    assert!(missing.is_empty(), "{missing:?}");
}

/// What the end of another step brings bears that step's fact.
fn is_seen(row: &StepRow, seen: &BTreeSet<(Stage, &'static str, Stage)>) -> bool {
    let is_reflected = matches!(row.by, "undone" | "undo_failed" | "undo_retried");
    seen.iter().any(|(from, by, to)| *from == row.from && *to == row.to && (is_reflected || *by == row.by))
}
