//! The world beside the host: services that count what was done to them, and all that was seen from there.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cofferdam::clock::Clock;
use cofferdam::domain::{Digest, Json, RunId, Seq, StepId, Timestamp};
use cofferdam::orchestrator::Notice;

use super::clock::PausedClock;
use super::fuse::Rng;

/// One thing that was done to the world.
#[derive(Clone, Debug, PartialEq)]
pub struct Done {
    pub key: Digest,
    /// Number of the write within its call.
    pub n: u32,
    pub tool: String,
    pub run: RunId,
    pub step: StepId,
    /// What the plan calls it: every call of a plan has another one.
    pub subject: String,
    /// Writes that its call makes in all.
    pub writes: u32,
    /// What its call brings.
    pub output: Json,
    /// What is cancelled, where it cancels.
    pub cancels: Option<String>,
    /// When, in milliseconds since the simulation began.
    pub at_ms: u64,
}

/// A request to a server, as the server saw it.
#[derive(Clone, Debug)]
pub struct Request {
    /// The process that sent it.
    pub process: u32,
    pub tool: String,
    pub server: String,
    /// When, by the clock of the host.
    pub at: Timestamp,
    pub what: Sent,
}

/// What of a request was seen. A number tells which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    Begun(usize),
    Ended { n: usize, is_down: bool },
}

#[derive(Default)]
struct Seen {
    done: Vec<Done>,
    failures: HashMap<Digest, u32>,
    losses: HashMap<Digest, u32>,
    /// By run, step and attempt: a start that a crash forgot comes again as the same attempt.
    calls: HashSet<(RunId, StepId, u32)>,
    requests: Vec<Request>,
    refused: u32,
    notices: Vec<Notice>,
    /// Times that nobody could be told, by what there was to tell.
    unheard: HashMap<(RunId, Seq), u32>,
    /// When it was durable that a run is to stop.
    cancelled: HashMap<RunId, u64>,
    /// What can be taken back now, and could not before.
    healed: HashSet<String>,
}

/// The world of one simulation.
pub struct World {
    pub rng: Rng,
    pub clock: Arc<PausedClock>,
    seen: Mutex<Seen>,
}

impl World {
    pub fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed), clock: Arc::new(PausedClock::new(seed)), seen: Mutex::default() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that was done, in order.
    pub fn done(&self) -> Vec<Done> {
        self.seen().done.clone()
    }

    pub fn done_under(&self, key: Digest) -> Vec<Done> {
        self.done().into_iter().filter(|done| done.key == key).collect()
    }

    /// Notes that a call of a plan begins.
    pub fn called(&self, run: &RunId, step: &StepId, attempt: u32) {
        self.seen().calls.insert((run.clone(), step.clone(), attempt));
    }

    /// Calls begun by a run's plan, as the tools saw them.
    pub fn calls(&self, run: &RunId) -> usize {
        self.seen().calls.iter().filter(|(of, _, _)| of == run).count()
    }

    /// Does something to the world. A service that honours keys does nothing for one that it has seen.
    pub fn change(&self, done: Done, is_keyed: bool) {
        let at_ms = self.clock.monotonic_ms();
        let mut seen = self.seen();
        let was_done = seen.done.iter().any(|other| (other.key, other.n) == (done.key, done.n));
        if !(is_keyed && was_done) {
            seen.done.push(Done { at_ms, ..done });
        }
    }

    /// Whether a call fails once more, in a way that passes, before its script lets it through.
    pub fn fails(&self, key: Digest, times: u32) -> bool {
        counted(self.seen().failures.entry(key).or_default(), times)
    }

    /// Whether the answer to a call's last write is lost once more.
    pub fn loses(&self, key: Digest, times: u32) -> bool {
        counted(self.seen().losses.entry(key).or_default(), times)
    }

    /// Notes that a request arrives, and returns its number.
    pub fn asked(&self, process: u32, tool: &str, server: &str) -> usize {
        let n = self.seen().requests.len();
        self.saw(process, tool, server, Sent::Begun(n));
        n
    }

    /// Notes what happens to a request.
    pub fn saw(&self, process: u32, tool: &str, server: &str, what: Sent) {
        let at = self.clock.now();
        let (tool, server) = (tool.to_owned(), server.to_owned());
        self.seen().requests.push(Request { process, tool, server, at, what });
    }

    pub fn requests(&self) -> Vec<Request> {
        self.seen().requests.clone()
    }

    /// Notes that a request was not let out of the host.
    pub fn was_refused(&self) {
        self.seen().refused += 1;
    }

    pub fn refused(&self) -> u32 {
        self.seen().refused
    }

    /// Hears a notice, or does not.
    pub fn hear(&self, notice: &Notice, is_heard: bool) {
        let mut seen = self.seen();
        if is_heard {
            seen.notices.push(notice.clone());
        } else {
            *seen.unheard.entry((notice.run.clone(), notice.seq)).or_default() += 1;
        }
    }

    pub fn notices(&self) -> Vec<Notice> {
        self.seen().notices.clone()
    }

    /// How often nobody could be told of an event.
    pub fn unheard(&self, run: &RunId, seq: Seq) -> u32 {
        self.seen().unheard.get(&(run.clone(), seq)).copied().unwrap_or(0)
    }

    /// Notes that it is durable that a run is to stop.
    pub fn stopped(&self, run: &RunId) {
        let now = self.clock.monotonic_ms();
        self.seen().cancelled.entry(run.clone()).or_insert(now);
    }

    /// When it was durable that a run is to stop, in milliseconds since the simulation began.
    pub fn stopped_at(&self, run: &RunId) -> Option<u64> {
        self.seen().cancelled.get(run).copied()
    }

    /// Lets be taken back what could not be.
    pub fn heal(&self, id: &str) {
        self.seen().healed.insert(id.to_owned());
    }

    pub fn is_healed(&self, id: &str) -> bool {
        self.seen().healed.contains(id)
    }

    /// Takes a while, or none.
    pub async fn pause(&self) {
        let ms = match self.rng.below(4) {
            0 => 0,
            1 => self.rng.below(5),
            _ => self.rng.below(200),
        };
        self.clock.sleep(Duration::from_millis(ms)).await;
    }
}

/// Counts one more; false once there were as many as there are to be.
fn counted(count: &mut u32, times: u32) -> bool {
    *count += 1;
    *count <= times
}
