//! The catalogue of hostile cases, and the table of it in `docs/numbers.md`, which is made from the tests.
//!
//! Every case has a test that bears its identifier (`fn a1_…`), or a reason why it does not apply. A test that bears an
//! unknown identifier fails here, as does a table that is not the one of the tests: `UPDATE_EXPECT=1` writes it anew.

#![expect(clippy::disallowed_methods, reason = "a test is asked by a variable to write its page anew")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A case: identifier, what the guest does, and why there is no test where there is none.
type Entry = (&'static str, &'static str, Option<&'static str>);

const NO_SERVER: Option<&str> = Some("there is no server yet: nothing listens");

const CATALOGUE: &[Entry] = &[
    ("a1", "loops in a call", None),
    ("a2", "loops in its start function", None),
    ("a3", "loops where it could be asked to describe itself", None),
    ("a4", "sleeps for an hour", None),
    ("a5", "sleeps in as many calls as there are places", None),
    ("a6", "polls nothing", None),
    ("a7", "makes the cheapest host call without end", None),
    ("a8", "fills memory without end", None),
    ("a9", "is called with, or passes, more than the host takes", None),
    ("a14", "goes on after its caller has left", None),
    ("a15", "waits for a server that drips or is silent", None),
    ("a17", "divides by zero, goes out of bounds, calls what is not there", None),
    ("a18", "ends the program", None),
    ("b1", "grows its memory to the end", None),
    ("b2", "starts with too much memory", None),
    ("b3", "has many memories", None),
    ("b4", "grows a table to the end", None),
    ("b5", "has ten thousand instances", None),
    ("b6", "calls itself without end", None),
    ("b7", "calls itself with huge frames", None),
    ("b8", "makes resources and never drops them", None),
    ("b9", "holds handles without end", None),
    ("b10", "passes 2 GiB to a host function", None),
    ("b12", "returns 1 GiB", None),
    ("b13", "returns text that lies outside its memory", None),
    ("b15", "allocates results where they cannot be", None),
    ("b17", "asks for 4 GiB of random bytes", None),
    ("b18", "drops twice, uses after drop, forges a handle", None),
    ("c1", "is damaged or cut off", None),
    ("c2", "is another kind of WebAssembly", None),
    ("c3", "nests loops so that compiling it never ends", None),
    ("c4", "declares locals so that compiling it never ends", None),
    ("c5", "has too many functions, types, exports or names", None),
    (
        "c7",
        "is an archive that bursts or climbs out",
        Some("no archive is unpacked: a component is one file, read up to its bound"),
    ),
    ("c8", "imports what nobody gives", None),
    ("c9", "speaks another version of WASI", None),
    ("c10", "has a manifest that is missing, doubled, huge, deep or no JSON", None),
    ("c11", "asks for less than it imports, or for more than is granted", None),
    ("c12", "is another file than the pinned one", None),
    ("c13", "lies in the cache as machine code that nobody compiled", None),
    ("c15", "tries to find out whether it is tested", None),
    ("d1", "logs a million lines, or one of 1 GiB", None),
    ("d2", "prints 100 MB", None),
    ("d4", "drives the terminal from results, logs, errors or names", None),
    ("d5", "returns what its contract does not allow", None),
    ("d6", "fails with an error of 1 GiB, or in the host's voice", None),
    ("d7", "bears the name of another, or one like it", None),
    ("d8", "instructs the model in its description", None),
    ("d9", "changes its description or schema between versions", None),
    ("d10", "brings a schema that reaches out or never matches", None),
    (
        "d12",
        "returns a picture that is none",
        Some("tools return typed values, and no face turns bytes into pictures yet"),
    ),
    ("d13", "returns a link to where the host should look", Some("the host follows nothing that a result holds")),
    ("e1", "names paths that lead out", None),
    ("e2", "follows or makes links that lead out", None),
    ("e3", "renames links, or to names with a last slash", None),
    ("e4", "changes what it may only read", None),
    ("e6", "opens what hangs: pipes, devices, sockets", None),
    ("e7", "makes a million files, deep folders, a huge hole", None),
    ("e9", "names paths with NUL, wrong UTF-8, or 1 MiB long", None),
    ("e10", "opens files without end, lists a huge folder", None),
    ("e11", "meets the quota in the middle of a write", None),
    ("f1", "asks for a host that no rule names", None),
    ("f2", "asks for another scheme, port, method or path", None),
    ("f3", "spells a host so that it looks like another", None),
    ("f4", "names addresses that are not public", None),
    ("f5", "asks for a name that leads to a private address", None),
    ("f6", "asks for a name that changes its address", None),
    ("f7", "is redirected to where it may not go", None),
    ("f9", "sets headers that are the host's", None),
    ("f10", "reads a response without end, or one that bursts", None),
    ("f11", "sends ten thousand requests", None),
    ("f13", "tells a secret to a name server", None),
    ("f14", "carries data out to where it may send", None),
    ("f15", "asks for another protocol", None),
    ("f16", "asks for URLs that are too long or hold a password", None),
    ("f17", "uses a connection of another tool or tenant", None),
    ("f18", "asks for names of this machine", None),
    ("f19", "meets a certificate that is not good", None),
    ("g1", "looks at environment, arguments and folder", None),
    ("g2", "asks for a secret that is not its own", None),
    ("g3", "sends a secret to where it does not belong", None),
    ("g4", "has a secret echoed in many forms", None),
    ("g6", "provokes errors that hold a secret", None),
    ("g8", "leaves something for the next call", None),
    ("g9", "fills a store, or reads one that is not its own", None),
    ("g10", "panics with a secret", None),
    ("g11", "measures time finely", None),
    (
        "g12",
        "talks to another tool by side channels",
        Some("bounded, not closed: docs/threat-model.md tells which channels stay"),
    ),
    ("h1", "says in a result what should be called next", None),
    ("h2", "is called with wrong arguments", None),
    (
        "h3",
        "has its result used by a tool with wider rights",
        Some("labels on data are not built yet; what a plan hands on is typed, and `once` asks a person"),
    ),
    ("h4", "attacks the server", NO_SERVER),
    (
        "h6",
        "always fails as if it could be tried again",
        Some("the host does not retry by itself yet: each step has one attempt"),
    ),
    ("h7", "is replaced while it runs", Some("a host's tools never change while it lives")),
    ("h9", "takes the name of a tool that is there", None),
    ("h10", "writes what the person who approves will read", None),
    ("h11", "names as its undo or lookup what does not fit, or is huge", None),
];

const BEGIN: &str = "<!-- made from the tests: UPDATE_EXPECT=1 cargo test -p cofferdam --test it catalogue -->\n";
const END: &str = "<!-- end of what is made from the tests -->\n";

#[test]
fn the_table_of_hostile_cases_is_made_from_the_tests() {
    let path = root().join("docs/numbers.md");
    let page = fs::read_to_string(&path).expect("the page reads");
    let (before, rest) = page.split_once(BEGIN).expect("the table has its place");
    let (_, after) = rest.split_once(END).expect("the table has an end");
    let made = format!("{before}{BEGIN}\n{}\n{END}{after}", table(&tests()));
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, &made).expect("the page is written");
    }
    assert!(made == page || std::env::var_os("UPDATE_EXPECT").is_some(), "the table is not that of the tests: {BEGIN}");
}

#[test]
fn every_case_has_a_test_or_a_reason_and_every_identifier_is_known() {
    let mut tests = tests();
    for (id, does, why_not) in CATALOGUE {
        let names = tests.remove(*id).unwrap_or_default();
        assert!(names.is_empty() == why_not.is_some(), "{id} (a guest that {does}): {names:?}, {why_not:?}");
    }
    assert!(tests.is_empty(), "no such cases: {tests:?}");
}

fn table(tests: &BTreeMap<String, Vec<String>>) -> String {
    let mut table = "| case | a guest that | held by |\n|---|---|---|\n".to_owned();
    for (id, does, why_not) in CATALOGUE {
        let names = tests.get(*id).map(|names| names.join(" ")).unwrap_or_default();
        let held = why_not.map_or(names, |why| format!("does not apply: {why}"));
        table += &format!("| {} | {does} | {held} |\n", id.to_uppercase());
    }
    table
}

/// Identifier → the tests that bear it, as `file::name`.
fn tests() -> BTreeMap<String, Vec<String>> {
    let mut tests: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for folder in ["tests/it", "host/src"] {
        for (file, text) in sources(&root().join(folder)) {
            for name in text.lines().filter_map(case) {
                let id = name.split('_').next().unwrap_or_default().to_owned();
                tests.entry(id).or_default().push(format!("`{file}::{name}`"));
            }
        }
    }
    tests.values_mut().for_each(|names| names.sort_unstable());
    tests
}

/// The name of the case that a line begins: `async fn a1_loop() {`.
fn case(line: &str) -> Option<&str> {
    let line = line.trim_start().trim_start_matches("pub ").trim_start_matches("async ");
    let name = line.strip_prefix("fn ")?.split(['(', '<']).next()?;
    let (id, _) = name.split_once('_')?;
    let is_id = id.starts_with(|c: char| ('a'..='h').contains(&c)) && id.len() > 1;
    (is_id && id[1..].bytes().all(|b| b.is_ascii_digit())).then_some(name)
}

/// Name and text of every Rust file below a folder.
pub fn sources(folder: &Path) -> Vec<(String, String)> {
    let mut sources = Vec::new();
    for entry in fs::read_dir(folder).expect("a source folder lists") {
        let path = entry.expect("an entry reads").path();
        if path.is_dir() {
            sources.extend(self::sources(&path));
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            let name = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
            sources.push((name, fs::read_to_string(&path).expect("a source file reads")));
        }
    }
    sources
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
