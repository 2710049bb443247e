//! W3C trace context: one trace for a run and all that it asks of others, one span for each part of it.
//!
//! Ids are derived, never drawn: whoever has the log has the ids, in this process and in the next. A trace that somebody
//! brings is taken over. Of the `traceparent` header version 00 is written; later ones are read as far as they are the same.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::domain::{Digest, RunId, StepId};

/// The longest `traceparent` that is looked at, in bytes: version 00 has 55, and later ones may say more.
const TRACEPARENT_BYTES_MAX: usize = 256;

/// The bytes of a `traceparent` of version 00.
const BYTES_V00: usize = 55;

/// The flag that says that somebody keeps the trace. The log does, always.
const SAMPLED: u8 = 1;

/// The name of a trace: 16 bytes that are not all zero, written as 32 small hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceId([u8; 16]);

/// The name of a span within its trace: 8 bytes that are not all zero, written as 16 small hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpanId([u8; 8]);

/// A span as others are told of it: what they do for it is theirs to put below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Traceparent {
    pub trace: TraceId,
    pub span: SpanId,
    pub flags: u8,
}

/// A part of a run that is a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    Run,
    /// The request to the planner of this turn.
    Turn(u32),
    /// An attempt of a step, from 1; 0 is the step from its proposal to its end.
    Step(&'a StepId, u32),
}

impl TraceId {
    /// Returns the trace of a run that was not created within another one.
    pub fn of_run(run: &RunId) -> Self {
        Self(first(&[b"cofferdam trace", run.as_str().as_bytes()]))
    }

    /// Returns the trace of a run whose log tells `told`: where that is nothing, the run's own, or that of the run around it.
    ///
    /// Each run within another one tells its trace. Logs of version 1 do not, and know the run that is next around them and no
    /// other: the trace of one that lies two levels deep or more is then that of the run around it, and not of the outermost.
    pub fn of_created(run: &RunId, around: Option<&RunId>, told: Option<Self>) -> Self {
        told.unwrap_or_else(|| Self::of_run(around.unwrap_or(run)))
    }
}

impl SpanId {
    /// Returns the span of a part of a run.
    pub fn of(run: &RunId, subject: Subject<'_>) -> Self {
        let run = run.as_str().as_bytes();
        Self(match subject {
            Subject::Run => first(&[b"cofferdam span", run]),
            Subject::Turn(turn) => first(&[b"cofferdam span", run, b"turn", &turn.to_le_bytes()]),
            Subject::Step(step, attempt) => {
                first(&[b"cofferdam span", run, b"step", step.as_str().as_bytes(), &attempt.to_le_bytes()])
            }
        })
    }
}

impl SpanId {
    /// Returns the span of a lone call, by its number in its session.
    pub fn of_call(session: &RunId, call: u64) -> Self {
        match StepId::new(0, &format!("call{call}")) {
            Ok(step) => Self::of(session, Subject::Step(&step, 1)),
            // No number makes a name that is none.
            Err(_) => Self::of(session, Subject::Run),
        }
    }
}

impl Subject<'_> {
    /// Returns the part that it is below; `None` for the run.
    pub fn parent(&self) -> Option<Self> {
        match *self {
            Self::Run => None,
            // Steps of no turn take back what another run did, or are calls that belong to no run.
            Self::Step(step, 0) if step.turn() > 0 => Some(Self::Turn(step.turn())),
            Self::Turn(_) | Self::Step(_, 0) => Some(Self::Run),
            Self::Step(step, _) => Some(Self::Step(step, 0)),
        }
    }
}

impl Traceparent {
    /// Makes what is told to whoever works for a part of a run.
    pub fn of(trace: TraceId, run: &RunId, subject: Subject<'_>) -> Self {
        Self { trace, span: SpanId::of(run, subject), flags: SAMPLED }
    }
}

/// Returns the first bytes of a digest; the last of them is not zero, so that an id never is.
fn first<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&Digest::of_parts(parts).as_bytes()[..N]);
    if bytes == [0; N]
        && let Some(last) = bytes.last_mut()
    {
        *last = 1;
    }
    bytes
}

/// Reads small hex digits: capital ones are refused, as the recommendation has it.
fn digits<const N: usize>(text: &str) -> Option<[u8; N]> {
    let is_hex = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let mut bytes = [0; N];
    (is_hex && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

fn id<const N: usize>(what: &str, text: &str) -> Result<[u8; N], String> {
    let bytes = digits(text).filter(|bytes| *bytes != [0; N]);
    bytes.ok_or_else(|| format!("`{}` is not a {what} id: {} small hex digits, not all 0", shown(text), 2 * N))
}

impl FromStr for TraceId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        id("trace", text).map(Self)
    }
}

impl FromStr for SpanId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        id("span", text).map(Self)
    }
}

impl FromStr for Traceparent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        read(text).ok_or_else(|| {
            format!(
                "`{}` is not a traceparent like `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`",
                shown(text)
            )
        })
    }
}

fn read(text: &str) -> Option<Traceparent> {
    if text.len() > TRACEPARENT_BYTES_MAX {
        return None;
    }
    let mut parts = text.splitn(5, '-');
    let [version] = digits::<1>(parts.next()?)?;
    let (trace, span) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let [flags] = digits::<1>(parts.next()?)?;
    // Version 255 is forbidden; what later ones say behind a `-` is not known here.
    let is_whole = match version {
        0 => text.len() == BYTES_V00,
        u8::MAX => false,
        _ => true,
    };
    is_whole.then_some(Traceparent { trace, span, flags: flags & SAMPLED })
}

/// Cuts a hostile text before it enters a message.
fn shown(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_default).collect()
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Display for Traceparent {
    /// Writes version 00.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace, span, flags } = self;
        write!(f, "00-{trace}-{span}-{flags:02x}")
    }
}

macro_rules! text_forms {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> { text.parse() }
        }
        impl From<$name> for String {
            fn from(id: $name) -> Self { id.to_string() }
        }
    )*};
}
text_forms!(TraceId, SpanId, Traceparent);

macro_rules! debug_as_text {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { fmt::Display::fmt(self, f) }
        }
    )*};
}
debug_as_text!(TraceId, SpanId);

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn run() -> RunId {
        RunId::from_ulid("01ARZ3NDEKTSV4RRFFQ69G5FAV")
    }

    #[test]
    fn a_traceparent_reads_back_what_it_writes() {
        for flags in ["00", "01"] {
            let text = format!("00-{TRACE}-{SPAN}-{flags}");
            let read: Traceparent = text.parse().unwrap();
            assert_eq!(
                (read.to_string(), read.trace.to_string(), read.span.to_string()),
                (text, TRACE.into(), SPAN.into())
            );
        }
        let json = serde_json::to_string(&TRACE.parse::<TraceId>().unwrap()).unwrap();
        assert_eq!(json, format!("\"{TRACE}\""));
        assert_eq!(serde_json::from_str::<TraceId>(&json).unwrap().to_string(), TRACE);
    }

    #[test]
    fn later_versions_are_read_as_far_as_they_are_the_same() {
        for text in [
            format!("01-{TRACE}-{SPAN}-01"),
            format!("cc-{TRACE}-{SPAN}-01-what-the-future-brings"),
            format!("fe-{TRACE}-{SPAN}-01-"),
        ] {
            let read: Traceparent = text.parse().expect(&text);
            assert_eq!(read.to_string(), format!("00-{TRACE}-{SPAN}-01"));
        }
        let flags = format!("00-{TRACE}-{SPAN}-ff").parse::<Traceparent>().unwrap();
        assert_eq!(flags.flags, SAMPLED, "flags that nobody knows are not passed on");
    }

    #[test]
    fn garbage_is_refused() {
        let zero = ["0".repeat(32), "0".repeat(16)];
        for text in [
            String::new(),
            "00".into(),
            "-".repeat(400),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("00-{TRACE}-{SPAN}-01 "),
            format!("01-{TRACE}-{SPAN}-01x"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("0-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", zero[0]),
            format!("00-{TRACE}-{}-01", zero[1]),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}g-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-0é"),
            format!("01-{TRACE}-{SPAN}-01-{}", "x".repeat(TRACEPARENT_BYTES_MAX)),
        ] {
            let refused = text.parse::<Traceparent>().expect_err(&text);
            assert!(refused.contains("is not a traceparent"), "{refused}");
        }
        for text in ["", TRACE, "zz", "0000000000000000", "00F067AA0BA902B7"] {
            assert!(text.parse::<SpanId>().is_err(), "{text}");
        }
    }

    #[test]
    fn each_part_of_a_run_has_a_span_of_its_own_which_anybody_can_derive_again() {
        let (one, two) = (StepId::new(1, "one").unwrap(), StepId::new(1, "two").unwrap());
        let other = RunId::from_ulid("01ARZ3NDEKTSV4RRFFQ69G5FAW");
        let subjects = [
            Subject::Run,
            Subject::Turn(1),
            Subject::Turn(2),
            Subject::Step(&one, 0),
            Subject::Step(&one, 1),
            Subject::Step(&one, 2),
            Subject::Step(&two, 1),
        ];
        let mut spans: Vec<_> =
            [run(), other.clone()].iter().flat_map(|run| subjects.map(|subject| SpanId::of(run, subject))).collect();
        spans.sort_unstable();
        spans.dedup();
        assert_eq!(spans.len(), 2 * subjects.len());
        assert_ne!(TraceId::of_run(&run()), TraceId::of_run(&other));
        // What a log has brought forth stays: these are in other people's records.
        assert_eq!(
            Traceparent::of(TraceId::of_run(&run()), &run(), Subject::Step(&one, 1)).to_string(),
            "00-e16fa3f1c43d5b97f2abbf54ee24e9b6-69e626797208d5d1-01"
        );
    }

    #[test]
    fn an_attempt_is_below_its_step_a_step_below_its_turn_and_a_turn_below_the_run() {
        let (step, lone) = (StepId::new(2, "one").unwrap(), StepId::new(0, "call1").unwrap());
        assert_eq!(Subject::Step(&step, 3).parent(), Some(Subject::Step(&step, 0)));
        assert_eq!(Subject::Step(&step, 0).parent(), Some(Subject::Turn(2)));
        assert_eq!(Subject::Step(&lone, 0).parent(), Some(Subject::Run));
        assert_eq!((Subject::Turn(2).parent(), Subject::Run.parent()), (Some(Subject::Run), None));
    }
}
