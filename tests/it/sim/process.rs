//! Processes that drive a run one after the other, until it has ended.

use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use cofferdam::clock::Clock;
use cofferdam::domain::{Budget, Failure, Json, Kind, PlanLimits, Principal, RunId};
use cofferdam::orchestrator::{Approve, Driver, Goal, Parts, PlannerOf, Run, SIGNALS_MAX, Start, Upstreams, Wait};
use cofferdam::planner::Planner;
use cofferdam::planner::workflow::WorkflowPlanner;
use cofferdam::policy::Policy;
use cofferdam::registry::{Catalog, Options as Reading, VerifiedComponent};
use cofferdam::store::{EventLog, Message};

use super::disk::{Disk, SimLog};
use super::fuse::{Blow, Fuse, Rng};
use super::person::Person;
use super::world::{SimRunner, World};

/// Processes that one run may take: more than crashes, suspensions and answers can ask for.
const PROCESSES_MAX: u32 = 200;

/// Components whose tools are played. `journeys` books as `bookings` does, with a service that honours no keys.
static COMPONENTS: LazyLock<Vec<Arc<VerifiedComponent>>> = LazyLock::new(|| {
    let read = |name: &str| std::fs::read(cofferdam_guests::component(name)).expect("the component is there");
    let component = |name: &str, bytes: Vec<u8>| {
        Arc::new(VerifiedComponent::new(bytes, Some(name), &Reading::default()).expect("the component is good"))
    };
    let mut components = ["bookings", "fetch", "notes", "text"].map(|name| component(name, read(name))).to_vec();
    components.push(component("journeys", renamed(&read("bookings"), b"bookings", b"journeys")));
    components
});

/// The same component under another name of the same length.
fn renamed(bytes: &[u8], from: &[u8; 8], to: &[u8; 8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let places: Vec<usize> =
        bytes.windows(from.len()).enumerate().filter(|(_, part)| part == from).map(|(at, _)| at).collect();
    places.into_iter().for_each(|at| bytes[at..at + to.len()].copy_from_slice(to));
    bytes
}

pub static CATALOG: LazyLock<Arc<Catalog>> =
    LazyLock::new(|| Arc::new(Catalog::new(COMPONENTS.clone()).expect("the components have different names")));

pub static POLICY: LazyLock<Arc<Policy>> = LazyLock::new(|| {
    let digest = |component: &str| {
        let tool = CATALOG.tools().find(|tool| tool.name().component() == component).expect("it is there");
        tool.digest().to_string()
    };
    let text = format!(
        r#"version = 0
[[rule]]
name = "compute"
why = "It touches nothing."
allow = ["text.*"]
[[rule]]
name = "look"
why = "It only looks."
allow = ["fetch.get"]
http = [{{ url = "https://f.test/*" }}]
[[rule]]
name = "send"
why = "The service honours keys."
allow = ["fetch.send"]
http = [{{ url = "https://f.test/*", methods = ["POST"], keyed = true }}]
lower = [{{ tool = "fetch.send", digest = "{fetch}", effect = "idempotent", why = "The service honours keys." }}]
approval = "none"
[[rule]]
name = "note"
why = "A line stays."
allow = ["notes.append"]
files = [{{ mount = "/notes", path = "notes", access = "read_write" }}]
approval = "none"
[[rule]]
name = "book"
why = "The service honours keys."
allow = ["bookings.book", "bookings.cancel"]
http = [{{ url = "https://b.test/*", methods = ["GET", "POST", "DELETE"], keyed = true }}]
env = {{ BOOKINGS_URL = "https://b.test" }}
approval = "none"
[[rule]]
name = "trip"
why = "The service honours no keys."
allow = ["journeys.book", "journeys.cancel"]
http = [{{ url = "https://t.test/*", methods = ["GET", "POST", "DELETE"] }}]
env = {{ BOOKINGS_URL = "https://t.test" }}
lower = [{{ tool = "journeys.cancel", digest = "{bookings}", effect = "idempotent", why = "What is cancelled stays so." }}]
approval = "none"
[[rule]]
name = "find"
why = "It only looks."
allow = ["bookings.find", "journeys.find"]
http = [{{ url = "https://b.test/*" }}, {{ url = "https://t.test/*" }}]
env = {{ BOOKINGS_URL = "https://b.test" }}
"#,
        fetch = digest("fetch"),
        bookings = digest("journeys"),
    );
    Arc::new(Policy::parse(&text, Path::new("/sim")).expect("the policy reads"))
});

/// What is simulated: the same for a seed, whatever crashes.
#[derive(Clone, Debug)]
pub struct Case {
    pub seed: u64,
    pub workflow: Json,
    pub budget: Budget,
    /// Whether a person is asked, or all was approved before.
    pub asks: bool,
    /// Whether the person rejects what the seed says.
    pub rejects: bool,
    pub cancelling: Option<Cancelling>,
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
            assert!(self.processes < PROCESSES_MAX, "{}: the run does not end", self.told());
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
                Some(Ok(_)) => self.person().act(&self.disk).await,
                Some(Err(failure)) => assert!(fuse.has_blown(), "{}: {failure:?}", self.told()),
            }
        }
        let Self { world, disk, refused, .. } = self;
        Simulated { world, disk, run, crashes: blown, points, refused }
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

    fn told(&self) -> String {
        format!("seed {}, process {}", self.case.seed, self.processes)
    }

    fn person(&self) -> Person {
        Person { seed: self.case.seed, rejects: self.case.rejects, world: self.world.clone() }
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
        let goal = Goal { text, workflow: Some(self.case.workflow.clone()), assert: Vec::new() };
        Start {
            run: run.clone(),
            goal,
            principal: Principal::default(),
            budget: self.case.budget.clone(),
            parent: None,
        }
    }

    fn driver(&self, fuse: &Arc<Fuse>) -> Driver {
        let planner_of: PlannerOf = Arc::new(|goal| {
            let workflow = goal.workflow.as_ref().expect("all goals have workflows");
            let planner = WorkflowPlanner::of_json(workflow).map_err(|e| Failure::new(Kind::DataConfig, e))?;
            Ok(Arc::new(planner) as Arc<dyn Planner>)
        });
        let planner = WorkflowPlanner::of_json(&self.case.workflow).expect("the workflow reads");
        let parts = Parts {
            log: Arc::new(SimLog { disk: self.disk.clone(), fuse: fuse.clone() }),
            runner: Arc::new(SimRunner { world: self.world.clone(), fuse: fuse.clone() }),
            catalog: CATALOG.clone(),
            policy: POLICY.clone(),
            clock: self.world.clock.clone(),
            plan_limits: PlanLimits::default(),
            owner: format!("process {}", self.processes),
            upstreams: Arc::new(Upstreams::default()),
            notifier: None,
            planner_of,
        };
        let approve = if self.case.asks { Approve::Ask } else { Approve::All { by: "ann".into() } };
        let (signals, _) = tokio::sync::broadcast::channel(SIGNALS_MAX);
        Driver { parts, planner: Arc::new(planner), wait: Wait::Never, approve, accept_tools: None, signals }
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
