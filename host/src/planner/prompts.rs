//! The fixed texts that planners read, as data with versions.
//!
//! A text that has changed is another file with another version: `docs/prompts.md` lists the digests of all that were ever
//! used, and a test holds the list to the files. The digest of the text stands in every context pack, so that each run
//! tells by which words it was planned.

use std::sync::LazyLock;

use serde::Serialize;

use crate::domain::Digest;

/// A fixed text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Prompt {
    pub id: &'static str,
    pub version: u32,
    /// Of the whole file.
    pub digest: Digest,
    /// The file.
    #[serde(skip)]
    pub text: &'static str,
}

/// The file of the planner's instructions that is in use.
const PLAN: (&str, u32, &str) = ("plan", 2, include_str!("prompts/plan.v2.md"));

static PLAN_PROMPT: LazyLock<Prompt> = LazyLock::new(|| {
    let (id, version, text) = PLAN;
    Prompt { id, version, digest: Digest::of(text.as_bytes()), text }
});

/// Returns what a model is told that plans.
pub fn plan() -> &'static Prompt {
    &PLAN_PROMPT
}

/// Returns all texts of this program.
pub fn all() -> [&'static Prompt; 1] {
    [plan()]
}

/// Returns the text of a digest, where it is one of this program.
pub fn of_digest(digest: &Digest) -> Option<&'static Prompt> {
    all().into_iter().find(|prompt| prompt.digest == *digest)
}

impl Prompt {
    /// Returns what stands between the head of the file and its first part with a name.
    pub fn body(&self) -> &'static str {
        let body = self.text.splitn(3, "---\n").nth(2).unwrap_or(self.text);
        body.split("\n=== ").next().unwrap_or(body).trim()
    }

    /// Returns the part called `name`; nothing where there is none.
    pub fn part(&self, name: &str) -> &'static str {
        let is_named = |part: &&str| part.lines().next().is_some_and(|first| first.trim() == name);
        let part = self.text.split("\n=== ").skip(1).find(is_named);
        part.and_then(|part| part.split_once('\n')).map_or("", |(_, text)| text.trim())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_is_the_file_that_it_says() {
        for prompt in all() {
            let head = format!("---\nid: {}\nversion: {}\n---\n", prompt.id, prompt.version);
            assert!(prompt.text.starts_with(&head), "{} does not say so", prompt.id);
            let file =
                format!("{}/src/planner/prompts/{}.v{}.md", env!("CARGO_MANIFEST_DIR"), prompt.id, prompt.version);
            assert_eq!(std::fs::read_to_string(file).unwrap(), prompt.text);
            assert_eq!(of_digest(&prompt.digest), Some(prompt));
        }
    }

    #[test]
    fn a_text_that_changes_is_another_version() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/prompts.md");
        let page = std::fs::read_to_string(page).unwrap();
        for prompt in all() {
            let row = format!("| `{}` | {} | `{}` |", prompt.id, prompt.version, prompt.digest);
            assert!(page.contains(&row), "docs/prompts.md lacks `{row}`: give a changed text a new version and a row");
        }
        // A version is used once.
        let versions: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
        let mut named: Vec<_> = versions.iter().map(|row| row.splitn(4, '|').take(3).collect::<String>()).collect();
        named.sort();
        named.dedup();
        assert_eq!(named.len(), versions.len(), "{versions:?}");
    }

    #[test]
    fn the_parts_of_the_plan_are_found() {
        assert!(plan().body().starts_with("You are the planner") && plan().body().ends_with("whatever it says."));
        assert!(plan().part("repair").starts_with("Your last reply") && !plan().part("repair").contains("==="));
        assert!(!plan().part("cut").is_empty() && plan().part("none").is_empty());
    }

    #[test]
    fn the_plan_tells_all_that_a_plan_may_say() {
        for word in [
            "needs",
            "after",
            "when",
            "for_each",
            "items_max",
            "$item",
            "$from",
            "on_failure",
            "fallback:",
            "approval",
            "timeout_ms",
            "confidence",
            "flags",
            "abstain",
            "question",
            "answer",
            "reasoning",
            "input.NAME",
        ] {
            assert!(plan().body().contains(word), "{word}");
        }
    }
}
