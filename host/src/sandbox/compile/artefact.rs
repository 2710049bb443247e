//! Machine code whose origin is known, and the one place where it becomes something that runs.
//!
//! This is the only `unsafe` in the project. wasmtime cannot check machine code: whoever loads some vouches that wasmtime
//! made it and that nobody changed it since. Two origins are vouched for here, each by its constructor: what a child of
//! this very process wrote into our pipe, and what was read back from the cache and bears the seal that only holders of
//! this host's key can make. Promises: the bytes that were checked are the bytes that are loaded, for they are in private
//! memory from one to the other; no file is ever mapped.

use hmac::digest::CtOutput;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::domain::Digest;

type Seal = Hmac<Sha256>;

/// Bytes of a seal, which stands before the code in a cache file.
pub(super) const SEAL_BYTES: usize = 32;

/// What is sealed besides the key and the code: a seal of anything else is no seal of an artefact.
const SEALED_AS: &[u8] = b"cofferdam compiled component 1";

/// The key of this host's seals.
pub(super) type Key = [u8; 32];

/// Machine code that may be loaded.
pub(super) struct Artefact {
    /// As it came: code behind a seal of `skipped` bytes, or code alone.
    bytes: Vec<u8>,
    skipped: usize,
}

impl Artefact {
    /// Vouches for what a child of this process brought, and that alone.
    pub(super) fn of_child(code: Vec<u8>) -> Self {
        Self { bytes: code, skipped: 0 }
    }

    /// Takes the contents of a cache file, where the seal in front is that of `key`, for this `name`.
    pub(super) fn of_cache(contents: Vec<u8>, key: &Key, name: &Digest) -> Option<Self> {
        let (seal, code) = contents.split_at_checked(SEAL_BYTES)?;
        // Compared in constant time.
        sealed(key, name, code).verify_slice(seal).ok()?;
        Some(Self { bytes: contents, skipped: SEAL_BYTES })
    }

    /// Returns the seal of this artefact under `name`.
    pub(super) fn seal(&self, key: &Key, name: &Digest) -> [u8; SEAL_BYTES] {
        let seal: CtOutput<Seal> = sealed(key, name, self.bytes()).finalize();
        seal.into_bytes().into()
    }

    /// Returns the code.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(self.skipped..).unwrap_or_default()
    }

    /// Makes a component of the code.
    ///
    /// # Errors
    /// The code is for another engine or another processor, or the engine's pool has no room for such a component.
    #[expect(
        unsafe_code,
        reason = "only wasmtime can make code that wasmtime runs, and it cannot check it: see the top"
    )]
    pub(super) fn load(&self, engine: &Engine) -> wasmtime::Result<Component> {
        // SAFETY: each constructor vouches that wasmtime made these bytes and that they are unchanged; they are private
        // to this value and nothing here changes them. That they are of this version, engine and processor is checked by
        // `deserialize` itself, which copies them.
        unsafe { Component::deserialize(engine, self.bytes()) }
    }
}

fn sealed(key: &Key, name: &Digest, code: &[u8]) -> Seal {
    // HMAC fills a key up to its block with zeros.
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let mut seal = <Seal as Mac>::new(&block.into());
    for part in [SEALED_AS, name.as_bytes(), &(code.len() as u64).to_le_bytes(), code] {
        seal.update(part);
    }
    seal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(key: &Key, name: &Digest, code: &[u8]) -> Vec<u8> {
        let seal = Artefact::of_child(code.to_vec()).seal(key, name);
        [&seal[..], code].concat()
    }

    #[test]
    fn only_what_was_sealed_is_taken_back() {
        let (key, name) = ([7; 32], Digest::of(b"a"));
        let good = contents(&key, &name, b"some code");
        let taken = |contents: &[u8], key: &Key, name: &Digest| {
            Artefact::of_cache(contents.to_vec(), key, name).map(|artefact| artefact.bytes().to_vec())
        };
        assert_eq!(taken(&good, &key, &name).as_deref(), Some(&b"some code"[..]));
        assert_eq!(taken(&good, &[8; 32], &name), None, "another host's key");
        assert_eq!(taken(&good, &key, &Digest::of(b"b")), None, "another component's place");
        for at in 0..good.len() {
            let mut changed = good.clone();
            changed[at] ^= 1;
            assert_eq!(taken(&changed, &key, &name), None, "byte {at} changed");
            assert_eq!(taken(&good[..at], &key, &name), None, "cut at byte {at}");
        }
    }
}
