//! Each bad manner is on the wire as it is meant.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::{FakeLlm, Protocol, Script};
use super::client::{Answered, ask, replied, send, url};
use super::reader;

#[tokio::test]
async fn a_stream_can_be_cut_after_events() {
    for protocol in Protocol::ALL {
        let answered = replied(protocol, true, &json!({"text": "hello there", "cut_after_events": 2})).await;
        assert!(answered.is_cut, "{protocol:?}");
        let separator = if protocol == Protocol::Ollama { "\n" } else { "\n\n" };
        assert_eq!(answered.text.replace("\r\n", "\n").matches(separator).count(), 2, "{protocol:?} {}", answered.text);
    }
}

#[tokio::test]
async fn a_body_can_be_cut_at_any_byte() {
    for protocol in Protocol::ALL {
        let answered = replied(protocol, false, &json!({"text": "hello there", "cut_after": 9})).await;
        assert!(answered.is_cut && answered.text.len() == 9, "{protocol:?} {}", answered.text);
        let answered = replied(protocol, true, &json!({"text": "hello there", "cut_after": 30})).await;
        assert!(answered.is_cut && answered.text.len() < 30, "{protocol:?} {}", answered.text);
    }
}

/// Reads bytes as they are until the connection ends, and tells how it ended.
async fn raw(server: &FakeLlm, protocol: Protocol) -> (String, Option<std::io::ErrorKind>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let url: reqwest::Url = url(server, protocol, false).parse().unwrap();
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", url.port().unwrap())).await.unwrap();
    let body = ask(protocol, false).to_string();
    let head =
        format!("POST {} HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n", url.path(), body.len());
    stream.write_all(format!("{head}anthropic-version: 2023-06-01\r\n\r\n{body}").as_bytes()).await.unwrap();
    let mut heard = Vec::new();
    let mut bytes = [0; 1024];
    let end = loop {
        match stream.read(&mut bytes).await {
            Ok(0) => break None,
            Ok(n) => heard.extend(&bytes[..n]),
            Err(error) => break Some(error.kind()),
        }
    };
    (String::from_utf8(heard).unwrap(), end)
}

#[tokio::test]
async fn a_connection_can_end_with_a_reset() {
    let step = r#"{"reply": {"text": "hello", "cut_after": 5, "reset": true}}"#;
    let server = FakeLlm::start(step).unwrap();
    let (text, end) = raw(&server, Protocol::Chat).await;
    assert!(text.starts_with("HTTP/1.1 200 ") || text.is_empty(), "{text}");
    assert_eq!(end, Some(std::io::ErrorKind::ConnectionReset));
    let server = FakeLlm::start(r#"{"reply": {"text": "hello", "cut_after": 5}}"#).unwrap();
    let (text, end) = raw(&server, Protocol::Chat).await;
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.len());
    assert!(text.starts_with("HTTP/1.1 200 ") && body == Some(5), "{text}");
    assert_eq!(end, None);
}

#[tokio::test]
async fn a_stalled_stream_sends_nothing_and_stays_open() {
    for protocol in Protocol::ALL {
        let server = FakeLlm::start(r#"{"reply": {"text": "hello there", "stall_after_events": 1}}"#).unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.post(url(&server, protocol, true)).header("anthropic-version", "2023-06-01");
        let mut response = request.json(&ask(protocol, true)).send().await.unwrap();
        assert!(!response.chunk().await.unwrap().unwrap().is_empty());
        let more = tokio::time::timeout(Duration::from_millis(100), response.chunk()).await;
        assert!(more.is_err(), "{protocol:?}: {more:?}");
        assert_eq!(server.finish(), Ok(()));
    }
}

#[tokio::test]
async fn a_stall_can_have_a_heartbeat() {
    for (protocol, beat) in
        [(Protocol::Messages, "event: ping\n"), (Protocol::Chat, ": keep-alive\n"), (Protocol::Ollama, "\n")]
    {
        let step = r#"{"reply": {"text": "hello zebra", "stall_after_events": 1, "heartbeat_ms": 2}}"#;
        let server = FakeLlm::start(step).unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.post(url(&server, protocol, true)).header("anthropic-version", "2023-06-01");
        let mut response = request.json(&ask(protocol, true)).send().await.unwrap();
        let mut heard = String::new();
        while heard.matches(beat).count() < 4 {
            heard += std::str::from_utf8(&response.chunk().await.unwrap().expect("it stays open")).unwrap();
        }
        assert!(!heard.contains("bra"), "{heard}");
        drop(response);
        assert_eq!(server.finish(), Ok(()));
    }
}

#[tokio::test]
async fn events_can_be_slow() {
    let late = r#"{"reply": {"text": "hello there", "event_delay_ms": 60000}}"#;
    for (protocol, is_stream) in [(Protocol::Responses, true), (Protocol::Gemini, false)] {
        let server = FakeLlm::start(late).unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.post(url(&server, protocol, is_stream)).json(&ask(protocol, is_stream));
        // The head is there, and the first event is not.
        let mut response = request.send().await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(50), response.chunk()).await.is_err(), "{protocol:?}");
        let answered = replied(protocol, is_stream, &json!({"text": "hello there", "event_delay_ms": 1})).await;
        assert!(!answered.is_cut && answered.text.len() > 100, "{protocol:?}");
    }
}

#[tokio::test]
async fn a_drip_is_slow_and_whole() {
    let reply = json!({"text": "hello there", "drip": {"bytes": 100, "ms": 1}, "delay_ms": 5});
    for protocol in Protocol::ALL {
        let answered = replied(protocol, true, &reply).await;
        assert_eq!(reader::stream(protocol, &answered.text).text, "hello there");
    }
}

#[tokio::test]
async fn an_event_can_be_no_json() {
    for protocol in Protocol::ALL {
        let answered = replied(protocol, false, &json!({"text": "hello", "malformed_event": 1})).await;
        assert!(!answered.is_cut && serde_json::from_str::<Value>(&answered.text).is_err(), "{protocol:?}");
    }
    let answered = replied(Protocol::Messages, true, &json!({"text": "hello", "malformed_event": 4})).await;
    let events = reader::events(&answered.text);
    let is_json = |n: usize| serde_json::from_str::<Value>(&events[n].data).is_ok();
    assert_eq!([is_json(2), is_json(3), is_json(4)], [true, false, true]);
}

#[tokio::test]
async fn arguments_are_sent_as_they_are_however_malformed() {
    let twice = r#"{"a": 1, "a": 2}"#;
    let broken = r#"{"path": "/no"#;
    for arguments in [twice, broken] {
        let reply = json!({"tool_calls": [{"name": "f", "arguments": arguments}]});
        for protocol in [Protocol::Chat, Protocol::Responses] {
            let whole = replied(protocol, false, &reply).await;
            assert_eq!(reader::whole(protocol, &whole.text).calls[0].1, arguments);
        }
        for protocol in [Protocol::Chat, Protocol::Responses, Protocol::Messages] {
            let streamed = replied(protocol, true, &reply).await;
            assert_eq!(reader::stream(protocol, &streamed.text).calls[0].1, arguments);
        }
        for protocol in [Protocol::Messages, Protocol::Gemini, Protocol::Ollama] {
            let whole = replied(protocol, false, &reply).await;
            assert!(whole.text.contains(arguments), "{protocol:?} {}", whole.text);
            assert_eq!(serde_json::from_str::<Value>(&whole.text).is_ok(), arguments == twice, "{protocol:?}");
        }
    }
}

/// Returns what a client would read of an error: its type, code or status.
fn kind(protocol: Protocol, answered: &Answered) -> String {
    let error = &answered.json()["error"];
    let word = match protocol {
        Protocol::Chat | Protocol::Responses => error["code"].as_str().or(error["type"].as_str()),
        Protocol::Messages => error["type"].as_str(),
        Protocol::Gemini => error["status"].as_str(),
        Protocol::Ollama => error.as_str(),
    };
    word.expect("an error says what it is").to_owned()
}

#[tokio::test]
async fn errors_are_said_in_each_providers_way() {
    use Protocol::{Chat, Gemini, Messages, Ollama, Responses};
    for (error, protocol, status, word) in [
        ("context_overflow", Chat, 400, "context_length_exceeded"),
        ("context_overflow", Responses, 400, "context_length_exceeded"),
        ("context_overflow", Messages, 400, "invalid_request_error"),
        ("context_overflow", Gemini, 400, "INVALID_ARGUMENT"),
        ("context_overflow", Ollama, 400, "the input length exceeds the context length"),
        ("auth", Chat, 401, "invalid_api_key"),
        ("auth", Responses, 401, "invalid_api_key"),
        ("auth", Messages, 401, "authentication_error"),
        ("auth", Gemini, 400, "INVALID_ARGUMENT"),
        ("auth", Ollama, 401, "unauthorized"),
        ("not_found", Messages, 404, "not_found_error"),
        ("rate_limit", Chat, 429, "rate_limit_exceeded"),
        ("rate_limit", Responses, 429, "rate_limit_exceeded"),
        ("rate_limit", Messages, 429, "rate_limit_error"),
        ("rate_limit", Gemini, 429, "RESOURCE_EXHAUSTED"),
        ("rate_limit", Ollama, 429, "too many requests"),
        ("quota", Chat, 429, "insufficient_quota"),
        ("server", Chat, 500, "server_error"),
        ("server", Messages, 500, "api_error"),
        ("server", Gemini, 500, "INTERNAL"),
        ("overloaded", Messages, 529, "overloaded_error"),
        ("overloaded", Gemini, 503, "UNAVAILABLE"),
        ("overloaded", Chat, 503, "server_error"),
    ] {
        for is_stream in [false, true] {
            let answered = replied(protocol, is_stream, &json!({ "error": error })).await;
            assert_eq!((answered.status, kind(protocol, &answered).as_str()), (status, word), "{error} {protocol:?}");
            let wait = answered.headers.get("retry-after").map(|value| value.to_str().unwrap());
            assert_eq!(wait, (error == "rate_limit").then_some("7"), "{error} {protocol:?}");
        }
    }
    let reply = json!({"error": "rate_limit", "headers": {"Retry-After": "2"}, "status": 503});
    let answered = replied(Chat, false, &reply).await;
    assert_eq!((answered.status, answered.headers["retry-after"].to_str().unwrap()), (503, "2"));
}

#[tokio::test]
async fn an_error_can_come_in_the_middle_of_a_stream() {
    for (protocol, part) in [
        (Protocol::Chat, "data: {\"error\":{"),
        (Protocol::Responses, "event: error\ndata: {"),
        (Protocol::Messages, "event: error\ndata: {"),
        (Protocol::Gemini, "data: {\"error\":{\"code\":503"),
        (Protocol::Ollama, "{\"error\":\"server busy"),
    ] {
        let reply = json!({"text": "hello there", "error": "overloaded", "fails_after_events": 2});
        let answered = replied(protocol, true, &reply).await;
        assert_eq!((answered.status, answered.is_cut), (200, false));
        assert!(answered.text.contains(part), "{protocol:?} {}", answered.text);
        // There is no middle where there is no stream.
        let answered = replied(protocol, false, &reply).await;
        assert!(answered.status >= 500 && !answered.text.contains("hello"), "{protocol:?} {}", answered.text);
    }
    let reply = json!({"text": "hello there", "error": "server", "fails_after_events": 4});
    let answered = replied(Protocol::Responses, true, &reply).await;
    assert_eq!(reader::events(&answered.text)[4].json()["sequence_number"], 4);
}

#[tokio::test]
async fn a_server_can_hang_up_without_a_word() {
    for (step, end) in [
        (r#"{"reply": {"hang_up": true}}"#, None),
        (r#"{"reply": {"hang_up": true, "reset": true}}"#, Some(std::io::ErrorKind::ConnectionReset)),
    ] {
        let server = FakeLlm::start(step).unwrap();
        assert_eq!(raw(&server, Protocol::Messages).await, (String::new(), end));
        assert_eq!(server.finish(), Ok(()));
    }
}

#[test]
fn a_script_that_cannot_be_meant_is_refused() {
    for (bad, part) in [
        (json!({"error": "auth", "text": "a"}), "exactly one"),
        (json!({"text": "a", "fails_after_events": 1}), "needs an `error`"),
        (json!({"raw": "{}", "reasoning": "a"}), "all there is"),
        (json!({"text": "a", "drip": {"bytes": 0, "ms": 1}}), "never ends"),
        (json!({"text": "a", "malformed_event": 0}), "from 1"),
        (json!({"text": "a", "heartbeat_ms": 5}), "of a stall"),
        (json!({"text": "a", "drip": {"bytes": 1, "ms": 1}, "event_delay_ms": 1}), "where an event begins"),
        (json!({"text": "a", "usage": {"prompt": 5, "cached": 6}}), "more cached"),
        (json!({"text": "a", "usage": {"reply": 5, "reasoning": 6}}), "more reasoning"),
        (json!({"text": "a", "usage": "loud"}), "usage"),
        (json!({"error": "odd"}), "odd"),
    ] {
        let error = Script::parse(&json!({ "reply": bad }).to_string()).unwrap_err();
        assert!(error.contains("line 1"), "{error}");
        assert!(error.contains(part) || part == "usage", "{error}");
    }
}

#[tokio::test]
async fn a_request_is_kept_without_its_secrets() {
    for protocol in Protocol::ALL {
        let server = FakeLlm::start(r#"{"reply": {"text": "hi"}}"#).unwrap();
        let body = ask(protocol, false);
        send(&server, protocol, false, &body).await;
        let request = &server.requests()[0];
        assert_eq!((request.protocol, &request.body), (Some(protocol), &body));
        assert_eq!(request.bytes, body.to_string().into_bytes());
        assert!(request.has_key());
        assert_eq!(request.has_authorization, !matches!(protocol, Protocol::Messages | Protocol::Gemini));
        assert!(!format!("{request:?}").contains("sk-secret"), "{request:?}");
    }
}

#[tokio::test]
async fn a_key_in_the_address_is_a_secret_too() {
    let server = FakeLlm::start(r#"{"headers": {"traceparent": {"exists": true}}, "reply": {"text": "hi"}}"#).unwrap();
    let url = format!("{}?key=sk-secret", url(&server, Protocol::Gemini, false));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    client.post(url).header("traceparent", trace).json(&ask(Protocol::Gemini, false)).send().await.unwrap();
    let request = &server.requests()[0];
    assert!(request.has_key() && !format!("{request:?}").contains("sk-secret"));
    assert_eq!(request.traceparent.as_deref(), Some(trace));
    assert_eq!(server.finish(), Ok(()));
}

#[tokio::test]
async fn a_step_can_be_for_one_protocol() {
    let server = FakeLlm::start(r#"{"protocol": "messages", "reply": {"text": "hi"}}"#).unwrap();
    assert_eq!(send(&server, Protocol::Chat, false, &ask(Protocol::Chat, false)).await.status, 500);
    assert!(server.finish().unwrap_err()[0].contains("/v1/chat/completions"));
}
