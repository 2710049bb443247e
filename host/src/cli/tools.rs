//! `tools` and `inspect`: what there is, what policy says of it, and what a component is before it is trusted.

use serde_json::json;

use crate::config::Settings;
use crate::domain::{Contract, Failure, ToolContract};
use crate::host::{self, ToolView};

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
    let host = session.host(ModelArgs::default())?;
    let tools = host.tools();
    if session.output.is_json {
        session.output.document(&json!({ "tools": tools }))?;
    } else if tools.is_empty() {
        session.output.say("no tools: `cofferdam add FILE` adds one");
    } else {
        let rows = tools.iter().map(row).collect();
        session.output.result(&text::table(&["tool", "effect", "policy", "summary (its author's)"], rows, &[]))?;
    }
    host.close().await?;
    Ok(Code::SUCCEEDED)
}

fn row(tool: &ToolView) -> Vec<String> {
    let policy = tool.denied.as_ref().map_or_else(|| "allowed".into(), |denied| format!("denied: {}", denied.message));
    vec![
        tool.name.to_string(),
        tool.effect.map_or_else(|| "-".into(), |effect| effect.to_string()),
        text::line(&policy, REASON_CHARS_MAX),
        text::line(&tool.summary, SUMMARY_CHARS_MAX),
    ]
}

/// Tells what a component is. It needs no settings: this comes before anything is trusted.
pub(super) fn inspect(session: &Session, args: &InspectArgs) -> Result<Code, Failure> {
    let contract = host::inspect(&args.file, None, &Settings::new(session.environment.directory()).registry)?;
    if session.output.is_json {
        session.output.document(&json!(contract))?;
    } else {
        session.output.result(&describe(&contract, args.schemas))?;
    }
    Ok(Code::SUCCEEDED)
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
    let asks = list_or_none(tool.asks.iter().map(|ask| json!(ask).as_str().unwrap_or_default().to_owned()));
    let effect = tool.effect_declared.map_or_else(|| "not declared".into(), |effect| effect.to_string());
    let mut words = format!("\n{}\n  wit     {}\n", tool.name, text::line(&wit::signature(tool), LINE_CHARS_MAX));
    words.push_str(&format!(
        "  asks    {asks}\n  effect  {effect} (its author says; what it is granted may make it worse)\n"
    ));
    words.push_str(&summary(&tool.summary));
    if has_schemas {
        words.push_str(&format!("  input schema\n{}", text::quoted(&text::pretty(&tool.input_schema))));
        words.push_str(&format!("  output schema\n{}", text::quoted(&text::pretty(&tool.output_schema))));
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
