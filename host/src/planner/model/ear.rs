//! Hears a stream, event by event, as it comes off the wire.
//!
//! The library behind the requests makes events of its own of them, and leaves out what it has no word for: refusals, why a
//! reply is incomplete, the name of the model. It also reads the arguments of a call in a way that loses keys that stand
//! twice. So what is believed here is the wire; the library's events only tell that there is one.

use std::sync::{Arc, Mutex, PoisonError};

use genai::chat::{ChatFrameSink, FrameCtx, RawFrameRef};

use super::heard::{Fault, Finish, Heard};
use super::{Protocol, anthropic, gemini, openai_chat, openai_responses};
use crate::clock::Clock;
use crate::domain::Json;
use crate::planner::strict;

/// Bytes of one stream: a reply at its limit in pieces of a few letters, each in an envelope of 300 bytes.
const STREAM_BYTES_MAX: usize = 64 << 20;

/// Levels of nesting of one event: what a reply may have, and the envelope around it.
const EVENT_DEPTH_MAX: usize = 48;

/// Listens to one stream.
pub(super) struct Ear {
    protocol: Protocol,
    clock: Arc<dyn Clock>,
    pub started_ms: u64,
    state: Mutex<State>,
}

/// When something was heard, in milliseconds of the clock.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moments {
    /// The first part of the reply itself.
    pub first_ms: Option<u64>,
    /// The last event of any kind.
    pub last_ms: Option<u64>,
}

#[derive(Default)]
struct State {
    heard: Heard,
    moments: Moments,
    bytes: usize,
    /// Whether the last event ended before its end: the stream does as well, or the server writes no events.
    is_cut: bool,
}

impl Ear {
    /// Makes an ear that listens from now on.
    pub(super) fn new(protocol: Protocol, clock: Arc<dyn Clock>) -> Self {
        Self { protocol, started_ms: clock.monotonic_ms(), clock, state: Mutex::default() }
    }

    /// Returns the time of its clock, in milliseconds.
    pub(super) fn now_ms(&self) -> u64 {
        self.clock.monotonic_ms()
    }

    pub(super) fn moments(&self) -> Moments {
        self.with(|state| state.moments)
    }

    /// Answers whether nothing more is worth hearing.
    pub(super) fn is_over(&self) -> bool {
        self.with(|state| state.heard.fault.is_some())
    }

    /// Answers whether the model has ended: what may follow is what was used.
    pub(super) fn has_ended(&self) -> bool {
        self.with(|state| state.heard.finish.is_some())
    }

    /// Takes what was heard.
    pub(super) fn take(&self) -> Heard {
        self.with(|state| std::mem::take(&mut state.heard))
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut State) -> T) -> T {
        use_it(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ChatFrameSink for Ear {
    fn on_frame(&self, _: &FrameCtx, frame: RawFrameRef<'_>) {
        let now_ms = self.now_ms();
        self.with(|state| state.event(self.protocol, frame.data.trim(), now_ms));
    }
}

impl State {
    fn event(&mut self, protocol: Protocol, data: &str, now_ms: u64) {
        // A block without data is a comment that keeps the connection open.
        if self.heard.fault.is_some() || data.is_empty() {
            return;
        }
        self.moments.last_ms = Some(now_ms);
        self.bytes = self.bytes.saturating_add(data.len());
        if self.bytes > STREAM_BYTES_MAX {
            self.heard.fault = Some(Fault::TooLong);
        } else if data == "[DONE]" {
            // Some servers of OpenAI's chat say nothing of how the model ended, and this. So do gateways whose model died,
            // so that it is no end of calls, which would be acted on: text is read first, and read whole.
            let is_chat = matches!(protocol, Protocol::OpenaiChat | Protocol::Ollama);
            if is_chat && self.heard.calls.is_empty() {
                self.heard.finish.get_or_insert(Finish::Done);
            }
        } else if self.is_cut {
            self.heard.fault = Some(Fault::Garbled("an event ends before its end".to_owned()));
        } else {
            self.is_cut = read(protocol, data, &mut self.heard);
        }
        if self.moments.first_ms.is_none() && self.heard.has_begun() {
            self.moments.first_ms = Some(now_ms);
        }
    }
}

/// Takes an event, and answers whether it ended before its end.
fn read(protocol: Protocol, data: &str, heard: &mut Heard) -> bool {
    let event: Json = match serde_json::from_str(data) {
        Ok(event) => event,
        Err(error) if error.is_eof() => return true,
        Err(error) => {
            heard.fault = Some(Fault::Garbled(error.to_string()));
            return false;
        }
    };
    match protocol {
        Protocol::OpenaiChat | Protocol::Ollama => openai_chat::read(&event, heard),
        Protocol::OpenaiResponses => openai_responses::read(&event, heard),
        Protocol::Anthropic => anthropic::read(&event, heard),
        Protocol::Gemini => {
            gemini::read(&event, heard);
            // Here the model's own JSON is a part of the event, so that what is wrong with it must be seen now.
            if let Err(error) = strict::from_json(data, EVENT_DEPTH_MAX) {
                heard.misreads(data, error.to_string());
            }
        }
    }
    false
}
