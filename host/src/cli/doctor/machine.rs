//! What the machine has: compilers for tool crates, what its kernel offers, and a place for the state.

use std::fs::{self, File, Metadata, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Resource, geteuid, getrlimit};
use tokio::process::Command;
use tokio::time::timeout;

use super::super::text;
use super::finding::Finding;

/// How long a compiler may take to tell its version: rustup may look for it first.
const ASKED_SECONDS_MAX: Duration = Duration::from_secs(10);

/// The target that tool crates are built for.
const TARGET: &str = "wasm32-wasip2";

/// Open files that a host with all its calls in flight may need: a few for each, and the log's.
const FILES_MIN: u64 = 1_024;

/// Free bytes below which a log soon fails: what a day of runs may write.
const FREE_BYTES_MIN: u64 = 256 << 20;

/// Files that are counted below a directory; there are more only where it is used for something else too.
const FILES_COUNTED_MAX: usize = 100_000;

/// Looks for what builds tool crates. Without it, components that are built already work.
pub(super) async fn toolchain() -> Vec<Finding> {
    let mut found = Vec::new();
    for program in ["rustc", "cargo"] {
        found.push(match asked(program, &["--version"]).await {
            Some(version) => Finding::ok(program, version),
            None => {
                Finding::warn(program, "it does not answer", "tools that are crates need Rust: see https://rustup.rs")
            }
        });
    }
    let library = asked("rustc", &["--print", "target-libdir", "--target", TARGET]).await.map(PathBuf::from);
    let has_target = library.is_some_and(|library| has_standard_library(&library));
    let says = if has_target { "its standard library is there" } else { "its standard library is not there" };
    let hint = "it is installed when a tool crate is first built, or by `rustup target add wasm32-wasip2`";
    found.push(Finding::new(TARGET, says).warn_unless(has_target, hint));
    found
}

fn has_standard_library(library: &Path) -> bool {
    let mut entries = fs::read_dir(library).into_iter().flatten().flatten();
    entries.any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
}

/// Returns the first line that a program answers with.
async fn asked(program: &str, args: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    // A toolchain that the project names and nobody has is not fetched for a look at its version.
    command.env("RUSTUP_AUTO_INSTALL", "0");
    command.args(args).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = timeout(ASKED_SECONDS_MAX, command.output()).await.ok()?.ok()?;
    let answer = String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned();
    (output.status.success() && !answer.is_empty()).then_some(answer)
}

/// Looks at what the kernel offers. The sandbox needs none of it; a second wall around the process would.
pub(super) fn kernel() -> Vec<Finding> {
    let mut found = vec![open_files()];
    let Some(release) = word_in("/proc/sys/kernel/osrelease") else {
        found.push(Finding::warn("kernel", "it is not Linux", "Linux is where everything is tested"));
        return found;
    };
    found.push(Finding::ok("Linux", release));
    let is_allowed = has_user_namespaces();
    let says = if is_allowed { "may be made" } else { "may not be made" };
    let hint = "the sandbox does without; to put the process behind a second wall, start it from a container or machine of its own";
    found.push(Finding::new("user namespaces", says).warn_unless(is_allowed, hint));
    let has_cgroups = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let says = if has_cgroups { "version 2" } else { "version 2 is not there" };
    let hint = "the sandbox does without; the memory of the whole process can then only be bounded from outside";
    found.push(Finding::new("cgroups", says).warn_unless(has_cgroups, hint));
    found
}

fn open_files() -> Finding {
    let limit = getrlimit(Resource::Nofile).current;
    let says = limit.map_or_else(|| "unlimited".into(), text::count);
    let is_enough = limit.is_none_or(|limit| limit >= FILES_MIN);
    Finding::new("open files", says)
        .warn_unless(is_enough, "raise it with `ulimit -n 4096` before many calls run at once")
}

/// Kernels and distributions have three switches; one that is not there forbids nothing.
fn has_user_namespaces() -> bool {
    let is = |path: &str, forbidding: &str| word_in(path).is_some_and(|word| word == forbidding);
    Path::new("/proc/self/ns/user").exists()
        && !is("/proc/sys/user/max_user_namespaces", "0")
        && !is("/proc/sys/kernel/unprivileged_userns_clone", "0")
        && !is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1")
}

fn word_in(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// Looks at the directory of the log, or at the one in which it would be made.
pub(super) fn state(directory: &Path) -> Vec<Finding> {
    if directory.exists() && !directory.is_dir() {
        let says = format!("{} is no directory", directory.display());
        return vec![Finding::fail("directory", says, "choose another one with `state` in cofferdam.toml")];
    }
    let existing = directory.ancestors().find(|ancestor| ancestor.is_dir()).unwrap_or(Path::new("/"));
    vec![kept("directory", directory), writable(existing), free(existing)]
}

/// Where compiled components are kept, and whether they are believed there.
pub(super) fn cache(directory: Option<&Path>) -> Finding {
    const NAME: &str = "cache";
    let Some(directory) = directory else {
        let hint = "set `HOME` or `XDG_CACHE_HOME`, or `cache_dir` under `[sandbox]`";
        return Finding::warn(NAME, "none: each process compiles its components anew", hint);
    };
    let is_ours = |found: &Metadata| found.uid() == geteuid().as_raw() && found.mode() & OTHERS == 0;
    match directory.symlink_metadata() {
        Ok(found) if !(found.is_dir() && is_ours(&found)) => {
            let says = format!("{} is not this user's alone, so that it is not used", directory.display());
            Finding::warn(NAME, says, "take it away, or give it to this user alone: `chmod 700`")
        }
        _ => kept(NAME, directory),
    }
}

/// What a mode gives to others than the owner.
const OTHERS: u32 = 0o077;

/// Tells how much is kept in a directory that is the program's own.
fn kept(name: &str, directory: &Path) -> Finding {
    if !directory.is_dir() {
        return Finding::ok(name, format!("{}, which is made when it is needed", directory.display()));
    }
    let (files, bytes) = size(directory);
    Finding::ok(name, format!("{}, {} in {files} files", directory.display(), text::bytes(bytes)))
}

/// Makes a file, locks it twice, and takes it away: the log needs both that it can be written and that the second lock is
/// refused.
fn writable(directory: &Path) -> Finding {
    const NAME: &str = "locks";
    let hint = "choose a local directory that is yours with `state` in cofferdam.toml";
    let file = match tempfile::NamedTempFile::new_in(directory) {
        Ok(file) => file,
        Err(error) => return Finding::fail(NAME, format!("{} cannot be written: {error}", directory.display()), hint),
    };
    let second = File::open(file.path());
    match (file.as_file().try_lock(), second.as_ref().map(File::try_lock)) {
        (Ok(()), Ok(Err(TryLockError::WouldBlock))) => Finding::ok(NAME, "files can be written and locked"),
        _ => Finding::fail(NAME, "locks of files do not hold there: two processes could own one run", hint),
    }
}

fn free(directory: &Path) -> Finding {
    match rustix::fs::statvfs(directory) {
        Err(error) => Finding::warn("free space", format!("it is not told: {error}"), "look at the file system"),
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let hint = "make room: a log that cannot be written stops every call that changes something";
            Finding::new("free space", text::bytes(free)).warn_unless(free >= FREE_BYTES_MIN, hint)
        }
    }
}

/// Files and bytes below a directory. Links are not followed.
fn size(directory: &Path) -> (usize, u64) {
    let (mut files, mut bytes) = (0, 0);
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                directories.push(entry.path());
            } else {
                (files, bytes) = (files + 1, bytes + metadata.len());
            }
            if files >= FILES_COUNTED_MAX {
                return (files, bytes);
            }
        }
    }
    (files, bytes)
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn a_state_directory_is_writable_locked_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let absent = folder.path().join("a/b");
        for directory in [folder.path(), &absent] {
            let found = state(directory);
            assert!(found.iter().all(|finding| finding.state != State::Fail), "{found:?}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(writable(&absent).state, State::Fail);
        assert!(writable(&absent).hint.is_some());
    }

    #[test]
    fn a_directory_is_measured_without_following_links() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        fs::write(folder.path().join("in/a"), "four").unwrap();
        fs::write(folder.path().join("b"), "x").unwrap();
        std::os::unix::fs::symlink("/", folder.path().join("in/root")).unwrap();
        let (files, bytes) = size(folder.path());
        assert_eq!(files, 3);
        assert!(bytes < 100, "{bytes}");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_gives_no_answer() {
        assert_eq!(asked("/no/such/rustc", &["--version"]).await, None);
        assert_eq!(asked("false", &[]).await, None);
    }
}
