//! Anthropic's messages: `POST /v1/messages`, as one object or as named events, each block of content between its start
//! and its stop.

use serde_json::{Value, json};

use super::body::named_event;
use super::said::{Finish, Said, pieces};
use super::usage::Tokens;
use super::verbatim::verbatim;

/// Signs what was thought, as far as nobody can check it.
const SIGNATURE: &str = "ZmFrZS1zaWduYXR1cmU=";

/// Says it as one object.
pub(super) fn whole(said: &Said) -> Value {
    let mut message = head(said);
    message["content"] = blocks(said).into_iter().map(|block| block.whole).collect();
    message["stop_reason"] = finish(said).into();
    message["stop_details"] = stop_details(said);
    if let Some(tokens) = said.usage {
        message["usage"] = first_usage(tokens, tokens.reply);
    }
    message
}

/// Says it as events.
pub(super) fn events(said: &Said) -> Vec<String> {
    let mut start = head(said);
    start["content"] = json!([]);
    start["stop_reason"] = Value::Null;
    start["stop_details"] = Value::Null;
    if let Some(tokens) = said.usage {
        // The reply has hardly begun when the message starts.
        start["usage"] = first_usage(tokens, tokens.reply.min(1));
    }
    let mut events = vec![json!({"type": "message_start", "message": start})];
    for (index, block) in blocks(said).into_iter().enumerate() {
        events.push(json!({"type": "content_block_start", "index": index, "content_block": block.start}));
        if index == 0 {
            events.push(json!({"type": "ping"}));
        }
        let delta = |delta| json!({"type": "content_block_delta", "index": index, "delta": delta});
        events.extend(block.deltas.into_iter().map(delta));
        events.push(json!({"type": "content_block_stop", "index": index}));
    }
    let mut end = json!({
        "type": "message_delta",
        "delta": {
            "stop_reason": finish(said), "stop_sequence": null, "stop_details": stop_details(said), "container": null,
        },
    });
    if let Some(tokens) = said.usage {
        end["usage"] = last_usage(tokens);
    }
    events.push(end);
    events.push(json!({"type": "message_stop"}));
    events.iter().map(named_event).collect()
}

fn head(said: &Said) -> Value {
    json!({
        "id": said.id("msg_"), "type": "message", "role": "assistant", "model": said.model, "stop_sequence": null,
        "container": null,
    })
}

/// A block of content: as it is, as it starts, and what is added to it.
struct Block {
    whole: Value,
    start: Value,
    deltas: Vec<Value>,
}

fn blocks(said: &Said) -> Vec<Block> {
    let mut blocks: Vec<Block> = said.reasoning.map(thinking).into_iter().collect();
    let words = said.text.as_deref().or(said.refusal).filter(|words| !words.is_empty());
    blocks.extend(words.map(text));
    blocks.extend((0..said.calls.len()).map(|n| tool_use(said, n)));
    blocks
}

fn thinking(thought: &str) -> Block {
    let mut deltas: Vec<Value> =
        pieces(thought).iter().map(|piece| json!({"type": "thinking_delta", "thinking": piece})).collect();
    deltas.push(json!({"type": "signature_delta", "signature": SIGNATURE}));
    Block {
        whole: json!({"type": "thinking", "thinking": thought, "signature": SIGNATURE}),
        start: json!({"type": "thinking", "thinking": "", "signature": ""}),
        deltas,
    }
}

fn text(words: &str) -> Block {
    Block {
        whole: json!({"type": "text", "text": words}),
        start: json!({"type": "text", "text": ""}),
        deltas: pieces(words).iter().map(|piece| json!({"type": "text_delta", "text": piece})).collect(),
    }
}

fn tool_use(said: &Said, n: usize) -> Block {
    let call = &said.calls[n];
    let tool_use =
        |input: Value| json!({"type": "tool_use", "id": said.call_id("toolu_", n), "name": call.name, "input": input});
    // It begins with a piece of nothing.
    let mut deltas = vec![json!({"type": "input_json_delta", "partial_json": ""})];
    let delta = |piece: &String| json!({"type": "input_json_delta", "partial_json": piece});
    deltas.extend(pieces(&call.arguments).iter().map(delta));
    Block { whole: tool_use(verbatim(&call.arguments)), start: tool_use(json!({})), deltas }
}

fn finish<'a>(said: &Said<'a>) -> &'a str {
    match said.finish {
        _ if said.refusal.is_some() => "refusal",
        Finish::Stop => "end_turn",
        Finish::Calls => "tool_use",
        Finish::Length => "max_tokens",
        Finish::Filter => "refusal",
        Finish::Word(word) => word,
    }
}

fn stop_details(said: &Said) -> Value {
    match finish(said) {
        "refusal" => json!({"type": "refusal", "category": null, "explanation": said.refusal}),
        _ => Value::Null,
    }
}

/// Counts as Anthropic does: `input_tokens` are those that no cache had to do with.
fn first_usage(tokens: Tokens, reply: u64) -> Value {
    let mut usage = counts(tokens, reply);
    usage["cache_creation"] = json!({
        "ephemeral_5m_input_tokens": tokens.cache_write_5m, "ephemeral_1h_input_tokens": tokens.cache_write_1h,
    });
    usage["service_tier"] = "standard".into();
    usage
}

/// Counts at the end of a stream: without the kinds of caches, which the start has told.
fn last_usage(tokens: Tokens) -> Value {
    counts(tokens, tokens.reply)
}

fn counts(tokens: Tokens, reply: u64) -> Value {
    let mut usage = json!({
        "input_tokens": tokens.uncached(), "cache_creation_input_tokens": tokens.written(),
        "cache_read_input_tokens": tokens.cached, "output_tokens": reply,
    });
    if tokens.reasoning > 0 && reply == tokens.reply {
        usage["output_tokens_details"] = json!({"thinking_tokens": tokens.reasoning});
    }
    usage
}
