//! Reads what is stored, and puts it in the place of references.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Deserialize;

use crate::domain::{Digest, Failure, Json, Kind, Reference, StepId, ToolName, references};
use crate::orchestrator::check::{CheckedPlan, CheckedStep};
use crate::orchestrator::driver::Drive;
use crate::orchestrator::machine::StepStatus;
use crate::orchestrator::template::{self, Parts};
use crate::registry::VerifiedTool;

impl Drive {
    pub(super) fn tool(&self, name: &ToolName) -> Result<VerifiedTool, Failure> {
        let catalog = &self.driver.parts.catalog;
        if let Some(why) = catalog.why_withheld(name) {
            return Err(why.clone());
        }
        catalog.tool(name).cloned().ok_or_else(|| {
            Failure::new(Kind::DataNotFound, format!("find tool `{name}`")).hint("put its component back")
        })
    }

    /// Returns what the plan says of a step that is its own.
    pub(super) async fn planned_step(&mut self, step: &StepId) -> Result<CheckedStep, Failure> {
        if !self.plans.contains_key(step) {
            self.load_plans().await?;
        }
        self.plans
            .get(step)
            .cloned()
            .ok_or_else(|| Failure::new(Kind::HostBug, format!("find `{step}` in the plans of the run")))
    }

    /// Reads the plans that another process made.
    pub(super) async fn load_plans(&mut self) -> Result<(), Failure> {
        for (turn, digest) in self.run.plans.clone() {
            if !self.answers.contains_key(&turn) {
                let plan: CheckedPlan = self.stored(&digest).await?;
                self.remember(turn, plan);
            }
        }
        Ok(())
    }

    /// Returns what the step called `id`, or the one that took its place, brought.
    pub(super) async fn brought(&mut self, id: &StepId) -> Result<Option<Arc<Json>>, Failure> {
        match self.run.stand_in(id).map(|step| step.status.clone()) {
            Some(StepStatus::Succeeded { output }) => self.value(&output).await.map(Some),
            _ => Ok(None),
        }
    }

    /// Returns what the named steps brought, for a condition: null for those that brought nothing.
    pub(super) async fn brought_by<'a>(
        &mut self,
        names: impl Iterator<Item = &'a String>,
    ) -> Result<BTreeMap<String, Json>, Failure> {
        let mut values = BTreeMap::new();
        for name in names {
            let value = match name.parse::<StepId>() {
                Ok(id) => self.brought(&id).await?,
                Err(_) => None,
            };
            values.insert(name.clone(), value.map_or(Json::Null, |value| (*value).clone()));
        }
        Ok(values)
    }

    /// Replaces the references in `value` by what their steps brought: `Ok(Err)` where one leads nowhere.
    pub(super) async fn resolve(&mut self, value: &Json) -> Result<Result<Json, Failure>, Failure> {
        let resolved = self.resolved(value, None).await?;
        Ok(resolved.map_err(|flaw| Failure::new(Kind::DataReference, format!("follow a reference: {flaw}"))))
    }

    /// Replaces references and parts of the item in one walk: nothing that a tool brought is read as a reference.
    pub(super) async fn resolved(
        &mut self,
        value: &Json,
        item: Option<&Json>,
    ) -> Result<Result<Json, String>, Failure> {
        let mut outputs = HashMap::new();
        for reference in references(value).unwrap_or_default() {
            if let Ok(id) = reference.step.parse::<StepId>()
                && let Some(output) = self.brought(&id).await?
            {
                outputs.insert(reference.step.to_owned(), output);
            }
        }
        let from = |reference: &Reference<'_>| match (outputs.get(reference.step), reference.default) {
            (None, Some(default)) => Ok(default.clone()),
            (None, None) => Err(format!("`{}` brought nothing", reference.step)),
            (Some(output), default) => output
                .pointer(reference.path)
                .or(default)
                .cloned()
                .ok_or_else(|| format!("`{}` has nothing at `{}`", reference.step, reference.path)),
        };
        Ok(template::filled(value, &Parts { item, from: Some(&from), ..Parts::default() }))
    }

    /// Returns a value of the run, from the log where it is not in hand any more. What was queued there can be read.
    pub(super) async fn value(&mut self, digest: &Digest) -> Result<Arc<Json>, Failure> {
        if let Some(value) = self.values.get(digest) {
            return Ok(value);
        }
        let bytes = self.bytes(digest).await?;
        let value: Arc<Json> = Arc::new(read(&bytes)?);
        self.values.insert(*digest, value.clone(), bytes.len());
        Ok(value)
    }

    pub(super) async fn stored<T: for<'de> Deserialize<'de>>(&self, digest: &Digest) -> Result<T, Failure> {
        read(&self.bytes(digest).await?)
    }

    pub(super) async fn bytes(&self, digest: &Digest) -> Result<Vec<u8>, Failure> {
        let bytes = self.driver.parts.log.payload(&self.run.id, digest).await?;
        bytes.ok_or_else(|| Failure::new(Kind::DataNotFound, "read a payload of the run: its owner was erased"))
    }
}

fn read<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|e| Failure::new(Kind::HostStorage, "read a payload of the run").detail(e))
}
