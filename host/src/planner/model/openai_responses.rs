//! Reads the events of OpenAI's responses.

use super::heard::{Counted, Fault, Finish, Heard};
use crate::domain::Json;

/// Takes one event.
pub(super) fn read(event: &Json, heard: &mut Heard) {
    let delta = event["delta"].as_str().unwrap_or_default();
    let at = event["output_index"].as_u64().unwrap_or_default();
    heard.is_by(&event["response"]["model"]);
    match event["type"].as_str().unwrap_or_default() {
        "response.output_text.delta" => heard.say(delta),
        "response.refusal.delta" => heard.refuse(delta),
        "response.reasoning_text.delta" | "response.reasoning_summary_text.delta" => heard.think(delta),
        "response.function_call_arguments.delta" => heard.call(at, "", delta),
        "response.output_item.added" => item(&event["item"], at, heard, false),
        "response.output_item.done" => item(&event["item"], at, heard, true),
        "response.completed" => ended(&event["response"], Finish::Done, heard),
        "response.incomplete" => ended(&event["response"], incomplete(&event["response"]), heard),
        "response.failed" | "response.cancelled" => {
            heard.counted = counted(&event["response"]["usage"]);
            heard.fault = Some(Fault::told(&event["response"]["error"]));
        }
        // Its fields stand in the event itself, or below `error`.
        "error" => heard.fault = Some(Fault::told(if event["error"].is_object() { &event["error"] } else { event })),
        _ => {}
    }
}

/// A call. What it says when it is done is the whole of it: parts of it may have been left out.
fn item(item: &Json, at: u64, heard: &mut Heard, is_done: bool) {
    if item["type"] != "function_call" {
        return;
    }
    let (tool, arguments) = (item["name"].as_str().unwrap_or_default(), item["arguments"].as_str().unwrap_or_default());
    match is_done && !arguments.is_empty() {
        true => heard.whole_call(at, tool, arguments),
        false if !is_done => heard.call(at, tool, arguments),
        false => {}
    }
}

fn ended(response: &Json, finish: Finish, heard: &mut Heard) {
    heard.counted = counted(&response["usage"]);
    if !heard.has_begun() {
        output(response, heard);
    }
    heard.ends(finish);
}

/// Some servers say all at the end, and nothing before.
fn output(response: &Json, heard: &mut Heard) {
    for (n, item) in response["output"].as_array().into_iter().flatten().enumerate() {
        self::item(item, n as u64, heard, true);
        for part in item["content"].as_array().into_iter().flatten() {
            match part["type"].as_str() {
                Some("output_text") => heard.say(part["text"].as_str().unwrap_or_default()),
                Some("refusal") => heard.refuse(part["refusal"].as_str().unwrap_or_default()),
                _ => {}
            }
        }
    }
}

fn incomplete(response: &Json) -> Finish {
    match response["incomplete_details"]["reason"].as_str() {
        Some(reason @ "content_filter") => Finish::Withheld(reason.to_owned()),
        None | Some("max_output_tokens" | "max_tokens") => Finish::Cut,
        Some(reason) => Finish::Broken(reason.to_owned()),
    }
}

fn counted(usage: &Json) -> Counted {
    let (input, output) = (&usage["input_tokens_details"], &usage["output_tokens_details"]);
    Counted {
        prompt: usage["input_tokens"].as_u64(),
        cached: input["cached_tokens"].as_u64(),
        cache_write: input["cache_write_tokens"].as_u64(),
        cache_write_1h: None,
        reply: usage["output_tokens"].as_u64(),
        reasoning: output["reasoning_tokens"].as_u64(),
        total: usage["total_tokens"].as_u64(),
    }
}
