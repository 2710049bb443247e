//! What goes on the wire for one request: a head, a body, and the manner of sending.

use super::body::Body;
use super::error::ErrorKind;
use super::protocol::Protocol;
use super::reply::{Drip, Reply};
use super::request::Ask;

/// An answer, ready to be sent.
pub(super) struct Answer {
    pub status: u16,
    /// Those of the body's length and type come with the body, where they are not here.
    pub headers: Vec<(String, String)>,
    pub body: Body,
    pub manner: Manner,
}

/// How an answer is sent, well or badly.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manner {
    pub delay_ms: u64,
    pub event_delay_ms: u64,
    pub drip: Option<Drip>,
    pub cut_after: Option<usize>,
    pub cut_after_events: Option<usize>,
    pub stall_after_events: Option<usize>,
    pub heartbeat: Option<Heartbeat>,
    pub reset: bool,
    pub hang_up: bool,
}

/// What a stalled stream says, and how often.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heartbeat {
    pub ms: u64,
    pub says: &'static str,
}

impl Answer {
    /// Makes the answer that `reply` is.
    pub(super) fn of(reply: &Reply, ask: &Ask, body: Body) -> Self {
        let manner = Manner {
            delay_ms: reply.delay_ms,
            event_delay_ms: reply.event_delay_ms,
            drip: reply.drip,
            cut_after: reply.cut_after,
            cut_after_events: reply.cut_after_events,
            stall_after_events: reply.stall_after_events,
            heartbeat: reply.heartbeat_ms.map(|ms| Heartbeat { ms, says: ask.route.protocol.heartbeat() }),
            reset: reply.reset,
            hang_up: reply.hang_up,
        };
        Self { status: reply.status(ask), headers: reply.headers(ask), body, manner }
    }

    /// Makes the answer to a request that no step expected, or that is none.
    pub(super) fn fault(status: u16, fault: &str) -> Self {
        let body = Body::bytes("text/plain; charset=utf-8", format!("fake-llm: {fault}\n").into_bytes());
        Self { status, headers: Vec::new(), body, manner: Manner::default() }
    }

    /// Makes the answer to a request of the wrong shape, as the provider would.
    pub(super) fn wrong(protocol: Protocol, fault: &str) -> Self {
        let error = ErrorKind::InvalidRequest;
        let body = error.body_saying(protocol, fault);
        Self { status: error.status(protocol), headers: Vec::new(), body, manner: Manner::default() }
    }

    /// Returns the pieces to send, and whether they are all: a cut takes the end away, a stall too.
    pub(super) fn pieces(&self) -> Vec<Vec<u8>> {
        let mut pieces = self.body.pieces();
        let events_max = self.manner.cut_after_events.or(self.manner.stall_after_events);
        pieces.truncate(events_max.unwrap_or(usize::MAX));
        if let Some(mut left) = self.manner.cut_after {
            for piece in &mut pieces {
                piece.truncate(left);
                left -= piece.len();
            }
            pieces.retain(|piece| !piece.is_empty());
        }
        match self.manner.drip {
            None => pieces,
            Some(drip) => pieces.concat().chunks(drip.bytes).map(<[u8]>::to_vec).collect(),
        }
    }

    /// Returns the head as it goes on the wire.
    pub(super) fn head(&self) -> String {
        let length = if self.body.is_chunked {
            ("transfer-encoding", "chunked".to_owned())
        } else {
            ("content-length", self.body.length().to_string())
        };
        let usual = [("content-type", self.body.content_type.clone()), length, ("connection", "close".to_owned())];
        let is_given = |name: &str| self.headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
        let usual = usual.into_iter().filter(|(name, _)| !is_given(name));
        let given = self.headers.iter().map(|(name, value)| (name.as_str(), value.clone()));
        let lines: String = usual.chain(given).map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!("HTTP/1.1 {} \r\n{lines}\r\n", self.status)
    }
}
