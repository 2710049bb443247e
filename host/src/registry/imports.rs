//! Knows what a component may import, and what its imports could be used for.
//!
//! Promises: an interface that no host here gives is refused by name. Leaves to others: whether a tool is granted what
//! it imports (`policy`), and giving it (`sandbox`).

use std::collections::BTreeSet;

use wit_parser::{InterfaceId, PackageName, Resolve, TypeDefKind, WorldId, WorldItem};

use crate::domain::{Ask, Failure, Kind};

use super::wit::interface_name;

/// The floor of WASI 0.2 that every program built with a standard library imports.
const WASI: &[(&str, &[&str])] = &[
    (
        "cli",
        &[
            "environment",
            "exit",
            "stdin",
            "stdout",
            "stderr",
            "terminal-input",
            "terminal-output",
            "terminal-stdin",
            "terminal-stdout",
            "terminal-stderr",
        ],
    ),
    ("clocks", &["monotonic-clock", "wall-clock"]),
    ("filesystem", &["types", "preopens"]),
    ("io", &["error", "poll", "streams"]),
    ("random", &["random", "insecure", "insecure-seed"]),
    ("http", &["types", "outgoing-handler"]),
];
/// What a tool may import of Cofferdam itself.
const TOOL: &[&str] = &["context", "log", "progress", "state-session", "state-user", "state-workflow"];
/// Major and minor version of WASI here.
const WASI_VERSION: (u64, u64) = (0, 2);
/// Major and minor version of `cofferdam:tool` here.
const TOOL_VERSION: (u64, u64) = (0, 1);

/// What a component imports: names for its contract, and what they could be used for.
pub(super) struct Imports {
    /// Full names with versions, sorted.
    pub names: Vec<String>,
    /// All that they could be used for.
    pub asks: BTreeSet<Ask>,
}

/// Checks what `world` imports.
///
/// # Errors
/// `load.denied` naming an import that no host here gives; `load.abi` for one of another version, naming both.
pub(super) fn check(resolve: &Resolve, world: WorldId) -> Result<Imports, Failure> {
    let mut imports = Imports { names: Vec::new(), asks: BTreeSet::new() };
    for (key, item) in &resolve.worlds[world].imports {
        match item {
            WorldItem::Interface { id, .. } => {
                let name = interface_name(resolve, key);
                // An interface of types alone asks nothing of the host.
                if has_code(resolve, *id) {
                    let package = resolve.interfaces[*id].package.map(|id| &resolve.packages[id].name);
                    let interface = resolve.interfaces[*id].name.as_deref();
                    let (Some(package), Some(interface)) = (package, interface) else { return Err(denied(&name)) };
                    known(&name, package, interface)?;
                    imports.asks.extend(asks(package, interface));
                }
                imports.names.push(name);
            }
            WorldItem::Function(function) => return Err(denied(&function.name)),
            WorldItem::Type { .. } => {}
        }
    }
    imports.names.sort_unstable();
    Ok(imports)
}

fn has_code(resolve: &Resolve, id: InterfaceId) -> bool {
    let interface = &resolve.interfaces[id];
    let is_resource = |kind: &TypeDefKind| matches!(kind, TypeDefKind::Resource);
    !interface.functions.is_empty() || interface.types.values().any(|ty| is_resource(&resolve.types[*ty].kind))
}

fn known(name: &str, package: &PackageName, interface: &str) -> Result<(), Failure> {
    let (interfaces, expected) = match (package.namespace.as_str(), package.name.as_str()) {
        ("cofferdam", "tool") => (TOOL, TOOL_VERSION),
        ("wasi", wasi) => match WASI.iter().find(|(known, _)| *known == wasi) {
            Some((_, interfaces)) => (*interfaces, WASI_VERSION),
            None => return Err(denied(name)),
        },
        _ => return Err(denied(name)),
    };
    let found = package.version.as_ref().map(|version| (version.major, version.minor));
    if found != Some(expected) {
        return Err(version(name, package, expected));
    }
    if !interfaces.contains(&interface) {
        return Err(denied(name));
    }
    Ok(())
}

fn denied(name: &str) -> Failure {
    Failure::new(Kind::LoadDenied, format!("load the component: it imports `{name}`, which no tool is given here"))
        .hint("build it without what needs this import; tools may import WASI 0.2 (cli, clocks, filesystem, http, io, random) and `cofferdam:tool`")
}

fn version(name: &str, package: &PackageName, (major, minor): (u64, u64)) -> Failure {
    let message = format!(
        "load the component: it imports `{name}`, and this host has version {major}.{minor} of `{}:{}`",
        package.namespace, package.name
    );
    Failure::new(Kind::LoadAbi, message).hint("build it against the version of this host, or use a host of its version")
}

fn asks(package: &PackageName, interface: &str) -> &'static [Ask] {
    match (package.name.as_str(), interface) {
        ("filesystem", "types") => &[Ask::FilesRead, Ask::FilesWrite],
        ("clocks", _) => &[Ask::Clock],
        ("random", _) => &[Ask::Random],
        ("http", "outgoing-handler") => &[Ask::Http],
        ("cli", "environment") => &[Ask::Env, Ask::Secrets],
        ("tool", "log") => &[Ask::Log],
        ("tool", "progress") => &[Ask::Progress],
        ("tool", "state-session") => &[Ask::StateSession],
        ("tool", "state-user") => &[Ask::StateUser],
        ("tool", "state-workflow") => &[Ask::StateWorkflow],
        _ => &[],
    }
}
