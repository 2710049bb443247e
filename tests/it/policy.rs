//! Policy with real tools: what is allowed, what needs a person, and what an approval is good for.

use std::path::Path;

use cofferdam::domain::{Access, Digest, Effect, Failure, Grant, Json, Kind, Limits};
use cofferdam::policy::{Approval, Call, Decision, Policy, RunGrant, authorize, effect};
use cofferdam::registry::VerifiedTool;
use serde_json::json;

use crate::guest::{step, tool, tool_of};

fn policy(rules: &str) -> Policy {
    Policy::parse(&format!("version = 0\n{rules}"), Path::new("/srv")).expect("the rules read")
}

/// A rule named `rule` with `body`, which is TOML.
fn rule(body: &str) -> String {
    format!("[[rule]]\nname = 'rule'\nwhy = 'A test.'\n{body}\n")
}

fn decided(rules: &str, tool: &VerifiedTool, args: &Json, approval: Option<&Approval>) -> Decision {
    authorize(&policy(rules), &RunGrant::default(), &step(tool, args), tool, approval)
}

#[track_caller]
fn allowed(decision: Decision) -> Call {
    match decision {
        Decision::Allow(call) => *call,
        Decision::Ask { rule, .. } => panic!("it asks: {rule}"),
        Decision::Deny(failure) => panic!("it denies: {failure}"),
    }
}

#[track_caller]
fn denied(decision: Decision) -> Failure {
    let Decision::Deny(failure) = decision else { panic!("it does not deny") };
    assert_eq!(failure.kind, Kind::PolicyDenied);
    failure
}

#[track_caller]
fn asked(decision: Decision) -> (Digest, String) {
    let Decision::Ask { binding, rule, .. } = decision else { panic!("it does not ask") };
    (binding, rule)
}

#[track_caller]
fn grant(rules: &str, name: &str) -> Grant {
    allowed(decided(rules, &tool(name), &json!({}), None)).grant().clone()
}

#[test]
fn nothing_is_allowed_until_a_rule_allows_it() {
    for rules in ["", &rule("allow = ['csv.*']")] {
        let failure = denied(decided(rules, &tool("text.stats"), &json!({}), None));
        assert!(failure.message.contains("rule `default`"), "{failure}");
        assert!(failure.hint.is_some_and(|hint| hint.contains("text.stats")));
    }
}

#[test]
fn a_rule_that_denies_wins_and_is_named() {
    let deny = "[[rule]]\nname = 'no-stats'\nwhy = 'Too slow.'\ndeny = ['text.stats']\n";
    for rules in [rule("allow = ['*']") + deny, deny.to_owned() + &rule("allow = ['*']")] {
        let failure = denied(decided(&rules, &tool("text.stats"), &json!({}), None));
        assert!(failure.message.contains("`no-stats`"), "{failure}");
        assert_eq!(failure.hint.as_deref(), Some("Too slow."));
        allowed(decided(&rules, &tool("text.keywords"), &json!({}), None));
    }
}

#[test]
fn a_grant_is_what_is_asked_and_given() {
    let rules = rule(
        "allow = ['*']\napproval = 'none'\nfiles = [{mount = '/data', path = 'data', access = 'read_write'}]\ncapabilities = ['log', 'clock']",
    );
    let reading = grant(&rules, "notes.read");
    assert_eq!((reading.mounts[0].access, &*reading.mounts[0].host), (Access::Read, Path::new("/srv/data")));
    assert!(!reading.log && !reading.clock, "it asks for neither");
    let appending = grant(&rules, "notes.append");
    assert_eq!((appending.mounts[0].access, appending.log, appending.clock), (Access::ReadWrite, true, false));
    assert!(grant(&rules, "text.stats").mounts.is_empty());
    assert_eq!(appending.rules, ["rule"]);
    let read_only = rules.replace("read_write", "read");
    assert_eq!(grant(&read_only, "notes.append").mounts[0].access, Access::Read);
    assert!(!grant(&rules.replace("'log', ", ""), "notes.append").log, "no rule gives it");
}

#[test]
fn one_mount_shows_one_directory() {
    let files = |path: &str| format!("allow = ['*']\nfiles = [{{mount = '/data', path = '{path}', access = 'read'}}]");
    let other = |path| format!("[[rule]]\nname = 'other'\nwhy = 'A test.'\n{}\n", files(path));
    assert_eq!(grant(&(rule(&files("a")) + &other("a")), "notes.read").mounts.len(), 1);
    let failure = denied(decided(&(rule(&files("a")) + &other("b")), &tool("notes.read"), &json!({}), None));
    assert!(failure.message.contains("`other`"), "{failure}");
}

#[test]
fn the_effect_is_computed_and_a_manifest_can_only_raise_it() {
    let effect_of = |rules: &str, name: &str| effect(&policy(rules), &tool(name)).expect("it is allowed");
    let bare = rule("allow = ['*']");
    assert_eq!(effect_of(&bare, "text.stats"), Effect::Pure);
    assert_eq!(effect_of(&bare, "csv.query"), Effect::Read, "its manifest says so, though nothing is granted");
    let files = rule("allow = ['*']\nfiles = [{mount = '/data', path = 'data', access = 'read_write'}]");
    assert_eq!(effect_of(&files, "csv.query"), Effect::Read, "it asks to read only");
    assert_eq!(effect_of(&files, "notes.write"), Effect::Once, "its manifest says idempotent: that cannot lower it");
    // Without a manifest it asks for all that it imports.
    let clock = tool_of(
        r#"(component
          (import "wasi:clocks/monotonic-clock@0.2.0" (instance (export "now" (func (result u64)))))
          (core module $m (func (export "run"))) (core instance $i (instantiate $m))
          (func (export "run") (canon lift (core func $i "run"))))"#,
        "run",
    );
    assert_eq!(effect(&policy(&bare), &clock), Ok(Effect::Pure), "the clock is not given: it stands");
    assert_eq!(effect(&policy(&rule("allow = ['*']\ncapabilities = ['clock']")), &clock), Ok(Effect::Read));
}

const FILES: &str = "allow = ['*']\nfiles = [{mount = '/data', path = 'data', access = 'read_write'}]";

#[test]
fn an_effect_that_stays_needs_a_person_unless_a_rule_says_otherwise() {
    let (write, args) = (tool("notes.write"), json!({"path": "/data/a", "text": "b"}));
    let (_, why) = asked(decided(&rule(FILES), &write, &args, None));
    assert!(why.starts_with("rule"), "{why}");
    allowed(decided(&rule(&format!("{FILES}\napproval = 'none'")), &write, &args, None));
    let (_, why) = asked(decided(&rule("allow = ['*']\napproval = 'ask'"), &tool("text.stats"), &json!({}), None));
    assert_eq!(why, "rule");
    // Of two rules the stricter one holds.
    let both = rule("allow = ['*']\napproval = 'none'")
        + "[[rule]]\nname = 'b'\nwhy = 'A test.'\nallow = ['*']\napproval = 'ask'\n";
    asked(decided(&both, &tool("text.stats"), &json!({}), None));
}

#[test]
fn a_plan_may_ask_for_a_person_where_policy_does_not() {
    let stats = tool("text.stats");
    let mut step = step(&stats, &json!({}));
    step.approval = true;
    for rules in [rule("allow = ['*']"), rule("allow = ['*']\napproval = 'none'")] {
        asked(authorize(&policy(&rules), &RunGrant::default(), &step, &stats, None));
    }
}

#[test]
fn an_approval_is_good_for_exactly_one_call() {
    let (write, args) = (tool("notes.write"), json!({"path": "/data/a", "text": "b"}));
    let rules = rule(FILES);
    let (binding, _) = asked(decided(&rules, &write, &args, None));
    assert_eq!(asked(decided(&rules, &write, &args, None)).0, binding, "the same call is the same");
    let approval = Approval { binding, by: "ann".into() };
    let call = allowed(decided(&rules, &write, &args, Some(&approval)));
    assert_eq!(call.input(), &args);

    let other_args = json!({"path": "/data/a", "text": "c"});
    let other_policy = rules.replace("'data'", "'other'");
    let other_run = RunGrant {
        principal: cofferdam::domain::Principal { user: "bob".into(), ..Default::default() },
        ..RunGrant::default()
    };
    asked(decided(&rules, &write, &other_args, Some(&approval)));
    asked(decided(&other_policy, &write, &args, Some(&approval)));
    asked(decided(&rules, &tool("notes.append"), &args, Some(&approval)));
    asked(authorize(&policy(&rules), &other_run, &step(&write, &args), &write, Some(&approval)));
    let forged = Approval { binding: Digest::of(b"trust me"), by: "ann".into() };
    asked(decided(&rules, &write, &args, Some(&forged)));
}

#[test]
fn an_approval_is_good_for_what_the_rules_come_to() {
    let (write, args) = (tool("notes.write"), json!({"path": "/data/a", "text": "b"}));
    let text = format!("version = 0\n{}", rule(FILES));
    let at = |base: &str| Policy::parse(&text, Path::new(base)).expect("the rules read");
    let run = |wall_ms_left| RunGrant { wall_ms_left, ..RunGrant::default() };
    let decide = |policy: &Policy, run: &RunGrant, approval: Option<&Approval>| {
        authorize(policy, run, &step(&write, &args), &write, approval)
    };
    let approved = |policy: &Policy, run: &RunGrant| {
        let (binding, _) = asked(decide(policy, run, None));
        Approval { binding, by: "ann".into() }
    };
    let here = approved(&at("/srv"), &run(None));
    allowed(decide(&at("/srv"), &run(None), Some(&here)));
    asked(decide(&at("/elsewhere"), &run(None), Some(&here)));

    // Code may change what was read: the text does not tell of it.
    let made = |limit| {
        let mut policy = at("/srv");
        policy.rules[0].limits.file_bytes_max = limit;
        policy
    };
    let small = approved(&made(Some(7)), &run(None));
    allowed(decide(&made(Some(7)), &run(None), Some(&small)));
    asked(decide(&made(Some(8)), &run(None), Some(&small)));
    asked(decide(&made(None), &run(None), Some(&small)));

    // Time passes while a person thinks.
    let early = approved(&at("/srv"), &run(Some(9_000)));
    let call = allowed(decide(&at("/srv"), &run(Some(5_000)), Some(&early)));
    assert_eq!(call.grant().limits.wall_ms_max, 5_000);
}

#[test]
fn rules_set_limits_and_runs_and_steps_only_shorten_them() {
    let stats = tool("text.stats");
    let rules = rule("allow = ['*']\n[rule.limits]\nfuel = 7\nwall_ms_max = 500")
        + "[[rule]]\nname = 'later'\nwhy = 'A test.'\nallow = ['text.*']\n[rule.limits]\nfuel = 9\n";
    let limits = |timeout_ms, wall_ms_left| {
        let run = RunGrant { wall_ms_left, ..RunGrant::default() };
        let mut step = step(&stats, &json!({}));
        step.timeout_ms = timeout_ms;
        allowed(authorize(&policy(&rules), &run, &step, &stats, None)).grant().limits.clone()
    };
    assert_eq!(limits(None, None), Limits { fuel: 9, wall_ms_max: 500, ..Limits::default() }, "the later rule wins");
    assert_eq!(limits(Some(100), Some(200)).wall_ms_max, 100);
    assert_eq!(limits(Some(300), Some(200)).wall_ms_max, 200);
    assert_eq!(limits(Some(60_000), None).wall_ms_max, 500, "a step cannot lengthen it");
}
