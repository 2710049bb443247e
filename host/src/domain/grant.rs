//! What one call may do, and how much it may use.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::domain::{Effect, Method, StateQuota, StateScope, WebPattern};

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

/// Requests that the guest may send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpGrant {
    pub to: WebPattern,
    pub methods: BTreeSet<Method>,
    /// Addresses that the rule names though they are not public: `10.1.0.0/16`. Names may then resolve to them.
    pub addresses: Vec<IpNet>,
    /// Whether the server takes a request of a key that it has seen as done: writes to it may be repeated.
    pub is_keyed: bool,
    /// The rule that gave it, for whoever asks why.
    pub rule: String,
}

/// A secret that the host puts into requests for the guest. Its value is not here: only the sandbox holds it, and only
/// while it sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretGrant {
    pub name: String,
    /// Its audience: the only requests that it goes into.
    pub to: Vec<WebPattern>,
    /// The header that carries it, in lower case; without one it goes where the guest puts its placeholder.
    pub header: Option<String>,
    /// The header's text, in which `{secret}` stands for the value.
    pub value: String,
    /// The variable in which the guest finds the placeholder, or the value itself where `reveal` is set.
    pub env: Option<String>,
    /// Whether the guest is given the value.
    pub reveal: bool,
    pub rule: String,
}

/// What one call may do: manifest ∩ policy ∩ run. What is not here is not linked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub mounts: Vec<Mount>,
    pub http: Vec<HttpGrant>,
    pub secrets: Vec<SecretGrant>,
    /// Variables that the guest finds in its environment.
    pub env: BTreeMap<String, String>,
    /// What the tool may keep between calls, for whom.
    pub state: BTreeMap<StateScope, StateQuota>,
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
        // Variables are the operator's, not arguments: two calls with the same arguments may differ by them.
        let is_reading = !self.mounts.is_empty()
            || !self.http.is_empty()
            || !self.env.is_empty()
            || !self.secrets.is_empty()
            || self.clock
            || self.random;
        let looks = if is_reading { Effect::Read } else { Effect::Pure };
        self.writes().max().unwrap_or(looks)
    }

    /// The effect of each thing that may be changed. State is the host's own, which writes a value under its key: done
    /// again, it is the same value under the same key.
    fn writes(&self) -> impl Iterator<Item = Effect> {
        let is_writing = |mount: &&Mount| mount.access == Access::ReadWrite;
        let files = self.mounts.iter().filter(is_writing).map(|_| Effect::Once);
        let is_sending = |http: &&HttpGrant| http.methods.iter().any(|method| !method.is_read());
        let sent = |http: &HttpGrant| if http.is_keyed { Effect::Idempotent } else { Effect::Once };
        let state = self.state.keys().map(|_| Effect::Idempotent);
        files.chain(self.http.iter().filter(is_sending).map(sent)).chain(state)
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
    /// Files, directories and listings held open at one time: each is a descriptor of the process, which often has 1,024.
    files_open_max: u64 = 64;
    /// Bytes of log and printed text kept; more is dropped and marked.
    log_bytes_max: u64 = 64 << 10;
    /// Lines of log and printed text kept.
    log_lines_max: u64 = 256;
    /// Bytes of one line of log or printed text; the rest of it is dropped: a line is for a person.
    log_line_bytes_max: u64 = 2 << 10;
    /// Progress reports passed on; more are dropped.
    progress_reports_max: u64 = 1_000;
    /// Progress reports passed on in one second; more are dropped: an eye sees no more.
    progress_per_second_max: u64 = 20;
    /// Requests sent, redirects included: a tool that needs more is a crawler.
    requests_max: u64 = 64;
    /// Requests under way at one time: what a browser opens to one host.
    requests_parallel_max: u64 = 8;
    /// Redirects followed for one request: two are common (to https, to the canonical name).
    redirects_max: u64 = 3;
    /// Bytes of all requests together, heads included: what a tool may carry out.
    egress_bytes_max: u64 = 1 << 20;
    /// Bytes of one response's body, after it is inflated: larger things are files.
    response_bytes_max: u64 = 8 << 20;
    /// Bytes of the head of one request or response: servers commonly take 8 KiB, some 64.
    header_bytes_max: u64 = 64 << 10;
    /// Bytes that are kept of what reads bring, to answer them when the call is run again, and as many of what writes bring;
    /// of larger answers to reads a digest is kept. A page or a list of a server is far smaller.
    record_bytes_max: u64 = 1 << 20;
    /// Changes of state: each is on disk before the guest goes on, so that a flood of them is felt by all.
    state_writes_max: u64 = 1_000;
    /// Bytes of all files that the call makes or changes, together.
    file_bytes_max: u64 = 64 << 20;
    /// Files and directories that the call makes or changes.
    file_entries_max: u64 = 1_000;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effect_is_the_worst_of_what_is_granted() {
        let mut grant = Grant {
            mounts: vec![],
            http: vec![],
            secrets: vec![],
            env: BTreeMap::new(),
            state: BTreeMap::new(),
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
        grant.mounts.clear();
        let sent = |method, is_keyed| HttpGrant {
            to: "https://api.example.com/*".parse().unwrap(),
            methods: BTreeSet::from([method]),
            addresses: vec![],
            is_keyed,
            rule: "web".into(),
        };
        for (method, is_keyed, effect) in [
            (Method::Get, false, Effect::Read),
            (Method::Get, true, Effect::Read),
            (Method::Post, true, Effect::Idempotent),
            (Method::Post, false, Effect::Once),
        ] {
            grant.http = vec![sent(method, is_keyed)];
            assert_eq!(grant.effect(), effect);
        }
        grant.http = vec![sent(Method::Post, true), sent(Method::Post, false)];
        assert_eq!(grant.effect(), Effect::Once, "one that is not keyed is enough");
        grant.http.clear();
        let quota = StateQuota { keys_max: 1, bytes_max: 1, value_bytes_max: 1 };
        grant.state = BTreeMap::from([(StateScope::User, quota)]);
        assert_eq!(grant.effect(), Effect::Idempotent);
        grant.http = vec![sent(Method::Post, false)];
        assert_eq!(grant.effect(), Effect::Once);
    }

    #[test]
    fn a_patch_changes_only_what_it_names() {
        let mut limits = Limits::default();
        LimitsPatch { fuel: Some(7), ..LimitsPatch::default() }.apply(&mut limits);
        assert_eq!(limits, Limits { fuel: 7, ..Limits::default() });
    }
}
