//! Turns the exports of a decoded world into typed functions.
//!
//! Promises: aliases are resolved; a type that has no form here, or is larger than the constants below, leaves its
//! function out, with a reason. Leaves texts to `manifest` and schemas to `schema`.

use wit_parser::{Function, FunctionKind, Resolve, Type, TypeDef, TypeDefKind, WorldId, WorldItem, WorldKey};

use crate::domain::{Case, Export, Failure, Field, Kind, Param, Returns, WitType};

/// Levels of types in types. Each takes up to four levels of JSON in a schema, and JSON readers stop at 128.
const TYPE_DEPTH_MAX: u32 = 24;
/// Types, fields and cases in one function's signature, aliases unfolded: more than any form that a person fills.
const SIGNATURE_TYPES_MAX: u32 = 4_096;
/// The same in all functions of a component.
const COMPONENT_TYPES_MAX: u32 = 32_768;
/// Exported functions, tools or not: far more than a planner can choose from.
const FUNCTIONS_MAX: usize = 1_000;
/// Bytes of a name in a signature.
const NAME_BYTES_MAX: usize = 128;

/// An exported function.
pub(super) struct Exported {
    pub export: Export,
    /// Names of its parameters, also where its types have no form here.
    pub params: Vec<String>,
    /// Its documentation in WIT, which most toolchains drop.
    pub docs: String,
    /// Its typed signature, or why it cannot be a tool.
    pub signature: Result<(Vec<Param>, Returns), String>,
}

impl Exported {
    /// Returns `interface#function`, or the bare function.
    pub fn full_name(&self) -> String {
        match &self.export.interface {
            Some(interface) => format!("{interface}#{}", self.export.function),
            None => self.export.function.clone(),
        }
    }
}

/// The package of the first exported interface that is not the host's own.
pub(super) struct Package {
    pub name: String,
    pub version: String,
    pub docs: String,
}

/// Returns the exported functions of `world`, in its order.
///
/// # Errors
/// `load.limit` where there are too many of them, or their types are too many in all.
pub(super) fn exported(resolve: &Resolve, world: WorldId) -> Result<Vec<Exported>, Failure> {
    let functions: Vec<_> = functions(resolve, world).take(FUNCTIONS_MAX + 1).collect();
    if functions.len() > FUNCTIONS_MAX {
        return Err(too_much("functions", FUNCTIONS_MAX));
    }
    let mut types_left = COMPONENT_TYPES_MAX;
    let mut exported = Vec::new();
    for (interface, function) in functions {
        let mut types = Types { resolve, left: SIGNATURE_TYPES_MAX };
        let signature = host_owned(interface.as_deref()).map_or_else(|| types.signature(function), Err);
        let used = SIGNATURE_TYPES_MAX - types.left;
        types_left = types_left.checked_sub(used).ok_or_else(|| too_much("types", COMPONENT_TYPES_MAX as usize))?;
        exported.push(Exported {
            export: Export { interface, function: function.name.clone() },
            params: function.params.iter().map(|param| param.name.clone()).collect(),
            docs: function.docs.contents.clone().unwrap_or_default(),
            signature,
        });
    }
    Ok(exported)
}

/// Returns the package of the first exported interface that is not the host's own.
pub(super) fn package(resolve: &Resolve, world: WorldId) -> Option<Package> {
    resolve.worlds[world].exports.keys().find_map(|key| {
        let WorldKey::Interface(id) = key else { return None };
        let interface = &resolve.interfaces[*id];
        let name = &resolve.packages[interface.package?].name;
        (!is_host_namespace(&name.namespace)).then(|| Package {
            name: name.name.clone(),
            version: name.version.as_ref().map_or_else(String::new, ToString::to_string),
            docs: interface.docs.contents.clone().unwrap_or_default(),
        })
    })
}

/// Returns the full name of an imported or exported interface.
pub(super) fn interface_name(resolve: &Resolve, key: &WorldKey) -> String {
    match key {
        WorldKey::Name(name) => name.clone(),
        WorldKey::Interface(id) => resolve.id_of(*id).unwrap_or_default(),
    }
}

fn functions(resolve: &Resolve, world: WorldId) -> impl Iterator<Item = (Option<String>, &Function)> {
    resolve.worlds[world].exports.iter().flat_map(move |(key, item)| -> Box<dyn Iterator<Item = _>> {
        match item {
            WorldItem::Function(function) => Box::new(std::iter::once((None, function))),
            WorldItem::Interface { id, .. } => {
                let interface = interface_name(resolve, key);
                Box::new(resolve.interfaces[*id].functions.values().map(move |f| (Some(interface.clone()), f)))
            }
            WorldItem::Type { .. } => Box::new(std::iter::empty()),
        }
    })
}

fn is_host_namespace(namespace: &str) -> bool {
    matches!(namespace, "wasi" | "cofferdam")
}

fn host_owned(interface: Option<&str>) -> Option<String> {
    let (namespace, _) = interface?.split_once(':')?;
    is_host_namespace(namespace).then(|| format!("interfaces of `{namespace}` are called by hosts, not by planners"))
}

fn too_much(what: &str, max: usize) -> Failure {
    Failure::new(Kind::LoadLimit, format!("load the component: its exports have more than {max} {what}"))
        .hint("split it into several components")
}

/// Converts types, counting them.
struct Types<'a> {
    resolve: &'a Resolve,
    left: u32,
}

impl Types<'_> {
    fn signature(&mut self, function: &Function) -> Result<(Vec<Param>, Returns), String> {
        match function.kind {
            FunctionKind::Freestanding => {}
            FunctionKind::AsyncFreestanding => return Err("it is `async`".into()),
            _ => return Err("it belongs to a resource".into()),
        }
        let mut params = Vec::new();
        for param in &function.params {
            let name = self.name(&param.name)?;
            let ty = self.value(&param.ty, 0).map_err(|why| format!("its parameter `{name}` {why}"))?;
            params.push(Param { name, ty, text: String::new() });
        }
        let returns = self.returns(function.result.as_ref()).map_err(|why| format!("its result {why}"))?;
        Ok((params, returns))
    }

    fn returns(&mut self, result: Option<&Type>) -> Result<Returns, String> {
        let Some(ty) = result else { return Ok(Returns::Nothing) };
        Ok(match self.value(ty, 0)? {
            WitType::Result { ok, err } => Returns::Fallible { ok: ok.map(|ty| *ty), err: err.map(|ty| *ty) },
            value => Returns::Value(value),
        })
    }

    fn value(&mut self, ty: &Type, depth: u32) -> Result<WitType, String> {
        if depth > TYPE_DEPTH_MAX {
            return Err(format!("nests types deeper than {TYPE_DEPTH_MAX}"));
        }
        self.count(1)?;
        Ok(match ty {
            Type::Bool => WitType::Bool,
            Type::S8 => WitType::S8,
            Type::S16 => WitType::S16,
            Type::S32 => WitType::S32,
            Type::S64 => WitType::S64,
            Type::U8 => WitType::U8,
            Type::U16 => WitType::U16,
            Type::U32 => WitType::U32,
            Type::U64 => WitType::U64,
            Type::F32 => WitType::F32,
            Type::F64 => WitType::F64,
            Type::Char => WitType::Char,
            Type::String => WitType::String,
            Type::ErrorContext => return Err("uses `error-context`".into()),
            Type::Id(id) => return self.defined(&self.resolve.types[*id], depth),
        })
    }

    fn defined(&mut self, def: &TypeDef, depth: u32) -> Result<WitType, String> {
        let name = self.name(def.name.as_deref().unwrap_or_default())?;
        Ok(match &def.kind {
            TypeDefKind::Type(aliased) => self.value(aliased, depth + 1)?,
            TypeDefKind::List(item) => WitType::List(self.boxed(item, depth)?),
            TypeDefKind::Option(some) => WitType::Option(self.boxed(some, depth)?),
            TypeDefKind::Result(result) => WitType::Result {
                ok: result.ok.as_ref().map(|ty| self.boxed(ty, depth)).transpose()?,
                err: result.err.as_ref().map(|ty| self.boxed(ty, depth)).transpose()?,
            },
            TypeDefKind::Tuple(tuple) => {
                WitType::Tuple(tuple.types.iter().map(|ty| self.value(ty, depth + 1)).collect::<Result<_, _>>()?)
            }
            TypeDefKind::Record(record) => {
                let fields = record.fields.iter();
                let fields = fields.map(|f| Ok(Field { name: self.name(&f.name)?, ty: self.value(&f.ty, depth + 1)? }));
                WitType::Record { name, fields: fields.collect::<Result<_, String>>()? }
            }
            TypeDefKind::Variant(variant) => {
                let cases = variant.cases.iter().map(|case| {
                    let ty = case.ty.as_ref().map(|ty| self.value(ty, depth + 1)).transpose()?;
                    Ok(Case { name: self.name(&case.name)?, ty })
                });
                WitType::Variant { name, cases: cases.collect::<Result<_, String>>()? }
            }
            TypeDefKind::Enum(cases) => {
                let cases = cases.cases.iter().map(|case| self.name(&case.name)).collect::<Result<_, _>>()?;
                WitType::Enum { name, cases }
            }
            TypeDefKind::Flags(flags) => {
                let flags = flags.flags.iter().map(|flag| self.name(&flag.name)).collect::<Result<_, _>>()?;
                WitType::Flags { name, flags }
            }
            other => return Err(format!("uses {}", formless(other))),
        })
    }

    fn boxed(&mut self, ty: &Type, depth: u32) -> Result<Box<WitType>, String> {
        self.value(ty, depth + 1).map(Box::new)
    }

    fn name(&mut self, name: &str) -> Result<String, String> {
        self.count(1)?;
        if name.len() > NAME_BYTES_MAX {
            return Err(format!("has a name longer than {NAME_BYTES_MAX} bytes"));
        }
        Ok(name.to_owned())
    }

    fn count(&mut self, types: u32) -> Result<(), String> {
        self.left =
            self.left.checked_sub(types).ok_or_else(|| format!("takes more than {SIGNATURE_TYPES_MAX} types"))?;
        Ok(())
    }
}

/// Names a type that has no form here.
fn formless(kind: &TypeDefKind) -> &'static str {
    match kind {
        TypeDefKind::Resource | TypeDefKind::Handle(_) => "a resource",
        TypeDefKind::Future(_) => "a `future`",
        TypeDefKind::Stream(_) => "a `stream`",
        TypeDefKind::Map(..) => "a `map`",
        TypeDefKind::FixedLengthList(..) => "a list of fixed length",
        _ => "a type that is unknown here",
    }
}
