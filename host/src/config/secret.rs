//! Where a secret is found: a variable, a file, or the command of a password manager. The value itself never stands in a
//! settings file, and no failure repeats what was found or what was written.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::domain::{Failure, Kind, SECRET_BYTES_MAX, Secret};

use super::command;

/// The variable that holds the key of a model that environment or command line chose.
pub(super) const VARIABLE: &str = "COFFERDAM_API_KEY";

/// Where a secret is found: written `env:NAME`, `file:PATH` or, under `[secrets]`, `{ command = ["pass", "show", "x"] }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// In a variable of the environment.
    Env(String),
    /// In a file that holds nothing else.
    File(PathBuf),
    /// On the standard output of a program, which is run without a shell.
    Command(Vec<String>),
}

impl SecretSource {
    /// Reads where a secret is found; a relative path is taken from `root`.
    ///
    /// # Errors
    /// Says what is wrong without the text, for it may be the secret itself.
    pub(super) fn parse(text: &str, root: &Path) -> Result<Self, &'static str> {
        match text.split_once(':') {
            Some(("env", name)) if is_variable(name) => Ok(Self::Env(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(root.join(path))),
            _ => Err("says where it is found: `env:NAME` or `file:PATH`, and is never the value itself"),
        }
    }

    /// Reads where a secret is found from a value of `[secrets]`.
    ///
    /// # Errors
    /// As [`SecretSource::parse`].
    pub(super) fn of_toml(value: &toml::Value, root: &Path) -> Result<Self, &'static str> {
        let table = match value {
            toml::Value::String(text) => return Self::parse(text, root),
            toml::Value::Table(table) => table,
            _ => return Err("is `env:NAME`, `file:PATH` or `{ command = [..] }`"),
        };
        let words = match (table.len(), table.get("command")) {
            (1, Some(toml::Value::Array(words))) if !words.is_empty() => words,
            _ => {
                return Err(
                    "has a `command` alone: the program and its arguments, such as `[\"pass\", \"show\", \"x\"]`",
                );
            }
        };
        let words: Option<Vec<_>> = words.iter().map(|word| word.as_str().map(str::to_owned)).collect();
        words.map(Self::Command).ok_or("has a `command` of text: the program and its arguments")
    }

    /// Fetches the secret; `what` names it in failures.
    ///
    /// # Errors
    /// `data.config` where there is none, or it is none: tells the kind of source, and a command's exit code.
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    pub fn read(&self, what: &str) -> Result<Secret, Failure> {
        let cannot = |place: &str, why: &str| {
            Failure::new(Kind::DataConfig, format!("find {what} {place}: {why}"))
                .hint("correct where cofferdam.toml says that it is found")
        };
        let text = match self {
            Self::Env(name) => std::env::var(name)
                .map(Zeroizing::new)
                .map_err(|_| cannot("in its variable (`env:`)", "the variable is not set, or no text"))?,
            Self::File(path) => from_file(path).map_err(|e| cannot("in its file (`file:`)", &e.kind().to_string()))?,
            Self::Command(words) => {
                command::output(words, &surroundings()).map_err(|why| cannot("with its command", &why))?
            }
        };
        Secret::new(text.trim_end()).map_err(|failure| Failure {
            message: format!("find {what}: {}", failure.message.trim_start_matches("take a secret: ")),
            ..failure
        })
    }
}

/// What a command finds of the environment: where programs and its own files are.
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub(super) fn surroundings() -> Vec<(&'static str, std::ffi::OsString)> {
    ["PATH", "HOME"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))).collect()
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// One byte more than a secret has, and a line end: what is too long is seen to be.
fn from_file(path: &Path) -> std::io::Result<Zeroizing<String>> {
    // As large as it can become: text that moves leaves copies.
    let mut text = Zeroizing::new(String::with_capacity(READ_BYTES_MAX));
    File::open(path)?.take(READ_BYTES_MAX as u64).read_to_string(&mut text)?;
    Ok(text)
}

/// Bytes that are read to find a secret: the longest, and enough to see that there is more.
pub(super) const READ_BYTES_MAX: usize = SECRET_BYTES_MAX + 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Result<SecretSource, &'static str> {
        let table: toml::Table = text.parse().expect("it is TOML");
        SecretSource::of_toml(&table["x"], Path::new("/srv"))
    }

    #[test]
    fn three_places_can_be_written() {
        assert_eq!(table("x = 'env:TOKEN'"), Ok(SecretSource::Env("TOKEN".into())));
        assert_eq!(table("x = 'file:token'"), Ok(SecretSource::File("/srv/token".into())));
        let words = vec!["pass".to_owned(), "show".to_owned()];
        assert_eq!(table("x = { command = ['pass', 'show'] }"), Ok(SecretSource::Command(words)));
        for wrong in ["'sk-1'", "7", "{ command = [] }", "{ command = 'pass' }", "{ command = [1] }", "{}"] {
            let what = table(&format!("x = {wrong}")).expect_err(wrong);
            assert!(!what.contains("sk-1"), "{what}");
        }
        assert!(table("x = { command = ['pass'], shell = true }").is_err());
    }

    #[test]
    fn a_file_is_read_to_its_end_and_no_further_than_a_secret_goes() {
        let folder = tempfile::tempdir().unwrap();
        let source = SecretSource::parse("file:token", folder.path()).unwrap();
        let failure = source.read("secret `github`").expect_err("it is not there");
        assert_eq!(failure.message, "find secret `github` in its file (`file:`): entity not found");
        std::fs::write(folder.path().join("token"), "ghp-0123456789\n").unwrap();
        assert_eq!(source.read("secret `github`").unwrap().expose(), "ghp-0123456789");
        std::fs::write(folder.path().join("token"), "x".repeat(SECRET_BYTES_MAX + 1)).unwrap();
        let failure = source.read("secret `github`").expect_err("it is too long");
        assert!(failure.message.contains("more than") && !failure.message.contains("xx"), "{failure:?}");
    }

    #[test]
    fn a_variable_that_is_not_set_is_told_without_its_name() {
        // Somebody may write the value where its variable's name belongs.
        let source = SecretSource::parse("env:ghp_0123456789", Path::new("/")).unwrap();
        let failure = source.read("secret `github`").expect_err("it is not set");
        assert_eq!(failure.kind, Kind::DataConfig);
        let told = format!("{failure:?}");
        assert!(told.contains("`github`") && told.contains("`env:`") && !told.contains("ghp_"), "{told}");
    }
}
