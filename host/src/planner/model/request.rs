//! What is sent: the prompt, the schema of the reply, and who asks.

use std::sync::Arc;

use genai::adapter::AdapterKind;
use genai::chat::{CacheControl, ChatMessage, ChatOptions, ChatRequest, JsonSpec, ReasoningEffort};
use genai::resolver::{AuthData, Endpoint};
use genai::{Headers, ModelIden, ServiceTarget};
use reqwest::Url;

use super::ear::Ear;
use super::protocol::reasons;
use super::{ModelOptions, Protocol};
use crate::domain::Json;
use crate::planner::{Allowance, ContextPack, prompt};

/// The name of the reply's schema on the wire.
const SCHEMA_NAME: &str = "proposal";

/// Bytes of a request around its prompt and its schema, the model's name twice included.
const ENVELOPE_BYTES_MAX: u64 = 1_024;

/// The version of Anthropic's protocol.
const ANTHROPIC_VERSION: &str = "2023-06-01";

/// Writes the prompt.
pub(super) fn request(pack: &ContextPack) -> ChatRequest {
    ChatRequest::new(vec![ChatMessage::user(prompt::user(pack))]).with_system(prompt::system(pack))
}

/// Returns the most tokens that a provider can count for a request with this pack: a byte of what is sent is a token at most.
pub(super) fn tokens_max(options: &ModelOptions, pack: &ContextPack) -> u64 {
    let texts = [prompt::system(pack), prompt::user(pack)].map(Json::from);
    let schema = schema(options, pack).unwrap_or_default();
    let bytes: usize = texts.iter().chain([&schema]).map(|part| part.to_string().len()).sum();
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_add(ENVELOPE_BYTES_MAX);
    bytes.saturating_add(options.protocol.overhead_tokens())
}

/// Returns how the reply is asked for.
pub(super) fn options(
    options: &ModelOptions,
    pack: &ContextPack,
    allowance: &Allowance,
    ear: &Arc<Ear>,
) -> ChatOptions {
    let reply_tokens_max = allowance.reply_tokens_max.min(options.reply_tokens_max);
    let mut chat = ChatOptions::default().with_raw_frame_sink_arc(ear.clone());
    if let Some(schema) = schema(options, pack) {
        chat = chat.with_response_format(JsonSpec::new(SCHEMA_NAME, schema));
    }
    if let Some(temperature) = options.temperature {
        chat = chat.with_temperature(temperature);
    }
    let mut body = serde_json::Map::new();
    match options.protocol {
        // By the library's own word for it only where its name begins so: it is written here.
        Protocol::OpenaiChat | Protocol::Ollama => {
            body.insert(reply_bound(options).to_owned(), reply_tokens_max.into());
        }
        _ => chat = chat.with_max_tokens(reply_tokens_max),
    }
    match options.protocol {
        // Asks for the usage at the end of the stream.
        Protocol::OpenaiChat | Protocol::Ollama => chat = chat.with_capture_usage(true),
        // What stays the same through a run is read from the cache after the first turn.
        Protocol::Anthropic => chat = chat.with_cache_control(CacheControl::Ephemeral),
        Protocol::OpenaiResponses | Protocol::Gemini => {}
    }
    named(chat, body, options)
}

/// Returns OpenAI's word for the longest reply: the old one is refused for models that reason, and the new one is unknown to
/// many other servers.
fn reply_bound(options: &ModelOptions) -> &'static str {
    let url = Url::parse(&options.base_url).ok();
    let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
    // Azure calls a model what its owner does, so that its name tells nothing.
    let is_openai = host == "api.openai.com" || host.ends_with(".openai.com") || host.ends_with(".openai.azure.com");
    if is_openai || reasons(&options.model) { "max_completion_tokens" } else { "max_tokens" }
}

/// Keeps the model's name as it is: the library reads `-high` or `::` in it as syntax of its own.
fn named(chat: ChatOptions, mut body: serde_json::Map<String, Json>, options: &ModelOptions) -> ChatOptions {
    let chat = match options.protocol {
        // A budget is not sent by these protocols, and goes before what the name seems to say.
        Protocol::OpenaiChat | Protocol::OpenaiResponses | Protocol::Ollama => {
            chat.with_reasoning_effort(ReasoningEffort::Budget(0))
        }
        Protocol::Anthropic | Protocol::Gemini if ends_like_an_effort(&options.model) => {
            chat.with_reasoning_effort(ReasoningEffort::Zero)
        }
        Protocol::Anthropic | Protocol::Gemini => chat,
    };
    match options.protocol {
        // The name stands in the path, which is ours.
        Protocol::Gemini => chat,
        _ => {
            body.insert("model".to_owned(), options.model.clone().into());
            if options.is_at_openai() {
                // An account may have a dearer way of processing for its own, of which the price and so the bound tell
                // nothing.
                body.insert("service_tier".to_owned(), "default".into());
            }
            chat.with_extra_body(Json::Object(body))
        }
    }
}

fn ends_like_an_effort(model: &str) -> bool {
    let efforts = ["none", "zero", "minimal", "low", "medium", "high", "xhigh", "max"];
    model.rsplit_once('-').is_some_and(|(_, last)| efforts.contains(&last))
}

fn schema(options: &ModelOptions, pack: &ContextPack) -> Option<Json> {
    options.is_constrained.then(|| prompt::reply_schema(pack, options.protocol.dialect()))
}

/// Returns where the request goes, and the headers that it bears: the key in one of them, and nowhere else.
pub(super) fn target(options: &ModelOptions, url: &Url, allowance: &Allowance) -> ServiceTarget {
    let adapter = match options.protocol {
        Protocol::OpenaiChat | Protocol::Ollama => AdapterKind::OpenAI,
        Protocol::OpenaiResponses => AdapterKind::OpenAIResp,
        Protocol::Anthropic => AdapterKind::Anthropic,
        Protocol::Gemini => AdapterKind::Gemini,
    };
    ServiceTarget {
        endpoint: Endpoint::from_owned(url.as_str()),
        auth: AuthData::RequestOverride { url: url.to_string(), headers: headers(options, allowance) },
        model: ModelIden::new(adapter, options.model.as_str()),
    }
}

fn headers(options: &ModelOptions, allowance: &Allowance) -> Headers {
    let mut headers = vec![("accept".to_owned(), "text/event-stream".to_owned())];
    if let Some(key) = options.api_key.as_ref().map(|key| key.expose()) {
        headers.push(match options.protocol {
            Protocol::Anthropic => ("x-api-key".to_owned(), key.to_owned()),
            Protocol::Gemini => ("x-goog-api-key".to_owned(), key.to_owned()),
            _ => ("authorization".to_owned(), format!("Bearer {key}")),
        });
    }
    if options.protocol == Protocol::Anthropic {
        headers.push(("anthropic-version".to_owned(), ANTHROPIC_VERSION.to_owned()));
    }
    // Another text would be no header, and the request would not be sent for it.
    let is_trace = |text: &&String| text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    if let Some(traceparent) = allowance.traceparent.as_ref().filter(is_trace) {
        headers.push(("traceparent".to_owned(), traceparent.clone()));
    }
    Headers::from(headers)
}
