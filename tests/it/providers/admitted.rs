//! One goal, the same of each provider: what is admitted, what is counted, what it costs.

use cofferdam::domain::{Fact, Tokens};
use cofferdam::host::RunState;

use super::*;

/// What a run did, without what differs from time to time.
#[derive(Debug, PartialEq)]
struct Admitted {
    /// Tool, digest of the arguments, digest of the output; by name of the step.
    steps: Vec<(String, String, String)>,
    answer: Option<Json>,
}

async fn admitted(host: &Host, report: &RunReport) -> Admitted {
    let mut steps = Vec::new();
    for event in events(host, report).await {
        let (step, what) = match event.fact {
            Fact::StepReady { step, args, .. } => (step, format!("args {args}")),
            Fact::StepEnded { step, end, .. } => (step, format!("end {end:?}")),
            _ => continue,
        };
        let tool = report.steps.iter().find(|known| known.step == step).map(|known| known.tool.to_string());
        steps.push((step.to_string(), tool.unwrap_or_default(), what));
    }
    // Two calls at one time end in any order.
    steps.sort();
    Admitted { steps, answer: report.answer.clone() }
}

/// Two calls at one time; 900 tokens in, of which 300 had been cached, and 80 out.
fn calls(counts: bool) -> Json {
    let call = |text: &str| json!({"name": "math.eval", "arguments": {"expression": text}});
    let usage = json!({"prompt": 900, "cached": 300, "reply": 80, "reasoning": 30});
    json!({"text": "I add both.", "tool_calls": [call("20 + 22"), call("2 * 3")],
        "usage": if counts { usage } else { json!("none") }})
}

fn both(counts: bool) -> Json {
    let usage = json!({"prompt": 1200, "cached": 1000, "reply": 9});
    json!({"json": {"answer": [{"$from": "t1.call1", "path": ""}, {"$from": "t1.call2", "path": ""}]},
        "usage": if counts { usage } else { json!("none") }})
}

/// Tokens and picodollars of each reply, and millionths that the budget was charged and that were held for it.
async fn ledger(host: &Host, report: &RunReport) -> Vec<(Option<Tokens>, Option<u64>, u64, u64)> {
    let views = host.routes(&report.run).await.expect("they are told");
    assert!(views.iter().all(cofferdam::host::RouteView::is_same), "each choice can be reckoned again");
    let row = |view: &cofferdam::host::RouteView| {
        let replied = view.replied.as_ref().expect("it replied");
        (replied.tokens, replied.usd_picos, replied.cost.usd_micros, view.reserved.usd_micros)
    };
    views.iter().map(row).collect()
}

#[tokio::test]
async fn two_turns_with_parallel_calls_are_the_same_steps_and_cost_what_was_counted() {
    let mut told = Vec::new();
    for provider in PROVIDERS {
        let world = World::new();
        let server = serves(&[calls(provider.counts), both(provider.counts)]);
        let text = provider.model("m", &server, PRICE) + "[budget]\nusd_micros_max = 1000000\n";
        let host = world.host(&["math"], &text);
        let report = ended(&host, Goal::text("Add and multiply.")).await;
        assert_eq!(report.state, RunState::Succeeded, "{}: {:?}", provider.name, report.failure);
        let keyed = server.requests().iter().filter(|request| request.has_key()).count();
        assert_eq!((server.finish(), keyed, world.runner.guests()), (Ok(()), 2, 2), "{}", provider.name);
        let ledger = ledger(&host, &report).await;
        let [first, second] = ledger.as_slice() else { panic!("{ledger:?}") };
        for row in [first, second] {
            assert!(row.2 <= row.3 && row.3 > 0, "{}: what was held is enough: {row:?}", provider.name);
        }
        if provider.counts {
            // 600 fresh, 300 cached, 80 out; then 200, 1,000 and 9. In picodollars.
            assert_eq!(first.1, Some(600 * 1_010_000 + 300 * 103_000 + 80 * 7_000_700), "{}", provider.name);
            assert_eq!(second.1, Some(200 * 1_010_000 + 1_000 * 103_000 + 9 * 7_000_700), "{}", provider.name);
            assert_eq!((first.2, second.2), (1_197, 369), "{}: millionths, rounded up", provider.name);
            let counted = first.0.expect("they are counted");
            let expected = Tokens { prompt: 900, cached: 300, reply: 80, ..Tokens::default() };
            assert_eq!(Tokens { reasoning: 0, ..counted }, expected, "{}", provider.name);
        } else {
            assert_eq!((first.0, first.1, first.2), (None, None, first.3), "nobody counted: all that was held");
        }
        told.push((provider.name, admitted(&host, &report).await));
    }
    let (_, first) = &told[0];
    assert_eq!((first.steps.len(), &first.answer), (4, &Some(json!(["42", "6"]))), "{first:#?}");
    assert!(told.iter().all(|(_, other)| other == first), "{told:#?}");
}

#[tokio::test]
async fn what_is_written_to_a_cache_costs_what_that_costs() {
    let world = World::new();
    let [_, _, messages, ..] = PROVIDERS;
    let usage = json!({"prompt": 2000, "cached": 700, "cache_write_5m": 400, "cache_write_1h": 300, "reply": 50});
    let mut adds = plan(&["20 + 22"]);
    adds["usage"] = usage;
    let server = serves(&[adds, answer("t1.s0")]);
    let host = world.host(&["math"], &(messages.model("m", &server, PRICE) + "[budget]\nusd_micros_max = 1000000\n"));
    let report = ended(&host, Goal::text("Add.")).await;
    assert_eq!((report.state, server.finish()), (RunState::Succeeded, Ok(())), "{:?}", report.failure);
    let picos = 600 * 1_010_000 + 700 * 103_000 + 400 * 1_290_000 + 300 * 2_030_000 + 50 * 7_000_700;
    assert_eq!(ledger(&host, &report).await[0].1, Some(picos));
}
