//! Messages that other processes left: what a person decided becomes events.
//!
//! A message is removed once its event is in the log. After a crash in between it is taken again, and finds nothing left
//! to decide: so a decision is neither lost nor counted twice.

use crate::domain::{Decision, Digest, Fact, Failure, Json, Kind, Settlement, StepId, Suspension};
use crate::orchestrator::driver::{Drive, INBOX_POLL};
use crate::orchestrator::machine::{RunStatus, StepStatus};
use crate::orchestrator::schedule::is_stuck;
use crate::store::{Choice, Durability, Message, Payload, Settle};

impl Drive {
    /// Looks into the inbox, at most as often as [`INBOX_POLL`]: each look waits for all that was appended before.
    pub(super) async fn receive(&mut self) -> Result<(), Failure> {
        let now = self.driver.parts.clock.monotonic_ms();
        if self.looked_ms.is_some_and(|looked| u128::from(now.saturating_sub(looked)) < INBOX_POLL.as_millis()) {
            return Ok(());
        }
        self.looked_ms = Some(now);
        let received = self.driver.parts.log.inbox(&self.run.id).await?;
        if received.is_empty() {
            return Ok(());
        }
        let ids: Vec<u64> = received.iter().map(|received| received.id).collect();
        for message in received {
            self.take_message(message.message).await?;
        }
        self.waits_since_ms = None;
        self.driver.parts.log.received(&*self.owner, &ids).await
    }

    async fn take_message(&mut self, message: Message) -> Result<(), Failure> {
        if let RunStatus::Ended(_) = self.run.status {
            return Ok(());
        }
        match message {
            Message::Decide { step, binding, choice, by, reason } => {
                self.decide(step, binding, choice, by, reason).await
            }
            Message::Settle { step, settle, by } => self.settle(step, settle, by).await,
            Message::Answer { turn, text, by } => self.answer(turn, &text, by).await,
            Message::Cancel { by, undo } if self.run.cancelled.is_none() => {
                self.record(vec![Fact::CancelRequested { by, undo }], Vec::new(), Durability::Synced).await
            }
            Message::Cancel { .. } => Ok(()),
        }
    }

    async fn answer(&mut self, turn: u32, text: &str, by: String) -> Result<(), Failure> {
        let is_open = self.run.status == RunStatus::Suspended(Suspension::Question) && turn == self.run.planning.turn;
        if !is_open {
            return Ok(());
        }
        let text = Payload::of(&text)?;
        let fact = Fact::QuestionAnswered { turn, text: text.digest(), by };
        self.record(vec![fact], vec![text], Durability::Synced).await
    }

    /// Takes a decision about exactly the call that waits; any other is stale or forged, and changes nothing.
    async fn decide(
        &mut self,
        step: StepId,
        binding: Digest,
        choice: Choice,
        by: String,
        reason: Option<String>,
    ) -> Result<(), Failure> {
        let waits = self.run.step(&step).is_some_and(
            |s| matches!(&s.status, StepStatus::AwaitingApproval { binding: asked, .. } if *asked == binding),
        );
        let now = self.driver.parts.clock.now();
        let is_late = self
            .run
            .step(&step)
            .is_some_and(|s| matches!(s.status, StepStatus::AwaitingApproval { expires, .. } if now >= expires));
        if waits && is_late {
            return self.expire(step, binding).await;
        }
        if !waits {
            tracing::warn!(run = %self.run.id, %step, %by, "a decision about a call that does not wait for one was dropped");
            return Ok(());
        }
        let stored = reason.as_ref().map(Payload::of).transpose()?;
        let decided = |decision| Fact::ApprovalDecided {
            step: step.clone(),
            binding,
            decision,
            by: by.clone(),
            reason: stored.as_ref().map(Payload::digest),
        };
        let mut payloads: Vec<Payload> = stored.iter().cloned().collect();
        let facts = match choice {
            Choice::Approve => vec![decided(Decision::Approve)],
            Choice::Reject => {
                let why = reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
                let failure = Failure::new(Kind::PolicyRejected, format!("call `{step}`: {by} rejected it{why}"));
                let failure = Payload::of(&failure)?;
                let rejected =
                    Fact::StepRejected { step: step.clone(), kind: Kind::PolicyRejected, failure: failure.digest() };
                payloads.push(failure);
                vec![decided(Decision::Reject), rejected]
            }
            Choice::Modify { args } => {
                let Some((decision, args)) = self.modified(&step, &args).await? else { return Ok(()) };
                payloads.push(args);
                vec![decided(decision)]
            }
        };
        self.record(facts, payloads, Durability::Synced).await
    }

    /// Takes what a person says of a step whose end nobody saw, or of a call that was to take one back.
    async fn settle(&mut self, step: StepId, settle: Settle, by: String) -> Result<(), Failure> {
        let is_open = self.run.step(&step).is_some_and(|s| s.status == StepStatus::Unknown || is_stuck(s));
        if !is_open {
            tracing::warn!(run = %self.run.id, %step, %by, "a settlement of a step that is not unknown was dropped");
            return Ok(());
        }
        let has_done = self.run.step(&step).is_some_and(|s| s.has_done_within() && s.planned.role.undoes().is_none());
        let (settlement, payloads) = match settle {
            Settle::Retry if has_done => {
                tracing::warn!(run = %self.run.id, %step, %by, "a retry of a run that has done something was dropped");
                return Ok(());
            }
            Settle::Retry => (Settlement::Retry, Vec::new()),
            Settle::Failed => {
                let message = format!("finish `{step}`: {by} says that it did not happen");
                let failure = Payload::of(&Failure::new(Kind::HostInterrupted, message))?;
                (Settlement::Failed { failure: failure.digest() }, vec![failure])
            }
            Settle::Done { output } => match serde_json::from_str::<Json>(&output) {
                Ok(output) => {
                    let output = Payload::of(&output)?;
                    (Settlement::Done { output: output.digest() }, vec![output])
                }
                Err(error) => {
                    tracing::warn!(run = %self.run.id, %step, %by, %error, "an output that is no JSON was dropped");
                    return Ok(());
                }
            },
        };
        self.record(vec![Fact::StepSettled { step, settlement, by }], payloads, Durability::Synced).await
    }
}
