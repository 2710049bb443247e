//! The network: what leaves, where it may go, what comes back. Tests bear the identifiers of the catalogue.
//!
//! All servers are on this machine: names lead to them by a name server of the test's own, and the rule names the
//! loopback, which no request reaches otherwise. Each test has its own names and web server. After each refusal the one
//! thing that stopped it is changed, and the same request then gets through, or ends in another way.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use cofferdam::clock::{Clock, SystemClock};
use cofferdam::domain::{Digest, Effect, Json, Kind, Outcome, Principal, Secret};
use cofferdam::policy::{Call, Decision, RunGrant, authorize, effect};
use cofferdam::sandbox::{NetworkOptions, NoLink, Options, Runner, Secrets, WasmRunner};
use cofferdam_kit::web::{Certificates, Identity, Reply, Validity, coded};
use cofferdam_kit::{DnsServer, WebServer};
use serde_json::json;

use crate::alone::{Watch, cases};
use crate::guest::{Recorder, Rule, call, kind, options, pause, step, tool};

cases![
    after shared;
    f1_what_no_rule_allows_is_not_even_looked_up,
    f2_another_scheme_port_method_or_path_is_another_place,
    f3_a_host_is_compared_in_one_form,
    f4_an_address_is_that_address_however_it_is_written,
    f5_an_allowed_name_does_not_lead_to_private_addresses,
    f6_a_connection_goes_only_to_an_address_that_was_permitted,
    f7_every_redirect_is_a_new_question_to_the_rules,
    f7_redirects_have_an_end,
    f7_a_write_is_not_repeated_elsewhere,
    f7_a_redirect_does_not_leave_tls_unless_a_rule_says_so,
    f9_a_guest_does_not_set_what_is_the_hosts,
    f9_trailers_are_not_sent,
    f9_headers_have_a_number_and_a_size,
    f9_the_size_of_a_head_tells_nothing_of_a_secret,
    f10_an_answer_is_cut_at_its_limit,
    f10_the_head_of_an_answer_has_a_size,
    f10_interim_answers_do_not_pile_up,
    f10_an_answer_that_breaks_off_is_not_whole,
    f11_requests_have_a_number,
    f13_a_name_carries_nothing_out,
    f14_what_leaves_is_counted,
    f15_no_tunnel_and_no_other_protocol,
    f16_a_url_has_a_size_and_one_reading,
    f17_a_connection_belongs_to_one_tool_of_one_users_session,
    f18_a_name_is_looked_up_as_it_is,
    f19_a_certificate_is_verified,
    f19_old_tls_is_not_spoken,
    b9_requests_that_are_never_sent_take_no_room,
    a15_a_server_that_drips_or_says_nothing_holds_a_call_to_its_deadline_and_no_longer,
];

/// What the tests of the network share: a component is compiled once.
struct Net {
    dns: DnsServer,
    certificates: Certificates,
    runner: WasmRunner,
    _folder: tempfile::TempDir,
}

static NET: LazyLock<Net> = LazyLock::new(|| {
    let (dns, certificates) = (DnsServer::start(), Certificates::new());
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let ca_file: PathBuf = folder.path().join("ca.pem");
    std::fs::write(&ca_file, certificates.pem()).expect("a file is written");
    let network = NetworkOptions { nameservers: vec![dns.address()], ca_file: Some(ca_file) };
    let options = Options { network, ..options() };
    let secrets = Secrets::default().with("key", || Secret::new(KEY.repeat(10)));
    let runner = WasmRunner::with_secrets(&options, secrets, Arc::new(SystemClock::default()));
    let runner = runner.expect("the machine can run guests");
    Net { dns, certificates, runner, _folder: folder }
});

/// Makes what the tests share, which stays.
pub async fn shared() {
    LazyLock::force(&NET);
}

/// A web server under one name.
struct Site {
    web: WebServer,
    host: String,
}

impl Site {
    /// Starts a server and lets `host` lead to it.
    fn new(host: &str) -> Self {
        Self::of(WebServer::start(), host)
    }

    fn of(web: WebServer, host: &str) -> Self {
        NET.dns.on(host, &[&["127.0.0.1"]]);
        Self { web, host: host.to_owned() }
    }

    fn authority(&self) -> String {
        self.web.at(&self.host)
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.authority())
    }

    /// A rule that allows reads of all of it.
    fn reads(&self) -> Rule {
        Rule::default().sends(&self.url("/*"), LOOPBACK)
    }

    /// A rule that allows reads and writes of all of it.
    fn writes(&self) -> Rule {
        Rule::default().sends(&self.url("/*"), &format!("methods = ['GET', 'POST', 'PUT', 'HEAD'], {LOOPBACK}"))
    }

    /// The parts of a read of `path`.
    fn parts(&self, path: &str) -> Json {
        json!({
            "method": "GET", "scheme": "http", "authority": self.authority(), "path": path,
            "headers": [], "body": "", "with_trailer": false, "wait_ms": null,
        })
    }
}

/// Ten of it are the secret `key`.
const KEY: &str = "c4Xr2-9fQz7Lm0-Tw8Kb5-hJ3nV6yd1P";

const LOOPBACK: &str = "addresses = ['127.0.0.0/8']";

async fn run(name: &str, args: Json, rule: &Rule) -> Outcome {
    NET.runner.run(call(&tool(name), &args, rule), Arc::new(NoLink)).await
}

async fn get(url: &str, rule: &Rule) -> Outcome {
    run("fetch.get", json!({"url": url}), rule).await
}

/// Sends a request in parts, with `changes` to those of the site.
async fn sent(site: &Site, path: &str, changes: Json, rule: &Rule) -> Outcome {
    let mut parts = site.parts(path);
    for (name, value) in changes.as_object().expect("changes are an object") {
        parts[name] = value.clone();
    }
    run("web.send", json!({"parts": parts}), rule).await
}

#[track_caller]
fn good(outcome: &Outcome) -> &Json {
    outcome.result.as_ref().unwrap_or_else(|failure| panic!("{failure:?} {:?}", outcome.denials))
}

/// The tool's own code for what stopped it. The kind tells what the network did, where that was why.
#[track_caller]
fn declared(outcome: &Outcome) -> &str {
    let failure = outcome.result.as_ref().expect_err("it is stopped");
    let failed = outcome.upstream.as_ref().map_or(Kind::ToolDeclared, |failed| failed.kind);
    assert_eq!(failure.kind, failed, "{failure:?}");
    failure.declared.as_deref().unwrap_or_default()
}

fn codes(outcome: &Outcome) -> Vec<&str> {
    outcome.denials.iter().map(|denial| denial.code.as_str()).collect()
}

/// The request was refused by the host for this reason, and nothing of it came to the server.
#[track_caller]
fn refused(outcome: &Outcome, site: &Site, code: &str, what: &str) {
    assert!(outcome.result.is_err(), "{what}: {outcome:?}");
    assert_eq!(codes(outcome), [code], "{what}: {outcome:?}");
    assert_eq!((site.web.connections(), site.web.seen()), (0, vec![]), "{what}");
}

fn questions(name: &str) -> Vec<String> {
    NET.dns.questions().into_iter().filter(|question| question.ends_with(&format!(" {name}"))).collect()
}

#[tokio::test]
async fn an_answer_comes_back_with_status_headers_and_body() {
    let site = Site::new("answer.test");
    site.web.on("/page", Reply::page(418, "x-tea", "green", "short and stout"));
    let outcome = get(&site.url("/page?with=milk"), &site.reads()).await;
    let answer = good(&outcome);
    assert_eq!((&answer["status"], &answer["text"]), (&json!(418), &json!("short and stout")));
    assert!(answer["headers"].as_array().expect("a list").contains(&json!({"name": "x-tea", "value": "green"})));
    assert!(outcome.denials.is_empty() && !outcome.has_written, "{outcome:?}");
    assert_eq!(outcome.usage.requests, 1);
    assert!((100..400).contains(&outcome.usage.egress_bytes), "{:?}", outcome.usage);
    let seen = &site.web.seen()[0];
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", "/page?with=milk"));
    assert_eq!(seen.header("host"), Some(site.authority().as_str()));
    assert!(seen.header("user-agent").is_some_and(|agent| agent.starts_with("cofferdam/")), "{seen:?}");
    assert_eq!(seen.header("accept-encoding"), Some("gzip, deflate, br"));
    assert_eq!((seen.header("idempotency-key"), seen.header("referer")), (None, None));
}

#[tokio::test]
async fn a_coded_body_is_decoded() {
    let site = Site::new("coded.test");
    for coding in ["gzip", "deflate", "br"] {
        let body = coded::text(coding, "the tide comes, the tide goes").await;
        site.web.on("/page", Reply::page(200, "content-encoding", coding, body));
        let outcome = get(&site.url("/page"), &site.reads()).await;
        let answer = good(&outcome);
        assert_eq!(answer["text"], json!("the tide comes, the tide goes"), "{coding}");
        let names: Vec<_> = answer["headers"].as_array().expect("a list").iter().map(|h| h["name"].clone()).collect();
        assert_eq!(names, Vec::<Json>::new(), "what spoke of the coded body is gone");
    }
    site.web.on("/page", Reply::page(200, "content-encoding", "zstd", "?"));
    assert_eq!(declared(&get(&site.url("/page"), &site.reads()).await), "http.failed");
    site.web.on("/page", Reply::page(200, "content-encoding", "gzip", "not gzip at all"));
    assert_eq!(declared(&get(&site.url("/page"), &site.reads()).await), "http.failed");
}

#[tokio::test]
async fn connections_are_used_again_by_calls_of_one_tool() {
    let site = Site::new("again.test");
    site.web.on("/", Reply::text("hello"));
    for _ in 0..5 {
        good(&get(&site.url("/"), &site.reads()).await);
        // The client learns that a connection is free when it gets its turn.
        pause(20).await;
    }
    assert_eq!(site.web.seen().len(), 5);
    assert!(site.web.connections() < 5, "{} connections for five calls", site.web.connections());
}

#[tokio::test]
async fn a_server_that_offers_http2_is_spoken_to_in_it() {
    let web = WebServer::start_http2(&NET.certificates.sign("second.test", Validity::Now));
    let site = Site::of(web, "second.test");
    let url = format!("https://{}", site.authority());
    let rule = Rule::default().sends(&format!("{url}/*"), &format!("methods = ['GET', 'POST'], {LOOPBACK}"));
    site.web.on("/items", Reply::Echo);
    let args = json!({"method": "POST", "url": format!("{url}/items"), "body": "b".repeat(200_000)});
    good(&run("fetch.send", args, &rule).await);
    let seen = &site.web.seen()[0];
    assert_eq!((seen.header(":authority"), seen.body.len()), (Some(site.authority().as_str()), 200_000));
    // The bounds hold as over HTTP/1.1.
    site.web.on("/endless", Reply::Stalled { head: vec![], piece: vec![b'x'; 10_000], every_ms: 0 });
    let outcome = get(&format!("{url}/endless"), &rule).await;
    assert_eq!((declared(&outcome), codes(&outcome)), ("http.too_large", vec!["limit.response"]));
    site.web.on("/head", Reply::page(200, "x-large", &"x".repeat(100_000), "ok"));
    let outcome = get(&format!("{url}/head"), &rule).await;
    assert_eq!((declared(&outcome), codes(&outcome)), ("http.too_large", vec!["limit.response"]));
    site.web.on("/head", Reply::page(200, "x-large", &"x".repeat(1_000_000), "ok"));
    assert!(get(&format!("{url}/head"), &rule.clone().unlimited("header_bytes_max")).await.result.is_err());
    site.web.on("/head", Reply::page(200, "x-large", &"x".repeat(10_000), "ok"));
    good(&get(&format!("{url}/head"), &rule).await);
}

#[tokio::test]
async fn a_component_that_is_not_granted_the_network_never_starts() {
    let outcome = get("http://nowhere.test/", &Rule::default()).await;
    let failure = outcome.result.as_ref().expect_err("it does not start");
    assert_eq!((failure.kind, outcome.usage.fuel), (Kind::PolicyDenied, 0));
    assert!(failure.message.contains("wasi:http/"), "{failure}");
    assert!(failure.hint.as_ref().is_some_and(|hint| hint.contains("http = [{ url")), "{failure:?}");
}

#[tokio::test]
async fn a_function_that_does_not_ask_for_the_network_cannot_use_it() {
    let site = Site::new("sneak.test");
    let outcome = run("web.sneak", json!({"url": site.url("/")}), &site.reads()).await;
    let failure = outcome.result.as_ref().expect_err("it is stopped");
    assert_eq!(failure.kind, Kind::PolicyDenied);
    assert!(failure.message.contains("`http`"), "{failure}");
    assert_eq!(site.web.connections(), 0);
}

#[test]
fn the_effect_follows_the_methods() {
    let policy = |methods: &str| Rule::default().sends("https://api.example.com/*", methods).policy();
    let effect_of = |methods: &str, name: &str| effect(&policy(methods), &tool(name)).expect("it is allowed");
    assert_eq!(effect_of("", "fetch.get"), Effect::Read);
    assert_eq!(effect_of("methods = ['GET', 'HEAD', 'OPTIONS']", "fetch.get"), Effect::Read);
    assert_eq!(effect_of("methods = ['GET', 'DELETE']", "fetch.get"), Effect::Once);
    // Without a word about approval a write needs a person.
    let asking = |name: &str| {
        let rules = "version = 0\n[[rule]]\nname = 'web'\nwhy = 'A test.'\nallow = ['*']\nhttp = [{ url = 'https://api.example.com/*', methods = ['POST'] }]";
        let policy = cofferdam::policy::Policy::parse(rules, std::path::Path::new("/")).expect("the rule reads");
        matches!(
            authorize(&policy, &RunGrant::default(), &step(&tool(name), &json!({})), &tool(name), None),
            Decision::Ask { .. }
        )
    };
    assert!(asking("fetch.send"));
}

#[tokio::test]
async fn a_write_is_announced_before_it_is_sent_and_carries_the_calls_key() {
    let site = Site::new("write.test");
    site.web.on("/items", Reply::Echo);
    let args = json!({"method": "POST", "url": site.url("/items"), "body": "{\"n\":1}"});
    let refusing = Arc::new(Recorder { refuses: true, ..Recorder::default() });
    let writing = call(&tool("fetch.send"), &args, &site.writes());
    let key = writing.key();
    let outcome = NET.runner.run(writing, refusing.clone()).await;
    assert_eq!(kind(&outcome), Some(Kind::HostStorage));
    assert_eq!(refusing.seen(), ["begin 1 http.send, a write"]);
    assert_eq!((site.web.connections(), outcome.has_written), (0, false));

    let link = Arc::new(Recorder::default());
    let outcome = NET.runner.run(call(&tool("fetch.send"), &args, &site.writes()), link.clone()).await;
    good(&outcome);
    assert!(outcome.has_written);
    assert_eq!(link.seen(), ["begin 1 http.send, a write"]);
    let seen = &site.web.seen()[0];
    let url = site.url("/items");
    let key = Digest::of_parts(&[key.as_bytes(), &1_u64.to_le_bytes(), b"POST", url.as_bytes()]).to_string();
    let digits = key.strip_prefix("sha256:");
    assert_eq!((seen.header("idempotency-key"), seen.body.as_slice()), (digits, &b"{\"n\":1}"[..]));
    assert_eq!(seen.header("content-length"), Some("7"));
}

async fn f1_what_no_rule_allows_is_not_even_looked_up() {
    let site = Site::new("f1.test");
    NET.dns.on("other.f1.test", &[&["127.0.0.1"]]);
    site.web.on("/x", Reply::text("here"));
    let url = format!("http://{}/x?key=hidden", site.web.at("other.f1.test"));
    let outcome = get(&url, &site.reads()).await;
    assert_eq!(declared(&outcome), "http.denied");
    refused(&outcome, &site, "denied.net", "another host");
    let what = format!("GET http://{}/x: no rule allows it", site.web.at("other.f1.test"));
    assert_eq!(outcome.denials[0].what, what, "without the query");
    assert_eq!(questions("other.f1.test"), Vec::<String>::new());
    let allowed = site.reads().sends(&format!("http://{}/*", site.web.at("other.f1.test")), LOOPBACK);
    good(&get(&url, &allowed).await);
    let mut asked = questions("other.f1.test");
    asked.sort_unstable();
    assert_eq!(asked, ["A other.f1.test", "AAAA other.f1.test"]);
}

async fn f2_another_scheme_port_method_or_path_is_another_place() {
    let site = Site::new("f2.test");
    site.web.on("/v1/x", Reply::text("here"));
    site.web.on("/admin", Reply::text("there"));
    let rule = Rule::default().sends(&site.url("/v1/*"), LOOPBACK);
    let port = site.web.port();
    let elsewhere = [
        ("https", format!("f2.test:{port}"), "GET", "/v1/x"),
        ("http", format!("f2.test:{}", port.wrapping_add(1)), "GET", "/v1/x"),
        ("http", "f2.test".to_owned(), "GET", "/v1/x"),
        ("http", format!("f2.test:{port}"), "POST", "/v1/x"),
        ("http", format!("f2.test:{port}"), "BREW", "/v1/x"),
    ];
    for (scheme, authority, method, path) in elsewhere {
        let changes = json!({"scheme": scheme, "authority": authority, "method": method});
        refused(
            &sent(&site, path, changes, &rule).await,
            &site,
            "denied.net",
            &format!("{method} {scheme}://{authority}"),
        );
    }
    for path in [
        "/admin",
        "/",
        "/v1",
        "/v11/x",
        "//evil",
        "//f2.test/v1/x",
        "/v1/../admin",
        "/v1/%2e%2e/admin",
        "/v1/..%2fadmin",
        "/v1/%2E%2E%2Fadmin",
        "/v1/..;/admin",
        "/v1/..%5cadmin",
        "/v1/%252e%252e/admin",
        "/v1//x",
        "?x",
    ] {
        refused(&sent(&site, path, json!({}), &rule).await, &site, "denied.net", path);
    }
    good(&sent(&site, "/v1/./y/../x", json!({}), &rule).await);
    good(&sent(&site, "/v1/../admin", json!({}), &site.reads()).await);
    let targets: Vec<_> = site.web.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, ["/v1/x", "/admin"], "what is sent is what was compared");
}

async fn f3_a_host_is_compared_in_one_form() {
    let site = Site::new("f3.test");
    site.web.on("/", Reply::text("here"));
    let port = site.web.port();
    for (authority, code) in [
        (format!("f3.test.evil.test:{port}"), "denied.net"),
        (format!("evil-f3.test:{port}"), "denied.net"),
        (format!("sub.f3.test:{port}"), "denied.net"),
        (format!("xn--f3-test:{port}"), "denied.net"),
        (format!("f3.test..:{port}"), "denied.net"),
        (format!("f3.test@evil.test:{port}"), "invalid.url"),
        (format!("user:key@f3.test:{port}"), "invalid.url"),
        (format!("@f3.test:{port}"), "invalid.url"),
    ] {
        let outcome = sent(&site, "/", json!({"authority": authority}), &site.reads()).await;
        // What the interface itself does not take as an authority goes no further either.
        if declared(&outcome) != "web.authority" {
            refused(&outcome, &site, code, &authority);
        }
    }
    // Other spellings of the same host are that host.
    for authority in [format!("F3.TEST:{port}"), format!("f3.test.:{port}")] {
        good(&sent(&site, "/", json!({"authority": authority}), &site.reads()).await);
    }
    assert!(site.web.seen().iter().all(|seen| seen.header("host") == Some(site.authority().as_str())));
    assert_eq!(questions("f3.test.evil.test"), Vec::<String>::new());
}

async fn f4_an_address_is_that_address_however_it_is_written() {
    let site = Site::new("f4.test");
    site.web.on("/", Reply::text("here"));
    let port = site.web.port();
    let addresses = [
        "127.0.0.1",
        "127.1",
        "0",
        "0.0.0.0",
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "017700000001",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fe80::1%25eth0]",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
    ];
    for address in addresses {
        let outcome = sent(&site, "/", json!({"authority": format!("{address}:{port}")}), &site.reads()).await;
        if declared(&outcome) != "web.authority" {
            refused(&outcome, &site, "denied.net", address);
        }
    }
    // A rule for the address itself names it; then every spelling of it is allowed, and no other address.
    let rule = Rule::default().sends(&format!("http://127.0.0.1:{port}/*"), "");
    for address in ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "017700000001"] {
        good(&sent(&site, "/", json!({"authority": format!("{address}:{port}")}), &rule).await);
    }
    let outcome = sent(&site, "/", json!({"authority": format!("[::ffff:127.0.0.1]:{port}")}), &rule).await;
    assert_eq!(codes(&outcome), ["denied.net"]);
}

async fn f5_an_allowed_name_does_not_lead_to_private_addresses() {
    let site = Site::new("f5.test");
    site.web.on("/", Reply::text("here"));
    let rule = Rule::default().sends(&site.url("/*"), "");
    for answer in [
        "127.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "fe80::1",
        "fd00:ec2::254",
    ] {
        NET.dns.on("f5.test", &[&[answer]]);
        let outcome = get(&site.url("/"), &rule).await;
        assert_eq!(declared(&outcome), "http.denied", "{answer}");
        refused(&outcome, &site, "denied.net.private", answer);
    }
    NET.dns.on("f5.test", &[&["127.0.0.1"]]);
    let elsewhere = Rule::default().sends(&site.url("/*"), "addresses = ['10.0.0.0/8']");
    refused(&get(&site.url("/"), &elsewhere).await, &site, "denied.net.private", "the rule names another range");
    good(&get(&site.url("/"), &site.reads()).await);
}

/// Of the loopback one address is permitted here, and another, where the canary listens, is not.
async fn f6_a_connection_goes_only_to_an_address_that_was_permitted() {
    let site = Site::new("f6.test");
    let canary = WebServer::start_at(&format!("127.0.0.2:{}", site.web.port()));
    // It closes, so that the next request needs a new connection and asks for the name again.
    let reply = Reply::octets("HTTP/1.1 200 \r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
    site.web.on("/", reply.clone());
    canary.on("/", reply);
    let rule = Rule::default().sends(&site.url("/*"), "addresses = ['127.0.0.1/32']");
    NET.dns.on("f6.test", &[&["127.0.0.1"], &["127.0.0.2"]]);
    good(&get(&site.url("/"), &rule).await);
    let outcome = get(&site.url("/"), &rule).await;
    assert_eq!(codes(&outcome), ["denied.net.private"], "{outcome:?}");
    for mixed in [["127.0.0.2", "127.0.0.1"], ["127.0.0.1", "127.0.0.2"]] {
        NET.dns.on("f6.test", &[&mixed]);
        good(&get(&site.url("/"), &rule).await);
    }
    assert_eq!((site.web.connections(), canary.connections()), (3, 0));
    NET.dns.on("f6.test", &[&["127.0.0.2"]]);
    good(&get(&site.url("/"), &site.reads()).await);
    assert_eq!(canary.connections(), 1, "once the rule names it, it is reached");
}

async fn f7_every_redirect_is_a_new_question_to_the_rules() {
    let (site, other) = (Site::new("f7.test"), Site::new("other.f7.test"));
    other.web.on("/there", Reply::Echo);
    for (location, code) in [
        ("http://169.254.169.254/latest/meta-data/".to_owned(), "denied.net"),
        ("http://127.0.0.1:1/".to_owned(), "denied.net"),
        (other.url("/there"), "denied.net"),
        ("file:///etc/passwd".to_owned(), "denied.net"),
        ("gopher://f7.test/".to_owned(), "denied.net"),
        (format!("http://user:key@{}/", site.authority()), "denied.net"),
        ("/%2e%2e%2fadmin".to_owned(), "denied.net"),
    ] {
        site.web.on("/", Reply::redirect(302, &location));
        let outcome = get(&site.url("/"), &site.reads()).await;
        assert_eq!((declared(&outcome), codes(&outcome)), ("http.denied", vec![code]), "{location}: {outcome:?}");
    }
    assert_eq!(other.web.connections(), 0);
    site.web.on("/", Reply::redirect(302, &other.url("/there")));
    let both = site.reads().sends(&other.url("/*"), LOOPBACK);
    let key = json!([{"name": "x-api-key", "value": "k"}, {"name": "accept", "value": "text/plain"}]);
    let outcome = run("fetch.get", json!({"url": site.url("/"), "headers": key}), &both).await;
    good(&outcome);
    let seen = &other.web.seen()[0];
    assert_eq!(
        (seen.header("x-api-key"), seen.header("accept")),
        (None, Some("text/plain")),
        "a key stays where it was"
    );
    assert_eq!(
        site.web.seen().last().and_then(|seen| seen.header("x-api-key").map(str::to_owned)).as_deref(),
        Some("k")
    );
}

async fn f7_redirects_have_an_end() {
    let site = Site::new("loop.f7.test");
    site.web.on("/loop", Reply::redirect(302, "/loop"));
    let outcome = get(&site.url("/loop"), &site.reads()).await;
    assert_eq!((declared(&outcome), codes(&outcome)), ("http.denied", vec!["limit.redirects"]));
    assert_eq!(site.web.seen().len(), 4, "the request and three redirects");
    for n in 0..8 {
        site.web.on(&format!("/{n}"), Reply::redirect(307, &format!("/{}", n + 1)));
    }
    site.web.on("/8", Reply::text("the end"));
    let outcome = get(&site.url("/0"), &site.reads().limit("redirects_max", 7)).await;
    assert_eq!(codes(&outcome), ["limit.redirects"]);
    let outcome = get(&site.url("/0"), &site.reads().limit("redirects_max", 8)).await;
    assert_eq!(good(&outcome)["text"], json!("the end"));
    let outcome = get(&site.url("/0"), &site.reads().limit("redirects_max", 0)).await;
    assert_eq!(good(&outcome)["status"], json!(307), "the guest gets it");
    let outcome = get(&site.url("/loop"), &site.reads().limit("requests_max", 2)).await;
    assert_eq!(codes(&outcome), ["limit.requests"], "each redirect is a request");
}

async fn f7_a_write_is_not_repeated_elsewhere() {
    let site = Site::new("write.f7.test");
    site.web.on("/there", Reply::Echo);
    for (status, expected) in [(302, 302), (307, 307), (308, 308), (303, 200)] {
        site.web.on("/", Reply::redirect(status, "/there"));
        let args = json!({"method": "POST", "url": site.url("/"), "body": "{}"});
        let outcome = run("fetch.send", args, &site.writes()).await;
        assert_eq!(good(&outcome)["status"], json!(expected), "{status}");
    }
    let seen = site.web.seen();
    let followed: Vec<_> = seen.iter().filter(|seen| seen.target == "/there").collect();
    assert_eq!(followed.len(), 1);
    assert_eq!((followed[0].method.as_str(), followed[0].body.len()), ("GET", 0));
    assert_eq!((followed[0].header("idempotency-key"), followed[0].header("content-type")), (None, None));
}

async fn f7_a_redirect_does_not_leave_tls_unless_a_rule_says_so() {
    let secure = Site::of(WebServer::start_tls(&NET.certificates.sign("tls.f7.test", Validity::Now)), "tls.f7.test");
    let plain = Site::new("tls.f7.test");
    plain.web.on("/", Reply::text("in the clear"));
    secure.web.on("/", Reply::redirect(302, &plain.url("/")));
    let url = format!("https://{}/", secure.authority());
    let rule = Rule::default().sends(&format!("https://{}/*", secure.authority()), LOOPBACK);
    let outcome = get(&url, &rule).await;
    assert_eq!((declared(&outcome), codes(&outcome)), ("http.denied", vec!["denied.net"]));
    assert_eq!(plain.web.connections(), 0);
    good(&get(&url, &rule.sends(&plain.url("/*"), LOOPBACK)).await);
}

async fn f9_a_guest_does_not_set_what_is_the_hosts() {
    let site = Site::new("f9.test");
    site.web.on("/", Reply::Echo);
    for name in [
        "Host",
        "Authorization",
        "Cookie",
        "Proxy-Authorization",
        "Proxy-Connection",
        "Transfer-Encoding",
        "TE",
        "Trailer",
        "Upgrade",
        "Connection",
        "Keep-Alive",
        "HTTP2-Settings",
        "Expect",
        "Sec-WebSocket-Key",
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "X_HTTP_Method_Override",
        "X-Original-URL",
        "X-Rewrite-URL",
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Host",
    ] {
        let outcome = sent(&site, "/", json!({"headers": [[name, "x"]]}), &site.writes()).await;
        assert_eq!(declared(&outcome), "web.denied", "{name}");
        refused(&outcome, &site, "invalid.header", name);
    }
    let outcome = sent(&site, "/", json!({"headers": [["content-length", "5"]]}), &site.writes()).await;
    refused(&outcome, &site, "invalid.header", "a length without a body");
    // The interface itself takes no such header: there is no request to note.
    for (name, value) in
        [("x-a", "1\r\nx-b: 2"), ("x-a", "1\n"), ("x-a", "\0"), ("x\r\ny", "1"), ("content-length", "+5")]
    {
        let outcome = sent(&site, "/", json!({"headers": [[name, value]]}), &site.writes()).await;
        assert_eq!(declared(&outcome), "web.headers", "{name:?}: {value:?}");
    }
    let twice = json!([["content-length", "1"], ["content-length", "2"]]);
    assert_eq!(declared(&sent(&site, "/", json!({"headers": twice}), &site.writes()).await), "web.headers");
    assert_eq!(site.web.connections(), 0);
    good(&sent(&site, "/", json!({"headers": [["x-host", "x"]]}), &site.writes()).await);
}

async fn f9_trailers_are_not_sent() {
    let site = Site::new("trailer.f9.test");
    site.web.on("/", Reply::Echo);
    let changes = |with_trailer| json!({"method": "POST", "body": "x", "with_trailer": with_trailer});
    let outcome = sent(&site, "/", changes(true), &site.writes()).await;
    assert_eq!(codes(&outcome), ["invalid.header"], "{outcome:?}");
    assert_eq!(site.web.seen(), vec![], "no whole request came");
    good(&sent(&site, "/", changes(false), &site.writes()).await);
}

async fn f9_headers_have_a_number_and_a_size() {
    let site = Site::new("many.f9.test");
    site.web.on("/", Reply::Echo);
    let headers = |count: usize, bytes: usize| json!({"headers": (0..count).map(|n| json!([format!("x-{n}"), "v".repeat(bytes)])).collect::<Vec<_>>()});
    refused(&sent(&site, "/", headers(101, 1), &site.reads()).await, &site, "invalid.header", "a hundred and one");
    let small = site.reads().limit("header_bytes_max", 8_000);
    // The URL is part of the head.
    let outcome = sent(&site, &format!("/?{}", "q".repeat(7_950)), headers(1, 10), &small).await;
    refused(&outcome, &site, "invalid.header", "a large head");
    let outcome = sent(&site, "/", headers(3_000, 1), &small).await;
    assert_eq!(kind(&outcome), Some(Kind::ToolHostCallBytes), "more than the host holds: {outcome:?}");
    assert_eq!(site.web.connections(), 0);
    good(&sent(&site, "/", headers(50, 30), &small).await);
}

async fn f9_the_size_of_a_head_tells_nothing_of_a_secret() {
    let site = Site::new("secret.f9.test");
    site.web.on("/", Reply::text("ok"));
    let given = format!("secrets = [{{ name = 'key', to = ['{}'], header = 'x-key' }}]", site.url("/*"));
    let told = async |path: &str, header_bytes_max: u64, rule: Rule| {
        let outcome = sent(&site, path, json!({}), &rule.limit("header_bytes_max", header_bytes_max)).await;
        refused(&outcome, &site, "invalid.header", path);
        let failure = outcome.result.expect_err("it is refused");
        format!("{} {}", failure.message, outcome.denials[0].what)
    };
    let long = format!("/?{}", "q".repeat(400));
    for rule in [site.reads(), site.reads().more(&given)] {
        let own = told(&long, 400, rule).await;
        assert!(own.contains("Size(Some(") && own.contains("bytes"), "its own size: {own}");
    }
    let with_secret = told("/", 400, site.reads().more(&given)).await;
    assert!(with_secret.contains("Size(None)") && !with_secret.contains("bytes"), "{with_secret}");
    good(&sent(&site, "/", json!({}), &site.reads().limit("header_bytes_max", 400)).await);
    good(&sent(&site, "/", json!({}), &site.reads().more(&given).limit("header_bytes_max", 800)).await);
}

async fn f10_an_answer_is_cut_at_its_limit() {
    let site = Site::new("f10.test");
    let rule = site.reads().limit("response_bytes_max", 1 << 20);
    let drain = async |path: &str, rule: Rule| {
        run("web.drain", json!({"authority": site.authority(), "path": path}), &rule).await
    };
    let mebibyte = vec![b'x'; 1 << 20];
    let head = "HTTP/1.1 200 \r\ncontent-length: 10000000000\r\n\r\n";
    site.web.on("/long", Reply::Octets { head: head.into(), piece: mebibyte.clone(), times: 100 });
    let head = "HTTP/1.1 200 \r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = [b"10000\r\n".to_vec(), vec![b'x'; 0x10000], b"\r\n".to_vec()].concat();
    site.web.on("/endless", Reply::Stalled { head: head.into(), piece: chunk, every_ms: 0 });
    for coding in ["gzip", "deflate", "br"] {
        let bomb = coded::zeros(coding, 64 << 20).await;
        assert!(bomb.len() < 1 << 20, "short on the wire: {}", bomb.len());
        site.web.on(&format!("/{coding}"), Reply::page(200, "content-encoding", coding, bomb));
    }
    for path in ["/long", "/endless", "/gzip", "/deflate", "/br"] {
        let outcome = drain(path, rule.clone()).await;
        assert_eq!((declared(&outcome), codes(&outcome)), ("web.read", vec!["limit.response"]), "{path}: {outcome:?}");
    }
    // What decodes to nothing is counted as it arrives.
    let empty = coded::text("gzip", "").await.repeat(200_000);
    site.web.on("/nothing", Reply::page(200, "content-encoding", "gzip", empty));
    assert_eq!(codes(&drain("/nothing", rule.clone()).await), ["limit.response"]);
    let raised = site.reads().limit("response_bytes_max", 300 << 20).limit("wall_ms_max", 60_000);
    for (path, bytes) in [("/gzip", 64_u64 << 20), ("/nothing", 0)] {
        assert_eq!(*good(&drain(path, raised.clone()).await), json!(bytes), "{path}");
    }
}

async fn f10_the_head_of_an_answer_has_a_size() {
    let site = Site::new("head.f10.test");
    let page = |bytes: usize| Reply::page(200, "x-large", &"x".repeat(bytes), "ok");
    for bytes in [1 << 20, 70 << 10] {
        site.web.on("/", page(bytes));
        let outcome = get(&site.url("/"), &site.reads()).await;
        assert_eq!(
            (declared(&outcome), codes(&outcome)),
            ("http.too_large", vec!["limit.response"]),
            "{bytes}: {outcome:?}"
        );
    }
    good(&get(&site.url("/"), &site.reads().limit("header_bytes_max", 100 << 10)).await);
    let many: String = (0..1_000).map(|n| format!("x-{n}: 1\r\n")).collect();
    site.web.on("/", Reply::octets(format!("HTTP/1.1 200 \r\ncontent-length: 0\r\n{many}\r\n")));
    assert_eq!(declared(&get(&site.url("/"), &site.reads()).await), "http.too_large");
    site.web.on("/", page(10 << 10));
    good(&get(&site.url("/"), &site.reads()).await);
}

async fn f10_interim_answers_do_not_pile_up() {
    let site = Site::new("interim.f10.test");
    let interim = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".to_vec();
    site.web.on("/endless", Reply::Stalled { head: vec![], piece: interim.repeat(1_000), every_ms: 1 });
    let outcome = get(&site.url("/endless"), &site.reads().limit("wall_ms_max", 400)).await;
    assert_eq!(kind(&outcome), Some(Kind::ToolDeadline));
    let end = b"HTTP/1.1 200 \r\ncontent-length: 2\r\n\r\nok".to_vec();
    site.web.on("/many", Reply::octets([interim.repeat(1_000), end].concat()));
    assert_eq!(good(&get(&site.url("/many"), &site.reads()).await)["text"], json!("ok"));
}

async fn f10_an_answer_that_breaks_off_is_not_whole() {
    let site = Site::new("short.f10.test");
    site.web.on("/short", Reply::octets("HTTP/1.1 200 \r\ncontent-length: 10\r\n\r\nshort"));
    assert_eq!(declared(&get(&site.url("/short"), &site.reads()).await), "http.failed");
    site.web.on("/chunk", Reply::octets("HTTP/1.1 200 \r\ntransfer-encoding: chunked\r\n\r\n5\r\nshort\r\n"));
    assert_eq!(declared(&get(&site.url("/chunk"), &site.reads()).await), "http.failed");
    site.web.on("/two", Reply::octets("HTTP/1.1 200 \r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nshorts"));
    assert_eq!(declared(&get(&site.url("/two"), &site.reads()).await), "http.failed");
    let smuggled = "HTTP/1.1 200 \r\ncontent-length: 5\r\n\r\nshortHTTP/1.1 200 \r\ncontent-length: 4\r\n\r\nevil";
    site.web.on("/more", Reply::octets(smuggled));
    assert_eq!(good(&get(&site.url("/more"), &site.reads()).await)["text"], json!("short"));
    site.web.on("/after", Reply::text("honest"));
    assert_eq!(good(&get(&site.url("/after"), &site.reads()).await)["text"], json!("honest"), "nothing was left over");
}

async fn f11_requests_have_a_number() {
    let site = Site::new("f11.test");
    site.web.on("/", Reply::text("ok"));
    let flood = json!({"authority": site.authority(), "path": "/", "count": 900});
    let outcome = run("web.flood", flood.clone(), &site.reads()).await;
    assert_eq!(*good(&outcome), json!(64));
    assert!(codes(&outcome).iter().all(|code| *code == "limit.requests") && outcome.denials.len() == 100);
    assert_eq!(site.web.seen().len(), 64);
    assert!(site.web.connections() <= 16, "{} connections for eight at once", site.web.connections());
    let crawl = json!({"url": site.url("/"), "count": 10_000});
    assert_eq!(*good(&run("web.crawl", crawl, &site.reads()).await), json!(64));
    let outcome = run("web.flood", flood, &site.reads().limit("requests_max", 100)).await;
    assert_eq!(*good(&outcome), json!(100));
}

async fn f13_a_name_carries_nothing_out() {
    let site = Site::new("f13.test");
    site.web.on("/", Reply::text("ok"));
    let secret = "c2vjcmv0";
    for host in [format!("{secret}.f13.test"), format!("{secret}.a.f13.test"), format!("{secret}.evil.test")] {
        NET.dns.on(&host, &[&["127.0.0.1"]]);
        let url = format!("http://{}/", site.web.at(&host));
        let wildcard = site.reads().sends(&format!("http://*.a.f13.test:{}/x", site.web.port()), LOOPBACK);
        refused(&get(&url, &wildcard).await, &site, "denied.net", &host);
        assert_eq!(questions(&host), Vec::<String>::new());
    }
    let wildcard = Rule::default().sends(&format!("http://*.f13.test:{}/", site.web.port()), LOOPBACK);
    good(&get(&format!("http://{}/", site.web.at(&format!("{secret}.f13.test"))), &wildcard).await);
    let deeper = format!("http://{}/", site.web.at(&format!("{secret}.a.f13.test")));
    assert_eq!(codes(&get(&deeper, &wildcard).await), ["denied.net"], "one label, not two");
}

async fn f14_what_leaves_is_counted() {
    let site = Site::new("f14.test");
    site.web.on("/", Reply::Echo);
    let rule = site.writes().limit("egress_bytes_max", 20_000);
    let body = |bytes: usize| json!({"method": "POST", "body": "b".repeat(bytes)});
    let outcome = sent(&site, "/", body(30_000), &rule).await;
    assert_eq!(codes(&outcome), ["limit.egress"], "{outcome:?}");
    assert_eq!(site.web.seen(), vec![], "no whole request came");
    let head = json!({"headers": [["x-a", "h".repeat(25_000)]]});
    let outcome = sent(&site, "/", head.clone(), &rule).await;
    assert_eq!((declared(&outcome), codes(&outcome)), ("web.denied", vec!["limit.egress"]));
    assert_eq!(site.web.seen(), vec![]);
    for passing in [body(19_000), json!({"headers": [["x-a", "h".repeat(19_000)]]})] {
        good(&sent(&site, "/", passing, &rule).await);
    }
    for raised in [body(30_000), head] {
        good(&sent(&site, "/", raised, &site.writes().limit("egress_bytes_max", 40_000)).await);
    }
    // All requests of a call together.
    let outcome =
        run("web.crawl", json!({"url": site.url("/"), "count": 60}), &site.reads().limit("egress_bytes_max", 2_000))
            .await;
    let answered = good(&outcome).as_u64().expect("it is a number");
    assert!((5..30).contains(&answered), "{answered}");
    assert!(codes(&outcome).iter().all(|code| *code == "limit.egress"));
}

async fn f15_no_tunnel_and_no_other_protocol() {
    let site = Site::new("f15.test");
    site.web.on("/", Reply::text("ok"));
    for method in ["CONNECT", "TRACE", "BREW"] {
        let outcome = sent(&site, "/", json!({"method": method}), &site.writes()).await;
        refused(&outcome, &site, "denied.net", method);
    }
    for (name, value) in
        [("upgrade", "websocket"), ("upgrade", "h2c"), ("connection", "upgrade"), ("sec-websocket-version", "13")]
    {
        let outcome = sent(&site, "/", json!({"headers": [[name, value]]}), &site.writes()).await;
        refused(&outcome, &site, "invalid.header", name);
    }
    site.web.on("/switch", Reply::octets("HTTP/1.1 101 \r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello"));
    let outcome = sent(&site, "/switch", json!({}), &site.writes()).await;
    assert!(matches!(declared(&outcome), "web.failed"), "{outcome:?}");
    good(&sent(&site, "/", json!({}), &site.writes()).await);
}

async fn f16_a_url_has_a_size_and_one_reading() {
    let site = Site::new("f16.test");
    site.web.on("/x", Reply::text("ok"));
    let long = |bytes: usize| format!("/x?{}", "q".repeat(bytes));
    assert_eq!(declared(&sent(&site, &long(200_000), json!({}), &site.reads()).await), "web.path");
    assert_eq!(declared(&sent(&site, &long(9_000), json!({}), &site.reads()).await), "web.path");
    let whole = &long((8 << 10) - 10);
    refused(&sent(&site, whole, json!({}), &site.reads()).await, &site, "invalid.url", "more with its host");
    refused(&sent(&site, "/x#part", json!({}), &site.reads()).await, &site, "invalid.url", "a fragment");
    let outcome = sent(&site, "/x", json!({"scheme": "http+unix"}), &site.reads()).await;
    refused(&outcome, &site, "denied.net", "a socket of this machine");
    for path in ["x", "*", "http://evil.test/"] {
        assert_eq!(declared(&sent(&site, path, json!({}), &site.reads()).await), "web.path", "{path}");
    }
    good(&sent(&site, &long(7_000), json!({}), &site.reads()).await);
}

async fn f17_a_connection_belongs_to_one_tool_of_one_users_session() {
    let site = Site::new("f17.test");
    site.web.on("/", Reply::text("ok"));
    let calls = |[tenant, user, session]: [&str; 3], name: &str, args: Json| -> Call {
        let principal = Principal { tenant: tenant.into(), user: user.into(), session: session.into() };
        let run = RunGrant { principal, ..RunGrant::default() };
        match authorize(&site.reads().policy(), &run, &step(&tool(name), &args), &tool(name), None) {
            Decision::Allow(call) => *call,
            _ => panic!("the rule allows it"),
        }
    };
    let url = json!({"url": site.url("/")});
    let crawl = json!({"url": site.url("/"), "count": 2});
    let mut earlier = BTreeSet::new();
    for whose in [["a", "ann", "1"], ["a", "bob", "1"], ["b", "ann", "1"], ["a", "ann", "2"]] {
        for (name, args) in [("fetch.get", &url), ("web.crawl", &crawl)] {
            let before = site.web.seen().len();
            for _ in 0..4 {
                good(&NET.runner.run(calls(whose, name, args.clone()), Arc::new(NoLink)).await);
                pause(20).await;
            }
            let seen = site.web.seen();
            let requests = &seen[before..];
            let used: BTreeSet<_> = requests.iter().map(|seen| seen.connection).collect();
            assert!(used.is_disjoint(&earlier), "{whose:?} {name}: {used:?} and {earlier:?}");
            assert!(used.len() < requests.len(), "{whose:?} {name}: its own are used again: {used:?}");
            earlier.extend(used);
        }
    }
}

async fn f18_a_name_is_looked_up_as_it_is() {
    let site = Site::new("f18.test");
    site.web.on("/", Reply::text("ok"));
    let port = site.web.port();
    // Every machine's hosts file leads this one to the loopback.
    let local = format!("http://localhost:{port}/");
    let outcome = get(&local, &Rule::default().sends(&local, "")).await;
    refused(&outcome, &site, "denied.net.private", "localhost");
    let alias = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    for name in [alias.trim(), "f18single"].into_iter().filter(|name| !matches!(*name, "" | "localhost")) {
        let url = format!("http://{name}:{port}/");
        let outcome = get(&url, &Rule::default().sends(&url, LOOPBACK)).await;
        assert_eq!(declared(&outcome), "http.dns", "{name}: {outcome:?}");
        assert!(outcome.denials.is_empty(), "{outcome:?}");
    }
    let asked: Vec<_> = NET.dns.questions().into_iter().filter(|question| question.contains("f18single")).collect();
    assert!(asked.iter().all(|question| question.ends_with(" f18single")), "no suffix was tried: {asked:?}");
    NET.dns.on("six.f18.test", &[&["::1"]]);
    let six = format!("http://six.f18.test:{port}/");
    refused(&get(&six, &Rule::default().sends(&six, LOOPBACK)).await, &site, "denied.net.private", "IPv6 alone");
    NET.dns.on("f18single", &[&["127.0.0.1"]]);
    let single = format!("http://f18single:{port}/");
    good(&get(&single, &Rule::default().sends(&single, LOOPBACK)).await);
    NET.dns.forget("f18single");
}

async fn f19_a_certificate_is_verified() {
    let secure = |identity: &Identity| {
        let site = Site::of(WebServer::start_tls(identity), "f19.test");
        site.web.on("/", Reply::text("ok"));
        site
    };
    let reads = async |site: &Site| {
        let url = format!("https://{}/", site.authority());
        get(&url, &Rule::default().sends(&url, LOOPBACK)).await
    };
    for (what, identity) in [
        ("signed by itself", Identity::self_signed("f19.test")),
        ("signed by somebody else", Certificates::new().sign("f19.test", Validity::Now)),
        ("no longer valid", NET.certificates.sign("f19.test", Validity::Past)),
        ("of another name", NET.certificates.sign("other.test", Validity::Now)),
    ] {
        let site = secure(&identity);
        let outcome = reads(&site).await;
        assert_eq!(declared(&outcome), "http.tls", "{what}: {outcome:?}");
        assert_eq!(site.web.seen(), vec![], "{what}: nothing was asked, with or without TLS");
    }
    good(&reads(&secure(&NET.certificates.sign("f19.test", Validity::Now))).await);
    // A server that speaks no TLS is not spoken to without.
    let plain = Site::new("f19.test");
    assert_eq!(declared(&reads(&plain).await), "http.tls");
    assert!(plain.web.seen().iter().all(|seen| seen.header("host").is_none()), "no request in the clear");
}

/// A server that answers every hello with a choice of TLS 1.0.
async fn f19_old_tls_is_not_spoken() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let port = listener.local_addr().expect("it has an address").port();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("it connects");
        let mut hello = vec![0; 4096];
        let n = stream.read(&mut hello).await.expect("it says hello");
        // A record of TLS 1.0 with a ServerHello: version, random, no session, AES-128-CBC, no compression.
        let hello_body = [vec![3, 1], vec![7; 32], vec![0, 0, 0x2f, 0]].concat();
        let length = u8::try_from(hello_body.len()).expect("it is short");
        let handshake = [vec![2, 0, 0, length], hello_body].concat();
        stream.write_all(&[vec![22, 3, 1, 0, length + 4], handshake].concat()).await.expect("it is sent");
        // What the client says last is an alert.
        let mut alert = Vec::new();
        let _ = stream.read_to_end(&mut alert).await;
        (n, alert)
    });
    NET.dns.on("old.f19.test", &[&["127.0.0.1"]]);
    let url = format!("https://old.f19.test:{port}/");
    let outcome = get(&url, &Rule::default().sends(&url, LOOPBACK)).await;
    assert_eq!(declared(&outcome), "http.tls", "{outcome:?}");
    let (hello, alert) = server.await.expect("the server ends");
    assert!(hello > 0 && alert.first() == Some(&21), "{alert:?}");
}

/// Without a grant, by a function that does not ask for the network.
async fn b9_requests_that_are_never_sent_take_no_room() {
    const MEMORY_BYTES: u64 = 12 << 20;
    let rule = Rule::default().limit("memory_bytes_max", MEMORY_BYTES);
    let hoard = async |part: &str, count: u32, bytes: u32| {
        run("web.hoard", json!({"part": part, "count": count, "bytes": bytes}), &rule).await
    };
    good(&hoard("method", 1, 7).await);
    let watch = Watch::start();
    for (part, bytes_max) in [("method", 32), ("scheme", 32), ("authority", 300), ("path", (8 << 10) - 1)] {
        assert_eq!(*good(&hoard(part, 16, bytes_max).await), json!(16), "{part}");
        for bytes in [bytes_max + 1, 60_000, 3 << 20] {
            assert_eq!(*good(&hoard(part, 16, bytes).await), json!(0), "{part} of {bytes}");
        }
    }
    // The copy of each map of headers is another: each adds to its own.
    assert_eq!(*good(&hoard("headers", 16, 60_000).await), json!(16));
    for part in ["headers", "method"] {
        let outcome = hoard(part, 17, 60_000).await;
        assert_eq!(kind(&outcome), Some(Kind::ToolHandles), "{part}: {outcome:?}");
    }
    watch.within(MEMORY_BYTES);
}

async fn a15_a_server_that_drips_or_says_nothing_holds_a_call_to_its_deadline_and_no_longer() {
    const DEADLINE_MS: u64 = 400;
    const LATE_MS: u64 = 250;
    let site = Site::new("a15.test");
    let head = b"HTTP/1.1 200 \r\ncontent-length: 1000000\r\n\r\n".to_vec();
    site.web.on("/drip", Reply::Stalled { head, piece: b"x".to_vec(), every_ms: 50 });
    site.web.on("/silent", Reply::Silent);
    site.web.on(
        "/head",
        Reply::Stalled { head: b"HTTP/1.1 200 \r\n".to_vec(), piece: b"x-a: 1\r\n".to_vec(), every_ms: 50 },
    );
    for name in ["fetch.get", "web.send"] {
        NET.runner.prepare(&tool(name)).await.expect("it compiles");
    }
    let rule = site.reads().limit("wall_ms_max", DEADLINE_MS);
    for path in ["/drip", "/silent", "/head"] {
        let clock = SystemClock::default();
        let outcome = get(&site.url(path), &rule).await;
        assert_eq!(kind(&outcome), Some(Kind::ToolDeadline), "{path}: {outcome:?}");
        let took_ms = clock.monotonic_ms();
        assert!((DEADLINE_MS - 10..DEADLINE_MS + LATE_MS).contains(&took_ms), "{path}: {took_ms} ms");
    }
    // No connection outlives its call.
    for _ in 0..100 {
        if site.web.open() == 0 {
            break;
        }
        pause(20).await;
    }
    assert_eq!(site.web.open(), 0);
    // With three times the deadline the same servers go on for as long.
    let (url, longer) = (site.url("/silent"), site.reads().limit("wall_ms_max", 3 * DEADLINE_MS));
    let waiting = tokio::time::timeout(Duration::from_millis(2 * DEADLINE_MS), get(&url, &longer));
    assert!(waiting.await.is_err(), "it is the deadline that ends it");
    // A guest that waits less long is answered sooner, and goes on.
    for path in ["/drip", "/silent"] {
        let outcome = sent(&site, path, json!({"wait_ms": 20}), &rule).await;
        assert!(matches!(declared(&outcome), "web.failed" | "web.read"), "{path}: {outcome:?}");
    }
}
