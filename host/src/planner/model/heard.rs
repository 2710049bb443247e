//! What a model has said so far, whatever its protocol.
//!
//! Bounded: what is more than a reply may be ends the listening; what a model thinks is cut, as nobody acts on it.

use crate::domain::{Json, Tokens};

/// Bytes of a reply: as many as it may have to be read.
pub(super) const REPLY_BYTES_MAX: usize = 1 << 20;

/// Bytes of a model's reasoning that are kept: as much as a person reads of it.
pub(super) const REASONING_BYTES_MAX: usize = 256 << 10;

/// Calls of one reply: more steps no plan has.
pub(super) const CALLS_MAX: usize = 256;

/// Characters of a call's name that are looked at: the longest are a word and two UUIDs.
const CALL_ID_CHARS_MAX: usize = 200;

/// Characters of a model's name that are kept, as its server tells it.
const MODEL_CHARS_MAX: usize = 200;

/// What has been heard of a reply.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub text: String,
    pub calls: Vec<HeardCall>,
    pub refusal: String,
    pub reasoning: String,
    /// As the server calls it.
    pub model: Option<String>,
    pub counted: Counted,
    /// How the model ended. Without it the reply is not whole.
    pub finish: Option<Finish>,
    /// What is wrong with JSON that the model wrote, where that is a part of the protocol's own.
    pub invalid: Option<String>,
    /// Why nothing more is heard.
    pub fault: Option<Fault>,
    bytes: usize,
}

/// A call that the model asks for natively.
#[derive(Debug, Default)]
pub(super) struct HeardCall {
    /// The provider's number of it within the reply.
    at: u64,
    /// The provider's name of it, where it is needed to tell calls apart.
    id: String,
    pub tool: String,
    /// JSON text, as the model wrote it.
    pub arguments: String,
}

/// How a model ends a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    Done,
    /// The bound on its length was met.
    Cut,
    /// A filter, or the model itself, did not let it out: in the provider's word.
    Withheld(String),
    /// The request left no room for a reply.
    Overflow,
    /// The model wrote something that the provider could not read.
    Malformed(String),
    /// Its server broke off, or says something that nobody knows: in the provider's word.
    Broken(String),
}

/// Why a stream is not listened to any longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The server says that it failed: its codes, and its words.
    Told { code: String, message: String },
    /// An event that is no event of this protocol.
    Garbled(String),
    /// More than a reply may be.
    TooLong,
}

/// Tokens as a provider counts them; each `None` until it is told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    /// Cached ones included.
    pub prompt: Option<u64>,
    pub cached: Option<u64>,
    pub cache_write: Option<u64>,
    /// Of `cache_write`.
    pub cache_write_1h: Option<u64>,
    /// Reasoning included.
    pub reply: Option<u64>,
    pub reasoning: Option<u64>,
    /// Of request and reply.
    pub total: Option<u64>,
}

impl Heard {
    pub(super) fn say(&mut self, text: &str) {
        if self.has_room(text.len()) {
            self.text.push_str(text);
        }
    }

    pub(super) fn refuse(&mut self, text: &str) {
        if self.has_room(text.len()) {
            self.refusal.push_str(text);
        }
    }

    pub(super) fn think(&mut self, text: &str) {
        let left = REASONING_BYTES_MAX.saturating_sub(self.reasoning.len());
        self.reasoning.push_str(&text[..text.floor_char_boundary(left)]);
    }

    /// Takes more of the call that the provider numbers `at`.
    pub(super) fn call(&mut self, at: u64, tool: &str, arguments: &str) {
        self.call_of(at, "", tool, arguments);
    }

    /// Takes more of the call that the provider numbers `at`. Some servers give all calls one number, or none: one called
    /// otherwise than the one that was heard at this number is another. Without an `id` it is more of the last one.
    pub(super) fn call_of(&mut self, at: u64, id: &str, tool: &str, arguments: &str) {
        if !self.has_room(tool.len().saturating_add(arguments.len())) {
            return;
        }
        // Longer names are as good as their beginning.
        let id: String = id.chars().take(CALL_ID_CHARS_MAX).collect();
        let count = self.calls.len();
        let is_same = |call: &HeardCall| id.is_empty() || call.id.is_empty() || call.id == id;
        match self.calls.iter_mut().rfind(|call| call.at == at).filter(|call| is_same(call)) {
            Some(call) => {
                if call.id.is_empty() {
                    call.id = id;
                }
                // Some servers tell the name again with each part.
                if call.tool.is_empty() {
                    call.tool.push_str(tool);
                }
                call.arguments.push_str(arguments);
            }
            None if count == CALLS_MAX => self.fault = Some(Fault::TooLong),
            None => {
                let (tool, arguments) = (tool.to_owned(), arguments.to_owned());
                self.calls.push(HeardCall { at, id, tool, arguments });
            }
        }
    }

    /// Takes the whole of a call in place of what was heard of it in parts.
    pub(super) fn whole_call(&mut self, at: u64, tool: &str, arguments: &str) {
        if let Some(n) = self.calls.iter().position(|call| call.at == at) {
            let call = self.calls.remove(n);
            self.bytes = self.bytes.saturating_sub(call.tool.len() + call.arguments.len());
            self.call(at, tool, arguments);
            // Where it stood: the order of calls is the model's.
            if let Some(call) = self.calls.pop_if(|call| call.at == at) {
                self.calls.insert(n, call);
            }
        } else {
            self.call(at, tool, arguments);
        }
    }

    /// Takes an event as it came, in place of the calls in it, which cannot be read.
    pub(super) fn misreads(&mut self, event: &str, why: String) {
        self.calls.clear();
        self.say(event);
        self.invalid.get_or_insert(why);
    }

    pub(super) fn is_by(&mut self, model: &Json) {
        if let (None, Some(name)) = (&self.model, model.as_str().filter(|name| !name.is_empty())) {
            self.model = Some(name.chars().take(MODEL_CHARS_MAX).collect());
        }
    }

    pub(super) fn ends(&mut self, finish: Finish) {
        self.finish = Some(finish);
    }

    /// Answers whether anything of the reply is there.
    pub(super) fn has_begun(&self) -> bool {
        self.bytes > 0 || !self.reasoning.is_empty() || !self.calls.is_empty() || self.finish.is_some()
    }

    fn has_room(&mut self, bytes: usize) -> bool {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > REPLY_BYTES_MAX {
            self.fault = Some(Fault::TooLong);
        }
        self.fault.is_none()
    }
}

impl Counted {
    /// Returns the tokens where request and reply are both told; no part is larger than its whole.
    ///
    /// A server that counts nothing says 0 of both, which no request has.
    pub(super) fn tokens(self) -> Option<Tokens> {
        let prompt = self.prompt.or_else(|| self.total?.checked_sub(self.reply?))?;
        let cache_write = self.cache_write.unwrap_or_default();
        let parts = self.cached.unwrap_or_default().saturating_add(cache_write);
        let prompt = prompt.max(parts);
        // Some count reasoning beside the reply: the larger one is the one that is paid for.
        let reply = self.reply.unwrap_or_default().max(self.total.unwrap_or_default().saturating_sub(prompt));
        if self.reply.is_none() && self.total.is_none() || prompt == 0 && reply == 0 {
            return None;
        }
        let hour = self.cache_write_1h.unwrap_or_default().min(cache_write);
        Some(Tokens {
            prompt,
            cached: self.cached.unwrap_or_default(),
            cache_write_5m: cache_write - hour,
            cache_write_1h: hour,
            reply,
            reasoning: self.reasoning.unwrap_or_default().min(reply),
        })
    }
}

impl Fault {
    /// Reads what a server says of its own failure, as all of them write it: `{"code", "type", "status", "message"}`, each
    /// perhaps absent, or words alone.
    pub(super) fn told(error: &Json) -> Self {
        let word = |key: &str| match &error[key] {
            Json::String(text) => Some(text.clone()),
            Json::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let codes: Vec<String> = ["code", "type", "status"].into_iter().filter_map(word).collect();
        let message = word("message").or_else(|| error.as_str().map(str::to_owned)).unwrap_or_default();
        Self::Told { code: codes.join(" ").to_lowercase(), message }
    }
}
