//! `lock`: pins what the tools are, and tells what is no longer what was pinned.
//!
//! Promises: what differs is shown before it is accepted, and is accepted only where that was asked for; the file is
//! written whole or stays as it was.

use std::path::Path;

use serde_json::json;

use crate::domain::{Failure, Json, Kind};
use crate::host::{self, Found, Lock, PinState};

use super::Session;
use super::args::{LockArgs, ModelArgs};
use super::exit::Code;
use super::{text, tools, whole};

/// Characters of one change: both values whole, and where it is.
pub(super) const CHANGE_CHARS_MAX: usize = 20_000;

/// The components of the settings beside their pins.
struct View {
    rows: Vec<(Found, PinState)>,
    /// Pinned, and in the settings no longer.
    gone: Vec<String>,
}

/// Writes the lock, or checks it.
pub(super) fn command(session: &Session, args: &LockArgs) -> Result<Code, Failure> {
    let settings = session.settings_with_components(ModelArgs::default())?;
    let found = host::components(&settings)?;
    let before = host::read_lock(&settings.lock)?;
    let lock = before.clone().unwrap_or_default();
    let view = View::new(found, &lock);
    if args.check {
        let absent =
            || Failure::new(Kind::DataNotFound, "check the lock: there is none").hint("write it with `cofferdam lock`");
        before.ok_or_else(absent)?;
        report(session, &view, false)?;
        return Ok(if view.is_true() { Code::SUCCEEDED } else { Code::DENIED });
    }
    view.check_names(&args.components)?;
    if !args.accept && view.has_drifted() {
        report(session, &view, false)?;
        session.output.say("nothing is written: if the changes are wanted, accept them with `cofferdam lock --accept`");
        return Ok(Code::DENIED);
    }
    let after = view.accepted(&lock, args);
    let is_written = before.as_ref() != Some(&after);
    report(session, &view, is_written)?;
    if is_written {
        write(&settings.lock, &after)?;
        session.output.say(&format!("wrote {}: check it in", settings.lock.display()));
    }
    Ok(Code::SUCCEEDED)
}

/// Writes a lock as a whole, and only one that reads back.
pub(super) fn write(path: &Path, lock: &Lock) -> Result<(), Failure> {
    let text = lock.to_text();
    Lock::parse(&text)?;
    whole::write(path, &text)
}

impl View {
    fn new(found: Vec<Found>, lock: &Lock) -> Self {
        let is_found = |name: &str| found.iter().any(|found| found.contract.component == name);
        let gone = lock.components().filter(|name| !is_found(name)).map(str::to_owned).collect();
        let state = |found: Found| {
            let state = lock.state(&found.contract, found.origin);
            (found, state)
        };
        Self { rows: found.into_iter().map(state).collect(), gone }
    }

    fn has_drifted(&self) -> bool {
        self.rows.iter().any(|(_, state)| matches!(state, PinState::Drifted { .. }))
    }

    /// Answers whether the lock says exactly what there is.
    fn is_true(&self) -> bool {
        self.gone.is_empty() && self.rows.iter().all(|(_, state)| *state == PinState::Pinned)
    }

    fn check_names(&self, named: &[String]) -> Result<(), Failure> {
        let is_known = |name: &&String| {
            self.gone.contains(name) || self.rows.iter().any(|(found, _)| found.contract.component == **name)
        };
        match named.iter().find(|name| !is_known(name)) {
            None => Ok(()),
            Some(name) => {
                let shown = text::line(name, CHANGE_CHARS_MAX);
                Err(Failure::new(Kind::DataNotFound, format!("accept `{shown}`: no component has this name"))
                    .hint("name the component, without a function: `csv`, not `csv.query`"))
            }
        }
    }

    /// The lock that holds what was asked for: without `--accept` only what is new to it.
    fn accepted(&self, lock: &Lock, args: &LockArgs) -> Lock {
        let mut lock = lock.clone();
        let is_meant = |name: &str| args.components.is_empty() || args.components.iter().any(|named| named == name);
        for (found, _) in self.rows.iter().filter(|(found, _)| is_meant(&found.contract.component)) {
            lock.pin(&found.contract, found.origin);
        }
        for name in self.gone.iter().filter(|name| args.accept && is_meant(name)) {
            lock.forget(name);
        }
        lock
    }
}

/// Tells how each component stood to the lock as it was read.
fn report(session: &Session, view: &View, is_written: bool) -> Result<(), Failure> {
    if session.output.is_json {
        let row = |(found, state): &(Found, PinState)| -> Json {
            let mut row = json!(state);
            row["component"] = json!(found.contract.component);
            row["digest"] = json!(found.contract.digest);
            row
        };
        let components: Vec<_> = view.rows.iter().map(row).collect();
        return session
            .output
            .document(&json!({ "is_written": is_written, "components": components, "gone": view.gone }));
    }
    let mut words = String::new();
    for (found, state) in &view.rows {
        words.push_str(&format!("{}  {}\n", found.contract.component, tools::state(state)));
        if let PinState::Drifted { changes } = state {
            for change in changes {
                words.push_str(&format!("  {}\n", text::line(&change.to_string(), CHANGE_CHARS_MAX)));
            }
        }
    }
    for name in &view.gone {
        words.push_str(&format!("{}  pinned, and not in the settings\n", text::line(name, CHANGE_CHARS_MAX)));
    }
    if words.is_empty() { Ok(()) } else { session.output.result(&words) }
}
