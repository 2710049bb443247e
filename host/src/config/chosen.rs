//! The model that environment or command line choose, in place of the file's.

use crate::domain::{Failure, Kind};
use crate::planner::model::Protocol;

use super::{Environment, ModelSettings, Models, Overrides, SecretSource, secret};

/// What is said of a model beside the file.
#[derive(Clone, Debug, Default)]
pub(super) struct Chosen {
    name: Option<String>,
    base_url: Option<String>,
    protocol: Option<Protocol>,
    /// Where the key is that belongs to `base_url`, and to models without one.
    api_key: Option<SecretSource>,
}

impl Chosen {
    /// Reads what the command line says, and what the environment says where that is silent.
    ///
    /// # Errors
    /// `data.config` for a protocol that is none.
    pub(super) fn of(overrides: &Overrides, environment: &Environment) -> Result<Self, Failure> {
        let or = |flag: &Option<String>, variable: &str| flag.clone().or_else(|| environment.get(variable));
        let protocol = or(&overrides.protocol, "COFFERDAM_PROTOCOL").map(|text| text.parse::<Protocol>());
        let wrong = |what: String| Failure::new(Kind::DataConfig, format!("choose a model: {what}"));
        Ok(Self {
            name: or(&overrides.model, "COFFERDAM_MODEL"),
            base_url: or(&overrides.base_url, "COFFERDAM_BASE_URL"),
            protocol: protocol.transpose().map_err(wrong)?,
            api_key: environment.get(secret::VARIABLE).map(|_| SecretSource::Env(secret::VARIABLE.into())),
        })
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.name.is_none() && self.base_url.is_none() && self.protocol.is_none()
    }

    /// Makes the one model that is asked. A key from the file belongs to the server beside it. `COFFERDAM_API_KEY` belongs to
    /// the server that is told beside it, and to a model that has no key.
    ///
    /// What the file's tiers let a model of this name propose holds here too.
    ///
    /// # Errors
    /// `data.config` where it is not told which model, or where it is.
    pub(super) fn models(self, file: Option<Models>) -> Result<Models, Failure> {
        let written = self.written(file.as_ref());
        let name = self.name.clone().or(written.as_ref().map(|written| written.name.clone()));
        let model = match written {
            Some(written) if self.is_of(&written) => {
                ModelSettings { api_key: self.key(written.api_key.clone()), ..written }
            }
            written => self.elsewhere(written, file.as_ref())?,
        };
        let Models { models, mut routes } = Models::single(model);
        if let (Some(file), Some(name)) = (file, name) {
            let tiers = file.routes.tiers.iter().filter(|tier| tier.models.contains(&name));
            // The highest that names it. One that no tier names is bounded by none.
            if let (Some(effect_max), [only]) = (tiers.map(|tier| tier.effect_max).max(), routes.tiers.as_mut_slice()) {
                only.effect_max = effect_max;
            }
            routes.thresholds = file.routes.thresholds;
        }
        Ok(Models { models, routes })
    }

    /// The key for a server of which the file has `written`.
    fn key(&self, written: Option<SecretSource>) -> Option<SecretSource> {
        match self.base_url {
            Some(_) => self.api_key.clone().or(written),
            None => written.or_else(|| self.api_key.clone()),
        }
    }

    /// The file's model that is meant: the one of this name, or the only one.
    fn written(&self, file: Option<&Models>) -> Option<ModelSettings> {
        let models = file?.models.as_slice();
        let named = self.name.as_ref().and_then(|name| models.iter().find(|model| model.name == *name));
        named.or(if let [only] = models { Some(only) } else { None }).cloned()
    }

    /// Answers whether the file says all of this model, and nothing else is said here.
    fn is_of(&self, written: &ModelSettings) -> bool {
        self.name.as_ref().is_none_or(|name| *name == written.name)
            && self.base_url.as_ref().is_none_or(|base_url| *base_url == written.base_url)
            && self.protocol.is_none_or(|protocol| protocol == written.protocol)
    }

    /// A model of which the file says less than all: of its terms nothing holds, and its key only at the same server.
    fn elsewhere(self, written: Option<ModelSettings>, file: Option<&Models>) -> Result<ModelSettings, Failure> {
        let name = self.name.clone().or(written.as_ref().map(|written| written.model.clone()));
        let name = name.ok_or_else(|| incomplete("name", "--model", "COFFERDAM_MODEL", file))?;
        let base_url = match (&self.base_url, self.protocol, &written) {
            (Some(base_url), ..) => base_url.clone(),
            (None, Some(protocol), None) => protocol.base_url().to_owned(),
            (None, Some(protocol), Some(written)) if protocol != written.protocol => protocol.base_url().to_owned(),
            (None, _, Some(written)) => written.base_url.clone(),
            (None, None, None) => return Err(incomplete("base_url", "--base-url", "COFFERDAM_BASE_URL", file)),
        };
        let same = written.filter(|written| written.base_url == base_url);
        let protocol = self.protocol.or(same.as_ref().map(|same| same.protocol)).unwrap_or(Protocol::OpenaiChat);
        let api_key = self.key(same.and_then(|same| same.api_key));
        Ok(ModelSettings { base_url, api_key, ..ModelSettings::new(protocol, name) })
    }
}

fn incomplete(key: &str, flag: &str, variable: &str, file: Option<&Models>) -> Failure {
    let hint = match file {
        Some(models) => {
            let names: Vec<_> = models.models.iter().map(|model| format!("`{}`", model.name)).collect();
            format!("name one of {} with `--model`, or use `{flag}` or {variable}", names.join(", "))
        }
        None => format!("write it under `[model]`, or use `{flag}` or {variable}"),
    };
    Failure::new(Kind::DataConfig, format!("choose a model: its `{key}` is not told")).hint(hint)
}
