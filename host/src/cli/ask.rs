//! Asks a person at the terminal about approvals, one at a time.
//!
//! Promises: only a line typed after its question answers it; anything but a clear yes is no approval.

use std::collections::VecDeque;
use std::io::BufRead;

use tokio::sync::mpsc;

use crate::domain::{Decision, StepId};
use crate::host::ApprovalView;

use super::approval::{self, Length};

/// Lines read ahead: what was typed before a question is thrown away anyway.
const LINES_QUEUED_MAX: usize = 16;

/// The approvals that wait for the person at the terminal.
#[derive(Default)]
pub(super) struct Ask {
    waiting: VecDeque<ApprovalView>,
    lines: Option<mpsc::Receiver<String>>,
}

/// What a typed line means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Decided(Decision),
    Details,
    Unclear,
}

impl Ask {
    /// Adds an approval; returns the question to show if it is the first that waits.
    pub(super) fn add(&mut self, view: ApprovalView) -> Option<String> {
        self.waiting.push_back(view);
        if self.waiting.len() == 1 { self.question() } else { None }
    }

    /// Answers whether a question is open.
    pub(super) fn is_open(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Waits for the next typed line; `None` where the terminal is gone.
    pub(super) async fn line(&mut self) -> Option<String> {
        self.lines.get_or_insert_with(read_lines).recv().await
    }

    /// Returns the open question's details.
    pub(super) fn details(&self) -> Option<String> {
        self.waiting.front().map(|view| format!("{}{PROMPT}", approval::question(view, Length::Full)))
    }

    /// Closes the open question, and returns what it was about.
    pub(super) fn take(&mut self) -> Option<ApprovalView> {
        self.waiting.pop_front()
    }

    /// Drops the question about `step`, which was decided elsewhere; answers whether it was the open one.
    pub(super) fn withdraw(&mut self, step: &StepId) -> bool {
        let was_open = self.waiting.front().is_some_and(|view| view.step == *step);
        self.waiting.retain(|view| view.step != *step);
        was_open
    }

    /// Returns the question that is open now. What was typed before it is forgotten.
    pub(super) fn question(&mut self) -> Option<String> {
        let view = self.waiting.front()?;
        let lines = self.lines.get_or_insert_with(read_lines);
        while lines.try_recv().is_ok() {}
        Some(format!("{}{PROMPT}", approval::question(view, Length::Short)))
    }
}

/// What ends a question.
const PROMPT: &str = "approve? y = yes, n = no, d = details [n] ";

/// Reads a typed line. Enter alone is no.
pub(super) fn reply(line: &str) -> Reply {
    match line.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Reply::Decided(Decision::Approve),
        "" | "n" | "no" => Reply::Decided(Decision::Reject),
        "d" | "details" => Reply::Details,
        _ => Reply::Unclear,
    }
}

/// Starts a thread that reads lines: a read from a terminal cannot be given up, so it must not hold the runtime.
fn read_lines() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(LINES_QUEUED_MAX);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_yes_approves() {
        for yes in ["y", "Y", " yes "] {
            assert_eq!(reply(yes), Reply::Decided(Decision::Approve));
        }
        for no in ["", "n", "No"] {
            assert_eq!(reply(no), Reply::Decided(Decision::Reject));
        }
        assert_eq!(reply("d"), Reply::Details);
        for unclear in ["yy", "ye", "ok", "1"] {
            assert_eq!(reply(unclear), Reply::Unclear);
        }
    }
}
