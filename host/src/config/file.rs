//! The form of `cofferdam.toml`: what may stand in it, and what is said of a mistake.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde::de::{Error as _, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use crate::domain::{Budget, Digest, Failure, Kind, Principal, ToolName, is_secret_name};
use crate::planner::PackOptions;
use crate::planner::route::Thresholds;
use crate::sandbox::{self, NetworkOptions};

use super::models::{ModelPart, ModelsPart, TierPart};
use super::{Notify, SecretSource, Settings, ToolSource};

/// Bytes of a settings file: a thousand tools fit, a data file given by mistake does not.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The file, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// Only read: its presence and value are the check.
    #[serde(rename = "version")]
    _version: Version,
    policy: Option<PathBuf>,
    state: Option<PathBuf>,
    #[serde(default)]
    tools: BTreeMap<ComponentName, Source>,
    #[serde(default)]
    sandbox: SandboxPart,
    #[serde(default)]
    network: NetworkPart,
    #[serde(default)]
    budget: Budget,
    model: Option<Spanned<ModelPart>>,
    #[serde(default)]
    models: BTreeMap<Spanned<String>, Spanned<ModelPart>>,
    #[serde(default)]
    tiers: Vec<TierPart>,
    routing: Option<Spanned<Thresholds>>,
    #[serde(default)]
    planner: PlannerPart,
    #[serde(default)]
    principal: PrincipalPart,
    /// Read by hand: what serde says of a mistake quotes it, and it may be the secret.
    #[serde(default)]
    secrets: BTreeMap<Spanned<String>, Spanned<toml::Value>>,
    /// Read by hand: an address may hold a secret.
    notify: Option<Spanned<toml::Value>>,
}

/// The one version that there is.
#[derive(Deserialize)]
#[serde(try_from = "u32")]
struct Version;

/// A name that can stand before the dot of a tool's name.
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String")]
struct ComponentName(String);

/// A file's path alone, or a table.
struct Source(ToolSource);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SourcePart {
    file: Option<PathBuf>,
    digest: Option<Digest>,
    #[serde(rename = "crate")]
    krate: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SandboxPart {
    calls_in_flight_max: Option<u32>,
    calls_per_component_max: Option<u32>,
    guests_running_max: Option<usize>,
    memory_bytes_ceiling: Option<usize>,
    cache_dir: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NetworkPart {
    #[serde(default)]
    nameservers: Vec<SocketAddr>,
    ca_file: Option<PathBuf>,
}

/// What planners get to see.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlannerPart {
    tools_max: Option<NonZeroUsize>,
    pack_tokens_max: Option<NonZeroUsize>,
    whole_bytes_max: Option<usize>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PrincipalPart {
    tenant: Option<String>,
    user: Option<String>,
    session: Option<String>,
}

/// The text of a file, and its name: what errors are told with.
pub(super) struct Place<'a> {
    pub text: &'a str,
    pub name: &'a str,
}

impl Place<'_> {
    /// Tells what is wrong at a byte of the text.
    pub(super) fn refuse(&self, at: usize, what: &str) -> Failure {
        refuse(self.text, self.name, Some(at), what)
    }
}

/// Returns the text of the file at `path`.
///
/// # Errors
/// `data.config` where it cannot be read.
pub(super) fn read(path: &Path) -> Result<String, Failure> {
    let cannot = |e: &dyn fmt::Display| Failure::new(Kind::DataConfig, format!("read {}: {e}", path.display()));
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|e| cannot(&e))?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|e| cannot(&e))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(cannot(&format_args!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

impl File {
    /// Reads a file from its text; `place` names it in errors.
    ///
    /// # Errors
    /// `data.config` with line and column.
    pub(super) fn parse(text: &str, place: &str) -> Result<Self, Failure> {
        toml::from_str(text).map_err(|error| refuse(text, place, error.span().map(|span| span.start), error.message()))
    }

    /// Makes settings of it, with paths taken from `root`.
    ///
    /// # Errors
    /// `data.config` for an `api_key` or a secret that is not the place of one.
    pub(super) fn settings(self, text: &str, root: &Path, place: &str) -> Result<Settings, Failure> {
        let models = ModelsPart { short: self.model, models: self.models, tiers: self.tiers, routing: self.routing };
        let model = models.settings(root, &Place { text, name: place })?;
        let secrets = secrets(self.secrets, text, root, place)?;
        let notify = self.notify.map(|part| {
            let at = part.span().start;
            Notify::of_toml(part.get_ref(), root)
                .map_err(|what| refuse(text, place, Some(at), &format!("`[notify]` {what}")))
        });
        let default = Settings::new(root);
        Ok(Settings {
            // A policy that is named and absent is a mistake, which `host` reports; the default one may be absent.
            policy: self.policy.map(|policy| root.join(policy)).or(default.policy),
            state: self.state.map_or(default.state, |state| root.join(state)),
            tools: self.tools.into_iter().map(|(name, source)| (name.0, source.0.within(root))).collect(),
            sandbox: self.sandbox.options(root, self.network.options(root)),
            budget: self.budget,
            pack: self.planner.options(),
            principal: self.principal.principal(),
            model,
            secrets,
            notify: notify.transpose()?,
            ..Settings::new(root)
        })
    }
}

fn secrets(
    parts: BTreeMap<Spanned<String>, Spanned<toml::Value>>,
    text: &str,
    root: &Path,
    place: &str,
) -> Result<BTreeMap<String, SecretSource>, Failure> {
    let read = |(name, value): (Spanned<String>, Spanned<toml::Value>)| {
        if !is_secret_name(name.get_ref()) {
            let what = "a secret's name has lowercase letters, digits, `-` and `_`, first a letter, at most 64 bytes";
            return Err(refuse(text, place, Some(name.span().start), what));
        }
        let source = SecretSource::of_toml(value.get_ref(), root).map_err(|what| {
            refuse(text, place, Some(value.span().start), &format!("a secret {what}"))
                .hint("set a variable to the value and write `\"env:NAME\"`")
        })?;
        Ok((name.into_inner(), source))
    };
    parts.into_iter().map(read).collect()
}

/// Tells what is wrong and where. The line itself is not quoted: a key may stand on it.
fn refuse(text: &str, place: &str, at: Option<usize>, what: &str) -> Failure {
    let position = at.map_or(String::new(), |at| position(text, at));
    Failure::new(Kind::DataConfig, format!("read {place}{position}: {what}"))
}

/// Returns `:line:column` of a byte of `text`, both from 1.
fn position(text: &str, at: usize) -> String {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!(":{line}:{column}")
}

impl TryFrom<u32> for Version {
    type Error = String;

    fn try_from(version: u32) -> Result<Self, String> {
        if version == 0 { Ok(Self) } else { Err(format!("version {version} is unknown: this program knows version 0")) }
    }
}

impl TryFrom<String> for ComponentName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        ToolName::new(&name, "any").map(|_| Self(name))
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SourceVisitor)
    }
}

struct SourceVisitor;

impl<'de> Visitor<'de> for SourceVisitor {
    type Value = Source;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the path of a component, `{ file = .., digest = .. }` or `{ crate = .. }`")
    }

    fn visit_str<E: serde::de::Error>(self, path: &str) -> Result<Source, E> {
        Ok(Source(ToolSource::File { file: path.into(), digest: None }))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Source, A::Error> {
        match SourcePart::deserialize(MapAccessDeserializer::new(map))? {
            SourcePart { file: Some(file), digest, krate: None } => Ok(Source(ToolSource::File { file, digest })),
            SourcePart { file: None, digest: None, krate: Some(krate) } => Ok(Source(ToolSource::Crate { krate })),
            _ => Err(A::Error::custom("a tool has either `file`, with or without `digest`, or `crate` alone")),
        }
    }
}

impl ToolSource {
    fn within(self, root: &Path) -> Self {
        match self {
            Self::File { file, digest } => Self::File { file: root.join(file), digest },
            Self::Crate { krate } => Self::Crate { krate: root.join(krate) },
            Self::Built { file } => Self::Built { file: root.join(file) },
        }
    }
}

impl SandboxPart {
    fn options(self, root: &Path, network: NetworkOptions) -> sandbox::Options {
        let default = sandbox::Options::default();
        sandbox::Options {
            calls_in_flight_max: self.calls_in_flight_max.unwrap_or(default.calls_in_flight_max),
            calls_per_component_max: self.calls_per_component_max.unwrap_or(default.calls_per_component_max),
            guests_running_max: self.guests_running_max.unwrap_or(default.guests_running_max),
            memory_bytes_ceiling: self.memory_bytes_ceiling.unwrap_or(default.memory_bytes_ceiling),
            cache_dir: self.cache_dir.map(|directory| root.join(directory)),
            network,
            ..default
        }
    }
}

impl NetworkPart {
    fn options(self, root: &Path) -> NetworkOptions {
        NetworkOptions { nameservers: self.nameservers, ca_file: self.ca_file.map(|file| root.join(file)) }
    }
}

impl PlannerPart {
    fn options(self) -> PackOptions {
        let default = PackOptions::default();
        PackOptions {
            tools_max: self.tools_max.map_or(default.tools_max, NonZeroUsize::get),
            pack_tokens_max: self.pack_tokens_max.map_or(default.pack_tokens_max, NonZeroUsize::get),
            whole_bytes_max: self.whole_bytes_max.unwrap_or(default.whole_bytes_max),
        }
    }
}

impl PrincipalPart {
    fn principal(self) -> Principal {
        let default = Principal::default();
        Principal {
            tenant: self.tenant.unwrap_or(default.tenant),
            user: self.user.unwrap_or(default.user),
            session: self.session.unwrap_or(default.session),
        }
    }
}
