//! How long things took: the values in whose middle and at whose end a person is interested. Exact.

use serde::Serialize;

/// The middle and the end of some numbers, each of which is one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Spread {
    pub count: u64,
    /// Half of them are at most this.
    pub p50: u64,
    /// 95 of a hundred are at most this.
    pub p95: u64,
    pub max: u64,
}

impl Spread {
    /// Returns the spread of some numbers; `None` where there are none.
    pub fn of(mut values: Vec<u64>) -> Option<Self> {
        values.sort_unstable();
        let max = *values.last()?;
        Some(Self { count: values.len() as u64, p50: *rank(&values, 50)?, p95: *rank(&values, 95)?, max })
    }
}

/// The smallest value that is not less than so many in a hundred of all: the nearest rank.
fn rank(sorted: &[u64], percent: usize) -> Option<&u64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_made_of_values_that_are_there() {
        let spread = |values: &[u64]| Spread::of(values.to_vec()).map(|s| (s.count, s.p50, s.p95, s.max));
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[7]), Some((1, 7, 7, 7)));
        assert_eq!(spread(&[4, 1, 3, 2]), Some((4, 2, 4, 4)));
        let hundred: Vec<u64> = (1..=100).rev().collect();
        assert_eq!(spread(&hundred), Some((100, 50, 95, 100)));
        let twenty: Vec<u64> = (1..=20).collect();
        assert_eq!(spread(&twenty), Some((20, 10, 19, 20)));
    }
}
