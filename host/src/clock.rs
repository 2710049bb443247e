//! The only door to time, ids and randomness. Everything else gets them as values, so that a test can choose them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::domain::{RunId, Timestamp};

/// Source of time, ids and randomness. Two stand behind it: [`SystemClock`] and [`SimClock`].
pub trait Clock: Send + Sync {
    /// Returns the time of day.
    fn now(&self) -> Timestamp;

    /// Returns milliseconds since some fixed point; never goes back.
    fn monotonic_ms(&self) -> u64;

    /// Fills `bytes` with randomness fit for keys.
    ///
    /// # Errors
    /// When the machine has none to give.
    fn random(&self, bytes: &mut [u8]) -> Result<(), String>;

    /// Waits for `duration`.
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// Returns an id that no other run has; ids sort by the time they were made.
    ///
    /// # Errors
    /// When the machine has no randomness to give.
    fn run_id(&self) -> Result<RunId, String> {
        let mut random = [0; 16];
        self.random(&mut random)?;
        let ulid = ulid::Ulid::from_parts(self.now().0, u128::from_le_bytes(random));
        Ok(RunId::from_ulid(&ulid.to_string()))
    }
}

/// The machine's own time and randomness.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    fn random(&self, bytes: &mut [u8]) -> Result<(), String> {
        getrandom::fill(bytes).map_err(|e| format!("get randomness from the machine: {e}"))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// A clock that stands until it is moved, and a counter in place of randomness: two runs of a test are equal.
#[derive(Debug, Default)]
pub struct SimClock {
    state: Mutex<SimState>,
}

#[derive(Debug, Default)]
struct SimState {
    now_ms: u64,
    drawn: u64,
}

impl SimClock {
    /// Makes a clock that stands at `now`.
    pub fn at(now: Timestamp) -> Self {
        Self { state: Mutex::new(SimState { now_ms: now.0, drawn: 0 }) }
    }

    /// Moves the clock on by `ms` milliseconds.
    pub fn advance_ms(&self, ms: u64) {
        self.with(|state| state.now_ms += ms);
    }

    fn with<T>(&self, change: impl FnOnce(&mut SimState) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.with(|state| state.now_ms))
    }

    fn monotonic_ms(&self) -> u64 {
        self.with(|state| state.now_ms)
    }

    fn random(&self, bytes: &mut [u8]) -> Result<(), String> {
        self.with(|state| {
            for chunk in bytes.chunks_mut(8) {
                state.drawn += 1;
                chunk.copy_from_slice(&state.drawn.to_le_bytes()[..chunk.len()]);
            }
        });
        Ok(())
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        // Sleeping is what moves simulated time.
        self.advance_ms(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
        Box::pin(tokio::task::yield_now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simulated_ids_are_the_same_every_time_and_differ_from_each_other() {
        let ids = || {
            let clock = SimClock::at(Timestamp(1_000));
            [clock.run_id().unwrap(), clock.run_id().unwrap()]
        };
        assert_eq!(ids(), ids());
        assert_ne!(ids()[0], ids()[1]);
    }

    #[test]
    fn a_real_id_can_be_read_back() {
        let id = SystemClock::default().run_id().unwrap();
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}
