//! Explanations of policy: they agree with what policy decides, and what they say to write changes it.

use std::path::Path;

use cofferdam::policy::{Decision, Edit, Explanation, Policy, Request, RunGrant, Verdict, authorize, explain};
use cofferdam::registry::VerifiedTool;
use serde_json::json;

use crate::cli::Shop;
use crate::guest::{step, tool};

const TOOLS: [&str; 5] = ["notes.read", "notes.append", "csv.query", "text.stats", "probe.link"];

fn policy(text: &str) -> Policy {
    Policy::parse(text, Path::new("/srv")).unwrap_or_else(|failure| panic!("{failure}: {text}"))
}

fn decided(policy: &Policy, tool: &VerifiedTool) -> Decision {
    authorize(policy, &RunGrant::default(), &step(tool, &json!({})), tool, None)
}

fn asked(text: &str, name: &str, request: &str) -> Explanation {
    let request: Request = request.parse().expect("the request reads");
    explain(&policy(text), &tool(name), Some(&request))
}

/// A small generator of numbers that are the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % bound).expect("it is small")
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len() as u64)]
    }

    fn rule(&mut self, n: usize) -> String {
        let pattern = self.one(&["*", "notes.*", "notes.append", "csv.*", "text.stats", "probe.*"]);
        let head = format!("[[rule]]\nname = 'r{n}'\nwhy = 'A test.'\n");
        if self.below(5) == 0 {
            return format!("{head}deny = ['{pattern}']\n");
        }
        let approval = self.one(&["", "", "approval = 'ask'", "approval = 'none'"]);
        let mount =
            |at: &str, path: &str, access: &str| format!("{{ mount = '{at}', path = '{path}', access = '{access}' }}");
        let files: Vec<_> = (0..self.below(3))
            .map(|_| {
                mount(
                    self.one(&["/data", "/data/in"]),
                    self.one(&["a", "a", "a", "b"]),
                    self.one(&["read", "read_write"]),
                )
            })
            .collect();
        let capabilities = self.one(&["[]", "['log']", "['clock', 'progress']"]);
        let limits = self.one(&["", "[rule.limits]\nfuel = 7\n", "[rule.limits]\nwall_ms_max = 10000\n"]);
        format!(
            "{head}allow = ['{pattern}']\n{approval}\nfiles = [{}]\ncapabilities = {capabilities}\n{limits}",
            files.join(", ")
        )
    }
}

/// Does to the text of a policy what an edit says, as far as it is about approval or a new rule.
fn edited(text: &str, edit: &Edit) -> String {
    let add = edit.add.as_deref().expect("something is written");
    let Some(rule) = &edit.rule else { return format!("{text}\n{add}") };
    let name = format!("name = '{rule}'\n");
    let (before, after) = text.split_once(&name).expect("the rule is there");
    let (own, others) = after.find("[[rule]]").map_or((after, ""), |end| after.split_at(end));
    let kept: String =
        own.lines().filter(|line| !line.starts_with("approval")).map(|line| format!("{line}\n")).collect();
    format!("{before}{name}{add}\n{kept}{others}")
}

#[test]
fn an_explanation_never_disagrees_with_the_decision() {
    let tools = TOOLS.map(tool);
    let mut seen = [0_u32; 3];
    for seed in 0..400 {
        let mut random = Random(seed);
        let rules: String = (0..random.below(4)).map(|n| random.rule(n)).collect();
        let text = format!("version = 0\n{rules}");
        for tool in &tools {
            let policy = policy(&text);
            let told = explain(&policy, tool, None);
            let place = format!("seed {seed}, {}:\n{text}\n{told:#?}", tool.name());
            let verdict = match decided(&policy, tool) {
                Decision::Allow(call) => {
                    let grant = told.grant.as_ref().expect("it tells the grant");
                    assert_eq!((&grant.mounts, told.effect), (&call.grant().mounts, Some(call.effect())), "{place}");
                    assert_eq!(grant.capabilities.contains(&"clock"), call.grant().clock, "{place}");
                    let fuel = grant.limits.iter().find(|limit| limit.name == "fuel").map(|limit| limit.value.clone());
                    assert_eq!(fuel.unwrap_or(json!(20_000_000_000_u64)), json!(call.grant().limits.fuel), "{place}");
                    assert!(grant.limits.iter().all(|limit| limit.name != "wall_ms_max"), "it is the default: {place}");
                    Verdict::Allow
                }
                Decision::Ask { effect, rule, .. } => {
                    assert_eq!((told.effect, &told.person), (Some(effect), &Some(rule)), "{place}");
                    Verdict::Ask
                }
                Decision::Deny(failure) => {
                    assert_eq!(told.reason, failure.message, "{place}");
                    Verdict::Deny
                }
            };
            assert_eq!(told.verdict, verdict, "{place}");
            seen[told.verdict as usize] += 1;
            check_edits(&text, tool, &told, &place);
        }
    }
    assert!(seen.iter().all(|times| *times > 50), "each verdict was met: {seen:?}");
}

/// What the explanation says to write brings another verdict.
fn check_edits(text: &str, tool: &VerifiedTool, told: &Explanation, place: &str) {
    assert!(!told.change.is_empty(), "{place}");
    if told.change.iter().any(|edit| edit.add.is_none()) {
        return;
    }
    let text = told.change.iter().fold(text.to_owned(), |text, edit| edited(&text, edit));
    let after = explain(&policy(&text), tool, None).verdict;
    let expected = match told.verdict {
        Verdict::Deny => after != Verdict::Deny,
        Verdict::Ask => after == Verdict::Allow,
        Verdict::Allow => after == Verdict::Ask,
    };
    assert!(expected, "{after:?} after {text}\n{place}");
}

const RULES: &str = "version = 0

[[rule]]
name = 'data'
why = 'Figures.'
allow = ['notes.*']
files = [{ mount = '/data', path = 'data', access = 'read' }, { mount = '/data/out', path = 'out', access = 'read_write' }]

[[rule]]
name = 'no-link'
why = 'Too sharp.'
deny = ['probe.*', 'notes.list']
";

#[test]
fn a_request_for_a_file_is_answered_by_its_mount() {
    let granted = |name: &str, request: &str| asked(RULES, name, request).request.expect("it answers").is_granted;
    assert!(granted("notes.append", "read /data/x") && granted("notes.append", "write /data/out/x"));
    assert!(!granted("notes.append", "write /data/x") && !granted("notes.append", "read /database"));
    // The tool asks for reading only, and a rule that gives more gives it no more.
    assert!(granted("notes.read", "read /data/out/x") && !granted("notes.read", "write /data/out/x"));

    let narrow = asked(RULES, "notes.append", "write /data/x").request.expect("it answers");
    assert!(narrow.change[0].add.as_ref().is_some_and(|add| add.contains("read_write")), "{narrow:?}");
    assert_eq!((narrow.change[0].rule.as_deref(), narrow.change[0].line), (Some("data"), Some(3)));
    let elsewhere = asked(RULES, "notes.append", "write /logs/x").request.expect("it answers");
    assert!(elsewhere.change[0].add.as_ref().is_some_and(|add| add.contains("mount = \"/logs\"")), "{elsewhere:?}");
    let own = asked(RULES, "notes.read", "write /data/x").request.expect("it answers");
    assert!(
        own.change.is_empty() && own.reason.contains("files.write"),
        "no rule gives what is not asked for: {own:?}"
    );
    assert!(!asked(RULES, "probe.link", "read /data/x").request.expect("it answers").is_granted);
}

#[test]
fn a_denial_names_the_pattern_to_take_out() {
    let told = explain(&policy(RULES), &tool("probe.link"), None);
    assert_eq!((told.verdict, told.rule.as_str()), (Verdict::Deny, "no-link"));
    assert_eq!(told.change[0].remove.as_deref(), Some("\"probe.*\" from `deny`"));
    assert_eq!(told.change[0].line, Some(9));
    // Two rules that disagree about a directory.
    let both = format!(
        "{RULES}[[rule]]\nname = 'other'\nwhy = 'A test.'\nallow = ['notes.read']\nfiles = [{{ mount = '/data', path = 'b', access = 'read' }}]\n"
    );
    let told = explain(&policy(&both), &tool("notes.read"), None);
    assert_eq!((told.verdict, told.rule.as_str()), (Verdict::Deny, "other"));
    assert!(told.change[0].remove.as_ref().is_some_and(|remove| remove.contains("/data")), "{told:?}");
}

#[test]
fn the_program_tells_the_rule_the_grant_and_the_line() {
    let shop = Shop::new();
    let told = shop.run(&["policy", "explain", "notes.append", "write", "/notes/sums.md"]).ends(0).out;
    for words in [
        "notes.append  allowed when a person approves\n",
        "decided by rule `write-notes`: its effect is `once`",
        "  allows  write-notes (line 9): Notes are what the shop keeps.\n",
        "  write  /notes, which is ",
        "write /notes/sums.md  granted: ",
        "policy.toml:9, rule `write-notes`\n  write     approval = \"none\"\n",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    let denied = shop.run(&["policy", "explain", "notes.list"]).ends(0).out;
    assert!(denied.contains("notes.list  denied") && denied.contains("allow = [\"notes.list\"]"), "{denied}");
    let document = shop.run(&["policy", "explain", "math.eval", "--json"]).ends(0).json();
    let told = &document["explanation"];
    assert_eq!((&told["verdict"], &told["effect"], &told["person"]), (&json!("allow"), &json!("pure"), &json!(null)));
    shop.run(&["policy", "explain", "math.evil"]).ends(2);
    shop.run(&["policy", "explain", "math.eval", "delete", "/x"]).ends(2);
}
