//! `policy explain`: which rule decides about a tool, what a call gets, and what to write so that it is another way.

use serde_json::json;

use crate::config::Settings;
use crate::domain::{Access, CallTemplate, Failure, StateQuota, excerpt};
use crate::host::{Edit, Explanation, Host, Terms, Verdict};

use super::Session;
use super::args::{ExplainArgs, ModelArgs, PolicyArgs, PolicyCommand};
use super::exit::Code;
use super::text;

/// Characters of one line of a rule's or a tool's own text.
const LINE_CHARS_MAX: usize = 400;

/// Asks the policy.
pub(super) fn command(session: &Session, args: &PolicyArgs) -> Result<Code, Failure> {
    match &args.command {
        PolicyCommand::Explain(args) => explain(session, args),
    }
}

fn explain(session: &Session, args: &ExplainArgs) -> Result<Code, Failure> {
    let request = (!args.request.is_empty()).then(|| args.request.join(" ").parse()).transpose()?;
    let settings = Settings { model: None, ..session.settings_with_components(ModelArgs::default())? };
    let policy = settings.policy.as_ref().map(|path| path.display().to_string());
    let host = Host::from_settings(settings)?;
    session.tell_withheld(&host);
    let explanation = host.explain(&args.tool, request.as_ref())?;
    if session.output.is_json {
        session.output.document(&json!({ "policy": policy, "explanation": explanation }))?;
    } else {
        session.output.result(&told(&explanation, policy.as_deref()))?;
    }
    Ok(Code::SUCCEEDED)
}

fn told(explanation: &Explanation, policy: Option<&str>) -> String {
    let verdict = match explanation.verdict {
        Verdict::Allow => "allowed",
        Verdict::Ask => "allowed when a person approves",
        Verdict::Deny => "denied",
    };
    let mut words = format!("{}  {verdict}\n", explanation.tool);
    words.push_str(&format!("policy     {}\n", policy.unwrap_or("none: nothing is allowed")));
    words.push_str(&format!("decided by rule `{}`: {}\n", line(&explanation.rule), line(&explanation.reason)));
    if let Some(effect) = explanation.effect {
        let person = match (&explanation.person, &explanation.person_if_tainted) {
            (Some(why), _) => format!("a person is asked, by rule {}", line(why)),
            (None, Some(_)) => "nobody is asked, unless its planner had read what tools brought".into(),
            (None, None) => "nobody is asked".into(),
        };
        words.push_str(&format!("effect     {effect}; {person}\n"));
    }
    words.push_str(&rules(explanation));
    words.push_str(&grant(explanation));
    words.push_str(&explanation.terms.as_ref().map(terms).unwrap_or_default());
    for word in &explanation.not_lowered {
        words.push_str(&format!(
            "  are not lowered to {}: that is said of component {}, and this is another\n",
            word.effect,
            word.digest.short()
        ));
    }
    if let Some(answer) = &explanation.request {
        let granted = if answer.is_granted { "granted" } else { "not granted" };
        words.push_str(&format!("\n{}  {granted}: {}\n", line(&answer.request), line(&answer.reason)));
        words.push_str(&edits("to grant it", &answer.change, policy));
    }
    let other = match explanation.verdict {
        Verdict::Allow => "to have a person asked",
        Verdict::Ask => "to have nobody asked",
        Verdict::Deny => "to allow it",
    };
    words.push_str(&edits(other, &explanation.change, policy));
    words
}

fn rules(explanation: &Explanation) -> String {
    let mut words = String::from("\nrules that match\n");
    if explanation.matching.is_empty() {
        words.push_str("  none\n");
    }
    for rule in &explanation.matching {
        let says = if rule.is_denying { "denies" } else { "allows" };
        let at = rule.line.map_or(String::new(), |line| format!(" (line {line})"));
        words.push_str(&format!("  {says}  {}{at}: {}\n", line(&rule.rule), line(&rule.why)));
    }
    words
}

fn grant(explanation: &Explanation) -> String {
    let Some(grant) = &explanation.grant else { return String::new() };
    let mut words = String::from("\na call gets\n");
    for mount in &grant.mounts {
        let may = if mount.access == Access::Read { "read " } else { "write" };
        words.push_str(&format!(
            "  {may}  {}, which is {}\n",
            line(&mount.guest),
            line(&mount.host.display().to_string())
        ));
    }
    for http in &grant.http {
        let methods: Vec<_> = http.methods.iter().map(ToString::to_string).collect();
        let keyed = if http.is_keyed { ", which takes no key twice" } else { "" };
        words.push_str(&format!(
            "  {} {}{keyed}, by rule `{}`\n",
            methods.join("|"),
            line(&String::from(http.to.clone())),
            line(&http.rule)
        ));
    }
    for secret in &grant.secrets {
        let way = if secret.is_revealed { "the value of secret" } else { "in its requests, secret" };
        words.push_str(&format!("  {way} `{}`, by rule `{}`\n", line(&secret.name), line(&secret.rule)));
    }
    for variable in &grant.env {
        words.push_str(&format!("  variable {}\n", line(variable)));
    }
    for capability in &grant.capabilities {
        words.push_str(&format!("  {capability}\n"));
    }
    for (scope, quota) in &grant.state {
        let StateQuota { keys_max, bytes_max, value_bytes_max } = quota;
        words.push_str(&format!("  state {scope}: {keys_max} keys and {bytes_max} bytes, {value_bytes_max} a value\n"));
    }
    for limit in &grant.limits {
        let (name, rule) = (&limit.name, line(&limit.rule));
        words.push_str(&format!("  {name} = {}, by rule `{rule}`; by default {}\n", limit.value, limit.default));
    }
    if words.lines().count() == 2 {
        words.push_str("  its arguments, and the default limits\n");
    }
    for ask in &explanation.not_given {
        words.push_str(&format!("  not {ask}: it asks, and no rule gives it\n"));
    }
    words
}

/// What else the rules and the tool say of its calls.
fn terms(terms: &Terms) -> String {
    let mut words = String::from("\nand its calls\n");
    let call = |template: &CallTemplate| {
        format!("{} {}", line(&template.tool), line(&excerpt(&template.args, LINE_CHARS_MAX)))
    };
    let undo = terms.undo.as_ref().map_or_else(|| "nothing that is known".to_owned(), call);
    words.push_str(&format!("  are taken back by  {undo}\n"));
    if let Some(reconcile) = &terms.reconcile {
        words.push_str(&format!("  are looked up by   {}\n", call(reconcile)));
    }
    if let Some(word) = &terms.lowered {
        words.push_str(&format!("  reach no further than {}: {}\n", word.effect, line(&word.why)));
    }
    if let Some(price) = terms.price_usd_micros {
        words.push_str(&format!("  cost {price} millionths of a US dollar each\n"));
    }
    if let Some(calls) = terms.calls_parallel_max {
        words.push_str(&format!("  are at most {calls} at one time in a run\n"));
    }
    words.push_str(&format!("  wait for a person, where one is asked, for {} ms\n", terms.approval_expires_ms));
    words
}

fn edits(purpose: &str, edits: &[Edit], policy: Option<&str>) -> String {
    let file = policy.unwrap_or("policy.toml");
    let mut words = String::new();
    for edit in edits {
        let place = match (&edit.rule, edit.line) {
            (Some(rule), Some(at)) => format!("{file}:{at}, rule `{}`", line(rule)),
            (Some(rule), None) => format!("rule `{}`", line(rule)),
            (None, _) => file.to_owned(),
        };
        words.push_str(&format!("\n{purpose}, in {place}\n"));
        if let Some(remove) = &edit.remove {
            words.push_str(&format!("  take out  {}\n", line(remove)));
        }
        for (n, added) in edit.add.iter().flat_map(|add| add.lines()).enumerate() {
            words.push_str(&format!("  {}  {}\n", if n == 0 { "write   " } else { "        " }, line(added)));
        }
    }
    words
}

fn line(words: &str) -> String {
    text::line(words, LINE_CHARS_MAX)
}
