//! What may stand on the command line, and what `--help` says of it.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Parser, Subcommand};

use crate::domain::{Digest, Json, Traceparent, usd_per_million};
use crate::host::{By, Settle, When};

use super::exit;
use super::values::{age, binding, input, set, settle, when, word};

/// Runs tools that nobody has to trust, and lets a planner choose them.
#[derive(Debug, Parser)]
#[command(name = "cofferdam", version, after_help = exit::table(), max_term_width = 110)]
pub struct Args {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

impl Args {
    /// Reads the command line of this process; a mistake in it ends the process with exit code 2.
    pub fn of_process() -> Self {
        Self::parse()
    }

    /// Returns the directory to go to first.
    pub fn directory(&self) -> Option<&Path> {
        self.global.directory.as_deref()
    }
}

#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Global {
    /// Go to DIR first, as `make` and `git` do.
    #[arg(short = 'C', long, global = true, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// The settings file. Default: COFFERDAM_CONFIG, then ./cofferdam.toml, then ~/.config/cofferdam/cofferdam.toml.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Write one JSON document on standard output (`run` and `resume`: one line for each signal, the report last).
    #[arg(long, global = true)]
    pub json: bool,
    /// Say nothing on standard error but failures.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Tell a failure's kind and the operator's detail too.
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Do not build tool crates: take what was built before.
    #[arg(long, global = true)]
    pub no_build: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Reach a goal: of a workflow file, or in words that a model plans for.
    Run(RunArgs),
    /// Find the tool that plain words are about, and what they say of its arguments. No model is asked.
    Suggest(SuggestArgs),
    /// Go on with a run that was left.
    Resume(ResumeArgs),
    /// Call one tool. The result is JSON on standard output.
    Call(CallArgs),
    /// List the tools, and what policy says of each.
    Tools,
    /// Tell what a component is and asks for, without running it.
    Inspect(InspectArgs),
    /// Write a component with its digest into cofferdam.toml.
    Add(AddArgs),
    /// Build tool crates: those named, or all of cofferdam.toml.
    Build(BuildArgs),
    /// Pin what the tools are, beside cofferdam.toml: one that differs is not called.
    Lock(LockArgs),
    /// Tell what differs between two components, field by field.
    Diff(DiffArgs),
    /// Look at a workflow file without running it.
    Plan(PlanArgs),
    /// Tell which models a run asked and why, or would.
    Route(RouteArgs),
    /// Ask the policy.
    Policy(PolicyArgs),
    /// Look at the settings, the tools and the machine, and say what to do.
    Doctor,
    /// List runs, newest first.
    Runs(RunsArgs),
    /// Show a run, or one of its steps.
    Show(ShowArgs),
    /// Reckon from the log what runs add up to: ends, times, failures, tokens, money, and what a successful goal costs.
    Stats(StatsArgs),
    /// Tell why a step came about and what became of it: goal, plan, rule, approval, attempts, output.
    Explain(ExplainStepArgs),
    /// Follow a run that any process drives, event by event.
    Watch(WatchArgs),
    /// List all that waits for a person, with the command that decides it.
    Approvals,
    /// Approve the call that a run waits with.
    Approve(ApproveArgs),
    /// Reject the call that a run waits with.
    Reject(RejectArgs),
    /// Stop a run, whichever process drives it.
    Cancel(CancelArgs),
    /// Check every event of a run's log, or of all.
    Verify(VerifyArgs),
    /// Copy the log to a new directory, while it is in use.
    Backup(BackupArgs),
    /// Remove runs that ended long ago.
    Prune(PruneArgs),
    /// What is kept of a user.
    User(UserArgs),
    /// Play a run back from its records, and tell what is not as it was.
    Replay(ReplayArgs),
}

#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("what").required(true).args(["flow", "goal", "recording"])))]
pub(super) struct RunArgs {
    /// A workflow file: .toml, .yaml or .json.
    pub flow: Option<PathBuf>,
    /// The goal in words; a model plans.
    #[arg(long, value_name = "TEXT")]
    pub goal: Option<String>,
    /// A condition in CEL over `answer` that must hold for the goal to be reached. May be repeated.
    #[arg(long, value_name = "CONDITION", requires = "goal")]
    pub assert: Vec<String>,
    /// The goal matters more than usual: the strongest models plan it.
    #[arg(long, requires = "goal")]
    pub critical: bool,
    /// Money that the run may cost in US dollars, where that is less than the settings allow.
    #[arg(long, value_name = "USD", value_parser = usd_max)]
    pub usd_max: Option<u64>,
    /// What a planner said in an earlier run, or in a file of `replay --export`, takes the place of a planner.
    #[arg(long, value_name = "RUN|FILE")]
    pub recording: Option<String>,
    /// Go on with a recording though a request is not the one that was recorded.
    #[arg(long, conflicts_with_all = ["flow", "goal"])]
    pub lenient: bool,
    /// Set an input of the workflow, or tell the planner of a goal. VALUE is JSON, or else text.
    #[arg(long, value_name = "NAME=VALUE", value_parser = set, conflicts_with = "recording")]
    pub set: Vec<(String, Json)>,
    /// The same with the content of a file.
    #[arg(long, value_name = "NAME=@FILE", value_parser = input, conflicts_with = "recording")]
    pub input: Vec<(String, Json)>,
    /// A name for this request: a repeat under it finds the run of the first.
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// The W3C span for which this is done: the run is part of its trace. Without it TRACEPARENT is read.
    #[arg(long, value_name = "TRACEPARENT")]
    pub traceparent: Option<Traceparent>,
    /// Take no success with caveats: where something was skipped, degraded or cut, end with 9.
    #[arg(long)]
    pub strict: bool,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub approval: ApprovalArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct RouteArgs {
    #[command(subcommand)]
    pub command: RouteCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum RouteCommand {
    /// Tell each request of a run to a model, why it went there, and what it took; or where a goal would be sent.
    Explain(RouteExplainArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct RouteExplainArgs {
    /// A run's id, the beginning of one, or `last`.
    #[arg(required_unless_present = "goal", conflicts_with = "goal")]
    pub run: Option<String>,
    /// A goal in words, of which nothing is sent.
    #[arg(long, value_name = "TEXT")]
    pub goal: Option<String>,
    /// The goal matters more than usual.
    #[arg(long, requires = "goal")]
    pub critical: bool,
    #[command(flatten)]
    pub model: ModelArgs,
}

/// Reads dollars as people write them, in millionths: a dollar has as many as a million tokens at a dollar have prices.
fn usd_max(text: &str) -> Result<u64, String> {
    usd_per_million(text)
}

#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct ModelArgs {
    /// The model that plans: one of the settings, or as its server calls it.
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// The server that answers for the model. The key of another server is not sent to it.
    #[arg(long, value_name = "URL")]
    pub base_url: Option<String>,
    /// What that server speaks: openai-chat, openai-responses, anthropic, gemini or ollama.
    #[arg(long, value_name = "PROTOCOL")]
    pub protocol: Option<String>,
}

#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct ApprovalArgs {
    /// Approve every call that needs it.
    #[arg(long, conflicts_with = "approve")]
    pub yes: bool,
    /// Approve this step of a workflow when it needs it. May be repeated.
    #[arg(long, value_name = "STEP")]
    pub approve: Vec<String>,
    /// Wait this long for `cofferdam approve` from elsewhere, before the run is left suspended.
    #[arg(long, value_name = "SECONDS")]
    pub wait: Option<u32>,
}

#[derive(Debug, clap::Args)]
pub(super) struct SuggestArgs {
    /// What you want, in your words.
    #[arg(required = true, value_name = "WORDS")]
    pub words: Vec<String>,
    /// Fill in the form of this tool: component.function
    #[arg(long, value_name = "TOOL")]
    pub tool: Option<String>,
    /// Give an argument. VALUE is JSON, or else text.
    #[arg(long, value_name = "NAME=VALUE", value_parser = set)]
    pub set: Vec<(String, Json)>,
    /// Write the form as a workflow, which must not be there yet.
    #[arg(long, value_name = "FILE.toml")]
    pub write: Option<PathBuf>,
    /// Run it, once a person has confirmed it at the terminal.
    #[arg(long)]
    pub run: bool,
    /// Confirm it beforehand. Calls that need approval still do.
    #[arg(long, requires = "run")]
    pub yes: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct ResumeArgs {
    /// A run's id, the beginning of one, or `last`.
    pub run: String,
    /// Say what became of a step whose end nobody saw. May be repeated.
    #[arg(long, value_name = "STEP=done:JSON|retry|failed", value_parser = settle)]
    pub settle: Vec<(String, Settle)>,
    /// Answer the planner's question.
    #[arg(long, value_name = "TEXT")]
    pub answer: Option<String>,
    /// Tell what has changed since the run was left: tools, policy, planner. Nothing is done.
    #[arg(long, conflicts_with_all = ["settle", "answer", "accept", "yes", "approve", "wait"])]
    pub dry_run: bool,
    /// Go on though tools that the run may still call have changed.
    #[arg(long)]
    pub accept: bool,
    /// Take no success with caveats: where something was skipped, degraded or cut, end with 9.
    #[arg(long)]
    pub strict: bool,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub approval: ApprovalArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct CallArgs {
    /// component.function
    pub tool: String,
    /// The arguments, an object: as JSON, from a file (@FILE), or from standard input (-).
    #[arg(long, value_name = "JSON|@FILE|-", default_value = "{}")]
    pub args: String,
    /// Approve the call, where policy asks for a person.
    #[arg(long)]
    pub yes: bool,
    /// A name for this request: a repeat under it brings the outcome of the first, and calls nothing.
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Say what became of the call under this key, where its process died in the middle.
    #[arg(long, value_name = "done:JSON|retry|failed", value_parser = word, requires = "key")]
    pub settle: Option<Settle>,
    /// The W3C span for which this is done: the call is part of its trace. Without it TRACEPARENT is read.
    #[arg(long, value_name = "TRACEPARENT")]
    pub traceparent: Option<Traceparent>,
}

#[derive(Debug, clap::Args)]
pub(super) struct StatsArgs {
    /// What rows stand for; without it all goals are one.
    #[arg(long, value_enum, default_value_t)]
    pub by: StatsBy,
    /// Goals created since then: a length of time such as 7d, or a time in UTC such as 2026-01-31.
    #[arg(long, value_name = "WHEN", value_parser = when)]
    pub since: Option<When>,
    /// Goals created before then.
    #[arg(long, value_name = "WHEN", value_parser = when)]
    pub until: Option<When>,
}

/// What rows of `stats` stand for.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
pub(super) enum StatsBy {
    #[default]
    All,
    Planner,
    Model,
    Tier,
    Toolset,
    Tool,
    Kind,
}

impl From<StatsBy> for By {
    fn from(by: StatsBy) -> Self {
        match by {
            StatsBy::All => Self::All,
            StatsBy::Planner => Self::Planner,
            StatsBy::Model => Self::Model,
            StatsBy::Tier => Self::Tier,
            StatsBy::Toolset => Self::Toolset,
            StatsBy::Tool => Self::Tool,
            StatsBy::Kind => Self::Kind,
        }
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct InspectArgs {
    /// A component: a .wasm file.
    pub file: PathBuf,
    /// Show the JSON Schemas of each tool too.
    #[arg(long)]
    pub schemas: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct AddArgs {
    /// A component: a .wasm file. It stays where it is.
    pub file: PathBuf,
    /// The name that its tools go by. Default: what the component calls itself.
    #[arg(long)]
    pub name: Option<String>,
    /// Take the place of an entry of the same name.
    #[arg(long)]
    pub replace: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct BuildArgs {
    /// Folders of tool crates. Default: every `crate` of cofferdam.toml.
    pub crates: Vec<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct LockArgs {
    /// Accept what differs from its pin, and forget pins whose component is gone.
    #[arg(long)]
    pub accept: bool,
    /// Write nothing; end with 4 where something differs, is not pinned, or is gone.
    #[arg(long, conflicts_with = "accept")]
    pub check: bool,
    /// The components to accept. Default: all.
    #[arg(value_name = "COMPONENT", requires = "accept")]
    pub components: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct DiffArgs {
    /// What it was: a .wasm file, or the name of a component or tool of cofferdam.toml.
    pub old: String,
    /// What it is: a .wasm file, or a name as above.
    pub new: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct PlanArgs {
    #[command(subcommand)]
    pub command: PlanCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum PlanCommand {
    /// Check it against tools, policy and budget, as a run does before its first step.
    Check(PlanFileArgs),
    /// Write the graph of its steps: everything that may lead from one to another.
    Graph(PlanGraphArgs),
    /// Write the JSON Schema of workflow files, for editors.
    Schema,
}

#[derive(Debug, clap::Args)]
pub(super) struct PlanFileArgs {
    /// A workflow file: .toml, .yaml or .json.
    pub flow: PathBuf,
    /// Set an input of the workflow. VALUE is JSON, or else text.
    #[arg(long, value_name = "NAME=VALUE", value_parser = set)]
    pub set: Vec<(String, Json)>,
}

#[derive(Debug, clap::Args)]
pub(super) struct PlanGraphArgs {
    #[command(flatten)]
    pub file: PlanFileArgs,
    /// How it is written.
    #[arg(long, value_enum, default_value_t = GraphFormat::Dot)]
    pub format: GraphFormat,
}

/// How a graph is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum GraphFormat {
    /// For Graphviz.
    Dot,
    Json,
    /// For pages in Markdown.
    Mermaid,
}

#[derive(Debug, clap::Args)]
pub(super) struct PolicyArgs {
    #[command(subcommand)]
    pub command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Tell which rule decides about a tool, what a call gets, and the line that would change it.
    Explain(ExplainArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct ExplainArgs {
    /// component.function
    pub tool: String,
    /// What a call might do: `read /data/orders.csv`, `write /out/report.md`, `GET https://api.example.com/v1/orders`.
    pub request: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct RunsArgs {
    /// How many at most.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub max: usize,
}

#[derive(Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// A run's id, the beginning of one, or `last`.
    pub run: String,
    /// Show this step with its arguments, output and log.
    #[arg(long)]
    pub step: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct ExplainStepArgs {
    /// A run's id, the beginning of one, or `last`.
    pub run: String,
    /// The step, by the plan's name (`write`) or in full (`t1.write`).
    pub step: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct WatchArgs {
    /// A run's id, the beginning of one, or `last`.
    pub run: String,
    /// Begin with the event of this number.
    #[arg(long, value_name = "SEQ", default_value_t = 1)]
    pub from: u64,
    /// Go on where the run waits for a person, until it ends.
    #[arg(long)]
    pub follow: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct DecisionArgs {
    /// A run's id, the beginning of one, or `last`.
    pub run: String,
    /// The step, by the plan's name (`write`) or in full (`t1.write`).
    pub step: String,
    /// Only if the call that waits is the one with this binding, of which PREFIX is the beginning.
    #[arg(long, value_name = "PREFIX", value_parser = binding)]
    pub binding: Option<String>,
    /// Who decides. Default: the user at this machine.
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct ApproveArgs {
    #[command(flatten)]
    pub decision: DecisionArgs,
    /// Approve the same tool with these arguments, an object: as JSON, from a file (@FILE), or from standard input (-).
    #[arg(long, value_name = "JSON|@FILE|-")]
    pub args: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct RejectArgs {
    #[command(flatten)]
    pub decision: DecisionArgs,
    /// Why; the planner reads it.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct CancelArgs {
    /// A run's id, the beginning of one, or `last`.
    pub run: String,
    /// Take back what the run did, the last first.
    #[arg(long)]
    pub undo: bool,
    /// Who stops it. Default: the user at this machine.
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
}

#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("which").required(true).args(["run", "all"])))]
pub(super) struct VerifyArgs {
    /// A run's id, the beginning of one, or `last`.
    pub run: Option<String>,
    /// Check all runs and sessions.
    #[arg(long)]
    pub all: bool,
    /// The head of the run, as it was kept elsewhere: the log must have it still.
    #[arg(long, value_name = "HASH", conflicts_with = "all")]
    pub head: Option<Digest>,
}

#[derive(Debug, clap::Args)]
pub(super) struct BackupArgs {
    /// Where the copy goes: a directory that is not there yet.
    #[arg(value_name = "DIR")]
    pub to: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(super) struct PruneArgs {
    /// How long ago they ended: a number and `d`, `h`, `m` or `s`.
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub older: u64,
    /// Say what would go, and remove nothing.
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct UserArgs {
    #[command(subcommand)]
    pub command: UserCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Erase what is kept of a user, for ever. Logs stay, and still verify.
    Erase(EraseArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct EraseArgs {
    /// The user.
    pub user: String,
    /// The user's tenant. Default: that of the settings.
    #[arg(long, value_name = "TENANT")]
    pub tenant: Option<String>,
    /// Do it: nothing brings it back.
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct ReplayArgs {
    /// A run's id, the beginning of one, or `last`.
    pub run: String,
    /// Call this component in place of the one that is there. May be repeated.
    #[arg(long, value_name = "COMPONENT=FILE", value_parser = with)]
    pub with: Vec<(String, PathBuf)>,
    /// Write what its planner said to a file, which must not be there yet; `run --recording` plans with it again.
    #[arg(long, value_name = "FILE", conflicts_with = "with")]
    pub export: Option<PathBuf>,
}

/// Reads `component=file`.
fn with(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((component, file)) if !component.is_empty() && !file.is_empty() => Ok((component.to_owned(), file.into())),
        _ => Err("write COMPONENT=FILE: the name of a component, and a .wasm file".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_commands_agree_with_each_other() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_run_has_a_workflow_or_a_goal_and_never_both() {
        let parses = |args: &[&str]| Args::try_parse_from([&["cofferdam", "run"], args].concat()).is_ok();
        assert!(parses(&["flow.toml", "--set", "a=1"]) && parses(&["--goal", "sum it", "--yes"]));
        assert!(!parses(&[]) && !parses(&["flow.toml", "--goal", "sum it"]));
        assert!(parses(&["--goal", "sum it", "--set", "a=1"]) && parses(&["--recording", "last", "--lenient"]));
        assert!(!parses(&["--recording", "last", "--set", "a=1"]) && !parses(&["flow.toml", "--lenient"]));
        assert!(!parses(&["flow.toml", "--yes", "--approve", "a"]));
    }
}
