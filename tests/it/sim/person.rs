//! A person who answers what runs ask, always with the truth, and twice.

use std::sync::Arc;

use cofferdam::domain::{Digest, Role, Suspension};
use cofferdam::orchestrator::{Run, RunStatus, Step, StepStatus};
use cofferdam::store::{Choice, EventLog, Message, Settle};

use super::disk::Disk;
use super::world::{Done, World};

pub struct Person {
    pub seed: u64,
    pub rejects: bool,
    pub world: Arc<World>,
}

impl Person {
    /// Moves every run on that waits for a person.
    pub async fn act(&self, disk: &Disk) {
        let mut sent = 0;
        for entry in disk.log().runs(usize::MAX).await.expect("the log is read") {
            let events = disk.log().read(&entry.run, 0).await.expect("the log is read");
            let Ok(run) = Run::of(&events) else { continue };
            if run.is_ended() {
                continue;
            }
            for message in run.in_order().filter_map(|step| self.message(&run, step)) {
                // The same answer twice is one.
                disk.send(&run.id, message.clone()).await;
                disk.send(&run.id, message).await;
                sent += 1;
            }
        }
        assert!(sent > 0, "seed {}: a run waits for nobody", self.seed);
    }

    fn message(&self, run: &Run, step: &Step) -> Option<Message> {
        let by = "ann".to_owned();
        match &step.status {
            StepStatus::AwaitingApproval { binding, .. } => Some(Message::Decide {
                step: step.id().clone(),
                binding: *binding,
                choice: self.choice(step),
                by,
                reason: None,
            }),
            StepStatus::Unknown if run.status == RunStatus::Suspended(Suspension::Reconcile) => {
                Some(Message::Settle { step: step.id().clone(), settle: self.truth(step), by })
            }
            status if status.is_failed() && matches!(step.planned.role, Role::Undo { .. }) => {
                let settle = self.cancelled_by_hand(run, step);
                Some(Message::Settle { step: step.id().clone(), settle, by })
            }
            _ => None,
        }
    }

    fn choice(&self, step: &Step) -> Choice {
        let luck = Digest::of(format!("{} {}", self.seed, step.id()).as_bytes());
        if self.rejects && luck.as_bytes()[0].is_multiple_of(3) { Choice::Reject } else { Choice::Approve }
    }

    /// What the world knows of a step whose end nobody saw.
    fn truth(&self, step: &Step) -> Settle {
        let done = step.ready.map(|(_, key)| self.world.done_under(key)).unwrap_or_default();
        match done.first() {
            None => Settle::Retry,
            Some(first) if u32::try_from(done.len()).ok() == Some(first.writes) => {
                Settle::Done { output: first.output.to_string() }
            }
            Some(_) => Settle::Failed,
        }
    }

    /// Takes back what the host could not, and says so.
    fn cancelled_by_hand(&self, run: &Run, step: &Step) -> Settle {
        let Role::Undo { of } = &step.planned.role else { return Settle::Failed };
        let done_by = run.takes_back().map_or(&run.id, |taken| &taken.run);
        let booked: Vec<Done> =
            self.world.done().into_iter().filter(|done| done.run == *done_by && done.step == *of).collect();
        if let Some(booked) = booked.first() {
            let cancels = booked.output["id"].as_str().map(str::to_owned);
            let by_hand =
                Done { tool: "person".into(), run: run.id.clone(), step: step.id().clone(), cancels, ..booked.clone() };
            let key = Digest::of_parts(&[b"by hand", booked.key.as_bytes()]);
            self.world.change(Done { key, writes: 1, n: 1, ..by_hand }, true);
        }
        Settle::Done { output: "null".into() }
    }
}
