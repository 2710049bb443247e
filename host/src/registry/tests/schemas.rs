//! The JSON form of each WIT type, by what its schema takes and refuses.

use serde_json::{Value, json};

use crate::domain::Kind;

use super::*;

/// Expects the schema of a parameter `v: ty`, and that it takes and refuses these values.
#[track_caller]
fn check(decls: &str, ty: &str, schema: &Value, takes: &[Value], refuses: &[Value]) {
    let tool =
        tool(&format!("package a:b; interface i {{ {decls} f: func(v: {ty}) -> {ty}; }} world w {{ export i; }}"));
    assert_eq!(&tool.tool().input_schema["properties"]["v"], schema);
    let mut output = tool.tool().output_schema.clone();
    let dialect = output.as_object_mut().unwrap().remove("$schema");
    assert_eq!(dialect, Some(json!("https://json-schema.org/draft/2020-12/schema")));
    assert_eq!(&output, schema);
    for value in takes {
        tool.check_input(&json!({"v": value})).unwrap();
        tool.check_output(value).unwrap();
    }
    for value in refuses {
        assert!(tool.check_input(&json!({"v": value})).is_err(), "took {value}");
        assert_eq!(tool.check_output(value).unwrap_err().kind, Kind::ToolContract);
    }
}

#[test]
fn scalars() {
    check("", "bool", &json!({"type": "boolean"}), &[json!(true)], &[json!(1), json!(null)]);
    check(
        "",
        "s8",
        &json!({"type": "integer", "minimum": -128, "maximum": 127}),
        &[json!(-128)],
        &[json!(128), json!(1.5)],
    );
    check(
        "",
        "u32",
        &json!({"type": "integer", "minimum": 0, "maximum": 4_294_967_295_u32}),
        &[json!(0)],
        &[json!(-1), json!("1")],
    );
    check("", "f32", &json!({"type": "number"}), &[json!(1.5), json!(1)], &[json!("NaN")]);
    check(
        "",
        "char",
        &json!({"type": "string", "minLength": 1, "maxLength": 1}),
        &[json!("é")],
        &[json!(""), json!("ab")],
    );
    check("", "string", &json!({"type": "string"}), &[json!("")], &[json!(null)]);
}

#[test]
fn integers_of_64_bits_may_be_digits() {
    let u64s =
        json!({"type": ["integer", "string"], "minimum": 0, "maximum": u64::MAX, "pattern": "^(0|[1-9][0-9]{0,19})$"});
    check(
        "",
        "u64",
        &u64s,
        &[json!(u64::MAX), json!("18446744073709551615")],
        &[json!(-1), json!("-1"), json!("1.0"), json!("")],
    );
    let s64s = json!({"type": ["integer", "string"], "minimum": i64::MIN, "maximum": i64::MAX, "pattern": "^-?(0|[1-9][0-9]{0,18})$"});
    check("", "s64", &s64s, &[json!(i64::MIN), json!("-9")], &[json!(u64::MAX), json!("+1"), json!("1\n2")]);
}

#[test]
fn lists_and_tuples() {
    check("", "list<u8>", &json!({"type": "string", "contentEncoding": "base64"}), &[json!("aGk=")], &[json!([1])]);
    check(
        "type bytes = list<u8>;",
        "bytes",
        &json!({"type": "string", "contentEncoding": "base64"}),
        &[json!("")],
        &[],
    );
    check(
        "",
        "list<bool>",
        &json!({"type": "array", "items": {"type": "boolean"}}),
        &[json!([]), json!([true])],
        &[json!([1])],
    );
    let tuple = json!({"type": "array", "prefixItems": [{"type": "boolean"}, {"type": "string"}], "items": false, "minItems": 2});
    check("", "tuple<bool, string>", &tuple, &[json!([true, ""])], &[json!([true]), json!([true, "", 1])]);
}

#[test]
fn options_and_options_of_options() {
    check("", "option<string>", &json!({"type": ["string", "null"]}), &[json!(null), json!("")], &[json!(1)]);
    let nested = json!({"type": ["object", "null"], "properties": {"some": {"type": ["boolean", "null"]}}, "required": ["some"], "additionalProperties": false});
    check(
        "",
        "option<option<bool>>",
        &nested,
        &[json!(null), json!({"some": null}), json!({"some": true})],
        &[json!(true), json!({})],
    );
    let level = json!({"type": ["string", "null"], "enum": ["low", "high", null]});
    check("enum level { low, high }", "option<level>", &level, &[json!(null), json!("low")], &[json!("mid")]);
    let either = json!({"anyOf": [{"anyOf": [{"type": "string", "const": "none"}]}, {"type": "null"}]});
    check("variant v1 { none }", "option<v1>", &either, &[json!(null), json!("none")], &[json!("other")]);
}

#[test]
fn records_have_snake_case_keys_and_may_leave_options_out() {
    let schema = json!({
        "type": "object",
        "properties": {"max_rows": {"type": "boolean"}, "note": {"type": ["string", "null"]}},
        "required": ["max_rows"],
        "additionalProperties": false,
    });
    let takes = [json!({"max_rows": true}), json!({"max_rows": true, "note": null})];
    let refuses = [json!({"note": ""}), json!({"max_rows": true, "x": 1}), json!({"max-rows": true})];
    check("record r { max-rows: bool, note: option<string> }", "r", &schema, &takes, &refuses);
}

#[test]
fn variants_enums_flags_and_results() {
    let schema = json!({"anyOf": [
        {"type": "string", "const": "not_found"},
        {"type": "object", "properties": {"bad_row": {"type": "boolean"}}, "required": ["bad_row"], "additionalProperties": false},
    ]});
    let takes = [json!("not_found"), json!({"bad_row": true})];
    check(
        "variant v1 { not-found, bad-row(bool) }",
        "v1",
        &schema,
        &takes,
        &[json!({"not_found": null}), json!("bad_row"), json!({})],
    );
    check("enum e { a-b, c }", "e", &json!({"type": "string", "enum": ["a_b", "c"]}), &[json!("a_b")], &[json!("a-b")]);
    let flags = json!({"type": "array", "items": {"type": "string", "enum": ["read", "write"]}, "uniqueItems": true});
    check(
        "flags fl { read, write }",
        "fl",
        &flags,
        &[json!([]), json!(["write", "read"])],
        &[json!(["read", "read"]), json!(["x"])],
    );
    let pair = json!({"anyOf": [
        {"type": "object", "properties": {"ok": {"type": "null"}}, "required": ["ok"], "additionalProperties": false},
        {"type": "object", "properties": {"err": {"type": "string"}}, "required": ["err"], "additionalProperties": false},
    ]});
    check(
        "",
        "list<result<_, string>>",
        &json!({"type": "array", "items": pair}),
        &[json!([{"ok": null}, {"err": ""}])],
        &[json!([{"ok": 1}])],
    );
}

#[test]
fn the_result_is_the_ok_side() {
    let output = |returns: &str| {
        tool(&format!("package a:b; world w {{ export f: func() {returns}; }}")).tool().output_schema["type"].clone()
    };
    assert_eq!(output(""), "null");
    assert_eq!(output("-> result"), "null");
    assert_eq!(output("-> result<bool, string>"), "boolean");
}

#[test]
fn arguments_that_do_not_fit_are_listed_by_pointer_and_not_echoed() {
    let tool =
        tool("package a:b; world w { export f: func(rows: list<u8>, limits: list<u32>, name: option<string>); }");
    let huge = "x".repeat(1_000_000);
    let failure = tool.check_input(&json!({"rows": 1, "limits": [1, huge, -2], "extra": huge})).unwrap_err();
    assert_eq!(failure.kind, Kind::DataInput);
    for text in ["at /rows:", "at /limits/1:", "at /limits/2:", "'extra'"] {
        assert!(failure.message.contains(text), "expected {text} in {}", failure.message);
    }
    assert!(!failure.message.contains("xxx"));
    let many = tool.check_input(&json!({"rows": "", "limits": vec!["a"; 1_000]})).unwrap_err();
    assert_eq!(many.message.matches("at /limits/").count(), 8);
    let key = tool.check_input(&json!({"rows": "", "limits": [], huge.as_str(): 1})).unwrap_err();
    assert!(key.message.len() < 1_000);
}

#[test]
fn descriptions_of_cases_are_listed() {
    let wit = "package a:b; interface i { enum e { a-b, c } f: func(v: e); } world w { export i; }";
    let manifest = r#"{"manifest":0,"component":"s","types":{"e":{"text":"One.","fields":{"a-b":"First."}}}}"#;
    let contract = described(&with_manifest(component(wit), manifest));
    assert_eq!(contract.tools[0].input_schema["properties"]["v"]["description"], "One.\n`a_b`: First.");
}
