//! Standard output for results, standard error for everything said about them.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::Path;

use serde_json::json;

use crate::domain::{Failure, Json, Kind};

use super::args::Global;
use super::exit::{self, Code};
use super::text;

/// Where a command writes.
#[derive(Clone, Debug)]
pub(super) struct Output {
    pub is_json: bool,
    pub is_quiet: bool,
    is_verbose: bool,
}

impl Output {
    pub(super) fn new(args: &Global) -> Self {
        Self { is_json: args.json, is_quiet: args.quiet, is_verbose: args.verbose }
    }

    /// Answers whether a person is there to be asked.
    pub(super) fn is_interactive(&self) -> bool {
        !self.is_json && io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Answers whether progress can be drawn.
    pub(super) fn is_drawing(&self) -> bool {
        !self.is_json && !self.is_quiet && io::stderr().is_terminal()
    }

    /// Writes a result for people, with a line end. A pipe that is read no longer is no error.
    ///
    /// # Errors
    /// `host.storage` where it cannot be written, as on a full disk.
    pub(super) fn result(&self, result: &str) -> Result<(), Failure> {
        write(result.trim_end_matches('\n'))
    }

    /// Writes text of a tool or planner as it is, but harmless where a terminal shows it.
    ///
    /// # Errors
    /// As [`Output::result`].
    pub(super) fn foreign(&self, text: &str) -> Result<(), Failure> {
        if io::stdout().is_terminal() { write(&text::printable(text)) } else { write(text) }
    }

    /// Writes the JSON document that the command brings.
    ///
    /// # Errors
    /// As [`Output::result`].
    pub(super) fn document(&self, document: &Json) -> Result<(), Failure> {
        write(&text::pretty(document))
    }

    /// Writes a JSON document of one line, one of many.
    ///
    /// # Errors
    /// As [`Output::result`].
    pub(super) fn json_line(&self, document: &Json) -> Result<(), Failure> {
        write(&text::printable(&document.to_string()))
    }

    /// Writes a line of many; answers whether somebody still reads.
    ///
    /// # Errors
    /// As [`Output::result`].
    pub(super) fn line_of(&self, line: &str) -> Result<bool, Failure> {
        write_line(&text::printable(line))
    }

    /// Says something to whoever watches, on standard error.
    pub(super) fn say(&self, words: &str) {
        if !self.is_quiet {
            tell(words);
        }
    }

    /// Says `words`, unless there are none.
    pub(super) fn say_if_any(&self, words: &str) {
        if !words.is_empty() {
            self.say(words);
        }
    }

    /// Tells the failure that ends the command, and returns the exit code.
    pub(super) fn failure(&self, failure: &Failure) -> Code {
        tell(&self.failure_text(failure));
        if self.is_json {
            let mut shown = failure.clone();
            shown.detail = shown.detail.filter(|_| self.is_verbose);
            // The failure was told already: where this cannot be written there is nobody left to tell.
            let _ = self.json_line(&json!({ "failure": shown }));
        }
        exit::of_kind(failure.kind)
    }

    /// Returns what people read of a failure.
    pub(super) fn failure_text(&self, failure: &Failure) -> String {
        let mut words = format!("error: failed to {}", text::hanging(&failure.message));
        if let Some(hint) = &failure.hint {
            words.push_str(&format!("\n  hint: {}", text::hanging(hint)));
        }
        if self.is_verbose {
            words.push_str(&format!("\n  kind: {}", failure.kind));
            if let Some(detail) = &failure.detail {
                words.push_str(&format!("\n  detail: {}", text::hanging(detail)));
            }
        }
        words
    }
}

/// Writes to standard error. Where nobody listens there, there is nobody to tell.
pub(super) fn tell(words: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", words.trim_end_matches('\n'));
}

/// Writes a file that is not there yet.
///
/// # Errors
/// `data.conflict` where something is there; `host.storage` where it cannot be written.
pub(super) fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let shown = path.display();
    let mut file = File::create_new(path).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Failure::new(Kind::DataConflict, format!("write {shown}: it is there already"))
            .hint("choose another name, or remove it first"),
        _ => Failure::new(Kind::HostStorage, format!("write {shown}: {error}")),
    })?;
    file.write_all(text.as_bytes()).map_err(|error| Failure::new(Kind::HostStorage, format!("write {shown}: {error}")))
}

fn write(text: &str) -> Result<(), Failure> {
    write_line(text).map(drop)
}

/// Writes to standard output; answers whether somebody still reads there.
fn write_line(text: &str) -> Result<bool, Failure> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(Kind::HostStorage, format!("write to standard output: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_tells_what_and_a_hint_and_details_only_when_asked() {
        let failure = Failure::new(Kind::ToolTrap, "run `a.b`\n  hint: forged").hint("look").detail("frame 3");
        let plain = Output { is_json: false, is_quiet: false, is_verbose: false };
        assert_eq!(plain.failure_text(&failure), "error: failed to run `a.b`\n      hint: forged\n  hint: look");
        let verbose = Output { is_verbose: true, ..plain };
        assert!(verbose.failure_text(&failure).ends_with("  kind: tool.trap\n  detail: frame 3"));
    }
}
