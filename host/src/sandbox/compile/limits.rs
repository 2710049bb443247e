//! What one compilation may use, and what that comes to for a component of some size.

use std::time::Duration;

/// Bounds of one compilation. The child sets the first two on itself, and the kernel holds it to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Address space in bytes, whatever the component's size: the program itself, and the compiler's threads.
    pub memory_bytes_base: u64,
    /// Address space for each byte of the component, as the compiler keeps several forms of all functions.
    pub memory_bytes_per_byte: u64,
    /// Seconds of processor time, whatever the component's size.
    pub cpu_s_base: u64,
    /// Seconds of processor time for each MiB of the component, begun ones counted.
    pub cpu_s_per_mib: u64,
    /// Wall time as a multiple of processor time: a busy machine gives half of its time.
    pub wall_per_cpu: u32,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self {
            memory_bytes_base: 1 << 30,
            memory_bytes_per_byte: 32,
            cpu_s_base: 20,
            cpu_s_per_mib: 2,
            wall_per_cpu: 2,
        }
    }
}

/// Bytes of machine code, whatever the component's size.
const ARTEFACT_BYTES_BASE: u64 = 64 << 20;

/// Bytes of machine code for each byte of the component: real ones have about three.
const ARTEFACT_BYTES_PER_BYTE: u64 = 8;

/// [`CompileLimits`] for one component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) memory_bytes_max: u64,
    pub(super) cpu_s_max: u64,
    pub(super) wall_max: Duration,
    pub(super) artefact_bytes_max: u64,
}

impl CompileLimits {
    /// Returns the bounds for a component of `bytes` bytes.
    pub(super) fn bounds(&self, bytes: usize) -> Bounds {
        let bytes = bytes as u64;
        let by_size = |base: u64, each: u64, units: u64| base.saturating_add(each.saturating_mul(units));
        let cpu_s_max = by_size(self.cpu_s_base, self.cpu_s_per_mib, bytes.div_ceil(1 << 20));
        Bounds {
            memory_bytes_max: by_size(self.memory_bytes_base, self.memory_bytes_per_byte, bytes),
            cpu_s_max,
            wall_max: Duration::from_secs(cpu_s_max).saturating_mul(self.wall_per_cpu),
            artefact_bytes_max: artefact_bytes_max(bytes),
        }
    }
}

/// The most that the code of a component of `bytes` bytes may take.
pub(super) const fn artefact_bytes_max(bytes: u64) -> u64 {
    ARTEFACT_BYTES_BASE.saturating_add(ARTEFACT_BYTES_PER_BYTE.saturating_mul(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_grow_with_the_component() {
        let limits = CompileLimits::default();
        let mib = |n: usize| limits.bounds(n << 20);
        assert_eq!((mib(0).memory_bytes_max, mib(0).cpu_s_max), (1 << 30, 20));
        assert_eq!((mib(64).memory_bytes_max, mib(64).cpu_s_max), (3 << 30, 148));
        assert_eq!(mib(64).wall_max, Duration::from_secs(296));
        assert_eq!(mib(18).artefact_bytes_max, (64 + 8 * 18) << 20);
        let endless = CompileLimits { cpu_s_base: u64::MAX, memory_bytes_per_byte: u64::MAX, ..limits };
        assert_eq!(endless.bounds(2).memory_bytes_max, u64::MAX);
        assert_eq!(endless.bounds(2).cpu_s_max, u64::MAX);
    }
}
