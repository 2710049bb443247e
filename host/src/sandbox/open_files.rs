//! What a call holds open: each file, directory and listing is a descriptor of this process, which all calls share.
//!
//! Promises: no call holds more than its share, however it holds it: a stream keeps the file that it reads. Leaves to
//! others: what a call may open at all.

use std::collections::HashMap;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::Limits;

/// Listings of directories that a call has open at one time: each keeps a page, and the names that the call changed there.
/// A walk that goes down before it goes on holds one for each level.
const LISTINGS_MAX: usize = 16;

/// One place among what a call may hold open, given back with its last clone.
#[derive(Clone, Debug)]
pub(super) struct Hold(#[expect(dead_code, reason = "it is held, not read")] Arc<[OwnedSemaphorePermit]>);

/// Counts what one call holds open.
#[derive(Debug)]
pub(super) struct OpenFiles {
    files: Arc<Semaphore>,
    listings: Arc<Semaphore>,
    /// What is open in wasmtime-wasi, by the descriptor's number in the table.
    of_wasi: HashMap<u32, Hold>,
}

impl OpenFiles {
    pub(super) fn new(limits: &Limits) -> Self {
        let files = usize::try_from(limits.files_open_max).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self {
            files: Arc::new(Semaphore::new(files)),
            listings: Arc::new(Semaphore::new(LISTINGS_MAX)),
            of_wasi: HashMap::new(),
        }
    }

    /// Takes a place for a file or directory; `None` where the call holds all that it may.
    pub(super) fn file(&self) -> Option<Hold> {
        Some(Hold([taken(&self.files)?].into()))
    }

    /// Takes a place for a listing, which is one of the files too.
    pub(super) fn listing(&self) -> Option<Hold> {
        Some(Hold([taken(&self.listings)?, taken(&self.files)?].into()))
    }

    /// Keeps the place of a descriptor of wasmtime-wasi.
    pub(super) fn opened(&mut self, number: u32, hold: Hold) {
        self.of_wasi.insert(number, hold);
    }

    /// The place of a descriptor of wasmtime-wasi, for a stream that outlasts it. The mounts themselves have none.
    pub(super) fn of(&self, number: u32) -> Option<Hold> {
        self.of_wasi.get(&number).cloned()
    }

    pub(super) fn closed(&mut self, number: u32) {
        self.of_wasi.remove(&number);
    }
}

fn taken(places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    places.clone().try_acquire_owned().ok()
}

/// Lets this process open as many files as it may: systems start programs with a low limit that each may raise itself,
/// for old programs that number descriptors in a fixed set. Where it cannot be raised it stays as it is.
pub(super) fn raise_process_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open_files(files_open_max: u64) -> OpenFiles {
        OpenFiles::new(&Limits { files_open_max, ..Limits::default() })
    }

    #[test]
    fn a_place_is_given_back_with_the_last_that_holds_it() {
        let mut open = open_files(1);
        let hold = open.file().unwrap();
        open.opened(7, hold);
        let stream = open.of(7).unwrap();
        open.closed(7);
        assert!(open.file().is_none(), "a stream holds it");
        drop(stream);
        assert!(open.file().is_some() && open.of(7).is_none());
    }

    #[test]
    fn listings_are_few_and_count_as_files() {
        let open = open_files(1_000);
        let listings: Vec<Hold> = std::iter::from_fn(|| open.listing()).collect();
        assert_eq!(listings.len(), LISTINGS_MAX);
        assert!(open.file().is_some());
        let open = open_files(1);
        let _file = open.file();
        assert!(open.listing().is_none());
        assert_eq!(open.listings.available_permits(), LISTINGS_MAX, "what was refused holds nothing");
    }

    #[test]
    fn the_process_may_open_as_many_files_as_the_machine_lets_it() {
        raise_process_limit();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
    }
}
