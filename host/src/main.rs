//! The program: arguments, then surroundings, then the command, then its exit code.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Duration;

use cofferdam::cli::{self, Args};
use cofferdam::config::Environment;
use cofferdam::host::GUEST_TRACE_TARGET;
use rustix::process::{Resource, Rlimit, setrlimit};
use tracing::{Level, Metadata};
use tracing_subscriber::filter::{EnvFilter, FilterFn};
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

/// How long a thread that reads the terminal or resolves a name may hold up the end.
const SHUTDOWN: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    cofferdam::host::helper_main();
    keep_no_core();
    let args = Args::of_process();
    match start(args) {
        Ok(code) => code,
        Err(error) => cli::refuse(&error),
    }
}

fn start(args: Args) -> anyhow::Result<ExitCode> {
    if let Some(directory) = args.directory() {
        Environment::enter(directory)?;
    }
    let environment = Environment::of_process()?;
    log(environment.log_filter());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(cli::main(args, environment));
    runtime.shutdown_timeout(SHUTDOWN);
    Ok(code)
}

/// A core file would hold the secrets. Best effort: where it cannot be set, the program is no worse than others.
fn keep_no_core() {
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}

/// Writes what happens inside to standard error: warnings, or what `asked` says.
fn log(asked: Option<String>) {
    let filter = EnvFilter::new(asked.unwrap_or_else(|| "warn".into()));
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    tracing_subscriber::registry().with(filter).with(FilterFn::new(is_kept)).with(lines).init();
}

/// Who writes below `warn` what is not for a log: the bindings of WASI all that a guest passes to the host, which may be a
/// secret that a rule reveals to it, and HTTP/2 the headers of requests, keys among them.
const UNHEARD: [&str; 2] = [GUEST_TRACE_TARGET, "h2"];

/// Who is not heard at all: the models' client writes whole events of a model into its warnings.
const SILENT: &str = "genai";

fn is_kept(metadata: &Metadata<'_>) -> bool {
    let is_of = |target: &str| metadata.target().starts_with(target);
    !is_of(SILENT) && (*metadata.level() <= Level::WARN || !UNHEARD.iter().any(|target| is_of(target)))
}
