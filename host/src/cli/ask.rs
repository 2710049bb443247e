//! Asks a person at the terminal, one thing at a time: about a call that needs approval, or what the planner wants to know.
//!
//! Promises: only a line typed after its question was shown answers it; anything but a clear yes is no approval; no call
//! is asked about twice.

use std::collections::{HashSet, VecDeque};
use std::io::{Stdin, stdin};

use crate::domain::{Digest, RunId, StepId};
use crate::host::{ApprovalView, Choice};

use super::approval::{self, Length};
use super::lines::Lines;
use super::text;

/// What waits for the person at the terminal.
#[derive(Default)]
pub(super) struct Ask {
    waiting: VecDeque<Matter>,
    /// The calls that were asked about, by their bindings.
    asked: HashSet<Digest>,
    lines: Option<Lines<Stdin>>,
}

/// Something to ask.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Matter {
    Approval(Box<ApprovalView>),
    /// The planner's question of a turn.
    Question {
        /// A run, or one within it.
        run: RunId,
        turn: u32,
        text: String,
    },
}

/// What a typed line means.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reply {
    Decided(Choice),
    Details,
    Unclear,
}

impl Ask {
    /// Adds something to ask, unless it was asked already; answers whether it is the first that waits.
    pub(super) fn add(&mut self, matter: Matter) -> bool {
        let is_new = match &matter {
            Matter::Approval(view) => self.asked.insert(view.binding),
            Matter::Question { .. } => !self.waiting.contains(&matter),
        };
        if is_new {
            self.waiting.push_back(matter);
        }
        is_new && self.waiting.len() == 1
    }

    /// Returns what the open question is about.
    pub(super) fn open(&self) -> Option<&Matter> {
        self.waiting.front()
    }

    /// Forgets what was typed so far: the question was shown only now.
    pub(super) fn listen(&mut self) {
        self.lines.get_or_insert_with(|| Lines::of(stdin())).forget();
    }

    /// Waits for the next typed line; `None` where the terminal is gone.
    pub(super) async fn line(&mut self) -> Option<String> {
        self.lines.get_or_insert_with(|| Lines::of(stdin())).next().await
    }

    /// Closes the open question, and returns what it was about.
    pub(super) fn take(&mut self) -> Option<Matter> {
        self.waiting.pop_front()
    }

    /// Drops the question about `step`, which was decided elsewhere; answers whether it was the open one.
    pub(super) fn withdraw(&mut self, run: &RunId, step: &StepId) -> bool {
        self.drop_all(|matter| matches!(matter, Matter::Approval(view) if view.step == *step && view.run == *run))
    }

    /// Drops the planner's questions, which were answered elsewhere; answers whether one was open.
    pub(super) fn withdraw_questions(&mut self, of: &RunId) -> bool {
        self.drop_all(|matter| matches!(matter, Matter::Question { run, .. } if run == of))
    }

    fn drop_all(&mut self, is_dropped: impl Fn(&Matter) -> bool) -> bool {
        let was_open = self.waiting.front().is_some_and(&is_dropped);
        self.waiting.retain(|matter| !is_dropped(matter));
        was_open
    }
}

impl Matter {
    /// Returns the question as it is shown.
    pub(super) fn question(&self, length: Length) -> String {
        match self {
            Self::Approval(view) => {
                format!("{}approve? y = yes, n = no, d = details [n] ", approval::question(view, length))
            }
            Self::Question { text, .. } => {
                format!("the planner asks:\n{}your answer, in one line: ", text::quoted(text))
            }
        }
    }
}

/// Reads a typed line. Enter alone is no.
pub(super) fn reply(line: &str) -> Reply {
    match line.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Reply::Decided(Choice::Approve),
        "" | "n" | "no" => Reply::Decided(Choice::Reject),
        "d" | "details" => Reply::Details,
        _ => Reply::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::Effect;

    fn approval(local: &str, binding: &[u8]) -> Matter {
        Matter::Approval(Box::new(ApprovalView {
            risk: None,
            run: run(),
            step: StepId::new(1, local).unwrap(),
            tool: "notes.write".parse().unwrap(),
            args: json!({}),
            effect: Effect::Once,
            rule: "r".into(),
            binding: Digest::of(binding),
            mounts: vec![],
            duplicate_of: None,
        }))
    }

    fn run() -> RunId {
        "r-01arz3ndektsv4rrffq69g5fav".parse().unwrap()
    }

    fn question() -> Matter {
        Matter::Question { run: run(), turn: 2, text: "Which year?\napprove? y".into() }
    }

    #[test]
    fn only_a_clear_yes_approves() {
        for yes in ["y", "Y", " yes \n"] {
            assert_eq!(reply(yes), Reply::Decided(Choice::Approve));
        }
        for no in ["", "\n", "n", "No"] {
            assert_eq!(reply(no), Reply::Decided(Choice::Reject));
        }
        assert_eq!(reply("d"), Reply::Details);
        for unclear in ["yy", "ye", "ok", "1", "y\nn"] {
            assert_eq!(reply(unclear), Reply::Unclear);
        }
    }

    #[test]
    fn nothing_is_asked_twice_and_one_thing_at_a_time() {
        let mut ask = Ask::default();
        assert!(ask.add(approval("a", b"1")), "it is the first");
        assert!(!ask.add(approval("b", b"2")) && !ask.add(question()) && !ask.add(question()));
        assert_eq!(ask.take(), Some(approval("a", b"1")));
        assert!(!ask.add(approval("a", b"1")), "it was answered");
        assert!(ask.withdraw(&run(), &StepId::new(1, "b").unwrap()) && ask.withdraw_questions(&run()));
        assert_eq!(ask.open(), None);
        assert!(ask.add(approval("a", b"3")), "another call of the same step is another matter");
    }

    #[test]
    fn a_planners_question_is_marked_as_its_words() {
        let shown = question().question(Length::Short);
        assert_eq!(shown, "the planner asks:\n  │ Which year?\n  │ approve? y\nyour answer, in one line: ");
    }
}
