//! Types and signatures as WIT writes them, for people.

use std::collections::BTreeMap;

use crate::domain::{Case, Returns, ToolContract, WitType};

/// Returns `query: func(path: string) -> result<report, string>`.
pub(super) fn signature(tool: &ToolContract) -> String {
    let params: Vec<_> = tool.params.iter().map(|param| format!("{}: {}", param.name, name(&param.ty))).collect();
    format!("{}: func({}){}", tool.name.function(), params.join(", "), returns(&tool.returns))
}

fn returns(returns: &Returns) -> String {
    match returns {
        Returns::Nothing => String::new(),
        Returns::Value(ty) => format!(" -> {}", name(ty)),
        Returns::Fallible { ok, err } => format!(" -> {}", result(ok.as_ref(), err.as_ref())),
    }
}

/// Returns the definitions of the named types that `tools` use, by name.
pub(super) fn definitions(tools: &[ToolContract]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for tool in tools {
        tool.params.iter().for_each(|param| define(&param.ty, &mut found));
        match &tool.returns {
            Returns::Nothing => {}
            Returns::Value(ty) => define(ty, &mut found),
            Returns::Fallible { ok, err } => ok.iter().chain(err).for_each(|ty| define(ty, &mut found)),
        }
    }
    found
}

/// How a type is written where it is used. Types nest as deep as `registry` lets them, which is bounded.
fn name(ty: &WitType) -> String {
    match ty {
        WitType::Bool => "bool".into(),
        WitType::S8 => "s8".into(),
        WitType::S16 => "s16".into(),
        WitType::S32 => "s32".into(),
        WitType::S64 => "s64".into(),
        WitType::U8 => "u8".into(),
        WitType::U16 => "u16".into(),
        WitType::U32 => "u32".into(),
        WitType::U64 => "u64".into(),
        WitType::F32 => "f32".into(),
        WitType::F64 => "f64".into(),
        WitType::Char => "char".into(),
        WitType::String => "string".into(),
        WitType::List(item) => format!("list<{}>", name(item)),
        WitType::Tuple(items) => format!("tuple<{}>", names(items.iter())),
        WitType::Option(inner) => format!("option<{}>", name(inner)),
        WitType::Result { ok, err } => result(ok.as_deref(), err.as_deref()),
        WitType::Record { name, .. }
        | WitType::Variant { name, .. }
        | WitType::Enum { name, .. }
        | WitType::Flags { name, .. } => name.clone(),
    }
}

fn names<'a>(types: impl Iterator<Item = &'a WitType>) -> String {
    types.map(name).collect::<Vec<_>>().join(", ")
}

fn result(ok: Option<&WitType>, err: Option<&WitType>) -> String {
    match (ok, err) {
        (None, None) => "result".into(),
        (Some(ok), None) => format!("result<{}>", name(ok)),
        (ok, Some(err)) => format!("result<{}, {}>", ok.map_or_else(|| "_".into(), name), name(err)),
    }
}

fn define(ty: &WitType, found: &mut BTreeMap<String, String>) {
    match ty {
        WitType::List(inner) | WitType::Option(inner) => define(inner, found),
        WitType::Tuple(items) => items.iter().for_each(|item| define(item, found)),
        WitType::Result { ok, err } => ok.iter().chain(err).for_each(|arm| define(arm, found)),
        WitType::Record { name: of, fields } => {
            let parts = fields.iter().map(|field| format!("{}: {}", field.name, name(&field.ty))).collect();
            found.insert(of.clone(), definition("record", of, parts));
            fields.iter().for_each(|field| define(&field.ty, found));
        }
        WitType::Variant { name: of, cases } => {
            let case = |case: &Case| match &case.ty {
                Some(ty) => format!("{}({})", case.name, name(ty)),
                None => case.name.clone(),
            };
            found.insert(of.clone(), definition("variant", of, cases.iter().map(case).collect()));
            cases.iter().filter_map(|case| case.ty.as_ref()).for_each(|ty| define(ty, found));
        }
        WitType::Enum { name: of, cases } => {
            found.insert(of.clone(), definition("enum", of, cases.clone()));
        }
        WitType::Flags { name: of, flags } => {
            found.insert(of.clone(), definition("flags", of, flags.clone()));
        }
        _ => {}
    }
}

fn definition(what: &str, name: &str, parts: Vec<String>) -> String {
    format!("{what} {name} {{ {} }}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;
    use crate::domain::{Export, Field, Param};

    #[test]
    fn a_tool_is_written_as_in_wit_with_the_types_it_uses() {
        let unit = WitType::Enum { name: "unit".into(), cases: vec!["day".into(), "month".into()] };
        let fields = vec![
            Field {
                name: "rows".into(),
                ty: WitType::List(Box::new(WitType::Tuple(vec![WitType::String, WitType::F64]))),
            },
            Field { name: "by-unit".into(), ty: WitType::Option(Box::new(unit)) },
        ];
        let cases =
            vec![Case { name: "no-file".into(), ty: Some(WitType::String) }, Case { name: "empty".into(), ty: None }];
        let tool = ToolContract {
            name: "csv.query".parse().unwrap(),
            export: Export { interface: None, function: "query".into() },
            summary: String::new(),
            params: vec![
                Param { name: "path".into(), ty: WitType::String, text: String::new() },
                Param { name: "max-rows".into(), ty: WitType::Option(Box::new(WitType::U32)), text: String::new() },
            ],
            returns: Returns::Fallible {
                ok: Some(WitType::Record { name: "report".into(), fields }),
                err: Some(WitType::Variant { name: "trouble".into(), cases }),
            },
            input_schema: json!({}),
            output_schema: json!({}),
            asks: [].into(),
            effect_declared: None,
            undo: None,
            reconcile: None,
            is_internal: false,
        };
        let definitions = definitions(std::slice::from_ref(&tool));
        let text = [signature(&tool)].into_iter().chain(definitions.into_values()).collect::<Vec<_>>().join("\n");
        expect![[r#"
            query: func(path: string, max-rows: option<u32>) -> result<report, trouble>
            record report { rows: list<tuple<string, f64>>, by-unit: option<unit> }
            variant trouble { no-file(string), empty }
            enum unit { day, month }"#]]
        .assert_eq(&text);
    }
}
