//! Values of a run that are in memory: arguments, outputs and lists, by digest.
//!
//! Promises: they take no more bytes than their bound, and what was wanted longest ago goes first. Leaves to others: to read
//! again from the log what is not here any more (`values.rs`).

use std::sync::Arc;

use hashlink::LruCache;

use crate::domain::{Digest, Json};
use crate::store::Payload;

/// Bytes of values, written as JSON, that one run keeps in memory: eight outputs at the limit of a call, so that a step finds
/// what the ones before it brought. A value in memory takes a few times that.
pub(super) const VALUES_BYTES_MAX: usize = 8 << 20;

pub(super) struct InHand {
    values: LruCache<Digest, (Arc<Json>, usize)>,
    bytes: usize,
    bytes_max: usize,
}

impl InHand {
    /// Makes room for `bytes_max` bytes.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { values: LruCache::new_unbounded(), bytes: 0, bytes_max }
    }

    /// Keeps a value whose payload goes to the log, and returns its digest.
    pub(super) fn keep(&mut self, stored: &Payload, value: Json) -> Digest {
        self.insert(stored.digest(), Arc::new(value), stored.bytes().len());
        stored.digest()
    }

    /// Keeps a value that takes so many bytes. One that is larger than all there is room for is not kept.
    pub(super) fn insert(&mut self, digest: Digest, value: Arc<Json>, bytes: usize) {
        if let Some((_, before)) = self.values.remove(&digest) {
            self.bytes -= before;
        }
        if bytes > self.bytes_max {
            return;
        }
        self.bytes += bytes;
        self.values.insert(digest, (value, bytes));
        while self.bytes > self.bytes_max
            && let Some((_, (_, gone))) = self.values.remove_lru()
        {
            self.bytes -= gone;
        }
    }

    pub(super) fn get(&mut self, digest: &Digest) -> Option<Arc<Json>> {
        self.values.get(digest).map(|(value, _)| value.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps texts of so many bytes one after the other, looking at the first one each time.
    fn kept(bytes_max: usize, sizes: &[usize]) -> (Vec<usize>, usize) {
        let mut in_hand = InHand::new(bytes_max);
        let value = |n: usize, size: usize| Json::from(format!("{n:0>width$}", width = size - 2));
        let stored = |n, size| Payload::of(&value(n, size)).unwrap();
        for (n, size) in sizes.iter().copied().enumerate() {
            in_hand.keep(&stored(n, size), value(n, size));
            in_hand.get(&stored(0, sizes[0]).digest());
        }
        let is_there = |(n, size): (usize, &usize)| in_hand.get(&stored(n, *size).digest()).map(|_| n);
        let found = sizes.iter().enumerate().filter_map(is_there).collect();
        (found, in_hand.bytes)
    }

    #[test]
    fn what_was_wanted_longest_ago_goes_first_and_the_bound_holds() {
        assert_eq!(kept(100, &[40, 30, 30]), (vec![0, 1, 2], 100));
        assert_eq!(kept(100, &[40, 30, 30, 10]), (vec![0, 2, 3], 80));
        assert_eq!(kept(100, &[40, 30, 20, 60]), (vec![0, 3], 100));
        assert_eq!(kept(100, &[40, 101, 60]), (vec![0, 2], 100), "what is too large takes nothing from the rest");
    }

    #[test]
    fn a_value_that_is_kept_twice_is_counted_once() {
        let mut in_hand = InHand::new(100);
        let stored = Payload::of(&Json::from("x".repeat(58))).unwrap();
        for _ in 0..3 {
            in_hand.keep(&stored, Json::from("x".repeat(58)));
        }
        assert_eq!((in_hand.bytes, in_hand.values.len()), (60, 1));
    }
}
