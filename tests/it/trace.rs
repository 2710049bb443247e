//! One trace: whoever a run asks is told of the same one, in whichever process it goes on, and the log has the same ids.

use std::collections::BTreeSet;

use cofferdam::domain::{RunId, SpanId, StepId, Subject, TraceId, Traceparent};
use cofferdam_kit::WebServer;
use cofferdam_kit::fake_llm::FakeLlm;
use cofferdam_kit::web::Reply;
use serde_json::{Value, json};

use crate::cli::Shop;

/// What somebody brings.
const BROUGHT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const BROUGHT_TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A shop whose tools ask a server of this machine.
struct World {
    shop: Shop,
    web: WebServer,
}

impl World {
    fn new() -> Self {
        let (shop, web) = (Shop::new(), WebServer::start());
        for path in ["/first", "/inner", "/second", "/lone"] {
            web.on(path, Reply::text("here"));
        }
        let tools = format!("fetch = {:?}\n", cofferdam_guests::component("fetch"));
        shop.write("cofferdam.toml", &format!("version = 0\n[tools]\n{tools}"));
        let url = format!("http://127.0.0.1:{}/*", web.port());
        let rule = "version = 0\n[[rule]]\nname = \"ask\"\nwhy = \"It is here.\"\nallow = [\"fetch.get\"]\n";
        let http = format!("http = [{{ url = \"{url}\", addresses = [\"127.0.0.0/8\"] }}]\n");
        shop.write("policy.toml", &format!("{rule}{http}"));
        let get = |path: &str| {
            format!("tool = \"fetch.get\"\nargs = {{ url = \"http://127.0.0.1:{}{path}\" }}\n", web.port())
        };
        let inner =
            format!("workflow = \"inner\"\ngoal = \"Ask inside.\"\n[[steps]]\nid = \"asked\"\n{}", get("/inner"));
        shop.write("inner.toml", &inner);
        let flow = [
            "workflow = \"asks\"\ngoal = \"Ask three times.\"\n[[steps]]\nid = \"first\"\n".to_owned(),
            get("/first"),
            "[[steps]]\nid = \"within\"\nneeds = [\"first\"]\nrun = { workflow = \"inner.toml\" }\n".to_owned(),
            "[[steps]]\nid = \"second\"\nneeds = [\"within\"]\napproval = true\n".to_owned(),
            get("/second"),
        ];
        shop.write("flow.toml", &flow.concat());
        Self { shop, web }
    }

    /// The span that came with the request to each path.
    fn span(&self, path: &str) -> Traceparent {
        let seen = self.web.seen();
        let request =
            seen.iter().find(|request| request.target == path).unwrap_or_else(|| panic!("no request to {path}"));
        let all: Vec<_> = request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("traceparent")).collect();
        assert_eq!(all.len(), 1, "{all:?}");
        all[0].1.parse().expect("it is a traceparent")
    }

    /// The run that is within no other.
    fn outer(&self) -> String {
        let runs = self.shop.run(&["runs", "--json"]).json();
        let runs = runs["runs"].as_array().expect("runs").clone();
        let outer = runs.iter().find(|run| run["parent"].is_null()).expect("it is there");
        outer["run"].as_str().expect("an id").to_owned()
    }

    fn show(&self) -> Value {
        self.shop.run(&["show", &self.outer(), "--json"]).json()
    }
}

fn step_named<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["steps"]
        .as_array()
        .and_then(|steps| steps.iter().find(|step| step["step"] == name))
        .expect("the step is there")
}

#[test]
fn one_trace_goes_through_steps_runs_within_and_processes() {
    let world = World::new();
    world.shop.run(&["run", "flow.toml", "--traceparent", BROUGHT]).ends(5);
    assert_eq!(world.show()["trace_id"], BROUGHT_TRACE);
    let outer = world.outer();
    world.shop.run(&["approve", &outer, "second"]).ends(0);
    // What stands in the environment of the next process does not change the trace of a run that has one.
    let mut resume = world.shop.command(&["resume", &outer]);
    let resumed = resume.env("TRACEPARENT", BROUGHT.replace('4', "5")).output().expect("it starts");
    assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));

    let spans = ["/first", "/inner", "/second"].map(|path| world.span(path));
    assert!(spans.iter().all(|span| span.trace.to_string() == BROUGHT_TRACE), "{spans:?}");
    assert_eq!(spans.iter().map(|span| span.span).collect::<BTreeSet<_>>().len(), 3, "each call has a span of its own");

    let report = world.show();
    let run: RunId = report["run"].as_str().unwrap().parse().unwrap();
    assert_eq!(report["span_id"], SpanId::of(&run, Subject::Run).to_string());
    for (step, span) in [("t1.first", &spans[0]), ("t1.second", &spans[2])] {
        assert_eq!(step_named(&report, step)["span_id"], span.span.to_string());
        let id: StepId = step.parse().unwrap();
        assert_eq!(SpanId::of(&run, Subject::Step(&id, 1)), span.span, "whoever has the log can derive it");
    }
    let within = step_named(&report, "t1.within")["run"].as_str().expect("a run carries it out").to_owned();
    let inner = world.shop.run(&["show", &within, "--json"]).json();
    assert_eq!(inner["trace_id"], BROUGHT_TRACE);
    assert_eq!(step_named(&inner, "t1.asked")["span_id"], spans[1].span.to_string());

    let explained = world.shop.run(&["explain", &outer, "second", "--json"]).json();
    assert_eq!(
        (&explained["trace_id"], &explained["span_id"]),
        (&report["trace_id"], &step_named(&report, "t1.second")["span_id"])
    );
    let told = world.shop.run(&["explain", &outer, "second"]).ends(0).out;
    assert!(told.contains(&format!("trace {BROUGHT_TRACE}, span {}", spans[2].span)), "{told}");

    let watched = world.shop.run(&["watch", &outer, "--json"]).ends(0).out;
    let events: Vec<Value> = watched.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(events.len() > 10 && events.iter().all(|event| event["trace_id"] == BROUGHT_TRACE));
    let ended = |event: &&Value| {
        event["event"]["fact"]["fact"] == "step_ended" && event["event"]["fact"]["step"] == "t1.second"
    };
    assert_eq!(events.iter().find(ended).expect("it ended")["span_id"], spans[2].span.to_string());
}

#[test]
fn a_model_is_asked_in_the_trace_of_its_run_and_each_turn_is_a_span() {
    let world = World::new();
    let url = format!("http://127.0.0.1:{}/first", world.web.port());
    let steps = json!([{ "id": "first", "tool": "fetch.get", "args": { "url": url } }]);
    let script = [
        json!({ "reply": { "json": { "steps": steps } } }).to_string(),
        json!({ "reply": { "json": { "answer": "it is there" } } }).to_string(),
    ];
    let model = FakeLlm::start(&script.join("\n")).expect("the script reads");
    let base_url = model.base_url();
    let flags = ["--goal", "Look there", "--model", "small", "--base-url", &base_url, "--traceparent", BROUGHT];
    world.shop.run(&[&["run"], &flags[..]].concat()).ends(0);
    let asked: Vec<Traceparent> =
        model.requests().iter().map(|request| request.traceparent.as_ref().expect("a span").parse().unwrap()).collect();
    let run: RunId = world.outer().parse().unwrap();
    let trace: TraceId = BROUGHT_TRACE.parse().unwrap();
    assert_eq!(asked, [1, 2].map(|turn| Traceparent::of(trace, &run, Subject::Turn(turn))));
    assert_eq!(world.span("/first").trace, trace);
    model.finish().expect("the model was asked twice");
}

#[test]
fn a_run_without_one_has_a_trace_of_its_own_and_another_run_another() {
    let world = World::new();
    let started = world.shop.run(&["run", "flow.toml", "--json"]).ends(5).out;
    let run: RunId = world.show()["run"].as_str().unwrap().parse().unwrap();
    assert_eq!(world.show()["trace_id"], TraceId::of_run(&run).to_string());
    assert_eq!(world.span("/first").trace, TraceId::of_run(&run));
    assert_eq!(world.span("/inner").trace, TraceId::of_run(&run));
    let first: Value = serde_json::from_str(started.lines().next().expect("a line")).expect("JSON");
    assert_eq!(first["trace_id"], TraceId::of_run(&run).to_string());

    let elsewhere = World::new();
    let mut command = elsewhere.shop.command(&["run", "flow.toml"]);
    command.env("TRACEPARENT", BROUGHT).output().expect("it starts");
    assert_eq!(elsewhere.span("/first").trace.to_string(), BROUGHT_TRACE, "TRACEPARENT is read");
    assert_ne!(world.span("/first").span, elsewhere.span("/first").span);
}

#[test]
fn a_lone_call_carries_the_span_for_which_it_is_made() {
    let world = World::new();
    let args = format!(r#"{{"url": "http://127.0.0.1:{}/lone"}}"#, world.web.port());
    world.shop.run(&["call", "fetch.get", "--args", &args, "--traceparent", BROUGHT]).ends(0);
    let span = world.span("/lone");
    assert_eq!(span.trace.to_string(), BROUGHT_TRACE);
    let runs = world.shop.run(&["runs", "--json"]).json();
    let session: RunId = runs["runs"][0]["run"].as_str().unwrap().parse().unwrap();
    assert_eq!(span.span, SpanId::of_call(&session, 1));
    let watched = world.shop.run(&["watch", session.as_str(), "--json"]).out;
    assert!(
        watched.lines().any(|line| line.contains(r#""fact":"called""#) && line.contains(BROUGHT_TRACE)),
        "{watched}"
    );
}

#[test]
fn a_guest_does_not_say_in_which_trace_it_is() {
    let world = World::new();
    for name in ["traceparent", "TraceState"] {
        let header = format!(r#"[{{"name": "{name}", "value": "{BROUGHT}"}}]"#);
        let args = format!(r#"{{"url": "http://127.0.0.1:{}/lone", "headers": {header}}}"#, world.web.port());
        let refused = world.shop.run(&["call", "fetch.get", "--args", &args, "--json"]).ends(1).json();
        let denial = refused["denials"].to_string();
        assert!(denial.contains("invalid.header") && denial.contains(&name.to_ascii_lowercase()), "{refused}");
    }
    assert_eq!(world.web.seen().len(), 0);
}

#[test]
fn what_is_no_traceparent_is_refused_as_a_flag_and_passed_over_in_the_environment() {
    let world = World::new();
    let refused = world.shop.run(&["run", "flow.toml", "--traceparent", "00-0-0-0"]).ends(2);
    assert!(refused.err.contains("traceparent"), "{}", refused.err);
    let mut command = world.shop.command(&["run", "flow.toml"]);
    let passed = command.env("TRACEPARENT", "garbage").output().expect("it starts");
    assert_eq!(passed.status.code(), Some(5), "{}", String::from_utf8_lossy(&passed.stderr));
    let told = String::from_utf8_lossy(&passed.stderr).into_owned();
    assert!(told.contains("TRACEPARENT is passed over"), "{told}");
    assert_ne!(world.span("/first").trace.to_string(), BROUGHT_TRACE);
}
