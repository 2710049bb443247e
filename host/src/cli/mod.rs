//! The command line: arguments in, exit code out.
//!
//! Promises: what a command brings goes to standard output, and everything said about it to standard error; `--json`
//! gives one JSON document; whatever ends a command has a documented exit code ([`exit`]); text that a tool, a planner
//! or a file wrote cannot drive the terminal, and is marked as theirs. Leaves everything that happens to `host`.

mod add;
mod approval;
mod approvals;
mod args;
mod ask;
mod build;
mod call;
mod cancel;
mod change;
mod commands;
mod decide;
mod diff;
mod doctor;
mod drift;
pub mod exit;
mod explain;
mod family;
mod follow;
mod lines;
mod lock;
mod next;
mod output;
mod plan;
mod policy;
mod replay;
mod risk;
mod route;
mod run;
mod runs;
mod screen;
mod stats;
mod stop;
mod story;
mod suggest;
mod text;
mod timeline;
mod tools;
mod upkeep;
mod values;
mod verify;
mod watch;
mod whole;
mod wit;

use std::process::ExitCode;

use crate::config::{Environment, Overrides, Settings};
use crate::domain::{Failure, Kind, Traceparent};
use crate::host::Host;

use args::{Command, ModelArgs};
use build::Crates;
use commands::Commands;
use exit::Code;
use output::Output;

pub use args::Args;

/// Does what the arguments ask, and returns the exit code; a failure was told by then.
pub async fn main(args: Args, environment: Environment) -> ExitCode {
    let session = Session { output: Output::new(&args.global), args: args.global, environment };
    let code = match session.perform(args.command).await {
        Ok(code) => code,
        Err(failure) => session.output.failure(&failure),
    };
    code.into()
}

/// Tells what kept the program from starting, and returns the exit code.
pub fn refuse(error: &anyhow::Error) -> ExitCode {
    let output = Output::new(&args::Global::default());
    let failure = error.downcast_ref::<Failure>().cloned();
    output.failure(&failure.unwrap_or_else(|| Failure::new(Kind::HostBug, format!("start: {error:#}")))).into()
}

/// What every command needs: the global flags, the surroundings, and where to write.
struct Session {
    args: args::Global,
    environment: Environment,
    output: Output,
}

impl Session {
    async fn perform(&self, command: Command) -> Result<Code, Failure> {
        match command {
            Command::Run(args) => run::run(self, args).await,
            Command::Suggest(args) => suggest::command(self, args).await,
            Command::Resume(args) => run::resume(self, args).await,
            Command::Call(args) => call::call(self, args).await,
            Command::Tools => tools::list(self).await,
            Command::Inspect(args) => tools::inspect(self, &args),
            Command::Add(args) => add::add(self, &args),
            Command::Lock(args) => lock::command(self, &args),
            Command::Diff(args) => diff::command(self, &args),
            Command::Plan(args) => plan::command(self, args).await,
            Command::Route(args) => route::command(self, args).await,
            Command::Policy(args) => policy::command(self, &args),
            Command::Doctor => doctor::command(self).await,
            Command::Build(args) => build::command(self, args),
            Command::Runs(args) => runs::list(self, &args).await,
            Command::Show(args) => runs::show(self, &args).await,
            Command::Stats(args) => stats::command(self, &args).await,
            Command::Verify(args) => verify::command(self, &args).await,
            Command::Backup(args) => upkeep::backup(self, &args).await,
            Command::Prune(args) => upkeep::prune(self, &args).await,
            Command::User(args) => upkeep::user(self, &args).await,
            Command::Explain(args) => explain::command(self, &args).await,
            Command::Watch(args) => watch::command(self, &args).await,
            Command::Approvals => approvals::command(self).await,
            Command::Replay(args) => replay::command(self, args).await,
            Command::Approve(args) => decide::approve(self, args).await,
            Command::Reject(args) => decide::reject(self, args).await,
            Command::Cancel(args) => cancel::command(self, args).await,
        }
    }

    /// Reads the settings, in which `model` goes before the file.
    fn settings(&self, model: ModelArgs) -> Result<Settings, Failure> {
        let ModelArgs { model, base_url, protocol } = model;
        let overrides = Overrides { config: self.args.config.clone(), model, base_url, protocol };
        Settings::load(&overrides, &self.environment)
    }

    /// Makes a host that can call tools: its crates are built first, unless `--no-build` says to take what there is.
    fn host(&self, model: ModelArgs) -> Result<Host, Failure> {
        let host = Host::from_settings(self.settings_with_components(model)?)?;
        for failure in host.withheld() {
            let first = failure.message.lines().next().unwrap_or_default();
            self.output.say(&format!("cannot {first} (see `{} lock --check`)", self.program()));
        }
        Ok(host)
    }

    /// Reads the settings and has every crate replaced by its component.
    fn settings_with_components(&self, model: ModelArgs) -> Result<Settings, Failure> {
        let crates = if self.args.no_build { Crates::Built } else { Crates::Build };
        build::with_components(self.settings(model)?, crates, &self.output)
    }

    /// Says which tools are withheld, and each thing that differs from the lock.
    fn tell_withheld(&self, host: &Host) {
        for failure in host.withheld() {
            let hint = failure.hint.map_or(String::new(), |hint| format!("\n  hint: {}", text::hanging(&hint)));
            self.output.say(&format!("cannot {}{hint}", text::hanging(&failure.message)));
        }
    }

    /// Makes a host for commands that only look at runs: neither a crate that is not built yet nor a key that is not there
    /// stands in their way.
    fn host_of_runs(&self) -> Result<Host, Failure> {
        let settings = Settings { model: None, ..self.settings(ModelArgs::default())? };
        let host = Host::from_settings(build::with_components(settings, Crates::BuiltOrAbsent, &self.output)?)?;
        self.tell_withheld(&host);
        Ok(host)
    }

    /// Makes a host that has the log and nothing else: it works where the tools and the model's key are gone.
    fn host_of_log(&self) -> Result<Host, Failure> {
        let settings = self.settings(ModelArgs::default())?;
        Host::from_settings(Settings { model: None, tools: Default::default(), ..settings })
    }

    /// Returns the commands that go on, with the server of `model` or of the environment.
    fn commands(&self, model: &ModelArgs) -> Commands {
        let or = |flag: &Option<String>, variable: &str| flag.clone().or_else(|| self.environment.get(variable));
        Commands {
            program: self.program(),
            base_url: or(&model.base_url, "COFFERDAM_BASE_URL"),
            protocol: or(&model.protocol, "COFFERDAM_PROTOCOL"),
        }
    }

    /// Returns how this program was called, so that a command that is printed works where it is typed.
    fn program(&self) -> String {
        let mut program = String::from("cofferdam");
        for (flag, path) in [("-C", &self.args.directory), ("--config", &self.args.config)] {
            if let Some(path) = path {
                program.push_str(&format!(" {flag} {}", text::shell(&path.display().to_string())));
            }
        }
        program
    }

    /// Returns the span for which something is done: that of a flag, or of the environment. What stands there and is none was
    /// meant for somebody else, and is passed over.
    fn traceparent(&self, flag: Option<Traceparent>) -> Option<Traceparent> {
        let ambient = || {
            let text = self.environment.get("TRACEPARENT")?;
            text.parse().map_err(|what: String| self.output.say(&format!("TRACEPARENT is passed over: {what}"))).ok()
        };
        flag.or_else(ambient)
    }

    /// Returns the name under which a decision from here is kept.
    fn by(&self, named: Option<String>) -> String {
        named.or_else(|| self.environment.user()).unwrap_or_else(|| "local".into())
    }
}
