//! What a step replies, and its bytes on the wire.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

/// A reply: exactly one of `json`, `text`, `tool_calls`, `refusal` and `raw`, and how it is sent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reply {
    /// The message's content is the text of this value.
    pub json: Option<Value>,
    /// The message's content.
    pub text: Option<String>,
    /// The message asks for calls, and has no content.
    pub tool_calls: Option<Vec<FunctionCall>>,
    /// The model refuses, in these words.
    pub refusal: Option<String>,
    /// The body, whatever it is.
    pub raw: Option<String>,
    /// 200 where nothing is said.
    pub status: Option<u16>,
    /// Headers beside or in place of the usual ones.
    pub headers: BTreeMap<String, String>,
    /// `stop` or `tool_calls` where nothing is said.
    pub finish_reason: Option<String>,
    pub usage: Usage,
    /// Waits before the first byte.
    pub delay_ms: u64,
    /// Sends the body in small pieces.
    pub drip: Option<Drip>,
    /// Closes the connection after so many bytes of the body as it is on the wire.
    pub cut_after: Option<usize>,
}

/// A call that the model asks for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionCall {
    pub name: String,
    /// Text is sent as it is, so that it may be malformed; anything else as its JSON text.
    pub arguments: Value,
}

/// What the reply says that it used.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Usage {
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
}

/// How slowly a body is sent.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drip {
    /// Bytes in a piece.
    pub bytes: usize,
    /// Wait before each piece.
    pub ms: u64,
}

impl Default for Usage {
    fn default() -> Self {
        Self { prompt_tokens: 100, completion_tokens: 20 }
    }
}

/// A body, and how its end is marked.
pub(super) struct Body {
    pub content_type: &'static str,
    /// As it goes on the wire: with the sizes of its chunks where `is_chunked`.
    pub bytes: Vec<u8>,
    pub is_chunked: bool,
}

/// Bytes of content in one event of a stream: small enough that every reply has several.
const DELTA_CHARS: usize = 8;

/// The time that every reply bears, in seconds: a test gets the same bytes each time.
const CREATED: u64 = 1_700_000_000;

impl Reply {
    /// Checks that the reply says one thing.
    pub(super) fn check(&self) -> Result<(), String> {
        let said = [
            self.json.is_some(),
            self.text.is_some(),
            self.tool_calls.is_some(),
            self.refusal.is_some(),
            self.raw.is_some(),
        ];
        if said.iter().filter(|is_said| **is_said).count() != 1 {
            return Err("a reply is exactly one of `json`, `text`, `tool_calls`, `refusal` and `raw`".to_owned());
        }
        if self.drip.is_some_and(|drip| drip.bytes == 0) {
            return Err("a drip of 0 bytes never ends".to_owned());
        }
        Ok(())
    }

    /// Makes the body for `request`: events where it asks for a stream, else one object.
    pub(super) fn body(&self, request: &Value) -> Body {
        if let Some(raw) = &self.raw {
            return Body { content_type: "application/json", bytes: raw.clone().into_bytes(), is_chunked: false };
        }
        let model = request["model"].as_str().unwrap_or("fake");
        if request["stream"] == Value::Bool(true) {
            let has_usage = request.pointer("/stream_options/include_usage") == Some(&Value::Bool(true));
            let bytes = chunked(&self.events(model, has_usage));
            return Body { content_type: "text/event-stream; charset=utf-8", bytes, is_chunked: true };
        }
        let bytes = self.completion(model).to_string().into_bytes();
        Body { content_type: "application/json", bytes, is_chunked: false }
    }

    fn completion(&self, model: &str) -> Value {
        let mut message = json!({
            "role": "assistant", "content": self.content(), "refusal": self.refusal, "annotations": [],
        });
        if let Some(calls) = &self.tool_calls {
            message["tool_calls"] = calls.iter().enumerate().map(|(n, call)| call.wire(n)).collect();
        }
        json!({
            "id": "chatcmpl-fake", "object": "chat.completion", "created": CREATED, "model": model,
            "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": self.finish_reason()}],
            "usage": self.usage.wire(), "service_tier": "default", "system_fingerprint": "fp_fake",
        })
    }

    fn events(&self, model: &str, has_usage: bool) -> Vec<String> {
        let event = |choices: Value, usage: Value| {
            let mut event = json!({
                "id": "chatcmpl-fake", "object": "chat.completion.chunk", "created": CREATED, "model": model,
                "service_tier": "default", "system_fingerprint": "fp_fake", "choices": choices,
            });
            if has_usage {
                event["usage"] = usage;
            }
            format!("data: {event}\n\n")
        };
        let choice = |delta: Value, reason: Value| json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": reason}]);
        let mut events: Vec<String> =
            self.deltas().into_iter().map(|delta| event(choice(delta, Value::Null), Value::Null)).collect();
        events.push(event(choice(json!({}), self.finish_reason().into()), Value::Null));
        if has_usage {
            events.push(event(json!([]), self.usage.wire()));
        }
        events.push("data: [DONE]\n\n".to_owned());
        events
    }

    fn deltas(&self) -> Vec<Value> {
        let mut deltas = vec![json!({"role": "assistant", "content": "", "refusal": null})];
        deltas.extend(pieces(&self.content().unwrap_or_default()).map(|piece| json!({"content": piece})));
        deltas.extend(pieces(self.refusal.as_deref().unwrap_or_default()).map(|piece| json!({"refusal": piece})));
        for (n, call) in self.tool_calls.iter().flatten().enumerate() {
            let mut first = call.wire(n);
            first["index"] = n.into();
            first["function"]["arguments"] = "".into();
            deltas.push(json!({"tool_calls": [first]}));
            deltas.extend(
                pieces(&call.text())
                    .map(|piece| json!({"tool_calls": [{"index": n, "function": {"arguments": piece}}]})),
            );
        }
        deltas
    }

    fn content(&self) -> Option<String> {
        self.text.clone().or_else(|| self.json.as_ref().map(Value::to_string))
    }

    fn finish_reason(&self) -> &str {
        let usual = if self.tool_calls.is_some() { "tool_calls" } else { "stop" };
        self.finish_reason.as_deref().unwrap_or(usual)
    }
}

impl FunctionCall {
    fn wire(&self, n: usize) -> Value {
        json!({
            "id": format!("call_fake_{n}"), "type": "function",
            "function": {"name": self.name, "arguments": self.text()},
        })
    }

    fn text(&self) -> String {
        self.arguments.as_str().map_or_else(|| self.arguments.to_string(), str::to_owned)
    }
}

impl Usage {
    fn wire(self) -> Value {
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0, "audio_tokens": 0,
                "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
            },
        })
    }
}

fn pieces(text: &str) -> impl Iterator<Item = String> {
    let chars: Vec<char> = text.chars().collect();
    let pieces: Vec<String> = chars.chunks(DELTA_CHARS).map(|piece| piece.iter().collect()).collect();
    pieces.into_iter()
}

/// Returns `events` as chunks of HTTP/1.1, each event one.
fn chunked(events: &[String]) -> Vec<u8> {
    let mut wire = String::new();
    for event in events {
        wire.push_str(&format!("{:x}\r\n{event}\r\n", event.len()));
    }
    wire.push_str("0\r\n\r\n");
    wire.into_bytes()
}
