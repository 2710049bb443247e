//! What a guest tried and was refused, noted from wherever it happened: host calls, and the requests that outlast them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
        if self.noted().len() >= DENIALS_MAX {
            return;
        }
        // Nobody waits while it is looked at.
        let what = printable(&self.secrets.head(what, DENIAL_CHARS_MAX));
        let mut noted = self.noted();
        if noted.len() < DENIALS_MAX {
            noted.push(Denial { code: code.into(), what });
        }
    }

    /// Returns what was noted.
    pub(super) fn take(&self) -> Vec<Denial> {
        std::mem::take(&mut self.noted())
    }

    fn noted(&self) -> MutexGuard<'_, Vec<Denial>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::secrets::tests::{VALUE, grant, granted};

    #[test]
    fn a_flood_of_long_denials_is_cut_and_holds_no_secret() {
        let denials = Denials::new(granted(vec![grant("a", "https://a.example/")]));
        let what = VALUE.repeat(1_000);
        for _ in 0..DENIALS_MAX + 10 {
            denials.note("denied.fs", &format!("open {what}\n{what}"));
        }
        denials.note("denied.fs", "late");
        let noted = denials.take();
        assert_eq!(noted.len(), DENIALS_MAX);
        for denial in noted {
            // Neighbours are marked as one.
            assert!(denial.what.starts_with("open [secret:a]") && denial.what.chars().count() <= 210, "{denial:?}");
            assert!(!denial.what.contains("hunter2"), "{denial:?}");
        }
    }
}
