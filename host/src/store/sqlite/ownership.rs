//! The runs that this process owns, and what went wrong with them behind their owners' backs.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::domain::{Epoch, Failure, Principal, RunId, Timestamp};
use crate::store::{Ownership, refusal, sqlite::lock::Lock};

/// The right to append to one run, as long as the lock is held.
pub(super) struct Lease {
    run: RunId,
    epoch: Epoch,
    /// `None` once the lease is dropped.
    lock: Option<Lock>,
    /// What the first append of a new run writes with its events.
    birth: Option<Birth>,
    /// Whether the run may be in the log.
    is_born: AtomicBool,
    /// Why an append failed of which its caller had been told that it is queued.
    broken: OnceLock<Failure>,
}

/// All leases whose owners live.
#[derive(Clone, Default)]
pub(super) struct Leases {
    held: Arc<Mutex<HashMap<RunId, Arc<Lease>>>>,
}

/// Whose a run is that is to be, and since when.
#[derive(Clone, Debug)]
pub(super) struct Birth {
    pub principal: Principal,
    pub created: Timestamp,
}

struct Owned {
    lease: Arc<Lease>,
    leases: Leases,
}

impl Lease {
    /// Makes the lease of an epoch that began under `lock`.
    pub(super) fn new(run: RunId, epoch: Epoch, lock: Lock) -> Self {
        Self { run, epoch, lock: Some(lock), birth: None, is_born: true.into(), broken: OnceLock::new() }
    }

    /// Makes the lease of a run that is to be, in its first epoch.
    pub(super) fn of_new(run: RunId, birth: Birth, lock: Lock) -> Self {
        Self { run, epoch: 1, lock: Some(lock), birth: Some(birth), is_born: false.into(), broken: OnceLock::new() }
    }

    /// Returns what the first append of a new run writes; `None` where the run was there before.
    pub(super) fn birth(&self) -> Option<&Birth> {
        self.birth.as_ref()
    }

    /// Notes that the run may be in the log from now on.
    pub(super) fn born(&self) {
        self.is_born.store(true, Ordering::Relaxed);
    }

    /// Returns the run.
    pub(super) fn run(&self) -> &RunId {
        &self.run
    }

    /// Returns the epoch.
    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Refuses with the failure that broke the lease.
    pub(super) fn check(&self) -> Result<(), Failure> {
        self.broken.get().map_or(Ok(()), |failure| Err(failure.clone()))
    }

    /// Fails whatever comes after `failure`, so that no gap can arise. The first failure stays.
    pub(super) fn break_by(&self, failure: &Failure) {
        self.broken.get_or_init(|| failure.clone());
    }
}

impl Drop for Lease {
    /// Leaves no lock file of a run that never was.
    fn drop(&mut self) {
        if let Some(lock) = self.lock.take().filter(|_| !self.is_born.load(Ordering::Relaxed)) {
            // One that stays costs a name in a directory.
            drop(lock.remove());
        }
    }
}

impl Leases {
    /// Keeps a lease until the ownership is dropped.
    pub(super) fn hold(&self, lease: Lease) -> Box<dyn Ownership> {
        let lease = Arc::new(lease);
        self.held().insert(lease.run.clone(), Arc::clone(&lease));
        Box::new(Owned { lease, leases: self.clone() })
    }

    /// Returns the lease of `owner`.
    pub(super) fn of(&self, owner: &dyn Ownership) -> Result<Arc<Lease>, Failure> {
        let lease = self.held().get(owner.run()).filter(|lease| lease.epoch == owner.epoch()).cloned();
        lease.ok_or_else(|| refusal::superseded(owner.run()))
    }

    fn held(&self) -> MutexGuard<'_, HashMap<RunId, Arc<Lease>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ownership for Owned {
    fn run(&self) -> &RunId {
        &self.lease.run
    }

    fn epoch(&self) -> Epoch {
        self.lease.epoch
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let mut held = self.leases.held();
        if held.get(&self.lease.run).is_some_and(|lease| Arc::ptr_eq(lease, &self.lease)) {
            held.remove(&self.lease.run);
        }
    }
}
