//! How a reply ends, and what its calls are: what servers do beside their protocol.

use cofferdam_kit::fake_llm;

use super::*;

fn wire(protocol: Protocol) -> fake_llm::Protocol {
    match protocol {
        Protocol::OpenaiChat | Protocol::Ollama => fake_llm::Protocol::Chat,
        Protocol::OpenaiResponses => fake_llm::Protocol::Responses,
        Protocol::Anthropic => fake_llm::Protocol::Messages,
        Protocol::Gemini => fake_llm::Protocol::Gemini,
    }
}

/// A whole call in a part of its own.
pub(super) fn called(index: Option<u64>, id: Option<&str>) -> Json {
    json!({"index": index, "id": id, "function": {"name": "csv.sum", "arguments": "{\"path\": \"p\"}"}})
}

/// A stream that holds each call in an event of its own, and ends with `[DONE]`.
pub(super) fn chunks(calls: &[Json], finish_reason: Option<&str>) -> Json {
    let delta = |delta: Json, reason: Option<&str>| json!({"choices": [{"delta": delta, "finish_reason": reason}]});
    let calls = calls.iter().map(|call| delta(json!({ "tool_calls": [call] }), None));
    let events = calls.chain([delta(json!({}), finish_reason)]);
    let events: String = events.map(|event| format!("data: {event}\n\n")).collect();
    json!({ "raw": format!("{events}data: [DONE]\n\n") })
}

#[tokio::test]
async fn calls_that_are_numbered_alike_are_told_apart_by_their_names() {
    for index in [None, Some(0)] {
        let script = chunks(&[called(index, Some("c1")), called(index, Some("c2"))], Some("tool_calls"));
        let Ok(Proposal::Plan(plan)) = reply(script).await.reply else { panic!("{index:?}") };
        assert_eq!(plan.steps.len(), 2, "{index:?}");
    }
    let mut heard = Heard::default();
    for (id, part) in [("a", "{\"x\""), ("", ": 1"), ("a", "}"), ("b", "{"), ("", "}")] {
        heard.call_of(0, id, "a.b", part);
    }
    assert_eq!(heard.calls.iter().map(|call| call.arguments.as_str()).collect::<Vec<_>>(), ["{\"x\": 1}", "{}"]);
}

#[tokio::test]
async fn a_reply_is_whole_where_its_server_falls_silent_after_the_end() {
    // Two parts of text around which it begins and ends.
    let planned = reply(json!({"json": {"answer": 1}, "stall_after_events": 4})).await;
    assert_eq!(planned.reply, Ok(Proposal::Answer(json!(1))));
    let before = Allowance { idle_ms_max: 300, ..allowance() };
    let step = json!({"reply": {"json": {"answer": 1}, "stall_after_events": 3}});
    assert_eq!(ask_with(step, &pack(), &before).await.reply.unwrap_err().kind, Kind::NetworkTimeout);
}

#[test]
fn only_known_ends_are_ends() {
    let of = |read: fn(&Json, &mut Heard), event: Json| {
        let mut heard = Heard::default();
        read(&event, &mut heard);
        heard.finish.unwrap()
    };
    let claude = |reason: &str| of(anthropic::read, json!({"type": "message_delta", "delta": {"stop_reason": reason}}));
    let gemini = |reason: &str| of(gemini::read, json!({"candidates": [{"finishReason": reason}]}));
    let openai = |reason: &str| of(openai_chat::read, json!({"choices": [{"finish_reason": reason}]}));
    let responses = |reason: &str| {
        let response = json!({"incomplete_details": {"reason": reason}});
        of(openai_responses::read, json!({"type": "response.incomplete", "response": response}))
    };
    let done =
        [claude("end_turn"), claude("tool_use"), claude("stop_sequence"), gemini("STOP"), openai("function_call")];
    assert!(done.iter().all(|finish| *finish == Finish::Done), "{done:?}");
    for broken in [claude("pause_turn"), gemini("FINISH_REASON_UNSPECIFIED"), openai("error"), responses("other")] {
        assert!(matches!(broken, Finish::Broken(_)), "{broken:?}");
    }
    assert_eq!((gemini("SAFETY"), responses("max_output_tokens")), (Finish::Withheld("SAFETY".into()), Finish::Cut));
}

#[tokio::test]
async fn done_is_an_end_of_text_in_openais_chat_alone() {
    for (protocol, is_end) in [
        (Protocol::OpenaiChat, true),
        (Protocol::Ollama, true),
        (Protocol::Anthropic, false),
        (Protocol::Gemini, false),
        (Protocol::OpenaiResponses, false),
    ] {
        let server = FakeLlm::start(&json!({"reply": {"raw": "data: [DONE]\n\n"}}).to_string()).unwrap();
        let options = ModelOptions::new(protocol, "m").at(server.base_url_of(wire(protocol)));
        let failure = ModelPlanner::single(options).unwrap().plan(&pack(), &allowance()).await.reply.unwrap_err();
        let kind = if is_end { Kind::ModelNoAction } else { Kind::NetworkCut };
        assert_eq!(failure.kind, kind, "{protocol}: {failure:?}");
    }
}

#[tokio::test]
async fn a_refused_bound_tells_what_to_write_and_what_may_be_billed_is_not_free() {
    for (status, body, words) in [
        (400, "Unsupported parameter: 'max_tokens' is not supported with this model.", "openai-responses"),
        (
            400,
            "max_tokens is too large: 8192. This model supports at most 4096 completion tokens",
            "`reply_tokens_max`",
        ),
        (400, "max_tokens: 8192 > 4096, which is the maximum allowed number of output tokens", "`reply_tokens_max`"),
    ] {
        let planned = reply(json!({"raw": body, "status": status})).await;
        assert_eq!(planned.tokens, Some(Tokens::default()));
        let hint = planned.reply.unwrap_err().hint.unwrap();
        assert!(hint.contains(words), "{body}: {hint}");
    }
    for status in [408, 499] {
        assert_eq!(reply(json!({"raw": "too late", "status": status})).await.tokens, None, "{status}");
    }
}

#[test]
fn models_that_reason_are_known_by_any_name() {
    for (model, reasons) in [
        ("ft:o4-mini:org::id", true),
        ("openai/o4-mini", true),
        ("gpt-5", true),
        ("o365/llama", false),
        ("gpt-4.1", false),
    ] {
        assert_eq!(Protocol::OpenaiChat.temperature(model).is_none(), reasons, "{model}");
    }
    let word = |base_url: &str, model: &str| {
        let options = ModelOptions::new(Protocol::OpenaiChat, model).at(base_url);
        let ear = Arc::new(ear::Ear::new(Protocol::OpenaiChat, Arc::new(SystemClock::default())));
        let body = request::options(&options, &pack(), &allowance(), &ear).extra_body.unwrap();
        body.as_object().unwrap().keys().next().unwrap().clone()
    };
    assert_eq!(word("https://api.openai.com/v1", "gpt-4.1"), "max_completion_tokens");
    assert_eq!(word("https://mine.openai.azure.com/openai/v1", "planner"), "max_completion_tokens");
    assert_eq!(word("https://gateway.example/v1", "openai/o4-mini"), "max_completion_tokens");
    assert_eq!(word("http://localhost:8000/v1", "qwen3"), "max_tokens");
}

#[tokio::test]
async fn a_key_in_what_cannot_be_read_is_taken_out() {
    // Google's calls are a part of the event, and so of what is said of it.
    let event = json!({"candidates": [{"content": {"parts": [{"functionCall": {"name": "csv.sum"}}]}, "finishReason": "STOP"}]});
    let twice = event.to_string().replace("\"name\"", &format!("\"args\": {{\"{KEY}\": 1, \"{KEY}\": 2}}, \"name\""));
    let server = FakeLlm::start(&json!({"reply": {"raw": format!("data: {twice}\n\n")}}).to_string()).unwrap();
    let options = ModelOptions::new(Protocol::Gemini, "m").at(server.base_url_of(wire(Protocol::Gemini)));
    let options = ModelOptions { api_key: Some(Secret::new(KEY).unwrap()), ..options };
    let planned = ModelPlanner::single(options).unwrap().plan(&pack(), &allowance()).await;
    let failure = planned.reply.unwrap_err();
    assert_eq!(failure.kind, Kind::ModelInvalidJson, "{failure:?}");
    assert!(!format!("{failure:?}").contains(KEY), "{failure:?}");
}
