//! Three servers, three tiers, three protocols: which request goes where, and that anybody can reckon it again.

use std::collections::BTreeMap;

use cofferdam::domain::{Fact, Kind, Suspension};
use cofferdam::host::RunState;

use super::*;

const SMALL: Provider = PROVIDERS[0];
const MEDIUM: Provider = PROVIDERS[2];
const LARGE: Provider = PROVIDERS[3];

const NOTES: &str = "[[rule]]\nname = 'notes'\nwhy = 'The notes of the test.'\nallow = ['notes.*']\napproval = 'none'\n\
    files = [{ mount = '/notes', path = 'notes', access = 'read_write' }]\n";

/// The servers by the name of their tier, each with what it replies in order.
struct Tiers {
    world: World,
    host: Host,
    servers: [FakeLlm; 3],
}

impl Tiers {
    fn new(tools: &[&str], more: &str, [small, medium, large]: [&[Json]; 3]) -> Self {
        let world = World::at_speed(50);
        std::fs::create_dir(world.path().join("notes")).expect("a folder is made");
        if tools.contains(&"notes") {
            world.write("policy.toml", &format!("{POLICY}{NOTES}"));
        }
        let servers = [serves(small), serves(medium), serves(large)];
        let text = [
            SMALL.model("s", &servers[0], PRICE),
            MEDIUM.model("m", &servers[1], PRICE),
            LARGE.model("l", &servers[2], PRICE),
            "[[tiers]]\nname = 'small'\nmodels = ['s']\neffects = 'read'\n".to_owned(),
            "[[tiers]]\nname = 'medium'\nmodels = ['m']\neffects = 'read'\n".to_owned(),
            "[[tiers]]\nname = 'large'\nmodels = ['l']\neffects = 'once'\n".to_owned(),
            more.to_owned(),
        ];
        let host = world.host(tools, &text.concat());
        Self { world, host, servers }
    }

    /// Runs a goal; returns tier and outcome of each request, each choice reckoned again from what the log holds.
    async fn run(&self, goal: Goal) -> (RunReport, Vec<String>) {
        let report = ended(&self.host, goal).await;
        let views = self.host.routes(&report.run).await.expect("they are told");
        let rows = views.iter().map(|view| {
            let choice = view.again.clone().expect("one is chosen");
            assert_eq!(Some(&choice), view.routed.as_ref().map(|routed| &routed.choice), "{view:?}");
            assert_eq!((&choice.tier, &choice.model), (&view.asked.tier, &view.asked.model));
            format!("{} {}", choice.tier, view.outcome.as_deref().unwrap_or("-"))
        });
        let rows = rows.collect();
        (report, rows)
    }

    /// Requests that reached each server; all scripts are at their end.
    fn finish(self) -> [usize; 3] {
        self.servers.map(|server| {
            let count = server.requests().len();
            assert_eq!(server.finish(), Ok(()));
            count
        })
    }
}

fn wrong() -> Json {
    json!({"json": {"steps": 7}})
}

fn abstains() -> Json {
    json!({"json": {"abstain": "it is too hard for me"}})
}

fn writes() -> Json {
    let args = json!({"path": "/notes/a.md", "text": "x"});
    json!({"json": {"steps": [{"id": "w", "tool": "notes.write", "args": args}]}})
}

#[tokio::test]
async fn each_of_ten_requests_goes_to_its_tier() {
    let adds = || plan(&["20 + 22"]);
    let tiers = Tiers::new(
        &["math"],
        "",
        [
            &[adds(), answer("t1.s0"), wrong(), wrong(), abstains()],
            // What was refused counts as a turn.
            &[adds(), answer("t3.s0"), adds(), answer("t2.s0")],
            &[json!({"json": {"question": "Which numbers?"}})],
        ],
    );
    let mut matrix = Vec::new();
    for (goal, state) in [
        (Goal::text("Add: plainly."), RunState::Succeeded),
        (Goal::text("Add: it does not fit, twice."), RunState::Succeeded),
        (Goal::text("Add: the first gives way."), RunState::Succeeded),
        (Goal::text("Add: it matters.").critical(), RunState::Suspended(Suspension::Question)),
    ] {
        let (report, rows) = tiers.run(goal).await;
        assert_eq!(report.state, state, "{rows:?}: {:?}", report.failure);
        matrix.extend(rows);
    }
    let expected = [
        "small plan_accepted",
        "small answered",
        "small plan_rejected",
        "small plan_rejected",
        "medium plan_accepted",
        "medium answered",
        "small plan_rejected",
        "medium plan_accepted",
        "medium answered",
        "large asked",
    ];
    assert_eq!(matrix, expected);
    assert_eq!(tiers.finish(), [5, 4, 1]);
}

#[tokio::test]
async fn what_raises_a_request_raises_it_over_the_wire() {
    let adds = || plan(&["20 + 22"]);
    let answers = || answer("t1.s0");
    let ask = async |more: &str, replies: [&[Json]; 3], goal: Goal| {
        let tiers = Tiers::new(&["math"], more, replies);
        let (report, rows) = tiers.run(goal).await;
        assert_eq!(report.state, RunState::Succeeded, "{rows:?}: {:?}", report.failure);
        let counts = tiers.finish();
        let of = |tier: &str| rows.iter().filter(|row| row.starts_with(tier)).count();
        assert_eq!(counts, [of("small"), of("medium"), of("large")], "the log tells what the servers saw");
        counts
    };
    let goal = || Goal::text("Add.");
    assert_eq!(ask("", [&[adds(), answers()], &[], &[]], goal()).await, [2, 0, 0]);
    assert_eq!(ask("", [&[], &[], &[adds(), answers()]], goal().critical()).await, [0, 0, 2]);
    let few = "[routing]\nrequired_args_max = 0\n";
    assert_eq!(ask(few, [&[], &[adds(), answers()], &[]], goal()).await, [0, 2, 0]);
    let fewer = "[routing]\nrequired_args_max = 0\nschema_depth_max = 0\n";
    assert_eq!(ask(fewer, [&[], &[], &[adds(), answers()]], goal()).await, [0, 0, 2]);
    // Little money is left: nothing raises a request then.
    let poor = "[routing]\nrequired_args_max = 0\nbudget_permille_min = 1001\n[budget]\nusd_micros_max = 1000000\n";
    assert_eq!(ask(poor, [&[adds(), answers()], &[], &[]], goal()).await, [2, 0, 0]);
}

#[tokio::test]
async fn a_step_with_an_effect_is_never_taken_of_a_small_model() {
    // Nothing near to the goal writes, so that the small one is asked; and then it wants to write.
    let tiers = Tiers::new(
        &["math", "notes"],
        "",
        [&[writes()], &[writes()], &[writes(), json!({"json": {"answer": {"$from": "t3.w", "path": "/bytes"}}})]],
    );
    let (report, rows) = tiers.run(Goal::text("Round the sum, in percent: eval the expression.")).await;
    assert_eq!(rows, ["small plan_rejected", "medium plan_rejected", "large plan_accepted", "large answered"]);
    assert_eq!(report.state, RunState::Succeeded, "{:?}", report.failure);
    let events = events(&tiers.host, &report).await;
    let accepted: BTreeMap<&str, usize> = events.iter().fold(BTreeMap::new(), |mut count, event| {
        *count.entry(event.fact.name()).or_default() += 1;
        count
    });
    assert_eq!((accepted["plan_accepted"], accepted["plan_rejected"], tiers.world.runner.guests()), (1, 2, 1));
    assert_eq!(std::fs::read_to_string(tiers.world.path().join("notes/a.md")).ok().as_deref(), Some("x"));
    tiers.finish();
}

#[tokio::test]
async fn a_goal_near_to_a_tool_that_writes_is_asked_of_the_tier_that_may() {
    let done = json!({"json": {"answer": {"$from": "t1.w", "path": "/bytes"}}});
    let tiers = Tiers::new(&["math", "notes"], "", [&[], &[], &[writes(), done]]);
    let (report, rows) = tiers.run(Goal::text("Write a note: x.")).await;
    assert_eq!(
        (report.state, rows.as_slice()),
        (RunState::Succeeded, &["large plan_accepted".to_owned(), "large answered".into()][..])
    );
    assert_eq!(tiers.finish(), [0, 0, 2]);
}

#[tokio::test]
async fn where_no_tier_may_propose_what_is_near_nobody_is_asked() {
    let tiers = Tiers::new(&["math", "notes"], "", [&[], &[], &[]]);
    let text = SMALL.model("s", &tiers.servers[0], PRICE)
        + &MEDIUM.model("m", &tiers.servers[1], PRICE)
        + "[[tiers]]\nname = 'small'\nmodels = ['s', 'm']\neffects = 'read'\n";
    let settings = Settings::parse(
        &format!("version = 0\nstate = 'other'\n[tools]\nnotes = {:?}\n{text}", cofferdam_guests::component("notes")),
        tiers.world.path(),
        "x",
    );
    let builder = HostBuilder::from_settings(settings.expect("they read")).expect("they are in order");
    let host = builder.runner(tiers.world.runner.clone()).build().expect("the host is made");
    let handle = host.start(Goal::text("Write a note: x."), StartOptions::default()).await.expect("it starts");
    let told = match handle.finished().await {
        Ok(report) => report.failure.map(|failure| failure.kind),
        Err(failure) => Some(failure.kind),
    };
    assert_eq!(told, Some(Kind::DataConfig));
    assert_eq!(tiers.finish(), [0, 0, 0]);
}

/// A model whose tier may not write is not asked even where all others are down.
#[tokio::test]
async fn nothing_below_the_floor_stands_in_for_a_tier_that_is_down() {
    let down = vec![json!({"error": "server"}); 5];
    let tiers = Tiers::new(&["math", "notes"], "", [&[], &[], &down]);
    let (report, rows) = tiers.run(Goal::text("Write a note: x.")).await;
    assert_eq!(report.failure.map(|failure| failure.kind), Some(Kind::NetworkHttp5xx), "{rows:?}");
    assert!(rows.iter().all(|row| row == "large plan_failed"), "{rows:?}");
    let events = tiers.host.events(&report.run).await.expect("the log is read");
    assert!(events.iter().all(|event| !matches!(event.fact, Fact::StepStarted { .. })));
    assert_eq!(tiers.finish(), [0, 0, 5]);
}
