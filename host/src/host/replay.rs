//! Plays a run back, and the runs within it: every event must be one that was wanted where it stands, every decision is made
//! again, every plan is read and checked again, every call is made again from its records, and each must bring what it brought.
//!
//! Promises: nothing is changed and no server is asked, but for what was too large to be kept: that is read again and
//! compared; sleeps are not slept; rules that have changed since, servers and secrets that are gone make no difference. Leaves to
//! others: what is recorded (`sandbox`), and whether the log is whole (`verify`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use crate::domain::{Digest, Failure, Kind, RunId, Seq, StepId, ToolName};
use crate::host::Host;
use crate::orchestrator::RUN_TOOL;
use crate::registry::{Candidate, Options as Reading, Trust, VerifiedComponent, verify};

mod calls;
mod decided;
mod link;
mod made;
mod tree;
mod turns;
mod within;

use tree::Player;

/// Characters of an output that a report shows.
const EXCERPT_CHARS_MAX: usize = 400;

/// What playing a run back brought.
#[derive(Clone, Debug, Serialize)]
pub struct ReplayReport {
    pub run: RunId,
    /// All that was played back, in the order of the log; what a run within the run did stands before the step that it
    /// carried out.
    pub parts: Vec<Replayed>,
    /// The first of them that is not as it was.
    pub diverged: Option<String>,
}

/// Something that was played back.
#[derive(Clone, Debug, Serialize)]
pub struct Replayed {
    /// `turn 1`, `the log`, `t1.count (its arguments)`, or a step's id, whose call was made again. What is part of a run within
    /// the run has the path that leads there: `t1.trip/t1.book`.
    pub part: String,
    /// The event, of its run, that it is held against.
    pub seq: Seq,
    pub tool: Option<ToolName>,
    /// Whether another component was called than then.
    pub is_other_component: bool,
    /// Host calls that there are records of.
    pub host_calls: usize,
    pub result: Verdict,
}

impl Replayed {
    /// Something that is no call.
    fn told(seq: Seq, part: impl Into<String>, result: Verdict) -> Self {
        Self { part: part.into(), seq, tool: None, is_other_component: false, host_calls: 0, result }
    }
}

/// Whether something is as it was.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "as", rename_all = "snake_case")]
pub enum Verdict {
    Same,
    /// Excerpts of what it brought then and now.
    Differs {
        what: String,
        then: String,
        now: String,
    },
    /// It cannot be told, and why. These are all that are left:
    ///
    /// - its component is not there any more, or its plan's reply is erased, or was never read from its text;
    /// - the policy, or the tools, have changed since a person was asked, or since a run began to take back another one: a binding
    ///   names both, and how far a call may reach hangs on both, and neither is kept;
    /// - the call never began, or cannot begin now, as something that it needs of this machine is not there, such as a secret;
    /// - it was stopped by the time or by a person while it computed: where exactly, nothing tells;
    /// - files that it only reads, or an answer that was too large to be kept, are not as they were: of those there is a digest;
    /// - why a model was asked, or what it was shown, is not kept;
    /// - the run that brought a cached outcome, that carried the step out, or that is taken back, is not in the log any more.
    Untold {
        why: String,
    },
}

impl ReplayReport {
    /// Returns whether all that could be played back was as it was.
    pub fn is_same(&self) -> bool {
        self.diverged.is_none()
    }
}

impl Host {
    /// Plays a run back. `with` names components that take the place of those that are there: name → file.
    ///
    /// # Errors
    /// `data.not_found`; `data.conflict` where it is no run; `load.*` for a file of `with`; `host.storage`. What is not as
    /// it was is in the report.
    pub async fn replay(&self, run: &RunId, with: &BTreeMap<String, PathBuf>) -> Result<ReplayReport, Failure> {
        let parts = Player::new(self, loaded(with)?).played(run).await?;
        let differs = |part: &&Replayed| matches!(part.result, Verdict::Differs { .. });
        let diverged = parts.iter().find(differs).map(|part| part.part.clone());
        Ok(ReplayReport { run: run.clone(), parts, diverged })
    }

    /// Reads a payload that playing back needs.
    async fn kept<T: for<'de> serde::Deserialize<'de>>(&self, run: &RunId, digest: &Digest) -> Result<T, Failure> {
        let erased = || {
            Failure::new(Kind::DataNotFound, format!("play `{run}` back: what its user gave and got is erased"))
                .hint("`verify` still tells whether its log is whole")
        };
        self.json(run, digest).await?.ok_or_else(erased)
    }
}

fn loaded(with: &BTreeMap<String, PathBuf>) -> Result<BTreeMap<String, Arc<VerifiedComponent>>, Failure> {
    let load = |(name, path): (&String, &PathBuf)| {
        let candidate = Candidate { name: name.clone(), path: path.clone() };
        Ok((name.clone(), verify(candidate, &Trust::default(), &Reading::default())?))
    };
    with.iter().map(load).collect()
}

fn untold(why: impl Into<String>) -> Verdict {
    Verdict::Untold { why: why.into() }
}

/// The id of a step without the number of its item.
fn base(step: &StepId) -> Option<StepId> {
    step.as_str().split('[').next()?.parse().ok()
}

/// Answers whether it is no tool that is called so, but a run within the run.
fn is_run(tool: &ToolName) -> bool {
    (tool.component(), tool.function()) == RUN_TOOL
}
