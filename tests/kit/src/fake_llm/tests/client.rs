//! Requests as each provider's client makes them, and the answers as they come.

use serde_json::{Value, json};

use super::super::{FakeLlm, Protocol};

/// An answer, read to its end or to where it broke off.
pub struct Answered {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
    /// Whether the connection ended before the answer did.
    pub is_cut: bool,
}

impl Answered {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect("the answer is JSON")
    }
}

/// Makes a small request that each provider takes.
pub fn ask(protocol: Protocol, is_stream: bool) -> Value {
    let message = json!({"role": "user", "content": "hi"});
    match protocol {
        Protocol::Chat if is_stream => json!({
            "model": "m", "messages": [message], "max_completion_tokens": 50, "stream": true,
            "stream_options": {"include_usage": true},
        }),
        Protocol::Chat => json!({"model": "m", "messages": [message], "max_completion_tokens": 50}),
        Protocol::Responses => json!({
            "model": "m", "input": [message], "max_output_tokens": 50, "store": false, "stream": is_stream,
        }),
        Protocol::Messages => json!({"model": "m", "max_tokens": 50, "messages": [message], "stream": is_stream}),
        Protocol::Gemini => json!({
            "contents": [{"role": "user", "parts": [{"text": "hi"}]}], "generationConfig": {"maxOutputTokens": 50},
        }),
        Protocol::Ollama => json!({
            "model": "m", "messages": [message], "options": {"num_predict": 50}, "stream": is_stream,
        }),
    }
}

/// Returns the address of a request.
pub fn url(server: &FakeLlm, protocol: Protocol, is_stream: bool) -> String {
    let path = match protocol {
        Protocol::Chat => "chat/completions",
        Protocol::Responses => "responses",
        Protocol::Messages => "messages",
        Protocol::Gemini if is_stream => "models/m:streamGenerateContent?alt=sse",
        Protocol::Gemini => "models/m:generateContent",
        Protocol::Ollama => "api/chat",
    };
    format!("{}{path}", server.base_url_of(protocol))
}

/// Sends `body` and reads what comes.
pub async fn send(server: &FakeLlm, protocol: Protocol, is_stream: bool, body: &Value) -> Answered {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let request = client.post(url(server, protocol, is_stream)).json(body);
    let request = match protocol {
        Protocol::Messages => request.header("anthropic-version", "2023-06-01").header("x-api-key", "sk-secret"),
        Protocol::Gemini => request.header("x-goog-api-key", "sk-secret"),
        _ => request.bearer_auth("sk-secret"),
    };
    let mut response = request.send().await.expect("an answer");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let mut bytes = Vec::new();
    let is_cut = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend(chunk),
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    Answered { status, headers, text: String::from_utf8(bytes).expect("text"), is_cut }
}

/// Sends the usual request to a server with one step, and ends the server.
pub async fn replied(protocol: Protocol, is_stream: bool, reply: &Value) -> Answered {
    let server = FakeLlm::start(&json!({ "reply": reply }).to_string()).expect("the script reads");
    let answered = send(&server, protocol, is_stream, &ask(protocol, is_stream)).await;
    assert_eq!(server.finish(), Ok(()), "{protocol:?}");
    answered
}
