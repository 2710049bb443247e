//! Secrets and variables with real guests: who finds what, and what is left of a value in all that leaves a call.
//!
//! Tests bear the identifiers of the catalogue in the threat model. What requests carry is tested beside the code
//! (`sandbox/secrets`), byte for byte.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cofferdam::clock::SystemClock;
use cofferdam::config::Settings;
use cofferdam::domain::{Json, Kind, Outcome, Secret};
use cofferdam::host::Host;
use cofferdam::policy::Policy;
use cofferdam::sandbox::{NoLink, Runner, Secrets, WasmRunner};
use serde_json::json;

use crate::alone::cases;
use crate::cli::Shop;
use crate::guest::{Folders, Recorder, Rule, call, kind, options, run, tool};

cases![
    g1_a_guest_finds_nothing_of_the_machine,
    g2_a_guest_finds_the_placeholder_of_what_was_granted_and_no_more,
    g10_a_panic_with_a_secret_in_its_message,
];

const VALUE: &str = "ghp-9c1fA7/x+hunter2";

fn secret() -> Secret {
    Secret::new(VALUE).expect("it is a secret")
}

/// A runner that has the secrets `github` and `mail`.
fn keeper() -> WasmRunner {
    let other = || Secret::new("another-value");
    let secrets = Secrets::default().with("github", || Ok(secret())).with("mail", other);
    WasmRunner::with_secrets(&options(), secrets, Arc::new(SystemClock::default())).expect("it can run guests")
}

/// A rule that gives the value of `github` in the variable `TOKEN`.
fn revealing() -> Rule {
    let rule = Rule::default().gives("log").gives("progress");
    rule.more("secrets = [{ name = 'github', env = 'TOKEN', reveal = true }]")
}

#[track_caller]
fn texts(outcome: &Outcome) -> Vec<String> {
    let result = outcome.result.as_ref().unwrap_or_else(|failure| panic!("{failure:?}"));
    serde_json::from_value(result.clone()).expect("it is a list of text")
}

/// Neither the value nor a recognisable part of it.
#[track_caller]
fn is_free_of_it(text: &str) {
    for part in [VALUE, &VALUE[..10], &VALUE[10..], &VALUE[3..13]] {
        assert!(!text.contains(part), "`{part}` in {text}");
    }
}

async fn g1_a_guest_finds_nothing_of_the_machine() {
    let bare = ["folder /", "program none", "input 0 "];
    let found = texts(&run("probe.inside", json!({}), &Rule::default().gives("log").gives("progress")).await);
    assert_eq!(found, bare);
    let rule = Rule::default().gives("log").gives("progress").more("env = { LANG = 'C', EMPTY = '' }");
    let found = texts(&run("probe.inside", json!({}), &rule).await);
    assert_eq!(found, [&["EMPTY=", "LANG=C"], &bare[..]].concat());
    // This function does not ask for variables.
    let found = texts(&run("probe.surroundings", json!({}), &rule).await);
    assert_eq!(found, ["/"]);
}

async fn g2_a_guest_finds_the_placeholder_of_what_was_granted_and_no_more() {
    let rule = Rule::default().gives("log").gives("progress");
    let rule = rule.more("secrets = [{ name = 'github', to = ['https://api.github.com/*'], env = 'TOKEN' }]");
    let outcome = keeper().run(call(&tool("probe.inside"), &json!({}), &rule), Arc::new(NoLink)).await;
    assert_eq!(texts(&outcome)[0], "TOKEN=cofferdam-secret-github");
    assert_eq!(texts(&outcome).iter().filter(|text| text.contains('=')).count(), 1);
    is_free_of_it(&format!("{outcome:?}"));
}

#[tokio::test]
async fn a_revealed_value_reaches_the_guest_and_nobody_else() {
    let keeper = keeper();
    let leak = async |way: &str| {
        let link = Arc::new(Recorder::default());
        let args = json!({"variable": "TOKEN", "way": way});
        let outcome = keeper.run(call(&tool("probe.leak"), &args, &revealing()), link.clone()).await;
        is_free_of_it(&format!("{outcome:?} {:?}", link.seen()));
        (outcome, link.seen())
    };
    assert_eq!(texts(&leak("result").await.0), ["<[secret:github]>", "plain"]);
    assert_eq!(leak("log").await.0.log[0].text, "it is [secret:github]");
    let progress = leak("progress").await.1;
    assert!(progress[0].contains("xx[secret:gi"), "{progress:?}");
    let lines: Vec<_> = leak("print").await.0.log.into_iter().map(|line| line.text).collect();
    assert_eq!(lines, ["it is [secret:github]", "[secret:github]"]);
    let failure = leak("error").await.0.result.expect_err("it says no");
    assert_eq!(failure.declared.as_deref(), Some("[secret:github]"));
}

#[tokio::test]
async fn a_path_that_was_refused_is_noted_without_the_value() {
    let folders = Folders::new();
    let rule = revealing().reads("/data", &folders.data());
    let args = json!({"variable": "TOKEN", "way": "path"});
    let outcome = keeper().run(call(&tool("probe.leak"), &args, &rule), Arc::new(NoLink)).await;
    let denials: Vec<_> = outcome.denials.iter().map(|denial| format!("{} {}", denial.code, denial.what)).collect();
    assert_eq!(denials, ["denied.fs open ../[secret:github]"]);
}

#[tokio::test]
async fn only_the_secrets_of_a_call_are_looked_for() {
    let rule = revealing().more("env = { OTHER = 'another-value' }");
    let args = json!({"variable": "OTHER", "way": "log"});
    let outcome = keeper().run(call(&tool("probe.leak"), &args, &rule), Arc::new(NoLink)).await;
    assert_eq!(outcome.log[0].text, "it is another-value");
}

async fn g10_a_panic_with_a_secret_in_its_message() {
    let args = json!({"variable": "TOKEN", "way": "panic"});
    let outcome = keeper().run(call(&tool("probe.leak"), &args, &revealing()), Arc::new(NoLink)).await;
    assert_eq!(kind(&outcome), Some(Kind::ToolTrap));
    assert!(outcome.log.iter().any(|line| line.text.contains("it is [secret:github]")), "{:?}", outcome.log);
    is_free_of_it(&format!("{outcome:?}"));
}

#[tokio::test]
async fn a_secret_is_fetched_for_the_first_call_that_needs_it_and_once() {
    let fetched = Arc::new(AtomicU32::new(0));
    let count = fetched.clone();
    let secrets = Secrets::default().with("github", move || {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(secret())
    });
    let runner = WasmRunner::with_secrets(&options(), secrets, Arc::new(SystemClock::default()));
    let runner = runner.expect("it can run guests");
    let text = async |rule: &Rule| runner.run(call(&tool("probe.inside"), &json!({}), rule), Arc::new(NoLink)).await;
    texts(&text(&Rule::default().gives("log").gives("progress")).await);
    assert_eq!(fetched.load(Ordering::SeqCst), 0);
    for _ in 0..3 {
        assert_eq!(texts(&text(&revealing()).await)[0], "TOKEN=[secret:github]");
    }
    assert_eq!(fetched.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_secret_that_is_not_found_stops_the_call_before_its_guest() {
    let outcome = run("probe.inside", json!({}), &revealing()).await;
    let failure = outcome.result.expect_err("nobody has it");
    assert_eq!((failure.kind, outcome.usage.fuel), (Kind::DataConfig, 0));
    assert!(failure.message.contains("`github`"), "{failure}");
}

#[test]
fn a_policy_that_names_a_secret_nobody_gives_is_refused_by_name() {
    let policy = revealing().policy();
    let failure = Host::builder().policy(policy.clone()).build().map(drop).expect_err("nobody gives it");
    assert_eq!(failure.kind, Kind::DataConfig);
    assert_eq!(failure.message, "find secret `github`, which rule `test` of the policy names");
    Host::builder().policy(policy).secret("github", secret()).build().map(drop).expect("now somebody does");
}

/// A policy that gives the value of `github` in the variable `TOKEN`.
const RULE: &str = "version = 0\n[[rule]]\nname = 'test'\nwhy = 'A test.'\nallow = ['*']\napproval = 'none'\ncapabilities = ['log', 'progress']\nsecrets = [{ name = 'github', env = 'TOKEN', reveal = true }]";

/// A host made of a settings file whose secret is found by a command that leaves a mark.
fn settings(folder: &Path, command: &str) -> Settings {
    let text = folder.join("text.wasm");
    std::fs::copy(cofferdam_guests::component("probe"), &text).expect("a component is copied");
    std::fs::write(folder.join("policy.toml"), RULE).expect("a policy is written");
    let file = format!(
        "version = 0\n[tools]\nprobe = 'text.wasm'\n[secrets]\ngithub = {{ command = ['sh', '-c', {command:?}] }}"
    );
    let settings = Settings::parse(&file, folder, "cofferdam.toml").expect("the settings read");
    Settings { sandbox: options(), ..settings }
}

#[tokio::test]
async fn a_password_manager_is_asked_by_the_call_that_needs_it_alone() {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let mark = folder.path().join("asked");
    let command = format!("echo asked >> {}; echo {VALUE}", mark.display());
    let asked = || std::fs::read_to_string(&mark).map_or(0, |text| text.lines().count());
    let host = Host::from_settings(settings(folder.path(), &command)).expect("the host is made");
    assert_eq!((host.tools().is_empty(), host.runs(10).await.expect("they list").len()), (false, 0));
    assert_eq!(asked(), 0, "building, listing and looking ask nobody");
    for _ in 0..2 {
        let report = host.call("probe.inside", json!({})).await.expect("it starts");
        assert_eq!(texts(&report.outcome)[0], "TOKEN=[secret:github]");
    }
    assert_eq!(asked(), 1);
    host.close().await.expect("the log is whole");
    let log: Vec<u8> = walk(folder.path())
        .into_iter()
        .filter(|path| !path.ends_with("cofferdam.toml"))
        .flat_map(|path| std::fs::read(path).unwrap_or_default())
        .collect();
    assert!(!log.windows(VALUE.len()).any(|window| window == VALUE.as_bytes()), "the value stands in a file");
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder lists").flatten();
    entries.flat_map(|entry| if entry.path().is_dir() { walk(&entry.path()) } else { vec![entry.path()] }).collect()
}

#[test]
fn the_program_and_what_it_starts_leave_no_core_file() {
    let shop = Shop::new();
    // What it starts has its limits: the one that holds and the highest one that could be set.
    let command = format!("ulimit -Sc > {0}; ulimit -Hc >> {0}; echo {VALUE}", shop.path("limits").display());
    shop.write(
        "cofferdam.toml",
        &format!(
            "version = 0\n[tools]\nprobe = {:?}\n[secrets]\ngithub = {{ command = ['sh', '-c', {command:?}] }}",
            cofferdam_guests::component("probe")
        ),
    );
    shop.write("policy.toml", RULE);
    let called = shop.run(&["call", "probe.inside", "--args", "{}"]).ends(0);
    assert!(called.out.contains("TOKEN=[secret:github]"), "{}", called.out);
    assert_eq!(std::fs::read_to_string(shop.path("limits")).expect("it was asked"), "0\n0\n");
}

#[tokio::test]
async fn a_command_that_fails_is_told_with_its_code_and_without_its_words() {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let host = Host::from_settings(settings(folder.path(), "echo the-words; echo the-words >&2; exit 7"));
    let report = host.expect("the host is made").call("probe.inside", json!({})).await.expect("it starts");
    let failure = report.outcome.result.expect_err("there is no secret");
    assert_eq!(failure.message, "find secret `github` with its command: it ended with code 7");
    assert!(!format!("{failure:?}").contains("the-words"), "{failure:?}");
}

#[test]
fn rules_that_disagree_about_a_variable_are_denied() {
    let rule = |name: &str, body: &str| {
        format!("[[rule]]\nname = '{name}'\nwhy = 'A test.'\nallow = ['*']\napproval = 'none'\n{body}\n")
    };
    let grant = |first: &str, second: &str| {
        let text = format!("version = 0\n{}{}", rule("first", first), rule("second", second));
        let policy = Policy::parse(&text, Path::new("/")).expect("the rules read");
        let (tool, none) = (tool("probe.inside"), Json::Null);
        let step = crate::guest::step(&tool, &none);
        match cofferdam::policy::authorize(&policy, &Default::default(), &step, &tool, None) {
            cofferdam::policy::Decision::Allow(call) => Ok(call.grant().clone()),
            cofferdam::policy::Decision::Ask { .. } => panic!("the rules ask nobody"),
            cofferdam::policy::Decision::Deny(failure) => Err(failure.message),
        }
    };
    let secret = |name: &str, reveal: bool| {
        format!("secrets = [{{ name = '{name}', to = ['https://a.example/*'], env = 'A', reveal = {reveal} }}]")
    };
    assert_eq!(grant("env = { A = 'x' }", "env = { A = 'x', B = 'y' }").expect("they agree").env.len(), 2);
    assert!(grant(&secret("a", true), &secret("a", true)).is_ok());
    for (first, second) in [
        ("env = { A = 'x' }".to_owned(), "env = { A = 'y' }".to_owned()),
        ("env = { A = 'x' }".to_owned(), secret("a", false)),
        (secret("a", false), secret("b", false)),
        (secret("a", false), secret("a", true)),
    ] {
        let message = grant(&first, &second).expect_err("they disagree");
        assert!(message.contains("`A`") && message.contains("`second`"), "{message}");
    }
}
