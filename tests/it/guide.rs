//! `docs/models.md`, held: its settings read, its commands and flags are there, and what it prints is what is printed.

use std::fs;
use std::path::Path;

use cofferdam::config::{PriceSource, Settings};
use cofferdam::domain::Timestamp;
use cofferdam::planner::prices::{price_as, price_at};
use cofferdam::policy::Policy;
use cofferdam_kit::fake_llm::FakeLlm;
use regex::Regex;
use serde_json::{Value, json};

use crate::cli::Shop;
use crate::demo::Example;

/// 2026-11-23T00:00:00Z.
const DAY: Timestamp = Timestamp(1_795_392_000_000);

/// The goal that the page asks first.
const GOAL: &str = "What is the net revenue of the orders in /data/orders.csv (columns: region, amount)?";

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/models.md");
    fs::read_to_string(path).expect("the page reads")
}

/// The blocks of a language, in order.
fn blocks(language: &str) -> Vec<String> {
    let page = page();
    let parts = page.split("```").collect::<Vec<_>>();
    let inside = parts.iter().skip(1).step_by(2);
    inside.filter_map(|part| Some(part.strip_prefix(language)?.strip_prefix('\n')?.to_owned())).collect()
}

#[test]
fn every_block_of_settings_reads_and_the_price_of_each_model_is_known() {
    let (mut models, mut policies) = (0, 0);
    for block in blocks("toml") {
        if block.starts_with("# policy.toml") {
            Policy::parse(&block, Path::new("/srv")).unwrap_or_else(|failure| panic!("{failure}: {block}"));
            policies += 1;
            continue;
        }
        let settings = Settings::parse(&format!("version = 0\n{block}"), Path::new("/srv"), "cofferdam.toml");
        let settings = settings.unwrap_or_else(|failure| panic!("{failure}: {block}"));
        for model in settings.model.into_iter().flat_map(|models| models.models) {
            let price = match &model.price {
                None => price_at(&model.base_url, &model.model, DAY),
                Some(PriceSource::Written(price)) => Some(price.clone()),
                Some(PriceSource::As(name)) => price_as(name, DAY),
            };
            assert!(price.is_some(), "nobody knows what `{}` costs: {block}", model.name);
            models += 1;
        }
    }
    assert!(models >= 11 && policies == 1, "the blocks were found: {models} {policies}");
}

#[test]
fn every_command_is_one_and_has_each_flag() {
    let shop = Shop::new();
    let commands: Vec<String> =
        blocks("sh").iter().flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    assert!(commands.len() >= 10, "the commands were found: {commands:?}");
    for line in commands {
        let mut words = line.split_whitespace();
        assert_eq!(words.next(), Some("cofferdam"), "{line}");
        let names: Vec<&str> = words.clone().take_while(|word| word.chars().all(|c| c.is_ascii_lowercase())).collect();
        // A word behind the command may be an argument.
        let is_nested = names.starts_with(&["route", "explain"]);
        let help = shop.run(&[&names[..if is_nested { 2 } else { 1 }], &["--help"]].concat()).ends(0).out;
        for flag in words.filter(|word| word.starts_with("--")) {
            assert!(help.contains(flag), "`{line}`: there is no {flag}");
        }
    }
}

/// Text with all that differs from run to run left out: numbers, ids, and room between columns.
fn told(text: &str) -> String {
    let id = Regex::new("r-[0-9a-z]{26}").expect("a pattern");
    let number = Regex::new(r"\d[\d.,]*").expect("a pattern");
    let text = number.replace_all(&id.replace_all(text, "RUN"), "N").into_owned();
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join("\n")
}

fn script() -> String {
    let metric = json!({"measure": "sum", "column": "amount"});
    let args = json!({"path": "/data/orders.csv", "group_by": [], "metrics": [metric]});
    let step = json!({"id": "total", "tool": "csv.aggregate", "args": args});
    let reply = |json: Value, usage: Value| json!({"reply": {"json": json, "usage": usage}}).to_string();
    let answer = json!({"answer": {"$from": "t1.total", "path": "/rows/0/0"}});
    let plan = reply(json!({"steps": [step]}), json!({"prompt": 3_120, "reply": 96}));
    let answer = reply(answer, json!({"prompt": 3_410, "cached": 2_900, "reply": 21}));
    [plan, answer].join("\n")
}

#[test]
fn what_the_page_prints_of_its_first_goal_is_what_is_printed() {
    let example = Example::new();
    let server = FakeLlm::start(&script()).expect("the script reads");
    let settings = fs::read_to_string(example.path("cofferdam.toml")).expect("it reads");
    let base_url = server.base_url();
    let model = format!("[model]\nname = 'gpt-4.1-mini'\nbase_url = '{base_url}'\nprice = 'openai/gpt-4.1-mini'\n");
    fs::write(example.path("cofferdam.toml"), format!("{settings}{model}")).expect("it is written");
    assert!(page().contains(GOAL), "the page asks this goal");
    let run = example.run(&["run", "--goal", GOAL, "--usd-max", "0.05"]);
    assert_eq!(server.finish(), Ok(()));
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert_eq!(out, "698270.44\n", "{err}");
    assert!(page().contains("`698270.44`"));
    let printed = blocks("text").into_iter().find(|block| block.starts_with("run r-")).expect("the page prints a run");
    assert_eq!(told(&printed), told(&err));
    for part in ["3,120 + 96 tokens, 0.0014016 USD", "3,410 (2,900 cached) + 21 tokens, 0.0005276 USD"] {
        assert!(err.contains(part) && printed.contains(part), "{part}: {err}");
    }
    route_and_doctor_tell_of_it(&example);
}

/// The same run as `route explain`, `stats` and `doctor` tell it; nothing is sent for that, as nobody listens any more.
fn route_and_doctor_tell_of_it(example: &Example) {
    let of = |args: &[&str]| {
        let output = example.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let route = of(&["route", "explain", "last"]);
    for words in ["turn 2  `gpt-4.1-mini` of tier `only`", "because    the cheapest is up to it", "plan accepted"] {
        assert!(route.contains(words), "{words}: {route}");
    }
    let route: Value = serde_json::from_str(&of(&["route", "explain", "last", "--json"])).expect("it is JSON");
    assert_eq!(route[0]["pack"]["goal"], GOAL);
    assert_eq!(route[1]["pack"]["observations"][0]["step"], "t1.total");
    let foreseen: Value =
        serde_json::from_str(&of(&["route", "explain", "--goal", GOAL, "--critical", "--json"])).expect("it is JSON");
    assert_eq!(foreseen["pack"]["tools"].as_array().map(Vec::len), foreseen["tools"].as_array().map(Vec::len));
    assert_eq!(foreseen["routed"]["choice"]["why"], json!(["the goal is critical"]));
    assert!(of(&["route", "explain", "--goal", GOAL]).contains("at most 0.0"));
    assert!(of(&["stats", "--by", "tier"]).contains("only      1    100.0 %"));
    assert!(
        of(&["doctor"]).contains("`gpt-4.1-mini`, without a key: `gpt-4.1-mini` by openai-chat at http://127.0.0.1:")
    );
}
