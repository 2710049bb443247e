//! Tells somebody that a run waits for a person.

use async_trait::async_trait;
use serde::Serialize;

use crate::domain::{Failure, RunId, Seq, StepId, Suspension};

/// What there is to tell: that a run waits, and for what. It holds no arguments and no outputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notice {
    pub run: RunId,
    /// The event that says so: told again after a crash, it is the same.
    pub seq: Seq,
    pub why: Suspension,
    /// The steps that wait for the person.
    pub steps: Vec<StepId>,
}

/// Tells somebody, at least once for each suspension: after a crash it may tell again.
#[async_trait]
pub trait Notifier: Send + Sync {
    /// Tells.
    ///
    /// # Errors
    /// Nobody could be told; the driver tries again a few times, and goes on without.
    async fn notify(&self, notice: &Notice) -> Result<(), Failure>;
}
