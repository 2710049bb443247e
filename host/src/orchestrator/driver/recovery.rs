//! Takes a run over after another process left it.

use std::collections::HashMap;

use crate::domain::{Digest, Fact, Failure, HostCallRecord, Kind, RunId, StepId};
use crate::orchestrator::check::CheckedPlan;
use crate::orchestrator::drift::{ToolChange, changes};
use crate::orchestrator::driver::{Drive, Driver, Parts};
use crate::orchestrator::journal::Answers;
use crate::orchestrator::machine::{Run, Step};
use crate::orchestrator::recover::{merged, recover, to_recover};
use crate::registry::Catalog;
use crate::store::{Durability, EventLog};

impl Drive {
    /// Notes that this process has the run now, with which tools, and what became of the calls of the one before.
    pub(super) async fn claim(&mut self, tools_changed: Option<Fact>) -> Result<(), Failure> {
        let parts = &self.driver.parts;
        let mut facts = vec![Fact::RunClaimed { owner: parts.owner.clone(), policy: parts.policy.digest() }];
        facts.extend(tools_changed);
        facts.extend(recovered(&*parts.log, &self.run).await?);
        self.record(facts, Vec::new(), Durability::Synced).await
    }

    /// Returns what the host calls of the step's interrupted attempts brought: they are not made again.
    pub(super) async fn answers_for(&self, step: &StepId) -> Result<Option<Answers>, Failure> {
        let interrupted = self.run.step(step).map(|step| step.interrupted.clone()).unwrap_or_default();
        if interrupted.is_empty() {
            return Ok(None);
        }
        let records = journal(&*self.driver.parts.log, &self.run.id, step, &interrupted).await?;
        Ok(Some(Answers::new(records)))
    }
}

impl Driver {
    /// Returns what is to be noted where the tools are others than those that the run went on with until now.
    ///
    /// # Errors
    /// `load.pinned` where one that it may still call is withheld; `data.conflict` where one is not what it was, and nobody
    /// accepts that.
    pub(super) async fn tools_changed(&self, run: &Run) -> Result<Option<Fact>, Failure> {
        let Parts { log, catalog, .. } = &self.parts;
        let toolset = catalog.digest();
        let changes = changed_within(&**log, catalog, run).await?;
        if let Some(why) = changes.iter().find_map(|change| catalog.why_withheld(&change.tool)) {
            return Err(why.clone());
        }
        let by = self.accept_tools.clone().filter(|_| !changes.is_empty());
        if by.is_none() && !changes.is_empty() {
            return Err(refused(&run.id, &changes));
        }
        let tools = changes.into_iter().map(|change| change.tool).collect();
        Ok((run.toolset != toolset).then_some(Fact::ToolsChanged { toolset, tools, by }))
    }
}

fn refused(run: &RunId, changes: &[ToolChange]) -> Failure {
    let list: String = changes.iter().map(|change| format!("\n{}: {}", change.tool, change.change.words())).collect();
    Failure::new(Kind::DataConflict, format!("resume run `{run}`: tools that it may still call have changed{list}"))
        .hint("put the same components back, or go on with these: `resume --accept`")
}

/// What changed for a run and for those within it that are under way or may be taken back: all go on, or none.
async fn changed_within(log: &dyn EventLog, catalog: &Catalog, run: &Run) -> Result<Vec<ToolChange>, Failure> {
    let mut found = changed_tools(log, catalog, run, run.toolset).await?;
    let mut within: Vec<_> = runs_within(run).into_iter().map(|child| (child, run.toolset)).collect();
    while let Some((child, toolset)) = within.pop() {
        let Some(child) = begun(log, &child).await? else { continue };
        let toolset = toolset_of(&child, toolset);
        found.extend(changed_tools(log, catalog, &child, toolset).await?);
        within.extend(runs_within(&child).into_iter().map(|child| (child, toolset)));
    }
    found.sort_by(|a, b| a.tool.cmp(&b.tool));
    found.dedup();
    Ok(found)
}

/// Returns a run as its log tells, if it was begun.
pub(super) async fn begun(log: &dyn EventLog, run: &RunId) -> Result<Option<Run>, Failure> {
    match log.read(run, 0).await {
        Ok(events) => Run::of(&events).map(Some).map_err(super::parted),
        Err(failure) if failure.kind == Kind::DataNotFound => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Returns the tools with which a run within a run last went on. One that has ended cannot note any: those `around` it count.
pub fn toolset_of(child: &Run, around: Digest) -> Digest {
    if child.is_ended() { around } else { child.toolset }
}

/// Returns the runs within a run whose tools may be called: those under way, and those that may be taken back.
pub fn runs_within(run: &Run) -> Vec<RunId> {
    let may_be = |step: &&Step| !step.status.is_terminal() || step.within.has_undo;
    run.in_order().filter(may_be).filter_map(|step| step.run.clone()).collect()
}

/// Returns which of the tools that a run may still call are not what they were when its plans were checked; none, where
/// `toolset`, with which it last went on, is what is there. What takes back another run has no plan of its own: it calls what
/// the plans of that one name.
///
/// # Errors
/// `host.storage`; `data.not_found` where the run's owner was erased.
pub async fn changed_tools(
    log: &dyn EventLog,
    catalog: &Catalog,
    run: &Run,
    toolset: Digest,
) -> Result<Vec<ToolChange>, Failure> {
    let taken = match run.takes_back() {
        Some(taken) => begun(log, &taken.run).await?,
        None => None,
    };
    let run = taken.as_ref().unwrap_or(run);
    let mut plans = Vec::with_capacity(run.plans.len());
    for (_, digest) in &run.plans {
        let erased = || Failure::new(Kind::DataNotFound, "read a plan of the run: its owner was erased");
        let bytes = log.payload(&run.id, digest).await?.ok_or_else(erased)?;
        let plan = serde_json::from_slice::<CheckedPlan>(&bytes);
        plans.push(plan.map_err(|e| Failure::new(Kind::HostStorage, "read a plan of the run").detail(e))?);
    }
    Ok(changes(run, &plans, toolset, catalog))
}

/// Returns what became of the calls of a run whose process died, as their journals tell.
///
/// # Errors
/// `host.storage`.
pub async fn recovered(log: &dyn EventLog, run: &Run) -> Result<Vec<Fact>, Failure> {
    let mut journals = HashMap::new();
    for (step, attempts) in to_recover(run) {
        let records = journal(log, &run.id, &step, &attempts).await?;
        journals.insert(step, records);
    }
    Ok(recover(run, &journals))
}

async fn journal(
    log: &dyn EventLog,
    run: &RunId,
    step: &StepId,
    attempts: &[u32],
) -> Result<Vec<HostCallRecord>, Failure> {
    let mut journals = Vec::with_capacity(attempts.len());
    for attempt in attempts {
        journals.push(log.journal(run, step, *attempt).await?);
    }
    Ok(merged(journals))
}
