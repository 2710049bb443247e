//! Suspends a run, and has somebody told that it waits for a person.

use std::time::Duration;

use crate::domain::{Fact, Failure, Seq, Suspension};
use crate::orchestrator::driver::{Done, Drive};
use crate::orchestrator::machine::{RunStatus, Step, StepStatus};
use crate::orchestrator::notify::Notice;
use crate::orchestrator::schedule::is_stuck;
use crate::store::Durability;

/// Times that somebody is tried to be told: whoever cannot be reached for a few seconds finds the run in the list.
const NOTIFY_ATTEMPTS_MAX: u32 = 3;

/// Before the second time, in milliseconds; it doubles.
const NOTIFY_BACKOFF_MS: u64 = 500;

impl Drive {
    /// Notes that the run waits, and has somebody told.
    pub(super) async fn suspend(&mut self, why: Suspension) -> Result<(), Failure> {
        self.record(vec![Fact::RunSuspended { why }], Vec::new(), Durability::Synced).await?;
        let Some(notifier) = self.driver.parts.notifier.clone() else { return Ok(()) };
        // A time passes without anybody.
        if why == Suspension::Timer || self.run.notified == Some(why) {
            return Ok(());
        }
        let waits = |step: &&Step| match why {
            Suspension::Approval => matches!(step.status, StepStatus::AwaitingApproval { .. }),
            Suspension::Reconcile => step.status == StepStatus::Unknown,
            Suspension::Stuck => is_stuck(step),
            Suspension::Question | Suspension::Timer => false,
        };
        let steps = self.run.in_order().filter(waits).map(|step| step.id().clone()).collect();
        let seq = self.run.last.0;
        self.noticed = Some(seq);
        let notice = Notice { run: self.run.id.clone(), seq, why, steps };
        self.tasks.spawn(async move {
            let mut told = notifier.notify(&notice).await;
            for attempt in 1..NOTIFY_ATTEMPTS_MAX {
                if told.is_ok() {
                    break;
                }
                let pause = Duration::from_millis(NOTIFY_BACKOFF_MS << attempt.min(10));
                let _ = tokio::time::timeout(pause, std::future::pending::<()>()).await;
                told = notifier.notify(&notice).await;
            }
            Done::Notified { why, seq, told }
        });
        Ok(())
    }

    /// Notes that somebody was told of the event `seq`. After a crash in between they are told again. Where the run has moved
    /// on meanwhile nothing is noted: what it waits for next is told anew, though it be a wait of the same kind.
    pub(super) async fn notified(
        &mut self,
        why: Suspension,
        seq: Seq,
        told: Result<(), Failure>,
    ) -> Result<(), Failure> {
        let is_waiting = self.run.status == RunStatus::Suspended(why) && self.noticed == Some(seq);
        match told {
            Ok(()) if is_waiting => self.note(Fact::Notified { why }).await,
            Ok(()) => Ok(()),
            Err(failure) => {
                tracing::warn!(run = %self.run.id, %failure, "nobody could be told that the run waits");
                Ok(())
            }
        }
    }
}
