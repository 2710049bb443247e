//! OpenAI's responses: `POST /v1/responses`, as one object or as numbered and named events, each item of the output
//! between its start and its end.

use serde_json::{Value, json};

use super::body::named_event;
use super::said::{CREATED, Finish, Said, pieces};
use super::usage::Tokens;

/// Stands for what was thought, as far as nobody can read it.
const ENCRYPTED: &str = "ZmFrZS1lbmNyeXB0ZWQ=";

/// Says it as one object.
pub(super) fn whole(said: &Said) -> Value {
    let output: Vec<Value> = items(said).into_iter().map(|item| item.whole).collect();
    finished(said, &output)
}

/// Says it as events.
pub(super) fn events(said: &Said) -> Vec<String> {
    let begun = head(said, "in_progress", &[]);
    let mut events = vec![
        json!({"type": "response.created", "response": begun}),
        json!({"type": "response.in_progress", "response": begun}),
    ];
    let mut output = Vec::new();
    for (index, item) in items(said).into_iter().enumerate() {
        events.push(json!({"type": "response.output_item.added", "output_index": index, "item": item.start}));
        for mut step in item.steps {
            step["output_index"] = index.into();
            step["item_id"] = item.whole["id"].clone();
            events.push(step);
        }
        events.push(json!({"type": "response.output_item.done", "output_index": index, "item": item.whole}));
        output.push(item.whole);
    }
    let end = if ending(said).is_some() { "response.incomplete" } else { "response.completed" };
    events.push(json!({"type": end, "response": finished(said, &output)}));
    for (n, event) in events.iter_mut().enumerate() {
        event["sequence_number"] = n.into();
    }
    events.iter().map(named_event).collect()
}

/// An item of the output: as it is, as it starts, and the events between.
struct Item {
    whole: Value,
    start: Value,
    steps: Vec<Value>,
}

fn items(said: &Said) -> Vec<Item> {
    let mut items: Vec<Item> = said.reasoning.map(|words| reasoning(said, words)).into_iter().collect();
    items.extend(said.text.as_deref().map(|words| message(said, words, &TEXT)));
    items.extend(said.refusal.map(|words| message(said, words, &REFUSAL)));
    items.extend((0..said.calls.len()).map(|n| function_call(said, n)));
    items
}

fn reasoning(said: &Said, words: &str) -> Item {
    let item = |summary: Value| {
        let mut item = json!({"id": said.id("rs_"), "type": "reasoning", "summary": summary});
        let included = said.request["include"].as_array().into_iter().flatten();
        if included.clone().any(|include| include == "reasoning.encrypted_content") {
            item["encrypted_content"] = ENCRYPTED.into();
        }
        item
    };
    let part = |text: &str| json!({"type": "summary_text", "text": text});
    let mut steps = vec![json!({"type": "response.reasoning_summary_part.added", "part": part("")})];
    let delta = |piece: &String| json!({"type": "response.reasoning_summary_text.delta", "delta": piece});
    steps.extend(pieces(words).iter().map(delta));
    steps.push(json!({"type": "response.reasoning_summary_text.done", "text": words}));
    steps.push(json!({"type": "response.reasoning_summary_part.done", "part": part(words)}));
    for step in &mut steps {
        step["summary_index"] = 0.into();
    }
    Item { whole: item(json!([part(words)])), start: item(json!([])), steps }
}

/// A kind of content of a message: the name of its part, of its field and of its events.
struct Kind {
    part: &'static str,
    field: &'static str,
    delta: &'static str,
    done: &'static str,
}

const TEXT: Kind =
    Kind { part: "output_text", field: "text", delta: "response.output_text.delta", done: "response.output_text.done" };

const REFUSAL: Kind =
    Kind { part: "refusal", field: "refusal", delta: "response.refusal.delta", done: "response.refusal.done" };

fn message(said: &Said, words: &str, kind: &Kind) -> Item {
    let part = |words: &str| {
        let mut part = json!({"type": kind.part, (kind.field): words});
        if kind.part == TEXT.part {
            part["annotations"] = json!([]);
            part["logprobs"] = json!([]);
        }
        part
    };
    let item = |status: &str, content: Value| {
        json!({
            "id": said.id("msg_"), "type": "message", "status": status, "role": "assistant", "content": content,
        })
    };
    let mut steps = vec![json!({"type": "response.content_part.added", "part": part("")})];
    steps.extend(pieces(words).iter().map(|piece| json!({"type": kind.delta, "delta": piece})));
    steps.push(json!({"type": kind.done, (kind.field): words}));
    steps.push(json!({"type": "response.content_part.done", "part": part(words)}));
    for step in &mut steps {
        step["content_index"] = 0.into();
        let is_text = step["type"] == TEXT.delta || step["type"] == TEXT.done;
        if is_text {
            step["logprobs"] = json!([]);
        }
    }
    let status = if ending(said).is_some() { "incomplete" } else { "completed" };
    Item { whole: item(status, json!([part(words)])), start: item("in_progress", json!([])), steps }
}

fn function_call(said: &Said, n: usize) -> Item {
    let call = &said.calls[n];
    let item = |status: &str, arguments: &str| {
        json!({
            "id": format!("fc_fake_{}_{n}", said.turn), "type": "function_call", "status": status,
            "call_id": said.call_id("call_", n), "name": call.name, "arguments": arguments,
        })
    };
    let delta = |piece: &String| json!({"type": "response.function_call_arguments.delta", "delta": piece});
    let mut steps: Vec<Value> = pieces(&call.arguments).iter().map(delta).collect();
    steps.push(json!({"type": "response.function_call_arguments.done", "arguments": call.arguments}));
    Item { whole: item("completed", &call.arguments), start: item("in_progress", ""), steps }
}

/// Returns why the response is incomplete, or nothing where it is complete.
fn ending<'a>(said: &Said<'a>) -> Option<&'a str> {
    match said.finish {
        Finish::Stop | Finish::Calls => None,
        Finish::Length => Some("max_output_tokens"),
        Finish::Filter => Some("content_filter"),
        Finish::Word(word) => Some(word),
    }
}

fn finished(said: &Said, output: &[Value]) -> Value {
    let ending = ending(said);
    let mut response = head(said, if ending.is_some() { "incomplete" } else { "completed" }, output);
    if let Some(reason) = ending {
        response["incomplete_details"] = json!({"reason": reason});
    }
    if let Some(tokens) = said.usage {
        response["usage"] = usage(tokens);
    }
    response
}

/// Makes the response without its end; most of it repeats the request.
fn head(said: &Said, status: &str, output: &[Value]) -> Value {
    let asked = |key: &str, usual: Value| match &said.request[key] {
        Value::Null => usual,
        value => value.clone(),
    };
    json!({
        "id": said.id("resp_"), "object": "response", "created_at": CREATED, "status": status, "background": false,
        "error": null, "incomplete_details": null, "instructions": asked("instructions", Value::Null),
        "max_output_tokens": asked("max_output_tokens", Value::Null), "max_tool_calls": null, "model": said.model,
        "output": output, "parallel_tool_calls": asked("parallel_tool_calls", true.into()),
        "previous_response_id": asked("previous_response_id", Value::Null),
        "reasoning": asked("reasoning", json!({"effort": null, "summary": null})), "service_tier": "default",
        "store": asked("store", true.into()), "temperature": asked("temperature", 1.0.into()),
        "text": asked("text", json!({"format": {"type": "text"}, "verbosity": "medium"})),
        "tool_choice": asked("tool_choice", "auto".into()), "tools": asked("tools", json!([])),
        "top_p": asked("top_p", 1.0.into()), "truncation": asked("truncation", "disabled".into()), "usage": null,
        "user": null, "metadata": {},
    })
}

/// Counts as OpenAI does: the request with what was cached, the reply with its reasoning.
fn usage(tokens: Tokens) -> Value {
    json!({
        "input_tokens": tokens.prompt,
        "input_tokens_details": {"cached_tokens": tokens.cached, "cache_write_tokens": tokens.written()},
        "output_tokens": tokens.reply,
        "output_tokens_details": {"reasoning_tokens": tokens.reasoning},
        "total_tokens": tokens.total(),
    })
}
