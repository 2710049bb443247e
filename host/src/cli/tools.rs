//! `tools` and `inspect`: what there is, what policy says of it, and what a component is before it is trusted.

use serde_json::json;

use crate::config::{Settings, ToolSource};
use crate::domain::{CallTemplate, Contract, Failure, Kind, ToolContract, excerpt};
use crate::host::{self, Host, Origin, PinState, ToolView};

use super::Session;
use super::args::{InspectArgs, ModelArgs};
use super::exit::Code;
use super::text;
use super::wit;

/// Characters of a summary in the list.
const SUMMARY_CHARS_MAX: usize = 60;

/// Characters of a reason in the list.
const REASON_CHARS_MAX: usize = 80;

/// Characters of one line of a component's own text.
const LINE_CHARS_MAX: usize = 400;

/// Lists the tools.
pub(super) async fn list(session: &Session) -> Result<Code, Failure> {
    let host = Host::from_settings(session.settings_with_components(ModelArgs::default())?)?;
    session.tell_withheld(&host);
    let tools = host.tools();
    if session.output.is_json {
        session.output.document(&json!({ "tools": tools }))?;
    } else if tools.is_empty() {
        session.output.say("no tools: `cofferdam add FILE` adds one");
    } else {
        let rows = tools.iter().map(row).collect();
        session.output.result(&text::table(
            &["tool", "effect", "lock", "policy", "summary (its author's)"],
            rows,
            &[],
        ))?;
    }
    host.close().await?;
    Ok(Code::SUCCEEDED)
}

fn row(tool: &ToolView) -> Vec<String> {
    let denied = |denied: &Failure| match denied.kind {
        Kind::LoadPinned => "withheld".into(),
        _ => format!("denied: {}", denied.message),
    };
    let policy = tool.denied.as_ref().map_or_else(|| "allowed".into(), denied);
    vec![
        tool.name.to_string(),
        tool.effect.map_or_else(|| "-".into(), |effect| effect.to_string()),
        tool.lock.as_ref().map_or("-", state).into(),
        text::line(&policy, REASON_CHARS_MAX),
        text::line(&tool.summary, SUMMARY_CHARS_MAX),
    ]
}

/// Tells what a component is. It needs no settings: this comes before anything is trusted.
pub(super) fn inspect(session: &Session, args: &InspectArgs) -> Result<Code, Failure> {
    let contract = host::inspect(&args.file, None, &Settings::new(session.environment.directory()).registry)?;
    let pinned = pinned(session, &contract);
    if session.output.is_json {
        let mut document = json!(contract);
        document["lock"] = json!(pinned);
        session.output.document(&document)?;
    } else {
        session.output.result(&format!("{}{}", describe(&contract, args.schemas), lock_lines(pinned.as_ref())))?;
    }
    Ok(Code::SUCCEEDED)
}

/// How the component stands to the lock in use; `None` where there are no settings, or no lock beside them. What is wrong
/// with those is told by the commands that need them.
fn pinned(session: &Session, contract: &Contract) -> Option<PinState> {
    let settings = session.settings(ModelArgs::default()).ok()?;
    let origin = match settings.tools.get(&contract.component) {
        Some(ToolSource::Crate { .. } | ToolSource::Built { .. }) => Origin::Crate,
        Some(ToolSource::File { .. }) | None => Origin::File,
    };
    Some(host::read_lock(&settings.lock).ok()??.state(contract, origin))
}

fn lock_lines(pinned: Option<&PinState>) -> String {
    let Some(pinned) = pinned else { return String::new() };
    let mut words = format!("\nlock       {}\n", state(pinned));
    if let PinState::Drifted { changes } = pinned {
        for change in changes {
            words.push_str(&format!("  {}\n", text::line(&change.to_string(), LINE_CHARS_MAX)));
        }
    }
    words
}

/// One word for how a component stands to its pin.
pub(super) fn state(pinned: &PinState) -> &'static str {
    match pinned {
        PinState::Pinned => "pinned",
        PinState::Absent => "not pinned",
        PinState::Drifted { .. } => "differs",
    }
}

fn describe(contract: &Contract, has_schemas: bool) -> String {
    let manifest = if contract.has_manifest { "yes" } else { "no: it asks for all that it imports" };
    let mut words = format!(
        "component  {}\nversion    {}\ndigest     {}\nmanifest   {manifest}\nimports    {}\n",
        text::line(&contract.component, LINE_CHARS_MAX),
        text::line(&contract.version, LINE_CHARS_MAX),
        contract.digest,
        list_or_none(contract.imports.iter().map(|import| text::line(import, LINE_CHARS_MAX))),
    );
    words.push_str(&summary(&contract.summary));
    for tool in &contract.tools {
        words.push_str(&describe_tool(tool, has_schemas));
    }
    let definitions = wit::definitions(&contract.tools);
    if !definitions.is_empty() {
        words.push_str("\ntypes\n");
    }
    for definition in definitions.values() {
        words.push_str(&format!("  {}\n", text::line(definition, LINE_CHARS_MAX)));
    }
    for (function, why) in &contract.left_out {
        let (function, why) = (text::line(function, LINE_CHARS_MAX), text::line(why, LINE_CHARS_MAX));
        words.push_str(&format!("\nnot a tool: {function}: {why}\n"));
    }
    words
}

fn describe_tool(tool: &ToolContract, has_schemas: bool) -> String {
    let asks = list_or_none(tool.asks.iter().map(ToString::to_string));
    let effect = tool.effect_declared.map_or_else(|| "not declared".into(), |effect| effect.to_string());
    let mut words = format!("\n{}\n  wit     {}\n", tool.name, text::line(&wit::signature(tool), LINE_CHARS_MAX));
    words.push_str(&format!(
        "  asks    {asks}\n  effect  {effect} (its author says; what it is granted may make it worse)\n"
    ));
    words.push_str(&beside(tool));
    words.push_str(&summary(&tool.summary));
    if has_schemas {
        words.push_str(&format!("  input schema\n{}", text::quoted(&text::pretty(&tool.input_schema))));
        words.push_str(&format!("  output schema\n{}", text::quoted(&text::pretty(&tool.output_schema))));
    }
    words
}

/// The calls that it names beside itself, and whether planners see it.
fn beside(tool: &ToolContract) -> String {
    let named = [("undo", &tool.undo), ("lookup", &tool.reconcile)];
    let told = |(word, template): (&str, &CallTemplate)| {
        let args = text::line(&excerpt(&template.args, LINE_CHARS_MAX), LINE_CHARS_MAX);
        format!("  {word:<6}  {} {args}\n", text::line(&template.tool, LINE_CHARS_MAX))
    };
    let mut words: String = named.into_iter().filter_map(|(word, named)| Some(told((word, named.as_ref()?)))).collect();
    if tool.is_internal {
        words.push_str("  planners are not offered it\n");
    }
    words
}

fn summary(summary: &str) -> String {
    if summary.is_empty() { String::new() } else { text::quoted(&text::line(summary, LINE_CHARS_MAX)) }
}

fn list_or_none(items: impl Iterator<Item = String>) -> String {
    let items: Vec<_> = items.collect();
    if items.is_empty() { "none".into() } else { items.join(", ") }
}
