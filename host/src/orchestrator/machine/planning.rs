//! What the planner was asked, what came of it, and what that took of the budget.
//!
//! A request reserves what it may cost before it is sent, and is settled when its reply is in. One whose process died, or
//! whose tokens nobody counted, is taken to have cost all of that.

use crate::domain::{Cost, Digest, Fact, Kind, Timestamp};
use crate::orchestrator::machine::{Run, RunStatus};

/// What the planner was asked, and how often it was refused.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Planning {
    /// Turns begun.
    pub turn: u32,
    /// Whether a request is under way, or is to be made once more.
    pub is_asked: bool,
    /// Requests, repairs included.
    pub requests: u32,
    /// Refusals in a row, and the payloads of the last: reply and failures.
    pub refusals: u32,
    pub refused: Option<(Digest, Digest)>,
    /// The last two refusals had the very same reasons.
    pub is_same: bool,
    /// A request failed for good.
    pub failed: Option<(Kind, Digest)>,
    /// The last plan has an answer to be resolved when its steps are done.
    pub has_answer: bool,
    /// Which of its models was asked last, and of which tier that is.
    pub asked: Option<(String, String)>,
    /// Models that could not reply in this turn, in the order in which they were asked; one may be there twice.
    pub down: Vec<String>,
    /// When the same is to be asked again.
    pub retry_at: Option<Timestamp>,
    /// How often a tier has shown that it is not up to the goal, and the last that did.
    pub escalations: u32,
    pub above: Option<String>,
    /// What is reserved for the request under way.
    pub reserved: Cost,
    /// What the reply took is known.
    pub has_replied: bool,
}

impl Run {
    pub(super) fn planned(&mut self, fact: &Fact) -> Result<(), &'static str> {
        match fact {
            Fact::PlanRequested { turn, asked, reserved, .. } => {
                self.plan_requested(*turn, *reserved)?;
                self.planning.asked = asked.as_ref().map(|asked| (asked.model.clone(), asked.tier.clone()));
                return Ok(());
            }
            _ if !self.planning.is_asked || self.planning.retry_at.is_some() => {
                return Err("the planner was not asked");
            }
            Fact::PlanReplied { cost, .. } => return self.plan_replied(*cost),
            Fact::PlanFailed { kind, failure, retry, .. } => {
                self.settle_planning();
                return self.plan_failed((*kind, *failure), *retry);
            }
            Fact::PlanRejected { reply, failures, is_escalated, .. } => {
                self.planning.rejected((*reply, *failures), *is_escalated);
            }
            Fact::PlanAccepted { turn, plan, steps, has_answer, has_assertions, .. } => {
                self.accept(*turn, *plan, steps)?;
                self.planning.refusals = 0;
                self.planning.refused = None;
                self.planning.has_answer = *has_answer;
                self.has_assertions |= has_assertions;
            }
            _ => return Err("it is not about a plan"),
        }
        self.settle_planning();
        self.planning.is_asked = false;
        Ok(())
    }

    fn plan_requested(&mut self, turn: u32, reserved: Cost) -> Result<(), &'static str> {
        let planning = &self.planning;
        let is_next = turn == planning.turn + 1 && !planning.is_asked;
        // After a crash, or where no reply came, the same request is made again.
        let is_again = turn == planning.turn && planning.is_asked;
        if !is_next && !is_again {
            return Err("it is not this turn");
        }
        self.settle_planning();
        let planning = &mut self.planning;
        // That costs no turn: it is the same request.
        planning.requests += u32::from(is_next);
        if is_next {
            planning.down.clear();
        }
        (planning.turn, planning.is_asked, planning.has_replied) = (turn, true, false);
        planning.retry_at = None;
        planning.reserved = reserved;
        self.reserved = self.reserved.plus(reserved);
        self.status = RunStatus::Planning;
        Ok(())
    }

    fn plan_replied(&mut self, cost: Cost) -> Result<(), &'static str> {
        if self.planning.has_replied {
            return Err("it has replied");
        }
        self.note_over(cost, self.planning.reserved);
        let planning = &mut self.planning;
        planning.has_replied = true;
        self.reserved = self.reserved.minus(std::mem::take(&mut planning.reserved));
        self.spent = self.spent.plus(cost);
        Ok(())
    }

    fn plan_failed(&mut self, failed: (Kind, Digest), retry: Option<Timestamp>) -> Result<(), &'static str> {
        let planning = &mut self.planning;
        match retry {
            Some(due) => {
                planning.down.extend(planning.asked.as_ref().map(|(model, _)| model.clone()));
                planning.retry_at = Some(due);
            }
            None => {
                planning.failed = Some(failed);
                planning.is_asked = false;
            }
        }
        Ok(())
    }

    /// Notes the bound that did not hold, where models took more than was reserved for them.
    pub(super) fn note_over(&mut self, cost: Cost, reserved: Cost) {
        let bounds = [
            ("usd_micros_max", self.budget.usd_micros_max, cost.usd_micros, reserved.usd_micros),
            ("tokens_max", self.budget.tokens_max, cost.tokens, reserved.tokens),
        ];
        let over = bounds.into_iter().find(|(_, most, cost, reserved)| most.is_some() && cost > reserved);
        self.over = self.over.or(over.map(|(bound, ..)| bound));
    }

    /// What nobody settled was spent, for all that is known.
    pub(super) fn settle_planning(&mut self) {
        let reserved = std::mem::take(&mut self.planning.reserved);
        self.reserved = self.reserved.minus(reserved);
        self.spent = self.spent.plus(reserved);
    }

    /// Returns whether the last replies were refused as often as they may be.
    pub(in crate::orchestrator) fn is_refused_for_good(&self) -> bool {
        self.planning.is_same || self.planning.refusals > self.budget.repairs_max
    }
}

impl Planning {
    fn rejected(&mut self, refused: (Digest, Digest), is_escalated: bool) {
        let is_same = self.refused.is_some_and(|(_, failures)| failures == refused.1) && self.refusals > 0;
        self.refused = Some(refused);
        (self.refusals, self.is_same) = match is_escalated {
            true => (0, false),
            false => (self.refusals + 1, is_same),
        };
        if is_escalated {
            self.escalations += 1;
            self.above = self.asked.as_ref().map(|(_, tier)| tier.clone());
        }
    }
}
