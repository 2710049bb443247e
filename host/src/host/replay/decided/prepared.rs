//! What preparing a step came to: its condition, its list, its arguments.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::domain::{Failure, ForEach, Json, Kind, Reference, Role, StepId, references};
use crate::host::replay::decided::Decided;
use crate::orchestrator::{CheckedStep, Condition, Run, STEPS_MAX, StepStatus, TemplateParts, filled};

/// What preparing a step comes to.
pub(super) enum Prepared {
    Args(Json),
    /// The list for whose items it is done.
    List(Json),
    /// Its condition does not hold.
    Skipped,
    Rejected(Kind, String),
}

impl Prepared {
    pub(super) fn shown(&self) -> Json {
        match self {
            Self::Args(value) | Self::List(value) => value.clone(),
            Self::Skipped => Json::from("it is skipped: its condition does not hold"),
            Self::Rejected(kind, why) => Json::from(format!("it is rejected: {kind}: {why}")),
        }
    }
}

impl Decided<'_> {
    /// Whether a step can be done for the items of this.
    pub(super) fn listed(&self, run: &Run, for_each: Option<&ForEach>, list: Json) -> Prepared {
        let items_max = for_each.map_or(0, |for_each| for_each.items_max);
        let places = STEPS_MAX.saturating_sub(run.steps.len());
        let items_max = usize::try_from(items_max).unwrap_or(usize::MAX).min(places);
        match list.as_array().map(Vec::len) {
            None => Prepared::Rejected(Kind::DataInput, "it is no list".into()),
            Some(items) if items > items_max => Prepared::Rejected(Kind::DataInputSize, format!("{items} items")),
            Some(_) => Prepared::List(list),
        }
    }

    pub(super) async fn prepared(&mut self, run: &Run, checked: &CheckedStep) -> Result<Prepared, Failure> {
        let item = self.item(run, checked).await?;
        if let Some(when) = &checked.when {
            let condition = match Condition::parse(when) {
                Ok(condition) => condition,
                Err(why) => return Ok(Prepared::Rejected(Kind::DataCondition, why)),
            };
            if condition.uses_item() == item.is_some() {
                let values = self.brought_by(run, condition.steps().iter()).await?;
                match condition.holds(&values, item.as_ref()) {
                    Ok(true) => {}
                    Ok(false) => return Ok(Prepared::Skipped),
                    Err(why) => return Ok(Prepared::Rejected(Kind::DataCondition, why)),
                }
            }
        }
        let (template, is_list) = match &checked.for_each {
            Some(for_each) => (&for_each.list, true),
            None => (&checked.args, false),
        };
        let filled = match &checked.planned.role {
            Role::Undo { of } | Role::Reconcile { of } => self.filled(run, template, of).await?,
            _ => self.resolved(run, template, item.as_ref()).await?,
        };
        Ok(match filled {
            Ok(value) if is_list => Prepared::List(value),
            Ok(value) => Prepared::Args(value),
            Err(why) => Prepared::Rejected(Kind::DataReference, why),
        })
    }

    async fn item(&mut self, run: &Run, checked: &CheckedStep) -> Result<Option<Json>, Failure> {
        let Role::Item { of } = &checked.planned.role else { return Ok(None) };
        let Some((items, digest)) = run.step(of).and_then(|of| of.expanded) else { return Ok(None) };
        let list = match &self.list {
            Some((known, list)) if *known == digest => list.clone(),
            _ => Arc::new(self.kept(&digest).await?),
        };
        self.list = Some((digest, list.clone()));
        let n = (0..items).find(|n| of.item(*n) == checked.planned.id);
        Ok(n.and_then(|n| usize::try_from(n).ok()).and_then(|n| list.get(n)).cloned())
    }

    /// What the step called `id`, or the one that took its place, had brought.
    pub(super) async fn brought(&self, run: &Run, id: &StepId) -> Result<Option<Json>, Failure> {
        match run.stand_in(id).map(|step| &step.status) {
            Some(StepStatus::Succeeded { output }) => self.kept(output).await.map(Some),
            _ => Ok(None),
        }
    }

    pub(super) async fn brought_by<'b>(
        &self,
        run: &Run,
        names: impl Iterator<Item = &'b String>,
    ) -> Result<BTreeMap<String, Json>, Failure> {
        let mut values = BTreeMap::new();
        for name in names {
            let value = match name.parse::<StepId>() {
                Ok(id) => self.brought(run, &id).await?,
                Err(_) => None,
            };
            values.insert(name.clone(), value.unwrap_or(Json::Null));
        }
        Ok(values)
    }

    pub(super) async fn resolved(
        &self,
        run: &Run,
        value: &Json,
        item: Option<&Json>,
    ) -> Result<Result<Json, String>, Failure> {
        let mut outputs: HashMap<String, Json> = HashMap::new();
        for reference in references(value).unwrap_or_default() {
            if let Ok(id) = reference.step.parse::<StepId>()
                && let Some(output) = self.brought(run, &id).await?
            {
                outputs.insert(reference.step.to_owned(), output);
            }
        }
        let from = |reference: &Reference<'_>| {
            let found = outputs.get(reference.step).and_then(|output| output.pointer(reference.path));
            let nothing = || format!("`{}` brought nothing there", reference.step);
            found.or(reference.default).cloned().ok_or_else(nothing)
        };
        Ok(filled(value, &TemplateParts { item, from: Some(&from), ..TemplateParts::default() }))
    }

    /// Fills in what had become of the step that is taken back or asked about.
    async fn filled(&self, run: &Run, template: &Json, of: &StepId) -> Result<Result<Json, String>, Failure> {
        let (ready, output) = self.undone(run, of).map(|of| (of.ready, of.output)).unwrap_or_default();
        let input: Option<Json> = match ready {
            Some((args, _)) => Some(self.host.kept(self.undone_in(), &args).await?),
            None => None,
        };
        let output: Option<Json> = match output {
            Some(output) => Some(self.host.kept(self.undone_in(), &output).await?),
            None => None,
        };
        let key = ready.map(|(_, key)| key.to_string());
        let (input, output, key) = (input.as_ref(), output.as_ref(), key.as_deref());
        Ok(filled(template, &TemplateParts { input, output, key, ..TemplateParts::default() }))
    }
}
