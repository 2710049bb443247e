//! The real program is killed (`SIGKILL`) at random moments and resumed until its run ends, against a service that counts
//! what it did. Four plans: three bookings in three steps; the same where the last one is refused, so that the others are
//! cancelled; the same where a person is asked before the last one; and one call that sends three writes. At times a second
//! process wants the same run, and one or both are killed. Two policies: the service takes each key once, or nobody says so, and
//! then it does not.
//!
//! The moments are drawn from a seed, which is printed; the machine decides how far the program is by then.

use std::process::{Child, Stdio};

use cofferdam::clock::{Clock, SystemClock};
use cofferdam::domain::Suspension;
use cofferdam::host::RunState;
use cofferdam_kit::Bookings;
use serde_json::{Value, json};

use crate::cli::Shop;
use crate::guest::pause;
use crate::saga::{FORMS, Form, policy};

/// How long the service takes to answer, in milliseconds: so that some are killed while they wait.
const SERVICE_MS: u64 = 20;

/// The latest moment at which the first process is killed, in milliseconds: it takes about as long as a whole run.
const KILL_MS_MAX: u64 = 450;

/// Processes of one run that are killed at most.
const KILLS_MAX: u64 = 3;

/// Processes that one run may take to its end.
const PROCESSES_MAX: usize = 12;

/// Which plan is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Trip,
    /// The trip for which there is no car.
    InVain,
    /// The trip of which a person approves the last part, in a process that is killed as others are.
    Asked,
    /// Three writes in one call, of a tool that cannot be asked what became of it.
    Bulk,
}

const PLANS: [Plan; 4] = [Plan::Trip, Plan::InVain, Plan::Asked, Plan::Bulk];

/// Numbers from a seed (SplitMix64).
struct Draw(u64);

impl Draw {
    /// Returns a number below `below`.
    fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    }
}

/// When a process is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// So long after its start, in milliseconds.
    After(u64),
    /// So long after the service has had so many requests in all: around an effect.
    Request { count: usize, then_ms: u64 },
    /// So long after the service was first asked to cancel something.
    Undo { then_ms: u64 },
}

/// What one process is to meet.
#[derive(Clone, Copy, Debug, Default)]
struct Fate {
    /// When it is killed, if it is.
    moment: Option<Moment>,
    /// Whether another process wants the same run, and whether that is killed with it.
    rival: Option<bool>,
}

impl Moment {
    fn drawn(draw: &mut Draw, plan: Plan, seen: usize) -> Self {
        match draw.below(3) {
            0 if plan == Plan::InVain => Self::Undo { then_ms: draw.below(3 * SERVICE_MS) },
            0 | 1 if plan == Plan::Asked => Self::After(draw.below(KILL_MS_MAX / 4)),
            0 => Self::After(draw.below(KILL_MS_MAX)),
            _ => {
                let count = seen + 1 + usize::try_from(draw.below(2)).unwrap_or(0);
                Self::Request { count, then_ms: draw.below(2 * SERVICE_MS) }
            }
        }
    }
}

/// What the iterations of one case brought.
#[derive(Debug, Default)]
struct Tally {
    iterations: u32,
    /// Processes that were killed before they ended by themselves.
    kills: u32,
    /// Kills after which something was done, and not all.
    halfway: u32,
    /// Processes that wanted a run that another one had.
    rivals: u32,
    suspended: u32,
}

struct Trial {
    plan: Plan,
    form: Form,
    service: Bookings,
    shop: Shop,
    what: String,
}

impl Trial {
    fn new(plan: Plan, form: Form, what: String) -> Self {
        let (service, shop) = (Bookings::start(), Shop::new());
        service.slow(SERVICE_MS);
        if form == Form::Unkeyed {
            // A repeat would be a second booking.
            service.forget_keys();
        }
        if plan == Plan::InVain {
            service.fail("car", 422, u32::MAX);
        }
        let port = service.port();
        let entry = |name: &str| format!("{name} = {:?}\n", cofferdam_guests::component(name));
        let tools: String = ["bookings", "web"].map(entry).concat();
        shop.write("cofferdam.toml", &format!("version = 0\n[tools]\n{tools}[budget]\nparallel_max = 1\n"));
        let keyed = if form == Form::Keyed { ", keyed = true" } else { "" };
        let bulk = format!(
            "\n[[rule]]\nname = 'bulk'\nwhy = 'A test.'\nallow = ['web.post-all']\napproval = 'none'\nhttp = [{{ url = 'http://127.0.0.1:{port}/*', methods = ['POST'], addresses = ['127.0.0.1/32']{keyed} }}]\n"
        );
        shop.write("policy.toml", &(policy(form, port) + &bulk));
        let kinds = ["flight", "hotel", "car"];
        let urls = kinds.map(|kind| format!("http://127.0.0.1:{port}/{kind}s?what=Oslo"));
        shop.write("plan.toml", &match plan {
            Plan::Trip | Plan::InVain => crate::saga::trip(&[]),
            Plan::Asked => crate::saga::trip(&[("car", "approval = true")]),
            Plan::Bulk => format!("workflow = 'bulk'\ngoal = 'Book all'\n[[steps]]\nid = 'all'\ntool = 'web.post-all'\nargs = {{ urls = {urls:?} }}\n"),
        });
        Self { plan, form, service, shop, what }
    }

    /// Where the run is by its log; `None` where there is none.
    fn state(&self) -> Option<Value> {
        let shown = self.shop.run(&["show", "last", "--json"]);
        match shown.code {
            0 => Some(shown.json()["state"].clone()),
            2 => None,
            code => panic!("{}: show ends with {code}: {}", self.what, shown.err),
        }
    }

    /// Starts the run, or goes on with it.
    fn args(&self, is_there: bool) -> &'static [&'static str] {
        match (is_there, self.plan) {
            (false, _) => &["--no-build", "run", "plan.toml"],
            (true, Plan::Asked) => &["--no-build", "resume", "last"],
            (true, _) => &["--no-build", "resume", "last", "--yes"],
        }
    }

    fn spawned(&self, args: &[&str]) -> Child {
        let mut command = self.shop.command(args);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts")
    }

    /// Waits until a process is to be killed, or has ended by itself.
    async fn wait(&self, child: &mut Child, moment: Moment) {
        let mut is_alive = || child.try_wait().expect("it can be asked").is_none();
        let asked = |method: &str| self.service.log().iter().filter(|asked| asked.method == method).count();
        let then_ms = match moment {
            Moment::After(ms) => ms,
            Moment::Request { count, then_ms } => {
                while self.service.log().len() < count && is_alive() {
                    pause(1).await;
                }
                then_ms
            }
            Moment::Undo { then_ms } => {
                while asked("DELETE") == 0 && is_alive() {
                    pause(1).await;
                }
                then_ms
            }
        };
        pause(then_ms).await;
    }

    /// Lets a process run to its fate. Returns whether it was killed.
    async fn process(&self, args: &[&str], fate: Fate) -> bool {
        let mut child = self.spawned(args);
        let mut rival = fate.rival.map(|is_killed| (self.spawned(args), is_killed));
        if let Some(moment) = fate.moment {
            self.wait(&mut child, moment).await;
        }
        let was_alive = fate.moment.is_some() && child.try_wait().expect("it can be asked").is_none();
        if was_alive {
            child.kill().expect("it is killed");
        }
        if let Some((rival, true)) = &mut rival
            && was_alive
        {
            // It may have ended by itself a moment ago.
            let _ = rival.kill();
        }
        let status = child.wait().expect("it ends");
        if let Some((mut rival, _)) = rival {
            let code = rival.wait().expect("it ends").code();
            let is_told = code.is_none_or(|code| [0, 1, 2, 5, 8].contains(&code));
            assert!(is_told, "{}: the second process ends with {code:?}", self.what);
        }
        was_alive && status.code().is_none()
    }

    fn is_halfway(&self) -> bool {
        match self.plan {
            Plan::InVain => self.service.cancelled().len() == 1,
            Plan::Trip | Plan::Asked | Plan::Bulk => (1..3).contains(&self.service.bookings().len()),
        }
    }

    /// Kills and resumes until the run has ended, or waits for a person; returns where it is then.
    async fn to_the_end(&self, draw: &mut Draw, tally: &mut Tally) -> Value {
        let mut kills_left = 1 + draw.below(KILLS_MAX);
        for _ in 0..PROCESSES_MAX {
            let state = self.state();
            let is_asking = state.as_ref() == Some(&suspended(Suspension::Approval));
            let is_over = |state: &&Value| !matches!(state.as_str(), Some("planning" | "executing" | "undoing"));
            if let Some(state) = state.as_ref().filter(is_over).filter(|_| !is_asking) {
                return state.clone();
            }
            assert!(state.is_some() || self.service.log().is_empty(), "{}: an effect without a log", self.what);
            let mut fate = || {
                let moment = (kills_left > 0).then(|| Moment::drawn(draw, self.plan, self.service.log().len()));
                kills_left = kills_left.saturating_sub(1);
                let rival = (state.is_some() && draw.below(3) == 0).then(|| draw.below(2) == 0);
                Fate { moment, rival }
            };
            if is_asking {
                let fate = Fate { rival: None, ..fate() };
                tally.kills += u32::from(self.process(&["--no-build", "approve", "last", "car"], fate).await);
            }
            let fate = fate();
            tally.rivals += u32::from(fate.rival.is_some());
            if self.process(self.args(state.is_some()), fate).await {
                tally.kills += 1;
                tally.halfway += u32::from(self.is_halfway());
            }
        }
        panic!("{}: {PROCESSES_MAX} processes do not bring it to an end: {:?}", self.what, self.state());
    }

    /// What must hold at the end, whenever it was killed.
    fn check(&self, state: &Value, tally: &mut Tally) {
        let Self { what, service, .. } = self;
        let effects = service.effects();
        assert!(effects.iter().all(|(key, times)| !key.is_empty() && *times == 1), "{what}: {effects:?}");
        let booked: Vec<String> = service.bookings().into_iter().map(|booking| booking.id).collect();
        let (all, cancelled): (&[&str], &[&str]) = match self.plan {
            Plan::Trip | Plan::Asked | Plan::Bulk => (&["flight-1", "hotel-2", "car-3"], &[]),
            Plan::InVain => (&["flight-1", "hotel-2"], &["hotel-2", "flight-1"]),
        };
        if *state == suspended(Suspension::Reconcile) {
            assert_ne!(self.form, Form::Keyed, "{what}: a key makes a repeat safe");
            assert!(begins(all, &booked) && begins(cancelled, &service.cancelled()), "{what}: {booked:?}");
            tally.suspended += 1;
        } else {
            let end = if self.plan == Plan::InVain { "failed" } else { "succeeded" };
            assert_eq!(*state, json!(end), "{what}");
            assert_eq!(booked, all, "{what}: each is booked once");
            assert_eq!(service.cancelled(), cancelled, "{what}: the last first");
        }
        if self.form == Form::Unkeyed {
            let log = service.log();
            let cancels = log.iter().filter(|asked| asked.method == "DELETE").count();
            assert!(cancels <= cancelled.len(), "{what}: {log:?}: nothing is repeated on a guess");
        }
        self.shop.run(&["verify", "last"]).ends(0);
    }
}

fn begins(all: &[&str], with: &[String]) -> bool {
    all.len() >= with.len() && all.iter().zip(with).all(|(one, other)| one == other)
}

/// How `show` writes that a run waits for a person.
fn suspended(why: Suspension) -> Value {
    serde_json::to_value(RunState::Suspended(why)).expect("it is JSON")
}

async fn killed(plan: Plan, form: Form, iterations: u32, seed: u64) -> Tally {
    let mut tally = Tally::default();
    for n in 0..u64::from(iterations) {
        let seed = seed.wrapping_add(n);
        let trial = Trial::new(plan, form, format!("{plan:?} {form:?} seed {seed}"));
        let state = trial.to_the_end(&mut Draw(seed), &mut tally).await;
        trial.check(&state, &mut tally);
        tally.iterations += 1;
    }
    let share = 100 * tally.suspended / tally.iterations.max(1);
    println!("{plan:?} {form:?} from seed {seed}: {tally:?}, {share} % left to a person");
    tally
}

async fn crash_loop(iterations_of_each: u32) {
    let mut bytes = [0; 8];
    SystemClock::default().random(&mut bytes).expect("the machine has randomness");
    let (mut kills, mut halfway, mut rivals) = (0, 0, 0);
    for (plan, form) in PLANS.into_iter().flat_map(|plan| FORMS.map(|form| (plan, form))) {
        let tally = killed(plan, form, iterations_of_each, u64::from_le_bytes(bytes)).await;
        assert_eq!(tally.iterations, iterations_of_each);
        (kills, halfway, rivals) = (kills + tally.kills, halfway + tally.halfway, rivals + tally.rivals);
    }
    // Otherwise the moments were badly chosen, and the test has shown little.
    let iterations = iterations_of_each * u32::try_from(PLANS.len() * FORMS.len()).expect("they are few");
    let is_tried = kills >= iterations && halfway >= iterations / 8 && rivals >= iterations / 24;
    assert!(is_tried, "{iterations} iterations: {kills} kills, {halfway} halfway, {rivals} rivals");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_is_killed_24_times_over_and_books_nothing_twice() {
    crash_loop(3).await;
}

/// `cargo test -p cofferdam --test it crashloop -- --ignored --nocapture` (a few minutes).
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it takes minutes"]
async fn the_program_is_killed_240_times_over_and_books_nothing_twice() {
    crash_loop(30).await;
}
