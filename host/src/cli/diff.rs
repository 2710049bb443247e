//! `diff`: what differs between two components, those things first by which one may do more.

use std::path::Path;

use serde_json::json;

use crate::config::Settings;
use crate::domain::{Contract, Failure, Kind};
use crate::host::{self, Change, Part};

use super::Session;
use super::args::{DiffArgs, ModelArgs};
use super::exit::Code;
use super::lock::CHANGE_CHARS_MAX;
use super::text;

/// One side: a component, and the function that was named.
struct Side {
    contract: Contract,
    function: Option<String>,
}

/// Headings, in the order in which they are told.
const HEADINGS: [&str; 4] = ["capabilities", "effect", "schemas", "contract"];

/// Compares two components.
pub(super) fn command(session: &Session, args: &DiffArgs) -> Result<Code, Failure> {
    let (old, new) = (side(session, &args.old)?, side(session, &args.new)?);
    let function = old.function.as_deref().or(new.function.as_deref());
    let mut changes = host::changes(&old.contract, &new.contract);
    changes.retain(|change| function.is_none_or(|function| is_about(change, function)));
    if session.output.is_json {
        let digests = (old.contract.digest, new.contract.digest);
        session.output.document(&json!({ "old": digests.0, "new": digests.1, "changes": changes }))?;
    } else if changes.is_empty() {
        session.output.say("no difference");
    } else {
        session.output.result(&told(&changes))?;
    }
    Ok(if changes.is_empty() { Code::SUCCEEDED } else { Code::FAILED })
}

/// Where one function was named, the others' changes are left out; those of the whole component concern it.
fn is_about(change: &Change, function: &str) -> bool {
    change.of.split_once('.').is_none_or(|(_, of)| of == function)
}

fn told(changes: &[Change]) -> String {
    let mut words = String::new();
    for heading in HEADINGS {
        let mut lines = changes.iter().filter(|change| of_part(change.part) == heading).peekable();
        if lines.peek().is_some() {
            words.push_str(&format!("{heading}\n"));
        }
        for change in lines {
            words.push_str(&format!("  {}\n", text::line(&change.to_string(), CHANGE_CHARS_MAX)));
        }
    }
    words
}

fn of_part(part: Part) -> &'static str {
    match part {
        Part::Import | Part::Ask => "capabilities",
        Part::Effect | Part::Undo | Part::Reconcile | Part::Internal => "effect",
        Part::InputSchema | Part::OutputSchema | Part::ErrorType => "schemas",
        Part::Name | Part::Version | Part::Digest | Part::Manifest | Part::Summary => "contract",
        Part::Function | Part::Export | Part::LeftOut => "contract",
    }
}

/// Reads what was named: a file where there is one, else a component of the settings.
fn side(session: &Session, named: &str) -> Result<Side, Failure> {
    let path = Path::new(named);
    if path.exists() {
        let options = Settings::new(session.environment.directory()).registry;
        return Ok(Side { contract: host::inspect(path, None, &options)?, function: None });
    }
    let (component, function) = match named.split_once('.') {
        Some((component, function)) => (component, Some(function.to_owned())),
        None => (named, None),
    };
    let absent = || {
        let shown = text::line(named, CHANGE_CHARS_MAX);
        Failure::new(
            Kind::DataNotFound,
            format!("find `{shown}`: there is no such file, and no such tool in the settings"),
        )
        .hint("give two .wasm files, or the name of a tool that `cofferdam tools` lists and a file")
    };
    let found = host::components(&session.settings_with_components(ModelArgs::default())?)?;
    let contract = found.into_iter().map(|found| found.contract).find(|contract| contract.component == component);
    let contract = contract.ok_or_else(absent)?;
    if function.as_ref().is_some_and(|function| contract.tool(function).is_none()) {
        return Err(absent());
    }
    Ok(Side { contract, function })
}
