//! `suggest`: plain words without a model, through the real program and the example's tools.

use std::fs;

use serde_json::{Value, json};

use crate::demo::Example;

#[track_caller]
fn suggested(example: &Example, args: &[&str]) -> Value {
    let output = example.run(&[&["--json", "suggest"], args].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON document")
}

#[test]
fn words_find_their_tool_and_what_they_say_is_told_with_its_place() {
    let example = Example::new();
    for (words, tool) in [
        ("compute (2 + 3) * 4", "math.eval"),
        ("how many words are in \"one two three\"", "text.stats"),
        ("the most frequent words of \"tea tea coffee\"", "text.keywords"),
        ("add the numbers 1.5 and 2.25", "math.sum"),
        ("which notes are in the folder /data/reviews", "notes.list"),
    ] {
        let tools = suggested(&example, &[words])["tools"].clone();
        let first: Vec<&str> =
            tools.as_array().into_iter().flatten().take(2).filter_map(|t| t["name"].as_str()).collect();
        assert!(first.contains(&tool), "{words}: {first:?}");
    }
    let form = suggested(&example, &["compute (2 + 3) * 4"])["form"].clone();
    assert_eq!(form["missing"], json!([]));
    let found = json!({"value": "(2 + 3) * 4", "span": [8, 19]});
    assert_eq!((&form["tool"], &form["fields"][0]["found"]), (&json!("math.eval"), &found));
    let out = example.run(&["suggest", "keywords", "of", "\"tea tea coffee\"", "--tool", "text.keywords"]);
    let out = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.contains("tea tea coffee at 13..27") && out.contains("missing: limit"), "{out}");
    assert_eq!(example.run(&["suggest", "qqq zzz"]).status.code(), Some(2));
}

#[test]
fn what_is_written_is_a_workflow_and_nothing_is_overwritten() {
    let example = Example::new();
    let words = ["suggest", "compute 17 times 23", "--write", "sum.toml"];
    assert!(example.run(&words).status.success());
    assert_eq!(example.run(&words).status.code(), Some(2), "it is there already");
    assert!(example.run(&["plan", "check", "sum.toml"]).status.success());
    let report = example.report_of(&["--json", "run", "sum.toml"]);
    assert_eq!(report["answer"], "391", "{report}");
    let open = ["suggest", "keywords of \"tea tea coffee\"", "--tool", "text.keywords", "--write", "open.toml"];
    assert!(example.run(&open).status.success());
    let text = fs::read_to_string(example.path("open.toml")).expect("it was written");
    assert!(text.contains("# missing: limit = ") && text.contains("text = \"tea tea coffee\""), "{text}");
    assert_eq!(example.run(&["plan", "check", "open.toml"]).status.code(), Some(3), "what is missing is missed");
}

#[test]
fn nothing_runs_that_nobody_confirmed_and_what_runs_is_a_run_as_any_other() {
    let example = Example::new();
    let runs = || String::from_utf8_lossy(&example.run(&["--json", "runs"]).stdout).into_owned();
    let before = runs();
    let unconfirmed = example.run(&["suggest", "compute 17 times 23", "--run"]);
    assert_eq!(unconfirmed.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unconfirmed.stderr).contains("nobody is there to confirm it"));
    let words = "keywords of \"tea tea coffee\"";
    let open = example.run(&["suggest", words, "--tool", "text.keywords", "--run", "--yes"]);
    let err = String::from_utf8_lossy(&open.stderr).into_owned();
    assert!(open.status.code() == Some(2) && err.contains("limit is missing"), "{err}");
    assert_eq!(runs(), before, "nothing ran");
    let given = ["--json", "suggest", words, "--tool", "text.keywords", "--set", "limit=1", "--run", "--yes"];
    assert_eq!(example.report_of(&given)["answer"], json!([{"word": "tea", "count": 2}]));
    let report = example.report_of(&["--json", "suggest", "compute 17 times 23", "--run", "--yes"]);
    assert_eq!((&report["answer"], &report["planner"]), (&json!("391"), &json!("workflow")));
    // To confirm is not to approve: what policy asks a person about waits for one.
    let words = ["suggest", "write \"hello\" to the file /reports/a.md", "--tool", "notes.write", "--run", "--yes"];
    let waits = example.run(&words);
    assert_eq!(waits.status.code(), Some(5), "{}", String::from_utf8_lossy(&waits.stderr));
    assert!(!example.path("reports/a.md").exists());
}
