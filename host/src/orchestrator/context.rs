//! What a planner gets to see for one request: built from declared inputs only.

use crate::domain::{Failure, Json, Retry, Role, canonical};
use crate::orchestrator::machine::{Run, Step, StepStatus};
use crate::planner::{Observation, Observed, OfferedTool};
use crate::policy::{Policy, effect};
use crate::registry::Catalog;

/// Characters of an output that a planner sees; the rest it reaches by reference.
const PREVIEW_CHARS_MAX: usize = 2_000;

/// Returns the tools that policy would let the planner use, sorted by name; not those that are there to take back or look up
/// what others do.
pub(super) fn offered(catalog: &Catalog, policy: &Policy) -> Vec<OfferedTool> {
    let offer = |tool: &crate::registry::VerifiedTool| {
        let contract = tool.tool();
        Some(OfferedTool {
            name: contract.name.clone(),
            summary: contract.summary.clone(),
            effect: effect(policy, tool).ok()?,
            input_schema: contract.input_schema.clone(),
            output_schema: contract.output_schema.clone(),
        })
    };
    catalog.tools().filter(|tool| !tool.tool().is_internal).filter_map(offer).collect()
}

/// Returns what a finished step brought, as a planner may see it; `None` while it is not finished.
pub(super) fn observation(step: &Step, output: Option<&Json>, failure: Option<&Failure>) -> Option<Observation> {
    let outcome = match (&step.status, output, failure) {
        (StepStatus::Succeeded { .. }, Some(output), _) => succeeded(output),
        (StepStatus::Failed { .. } | StepStatus::Rejected { .. }, _, Some(failure)) => failed(failure),
        (StepStatus::Skipped { .. }, ..) => Observed::Skipped,
        _ => return None,
    };
    Some(Observation { step: step.planned.id.clone(), tool: step.planned.tool.clone(), outcome })
}

fn succeeded(output: &Json) -> Observed {
    let text = canonical(output);
    let preview: String = text.chars().take(PREVIEW_CHARS_MAX).collect();
    Observed::Succeeded { bytes: text.len(), is_whole: preview.len() == text.len(), preview }
}

/// Without `detail`, which is for the operator.
fn failed(failure: &Failure) -> Observed {
    Observed::Failed {
        code: failure.declared.clone().unwrap_or_else(|| failure.kind.code().to_owned()),
        retryable: failure.retry() != Retry::Never,
        message: failure.message.clone(),
        hint: failure.hint.clone(),
    }
}

/// Returns the steps whose observations belong into the next request: all that are finished.
pub(super) fn finished(run: &Run) -> impl Iterator<Item = &Step> {
    run.in_order().filter(|step| step.status.is_terminal() && step.planned.role == Role::Do)
}
