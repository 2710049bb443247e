//! The operator's file: rules, in the order in which they are written.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::domain::{
    Access, CallTemplate, Digest, Failure, Kind, LimitsPatch, Method, StateScope, ToolName, ToolPattern, WebPattern,
    is_secret_name,
};
use crate::policy::quota::quotas_flaw;
use crate::policy::{LowerRule, StateRule};

/// Rules in one file: more cannot be read by a person.
const RULES_MAX: usize = 1_000;

/// Bytes of a policy file.
const FILE_BYTES_MAX: usize = 1 << 20;

/// Variables of one call, those of secrets too: a program that is set up by its environment has dozens.
pub(super) const VARIABLES_MAX: usize = 100;

/// Bytes of one call's variables, names and values together, with placeholders for secrets: they stand in the guest's memory twice.
pub(super) const VARIABLES_BYTES_MAX: usize = 32 << 10;

/// Headers that say how a request is sent, or that the host sets by itself: a secret in one of them is a mistake.
const HOST_HEADERS: [&str; 13] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "idempotency-key",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// What an operator allows. Nothing is allowed until a rule allows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Version of this format: 0.
    pub version: u32,
    #[serde(default, rename = "rule")]
    pub rules: Vec<Rule>,
    /// Digest of the file's text, for the log.
    #[serde(skip, default = "empty")]
    digest: Option<Digest>,
    /// Line on which each rule begins, from 1.
    #[serde(skip)]
    lines: Vec<usize>,
}

fn empty() -> Option<Digest> {
    None
}

/// One rule. It either allows or denies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub name: String,
    /// Why the operator wants it so: told to whoever asks.
    pub why: String,
    #[serde(default)]
    pub allow: Vec<ToolPattern>,
    #[serde(default)]
    pub deny: Vec<ToolPattern>,
    #[serde(default)]
    pub files: Vec<FileRule>,
    /// Requests that tools may send. Nothing else leaves the host.
    #[serde(default)]
    pub http: Vec<HttpRule>,
    /// Secrets of the settings that the host puts into such requests.
    #[serde(default)]
    pub secrets: Vec<SecretRule>,
    /// Variables that tools find in their environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    #[serde(default)]
    pub capabilities: Vec<Capability>,
    /// What tools may keep between calls, by whose it is: `{ session = {}, user = { bytes_max = 65536 } }`.
    #[serde(default)]
    pub state: BTreeMap<StateScope, StateRule>,
    /// Without it, a call that cannot be taken back needs a person's approval.
    #[serde(default)]
    pub approval: Option<ApprovalRule>,
    /// Whether a step that changes something needs a person where its planner had read what tools brought: those words may
    /// be hostile, and speak through the planner. Without it, it does.
    #[serde(default)]
    pub tainted: Option<TaintRule>,
    /// How long a person has to answer, in milliseconds; then the answer is no.
    #[serde(default)]
    pub approval_expires_ms: Option<u64>,
    /// The call that takes a call of a tool back, by the tool's full name; it goes before what the tool itself names.
    #[serde(default)]
    pub undo: BTreeMap<ToolName, CallTemplate>,
    /// The call that tells what became of a call of a tool, likewise.
    #[serde(default)]
    pub reconcile: BTreeMap<ToolName, CallTemplate>,
    /// Tools that reach less far than what they are given allows.
    #[serde(default)]
    pub lower: Vec<LowerRule>,
    /// What one call costs, in millionths of a US dollar, for budgets.
    #[serde(default)]
    pub price_usd_micros: Option<u64>,
    /// Calls of one tool that may be under way in one run.
    #[serde(default)]
    pub calls_parallel_max: Option<u32>,
    #[serde(default)]
    pub limits: LimitsPatch,
}

/// A directory that the guest sees as `mount`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRule {
    /// The path that the guest sees: absolute, such as `/data`.
    pub mount: String,
    /// The directory on this machine; relative to the policy file.
    pub path: PathBuf,
    pub access: Access,
}

/// Requests to one place: scheme, host, port and path in `url`, with these methods.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpRule {
    /// Such as `https://api.example.com/v1/*`.
    pub url: WebPattern,
    /// Without it only those that read: `GET` and `HEAD`.
    #[serde(default = "reading")]
    pub methods: BTreeSet<Method>,
    /// Ranges that are not public and yet may be reached under this name: `["10.1.0.0/16"]`.
    #[serde(default)]
    pub addresses: Vec<IpNet>,
    /// The servers honour `Idempotency-Key`: a write that was sent twice under one key happens once. The host sets the
    /// header; whether it is honoured only the operator knows.
    #[serde(default)]
    pub keyed: bool,
}

fn reading() -> BTreeSet<Method> {
    BTreeSet::from([Method::Get, Method::Head])
}

/// A secret, and the requests that it goes into.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretRule {
    /// Its name under `[secrets]` of the settings.
    pub name: String,
    /// Its audience.
    #[serde(default)]
    pub to: Vec<WebPattern>,
    /// The header that carries it; without one it goes where the guest puts its placeholder.
    #[serde(default)]
    pub header: Option<String>,
    /// The header's text: `Bearer {secret}`.
    #[serde(default = "bare")]
    pub value: String,
    /// The variable in which the guest finds the placeholder.
    #[serde(default)]
    pub env: Option<String>,
    /// Gives the guest the value itself in `env`. What it does with it then is only bounded by its other grants.
    #[serde(default)]
    pub reveal: bool,
}

fn bare() -> String {
    "{secret}".into()
}

/// A capability other than files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    Log,
    Progress,
    Clock,
    Random,
}

/// Whether a person must approve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalRule {
    /// Always.
    Ask,
    /// Never, even where the call cannot be taken back.
    None,
}

/// Whether a person is asked because of what a planner had read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaintRule {
    Ask,
    Allow,
}

impl Policy {
    /// Reads a policy from TOML text. Relative paths of its rules are taken from `base`.
    ///
    /// # Errors
    /// `data.config` with the place in the file: wrong form, an unknown key, a rule that neither allows nor denies, a
    /// name used twice, a mount that is not an absolute path.
    ///
    /// ```
    /// # use std::path::Path;
    /// use cofferdam::policy::Policy;
    ///
    /// let text = r#"
    /// version = 0
    /// [[rule]]
    /// name = "read-orders"
    /// why = "The report needs them."
    /// allow = ["csv.*"]
    /// files = [{ mount = "/data", path = "data", access = "read" }]
    /// "#;
    /// assert_eq!(Policy::parse(text, Path::new("/srv/shop"))?.rules.len(), 1);
    /// assert!(Policy::parse("version = 0\nallow_all = true", Path::new("/")).is_err());
    /// # Ok::<(), cofferdam::domain::Failure>(())
    /// ```
    pub fn parse(text: &str, base: &Path) -> Result<Self, Failure> {
        if text.len() > FILE_BYTES_MAX {
            return Err(config(format!("read a policy of {} bytes: at most {FILE_BYTES_MAX}", text.len())));
        }
        // The text of toml's error holds line, column and the line itself.
        let mut policy: Self = toml::from_str(text).map_err(|e| config(format!("read the policy: {e}")))?;
        policy.lines = lines(text);
        policy.check()?;
        for file in policy.rules.iter_mut().flat_map(|rule| &mut rule.files) {
            file.path = base.join(&file.path);
        }
        policy.digest = Some(Digest::of(text.as_bytes()));
        Ok(policy)
    }

    /// Returns the digest of the file's text; that of no text for [`Policy::default`], which allows nothing.
    pub fn digest(&self) -> Digest {
        self.digest.unwrap_or_else(|| Digest::of(b""))
    }

    /// Returns the line on which a rule of the file begins, from 1.
    pub fn line(&self, rule: &str) -> Option<usize> {
        let at = self.rules.iter().position(|known| known.name == rule)?;
        self.lines.get(at).copied()
    }

    fn check(&self) -> Result<(), Failure> {
        if self.version != 0 {
            return Err(config(format!("read a policy of version {}: this program knows version 0", self.version)));
        }
        if self.rules.len() > RULES_MAX {
            return Err(config(format!("read {} rules: at most {RULES_MAX}", self.rules.len())));
        }
        for (n, rule) in self.rules.iter().enumerate() {
            rule.check().map_err(|flaw| {
                let line = self.lines.get(n).map_or(String::new(), |line| format!(" (line {line})"));
                config(format!("read rule `{}`{line}: {flaw}", rule.name))
            })?;
            if self.rules[..n].iter().any(|other| other.name == rule.name) {
                return Err(config(format!("read the policy: two rules are named `{}`", rule.name)));
            }
        }
        Ok(())
    }
}

impl Rule {
    fn check(&self) -> Result<(), String> {
        let wrong = |what: &str| Err(what.to_owned());
        if self.name.is_empty() || self.why.trim().is_empty() {
            return wrong("a rule has a name, and tells why it is there");
        }
        if self.allow.is_empty() == self.deny.is_empty() {
            return wrong("it either allows or denies some tools: write `allow = [..]` or `deny = [..]`");
        }
        let gives = !self.files.is_empty()
            || !self.http.is_empty()
            || !self.secrets.is_empty()
            || !self.env.is_empty()
            || !self.capabilities.is_empty()
            || !self.state.is_empty()
            || self.approval.is_some()
            || self.tainted.is_some()
            || self.has_terms();
        if gives && !self.deny.is_empty() {
            return wrong("a rule that denies gives nothing: leave out all but `name`, `why` and `deny`");
        }
        if let Some(file) = self.files.iter().find(|file| !is_mount(&file.mount)) {
            return wrong(&format!(
                "mount `{}` is not like `/data`: absolute, without `.` or `..` or a last `/`",
                file.mount
            ));
        }
        let flaw = self.secrets.iter().find_map(SecretRule::flaw).or_else(|| variables_flaw(&self.env));
        flaw.or_else(|| quotas_flaw(&self.state)).or_else(|| self.terms_flaw()).map_or(Ok(()), Err)
    }
}

impl SecretRule {
    fn flaw(&self) -> Option<String> {
        let name = &self.name;
        if !is_secret_name(name) {
            return Some(
                "a secret's name has lowercase letters, digits, `-` and `_`, first a letter, at most 64 bytes".into(),
            );
        }
        let flaw = |what: &str| Some(format!("secret `{name}`: {what}"));
        if let Some(variable) = self.env.as_ref().filter(|variable| !is_variable(variable)) {
            return flaw(&format!("`{}` cannot name a variable", variable.escape_debug()));
        }
        if self.reveal && self.env.is_none() {
            return flaw("`reveal` gives it in a variable: name one with `env`");
        }
        if self.to.is_empty() && !self.reveal {
            return flaw("it goes nowhere: name its audience with `to`");
        }
        match &self.header {
            None if self.value != bare() => flaw("`value` is the text of a header: name it with `header`"),
            Some(_) if self.to.is_empty() => flaw("`header` is for requests: name their audience with `to`"),
            Some(header) if !is_header(header) => flaw("`header` names none that a request may carry a secret in"),
            Some(_) if self.value.matches("{secret}").count() != 1 || !is_header_text(&self.value) => {
                flaw("`value` is the text of a header, and holds `{secret}` once")
            }
            _ => None,
        }
    }
}

fn is_header(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let lower = name.to_ascii_lowercase();
    (1..=64).contains(&name.len())
        && name.bytes().all(is_token)
        && !HOST_HEADERS.contains(&lower.as_str())
        && !lower.starts_with("proxy-")
}

fn is_header_text(value: &str) -> bool {
    value.bytes().all(|byte| matches!(byte, b' '..=b'~')) && value.trim() == value
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

/// Returns what is wrong with the variables of one call.
pub(super) fn variables_flaw(env: &BTreeMap<String, String>) -> Option<String> {
    if let Some((name, _)) = env.iter().find(|(name, value)| !is_variable(name) || value.contains('\0')) {
        return Some(format!(
            "variable `{}`: a name is not empty and has no `=`, and nothing has a NUL",
            name.escape_debug()
        ));
    }
    let bytes: usize = env.iter().map(|(name, value)| name.len() + value.len()).sum();
    if env.len() > VARIABLES_MAX || bytes > VARIABLES_BYTES_MAX {
        return Some(format!(
            "{} variables of {bytes} bytes: at most {VARIABLES_MAX} of {VARIABLES_BYTES_MAX} bytes together",
            env.len()
        ));
    }
    None
}

/// Where the rules of a policy that was read begin.
fn lines(text: &str) -> Vec<usize> {
    #[derive(Deserialize)]
    struct Places {
        #[serde(default, rename = "rule")]
        rules: Vec<toml::Spanned<serde::de::IgnoredAny>>,
    }
    let places = toml::from_str::<Places>(text).map(|places| places.rules).unwrap_or_default();
    let line = |at: usize| text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
    places.iter().map(|rule| line(rule.span().start)).collect()
}

fn is_mount(mount: &str) -> bool {
    mount.strip_prefix('/').is_some_and(|rest| rest.split('/').all(|part| !matches!(part, "" | "." | "..")))
}

fn config(message: String) -> Failure {
    Failure::new(Kind::DataConfig, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, expected: &str) {
        let failure = Policy::parse(text, Path::new("/")).expect_err("the policy is wrong");
        assert_eq!(failure.kind, Kind::DataConfig);
        assert!(failure.message.contains(expected), "{}", failure.message);
    }

    #[test]
    fn a_wrong_policy_is_refused_with_the_place() {
        refused("version = 0\nversion = 1", "line 2");
        refused("version = 7", "version 7");
        refused("version = 0\n[[rule]]\nname = 'a'\nwhy = 'b'\nallow = ['x.*']\ncapabilites = []", "capabilites");
        refused("version = 0\n[[rule]]\nname = 'a'\nwhy = 'b'", "either allows or denies");
        refused("version = 0\n[[rule]]\nname = 'a'\nwhy = ''\nallow = ['*']", "tells why");
        refused("version = 0\n[[rule]]\nname = 'a'\nwhy = 'b'\nallow = ['X']", "line 5");
        let mounted = |mount| {
            format!(
                "version = 0\n[[rule]]\nname = 'a'\nwhy = 'b'\nallow = ['*']\nfiles = [{{mount='{mount}', path='x', access='read'}}]"
            )
        };
        for mount in ["data", "/", "/a/../b", "/a/", "//a"] {
            refused(&mounted(mount), "mount");
        }
        assert!(Policy::parse(&mounted("/data"), Path::new("/")).is_ok());
    }

    #[test]
    fn a_secret_has_an_audience_a_place_and_a_plain_name() {
        let rule =
            |secret: &str| format!("version = 0\n[[rule]]\nname='a'\nwhy='b'\nallow=['*']\nsecrets=[{{ {secret} }}]");
        let to = "to = ['https://a.example/*']";
        for (secret, expected) in [
            (format!("name = 'A b', {to}"), "name"),
            ("name = 'a'".into(), "audience"),
            ("name = 'a', header = 'authorization', env = 'A', reveal = true".into(), "audience"),
            (format!("name = 'a', {to}, header = 'Host'"), "`header`"),
            (format!("name = 'a', {to}, header = 'Proxy-Authorization'"), "`header`"),
            (format!("name = 'a', {to}, header = 'User-Agent'"), "`header`"),
            (format!("name = 'a', {to}, header = 'accept'"), "`header`"),
            (format!("name = 'a', {to}, header = 'Accept-Encoding'"), "`header`"),
            (format!("name = 'a', {to}, header = 'Idempotency-Key'"), "`header`"),
            (format!("name = 'a', {to}, header = 'a b'"), "`header`"),
            (format!("name = 'a', {to}, header = 'x-key', value = 'Bearer'"), "`{secret}` once"),
            (format!("name = 'a', {to}, header = 'x-key', value = \"{{secret}}\\r\\nhost: b\""), "`{secret}` once"),
            (format!("name = 'a', {to}, value = 'Bearer {{secret}}'"), "name it with `header`"),
            (format!("name = 'a', {to}, env = 'A=B'"), "variable"),
            (format!("name = 'a', {to}, reveal = true"), "`reveal`"),
        ] {
            refused(&rule(&secret), expected);
        }
        for right in [
            format!("name = 'a', {to}"),
            format!("name = 'a', {to}, header = 'Authorization', value = 'Bearer {{secret}}', env = 'TOKEN'"),
            "name = 'a', env = 'TOKEN', reveal = true".into(),
        ] {
            assert!(Policy::parse(&rule(&right), Path::new("/")).is_ok(), "{right}");
        }
    }

    #[test]
    fn variables_have_sane_names_and_a_bound() {
        let rule = |env: &str| format!("version = 0\n[[rule]]\nname='a'\nwhy='b'\nallow=['*']\n[rule.env]\n{env}");
        for env in ["'' = 'x'", "'A=B' = 'x'", "\"A\\u0000\" = 'x'", "A = \"x\\u0000\""] {
            refused(&rule(env), "variable");
        }
        let many: String = (0..=VARIABLES_MAX).map(|n| format!("V{n} = 'x'\n")).collect();
        refused(&rule(&many), "101 variables");
        refused(&rule(&format!("A = '{}'", "x".repeat(VARIABLES_BYTES_MAX))), "bytes together");
        assert!(Policy::parse(&rule("PATH = '/bin'\nEMPTY = ''"), Path::new("/")).is_ok());
    }

    #[test]
    fn a_rule_is_found_by_its_line() {
        let rule =
            |name| format!("# é\n[[rule]]\nname = '{name}'\nwhy = 'b'\nallow = ['*']\n[rule.limits]\nfuel = 3\n");
        let policy = Policy::parse(&format!("version = 0\n\n{}{}", rule("a"), rule("b")), Path::new("/")).unwrap();
        assert_eq!([policy.line("a"), policy.line("b"), policy.line("c")], [Some(4), Some(11), None]);
        let inline = "version = 0\nrule = [\n{name='a', why='b', allow=['*']},\n{name='b', why='b', allow=['*']}]";
        assert_eq!(Policy::parse(inline, Path::new("/")).unwrap().line("b"), Some(4));
    }

    #[test]
    fn a_limit_that_does_not_exist_is_refused() {
        refused("version = 0\n[[rule]]\nname='a'\nwhy='b'\nallow=['*']\n[rule.limits]\nfule = 3", "fule");
    }
}
