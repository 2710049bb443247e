//! What a workflow file says, and how its inputs come into its plan.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Deserialize;

use crate::domain::{Json, Plan, PlanStep};
use crate::planner::strict::as_literal;

/// A workflow: a goal in words, and the one plan that reaches it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Cofferdam workflow")]
pub(super) struct File {
    /// The JSON Schema of this file, for editors; it has no other meaning.
    #[serde(default, rename = "$schema")]
    #[expect(dead_code, reason = "editors read it in the file")]
    schema: Option<String>,
    /// The workflow's name.
    pub workflow: String,
    /// What it is for, in words.
    pub goal: String,
    /// Default of each input, by its name: `{"$input": name}` stands for its value. A default of null takes any value;
    /// any other takes values of its own kind. Set with `--set name=value`, or by the `args` of the step that runs it.
    #[serde(default)]
    pub inputs: BTreeMap<String, Json>,
    /// The steps, in any order: each runs when what it waits for has ended.
    pub steps: Vec<PlanStep>,
    /// What the run answers with: a value that may hold references to steps.
    #[serde(default)]
    pub answer: Option<Json>,
    /// Conditions in CEL over `steps.<id>` that must hold when all steps are done: without them the run fails.
    #[serde(default)]
    pub assert: Vec<String>,
}

/// Returns the JSON Schema (draft 2020-12) of workflow files.
pub fn schema() -> Json {
    let generator = SchemaSettings::draft2020_12().into_generator();
    generator.into_root_schema_for::<File>().to_value()
}

/// A place in a plan (JSON pointer), and what is wrong there.
pub(super) type PlanFlaw = (String, String);

impl File {
    pub(super) fn check(&self) -> Result<(), PlanFlaw> {
        if self.workflow.trim().is_empty() {
            return Err(("/workflow".to_owned(), "`workflow` is empty: give it a name".to_owned()));
        }
        self.plan().map(drop)
    }

    /// Returns the plan, with every `{"$input": name}` replaced by its value.
    pub(super) fn plan(&self) -> Result<Plan, PlanFlaw> {
        let mut steps = self.steps.clone();
        for (n, step) in steps.iter_mut().enumerate() {
            let at = format!("/steps/{n}");
            step.args = self.filled(&step.args, &format!("{at}/args"))?;
            if let Some(for_each) = &mut step.for_each {
                for_each.list = self.filled(&for_each.list, &format!("{at}/for_each/in"))?;
            }
            if let Some(undo) = &mut step.undo {
                undo.args = self.filled(&undo.args, &format!("{at}/undo/args"))?;
            }
        }
        let answer = self.answer.as_ref().map(|answer| self.filled(answer, "/answer")).transpose()?;
        Ok(Plan { steps, answer, assert: self.assert.clone() })
    }

    /// Returns the plan as the file has it.
    pub(super) fn open_plan(&self) -> Plan {
        Plan { steps: self.steps.clone(), answer: self.answer.clone(), assert: self.assert.clone() }
    }

    /// Returns `value`, which stands at `pointer`, with its inputs replaced. `$literal` hides what is below it.
    fn filled(&self, value: &Json, pointer: &str) -> Result<Json, PlanFlaw> {
        match value {
            Json::Object(fields) if fields.contains_key("$literal") => Ok(value.clone()),
            Json::Object(fields) if fields.contains_key("$input") => self.input(fields, pointer),
            Json::Object(fields) => {
                let below = |key: &str| format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
                let filled = fields.iter().map(|(key, value)| Ok((key.clone(), self.filled(value, &below(key))?)));
                Ok(Json::Object(filled.collect::<Result<_, PlanFlaw>>()?))
            }
            Json::Array(items) => {
                let filled = items.iter().enumerate().map(|(n, item)| self.filled(item, &format!("{pointer}/{n}")));
                Ok(Json::Array(filled.collect::<Result<_, _>>()?))
            }
            scalar => Ok(scalar.clone()),
        }
    }

    fn input(&self, fields: &serde_json::Map<String, Json>, pointer: &str) -> Result<Json, PlanFlaw> {
        let flaw = |what: String| (pointer.to_owned(), what);
        let (1, Some(name)) = (fields.len(), fields["$input"].as_str()) else {
            return Err(flaw("an input is `{\"$input\": \"name\"}` and nothing beside".to_owned()));
        };
        let value = self.inputs.get(name).ok_or_else(|| flaw(format!("input `{name}` is not in `inputs`")))?;
        Ok(as_literal(value))
    }
}
