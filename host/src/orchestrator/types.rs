//! Does a value, references included, fit a WIT type? Asked of a whole plan before its first step.
//!
//! A reference stands for a value of the type that its step returns at that path. Constraints (ranges, patterns) are
//! checked later, on the resolved value, by the tool's own schema.

use crate::domain::{Case, Json, Returns, WitType, json_name, literal};

/// What an open part of a plan will stand for, as far as that is known before anything runs.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Brought {
    Type(WitType),
    /// The value itself.
    Value(Json),
    /// Known only when it is there.
    Any,
}

impl Brought {
    /// Returns what a tool's call brings.
    ///
    /// # Errors
    /// Where it returns nothing.
    pub(super) fn by(returns: &Returns) -> Result<Self, String> {
        match returns {
            Returns::Value(ty) | Returns::Fallible { ok: Some(ty), .. } => Ok(Self::Type(ty.clone())),
            Returns::Nothing | Returns::Fallible { ok: None, .. } => Err("that step returns nothing".into()),
        }
    }

    /// Returns the part that a JSON pointer leads to.
    ///
    /// # Errors
    /// Names the part of the path that is not there.
    pub(super) fn at(self, path: &str) -> Result<Self, String> {
        match self {
            Self::Any => Ok(Self::Any),
            Self::Value(value) => {
                let part = value.pointer(path).cloned();
                part.map(Self::Value).ok_or_else(|| format!("there is nothing at `{path}`"))
            }
            Self::Type(mut ty) => {
                for part in path.split('/').skip(1) {
                    ty = into(ty, &part.replace("~1", "/").replace("~0", "~"))?;
                }
                Ok(Self::Type(ty))
            }
        }
    }

    /// Adds to `flaws` where it does not fit `ty`.
    fn fit(&self, ty: &WitType, at: &str, flaws: &mut Vec<Misfit>) {
        match self {
            Self::Any => {}
            Self::Value(value) => fit_value(ty, value, at, None, flaws),
            Self::Type(found) if is_assignable(ty, found) => {}
            Self::Type(found) => {
                flaws.push(Misfit::new(at, format!("expects {}, and the reference brings {}", name(ty), name(found))));
            }
        }
    }
}

fn into(ty: WitType, part: &str) -> Result<WitType, String> {
    match ty {
        WitType::Record { name, fields } => {
            let names: Vec<_> = fields.iter().map(|field| json_name(&field.name)).collect();
            let field = fields.into_iter().find(|field| json_name(&field.name) == part);
            field
                .map(|field| field.ty)
                .ok_or_else(|| format!("`{part}` is not a field of `{name}`, which has {}", names.join(", ")))
        }
        WitType::List(item) => match part.parse::<usize>() {
            Ok(_) => Ok(*item),
            Err(_) => Err(format!("`{part}` is not the number of an item")),
        },
        WitType::Tuple(types) => {
            let count = types.len();
            let item = part.parse::<usize>().ok().and_then(|n| types.into_iter().nth(n));
            item.ok_or_else(|| format!("`{part}` is not the number of one of {count} items"))
        }
        // What is there may be absent: that is seen when the step has run.
        WitType::Option(inner) => into(*inner, part),
        WitType::Result { ok, err } => {
            let arm = match part {
                "ok" => ok,
                "err" => err,
                _ => None,
            };
            arm.map(|ty| *ty).ok_or_else(|| format!("`{part}` is not `ok` or `err`"))
        }
        WitType::Variant { cases, name } => {
            let case = cases.into_iter().find(|case| json_name(&case.name) == part);
            case.and_then(|case| case.ty).ok_or_else(|| format!("`{part}` is not a case of `{name}` with a value"))
        }
        other => Err(format!("`{part}` goes into {}, which has no parts", name(&other))),
    }
}

/// A place in a value (JSON pointer), and what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Misfit {
    pub at: String,
    pub what: String,
}

impl Misfit {
    fn new(at: &str, what: impl Into<String>) -> Self {
        Self { at: at.to_owned(), what: what.into() }
    }
}

/// Returns the pointer to a field of what `at` points to.
pub(super) fn below(at: &str, key: &str) -> String {
    format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// Looks up what an open part may stand for, each of which must fit; nothing for a value that is no open part. `None` where
/// values are plain data, and nothing is open.
pub(super) type Open<'a> = Option<&'a dyn Fn(&Json) -> Result<Option<Vec<Brought>>, String>>;

/// Adds to `flaws` each place (JSON pointer) where `value` cannot be of type `ty`.
pub(super) fn fit(ty: &WitType, value: &Json, at: &str, open: Open<'_>, flaws: &mut Vec<Misfit>) {
    let Some(look_up) = open else { return fit_value(ty, value, at, None, flaws) };
    if let Some(data) = literal(value) {
        return fit_value(ty, data, at, None, flaws);
    }
    match look_up(value) {
        Err(flaw) => flaws.push(Misfit::new(at, flaw)),
        Ok(None) => fit_value(ty, value, at, open, flaws),
        Ok(Some(brought)) => {
            brought.iter().for_each(|brought| brought.fit(ty, at, flaws));
            // What is taken where the step brings nothing.
            if let Some(default) = value.get("default") {
                fit_value(ty, default, &format!("{at}/default"), None, flaws);
            }
        }
    }
}

fn fit_value(ty: &WitType, value: &Json, at: &str, open: Open<'_>, flaws: &mut Vec<Misfit>) {
    let is_fit = match (ty, value) {
        (WitType::Option(_), Json::Null) => true,
        (WitType::Option(inner), _) if inner.is_option() => return field_of(value, "some", inner, at, open, flaws),
        (WitType::Option(inner), _) => return fit(inner, value, at, open, flaws),
        (WitType::List(item), Json::String(_)) => **item == WitType::U8,
        (WitType::List(item), Json::Array(items)) if **item != WitType::U8 => {
            for (n, value) in items.iter().enumerate() {
                fit(item, value, &format!("{at}/{n}"), open, flaws);
            }
            return;
        }
        (WitType::Tuple(types), Json::Array(items)) if types.len() == items.len() => {
            for (n, (ty, value)) in types.iter().zip(items).enumerate() {
                fit(ty, value, &format!("{at}/{n}"), open, flaws);
            }
            return;
        }
        (WitType::Record { fields, .. }, Json::Object(_)) => {
            let fields: Vec<_> = fields.iter().map(|field| (field.name.as_str(), &field.ty)).collect();
            return fit_fields(&fields, value, at, open, flaws);
        }
        (WitType::Variant { cases, .. }, _) => return fit_variant(cases, value, at, open, flaws),
        (WitType::Result { ok, err }, Json::Object(_)) => {
            let case = |name: &str, ty: &Option<Box<WitType>>| Case { name: name.into(), ty: ty.as_deref().cloned() };
            return fit_variant(&[case("ok", ok), case("err", err)], value, at, open, flaws);
        }
        (WitType::Enum { cases, .. }, Json::String(text)) => cases.iter().any(|case| json_name(case) == *text),
        (WitType::Flags { flags, .. }, Json::Array(items)) => {
            items.iter().all(|item| item.as_str().is_some_and(|text| flags.iter().any(|flag| json_name(flag) == text)))
        }
        _ => fits_scalar(ty, value),
    };
    if !is_fit {
        flaws.push(Misfit::new(at, format!("expects {}", name(ty))));
    }
}

fn fits_scalar(ty: &WitType, value: &Json) -> bool {
    match (ty, value) {
        (WitType::Bool, Json::Bool(_))
        | (WitType::String, Json::String(_))
        | (WitType::F32 | WitType::F64, Json::Number(_)) => true,
        (WitType::Char, Json::String(text)) => text.chars().count() == 1,
        (_, Json::Number(number)) => {
            range(ty).is_some_and(|(low, high)| number.as_i128().is_some_and(|n| (low..=high).contains(&n)))
        }
        (WitType::S64 | WitType::U64, Json::String(text)) => {
            range(ty).is_some_and(|(low, high)| text.parse::<i128>().is_ok_and(|n| (low..=high).contains(&n)))
        }
        _ => false,
    }
}

/// Least and greatest value of an integer type.
fn range(ty: &WitType) -> Option<(i128, i128)> {
    Some(match ty {
        WitType::S8 => (i8::MIN.into(), i8::MAX.into()),
        WitType::S16 => (i16::MIN.into(), i16::MAX.into()),
        WitType::S32 => (i32::MIN.into(), i32::MAX.into()),
        WitType::S64 => (i64::MIN.into(), i64::MAX.into()),
        WitType::U8 => (0, u8::MAX.into()),
        WitType::U16 => (0, u16::MAX.into()),
        WitType::U32 => (0, u32::MAX.into()),
        WitType::U64 => (0, u64::MAX.into()),
        _ => return None,
    })
}

fn fit_variant(cases: &[Case], value: &Json, at: &str, open: Open<'_>, flaws: &mut Vec<Misfit>) {
    let named = |name: &str| cases.iter().find(|case| json_name(&case.name) == name);
    match value {
        Json::String(text) if named(text).is_some_and(|case| case.ty.is_none()) => {}
        Json::Object(fields) if fields.len() == 1 => {
            for (key, value) in fields {
                match named(key) {
                    Some(Case { ty: Some(ty), .. }) => fit(ty, value, &below(at, key), open, flaws),
                    Some(_) => {}
                    None => flaws.push(Misfit::new(at, format!("`{key}` is not a case"))),
                }
            }
        }
        _ => {
            let names: Vec<_> = cases.iter().map(|case| json_name(&case.name)).collect();
            flaws.push(Misfit::new(at, format!("expects one of the cases {}", names.join(", "))));
        }
    }
}

fn field_of(value: &Json, key: &str, ty: &WitType, at: &str, open: Open<'_>, flaws: &mut Vec<Misfit>) {
    match value.get(key) {
        Some(value) => fit(ty, value, &below(at, key), open, flaws),
        None => flaws.push(Misfit::new(at, format!("expects null or an object with `{key}`"))),
    }
}

/// Checks an object against named types: unknown keys, missing ones, and each value.
pub(super) fn fit_fields(fields: &[(&str, &WitType)], value: &Json, at: &str, open: Open<'_>, flaws: &mut Vec<Misfit>) {
    let Some(object) = value.as_object() else {
        flaws.push(Misfit::new(at, "expects an object"));
        return;
    };
    let known: Vec<String> = fields.iter().map(|(name, _)| json_name(name)).collect();
    for key in object.keys().filter(|key| !known.contains(key)) {
        flaws.push(Misfit::new(&below(at, key), format!("is not known; there are {}", known.join(", "))));
    }
    for ((_, ty), key) in fields.iter().zip(&known) {
        match object.get(key) {
            Some(value) => fit(ty, value, &below(at, key), open, flaws),
            None if ty.is_option() => {}
            None => flaws.push(Misfit::new(at, format!("`{key}` is missing"))),
        }
    }
}

/// Whether a value of type `from` may stand where `to` is expected. Integers may widen or narrow: their value is checked
/// when it is there.
fn is_assignable(to: &WitType, from: &WitType) -> bool {
    match (to, from) {
        (WitType::Option(to), WitType::Option(from)) => is_assignable(to, from),
        (WitType::Option(to), from) => is_assignable(to, from),
        // It may be absent: seen when it is there.
        (to, WitType::Option(from)) => is_assignable(to, from),
        (WitType::List(to), WitType::List(from)) => is_assignable(to, from),
        (WitType::Tuple(to), WitType::Tuple(from)) => {
            to.len() == from.len() && to.iter().zip(from).all(|(t, f)| is_assignable(t, f))
        }
        (WitType::Record { fields: to, .. }, WitType::Record { fields: from, .. }) => {
            to.len() == from.len()
                && to.iter().all(|t| from.iter().any(|f| t.name == f.name && is_assignable(&t.ty, &f.ty)))
        }
        (WitType::F32 | WitType::F64, from) => matches!(from, WitType::F32 | WitType::F64) || range(from).is_some(),
        (to, from) if range(to).is_some() => range(from).is_some(),
        (WitType::String, WitType::Char | WitType::Enum { .. }) => true,
        (WitType::Variant { cases: to, .. }, WitType::Variant { cases: from, .. }) => to == from,
        (WitType::Enum { cases: to, .. }, WitType::Enum { cases: from, .. }) => {
            from.iter().all(|case| to.contains(case))
        }
        (WitType::Flags { flags: to, .. }, WitType::Flags { flags: from, .. }) => {
            from.iter().all(|flag| to.contains(flag))
        }
        (to, from) => to == from,
    }
}

/// The type in words.
fn name(ty: &WitType) -> String {
    match ty {
        WitType::Bool => "true or false".into(),
        WitType::F32 | WitType::F64 => "a number".into(),
        WitType::Char => "one character".into(),
        WitType::String => "text".into(),
        WitType::List(item) if **item == WitType::U8 => "bytes as base64 text".into(),
        WitType::List(item) => format!("a list of {}", name(item)),
        WitType::Tuple(types) => format!("an array of {} items", types.len()),
        WitType::Option(inner) => format!("{} or null", name(inner)),
        WitType::Result { .. } => "`ok` or `err`".into(),
        WitType::Record { name, .. } => format!("a record `{name}`"),
        WitType::Variant { name, .. } => format!("a variant `{name}`"),
        WitType::Enum { cases, .. } => {
            format!("one of {}", cases.iter().map(|case| json_name(case)).collect::<Vec<_>>().join(", "))
        }
        WitType::Flags { name, .. } => format!("flags `{name}`"),
        integer => {
            range(integer).map_or_else(|| "a value".into(), |(low, high)| format!("an integer from {low} to {high}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::Field;

    fn row() -> WitType {
        let fields = vec![
            Field { name: "total-sum".into(), ty: WitType::String },
            Field { name: "count".into(), ty: WitType::Option(Box::new(WitType::U64)) },
        ];
        WitType::Record { name: "row".into(), fields }
    }

    fn flaws(ty: &WitType, value: &Json, referred: &WitType) -> Vec<String> {
        let mut flaws = Vec::new();
        let open = |value: &Json| Ok(value.get("$from").map(|_| vec![Brought::Type(referred.clone())]));
        fit(ty, value, "", Some(&open), &mut flaws);
        flaws.into_iter().map(|flaw| format!("{}: {}", flaw.at, flaw.what)).collect()
    }

    #[test]
    fn a_path_leads_through_records_and_lists() {
        let returns = Returns::Fallible { ok: Some(WitType::List(Box::new(row()))), err: None };
        let at_path = |path: &str| Brought::by(&returns)?.at(path);
        assert_eq!(at_path("/0/total_sum"), Ok(Brought::Type(WitType::String)));
        assert_eq!(at_path(""), Ok(Brought::Type(WitType::List(Box::new(row())))));
        assert!(at_path("/0/totl").unwrap_err().contains("total_sum, count"));
        assert!(at_path("/first").is_err());
        assert!(Brought::by(&Returns::Nothing).is_err());
    }

    #[test]
    fn flaws_name_their_place() {
        let value = json!({"total_sum": 3, "cuont": 1});
        assert_eq!(
            flaws(&row(), &value, &WitType::Bool),
            ["/cuont: is not known; there are total_sum, count", "/total_sum: expects text"]
        );
        assert_eq!(flaws(&row(), &json!({"total_sum": "x", "count": null}), &WitType::Bool), Vec::<String>::new());
        assert_eq!(
            flaws(&WitType::U8, &json!(256), &WitType::Bool),
            ["0: expects an integer from 0 to 255".replace("0:", ":")]
        );
    }

    #[test]
    fn a_reference_is_checked_by_the_type_it_brings() {
        let reference = json!({"$from": "s1", "path": "/x"});
        assert_eq!(flaws(&WitType::U8, &reference, &WitType::U64), Vec::<String>::new());
        assert_eq!(
            flaws(&WitType::String, &reference, &row()),
            [": expects text, and the reference brings a record `row`"]
        );
        assert_eq!(flaws(&row(), &json!({"$literal": {"total_sum": "x"}}), &WitType::Bool), Vec::<String>::new());
        // What stands under `$literal` is data, also where it looks like a reference.
        assert_eq!(flaws(&WitType::String, &json!({"$literal": reference}), &WitType::String), [": expects text"]);
    }
}
