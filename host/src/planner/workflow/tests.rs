use expect_test::{Expect, expect};
use serde_json::json;

use super::*;
use crate::domain::OnFailure;

const TOML: &str = r#"
workflow = "report"
goal = "sum the sales"
answer = { total = { "$from" = "sum", path = "/total" }, of = { "$input" = "path" } }

[inputs]
path = "sales.csv"
limit = 10

[[steps]]
id = "sum"
tool = "csv.sum"
args = { path = { "$input" = "path" }, limit = { "$input" = "limit" }, since = "2026-01-31" }

[[steps]]
id = "mail"
tool = "mail.send"
needs = ["sum"]
timeout_ms = 500
on_failure = "skip"
approval = true
"#;

fn allowance() -> Allowance {
    Allowance { wall_ms_max: 1_000, reply_tokens_max: 100, ..Allowance::default() }
}

fn pack(turn: u32) -> ContextPack {
    let goal = "sum the sales".to_owned();
    ContextPack { goal, turn, ..ContextPack::default() }
}

#[test]
fn all_three_formats_say_the_same() {
    let toml = WorkflowPlanner::parse(TOML, Format::Toml).unwrap();
    let plan = toml.proposed().unwrap();
    assert_eq!(plan.steps[0].args, json!({"path": "sales.csv", "limit": 10, "since": "2026-01-31"}));
    assert_eq!(plan.answer, Some(json!({"total": {"$from": "sum", "path": "/total"}, "of": "sales.csv"})));
    assert_eq!((plan.steps[1].on_failure.clone(), plan.steps[1].approval), (OnFailure::Skip, true));

    let whole = json!({
        "workflow": "report", "goal": "sum the sales", "inputs": {"path": "sales.csv", "limit": 10},
        "steps": [
            {"id": "sum", "tool": "csv.sum", "args": {
                "path": {"$input": "path"}, "limit": {"$input": "limit"}, "since": "2026-01-31"}},
            {"id": "mail", "tool": "mail.send", "needs": ["sum"], "timeout_ms": 500, "on_failure": "skip", "approval": true},
        ],
        "answer": {"total": {"$from": "sum", "path": "/total"}, "of": {"$input": "path"}},
    });
    let yaml = serde_norway::to_string(&whole).unwrap();
    assert_eq!(WorkflowPlanner::parse(&whole.to_string(), Format::Json).unwrap().proposed(), Ok(plan.clone()));
    assert_eq!(WorkflowPlanner::parse(&yaml, Format::Yaml).unwrap().proposed(), Ok(plan));
    assert_eq!(toml.source(), TOML.as_bytes());
    assert_eq!((toml.workflow(), toml.goal()), ("report", "sum the sales"));
}

#[test]
fn inputs_replace_defaults_and_stay_data() {
    let set = |name: &str, value: Json| {
        let planner = WorkflowPlanner::parse(TOML, Format::Toml).unwrap();
        planner.with_inputs(BTreeMap::from([(name.to_owned(), value)]))
    };
    let plan = set("path", json!("other.csv")).unwrap().proposed().unwrap();
    assert_eq!(plan.steps[0].args["path"], "other.csv");
    let unknown = set("pth", json!(1)).unwrap_err();
    assert_eq!(unknown.kind, Kind::DataInput);
    assert_eq!(unknown.hint.as_deref(), Some("the workflow declares limit, path"));
    assert_eq!(set("limit", json!("ten")).unwrap_err().kind, Kind::DataInput);

    let text = json!({"workflow": "w", "goal": "g", "inputs": {"any": null},
        "steps": [{"id": "a", "tool": "x.y", "args": {"v": {"$input": "any"}}}]});
    let planner = WorkflowPlanner::parse(&text.to_string(), Format::Json).unwrap();
    let sly = json!({"deep": [{"$from": "a"}]});
    let plan = planner.with_inputs(BTreeMap::from([("any".to_owned(), sly.clone())])).unwrap().proposed().unwrap();
    assert_eq!(plan.steps[0].args["v"], json!({"$literal": sly}));
}

fn check(format: Format, text: &str, expected: Expect) {
    let failure = WorkflowPlanner::parse(text, format).unwrap_err();
    assert_eq!(failure.kind, Kind::DataConfig);
    expected.assert_eq(&failure.message);
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let head = "workflow = \"w\"\ngoal = \"g\"\n";
    let toml = |rest: &str, expected| check(Format::Toml, &format!("{head}{rest}"), expected);
    toml("steps = [", expect!["read workflow (text):3:10: unclosed array, expected `]`"]);
    toml(
        "steps = []\nstep = 1",
        expect![
            "read workflow (text):4:1: unknown field `step`, expected one of `$schema`, `workflow`, `goal`, `inputs`, `steps`, `answer`, `assert`"
        ],
    );
    toml(
        "[[steps]]\nid = \"a\"\ntool = \"x.y\"\nretires = 3",
        expect![
            "read workflow (text):6:1: unknown field `retires`, expected one of `id`, `tool`, `run`, `args`, `needs`, `after`, `when`, `for_each`, `timeout_ms`, `retry`, `on_failure`, `undo`, `approval`, `cache_ttl_ms`, `confidence`, `flags`"
        ],
    );
    toml(
        "[[steps]]\nid = \"a\"\ntool = 7",
        expect!["read workflow (text):5:8: invalid type: integer `7`, expected a string"],
    );
    toml(
        "[[steps]]\nid = \"a\"\ntool = \"x.y\"\nargs = { n = nan }",
        expect!["read workflow (text):6:14: `NaN` is not a number in JSON"],
    );
    toml(
        "[[steps]]\nid = \"a\"\ntool = \"x.y\"\nargs = { day = 2026-01-31 }",
        expect!["read workflow (text):6:16: `/steps/0/args/day` is a date: put it in quotes"],
    );
    toml(
        "[[steps]]\nid = \"a\"\ntool = \"x.y\"\nargs = { n = { \"$input\" = \"m\" } }",
        expect!["read workflow (text):6:14: input `m` is not in `inputs`"],
    );
    let yaml = |text, expected| check(Format::Yaml, text, expected);
    yaml(
        "workflow: w\ngoal: g\nsteps:\n  - id: a\n    tool: x.y\n    retires: 3\n",
        expect![
            "read workflow (text):6:5: steps[0]: unknown field `retires`, expected one of `id`, `tool`, `run`, `args`, `needs`, `after`, `when`, `for_each`, `timeout_ms`, `retry`, `on_failure`, `undo`, `approval`, `cache_ttl_ms`, `confidence`, `flags`"
        ],
    );
    yaml(
        "workflow: w\ngoal: g\nsteps:\n  - id: a\n    tool: x.y\n    args: {n: 1, n: 2}\n",
        expect!["read workflow (text):6:11: steps[0].args: key `/steps/0/args/n` stands twice"],
    );
    yaml(
        "workflow: w\ngoal: [",
        expect![
            "read workflow (text):3:1: did not find expected node content at line 3 column 1, while parsing a flow node"
        ],
    );
    let json = |text, expected| check(Format::Json, text, expected);
    json(
        "{\"workflow\": \"w\",\n \"goal\": 3}",
        expect!["read workflow (text):2:10: invalid type: integer `3`, expected a string"],
    );
    json(
        "{\"workflow\": \"w\",\n \"workflow\": \"v\"}",
        expect!["read workflow (text):2:11: key `/workflow` stands twice"],
    );
}

#[test]
fn a_file_that_cannot_be_read_tells_why() {
    let folder = tempfile::tempdir().unwrap();
    let read = |name: &str| WorkflowPlanner::read(&folder.path().join(name)).map(|_| ()).unwrap_err();
    assert_eq!(read("none.toml").kind, Kind::DataNotFound);
    assert_eq!(read("none.txt").kind, Kind::DataConfig);
    let large = vec![b'#'; WORKFLOW_BYTES_MAX as usize + 1];
    std::fs::write(folder.path().join("large.toml"), large).unwrap();
    assert!(read("large.toml").message.contains("more than"));
    std::fs::write(folder.path().join("wrong.toml"), "workflow = ").unwrap();
    let failure = read("wrong.toml");
    assert!(failure.message.contains("wrong.toml:1:"), "{failure}");
}

#[tokio::test]
async fn it_proposes_once() {
    let planner = WorkflowPlanner::parse(TOML, Format::Toml).unwrap();
    let planned = planner.plan(&pack(1), &allowance()).await;
    assert_eq!(planned.reply, planner.proposed().map(Proposal::Plan));
    assert_eq!(serde_json::from_slice::<Plan>(&planned.raw).unwrap(), planner.proposed().unwrap());
    let again = planner.plan(&pack(2), &allowance()).await;
    assert_eq!(again.reply.unwrap_err().kind, Kind::DataPlan);
    assert!(planner.is_single_plan());
}

/// A folder with files, the first of which is read.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            let path = folder.0.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    fn read(&self, name: &str) -> Result<WorkflowPlanner, Failure> {
        WorkflowPlanner::read(&self.0.path().join(name))
    }

    #[track_caller]
    fn refused(&self, name: &str, words: &str) {
        let failure = self.read(name).unwrap_err();
        let message = failure.message.replace(&self.0.path().display().to_string(), "");
        assert_eq!((failure.kind, message.as_str()), (Kind::DataConfig, words));
    }
}

fn running(path: &str) -> String {
    format!("workflow: outer\ngoal: g\nsteps:\n  - id: a\n    run:\n      workflow: {path}\n")
}

#[test]
fn a_workflow_that_is_named_becomes_part_of_the_plan_and_keeps_its_lines() {
    let inner = "workflow = \"inner\"\ngoal = \"g\"\n[inputs]\nn = 1\n[[steps]]\nid = \"b\"\ntool = \"x.y\"\nargs = { n = { \"$input\" = \"n\" } }\n\n[[steps]]\nid = \"c\"\nrun = { workflow = \"deep.json\" }\n";
    let deep = "{\"workflow\": \"deep\", \"goal\": \"g\",\n \"steps\": [{\"id\": \"d\",\n  \"tool\": \"x.z\"}]}";
    let folder =
        Folder::new(&[("main.yaml", &running("sub/inner.toml")), ("sub/inner.toml", inner), ("sub/deep.json", deep)]);
    let workflow = folder.read("main.yaml").unwrap();
    let plan = workflow.proposed().unwrap();
    let within = plan.steps[0].run.as_ref().unwrap().workflow.as_ref().unwrap();
    assert_eq!(within["steps"][1]["run"]["workflow"]["steps"][0]["tool"], "x.z");
    // The inputs of a workflow within are its own.
    assert_eq!(within["steps"][0]["args"], json!({"n": {"$input": "n"}}));
    let place = |pointer: &str| {
        let place = workflow.place(pointer).unwrap();
        format!("{}:{}:{}", place.file.rsplit('/').next().unwrap(), place.line, place.column)
    };
    assert_eq!(place("/steps/0/run"), "main.yaml:6:7");
    assert_eq!(place("/steps/0/run/workflow/steps/0/args/n"), "inner.toml:8:14");
    assert_eq!(place("/steps/0/run/workflow/steps/1/run/workflow/steps/0/tool"), "deep.json:3:11");
    // What was stored of a run is read again as the same plan.
    let stored = json!({"workflow": "w", "goal": "g", "steps": plan.steps});
    assert_eq!(WorkflowPlanner::parse(&stored.to_string(), Format::Json).unwrap().proposed().unwrap(), plan);
}

#[test]
fn a_workflow_that_is_named_lies_in_the_directory_of_the_first_and_is_bounded() {
    let flawed = "workflow = \"inner\"\ngoal = \"g\"\nstep = 1\n";
    let folder = Folder::new(&[
        ("in/absolute.yaml", &running("/etc/passwd")),
        ("in/outside.yaml", &running("../other.yaml")),
        ("in/link.yaml", &running("linked.yaml")),
        ("in/itself.yaml", &running("itself.yaml")),
        ("in/missing.yaml", &running("none.toml")),
        ("in/flawed.yaml", &running("flawed.toml")),
        ("in/flawed.toml", flawed),
        ("in/odd.yaml", &running("flawed.txt")),
        ("in/flawed.txt", flawed),
        ("other.yaml", &running("none.toml")),
    ]);
    let linked = folder.0.path().join("in/linked.yaml");
    std::os::unix::fs::symlink(folder.0.path().join("other.yaml"), linked).unwrap();
    let at = |name: &str, what: &str| format!("read workflow /in/{name}:6:17: {what}");
    folder.refused(
        "in/absolute.yaml",
        &at("absolute.yaml", "`/etc/passwd` is absolute: a workflow is named from the directory of this file"),
    );
    folder.refused(
        "in/outside.yaml",
        &at("outside.yaml", "workflow `../other.yaml` lies outside the directory of the first file"),
    );
    folder.refused(
        "in/link.yaml",
        &at("link.yaml", "workflow `linked.yaml` lies outside the directory of the first file"),
    );
    folder.refused("in/itself.yaml", &at("itself.yaml", "workflow `itself.yaml` runs within itself"));
    folder.refused(
        "in/missing.yaml",
        &at("missing.yaml", "workflow `none.toml`: No such file or directory (os error 2)"),
    );
    let failure = folder.read("in/flawed.yaml").unwrap_err();
    assert!(failure.message.contains("/in/flawed.toml:3:1: unknown field `step`"), "{failure}");
    assert!(folder.read("in/odd.yaml").unwrap_err().message.contains("tell the format of workflow"));

    let deep: Vec<(String, String)> =
        (0..12).map(|n| (format!("f{n}.yaml"), running(&format!("f{}.yaml", n + 1)))).collect();
    let deep: Vec<(&str, &str)> = deep.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    assert!(Folder::new(&deep).read("f0.yaml").unwrap_err().message.contains("more than 8 files deep"));
    let many = |n: usize| {
        let steps: String = (0..n).map(|n| format!("  - id: s{n}\n    run:\n      workflow: leaf.yaml\n")).collect();
        format!("workflow: outer\ngoal: g\nsteps:\n{steps}")
    };
    let leaf = "workflow: leaf\ngoal: g\nsteps:\n  - id: a\n    tool: x.y\n";
    assert!(Folder::new(&[("m.yaml", &many(20)), ("leaf.yaml", leaf)]).read("m.yaml").is_ok());
    let failure = Folder::new(&[("m.yaml", &many(21)), ("leaf.yaml", leaf)]).read("m.yaml").unwrap_err();
    assert!(failure.message.contains("at most 20 files"), "{failure}");
}
