//! Steps that are done once for each item of a list.

use crate::domain::{Fact, Failure, ForEach, Json, Kind, Role, StepEnd, StepId};
use crate::orchestrator::driver::Drive;
use crate::orchestrator::machine::{STEPS_MAX, StepStatus};
use crate::store::{Durability, Payload};

impl Drive {
    /// Finds the list, and makes a step of each of its items.
    pub(super) async fn expand(&mut self, step: StepId, for_each: &ForEach) -> Result<(), Failure> {
        let list = match self.resolve(&for_each.list).await? {
            Ok(list) => list,
            Err(failure) => return self.reject(step, failure).await,
        };
        let Some(items) = list.as_array() else {
            let failure = Failure::new(Kind::DataInput, format!("do `{step}` for each item: `in` is not a list"));
            return self.reject(step, failure).await;
        };
        let places = STEPS_MAX.saturating_sub(self.run.steps.len());
        let items_max = for_each.items_max.min(u32::try_from(places).unwrap_or(u32::MAX));
        let items = match u32::try_from(items.len()) {
            Ok(items) if items <= items_max => items,
            _ => {
                let message = format!("do `{step}` for each item: {} items, at most {items_max}", items.len());
                let failure = Failure::new(Kind::DataInputSize, message).hint("raise `items_max`, or ask for less");
                return self.reject(step, failure).await;
            }
        };
        let stored = Payload::of(&list)?;
        let digest = self.values.keep(&stored, list);
        let fact = Fact::StepExpanded { step, items, list: digest };
        self.record(vec![fact], vec![stored], Durability::Queued).await
    }

    /// Returns the item that a step is done for; `None` where it is no item.
    pub(super) async fn item(&mut self, step: &StepId) -> Result<Option<Json>, Failure> {
        let Some(Role::Item { of }) = self.run.step(step).map(|step| step.planned.role.clone()) else {
            return Ok(None);
        };
        let bug = || Failure::new(Kind::HostBug, format!("find the item of `{step}`"));
        let (items, list) = self.run.step(&of).and_then(|of| of.expanded).ok_or_else(bug)?;
        let n = (0..items).find(|n| of.item(*n) == *step).and_then(|n| usize::try_from(n).ok()).ok_or_else(bug)?;
        let list = self.value(&list).await?;
        list.get(n).cloned().map(Some).ok_or_else(bug)
    }

    /// Puts together what the items brought: a list in their order, with null for those that brought nothing.
    pub(super) async fn gather(&mut self, step: StepId) -> Result<(), Failure> {
        let is_tolerant =
            self.run.step(&step).is_some_and(|step| step.planned.on_failure == crate::domain::OnFailure::Skip);
        let failed = self.run.items(&step).find(|item| item.status.is_failed()).and_then(|item| item.failure);
        if let Some((kind, failure)) = failed.filter(|_| !is_tolerant) {
            return self.note(Fact::StepGathered { step, end: StepEnd::Failed { kind, failure } }).await;
        }
        let outputs: Vec<_> = self
            .run
            .items(&step)
            .map(|item| match item.status {
                StepStatus::Succeeded { output } => Some(output),
                _ => None,
            })
            .collect();
        let mut list = Vec::with_capacity(outputs.len());
        for output in outputs {
            list.push(match output {
                Some(output) => (*self.value(&output).await?).clone(),
                None => Json::Null,
            });
        }
        let list = Json::Array(list);
        let stored = Payload::of(&list)?;
        let output = self.values.keep(&stored, list);
        let fact = Fact::StepGathered { step, end: StepEnd::Succeeded { output } };
        self.record(vec![fact], vec![stored], Durability::Queued).await
    }
}
