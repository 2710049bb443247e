//! Two providers of one tier: the second answers where the first does not, and a server that is down is left alone.

use cofferdam::domain::Fact;
use cofferdam::host::RunState;
use cofferdam_kit::fake_llm::Script;

use super::*;

const FIRST: Provider = PROVIDERS[3];
const SECOND: Provider = PROVIDERS[2];

fn tier(first: &FakeLlm, second: &FakeLlm) -> String {
    let tiers = "[[tiers]]\nname = 'only'\nmodels = ['first', 'second']\neffects = 'once'\n";
    FIRST.model("first", first, PRICE) + &SECOND.model("second", second, PRICE) + tiers
}

/// How long a server is left alone that failed five times in a row, in milliseconds.
const BREAKER_OPEN_MS: u64 = 10_000;

/// Answers every first turn with a plan and every second with an answer, however many runs there are.
fn always() -> FakeLlm {
    let turn = |n: u32, mut reply: Json, provider: Provider| {
        reply["usage"] = json!({"prompt": 100, "reply": 10});
        let expect = json!({ (pointer(provider)): {"contains": format!("This is turn {n}.")} });
        json!({"standing": true, "expect": expect, "reply": reply}).to_string()
    };
    let of = |provider| [turn(1, plan(&["20 + 22"]), provider), turn(2, answer("t1.s0"), provider)];
    FakeLlm::start(&[of(FIRST), of(SECOND)].concat().join("\n")).expect("the script reads")
}

/// Where the request about this turn stands.
pub fn pointer(provider: Provider) -> &'static str {
    match provider.speaks {
        fake_llm::Protocol::Gemini => "/contents",
        fake_llm::Protocol::Responses => "/input",
        _ => "/messages",
    }
}

fn port(server: &FakeLlm) -> u16 {
    let url = server.base_url();
    let port = url.trim_end_matches("/v1").rsplit(':').next().expect("a port");
    port.parse().expect("a number")
}

/// Which models were asked, and what came of each request.
async fn asked(host: &Host, report: &RunReport) -> Vec<(String, String)> {
    let views = host.routes(&report.run).await.expect("they are told");
    assert!(views.iter().all(cofferdam::host::RouteView::is_same));
    views.into_iter().map(|view| (view.asked.model, view.outcome.unwrap_or_default())).collect()
}

#[tokio::test]
async fn a_server_that_fails_is_stood_in_for_and_then_left_alone_until_a_probe() {
    let world = World::new();
    let errors = [json!({"error": "overloaded"}), json!({"raw": "", "status": 502})];
    let (first, second) = (serves(&errors), always());
    let place = port(&first);
    let host = world.host(&["math"], &tier(&first, &second));
    let goal = || Goal::text("Add.");
    let pair = |model: &str, outcome: &str| (model.to_owned(), outcome.to_owned());
    let down = || pair("first", "plan_failed");
    let usual = [pair("second", "plan_accepted"), pair("second", "answered")];

    // Each turn asks the first again, as that is what the tier says.
    let report = ended(&host, goal()).await;
    assert_eq!(report.state, RunState::Succeeded, "{:?}", report.failure);
    let expected = [down(), usual[0].clone(), down(), usual[1].clone()];
    assert_eq!(asked(&host, &report).await, expected);
    assert_eq!(first.finish(), Ok(()));
    // Now it takes no connection any more.
    let report = ended(&host, goal()).await;
    assert_eq!((report.state, asked(&host, &report).await), (RunState::Succeeded, expected.to_vec()), "four so far");
    let report = ended(&host, goal()).await;
    assert_eq!(
        asked(&host, &report).await,
        [down(), usual[0].clone(), usual[1].clone()],
        "the fifth opens the breaker"
    );

    // It is back, and nobody looks yet.
    let back =
        FakeLlm::start_on(Script::parse(&script(&[plan(&["1 + 1"]), answer("t1.s0")])).expect("it reads"), place);
    let back = back.expect("the port is free again");
    for _ in 0..3 {
        let report = ended(&host, goal()).await;
        assert_eq!((report.state, asked(&host, &report).await.as_slice()), (RunState::Succeeded, &usual[..]));
    }
    assert_eq!(back.requests().len(), 0, "no request reaches it");
    world.clock.advance_ms(BREAKER_OPEN_MS);
    let report = ended(&host, goal()).await;
    assert_eq!((report.state, report.answer.clone()), (RunState::Succeeded, Some(json!("2"))), "{:?}", report.failure);
    let first_again = [pair("first", "plan_accepted"), pair("first", "answered")];
    assert_eq!((asked(&host, &report).await.as_slice(), back.finish()), (&first_again[..], Ok(())));
    assert_eq!(second.finish(), Ok(()));
}

#[tokio::test]
async fn one_request_alone_finds_out_whether_a_server_is_back() {
    let world = World::new();
    let errors: Vec<Json> = (0..5).map(|_| json!({"error": "server"})).collect();
    // The probe takes its time, and fails.
    let slow = json!({"error": "server", "delay_ms": 700});
    let (first, second) = (serves(&[errors, vec![slow]].concat()), always());
    let host = world.host(&["math"], &tier(&first, &second));
    for _ in 0..3 {
        let report = ended(&host, Goal::text("Add.")).await;
        assert_eq!(report.state, RunState::Succeeded, "{:?}", report.failure);
    }
    assert_eq!(first.requests().len(), 5);
    world.clock.advance_ms(BREAKER_OPEN_MS);
    let goals = (0..4).map(|_| ended(&host, Goal::text("Add.")));
    let [a, b, c, d] = goals.collect::<Vec<_>>().try_into().ok().expect("four");
    let (a, b, c, d) = tokio::join!(a, b, c, d);
    assert!([a, b, c, d].iter().all(|report| report.state == RunState::Succeeded));
    assert_eq!(first.requests().len(), 6, "four runs at one time send one probe");
    assert_eq!((first.finish(), second.finish()), (Ok(()), Ok(())));
}

#[tokio::test]
async fn a_server_that_refuses_every_connection_is_stood_in_for_at_once() {
    let world = World::new();
    let (first, second) = (always(), always());
    let text = tier(&first, &second);
    drop(first);
    let host = world.host(&["math"], &text);
    let report = ended(&host, Goal::text("Add.")).await;
    assert_eq!(report.state, RunState::Succeeded, "{:?}", report.failure);
    let failed = events(&host, &report).await.into_iter().filter_map(|event| match event.fact {
        Fact::PlanFailed { kind, retry, .. } => Some((kind.code(), retry.is_some_and(|due| due <= event.at))),
        _ => None,
    });
    let kinds: Vec<_> = failed.collect();
    assert_eq!(kinds, [("network.connect", true); 2], "asked of another at once");
    assert_eq!(second.finish(), Ok(()));
}
