//! The compiling child: takes everything from itself that compiling does not need, then reads a component and compiles it.
//!
//! Promises: before the first byte of the component is read, memory, processor time, files, descriptors, core dumps,
//! network and privileges are bounded; whatever then happens ends this process and no other. What the kernel refuses of
//! the last rows (namespaces, Landlock) is gone without: those keep a compiler that was taken over from reaching out, and
//! are no part of the bounds that end a bomb.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use wasmtime::OutOfMemory;

use crate::domain::Digest;
use crate::sandbox::engine::{compiling, identity, unpooled};

use super::frame::{Answer, request};

/// The argument by which a program knows that it is the child. Nobody types it.
pub(super) const ARGUMENT: &str = "cofferdam:compile";

/// Descriptors of the child: its three pipes, and room for the few that a library opens for a moment.
const DESCRIPTORS_MAX: u64 = 16;

/// Threads of the compiler: more would each reserve address space that functions need.
const THREADS_MAX: usize = 4;

/// Stack of each of them, in bytes: the compiler recurses over blocks in blocks.
const THREAD_STACK_BYTES: usize = 8 << 20;

/// The kernel's highest score: what it kills first.
#[cfg(target_os = "linux")]
const OOM_SCORE: &str = "1000";

/// Where the kernel tells no descriptors, this many are closed.
#[cfg(target_os = "linux")]
const BLIND_DESCRIPTORS: i32 = 1_024;

static IS_READY: AtomicBool = AtomicBool::new(false);

/// Lets this program be its own helper: call it first in `main`.
///
/// Returns at once, except in the process that a host started to compile a component: there it compiles, and never
/// returns.
///
/// ```
/// // The first line of `main`, before a runtime or a thread is started.
/// cofferdam::helper_main();
/// ```
pub fn helper_main() {
    IS_READY.store(true, Ordering::Relaxed);
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_none_or(|first| first != ARGUMENT) {
        return;
    }
    let mut bound = || arguments.next()?.to_str()?.parse().ok();
    let answer = match (bound(), bound()) {
        (Some(memory_bytes_max), Some(cpu_s_max)) => answer(memory_bytes_max, cpu_s_max),
        _ => Answer::Unbounded("it was started without its bounds".into()),
    };
    let written = answer.write(&mut io::stdout().lock());
    std::process::exit(i32::from(written.is_err()));
}

/// Whether [`helper_main`] was called in this process.
pub(super) fn is_ready() -> bool {
    IS_READY.load(Ordering::Relaxed)
}

fn answer(memory_bytes_max: u64, cpu_s_max: u64) -> Answer {
    if let Err(error) = confine(memory_bytes_max, cpu_s_max) {
        return Answer::Unbounded(error.to_string());
    }
    match request(&mut io::stdin().lock()) {
        Ok((wanted, component)) => guarded(wanted, &component),
        Err(error) => Answer::Unbounded(format!("the component did not arrive: {error}")),
    }
}

/// Bounds this process, strictest last: what comes later needs what comes before.
fn confine(memory_bytes_max: u64, cpu_s_max: u64) -> io::Result<()> {
    // First, as it opens a file.
    volunteer();
    limit(Resource::Core, 0, 0)?;
    limit(Resource::Fsize, 0, 0)?;
    limit(Resource::As, memory_bytes_max, memory_bytes_max)?;
    // The first ends it with a signal that tells why; the second is for a compiler that was taught to ignore that.
    limit(Resource::Cpu, cpu_s_max, cpu_s_max.saturating_add(1))?;
    close_inherited();
    limit(Resource::Nofile, DESCRIPTORS_MAX, DESCRIPTORS_MAX)?;
    withdraw()?;
    // After all that changes credentials, as the kernel may forget it then.
    die_with_host()
}

/// Sets a limit, or leaves a lower one that is there.
fn limit(resource: Resource, current: u64, maximum: u64) -> io::Result<()> {
    let there = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let limit = Rlimit { current: Some(current.min(there)), maximum: Some(maximum.min(there)) };
    Ok(setrlimit(resource, limit)?)
}

/// Asks the kernel to kill this process before any other where memory runs out: the host and its neighbours are dearer.
/// Where it refuses, the machine's own choice stands.
#[cfg(target_os = "linux")]
fn volunteer() {
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
}

#[cfg(target_os = "linux")]
fn die_with_host() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?)
}

/// Closes all but the three pipes: a host may have left others open for its children.
#[cfg(target_os = "linux")]
fn close_inherited() {
    let listed = std::fs::read_dir("/proc/self/fd").map(|entries| {
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect::<Vec<i32>>()
    });
    let open = listed.unwrap_or_else(|_| (0..BLIND_DESCRIPTORS).collect());
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        // The one that listed them is gone already.
        let _ = nix::unistd::close(descriptor);
    }
}

/// Gives up privileges, network and files. The first is certain; the others are had where the kernel grants them.
#[cfg(target_os = "linux")]
fn withdraw() -> io::Result<()> {
    use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, Scope};
    use nix::sched::{CloneFlags, unshare};
    nix::sys::prctl::set_no_new_privs()?;
    let namespaces = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC;
    let _ = unshare(namespaces);
    // No rule follows, so nothing is allowed that this names.
    let nothing = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V5))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(ABI::V5)))
        // No signal to a process of this user, no socket of another by an abstract name.
        .and_then(|ruleset| ruleset.scope(Scope::from_all(ABI::V6)))
        .and_then(Ruleset::create);
    let _ = nothing.and_then(landlock::RulesetCreated::restrict_self);
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn volunteer() {}

#[cfg(not(target_os = "linux"))]
fn die_with_host() -> io::Result<()> {
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn close_inherited() {}

#[cfg(not(target_os = "linux"))]
fn withdraw() -> io::Result<()> {
    Ok(())
}

/// Compiles. A panic of the compiler refuses the component; an abort is for the host to see.
fn guarded(wanted: Digest, component: &[u8]) -> Answer {
    let compiled = catch_unwind(AssertUnwindSafe(|| compile(wanted, component)));
    compiled.unwrap_or_else(|_| Answer::Invalid("the compiler gave up on it".into()))
}

fn compile(wanted: Digest, component: &[u8]) -> Answer {
    match unpooled() {
        Ok(engine) if identity(&engine) != wanted => return Answer::OtherEngine,
        Ok(_) => {}
        Err(failure) => return Answer::Unbounded(failure.to_string()),
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).stack_size(THREAD_STACK_BYTES).build();
    // Nothing that the component did: the machine may have no more threads to give.
    let (pool, engine) = match (pool, compiling()) {
        (Ok(pool), Ok(engine)) => (pool, engine),
        (Err(error), _) => return Answer::Unbounded(format!("its threads do not start: {error}")),
        (_, Err(failure)) => return Answer::Unbounded(failure.to_string()),
    };
    match pool.install(|| engine.precompile_component(component)) {
        Ok(code) => Answer::Artefact(code),
        Err(error) if is_memory(&error) => Answer::Memory,
        Err(error) => Answer::Invalid(error.root_cause().to_string()),
    }
}

fn is_memory(error: &wasmtime::Error) -> bool {
    let is_out = |cause: &(dyn std::error::Error + 'static)| {
        let io = cause.downcast_ref::<io::Error>();
        cause.is::<OutOfMemory>() || io.is_some_and(|e| e.kind() == io::ErrorKind::OutOfMemory)
    };
    error.chain().any(is_out)
}
