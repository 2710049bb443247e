//! What a reply says, in no provider's words: what the script left open is decided here, once for all protocols.

use serde_json::Value;

use super::reply::{FunctionCall, Reply};
use super::usage::Tokens;

/// Characters in one event of a stream: few enough that every reply has several.
const DELTA_CHARS: usize = 8;

/// Parts of a text at most, but for one: those of a long one are longer, as nobody waits for a million events.
const PIECES_MAX: usize = 1_000;

/// The time that every reply bears, in seconds: a test gets the same bytes each time.
pub(super) const CREATED: u64 = 1_700_000_000;

/// A reply to one request.
pub(super) struct Said<'a> {
    /// As the request named it.
    pub model: String,
    /// The number of the reply, from 0: what has an id has one that no other reply has.
    pub turn: usize,
    pub request: &'a Value,
    pub reasoning: Option<&'a str>,
    pub text: Option<String>,
    pub calls: Vec<Call<'a>>,
    pub refusal: Option<&'a str>,
    pub finish: Finish<'a>,
    /// `None` where the reply leaves it out.
    pub usage: Option<Tokens>,
}

/// A call that the model asks for.
pub(super) struct Call<'a> {
    pub name: &'a str,
    /// Given by the script.
    pub id: Option<&'a str>,
    /// JSON, or what should be it.
    pub arguments: String,
}

/// Why the reply ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish<'a> {
    Stop,
    Calls,
    Length,
    Filter,
    /// A provider's own word.
    Word(&'a str),
}

impl<'a> Said<'a> {
    /// Decides what `reply` leaves open.
    pub(super) fn new(reply: &'a Reply, request: &'a Value, model: &str, turn: usize) -> Self {
        let calls: Vec<Call> = reply.tool_calls.iter().flatten().map(Call::of).collect();
        let finish = match reply.finish_reason.as_deref() {
            None if calls.is_empty() => Finish::Stop,
            None | Some("tool_calls") => Finish::Calls,
            Some("stop") => Finish::Stop,
            Some("length") => Finish::Length,
            Some("content_filter") => Finish::Filter,
            Some(word) => Finish::Word(word),
        };
        let text = reply.text.clone().or_else(|| reply.json.as_ref().map(Value::to_string));
        Self {
            model: model.to_owned(),
            turn,
            request,
            reasoning: reply.reasoning.as_deref(),
            text,
            calls,
            refusal: reply.refusal.as_deref(),
            finish,
            usage: None,
        }
    }

    /// Makes an id in the manner of a provider: a prefix, and what no other reply has.
    pub(super) fn id(&self, prefix: &str) -> String {
        format!("{prefix}fake_{}", self.turn)
    }

    /// Makes the id of the `n`th call, where the script gave none.
    pub(super) fn call_id(&self, prefix: &str, n: usize) -> String {
        let given = self.calls.get(n).and_then(|call| call.id).map(str::to_owned);
        given.unwrap_or_else(|| format!("{prefix}fake_{}_{n}", self.turn))
    }
}

impl<'a> Call<'a> {
    fn of(call: &'a FunctionCall) -> Self {
        let arguments = call.arguments.as_str().map_or_else(|| call.arguments.to_string(), str::to_owned);
        Self { name: &call.name, id: call.id.as_deref(), arguments }
    }
}

/// Cuts a text into the parts of a stream; the empty text has none.
pub(super) fn pieces(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    chars.chunks(DELTA_CHARS.max(chars.len() / PIECES_MAX)).map(|piece| piece.iter().collect()).collect()
}
