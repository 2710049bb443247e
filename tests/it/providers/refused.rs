//! What a provider may do wrong: the failure is the right one, and no guest starts for what is not in order.

use cofferdam::domain::{Fact, Kind};
use cofferdam::host::RunState;

use super::*;

/// How fast time passes where a host waits before it asks again.
const SPEED: u64 = 50;

/// A way to reply that ends a run.
struct Bad {
    reply: Json,
    kind: Kind,
    /// Where arguments are sent as an object, and are none, the event around them is broken.
    breaks_event: bool,
}

fn bad(reply: Json, kind: Kind) -> Bad {
    Bad { reply, kind, breaks_event: false }
}

/// A native call with these arguments, byte for byte.
fn call(arguments: &str, kind: Kind) -> Bad {
    let reply = json!({"tool_calls": [{"name": "math.eval", "arguments": arguments}]});
    let breaks_event = serde_json::from_str::<Json>(arguments).is_err();
    Bad { reply, kind, breaks_event }
}

fn step(args: Json) -> Json {
    json!({"json": {"steps": [{"id": "a", "tool": "math.eval", "args": args}]}})
}

fn bads() -> Vec<Bad> {
    let long = "1+".repeat(1 << 20) + "1";
    vec![
        bad(json!({"refusal": "I will not."}), Kind::ModelRefusal),
        bad(json!({"text": "half", "finish_reason": "content_filter"}), Kind::ModelRefusal),
        bad(json!({"text": "{\"steps\": [{\"id\": \"a\", \"tool\": \"math.eval\""}), Kind::ModelInvalidJson),
        bad(json!({"text": "{\"steps\": [{\"id\": \"a\"", "finish_reason": "length"}), Kind::ModelTruncated),
        bad(
            json!({"text": "{\"steps\": [{\"id\": \"a\", \"tool\": \"math.eval\", \"args\": {\"expression\": \"1\", \"expression\": \"2\"}}]}"}),
            Kind::ModelInvalidJson,
        ),
        bad(
            json!({"text": "{\"steps\": [{\"id\": \"a\", \"tool\": \"math.eval\", \"args\": {\"expression\": NaN}}]}"}),
            Kind::ModelInvalidJson,
        ),
        bad(step(json!({ "expression": long })), Kind::ModelTruncated),
        bad(step(json!(["1 + 1"])), Kind::ModelSchema),
        bad(step(json!({"expression": ["1 + 1"]})), Kind::DataInput),
        bad(step(json!({"expression": 7})), Kind::DataInput),
        bad(step(json!({})), Kind::DataInput),
        bad(step(json!({"expression": "1", "more": 1})), Kind::DataInput),
        bad(json!({"json": {"steps": [{"id": "a", "tool": "math.evil", "args": {}}]}}), Kind::DataPlan),
        bad(json!({"json": {"answer": "42"}}), Kind::ModelNoAction),
        bad(json!({"text": "The answer is 42."}), Kind::ModelInvalidJson),
        call("{\"expression\": \"1 +", Kind::ModelInvalidJson),
        call("{\"expression\": \"1\", \"expression\": \"2\"}", Kind::ModelInvalidJson),
        call("{\"expression\": NaN}", Kind::ModelInvalidJson),
        call("[\"1 + 1\"]", Kind::ModelSchema),
        call("{\"expression\": [\"1 + 1\"]}", Kind::DataInput),
        call("{\"$from\": \"t1.a\", \"path\": \"\"}", Kind::ModelSchema),
        call(&json!({ "expression": long }).to_string(), Kind::ModelTruncated),
    ]
}

#[tokio::test]
async fn each_bad_reply_has_its_kind_with_every_provider_and_no_guest_starts() {
    for provider in PROVIDERS {
        for bad in bads() {
            let is_event = bad.breaks_event && provider.sends_objects();
            let kind = if is_event { Kind::NetworkHttp5xx } else { bad.kind };
            // A refusal is taken for one; a server that sends no JSON is asked again; a model may mend its reply once.
            let asked = match kind {
                Kind::ModelRefusal => 1,
                Kind::NetworkHttp5xx => 5,
                _ => 2,
            };
            let world = World::at_speed(SPEED);
            let server = serves(&vec![bad.reply.clone(); asked]);
            let host = world.host(&["math"], &provider.model("m", &server, PRICE));
            let report = ended(&host, Goal::text("Add.")).await;
            let what: String = bad.reply.to_string().chars().take(120).collect();
            assert_eq!(server.finish(), Ok(()), "{} {what}: {:?}", provider.name, report.failure);
            let told = report.failure.as_ref().map(|failure| failure.kind);
            assert_eq!((report.state, told), (RunState::Failed, Some(kind)), "{} {what}", provider.name);
            assert_eq!(world.runner.guests(), 0, "{} {what}: a guest was made", provider.name);
        }
    }
}

/// Turns that lead to an answer, after `first`.
fn after(first: Json) -> FakeLlm {
    serves(&[first, plan(&["20 + 22", "1 + 1"]), answer("t1.s0")])
}

#[tokio::test]
async fn a_server_that_says_when_is_not_asked_before() {
    for provider in PROVIDERS {
        let world = World::at_speed(SPEED);
        let server = after(json!({"error": "rate_limit", "headers": {"retry-after": "20"}}));
        let host = world.host(&["math"], &provider.model("m", &server, PRICE));
        let report = ended(&host, Goal::text("Add.")).await;
        assert_eq!(server.finish(), Ok(()), "{}: {:?}", provider.name, report.failure);
        assert_eq!(
            (report.state, report.answer.clone()),
            (RunState::Succeeded, Some(json!("42"))),
            "{}",
            provider.name
        );
        let events = events(&host, &report).await;
        let asked: Vec<u64> = events
            .iter()
            .filter(|event| matches!(event.fact, Fact::PlanRequested { .. }))
            .map(|event| event.at.0)
            .collect();
        let failed = events.iter().find_map(|event| match event.fact {
            Fact::PlanFailed { kind, retry, .. } => Some((kind, retry.expect("it is tried again").0, event.at.0)),
            _ => None,
        });
        let (kind, due, at) = failed.expect("it failed");
        assert_eq!(kind, Kind::NetworkRateLimited);
        // From when the answer came, which is after the question and before the event.
        assert!(due >= asked[0] + 20_000 && asked[1] >= due, "{}: {at} {due} {asked:?}", provider.name);
    }
}

#[tokio::test]
async fn nothing_is_done_of_a_stream_that_broke_off() {
    let cuts = [
        json!({"cut_after_events": 8}),
        json!({"cut_after_events": 3, "reset": true}),
        json!({"fails_after_events": 8, "error": "overloaded"}),
        json!({"malformed_event": 6}),
    ];
    for provider in PROVIDERS {
        for cut in &cuts {
            let world = World::at_speed(SPEED);
            let call = |text: &str| json!({"name": "math.eval", "arguments": {"expression": text}});
            // Long, so that there are many events before its end. A call is one event where it is sent as an object: words
            // go before it there.
            let mut first = json!({"tool_calls": [call("1 + 1"), call(&"7 + ".repeat(60))]});
            if provider.sends_objects() {
                first["text"] = json!("I add. ".repeat(60));
            }
            for (key, value) in cut.as_object().expect("fields") {
                first[key] = value.clone();
            }
            let server = after(first);
            let host = world.host(&["math"], &provider.model("m", &server, PRICE));
            let report = ended(&host, Goal::text("Add.")).await;
            assert_eq!(server.finish(), Ok(()), "{} {cut}: {:?}", provider.name, report.failure);
            assert_eq!(report.state, RunState::Succeeded, "{} {cut}: {:?}", provider.name, report.failure);
            assert_eq!(world.runner.guests(), 2, "{} {cut}: only what came whole is done", provider.name);
            let events = events(&host, &report).await;
            let names: Vec<_> = events.iter().map(|event| event.fact.name()).collect();
            let at = |name: &str| names.iter().position(|known| *known == name);
            assert!(
                at("plan_failed").is_some() && at("plan_failed") < at("step_ready"),
                "{} {cut}: {names:?}",
                provider.name
            );
        }
    }
}

#[tokio::test]
async fn a_reply_that_is_mended_is_done_as_if_it_had_been_the_first() {
    for provider in PROVIDERS {
        let world = World::new();
        let wrong = json!({"tool_calls": [{"name": "math.eval", "arguments": {"expression": 7}}]});
        let server = serves(&[wrong, plan(&["20 + 22", "1 + 1"]), answer("t2.s0")]);
        let host = world.host(&["math"], &provider.model("m", &server, PRICE));
        let report = ended(&host, Goal::text("Add.")).await;
        let second = server.requests().get(1).map(|request| request.body.to_string()).unwrap_or_default();
        assert_eq!(server.finish(), Ok(()), "{}: {:?}", provider.name, report.failure);
        assert_eq!((report.state, world.runner.guests()), (RunState::Succeeded, 2), "{}", provider.name);
        assert!(second.contains("/steps/0/args/expression"), "{}: it is told where: {second}", provider.name);
    }
}
