//! What a contract says of a component, and which components have none.

use std::collections::BTreeSet;

use serde_json::json;

use crate::domain::{Ask, Effect, Kind, Returns, WitType};

use super::*;

const TEXT: &str = "package tools:text@0.2.1;
    interface text {
        record counts { word-count: u64, lines: u64 }
        stats: func(text: string, max-rows: option<u32>) -> result<counts, string>;
        upper: func(text: string) -> string;
    }
    world w { export text; }";

#[test]
fn every_exported_function_of_plain_values_is_a_tool() {
    let bytes = component(TEXT);
    let contract = described(&bytes);
    assert_eq!(contract.component, "sample");
    assert_eq!(contract.digest, crate::domain::Digest::of(&bytes));
    assert_eq!(contract.version, "0.2.1");
    assert!(!contract.has_manifest);
    let names: Vec<_> = contract.tools.iter().map(|tool| tool.name.to_string()).collect();
    assert_eq!(names, ["sample.stats", "sample.upper"]);
    let stats = contract.tool("stats").unwrap();
    assert_eq!(stats.export.interface.as_deref(), Some("tools:text/text@0.2.1"));
    assert_eq!(stats.params[1].ty, WitType::Option(Box::new(WitType::U32)));
    assert!(
        matches!(&stats.returns, Returns::Fallible { ok: Some(WitType::Record { name, .. }), err: Some(WitType::String) } if name == "counts")
    );
}

#[test]
fn a_component_is_named_by_its_manifest_then_by_its_user_then_by_its_package() {
    let bytes = component(TEXT);
    let name = |bytes: &[u8], name| read(bytes, name, &Options::default()).unwrap().component;
    assert_eq!(name(&bytes, None), "text");
    assert_eq!(name(&bytes, Some("mine")), "mine");
    assert_eq!(name(&with_manifest(bytes, r#"{"manifest":0,"component":"own"}"#), Some("mine")), "own");
}

#[test]
fn a_component_without_any_name_is_refused() {
    let bytes = component("package a:b; world w { export run: func(); }");
    assert_eq!(read(&bytes, None, &Options::default()).unwrap_err().kind, Kind::LoadInvalid);
    let failure = read(&bytes, Some("cofferdam"), &Options::default()).unwrap_err();
    assert!(failure.message.contains("the host's own name"), "{failure}");
    let failure = read(&bytes, Some("../x"), &Options::default()).unwrap_err();
    assert!(failure.message.contains("../x"), "{failure}");
}

#[test]
fn functions_without_a_form_are_left_out_with_the_reason() {
    let bytes = component(
        "package a:b; interface i {
            resource blob { constructor(); size: func() -> u32; }
            open: func(path: string) -> blob;
            keep: func(value: borrow<blob>);
            good: func();
        } world w { export i; }",
    );
    let contract = described(&bytes);
    assert_eq!(contract.tools.len(), 1);
    let left_out: Vec<_> = contract.left_out.iter().map(|(name, why)| format!("{name}: {why}")).collect();
    assert!(left_out.contains(&"a:b/i#open: its result uses a resource".to_owned()), "{left_out:?}");
    assert!(left_out.contains(&"a:b/i#keep: its parameter `value` uses a resource".to_owned()), "{left_out:?}");
    assert!(left_out.iter().any(|line| line.contains("[constructor]blob: it belongs to a resource")), "{left_out:?}");
}

#[test]
fn types_nested_too_deep_leave_their_function_out() {
    let types: String = (1..95).map(|n| format!("type t{n} = list<t{}>;", n - 1)).collect();
    let bytes = component(&format!(
        "package a:b; interface i {{ type t0 = string; {types} deep: func(v: t94); good: func(); }} world w {{ export i; }}"
    ));
    let contract = described(&bytes);
    assert_eq!(contract.left_out[0].1, "its parameter `v` nests types deeper than 24");
}

#[test]
fn types_that_unfold_without_end_leave_their_function_out() {
    let types: String = (1..15).map(|n| format!("record t{n} {{ a: t{0}, b: t{0} }}", n - 1)).collect();
    let bytes = component(&format!(
        "package a:b; interface i {{ record t0 {{ a: u8 }} {types} wide: func(v: t14); good: func(); }} world w {{ export i; }}"
    ));
    assert_eq!(described(&bytes).left_out[0].1, "its parameter `v` takes more than 4096 types");
}

#[test]
fn one_name_in_two_interfaces_is_refused() {
    let bytes = component(
        "package a:b; interface i { run: func(); } interface j { run: func(); } world w { export i; export j; }",
    );
    check_refused(&bytes, Kind::LoadInvalid, &["`a:b/i#run`", "`a:b/j#run`", "one tool"]);
}

#[test]
fn a_component_without_tools_says_what_it_has() {
    let command = "package a:b; world w { export wasi:cli/run@0.2.3; } package wasi:cli@0.2.3 { interface run { run: func() -> result; } }";
    check_refused(&component(command), Kind::LoadAbi, &["found a command (`wasi:cli/run`)"]);
    let resources = "package a:b; interface i { resource r; open: func() -> r; } world w { export i; }";
    check_refused(
        &component(resources),
        Kind::LoadAbi,
        &["none of its exports can be a tool", "`a:b/i#open` (its result uses a resource)"],
    );
    check_refused(&component("package a:b; world w {}"), Kind::LoadInvalid, &["found none"]);
}

/// A component that imports `interface` of `package`, with one function.
fn importing(package: &str, interface: &str, item: &str) -> Vec<u8> {
    let (name, version) = package.split_once('@').unwrap();
    component(&format!(
        "package a:b; world w {{ import {name}/{interface}@{version}; export run: func(); }}
         package {package} {{ interface {interface} {{ {item} }} }}"
    ))
}

#[test]
fn imports_are_listed_and_outside_ones_are_denied_by_name() {
    let ok = importing("wasi:clocks@0.2.6", "wall-clock", "now: func() -> u64;");
    assert_eq!(described(&ok).imports, ["wasi:clocks/wall-clock@0.2.6"]);
    let types_only = component(
        "package a:b; world w { use acme:types/shapes@1.0.0.{point}; export area: func(of: point) -> u32; }
         package acme:types@1.0.0 { interface shapes { record point { x: u8 } } }",
    );
    assert_eq!(described(&types_only).imports, ["acme:types/shapes@1.0.0"]);
    for (package, interface) in [
        ("wasi:sockets@0.2.3", "tcp"),
        ("wasi:http@0.2.3", "incoming-handler"),
        ("acme:db@1.0.0", "sql"),
        ("cofferdam:tool@0.1.0", "shell"),
        ("wasi:cli@0.2.0", "exec"),
    ] {
        let version = package.split_once('@').unwrap().1;
        let full = format!("{}/{interface}@{version}", package.split_once('@').unwrap().0);
        check_refused(&importing(package, interface, "go: func();"), Kind::LoadDenied, &[&full]);
    }
    let bare = component("package a:b; world w { import shell: func(line: string); export run: func(); }");
    check_refused(&bare, Kind::LoadDenied, &["`shell`"]);
}

#[test]
fn an_import_of_another_version_names_both() {
    let newer = importing("cofferdam:tool@0.2.0", "log", "write: func(m: string);");
    check_refused(&newer, Kind::LoadAbi, &["cofferdam:tool/log@0.2.0", "version 0.1"]);
    let wasi = importing("wasi:clocks@0.3.0", "wall-clock", "now: func() -> u64;");
    check_refused(&wasi, Kind::LoadAbi, &["wasi:clocks/wall-clock@0.3.0", "version 0.2"]);
    described(&importing("cofferdam:tool@0.1.7", "log", "write: func(m: string);"));
}

#[test]
fn without_a_manifest_a_tool_asks_for_all_that_is_imported() {
    let asks = |package, interface| described(&importing(package, interface, "go: func();")).tools[0].asks.clone();
    assert_eq!(asks("wasi:filesystem@0.2.3", "types"), BTreeSet::from([Ask::FilesRead, Ask::FilesWrite]));
    assert_eq!(asks("wasi:random@0.2.3", "random"), BTreeSet::from([Ask::Random]));
    assert_eq!(asks("cofferdam:tool@0.1.0", "progress"), BTreeSet::from([Ask::Progress]));
    assert_eq!(asks("wasi:http@0.2.3", "outgoing-handler"), BTreeSet::from([Ask::Http]));
    assert_eq!(asks("wasi:io@0.2.3", "poll"), BTreeSet::new());
}

const SAID: &str = r#"{"manifest": 0, "component": "text", "version": "3.1", "summary": "Counts.\u001b[2J",
    "tools": {"stats": {"summary": "Counts words.", "params": {"text": "The text."}, "effect": "read", "asks": ["log"]}},
    "types": {"counts": {"text": "What was counted.", "fields": {"word-count": "Words."}}}}"#;

#[test]
fn a_manifest_speaks_for_tools_and_types() {
    let contract = described(&with_manifest(component(TEXT), SAID));
    assert!(contract.has_manifest);
    assert_eq!((contract.version.as_str(), contract.summary.as_str()), ("3.1", "Counts.\\u{1b}[2J"));
    let stats = contract.tool("stats").unwrap();
    assert_eq!((stats.summary.as_str(), stats.params[0].text.as_str()), ("Counts words.", "The text."));
    assert_eq!((stats.effect_declared, &stats.asks), (Some(Effect::Read), &BTreeSet::from([Ask::Log])));
    assert_eq!(stats.input_schema["properties"]["text"]["description"], "The text.");
    assert_eq!(stats.output_schema["description"], "What was counted.");
    assert_eq!(stats.output_schema["properties"]["word_count"]["description"], "Words.");
    assert_eq!(contract.tool("upper").unwrap().asks, BTreeSet::new());
}

#[test]
fn a_manifest_may_sit_in_the_core_module_but_only_once() {
    let inside = encoded(&with_manifest(core_module(TEXT), SAID));
    assert!(described(&inside).has_manifest);
    check_refused(&with_manifest(inside, SAID), Kind::LoadInvalid, &["expected one section", "found 2"]);
}

#[track_caller]
fn check_manifest(manifest: &str, kind: Kind, text: &str) {
    check_refused(&with_manifest(component(TEXT), manifest), kind, &[text]);
}

#[test]
fn a_wrong_manifest_is_refused_with_the_reason() {
    check_manifest("", Kind::LoadInvalid, "EOF");
    check_manifest("{\"manifest\":0", Kind::LoadInvalid, "EOF");
    check_manifest(r#"{"manifest":0,"component":"a","colour":1}"#, Kind::LoadInvalid, "colour");
    check_manifest(
        r#"{"manifest":0,"component":"a","tools":{"stats":{},"stats":{}}}"#,
        Kind::LoadInvalid,
        "duplicate key `stats`",
    );
    check_manifest(r#"{"manifest":1,"component":"a","more":[]}"#, Kind::LoadAbi, "version 1, and this host reads 0");
    check_manifest(r#"{"manifest":0,"component":"A b"}"#, Kind::LoadInvalid, "`A b`");
    check_manifest(r#"{"manifest":0,"component":"a","tools":{"gone":{}}}"#, Kind::LoadInvalid, "a tool `gone`");
    check_manifest(
        r#"{"manifest":0,"component":"a","tools":{"stats":{"params":{"x":""}}}}"#,
        Kind::LoadInvalid,
        "a parameter `x`",
    );
    check_manifest(r#"{"manifest":0,"component":"a","types":{"gone":{}}}"#, Kind::LoadInvalid, "a type `gone`");
    check_manifest(
        r#"{"manifest":0,"component":"a","types":{"counts":{"fields":{"x":""}}}}"#,
        Kind::LoadInvalid,
        "field or case `x`",
    );
    check_manifest(&"[".repeat(100_000), Kind::LoadInvalid, "recursion limit");
    check_manifest(&" ".repeat(10_000_000), Kind::LoadInvalid, "more than the 262144 allowed");
}

/// `book` with what takes it back and what looks it up, and others that do not fit.
const TRIPS: &str = "package tools:trips@0.1.0; interface api {
        record booking { id: string, made-for: string }
        variant found { done(booking), not-done, unknown }
        book: func(what: string) -> result<booking, string>;
        cancel: func(booking-id: string, why: option<string>) -> result<_, string>;
        find: func(key: string) -> found;
        look: func(key: string) -> option<booking>;
    } world w { export api; }";

fn trips(undo: &str, reconcile: &str) -> Vec<u8> {
    let manifest = format!(
        r#"{{"manifest":0,"component":"trips","tools":{{"cancel":{{"internal":true}},"book":{{"undo":{undo},"reconcile":{reconcile}}}}}}}"#
    );
    with_manifest(component(TRIPS), &manifest)
}

#[test]
fn a_manifest_names_the_calls_that_take_back_and_look_up() {
    let contract = described(&trips(
        r#"{"tool":"cancel","args":{"booking_id":{"$out":"/id"}}}"#,
        r#"{"tool":"trips.find","args":{"key":{"$key":""}}}"#,
    ));
    let book = contract.tool("book").unwrap();
    let undo = book.undo.as_ref().unwrap();
    assert_eq!((undo.tool.as_str(), &undo.args), ("trips.cancel", &json!({"booking_id": {"$out": "/id"}})));
    assert_eq!(book.reconcile.as_ref().unwrap().tool, "trips.find");
    assert!(contract.tool("cancel").unwrap().is_internal && !book.is_internal);
    // Of another component only the name is seen here.
    let contract = described(&trips(r#"{"tool":"mail.unsend","args":{"x":1}}"#, "null"));
    assert_eq!(contract.tool("book").unwrap().undo.as_ref().unwrap().tool, "mail.unsend");
    assert_eq!(contract.tool("book").unwrap().reconcile, None);
}

#[test]
fn h11_a_call_named_beside_a_tool_that_does_not_fit() {
    let find = r#"{"tool":"find","args":{"key":{"$key":""}}}"#;
    for (undo, expected) in [
        (r#"{"tool":"gone"}"#.to_owned(), "the undo of its tool `book`: the component exports no `gone`"),
        (r#"{"tool":"cancel"}"#.to_owned(), "it does not give `booking_id`"),
        (r#"{"tool":"cancel","args":{"booking_id":"a","more":1}}"#.to_owned(), "there is no parameter `more`"),
        (r#"{"tool":"cancel","args":{"booking_id":{"$from":"s"}}}"#.to_owned(), "`$from` is none of"),
        (r#"{"tool":"cancel","args":{"booking_id":{"$out":"id"}}}"#.to_owned(), "JSON pointer"),
        (r#"{"tool":"Cancel it!"}"#.to_owned(), "cannot be part of a tool's name"),
        (r#"{"tool":"cancel","args":[]}"#.to_owned(), "no object"),
        (r#"{"tool":"cancel","then":"more"}"#.to_owned(), "unknown field"),
        (
            format!(r#"{{"tool":"cancel","args":{{"booking_id":"{}"}}}}"#, "x".repeat(5_000)),
            "more than the 4096 allowed",
        ),
        (format!(r#"{{"tool":"cancel","args":{{"booking_id":{}1{}}}}}"#, "[".repeat(60), "]".repeat(60)), "levels"),
    ] {
        check_refused(&trips(&undo, find), Kind::LoadInvalid, &[expected]);
    }
    for (reconcile, expected) in [
        (r#"{"tool":"look","args":{"key":{"$key":""}}}"#, "does not return a variant of `done`"),
        (r#"{"tool":"find","args":{"key":{"$out":"/id"}}}"#, "`$out` is not there"),
        (r#"{"tool":"find","args":{"key":{"$key":"x"}}}"#, "empty text"),
    ] {
        check_refused(&trips("null", reconcile), Kind::LoadInvalid, &[expected]);
    }
}

#[test]
fn texts_are_cut() {
    let long = format!(r#"{{"manifest":0,"component":"a","summary":"{}"}}"#, "é\\u0007".repeat(5_000));
    let contract = described(&with_manifest(component(TEXT), &long));
    assert_eq!(contract.summary.chars().count(), 1_000);
    assert!(contract.summary.ends_with('…') && !contract.summary.contains('\u{7}'));
}
