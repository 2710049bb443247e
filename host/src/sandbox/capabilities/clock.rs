//! Time and randomness of a guest. Without a grant time stands still and randomness is a function of the call, so that
//! the call depends on its arguments alone.

use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtxBuilder};

use crate::clock::Clock;
use crate::domain::{Digest, Failure, Kind};
use crate::policy::Call;

/// Grain of a granted clock, in nanoseconds: coarse, so that it times no cache.
const GRAIN_NS: u64 = 1_000_000;

/// Bytes of randomness that one host call may bring.
pub(in crate::sandbox) const RANDOM_BYTES_MAX: u64 = 64 << 10;

/// Time of day and time passed, as the guest sees them.
#[derive(Clone)]
struct Time {
    /// `None` stands still.
    clock: Option<Arc<dyn Clock>>,
    /// Monotonic milliseconds at which the guest's own count begins: calls share no counter.
    start_ms: u64,
}

impl HostWallClock for Time {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(GRAIN_NS)
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.clock.as_ref().map_or(0, |clock| clock.now().0))
    }
}

impl HostMonotonicClock for Time {
    fn resolution(&self) -> u64 {
        GRAIN_NS
    }

    fn now(&self) -> u64 {
        let now_ms = self.clock.as_ref().map_or(0, |clock| clock.monotonic_ms());
        now_ms.saturating_sub(self.start_ms).saturating_mul(GRAIN_NS)
    }
}

/// Sets time and randomness as the call's grant says.
///
/// # Errors
/// `host.bug` where the machine has no randomness.
pub(in crate::sandbox) fn set(
    builder: &mut WasiCtxBuilder,
    call: &Call,
    clock: &Arc<dyn Clock>,
) -> Result<(), Failure> {
    let time = Time { clock: call.grant().clock.then(|| clock.clone()), start_ms: clock.monotonic_ms() };
    builder.wall_clock(time.clone()).monotonic_clock(time);
    let mut seed = *seed(call).as_bytes();
    if call.grant().random {
        clock.random(&mut seed).map_err(|e| Failure::new(Kind::HostBug, e))?;
    }
    // Each source has a seed of its own: what a program shows of one tells nothing of another.
    let seed_for = |source: &str| *Digest::of_parts(&[&seed, source.as_bytes()]).as_bytes();
    builder.secure_random(ChaCha20Rng::from_seed(seed_for("secure")));
    builder.insecure_random(ChaCha20Rng::from_seed(seed_for("insecure")));
    builder.insecure_random_seed(u128::from_le_bytes(first_half(&seed_for("insecure seed"))));
    builder.max_random_size(RANDOM_BYTES_MAX);
    Ok(())
}

/// The seed of a call without a grant: component, function and arguments.
fn seed(call: &Call) -> Digest {
    let tool = call.tool();
    Digest::of_parts(&[tool.digest().as_bytes(), tool.name().function().as_bytes(), call.args_digest().as_bytes()])
}

fn first_half(seed: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|n| seed[n])
}
