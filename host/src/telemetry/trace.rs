//! Events → the story of a run: a pure function, so that it can be told again for any run, at any time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::{
    Caveat, Digest, Effect, Event, Fact, Kind, Parent, Role, RunEnd, Settlement, StepEnd, StepId, Suspension,
    Timestamp, Tokens, ToolName, TraceId, UndoReason,
};

use super::requests::Requests;
use super::span::trace_of;
use super::step::StepTrace;

/// The story of a run, by digests; payloads are looked up by whoever tells it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    pub created: Timestamp,
    pub ended: Option<Timestamp>,
    pub planner: String,
    pub goal: Option<Digest>,
    /// The last request to the planner.
    pub pack: Option<Digest>,
    /// The step of another run that this run carries out.
    pub parent: Option<Parent>,
    /// The W3C trace that it is part of.
    pub trace: Option<TraceId>,
    pub state: RunState,
    pub failure: Option<Digest>,
    pub answer: Option<Digest>,
    pub question: Option<Digest>,
    /// Whether the conditions that decide about success held, once they were looked at.
    pub verified: Option<Result<(), Kind>>,
    pub cancelled_by: Option<String>,
    /// Why what was done is taken back.
    pub undo: Option<UndoReason>,
    pub steps: Vec<StepTrace>,
    pub caveats: Vec<Caveat>,
    /// Checked plans, by turn.
    pub plans: BTreeMap<u32, Digest>,
    /// Its requests to models.
    pub requests: Requests,
}

/// What requests to models took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelUse {
    pub requests: u32,
    /// As far as somebody counted them.
    pub tokens: Tokens,
    /// In picodollars, as far as the price is known.
    pub usd_picos: u64,
    /// Requests of which nobody knows what they cost.
    pub unpriced: u32,
}

/// Where a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    #[default]
    Planning,
    Executing,
    /// What was done is taken back.
    Undoing,
    Suspended(Suspension),
    Succeeded,
    Failed,
    Cancelled,
    BudgetExhausted,
    /// Not a run: a log of lone calls.
    Session,
    /// Nobody can say: its events cannot be read. A list tells so, no story does.
    Unreadable,
}

impl RunState {
    /// Answers whether nothing more will happen.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled | Self::BudgetExhausted)
    }
}

/// Returns the story that `events` tell.
pub fn trace(events: &[Event]) -> Trace {
    let mut trace = Trace::default();
    for event in events {
        trace.tell(event);
    }
    trace
}

impl Trace {
    /// Returns what its requests to models took: those that have ended.
    pub fn models(&self) -> ModelUse {
        let mut used = ModelUse::default();
        for request in self.requests.settled() {
            used.requests = used.requests.saturating_add(1);
            used.tokens = used.tokens.plus(request.tokens.unwrap_or_default());
            let picos = u64::try_from(request.picos.unwrap_or(0)).unwrap_or(u64::MAX);
            used.usd_picos = used.usd_picos.saturating_add(picos);
            used.unpriced = used.unpriced.saturating_add(u32::from(request.picos.is_none()));
        }
        used
    }

    /// Tells one event more.
    pub fn tell(&mut self, event: &Event) {
        self.requests.tell(&event.fact);
        self.trace = self.trace.or_else(|| trace_of(event));
        match &event.fact {
            Fact::RunCreated { goal, planner, parent, .. } => {
                (self.created, self.goal) = (event.at, Some(*goal));
                self.planner.clone_from(planner);
                self.parent.clone_from(parent);
                if self.takes_back() {
                    self.state = RunState::Undoing;
                }
            }
            Fact::SessionStarted { .. } => (self.created, self.state) = (event.at, RunState::Session),
            Fact::RunClaimed { .. } => self.moved(),
            Fact::CancelRequested { by, .. } => {
                self.cancelled_by = Some(by.clone());
                self.question = None;
                self.state = self.under_way();
            }
            Fact::RunSuspended { why } => self.state = RunState::Suspended(*why),
            Fact::Verified { failure, .. } => {
                self.verified = Some(failure.map_or(Ok(()), |(kind, _)| Err(kind)));
            }
            Fact::UndoBegun { why, steps, .. } => {
                self.undo = Some(why.clone());
                self.state = RunState::Undoing;
                for step in steps {
                    self.steps.push(StepTrace::planned(step));
                    self.mark_undone_step(&step.role, "undoing");
                }
            }
            Fact::ReconcileBegun { step, .. } => {
                self.moved();
                self.steps.push(StepTrace::planned(step));
            }
            Fact::RunEnded { end, caveats } => {
                self.ended = Some(event.at);
                self.caveats.clone_from(caveats);
                self.end(end);
            }
            // Whom it told, and with what it goes on, changes nothing about where the run is.
            Fact::Notified { .. } | Fact::ToolsChanged { .. } => {}
            Fact::CallStarted { call, tool, args, effect, .. } => {
                self.call_started(event.at, *call, tool, *effect, *args);
            }
            Fact::Called { .. } => self.called(event.at, &event.fact),
            Fact::CallSettled { call, settlement, .. } => self.call_settled(event.at, *call, settlement),
            Fact::PlanRequested { .. }
            | Fact::PlanReplied { .. }
            | Fact::PlanFailed { .. }
            | Fact::PlanRejected { .. }
            | Fact::PlanAccepted { .. }
            | Fact::Answered { .. }
            | Fact::Asked { .. }
            | Fact::QuestionAnswered { .. } => self.planned(&event.fact),
            fact => self.step(event.at, fact),
        }
    }

    fn planned(&mut self, fact: &Fact) {
        match fact {
            Fact::PlanRequested { pack, .. } => (self.state, self.pack) = (RunState::Planning, Some(*pack)),
            Fact::PlanAccepted { turn, plan, steps, .. } => {
                self.state = RunState::Executing;
                self.plans.insert(*turn, *plan);
                self.steps.extend(steps.iter().map(StepTrace::planned));
            }
            Fact::Answered { answer, .. } => self.answer = Some(*answer),
            Fact::Asked { question, .. } => {
                (self.state, self.question) = (RunState::Suspended(Suspension::Question), Some(*question));
            }
            Fact::QuestionAnswered { .. } => (self.state, self.question) = (RunState::Planning, None),
            // A reply that cannot be used leaves the run where it is: the planner is asked again, or the run ends.
            _ => {}
        }
    }

    fn moved(&mut self) {
        match self.state {
            // A question stays open until it is answered.
            RunState::Suspended(Suspension::Question) => {}
            RunState::Suspended(_) => self.state = self.under_way(),
            _ => {}
        }
    }

    fn under_way(&self) -> RunState {
        let is_undoing = self.undo.is_some() || self.takes_back();
        match self.steps.is_empty() {
            _ if is_undoing => RunState::Undoing,
            true => RunState::Planning,
            false => RunState::Executing,
        }
    }

    /// Whether the run is there to take back another one.
    fn takes_back(&self) -> bool {
        self.parent.as_ref().is_some_and(|parent| parent.takes_back.is_some())
    }

    fn end(&mut self, end: &RunEnd) {
        self.state = match end {
            RunEnd::Succeeded { answer } => {
                self.answer = answer.or(self.answer);
                RunState::Succeeded
            }
            RunEnd::Failed { failure, .. } => {
                self.failure = Some(*failure);
                RunState::Failed
            }
            RunEnd::Cancelled { .. } => RunState::Cancelled,
            RunEnd::BudgetExhausted { failure } => {
                self.failure = Some(*failure);
                RunState::BudgetExhausted
            }
        };
    }

    /// A lone call that may change something has begun: until its end is told, it is unknown.
    fn call_started(&mut self, at: Timestamp, call: u64, tool: &ToolName, effect: Effect, args: Digest) {
        let Ok(step) = StepId::new(0, &format!("call{call}")) else { return };
        let mut told = StepTrace::new(&step, tool, effect);
        (told.status, told.args, told.attempts, told.started) = ("unknown", Some(args), 1, Some(at));
        self.steps.push(told);
    }

    /// One that may be made again is made in another session: here it did not happen.
    fn call_settled(&mut self, at: Timestamp, call: u64, settlement: &Settlement) {
        let Ok(step) = StepId::new(0, &format!("call{call}")) else { return };
        if let Some(told) = self.steps.iter_mut().find(|told| told.step == step) {
            told.ended = Some(at);
            told.settled(settlement);
            if *settlement == Settlement::Retry {
                told.status = "failed";
            }
        }
    }

    fn called(&mut self, at: Timestamp, fact: &Fact) {
        let Fact::Called { call, tool, effect, args, end, usage, log, denials, has_written, has_open_write, .. } = fact
        else {
            return;
        };
        let Ok(step) = StepId::new(0, &format!("call{call}")) else { return };
        if !self.steps.iter().any(|told| told.step == step) {
            self.call_started(at, *call, tool, *effect, *args);
        }
        if let Some(told) = self.steps.iter_mut().find(|told| told.step == step) {
            (told.ended, told.usage, told.log, told.denials) = (Some(at), Some(usage.clone()), *log, *denials);
            if *has_written {
                told.doubt.wrote();
            }
            told.end(end, *has_open_write);
        }
    }

    fn step(&mut self, at: Timestamp, fact: &Fact) {
        let Some(id) = fact.step() else { return };
        self.moved();
        let Some(place) = self.place(id) else { return };
        self.steps[place].tell(at, fact);
        let (role, status) = (self.steps[place].role.clone(), self.steps[place].status);
        if let Some(word) = undo_word(fact, status) {
            self.mark_undone_step(&role, word);
        }
    }

    /// Returns where the story of a step stands. That of an item begins with the first fact about it.
    fn place(&mut self, id: &StepId) -> Option<usize> {
        if let Some(place) = self.steps.iter().position(|step| step.step == *id) {
            return Some(place);
        }
        let of: StepId = id.as_str().split_once('[')?.0.parse().ok()?;
        let parent = self.steps.iter().position(|step| step.step == of)?;
        let item = self.steps[parent].item(id);
        let is_sibling = |step: &StepTrace| matches!(&step.role, Role::Item { of: other } if *other == of);
        let place = parent + 1 + self.steps[parent + 1..].iter().take_while(|step| is_sibling(step)).count();
        self.steps.insert(place, item);
        Some(place)
    }

    /// Marks the step that a step of this role takes back.
    fn mark_undone_step(&mut self, role: &Role, word: &'static str) {
        let Role::Undo { of } = role else { return };
        if let Some(undone) = self.steps.iter_mut().find(|step| step.step == *of) {
            undone.status = word;
        }
    }
}

/// Returns the word for a step whose undo has come to `status` by `fact`; `None` where that says nothing yet.
fn undo_word(fact: &Fact, status: &str) -> Option<&'static str> {
    match (fact, status) {
        (Fact::StepEnded { .. } | Fact::StepSettled { .. } | Fact::StepCached { .. }, "succeeded") => Some("undone"),
        (Fact::StepEnded { end: StepEnd::Failed { .. }, .. } | Fact::StepSettled { .. }, "failed" | "cancelled")
        | (Fact::StepRejected { .. } | Fact::StepSkipped { .. } | Fact::ApprovalExpired { .. }, _) => {
            Some("undo_failed")
        }
        (Fact::StepSettled { .. } | Fact::StepStarted { .. }, _) => Some("undoing"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::{CaveatKind, Cost, GENESIS, Items, OnFailure, PlannedStep, RunId, SkipReason, Usage};

    use super::*;

    const RUN: &str = "r-01arz3ndektsv4rrffq69g5fav";

    fn digest(n: u8) -> Digest {
        Digest::from_bytes([n; 32])
    }

    fn id(text: &str) -> StepId {
        text.parse().unwrap()
    }

    fn run() -> RunId {
        RUN.parse().unwrap()
    }

    fn planned(step: &str) -> PlannedStep {
        PlannedStep::call(id(step), "notes.write".parse().unwrap(), vec![], Effect::Once)
    }

    fn accepted(steps: Vec<PlannedStep>) -> Fact {
        Fact::PlanAccepted {
            turn: 1,
            reply: digest(1),
            plan: digest(2),
            steps,
            has_answer: false,
            has_assertions: false,
            checked_by: crate::domain::CHECK_VERSION,
        }
    }

    fn started(step: &str, attempt: u32) -> Fact {
        Fact::StepStarted {
            step: id(step),
            attempt,
            component: digest(3),
            effect: Effect::Once,
            rules: vec![],
            reserved: Cost::default(),
            run: None,
        }
    }

    fn ended(step: &str, attempt: u32, end: StepEnd, retry: Option<Timestamp>) -> Fact {
        Fact::StepEnded {
            step: id(step),
            attempt,
            end,
            usage: Usage::default(),
            cost: Cost::default(),
            log: None,
            denials: None,
            has_written: false,
            has_open_write: false,
            host_calls: None,
            retry,
            has_caveats: false,
            within: None,
        }
    }

    fn brought() -> StepEnd {
        StepEnd::Succeeded { output: digest(9) }
    }

    fn failed() -> StepEnd {
        StepEnd::Failed { kind: Kind::NetworkTimeout, failure: digest(8) }
    }

    fn undo(of: &str) -> PlannedStep {
        PlannedStep { role: Role::Undo { of: id(of) }, ..planned("t1.undo-write") }
    }

    fn told(facts: Vec<Fact>) -> Trace {
        let event = |(seq, fact)| Event {
            v: 0,
            run: run(),
            seq,
            epoch: 1,
            at: Timestamp(seq),
            prev: GENESIS,
            fact,
            stored: None,
        };
        trace(&(1..).zip(facts).map(event).collect::<Vec<_>>())
    }

    /// What a list shows of a trace: where it is, and each step's word.
    fn words(trace: &Trace) -> (RunState, Vec<String>) {
        (trace.state, trace.steps.iter().map(|step| format!("{} {}", step.step, step.status)).collect())
    }

    #[test]
    fn a_step_that_failed_for_now_tells_when_it_is_tried_again() {
        let begun = vec![accepted(vec![planned("t1.a")]), started("t1.a", 1)];
        let waits = told([begun.clone(), vec![ended("t1.a", 1, failed(), Some(Timestamp(900)))]].concat());
        assert_eq!((waits.steps[0].status, waits.steps[0].retry), ("retry_wait", Some(Timestamp(900))));
        let timer = Fact::RunSuspended { why: Suspension::Timer };
        let again = [begun, vec![ended("t1.a", 1, failed(), Some(Timestamp(900))), timer, started("t1.a", 2)]].concat();
        let again = told(again);
        assert_eq!(words(&again), (RunState::Executing, vec!["t1.a running".into()]));
        assert_eq!((again.steps[0].retry, again.steps[0].attempts), (None, 2));
    }

    #[test]
    fn items_stand_behind_their_step_in_their_order() {
        let each = PlannedStep { items: Some(Items { items_max: 9, parallel_max: 2 }), ..planned("t1.each") };
        let trace = told(vec![
            accepted(vec![each, planned("t1.last")]),
            Fact::StepExpanded { step: id("t1.each"), items: 2, list: digest(4) },
            started("t1.each[0]", 1),
            started("t1.each[1]", 1),
            ended("t1.each[0]", 1, brought(), None),
            ended("t1.each[1]", 1, brought(), None),
            Fact::StepGathered { step: id("t1.each"), end: brought() },
        ]);
        let steps = ["t1.each succeeded", "t1.each[0] succeeded", "t1.each[1] succeeded", "t1.last proposed"];
        assert_eq!(words(&trace).1, steps);
        assert_eq!(trace.steps[0].items, Some(2));
        assert_eq!(trace.steps[2].role, Role::Item { of: id("t1.each") });
    }

    #[test]
    fn what_is_taken_back_is_told_with_the_step_and_so_is_what_could_not_be() {
        let begun = vec![
            accepted(vec![planned("t1.write")]),
            ended("t1.write", 1, brought(), None),
            Fact::UndoBegun {
                why: UndoReason::Cancelled { by: "ann".into() },
                steps: vec![undo("t1.write")],
                left: Vec::new(),
            },
        ];
        assert_eq!(words(&told(begun.clone())).1, ["t1.write undoing", "t1.undo-write proposed"]);
        let back = told([begun.clone(), vec![ended("t1.undo-write", 1, brought(), None)]].concat());
        assert_eq!(words(&back), (RunState::Undoing, vec!["t1.write undone".into(), "t1.undo-write succeeded".into()]));
        let stuck = Fact::RunSuspended { why: Suspension::Stuck };
        let tried = [begun, vec![ended("t1.undo-write", 1, failed(), None), stuck]].concat();
        let left = told(tried.clone());
        let words_left = vec!["t1.write undo_failed".into(), "t1.undo-write failed".into()];
        assert_eq!(words(&left), (RunState::Suspended(Suspension::Stuck), words_left));
        let done = Fact::StepSettled {
            step: id("t1.undo-write"),
            settlement: crate::domain::Settlement::Done { output: digest(5) },
            by: "ann".into(),
        };
        assert_eq!(words(&told([tried.clone(), vec![done]].concat())).1[0], "t1.write undone");
        let stays = Fact::StepSettled {
            step: id("t1.undo-write"),
            settlement: crate::domain::Settlement::Failed { failure: digest(5) },
            by: "ann".into(),
        };
        let given_up = told([tried, vec![stays]].concat());
        assert_eq!((words(&given_up).1[0].as_str(), given_up.steps[1].is_given_up), ("t1.write undo_failed", true));
    }

    #[test]
    fn a_step_tells_what_stood_in_for_it_and_what_was_taken_from_before() {
        let first = PlannedStep { on_failure: OnFailure::Fallback("t1.other".into()), ..planned("t1.first") };
        let trace = told(vec![
            accepted(vec![first, planned("t1.other"), planned("t1.third")]),
            ended("t1.first", 1, failed(), None),
            Fact::StepCached { step: id("t1.other"), output: digest(9), from: run(), age_ms: 7 },
            Fact::StepSkipped { step: id("t1.third"), why: SkipReason::Condition },
            Fact::Verified { turn: 1, failure: Some((Kind::DataCondition, digest(8))) },
            Fact::RunEnded {
                end: RunEnd::Failed { kind: Kind::DataCondition, failure: digest(8) },
                caveats: vec![Caveat { step: id("t1.first"), what: CaveatKind::Degraded }],
            },
        ]);
        assert_eq!(trace.steps[0].fallback.as_deref(), Some("t1.other"));
        assert_eq!(trace.steps[1].cached.as_ref().map(|cached| cached.age_ms), Some(7));
        assert_eq!(trace.steps[2].skipped, Some(SkipReason::Condition));
        assert_eq!((trace.state, trace.verified), (RunState::Failed, Some(Err(Kind::DataCondition))));
        assert_eq!(trace.caveats.len(), 1);
    }

    #[test]
    fn a_person_who_does_not_decide_in_time_says_no_and_one_who_cancels_closes_the_question() {
        let asked = Fact::ApprovalRequested {
            step: id("t1.a"),
            binding: digest(7),
            effect: Effect::Once,
            rule: "r".into(),
            expires: Timestamp(50),
        };
        let waits = told(vec![accepted(vec![planned("t1.a")]), asked.clone()]);
        assert_eq!(waits.steps[0].asked.as_ref().map(|asked| asked.expires), Some(Timestamp(50)));
        let late = Fact::ApprovalExpired { step: id("t1.a"), binding: digest(7), failure: digest(8) };
        let late = told(vec![accepted(vec![planned("t1.a")]), asked, late]);
        assert_eq!((late.steps[0].status, late.steps[0].asked.is_none()), ("rejected", true));

        let question = Fact::Asked { turn: 1, reply: digest(1), question: digest(2) };
        let cancelled = told(vec![question, Fact::CancelRequested { by: "ann".into(), undo: false }]);
        assert_eq!((cancelled.state, cancelled.question), (RunState::Planning, None));
        assert_eq!(cancelled.cancelled_by.as_deref(), Some("ann"));
    }
}
