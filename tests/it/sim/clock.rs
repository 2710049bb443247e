//! The time of a simulation: that of a paused runtime, which moves on when nothing else can happen.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use cofferdam::clock::Clock;
use cofferdam::domain::Timestamp;

use super::fuse::Rng;

/// Some day in 2026, in milliseconds.
const BEGIN_MS: u64 = 1_790_000_000_000;

const HOUR_MS: u64 = 3_600_000;

pub struct PausedClock {
    begin: tokio::time::Instant,
    /// By how much the clock on the wall was set.
    set_ms: AtomicI64,
    rng: Rng,
}

impl PausedClock {
    #[expect(clippy::disallowed_methods, reason = "the time of the runtime is paused, and is the simulated one")]
    pub fn new(seed: u64) -> Self {
        Self { begin: tokio::time::Instant::now(), set_ms: AtomicI64::new(0), rng: Rng::new(seed ^ 0x00c1_0c4b) }
    }

    /// Sets the clock on the wall, forward or back by up to an hour. What measures stretches of time goes on.
    pub fn jump(&self, luck: &Rng) {
        let by_ms = i64::try_from(luck.below(2 * HOUR_MS)).unwrap_or(0) - i64::try_from(HOUR_MS).unwrap_or(0);
        self.set_ms.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        Timestamp(BEGIN_MS.saturating_add_signed(self.set_ms.load(Ordering::SeqCst)) + self.monotonic_ms())
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn random(&self, bytes: &mut [u8]) -> Result<(), String> {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.rng.next().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "the time of the runtime is paused, and is the simulated one")]
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(tokio::time::sleep(duration))
    }
}
