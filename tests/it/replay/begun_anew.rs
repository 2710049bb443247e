//! A call that begins anew after one of the same step was given up: each is played back from its own records.

use cofferdam::domain::{Fact, Json};
use cofferdam::host::{Approve, Goal, Host, Message, Settle, StartOptions, Wait};
use cofferdam::planner::workflow::{Format, WorkflowPlanner};
use cofferdam_kit::WebServer;
use cofferdam_kit::web::Reply;
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{Recorded, host_under, lines, one, played, workflow};
use crate::guest::{Rule, pause};

fn asking() -> StartOptions {
    StartOptions { wait: Wait::Never, approve: Approve::All { by: "ann".into() }, ..StartOptions::default() }
}

/// Begins the run in a process of its own, as far as that can be had here, which dies with its second request under way.
fn left_halfway(host: Host, flow: &Json, web: &WebServer) -> cofferdam::domain::RunId {
    let process = Runtime::new().expect("a runtime");
    let planner = WorkflowPlanner::parse(&flow.to_string(), Format::Json).expect("the workflow reads");
    let run = process.block_on(async {
        let handle = host.start(Goal::Workflow(planner), asking()).await.expect("the run begins");
        let run = handle.run().clone();
        tokio::spawn(handle.finished());
        while web.seen().len() < 2 {
            pause(5).await;
        }
        run
    });
    process.shutdown_background();
    run
}

#[test]
fn a_call_that_a_person_has_begun_anew_is_another_than_the_one_that_nobody_saw_end() {
    let (web, dir) = (WebServer::start(), TempDir::new().expect("there is room for a folder"));
    web.on("/first", Reply::text("one"));
    web.on("/second", Reply::Silent);
    let url = |path: &str| format!("http://{}{path}", web.at("127.0.0.1"));
    let rule = Rule::default().sends(&url("/*"), "methods = ['POST'], addresses = ['127.0.0.0/8']");
    let flow = workflow(vec![one("post", "web.post-all", json!({"urls": [url("/first"), url("/second")]}))]);
    let run = left_halfway(host_under(dir.path(), rule.policy()), &flow, &web);
    web.on("/first", Reply::text("two"));
    web.on("/second", Reply::text("three"));
    let process = Runtime::new().expect("a runtime");
    process.block_on(async {
        let host = host_under(dir.path(), rule.policy());
        let going_on = async || host.resume(&run, asking()).await.expect("it goes on").finished().await;
        let waiting = going_on().await.expect("it waits");
        assert_eq!(waiting.unknown.len(), 1, "{waiting:#?}");
        let settle = Message::Settle { step: waiting.unknown[0].clone(), settle: Settle::Retry, by: "ann".into() };
        host.send(&run, settle).await.expect("it is told");
        let report = going_on().await.expect("it ends");
        assert_eq!(report.steps[0].output, Some(json!(["two", "three"])), "{report:#?}");
        let events = host.events(&run).await.expect("the log is read");
        assert!(events.iter().any(|event| matches!(event.fact, Fact::StepUnknown { .. })), "nobody saw it end");
        drop((host, web));
        let report = played(&Recorded { dir, run }, &[]).await;
        assert!(report.is_same() && lines(&report).contains(&"t1.post same".to_owned()), "{:#?}", lines(&report));
    });
}
