//! How old the vendored prices are.

use crate::clock::{Clock, SystemClock};
use crate::domain::Timestamp;
use crate::planner::prices;

/// Days after which the data is called old: providers change their prices some times a year.
const PRICES_DAYS_MAX: u64 = 180;

/// The vendored prices, as far as their age goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PriceData {
    pub published: Timestamp,
    pub is_old: bool,
}

/// Returns how old the vendored prices are.
pub fn price_data() -> PriceData {
    aged(prices::published().unwrap_or_default(), SystemClock::default().now())
}

fn aged(published: Timestamp, now: Timestamp) -> PriceData {
    PriceData { published, is_old: now.ms_since(published) > PRICES_DAYS_MAX * 86_400_000 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_old_after_half_a_year() {
        let published: Timestamp = "2026-11-10".parse().unwrap();
        let is_old = |day: &str| aged(published, day.parse().unwrap()).is_old;
        assert_eq!(["2026-11-10", "2026-01-01", "2027-05-09", "2027-05-10"].map(is_old), [false, false, false, true]);
        assert_eq!(price_data().published, published);
    }
}
