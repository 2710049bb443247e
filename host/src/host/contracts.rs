//! The contracts of the tools that settings name, and the lock that holds them: for whoever looks before anything is called.
//!
//! Promises: nothing here runs or compiles a component, and no tool is withheld: drift is told, not acted on.

use std::fs::{File, symlink_metadata};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::config::{Settings, ToolSource};
use crate::domain::{Contract, Failure, Kind};
use crate::registry::{Candidate, Catalog, LOCK_BYTES_MAX, Lock, Origin, Trust, VerifiedComponent, verify};

/// A component of the settings.
#[derive(Clone, Debug)]
pub struct Found {
    pub file: PathBuf,
    pub contract: Contract,
    pub origin: Origin,
}

/// Reads every component of `settings`, sorted by the name that the settings give it.
///
/// # Errors
/// `load.*`, naming the component; `load.invalid` where two have names that look alike; `data.config` for a crate that is not
/// built.
pub fn components(settings: &Settings) -> Result<Vec<Found>, Failure> {
    let mut found = Vec::new();
    let mut verified = Vec::new();
    for (name, source) in &settings.tools {
        let (file, digest, origin) = match source {
            ToolSource::File { file, digest } => (file, *digest, Origin::File),
            ToolSource::Built { file } => (file, None, Origin::Crate),
            ToolSource::Crate { krate } => return Err(not_built(name, krate)),
        };
        let candidate = Candidate { name: name.clone(), path: file.clone() };
        let component = verify(candidate, &Trust { digest }, &settings.registry)?;
        found.push(Found { file: file.clone(), contract: VerifiedComponent::contract(&component).clone(), origin });
        verified.push(component);
    }
    Catalog::new(verified)?;
    Ok(found)
}

/// Reads the lock at `path`; `None` where there is none.
///
/// # Errors
/// `data.config`, naming the file and what is wrong with it.
pub fn read_lock(path: &Path) -> Result<Option<Lock>, Failure> {
    let at = |failure: Failure| Failure { message: format!("{} (in {})", failure.message, path.display()), ..failure };
    let mut text = String::new();
    let bytes_max = LOCK_BYTES_MAX as u64 + 1;
    match File::open(path).and_then(|file| file.take(bytes_max).read_to_string(&mut text)) {
        Ok(_) => Lock::parse(&text).map(Some).map_err(at),
        // A link that leads nowhere is a lock that was lost, and not a host without one.
        Err(error) if error.kind() == ErrorKind::NotFound && symlink_metadata(path).is_err() => Ok(None),
        Err(error) => Err(Failure::new(Kind::DataConfig, format!("read the lock {}: {error}", path.display()))),
    }
}

/// Returns the failure of a tool whose crate is not built.
pub(super) fn not_built(name: &str, krate: &Path) -> Failure {
    Failure::new(Kind::DataConfig, format!("load tool `{name}`: {} is a crate that is not built", krate.display()))
        .hint("build it with `cofferdam build`, or name the .wasm file")
}
