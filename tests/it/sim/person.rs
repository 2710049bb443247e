//! A person who answers what runs ask, always with the truth, and twice.

use std::sync::Arc;
use std::time::Duration;

use cofferdam::clock::Clock;
use cofferdam::domain::{Digest, Event, Fact, Json, Role, Suspension};
use cofferdam::orchestrator::{Run, RunStatus, Step, StepStatus};
use cofferdam::store::{Choice, EventLog, Message, Settle};

use super::disk::Disk;
use super::world::{Done, World};

/// Whose decisions must never count.
pub const FORGER: &str = "mallory";

/// What the person wants booked in place of what was proposed.
pub const OTHER_KIND: &str = "hotel";

pub struct Person {
    pub seed: u64,
    pub is_choosy: bool,
    pub world: Arc<World>,
}

/// What the person does about a call that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mind {
    Approves,
    Rejects,
    /// Approves it with other arguments.
    Modifies,
    /// Lets the time go by.
    Leaves,
}

impl Person {
    /// Moves every run on that waits for a person.
    pub async fn act(&self, disk: &Disk) {
        let (mut sent, mut expires) = (0, None);
        for entry in disk.log().runs(usize::MAX).await.expect("the log is read") {
            let events = disk.log().read(&entry.run, 0).await.expect("the log is read");
            let Ok(run) = Run::of(&events) else { continue };
            if run.is_ended() {
                continue;
            }
            for step in run.in_order() {
                if let StepStatus::AwaitingApproval { binding, expires: at } = step.status {
                    self.forge(disk, &run, step, &events, binding).await;
                    expires = expires.into_iter().chain([at]).min();
                }
                let Some(message) = self.message(disk, &run, step).await else { continue };
                // The same answer twice is one.
                disk.send(&run.id, message.clone()).await;
                disk.send(&run.id, message).await;
                sent += 1;
            }
            if run.status == RunStatus::Suspended(Suspension::Question) {
                let answer =
                    |text: &str| Message::Answer { turn: run.planning.turn, text: text.into(), by: "ann".into() };
                disk.send(&run.id, answer("The first one.")).await;
                disk.send(&run.id, answer("Another one.")).await;
                sent += 1;
            }
        }
        if sent == 0 {
            let expires = expires.unwrap_or_else(|| panic!("seed {}: a run waits for nobody", self.seed));
            self.world.clock.sleep(Duration::from_millis(expires.ms_since(self.world.clock.now()))).await;
            self.too_late(disk).await;
        }
    }

    /// Approves what nobody decided in time: that counts no more.
    async fn too_late(&self, disk: &Disk) {
        for entry in disk.log().runs(usize::MAX).await.expect("the log is read") {
            let events = disk.log().read(&entry.run, 0).await.expect("the log is read");
            let Ok(run) = Run::of(&events) else { continue };
            let now = self.world.clock.now();
            let late = run.in_order().filter_map(|step| match step.status {
                StepStatus::AwaitingApproval { binding, expires } if now >= expires => {
                    Some((step.id().clone(), binding))
                }
                _ => None,
            });
            for (step, binding) in late {
                let by = "ann".to_owned();
                let message = Message::Decide { step, binding, choice: Choice::Approve, by, reason: None };
                disk.send(&run.id, message).await;
            }
        }
    }

    /// Somebody else approves what was not asked: another call, or one that was asked before.
    async fn forge(&self, disk: &Disk, run: &Run, step: &Step, events: &[Event], binding: Digest) {
        let stale = events.iter().filter_map(|event| match &event.fact {
            Fact::ApprovalRequested { binding: before, .. } if *before != binding => Some(*before),
            _ => None,
        });
        for binding in stale.chain([Digest::of(b"forged")]).collect::<Vec<_>>() {
            let (step, by) = (step.id().clone(), FORGER.to_owned());
            disk.send(&run.id, Message::Decide { step, binding, choice: Choice::Approve, by, reason: None }).await;
        }
    }

    async fn message(&self, disk: &Disk, run: &Run, step: &Step) -> Option<Message> {
        let by = "ann".to_owned();
        let id = step.id().clone();
        match &step.status {
            StepStatus::AwaitingApproval { binding, .. } => {
                let choice = self.choice(disk, run, step).await?;
                Some(Message::Decide { step: id, binding: *binding, choice, by, reason: None })
            }
            StepStatus::Unknown if run.status == RunStatus::Suspended(Suspension::Reconcile) => {
                Some(Message::Settle { step: id, settle: self.truth(step), by })
            }
            status if status.is_failed() && matches!(step.planned.role, Role::Undo { .. }) && !step.is_given_up => {
                Some(Message::Settle { step: id, settle: self.unstuck(run, step), by })
            }
            _ => None,
        }
    }

    fn luck(&self, about: &str, step: &Step) -> u8 {
        Digest::of(format!("{} {about} {}", self.seed, step.id()).as_bytes()).as_bytes()[0]
    }

    fn mind(&self, step: &Step) -> Mind {
        match self.luck("approve", step) % 8 {
            _ if !self.is_choosy => Mind::Approves,
            0 => Mind::Rejects,
            1..=3 => Mind::Modifies,
            4 => Mind::Leaves,
            _ => Mind::Approves,
        }
    }

    async fn choice(&self, disk: &Disk, run: &Run, step: &Step) -> Option<Choice> {
        match self.mind(step) {
            Mind::Approves => Some(Choice::Approve),
            Mind::Rejects => Some(Choice::Reject),
            Mind::Leaves => None,
            Mind::Modifies => {
                let (args, _) = step.ready?;
                let args = disk.log().payload(&run.id, &args).await.expect("the log is read").expect("it is there");
                let mut args: Json = serde_json::from_slice(&args).expect("arguments are JSON");
                match args.get("kind") {
                    Some(_) => args["kind"] = OTHER_KIND.into(),
                    None => return Some(Choice::Approve),
                }
                Some(Choice::Modify { args: args.to_string() })
            }
        }
    }

    /// What becomes of a call that could not take something back: it can now, or it is done by hand, or it stays so.
    fn unstuck(&self, run: &Run, step: &Step) -> Settle {
        match self.luck("stuck", step) % 3 {
            0 => Settle::Failed,
            // Where nobody knows what to take back, another time brings the same.
            1 if step.ready.is_some() => {
                if let Some(id) =
                    self.booked(run, step).and_then(|booked| booked.output["id"].as_str().map(str::to_owned))
                {
                    self.world.heal(&id);
                }
                Settle::Retry
            }
            _ => self.cancelled_by_hand(run, step),
        }
    }

    fn booked(&self, run: &Run, step: &Step) -> Option<Done> {
        let Role::Undo { of } = &step.planned.role else { return None };
        let done_by = run.takes_back().map_or(&run.id, |taken| &taken.run);
        self.world.done().into_iter().find(|done| done.run == *done_by && done.step == *of)
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
        if let Some(booked) = self.booked(run, step) {
            let cancels = booked.output["id"].as_str().map(str::to_owned);
            let (run, step) = (run.id.clone(), step.id().clone());
            let by_hand = Done { tool: "person".into(), run, step, cancels, ..booked.clone() };
            let key = Digest::of_parts(&[b"by hand", booked.key.as_bytes()]);
            self.world.change(Done { key, writes: 1, n: 1, ..by_hand }, true);
        }
        Settle::Done { output: "null".into() }
    }
}
