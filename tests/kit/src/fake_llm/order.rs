//! The order of a conversation: who may speak after whom, and that each call of a tool meets its result.

use std::collections::BTreeSet;

use serde_json::Value;

use super::protocol::Protocol;
use super::shape::Wrong;

/// Lists what is out of order in a body of the right form.
pub(super) fn wrongs(protocol: Protocol, body: &Value) -> Vec<Wrong> {
    match protocol {
        Protocol::Chat => chat(list(&body["messages"])),
        Protocol::Responses => responses(body),
        Protocol::Messages => messages(body),
        Protocol::Gemini => gemini(list(&body["contents"])),
        Protocol::Ollama => ollama(list(&body["messages"])),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn ids<'a>(values: &'a [Value], key: &str) -> BTreeSet<&'a str> {
    values.iter().filter_map(|value| value[key].as_str()).collect()
}

/// Each call is answered by a message of its own, before anybody else speaks.
fn chat(messages: &[Value]) -> Vec<Wrong> {
    let mut wrongs = Vec::new();
    let mut open: BTreeSet<&str> = BTreeSet::new();
    for (n, message) in messages.iter().enumerate() {
        if message["role"] == "tool" {
            if !message["tool_call_id"].as_str().is_some_and(|id| open.remove(id)) {
                let what = "messages with role 'tool' must be a response to a preceding message with 'tool_calls'";
                wrongs.push(Wrong::new(format!("/messages/{n}/tool_call_id"), what));
            }
            continue;
        }
        wrongs.extend(unanswered(&format!("/messages/{n}"), &open));
        open = ids(list(&message["tool_calls"]), "id");
    }
    wrongs.extend(unanswered(&format!("/messages/{}", messages.len()), &open));
    wrongs
}

fn unanswered(pointer: &str, open: &BTreeSet<&str>) -> Option<Wrong> {
    let ids: Vec<&str> = open.iter().copied().collect();
    let what = || format!("these calls must be answered before this: {}", ids.join(", "));
    (!ids.is_empty()).then(|| Wrong::new(pointer, what()))
}

/// Each output follows its call, and each call has an output, wherever it stands.
fn responses(body: &Value) -> Vec<Wrong> {
    // What an earlier response holds is not seen here.
    if body["previous_response_id"].is_string() || body.get("conversation").is_some() {
        return Vec::new();
    }
    let mut wrongs = Vec::new();
    let mut open: BTreeSet<&str> = BTreeSet::new();
    for (n, item) in list(&body["input"]).iter().enumerate() {
        let id = item["call_id"].as_str().unwrap_or_default();
        match item["type"].as_str() {
            Some("function_call" | "custom_tool_call") => {
                open.insert(id);
            }
            Some("function_call_output" | "custom_tool_call_output") if !open.remove(id) => {
                let what = format!("No tool call found for function call output with call_id {id}.");
                wrongs.push(Wrong::new(format!("/input/{n}/call_id"), what));
            }
            _ => {}
        }
    }
    wrongs.extend(unanswered("/input", &open));
    wrongs
}

/// Two speak by turns, a person first; and all that a model asked for is answered in the turn behind, before any words.
fn messages(body: &Value) -> Vec<Wrong> {
    let messages = list(&body["messages"]);
    let mut wrongs: Vec<Wrong> = thinking(body).into_iter().collect();
    let mut open: BTreeSet<&str> = BTreeSet::new();
    for (n, message) in messages.iter().enumerate() {
        let role = if n % 2 == 0 { "user" } else { "assistant" };
        if message["role"] != role {
            let what = format!("roles must alternate between \"user\" and \"assistant\": here it is \"{role}\"");
            wrongs.push(Wrong::new(format!("/messages/{n}/role"), what));
            return wrongs;
        }
        let blocks = list(&message["content"]);
        wrongs.extend(results(n, blocks, &mut open));
        wrongs.extend(unanswered(&format!("/messages/{n}"), &open));
        let wanted: Vec<Value> = blocks.iter().filter(|block| block["type"] == "tool_use").cloned().collect();
        if ids(&wanted, "id").len() < wanted.len() {
            wrongs.push(Wrong::new(format!("/messages/{n}/content"), "`tool_use` ids must be unique"));
        }
        open = blocks.iter().filter(|b| b["type"] == "tool_use").filter_map(|b| b["id"].as_str()).collect();
    }
    wrongs.extend(unanswered(&format!("/messages/{}", messages.len()), &open));
    wrongs
}

/// Takes the results of one turn off what is open.
fn results(n: usize, blocks: &[Value], open: &mut BTreeSet<&str>) -> Vec<Wrong> {
    let mut wrongs = Vec::new();
    let mut has_words = false;
    for (b, block) in blocks.iter().enumerate() {
        let pointer = format!("/messages/{n}/content/{b}");
        match block["type"].as_str() {
            Some("tool_result") if has_words => {
                wrongs.push(Wrong::new(pointer, "`tool_result` blocks must come before any other"));
            }
            Some("tool_result") => {
                if !block["tool_use_id"].as_str().is_some_and(|id| open.remove(id)) {
                    let what =
                        "unexpected `tool_use_id`: each `tool_result` must have a `tool_use` in the message before";
                    wrongs.push(Wrong::new(format!("{pointer}/tool_use_id"), what));
                }
            }
            _ => has_words = true,
        }
    }
    wrongs
}

/// What is thought counts as what is said.
fn thinking(body: &Value) -> Option<Wrong> {
    let budget = body["thinking"]["budget_tokens"].as_u64()?;
    let is_less = budget < body["max_tokens"].as_u64().unwrap_or_default();
    (!is_less).then(|| Wrong::new("/max_tokens", "`max_tokens` must be greater than `thinking.budget_tokens`"))
}

/// A person speaks first, and as many responses follow as functions were called.
fn gemini(contents: &[Value]) -> Vec<Wrong> {
    let mut wrongs = Vec::new();
    let mut called: Vec<&str> = Vec::new();
    if contents.first().is_some_and(|content| content["role"] == "model") {
        wrongs.push(Wrong::new("/contents/0/role", "a conversation begins with \"user\""));
    }
    for (n, content) in contents.iter().enumerate() {
        let named = |key: &str| -> Vec<&str> {
            list(&content["parts"]).iter().filter_map(|part| part[key]["name"].as_str()).collect()
        };
        let (mut calls, mut responses) = (named("functionCall"), named("functionResponse"));
        called.sort_unstable();
        responses.sort_unstable();
        if called != responses {
            let what = "the function responses must be those of the function calls of the turn before";
            wrongs.push(Wrong::new(format!("/contents/{n}/parts"), what));
        }
        let role = if calls.is_empty() { "user" } else { "model" };
        if (!calls.is_empty() || !responses.is_empty()) && content["role"] != role {
            wrongs.push(Wrong::new(format!("/contents/{n}/role"), format!("this is said by \"{role}\"")));
        }
        called = std::mem::take(&mut calls);
    }
    if !called.is_empty() {
        wrongs.push(Wrong::new("/contents", "the function calls of the last turn have no responses"));
    }
    wrongs
}

/// A result follows calls.
fn ollama(messages: &[Value]) -> Vec<Wrong> {
    let mut wrongs = Vec::new();
    let mut left = 0;
    for (n, message) in messages.iter().enumerate() {
        if message["role"] != "tool" {
            left = list(&message["tool_calls"]).len();
        } else if left == 0 {
            wrongs.push(Wrong::new(format!("/messages/{n}"), "a message of a tool follows a call of one"));
        } else {
            left -= 1;
        }
    }
    wrongs
}
