//! The calls that are made of a step's: the one that takes it back, and the one that tells what became of it.

use crate::domain::{CallTemplate, Field, Kind, PlanStep, PlannedStep, WitType};
use crate::orchestrator::check::Check;
use crate::orchestrator::check::scope::Local;
use crate::orchestrator::types::Brought;
use crate::registry::VerifiedTool;

/// A step's undo and its reconcile.
type Templates = (Option<CallTemplate>, Option<CallTemplate>);

impl Check<'_> {
    /// Returns the step's undo (the plan's, else the tool's own) and its reconcile, tools named in full. What the plan says
    /// must be sound; what a tool says of itself counts only where it is.
    pub(super) fn templates(&mut self, at: &str, step: &PlanStep, planned: &PlannedStep) -> Templates {
        let tool = self.named.get(&step.id).and_then(|named| named.tool.clone());
        let Some(tool) = tool else {
            if step.undo.is_some() {
                let what = "a run within the run takes back what its own steps did";
                self.flaw(Kind::DataPlan, &format!("{at}/undo"), what);
            }
            return (None, None);
        };
        if !planned.effect.is_write() {
            if step.undo.is_some() {
                let what = format!("effect `{}` changes nothing, so that there is nothing to undo", planned.effect);
                self.flaw(Kind::DataPlan, &format!("{at}/undo"), what);
            }
            return (None, None);
        }
        let undo = match &step.undo {
            Some(undo) => self.template(&format!("{at}/undo"), undo, &tool, true),
            None => self.own(&tool, |about| about.undo, true),
        };
        (undo, self.own(&tool, |about| about.reconcile, false))
    }

    /// What a tool names for itself, where it can be called as it is.
    fn own(
        &mut self,
        tool: &VerifiedTool,
        part: impl Fn(crate::policy::About) -> Option<CallTemplate>,
        has_output: bool,
    ) -> Option<CallTemplate> {
        let template = (self.known.about)(tool).ok().and_then(part)?;
        let flaws = self.flaws.len();
        let template = self.template("", &template, tool, has_output);
        let is_sound = self.flaws.len() == flaws;
        self.flaws.truncate(flaws);
        template.filter(|_| is_sound)
    }

    /// Checks a call that is made of a call of `of`.
    fn template(
        &mut self,
        at: &str,
        template: &CallTemplate,
        of: &VerifiedTool,
        has_output: bool,
    ) -> Option<CallTemplate> {
        let name = match template.tool.contains('.') {
            true => template.tool.clone(),
            false => format!("{}.{}", of.name().component(), template.tool),
        };
        let tool = self.tool(&format!("{at}/tool"), &name)?;
        self.about(&format!("{at}/tool"), &tool)?;
        let contract = of.tool();
        let local = Local {
            input: Some(Brought::Type(arguments_of(of))),
            output: has_output.then_some(&contract.returns),
            key: true,
            ..Local::default()
        };
        self.arguments(&format!("{at}/args"), &template.args, &tool, &local);
        Some(CallTemplate { tool: name, args: template.args.clone() })
    }
}

/// The arguments of a tool, as one value.
fn arguments_of(tool: &VerifiedTool) -> WitType {
    let fields = tool.tool().params.iter().map(|param| Field { name: param.name.clone(), ty: param.ty.clone() });
    WitType::Record { name: "arguments".to_owned(), fields: fields.collect() }
}
