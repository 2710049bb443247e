//! A recording is a planner: the replies of a run that was, in their order, in place of a model's.
//!
//! Promises: no model is asked; each request is compared with the one that was recorded (`ContextPack::likeness`), and where
//! it is another one the recording stops, unless its reader is lenient; a reply is read as it was then, and checked as
//! every plan is; one that was refused then is refused again, for the same reasons, and nothing of it runs. Leaves to others: how a recording is made (`host::recording`).
//!
//! The file is JSON lines: a head, and a line for each turn.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::parse::{ReplyLimits, read};
use super::{Allowance, ContextPack, Planned, Planner, Proposal, Refused, strict};
use crate::domain::{Digest, Failure, Json, Kind, Plan, printable};

/// The version of the file that this program writes.
pub const RECORDING_VERSION: u32 = 1;

/// Bytes of a recording: eight replies of the greatest length.
pub const RECORDING_BYTES_MAX: u64 = 8 << 20;

/// Turns of a recording: many more than a budget allows.
const TURNS_MAX: usize = 1_000;

/// Levels of nesting of a line: those of a goal's inputs, and two around them.
const DEPTH_MAX: usize = 66;

/// What a planner said in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recording {
    pub head: Head,
    pub turns: Vec<RecordedTurn>,
}

/// The first line of a recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// [`RECORDING_VERSION`]; what tells a recording from any other file.
    pub recording: u32,
    /// How it came about, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    pub goal: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, Json>,
    /// Conditions over `answer` that decided about success.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assert: Vec<String>,
    /// Who planned, such as `model:gpt-4.1-mini`.
    pub planner: String,
    /// Digest of the fixed texts that the planner read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<Digest>,
    /// Whether the goal was reached when the steps of the one plan were.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_single_plan: bool,
}

/// One request and its reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedTurn {
    pub turn: u32,
    /// Likeness of the context pack.
    pub pack: Digest,
    /// What the planner said, as it came; absent where it said nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<String>,
    /// Why there is no reply. Beside one it is what early recordings tell of a reply that was no proposal: cut off, refused, not
    /// to be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Why the reply was no plan that could run, and the planner was asked again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<RecordedRefusal>,
}

/// Why a reply was refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedRefusal {
    /// All reasons, in their order; never empty.
    pub failures: Vec<Failure>,
    /// Whether a dearer model was asked next.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_escalated: bool,
}

impl RecordedTurn {
    /// Returns what becomes of the reply, where it is no plan that can run.
    fn refused(&self) -> Option<Refused> {
        match (&self.refused, &self.failure) {
            (Some(RecordedRefusal { failures, is_escalated }), _) => {
                Some(Refused::Again { failures: failures.clone(), is_escalated: *is_escalated })
            }
            (None, Some(failure)) if self.reply.is_none() => Some(Refused::ForGood(failure.clone())),
            _ => None,
        }
    }
}

impl Recording {
    /// Reads the recording at `path`.
    ///
    /// # Errors
    /// `data.not_found`; `data.config` with the line for what is wrong.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| {
            let is_absent = error.kind() == std::io::ErrorKind::NotFound;
            let kind = if is_absent { Kind::DataNotFound } else { Kind::DataConfig };
            Failure::new(kind, format!("read recording {}: {error}", path.display()))
        };
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(RECORDING_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
        Self::parse(&text).map_err(|what| {
            Failure::new(Kind::DataConfig, format!("read recording {}: {what}", path.display()))
                .hint("write one with `cofferdam replay RUN --export FILE`")
        })
    }

    /// Reads a recording from its text.
    ///
    /// # Errors
    /// What is wrong, with its line.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() as u64 > RECORDING_BYTES_MAX {
            return Err(format!("it has more than {RECORDING_BYTES_MAX} bytes"));
        }
        let mut lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
        let (at, first) = lines.next().ok_or("it is empty")?;
        let head: Head = line(at, first)?;
        if head.recording != RECORDING_VERSION {
            return Err(format!("version {} is unknown: this program knows {RECORDING_VERSION}", head.recording));
        }
        let turns = lines.map(|(at, text)| line(at, text)).collect::<Result<Vec<RecordedTurn>, _>>()?;
        let is_in_order = turns.windows(2).all(|pair| pair[0].turn < pair[1].turn);
        if turns.len() > TURNS_MAX || !is_in_order {
            return Err(format!("its turns are not in order, or more than {TURNS_MAX}"));
        }
        if let Some(turn) = turns.iter().find(|turn| turn.reply.is_none() && turn.failure.is_none()) {
            return Err(format!("turn {} has neither `reply` nor `failure`", turn.turn));
        }
        let has_no_reason = |turn: &&RecordedTurn| turn.refused.as_ref().is_some_and(|it| it.failures.is_empty());
        if let Some(turn) = turns.iter().find(has_no_reason) {
            return Err(format!("turn {} was refused for no reason", turn.turn));
        }
        Ok(Self { head, turns })
    }

    /// Returns the text of the file.
    pub fn to_lines(&self) -> String {
        let head = serde_json::to_string(&self.head).into_iter();
        let turns = self.turns.iter().filter_map(|turn| serde_json::to_string(turn).ok());
        head.chain(turns).map(|line| line + "\n").collect()
    }
}

fn line<T: for<'de> Deserialize<'de>>(at: usize, text: &str) -> Result<T, String> {
    let told = |error: serde_json::Error| format!("line {at}: {}", printable(&error.to_string()));
    T::deserialize(strict::from_json(text, DEPTH_MAX).map_err(told)?).map_err(told)
}

/// Says what was recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedPlanner {
    recording: Recording,
    /// Takes a reply though the request is another one than that which it was given to.
    is_lenient: bool,
}

impl RecordedPlanner {
    /// Makes a planner of a recording.
    pub fn new(recording: Recording, is_lenient: bool) -> Self {
        Self { recording, is_lenient }
    }

    /// Returns what it says.
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    fn turn(&self, pack: &ContextPack) -> Result<&RecordedTurn, Failure> {
        let turn = self.recording.turns.iter().find(|turn| turn.turn == pack.turn);
        turn.ok_or_else(|| {
            let what = format!("plan turn {}: the recording has {} turns", pack.turn, self.recording.turns.len());
            Failure::new(Kind::DataConflict, what).hint("the run went further than the one that was recorded")
        })
    }

    fn compared(&self, turn: &RecordedTurn, pack: &ContextPack) -> Result<Option<String>, Failure> {
        let now = pack.likeness();
        if turn.pack == now {
            return Ok(None);
        }
        let told = format!(
            "the request of turn {} is not the one that was recorded ({} then, {} now)",
            turn.turn,
            turn.pack.short(),
            now.short()
        );
        if self.is_lenient {
            return Ok(Some(told));
        }
        Err(Failure::new(Kind::DataConflict, format!("go on with the recording: {told}")).hint(
            "its tools, goal, inputs, or what a step brought have changed; `--lenient` takes the replies all the same",
        ))
    }

    fn reply(&self, turn: &RecordedTurn, pack: &ContextPack) -> Result<Proposal, Failure> {
        let of_refusal = turn.refused.as_ref().and_then(|refused| refused.failures.first());
        match (&turn.reply, of_refusal.or(turn.failure.as_ref())) {
            (_, Some(failure)) => Err(failure.clone()),
            (Some(reply), None) if self.recording.head.is_single_plan => plan_of(reply),
            (Some(reply), None) => read(reply, pack, &ReplyLimits::default()),
            (None, None) => Err(Failure::new(Kind::DataConflict, "plan: the recording has no reply")),
        }
    }
}

/// Reads a plan as the host writes it.
fn plan_of(reply: &str) -> Result<Proposal, Failure> {
    let unread = |error| Failure::new(Kind::ModelSchema, format!("read the recorded plan: {error}"));
    serde_json::from_str::<Plan>(reply).map(Proposal::Plan).map_err(unread)
}

#[async_trait]
impl Planner for RecordedPlanner {
    fn name(&self) -> String {
        format!("recording:{}", self.recording.head.planner)
    }

    fn is_single_plan(&self) -> bool {
        self.recording.head.is_single_plan
    }

    fn prompt(&self) -> Option<Digest> {
        self.recording.head.prompt
    }

    async fn plan(&self, pack: &ContextPack, _: &Allowance) -> Planned {
        let turn = match self.turn(pack) {
            Ok(turn) => turn,
            Err(failure) => return Planned::free(Err(failure), Vec::new()),
        };
        let raw = turn.reply.clone().unwrap_or_default().into_bytes();
        match self.compared(turn, pack) {
            Ok(differs) => {
                let refused = turn.refused();
                Planned { reasoning: differs, refused, ..Planned::free(self.reply(turn, pack), raw) }
            }
            Err(failure) => Planned::free(Err(failure), raw),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::planner::Left;
    use crate::planner::parse::{NativeCall, written};

    fn pack(turn: u32) -> ContextPack {
        ContextPack { goal: "sum".into(), turn, ..ContextPack::default() }
    }

    fn recording(replies: &[&str]) -> Recording {
        let head = Head {
            recording: RECORDING_VERSION,
            note: None,
            goal: "sum".into(),
            inputs: BTreeMap::new(),
            assert: vec![],
            planner: "model:scripted".into(),
            prompt: None,
            is_single_plan: false,
        };
        let turn = |(turn, reply): (u32, &&str)| RecordedTurn {
            turn,
            pack: pack(turn).likeness(),
            reply: Some((*reply).to_owned()),
            failure: None,
            refused: None,
        };
        Recording { head, turns: (1..).zip(replies).map(turn).collect() }
    }

    async fn said_to(planner: &RecordedPlanner, pack: &ContextPack) -> Result<Proposal, Failure> {
        planner.plan(pack, &Allowance::default()).await.reply
    }

    #[tokio::test]
    async fn each_turn_brings_its_reply_as_words_or_as_calls() {
        let native = NativeCall { tool: "x.y".into(), arguments: "{\"a\":1}".into() };
        let calls = written("", &[native]);
        let planner = RecordedPlanner::new(recording(&[&calls, r#"{"answer":"3"}"#]), false);
        match said_to(&planner, &pack(1)).await {
            Ok(Proposal::Plan(plan)) => assert_eq!(plan.steps[0].tool, "x.y"),
            other => panic!("{other:?}"),
        }
        assert_eq!(said_to(&planner, &pack(2)).await, Ok(Proposal::Answer(json!("3"))));
        assert_eq!(said_to(&planner, &pack(3)).await.unwrap_err().kind, Kind::DataConflict);
        assert_eq!(planner.name(), "recording:model:scripted");
    }

    #[tokio::test]
    async fn another_request_stops_it_unless_its_reader_is_lenient() {
        let other = ContextPack { answers: vec!["no".into()], ..pack(1) };
        let strict = RecordedPlanner::new(recording(&[r#"{"answer":1}"#]), false);
        let failure = said_to(&strict, &other).await.unwrap_err();
        assert!(failure.kind == Kind::DataConflict && failure.message.contains("turn 1"), "{failure:?}");
        let lenient = RecordedPlanner::new(recording(&[r#"{"answer":1}"#]), true);
        let planned = lenient.plan(&other, &Allowance::default()).await;
        assert_eq!(planned.reply, Ok(Proposal::Answer(json!(1))));
        assert!(planned.reasoning.is_some_and(|told| told.contains("not the one that was recorded")));
        // What is left of the budget is no part of it.
        let poorer = ContextPack { left: Some(Left::default()), ..pack(1) };
        assert!(said_to(&strict, &poorer).await.is_ok());
    }

    #[tokio::test]
    async fn what_was_refused_is_refused_again_and_what_failed_fails() {
        let why = |kind| Failure::new(kind, "take the plan: no");
        let mut recording = recording(&[r#"{"answer":1}"#, r#"{"answer":2}"#, ""]);
        let failures = vec![why(Kind::PolicyDenied), why(Kind::DataPlan)];
        recording.turns[0].refused = Some(RecordedRefusal { failures: failures.clone(), is_escalated: true });
        // What early recordings tell: the driver decides again.
        recording.turns[1].failure = Some(why(Kind::ModelTruncated));
        (recording.turns[2].reply, recording.turns[2].failure) = (None, Some(why(Kind::ModelNoAction)));
        assert_eq!(Recording::parse(&recording.to_lines()), Ok(recording.clone()));
        let planner = RecordedPlanner::new(recording.clone(), false);
        let planned = planner.plan(&pack(1), &Allowance::default()).await;
        assert_eq!(planned.refused, Some(Refused::Again { failures, is_escalated: true }));
        assert_eq!(planned.reply, Err(why(Kind::PolicyDenied)), "and whoever looks at the reply alone finds no plan");
        let planned = planner.plan(&pack(2), &Allowance::default()).await;
        assert_eq!((planned.refused, planned.reply), (None, Err(why(Kind::ModelTruncated))));
        let planned = planner.plan(&pack(3), &Allowance::default()).await;
        assert_eq!(planned.refused, Some(Refused::ForGood(why(Kind::ModelNoAction))));
        // Another request stops it, whatever became of the reply.
        let other = ContextPack { answers: vec!["no".into()], ..pack(1) };
        let planned = planner.plan(&other, &Allowance::default()).await;
        assert_eq!((planned.refused, planned.reply.unwrap_err().kind), (None, Kind::DataConflict));
        recording.turns[0].refused = Some(RecordedRefusal { failures: vec![], is_escalated: false });
        assert!(Recording::parse(&recording.to_lines()).unwrap_err().contains("for no reason"));
    }

    #[test]
    fn a_recording_is_read_as_it_was_written() {
        let recording = recording(&["{\"answer\":\n1}", "x"]);
        assert_eq!(Recording::parse(&recording.to_lines()), Ok(recording.clone()));
        let head = recording.to_lines().lines().next().unwrap().to_owned();
        for (bad, part) in [
            ("", "empty"),
            ("{}", "line 1: missing field"),
            (&head.replace("\"recording\":1", "\"recording\":2"), "version 2"),
            (&format!("{head}\n\n{{\"turn\": 1, \"turn\": 2}}"), "line 3: key `/turn` stands twice"),
            (&format!("{head}\n{{\"turn\":1,\"pack\":\"{}\"}}", Digest::of(b"")), "has neither"),
        ] {
            let what = Recording::parse(bad).unwrap_err();
            assert!(what.contains(part), "{bad}: {what}");
        }
    }
}
