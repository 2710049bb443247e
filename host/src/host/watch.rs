//! Follows a run from its log, whichever process drives it.
//!
//! Promises: every event once, in order, without a gap; a reader that is slow, or leaves, changes nothing for the run, as
//! nothing but the log stands between them.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::domain::{Event, Failure, RunId, Seq, StepId, Suspension, Timestamp, TraceId};
use crate::host::{Host, RunState, report};
use crate::store::StepProgress;
use crate::telemetry::Trace;

/// How often the log is looked at, in milliseconds: a person does not notice, and one look is one short read.
pub const WATCH_POLL_MS: u64 = 100;

/// Looks in a row that bring nothing before it is asked whether anybody drives the run: a second's worth.
const QUIET_LOOKS_MAX: u32 = 10;

/// Something that is seen of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    Event(Box<Event>),
    /// The newest word of a step that runs; words between two looks are lost.
    Progress(StepProgress),
}

/// Follows one run.
pub struct Watch {
    host: Host,
    run: RunId,
    /// The last event that was read.
    last: Seq,
    /// The story as far as it was read.
    story: Trace,
    /// What was read and not given out.
    seen: VecDeque<Seen>,
    /// When each step said its newest word.
    said: HashMap<StepId, Timestamp>,
    is_following: bool,
    quiet_looks: u32,
    has_owner: bool,
}

impl Watch {
    pub(super) async fn new(host: Host, run: RunId, after: Seq) -> Result<Self, Failure> {
        let events = host.events(&run).await?;
        // Asked after the events were read: one that leaves in between is missed for a second, and never the other way.
        let has_owner = report::owner(&host, &run).await?.is_some();
        let mut watch = Self {
            host,
            run,
            last: 0,
            story: Trace::default(),
            seen: VecDeque::new(),
            said: HashMap::new(),
            is_following: false,
            quiet_looks: 0,
            has_owner: true,
        };
        watch.take(events);
        watch.has_owner = has_owner;
        watch.seen.retain(|seen| matches!(seen, Seen::Event(event) if event.seq > after));
        Ok(watch)
    }

    /// Goes on where the run waits for a person or nobody drives it, until it ends.
    #[must_use]
    pub fn following(self) -> Self {
        Self { is_following: true, ..self }
    }

    /// Returns what happens next; `None` when the run has ended, and, unless it follows, when it waits or nobody drives it. May
    /// be dropped while it waits: nothing is lost.
    ///
    /// # Errors
    /// `host.storage`, naming an event that was touched.
    pub async fn next(&mut self) -> Result<Option<Seen>, Failure> {
        loop {
            if let Some(seen) = self.seen.pop_front() {
                return Ok(Some(seen));
            }
            if self.is_over() {
                return Ok(None);
            }
            self.host.clock().sleep(Duration::from_millis(WATCH_POLL_MS)).await;
            self.look().await?;
        }
    }

    /// Returns where the run is, as far as it was read.
    pub fn state(&self) -> RunState {
        self.story.state
    }

    /// Returns the W3C trace of the run.
    pub fn trace_id(&self) -> Option<TraceId> {
        self.story.trace
    }

    async fn look(&mut self) -> Result<(), Failure> {
        let log = &self.host.0.parts.log;
        let is_calling = self.story.steps.iter().any(|step| step.status == "running");
        // Asked before the events are read: a word never comes after the end of its step.
        let words = if is_calling { log.progress(&self.run).await? } else { Vec::new() };
        let events = log.read(&self.run, self.last).await?;
        if events.is_empty() {
            self.quiet_looks += 1;
        }
        if self.quiet_looks > QUIET_LOOKS_MAX {
            self.has_owner = report::owner(&self.host, &self.run).await?.is_some();
            self.quiet_looks = 0;
        }
        self.hear(words);
        self.take(events);
        Ok(())
    }

    /// Takes words that are new, of steps that run as far as it was read.
    fn hear(&mut self, words: Vec<StepProgress>) {
        for word in words {
            let step = self.story.steps.iter().find(|step| step.step == word.step && step.status == "running");
            let is_of_attempt = step.is_some_and(|step| step.started.is_none_or(|started| started <= word.at));
            if is_of_attempt && self.said.get(&word.step) != Some(&word.at) {
                self.said.insert(word.step.clone(), word.at);
                self.seen.push_back(Seen::Progress(word));
            }
        }
    }

    fn take(&mut self, events: Vec<Event>) {
        for event in events {
            // Whoever wrote it may have left since: that is asked again when all is quiet.
            (self.last, self.quiet_looks, self.has_owner) = (event.seq, 0, true);
            self.story.tell(&event);
            self.seen.push_back(Seen::Event(Box::new(event)));
        }
    }

    fn is_over(&self) -> bool {
        match self.story.state {
            state if state.is_end() => true,
            _ if self.is_following => false,
            // Time moves it on, where its process lives.
            RunState::Suspended(Suspension::Timer) => !self.has_owner,
            RunState::Suspended(_) => true,
            _ => !self.has_owner,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Fact, GENESIS, RunEnd, Timestamp};
    use crate::host::canned::{Canned, host_of, id, writing};
    use crate::store::memory::MemoryLog;
    use crate::store::{Batch, Durability, EventLog, LiveProgress, Ownership};

    async fn append(log: &MemoryLog, owner: &dyn Ownership, fact: Fact) {
        let events = log.read(owner.run(), 0).await.unwrap();
        let after = events.last().map_or((0, GENESIS), |event| (event.seq, event.hash().unwrap()));
        let batch = Batch { after, facts: vec![(Timestamp(9_000), fact)], payloads: vec![] };
        log.append(owner, batch, Durability::Synced).await.unwrap();
    }

    fn number(seen: Seen) -> Seq {
        let Seen::Event(event) = seen else { panic!("{seen:?}") };
        event.seq
    }

    async fn numbers(watch: &mut Watch) -> Vec<Seq> {
        let mut numbers = Vec::new();
        while let Some(seen) = watch.next().await.unwrap() {
            numbers.push(number(seen));
        }
        numbers
    }

    #[tokio::test]
    async fn a_reader_gets_each_event_once_however_it_comes_and_from_where_it_says() {
        let (log, step) = (MemoryLog::default(), id("write"));
        let canned = Canned::new().plan(vec![writing("write")]).ready(&step);
        let run = canned.run.clone();
        let owner = canned.kept(&log).await;
        let mut watch = host_of(&log).watch(&run, 2).await.unwrap();
        assert_eq!(watch.next().await.unwrap().map(number), Some(3));
        let writing = async {
            for attempt in 1..=40 {
                append(&log, &*owner, Fact::WriteBegun { step: step.clone(), attempt }).await;
                tokio::task::yield_now().await;
            }
            append(&log, &*owner, Fact::RunEnded { end: RunEnd::Succeeded { answer: None }, caveats: vec![] }).await;
        };
        let (read, ()) = tokio::join!(numbers(&mut watch), writing);
        assert_eq!(read, (4..=45).collect::<Vec<_>>());
        assert_eq!(watch.state(), RunState::Succeeded);
        let mut late = host_of(&log).watch(&run, 44).await.unwrap();
        assert_eq!(numbers(&mut late).await, [45]);
        let mut too_late = host_of(&log).watch(&run, 45).await.unwrap();
        assert_eq!(numbers(&mut too_late).await, Vec::<Seq>::new());
    }

    #[tokio::test]
    async fn it_ends_where_the_run_waits_or_was_left_unless_it_follows() {
        let log = MemoryLog::default();
        let canned = Canned::new().plan(vec![writing("write")]);
        let run = canned.run.clone();
        let owner = canned.kept(&log).await;
        append(&log, &*owner, Fact::RunSuspended { why: Suspension::Approval }).await;
        let host = host_of(&log);
        assert_eq!(numbers(&mut host.watch(&run, 0).await.unwrap()).await, [1, 2, 3, 4]);
        let following = host.watch(&run, 4).await.unwrap().following();
        let waited = tokio::spawn(async move {
            let mut following = following;
            numbers(&mut following).await
        });
        append(&log, &*owner, Fact::RunClaimed { owner: "b".into(), policy: GENESIS }).await;
        append(&log, &*owner, Fact::RunEnded { end: RunEnd::Cancelled { by: "ann".into() }, caveats: vec![] }).await;
        assert_eq!(waited.await.unwrap(), [5, 6]);

        let left = MemoryLog::default();
        let canned = Canned::new().plan(vec![writing("write")]);
        drop(canned.kept(&left).await);
        let mut watch = host_of(&left).watch(&run, 0).await.unwrap();
        assert_eq!((numbers(&mut watch).await, watch.state()), (vec![1, 2, 3], RunState::Executing));
    }

    #[tokio::test]
    async fn what_a_tool_says_is_seen_while_its_step_runs_and_not_twice() {
        let (log, step) = (MemoryLog::default(), id("write"));
        let canned = Canned::new().plan(vec![writing("write")]).ready(&step).started(&step, 1);
        let run = canned.run.clone();
        let owner = canned.kept(&log).await;
        let word = |ms, message: &str| StepProgress {
            step: id("write"),
            fraction: Some(0.5),
            message: message.into(),
            at: Timestamp(ms),
        };
        log.note_progress(&*owner, word(1, "of an attempt before"));
        let mut watch = host_of(&log).watch(&run, 5).await.unwrap();
        log.note_progress(&*owner, word(9_000, "half"));
        assert_eq!(watch.next().await.unwrap(), Some(Seen::Progress(word(9_000, "half"))));
        let later = async {
            tokio::task::yield_now().await;
            append(&log, &*owner, Fact::WriteBegun { step: id("write"), attempt: 1 }).await;
        };
        let (seen, ()) = tokio::join!(watch.next(), later);
        assert_eq!(seen.unwrap().map(number), Some(6));
    }
}
