//! Seals what belongs to a user: XChaCha20-Poly1305 with a random key for each user, itself sealed by a master key.
//!
//! Promises: the bytes can be opened only with both keys, and only as what they were sealed as. Deleting the user's
//! key makes all that was sealed with it unreadable. It leaves to `tables` where keys and sealed bytes are kept.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

use crate::clock::Clock;
use crate::domain::{Digest, Failure, Kind};
use crate::store::sqlite::schema::file_failed;

/// Length of a key, in bytes.
const KEY_BYTES: usize = 32;

/// Length of a nonce, in bytes: long enough to be drawn at random without ever meeting the same twice.
const NONCE_BYTES: usize = 24;

/// Bytes that only the holder of the key can read.
pub(super) struct Sealed {
    pub nonce: Vec<u8>,
    pub bytes: Vec<u8>,
}

/// What sealed bytes are: opening them as something else fails.
pub(super) struct Label(Digest);

impl Label {
    /// Makes the label of the thing that `parts` name.
    pub(super) fn new(parts: &[&str]) -> Self {
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        Self(Digest::of_parts(&parts))
    }
}

/// A key. Its bytes never leave this file.
pub(super) struct Key {
    cipher: XChaCha20Poly1305,
}

impl Key {
    /// Seals `bytes` as what `label` says.
    pub(super) fn seal(&self, clock: &dyn Clock, label: &Label, bytes: &[u8]) -> Result<Sealed, Failure> {
        let nonce = random::<NONCE_BYTES>(clock)?;
        let payload = Payload { msg: bytes, aad: label.0.as_bytes() };
        let bytes = self.cipher.encrypt(XNonce::from_slice(&nonce), payload).map_err(|_| broken("seal a payload"))?;
        Ok(Sealed { nonce: nonce.to_vec(), bytes })
    }

    /// Opens what was sealed as what `label` says.
    pub(super) fn open(&self, label: &Label, sealed: &Sealed) -> Result<Vec<u8>, Failure> {
        if sealed.nonce.len() != NONCE_BYTES {
            return Err(broken("open a payload"));
        }
        let payload = Payload { msg: &sealed.bytes, aad: label.0.as_bytes() };
        self.cipher.decrypt(XNonce::from_slice(&sealed.nonce), payload).map_err(|_| broken("open a payload"))
    }

    fn new(bytes: &[u8; KEY_BYTES]) -> Self {
        Self { cipher: XChaCha20Poly1305::new(bytes.into()) }
    }
}

/// The master key, which seals the keys of users.
pub(super) struct Master {
    key: Key,
    clock: Arc<dyn Clock>,
}

impl Master {
    /// Reads the key at `path`, or makes it where there is none. Only one process may do so at a time.
    pub(super) fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, Failure> {
        if !path.exists() {
            make(path, clock.as_ref())?;
        }
        Ok(Self { key: Key::new(&read(path)?), clock })
    }

    /// Returns where randomness comes from.
    pub(super) fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    /// Makes a key for the user whom `label` names, and returns it with its sealed form.
    pub(super) fn make_key(&self, label: &Label) -> Result<(Key, Sealed), Failure> {
        let bytes = random::<KEY_BYTES>(self.clock())?;
        let sealed = self.key.seal(self.clock(), label, &bytes)?;
        Ok((Key::new(&bytes), sealed))
    }

    /// Returns the key of the user whom `label` names.
    pub(super) fn open_key(&self, label: &Label, sealed: &Sealed) -> Result<Key, Failure> {
        let bytes = self.key.open(label, sealed)?;
        let bytes = bytes.as_slice().try_into().map_err(|_| broken("open the key of a user"))?;
        Ok(Key::new(bytes))
    }
}

/// Writes a new key beside `path` and then puts it there: nobody ever sees half a key.
fn make(path: &Path, clock: &dyn Clock) -> Result<(), Failure> {
    let failed = file_failed("make the master key", path);
    let bytes = random::<KEY_BYTES>(clock)?;
    let draft = path.with_extension("new");
    match std::fs::remove_file(&draft) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(failed(e)),
        _ => (),
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(&failed)?;
    file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(&failed)?;
    std::fs::rename(&draft, path).map_err(&failed)?;
    // Sealed payloads must never be on the disk before the key that opens them.
    path.parent().map_or(Ok(()), |dir| File::open(dir).and_then(|dir| dir.sync_all())).map_err(&failed)
}

fn read(path: &Path) -> Result<[u8; KEY_BYTES], Failure> {
    let failed = file_failed("read the master key", path);
    let mut file = File::open(path).map_err(&failed)?;
    let about = file.metadata().map_err(&failed)?;
    if about.permissions().mode() & 0o077 != 0 {
        return Err(unfit(path, "others may read it", "run `chmod 600` on it"));
    }
    if about.len() != KEY_BYTES as u64 {
        return Err(unfit(path, "it is not 32 bytes long", "restore it from a backup"));
    }
    let mut bytes = [0; KEY_BYTES];
    file.read_exact(&mut bytes).map_err(&failed)?;
    Ok(bytes)
}

fn unfit(path: &Path, why: &str, hint: &str) -> Failure {
    Failure::new(Kind::HostStorage, format!("use the master key at {}: {why}", path.display())).hint(hint)
}

fn random<const N: usize>(clock: &dyn Clock) -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    clock.random(&mut bytes).map_err(|e| Failure::new(Kind::HostStorage, "make a key").detail(e))?;
    Ok(bytes)
}

fn broken(what: &str) -> Failure {
    Failure::new(Kind::HostStorage, format!("{what}: the bytes or the key were changed"))
        .hint("restore the log and its `key` file from the same backup")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SimClock;

    #[test]
    fn sealed_bytes_open_only_as_what_they_were_sealed_as() {
        let key = Key::new(&[7; KEY_BYTES]);
        let sealed = key.seal(&SimClock::default(), &Label::new(&["a", "bc"]), b"secret").unwrap();
        assert_eq!(key.open(&Label::new(&["a", "bc"]), &sealed), Ok(b"secret".to_vec()));
        assert!(key.open(&Label::new(&["ab", "c"]), &sealed).is_err());
        assert!(Key::new(&[8; KEY_BYTES]).open(&Label::new(&["a", "bc"]), &sealed).is_err());
        assert!(key.open(&Label::new(&["a", "bc"]), &Sealed { nonce: vec![], ..sealed }).is_err());
    }

    #[test]
    fn a_master_key_that_others_may_read_or_that_was_cut_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let open = || Master::open(&path, Arc::new(SimClock::default())).map(|_| ()).map_err(|f| f.message);
        assert_eq!(open(), Ok(()));
        assert_eq!(open(), Ok(()));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(open().unwrap_err().contains("others may read it"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, [1; 31]).unwrap();
        assert!(open().unwrap_err().contains("not 32 bytes"));
    }
}
