//! Time and randomness of a guest. Without a grant time stands still and randomness is a function of the call, so that
//! the call depends on its arguments alone.

use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtxBuilder};

use crate::clock::Clock;
use crate::domain::{Digest, Failure, Json, Kind};
use crate::policy::Call;
use crate::sandbox::journal::{Form, Journal, Look};

/// Grain of a granted clock, in nanoseconds: coarse, so that it times no cache.
const GRAIN_NS: u64 = 1_000_000;

/// Bytes of randomness that one host call may bring.
pub(in crate::sandbox) const RANDOM_BYTES_MAX: u64 = 64 << 10;

/// Time of day and time passed, as the guest sees them: those of its journal.
#[derive(Clone)]
struct Time {
    /// `None` stands still.
    journal: Option<Arc<Journal>>,
}

impl HostWallClock for Time {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(GRAIN_NS)
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.journal.as_ref().map_or(0, |journal| journal.wall_ms()))
    }
}

impl HostMonotonicClock for Time {
    fn resolution(&self) -> u64 {
        GRAIN_NS
    }

    fn now(&self) -> u64 {
        // From its own beginning: calls share no counter.
        self.journal.as_ref().map_or(0, |journal| journal.passed_ms().saturating_mul(GRAIN_NS))
    }
}

/// What the randomness of a call is drawn from.
pub(in crate::sandbox) struct Seed([u8; 32]);

/// Begins the time of a call, and draws the seed of its randomness: the one as it is now, or as it was recorded.
///
/// # Errors
/// `host.bug` where the machine has no randomness; what the announcement brings.
pub(in crate::sandbox) async fn begin(call: &Call, journal: &Journal, clock: &dyn Clock) -> Result<Seed, Failure> {
    if call.grant().clock && journal.records() {
        let form = Form { write: |ms: &u64| Json::from(*ms), read: Json::as_u64 };
        let look = Look { what: "clock.start", args: Digest::of(b"") };
        let start_ms = journal.look(look, async { clock.now().0 }, &form).await?;
        journal.start(start_ms);
    }
    if !call.grant().random {
        return Ok(Seed(*seed(call).as_bytes()));
    }
    let form = Form { write: |drawn: &Drawn| written(drawn), read };
    let look = Look { what: "random.seed", args: Digest::of(b"") };
    let drawn = journal.look(look, async { draw(clock) }, &form).await?;
    drawn.map(Seed).map_err(|e| Failure::new(Kind::HostBug, e))
}

type Drawn = Result<[u8; 32], String>;

fn draw(clock: &dyn Clock) -> Drawn {
    let mut seed = [0; 32];
    clock.random(&mut seed).map(|()| seed)
}

/// A seed in hexadecimal. Without one the call ends, and is not to be answered so.
fn written(drawn: &Drawn) -> Json {
    drawn.as_ref().map_or(Json::Null, |seed| Json::from(hex::encode(seed)))
}

fn read(value: &Json) -> Option<Drawn> {
    let mut seed = [0; 32];
    hex::decode_to_slice(value.as_str()?, &mut seed).ok().map(|()| Ok(seed))
}

/// Sets time and randomness as the call's grant says.
pub(in crate::sandbox) fn set(builder: &mut WasiCtxBuilder, call: &Call, journal: &Arc<Journal>, seed: &Seed) {
    let time = Time { journal: call.grant().clock.then(|| journal.clone()) };
    builder.wall_clock(time.clone()).monotonic_clock(time);
    // Each source has a seed of its own: what a program shows of one tells nothing of another.
    let seed_for = |source: &str| *Digest::of_parts(&[&seed.0, source.as_bytes()]).as_bytes();
    builder.secure_random(ChaCha20Rng::from_seed(seed_for("secure")));
    builder.insecure_random(ChaCha20Rng::from_seed(seed_for("insecure")));
    builder.insecure_random_seed(u128::from_le_bytes(first_half(&seed_for("insecure seed"))));
    builder.max_random_size(RANDOM_BYTES_MAX);
}

/// The seed of a call without a grant: component, function and arguments.
fn seed(call: &Call) -> Digest {
    let tool = call.tool();
    Digest::of_parts(&[tool.digest().as_bytes(), tool.name().function().as_bytes(), call.args_digest().as_bytes()])
}

fn first_half(seed: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|n| seed[n])
}
