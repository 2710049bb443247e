//! The host of native tests: it answers what a tool asks and remembers what a tool tells, per thread.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use crate::ToolError;
use crate::context::CallContext;
use crate::http::{Request, Response};
use crate::log::Level;

/// What the tools of this thread are told and have told.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub(crate) context: CallContext,
    pub(crate) remaining_ms: u64,
    pub(crate) logs: Vec<(Level, String)>,
    pub(crate) progress: Vec<(Option<f64>, String)>,
    pub(crate) requests: Vec<Request>,
    pub(crate) answers: VecDeque<Result<Response, ToolError>>,
    /// What is kept, by its kind and key.
    pub(crate) state: BTreeMap<(&'static str, String), Vec<u8>>,
    pub(crate) state_keys_max: usize,
}

impl Stage {
    /// Keeps a value; false where there is no room.
    pub(crate) fn keep(&mut self, key: (&'static str, String), value: Vec<u8>) -> bool {
        let has_room = self.state.contains_key(&key) || self.state.len() < self.state_keys_max;
        if has_room {
            self.state.insert(key, value);
        }
        has_room
    }
}

thread_local! {
    static STAGE: RefCell<Stage> = RefCell::new(Stage {
        context: CallContext {
            call_id: "test-call".to_owned(),
            run_id: "test-run".to_owned(),
            step_id: "test-step".to_owned(),
            attempt: 1,
            idempotency_key: "test-key".to_owned(),
        },
        remaining_ms: u64::MAX,
        logs: Vec::new(),
        progress: Vec::new(),
        requests: Vec::new(),
        answers: VecDeque::new(),
        state: BTreeMap::new(),
        state_keys_max: 1_000,
    });
}

/// Sets what [`context::get`](crate::context::get) returns.
pub fn set_context(context: CallContext) {
    record(|stage| stage.context = context);
}

/// Sets what [`context::remaining_ms`](crate::context::remaining_ms) returns; unset, there is no deadline.
pub fn set_remaining_ms(remaining_ms: u64) {
    record(|stage| stage.remaining_ms = remaining_ms);
}

/// Returns the lines logged on this thread, and forgets them.
pub fn logs() -> Vec<(Level, String)> {
    record(|stage| std::mem::take(&mut stage.logs))
}

/// Returns the progress reported on this thread, and forgets it.
pub fn progress() -> Vec<(Option<f64>, String)> {
    record(|stage| std::mem::take(&mut stage.progress))
}

/// Prepares the answer to the next request of this thread for which none is prepared yet.
pub fn answer(answer: Result<Response, ToolError>) {
    record(|stage| stage.answers.push_back(answer));
}

/// Returns the requests sent on this thread, and forgets them.
pub fn requests() -> Vec<Request> {
    record(|stage| std::mem::take(&mut stage.requests))
}

/// Forgets all [`state`](crate::state) of this thread.
pub fn forget_state() {
    record(|stage| stage.state.clear());
}

/// Sets how many keys of [`state`](crate::state) this thread may keep.
pub fn set_state_keys_max(keys_max: usize) {
    record(|stage| stage.state_keys_max = keys_max);
}

pub(crate) fn respond(request: Request) -> Result<Response, ToolError> {
    record(|stage| {
        stage.requests.push(request);
        let unprepared = || Err(ToolError::new("http.denied", "the test prepared no answer: call `testing::answer`"));
        stage.answers.pop_front().unwrap_or_else(unprepared)
    })
}

pub(crate) fn current() -> Stage {
    record(|stage| stage.clone())
}

pub(crate) fn record<T>(change: impl FnOnce(&mut Stage) -> T) -> T {
    STAGE.with_borrow_mut(change)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{context, log, progress as report};

    #[test]
    fn a_test_hears_what_a_tool_tells() {
        log::warn("slow disk");
        report::report(0.5, "half");
        report::report(None, "on");
        assert_eq!(logs(), [(Level::Warn, "slow disk".to_owned())]);
        assert_eq!(progress(), [(Some(0.5), "half".to_owned()), (None, "on".to_owned())]);
        assert!(logs().is_empty(), "heard once");
    }

    #[test]
    fn a_test_answers_requests_in_order() {
        answer(Ok(Response { status: 204, headers: vec![], body: vec![] }));
        answer(Err(ToolError::transient("http.dns", "no such name")));
        assert_eq!(crate::http::get("https://a.example/").map(|response| response.status), Ok(204));
        assert_eq!(crate::http::get("https://b.example/").unwrap_err().code, "http.dns");
        assert_eq!(crate::http::get("https://c.example/").unwrap_err().code, "http.denied");
        let urls: Vec<String> = requests().into_iter().map(|request| request.url).collect();
        assert_eq!(urls, ["https://a.example/", "https://b.example/", "https://c.example/"]);
    }

    #[test]
    fn a_test_decides_what_a_tool_is_told() {
        set_remaining_ms(7);
        set_context(CallContext { attempt: 2, ..context::get() });
        assert_eq!((context::remaining_ms(), context::get().attempt), (7, 2));
    }
}
