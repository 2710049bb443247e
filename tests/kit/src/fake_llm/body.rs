//! The body of an answer: its frames, and how they go on the wire.

use serde_json::Value;

use super::verbatim;

/// A body, as one frame or as one for each event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Body {
    pub content_type: String,
    pub frames: Vec<Vec<u8>>,
    /// Whether each frame is a chunk of HTTP/1.1; else there is a length.
    pub is_chunked: bool,
}

impl Body {
    /// Makes a body of one JSON text.
    pub(super) fn whole(content_type: &str, value: &Value) -> Self {
        Self::bytes(content_type, verbatim::write(value).into_bytes())
    }

    /// Makes a body of bytes as they are.
    pub(super) fn bytes(content_type: &str, bytes: Vec<u8>) -> Self {
        Self { content_type: content_type.to_owned(), frames: vec![bytes], is_chunked: false }
    }

    /// Makes a body of events.
    pub(super) fn stream(content_type: &str, events: Vec<String>) -> Self {
        let frames = events.into_iter().map(String::into_bytes).collect();
        Self { content_type: content_type.to_owned(), frames, is_chunked: true }
    }

    /// Returns the pieces as they go on the wire: a chunk for each frame and one for the end, or the frames themselves.
    pub(super) fn pieces(&self) -> Vec<Vec<u8>> {
        if !self.is_chunked {
            return self.frames.clone();
        }
        // A chunk of no bytes would end the body.
        let frames = self.frames.iter().filter(|frame| !frame.is_empty());
        let mut pieces: Vec<Vec<u8>> = frames.map(|frame| chunk(frame)).collect();
        pieces.push(b"0\r\n\r\n".to_vec());
        pieces
    }

    /// Returns the length in bytes, without what chunking adds.
    pub(super) fn length(&self) -> usize {
        self.frames.iter().map(Vec::len).sum()
    }

    /// Takes the last brace from the `n`th frame, counted from 1: what it holds is JSON no more.
    pub(super) fn malform(&mut self, n: usize) {
        let frame = n.checked_sub(1).and_then(|index| self.frames.get_mut(index));
        if let Some(frame) = frame
            && let Some(brace) = frame.iter().rposition(|byte| *byte == b'}')
        {
            frame.remove(brace);
        }
    }
}

/// Writes a frame as a chunk of HTTP/1.1.
pub(super) fn chunk(frame: &[u8]) -> Vec<u8> {
    let mut chunk = format!("{:x}\r\n", frame.len()).into_bytes();
    chunk.extend(frame);
    chunk.extend(b"\r\n");
    chunk
}

/// Writes a server-sent event without a name.
pub(super) fn event(data: &Value) -> String {
    format!("data: {}\n\n", verbatim::write(data))
}

/// Writes a server-sent event under the name that its `type` tells.
pub(super) fn named_event(data: &Value) -> String {
    let name = data["type"].as_str().unwrap_or("message");
    format!("event: {name}\n{}", event(data))
}
