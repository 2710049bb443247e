//! Plans, checked whole before their first step: what passes, and how each flaw is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use cofferdam::domain::{
    Budget, CHECK_VERSION, CallTemplate, Cost, Effect, Failure, Json, Kind, Plan, PlanLimits, StepId, references,
};
use cofferdam::orchestrator::{CheckedPlan, Condition, Earlier, Flaw, GoalMarks, Known, flaws_of, graph};
use cofferdam::planner::workflow::{Format, WorkflowPlanner};
use cofferdam::policy::About;
use cofferdam::registry::{Catalog, Options, VerifiedComponent, VerifiedTool};
use expect_test::{Expect, expect, expect_file};
use proptest::prelude::*;
use serde_json::json;
use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{LiftLowerAbi, ManglingAndAbi, Resolve};

use crate::cli::Shop;

/// The tools that the plans of these tests call.
const SHOP: &str = "package tools:shop@1.0.0;
interface shop {
    record line { sku: string, count: u32 }
    record order { id: string, total: f64, note: option<string>, lines: list<line> }
    find: func(name: string) -> result<order, string>;
    all: func(limit: option<u32>) -> list<order>;
    price: func(sku: string) -> f64;
    add: func(numbers: list<f64>) -> f64;
    ping: func();
    reserve: func(sku: string, count: u32) -> result<string, string>;
    release: func(booking: string);
    charge: func(total: f64, key: string) -> result<string, string>;
    refund: func(payment: string);
    look-up: func(key: string) -> string;
    mail: func(text: string);
}
world w { export shop; }";

static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("shop.wit", SHOP).expect("the interface reads");
    let world = resolve.select_world(&[package], None).expect("it has one world");
    let mut module = dummy_module(&resolve, world, ManglingAndAbi::Legacy(LiftLowerAbi::Sync));
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).expect("the world is embedded");
    let bytes = ComponentEncoder::default().module(&module).and_then(|mut encoder| encoder.encode()).expect("encoded");
    let component = VerifiedComponent::new(bytes, Some("shop"), &Options::default()).expect("the component loads");
    Catalog::new(vec![Arc::new(component)]).expect("one component has one name")
});

/// What policy makes of each tool here: `mail` is denied, and the others are as their names say.
fn about(tool: &VerifiedTool) -> Result<About, Failure> {
    let call = |function: &str, args: Json| Some(CallTemplate { tool: function.into(), args });
    let (effect, undo, reconcile) = match tool.name().function() {
        "mail" => return Err(Failure::new(Kind::PolicyDenied, "call `shop.mail`: no rule allows it")),
        "price" | "add" | "ping" => (Effect::Pure, None, None),
        "find" | "all" | "look-up" => (Effect::Read, None, None),
        "reserve" => (Effect::Once, call("release", json!({"booking": {"$out": ""}})), None),
        "charge" => (
            Effect::Once,
            call("refund", json!({"payment": {"$out": ""}})),
            call("look-up", json!({"key": {"$key": ""}})),
        ),
        _ => (Effect::Once, None, None),
    };
    let touches = if effect.is_write() { vec!["https://shop.example:443".into()] } else { vec![] };
    let asks = (effect == Effect::Once).then(|| "stays".to_owned());
    let cost = Cost { calls: 1, fuel: 10, bytes: 100, ..Cost::default() };
    Ok(About { touches, asks, undo, reconcile, ..About::of_effect(effect, cost) })
}

fn checked_within(plan: &Plan, budget: &Budget) -> Result<CheckedPlan, Vec<Flaw>> {
    let id = |name: &str| name.parse::<StepId>().expect("a step's id");
    let tool = |name: &str| name.parse().expect("a tool's name");
    let earlier = BTreeMap::from([
        (id("t1.early"), Earlier { tool: tool("shop.find"), is_list: false }),
        (id("t1.each"), Earlier { tool: tool("shop.price"), is_list: true }),
    ]);
    let limits = PlanLimits::default();
    flaws_of(
        plan,
        2,
        &Known {
            catalog: &CATALOG,
            earlier: &earlier,
            about: &about,
            limits: &limits,
            budget,
            proposed: None,
            goal: GoalMarks::default(),
            checked_by: CHECK_VERSION,
        },
    )
}

fn checked(plan: &Json) -> Result<CheckedPlan, Vec<Flaw>> {
    let plan: Plan = serde_json::from_value(plan.clone()).expect("it has the shape of a plan");
    checked_within(&plan, &Budget::default())
}

/// Tells a checked plan or its flaws, one a line.
fn told(checked: &Result<CheckedPlan, Vec<Flaw>>) -> String {
    match checked {
        Err(flaws) => {
            flaws.iter().map(|flaw| format!("{} {}: {}\n", flaw.at, flaw.failure.kind, flaw.failure.message)).collect()
        }
        Ok(plan) => plan
            .steps
            .iter()
            .map(|step| {
                let planned = &step.planned;
                let names = |ids: &[StepId]| ids.iter().map(StepId::local).collect::<Vec<_>>().join(",");
                let mut line = format!("{} {} {}", planned.id, planned.tool, planned.effect);
                for (what, ids) in [("needs", names(&planned.needs)), ("after", names(&planned.after))] {
                    if !ids.is_empty() {
                        line += &format!(" {what}={ids}");
                    }
                }
                line += &planned.items.map_or(String::new(), |items| format!(" items={}", items.items_max));
                line += &step.when.as_ref().map_or(String::new(), |when| format!(" when={when}"));
                line += &step.undo.as_ref().map_or(String::new(), |undo| format!(" undo={}", undo.tool));
                line += &step.reconcile.as_ref().map_or(String::new(), |call| format!(" reconcile={}", call.tool));
                line + "\n"
            })
            .collect(),
    }
}

#[track_caller]
fn check(plan: Json, expected: Expect) {
    expected.assert_eq(&told(&checked(&plan)));
}

/// A plan in which everything is used once.
fn whole() -> Json {
    json!({
        "steps": [
            {"id": "find", "tool": "shop.find", "args": {"name": "bolts"}, "on_failure": "fallback:other"},
            {"id": "other", "tool": "shop.find", "args": {"name": "nuts"}, "on_failure": "skip"},
            {"id": "prices", "tool": "shop.price", "args": {"sku": {"$item": "/sku"}},
                "for_each": {"in": {"$from": "find", "path": "/lines"}, "items_max": 20, "parallel_max": 4}},
            {"id": "sum", "tool": "shop.add", "args": {"numbers": {"$from": "prices"}}},
            {"id": "reserve", "tool": "shop.reserve", "when": "steps.find.total > 0 && steps.sum > 1.5", "needs": ["sum"],
                "args": {"sku": {"$from": "find", "path": "/lines/0/sku"}, "count": 1}, "on_failure": "undo"},
            {"id": "charge", "tool": "shop.charge", "approval": true, "timeout_ms": 500,
                "args": {"total": {"$from": "sum", "default": 0}, "key": "k"},
                "undo": {"tool": "shop.refund", "args": {"payment": {"$out": ""}}}, "after": ["reserve"]},
            {"id": "again", "args": {"name": {"$from": "find", "path": "/id"}}, "run": {
                "budget": {"calls_max": 5},
                "workflow": {"workflow": "inner", "goal": "g", "inputs": {"name": "x", "limit": 3}, "steps": [
                    {"id": "a", "tool": "shop.find", "args": {"name": {"$input": "name"}}},
                    {"id": "b", "tool": "shop.all", "args": {"limit": {"$input": "limit"}}, "needs": ["a"]},
                ]}}},
        ],
        "answer": {"sum": {"$from": "sum"}, "paid": {"$from": "charge", "default": null}, "early": {"$from": "t1.early", "path": "/id"}},
        "assert": ["steps.charge != null || steps.reserve == null", "size(steps[\"t1.each\"]) > 0"],
    })
}

#[test]
fn a_whole_plan_is_put_in_order_with_its_edges() {
    check(
        whole(),
        expect![[r#"
        t2.find shop.find read
        t2.other shop.find read
        t2.prices shop.price pure needs=find items=20
        t2.sum shop.add pure needs=prices
        t2.reserve shop.reserve once needs=find,sum when=steps["t2.find"].total > 0 && steps["t2.sum"] > 1.5 undo=shop.release
        t2.charge shop.charge once after=reserve,sum undo=shop.refund reconcile=shop.look-up
        t2.again cofferdam.run read needs=find
    "#]],
    );
    let plan = checked(&whole()).expect("it passes");
    assert_eq!(plan.assert[0], r#"steps["t2.charge"] != null || steps["t2.reserve"] == null"#);
    assert_eq!(plan.answer.expect("it answers")["paid"], json!({"$from": "t2.charge", "default": null}));
    let step = |name: &str| plan.steps.iter().find(|step| step.planned.id.local() == name).expect("it is there");
    assert_eq!(step("again").planned.cost, Cost { calls: 2, fuel: 20, bytes: 200, turns: 1, ..Cost::default() });
    assert_eq!(step("find").planned.on_failure.to_string(), "fallback:t2.other");
    assert_eq!(
        step("prices").for_each.as_ref().expect("it repeats").list,
        json!({"$from": "t2.find", "path": "/lines"})
    );
    assert!(step("charge").planned.has_reconcile && step("charge").planned.has_undo && step("charge").approval);
}

/// One change to the whole plan, and the flaw that must be told: pointer, kind and words.
struct Mutation(&'static str, Json, &'static str, Kind, &'static str);

#[test]
fn each_kind_of_mistake_is_refused_before_the_first_step_with_its_place() {
    let inner = "/steps/6/run/workflow";
    let mutations = [
        Mutation("/steps/0/tool", json!("shop.fnd"), "/steps/0/tool", Kind::DataPlan, "did you mean `shop.find`?"),
        Mutation("/steps/0/tool", json!("shop.mail"), "/steps/0/tool", Kind::PolicyDenied, "no rule allows it"),
        Mutation("/steps/0/id", json!("a.b"), "/steps/0/id", Kind::DataPlan, "is not of letters"),
        Mutation("/steps/1/id", json!("find"), "/steps/1/id", Kind::DataPlan, "an earlier step too"),
        Mutation("/steps/0/args/name", json!(3), "/steps/0/args/name", Kind::DataInput, "expects text"),
        Mutation("/steps/0/args", json!({}), "/steps/0/args", Kind::DataInput, "`name` is missing"),
        Mutation(
            "/steps/3/args/numbers",
            json!({"$from": "gone"}),
            "/steps/3/args/numbers",
            Kind::DataInput,
            "no step `gone`",
        ),
        Mutation(
            "/steps/3/args/numbers",
            json!({"$from": "find"}),
            "/steps/3/args/numbers",
            Kind::DataInput,
            "brings a record `order`",
        ),
        Mutation(
            "/steps/3/args/numbers",
            json!({"$frm": "find"}),
            "/steps/3/args/numbers",
            Kind::DataInput,
            "expects a list",
        ),
        Mutation(
            "/steps/4/args/sku/path",
            json!("/lines/0/sk"),
            "/steps/4/args/sku",
            Kind::DataInput,
            "`sk` is not a field of `line`",
        ),
        Mutation("/steps/4/needs", json!(["nobody"]), "/steps/4/needs/0", Kind::DataReference, "no step `nobody`"),
        Mutation("/steps/4/when", json!("steps.gone == 1"), "/steps/4/when", Kind::DataReference, "no step `gone`"),
        Mutation(
            "/steps/4/when",
            json!("steps.find.totl > 0"),
            "/steps/4/when",
            Kind::DataReference,
            "`totl` is not a field of `order`",
        ),
        Mutation("/steps/4/when", json!("steps.find.total >"), "/steps/4/when", Kind::DataCondition, "column"),
        Mutation("/steps/4/when", json!("item.sku == ''"), "/steps/4/when", Kind::DataReference, "in `for_each` only"),
        Mutation(
            "/steps/5/args/total/default",
            json!("none"),
            "/steps/5/args/total/default",
            Kind::DataInput,
            "expects a number",
        ),
        Mutation(
            "/steps/5/undo/args",
            json!({"payment": {"$out": "/id"}}),
            "/steps/5/undo/args/payment",
            Kind::DataInput,
            "which has no parts",
        ),
        Mutation(
            "/steps/5/undo/args",
            json!({"payment": {"$in": "/ttal"}}),
            "/steps/5/undo/args/payment",
            Kind::DataInput,
            "`ttal` is not a field",
        ),
        Mutation(
            "/steps/5/undo/tool",
            json!("shop.mail"),
            "/steps/5/undo/tool",
            Kind::PolicyDenied,
            "no rule allows it",
        ),
        Mutation("/steps/5/cache_ttl_ms", json!(5), "/steps/5/cache_ttl_ms", Kind::DataPlan, "effect `once`"),
        Mutation(
            "/steps/5/retry",
            json!({"attempts_max": 0}),
            "/steps/5/retry/attempts_max",
            Kind::DataPlan,
            "between 1 and",
        ),
        Mutation(
            "/steps/2/for_each/items_max",
            json!(0),
            "/steps/2/for_each/items_max",
            Kind::DataPlan,
            "between 1 and",
        ),
        Mutation("/steps/2/for_each/items_max", json!(900), "/steps/2", Kind::PolicyBudget, "step `prices`"),
        Mutation(
            "/steps/2/for_each/in",
            json!({"$from": "find", "path": "/id"}),
            "/steps/2/for_each/in",
            Kind::DataInput,
            "not a list",
        ),
        Mutation(
            "/steps/2/args/sku",
            json!({"$item": "/nr"}),
            "/steps/2/args/sku",
            Kind::DataInput,
            "`nr` is not a field of `line`",
        ),
        Mutation(
            "/steps/4/args/sku",
            json!({"$item": "/sku"}),
            "/steps/4/args/sku",
            Kind::DataInput,
            "no meaning here",
        ),
        Mutation(
            "/steps/0/on_failure",
            json!("fallback:gone"),
            "/steps/0/on_failure",
            Kind::DataReference,
            "no step `gone`",
        ),
        Mutation("/steps/0/on_failure", json!("fallback:sum"), "/steps/2", Kind::DataPlan, "wait for each other"),
        Mutation(
            "/steps/1/on_failure",
            json!("fallback:find"),
            "/steps/1/on_failure",
            Kind::DataPlan,
            "for each other",
        ),
        Mutation("/steps/3/needs", json!(["other"]), "/steps/3", Kind::DataPlan, "name `find`, whose place it takes"),
        Mutation("/steps/1/tool", json!("shop.ping"), "/steps/1/args/name", Kind::DataInput, "is not known"),
        Mutation("/steps/2/needs", json!(["charge"]), "/steps/2", Kind::DataPlan, "wait for each other: "),
        Mutation("/answer/sum/$from", json!("gone"), "/answer/sum", Kind::DataReference, "no step `gone`"),
        Mutation("/assert/0", json!("steps.gone"), "/assert/0", Kind::DataReference, "no step `gone`"),
        Mutation("/assert/0", json!("now()"), "/assert/0", Kind::DataCondition, "no function `now`"),
        Mutation("/steps/6/tool", json!("shop.find"), "/steps/6/run", Kind::DataPlan, "and not both"),
        Mutation("/steps/6/run/goal", json!("g"), "/steps/6/run", Kind::DataPlan, "exactly one of them"),
        Mutation("/steps/6/run/workflow", json!("other.toml"), inner, Kind::DataPlan, "a workflow is an object"),
        Mutation(
            "/steps/6/run/workflow/steps/0/tool",
            json!("shop.no"),
            "/steps/6/run/workflow/steps/0/tool",
            Kind::DataPlan,
            "no tool `shop.no`",
        ),
        Mutation(
            "/steps/6/run/budget/calls_max",
            json!(1),
            "/steps/6/run/workflow/steps/1",
            Kind::PolicyBudget,
            "1 are left",
        ),
        Mutation("/steps/6/args", json!({"nme": 1}), "/steps/6/args/nme", Kind::DataInput, "no input `nme`"),
        Mutation(
            "/steps/6/args/name",
            json!({"$from": "sum"}),
            "/steps/6/args/name",
            Kind::DataInput,
            "and not a number",
        ),
        Mutation(
            "/steps/6/run/workflow/inputs/limit",
            json!("many"),
            "/steps/6/run/workflow/steps/1/args/limit",
            Kind::DataInput,
            "expects an integer",
        ),
    ];
    for Mutation(at, value, flaw_at, kind, words) in mutations {
        let mut plan = whole();
        set(&mut plan, at, value.clone());
        let flaws = checked(&plan).expect_err(at);
        let is_told =
            |flaw: &Flaw| flaw.at == flaw_at && flaw.failure.kind == kind && flaw.failure.message.contains(words);
        assert!(flaws.iter().any(is_told), "{at} = {value}: {flaws:#?}");
    }
}

fn set(plan: &mut Json, at: &str, value: Json) {
    let (parent, key) = at.rsplit_once('/').expect("a pointer");
    match plan.pointer_mut(parent).expect("its parent is there") {
        Json::Object(fields) => drop(fields.insert(key.to_owned(), value)),
        Json::Array(items) => items[key.parse::<usize>().expect("a number")] = value,
        other => panic!("{at} goes into {other}"),
    }
}

/// A random plan over tools of one type: each step may use the outputs of earlier ones, in one of the ways that there are.
fn any_plan(depth: u32) -> BoxedStrategy<Json> {
    let step = (any::<prop::sample::Index>(), 0..6_u8, any::<bool>());
    prop::collection::vec(step, 1..8)
        .prop_flat_map(move |choices| {
            let inner = if depth == 0 { Just(None).boxed() } else { prop::option::of(any_plan(depth - 1)).boxed() };
            (Just(choices), inner).prop_map(|(choices, inner)| plan_of(&choices, inner.as_ref()))
        })
        .boxed()
}

fn plan_of(choices: &[(prop::sample::Index, u8, bool)], inner: Option<&Json>) -> Json {
    let mut steps: Vec<Json> = Vec::new();
    for (n, (which, how, is_soft)) in choices.iter().enumerate() {
        let mut step = json!({"id": format!("s{n}"), "tool": "shop.price", "args": {"sku": "a"}});
        if n > 0 {
            let other = format!("s{}", which.index(n));
            let mut reference = json!({"$from": other});
            if *is_soft {
                reference["default"] = json!(0.5);
            }
            match how {
                0 => step["needs"] = json!([other]),
                1 => step["after"] = json!([other]),
                2 => step["when"] = json!(format!("steps.{other} != null && (steps.{other} > 0.5 || {is_soft})")),
                3 => step = json!({"id": format!("s{n}"), "tool": "shop.add", "args": {"numbers": [1, reference]}}),
                4 => {
                    step["for_each"] = json!({"in": [{"sku": "x"}, {"sku": "y"}], "items_max": 3});
                    step["args"]["sku"] = json!({"$item": "/sku"});
                    step["id"] = json!(format!("list{n}"));
                    steps.push(step);
                    let numbers = json!({"$from": format!("list{n}"), "default": []});
                    step = json!({"id": format!("s{n}"), "tool": "shop.add", "args": {"numbers": numbers}});
                }
                _ => {
                    let workflow = json!({"workflow": "w", "goal": "g", "inputs": {"n": 0},
                        "steps": inner.map_or(json!([{"id": "z", "tool": "shop.add", "args": {"numbers": [{"$input": "n"}]}}]), |plan| plan["steps"].clone())});
                    steps.push(
                        json!({"id": format!("run{n}"), "run": {"workflow": workflow}, "args": {"n": reference}}),
                    );
                    step["after"] = json!([format!("run{n}")]);
                }
            }
        }
        steps.push(step);
    }
    let last = format!("s{}", choices.len() - 1);
    json!({"workflow": "any", "goal": "g", "steps": steps, "answer": {"$from": last}, "assert": [format!("steps.{last} != 1")]})
}

/// Every name that a checked plan refers to, wherever it stands, is one of its steps.
fn dangling(plan: &CheckedPlan) -> Vec<String> {
    let ids: BTreeSet<&str> = plan.steps.iter().map(|step| step.planned.id.as_str()).collect();
    let mut named: Vec<String> = Vec::new();
    for step in &plan.steps {
        let lists = step.for_each.iter().map(|for_each| &for_each.list);
        let values = [&step.args].into_iter().chain(lists);
        named.extend(values.flat_map(|value| references(value).expect("they read")).map(|found| found.step.to_owned()));
        named.extend(step.planned.needs.iter().chain(&step.planned.after).map(ToString::to_string));
        let when = step.when.as_ref().map(|text| Condition::parse(text).expect("it reads"));
        named.extend(when.iter().flat_map(|condition| condition.steps().clone()));
    }
    let assertions = plan.assert.iter().map(|text| Condition::parse(text).expect("it reads"));
    named.extend(assertions.flat_map(|condition| condition.steps().clone()));
    named.extend(plan.answer.iter().flat_map(|value| references(value).expect("they read")).map(|f| f.step.to_owned()));
    named.retain(|name| !ids.contains(name.as_str()));
    named
}

/// Each step stands behind those that it waits for.
fn is_ordered(plan: &CheckedPlan) -> bool {
    let mut placed: BTreeSet<&StepId> = BTreeSet::new();
    plan.steps.iter().all(|step| {
        let is_behind = step.planned.needs.iter().chain(&step.planned.after).all(|id| placed.contains(id));
        placed.insert(&step.planned.id) && is_behind
    })
}

fn large() -> Budget {
    Budget { calls_max: 100_000, calls_per_tool_max: 100_000, depth_max: 5, ..Budget::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nested_plans_are_read_from_each_format_with_no_dangling_reference(file in any_plan(3)) {
        let texts = [
            (Format::Json, file.to_string()),
            (Format::Yaml, serde_norway::to_string(&file).expect("it is YAML")),
            (Format::Toml, toml::to_string(&file).expect("it is TOML")),
        ];
        let mut plans = Vec::new();
        for (format, text) in texts {
            let plan = WorkflowPlanner::parse(&text, format).and_then(|workflow| workflow.proposed());
            let plan = plan.unwrap_or_else(|failure| panic!("{failure}\n{text}"));
            let checked = checked_within(&plan, &large());
            let checked = checked.unwrap_or_else(|flaws| panic!("{flaws:#?}\n{text}"));
            prop_assert_eq!(dangling(&checked), Vec::<String>::new());
            prop_assert!(is_ordered(&checked));
            plans.push(checked);
        }
        prop_assert_eq!(&plans[0], &plans[1]);
        prop_assert_eq!(&plans[0], &plans[2]);
    }

    #[test]
    fn a_plan_that_lost_a_step_is_refused_if_anything_named_it(file in any_plan(1), lost in any::<prop::sample::Index>()) {
        let mut file = file;
        let steps = file["steps"].as_array_mut().expect("it has steps");
        let lost = steps.remove(lost.index(steps.len()));
        let name = lost["id"].as_str().expect("it has a name");
        let is_named = file.to_string().split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == name);
        let plan = WorkflowPlanner::parse(&file.to_string(), Format::Json).and_then(|workflow| workflow.proposed());
        let result = checked_within(&plan.expect("the file reads"), &large());
        // A run within may have a step of that name too.
        let is_inner = file["steps"].as_array().is_some_and(|steps| steps.iter().any(|step| step["run"].to_string().contains(&format!("\"{name}\""))));
        prop_assert!(is_inner || is_named == result.is_err(), "{name}: {result:?}");
    }

    #[test]
    fn no_text_makes_a_condition_panic(text in "[ -~]{0,60}|[a-z0-9().\\[\\]\"'+*/%!<>=&|?:, {}-]{0,80}|\\PC{0,40}") {
        if let Ok(condition) = Condition::parse(&text) {
            let steps = BTreeMap::from([("a".to_owned(), json!({"b": [1, "x", null]}))]);
            drop(condition.holds(&steps, Some(&json!({"c": 2}))));
        }
    }

    #[test]
    fn no_values_make_a_check_panic(args in any_json(), list in any_json(), answer in any_json()) {
        let plan = json!({"steps": [
            {"id": "a", "tool": "shop.find", "args": args, "for_each": {"in": list, "items_max": 5}},
            {"id": "b", "run": {"workflow": answer}, "args": args, "undo": {"tool": "release", "args": list}},
        ], "answer": answer});
        let plan: Plan = serde_json::from_value(plan).expect("it has the shape of a plan");
        drop(checked_within(&plan, &Budget::default()));
    }
}

/// Values that often look like parts of a plan.
fn any_json() -> BoxedStrategy<Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        "[a-z/~$]{0,6}".prop_map(Json::from),
        Just(json!({"$from": "a"})),
        Just(json!({"$item": "/x"})),
        Just(json!({"$from": "a", "path": "/id", "default": 1})),
        Just(json!({"$literal": {"$from": 1}})),
    ];
    let key = prop_oneof![
        Just("$from"),
        Just("$item"),
        Just("$in"),
        Just("$input"),
        Just("name"),
        Just("steps"),
        Just("workflow")
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..4)
                .prop_map(|map| map.into_iter().collect()),
        ]
    })
    .boxed()
}

#[test]
fn a_plan_that_cannot_fit_its_budget_is_refused_naming_step_and_bound() {
    let plan: Plan = serde_json::from_value(whole()).expect("it has the shape of a plan");
    let refused = |budget: Budget| told(&checked_within(&plan, &budget));
    let budget = Budget { fuel_max: 200, ..Budget::default() };
    expect![[r#"
        /steps/2 policy.budget: check the plan at /steps/2: with step `prices` the plan may take 220 of `fuel_max`, and 200 are left
    "#]].assert_eq(&refused(budget));
    let budget = Budget { calls_per_tool_max: 19, ..Budget::default() };
    expect![[r#"
        /steps/2 policy.budget: check the plan at /steps/2: with step `prices` the plan may take 20 of `calls_per_tool_max`, and 19 are left
    "#]].assert_eq(&refused(budget));
    let budget = Budget { depth_max: 0, ..Budget::default() };
    expect![[r#"
        /steps/6/run data.plan_invalid: check the plan at /steps/6/run: it lies deeper than `depth_max` of the budget allows
    "#]].assert_eq(&refused(budget));
}

#[test]
fn the_graph_of_a_plan_has_every_edge_that_may_be_taken() {
    let graph = graph(&checked(&whole()).expect("it passes"));
    let edges: String = graph
        .edges
        .iter()
        .map(|edge| format!("{} -> {} {}\n", edge.from, edge.to, json!(edge.kind).as_str().unwrap_or_default()))
        .collect();
    expect![[r#"
        t2.again -> t2.again:run run
        t2.charge -> t2.charge:approval approval
        t2.charge -> t2.charge:reconcile reconcile
        t2.charge -> t2.charge:undo undo
        t2.charge:reconcile -> t2.charge:reconcile:approval approval
        t2.charge:undo -> t2.charge:undo:approval approval
        t2.find -> t2.again data
        t2.find -> t2.other fallback
        t2.find -> t2.prices data
        t2.find -> t2.reserve data
        t2.find -> t2.reserve when
        t2.other -> t2.again data
        t2.other -> t2.prices data
        t2.other -> t2.reserve data
        t2.other -> t2.reserve when
        t2.prices -> t2.prices:item item
        t2.prices -> t2.sum data
        t2.reserve -> t2.charge after
        t2.reserve -> t2.reserve:approval approval
        t2.reserve -> t2.reserve:undo undo
        t2.reserve:undo -> t2.reserve:undo:approval approval
        t2.sum -> t2.charge data
        t2.sum -> t2.reserve needs
        t2.sum -> t2.reserve when
    "#]]
    .assert_eq(&edges);
    let nodes: BTreeSet<&str> = graph.nodes.iter().map(|node| node.id.as_str()).collect();
    assert_eq!(nodes.len(), graph.nodes.len(), "each node stands once");
    assert!(graph.edges.iter().all(|edge| nodes.contains(edge.from.as_str()) && nodes.contains(edge.to.as_str())));
}

fn page(path: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn schema() -> jsonschema::Validator {
    jsonschema::validator_for(&cofferdam::planner::workflow::schema()).expect("it is a schema")
}

/// The same value, its keys in order, whatever map it was built with.
fn sorted(value: &Json) -> Json {
    match value {
        Json::Object(fields) => {
            let fields: BTreeMap<_, _> = fields.iter().map(|(key, field)| (key.clone(), sorted(field))).collect();
            fields.into_iter().collect()
        }
        Json::Array(items) => items.iter().map(sorted).collect(),
        scalar => scalar.clone(),
    }
}

#[test]
fn the_published_schema_is_that_of_the_types() {
    let schema = cofferdam::planner::workflow::schema();
    let text = serde_json::to_string_pretty(&sorted(&schema)).expect("it is JSON");
    expect_file!["../../docs/workflow.schema.json"].assert_eq(&format!("{text}\n"));
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let steps = &schema["$defs"]["PlanStep"]["properties"];
    for (name, property) in steps.as_object().expect("a step has fields") {
        assert!(property["description"].is_string(), "`{name}` of a step is not explained");
    }
}

#[test]
fn the_schema_takes_what_the_reader_takes_and_refuses_misspellings() {
    let schema = schema();
    let mut file = whole();
    file["workflow"] = json!("w");
    file["goal"] = json!("g");
    assert!(schema.is_valid(&file), "{:?}", schema.iter_errors(&file).map(|e| e.to_string()).collect::<Vec<_>>());
    for (at, value) in [
        ("/step", json!([])),
        ("/steps/0/retires", json!(1)),
        ("/steps/0/on_failure", json!("ignore")),
        ("/steps/2/for_each/items_mx", json!(1)),
        ("/steps/4/needs", json!("sum")),
    ] {
        let mut wrong = file.clone();
        set(&mut wrong, at, value);
        assert!(!schema.is_valid(&wrong), "{at}");
        assert!(WorkflowPlanner::parse(&wrong.to_string(), Format::Json).is_err(), "{at}");
    }
}

/// Every workflow file below `examples/`.
fn examples() -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder of examples lists") {
            let path = entry.expect("an entry reads").path();
            if path.is_dir() {
                folders.push(path);
            } else if std::fs::read_to_string(&path)
                .is_ok_and(|text| text.lines().any(|line| line.starts_with("workflow")))
            {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn every_example_is_in_order_for_the_schema_and_the_reader() {
    let examples = examples();
    assert!(!examples.is_empty());
    for path in examples {
        WorkflowPlanner::read(&path).unwrap_or_else(|failure| panic!("{failure}"));
        let text = std::fs::read_to_string(&path).expect("it was read");
        let value: Json = match path.extension().and_then(|extension| extension.to_str()) {
            Some("toml") => toml::from_str(&text).expect("it is TOML"),
            Some("json") => serde_json::from_str(&text).expect("it is JSON"),
            _ => serde_norway::from_str(&text).expect("it is YAML"),
        };
        assert!(schema().is_valid(&value), "{}", path.display());
    }
}

/// The blocks of a page in a language, each with what stands in its first line behind the language.
fn blocks(page: &str, language: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(tag) = line.strip_prefix(&format!("```{language}")) else { continue };
        let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        blocks.push((tag.trim().to_owned(), text.join("\n")));
    }
    blocks
}

#[test]
fn every_example_of_the_page_is_checked() {
    let page = page("docs/workflows.md");
    let head = "workflow = \"example\"\ngoal = \"Show it.\"\n";
    let mut count = 0;
    for (language, format) in [("toml", Format::Toml), ("yaml", Format::Yaml), ("json", Format::Json)] {
        for (tag, text) in blocks(&page, language) {
            // A block that only shows steps stands in a file of its own here.
            let text = if tag == "steps" { format!("{head}{text}") } else { text };
            let workflow = WorkflowPlanner::parse(&text, format).unwrap_or_else(|failure| panic!("{failure}\n{text}"));
            let plan = workflow.proposed().expect("inputs were checked");
            let checked = checked_within(&plan, &Budget::default());
            assert!(checked.is_ok(), "{}\n{text}", told(&checked));
            count += 1;
        }
    }
    assert!(count >= 9, "{count} examples were found");
    for (tag, text) in blocks(&page, "cel") {
        assert!(tag.is_empty());
        for line in text.lines() {
            Condition::parse(line).unwrap_or_else(|flaw| panic!("{line}: {flaw}"));
        }
    }
}

#[test]
fn a_wrong_file_is_told_with_file_line_and_column_in_each_format() {
    let shop = Shop::new();
    let toml = "workflow = \"w\"\ngoal = \"g\"\n\n[[steps]]\nid = \"a\"\ntool = \"math.evl\"\n\n[[steps]]\nid = \"b\"\ntool = \"math.eval\"\nwhen = \"steps.c == 1\"\nargs = { expression = 7 }\n";
    let yaml = "workflow: w\ngoal: g\nsteps:\n- id: a\n  tool: math.evl\n- id: b\n  tool: math.eval\n  when: steps.c == 1\n  args:\n    expression: 7\n";
    let json = "{\"workflow\": \"w\", \"goal\": \"g\", \"steps\": [\n {\"id\": \"a\",\n  \"tool\": \"math.evl\"},\n {\"id\": \"b\", \"tool\": \"math.eval\",\n  \"when\": \"steps.c == 1\",\n  \"args\": {\"expression\": 7}}]}\n";
    for (name, text, places) in [
        ("w.toml", toml, ["6:8", "11:8", "12:23"]),
        ("w.yaml", yaml, ["5:9", "8:9", "10:17"]),
        ("w.json", json, ["3:11", "5:11", "6:26"]),
    ] {
        shop.write(name, text);
        let told = shop.run(&["plan", "check", name]).ends(3);
        let expected = format!(
            "{name}:{}: error: /steps/0/tool: there is no tool `math.evl`; did you mean `math.eval`?\n\
             {name}:{}: error: /steps/1/args/expression: `math.eval`: expects text; its schema is {{\"type\":\"string\"}}\n\
             {name}:{}: error: /steps/1/when: condition `steps.c == 1`: there is no step `c`\n",
            places[0], places[2], places[1],
        );
        assert_eq!(told.err, expected);
        let flaws = shop.run(&["plan", "check", name, "--json"]).ends(3).json();
        assert_eq!(flaws["flaws"][2]["place"]["line"], places[1].split(':').next().unwrap().parse::<u64>().unwrap());
        shop.run(&["plan", "graph", name]).ends(3);
    }
    shop.write("shape.toml", "workflow = \"w\"\ngoal = \"g\"\nsteps = 3\n");
    assert!(shop.run(&["plan", "check", "shape.toml"]).ends(3).err.contains("shape.toml:3:9: "));
    shop.run(&["plan", "check", "none.toml"]).ends(2);
    shop.run(&["plan", "check", "flow.toml", "--set", "expresion=1"]).ends(2);
}

#[test]
fn a_plan_is_shown_before_it_runs_with_what_it_may_do_and_whom_it_asks() {
    let shop = Shop::new();
    let told = shop.run(&["plan", "check", "flow.toml"]).ends(0).out;
    assert!(told.contains("2 steps, at most 2 calls, 40") && told.contains("a person is asked about 1 step"), "{told}");
    let plan = shop.run(&["plan", "check", "flow.toml", "--set", "expression=2 + 2", "--json"]).ends(0).json();
    let step = &plan["plan"]["steps"][1];
    assert_eq!(
        (&step["step"], &step["effect"], &step["on_failure"]),
        (&json!("write"), &json!("once"), &json!("fail"))
    );
    assert!(step["person"].as_str().is_some_and(|person| person.contains("write-notes")), "{plan}");
    assert_eq!(plan["plan"]["cost"]["calls"], 2);
    shop.write(
        "cofferdam.toml",
        &format!(
            "{}[budget]\ncalls_max = 1\n",
            std::fs::read_to_string(shop.path("cofferdam.toml")).expect("it reads")
        ),
    );
    let told = shop.run(&["plan", "check", "flow.toml"]).ends(3).err;
    assert!(told.contains("flow.toml:") && told.contains("step `write`") && told.contains("`calls_max`"), "{told}");
}

#[test]
fn the_graph_is_drawn_for_three_readers() {
    let shop = Shop::new();
    let dot = shop.run(&["plan", "graph", "flow.toml"]).ends(0).out;
    assert!(
        dot.starts_with("digraph plan {") && dot.contains("\"t1.sum\" -> \"t1.write\" [label = \"needs\"];"),
        "{dot}"
    );
    let mermaid = shop.run(&["plan", "graph", "flow.toml", "--format", "mermaid"]).ends(0).out;
    assert!(mermaid.contains("t1_dsum -->|needs| t1_dwrite") && mermaid.contains("-.->|approval|"), "{mermaid}");
    let json = shop.run(&["plan", "graph", "flow.toml", "--format", "json"]).ends(0).json();
    assert_eq!(json["edges"][0], json!({"from": "t1.sum", "to": "t1.write", "kind": "needs"}));
    let schema = shop.run(&["plan", "schema"]).ends(0).json();
    assert_eq!(schema, cofferdam::planner::workflow::schema());
}
