//! What a person asks for: a workflow, or plain words for a model.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;

use crate::domain::{Failure, Json, Kind, canonical, printable};
use crate::orchestrator::{ANSWER, Condition, Goal as StoredGoal, PlannerOf};
use crate::planner::Planner;
use crate::planner::recorded::{Head, RecordedPlanner, Recording};
use crate::planner::workflow::{Format, WorkflowPlanner};

/// Inputs of one goal: more is a file, and belongs to a tool.
const INPUTS_MAX: usize = 32;

/// Bytes of all inputs of a goal: they may become arguments of one step.
const INPUTS_BYTES_MAX: usize = 192 << 10;

/// What a person asks for.
pub enum Goal {
    Workflow(WorkflowPlanner),
    Text {
        text: String,
        /// What the planner may know beside the goal, by name.
        inputs: BTreeMap<String, Json>,
        /// Conditions in CEL over `answer` that decide about success.
        assert: Vec<String>,
        /// Whether it matters more than usual: the strongest models plan it.
        is_critical: bool,
    },
    /// What a planner said in an earlier run takes the place of a planner.
    Recording(RecordedPlanner),
}

impl Goal {
    /// Reads a workflow file and sets its inputs.
    ///
    /// # Errors
    /// `data.config` with file, line and column; `data.not_found`; `data.input_invalid` for an input that it does not have.
    pub fn workflow(path: &Path, inputs: BTreeMap<String, Json>) -> Result<Self, Failure> {
        WorkflowPlanner::read(path)?.with_inputs(inputs).map(Self::Workflow)
    }

    /// Makes the goal of a recording, whose replies plan it. Where a request is not as it was recorded the run fails, unless
    /// `is_lenient`.
    pub fn recording(recording: Recording, is_lenient: bool) -> Self {
        Self::Recording(RecordedPlanner::new(recording, is_lenient))
    }

    /// Makes a goal of plain words.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into(), inputs: BTreeMap::new(), assert: Vec::new(), is_critical: false }
    }

    /// Returns the goal with inputs that its planner may know: it refers to them as `input.NAME`. Those of a workflow are set
    /// as it is read.
    ///
    /// # Errors
    /// `data.input_invalid` for a name that is none, or for a workflow; `data.input_size` for more than a planner is given.
    pub fn with_inputs(self, inputs: BTreeMap<String, Json>) -> Result<Self, Failure> {
        let refuse = |kind, why: String| Err(Failure::new(kind, format!("give inputs with the goal: {why}")));
        if let Some(name) = inputs.keys().find(|name| !is_input_name(name)) {
            return refuse(Kind::DataInput, format!("`{}` is no name of one", printable(name)));
        }
        let bytes: usize = inputs.values().map(|value| canonical(value).len()).sum();
        if inputs.len() > INPUTS_MAX || bytes > INPUTS_BYTES_MAX {
            return refuse(Kind::DataInputSize, format!("at most {INPUTS_MAX}, of {INPUTS_BYTES_MAX} bytes together"));
        }
        match self {
            Self::Text { text, assert, is_critical, .. } => Ok(Self::Text { text, inputs, assert, is_critical }),
            other if inputs.is_empty() => Ok(other),
            Self::Workflow(_) => refuse(Kind::DataInput, "those of a workflow are set as it is read".into()),
            Self::Recording(_) => refuse(Kind::DataInput, "a recording has those of its run".into()),
        }
    }

    /// Returns the goal with conditions in CEL over `answer`, all of which must hold for the run to succeed. Those of a
    /// workflow stand in its file.
    ///
    /// # Errors
    /// `data.condition` for one that cannot be read, or looks at something else than the answer.
    pub fn asserting(self, conditions: Vec<String>) -> Result<Self, Failure> {
        for text in &conditions {
            let refuse = |why: String| Failure::new(Kind::DataCondition, format!("read condition `{text}`: {why}"));
            let condition = Condition::parse(text).map_err(refuse)?;
            if condition.uses_item() || condition.steps().iter().any(|step| step != ANSWER) {
                return Err(refuse("it sees `answer` only".into())
                    .hint("the model names the steps, and not before it is asked"));
            }
        }
        Ok(match self {
            Self::Text { text, inputs, assert, is_critical } => {
                Self::Text { text, inputs, assert: [assert, conditions].concat(), is_critical }
            }
            Self::Recording(_) if !conditions.is_empty() => {
                let what = "add conditions to a recording: it has those of its run";
                return Err(Failure::new(Kind::DataInput, what));
            }
            other @ (Self::Workflow(_) | Self::Recording(_)) => other,
        })
    }

    /// Returns the goal as one that matters more than usual: the strongest models plan it. A workflow needs none.
    #[must_use]
    pub fn critical(self) -> Self {
        match self {
            Self::Text { text, inputs, assert, .. } => Self::Text { text, inputs, assert, is_critical: true },
            other @ (Self::Workflow(_) | Self::Recording(_)) => other,
        }
    }

    /// Returns the goal as it is kept, and who plans it.
    pub(super) fn planned(self, model: Option<Arc<dyn Planner>>) -> Result<(StoredGoal, Arc<dyn Planner>), Failure> {
        match self {
            Self::Text { text, inputs, assert, is_critical } => {
                let goal = StoredGoal { text, inputs, assert, is_critical, ..StoredGoal::default() };
                Ok((goal, needed(model)?))
            }
            Self::Recording(recorded) => {
                let Head { goal, inputs, assert, .. } = recorded.recording().head.clone();
                let unwritten = |error| Failure::new(Kind::HostBug, "keep a recording").detail(error);
                let recording = Some(serde_json::to_value(&recorded).map_err(unwritten)?);
                let stored = StoredGoal { text: goal, inputs, assert, recording, ..StoredGoal::default() };
                Ok((stored, Arc::new(recorded)))
            }
            Self::Workflow(workflow) => {
                let plan = workflow.proposed()?;
                let content = json!({
                    "workflow": workflow.workflow(),
                    "goal": workflow.goal(),
                    "steps": plan.steps,
                    "answer": plan.answer,
                    "assert": plan.assert,
                });
                let text = workflow.goal().to_owned();
                let goal = StoredGoal { text, workflow: Some(content), ..StoredGoal::default() };
                Ok((goal, Arc::new(workflow)))
            }
        }
    }
}

/// Returns who plans a goal that was kept.
pub(super) fn planner_of(goal: &StoredGoal, model: Option<Arc<dyn Planner>>) -> Result<Arc<dyn Planner>, Failure> {
    if let Some(recording) = &goal.recording {
        let unread = |error| Failure::new(Kind::HostStorage, "read the recording of the run").detail(error);
        return Ok(Arc::new(RecordedPlanner::deserialize(recording).map_err(unread)?));
    }
    match &goal.workflow {
        None => needed(model),
        Some(content) => {
            let mut content = content.clone();
            // An absent answer is kept as null, which the file format does not know.
            if let Some(fields) = content.as_object_mut() {
                fields.retain(|_, value| !value.is_null());
            }
            Ok(Arc::new(WorkflowPlanner::parse(&content.to_string(), Format::Json)?))
        }
    }
}

/// Returns what makes the planner of a goal that was kept.
pub(super) fn planners(model: Option<Arc<dyn Planner>>) -> PlannerOf {
    Arc::new(move |goal: &StoredGoal| planner_of(goal, model.clone()))
}

fn needed(model: Option<Arc<dyn Planner>>) -> Result<Arc<dyn Planner>, Failure> {
    model.ok_or_else(|| {
        Failure::new(Kind::DataConfig, "plan a goal in plain words: no model is set")
            .hint("set [model] in cofferdam.toml or pass --base-url and --model, or run a workflow file")
    })
}

/// A name can stand in a reference, and in a prompt as one word.
fn is_input_name(name: &str) -> bool {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    !name.is_empty() && name.len() <= 64 && name.chars().all(is_fine)
}
