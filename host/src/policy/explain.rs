//! Why policy says what it says of a tool, and what to write so that it says something else.
//!
//! Promises: the verdict is that of `authorize`, for it is made of the same decision; each rule that matters is named with
//! its line; pure. An explanation speaks of a lone call: a plan may ask for a person too, and a run has less time.

use std::collections::BTreeMap;

use crate::domain::{Access, Ask, Effect, Failure, Grant, Limits, Method, SecretGrant, StateScope, WebUrl};
use crate::policy::authorize::{Granted, StepAsks, asks, granted, reach};
use crate::policy::{
    Answer, ApprovalRule, ChangedLimit, Edit, Explanation, LowerRule, Matching, Opened, OpenedSecret, Policy, Request,
    Rule, RunGrant, Verdict,
};
use crate::registry::VerifiedTool;

/// The word that stands for the rule of no rule.
const DEFAULT_RULE: &str = "default";

/// Explains what `policy` says of a lone call of `tool`, and of `request` within it.
pub fn explain(policy: &Policy, tool: &VerifiedTool, request: Option<&Request>) -> Explanation {
    let view = View { policy, tool };
    let request = |grant: Option<&Grant>| request.map(|request| view.answer(request, grant));
    match granted(policy, &RunGrant::default(), tool, None) {
        Err(failure) => Explanation { request: request(None), ..view.denied(&failure) },
        Ok(granted) => Explanation { request: request(Some(&granted.grant)), ..view.granted(granted) },
    }
}

/// A policy and a tool of which it speaks.
struct View<'a> {
    policy: &'a Policy,
    tool: &'a VerifiedTool,
}

impl View<'_> {
    fn denied(&self, failure: &Failure) -> Explanation {
        let denying = self.policy.rules.iter().find(|rule| self.is_denying(rule));
        let change = match denying {
            Some(rule) => vec![self.without_denial(rule)],
            None if self.allowing().next().is_none() => vec![self.new_rule()],
            None => self.disagreements(),
        };
        let decides = denying.or_else(|| self.allowing().last()).map_or(DEFAULT_RULE, |rule| rule.name.as_str());
        Explanation {
            tool: self.tool.name().clone(),
            verdict: Verdict::Deny,
            rule: decides.to_owned(),
            reason: failure.message.clone(),
            matching: self.matching(),
            effect: None,
            person: None,
            person_if_tainted: None,
            grant: None,
            terms: None,
            not_lowered: Vec::new(),
            not_given: Vec::new(),
            change,
            request: None,
        }
    }

    fn granted(&self, granted: Granted) -> Explanation {
        let Granted { grant, asking, terms } = granted;
        let effect = reach(&grant, self.tool, &terms);
        let person = asks(effect, asking, StepAsks::default(), &grant);
        let verdict = if person.is_some() { Verdict::Ask } else { Verdict::Allow };
        Explanation {
            tool: self.tool.name().clone(),
            verdict,
            rule: self.deciding(verdict, asking.approval),
            reason: reason(verdict, effect, asking.approval),
            matching: self.matching(),
            effect: Some(effect),
            person,
            person_if_tainted: asks(effect, asking, StepAsks { is_tainted: true, ..StepAsks::default() }, &grant),
            grant: Some(self.opened(&grant)),
            terms: Some(terms),
            not_lowered: self.not_lowered(),
            not_given: self.tool.tool().asks.iter().copied().filter(|ask| !is_given(*ask, &grant)).collect(),
            change: self.other_approval(verdict, asking.approval),
            request: None,
        }
    }

    fn not_lowered(&self) -> Vec<LowerRule> {
        let words = self.allowing().flat_map(|rule| &rule.lower);
        words.filter(|word| word.tool == *self.tool.name() && word.digest != *self.tool.digest()).cloned().collect()
    }

    fn is_denying(&self, rule: &Rule) -> bool {
        rule.deny.iter().any(|pattern| pattern.matches(self.tool.name()))
    }

    /// The rules that allow the tool, in the order of the file.
    fn allowing(&self) -> impl Iterator<Item = &Rule> {
        self.policy.rules.iter().filter(|rule| rule.allow.iter().any(|pattern| pattern.matches(self.tool.name())))
    }

    fn matching(&self) -> Vec<Matching> {
        let is_allowing = |rule: &Rule| rule.allow.iter().any(|pattern| pattern.matches(self.tool.name()));
        let rules = self.policy.rules.iter().filter(|rule| self.is_denying(rule) || is_allowing(rule));
        let matching = |rule: &Rule| Matching {
            rule: rule.name.clone(),
            line: self.policy.line(&rule.name),
            is_denying: self.is_denying(rule),
            why: rule.why.clone(),
        };
        rules.map(matching).collect()
    }

    /// Where a rule asks, it is that one; else the first that allows.
    fn deciding(&self, verdict: Verdict, asking: Option<ApprovalRule>) -> String {
        let is_asking = |rule: &&Rule| rule.approval == Some(ApprovalRule::Ask);
        let asks = verdict == Verdict::Ask && asking == Some(ApprovalRule::Ask);
        let decides = self.allowing().find(is_asking).filter(|_| asks).or_else(|| self.allowing().next());
        decides.map_or(DEFAULT_RULE, |rule| rule.name.as_str()).to_owned()
    }

    fn opened(&self, grant: &Grant) -> Opened {
        let given =
            [("log", grant.log), ("progress", grant.progress), ("clock", grant.clock), ("random", grant.random)];
        let capabilities = given.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| name).collect();
        let secret = |secret: &SecretGrant| OpenedSecret {
            name: secret.name.clone(),
            is_revealed: secret.reveal,
            rule: secret.rule.clone(),
        };
        Opened {
            mounts: grant.mounts.clone(),
            http: grant.http.clone(),
            secrets: grant.secrets.iter().map(secret).collect(),
            env: grant.env.keys().cloned().collect(),
            capabilities,
            state: grant.state.clone(),
            limits: self.limits(),
        }
    }

    /// The limits that rules set to something else than the default; a later rule goes before an earlier one.
    fn limits(&self) -> Vec<ChangedLimit> {
        let defaults = serde_json::to_value(Limits::default()).unwrap_or_default();
        let mut set: BTreeMap<String, ChangedLimit> = BTreeMap::new();
        for rule in self.allowing() {
            let patch = serde_json::to_value(&rule.limits).unwrap_or_default();
            for (name, value) in patch.as_object().into_iter().flatten() {
                let default = defaults.get(name).cloned().unwrap_or_default();
                let changed =
                    ChangedLimit { name: name.clone(), value: value.clone(), default, rule: rule.name.clone() };
                set.insert(name.clone(), changed);
            }
        }
        set.into_values().filter(|limit| limit.value != limit.default).collect()
    }

    fn edit(&self, rule: &Rule) -> Edit {
        Edit { rule: Some(rule.name.clone()), line: self.policy.line(&rule.name), add: None, remove: None }
    }

    fn without_denial(&self, rule: &Rule) -> Edit {
        let patterns = rule.deny.iter().filter(|pattern| pattern.matches(self.tool.name()));
        let patterns: Vec<_> = patterns.map(|pattern| format!("\"{pattern}\"")).collect();
        Edit { remove: Some(format!("{} from `deny`", patterns.join(", "))), ..self.edit(rule) }
    }

    /// The rule that would allow the tool all that it asks for; it names no directory, for that is the operator's choice.
    fn new_rule(&self) -> Edit {
        let name = self.tool.name();
        let mut rule = format!("[[rule]]\nname = \"{name}\"\nwhy = \"TELL WHY\"\nallow = [\"{name}\"]\n");
        if let Some(access) = asked_access(self.tool) {
            let mount = format!("{{ mount = \"/data\", path = \"DIRECTORY\", access = \"{}\" }}", word(access));
            rule.push_str(&format!("# files = [{mount}]\n"));
        }
        if self.tool.tool().asks.contains(&Ask::Http) {
            rule.push_str("# http = [{ url = \"https://HOST/*\" }]\n");
        }
        let capabilities = self.tool.tool().asks.iter().filter_map(|ask| ask.capability());
        let capabilities: Vec<_> = capabilities.map(|name| format!("\"{name}\"")).collect();
        if !capabilities.is_empty() {
            rule.push_str(&format!("capabilities = [{}]\n", capabilities.join(", ")));
        }
        let scopes = self.tool.tool().asks.iter().filter_map(|ask| ask.scope());
        let scopes: Vec<_> = scopes.map(|scope| format!("{scope} = {{}}")).collect();
        if !scopes.is_empty() {
            rule.push_str(&format!("state = {{ {} }}\n", scopes.join(", ")));
        }
        Edit { rule: None, line: None, add: Some(rule), remove: None }
    }

    /// Each later entry that shows another directory under a mount than the first one, or gives a variable another value.
    fn disagreements(&self) -> Vec<Edit> {
        let mut first: BTreeMap<(&str, &str), String> = BTreeMap::new();
        let mut edits = Vec::new();
        for rule in self.allowing() {
            let files = rule.files.iter().map(|file| (("files", file.mount.as_str()), file.path.display().to_string()));
            let variables = rule.env.iter().map(|(name, value)| (("env", name.as_str()), value.clone()));
            for ((table, name), given) in files.chain(variables) {
                if *first.entry((table, name)).or_insert_with(|| given.clone()) != given {
                    let remove = Some(format!("\"{name}\" from `{table}`, or let the rules agree about it"));
                    edits.push(Edit { remove, ..self.edit(rule) });
                }
            }
        }
        edits
    }

    /// Whoever wants no person asked says so in every rule; one rule is enough to have one asked.
    fn other_approval(&self, verdict: Verdict, asking: Option<ApprovalRule>) -> Vec<Edit> {
        let with = |rule: &Rule, add: &str| Edit { add: Some(add.to_owned()), ..self.edit(rule) };
        if verdict == Verdict::Ask {
            let is_open = |rule: &&Rule| rule.approval != Some(ApprovalRule::None);
            return self.allowing().filter(is_open).map(|rule| with(rule, "approval = \"none\"")).collect();
        }
        let is_silent = |rule: &&Rule| asking.is_none() || rule.approval == Some(ApprovalRule::None);
        self.allowing().find(is_silent).map(|rule| with(rule, "approval = \"ask\"")).into_iter().collect()
    }

    fn answer(&self, request: &Request, grant: Option<&Grant>) -> Answer {
        let (is_granted, reason, change) = match (grant, request) {
            (None, _) => (false, "no call of the tool is allowed".to_owned(), Vec::new()),
            (Some(grant), Request::File { access, path }) => self.file(*access, path, grant),
            (Some(grant), Request::Http { method, url }) => self.http(*method, url, grant),
        };
        Answer { request: request.to_string(), is_granted, reason, change }
    }

    /// Whether the call may use a file. The mount with the longest name counts, as it does for the guest.
    fn file(&self, access: Access, path: &str, grant: &Grant) -> (bool, String, Vec<Edit>) {
        if asked_access(self.tool).is_none_or(|asked| asked < access) {
            let wanted = if access == Access::Read { Ask::FilesRead } else { Ask::FilesWrite };
            return (
                false,
                format!("the tool does not ask for `{wanted}`, and gets no more than it asks for"),
                Vec::new(),
            );
        }
        let within = grant.mounts.iter().filter(|mount| is_within(path, &mount.guest));
        match within.max_by_key(|mount| mount.guest.len()) {
            Some(mount) if mount.access >= access => {
                let (guest, host) = (&mount.guest, mount.host.display());
                (true, format!("mount `{guest}` ({}) shows it {host}", word(mount.access)), Vec::new())
            }
            Some(mount) => {
                let reason = format!("mount `{}` may be read only", mount.guest);
                (false, reason, self.wider(&mount.guest))
            }
            None => (false, "no rule shows the tool a directory there".into(), self.new_mount(path, access)),
        }
    }

    /// Whether the call may send a request. Which addresses its host has is seen when it is sent.
    fn http(&self, method: Method, url: &WebUrl, grant: &Grant) -> (bool, String, Vec<Edit>) {
        if !self.tool.tool().asks.contains(&Ask::Http) {
            return (
                false,
                format!("the tool does not ask for `{}`, and gets no more than it asks for", Ask::Http),
                Vec::new(),
            );
        }
        let of_place: Vec<_> = grant.http.iter().filter(|http| http.to.matches(url)).collect();
        if let Some(http) = of_place.iter().find(|http| http.methods.contains(&method)) {
            let to = String::from(http.to.clone());
            return (
                true,
                format!("rule `{}` lets it send {method} to {to}, at public addresses and those it names", http.rule),
                Vec::new(),
            );
        }
        let add = format!("{{ url = \"{}{}\", methods = [\"{method}\"] }} in `http`", url.origin(), url.path);
        let named = of_place.first().map(|http| http.rule.as_str());
        let rule = self.allowing().find(|rule| named.is_none_or(|named| rule.name == named));
        let change = rule.map(|rule| Edit { add: Some(add), ..self.edit(rule) }).into_iter().collect();
        let reason = named.map_or_else(
            || "no rule lets it send requests there".into(),
            |named| format!("rule `{named}` lets it send other methods there, not {method}"),
        );
        (false, reason, change)
    }

    fn wider(&self, guest: &str) -> Vec<Edit> {
        let gives = |rule: &&Rule| rule.files.iter().any(|file| file.mount == guest);
        let add = Some(format!("access = \"read_write\" for mount \"{guest}\" in `files`"));
        let remove = Some("access = \"read\" there".to_owned());
        self.allowing().find(gives).map(|rule| Edit { add, remove, ..self.edit(rule) }).into_iter().collect()
    }

    fn new_mount(&self, path: &str, access: Access) -> Vec<Edit> {
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let mount = if parent.is_empty() { path } else { parent };
        let add = format!("files = [{{ mount = \"{mount}\", path = \"DIRECTORY\", access = \"{}\" }}]", word(access));
        self.allowing().next().map(|rule| Edit { add: Some(add), ..self.edit(rule) }).into_iter().collect()
    }
}

fn reason(verdict: Verdict, effect: Effect, asking: Option<ApprovalRule>) -> String {
    match (verdict, asking) {
        (Verdict::Ask, Some(ApprovalRule::Ask)) => "a rule asks for a person".into(),
        (Verdict::Ask, _) => {
            format!(
                "its effect is `{effect}`: what stays needs a person, unless every rule that allows it says `approval = \"none\"`"
            )
        }
        (_, Some(ApprovalRule::None)) if effect == Effect::Once => {
            format!("its effect is `{effect}`, and every rule that allows it says that nobody is asked")
        }
        _ => format!("a rule allows it, and an effect that is `{effect}` needs no person"),
    }
}

fn asked_access(tool: &VerifiedTool) -> Option<Access> {
    let asks = &tool.tool().asks;
    match (asks.contains(&Ask::FilesRead), asks.contains(&Ask::FilesWrite)) {
        (_, true) => Some(Access::ReadWrite),
        (true, false) => Some(Access::Read),
        (false, false) => None,
    }
}

fn is_given(ask: Ask, grant: &Grant) -> bool {
    let widest = grant.mounts.iter().map(|mount| mount.access).max();
    match ask {
        Ask::FilesRead => widest.is_some(),
        Ask::FilesWrite => widest == Some(Access::ReadWrite),
        Ask::Log => grant.log,
        Ask::Progress => grant.progress,
        Ask::Clock => grant.clock,
        Ask::Random => grant.random,
        Ask::Http => !grant.http.is_empty(),
        Ask::Env => !grant.env.is_empty(),
        Ask::Secrets => !grant.secrets.is_empty(),
        Ask::StateSession => grant.state.contains_key(&StateScope::Session),
        Ask::StateUser => grant.state.contains_key(&StateScope::User),
        Ask::StateWorkflow => grant.state.contains_key(&StateScope::Workflow),
    }
}

fn word(access: Access) -> &'static str {
    match access {
        Access::Read => "read",
        Access::ReadWrite => "read_write",
    }
}

fn is_within(path: &str, mount: &str) -> bool {
    path.strip_prefix(mount).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_holds_whole_names() {
        assert!(is_within("/data/x", "/data") && is_within("/data", "/data"));
        assert!(!is_within("/database/x", "/data") && !is_within("/dat", "/data"));
    }
}
