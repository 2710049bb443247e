//! What the tests of sandbox, policy and hostile guests stand on: components as tools, rules as text, calls that run.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use cofferdam::clock::{Clock, SystemClock};
use cofferdam::domain::{Digest, Failure, Json, Kind, Limits, Outcome, ReadyStep, Recorded, RecordedValue, canonical};
use cofferdam::policy::{Call, Decision, Policy, RunGrant, authorize};
use cofferdam::registry::{Candidate, Options as Reading, Trust, VerifiedComponent, VerifiedTool, verify};
use cofferdam::sandbox::{Begin, CallLink, Helper, HostCall, HostCallEnd, NoLink, Options, Runner, WasmRunner};

/// One runner for all tests: a component is compiled once.
static RUNNER: LazyLock<WasmRunner> = LazyLock::new(new_runner);

static COMPONENTS: LazyLock<Mutex<HashMap<String, Arc<VerifiedComponent>>>> = LazyLock::new(Mutex::default);

pub fn runner() -> &'static WasmRunner {
    &RUNNER
}

/// The program that compiles components for the tests.
pub fn helper() -> Helper {
    Helper::Path(env!("CARGO_BIN_EXE_cofferdam").into())
}

/// Where compiled components are kept between one run of the tests and the next, as long as the build is.
pub fn cache_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("cofferdam")
}

/// The sandbox as it is by default, with what compiles for it.
pub fn options() -> Options {
    Options { helper: Some(helper()), cache_dir: Some(cache_dir()), ..Options::default() }
}

pub fn new_runner() -> WasmRunner {
    WasmRunner::new(&options(), Arc::new(SystemClock::default())).expect("the machine can run guests")
}

/// Returns the tool `component.function` of the example tools and guests.
#[track_caller]
pub fn tool(name: &str) -> VerifiedTool {
    let (component, function) = name.split_once('.').expect("a tool's name has two parts");
    let mut components = COMPONENTS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let verified = components.entry(component.to_owned()).or_insert_with(|| {
        let candidate = Candidate { name: component.to_owned(), path: cofferdam_guests::component(component) };
        verify(candidate, &Trust::default(), &Reading::default()).expect("the component is good")
    });
    function_of(verified, function)
}

/// Returns the function `function` of a component written as text.
#[track_caller]
pub fn tool_of(wat: &str, function: &str) -> VerifiedTool {
    tool_in(assembled(wat), function)
}

/// Returns the function `function` of a component.
#[track_caller]
pub fn tool_in(bytes: Vec<u8>, function: &str) -> VerifiedTool {
    let component = VerifiedComponent::new(bytes, Some("guest"), &Reading::default());
    function_of(&Arc::new(component.expect("the component loads")), function)
}

#[track_caller]
pub fn assembled(wat: &str) -> Vec<u8> {
    wat::parse_str(wat).expect("the text is WebAssembly")
}

#[track_caller]
fn function_of(component: &Arc<VerifiedComponent>, function: &str) -> VerifiedTool {
    let tool = component.tools().find(|tool| tool.name().function() == function);
    tool.unwrap_or_else(|| panic!("no function `{function}` in {component:?}"))
}

/// One rule that allows every tool, without asking a person.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    files: Vec<String>,
    http: Vec<String>,
    capabilities: Vec<&'static str>,
    limits: Vec<(&'static str, u64)>,
    more: Vec<String>,
}

impl Rule {
    pub fn reads(self, mount: &str, dir: &Path) -> Self {
        self.mounts(mount, dir, "read")
    }

    pub fn writes(self, mount: &str, dir: &Path) -> Self {
        self.mounts(mount, dir, "read_write")
    }

    fn mounts(mut self, mount: &str, dir: &Path, access: &str) -> Self {
        self.files.push(format!("{{ mount = '{mount}', path = '{}', access = '{access}' }}", dir.display()));
        self
    }

    /// Allows requests; `more` is what follows `url` in the rule: `methods = ['POST']`.
    pub fn sends(mut self, url: &str, more: &str) -> Self {
        let comma = if more.is_empty() { "" } else { ", " };
        self.http.push(format!("{{ url = '{url}'{comma}{more} }}"));
        self
    }

    pub fn gives(mut self, capability: &'static str) -> Self {
        self.capabilities.push(capability);
        self
    }

    /// Adds a line of TOML, such as `env = { A = 'x' }`.
    pub fn more(mut self, line: impl Into<String>) -> Self {
        self.more.push(line.into());
        self
    }

    pub fn limit(mut self, name: &'static str, value: u64) -> Self {
        self.limits.retain(|(known, _)| *known != name);
        self.limits.push((name, value));
        self
    }

    /// Takes a limit away, as far as a policy can.
    pub fn unlimited(self, name: &'static str) -> Self {
        // TOML's integers are signed.
        self.limit(name, i64::MAX.unsigned_abs())
    }

    /// The memory that a call under this rule may have.
    pub fn memory_bytes_max(&self) -> u64 {
        let set = self.limits.iter().find(|(name, _)| *name == "memory_bytes_max");
        set.map_or(Limits::default().memory_bytes_max, |(_, value)| *value)
    }

    pub fn policy(&self) -> Policy {
        let limits: Vec<_> = self.limits.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        let text = format!(
            "version = 0\n[[rule]]\nname = 'test'\nwhy = 'A test.'\nallow = ['*']\napproval = 'none'\nfiles = [{}]\nhttp = [{}]\ncapabilities = {:?}\n{}\n[rule.limits]\n{}",
            self.files.join(", "),
            self.http.join(", "),
            self.capabilities,
            self.more.join("\n"),
            limits.join("\n"),
        );
        Policy::parse(&text, Path::new("/")).expect("the rule reads")
    }
}

/// A step of `tool` with `args`, as the orchestrator would make it.
pub fn step(tool: &VerifiedTool, args: &Json) -> ReadyStep {
    ReadyStep {
        run: "r-01arz3ndektsv4rrffq69g5fav".parse().expect("it is a run's id"),
        step: "t1.s1".parse().expect("it is a step's id"),
        attempt: 1,
        tool: tool.name().clone(),
        args: args.clone(),
        args_digest: Digest::of_json(args),
        key: Digest::of(canonical(args).as_bytes()),
        timeout_ms: None,
        approval: false,
        is_tainted: false,
    }
}

#[track_caller]
pub fn call(tool: &VerifiedTool, args: &Json, rule: &Rule) -> Call {
    match authorize(&rule.policy(), &RunGrant::default(), &step(tool, args), tool, None) {
        Decision::Allow(call) => *call,
        Decision::Ask { .. } => panic!("the rule asks a person"),
        Decision::Deny(failure) => panic!("the rule denies: {failure}"),
    }
}

/// Runs `name` under `rule`, linked to nobody.
pub async fn run(name: &str, args: Json, rule: &Rule) -> Outcome {
    runner().run(call(&tool(name), &args, rule), Arc::new(NoLink)).await
}

/// The kind of failure, or `None` where the call went well.
pub fn kind(outcome: &Outcome) -> Option<Kind> {
    outcome.result.as_ref().err().map(|failure| failure.kind)
}

/// Waits, in real time.
pub async fn pause(ms: u64) {
    SystemClock::default().sleep(Duration::from_millis(ms)).await;
}

/// A folder with one file, and a place beside it that no guest may see.
pub struct Folders {
    root: tempfile::TempDir,
}

/// What stands in the file outside.
pub const CANARY: &str = "canary-7c1f";

impl Folders {
    pub fn new() -> Self {
        let root = tempfile::tempdir().expect("there is room for a folder");
        std::fs::create_dir(root.path().join("data")).expect("a folder is made");
        std::fs::write(root.path().join("data/note.md"), "hello").expect("a file is written");
        std::fs::write(root.path().join("canary"), CANARY).expect("a file is written");
        Self { root }
    }

    /// The folder above the one that is granted.
    pub fn outer(&self) -> &Path {
        self.root.path()
    }

    pub fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    pub fn text(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.root.path().join(path)).ok()
    }
}

/// A link that writes down what the call told it.
#[derive(Default)]
pub struct Recorder {
    pub notes: Mutex<Vec<String>>,
    /// Refuses every write.
    pub refuses: bool,
    /// Answers every host call with this.
    pub answer: Option<Json>,
    /// Wakes `cancelled`.
    pub cancel: tokio::sync::Notify,
}

impl Recorder {
    pub fn seen(&self) -> Vec<String> {
        self.notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn note(&self, text: String) {
        self.notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(text);
    }
}

#[async_trait]
impl CallLink for Recorder {
    async fn begin(&self, call: &HostCall) -> Result<Begin, Failure> {
        self.note(format!("begin {} {}{}", call.n, call.what, if call.is_write { ", a write" } else { "" }));
        if self.refuses && call.is_write {
            return Err(Failure::new(Kind::HostStorage, "write the log: the disk is full"));
        }
        let recorded = |value| Recorded { value: RecordedValue::Whole { value }, ms: 0 };
        Ok(self.answer.clone().map_or(Begin::Proceed, |value| Begin::Answer(recorded(value))))
    }

    async fn done(&self, call: &HostCall, end: HostCallEnd) -> Result<(), Failure> {
        let value = match end.value {
            RecordedValue::Whole { value } => value.to_string(),
            RecordedValue::Digest { digest, .. } => digest.to_string(),
            RecordedValue::Refused { message, .. } => message.clone(),
        };
        self.note(format!("done {} {value}", call.n));
        Ok(())
    }

    fn progress(&self, fraction: Option<f64>, message: &str) {
        self.note(format!("progress {fraction:?} {message}"));
    }

    async fn cancelled(&self) {
        self.cancel.notified().await;
    }
}
