//! One request and its reply, in every protocol.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use super::*;

fn steps() -> Json {
    let step = |id: &str, path: &str| {
        json!({"id": id, "tool": "csv.sum", "args": {"path": path, "limit": null}, "needs": [],
        "on_failure": "skip", "confidence": 0.5, "flags": ["odd name"]})
    };
    json!({"steps": [step("a", "/x"), step("b", "/y")], "answer": null, "question": null, "abstain": null, "reasoning": "r"})
}

#[tokio::test]
async fn each_provider_says_the_same_plan_and_is_sent_what_it_takes() {
    let mut plans = Vec::new();
    for protocol in PROTOCOLS {
        let usage = json!({"prompt": 900, "cached": 300, "reply": 80, "reasoning": 30});
        let step = json!({
            "protocol": format!("{:?}", protocol.1).to_lowercase(),
            "headers": {"traceparent": {"equals": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}},
            "expect": {"": [{"contains": "csv.sum"}, {"contains": "Sums a column."}, {"contains": "sum the sales"},
                {"contains": "additionalProperties"}, {"not_contains": KEY}, {"contains": "321"}]},
            "reply": {"json": steps(), "reasoning": "I think of sums.", "usage": usage},
        });
        let planned = asked(protocol, &step, &allowance()).await;
        assert_eq!(planned.raw, steps().to_string().into_bytes(), "{:?}: byte for byte", protocol.0);
        assert_eq!(planned.reasoning.as_deref(), Some("I think of sums."), "{:?}", protocol.0);
        assert_eq!(planned.model.as_deref(), Some("tiny"));
        let tokens = Tokens { prompt: 900, cached: 300, reply: 80, ..Tokens::default() };
        let told = planned.tokens.expect("they are counted");
        assert_eq!(Tokens { reasoning: 0, ..told }, tokens, "{:?}", protocol.0);
        assert!(planned.first_token_ms.is_some_and(|ms| ms <= planned.wall_ms), "{planned:?}");
        plans.push(planned.reply.expect("a plan"));
    }
    let Proposal::Plan(plan) = &plans[0] else { panic!("{plans:?}") };
    assert_eq!((plan.steps.len(), &plan.steps[1].args), (2, &json!({"path": "/y"})));
    assert_eq!((plan.steps[0].confidence, plan.steps[0].flags.as_slice()), (Some(0.5), &["odd name".to_owned()][..]));
    assert!(plans.iter().all(|plan| plan == &plans[0]), "{plans:#?}");
}

#[tokio::test]
async fn parallel_native_calls_are_the_same_steps_and_are_read_again_from_what_is_kept() {
    let calls = json!([{"name": "csv.sum", "arguments": {"path": "/x"}, "id": "same"},
        {"name": "csv.sum", "arguments": {"path": {"$from": "x"}}, "id": "same"}]);
    let mut plans = Vec::new();
    for protocol in PROTOCOLS {
        let planned = replied(protocol, &json!({"text": "I sum both.", "tool_calls": calls})).await;
        let again = read(&String::from_utf8_lossy(&planned.raw), &pack(), &ReplyLimits::default());
        assert_eq!(again, planned.reply, "{:?}", protocol.0);
        plans.push(planned.reply.expect("a plan"));
    }
    let Proposal::Plan(plan) = &plans[0] else { panic!("{plans:?}") };
    assert_eq!(plan.steps.iter().map(|step| step.id.as_str()).collect::<Vec<_>>(), ["call1", "call2"], "{plan:?}");
    assert_eq!(plan.steps[1].args, json!({"path": {"$literal": {"$from": "x"}}}), "no reference");
    assert!(plans.iter().all(|plan| plan == &plans[0]), "{plans:#?}");
}

#[tokio::test]
async fn each_way_to_fail_has_one_kind_in_every_protocol() {
    let long = "x".repeat(600);
    for (reply, kind) in [
        (json!({"refusal": "I will not."}), Kind::ModelRefusal),
        (json!({"text": "half", "finish_reason": "content_filter"}), Kind::ModelRefusal),
        (json!({"text": "{\"steps\": [", "finish_reason": "length"}), Kind::ModelTruncated),
        (json!({"text": "{\"steps\": ["}), Kind::ModelInvalidJson),
        (json!({"text": "{\"answer\": 1, \"answer\": 2}"}), Kind::ModelInvalidJson),
        (json!({"text": "Certainly!"}), Kind::ModelInvalidJson),
        (json!({"text": ""}), Kind::ModelNoAction),
        (json!({"json": {"steps": []}}), Kind::ModelNoAction),
        (json!({"json": {"steps": 7}}), Kind::ModelSchema),
        (json!({"json": {"steps": [{"id": "a", "tool": "b.c", "confidence": 1.5}]}}), Kind::ModelSchema),
        (json!({"json": {"steps": [{"id": "a", "tool": "b.c", "flags": [long]}]}}), Kind::ModelSchema),
        (json!({"tool_calls": [{"name": "csv.sum", "arguments": "{\"path\": "}]}), Kind::ModelInvalidJson),
        (
            json!({"tool_calls": [{"name": "csv.sum", "arguments": "{\"path\": \"/x\", \"path\": \"/y\"}"}]}),
            Kind::ModelInvalidJson,
        ),
        (json!({"json": steps(), "cut_after_events": 3}), Kind::NetworkCut),
        (json!({"json": steps(), "cut_after_events": 3, "reset": true}), Kind::NetworkCut),
        (json!({"json": steps(), "malformed_event": 2}), Kind::NetworkHttp5xx),
        (json!({"error": "context_overflow"}), Kind::ModelContextOverflow),
        (json!({"error": "invalid_request"}), Kind::NetworkHttp4xx),
        (json!({"error": "auth"}), Kind::NetworkHttp4xx),
        (json!({"error": "not_found"}), Kind::NetworkHttp4xx),
        (json!({"error": "rate_limit"}), Kind::NetworkRateLimited),
        (json!({"error": "server"}), Kind::NetworkHttp5xx),
        (json!({"error": "overloaded"}), Kind::NetworkHttp5xx),
        (json!({"json": steps(), "error": "overloaded", "fails_after_events": 3}), Kind::NetworkHttp5xx),
        (json!({"json": steps(), "error": "rate_limit", "fails_after_events": 3}), Kind::NetworkRateLimited),
        (json!({"raw": "{\"a\": 1}"}), Kind::NetworkHttp5xx),
        (json!({"raw": "<html>", "headers": {"content-type": "text/html"}}), Kind::NetworkHttp5xx),
        (json!({"raw": "", "status": 307, "headers": {"location": "http://127.0.0.1:1/"}}), Kind::NetworkHttp4xx),
    ] {
        for protocol in PROTOCOLS {
            let planned = replied(protocol, &reply).await;
            let failure = failure(planned.clone());
            // Where arguments travel as an object, those that break off break their event as well.
            let is_event = protocol.0 == Protocol::Gemini && reply.to_string().contains("{\\\"path\\\": \"");
            let kind = if is_event { Kind::NetworkHttp5xx } else { kind };
            assert_eq!(failure.kind, kind, "{:?} {reply}: {failure:?}", protocol.0);
            let is_in_stream = reply.get("fails_after_events").is_some();
            // One that is overloaded says that it asked no model.
            let is_refused = reply["error"] == "overloaded" && !is_in_stream;
            let is_whole = is_refused || !matches!(kind, Kind::NetworkCut | Kind::NetworkHttp5xx) && !is_in_stream;
            assert_eq!(planned.tokens.is_some(), is_whole, "{:?} {reply}: {planned:?}", protocol.0);
            let has_words = kind.code().starts_with("model.") && reply["text"] != "";
            assert!(!has_words || !planned.raw.is_empty(), "{:?} {reply}: what was said is kept", protocol.0);
        }
    }
}

#[tokio::test]
async fn a_server_says_when_it_wants_to_be_asked_again() {
    for protocol in PROTOCOLS {
        let planned = replied(protocol, &json!({"error": "rate_limit"})).await;
        assert_eq!(planned.retry_after_ms, Some(7_000), "{:?}", protocol.0);
        assert_eq!(planned.tokens, Some(Tokens::default()), "nothing was asked of the model");
        assert!(failure(planned).hint.is_some_and(|hint| hint.contains("7 s")));
        let exact = replied(protocol, &json!({"error": "rate_limit", "headers": {"retry-after-ms": "1250"}})).await;
        assert_eq!(exact.retry_after_ms, Some(1_250));
        let past = json!({"error": "rate_limit", "headers": {"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}});
        assert_eq!(replied(protocol, &past).await.retry_after_ms, Some(0));
        let future = json!({"error": "overloaded", "headers": {"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}});
        let waiting = replied(protocol, &future).await;
        assert_eq!(waiting.retry_after_ms, Some(cofferdam::domain::RETRY_AFTER_MS_MAX));
        assert_eq!(waiting.tokens, Some(Tokens::default()), "it says that it asked no model");
    }
}

#[tokio::test]
async fn silence_ends_by_the_bound_that_it_breaks() {
    let short = Allowance { first_token_ms_max: 300, idle_ms_max: 400, wall_ms_max: 5_000, ..allowance() };
    let whole = Allowance { wall_ms_max: 500, ..allowance() };
    for protocol in PROTOCOLS {
        for (reply, allowance, words) in [
            (json!({"json": steps(), "stall_after_events": 0}), &short, "no first part of a reply within 300 ms"),
            (json!({"json": steps(), "delay_ms": 9_000}), &short, "no first part of a reply within 300 ms"),
            (json!({"json": steps(), "stall_after_events": 6}), &short, "no further part of the reply within 400 ms"),
            (json!({"json": steps(), "drip": {"bytes": 1, "ms": 5}}), &whole, "within 500 ms"),
        ] {
            let planned = asked(protocol, &json!({ "reply": reply }), allowance).await;
            assert_eq!(planned.tokens, None, "{:?}: what was said so far is not told", protocol.0);
            let failure = failure(planned);
            assert_eq!(failure.kind, Kind::NetworkTimeout, "{:?} {reply}: {failure:?}", protocol.0);
            assert!(failure.message.contains(words), "{:?} {reply}: {}", protocol.0, failure.message);
        }
    }
}

#[tokio::test]
async fn a_key_that_is_sent_back_is_kept_nowhere() {
    // `asked` looks at all that comes back.
    for protocol in PROTOCOLS {
        for reply in [
            json!({"raw": format!("bad key {KEY}"), "status": 401}),
            json!({"refusal": format!("I know {KEY}")}),
            json!({"text": format!("I know {KEY}"), "reasoning": format!("it is {KEY}")}),
            json!({"json": {"answer": 1, (KEY): KEY}}),
            json!({"tool_calls": [{"name": KEY, "arguments": {"path": KEY}}]}),
            json!({"text": format!("{KEY}{}", "x".repeat(20)), "cut_after_events": 6}),
            json!({"text": "x", "finish_reason": KEY}),
        ] {
            replied(protocol, &reply).await;
        }
    }
}

#[tokio::test]
async fn no_provider_counts_more_than_was_quoted() {
    for protocol in PROTOCOLS {
        for usage in ["echo", "echo_written"] {
            let script = json!({"reply": {"json": {"question": "Which?"}, "usage": usage}}).to_string();
            let (server, options) = served(protocol, &script);
            let options = ModelOptions {
                model: format!("m{}", "x".repeat(190)),
                name: "tiny".to_owned(),
                price: free(),
                ..options
            };
            let planner = ModelPlanner::single(options).expect("it is set up");
            let quote = planner.quote(&pack(), "tiny").expect("it is the model");
            let planned = planner.plan(&pack(), &allowance()).await;
            assert_eq!(server.finish(), Ok(()));
            let tokens = planned.tokens.expect("they are counted");
            assert!(tokens.prompt <= quote.prompt_tokens_max, "{:?}: {tokens:?} of {quote:?}", protocol.0);
            assert_eq!((tokens.reply, quote.server.starts_with("http://127.0.0.1:")), (321, true));
            let is_written = tokens.cache_write_1h == tokens.prompt;
            assert!(usage == "echo" || is_written || protocol.0 != Protocol::Anthropic, "{tokens:?}");
            assert!(planner.quote(&pack(), "other").is_none());
        }
    }
}

#[tokio::test]
async fn a_schema_can_be_left_out_and_the_reply_is_checked_all_the_same() {
    for protocol in PROTOCOLS {
        let step = json!({"expect": {"": {"not_contains": "parallel_max"}}, "reply": {"json": {"steps": 7}}});
        let (server, options) = served(protocol, &step.to_string());
        let planner = ModelPlanner::single(ModelOptions { is_constrained: false, ..options }).expect("it is set up");
        let planned = planner.plan(&pack(), &allowance()).await;
        assert_eq!(failure(planned).kind, Kind::ModelSchema, "{:?}", protocol.0);
        assert_eq!(server.finish(), Ok(()));
    }
}

#[tokio::test]
async fn a_models_name_reaches_its_server_as_it_is() {
    for (protocol, server) in PROTOCOLS {
        for name in ["claude-x-high", "gpt-5-mini", "o3-max", "m-none", "org::m"] {
            // Google's names stand in the path, where there is no room for another sign.
            if protocol == Protocol::Gemini && name.contains(':') {
                continue;
            }
            let named = if protocol == Protocol::Gemini { json!({"absent": true}) } else { json!({ "equals": name }) };
            let step = json!({
                "expect": {"/model": named, "/reasoning_effort": {"absent": true}, "/reasoning": {"absent": true},
                    "/thinking": {"absent": true}, "/output_config/effort": {"absent": true},
                    "/generationConfig/thinkingConfig": {"absent": true}},
                "reply": {"json": {"answer": 1}},
            });
            let (server, options) = served((protocol, server), &step.to_string());
            let options = ModelOptions { model: name.to_owned(), ..options };
            let planned = ModelPlanner::single(options).expect("it is set up").plan(&pack(), &allowance()).await;
            assert_eq!(planned.model.as_deref(), Some(name), "{protocol}: {planned:?}");
            assert_eq!(server.finish(), Ok(()));
        }
    }
}

#[tokio::test]
async fn a_server_that_cannot_prove_who_it_is_gets_nothing() {
    // It speaks no TLS, and so is not the server that was named.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let base_url = format!("https://{}/v1", listener.local_addr().expect("it has one"));
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody comes");
        let mut hello = [0; 2_048];
        let read = stream.read(&mut hello).unwrap_or(0);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n");
        hello[..read].to_vec()
    });
    let options = ModelOptions::new(Protocol::OpenaiChat, "tiny").at(base_url);
    let options = ModelOptions { api_key: Some(Secret::new(KEY).expect("it is one")), ..options };
    let planned = ModelPlanner::single(options).expect("it is set up").plan(&pack(), &allowance()).await;
    let tokens = planned.tokens;
    assert_eq!(failure(planned).kind, Kind::NetworkTls);
    assert_eq!(tokens, Some(Tokens::default()), "the model was not asked");
    let heard = server.join().expect("it heard something");
    assert!(!heard.is_empty() && !String::from_utf8_lossy(&heard).contains(KEY));
}
