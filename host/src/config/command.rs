//! Runs a program that the settings name: a password manager for one secret, or one that tells somebody.
//!
//! Promises: no shell, no environment but what is given; what it prints as errors is not read; it is stopped, with all that
//! it started, when its time is over. Blocks: called where blocking is allowed.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use zeroize::Zeroizing;

use super::secret::READ_BYTES_MAX;

/// How long a command that finds a secret may take, in milliseconds: a person may have to unlock the store in a window of
/// its own.
const COMMAND_MS_MAX: u64 = 30_000;

/// How long it may go on once its output has ended, in milliseconds: it has nothing left to tell.
const COMMAND_END_MS_MAX: u64 = 1_000;

/// How often it is looked at meanwhile, in milliseconds.
const LOOK_MS: u64 = 5;

/// Returns what the program prints.
///
/// # Errors
/// Tells why there is nothing, with the exit code, and never what was printed.
pub(super) fn output(words: &[String], surroundings: &[(&str, OsString)]) -> Result<Zeroizing<String>, String> {
    run(words, surroundings, COMMAND_MS_MAX)
}

/// Gives the program `input` on its standard input, and waits until it has ended well. What it prints is not read.
///
/// # Errors
/// Tells why not, with the exit code.
pub(super) fn told(
    words: &[String],
    surroundings: &[(&str, OsString)],
    input: Vec<u8>,
    ms_max: u64,
) -> Result<(), String> {
    let mut child = spawned(words, surroundings, Stdio::piped(), Stdio::null())?;
    if let Some(mut stdin) = child.stdin.take() {
        // In a thread of its own, as a write to one who does not read cannot be given up; it ends with its reader.
        let writing = move || drop(stdin.write_all(&input));
        std::thread::Builder::new().name("cofferdam-tell".into()).spawn(writing).map_err(|e| e.kind().to_string())?;
    }
    judged(ended(&mut child, ms_max).ok_or_else(|| format!("it did not end within {ms_max} ms"))?)
}

fn spawned(words: &[String], surroundings: &[(&str, OsString)], stdin: Stdio, stdout: Stdio) -> Result<Child, String> {
    let (program, arguments) = words.split_first().ok_or("it names no program")?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(surroundings.iter().map(|(name, value)| (name, value)));
    command.stdin(stdin).stdout(stdout).stderr(Stdio::null());
    // A group of its own, so that what it starts ends with it.
    command.process_group(0).spawn().map_err(|e| format!("it does not start ({})", e.kind()))
}

fn run(words: &[String], surroundings: &[(&str, OsString)], ms_max: u64) -> Result<Zeroizing<String>, String> {
    let mut child = spawned(words, surroundings, Stdio::null(), Stdio::piped())?;
    let text = match child.stdout.take() {
        Some(stdout) => text(stdout, ms_max),
        None => Err("it has no output".into()),
    };
    let status = ended(&mut child, if text.is_ok() { COMMAND_END_MS_MAX } else { 0 });
    let text = text?;
    judged(status.ok_or("it goes on after its output has ended")?)?;
    Ok(text)
}

fn judged(status: ExitStatus) -> Result<(), String> {
    match (status.success(), status.code()) {
        (true, _) => Ok(()),
        (false, Some(code)) => Err(format!("it ended with code {code}")),
        (false, None) => Err("it was stopped by a signal".into()),
    }
}

/// Reads in a thread of its own, as a read cannot be given up.
fn text(stdout: ChildStdout, ms_max: u64) -> Result<Zeroizing<String>, String> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let reading = move || {
        let mut text = Zeroizing::new(String::with_capacity(READ_BYTES_MAX));
        let read = stdout.take(READ_BYTES_MAX as u64).read_to_string(&mut text);
        // Nobody waits any more where the time is over.
        drop(sender.send(read.map(|_| text)));
    };
    std::thread::Builder::new().name("cofferdam-secret".into()).spawn(reading).map_err(|e| e.kind().to_string())?;
    match receiver.recv_timeout(Duration::from_millis(ms_max)) {
        Ok(read) => read.map_err(|_| "it prints what is no text".into()),
        Err(_) => Err(format!("it printed nothing whole within {ms_max} ms")),
    }
}

/// Waits for the end for `ms_max` milliseconds, and makes one then.
fn ended(child: &mut Child, ms_max: u64) -> Option<ExitStatus> {
    for _ in 0..ms_max / LOOK_MS {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(LOOK_MS));
    }
    // It was not waited for, so the number is still its own.
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // Where it has ended already there is nothing to stop.
        kill_process_group(group, Signal::KILL).ok();
    }
    drop(child.kill());
    drop(child.wait());
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str) -> Result<String, String> {
        let path = [("PATH", OsString::from("/usr/bin:/bin"))];
        let words = ["sh", "-c", script].map(str::to_owned);
        super::run(&words, &path, 300).map(|text| text.to_string())
    }

    #[test]
    fn what_it_prints_is_the_secret_and_what_it_says_is_not() {
        assert_eq!(run("echo 'ghp 01'; echo oops >&2").as_deref(), Ok("ghp 01\n"));
        assert_eq!(run("echo hunter2; exit 3").as_deref().map_err(String::as_str), Err("it ended with code 3"));
        assert_eq!(
            run("echo hunter2; kill -9 $$").as_deref().map_err(String::as_str),
            Err("it was stopped by a signal")
        );
        assert_eq!(run("printf '\\377'").as_deref().map_err(String::as_str), Err("it prints what is no text"));
    }

    #[test]
    fn it_finds_no_environment_and_no_input() {
        let found = run("env | cut -d= -f1 | grep -v -e '^PWD$' -e '^SHLVL$' -e '^_$' -e '^OLDPWD$'; cat").unwrap();
        assert_eq!(found, "PATH\n");
    }

    #[test]
    fn it_is_stopped_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        let late = format!("(sleep 3; touch {}) & sleep 60", mark.display());
        assert_eq!(run(&late).as_deref().map_err(String::as_str), Err("it printed nothing whole within 300 ms"));
        assert_eq!(
            run("exec >&-; sleep 60").as_deref().map_err(String::as_str),
            Err("it goes on after its output has ended")
        );
        std::thread::sleep(Duration::from_millis(2_500));
        assert!(!mark.exists(), "what it started goes on");
    }

    #[test]
    fn output_without_end_is_cut() {
        let text = run("exec yes").map(|text| text.len());
        // Writing to nobody ends it.
        assert!(matches!(&text, Err(why) if why.contains("signal")) || text == Ok(READ_BYTES_MAX), "{text:?}");
        let none = super::run(&["/no/such/program".to_owned()], &[], 300).expect_err("there is none");
        assert_eq!(none, "it does not start (entity not found)");
    }

    fn told(script: &str, input: &str) -> Result<(), String> {
        let path = [("PATH", OsString::from("/usr/bin:/bin"))];
        super::told(&["sh", "-c", script].map(str::to_owned), &path, input.into(), 300)
    }

    #[test]
    fn it_is_told_on_its_input_and_must_end_well_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("heard");
        assert_eq!(told(&format!("cat > {}", file.display()), "a notice"), Ok(()));
        assert_eq!(std::fs::read_to_string(file).unwrap(), "a notice");
        assert_eq!(told("exit 3", &"x".repeat(1 << 20)), Err("it ended with code 3".into()));
        assert_eq!(told("exec <&-; sleep 60", &"x".repeat(1 << 20)), Err("it did not end within 300 ms".into()));
    }
}
