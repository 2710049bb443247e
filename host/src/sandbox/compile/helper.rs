//! Starts the child that compiles, tells it the component, waits for its answer, and says of what it died.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::oneshot;

use crate::domain::{Digest, Failure, Kind};

use super::artefact::Artefact;
use super::child::{ARGUMENT, is_ready};
use super::frame::{Answer, Wrong, head};
use super::limits::{Bounds, CompileLimits};
use super::{Refusal, bug};

/// Which program compiles components, in a process of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Helper {
    /// This program itself, whose `main` begins with [`helper_main`](crate::helper_main).
    SelfExec,
    /// A program whose `main` begins so, such as `cofferdam`.
    Path(PathBuf),
}

/// What a program lacks that is to be its own helper.
pub(super) const LINE: &str = "write `cofferdam::helper_main();` as the first line of `main`";

/// Bytes kept of what a child writes to standard error: a panic's message and place.
const SAID_BYTES_MAX: usize = 4 << 10;

/// How long a killed child may take to be gone.
const KILLED_WITHIN: Duration = Duration::from_secs(5);

/// Signals that a program brings upon itself. Any other was sent to it.
const CRASHES: [Signal; 5] = [Signal::SEGV, Signal::ABORT, Signal::ILL, Signal::FPE, Signal::TRAP];

impl Helper {
    /// Whether it knows what it is started for, as far as that can be told beforehand: this program does once it called
    /// [`helper_main`](crate::helper_main).
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Path(_)) || is_ready()
    }

    /// Returns the program to start.
    ///
    /// # Errors
    /// `data.config` where this program is to be started, and would not know what for.
    pub(super) fn program(&self) -> Result<PathBuf, Failure> {
        match self {
            Self::Path(path) => std::path::absolute(path).map_err(|e| not_started(path, &e)),
            Self::SelfExec if self.is_ready() => this_program(),
            Self::SelfExec => {
                Err(Failure::new(Kind::DataConfig, "make this program its own helper: it never called `helper_main`")
                    .hint(format!("{LINE}, or name another program with `Helper::Path`")))
            }
        }
    }
}

/// The file that runs, even where another has taken its name since.
#[cfg(target_os = "linux")]
fn this_program() -> Result<PathBuf, Failure> {
    Ok(PathBuf::from("/proc/self/exe"))
}

#[cfg(not(target_os = "linux"))]
fn this_program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|e| not_started(Path::new("this program"), &e))
}

/// Has `program` compile `component`, called `name`, for the engine `identity`. Dropping the future kills the child.
pub(super) async fn compile(
    program: &Path,
    name: &str,
    identity: Digest,
    component: &[u8],
    limits: &CompileLimits,
) -> Result<Artefact, Refusal> {
    let bounds = limits.bounds(component.len());
    let exchange = Exchange {
        program: program.to_owned(),
        head: head(&identity, component.len()),
        component: component.to_vec(),
        bounds,
    };
    let ended = exchange.on_own_thread().await.map_err(Refusal::passing)?;
    ended.map_err(|end| end.refusal(name, program, &bounds))
}

/// One child's work.
struct Exchange {
    program: PathBuf,
    head: [u8; 40],
    component: Vec<u8>,
    bounds: Bounds,
}

/// How a child ended that brought no code.
#[derive(Debug)]
enum End {
    NotStarted(std::io::Error),
    /// Nothing was there to wait for it with.
    NoRuntime(std::io::Error),
    /// It answered something else, and said this on standard error.
    Answered(Answer, String),
    Wrong(Wrong),
    Wall,
    /// It died, and said this on standard error.
    Died(ExitStatus, String),
}

impl Exchange {
    /// The kernel kills the child when the *thread* that started it ends, so that thread waits for the child and does
    /// nothing else.
    async fn on_own_thread(self) -> Result<Result<Artefact, End>, Failure> {
        let (mut sender, receiver) = oneshot::channel();
        let work = move || {
            // Made here: a runtime that is dropped on the caller's own, as where no thread starts, is a panic.
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(sender.send(Err(End::NoRuntime(error)))),
            };
            let ended = runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = sender.closed() => None,
                    ended = self.run() => Some(ended),
                }
            });
            if let Some(ended) = ended {
                // Whoever waited may be gone.
                drop(sender.send(ended));
            }
        };
        let thread = std::thread::Builder::new().name("cofferdam-compile".into()).spawn(work);
        thread.map_err(|e| bug("start a thread to wait for the compiling child").detail(e))?;
        receiver.await.map_err(|e| bug("wait for the compiling child").detail(e))
    }

    async fn run(self) -> Result<Artefact, End> {
        let mut child = self.command().spawn().map_err(End::NotStarted)?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(End::NotStarted(std::io::ErrorKind::BrokenPipe.into()));
        };
        let talk = self.talk(&mut child, stdin, stdout, stderr);
        match tokio::time::timeout(self.bounds.wall_max, talk).await {
            Ok(ended) => ended,
            Err(_) => {
                // The handle kills it once more when it is dropped.
                let _ = tokio::time::timeout(KILLED_WITHIN, child.kill()).await;
                Err(End::Wall)
            }
        }
    }

    /// The child gets three pipes, its bounds, and nothing else of this process.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(ARGUMENT).arg(self.bounds.memory_bytes_max.to_string()).arg(self.bounds.cpu_s_max.to_string());
        command.env_clear().current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Its own group: what a terminal sends to this program is not meant for the child.
        command.process_group(0).kill_on_drop(true);
        command
    }

    async fn talk(
        &self,
        child: &mut Child,
        stdin: ChildStdin,
        mut stdout: ChildStdout,
        stderr: ChildStderr,
    ) -> Result<Artefact, End> {
        let answer = async {
            let answer = Answer::read(&mut stdout, self.bounds.artefact_bytes_max).await;
            drop(stdout);
            answer
        };
        let ((), answer, said) = tokio::join!(self.tell(stdin), answer, said(stderr));
        match answer {
            Ok(Some(Answer::Artefact(code))) => Ok(Artefact::of_child(code)),
            Ok(Some(other)) => Err(End::Answered(other, said)),
            Ok(None) => Err(child.wait().await.map_or_else(End::NotStarted, |status| End::Died(status, said))),
            Err(wrong) => Err(End::Wrong(wrong)),
        }
    }

    /// Sends the request. A child that does not read it shows that by its end.
    async fn tell(&self, mut stdin: ChildStdin) {
        if stdin.write_all(&self.head).await.is_ok() {
            let _ = stdin.write_all(&self.component).await;
        }
    }
}

/// Reads standard error to its end and keeps its beginning.
async fn said(mut stderr: impl AsyncRead + Unpin) -> String {
    let (mut kept, mut buffer) = (Vec::new(), [0; 1_024]);
    while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
        let room = SAID_BYTES_MAX.saturating_sub(kept.len()).min(read);
        kept.extend_from_slice(buffer.get(..room).unwrap_or_default());
    }
    String::from_utf8_lossy(&kept).into_owned()
}

impl End {
    fn refusal(self, name: &str, program: &Path, bounds: &Bounds) -> Refusal {
        match self {
            Self::NotStarted(error) => Refusal::passing(not_started(program, &error)),
            Self::NoRuntime(error) => Refusal::passing(bug("wait for the compiling child").detail(error)),
            Self::Wall => {
                Refusal::dear(limit(name, &format_args!("it took longer than {} s", bounds.wall_max.as_secs())))
            }
            Self::Answered(answer, said) => answered(answer, &said, name, program, bounds),
            Self::Wrong(Wrong::Long) => {
                let most = bounds.artefact_bytes_max >> 20;
                Refusal::lasting(limit(name, &format_args!("it became more than {most} MiB of code")))
            }
            Self::Wrong(Wrong::Foreign) => Refusal::passing(no_helper(program, "it is no helper")),
            Self::Died(status, said) => died(status, &said, name, program, bounds),
        }
    }
}

/// Tells what is wrong where the child lived to say it.
fn answered(answer: Answer, said: &str, name: &str, program: &Path, bounds: &Bounds) -> Refusal {
    match answer {
        Answer::Memory => Refusal::lasting(memory(name, bounds).detail(said)),
        Answer::Invalid(why) => Refusal::lasting(invalid(name, &why).detail(said)),
        Answer::OtherEngine => Refusal::passing(no_helper(program, "it makes code for another engine")),
        Answer::Unbounded(why) => {
            Refusal::passing(bug(&format!("compile `{name}`: the helper could not begin")).detail(why))
        }
        Answer::Artefact(_) => Refusal::passing(bug(&format!("take the code of `{name}`"))),
    }
}

/// Tells from its end what a child died of that could not say it.
fn died(status: ExitStatus, said: &str, name: &str, program: &Path, bounds: &Bounds) -> Refusal {
    let signal = status.signal();
    let is = |known: Signal| signal == Some(known.as_raw());
    let refusal = if is(Signal::XCPU) {
        Refusal::lasting(limit(name, &format_args!("it took more than {} s of processor time", bounds.cpu_s_max)))
    // Rust's own words where memory runs out: it aborts, and leaves no other trace.
    } else if is(Signal::ABORT) && said.contains("memory allocation of") {
        Refusal::lasting(memory(name, bounds))
    } else if is(Signal::KILL) {
        Refusal::dear(limit(name, &"the compiler was killed, as machines do that run out of memory"))
    } else if CRASHES.into_iter().any(is) {
        let signal = signal.unwrap_or_default();
        Refusal::lasting(invalid(name, &format!("the compiler crashed on it (signal {signal})")))
    } else if let Some(signal) = signal {
        Refusal::passing(bug(&format!("compile `{name}`: something ended the compiler (signal {signal})")))
    } else {
        Refusal::passing(no_helper(program, "it ended without an answer"))
    };
    Refusal { failure: refusal.failure.detail(said), ..refusal }
}

fn limit(name: &str, what: &dyn fmt::Display) -> Failure {
    Failure::new(Kind::LoadLimit, format!("compile `{name}`: {what}"))
        .hint("split the tool, or build it optimised and without what it does not use")
}

fn memory(name: &str, bounds: &Bounds) -> Failure {
    limit(name, &format_args!("it took more than {} MiB of address space", bounds.memory_bytes_max >> 20))
}

fn invalid(name: &str, why: &str) -> Failure {
    Failure::new(Kind::LoadInvalid, format!("compile `{name}`: {why}")).hint("build it with current tools")
}

fn not_started(program: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Kind::DataConfig, "start the helper that compiles components")
        .hint("name a program that is there: `cofferdam`, or one whose `main` begins with `cofferdam::helper_main();`")
        .detail(format!("{}: {error}", program.display()))
}

fn no_helper(program: &Path, what: &str) -> Failure {
    Failure::new(Kind::DataConfig, format!("compile with the helper that was chosen: {what}"))
        .hint(format!("use the `cofferdam` of this version; in a program of your own, {LINE}"))
        .detail(program.display())
}

#[cfg(test)]
mod tests {
    use super::super::Lasts;
    use super::*;

    const BOUNDS: Bounds = Bounds {
        memory_bytes_max: 1 << 30,
        cpu_s_max: 20,
        wall_max: Duration::from_secs(40),
        artefact_bytes_max: 1 << 20,
    };

    /// What is told of a child that ended with the wait status `raw` and said `said`.
    fn told(raw: i32, said: &str) -> (Kind, String, Lasts) {
        let refusal = died(ExitStatus::from_raw(raw), said, "x", Path::new("/p"), &BOUNDS);
        (refusal.failure.kind, refusal.failure.message, refusal.lasts)
    }

    #[test]
    fn the_bound_that_a_child_died_of_is_named() {
        let raw = |signal: Signal| signal.as_raw();
        assert_eq!(
            told(raw(Signal::XCPU), ""),
            (Kind::LoadLimit, "compile `x`: it took more than 20 s of processor time".into(), Lasts::Always)
        );
        assert_eq!(
            told(raw(Signal::ABORT), "memory allocation of 64 bytes failed"),
            (Kind::LoadLimit, "compile `x`: it took more than 1024 MiB of address space".into(), Lasts::Always)
        );
        for (status, said, expected) in [
            (raw(Signal::SEGV), "", (Kind::LoadInvalid, Lasts::Always)),
            (raw(Signal::ABORT), "", (Kind::LoadInvalid, Lasts::Always)),
            (raw(Signal::KILL), "", (Kind::LoadLimit, Lasts::AWhile)),
            (raw(Signal::TERM), "", (Kind::HostBug, Lasts::Not)),
            (raw(Signal::HUP), "", (Kind::HostBug, Lasts::Not)),
            (1 << 8, "usage: p", (Kind::DataConfig, Lasts::Not)),
        ] {
            let (kind, message, lasts) = told(status, said);
            assert_eq!((kind, lasts), expected, "{status}: {message}");
        }
    }

    #[test]
    fn a_program_that_never_said_so_is_not_its_own_helper() {
        // Nothing in this test binary calls `helper_main`.
        let failure = Helper::SelfExec.program().unwrap_err();
        assert_eq!(failure.kind, Kind::DataConfig);
        assert!(failure.hint.as_deref().is_some_and(|hint| hint.contains("cofferdam::helper_main();")), "{failure:?}");
    }

    #[tokio::test]
    async fn what_a_child_says_is_cut() {
        assert_eq!(said(&[b'x'; 9_000][..]).await.len(), SAID_BYTES_MAX);
    }
}
