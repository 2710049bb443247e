//! The process's surroundings as a value: its variables and its working directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::domain::{Failure, Kind};

/// The variables and the working directory of a process, as they were when they were read.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    directory: PathBuf,
}

impl Environment {
    /// Reads those of this process. Variables that are not text are left out.
    ///
    /// # Errors
    /// `data.config` where the working directory is gone.
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    pub fn of_process() -> Result<Self, Failure> {
        let directory = std::env::current_dir()
            .map_err(|e| Failure::new(Kind::DataConfig, format!("find the working directory: {e}")))?;
        let variables = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        Ok(Self { variables: variables.collect(), directory })
    }

    /// Makes one of plain values.
    pub fn new(directory: impl Into<PathBuf>, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { variables: variables.into_iter().collect(), directory: directory.into() }
    }

    /// Makes `directory` the working directory of this process.
    ///
    /// # Errors
    /// `data.config` where it is no directory.
    pub fn enter(directory: &Path) -> Result<(), Failure> {
        std::env::set_current_dir(directory)
            .map_err(|e| Failure::new(Kind::DataConfig, format!("go to directory {}: {e}", directory.display())))
    }

    /// Returns the value of a variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<String> {
        self.variables.get(name).filter(|value| !value.is_empty()).cloned()
    }

    /// Returns the working directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns what `COFFERDAM_LOG` asks to be logged.
    pub fn log_filter(&self) -> Option<String> {
        self.get("COFFERDAM_LOG")
    }

    /// Returns the name of the person at this machine.
    pub fn user(&self) -> Option<String> {
        self.get("USER").or_else(|| self.get("LOGNAME"))
    }

    /// Returns the directory of the user's configuration. A relative path counts as none, as XDG has it.
    pub(super) fn config_home(&self) -> Option<PathBuf> {
        self.home("XDG_CONFIG_HOME", ".config")
    }

    /// Returns the directory of what programs keep for this user and can make again.
    pub(super) fn cache_home(&self) -> Option<PathBuf> {
        self.home("XDG_CACHE_HOME", ".cache")
    }

    /// Returns the directory of what programs keep for this user and cannot make again.
    pub(super) fn state_home(&self) -> Option<PathBuf> {
        self.home("XDG_STATE_HOME", ".local/state")
    }

    fn home(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        let absolute = |path: PathBuf| path.is_absolute().then_some(path);
        let home = || self.get("HOME").map(|home| PathBuf::from(home).join(below_home));
        self.get(variable).map(PathBuf::from).and_then(absolute).or_else(|| home().and_then(absolute))
    }
}
