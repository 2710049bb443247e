//! What an answer tells of a write: real guests and real servers, each class of status, with a key and without one, as it
//! comes and from its record.

use std::sync::Arc;

use cofferdam::domain::{Fact, Json, Kind, Outcome, Suspension};
use cofferdam::host::RunState;
use cofferdam::policy::Call;
use cofferdam::sandbox::{NoLink, Runner};
use cofferdam_kit::WebServer;
use cofferdam_kit::web::Reply;
use serde_json::json;

use crate::guest::{Rule, call, runner, tool};
use crate::journal::Tape;
use crate::saga::Agency;

/// Answers that may hide that it was done.
const OPEN: [u16; 6] = [500, 502, 504, 507, 520, 599];

/// Answers that tell.
const TOLD: [u16; 12] = [400, 402, 404, 408, 409, 425, 429, 501, 503, 505, 508, 511];

/// A service that answers each booking with this status.
fn service(status: u16) -> WebServer {
    let web = WebServer::start();
    web.on("/cars", Reply::page(status, "x-test", "y", "{}"));
    web
}

/// What a rule says of it, beside its address.
fn terms(is_keyed: bool) -> String {
    format!("methods = ['POST'], addresses = ['127.0.0.1/32']{}", if is_keyed { ", keyed = true" } else { "" })
}

fn booking(web: &WebServer, is_keyed: bool) -> Call {
    let url = format!("http://127.0.0.1:{}", web.port());
    let rule = Rule::default()
        .sends(&format!("{url}/*"), &terms(is_keyed))
        .more(format!("env = {{ BOOKINGS_URL = '{url}' }}"));
    call(&tool("bookings.book"), &json!({"kind": "car", "what": "small"}), &rule)
}

/// Whether the call, whose tool gives up, leaves a write open: recorded, from its record, and with no record at all.
async fn leaves_open(web: &WebServer, is_keyed: bool) -> bool {
    let tape = Arc::new(Tape::default());
    let live = runner().run(booking(web, is_keyed), tape.clone()).await;
    let seen = web.seen().len();
    let again = runner().run(booking(web, is_keyed), Arc::new(Tape::closed(tape.records()))).await;
    assert_eq!(web.seen().len(), seen, "a record answers");
    let lone = runner().run(booking(web, is_keyed), Arc::new(NoLink)).await;
    let told = |outcome: &Outcome| (outcome.has_open_write, outcome.result.as_ref().err().map(|failure| failure.kind));
    assert_eq!([told(&again), told(&lone)], [told(&live), told(&live)]);
    assert!(live.has_written && live.result.is_err(), "{live:?}");
    live.has_open_write
}

#[tokio::test]
async fn an_answer_tells_or_leaves_a_write_open_and_its_record_says_the_same() {
    for (statuses, is_open) in [(&OPEN[..], true), (&TOLD[..], false)] {
        for status in statuses {
            let web = service(*status);
            assert_eq!(leaves_open(&web, false).await, is_open, "{status}");
            assert!(!leaves_open(&web, true).await, "{status}: it may be asked again under its key");
        }
    }
}

#[tokio::test]
async fn one_open_write_of_several_leaves_the_call_open_also_where_it_was_not_the_last() {
    let web = WebServer::start();
    web.on("/hidden", Reply::page(502, "x-test", "y", ""));
    web.on("/done", Reply::text("done"));
    let at = |path: &str| format!("http://127.0.0.1:{}{path}", web.port());
    let rule = Rule::default().sends(&at("/*"), "methods = ['POST'], addresses = ['127.0.0.1/32']");
    for (paths, is_open) in [(["/hidden", "/done"], true), (["/done", "/hidden"], true), (["/done", "/done"], false)] {
        let urls: Vec<String> = paths.iter().map(|path| at(path)).collect();
        let outcome = runner().run(call(&tool("web.post-all"), &json!({"urls": urls}), &rule), Arc::new(NoLink)).await;
        assert_eq!(outcome.has_open_write, is_open, "{paths:?}: {outcome:?}");
        let upstream = outcome.upstream.map(|failed| failed.kind);
        assert_eq!(upstream, is_open.then_some(Kind::NetworkHttp5xx), "{paths:?}");
    }
}

/// A car, for which the tool may be tried three times.
const CAR: &str = r#"
workflow = "lone"
goal = "Book a car"
[[steps]]
id = "car"
tool = "bookings.book"
args = { kind = "car", what = "small" }
retry = { attempts_max = 3, backoff_ms = 1, backoff_ms_max = 1 }
"#;

fn agency(web: &WebServer, tool: &str, is_keyed: bool) -> Agency {
    let (terms, port) = (terms(is_keyed), web.port());
    Agency::with(|_| {
        format!(
            "version = 0\n[[rule]]\nname = 'it'\nwhy = 'A test.'\nallow = ['{tool}']\napproval = 'none'\nhttp = [{{ url = 'http://127.0.0.1:{port}/*', {terms} }}]\nenv = {{ BOOKINGS_URL = 'http://127.0.0.1:{port}' }}\n"
        )
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_waits_for_a_person_where_an_answer_may_hide_that_it_was_done() {
    for (status, is_keyed, requests, is_open) in [
        (502, false, 1, true),
        (500, false, 1, true),
        (504, false, 1, true),
        (503, false, 1, false),
        (501, false, 1, false),
        (429, false, 1, false),
        (409, false, 1, false),
        (502, true, 3, false),
        (503, true, 3, false),
    ] {
        let case = format!("{status} {is_keyed}");
        let web = service(status);
        // Nobody may look: the rule lets it book, and nothing else.
        let agency = agency(&web, "bookings.book", is_keyed);
        let report = agency.book(CAR).await;
        let state = if is_open { RunState::Suspended(Suspension::Reconcile) } else { RunState::Failed };
        assert_eq!(report.state, state, "{case}: {report:#?}");
        assert_eq!(web.seen().len(), requests, "{case}: never again on a guess");
        if is_open {
            let again = agency.resume(&report.run).await;
            assert_eq!((again.state, web.seen().len()), (state, requests), "{case}: nor when it goes on");
        }
        let events = agency.host.events(&report.run).await.expect("they are there");
        let is_said = |fact: &Fact| matches!(fact, Fact::StepEnded { has_open_write: true, .. });
        assert_eq!(events.iter().any(|event| is_said(&event.fact)), is_open, "{case}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_takes_any_answer_for_one_tells_with_its_success() {
    let web = service(502);
    let agency = agency(&web, "fetch.send", false);
    let url = format!("http://127.0.0.1:{}/cars", web.port());
    let flow = json!({"workflow": "send", "goal": "Send", "steps": [
        {"id": "send", "tool": "fetch.send", "args": {"method": "POST", "url": url, "body": "{}"}},
    ]});
    let flow = toml::to_string(&flow).expect("it is a table");
    let report = agency.book(&flow).await;
    assert_eq!(report.state, RunState::Succeeded, "{report:#?}");
    let output: &Json = report.steps[0].output.as_ref().expect("it brought something");
    assert_eq!((&output["status"], report.unknown.len()), (&json!(502), 0));
}
