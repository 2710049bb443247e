//! Manifest ∩ policy ∩ run: the grant of one call.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::{
    Access, Ask, Failure, Grant, HttpGrant, Kind, Limits, Mount, SecretGrant, StateQuota, StateScope,
    secret_placeholder,
};
use crate::policy::file::variables_flaw;
use crate::policy::{Capability, Rule, RunGrant, STATE_QUOTA_DEFAULT};

/// Returns what the tool asks for *and* the rules give *and* the run has left.
///
/// # Errors
/// `policy.denied` where two rules show different directories under one path, or give one variable different values, or
/// together give too many.
pub(super) fn intersect(
    asks: &BTreeSet<Ask>,
    rules: &[&Rule],
    run: &RunGrant,
    timeout_ms: Option<u64>,
) -> Result<Grant, Failure> {
    let gives =
        |capability, ask| asks.contains(&ask) && rules.iter().any(|rule| rule.capabilities.contains(&capability));
    let secrets = secrets(asks, rules);
    Ok(Grant {
        mounts: mounts(asks, rules)?,
        http: http(asks, rules),
        env: env(asks, rules, &secrets)?,
        secrets,
        state: state(asks, rules),
        log: gives(Capability::Log, Ask::Log),
        progress: gives(Capability::Progress, Ask::Progress),
        clock: gives(Capability::Clock, Ask::Clock),
        random: gives(Capability::Random, Ask::Random),
        limits: limits(rules, run, timeout_ms),
        rules: rules.iter().map(|rule| rule.name.clone()).collect(),
    })
}

/// Later rules override earlier ones, number by number, as they do with limits.
fn state(asks: &BTreeSet<Ask>, rules: &[&Rule]) -> BTreeMap<StateScope, StateQuota> {
    let mut quotas = BTreeMap::new();
    for (scope, rule) in rules.iter().flat_map(|rule| &rule.state) {
        if asks.contains(&Ask::of_state(*scope)) {
            rule.apply(quotas.entry(*scope).or_insert(STATE_QUOTA_DEFAULT));
        }
    }
    quotas
}

fn mounts(asks: &BTreeSet<Ask>, rules: &[&Rule]) -> Result<Vec<Mount>, Failure> {
    let asked = match (asks.contains(&Ask::FilesRead), asks.contains(&Ask::FilesWrite)) {
        (_, true) => Access::ReadWrite,
        (true, false) => Access::Read,
        (false, false) => return Ok(Vec::new()),
    };
    let mut mounts: Vec<Mount> = Vec::new();
    for (rule, file) in rules.iter().flat_map(|rule| rule.files.iter().map(move |file| (rule, file))) {
        let access = file.access.min(asked);
        match mounts.iter_mut().find(|mount| mount.guest == file.mount) {
            None => mounts.push(Mount { guest: file.mount.clone(), host: file.path.clone(), access }),
            Some(mount) if mount.host == file.path => mount.access = mount.access.max(access),
            Some(_) => {
                let message = format!(
                    "mount `{}`: rule `{}` shows another directory there than an earlier rule",
                    file.mount, rule.name
                );
                return Err(Failure::new(Kind::PolicyDenied, message).hint("let the rules agree, or use two mounts"));
            }
        }
    }
    Ok(mounts)
}

fn http(asks: &BTreeSet<Ask>, rules: &[&Rule]) -> Vec<HttpGrant> {
    let rules = rules.iter().filter(|_| asks.contains(&Ask::Http));
    let granted = rules.flat_map(|rule| rule.http.iter().map(move |http| (rule, http)));
    granted
        .map(|(rule, http)| HttpGrant {
            to: http.url.clone(),
            methods: http.methods.clone(),
            addresses: http.addresses.clone(),
            is_keyed: http.keyed,
            rule: rule.name.clone(),
        })
        .collect()
}

/// A secret needs a way out or a variable: one that is only put into requests is asked for with `http`. The value itself
/// is given only to a tool that asks for secrets; any other finds the placeholder.
fn secrets(asks: &BTreeSet<Ask>, rules: &[&Rule]) -> Vec<SecretGrant> {
    let rules = rules.iter().filter(|_| asks.contains(&Ask::Http) || asks.contains(&Ask::Secrets));
    let granted = rules.flat_map(|rule| rule.secrets.iter().map(move |secret| (rule, secret)));
    granted
        .map(|(rule, secret)| SecretGrant {
            name: secret.name.clone(),
            to: secret.to.clone(),
            header: secret.header.as_ref().map(|header| header.to_ascii_lowercase()),
            value: secret.value.clone(),
            env: secret.env.clone(),
            reveal: secret.reveal && asks.contains(&Ask::Secrets),
            rule: rule.name.clone(),
        })
        .collect()
}

fn env(asks: &BTreeSet<Ask>, rules: &[&Rule], secrets: &[SecretGrant]) -> Result<BTreeMap<String, String>, Failure> {
    let denied = |message: String| Failure::new(Kind::PolicyDenied, message).hint("let the rules agree");
    let mut env = BTreeMap::new();
    for (rule, (name, value)) in rules
        .iter()
        .filter(|_| asks.contains(&Ask::Env))
        .flat_map(|rule| rule.env.iter().map(move |variable| (rule, variable)))
    {
        if env.insert(name.clone(), value.clone()).is_some_and(|earlier| earlier != *value) {
            return Err(denied(format!(
                "variable `{name}`: rule `{}` gives it another value than an earlier rule",
                rule.name
            )));
        }
    }
    check_variables(&env, secrets).map_err(denied)?;
    if let Some(flaw) = variables_flaw(&with_placeholders(&env, secrets)) {
        return Err(denied(format!("give a call its variables: {flaw}")));
    }
    Ok(env)
}

/// Returns all variables of a call. A value that a rule reveals counts as its placeholder: it is not known yet, and has a
/// bound of its own.
fn with_placeholders(env: &BTreeMap<String, String>, secrets: &[SecretGrant]) -> BTreeMap<String, String> {
    let of_secrets = secrets.iter().filter_map(|secret| Some((secret.env.clone()?, secret_placeholder(&secret.name))));
    env.clone().into_iter().chain(of_secrets).collect()
}

/// A variable is one thing: text of a rule, or one secret.
fn check_variables(env: &BTreeMap<String, String>, secrets: &[SecretGrant]) -> Result<(), String> {
    let mut of_secrets: BTreeMap<&str, &SecretGrant> = BTreeMap::new();
    for secret in secrets {
        let Some(variable) = &secret.env else { continue };
        let earlier = of_secrets.insert(variable, secret);
        let is_other = earlier.is_some_and(|other| (&other.name, other.reveal) != (&secret.name, secret.reveal));
        if is_other || env.contains_key(variable) {
            return Err(format!(
                "variable `{variable}`: rule `{}` puts another thing there than an earlier rule",
                secret.rule
            ));
        }
    }
    Ok(())
}

/// Later rules override earlier ones; the run and the step can only shorten the deadline.
fn limits(rules: &[&Rule], run: &RunGrant, timeout_ms: Option<u64>) -> Limits {
    let mut limits = Limits::default();
    for rule in rules {
        rule.limits.apply(&mut limits);
    }
    for ms in [timeout_ms, run.wall_ms_left].into_iter().flatten() {
        limits.wall_ms_max = limits.wall_ms_max.min(ms);
    }
    if let Some(cost) = run.cost_left {
        limits.fuel = limits.fuel.min(cost.fuel);
        limits.output_bytes_max = limits.output_bytes_max.min(cost.bytes);
        limits.egress_bytes_max = limits.egress_bytes_max.min(cost.bytes.saturating_sub(limits.output_bytes_max));
    }
    limits
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::policy::Policy;
    use crate::policy::file::{VARIABLES_BYTES_MAX, VARIABLES_MAX};

    /// Returns what a call gets that two rules give variables to, each within the bounds by itself.
    fn given(texts: usize, text: &str, of_secrets: usize) -> Result<usize, Failure> {
        let env: Vec<_> = (0..texts).map(|n| format!("V{n} = '{text}'")).collect();
        let secrets: Vec<_> = (0..of_secrets)
            .map(|n| format!("{{ name = 'key-{n}', to = ['https://a.example/*'], env = 'S{n}' }}"))
            .collect();
        let rule = |name: &str, body: String| format!("[[rule]]\nname = '{name}'\nwhy = 'b'\nallow = ['*']\n{body}\n");
        let (env, secrets) = (format!("env = {{ {} }}", env.join(", ")), format!("secrets = [{}]", secrets.join(", ")));
        let text = format!("version = 0\n{}{}", rule("texts", env), rule("secrets", secrets));
        let policy = Policy::parse(&text, Path::new("/")).expect("each rule is in order");
        let (asks, rules) = (BTreeSet::from([Ask::Env, Ask::Http]), policy.rules.iter().collect::<Vec<_>>());
        let grant = intersect(&asks, &rules, &RunGrant::default(), None)?;
        Ok(grant.env.len() + grant.secrets.len())
    }

    #[test]
    fn variables_of_secrets_count_too() {
        assert_eq!(given(VARIABLES_MAX - 40, "x", 40).expect("it is within the bound"), VARIABLES_MAX);
        let failure = given(VARIABLES_MAX - 40, "x", 41).expect_err("it is one too many");
        assert_eq!(failure.kind, Kind::PolicyDenied);
        assert!(failure.message.contains("101 variables"), "{failure}");
        // `V0` with its text and `S0` with `cofferdam-secret-key-0`.
        let left = VARIABLES_BYTES_MAX - "V0S0cofferdam-secret-key-0".len();
        assert_eq!(given(1, &"x".repeat(left), 1).expect("it is within the bound"), 2);
        let failure = given(1, &"x".repeat(left + 1), 1).expect_err("it is a byte too long");
        assert!(failure.message.contains("2 variables of 32769 bytes"), "{failure}");
    }
}
