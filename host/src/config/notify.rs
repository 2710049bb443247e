//! Who is told that a run waits for a person: `[notify]` of the settings.
//!
//! Promises: an address is a secret, as it may hold a token: it has no text, and no failure repeats it.

use std::collections::BTreeSet;
use std::path::Path;

use url::{Host, Url};

use crate::domain::{Failure, Kind, Secret, Suspension};

use super::command;
use super::secret::{SecretSource, surroundings};

/// What a person is told of unless the file says otherwise.
const ON_DEFAULT: [Suspension; 4] =
    [Suspension::Approval, Suspension::Question, Suspension::Reconcile, Suspension::Stuck];

/// How long the program may take, in milliseconds: it hands a line on, and the run waits for it.
const NOTIFY_COMMAND_MS_MAX: u64 = 10_000;

/// Who is told, and of what.
#[derive(Clone, Debug)]
pub struct Notify {
    pub to: NotifyTo,
    pub on: BTreeSet<Suspension>,
}

/// How somebody is told.
#[derive(Clone, Debug)]
pub enum NotifyTo {
    /// A program, which finds the notice on its standard input.
    Command(Vec<String>),
    /// An address that is written in the file.
    Url(Secret),
    /// An address that stands somewhere else.
    UrlAt(SecretSource),
}

impl Notify {
    /// Reads `[notify]`.
    ///
    /// # Errors
    /// Says what is wrong, without what is written.
    pub(super) fn of_toml(value: &toml::Value, root: &Path) -> Result<Self, String> {
        let table = value.as_table().ok_or("is a table")?;
        if table.keys().any(|key| !matches!(key.as_str(), "command" | "url" | "on")) {
            return Err("has `command` or `url`, and `on`, and nothing else".into());
        }
        let to = match (table.get("command"), table.get("url")) {
            (Some(words), None) => NotifyTo::Command(command_words(words)?),
            (None, Some(toml::Value::String(text))) => address(text, root)?,
            (None, Some(_)) => return Err("has a `url` that is no text".into()),
            _ => return Err("has either a `command` or a `url`".into()),
        };
        let on = table.get("on").map_or_else(|| Ok(ON_DEFAULT.into_iter().collect()), reasons)?;
        Ok(Self { to, on })
    }
}

impl NotifyTo {
    /// Gives `notice` to the program. Blocks, at most ten seconds.
    ///
    /// # Errors
    /// `host.storage` where it cannot be told so: with its exit code, and nothing that it printed.
    pub fn tell_command(words: &[String], notice: Vec<u8>) -> Result<(), Failure> {
        command::told(words, &surroundings(), notice, NOTIFY_COMMAND_MS_MAX).map_err(|why| {
            Failure::new(Kind::HostStorage, format!("tell somebody with the command of `[notify]`: {why}"))
                .hint("try the command by hand, with a line of JSON on its standard input")
        })
    }

    /// Returns the address that is told, if it is one; it is fetched here where it stands somewhere else.
    ///
    /// # Errors
    /// `data.config`, without the address.
    pub fn url(&self) -> Result<Option<Url>, Failure> {
        let text = match self {
            Self::Command(_) => return Ok(None),
            Self::Url(text) => text.clone(),
            Self::UrlAt(source) => source.read("the address of `[notify]`")?,
        };
        let wrong = |what| Failure::new(Kind::DataConfig, format!("read the address of `[notify]`: it {what}"));
        parsed(text.expose()).map(Some).map_err(wrong)
    }
}

fn command_words(value: &toml::Value) -> Result<Vec<String>, String> {
    let words = value.as_array().filter(|words| !words.is_empty());
    let words = words.and_then(|words| words.iter().map(|word| word.as_str().map(str::to_owned)).collect());
    words.ok_or_else(|| {
        "has a `command` of text: the program and its arguments, such as `[\"notify-send\", \"x\"]`".into()
    })
}

/// An address, or where it is found.
fn address(text: &str, root: &Path) -> Result<NotifyTo, String> {
    if text.starts_with("env:") || text.starts_with("file:") {
        let source = SecretSource::parse(text, root);
        return source.map(NotifyTo::UrlAt).map_err(|what| format!("has a `url` that {what}"));
    }
    parsed(text).map_err(|what| format!("has a `url` that {what}"))?;
    Secret::new(text).map(NotifyTo::Url).map_err(|failure| format!("has a `url` that it cannot {}", failure.message))
}

/// Without TLS only this machine is told: others on the way would read the token, and could answer in its name.
fn parsed(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "is no address: write `https://…`, `env:NAME` or `file:PATH`")?;
    let is_here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return Err("names no host"),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user name: a token belongs into its path or query");
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_here => Ok(url),
        _ => Err("begins neither with `https://` nor leads, with `http://`, to this machine"),
    }
}

fn reasons(value: &toml::Value) -> Result<BTreeSet<Suspension>, String> {
    let wrong = || "has `on = [..]` of `approval`, `question`, `reconcile` and `stuck`".to_owned();
    let words = value.as_array().ok_or_else(wrong)?;
    let reason = |word: &toml::Value| {
        let reason: Suspension = word.clone().try_into().map_err(|_| wrong())?;
        // Nobody can do anything about time.
        if reason == Suspension::Timer { Err(wrong()) } else { Ok(reason) }
    };
    words.iter().map(reason).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Notify, String> {
        let table: toml::Table = text.parse().unwrap();
        Notify::of_toml(&toml::Value::Table(table), Path::new("/srv"))
    }

    #[test]
    fn a_program_or_an_address_is_told_of_what_the_file_says() {
        let notify = read("command = ['mail', '-s', 'x']\non = ['stuck']").unwrap();
        assert_eq!(notify.on.into_iter().collect::<Vec<_>>(), [Suspension::Stuck]);
        assert!(matches!(notify.to, NotifyTo::Command(words) if words == ["mail", "-s", "x"]));
        let notify = read("url = 'https://hooks.example.com/T0/secret-token'").unwrap();
        assert_eq!(notify.on.len(), 4);
        assert!(!format!("{notify:?}").contains("secret-token"));
        assert_eq!(notify.to.url().unwrap().unwrap().host_str(), Some("hooks.example.com"));
        let found = read("url = 'file:hook'").unwrap();
        assert!(matches!(found.to, NotifyTo::UrlAt(SecretSource::File(path)) if path == Path::new("/srv/hook")));
    }

    #[test]
    fn what_is_wrong_is_told_without_the_address() {
        for wrong in [
            "url = 'http://example.com/secret-token'",
            "url = 'https://ann:secret-token@example.com/'",
            "url = 'ftp://127.0.0.1/secret-token'",
            "url = 'secret-token'",
            "url = 'env:'",
            "url = 7",
            "command = []",
            "command = 'secret-token'",
            "command = [1]",
            "on = ['stuck']",
            "command = ['a']\nurl = 'https://example.com/secret-token'",
            "command = ['a']\non = ['timer']",
            "command = ['a']\non = ['secret-token']",
            "command = ['a']\nsecret-token = 1",
        ] {
            let what = read(wrong).expect_err(wrong);
            assert!(!what.contains("secret-token"), "{what}");
        }
        assert!(read("url = 'http://127.0.0.1:8080/x'").is_ok() && read("url = 'http://[::1]/'").is_ok());
    }
}
