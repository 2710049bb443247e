//! Reads the events of Google's `streamGenerateContent`.

use super::heard::{Counted, Fault, Finish, Heard};
use crate::domain::Json;

/// Takes one event.
pub(super) fn read(event: &Json, heard: &mut Heard) {
    if event["error"].is_object() {
        heard.fault = Some(Fault::told(&event["error"]));
        return;
    }
    heard.is_by(&event["modelVersion"]);
    if event["usageMetadata"].is_object() {
        heard.counted = counted(&event["usageMetadata"]);
    }
    if let Some(reason) = event["promptFeedback"]["blockReason"].as_str() {
        heard.ends(Finish::Withheld(reason.to_owned()));
    }
    let candidate = &event["candidates"][0];
    for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
        self::part(part, heard);
    }
    if let Some(reason) = candidate["finishReason"].as_str() {
        let finish = finish(reason);
        if let (Finish::Withheld(_), Some(words)) = (&finish, candidate["finishMessage"].as_str()) {
            heard.refuse(words);
        }
        heard.ends(finish);
    }
}

fn part(part: &Json, heard: &mut Heard) {
    if let Some(call) = part.get("functionCall") {
        // A call comes whole, and has no number.
        let at = heard.calls.len() as u64;
        let arguments = call.get("args").map_or_else(|| "{}".to_owned(), Json::to_string);
        heard.call(at, call["name"].as_str().unwrap_or_default(), &arguments);
    }
    match (part["text"].as_str(), part["thought"] == true) {
        (Some(text), true) => heard.think(text),
        (Some(text), false) => heard.say(text),
        (None, _) => {}
    }
}

fn finish(reason: &str) -> Finish {
    match reason {
        "STOP" => Finish::Done,
        "MAX_TOKENS" => Finish::Cut,
        "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" | "MALFORMED_RESPONSE" => {
            Finish::Malformed(reason.to_owned())
        }
        "SAFETY" | "RECITATION" | "LANGUAGE" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" | "OTHER" => {
            Finish::Withheld(reason.to_owned())
        }
        // Such as `FINISH_REASON_UNSPECIFIED`.
        _ => Finish::Broken(reason.to_owned()),
    }
}

fn counted(usage: &Json) -> Counted {
    let count = |key: &str| usage[key].as_u64();
    // What its own tools read, and what it thinks, is told beside the rest.
    let sum =
        |some: Option<u64>, more: Option<u64>| some.or(more.and(Some(0))).map(|n| n.saturating_add(more.unwrap_or(0)));
    Counted {
        prompt: sum(count("promptTokenCount"), count("toolUsePromptTokenCount")),
        cached: count("cachedContentTokenCount"),
        cache_write: None,
        cache_write_1h: None,
        reply: sum(count("candidatesTokenCount"), count("thoughtsTokenCount")),
        reasoning: count("thoughtsTokenCount"),
        total: count("totalTokenCount"),
    }
}
