//! Faults of models and of their servers, made over the wire, in each protocol: what a provider can do wrong ends a run alike,
//! whoever the provider is.

use cofferdam::domain::{Json, Kind};
use cofferdam::host::Goal;
use cofferdam_kit::FakeLlm;
use serde_json::json;

use super::Table;
use crate::providers::{PRICE, PROVIDERS, Provider, World, ended, plan, serves};

/// How fast time passes where a host waits before it asks again.
const SPEED: u64 = 50;

/// Requests of one turn: the first, and four more where a server is asked again.
const ASKED: usize = 5;

/// What a model says wrong, or its server; and how often it is asked.
fn replies() -> Vec<(&'static str, Json, Kind, usize)> {
    let cut = |more: Json| {
        let mut reply = plan(&["1 + 1"]);
        for (key, value) in more.as_object().expect("fields") {
            reply[key] = value.clone();
        }
        reply
    };
    let short = json!({"retry-after": "1"});
    vec![
        ("a model refuses", json!({"refusal": "I will not."}), Kind::ModelRefusal, 1),
        ("a model's reply is no JSON, twice", json!({"text": "{\"steps\": ["}), Kind::ModelInvalidJson, 2),
        ("a model's reply has another shape, twice", json!({"json": {"steps": 7}}), Kind::ModelSchema, 2),
        (
            "a model claims a result that no step brought, twice",
            json!({"json": {"answer": 42}}),
            Kind::ModelNoAction,
            2,
        ),
        (
            "a model's reply is cut off, twice",
            json!({"text": "{\"steps\": [", "finish_reason": "length"}),
            Kind::ModelTruncated,
            2,
        ),
        (
            "a request is longer than the model reads",
            json!({"error": "context_overflow"}),
            Kind::ModelContextOverflow,
            1,
        ),
        (
            "a model's server answers 429, again and again",
            json!({"error": "rate_limit", "headers": short}),
            Kind::NetworkRateLimited,
            ASKED,
        ),
        ("a model's server refuses the request", json!({"error": "auth"}), Kind::NetworkHttp4xx, 1),
        (
            "a model's server fails, again and again",
            json!({"error": "overloaded", "headers": short}),
            Kind::NetworkHttp5xx,
            ASKED,
        ),
        ("a model's answer is cut off, again and again", cut(json!({"cut_after_events": 3})), Kind::NetworkCut, ASKED),
        (
            "a model's answer is cut off, again and again",
            cut(json!({"cut_after_events": 3, "reset": true})),
            Kind::NetworkCut,
            ASKED,
        ),
        ("a model's server hangs up, again and again", json!({"hang_up": true}), Kind::NetworkCut, ASKED),
    ]
}

/// Makes the faults, each in a run of its own.
pub(super) async fn make(table: &mut Table) {
    for (what, reply, kind, asked) in replies() {
        for provider in &PROVIDERS[..4] {
            let server = serves(&vec![reply.clone(); asked]);
            failed(table, what, &provider.model("m", &server, PRICE), kind).await;
            assert_eq!(server.finish(), Ok(()), "{} {what}", provider.name);
        }
    }
    let gone = serves(&[]).base_url();
    // It has a certificate that nobody vouches for.
    let unproven = format!("https://127.0.0.1:{}/v1", table.tls.port());
    for provider in &PROVIDERS[..4] {
        for (what, base_url, kind) in [
            ("nobody listens where a model should be", gone.clone(), Kind::NetworkConnect),
            ("a model's server has no such name", "https://nowhere.invalid/v1".to_owned(), Kind::NetworkDns),
            ("a model's server cannot prove who it is", unproven.clone(), Kind::NetworkTls),
        ] {
            failed(table, what, &at(*provider, &base_url), kind).await;
        }
        let server = again_and_again(*provider);
        let what = "a model proposes the same failing call again and again";
        failed(table, what, &provider.model("m", &server, PRICE), Kind::ModelLoop).await;
        assert_eq!(server.finish(), Ok(()), "{}", provider.name);
        let server = serves(&[]);
        let text = provider.model("m", &server, "") + "[budget]\nusd_micros_max = 1000000\n";
        failed(table, "nobody knows what a model costs, and money is bounded", &text, Kind::PolicyBudget).await;
        assert_eq!(server.finish(), Ok(()), "{}: it is not asked", provider.name);
    }
    assert_eq!(table.tls.seen().len(), 0, "nothing is sent to a server that is another one");
}

fn at(provider: Provider, base_url: &str) -> String {
    format!("[models.m]\nprotocol = '{}'\nmodel = 'm'\nbase_url = '{base_url}'\n{PRICE}\n", provider.written)
}

fn again_and_again(provider: Provider) -> FakeLlm {
    let protocol = format!("{:?}", provider.speaks).to_lowercase();
    let step = json!({"standing": true, "protocol": protocol, "reply": plan(&["1 / 0"])});
    FakeLlm::start(&step.to_string()).expect("the script reads")
}

async fn failed(table: &mut Table, what: &str, models: &str, kind: Kind) {
    let world = World::at_speed(SPEED);
    let host = world.host(&["math"], models);
    let report = ended(&host, Goal::text("Add.")).await;
    host.verify(&report.run).await.expect("the log is whole");
    table.row(what, kind, &report);
    let is_loop = kind == Kind::ModelLoop;
    assert_eq!(world.runner.guests() > 0, is_loop, "{what}: a guest was made");
}
