//! A model server that answers from a script.
//!
//! It speaks OpenAI's chat completions on loopback. The script is a strict queue: each request meets the next step, and
//! both must agree. A request too many, a request that is not as expected and a step that nobody asked for are faults,
//! which [`FakeLlm::finish`] lists. It keeps no secret that it is shown: of `Authorization` only whether it was there.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use serde_json::Value;
use tokio::sync::oneshot;

mod http;
mod reply;
mod script;

pub use reply::{Drip, FunctionCall, Reply, Usage};
pub use script::{Matcher, Matchers, Script, Step};

/// A running model server. It ends when it is dropped.
pub struct FakeLlm {
    address: SocketAddr,
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A request as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    pub path: String,
    pub has_authorization: bool,
    pub body: Value,
}

/// What the connections share.
#[derive(Default)]
struct State {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    steps: std::collections::VecDeque<Step>,
    /// Steps taken off the queue so far: the number of the next one, from 1, for messages.
    taken: usize,
    requests: Vec<Recorded>,
    faults: Vec<String>,
}

impl FakeLlm {
    /// Starts a server on a free port; `script` is JSON lines.
    ///
    /// # Errors
    /// A malformed script, or no port.
    pub fn start(script: &str) -> Result<Self, String> {
        Self::start_on(Script::parse(script)?, 0)
    }

    /// Starts a server on `port` of loopback; 0 is any free one.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start_on(script: Script, port: u16) -> Result<Self, String> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|e| format!("listen on {port}: {e}"))?;
        listener.set_nonblocking(true).map_err(|e| format!("listen without blocking: {e}"))?;
        let address = listener.local_addr().map_err(|e| format!("learn the port: {e}"))?;
        let state = Arc::new(State::of(script));
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&state);
        // A thread of its own, so that tests with and without a runtime can use it.
        let thread = std::thread::spawn(move || http::serve(listener, shared, stopped));
        Ok(Self { address, state, stop: Some(stop), thread: Some(thread) })
    }

    /// Returns what a client takes as base URL: `http://127.0.0.1:<port>/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Returns the requests so far, in order.
    pub fn requests(&self) -> Vec<Recorded> {
        self.state.lock().requests.clone()
    }

    /// Returns the faults so far, unused steps not counted.
    pub fn faults(&self) -> Vec<String> {
        self.state.lock().faults.clone()
    }

    /// Ends the server.
    ///
    /// # Errors
    /// Each request that the script did not expect, and each step that nobody asked for.
    pub fn finish(mut self) -> Result<(), Vec<String>> {
        self.end();
        let mut inner = self.state.lock();
        let mut faults = std::mem::take(&mut inner.faults);
        let unused = inner.taken + 1..=inner.taken + inner.steps.len();
        faults.extend(unused.map(|n| format!("step {n}: nobody asked for it")));
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    fn end(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It is no fault when the thread has ended by itself.
            let _ = stop.send(());
        }
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            self.state.lock().faults.push("the server panicked".to_owned());
        }
    }
}

impl Drop for FakeLlm {
    fn drop(&mut self) {
        self.end();
    }
}

impl State {
    fn of(script: Script) -> Self {
        Self { inner: Mutex::new(Inner { steps: script.steps.into(), ..Inner::default() }) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records `request` and gives the reply of the next step, or the fault, which is recorded too.
    fn answer(&self, request: Recorded) -> Result<Reply, String> {
        let mut inner = self.lock();
        let body = request.body.clone();
        inner.requests.push(request);
        let Some(step) = inner.steps.pop_front() else {
            let fault = format!("request {} is one too many: the script is at its end", inner.requests.len());
            inner.faults.push(fault.clone());
            return Err(fault);
        };
        inner.taken += 1;
        let mismatches = step.mismatches(&body);
        if mismatches.is_empty() {
            return Ok(step.reply);
        }
        let fault = format!("step {}: {}", inner.taken, mismatches.join("; "));
        inner.faults.push(fault.clone());
        Err(fault)
    }

    /// Records a fault that is about the protocol, not the script.
    fn fault(&self, fault: &str) {
        self.lock().faults.push(fault.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    async fn post(server: &FakeLlm, body: &Value) -> (u16, String) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("{}/chat/completions", server.base_url());
        let response = client.post(url).bearer_auth("sk-secret").json(body).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    fn ask(text: &str) -> Value {
        json!({"model": "m", "messages": [{"role": "user", "content": text}]})
    }

    #[tokio::test]
    async fn a_step_that_is_met_answers_like_openai() {
        let script = json!({
            "expect": {"/messages/0/content": {"contains": "sum"}, "/stream": {"absent": true}},
            "reply": {"json": {"answer": 3}, "usage": {"prompt_tokens": 7, "completion_tokens": 2}}
        });
        let server = FakeLlm::start(&script.to_string()).unwrap();
        let (status, text) = post(&server, &ask("the sum")).await;
        let body: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(status, 200);
        assert_eq!(body["object"], "chat.completion");
        assert_eq!(body["choices"][0]["message"]["content"], r#"{"answer":3}"#);
        assert_eq!(body["choices"][0]["finish_reason"], "stop");
        assert_eq!(body["usage"]["total_tokens"], 9);
        let requests = server.requests();
        assert!(requests[0].has_authorization);
        assert!(!format!("{requests:?}").contains("sk-secret"));
        assert_eq!(server.finish(), Ok(()));
    }

    #[tokio::test]
    async fn a_stream_says_the_same_in_pieces() {
        let server = FakeLlm::start(r#"{"reply": {"text": "hello there"}}"#).unwrap();
        let mut request = ask("hi");
        request["stream"] = json!(true);
        request["stream_options"] = json!({"include_usage": true});
        let (_, text) = post(&server, &request).await;
        let events: Vec<&str> = text.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect();
        assert_eq!(events.last(), Some(&"[DONE]"));
        let values = events.iter().filter_map(|event| serde_json::from_str::<Value>(event).ok());
        let said: String =
            values.clone().filter_map(|v| Some(v.pointer("/choices/0/delta/content")?.as_str()?.to_owned())).collect();
        assert_eq!(said, "hello there");
        assert_eq!(values.filter(|v| !v["usage"].is_null()).count(), 1);
        assert_eq!(server.finish(), Ok(()));
    }

    #[tokio::test]
    async fn every_departure_from_the_script_is_a_fault() {
        let script = "{\"expect\": {\"/model\": {\"equals\": \"other\"}}, \"reply\": {\"text\": \"\"}}\n{\"reply\": {\"text\": \"never\"}}";
        let server = FakeLlm::start(script).unwrap();
        let (status, text) = post(&server, &ask("hi")).await;
        assert_eq!(status, 500);
        assert!(text.contains("/model"), "{text}");
        let faults = server.finish().unwrap_err();
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[1].contains("step 2"), "{faults:?}");
    }

    #[tokio::test]
    async fn a_request_too_many_is_refused() {
        let server = FakeLlm::start("").unwrap();
        assert_eq!(post(&server, &ask("hi")).await.0, 500);
        assert!(server.finish().unwrap_err()[0].contains("one too many"));
    }

    #[tokio::test]
    async fn a_cut_reply_is_seen_as_cut() {
        for stream in [false, true] {
            let server = FakeLlm::start(r#"{"reply": {"text": "hello there", "cut_after": 40}}"#).unwrap();
            let mut request = ask("hi");
            request["stream"] = json!(stream);
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            let url = format!("{}/chat/completions", server.base_url());
            let response = client.post(url).json(&request).send().await.unwrap();
            assert!(response.text().await.is_err(), "stream: {stream}");
            assert_eq!(server.finish(), Ok(()));
        }
    }

    #[tokio::test]
    async fn headers_and_status_are_the_scripts() {
        let server = FakeLlm::start(
            r#"{"reply": {"raw": "{\"error\":{}}", "status": 429, "headers": {"retry-after": "7"}, "drip": {"bytes": 4, "ms": 1}}}"#,
        )
        .unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("{}/chat/completions", server.base_url());
        let response = client.post(url).json(&ask("hi")).send().await.unwrap();
        assert_eq!(response.status().as_u16(), 429);
        assert_eq!(response.headers()["retry-after"], "7");
        assert_eq!(response.text().await.unwrap(), "{\"error\":{}}");
        assert_eq!(server.finish(), Ok(()));
    }
}
