//! Holds a call to its memory, tables, host calls and handles, and remembers which limit was met.

use wasmtime::ResourceLimiter;

use crate::domain::{Kind, Limits};
use crate::sandbox::engine::CORE_INSTANCES_PER_COMPONENT_MAX;

/// Bytes that one table element counts for: a pointer and its bookkeeping.
const TABLE_ELEMENT_BYTES: u64 = 16;

/// Fuel that one host call costs: crossing the boundary is work of the host.
pub(super) const HOST_CALL_FUEL: u64 = 1_000;

/// Milliseconds in which `progress_per_second_max` counts.
const SECOND_MS: u64 = 1_000;

/// Holds a call to its progress reports, in all and in each second.
#[derive(Debug)]
pub(super) struct Pace {
    reports_max: u64,
    per_second_max: u64,
    reports: u64,
    /// Monotonic milliseconds at which the second began that is counted.
    since_ms: u64,
    in_second: u64,
}

impl Pace {
    pub(super) fn new(limits: &Limits, now_ms: u64) -> Self {
        Self {
            reports_max: limits.progress_reports_max,
            per_second_max: limits.progress_per_second_max,
            reports: 0,
            since_ms: now_ms,
            in_second: 0,
        }
    }

    /// Counts one report at `now_ms`; false where it is one too many.
    pub(super) fn count(&mut self, now_ms: u64) -> bool {
        if now_ms.saturating_sub(self.since_ms) >= SECOND_MS {
            (self.since_ms, self.in_second) = (now_ms, 0);
        }
        let is_within = self.reports < self.reports_max && self.in_second < self.per_second_max;
        if is_within {
            self.reports += 1;
            self.in_second += 1;
        }
        is_within
    }
}

/// Counts what a call holds. All memories and tables draw on one budget.
#[derive(Debug)]
pub(super) struct Meter {
    memory_bytes_max: u64,
    table_elements_max: u64,
    host_calls_max: u64,
    memory_bytes: u64,
    table_elements: u64,
    pub(super) memory_bytes_peak: u64,
    pub(super) host_calls: u64,
    /// The limit that refused something, last: where the call then ends badly, this is why.
    pub(super) hit: Option<Kind>,
}

impl Meter {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            memory_bytes_max: limits.memory_bytes_max,
            table_elements_max: limits.table_elements_max,
            host_calls_max: limits.host_calls_max,
            memory_bytes: 0,
            table_elements: 0,
            memory_bytes_peak: 0,
            host_calls: 0,
            hit: None,
        }
    }

    /// Counts one host call; false where it is one too many.
    pub(super) fn count_host_call(&mut self) -> bool {
        self.host_calls += 1;
        let is_within = self.host_calls <= self.host_calls_max;
        if !is_within {
            self.hit = Some(Kind::ToolHostCalls);
        }
        is_within
    }

    fn take_memory(&mut self, current: u64, desired: u64) -> bool {
        let total = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        if total > self.memory_bytes_max {
            self.hit = Some(Kind::ToolMemory);
            return false;
        }
        self.memory_bytes = total;
        self.memory_bytes_peak = self.memory_bytes_peak.max(total);
        true
    }
}

fn units(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// Whether growth can come about at all. What wasmtime would refuse after it was permitted must not be counted.
fn is_within(desired: usize, maximum: Option<usize>) -> bool {
    maximum.is_none_or(|maximum| desired <= maximum)
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(is_within(desired, maximum) && self.take_memory(units(current), units(desired)))
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if !is_within(desired, maximum) {
            return Ok(false);
        }
        let (current, desired) = (units(current), units(desired));
        let elements = self.table_elements.saturating_add(desired.saturating_sub(current));
        if elements > self.table_elements_max {
            self.hit = Some(Kind::ToolTable);
            return Ok(false);
        }
        let fits =
            self.take_memory(current.saturating_mul(TABLE_ELEMENT_BYTES), desired.saturating_mul(TABLE_ELEMENT_BYTES));
        if fits {
            self.table_elements = elements;
        }
        Ok(fits)
    }

    fn instances(&self) -> usize {
        usize::try_from(CORE_INSTANCES_PER_COMPONENT_MAX).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(memory_bytes_max: u64) -> Meter {
        Meter::new(&Limits { memory_bytes_max, table_elements_max: 100, host_calls_max: 2, ..Limits::default() })
    }

    #[test]
    fn all_memories_and_tables_draw_on_one_budget() {
        let mut meter = meter(1_000);
        assert!(meter.memory_growing(0, 600, None).unwrap());
        assert!(!meter.memory_growing(0, 600, None).unwrap(), "a second memory");
        assert_eq!(meter.hit, Some(Kind::ToolMemory));
        assert!(meter.table_growing(0, 20, None).unwrap());
        assert!(!meter.table_growing(20, 50, None).unwrap(), "bytes of the table");
        assert_eq!(meter.memory_bytes_peak, 600 + 20 * TABLE_ELEMENT_BYTES);
    }

    #[test]
    fn growth_that_cannot_come_about_is_not_counted() {
        let mut meter = meter(1_000);
        assert!(!meter.memory_growing(0, 600, Some(500)).unwrap() && !meter.table_growing(0, 20, Some(10)).unwrap());
        assert_eq!((meter.memory_bytes_peak, meter.hit), (0, None));
        assert!(meter.memory_growing(0, 1_000, None).unwrap());
    }

    #[test]
    fn progress_has_a_pace_and_an_end() {
        let limits = Limits { progress_reports_max: 7, progress_per_second_max: 3, ..Limits::default() };
        let mut pace = Pace::new(&limits, 500);
        let mut passed = |now_ms| (0..5).filter(|_| pace.count(now_ms)).count();
        assert_eq!([500, 1_499, 1_500, 2_499, 2_500, 9_000].map(&mut passed), [3, 0, 3, 0, 1, 0]);
    }

    #[test]
    fn a_table_has_a_limit_of_its_own() {
        let mut meter = meter(u64::MAX);
        assert!(!meter.table_growing(0, 101, None).unwrap());
        assert_eq!(meter.hit, Some(Kind::ToolTable));
    }

    #[test]
    fn a_host_call_too_many_is_refused() {
        let mut meter = meter(0);
        assert!(meter.count_host_call() && meter.count_host_call());
        assert!(!meter.count_host_call());
        assert_eq!(meter.hit, Some(Kind::ToolHostCalls));
    }
}
