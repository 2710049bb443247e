//! What has changed since a run was left: asked before it goes on, and nothing is done.

use std::pin::Pin;

use serde::Serialize;

use crate::domain::{Digest, Event, Fact, Failure, Kind, RunId};
use crate::host::{Host, report};
use crate::orchestrator::{ChangeKind, Run, ToolChange, changed_tools, parted, runs_within, toolset_of};

/// What is not as it was when a run was left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunDrift {
    pub run: RunId,
    /// Tools that it may still call and that are not what they were: it goes on only where a person accepts that.
    pub tools: Vec<ToolChange>,
    /// Whether other components than these came, went or changed: later turns of a model see them.
    pub has_other_tools: bool,
    /// Whether the policy is another: every call that has not begun is decided by the one that holds now.
    pub has_other_policy: bool,
    /// The planner of before and of now, where they differ.
    pub planner: Option<(String, String)>,
    /// The process that has the run; it does not go on elsewhere as long as that lives.
    pub owner: Option<String>,
    /// Runs within the run that are under way, and those whose tools would take them back and have changed.
    pub within: Vec<Self>,
}

impl RunDrift {
    /// Answers whether a tool that it may still call is withheld: nobody's consent to the run heals that.
    pub fn is_withheld(&self) -> bool {
        self.tools.iter().any(|tool| tool.change == ChangeKind::Withheld) || self.within.iter().any(Self::is_withheld)
    }

    /// Answers whether `resume` goes on without anybody's consent.
    pub fn goes_on(&self) -> bool {
        self.tools.is_empty() && self.owner.is_none() && self.within.iter().all(Self::goes_on)
    }
}

impl Host {
    /// Tells what has changed since a run was left. Nothing is done.
    ///
    /// # Errors
    /// `data.not_found`; `data.conflict` where the run has ended or is none; `host.storage`.
    pub async fn drift(&self, run: &RunId) -> Result<RunDrift, Failure> {
        let events = self.events(run).await?;
        if !matches!(events.first().map(|event| &event.fact), Some(Fact::RunCreated { .. })) {
            let message = format!("resume `{run}`: it is not a run");
            return Err(Failure::new(Kind::DataConflict, message).hint("list runs with `runs`"));
        }
        let state = Run::of(&events).map_err(parted)?;
        if state.is_ended() {
            return Err(Failure::new(Kind::DataConflict, format!("resume run `{run}`: it has ended"))
                .hint("look at it with `show`"));
        }
        let toolset = state.toolset;
        self.drift_of(&events, state, toolset).await
    }

    /// Of a run that has ended only its tools count: they may have to take it back.
    async fn drift_of(&self, events: &[Event], run: Run, toolset: Digest) -> Result<RunDrift, Failure> {
        let parts = &self.0.parts;
        let tools = changed_tools(&*parts.log, &parts.catalog, &run, toolset).await?;
        let mut within = Vec::new();
        for child in runs_within(&run) {
            within.extend(self.drift_within(child, toolset).await?);
        }
        let mut drift = RunDrift {
            run: run.id.clone(),
            tools,
            has_other_tools: false,
            has_other_policy: false,
            planner: None,
            owner: None,
            within,
        };
        if !run.is_ended() {
            drift.has_other_tools = drift.tools.is_empty() && toolset != parts.catalog.digest();
            drift.has_other_policy = policy_of(events) != Some(parts.policy.digest());
            let goal = self.stored_goal(&run.id).await?;
            let now = (parts.planner_of)(&goal).map_or_else(|_| "none".to_owned(), |planner| planner.name());
            drift.planner = (now != run.planner).then(|| (run.planner.clone(), now));
            drift.owner = report::owner(self, &run.id).await?;
        }
        Ok(drift)
    }

    /// For a run within a run that was never begun nothing can have changed, nor is there anything to tell of one that has
    /// ended and whose tools are what they were.
    fn drift_within(&self, run: RunId, around: Digest) -> Within<'_> {
        Box::pin(async move {
            let events = match self.events(&run).await {
                Ok(events) => events,
                Err(failure) if failure.kind == Kind::DataNotFound => return Ok(None),
                Err(failure) => return Err(failure),
            };
            let state = Run::of(&events).map_err(parted)?;
            let (toolset, is_ended) = (toolset_of(&state, around), state.is_ended());
            let drift = self.drift_of(&events, state, toolset).await?;
            Ok(Some(drift).filter(|drift| !is_ended || !drift.goes_on()))
        })
    }
}

type Within<'a> = Pin<Box<dyn Future<Output = Result<Option<RunDrift>, Failure>> + Send + 'a>>;

/// The policy under which the run last went on.
fn policy_of(events: &[Event]) -> Option<Digest> {
    events.iter().rev().find_map(|event| match &event.fact {
        Fact::RunCreated { policy, .. } | Fact::RunClaimed { policy, .. } => Some(*policy),
        _ => None,
    })
}
