//! Runs each hostile case in a process of its own, and holds that process to what must be true after every case: it
//! lives, nothing panicked, memory, descriptors and threads are back where they were, and nobody reached the canaries.
//!
//! A module lists its cases with [`cases!`]; a case that is not listed is dead code, which the lints refuse.

#![expect(
    clippy::disallowed_methods,
    reason = "a test is outside of the doors: it measures, and tells its child what to do"
)]

use std::fs::{self, File};
use std::future::Future;
use std::io::{Read, Seek};
use std::net::TcpListener;
use std::pin::Pin;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::guest::{CANARY, Folders, Rule, pause, run};
use crate::hostile::{neighbour, prepared};

/// Told to the process that runs one case.
const ALONE: &str = "COFFERDAM_TEST_ALONE";

/// A variable of the host that no guest may see.
const CANARY_VARIABLE: &str = "COFFERDAM_TEST_CANARY";

/// How long a case may take, with its mutation and on a loaded machine.
const CASE_SECONDS_MAX: u64 = 120;

/// Memory that the host itself may use on top of what the guest was granted.
const SLACK_BYTES: u64 = 16 << 20;

/// Memory that the allocator may keep of what a case got while its limits were taken away.
const UNLIMITED_BYTES: u64 = 256 << 20;

/// The same in a soak, where the neighbour works too, and the allocator keeps what cases without limits got.
const SOAK_SLACK_BYTES: u64 = 128 << 20;

/// Whether this process soaks.
static SOAKS: AtomicBool = AtomicBool::new(false);

/// Says that this process runs all cases.
pub fn soak_begins() {
    SOAKS.store(true, Ordering::SeqCst);
}

fn slack_bytes() -> u64 {
    if SOAKS.load(Ordering::SeqCst) { SOAK_SLACK_BYTES } else { SLACK_BYTES }
}

/// How long descriptors, threads and memory have to come back.
const SETTLE: Duration = Duration::from_secs(15);

/// One case runs at a time: they measure time and memory.
static ONE: Mutex<()> = Mutex::new(());

pub type Running = Pin<Box<dyn Future<Output = ()>>>;

/// A case by name.
#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub body: fn() -> Running,
}

/// Makes a test of each case, and a list of all for the soak.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        $crate::alone::cases![after crate::alone::nothing; $($name,)*];
    };
    // `$shared` makes what the cases of a module share, and stays.
    (after $shared:path; $($name:ident),* $(,)?) => {
        pub mod cases {
            #[allow(unused_imports, reason = "what is shared stands in the module, or elsewhere")]
            use super::*;
            use crate::alone::{Case, test};

            pub const ALL: &[Case] =
                &[$(Case { name: stringify!($name), body: || Box::pin(super::$name()) },)*];

            $(
                #[test]
                fn $name() {
                    let shared = || -> crate::alone::Running { Box::pin($shared()) };
                    test(concat!(module_path!(), "::", stringify!($name)), shared, || Box::pin(super::$name()));
                }
            )*
        }
    };
}
pub(crate) use cases;

/// For cases that share nothing.
pub async fn nothing() {}

/// Runs a case in a process of its own, where it is checked.
#[track_caller]
pub fn test(path: &str, shared: fn() -> Running, body: fn() -> Running) {
    if std::env::var_os(ALONE).is_some() {
        return checked(shared, body);
    }
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let name = path.split_once("::").expect("a test stands in a module of its crate").1;
    let mut said = tempfile::tempfile().expect("there is room for what it says");
    let status = child(name, &said);
    let mut text = String::new();
    said.rewind().and_then(|()| said.read_to_string(&mut text)).expect("what it said reads");
    let is_well = status.is_some_and(|status| status.success()) && text.contains("1 passed");
    assert!(is_well, "{name} ended with {status:?}:\n{text}");
    assert!(!text.contains("panicked at"), "something panicked beside {name}:\n{text}");
    println!("{text}");
}

/// Runs this program for one test; `None` where it had to be killed.
fn child(name: &str, said: &File) -> Option<ExitStatus> {
    let output = || said.try_clone().expect("a descriptor is copied");
    let program = std::env::current_exe().expect("this program has a path");
    let mut child = Command::new(program)
        .args(["--exact", name, "--nocapture", "--include-ignored", "--test-threads=1"])
        .env(ALONE, "1")
        .env(CANARY_VARIABLE, CANARY)
        .stdout(output())
        .stderr(output())
        .spawn()
        .expect("this program starts again");
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(CASE_SECONDS_MAX + seconds_of_soak()) {
        if let Some(status) = child.try_wait().expect("a child is waited for") {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(10));
    }
    child.kill().and_then(|()| child.wait()).expect("a child is killed");
    None
}

/// How long the soak lasts, where one is asked for.
pub fn seconds_of_soak() -> u64 {
    std::env::var("COFFERDAM_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(120)
}

/// Runs a case, and expects that it leaves nothing behind.
fn checked(shared: fn() -> Running, body: fn() -> Running) {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).thread_keep_alive(Duration::from_millis(20)).enable_all().build();
    runtime.expect("a runtime starts").block_on(async {
        Listener::start();
        warm().await;
        shared().await;
        // A case takes limits away too, and the allocator may keep some of what it then got.
        let now = Held::now();
        let before = Held { memory_bytes: now.memory_bytes + UNLIMITED_BYTES, ..now };
        let (is_over, working) = serve_neighbours();
        body().await;
        is_over.store(true, Ordering::SeqCst);
        working.await.expect("a well-behaved neighbour was served throughout");
        assert_eq!(REACHED.load(Ordering::SeqCst), 0, "a guest reached the listener on loopback");
        before.comes_back().await;
    });
}

/// Calls a well-behaved tool again and again, until it is told that the case is over.
fn serve_neighbours() -> (Arc<AtomicBool>, tokio::task::JoinHandle<()>) {
    let is_over = Arc::new(AtomicBool::new(false));
    let seen = is_over.clone();
    let working = tokio::spawn(async move {
        while !seen.load(Ordering::SeqCst) {
            neighbour().await;
            pause(50).await;
        }
    });
    (is_over, working)
}

/// Makes once what stays: the engine, its threads, the neighbour's code.
async fn warm() {
    // Compiling has no deadline of its own, and a loaded machine takes long.
    prepared(&[]).await;
    for _ in 0..3 {
        neighbour().await;
    }
    // Files are read on threads that stay for a while.
    let folders = Folders::new();
    let rule = Rule::default().reads("/data", &folders.data());
    assert!(run("notes.read", json!({"path": "/data/note.md"}), &rule).await.result.is_ok());
}

/// What this process holds.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    memory_bytes: u64,
    descriptors: usize,
    threads: usize,
}

impl Held {
    pub fn now() -> Self {
        let threads = fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
        Self { memory_bytes: memory_bytes(), descriptors: descriptors(), threads }
    }

    /// Waits until no more is held than this.
    pub async fn comes_back(&self) {
        let start = Instant::now();
        loop {
            let now = Self::now();
            if now.is_within(self) {
                return;
            }
            assert!(start.elapsed() < SETTLE, "left behind: {now:?}, and before it was {self:?}");
            pause(20).await;
        }
    }

    fn is_within(&self, before: &Self) -> bool {
        self.memory_bytes <= before.memory_bytes.saturating_add(slack_bytes())
            && self.descriptors <= before.descriptors
            && self.threads <= before.threads
    }
}

/// Open descriptors, but for the images from which memories of compiled components are made: these stay with the code.
fn descriptors() -> usize {
    let open = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let leads_to = |entry: fs::DirEntry| fs::read_link(entry.path()).unwrap_or_default();
    open.map(leads_to).filter(|path| !path.to_string_lossy().starts_with("/memfd:wasm-memory-image")).count()
}

/// Resident memory of this process.
fn memory_bytes() -> u64 {
    let text = fs::read_to_string("/proc/self/status").expect("the kernel tells of a process");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it tells the resident size");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("it is a number");
    kib << 10
}

/// Watches how much memory this process comes to hold.
pub struct Watch {
    before: u64,
    peak: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
}

impl Watch {
    pub fn start() -> Self {
        let (peak, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let watch = Self { before: memory_bytes(), peak: peak.clone(), is_over: is_over.clone() };
        thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                peak.fetch_max(memory_bytes(), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(2));
            }
        });
        watch
    }

    /// Expects that no more than `budget_bytes` were used, beside what the host needs for itself. Only a process alone can
    /// say so.
    #[track_caller]
    pub fn within(self, budget_bytes: u64) {
        let grown = self.peak.load(Ordering::Relaxed).saturating_sub(self.before);
        assert!(grown <= budget_bytes.saturating_add(slack_bytes()), "{grown} bytes more were held, of {budget_bytes}");
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// Connections that came to the listener.
static REACHED: AtomicUsize = AtomicUsize::new(0);

/// Where it listens.
static PORT: AtomicU16 = AtomicU16::new(0);

/// Listens on loopback, where no guest has business.
struct Listener;

impl Listener {
    fn start() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback can be listened on");
        PORT.store(listener.local_addr().expect("it has an address").port(), Ordering::SeqCst);
        thread::spawn(move || {
            for _ in listener.incoming() {
                REACHED.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
}

/// Returns the port of the listener that no guest may reach.
pub fn canary_port() -> u16 {
    PORT.load(Ordering::SeqCst)
}

/// Returns how often it was reached, and begins to count anew: for a case that reaches it on purpose.
pub fn take_reached() -> usize {
    REACHED.swap(0, Ordering::SeqCst)
}
