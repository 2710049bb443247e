//! Ends a run that nobody drives: from its log alone, without its planner and its tools. Runs within it end with it.
//!
//! All of them are taken before the first is changed: where a living process owns one, or what one did is being taken back, none
//! is.

use std::collections::BTreeMap;
use std::pin::Pin;

use crate::domain::{Fact, Failure, Kind, RunEnd, RunId, StepId};
use crate::orchestrator::{Command, EndedRun, Ending, Parts, Run, parted, recovered};
use crate::store::{Batch, Durability, Ownership, Payload};

/// Takes the run, notes what became of the calls of the process before, and ends it as cancelled.
pub(super) async fn end(parts: &Parts, run: &RunId, by: &str) -> Result<(), Failure> {
    let events = parts.log.read(run, 0).await?;
    if !matches!(events.first().map(|event| &event.fact), Some(Fact::RunCreated { .. })) {
        return Err(
            Failure::new(Kind::DataConflict, format!("end `{run}`: it is not a run")).hint("list runs with `runs`")
        );
    }
    let mut ending = Taken::family(parts, run.clone()).await?;
    if ending.run.is_ended() {
        return Err(
            Failure::new(Kind::DataConflict, format!("end run `{run}`: it has ended")).hint("look at it with `show`")
        );
    }
    if let Some(undoing) = ending.undoing() {
        let message = format!("end run `{run}`: what run `{undoing}` did is being taken back");
        return Err(Failure::new(Kind::DataConflict, message).hint("go on with `resume`"));
    }
    ending.end(by).await
}

/// A run that this process took to end it.
struct Taken<'a> {
    parts: &'a Parts,
    owner: Box<dyn Ownership>,
    run: Run,
    /// The runs that carry out its steps, taken too; none where one was never begun.
    within: BTreeMap<StepId, Taken<'a>>,
}

impl<'a> Taken<'a> {
    async fn new(parts: &'a Parts, run: &RunId) -> Result<Self, Failure> {
        let owner = parts.log.own(run, &parts.owner).await?;
        // Read only now: it may have gone on until it was taken.
        let run = Run::of(&parts.log.read(run, 0).await?).map_err(parted)?;
        Ok(Self { parts, owner, run, within: BTreeMap::new() })
    }

    /// Takes the run and all that carry out its steps, and theirs. Where one cannot be taken, all are let go as they were.
    fn family(parts: &'a Parts, run: RunId) -> Pin<Box<dyn Future<Output = Result<Self, Failure>> + Send + 'a>> {
        Box::pin(async move {
            let mut taken = Self::new(parts, &run).await?;
            if taken.run.is_ended() {
                return Ok(taken);
            }
            for (step, child) in taken.children() {
                match Self::family(parts, child).await {
                    Ok(child) => drop(taken.within.insert(step, child)),
                    Err(failure) if failure.kind == Kind::DataNotFound => (),
                    Err(failure) => return Err(failure),
                }
            }
            Ok(taken)
        })
    }

    async fn end(&mut self, by: &str) -> Result<(), Failure> {
        self.claim(by).await?;
        for (step, _) in self.children() {
            let ended = match self.within.remove(&step) {
                Some(child) => child.ended(&step, by).await?,
                None => EndedRun::unborn(&step, by)?,
            };
            let attempt = self.run.step(&step).map_or(1, |step| step.attempts);
            let (facts, stored) = ended.facts(step, attempt);
            self.append(facts, vec![stored]).await?;
        }
        // Steps that were under way are left first; then the run wants nothing but its end.
        loop {
            let mut commands = self.run.next(self.parts.clock.now()).into_iter();
            match commands.next() {
                Some(Command::Leave { step }) => {
                    let attempt = self.run.step(&step).map_or(0, |step| step.attempts);
                    self.append(vec![Fact::StepUnknown { step, attempt }], Vec::new()).await?;
                }
                Some(Command::End { ending: Ending::Cancelled { by }, caveats }) => {
                    let ended = Fact::RunEnded { end: RunEnd::Cancelled { by }, caveats };
                    return self.append(vec![ended], Vec::new()).await;
                }
                // No tool can be asked here what became of a step: nobody knows.
                Some(command) if command.is_about_call() => {
                    let by = self.run.cancelled.as_ref().map_or(by, |cancel| cancel.by.as_str()).to_owned();
                    let ended = Fact::RunEnded { end: RunEnd::Cancelled { by }, caveats: self.run.caveats() };
                    return self.append(vec![ended], Vec::new()).await;
                }
                other => {
                    let failure = Failure::new(Kind::HostBug, format!("end run `{}`", self.run.id));
                    return Err(failure.detail(format!("it wants {other:?}")));
                }
            }
        }
    }

    /// Returns the run, of this one and those within, that somebody wants taken back: what it did is not left in the middle.
    fn undoing(&self) -> Option<&RunId> {
        let is_undoing = !self.run.is_ended() && self.run.cancelled.as_ref().is_some_and(|cancel| cancel.undo);
        if is_undoing { Some(&self.run.id) } else { self.within.values().find_map(Self::undoing) }
    }

    async fn claim(&mut self, by: &str) -> Result<(), Failure> {
        let parts = self.parts;
        let mut facts = vec![Fact::RunClaimed { owner: parts.owner.clone(), policy: parts.policy.digest() }];
        facts.extend(recovered(&*parts.log, &self.run).await?);
        if self.run.cancelled.is_none() {
            facts.push(Fact::CancelRequested { by: by.to_owned(), undo: false });
        }
        self.append(facts, Vec::new()).await
    }

    fn children(&self) -> Vec<(StepId, RunId)> {
        let running = self.run.in_order().filter(|step| step.status.is_running());
        running.filter_map(|step| Some((step.id().clone(), step.run.clone()?))).collect()
    }

    /// Ends a run within a run, if it has not ended, and returns what that tells of the step that it carried out.
    fn ended<'b>(
        mut self,
        step: &'b StepId,
        by: &'b str,
    ) -> Pin<Box<dyn Future<Output = Result<EndedRun, Failure>> + Send + 'b>>
    where
        'a: 'b,
    {
        Box::pin(async move {
            if !self.run.is_ended() {
                self.end(by).await?;
            }
            let not_ended = || Failure::new(Kind::HostBug, format!("end run `{}`: it goes on", self.run.id));
            EndedRun::of(self.parts, step, &self.run).await?.ok_or_else(not_ended)
        })
    }

    /// Changes the run, then appends, as the driver does.
    async fn append(&mut self, facts: Vec<Fact>, payloads: Vec<Payload>) -> Result<(), Failure> {
        let at = self.parts.clock.now();
        self.run.take(at, &facts).map_err(parted)?;
        let facts = facts.into_iter().map(|fact| (at, fact)).collect();
        let batch = Batch { after: self.run.last, facts, payloads };
        for event in self.parts.log.append(&*self.owner, batch, Durability::Synced).await? {
            self.run.follow(&event).map_err(parted)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Caveat, CaveatKind, Cost, Effect, GENESIS, PlannedStep, Role, Timestamp};
    use crate::host::canned::{Canned, RUN, host_of, id, writing};
    use crate::host::{Host, RunReport, RunState};
    use crate::orchestrator::{Refold, StepStatus};
    use crate::store::EventLog;
    use crate::store::memory::MemoryLog;

    #[tokio::test]
    async fn a_write_that_nobody_saw_end_is_unknown_in_the_end_too() {
        let (log, step) = (MemoryLog::default(), id("write"));
        let left = Canned::new().plan(vec![writing("write")]).ready(&step).started(&step, 1);
        let left = left.fact(Fact::WriteBegun { step: step.clone(), attempt: 1 });
        let run = left.run.clone();
        let owner = left.kept(&log).await;

        let host = host_of(&log);
        assert_eq!(host.end(&run, "ann").await.unwrap_err().kind, Kind::HostOwned);
        drop(owner);
        let report = host.end(&run, "ann").await.unwrap();
        assert_eq!(report.state, RunState::Cancelled);
        assert_eq!(
            (report.unknown, report.caveats),
            (vec![step.clone()], vec![Caveat { step, what: CaveatKind::Unknown }])
        );
        assert_eq!(host.end(&run, "ann").await.unwrap_err().kind, Kind::DataConflict);
    }

    /// A run whose step `child` carries out.
    fn around(run: &str, child: &RunId) -> Canned {
        let nest = PlannedStep::call(id("nest"), "cofferdam.run".parse().unwrap(), vec![], Effect::Once);
        let around = Canned::new().named(run).plan(vec![nest]).ready(&id("nest"));
        around.fact(Fact::StepStarted {
            step: id("nest"),
            attempt: 1,
            component: GENESIS,
            effect: Effect::Once,
            rules: Vec::new(),
            reserved: Cost::default(),
            run: Some(child.clone()),
        })
    }

    /// A run that is to write, and lies within others.
    fn within() -> Canned {
        Canned::new().named(CHILD).plan(vec![writing("write")])
    }

    /// One that was writing when its process died.
    fn writing_within() -> Canned {
        let step = id("write");
        within().ready(&step).started(&step, 1).fact(Fact::WriteBegun { step, attempt: 1 })
    }

    /// The name of a run within a run.
    const CHILD: &str = "r-01arz3ndektsv4rrffq69g5fb0";

    /// The name of a run between that and the outermost.
    const MIDDLE: &str = "r-01arz3ndektsv4rrffq69g5fb1";

    /// A run whose step another run carries out, and that run.
    async fn nested(log: &MemoryLog) -> (RunId, RunId, Box<dyn Ownership>) {
        let within = within();
        let (child, around) = (within.run.clone(), around(RUN, &within.run));
        let run = around.run.clone();
        drop(around.kept(log).await);
        (run, child, within.kept(log).await)
    }

    /// The only step of the run, of which nobody knows what became.
    fn unknown(report: &RunReport) {
        let caveats = report.caveats.iter().map(|caveat| (caveat.step.local(), caveat.what)).collect::<Vec<_>>();
        assert_eq!((report.state, caveats), (RunState::Cancelled, vec![("nest", CaveatKind::Unknown)]));
        assert_eq!(report.unknown, [id("nest")]);
    }

    #[tokio::test]
    async fn a_write_that_nobody_saw_end_in_a_run_within_is_unknown_in_the_run_around_it() {
        let log = MemoryLog::default();
        let (within, around) = (writing_within(), around(RUN, &CHILD.parse().unwrap()));
        let run = around.run.clone();
        drop((around.kept(&log).await, within.kept(&log).await));
        unknown(&host_of(&log).end(&run, "ann").await.unwrap());
        let run = Run::of(&log.read(&run, 0).await.unwrap()).unwrap();
        assert_eq!(
            (run.spent.turns, run.spent.calls),
            (1, 0),
            "the planner was asked within, and no call was reserved"
        );
    }

    #[tokio::test]
    async fn what_nobody_knows_is_told_through_every_run_around_it_though_only_one_of_them_is_ended() {
        let log = MemoryLog::default();
        let middle: RunId = MIDDLE.parse().unwrap();
        let (outer, between) = (around(RUN, &middle), around(MIDDLE, &CHILD.parse().unwrap()));
        let run = outer.run.clone();
        drop((outer.kept(&log).await, between.kept(&log).await, writing_within().kept(&log).await));
        let host = host_of(&log);
        unknown(&host.end(&middle, "ann").await.unwrap());
        unknown(&host.end(&run, "ann").await.unwrap());
        let run = Run::of(&log.read(&run, 0).await.unwrap()).unwrap();
        assert_eq!(run.spent.turns, 2, "of the run within, and of the one within that");
    }

    #[tokio::test]
    async fn a_run_within_that_had_succeeded_was_not_cancelled() {
        let log = MemoryLog::default();
        let (run, child, living) = nested(&log).await;
        drop(living);
        let host = host_of(&log);
        let mut within = Taken::new(&host.0.parts, &child).await.unwrap();
        within
            .append(vec![Fact::RunEnded { end: RunEnd::Succeeded { answer: None }, caveats: vec![] }], vec![])
            .await
            .unwrap();
        drop(within);
        let report = host.end(&run, "ann").await.unwrap();
        assert_eq!((report.state, report.caveats), (RunState::Cancelled, vec![]));
        assert!(matches!(
            Run::of(&log.read(&run, 0).await.unwrap()).unwrap().step(&id("nest")).unwrap().status,
            StepStatus::Succeeded { .. }
        ));
    }

    #[tokio::test]
    async fn where_a_run_within_cannot_be_taken_nothing_is_changed() {
        let log = MemoryLog::default();
        let (run, child, living) = nested(&log).await;
        let before = (log.read(&run, 0).await.unwrap(), log.read(&child, 0).await.unwrap());
        let host = host_of(&log);
        assert_eq!(host.end(&run, "ann").await.unwrap_err().kind, Kind::HostOwned);
        assert_eq!((log.read(&run, 0).await.unwrap(), log.read(&child, 0).await.unwrap()), before);
        assert_eq!(log.runs(9).await.unwrap().iter().filter(|entry| entry.owner.is_some()).count(), 1);

        drop(living);
        assert_eq!(host.end(&run, "ann").await.unwrap().state, RunState::Cancelled);
        assert_eq!(host.show(&child).await.unwrap().state, RunState::Cancelled);
    }

    #[tokio::test]
    async fn where_a_run_within_is_being_taken_back_nothing_is_changed() {
        let log = MemoryLog::default();
        let within = writing_within().fact(Fact::CancelRequested { by: "bob".into(), undo: true });
        let (run, child) = (RUN.parse().unwrap(), within.run.clone());
        drop((around(RUN, &child).kept(&log).await, within.kept(&log).await));
        let before = (log.read(&run, 0).await.unwrap(), log.read(&child, 0).await.unwrap());
        let failure = host_of(&log).end(&run, "ann").await.unwrap_err();
        assert_eq!(failure.kind, Kind::DataConflict);
        assert!(failure.message.contains(child.as_str()), "{failure:?}");
        assert_eq!((log.read(&run, 0).await.unwrap(), log.read(&child, 0).await.unwrap()), before);
        assert!(log.runs(9).await.unwrap().iter().all(|entry| entry.owner.is_none()), "both are let go");
    }

    /// A run with a write that nobody saw end, and whose tool can be asked about it.
    fn asked_about() -> Canned {
        let step = id("write");
        let planned = PlannedStep { has_reconcile: true, ..writing("write") };
        let left = Canned::new().plan(vec![planned]).ready(&step).started(&step, 1);
        left.fact(Fact::WriteBegun { step, attempt: 1 })
    }

    /// One in which a person is to say whether it may be asked, and did not in time.
    fn expired() -> Canned {
        let (of, step) = (id("write"), id("write").reconcile(1));
        let planned = PlannedStep {
            id: step.clone(),
            role: Role::Reconcile { of: of.clone() },
            effect: Effect::Read,
            ..writing("write")
        };
        let asking = asked_about().fact(Fact::StepUnknown { step: of.clone(), attempt: 1 });
        asking.fact(Fact::ReconcileBegun { of, step: planned }).ready(&step).fact(Fact::ApprovalRequested {
            step,
            binding: GENESIS,
            effect: Effect::Read,
            rule: "look-up".into(),
            expires: Timestamp(1),
        })
    }

    /// The run is ended, though a tool could be asked what became of its step.
    async fn ended_unasked(canned: Canned) -> (Host, RunId) {
        let run = canned.run.clone();
        let host = canned.host().await;
        let report = host.end(&run, "ann").await.unwrap();
        let unknown = Caveat { step: id("write"), what: CaveatKind::Unknown };
        assert_eq!((report.state, report.caveats), (RunState::Cancelled, vec![unknown]));
        (host, run)
    }

    /// Returns what was wanted in place of each event since the run was last claimed, where that is not what stands there; the
    /// end of the run is `end`, where one is given.
    async fn unwanted(host: &Host, run: &RunId, end: Option<Fact>) -> Vec<Vec<Command>> {
        let log = &*host.0.parts.log;
        let mut events = log.read(run, 0).await.unwrap();
        if let (Some(end), Some(last)) = (end, events.last_mut()) {
            last.fact = end;
        }
        let claimed = events.iter().rposition(|event| matches!(event.fact, Fact::RunClaimed { .. })).unwrap();
        let mut refold = Refold::of(&events[0]).unwrap();
        let mut unwanted = Vec::new();
        for (n, event) in events.iter().enumerate().skip(1) {
            if n == claimed {
                refold.expect(recovered(log, refold.run()).await.unwrap());
            }
            let wanted = refold.take(event).unwrap();
            unwanted.extend(wanted.filter(|_| n >= claimed));
        }
        unwanted
    }

    #[tokio::test]
    async fn a_run_whose_tool_is_not_asked_what_became_of_a_step_ends() {
        let (host, run) = ended_unasked(asked_about()).await;
        assert_eq!(unwanted(&host, &run, None).await, Vec::<Vec<Command>>::new());
    }

    #[tokio::test]
    async fn an_end_that_hides_what_nobody_knows_or_that_nobody_asked_for_is_not_wanted() {
        let (host, run) = ended_unasked(asked_about()).await;
        let cancelled = |by: &str| RunEnd::Cancelled { by: by.into() };
        let caveats = vec![Caveat { step: id("write"), what: CaveatKind::Unknown }];
        let forged = [
            Fact::RunEnded { end: cancelled("ann"), caveats: vec![] },
            Fact::RunEnded { end: cancelled("bob"), caveats: caveats.clone() },
            Fact::RunEnded { end: RunEnd::Failed { kind: Kind::ToolTrap, failure: GENESIS }, caveats },
        ];
        for end in forged {
            let wanted = unwanted(&host, &run, Some(end)).await;
            assert!(
                matches!(wanted.as_slice(), [wanted] if matches!(wanted[..], [Command::Reconcile { .. }])),
                "{wanted:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_run_in_which_nobody_let_a_tool_be_asked_in_time_ends() {
        let (host, run) = ended_unasked(expired()).await;
        assert_eq!(unwanted(&host, &run, None).await, Vec::<Vec<Command>>::new());
    }
}
