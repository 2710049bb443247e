//! From a model's words to a proposal.
//!
//! Pure. What is wrong is told by JSON pointer, all of it at once, so that one repair can mend it. A parsed plan has the
//! right shape and nothing more: names, references and arguments are for `orchestrator::check`.

use serde::{Deserialize, Serialize};
use serde_json::Map;

use super::inputs;
use super::strict::{self, as_literal};
use super::{ContextPack, Proposal};
use crate::domain::{Failure, ForEach, Json, Kind, OnFailure, Plan, PlanStep};

/// Bounds on a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyLimits {
    /// Bytes of text.
    pub bytes_max: usize,
    /// Levels of nesting of the whole reply.
    pub depth_max: usize,
}

impl Default for ReplyLimits {
    /// 1 MiB is more than any model writes in one reply; 36 levels are what a plan allows and the four around it.
    fn default() -> Self {
        Self { bytes_max: 1 << 20, depth_max: 36 }
    }
}

/// A call that a model asks for by its own means, beside the format of the reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NativeCall {
    pub tool: String,
    /// JSON text, as the model wrote it.
    pub arguments: String,
}

/// Shape errors that one failure lists: a reply with more is no near miss.
const FLAWS_MAX: usize = 12;

/// Flags of one step: whoever doubts it more should not propose it.
const FLAGS_MAX: usize = 8;

/// Characters of one flag: a few words.
const FLAG_CHARS_MAX: usize = 40;

const REPLY_HINT: &str =
    "reply with one JSON object that holds exactly one of `steps`, `answer`, `question` and `abstain`";

/// Levels of arguments that are written as text: as many as a plan allows.
const ARGS_DEPTH_MAX: usize = 32;

/// What the kept text of a reply with native calls begins with.
const CALLS_START: &str = "{\"tool_calls\":";

/// A reply with native calls, as it is kept.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCalls {
    tool_calls: Vec<NativeCall>,
    /// What the model said beside them; nobody acts on it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    text: String,
}

/// Writes what a model said beside its native calls, and those, as [`read`] reads it.
pub fn written(text: &str, calls: &[NativeCall]) -> String {
    let written = WrittenCalls { tool_calls: calls.to_vec(), text: text.to_owned() };
    // It is text and lists of text, which JSON can always say.
    serde_json::to_string(&written).unwrap_or_default()
}

/// Reads a reply as it is kept: text, or native calls. When it came it was read by this too, so that it means the same for as
/// long as it is kept.
///
/// # Errors
/// Those of [`parse`] and [`parse_calls`].
pub fn read(reply: &str, pack: &ContextPack, limits: &ReplyLimits) -> Result<Proposal, Failure> {
    // Written as JSON text within JSON text, a reply within its bound may be larger than that.
    let is_written = reply.starts_with(CALLS_START) && reply.len() <= limits.bytes_max.saturating_mul(8);
    match is_written.then(|| serde_json::from_str::<WrittenCalls>(reply)) {
        Some(Ok(written)) => parse_calls(&written.tool_calls, pack, limits),
        _ => parse(reply, pack, limits),
    }
}

/// Reads the text of a reply.
///
/// # Errors
/// `model.invalid_json`; `model.schema` with a JSON pointer for each flaw; `model.no_action` for a reply that says
/// nothing.
pub fn parse(text: &str, pack: &ContextPack, limits: &ReplyLimits) -> Result<Proposal, Failure> {
    let reply = json(unfenced(text), limits)?;
    let Json::Object(mut fields) = reply else {
        return Err(Failure::new(Kind::ModelSchema, "read the reply: it is not an object").hint(REPLY_HINT));
    };
    fields.retain(|key, field| !is_nothing(key, field));
    let mut flaws = Flaws::default();
    for key in
        fields.keys().filter(|key| !matches!(key.as_str(), "steps" | "answer" | "question" | "abstain" | "reasoning"))
    {
        flaws.add(&format!("/{}", token(key)), "is unknown");
    }
    let proposal = proposal(fields, pack, &mut flaws)?;
    inputs::filled(flaws.none_or(proposal)?, &pack.inputs)
}

/// Makes a plan of calls that a model asked for natively. Their arguments hold no references: what looks like one is
/// data.
///
/// # Errors
/// `model.invalid_json` for arguments that are no JSON, `model.schema` for arguments that are no object.
pub fn parse_calls(calls: &[NativeCall], pack: &ContextPack, limits: &ReplyLimits) -> Result<Proposal, Failure> {
    let mut flaws = Flaws::default();
    let mut steps = Vec::new();
    for (n, call) in calls.iter().enumerate() {
        let place = format!("/tool_calls/{n}/arguments");
        let Json::Object(mut args) = json(&call.arguments, limits).map_err(|failure| at(&place, failure))? else {
            flaws.add(&place, "is not an object");
            continue;
        };
        for key in args.keys().filter(|key| key.starts_with('$')) {
            flaws.add(&format!("{place}/{}", token(key)), "is not the name of an argument");
        }
        strip_args(&call.tool, &mut args, pack);
        let args = args.into_iter().map(|(key, value)| (key, as_literal(&value))).collect();
        steps.push(PlanStep { args: Json::Object(args), ..bare_step(format!("call{}", n + 1), call.tool.clone()) });
    }
    flaws.none_or(Some(Proposal::Plan(Plan { steps, ..Plan::default() })))
}

/// Returns what is inside a fence, where all of the text is one fenced block.
fn unfenced(text: &str) -> &str {
    let text = text.trim();
    let inside =
        text.strip_prefix("```json").or_else(|| text.strip_prefix("```")).and_then(|rest| rest.strip_suffix("```"));
    inside.filter(|inside| !inside.contains("```")).unwrap_or(text)
}

fn json(text: &str, limits: &ReplyLimits) -> Result<Json, Failure> {
    if text.len() > limits.bytes_max {
        let what = format!("read the reply: {} bytes are more than {}", text.len(), limits.bytes_max);
        return Err(Failure::new(Kind::ModelSchema, what).hint("reply with a shorter plan"));
    }
    strict::from_json(text, limits.depth_max).map_err(|error| {
        Failure::new(Kind::ModelInvalidJson, format!("read the reply as JSON: {error}")).hint(REPLY_HINT)
    })
}

fn at(place: &str, failure: Failure) -> Failure {
    let message = format!("{}, in `{place}`", failure.message);
    Failure { message, ..failure }
}

/// Answers whether a field is there for the format's sake only: strict schemas make a model write every key. An empty
/// list is an answer, and no plan.
fn is_nothing(key: &str, field: &Json) -> bool {
    match field {
        Json::Null => true,
        Json::String(text) => text.trim().is_empty(),
        Json::Array(items) => items.is_empty() && key == "steps",
        _ => false,
    }
}

/// Returns the one thing that the reply proposes, or nothing where that has a flaw.
fn proposal(mut fields: Map<String, Json>, pack: &ContextPack, flaws: &mut Flaws) -> Result<Option<Proposal>, Failure> {
    let said = ["steps", "answer", "question", "abstain"].map(|key| fields.remove(key).map(|value| (key, value)));
    let mut said = said.into_iter().flatten();
    match (said.next(), said.next()) {
        (Some(("steps", steps)), None) => Ok(plan(steps, pack, flaws).map(Proposal::Plan)),
        (Some(("answer", answer)), None) => Ok(Some(Proposal::Answer(answer))),
        (Some(("question", Json::String(question))), None) => Ok(Some(Proposal::Question(question))),
        (Some((_, Json::String(why))), None) => Ok(Some(Proposal::Abstention(why))),
        (Some((key, _)), None) => Ok(flaws.none(&format!("/{key}"), "is not text")),
        (None, _) if flaws.is_empty() => {
            Err(Failure::new(Kind::ModelNoAction, "find a plan, an answer or a question in the reply").hint(REPLY_HINT))
        }
        _ => Ok(flaws.none("", "holds not exactly one of `steps`, `answer`, `question` and `abstain`")),
    }
}

fn plan(steps: Json, pack: &ContextPack, flaws: &mut Flaws) -> Option<Plan> {
    let Json::Array(steps) = steps else { return flaws.none("/steps", "is not a list") };
    let steps = steps.into_iter().enumerate();
    let steps: Vec<Option<PlanStep>> =
        steps.map(|(n, step)| plan_step(step, &format!("/steps/{n}"), pack, flaws)).collect();
    let steps = steps.into_iter().collect::<Option<_>>()?;
    Some(Plan { steps, ..Plan::default() })
}

fn plan_step(step: Json, place: &str, pack: &ContextPack, flaws: &mut Flaws) -> Option<PlanStep> {
    let Json::Object(fields) = step else { return flaws.none(place, "is not an object") };
    let mut fields = Fields { place, fields, flaws };
    let id = fields.text("id");
    let tool = fields.text("tool");
    let args = fields.args();
    let needs = fields.names("needs");
    let after = fields.names("after");
    let timeout_ms = fields.optional("timeout_ms", "a whole number", Json::as_u64);
    let when = fields.optional("when", "a condition as text", |value| value.as_str().map(str::to_owned));
    let for_each = fields.for_each();
    let on_failure = fields.optional("on_failure", "`fail`, `skip` or `fallback:` with the id of a step", on_failure);
    let approval = fields.optional("approval", "true or false", Json::as_bool);
    let confidence = fields.optional("confidence", "a number from 0 to 1", confidence);
    let flags =
        fields.optional("flags", &format!("a list of at most {FLAGS_MAX} texts of {FLAG_CHARS_MAX} characters"), flags);
    fields.nothing_else();
    let (id, tool, mut args) = (id?, tool?, args?);
    strip_args(&tool, &mut args, pack);
    Some(PlanStep {
        args: Json::Object(args),
        needs: needs?,
        after: after?,
        when: when?,
        for_each: for_each?,
        timeout_ms: timeout_ms?,
        on_failure: on_failure?.unwrap_or_default(),
        approval: approval?.unwrap_or_default(),
        confidence: confidence?,
        flags: flags?.unwrap_or_default(),
        ..bare_step(id, tool)
    })
}

fn bare_step(id: String, tool: String) -> PlanStep {
    let args = Json::Object(Map::new());
    PlanStep { id, tool, args, ..PlanStep::default() }
}

/// Whether what was done is taken back is for a person to say.
fn on_failure(value: &Json) -> Option<OnFailure> {
    let on_failure = OnFailure::try_from(value.as_str()?.to_owned()).ok()?;
    (on_failure != OnFailure::Undo).then_some(on_failure)
}

fn confidence(value: &Json) -> Option<f64> {
    value.as_f64().filter(|confidence| (0.0..=1.0).contains(confidence))
}

fn flags(value: &Json) -> Option<Vec<String>> {
    let flags = value.as_array().filter(|flags| flags.len() <= FLAGS_MAX)?;
    let flag = |flag: &Json| {
        Some(flag.as_str()?.trim()).filter(|flag| flag.chars().count() <= FLAG_CHARS_MAX).map(str::to_owned)
    };
    let flags = flags.iter().map(flag).collect::<Option<Vec<String>>>()?;
    Some(flags.into_iter().filter(|flag| !flag.is_empty()).collect())
}

/// The fields of a step, taken one by one. Each method returns nothing where it found a flaw, and noted it.
struct Fields<'a> {
    place: &'a str,
    fields: Map<String, Json>,
    flaws: &'a mut Flaws,
}

impl Fields<'_> {
    fn take(&mut self, key: &str) -> Option<Json> {
        self.fields.remove(key).filter(|value| !value.is_null())
    }

    fn flaw<T>(&mut self, key: &str, what: &str) -> Option<T> {
        self.flaws.none(&format!("{}/{}", self.place, token(key)), what)
    }

    fn text(&mut self, key: &str) -> Option<String> {
        match self.take(key) {
            Some(Json::String(text)) => Some(text),
            Some(_) => self.flaw(key, "is not text"),
            None => self.flaw(key, "is missing"),
        }
    }

    fn args(&mut self) -> Option<Map<String, Json>> {
        match self.take("args") {
            None => Some(Map::new()),
            Some(Json::Object(args)) => Some(args),
            Some(Json::String(text)) => self.written_args(&text),
            Some(_) => self.flaw("args", "is not an object"),
        }
    }

    /// Arguments as JSON text: what a provider is asked for whose schemas have no room for those of the tools.
    fn written_args(&mut self, text: &str) -> Option<Map<String, Json>> {
        match strict::from_json(text, ARGS_DEPTH_MAX) {
            Ok(Json::Object(args)) => Some(args),
            Ok(_) => self.flaw("args", "is not an object"),
            Err(error) => self.flaw("args", &format!("is no JSON object: {error}")),
        }
    }

    fn names(&mut self, key: &str) -> Option<Vec<String>> {
        let Some(names) = self.take(key) else { return Some(vec![]) };
        let names =
            names.as_array().and_then(|names| names.iter().map(|name| name.as_str().map(str::to_owned)).collect());
        names.or_else(|| self.flaw(key, "is not a list of names of steps"))
    }

    fn for_each(&mut self) -> Option<Option<ForEach>> {
        let Some(value) = self.take("for_each") else { return Some(None) };
        let for_each = ForEach::deserialize(value).ok();
        for_each
            .map(Some)
            .or_else(|| self.flaw("for_each", "is not `{\"in\": list or reference, \"items_max\": number}`"))
    }

    fn optional<T>(&mut self, key: &str, what: &str, read: impl Fn(&Json) -> Option<T>) -> Option<Option<T>> {
        let Some(value) = self.take(key) else { return Some(None) };
        read(&value).map(Some).or_else(|| self.flaw(key, &format!("is not {what}")))
    }

    fn nothing_else(mut self) {
        let unknown: Vec<String> = self.fields.keys().cloned().collect();
        for key in unknown {
            self.flaw::<()>(&key, "is unknown");
        }
    }
}

/// Takes out the nulls that a strict schema made the model write for arguments that it leaves out. A null that the
/// tool's schema allows, or that stands for what it requires, stays.
fn strip_args(tool: &str, args: &mut Map<String, Json>, pack: &ContextPack) {
    if let Some(offered) = pack.tools.iter().find(|offered| offered.name.to_string() == tool) {
        strip_fields(args, &offered.input_schema);
    }
}

fn strip_fields(fields: &mut Map<String, Json>, schema: &Json) {
    let is_required = |key: &str| schema["required"].as_array().is_some_and(|keys| keys.iter().any(|k| k == key));
    fields.retain(|key, value| {
        let Some(property) = schema["properties"].get(key) else { return true };
        strip(value, property);
        !value.is_null() || is_required(key) || takes_null(property)
    });
}

/// Goes down where the schema leaves no choice; in a choice of shapes a null may mean something.
fn strip(value: &mut Json, schema: &Json) {
    match value {
        Json::Object(fields) => strip_fields(fields, schema),
        Json::Array(items) => items.iter_mut().for_each(|item| strip(item, &schema["items"])),
        _ => {}
    }
}

fn takes_null(schema: &Json) -> bool {
    let is_null = |value: &Json| value == "null";
    let takes_type = match &schema["type"] {
        Json::Array(types) => types.iter().any(is_null),
        Json::Null => ["anyOf", "oneOf", "enum", "const", "$ref"].iter().all(|key| schema.get(key).is_none()),
        name => is_null(name),
    };
    let options = ["anyOf", "oneOf"].into_iter().filter_map(|key| schema[key].as_array()).flatten();
    takes_type
        || options.into_iter().any(takes_null)
        || schema["enum"].as_array().is_some_and(|values| values.contains(&Json::Null))
        || schema.get("const").is_some_and(Json::is_null)
}

/// Shape errors, each with its place.
#[derive(Default)]
struct Flaws {
    found: Vec<String>,
    omitted: usize,
}

impl Flaws {
    fn add(&mut self, pointer: &str, what: &str) {
        if self.found.len() < FLAWS_MAX {
            let place = if pointer.is_empty() { "the reply".to_owned() } else { format!("`{pointer}`") };
            self.found.push(format!("{place} {what}"));
        } else {
            self.omitted += 1;
        }
    }

    /// Notes a flaw, and returns the nothing that stands for what could not be read.
    fn none<T>(&mut self, pointer: &str, what: &str) -> Option<T> {
        self.add(pointer, what);
        None
    }

    fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    fn none_or(mut self, proposal: Option<Proposal>) -> Result<Proposal, Failure> {
        match proposal {
            Some(proposal) if self.is_empty() => Ok(proposal),
            _ => {
                if self.omitted > 0 {
                    self.found.push(format!("and {} more", self.omitted));
                }
                let what = format!("read the reply: {}", self.found.join("; "));
                Err(Failure::new(Kind::ModelSchema, what).hint(REPLY_HINT))
            }
        }
    }
}

/// Returns `key` as a token of a JSON pointer, cut: it may be a hostile text.
fn token(key: &str) -> String {
    let cut: String = key.chars().take(40).collect();
    cut.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::Effect;
    use crate::planner::OfferedTool;

    fn pack() -> ContextPack {
        let input_schema = json!({
            "type": "object", "required": ["path", "deep"],
            "properties": {
                "path": {"type": "string"}, "limit": {"type": "integer"},
                "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                "deep": {"type": "object", "required": [], "properties": {"x": {"type": "string"}}},
                "rows": {"type": "array", "items": {"type": "object", "properties": {"y": {"enum": ["a"]}}}},
            }
        });
        let tool = OfferedTool {
            name: "csv.sum".parse().unwrap(),
            summary: String::new(),
            effect: Effect::Pure,
            input_schema,
            output_schema: json!({}),
        };
        ContextPack { turn: 1, tools: vec![tool], ..ContextPack::default() }
    }

    fn read(text: &str) -> Result<Proposal, Failure> {
        parse(text, &pack(), &ReplyLimits::default())
    }

    #[test]
    fn each_of_the_three_is_read() {
        let nothing = json!({"steps": [], "answer": null, "question": "", "reasoning": "because"});
        let with = |key: &str, value: Json| {
            let mut reply = nothing.clone();
            reply[key] = value;
            read(&reply.to_string()).unwrap()
        };
        assert_eq!(
            with("answer", json!({"$from": "t1.a", "path": ""})),
            Proposal::Answer(json!({"$from": "t1.a", "path": ""}))
        );
        assert_eq!(with("answer", json!(0)), Proposal::Answer(json!(0)));
        assert_eq!(with("answer", json!([])), Proposal::Answer(json!([])));
        assert_eq!(with("question", json!("Which?")), Proposal::Question("Which?".to_owned()));
        let steps = json!([{"id": "a", "tool": "csv.sum", "args": {"path": "p"}, "needs": ["t1.b"], "on_failure": "skip",
            "timeout_ms": null, "approval": true, "when": "steps.b > 1",
            "for_each": {"in": {"$from": "b", "path": ""}, "items_max": 3, "parallel_max": null}}]);
        let step = PlanStep {
            when: Some("steps.b > 1".to_owned()),
            for_each: Some(ForEach { list: json!({"$from": "b", "path": ""}), items_max: 3, parallel_max: None }),
            args: json!({"path": "p"}),
            needs: vec!["t1.b".to_owned()],
            on_failure: OnFailure::Skip,
            approval: true,
            ..bare_step("a".to_owned(), "csv.sum".to_owned())
        };
        assert_eq!(with("steps", steps), Proposal::Plan(Plan { steps: vec![step], ..Plan::default() }));
    }

    #[test]
    fn a_fence_is_taken_off_only_where_it_is_all_there_is() {
        for fine in ["```json\n{\"answer\": 1}\n```", "  ```\n{\"answer\": 1}```\n", "{\"answer\": 1}"] {
            assert_eq!(read(fine), Ok(Proposal::Answer(json!(1))), "{fine}");
        }
        for bad in ["Here it is:\n```json\n{\"answer\": 1}\n```", "```json\n{}\n```\n```json\n{}\n```"] {
            assert_eq!(read(bad).unwrap_err().kind, Kind::ModelInvalidJson, "{bad}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        use Kind::{ModelInvalidJson as Invalid, ModelNoAction as NoAction, ModelSchema as Schema};
        let deep = format!("{{\"answer\": {}1{}}}", "[".repeat(60), "]".repeat(60));
        for (reply, kind, parts) in [
            ("", Invalid, vec!["EOF"]),
            ("I would sum them.", Invalid, vec!["line 1"]),
            ("{\"answer\": 1, \"answer\": 2}", Invalid, vec!["`/answer` stands twice"]),
            ("{\"answer\": NaN}", Invalid, vec!["expected value"]),
            (&deep, Invalid, vec!["too many levels"]),
            ("[]", Schema, vec!["not an object"]),
            ("{}", NoAction, vec!["find a plan"]),
            (r#"{"steps": [], "answer": null}"#, NoAction, vec![]),
            (r#"{"steps": [{"id": "a", "tool": "b"}], "answer": 1}"#, Schema, vec!["exactly one"]),
            (r#"{"answer": 1, "question": "a"}"#, Schema, vec!["exactly one"]),
            (r#"{"question": 7}"#, Schema, vec!["`/question` is not text"]),
            (r#"{"answer": 1, "a/b": 1}"#, Schema, vec!["`/a~1b` is unknown"]),
            // What may be spent, and what is taken back, is not a model's to say.
            (r#"{"steps": [{"id": "a", "run": {"goal": "g"}}]}"#, Schema, vec!["`/steps/0/run` is unknown"]),
            (
                r#"{"steps": [{"id": "a", "tool": "b.c", "undo": {}, "retry": {}}], "assert": ["true"], "budget": {}}"#,
                Schema,
                vec![
                    "`/steps/0/undo` is unknown",
                    "`/steps/0/retry` is unknown",
                    "`/assert` is unknown",
                    "`/budget` is unknown",
                ],
            ),
            (
                r#"{"steps": [{"id": "a", "tool": "b.c", "for_each": {"in": []}, "on_failure": "fallback:"}]}"#,
                Schema,
                vec!["`/steps/0/for_each` is not", "`/steps/0/on_failure` is not"],
            ),
            (r#"{"steps": {}}"#, Schema, vec!["`/steps` is not a list"]),
            (r#"{"steps": [7]}"#, Schema, vec!["`/steps/0` is not an object"]),
            (
                r#"{"steps": [{"tool": 7, "args": [], "needs": [1], "timeout_ms": -1, "on_failure": "undo", "approval": 1, "x": 1}]}"#,
                Schema,
                vec![
                    "`/steps/0/id` is missing",
                    "`/steps/0/tool` is not text",
                    "`/steps/0/args` is not an object",
                    "`/steps/0/needs` is not a list",
                    "`/steps/0/timeout_ms` is not a whole",
                    "`/steps/0/on_failure` is not `fail`, `skip` or `fallback:` with the id of a step",
                    "`/steps/0/approval` is not true or false",
                    "`/steps/0/x` is unknown",
                ],
            ),
        ] {
            let failure = read(reply).unwrap_err();
            assert_eq!(failure.kind, kind, "{reply}");
            for part in parts {
                assert!(failure.message.contains(part), "{reply}: {}", failure.message);
            }
        }
    }

    #[test]
    fn a_reply_has_bounds() {
        let limits = ReplyLimits { bytes_max: 10, ..ReplyLimits::default() };
        let failure = parse("{\"answer\": 1}", &pack(), &limits).unwrap_err();
        assert!(failure.message.contains("more than 10"), "{failure}");
        let steps: Vec<Json> = (0..50).map(|_| json!({"tool": "a.b"})).collect();
        let failure = read(&json!({ "steps": steps }).to_string()).unwrap_err();
        assert!(failure.message.ends_with("and 38 more"), "{failure}");
    }

    fn args_of(proposal: Proposal) -> Json {
        let Proposal::Plan(plan) = proposal else { panic!("no plan: {proposal:?}") };
        plan.steps[0].args.clone()
    }

    #[test]
    fn nulls_for_what_is_left_out_are_taken_out() {
        let args = json!({"path": null, "limit": null, "maybe": null, "deep": {"x": null}, "rows": [{"y": null}], "odd": null});
        let kept = json!({"path": null, "maybe": null, "deep": {}, "rows": [{}], "odd": null});
        let step = |tool: &str| json!({"steps": [{"id": "a", "tool": tool, "args": args}]}).to_string();
        assert_eq!(args_of(read(&step("csv.sum")).unwrap()), kept);
        // A tool that is not offered is the check's to refuse, with its arguments as they came.
        assert_eq!(args_of(read(&step("csv.other")).unwrap()), args);
    }

    #[test]
    fn native_calls_are_steps_without_references() {
        let call = |arguments: &str| NativeCall { tool: "csv.sum".to_owned(), arguments: arguments.to_owned() };
        let read = |calls: &[NativeCall]| parse_calls(calls, &pack(), &ReplyLimits::default());
        let Ok(Proposal::Plan(plan)) =
            read(&[call(r#"{"path": "a", "limit": null}"#), call(r#"{"path": {"$from": "x"}}"#)])
        else {
            panic!("no plan")
        };
        assert_eq!(plan.steps.iter().map(|step| step.id.as_str()).collect::<Vec<_>>(), ["call1", "call2"]);
        assert_eq!(plan.steps[0].args, json!({"path": "a"}));
        assert_eq!(plan.steps[1].args, json!({"path": {"$literal": {"$from": "x"}}}));
        let failure = read(&[call("{\"path\": ")]).unwrap_err();
        assert_eq!(failure.kind, Kind::ModelInvalidJson);
        assert!(failure.message.contains("/tool_calls/0"), "{failure}");
        for bad in ["[]", r#"{"$from": "x"}"#] {
            assert_eq!(read(&[call(bad)]).unwrap_err().kind, Kind::ModelSchema, "{bad}");
        }
    }
}
