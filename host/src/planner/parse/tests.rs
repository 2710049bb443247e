//! What is read of a reply, and what is said of one that is wrong.

use serde_json::json;

use super::*;
use crate::domain::{Effect, ForEach, OnFailure};
use crate::planner::OfferedTool;

fn pack() -> ContextPack {
    let input_schema = json!({
        "type": "object", "required": ["path", "deep"],
        "properties": {
            "path": {"type": "string"}, "limit": {"type": "integer"},
            "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "deep": {"type": "object", "required": [], "properties": {"x": {"type": "string"}}},
            "rows": {"type": "array", "items": {"type": "object", "properties": {"y": {"enum": ["a"]}}}},
        }
    });
    let tool = OfferedTool {
        name: "csv.sum".parse().unwrap(),
        summary: String::new(),
        effect: Effect::Pure,
        input_schema,
        output_schema: json!({}),
    };
    ContextPack { turn: 1, tools: vec![tool], ..ContextPack::default() }
}

fn read(text: &str) -> Result<Proposal, Failure> {
    super::read(text, &pack(), &ReplyLimits::default())
}

#[test]
fn each_of_the_three_is_read() {
    let nothing = json!({"steps": [], "answer": null, "question": "", "reasoning": "because"});
    let with = |key: &str, value: Json| {
        let mut reply = nothing.clone();
        reply[key] = value;
        read(&reply.to_string()).unwrap()
    };
    assert_eq!(
        with("answer", json!({"$from": "t1.a", "path": ""})),
        Proposal::Answer(json!({"$from": "t1.a", "path": ""}))
    );
    assert_eq!(with("answer", json!(0)), Proposal::Answer(json!(0)));
    assert_eq!(with("answer", json!([])), Proposal::Answer(json!([])));
    assert_eq!(with("question", json!("Which?")), Proposal::Question("Which?".to_owned()));
    let steps = json!([{"id": "a", "tool": "csv.sum", "args": {"path": "p"}, "needs": ["t1.b"], "on_failure": "skip",
        "timeout_ms": null, "approval": true, "when": "steps.b > 1",
        "for_each": {"in": {"$from": "b", "path": ""}, "items_max": 3, "parallel_max": null}}]);
    let step = PlanStep {
        when: Some("steps.b > 1".to_owned()),
        for_each: Some(ForEach { list: json!({"$from": "b", "path": ""}), items_max: 3, parallel_max: None }),
        args: json!({"path": "p"}),
        needs: vec!["t1.b".to_owned()],
        on_failure: OnFailure::Skip,
        approval: true,
        ..bare_step("a".to_owned(), "csv.sum".to_owned())
    };
    assert_eq!(with("steps", steps), Proposal::Plan(Plan { steps: vec![step], ..Plan::default() }));
}

#[test]
fn a_fence_is_taken_off_only_where_it_is_all_there_is() {
    for fine in ["```json\n{\"answer\": 1}\n```", "  ```\n{\"answer\": 1}```\n", "{\"answer\": 1}"] {
        assert_eq!(read(fine), Ok(Proposal::Answer(json!(1))), "{fine}");
    }
    for bad in ["Here it is:\n```json\n{\"answer\": 1}\n```", "```json\n{}\n```\n```json\n{}\n```"] {
        assert_eq!(read(bad).unwrap_err().kind, Kind::ModelInvalidJson, "{bad}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    use Kind::{ModelInvalidJson as Invalid, ModelNoAction as NoAction, ModelSchema as Schema};
    let deep = format!("{{\"answer\": {}1{}}}", "[".repeat(60), "]".repeat(60));
    for (reply, kind, parts) in [
        ("", Invalid, vec!["EOF"]),
        ("I would sum them.", Invalid, vec!["line 1"]),
        ("{\"answer\": 1, \"answer\": 2}", Invalid, vec!["`/answer` stands twice"]),
        ("{\"answer\": NaN}", Invalid, vec!["expected value"]),
        (&deep, Invalid, vec!["too many levels"]),
        ("[]", Schema, vec!["not an object"]),
        ("{}", NoAction, vec!["find a plan"]),
        (r#"{"steps": [], "answer": null}"#, NoAction, vec![]),
        (r#"{"steps": [{"id": "a", "tool": "b"}], "answer": 1}"#, Schema, vec!["exactly one"]),
        (r#"{"answer": 1, "question": "a"}"#, Schema, vec!["exactly one"]),
        (r#"{"question": 7}"#, Schema, vec!["`/question` is not text"]),
        (r#"{"answer": 1, "a/b": 1}"#, Schema, vec!["`/a~1b` is unknown"]),
        // What may be spent, and what is taken back, is not a model's to say.
        (r#"{"steps": [{"id": "a", "run": {"goal": "g"}}]}"#, Schema, vec!["`/steps/0/run` is unknown"]),
        (
            r#"{"steps": [{"id": "a", "tool": "b.c", "undo": {}, "retry": {}}], "assert": ["true"], "budget": {}}"#,
            Schema,
            vec![
                "`/steps/0/undo` is unknown",
                "`/steps/0/retry` is unknown",
                "`/assert` is unknown",
                "`/budget` is unknown",
            ],
        ),
        (
            r#"{"steps": [{"id": "a", "tool": "b.c", "for_each": {"in": []}, "on_failure": "fallback:"}]}"#,
            Schema,
            vec!["`/steps/0/for_each` is not", "`/steps/0/on_failure` is not"],
        ),
        (r#"{"steps": {}}"#, Schema, vec!["`/steps` is not a list"]),
        (r#"{"steps": [7]}"#, Schema, vec!["`/steps/0` is not an object"]),
        (
            r#"{"steps": [{"tool": 7, "args": [], "needs": [1], "timeout_ms": -1, "on_failure": "undo", "approval": 1, "x": 1}]}"#,
            Schema,
            vec![
                "`/steps/0/id` is missing",
                "`/steps/0/tool` is not text",
                "`/steps/0/args` is not an object",
                "`/steps/0/needs` is not a list",
                "`/steps/0/timeout_ms` is not a whole",
                "`/steps/0/on_failure` is not `fail`, `skip` or `fallback:` with the id of a step",
                "`/steps/0/approval` is not true or false",
                "`/steps/0/x` is unknown",
            ],
        ),
    ] {
        let failure = read(reply).unwrap_err();
        assert_eq!(failure.kind, kind, "{reply}");
        for part in parts {
            assert!(failure.message.contains(part), "{reply}: {}", failure.message);
        }
    }
}

#[test]
fn a_reply_has_bounds() {
    let limits = ReplyLimits { bytes_max: 10, ..ReplyLimits::default() };
    let failure = parse("{\"answer\": 1}", &pack(), &limits).unwrap_err();
    assert!(failure.message.contains("more than 10"), "{failure}");
    let steps: Vec<Json> = (0..50).map(|_| json!({"tool": "a.b"})).collect();
    let failure = read(&json!({ "steps": steps }).to_string()).unwrap_err();
    assert!(failure.message.ends_with("and 38 more"), "{failure}");
}

fn args_of(proposal: Proposal) -> Json {
    let Proposal::Plan(plan) = proposal else { panic!("no plan: {proposal:?}") };
    plan.steps[0].args.clone()
}

#[test]
fn nulls_for_what_is_left_out_are_taken_out() {
    let args =
        json!({"path": null, "limit": null, "maybe": null, "deep": {"x": null}, "rows": [{"y": null}], "odd": null});
    let kept = json!({"path": null, "maybe": null, "deep": {}, "rows": [{}], "odd": null});
    let step = |tool: &str| json!({"steps": [{"id": "a", "tool": tool, "args": args}]}).to_string();
    assert_eq!(args_of(read(&step("csv.sum")).unwrap()), kept);
    // A tool that is not offered is the check's to refuse, with its arguments as they came.
    assert_eq!(args_of(read(&step("csv.other")).unwrap()), args);
}

#[test]
fn native_calls_are_steps_without_references() {
    let call = |arguments: &str| NativeCall { tool: "csv.sum".to_owned(), arguments: arguments.to_owned() };
    let read = |calls: &[NativeCall]| parse_calls(calls, &pack(), &ReplyLimits::default());
    let Ok(Proposal::Plan(plan)) =
        read(&[call(r#"{"path": "a", "limit": null}"#), call(r#"{"path": {"$from": "x"}}"#)])
    else {
        panic!("no plan")
    };
    assert_eq!(plan.steps.iter().map(|step| step.id.as_str()).collect::<Vec<_>>(), ["call1", "call2"]);
    assert_eq!(plan.steps[0].args, json!({"path": "a"}));
    assert_eq!(plan.steps[1].args, json!({"path": {"$literal": {"$from": "x"}}}));
    let failure = read(&[call("{\"path\": ")]).unwrap_err();
    assert_eq!(failure.kind, Kind::ModelInvalidJson);
    assert!(failure.message.contains("/tool_calls/0"), "{failure}");
    for bad in ["[]", r#"{"$from": "x"}"#] {
        assert_eq!(read(&[call(bad)]).unwrap_err().kind, Kind::ModelSchema, "{bad}");
    }
}

#[test]
fn a_planner_may_say_that_it_is_not_up_to_it() {
    assert_eq!(read(r#"{"abstain": "too many files"}"#), Ok(Proposal::Abstention("too many files".to_owned())));
}

#[test]
fn doubts_are_read_within_their_bounds() {
    let step = |fields: &str| read(&format!(r#"{{"steps": [{{"id": "a", "tool": "b.c", {fields}}}]}}"#));
    let Ok(Proposal::Plan(plan)) = step(r#""confidence": 0.25, "flags": [" odd date ", ""], "after": ["b"]"#) else {
        panic!("no plan")
    };
    assert_eq!((plan.steps[0].confidence, plan.steps[0].flags.as_slice()), (Some(0.25), &["odd date".to_owned()][..]));
    assert_eq!(plan.steps[0].after, ["b"]);
    let many = json!(vec!["x"; 9]).to_string();
    for (fields, what) in [
        (r#""confidence": 1.01"#.to_owned(), "`/steps/0/confidence` is not a number from 0 to 1"),
        (r#""confidence": "high""#.to_owned(), "`/steps/0/confidence` is not"),
        (format!(r#""flags": {many}"#), "`/steps/0/flags` is not a list of at most 8 texts of 40 characters"),
        (format!(r#""flags": ["{}"]"#, "x".repeat(41)), "`/steps/0/flags` is not"),
        (r#""after": 1"#.to_owned(), "`/steps/0/after` is not a list of names of steps"),
    ] {
        let failure = step(&fields).unwrap_err();
        assert!(failure.kind == Kind::ModelSchema && failure.message.contains(what), "{fields}: {}", failure.message);
    }
}

#[test]
fn arguments_may_be_written_as_text_where_a_format_has_no_room_for_them() {
    let step = |args: Json| read(&json!({"steps": [{"id": "a", "tool": "csv.sum", "args": args}]}).to_string());
    assert_eq!(args_of(step(json!(r#"{"path": "p", "limit": null}"#)).unwrap()), json!({"path": "p"}));
    for (text, what) in
        [("[]", "is not an object"), ("{\"a\": 1, \"a\": 2}", "stands twice"), ("{", "is no JSON object")]
    {
        let failure = step(json!(text)).unwrap_err();
        assert!(
            failure.message.contains("`/steps/0/args` is") && failure.message.contains(what),
            "{text}: {}",
            failure.message
        );
    }
}

#[test]
fn what_is_kept_of_native_calls_is_read_as_they_were() {
    let call = |arguments: &str| NativeCall { tool: "csv.sum".to_owned(), arguments: arguments.to_owned() };
    for calls in [
        vec![call(r#"{"path": "a"}"#), call("{\"path\": {\"$from\": \"x\"}}")],
        vec![call("{\"path\": ")],
        vec![call("[]")],
    ] {
        let kept = written("I sum them.", &calls);
        assert_eq!(read(&kept), parse_calls(&calls, &pack(), &ReplyLimits::default()), "{kept}");
        assert!(calls.iter().all(|call| kept.contains(&json!(call.arguments).to_string())), "byte for byte: {kept}");
    }
    // A second proposal beside them: nobody knows which is meant.
    for (text, key) in [(r#"{"answer": 1, "steps": []}"#, "answer"), ("```json\n{\"steps\": [{}]}\n```", "steps")] {
        let failure = read(&written(text, &[call(r#"{"path": "a"}"#)])).unwrap_err();
        assert_eq!(failure.kind, Kind::ModelSchema);
        assert!(failure.message.contains(&format!("both calls and `{key}`")), "{}", failure.message);
    }
    for text in [r#"{"steps": [], "answer": null, "reasoning": "I sum."}"#, r#"{"answer": "#, "[1]"] {
        assert!(read(&written(text, &[call(r#"{"path": "a"}"#)])).is_ok(), "{text}");
    }
    // As logs of the first version have it.
    let calls = vec![call("{\"path\": \"a\"}")];
    let earlier = json!([{"tool": "csv.sum", "arguments": "{\"path\": \"a\"}"}]).to_string();
    assert_eq!(read(&earlier), parse_calls(&calls, &pack(), &ReplyLimits::default()));
    // What only looks like it is text.
    assert!(read(r#"{"tool_calls": [{"name": "x"}]}"#).unwrap_err().message.contains("`/tool_calls` is unknown"));
}
