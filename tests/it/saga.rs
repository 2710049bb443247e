//! A trip of three bookings that belong together, with the real tool, the real driver and a service that counts: whatever
//! fails, nothing is booked twice, and what was booked in vain is cancelled, the last first. Both forms of the policy of
//! `examples/saga` are tried: with a service that takes each key once, and with one of which nobody says so.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use async_trait::async_trait;
use cofferdam::clock::{Clock, SystemClock};
use cofferdam::domain::{
    Direction, Fact, Failure, Json, Kind, RunId, StepId, Suspension, Timestamp, TraceId, idempotency_key,
};
use cofferdam::host::{Choice, Host, Message, Notice, Notifier, RunReport, RunState, Settle, StartOptions};
use cofferdam::policy::Policy;
use cofferdam::sandbox::{Runner, WasmRunner};
use cofferdam::store::sqlite::{SqliteLog, SqliteOptions};
use cofferdam_kit::web::Reply;
use cofferdam_kit::{Bookings, WebServer};
use serde_json::json;
use tempfile::TempDir;

use crate::cli::Shop;
use crate::guest::pause;
use crate::runs::{approved, goal};

/// One sandbox for all trips: the tool is compiled once.
static RUNNER: LazyLock<Arc<WasmRunner>> = LazyLock::new(|| Arc::new(crate::guest::new_runner()));

/// What the policy says of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// It takes each key once: a booking is `idempotent`.
    Keyed,
    /// Nothing: a booking is `once`.
    Unkeyed,
}

pub const FORMS: [Form; 2] = [Form::Keyed, Form::Unkeyed];

pub fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/saga")
}

fn example_text(name: &str) -> String {
    std::fs::read_to_string(example().join(name)).expect("the example is there")
}

/// The policy of the example, for a service on another port.
pub fn policy(form: Form, port: u16) -> String {
    let text = example_text("policy.toml").replace(":8123", &format!(":{port}"));
    match form {
        Form::Keyed => text,
        Form::Unkeyed => text.replace(", keyed = true", ""),
    }
}

/// The workflow of the example, with lines added to its steps. Attempts follow each other quickly.
pub fn trip(more: &[(&str, &str)]) -> String {
    let mut text = example_text("trip.toml");
    for step in ["flight", "hotel", "car"] {
        let id = format!("id = \"{step}\"\n");
        let added = more.iter().filter(|(name, _)| *name == step).map(|(_, line)| format!("{line}\n"));
        let retry = "retry = { attempts_max = 3, backoff_ms = 20, backoff_ms_max = 40 }\n".to_owned();
        let lines: String = std::iter::once(retry).chain(added).collect();
        assert!(text.contains(&id), "the example has a step `{step}`");
        text = text.replace(&id, &format!("{id}{lines}"));
    }
    text
}

/// The machine's time, moved on as far as a test wants.
#[derive(Default)]
pub struct Ahead {
    clock: SystemClock,
    ms: AtomicU64,
}

impl Ahead {
    pub fn move_ms(&self, ms: u64) {
        self.ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        self.clock.now().plus_ms(self.ms.load(Ordering::SeqCst))
    }
    fn monotonic_ms(&self) -> u64 {
        self.clock.monotonic_ms() + self.ms.load(Ordering::SeqCst)
    }
    fn random(&self, bytes: &mut [u8]) -> Result<(), String> {
        self.clock.random(bytes)
    }
    fn sleep(&self, duration: std::time::Duration) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.clock.sleep(duration)
    }
}

/// Whoever is told that a run waits.
#[derive(Default)]
struct Heard(Mutex<Vec<Notice>>);

#[async_trait]
impl Notifier for Heard {
    async fn notify(&self, notice: &Notice) -> Result<(), Failure> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(notice.clone());
        Ok(())
    }
}

/// A service, a log of its own, and a host between them.
pub struct Agency {
    pub service: Bookings,
    pub host: Host,
    pub clock: Arc<Ahead>,
    heard: Arc<Heard>,
    _folder: TempDir,
}

impl Agency {
    pub fn new(form: Form) -> Self {
        Self::with(|port| policy(form, port))
    }

    /// With a policy made for the service's port.
    pub fn with(policy: impl FnOnce(u16) -> String) -> Self {
        let (service, folder) = (Bookings::start(), TempDir::new().expect("a directory"));
        let policy = Policy::parse(&policy(service.port()), folder.path()).expect("the policy reads");
        let clock = Arc::new(Ahead::default());
        let log = SqliteLog::open(&folder.path().join("state"), SqliteOptions::default(), clock.clone());
        let (heard, runner): (Arc<Heard>, Arc<dyn Runner>) = (Arc::default(), RUNNER.clone());
        let builder = Host::builder().event_log(Arc::new(log.expect("the log opens"))).runner(runner).policy(policy);
        let builder = ["bookings", "fetch", "text"]
            .into_iter()
            .fold(builder, |builder, name| builder.tool(name, cofferdam_guests::component(name)));
        let host = builder.clock(clock.clone()).notifier(heard.clone()).build().expect("the host is made");
        Self { service, host, clock, heard, _folder: folder }
    }

    pub async fn book(&self, flow: &str) -> RunReport {
        self.start(flow, approved()).await
    }

    async fn start(&self, flow: &str, options: StartOptions) -> RunReport {
        self.host.start(goal(flow), options).await.expect("it starts").finished().await.expect("it is driven")
    }

    pub async fn resume(&self, run: &RunId) -> RunReport {
        self.go_on(run, approved()).await
    }

    async fn go_on(&self, run: &RunId, options: StartOptions) -> RunReport {
        self.host.resume(run, options).await.expect("it goes on").finished().await.expect("it is driven")
    }

    /// Says what became of a step, and goes on.
    async fn settled(&self, run: &RunId, step: &str, settle: Settle) -> RunReport {
        let message = Message::Settle { step: id(step), settle, by: "ann".into() };
        self.host.send(run, message).await.expect("it is told");
        self.resume(run).await
    }

    fn heard(&self) -> Vec<(Suspension, Vec<StepId>)> {
        let heard = self.heard.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.iter().map(|notice| (notice.why, notice.steps.clone())).collect()
    }

    /// Nothing happened twice under one key, and the log is whole.
    pub async fn check_effects(&self, report: &RunReport, case: &str) {
        let effects = self.service.effects();
        assert!(effects.iter().all(|(key, times)| !key.is_empty() && *times == 1), "{case}: {effects:?}");
        self.host.verify(&report.run).await.unwrap_or_else(|e| panic!("{case}: {e}"));
        let replayed = self.host.replay(&report.run, &BTreeMap::new()).await.unwrap_or_else(|e| panic!("{case}: {e}"));
        assert!(replayed.is_same(), "{case}: {replayed:#?}");
    }

    /// How many requests of this method there were for a kind.
    fn requests(&self, method: &str, kind: &str) -> usize {
        let log = self.service.log();
        log.iter().filter(|asked| asked.method == method && asked.target.starts_with(&format!("/{kind}s"))).count()
    }

    /// The keys of the requests of this method for a kind, in order.
    fn keys(&self, method: &str, kind: &str) -> Vec<String> {
        let log = self.service.log();
        let of_kind = |target: &str| target.starts_with(&format!("/{kind}s"));
        log.into_iter()
            .filter(|asked| asked.method == method && of_kind(&asked.target))
            .map(|asked| asked.key)
            .collect()
    }
}

/// What a person says that a cancellation brought.
fn cancelled_by_hand(kind: &str) -> String {
    json!({"id": "x-1", "kind": kind, "what": "x", "is_cancelled": true}).to_string()
}

fn id(step: &str) -> StepId {
    step.parse().expect("a step")
}

fn status(report: &RunReport, step: &str) -> String {
    let found = report.steps.iter().find(|told| told.step == id(step));
    found.unwrap_or_else(|| panic!("no `{step}`: {report:#?}")).status.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trip_without_a_car_leaves_nothing_booked() {
    for form in FORMS {
        let agency = Agency::new(form);
        agency.service.fail("car", 422, 1);
        let report = agency.book(&trip(&[])).await;
        assert_eq!(report.state, RunState::Failed, "{form:?}: {report:#?}");
        assert_eq!(report.failure.as_ref().map(|failure| failure.kind), Some(Kind::NetworkHttp4xx), "{form:?}");
        assert_eq!(agency.service.cancelled(), ["hotel-2", "flight-1"], "{form:?}: the last first");
        assert_eq!(agency.service.standing(), [""; 0], "{form:?}");
        for (step, status_of) in [("t1.flight", "undone"), ("t1.hotel", "undone"), ("t1.car", "failed")] {
            assert_eq!(status(&report, step), status_of, "{form:?}");
        }
        agency.check_effects(&report, &format!("{form:?}")).await;
    }
}

/// In which way a booking goes wrong.
#[derive(Clone, Copy, Debug)]
enum Ill {
    Refused,
    DownForEver,
    Lost,
    Late,
}

/// How often a booking is asked for that goes wrong, and whether it is there in the end.
fn expected(ill: Ill, form: Form) -> (usize, bool) {
    match (ill, form) {
        (Ill::Refused, _) => (1, false),
        // Asked again under the same key, or after a look found nothing.
        (Ill::DownForEver, _) => (3, false),
        // Asked again under the same key, or found.
        (Ill::Lost, Form::Keyed) => (2, true),
        (Ill::Late, Form::Keyed) => (3, true),
        (Ill::Lost | Ill::Late, Form::Unkeyed) => (1, true),
    }
}

async fn goes_wrong(form: Form, kind: &str, ill: Ill) {
    let case = format!("{form:?} {kind} {ill:?}");
    let agency = Agency::new(form);
    let mut more = Vec::new();
    match ill {
        Ill::Refused => agency.service.fail(kind, 422, u32::MAX),
        Ill::DownForEver => agency.service.fail(kind, 500, u32::MAX),
        Ill::Lost => agency.service.drop_after_commit_of(kind, 1),
        Ill::Late => {
            agency.service.slow(1_200);
            more.push((kind, "timeout_ms = 600"));
        }
    }
    let report = agency.book(&trip(&more)).await;
    let (requests, is_booked) = expected(ill, form);
    assert_eq!(agency.requests("POST", kind), requests, "{case}: {report:#?}");
    let mut keys = agency.keys("POST", kind);
    keys.dedup();
    assert_eq!(keys.len(), 1, "{case}: one key");
    let kinds = ["flight", "hotel", "car"];
    let before = kinds.iter().position(|other| *other == kind).expect("a kind");
    if is_booked {
        assert_eq!(report.state, RunState::Succeeded, "{case}: {report:#?}");
        assert_eq!(agency.service.standing(), ["flight-1", "hotel-2", "car-3"], "{case}");
        assert_eq!(report.answer, Some(json!(["flight-1", "hotel-2", "car-3"])), "{case}");
    } else {
        assert_eq!(report.state, RunState::Failed, "{case}: {report:#?}");
        let in_vain = agency.service.bookings();
        let cancelled: Vec<String> = in_vain.iter().rev().map(|booking| booking.id.clone()).collect();
        assert_eq!((in_vain.len(), agency.service.standing().len()), (before, 0), "{case}");
        assert_eq!(agency.service.cancelled(), cancelled, "{case}: the last first");
    }
    agency.check_effects(&report, &case).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_booking_goes_wrong_in_each_way_and_the_end_tells_the_truth() {
    let mut cases = tokio::task::JoinSet::new();
    for form in FORMS {
        for kind in ["flight", "hotel", "car"] {
            for ill in [Ill::Refused, Ill::DownForEver, Ill::Lost, Ill::Late] {
                cases.spawn(goes_wrong(form, kind, ill));
            }
        }
    }
    let mut tried = 0;
    while let Some(case) = cases.join_next().await {
        case.expect("the case holds");
        tried += 1;
    }
    assert_eq!(tried, 24);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_undo_is_repeated_under_its_key_and_cancels_once() {
    for undo in ["hotel", "flight"] {
        for is_lost in [true, false] {
            let case = format!("{undo} {}", if is_lost { "lost" } else { "down for a moment" });
            let agency = Agency::new(Form::Keyed);
            agency.service.fail("car", 422, 1);
            match is_lost {
                true => agency.service.drop_after_commit_of(&format!("{undo}.cancel"), 1),
                false => agency.service.fail(&format!("{undo}.cancel"), 503, 1),
            }
            let report = agency.book(&trip(&[])).await;
            assert_eq!(report.state, RunState::Failed, "{case}: {report:#?}");
            assert_eq!(agency.service.cancelled(), ["hotel-2", "flight-1"], "{case}");
            let keys = agency.keys("DELETE", undo);
            assert!(keys.len() == 2 && keys[0] == keys[1] && !keys[0].is_empty(), "{case}: {keys:?}");
            assert_ne!(keys[0], agency.keys("POST", undo)[0], "{case}: taking back has a key of its own");
            agency.check_effects(&report, &case).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_that_nobody_saw_end_is_left_to_a_person_where_no_key_makes_it_safe() {
    for undo in ["hotel", "flight"] {
        let agency = Agency::new(Form::Unkeyed);
        agency.service.fail("car", 422, 1);
        agency.service.drop_after_commit_of(&format!("{undo}.cancel"), 1);
        let report = agency.book(&trip(&[])).await;
        assert_eq!(report.state, RunState::Suspended(Suspension::Reconcile), "{undo}: {report:#?}");
        let [step] = &report.unknown[..] else { panic!("{undo}: {report:#?}") };
        let told = agency.heard();
        assert_eq!(told, [(Suspension::Reconcile, vec![step.clone()])], "{undo}");
        let report = agency.settled(&report.run, step.as_str(), Settle::Done { output: cancelled_by_hand(undo) }).await;
        assert_eq!(report.state, RunState::Failed, "{undo}: {report:#?}");
        assert_eq!(agency.service.cancelled(), ["hotel-2", "flight-1"], "{undo}");
        assert_eq!(agency.requests("DELETE", undo), 1, "{undo}: not on a guess");
        agency.check_effects(&report, undo).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_that_fails_for_ever_leaves_the_run_stuck_and_a_person_ends_it() {
    for (undo, cancelled) in [("hotel", vec!["flight-1"]), ("flight", vec!["hotel-2"])] {
        for settle in [Settle::Retry, Settle::Failed, Settle::Done { output: cancelled_by_hand(undo) }] {
            let case = format!("{undo} {settle:?}");
            let agency = Agency::new(Form::Keyed);
            agency.service.fail("car", 422, 1);
            agency.service.fail(&format!("{undo}.cancel"), 500, u32::MAX);
            let report = agency.book(&trip(&[])).await;
            assert_eq!(report.state, RunState::Suspended(Suspension::Stuck), "{case}: {report:#?}");
            // The other one is cancelled all the same.
            assert_eq!(agency.service.cancelled(), cancelled, "{case}");
            assert_eq!(agency.heard().len(), 1, "{case}: {:?}", agency.heard());
            assert_eq!(agency.heard()[0].0, Suspension::Stuck, "{case}");
            let [step] = &report.stuck[..] else { panic!("{case}: {report:#?}") };
            agency.service.fail(&format!("{undo}.cancel"), 500, 0);
            // Nobody says what became of it: it stays so.
            let again = agency.resume(&report.run).await;
            assert_eq!(again.state, RunState::Suspended(Suspension::Stuck), "{case}: {again:#?}");
            assert_eq!(agency.heard().len(), 1, "{case}: what waits is told once, whoever resumes the run");
            let ended = agency.settled(&report.run, step.as_str(), settle.clone()).await;
            assert_eq!(ended.state, RunState::Failed, "{case}: {ended:#?}");
            let (left, is_undone) = match settle {
                Settle::Retry => (0, true),
                Settle::Done { .. } => (1, true),
                Settle::Failed => (1, false),
            };
            assert_eq!(agency.service.standing().len(), left, "{case}");
            let told = status(&ended, &format!("t1.{undo}"));
            assert_eq!(told, if is_undone { "undone" } else { "undo_failed" }, "{case}");
            agency.check_effects(&ended, &case).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_booking_that_is_found_not_to_be_there_is_made() {
    let agency = Agency::new(Form::Unkeyed);
    agency.service.fail("hotel", 0, 1);
    let report = agency.book(&trip(&[])).await;
    assert_eq!(report.state, RunState::Succeeded, "{report:#?}");
    assert_eq!((agency.requests("POST", "hotel"), agency.requests("GET", "hotel")), (2, 1));
    assert_eq!(agency.service.standing(), ["flight-1", "hotel-2", "car-3"]);
    agency.check_effects(&report, "not done").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_tells_what_became_of_a_booking_that_cannot_be_found() {
    // Whether it was made; what the person says; the end; what stands then.
    let done = || Settle::Done {
        output: json!({"id": "hotel-2", "kind": "hotel", "what": "x", "is_cancelled": false}).to_string(),
    };
    let all = ["flight-1", "hotel-2", "car-3"];
    let cases = [
        (true, done(), RunState::Succeeded, &all[..]),
        (false, Settle::Retry, RunState::Succeeded, &all[..]),
        (false, Settle::Failed, RunState::Failed, &[]),
    ];
    for (is_made, settle, end, standing) in cases {
        let case = format!("{settle:?}");
        let agency = Agency::new(Form::Unkeyed);
        match is_made {
            true => agency.service.drop_after_commit_of("hotel", 1),
            false => agency.service.fail("hotel", 0, 1),
        }
        agency.service.fail("hotel.find", 500, u32::MAX);
        let report = agency.book(&trip(&[])).await;
        assert_eq!(report.state, RunState::Suspended(Suspension::Reconcile), "{case}: {report:#?}");
        assert_eq!(agency.heard(), [(Suspension::Reconcile, vec![id("t1.hotel")])], "{case}");
        assert_eq!(agency.requests("POST", "hotel"), 1, "{case}: not on a guess");
        let report = agency.settled(&report.run, "t1.hotel", settle).await;
        assert_eq!(report.state, end, "{case}: {report:#?}");
        let failed = report.failure.as_ref().map(|failure| failure.kind);
        assert_eq!(failed, (end == RunState::Failed).then_some(Kind::HostInterrupted), "{case}");
        assert_eq!(agency.service.standing(), standing, "{case}");
        agency.check_effects(&report, &case).await;
    }
}

/// One booking, tried once.
const LONE: &str = r#"
workflow = "lone"
goal = "Book a car"
[[steps]]
id = "car"
tool = "bookings.book"
args = { kind = "car", what = "small" }
retry = { attempts_max = 1, backoff_ms = 1, backoff_ms_max = 1 }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_fails_five_times_is_left_alone_and_then_tried_with_one_probe() {
    let agency = Agency::new(Form::Keyed);
    let failed = |report: &RunReport| report.failure.as_ref().map(|failure| failure.kind);
    agency.service.fail("car", 500, 6);
    for _ in 0..5 {
        assert_eq!(failed(&agency.book(LONE).await), Some(Kind::NetworkHttp5xx));
    }
    assert_eq!(failed(&agency.book(LONE).await), Some(Kind::NetworkCircuitOpen));
    assert_eq!(agency.requests("POST", "car"), 5, "the service sees nothing of it");
    agency.clock.move_ms(10_000);
    assert_eq!(failed(&agency.book(LONE).await), Some(Kind::NetworkHttp5xx), "the probe");
    assert_eq!(failed(&agency.book(LONE).await), Some(Kind::NetworkCircuitOpen));
    assert_eq!(agency.requests("POST", "car"), 6);
    agency.clock.move_ms(10_000);
    agency.service.slow(500);
    let kinds = tokio::join!(agency.book(LONE), agency.book(LONE), agency.book(LONE));
    let mut kinds = [kinds.0, kinds.1, kinds.2].map(|report| failed(&report).map(Kind::code));
    kinds.sort_unstable();
    let refused = Some(Kind::NetworkCircuitOpen.code());
    assert_eq!(kinds, [None, refused, refused], "one of three that come at once is the probe");
    assert_eq!(agency.requests("POST", "car"), 7);
    assert_eq!(failed(&agency.book(LONE).await), None);
}

fn ask() -> StartOptions {
    StartOptions::default()
}

const COUNTS: &str = r#"
workflow = "counts"
goal = "Count three texts"
answer = { one = { "$from" = "one", path = "/words" }, three = { "$from" = "three", path = "/words" } }
[[steps]]
id = "one"
tool = "text.stats"
args = { text = "one" }
approval = true
[[steps]]
id = "two"
tool = "text.stats"
args = { text = "one two" }
approval = true
on_failure = "skip"
[[steps]]
id = "three"
tool = "text.stats"
args = { text = "one two three" }
approval = true
"#;

fn with_texts(port: u16) -> String {
    policy(Form::Keyed, port) + "\n[[rule]]\nname = 'texts'\nwhy = 'They touch nothing.'\nallow = ['text.*']\n"
}

async fn decide(agency: &Agency, report: &RunReport, step: &str, choice: Choice) -> Result<(), Failure> {
    let asked = report.approvals.iter().find(|asked| asked.step == id(step)).expect("it is asked for");
    let (binding, reason) = (asked.binding, Some("because".to_owned()));
    let message = Message::Decide { step: id(step), binding, choice, by: "ann".into(), reason };
    agency.host.send(&report.run, message).await
}

#[tokio::test(flavor = "multi_thread")]
async fn approvals_that_wait_at_once_are_decided_in_any_order_without_mix_up() {
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for order in orders {
        let agency = Agency::with(with_texts);
        let mut report = agency.start(COUNTS, ask()).await;
        let run = report.run.clone();
        assert_eq!(report.state, RunState::Suspended(Suspension::Approval), "{order:?}: {report:#?}");
        assert_eq!(report.approvals.len(), 3, "{order:?}");
        for n in order {
            let (step, choice) = match n {
                0 => ("t1.one", Choice::Approve),
                1 => ("t1.two", Choice::Reject),
                _ => ("t1.three", Choice::Modify { args: json!({"text": "a b c d"}).to_string() }),
            };
            decide(&agency, &report, step, choice).await.expect("it is told");
            report = agency.go_on(&run, ask()).await;
        }
        assert_eq!(report.state, RunState::Succeeded, "{order:?}: {report:#?}");
        assert_eq!(report.answer, Some(json!({"one": 1, "three": 4})), "{order:?}");
        assert_eq!(status(&report, "t1.two"), "rejected", "{order:?}");
        let failure = report.steps.iter().find_map(|step| step.failure.clone()).expect("a failure");
        assert!(failure.kind == Kind::PolicyRejected && failure.message.contains("because"), "{order:?}: {failure}");
        agency.host.verify(&run).await.expect("the log is whole");
    }
}

/// The trip, with a person asked about the hotel.
fn asking(policy_of: impl FnOnce(u16) -> String) -> (Agency, String) {
    (Agency::with(policy_of), trip(&[("hotel", "approval = true")]))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_that_nobody_gives_is_a_no_and_takes_back_what_was_done() {
    let expires = |port| {
        policy(Form::Keyed, port).replace("approval = \"none\"", "approval = \"none\"\napproval_expires_ms = 60_000")
    };
    let (agency, flow) = asking(expires);
    let report = agency.start(&flow, ask()).await;
    assert_eq!(report.state, RunState::Suspended(Suspension::Approval), "{report:#?}");
    assert_eq!(agency.service.standing(), ["flight-1"]);
    agency.clock.move_ms(59_000);
    let report = agency.go_on(&report.run, ask()).await;
    assert_eq!(report.state, RunState::Suspended(Suspension::Approval), "{report:#?}");
    // A look at it gave no more time.
    agency.clock.move_ms(1_000);
    let late = decide(&agency, &report, "t1.hotel", Choice::Approve).await;
    assert_eq!(late.map_err(|failure| failure.kind), Err(Kind::DataConflict), "it is too late");
    let report = agency.go_on(&report.run, ask()).await;
    assert_eq!(report.state, RunState::Failed, "{report:#?}");
    assert_eq!(report.failure.as_ref().map(|failure| failure.kind), Some(Kind::PolicyExpired));
    assert_eq!((agency.service.standing().len(), agency.requests("POST", "hotel")), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_booking_with_other_arguments_has_another_key() {
    let (agency, flow) = asking(|port| policy(Form::Keyed, port));
    let report = agency.start(&flow, ask()).await;
    let asked = report.approvals.first().expect("it is asked for");
    let key = |args: &Json| idempotency_key(&report.run, &id("t1.hotel"), Direction::Do, &asked.tool, args).to_string();
    let other = json!({"kind": "hotel", "what": "by the sea"});
    agency.service.drop_after_commit_of("hotel", 1);
    decide(&agency, &report, "t1.hotel", Choice::Modify { args: other.to_string() }).await.expect("it is told");
    let ended = agency.go_on(&report.run, ask()).await;
    assert_eq!(ended.state, RunState::Succeeded, "{ended:#?}");
    assert_eq!(agency.keys("POST", "hotel"), [key(&other), key(&other)], "a repeat has the key of the first");
    assert_ne!(key(&other), key(&asked.args));
    assert_eq!(agency.service.bookings()[1].what, "by the sea");
    agency.check_effects(&ended, "modified").await;
}

/// A folder for the real program, with somebody who is told of runs that wait.
pub fn shop(service: &Bookings) -> Shop {
    let shop = Shop::new();
    let component = cofferdam_guests::component("bookings");
    let heard = format!("cat >> {}; echo >> {}", shop.path("heard").display(), shop.path("heard").display());
    let settings = format!(
        "version = 0\n[tools]\nbookings = {component:?}\n[notify]\ncommand = ['sh', '-c', {heard:?}]\non = ['stuck']\n"
    );
    shop.write("cofferdam.toml", &settings);
    shop.write("policy.toml", &policy(Form::Keyed, service.port()));
    shop.write("trip.toml", &trip(&[]));
    shop
}

/// Puts another build of the same tool in its place: one with a section that says nothing.
fn other_build(shop: &Shop) {
    let component = cofferdam_guests::component("bookings");
    let mut bytes = std::fs::read(&component).expect("the component reads");
    bytes.extend(b"\0\x05\x04note");
    std::fs::write(shop.path("bookings.wasm"), bytes).expect("the component is written");
    let settings = std::fs::read_to_string(shop.path("cofferdam.toml")).expect("there are settings");
    shop.write("cofferdam.toml", &settings.replace(&format!("{component:?}"), "'bookings.wasm'"));
}

/// A booking that a run within the run makes, and one that waits for a person.
const WITHIN: &str = r#"
workflow = "within"
goal = "Book a flight, and then a car."

[[steps]]
id = "trip"
[steps.run.workflow]
workflow = "trip"
goal = "Book a flight."
[[steps.run.workflow.steps]]
id = "flight"
tool = "bookings.book"
args = { kind = "flight", what = "early" }

[[steps]]
id = "car"
tool = "bookings.book"
args = { kind = "car", what = "small" }
needs = ["trip"]
approval = true
"#;

#[test]
fn what_a_run_within_did_is_told_beforehand_where_another_build_would_take_it_back() {
    let service = Bookings::start();
    let shop = shop(&service);
    shop.write("within.toml", WITHIN);
    shop.run(&["run", "within.toml"]).ends(5);
    let runs = shop.run(&["runs", "--json"]).ends(0).json()["runs"].clone();
    let outer =
        runs.as_array().and_then(|runs| runs.iter().find(|run| run["state"] == json!({"suspended": "approval"})));
    let run = outer.and_then(|run| run["run"].as_str()).expect("one run waits");
    assert_eq!(shop.run(&["resume", run, "--dry-run", "--json"]).ends(0).json()["within"], json!([]));
    other_build(&shop);
    let told = shop.run(&["resume", run, "--dry-run", "--json"]).ends(2).json();
    assert_eq!(told["within"][0]["tools"], json!([{ "tool": "bookings.cancel", "change": "component" }]), "{told}");
    let refused = shop.run(&["resume", run]).ends(2).err;
    assert!(refused.contains("bookings.cancel: another build"), "{refused}");
}

#[test]
fn another_build_takes_back_what_the_first_one_did_only_where_a_person_says_so() {
    let service = Bookings::start();
    let shop = shop(&service);
    service.fail("car", 422, 1);
    service.fail("hotel.cancel", 500, u32::MAX);
    shop.run(&["run", "trip.toml"]).ends(10);
    other_build(&shop);
    let told = shop.run(&["resume", "last", "--dry-run"]).ends(2).out;
    assert!(told.contains("bookings.cancel: another build") && !told.contains("bookings.book"), "{told}");
    let asked = service.log().len();
    shop.run(&["resume", "last", "--settle", "t1.hotel~undo=retry"]).ends(2);
    assert_eq!(service.log().len(), asked);
    service.fail("hotel.cancel", 500, 0);
    shop.run(&["resume", "last", "--accept"]).ends(1);
    assert!(service.standing().is_empty(), "{:?}", service.standing());
    assert!(service.effects().values().all(|times| *times == 1), "{:?}", service.effects());
}

#[test]
fn the_program_says_that_it_is_stuck_and_takes_a_persons_word() {
    let word = format!("done:{}", cancelled_by_hand("hotel"));
    for (settle, left) in [(word.as_str(), 1), ("retry", 0), ("failed", 1)] {
        let service = Bookings::start();
        let shop = shop(&service);
        service.fail("car", 422, 1);
        service.fail("hotel.cancel", 500, u32::MAX);
        let stuck = shop.run(&["run", "trip.toml"]).ends(10);
        assert!(stuck.err.contains("--settle"), "{}", stuck.err);
        let heard = std::fs::read_to_string(shop.path("heard")).expect("somebody was told");
        assert_eq!(heard.matches("\"stuck\"").count(), 1, "{heard}");
        let shown = shop.run(&["show", "last", "--json"]).ends(0).json();
        assert_eq!((&shown["state"], service.standing().len()), (&json!({"suspended": "stuck"}), 1));
        let step = shown["stuck"][0].as_str().expect("a step").to_owned();
        service.fail("hotel.cancel", 500, 0);
        shop.run(&["resume", "last", "--settle", &format!("{step}={settle}")]).ends(1);
        assert_eq!(service.standing().len(), left, "{settle}");
        let shown = shop.run(&["show", "last", "--json"]).ends(0).json();
        let hotel = shown["steps"].as_array().expect("steps").iter().find(|told| told["step"] == "t1.hotel");
        let expected = if settle == "failed" { "undo_failed" } else { "undone" };
        assert_eq!(hotel.expect("it is told")["status"], expected, "{settle}: {shown}");
        shop.run(&["verify", "last"]).ends(0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_cancels_and_has_it_taken_back() {
    let service = Bookings::start();
    let shop = shop(&service);
    service.slow(400);
    let mut command = shop.command(&["run", "trip.toml"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    while bookings_asked(&service) < 2 {
        pause(5).await;
    }
    // The flight is booked, and the hotel is on its way.
    shop.run(&["cancel", "last", "--undo"]).ends(0);
    // The hotel's answer was not awaited: its service is asked for the number, without which nobody can cancel it.
    assert_eq!(child.wait().expect("it ends").code(), Some(6));
    assert_eq!((service.cancelled(), service.standing()), (vec!["hotel-2".into(), "flight-1".into()], vec![]));
    let effects = service.effects();
    assert!(effects.values().all(|times| *times == 1), "{effects:?}");
    assert_eq!(shop.run(&["show", "last", "--json"]).ends(0).json()["state"], "cancelled");
}

fn bookings_asked(service: &Bookings) -> usize {
    service.log().iter().filter(|asked| asked.method == "POST").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_not_asked_again_before_it_wants() {
    let web = WebServer::start();
    web.on("/cars", Reply::page(503, "retry-after", "2", "{}"));
    let agency = Agency::with(|_| policy(Form::Keyed, web.port()));
    let report = agency.book(&LONE.replace("attempts_max = 1", "attempts_max = 2")).await;
    assert_eq!(report.state, RunState::Failed, "{report:#?}");
    assert_eq!(web.seen().len(), 2);
    let events = agency.host.events(&report.run).await.expect("they are there");
    let ended = events.iter().find_map(|event| match event.fact {
        Fact::StepEnded { retry: Some(due), .. } => Some((event.at, due)),
        _ => None,
    });
    let (at, due) = ended.expect("it is tried again");
    let started = events.iter().rfind(|event| matches!(event.fact, Fact::StepStarted { .. }));
    // The answer was there a moment before its end was written down.
    assert!(due.ms_since(at) >= 1_900, "{due:?} {at:?}");
    assert!(started.expect("it starts").at >= due, "{events:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_takes_nothing_from_those_beside_it() {
    let (web, gone) = (WebServer::start(), WebServer::start().port());
    web.on("/a", Reply::text("a"));
    web.on("/b", Reply::text("b"));
    let rule = |port| format!("{{ url = 'http://127.0.0.1:{port}/*', addresses = ['127.0.0.1/32'] }}");
    let agency = Agency::with(|_| {
        let http = [rule(web.port()), rule(gone)].join(", ");
        format!("version = 0\n[[rule]]\nname = 'look'\nwhy = 'A test.'\nallow = ['fetch.get']\nhttp = [{http}]\n")
    });
    let step = |id: &str, port, path: &str| {
        format!(
            "[[steps]]\nid = '{id}'\ntool = 'fetch.get'\nargs = {{ url = 'http://127.0.0.1:{port}{path}' }}\nretry = {{ attempts_max = 2, backoff_ms = 1, backoff_ms_max = 1 }}\n"
        )
    };
    let steps = step("a", web.port(), "/a") + &step("down", gone, "/") + &step("b", web.port(), "/b");
    let report = agency.book(&format!("workflow = 'look'\ngoal = 'Look at three'\n{steps}")).await;
    assert_eq!(report.state, RunState::Failed, "{report:#?}");
    assert_eq!(report.failure.as_ref().map(|failure| failure.kind), Some(Kind::NetworkConnect));
    for step in ["a", "b"] {
        let told = report.steps.iter().find(|told| told.step.local() == step).expect("it is told");
        assert_eq!(told.output.as_ref().expect("it brought something")["text"], step, "{told:#?}");
    }
}

/// A trip whose flight and hotel are a run within the run.
const TRIP_WITHIN: &str = r#"
workflow = "around"
goal = "Book three, or none."
[[steps]]
id = "trip"
[steps.run.workflow]
workflow = "within"
goal = "Book two."
[[steps.run.workflow.steps]]
id = "flight"
tool = "bookings.book"
args = { kind = "flight", what = "Oslo" }
[[steps.run.workflow.steps]]
id = "hotel"
tool = "bookings.book"
needs = ["flight"]
args = { kind = "hotel", what = "Oslo" }
[[steps]]
id = "car"
tool = "bookings.book"
needs = ["trip"]
args = { kind = "car", what = "Oslo" }
on_failure = "undo"
"#;

/// The run that carries out a step of another one.
fn run_of(report: &RunReport, step: &str) -> RunId {
    let step = report.steps.iter().find(|told| told.step == id(step)).expect("the step is there");
    step.run.clone().expect("a run carries it out")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_within_the_run_booked_is_cancelled_too() {
    for form in FORMS {
        let agency = Agency::new(form);
        agency.service.fail("car", 422, 1);
        let report = agency.book(TRIP_WITHIN).await;
        assert_eq!(report.state, RunState::Failed, "{form:?}: {report:#?}");
        assert_eq!(agency.service.cancelled(), ["hotel-2", "flight-1"], "{form:?}: the last first, and once");
        assert_eq!(agency.service.standing(), [""; 0], "{form:?}");
        assert_eq!(status(&report, "t1.trip"), "undone", "{form:?}");
        let undo = agency.host.show(&run_of(&report, "t1.trip~undo")).await.expect("it is there");
        assert_eq!(undo.state, RunState::Succeeded, "{undo:#?}");
        assert_eq!(undo.parent.as_ref().map(|parent| &parent.run), Some(&report.run));
        assert_eq!((undo.trace_id, report.trace_id), (report.trace_id, Some(TraceId::of_run(&report.run))));
        agency.check_effects(&report, &format!("{form:?}")).await;
        agency.check_effects(&undo, &format!("{form:?}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_within_that_cannot_be_taken_back_is_stuck_and_a_person_ends_it() {
    for (settle, left, told) in [
        (Settle::Retry, 0, "undone"),
        (Settle::Done { output: cancelled_by_hand("hotel") }, 1, "undone"),
        (Settle::Failed, 1, "undo_failed"),
    ] {
        let case = format!("{settle:?}");
        let agency = Agency::new(Form::Keyed);
        agency.service.fail("car", 422, 1);
        agency.service.fail("hotel.cancel", 500, u32::MAX);
        let report = agency.book(TRIP_WITHIN).await;
        assert_eq!(report.state, RunState::Suspended(Suspension::Stuck), "{case}: {report:#?}");
        assert_eq!(agency.service.cancelled(), ["flight-1"], "{case}: the other one is cancelled all the same");
        let undo = run_of(&report, "t1.trip~undo");
        let stuck = agency.host.show(&undo).await.expect("it is there");
        assert_eq!(
            (stuck.state, &stuck.stuck[..]),
            (RunState::Suspended(Suspension::Stuck), &[id("t1.hotel~undo")][..])
        );
        agency.service.fail("hotel.cancel", 500, 0);
        let ended = agency.settled(&undo, "t1.hotel~undo", settle).await;
        assert!(matches!(ended.state, RunState::Succeeded | RunState::Failed), "{case}: {ended:#?}");
        let report = agency.resume(&report.run).await;
        assert_eq!(report.state, RunState::Failed, "{case}: {report:#?}");
        assert_eq!(agency.service.standing().len(), left, "{case}");
        assert_eq!(status(&report, "t1.trip"), told, "{case}");
        agency.check_effects(&report, &case).await;
    }
}
