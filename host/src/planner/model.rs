//! A model is a planner: one request over OpenAI's chat completions, at any base URL that speaks them.
//!
//! One `plan` is one request: no retry and no repair is hidden here. Every way to fail has its kind. The key goes into
//! one header and nowhere else: not into failures, not into what is kept, even where a server sends it back. Redirects
//! are not followed and no proxy is taken from the environment, so the key reaches the one host that was named. What
//! bounds a reply is the deadline, and the tokens that were allowed; what is kept of it is cut.

use std::error::Error as _;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use genai::adapter::AdapterKind;
use genai::chat::{ChatMessage, ChatOptions, ChatRequest, JsonSpec, ReasoningEffort};
use genai::resolver::{AuthData, Endpoint};
use genai::{Headers, ModelIden, ServiceTarget, webc};
use reqwest::{StatusCode, Url, header};
use serde::Deserialize;

use super::parse::{self, NativeCall, ReplyLimits};
use super::{Allowance, ContextPack, Planned, Planner, Proposal, prompt, prompts};
use crate::domain::{Digest, Failure, Json, Kind, Secret, Tokens, printable};

/// Longest wait for a connection, in milliseconds: a model server that is up answers a handshake at once.
const CONNECT_MS_MAX: u64 = 10_000;

/// Bytes of a reply that are kept for the log: as many as a reply may have to be read.
const RAW_BYTES_MAX: usize = 1 << 20;

/// Characters of a server's own words that a failure's detail holds.
const DETAIL_CHARS_MAX: usize = 500;

/// What stands where a server has sent the key back.
const KEY_SENT_BACK: &str = "[the api key]";

/// The name of the reply's schema on the wire.
const SCHEMA_NAME: &str = "proposal";

/// Which model to ask, and where.
#[derive(Clone)]
pub struct ModelOptions {
    /// As the server calls it.
    pub model: String,
    /// Up to and without `/chat/completions`: `https://api.openai.com/v1`.
    pub base_url: String,
    pub api_key: Option<Secret>,
    /// 0 for the same reply to the same request as far as a model can; `None` for models that refuse to be told.
    pub temperature: Option<f64>,
}

impl ModelOptions {
    /// Makes options without a key, at temperature 0.
    pub fn new(model: impl Into<String>, base_url: impl Into<String>) -> Self {
        Self { model: model.into(), base_url: base_url.into(), api_key: None, temperature: Some(0.0) }
    }
}

/// Asks a model.
pub struct ModelPlanner {
    options: ModelOptions,
    url: Url,
    client: genai::Client,
    limits: ReplyLimits,
}

impl ModelPlanner {
    /// Makes a planner; sends nothing yet.
    ///
    /// # Errors
    /// `data.config` for a base URL that is none, or that would send a key in the clear, or a key with a space; `host.bug` where this machine
    /// has no TLS to offer.
    pub fn new(options: ModelOptions) -> Result<Self, Failure> {
        let url = endpoint(&options)?;
        check_key(&options)?;
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_millis(CONNECT_MS_MAX))
            .build()
            .map_err(|error| Failure::new(Kind::HostBug, "set up the connection to a model").detail(error))?;
        let client = genai::Client::builder().with_reqwest(client).build();
        let client = client.map_err(|error| Failure::new(Kind::HostBug, "set up the model's client").detail(error))?;
        Ok(Self { options, url, client, limits: ReplyLimits::default() })
    }

    /// Makes the request and returns the body of the answer, which may be whatever the server likes.
    async fn ask(&self, pack: &ContextPack, allowance: &Allowance) -> Result<Json, genai::Error> {
        let request = ChatRequest::new(vec![ChatMessage::user(prompt::user(pack))]).with_system(prompt::system(pack));
        let options = self.chat_options(pack, allowance);
        match self.client.exec_chat(self.target(), request, Some(&options)).await {
            Ok(response) => Ok(response.captured_raw_body.unwrap_or_default()),
            // The library gives up on a whole reply where the arguments of one call are malformed; we can tell which.
            Err(genai::Error::ChatResponseGeneration { response_body, .. }) => Ok(*response_body),
            Err(error) => Err(error),
        }
    }

    fn chat_options(&self, pack: &ContextPack, allowance: &Allowance) -> ChatOptions {
        let options = ChatOptions::default()
            .with_max_tokens(allowance.reply_tokens_max)
            .with_response_format(JsonSpec::new(SCHEMA_NAME, prompt::reply_schema(pack)))
            .with_capture_raw_body(true)
            // The library reads `-high` or `::` in a model's name as its own syntax. A budget, which this protocol does
            // not send, keeps it from the first, and naming the model once more from the second.
            .with_reasoning_effort(ReasoningEffort::Budget(0))
            .with_extra_body(serde_json::json!({ "model": self.options.model }));
        match self.options.temperature {
            Some(temperature) => options.with_temperature(temperature),
            None => options,
        }
    }

    fn target(&self) -> ServiceTarget {
        let key =
            self.options.api_key.as_ref().map(|key| ("Authorization".to_owned(), format!("Bearer {}", key.expose())));
        let headers = key.map_or_else(Headers::default, Headers::from);
        ServiceTarget {
            endpoint: Endpoint::from_owned(self.url.as_str()),
            auth: AuthData::RequestOverride { url: self.url.to_string(), headers },
            model: ModelIden::new(AdapterKind::OpenAI, self.options.model.as_str()),
        }
    }

    fn failure(&self, kind: Kind, what: &str) -> Failure {
        Failure::new(kind, format!("ask model `{}`: {what}", printable(&self.options.model)))
    }

    /// Takes the key out of a text that a server sent.
    fn redacted(&self, text: &str) -> String {
        match &self.options.api_key {
            Some(key) if text.contains(key.expose()) => text.replace(key.expose(), KEY_SENT_BACK),
            _ => text.to_owned(),
        }
    }

    fn detail(&self, text: &str) -> String {
        self.redacted(text).chars().take(DETAIL_CHARS_MAX).collect()
    }

    fn failed(&self, failure: Failure, body: &str) -> Planned {
        Planned { tokens: None, ..Planned::free(Err(failure), kept(self.redacted(body))) }
    }

    /// Reads a completion; what it used counts, whatever it says.
    fn read(&self, body: &Json, pack: &ContextPack) -> Planned {
        let completion = match Completion::deserialize(body) {
            Ok(completion) => completion,
            Err(error) => {
                let failure =
                    self.failure(Kind::NetworkHttp5xx, "the server answered something else than a completion");
                return self.failed(failure.detail(self.detail(&error.to_string())), &body.to_string());
            }
        };
        let usage = completion.usage.unwrap_or_default();
        let usage = Tokens {
            prompt: usage.prompt_tokens.unwrap_or_default(),
            reply: usage.completion_tokens.unwrap_or_default(),
            ..Tokens::default()
        };
        let Some(choice) = completion.choices.into_iter().next() else {
            let failure = self.failure(Kind::ModelNoAction, "it replied without a message");
            return Planned { tokens: Some(usage), ..self.failed(failure, &body.to_string()) };
        };
        let spoken = choice.message.spoken(|text| self.redacted(text));
        let reply = self.proposal(&spoken, choice.finish_reason.as_deref(), pack);
        Planned { tokens: Some(usage), ..Planned::free(reply, kept(spoken.into_text())) }
    }

    fn proposal(&self, spoken: &Spoken, finish: Option<&str>, pack: &ContextPack) -> Result<Proposal, Failure> {
        match (spoken, finish) {
            (Spoken::Refusal(words), _) => {
                Err(self.failure(Kind::ModelRefusal, "the model refused").detail(self.detail(words)))
            }
            (_, Some("content_filter")) => Err(self.failure(Kind::ModelRefusal, "a filter withheld the reply")),
            (_, Some("length")) => Err(self
                .failure(Kind::ModelTruncated, "the reply was cut off by its length limit")
                .hint("reply with a shorter plan, or allow more tokens")),
            (Spoken::Calls(calls), _) => parse::parse_calls(calls, pack, &self.limits),
            (Spoken::Words(words), _) if words.trim().is_empty() => {
                Err(self.failure(Kind::ModelNoAction, "it replied with nothing"))
            }
            (Spoken::Words(words), _) => parse::parse(words, pack, &self.limits),
        }
    }

    /// Tells what became of a request that brought no completion.
    fn refused(&self, error: genai::Error) -> Planned {
        let web = match error {
            genai::Error::WebModelCall { webc_error, .. } => webc_error,
            other => {
                let failure = self.failure(Kind::HostBug, "the request could not be made");
                return self.failed(failure.detail(self.detail(&other.to_string())), "");
            }
        };
        match web {
            webc::Error::ResponseFailedStatus { status, body, headers } => {
                self.failed(self.status_failure(status, &headers, &body), &body)
            }
            webc::Error::ResponseFailedNotJson { content_type, body } => {
                let what = format!("the server answered `{}`, not JSON", printable(&self.detail(&content_type)));
                let failure = self.failure(Kind::NetworkHttp5xx, &what).hint("check the base URL");
                self.failed(failure, &body)
            }
            webc::Error::ResponseFailedInvalidJson { body, cause } => {
                let is_cut = cause.starts_with("EOF");
                let kind = if is_cut { Kind::NetworkCut } else { Kind::NetworkHttp5xx };
                self.failed(self.failure(kind, "the server's answer is not JSON").detail(self.detail(&cause)), &body)
            }
            webc::Error::Reqwest(error) => self.failed(self.connection_failure(&error), ""),
            other => {
                let failure = self.failure(Kind::NetworkHttp5xx, "the server's answer could not be read");
                self.failed(failure.detail(self.detail(&other.to_string())), "")
            }
        }
    }

    fn status_failure(&self, status: StatusCode, headers: &header::HeaderMap, body: &str) -> Failure {
        let code = status.as_u16();
        let is_overflow = status.is_client_error() && body.contains("context_length_exceeded");
        let (kind, hint) = match code {
            429 => (Kind::NetworkRateLimited, retry_hint(headers)),
            _ if is_overflow => (Kind::ModelContextOverflow, "offer fewer tools, or shorten the goal".to_owned()),
            401 | 403 => (Kind::NetworkHttp4xx, "check the api key, and what it may use".to_owned()),
            404 => (Kind::NetworkHttp4xx, "check the base URL and the name of the model".to_owned()),
            408 => (Kind::NetworkTimeout, "try again".to_owned()),
            300..=399 => {
                (Kind::NetworkHttp4xx, "redirects are not followed: set the base URL to its target".to_owned())
            }
            400..=499 => (Kind::NetworkHttp4xx, "the detail tells what the server refuses".to_owned()),
            _ => (Kind::NetworkHttp5xx, retry_hint(headers)),
        };
        self.failure(kind, &format!("the server answered {code}")).hint(hint).detail(self.detail(body))
    }

    fn connection_failure(&self, error: &reqwest::Error) -> Failure {
        let causes = causes(error);
        let (kind, what) = if error.is_timeout() {
            (Kind::NetworkTimeout, "the server did not answer in time")
        } else if error.is_connect() && causes.contains("dns error") {
            (Kind::NetworkDns, "the server's name did not resolve")
        } else if error.is_connect() {
            (Kind::NetworkConnect, "no connection to the server came about")
        } else {
            (Kind::NetworkCut, "the connection broke before the end of the answer")
        };
        self.failure(kind, what)
            .hint(format!("is a model served at {}?", self.options.base_url))
            .detail(self.detail(&causes))
    }
}

#[async_trait]
impl Planner for ModelPlanner {
    fn name(&self) -> String {
        format!("model:{}", self.options.model)
    }

    fn is_single_plan(&self) -> bool {
        false
    }

    fn prompt(&self) -> Option<Digest> {
        Some(prompts::plan().digest)
    }

    async fn plan(&self, pack: &ContextPack, allowance: &Allowance) -> Planned {
        let deadline = Duration::from_millis(allowance.wall_ms_max);
        match tokio::time::timeout(deadline, self.ask(pack, allowance)).await {
            Ok(Ok(body)) => self.read(&body, pack),
            Ok(Err(error)) => self.refused(error),
            Err(_) => {
                let what = format!("no reply within {} ms", allowance.wall_ms_max);
                self.failed(self.failure(Kind::NetworkTimeout, &what), "")
            }
        }
    }
}

/// The parts of a completion that matter here. Servers add to it, and leave much out.
#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
    usage: Option<CompletionUsage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
    refusal: Option<String>,
    tool_calls: Option<Vec<WireCall>>,
}

#[derive(Deserialize)]
struct WireCall {
    function: WireFunction,
}

#[derive(Deserialize)]
struct WireFunction {
    name: String,
    /// Text by the protocol; some servers send the object itself.
    arguments: Json,
}

#[derive(Default, Deserialize)]
struct CompletionUsage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
}

/// What a message says: one of the three, as providers have it.
enum Spoken {
    Words(String),
    Calls(Vec<NativeCall>),
    Refusal(String),
}

impl Message {
    /// Returns what the message says, every text of it passed through `clean`.
    fn spoken(self, clean: impl Fn(&str) -> String) -> Spoken {
        if let Some(refusal) = self.refusal.filter(|refusal| !refusal.is_empty()) {
            return Spoken::Refusal(clean(&refusal));
        }
        let calls = self.tool_calls.unwrap_or_default().into_iter().map(|call| {
            let WireFunction { name, arguments } = call.function;
            let arguments = arguments.as_str().map_or_else(|| arguments.to_string(), str::to_owned);
            NativeCall { tool: clean(&name), arguments: clean(&arguments) }
        });
        let calls: Vec<NativeCall> = calls.collect();
        if calls.is_empty() { Spoken::Words(clean(&self.content.unwrap_or_default())) } else { Spoken::Calls(calls) }
    }
}

impl Spoken {
    fn into_text(self) -> String {
        match self {
            Self::Words(words) | Self::Refusal(words) => words,
            Self::Calls(calls) => {
                let calls =
                    calls.iter().map(|call| serde_json::json!({"tool": call.tool, "arguments": call.arguments}));
                Json::from_iter(calls).to_string()
            }
        }
    }
}

/// Returns where completions are asked for.
fn endpoint(options: &ModelOptions) -> Result<Url, Failure> {
    let refuse = |why: &str| {
        Failure::new(Kind::DataConfig, format!("use base URL of model `{}`: {why}", printable(&options.model)))
            .hint("it is like `https://api.openai.com/v1`")
    };
    let mut url = Url::parse(&options.base_url).map_err(|error| refuse(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse("it is neither http nor https"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(refuse("it holds more than a host and a path"));
    }
    if options.api_key.is_some() && url.scheme() == "http" && !is_loopback(&url) {
        return Err(refuse("the api key would travel in the clear"));
    }
    let path = format!("{}/chat/completions", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Ok(url)
}

/// A key is one word: with a space in it, it is something else that was taken for one.
fn check_key(options: &ModelOptions) -> Result<(), Failure> {
    if options.api_key.as_ref().is_some_and(|key| key.expose().contains(' ')) {
        let what = "take the model's api key: it has characters that no key has";
        return Err(Failure::new(Kind::DataConfig, what).hint("check it for a space"));
    }
    Ok(())
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn retry_hint(headers: &header::HeaderMap) -> String {
    let seconds = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse::<u32>().ok());
    seconds.map_or_else(|| "try again later".to_owned(), |seconds| format!("try again after {seconds} s"))
}

/// Returns the error and its causes, without the URL.
fn causes(error: &reqwest::Error) -> String {
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    causes.join(": ")
}

fn kept(text: String) -> Vec<u8> {
    let mut bytes = text.into_bytes();
    bytes.truncate(RAW_BYTES_MAX);
    bytes
}

#[cfg(test)]
mod tests {
    use cofferdam_kit::FakeLlm;
    use serde_json::json;

    use super::*;
    use crate::domain::Effect;
    use crate::planner::{OfferedTool, Repair};

    const KEY: &str = "sk-very-secret";

    fn pack() -> ContextPack {
        let tool = OfferedTool {
            name: "csv.sum".parse().unwrap(),
            summary: "Sums a column.".to_owned(),
            effect: Effect::Read,
            input_schema: json!({"type": "object", "required": ["path"],
                "properties": {"path": {"type": "string"}, "limit": {"type": "integer"}}}),
            output_schema: json!({"type": "integer"}),
        };
        let goal = "sum the sales".to_owned();
        ContextPack { goal, turn: 1, tools: vec![tool], ..ContextPack::default() }
    }

    fn allowance() -> Allowance {
        Allowance { wall_ms_max: 10_000, reply_tokens_max: 321, ..Allowance::default() }
    }

    fn planner(base_url: String) -> ModelPlanner {
        let options = ModelOptions::new("org::tiny-high", base_url);
        ModelPlanner::new(ModelOptions { api_key: Some(Secret::new(KEY).unwrap()), ..options }).unwrap()
    }

    /// Asks once against a script of one step, which must be met.
    async fn ask_with(step: Json, pack: &ContextPack, allowance: &Allowance) -> Planned {
        let server = FakeLlm::start(&step.to_string()).unwrap();
        let planned = planner(server.base_url()).plan(pack, allowance).await;
        assert_eq!(server.finish(), Ok(()));
        planned
    }

    async fn reply(reply: Json) -> Planned {
        ask_with(json!({ "reply": reply }), &pack(), &allowance()).await
    }

    fn plan_json() -> Json {
        json!({"reasoning": null, "answer": null, "question": null,
            "steps": [{"id": "a", "tool": "csv.sum", "args": {"path": "p", "limit": null}, "needs": [], "on_failure": "fail"}]})
    }

    #[tokio::test]
    async fn a_plan_comes_back_and_the_request_holds_what_it_should() {
        let step = json!({
            "expect": {
                "/model": {"equals": "org::tiny-high"},
                "/stream": {"equals": false},
                "/temperature": {"equals": 0.0},
                "/max_tokens": {"equals": 321},
                "/reasoning_effort": {"absent": true},
                "/tools": {"absent": true},
                "/messages/0/role": {"equals": "system"},
                "/messages/0/content": [{"contains": "csv.sum"}, {"contains": "Sums a column."}],
                "/messages/1/role": {"equals": "user"},
                "/messages/1/content": [{"contains": "sum the sales"}, {"not_contains": "refused"}],
                "/response_format/type": {"equals": "json_schema"},
                "/response_format/json_schema/strict": {"equals": true},
                "/response_format/json_schema/schema": {"equals": prompt::reply_schema(&pack())},
                "": {"not_contains": KEY},
            },
            "reply": {"json": plan_json(), "usage": {"prompt_tokens": 70, "completion_tokens": 9}}
        });
        let planned = ask_with(step, &pack(), &allowance()).await;
        let Ok(Proposal::Plan(plan)) = &planned.reply else { panic!("{planned:?}") };
        assert_eq!(plan.steps[0].args, json!({"path": "p"}));
        assert_eq!(planned.raw, plan_json().to_string().into_bytes());
        assert_eq!(planned.tokens, Some(Tokens { prompt: 70, reply: 9, ..Tokens::default() }));
    }

    #[tokio::test]
    async fn the_key_is_sent_where_there_is_one_and_only_there() {
        for key in [Some(Secret::new(KEY).unwrap()), None] {
            let server = FakeLlm::start(r#"{"reply": {"json": {"answer": 1}}}"#).unwrap();
            let has_key = key.is_some();
            let options = ModelOptions { api_key: key, ..ModelOptions::new("m", format!("{}/", server.base_url())) };
            let planned = ModelPlanner::new(options).unwrap().plan(&pack(), &allowance()).await;
            assert_eq!(planned.reply, Ok(Proposal::Answer(json!(1))));
            assert_eq!(server.requests()[0].has_authorization, has_key);
        }
    }

    #[tokio::test]
    async fn a_repair_tells_what_was_wrong() {
        let repair = Repair { reply: "{\"steps\":7}".to_owned(), failures: vec!["`/steps` is not a list".to_owned()] };
        let pack = ContextPack { repair: Some(repair), ..pack() };
        let step = json!({
            "expect": {"/messages/1/content": [{"contains": "`/steps` is not a list"}, {"contains": "{\\\"steps\\\":7}"}]},
            "reply": {"json": {"question": "Which year?"}}
        });
        let planned = ask_with(step, &pack, &allowance()).await;
        assert_eq!(planned.reply, Ok(Proposal::Question("Which year?".to_owned())));
    }

    #[tokio::test]
    async fn native_calls_become_steps() {
        let calls =
            json!([{"name": "csv.sum", "arguments": {"path": "a"}}, {"name": "csv.sum", "arguments": {"path": "b"}}]);
        let planned = reply(json!({ "tool_calls": calls })).await;
        let Ok(Proposal::Plan(plan)) = planned.reply else { panic!("{planned:?}") };
        assert_eq!(plan.steps.iter().map(|step| &step.args["path"]).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[tokio::test]
    async fn every_failure_has_its_kind() {
        for (script, kind) in [
            (
                json!({"raw": "{\"error\": {}}", "status": 429, "headers": {"retry-after": "7"}}),
                Kind::NetworkRateLimited,
            ),
            (json!({"raw": "{}", "status": 401}), Kind::NetworkHttp4xx),
            (
                json!({"raw": "{\"error\": {\"code\": \"context_length_exceeded\"}}", "status": 400}),
                Kind::ModelContextOverflow,
            ),
            (json!({"raw": "oops", "status": 500}), Kind::NetworkHttp5xx),
            (json!({"raw": "", "status": 307, "headers": {"location": "http://127.0.0.1:1/"}}), Kind::NetworkHttp4xx),
            (json!({"raw": "<html>", "headers": {"content-type": "text/html"}}), Kind::NetworkHttp5xx),
            (json!({"raw": "{\"choices\": ["}), Kind::NetworkCut),
            (json!({"raw": "{\"object\": \"list\"}"}), Kind::NetworkHttp5xx),
            (json!({"raw": "{\"choices\": []}"}), Kind::ModelNoAction),
            (json!({"text": ""}), Kind::ModelNoAction),
            (json!({"json": plan_json(), "cut_after": 60}), Kind::NetworkCut),
            (json!({"refusal": "I will not."}), Kind::ModelRefusal),
            (json!({"text": "half", "finish_reason": "content_filter"}), Kind::ModelRefusal),
            (json!({"text": "{\"steps\": [", "finish_reason": "length"}), Kind::ModelTruncated),
            (json!({"text": "Certainly!"}), Kind::ModelInvalidJson),
            (json!({"json": {"steps": 7}}), Kind::ModelSchema),
            (json!({"json": {"steps": []}}), Kind::ModelNoAction),
            (json!({"tool_calls": [{"name": "csv.sum", "arguments": "{\"path\": "}]}), Kind::ModelInvalidJson),
        ] {
            let planned = reply(script.clone()).await;
            let failure = planned.reply.unwrap_err();
            assert_eq!(failure.kind, kind, "{script}: {failure:?}");
        }
    }

    #[tokio::test]
    async fn what_a_failed_reply_used_and_said_is_kept() {
        let planned = reply(json!({"text": "Certainly!", "usage": {"prompt_tokens": 5, "completion_tokens": 2}})).await;
        assert_eq!(planned.raw, b"Certainly!");
        assert_eq!(planned.tokens, Some(Tokens { prompt: 5, reply: 2, ..Tokens::default() }));
        let limited = reply(json!({"raw": "slow down", "status": 429, "headers": {"retry-after": "7"}})).await;
        let failure = limited.reply.unwrap_err();
        assert_eq!(failure.hint.as_deref(), Some("try again after 7 s"));
        assert_eq!(failure.detail.as_deref(), Some("slow down"));
        assert_eq!(limited.raw, b"slow down");
    }

    #[tokio::test]
    async fn a_key_that_is_sent_back_is_not_kept() {
        for script in [
            json!({"raw": format!("bad key {KEY}"), "status": 401}),
            json!({"raw": format!("{{\"choices\": \"{KEY}\"}}")}),
            json!({"refusal": format!("I know {KEY}")}),
            json!({"text": format!("I know {KEY}")}),
            json!({"json": {"answer": 1, (KEY): KEY}}),
            json!({"tool_calls": [{"name": KEY, "arguments": {"path": KEY}}]}),
        ] {
            let planned = reply(script).await;
            let shown = format!("{:?} {}", planned.reply, String::from_utf8_lossy(&planned.raw));
            assert!(!shown.contains(KEY), "{shown}");
        }
    }

    #[tokio::test]
    async fn the_deadline_holds_before_and_within_the_reply() {
        let short = Allowance { wall_ms_max: 500, ..allowance() };
        for slow in
            [json!({"delay_ms": 5_000, "text": "late"}), json!({"drip": {"bytes": 1, "ms": 30}, "text": "late"})]
        {
            let planned = ask_with(json!({ "reply": slow }), &pack(), &short).await;
            assert_eq!(planned.reply.unwrap_err().kind, Kind::NetworkTimeout);
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_told_apart_from_a_name_that_is_not() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let failure = planner(format!("http://{free}/v1")).plan(&pack(), &allowance()).await.reply.unwrap_err();
        assert_eq!(failure.kind, Kind::NetworkConnect, "{failure:?}");
        // A label longer than 63 bytes is in no name server: no request leaves the machine.
        let options = ModelOptions::new("m", format!("http://{}.invalid/v1", "a".repeat(64)));
        let planner = ModelPlanner::new(options).unwrap();
        let failure = planner.plan(&pack(), &allowance()).await.reply.unwrap_err();
        assert_eq!(failure.kind, Kind::NetworkDns, "{failure:?}");
    }

    #[test]
    fn a_base_url_must_be_one_that_keeps_the_key() {
        let try_url = |url: &str, key: Option<&str>| {
            let api_key = key.map(|key| Secret::new(key).unwrap());
            ModelPlanner::new(ModelOptions { api_key, ..ModelOptions::new("m", url) })
                .map(|planner| planner.url.to_string())
        };
        assert_eq!(try_url("https://a.example/v1/", Some(KEY)).unwrap(), "https://a.example/v1/chat/completions");
        assert_eq!(try_url("http://[::1]:8080", Some(KEY)).unwrap(), "http://[::1]:8080/chat/completions");
        assert!(try_url("http://a.example/v1", None).is_ok());
        for bad in
            ["http://a.example/v1", "ftp://a.example", "https://u:p@a.example", "https://a.example/v1?x=1", "a.example"]
        {
            assert_eq!(try_url(bad, Some(KEY)).unwrap_err().kind, Kind::DataConfig, "{bad}");
        }
        assert_eq!(try_url("https://a.example/v1", Some("sk 1")).unwrap_err().kind, Kind::DataConfig);
    }
}
