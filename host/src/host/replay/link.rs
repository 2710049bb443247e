//! The link of a call that is played back: it answers, and makes nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::domain::{Failure, HostCallRecord, Kind};
use crate::orchestrator::Answers;
use crate::sandbox::{Begin, CallLink, HostCall};

/// Answers from the records of one call.
pub(super) struct ReplayLink {
    answers: Mutex<Answers>,
    /// Host calls that nobody saw end, by number: the call was stopped there, or no longer wanted to know.
    open: Vec<u32>,
    /// How the call failed then.
    failure: Option<Failure>,
}

impl ReplayLink {
    pub(super) fn new(records: Vec<HostCallRecord>, failure: Option<Failure>) -> Self {
        let open = records.iter().filter(|record| record.done.is_none()).map(|record| record.n).collect();
        Self { answers: Mutex::new(Answers::new(records)), open, failure }
    }

    /// Returns the writes that were made then and not now.
    pub(super) fn writes_left(&self) -> Vec<String> {
        self.answers().left().filter(|record| record.is_write).map(|record| record.what.clone()).collect()
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl CallLink for ReplayLink {
    fn records(&self) -> bool {
        true
    }

    fn is_replay(&self) -> bool {
        true
    }

    fn peek(&self, n: u32) -> Option<HostCallRecord> {
        self.answers().peek(n).cloned()
    }

    async fn begin(&self, host_call: &HostCall) -> Result<Begin, Failure> {
        let begin = self.answers().next(host_call, true)?;
        if begin != Begin::Proceed {
            return Ok(begin);
        }
        let HostCall { n, what, .. } = host_call;
        if !self.open.contains(n) {
            let message = format!("play the call back: it makes host call {n} (`{what}`), which it did not make then");
            return Err(Failure::new(Kind::HostDiverged, message).hint("look at what differs in the component"));
        }
        match (&host_call.upstream, &self.failure) {
            // The guest let go of it before it had an answer, or was stopped while it waited, which comes next.
            (Some(_), _) => Ok(Begin::Refuse(Failure::new(Kind::HostInterrupted, "tell what came of a request"))),
            (None, Some(failure)) => Err(failure.clone()),
            (None, None) => {
                Err(Failure::new(Kind::HostDiverged, format!("tell what came of host call {n} (`{what}`)")))
            }
        }
    }
}
