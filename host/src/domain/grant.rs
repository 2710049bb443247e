//! What one call may do, and how much it may use.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::domain::Effect;

/// Whether files may be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    Read,
    ReadWrite,
}

/// A directory of the machine that the guest sees under another path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// The path that the guest sees, such as `/data`.
    pub guest: String,
    /// The directory on this machine.
    pub host: PathBuf,
    pub access: Access,
}

/// What one call may do: manifest ∩ policy ∩ run. What is not here is not linked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub mounts: Vec<Mount>,
    pub log: bool,
    pub progress: bool,
    /// A live clock; otherwise time stands at 1970-01-01 and only passes with work.
    pub clock: bool,
    /// Live randomness; otherwise it is seeded from component, function and arguments.
    pub random: bool,
    pub limits: Limits,
    /// Names of the rules that gave this, for the person who asks why.
    pub rules: Vec<String>,
}

impl Grant {
    /// Returns the worst that a call under this grant can do. Imports alone prove nothing; what is linked live does.
    pub fn effect(&self) -> Effect {
        match self.mounts.iter().map(|mount| mount.access).max() {
            Some(Access::ReadWrite) => Effect::Once,
            Some(Access::Read) => Effect::Read,
            None if self.clock || self.random => Effect::Read,
            None => Effect::Pure,
        }
    }
}

macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident: $unit:ident = $default:expr;)*) => {
        /// What one call may use. Every limit is independent of the others and always on.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub struct Limits { $($(#[$doc])* pub $name: $unit,)* }

        impl Default for Limits {
            fn default() -> Self { Self { $($name: $default,)* } }
        }

        /// Limits as a rule writes them: what is absent stays as it is.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct LimitsPatch { $(#[serde(default, skip_serializing_if = "Option::is_none")] pub $name: Option<$unit>,)* }

        impl LimitsPatch {
            /// Sets the limits that this patch names.
            pub fn apply(&self, limits: &mut Limits) { $(if let Some(value) = self.$name { limits.$name = value; })* }
        }
    };
}

limits! {
    /// Instructions and bulk bytes: about 10 s of work, so that a lost loop ends even where the clock does not help.
    fuel: u64 = 20_000_000_000;
    /// All memories and tables together, in bytes: enough for a million-row file read in a stream.
    memory_bytes_max: u64 = 64 << 20;
    /// Elements of all tables together: real components use a few thousand.
    table_elements_max: u64 = 100_000;
    /// Wall time of guest and host calls together, in milliseconds, from the moment the call is queued.
    wall_ms_max: u64 = 10_000;
    /// Arguments as JSON, in bytes: what a person or a model writes is far smaller.
    input_bytes_max: u64 = 256 << 10;
    /// Result as JSON, in bytes: larger things belong in files.
    output_bytes_max: u64 = 1 << 20;
    /// Bytes that one host call may bring in: a read or write chunk is smaller.
    host_call_bytes_max: u64 = 4 << 20;
    /// Host calls: a million-row CSV needs many reads.
    host_calls_max: u64 = 1_000_000;
    /// Handles held at one time: files, streams, pollables.
    handles_max: u64 = 1_024;
    /// Bytes of log and printed text kept; more is dropped and marked.
    log_bytes_max: u64 = 64 << 10;
    /// Lines of log and printed text kept.
    log_lines_max: u64 = 256;
    /// Progress reports passed on; more are dropped.
    progress_reports_max: u64 = 1_000;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effect_is_the_worst_of_what_is_granted() {
        let mut grant = Grant {
            mounts: vec![],
            log: true,
            progress: true,
            clock: false,
            random: false,
            limits: Limits::default(),
            rules: vec![],
        };
        assert_eq!(grant.effect(), Effect::Pure);
        grant.clock = true;
        assert_eq!(grant.effect(), Effect::Read);
        for (access, effect) in [(Access::Read, Effect::Read), (Access::ReadWrite, Effect::Once)] {
            grant.mounts = vec![Mount { guest: "/data".into(), host: "/tmp".into(), access }];
            assert_eq!(grant.effect(), effect);
        }
    }

    #[test]
    fn a_patch_changes_only_what_it_names() {
        let mut limits = Limits::default();
        LimitsPatch { fuel: Some(7), ..LimitsPatch::default() }.apply(&mut limits);
        assert_eq!(limits, Limits { fuel: 7, ..Limits::default() });
    }
}
