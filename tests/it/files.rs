//! Files: what a call writes becomes its mount's when it has succeeded, within its quota, and nothing gets out.
//!
//! Tests of hostile guests bear the identifiers of the catalogue in the threat model. Each has its mutation: the limit
//! raised, or the same operation inside the mount, and then it passes.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cofferdam::clock::SimClock;
use cofferdam::domain::{Failure, Json, Kind, Outcome, Timestamp};
use cofferdam::sandbox::{Begin, CallLink, HostCall, NoLink, Runner, WasmRunner};
use serde_json::json;

use crate::alone::cases;
use crate::guest::{CANARY, Folders, Recorder, Rule, call, kind, options, run, runner, tool, tool_of};

cases![
    e1_paths_that_lead_out,
    e2_links_that_lead_out,
    e2_links_that_the_guest_makes,
    e3_links_renamed_and_linked,
    e4_a_read_only_mount_stays_as_it_is,
    e6_files_that_hang_or_show_the_host,
    e7_more_than_a_call_may_write,
    e7_what_is_copied_to_be_changed_counts,
    e7_directories_without_end,
    e9_paths_that_are_none,
    e9_bytes_that_no_library_would_pass_on,
    e10_open_files_without_end,
    e10_a_directory_of_many_entries,
    e10_listings_without_end,
    e11_a_write_that_meets_its_quota_replaces_nothing,
    e11_a_write_that_the_disk_refuses_replaces_nothing,
    e3_a_directory_that_becomes_a_link_while_it_is_used,
];

/// The name of our own directory in a mount.
const STAGING: &str = ".cofferdam-staging";

/// What `wasi:filesystem` may answer, as WIT lists it.
const ERROR_CODES: &str = r#""access" "would-block" "already" "bad-descriptor" "busy" "deadlock" "quota" "exist" "file-too-large"
    "illegal-byte-sequence" "in-progress" "interrupted" "invalid" "io" "is-directory" "loop" "too-many-links"
    "message-size" "name-too-long" "no-device" "no-entry" "no-lock" "insufficient-memory" "insufficient-space"
    "not-directory" "not-empty" "not-recoverable" "unsupported" "no-tty" "no-such-device" "overflow" "not-permitted"
    "pipe" "read-only" "invalid-seek" "text-file-busy" "cross-device""#;

fn rw(folders: &Folders) -> Rule {
    Rule::default().writes("/m", &folders.data())
}

fn ro(folders: &Folders) -> Rule {
    Rule::default().reads("/m", &folders.data())
}

fn all(rule: Rule) -> Rule {
    rule.gives("log").gives("progress").gives("clock").gives("random")
}

/// Runs `probe.files`; paths are within the mount.
async fn does(rule: &Rule, steps: Json) -> (Vec<String>, Outcome) {
    let outcome = run("probe.files", json!({"steps": steps}), &all(rule.clone())).await;
    let told = outcome.result.clone().unwrap_or_else(|failure| panic!("{failure:?}"));
    (serde_json::from_value(told).expect("it is a list of text"), outcome)
}

fn step(verb: &str, path: &str) -> Json {
    json!({"verb": verb, "path": path})
}

fn write(path: &str, text: &str) -> Json {
    json!({"verb": "write", "path": path, "text": text})
}

fn two(verb: &str, path: &str, to: &str) -> Json {
    json!({"verb": verb, "path": path, "to": to})
}

fn at(verb: &str, path: &str, at: u64, text: &str) -> Json {
    json!({"verb": verb, "path": path, "at": at, "text": text})
}

fn times(verb: &str, path: &str, times: u32) -> Json {
    json!({"verb": verb, "path": path, "times": times})
}

fn codes(outcome: &Outcome) -> Vec<&str> {
    outcome.denials.iter().map(|denial| denial.code.as_str()).collect()
}

/// Expects that each step alone is refused with `code`, and that nothing in or outside the mount is another.
async fn refused(folders: &Folders, rule: &Rule, code: &str, steps: &[Json]) {
    let before = everything(folders.outer());
    for step in steps {
        let (told, outcome) = does(rule, json!([step])).await;
        assert!(!told[0].starts_with("ok"), "{step}: {told:?}");
        assert_eq!(codes(&outcome), [code], "{step}: {told:?}");
        assert!(!outcome.has_written, "{step}");
        assert!(!format!("{told:?} {outcome:?}").contains(CANARY), "{step}: {told:?}");
        assert_eq!(everything(folders.outer()), before, "{step}");
    }
}

/// Expects that each step alone goes well.
async fn allowed(rule: &Rule, steps: &[Json]) {
    for step in steps {
        let (told, outcome) = does(rule, json!([step])).await;
        assert!(told[0].starts_with("ok"), "{step}: {told:?} {:?}", outcome.denials);
        assert_eq!(codes(&outcome), [] as [&str; 0], "{step}");
    }
}

/// All below a folder: path, kind, permissions, times and bytes.
fn everything(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder lists") {
        let path = entry.expect("an entry reads").path();
        let meta = fs::symlink_metadata(&path).expect("it is there");
        let bytes = if meta.is_file() { fs::read(&path).expect("it reads") } else { Vec::new() };
        // The time of a directory tells that our own was made in it, and removed.
        let time = if meta.is_file() { meta.modified().ok() } else { None };
        found.push(format!("{} {:o} {time:?} {bytes:?}", path.display(), meta.permissions().mode()));
        if meta.is_dir() {
            found.extend(everything(&path));
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_call_sees_what_it_wrote_and_the_mount_has_it_when_the_call_has_succeeded() {
    let folders = Folders::new();
    let steps = json!([
        write("/m/new", "one"),
        step("read", "/m/new"),
        json!({"verb": "append", "path": "/m/note.md", "text": " there"}),
        step("read", "/m/note.md"),
        step("make_dir", "/m/d"),
        two("rename", "/m/new", "/m/d/moved"),
        step("read", "/m/d/moved"),
        step("count", "/m"),
        at("patch", "/m/d/moved", 1, "X"),
        at("resize", "/m/d/moved", 2, ""),
        step("size", "/m/d/moved"),
    ]);
    let (told, outcome) = does(&rw(&folders), steps).await;
    let expected = ["ok", "ok one", "ok", "ok hello there", "ok", "ok", "ok one", "ok 2", "ok", "ok", "ok 2"];
    assert_eq!(told, expected);
    assert!(outcome.has_written && outcome.denials.is_empty(), "{outcome:?}");
    assert_eq!(folders.text("data/note.md").as_deref(), Some("hello there"));
    assert_eq!(folders.text("data/d/moved").as_deref(), Some("oX"));
    assert!(!folders.data().join(STAGING).exists() && !folders.data().join("new").exists());
}

#[tokio::test]
async fn a_call_that_does_not_succeed_changes_nothing_and_had_not_begun() {
    let folders = Folders::new();
    let before = everything(folders.outer());
    let steps = json!([write("/m/note.md", "changed"), write("/m/new", "x"), step("make_dir", "/m/d")]);
    let ends = [
        ("fail", Kind::ToolDeclared),
        ("trap", Kind::ToolTrap),
        ("spin", Kind::ToolFuel),
        ("sleep", Kind::ToolDeadline),
    ];
    for (end, expected) in ends {
        let rule = all(rw(&folders)).limit("wall_ms_max", 3_000).limit("fuel", 20_000_000);
        let link = Arc::new(Recorder::default());
        let args = json!({"steps": steps, "end": end});
        let outcome = runner().run(call(&tool("probe.files-then"), &args, &rule), link.clone()).await;
        assert_eq!(kind(&outcome), Some(expected), "{end}: {outcome:?}");
        assert!(!outcome.has_written, "{end}");
        assert!(link.seen().iter().all(|note| !note.contains("files.write")), "{end}: {:?}", link.seen());
        assert_eq!(everything(folders.outer()), before, "{end}");
    }
    // With a result it is kept.
    let rule = all(rw(&folders));
    assert_eq!(kind(&run("probe.files-then", json!({"steps": steps, "end": ""}), &rule).await), None);
    assert_eq!(folders.text("data/note.md").as_deref(), Some("changed"));
}

#[tokio::test]
async fn a_call_that_is_cancelled_or_dropped_changes_nothing() {
    let folders = Folders::new();
    let before = everything(folders.outer());
    let args = json!({"steps": [write("/m/note.md", "changed")], "end": "sleep"});
    let call = || call(&tool("probe.files-then"), &args, &all(rw(&folders)));
    let link = Arc::new(Recorder::default());
    let cancelling = async {
        crate::guest::pause(300).await;
        assert!(folders.data().join(STAGING).exists(), "it has staged something");
        link.cancel.notify_one();
    };
    let (outcome, ()) = tokio::join!(runner().run(call(), link.clone()), cancelling);
    assert_eq!(kind(&outcome), Some(Kind::HostCancelled));
    assert_eq!(everything(folders.outer()), before);
    let running = runner().run(call(), Arc::new(NoLink));
    assert!(tokio::time::timeout(Duration::from_millis(300), running).await.is_err());
    for _ in 0..100 {
        if everything(folders.outer()) == before {
            return;
        }
        crate::guest::pause(20).await;
    }
    panic!("{:?}", everything(folders.outer()));
}

#[tokio::test]
async fn a_call_that_writes_nothing_announces_nothing() {
    let folders = Folders::new();
    let link = Arc::new(Recorder::default());
    let args = json!({"steps": [step("read", "/m/note.md"), write("/m/x", "x"), step("remove", "/m/x")]});
    let outcome = runner().run(call(&tool("probe.files"), &args, &all(rw(&folders))), link.clone()).await;
    assert_eq!((kind(&outcome), outcome.has_written), (None, false), "{outcome:?}");
    assert!(link.seen().is_empty(), "{:?}", link.seen());
}

#[tokio::test]
async fn a_commit_that_fails_midway_says_what_was_done() {
    let folders = Folders::new();
    fs::create_dir(folders.data().join("d")).expect("a folder is made");
    let (outer, rule) = (folders.data(), all(rw(&folders)));
    let blocked = Arc::new(Blocking { folder: outer.clone() });
    let args = json!({"steps": [write("/m/note.md", "changed"), write("/m/d/x", "x")]});
    let outcome = runner().run(call(&tool("probe.files"), &args, &rule), blocked).await;
    let failure = outcome.result.expect_err("it cannot be kept");
    assert_eq!(failure.kind, Kind::HostStorage, "{failure:?}");
    assert!(failure.message.contains("write /m/d/x") && failure.message.contains("done before"), "{}", failure.message);
    assert!(outcome.has_written, "a commit had begun");
    assert!(!failure.message.contains(&outer.display().to_string()), "{}", failure.message);
}

/// Takes a folder away in the moment in which a commit is announced.
struct Blocking {
    folder: std::path::PathBuf,
}

#[async_trait]
impl CallLink for Blocking {
    async fn begin(&self, call: &HostCall) -> Result<Begin, Failure> {
        if call.is_write {
            fs::remove_dir(self.folder.join("d")).expect("the folder goes");
        }
        Ok(Begin::Proceed)
    }
    fn progress(&self, _: Option<f64>, _: &str) {}
    async fn cancelled(&self) {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_commit_that_was_announced_is_finished_past_the_deadline() {
    let folders = Folders::new();
    let rule = all(rw(&folders)).limit("wall_ms_max", 2_000);
    let args = json!({"steps": [write("/m/note.md", "changed")]});
    let outcome = runner().run(call(&tool("probe.files"), &args, &rule), Arc::new(SlowLog::default())).await;
    assert_eq!((kind(&outcome), outcome.has_written), (None, true), "{outcome:?}");
    assert!(outcome.usage.wall_ms > 2_000, "{outcome:?}");
    assert_eq!(folders.text("data/note.md").as_deref(), Some("changed"));
}

/// A log that takes longer than the call has, and a person who cancels meanwhile.
#[derive(Default)]
struct SlowLog {
    begun: tokio::sync::Notify,
}

#[async_trait]
impl CallLink for SlowLog {
    async fn begin(&self, _: &HostCall) -> Result<Begin, Failure> {
        self.begun.notify_one();
        crate::guest::pause(2_100).await;
        Ok(Begin::Proceed)
    }
    fn progress(&self, _: Option<f64>, _: &str) {}
    async fn cancelled(&self) {
        self.begun.notified().await;
    }
}

#[tokio::test]
async fn a_commit_does_not_begin_when_no_time_is_left() {
    let folders = Folders::new();
    let before = everything(folders.outer());
    let clock = Arc::new(SimClock::at(Timestamp(0)));
    let runner = WasmRunner::new(&options(), clock.clone()).expect("the machine can run guests");
    let args = json!({"steps": [write("/m/new", "x")]});
    let outcome = runner.run(call(&tool("probe.files"), &args, &all(rw(&folders))), Arc::new(Late(clock))).await;
    assert_eq!((kind(&outcome), outcome.has_written), (Some(Kind::ToolDeadline), false), "{outcome:?}");
    assert_eq!(everything(folders.outer()), before);
}

/// Time that is over as soon as the guest runs.
struct Late(Arc<SimClock>);

#[async_trait]
impl CallLink for Late {
    async fn begin(&self, call: &HostCall) -> Result<Begin, Failure> {
        panic!("{call:?} began");
    }
    fn progress(&self, _: Option<f64>, _: &str) {}
    async fn cancelled(&self) {
        self.0.advance_ms(10_000);
        std::future::pending().await
    }
}

#[tokio::test]
async fn two_calls_at_a_time_leave_one_whole_file() {
    let folders = Folders::new();
    let texts: Vec<String> = ["a", "b", "c", "d"].map(|text| text.repeat(200_000)).to_vec();
    for _ in 0..5 {
        let calls = texts.iter().map(|text| {
            let rule = all(rw(&folders)).limit("input_bytes_max", 1 << 20);
            async move { run("probe.files", json!({"steps": [write("/m/note.md", text)]}), &rule).await }
        });
        let calls: Vec<_> = calls.collect();
        let [a, b, c, d] = <[_; 4]>::try_from(calls).ok().expect("there are four");
        let outcomes = tokio::join!(a, b, c, d);
        for outcome in [outcomes.0, outcomes.1, outcomes.2, outcomes.3] {
            assert_eq!(kind(&outcome), None, "{outcome:?}");
        }
        let text = folders.text("data/note.md").expect("it is there");
        assert!(texts.contains(&text), "{} bytes, torn", text.len());
    }
    assert!(!folders.data().join(STAGING).exists());
}

async fn e1_paths_that_lead_out() {
    let folders = Folders::new();
    fs::create_dir(folders.data().join("a")).expect("a folder is made");
    let paths = [
        "../canary",
        "a/../../canary",
        "./../canary",
        ".//..//canary",
        "a/.././../canary",
        "..",
        "a/../..",
        "../data/note.md",
        "../canary/",
        "../canary/.",
        "a/../../canary/",
        "a/..//../.",
        "../../../../../../etc/passwd",
    ];
    for rule in [ro(&folders), rw(&folders)] {
        let reads: Vec<Json> = paths.iter().map(|path| step("read", &format!("/m/{path}"))).collect();
        refused(&folders, &rule, "denied.fs", &reads).await;
    }
    for verb in ["write", "append", "patch", "make_dir", "remove_dir", "remove", "touch"] {
        let steps: Vec<Json> = ["../canary", "a/../../canary", "../new"]
            .iter()
            .map(|path| at(verb, &format!("/m/{path}"), 0, "x"))
            .collect();
        refused(&folders, &rw(&folders), "denied.fs", &steps).await;
    }
    let renames = [
        two("rename", "/m/note.md", "/m/../stolen"),
        two("rename", "/m/../canary", "/m/mine"),
        two("rename", "/m/a", "/m/a/../../b"),
    ];
    refused(&folders, &rw(&folders), "denied.fs", &renames).await;
    // An absolute path is in no mount: the guest's own library finds none. With the folder above granted, all are inside.
    let absolute = folders.outer().join("canary").display().to_string();
    let (told, _) = does(&rw(&folders), json!([step("read", &absolute)])).await;
    assert!(!told[0].starts_with("ok"), "{told:?}");
    let above = Rule::default().reads("/m", folders.outer());
    allowed(
        &above,
        &[
            step("read", "/m/data/../canary"),
            step("read", "/m/data/a/../../canary"),
            step("read", "/m/.//data//..//canary"),
        ],
    )
    .await;
    let above = Rule::default().writes("/m", folders.outer());
    allowed(&above, &[write("/m/data/../new", "x"), two("rename", "/m/data/note.md", "/m/data/../stolen")]).await;
}

async fn e2_links_that_lead_out() {
    let folders = Folders::new();
    let link = |target: &str, name: &str| symlink(target, folders.data().join(name)).expect("a link is made");
    link("../canary", "out");
    link("out", "chain");
    link("..", "up");
    link(&folders.outer().join("canary").display().to_string(), "absolute");
    link("/proc/self/environ", "environ");
    let reads = ["out", "chain", "up/canary", "absolute", "out/", "up/.", "environ"];
    let reads = reads.map(|path| step("read", &format!("/m/{path}")));
    refused(&folders, &ro(&folders), "denied.fs", &reads).await;
    refused(&folders, &rw(&folders), "denied.fs", &reads).await;
    let writes = ["out", "chain", "up/canary", "up/new", "absolute"].map(|path| write(&format!("/m/{path}"), "x"));
    refused(&folders, &rw(&folders), "denied.fs", &writes).await;
    refused(&folders, &rw(&folders), "denied.fs", &[step("make_dir", "/m/up/d"), step("remove", "/m/up/canary")]).await;
    // A loop leads nowhere.
    link("b", "a");
    link("a", "b");
    for rule in [ro(&folders), rw(&folders)] {
        let (told, _) = does(&rule, json!([step("read", "/m/a")])).await;
        assert!(!told[0].starts_with("ok"), "{told:?}");
    }
    // What leads to a place inside is read, and never written through.
    link("note.md", "in");
    for rule in [ro(&folders), rw(&folders)] {
        assert_eq!(does(&rule, json!([step("read", "/m/in")])).await.0, ["ok hello"]);
    }
    refused(&folders, &rw(&folders), "denied.fs", &[write("/m/in", "x"), at("patch", "/m/in", 0, "x")]).await;
    allowed(&rw(&folders), &[write("/m/note.md", "x")]).await;
}

async fn e2_links_that_the_guest_makes() {
    let folders = Folders::new();
    for target in ["../canary", "note.md", "/etc/passwd"] {
        refused(&folders, &rw(&folders), "denied.fs", &[two("symlink", target, "/m/mine")]).await;
    }
    // It is the link that was refused, not the change.
    allowed(&rw(&folders), &[write("/m/mine", "x")]).await;
}

async fn e3_links_renamed_and_linked() {
    let folders = Folders::new();
    symlink("../canary", folders.data().join("out")).expect("a link is made");
    symlink("..", folders.data().join("up")).expect("a link is made");
    fs::create_dir(folders.data().join("d")).expect("a folder is made");
    let steps = [
        two("rename", "/m/out", "/m/d/out"),
        two("rename", "/m/out/", "/m/x"),
        two("rename", "/m/up", "/m/d/up"),
        two("rename", "/m/up/", "/m/x"),
        two("rename", "/m/up/.", "/m/x"),
        two("rename", "/m/note.md", "/m/up/x"),
        two("rename", "/m/note.md", "/m/up/"),
        two("link", "/m/out", "/m/x"),
        two("link", "/m/note.md", "/m/x"),
        two("link", "/m/up/canary", "/m/x"),
    ];
    refused(&folders, &rw(&folders), "denied.fs", &steps).await;
    allowed(
        &rw(&folders),
        &[two("rename", "/m/note.md", "/m/d/x"), two("rename", "/m/d", "/m/e"), two("rename", "/m/e/", "/m/f")],
    )
    .await;
    // A name that is a link may be replaced or taken away: what it leads to stays.
    allowed(&rw(&folders), &[two("rename", "/m/f/x", "/m/out"), step("remove", "/m/up")]).await;
    assert_eq!(folders.text("canary").as_deref(), Some(CANARY));
    assert!(folders.data().join("out").symlink_metadata().is_ok_and(|meta| meta.is_file()));
}

/// WASI has no call that changes permissions.
async fn e4_a_read_only_mount_stays_as_it_is() {
    let folders = Folders::new();
    fs::create_dir(folders.data().join("d")).expect("a folder is made");
    let steps = [
        write("/m/note.md", ""),
        write("/m/new", "x"),
        at("append", "/m/note.md", 0, "x"),
        at("patch", "/m/note.md", 0, "x"),
        at("resize", "/m/note.md", 0, ""),
        at("touch", "/m/note.md", 1, ""),
        step("remove", "/m/note.md"),
        step("make_dir", "/m/e"),
        step("remove_dir", "/m/d"),
        two("rename", "/m/note.md", "/m/x"),
        two("link", "/m/note.md", "/m/x"),
        two("symlink", "note.md", "/m/x"),
    ];
    for one in &steps {
        let before = everything(folders.outer());
        let (told, outcome) = does(&ro(&folders), json!([one])).await;
        assert!(!told[0].starts_with("ok"), "{one}: {told:?}");
        assert_eq!(codes(&outcome), ["denied.fs"], "{one}: {told:?}");
        assert!(!outcome.has_written);
        assert_eq!(everything(folders.outer()), before, "{one}");
    }
    // Out of a mount that may be read, into one that may be written.
    let other = Folders::new();
    let rule = ro(&folders).writes("/w", &other.data());
    for verb in ["rename", "link"] {
        let (told, outcome) = does(&rule, json!([two(verb, "/m/note.md", "/w/x")])).await;
        assert!(!told[0].starts_with("ok") && codes(&outcome) == ["denied.fs"], "{told:?} {:?}", outcome.denials);
    }
    assert!(!other.data().join("x").exists());
    let same: Vec<Json> = steps[..10]
        .iter()
        .filter(|step| !step["verb"].as_str().is_some_and(|verb| verb == "rename" || verb == "remove"))
        .cloned()
        .collect();
    allowed(&rw(&folders), &same).await;
}

async fn e6_files_that_hang_or_show_the_host() {
    let folders = Folders::new();
    let made = Command::new("mkfifo").arg(folders.data().join("pipe")).status();
    assert!(made.is_ok_and(|status| status.success()), "a FIFO is made");
    let _socket = UnixListener::bind(folders.data().join("socket")).expect("a socket is made");
    for (rule, mode) in [(ro(&folders), "read"), (rw(&folders), "read and written")] {
        for path in ["/m/pipe", "/m/socket"] {
            refused(
                &folders,
                &rule.clone().limit("wall_ms_max", 2_000),
                "denied.fs",
                &[step("read", path), write(path, "x")],
            )
            .await;
        }
        assert_eq!(does(&rule, json!([step("read", "/m/note.md")])).await.0, ["ok hello"], "{mode}");
    }
    let steps = [step("remove", "/m/pipe"), two("rename", "/m/pipe", "/m/x"), two("rename", "/m/note.md", "/m/pipe")];
    refused(&folders, &rw(&folders), "denied.fs", &steps).await;
    // Devices, and files that are views into the kernel, where an operator mounts what holds them.
    for (dir, path) in [("/dev", "/d/zero"), ("/dev", "/d/null"), ("/proc/self", "/d/environ"), ("/proc", "/d/version")]
    {
        let rule = all(Rule::default().reads("/d", Path::new(dir)).limit("wall_ms_max", 2_000));
        let outcome = run("probe.files", json!({"steps": [step("read", path)]}), &rule).await;
        assert_eq!((kind(&outcome), codes(&outcome)), (None, vec!["denied.fs"]), "{path}: {outcome:?}");
    }
}

async fn e7_more_than_a_call_may_write() {
    let folders = Folders::new();
    let few = rw(&folders).limit("file_entries_max", 50).limit("file_bytes_max", 1_000_000);
    let floods = [
        times("write", "/m/f", 1_000_000),
        times("make_dir", "/m/f", 1_000_000),
        times("deepen", "/m", 100),
        at("patch", "/m/note.md", 1 << 40, "x"),
        at("resize", "/m/note.md", 1 << 40, ""),
        write("/m/large", &"x".repeat(200_000)),
    ];
    for flood in &floods {
        let rule = if flood["path"] == "/m/large" { few.clone().limit("file_bytes_max", 100_000) } else { few.clone() };
        let before = everything(folders.outer());
        let args = json!({"steps": [flood], "end": "fail"});
        let outcome = run("probe.files-then", args, &all(rule)).await;
        let failure = outcome.result.as_ref().expect_err("the tool says that it failed");
        assert_eq!(failure.kind, Kind::ToolDeclared, "{flood}: {failure:?}");
        assert_eq!(codes(&outcome), ["limit.fs"], "{flood}: {failure:?}");
        assert_eq!(everything(folders.outer()), before, "{flood}");
    }
    // With room they pass. A hole takes none on the disk, and counts all the same.
    let much = rw(&folders).limit("file_entries_max", 200).limit("file_bytes_max", 1 << 30);
    allowed(&much, &[times("write", "/m/f", 100), times("make_dir", "/m/d", 100), times("deepen", "/m", 100)]).await;
    allowed(&much, &[at("patch", "/m/note.md", 1 << 29, "x"), at("resize", "/m/note.md", 1_000, "")]).await;
}

async fn e7_what_is_copied_to_be_changed_counts() {
    let folders = Folders::new();
    fs::write(folders.data().join("large"), vec![b'x'; 200_000]).expect("a file is written");
    let small = rw(&folders).limit("file_bytes_max", 100_000);
    let steps =
        [at("append", "/m/large", 0, "x"), at("patch", "/m/large", 0, "x"), two("rename", "/m/large", "/m/moved")];
    refused(&folders, &small, "limit.fs", &steps).await;
    // To empty it, or to take it away, needs no copy.
    allowed(&small, &[write("/m/large", "small now")]).await;
    fs::write(folders.data().join("large"), vec![b'x'; 200_000]).expect("a file is written");
    allowed(&small, &[step("remove", "/m/large")]).await;
    fs::write(folders.data().join("large"), vec![b'x'; 200_000]).expect("a file is written");
    allowed(&rw(&folders).limit("file_bytes_max", 300_000), &steps).await;
}

async fn e7_directories_without_end() {
    let folders = Folders::new();
    let rule = rw(&folders).limit("file_entries_max", 10_000);
    let (told, outcome) = does(&rule, json!([times("deepen", "/m", 1_000)])).await;
    assert!(told[0].contains("at depth 128"), "{told:?}");
    assert_eq!(codes(&outcome), ["invalid.path"]);
    let steps = json!([step("make_dir", "/m/x"), times("deepen", "/m/x", 10)]);
    assert_eq!(does(&rule, steps).await.0, ["ok", "ok"]);
}

async fn e9_paths_that_are_none() {
    let folders = Folders::new();
    let (name, long) = (format!("/m/{}", "n".repeat(256)), format!("/m/{}", "a/".repeat(2_500)));
    let huge = format!("/m/{}", "a/".repeat(500_000));
    for path in [&name, &long, &huge] {
        for rule in [ro(&folders), rw(&folders)] {
            let rule = rule.limit("input_bytes_max", 4 << 20);
            refused(&folders, &rule, "invalid.path", &[step("read", path)]).await;
        }
        refused(&folders, &rw(&folders).limit("input_bytes_max", 4 << 20), "invalid.path", &[write(path, "x")]).await;
    }
    allowed(&rw(&folders), &[write(&format!("/m/{}", "n".repeat(255)), "x")]).await;
    // On Linux names are bytes: a letter in one piece and the same letter in two are two files, as for any program.
    let (nfc, nfd) = ("/m/\u{e9}", "/m/e\u{301}");
    let (told, _) =
        does(&rw(&folders), json!([write(nfc, "one"), write(nfd, "two"), step("read", nfc), step("read", nfd)])).await;
    assert_eq!(told, ["ok", "ok", "ok one", "ok two"]);
}

/// A guest that opens the path that stands in its memory, byte for byte, and returns what `open-at` said: 0 for success,
/// else 1 + the error code.
fn opens(path: &str, bytes: usize) -> String {
    format!(
        r#"(component
          (import "wasi:filesystem/types@0.2.0" (instance $types
            (export "descriptor" (type $descriptor (sub resource)))
            (type $code' (enum {ERROR_CODES}))
            (export "error-code" (type $code (eq $code')))
            (type $at' (flags "symlink-follow"))
            (export "path-flags" (type $at (eq $at')))
            (type $how' (flags "create" "directory" "exclusive" "truncate"))
            (export "open-flags" (type $how (eq $how')))
            (type $flags' (flags "read" "write" "file-integrity-sync" "data-integrity-sync" "requested-write-sync" "mutate-directory"))
            (export "descriptor-flags" (type $flags (eq $flags')))
            (export "[method]descriptor.open-at" (func (param "self" (borrow $descriptor)) (param "path-flags" $at)
              (param "path" string) (param "open-flags" $how) (param "flags" $flags) (result (result (own $descriptor) (error $code)))))))
          (alias export $types "descriptor" (type $descriptor))
          (import "wasi:filesystem/preopens@0.2.0" (instance $preopens
            (alias outer 1 $descriptor (type $d))
            (export "descriptor" (type $descriptor (eq $d)))
            (export "get-directories" (func (result (list (tuple (own $descriptor) string)))))))
          (core module $libc
            (memory (export "memory") 1) (global $next (mut i32) (i32.const 1024))
            (data (i32.const 256) "{path}")
            (func (export "realloc") (param i32 i32 i32 i32) (result i32)
              (global.set $next (i32.add (global.get $next) (i32.const 64))) (global.get $next)))
          (core instance $libc (instantiate $libc))
          (core func $open (canon lower (func $types "[method]descriptor.open-at") (memory $libc "memory")))
          (core func $dirs (canon lower (func $preopens "get-directories") (memory $libc "memory") (realloc (func $libc "realloc"))))
          (core module $m
            (import "h" "open" (func $open (param i32 i32 i32 i32 i32 i32 i32)))
            (import "h" "dirs" (func $dirs (param i32)))
            (import "libc" "memory" (memory 1))
            (func (export "run") (result i32)
              (call $dirs (i32.const 0))
              (call $open (i32.load (i32.load (i32.const 0))) (i32.const 0) (i32.const 256) (i32.const {bytes})
                (i32.const 0) (i32.const 1) (i32.const 16))
              (if (result i32) (i32.load8_u (i32.const 16))
                (then (i32.add (i32.load8_u (i32.const 20)) (i32.const 1))) (else (i32.const 0)))))
          (core instance $h (export "open" (func $open)) (export "dirs" (func $dirs)))
          (core instance $i (instantiate $m (with "h" (instance $h)) (with "libc" (instance $libc))))
          (func (export "run") (result u32) (canon lift (core func $i "run"))))"#
    )
}

async fn e9_bytes_that_no_library_would_pass_on() {
    let folders = Folders::new();
    fs::write(folders.data().join("a"), "x").expect("a file is written");
    for rule in [ro(&folders), rw(&folders)] {
        let run = async |path: &str, bytes| {
            runner().run(call(&tool_of(&opens(path, bytes), "run"), &json!({}), &rule), Arc::new(NoLink)).await
        };
        // 10 is one more than the place of `illegal-byte-sequence`.
        let nul = run("a\\00b", 3).await;
        assert_eq!(nul.result.as_ref().ok(), Some(&json!(10)), "{nul:?}");
        assert_eq!(codes(&nul), ["invalid.path"]);
        // What is no UTF-8 is no string: it ends at the border of the component.
        let invalid = run("a\\ff\\fe", 3).await;
        assert_eq!(kind(&invalid), Some(Kind::ToolTrap), "{invalid:?}");
        assert_eq!(run("a", 1).await.result.ok(), Some(json!(0)));
    }
}

async fn e10_open_files_without_end() {
    let folders = Folders::new();
    for n in 0..200 {
        fs::write(folders.data().join(format!("f{n}")), "x").expect("a file is written");
    }
    let hold = json!({"steps": [times("hold", "/m/f", 200)]});
    for rule in [ro(&folders), rw(&folders)] {
        let (told, outcome) = does(&rule, hold["steps"].clone()).await;
        assert!(!told[0].starts_with("ok"), "{told:?}");
        assert_eq!(codes(&outcome), ["limit.handles"], "{outcome:?}");
        let more = rule.clone().limit("files_open_max", 300);
        let outcome = run("probe.files", hold.clone(), &all(more.clone().limit("handles_max", 100))).await;
        assert_eq!(kind(&outcome), Some(Kind::ToolHandles), "{outcome:?}");
        let outcome = run("probe.files", hold.clone(), &all(more)).await;
        assert_eq!(outcome.result.ok(), Some(json!(["ok 200"])));
        // One after the other is no harm: what is closed is given back.
        assert_eq!(does(&rule, json!([times("read", "/m/f", 200)])).await.0, ["ok 200"]);
        beside_who_holds_all_that_it_may(&folders, &rule).await;
    }
}

/// A neighbour opens a file while another call holds what it may, and is served.
async fn beside_who_holds_all_that_it_may(folders: &Folders, rule: &Rule) {
    let args = json!({"steps": [times("hold", "/m/f", 200)], "end": "sleep"});
    let rule = all(rule.clone()).limit("wall_ms_max", 1_500);
    let holds = runner().run(call(&tool("probe.files-then"), &args, &rule), Arc::new(NoLink));
    let neighbour = async {
        crate::guest::pause(500).await;
        run("notes.read", json!({"path": "/data/note.md"}), &Rule::default().reads("/data", &folders.data())).await
    };
    let (held, neighbour) = tokio::join!(holds, neighbour);
    assert_eq!(kind(&held), Some(Kind::ToolDeadline), "{held:?}");
    assert_eq!(codes(&held), ["limit.handles"]);
    assert_eq!(kind(&neighbour), None, "{neighbour:?}");
}

/// A guest that begins to list the mount 500 times, does `after` with each listing, and returns how often it could.
fn lists(after: &str) -> String {
    format!(
        r#"(component
          (import "wasi:filesystem/types@0.2.0" (instance $types
            (export "descriptor" (type $descriptor (sub resource)))
            (export "directory-entry-stream" (type $listing (sub resource)))
            (type $code' (enum {ERROR_CODES}))
            (export "error-code" (type $code (eq $code')))
            (export "[method]descriptor.read-directory" (func (param "self" (borrow $descriptor))
              (result (result (own $listing) (error $code)))))))
          (alias export $types "descriptor" (type $descriptor))
          (alias export $types "directory-entry-stream" (type $listing))
          (import "wasi:filesystem/preopens@0.2.0" (instance $preopens
            (alias outer 1 $descriptor (type $d))
            (export "descriptor" (type $descriptor (eq $d)))
            (export "get-directories" (func (result (list (tuple (own $descriptor) string)))))))
          (core module $libc
            (memory (export "memory") 1) (global $next (mut i32) (i32.const 1024))
            (func (export "realloc") (param i32 i32 i32 i32) (result i32)
              (global.set $next (i32.add (global.get $next) (i32.const 64))) (global.get $next)))
          (core instance $libc (instantiate $libc))
          (core func $list (canon lower (func $types "[method]descriptor.read-directory") (memory $libc "memory")))
          (core func $dirs (canon lower (func $preopens "get-directories") (memory $libc "memory") (realloc (func $libc "realloc"))))
          (core func $drop (canon resource.drop $listing))
          (core module $m
            (import "h" "list" (func $list (param i32 i32)))
            (import "h" "dirs" (func $dirs (param i32)))
            (import "h" "drop" (func $drop (param i32)))
            (import "libc" "memory" (memory 1))
            (func (export "run") (result i32) (local $n i32)
              (call $dirs (i32.const 0))
              (block $refused
                (loop $more
                  (call $list (i32.load (i32.load (i32.const 0))) (i32.const 16))
                  (br_if $refused (i32.load8_u (i32.const 16)))
                  {after}
                  (local.set $n (i32.add (local.get $n) (i32.const 1)))
                  (br_if $more (i32.lt_u (local.get $n) (i32.const 500)))))
              (local.get $n)))
          (core instance $h (export "list" (func $list)) (export "dirs" (func $dirs)) (export "drop" (func $drop)))
          (core instance $i (instantiate $m (with "h" (instance $h)) (with "libc" (instance $libc))))
          (func (export "run") (result u32) (canon lift (core func $i "run"))))"#
    )
}

async fn e10_listings_without_end() {
    let folders = Folders::new();
    for rule in [ro(&folders), rw(&folders)] {
        let run =
            async |after| runner().run(call(&tool_of(&lists(after), "run"), &json!({}), &rule), Arc::new(NoLink)).await;
        let kept = run("").await;
        assert_eq!(kept.result.as_ref().ok(), Some(&json!(16)), "{kept:?}");
        assert_eq!(codes(&kept), ["limit.handles"]);
        let dropped = run("(call $drop (i32.load (i32.const 20)))").await;
        assert_eq!(dropped.result.as_ref().ok(), Some(&json!(500)), "{dropped:?}");
        assert_eq!(codes(&dropped), [] as [&str; 0]);
    }
}

/// 20,000 rather than ten million: a listing keeps one page in the host, whatever the directory holds.
async fn e10_a_directory_of_many_entries() {
    let folders = Folders::new();
    for n in 0..20_000 {
        fs::File::create(folders.data().join(n.to_string())).expect("a file is made");
    }
    assert_eq!(does(&ro(&folders), json!([step("count", "/m")])).await.0, ["ok 20001"]);
    let steps = json!([write("/m/x", "x"), step("remove", "/m/7"), write("/m/8", "x"), step("count", "/m")]);
    assert_eq!(does(&rw(&folders), steps).await.0[3], "ok 20001");
    let few = all(rw(&folders)).limit("host_calls_max", 1_000);
    let outcome = run("probe.files", json!({"steps": [step("count", "/m")]}), &few).await;
    assert_eq!(kind(&outcome), Some(Kind::ToolHostCalls), "{outcome:?}");
}

async fn e11_a_write_that_meets_its_quota_replaces_nothing() {
    let folders = Folders::new();
    let text = "x".repeat(200_000);
    let small = rw(&folders).limit("file_bytes_max", 100_000);
    let args = json!({"path": "/m/note.md", "text": text});
    let outcome = run("notes.write", args.clone(), &all(small)).await;
    assert_eq!(kind(&outcome), Some(Kind::ToolDeclared), "{outcome:?}");
    assert_eq!((codes(&outcome), outcome.has_written), (vec!["limit.fs"], false));
    assert_eq!(folders.text("data/note.md").as_deref(), Some("hello"));
    assert_eq!(kind(&run("notes.write", args, &all(rw(&folders))).await), None);
    assert_eq!(folders.text("data/note.md"), Some(text));
}

/// Where the child finds the folder in which it writes.
const FOLDER: &str = "COFFERDAM_TEST_FILES_FOLDER";

/// Not a test of its own: the process whose files may not grow past 32 KiB. The test below starts it.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the parent speaks to its child by the environment")]
async fn full_disk_child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let rule = all(Rule::default().writes("/m", Path::new(&folder)));
    let outcome = run("notes.write", json!({"path": "/m/note.md", "text": "x".repeat(200_000)}), &rule).await;
    assert_eq!((kind(&outcome), outcome.has_written), (Some(Kind::ToolDeclared), false), "{outcome:?}");
    let outcome = run("notes.write", json!({"path": "/m/small.md", "text": "x"}), &rule).await;
    assert_eq!(kind(&outcome), None, "{outcome:?}");
}

async fn e11_a_write_that_the_disk_refuses_replaces_nothing() {
    let folders = Folders::new();
    let child = std::env::current_exe().expect("this test has a file");
    // A signal that is ignored stays so in the program that the shell becomes; then the write fails as on a full disk.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\""])
        .arg(child)
        .args(["files::full_disk_child", "--exact", "--test-threads=1"])
        .env(FOLDER, folders.data())
        .output()
        .expect("the child starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(folders.text("data/note.md").as_deref(), Some("hello"));
    assert_eq!(folders.text("data/small.md").as_deref(), Some("x"), "the child has run");
    assert!(!folders.data().join(STAGING).exists());
}

#[tokio::test]
async fn two_mounts_are_two_file_systems() {
    let (one, two_) = (Folders::new(), Folders::new());
    let rule = Rule::default().writes("/m", &one.data()).writes("/w", &two_.data());
    let (told, outcome) =
        does(&rule, json!([two("rename", "/m/note.md", "/w/x"), write("/m/a", "a"), write("/w/b", "b")])).await;
    assert!(told[0].starts_with("CrossesDevices"), "{told:?}");
    assert!(outcome.has_written && told[1..] == ["ok", "ok"], "{told:?}");
    assert_eq!([one.text("data/a"), two_.text("data/b")], [Some("a".into()), Some("b".into())]);
    // The quota is one for both.
    let (told, outcome) =
        does(&rule.limit("file_entries_max", 1), json!([write("/m/c", "c"), write("/w/d", "d")])).await;
    assert!(told[0] == "ok" && !told[1].starts_with("ok") && codes(&outcome) == ["limit.fs"], "{told:?}");
}

/// Another process swaps a directory for a link that leads out, again and again, while guests work in it.
async fn e3_a_directory_that_becomes_a_link_while_it_is_used() {
    let folders = Folders::new();
    fs::create_dir(folders.data().join("d")).expect("a folder is made");
    fs::write(folders.data().join("d/canary"), "inside").expect("a file is written");
    fs::create_dir(folders.outer().join("outside")).expect("a folder is made");
    fs::write(folders.outer().join("outside/canary"), CANARY).expect("a file is written");
    let before = everything(&folders.outer().join("outside"));
    let (is_done, data) = (Arc::new(AtomicBool::new(false)), folders.data());
    let swapping = std::thread::spawn({
        let is_done = is_done.clone();
        move || {
            let (dir, aside, link) = (data.join("d"), data.join("aside"), data.join("link"));
            symlink("../outside", &link).expect("a link is made");
            let mut swaps = 0_u64;
            while !is_done.load(Ordering::Relaxed) {
                fs::rename(&dir, &aside).expect("it is renamed");
                fs::rename(&link, &dir).expect("it is renamed");
                fs::rename(&dir, &link).expect("it is renamed");
                fs::rename(&aside, &dir).expect("it is renamed");
                swaps += 1;
                // Long enough for a call to pass, sometimes.
                std::thread::sleep(Duration::from_millis(swaps % 3));
            }
            swaps
        }
    });
    let (mut seen, mut refused, mut kept) = (0, 0, 0);
    for n in 0..60 {
        let steps = [
            step("read", "/m/d/canary"),
            write(&format!("/m/d/new{n}"), "x"),
            write("/m/d/canary", "inside"),
            step("remove", "/m/d/other"),
            step("count", "/m/d"),
            step("read", "/m/d/canary"),
        ];
        for rule in [ro(&folders), rw(&folders)] {
            let outcome = run("probe.files", json!({"steps": steps}), &all(rule)).await;
            let text = format!("{outcome:?}");
            assert!(!text.contains(CANARY), "{text}");
            seen += text.matches("ok inside").count();
            refused += outcome.denials.len();
            kept += usize::from(outcome.has_written && outcome.result.is_ok());
        }
    }
    is_done.store(true, Ordering::Relaxed);
    let swaps = swapping.join().expect("it swaps to the end");
    println!("{swaps} swaps; read inside {seen} times, refused {refused} times, kept {kept} calls");
    assert_eq!(everything(&folders.outer().join("outside")), before);
    assert!(swaps > 100 && seen > 0 && refused > 0, "{swaps} swaps, {seen} seen, {refused} refused");
}

#[tokio::test]
async fn a_leftover_of_a_dead_host_is_removed_by_the_next_call_that_writes() {
    let folders = Folders::new();
    let area = format!("{}-0-0", "0".repeat(32));
    let leftover = folders.data().join(STAGING).join(&area);
    fs::create_dir_all(&leftover).expect("a folder is made");
    fs::write(leftover.join("0"), "half").expect("a file is written");
    // Guests never see it, also where they may only read.
    for rule in [ro(&folders), rw(&folders)] {
        let paths = [format!("/m/{STAGING}"), format!("/m/{STAGING}/{area}"), format!("/m/./{STAGING}/{area}/0")];
        for path in paths {
            let (told, _) = does(&rule, json!([step("count", &path), step("read", &path), step("size", &path)])).await;
            assert!(told.iter().all(|told| !told.starts_with("ok")), "{told:?}");
        }
        assert_eq!(does(&rule, json!([step("count", "/m")])).await.0, ["ok 1"]);
    }
    assert!(leftover.exists(), "who reads removes nothing");
    allowed(&rw(&folders), &[write("/m/new", "x")]).await;
    assert!(!folders.data().join(STAGING).exists());
    assert_eq!(folders.text("data/note.md").as_deref(), Some("hello"));
}
