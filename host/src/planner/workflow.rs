//! A workflow file is a planner that always proposes the same plan.
//!
//! TOML, YAML and JSON say the same thing. What is wrong in a file is told with its line and column. Whether the plan
//! can run is for `orchestrator::check` to say, as for every plan.

use std::collections::BTreeMap;
use std::path::Path;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{Allowance, ContextPack, Planned, Planner, Proposal};
use crate::domain::{Failure, Json, Kind, Plan, printable};

mod embed;
mod file;
mod place;
mod read;
#[cfg(test)]
mod tests;

use embed::{Embedding, Source};
use file::File;

pub use file::schema;
pub use read::{Format, type_of};

/// Largest workflow file, in bytes: 200 steps with 4 KiB each fit, a data file given by mistake does not.
pub const WORKFLOW_BYTES_MAX: u64 = 1 << 20;

/// A workflow file, read.
#[derive(Clone, Debug)]
pub struct WorkflowPlanner {
    file: Box<File>,
    /// Its own text, and those of the files that it names.
    sources: Vec<Source>,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    pub file: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
}

impl WorkflowPlanner {
    /// Reads the workflow file at `path`, and those that its steps run.
    ///
    /// # Errors
    /// `data.not_found` where there is no file; `data.config` with file, line and column for what is wrong in it.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let format = Format::of(path)?;
        let text = read::text(path)?;
        let source = Source { at: String::new(), name: path.display().to_string(), text, format };
        let (file, mut content) = checked(&source)?;
        if !file.steps.iter().any(|step| step.run.is_some()) {
            return Ok(Self { file: file.into(), sources: vec![source] });
        }
        let mut embedding = Embedding::new(path, source)?;
        embedding.embed(path, &mut content)?;
        let unread = |error: serde_json::Error| {
            Failure::new(Kind::DataConfig, format!("read workflow {}: {error}", path.display()))
        };
        Ok(Self { file: File::deserialize(content).map_err(unread)?.into(), sources: embedding.sources })
    }

    /// Reads a workflow from its text. Its steps name no other files.
    ///
    /// # Errors
    /// `data.config` with line and column for what is wrong.
    pub fn parse(text: &str, format: Format) -> Result<Self, Failure> {
        let source = Source { at: String::new(), name: "(text)".to_owned(), text: text.to_owned(), format };
        Ok(Self { file: checked(&source)?.0.into(), sources: vec![source] })
    }

    /// Reads a workflow that stands within a plan, as its file says it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of_json(content: &Json) -> Result<Self, String> {
        if !content.is_object() {
            return Err(format!("a workflow is an object, and not {}", type_of(content)));
        }
        let file = File::deserialize(content).map_err(|error| printable(&error.to_string()))?;
        file.check().map_err(|(at, what)| format!("`{at}`: {what}"))?;
        let text = content.to_string();
        let source = Source { at: String::new(), name: "(plan)".to_owned(), text, format: Format::Json };
        Ok(Self { file: file.into(), sources: vec![source] })
    }

    /// Returns the workflow with some inputs set in place of their defaults.
    ///
    /// # Errors
    /// `data.input_invalid` for a name that the file does not declare, or a value of another type than its default.
    pub fn with_inputs(mut self, inputs: BTreeMap<String, Json>) -> Result<Self, Failure> {
        for (name, value) in inputs {
            let Some(default) = self.file.inputs.get_mut(&name) else { return Err(self.unknown_input(&name)) };
            if !default.is_null() && type_of(default) != type_of(&value) {
                let what = format!("set input `{name}` to {}", type_of(&value));
                return Err(Failure::new(Kind::DataInput, what).hint(format!("it is {} in the file", type_of(default))));
            }
            *default = value;
        }
        Ok(self)
    }

    fn unknown_input(&self, name: &str) -> Failure {
        let known: Vec<&str> = self.file.inputs.keys().map(String::as_str).collect();
        let hint = if known.is_empty() {
            "the workflow declares no inputs".to_owned()
        } else {
            format!("the workflow declares {}", known.join(", "))
        };
        Failure::new(Kind::DataInput, format!("set input `{}`: there is none", printable(name))).hint(hint)
    }

    /// Returns the workflow's own name.
    pub fn workflow(&self) -> &str {
        &self.file.workflow
    }

    /// Returns the goal in words.
    pub fn goal(&self) -> &str {
        &self.file.goal
    }

    /// Returns the default of each input.
    pub fn inputs(&self) -> &BTreeMap<String, Json> {
        &self.file.inputs
    }

    /// Returns the bytes of the file, as they were read.
    pub fn source(&self) -> &[u8] {
        self.sources.first().map_or(&[], |source| source.text.as_bytes())
    }

    /// Returns the plan, with every `{"$input": name}` replaced by its value.
    ///
    /// # Errors
    /// `data.config` for an input that is not declared, which reading the file has excluded.
    pub fn proposed(&self) -> Result<Plan, Failure> {
        let unfilled = |(at, what)| Failure::new(Kind::DataConfig, format!("fill in workflow at {at}: {what}"));
        self.file.plan().map_err(unfilled)
    }

    /// Returns the plan as the file has it, with `{"$input": name}` in its places.
    pub fn open_plan(&self) -> Plan {
        self.file.open_plan()
    }

    /// Returns where in the files the value at a JSON pointer into the plan stands; where it is not written there, what is
    /// around it.
    pub fn place(&self, pointer: &str) -> Option<Place> {
        let is_within = |source: &&Source| {
            pointer.strip_prefix(&source.at).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let source = self.sources.iter().filter(is_within).max_by_key(|source| source.at.len())?;
        let (line, column) = place::place(&source.text, source.format, pointer.strip_prefix(&source.at)?)?;
        Some(Place { file: source.name.clone(), line, column })
    }
}

/// Reads one text, and checks its inputs.
fn checked(source: &Source) -> Result<(File, Json), Failure> {
    let (file, content) = read::read(&source.text, source.format).map_err(|flaw| source.unreadable(&flaw))?;
    file.check().map_err(|(at, what)| source.failure_at(&at, &what))?;
    Ok((file, content))
}

#[async_trait]
impl Planner for WorkflowPlanner {
    fn name(&self) -> String {
        "workflow".to_owned()
    }

    fn is_single_plan(&self) -> bool {
        true
    }

    async fn plan(&self, pack: &ContextPack, _: &Allowance) -> Planned {
        let plan = if pack.turn == 1 && pack.repair.is_none() { self.proposed() } else { Err(self.has_one_plan()) };
        let raw = plan.as_ref().ok().and_then(|plan| serde_json::to_vec(plan).ok()).unwrap_or_default();
        Planned::free(plan.map(Proposal::Plan), raw)
    }
}

impl WorkflowPlanner {
    fn has_one_plan(&self) -> Failure {
        let what = format!("propose another plan: workflow `{}` has one", self.file.workflow);
        Failure::new(Kind::DataPlan, what).hint("change the file")
    }
}
