//! The world beside the host: services that count what was done to them, and tools that are played by a script.
//!
//! A script is part of a call's arguments, so that it is the same whenever the call is made: `b3-w2-f1-l1` writes twice,
//! fails once before and has the answer to its last write lost once.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use cofferdam::clock::Clock;
use cofferdam::domain::{
    Digest, FailedUpstream, Failure, Json, Kind, Outcome, Recorded, RecordedValue, RunId, StepId, UpstreamEnd, Usage,
};
use cofferdam::policy::Call;
use cofferdam::registry::VerifiedTool;
use cofferdam::sandbox::{Begin, CallLink, HostCall, HostCallEnd, Runner};
use serde_json::json;

use super::clock::PausedClock;
use super::fuse::{Fuse, Rng};

/// What a call does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    pub name: String,
    pub writes: u32,
    /// Times that it fails, in a way that passes, before it writes.
    pub failures: u32,
    /// Times that the answer to its last write is lost.
    pub losses: u32,
    /// It fails for good before it writes.
    pub is_fatal: bool,
    /// Nobody can tell afterwards what became of it.
    pub is_dark: bool,
    /// It cannot be taken back.
    pub is_kept: bool,
}

impl Script {
    pub fn of(text: &str) -> Self {
        let last = text.rsplit('/').next().unwrap_or_default();
        let mut parts = last.split('-');
        let mut script = Self { name: parts.next().unwrap_or_default().to_owned(), writes: 1, ..Self::default() };
        for part in parts {
            let (what, n) = part.split_at(1);
            let n = n.parse().unwrap_or(0);
            match what {
                "w" => script.writes = n,
                "f" => script.failures = n,
                "l" => script.losses = n,
                "x" => script.is_fatal = true,
                "d" => script.is_dark = true,
                "k" => script.is_kept = true,
                _ => panic!("no script is `{text}`"),
            }
        }
        script
    }

    fn server(&self) -> String {
        format!("https://{}.test:443", self.name)
    }
}

/// One thing that was done to the world.
#[derive(Clone, Debug, PartialEq)]
pub struct Done {
    pub key: Digest,
    /// Number of the write within its call.
    pub n: u32,
    pub tool: String,
    pub run: RunId,
    pub step: StepId,
    /// What the plan calls it: every call of a plan has another one.
    pub subject: String,
    /// Writes that its call makes in all.
    pub writes: u32,
    /// What its call brings.
    pub output: Json,
    /// What is cancelled, where it cancels.
    pub cancels: Option<String>,
}

#[derive(Default)]
struct Seen {
    done: Vec<Done>,
    failures: HashMap<Digest, u32>,
    losses: HashMap<Digest, u32>,
    /// By run, step and attempt: a start that a crash forgot comes again as the same attempt.
    calls: HashSet<(RunId, StepId, u32)>,
}

/// The world of one simulation.
pub struct World {
    pub rng: Rng,
    pub clock: Arc<PausedClock>,
    seen: Mutex<Seen>,
}

impl World {
    pub fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed), clock: Arc::new(PausedClock::new(seed)), seen: Mutex::default() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that was done, in order.
    pub fn done(&self) -> Vec<Done> {
        self.seen().done.clone()
    }

    pub fn done_under(&self, key: Digest) -> Vec<Done> {
        self.done().into_iter().filter(|done| done.key == key).collect()
    }

    /// Calls begun by a run's plan, as the tools saw them.
    pub fn calls(&self, run: &RunId) -> usize {
        self.seen().calls.iter().filter(|(of, _, _)| of == run).count()
    }

    /// Does something to the world. A service that honours keys does nothing for one that it has seen.
    pub fn change(&self, done: Done, is_keyed: bool) {
        let mut seen = self.seen();
        let was_done = seen.done.iter().any(|other| (other.key, other.n) == (done.key, done.n));
        if !(is_keyed && was_done) {
            seen.done.push(done);
        }
    }

    /// Counts one more failure of a call; false once it has had as many as its script says.
    fn fails(&self, key: Digest, failures: u32, of: fn(&mut Seen) -> &mut HashMap<Digest, u32>) -> bool {
        let mut seen = self.seen();
        let count = of(&mut seen).entry(key).or_default();
        *count += 1;
        *count <= failures
    }

    async fn pause(&self) {
        let ms = match self.rng.below(4) {
            0 => 0,
            1 => self.rng.below(5),
            _ => self.rng.below(200),
        };
        self.clock.sleep(Duration::from_millis(ms)).await;
    }
}

/// Plays the tools, in one process.
pub struct SimRunner {
    pub world: Arc<World>,
    pub fuse: Arc<Fuse>,
}

#[async_trait]
impl Runner for SimRunner {
    async fn prepare(&self, _: &VerifiedTool) -> Result<(), Failure> {
        Ok(())
    }

    async fn run(&self, call: Call, link: Arc<dyn CallLink>) -> Outcome {
        self.fuse.point().await;
        let is_of_plan = !call.step().as_str().contains('~') && !call.step().as_str().contains(':');
        if is_of_plan {
            self.world.seen().calls.insert((call.run().clone(), call.step().clone(), call.attempt()));
        }
        self.world.pause().await;
        let mut guest = Guest { runner: self, call: &call, link: &*link, n: 0, has_written: false, upstream: None };
        let result = tokio::select! {
            biased;
            result = guest.play() => result,
            () = link.cancelled() => Err(Failure::new(Kind::HostCancelled, "finish the call: it was stopped")),
        };
        let (has_written, upstream) = (guest.has_written, guest.upstream);
        self.fuse.point().await;
        let usage = Usage { wall_ms: 1, fuel: 1_000, output_bytes: 100, ..Usage::default() };
        let has_open_write = false;
        Outcome { result, usage, log: Vec::new(), denials: Vec::new(), has_written, has_open_write, upstream }
    }
}

/// One call under way.
struct Guest<'a> {
    runner: &'a SimRunner,
    call: &'a Call,
    link: &'a dyn CallLink,
    n: u32,
    has_written: bool,
    upstream: Option<FailedUpstream>,
}

impl Guest<'_> {
    async fn play(&mut self) -> Result<Json, Failure> {
        let name = self.call.tool().name();
        let text = |field: &str| self.call.input()[field].as_str().unwrap_or_default().to_owned();
        match (name.component(), name.function()) {
            ("text", "stats") => self.stats(&text("text")),
            ("text", "keywords") => Ok(keywords(&text("text"))),
            ("fetch", "get") => self.get(&text("url")).await,
            ("fetch", "send") => self.write_all(&text("url"), answer()).await,
            ("notes", "append") => self.write_all(&text("line"), Json::Null).await,
            ("bookings" | "journeys", "book") => self.book(&text("kind"), &text("what")).await,
            ("bookings" | "journeys", "cancel") => self.cancel(&text("kind"), &text("id")).await,
            ("bookings" | "journeys", "find") => self.find(&text("key")).await,
            _ => panic!("no script plays {name}"),
        }
    }

    fn stats(&self, text: &str) -> Result<Json, Failure> {
        let words = text.split(' ').count();
        if text.contains("-x") {
            return Err(Failure::new(Kind::ToolDeclared, "count the words: it does not want to"));
        }
        Ok(json!({"words": words, "lines": 1, "sentences": 1, "characters": text.len(), "bytes": text.len()}))
    }

    async fn get(&mut self, url: &str) -> Result<Json, Failure> {
        self.look(&Script::of(url)).await?;
        Ok(answer())
    }

    async fn book(&mut self, kind: &str, what: &str) -> Result<Json, Failure> {
        self.look(&Script::of(what)).await?;
        let output = json!({"id": format!("{kind}:{what}"), "kind": kind, "what": what, "is_cancelled": false});
        self.write_all(what, output).await
    }

    async fn cancel(&mut self, kind: &str, id: &str) -> Result<Json, Failure> {
        let script = Script::of(id.strip_prefix(&format!("{kind}:")).unwrap_or_default());
        if script.is_kept {
            return Err(Failure::new(Kind::ToolDeclared, "cancel: the service does not want to"));
        }
        let output = json!({"id": id, "kind": kind, "what": script.name, "is_cancelled": true});
        let script = Script { name: script.name, writes: 1, ..Script::default() };
        self.write(&script, output, Some(id.to_owned())).await
    }

    async fn find(&mut self, key: &str) -> Result<Json, Failure> {
        self.look(&Script { name: "find".into(), ..Script::default() }).await?;
        let done: Vec<_> = self.world().done().into_iter().filter(|done| done.key.to_string() == key).collect();
        let Some(first) = done.first() else { return Ok(json!("not_done")) };
        let is_dark = Script::of(first.output["what"].as_str().unwrap_or_default()).is_dark;
        let is_whole = u32::try_from(done.len()).ok() == Some(first.writes);
        Ok(if is_whole && !is_dark { json!({"done": first.output}) } else { json!("unknown") })
    }

    fn world(&self) -> &World {
        &self.runner.world
    }

    fn host_call(&mut self, what: &'static str, is_write: bool, server: Option<String>) -> HostCall {
        self.n += 1;
        let args = Digest::of(format!("{what} {}", self.call.args_digest()).as_bytes());
        HostCall { n: self.n, what, args, is_write, upstream: server, about: None }
    }

    /// Reads, and fails as often as the script says.
    async fn look(&mut self, script: &Script) -> Result<(), Failure> {
        let call = self.host_call("http.get", false, Some(script.server()));
        let told = match self.link.begin(&call).await? {
            Begin::Answer(recorded) => recorded,
            Begin::Refuse(failure) => return Err(failure),
            Begin::Proceed | Begin::Repeat { .. } => {
                self.runner.fuse.point().await;
                self.world().pause().await;
                let fails = self.world().fails(self.call.key(), script.failures, |seen| &mut seen.failures);
                let value = json!({"status": if script.is_fatal { 422 } else if fails { 503 } else { 200 }});
                self.told(&call, script, value).await?
            }
        };
        self.heard(script, &told)
    }

    async fn write_all(&mut self, text: &str, output: Json) -> Result<Json, Failure> {
        let script = Script::of(text);
        if self.n == 0 && script.is_fatal {
            return Err(Failure::new(Kind::ToolDeclared, "write: it does not want to"));
        }
        self.write(&script, output, None).await
    }

    async fn write(&mut self, script: &Script, output: Json, cancels: Option<String>) -> Result<Json, Failure> {
        for n in 1..=script.writes {
            let call = self.host_call("http.send", true, Some(script.server()));
            let begin = self.link.begin(&call).await;
            let is_begun = begin.as_ref().is_ok_and(|begin| !matches!(begin, Begin::Refuse(_)));
            self.has_written |= is_begun;
            let told = match begin? {
                Begin::Answer(recorded) => recorded,
                Begin::Refuse(failure) => return Err(failure),
                Begin::Proceed | Begin::Repeat { .. } => {
                    self.runner.fuse.point().await;
                    self.world().pause().await;
                    self.runner.fuse.point().await;
                    self.change(n, script, &output, cancels.clone());
                    self.runner.fuse.point().await;
                    self.world().pause().await;
                    let is_last = n == script.writes;
                    let lost = is_last && self.world().fails(self.call.key(), script.losses, |seen| &mut seen.losses);
                    let value = json!({"status": if lost { 0 } else { 201 }});
                    self.told(&call, script, value).await?
                }
            };
            self.heard(script, &told)?;
        }
        Ok(output)
    }

    fn change(&self, n: u32, script: &Script, output: &Json, cancels: Option<String>) {
        let call = self.call;
        let done = Done {
            key: call.key(),
            n,
            tool: call.tool().name().to_string(),
            run: call.run().clone(),
            step: call.step().clone(),
            subject: script.name.clone(),
            writes: script.writes,
            output: output.clone(),
            cancels,
        };
        // Tools that may not be repeated have services that count each request.
        self.world().change(done, call.effect() <= cofferdam::domain::Effect::Idempotent);
    }

    async fn told(&self, call: &HostCall, script: &Script, value: Json) -> Result<Recorded, Failure> {
        let failure = failure_of(&value);
        let end = HostCallEnd {
            value: RecordedValue::Whole { value: value.clone() },
            ms: 3,
            upstream: Some(UpstreamEnd { failure, retry_after_ms: retry_after(script, failure) }),
        };
        self.link.done(call, end).await?;
        Ok(Recorded { value: RecordedValue::Whole { value }, ms: 3 })
    }

    /// What the guest makes of what it was told, now or when it was played back.
    fn heard(&mut self, script: &Script, recorded: &Recorded) -> Result<(), Failure> {
        let RecordedValue::Whole { value } = &recorded.value else { panic!("all is kept") };
        if value["status"] == 422 {
            return Err(Failure::new(Kind::ToolDeclared, "book: the service does not want to"));
        }
        let Some(kind) = failure_of(value) else { return Ok(()) };
        let retry_after_ms = retry_after(script, Some(kind));
        self.upstream = Some(FailedUpstream { upstream: script.server(), kind, retry_after_ms });
        Err(Failure::new(kind, format!("reach {}", script.server())))
    }
}

fn failure_of(value: &Json) -> Option<Kind> {
    match value["status"].as_u64() {
        Some(503) => Some(Kind::NetworkHttp5xx),
        Some(0) => Some(Kind::NetworkTimeout),
        _ => None,
    }
}

fn retry_after(script: &Script, failure: Option<Kind>) -> Option<u64> {
    (failure.is_some() && script.failures == 2).then_some(1_500)
}

fn answer() -> Json {
    json!({"status": 200, "headers": [], "text": "fine", "is_cut": false})
}

fn keywords(text: &str) -> Json {
    text.split(' ').map(|word| json!({"word": word, "count": 1})).collect()
}
