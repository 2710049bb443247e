//! The five wire protocols: their paths, their base URLs, and who says a reply in each.

use std::net::SocketAddr;

use serde::Deserialize;
use serde_json::Value;

use super::body::Body;
use super::said::Said;
use super::{chat, gemini, messages, ollama, responses};

/// A wire protocol of a model's provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// OpenAI's chat completions.
    Chat,
    /// OpenAI's responses.
    Responses,
    /// Anthropic's messages.
    Messages,
    /// Gemini's `generateContent`.
    Gemini,
    /// Ollama's own chat.
    Ollama,
}

/// Where a request went, as far as its path tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub protocol: Protocol,
    /// Named in the path, as Gemini has it.
    pub model: Option<String>,
    /// Asked for in the path, as Gemini has it.
    pub is_stream: bool,
}

const GEMINI_MODELS: &str = "/v1beta/models/";

impl Protocol {
    pub const ALL: [Self; 5] = [Self::Chat, Self::Responses, Self::Messages, Self::Gemini, Self::Ollama];

    /// Returns what a client takes as base URL, with a slash at its end, so that paths can be joined to it.
    pub(super) fn base_url(self, address: SocketAddr) -> String {
        let path = match self {
            Self::Chat | Self::Responses | Self::Messages => "v1/",
            Self::Gemini => "v1beta/",
            Self::Ollama => "",
        };
        format!("http://{address}/{path}")
    }

    /// Tells whether `body`, or the path, asks for a stream.
    pub(super) fn is_stream(self, route: &Route, body: &Value) -> bool {
        match self {
            Self::Chat | Self::Responses | Self::Messages => body["stream"] == Value::Bool(true),
            Self::Gemini => route.is_stream,
            // It streams unless it is told not to.
            Self::Ollama => body["stream"] != Value::Bool(false),
        }
    }

    /// Returns the most tokens that the request allows the reply.
    pub(super) fn reply_tokens_max(self, body: &Value) -> Option<u64> {
        let pointers: &[&str] = match self {
            Self::Chat => &["/max_completion_tokens", "/max_tokens"],
            Self::Responses => &["/max_output_tokens"],
            Self::Messages => &["/max_tokens"],
            Self::Gemini => &["/generationConfig/maxOutputTokens"],
            Self::Ollama => &["/options/num_predict"],
        };
        pointers.iter().find_map(|pointer| body.pointer(pointer)?.as_u64())
    }

    /// Says `said` as one object.
    pub(super) fn whole(self, said: &Said) -> Body {
        let value = match self {
            Self::Chat => chat::whole(said),
            Self::Responses => responses::whole(said),
            Self::Messages => messages::whole(said),
            Self::Gemini => gemini::whole(said),
            Self::Ollama => ollama::whole(said),
        };
        Body::whole(self.json_type(), &value)
    }

    /// Says `said` as a stream of events.
    pub(super) fn stream(self, said: &Said) -> Body {
        let events = match self {
            Self::Chat => chat::events(said),
            Self::Responses => responses::events(said),
            Self::Messages => messages::events(said),
            Self::Gemini => gemini::events(said),
            Self::Ollama => ollama::events(said),
        };
        Body::stream(self.stream_type(), events)
    }

    /// Returns what keeps a stream awake and says nothing.
    pub(super) fn heartbeat(self) -> &'static str {
        match self {
            Self::Chat | Self::Responses | Self::Gemini => ": keep-alive\n\n",
            Self::Messages => "event: ping\ndata: {\"type\": \"ping\"}\n\n",
            Self::Ollama => "\n",
        }
    }

    pub(super) fn json_type(self) -> &'static str {
        match self {
            Self::Gemini => "application/json; charset=UTF-8",
            Self::Ollama => "application/json; charset=utf-8",
            _ => "application/json",
        }
    }

    fn stream_type(self) -> &'static str {
        match self {
            Self::Ollama => "application/x-ndjson",
            Self::Gemini => "text/event-stream",
            _ => "text/event-stream; charset=utf-8",
        }
    }

    /// Returns the header in which the provider numbers its answers.
    pub(super) fn request_id_header(self) -> Option<&'static str> {
        match self {
            Self::Chat | Self::Responses => Some("x-request-id"),
            Self::Messages => Some("request-id"),
            Self::Gemini | Self::Ollama => None,
        }
    }
}

impl Route {
    /// Finds the protocol that has this path, or nothing.
    ///
    /// A stream of Gemini without `alt=sse` is not spoken here: no client asks for it.
    pub(super) fn of(path: &str, query: &str) -> Option<Self> {
        let plain = |protocol| Some(Self { protocol, model: None, is_stream: false });
        match path {
            "/v1/chat/completions" => plain(Protocol::Chat),
            "/v1/responses" => plain(Protocol::Responses),
            "/v1/messages" => plain(Protocol::Messages),
            "/api/chat" => plain(Protocol::Ollama),
            _ => {
                let (model, method) = path.strip_prefix(GEMINI_MODELS)?.split_once(':')?;
                let is_sse = query.split('&').any(|pair| pair == "alt=sse");
                let is_stream = match method {
                    "generateContent" => false,
                    "streamGenerateContent" if is_sse => true,
                    _ => return None,
                };
                let model = (!model.is_empty() && !model.contains('/')).then(|| model.to_owned())?;
                Some(Self { protocol: Protocol::Gemini, model: Some(model), is_stream })
            }
        }
    }
}
