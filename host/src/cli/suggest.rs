//! `suggest`: plain words without a model. It shows what it made of them, and runs nothing that nobody confirmed.

use std::io::stdin;

use serde_json::json;

use crate::domain::{Failure, Kind};
use crate::host::{Form, FormField, Goal, Suggestion, WorkflowFormat, WorkflowPlanner};

use super::Session;
use super::args::{ModelArgs, SuggestArgs};
use super::ask::{self, Reply};
use super::exit::Code;
use super::lines::Lines;
use super::output;
use super::run;
use super::text;

/// Characters of a summary, or of a value, in a line.
const LINE_CHARS_MAX: usize = 70;

/// Shows what the words are about; writes or runs it where that is asked.
pub(super) async fn command(session: &Session, args: SuggestArgs) -> Result<Code, Failure> {
    let host = session.host(ModelArgs::default())?;
    let words = args.words.join(" ");
    let mut suggestion = host.suggest(&words, args.tool.as_deref())?;
    for (name, value) in args.set {
        let form = suggestion.form.take().ok_or_else(nothing_fits)?;
        suggestion.form = Some(form.with(&name, value)?);
    }
    tell(session, &suggestion, args.run)?;
    let Some(form) = &suggestion.form else { return Err(nothing_fits()) };
    if let Some(path) = &args.write {
        output::write_new(path, &form.workflow(&words)?)?;
        let shown = text::printable(&path.display().to_string());
        session.output.say(&format!("wrote {shown}; check it with `{} plan check {shown}`", session.program()));
    }
    if !args.run {
        host.close().await?;
        return Ok(Code::SUCCEEDED);
    }
    if !is_confirmed(session, form, args.yes).await? {
        host.close().await?;
        session.output.say("nothing was run");
        return Ok(Code::SUCCEEDED);
    }
    // From here on it is a workflow as any other: checked, allowed, and in the log.
    let goal = Goal::Workflow(WorkflowPlanner::parse(&form.content(&words).to_string(), WorkflowFormat::Json)?);
    run::confirmed(session, &host, goal).await
}

fn nothing_fits() -> Failure {
    Failure::new(Kind::DataNotFound, "find a tool that the words are about: none shares a word with them")
        .hint("list the tools with `cofferdam tools`, or name one with `--tool`")
}

/// Asks the person at the terminal; elsewhere it must have been confirmed beforehand. What is incomplete is not run.
async fn is_confirmed(session: &Session, form: &Form, is_given: bool) -> Result<bool, Failure> {
    if !form.is_complete() {
        let what = format!("run `{}`: {} is missing", form.tool, form.missing.join(", "));
        return Err(Failure::new(Kind::DataInput, what).hint("give it with `--set NAME=VALUE`"));
    }
    if is_given {
        return Ok(true);
    }
    if !session.output.is_interactive() {
        let what = format!("run `{}`: nobody is there to confirm it", form.tool);
        return Err(Failure::new(Kind::DataInput, what).hint("look at what was found, then add `--yes`"));
    }
    let mut lines = Lines::of(stdin());
    loop {
        output::tell(&format!("run {} with these arguments? y = yes, n = no [n]", form.tool));
        lines.forget();
        let Some(line) = lines.next().await else { return Ok(false) };
        match ask::reply(&line) {
            Reply::Decided(choice) => return Ok(choice == crate::host::Choice::Approve),
            Reply::Details | Reply::Unclear => {}
        }
    }
}

fn tell(session: &Session, suggestion: &Suggestion, is_run: bool) -> Result<(), Failure> {
    if session.output.is_json && is_run {
        return session.output.json_line(&json!({ "signal": "suggestion", "suggestion": suggestion }));
    }
    if session.output.is_json {
        return session.output.document(&json!(suggestion));
    }
    let told = format!(
        "{}{}",
        tools(suggestion),
        suggestion.form.as_ref().map_or(String::new(), |form| shown(form, &suggestion.words))
    );
    if is_run {
        // The run's answer alone goes to standard output.
        session.output.say(&told);
        return Ok(());
    }
    session.output.result(&told)
}

fn tools(suggestion: &Suggestion) -> String {
    let rows = suggestion.tools.iter().map(|tool| {
        let fit = format!("{} ‰", tool.score_permille);
        vec![tool.name.to_string(), fit, tool.effect.to_string(), text::line(&tool.summary, LINE_CHARS_MAX)]
    });
    text::table(&["tool", "fit", "effect", "what it says of itself"], rows.collect(), &[1])
}

fn shown(form: &Form, words: &str) -> String {
    let rows = form.fields.iter().map(|field| row(field, words)).collect();
    let table = text::table(&["argument", "value", "found in", "takes"], rows, &[]);
    let end = if form.is_complete() {
        "nothing is missing".to_owned()
    } else {
        format!("missing: {}", text::printable(&form.missing.join(", ")))
    };
    format!("\n{} ({})\n{table}{end}\n", form.tool, form.effect)
}

fn row(field: &FormField, words: &str) -> Vec<String> {
    let value = match &field.found {
        Some(found) => text::line(&found.value.to_string(), LINE_CHARS_MAX),
        None if field.is_required => "(missing)".to_owned(),
        None => "-".to_owned(),
    };
    let place = match field.found.as_ref().map(|found| found.span) {
        Some(Some((from, to))) => {
            let part: String = words.chars().skip(from).take(to - from).collect();
            format!("{} at {from}..{to}", text::line(&part, LINE_CHARS_MAX))
        }
        Some(None) => "given".to_owned(),
        None => "-".to_owned(),
    };
    vec![text::line(&field.name, LINE_CHARS_MAX), value, place, text::line(&field.takes, LINE_CHARS_MAX)]
}
