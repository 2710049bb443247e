//! What `cofferdam.toml`, the environment and the command line say, made into one value: [`Settings`].
//!
//! Promises: a file is refused with the line that is wrong, and never quoted, for a key may stand on it; what the
//! command line says goes before the environment, and that before the file. The only door to the environment.
//! Leaves reading the policy and the tools to `host`, and the meaning of each module's `Options` to that module.

mod chosen;
mod command;
mod environment;
mod file;
mod helper;
mod models;
mod notify;
mod price;
mod secret;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::domain::{Budget, Digest, Failure, Kind, PlanLimits, Principal};
use crate::planner::PackOptions;
use crate::registry;
use crate::sandbox;
use crate::store::sqlite::SqliteOptions;

use chosen::Chosen;

pub use environment::Environment;
pub use helper::helper;
pub use models::{ModelSettings, Models, PriceSource};
pub use notify::{Notify, NotifyTo};
pub use secret::SecretSource;

/// The name of the settings file.
pub const FILE_NAME: &str = "cofferdam.toml";

/// Where state is kept unless the file says otherwise.
const STATE_DEFAULT: &str = ".cofferdam";

/// Where the policy is unless the file says otherwise.
const POLICY_DEFAULT: &str = "policy.toml";

/// Where compiled components are kept below the user's cache unless the file says otherwise.
const CACHE_DEFAULT: &str = "cofferdam";

/// Where the key of their seals is kept below the user's state.
const CACHE_KEY_DEFAULT: &str = "cofferdam/cache";

/// What the lock's name ends with: otherwise it is that of the settings file.
const LOCK_EXTENSION: &str = "lock";

/// Everything that a host needs to be made. Its paths are absolute where `root` is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The directory of the settings file; relative paths in it are taken from here.
    pub root: PathBuf,
    /// The policy file. Without one, nothing is allowed.
    pub policy: Option<PathBuf>,
    /// The file that pins the tools. It need not be there: tools are not pinned then.
    pub lock: PathBuf,
    /// The directory of the log and of what was built.
    pub state: PathBuf,
    /// Components by the name that their tools go by.
    pub tools: BTreeMap<String, ToolSource>,
    pub registry: registry::Options,
    pub sandbox: sandbox::Options,
    pub store: SqliteOptions,
    pub budget: Budget,
    pub plan: PlanLimits,
    /// What planners get to see.
    pub pack: PackOptions,
    /// For whom runs act.
    pub principal: Principal,
    /// The models that plan where a goal is given in words.
    pub model: Option<Models>,
    /// Where the secrets are found that rules of the policy name. Each is fetched when a call first needs it.
    pub secrets: BTreeMap<String, SecretSource>,
    /// Who is told that a run waits for a person.
    pub notify: Option<Notify>,
}

/// Where a component comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolSource {
    /// A `.wasm` file, and the digest that it must have, if it is pinned.
    File { file: PathBuf, digest: Option<Digest> },
    /// The folder of a crate, to be built first.
    Crate { krate: PathBuf },
    /// What was built of a crate of these settings.
    Built { file: PathBuf },
}

/// What the command line says in place of the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    pub config: Option<PathBuf>,
    pub model: Option<String>,
    pub base_url: Option<String>,
    pub protocol: Option<String>,
}

impl Settings {
    /// Makes the settings of an empty file in `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        let policy = root.join(POLICY_DEFAULT);
        Self {
            policy: policy.exists().then_some(policy),
            lock: lock_of(&root.join(FILE_NAME)),
            state: root.join(STATE_DEFAULT),
            tools: BTreeMap::new(),
            registry: registry::Options::default(),
            sandbox: sandbox::Options::default(),
            store: SqliteOptions::default(),
            budget: Budget::default(),
            plan: PlanLimits::default(),
            pack: PackOptions::default(),
            principal: Principal::default(),
            model: None,
            secrets: BTreeMap::new(),
            notify: None,
            root,
        }
    }

    /// Finds the settings file, reads it, and lets environment and command line have their say.
    ///
    /// # Errors
    /// `data.config` where there is no file, or what it says is wrong, with the line.
    pub fn load(overrides: &Overrides, environment: &Environment) -> Result<Self, Failure> {
        let path = find(overrides, environment).ok_or_else(missing)?;
        let text = file::read(&path)?;
        let root = path.parent().unwrap_or(Path::new("/"));
        let settings = Self { lock: lock_of(&path), ..Self::parse(&text, root, &path.display().to_string())? };
        settings.with_cache(environment).with_model(overrides, environment)
    }

    /// Reads settings from the text of a file that stands in `root`; `place` names the file in errors.
    ///
    /// # Errors
    /// `data.config` with line and column for what is wrong.
    pub fn parse(text: &str, root: &Path, place: &str) -> Result<Self, Failure> {
        file::File::parse(text, place)?.settings(text, root, place)
    }

    /// Chooses where compiled components are kept, and the key of their seals. The file may say the first, never the second:
    /// who wrote it could lay code there, and a key that fits. Without a place for the key nothing is kept.
    fn with_cache(mut self, environment: &Environment) -> Self {
        self.sandbox.cache_key_dir = environment.state_home().map(|home| home.join(CACHE_KEY_DEFAULT));
        let written = self.sandbox.cache_dir.take();
        if self.sandbox.cache_key_dir.is_some() {
            self.sandbox.cache_dir = written.or_else(|| Some(environment.cache_home()?.join(CACHE_DEFAULT)));
        }
        self
    }

    /// Lets environment and command line choose the model.
    fn with_model(mut self, overrides: &Overrides, environment: &Environment) -> Result<Self, Failure> {
        let chosen = Chosen::of(overrides, environment)?;
        self.model = if chosen.is_nothing() { self.model } else { Some(chosen.models(self.model.take())?) };
        Ok(self)
    }
}

/// Returns the settings file that is to be used: flag, then environment, then working directory, then XDG.
pub fn find(overrides: &Overrides, environment: &Environment) -> Option<PathBuf> {
    let named = overrides.config.clone().or_else(|| environment.get("COFFERDAM_CONFIG").map(PathBuf::from));
    if let Some(named) = named {
        return Some(environment.directory().join(named));
    }
    let here = environment.directory().join(FILE_NAME);
    let home = environment.config_home().map(|home| home.join("cofferdam").join(FILE_NAME));
    [Some(here), home].into_iter().flatten().find(|path| path.exists())
}

/// Returns the lock that belongs to a settings file: it stands beside it.
pub fn lock_of(settings: &Path) -> PathBuf {
    settings.with_extension(LOCK_EXTENSION)
}

fn missing() -> Failure {
    Failure::new(Kind::DataConfig, format!("find {FILE_NAME} here or in the user's configuration")).hint(
        "name one with `--config FILE`, go to its directory with `-C DIR`, or start one with `cofferdam add FILE`",
    )
}
