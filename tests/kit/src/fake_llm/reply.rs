//! What a step replies: what is said, and the manners and bad manners with which it is sent.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::body::Body;
use super::error::ErrorKind;
use super::request::Ask;
use super::said::Said;
use super::usage::Usage;

/// A reply: exactly one of `json`, `text`, `tool_calls`, `refusal`, `raw` and `error`, and how it is sent.
///
/// Two may stand together: `text` with `tool_calls`, as models have it that tell what they do; and a content with
/// `error`, where `fails_after_events` says after how much of the content the error comes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reply {
    /// The message's content is the text of this value.
    pub json: Option<Value>,
    /// The message's content.
    pub text: Option<String>,
    /// The message asks for calls.
    pub tool_calls: Option<Vec<FunctionCall>>,
    /// The model refuses, in these words. Gemini has two ways: with words the candidate ends as `SAFETY`, with empty
    /// ones the prompt is blocked and there is no candidate.
    pub refusal: Option<String>,
    /// What the model thought before it spoke.
    pub reasoning: Option<String>,
    /// The body, whatever it is.
    pub raw: Option<String>,
    /// The provider's own way to say what went wrong.
    pub error: Option<ErrorKind>,
    /// 200 where nothing is said, or that of the error.
    pub status: Option<u16>,
    /// Headers beside or in place of the usual ones.
    pub headers: BTreeMap<String, String>,
    /// `stop`, `tool_calls`, `length` or `content_filter`, in each provider's own word; any other word as it is.
    pub finish_reason: Option<String>,
    pub usage: Usage,
    /// Waits before the first byte.
    pub delay_ms: u64,
    /// Waits before each event; a body that is no stream is one.
    pub event_delay_ms: u64,
    /// Sends the body in small pieces.
    pub drip: Option<Drip>,
    /// Closes the connection after so many bytes of the body as it is on the wire.
    pub cut_after: Option<usize>,
    /// Closes the connection after so many events; a body that is no stream is one event.
    pub cut_after_events: Option<usize>,
    /// Sends nothing more after so many events, and does not close either.
    pub stall_after_events: Option<usize>,
    /// While it stalls, says so often that it is still there, in the manner of the provider: nothing comes, and never
    /// nothing.
    pub heartbeat_ms: Option<u64>,
    /// Says the `error` after so many events, in the stream. A request for no stream gets the error alone.
    pub fails_after_events: Option<usize>,
    /// The event of this number, from 1, is not JSON; a body that is no stream is the first.
    pub malformed_event: Option<usize>,
    /// Ends the connection with a reset, as a broken network does, and not with a goodbye.
    pub reset: bool,
    /// Ends the connection before the first byte; nothing needs to be said then.
    pub hang_up: bool,
}

/// A call that the model asks for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionCall {
    pub name: String,
    /// Text is sent as it is, so that it may be malformed or have a key twice; anything else as its JSON text.
    ///
    /// Providers that send arguments as text carry it whole. Those that send an object carry it in place of the object,
    /// so that malformed arguments make a malformed body or event.
    pub arguments: Value,
    /// Made up where nothing is said; Gemini sends one only where one is given.
    #[serde(default)]
    pub id: Option<String>,
}

/// How slowly a body is sent.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drip {
    /// Bytes in a piece.
    pub bytes: usize,
    /// Wait before each piece.
    pub ms: u64,
}

/// Seconds that a client is told to wait where a script says nothing else.
const RETRY_AFTER_S: &str = "7";

impl Reply {
    /// Checks that the reply says one thing, and can be sent.
    pub(super) fn check(&self) -> Result<(), String> {
        let contents = self.contents();
        match (contents, self.error, self.fails_after_events) {
            (1, None, None) | (0, Some(_), None) | (1, Some(_), Some(_)) => {}
            (0, None, None) if self.hang_up => {}
            (_, None, Some(_)) => return Err("`fails_after_events` needs an `error`".to_owned()),
            _ => {
                return Err(
                    "a reply is exactly one of `json`, `text`, `tool_calls`, `refusal`, `raw` and `error`".to_owned()
                );
            }
        }
        if self.raw.is_some() && (self.fails_after_events.is_some() || self.reasoning.is_some()) {
            return Err("a `raw` body says all there is to say".to_owned());
        }
        if self.drip.is_some_and(|drip| drip.bytes == 0) {
            return Err("a drip of 0 bytes never ends".to_owned());
        }
        if self.drip.is_some() && self.event_delay_ms > 0 {
            return Err("a drip does not know where an event begins".to_owned());
        }
        if self.heartbeat_ms.is_some_and(|ms| ms == 0 || self.stall_after_events.is_none()) {
            return Err("a heartbeat is of a stall, and not at all times".to_owned());
        }
        if self.malformed_event == Some(0) {
            return Err("events are counted from 1".to_owned());
        }
        self.usage.check()
    }

    /// Counts what is said; words beside calls are one with them.
    fn contents(&self) -> usize {
        let said = [
            self.json.is_some(),
            self.text.is_some() && self.tool_calls.is_none(),
            self.tool_calls.is_some(),
            self.refusal.is_some(),
            self.raw.is_some(),
        ];
        said.iter().filter(|is_said| **is_said).count()
    }

    /// Makes the body of the answer to `ask`, the `turn`th from 0.
    ///
    /// # Errors
    /// An echo of a request that does not bound its reply.
    pub(super) fn body(&self, ask: &Ask, turn: usize) -> Result<Body, String> {
        let protocol = ask.route.protocol;
        let mut body = match (&self.raw, self.http_error(ask), self.error) {
            (Some(raw), ..) => Body::bytes("application/json", raw.clone().into_bytes()),
            (None, Some(error), _) => error.body(protocol, &ask.model()),
            (None, None, error) => {
                let mut body = self.spoken(ask, turn)?;
                if let (Some(error), Some(events)) = (error, self.fails_after_events) {
                    body.frames.truncate(events);
                    let event = error.event(protocol, &ask.model(), body.frames.len());
                    body.frames.push(event.into_bytes());
                }
                body
            }
        };
        if let Some(n) = self.malformed_event {
            body.malform(n);
        }
        Ok(body)
    }

    fn spoken(&self, ask: &Ask, turn: usize) -> Result<Body, String> {
        let protocol = ask.route.protocol;
        let model = ask.model();
        let mut said = Said::new(self, ask.body, &model, turn);
        said.usage = self.usage.tokens(ask.bytes, protocol.reply_tokens_max(ask.body))?;
        let is_stream = protocol.is_stream(ask.route, ask.body);
        Ok(if is_stream { protocol.stream(&said) } else { protocol.whole(&said) })
    }

    /// Returns the error that is the whole answer, where it is not one in the middle of a stream.
    fn http_error(&self, ask: &Ask) -> Option<ErrorKind> {
        let is_stream = ask.route.protocol.is_stream(ask.route, ask.body);
        self.error.filter(|_| self.fails_after_events.is_none() || !is_stream)
    }

    /// Returns the status that is answered.
    pub(super) fn status(&self, ask: &Ask) -> u16 {
        let of_error = self.http_error(ask).map(|error| error.status(ask.route.protocol));
        self.status.or(of_error).unwrap_or(200)
    }

    /// Returns the headers that are not about the body: those of the provider, then those of the script.
    pub(super) fn headers(&self, ask: &Ask) -> Vec<(String, String)> {
        let id = ask.route.protocol.request_id_header();
        let mut headers: Vec<(String, String)> =
            id.map(|name| (name.to_owned(), "req_fake".to_owned())).into_iter().collect();
        if self.http_error(ask) == Some(ErrorKind::RateLimit) {
            headers.push(("retry-after".to_owned(), RETRY_AFTER_S.to_owned()));
        }
        headers.retain(|(name, _)| !self.headers.keys().any(|given| given.eq_ignore_ascii_case(name)));
        headers.extend(self.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        headers
    }
}
