//! What has changed since a run was left: asked before it goes on, and nothing is done.

use std::pin::Pin;

use serde::Serialize;

use crate::domain::{Digest, Event, Fact, Failure, Kind, RunId};
use crate::host::{Host, report};
use crate::orchestrator::{ChangeKind, Run, ToolChange, changed_tools, under_way};

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
    /// Runs within the run that are under way.
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
        let state = Run::of(&events).map_err(|error| {
            Failure::new(Kind::HostStorage, format!("fold the run's events: {error}"))
                .hint("look for the place with `verify`")
        })?;
        if state.is_ended() {
            return Err(Failure::new(Kind::DataConflict, format!("resume run `{run}`: it has ended"))
                .hint("look at it with `show`"));
        }
        let parts = &self.0.parts;
        let tools = changed_tools(&*parts.log, &parts.catalog, &state).await?;
        let has_other_tools = tools.is_empty() && state.toolset != parts.catalog.digest();
        let has_other_policy = policy_of(&events) != Some(parts.policy.digest());
        let goal = self.stored_goal(run).await?;
        let now = (parts.planner_of)(&goal).map_or_else(|_| "none".to_owned(), |planner| planner.name());
        let planner = (now != state.planner).then(|| (state.planner.clone(), now));
        let owner = report::owner(self, run).await?;
        let mut within = Vec::new();
        for child in under_way(&state) {
            within.extend(self.drift_within(&child).await?);
        }
        Ok(RunDrift { run: run.clone(), tools, has_other_tools, has_other_policy, planner, owner, within })
    }

    /// A run within a run may have ended, or not begun: then nothing can have changed for it.
    fn drift_within<'a>(&'a self, run: &'a RunId) -> Within<'a> {
        Box::pin(async move {
            match self.drift(run).await {
                Ok(drift) => Ok(Some(drift)),
                Err(failure) if matches!(failure.kind, Kind::DataNotFound | Kind::DataConflict) => Ok(None),
                Err(failure) => Err(failure),
            }
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
