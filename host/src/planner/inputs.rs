//! The person's inputs in what a planner proposes: `{"$from": "input.NAME", "path": pointer}` becomes the value.
//!
//! Pure. The value stands in the plan as data, so that what checks, keeps and plays back a plan need not know of inputs. A
//! step cannot be called so: its full id begins with the number of its turn.

use std::collections::BTreeMap;

use crate::domain::{Failure, ForEach, Json, Kind, Plan, PlanStep, Reference, printable, reference};

use super::Proposal;
use super::strict::as_literal;

/// What a reference to an input begins with.
pub(super) const INPUT: &str = "input.";

/// Puts the inputs in their places.
///
/// # Errors
/// `model.schema` with a JSON pointer, where there is no such input or nothing at the path.
pub(super) fn filled(proposal: Proposal, inputs: &BTreeMap<String, Json>) -> Result<Proposal, Failure> {
    let flaw = |(at, what): Flaw| {
        Failure::new(Kind::ModelSchema, format!("read the reply: `{at}` {what}"))
            .hint("the inputs are told in <inputs>")
    };
    match proposal {
        Proposal::Plan(plan) => plan_filled(plan, inputs).map(Proposal::Plan).map_err(flaw),
        Proposal::Answer(answer) => value(&answer, inputs, "/answer").map(Proposal::Answer).map_err(flaw),
        said @ (Proposal::Question(_) | Proposal::Abstention(_)) => Ok(said),
    }
}

/// A place, and what is wrong there.
type Flaw = (String, String);

fn plan_filled(plan: Plan, inputs: &BTreeMap<String, Json>) -> Result<Plan, Flaw> {
    let step = |(n, step): (usize, PlanStep)| {
        let for_each = match step.for_each {
            Some(for_each) => {
                let list = value(&for_each.list, inputs, &format!("/steps/{n}/for_each/in"))?;
                Some(ForEach { list, ..for_each })
            }
            None => None,
        };
        let args = value(&step.args, inputs, &format!("/steps/{n}/args"))?;
        Ok(PlanStep { args, for_each, ..step })
    };
    Ok(Plan { steps: plan.steps.into_iter().enumerate().map(step).collect::<Result<_, Flaw>>()?, ..plan })
}

fn value(json: &Json, inputs: &BTreeMap<String, Json>, at: &str) -> Result<Json, Flaw> {
    if let Ok(Some(reference)) = reference(json) {
        return match reference.step.strip_prefix(INPUT) {
            Some(name) => input(name, &reference, inputs).map_err(|what| (at.to_owned(), what)),
            None => Ok(json.clone()),
        };
    }
    let below = |key: &str| format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
    match json {
        Json::Object(fields) if fields.contains_key("$literal") => Ok(json.clone()),
        Json::Object(fields) => {
            let fields = fields.iter().map(|(key, field)| Ok((key.clone(), value(field, inputs, &below(key))?)));
            Ok(Json::Object(fields.collect::<Result<_, Flaw>>()?))
        }
        Json::Array(items) => {
            let items = items.iter().enumerate().map(|(n, item)| value(item, inputs, &below(&n.to_string())));
            Ok(Json::Array(items.collect::<Result<_, _>>()?))
        }
        scalar => Ok(scalar.clone()),
    }
}

fn input(name: &str, reference: &Reference<'_>, inputs: &BTreeMap<String, Json>) -> Result<Json, String> {
    let known = || inputs.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let Some(input) = inputs.get(name) else {
        return Err(format!("refers to input `{}`, and there are: {}", printable(name), known()));
    };
    let found = input.pointer(reference.path).or(reference.default);
    found.map(as_literal).ok_or_else(|| format!("finds nothing in input `{name}` at `{}`", printable(reference.path)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn inputs() -> BTreeMap<String, Json> {
        [("file".to_owned(), json!({"rows": [1, 2]})), ("sly".to_owned(), json!({"$from": "t1.a"}))].into()
    }

    fn plan(args: Json) -> Result<Json, Failure> {
        let plan = Plan { steps: vec![PlanStep { id: "a".into(), args, ..PlanStep::default() }], ..Plan::default() };
        match filled(Proposal::Plan(plan), &inputs())? {
            Proposal::Plan(plan) => Ok(plan.steps[0].args.clone()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_input_takes_the_place_of_its_reference_as_data() {
        let args = json!({"n": {"$from": "input.file", "path": "/rows/1"}, "l": [{"$from": "input.sly", "path": ""}],
            "d": {"$from": "input.file", "path": "/none", "default": 7}, "s": {"$from": "t1.x", "path": ""},
            "x": {"$literal": {"$from": "input.file"}}});
        let filled = plan(args).unwrap();
        assert_eq!((&filled["n"], &filled["d"]), (&json!(2), &json!(7)));
        assert_eq!(filled["l"][0], json!({"$literal": {"$from": "t1.a"}}));
        assert_eq!(filled["s"], json!({"$from": "t1.x", "path": ""}));
        assert_eq!(filled["x"], json!({"$literal": {"$from": "input.file"}}));
    }

    #[test]
    fn an_input_that_is_not_there_is_told_with_its_place() {
        let message = plan(json!({"a/b": [{"$from": "input.no", "path": ""}]})).unwrap_err().message;
        assert!(message.contains("`/steps/0/args/a~1b/0`") && message.contains("file, sly"), "{message}");
        assert!(plan(json!({"a": {"$from": "input.file", "path": "/x"}})).is_err());
    }
}
