//! Runs a model server beside the real `cofferdam`, from a script or from recordings: prints its base URL, serves until
//! it is told to end (Ctrl-C, or a terminate signal), then tells each fault and exits 1 where there was one.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use cofferdam_kit::fake_llm::{FakeLlm, Script};
use tokio::signal::unix::{SignalKind, signal};

/// A model server that answers from a script, or from recordings
///
/// It speaks POST /v1/chat/completions, /v1/responses, /v1/messages, /v1beta/models/{model}:generateContent,
/// /v1beta/models/{model}:streamGenerateContent?alt=sse and /api/chat.
#[derive(Parser)]
struct Args {
    /// JSON lines: `{"expect": {"/json/pointer": {"contains": "…"}}, "reply": {"json": {…}}}`
    #[arg(long, value_name = "FILE", required_unless_present = "cassettes")]
    script: Option<PathBuf>,
    /// Recorded answers: YAML of vcrpy (`interactions:`) or of httpmock (`when:` and `then:`)
    #[arg(long, value_name = "DIR", conflicts_with = "script")]
    cassettes: Option<PathBuf>,
    /// Starts again where all that was recorded for a path was answered
    #[arg(long, requires = "cassettes")]
    repeat: bool,
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
    let server = start(args).map_err(|e| vec![e])?;
    println!("{}", server.base_url());
    wait().map_err(|e| vec![format!("wait for a signal: {e}")])?;
    server.finish()
}

fn start(args: &Args) -> Result<FakeLlm, String> {
    if let Some(cassettes) = &args.cassettes {
        return FakeLlm::cassettes_on(cassettes, args.repeat, args.port);
    }
    let script = args.script.as_ref().ok_or("there is no script")?;
    let text = std::fs::read_to_string(script).map_err(|e| format!("{}: {e}", script.display()))?;
    FakeLlm::start_on(Script::parse(&text)?, args.port)
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
