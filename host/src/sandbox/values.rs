//! JSON ⇄ WIT values. The schemas of `registry` describe the same mapping.
//!
//! Names are snake_case in JSON. Bytes are base64 text. An option is its value or null; an option in an option wraps what
//! is there as `{"some": …}`. A variant without payload is its name, with one `{"name": payload}`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number};
use wasmtime::component::Val;

use crate::domain::{Case, Field, Json, WitType, json_name};

/// Levels of nesting of arguments and results: deeper is an attack or a mistake.
const DEPTH_MAX: usize = 32;

/// Returns the WIT value of type `ty` that `json` says.
///
/// # Errors
/// Tells what was expected. Arguments were checked against the schema before; this is the last gate.
pub(super) fn to_wit(ty: &WitType, json: &Json) -> Result<Val, String> {
    lower(ty, json, 0)
}

fn lower(ty: &WitType, json: &Json, depth: usize) -> Result<Val, String> {
    if depth > DEPTH_MAX {
        return Err(format!("nested deeper than {DEPTH_MAX} levels"));
    }
    let next = |ty: &WitType, json: &Json| lower(ty, json, depth + 1);
    Ok(match ty {
        WitType::Bool => Val::Bool(json.as_bool().ok_or_else(|| expected("true or false", json))?),
        WitType::S8 => Val::S8(integer(json)?),
        WitType::S16 => Val::S16(integer(json)?),
        WitType::S32 => Val::S32(integer(json)?),
        WitType::S64 => Val::S64(integer(json)?),
        WitType::U8 => Val::U8(integer(json)?),
        WitType::U16 => Val::U16(integer(json)?),
        WitType::U32 => Val::U32(integer(json)?),
        WitType::U64 => Val::U64(integer(json)?),
        #[expect(clippy::cast_possible_truncation, reason = "a float32 parameter is the nearest one")]
        WitType::F32 => Val::Float32(json.as_f64().ok_or_else(|| expected("a number", json))? as f32),
        WitType::F64 => Val::Float64(json.as_f64().ok_or_else(|| expected("a number", json))?),
        WitType::Char => Val::Char(character(json)?),
        WitType::String => Val::String(text(json)?.to_owned()),
        WitType::List(item) if **item == WitType::U8 => {
            let bytes = STANDARD.decode(text(json)?).map_err(|e| format!("base64 text is broken: {e}"))?;
            Val::List(bytes.into_iter().map(Val::U8).collect())
        }
        WitType::List(item) => Val::List(array(json)?.iter().map(|json| next(item, json)).collect::<Result<_, _>>()?),
        WitType::Tuple(types) => {
            let items = array(json)?;
            if items.len() != types.len() {
                return Err(format!("expected {} items, found {}", types.len(), items.len()));
            }
            Val::Tuple(types.iter().zip(items).map(|(ty, json)| next(ty, json)).collect::<Result<_, _>>()?)
        }
        WitType::Option(inner) => Val::Option(option(inner, json, &next)?),
        WitType::Result { ok, err } => result(ok.as_deref(), err.as_deref(), json, &next)?,
        WitType::Record { fields, .. } => record(fields, json, &next)?,
        WitType::Variant { cases, .. } => variant(cases, json, &next)?,
        WitType::Enum { cases, .. } => Val::Enum(named(cases, text(json)?)?.clone()),
        WitType::Flags { flags, .. } => {
            Val::Flags(array(json)?.iter().map(|flag| named(flags, text(flag)?).cloned()).collect::<Result<_, _>>()?)
        }
    })
}

type Next<'a> = &'a dyn Fn(&WitType, &Json) -> Result<Val, String>;

fn option(inner: &WitType, json: &Json, next: Next) -> Result<Option<Box<Val>>, String> {
    if json.is_null() {
        return Ok(None);
    }
    let some = match inner.is_option() {
        true => json.get("some").ok_or_else(|| expected("null or `{\"some\": …}`", json))?,
        false => json,
    };
    Ok(Some(Box::new(next(inner, some)?)))
}

fn result(ok: Option<&WitType>, err: Option<&WitType>, json: &Json, next: Next) -> Result<Val, String> {
    let (name, payload) = only_field(json)?;
    let lowered = |ty: Option<&WitType>| ty.map(|ty| next(ty, payload).map(Box::new)).transpose();
    match name {
        "ok" => Ok(Val::Result(Ok(lowered(ok)?))),
        "err" => Ok(Val::Result(Err(lowered(err)?))),
        _ => Err(expected("`{\"ok\": …}` or `{\"err\": …}`", json)),
    }
}

fn record(fields: &[Field], json: &Json, next: Next) -> Result<Val, String> {
    let object = json.as_object().ok_or_else(|| expected("an object", json))?;
    let lowered = fields.iter().map(|field| {
        let key = json_name(&field.name);
        let value = match object.get(&key) {
            Some(value) => next(&field.ty, value),
            None if field.ty.is_option() => Ok(Val::Option(None)),
            None => Err("it is missing".to_owned()),
        };
        Ok((field.name.clone(), value.map_err(|e| format!("{key}: {e}"))?))
    });
    lowered.collect::<Result<_, String>>().map(Val::Record)
}

fn variant(cases: &[Case], json: &Json, next: Next) -> Result<Val, String> {
    let find = |name: &str| {
        cases
            .iter()
            .find(|case| json_name(&case.name) == name)
            .ok_or_else(|| format!("`{name}` is not one of its cases"))
    };
    if let Some(name) = json.as_str() {
        let case = find(name)?;
        return match case.ty {
            None => Ok(Val::Variant(case.name.clone(), None)),
            Some(_) => Err(format!("case `{name}` has a payload: write `{{\"{name}\": …}}`")),
        };
    }
    let (name, payload) = only_field(json)?;
    let case = find(name)?;
    let ty = case.ty.as_ref().ok_or_else(|| format!("case `{name}` has no payload: write `\"{name}\"`"))?;
    Ok(Val::Variant(case.name.clone(), Some(Box::new(next(ty, payload)?))))
}

fn only_field(json: &Json) -> Result<(&str, &Json), String> {
    let fields = json.as_object().ok_or_else(|| expected("an object with one field", json))?;
    match fields.iter().next() {
        Some((name, value)) if fields.len() == 1 => Ok((name, value)),
        _ => Err(expected("an object with one field", json)),
    }
}

fn named<'a>(names: &'a [String], json: &str) -> Result<&'a String, String> {
    names
        .iter()
        .find(|name| json_name(name) == json)
        .ok_or_else(|| format!("`{json}` is not one of {}", names.join(", ")))
}

/// Integers come as numbers, or as text where a number would lose digits on its way.
fn integer<T: TryFrom<i128>>(json: &Json) -> Result<T, String> {
    let wide = match json {
        Json::Number(n) => n.as_i128().or_else(|| whole(n.as_f64()?)),
        Json::String(text) => text.parse().ok(),
        _ => None,
    };
    wide.and_then(|wide| T::try_from(wide).ok()).ok_or_else(|| expected("an integer in its range", json))
}

/// `5.0` is an integer in JSON Schema, as long as a double holds it exactly (below 2^53).
fn whole(number: f64) -> Option<i128> {
    #[expect(clippy::cast_possible_truncation, reason = "checked on the same line")]
    (number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0).then_some(number as i128)
}

fn character(json: &Json) -> Result<char, String> {
    let mut chars = text(json)?.chars();
    match (chars.next(), chars.next()) {
        (Some(c), None) => Ok(c),
        _ => Err(expected("one character", json)),
    }
}

fn text(json: &Json) -> Result<&str, String> {
    json.as_str().ok_or_else(|| expected("text", json))
}

fn array(json: &Json) -> Result<&Vec<Json>, String> {
    json.as_array().ok_or_else(|| expected("an array", json))
}

fn expected(what: &str, found: &Json) -> String {
    let found = match found {
        Json::Null => "null",
        Json::Bool(_) => "true or false",
        Json::Number(_) => "a number",
        Json::String(_) => "text",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    };
    format!("expected {what}, found {found}")
}

/// Returns the JSON of a value of type `ty`.
///
/// # Errors
/// A value that JSON cannot hold (NaN, infinity), or one nested too deep.
pub(super) fn to_json(ty: &WitType, val: &Val) -> Result<Json, String> {
    lift(ty, val, 0)
}

fn lift(ty: &WitType, val: &Val, depth: usize) -> Result<Json, String> {
    if depth > DEPTH_MAX {
        return Err(format!("nested deeper than {DEPTH_MAX} levels"));
    }
    let next = |ty: &WitType, val: &Val| lift(ty, val, depth + 1);
    Ok(match (ty, val) {
        (_, Val::Bool(v)) => Json::from(*v),
        (_, Val::S8(v)) => Json::from(*v),
        (_, Val::S16(v)) => Json::from(*v),
        (_, Val::S32(v)) => Json::from(*v),
        (_, Val::S64(v)) => Json::from(*v),
        (_, Val::U8(v)) => Json::from(*v),
        (_, Val::U16(v)) => Json::from(*v),
        (_, Val::U32(v)) => Json::from(*v),
        (_, Val::U64(v)) => Json::from(*v),
        (_, Val::Float32(v)) => number(f64::from(*v))?,
        (_, Val::Float64(v)) => number(*v)?,
        (_, Val::Char(v)) => Json::from(v.to_string()),
        (_, Val::String(v)) => Json::from(v.as_str()),
        (WitType::List(item), Val::List(items)) if **item == WitType::U8 => Json::from(STANDARD.encode(bytes(items)?)),
        (WitType::List(item), Val::List(items)) => items.iter().map(|val| next(item, val)).collect::<Result<_, _>>()?,
        (WitType::Tuple(types), Val::Tuple(items)) => {
            types.iter().zip(items).map(|(ty, val)| next(ty, val)).collect::<Result<_, _>>()?
        }
        (WitType::Option(_), Val::Option(None)) => Json::Null,
        (WitType::Option(inner), Val::Option(Some(val))) => match inner.is_option() {
            true => field("some", next(inner, val)?),
            false => next(inner, val)?,
        },
        (WitType::Result { ok, .. }, Val::Result(Ok(val))) => {
            field("ok", payload(ok.as_deref(), val.as_deref(), &next)?)
        }
        (WitType::Result { err, .. }, Val::Result(Err(val))) => {
            field("err", payload(err.as_deref(), val.as_deref(), &next)?)
        }
        (WitType::Record { fields, .. }, Val::Record(vals)) => fields
            .iter()
            .zip(vals)
            .map(|(field, (_, val))| Ok((json_name(&field.name), next(&field.ty, val)?)))
            .collect::<Result<Map<_, _>, String>>()?
            .into(),
        (WitType::Variant { cases, .. }, Val::Variant(name, val)) => match val {
            None => Json::from(json_name(name)),
            Some(val) => {
                let ty = cases.iter().find(|case| case.name == *name).and_then(|case| case.ty.as_ref());
                field(&json_name(name), payload(ty, Some(val), &next)?)
            }
        },
        (WitType::Enum { .. }, Val::Enum(name)) => Json::from(json_name(name)),
        (WitType::Flags { .. }, Val::Flags(flags)) => flags.iter().map(|flag| json_name(flag)).collect(),
        (ty, _) => return Err(format!("a value that is not of its type {ty:?}")),
    })
}

fn payload(
    ty: Option<&WitType>,
    val: Option<&Val>,
    next: &dyn Fn(&WitType, &Val) -> Result<Json, String>,
) -> Result<Json, String> {
    match (ty, val) {
        (Some(ty), Some(val)) => next(ty, val),
        _ => Ok(Json::Null),
    }
}

fn field(name: &str, value: Json) -> Json {
    Json::Object(Map::from_iter([(name.to_owned(), value)]))
}

fn number(value: f64) -> Result<Json, String> {
    Number::from_f64(value).map(Json::Number).ok_or_else(|| format!("{value} is a number that JSON cannot hold"))
}

fn bytes(items: &[Val]) -> Result<Vec<u8>, String> {
    items
        .iter()
        .map(
            |item| {
                if let Val::U8(byte) = item { Ok(*byte) } else { Err("a list of bytes holds something else".into()) }
            },
        )
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn list(item: WitType) -> WitType {
        WitType::List(Box::new(item))
    }

    fn optional(inner: WitType) -> WitType {
        WitType::Option(Box::new(inner))
    }

    #[track_caller]
    fn round_trip(ty: &WitType, json: Json) {
        let val = to_wit(ty, &json).expect("the value fits");
        assert_eq!(to_json(ty, &val), Ok(json));
    }

    #[test]
    fn every_type_comes_back_as_it_went() {
        round_trip(&WitType::U64, json!(u64::MAX));
        round_trip(&WitType::S64, json!(i64::MIN));
        round_trip(&WitType::Char, json!("🦀"));
        round_trip(&WitType::F64, json!(-0.5));
        round_trip(&list(WitType::U8), json!("AP8="));
        round_trip(&list(WitType::String), json!([]));
        round_trip(&WitType::Tuple(vec![WitType::Bool, WitType::String]), json!([true, "x"]));
        for value in [json!(null), json!({"some": null}), json!({"some": 3})] {
            round_trip(&optional(optional(WitType::U8)), value);
        }
        let result = WitType::Result { ok: Some(Box::new(WitType::U8)), err: None };
        round_trip(&result, json!({"ok": 1}));
        round_trip(&result, json!({"err": null}));
        let record = WitType::Record {
            name: "r".into(),
            fields: vec![Field { name: "max-rows".into(), ty: optional(WitType::U32) }],
        };
        round_trip(&record, json!({"max_rows": null}));
        let cases = vec![Case { name: "not-set".into(), ty: None }, Case { name: "at".into(), ty: Some(WitType::U8) }];
        let variant = WitType::Variant { name: "v".into(), cases };
        round_trip(&variant, json!("not_set"));
        round_trip(&variant, json!({"at": 3}));
        round_trip(&WitType::Flags { name: "f".into(), flags: vec!["a-b".into(), "c".into()] }, json!(["a_b"]));
    }

    #[test]
    fn integers_may_come_as_text_and_must_fit() {
        assert_eq!(to_wit(&WitType::U64, &json!("18446744073709551615")), Ok(Val::U64(u64::MAX)));
        assert_eq!(to_wit(&WitType::U8, &json!(5.0)), Ok(Val::U8(5)));
        for (ty, bad) in [
            (WitType::U8, json!(256)),
            (WitType::U64, json!(-1)),
            (WitType::S32, json!(1.5)),
            (WitType::U8, json!("x")),
        ] {
            assert!(to_wit(&ty, &bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_json_cannot_hold_is_refused() {
        assert!(to_json(&WitType::F64, &Val::Float64(f64::NAN)).is_err());
        assert!(to_json(&WitType::F32, &Val::Float32(f32::INFINITY)).is_err());
    }

    #[test]
    fn an_absent_option_is_none() {
        let record =
            WitType::Record { name: "r".into(), fields: vec![Field { name: "a".into(), ty: optional(WitType::U8) }] };
        assert_eq!(to_wit(&record, &json!({})), Ok(Val::Record(vec![("a".into(), Val::Option(None))])));
    }
}
