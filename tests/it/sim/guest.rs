//! The tools of a simulation, played as the script in their arguments says.

use std::sync::Arc;

use async_trait::async_trait;
use cofferdam::domain::{
    Digest, Effect, FailedUpstream, Failure, Json, Kind, Outcome, Recorded, RecordedValue, UpstreamEnd, Usage,
};
use cofferdam::policy::Call;
use cofferdam::registry::VerifiedTool;
use cofferdam::sandbox::{Begin, CallLink, HostCall, HostCallEnd, Runner};
use serde_json::json;

use super::fuse::Fuse;
use super::script::Script;
use super::world::{Done, Sent, World};

/// Fuel without which no call does anything. It takes half of what it is given.
const FUEL: u64 = 1_000;

/// Plays the tools, in one process.
pub struct SimRunner {
    pub world: Arc<World>,
    pub fuse: Arc<Fuse>,
    /// Number of the process.
    pub process: u32,
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
            self.world.called(call.run(), call.step(), call.attempt());
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
        let fuel = call.grant().limits.fuel / 2;
        let usage = Usage { wall_ms: 1, fuel, output_bytes: 100, ..Usage::default() };
        Outcome { result, usage, log: Vec::new(), denials: Vec::new(), has_written, has_open_write: false, upstream }
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
        if self.call.grant().limits.fuel < FUEL {
            return Err(Failure::new(Kind::ToolFuel, "go on: its fuel is used up"));
        }
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
        if script.is_kept && !self.world().is_healed(id) {
            return Err(Failure::new(Kind::ToolDeclared, "cancel: the service does not want to"));
        }
        let output = json!({"id": id, "kind": kind, "what": script.name, "is_cancelled": true});
        let script = Script { name: script.name, writes: 1, is_shared: script.is_shared, ..Script::default() };
        self.write(&script, output, Some(id.to_owned())).await
    }

    async fn find(&mut self, key: &str) -> Result<Json, Failure> {
        self.look(&Script { name: "find".into(), ..Script::default() }).await?;
        let done: Vec<_> = self.world().done().into_iter().filter(|done| done.key.to_string() == key).collect();
        let Some(first) = done.first() else { return Ok(json!("not_done")) };
        let Script { is_dark, is_mute, .. } = Script::of(first.output["what"].as_str().unwrap_or_default());
        if is_mute {
            return Err(Failure::new(Kind::ToolDeclared, "find: the service does not want to"));
        }
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
            Begin::Refuse(failure) => return Err(self.refused(failure)),
            Begin::Proceed | Begin::Repeat { .. } => {
                self.runner.fuse.point().await;
                let asked = self.asks(script);
                self.world().pause().await;
                let fails = self.world().fails(self.call.key(), script.failures);
                let value = json!({"status": if script.is_fatal { 422 } else if fails { 503 } else { 200 }});
                self.told((&call, asked), script, value).await?
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
                Begin::Refuse(failure) => return Err(self.refused(failure)),
                Begin::Proceed | Begin::Repeat { .. } => {
                    self.runner.fuse.point().await;
                    let asked = self.asks(script);
                    self.world().pause().await;
                    self.runner.fuse.point().await;
                    self.change(n, script, &output, cancels.clone());
                    self.runner.fuse.point().await;
                    self.world().pause().await;
                    let lost = n == script.writes && self.world().loses(self.call.key(), script.losses);
                    let value = json!({"status": if lost { 0 } else { 201 }});
                    self.told((&call, asked), script, value).await?
                }
            };
            self.heard(script, &told)?;
        }
        Ok(output)
    }

    fn asks(&self, script: &Script) -> usize {
        let tool = self.call.tool().name().to_string();
        self.world().asked(self.runner.process, &tool, &script.server())
    }

    fn refused(&self, failure: Failure) -> Failure {
        self.world().was_refused();
        failure
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
            at_ms: 0,
        };
        // Tools that may not be repeated have services that count each request.
        self.world().change(done, call.effect() <= Effect::Idempotent);
    }

    async fn told(&self, (call, asked): (&HostCall, usize), script: &Script, value: Json) -> Result<Recorded, Failure> {
        let failure = failure_of(&value);
        let end = HostCallEnd {
            value: RecordedValue::Whole { value: value.clone() },
            ms: 3,
            upstream: Some(UpstreamEnd { failure, retry_after_ms: failure.and(script.retry_after_ms()) }),
        };
        let (tool, ended) = (self.call.tool().name().to_string(), Sent::Ended { n: asked, is_down: failure.is_some() });
        self.world().saw(self.runner.process, &tool, &script.server(), ended);
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
        let retry_after_ms = script.retry_after_ms();
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

fn answer() -> Json {
    json!({"status": 200, "headers": [], "text": "fine", "is_cut": false})
}

fn keywords(text: &str) -> Json {
    text.split(' ').map(|word| json!({"word": word, "count": 1})).collect()
}
