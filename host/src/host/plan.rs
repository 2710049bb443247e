//! Plans, looked at without running anything.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::domain::{CHECK_VERSION, Cost, Effect, Failure, Json, Kind, Plan};
use crate::host::Host;
use crate::orchestrator::{CheckedPlan, CheckedStep, Flaw, GoalMarks, Graph, Known, cost_of, flaws_of, graph};
use crate::planner::workflow::{Place, WorkflowPlanner};
use crate::policy::about;
use crate::registry::VerifiedTool;

/// A plan that can run, as a person wants to see it before it does.
#[derive(Clone, Debug, Serialize)]
pub struct PlanView {
    pub workflow: String,
    pub goal: String,
    /// In the order in which those that change something run.
    pub steps: Vec<PlanStepView>,
    /// The most that it costs, as long as nothing has to be tried again.
    pub cost: Cost,
    #[serde(skip)]
    pub graph: Graph,
}

/// A step of a plan, before it runs.
#[derive(Clone, Debug, Serialize)]
pub struct PlanStepView {
    pub step: String,
    pub tool: String,
    pub effect: Effect,
    /// The most that it costs, all its items together.
    pub cost: Cost,
    pub items_max: Option<u32>,
    pub on_failure: String,
    /// The tool that takes it back.
    pub undo: Option<String>,
    /// Why a person is asked before it runs; nothing where none is.
    pub person: Option<String>,
}

/// What is wrong with a plan, and where.
#[derive(Clone, Debug, Serialize)]
pub struct PlanFlaw {
    /// Where it stands in a file.
    pub place: Option<Place>,
    /// JSON pointer into the plan.
    pub pointer: String,
    pub kind: Kind,
    pub message: String,
}

/// Reads a workflow file, and those that its steps run, and sets its inputs.
///
/// # Errors
/// `data.config` with file, line and column; `data.not_found`; `data.input_invalid` for an input that it does not have.
pub fn read_workflow(path: &Path, inputs: BTreeMap<String, Json>) -> Result<WorkflowPlanner, Failure> {
    WorkflowPlanner::read(path)?.with_inputs(inputs)
}

impl Host {
    /// Checks the plan of a workflow against the tools, the policy and the budget of this host, as a run would before its
    /// first step.
    ///
    /// # Errors
    /// Every flaw, each with its place.
    pub fn check_workflow(&self, workflow: &WorkflowPlanner) -> Result<PlanView, Vec<PlanFlaw>> {
        let plan =
            workflow.proposed().map_err(|failure| vec![located(workflow, Flaw { at: String::new(), failure })])?;
        let checked = self.checked(&plan);
        let checked =
            checked.map_err(|flaws| flaws.into_iter().map(|flaw| located(workflow, flaw)).collect::<Vec<_>>())?;
        let steps: Vec<_> = checked.steps.iter().map(viewed).collect();
        let cost = steps.iter().fold(Cost::default(), |sum, step| sum.plus(step.cost));
        Ok(PlanView {
            workflow: workflow.workflow().to_owned(),
            goal: workflow.goal().to_owned(),
            steps,
            cost,
            graph: graph(&checked),
        })
    }

    fn checked(&self, plan: &Plan) -> Result<CheckedPlan, Vec<Flaw>> {
        let parts = &self.0.parts;
        let about = |tool: &VerifiedTool| about(&parts.policy, tool);
        let known = Known {
            proposed: None,
            goal: GoalMarks::default(),
            checked_by: CHECK_VERSION,
            catalog: &parts.catalog,
            earlier: &BTreeMap::new(),
            about: &about,
            limits: &parts.plan_limits,
            budget: &self.0.budget,
        };
        flaws_of(plan, 1, &known)
    }
}

fn viewed(step: &CheckedStep) -> PlanStepView {
    let planned = &step.planned;
    let person = match (&step.asks, step.approval) {
        (Some(rule), _) => Some(format!("rule {rule}")),
        (None, true) => Some("the plan asks for it".to_owned()),
        (None, false) => None,
    };
    PlanStepView {
        step: planned.id.local().to_owned(),
        tool: planned.tool.to_string(),
        effect: planned.effect,
        cost: cost_of(step),
        items_max: planned.items.map(|items| items.items_max),
        on_failure: planned.on_failure.to_string(),
        undo: step.undo.as_ref().map(|undo| undo.tool.clone()),
        person,
    }
}

fn located(workflow: &WorkflowPlanner, flaw: Flaw) -> PlanFlaw {
    let place = workflow.place(&flaw.at);
    let begin = format!("check the plan at {}: ", flaw.at);
    let Failure { kind, message, hint, .. } = flaw.failure;
    let message = message.strip_prefix(&begin).unwrap_or(&message).to_owned();
    let message = hint.map_or(message.clone(), |hint| format!("{message} (hint: {hint})"));
    PlanFlaw { place, pointer: flaw.at, kind, message }
}
