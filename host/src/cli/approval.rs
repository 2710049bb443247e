//! An approval as a person reads it: the host's facts first, then the planner's words, marked as such.

use crate::domain::{Access, Effect};
use crate::host::ApprovalView;

use super::{risk, text};

/// Lines of arguments in the short form: what fits a screen with the facts above it.
const ARGS_LINES_SHOWN: usize = 16;

/// Characters of one line of arguments in the short form.
const ARGS_CHARS_SHOWN: usize = 200;

/// How much of the arguments is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Short,
    Full,
}

/// Returns the question: what would run, with what, and what it could do.
pub(super) fn question(view: &ApprovalView, length: Length) -> String {
    let mut words = format!("step {} waits for approval\n", view.step);
    words.push_str(&format!("  tool       {}\n", view.tool));
    words.push_str(&format!("  effect     {}: {}\n", view.effect, meaning(view.effect)));
    words.push_str(&format!("  rule       {}\n", text::line(&view.rule, ARGS_CHARS_SHOWN)));
    if let Some(other) = &view.duplicate_of {
        words.push_str(&format!("  again      {other} asks for the very same call\n"));
    }
    for risk in view.risk.iter().flat_map(risk::lines) {
        words.push_str(&format!("  risk       {risk}\n"));
    }
    for mount in &view.mounts {
        let what = match mount.access {
            Access::Read => "can read ",
            Access::ReadWrite => "can write",
        };
        let (host, guest) = (text::printable(&mount.host.display().to_string()), text::printable(&mount.guest));
        words.push_str(&format!("  {what}  {host} (the tool sees {guest})\n"));
    }
    if length == Length::Full {
        words.push_str(&format!("  binding    {}\n", view.binding));
    }
    words.push_str("  arguments, as the planner wrote them:\n");
    words.push_str(&arguments(view, length));
    words
}

fn meaning(effect: Effect) -> &'static str {
    match effect {
        Effect::Pure => "changes nothing",
        Effect::Read => "looks, and changes nothing",
        Effect::Idempotent => "changes something; doing it twice is doing it once",
        Effect::Reversible => "changes something that can be taken back",
        Effect::Once => "changes something that cannot be taken back",
    }
}

fn arguments(view: &ApprovalView, length: Length) -> String {
    let full = text::pretty(&view.args);
    if length == Length::Full {
        return text::quoted(&full);
    }
    let lines: Vec<_> = full.lines().collect();
    let mut words: String =
        lines.iter().take(ARGS_LINES_SHOWN).map(|line| text::quoted(&text::line(line, ARGS_CHARS_SHOWN))).collect();
    let is_cut = lines.iter().any(|line| line.chars().count() > ARGS_CHARS_SHOWN) || lines.len() > ARGS_LINES_SHOWN;
    if is_cut {
        words.push_str("  not all of the arguments is shown here\n");
    }
    words
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::{Digest, StepId};

    fn view(args: serde_json::Value) -> ApprovalView {
        ApprovalView {
            risk: None,
            run: "r-01arz3ndektsv4rrffq69g5fav".parse().unwrap(),
            step: StepId::new(1, "write").unwrap(),
            tool: "notes.write".parse().unwrap(),
            args,
            effect: Effect::Once,
            rule: "r".into(),
            binding: Digest::of(b"b"),
            mounts: vec![],
            duplicate_of: None,
        }
    }

    #[test]
    fn what_is_cut_says_so_and_the_full_form_shows_it() {
        let long = view(json!({ "text": format!("{}END", "a".repeat(500)) }));
        assert!(question(&long, Length::Short).contains("not all of the arguments"));
        let full = question(&long, Length::Full);
        assert!(full.contains("END") && full.contains("sha256:") && !full.contains("not all"));
        assert!(!question(&view(json!({"a": 1})), Length::Short).contains("not all"));
    }
}
