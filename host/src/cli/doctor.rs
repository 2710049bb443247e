//! `doctor`: looks at the program, its settings and the machine, and says what to do about what is not well.
//!
//! Promises: nothing is changed but a file that is made and taken away again; no secret is printed; each thing that is not
//! well has a hint. Leaves to others everything that is not seen from here, such as whether a model answers.

mod finding;
mod log;
mod machine;
mod models;
mod project;

use std::io::IsTerminal;

use serde_json::json;

use crate::domain::Failure;
use crate::host;

use super::Session;
use super::exit::Code;
use super::text;

use finding::{Finding, State};

/// Characters of what one finding says.
const LINE_CHARS_MAX: usize = 400;

/// Looks at everything.
pub(super) async fn command(session: &Session) -> Result<Code, Failure> {
    let mut groups = vec![("versions", versions())];
    let (found, settings) = project::look(session);
    groups.push(("settings", found));
    if let Some(settings) = &settings {
        groups.push(("limits", project::limits(settings)));
        let mut state = machine::state(&settings.state);
        state.extend(log::look(session, settings).await);
        groups.push(("state", state));
        groups.push(("compiled components", vec![machine::cache(settings.sandbox.cache_dir.as_deref())]));
    }
    groups.push(("toolchain", machine::toolchain().await));
    groups.push(("machine", machine::kernel()));
    groups.push(("terminal", vec![terminal()]));
    let worst = groups.iter().flat_map(|(_, found)| found).map(|finding| finding.state).max().unwrap_or(State::Ok);
    report(session, &groups, worst)?;
    Ok(if worst == State::Fail { Code::FAILED } else { Code::SUCCEEDED })
}

fn report(session: &Session, groups: &[(&str, Vec<Finding>)], worst: State) -> Result<(), Failure> {
    if session.output.is_json {
        let groups: serde_json::Map<_, _> =
            groups.iter().map(|(group, found)| ((*group).to_owned(), json!(found))).collect();
        return session.output.document(&json!({ "state": worst, "groups": groups }));
    }
    let mut words = String::new();
    for (group, found) in groups {
        words.push_str(&format!("{group}\n"));
        for finding in found {
            let (name, says) = (text::line(&finding.name, LINE_CHARS_MAX), text::line(&finding.says, LINE_CHARS_MAX));
            words.push_str(&format!("  {:<4}  {name}: {says}\n", finding.state.word()));
            if let Some(hint) = &finding.hint {
                words.push_str(&format!("        hint: {}\n", text::line(hint, LINE_CHARS_MAX)));
            }
        }
    }
    session.output.result(&words)
}

/// Bounds of money stand on prices: of old ones a person should know.
fn prices() -> Finding {
    let data = host::price_data();
    let day: String = data.published.to_string().chars().take_while(|c| *c != 'T').collect();
    Finding::new("prices", format!("genai-prices of {day}"))
        .warn_unless(!data.is_old, "update Cofferdam, or write `price` beside your models in cofferdam.toml")
}

fn versions() -> Vec<Finding> {
    let runtime = host::runtime();
    let says = if runtime.is_known_good {
        runtime.version.to_owned()
    } else {
        format!("{}, which is too old", runtime.version)
    };
    vec![
        Finding::ok("cofferdam", env!("CARGO_PKG_VERSION")),
        Finding::new(runtime.name, says)
            .warn_unless(runtime.is_known_good, "update it and build again: ways out of older ones are known"),
        Finding::ok("SQLite", host::database_version()),
        prices(),
    ]
}

/// Whether a person can be asked from here.
fn terminal() -> Finding {
    let is_asking = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let says = if is_asking {
        "`run` asks a person here"
    } else {
        "nobody is asked here: `run` needs --yes, --approve or --wait"
    };
    Finding::ok("approvals", says)
}
