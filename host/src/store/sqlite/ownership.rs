//! The runs that this process owns, and what went wrong with them behind their owners' backs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::domain::{Epoch, Failure, RunId};
use crate::store::{Ownership, refusal, sqlite::lock::Lock};

/// The right to append to one run, as long as the lock is held.
pub(super) struct Lease {
    run: RunId,
    epoch: Epoch,
    _lock: Lock,
    /// Why an append failed of which its caller had been told that it is queued.
    broken: OnceLock<Failure>,
}

/// All leases whose owners live.
#[derive(Clone, Default)]
pub(super) struct Leases {
    held: Arc<Mutex<HashMap<RunId, Arc<Lease>>>>,
}

struct Owned {
    lease: Arc<Lease>,
    leases: Leases,
}

impl Lease {
    /// Makes the lease of an epoch that began under `lock`.
    pub(super) fn new(run: RunId, epoch: Epoch, lock: Lock) -> Self {
        Self { run, epoch, _lock: lock, broken: OnceLock::new() }
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
