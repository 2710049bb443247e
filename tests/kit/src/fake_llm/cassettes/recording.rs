//! One recorded answer, and what of it goes on the wire again.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_norway::Value;

use super::super::answer::{Answer, Manner};
use super::super::body::Body;

/// Marks text that is bytes in base64; [`super::parse`] writes it in place of YAML's own tag.
pub(super) const BINARY_TAG: &str = "!binary";

/// Headers that tell of one connection, which is not ours, or of a length that is counted again.
const OF_THE_CONNECTION: [&str; 6] =
    ["connection", "content-length", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

/// The first bytes of what gzip wrote.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// An answer that somebody recorded.
pub(super) struct Recording {
    /// `None` fits all.
    pub method: Option<String>,
    /// Without the query.
    pub path: String,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Recorded,
}

/// A body as it was recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Recorded {
    pub bytes: Vec<u8>,
    /// Whether it was recorded as bytes, so that it may still be coded; a text was decoded by who recorded it.
    pub is_binary: bool,
}

impl Recording {
    pub(super) fn fits(&self, method: &str, path: &str) -> bool {
        let is_method = self.method.as_ref().is_none_or(|own| own.eq_ignore_ascii_case(method));
        is_method && plain(&self.path) == plain(path)
    }

    /// Makes the answer: bytes and coding as recorded, in chunks where it was a stream.
    pub(super) fn answer(&self) -> Answer {
        let is_coded = |coding: &str| self.body.is_binary && (coding != "gzip" || self.body.bytes.starts_with(&GZIP));
        let mut headers = self.headers.clone();
        headers.retain(|(name, value)| match name.to_ascii_lowercase().as_str() {
            "content-encoding" => is_coded(&value.to_ascii_lowercase()),
            name => !OF_THE_CONNECTION.contains(&name) && !name.starts_with(':'),
        });
        let coding = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-encoding"));
        let kind = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        let kind = kind.map_or("application/octet-stream", |(_, value)| value.as_str()).to_owned();
        let end: Option<&[u8]> = match kind.as_str() {
            kind if kind.starts_with("text/event-stream") => Some(b"\n\n"),
            kind if kind.starts_with("application/x-ndjson") => Some(b"\n"),
            _ => None,
        };
        let frames = match end {
            Some(end) if !coding => split(&self.body.bytes, end),
            _ => vec![self.body.bytes.clone()],
        };
        let body = Body { content_type: kind, frames, is_chunked: end.is_some() };
        Answer { status: self.status, headers, body, manner: Manner::default() }
    }
}

impl Recorded {
    /// Reads a body: text, or bytes in base64.
    ///
    /// # Errors
    /// What is neither.
    pub(super) fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Null => Ok(Self::default()),
            Value::String(text) => Ok(Self { bytes: text.clone().into_bytes(), is_binary: false }),
            Value::Tagged(tagged) if tagged.tag == BINARY_TAG => match &tagged.value {
                Value::String(text) => Self::base64(text),
                _ => Err("a binary body is text in base64".to_owned()),
            },
            _ => Err("a body is text, or bytes in base64".to_owned()),
        }
    }

    pub(super) fn base64(text: &str) -> Result<Self, String> {
        let text: String = text.split_whitespace().collect();
        let bytes = STANDARD.decode(text).map_err(|e| format!("a body is no base64: {e}"))?;
        Ok(Self { bytes, is_binary: true })
    }
}

/// Reads headers: a map to one value or to several, or a list of names and values.
pub(super) fn headers(value: Option<&Value>) -> Vec<(String, String)> {
    let pair = |name: &Value, value: &Value| Some((text(name)?, text(value)?));
    match value {
        Some(Value::Mapping(map)) => {
            let each = map.iter().flat_map(|(name, value)| match value {
                Value::Sequence(values) => values.iter().filter_map(|value| pair(name, value)).collect::<Vec<_>>(),
                value => pair(name, value).into_iter().collect(),
            });
            each.collect()
        }
        Some(Value::Sequence(list)) => {
            list.iter().filter_map(|item| pair(item.get("name")?, item.get("value")?)).collect()
        }
        _ => Vec::new(),
    }
}

/// Reads a text that can stand in a head, or a number.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.contains(['\r', '\n']) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Reads a status.
pub(super) fn status(value: Option<&Value>) -> Option<u16> {
    let number = value?.as_u64().and_then(|number| u16::try_from(number).ok())?;
    (100..1000).contains(&number).then_some(number)
}

/// A colon may be written in two ways.
fn plain(path: &str) -> String {
    path.replace("%3A", ":").replace("%3a", ":")
}

/// Splits after each `end`; `\r\n\r\n` ends an event as `\n\n` does.
fn split(bytes: &[u8], end: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut frame: Vec<u8> = Vec::new();
    for byte in bytes {
        frame.push(*byte);
        if frame.ends_with(end) || (end == b"\n\n" && frame.ends_with(b"\r\n\r\n")) {
            frames.push(std::mem::take(&mut frame));
        }
    }
    frames.push(frame);
    frames.retain(|frame| !frame.is_empty());
    frames
}
