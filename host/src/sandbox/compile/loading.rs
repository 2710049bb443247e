//! One component on its way to code, whoever waits for it.
//!
//! Promises: one attempt at a time, and none for a caller that is gone; what another attempt could not change is kept for
//! good, and what was dear to learn for a while, so that those who waited do not each pay for it anew. Leaves to others:
//! how a component is loaded, and which failures last.

use std::future::Future;
use std::sync::{Arc, OnceLock, Weak};

use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::domain::{Failure, Kind};

use super::{Lasts, Refusal};

/// How long a failure stands that used up the bounds of a child and may pass, in milliseconds: as long as an attempt takes,
/// so that no more than half of the time goes into attempts, and short enough for somebody who made room.
const DEAR_FAILURE_MS: u64 = 60_000;

/// A component that is loaded, is being loaded, or may be.
pub struct Loading<T> {
    loaded: OnceLock<Result<T, Failure>>,
    /// Held by the attempt that is under way; in it, what the last one learned that stands for a while.
    attempt: Mutex<Option<Dear>>,
}

/// A failure that stands until a time.
struct Dear {
    failure: Failure,
    until_ms: u64,
}

/// Whether somebody still waits for what is being done.
#[derive(Clone)]
pub struct Wanted(Weak<()>);

impl Wanted {
    /// Returns whether the caller is still there.
    pub fn is_wanted(&self) -> bool {
        self.0.strong_count() > 0
    }

    /// Makes one whose caller is there for as long as the first value.
    pub fn new() -> (Arc<()>, Self) {
        let waits = Arc::new(());
        let wanted = Self(Arc::downgrade(&waits));
        (waits, wanted)
    }
}

impl<T> Default for Loading<T> {
    fn default() -> Self {
        Self { loaded: OnceLock::new(), attempt: Mutex::default() }
    }
}

impl<T: Clone + Send + Sync + 'static> Loading<T> {
    /// Returns what is known for good.
    pub fn known(&self) -> Option<Result<T, Failure>> {
        self.loaded.get().cloned()
    }

    /// Returns what was loaded, or has `load` do it. Dropping the future leaves an attempt that began to its end, as the
    /// next caller would have to begin anew; one that waits for its turn is not begun.
    ///
    /// # Errors
    /// What `load` returned, to this caller or to one before.
    pub async fn get<F>(
        self: &Arc<Self>,
        clock: Arc<dyn Clock>,
        load: impl FnOnce(Wanted) -> F + Send + 'static,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Refusal>> + Send + 'static,
    {
        if let Some(known) = self.known() {
            return known;
        }
        let (_waits, wanted) = Wanted::new();
        let this = self.clone();
        let attempt = tokio::spawn(async move { this.turn(&*clock, wanted, load).await });
        attempt.await.map_err(|e| Failure::new(Kind::HostBug, "wait for a compiled component").detail(e))?
    }

    /// Waits for the attempt before, and makes another one only where that one left something to learn.
    async fn turn<F>(
        &self,
        clock: &dyn Clock,
        wanted: Wanted,
        load: impl FnOnce(Wanted) -> F + Send,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Refusal>> + Send,
    {
        let mut last = self.attempt.lock().await;
        if let Some(known) = self.known() {
            return known;
        }
        if let Some(dear) = last.as_ref().filter(|dear| clock.monotonic_ms() < dear.until_ms) {
            return Err(dear.failure.clone());
        }
        if !wanted.is_wanted() {
            return Err(Refusal::unwanted().failure);
        }
        let (loaded, lasts) = match load(wanted).await {
            Ok(loaded) => (Ok(loaded), Lasts::Always),
            Err(refusal) => (Err(refusal.failure), refusal.lasts),
        };
        match (lasts, &loaded) {
            (Lasts::Always, _) => drop(self.loaded.set(loaded.clone())),
            (Lasts::AWhile, Err(failure)) => {
                let until_ms = clock.monotonic_ms().saturating_add(DEAR_FAILURE_MS);
                *last = Some(Dear { failure: failure.clone(), until_ms });
            }
            _ => {}
        }
        loaded
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::Semaphore;

    use crate::clock::SimClock;

    use super::*;

    /// A component whose attempts end one after the other, as they are let.
    struct Case {
        loading: Arc<Loading<u32>>,
        clock: Arc<SimClock>,
        attempts: Arc<AtomicU32>,
        let_end: Arc<Semaphore>,
        ends: Result<u32, Refusal>,
    }

    impl Case {
        fn new(ends: Result<u32, Refusal>) -> Self {
            Self {
                loading: Arc::default(),
                clock: Arc::default(),
                attempts: Arc::default(),
                let_end: Arc::new(Semaphore::new(0)),
                ends,
            }
        }

        fn get(&self) -> impl Future<Output = Result<u32, Failure>> + Send + 'static {
            let (loading, clock) = (self.loading.clone(), self.clock.clone());
            let (attempts, let_end, ends) = (self.attempts.clone(), self.let_end.clone(), self.ends.clone());
            async move {
                let load = move |_| async move {
                    attempts.fetch_add(1, Ordering::Relaxed);
                    let_end.acquire().await.unwrap().forget();
                    ends
                };
                loading.get(clock, load).await
            }
        }

        /// Starts `callers`, and waits until all stand in line.
        async fn started(&self, callers: usize) -> Vec<tokio::task::JoinHandle<Result<u32, Failure>>> {
            let waiting = (0..callers).map(|_| tokio::spawn(self.get())).collect();
            self.settle().await;
            waiting
        }

        /// Lets everything run that can: there is one thread.
        async fn settle(&self) {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        }

        fn attempts(&self) -> u32 {
            self.attempts.load(Ordering::Relaxed)
        }
    }

    fn failure() -> Failure {
        Failure::new(Kind::LoadLimit, "compile `x`: it took longer than 40 s")
    }

    #[tokio::test]
    async fn those_who_waited_share_one_dear_failure_and_it_passes() {
        let case = Case::new(Err(Refusal::dear(failure())));
        let waiting = case.started(20).await;
        case.let_end.add_permits(1);
        for one in waiting {
            assert_eq!(one.await.unwrap(), Err(failure()));
        }
        assert_eq!(case.attempts(), 1);
        case.clock.advance_ms(DEAR_FAILURE_MS - 1);
        assert_eq!((case.get().await, case.attempts()), (Err(failure()), 1));
        case.clock.advance_ms(1);
        case.let_end.add_permits(1);
        assert_eq!((case.get().await, case.attempts()), (Err(failure()), 2));
    }

    #[tokio::test]
    async fn nothing_is_begun_for_callers_that_are_gone() {
        let case = Case::new(Err(Refusal::passing(failure())));
        let waiting = case.started(20).await;
        for one in &waiting {
            one.abort();
        }
        case.settle().await;
        case.let_end.add_permits(20);
        case.settle().await;
        assert_eq!(case.attempts(), 1, "the one that had begun goes to its end");
        assert_eq!((case.get().await, case.attempts()), (Err(failure()), 2), "the next caller has its own");
    }

    #[tokio::test]
    async fn what_lasts_is_learned_once() {
        for ends in [Ok(7), Err(Refusal::lasting(failure()))] {
            let case = Case::new(ends.clone());
            let waiting = case.started(3).await;
            // Its work is there for others, though the one who asked is gone.
            waiting[0].abort();
            case.let_end.add_permits(1);
            case.settle().await;
            case.clock.advance_ms(2 * DEAR_FAILURE_MS);
            assert_eq!(case.get().await, ends.map_err(|refusal| refusal.failure));
            assert_eq!(case.attempts(), 1);
        }
    }
}
