//! The guest toolchain as a library: makes sure of the target, builds tool crates, finds the components.
//!
//! Promises: a build inside another cargo (a build script, a test) is the same build as at the command line; every wait
//! for something outside has a bound; what the compiler says reaches the reader as it was said. It does not judge a
//! component: that is the host's.

mod build;
mod environment;
mod target;

pub use build::{Component, Options, build_components};
pub use target::{TARGET, TARGET_INSTALL_SECONDS_MAX, ensure_target};
