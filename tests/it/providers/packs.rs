//! What leaves for a provider: few tools of many, nothing that the goal has no part in, the same bytes for the same question.

use cofferdam::host::RunState;

use super::*;
use crate::guest::assembled;

/// Tools that a request holds at the most, and bytes of the whole.
const TOOLS_MAX: usize = 8;
const BYTES_MAX: usize = 20_000;

/// Words in which names are made: two of them, so that there are enough.
const VERBS: [&str; 10] = ["list", "find", "count", "move", "copy", "close", "open", "send", "sort", "merge"];
const NOUNS: [&str; 20] = [
    "bolts", "orders", "rooms", "trains", "birds", "maps", "songs", "lamps", "seeds", "doors", "coins", "ships",
    "roads", "cups", "files", "bags", "ropes", "pens", "keys", "bricks",
];

/// A component of so many functions that do nothing; `more` is one more, that has nothing to do with any goal here.
fn warehouse(more: Option<&str>) -> (Vec<u8>, usize) {
    let names = VERBS.iter().flat_map(|verb| NOUNS.map(|noun| format!("{verb}-{noun}")));
    let names: Vec<String> = names.chain(more.map(str::to_owned)).collect();
    let export = |name: &String| format!("(func (export \"{name}\") (canon lift (core func $i \"run\")))");
    let exports: String = names.iter().map(export).collect();
    let text =
        format!("(component (core module $m (func (export \"run\"))) (core instance $i (instantiate $m)) {exports})");
    (assembled(&text), names.len())
}

const RULES: &str = "[[rule]]\nname = 'all'\nwhy = 'A test.'\nallow = ['store.*', 'notes.read']\napproval = 'none'\n\
    files = [{ mount = '/notes', path = 'notes', access = 'read' }]\n";

/// Runs a goal among two hundred tools, and returns the bodies of its requests, byte for byte.
async fn asked(provider: Provider, more: Option<&str>, secret: &str) -> Vec<Vec<u8>> {
    let world = World::new();
    std::fs::create_dir(world.path().join("notes")).expect("a folder is made");
    world.write("notes/long.txt", &format!("{}{secret}{}", "a".repeat(20_000), "b".repeat(20_000)));
    world.write("policy.toml", &format!("{POLICY}{RULES}"));
    let (store, tools) = warehouse(more);
    std::fs::write(world.path().join("store.wasm"), store).expect("a component is written");
    assert_eq!(tools, 200 + usize::from(more.is_some()));
    let looks = json!({"json": {"steps": [
        {"id": "look", "tool": "notes.read", "args": {"path": "/notes/long.txt"}},
        {"id": "sum", "tool": "math.eval", "args": {"expression": "20 + 22"}},
    ]}});
    let server = serves(&[looks, answer("t1.sum")]);
    let (math, notes) = (cofferdam_guests::component("math"), cofferdam_guests::component("notes"));
    let tools = format!("[tools]\nstore = 'store.wasm'\nmath = {math:?}\nnotes = {notes:?}\n");
    let text = provider.model("m", &server, PRICE);
    let text = format!("version = 0\n{tools}{text}[planner]\ntools_max = {TOOLS_MAX}\npack_tokens_max = {BYTES_MAX}\n");
    let settings = Settings::parse(&text, world.path(), "cofferdam.toml").expect("they read");
    let builder = HostBuilder::from_settings(settings).expect("they are in order").runner(world.runner.clone());
    let host = builder.build().expect("the host is made");
    let report = ended(&host, Goal::text("Read the note, and eval the expression of the sum.")).await;
    let requests = server.requests();
    assert_eq!(
        (server.finish(), report.state),
        (Ok(()), RunState::Succeeded),
        "{}: {:?}",
        provider.name,
        report.failure
    );
    let output = report.steps.iter().find(|step| step.step.local() == "look").and_then(|step| step.output.clone());
    assert!(output.is_some_and(|output| output.to_string().contains(secret)), "the step did read it");
    // The second request tells of two steps, each with its tool.
    let offered: Vec<usize> =
        requests.iter().map(|request| body(request).matches("\\\"tool\\\":\\\"").count()).collect();
    assert_eq!(offered, [TOOLS_MAX, TOOLS_MAX + 2], "{}", provider.name);
    for request in &requests {
        let text = body(request);
        assert!(text.len() <= BYTES_MAX, "{}: {} bytes", provider.name, text.len());
        assert!(!text.contains(secret) && !text.contains(&"a".repeat(100)), "{}: it tells it", provider.name);
    }
    requests.into_iter().map(|request| request.bytes).collect()
}

/// The body, schema of the reply and all.
fn body(request: &fake_llm::Recorded) -> &str {
    std::str::from_utf8(&request.bytes).expect("it is text")
}

#[tokio::test]
async fn of_two_hundred_tools_few_are_told_and_of_a_long_output_nothing() {
    for provider in &PROVIDERS[..4] {
        let first = asked(*provider, None, "canary-of-the-note").await;
        assert_eq!(first.len(), 2);
        let again = asked(*provider, None, "canary-of-the-note").await;
        assert_eq!(again[0], first[0], "{}: equal runs ask byte for byte the same", provider.name);
        let more = asked(*provider, Some("polish-mirrors"), "another-secret-there").await;
        assert_eq!(more[0], first[0], "{}: a tool more that has no part in it changes nothing", provider.name);
    }
}
