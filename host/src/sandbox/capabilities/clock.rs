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
const RANDOM_BYTES_MAX: u64 = 64 << 10;

/// Time of day and time passed, as the guest sees them; `None` stands still.
#[derive(Clone)]
struct Time(Option<Arc<dyn Clock>>);

impl HostWallClock for Time {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(GRAIN_NS)
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.0.as_ref().map_or(0, |clock| clock.now().0))
    }
}

impl HostMonotonicClock for Time {
    fn resolution(&self) -> u64 {
        GRAIN_NS
    }

    fn now(&self) -> u64 {
        self.0.as_ref().map_or(0, |clock| clock.monotonic_ms()).saturating_mul(GRAIN_NS)
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
    let time = Time(call.grant().clock.then(|| clock.clone()));
    builder.wall_clock(time.clone()).monotonic_clock(time);
    let mut seed = *seed(call).as_bytes();
    if call.grant().random {
        clock.random(&mut seed).map_err(|e| Failure::new(Kind::HostBug, e))?;
    }
    builder.secure_random(ChaCha20Rng::from_seed(seed)).insecure_random(ChaCha20Rng::from_seed(seed));
    builder.insecure_random_seed(u128::from_le_bytes(first_half(&seed))).max_random_size(RANDOM_BYTES_MAX);
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
