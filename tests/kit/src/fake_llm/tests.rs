//! The script is kept strictly, and what it says goes over the wire.

use serde_json::{Value, json};

use super::*;

mod cassettes;
mod client;
mod manners;
mod reader;
mod shapes;
mod wire;

async fn post(server: &FakeLlm, body: &Value) -> (u16, String) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/chat/completions", server.base_url());
    let response = client.post(url).bearer_auth("sk-secret").json(body).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

fn ask(text: &str) -> Value {
    json!({"model": "m", "messages": [{"role": "user", "content": text}]})
}

#[tokio::test]
async fn a_step_that_is_met_answers_like_openai() {
    let script = json!({
        "expect": {"/messages/0/content": {"contains": "sum"}, "/stream": {"absent": true}},
        "reply": {"json": {"answer": 3}, "usage": {"prompt_tokens": 7, "completion_tokens": 2}}
    });
    let server = FakeLlm::start(&script.to_string()).unwrap();
    let (status, text) = post(&server, &ask("the sum")).await;
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status, 200);
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["choices"][0]["message"]["content"], r#"{"answer":3}"#);
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert_eq!(body["usage"]["total_tokens"], 9);
    let requests = server.requests();
    assert!(requests[0].has_authorization);
    assert!(!format!("{requests:?}").contains("sk-secret"));
    assert_eq!(server.finish(), Ok(()));
}

#[tokio::test]
async fn a_stream_says_the_same_in_pieces() {
    let server = FakeLlm::start(r#"{"reply": {"text": "hello there"}}"#).unwrap();
    let mut request = ask("hi");
    request["stream"] = json!(true);
    request["stream_options"] = json!({"include_usage": true});
    let (_, text) = post(&server, &request).await;
    let events: Vec<&str> = text.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect();
    assert_eq!(events.last(), Some(&"[DONE]"));
    let values = events.iter().filter_map(|event| serde_json::from_str::<Value>(event).ok());
    let said: String =
        values.clone().filter_map(|v| Some(v.pointer("/choices/0/delta/content")?.as_str()?.to_owned())).collect();
    assert_eq!(said, "hello there");
    assert_eq!(values.filter(|v| !v["usage"].is_null()).count(), 1);
    assert_eq!(server.finish(), Ok(()));
}

#[tokio::test]
async fn every_departure_from_the_script_is_a_fault() {
    let script = "{\"expect\": {\"/model\": {\"equals\": \"other\"}}, \"reply\": {\"text\": \"\"}}\n{\"reply\": {\"text\": \"never\"}}";
    let server = FakeLlm::start(script).unwrap();
    let (status, text) = post(&server, &ask("hi")).await;
    assert_eq!(status, 500);
    assert!(text.contains("/model"), "{text}");
    let faults = server.finish().unwrap_err();
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults[1].contains("step 2"), "{faults:?}");
}

#[tokio::test]
async fn a_standing_step_answers_whenever_it_is_asked_and_takes_nothing_from_the_queue() {
    let standing = |part: &str, text: &str| json!({"standing": true, "expect": {"/messages/0/content": {"contains": part}}, "reply": {"text": text}});
    let script =
        [json!({"reply": {"text": "from the queue"}}), standing("one", "always 1"), standing("two", "always 2")];
    let server = FakeLlm::start(&script.map(|step| step.to_string()).join("\n")).unwrap();
    for (asked, said) in [("two", "always 2"), ("one", "always 1"), ("three", "from the queue"), ("two", "always 2")] {
        assert!(post(&server, &ask(asked)).await.1.contains(said), "{asked}");
    }
    assert_eq!(post(&server, &ask("three")).await.0, 500, "the queue is at its end");
    assert_eq!(server.finish().unwrap_err().len(), 1);
}

#[tokio::test]
async fn a_request_too_many_is_refused() {
    let server = FakeLlm::start("").unwrap();
    assert_eq!(post(&server, &ask("hi")).await.0, 500);
    assert!(server.finish().unwrap_err()[0].contains("one too many"));
}

#[tokio::test]
async fn a_cut_reply_is_seen_as_cut() {
    for stream in [false, true] {
        let server = FakeLlm::start(r#"{"reply": {"text": "hello there", "cut_after": 40}}"#).unwrap();
        let mut request = ask("hi");
        request["stream"] = json!(stream);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("{}/chat/completions", server.base_url());
        let response = client.post(url).json(&request).send().await.unwrap();
        assert!(response.text().await.is_err(), "stream: {stream}");
        assert_eq!(server.finish(), Ok(()));
    }
}

#[tokio::test]
async fn headers_and_status_are_the_scripts() {
    let server = FakeLlm::start(
        r#"{"reply": {"raw": "{\"error\":{}}", "status": 429, "headers": {"retry-after": "7"}, "drip": {"bytes": 4, "ms": 1}}}"#,
    )
    .unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/chat/completions", server.base_url());
    let response = client.post(url).json(&ask("hi")).send().await.unwrap();
    assert_eq!(response.status().as_u16(), 429);
    assert_eq!(response.headers()["retry-after"], "7");
    assert_eq!(response.text().await.unwrap(), "{\"error\":{}}");
    assert_eq!(server.finish(), Ok(()));
}

#[test]
fn the_script_in_the_readme_is_one() {
    let readme = include_str!("../../README.md");
    let script = readme.split("```jsonl\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a script");
    assert_eq!(Script::parse(script).unwrap().steps.len(), script.lines().count());
}
