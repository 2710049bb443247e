//! The one thing a fresh machine lacks: the standard library for components.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::environment;

/// The target of every tool.
pub const TARGET: &str = "wasm32-wasip2";

/// How long an installation of the target may take: some 30 MB over a slow line.
pub const TARGET_INSTALL_SECONDS_MAX: u64 = 180;

/// How often a running installation is looked at: short beside any download.
const POLL: Duration = Duration::from_millis(50);

/// Installs the target with rustup unless it is there. `say` hears about it before it starts.
///
/// # Errors
/// When the target is missing and rustup is too, fails, or takes longer than `timeout`; the error tells what to do.
pub fn ensure_target(timeout: Duration, say: &mut dyn FnMut(&str)) -> Result<()> {
    if has_target(&sysroot()?) {
        return Ok(());
    }
    let seconds = timeout.as_secs();
    say(&format!("installing the Rust target {TARGET} with rustup (once, at most {seconds} s)"));
    let mut command = Command::new("rustup");
    command.args(["target", "add", TARGET]).stdin(Stdio::null()).stdout(Stdio::null());
    install(command, timeout).with_context(|| {
        format!(
            "install the Rust target {TARGET}: run `rustup target add {TARGET}` yourself, with a network, and repeat"
        )
    })
}

fn sysroot() -> Result<PathBuf> {
    let output = environment::rustc().args(["--print", "sysroot"]).output().context("run rustc: is Rust installed?")?;
    if !output.status.success() {
        bail!("ask rustc for its sysroot: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

fn has_target(sysroot: &Path) -> bool {
    let library = sysroot.join("lib/rustlib").join(TARGET).join("lib");
    let Ok(entries) = library.read_dir() else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
}

fn install(mut command: Command, timeout: Duration) -> Result<()> {
    let mut child = command.spawn().context("start rustup: is it installed? Rust from a distribution has no rustup")?;
    let deadline = Instant::now() + timeout;
    loop {
        match child.try_wait().context("wait for rustup")? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => bail!("rustup ended with {status}"),
            None if Instant::now() >= deadline => return stop(child, timeout),
            None => sleep(POLL),
        }
    }
}

fn stop(mut child: Child, timeout: Duration) -> Result<()> {
    child.kill().context("stop rustup")?;
    child.wait().context("wait for rustup")?;
    bail!("rustup was not done after {} s", timeout.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stderr(Stdio::null());
        command
    }

    #[test]
    fn a_target_is_there_when_its_std_is() {
        let sysroot = tempfile::tempdir().unwrap();
        let library = sysroot.path().join("lib/rustlib/wasm32-wasip2/lib");
        std::fs::create_dir_all(&library).unwrap();
        assert!(!has_target(sysroot.path()), "an empty folder is no target");
        std::fs::write(library.join("libstd-0123.rlib"), "").unwrap();
        assert!(has_target(sysroot.path()));
    }

    #[test]
    fn an_installation_that_hangs_is_stopped() {
        let started = Instant::now();
        let error = install(shell("exec sleep 60"), Duration::from_millis(100)).unwrap_err();
        assert!(error.to_string().contains("not done"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn an_installation_that_fails_says_so() {
        let error = install(shell("exit 3"), Duration::from_secs(10)).unwrap_err();
        assert!(error.to_string().contains("exit status: 3"), "{error}");
        let error = install(Command::new("/no/such/rustup"), Duration::from_secs(10)).unwrap_err();
        assert!(error.to_string().contains("is it installed"), "{error}");
    }
}
