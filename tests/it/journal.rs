//! The journal of host calls: what is recorded of a call, and what a call that runs again does with it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use cofferdam::domain::{Failure, HostCallRecord, Json, Kind, Outcome, Recorded, RecordedValue, UpstreamEnd};
use cofferdam::orchestrator::Answers;
use cofferdam::policy::Call;
use cofferdam::sandbox::{Begin, CallLink, HostCall, HostCallEnd, NoLink, Runner};
use cofferdam_kit::WebServer;
use cofferdam_kit::web::Reply;
use serde_json::json;

use crate::guest::{Folders, Rule, call, kind, runner, tool};

/// A link that records, and answers what it recorded before.
#[derive(Default)]
pub struct Tape {
    answers: Mutex<Answers>,
    /// By number.
    records: Mutex<BTreeMap<u32, HostCallRecord>>,
    pub ends: Mutex<Vec<(Option<String>, UpstreamEnd)>>,
    /// Makes nothing: what is not recorded ends the call.
    is_closed: bool,
    /// Fails the report of this host call, as a process does that dies there.
    pub dies_at: Option<u32>,
    /// Whether servers take a write of a known key as done.
    pub is_keyed: bool,
    /// Refuses what goes to a server.
    pub refusal: Option<Failure>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tape {
    /// Goes on where a call with these records stopped.
    pub fn after(records: Vec<HostCallRecord>) -> Self {
        let kept = records.iter().map(|record| (record.n, record.clone())).collect();
        Self { answers: Mutex::new(Answers::new(records)), records: Mutex::new(kept), ..Self::default() }
    }

    /// Answers from these records alone.
    pub fn closed(records: Vec<HostCallRecord>) -> Self {
        Self { is_closed: true, ..Self::after(records) }
    }

    pub fn records(&self) -> Vec<HostCallRecord> {
        locked(&self.records).values().cloned().collect()
    }

    /// The host calls, one line each.
    pub fn lines(&self) -> Vec<String> {
        let line = |record: HostCallRecord| match record.done {
            None => format!("{} begun", record.what),
            Some(_) => record.what,
        };
        self.records().into_iter().map(line).collect()
    }
}

#[async_trait]
impl CallLink for Tape {
    fn records(&self) -> bool {
        true
    }

    fn peek(&self, n: u32) -> Option<HostCallRecord> {
        locked(&self.answers).peek(n).cloned()
    }

    async fn begin(&self, host_call: &HostCall) -> Result<Begin, Failure> {
        let begin = locked(&self.answers).next(host_call, self.is_keyed)?;
        if begin != Begin::Proceed {
            return Ok(begin);
        }
        if let (Some(refusal), Some(_)) = (&self.refusal, &host_call.upstream) {
            let HostCall { n, what, args, is_write, .. } = host_call.clone();
            let value = RecordedValue::Refused { kind: refusal.kind, message: refusal.message.clone() };
            let done = Some(Recorded { value, ms: 0 });
            let record = HostCallRecord { n, what: what.to_owned(), args, is_write, done };
            locked(&self.records).insert(n, record);
            return Ok(Begin::Refuse(refusal.clone()));
        }
        if self.is_closed {
            return Err(Failure::new(Kind::HostDiverged, format!("find host call {}: it is new", host_call.n)));
        }
        let HostCall { n, what, args, is_write, .. } = host_call.clone();
        let record = HostCallRecord { n, what: what.to_owned(), args, is_write, done: None };
        locked(&self.records).insert(n, record);
        Ok(begin)
    }

    async fn done(&self, host_call: &HostCall, end: HostCallEnd) -> Result<(), Failure> {
        if self.dies_at == Some(host_call.n) {
            return Err(Failure::new(Kind::HostInterrupted, "go on: the process died"));
        }
        if let Some(upstream) = end.upstream {
            locked(&self.ends).push((host_call.upstream.clone(), upstream));
        }
        if let Some(record) = locked(&self.records).get_mut(&host_call.n) {
            record.done = Some(Recorded { value: end.value, ms: end.ms });
        }
        Ok(())
    }
}

const LOOPBACK: &str = "methods = ['GET', 'POST'], addresses = ['127.0.0.0/8']";

/// A server by its address, and a rule for it.
struct Site {
    web: WebServer,
}

impl Site {
    fn new() -> Self {
        Self { web: WebServer::start() }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.web.at("127.0.0.1"))
    }

    fn rule(&self) -> Rule {
        Rule::default().sends(&self.url("/*"), LOOPBACK)
    }

    fn get(&self, path: &str) -> Call {
        call(&tool("fetch.get"), &json!({"url": self.url(path)}), &self.rule())
    }

    fn send(&self, path: &str) -> Call {
        call(&tool("fetch.send"), &json!({"method": "POST", "url": self.url(path), "body": "{}"}), &self.rule())
    }

    /// Sends to each path, one after the other.
    fn send_all(&self, paths: &[&str]) -> Call {
        let urls: Vec<String> = paths.iter().map(|path| self.url(path)).collect();
        call(&tool("web.post-all"), &json!({"urls": urls}), &self.rule())
    }
}

async fn run(call: Call, tape: &Arc<Tape>) -> Outcome {
    runner().run(call, tape.clone()).await
}

#[track_caller]
fn good(outcome: &Outcome) -> &Json {
    outcome.result.as_ref().unwrap_or_else(|failure| panic!("{failure:?} {:?}", outcome.denials))
}

#[tokio::test]
async fn a_request_is_one_host_call_and_is_answered_without_its_server() {
    let site = Site::new();
    site.web.on("/page", Reply::page(200, "etag", "7", "the tide comes"));
    let tape = Arc::new(Tape::default());
    let live = run(site.get("/page"), &tape).await;
    assert_eq!(good(&live)["text"], json!("the tide comes"));
    let lines = tape.lines();
    assert_eq!(lines[..2], ["call.grant", "http.get"], "{lines:?}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("http.get")).count(), 1);
    assert!(!lines.iter().any(|line| line.ends_with("begun")), "{lines:?}");

    let (again, connections) = (site.get("/page"), site.web.connections());
    drop(site);
    let replayed = run(again, &Arc::new(Tape::closed(tape.records()))).await;
    assert_eq!(good(&replayed), good(&live));
    assert_eq!((replayed.usage.fuel, replayed.usage.requests), (live.usage.fuel, live.usage.requests));
    assert_eq!(connections, 1);
}

#[tokio::test]
async fn a_tool_with_three_writes_resumes_at_the_third() {
    let site = Site::new();
    for path in ["/1", "/2", "/3"] {
        site.web.on(path, Reply::Echo);
    }
    let paths = ["/1", "/2", "/3"];
    let whole = Arc::new(Tape::default());
    let told = good(&run(site.send_all(&paths), &whole).await).clone();
    let third = whole.records().into_iter().filter(|record| record.is_write).nth(2).expect("there are three writes").n;
    let asked = |path: &str| site.web.seen().iter().filter(|seen| seen.target == path).count();
    assert_eq!(paths.map(asked), [1, 1, 1]);

    // The third was begun, and its answer came when nobody was there any more.
    let dying = Arc::new(Tape { dies_at: Some(third), ..Tape::default() });
    assert_eq!(kind(&run(site.send_all(&paths), &dying).await), Some(Kind::HostInterrupted));
    assert_eq!(paths.map(asked), [2, 2, 2]);
    let unknown = run(site.send_all(&paths), &Arc::new(Tape::after(dying.records()))).await;
    assert_eq!((kind(&unknown), unknown.has_written), (Some(Kind::HostInterrupted), true));
    assert_eq!(paths.map(asked), [2, 2, 2], "it is not known what came of it, and nothing was sent again");

    // The server knows the key.
    let keyed = Arc::new(Tape { is_keyed: true, ..Tape::after(dying.records()) });
    let resumed = run(site.send_all(&paths), &keyed).await;
    assert_eq!(*good(&resumed), told);
    assert_eq!(paths.map(asked), [2, 2, 3]);
    let seen = site.web.seen();
    let keys: Vec<_> =
        seen.iter().filter_map(|seen| Some((seen.target.as_str(), seen.header("idempotency-key")?))).collect();
    assert_eq!((keys[5], keys[0]), (keys[6], keys[3]), "the same write has the same key each time");
    assert_ne!((keys[0].1, keys[1].1), (keys[1].1, keys[2].1), "another write has another");
}

#[tokio::test]
async fn a_call_that_does_something_else_than_before_is_stopped() {
    let site = Site::new();
    site.web.on("/1", Reply::Echo);
    site.web.on("/2", Reply::Echo);
    let tape = Arc::new(Tape::default());
    good(&run(site.send("/1"), &tape).await);
    let diverged = run(site.send("/2"), &Arc::new(Tape::after(tape.records()))).await;
    let failure = diverged.result.expect_err("it is another request");
    assert_eq!(failure.kind, Kind::HostDiverged);
    let was = |path: &str| format!("`POST {}`", site.url(path));
    let told = format!("host call 2 was {} before, and is {} now", was("/1"), was("/2"));
    assert!(failure.message.contains(&told), "{failure}");
    assert_eq!(site.web.seen().len(), 1);
}

#[tokio::test]
async fn a_large_answer_is_asked_for_again_and_compared() {
    let site = Site::new();
    let rule = site.rule().limit("record_bytes_max", 10_000);
    let get = || call(&tool("fetch.get"), &json!({"url": site.url("/large")}), &rule);
    site.web.on("/large", Reply::text(&"x".repeat(20_000)));
    let tape = Arc::new(Tape::default());
    let live = good(&run(get(), &tape).await).clone();
    assert_eq!(*good(&run(get(), &Arc::new(Tape::closed(tape.records()))).await), live);
    assert_eq!(site.web.seen().len(), 2);
    site.web.on("/large", Reply::text(&"y".repeat(20_000)));
    let changed = run(get(), &Arc::new(Tape::closed(tape.records()))).await;
    assert_eq!(kind(&changed), Some(Kind::HostDiverged));
}

#[tokio::test]
async fn what_a_write_brings_is_kept_whole_or_the_guest_does_not_get_it() {
    let site = Site::new();
    site.web.on("/large", Reply::text(&"x".repeat(20_000)));
    let args = json!({"method": "POST", "url": site.url("/large"), "body": "{}"});
    let send = || call(&tool("fetch.send"), &args, &site.rule().limit("record_bytes_max", 10_000));
    let tape = Arc::new(Tape::default());
    let live = run(send(), &tape).await.result.expect_err("its answer is too large to be kept");
    let again = run(send(), &Arc::new(Tape::closed(tape.records()))).await.result.expect_err("as before");
    assert_eq!((live.declared.as_deref(), &live), (Some("http.too_large"), &again));
    assert_eq!(site.web.seen().len(), 1, "a write is not sent again");
}

#[tokio::test]
async fn what_came_of_a_request_is_told_whatever_the_guest_makes_of_it() {
    let site = Site::new();
    site.web.on("/busy", Reply::page(503, "retry-after", "7", "later"));
    site.web.on("/gone", Reply::octets("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nbrok"));
    let port = site.web.port();
    let tape = Arc::new(Tape::default());
    let outcome = run(site.get("/busy"), &tape).await;
    // The tool takes any status for an answer.
    assert_eq!(good(&outcome)["status"], json!(503));
    let upstream = format!("http://127.0.0.1:{port}");
    let end = UpstreamEnd { failure: Some(Kind::NetworkHttp5xx), retry_after_ms: Some(7_000) };
    assert_eq!(locked(&tape.ends)[0], (Some(upstream.clone()), end));
    let failed = outcome.upstream.expect("the server failed");
    assert_eq!((failed.upstream, failed.kind, failed.retry_after_ms), (upstream, Kind::NetworkHttp5xx, Some(7_000)));

    // Where the tool gives up, its failure tells what the network did, and what the tool says.
    let failure = run(site.get("/gone"), &Arc::new(Tape::default())).await.result.expect_err("the answer broke off");
    assert_eq!((failure.kind, failure.declared.as_deref()), (Kind::NetworkCut, Some("http.failed")));
    let plain = runner().run(site.get("/gone"), Arc::new(NoLink)).await;
    assert_eq!(kind(&plain), Some(Kind::NetworkCut), "without a journal too");
    let get = site.get("/gone");
    drop(site);
    let failure = run(get, &Arc::new(Tape::default())).await.result.expect_err("nobody is there");
    assert_eq!((failure.kind, failure.declared.as_deref()), (Kind::NetworkConnect, Some("http.connect")));
}

#[tokio::test]
async fn a_server_that_is_known_to_be_down_is_not_asked() {
    let site = Site::new();
    let refusal = Failure::new(Kind::NetworkCircuitOpen, "send to it: it has failed too often of late");
    let tape = Arc::new(Tape { refusal: Some(refusal), ..Tape::default() });
    let outcome = run(site.send("/1"), &tape).await;
    let failure = outcome.result.as_ref().expect_err("it was refused");
    assert_eq!(failure.declared.as_deref(), Some("http.connect"));
    assert_eq!(outcome.denials[0].code, "network.circuit_open");
    assert_eq!((site.web.connections(), outcome.has_written), (0, false));
    // Made again when the server is up, the call is told the same.
    let again = run(site.send("/1"), &Arc::new(Tape::closed(tape.records()))).await;
    assert_eq!((again.result, again.denials), (outcome.result, outcome.denials));
    assert_eq!((site.web.connections(), again.has_written), (0, false));
}

#[tokio::test]
async fn what_redirects_took_of_a_calls_share_is_taken_again() {
    let site = Site::new();
    site.web.on("/from", Reply::page(302, "location", "/to", ""));
    site.web.on("/to", Reply::text("here"));
    let args = json!({"url": site.url("/from"), "count": 3});
    let crawl = |bytes: u64| call(&tool("web.crawl"), &args, &site.rule().limit("egress_bytes_max", bytes));
    let whole = run(crawl(1 << 20), &Arc::new(Tape::default())).await.usage.egress_bytes;
    // The last redirect is too much, or the third request.
    for bytes in [whole - 1, whole / 3 * 2 + 10] {
        let tape = Arc::new(Tape::default());
        let live = run(crawl(bytes), &tape).await;
        assert_eq!((good(&live), live.denials[0].code.as_str()), (&json!(2), "limit.egress"));
        let again = run(crawl(bytes), &Arc::new(Tape::closed(tape.records()))).await;
        assert_eq!((good(&again), again.usage.fuel), (&json!(2), live.usage.fuel));
        assert_eq!(
            (again.usage.egress_bytes, again.usage.requests),
            (live.usage.egress_bytes, live.usage.requests),
            "{bytes}"
        );
    }
}

#[tokio::test]
async fn a_guests_own_key_is_kept() {
    let site = Site::new();
    site.web.on("/1", Reply::Echo);
    let parts = json!({
        "method": "POST", "scheme": "http", "authority": site.web.at("127.0.0.1"), "path": "/1",
        "headers": [["idempotency-key", "mine"]], "body": "{}", "with_trailer": false, "wait_ms": null,
    });
    good(&run(call(&tool("web.send"), &json!({"parts": parts}), &site.rule()), &Arc::new(Tape::default())).await);
    assert_eq!(site.web.seen()[0].header("idempotency-key"), Some("mine"));
}

#[tokio::test]
async fn all_that_the_world_tells_a_call_is_answered_from_its_records() {
    let rule = Rule::default().gives("clock").gives("random");
    for (name, args) in
        [("probe.now", json!({})), ("probe.random", json!({"salt": 1})), ("probe.slept", json!({"ms": 30}))]
    {
        let call = || call(&tool(name), &args, &rule);
        let tape = Arc::new(Tape::default());
        let live = good(&run(call(), &tape).await).clone();
        let replayed = run(call(), &Arc::new(Tape::closed(tape.records()))).await;
        assert_eq!(*good(&replayed), live, "{name}");
        assert_ne!(tape.records(), Vec::new(), "{name}");
    }
}

#[tokio::test]
async fn a_sleep_moves_the_clock_and_is_not_slept_again() {
    let slept = || call(&tool("probe.slept"), &json!({"ms": 300}), &Rule::default().gives("clock"));
    let tape = Arc::new(Tape::default());
    let live = run(slept(), &tape).await;
    let ms = good(&live).as_u64().expect("it is a number");
    assert!((300..3_000).contains(&ms), "{ms}");
    assert_eq!(tape.lines(), ["call.grant", "clock.start", "poll"]);
    let replayed = run(slept(), &Arc::new(Tape::closed(tape.records()))).await;
    assert_eq!(good(&replayed), good(&live));
    assert!(replayed.usage.wall_ms < live.usage.wall_ms, "nothing was waited for: {:?}", replayed.usage);
}

#[tokio::test]
async fn a_call_that_has_nothing_live_records_nothing() {
    let tape = Arc::new(Tape::default());
    good(&run(call(&tool("text.stats"), &json!({"text": "one two"}), &Rule::default()), &tape).await);
    assert_eq!(tape.records(), Vec::new());
}

#[tokio::test]
async fn a_call_that_is_recorded_looks_only_so_often() {
    let rule = Rule::default().gives("clock");
    let outcome = run(call(&tool("probe.hurry"), &json!({"times": 25_000}), &rule), &Arc::new(Tape::default())).await;
    let failure = outcome.result.expect_err("it looks too often");
    assert_eq!(failure.kind, Kind::ToolHostCalls);
    assert!(failure.message.contains("20000 host calls that are recorded"), "{failure}");
    // Nobody records it: it costs what a host call costs.
    let plain = call(&tool("probe.hurry"), &json!({"times": 25_000}), &rule);
    good(&runner().run(plain, Arc::new(NoLink)).await);
}

#[tokio::test]
async fn a_file_that_changed_since_is_noticed() {
    let folders = Folders::new();
    let steps = json!({"steps": [{"verb": "read", "path": "/data/note.md"}, {"verb": "count", "path": "/data"}]});
    let rule = Rule::default().reads("/data", &folders.data());
    let reading = || call(&tool("probe.glance"), &steps, &rule);
    let tape = Arc::new(Tape::default());
    let live = run(reading(), &tape).await;
    assert_eq!(*good(&live), json!(["ok hello", "ok 1"]));
    assert_eq!(tape.lines(), ["call.grant", "files.read"], "reads are one record, whatever they bring");
    assert_eq!(*good(&run(reading(), &Arc::new(Tape::closed(tape.records()))).await), *good(&live));
    std::fs::write(folders.data().join("note.md"), "other").expect("a file is written");
    assert_eq!(kind(&run(reading(), &Arc::new(Tape::closed(tape.records()))).await), Some(Kind::HostDiverged));
}

#[tokio::test]
async fn a_commit_that_was_done_is_not_done_again() {
    let folders = Folders::new();
    let rule = Rule::default().writes("/data", &folders.data()).gives("log");
    let write = |text: &str| call(&tool("notes.write"), &json!({"path": "/data/new.md", "text": text}), &rule);
    let tape = Arc::new(Tape::default());
    let live = run(write("first"), &tape).await;
    good(&live);
    assert_eq!(tape.lines(), ["call.grant", "files.seen", "files.write"], "what it saw is kept before it writes");
    std::fs::write(folders.data().join("new.md"), "of somebody else").expect("a file is written");
    let again = run(write("first"), &Arc::new(Tape::after(tape.records()))).await;
    assert_eq!((good(&again), again.has_written), (good(&live), true));
    assert_eq!(folders.text("data/new.md").as_deref(), Some("of somebody else"));
    let other = run(write("second"), &Arc::new(Tape::after(tape.records()))).await;
    assert_eq!(kind(&other), Some(Kind::HostDiverged), "another text is another commit");

    // It was begun, and nobody saw it end: whether it was done is for others to find out.
    let dying = Arc::new(Tape { dies_at: Some(3), ..Tape::default() });
    assert_eq!(kind(&run(write("third"), &dying).await), Some(Kind::HostInterrupted));
    let unknown = run(write("third"), &Arc::new(Tape::after(dying.records()))).await;
    assert_eq!((kind(&unknown), unknown.has_written), (Some(Kind::HostInterrupted), true));
}

#[tokio::test]
async fn a_note_that_is_written_again_tells_what_it_replaced_the_first_time() {
    let folders = Folders::new();
    let rule = Rule::default().writes("/data", &folders.data()).gives("log");
    let note = || folders.text("data/note.md");
    let replaced = note().expect("there is a note");
    let write = || call(&tool("notes.write"), &json!({"path": "/data/note.md", "text": "new"}), &rule);
    let tape = Arc::new(Tape::default());
    let live = run(write(), &tape).await;
    assert_eq!((&good(&live)["replaced"], note().as_deref()), (&json!(replaced), Some("new")));
    for tape in [Tape::after(tape.records()), Tape::closed(tape.records())] {
        let again = run(write(), &Arc::new(tape)).await;
        assert_eq!((good(&again), again.usage.fuel), (good(&live), live.usage.fuel));
    }
    let undo = json!({"path": "/data/note.md", "written": "new", "text": good(&live)["replaced"]});
    good(&run(call(&tool("notes.restore"), &undo, &rule), &Arc::new(Tape::default())).await);
    assert_eq!(note(), Some(replaced));
}

#[tokio::test]
async fn what_was_seen_of_a_folder_that_may_be_written_is_answered() {
    let folders = Folders::new();
    let large = folders.data().join("large.md");
    std::fs::write(&large, "x".repeat(200_000)).expect("a file is written");
    let verbs = [("read", "note.md"), ("read", "none.md"), ("count", "."), ("size", "note.md"), ("read", "large.md")];
    let steps: Vec<Json> =
        verbs.iter().map(|(verb, name)| json!({"verb": verb, "path": format!("/data/{name}")})).collect();
    let look = |rule: &Rule| call(&tool("probe.files"), &json!({"steps": steps}), rule);
    let rule = Rule::default().writes("/data", &folders.data());
    let small = rule.clone().limit("record_bytes_max", 10_000);
    let whole = Arc::new(Tape::default());
    let live = good(&run(look(&rule), &whole).await).clone();
    let part = Arc::new(Tape::default());
    assert_eq!(*good(&run(look(&small), &part).await), live);
    assert_eq!(whole.lines(), ["call.grant", "files.seen"]);

    std::fs::remove_file(folders.data().join("note.md")).expect("a file is removed");
    std::fs::write(folders.data().join("none.md"), "made since").expect("a file is written");
    for (rule, tape) in [(&rule, &whole), (&small, &part)] {
        assert_eq!(*good(&run(look(rule), &Arc::new(Tape::closed(tape.records()))).await), live);
    }
    // What was kept whole is not looked at; what was too large must be as it was.
    std::fs::write(&large, "y".repeat(200_000)).expect("a file is written");
    assert_eq!(*good(&run(look(&rule), &Arc::new(Tape::closed(whole.records()))).await), live);
    let changed = run(look(&small), &Arc::new(Tape::closed(part.records()))).await;
    assert_eq!(kind(&changed), Some(Kind::HostDiverged));
}

#[tokio::test]
async fn requests_that_are_under_way_together_are_told_apart() {
    let site = Site::new();
    site.web.on("/page", Reply::text("the tide comes"));
    let args = json!({"authority": site.web.at("127.0.0.1"), "path": "/page", "count": 6});
    let flood = || call(&tool("web.flood"), &args, &site.rule());
    let tape = Arc::new(Tape::default());
    let live = run(flood(), &tape).await;
    assert_eq!(*good(&live), json!(6));
    assert_eq!(tape.lines().iter().filter(|line| *line == "http.get").count(), 6);
    let again = flood();
    drop(site);
    assert_eq!(*good(&run(again, &Arc::new(Tape::closed(tape.records()))).await), json!(6));
}

#[tokio::test]
async fn answers_that_a_call_holds_are_bounded_together() {
    let site = Site::new();
    site.web.on("/large", Reply::text(&"x".repeat(20_000)));
    let args = json!({"authority": site.web.at("127.0.0.1"), "path": "/large", "count": 6});
    // Four of the largest fit.
    let flood = |bytes: u64| call(&tool("web.flood"), &args, &site.rule().limit("response_bytes_max", bytes));
    let tape = Arc::new(Tape::default());
    let outcome = run(flood(20_000), &tape).await;
    assert!(outcome.denials.iter().any(|denial| denial.code == "limit.response"), "{outcome:?}");
    let outcome = run(flood(40_000), &Arc::new(Tape::default())).await;
    assert!(outcome.denials.is_empty(), "{outcome:?}");
}
