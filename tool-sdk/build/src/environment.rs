//! The environment of the inner cargo: what the person set stays, what an outer cargo set goes.

use std::ffi::{OsStr, OsString};
use std::process::Command;

/// What a person sets for every cargo: where things are kept and how the network is reached.
const KEPT: &[&str] = &[
    "CARGO_BUILD_JOBS",
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_REGISTRIES_",
    "CARGO_REGISTRY_",
    "CARGO_TARGET_DIR",
    "CARGO_TERM_",
];

/// What an outer cargo, or flags meant for the outer build, would change about the guests.
const CLEARED: &[&str] = &[
    "CARGO",
    "RUSTFLAGS",
    "RUSTDOCFLAGS",
    "RUSTC",
    "RUSTDOC",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_LINKER",
    "RUSTC_BOOTSTRAP",
    "TARGET",
    "HOST",
    "OUT_DIR",
    "PROFILE",
    "OPT_LEVEL",
    "DEBUG",
    "NUM_JOBS",
    "MAKEFLAGS",
    "MFLAGS",
    "CLIPPY_ARGS",
    "CLIPPY_CONF_DIR",
];

/// Returns a cargo command that an outer cargo does not influence.
pub(crate) fn cargo() -> Command {
    cleared(program("CARGO", "cargo"))
}

/// Returns a rustc command of the same toolchain as [`cargo`].
pub(crate) fn rustc() -> Command {
    cleared(program("RUSTC", "rustc"))
}

/// An outer cargo names the very programs that it runs; they know their toolchain without rustup's proxies.
fn program(variable: &str, fallback: &str) -> OsString {
    std::env::var_os(variable).filter(|path| !path.is_empty()).unwrap_or_else(|| fallback.into())
}

fn cleared(program: OsString) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_cleared(name)) {
        command.env_remove(name);
    }
    command
}

fn is_cleared(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let is_kept = KEPT.iter().any(|kept| name.starts_with(kept));
    let is_cargos = name.starts_with("CARGO_") || name.starts_with("__CARGO") || name.starts_with("DEP_");
    !is_kept && (is_cargos || CLEARED.contains(&name.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outer_build_leaves_no_trace() {
        for name in [
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS",
            "CARGO_MANIFEST_DIR",
            "RUSTC_WRAPPER",
            "RUSTFLAGS",
        ] {
            assert!(is_cleared(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn what_a_person_set_stays() {
        for name in [
            "CARGO_HOME",
            "CARGO_NET_OFFLINE",
            "CARGO_TARGET_DIR",
            "RUSTUP_TOOLCHAIN",
            "RUSTUP_HOME",
            "PATH",
            "HTTPS_PROXY",
        ] {
            assert!(!is_cleared(OsStr::new(name)), "{name}");
        }
    }
}
