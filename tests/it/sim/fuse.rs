//! Where a simulated process comes to its end, and the numbers that decide about it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cofferdam::domain::{Failure, Kind};
use tokio::sync::Notify;

/// Random numbers that a seed tells: SplitMix64.
#[derive(Debug)]
pub struct Rng(Mutex<u64>);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }

    pub fn next(&self) -> u64 {
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Draws a number below `end`.
    pub fn below(&self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// Answers yes once in `times`.
    pub fn once_in(&self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// It is gone, in the middle of whatever it did.
    Dies,
    /// From then on nothing can be written, and the process has to tell so.
    DiskFull,
}

/// Counts the points that a process passes, and ends it at one of them.
#[derive(Debug)]
pub struct Fuse {
    at: u64,
    how: Blow,
    passed: AtomicU64,
    has_blown: AtomicBool,
    blown: Notify,
}

impl Fuse {
    /// Ends the process at the point of this number, from 1; 0 for never.
    pub fn at(at: u64, how: Blow) -> Self {
        Self { at, how, passed: AtomicU64::new(0), has_blown: AtomicBool::new(false), blown: Notify::new() }
    }

    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::SeqCst)
    }

    pub fn has_blown(&self) -> bool {
        self.has_blown.load(Ordering::SeqCst)
    }

    /// Passes a point. A process that is gone never comes back from here.
    pub async fn point(&self) {
        if !self.has_blown() && self.passed.fetch_add(1, Ordering::SeqCst) + 1 == self.at {
            self.has_blown.store(true, Ordering::SeqCst);
            self.blown.notify_one();
        }
        if self.has_blown() && self.how == Blow::Dies {
            std::future::pending::<()>().await;
        }
    }

    /// Says whether the log can still be written.
    pub fn writes(&self) -> Result<(), Failure> {
        match self.has_blown() && self.how == Blow::DiskFull {
            true => Err(Failure::new(Kind::HostStorage, "write the log: the disk is full")),
            false => Ok(()),
        }
    }

    /// Returns when the process is gone.
    pub async fn died(&self) {
        match self.how {
            Blow::Dies => self.blown.notified().await,
            Blow::DiskFull => std::future::pending().await,
        }
    }
}
