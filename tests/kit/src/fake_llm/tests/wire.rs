//! Each protocol says each kind of reply, as one object and as a stream, so that a stranger hears the same.

use serde_json::{Value, json};

use super::super::{FakeLlm, Protocol};
use super::client::{ask, replied, send};
use super::reader::{self, Counted, Heard};

/// Replies with `reply` in each protocol, both ways, and tells what was heard to `check`.
async fn each(reply: Value, check: impl Fn(Protocol, &Heard)) {
    for protocol in Protocol::ALL {
        for is_stream in [false, true] {
            let answered = replied(protocol, is_stream, &reply).await;
            assert_eq!((answered.status, answered.is_cut), (200, false), "{protocol:?} {}", answered.text);
            let read = if is_stream { reader::stream } else { reader::whole };
            check(protocol, &read(protocol, &answered.text));
        }
    }
}

/// The words of each provider for one end.
fn word(protocol: Protocol, words: [&'static str; 5]) -> &'static str {
    words[Protocol::ALL.iter().position(|p| *p == protocol).expect("one of all")]
}

#[tokio::test]
async fn text_comes_whole_and_in_pieces() {
    each(json!({"text": "größer than eight characters \"quoted\"\n"}), |protocol, heard| {
        assert_eq!(heard.text, "größer than eight characters \"quoted\"\n", "{protocol:?}");
        assert_eq!(heard.stop, word(protocol, ["stop", "completed", "end_turn", "STOP", "stop"]));
        assert_eq!(heard.usage, Some(Counted { prompt: 100, reply: 20, ..Counted::default() }), "{protocol:?}");
        assert!(heard.calls.is_empty() && heard.refusal.is_empty() && heard.reasoning.is_empty());
    })
    .await;
}

#[tokio::test]
async fn json_is_text() {
    each(json!({"json": {"answer": [1, "two"]}}), |protocol, heard| {
        assert_eq!(heard.text, r#"{"answer":[1,"two"]}"#, "{protocol:?}");
    })
    .await;
}

#[tokio::test]
async fn parallel_calls_keep_their_order_and_have_ids_of_their_own() {
    let calls = json!([
        {"name": "first", "arguments": {"path": "/a", "deep": {"n": 1}}},
        {"name": "first", "arguments": {}},
        {"name": "second", "arguments": {"q": "a text that is longer than a piece"}, "id": "given_7"},
    ]);
    each(json!({"tool_calls": calls, "text": "I will look."}), |protocol, heard| {
        let wanted = [
            ("first", json!({"path": "/a", "deep": {"n": 1}})),
            ("first", json!({})),
            ("second", json!({"q": "a text that is longer than a piece"})),
        ];
        assert_eq!(heard.calls.len(), 3, "{protocol:?}");
        for ((name, arguments), (wanted_name, wanted)) in heard.calls.iter().zip(wanted) {
            assert_eq!((name.as_str(), &serde_json::from_str::<Value>(arguments).unwrap()), (wanted_name, &wanted));
        }
        assert_eq!(heard.text, "I will look.");
        assert_eq!(heard.ids[2], "given_7");
        // Gemini's own models leave ids out.
        assert_eq!(heard.ids[0] != heard.ids[1], protocol != Protocol::Gemini);
        assert_eq!(heard.stop, word(protocol, ["tool_calls", "completed", "tool_use", "STOP", "stop"]));
    })
    .await;
}

#[tokio::test]
async fn ids_of_two_replies_differ() {
    let step = r#"{"reply": {"tool_calls": [{"name": "f", "arguments": {}}]}}"#;
    for protocol in [Protocol::Chat, Protocol::Responses, Protocol::Messages, Protocol::Ollama] {
        let server = FakeLlm::start(&format!("{step}\n{step}")).unwrap();
        let mut ids = Vec::new();
        for _ in 0..2 {
            let answered = send(&server, protocol, false, &ask(protocol, false)).await;
            ids.extend(reader::whole(protocol, &answered.text).ids);
        }
        assert_ne!(ids[0], ids[1], "{protocol:?}");
    }
}

#[tokio::test]
async fn a_refusal_is_told_apart_from_an_answer() {
    each(json!({"refusal": "I will not do that."}), |protocol, heard| {
        assert_eq!(heard.stop, word(protocol, ["stop", "completed", "refusal", "SAFETY", "stop"]));
        if protocol == Protocol::Ollama {
            // It has no other way than words.
            assert_eq!((heard.text.as_str(), heard.refusal.as_str()), ("I will not do that.", ""));
        } else {
            assert_eq!((heard.text.as_str(), heard.refusal.as_str()), ("", "I will not do that."), "{protocol:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_blocked_prompt_has_no_candidate() {
    for is_stream in [false, true] {
        let answered = replied(Protocol::Gemini, is_stream, &json!({"refusal": ""})).await;
        assert!(answered.text.contains(r#""blockReason":"SAFETY""#) && !answered.text.contains("candidates"));
    }
}

#[tokio::test]
async fn each_provider_counts_in_its_own_way_and_means_the_same() {
    let usage = json!({"prompt": 1000, "cached": 600, "cache_write_5m": 30, "cache_write_1h": 70, "reply": 50, "reasoning": 40});
    each(json!({"text": "hi", "usage": usage}), |protocol, heard| {
        let heard = heard.usage.expect("it is told");
        assert_eq!((heard.prompt, heard.cached, heard.reply), (1000, 600, 50), "{protocol:?}");
        let (written, reasoning) = match protocol {
            Protocol::Gemini => (0, 40),
            Protocol::Ollama => (0, 0),
            _ => (100, 40),
        };
        assert_eq!((heard.written, heard.reasoning), (written, reasoning), "{protocol:?}");
    })
    .await;
    let answered = replied(Protocol::Messages, false, &json!({"text": "hi", "usage": usage})).await;
    let told = &answered.json()["usage"];
    assert_eq!(
        (&told["input_tokens"], &told["cache_creation"]["ephemeral_1h_input_tokens"]),
        (&json!(300), &json!(70))
    );
}

#[tokio::test]
async fn a_usage_can_be_left_out() {
    each(json!({"text": "hi", "usage": "none"}), |protocol, heard| assert_eq!(heard.usage, None, "{protocol:?}")).await;
}

#[tokio::test]
async fn an_echo_counts_the_bytes_of_the_request_and_all_that_was_allowed() {
    for protocol in Protocol::ALL {
        let server = FakeLlm::start(r#"{"reply": {"text": "hi", "usage": "echo"}}"#).unwrap();
        let answered = send(&server, protocol, false, &ask(protocol, false)).await;
        let counted = reader::whole(protocol, &answered.text).usage.unwrap();
        let bytes = server.requests()[0].bytes.len() as u64;
        assert_eq!((counted.prompt, counted.reply), (bytes, 50), "{protocol:?}");
    }
    let server = FakeLlm::start(r#"{"reply": {"text": "hi", "usage": "echo_written"}}"#).unwrap();
    let answered = send(&server, Protocol::Messages, false, &ask(Protocol::Messages, false)).await;
    let counted = reader::whole(Protocol::Messages, &answered.text).usage.unwrap();
    assert_eq!((counted.written, counted.reply), (counted.prompt, 50));
    assert!(answered.text.contains(&format!(r#""ephemeral_1h_input_tokens":{}"#, counted.prompt)));
}

#[tokio::test]
async fn an_echo_of_a_request_without_a_bound_is_a_fault() {
    let server = FakeLlm::start(r#"{"reply": {"text": "hi", "usage": "echo"}}"#).unwrap();
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(send(&server, Protocol::Chat, false, &body).await.status, 500);
    assert!(server.finish().unwrap_err()[0].contains("bounds its reply by nothing"));
}

#[tokio::test]
async fn reasoning_stands_apart() {
    each(json!({"text": "four", "reasoning": "two and two, so"}), |protocol, heard| {
        assert_eq!((heard.text.as_str(), heard.reasoning.as_str()), ("four", "two and two, so"), "{protocol:?}");
    })
    .await;
}

#[tokio::test]
async fn each_end_has_each_providers_word() {
    for (reason, words) in [
        ("length", ["length", "max_output_tokens", "max_tokens", "MAX_TOKENS", "length"]),
        ("content_filter", ["content_filter", "content_filter", "refusal", "SAFETY", "stop"]),
        ("odd", ["odd"; 5]),
    ] {
        each(json!({"text": "half", "finish_reason": reason}), |protocol, heard| {
            assert_eq!(heard.stop, word(protocol, words), "{protocol:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn anthropic_events_come_in_their_order() {
    let reply = json!({"reasoning": "hm", "tool_calls": [{"name": "f", "arguments": {"a": 1}}]});
    let answered = replied(Protocol::Messages, true, &reply).await;
    let wanted = [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(reader::names(&answered.text), wanted);
    let events = reader::events(&answered.text);
    assert_eq!(events[0].json()["message"]["content"], json!([]));
    assert_eq!(events[0].json()["message"]["stop_reason"], Value::Null);
    assert_eq!(events[6].json()["index"], 1);
    assert!(answered.text.starts_with("event: message_start\ndata: {"));
}

#[tokio::test]
async fn events_of_responses_come_in_their_order() {
    let reply = json!({"reasoning": "hm", "text": "ok", "tool_calls": [{"name": "f", "arguments": {"a": 1}}]});
    let answered = replied(Protocol::Responses, true, &reply).await;
    let wanted = [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ];
    assert_eq!(reader::names(&answered.text), wanted.map(|name| format!("response.{name}")));
    let answered = replied(Protocol::Responses, true, &json!({"refusal": "no"})).await;
    let names = reader::names(&answered.text);
    assert_eq!(
        names[3..8].join(" "),
        "response.content_part.added response.refusal.delta response.refusal.done response.content_part.done response.output_item.done"
    );
    let answered = replied(Protocol::Responses, true, &json!({"text": "ha", "finish_reason": "length"})).await;
    assert_eq!(reader::names(&answered.text).last().unwrap(), "response.incomplete");
}

#[tokio::test]
async fn frames_are_as_each_provider_writes_them() {
    for (protocol, start, end, kind) in [
        (Protocol::Chat, "data: {", "}\n\ndata: [DONE]\n\n", "text/event-stream; charset=utf-8"),
        (Protocol::Responses, "event: response.created\ndata: {", "}\n\n", "text/event-stream; charset=utf-8"),
        (
            Protocol::Messages,
            "event: message_start\ndata: {",
            "data: {\"type\":\"message_stop\"}\n\n",
            "text/event-stream; charset=utf-8",
        ),
        (Protocol::Gemini, "data: {", "}\r\n\r\n", "text/event-stream"),
        (Protocol::Ollama, "{", "}\n", "application/x-ndjson"),
    ] {
        let answered = replied(protocol, true, &json!({"text": "hello there"})).await;
        assert!(answered.text.starts_with(start) && answered.text.ends_with(end), "{}", answered.text);
        assert_eq!(answered.headers["content-type"], kind);
        assert_eq!(answered.headers["transfer-encoding"], "chunked");
        let answered = replied(protocol, false, &json!({"text": "hello there"})).await;
        assert!(answered.headers["content-type"].to_str().unwrap().starts_with("application/json"));
    }
}

#[tokio::test]
async fn a_chat_stream_tells_its_usage_only_where_it_is_asked() {
    let server = FakeLlm::start(r#"{"reply": {"text": "hi"}}"#).unwrap();
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": true});
    let answered = send(&server, Protocol::Chat, true, &body).await;
    assert!(!answered.text.contains("usage"), "{}", answered.text);
}
