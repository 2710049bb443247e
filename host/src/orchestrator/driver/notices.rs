//! Suspends a run, and has somebody told that it waits for a person.

use std::time::Duration;

use crate::domain::{Fact, Failure, StepId, Suspension};
use crate::orchestrator::driver::{Done, Drive};
use crate::orchestrator::machine::{Run, RunStatus, Step};
use crate::orchestrator::notify::Notice;
use crate::orchestrator::schedule::is_waiting;
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
        let steps = waiting(&self.run, why);
        // A time passes without anybody.
        if why == Suspension::Timer || is_told(&self.run, why, &steps) {
            return Ok(());
        }
        let notice = Notice { run: self.run.id.clone(), seq: self.run.last.0, why, steps };
        self.noticed = Some(notice.seq);
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
            Done::Notified { notice: Box::new(notice), told }
        });
        Ok(())
    }

    /// Notes that somebody was told, and of what. After a crash in between they are told again; whoever takes the run over
    /// later does not tell what was told, as long as that waits. Where the run has moved on meanwhile nothing is noted: what
    /// it waits for next is told anew, though it be a wait of the same kind.
    pub(super) async fn notified(&mut self, notice: Notice, told: Result<(), Failure>) -> Result<(), Failure> {
        let Notice { why, seq, steps, .. } = notice;
        let is_waiting = self.run.status == RunStatus::Suspended(why) && self.noticed == Some(seq);
        match told {
            Ok(()) if is_waiting => self.note(Fact::Notified { why, steps }).await,
            Ok(()) => Ok(()),
            Err(failure) => {
                tracing::warn!(run = %self.run.id, %failure, "nobody could be told that the run waits");
                Ok(())
            }
        }
    }
}

/// The steps at which the run waits: its own, or else those that runs within it carry out.
fn waiting(run: &Run, why: Suspension) -> Vec<StepId> {
    let waits = |step: &&Step| is_waiting(step, why);
    let (within, own): (Vec<&Step>, Vec<&Step>) =
        run.in_order().filter(waits).partition(|step| step.status.is_running());
    let steps = if own.is_empty() { within } else { own };
    steps.into_iter().map(|step| step.id().clone()).collect()
}

/// Whether somebody was told of all that waits.
fn is_told(run: &Run, why: Suspension, steps: &[StepId]) -> bool {
    let is_told = |step: Option<&StepId>| run.notified.contains(&(why, step.cloned()));
    if steps.is_empty() { is_told(None) } else { steps.iter().all(|step| is_told(Some(step))) }
}
