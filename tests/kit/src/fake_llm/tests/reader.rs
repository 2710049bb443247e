//! A small reader of each protocol, written from the providers' documents and not from the server: what it hears is what
//! a client would.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::Protocol;

/// What a client hears.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    pub text: String,
    pub reasoning: String,
    pub refusal: String,
    /// Name and arguments of each call; the ids are in `ids`.
    pub calls: Vec<(String, String)>,
    pub ids: Vec<String>,
    pub stop: String,
    pub usage: Option<Counted>,
}

/// What a client has to pay for, in the sense of all providers: parts are within their wholes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub prompt: u64,
    pub cached: u64,
    pub written: u64,
    pub reply: u64,
    pub reasoning: u64,
}

/// Reads an answer that is no stream.
pub fn whole(protocol: Protocol, text: &str) -> Heard {
    let value: Value = serde_json::from_str(text).expect("one object");
    match protocol {
        Protocol::Chat => chat_whole(&value),
        Protocol::Responses => responses_whole(&value),
        Protocol::Messages => messages_whole(&value),
        Protocol::Gemini => gemini([&value]),
        Protocol::Ollama => ollama([&value]),
    }
}

/// Reads a stream.
pub fn stream(protocol: Protocol, text: &str) -> Heard {
    match protocol {
        Protocol::Chat => chat_stream(&events(text)),
        Protocol::Responses => responses_stream(&events(text)),
        Protocol::Messages => messages_stream(&events(text)),
        Protocol::Gemini => {
            assert!(text.ends_with("\r\n\r\n"));
            gemini(&events(&text.replace("\r\n", "\n")).iter().map(|event| event.json()).collect::<Vec<_>>())
        }
        Protocol::Ollama => {
            let lines: Vec<Value> =
                text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
            ollama(&lines)
        }
    }
}

/// A server-sent event.
pub struct Event {
    pub name: Option<String>,
    pub data: String,
}

impl Event {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).expect("an event of JSON")
    }
}

/// Reads server-sent events.
pub fn events(text: &str) -> Vec<Event> {
    let blocks = text.split("\n\n").filter(|block| !block.is_empty());
    let event = |block: &str| {
        let field = |name: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.map(str::to_owned)
        };
        Event { name: field("event"), data: field("data").expect("an event has data") }
    };
    blocks.map(event).collect()
}

/// Returns the types of named events, each of which must be its name.
pub fn names(text: &str) -> Vec<String> {
    let name = |event: &Event| {
        let json = event.json();
        assert_eq!(event.name.as_deref(), json["type"].as_str());
        json["type"].as_str().expect("a type").to_owned()
    };
    events(text).iter().map(name).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn n(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

fn chat_usage(usage: &Value) -> Option<Counted> {
    usage.is_object().then(|| {
        assert_eq!(n(&usage["total_tokens"]), n(&usage["prompt_tokens"]) + n(&usage["completion_tokens"]));
        Counted {
            prompt: n(&usage["prompt_tokens"]),
            cached: n(&usage["prompt_tokens_details"]["cached_tokens"]),
            written: n(&usage["prompt_tokens_details"]["cache_write_tokens"]),
            reply: n(&usage["completion_tokens"]),
            reasoning: n(&usage["completion_tokens_details"]["reasoning_tokens"]),
        }
    })
}

fn chat_whole(value: &Value) -> Heard {
    assert_eq!(value["object"], "chat.completion");
    let (choice, message) = (&value["choices"][0], &value["choices"][0]["message"]);
    let calls = message["tool_calls"].as_array().cloned().unwrap_or_default();
    Heard {
        text: text(&message["content"]),
        reasoning: text(&message["reasoning_content"]),
        refusal: text(&message["refusal"]),
        calls: calls.iter().map(|c| (text(&c["function"]["name"]), text(&c["function"]["arguments"]))).collect(),
        ids: calls.iter().map(|c| text(&c["id"])).collect(),
        stop: text(&choice["finish_reason"]),
        usage: chat_usage(&value["usage"]),
    }
}

fn chat_stream(events: &[Event]) -> Heard {
    let mut heard = Heard::default();
    let (done, chunks) = events.split_last().expect("events");
    assert_eq!(done.data, "[DONE]");
    assert_eq!(chunks[0].json()["choices"][0]["delta"]["role"], "assistant");
    for chunk in chunks.iter().map(Event::json) {
        assert_eq!((chunk["object"].as_str(), chunk.get("type")), (Some("chat.completion.chunk"), None));
        let (choice, delta) = (&chunk["choices"][0], &chunk["choices"][0]["delta"]);
        heard.text += &text(&delta["content"]);
        heard.reasoning += &text(&delta["reasoning_content"]);
        heard.refusal += &text(&delta["refusal"]);
        for part in delta["tool_calls"].as_array().into_iter().flatten() {
            let index = usize::try_from(part["index"].as_u64().expect("an index")).expect("small");
            if index == heard.calls.len() {
                heard.calls.push((text(&part["function"]["name"]), String::new()));
                heard.ids.push(text(&part["id"]));
            }
            heard.calls[index].1 += &text(&part["function"]["arguments"]);
        }
        heard.stop += &text(&choice["finish_reason"]);
        heard.usage = heard.usage.or(chat_usage(&chunk["usage"]));
    }
    heard
}

fn responses_whole(value: &Value) -> Heard {
    assert_eq!(value["object"], "response");
    let mut heard = Heard::default();
    for item in value["output"].as_array().expect("output") {
        match item["type"].as_str().expect("a type") {
            "reasoning" => heard.reasoning += &text(&item["summary"][0]["text"]),
            "function_call" => {
                heard.calls.push((text(&item["name"]), text(&item["arguments"])));
                heard.ids.push(text(&item["call_id"]));
            }
            "message" => {
                for part in item["content"].as_array().expect("content") {
                    match part["type"].as_str() {
                        Some("output_text") => heard.text += &text(&part["text"]),
                        Some("refusal") => heard.refusal += &text(&part["refusal"]),
                        other => panic!("{other:?} is no part"),
                    }
                }
            }
            other => panic!("{other} is no item"),
        }
    }
    heard.stop = match value["status"].as_str() {
        Some("incomplete") => text(&value["incomplete_details"]["reason"]),
        other => other.unwrap_or_default().to_owned(),
    };
    let usage = &value["usage"];
    heard.usage = usage.is_object().then(|| Counted {
        prompt: n(&usage["input_tokens"]),
        cached: n(&usage["input_tokens_details"]["cached_tokens"]),
        written: n(&usage["input_tokens_details"]["cache_write_tokens"]),
        reply: n(&usage["output_tokens"]),
        reasoning: n(&usage["output_tokens_details"]["reasoning_tokens"]),
    });
    heard
}

/// Hears the parts, and checks them against the whole that the last event repeats.
fn responses_stream(events: &[Event]) -> Heard {
    let mut heard = Heard::default();
    let mut arguments: BTreeMap<u64, String> = BTreeMap::new();
    for (sequence, event) in events.iter().enumerate() {
        let json = event.json();
        assert_eq!(json["sequence_number"], sequence);
        let (index, delta) = (n(&json["output_index"]), text(&json["delta"]));
        match event.name.as_deref().expect("a name") {
            "response.output_text.delta" => heard.text += &delta,
            "response.refusal.delta" => heard.refusal += &delta,
            "response.reasoning_summary_text.delta" => heard.reasoning += &delta,
            "response.function_call_arguments.delta" => *arguments.entry(index).or_default() += &delta,
            "response.function_call_arguments.done" => {
                assert_eq!(json["arguments"], arguments.get(&index).cloned().unwrap_or_default());
            }
            _ => {}
        }
    }
    let last = events.last().expect("events").json();
    let whole = responses_whole(&last["response"]);
    assert_eq!((&whole.text, &whole.refusal, &whole.reasoning), (&heard.text, &heard.refusal, &heard.reasoning));
    let spoken: Vec<&String> = arguments.values().collect();
    assert_eq!(spoken, whole.calls.iter().map(|(_, arguments)| arguments).collect::<Vec<_>>());
    whole
}

/// Anthropic does not count what a cache had to do with as input.
fn messages_usage(usage: &Value) -> Option<Counted> {
    usage.is_object().then(|| {
        let (cached, written) = (n(&usage["cache_read_input_tokens"]), n(&usage["cache_creation_input_tokens"]));
        if let Some(lives) = usage["cache_creation"].as_object() {
            assert_eq!(lives.values().map(n).sum::<u64>(), written);
        }
        Counted {
            prompt: n(&usage["input_tokens"]) + cached + written,
            cached,
            written,
            reply: n(&usage["output_tokens"]),
            reasoning: n(&usage["output_tokens_details"]["thinking_tokens"]),
        }
    })
}

fn messages_whole(value: &Value) -> Heard {
    assert_eq!((&value["type"], &value["role"]), (&"message".into(), &"assistant".into()));
    let mut heard =
        Heard { stop: text(&value["stop_reason"]), usage: messages_usage(&value["usage"]), ..Heard::default() };
    for block in value["content"].as_array().expect("content") {
        match block["type"].as_str().expect("a type") {
            "text" => heard.text += &text(&block["text"]),
            "thinking" => heard.reasoning += &text(&block["thinking"]),
            "tool_use" => {
                heard.calls.push((text(&block["name"]), block["input"].to_string()));
                heard.ids.push(text(&block["id"]));
            }
            other => panic!("{other} is no block"),
        }
    }
    refused(&mut heard);
    heard
}

fn messages_stream(events: &[Event]) -> Heard {
    let mut heard = Heard::default();
    for event in events {
        let json = event.json();
        assert_eq!(event.name.as_deref(), json["type"].as_str());
        let (block, delta) = (&json["content_block"], &json["delta"]);
        match json["type"].as_str().expect("a type") {
            "content_block_start" if block["type"] == "tool_use" => {
                assert_eq!(block["input"], serde_json::json!({}));
                heard.calls.push((text(&block["name"]), String::new()));
                heard.ids.push(text(&block["id"]));
            }
            "content_block_delta" => match delta["type"].as_str().expect("a type") {
                "text_delta" => heard.text += &text(&delta["text"]),
                "thinking_delta" => heard.reasoning += &text(&delta["thinking"]),
                "input_json_delta" => heard.calls.last_mut().expect("a call").1 += &text(&delta["partial_json"]),
                "signature_delta" => assert!(!text(&delta["signature"]).is_empty()),
                other => panic!("{other} is no delta"),
            },
            "message_delta" => {
                heard.stop = text(&delta["stop_reason"]);
                heard.usage = messages_usage(&json["usage"]);
            }
            _ => {}
        }
    }
    refused(&mut heard);
    heard
}

/// Words under the stop reason `refusal` are the refusal.
fn refused(heard: &mut Heard) {
    if heard.stop == "refusal" {
        heard.refusal = std::mem::take(&mut heard.text);
    }
}

fn gemini<'a>(responses: impl IntoIterator<Item = &'a (impl std::borrow::Borrow<Value> + 'a)>) -> Heard {
    let mut heard = Heard::default();
    for response in responses {
        let response: &Value = response.borrow();
        let candidate = &response["candidates"][0];
        for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
            let call = &part["functionCall"];
            match (part["thought"] == true, call.is_object()) {
                (true, _) => heard.reasoning += &text(&part["text"]),
                (_, true) => {
                    heard.calls.push((text(&call["name"]), call["args"].to_string()));
                    heard.ids.push(text(&call["id"]));
                }
                _ => heard.text += &text(&part["text"]),
            }
        }
        heard.stop += &text(&candidate["finishReason"]);
        heard.stop += &text(&response["promptFeedback"]["blockReason"]);
        heard.refusal += &text(&candidate["safetyRatings"][0]["category"])
            .replace("HARM_CATEGORY_DANGEROUS_CONTENT", &text(&candidate["finishMessage"]));
        let usage = &response["usageMetadata"];
        // Each counts all so far: the last one counts.
        heard.usage = usage.is_object().then(|| Counted {
            prompt: n(&usage["promptTokenCount"]),
            cached: n(&usage["cachedContentTokenCount"]),
            written: 0,
            reply: n(&usage["candidatesTokenCount"]) + n(&usage["thoughtsTokenCount"]),
            reasoning: n(&usage["thoughtsTokenCount"]),
        });
        if let Some(counted) = heard.usage {
            assert_eq!(n(&usage["totalTokenCount"]), counted.prompt + counted.reply);
        }
    }
    heard
}

fn ollama<'a>(lines: impl IntoIterator<Item = &'a (impl std::borrow::Borrow<Value> + 'a)>) -> Heard {
    let mut heard = Heard::default();
    for line in lines {
        let line: &Value = line.borrow();
        assert!(heard.stop.is_empty(), "nothing comes after the end");
        let message = &line["message"];
        assert_eq!(message["role"], "assistant");
        heard.text += &text(&message["content"]);
        heard.reasoning += &text(&message["thinking"]);
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            heard.calls.push((text(&call["function"]["name"]), call["function"]["arguments"].to_string()));
            heard.ids.push(text(&call["id"]));
        }
        if line["done"] == true {
            heard.stop = text(&line["done_reason"]);
            heard.usage = line["prompt_eval_count"].is_u64().then(|| Counted {
                prompt: n(&line["prompt_eval_count"]),
                cached: n(&line["prompt_eval_cached_count"]),
                reply: n(&line["eval_count"]),
                ..Counted::default()
            });
        }
    }
    heard
}
