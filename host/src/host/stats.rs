//! What many runs add up to, from the log alone: nothing is kept beside it, so that any time can be reckoned again.

use crate::domain::{Failure, Kind, Timestamp};
use crate::host::Host;
use crate::telemetry::stats::{By, Fold, Stats, Window};

/// Newest runs that are looked at, those within others included: what a small server does in a year.
const RUNS_COUNTED_MAX: usize = 100_000;

/// A time, as a person says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// So many milliseconds ago.
    Ago(u64),
    At(Timestamp),
}

impl Host {
    /// Reckons what goals that were created since then, and before `until`, add up to. Runs that cannot be read are told.
    ///
    /// # Errors
    /// `host.storage` where the log as a whole cannot be read.
    pub async fn stats(&self, by: By, since: Option<When>, until: Option<When>) -> Result<Stats, Failure> {
        let log = &self.0.parts.log;
        let mut entries = log.runs(RUNS_COUNTED_MAX.saturating_add(1)).await?;
        let mut fold = Fold::default();
        if entries.len() > RUNS_COUNTED_MAX {
            entries.truncate(RUNS_COUNTED_MAX);
            fold.cut();
        }
        for entry in entries {
            match log.read(&entry.run, 0).await {
                Ok(events) => fold.take(&entry.run, &events),
                // It was removed meanwhile.
                Err(failure) if failure.kind == Kind::DataNotFound => {}
                Err(failure) if failure.kind == Kind::HostStorage => fold.unreadable(&entry.run),
                Err(failure) => return Err(failure),
            }
        }
        let now = self.clock().now();
        let at = |when: When| match when {
            When::Ago(ms) => Timestamp(now.0.saturating_sub(ms)),
            When::At(at) => at,
        };
        Ok(fold.stats(by, Window { since: since.map(at), until: until.map(at) }))
    }
}
