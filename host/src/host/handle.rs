//! A run that this process drives.

use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::task::JoinHandle;

use crate::domain::{Failure, Kind, RunId};
use crate::host::{Host, Message, RunReport, Signal};
use crate::orchestrator::Run;

/// A run that this process drives. Dropping the handle leaves the run going.
pub struct RunHandle {
    host: Host,
    run: RunId,
    signals: Receiver<Signal>,
    task: JoinHandle<Result<Run, Failure>>,
}

impl RunHandle {
    pub(super) fn new(
        host: Host,
        run: RunId,
        signals: Receiver<Signal>,
        task: JoinHandle<Result<Run, Failure>>,
    ) -> Self {
        Self { host, run, signals, task }
    }

    /// Returns the run's id.
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// Returns the next signal; `None` when the run has ended or waits for a person. A reader that is too slow misses the
    /// oldest ones, which stand in the log. May be dropped while it waits.
    pub async fn signal(&mut self) -> Option<Signal> {
        loop {
            match self.signals.recv().await {
                Ok(signal) => return Some(signal),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// Asks the run to stop: calls under way are stopped, nothing new starts.
    ///
    /// # Errors
    /// `host.storage`.
    pub async fn cancel(&self, by: &str) -> Result<(), Failure> {
        self.host.send(&self.run, Message::Cancel { by: by.to_owned() }).await
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
