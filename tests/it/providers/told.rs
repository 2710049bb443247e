//! What is told of a request: one trace for all that a run asks, and never a key.

use std::collections::BTreeSet;

use cofferdam::domain::{Digest, Fact, RunId, Subject, Suspension, Traceparent};
use cofferdam::host::{Message, RunState};
use cofferdam::sandbox::WasmRunner;
use cofferdam::store::EventLog;
use cofferdam::store::memory::MemoryLog;
use cofferdam_kit::WebServer;
use cofferdam_kit::web::Reply;

use super::*;
use crate::guest::options;

/// What somebody brings.
const BROUGHT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn fetches(world: &World, web: &WebServer, text: &str) -> Host {
    let rule = format!(
        "[[rule]]\nname = 'web'\nwhy = 'A test.'\nallow = ['fetch.get']\nhttp = [{{ url = 'http://127.0.0.1:{}/*', addresses = ['127.0.0.1/32'] }}]\n",
        web.port()
    );
    world.write("policy.toml", &format!("version = 0\n{rule}"));
    // Connections belong to the runtime of a test.
    let runner = WasmRunner::new(&options(), Arc::new(SystemClock::default())).expect("the machine can run guests");
    world.builder(&["fetch"], text).runner(Arc::new(runner)).build().expect("the host is made")
}

fn get(web: &WebServer, path: &str) -> Json {
    let url = format!("http://127.0.0.1:{}{path}", web.port());
    json!({"json": {"steps": [{"id": "look", "tool": "fetch.get", "args": {"url": url}}]}})
}

#[tokio::test]
async fn one_trace_goes_through_models_tools_and_another_process() {
    for provider in PROVIDERS {
        let (world, web) = (World::new(), WebServer::start());
        web.on("/first", Reply::text("here"));
        web.on("/second", Reply::text("there"));
        let question = json!({"json": {"question": "Go on?"}});
        let server = serves(&[get(&web, "/first"), question, get(&web, "/second"), answer("t1.look")]);
        let text = provider.model("m", &server, PRICE);
        let brought: Traceparent = BROUGHT.parse().expect("it is one");
        let host = fetches(&world, &web, &text);
        let options = StartOptions { traceparent: Some(brought), ..StartOptions::default() };
        let handle = host.start(Goal::text("Look."), options).await.expect("it starts");
        let left = handle.finished().await.expect("it is driven");
        assert_eq!(left.state, RunState::Suspended(Suspension::Question), "{:?}", left.failure);
        host.close().await.expect("the log is whole");
        drop(host);

        let host = fetches(&world, &web, &text);
        let message = Message::Answer { turn: 2, text: "yes".into(), by: "anna".into() };
        host.send(&left.run, message).await.expect("it is taken");
        let handle = host.resume(&left.run, StartOptions::default()).await.expect("it goes on");
        let report = handle.finished().await.expect("it is driven");
        assert_eq!(report.state, RunState::Succeeded, "{}: {:?}", provider.name, report.failure);

        let told = |header: Option<&str>| -> Traceparent { header.expect("a span").parse().expect("it is one") };
        let asked: Vec<Traceparent> =
            server.requests().iter().map(|request| told(request.traceparent.as_deref())).collect();
        let expected = [1, 2, 3, 4].map(|turn| Traceparent::of(brought.trace, &report.run, Subject::Turn(turn)));
        assert_eq!(asked, expected, "{}: each turn is a span", provider.name);
        let seen: Vec<Traceparent> = web.seen().iter().map(|request| told(request.header("traceparent"))).collect();
        assert_eq!((seen.len(), seen[0].trace, seen[1].trace), (2, brought.trace, brought.trace));
        let spans: BTreeSet<_> = asked.iter().chain(&seen).map(|parent| parent.span).collect();
        assert_eq!(spans.len(), 6, "no two are one");
        assert_eq!(report.trace_id, Some(brought.trace));
        let events = events(&host, &report).await;
        let kept = events.iter().find_map(|event| match &event.fact {
            Fact::RunCreated { trace, .. } => *trace,
            _ => None,
        });
        assert_eq!((kept, server.finish()), (Some(brought.trace), Ok(())));
    }
}

/// All that a host tells of a run, in every form, and all that its log holds.
async fn all_told(host: &Host, log: &MemoryLog, run: &RunId) -> String {
    let events = host.events(run).await.expect("the log is read");
    let mut told = format!("{events:?}{}", serde_json::to_string(&events).expect("JSON"));
    let report = host.show(run).await.expect("it is shown");
    told += &format!("{report:?}{}", serde_json::to_string(&report).expect("JSON"));
    let routes = host.routes(run).await.expect("they are told");
    told += &format!("{routes:?}{}", serde_json::to_string(&routes).expect("JSON"));
    for step in host.steps(run).await.expect("they list") {
        let explained = host.explain_step(run, &step).await.expect("it is explained");
        told += &serde_json::to_string(&explained).expect("JSON");
    }
    let mut payloads = 0;
    for digest in digests(&serde_json::to_value(&events).expect("JSON")) {
        // Some name no payload: hashes of events, of tools, of the policy.
        if let Ok(Some(bytes)) = log.payload(run, &digest).await {
            payloads += 1;
            told += &String::from_utf8_lossy(&bytes);
        }
    }
    assert!(payloads >= 3, "the goal, a pack and a reply at least: {payloads}");
    told
}

fn digests(value: &Json) -> Vec<Digest> {
    match value {
        Json::String(text) => text.parse().into_iter().collect(),
        Json::Array(items) => items.iter().flat_map(digests).collect(),
        Json::Object(fields) => fields.values().flat_map(digests).collect(),
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn a_key_is_told_nowhere_even_where_its_server_sends_it_back() {
    let call = |arguments: Json| json!({"tool_calls": [{"name": "math.eval", "arguments": arguments}]});
    let header = |mut reply: Json| {
        reply["headers"] = json!({"x-key": KEY, "www-authenticate": format!("Bearer {KEY}"), "retry-after": KEY});
        reply
    };
    for provider in PROVIDERS {
        for first in [
            header(
                json!({"raw": format!("{{\"error\": {{\"message\": \"wrong key {KEY}\", \"code\": \"{KEY}\"}}}}"), "status": 401}),
            ),
            header(json!({"error": "server"})),
            json!({"raw": format!("<html>{KEY}"), "status": 502}),
            json!({"raw": format!("data: {{\"error\": {{\"message\": \"{KEY}\", \"type\": \"{KEY}\"}}}}\n\n"), "headers": {"content-type": "text/event-stream"}}),
            json!({"raw": format!("data: {KEY}\n\n"), "headers": {"content-type": "text/event-stream"}}),
            json!({"refusal": format!("I know {KEY}.")}),
            json!({"text": format!("I know {KEY}."), "reasoning": format!("It is {KEY}.")}),
            json!({"json": {"steps": [{"id": "a", "tool": "math.eval", "args": {"expression": KEY}}]}, "reasoning": KEY}),
            json!({"json": {"steps": [{"id": "a", "tool": KEY, "args": {(KEY): KEY}}]}}),
            json!({"json": {"question": format!("Is {KEY} right?")}}),
            json!({"json": {"abstain": format!("{KEY} is wrong")}}),
            call(json!({"expression": KEY})),
            call(json!({ (KEY): KEY })),
            json!({"text": format!("{KEY}{KEY}"), "finish_reason": KEY}),
            json!({"text": format!("{KEY} and {}", "x".repeat(200)), "cut_after_events": 6}),
        ] {
            let world = World::at_speed(50);
            // Whatever becomes of it, there is enough to go on with.
            let rest = vec![plan(&["20 + 22"]), answer("t1.s0"), answer("t2.s0"), answer("t1.s0")];
            let server = serves(&[vec![first.clone()], rest].concat());
            let log = Arc::new(MemoryLog::default());
            let builder = world.builder(&["math"], &provider.model("m", &server, PRICE));
            let host = builder.event_log(log.clone()).build().expect("the host is made");
            let report = ended(&host, Goal::text("Add.")).await;
            assert!(server.requests().iter().all(fake_llm::Recorded::has_key), "{}", provider.name);
            let told = all_told(&host, &log, &report.run).await;
            let at = told.find(KEY).map(|at| told[at.saturating_sub(200)..].chars().take(400).collect::<String>());
            assert_eq!(at, None, "{} {first}", provider.name);
            let bodies: String = server.requests().iter().map(|request| request.body.to_string()).collect();
            assert!(!bodies.contains(KEY), "{} {first}: it goes out again", provider.name);
        }
    }
}

#[tokio::test]
async fn a_key_that_is_not_there_or_not_one_is_told_without_it() {
    let world = World::new();
    let server = serves(&[]);
    for (written, kept) in [("two words", "two words"), ("", ""), ("a\u{7f}b", "a\u{7f}b")] {
        world.write("key", written);
        let text = format!("version = 0\n{}", PROVIDERS[0].model("m", &server, PRICE));
        let settings = Settings::parse(&text, world.path(), "cofferdam.toml").expect("they read");
        let told = HostBuilder::from_settings(settings).err().map(|failure| format!("{failure:?}"));
        let told = told.expect("it is no key");
        assert!(kept.is_empty() || !told.contains(kept), "{told}");
    }
    assert_eq!(server.finish(), Ok(()));
}
