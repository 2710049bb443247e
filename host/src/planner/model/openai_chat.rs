//! Reads the events of OpenAI's chat completions, with what compatible servers make of them.

use super::heard::{Counted, Fault, Finish, Heard};
use crate::domain::Json;

/// Takes one event.
pub(super) fn read(event: &Json, heard: &mut Heard) {
    if let Some(error) = event.get("error").filter(|error| !error.is_null()) {
        heard.fault = Some(Fault::told(error));
        return;
    }
    heard.is_by(&event["model"]);
    for usage in [&event["usage"], &event["x_groq"]["usage"]] {
        if usage.is_object() {
            heard.counted = counted(usage);
        }
    }
    let choice = &event["choices"][0];
    // Some servers send the whole message where a part of it is due.
    let said = if choice["delta"].is_object() { &choice["delta"] } else { &choice["message"] };
    message(said, heard);
    // Some servers write an empty one until there is one.
    if let Some(reason) = choice["finish_reason"].as_str().filter(|reason| !reason.is_empty()) {
        heard.ends(finish(reason));
    }
}

fn message(said: &Json, heard: &mut Heard) {
    match &said["content"] {
        Json::String(text) => heard.say(text),
        Json::Array(parts) => parts.iter().for_each(|part| content(part, heard)),
        _ => {}
    }
    if let Some(text) = ["reasoning_content", "reasoning"].into_iter().find_map(|key| said[key].as_str()) {
        heard.think(text);
    }
    if let Some(text) = said["refusal"].as_str() {
        heard.refuse(text);
    }
    for (n, call) in said["tool_calls"].as_array().into_iter().flatten().enumerate() {
        let at = call["index"].as_u64().unwrap_or(n as u64);
        let function = &call["function"];
        // Text by the protocol; some servers send the object itself.
        let arguments = match &function["arguments"] {
            Json::String(text) => text.clone(),
            Json::Null => String::new(),
            value => value.to_string(),
        };
        let id = call["id"].as_str().unwrap_or_default();
        heard.call_of(at, id, function["name"].as_str().unwrap_or_default(), &arguments);
    }
}

/// Content in parts, as Mistral's models that reason send it.
fn content(part: &Json, heard: &mut Heard) {
    if let Some(text) = part["text"].as_str() {
        heard.say(text);
    }
    for thought in part["thinking"].as_array().into_iter().flatten() {
        heard.think(thought["text"].as_str().unwrap_or_default());
    }
}

fn finish(reason: &str) -> Finish {
    match reason {
        // The last two are what some servers of open models say.
        "stop" | "tool_calls" | "function_call" | "eos" | "eos_token" => Finish::Done,
        "length" | "model_length" => Finish::Cut,
        "content_filter" => Finish::Withheld(reason.to_owned()),
        // Such as DeepSeek's `insufficient_system_resource`, and `error` and `aborted` of others.
        _ => Finish::Broken(reason.to_owned()),
    }
}

fn counted(usage: &Json) -> Counted {
    let (prompt, reply) = (&usage["prompt_tokens_details"], &usage["completion_tokens_details"]);
    Counted {
        prompt: usage["prompt_tokens"].as_u64(),
        // DeepSeek has a word of its own.
        cached: prompt["cached_tokens"].as_u64().or_else(|| usage["prompt_cache_hit_tokens"].as_u64()),
        cache_write: prompt["cache_write_tokens"].as_u64(),
        cache_write_1h: None,
        reply: usage["completion_tokens"].as_u64(),
        reasoning: reply["reasoning_tokens"].as_u64(),
        total: usage["total_tokens"].as_u64(),
    }
}
