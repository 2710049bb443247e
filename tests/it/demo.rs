//! The example that the front page shows, through the real program: its workflow, and the same work planned by a model.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use cofferdam::planner::workflow::WorkflowPlanner;
use cofferdam_kit::fake_llm::FakeLlm;
use expect_test::expect_file;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A copy of the example, over components that are built already.
pub struct Example(TempDir);

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/store-report")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder is made");
    for entry in fs::read_dir(from).expect("a folder lists") {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).expect("an entry reads");
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else {
            fs::copy(&path, to.join(name)).expect("a file copies");
        }
    }
}

impl Example {
    pub fn new() -> Self {
        let example = Self(TempDir::new().expect("a folder for the test"));
        for folder in ["data", "templates"] {
            copy(&source().join(folder), &example.path(folder));
        }
        for file in ["policy.toml", "report.toml", "goal.txt"] {
            fs::copy(source().join(file), example.path(file)).expect("a file copies");
        }
        fs::create_dir(example.path("reports")).expect("a folder is made");
        let entry = |name: &str| format!("{name} = {:?}\n", cofferdam_guests::component(name));
        let tools: String = ["csv", "math", "notes", "template", "text"].map(entry).concat();
        fs::write(example.path("cofferdam.toml"), format!("version = 0\n[tools]\n{tools}")).expect("a file is written");
        example
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn report(&self) -> String {
        fs::read_to_string(self.path("reports/2025.md")).expect("the report is there")
    }

    pub fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        command.args(args).current_dir(self.0.path()).env_clear().env("HOME", self.0.path()).stdin(Stdio::null());
        // Shared by all commands: components are compiled once, and sealed under one key.
        let shared = Path::new(env!("CARGO_TARGET_TMPDIR")).join("commands");
        command.env("XDG_CACHE_HOME", shared.join("cache")).env("XDG_STATE_HOME", shared.join("state"));
        command.output().expect("the program starts")
    }

    /// Runs with `--json` and returns the report, which is the last line.
    #[track_caller]
    pub fn report_of(&self, args: &[&str]) -> Value {
        let output = self.run(args);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{out}\n{err}");
        let last: Value = serde_json::from_str(out.lines().last().unwrap_or_default()).expect("a line of JSON");
        last["report"].clone()
    }
}

/// What each step called, and with what: its name is the planner's own affair.
fn admitted(report: &Value) -> BTreeSet<String> {
    let steps = report["steps"].as_array().expect("a list of steps");
    steps.iter().map(|step| format!("{} {}", step["tool"], step["args"])).collect()
}

/// Sums the amounts of the orders in cents, by a column: nothing of Cofferdam takes part.
fn cents_by(column: &str, example: &Example) -> std::collections::BTreeMap<String, i64> {
    let mut reader = csv::Reader::from_path(example.path("data/orders.csv")).expect("the orders open");
    let headers = reader.headers().expect("a header row").clone();
    let at = |name: &str| headers.iter().position(|header| header == name).expect("a column");
    let (key, amount) = (at(column), at("amount"));
    let mut sums = std::collections::BTreeMap::new();
    for row in reader.records() {
        let row = row.expect("a row");
        let cents = row[amount].replace('.', "").parse::<i64>().unwrap_or(0);
        *sums.entry(row[key].to_owned()).or_insert(0) += cents;
    }
    sums
}

fn euros(cents: i64) -> String {
    let whole = (cents.abs() / 100).to_string();
    let groups: Vec<_> =
        whole.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group).into_owned()).collect();
    format!("{}{}.{:02}", if cents < 0 { "-" } else { "" }, groups.join(","), cents.abs() % 100)
}

#[test]
fn the_workflow_writes_the_report_and_its_figures_are_right() {
    let example = Example::new();
    let report = example.report_of(&["--json", "run", "report.toml", "--yes"]);
    assert_eq!(report["state"], "succeeded", "{report}");
    assert_eq!(report["caveats"], json!([]));
    let written = example.report();
    expect_file!["../cases/store-report.md"].assert_eq(&written);
    for column in ["region", "category", "month"] {
        for (name, cents) in cents_by(column, &example).into_iter().filter(|(name, _)| !name.is_empty()) {
            let row = written
                .lines()
                .find(|line| line.starts_with(&format!("| {name} ")))
                .unwrap_or_else(|| panic!("{name}"));
            assert!(row.contains(&euros(cents)), "{name}: {} in {row}", euros(cents));
        }
    }
    let again = Example::new();
    again.report_of(&["--json", "run", "report.toml", "--yes"]);
    assert_eq!(again.report(), written, "the report holds no clock and no id");
}

#[test]
fn without_a_person_the_report_is_not_written_until_one_approves() {
    let example = Example::new();
    let output = example.run(&["run", "report.toml"]);
    assert_eq!(output.status.code(), Some(5), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!example.path("reports/2025.md").exists());
    assert!(example.run(&["approve", "last", "save", "--by", "ann"]).status.success());
    let resumed = example.run(&["resume", "last"]);
    assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
    expect_file!["../cases/store-report.md"].assert_eq(&example.report());
}

#[test]
fn a_model_plans_the_same_work_after_its_first_reply_was_refused() {
    let example = Example::new();
    let by_file = example.report_of(&["--json", "run", "report.toml", "--yes"]);
    fs::remove_file(example.path("reports/2025.md")).expect("the report was there");

    let plan = WorkflowPlanner::read(&example.path("report.toml")).unwrap().proposed().unwrap();
    let wrong = json!({"steps": [
        {"id": "a", "tool": "csv.agregate", "args": {"path": "/data/orders.csv", "group_by": [], "metrics": []}},
        {"id": "b", "tool": "text.keywords", "args": {"text": "x", "limit": "ten"}},
    ]});
    let script = [
        json!({
            "expect": {
                "/response_format/type": {"equals": "json_schema"},
                "/response_format/json_schema/schema/properties/steps": {"exists": true},
                "/messages/0/content": [{"contains": "csv.aggregate"}, {"contains": "template.render"}],
                "/messages/1/content": [{"contains": "2025"}, {"not_contains": "<observations>"}],
            },
            "reply": {"json": wrong},
        }),
        json!({
            "expect": {"/messages/1/content": [
                {"contains": "csv.agregate"}, {"contains": "did you mean `csv.aggregate`"}, {"contains": "/steps/1/args/limit"},
            ]},
            "reply": {"json": {"steps": plan.steps}},
        }),
        json!({
            "expect": {"/messages/1/content": [
                {"contains": "t2.save"}, {"contains": "succeeded"}, {"not_contains": example.0.path().to_str()},
            ]},
            "reply": {"json": {"answer": {"$from": "t2.totals", "path": "/rows/0/1"}}},
        }),
    ];
    let model = FakeLlm::start(&script.map(|step| step.to_string()).join("\n")).expect("the script reads");
    let goal = fs::read_to_string(example.path("goal.txt")).expect("the goal reads");
    let base_url = model.base_url();
    let args = ["--json", "run", "--goal", &goal, "--base-url", &base_url, "--model", "scripted", "--yes"];
    let by_model = example.report_of(&args);
    model.finish().expect("every request was as the script says");

    assert_eq!(by_model["state"], "succeeded", "{by_model}");
    assert_eq!(by_model["answer"], by_file["answer"]["net_revenue"]);
    assert_eq!(admitted(&by_model), admitted(&by_file));
    expect_file!["../cases/store-report.md"].assert_eq(&example.report());
}
