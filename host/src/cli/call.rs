//! `call`: one tool, once. The result on standard output, the rest on standard error.

use std::io::Read;

use serde_json::json;

use crate::domain::{Failure, Json, Kind};
use crate::host::{Approve, CallOptions, CallReport, Settled};

use super::Session;
use super::args::{CallArgs, ModelArgs};
use super::exit::{self, Code};
use super::output::Output;
use super::text;
use super::timeline;

/// Bytes of arguments that are read: more than any limit lets through, so that the limit is what answers.
const ARGS_BYTES_MAX: u64 = 16 << 20;

/// Calls a tool.
pub(super) async fn call(session: &Session, args: CallArgs) -> Result<Code, Failure> {
    let input = arguments(&args.args)?;
    let approve = if args.yes { Approve::All { by: session.by(None) } } else { Approve::Ask };
    let host = session.host(ModelArgs::default())?;
    let settled = args.settle.map(|settle| Settled { settle, by: session.by(None) });
    let traceparent = session.traceparent(args.traceparent);
    let options = CallOptions { approve, key: args.key, settled, traceparent };
    let report = host.call_as(&args.tool, input, &options).await?;
    host.close().await?;
    show(&session.output, &report)
}

fn show(output: &Output, report: &CallReport) -> Result<Code, Failure> {
    let outcome = &report.outcome;
    let code = outcome.result.as_ref().map_or_else(|failure| exit::of_kind(failure.kind), |_| Code::SUCCEEDED);
    if output.is_json {
        output.document(&document(report))?;
        return Ok(code);
    }
    output.say_if_any(&timeline::log(&outcome.log));
    output.say_if_any(&timeline::denials(&outcome.denials));
    if let Some(run) = &report.repeats {
        output.say(&format!("the same was called before under this key, in session {run}: this is its outcome"));
    }
    output.say(&format!("{} ({}): {}", report.tool, report.effect, timeline::usage_line(&outcome.usage)));
    match &outcome.result {
        Ok(result) => output.result(&text::pretty(result)).map(|()| code),
        Err(failure) => {
            if report.is_unknown() {
                output.say(
                    "nobody knows what it changed: look there; under `--key`, say what became of it with `--settle`",
                );
            }
            Ok(output.failure(failure))
        }
    }
}

fn document(report: &CallReport) -> Json {
    let outcome = &report.outcome;
    let mut document = json!({
        "tool": report.tool,
        "effect": report.effect,
        "usage": outcome.usage,
        "log": outcome.log,
        "denials": outcome.denials,
        "has_written": outcome.has_written,
        "has_open_write": outcome.has_open_write,
        "is_unknown": report.is_unknown(),
        "repeats": report.repeats,
    });
    match &outcome.result {
        Ok(result) => document["result"] = result.clone(),
        Err(failure) => document["failure"] = json!(failure),
    }
    document
}

/// Reads the arguments: JSON as it stands, `@FILE`, or `-` for standard input.
pub(super) fn arguments(written: &str) -> Result<Json, Failure> {
    let text = match written.strip_prefix('@') {
        Some(path) => {
            let file = std::fs::File::open(path).map_err(|e| unreadable(path, &e))?;
            read(file).map_err(|e| unreadable(path, &e))?
        }
        None if written == "-" => read(std::io::stdin().lock()).map_err(|e| unreadable("standard input", &e))?,
        None => written.to_owned(),
    };
    serde_json::from_str(&text).map_err(|e| {
        Failure::new(Kind::DataInput, format!("read the arguments: {e}"))
            .hint("give a JSON object, such as --args '{\"a\": 1}'")
    })
}

fn read(from: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    from.take(ARGS_BYTES_MAX).read_to_string(&mut text).map(|_| text)
}

fn unreadable(place: &str, error: &std::io::Error) -> Failure {
    Failure::new(Kind::DataNotFound, format!("read the arguments from {place}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_come_from_the_line_or_a_file() {
        assert_eq!(arguments("{\"a\": 1}").unwrap(), json!({"a": 1}));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{\"b\": 2}").unwrap();
        assert_eq!(arguments(&format!("@{}", file.path().display())).unwrap(), json!({"b": 2}));
        assert_eq!(arguments("{a}").unwrap_err().kind, Kind::DataInput);
        assert_eq!(arguments("@/no/such/file").unwrap_err().kind, Kind::DataNotFound);
    }
}
