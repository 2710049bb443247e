//! What a person asks for: a workflow, or plain words for a model.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use crate::domain::{Failure, Json, Kind};
use crate::orchestrator::{ANSWER, Condition, Goal as StoredGoal, PlannerOf};
use crate::planner::Planner;
use crate::planner::workflow::{Format, WorkflowPlanner};

/// What a person asks for.
pub enum Goal {
    Workflow(WorkflowPlanner),
    Text {
        text: String,
        /// Conditions in CEL over `answer` that decide about success.
        assert: Vec<String>,
        /// Whether it matters more than usual: the strongest models plan it.
        is_critical: bool,
    },
}

impl Goal {
    /// Reads a workflow file and sets its inputs.
    ///
    /// # Errors
    /// `data.config` with file, line and column; `data.not_found`; `data.input_invalid` for an input that it does not have.
    pub fn workflow(path: &Path, inputs: BTreeMap<String, Json>) -> Result<Self, Failure> {
        WorkflowPlanner::read(path)?.with_inputs(inputs).map(Self::Workflow)
    }

    /// Makes a goal of plain words.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into(), assert: Vec::new(), is_critical: false }
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
            Self::Text { text, assert, is_critical } => {
                Self::Text { text, assert: [assert, conditions].concat(), is_critical }
            }
            workflow @ Self::Workflow(_) => workflow,
        })
    }

    /// Returns the goal as one that matters more than usual: the strongest models plan it. A workflow needs none.
    #[must_use]
    pub fn critical(self) -> Self {
        match self {
            Self::Text { text, assert, .. } => Self::Text { text, assert, is_critical: true },
            workflow @ Self::Workflow(_) => workflow,
        }
    }

    /// Returns the goal as it is kept, and who plans it.
    pub(super) fn planned(self, model: Option<Arc<dyn Planner>>) -> Result<(StoredGoal, Arc<dyn Planner>), Failure> {
        match self {
            Self::Text { text, assert, is_critical } => {
                let goal = StoredGoal { text, assert, is_critical, ..StoredGoal::default() };
                Ok((goal, needed(model)?))
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
                let goal =
                    StoredGoal { text: workflow.goal().to_owned(), workflow: Some(content), ..StoredGoal::default() };
                Ok((goal, Arc::new(workflow)))
            }
        }
    }
}

/// Returns who plans a goal that was kept.
pub(super) fn planner_of(goal: &StoredGoal, model: Option<Arc<dyn Planner>>) -> Result<Arc<dyn Planner>, Failure> {
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
