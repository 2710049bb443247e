//! Processes that drive a run one after the other, until it has ended.

use std::sync::Arc;
use std::time::Duration;

use cofferdam::clock::Clock;
use cofferdam::domain::{
    Budget, Event, Fact, Failure, Json, Kind, PlanLimits, Principal, Role, RunId, Seq, StepId, Suspension,
};
use cofferdam::orchestrator::{
    Approve, Driver, Goal, Parts, PlannerOf, Run, RunStatus, SIGNALS_MAX, Start, Step, StepStatus, Upstreams, Wait,
};
use cofferdam::planner::Planner;
use cofferdam::planner::workflow::WorkflowPlanner;
use cofferdam::store::{EventLog, Message};

use super::disk::{Disk, SimLog};
use super::fuse::{Blow, Fuse, Rng};
use super::guest::SimRunner;
use super::notifier::SimNotifier;
use super::person::Person;
use super::planner::{SimPlanner, Turn, routes};
use super::tools::{CATALOG, POLICY};
use super::world::World;

/// Processes that one run may take: more than crashes, suspensions and answers can ask for.
const PROCESSES_MAX: u32 = 200;

/// Events of each run that are shown where one does not end.
const LINES_MAX: usize = 40;

/// Times that somebody is tried to be told before that is given up.
const NOTIFY_ATTEMPTS: u32 = 3;

/// What is simulated: the same for a seed, whatever crashes.
#[derive(Clone, Debug)]
pub struct Case {
    pub seed: u64,
    pub workflow: Json,
    /// What a planner says that goes on; empty where the workflow is the plan.
    pub turns: Vec<Turn>,
    pub budget: Budget,
    /// Whether a person is asked, or all was approved before.
    pub asks: bool,
    /// Whether the person rejects, changes or leaves alone what the seed says.
    pub is_choosy: bool,
    pub cancelling: Option<Cancelling>,
    /// Whether the clock of the machine is set while nobody looks.
    pub has_jumps: bool,
    /// Whether all requests go to one server.
    pub is_shared: bool,
}

/// When a person wants the run to stop.
#[derive(Clone, Copy, Debug)]
pub struct Cancelling {
    pub after_ms: u64,
    pub undo: bool,
}

/// When processes end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crashes {
    Never,
    /// The first process, at this point.
    Once(u64, Blow),
    /// As the seed says, so often at most.
    Random(u32),
}

/// What a simulation came to.
pub struct Simulated {
    pub world: Arc<World>,
    pub disk: Arc<Disk>,
    pub run: RunId,
    pub crashes: u32,
    /// Points that the first process passed.
    pub points: u64,
    /// Processes that wanted a run that was driven.
    pub refused: u32,
    /// Whether the clock of the machine was set meanwhile.
    pub has_jumps: bool,
    /// Whether all requests went to one server.
    pub is_shared: bool,
}

/// One world, its disk and its luck.
struct Simulation<'a> {
    case: &'a Case,
    world: Arc<World>,
    disk: Arc<Disk>,
    luck: Rng,
    processes: u32,
    refused: u32,
}

/// Drives the run of a case to its end, through all crashes.
pub async fn simulate(case: &Case, crashes: Crashes) -> Simulated {
    let salt = match crashes {
        Crashes::Never => 0,
        Crashes::Once(at, _) => at,
        Crashes::Random(_) => u64::MAX,
    };
    let world = Arc::new(World::new(case.seed ^ salt.rotate_left(17)));
    let luck = Rng::new(case.seed.rotate_left(32) ^ salt);
    let simulation = Simulation { case, world, disk: Arc::default(), luck, processes: 0, refused: 0 };
    simulation.driven_to_end(crashes).await
}

impl Simulation<'_> {
    async fn driven_to_end(mut self, crashes: Crashes) -> Simulated {
        let (mut points, mut blown) = (0, 0);
        let mut run = self.run_id(0);
        self.cancel_later(&run);
        loop {
            if self.processes >= PROCESSES_MAX {
                panic!("{}: the run does not end:\n{}", self.told(), self.last_lines().await);
            }
            if let Ok(events) = self.disk.log().read(&run, 0).await {
                match Run::of(&events) {
                    Ok(run) if run.is_ended() => break,
                    Ok(_) => {}
                    // Its process died before there was anything to go on with: nobody was told of it.
                    Err(_) => run = self.run_id(self.processes),
                }
            }
            let fuse = Arc::new(self.fuse(crashes, blown));
            let ended = self.process(&run, &fuse).await;
            points = if points == 0 { fuse.passed() } else { points };
            self.gone(&fuse).await;
            blown += u32::from(fuse.has_blown());
            match ended {
                None => {}
                Some(Ok(driven)) if driven.is_ended() => {}
                Some(Ok(_)) => {
                    self.somebody_knows().await;
                    self.person().act(&self.disk).await;
                }
                Some(Err(failure)) => assert!(fuse.has_blown(), "{}: {failure:?}", self.told()),
            }
        }
        let Case { has_jumps, is_shared, .. } = *self.case;
        let Self { world, disk, refused, .. } = self;
        Simulated { world, disk, run, crashes: blown, points, refused, has_jumps, is_shared }
    }

    /// Has a person cancel the run after a while, if it has begun and not ended by then.
    fn cancel_later(&self, run: &RunId) {
        let Some(Cancelling { after_ms, undo }) = self.case.cancelling else { return };
        let (clock, disk, run) = (self.world.clock.clone(), self.disk.clone(), run.clone());
        tokio::spawn(async move {
            clock.sleep(Duration::from_millis(after_ms)).await;
            if disk.log().read(&run, 0).await.is_ok() {
                disk.send(&run, Message::Cancel { by: "ann".into(), undo }).await;
            }
        });
    }

    /// Whoever is to be told of each run that waits for a person was told, or could not be reached.
    async fn somebody_knows(&self) {
        let log = self.disk.log();
        for entry in log.runs(usize::MAX).await.expect("the log is read") {
            let events = log.read(&entry.run, 0).await.expect("the log is read");
            let Ok(run) = Run::of(&events) else { continue };
            let RunStatus::Suspended(why) = run.status else { continue };
            let is_it = |fact: &Fact| *fact == Fact::RunSuspended { why };
            let Some(last) = events.iter().rfind(|event| is_it(&event.fact)) else { continue };
            let since = waits_since(&run, why, &events);
            let heard: Vec<_> =
                self.world.notices().into_iter().filter(|told| told.run == run.id && told.why == why).collect();
            let is_heard = since.iter().all(|(step, seq)| {
                heard.iter().any(|told| told.seq >= *seq && step.as_ref().is_none_or(|step| told.steps.contains(step)))
            });
            let is_given_up = self.world.unheard(&run.id, last.seq) >= NOTIFY_ATTEMPTS;
            let is_told = why == Suspension::Timer || is_heard || is_given_up;
            if !is_told {
                let lines = self.last_lines().await;
                panic!("{}: nobody was told that {} waits: {why:?}\n{lines}", self.told(), run.id);
            }
        }
    }

    /// The last events of all runs, for whoever looks for the place.
    async fn last_lines(&self) -> String {
        let (log, mut lines) = (self.disk.log(), Vec::new());
        for entry in log.runs(usize::MAX).await.expect("the log is read") {
            let events = log.read(&entry.run, 0).await.expect("the log is read");
            let last = events.iter().rev().take(LINES_MAX).rev();
            lines.extend(last.map(|event| format!("{} {} {:?}", event.run, event.seq, event.fact)));
        }
        lines.join("\n")
    }

    fn told(&self) -> String {
        format!("seed {}, process {}", self.case.seed, self.processes)
    }

    fn person(&self) -> Person {
        Person { seed: self.case.seed, is_choosy: self.case.is_choosy, world: self.world.clone() }
    }

    fn run_id(&self, n: u32) -> RunId {
        RunId::from_ulid(&format!("{:026}", self.case.seed % 1_000_000_000 * 1_000 + u64::from(n)))
    }

    fn fuse(&self, crashes: Crashes, blown: u32) -> Fuse {
        match crashes {
            Crashes::Once(at, how) if blown == 0 => Fuse::at(at, how),
            Crashes::Random(times_max) if blown < times_max => {
                let how = if self.luck.once_in(5) { Blow::DiskFull } else { Blow::Dies };
                let span = [8, 40, 160][usize::try_from(self.luck.below(3)).unwrap_or(0)];
                Fuse::at(1 + self.luck.below(span), how)
            }
            _ => Fuse::at(0, Blow::Dies),
        }
    }

    /// One process from its start to its end; `None` where it died.
    async fn process(&mut self, run: &RunId, fuse: &Arc<Fuse>) -> Option<Result<Run, Failure>> {
        self.processes += 1;
        if self.case.has_jumps {
            self.world.clock.jump(&self.luck);
        }
        let has_begun = self.disk.log().read(run, 0).await.is_ok();
        let driver = self.driver(fuse);
        if !has_begun {
            return lived(fuse, driver.start(self.start(run))).await;
        }
        if !self.luck.once_in(4) {
            return lived(fuse, driver.resume(run)).await;
        }
        // Another process wants the same run at the same time.
        let other = self.driver(&Arc::new(Fuse::at(0, Blow::Dies)));
        let (ended, refused) = tokio::join!(biased; lived(fuse, driver.resume(run)), other.resume(run));
        match refused {
            Err(failure) if failure.kind == Kind::HostOwned => self.refused += 1,
            // The first one came to its end before it had the run.
            other if fuse.has_blown() => return Some(other),
            other => panic!("{}: two processes drove one run: {other:?}", self.told()),
        }
        ended
    }

    /// Waits until all that a process held is freed; and loses what a dead one had not synced.
    async fn gone(&self, fuse: &Fuse) {
        for _ in 0..100 {
            let runs = self.disk.log().runs(usize::MAX).await.expect("the log is read");
            if runs.iter().all(|run| run.owner.is_none()) {
                break;
            }
            tokio::task::yield_now().await;
        }
        if fuse.has_blown() {
            self.disk.crash(&self.luck).await;
        }
        let runs = self.disk.log().runs(usize::MAX).await.expect("the log is read");
        assert!(runs.iter().all(|run| run.owner.is_none()), "{}: a run is still owned: {runs:?}", self.told());
    }

    fn start(&self, run: &RunId) -> Start {
        let text = self.case.workflow["goal"].as_str().unwrap_or_default().to_owned();
        let workflow = self.case.turns.is_empty().then(|| self.case.workflow.clone());
        let goal = Goal { text, workflow, ..Goal::default() };
        Start {
            run: run.clone(),
            goal,
            principal: Principal::default(),
            budget: self.case.budget.clone(),
            parent: None,
            trace: None,
        }
    }

    fn driver(&self, fuse: &Arc<Fuse>) -> Driver {
        let planner_of: PlannerOf = Arc::new(|goal| {
            let workflow = goal.workflow.as_ref().expect("all goals have workflows");
            let planner = WorkflowPlanner::of_json(workflow).map_err(|e| Failure::new(Kind::DataConfig, e))?;
            Ok(Arc::new(planner) as Arc<dyn Planner>)
        });
        let planner: Arc<dyn Planner> = if self.case.turns.is_empty() {
            Arc::new(WorkflowPlanner::of_json(&self.case.workflow).expect("the workflow reads"))
        } else {
            Arc::new(SimPlanner { turns: self.case.turns.clone(), routes: routes(), fuse: fuse.clone() })
        };
        let (world, process) = (self.world.clone(), self.processes);
        let parts = Parts {
            log: Arc::new(SimLog { disk: self.disk.clone(), fuse: fuse.clone(), world: world.clone() }),
            runner: Arc::new(SimRunner { world: world.clone(), fuse: fuse.clone(), process }),
            catalog: CATALOG.clone(),
            policy: POLICY.clone(),
            clock: self.world.clock.clone(),
            pack: cofferdam::planner::PackOptions::default(),
            plan_limits: PlanLimits::default(),
            owner: format!("process {}", self.processes),
            upstreams: Arc::new(Upstreams::default()),
            notifier: Some(Arc::new(SimNotifier { world, fuse: fuse.clone() })),
            planner_of,
        };
        let approve = if self.case.asks { Approve::Ask } else { Approve::All { by: "ann".into() } };
        let (signals, _) = tokio::sync::broadcast::channel(SIGNALS_MAX);
        Driver { parts, planner, wait: Wait::Never, approve, accept_tools: None, signals }
    }
}

/// Drives until it ends, or until its process is gone.
async fn lived(fuse: &Fuse, driven: impl Future<Output = Result<Run, Failure>>) -> Option<Result<Run, Failure>> {
    tokio::select! {
        biased;
        () = fuse.died() => None,
        ended = driven => Some(ended),
    }
}

/// What a run waits for, and the event since which it does: its own steps, or else those that runs within it carry out, or
/// else the run itself.
fn waits_since(run: &Run, why: Suspension, events: &[Event]) -> Vec<(Option<StepId>, Seq)> {
    let is_own = |step: &&Step| match &step.status {
        StepStatus::AwaitingApproval { .. } => why == Suspension::Approval,
        StepStatus::Unknown => why == Suspension::Reconcile,
        status => {
            let is_stuck = matches!(step.planned.role, Role::Undo { .. }) && status.is_failed() && !step.is_given_up;
            is_stuck && why == Suspension::Stuck
        }
    };
    let of = |is_it: &dyn Fn(&Event) -> bool| events.iter().rfind(|event| is_it(event)).map_or(0, |event| event.seq);
    let mut steps: Vec<&Step> = run.in_order().filter(is_own).collect();
    if steps.is_empty() {
        steps = run.in_order().filter(|step| step.status.is_running()).collect();
    }
    if steps.is_empty() {
        return vec![(None, of(&|event| matches!(event.fact, Fact::Asked { .. })))];
    }
    let since = |step: &Step| match &step.status {
        // Whoever asks again for the same call asks nothing new.
        StepStatus::AwaitingApproval { binding, .. } => {
            let is_other = |event: &Event| {
                let is_same = matches!(&event.fact, Fact::ApprovalRequested { binding: asked, .. } if asked == binding);
                event.fact.step() == Some(step.id()) && !is_same
            };
            of(&is_other)
        }
        _ => of(&|event| event.fact.step() == Some(step.id())),
    };
    steps.into_iter().map(|step| (Some(step.id().clone()), since(step))).collect()
}
