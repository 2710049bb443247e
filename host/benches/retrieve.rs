//! What finding tools for a goal costs: an index of 2,000 tools is made, and asked once, as each request to a planner does.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::time::Instant;

use cofferdam::domain::Effect;
use cofferdam::planner::OfferedTool;
use cofferdam::planner::retrieve::{Index, top_k};
use serde_json::json;

const TOOLS: usize = 2_000;

const VERBS: [&str; 10] = ["get", "list", "create", "update", "delete", "search", "export", "share", "move", "count"];

const NOUNS: [&str; 20] = [
    "invoice", "order", "customer", "ticket", "message", "channel", "file", "folder", "page", "event", "meeting",
    "branch", "issue", "image", "video", "report", "payment", "refund", "product", "review",
];

fn main() {
    // Under `cargo test` it is done once: that it works.
    let rounds = if std::env::args().any(|arg| arg == "--bench") { 50 } else { 1 };
    let tools = tools();
    let goal =
        "Please look for the unpaid invoices of our best customers since January, and send the list to the team.";
    let start = now();
    for _ in 0..rounds {
        black_box(Index::of(&tools));
    }
    let index_ms = start.elapsed().as_secs_f64() * 1_000.0 / f64::from(rounds);
    let index = Index::of(&tools);
    let start = now();
    for _ in 0..rounds {
        black_box(index.rank(goal));
    }
    let query_ms = start.elapsed().as_secs_f64() * 1_000.0 / f64::from(rounds);
    let found = top_k(goal, tools, &BTreeSet::new(), 20);
    assert_eq!(found.tools.len(), 20);
    println!("index = {index_ms:.1} ms for {TOOLS} tools (bound none)");
    println!("query = {query_ms:.2} ms over {TOOLS} tools (bound none)");
}

fn tools() -> Vec<OfferedTool> {
    let tool = |n: usize| {
        let (verb, noun) = (VERBS[n % VERBS.len()], NOUNS[n / VERBS.len() % NOUNS.len()]);
        let texts = ["limit", "cursor", "since", "format"].map(|name| {
            (
                name.to_owned(),
                json!({"type": "string", "description": format!("The {name} of the {noun}s, as the service has it.")}),
            )
        });
        OfferedTool {
            name: format!("service{}.{verb}-{noun}", n / 200).parse().expect("it is a name"),
            summary: format!("Will {verb} the {noun} that its id names, in the workspace of the user who asks."),
            effect: Effect::Read,
            input_schema: json!({"type": "object", "properties": serde_json::Map::from_iter(texts)}),
            output_schema: json!({"type": "object"}),
        }
    };
    (0..TOOLS).map(tool).collect()
}

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn now() -> Instant {
    Instant::now()
}
