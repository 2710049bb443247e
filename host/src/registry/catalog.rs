//! The tools of all verified components, found by name.
//!
//! Promises: names are unique, no two components have names that a person could take for one another, and a tool that is
//! withheld is found by nobody who would call or offer it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::domain::{Digest, Failure, Kind, ToolName};

use super::verify::{VerifiedComponent, VerifiedTool};

/// Characters of a name that was not found, of which similar ones are looked for: two parts of 64 and their dot.
const SOUGHT_CHARS_MAX: usize = 129;
/// Of how many characters one may differ for a name to be similar.
const CHARS_PER_TYPO: usize = 3;

/// Verified tools, sorted by name.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    tools: BTreeMap<ToolName, VerifiedTool>,
    /// Tools that are here and may not be called, and why.
    withheld: BTreeMap<ToolName, (VerifiedTool, Failure)>,
    digest: Option<Digest>,
}

impl Catalog {
    /// Makes a catalog of the tools of `components`.
    ///
    /// # Errors
    /// `load.invalid` where two components have the same name, or names that look alike.
    pub fn new(components: Vec<Arc<VerifiedComponent>>) -> Result<Self, Failure> {
        let mut by_looks: HashMap<String, &Arc<VerifiedComponent>> = HashMap::new();
        for component in &components {
            if let Some(first) = by_looks.insert(looks(&component.contract().component), component) {
                return Err(confusing(first, component));
            }
        }
        let tools =
            components.iter().flat_map(VerifiedComponent::tools).map(|tool| (tool.name().clone(), tool)).collect();
        Ok(Self { tools, withheld: BTreeMap::new(), digest: Some(digest(&components)) })
    }

    /// Takes the tools of `component` out of those that are called and offered, because of `why`.
    #[must_use]
    pub fn withholding(mut self, component: &str, why: &Failure) -> Self {
        let kept = self.tools.extract_if(.., |name, _| name.component() == component);
        let withheld: Vec<_> = kept.map(|(name, tool)| (name, (tool, why.clone()))).collect();
        self.withheld.extend(withheld);
        self
    }

    /// Returns the tools that are withheld, sorted by name, and why.
    pub fn withheld(&self) -> impl Iterator<Item = (&VerifiedTool, &Failure)> {
        self.withheld.values().map(|(tool, why)| (tool, why))
    }

    /// Returns why the tool called `name` is withheld; `None` where it is not, or is not there at all.
    pub fn why_withheld(&self, name: &ToolName) -> Option<&Failure> {
        self.withheld.get(name).map(|(_, why)| why)
    }

    /// Returns the tool called `name`.
    pub fn tool(&self, name: &ToolName) -> Option<&VerifiedTool> {
        self.tools.get(name)
    }

    /// Returns the tools, sorted by name.
    pub fn tools(&self) -> impl Iterator<Item = &VerifiedTool> {
        self.tools.values()
    }

    /// Returns the digest of the set: names and bytes of all components, in whatever order they were given.
    pub fn digest(&self) -> Digest {
        self.digest.unwrap_or_else(|| digest(&[]))
    }

    /// Returns the name of the tool that was most likely meant by `sought`, for hints.
    pub fn similar(&self, sought: &str) -> Option<String> {
        let sought: String = sought.to_lowercase().chars().take(SOUGHT_CHARS_MAX).collect();
        let typos_max = sought.chars().count() / CHARS_PER_TYPO;
        let candidates = self.tools.keys().map(|name| (typos(name, &sought), name));
        let (typos, name) = candidates.min_by_key(|(typos, _)| *typos)?;
        (typos <= typos_max).then(|| name.to_string())
    }
}

fn digest(components: &[Arc<VerifiedComponent>]) -> Digest {
    let mut parts: Vec<_> = components.iter().map(|c| (c.contract().component.as_str(), c.digest())).collect();
    parts.sort_unstable();
    let parts: Vec<&[u8]> = parts.iter().flat_map(|(name, digest)| [name.as_bytes(), digest.as_bytes()]).collect();
    Digest::of_parts(&parts)
}

fn confusing(first: &VerifiedComponent, second: &VerifiedComponent) -> Failure {
    let (a, b) = (&first.contract().component, &second.contract().component);
    let (of_a, of_b) = (first.digest(), second.digest());
    let message = if a == b {
        format!("load two components called `{a}`: {of_a} and {of_b}")
    } else {
        format!("load `{a}` ({of_a}) beside `{b}` ({of_b}): their names look alike")
    };
    Failure::new(Kind::LoadInvalid, message)
        .hint("rename one of them in its manifest or in the settings, or leave one out")
}

/// Returns what is left of a name for a hasty reader: no case, no separators, and one form for all that look alike.
fn looks(name: &str) -> String {
    let letters = name.chars().filter(|c| !matches!(c, '-' | '_')).map(|c| match c.to_ascii_lowercase() {
        'o' => '0',
        'l' | 'i' => '1',
        's' => '5',
        'z' => '2',
        other => other,
    });
    letters.collect::<String>().replace("rn", "m").replace("vv", "w")
}

/// Counts the typos in `sought`, taken for a whole name or for its function alone.
fn typos(name: &ToolName, sought: &str) -> usize {
    distance(&name.to_string(), sought).min(distance(name.function(), sought))
}

/// Returns the Levenshtein distance. Both are at most [`SOUGHT_CHARS_MAX`] long.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (n, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = n + 1;
        for (m, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[m + 1];
            row[m + 1] = replaced.min(row[m] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
