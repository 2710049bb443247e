//! OpenAI's chat completions, and what holds for all protocols.

use cofferdam_kit::FakeLlm;
use serde_json::json;

use super::heard::{CALLS_MAX, Counted, Fault, Finish, Heard, REASONING_BYTES_MAX, REPLY_BYTES_MAX};
use super::*;
use crate::domain::{Effect, Json, Secret, Tokens};
use crate::planner::prompt::{self, Dialect};
use crate::planner::route::{Thresholds, Tier};
use crate::planner::{OfferedTool, Proposal, Repair};

mod ends;

use ends::{called, chunks};

const KEY: &str = "sk-very-secret";

fn pack() -> ContextPack {
    let tool = OfferedTool {
        name: "csv.sum".parse().unwrap(),
        summary: "Sums a column.".to_owned(),
        effect: Effect::Read,
        input_schema: json!({"type": "object", "required": ["path"],
            "properties": {"path": {"type": "string"}, "limit": {"type": "integer"}}}),
        output_schema: json!({"type": "integer"}),
    };
    let goal = "sum the sales".to_owned();
    ContextPack { goal, turn: 1, tools: vec![tool], ..ContextPack::default() }
}

fn allowance() -> Allowance {
    Allowance { wall_ms_max: 10_000, reply_tokens_max: 321, ..Allowance::default() }
}

fn planner(base_url: String) -> ModelPlanner {
    let options = ModelOptions::new(Protocol::OpenaiChat, "org::tiny-high").at(base_url);
    ModelPlanner::single(ModelOptions { api_key: Some(Secret::new(KEY).unwrap()), ..options }).unwrap()
}

/// Asks once against a script of one step, which must be met.
async fn ask_with(step: Json, pack: &ContextPack, allowance: &Allowance) -> Planned {
    let server = FakeLlm::start(&step.to_string()).unwrap();
    let planned = planner(server.base_url()).plan(pack, allowance).await;
    assert_eq!(server.finish(), Ok(()));
    planned
}

async fn reply(reply: Json) -> Planned {
    ask_with(json!({ "reply": reply }), &pack(), &allowance()).await
}

fn plan_json() -> Json {
    json!({"reasoning": null, "answer": null, "question": null,
        "steps": [{"id": "a", "tool": "csv.sum", "args": {"path": "p", "limit": null}, "needs": [], "on_failure": "fail"}]})
}

#[tokio::test]
async fn a_plan_comes_back_and_the_request_holds_what_it_should() {
    let step = json!({
        "expect": {
            "/model": {"equals": "org::tiny-high"},
            "/stream": {"equals": true},
            "/stream_options/include_usage": {"equals": true},
            "/temperature": {"equals": 0.0},
            "/max_tokens": {"equals": 321},
            "/reasoning_effort": {"absent": true},
            "/tools": {"absent": true},
            "/messages/0/role": {"equals": "system"},
            "/messages/0/content": [{"contains": "csv.sum"}, {"contains": "Sums a column."}],
            "/messages/1/role": {"equals": "user"},
            "/messages/1/content": [{"contains": "sum the sales"}, {"not_contains": "refused"}],
            "/response_format/type": {"equals": "json_schema"},
            "/response_format/json_schema/strict": {"equals": true},
            "/response_format/json_schema/schema": {"equals": prompt::reply_schema(&pack(), Dialect::Strict)},
            "": {"not_contains": KEY},
        },
        "reply": {"json": plan_json(), "usage": {"prompt_tokens": 70, "completion_tokens": 9}}
    });
    let planned = ask_with(step, &pack(), &allowance()).await;
    let Ok(Proposal::Plan(plan)) = &planned.reply else { panic!("{planned:?}") };
    assert_eq!(plan.steps[0].args, json!({"path": "p"}));
    assert_eq!(planned.raw, plan_json().to_string().into_bytes());
    assert_eq!(planned.tokens, Some(Tokens { prompt: 70, reply: 9, ..Tokens::default() }));
}

#[tokio::test]
async fn the_key_is_sent_where_there_is_one_and_only_there() {
    for key in [Some(Secret::new(KEY).unwrap()), None] {
        let server = FakeLlm::start(r#"{"reply": {"json": {"answer": 1}}}"#).unwrap();
        let has_key = key.is_some();
        let options = ModelOptions::new(Protocol::OpenaiChat, "m").at(format!("{}/", server.base_url()));
        let options = ModelOptions { api_key: key, ..options };
        let planned = ModelPlanner::single(options).unwrap().plan(&pack(), &allowance()).await;
        assert_eq!(planned.reply, Ok(Proposal::Answer(json!(1))));
        assert_eq!(server.requests()[0].has_authorization, has_key);
    }
}

#[tokio::test]
async fn a_repair_tells_what_was_wrong() {
    let repair = Repair { reply: "{\"steps\":7}".to_owned(), failures: vec!["`/steps` is not a list".to_owned()] };
    let pack = ContextPack { repair: Some(repair), ..pack() };
    let step = json!({
        "expect": {"/messages/1/content": [{"contains": "`/steps` is not a list"}, {"contains": "{\\\"steps\\\":7}"}]},
        "reply": {"json": {"question": "Which year?"}}
    });
    let planned = ask_with(step, &pack, &allowance()).await;
    assert_eq!(planned.reply, Ok(Proposal::Question("Which year?".to_owned())));
}

#[tokio::test]
async fn native_calls_become_steps() {
    let calls =
        json!([{"name": "csv.sum", "arguments": {"path": "a"}}, {"name": "csv.sum", "arguments": {"path": "b"}}]);
    let planned = reply(json!({ "tool_calls": calls })).await;
    let Ok(Proposal::Plan(plan)) = planned.reply else { panic!("{planned:?}") };
    assert_eq!(plan.steps.iter().map(|step| &step.args["path"]).collect::<Vec<_>>(), ["a", "b"]);
}

#[tokio::test]
async fn every_failure_has_its_kind() {
    let sums = json!([{"name": "csv.sum", "arguments": {"path": "p"}}]);
    for (script, kind) in [
        (json!({"raw": "{\"error\": {}}", "status": 429, "headers": {"retry-after": "7"}}), Kind::NetworkRateLimited),
        (json!({"raw": "{}", "status": 401}), Kind::NetworkHttp4xx),
        (
            json!({"raw": "{\"error\": {\"code\": \"context_length_exceeded\"}}", "status": 400}),
            Kind::ModelContextOverflow,
        ),
        (json!({"raw": "oops", "status": 500}), Kind::NetworkHttp5xx),
        (json!({"raw": "", "status": 307, "headers": {"location": "http://127.0.0.1:1/"}}), Kind::NetworkHttp4xx),
        (json!({"raw": "<html>", "headers": {"content-type": "text/html"}}), Kind::NetworkHttp5xx),
        (json!({"raw": "{\"choices\": ["}), Kind::NetworkHttp5xx),
        (json!({"raw": "data: {\"choices\": ["}), Kind::NetworkCut),
        (json!({"raw": "data: hello\n\n"}), Kind::NetworkHttp5xx),
        (
            json!({"raw": "data: {\"error\": {\"code\": 429, \"type\": \"rate_limit_error\"}}\n\n"}),
            Kind::NetworkRateLimited,
        ),
        (json!({"raw": "data: {\"error\": \"overloaded\"}\n\n"}), Kind::NetworkHttp5xx),
        (json!({"raw": "{\"object\": \"list\"}"}), Kind::NetworkHttp5xx),
        (json!({"raw": "data: {\"choices\": []}\n\ndata: [DONE]\n\n"}), Kind::ModelNoAction),
        (json!({"text": ""}), Kind::ModelNoAction),
        (json!({"json": plan_json(), "cut_after": 60}), Kind::NetworkCut),
        (json!({"refusal": "I will not."}), Kind::ModelRefusal),
        (json!({"text": "half", "finish_reason": "content_filter"}), Kind::ModelRefusal),
        (json!({"text": "{\"steps\": [", "finish_reason": "length"}), Kind::ModelTruncated),
        (json!({"text": "Certainly!"}), Kind::ModelInvalidJson),
        (json!({"json": {"steps": 7}}), Kind::ModelSchema),
        (json!({"json": {"steps": []}}), Kind::ModelNoAction),
        (json!({"tool_calls": [{"name": "csv.sum", "arguments": "{\"path\": "}]}), Kind::ModelInvalidJson),
        // A gateway whose model died closes so, and what was heard of calls may not be all.
        (chunks(&[called(None, Some("c1"))], None), Kind::NetworkCut),
        (chunks(&[called(None, Some("c1"))], Some("")), Kind::NetworkCut),
        (json!({"tool_calls": sums, "finish_reason": "insufficient_system_resource"}), Kind::NetworkCut),
        (json!({"tool_calls": sums, "finish_reason": "error"}), Kind::NetworkCut),
        (json!({"json": plan_json(), "finish_reason": "aborted"}), Kind::NetworkCut),
        (json!({"tool_calls": sums, "finish_reason": "length"}), Kind::ModelTruncated),
        (json!({"tool_calls": sums, "finish_reason": "model_length"}), Kind::ModelTruncated),
        // Without a number and a name the second is more of the first.
        (chunks(&[called(None, None), called(None, None)], Some("tool_calls")), Kind::ModelInvalidJson),
        (json!({"tool_calls": sums, "text": "{\"answer\": 1}"}), Kind::ModelSchema),
    ] {
        let planned = reply(script.clone()).await;
        let failure = planned.reply.unwrap_err();
        assert_eq!(failure.kind, kind, "{script}: {failure:?}");
    }
}

#[tokio::test]
async fn what_a_failed_reply_used_and_said_is_kept() {
    let planned = reply(json!({"text": "Certainly!", "usage": {"prompt_tokens": 5, "completion_tokens": 2}})).await;
    assert_eq!(planned.raw, b"Certainly!");
    assert_eq!(planned.tokens, Some(Tokens { prompt: 5, reply: 2, ..Tokens::default() }));
    let limited = reply(json!({"raw": "slow down", "status": 429, "headers": {"retry-after": "7"}})).await;
    let failure = limited.reply.unwrap_err();
    assert_eq!(failure.hint.as_deref(), Some("try again after 7 s"));
    assert_eq!(failure.detail.as_deref(), Some("slow down"));
    assert_eq!(limited.raw, b"slow down");
}

#[tokio::test]
async fn a_key_that_is_sent_back_is_not_kept() {
    for script in [
        json!({"raw": format!("bad key {KEY}"), "status": 401}),
        json!({"raw": format!("{{\"choices\": \"{KEY}\"}}")}),
        json!({"refusal": format!("I know {KEY}")}),
        json!({"text": format!("I know {KEY}")}),
        json!({"json": {"answer": 1, (KEY): KEY}}),
        json!({"tool_calls": [{"name": KEY, "arguments": {"path": KEY}}]}),
    ] {
        let planned = reply(script).await;
        let shown = format!("{:?} {}", planned.reply, String::from_utf8_lossy(&planned.raw));
        assert!(!shown.contains(KEY), "{shown}");
    }
}

#[tokio::test]
async fn the_deadline_holds_before_and_within_the_reply() {
    let short = Allowance { wall_ms_max: 500, ..allowance() };
    for slow in [json!({"delay_ms": 5_000, "text": "late"}), json!({"drip": {"bytes": 1, "ms": 30}, "text": "late"})] {
        let planned = ask_with(json!({ "reply": slow }), &pack(), &short).await;
        assert_eq!(planned.reply.unwrap_err().kind, Kind::NetworkTimeout);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_apart_from_a_name_that_is_not() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let failure = planner(format!("http://{free}/v1")).plan(&pack(), &allowance()).await.reply.unwrap_err();
    assert_eq!(failure.kind, Kind::NetworkConnect, "{failure:?}");
    // A label longer than 63 bytes is in no name server: no request leaves the machine.
    let options = ModelOptions::new(Protocol::OpenaiChat, "m").at(format!("http://{}.invalid/v1", "a".repeat(64)));
    let planner = ModelPlanner::single(options).unwrap();
    let failure = planner.plan(&pack(), &allowance()).await.reply.unwrap_err();
    assert_eq!(failure.kind, Kind::NetworkDns, "{failure:?}");
}

#[test]
fn a_base_url_must_be_one_that_keeps_the_key() {
    let try_url = |protocol: Protocol, url: &str, key: Option<&str>| {
        let api_key = key.map(|key| Secret::new(key).unwrap());
        let endpoint = ModelOptions { api_key, ..ModelOptions::new(protocol, "m").at(url) }.endpoint();
        endpoint.map(|url| url.to_string())
    };
    let chat = |url: &str, key: Option<&str>| try_url(Protocol::OpenaiChat, url, key);
    assert_eq!(chat("https://a.example/v1/", Some(KEY)).unwrap(), "https://a.example/v1/chat/completions");
    assert_eq!(chat("http://[::1]:8080", Some(KEY)).unwrap(), "http://[::1]:8080/chat/completions");
    assert!(chat("http://a.example/v1", None).is_ok());
    for bad in
        ["http://a.example/v1", "ftp://a.example", "https://u:p@a.example", "https://a.example/v1?x=1", "a.example"]
    {
        assert_eq!(chat(bad, Some(KEY)).unwrap_err().kind, Kind::DataConfig, "{bad}");
    }
    assert_eq!(chat("https://a.example/v1", Some("sk 1")).unwrap_err().kind, Kind::DataConfig);
    for (protocol, url) in [
        (Protocol::OpenaiResponses, "https://a.example/responses"),
        (Protocol::Anthropic, "https://a.example/messages"),
        (Protocol::Gemini, "https://a.example/models/m:streamGenerateContent?alt=sse"),
        (Protocol::Ollama, "https://a.example/chat/completions"),
    ] {
        assert_eq!(try_url(protocol, "https://a.example", Some(KEY)).unwrap(), url);
    }
    let ollama = try_url(Protocol::Ollama, "http://localhost:11434/api", None).unwrap_err();
    assert!(ollama.hint.is_some_and(|hint| hint.contains("/v1")), "it tells where to go");
    let twice = chat("https://a.example/v1/chat/completions", None).unwrap_err();
    assert!(twice.message.contains("added by itself"), "{twice}");
}

#[test]
fn openai_itself_is_told_to_process_at_the_price_that_is_known_and_nobody_else() {
    let sent = |protocol, base_url: &str| {
        let options = ModelOptions::new(protocol, "m").at(base_url);
        let ear = Arc::new(ear::Ear::new(protocol, Arc::new(SystemClock::default())));
        request::options(&options, &pack(), &allowance(), &ear).extra_body.map(|body| body["service_tier"].clone())
    };
    let told = Some(json!("default"));
    for base_url in ["https://api.openai.com/v1", "https://eu.api.openai.com/v1/"] {
        assert_eq!(sent(Protocol::OpenaiChat, base_url), told);
        assert_eq!(sent(Protocol::OpenaiResponses, base_url), told);
        assert_eq!(sent(Protocol::Anthropic, base_url), Some(Json::Null));
    }
    for base_url in
        ["http://localhost:8000/v1", "https://api.openai.com.example/v1", "https://xapi.openai.com/v1", "no"]
    {
        assert_eq!(sent(Protocol::OpenaiChat, base_url), Some(Json::Null), "{base_url}");
    }
}

#[test]
fn a_models_name_cannot_leave_its_place_in_the_path() {
    for bad in ["../x", "a/b", "a?key=1", "", "a%2fb"] {
        assert!(ModelOptions::new(Protocol::Gemini, bad).endpoint().is_err(), "{bad}");
    }
    let listed = ModelOptions::new(Protocol::Gemini, "models/gemini-3-pro").endpoint().unwrap();
    assert!(listed.path().ends_with("/v1beta/models/gemini-3-pro:streamGenerateContent"), "{listed}");
}

#[test]
fn what_is_kept_of_a_reply_has_bounds() {
    let mut heard = Heard::default();
    heard.think(&"ä".repeat(REASONING_BYTES_MAX));
    assert_eq!((heard.reasoning.len(), heard.fault.clone()), (REASONING_BYTES_MAX, None), "it is cut, and no fault");
    heard.say(&"x".repeat(REPLY_BYTES_MAX));
    assert_eq!(heard.fault, None);
    heard.call(0, "a.b", "");
    assert_eq!((heard.fault, heard.calls.len()), (Some(Fault::TooLong), 0));
    let mut many = Heard::default();
    (0..=CALLS_MAX as u64).for_each(|at| many.call(at, "a", ""));
    assert_eq!((many.fault, many.calls.len()), (Some(Fault::TooLong), CALLS_MAX));
    // A number of a call is a name, and nothing is made room for below it.
    let mut far = Heard::default();
    far.call(u64::MAX, "a.b", "{}");
    assert_eq!((far.fault, far.calls.len()), (None, 1));
}

#[test]
fn a_call_that_is_told_whole_stands_where_its_parts_stood() {
    let mut heard = Heard::default();
    heard.call(0, "a.b", "{\"x\"");
    heard.call(1, "c.d", "{}");
    heard.whole_call(0, "a.b", "{\"x\": 1}");
    let calls: Vec<_> = heard.calls.iter().map(|call| (call.tool.as_str(), call.arguments.as_str())).collect();
    assert_eq!(calls, [("a.b", "{\"x\": 1}"), ("c.d", "{}")]);
}

#[test]
fn tokens_are_whole_or_nobody_knows_them() {
    let counted = Counted { prompt: Some(100), reply: Some(20), ..Counted::default() };
    assert_eq!(counted.tokens(), Some(Tokens { prompt: 100, reply: 20, ..Tokens::default() }));
    let lesser = Counted { total: Some(150), reasoning: Some(900), ..counted };
    let tokens = lesser.tokens().unwrap();
    assert_eq!((tokens.reply, tokens.reasoning), (50, 50), "what is counted beside the reply is paid for too");
    let written =
        Counted { prompt: Some(5), cached: Some(10), cache_write: Some(7), cache_write_1h: Some(9), ..counted };
    let tokens = written.tokens().unwrap();
    assert_eq!(
        (tokens.prompt, tokens.cache_write_5m, tokens.cache_write_1h),
        (17, 0, 7),
        "no part is more than its whole"
    );
    for unknown in [
        Counted { reply: None, ..counted },
        Counted { prompt: None, ..counted },
        Counted { prompt: Some(0), reply: Some(0), ..Counted::default() },
    ] {
        assert_eq!(unknown.tokens(), None, "{unknown:?}");
    }
}

#[tokio::test]
async fn a_request_that_no_model_can_read_is_not_sent() {
    let options = ModelOptions::new(Protocol::OpenaiChat, "m").at("http://127.0.0.1:9/v1");
    let planner = ModelPlanner::single(ModelOptions { context_tokens_max: Some(10), ..options }).unwrap();
    let planned = planner.plan(&pack(), &allowance()).await;
    assert_eq!(planned.tokens, Some(Tokens::default()));
    assert_eq!(planned.reply.unwrap_err().kind, Kind::ModelContextOverflow);
}

#[test]
fn routes_name_models_that_are_there() {
    let model = |name: &str| ModelOptions { name: name.to_owned(), ..ModelOptions::new(Protocol::Ollama, "m") };
    let tier = |name: &str, models: &[&str]| Tier {
        name: name.to_owned(),
        models: models.iter().map(|&model| model.to_owned()).collect(),
        effect_max: Effect::Once,
    };
    let planner = |models: Vec<ModelOptions>, tiers: Vec<Tier>| {
        ModelPlanner::new(models, Routes { tiers, thresholds: Thresholds::default() }).map(|planner| planner.name())
    };
    let two = || vec![model("a"), model("b")];
    assert_eq!(planner(two(), vec![tier("x", &["a"]), tier("y", &["b", "a"])]), Ok("models:a,b".to_owned()));
    assert_eq!(planner(two(), vec![tier("x", &["b"])]), Ok("model:b".to_owned()));
    for (models, tiers) in [
        (two(), vec![]),
        (two(), vec![tier("x", &[])]),
        (two(), vec![tier("x", &["c"])]),
        (vec![model("a"), model("a")], vec![tier("x", &["a"])]),
    ] {
        assert_eq!(planner(models, tiers).unwrap_err().kind, Kind::DataConfig);
    }
}
