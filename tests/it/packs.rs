//! What a planner is shown, as it stands in the request on the wire: few of many tools, nothing of what is large, and the same
//! beginning from turn to turn.

use std::fs;

use cofferdam_kit::fake_llm::FakeLlm;
use serde_json::{Value, json};
use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{LiftLowerAbi, ManglingAndAbi, Resolve};

use crate::demo::Example;

/// Tools that a request may offer here.
const TOOLS_MAX: usize = 8;

const GOAL: &str = "Aggregate the orders of /data/orders.csv, and read the note /data/reviews/long.txt.";

/// A component of so many functions that have nothing to do with the goal.
fn crowd(functions: usize) -> Vec<u8> {
    let functions: String =
        (0..functions).map(|n| format!("polish{n}-lamp: func(brightness: u32) -> u32;\n")).collect();
    let text = format!("package a:crowd@1.0.0;\ninterface crowd {{ {functions} }}\nworld w {{ export crowd; }}");
    let mut resolve = Resolve::default();
    let package = resolve.push_str("crowd.wit", &text).expect("the interface reads");
    let world = resolve.select_world(&[package], None).expect("it has one world");
    let mut module = dummy_module(&resolve, world, ManglingAndAbi::Legacy(LiftLowerAbi::Sync));
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).expect("the world is embedded");
    ComponentEncoder::default().module(&module).and_then(|mut encoder| encoder.encode()).expect("encoded")
}

/// The example with so many tools more, and a text of 40 KiB among its notes.
fn example(functions: usize) -> Example {
    let example = Example::new();
    fs::write(example.path("crowd.wasm"), crowd(functions)).expect("a component is written");
    let append = |name: &str, more: String| {
        let before = fs::read_to_string(example.path(name)).expect("the file reads");
        fs::write(example.path(name), before + &more).expect("the file is written");
    };
    append("cofferdam.toml", format!("crowd = \"crowd.wasm\"\n[planner]\ntools_max = {TOOLS_MAX}\n"));
    append("policy.toml", "\n[[rule]]\nname = \"crowd\"\nwhy = \"Lamps.\"\nallow = [\"crowd.*\"]\n".to_owned());
    fs::write(example.path("data/reviews/long.txt"), "hush-hush ".repeat(4_096)).expect("a note is written");
    example
}

fn aggregate(id: &str) -> Value {
    json!({"id": id, "tool": "csv.aggregate", "args": {
        "path": "/data/orders.csv", "group_by": [], "metrics": [{"measure": "count"}]}})
}

fn note() -> Value {
    json!({"id": "note", "tool": "notes.read", "args": {"path": "/data/reviews/long.txt"}})
}

/// What the model was sent in each turn: the system's message and the user's.
#[track_caller]
fn sent(example: &Example, steps: &[Value]) -> Vec<(String, String)> {
    let script = [
        json!({"reply": {"json": {"steps": steps}}}),
        json!({"reply": {"json": {"answer": {"$from": "t1.net", "path": "/rows/0/0"}}}}),
    ];
    let model = FakeLlm::start(&script.map(|step| step.to_string()).join("\n")).expect("the script reads");
    let base_url = model.base_url();
    example.report_of(&["--json", "run", "--goal", GOAL, "--base-url", &base_url, "--model", "scripted"]);
    let text = |body: &Value, n: usize| body["messages"][n]["content"].as_str().expect("a message").to_owned();
    let sent = model.requests().iter().map(|request| (text(&request.body, 0), text(&request.body, 1))).collect();
    model.finish().expect("every request was as the script says");
    sent
}

fn offered(system: &str) -> Vec<String> {
    let (_, tools) = system.split_once("\n<tools>\n").expect("tools are offered");
    let lines = tools.lines().take_while(|line| *line != "</tools>");
    let name = |line: &str| serde_json::from_str::<Value>(line).expect("a line of JSON")["tool"].to_string();
    lines.map(name).collect()
}

#[test]
fn of_many_tools_few_are_offered_and_of_a_long_text_nothing_is_shown() {
    let sent = sent(&example(200), &[aggregate("net"), note()]);
    for (system, user) in &sent {
        let offered = offered(system);
        assert_eq!(offered.len(), TOOLS_MAX, "{offered:?}");
        assert!(
            ["csv.aggregate", "notes.read"].iter().all(|tool| offered.contains(&format!("\"{tool}\""))),
            "{offered:?}"
        );
        assert!(!user.contains("hush") && !system.contains("hush"), "{user}");
        assert!(system.len() + user.len() < 100_000);
    }
    let (_, user) = &sent[1];
    assert!(user.contains("\"$from\":\"t1.note\"") && user.contains("text of 40960 characters"), "{user}");
}

#[test]
fn what_has_nothing_to_do_with_the_goal_changes_nothing_of_the_request_before_it() {
    let before = sent(&example(200), &[aggregate("net")]);
    let more_tools = sent(&example(201), &[aggregate("net")]);
    // Only the time that is left may differ.
    let stays = |user: &str| user.split_once("\n\n<left>").expect("what is left is told").0.to_owned();
    for ((system, user), (system_now, user_now)) in before.iter().zip(&more_tools) {
        assert_eq!(system, system_now, "one tool more");
        assert_eq!(stays(user), stays(user_now), "one tool more");
    }
    assert_eq!(before[0].0, before[1].0, "from turn to turn");
    let more_steps = sent(&example(200), &[aggregate("net"), aggregate("other")]);
    let (until, _) = before[1].1.split_once("\n</observations>").expect("a step was observed");
    assert_eq!(before[1].0, more_steps[1].0, "one step more");
    assert!(more_steps[1].1.starts_with(until), "one step more: {}", more_steps[1].1);
}
