//! Reads components, without running them, and says what they are.
//!
//! Promises: whatever the bytes are, [`read`] returns a contract or a failure that names what was found and what was
//! expected; it never panics and its work is bounded. A [`VerifiedTool`] exists only for bytes that were read so. A
//! [`Lock`] tells which of them are what somebody accepted.
//! Leaves to others: compiling and running (`sandbox`), deciding what a tool may do (`policy`).

mod belt;
mod catalog;
mod decode;
mod describe;
mod diff;
mod header;
mod imports;
mod lock;
mod manifest;
mod pin;
mod scan;
mod schema;
mod template;
mod verify;
mod wit;

pub use catalog::Catalog;
pub use describe::read;
pub use diff::{Change, Part, changes};
pub use lock::{LOCK_BYTES_MAX, Lock, PinState, drift};
pub use pin::{Origin, Pin, PinnedFunction};
pub use verify::{Candidate, Options, Trust, VerifiedComponent, VerifiedTool, verify};

#[cfg(test)]
mod tests;
