//! Runs of tests, made of facts by hand: what a log holds when a process has left it so.

use std::sync::Arc;

use serde_json::json;

use crate::domain::{Budget, Cost, Digest, Effect, Fact, GENESIS, PlannedStep, Principal, RunId, StepId, Timestamp};
use crate::host::{Host, HostBuilder};
use crate::store::memory::MemoryLog;
use crate::store::{Batch, Durability, EventLog, Ownership, Payload};

/// A run that is put together fact by fact. Each stands a second after the one before.
pub(crate) struct Canned {
    pub run: RunId,
    facts: Vec<Fact>,
    payloads: Vec<Payload>,
}

impl Canned {
    /// A run that was created, and nothing more. Its goal is `Write it down`.
    pub(crate) fn new() -> Self {
        let mut canned = Self { run: RUN.parse().unwrap(), facts: Vec::new(), payloads: Vec::new() };
        let goal = canned.payload(&json!({"text": "Write it down", "workflow": null}));
        canned.fact(Fact::RunCreated {
            principal: Principal::default(),
            goal,
            planner: "model:gone".into(),
            policy: Digest::of(b"policy"),
            toolset: Digest::of(b"toolset"),
            budget: Budget::default(),
            is_single_plan: true,
            has_assertions: false,
            parent: None,
            trace: None,
        })
    }

    /// Gives it another name than [`RUN`].
    pub(crate) fn named(self, run: &str) -> Self {
        Self { run: run.parse().unwrap(), ..self }
    }

    /// Keeps a payload, and returns its digest.
    pub(crate) fn payload<T: serde::Serialize>(&mut self, value: &T) -> Digest {
        let payload = Payload::of(value).unwrap();
        let digest = payload.digest();
        self.payloads.push(payload);
        digest
    }

    /// Adds a fact.
    pub(crate) fn fact(mut self, fact: Fact) -> Self {
        self.facts.push(fact);
        self
    }

    /// Adds a plan of one turn.
    pub(crate) fn plan(mut self, steps: Vec<PlannedStep>) -> Self {
        let (pack, reply, plan) =
            (self.payload(&json!("pack")), self.payload(&json!("reply")), self.payload(&json!("plan")));
        self.fact(Fact::PlanRequested { turn: 1, pack, asked: None, reserved: Cost::default() }).fact(
            Fact::PlanAccepted {
                turn: 1,
                reply,
                plan,
                steps,
                has_answer: false,
                has_assertions: false,
                checked_by: crate::domain::CHECK_VERSION,
            },
        )
    }

    /// The step has its arguments.
    pub(crate) fn ready(mut self, step: &StepId) -> Self {
        let args = self.payload(&json!({"path": "/notes/a.md", "line": "one"}));
        self.fact(Fact::StepReady { step: step.clone(), args, key: Digest::of(b"key"), duplicate_of: None })
    }

    /// The call of the step begins.
    pub(crate) fn started(self, step: &StepId, attempt: u32) -> Self {
        self.fact(Fact::StepStarted {
            step: step.clone(),
            attempt,
            component: Digest::of(b"component"),
            effect: Effect::Once,
            rules: vec!["write-notes".into()],
            reserved: Cost::default(),
            run: None,
        })
    }

    /// A person is to decide about the step.
    pub(crate) fn asked(self, step: &StepId, binding: Digest) -> Self {
        self.fact(Fact::ApprovalRequested {
            step: step.clone(),
            binding,
            effect: Effect::Once,
            rule: "write-notes".into(),
            expires: Timestamp(u64::MAX),
        })
    }

    /// Writes the run to `log`, and returns who owns it: dropping that leaves it.
    pub(crate) async fn kept(self, log: &MemoryLog) -> Box<dyn Ownership> {
        let owner = log.create(&self.run, &Principal::default(), "another", Timestamp(0)).await.unwrap();
        let facts = (1..).zip(self.facts).map(|(n, fact)| (Timestamp(n * 1_000), fact)).collect();
        let batch = Batch { after: (0, GENESIS), facts, payloads: self.payloads };
        log.append(&*owner, batch, Durability::Synced).await.unwrap();
        owner
    }

    /// A host whose log has the run, which nobody drives.
    pub(crate) async fn host(self) -> Host {
        let log = MemoryLog::default();
        drop(self.kept(&log).await);
        host_of(&log)
    }
}

/// The id of a run.
pub(crate) const RUN: &str = "r-01arz3ndektsv4rrffq69g5fav";

/// A step of the first turn.
pub(crate) fn id(local: &str) -> StepId {
    StepId::new(1, local).unwrap()
}

/// A call that writes, and cannot be taken back.
pub(crate) fn writing(local: &str) -> PlannedStep {
    PlannedStep::call(id(local), "notes.write".parse().unwrap(), vec![], Effect::Once)
}

/// A host that has nothing but a log.
pub(crate) fn host_of(log: &MemoryLog) -> Host {
    HostBuilder::default().event_log(Arc::new(log.clone())).build().unwrap()
}
