//! OpenAI's chat completions: `POST /v1/chat/completions`, as one object or as events that end in `[DONE]`.

use serde_json::{Value, json};

use super::body::event;
use super::said::{CREATED, Finish, Said, pieces};
use super::usage::Tokens;

/// Says it as one object.
pub(super) fn whole(said: &Said) -> Value {
    let mut message = json!({
        "role": "assistant", "content": said.text, "refusal": said.refusal, "annotations": [],
    });
    if !said.calls.is_empty() {
        message["tool_calls"] = (0..said.calls.len()).map(|n| call(said, n)).collect();
    }
    if let Some(reasoning) = said.reasoning {
        message["reasoning_content"] = reasoning.into();
    }
    let choice = json!({"index": 0, "message": message, "logprobs": null, "finish_reason": finish(said)});
    let mut completion = head(said, "chat.completion");
    completion["choices"] = json!([choice]);
    if let Some(tokens) = said.usage {
        completion["usage"] = usage(tokens);
    }
    completion
}

/// Says it as events.
pub(super) fn events(said: &Said) -> Vec<String> {
    let has_usage =
        said.usage.is_some() && said.request.pointer("/stream_options/include_usage") == Some(&Value::Bool(true));
    let chunk = |choices: Value, usage: Value| {
        let mut chunk = head(said, "chat.completion.chunk");
        chunk["choices"] = choices;
        if has_usage {
            chunk["usage"] = usage;
        }
        event(&chunk)
    };
    let choice =
        |delta: Value, reason: Value| json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": reason}]);
    let mut events: Vec<String> =
        deltas(said).into_iter().map(|delta| chunk(choice(delta, Value::Null), Value::Null)).collect();
    events.push(chunk(choice(json!({}), finish(said).into()), Value::Null));
    if let Some(tokens) = said.usage.filter(|_| has_usage) {
        events.push(chunk(json!([]), usage(tokens)));
    }
    events.push("data: [DONE]\n\n".to_owned());
    events
}

fn head(said: &Said, object: &str) -> Value {
    json!({
        "id": said.id("chatcmpl-"), "object": object, "created": CREATED, "model": said.model,
        "service_tier": "default", "system_fingerprint": "fp_fake",
    })
}

fn deltas(said: &Said) -> Vec<Value> {
    let content = if said.calls.is_empty() { json!("") } else { Value::Null };
    let mut deltas = vec![json!({"role": "assistant", "content": content, "refusal": null})];
    deltas.extend(pieces(said.reasoning.unwrap_or_default()).iter().map(|piece| json!({"reasoning_content": piece})));
    deltas.extend(pieces(said.text.as_deref().unwrap_or_default()).iter().map(|piece| json!({"content": piece})));
    deltas.extend(pieces(said.refusal.unwrap_or_default()).iter().map(|piece| json!({"refusal": piece})));
    for (n, wanted) in said.calls.iter().enumerate() {
        let mut first = call(said, n);
        first["index"] = n.into();
        first["function"]["arguments"] = "".into();
        deltas.push(json!({"tool_calls": [first]}));
        let part = |piece: &String| json!({"tool_calls": [{"index": n, "function": {"arguments": piece}}]});
        deltas.extend(pieces(&wanted.arguments).iter().map(part));
    }
    deltas
}

fn call(said: &Said, n: usize) -> Value {
    let call = &said.calls[n];
    json!({
        "id": said.call_id("call_", n), "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    })
}

fn finish<'a>(said: &Said<'a>) -> &'a str {
    match said.finish {
        Finish::Stop => "stop",
        Finish::Calls => "tool_calls",
        Finish::Length => "length",
        Finish::Filter => "content_filter",
        Finish::Word(word) => word,
    }
}

/// Counts as OpenAI does: the request with what was cached, the reply with its reasoning.
fn usage(tokens: Tokens) -> Value {
    let mut usage = json!({
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.reply,
        "total_tokens": tokens.total(),
        "prompt_tokens_details": {"cached_tokens": tokens.cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": tokens.reasoning, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
        },
    });
    // Only models that are paid for what they write to a cache say so.
    if tokens.written() > 0 {
        usage["prompt_tokens_details"]["cache_write_tokens"] = tokens.written().into();
    }
    usage
}
