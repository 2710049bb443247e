//! Reads what a component says of itself, and holds it to what its WIT says.
//!
//! Promises: a manifest that is here has one meaning (no unknown fields, no duplicate keys), names only what exists,
//! and holds texts that are cut and cannot drive a terminal. Whether to believe it is not decided here: it can only
//! raise what the host computes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use wit_parser::{Resolve, TypeDefKind};

use crate::domain::{Failure, Kind, Manifest, ToolManifest, TypeManifest, printable};

use super::wit::Exported;

/// Bytes of a manifest: text about a thousand functions.
const MANIFEST_BYTES_MAX: usize = 256 * 1024;
/// Version of the format that this host reads.
const MANIFEST_VERSION: u32 = 0;
/// Characters of the text about a component or a tool: planners pay for every one.
pub(super) const SUMMARY_CHARS_MAX: usize = 1_000;
/// Characters of the text about a parameter, a type, a field or a case.
pub(super) const TEXT_CHARS_MAX: usize = 500;
/// Characters of a version.
const VERSION_CHARS_MAX: usize = 64;
/// Characters of a parser's message, which may quote the manifest.
const REASON_CHARS_MAX: usize = 300;

/// Reads the contents of a manifest section.
///
/// # Errors
/// `load.invalid`; `load.abi` for a manifest of another version.
pub(super) fn parse(bytes: &[u8]) -> Result<Manifest, Failure> {
    if bytes.len() > MANIFEST_BYTES_MAX {
        let found = bytes.len();
        return Err(invalid(&format!("it has {found} bytes, more than the {MANIFEST_BYTES_MAX} allowed")));
    }
    read::<UniqueKeys>(bytes)?;
    let found = read::<Version>(bytes)?.manifest;
    if found != MANIFEST_VERSION {
        let message =
            format!("load the component: its manifest is of version {found}, and this host reads {MANIFEST_VERSION}");
        return Err(Failure::new(Kind::LoadAbi, message)
            .hint("build it with the SDK of this host's version, or use a newer host"));
    }
    Ok(shown(read(bytes)?))
}

/// Returns `text`, cut to `chars_max` characters and safe to show.
pub(super) fn clip(text: &str, chars_max: usize) -> String {
    // Escapes are longer than what they stand for, so the cut is made twice.
    let escaped = printable(&cut(text.trim(), chars_max));
    cut(&escaped, chars_max)
}

fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        None => text.to_owned(),
        Some(_) => text.chars().take(chars_max.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// Checks that everything `manifest` names exists.
///
/// # Errors
/// `load.invalid` naming what does not.
pub(super) fn check_names(manifest: &Manifest, exported: &[Exported], resolve: &Resolve) -> Result<(), Failure> {
    let functions: HashMap<&str, &Exported> = exported.iter().map(|e| (e.export.function.as_str(), e)).collect();
    for (name, tool) in &manifest.tools {
        let function = functions.get(name.as_str()).ok_or_else(|| absent(&format!("a tool `{name}`")))?;
        if let Some(param) = tool.params.keys().find(|param| !function.params.contains(param)) {
            return Err(absent(&format!("a parameter `{param}` of the tool `{name}`")));
        }
    }
    let types = members(resolve);
    for (name, ty) in &manifest.types {
        let members = types.get(name.as_str()).ok_or_else(|| absent(&format!("a type `{name}`")))?;
        if let Some(field) = ty.fields.keys().find(|field| !members.contains(field.as_str())) {
            return Err(absent(&format!("a field or case `{field}` of the type `{name}`")));
        }
    }
    Ok(())
}

/// Returns the members of every named type. Types of one name in several interfaces share their members.
fn members(resolve: &Resolve) -> HashMap<&str, HashSet<&str>> {
    let mut types: HashMap<&str, HashSet<&str>> = HashMap::new();
    for (_, def) in resolve.types.iter() {
        let Some(name) = def.name.as_deref() else { continue };
        let members = types.entry(name).or_default();
        match &def.kind {
            TypeDefKind::Record(record) => members.extend(record.fields.iter().map(|f| f.name.as_str())),
            TypeDefKind::Variant(variant) => members.extend(variant.cases.iter().map(|c| c.name.as_str())),
            TypeDefKind::Enum(cases) => members.extend(cases.cases.iter().map(|c| c.name.as_str())),
            TypeDefKind::Flags(flags) => members.extend(flags.flags.iter().map(|f| f.name.as_str())),
            _ => {}
        }
    }
    types
}

fn shown(manifest: Manifest) -> Manifest {
    let tools = manifest.tools.into_iter().map(|(name, tool)| {
        let summary = clip(&tool.summary, SUMMARY_CHARS_MAX);
        (name, ToolManifest { summary, params: texts(tool.params), ..tool })
    });
    let types = manifest.types.into_iter().map(|(name, ty)| {
        let text = clip(&ty.text, TEXT_CHARS_MAX);
        (name, TypeManifest { text, fields: texts(ty.fields) })
    });
    Manifest {
        tools: tools.collect(),
        types: types.collect(),
        summary: clip(&manifest.summary, SUMMARY_CHARS_MAX),
        version: clip(&manifest.version, VERSION_CHARS_MAX),
        ..manifest
    }
}

fn texts(texts: BTreeMap<String, String>) -> BTreeMap<String, String> {
    texts.into_iter().map(|(name, text)| (name, clip(&text, TEXT_CHARS_MAX))).collect()
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| invalid(&cut(&error.to_string(), REASON_CHARS_MAX)))
}

pub(super) fn invalid(why: &str) -> Failure {
    Failure::new(Kind::LoadInvalid, format!("load the component: its manifest is wrong: {why}"))
        .hint("build it with the SDK, which writes the manifest")
}

fn absent(what: &str) -> Failure {
    invalid(&format!("it speaks of {what}, which the component does not export"))
}

/// The version alone: later versions may have fields unknown here.
#[derive(serde::Deserialize)]
struct Version {
    manifest: u32,
}

/// Any JSON whose objects have no key twice. Readers differ in which of two values they take.
struct UniqueKeys;

impl<'de> Deserialize<'de> for UniqueKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueKeysVisitor)
    }
}

struct UniqueKeysVisitor;

impl<'de> Visitor<'de> for UniqueKeysVisitor {
    type Value = UniqueKeys;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueKeys, A::Error> {
        let mut keys = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value::<UniqueKeys>()?;
            if let Some(key) = keys.replace(key) {
                return Err(serde::de::Error::custom(format!("duplicate key `{}`", cut(&key, REASON_CHARS_MAX / 2))));
            }
        }
        Ok(UniqueKeys)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<UniqueKeys, A::Error> {
        while seq.next_element::<UniqueKeys>()?.is_some() {}
        Ok(UniqueKeys)
    }

    fn visit_bool<E>(self, _: bool) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }

    fn visit_i64<E>(self, _: i64) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }

    fn visit_u64<E>(self, _: u64) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }

    fn visit_f64<E>(self, _: f64) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }

    fn visit_str<E>(self, _: &str) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }

    fn visit_unit<E>(self) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }
}
