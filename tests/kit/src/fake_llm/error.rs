//! What providers say when they do not answer: each kind of error, in each provider's own status, body and event.

use serde::Deserialize;
use serde_json::{Value, json};

use super::body::{Body, event, named_event};
use super::protocol::Protocol;
use super::verbatim;

/// Why a provider does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The request is wrong.
    InvalidRequest,
    /// The request is longer than the model's window.
    ContextOverflow,
    /// The key is not one.
    Auth,
    /// There is no such model.
    NotFound,
    /// Too many requests; with `retry-after`.
    RateLimit,
    /// Nothing is left to pay with.
    Quota,
    /// The provider broke.
    Server,
    /// The provider has too much to do.
    Overloaded,
}

impl ErrorKind {
    /// Returns the status with which `protocol` says this.
    pub(super) fn status(self, protocol: Protocol) -> u16 {
        match (self, protocol) {
            // Gemini calls a key that is none an invalid argument, and Anthropic an empty account an invalid request.
            (Self::Auth, Protocol::Gemini) | (Self::Quota, Protocol::Messages) => 400,
            (Self::InvalidRequest | Self::ContextOverflow, _) => 400,
            (Self::Auth, _) => 401,
            (Self::NotFound, _) => 404,
            (Self::RateLimit | Self::Quota, _) => 429,
            (Self::Server, _) => 500,
            (Self::Overloaded, Protocol::Messages) => 529,
            (Self::Overloaded, _) => 503,
        }
    }

    /// Makes the body of the answer.
    pub(super) fn body(self, protocol: Protocol, model: &str) -> Body {
        self.body_saying(protocol, &self.message(protocol, model))
    }

    /// Makes the body of the answer, in these words.
    pub(super) fn body_saying(self, protocol: Protocol, message: &str) -> Body {
        Body::whole(protocol.json_type(), &self.value(protocol, message))
    }

    /// Makes the event that says this in the middle of a stream, behind so many others.
    pub(super) fn event(self, protocol: Protocol, model: &str, events: usize) -> String {
        let message = self.message(protocol, model);
        match protocol {
            Protocol::Chat => event(&self.value(protocol, &message)),
            Protocol::Messages => named_event(&self.value(protocol, &message)),
            Protocol::Gemini => format!("data: {}\r\n\r\n", verbatim::write(&self.value(protocol, &message))),
            Protocol::Ollama => format!("{}\n", verbatim::write(&self.value(protocol, &message))),
            Protocol::Responses => {
                let code = self.openai().1.unwrap_or("server_error");
                named_event(&json!({
                    "type": "error", "sequence_number": events, "code": code, "message": message, "param": null,
                }))
            }
        }
    }

    fn value(self, protocol: Protocol, message: &str) -> Value {
        match protocol {
            Protocol::Chat | Protocol::Responses => {
                let (kind, code) = self.openai();
                let param = match (self, protocol) {
                    (Self::ContextOverflow, Protocol::Chat) => Some("messages"),
                    (Self::ContextOverflow, _) => Some("input"),
                    _ => None,
                };
                json!({"error": {"message": message, "type": kind, "param": param, "code": code}})
            }
            Protocol::Messages => {
                let error = json!({"type": self.anthropic(), "message": message});
                json!({"type": "error", "error": error, "request_id": "req_fake"})
            }
            Protocol::Gemini => {
                let (status, details) = self.gemini();
                let mut error = json!({"code": self.status(protocol), "message": message, "status": status});
                if let Some(details) = details {
                    error["details"] = details;
                }
                json!({"error": error})
            }
            Protocol::Ollama => json!({"error": message}),
        }
    }

    /// Returns OpenAI's type and code.
    fn openai(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::InvalidRequest => ("invalid_request_error", None),
            Self::ContextOverflow => ("invalid_request_error", Some("context_length_exceeded")),
            Self::Auth => ("invalid_request_error", Some("invalid_api_key")),
            Self::NotFound => ("invalid_request_error", Some("model_not_found")),
            Self::RateLimit => ("requests", Some("rate_limit_exceeded")),
            Self::Quota => ("insufficient_quota", Some("insufficient_quota")),
            Self::Server | Self::Overloaded => ("server_error", None),
        }
    }

    fn anthropic(self) -> &'static str {
        match self {
            Self::InvalidRequest | Self::ContextOverflow | Self::Quota => "invalid_request_error",
            Self::Auth => "authentication_error",
            Self::NotFound => "not_found_error",
            Self::RateLimit => "rate_limit_error",
            Self::Server => "api_error",
            Self::Overloaded => "overloaded_error",
        }
    }

    /// Returns Google's status and details.
    fn gemini(self) -> (&'static str, Option<Value>) {
        match self {
            Self::InvalidRequest | Self::ContextOverflow => ("INVALID_ARGUMENT", None),
            Self::Auth => (
                "INVALID_ARGUMENT",
                Some(json!([{
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID",
                    "domain": "googleapis.com", "metadata": {"service": "generativelanguage.googleapis.com"},
                }])),
            ),
            Self::NotFound => ("NOT_FOUND", None),
            Self::RateLimit => (
                "RESOURCE_EXHAUSTED",
                Some(json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}])),
            ),
            Self::Quota => ("RESOURCE_EXHAUSTED", None),
            Self::Server => ("INTERNAL", None),
            Self::Overloaded => ("UNAVAILABLE", None),
        }
    }

    fn message(self, protocol: Protocol, model: &str) -> String {
        let is_openai = matches!(protocol, Protocol::Chat | Protocol::Responses);
        match (self, protocol) {
            (Self::InvalidRequest, _) => "The request is not valid.".to_owned(),
            (Self::ContextOverflow, Protocol::Chat) => {
                "This model's maximum context length is 128000 tokens. However, your messages resulted in 200001 tokens. \
                 Please reduce the length of the messages."
                    .to_owned()
            }
            (Self::ContextOverflow, Protocol::Responses) => {
                "Your input exceeds the context window of this model. Please adjust your input and try again.".to_owned()
            }
            (Self::ContextOverflow, Protocol::Messages) => "prompt is too long: 200001 tokens > 200000 maximum".to_owned(),
            (Self::ContextOverflow, Protocol::Gemini) => {
                "The input token count (1048577) exceeds the maximum number of tokens allowed (1048576).".to_owned()
            }
            (Self::ContextOverflow, Protocol::Ollama) => "the input length exceeds the context length".to_owned(),
            (Self::Auth, Protocol::Messages) => "invalid x-api-key".to_owned(),
            (Self::Auth, Protocol::Gemini) => "API key not valid. Please pass a valid API key.".to_owned(),
            (Self::Auth, Protocol::Ollama) => "unauthorized".to_owned(),
            (Self::Auth, _) => "Incorrect API key provided.".to_owned(),
            (Self::NotFound, Protocol::Messages) => format!("model: {model}"),
            (Self::NotFound, Protocol::Gemini) => format!("models/{model} is not found for API version v1beta."),
            (Self::NotFound, Protocol::Ollama) => format!("model '{model}' not found"),
            (Self::NotFound, _) => format!("The model `{model}` does not exist or you do not have access to it."),
            (Self::RateLimit, _) if is_openai => format!("Rate limit reached for {model} on requests per min (RPM)."),
            (Self::RateLimit, Protocol::Messages) => "This request would exceed your account's rate limit.".to_owned(),
            (Self::RateLimit, Protocol::Gemini) => "You exceeded your current quota. Please retry in 7s.".to_owned(),
            (Self::RateLimit, _) => "too many requests".to_owned(),
            (Self::Quota, Protocol::Messages) => {
                "Your credit balance is too low to access the Anthropic API.".to_owned()
            }
            (Self::Quota, _) => "You exceeded your current quota, please check your plan and billing details.".to_owned(),
            (Self::Server, Protocol::Messages) => "Internal server error".to_owned(),
            (Self::Server, Protocol::Gemini) => "An internal error has occurred.".to_owned(),
            (Self::Server, Protocol::Ollama) => "model runner has unexpectedly stopped".to_owned(),
            (Self::Server, _) => "The server had an error while processing your request. Sorry about that!".to_owned(),
            (Self::Overloaded, Protocol::Messages) => "Overloaded".to_owned(),
            (Self::Overloaded, Protocol::Gemini) => "The model is overloaded. Please try again later.".to_owned(),
            (Self::Overloaded, Protocol::Ollama) => {
                "server busy, please try again.  maximum pending requests exceeded".to_owned()
            }
            (Self::Overloaded, _) => "The engine is currently overloaded, please try again later".to_owned(),
        }
    }
}
