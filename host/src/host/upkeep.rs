//! The care of a host's log: copies, what goes, what is checked.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde::Serialize;

use crate::domain::{Digest, Event, Fact, Failure, Kind, Principal, RunId, Seq, Timestamp};
use crate::host::Host;
use crate::store::{Pruned, RunEntry, StoredBytes, Verified};

/// Runs that are looked through at once: more than a disk of bounded size holds.
const RUNS_CHECKED_MAX: usize = 1_000_000;

/// How the log of a run stands to a head that somebody kept elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "as", rename_all = "snake_case")]
pub enum HeadState {
    /// It is the last event.
    Last,
    /// It is an event of the run, which has gone on since.
    Earlier { seq: Seq },
    /// No event of the run has this hash: what it was the head of is not what is here.
    Unknown,
}

impl Host {
    /// Copies the log to a new directory while it is in use; the copy opens as a log of its own. It holds the keys of all
    /// users: it is as secret as the log.
    ///
    /// # Errors
    /// `data.conflict` where `to` is there already; `host.storage`.
    pub async fn backup(&self, to: &Path) -> Result<(), Failure> {
        self.0.parts.log.backup(to).await
    }

    /// Removes runs and sessions that ended before `before`, and what only they used.
    ///
    /// # Errors
    /// `host.storage`. What was removed until then stays removed.
    pub async fn prune(&self, before: Timestamp) -> Result<Pruned, Failure> {
        self.0.parts.log.prune(before).await
    }

    /// Lists what [`Host::prune`] would remove: runs and sessions whose last event is older, which ended and have no owner.
    ///
    /// # Errors
    /// `host.storage`.
    pub async fn prunable(&self, before: Timestamp) -> Result<Vec<RunEntry>, Failure> {
        let (mut found, mut kept, mut around) = (Vec::new(), HashSet::new(), HashMap::new());
        for entry in self.entries().await? {
            // One that cannot be read stays: nobody knows whether it has ended.
            let Ok(events) = self.events(&entry.run).await else {
                kept.insert(entry.run);
                continue;
            };
            if let Some(Fact::RunCreated { parent: Some(parent), .. }) = events.first().map(|event| &event.fact) {
                around.insert(entry.run.clone(), parent.run.clone());
            }
            if entry.last < before && entry.owner.is_none() && is_over(&events) {
                found.push(entry);
            } else {
                kept.insert(entry.run);
            }
        }
        // A run and the runs within it go together or not at all.
        let kept: HashSet<_> = kept.iter().map(|run| outermost(run, &around).clone()).collect();
        found.retain(|entry| !kept.contains(outermost(&entry.run, &around)));
        Ok(found)
    }

    /// Erases what is kept of a user: payloads, journals, state and outcomes can be read no more. Events stay, and still
    /// verify. Files that tools wrote in granted directories, and copies made before, are outside.
    ///
    /// # Errors
    /// `host.owned` where a run of the user is under way; `host.busy`; `host.storage`. Erasing again goes on where it stopped.
    pub async fn erase_user(&self, tenant: &str, user: &str) -> Result<Pruned, Failure> {
        let principal = Principal { tenant: tenant.to_owned(), user: user.to_owned(), ..Principal::default() };
        self.0.parts.log.erase(&principal).await
    }

    /// Returns how much is kept.
    ///
    /// # Errors
    /// `host.storage`.
    pub async fn stored(&self) -> Result<StoredBytes, Failure> {
        self.0.parts.log.stored().await
    }

    /// Lists all runs and sessions, the newest first.
    ///
    /// # Errors
    /// `host.storage`.
    pub async fn entries(&self) -> Result<Vec<RunEntry>, Failure> {
        self.0.parts.log.runs(RUNS_CHECKED_MAX).await
    }

    /// Checks every event of a run, and holds its chain against a head that was kept elsewhere.
    ///
    /// # Errors
    /// `host.storage`, naming the first event that was touched; `data.not_found`.
    pub async fn verify_head(&self, run: &RunId, head: &Digest) -> Result<(Verified, HeadState), Failure> {
        let verified = self.verify(run).await?;
        if verified.head == *head {
            return Ok((verified, HeadState::Last));
        }
        for event in self.events(run).await? {
            if event.hash().map_err(|e| Failure::new(Kind::HostBug, "hash an event").detail(e))? == *head {
                return Ok((verified, HeadState::Earlier { seq: event.seq }));
            }
        }
        Ok((verified, HeadState::Unknown))
    }

    /// Returns for whom this host acts.
    pub fn principal(&self) -> &Principal {
        &self.0.principal
    }
}

/// Whether nothing more can come, if nobody owns it.
fn is_over(events: &[Event]) -> bool {
    let (first, last) = (events.first().map(|event| &event.fact), events.last().map(|event| &event.fact));
    matches!(first, None | Some(Fact::SessionStarted { .. })) || matches!(last, Some(Fact::RunEnded { .. }))
}

fn outermost<'a>(run: &'a RunId, around: &'a HashMap<RunId, RunId>) -> &'a RunId {
    let mut outer = run;
    // No chain of runs is longer than there are runs: a log that was touched may hold a circle.
    for _ in 0..around.len() {
        let Some(next) = around.get(outer) else { break };
        outer = next;
    }
    outer
}
