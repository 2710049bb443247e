//! Ollama's own chat: `POST /api/chat`, as one object or as a line of JSON for each piece.

use serde_json::{Value, json};

use super::said::{Finish, Said, pieces};
use super::verbatim::{self, verbatim};

/// The time that every reply bears.
const CREATED_AT: &str = "2023-11-14T22:13:20Z";

/// Says it as one object.
pub(super) fn whole(said: &Said) -> Value {
    let mut message = json!({"role": "assistant", "content": words(said)});
    if let Some(reasoning) = said.reasoning {
        message["thinking"] = reasoning.into();
    }
    if !said.calls.is_empty() {
        message["tool_calls"] = calls(said);
    }
    last(said, message)
}

/// Says it as lines.
pub(super) fn events(said: &Said) -> Vec<String> {
    let mut messages: Vec<Value> = Vec::new();
    let thinking = |piece: &String| json!({"role": "assistant", "content": "", "thinking": piece});
    messages.extend(pieces(said.reasoning.unwrap_or_default()).iter().map(thinking));
    messages.extend(pieces(words(said)).iter().map(|piece| json!({"role": "assistant", "content": piece})));
    if !said.calls.is_empty() {
        messages.push(json!({"role": "assistant", "content": "", "tool_calls": calls(said)}));
    }
    let mut lines: Vec<Value> = messages.into_iter().map(|message| line(said, message, false)).collect();
    lines.push(last(said, json!({"role": "assistant", "content": ""})));
    lines.iter().map(|line| format!("{}\n", verbatim::write(line))).collect()
}

/// A refusal has no place of its own here: it is words like others.
fn words<'a>(said: &'a Said) -> &'a str {
    said.text.as_deref().or(said.refusal).unwrap_or_default()
}

fn calls(said: &Said) -> Value {
    let call = |(n, call): (usize, &super::said::Call)| {
        let function = json!({"index": n, "name": call.name, "arguments": verbatim(&call.arguments)});
        json!({"id": said.call_id("call_", n), "function": function})
    };
    said.calls.iter().enumerate().map(call).collect()
}

fn line(said: &Said, message: Value, is_done: bool) -> Value {
    json!({"model": said.model, "created_at": CREATED_AT, "message": message, "done": is_done})
}

fn last(said: &Said, message: Value) -> Value {
    let mut line = line(said, message, true);
    line["done_reason"] = match said.finish {
        // It does not tell calls from an end, and has no filter.
        Finish::Stop | Finish::Calls | Finish::Filter => "stop",
        Finish::Length => "length",
        Finish::Word(word) => word,
    }
    .into();
    line["total_duration"] = 5_000_000.into();
    line["load_duration"] = 1_000_000.into();
    if let Some(tokens) = said.usage {
        line["prompt_eval_count"] = tokens.prompt.into();
        line["prompt_eval_duration"] = 1_000_000.into();
        line["eval_count"] = tokens.reply.into();
        line["eval_duration"] = 3_000_000.into();
        if tokens.cached > 0 {
            line["prompt_eval_cached_count"] = tokens.cached.into();
        }
    }
    line
}
