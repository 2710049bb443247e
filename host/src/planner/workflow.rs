//! A workflow file is a planner that always proposes the same plan.
//!
//! TOML, YAML and JSON say the same thing. What is wrong in a file is told with its line and column. Whether the plan
//! can run is for `orchestrator::check` to say, as for every plan.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use async_trait::async_trait;
use serde::Deserialize;
use serde::de::DeserializeSeed;

use super::strict::{self, Strict, as_literal};
use super::{Allowance, ContextPack, Planned, Planner, PlannerUsage, Proposal};
use crate::domain::{Failure, Json, Kind, Plan, PlanStep, printable};

/// Largest workflow file, in bytes: 200 steps with 4 KiB each fit, a data file given by mistake does not.
pub const WORKFLOW_BYTES_MAX: u64 = 1 << 20;

/// Levels of nesting in a workflow file: what a plan allows, and the four levels down to its arguments.
const DEPTH_MAX: usize = 36;

/// How a workflow file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Toml,
    Yaml,
    Json,
}

/// A workflow file, read.
#[derive(Clone, Debug)]
pub struct WorkflowPlanner {
    file: File,
    source: Vec<u8>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    workflow: String,
    goal: String,
    /// Default of each input, by its name.
    #[serde(default)]
    inputs: BTreeMap<String, Json>,
    steps: Vec<PlanStep>,
    #[serde(default)]
    answer: Option<Json>,
    #[serde(default)]
    assert: Vec<String>,
}

/// What is wrong in a text, and where.
struct Flaw {
    /// From 1; absent where the parser does not say.
    at: Option<(usize, usize)>,
    what: String,
}

impl Format {
    /// Returns the format that the file's extension names.
    ///
    /// # Errors
    /// `data.config` for any other extension than `toml`, `yaml`, `yml` and `json`.
    pub fn of(path: &Path) -> Result<Self, Failure> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("toml") => Ok(Self::Toml),
            Some("yaml" | "yml") => Ok(Self::Yaml),
            Some("json") => Ok(Self::Json),
            _ => Err(Failure::new(Kind::DataConfig, format!("tell the format of workflow `{}`", path.display()))
                .hint("name it `.toml`, `.yaml` or `.json`")),
        }
    }
}

impl WorkflowPlanner {
    /// Reads the workflow file at `path`.
    ///
    /// # Errors
    /// `data.not_found` where there is no file; `data.config` with line and column for what is wrong in it.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let format = Format::of(path)?;
        let text = text(path)?;
        Self::named(&path.display().to_string(), &text, format)
    }

    /// Reads a workflow from its text.
    ///
    /// # Errors
    /// `data.config` with line and column for what is wrong.
    pub fn parse(text: &str, format: Format) -> Result<Self, Failure> {
        Self::named("(text)", text, format)
    }

    fn named(place: &str, text: &str, format: Format) -> Result<Self, Failure> {
        let refuse = |flaw: Flaw| {
            let position = flaw.at.map_or(String::new(), |(line, column)| format!(":{line}:{column}"));
            Failure::new(Kind::DataConfig, format!("read workflow {place}{position}: {}", flaw.what))
        };
        let file = file(text, format).map_err(refuse)?;
        file.check().map_err(|what| refuse(Flaw { at: None, what }))?;
        Ok(Self { file, source: text.as_bytes().to_vec() })
    }

    /// Reads a workflow that stands within a plan, as its file says it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of_json(content: &Json) -> Result<Self, String> {
        if !content.is_object() {
            return Err(format!("a workflow is an object, and not {}", type_of(content)));
        }
        let file = File::deserialize(content).map_err(|error| printable(&error.to_string()))?;
        file.check()?;
        Ok(Self { source: content.to_string().into_bytes(), file })
    }

    /// Returns the default of each input.
    pub fn inputs(&self) -> &BTreeMap<String, Json> {
        &self.file.inputs
    }

    /// Returns the plan as the file has it, with `{"$input": name}` in its places.
    pub fn open_plan(&self) -> Plan {
        Plan { steps: self.file.steps.clone(), answer: self.file.answer.clone(), assert: self.file.assert.clone() }
    }

    /// Returns the workflow with some inputs set in place of their defaults.
    ///
    /// # Errors
    /// `data.input_invalid` for a name that the file does not declare, or a value of another type than its default.
    pub fn with_inputs(mut self, inputs: BTreeMap<String, Json>) -> Result<Self, Failure> {
        for (name, value) in inputs {
            let Some(default) = self.file.inputs.get_mut(&name) else { return Err(self.unknown_input(&name)) };
            if !default.is_null() && type_of(default) != type_of(&value) {
                let what = format!("set input `{name}` to {}", type_of(&value));
                return Err(Failure::new(Kind::DataInput, what).hint(format!("it is {} in the file", type_of(default))));
            }
            *default = value;
        }
        Ok(self)
    }

    fn unknown_input(&self, name: &str) -> Failure {
        let known: Vec<&str> = self.file.inputs.keys().map(String::as_str).collect();
        let hint = if known.is_empty() {
            "the workflow declares no inputs".to_owned()
        } else {
            format!("the workflow declares {}", known.join(", "))
        };
        Failure::new(Kind::DataInput, format!("set input `{}`: there is none", printable(name))).hint(hint)
    }

    /// Returns the workflow's own name.
    pub fn workflow(&self) -> &str {
        &self.file.workflow
    }

    /// Returns the goal in words.
    pub fn goal(&self) -> &str {
        &self.file.goal
    }

    /// Returns the bytes of the file, as they were read.
    pub fn source(&self) -> &[u8] {
        &self.source
    }

    /// Returns the plan, with every `{"$input": name}` replaced by its value.
    ///
    /// # Errors
    /// `data.config` for an input that is not declared, which reading the file has excluded.
    pub fn proposed(&self) -> Result<Plan, Failure> {
        self.file.plan().map_err(|what| Failure::new(Kind::DataConfig, format!("fill in workflow: {what}")))
    }
}

#[async_trait]
impl Planner for WorkflowPlanner {
    fn name(&self) -> String {
        "workflow".to_owned()
    }

    fn is_single_plan(&self) -> bool {
        true
    }

    async fn plan(&self, pack: &ContextPack, _: &Allowance) -> Planned {
        let plan = if pack.turn == 1 && pack.repair.is_none() { self.proposed() } else { Err(self.has_one_plan()) };
        let raw = plan.as_ref().ok().and_then(|plan| serde_json::to_vec(plan).ok()).unwrap_or_default();
        Planned { reply: plan.map(Proposal::Plan), raw, usage: PlannerUsage::default() }
    }
}

impl WorkflowPlanner {
    fn has_one_plan(&self) -> Failure {
        let what = format!("propose another plan: workflow `{}` has one", self.file.workflow);
        Failure::new(Kind::DataPlan, what).hint("change the file")
    }
}

impl File {
    fn check(&self) -> Result<(), String> {
        if self.workflow.trim().is_empty() {
            return Err("`workflow` is empty: give it a name".to_owned());
        }
        self.plan().map(drop)
    }

    fn plan(&self) -> Result<Plan, String> {
        let mut steps = self.steps.clone();
        for (n, step) in steps.iter_mut().enumerate() {
            step.args = self.filled(&step.args, &format!("/steps/{n}/args"))?;
            if let Some(for_each) = &mut step.for_each {
                for_each.list = self.filled(&for_each.list, &format!("/steps/{n}/for_each/in"))?;
            }
            if let Some(undo) = &mut step.undo {
                undo.args = self.filled(&undo.args, &format!("/steps/{n}/undo/args"))?;
            }
        }
        let answer = self.answer.as_ref().map(|answer| self.filled(answer, "/answer")).transpose()?;
        Ok(Plan { steps, answer, assert: self.assert.clone() })
    }

    /// Returns `value`, which stands at `pointer`, with its inputs replaced. `$literal` hides what is below it.
    fn filled(&self, value: &Json, pointer: &str) -> Result<Json, String> {
        match value {
            Json::Object(fields) if fields.contains_key("$literal") => Ok(value.clone()),
            Json::Object(fields) if fields.contains_key("$input") => self.input(fields, pointer),
            Json::Object(fields) => {
                let filled = fields.iter().map(|(k, v)| Ok((k.clone(), self.filled(v, &format!("{pointer}/{k}"))?)));
                Ok(Json::Object(filled.collect::<Result<_, String>>()?))
            }
            Json::Array(items) => {
                let filled = items.iter().enumerate().map(|(n, item)| self.filled(item, &format!("{pointer}/{n}")));
                Ok(Json::Array(filled.collect::<Result<_, _>>()?))
            }
            scalar => Ok(scalar.clone()),
        }
    }

    fn input(&self, fields: &serde_json::Map<String, Json>, pointer: &str) -> Result<Json, String> {
        let (1, Some(name)) = (fields.len(), fields["$input"].as_str()) else {
            return Err(format!("`{pointer}`: an input is `{{\"$input\": \"name\"}}` and nothing beside"));
        };
        let value = self.inputs.get(name).ok_or_else(|| format!("`{pointer}`: input `{name}` is not in `inputs`"))?;
        Ok(as_literal(value))
    }
}

/// Returns what a value is, in words.
pub fn type_of(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "text",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}

fn text(path: &Path) -> Result<String, Failure> {
    let shown = path.display();
    let failed = |error: std::io::Error| {
        let kind = if error.kind() == std::io::ErrorKind::NotFound { Kind::DataNotFound } else { Kind::DataConfig };
        Failure::new(kind, format!("read workflow {shown}: {error}"))
    };
    let mut text = String::new();
    // One byte more than allowed tells a file that is too large from one that just fits.
    let mut file = std::fs::File::open(path).map_err(failed)?.take(WORKFLOW_BYTES_MAX + 1);
    file.read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > WORKFLOW_BYTES_MAX {
        return Err(Failure::new(
            Kind::DataConfig,
            format!("read workflow {shown}: more than {WORKFLOW_BYTES_MAX} bytes"),
        )
        .hint("pass data to tools as files"));
    }
    Ok(text)
}

/// Reads `text` twice: first for what all values must hold, then for its shape.
fn file(text: &str, format: Format) -> Result<File, Flaw> {
    match format {
        Format::Json => json(text).map_err(Flaw::from),
        Format::Yaml => yaml(text).map_err(Flaw::from),
        Format::Toml => toml(text).map_err(|error| Flaw::of_toml(&error, text)),
    }
}

fn json(text: &str) -> Result<File, serde_json::Error> {
    strict::from_json(text, DEPTH_MAX)?;
    serde_json::from_str(text)
}

fn yaml(text: &str) -> Result<File, serde_norway::Error> {
    Strict::new(DEPTH_MAX).deserialize(serde_norway::Deserializer::from_str(text))?;
    serde_norway::from_str(text)
}

fn toml(text: &str) -> Result<File, toml::de::Error> {
    Strict::new(DEPTH_MAX).deserialize(toml::Deserializer::parse(text)?)?;
    toml::from_str(text)
}

impl From<serde_json::Error> for Flaw {
    fn from(error: serde_json::Error) -> Self {
        let place = format!(" at line {} column {}", error.line(), error.column());
        let what = error.to_string();
        Self { at: Some((error.line(), error.column())), what: what.trim_end_matches(&place).to_owned() }
    }
}

impl From<serde_norway::Error> for Flaw {
    fn from(error: serde_norway::Error) -> Self {
        let at = error.location().map(|location| (location.line(), location.column()));
        let place = at.map_or(String::new(), |(line, column)| format!(" at line {line} column {column}"));
        Self { at, what: error.to_string().trim_end_matches(&place).to_owned() }
    }
}

impl Flaw {
    fn of_toml(error: &toml::de::Error, text: &str) -> Self {
        let at = error.span().and_then(|span| text.get(..span.start)).map(|before| {
            let line = before.rsplit('\n').next().unwrap_or_default();
            (before.matches('\n').count() + 1, line.chars().count() + 1)
        });
        Self { at, what: error.message().to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;
    use crate::domain::OnFailure;

    const TOML: &str = r#"
workflow = "report"
goal = "sum the sales"
answer = { total = { "$from" = "sum", path = "/total" }, of = { "$input" = "path" } }

[inputs]
path = "sales.csv"
limit = 10

[[steps]]
id = "sum"
tool = "csv.sum"
args = { path = { "$input" = "path" }, limit = { "$input" = "limit" }, since = "2026-01-31" }

[[steps]]
id = "mail"
tool = "mail.send"
needs = ["sum"]
timeout_ms = 500
on_failure = "skip"
approval = true
"#;

    fn allowance() -> Allowance {
        Allowance { wall_ms_max: 1_000, reply_tokens_max: 100 }
    }

    fn pack(turn: u32) -> ContextPack {
        let goal = "sum the sales".to_owned();
        ContextPack { goal, turn, tools: vec![], observations: vec![], repair: None, answers: vec![] }
    }

    #[test]
    fn all_three_formats_say_the_same() {
        let toml = WorkflowPlanner::parse(TOML, Format::Toml).unwrap();
        let plan = toml.proposed().unwrap();
        assert_eq!(plan.steps[0].args, json!({"path": "sales.csv", "limit": 10, "since": "2026-01-31"}));
        assert_eq!(plan.answer, Some(json!({"total": {"$from": "sum", "path": "/total"}, "of": "sales.csv"})));
        assert_eq!((plan.steps[1].on_failure.clone(), plan.steps[1].approval), (OnFailure::Skip, true));

        let whole = json!({
            "workflow": "report", "goal": "sum the sales", "inputs": {"path": "sales.csv", "limit": 10},
            "steps": [
                {"id": "sum", "tool": "csv.sum", "args": {
                    "path": {"$input": "path"}, "limit": {"$input": "limit"}, "since": "2026-01-31"}},
                {"id": "mail", "tool": "mail.send", "needs": ["sum"], "timeout_ms": 500, "on_failure": "skip", "approval": true},
            ],
            "answer": {"total": {"$from": "sum", "path": "/total"}, "of": {"$input": "path"}},
        });
        let yaml = serde_norway::to_string(&whole).unwrap();
        assert_eq!(WorkflowPlanner::parse(&whole.to_string(), Format::Json).unwrap().proposed(), Ok(plan.clone()));
        assert_eq!(WorkflowPlanner::parse(&yaml, Format::Yaml).unwrap().proposed(), Ok(plan));
        assert_eq!(toml.source(), TOML.as_bytes());
        assert_eq!((toml.workflow(), toml.goal()), ("report", "sum the sales"));
    }

    #[test]
    fn inputs_replace_defaults_and_stay_data() {
        let set = |name: &str, value: Json| {
            let planner = WorkflowPlanner::parse(TOML, Format::Toml).unwrap();
            planner.with_inputs(BTreeMap::from([(name.to_owned(), value)]))
        };
        let plan = set("path", json!("other.csv")).unwrap().proposed().unwrap();
        assert_eq!(plan.steps[0].args["path"], "other.csv");
        let unknown = set("pth", json!(1)).unwrap_err();
        assert_eq!(unknown.kind, Kind::DataInput);
        assert_eq!(unknown.hint.as_deref(), Some("the workflow declares limit, path"));
        assert_eq!(set("limit", json!("ten")).unwrap_err().kind, Kind::DataInput);

        let text = json!({"workflow": "w", "goal": "g", "inputs": {"any": null},
            "steps": [{"id": "a", "tool": "x.y", "args": {"v": {"$input": "any"}}}]});
        let planner = WorkflowPlanner::parse(&text.to_string(), Format::Json).unwrap();
        let sly = json!({"deep": [{"$from": "a"}]});
        let plan = planner.with_inputs(BTreeMap::from([("any".to_owned(), sly.clone())])).unwrap().proposed().unwrap();
        assert_eq!(plan.steps[0].args["v"], json!({"$literal": sly}));
    }

    fn check(format: Format, text: &str, expected: Expect) {
        let failure = WorkflowPlanner::parse(text, format).unwrap_err();
        assert_eq!(failure.kind, Kind::DataConfig);
        expected.assert_eq(&failure.message);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let head = "workflow = \"w\"\ngoal = \"g\"\n";
        let toml = |rest: &str, expected| check(Format::Toml, &format!("{head}{rest}"), expected);
        toml("steps = [", expect!["read workflow (text):3:10: unclosed array, expected `]`"]);
        toml(
            "steps = []\nstep = 1",
            expect![
                "read workflow (text):4:1: unknown field `step`, expected one of `workflow`, `goal`, `inputs`, `steps`, `answer`"
            ],
        );
        toml(
            "[[steps]]\nid = \"a\"\ntool = \"x.y\"\nretires = 3",
            expect![
                "read workflow (text):6:1: unknown field `retires`, expected one of `id`, `tool`, `args`, `needs`, `timeout_ms`, `on_failure`, `approval`"
            ],
        );
        toml(
            "[[steps]]\nid = \"a\"\ntool = 7",
            expect!["read workflow (text):5:8: invalid type: integer `7`, expected a string"],
        );
        toml(
            "[[steps]]\nid = \"a\"\ntool = \"x.y\"\nargs = { n = nan }",
            expect!["read workflow (text):6:14: `NaN` is not a number in JSON"],
        );
        toml(
            "[[steps]]\nid = \"a\"\ntool = \"x.y\"\nargs = { day = 2026-01-31 }",
            expect!["read workflow (text):6:16: `/steps/0/args/day` is a date: put it in quotes"],
        );
        toml(
            "[[steps]]\nid = \"a\"\ntool = \"x.y\"\nargs = { n = { \"$input\" = \"m\" } }",
            expect!["read workflow (text): `/steps/0/args/n`: input `m` is not in `inputs`"],
        );
        let yaml = |text, expected| check(Format::Yaml, text, expected);
        yaml(
            "workflow: w\ngoal: g\nsteps:\n  - id: a\n    tool: x.y\n    retires: 3\n",
            expect![
                "read workflow (text):6:5: steps[0]: unknown field `retires`, expected one of `id`, `tool`, `args`, `needs`, `timeout_ms`, `on_failure`, `approval`"
            ],
        );
        yaml(
            "workflow: w\ngoal: g\nsteps:\n  - id: a\n    tool: x.y\n    args: {n: 1, n: 2}\n",
            expect!["read workflow (text):6:11: steps[0].args: key `/steps/0/args/n` stands twice"],
        );
        yaml(
            "workflow: w\ngoal: [",
            expect![
                "read workflow (text):3:1: did not find expected node content at line 3 column 1, while parsing a flow node"
            ],
        );
        let json = |text, expected| check(Format::Json, text, expected);
        json(
            "{\"workflow\": \"w\",\n \"goal\": 3}",
            expect!["read workflow (text):2:10: invalid type: integer `3`, expected a string"],
        );
        json(
            "{\"workflow\": \"w\",\n \"workflow\": \"v\"}",
            expect!["read workflow (text):2:11: key `/workflow` stands twice"],
        );
    }

    #[test]
    fn a_file_that_cannot_be_read_tells_why() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str| WorkflowPlanner::read(&folder.path().join(name)).map(|_| ()).unwrap_err();
        assert_eq!(read("none.toml").kind, Kind::DataNotFound);
        assert_eq!(read("none.txt").kind, Kind::DataConfig);
        let large = vec![b'#'; WORKFLOW_BYTES_MAX as usize + 1];
        std::fs::write(folder.path().join("large.toml"), large).unwrap();
        assert!(read("large.toml").message.contains("more than"));
        std::fs::write(folder.path().join("wrong.toml"), "workflow = ").unwrap();
        let failure = read("wrong.toml");
        assert!(failure.message.contains("wrong.toml:1:"), "{failure}");
    }

    #[tokio::test]
    async fn it_proposes_once() {
        let planner = WorkflowPlanner::parse(TOML, Format::Toml).unwrap();
        let planned = planner.plan(&pack(1), &allowance()).await;
        assert_eq!(planned.reply, planner.proposed().map(Proposal::Plan));
        assert_eq!(serde_json::from_slice::<Plan>(&planned.raw).unwrap(), planner.proposed().unwrap());
        let again = planner.plan(&pack(2), &allowance()).await;
        assert_eq!(again.reply.unwrap_err().kind, Kind::DataPlan);
        assert!(planner.is_single_plan());
    }
}
