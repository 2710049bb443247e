//! Policy with real tools: what is allowed, what needs a person, and what an approval is good for.

use std::path::Path;

use cofferdam::domain::{Access, Digest, Effect, Failure, Grant, Json, Kind, Limits, StateQuota, StateScope};
use cofferdam::policy::{
    APPROVAL_EXPIRES_MS_DEFAULT, Approval, Call, Decision, Policy, RunGrant, STATE_QUOTA_DEFAULT, authorize, effect,
    explain, terms,
};
use cofferdam::registry::VerifiedTool;
use serde_json::json;

use crate::contracts::Component;
use crate::guest::{step, tool, tool_in, tool_of};

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

#[test]
fn a_write_that_may_be_repeated_needs_no_person() {
    let send = tool("fetch.send");
    let http = |keyed: &str| format!("{{ url = 'https://pay.example/*', methods = ['POST'], keyed = {keyed} }}");
    let rules = |http: &str| rule(&format!("allow = ['*']\nhttp = [{http}]"));
    let declared = effect(&policy(&rules(&http("true"))), &send);
    assert_eq!(declared, Ok(Effect::Once), "its manifest says `once`, which a key alone does not lower");
    let plain = tool_in(Component { name: "pay", asks: json!(["http"]), ..Component::default() }.bytes(), "run");
    let of_plain = |http: &str| effect(&policy(&rules(http)), &plain);
    assert_eq!(of_plain(&http("true")), Ok(Effect::Idempotent));
    assert_eq!(of_plain(&http("false")), Ok(Effect::Once));
    let both = [http("true"), http("false").replace("pay", "mail")].join(", ");
    assert_eq!(of_plain(&both), Ok(Effect::Once), "the worst of all places counts");
    allowed(decided(&rules(&http("true")), &plain, &json!({"limit": 1}), None));
}

#[test]
fn an_operator_lowers_an_effect_for_one_component_alone() {
    let send = tool("fetch.send");
    let rules = |digest: &Digest, effect: &str| {
        rule(&format!(
            "allow = ['fetch.*']\nhttp = [{{ url = 'https://a.example/*', methods = ['POST'] }}]\nlower = [{{ tool = 'fetch.send', digest = '{digest}', effect = '{effect}', why = 'It searches.' }}]"
        ))
    };
    let lowered = rules(send.digest(), "read");
    assert_eq!(effect(&policy(&lowered), &send), Ok(Effect::Read));
    let args = json!({"method": "POST", "url": "https://a.example/search"});
    let call = allowed(decided(&lowered, &send, &args, None));
    assert_eq!((call.effect(), call.grant().effect()), (Effect::Read, Effect::Once));
    assert_eq!(effect(&policy(&lowered), &tool("fetch.get")), Ok(Effect::Once), "it speaks of one function");
    // Of another component it does not speak, and that is told.
    let other = policy(&rules(&Digest::of(b"another"), "read"));
    assert_eq!(effect(&other, &send), Ok(Effect::Once));
    let told = explain(&other, &send, None);
    assert_eq!((told.effect, told.not_lowered.len()), (Some(Effect::Once), 1));
    // A word never raises, and of two the careful one holds.
    let stats = tool("text.stats");
    let words = |effect: &str| {
        format!("{{ tool = 'text.stats', digest = '{}', effect = '{effect}', why = 'x' }}", stats.digest())
    };
    let rules = rule(&format!("allow = ['*']\nlower = [{}]", words("once")));
    assert_eq!(effect(&policy(&rules), &stats), Ok(Effect::Pure));
    let rules =
        rule(&format!("allow = ['*']\ncapabilities = ['clock']\nlower = [{}, {}]", words("pure"), words("idempotent")));
    assert_eq!(terms(&policy(&rules), &stats).unwrap().lowered.map(|word| word.effect), Some(Effect::Idempotent));
}

#[test]
fn rules_tell_how_a_tool_is_taken_back_and_what_it_costs() {
    let write = tool("notes.write");
    let undo = |args: &str| {
        format!(
            "allow = ['notes.*']\nprice_usd_micros = 50\n[rule.undo.'notes.write']\ntool = 'delete'\nargs = {{ path = {args} }}"
        )
    };
    let by_path = rule(&undo("{ '$in' = '/path' }"));
    let told = terms(&policy(&by_path), &write).expect("it is allowed");
    let undoes = told.undo.expect("a rule gives it");
    assert_eq!((undoes.tool.as_str(), undoes.args), ("notes.delete", json!({"path": {"$in": "/path"}})));
    assert_eq!(told.price_usd_micros, Some(50));
    assert_eq!(terms(&policy(&by_path), &tool("notes.read")).unwrap().undo, None);
    let more = |body: &str| format!("{by_path}[[rule]]\nname = 'b'\nwhy = 'A test.'\n{body}\n");
    let dearer = more("allow = ['*']\nprice_usd_micros = 70\ncalls_parallel_max = 2");
    let told = terms(&policy(&dearer), &write).unwrap();
    assert_eq!((told.price_usd_micros, told.calls_parallel_max), (Some(70), Some(2)));
    terms(&policy(&more(&undo("{ '$in' = '/path' }"))), &write).expect("they say the same");
    let other = more(&undo("{ '$in' = '/text' }"));
    let failure = denied(decided(&other, &write, &json!({"path": "/a", "text": ""}), None));
    assert!(failure.message.contains("rule `b` gives it another `undo`"), "{failure}");
    assert_eq!(terms(&policy(&other), &write).map(|_| ()), Err(failure));
}

#[test]
fn a_person_has_a_day_to_answer_or_what_the_strictest_rule_says() {
    let expires = |body: &str| {
        let rules = rule("allow = ['*']\napproval = 'ask'")
            + &format!("[[rule]]\nname = 'b'\nwhy = 'A test.'\nallow = ['*']\n{body}\n");
        match decided(&rules, &tool("text.stats"), &json!({}), None) {
            Decision::Ask { expires_ms, .. } => expires_ms,
            Decision::Allow(_) | Decision::Deny(_) => panic!("it does not ask"),
        }
    };
    assert_eq!(expires(""), APPROVAL_EXPIRES_MS_DEFAULT);
    assert_eq!(expires("approval_expires_ms = 1000"), 1_000);
    let both =
        "approval_expires_ms = 1000\n[[rule]]\nname = 'c'\nwhy = 'A test.'\nallow = ['*']\napproval_expires_ms = 900";
    assert_eq!(expires(both), 900);
}

#[test]
fn state_is_what_is_asked_and_given() {
    let keeper = |asks: Json| tool_in(Component { name: "keeper", asks, ..Component::default() }.bytes(), "run");
    let both = keeper(json!(["state.user", "state.session"]));
    let rules = rule("allow = ['*']\nstate = { user = { bytes_max = 500 }, workflow = {} }")
        + "[[rule]]\nname = 'b'\nwhy = 'A test.'\nallow = ['*']\nstate = { user = { keys_max = 3 } }\n";
    let granted = |tool: &VerifiedTool| allowed(decided(&rules, tool, &json!({"limit": 1}), None)).grant().clone();
    let quota = StateQuota { keys_max: 3, bytes_max: 500, ..STATE_QUOTA_DEFAULT };
    assert_eq!(granted(&both).state, [(StateScope::User, quota)].into());
    assert_eq!(granted(&both).effect(), Effect::Idempotent);
    assert_eq!(granted(&keeper(json!([]))).state, [].into(), "it asks for none");
    let told = explain(&policy(&rules), &both, None);
    assert_eq!((told.effect, told.not_given.len()), (Some(Effect::Idempotent), 1));
    assert_eq!(told.grant.expect("it is allowed").state, [(StateScope::User, quota)].into());
    let bare = explain(&policy(""), &both, None);
    let add = bare.change[0].add.as_deref().expect("it says what to write");
    assert!(add.contains("state = { session = {}, user = {} }"), "{add}");
}

#[test]
fn what_a_rule_says_of_its_tools_is_checked_with_its_line() {
    let digest = Digest::of(b"x");
    for (body, expected) in [
        ("state = { global = {} }", "global"),
        ("state = { user = { bytes_max = 0 } }", "`bytes_max` is from 1 to 67108864"),
        ("state = { user = { value_bytes_max = 9999999999 } }", "`value_bytes_max`"),
        ("approval_expires_ms = 0", "`approval_expires_ms`"),
        ("approval_expires_ms = 9999999999999", "`approval_expires_ms`"),
        ("price_usd_micros = -1", "price_usd_micros"),
        ("calls_parallel_max = 0", "`calls_parallel_max`"),
        ("undo = { 'mail.send' = { tool = 'unsend' } }", "`undo` of `mail.send`: the rule allows no such tool"),
        ("undo = { 'notes.write' = { tool = 'a.b.c' } }", "`undo` of `notes.write`"),
        ("undo = { 'notes.write' = { tool = 'x', args = { a = { '$from' = 's' } } } }", "`$from` is none of"),
        ("reconcile = { 'notes.write' = { tool = 'x', args = { a = { '$out' = '' } } } }", "`$out`"),
        ("undo = { 'notes.write' = { tool = 'x', arg = {} } }", "arg"),
        (&format!("lower = [{{ tool = 'notes.write', digest = '{digest}', effect = 'pure', why = ' ' }}]"), "no `why`"),
        (&format!("lower = [{{ tool = 'a.b', digest = '{digest}', effect = 'pure', why = 'x' }}]"), "no such tool"),
        ("lower = [{ tool = 'notes.write', effect = 'pure', why = 'x' }]", "digest"),
    ] {
        let text = format!("version = 0\n{}", rule(&format!("allow = ['notes.*']\n{body}")));
        let failure = Policy::parse(&text, Path::new("/")).expect_err(body);
        assert!(failure.message.contains(expected), "{body}: {failure}");
        assert!(failure.message.contains("line "), "{failure}");
    }
    let denying = "version = 0\n[[rule]]\nname = 'a'\nwhy = 'b'\ndeny = ['*']\nprice_usd_micros = 1";
    assert!(Policy::parse(denying, Path::new("/")).is_err_and(|failure| failure.message.contains("gives nothing")));
}
