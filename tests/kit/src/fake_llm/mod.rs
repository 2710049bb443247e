//! A model server that answers from a script, or from recordings.
//!
//! It speaks the wire protocols of five providers on loopback, streaming and not. The script is a strict queue: each
//! request meets the next step, and both must agree. A request too many, a request that is not as expected or not as the
//! provider takes it, and a step that nobody asked for are faults, which [`FakeLlm::finish`] lists. It keeps no secret
//! that it is shown: of keys only whether they were there.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

mod answer;
mod body;
mod cassettes;
mod chat;
mod dialect;
mod error;
mod gemini;
mod http;
mod messages;
mod ollama;
mod order;
mod protocol;
mod reply;
mod request;
mod responses;
mod said;
mod script;
mod shape;
mod usage;
mod verbatim;

pub use error::ErrorKind;
pub use protocol::Protocol;
pub use reply::{Drip, FunctionCall, Reply};
pub use request::Recorded;
pub use script::{Matcher, Matchers, Script, Step};
pub use usage::{Tokens, Usage, UsageWord};

use answer::Answer;
use cassettes::Cassettes;
use protocol::Route;
use request::Ask;

/// A running model server. It ends when it is dropped.
pub struct FakeLlm {
    address: SocketAddr,
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the connections share.
#[derive(Default)]
struct State {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    steps: std::collections::VecDeque<Step>,
    /// Looked at before the queue, in order.
    standing: Vec<Step>,
    /// Answers in place of the steps, where there are any.
    cassettes: Option<Cassettes>,
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
        Self::serve(State::of(script), port)
    }

    /// Starts a server on a free port that answers what was recorded, each recording once: `path` is a folder of cassettes
    /// of vcrpy or httpmock, or one of them.
    ///
    /// # Errors
    /// What is no cassette, or no port.
    pub fn cassettes(path: impl AsRef<Path>) -> Result<Self, String> {
        Self::cassettes_on(path, false, 0)
    }

    /// Starts a server on `port` of loopback that answers what was recorded, and starts again at the end of what was
    /// recorded for a path where `is_repeated`.
    ///
    /// # Errors
    /// What is no cassette, or when the port is taken.
    pub fn cassettes_on(path: impl AsRef<Path>, is_repeated: bool, port: u16) -> Result<Self, String> {
        let cassettes = Some(Cassettes::read(path.as_ref(), is_repeated)?);
        Self::serve(State { inner: Mutex::new(Inner { cassettes, ..Inner::default() }) }, port)
    }

    fn serve(state: State, port: u16) -> Result<Self, String> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|e| format!("listen on {port}: {e}"))?;
        listener.set_nonblocking(true).map_err(|e| format!("listen without blocking: {e}"))?;
        let address = listener.local_addr().map_err(|e| format!("learn the port: {e}"))?;
        let state = Arc::new(state);
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&state);
        // A thread of its own, so that tests with and without a runtime can use it.
        let thread = std::thread::spawn(move || http::serve(listener, shared, stopped));
        Ok(Self { address, state, stop: Some(stop), thread: Some(thread) })
    }

    /// Returns what a client of OpenAI's chat completions takes as base URL: `http://127.0.0.1:<port>/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Returns what a client of `protocol` takes as base URL, with a slash at its end: `http://127.0.0.1:<port>/v1/` for
    /// OpenAI and Anthropic, `…/v1beta/` for Gemini, `…/` for Ollama.
    pub fn base_url_of(&self, protocol: Protocol) -> String {
        protocol.base_url(self.address)
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
    /// Each request that the script did not expect, or that its provider would not take, and each step that nobody asked
    /// for.
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
        let (standing, steps): (Vec<_>, Vec<_>) = script.steps.into_iter().partition(|step| step.standing);
        Self { inner: Mutex::new(Inner { steps: steps.into(), standing, ..Inner::default() }) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whether a body may be something else than JSON.
    fn takes_any_body(&self) -> bool {
        self.lock().cassettes.is_some()
    }

    /// Records `request` and gives the answer of the next step or recording, or the fault, which is recorded too.
    fn answer(&self, request: Recorded) -> Answer {
        let mut inner = self.lock();
        if inner.cassettes.is_some() {
            return inner.recorded(request);
        }
        let route = Route::of(&request.path, &request.query).filter(|_| request.method == "POST");
        let Some(route) = route else {
            let fault = format!("`{} {}` is no path of a model", request.method, request.path);
            inner.faults.push(fault.clone());
            return Answer::fault(404, &fault);
        };
        inner.requests.push(request.clone());
        inner.scripted(&request, &route)
    }

    /// Records a fault that is about the protocol, not the script.
    fn fault(&self, fault: &str) {
        self.lock().faults.push(fault.to_owned());
    }
}

impl Inner {
    /// Answers what was recorded. A request of the wrong shape is a fault, and is answered all the same: the recording
    /// shows what the provider once said to another.
    fn recorded(&mut self, request: Recorded) -> Answer {
        let wrong = request.protocol.map(|protocol| shape::faults(protocol, &request)).unwrap_or_default();
        if !wrong.is_empty() {
            self.faults.push(format!("request {}: {}", self.requests.len() + 1, wrong.join("; ")));
        }
        let answer = self.cassettes.as_mut().and_then(|cassettes| cassettes.answer(&request.method, &request.path));
        let unknown = format!("`{} {}`: nothing is recorded for it, or nothing is left", request.method, request.path);
        self.requests.push(request);
        answer.unwrap_or_else(|| {
            let answer = Answer::fault(404, &unknown);
            self.faults.push(unknown);
            answer
        })
    }

    fn scripted(&mut self, request: &Recorded, route: &Route) -> Answer {
        let standing = self.standing.iter().find(|step| step.mismatches(request).is_empty()).cloned();
        self.taken += usize::from(standing.is_none() && !self.steps.is_empty());
        let Some(step) = standing.or_else(|| self.steps.pop_front()) else {
            let fault = format!("request {} is one too many: the script is at its end", self.requests.len());
            return self.faulty(fault);
        };
        let wrong = shape::faults(route.protocol, request);
        if !wrong.is_empty() {
            let fault = format!("step {}: {}", self.taken, wrong.join("; "));
            self.faults.push(fault.clone());
            return Answer::wrong(route.protocol, &fault);
        }
        let mismatches = step.mismatches(request);
        if !mismatches.is_empty() {
            return self.faulty(format!("step {}: {}", self.taken, mismatches.join("; ")));
        }
        let ask = Ask { route, body: &request.body, bytes: request.bytes.len() };
        match step.reply.body(&ask, self.requests.len() - 1) {
            Ok(body) => Answer::of(&step.reply, &ask, body),
            Err(fault) => self.faulty(format!("step {}: {fault}", self.taken)),
        }
    }

    fn faulty(&mut self, fault: String) -> Answer {
        let answer = Answer::fault(500, &fault);
        self.faults.push(fault);
        answer
    }
}

#[cfg(test)]
mod tests;
