//! The command line, through the real program: what stands on which stream, and with which exit code it ends.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use cofferdam::cli::exit::TABLE;
use cofferdam_kit::fake_llm::FakeLlm;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A directory with settings for the example tools, and nothing of the user's own.
pub struct Shop {
    dir: TempDir,
}

/// What a command brought.
pub struct Brought {
    pub code: i32,
    pub out: String,
    pub err: String,
}

const POLICY: &str = r#"
version = 0

[[rule]]
name = "sums"
why = "They touch nothing."
allow = ["math.*", "text.*"]

[[rule]]
name = "write-notes"
why = "Notes are what the shop keeps."
allow = ["notes.append", "notes.read"]
files = [{ mount = "/notes", path = "notes", access = "read_write" }]
capabilities = ["log"]
"#;

const FLOW: &str = r#"
workflow = "note"
goal = "Write a sum down"
answer = { "$from" = "sum" }

[inputs]
expression = "1 + 1"

[[steps]]
id = "sum"
tool = "math.eval"
args = { expression = { "$input" = "expression" } }

[[steps]]
id = "write"
tool = "notes.append"
needs = ["sum"]
args = { path = "/notes/sums.md", line = "a sum" }
"#;

impl Shop {
    pub fn new() -> Self {
        let shop = Self { dir: TempDir::new().expect("a directory") };
        let entry = |name: &str| format!("{name} = {:?}\n", cofferdam_guests::component(name));
        let tools: String = ["math", "notes", "text"].map(entry).concat();
        shop.write("cofferdam.toml", &format!("version = 0\n[tools]\n{tools}"));
        shop.write("policy.toml", POLICY);
        shop.write("flow.toml", FLOW);
        fs::create_dir(shop.path("notes")).expect("a directory");
        shop
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a file is written");
    }

    fn notes(&self) -> String {
        fs::read_to_string(self.path("notes/sums.md")).unwrap_or_default()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        command.args(args).current_dir(self.dir.path()).env_clear().env("HOME", self.dir.path()).env("USER", "ann");
        // Shared by all commands: components are compiled once, and sealed under one key.
        let shared = Path::new(env!("CARGO_TARGET_TMPDIR")).join("commands");
        command.env("XDG_CACHE_HOME", shared.join("cache")).env("XDG_STATE_HOME", shared.join("state"));
        command.stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &[&str]) -> Brought {
        Brought::of(self.command(args).output().expect("the program starts"))
    }
}

impl Brought {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it writes text");
        Self { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }

    #[track_caller]
    pub fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "out: {}\nerr: {}", self.out, self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}", self.out))
    }
}

#[test]
fn help_tells_every_command_and_every_exit_code() {
    let help = Shop::new().run(&["--help"]).ends(0).out;
    for command in [
        "run",
        "resume",
        "call",
        "tools",
        "inspect",
        "add",
        "build",
        "lock",
        "diff",
        "policy",
        "doctor",
        "runs",
        "show",
        "stats",
        "explain",
        "watch",
        "approvals",
        "approve",
        "reject",
        "cancel",
        "verify",
        "backup",
        "prune",
        "user",
    ] {
        assert!(help.contains(&format!("\n  {command} ")), "{command}: {help}");
    }
    for (code, meaning) in TABLE {
        assert!(help.contains(&format!("{:>2}  {meaning}", code.number())), "{meaning}");
    }
}

#[test]
fn a_call_brings_json_on_standard_output_and_its_usage_on_the_other() {
    let shop = Shop::new();
    let called = shop.run(&["call", "math.eval", "--args", r#"{"expression": "6 * 7"}"#]).ends(0);
    assert_eq!(called.json(), json!("42"));
    assert!(called.err.contains("math.eval (pure)") && called.err.contains("fuel"), "{}", called.err);

    let document = shop.run(&["call", "math.eval", "--json", "--args", r#"{"expression": "6 * 7"}"#]).ends(0).json();
    assert_eq!((&document["result"], &document["effect"]), (&json!("42"), &json!("pure")));

    shop.write("args.json", r#"{"expression": "1 + 1"}"#);
    assert_eq!(shop.run(&["--quiet", "call", "math.eval", "--args", "@args.json"]).ends(0).err, "");
    let mut child = shop.command(&["call", "math.eval", "--args", "-"]);
    let mut child =
        child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    child.stdin.take().expect("a pipe").write_all(br#"{"expression": "2 + 1"}"#).expect("it reads");
    assert_eq!(Brought::of(child.wait_with_output().expect("it ends")).ends(0).json(), json!("3"));
}

#[test]
fn what_cannot_be_called_ends_with_the_code_that_says_why() {
    let shop = Shop::new();
    let unknown = shop.run(&["call", "math.evil"]).ends(2);
    assert_eq!(unknown.out, "");
    assert!(unknown.err.starts_with("error: failed to find tool `math.evil`\n  hint: "), "{}", unknown.err);
    shop.run(&["call", "math.eval", "--args", "{"]).ends(2);
    shop.run(&["call", "math.eval", "--args", r#"{"expresion": "1"}"#]).ends(2);
    shop.run(&["call", "math.eval", "--args", r#"{"expression": "1 /"}"#]).ends(1);
    let denied = shop.run(&["call", "notes.list", "--args", r#"{"folder": "/notes"}"#, "--json"]).ends(4);
    assert_eq!(denied.json()["failure"]["kind"], "policy.denied");
    let asks = shop.run(&["call", "notes.append", "--args", r#"{"path": "/notes/sums.md", "line": "x"}"#]).ends(4);
    assert!(asks.err.contains("--yes") && shop.notes().is_empty(), "{}", asks.err);
    shop.run(&["call", "notes.append", "--yes", "--args", r#"{"path": "/notes/sums.md", "line": "x"}"#]).ends(0);
    assert_eq!(shop.notes(), "x\n");
}

#[test]
fn without_a_policy_nothing_is_allowed() {
    let shop = Shop::new();
    fs::remove_file(shop.path("policy.toml")).expect("it was there");
    shop.run(&["call", "math.eval", "--args", r#"{"expression": "1"}"#]).ends(4);
    let tools = shop.run(&["tools"]).ends(0).out;
    assert!(tools.contains("math.eval") && tools.contains("denied") && !tools.contains("allowed"), "{tools}");
}

#[test]
fn tools_are_listed_with_what_policy_says() {
    let shop = Shop::new();
    let table = shop.run(&["tools"]).ends(0).out;
    let row = |name: &str| table.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    assert!(row("math.eval").contains("pure") && row("math.eval").contains("allowed"), "{table}");
    assert!(row("notes.list").contains("denied"), "{table}");
    let document = shop.run(&["tools", "--json"]).ends(0).json();
    let names: Vec<_> = document["tools"].as_array().expect("a list").iter().map(|tool| tool["name"].clone()).collect();
    assert!(names.contains(&json!("notes.append")), "{names:?}");
}

#[test]
fn a_component_is_inspected_without_settings_and_a_file_that_is_none_is_refused() {
    let shop = Shop::new();
    fs::remove_file(shop.path("cofferdam.toml")).expect("it was there");
    let file = cofferdam_guests::component("notes");
    let file = file.to_str().expect("a path of text");
    let told = shop.run(&["inspect", file]).ends(0).out;
    for part in ["component  notes", "sha256:", "append: func(path: string, line: string) -> ", "files.write"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(shop.run(&["inspect", "--json", file]).ends(0).json()["component"], "notes");
    shop.run(&["inspect", "flow.toml"]).ends(1);
    shop.run(&["inspect", "absent.wasm"]).ends(2);
}

#[test]
fn a_wrong_file_is_told_with_its_place() {
    let shop = Shop::new();
    shop.write("cofferdam.toml", "version = 0\n[tool]\n");
    let wrong = shop.run(&["tools"]).ends(3).err;
    assert!(wrong.contains("cofferdam.toml:2:2: unknown field `tool`"), "{wrong}");
    fs::remove_file(shop.path("cofferdam.toml")).expect("it was there");
    assert!(shop.run(&["tools"]).ends(3).err.contains("hint: "));
    shop.run(&["-C", "absent", "tools"]).ends(3);
    shop.run(&["nonsense"]).ends(2);
}

#[test]
fn a_component_is_added_with_its_digest_and_the_rule_that_is_printed_allows_it() {
    let shop = Shop::new();
    shop.write("cofferdam.toml", "# ours\nversion = 0\n");
    let file = cofferdam_guests::component("math");
    let file = file.to_str().expect("a path of text");
    let rule = shop.run(&["add", file]).ends(0).out;
    shop.run(&["add", file]).ends(2);
    shop.run(&["add", file, "--replace"]).ends(0);
    let settings = fs::read_to_string(shop.path("cofferdam.toml")).expect("it reads");
    assert!(settings.starts_with("# ours\n") && settings.contains("sha256:"), "{settings}");
    shop.write("policy.toml", &format!("version = 0\n{rule}"));
    shop.run(&["call", "math.eval", "--args", r#"{"expression": "1"}"#]).ends(0);
    shop.write("cofferdam.toml", &settings.replace("sha256:", &format!("sha256:{}", "0".repeat(8))));
    shop.run(&["tools"]).ends(3);
}

#[test]
fn a_run_in_a_script_waits_for_a_person_and_prints_how_to_go_on() {
    let shop = Shop::new();
    let left = shop.run(&["run", "flow.toml"]).ends(5);
    assert!(left.err.contains("can write  ") && left.err.contains("cofferdam approve r-"), "{}", left.err);
    assert_eq!((left.out.as_str(), shop.notes().as_str()), ("", ""));

    let again = shop.run(&["resume", "last"]).ends(5);
    assert!(again.err.contains("needs a person") || again.err.contains("waits for approval"), "{}", again.err);
    shop.run(&["approve", "last", "sum"]).ends(2);
    let approved = shop.run(&["approve", "last", "write"]).ends(0);
    assert!(approved.err.contains("cofferdam resume r-"), "{}", approved.err);
    assert_eq!(shop.notes(), "");
    let done = shop.run(&["resume", "last"]).ends(0);
    assert_eq!((done.out.as_str(), shop.notes().as_str()), ("2\n", "a sum\n"));
    assert!(done.err.contains("peak memory"), "{}", done.err);

    let step = shop.run(&["show", "last", "--step", "write"]).ends(0).out;
    assert!(step.contains("notes.append") && step.contains("│"), "{step}");
    assert!(shop.run(&["verify", "last"]).ends(0).out.contains("sha256:"));
    assert!(shop.run(&["runs"]).ends(0).out.contains("Write a sum down"));
    shop.run(&["approve", "last", "write"]).ends(2);
}

#[test]
fn an_approval_given_beforehand_lets_a_run_end_in_one_go() {
    let shop = Shop::new();
    let done = shop.run(&["run", "flow.toml", "--set", "expression=2+3", "--approve", "t1.write"]).ends(0);
    assert_eq!((done.out.as_str(), shop.notes().as_str()), ("5\n", "a sum\n"));
    shop.run(&["run", "flow.toml", "--set", "expresion=1", "--yes"]).ends(2);

    let lines = shop.run(&["run", "flow.toml", "--yes", "--json"]).ends(0);
    assert_eq!(lines.err, "");
    let signals: Vec<Value> =
        lines.out.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    assert_eq!(signals.first().expect("a signal")["event"]["fact"]["fact"], "run_created");
    let report = &signals.last().expect("a report")["report"];
    assert_eq!((&report["state"], &report["answer"]), (&json!("succeeded"), &json!("2")));
}

#[test]
fn a_rejected_or_cancelled_run_says_so_in_its_code() {
    let shop = Shop::new();
    shop.run(&["run", "flow.toml"]).ends(5);
    shop.run(&["reject", "last", "write", "--reason", "not today", "--by", "bob"]).ends(0);
    let rejected = shop.run(&["resume", "last"]).ends(4);
    assert!(rejected.err.contains("policy.approval_rejected"), "{}", rejected.err);

    shop.run(&["run", "flow.toml"]).ends(5);
    let cancelled = shop.run(&["cancel", "last", "--json"]).ends(0);
    assert_eq!(cancelled.json()["state"], "cancelled");
    shop.run(&["resume", "last"]).ends(2);
    assert_eq!(shop.notes(), "");
}

#[test]
fn a_run_that_waits_goes_on_when_another_process_approves() {
    let shop = Shop::new();
    let waiting =
        shop.command(&["run", "flow.toml", "--wait", "60"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let waiting = waiting.expect("it starts");
    let is_waiting = || shop.run(&["show", "last", "--json"]).out.contains("\"binding\"");
    // Each look is a process of its own, so this is a bound of minutes.
    assert!((0..500).any(|_| is_waiting()), "the run asks for approval");
    assert_eq!(shop.run(&["resume", "last"]).code, 8);
    shop.run(&["approve", "last", "write"]).ends(0);
    assert_eq!(Brought::of(waiting.wait_with_output().expect("it ends")).ends(0).out, "2\n");
}

#[test]
fn an_approval_is_about_the_call_that_was_shown() {
    let shop = Shop::new();
    let left = shop.run(&["run", "flow.toml"]).ends(5);
    let words: Vec<_> = left.err.split_whitespace().collect();
    let digits = words.iter().skip_while(|word| **word != "--binding").nth(1).expect("the hint names the call");
    let other = shop.run(&["approve", "last", "write", "--binding", "0123456789ab"]).ends(2);
    assert!(other.err.contains("another call waits"), "{}", other.err);
    shop.run(&["approve", "last", "write", "--binding", "0123"]).ends(2);
    shop.run(&["resume", "last"]).ends(5);

    let approved = shop.run(&["approve", "last", "write", "--binding", digits]).ends(0);
    assert!(!approved.err.contains("can write"), "{}", approved.err);
    shop.run(&["resume", "last"]).ends(0);

    shop.run(&["run", "flow.toml"]).ends(5);
    let shown = shop.run(&["approve", "last", "write"]).ends(0).err;
    for fact in ["notes.append", "can write  ", "a sum", "binding    sha256:"] {
        assert!(shown.contains(fact), "{fact}: {shown}");
    }
}

#[test]
fn a_run_that_nobody_drives_is_ended_without_its_tools() {
    let shop = Shop::new();
    shop.run(&["run", "flow.toml"]).ends(5);
    shop.write("cofferdam.toml", "version = 0\n[tools]\nmath = { crate = \"gone\" }\ntext = \"gone.wasm\"\n");
    let cancelled = shop.run(&["cancel", "last"]).ends(0);
    assert!(cancelled.err.contains("cancelled"), "{}", cancelled.err);
    shop.run(&["cancel", "last"]).ends(2);

    shop.write("cofferdam.toml", "version = 0\n");
    let told = shop.run(&["show", "last", "--json"]).ends(0).json();
    assert_eq!((&told["state"], &told["owner"]), (&json!("cancelled"), &Value::Null));
    let caveat = json!({ "step": "t1.write", "what": "unfinished" });
    assert!(told["caveats"].as_array().is_some_and(|caveats| caveats.contains(&caveat)), "{told}");
    shop.run(&["verify", "last"]).ends(0);
}

#[test]
fn a_run_that_is_driven_is_cancelled_by_its_owner() {
    let shop = Shop::new();
    let driven =
        shop.command(&["run", "flow.toml", "--wait", "60"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let driven = driven.expect("it starts");
    let is_waiting = || shop.run(&["show", "last", "--json"]).out.contains("\"binding\"");
    // Each look is a process of its own, so this is a bound of minutes.
    assert!((0..500).any(|_| is_waiting()), "the run asks for approval");
    let told = shop.run(&["cancel", "last"]).ends(0);
    assert!(told.err.contains("its owner was asked"), "{}", told.err);
    Brought::of(driven.wait_with_output().expect("it ends")).ends(6);
}

/// A server whose model plans one call, under the id `write`, that needs approval.
fn writing_model() -> FakeLlm {
    let append = json!({ "path": "/notes/sums.md", "line": "mine" });
    let steps = json!([{ "id": "write", "tool": "notes.append", "args": append }]);
    let step = json!({ "reply": { "json": { "steps": steps } } });
    FakeLlm::start(&step.to_string()).expect("the script reads")
}

#[test]
fn a_model_cannot_choose_what_is_approved_by_name() {
    let shop = Shop::new();
    let model = writing_model();
    let goal = ["run", "--goal", "write it", "--model", "small", "--base-url", &model.base_url()];
    let refused = shop.run(&[&goal[..], &["--approve", "write"]].concat()).ends(2);
    assert!(refused.err.contains("hint: approve the exact call with `cofferdam approve"), "{}", refused.err);
    assert!(model.requests().is_empty());

    let left = shop.run(&goal).ends(5);
    let resume = format!(" --model small --base-url {}", model.base_url());
    assert!(left.err.contains(&resume), "{}", left.err);
    let refused =
        shop.run(&["resume", "last", "--model", "small", "--base-url", &model.base_url(), "--approve", "write"]);
    assert!(refused.ends(2).err.contains("a model plans this run"));
    assert_eq!(shop.notes(), "");
    model.finish().expect("the model was asked once");
}

/// A server whose model asks for the year, wants to see it in the prompt then, and answers what a call brought.
fn asking_model() -> FakeLlm {
    let steps = json!([{ "id": "sum", "tool": "math.eval", "args": { "expression": "2024 + 1" } }]);
    let script = [
        json!({ "reply": { "json": { "question": "Which year?\nthen, to go on:" } } }),
        json!({
            "expect": { "/messages/1/content": { "contains": "in 2024" } },
            "reply": { "json": { "steps": steps } },
        }),
        json!({ "reply": { "json": { "answer": { "$from": "t2.sum", "path": "" } } } }),
    ];
    FakeLlm::start(&script.map(|step| step.to_string()).join("\n")).expect("the script reads")
}

#[test]
fn a_planners_question_leaves_a_script_with_the_command_that_answers() {
    let shop = Shop::new();
    let model = asking_model();
    let base_url = model.base_url();
    let flags = ["--model", "small", "--base-url", &base_url];
    let asked = shop.run(&[&["run", "--goal", "sum it"], &flags[..]].concat()).ends(5);
    let answer = format!(" --model small --base-url {base_url} --answer TEXT");
    for part in ["the planner asks:\n  │ Which year?\n  │ then, to go on:\n", &answer] {
        assert!(asked.err.contains(part), "{part}: {}", asked.err);
    }
    let done = shop.run(&[&["resume", "last", "--answer", "in 2024"], &flags[..]].concat()).ends(0);
    assert_eq!(done.out, "2025\n");
    model.finish().expect("the model saw the answer");
}

#[test]
fn an_answer_reaches_the_process_that_drives_the_run() {
    let shop = Shop::new();
    let model = asking_model();
    let base_url = model.base_url();
    let flags = ["--model", "small", "--base-url", &base_url];
    let mut driven = shop.command(&[&["run", "--goal", "sum it", "--wait", "60"], &flags[..]].concat());
    let driven = driven.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let is_waiting = || shop.run(&["show", "last", "--json"]).out.contains("Which year?");
    // Each look is a process of its own, so this is a bound of minutes.
    assert!((0..500).any(|_| is_waiting()), "the planner asks");
    let told = shop.run(&[&["resume", "last", "--answer", "in 2024"], &flags[..]].concat()).ends(0);
    assert!(told.err.contains("told its owner (process "), "{}", told.err);
    assert_eq!(Brought::of(driven.wait_with_output().expect("it ends")).ends(0).out, "2025\n");
    model.finish().expect("the model saw the answer");
}

#[test]
fn a_reader_that_left_is_no_error() {
    let shop = Shop::new();
    let mut command = shop.command(&["tools", "--json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    drop(child.stdout.take());
    let ended = Brought::of(child.wait_with_output().expect("it ends")).ends(0);
    assert_eq!(ended.err, "");
}

#[test]
fn tool_crates_are_built_unless_told_otherwise() {
    let shop = Shop::new();
    let krate = Path::new(env!("CARGO_MANIFEST_DIR")).join("../example-tools/math");
    shop.write("cofferdam.toml", &format!("version = 0\n[tools]\nmath = {{ crate = {krate:?} }}\n"));
    let told = shop.run(&["--no-build", "tools"]).ends(2).err;
    assert!(told.contains("cofferdam build"), "{told}");
    // A crate that was never built is in nobody's way who looks at runs.
    shop.run(&["runs"]).ends(0);
    fs::create_dir_all(shop.path(".cofferdam/built")).expect("a directory");
    fs::copy(cofferdam_guests::component("math"), shop.path(".cofferdam/built/math.wasm")).expect("a copy");
    assert!(shop.run(&["--no-build", "tools"]).ends(0).out.contains("math.eval"));
}

#[test]
fn a_call_under_a_key_is_made_once() {
    let shop = Shop::new();
    let append = |key: &str, line: &str| {
        let args = format!(r#"{{"path": "/notes/sums.md", "line": "{line}"}}"#);
        shop.run(&["call", "notes.append", "--yes", "--key", key, "--args", &args, "--json"])
    };
    let first = append("order-7", "paid").ends(0).json();
    assert_eq!((shop.notes().as_str(), &first["repeats"]), ("paid\n", &Value::Null));
    let again = append("order-7", "paid").ends(0).json();
    assert_eq!(shop.notes(), "paid\n");
    assert!(again["repeats"].as_str().is_some_and(|run| run.starts_with("r-")), "{again}");
    assert_eq!((&again["result"], &again["usage"]), (&first["result"], &first["usage"]));
    let other = append("order-7", "paid twice").ends(2).err;
    assert!(other.contains("it was given with another request"), "{other}");
    append("order-8", "paid").ends(0);
    assert_eq!(shop.notes(), "paid\npaid\n");
    append("", "x").ends(2);

    // A failure is an outcome too, and a call that policy denies takes no key.
    let wrong = ["call", "math.eval", "--key", "sum", "--args", r#"{"expression": "1 /"}"#];
    shop.run(&wrong).ends(1);
    let again = shop.run(&wrong).ends(1).err;
    assert!(again.contains("the same was called before under this key"), "{again}");
    shop.run(&["call", "notes.append", "--key", "k", "--args", r#"{"path": "/notes/sums.md", "line": "x"}"#]).ends(4);
    append("k", "now").ends(0);
}

#[test]
fn a_run_under_a_key_is_one_run() {
    let shop = Shop::new();
    let run = |more: &[&str]| shop.run(&[&["run", "flow.toml", "--key", "monday"], more].concat());
    run(&[]).ends(5);
    // Left by its process, it goes on.
    let done = run(&["--yes"]).ends(0);
    assert!(done.err.contains("the same was asked for before under this key"), "{}", done.err);
    assert_eq!((done.out.as_str(), shop.notes().as_str()), ("2\n", "a sum\n"));
    let again = run(&["--yes"]).ends(0);
    assert_eq!((again.out.as_str(), shop.notes().as_str()), ("2\n", "a sum\n"));
    let runs = shop.run(&["runs", "--json"]).ends(0).json();
    assert_eq!(runs["runs"].as_array().map(Vec::len), Some(1), "{runs}");
    run(&["--set", "expression=3 + 3"]).ends(2);
}

#[test]
fn a_repeat_of_a_run_that_is_under_way_conflicts() {
    let shop = Shop::new();
    let args = ["run", "flow.toml", "--key", "monday", "--wait", "60"];
    let driven = shop.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let is_waiting = || shop.run(&["approvals", "--json"]).out.contains("\"binding\"");
    // Each look is a process of its own, so this is a bound of minutes.
    assert!((0..500).any(|_| is_waiting()), "the run asks for approval");
    let repeat = shop.run(&args).ends(2).err;
    assert!(repeat.contains("is under way (process ") && repeat.contains("watch r-"), "{repeat}");
    shop.run(&["cancel", "last"]).ends(0);
    Brought::of(driven.wait_with_output().expect("it ends")).ends(6);
}

#[test]
fn logs_are_checked_together_and_held_against_a_head_that_was_kept() {
    let shop = Shop::new();
    shop.run(&["run", "flow.toml"]).ends(5);
    shop.run(&["call", "math.eval", "--args", r#"{"expression": "1"}"#]).ends(0);
    let head = shop.run(&["verify", "last", "--json"]).ends(0).json()["head"].as_str().expect("a head").to_owned();
    assert!(shop.run(&["verify", "last", "--head", &head]).ends(0).out.contains(&head));
    shop.run(&["cancel", "last"]).ends(0);
    let earlier = shop.run(&["verify", "last", "--head", &head, "--json"]).ends(0).json();
    assert_eq!(earlier["held"]["as"], "earlier", "{earlier}");
    let other = format!("sha256:{}", "0".repeat(64));
    let unknown = shop.run(&["verify", "last", "--head", &other]).ends(70).err;
    assert!(unknown.contains("its log is another one"), "{unknown}");
    let all = shop.run(&["verify", "--all", "--json"]).ends(0).json();
    assert_eq!((&all["whole"], all["runs"].as_array().map(Vec::len)), (&json!(true), Some(2)), "{all}");
    shop.run(&["verify"]).ends(2);
    shop.run(&["verify", "last", "--all"]).ends(2);
}

#[test]
fn a_copy_of_the_log_is_a_log_of_its_own() {
    let shop = Shop::new();
    shop.run(&["run", "flow.toml", "--yes"]).ends(0);
    shop.run(&["backup", "copy"]).ends(0);
    shop.run(&["backup", "copy"]).ends(2);
    shop.run(&["run", "flow.toml", "--yes"]).ends(0);
    let settings = fs::read_to_string(shop.path("cofferdam.toml")).expect("it reads");
    shop.write("cofferdam.toml", &settings.replace("version = 0\n", "version = 0\nstate = 'copy'\n"));
    let runs = shop.run(&["runs", "--json"]).ends(0).json();
    assert_eq!(runs["runs"].as_array().map(Vec::len), Some(1), "{runs}");
    let step = shop.run(&["show", "last", "--step", "write"]).ends(0).out;
    assert!(step.contains("a sum"), "{step}");
    shop.run(&["verify", "--all"]).ends(0);
}

#[test]
fn old_runs_go_and_a_run_that_waits_stays() {
    let shop = Shop::new();
    shop.run(&["run", "flow.toml", "--yes"]).ends(0);
    shop.run(&["run", "flow.toml"]).ends(5);
    let dry = |older: &str| shop.run(&["prune", "--older", older, "--dry-run", "--json"]).ends(0).json();
    assert_eq!(dry("1d")["runs"], json!([]));
    assert_eq!(dry("0s")["runs"].as_array().map(Vec::len), Some(1), "only one has ended");
    shop.run(&["prune", "--older", "1d"]).ends(0);
    assert_eq!(shop.run(&["runs", "--json"]).ends(0).json()["runs"].as_array().map(Vec::len), Some(2));
    let pruned = shop.run(&["prune", "--older", "0s", "--json"]).ends(0).json();
    assert_eq!(pruned["pruned"]["runs"], 1, "{pruned}");
    let runs = shop.run(&["runs", "--json"]).ends(0).json();
    assert_eq!(runs["runs"][0]["state"], json!({ "suspended": "approval" }), "{runs}");
    for wrong in ["30", "1w", "d"] {
        shop.run(&["prune", "--older", wrong]).ends(2);
    }
}

#[test]
fn an_erased_user_leaves_logs_that_verify_and_nothing_to_read() {
    let shop = Shop::new();
    shop.run(&["run", "flow.toml", "--yes"]).ends(0);
    let asked = shop.run(&["user", "erase", "local"]).ends(2).err;
    assert!(asked.contains("--yes") && asked.contains("files that tools wrote"), "{asked}");
    assert!(shop.run(&["show", "last", "--step", "write"]).ends(0).out.contains("a sum"));
    let erased = shop.run(&["user", "erase", "local", "--yes"]).ends(0);
    assert!(erased.err.contains("outside of it: files that tools wrote in granted directories"), "{}", erased.err);
    shop.run(&["verify", "--all"]).ends(0);
    let shown = shop.run(&["show", "last", "--json"]).ends(0).out;
    assert!(!shown.contains("a sum") && !shown.contains("Write a sum down"), "{shown}");
    let chain = shop.run(&["explain", "last", "write"]).ends(0).out;
    assert!(chain.contains("its owner was erased") && !chain.contains("a sum"), "{chain}");
    assert_eq!(shop.notes(), "a sum\n", "what tools wrote is outside");
}

#[test]
fn a_run_that_nobody_drives_can_be_cancelled_and_taken_back_here() {
    let shop = Shop::new();
    shop.run(&["run", "flow.toml"]).ends(5);
    let taken = shop.run(&["cancel", "last", "--undo"]).ends(6);
    assert!(taken.err.contains("cancelled by ann"), "{}", taken.err);
    shop.run(&["cancel", "last", "--undo"]).ends(2);
    assert_eq!(shop.notes(), "");
}
