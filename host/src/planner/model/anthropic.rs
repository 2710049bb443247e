//! Reads the events of Anthropic's messages.

use super::heard::{Counted, Fault, Finish, Heard};
use crate::domain::Json;

/// Takes one event.
pub(super) fn read(event: &Json, heard: &mut Heard) {
    let at = event["index"].as_u64().unwrap_or_default();
    match event["type"].as_str().unwrap_or_default() {
        "message_start" => {
            heard.is_by(&event["message"]["model"]);
            count(&event["message"]["usage"], &mut heard.counted);
        }
        "content_block_start" => block(&event["content_block"], at, heard),
        "content_block_delta" => delta(&event["delta"], at, heard),
        "message_delta" => {
            count(&event["usage"], &mut heard.counted);
            if let Some(reason) = event["delta"]["stop_reason"].as_str() {
                heard.ends(finish(reason));
            }
        }
        "error" => heard.fault = Some(Fault::told(&event["error"])),
        _ => {}
    }
}

fn block(block: &Json, at: u64, heard: &mut Heard) {
    match block["type"].as_str() {
        Some("text") => heard.say(block["text"].as_str().unwrap_or_default()),
        Some("thinking") => heard.think(block["thinking"].as_str().unwrap_or_default()),
        Some("tool_use") => heard.call(at, block["name"].as_str().unwrap_or_default(), ""),
        _ => {}
    }
}

fn delta(delta: &Json, at: u64, heard: &mut Heard) {
    let text = |key: &str| delta[key].as_str().unwrap_or_default();
    match delta["type"].as_str() {
        Some("text_delta") => heard.say(text("text")),
        Some("thinking_delta") => heard.think(text("thinking")),
        Some("input_json_delta") => heard.call(at, "", text("partial_json")),
        _ => {}
    }
}

fn finish(reason: &str) -> Finish {
    match reason {
        "end_turn" | "tool_use" | "stop_sequence" => Finish::Done,
        "max_tokens" => Finish::Cut,
        "refusal" => Finish::Withheld(reason.to_owned()),
        "model_context_window_exceeded" => Finish::Overflow,
        // Such as `pause_turn`, which is to be gone on with.
        _ => Finish::Broken(reason.to_owned()),
    }
}

/// Adds what an event tells: the later one counts, and leaves out what has not changed. What was read from a cache and
/// written to one is told beside the rest of the request.
fn count(usage: &Json, counted: &mut Counted) {
    let later = |key: &str, before: Option<u64>| usage[key].as_u64().or(before);
    let fresh = usage["input_tokens"].as_u64();
    counted.cached = later("cache_read_input_tokens", counted.cached);
    counted.cache_write = later("cache_creation_input_tokens", counted.cache_write);
    counted.reply = later("output_tokens", counted.reply);
    let hour = usage["cache_creation"]["ephemeral_1h_input_tokens"].as_u64();
    counted.cache_write_1h = hour.or(counted.cache_write_1h);
    counted.reasoning = usage["output_tokens_details"]["thinking_tokens"].as_u64().or(counted.reasoning);
    if let Some(fresh) = fresh {
        let cached = counted.cached.unwrap_or_default().saturating_add(counted.cache_write.unwrap_or_default());
        counted.prompt = Some(fresh.saturating_add(cached));
    }
}
