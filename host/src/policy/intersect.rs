//! Manifest ∩ policy ∩ run: the grant of one call.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::{Access, Ask, Failure, Grant, HttpGrant, Kind, Limits, Mount, SecretGrant};
use crate::policy::{Capability, Rule, RunGrant};

/// Returns what the tool asks for *and* the rules give *and* the run has left.
///
/// # Errors
/// `policy.denied` where two rules show different directories under one path.
pub(super) fn intersect(
    asks: &BTreeSet<Ask>,
    rules: &[&Rule],
    run: &RunGrant,
    timeout_ms: Option<u64>,
) -> Result<Grant, Failure> {
    let gives =
        |capability, ask| asks.contains(&ask) && rules.iter().any(|rule| rule.capabilities.contains(&capability));
    Ok(Grant {
        mounts: mounts(asks, rules)?,
        http: http(asks, rules),
        secrets: secrets(asks, rules),
        env: env(asks, rules)?,
        log: gives(Capability::Log, Ask::Log),
        progress: gives(Capability::Progress, Ask::Progress),
        clock: gives(Capability::Clock, Ask::Clock),
        random: gives(Capability::Random, Ask::Random),
        limits: limits(rules, run, timeout_ms),
        rules: rules.iter().map(|rule| rule.name.clone()).collect(),
    })
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
            rule: rule.name.clone(),
        })
        .collect()
}

/// A secret needs a way out or a variable: one that is only put into requests is asked for with `http`.
fn secrets(asks: &BTreeSet<Ask>, rules: &[&Rule]) -> Vec<SecretGrant> {
    let rules = rules.iter().filter(|_| asks.contains(&Ask::Http) || asks.contains(&Ask::Secrets));
    let granted = rules.flat_map(|rule| rule.secrets.iter().map(move |secret| (rule, secret)));
    granted
        .map(|(rule, secret)| SecretGrant {
            name: secret.name.clone(),
            to: secret.to.clone(),
            header: secret.header.clone(),
            value: secret.value.clone(),
            env: secret.env.clone(),
            reveal: secret.reveal,
            rule: rule.name.clone(),
        })
        .collect()
}

fn env(asks: &BTreeSet<Ask>, rules: &[&Rule]) -> Result<BTreeMap<String, String>, Failure> {
    let mut env = BTreeMap::new();
    for (rule, (name, value)) in rules
        .iter()
        .filter(|_| asks.contains(&Ask::Env))
        .flat_map(|rule| rule.env.iter().map(move |variable| (rule, variable)))
    {
        if env.insert(name.clone(), value.clone()).is_some_and(|earlier| earlier != *value) {
            let message =
                format!("variable `{name}`: rule `{}` gives it another value than an earlier rule", rule.name);
            return Err(Failure::new(Kind::PolicyDenied, message).hint("let the rules agree"));
        }
    }
    Ok(env)
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
    limits
}
