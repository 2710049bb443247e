//! Derives the contract of a component from its bytes, without running it.
//!
//! Promises: whatever the bytes are, a contract or a failure that names what was found and what was expected; no panic;
//! bounded work. Each step expects what the one before it checked: header, measures, validity, imports, exports,
//! manifest.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::{
    Ask, Contract, Digest, Failure, Kind, Manifest, Param, Returns, ToolContract, ToolManifest, ToolName,
};

use super::imports::Imports;
use super::manifest::{SUMMARY_CHARS_MAX, clip};
use super::verify::Options;
use super::wit::{Exported, Package};
use super::{decode, header, imports, manifest, scan, schema, template, wit};

/// Exported names that a failure lists.
const NAMES_SHOWN_MAX: usize = 8;

/// The name under which plans and logs keep what the host itself does, as `cofferdam.run`.
const HOST_COMPONENT: &str = "cofferdam";

/// Returns the contract of the component in `bytes`. `name` is what its user calls it; its manifest's word comes first.
///
/// # Errors
/// `load.invalid`, `load.limit`, `load.abi` or `load.denied`.
pub fn read(bytes: &[u8], name: Option<&str>, options: &Options) -> Result<Contract, Failure> {
    if bytes.len() as u64 > options.file_bytes_max {
        return Err(too_large(bytes.len() as u64, options));
    }
    header::check(bytes)?;
    let section = scan::scan(bytes, options)?;
    let (resolve, world) = decode::decode(bytes)?;
    let imports = imports::check(&resolve, world)?;
    let exported = wit::exported(&resolve, world)?;
    some_tool(&exported)?;
    let manifest = section.map(manifest::parse).transpose()?;
    if let Some(manifest) = &manifest {
        manifest::check_names(manifest, &exported, &resolve)?;
        template::check(manifest, &exported)?;
    }
    let package = wit::package(&resolve, world);
    let component = component_name(manifest.as_ref(), name, package.as_ref())?;
    contract(Digest::of(bytes), component, imports, exported, manifest, package)
}

/// Returns the failure of a file of `bytes` bytes.
pub(super) fn too_large(bytes: u64, options: &Options) -> Failure {
    let message = format!("load the component: it has {bytes} bytes, more than the {} allowed", options.file_bytes_max);
    Failure::new(Kind::LoadLimit, message)
        .hint("build it optimised and without debug information, or raise `file_bytes_max`")
}

/// Refuses a component without a tool, saying what it has instead.
fn some_tool(exported: &[Exported]) -> Result<(), Failure> {
    if exported.iter().any(|e| e.signature.is_ok()) {
        return Ok(());
    }
    if exported.is_empty() {
        return Err(Failure::new(Kind::LoadInvalid, "load the component: expected exported functions, found none")
            .hint("export a function; if the component had some, the file was cut"));
    }
    if exported.iter().any(|e| e.full_name().starts_with("wasi:cli/run@")) {
        return Err(Failure::new(
            Kind::LoadAbi,
            "load the component: expected exported functions, found a command (`wasi:cli/run`), which is not taken yet",
        )
        .hint("build it as a library that exports functions, not as a program with `main`"));
    }
    let shown: Vec<_> = exported
        .iter()
        .take(NAMES_SHOWN_MAX)
        .map(|e| format!("`{}` ({})", e.full_name(), e.signature.as_ref().err().map_or("", String::as_str)))
        .collect();
    let message = format!("load the component: none of its exports can be a tool: {}", shown.join(", "));
    Err(Failure::new(Kind::LoadAbi, message).hint("export functions of plain values: no resources, streams or futures"))
}

fn component_name(
    manifest: Option<&Manifest>,
    name: Option<&str>,
    package: Option<&Package>,
) -> Result<String, Failure> {
    let own = manifest.map(|manifest| manifest.component.as_str());
    let name = own.or(name).or(package.map(|package| package.name.as_str())).ok_or_else(|| {
        Failure::new(Kind::LoadInvalid, "load the component: it does not say its name")
            .hint("give it a name in the settings, or build it with the SDK")
    })?;
    let refused = |why: String| {
        Failure::new(Kind::LoadInvalid, format!("load the component: {why}"))
            .hint("rename it in its manifest or in the settings")
    };
    let name = tool_name(name, "any").map_err(refused)?.component().to_owned();
    if name == HOST_COMPONENT {
        return Err(refused(format!("`{name}` is the host's own name: steps that run a workflow go by it")));
    }
    Ok(name)
}

fn tool_name(component: &str, function: &str) -> Result<ToolName, String> {
    ToolName::new(component, function)
}

fn contract(
    digest: Digest,
    component: String,
    imports: Imports,
    exported: Vec<Exported>,
    manifest: Option<Manifest>,
    package: Option<Package>,
) -> Result<Contract, Failure> {
    let has_manifest = manifest.is_some();
    let about = About { manifest: manifest.unwrap_or_else(|| no_manifest(&component, &exported, &imports.asks)) };
    let mut tools = BTreeMap::new();
    let mut left_out = Vec::new();
    for function in exported {
        let full_name = function.full_name();
        match about.tool(&component, function) {
            Err(why) => left_out.push((full_name, why)),
            Ok(tool) => {
                if let Some((first, _)) = tools.insert(tool.name.clone(), (full_name.clone(), tool)) {
                    return Err(twice(&first, &full_name));
                }
            }
        }
    }
    let package = package.unwrap_or(Package { name: String::new(), version: String::new(), docs: String::new() });
    Ok(Contract {
        component,
        digest,
        version: first(&about.manifest.version, &package.version),
        summary: first(&about.manifest.summary, &package.docs),
        imports: imports.names,
        has_manifest,
        tools: tools.into_values().map(|(_, tool)| tool).collect(),
        left_out,
    })
}

/// What the host takes for granted of a component that says nothing: every tool asks for all that is imported.
fn no_manifest(component: &str, exported: &[Exported], asks: &BTreeSet<Ask>) -> Manifest {
    let asking = ToolManifest { asks: asks.clone(), ..ToolManifest::default() };
    Manifest {
        manifest: 0,
        component: component.to_owned(),
        version: String::new(),
        summary: String::new(),
        tools: exported.iter().map(|e| (e.export.function.clone(), asking.clone())).collect(),
        types: BTreeMap::new(),
    }
}

fn twice(first: &str, second: &str) -> Failure {
    Failure::new(Kind::LoadInvalid, format!("load the component: `{first}` and `{second}` would be one tool"))
        .hint("rename one of the functions, or export one interface only")
}

/// Returns the first text that says something, cut and safe to show.
fn first(text: &str, other: &str) -> String {
    clip(if text.is_empty() { other } else { text }, SUMMARY_CHARS_MAX)
}

/// What is said about tools and their types.
struct About {
    manifest: Manifest,
}

impl About {
    fn tool(&self, component: &str, function: Exported) -> Result<ToolContract, String> {
        let (params, returns): (Vec<Param>, Returns) = function.signature?;
        let name = tool_name(component, &function.export.function)?;
        let said = self.manifest.tools.get(&function.export.function).cloned().unwrap_or_default();
        let text = |param: &Param| said.params.get(&param.name).cloned().unwrap_or_default();
        let params: Vec<_> = params.into_iter().map(|param| Param { text: text(&param), ..param }).collect();
        Ok(ToolContract {
            name,
            export: function.export,
            summary: first(&said.summary, &function.docs),
            input_schema: schema::input(&params, &self.manifest.types),
            output_schema: schema::output(&returns, &self.manifest.types),
            params,
            returns,
            effect_declared: said.effect,
            undo: said.undo.map(|template| template.in_full(component)).transpose()?,
            reconcile: said.reconcile.map(|template| template.in_full(component)).transpose()?,
            is_internal: said.internal,
            asks: said.asks,
        })
    }
}
