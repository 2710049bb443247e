//! What a call saw of the files that it may only read, as one digest: run again, it must see the same.
//!
//! Promises: a call whose host calls are not recorded pays nothing; one whose are pays for hashing, not for keeping. Leaves to
//! others: when it is reported, and what a call sees of mounts that it may write (`looks.rs`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::{Digest, Failure, Recorded, RecordedValue};
use crate::sandbox::Begin;
use crate::sandbox::journal::{Journal, unreadable};

/// What was seen since it was last reported. Shared with the streams that read.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen(Option<Arc<Mutex<Since>>>);

#[derive(Clone, Copy, Debug)]
struct Since {
    digest: Digest,
    bytes: u64,
    looks: u64,
}

impl Since {
    fn nothing() -> Self {
        Self { digest: Digest::of(b""), bytes: 0, looks: 0 }
    }
}

impl Seen {
    /// Begins to watch where host calls are recorded.
    pub(super) fn new(journal: &Journal) -> Self {
        Self(journal.records().then(|| Arc::new(Mutex::new(Since::nothing()))))
    }

    /// Whether anybody wants to know.
    pub(super) fn is_watching(&self) -> bool {
        self.0.is_some()
    }

    /// Adds one look: at what, and what it brought.
    pub(super) fn note(&self, what: &str, about: &[u8], brought: &[u8]) {
        let Some(since) = self.0.as_deref() else { return };
        let mut since = locked(since);
        since.digest = Digest::of_parts(&[since.digest.as_bytes(), what.as_bytes(), about, brought]);
        since.bytes = since.bytes.saturating_add(brought.len() as u64);
        since.looks = since.looks.saturating_add(1);
    }

    /// Reports what was seen since the last time, or holds it against what was seen then.
    ///
    /// # Errors
    /// `host.diverged`; what the announcement brings.
    pub(super) async fn report(&self, journal: &Journal) -> Result<(), Failure> {
        let Some(since) = self.0.as_deref() else { return Ok(()) };
        let seen = std::mem::replace(&mut *locked(since), Since::nothing());
        if seen.looks == 0 {
            return Ok(());
        }
        let host_call = journal.number("files.read", Digest::of(b""), false);
        let value = RecordedValue::Digest { digest: seen.digest, bytes: seen.bytes };
        let ms = match journal.begin(&host_call).await? {
            Begin::Proceed => journal.count(),
            Begin::Repeat { digest, ms } => {
                journal.compare(&host_call, seen.digest, digest)?;
                journal.pass(ms);
                ms
            }
            Begin::Answer(Recorded { .. }) => return Err(unreadable(&host_call)),
            Begin::Refuse(failure) => return Err(failure),
        };
        journal.report(&host_call, value, ms, None).await
    }
}

fn locked(since: &Mutex<Since>) -> MutexGuard<'_, Since> {
    since.lock().unwrap_or_else(PoisonError::into_inner)
}
