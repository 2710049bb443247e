//! Which model to ask, where, and on what terms.

use reqwest::Url;

use super::Protocol;
use crate::domain::{Failure, Kind, Price, Secret, printable};

/// Tokens of one reply where nobody says otherwise, reasoning included: a plan of many steps fits.
const REPLY_TOKENS_DEFAULT: u32 = 8_192;

/// Characters of a model's name: the longest are paths of a registry with a tag.
const NAME_CHARS_MAX: usize = 200;

/// A model, and the terms of asking it.
#[derive(Clone, Debug)]
pub struct ModelOptions {
    /// As it is called here: in tiers, in the log, in failures.
    pub name: String,
    pub protocol: Protocol,
    /// As its server calls it.
    pub model: String,
    /// Up to and without `/chat/completions`, `/responses`, `/messages` or `/models/…`.
    pub base_url: String,
    pub api_key: Option<Secret>,
    /// `None` for what the provider thinks best, and for models that refuse to be told.
    pub temperature: Option<f64>,
    /// Whether the server is given the schema of the reply. The reply is checked in any case.
    pub is_constrained: bool,
    /// Tokens that the model can read. `None` where nobody says it.
    pub context_tokens_max: Option<u64>,
    /// Tokens of the longest reply that is asked for, reasoning included.
    pub reply_tokens_max: u32,
    /// `None` where nobody says it: that is not the same as nothing.
    pub price: Option<Price>,
}

impl ModelOptions {
    /// Makes options of a model at its provider's own server, without a key, called here as its server calls it.
    pub fn new(protocol: Protocol, model: impl Into<String>) -> Self {
        let model = model.into();
        Self {
            name: model.clone(),
            protocol,
            temperature: protocol.temperature(&model),
            base_url: protocol.base_url().to_owned(),
            model,
            api_key: None,
            is_constrained: true,
            context_tokens_max: None,
            reply_tokens_max: REPLY_TOKENS_DEFAULT,
            price: None,
        }
    }

    /// Sets the server.
    #[must_use]
    pub fn at(self, base_url: impl Into<String>) -> Self {
        Self { base_url: base_url.into(), ..self }
    }

    /// Returns where replies are asked for.
    ///
    /// # Errors
    /// `data.config` for a base URL that is none or that would send a key in the clear, a model that no server has, or a
    /// key with a space.
    pub(super) fn endpoint(&self) -> Result<Url, Failure> {
        self.check_key()?;
        let model = self.model_in_path()?;
        let mut url = self.checked_url()?;
        let last = match self.protocol {
            Protocol::OpenaiChat | Protocol::Ollama => "chat/completions".to_owned(),
            Protocol::OpenaiResponses => "responses".to_owned(),
            Protocol::Anthropic => "messages".to_owned(),
            Protocol::Gemini => format!("models/{model}:streamGenerateContent"),
        };
        let path = format!("{}/{last}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        if self.protocol == Protocol::Gemini {
            url.set_query(Some("alt=sse"));
        }
        Ok(url)
    }

    fn checked_url(&self) -> Result<Url, Failure> {
        let url = Url::parse(&self.base_url).map_err(|error| self.refused(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(self.refused("it is neither http nor https"));
        }
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
            return Err(self.refused("it holds more than a host and a path"));
        }
        if self.api_key.is_some() && url.scheme() == "http" && !is_loopback(&url) {
            return Err(self.refused("the api key would travel in the clear"));
        }
        let path = url.path().trim_end_matches('/');
        if path == "/api" || path.starts_with("/api/chat") || path.starts_with("/api/generate") {
            return Err(self
                .refused("it is Ollama's own interface, where the schema of the reply would be left out")
                .hint("end it with `/v1`: Ollama speaks `openai-chat` there"));
        }
        let lasts = ["/chat/completions", "/responses", "/messages"];
        match lasts.iter().find(|last| path.ends_with(*last)) {
            Some(last) => Err(self.refused(&format!("it ends with `{last}`, which is added by itself"))),
            None => Ok(url),
        }
    }

    /// The name where it is a part of the path: Google lists its models as `models/NAME`.
    fn model_in_path(&self) -> Result<&str, Failure> {
        let refused = |why: &str| {
            let message = format!("ask model `{}`: its name {why}", printable(&self.name));
            Failure::new(Kind::DataConfig, message).hint("write it as its server lists it")
        };
        if self.model.is_empty() || self.model.chars().count() > NAME_CHARS_MAX {
            return Err(refused(&format!("has no letter, or more than {NAME_CHARS_MAX}")));
        }
        let name = self.model.strip_prefix("models/").unwrap_or(&self.model);
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if self.protocol == Protocol::Gemini && (!name.chars().all(is_plain) || name.starts_with('.')) {
            return Err(refused("has characters that no model of this protocol has"));
        }
        Ok(name)
    }

    /// A key is one word: with a space in it, it is something else that was taken for one.
    fn check_key(&self) -> Result<(), Failure> {
        if self.api_key.as_ref().is_some_and(|key| key.expose().contains(' ')) {
            let what = "take the model's api key: it has characters that no key has";
            return Err(Failure::new(Kind::DataConfig, what).hint("check it for a space"));
        }
        Ok(())
    }

    /// Answers whether this is OpenAI itself, and not a server that speaks as it does: such refuse what they do not know.
    pub(super) fn is_at_openai(&self) -> bool {
        let is_theirs = matches!(self.protocol, Protocol::OpenaiChat | Protocol::OpenaiResponses);
        let is_own = |host: &str| host == "api.openai.com" || host.ends_with(".api.openai.com");
        is_theirs && Url::parse(&self.base_url).is_ok_and(|url| url.host_str().is_some_and(is_own))
    }

    fn refused(&self, why: &str) -> Failure {
        Failure::new(Kind::DataConfig, format!("use base URL of model `{}`: {why}", printable(&self.name)))
            .hint(format!("it is like `{}`", self.protocol.base_url()))
    }
}

/// Returns scheme, host and port of `url`: what fails together.
pub(super) fn server(url: &Url) -> String {
    let port = url.port_or_known_default().map_or_else(String::new, |port| format!(":{port}"));
    format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}
