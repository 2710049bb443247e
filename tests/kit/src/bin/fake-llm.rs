//! Runs a scripted model server beside the real `cofferdam`: prints its base URL, serves until it is told to end
//! (Ctrl-C, or a terminate signal), then tells each departure from the script and exits 1 where there was one.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use cofferdam_kit::fake_llm::{FakeLlm, Script};
use tokio::signal::unix::{SignalKind, signal};

/// A model server that answers from a script.
#[derive(Parser)]
struct Args {
    /// JSON lines: `{"expect": {"/json/pointer": {"contains": "…"}}, "reply": {"json": {…}}}`
    #[arg(long)]
    script: PathBuf,
    /// Port on loopback; 0 is any free one
    #[arg(long, default_value_t = 0)]
    port: u16,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(faults) => {
            for fault in faults {
                eprintln!("fake-llm: {fault}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Vec<String>> {
    let text = std::fs::read_to_string(&args.script).map_err(|e| vec![format!("{}: {e}", args.script.display())])?;
    let script = Script::parse(&text).map_err(|e| vec![e])?;
    let server = FakeLlm::start_on(script, args.port).map_err(|e| vec![e])?;
    println!("{}", server.base_url());
    wait().map_err(|e| vec![format!("wait for a signal: {e}")])?;
    server.finish()
}

fn wait() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            result = tokio::signal::ctrl_c() => result,
            _ = terminate.recv() => Ok(()),
        }
    })
}
