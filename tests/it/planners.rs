//! One goal, three planners: a workflow file, a model, and a recording of what the model said. What they propose is the same,
//! and so is what is admitted, called and brought.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use cofferdam_kit::fake_llm::FakeLlm;
use expect_test::expect_file;
use serde_json::{Value, json};

use crate::demo::Example;

const GOAL: &str =
    "Tell the net revenue of the orders in /data/orders.csv, and the topics of the reviews in /data/reviews.";

/// What stands in a recording that is shipped, in place of the run that it was made of.
const NOTE: &str = "a recording of the scripted model server of the tests, not of a real model";

fn plan() -> Value {
    json!({"steps": [
        {"id": "net", "tool": "csv.aggregate", "args": {
            "path": "/data/orders.csv", "group_by": [], "metrics": [{"measure": "sum", "column": "amount"}]}},
        {"id": "reviews", "tool": "notes.read-all", "args": {"folder": "/data/reviews", "limit": 200}},
        {"id": "topics", "tool": "text.keywords", "args": {"text": {"$from": "reviews", "path": "/text"}, "limit": 5}},
    ]})
}

fn answer(turn: u32) -> Value {
    json!({"answer": [{"$from": format!("t{turn}.net"), "path": "/rows/0/0"}, {"$from": format!("t{turn}.topics"), "path": ""}]})
}

/// The lines that a run with `--json` writes; the report is the last.
#[track_caller]
fn lines(example: &Example, args: &[&str]) -> Vec<Value> {
    let output = example.run(args);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    out.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// Runs a goal with a model that replies so; `more` are further arguments.
#[track_caller]
fn by_model(example: &Example, goal: &str, more: &[&str], replies: &[Value]) -> Vec<Value> {
    let script: Vec<String> = replies.iter().map(|reply| json!({"reply": {"json": reply}}).to_string()).collect();
    let model = FakeLlm::start(&script.join("\n")).expect("the script reads");
    let base_url = model.base_url();
    let args = ["--json", "run", "--goal", goal, "--base-url", &base_url, "--model", "scripted"];
    let lines = lines(example, &[&args, more].concat());
    model.finish().expect("every request was as the script says");
    lines
}

fn facts(lines: &[Value]) -> impl Iterator<Item = &Value> {
    lines.iter().map(|line| &line["event"]["fact"]).filter(|fact| fact.is_object())
}

fn report(lines: &[Value]) -> &Value {
    &lines.last().expect("there are lines")["report"]
}

/// What was admitted, called and brought: tools, digests of arguments, digests of outputs.
fn admitted(lines: &[Value]) -> BTreeSet<String> {
    let of = |fact: &Value| match fact["fact"].as_str()? {
        "plan_accepted" => {
            let steps = fact["steps"].as_array()?.iter();
            let steps: Vec<String> =
                steps.map(|step| format!("{} {} {}", step["id"], step["tool"], step["effect"])).collect();
            (!steps.is_empty()).then(|| steps.join(", "))
        }
        "step_ready" => Some(format!("{} with {}", fact["step"], fact["args"])),
        "step_ended" => Some(format!("{} brought {}", fact["step"], fact["end"])),
        // A plan that brings nothing new is known from the cache.
        "step_cached" => panic!("each planner has a log of its own: {fact}"),
        _ => None,
    };
    facts(lines).filter_map(of).collect()
}

#[test]
fn a_workflow_a_model_and_a_recording_have_the_same_steps_admitted() {
    let (file, model, recorded) = (Example::new(), Example::new(), Example::new());
    let workflow = json!({"workflow": "net", "goal": GOAL, "steps": plan()["steps"],
        "answer": [{"$from": "net", "path": "/rows/0/0"}, {"$from": "topics"}]});
    fs::write(file.path("net.json"), workflow.to_string()).expect("a workflow is written");
    let by_file = lines(&file, &["--json", "run", "net.json"]);
    let by_model = by_model(&model, GOAL, &[], &[plan(), answer(1)]);
    let exported = recorded.path("said.jsonl");
    let exported = exported.to_str().expect("it is text");
    assert!(model.run(&["replay", "last", "--export", exported]).status.success());
    let by_recording = lines(&recorded, &["--json", "run", "--recording", exported]);

    let expected = admitted(&by_file);
    assert_eq!(expected.len(), 7, "a plan, and three steps with arguments and outputs: {expected:#?}");
    assert_eq!(admitted(&by_model), expected);
    assert_eq!(admitted(&by_recording), expected);
    assert_eq!(report(&by_file)["answer"], report(&by_model)["answer"]);
    assert_eq!(report(&by_file)["answer"], report(&by_recording)["answer"]);
    let planners = [&by_file, &by_model, &by_recording].map(|lines| report(lines)["planner"].clone());
    assert_eq!(planners, ["workflow", "model:scripted", "recording:model:scripted"]);
    // The log of a run that a recording planned plays back as any other.
    let replayed = recorded.run(&["replay", "last"]);
    assert!(replayed.status.success(), "{}", String::from_utf8_lossy(&replayed.stdout));
}

#[test]
fn a_run_is_its_own_recording_and_a_workflows_too() {
    let example = Example::new();
    let by_model = by_model(&example, GOAL, &[], &[plan(), answer(1)]);
    let run = report(&by_model)["run"].as_str().expect("a run has an id").to_owned();
    let again = lines(&example, &["--json", "run", "--recording", &run]);
    assert_eq!(report(&again)["answer"], report(&by_model)["answer"]);
    // A recording of the recording is the same one.
    let files = ["one", "two"].map(|name| example.path(name).display().to_string());
    assert!(example.run(&["replay", &run, "--export", &files[0]]).status.success());
    assert!(example.run(&["replay", "last", "--export", &files[1]]).status.success());
    let [one, two] = files.map(|file| turns(Path::new(&file)));
    assert_eq!(one, two);
    let report = example.report_of(&["--json", "run", "report.toml", "--yes"]);
    let of_workflow = lines(&example, &["--json", "run", "--recording", "last", "--yes"]);
    assert_eq!(of_workflow.last().expect("lines")["report"]["answer"], report["answer"]);
}

/// A recording without its first line.
fn turns(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).expect("the recording reads");
    text.lines().skip(1).map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

#[test]
fn a_recording_stops_where_the_request_is_another_one_and_a_lenient_reader_goes_on() {
    let example = Example::new();
    by_model(&example, GOAL, &[], &[plan(), answer(1)]);
    let file = example.path("said.jsonl").display().to_string();
    assert!(example.run(&["replay", "last", "--export", &file]).status.success());
    assert_eq!(example.run(&["replay", "last", "--export", &file]).status.code(), Some(2), "it is there already");
    // One order less: what the first step brings is another sum.
    let orders = fs::read_to_string(example.path("data/orders.csv")).expect("the orders read");
    let (fewer, _) = orders.trim_end().rsplit_once('\n').expect("there are rows");
    fs::write(example.path("data/orders.csv"), fewer).expect("the orders are written");
    let stopped = example.run(&["run", "--recording", &file]);
    let err = String::from_utf8_lossy(&stopped.stderr);
    assert!(
        !stopped.status.success() && err.contains("the request of turn 2 is not the one that was recorded"),
        "{err}"
    );
    assert!(err.contains("--lenient"), "{err}");
    assert!(example.run(&["run", "--recording", &file, "--lenient"]).status.success());
    for (args, part) in [
        (vec!["run", "--recording", "policy.toml"], "read recording policy.toml"),
        (vec!["run", "--recording", "r-none"], "r-none"),
        (vec!["run", "--recording", &file, "--approve", "net"], "approve steps by name"),
    ] {
        let refused = example.run(&args);
        let err = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && err.contains(part), "{args:?}: {err}");
    }
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/recordings").join(name)
}

/// Records a run of the scripted server, compares it with the file that is shipped, and plans with that.
#[track_caller]
fn check_shipped(name: &str, goal: &str, more: &[&str], replies: &[Value]) {
    let example = Example::new();
    let by_model = by_model(&example, goal, more, replies);
    let file = example.path("said.jsonl");
    assert!(example.run(&["replay", "last", "--export", file.to_str().expect("text")]).status.success());
    let text = fs::read_to_string(&file).expect("the recording reads");
    let (head, rest) = text.split_once('\n').expect("it has lines");
    let mut head: Value = serde_json::from_str(head).expect("the head is JSON");
    assert!(head["note"].as_str().is_some_and(|note| note.contains("a recording of run r-")), "{head}");
    head["note"] = NOTE.into();
    expect_file![shipped(name)].assert_eq(&format!("{head}\n{rest}"));
    let fresh = Example::new();
    let again = lines(&fresh, &["--json", "run", "--recording", shipped(name).to_str().expect("text")]);
    assert_eq!(report(&again)["answer"], report(&by_model)["answer"]);
    assert_eq!(admitted(&again), admitted(&by_model));
}

#[test]
fn the_recordings_that_are_shipped_are_those_of_the_scripted_server_and_run() {
    check_shipped("net-revenue.jsonl", GOAL, &[], &[plan(), answer(1)]);
    let mut wrong = plan();
    wrong["steps"][0]["tool"] = "csv.agregate".into();
    check_shipped("mended-plan.jsonl", GOAL, &[], &[wrong, plan(), answer(2)]);
    let goal = "Tell how much the region that is given brought.";
    let inputs = ["--set", "orders=/data/orders.csv", "--set", "region=North"];
    let by_region = json!({"steps": [{"id": "net", "tool": "csv.aggregate", "args": {
        "path": {"$from": "input.orders", "path": ""}, "group_by": [], "metrics": [{"measure": "sum", "column": "amount"}],
        "filter": [{"column": "region", "comparison": "equal", "value": {"$from": "input.region", "path": ""}}]}}]});
    let brought = json!({"answer": {"$from": "t1.net", "path": "/rows/0"}});
    check_shipped("given-inputs.jsonl", goal, &inputs, &[by_region, brought]);
}

#[test]
fn what_a_person_gives_beside_a_goal_is_shown_and_stands_in_arguments_as_data() {
    let example = Example::new();
    fs::write(example.path("where.txt"), "/data/orders.csv").expect("a file is written");
    let steps = json!({"steps": [{"id": "net", "tool": "csv.aggregate", "args": {
        "path": {"$from": "input.orders", "path": ""}, "group_by": [], "metrics": [{"measure": "count"}]}}]});
    let script = [
        json!({"expect": {"/messages/1/content": [
            {"contains": "<inputs>"}, {"contains": "input.orders"}, {"contains": "input.note"}, {"not_contains": "hush hush"},
        ]}, "reply": {"json": steps}}),
        json!({"expect": {"/messages/1/content": [{"contains": "t1.net"}, {"contains": "<left>"}]},
            "reply": {"json": {"answer": {"$from": "t1.net", "path": "/rows/0/0"}}}}),
    ];
    let model = FakeLlm::start(&script.map(|step| step.to_string()).join("\n")).expect("the script reads");
    let (base_url, note) = (model.base_url(), format!("note={}", "hush ".repeat(1_000)));
    let args = [
        "--json",
        "run",
        "--goal",
        "count the orders",
        "--base-url",
        &base_url,
        "--model",
        "scripted",
        "--input",
        "orders=@where.txt",
        "--set",
        &note,
    ];
    let lines = lines(&example, &args);
    model.finish().expect("every request was as the script says");
    assert_eq!(report(&lines)["steps"][0]["args"]["path"], "/data/orders.csv");
    let wrong = example.run(&["run", "--goal", "x", "--set", "a.b=1", "--base-url", &base_url, "--model", "m"]);
    assert_eq!(wrong.status.code(), Some(2), "a name that is no word: {}", String::from_utf8_lossy(&wrong.stderr));
}

#[test]
fn a_failed_step_is_shown_with_its_class_and_the_schema_and_no_path_of_this_machine() {
    let example = Example::new();
    let bad = json!({"steps": [{"id": "net", "tool": "csv.aggregate", "args": {
        "path": "/data/none.csv", "group_by": [], "metrics": [{"measure": "count"}]}, "on_failure": "skip"}]});
    let mut good = bad.clone();
    good["steps"][0]["args"]["path"] = "/data/orders.csv".into();
    let machine = example.path("").display().to_string();
    let script = [
        json!({"reply": {"json": bad}}),
        json!({"expect": {"/messages/1/content": [
            {"contains": "\"class\":\"tool.declared\""}, {"contains": "\"retryable\""}, {"contains": "/data/none.csv"},
            {"contains": "<left>"}, {"not_contains": machine.trim_end_matches('/')},
        ]}, "reply": {"json": good}}),
        json!({"reply": {"json": {"answer": {"$from": "t2.net", "path": "/rows/0/0"}}}}),
    ];
    let model = FakeLlm::start(&script.map(|step| step.to_string()).join("\n")).expect("the script reads");
    let base_url = model.base_url();
    let args = ["--json", "run", "--goal", "count the orders", "--base-url", &base_url, "--model", "scripted"];
    let lines = lines(&example, &args);
    model.finish().expect("every request was as the script says");
    assert_eq!(report(&lines)["state"], "succeeded");
}

#[test]
fn the_prompt_of_a_run_is_told_by_name_and_digest() {
    let example = Example::new();
    let lines = by_model(&example, GOAL, &[], &[plan(), answer(1)]);
    let prompt = &report(&lines)["prompt"];
    assert_eq!(prompt["name"], "plan/2");
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/prompts.md")).expect("the page reads");
    assert!(page.contains(prompt["digest"].as_str().expect("a digest")), "{prompt}");
    for args in [["show", "last", "--"].as_slice(), &["explain", "last", "net"]] {
        let args: Vec<&str> = args.iter().copied().filter(|arg| *arg != "--").collect();
        let told = String::from_utf8_lossy(&example.run(&args).stdout).into_owned();
        assert!(told.contains("plan/2 ("), "{args:?}: {told}");
    }
}
