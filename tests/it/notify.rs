//! Who is told that a run waits, with a real program and a real server of this machine.

use std::fs;
use std::path::Path;

use cofferdam::config::Settings;
use cofferdam::domain::{Failure, Kind, StepId, Suspension};
use cofferdam::host::{Host, Notice};
use cofferdam_kit::web::{Certificates, Identity, Reply, Validity, WebServer};
use serde_json::{Value, json};
use tempfile::TempDir;

const TOKEN: &str = "T0K3N-secret";

fn host(folder: &Path, settings: &str) -> Host {
    let settings = Settings::parse(&format!("version = 0\n{settings}"), folder, "cofferdam.toml").expect("it reads");
    Host::from_settings(settings).expect("a host is made")
}

fn notice(why: Suspension, seq: u64) -> Notice {
    let steps = vec![StepId::new(1, "write").expect("a name")];
    Notice { run: "r-01arz3ndektsv4rrffq69g5fav".parse().expect("an id"), seq, why, steps }
}

async fn told(host: &Host, why: Suspension) -> Result<(), Failure> {
    host.notify(&notice(why, 7)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_reads_the_notice_and_finds_little_else() {
    let folder = TempDir::new().expect("a directory");
    let heard = folder.path().join("heard");
    let script = format!("cat >> {0}; env | cut -d= -f1 >> {0}", heard.display());
    let settings = format!("[notify]\ncommand = ['sh', '-c', {script:?}]\non = ['approval', 'stuck']\n");
    let host = host(folder.path(), &settings);
    told(&host, Suspension::Approval).await.expect("it is told");
    told(&host, Suspension::Question).await.expect("there is nothing to tell");
    let heard = fs::read_to_string(heard).expect("it was told");
    let (document, names) = heard.split_once('}').expect("a document");
    let document: Value = serde_json::from_str(&format!("{document}}}")).expect("it is JSON");
    let expected = json!({ "run": "r-01arz3ndektsv4rrffq69g5fav", "seq": 7, "why": "approval", "steps": ["t1.write"] });
    assert_eq!(document, expected);
    let known = ["PATH", "HOME", "PWD", "SHLVL", "_", "OLDPWD"];
    assert!(names.lines().all(|name| name.is_empty() || known.contains(&name)), "{names}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_fails_or_hangs_is_a_failure_and_ends() {
    let folder = TempDir::new().expect("a directory");
    let failing = host(folder.path(), "[notify]\ncommand = ['sh', '-c', 'echo hunter2; exit 3']\n");
    let failure = told(&failing, Suspension::Stuck).await.expect_err("it fails");
    assert!(failure.message.contains("code 3") && !format!("{failure:?}").contains("hunter2"), "{failure:?}");
    let absent = TempDir::new().expect("a directory");
    let absent = host(absent.path(), "[notify]\ncommand = ['/no/such/program']\n");
    assert!(told(&absent, Suspension::Stuck).await.expect_err("it is not there").message.contains("does not start"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_gets_the_notice_with_a_key_that_is_the_same_for_a_repeat() {
    let folder = TempDir::new().expect("a directory");
    let web = WebServer::start();
    web.on("/hook", Reply::text("thanks"));
    let url = format!("http://127.0.0.1:{}/hook?token={TOKEN}", web.port());
    let host = host(folder.path(), &format!("[notify]\nurl = '{url}'\n"));
    for (why, seq) in [(Suspension::Reconcile, 7), (Suspension::Reconcile, 7), (Suspension::Approval, 9)] {
        host.notify(&notice(why, seq)).await.expect("it is told");
    }
    let seen = web.seen();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[0].method, "POST");
    assert_eq!(seen[0].target, format!("/hook?token={TOKEN}"));
    assert_eq!(seen[0].header("content-type"), Some("application/json"));
    let body: Value = serde_json::from_slice(&seen[0].body).expect("it is JSON");
    assert_eq!((&body["why"], &body["steps"]), (&json!("reconcile"), &json!(["t1.write"])));
    let key = |n: usize| seen[n].header("idempotency-key").map(str::to_owned).expect("a key");
    assert!(key(0) == key(1) && key(0) != key(2) && key(0).len() == 64, "{}", key(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_no_success_is_a_failure_without_the_address() {
    let folder = TempDir::new().expect("a directory");
    let web = WebServer::start();
    web.on("/down", Reply::page(503, "x", "y", TOKEN));
    web.on("/else", Reply::redirect(307, "/down"));
    let gone = WebServer::start().port();
    fs::write(folder.path().join("hook"), format!("http://127.0.0.1:{}/down?{TOKEN}\n", web.port())).expect("a file");
    for (url, kind) in [
        ("file:hook".to_owned(), Kind::NetworkHttp5xx),
        (format!("http://127.0.0.1:{}/else?{TOKEN}", web.port()), Kind::NetworkHttp4xx),
        (format!("http://127.0.0.1:{gone}/{TOKEN}"), Kind::NetworkConnect),
    ] {
        let host = host(folder.path(), &format!("[notify]\nurl = '{url}'\n"));
        let failure = told(&host, Suspension::Approval).await.expect_err("nobody heard");
        assert_eq!(failure.kind, kind, "{failure:?}");
        assert!(!format!("{failure:?}").contains(TOKEN), "{failure:?}");
    }
    assert_eq!(web.seen().len(), 2, "a redirect is not followed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_must_prove_who_it_is() {
    let folder = TempDir::new().expect("a directory");
    let ours = Certificates::new();
    fs::write(folder.path().join("ca.pem"), ours.pem()).expect("a file");
    let stranger = Certificates::new().sign("127.0.0.1", Validity::Now);
    for (identity, is_good) in [
        (ours.sign("127.0.0.1", Validity::Now), true),
        (ours.sign("127.0.0.1", Validity::Past), false),
        (ours.sign("other.test", Validity::Now), false),
        (stranger, false),
        (Identity::self_signed("127.0.0.1"), false),
    ] {
        let web = WebServer::start_tls(&identity);
        web.on("/hook", Reply::text("thanks"));
        let url = format!("https://127.0.0.1:{}/hook?{TOKEN}", web.port());
        let host = host(folder.path(), &format!("[network]\nca_file = 'ca.pem'\n[notify]\nurl = '{url}'\n"));
        let told = told(&host, Suspension::Approval).await;
        let kind = told.as_ref().err().map(|failure| failure.kind);
        assert_eq!(kind, (!is_good).then_some(Kind::NetworkTls), "{told:?}");
        assert_eq!(web.seen().len(), usize::from(is_good));
    }
}

#[test]
fn a_mistake_is_told_with_its_place_and_without_what_is_written() {
    let text = format!("version = 0\n[notify]\nurl = 'http://example.com/{TOKEN}'\n");
    let failure = Settings::parse(&text, Path::new("/srv"), "cofferdam.toml").expect_err("it is not safe");
    assert_eq!(failure.kind, Kind::DataConfig);
    assert!(failure.message.starts_with("read cofferdam.toml:2:1: `[notify]` has a `url` that"), "{failure:?}");
    assert!(!format!("{failure:?}").contains(TOKEN), "{failure:?}");
}
