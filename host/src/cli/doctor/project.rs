//! The settings, the policy, the lock and the tools, as they would be read; and the limits that follow from them.

use serde_json::json;

use crate::config::{self, Overrides, Settings};
use crate::domain::{Json, Limits};
use crate::host::{self, PinState};

use super::super::args::ModelArgs;
use super::super::build::{self, Crates};
use super::super::{Session, text};
use super::finding::{Finding, failed};
use super::models;

/// Looks at all that is read before a call; returns the settings where they are good.
pub(super) fn look(session: &Session) -> (Vec<Finding>, Option<Settings>) {
    let overrides = Overrides { config: session.args.config.clone(), ..Overrides::default() };
    let Some(path) = config::find(&overrides, &session.environment) else {
        let hint = "go to the directory of a `cofferdam.toml`, or start one with `cofferdam add FILE`";
        return (vec![Finding::warn(config::FILE_NAME, "there is none here", hint)], None);
    };
    let settings = match session.settings(ModelArgs::default()) {
        Ok(settings) => settings,
        Err(failure) => return (vec![failed(config::FILE_NAME, &failure)], None),
    };
    let mut found = vec![Finding::ok(config::FILE_NAME, path.display().to_string()), policy(&settings)];
    found.extend(models::look(&settings));
    found.extend(tools(session, &settings));
    (found, Some(settings))
}

fn policy(settings: &Settings) -> Finding {
    let Some(path) = &settings.policy else {
        return Finding::warn(
            "policy",
            "there is none: nothing is allowed",
            "write rules into `policy.toml`; `cofferdam add` prints one",
        );
    };
    match host::read_policy(path) {
        Ok(policy) => Finding::ok("policy", format!("{}, {} rules", path.display(), policy.rules.len())),
        Err(failure) => failed("policy", &failure),
    }
}

/// The lock, and each component beside it. Nothing is built for this.
fn tools(session: &Session, settings: &Settings) -> Vec<Finding> {
    let lock = match host::read_lock(&settings.lock) {
        Ok(lock) => lock,
        Err(failure) => return vec![failed("lock", &failure)],
    };
    let built = match build::with_components(settings.clone(), Crates::BuiltOrAbsent, &session.output) {
        Ok(built) => built,
        Err(failure) => return vec![failed("tools", &failure)],
    };
    let mut found = vec![match &lock {
        Some(lock) => {
            Finding::ok("lock", format!("{}, {} components", settings.lock.display(), lock.components().count()))
        }
        None => Finding::warn(
            "lock",
            "there is none: a tool that changes is called as before",
            "pin the tools with `cofferdam lock`",
        ),
    }];
    let absent = settings.tools.keys().filter(|name| !built.tools.contains_key(*name));
    found.extend(absent.map(|name| {
        Finding::warn(
            &format!("tool {name}"),
            "its crate is not built",
            "it is built when it is needed, or by `cofferdam build`",
        )
    }));
    match host::components(&built) {
        Err(failure) => found.push(failed("tools", &failure)),
        Ok(components) => found.extend(components.into_iter().map(|component| {
            let name = format!("tool {}", component.contract.component);
            let state = lock.as_ref().map(|lock| lock.state(&component.contract, component.origin));
            pinned(&name, state.as_ref(), &component.contract.component)
        })),
    }
    found
}

fn pinned(name: &str, state: Option<&PinState>, component: &str) -> Finding {
    match state.map(|state| (state, state.refusal(component))) {
        None => Finding::ok(name, "reads well"),
        Some((_, None)) => Finding::ok(name, "is what the lock pins"),
        Some((_, Some(failure))) => failed(name, &failure),
    }
}

/// The limits of a call with the rules that change them, and the bounds of all calls together.
pub(super) fn limits(settings: &Settings) -> Vec<Finding> {
    let policy = settings.policy.as_ref().and_then(|path| host::read_policy(path).ok()).unwrap_or_default();
    let defaults = json!(Limits::default());
    let mut found = Vec::new();
    for (name, default) in defaults.as_object().into_iter().flatten() {
        let mut says = number(default);
        for rule in &policy.rules {
            if let Some(value) = json!(rule.limits).get(name) {
                says.push_str(&format!("; {} by rule `{}`", number(value), rule.name));
            }
        }
        found.push(Finding::ok(name, says));
    }
    let bounds = &settings.sandbox;
    found.push(Finding::ok("calls_in_flight_max", bounds.calls_in_flight_max.to_string()));
    found.push(Finding::ok("calls_per_component_max", bounds.calls_per_component_max.to_string()));
    let guests = if bounds.guests_running_max == 0 {
        "as many as processors".into()
    } else {
        bounds.guests_running_max.to_string()
    };
    found.push(Finding::ok("guests_running_max", guests));
    found.push(Finding::ok("memory_bytes_ceiling", text::bytes(bounds.memory_bytes_ceiling as u64)));
    found
}

fn number(value: &Json) -> String {
    value.as_u64().map_or_else(|| value.to_string(), text::count)
}
