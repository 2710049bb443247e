//! How a live call speaks with the driver of its run.

use async_trait::async_trait;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::domain::{Failure, Kind, StateOp, StateReply, StateScope, StepId};
use crate::orchestrator::driver::Signal;
use crate::sandbox::{Begin, CallLink, HostCall, HostCallEnd};

/// A call is about to change something: the driver writes that down, then answers.
pub(super) struct WriteRequest {
    pub(super) step: StepId,
    pub(super) attempt: u32,
    pub(super) written: oneshot::Sender<Result<(), Failure>>,
}

/// The link of one live call.
pub(super) struct LiveLink {
    pub(super) step: StepId,
    pub(super) attempt: u32,
    pub(super) writes: mpsc::Sender<WriteRequest>,
    pub(super) signals: broadcast::Sender<Signal>,
    pub(super) stop: watch::Receiver<bool>,
}

#[async_trait]
impl CallLink for LiveLink {
    async fn begin(&self, call: &HostCall) -> Result<Begin, Failure> {
        if !call.is_write {
            return Ok(Begin::Proceed);
        }
        let gone = || Failure::new(Kind::HostInterrupted, "write down that a write begins: the run's driver is gone");
        let (written, answer) = oneshot::channel();
        let request = WriteRequest { step: self.step.clone(), attempt: self.attempt, written };
        self.writes.send(request).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())??;
        Ok(Begin::Proceed)
    }

    async fn done(&self, _: &HostCall, _: HostCallEnd) -> Result<(), Failure> {
        // The end of the step reports all of its host calls at once.
        Ok(())
    }

    async fn state(&self, _: StateScope, _: StateOp) -> Result<StateReply, Failure> {
        Err(Failure::new(Kind::PolicyDenied, "reach the state of a tool: this call has none"))
    }

    fn progress(&self, fraction: Option<f64>, message: &str) {
        // Nobody listens: nobody minds.
        let _ = self.signals.send(Signal::Progress { step: self.step.clone(), fraction, message: message.to_owned() });
    }

    async fn cancelled(&self) {
        let mut stop = self.stop.clone();
        if stop.wait_for(|stop| *stop).await.is_err() {
            // The driver is gone, and the task of this call with it.
            std::future::pending().await
        }
    }
}
