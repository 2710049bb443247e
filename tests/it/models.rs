//! Models of every provider, as the planner asks them: one reply means one thing in all protocols, and each way to fail has one
//! kind. The servers hold each request to what their provider publishes.

use std::fs;

use cofferdam::domain::{Effect, Failure, Json, Kind, Price, Secret, Tokens};
use cofferdam::planner::model::{ModelOptions, ModelPlanner, Protocol};
use cofferdam::planner::parse::{ReplyLimits, read};
use cofferdam::planner::{Allowance, ContextPack, OfferedTool, Planned, Planner, Proposal};
use cofferdam_kit::{FakeLlm, fake_llm};
use serde_json::json;

mod goals;
mod program;
mod wire;

/// What no event, failure or payload may hold.
const KEY: &str = "sk-7c1f-very-secret";

/// Each protocol, as the server knows it.
const PROTOCOLS: [(Protocol, fake_llm::Protocol); 5] = [
    (Protocol::OpenaiChat, fake_llm::Protocol::Chat),
    (Protocol::Ollama, fake_llm::Protocol::Chat),
    (Protocol::OpenaiResponses, fake_llm::Protocol::Responses),
    (Protocol::Anthropic, fake_llm::Protocol::Messages),
    (Protocol::Gemini, fake_llm::Protocol::Gemini),
];

/// A server with one script, and the options of the model that it serves.
fn served(protocol: (Protocol, fake_llm::Protocol), script: &str) -> (FakeLlm, ModelOptions) {
    let server = FakeLlm::start(script).expect("the script reads");
    let options = ModelOptions::new(protocol.0, "tiny").at(server.base_url_of(protocol.1));
    let options = ModelOptions { api_key: Some(Secret::new(KEY).expect("it is one")), ..options };
    (server, options)
}

fn pack() -> ContextPack {
    let tool = |name: &str, input_schema: Json| OfferedTool {
        name: name.parse().expect("a name"),
        summary: "Sums a column.".to_owned(),
        effect: Effect::Read,
        input_schema,
        output_schema: json!({"type": "integer"}),
    };
    let path = json!({"type": "string", "pattern": "^/"});
    let sum = json!({"type": "object", "required": ["path"], "additionalProperties": false,
        "properties": {"path": path, "limit": {"type": "integer", "minimum": 0}}});
    let rows = json!({"type": "object", "required": ["rows"], "additionalProperties": false,
        "properties": {"rows": {"type": "array", "items": {"type": "array", "prefixItems": [path, {"type": "number"}]}}}});
    let tools = vec![tool("csv.sum", sum), tool("csv.write", rows)];
    ContextPack { goal: "sum the sales".to_owned(), turn: 1, tools, ..ContextPack::default() }
}

fn allowance() -> Allowance {
    Allowance {
        model: Some("tiny".to_owned()),
        wall_ms_max: 10_000,
        first_token_ms_max: 8_000,
        idle_ms_max: 8_000,
        reply_tokens_max: 321,
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
    }
}

/// Asks once, and holds the server's script to its end.
async fn asked(protocol: (Protocol, fake_llm::Protocol), step: &Json, allowance: &Allowance) -> Planned {
    let (server, options) = served(protocol, &step.to_string());
    let planner = ModelPlanner::single(options).expect("it is set up");
    let planned = planner.plan(&pack(), allowance).await;
    let requests = server.requests();
    assert_eq!(server.finish(), Ok(()), "{:?}: {planned:?}", protocol.0);
    assert!(requests.iter().all(fake_llm::Recorded::has_key), "{:?}", protocol.0);
    let told = format!("{planned:?}{}", String::from_utf8_lossy(&planned.raw));
    assert!(!told.contains(KEY), "{:?}: {told}", protocol.0);
    planned
}

async fn replied(protocol: (Protocol, fake_llm::Protocol), reply: &Json) -> Planned {
    asked(protocol, &json!({ "reply": reply }), &allowance()).await
}

fn failure(planned: Planned) -> Failure {
    planned.reply.expect_err("it failed")
}

/// The price of the tests, so that no unknown price stands in the way.
fn free() -> Option<Price> {
    Some(Price { source: "test".to_owned(), bands: vec![cofferdam::domain::PriceBand::default()] })
}
