//! The program with models: flags, variables and the settings file, and what it logs.

use super::*;
use crate::cli::Shop;

fn script() -> String {
    let step = json!({"id": "a", "tool": "math.eval", "args": {"expression": "20 + 22"}});
    let replies = [json!({"json": {"steps": [step]}}), json!({"json": {"answer": {"$from": "t1.a", "path": ""}}})];
    replies.map(|reply| json!({ "reply": reply }).to_string()).join("\n")
}

#[test]
fn a_protocol_is_chosen_by_flag_and_no_log_tells_the_key_or_the_request() {
    for (protocol, server_protocol) in PROTOCOLS {
        let shop = Shop::new();
        let server = FakeLlm::start(&script()).expect("the script reads");
        let base_url = server.base_url_of(server_protocol);
        let flags = ["--model", "tiny", "--base-url", &base_url, "--protocol", protocol.name()];
        let mut command = shop.command(&[&["run", "--goal", "add the secret numbers"], &flags[..]].concat());
        let output = command.env("COFFERDAM_API_KEY", KEY).env("COFFERDAM_LOG", "trace").output().expect("it starts");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{protocol}: {told}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "42\n");
        assert!(!told.contains(KEY) && !told.contains("You are the planner"), "{protocol}: the log tells it");
        assert!(server.requests().iter().all(fake_llm::Recorded::has_key));
        assert_eq!(server.finish(), Ok(()));
    }
}

#[test]
fn a_run_that_is_left_tells_the_protocol_with_which_it_goes_on() {
    let shop = Shop::new();
    let server =
        FakeLlm::start(&json!({"reply": {"json": {"question": "Which year?"}}}).to_string()).expect("it reads");
    let base_url = server.base_url_of(fake_llm::Protocol::Messages);
    let flags = ["run", "--goal", "add", "--model", "tiny", "--base-url", &base_url, "--protocol", "anthropic"];
    let left = shop.run(&flags).ends(5);
    assert!(left.err.contains(&format!(" --model tiny --base-url {base_url} --protocol anthropic")), "{}", left.err);
    let refused = shop.run(&["run", "--goal", "add", "--model", "tiny", "--protocol", "soap"]).ends(3);
    assert!(refused.err.contains("a protocol is one of"), "{}", refused.err);
}

#[test]
fn models_of_the_settings_stand_in_for_each_other_across_providers() {
    let shop = Shop::new();
    let broken = FakeLlm::start(&json!({"reply": {"error": "overloaded"}}).to_string()).expect("it reads");
    let server = FakeLlm::start(&script()).expect("the script reads");
    shop.write("key", KEY);
    let settings = std::fs::read_to_string(shop.path("cofferdam.toml")).expect("it reads");
    let models = format!(
        "[models.first]\nprotocol = 'gemini'\nmodel = 'g'\nbase_url = '{}'\nprice = 0\n\
         [models.second]\nprotocol = 'anthropic'\nmodel = 'c'\nbase_url = '{}'\napi_key = 'file:key'\nprice = 0\n\
         [[tiers]]\nname = 'only'\nmodels = ['first', 'second']\neffects = 'once'\n[budget]\nusd_micros_max = 5\n",
        broken.base_url_of(fake_llm::Protocol::Gemini),
        server.base_url_of(fake_llm::Protocol::Messages),
    );
    shop.write("cofferdam.toml", &format!("{settings}\n{models}"));
    // The first fails at each turn; it is asked again only where the second does not answer.
    let done = shop.run(&["run", "--goal", "add"]).ends(0);
    assert_eq!(done.out, "42\n", "{}", done.err);
    assert_eq!(server.finish(), Ok(()));
    let shown = shop.run(&["show", "last", "--json"]).ends(0);
    assert!(shown.json()["planner"] == "models:first,second", "{}", shown.out);
    // A model that names its steps cannot have them approved by name, however many there are.
    shop.write("cofferdam.toml", &format!("{settings}\n{}", models.replace("['first', 'second']", "['third']")));
    let wrong = shop.run(&["run", "--goal", "add"]).ends(3);
    assert!(wrong.err.contains("there is no such model: `[models]` has `first`, `second`"), "{}", wrong.err);
}
