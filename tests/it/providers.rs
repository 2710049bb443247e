//! Models of every provider in whole runs: a host made of settings as an operator writes them, the example tools as real
//! components, and servers that speak as the providers do and hold each request to what those publish.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cofferdam::clock::{Clock, SystemClock};
use cofferdam::config::Settings;
use cofferdam::domain::{Event, Failure, Json, Outcome, Timestamp};
use cofferdam::host::{Goal, Host, HostBuilder, RunReport, StartOptions};
use cofferdam::policy::Call;
use cofferdam::registry::VerifiedTool;
use cofferdam::sandbox::{CallLink, Runner, WasmRunner};
use cofferdam_kit::{FakeLlm, fake_llm};
use serde_json::json;
use tempfile::TempDir;

use crate::guest::runner;

mod admitted;
mod matrix;
mod money;
mod packs;
mod refused;
mod stand_ins;
mod told;

/// What nothing that a host keeps or tells may hold.
pub const KEY: &str = "sk-live-9f2e-never-told";

/// A provider, as an operator writes it.
#[derive(Clone, Copy, Debug)]
pub struct Provider {
    pub name: &'static str,
    /// In `protocol = …` of the settings.
    pub written: &'static str,
    pub speaks: fake_llm::Protocol,
    /// Whether its server says what it counted.
    pub counts: bool,
}

/// The four protocols, and a server that is like the first and counts nothing.
pub const PROVIDERS: [Provider; 5] = [
    Provider { name: "chat", written: "openai-chat", speaks: fake_llm::Protocol::Chat, counts: true },
    Provider { name: "responses", written: "openai-responses", speaks: fake_llm::Protocol::Responses, counts: true },
    Provider { name: "messages", written: "anthropic", speaks: fake_llm::Protocol::Messages, counts: true },
    Provider { name: "gemini", written: "gemini", speaks: fake_llm::Protocol::Gemini, counts: true },
    Provider { name: "compatible", written: "openai-chat", speaks: fake_llm::Protocol::Chat, counts: false },
];

impl Provider {
    /// Its `[models.NAME]`, at `server`; `more` are further lines.
    pub fn model(&self, name: &str, server: &FakeLlm, more: &str) -> String {
        let base_url = server.base_url_of(self.speaks);
        let Self { written, .. } = self;
        format!(
            "[models.{name}]\nprotocol = '{written}'\nmodel = '{name}'\nbase_url = '{base_url}'\napi_key = 'file:key'\n{more}\n"
        )
    }

    /// Whether it sends the arguments of a call as an object: what is no JSON then breaks the event around it.
    pub fn sends_objects(&self) -> bool {
        self.speaks == fake_llm::Protocol::Gemini
    }
}

/// Dollars for a million tokens, no two alike: a token that is taken for another shows.
pub const PRICE: &str =
    "price = { input = '1.01', cached = '0.103', cache_write_5m = '1.29', cache_write_1h = '2.03', reply = '7.0007' }";

pub const POLICY: &str = "version = 0\n[[rule]]\nname = 'compute'\nwhy = 'It touches nothing.'\nallow = ['math.*']\n";

/// Steps that reply `steps` as a script of one line each.
pub fn script(replies: &[Json]) -> String {
    replies.iter().map(|reply| json!({ "reply": reply }).to_string()).collect::<Vec<_>>().join("\n")
}

pub fn serves(replies: &[Json]) -> FakeLlm {
    FakeLlm::start(&script(replies)).expect("the script reads")
}

/// A plan of one step for each expression, as the model's text.
pub fn plan(expressions: &[&str]) -> Json {
    let step =
        |(n, text): (usize, &&str)| json!({"id": format!("s{n}"), "tool": "math.eval", "args": {"expression": text}});
    json!({"json": {"steps": expressions.iter().enumerate().map(step).collect::<Vec<_>>()}})
}

/// An answer that refers to what `step` brought.
pub fn answer(step: &str) -> Json {
    json!({"json": {"answer": {"$from": step, "path": ""}}})
}

/// A folder with the settings and all that they name.
pub struct World {
    pub folder: TempDir,
    pub runner: Arc<Counting>,
    pub clock: Arc<Fast>,
}

impl World {
    pub fn new() -> Self {
        Self::at_speed(1)
    }

    /// A world in which a minute passes in a sixtieth of `speed`.
    pub fn at_speed(speed: u64) -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("a file is written");
        write("key", KEY);
        write("policy.toml", POLICY);
        Self { folder, runner: Arc::new(Counting::of(runner())), clock: Arc::new(Fast::new(speed)) }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).expect("a file is written");
    }

    /// The host of a settings file that has the example tools `tools`, and `text`.
    pub fn builder(&self, tools: &[&str], text: &str) -> HostBuilder {
        let tools = tools.iter().map(|tool| format!("{tool} = {:?}\n", cofferdam_guests::component(tool)));
        let text = format!("version = 0\n[tools]\n{}{text}", tools.collect::<String>());
        let settings = Settings::parse(&text, self.path(), "cofferdam.toml").unwrap_or_else(|e| panic!("{e}: {text}"));
        let builder = HostBuilder::from_settings(settings).expect("the settings are in order");
        builder.runner(self.runner.clone()).clock(self.clock.clone())
    }

    pub fn host(&self, tools: &[&str], text: &str) -> Host {
        self.builder(tools, text).build().expect("the host is made")
    }
}

/// Runs a goal to its end, or to where it waits.
pub async fn ended(host: &Host, goal: Goal) -> RunReport {
    let handle = host.start(goal, StartOptions::default()).await.expect("it starts");
    handle.finished().await.expect("it is driven")
}

pub async fn events(host: &Host, report: &RunReport) -> Vec<Event> {
    host.events(&report.run).await.expect("the log is read")
}

/// The sandbox, and how many guests it made.
pub struct Counting {
    inner: &'static WasmRunner,
    guests: AtomicUsize,
}

impl Counting {
    fn of(inner: &'static WasmRunner) -> Self {
        Self { inner, guests: AtomicUsize::new(0) }
    }

    pub fn guests(&self) -> usize {
        self.guests.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Runner for Counting {
    async fn prepare(&self, tool: &VerifiedTool) -> Result<(), Failure> {
        self.inner.prepare(tool).await
    }

    async fn run(&self, call: Call, link: Arc<dyn CallLink>) -> Outcome {
        self.guests.fetch_add(1, Ordering::SeqCst);
        self.inner.run(call, link).await
    }
}

/// A clock that runs so many times as fast as others, and can be moved on.
pub struct Fast {
    inner: SystemClock,
    begin: Timestamp,
    speed: u64,
    ahead_ms: AtomicU64,
}

impl Fast {
    fn new(speed: u64) -> Self {
        let inner = SystemClock::default();
        Self { begin: inner.now(), inner, speed, ahead_ms: AtomicU64::new(0) }
    }

    pub fn advance_ms(&self, ms: u64) {
        self.ahead_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for Fast {
    fn now(&self) -> Timestamp {
        self.begin.plus_ms(self.monotonic_ms())
    }

    fn monotonic_ms(&self) -> u64 {
        self.inner.monotonic_ms() * self.speed + self.ahead_ms.load(Ordering::SeqCst)
    }

    fn random(&self, bytes: &mut [u8]) -> Result<(), String> {
        self.inner.random(bytes)
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let speed = u32::try_from(self.speed).unwrap_or(u32::MAX);
        // Rounded up: who wakes too early sleeps again, for nothing.
        self.inner.sleep(duration / speed + Duration::from_millis(1))
    }
}
