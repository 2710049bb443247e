//! Recordings are answered as they were recorded, in their order.

use serde_json::json;

use super::super::{FakeLlm, Protocol};
use super::client::{ask, send};
use super::reader;
use crate::web::coded;

/// Writes a folder of cassettes.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("it is written");
    }
    folder
}

/// A cassette of vcrpy: a stream, then two whole answers, one of them coded as it was on the wire.
fn vcr(gzip: &str) -> String {
    format!(
        r#"interactions:
- request:
    body: '{{"model": "claude"}}'
    headers:
      accept: [application/json]
    method: POST
    uri: https://api.anthropic.com/v1/messages?beta=true
  response:
    body:
      string: |+
        event: message_start
        data: {{"type":"message_start","message":{{"id":"msg_1","type":"message","role":"assistant","content":[],"usage":{{"input_tokens":6,"output_tokens":1}}}}}}

        event: content_block_delta
        data: {{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"Hi"}}}}

        event: message_delta
        data: {{"type":"message_delta","delta":{{"stop_reason":"end_turn"}},"usage":{{"input_tokens":6,"output_tokens":4}}}}

        event: message_stop
        data: {{"type":"message_stop"}}

    headers:
      Content-Type: [text/event-stream; charset=utf-8]
      Transfer-Encoding: [chunked]
      Connection: [keep-alive]
      request-id: [req_7]
    status: {{code: 200, message: OK}}
- request: {{method: POST, uri: 'https://api.openai.com/v1/chat/completions', body: null, headers: {{}}}}
  response:
    body:
      string: !!binary |
        {gzip}
    headers: {{Content-Type: application/json, Content-Encoding: gzip, Content-Length: '9999'}}
    status: {{code: 200, message: OK}}
- request: {{method: POST, uri: 'https://api.openai.com/v1/chat/completions', body: null, headers: {{}}}}
  response:
    body: {{string: '{{"error": {{"message": "slow down"}}}}'}}
    headers: {{content-type: [application/json], content-encoding: [br], retry-after: ['2']}}
    status: {{code: 429, message: Too Many Requests}}
"#
    )
}

async fn gzipped(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(coded::text("gzip", text).await)
}

/// Sends a chat request, and returns the coding and the bytes of the answer, as they are.
async fn bytes(server: &FakeLlm, body: &str) -> (String, Vec<u8>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    // By hand: a client may undo the coding before anybody sees it.
    let url = format!("{}/chat/completions", server.base_url());
    let (address, path) = url.trim_start_matches("http://").split_once('/').unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /{path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let head = String::from_utf8(answer[..end].to_vec()).unwrap().to_ascii_lowercase();
    let coding = head.lines().find_map(|line| line.strip_prefix("content-encoding: ")).unwrap();
    (coding.trim().to_owned(), answer[end..].to_vec())
}

#[tokio::test]
async fn a_cassette_of_vcrpy_is_answered_in_its_order() {
    let whole =
        r#"{"object":"chat.completion","choices":[{"message":{"content":"from the wire"},"finish_reason":"stop"}]}"#;
    let folder = folder(&[("one.yaml", &vcr(&gzipped(whole).await))]);
    let server = FakeLlm::cassettes(folder.path()).unwrap();

    let chat = ask(Protocol::Chat, false);
    let first = bytes(&server, &chat.to_string()).await;
    assert_eq!((first.0.as_str(), &first.1), ("gzip", &coded::text("gzip", whole).await));
    let limited = send(&server, Protocol::Chat, false, &chat).await;
    assert_eq!((limited.status, limited.json()["error"]["message"].as_str()), (429, Some("slow down")));
    assert_eq!(limited.headers["retry-after"], "2");
    // It was recorded as text, so it is coded no more.
    assert!(!limited.headers.contains_key("content-encoding"));

    let streamed = send(&server, Protocol::Messages, true, &ask(Protocol::Messages, true)).await;
    let heard = reader::stream(Protocol::Messages, &streamed.text);
    assert_eq!((heard.text.as_str(), heard.stop.as_str(), heard.usage.unwrap().reply), ("Hi", "end_turn", 4));
    assert_eq!(
        (&streamed.headers["transfer-encoding"], &streamed.headers["request-id"]),
        (&"chunked".parse().unwrap(), &"req_7".parse().unwrap())
    );

    let none = send(&server, Protocol::Chat, false, &chat).await;
    assert_eq!(none.status, 404);
    assert_eq!(server.requests().len(), 4);
    let faults = server.finish().unwrap_err();
    assert!(faults.len() == 1 && faults[0].contains("/v1/chat/completions"), "{faults:?}");
}

/// Two recordings of httpmock in one file, as the files of a project have them.
const HTTPMOCK: &str = r#"when:
  path: /v1beta/models/m:streamGenerateContent
  method: POST
  query_param:
  - name: alt
    value: sse
  body: '{"contents":[]}'
then:
  status: 200
  header:
  - name: content-type
    value: text/event-stream
  body: "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"On\"}]}}]}\r\n\r\ndata: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"ce\"}]},\"finishReason\":\"STOP\"}]}\r\n\r\n"
---
when:
  path: /v1/models
  method: GET
then:
  status: 200
  header:
  - name: content-type
    value: application/json
  body: '{"data":[]}'
"#;

#[tokio::test]
async fn a_cassette_of_httpmock_is_answered_and_can_be_repeated() {
    let folder = folder(&[("deep/er/a.yaml", HTTPMOCK), ("readme.md", "not a cassette")]);
    let server = FakeLlm::cassettes_on(folder.path(), true, 0).unwrap();
    for _ in 0..2 {
        let streamed = send(&server, Protocol::Gemini, true, &ask(Protocol::Gemini, true)).await;
        let heard = reader::stream(Protocol::Gemini, &streamed.text);
        assert_eq!((heard.text.as_str(), heard.stop.as_str()), ("Once", "STOP"));
    }
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let models = client.get(format!("{}/models", server.base_url())).send().await.unwrap();
    assert_eq!(models.text().await.unwrap(), r#"{"data":[]}"#);
    assert_eq!(server.finish(), Ok(()));
}

#[tokio::test]
async fn files_follow_each_other_by_name_and_each_recording_comes_once() {
    let one = |text: &str| {
        format!("when: {{path: /v1/chat/completions, method: POST}}\nthen: {{status: 200, body: '{text}'}}\n")
    };
    let folder = folder(&[("b.yml", &one("third")), ("a.yaml", &format!("{}---\n{}", one("first"), one("second")))]);
    let server = FakeLlm::cassettes(folder.path()).unwrap();
    let chat = ask(Protocol::Chat, false);
    for wanted in ["first", "second", "third"] {
        assert_eq!(send(&server, Protocol::Chat, false, &chat).await.text, wanted);
    }
    assert_eq!(server.finish(), Ok(()));
}

#[tokio::test]
async fn a_wrong_request_to_a_recording_is_answered_and_is_a_fault() {
    let folder = folder(&[("a.yaml", "when: {path: /v1/messages}\nthen: {body: hello}\n")]);
    let server = FakeLlm::cassettes(folder.path().join("a.yaml")).unwrap();
    let answered = send(&server, Protocol::Messages, false, &json!({"model": "m"})).await;
    assert_eq!((answered.status, answered.text.as_str()), (200, "hello"));
    assert!(server.finish().unwrap_err()[0].starts_with("request 1: "));
}

#[test]
fn other_forms_of_bodies_are_read() {
    use super::super::cassettes::bodies;
    for (response, wanted) in [
        ("{status: 200, parsed_body: {a: [1, null]}}", r#"{"a":[1,null]}"#),
        ("{status_code: 200, content: plain}", "plain"),
        ("{status: {code: 200}, body: {base64_string: aGk=}}", "hi"),
        ("{status: {code: 200}, body: {encoding: UTF-8, string: ''}}", ""),
        ("{status: {code: 200}, body: null}", ""),
    ] {
        let request = "{method: post, uri: 'http://x'}";
        for cassette in [
            format!("interactions: [{{request: {request}, response: {response}}}]"),
            format!("http_interactions: [{{request: {request}, response: {response}}}]"),
            format!("requests: [{request}]\nresponses: [{response}]"),
        ] {
            assert_eq!(bodies(&cassette), Ok(vec![wanted.as_bytes().to_vec()]), "{cassette}");
        }
    }
    assert_eq!(bodies("when: {path: /}\nthen: {body_base64: aGk=}"), Ok(vec![b"hi".to_vec()]));
}

#[test]
fn what_is_no_cassette_is_told_with_its_file() {
    for (text, told) in [
        ("a: 1", "no cassette"),
        ("interactions: [{request: {uri: /}}]", "interaction 1: it has a `request` and a `response`"),
        ("interactions: [{request: {}, response: {status: 200}}]", "interaction 1: a request has a `uri`"),
        ("interactions: [{request: {uri: /}, response: {status: 99}}]", "interaction 1: a response has a `status`"),
        ("requests: [{uri: /}]\nresponses: []", "interaction 1"),
        ("interactions: [{request: {uri: /}, response: {status: 200, body: {base64_string: '?'}}}]", "no base64"),
        ("when: {}\nthen: {}", "`path`"),
        ("when: {path: /}", "`then`"),
        ("when: [", ""),
    ] {
        let folder = folder(&[("odd.yaml", text)]);
        let error = FakeLlm::cassettes(folder.path()).err().expect("it is refused");
        assert!(error.contains("odd.yaml") && error.contains(told), "{text}: {error}");
    }
    assert!(FakeLlm::cassettes(folder(&[]).path()).err().expect("it is refused").contains("no recording"));
}
