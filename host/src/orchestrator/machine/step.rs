//! A step of a run, and where it is.

use crate::domain::{
    Cost, Decision, Digest, Doubt, Effect, Fact, Kind, PlannedStep, RunId, Settlement, SkipReason, StepEnd, StepId,
    Timestamp, Within,
};

/// A step of the run.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub planned: PlannedStep,
    pub status: StepStatus,
    /// Arguments and key, once they are known; never computed again, but for another call that a person put in its place.
    pub ready: Option<(Digest, Digest)>,
    /// The step that asks for the very same call, where that changes something.
    pub duplicate_of: Option<StepId>,
    /// The approved binding, and who approved.
    pub approved: Option<(Digest, String)>,
    /// Attempts begun.
    pub attempts: u32,
    /// Those of them whose process died: no failures, so they take nothing from those that may be tried again.
    pub interruptions: u32,
    /// The worst that the attempts so far could do.
    pub effect: Effect,
    /// What the running attempt may cost.
    pub reserved: Cost,
    /// The run that carries the step out.
    pub run: Option<RunId>,
    /// The run that was to carry it out before that one.
    pub run_before: Option<RunId>,
    /// What the run that carried it out left behind.
    pub within: Within,
    /// The attempts whose host calls are answered from their records when the step starts again: those whose processes died,
    /// one after the other, since one came to its end.
    pub interrupted: Vec<u32>,
    /// The list whose items the step is done for, and how many there are.
    pub expanded: Option<(u32, Digest)>,
    /// What it brought, also when that was taken back.
    pub output: Option<Digest>,
    /// How its last attempt failed.
    pub failure: Option<(Kind, Digest)>,
    /// Whether anything it logged, printed or read was dropped.
    pub is_truncated: bool,
    /// Whether the run that carried it out ended with caveats of its own.
    pub has_caveats: bool,
    /// It was taken back, but for what no call is known to take back.
    pub has_left: bool,
    /// What a person was asked last is another call than before.
    pub is_asked_anew: bool,
    /// What its attempts may have changed.
    pub doubt: Doubt,
    /// Tools asked what became of it, and whether the last of them did not know.
    pub reconciles: u32,
    pub is_reconciled: bool,
    /// The attempt that the last of them was asked about.
    pub asked_about: u32,
    /// A person said that it cannot be taken back, and that this is to stay.
    pub is_given_up: bool,
}

/// Where a step is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepStatus {
    Proposed,
    Ready,
    AwaitingApproval {
        binding: Digest,
        expires: Timestamp,
    },
    Running {
        has_written: bool,
    },
    /// It failed, and is tried again.
    RetryWait {
        due: Timestamp,
    },
    /// Its items are done.
    Expanded,
    Succeeded {
        output: Digest,
    },
    Failed {
        kind: Kind,
        failure: Digest,
    },
    /// Never started: policy, a person, or arguments that do not fit.
    Rejected {
        kind: Kind,
        failure: Digest,
    },
    Skipped {
        why: SkipReason,
    },
    /// It was stopped before it changed anything.
    Cancelled {
        failure: Digest,
    },
    /// It began to change something, and nobody saw it end, or it was stopped before it could.
    Unknown,
    /// It is being taken back.
    Undoing,
    Undone,
    UndoFailed,
}

/// The name of where a step is: what the table of transitions speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    Proposed,
    Ready,
    AwaitingApproval,
    Running,
    RetryWait,
    Expanded,
    Succeeded,
    Failed,
    Rejected,
    Skipped,
    Cancelled,
    Unknown,
    Undoing,
    Undone,
    UndoFailed,
}

impl Stage {
    /// Returns the word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Ready => "ready",
            Self::AwaitingApproval => "awaiting_approval",
            Self::Running => "running",
            Self::RetryWait => "retry_wait",
            Self::Expanded => "expanded",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
            Self::Undoing => "undoing",
            Self::Undone => "undone",
            Self::UndoFailed => "undo_failed",
        }
    }

    /// Answers whether nothing more will happen to a step here, unless it is taken back.
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Succeeded
                | Self::Failed
                | Self::Rejected
                | Self::Skipped
                | Self::Cancelled
                | Self::Undone
                | Self::UndoFailed
        )
    }
}

impl StepStatus {
    /// Returns the name of where the step is.
    pub fn stage(&self) -> Stage {
        match self {
            Self::Proposed => Stage::Proposed,
            Self::Ready => Stage::Ready,
            Self::AwaitingApproval { .. } => Stage::AwaitingApproval,
            Self::Running { .. } => Stage::Running,
            Self::RetryWait { .. } => Stage::RetryWait,
            Self::Expanded => Stage::Expanded,
            Self::Succeeded { .. } => Stage::Succeeded,
            Self::Failed { .. } => Stage::Failed,
            Self::Rejected { .. } => Stage::Rejected,
            Self::Skipped { .. } => Stage::Skipped,
            Self::Cancelled { .. } => Stage::Cancelled,
            Self::Unknown => Stage::Unknown,
            Self::Undoing => Stage::Undoing,
            Self::Undone => Stage::Undone,
            Self::UndoFailed => Stage::UndoFailed,
        }
    }

    /// Answers whether nothing more will happen to the step, unless it is taken back.
    pub fn is_terminal(&self) -> bool {
        self.stage().is_terminal()
    }

    /// Answers whether the step's call runs.
    pub fn is_running(&self) -> bool {
        matches!(self, Self::Running { .. })
    }

    /// Answers whether the step did not do what it should.
    pub fn is_failed(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Rejected { .. } | Self::Cancelled { .. })
    }
}

impl Step {
    pub(super) fn new(planned: PlannedStep) -> Self {
        Self {
            effect: planned.effect,
            planned,
            status: StepStatus::Proposed,
            ready: None,
            duplicate_of: None,
            approved: None,
            attempts: 0,
            interruptions: 0,
            reserved: Cost::default(),
            run: None,
            run_before: None,
            within: Within::default(),
            interrupted: Vec::new(),
            expanded: None,
            output: None,
            failure: None,
            is_truncated: false,
            has_caveats: false,
            has_left: false,
            is_asked_anew: false,
            doubt: Doubt::default(),
            reconciles: 0,
            asked_about: 0,
            is_reconciled: false,
            is_given_up: false,
        }
    }

    /// Returns the number of attempts but those whose process died, the running one included: what a rule about retries
    /// counts, so that a crash changes nothing about how a run ends.
    pub fn attempts_counted(&self) -> u32 {
        self.attempts.saturating_sub(self.interruptions)
    }

    /// Answers whether its call was begun by a process that died, and is to go on.
    pub fn is_interrupted(&self) -> bool {
        let waits = matches!(self.status, StepStatus::Ready | StepStatus::AwaitingApproval { .. });
        waits && !self.interrupted.is_empty()
    }

    /// Answers whether the run that carried it out left something behind that it changed.
    pub fn has_done_within(&self) -> bool {
        self.run.is_some() && self.within.has_done
    }

    /// Returns the id.
    pub fn id(&self) -> &StepId {
        &self.planned.id
    }

    /// Where the fact leads the step, by itself; the table says whether it may follow from where the step is.
    pub(super) fn target(&self, fact: &Fact) -> Result<StepStatus, &'static str> {
        use StepStatus as S;
        let is_this = |attempt: &u32| {
            if *attempt == self.attempts { Ok(()) } else { Err("it is about another attempt") }
        };
        Ok(match fact {
            Fact::StepReady { .. } => S::Ready,
            Fact::StepExpanded { items, .. } => match self.planned.items {
                Some(bounds) if *items <= bounds.items_max => S::Expanded,
                _ => return Err("it is not done for so many items"),
            },
            // It does not go on, and what it had begun is not undone by that.
            Fact::StepRejected { .. } if self.doubt.has_written() => S::Unknown,
            Fact::StepRejected { kind, failure, .. } => S::Rejected { kind: *kind, failure: *failure },
            Fact::StepSkipped { why, .. } => S::Skipped { why: why.clone() },
            Fact::StepCached { output, .. } => S::Succeeded { output: *output },
            Fact::ApprovalRequested { binding, expires, .. } => {
                S::AwaitingApproval { binding: *binding, expires: *expires }
            }
            Fact::ApprovalDecided { binding, decision, .. } => self.decided(binding, decision)?,
            Fact::ApprovalExpired { binding, failure, .. } => {
                self.is_asked(binding)?;
                if self.doubt.has_written() {
                    return Ok(S::Unknown);
                }
                S::Rejected { kind: Kind::PolicyExpired, failure: *failure }
            }
            Fact::StepStarted { attempt, .. } if *attempt == self.attempts + 1 => S::Running { has_written: false },
            Fact::StepStarted { .. } => return Err("it is not the next attempt"),
            Fact::WriteBegun { attempt, .. } => is_this(attempt).map(|()| S::Running { has_written: true })?,
            Fact::StepEnded { attempt, end, retry, has_written, has_open_write, .. } => {
                is_this(attempt)?;
                self.ended(end, *retry, (*has_written, *has_open_write))?
            }
            Fact::StepGathered { end, .. } => match end {
                StepEnd::Succeeded { output } => S::Succeeded { output: *output },
                StepEnd::Failed { kind, failure } => S::Failed { kind: *kind, failure: *failure },
            },
            Fact::StepInterrupted { attempt, .. } => is_this(attempt).map(|()| S::Ready)?,
            Fact::StepUnknown { attempt, .. } => is_this(attempt).map(|()| S::Unknown)?,
            Fact::StepSettled { settlement, .. } => match settlement {
                Settlement::Done { output } => S::Succeeded { output: *output },
                Settlement::Retry if self.ready.is_none() => S::Proposed,
                Settlement::Retry => S::Ready,
                Settlement::Unknown => S::Unknown,
                Settlement::Failed { failure } => S::Failed { kind: Kind::HostInterrupted, failure: *failure },
            },
            _ => return Err("it is not about a step"),
        })
    }

    fn is_asked(&self, about: &Digest) -> Result<(), &'static str> {
        match &self.status {
            StepStatus::AwaitingApproval { binding, .. } if binding == about => Ok(()),
            _ => Err("it is about another call"),
        }
    }

    /// A rejection is told by the fact that follows it.
    fn decided(&self, about: &Digest, decision: &Decision) -> Result<StepStatus, &'static str> {
        self.is_asked(about)?;
        Ok(match decision {
            Decision::Approve | Decision::Modify { .. } => StepStatus::Ready,
            Decision::Reject => self.status.clone(),
        })
    }

    fn ended(
        &self,
        end: &StepEnd,
        retry: Option<Timestamp>,
        (has_written, has_open_write): (bool, bool),
    ) -> Result<StepStatus, &'static str> {
        let mut doubt = self.doubt;
        if has_written {
            doubt.wrote();
        }
        let has_written = doubt.has_written();
        Ok(match (end, retry) {
            (StepEnd::Succeeded { output }, None) => StepStatus::Succeeded { output: *output },
            (StepEnd::Succeeded { .. }, Some(_)) => return Err("it succeeded, and is not tried again"),
            (StepEnd::Failed { .. }, Some(_)) if has_written && self.effect > Effect::Idempotent => {
                return Err("it may have changed something, and is not tried again");
            }
            (StepEnd::Failed { .. }, Some(due)) => StepStatus::RetryWait { due },
            (StepEnd::Failed { kind, .. }, None) if doubt.failed(*kind, has_open_write) => StepStatus::Unknown,
            (StepEnd::Failed { kind: Kind::HostCancelled, failure }, None) => {
                StepStatus::Cancelled { failure: *failure }
            }
            (StepEnd::Failed { kind, failure }, None) => StepStatus::Failed { kind: *kind, failure: *failure },
        })
    }

    /// Takes what the fact brings beside the status.
    pub(super) fn take(&mut self, fact: &Fact) {
        match fact {
            Fact::ApprovalRequested { binding, .. } => {
                self.is_asked_anew =
                    !matches!(&self.status, StepStatus::AwaitingApproval { binding: before, .. } if before == binding);
            }
            Fact::StepReady { args, key, duplicate_of, .. } => {
                self.ready = Some((*args, *key));
                self.duplicate_of.clone_from(duplicate_of);
            }
            Fact::StepExpanded { items, list, .. } => self.expanded = Some((*items, *list)),
            Fact::ApprovalDecided { binding, decision, by, .. } => match decision {
                Decision::Approve => self.approved = Some((*binding, by.clone())),
                Decision::Reject => self.approved = None,
                Decision::Modify { args, key, binding } => {
                    self.ready = Some((*args, *key));
                    self.approved = Some((*binding, by.clone()));
                }
            },
            Fact::StepStarted { attempt, effect, reserved, run, .. } => {
                (self.attempts, self.reserved) = (*attempt, *reserved);
                self.effect = self.effect.max(*effect);
                if self.run != *run {
                    self.run_before = std::mem::replace(&mut self.run, run.clone());
                }
            }
            Fact::WriteBegun { .. } => self.doubt.wrote(),
            Fact::StepEnded { end, usage, has_written, has_open_write, has_caveats, within, .. } => {
                if *has_written {
                    self.doubt.wrote();
                }
                self.has_caveats = *has_caveats;
                self.within = within.clone().unwrap_or_default();
                self.interrupted.clear();
                self.reserved = Cost::default();
                self.is_truncated |= usage.log_bytes_dropped > 0;
                self.end(end, *has_open_write);
            }
            Fact::StepGathered { end, .. } => self.end(end, false),
            Fact::StepCached { output, .. } | Fact::StepSettled { settlement: Settlement::Done { output }, .. } => {
                self.output = Some(*output);
                self.doubt.settled();
            }
            Fact::StepRejected { kind, failure, .. } => self.failure = Some((*kind, *failure)),
            Fact::StepInterrupted { attempt, .. } => {
                self.doubt.interrupted();
                self.interrupted.push(*attempt);
                self.interruptions += 1;
            }
            // One that was interrupted before is counted already.
            Fact::StepUnknown { .. } => self.interruptions += u32::from(self.status.is_running()),
            Fact::StepSettled { settlement: Settlement::Unknown, .. } => self.is_reconciled = true,
            Fact::StepSettled { settlement: Settlement::Retry, .. } => {
                self.doubt.settled();
                self.interrupted.clear();
            }
            Fact::StepSettled { settlement: Settlement::Failed { failure }, .. } => {
                self.failure = Some((Kind::HostInterrupted, *failure));
                self.is_given_up = true;
            }
            _ => {}
        }
    }

    fn end(&mut self, end: &StepEnd, has_open_write: bool) {
        match end {
            StepEnd::Succeeded { output } => {
                self.output = Some(*output);
                self.doubt.settled();
            }
            StepEnd::Failed { kind, failure } => {
                self.doubt.failed(*kind, has_open_write);
                self.failure = Some((*kind, *failure));
            }
        }
    }
}
