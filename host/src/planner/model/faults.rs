//! What went wrong with a request, as one of our kinds: what a server answered, said within a stream, or did not say.

use std::error::Error;

use reqwest::header::{HeaderMap, RETRY_AFTER};

use super::heard::Fault;
use super::listen::Broken;
use crate::domain::{Json, Kind, RETRY_AFTER_MS_MAX, Timestamp, retry_after_ms};

/// What went wrong, before it is told in the model's name. `what` may hold nothing of the server's.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    pub kind: Option<Kind>,
    pub what: String,
    pub hint: Option<String>,
    /// Words of the server or of a library, for the operator.
    pub detail: String,
    /// The body of an error, to be kept.
    pub body: String,
    pub retry_after_ms: Option<u64>,
    /// Whether it is known that the model was not asked, and so that nothing is to be paid.
    pub is_free: bool,
}

/// Words by which servers tell that a request is longer than the model can read. There is no code that all of them use.
const OVERFLOW_WORDS: [&str; 11] = [
    "context_length_exceeded",
    "maximum context length",
    "exceed_context_size",
    "exceeds the available context",
    "exceeds context length",
    "exceeds the context length",
    "exceed context limit",
    "context window",
    "prompt is too long",
    "exceeds the maximum number of tokens",
    "greater than the context length",
];

/// Words by which servers tell that a filter refused the request itself.
const FILTER_WORDS: [&str; 3] = ["content_filter", "responsibleaipolicyviolation", "content_policy_violation"];

/// Words by which servers name the bound on a reply.
const REPLY_BOUND_WORDS: [&str; 6] = [
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "maxoutputtokens",
    "completion tokens",
    "output tokens",
];

/// Words by which they tell that they do not know a key.
const UNKNOWN_WORDS: [&str; 5] =
    ["unsupported_parameter", "unsupported parameter", "not supported with this", "unrecognized", "extra inputs"];

/// Words that make an error within a stream one of the caller.
const CALLER_WORDS: [&str; 7] = [
    "invalid_request",
    "invalid_argument",
    "invalid_api_key",
    "authentication",
    "permission",
    "not_found",
    "unsupported",
];

impl Trouble {
    fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind: Some(kind), what: what.into(), ..Self::default() }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    fn detail(self, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..self }
    }
}

/// Tells why a stream was left before its end.
pub(super) fn of_broken(broken: Broken, now: Timestamp, base_url: &str) -> Trouble {
    match broken {
        Broken::Silent(what, ms) => Trouble::new(Kind::NetworkTimeout, format!("{what} within {ms} ms")),
        Broken::Failed(error) => of_error(*error, now, base_url),
    }
}

/// Tells what the client's error means.
pub(super) fn of_error(error: genai::Error, now: Timestamp, base_url: &str) -> Trouble {
    match error {
        genai::Error::HttpError { status, body, headers, .. } => of_status(status.as_u16(), &headers, body, now),
        genai::Error::WebStream { error, .. } => match error.downcast::<genai::Error>() {
            Ok(error) => of_error(*error, now, base_url),
            Err(error) => of_connection(&*error, base_url),
        },
        other => Trouble::new(Kind::HostBug, "the request could not be made").detail(other.to_string()),
    }
}

fn of_status(status: u16, headers: &HeaderMap, body: String, now: Timestamp) -> Trouble {
    let said = body.to_lowercase();
    let wait_ms = wait_ms(headers, &body, now);
    let is_request = (400..500).contains(&status) && status != 429;
    let (kind, hint) = match status {
        _ if is_request && has(&said, &OVERFLOW_WORDS) => (Kind::ModelContextOverflow, shorter()),
        _ if is_request && has(&said, &FILTER_WORDS) => (Kind::ModelRefusal, "a filter refused the request".into()),
        429 if said.contains("insufficient_quota") => {
            (Kind::NetworkRateLimited, "what the account may spend is spent: see its settings".into())
        }
        429 => (Kind::NetworkRateLimited, again(wait_ms)),
        400 if has(&said, &["api_key_invalid"]) => (Kind::NetworkHttp4xx, "check the api key".into()),
        400 if has(&said, &["temperature"]) => {
            (Kind::NetworkHttp4xx, "write `temperature = \"default\"` for this model".into())
        }
        400 | 422 if has(&said, &REPLY_BOUND_WORDS) && has(&said, &UNKNOWN_WORDS) => (
            Kind::NetworkHttp4xx,
            "write `protocol = \"openai-responses\"` for this model, where its server has it: the word for the longest reply is another there".into(),
        ),
        400 | 422 if has(&said, &REPLY_BOUND_WORDS) => {
            (Kind::NetworkHttp4xx, "write a smaller `reply_tokens_max` for this model".into())
        }
        400 if has(&said, &["schema", "response_format", "output_config", "grammar"]) => {
            (Kind::NetworkHttp4xx, "write `schema = false` for this model: its replies are checked all the same".into())
        }
        401 | 403 => (Kind::NetworkHttp4xx, "check the api key, and what it may use".into()),
        404 => (Kind::NetworkHttp4xx, "check the base URL, the protocol and the name of the model".into()),
        408 => (Kind::NetworkTimeout, "try again".into()),
        413 => (Kind::ModelContextOverflow, shorter()),
        300..=399 => (Kind::NetworkHttp4xx, "redirects are not followed: set the base URL to its target".into()),
        400..=499 => (Kind::NetworkHttp4xx, "the detail tells what the server refuses".into()),
        _ => (Kind::NetworkHttp5xx, again(wait_ms)),
    };
    let waits = matches!(kind, Kind::NetworkRateLimited | Kind::NetworkHttp5xx);
    let trouble = Trouble::new(kind, format!("the server answered {status}")).hint(hint).detail(body.clone());
    // A server that failed may have asked its model before; one that is overloaded says that it did not.
    let is_free = (kind != Kind::NetworkHttp5xx && !matches!(status, 408 | 499)) || matches!(status, 503 | 529);
    Trouble { retry_after_ms: wait_ms.filter(|_| waits), body, is_free, ..trouble }
}

/// Tells what a server said within a stream, or what is wrong with the stream itself.
pub(super) fn of_fault(fault: Fault) -> Trouble {
    match fault {
        Fault::Told { code, message } => of_words(&code, message),
        Fault::Garbled(why) => {
            Trouble::new(Kind::NetworkHttp5xx, "the server sent an event that is no JSON").detail(why)
        }
        Fault::TooLong => Trouble::new(Kind::ModelTruncated, "the reply is longer than a reply may be")
            .hint("reply with a shorter plan"),
    }
}

/// The stream ended before the model did: nothing of it is a reply.
pub(super) fn cut() -> Trouble {
    Trouble::new(Kind::NetworkCut, "the connection broke before the end of the answer")
}

/// There was no event at all.
pub(super) fn no_stream(base_url: &str) -> Trouble {
    Trouble::new(Kind::NetworkHttp5xx, "the server answered something else than a stream of events")
        .hint(format!("does the server at {base_url} speak this protocol, and stream?"))
}

fn of_words(code: &str, message: String) -> Trouble {
    let said = format!("{code} {}", message.to_lowercase());
    let is = |words: &[&str]| has(&said, words);
    let kind = match () {
        () if is(&OVERFLOW_WORDS) => Kind::ModelContextOverflow,
        () if has(code, &FILTER_WORDS) => Kind::ModelRefusal,
        () if has(code, &["rate_limit", "resource_exhausted", "insufficient_quota", "429"]) => Kind::NetworkRateLimited,
        () if has(code, &CALLER_WORDS) => Kind::NetworkHttp4xx,
        () => Kind::NetworkHttp5xx,
    };
    let hint = if kind == Kind::ModelContextOverflow { shorter() } else { again(None) };
    Trouble::new(kind, "the server failed within its answer").hint(hint).detail(format!("{code}: {message}"))
}

/// Tells why no answer came, or why it broke off.
fn of_connection(error: &(dyn Error + 'static), base_url: &str) -> Trouble {
    let (is_timeout, is_connect) =
        error.downcast_ref::<reqwest::Error>().map_or((false, false), |e| (e.is_timeout(), e.is_connect()));
    let causes = causes(error);
    let is_tls = has_tls(error) || causes.contains("certificate");
    let (kind, what) = match () {
        () if is_timeout => (Kind::NetworkTimeout, "the server did not answer in time"),
        () if is_connect && is_tls => (Kind::NetworkTls, "the server could not prove who it is"),
        () if is_connect && causes.contains("dns error") => (Kind::NetworkDns, "the server's name did not resolve"),
        () if is_connect => (Kind::NetworkConnect, "no connection to the server came about"),
        () => return cut().detail(causes),
    };
    let trouble = Trouble::new(kind, what).hint(format!("is a model served at {base_url}?")).detail(causes);
    Trouble { is_free: is_connect, ..trouble }
}

/// Answers whether an error of TLS lies below.
fn has_tls(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<rustls::Error>() {
            return true;
        }
        // An error of I/O leaves the one that it holds out of its causes.
        cause = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(held) => Some(held),
            None => error.source(),
        };
    }
    false
}

/// Returns the causes below the error, without the URL that it bears itself.
fn causes(error: &(dyn Error + 'static)) -> String {
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    if causes.is_empty() { error.to_string() } else { causes.join(": ") }
}

/// Returns how long the server asks to be left alone: by header, or in Google's way within the body.
fn wait_ms(headers: &HeaderMap, body: &str, now: Timestamp) -> Option<u64> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let exact = || header("retry-after-ms")?.trim().parse::<f64>().ok().and_then(whole_ms);
    let usual = || retry_after_ms(header(RETRY_AFTER.as_str())?, now);
    exact().or_else(usual).or_else(|| delay_ms(body))
}

fn delay_ms(body: &str) -> Option<u64> {
    let body: Json = serde_json::from_str(body).ok()?;
    let details = body["error"]["details"].as_array()?;
    let delay = details.iter().find_map(|detail| detail["retryDelay"].as_str())?;
    delay.strip_suffix('s')?.parse::<f64>().ok().and_then(|seconds| whole_ms(seconds * 1_000.0))
}

/// Takes a number of milliseconds that a server wrote, up to the longest wait that it is believed.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is within the bounds of the cast")]
fn whole_ms(ms: f64) -> Option<u64> {
    (ms.is_finite() && ms >= 0.0).then(|| ms.ceil().min(RETRY_AFTER_MS_MAX as f64) as u64)
}

fn has(said: &str, words: &[&str]) -> bool {
    words.iter().any(|word| said.contains(word))
}

fn again(wait_ms: Option<u64>) -> String {
    wait_ms.map_or_else(|| "try again later".to_owned(), |ms| format!("try again after {} s", ms.div_ceil(1_000)))
}

fn shorter() -> String {
    "offer fewer tools, or shorten the goal".to_owned()
}
