//! What the program is built from: versions without known holes in the sandbox.

use std::fs;
use std::path::Path;

/// wasmtime before this has known ways out of the sandbox (GHSA advisories of 2026).
const WASMTIME_MIN: [u64; 3] = [48, 0, 8];

#[test]
fn the_lock_file_holds_a_wasmtime_without_known_holes() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock")).expect("the lock reads");
    let lock: toml::Table = toml::from_str(&text).expect("the lock is TOML");
    let packages = lock["package"].as_array().expect("it lists packages");
    let of_wasmtime = packages.iter().filter(|package| package["name"].as_str().is_some_and(is_of_wasmtime));
    let versions: Vec<_> = of_wasmtime.map(|package| (name(package), version(package))).collect();
    assert!(versions.len() >= 4, "{versions:?}");
    for (name, version) in &versions {
        assert!(*version >= WASMTIME_MIN, "{name} is {version:?}, and {WASMTIME_MIN:?} is the least");
    }
}

fn is_of_wasmtime(name: &str) -> bool {
    name == "wasmtime" || name.starts_with("wasmtime-wasi") || name.starts_with("wasmtime-environ")
}

fn name(package: &toml::Value) -> &str {
    package["name"].as_str().unwrap_or_default()
}

fn version(package: &toml::Value) -> [u64; 3] {
    let text = package["version"].as_str().unwrap_or_default();
    let mut parts = text.split(['.', '-', '+']).map(|part| part.parse().expect("a version has numbers"));
    [(); 3].map(|()| parts.next().expect("a version has three numbers"))
}
