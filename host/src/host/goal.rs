//! What a person asks for: a workflow, or plain words for a model.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use crate::domain::{Failure, Json, Kind};
use crate::orchestrator::{Goal as StoredGoal, PlannerOf};
use crate::planner::Planner;
use crate::planner::workflow::{Format, WorkflowPlanner};

/// What a person asks for.
pub enum Goal {
    Workflow(WorkflowPlanner),
    Text(String),
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
        Self::Text(text.into())
    }

    /// Returns the goal as it is kept, and who plans it.
    pub(super) fn planned(self, model: Option<Arc<dyn Planner>>) -> Result<(StoredGoal, Arc<dyn Planner>), Failure> {
        match self {
            Self::Text(text) => Ok((StoredGoal { text, workflow: None, assert: Vec::new() }, needed(model)?)),
            Self::Workflow(workflow) => {
                let plan = workflow.proposed()?;
                let content = json!({
                    "workflow": workflow.workflow(),
                    "goal": workflow.goal(),
                    "steps": plan.steps,
                    "answer": plan.answer,
                    "assert": plan.assert,
                });
                let goal = StoredGoal { text: workflow.goal().to_owned(), workflow: Some(content), assert: Vec::new() };
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
