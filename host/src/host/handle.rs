//! A run that this process drives.
//!
//! Promises: a reader that is too slow misses events and progress, but never what a person is asked.

use std::collections::VecDeque;

use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::task::JoinHandle;

use crate::domain::{Fact, Failure, Kind, RunId, Suspension};
use crate::host::{Host, Message, RunReport, RunState, Signal};
use crate::orchestrator::Run;

/// A run that this process drives. Dropping the handle leaves the run going.
pub struct RunHandle {
    host: Host,
    run: RunId,
    signals: Receiver<Signal>,
    /// Signals were lost, and what they asked is not looked up yet.
    has_missed: bool,
    /// What a person is asked, looked up because its signals may have been lost.
    asked: VecDeque<Signal>,
    task: JoinHandle<Result<Run, Failure>>,
}

impl RunHandle {
    pub(super) fn new(
        host: Host,
        run: RunId,
        signals: Receiver<Signal>,
        task: JoinHandle<Result<Run, Failure>>,
    ) -> Self {
        Self { host, run, signals, has_missed: false, asked: VecDeque::new(), task }
    }

    /// Returns the run's id.
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// Returns the next signal; `None` when the run has ended or waits for a person. A reader that is too slow misses the
    /// oldest ones, which stand in the log; what a person is asked is then signalled again, maybe a second time. May be
    /// dropped while it waits.
    pub async fn signal(&mut self) -> Option<Signal> {
        loop {
            if self.has_missed {
                self.look_up().await;
            }
            if let Some(signal) = self.asked.pop_front() {
                return Some(signal);
            }
            match self.signals.recv().await {
                Ok(signal) => return Some(signal),
                Err(RecvError::Lagged(_)) => self.has_missed = true,
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// Looks up what a person is asked. Where the log cannot be read it is tried again with the next signal.
    async fn look_up(&mut self) {
        match asked(&self.host, &self.run).await {
            Ok(asked) => {
                self.asked.extend(asked);
                self.has_missed = false;
            }
            Err(error) => tracing::warn!(run = %self.run, %error, "signals were lost, and the log cannot be read"),
        }
    }

    /// Asks the run to stop: calls under way are stopped, nothing new starts.
    ///
    /// # Errors
    /// `host.storage`.
    pub async fn cancel(&self, by: &str) -> Result<(), Failure> {
        self.host.send(&self.run, Message::Cancel { by: by.to_owned(), undo: false }).await
    }

    /// Waits until the run has ended or waits for a person, and tells how it stands.
    ///
    /// # Errors
    /// The run could not be driven on: `host.owned`, `host.storage`, `data.conflict`.
    pub async fn finished(self) -> Result<RunReport, Failure> {
        self.task.await.map_err(|e| Failure::new(Kind::HostBug, format!("drive run `{}`", self.run)).detail(e))??;
        self.host.show(&self.run).await
    }
}

/// Returns the signals of what the run asks a person now.
async fn asked(host: &Host, run: &RunId) -> Result<Vec<Signal>, Failure> {
    let report = host.show(run).await?;
    let mut signals: Vec<_> = report.approvals.into_iter().map(|view| Signal::ApprovalWanted(Box::new(view))).collect();
    if report.state == RunState::Suspended(Suspension::Question) {
        let events = host.events(run).await?;
        let question = events.into_iter().rev().find(|event| matches!(event.fact, Fact::Asked { .. }));
        signals.extend(question.map(|event| Signal::Event(Box::new(event))));
    }
    Ok(signals)
}

#[cfg(test)]
mod tests {
    use tokio::sync::broadcast;

    use super::*;
    use crate::domain::{Digest, StepId};
    use crate::host::canned::{Canned, id, writing};

    #[tokio::test]
    async fn a_slow_reader_is_told_again_what_waits_for_approval() {
        let (step, binding): (StepId, _) = (id("write"), Digest::of(b"the call"));
        let canned = Canned::new().plan(vec![writing("write")]).ready(&step).asked(&step, binding);
        let (run, host) = (canned.run.clone(), canned.host().await);
        let (sender, signals) = broadcast::channel(1);
        let task = tokio::spawn(async { Err(Failure::new(Kind::HostCancelled, "drive a run that is a test's")) });
        let of = run.clone();
        let mut handle = RunHandle::new(host, run, signals, task);
        let progress = |n: f64| Signal::Progress {
            run: of.clone(),
            step: step.clone(),
            fraction: Some(n),
            message: String::new(),
        };
        sender.send(progress(0.1)).unwrap();
        sender.send(progress(0.2)).unwrap();
        drop(sender);
        let Some(Signal::ApprovalWanted(view)) = handle.signal().await else { panic!("the approval is signalled") };
        assert_eq!((view.step, view.binding), (step.clone(), binding));
        assert_eq!(handle.signal().await, Some(progress(0.2)));
        assert_eq!(handle.signal().await, None);
    }
}
