//! The tool that books trips, against a service that counts: what takes it back, what finds it again, and its example.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cofferdam::domain::{Effect, Json, Kind, Outcome, Reconciled, idempotency_key};
use cofferdam::planner::workflow::WorkflowPlanner;
use cofferdam::policy::{Policy, effect, terms};
use cofferdam::sandbox::{NoLink, Runner};
use cofferdam_kit::Bookings;
use serde_json::json;

use crate::guest::{Rule, call, kind, runner, tool};

/// A rule for the service, which takes no key twice.
fn rule(service: &Bookings) -> Rule {
    let url = service.url();
    Rule::default()
        .sends(&format!("{url}/*"), "methods = ['GET', 'POST', 'DELETE'], addresses = ['127.0.0.1/32'], keyed = true")
        .more(format!("env = {{ BOOKINGS_URL = '{url}' }}"))
}

async fn run(service: &Bookings, function: &str, args: Json) -> Outcome {
    runner().run(call(&tool(&format!("bookings.{function}")), &args, &rule(service)), Arc::new(NoLink)).await
}

/// The key of the calls of these tests, as they are made.
fn key(args: &Json) -> String {
    call(&tool("bookings.book"), args, &Rule::default()).key().to_string()
}

#[tokio::test]
async fn a_repeat_books_once_and_is_found_under_its_key() {
    let service = Bookings::start();
    let args = json!({"kind": "hotel", "what": "by the sea"});
    let find = json!({"kind": "hotel", "key": key(&args)});
    let found = run(&service, "find", find.clone()).await.result.expect("it looks");
    assert_eq!(Reconciled::of(&found), Some(Reconciled::NotDone));
    service.drop_after_commit(1);
    assert!(run(&service, "book", args.clone()).await.result.is_err(), "its answer is lost");
    let found = run(&service, "find", find.clone()).await.result.expect("it looks");
    let booked = run(&service, "book", args.clone()).await.result.expect("it books");
    assert_eq!(Reconciled::of(&found), Some(Reconciled::Done(booked.clone())));
    assert_eq!(service.effects(), [(key(&args), 1)].into());
    service.fail("hotel.find", 500, 1);
    let found = run(&service, "find", find).await.result.expect("it looks");
    assert_eq!(Reconciled::of(&found), Some(Reconciled::Unknown));
    for _ in 0..2 {
        let gone = run(&service, "cancel", json!({"kind": "hotel", "id": booked["id"]})).await.result;
        assert_eq!(gone.expect("it cancels")["is_cancelled"], json!(true));
    }
    assert_eq!(service.cancelled(), ["hotel-1"]);
}

#[tokio::test]
async fn a_service_that_fails_is_told_with_its_words() {
    let service = Bookings::start();
    service.fail("car", 422, 1);
    let outcome = run(&service, "book", json!({"kind": "car", "what": "small"})).await;
    let failure = outcome.result.clone().expect_err("there is no car");
    assert!(failure.message.contains("the service answers 422"), "{failure}");
    assert!(service.effects().is_empty());
    let without = Rule::default().more("env = { BOOKINGS_URL = 'http://127.0.0.1:9' }");
    let refused = call(&tool("bookings.book"), &json!({"kind": "car", "what": "small"}), &without);
    assert_eq!(kind(&runner().run(refused, Arc::new(NoLink)).await), Some(Kind::PolicyDenied), "no rule lets it send");
}

#[test]
fn the_key_that_finds_a_booking_is_that_of_its_step() {
    let args = json!({"kind": "car", "what": "small"});
    let step = crate::guest::step(&tool("bookings.book"), &args);
    let other = idempotency_key(&step.run, &step.step, cofferdam::domain::Direction::Undo, &step.tool, &args);
    assert_ne!(other.to_string(), key(&args), "taking back has a key of its own");
}

#[test]
fn the_example_allows_what_its_saga_needs() {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/saga");
    let text = std::fs::read_to_string(folder.join("policy.toml")).expect("the policy reads");
    let policy = Policy::parse(&text, &folder).expect("the policy is in order");
    let (book, find) = (tool("bookings.book"), tool("bookings.find"));
    assert_eq!(effect(&policy, &book), Ok(Effect::Idempotent));
    assert_eq!(effect(&policy, &tool("bookings.cancel")), Ok(Effect::Idempotent));
    assert_eq!(effect(&policy, &find), Ok(Effect::Read));
    let terms = terms(&policy, &book).expect("it is allowed");
    assert_eq!(terms.undo.expect("it has an undo").tool, "bookings.cancel");
    assert_eq!(terms.reconcile.expect("it is looked up").tool, "bookings.find");
    assert!(find.tool().is_internal && !book.tool().is_internal);
    let plan = WorkflowPlanner::read(&folder.join("trip.toml")).expect("the workflow reads").proposed();
    assert_eq!(plan.expect("it is a plan").steps.len(), 3);
}
