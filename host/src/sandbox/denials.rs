//! What a guest tried and was refused, noted from wherever it happened: host calls, and the requests that outlast them.

use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::{Denial, printable};
use crate::sandbox::secrets::Granted;

/// Denials kept per call: enough to understand, too few to fill a log.
const DENIALS_MAX: usize = 100;

/// Characters kept of what a guest tried.
const DENIAL_CHARS_MAX: usize = 200;

/// The denials of one call, in the order in which they happened, without its secrets.
#[derive(Clone)]
pub(super) struct Denials {
    noted: Arc<Mutex<Vec<Denial>>>,
    secrets: Granted,
}

impl Denials {
    pub(super) fn new(secrets: Granted) -> Self {
        Self { noted: Arc::default(), secrets }
    }

    /// Notes something that the guest tried and was refused.
    pub(super) fn note(&self, code: &str, what: &str) {
        let mut denials = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if denials.len() < DENIALS_MAX {
            let what: String = self.secrets.text(what).chars().take(DENIAL_CHARS_MAX).collect();
            denials.push(Denial { code: code.into(), what: printable(&what) });
        }
    }

    /// Returns what was noted.
    pub(super) fn take(&self) -> Vec<Denial> {
        std::mem::take(&mut self.noted.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
