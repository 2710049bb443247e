//! Which runtime is compiled in, and whether it is known to be good.

/// The oldest release in which no way out of the sandbox is known.
const VERSION_MIN: [u32; 3] = [48, 0, 8];

/// The runtime of guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runtime {
    pub name: &'static str,
    pub version: &'static str,
    /// Whether it is as new as the oldest release that is known to be good.
    pub is_known_good: bool,
}

/// Returns the runtime that is compiled in.
pub fn runtime() -> Runtime {
    let version = wasmtime_environ::VERSION;
    Runtime { name: "wasmtime", version, is_known_good: is_known_good(version) }
}

/// A version that cannot be read is not known to be good.
fn is_known_good(version: &str) -> bool {
    let parts: Result<Vec<u32>, _> = version.split('.').map(str::parse).collect();
    parts.is_ok_and(|parts| parts.len() == 3 && *parts >= VERSION_MIN[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runtime_is_new_enough() {
        assert!(runtime().is_known_good, "{}", runtime().version);
        for (version, expected) in [
            ("48.0.8", true),
            ("48.1.0", true),
            ("50.0.0", true),
            ("48.0.7", false),
            ("9.9.9", false),
            ("48.0.8-rc", false),
        ] {
            assert_eq!(is_known_good(version), expected, "{version}");
        }
    }
}
