//! Requests that providers take are taken; each mutant of them is refused, and the fault tells where.

use serde_json::{Value, json};

use super::super::request::Recorded;
use super::super::{FakeLlm, Protocol, shape};
use super::client::{ask, send};

/// Lists the faults of a body.
fn faults(protocol: Protocol, body: &Value) -> Vec<String> {
    let version = ("anthropic-version".to_owned(), "2023-06-01".to_owned());
    let request = Recorded::new("POST", "/", &[version], Vec::new(), body.clone());
    shape::faults(protocol, &request)
}

/// Takes the value at `pointer` away, or puts another there; at the end of a list, adds one.
fn changed(body: &Value, pointer: &str, value: Option<Value>) -> Value {
    let mut body = body.clone();
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    let key = key.replace("~1", "/");
    match (body.pointer_mut(parent).expect("the parent is there"), value) {
        (Value::Object(fields), Some(value)) => drop(fields.insert(key, value)),
        (Value::Object(fields), None) => drop(fields.remove(&key).expect("it is there")),
        (Value::Array(items), Some(value)) if key == "-" => items.push(value),
        (Value::Array(items), Some(value)) => items[key.parse::<usize>().expect("an index")] = value,
        (Value::Array(items), None) => drop(items.remove(key.parse().expect("an index"))),
        (other, _) => panic!("{other} has no parts"),
    }
    body
}

/// Changes `body` at each place, and finds a fault there.
fn check(protocol: Protocol, body: &Value, mutants: &[(&str, Option<Value>, &str)]) {
    assert_eq!(faults(protocol, body), Vec::<String>::new());
    for (pointer, value, told) in mutants {
        let mutant = changed(body, pointer, value.clone());
        let faults = faults(protocol, &mutant).join("; ");
        assert!(faults.contains(told), "{pointer} = {value:?} should tell `{told}`: {faults}");
    }
}

/// A schema as strict dialects have it.
fn strict_schema() -> Value {
    json!({
        "type": "object", "additionalProperties": false, "required": ["path", "deep"],
        "properties": {
            "path": {"type": "string", "description": "a path"},
            "deep": {"anyOf": [{"$ref": "#/$defs/pair"}, {"type": "null"}]},
        },
        "$defs": {"pair": {
            "type": "object", "additionalProperties": false, "required": ["a"],
            "properties": {"a": {"type": "array", "items": {"type": "string", "enum": ["x", "y"]}}},
        }},
    })
}

fn chat() -> Value {
    json!({
        "model": "gpt-5", "stream": true, "stream_options": {"include_usage": true}, "max_completion_tokens": 100,
        "temperature": 0.0, "store": false, "reasoning_effort": "low", "stop": ["x"], "tool_choice": "auto",
        "parallel_tool_calls": true,
        "response_format": {"type": "json_schema", "json_schema": {"name": "proposal", "strict": true, "schema": strict_schema()}},
        "tools": [
            {"type": "function", "function": {"name": "files_read", "description": "reads", "parameters": strict_schema(), "strict": true}},
            {"type": "function", "function": {"name": "loose", "parameters": {"type": "object"}, "strict": false}},
        ],
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "read two"}]},
            {"role": "assistant", "content": "", "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "files_read", "arguments": "{}"}},
                {"id": "c2", "type": "function", "function": {"name": "files_read", "arguments": "{}"}},
            ]},
            {"role": "tool", "tool_call_id": "c2", "content": "two"},
            {"role": "tool", "tool_call_id": "c1", "content": "one"},
            {"role": "user", "content": "go on"},
        ],
    })
}

#[test]
fn chat_completions_are_held_to_their_shape() {
    let schema = "/response_format/json_schema/schema";
    check(
        Protocol::Chat,
        &chat(),
        &[
            ("/model", None, "\"model\" is a required property"),
            ("/messages", None, "\"messages\" is a required property"),
            ("/messages", Some(json!([])), "`/messages`"),
            ("/max_output_tokens", Some(json!(5)), "max_output_tokens"),
            ("/max_tokens", Some(json!(5)), "``"),
            ("/max_completion_tokens", Some(json!("5")), "`/max_completion_tokens`"),
            ("/max_completion_tokens", Some(json!(0)), "`/max_completion_tokens`"),
            ("/temperature", Some(json!(2.5)), "`/temperature`"),
            ("/stream", Some(json!(false)), "`/stream`"),
            ("/stream", Some(json!("true")), "`/stream`"),
            ("/tools", None, "\"tools\" is a required property"),
            ("/tool_choice", Some(json!("any")), "`/tool_choice`"),
            ("/tools/0/function/name", Some(json!("files.read")), "`/tools/0/function/name`"),
            ("/tools/0/type", None, "`/tools/0`"),
            ("/messages/0/role", Some(json!("model")), "`/messages/0/role`"),
            ("/messages/2/reasoning_content", Some(json!("hm")), "`/messages/2`"),
            (
                "/messages/2/tool_calls/0/function/arguments",
                Some(json!({})),
                "`/messages/2/tool_calls/0/function/arguments`",
            ),
            ("/messages/3/tool_call_id", Some(json!("c9")), "`/messages/3/tool_call_id`"),
            ("/messages/4", None, "`/messages/4`: these calls must be answered before this: c1"),
            (
                "/messages/-",
                Some(json!({"role": "tool", "tool_call_id": "c1", "content": ""})),
                "`/messages/6/tool_call_id`",
            ),
            ("/response_format/json_schema/name", None, "`/response_format/json_schema`"),
            ("/response_format/json_schema/name", Some(json!("a name")), "`/response_format/json_schema/name`"),
            ("/response_format/type", Some(json!("json")), "`/response_format/type`"),
            (
                &format!("{schema}/required/0"),
                None,
                &format!("`{schema}`: `required` must include every key in properties: `path`"),
            ),
            (&format!("{schema}/required/-"), Some(json!("odd")), &format!("`{schema}`: `required` has `odd`")),
            (&format!("{schema}/additionalProperties"), None, &format!("`{schema}`: `additionalProperties`")),
            (
                &format!("{schema}/additionalProperties"),
                Some(json!({})),
                &format!("`{schema}`: `additionalProperties`"),
            ),
            (
                &format!("{schema}/properties/path/minLength"),
                Some(json!(1)),
                &format!("`{schema}/properties/path`: `minLength`"),
            ),
            (
                &format!("{schema}/properties/path/default"),
                Some(json!("")),
                &format!("`{schema}/properties/path`: `default`"),
            ),
            (&format!("{schema}/properties/path/format"), Some(json!("uri")), "`format` \"uri\""),
            (&format!("{schema}/properties/path"), Some(json!({"description": "?"})), "must have a `type`"),
            (&format!("{schema}/properties/path"), Some(json!(true)), "is an object"),
            (&format!("{schema}/properties/path"), Some(json!({"type": "text"})), "not one of JSON"),
            (&format!("{schema}/properties/path"), Some(json!({"type": "array"})), "missing `items`"),
            (&format!("{schema}/properties/path"), Some(json!({"$ref": "#/$defs/none"})), "does not lead"),
            (&format!("{schema}/properties/path"), Some(json!({"$ref": "#/$defs/pair", "title": "t"})), "beside it"),
            (
                &format!("{schema}/properties/path"),
                Some(json!({"oneOf": [{"type": "null"}]})),
                "`oneOf` is not permitted",
            ),
            (
                &format!("{schema}/$defs/pair/additionalProperties"),
                Some(json!(true)),
                &format!("`{schema}/$defs/pair`"),
            ),
            (&format!("{schema}/type"), Some(json!("array")), "the root of a strict schema"),
            ("/tools/0/function/parameters/required", Some(json!([])), "`/tools/0/function/parameters`: `required`"),
        ],
    );
}

#[test]
fn strict_schemas_have_limits() {
    let body = |schema: Value| {
        json!({
            "model": "m", "messages": [{"role": "user", "content": "hi"}],
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": true, "schema": schema}},
        })
    };
    let object = |properties: Value| {
        let required: Vec<&String> = properties.as_object().unwrap().keys().collect();
        json!({"type": "object", "additionalProperties": false, "required": required, "properties": properties})
    };
    let nested = |levels: usize| (0..levels).fold(json!({"type": "null"}), |inner, _| object(json!({ "a": inner })));
    assert_eq!(faults(Protocol::Chat, &body(nested(10))), Vec::<String>::new());
    assert!(faults(Protocol::Chat, &body(nested(11)))[0].contains("more than 10 levels"));
    let wide: Value =
        (0..5_001).map(|n| (format!("p{n}"), json!({"type": "null"}))).collect::<serde_json::Map<_, _>>().into();
    assert!(faults(Protocol::Chat, &body(object(wide)))[0].contains("5001 properties"));
    let values: Vec<String> = (0..1_001).map(|n| n.to_string()).collect();
    let many = object(json!({"a": {"type": "string", "enum": values}}));
    assert!(faults(Protocol::Chat, &body(many))[0].contains("1001 enum values"));
    let values: Vec<String> = (0..251).map(|n| format!("{n:060}")).collect();
    let long = object(json!({"a": {"type": "string", "enum": values}}));
    assert!(faults(Protocol::Chat, &body(long))[0].contains("at most 15000 letters"));
    // Objects of a choice begin differently, or with constants that differ.
    let choice = |one: Value, two: Value| {
        let nested = json!({"anyOf": [object(two), {"$ref": "#/$defs/one"}]});
        let mut schema = object(json!({"a": {"anyOf": [{"type": "null"}, nested]}}));
        schema["$defs"] = json!({"one": object(one)});
        faults(Protocol::Chat, &body(schema))
    };
    let (id, kind) = (json!({"type": "string"}), |name: &str| json!({"type": "string", "const": name}));
    assert!(choice(json!({"id": id, "x": id}), json!({"id": id, "y": id}))[0].contains("identical first keys"));
    assert!(choice(json!({"id": id}), json!({"id": kind("a")}))[0].contains("identical first keys"));
    assert!(choice(json!({"id": kind("a")}), json!({"id": kind("a")}))[0].contains("identical first keys"));
    assert_eq!(choice(json!({"id": kind("a")}), json!({"id": kind("b")})), Vec::<String>::new());
    assert_eq!(choice(json!({"x": id, "id": id}), json!({"y": id, "id": id})), Vec::<String>::new());
    // What is not strict is the model's to understand.
    let mut loose = body(json!({"type": "object", "oneOf": []}));
    loose["response_format"]["json_schema"]["strict"] = json!(false);
    assert_eq!(faults(Protocol::Chat, &loose), Vec::<String>::new());
}

fn responses() -> Value {
    json!({
        "model": "gpt-5", "store": false, "stream": true, "instructions": "be brief", "max_output_tokens": 100,
        "include": ["reasoning.encrypted_content"], "reasoning": {"effort": "low", "summary": "detailed"},
        "text": {"format": {"type": "json_schema", "name": "proposal", "strict": true, "schema": strict_schema()}},
        "tools": [{"type": "function", "name": "read", "parameters": strict_schema(), "strict": true}],
        "tool_choice": {"type": "function", "name": "read"},
        "input": [
            {"role": "user", "content": "read two"},
            {"type": "reasoning", "summary": [], "encrypted_content": "e"},
            {"type": "function_call", "call_id": "c1", "name": "read", "arguments": "{}"},
            {"type": "function_call", "call_id": "c2", "name": "read", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c2", "output": "two"},
            {"type": "function_call_output", "call_id": "c1", "output": "one"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "so"}]},
            {"role": "user", "content": [{"type": "input_text", "text": "go on"}]},
        ],
    })
}

#[test]
fn responses_are_held_to_their_shape() {
    let mut plain = ask(Protocol::Responses, false);
    plain["input"] = json!("hi");
    assert_eq!(faults(Protocol::Responses, &plain), Vec::<String>::new());
    let bounded = changed(&responses(), "/tools/0/parameters/properties/path/minimum", Some(json!(1)));
    assert_eq!(faults(Protocol::Responses, &bounded), Vec::<String>::new());
    check(
        Protocol::Responses,
        &responses(),
        &[
            ("/input", None, "\"input\" is a required property"),
            ("/input", Some(json!(7)), "`/input`"),
            ("/model", None, "\"model\" is a required property"),
            ("/messages", Some(json!([])), "messages"),
            ("/seed", Some(json!(1)), "seed"),
            ("/stop", Some(json!(["x"])), "stop"),
            ("/response_format", Some(json!({"type": "text"})), "response_format"),
            ("/max_tokens", Some(json!(100)), "max_tokens"),
            ("/max_output_tokens", Some(json!(15)), "`/max_output_tokens`"),
            ("/store", Some(json!("no")), "`/store`"),
            ("/include/0", Some(json!("reasoning")), "`/include/0`"),
            ("/reasoning/effort", Some(json!("much")), "`/reasoning"),
            ("/text/format/name", None, "`/text/format`"),
            ("/text/format/json_schema", Some(json!({})), "`/text/format`"),
            (
                "/text/format/schema/additionalProperties",
                Some(json!(true)),
                "`/text/format/schema`: `additionalProperties`",
            ),
            ("/tools/0/function", Some(json!({"name": "read"})), "`/tools/0`"),
            ("/tools/0/name", None, "`/tools/0`"),
            (
                "/tools/0/parameters/properties/path/uniqueItems",
                Some(json!(true)),
                "`/tools/0/parameters/properties/path`",
            ),
            ("/input/0/role", Some(json!("tool")), "`/input/0/role`"),
            ("/input/2/arguments", Some(json!({})), "`/input/2/arguments`"),
            ("/input/4/call_id", Some(json!("c9")), "`/input/4/call_id`: No tool call found"),
            ("/input/5", None, "these calls must be answered before this: c1"),
            ("/input/6/content/0/type", Some(json!("input_text")), "`/input/6/content/0/type`"),
            ("/input/7/content/0/type", Some(json!("text")), "`/input/7/content/0/type`"),
        ],
    );
}

fn messages() -> Value {
    let schema = json!({
        "type": "object", "additionalProperties": false, "required": ["path"],
        "properties": {"path": {"type": "string"}, "limit": {"type": ["integer", "null"]}},
    });
    json!({
        "model": "claude-sonnet-4-6", "max_tokens": 4096, "stream": true, "temperature": 1.0,
        "system": [{"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        "thinking": {"type": "enabled", "budget_tokens": 2048}, "stop_sequences": ["x"],
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": schema}},
        "tools": [{"name": "read", "description": "reads", "input_schema": schema, "strict": true}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": false},
        "messages": [
            {"role": "user", "content": "read two"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "text", "text": "I will."},
                {"type": "tool_use", "id": "t1", "name": "read", "input": {"path": "a"}},
                {"type": "tool_use", "id": "t2", "name": "read", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t2", "content": "two"},
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "one"}], "is_error": true},
                {"type": "text", "text": "go on"},
            ]},
        ],
    })
}

#[test]
fn messages_are_held_to_their_shape() {
    let schema = "/output_config/format/schema";
    check(
        Protocol::Messages,
        &messages(),
        &[
            ("/max_tokens", None, "\"max_tokens\" is a required property"),
            ("/max_tokens", Some(json!(2048)), "`/max_tokens`: `max_tokens` must be greater"),
            ("/max_completion_tokens", Some(json!(5)), "max_completion_tokens"),
            ("/response_format", Some(json!({})), "response_format"),
            ("/output_format", Some(json!({})), "output_format"),
            ("/stop", Some(json!(["x"])), "stop"),
            ("/temperature", Some(json!(1.5)), "`/temperature`"),
            ("/system", Some(json!({"text": "x"})), "`/system`"),
            ("/thinking/budget_tokens", Some(json!(100)), "`/thinking/budget_tokens`"),
            ("/tool_choice", Some(json!("auto")), "`/tool_choice`"),
            ("/tools", None, "\"tools\" is a required property"),
            ("/tools/0/input_schema", None, "`/tools/0`"),
            ("/tools/0/parameters", Some(json!({})), "`/tools/0`"),
            ("/tools/0/name", Some(json!("files.read")), "`/tools/0/name`"),
            ("/messages/0/role", Some(json!("system")), "`/messages/0/role`"),
            ("/messages/0/role", Some(json!("assistant")), "`/messages/0/role`: roles must alternate"),
            ("/messages/1", None, "`/messages/1/role`: roles must alternate"),
            ("/messages/0/content", Some(json!("")), "`/messages/0/content`"),
            ("/messages/1/content/0/signature", None, "`/messages/1/content/0`"),
            ("/messages/1/content/1/text", Some(json!("")), "`/messages/1/content/1/text`"),
            ("/messages/1/content/2/input", Some(json!("{}")), "`/messages/1/content/2/input`"),
            ("/messages/1/content/3/id", Some(json!("t1")), "ids must be unique"),
            ("/messages/2/content/0/tool_use_id", Some(json!("t9")), "`/messages/2/content/0/tool_use_id`"),
            ("/messages/2/content/0", None, "`/messages/2`: these calls must be answered before this: t2"),
            ("/messages/2/content/0/type", Some(json!("text")), "`/messages/2/content/0`"),
            (
                "/messages/2/content/-",
                Some(json!({"type": "tool_result", "tool_use_id": "t1"})),
                "must come before any other",
            ),
            ("/messages/2", None, "`/messages/2`: these calls"),
            (&format!("{schema}/additionalProperties"), None, &format!("`{schema}`: `additionalProperties`")),
            (&format!("{schema}/properties/limit/minimum"), Some(json!(1)), "`minimum` is not permitted"),
            (&format!("{schema}/properties/path/maxLength"), Some(json!(1)), "`maxLength` is not permitted"),
            (&format!("{schema}/properties/path"), Some(json!({"$ref": "#"})), "recursive schemas are not supported"),
            (
                &format!("{schema}/properties/path"),
                Some(json!({"type": "array", "items": {"type": "null"}, "minItems": 2})),
                "0 or 1",
            ),
            (
                "/tools/0/input_schema/additionalProperties",
                Some(json!(true)),
                "`/tools/0/input_schema`: `additionalProperties`",
            ),
        ],
    );
}

#[test]
fn messages_limit_what_may_be_left_out_and_what_may_be_several_things() {
    let with = |property: Value, required: bool, count: usize| {
        let mut body = messages();
        let names: Vec<String> = (0..count).map(|n| format!("p{n}")).collect();
        let properties: serde_json::Map<String, Value> =
            names.iter().map(|name| (name.clone(), property.clone())).collect();
        let schema = &mut body["output_config"]["format"]["schema"];
        schema["properties"] = properties.into();
        schema["required"] = if required { json!(names) } else { json!([]) };
        faults(Protocol::Messages, &body).join("; ")
    };
    // The tool of the request has one of each already.
    assert_eq!(with(json!({"type": "string"}), false, 23), "");
    assert!(with(json!({"type": "string"}), false, 24).contains("25 optional parameters"));
    assert_eq!(with(json!({"anyOf": [{"type": "string"}, {"type": "null"}]}), true, 15), "");
    assert!(with(json!({"type": ["string", "null"]}), true, 16).contains("17 parameters with union types"));
}

#[test]
fn messages_take_so_many_strict_tools() {
    let with = |count: usize| {
        let mut body = messages();
        body["tools"] = (0..count)
            .map(|n| {
                json!({"name": format!("t{n}"), "strict": true, "input_schema": {
                    "type": "object", "additionalProperties": false,
                }})
            })
            .collect();
        faults(Protocol::Messages, &body).join("; ")
    };
    assert_eq!(with(20), "");
    assert!(with(21).contains("`/tools`: a request has at most 20 strict tools"));
}

#[test]
fn messages_need_their_version() {
    let body = ask(Protocol::Messages, false);
    for (headers, told) in
        [(vec![], "is required"), (vec![("anthropic-version".to_owned(), "2024-01-01".to_owned())], "and not")]
    {
        let request = Recorded::new("POST", "/", &headers, Vec::new(), body.clone());
        assert!(shape::faults(Protocol::Messages, &request)[0].contains(told));
    }
}

fn gemini() -> Value {
    json!({
        "systemInstruction": {"parts": [{"text": "be brief"}]},
        "tools": [{"functionDeclarations": [{"name": "files.read", "description": null, "parametersJsonSchema": {"type": "object"}}]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["files.read"]}},
        "generationConfig": {
            "maxOutputTokens": 100, "temperature": 0.0, "topP": 1, "stopSequences": ["x"], "seed": 1,
            "responseMimeType": "application/json",
            "responseJsonSchema": {"type": "object", "properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"type": "string"}}},
            "thinkingConfig": {"includeThoughts": true, "thinkingBudget": 0},
        },
        "contents": [
            {"role": "user", "parts": [{"text": "read two"}]},
            {"role": "model", "parts": [
                {"text": "I will.", "thoughtSignature": "s"},
                {"functionCall": {"name": "files.read", "args": {"path": "a"}}, "thoughtSignature": "s"},
                {"functionCall": {"name": "files.read", "args": {}}},
            ]},
            {"role": "user", "parts": [
                {"functionResponse": {"name": "files.read", "response": {"content": "one"}}},
                {"functionResponse": {"name": "files.read", "response": {"content": "two"}}},
            ]},
        ],
    })
}

#[test]
fn gemini_is_held_to_its_shape() {
    check(
        Protocol::Gemini,
        &gemini(),
        &[
            ("/contents", None, "\"contents\" is a required property"),
            ("/messages", Some(json!([])), "messages"),
            ("/generation_config", Some(json!({})), "generation_config"),
            ("/system_instruction", Some(json!({})), "system_instruction"),
            ("/stream", Some(json!(true)), "stream"),
            ("/generationConfig/max_output_tokens", Some(json!(5)), "`/generationConfig`"),
            ("/generationConfig/maxTokens", Some(json!(5)), "`/generationConfig`"),
            ("/generationConfig/maxOutputTokens", Some(json!("5")), "`/generationConfig/maxOutputTokens`"),
            ("/generationConfig/responseMimeType", None, "`/generationConfig`"),
            ("/generationConfig/responseMimeType", Some(json!("text/plain")), "`/generationConfig/responseMimeType`"),
            ("/generationConfig/responseSchema", Some(json!({})), "`/generationConfig`"),
            (
                "/generationConfig/responseJsonSchema/properties/a/title",
                Some(json!("t")),
                "`/generationConfig/responseJsonSchema/properties/a`: beside `$ref`",
            ),
            (
                "/generationConfig/thinkingConfig/thinkingLevel",
                Some(json!("LOW")),
                "`/generationConfig/thinkingConfig`",
            ),
            ("/toolConfig/functionCallingConfig/mode", Some(json!("auto")), "`/toolConfig/functionCallingConfig/mode`"),
            ("/tools/0/functionDeclarations/0/parameters", Some(json!({})), "`/tools/0/functionDeclarations/0`"),
            (
                "/tools/0/functionDeclarations/0/name",
                Some(json!("read files")),
                "`/tools/0/functionDeclarations/0/name`",
            ),
            ("/tools/0/function", Some(json!({})), "`/tools/0`"),
            ("/contents/0/role", Some(json!("assistant")), "`/contents/0/role`"),
            ("/contents/0/parts", Some(json!([])), "`/contents/0/parts`"),
            ("/contents/0/parts/0", Some(json!({"thought": true})), "`/contents/0/parts/0`"),
            ("/contents/0", None, "`/contents/0/role`: a conversation begins"),
            ("/contents/2/parts/0", None, "`/contents/2/parts`: the function responses"),
            (
                "/contents/2/parts/0/functionResponse/response",
                Some(json!("one")),
                "`/contents/2/parts/0/functionResponse/response`",
            ),
            ("/contents/2/role", Some(json!("model")), "`/contents/2/role`"),
            ("/contents/2", None, "have no responses"),
        ],
    );
}

fn ollama() -> Value {
    json!({
        "model": "qwen3", "stream": false, "think": "low", "keep_alive": "5m", "format": {"type": "object"},
        "options": {"num_predict": 100, "temperature": 0, "stop": ["x"], "seed": 1},
        "tools": [{"type": "function", "function": {"name": "read", "description": "reads", "parameters": {"type": "object"}}}],
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "read"},
            {"role": "assistant", "tool_calls": [{"function": {"name": "read", "arguments": {"path": "a"}}}]},
            {"role": "tool", "content": "one"},
        ],
    })
}

#[test]
fn ollama_is_held_to_its_shape() {
    check(
        Protocol::Ollama,
        &ollama(),
        &[
            ("/model", None, "\"model\" is a required property"),
            ("/max_tokens", Some(json!(5)), "max_tokens"),
            ("/response_format", Some(json!({})), "response_format"),
            ("/format", Some(json!("yaml")), "`/format`"),
            ("/options/max_tokens", Some(json!(5)), "`/options`"),
            ("/options/num_predict", Some(json!("100")), "`/options/num_predict`"),
            ("/think", Some(json!("much")), "`/think`"),
            ("/messages/0/role", Some(json!("developer")), "`/messages/0/role`"),
            ("/messages/1/content", Some(json!([{"type": "text", "text": "a"}])), "`/messages/1/content`"),
            (
                "/messages/2/tool_calls/0/function/arguments",
                Some(json!("{}")),
                "`/messages/2/tool_calls/0/function/arguments`",
            ),
            ("/messages/2", None, "`/messages/2`: a message of a tool follows"),
            ("/messages/-", Some(json!({"role": "tool", "content": "two"})), "`/messages/4`"),
        ],
    );
}

#[tokio::test]
async fn a_wrong_request_is_refused_in_the_providers_way_and_is_a_fault() {
    for protocol in Protocol::ALL {
        let server = FakeLlm::start(r#"{"reply": {"text": "hi"}}"#).unwrap();
        let mut body = ask(protocol, false);
        body["surprise"] = json!(1);
        let answered = send(&server, protocol, false, &body).await;
        let error = &answered.json()["error"];
        let message = if protocol == Protocol::Ollama { error } else { &error["message"] };
        assert_eq!(answered.status, 400);
        assert!(message.as_str().unwrap().contains("surprise"), "{message}");
        assert_eq!(server.requests().len(), 1);
        let faults = server.finish().unwrap_err();
        assert!(faults.len() == 1 && faults[0].starts_with("step 1: ") && faults[0].contains("surprise"), "{faults:?}");
    }
}
