//! Cuts a context pack to the room that there is.
//!
//! Pure. Bytes stand for tokens: no tokenizer makes more of a text than it has bytes. What is cut goes in a fixed order:
//! previews of outputs, then whole outputs, then the tools that fit the goal least, then schemas and arguments of steps,
//! then steps; of each kind the oldest first. What a run needs to go on stays: the goal, what the person gave and said, the
//! tools that it has used. The pack tells what was cut.

use std::collections::BTreeSet;

use crate::domain::ToolName;

use super::prompt::{observation_bytes, system, tool_bytes, user};
use super::{ContextPack, Observation, Observed};

/// Returns the pack cut to `tokens_max`, as far as that goes. `order` has the offered tools, the one that fits best first;
/// those in `kept` stay.
pub fn fitted(mut pack: ContextPack, order: &[ToolName], kept: &BTreeSet<ToolName>, tokens_max: usize) -> ContextPack {
    let bytes = system(&pack).len() + user(&pack).len();
    let mut over = bytes.saturating_sub(tokens_max);
    if over == 0 {
        return pack;
    }
    // The lines that tell what was cut take room themselves.
    over += CUT_BYTES_MAX;
    pack.cut.previews += each(&mut pack, &mut over, |observed| drop_preview(observed, false));
    pack.cut.previews += each(&mut pack, &mut over, |observed| drop_preview(observed, true));
    pack.cut.tools += drop_tools(&mut pack, &mut over, order, kept);
    pack.cut.shapes += each(&mut pack, &mut over, drop_shape);
    pack.cut.observations += drop_observations(&mut pack, &mut over);
    pack
}

/// Bytes of what a pack tells of its cuts, at most.
const CUT_BYTES_MAX: usize = 200;

/// Cuts at observations, the oldest first, until there is room; returns how many were cut.
fn each(pack: &mut ContextPack, over: &mut usize, cut: impl Fn(&mut Observation) -> bool) -> u32 {
    let mut count = 0;
    for observation in &mut pack.observations {
        if *over == 0 {
            break;
        }
        let before = observation_bytes(observation);
        if cut(observation) {
            *over = over.saturating_sub(before.saturating_sub(observation_bytes(observation)));
            count += 1;
        }
    }
    count
}

fn drop_preview(observation: &mut Observation, of_whole: bool) -> bool {
    match &mut observation.outcome {
        Observed::Succeeded { preview, is_whole, .. } if *is_whole == of_whole && !preview.is_empty() => {
            preview.clear();
            *is_whole = false;
            true
        }
        _ => false,
    }
}

fn drop_shape(observation: &mut Observation) -> bool {
    let schema = match &mut observation.outcome {
        Observed::Succeeded { schema, .. } | Observed::Failed { schema, .. } => schema.take(),
        Observed::Skipped => None,
    };
    observation.args.take().is_some() || schema.is_some()
}

/// Drops the tools that fit least. The one that fits best stays.
fn drop_tools(pack: &mut ContextPack, over: &mut usize, order: &[ToolName], kept: &BTreeSet<ToolName>) -> u32 {
    let mut count = 0;
    for name in order.iter().skip(1).rev().filter(|name| !kept.contains(name)) {
        let Some(at) = pack.tools.iter().position(|tool| tool.name == *name).filter(|_| *over > 0) else { continue };
        *over = over.saturating_sub(tool_bytes(&pack.tools.remove(at)));
        if let Some(retrieval) = &mut pack.retrieval {
            retrieval.near.retain(|near| near != name);
        }
        count += 1;
    }
    count
}

fn drop_observations(pack: &mut ContextPack, over: &mut usize) -> u32 {
    let mut count = 0;
    while *over > 0 && !pack.observations.is_empty() {
        *over = over.saturating_sub(observation_bytes(&pack.observations.remove(0)));
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::Effect;
    use crate::planner::{Cut, OfferedTool};

    fn tool(n: usize) -> OfferedTool {
        OfferedTool {
            name: format!("x.tool{n:02}").parse().unwrap(),
            summary: "s".repeat(500),
            effect: Effect::Pure,
            input_schema: json!({"type": "object"}),
            output_schema: json!({}),
        }
    }

    fn observed(n: usize, is_whole: bool) -> Observation {
        Observation {
            step: format!("t1.s{n:02}").parse().unwrap(),
            tool: "x.tool00".parse().unwrap(),
            args: Some(json!({"n": n})),
            outcome: Observed::Succeeded {
                bytes: 4_000,
                preview: json!("p".repeat(700)).to_string(),
                is_whole,
                schema: Some(json!({"type": "string", "description": "d".repeat(200)})),
            },
        }
    }

    fn pack() -> (ContextPack, Vec<ToolName>) {
        let tools: Vec<OfferedTool> = (0..10).map(tool).collect();
        let order = tools.iter().map(|tool| tool.name.clone()).collect();
        let observations = (0..10).map(|n| observed(n, n % 2 == 0)).collect();
        (ContextPack { goal: "g".into(), turn: 2, tools, observations, ..ContextPack::default() }, order)
    }

    fn bytes(pack: &ContextPack) -> usize {
        system(pack).len() + user(pack).len()
    }

    #[test]
    fn what_fits_is_left_as_it_is() {
        let (pack, order) = pack();
        assert_eq!(fitted(pack.clone(), &order, &BTreeSet::new(), bytes(&pack)), pack);
    }

    #[test]
    fn cuts_go_in_their_order_and_no_further_than_they_must() {
        let (whole, order) = pack();
        let fixed = system(&ContextPack { tools: vec![], ..whole.clone() }).len();
        let kept: BTreeSet<ToolName> = ["x.tool09".parse().unwrap()].into();
        let mut before = Cut::default();
        let mut last = bytes(&whole);
        for room in (fixed + 400..bytes(&whole)).rev().step_by(97) {
            let pack = fitted(whole.clone(), &order, &kept, room);
            let cut = pack.cut.clone();
            assert!(bytes(&pack) <= room || (pack.observations.is_empty() && pack.tools.len() == 2), "{room}: {cut:?}");
            assert!(bytes(&pack) <= last, "less room, no more bytes");
            // A later kind is touched only where all of the earlier kind is gone.
            assert!(cut.tools == 0 || cut.previews == 10, "{cut:?}");
            assert!(cut.shapes == 0 || cut.tools == 8, "{cut:?}");
            assert!(cut.observations == 0 || cut.shapes == 10, "{cut:?}");
            assert!(cut.previews >= before.previews && cut.observations >= before.observations);
            let names: Vec<String> = pack.tools.iter().map(|tool| tool.name.to_string()).collect();
            assert!(names.contains(&"x.tool00".into()) && names.contains(&"x.tool09".into()), "{names:?}");
            (before, last) = (cut, bytes(&pack));
        }
        assert!(before.observations > 0, "the least room was met: {before:?}");
    }

    #[test]
    fn previews_go_before_whole_outputs_and_the_oldest_first() {
        let (whole, order) = pack();
        let pack = fitted(whole.clone(), &order, &BTreeSet::new(), bytes(&whole) - 1_000);
        let left = |n: usize| matches!(&pack.observations[n].outcome, Observed::Succeeded { preview, .. } if !preview.is_empty());
        assert_eq!((pack.cut.previews, left(1), left(3), left(5), left(0)), (2, false, false, true, true));
    }
}
