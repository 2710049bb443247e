//! Explanations of policy: they agree with what policy decides, and what they say to write changes it.

use std::path::Path;
use std::sync::Arc;

use cofferdam::policy::{Decision, Edit, Explanation, Policy, Request, RunGrant, Verdict, authorize, explain};
use cofferdam::registry::{Options, VerifiedComponent, VerifiedTool};
use serde_json::json;

use crate::cli::Shop;
use crate::contracts::Component;
use crate::guest::{self, step};

const TOOLS: [&str; 6] = ["web.run", "notes.read", "notes.append", "csv.query", "text.stats", "probe.link"];

/// Returns a tool of the examples, or `web.run`, which asks for requests, variables and secrets.
fn tool(name: &str) -> VerifiedTool {
    if name != "web.run" {
        return guest::tool(name);
    }
    let bytes =
        Component { name: "web", asks: json!(["http", "env", "secrets", "log"]), ..Component::default() }.bytes();
    let component = VerifiedComponent::new(bytes, None, &Options::default()).expect("the component loads");
    Arc::new(component).tools().next().expect("it has a function")
}

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
        let pattern = self.one(&["*", "notes.*", "notes.append", "csv.*", "text.stats", "probe.*", "web.*"]);
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
        let web = self.one(&[
            "",
            "http = [{ url = 'https://a.example/*' }]",
            "http = [{ url = 'https://a.example/x', methods = ['POST'] }]",
        ]);
        let env = self.one(&["", "env = { MODE = 'a' }", "env = { MODE = 'b' }"]);
        let secrets = self.one(&["", "secrets = [{ name = 'key', to = ['https://a.example/*'], header = 'x-key' }]"]);
        let capabilities = self.one(&["[]", "['log']", "['clock', 'progress']"]);
        let limits = self.one(&["", "[rule.limits]\nfuel = 7\n", "[rule.limits]\nwall_ms_max = 10000\n"]);
        format!(
            "{head}allow = ['{pattern}']\n{approval}\n{web}\n{env}\n{secrets}\nfiles = [{}]\ncapabilities = {capabilities}\n{limits}",
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
                    assert_eq!((&grant.http, grant.env.len()), (&call.grant().http, call.grant().env.len()), "{place}");
                    assert_eq!(grant.secrets.len(), call.grant().secrets.len(), "{place}");
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
fn a_request_over_the_network_is_answered_by_its_rule() {
    let rules = "version = 0
[[rule]]
name = 'any'
why = 'A test.'
allow = ['*']
[[rule]]
name = 'orders'
why = 'A test.'
allow = ['web.*']
http = [{ url = 'https://api.example.com/v1/*' }]
";
    let granted = |request: &str| asked(rules, "web.run", request).request.expect("it answers").is_granted;
    assert!(granted("GET https://api.example.com/v1/orders?max=3") && granted("GET https://API.example.com:443/v1/x"));
    assert!(!granted("GET http://api.example.com/v1/orders") && !granted("GET https://api.example.com/v2"));
    let post = asked(rules, "web.run", "POST https://api.example.com/v1/orders").request.expect("it answers");
    assert!(!post.is_granted && post.reason.contains("other methods"), "{post:?}");
    assert_eq!((post.change[0].rule.as_deref(), post.change[0].line), (Some("orders"), Some(6)));
    let elsewhere = asked(rules, "web.run", "GET https://b.example/x?y=z").request.expect("it answers");
    let add = elsewhere.change[0].add.as_deref();
    assert_eq!(add, Some("{ url = \"https://b.example/x\", methods = [\"GET\"] } in `http`"));
    // What a request names with a star is one path, not all below.
    let star = asked(rules, "web.run", "GET https://b.example/v1/*").request.expect("it answers");
    let add = star.change[0].add.as_deref();
    assert_eq!(add, Some("{ url = \"https://b.example/v1/%2A\", methods = [\"GET\"] } in `http`"));
    let never = asked(rules, "text.stats", "GET https://api.example.com/v1/orders").request.expect("it answers");
    assert!(!never.is_granted && never.change.is_empty() && never.reason.contains("`http`"), "{never:?}");
    // What a secret is goes nowhere, not even into its rule's own text.
    let rules = rules.to_owned()
        + "secrets = [{ name = 'key', to = ['https://api.example.com/*'], header = 'x-key', value = 'k {secret}' }]\n";
    let told = serde_json::to_string(&explain(&policy(&rules), &tool("web.run"), None)).expect("it is JSON");
    assert!(told.contains("\"name\":\"key\"") && !told.contains("{secret}"), "{told}");
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
        "and its calls\n  are taken back by  nothing that is known\n",
        "  wait for a person, where one is asked, for 86400000 ms\n",
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
