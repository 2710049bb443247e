//! Where the key of a model's API is found. The key itself never stands in a settings file.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::domain::{Failure, Kind};
use crate::planner::model::ApiKey;

/// The variable that holds the key of a model that environment or command line chose.
pub(super) const VARIABLE: &str = "COFFERDAM_API_KEY";

/// Bytes of a key's file: the longest keys in use are signed tokens of a few KiB.
const KEY_BYTES_MAX: u64 = 16 << 10;

/// Where a key is found: written `env:NAME` or `file:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// In a variable of the environment.
    Env(String),
    /// In a file that holds nothing else.
    File(PathBuf),
}

impl KeySource {
    /// Reads where a key is found; a relative path is taken from `root`.
    ///
    /// # Errors
    /// Says what is wrong without the text, for it may be the key itself.
    pub(super) fn parse(text: &str, root: &Path) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("env", name)) if is_variable(name) => Ok(Self::Env(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(root.join(path))),
            _ => Err("`api_key` says where the key is: `env:NAME` or `file:PATH`, and is never the key itself".into()),
        }
    }

    /// Fetches the key.
    ///
    /// # Errors
    /// `data.config` where there is none, or it is none.
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    pub fn read(&self) -> Result<ApiKey, Failure> {
        let key = match self {
            Self::Env(name) => std::env::var(name)
                .map_err(|_| Failure::new(Kind::DataConfig, format!("find the model's key: `{name}` is not set")))?,
            Self::File(path) => from_file(path)?,
        };
        ApiKey::new(key.trim_end())
    }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn from_file(path: &Path) -> Result<String, Failure> {
    let cannot = |e: std::io::Error| {
        Failure::new(Kind::DataConfig, format!("read the model's key from {}: {e}", path.display()))
    };
    let mut key = String::new();
    File::open(path).map_err(cannot)?.take(KEY_BYTES_MAX).read_to_string(&mut key).map_err(cannot)?;
    Ok(key)
}
