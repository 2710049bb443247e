//! Gemini's `generateContent`: one object, or the same object several times, each with the next parts.

use serde_json::{Value, json};

use super::said::{Finish, Said, pieces};
use super::usage::Tokens;
use super::verbatim::{self, verbatim};

/// Signs what was thought, as far as nobody can check it.
const SIGNATURE: &str = "ZmFrZS1zaWduYXR1cmU=";

/// Says it as one object.
pub(super) fn whole(said: &Said) -> Value {
    if is_blocked(said) {
        return blocked(said);
    }
    let mut parts: Vec<Value> = said.reasoning.map(thought).into_iter().collect();
    parts.extend(said.text.as_deref().map(|words| json!({"text": words})));
    parts.extend(calls(said));
    let mut response = response(said, parts);
    end(said, &mut response);
    response
}

/// Says it as events.
pub(super) fn events(said: &Said) -> Vec<String> {
    if is_blocked(said) {
        return vec![event(&blocked(said))];
    }
    let thoughts = said.reasoning.map(pieces).unwrap_or_default();
    let words = said.text.as_deref().map(pieces).unwrap_or_default();
    let mut steps: Vec<Vec<Value>> = thoughts.iter().map(|piece| vec![thought(piece)]).collect();
    steps.extend(words.iter().map(|piece| vec![json!({"text": piece})]));
    // Calls are not cut into pieces, and come together.
    let calls = calls(said);
    if !calls.is_empty() || steps.is_empty() {
        steps.push(calls);
    }
    let mut responses: Vec<Value> = steps.into_iter().map(|parts| response(said, parts)).collect();
    if let Some(last) = responses.last_mut() {
        end(said, last);
    }
    responses.iter().map(event).collect()
}

fn event(response: &Value) -> String {
    format!("data: {}\r\n\r\n", verbatim::write(response))
}

/// Tells whether the prompt itself was refused, so that there is no candidate.
fn is_blocked(said: &Said) -> bool {
    said.refusal.is_some_and(str::is_empty)
}

fn blocked(said: &Said) -> Value {
    let mut response = json!({
        "promptFeedback": {"blockReason": "SAFETY", "safetyRatings": [danger()]},
        "modelVersion": said.model, "responseId": said.id("resp_"),
    });
    if let Some(tokens) = said.usage {
        let none = Tokens { reply: 0, reasoning: 0, ..tokens };
        response["usageMetadata"] = usage(none, true);
    }
    response
}

fn response(said: &Said, parts: Vec<Value>) -> Value {
    let mut candidate = json!({"index": 0});
    if !parts.is_empty() {
        candidate["content"] = json!({"role": "model", "parts": parts});
    }
    let mut response = json!({"candidates": [candidate], "modelVersion": said.model, "responseId": said.id("resp_")});
    if let Some(tokens) = said.usage {
        response["usageMetadata"] = usage(tokens, false);
    }
    response
}

/// Makes `response` the last one.
fn end(said: &Said, response: &mut Value) {
    let candidate = &mut response["candidates"][0];
    candidate["finishReason"] = finish(said).into();
    match said.refusal {
        Some(words) => {
            candidate["finishMessage"] = words.into();
            candidate["safetyRatings"] = json!([danger()]);
        }
        None if !said.calls.is_empty() => {
            candidate["finishMessage"] = "Model generated function call(s).".into();
        }
        None => {}
    }
    if let Some(tokens) = said.usage {
        response["usageMetadata"] = usage(tokens, true);
    }
}

fn thought(words: &str) -> Value {
    json!({"text": words, "thought": true})
}

fn calls(said: &Said) -> Vec<Value> {
    let call = |(n, call): (usize, &super::said::Call)| {
        let mut wanted = json!({"name": call.name, "args": verbatim(&call.arguments)});
        if let Some(id) = call.id {
            wanted["id"] = id.into();
        }
        let mut part = json!({"functionCall": wanted});
        // Of parallel calls the first is signed.
        if n == 0 && said.reasoning.is_some() {
            part["thoughtSignature"] = SIGNATURE.into();
        }
        part
    };
    said.calls.iter().enumerate().map(call).collect()
}

fn finish<'a>(said: &Said<'a>) -> &'a str {
    match said.finish {
        _ if said.refusal.is_some() => "SAFETY",
        Finish::Stop | Finish::Calls => "STOP",
        Finish::Length => "MAX_TOKENS",
        Finish::Filter => "SAFETY",
        Finish::Word(word) => word,
    }
}

fn danger() -> Value {
    json!({"category": "HARM_CATEGORY_DANGEROUS_CONTENT", "probability": "HIGH", "blocked": true})
}

/// Counts as Gemini does: the request with what was cached, the reply without its thoughts, and the reply only at its
/// end.
fn usage(tokens: Tokens, is_last: bool) -> Value {
    let mut usage = json!({
        "promptTokenCount": tokens.prompt, "totalTokenCount": tokens.prompt,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": tokens.prompt}],
    });
    if tokens.cached > 0 {
        usage["cachedContentTokenCount"] = tokens.cached.into();
        usage["cacheTokensDetails"] = json!([{"modality": "TEXT", "tokenCount": tokens.cached}]);
    }
    if is_last {
        usage["totalTokenCount"] = tokens.total().into();
        if tokens.reply > 0 {
            usage["candidatesTokenCount"] = (tokens.reply - tokens.reasoning).into();
        }
        if tokens.reasoning > 0 {
            usage["thoughtsTokenCount"] = tokens.reasoning.into();
        }
    }
    usage
}
