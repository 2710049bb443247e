//! The WIT of the example tools stays real: what other hosts see in the built components is compared with the checked-in
//! `tool.wit` of each tool. `COFFERDAM_BLESS=1 cargo test -p cofferdam-guests` writes the files anew.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use wit_component::{DecodedWasm, WitPrinter};
use wit_parser::{PackageId, Resolve, WorldId, WorldItem, WorldKey};

const TOOLS: &[&str] = &["bookings", "csv", "fetch", "math", "notes", "template", "text"];

struct Decoded {
    resolve: Resolve,
    world: WorldId,
}

fn decode(name: &str) -> Decoded {
    let bytes = std::fs::read(cofferdam_guests::component(name)).unwrap();
    match wit_component::decode(&bytes).unwrap() {
        DecodedWasm::Component(resolve, world) => Decoded { resolve, world },
        DecodedWasm::WitPackage(..) => panic!("{name} is a WIT package, not a component"),
    }
}

impl Decoded {
    /// Returns the package of the one exported interface.
    fn exported(&self) -> PackageId {
        let exports: Vec<&WorldItem> = self.resolve.worlds[self.world].exports.values().collect();
        match exports[..] {
            [WorldItem::Interface { id, .. }] => self.resolve.interfaces[*id].package.unwrap(),
            _ => panic!("a tool exports one interface: {exports:?}"),
        }
    }

    fn printed(&self) -> String {
        let mut printer = WitPrinter::default();
        printer.print(&self.resolve, self.exported(), &[]).unwrap();
        printer.output.to_string()
    }

    /// Returns what is imported of this namespace.
    fn imports(&self, namespace: &str) -> BTreeSet<String> {
        let keys = self.resolve.worlds[self.world].imports.keys();
        let names =
            keys.filter(|key| matches!(key, WorldKey::Interface(_))).map(|key| self.resolve.name_world_key(key));
        names.filter(|name| name.starts_with(namespace)).collect()
    }
}

fn snapshot(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../example-tools").join(name).join("tool.wit")
}

#[test]
fn the_interfaces_are_the_written_ones() {
    for name in TOOLS {
        let (printed, path) = (decode(name).printed(), snapshot(name));
        if std::env::var_os("COFFERDAM_BLESS").is_some() {
            std::fs::write(&path, &printed).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(printed, written, "{} differs: is this a new version?", path.display());
    }
}

#[test]
fn a_tool_imports_of_the_host_only_what_it_uses() {
    let check = |name: &str, expected: &[&str]| {
        let expected = expected.iter().map(|interface| format!("cofferdam:tool/{interface}@0.1.0")).collect();
        assert_eq!(decode(name).imports("cofferdam:"), expected, "{name}");
    };
    check("bookings", &["context"]);
    check("csv", &["context", "progress"]);
    check("fetch", &[]);
    check("notes", &["log"]);
    check("math", &[]);
    check("template", &[]);
    check("text", &[]);
}

#[test]
fn imports_are_wasi_0_2_or_ours() {
    for name in TOOLS {
        let decoded = decode(name);
        let foreign: Vec<String> =
            decoded.imports("").into_iter().filter(|import| !import.starts_with("cofferdam:tool/")).collect();
        assert!(foreign.iter().all(|import| import.starts_with("wasi:") && import.contains("@0.2.")), "{foreign:?}");
    }
}

#[test]
fn components_stay_small() {
    /// A tool is loaded, hashed and compiled before its first call: a megabyte is quick.
    const COMPONENT_BYTES_MAX: u64 = 1024 * 1024;
    for name in TOOLS {
        let bytes = cofferdam_guests::component(name).metadata().unwrap().len();
        assert!(bytes <= COMPONENT_BYTES_MAX, "{name} has {bytes} bytes");
    }
}

#[test]
fn the_manifest_is_there_once() {
    for name in TOOLS {
        let bytes = std::fs::read(cofferdam_guests::component(name)).unwrap();
        let start = format!("{{\"manifest\":0,\"component\":\"{name}\"");
        let count = bytes.windows(start.len()).filter(|window| *window == start.as_bytes()).count();
        assert_eq!(count, 1, "{name}");
    }
}
