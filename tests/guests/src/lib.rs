//! The built example tools and hostile guests, for tests and benches. Having this crate as a dependency builds them.

use std::path::PathBuf;

include!(concat!(env!("OUT_DIR"), "/components.rs"));

/// Returns the `.wasm` of an example tool or guest, by the name of its crate's folder.
///
/// # Panics
/// When there is no crate of that name: a test is wrong then.
pub fn component(name: &str) -> PathBuf {
    let found = COMPONENTS.iter().find(|(known, _)| *known == name);
    let Some((_, path)) = found else {
        panic!("no guest is called `{name}`: there are {}", names().collect::<Vec<_>>().join(", "));
    };
    PathBuf::from(path)
}

/// Returns the names of all built components.
pub fn names() -> impl Iterator<Item = &'static str> {
    COMPONENTS.iter().map(|(name, _)| *name)
}
